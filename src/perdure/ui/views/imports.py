"""A history from a file: looked at like that of a run, and kept nowhere. The page holds it and sends it again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from perdure.api.history.v1 import HistoryEvent
from perdure.client._saved_history import SavedHistory, read_saved_history
from perdure.ui.config import HISTORY_PAGE_EVENTS, MAX_UPLOAD_BYTES, TIMELINE_EVENTS
from perdure.ui.context import Context
from perdure.ui.page import Page
from perdure.ui.plain import iso, plain
from perdure.ui.timeline.build import build
from perdure.ui.timeline.svg import say
from perdure.ui.views import timelines
from perdure.ui.views.history import event_view
from perdure.ui.views.outcome import input_of, result_of, sdk_of, task_failure

_TEMPLATE: Final = "import.html"
_TITLE: Final = "A history from a file"


def _page(context: Context, data: dict[str, Any], text: str = "", **only_html: Any) -> Page:
    shown = {"namespace": context.namespace, "most_bytes": MAX_UPLOAD_BYTES, "error": "", **data}
    url = context.url("namespaces", context.namespace, "import-history")
    status = 400 if shown["error"] else 200
    return Page(_TEMPLATE, _TITLE, shown, status, {"text": text, "url": url, "posts": "import", **only_html})


async def ask(context: Context) -> Page:
    """The page that asks for a history."""
    return _page(context, {})


async def show(context: Context) -> Page:
    """Timeline and history of what was sent, or what is wrong with it."""
    text = next((one for name in ("file", "text") for one in context.form.get(name, ()) if one), "")
    if not text.strip():
        return _page(context, {"error": "Choose a file, or paste its text."})
    try:
        # It takes seconds where it is long, and other requests are served by the same loop.
        found = await asyncio.to_thread(read_saved_history, text)
    except ValueError as error:
        return _page(context, {"error": f"This {error}."}, text)
    return await _found(context, found, text)


async def _found(context: Context, found: SavedHistory, text: str) -> Page:
    events = found.events
    is_long = len(events) > TIMELINE_EVENTS
    is_last = is_long and context.query.get("part") != "first"
    part = events[-TIMELINE_EVENTS:] if is_last else events[:TIMELINE_EVENTS]
    number, wanted = _wanted(context, len(events))
    begin = (number - 1) * HISTORY_PAGE_EVENTS
    listed = events[begin : begin + HISTORY_PAGE_EVENTS]
    # When the file was written is not known: a run that was open then is shown up to its last event.
    last_ns = max(event.event_time.ToNanoseconds() for event in part)
    timeline = build(part, None, last_ns)
    warning = await context.decode(events[0], events[-1], *listed[:])
    data = {
        "workflow": _head(context, found),
        "input": input_of(events[0]),
        "result": result_of(events[-1]),
        "sdk": sdk_of(events),
        "user_metadata": plain(events[0].user_metadata),
        "task_failure": task_failure(events) if timeline.is_open else None,
        "waiting_for": [say(wait) for wait in timeline.waiting_for],
        "timeline": timelines.data_of(timeline, len(events), is_last=is_last, with_items=context.is_json),
        "events": [event_view(event) for event in listed],
        "event": wanted,
        "page": number,
        "pages": _pages(len(events)),
        "codec_error": warning,
    }
    more = timelines.shown(context, timeline, lambda event_id: f"#event-{event_id}")
    return _page(context, data, text, is_long=is_long, **more)


def _pages(count: int) -> int:
    return -(-count // HISTORY_PAGE_EVENTS)


def _wanted(context: Context, count: int) -> tuple[int, int]:
    """The number of the page to show, and the event that it is shown for; 0 for none."""
    number = context.number("page", 0, most=_pages(count))
    text = context.field("event")
    if number or not (text.isascii() and text.isdigit()):
        return max(number, 1), 0
    wanted = min(max(int(text[:9]), 1), count)
    return _pages(wanted), wanted


def _head(context: Context, found: SavedHistory) -> dict[str, Any]:
    """What the file says of the run, with the names of the server's answers."""
    first, last = found.events[0], found.events[-1]
    started = first.workflow_execution_started_event_attributes
    status = result_of(last).get("status", "")
    took_ns = last.event_time.ToNanoseconds() - first.event_time.ToNanoseconds()
    return {
        "execution": {"workflow_id": found.workflow_id, "run_id": found.run_id},
        "type": {"name": started.workflow_type.name},
        "task_queue": started.task_queue.name,
        "status": status or "Running",
        "is_open": not status,
        "start_time": iso(first.event_time.ToNanoseconds()),
        "end_time": iso(last.event_time.ToNanoseconds()),
        "duration_s": max(took_ns, 0) / 1e9,
        "history_length": len(found.events),
        "history_size_bytes": _size_bytes(found.events),
        "server_url": context.url(
            "namespaces", context.namespace, "workflows", found.workflow_id, found.run_id
        )
        if found.workflow_id and found.run_id
        else "",
    }


def _size_bytes(events: Sequence[HistoryEvent]) -> int:
    return sum(event.ByteSize() for event in events)
