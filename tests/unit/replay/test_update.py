"""Updates: messages and commands, and how history brings them back."""

from __future__ import annotations

from perdure.api.failure.v1 import Failure
from perdure.api.update.v1 import Acceptance, Rejection, Response
from perdure.core.replay.activation import DoUpdate, SignalWorkflow
from perdure.core.replay.steps import TaskCompletion
from tests.support.builders import payloads
from tests.unit.replay.bench import Bench
from tests.unit.replay.code import Code, Context, Stopped


async def main(context: Context) -> str:
    await context.until(lambda: "end" in context.signals)
    return "done"


async def slow(context: Context, name: str) -> str:
    await context.activity(f"update {name}")
    return name


def updates(bench: Bench) -> list[DoUpdate]:
    return [
        job for activation in bench.code.activations for job in activation.jobs if isinstance(job, DoUpdate)
    ]


def test_an_update_accepted_and_completed_at_once() -> None:
    bench = Bench(lambda: Code(main))
    bench.work()
    step = bench.handle(messages=(bench.update(),))
    assert isinstance(step, TaskCompletion)
    assert [message.id for message in step.messages] == ["u/request/accept", "u/request/complete"]
    accepted, response = Acceptance(), Response()
    assert step.messages[0].body.Unpack(accepted)
    assert step.messages[1].body.Unpack(response)
    assert (accepted.accepted_request_message_id, accepted.accepted_request_sequencing_event_id) == (
        "u/request",
        5,
    )
    assert accepted.accepted_request.input.name == "set"
    assert response.outcome.success == payloads("set")
    assert response.meta.update_id == "u"
    assert bench.record(step) == ["PROTOCOL_MESSAGE", "PROTOCOL_MESSAGE"]
    (job,) = updates(bench)
    assert (job.update_id, job.name, job.run_validator, job.input) == ("u", "set", True, payloads("new"))
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="end")
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_an_update_that_takes_time() -> None:
    bench = Bench(lambda: Code(main, slow))
    bench.work()
    assert bench.work(bench.update()) == ["PROTOCOL_MESSAGE", "SCHEDULE_ACTIVITY_TASK"]
    bench.complete_activity()
    assert bench.work() == ["PROTOCOL_MESSAGE"]
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="end")
    bench.work()
    bench.check_replay()
    bench.forget()
    code = bench.code
    assert bench.replay(lambda: code) is None
    (job,) = updates(bench)
    assert not job.run_validator
    assert code.activations[1].jobs == [job]


def test_a_rejected_update_is_a_message_without_a_command() -> None:
    def reject(name: str) -> None:
        raise Stopped(Failure(message="no"))

    def make() -> Code:
        code = Code(main)
        code.validator = reject
        return code

    bench = Bench(make)
    bench.work()
    step = bench.handle(messages=(bench.update(),))
    assert isinstance(step, TaskCompletion)
    rejection = Rejection()
    assert [message.id for message in step.messages] == ["u/request/reject"]
    assert step.messages[0].body.Unpack(rejection)
    assert rejection.failure.message == "no"
    assert step.commands == []


def test_a_task_that_was_never_written_is_taken_back() -> None:
    """A rejected update's speculative task leaves no events: the next task has the same event ids."""

    def make() -> Code:
        code = Code(main)
        code.validator = lambda name: (_ for _ in ()).throw(Stopped(Failure(message="no")))
        return code

    bench = Bench(make)
    bench.work()
    started = bench.previous
    bench.handle(messages=(bench.update(),))
    del bench.events[-2:]
    bench.run.reset_to(started)
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="end")
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_a_failed_update() -> None:
    async def fails(context: Context, name: str) -> str:
        raise Stopped(Failure(message="broken"))

    bench = Bench(lambda: Code(main, fails))
    bench.work()
    step = bench.handle(messages=(bench.update(),))
    assert isinstance(step, TaskCompletion)
    response = Response()
    step.messages[1].body.Unpack(response)
    assert response.outcome.failure.message == "broken"


def test_signals_and_updates_keep_their_order() -> None:
    bench = Bench(lambda: Code(main))
    bench.work()
    message = bench.update()
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="first")
    message.event_id = len(bench.events)
    bench.work(message)
    kinds = [type(job) for job in bench.code.activation.jobs]
    assert kinds == [SignalWorkflow, DoUpdate]
    bench.check_replay()


def test_an_update_that_the_server_keeps_is_delivered_from_its_event() -> None:
    """After a reset the server writes admitted updates into history."""
    bench = Bench(lambda: Code(main))
    bench.work()
    message = bench.update()
    accepted = Acceptance()
    request = accepted.accepted_request
    message.body.Unpack(request)
    bench.add("WORKFLOW_EXECUTION_UPDATE_ADMITTED", request=request)
    assert bench.work() == ["PROTOCOL_MESSAGE", "PROTOCOL_MESSAGE"]
    bench.check_replay()
    bench.forget()
    code = bench.code
    assert bench.replay(lambda: code) is None
    assert len(updates(bench)) == 1
