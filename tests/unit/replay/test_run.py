"""The run as a whole: sticky and cold tasks, questions, what completions record, resets, failures."""

from __future__ import annotations

import contextlib

import pytest

from perdure.api.command.v1 import ContinueAsNewWorkflowExecutionCommandAttributes
from perdure.api.query.v1 import WorkflowQuery
from perdure.core.replay import instructions as asked
from perdure.core.replay.activation import Activation, InitializeWorkflow, UpdateRandomSeed
from perdure.core.replay.errors import HistoryError
from perdure.core.replay.run import WorkflowRun, replay_history
from perdure.core.replay.seed import random_seed
from perdure.core.replay.steps import CacheMissError, RunConfig, TaskCompletion, TaskFailure, WorkflowTask
from tests.support.builders import application_failure, memo, payload, payloads, retry_policy
from tests.support.proto import common, enums
from tests.unit.replay.bench import CONFIG, SECOND_NS, START_NS, Bench
from tests.unit.replay.code import Code, Context, Stopped

Cause = enums.WorkflowTaskFailedCause


async def waits(context: Context) -> str:
    while "end" not in context.signals:
        count = len(context.signals)
        await context.until(lambda count=count: len(context.signals) > count)  # type: ignore[misc]
        context.log.append(context.signals[-1])
        await context.activity("work")
    return "done"


def signalled(bench: Bench, name: str = "go") -> Bench:
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name=name)
    return bench


def completion(bench: Bench) -> TaskCompletion:
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    return step


# --- what an activation says ---


def test_the_first_activation() -> None:
    bench = Bench(lambda: Code(waits), input=payloads("x"), original_execution_run_id="first-run")
    bench.work()
    (activation,) = bench.code.activations
    (job,) = activation.jobs
    assert isinstance(job, InitializeWorkflow)
    assert job.random_seed == random_seed("first-run")
    assert (job.workflow_id, job.start_time_ns) == ("workflow", START_NS + SECOND_NS)
    assert job.attributes.input == payloads("x")
    assert (activation.now_ns, activation.is_replaying, activation.history_length) == (
        START_NS + 3 * SECOND_NS,
        False,
        3,
    )
    assert (bench.run.workflow_type, bench.run.last_event_id) == ("type", 3)


def test_sizes_and_suggestions_come_from_the_started_event() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.open_task()
    task = bench.events[-1].workflow_task_started_event_attributes
    task.history_size_bytes, task.suggest_continue_as_new = 1234, True
    bench.run.handle(WorkflowTask(bench.events[bench.run.last_event_id :], bench.previous, len(bench.events)))
    assert (bench.code.activation.history_size_bytes, bench.code.activation.continue_as_new_suggested) == (
        1234,
        True,
    )


def test_replaying_is_over_with_the_last_task() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.work()
    bench.complete_activity()
    signalled(bench, "end")
    bench.forget()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    assert [activation.is_replaying for activation in bench.code.activations] == [True, True, False]


def test_the_build_of_the_worker_that_completed_the_task() -> None:
    config = RunConfig(build_id="mine", deployment_name="shop")
    bench = Bench(lambda: Code(waits), config)
    bench.work()
    completed = bench.last("WORKFLOW_TASK_COMPLETED").workflow_task_completed_event_attributes
    completed.deployment_version.build_id, completed.deployment_version.deployment_name = "theirs", "shop"
    signalled(bench)
    bench.work()
    signalled(bench)
    bench.forget()
    bench.work()
    builds = [(activation.is_replaying, activation.build_id) for activation in bench.code.activations]
    assert builds[0] == (True, "theirs")
    assert builds[-1] == (False, "mine")


def test_failed_tasks_are_not_seen() -> None:
    bench = Bench(lambda: Code(waits))
    bench.open_task()
    bench.add("WORKFLOW_TASK_FAILED", scheduled_event_id=2, started_event_id=3)
    bench.work()
    signalled(bench)
    bench.open_task()
    bench.add("WORKFLOW_TASK_TIMED_OUT", scheduled_event_id=9, started_event_id=10)
    bench.work()
    bench.check_replay()
    code = Code(waits)
    assert bench.replay(lambda: code) is None
    assert len(code.activations) == 2


