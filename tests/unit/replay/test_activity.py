"""Activities: their ends, and what each kind of cancellation asks for and waits for."""

from __future__ import annotations

import pytest

from perdure.api.failure.v1 import Failure
from perdure.core.replay.activation import ResolveActivity
from perdure.core.replay.instructions import ActivityCancellation
from perdure.core.replay.steps import TaskCompletion
from tests.support.builders import application_failure, payloads
from tests.support.proto import enums
from tests.unit.replay.bench import Bench
from tests.unit.replay.code import Code, Context, Stopped

TRY, WAIT, ABANDON = (
    ActivityCancellation.TRY_CANCEL,
    ActivityCancellation.WAIT_CANCELLATION_COMPLETED,
    ActivityCancellation.ABANDON,
)


async def one(context: Context) -> str:
    try:
        await context.activity("work")
    except Stopped as error:
        return error.failure.message
    return "done"


def resolution(bench: Bench) -> ResolveActivity:
    (job,) = bench.code.activation.jobs
    assert isinstance(job, ResolveActivity)
    return job


def test_an_activity_completes() -> None:
    bench = Bench(lambda: Code(one))
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    attributes = step.commands[0].schedule_activity_task_command_attributes
    assert (attributes.activity_id, attributes.activity_type.name) == ("1", "work")
    assert attributes.input == payloads("input")
    bench.record(step)
    bench.complete_activity()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    assert resolution(bench).result == payloads("result")
    bench.check_replay()


def test_an_activity_without_a_result() -> None:
    bench = Bench(lambda: Code(one))
    bench.work()
    bench.add("ACTIVITY_TASK_COMPLETED", **bench.start_activity())
    bench.work()
    assert resolution(bench) == ResolveActivity(1)


def test_an_activity_fails() -> None:
    bench = Bench(lambda: Code(one))
    bench.work()
    bench.add(
        "ACTIVITY_TASK_FAILED",
        failure=application_failure("boom"),
        retry_state=enums.RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED,
        identity="worker",
        **bench.start_activity(),
    )
    bench.work()
    failure = resolution(bench).failure
    assert failure is not None
    assert failure.message == "Activity task failed"
    assert failure.cause == application_failure("boom")
    info = failure.activity_failure_info
    assert (info.scheduled_event_id, info.started_event_id, info.identity) == (5, 6, "worker")
    assert (info.activity_type.name, info.activity_id) == ("work", "1")
    assert info.retry_state == enums.RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
    bench.check_replay()


def test_an_activity_times_out_before_it_started() -> None:
    bench = Bench(lambda: Code(one))
    bench.work()
    bench.add("ACTIVITY_TASK_TIMED_OUT", scheduled_event_id=5, failure=Failure(message="schedule to start"))
    bench.work()
    failure = resolution(bench).failure
    assert failure is not None
    assert (failure.message, failure.cause.message) == ("Activity task timed out", "schedule to start")
    bench.check_replay()


def cancels(cancellation: int, name: str = "work") -> Code:
    async def main(context: Context) -> str:
        activity = context.activity(name, cancellation)
        await context.until(lambda: bool(context.signals))
        context.cancel_activity(activity)
        context.cancel_activity(activity)
        try:
            await activity
        except Stopped as error:
            context.log.append(f"canceled {error.is_canceled} {error.failure.message}")
        await context.timer(1)
        return ",".join(context.log)

    return Code(main)


def signalled(cancellation: int) -> Bench:
    bench = Bench(lambda: cancels(cancellation))
    bench.work()
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    return bench


def test_cancelled_before_it_was_sent_disappears() -> None:
    async def main(context: Context) -> None:
        activity = context.activity("work")
        context.cancel_activity(activity)
        with pytest.raises(Stopped):
            await activity
        await context.timer(1)

    bench = Bench(lambda: Code(main))
    assert bench.work() == ["START_TIMER"]
    assert len(bench.code.activations) == 2
    bench.check_replay()


def test_try_cancel_asks_and_does_not_wait() -> None:
    bench = signalled(TRY)
    assert bench.work() == ["REQUEST_CANCEL_ACTIVITY_TASK", "START_TIMER"]
    assert resolution(bench).is_canceled
    failure = resolution(bench).failure
    assert failure is not None
    assert failure.cause.HasField("canceled_failure_info")
    bench.complete_activity()
    bench.fire()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


@pytest.mark.parametrize("end", ["ACTIVITY_TASK_CANCELED", "ACTIVITY_TASK_COMPLETED"])
def test_wait_asks_and_waits_for_whatever_end(end: str) -> None:
    bench = signalled(WAIT)
    assert bench.work() == ["REQUEST_CANCEL_ACTIVITY_TASK"]
    details = {"details": payloads("d")} if end == "ACTIVITY_TASK_CANCELED" else {}
    bench.add(end, **bench.start_activity(), **details)
    assert bench.work() == ["START_TIMER"]
    assert resolution(bench).is_canceled == (end == "ACTIVITY_TASK_CANCELED")
    if details:
        failure = resolution(bench).failure
        assert failure is not None
        assert failure.cause.canceled_failure_info.details == payloads("d")
    bench.check_replay()


def test_abandon_asks_nothing_and_ignores_the_end() -> None:
    bench = signalled(ABANDON)
    assert bench.work() == ["START_TIMER"]
    assert resolution(bench).is_canceled
    bench.add("ACTIVITY_TASK_FAILED", failure=application_failure(), **bench.start_activity())
    bench.fire()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_old_histories_without_flags_are_not_compared_by_type() -> None:
    """Histories of workers that did not record flag 1 replay although ids differ, as they did then."""
    bench = Bench(lambda: Code(one))
    bench.work()
    bench.complete_activity()
    bench.work()
    for event in bench.events:
        if event.HasField("workflow_task_completed_event_attributes"):
            event.workflow_task_completed_event_attributes.ClearField("sdk_metadata")
    bench.last("ACTIVITY_TASK_SCHEDULED").activity_task_scheduled_event_attributes.activity_id = "other"
    assert bench.replay() is None
