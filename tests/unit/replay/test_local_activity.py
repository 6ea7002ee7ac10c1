"""Local activities: run here, recorded as markers, known ahead on replay; heartbeats, retries, cancellation."""

from __future__ import annotations

import json

import pytest

from perdure.api.failure.v1 import CanceledFailureInfo, Failure, TimeoutFailureInfo
from perdure.api.query.v1 import WorkflowQuery
from perdure.core.replay.activation import ResolveActivity
from perdure.core.replay.errors import NondeterminismError
from perdure.core.replay.instructions import ActivityCancellation
from perdure.core.replay.markers import read_local_activity
from perdure.core.replay.steps import LocalActivityOutcome, LocalActivityWork, TaskCompletion, WorkflowTask
from tests.support.builders import application_failure, payload, payloads
from tests.unit.replay.bench import SECOND_NS, START_NS, Bench
from tests.unit.replay.code import Code, Context, Stopped

TRY, WAIT, ABANDON = (
    ActivityCancellation.TRY_CANCEL,
    ActivityCancellation.WAIT_CANCELLATION_COMPLETED,
    ActivityCancellation.ABANDON,
)


async def one(context: Context) -> str:
    try:
        result = await context.local("work")
    except Stopped as error:
        context.log.append(error.failure.message)
        return error.failure.message
    if isinstance(result, tuple):
        await context.timer(result[1])
        await context.local("again")
    await context.activity("after")
    return "done"


def asked(bench: Bench) -> LocalActivityWork:
    step = bench.handle()
    assert isinstance(step, LocalActivityWork)
    return step


def finish(bench: Bench, seq: int, outcome: LocalActivityOutcome) -> list[str]:
    step = bench.run.local_activity_resolved(seq, outcome)
    assert isinstance(step, TaskCompletion), step
    return bench.record(step)


def told(code: Code) -> list[list[int]]:
    """The numbers of activities by activation that told their outcomes."""
    jobs = ([job.seq for job in a.jobs if isinstance(job, ResolveActivity)] for a in code.activations)
    return [seqs for seqs in jobs if seqs]


def indexes(bench: Bench) -> list[int | None]:
    """What the markers say about the activations that told the code."""
    markers = (event.marker_recorded_event_attributes for event in bench.events)
    return [read_local_activity(marker).activation_index for marker in markers if marker.marker_name]


def test_a_local_activity_runs_and_is_recorded() -> None:
    bench = Bench(lambda: Code(one), workflow_task_timeout={"seconds": 5})
    work = asked(bench)
    (activity,) = work.start
    assert (activity.seq, activity.attempt, activity.schedule_time_ns) == (1, 1, START_NS + 3 * SECOND_NS)
    assert work.heartbeat_after_s == 4.0
    outcome = LocalActivityOutcome(payloads("r"), elapsed_ns=500, original_schedule_time_ns=77)
    assert finish(bench, 1, outcome) == ["RECORD_MARKER", "SCHEDULE_ACTIVITY_TASK"]
    assert bench.code.activation.jobs == [ResolveActivity(1, payloads("r"))]
    assert bench.code.activation.now_ns == START_NS + 3 * SECOND_NS + 500
    marker = bench.last("MARKER_RECORDED").marker_recorded_event_attributes
    assert marker.marker_name == "core_local_activity"
    assert marker.details["result"] == payloads("r")
    assert json.loads(marker.details["data"].payloads[0].data) == {
        "seq": 1,
        "attempt": 1,
        "activity_id": "1",
        "activity_type": "work",
        "complete_time": {"seconds": 1_700_000_003, "nanos": 500},
        "backoff": None,
        "original_schedule_time": {"seconds": 0, "nanos": 77},
        "activation_index": 1,
    }
    bench.complete_activity("2")
    bench.work()
    bench.check_replay()


def test_the_code_sees_the_same_time_on_replay() -> None:
    bench = Bench(lambda: Code(one))
    asked(bench)
    finish(bench, 1, LocalActivityOutcome(payloads("r"), elapsed_ns=500))
    code = Code(one)
    assert bench.replay(lambda: code) is None
    assert [(a.now_ns, [type(job) for job in a.jobs]) for a in code.activations] == [
        (a.now_ns, [type(job) for job in a.jobs]) for a in bench.code.activations
    ]


def test_a_failed_local_activity_is_not_wrapped_but_a_time_out_is() -> None:
    for cause, message in (
        (application_failure("boom"), "boom"),
        (Failure(message="slow", timeout_failure_info=TimeoutFailureInfo()), "Local Activity timed out"),
        (Failure(message="stop", canceled_failure_info=CanceledFailureInfo()), "Local Activity cancelled"),
    ):
        bench = Bench(lambda: Code(one))
        asked(bench)
        assert finish(bench, 1, LocalActivityOutcome(failure=cause)) == [
            "RECORD_MARKER",
            "COMPLETE_WORKFLOW_EXECUTION",
        ]
        assert bench.code.context.log == [message]
        assert bench.last("MARKER_RECORDED").marker_recorded_event_attributes.failure == cause
        bench.check_replay()


