"""What came into a run and what came out of it, read from its events. The same for a run and for a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.ui.plain import iso, plain
from perdure.ui.timeline.build import words

_CLOSED: Final = {
    "workflow_execution_completed_event_attributes": "Completed",
    "workflow_execution_failed_event_attributes": "Failed",
    "workflow_execution_canceled_event_attributes": "Canceled",
    "workflow_execution_terminated_event_attributes": "Terminated",
    "workflow_execution_timed_out_event_attributes": "Timed out",
    "workflow_execution_continued_as_new_event_attributes": "Continued as new",
}
"""The attributes of an event that closes a run, and the status it closes with."""
_ORIGIN: Final = (
    "input", "identity", "cron_schedule", "retry_policy", "attempt", "continued_execution_run_id",
    "first_execution_run_id", "parent_workflow_execution", "last_completion_result",
    "original_execution_run_id", "header", "priority",
)  # fmt: skip
_OUTCOME: Final = ("result", "failure", "details", "reason", "identity", "new_execution_run_id")


def input_of(first: HistoryEvent | None) -> dict[str, Any]:
    """What the run began with."""
    if first is None or not first.HasField("workflow_execution_started_event_attributes"):
        return {}
    attributes = plain(first.workflow_execution_started_event_attributes)
    return {name: attributes[name] for name in _ORIGIN if name in attributes}


def result_of(last: HistoryEvent | None) -> dict[str, Any]:
    """How the run ended: result, failure or reason; empty for an open one."""
    name = last.WhichOneof("attributes") if last is not None else None
    if last is None or name not in _CLOSED:
        return {}
    attributes = getattr(last, name)
    shown = plain(attributes)
    kept: dict[str, Any] = {name: shown[name] for name in _OUTCOME if name in shown}
    if "failure" in kept:
        kept["failure_words"] = words(attributes.failure)
    return {
        "status": _CLOSED[name],
        "event_id": last.event_id,
        "time": iso(last.event_time.ToNanoseconds()),
        **kept,
    }


def sdk_of(events: Sequence[HistoryEvent]) -> dict[str, str]:
    """The SDK that runs the code, and its version: workers say it with the first workflow task they complete."""
    for event in reversed(events):
        said = event.workflow_task_completed_event_attributes.sdk_metadata
        if said.sdk_name:
            return {"name": said.sdk_name, "version": said.sdk_version}
    return {}


def task_failure(events: Sequence[HistoryEvent]) -> dict[str, Any] | None:
    """The failure of the workflow's code at its last workflow task."""
    for event in reversed(events):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return None
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failure = event.workflow_task_failed_event_attributes.failure
            return {"event_id": event.event_id, "failure": plain(failure)}
    return None