def test_a_reset_brings_a_new_seed() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.open_task()
    bench.add(
        "WORKFLOW_TASK_FAILED",
        cause=Cause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
        new_run_id="new-run",
        scheduled_event_id=6,
        started_event_id=7,
    )
    bench.work()
    jobs = bench.code.activation.jobs
    assert jobs[0] == UpdateRandomSeed(random_seed("new-run"))
    bench.check_replay()


# --- what a completion records ---


def test_flags_and_name_are_recorded_once() -> None:
    bench = Bench(lambda: Code(waits))
    bench.code.used_flags = (7,)
    metadata = completion(bench).sdk_metadata
    assert metadata is not None
    assert (list(metadata.core_used_flags), list(metadata.lang_used_flags)) == ([1, 2, 3, 4], [7])
    assert (metadata.sdk_name, metadata.sdk_version) == ("perdure-python", "1")
    assert isinstance(bench.step, TaskCompletion)
    bench.record(bench.step)
    signalled(bench)
    assert completion(bench).sdk_metadata is None
    assert list(bench.code.activation.available_flags) == [7]
    assert bench.code.activation.last_sdk_version == "1"


def test_another_worker_writes_its_name() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    bench.config = RunConfig(sdk_version="2")
    bench.forget()
    signalled(bench)
    metadata = completion(bench).sdk_metadata
    assert metadata is not None
    assert (len(metadata.core_used_flags), metadata.sdk_name, metadata.sdk_version) == (0, "", "2")


def test_nothing_is_recorded_for_servers_that_do_not_keep_it() -> None:
    bench = Bench(lambda: Code(waits), RunConfig(records_sdk_metadata=False))
    assert completion(bench).sdk_metadata is None


# --- ends ---


def ends(*instructions: asked.Instruction) -> Code:
    class Ending(Code):
        def activate(self, activation: Activation) -> asked.Answer:
            return asked.Answer(instructions)

    return Ending(waits)


def test_closing_commands_are_sent_last_and_only_the_first_counts() -> None:
    instructions: list[asked.Instruction] = [
        asked.FailWorkflow(application_failure()),
        asked.StartTimer(1, 1),
        asked.CompleteWorkflow(payloads("late")),
    ]
    bench = Bench(lambda: ends(*instructions))
    step = completion(bench)
    assert step.is_complete
    assert bench.run.is_complete
    assert bench.run.eviction is not None
    assert bench.record(step) == ["START_TIMER", "FAIL_WORKFLOW_EXECUTION"]
    assert bench.replay() is None


