"""Where workflow tasks end in a history: the events that belong to one activation of the code.

A window goes on after the last workflow task that the code saw and ends with the start of the next one it saw. Tasks
that failed, timed out or were only heartbeats for local activities are no ends: the code never saw them, or saw them
as one. The rules are those of the official workers; another end here would activate code differently on replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.events import (
    COMMAND_EVENTS,
    FINAL_EVENTS,
    WORKFLOW_EXECUTION_CANCELED,
    WORKFLOW_EXECUTION_STARTED,
    WORKFLOW_EXECUTION_TERMINATED,
    WORKFLOW_EXECUTION_TIMED_OUT,
    WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    WORKFLOW_TASK_COMPLETED,
    WORKFLOW_TASK_FAILED,
    WORKFLOW_TASK_SCHEDULED,
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


def window_end(types: Sequence[int], events: Sequence[HistoryEvent], start: int) -> int:
    """Finds the end of a window.

    Args:
        types: of `events`.
        events: the history, or its end.
        start: index of the window's first event.

    Returns: index of its last event; the last of all when history ends before the window does.
    """
    count = len(types)
    saw_command = saw_work = False
    seen: list[int] = []
    for index in range(start, count):
        event_type = types[index]
        if event_type in COMMAND_EVENTS:
            saw_command = saw_work = True
        if event_type == WORKFLOW_EXECUTION_STARTED:
            saw_work = True
        if event_type in FINAL_EVENTS:
            return index
        if event_type != WORKFLOW_TASK_STARTED:
            continue
        following = types[index + 1] if index + 1 < count else 0
        if following in _ENDS_UNSEEN:
            continue
        seen.append(index)
        if following == WORKFLOW_TASK_COMPLETED and index + 2 < count:
            after = types[index + 2]
            if not saw_command and after == WORKFLOW_TASK_SCHEDULED:
                continue
            if after == WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                return _task_of_update(events, seen, index)
            return index
        if saw_work:
            return index
    return count - 1


def _task_of_update(events: Sequence[HistoryEvent], seen: Sequence[int], index: int) -> int:
    """An update was accepted by the task at `index`: it ran where its request was sequenced, if the code saw that."""
    accepted = events[index + 2].workflow_execution_update_accepted_event_attributes
    sequencing_id = accepted.accepted_request_sequencing_event_id
    for earlier in reversed(seen):
        if events[earlier].event_id < sequencing_id:
            return earlier
    return index
