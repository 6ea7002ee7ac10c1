"""Turns an event history into aligned lines for people: when, which event, and what it means."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from perdure.api.common.v1 import Payloads
from perdure.api.enums.v1 import EventType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent

USUAL_COLUMNS: Final = 120
"""Width of a line where the output is no terminal."""
LEAST_MEANING_COLUMNS: Final = 40


@dataclass(frozen=True)
class Moment:
    """Something the driver did at a time, shown between the events."""

    at: datetime
    text: str


def event_name(event: HistoryEvent) -> str:
    """The event's name in the usual form, such as ActivityTaskScheduled."""
    words = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").split("_")
    return "".join(word.capitalize() for word in words)


def event_time(event: HistoryEvent) -> datetime:
    """When the event happened, in UTC."""
    return event.event_time.ToDatetime(UTC)


def _values(payloads: Payloads) -> str:
    return ", ".join(payload.data.decode(errors="replace") for payload in payloads.payloads)


def _reason(failure: Failure) -> str:
    timeout = failure.timeout_failure_info.timeout_type
    kinds = {1: "start-to-close", 2: "schedule-to-start", 3: "schedule-to-close", 4: "heartbeat"}
    return f"{kinds[timeout]} timeout" if timeout in kinds else failure.message


class _Meanings:
    """What each event says, with the names that later events refer to by event id."""

    def __init__(self, events: Sequence[HistoryEvent]) -> None:
        self._names: dict[int, str] = {}
        for event in events:
            kind = event.WhichOneof("attributes")
            if kind == "activity_task_scheduled_event_attributes":
                scheduled = event.activity_task_scheduled_event_attributes
                self._names[event.event_id] = scheduled.activity_type.name

    def of(self, event: HistoryEvent) -> str:
        """One line about `event`; empty for an event that needs no explanation."""
        kind = event.WhichOneof("attributes") or ""
        describe = self._table().get(kind.removesuffix("_event_attributes"))
        return describe(getattr(event, kind)) if describe else ""

    def _table(self) -> Mapping[str, Callable[[Any], str]]:
        return {
            "workflow_execution_started": lambda a: f"{a.workflow_type.name}({_values(a.input)})",
            "workflow_execution_signaled": lambda a: f"signal {a.signal_name!r} from outside",
            "workflow_execution_completed": lambda a: f"result {_values(a.result)}",
            "workflow_execution_failed": lambda a: f"failed: {_reason(a.failure)}",
            "workflow_task_scheduled": lambda a: "the workflow has something to decide",
            "workflow_task_started": lambda a: f"a worker took it ({a.identity.partition('@')[0]})",
            "workflow_task_completed": lambda a: "decided; the next events are its decisions",
            "workflow_task_timed_out": lambda a: "its worker never answered; offered to the others",
            "workflow_task_failed": lambda a: f"failed: {_reason(a.failure)}",
            "activity_task_scheduled": lambda a: f"{a.activity_type.name}({_values(a.input)})",
            "activity_task_started": self._activity_started,
            "activity_task_completed": lambda a: self._closed(a, f"done {_values(a.result)}".rstrip()),
            "activity_task_failed": lambda a: self._closed(a, f"failed: {_reason(a.failure)}"),
            "activity_task_timed_out": lambda a: self._closed(a, f"timed out: {_reason(a.failure)}"),
            "timer_started": lambda a: (
                f"wait at most {a.start_to_fire_timeout.ToTimedelta().total_seconds():g} s"
            ),
            "timer_fired": lambda a: "the time is up",
            "timer_canceled": lambda a: "no longer needed",
        }

    def _closed(self, attributes: Any, what: str) -> str:
        return f"{self._names.get(attributes.scheduled_event_id, '?')}: {what}"

    def _activity_started(self, attributes: Any) -> str:
        name = self._names.get(attributes.scheduled_event_id, "?")
        text = f"{name}: attempt {attributes.attempt}"
        if attributes.HasField("last_failure"):
            text += f" (attempt {attributes.attempt - 1} ended with: {_reason(attributes.last_failure)})"
        return text


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def render(events: Sequence[HistoryEvent], moments: Sequence[Moment]) -> list[str]:
    """Aligned lines in the order of time: events by id, with the driver's own moments between them."""
    meanings = _Meanings(events)
    start = event_time(events[0])
    names = [event_name(event) for event in events]
    width = max(len(name) for name in names)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else USUAL_COLUMNS
    limit = max(LEAST_MEANING_COLUMNS, columns - width - len("+0000.00s  000    "))
    rows = [f"{'time':>9}  {'id':>3}  {'event':<{width}}  meaning", "-" * columns]
    waiting = sorted(moments, key=lambda moment: moment.at)
    for event, name in zip(events, names, strict=True):
        while waiting and waiting[0].at <= event_time(event):
            rows.append(_moment_row(waiting.pop(0), start))
        offset_s = (event_time(event) - start).total_seconds()
        meaning = _short(meanings.of(event), limit)
        rows.append(f"{offset_s:+8.2f}s  {event.event_id:>3}  {name:<{width}}  {meaning}".rstrip())
    return rows + [_moment_row(moment, start) for moment in waiting]


def _moment_row(moment: Moment, start: datetime) -> str:
    return f"{(moment.at - start).total_seconds():+8.2f}s  ===  {moment.text}"
