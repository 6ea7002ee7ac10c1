"""What a worker knows about kinds of history events: tables keyed by event type, and how to name an event to a person.

Event types are plain integers here: a replay looks at every event, and an enum lookup each time would show.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent

_PREFIX = "EVENT_TYPE_"
_NUMBERS: Final[dict[str, int]] = {
    name.removeprefix(_PREFIX): int(number) for name, number in EventType.items()
}

WORKFLOW_EXECUTION_STARTED: Final = _NUMBERS["WORKFLOW_EXECUTION_STARTED"]
WORKFLOW_EXECUTION_COMPLETED: Final = _NUMBERS["WORKFLOW_EXECUTION_COMPLETED"]
WORKFLOW_EXECUTION_FAILED: Final = _NUMBERS["WORKFLOW_EXECUTION_FAILED"]
WORKFLOW_EXECUTION_TIMED_OUT: Final = _NUMBERS["WORKFLOW_EXECUTION_TIMED_OUT"]
WORKFLOW_EXECUTION_CANCELED: Final = _NUMBERS["WORKFLOW_EXECUTION_CANCELED"]
WORKFLOW_EXECUTION_TERMINATED: Final = _NUMBERS["WORKFLOW_EXECUTION_TERMINATED"]
WORKFLOW_EXECUTION_CONTINUED_AS_NEW: Final = _NUMBERS["WORKFLOW_EXECUTION_CONTINUED_AS_NEW"]
WORKFLOW_EXECUTION_CANCEL_REQUESTED: Final = _NUMBERS["WORKFLOW_EXECUTION_CANCEL_REQUESTED"]
WORKFLOW_EXECUTION_SIGNALED: Final = _NUMBERS["WORKFLOW_EXECUTION_SIGNALED"]
WORKFLOW_EXECUTION_UPDATE_ADMITTED: Final = _NUMBERS["WORKFLOW_EXECUTION_UPDATE_ADMITTED"]
WORKFLOW_EXECUTION_UPDATE_ACCEPTED: Final = _NUMBERS["WORKFLOW_EXECUTION_UPDATE_ACCEPTED"]
WORKFLOW_EXECUTION_UPDATE_REJECTED: Final = _NUMBERS["WORKFLOW_EXECUTION_UPDATE_REJECTED"]
WORKFLOW_EXECUTION_UPDATE_COMPLETED: Final = _NUMBERS["WORKFLOW_EXECUTION_UPDATE_COMPLETED"]
WORKFLOW_TASK_SCHEDULED: Final = _NUMBERS["WORKFLOW_TASK_SCHEDULED"]
WORKFLOW_TASK_STARTED: Final = _NUMBERS["WORKFLOW_TASK_STARTED"]
WORKFLOW_TASK_COMPLETED: Final = _NUMBERS["WORKFLOW_TASK_COMPLETED"]
WORKFLOW_TASK_TIMED_OUT: Final = _NUMBERS["WORKFLOW_TASK_TIMED_OUT"]
WORKFLOW_TASK_FAILED: Final = _NUMBERS["WORKFLOW_TASK_FAILED"]
ACTIVITY_TASK_SCHEDULED: Final = _NUMBERS["ACTIVITY_TASK_SCHEDULED"]
ACTIVITY_TASK_STARTED: Final = _NUMBERS["ACTIVITY_TASK_STARTED"]
ACTIVITY_TASK_COMPLETED: Final = _NUMBERS["ACTIVITY_TASK_COMPLETED"]
ACTIVITY_TASK_FAILED: Final = _NUMBERS["ACTIVITY_TASK_FAILED"]
ACTIVITY_TASK_TIMED_OUT: Final = _NUMBERS["ACTIVITY_TASK_TIMED_OUT"]
ACTIVITY_TASK_CANCEL_REQUESTED: Final = _NUMBERS["ACTIVITY_TASK_CANCEL_REQUESTED"]
ACTIVITY_TASK_CANCELED: Final = _NUMBERS["ACTIVITY_TASK_CANCELED"]
TIMER_STARTED: Final = _NUMBERS["TIMER_STARTED"]
TIMER_FIRED: Final = _NUMBERS["TIMER_FIRED"]
TIMER_CANCELED: Final = _NUMBERS["TIMER_CANCELED"]
MARKER_RECORDED: Final = _NUMBERS["MARKER_RECORDED"]
START_CHILD_INITIATED: Final = _NUMBERS["START_CHILD_WORKFLOW_EXECUTION_INITIATED"]
START_CHILD_FAILED: Final = _NUMBERS["START_CHILD_WORKFLOW_EXECUTION_FAILED"]
CHILD_STARTED: Final = _NUMBERS["CHILD_WORKFLOW_EXECUTION_STARTED"]
CHILD_COMPLETED: Final = _NUMBERS["CHILD_WORKFLOW_EXECUTION_COMPLETED"]
CHILD_FAILED: Final = _NUMBERS["CHILD_WORKFLOW_EXECUTION_FAILED"]
CHILD_CANCELED: Final = _NUMBERS["CHILD_WORKFLOW_EXECUTION_CANCELED"]
CHILD_TIMED_OUT: Final = _NUMBERS["CHILD_WORKFLOW_EXECUTION_TIMED_OUT"]
CHILD_TERMINATED: Final = _NUMBERS["CHILD_WORKFLOW_EXECUTION_TERMINATED"]
SIGNAL_EXTERNAL_INITIATED: Final = _NUMBERS["SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED"]
SIGNAL_EXTERNAL_FAILED: Final = _NUMBERS["SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED"]
EXTERNAL_SIGNALED: Final = _NUMBERS["EXTERNAL_WORKFLOW_EXECUTION_SIGNALED"]
CANCEL_EXTERNAL_INITIATED: Final = _NUMBERS["REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED"]
CANCEL_EXTERNAL_FAILED: Final = _NUMBERS["REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED"]
EXTERNAL_CANCEL_REQUESTED: Final = _NUMBERS["EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED"]
UPSERT_SEARCH_ATTRIBUTES: Final = _NUMBERS["UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"]
PROPERTIES_MODIFIED: Final = _NUMBERS["WORKFLOW_PROPERTIES_MODIFIED"]
NEXUS_SCHEDULED: Final = _NUMBERS["NEXUS_OPERATION_SCHEDULED"]
NEXUS_STARTED: Final = _NUMBERS["NEXUS_OPERATION_STARTED"]
NEXUS_COMPLETED: Final = _NUMBERS["NEXUS_OPERATION_COMPLETED"]
NEXUS_FAILED: Final = _NUMBERS["NEXUS_OPERATION_FAILED"]
NEXUS_CANCELED: Final = _NUMBERS["NEXUS_OPERATION_CANCELED"]
NEXUS_TIMED_OUT: Final = _NUMBERS["NEXUS_OPERATION_TIMED_OUT"]
NEXUS_CANCEL_REQUESTED: Final = _NUMBERS["NEXUS_OPERATION_CANCEL_REQUESTED"]
NEXUS_CANCEL_COMPLETED: Final = _NUMBERS["NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED"]
NEXUS_CANCEL_FAILED: Final = _NUMBERS["NEXUS_OPERATION_CANCEL_REQUEST_FAILED"]

COMMAND_EVENTS: Final = frozenset(
    {
        ACTIVITY_TASK_SCHEDULED,
        ACTIVITY_TASK_CANCEL_REQUESTED,
        MARKER_RECORDED,
        CANCEL_EXTERNAL_INITIATED,
        SIGNAL_EXTERNAL_INITIATED,
        START_CHILD_INITIATED,
        TIMER_STARTED,
        TIMER_CANCELED,
        UPSERT_SEARCH_ATTRIBUTES,
        PROPERTIES_MODIFIED,
        NEXUS_SCHEDULED,
        NEXUS_CANCEL_REQUESTED,
        WORKFLOW_EXECUTION_CANCELED,
        WORKFLOW_EXECUTION_COMPLETED,
        WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
        WORKFLOW_EXECUTION_FAILED,
        WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        WORKFLOW_EXECUTION_UPDATE_REJECTED,
        WORKFLOW_EXECUTION_UPDATE_COMPLETED,
    }
)
"""Events that record a command of the workflow code."""

FINAL_EVENTS: Final = frozenset(
    {
        WORKFLOW_EXECUTION_COMPLETED,
        WORKFLOW_EXECUTION_FAILED,
        WORKFLOW_EXECUTION_TIMED_OUT,
        WORKFLOW_EXECUTION_CANCELED,
        WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
        WORKFLOW_EXECUTION_TERMINATED,
    }
)
"""Events after which nothing follows."""

_REFERRING: Final[dict[int, str]] = {
    ACTIVITY_TASK_COMPLETED: "scheduled_event_id",
    ACTIVITY_TASK_FAILED: "scheduled_event_id",
    ACTIVITY_TASK_TIMED_OUT: "scheduled_event_id",
    ACTIVITY_TASK_CANCELED: "scheduled_event_id",
    TIMER_FIRED: "started_event_id",
    CANCEL_EXTERNAL_FAILED: "initiated_event_id",
    EXTERNAL_CANCEL_REQUESTED: "initiated_event_id",
    START_CHILD_FAILED: "initiated_event_id",
    CHILD_STARTED: "initiated_event_id",
    CHILD_COMPLETED: "initiated_event_id",
    CHILD_FAILED: "initiated_event_id",
    CHILD_CANCELED: "initiated_event_id",
    CHILD_TIMED_OUT: "initiated_event_id",
    CHILD_TERMINATED: "initiated_event_id",
    SIGNAL_EXTERNAL_FAILED: "initiated_event_id",
    EXTERNAL_SIGNALED: "initiated_event_id",
    NEXUS_STARTED: "scheduled_event_id",
    NEXUS_COMPLETED: "scheduled_event_id",
    NEXUS_FAILED: "scheduled_event_id",
    NEXUS_TIMED_OUT: "scheduled_event_id",
    NEXUS_CANCELED: "scheduled_event_id",
    NEXUS_CANCEL_COMPLETED: "scheduled_event_id",
    NEXUS_CANCEL_FAILED: "scheduled_event_id",
}

_ATTRIBUTES: Final[dict[int, str]] = {
    number: f"{name.lower()}_event_attributes" for name, number in _NUMBERS.items() if number
}

INITIATING_EVENT_ID: Final[dict[int, Callable[[HistoryEvent], int]]] = {
    number: attrgetter(f"{_ATTRIBUTES[number]}.{field}") for number, field in _REFERRING.items()
}
"""For events that answer a command: the id of the event that recorded the command."""

EVENT_NAMES: Final[dict[int, str]] = {
    number: "".join(part.capitalize() for part in name.split("_")) for name, number in _NUMBERS.items()
}

_TELLING: Final[dict[int, tuple[tuple[str, str], ...]]] = {
    ACTIVITY_TASK_SCHEDULED: (("activity_type", "activity_type.name"), ("activity_id", "activity_id")),
    ACTIVITY_TASK_CANCEL_REQUESTED: (("scheduled_event_id", "scheduled_event_id"),),
    TIMER_STARTED: (("timer_id", "timer_id"),),
    TIMER_FIRED: (("timer_id", "timer_id"),),
    TIMER_CANCELED: (("timer_id", "timer_id"),),
    MARKER_RECORDED: (("marker_name", "marker_name"),),
    START_CHILD_INITIATED: (("workflow_type", "workflow_type.name"), ("workflow_id", "workflow_id")),
    SIGNAL_EXTERNAL_INITIATED: (
        ("signal_name", "signal_name"),
        ("workflow_id", "workflow_execution.workflow_id"),
    ),
    CANCEL_EXTERNAL_INITIATED: (("workflow_id", "workflow_execution.workflow_id"),),
    WORKFLOW_EXECUTION_UPDATE_ACCEPTED: (("update", "accepted_request.input.name"),),
    WORKFLOW_EXECUTION_UPDATE_COMPLETED: (("update_id", "meta.update_id"),),
    WORKFLOW_EXECUTION_FAILED: (("message", "failure.message"),),
    WORKFLOW_EXECUTION_SIGNALED: (("signal_name", "signal_name"),),
    WORKFLOW_EXECUTION_CONTINUED_AS_NEW: (("workflow_type", "workflow_type.name"),),
    NEXUS_SCHEDULED: (("endpoint", "endpoint"), ("service", "service"), ("operation", "operation")),
}


def attributes_of(event: HistoryEvent) -> Any:
    """The attribute message that belongs to the event's type."""
    return getattr(event, _ATTRIBUTES[event.event_type])


def event_name(event_type: int) -> str:
    """The name a person knows an event type by, such as "ActivityTaskScheduled"."""
    return EVENT_NAMES.get(event_type, f"event type {event_type}")


def describe(event: HistoryEvent) -> str:
    """One line that names what the event recorded, with the ids and types a person recognises."""
    event_type = int(event.event_type)
    parts = []
    for label, path in _TELLING.get(event_type, ()):
        parts.append(f"{label} {attrgetter(path)(attributes_of(event))!r}")
    return f"{event_name(event_type)}({', '.join(parts)})" if parts else event_name(event_type)


def event_time_ns(event: HistoryEvent) -> int:
    """When the event was written, in nanoseconds."""
    time = event.event_time
    return time.seconds * 1_000_000_000 + time.nanos
