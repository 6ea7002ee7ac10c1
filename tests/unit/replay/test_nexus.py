"""Nexus operations: synchronous and asynchronous ones, their ends, and each kind of cancellation."""

from __future__ import annotations

import pytest

from perdure.api.enums.v1 import EventType
from perdure.api.failure.v1 import Failure
from perdure.core.replay.activation import ResolveNexusOperation, ResolveNexusOperationStart
from perdure.core.replay.instructions import NexusCancellation
from tests.support.builders import payload
from tests.unit.replay.bench import Bench
from tests.unit.replay.code import Code, Context, Stopped


def code(cancellation: int = NexusCancellation.WAIT_COMPLETED) -> Code:
    async def main(context: Context) -> None:
        started, ended = context.nexus(cancellation=cancellation)
        try:
            await started
            context.spawn(cancel_on_signal(context, ended.seq))
            await ended
        except Stopped as error:
            context.log.append(error.failure.message)
        await context.timer(1)

    async def cancel_on_signal(context: Context, seq: int) -> None:
        await context.until(lambda: bool(context.signals))
        context.cancel_nexus(context.code.futures[("nexus", seq)])

    return Code(main)


def scheduled(cancellation: int = NexusCancellation.WAIT_COMPLETED) -> Bench:
    bench = Bench(lambda: code(cancellation))
    assert bench.work() == ["SCHEDULE_NEXUS_OPERATION"]
    return bench


def started(cancellation: int = NexusCancellation.WAIT_COMPLETED) -> Bench:
    bench = scheduled(cancellation)
    bench.add("NEXUS_OPERATION_STARTED", scheduled_event_id=5, operation_token="token")
    bench.work()
    assert bench.code.activation.jobs == [ResolveNexusOperationStart(1, "token")]
    return bench


def test_a_synchronous_operation_starts_and_ends_at_once() -> None:
    bench = scheduled()
    bench.add("NEXUS_OPERATION_COMPLETED", scheduled_event_id=5, result=payload("r"))
    assert bench.work() == ["START_TIMER"]
    assert bench.code.activation.jobs == [
        ResolveNexusOperationStart(1),
        ResolveNexusOperation(1, payload("r")),
    ]
    bench.check_replay()


def test_an_asynchronous_operation() -> None:
    bench = started()
    bench.add("NEXUS_OPERATION_COMPLETED", scheduled_event_id=5, result=payload("r"))
    assert bench.work() == ["START_TIMER"]
    assert bench.code.activation.jobs == [ResolveNexusOperation(1, payload("r"))]
    bench.check_replay()


@pytest.mark.parametrize("name", ["FAILED", "CANCELED", "TIMED_OUT"])
@pytest.mark.parametrize("was_started", [True, False])
def test_an_operation_ends_otherwise(name: str, was_started: bool) -> None:
    bench = started() if was_started else scheduled()
    bench.add(f"NEXUS_OPERATION_{name}", scheduled_event_id=5, failure=Failure(message="why"))
    assert bench.work() == ["START_TIMER"]
    (job,) = bench.code.activation.jobs
    expected = ResolveNexusOperation if was_started else ResolveNexusOperationStart
    assert isinstance(job, expected)
    assert job.failure == Failure(message="why")
    bench.check_replay()


def test_cancelled_before_it_was_sent_disappears() -> None:
    async def main(context: Context) -> None:
        start, _ = context.nexus()
        context.cancel_nexus(start)
        with pytest.raises(Stopped, match="Nexus Operation cancelled before scheduled"):
            await start
        await context.timer(1)

    bench = Bench(lambda: Code(main))
    assert bench.work() == ["START_TIMER"]
    bench.check_replay()


@pytest.mark.parametrize(
    ("cancellation", "commands"),
    [
        (NexusCancellation.WAIT_COMPLETED, ["REQUEST_CANCEL_NEXUS_OPERATION"]),
        (NexusCancellation.WAIT_REQUESTED, ["REQUEST_CANCEL_NEXUS_OPERATION"]),
        (NexusCancellation.TRY_CANCEL, ["REQUEST_CANCEL_NEXUS_OPERATION", "START_TIMER"]),
        (NexusCancellation.ABANDON, ["START_TIMER"]),
    ],
)
def test_cancellations(cancellation: int, commands: list[str]) -> None:
    bench = started(cancellation)
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    assert bench.work() == commands
    if cancellation == NexusCancellation.WAIT_REQUESTED:
        bench.add("NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED", scheduled_event_id=5)
        assert bench.work() == ["START_TIMER"]
    bench.add("NEXUS_OPERATION_CANCELED", scheduled_event_id=5, failure=Failure(message="canceled"))
    if cancellation == NexusCancellation.WAIT_COMPLETED:
        assert bench.work() == ["START_TIMER"]
    bench.fire()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


@pytest.mark.parametrize("cancellation", [NexusCancellation.WAIT_COMPLETED, NexusCancellation.TRY_CANCEL])
def test_nothing_is_kept_of_an_operation_that_ended(cancellation: int) -> None:
    """A run that calls many would otherwise keep the input of each as long as it is cached."""
    bench = started(cancellation)
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    bench.work()
    assert 5 in bench.run._ledger.by_event_id
    bench.add("NEXUS_OPERATION_COMPLETED", scheduled_event_id=5, result=payload("r"))
    bench.work()
    assert 5 not in bench.run._ledger.by_event_id
    requested = next(e for e in bench.events if "CANCEL_REQUESTED" in EventType.Name(e.event_type))
    bench.add(
        "NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED",
        scheduled_event_id=5,
        requested_event_id=requested.event_id,
    )
    bench.work()
    bench.check_replay()
