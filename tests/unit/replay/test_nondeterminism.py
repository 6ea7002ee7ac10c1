"""Deliberate changes of code: each is caught at the first event that differs, with a message that names both sides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from perdure.core.replay.errors import NondeterminismError
from perdure.core.replay.events import describe
from perdure.core.replay.steps import LocalActivityOutcome, LocalActivityWork, TaskCompletion, TaskFailure
from tests.support.proto import common, enums
from tests.unit.replay.bench import Bench
from tests.unit.replay.code import Code, Context


@dataclass(frozen=True)
class Part:
    """One step of a workflow: what it does, and how history and code name it."""

    name: str
    run: Callable[[Context], Awaitable[object]]
    recorded: str
    asked: str

    def __str__(self) -> str:
        return self.name


async def _nothing(context: Context) -> None:
    """For parts that ask for something nobody answers: wait for a timer behind it."""
    await context.timer(9)


def _then_wait(ask: Callable[[Context], object]) -> Callable[[Context], Awaitable[object]]:
    async def run(context: Context) -> None:
        ask(context)
        await _nothing(context)

    return run


PARTS = [
    Part(
        "activity",
        lambda c: c.activity("pay"),
        "ActivityTaskScheduled(activity_type 'pay'",
        "ScheduleActivity(activity_type 'pay'",
    ),
    Part("timer", lambda c: c.timer(3), "TimerStarted(timer_id", "StartTimer("),
    Part(
        "local",
        lambda c: c.local("look"),
        "local activity (activity_type 'look'",
        "ScheduleLocalActivity(activity_type 'look'",
    ),
    Part(
        "child",
        lambda c: c.child("kid")[1],
        "StartChildWorkflowExecutionInitiated(workflow_type 'child', workflow_id 'kid'",
        "StartChildWorkflow(workflow_type 'child'",
    ),
    Part(
        "signal",
        lambda c: c.signal_other("other"),
        "SignalExternalWorkflowExecutionInitiated(signal_name 'hello'",
        "SignalExternalWorkflow(signal_name 'hello'",
    ),
    Part(
        "cancel",
        lambda c: c.cancel_other("other"),
        "RequestCancelExternalWorkflowExecutionInitiated(workflow_id 'other'",
        "RequestCancelExternalWorkflow(workflow_id 'other'",
    ),
    Part(
        "nexus",
        lambda c: c.nexus()[1],
        "NexusOperationScheduled(endpoint 'endpoint', service 'service'",
        "ScheduleNexusOperation(endpoint 'endpoint'",
    ),
    Part(
        "memo",
        _then_wait(lambda c: c.upsert_memo(note="x")),
        "WorkflowPropertiesModified",
        "UpsertMemo(note)",
    ),
    Part(
        "search",
        _then_wait(lambda c: c.upsert(Kw="x")),
        "UpsertWorkflowSearchAttributes",
        "UpsertSearchAttributes(Kw)",
    ),
]
EXTRA = Part(
    "extra", lambda c: c.activity("extra", source="order.py:42"), "", "ScheduleActivity(activity_type 'extra'"
)
DONE = "CompleteWorkflow"


def workflow(parts: Sequence[Part]) -> Callable[[], Code]:
    async def main(context: Context) -> str:
        for part in parts:
            await part.run(context)
        return "done"

    return lambda: Code(main)


def answer(bench: Bench, command: str) -> None:
    """The server and the world answer the last command."""
    event = bench.events[-1]
    match command:
        case "SCHEDULE_ACTIVITY_TASK":
            bench.complete_activity(event.activity_task_scheduled_event_attributes.activity_id)
        case "START_TIMER":
            bench.fire(event.timer_started_event_attributes.timer_id)
        case "START_CHILD_WORKFLOW_EXECUTION":
            execution = common.WorkflowExecution(workflow_id="kid", run_id="kid-run")
            initiated = event.event_id
            bench.add(
                "CHILD_WORKFLOW_EXECUTION_STARTED", initiated_event_id=initiated, workflow_execution=execution
            )
            bench.add("CHILD_WORKFLOW_EXECUTION_COMPLETED", initiated_event_id=initiated)
        case "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION":
            bench.add("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", initiated_event_id=event.event_id)
        case "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION":
            bench.add("EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED", initiated_event_id=event.event_id)
        case "SCHEDULE_NEXUS_OPERATION":
            bench.add("NEXUS_OPERATION_COMPLETED", scheduled_event_id=event.event_id)


def history(parts: Sequence[Part]) -> Bench:
    """A history of a workflow of these parts, from its start to its end."""
    bench = Bench(workflow(parts))
    while not bench.run.is_complete:
        step = bench.handle()
        while isinstance(step, LocalActivityWork):
            following = bench.run.local_activity_resolved(step.start[0].seq, LocalActivityOutcome())
            assert following is not None
            step = following
        assert isinstance(step, TaskCompletion), step
        commands = bench.record(step)
        answer(bench, commands[-1])
    return bench


def caught(bench: Bench, parts: Sequence[Part]) -> NondeterminismError:
    failure = bench.replay(workflow(parts))
    assert failure is not None
    assert failure.cause == enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
    error = failure.error
    assert isinstance(error, NondeterminismError)
    assert str(error).startswith("[TMPRL1100] Nondeterminism error")
    assert f"event {error.event_id}" in str(error)
    assert error.recorded in str(error)
    assert error.asked in str(error)
    assert "patched" in str(error)
    return error


def is_at(bench: Bench, error: NondeterminismError, part: Part) -> bool:
    """The error names the event that recorded this part."""
    event = bench.events[error.event_id - 1]
    marker = event.marker_recorded_event_attributes.marker_name
    return error.recorded.startswith(part.recorded) and (
        bool(marker) or describe(event).startswith(part.recorded)
    )


CHANGED = [(index, part) for index, part in enumerate(PARTS)]


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_unchanged_code_raises_no_alarm(part: Part) -> None:
    history([part]).check_replay()
    history([*PARTS, part, *PARTS]).check_replay()


@pytest.mark.parametrize(("index", "part"), CHANGED)
def test_a_part_was_removed(index: int, part: Part) -> None:
    bench = history(PARTS)
    changed = [*PARTS[:index], *PARTS[index + 1 :]]
    error = caught(bench, changed)
    assert is_at(bench, error, part), error
    assert error.asked.startswith(changed[index].asked if index < len(changed) else DONE), error


@pytest.mark.parametrize(("index", "part"), CHANGED)
def test_a_part_was_added(index: int, part: Part) -> None:
    bench = history(PARTS)
    error = caught(bench, [*PARTS[:index], EXTRA, *PARTS[index:]])
    assert is_at(bench, error, part), error
    assert error.asked.startswith(EXTRA.asked)
    assert error.source == "order.py:42"
    assert "at order.py:42" in str(error)


@pytest.mark.parametrize(("index", "part"), CHANGED[:-1])
def test_two_parts_were_swapped(index: int, part: Part) -> None:
    bench = history(PARTS)
    other = PARTS[index + 1]
    error = caught(bench, [*PARTS[:index], other, part, *PARTS[index + 2 :]])
    assert is_at(bench, error, part), error
    assert error.asked.startswith(other.asked), error


@pytest.mark.parametrize(("index", "part"), CHANGED)
def test_the_code_ends_earlier(index: int, part: Part) -> None:
    bench = history(PARTS)
    error = caught(bench, PARTS[:index])
    assert is_at(bench, error, part), error
    assert error.asked.startswith(DONE)


ANSWERED = [part for part in PARTS if part.name not in ("local", "memo", "search")]
"""Parts that ask for one thing and wait for it (what follows local activities is compared later)."""


@pytest.mark.parametrize("part", ANSWERED, ids=str)
def test_the_code_asks_for_more_than_history_has(part: Part) -> None:
    async def main(context: Context) -> None:
        for each in ANSWERED:
            waits = each.run(context)
            if each is part:
                context.activity("extra")
            await waits

    failure = history(ANSWERED).replay(lambda: Code(main))
    assert failure is not None
    error = failure.error
    assert isinstance(error, NondeterminismError)
    assert "nothing more was asked for" in error.recorded, error
    assert error.asked.startswith(EXTRA.asked)


@dataclass(frozen=True)
class Change:
    """Code before and after, and what the message says."""

    name: str
    before: Callable[[Context], Awaitable[object]]
    after: Callable[[Context], Awaitable[object]]
    recorded: str
    asked: str

    def __str__(self) -> str:
        return self.name


CHANGES = [
    Change(
        "activity type",
        lambda c: c.activity("a"),
        lambda c: c.activity("b"),
        "activity_type 'a'",
        "activity_type 'b'",
    ),
    Change(
        "activity id",
        lambda c: c.activity("a", activity_id="x"),
        lambda c: c.activity("a", activity_id="y"),
        "activity_id 'x'",
        "activity_id 'y'",
    ),
    Change(
        "local to remote",
        lambda c: c.local("a"),
        lambda c: c.activity("a"),
        "local activity (activity_type 'a'",
        "ScheduleActivity(activity_type 'a'",
    ),
    Change(
        "remote to local",
        lambda c: c.activity("a"),
        lambda c: c.local("a"),
        "ActivityTaskScheduled(activity_type 'a'",
        "ScheduleLocalActivity(activity_type 'a'",
    ),
    Change(
        "local type", lambda c: c.local("a"), lambda c: c.local("b"), "activity_type 'a'", "activity_type 'b'"
    ),
    Change(
        "child id",
        lambda c: c.child("kid")[1],
        lambda c: c.child("kid2")[1],
        "workflow_id 'kid'",
        "workflow_id 'kid2'",
    ),
    Change(
        "child type",
        lambda c: c.child("kid", "a")[1],
        lambda c: c.child("kid", "b")[1],
        "workflow_type 'a'",
        "workflow_type 'b'",
    ),
    Change(
        "signal name",
        lambda c: c.signal_other("o", "a"),
        lambda c: c.signal_other("o", "b"),
        "signal_name 'a'",
        "signal_name 'b'",
    ),
    Change(
        "signal target",
        lambda c: c.signal_other("o"),
        lambda c: c.signal_other("p"),
        "workflow_id 'o'",
        "workflow_id 'p'",
    ),
    Change(
        "cancel target",
        lambda c: c.cancel_other("o"),
        lambda c: c.cancel_other("p"),
        "workflow_id 'o'",
        "workflow_id 'p'",
    ),
    Change(
        "operation", lambda c: c.nexus("a")[1], lambda c: c.nexus("b")[1], "operation 'a'", "operation 'b'"
    ),
    Change(
        "memo to search",
        _then_wait(lambda c: c.upsert_memo(a="x")),
        _then_wait(lambda c: c.upsert(Kw="x")),
        "WorkflowPropertiesModified",
        "UpsertSearchAttributes(Kw)",
    ),
    Change(
        "order of two",
        _then_wait(lambda c: (c.activity("a"), c.activity("b"))),
        _then_wait(lambda c: (c.activity("b"), c.activity("a"))),
        "activity_type 'a'",
        "activity_type 'b'",
    ),
    Change(
        "one less",
        _then_wait(lambda c: (c.activity("a"), c.activity("b"))),
        _then_wait(lambda c: c.activity("a")),
        "activity_type 'b'",
        "StartTimer",
    ),
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_detail_was_changed(change: Change) -> None:
    def part(run: Callable[[Context], Awaitable[object]]) -> Part:
        return Part("part", run, "", "")

    bench = history([PARTS[0], part(change.before)])
    error = caught(bench, [PARTS[0], part(change.after)])
    assert change.recorded in error.recorded, error
    assert change.asked in error.asked, error


def test_another_end() -> None:
    async def fails(context: Context) -> None:
        await context.activity("pay")
        context.continue_as_new()

    bench = history(PARTS[:1])
    failure = bench.replay(lambda: Code(fails))
    assert failure is not None
    assert isinstance(failure.error, NondeterminismError)
    assert failure.error.recorded == "WorkflowExecutionCompleted"
    assert failure.error.asked == "ContinueAsNew(workflow_type 'type')"


def test_a_timer_was_cancelled_where_history_lets_it_fire() -> None:
    async def main(context: Context) -> None:
        await context.activity("pay")
        timer = context.timer(3)
        await context.activity("pay")
        context.cancel_timer(timer)
        await context.activity("pay")

    async def other(context: Context) -> None:
        await context.activity("pay")
        context.timer(3)
        await context.activity("pay")
        await context.activity("pay")

    bench = Bench(lambda: Code(main))
    for number in range(1, 4):
        bench.work()
        bench.complete_activity(str(number))
    bench.work()
    bench.check_replay()
    failure = bench.replay(lambda: Code(other))
    assert failure is not None
    assert isinstance(failure.error, NondeterminismError)
    assert "TimerCanceled" in failure.error.recorded


def test_a_new_worker_notices_it_before_it_answers() -> None:
    """More than history has, asked for by the task before the one at hand: not to be sent as if it were new."""

    async def main(context: Context) -> None:
        await context.activity("pay")
        await context.activity("pay")

    async def other(context: Context) -> None:
        context.activity("extra", activity_id="x")
        context.counts["activity"] = 0
        await context.activity("pay")
        await context.activity("pay")

    async def more(context: Context) -> None:
        first = context.activity("pay")
        context.activity("extra")
        await first
        await context.activity("pay")

    for changed, asked in ((other, "'extra', activity_id 'x'"), (more, "'extra'")):
        bench = Bench(lambda: Code(main))
        bench.work()
        bench.complete_activity()
        bench.make = lambda changed=changed: Code(changed)  # type: ignore[misc]
        bench.forget()
        step = bench.handle()
        assert isinstance(step, TaskFailure), step
        assert isinstance(step.error, NondeterminismError)
        assert asked in step.error.asked