def test_a_closed_run_tells_its_code_nothing_more() -> None:
    """A cancellation answered at once would come after the closing command, and so would what the code then asks."""

    async def main(context: Context) -> None:
        activity = context.activity("work")

        async def goes_on() -> None:
            with contextlib.suppress(Stopped):
                await activity
            await context.timer(1)

        context.spawn(goes_on())
        await context.until(lambda: bool(context.signals))
        context.cancel_activity(activity)

    bench = Bench(lambda: Code(main))
    bench.work()
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    assert bench.work() == ["REQUEST_CANCEL_ACTIVITY_TASK", "COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_old_histories_end_where_the_first_closing_command_was() -> None:
    instructions: list[asked.Instruction] = [asked.CompleteWorkflow(payloads("x")), asked.StartTimer(1, 1)]
    bench = Bench(lambda: ends(*instructions))
    bench.open_task()
    bench.add("WORKFLOW_TASK_COMPLETED", scheduled_event_id=2, started_event_id=3)
    bench.add("WORKFLOW_EXECUTION_COMPLETED")
    assert bench.replay() is None


def test_a_new_run_inherits_what_the_code_does_not_name() -> None:
    async def main(context: Context) -> None:
        context.upsert(Kw="changed")
        context.continue_as_new()

    attributes = common.SearchAttributes(indexed_fields={"Kw": payload("old"), "Other": payload("kept")})
    bench = Bench(
        lambda: Code(main),
        memo=memo({"note": "m"}),
        retry_policy=retry_policy(attempts=3),
        search_attributes=attributes,
    )
    command = completion(bench).commands[-1].continue_as_new_workflow_execution_command_attributes
    assert command.memo == memo({"note": "m"})
    assert command.retry_policy == retry_policy(attempts=3)
    assert dict(command.search_attributes.indexed_fields) == {
        "Kw": payload("changed"),
        "Other": payload("kept"),
    }


def test_a_new_run_has_what_the_code_names() -> None:
    attributes = ContinueAsNewWorkflowExecutionCommandAttributes(
        memo=memo({"note": "new"}),
        retry_policy=retry_policy(attempts=1),
        search_attributes=common.SearchAttributes(),
    )
    bench = Bench(
        lambda: ends(asked.ContinueAsNew(attributes)),
        memo=memo({"note": "m"}),
        retry_policy=retry_policy(attempts=3),
    )
    command = completion(bench).commands[-1].continue_as_new_workflow_execution_command_attributes
    assert (command.memo, command.retry_policy) == (memo({"note": "new"}), retry_policy(attempts=1))


# --- questions ---

QUESTION = WorkflowQuery(query_type="log")


def test_questions_come_with_a_task() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    step = bench.handle(queries={"a": QUESTION, "b": QUESTION})
    assert isinstance(step, TaskCompletion)
    assert len(step.commands) == 1
    assert [result.answer.payloads[0] for result in step.query_results.values()] == [payload("go")] * 2
    assert [len(activation.jobs) for activation in bench.code.activations] == [1, 1, 2]
    assert bench.code.activation.is_replaying


def test_a_legacy_question_to_a_cached_run() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    step = bench.run.handle(WorkflowTask([], bench.previous, 0, query=QUESTION))
    assert isinstance(step, TaskCompletion)
    assert step.legacy_query_result is not None
    assert step.commands == []
    assert bench.run.eviction is None
    signalled(bench)
    assert bench.work() == ["SCHEDULE_ACTIVITY_TASK"]


def test_a_legacy_question_replays_a_run_that_is_not_cached() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.work()
    bench.forget()
    step = bench.run.handle(WorkflowTask(bench.events, bench.previous, 0, query=QUESTION))
    assert isinstance(step, TaskCompletion)
    assert step.legacy_query_result is not None
    assert step.legacy_query_result.answer.payloads[0] == payload("go")
    assert all(activation.is_replaying for activation in bench.code.activations)


def test_a_question_to_a_run_that_has_ended() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench, "end")
    bench.work()
    bench.complete_activity()
    bench.work()
    bench.forget()
    step = bench.run.handle(WorkflowTask(bench.events, bench.previous, 0, query=QUESTION))
    assert isinstance(step, TaskCompletion)
    assert step.legacy_query_result is not None
    assert step.legacy_query_result.answer.payloads[0] == payload("end")


def test_a_question_that_fails_with_its_code() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    bench.code.fail_next = application_failure("broken")
    step = bench.run.handle(WorkflowTask([], bench.previous, 0, query=QUESTION))
    assert isinstance(step, TaskFailure)
    assert step.legacy_query


# --- the cache ---


def test_a_gap_is_a_cache_miss() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.work()
    bench.complete_activity()
    signalled(bench)
    bench.open_task()
    bench.forget()
    with pytest.raises(CacheMissError):
        bench.run.handle(WorkflowTask(bench.events[7:], bench.previous, len(bench.events)))
    assert bench.run.eviction is not None


def test_events_that_were_seen_already_are_skipped() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.open_task()
    step = bench.run.handle(WorkflowTask(bench.events[1:], bench.previous, len(bench.events)))
    assert isinstance(step, TaskCompletion)
    assert len(step.commands) == 1


def test_a_question_for_a_later_state_is_a_cache_miss() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    with pytest.raises(CacheMissError):
        bench.run.handle(WorkflowTask([], 99, 0, query=QUESTION))


