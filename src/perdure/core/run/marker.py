"""Markers: what SDKs note for their own replay (local activities, patches). The server keeps them as they are."""

from __future__ import annotations

from perdure.api.command.v1 import RecordMarkerCommandAttributes
from perdure.api.enums.v1 import EventType
from perdure.core.run.transition import Transition

_RECORDED = EventType.Value("EVENT_TYPE_MARKER_RECORDED")


def record(tx: Transition, command: RecordMarkerCommandAttributes, completed_event_id: int) -> None:
    """Writes a marker."""
    event = tx.new_event(_RECORDED)
    attributes = event.marker_recorded_event_attributes
    attributes.marker_name = command.marker_name
    for key, payloads in command.details.items():
        attributes.details[key].CopyFrom(payloads)
    for name in ("header", "failure"):
        if command.HasField(name):
            getattr(attributes, name).CopyFrom(getattr(command, name))
    attributes.workflow_task_completed_event_id = completed_event_id
    tx.append(event)