def test_a_long_retry_goes_on_after_a_timer() -> None:
    bench = Bench(lambda: Code(one))
    asked(bench)
    outcome = LocalActivityOutcome(failure=application_failure(), backoff_s=90, original_schedule_time_ns=5)
    assert finish(bench, 1, outcome) == ["RECORD_MARKER", "START_TIMER"]
    (job,) = bench.code.activation.jobs
    assert job == ResolveActivity(1, backoff_s=90.0, attempt=2, original_schedule_time_ns=5)
    bench.fire()
    assert [activity.seq for activity in asked(bench).start] == [2]
    finish(bench, 2, LocalActivityOutcome())
    bench.check_replay()


def test_each_is_told_when_it_is_done() -> None:
    """One that takes long does not hold up the others."""

    async def main(context: Context) -> None:
        first, second = context.local("x"), context.local("y")
        await second
        third = context.local("z")
        await first
        await third

    bench = Bench(lambda: Code(main))
    assert [activity.seq for activity in asked(bench).start] == [1, 2]
    step = bench.run.local_activity_resolved(2, LocalActivityOutcome())
    assert isinstance(step, LocalActivityWork)
    assert [activity.seq for activity in step.start] == [3]
    assert bench.run.local_activity_resolved(3, LocalActivityOutcome()) == LocalActivityWork([], [], 8.0)
    assert finish(bench, 1, LocalActivityOutcome()) == ["RECORD_MARKER"] * 3 + ["COMPLETE_WORKFLOW_EXECUTION"]
    assert told(bench.code) == [[2], [3], [1]]
    assert indexes(bench) == [1, 2, 3]
    bench.check_replay()


def test_heartbeats_until_it_is_done() -> None:
    bench = Bench(lambda: Code(one))
    asked(bench)
    for _ in range(2):
        beat = bench.run.heartbeat()
        assert isinstance(beat, TaskCompletion)
        assert beat.force_create_new_workflow_task
        assert bench.record(beat) == []
        assert bench.run.heartbeat() is None
        again = bench.handle()
        assert again == LocalActivityWork([], [], 8.0)
    assert finish(bench, 1, LocalActivityOutcome()) == ["RECORD_MARKER", "SCHEDULE_ACTIVITY_TASK"]
    bench.complete_activity("2")
    bench.work()
    bench.check_replay()


def test_done_between_two_tasks_it_is_told_with_the_next() -> None:
    bench = Bench(lambda: Code(one))
    asked(bench)
    beat = bench.run.heartbeat()
    assert isinstance(beat, TaskCompletion)
    bench.record(beat)
    assert bench.run.local_activity_resolved(1, LocalActivityOutcome()) is None
    assert bench.work() == ["RECORD_MARKER", "SCHEDULE_ACTIVITY_TASK"]
    bench.check_replay()


@pytest.mark.parametrize("with_question", [False, True])
def test_done_between_two_tasks_it_is_told_behind_what_the_next_brings(with_question: bool) -> None:
    """A question in between records nothing, so it must not tell the code anything either."""

    async def main(context: Context) -> None:
        await context.local("work")
        context.log.append(f"{len(context.signals)} signals")

    bench = Bench(lambda: Code(main))
    asked(bench)
    beat = bench.run.heartbeat()
    assert isinstance(beat, TaskCompletion)
    bench.record(beat)
    assert bench.run.local_activity_resolved(1, LocalActivityOutcome()) is None
    if with_question:
        query = WorkflowQuery(query_type="log")
        answer = bench.run.handle(WorkflowTask([], bench.previous, 0, query=query))
        assert isinstance(answer, TaskCompletion)
        assert answer.legacy_query_result is not None
        assert told(bench.code) == []
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    assert bench.work() == ["RECORD_MARKER", "COMPLETE_WORKFLOW_EXECUTION"]
    assert bench.code.context.log == ["1 signals"]
    assert indexes(bench) == [0]
    bench.check_replay()


def test_a_new_worker_runs_it_again_when_history_has_no_marker() -> None:
    bench = Bench(lambda: Code(one))
    asked(bench)
    beat = bench.run.heartbeat()
    assert isinstance(beat, TaskCompletion)
    bench.record(beat)
    bench.forget()
    assert [activity.seq for activity in asked(bench).start] == [1]
    assert finish(bench, 1, LocalActivityOutcome()) == ["RECORD_MARKER", "SCHEDULE_ACTIVITY_TASK"]
    bench.check_replay()


