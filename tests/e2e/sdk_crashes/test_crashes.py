"""Workers, and processes with an embedded engine, killed under load: all of it completes, nothing is recorded twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.client import Client, WorkflowHandle
from perdure.core.replay.markers import read_local_activity
from perdure.worker import Replayer
from tests.e2e.python_sdk import unique
from tests.e2e.sdk_crashes.load import PARALLEL, ROUNDS, Busy, Small, expected_result, new_worker, start
from tests.e2e.sdk_crashes.processes import KILLS, drain, process_until_killed, read_lines
from tests.support.servers import PerdureServer

pytestmark = pytest.mark.serial

PER_KILL: Final = 8
"""So many workflows are added for each."""
LINES: Final = (5, 40)
"""A process is killed after a random number of lines within these bounds."""
BOUND_S: Final = 40.0 + 8.0 * KILLS
_CLOSING: Final = {
    "ActivityTaskScheduled": ("activity_task_completed_event_attributes", "scheduled_event_id"),
    "TimerStarted": ("timer_fired_event_attributes", "started_event_id"),
    "StartChildWorkflowExecutionInitiated": (
        "child_workflow_execution_completed_event_attributes",
        "initiated_event_id",
    ),
}


def _process(
    address: str, queue: str, prefix: str, count: int
) -> contextlib.AbstractAsyncContextManager[asyncio.StreamReader]:
    """A process of the load; it is killed at the end."""
    return process_until_killed("load", address, queue, prefix, str(count))


def _name(event: HistoryEvent) -> str:
    words = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").split("_")
    return "".join(word.capitalize() for word in words)


def check_history(events: list[HistoryEvent]) -> None:
    """Ids without gaps; each activity, timer, child and local activity has one end; one event closes the run."""
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    names = Counter(map(_name, events))
    for opening, (attributes, field) in _CLOSING.items():
        opened = [event.event_id for event in events if _name(event) == opening]
        ended = [getattr(getattr(e, attributes), field) for e in events if e.HasField(attributes)]  # type: ignore[arg-type]
        assert sorted(ended) == opened, (opening, opened, ended)
    local = [
        read_local_activity(event.marker_recorded_event_attributes).seq
        for event in events
        if _name(event) == "MarkerRecorded"
    ]
    assert len(local) == len(set(local))
    assert names["WorkflowExecutionCompleted"] == 1
    assert _name(events[-1]) == "WorkflowExecutionCompleted"
    failed = [event for event in events if event.HasField("workflow_task_failed_event_attributes")]
    assert not failed, failed


async def _check(handle: WorkflowHandle[Any, Any]) -> None:
    """The result is right, and so are the histories of the workflow and its child; they replay."""
    assert await handle.result() == expected_result(handle.id)
    history = await handle.fetch_history()
    events = list(history.events)
    check_history(events)
    names = Counter(map(_name, events))
    assert names["ActivityTaskScheduled"] == ROUNDS * PARALLEL
    assert names["MarkerRecorded"] == names["TimerStarted"] == ROUNDS
    await Replayer(workflows=[Busy, Small]).replay_workflow(history)


def test_workers_killed_under_load_lose_nothing(tmp_path: Path) -> None:
    """Two worker processes at a time; one after the other is killed and another takes its place."""

    async def scenario() -> None:
        choices = random.Random(f"workers {KILLS}")
        queue = unique("kills")
        async with PerdureServer(db_path=tmp_path / "server.db") as server:
            async with await Client.connect(server.address) as client, contextlib.AsyncExitStack() as last:
                lasting = await last.enter_async_context(_process(server.address, queue, "none", 0))
                draining = asyncio.create_task(drain(lasting))
                handles: list[WorkflowHandle[Any, Any]] = []
                for kill in range(KILLS):
                    async with _process(server.address, queue, "none", 0) as output:
                        assert await read_lines(output, 1) == ["ready"]
                        reading = asyncio.create_task(read_lines(output, choices.randint(1, 20)))
                        # The other worker may take all there is: then there is more.
                        while len(handles) < (kill + 1) * PER_KILL or not reading.done():
                            handles.append(await start(client, f"{queue}-{len(handles)}", queue))
                            await asyncio.wait([reading], timeout=0.1)
                        await reading
                    if kill == KILLS // 2:
                        await last.aclose()
                        await draining
                        lasting = await last.enter_async_context(_process(server.address, queue, "none", 0))
                        draining = asyncio.create_task(drain(lasting))
                await asyncio.gather(*map(_check, handles))
                await last.aclose()
                await draining
        print(f"{len(handles)} workflows, {KILLS + 2} processes killed")

    asyncio.run(asyncio.wait_for(scenario(), BOUND_S))


def test_processes_with_an_embedded_engine_killed_under_load_lose_nothing(tmp_path: Path) -> None:
    """Engine, client and worker die together; the next process goes on with the file, this one finishes all."""

    async def scenario() -> None:
        choices = random.Random(f"embedded {KILLS}")
        address = f"sqlite:///{tmp_path}/engine.db"
        started: set[str] = set()
        for life in range(KILLS):
            async with _process(address, "queue", f"life-{life}", PER_KILL) as output:
                said = await read_lines(output, choices.randint(*LINES))
            started |= {line.split()[1] for line in said if line.startswith("started")}
        assert len(started) >= KILLS
        print(f"{len(started)} workflows, {KILLS} processes killed")
        async with await Client.connect(address) as client, new_worker(client, "queue"):
            await asyncio.gather(*(_check(client.get_workflow_handle(each)) for each in sorted(started)))

    asyncio.run(asyncio.wait_for(scenario(), BOUND_S))


def test_the_check_of_histories_can_fail() -> None:
    """An activity that was completed twice, or never, is found."""
    from perdure.api.history.v1 import (
        ActivityTaskCompletedEventAttributes,
        ActivityTaskScheduledEventAttributes,
    )

    def scheduled(number: int) -> HistoryEvent:
        return HistoryEvent(
            event_id=number,
            event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
            activity_task_scheduled_event_attributes=ActivityTaskScheduledEventAttributes(activity_id="1"),
        )

    def completed(number: int) -> HistoryEvent:
        return HistoryEvent(
            event_id=number,
            event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
            activity_task_completed_event_attributes=ActivityTaskCompletedEventAttributes(
                scheduled_event_id=1
            ),
        )

    for events in ([scheduled(1)], [scheduled(1), completed(2), completed(3)]):
        with pytest.raises(AssertionError, match="ActivityTaskScheduled"):
            check_history(events)
