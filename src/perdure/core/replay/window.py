"""Where workflow tasks end in a history: the events that belong to one activation of the code.

A window goes on after the last workflow task that the code saw and ends with the start of the next one it saw. Tasks
that failed or timed out are no ends: what they brought, the code is told (again) in the task that follows.

Official workers also leave out tasks that were completed without a command and followed by another at once (heartbeats
for local activities), and so tell the code in one activation on replay what it was told in two before: an end each is
what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perdure.core.replay.events import (
    FINAL_EVENTS,
    WORKFLOW_EXECUTION_CANCELED,
    WORKFLOW_EXECUTION_TERMINATED,
    WORKFLOW_EXECUTION_TIMED_OUT,
    WORKFLOW_TASK_FAILED,
    WORKFLOW_TASK_STARTED,
    WORKFLOW_TASK_TIMED_OUT,
)

_ENDS_UNSEEN: Final = frozenset(
    {
        WORKFLOW_TASK_FAILED,
        WORKFLOW_TASK_TIMED_OUT,
        WORKFLOW_EXECUTION_TIMED_OUT,
        WORKFLOW_EXECUTION_TERMINATED,
        WORKFLOW_EXECUTION_CANCELED,
    }
)


def window_end(types: Sequence[int], start: int) -> int:
    """Finds the end of a window.

    Args:
        types: of all events at hand.
        start: index of the window's first event.

    Returns: index of its last event; the last of all when history ends before the window does.
    """
    last = len(types) - 1
    for index in range(start, last + 1):
        event_type = types[index]
        if event_type in FINAL_EVENTS:
            return index
        if event_type == WORKFLOW_TASK_STARTED and (index == last or types[index + 1] not in _ENDS_UNSEEN):
            return index
    return last