def test_events_are_told_while_it_runs() -> None:
    async def main(context: Context) -> None:
        local = context.local("work")
        await context.until(lambda: bool(context.signals))
        await context.activity("signalled")
        await local

    bench = Bench(lambda: Code(main))
    asked(bench)
    beat = bench.run.heartbeat()
    assert isinstance(beat, TaskCompletion)
    bench.record(beat)
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    asked(bench)
    assert bench.code.context.signals == ["go"]
    assert finish(bench, 1, LocalActivityOutcome()) == ["SCHEDULE_ACTIVITY_TASK", "RECORD_MARKER"]
    bench.complete_activity("2")
    bench.work()
    bench.check_replay()


def test_questions_are_answered_with_the_heartbeat() -> None:
    bench = Bench(lambda: Code(one))
    step = bench.handle(queries={"q": WorkflowQuery(query_type="log")})
    assert isinstance(step, LocalActivityWork)
    beat = bench.run.heartbeat()
    assert isinstance(beat, TaskCompletion)
    assert beat.query_results["q"].answer.payloads[0] == payload("")
    assert beat.force_create_new_workflow_task


def test_a_legacy_question_does_not_wait_for_it() -> None:
    bench = Bench(lambda: Code(one))
    asked(bench)
    beat = bench.run.heartbeat()
    assert isinstance(beat, TaskCompletion)
    bench.record(beat)
    step = bench.run.handle(WorkflowTask([], bench.previous, 0, query=WorkflowQuery(query_type="log")))
    assert isinstance(step, TaskCompletion)
    assert step.legacy_query_result is not None
    assert asked(bench) == LocalActivityWork([], [], 8.0)


def cancels(cancellation: int) -> Code:
    async def main(context: Context) -> None:
        local = context.local("work", cancellation)
        await context.until(lambda: bool(context.signals))
        context.cancel_local(local)
        try:
            await local
        except Stopped as error:
            context.log.append(error.failure.message)
        await context.activity("after")

    return Code(main)


@pytest.mark.parametrize("cancellation", [TRY, WAIT, ABANDON])
def test_cancellation(cancellation: int) -> None:
    bench = Bench(lambda: cancels(cancellation))
    asked(bench)
    beat = bench.run.heartbeat()
    assert isinstance(beat, TaskCompletion)
    bench.record(beat)
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    step = bench.handle()
    if cancellation == ABANDON:
        assert isinstance(step, TaskCompletion)
        bench.record(step)
        assert bench.run.local_activity_resolved(1, LocalActivityOutcome(payloads("late"))) is None
    else:
        assert step == LocalActivityWork([], [1], 8.0)
        assert finish(bench, 1, LocalActivityOutcome(is_canceled=True)) == [
            "RECORD_MARKER",
            "SCHEDULE_ACTIVITY_TASK",
        ]
    assert bench.code.context.log == ["Local Activity cancelled"]
    assert bench.types()[-2:] == ["MARKER_RECORDED", "ACTIVITY_TASK_SCHEDULED"]
    bench.complete_activity("2")
    bench.work()
    bench.check_replay()


def test_cancelled_before_it_ran() -> None:
    async def main(context: Context) -> None:
        local = context.local("work")
        context.cancel_local(local)
        with pytest.raises(Stopped, match="Local Activity cancelled"):
            await local

    bench = Bench(lambda: Code(main))
    assert bench.work() == ["RECORD_MARKER", "COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_the_end_of_the_run_ends_them() -> None:
    async def main(context: Context) -> None:
        context.local("work")
        abandoned = context.local("abandoned", ABANDON)
        await context.until(lambda: bool(context.signals))
        context.cancel_local(abandoned)

    bench = Bench(lambda: Code(main))
    asked(bench)
    beat = bench.run.heartbeat()
    assert isinstance(beat, TaskCompletion)
    bench.record(beat)
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    assert step.is_complete
    assert step.cancel_local_activities == [1, 2]


def test_retries_are_counted() -> None:
    bench = Bench(lambda: Code(one))
    asked(bench)
    bench.run.local_activity_retried()
    bench.run.local_activity_retried()
    step = bench.run.local_activity_resolved(1, LocalActivityOutcome(attempt=3))
    assert isinstance(step, TaskCompletion)
    assert step.metering_metadata is not None
    assert step.metering_metadata.nonfirst_local_activity_execution_attempts == 2


def test_behind_a_recorded_one_code_that_asks_for_more_is_noticed() -> None:
    """Only what a local activity that is not recorded yet brings may be recorded later."""

    def code(has_extra: bool) -> Code:
        async def main(context: Context) -> None:
            await context.local("first")
            waits = context.activity("a")
            if has_extra:
                context.timer(9)
            await waits

        return Code(main)

    bench = Bench(lambda: code(has_extra=False))
    asked(bench)
    finish(bench, 1, LocalActivityOutcome(payloads("r")))
    for _ in range(2):
        bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
        assert bench.work() == []
    bench.open_task()
    bench.check_replay()
    failure = bench.replay(lambda: code(has_extra=True))
    assert failure is not None
    assert isinstance(failure.error, NondeterminismError)
