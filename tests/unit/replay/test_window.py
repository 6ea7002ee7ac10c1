"""Where the events of one activation end: tasks that the code never saw are no ends."""

from __future__ import annotations

import pytest

from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.window import window_end
from tests.support.proto import enums

SHORT = {
    "start": "WORKFLOW_EXECUTION_STARTED",
    "sched": "WORKFLOW_TASK_SCHEDULED",
    "task": "WORKFLOW_TASK_STARTED",
    "done": "WORKFLOW_TASK_COMPLETED",
    "failed": "WORKFLOW_TASK_FAILED",
    "timeout": "WORKFLOW_TASK_TIMED_OUT",
    "timer": "TIMER_STARTED",
    "fired": "TIMER_FIRED",
    "signal": "WORKFLOW_EXECUTION_SIGNALED",
    "end": "WORKFLOW_EXECUTION_COMPLETED",
    "terminated": "WORKFLOW_EXECUTION_TERMINATED",
    "marker": "MARKER_RECORDED",
    "update": "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
}


def events_of(text: str) -> list[HistoryEvent]:
    return [
        HistoryEvent(event_id=number, event_type=enums.EventType.Value(f"EVENT_TYPE_{SHORT[word]}"))
        for number, word in enumerate(text.split(), start=1)
    ]


@pytest.mark.parametrize(
    ("history", "ends"),
    [
        ("start sched task", [3]),
        ("start sched task done timer fired sched task done end", [3, 8, 10]),
        ("start sched task failed sched task done timer", [6, 8]),
        ("start sched task timeout sched task", [6]),
        ("start sched task done timer signal sched task failed sched task", [3, 11]),
        ("start sched task done sched task done marker sched task", [3, 6, 10]),
        ("start sched task done sched signal task done marker sched task", [3, 7, 11]),
        ("start sched task done sched task done update sched task", [3, 6, 10]),
        ("start sched task done timer sched task done sched task done end", [3, 7, 10, 12]),
        ("start sched task done timer fired sched task timeout terminated", [3, 10]),
        ("start sched task done timer", [3, 5]),
        ("start signal sched task done end", [4, 6]),
    ],
)
def test_windows(history: str, ends: list[int]) -> None:
    """Failed and timed-out tasks belong to the task that follows them; each completed one is an end."""
    events = events_of(history)
    types = [int(event.event_type) for event in events]
    found, start = [], 0
    while start < len(types):
        end = window_end(types, start)
        found.append(end + 1)
        start = end + 1
    assert found == ends
