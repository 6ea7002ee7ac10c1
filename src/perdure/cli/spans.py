"""What happened when in a run: activities, timers, children, Nexus operations and updates as spans of time.

From events alone: no call and no output lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from perdure.api.enums import v1 as enums
from perdure.api.history import v1 as history
from perdure.cli.histories import attributes, label
from perdure.cli.show import time_of


@dataclass
class Span:
    """One thing that took time.

    Attributes:
        kind: such as `activity`.
        name: type and id, for people.
        began: when.
        ended: when, None while it goes on.
        state: `running`, `completed`, `failed`, `timed out`, `canceled`, `fired`, ...
        started: when a worker began with the last attempt.
        attempts: how many there were.
        workflow_id, run_id: of a child.
        detail: a failure's message.
        events: ids of its events.
    """

    kind: str
    name: str
    began: datetime
    ended: datetime | None = None
    state: str = "running"
    started: datetime | None = None
    attempts: int = 1
    workflow_id: str = ""
    run_id: str = ""
    detail: str = ""
    events: list[int] = field(default_factory=list)


@dataclass
class Mark:
    """One thing that happened at a moment: a signal, a cancellation request."""

    name: str
    at: datetime
    event_id: int


@dataclass
class Story:
    """A run as spans and marks.

    Attributes:
        whole: the run itself.
        spans: in the order in which they began.
        marks: in order.
        events: how many events there were.
    """

    whole: Span
    spans: list[Span]
    marks: list[Mark]
    events: int


_Named = Callable[[Any], str]
_OPENING: Final[dict[str, tuple[str, _Named]]] = {
    "activity_task_scheduled": ("activity", lambda each: f"{each.activity_type.name} {each.activity_id}"),
    "timer_started": ("timer", lambda each: f"timer {each.timer_id}"),
    "start_child_workflow_execution_initiated": (
        "child",
        lambda each: f"{each.workflow_type.name} {each.workflow_id}",
    ),
    "nexus_operation_scheduled": ("nexus", lambda each: f"{each.service}.{each.operation}"),
    "workflow_execution_update_accepted": (
        "update",
        lambda each: f"{each.accepted_request.input.name} {each.protocol_instance_id}",
    ),
}
"""Events that begin a span, by the name of their attributes: its kind and its name."""

_REFERENCES: Final = ("scheduled_event_id", "started_event_id", "initiated_event_id", "accepted_event_id")
_MARKS: Final[dict[str, _Named]] = {
    "workflow_execution_signaled": lambda each: f"signal {each.signal_name}",
    "workflow_execution_cancel_requested": lambda each: "cancellation requested",
    "workflow_execution_paused": lambda each: "paused",
    "workflow_execution_unpaused": lambda each: "unpaused",
    "marker_recorded": lambda each: f"marker {each.marker_name}",
    "workflow_task_failed": lambda each: f"workflow task failed: {each.failure.message}",
    "workflow_task_timed_out": lambda each: "workflow task timed out",
}
_ENDINGS: Final = {
    "Completed": "completed", "Failed": "failed", "TimedOut": "timed out", "Canceled": "canceled",
    "Terminated": "terminated", "Fired": "fired", "ContinuedAsNew": "continued as new", "Rejected": "rejected",
}  # fmt: skip


def story_of(events: Iterable[history.HistoryEvent]) -> Story | None:
    """What happened in a run; None without events."""
    open_spans: dict[int, Span] = {}
    spans: list[Span] = []
    marks: list[Mark] = []
    whole: Span | None = None
    last_id = 0
    for event in events:
        last_id = event.event_id
        at, found = time_of(event.event_time), attributes(event)
        if at is None or found is None:
            continue
        kind = (event.WhichOneof("attributes") or "").removesuffix("_event_attributes")
        if whole is None:
            whole = Span(
                "workflow", found.workflow_type.name if "workflow_type" in _fields(found) else "workflow", at
            )
        elif kind.startswith("workflow_execution_") and event.event_type in _CLOSING:
            _end(whole, event, at, found)
        if kind in _OPENING:
            span_kind, named = _OPENING[kind]
            span = Span(span_kind, named(found).strip(), at, events=[event.event_id])
            span.workflow_id = getattr(found, "workflow_id", "") if span_kind == "child" else ""
            spans.append(span)
            open_spans[event.event_id] = span
        elif kind in _MARKS:
            marks.append(Mark(_MARKS[kind](found), at, event.event_id))
        else:
            _continue(open_spans, event, at, found)
    return None if whole is None else Story(whole, spans, marks, last_id)


_CLOSING: Final = frozenset(
    {
        enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        enums.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        enums.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    }
)


def _fields(message: Any) -> Any:
    return message.DESCRIPTOR.fields_by_name


def _continue(open_spans: dict[int, Span], event: history.HistoryEvent, at: datetime, found: Any) -> None:
    """Takes an event to the span that it belongs to, if it belongs to one."""
    fields = _fields(found)
    span = next(
        (
            open_spans[getattr(found, name)]
            for name in _REFERENCES
            if name in fields and getattr(found, name) in open_spans
        ),
        None,
    )
    if span is None:
        return
    span.events.append(event.event_id)
    if any(label(event).endswith(ending) for ending in _ENDINGS):
        _end(span, event, at, found)
        return
    if label(event).endswith("Started"):
        span.started = at
    if "attempt" in fields:
        span.attempts = max(span.attempts, found.attempt)
    if "last_failure" in fields and found.HasField("last_failure"):
        span.detail = found.last_failure.message
    if "workflow_execution" in fields:
        span.run_id = found.workflow_execution.run_id


def _end(span: Span, event: history.HistoryEvent, at: datetime, found: Any) -> None:
    name = label(event)
    span.ended = at
    span.state = next((state for ending, state in _ENDINGS.items() if name.endswith(ending)), name)
    fields = _fields(found)
    if "failure" in fields and found.HasField("failure"):
        failure = found.failure
        while failure.HasField("cause"):
            failure = failure.cause
        span.detail = failure.message
    if "outcome" in fields and found.outcome.HasField("failure"):
        span.state, span.detail = "failed", found.outcome.failure.message
    if "new_execution_run_id" in fields:
        span.run_id = found.new_execution_run_id or span.run_id