def test_a_question_that_a_workflow_task_has_overtaken_is_answered() -> None:
    """From the state that followed, which the server has by then: who asks would wait until the question times out."""
    bench = Bench(lambda: Code(waits))
    bench.work()
    step = bench.run.handle(WorkflowTask([], 1, 0, query=QUESTION))
    assert isinstance(step, TaskCompletion)
    assert step.legacy_query_result is not None
    assert bench.run.eviction is None
    signalled(bench)
    assert bench.work() == ["SCHEDULE_ACTIVITY_TASK"]


# --- failures ---


def test_code_that_cannot_run_fails_the_task_and_leaves_the_cache() -> None:
    bench = Bench(lambda: Code(waits))
    bench.code.fail_next = application_failure("broken")
    step = bench.handle()
    assert isinstance(step, TaskFailure)
    assert step.cause == Cause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
    assert step.failure == application_failure("broken")
    assert step.should_report
    assert bench.run.eviction == "broken"


def test_only_the_first_attempt_is_reported() -> None:
    bench = Bench(lambda: Code(waits))
    bench.code.fail_next = application_failure("broken")
    step = bench.handle(attempt=2)
    assert isinstance(step, TaskFailure)
    assert not step.should_report


def test_a_task_given_up_from_outside() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    failure = application_failure("deadlock")
    step = bench.run.fail(
        Cause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE, failure, "deadlock"
    )
    assert (step.failure, step.message, step.should_report) == (failure, "deadlock", True)
    assert bench.run.eviction == "deadlock"


def test_non_determinism_fails_the_workflow_when_wished() -> None:
    async def other(context: Context) -> None:
        await context.timer(1)

    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.work()
    bench.complete_activity()
    bench.make = lambda: Code(other)
    bench.config = RunConfig(nondeterminism_fails_workflow=True)
    bench.forget()
    step = completion(bench)
    assert step.is_complete
    (command,) = step.commands
    failure = command.fail_workflow_execution_command_attributes.failure
    assert "Nondeterminism error" in failure.message
    assert failure.application_failure_info.type == "NondeterminismError"


def test_activations_are_counted() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.work()
    assert bench.run.activation_count == 2


# --- saved histories ---


def test_histories_that_are_none() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.work()
    for events in ([], bench.events[1:], [*bench.events[:3], *bench.events[4:]]):
        with pytest.raises(HistoryError):
            replay_history(Code(waits), events, workflow_id="workflow")


def test_an_event_of_an_unknown_type() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench).events[-1].event_type = 4711  # type: ignore[assignment]
    failure = bench.replay()
    assert failure is not None
    assert isinstance(failure.error, HistoryError)
    bench.events[-1].worker_may_ignore = True
    assert bench.replay() is None


def test_a_terminated_run_replays() -> None:
    bench = Bench(lambda: Code(waits))
    bench.work()
    signalled(bench)
    bench.open_task()
    bench.add("WORKFLOW_EXECUTION_TERMINATED")
    bench.check_replay()


def test_a_run_knows_its_config_by_default() -> None:
    run = WorkflowRun("workflow", "run", Code(waits))
    assert (run.workflow_type, run.task_queue, run.workflow_task_timeout_s) == ("", "", 10.0)
    assert CONFIG.sdk_name == "perdure-python"


async def works_at_once(context: Context) -> str:
    await context.activity("work")
    return "done"


def test_a_command_too_many_at_the_end_of_an_open_history_is_seen_where_that_is_decidable() -> None:
    """A history may be cut between the events of a task's commands; once another event follows, all are there."""
    bench = Bench(lambda: Code(waits))
    bench.work()
    assert replay_history(Code(works_at_once), bench.events, workflow_id="workflow", config=CONFIG) is None
    signalled(bench)
    failure = replay_history(Code(works_at_once), bench.events, workflow_id="workflow", config=CONFIG)
    assert failure is not None
    assert "nothing more was asked for in that workflow task" in failure.message
    assert replay_history(Code(waits), bench.events, workflow_id="workflow", config=CONFIG) is None
