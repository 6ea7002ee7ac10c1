"""Histories that somebody saved: from the JSON of any tool to the events of one run, checked to be whole.

May live here: what makes a text a history. May not: files, forms, and what is done with the events.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.client._history import _history_from_json


@dataclass(frozen=True)
class SavedHistory:
    """The events of one run, and which run it is.

    Attributes:
        workflow_id: As the text says it; empty if it does not.
        run_id: Of the run.
        events: From its start on, without a gap.
    """

    workflow_id: str
    run_id: str
    events: Sequence[HistoryEvent]


def read_saved_history(text: str, workflow_id: str = "") -> SavedHistory:
    """Read a history as the command line, the web UI, replayers or another tool wrote it.

    Args:
        text: JSON: an object with `events`, one with such a `history`, or the events alone.
        workflow_id: For a text that does not say it.

    Raises:
        ValueError: It is no history, or is not whole; the message goes on where "this file" leaves off.
    """
    try:
        parsed = json.loads(text)
        if isinstance(parsed, list):
            parsed = {"events": parsed}
        if isinstance(parsed, dict) and isinstance(parsed.get("history"), dict):
            parsed = {**parsed, **parsed["history"]}
        events = list(_history_from_json(parsed).events)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no history: {error}") from error
    if not events or not events[0].HasField("workflow_execution_started_event_attributes"):
        raise ValueError("is no history of a workflow: it does not begin with its start")
    for number, event in enumerate(events, 1):
        if event.event_id != number:
            raise ValueError(f"is not whole: event {number} is not where it should be")
        _check_kind(event)
    started = events[0].workflow_execution_started_event_attributes
    return SavedHistory(
        str(parsed.get("workflowId") or workflow_id or started.workflow_id),
        str(parsed.get("runId") or started.original_execution_run_id),
        events,
    )


def _check_kind(event: HistoryEvent) -> None:
    """An event holds what its type says; types of newer servers have no name here, and are left alone."""
    if event.event_type not in EventType.values() or not event.event_type:
        return
    name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower()
    held = (event.WhichOneof("attributes") or "nothing").removesuffix("_event_attributes")
    if held != name:
        raise ValueError(f"is damaged: event {event.event_id} says it is {name}, and holds {held}")
