"""The history of a run: event by event or compact, filtered, searched, page by page, and as a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.api.registry import POOL
from perdure.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from perdure.ui.config import HISTORY_PAGE_EVENTS, MAX_SEARCHED_EVENTS
from perdure.ui.context import Context
from perdure.ui.page import Download, Later, Page
from perdure.ui.plain import iso, plain
from perdure.ui.timeline.build import build, words
from perdure.ui.timeline.svg import say
from perdure.ui.views import tabs
from perdure.ui.views.runs import describe, events_of, head, page_of_events, run_url
from perdure.ui.views.workflows import decode_token, encode_token

CATEGORIES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "task": ("Workflow tasks", ("WORKFLOW_TASK",)),
    "activity": ("Activities", ("ACTIVITY_",)),
    "timer": ("Timers", ("TIMER_",)),
    "child": ("Child workflows", ("START_CHILD", "CHILD_WORKFLOW")),
    "signal": (
        "Signals",
        ("WORKFLOW_EXECUTION_SIGNALED", "SIGNAL_EXTERNAL", "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED"),
    ),
    "update": ("Updates", ("WORKFLOW_EXECUTION_UPDATE_",)),
    "nexus": ("Nexus operations", ("NEXUS_",)),
    "marker": ("Markers", ("MARKER_",)),
    "failure": ("Failures", ("_FAILED", "_TIMED_OUT", "_TERMINATED")),
    "life": ("Workflow", ("WORKFLOW_EXECUTION_", "UPSERT_", "WORKFLOW_PROPERTIES")),
}
"""Name of a category to its words and to how the names of its events begin (or end, for failures)."""
MODES: Final = ("full", "compact")
_PAGE_BATCHES: Final = 40
_MAX_FOUND: Final = 200
_FIND_BATCHES: Final = 256


def _name(event: HistoryEvent) -> str:
    """The name of an event's type; a newer server may have one that has no name here."""
    if event.event_type not in EventType.values():
        return f"EVENT_TYPE_{event.event_type}"
    return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")


def category(event: HistoryEvent) -> str:
    """The category of an event; of a failure, what it is a failure of."""
    name = _name(event)
    for key, (_, starts) in CATEGORIES.items():
        if key != "failure" and name.startswith(starts):
            return key
    return "life"


def is_failure(event: HistoryEvent) -> bool:
    """Whether an event says that something went wrong."""
    return _name(event).endswith(CATEGORIES["failure"][1])


def type_words(event: HistoryEvent) -> str:
    """The type of an event as the documentation has it: `ActivityTaskScheduled`."""
    name = _name(event)
    return "".join(word.capitalize() for word in name.split("_"))


def event_view(event: HistoryEvent) -> dict[str, Any]:
    """An event as plain values."""
    name = event.WhichOneof("attributes")
    attributes = plain(getattr(event, name)) if name is not None else {}
    return {
        "event_id": event.event_id,
        "time": iso(event.event_time.ToNanoseconds()),
        "type": type_words(event),
        "category": category(event),
        "is_failure": is_failure(event),
        "summary": summary(event, attributes),
        "attributes": attributes,
        "user_metadata": plain(event.user_metadata) if event.HasField("user_metadata") else None,
        "links": [plain(link) for link in event.links],
    }


_SUMMARIES: Final = (
    "activity_type", "signal_name", "timer_id", "workflow_type", "marker_name", "operation", "activity_id",
    "workflow_id", "start_to_fire_timeout", "attempt", "cause", "reason", "result", "input", "identity",
)  # fmt: skip


def summary(event: HistoryEvent, attributes: dict[str, Any]) -> list[list[Any]]:
    """What tells an event from others of its type: at most four names and values."""
    found: list[list[Any]] = []
    name = event.WhichOneof("attributes")
    failure = getattr(getattr(event, name), "failure", None) if name is not None else None
    if failure is not None and words(failure):
        found.append(["failure", words(failure)])
    for key in _SUMMARIES:
        if key in attributes and len(found) < 4:
            value = attributes[key]
            if isinstance(value, dict) and "name" in value:
                value = value["name"]
            elif key in ("result", "input") and isinstance(value, list):
                value = ", ".join(_brief(one) for one in value)
            elif key == "start_to_fire_timeout":
                value = f"{value:g} s"
            found.append([key, value])
    return found


def _brief(payload: dict[str, Any]) -> str:
    if payload["payload"] in ("json/plain", "json/protobuf", "binary/null"):
        return json.dumps(payload["value"], ensure_ascii=False)
    return f"{payload['size_bytes']} bytes, {payload['payload']}"


def matches(event: HistoryEvent, chosen: str, text: str) -> bool:
    """Whether an event is in a category and holds a text; both may be empty."""
    if chosen == "failure" and not is_failure(event):
        return False
    if chosen and chosen != "failure" and category(event) != chosen:
        return False
    if not text:
        return True
    if text == str(event.event_id) or text.casefold() in type_words(event).casefold():
        return True
    # Names and payloads stand in the message as they are; writing each event out would take a hundred times longer.
    return text.casefold().encode() in event.SerializeToString().lower()


async def show(context: Context) -> Later:
    """A page of the history."""
    described = await describe(context)
    workflow = head(context, described)
    frame = Page("run_frame.html", _title(workflow), {"workflow": workflow})
    return Later(frame, partial(_whole, context, described, workflow))


def _title(workflow: Mapping[str, Any]) -> str:
    return f"{workflow['execution']['workflow_id']} · History"


async def _whole(
    context: Context, described: DescribeWorkflowExecutionResponse, workflow: Mapping[str, Any]
) -> Page:
    length = described.workflow_execution_info.history_length
    chosen = context.query.get("category", "")
    chosen = chosen if chosen in CATEGORIES else ""
    text = context.query.get("search", "").strip()
    mode = context.query.get("mode", "full")
    mode = mode if mode in MODES else "full"
    is_reverse = context.query.get("order") == "newest"
    wanted = context.number("event", 0, most=10_000_000)
    is_reverse = is_reverse and not wanted
    if wanted:
        reading = _around(context, wanted, length)
    elif chosen or text:
        reading = _search(context, chosen, text, is_reverse)
    else:
        reading = _page(context, is_reverse)
    (events, next_page, read), counts = await asyncio.gather(reading, tabs.counts(context, described))
    warning = await context.decode(*events)
    data = {
        "namespace": context.namespace,
        "workflow": workflow,
        "counts": counts,
        "events": [event_view(event) for event in events],
        "groups": _compact(context, events, described) if mode == "compact" else [],
        "next_page": next_page,
        "read": read,
        "filter": {
            "category": chosen,
            "search": text,
            "mode": mode,
            "order": "newest" if is_reverse else "oldest",
        },
        "event": wanted,
        "codec_error": warning,
    }
    urls = {"download": run_url(context, "history", "download")}
    return Page("history.html", _title(workflow), data, only_html={"categories": CATEGORIES, "urls": urls})


async def _page(context: Context, is_reverse: bool) -> tuple[list[HistoryEvent], str, int]:
    """The page of the address: `page` is the server's token and how many events of its page were shown before.

    A server counts batches of events and not events, and a batch may hold hundreds.
    """
    encoded, _, shown = context.query.get("page", "").partition(".")
    skipped = int(shown) if shown.isascii() and shown.isdigit() else 0
    events, after = await page_of_events(
        context, decode_token(encoded), is_reverse=is_reverse, batches=_PAGE_BATCHES
    )
    end = skipped + HISTORY_PAGE_EVENTS
    next_page = f"{encoded}.{end}" if end < len(events) else encode_token(after)
    return events[skipped:end], next_page, len(events)


def _compact(context: Context, events: Sequence[HistoryEvent], described: Any) -> list[dict[str, Any]]:
    """The events of a page put together: one row for each thing that happened."""
    ordered = sorted(events, key=lambda event: event.event_id)
    timeline = build(ordered, described, context.now_ns)
    return [
        {
            "event_id": item.event_id,
            "last_event_id": item.last_event_id,
            "kind": item.kind.value,
            "name": item.name,
            "key": item.key,
            "summary": item.summary,
            "state": item.state.value,
            "start": iso(item.start_ns),
            "duration_s": None if item.end_ns is None else (item.end_ns - item.start_ns) / 1e9,
            "attempts": max((segment.attempt for segment in item.segments), default=0),
            "detail": say(item.detail),
        }
        for item in timeline.items
    ]


async def _search(
    context: Context, chosen: str, text: str, is_reverse: bool
) -> tuple[list[HistoryEvent], str, int]:
    """Events that match, from where the address says on; stops after so many found, or read."""
    token = decode_token(context.query.get("page", ""))
    found: list[HistoryEvent] = []
    read = 0
    while True:
        events, token = await page_of_events(context, token, is_reverse=is_reverse)
        read += len(events)
        found += [event for event in events if matches(event, chosen, text)]
        if not token or not events or read >= MAX_SEARCHED_EVENTS or len(found) >= _MAX_FOUND:
            return found, encode_token(token) if events else "", read


async def _around(context: Context, wanted: int, length: int) -> tuple[list[HistoryEvent], str, int]:
    """The page that begins shortly before an event, found from the nearer end of the history."""
    is_reverse = wanted > length // 2
    read = 0
    before: list[HistoryEvent] = []
    token = b""
    while True:
        events, token = await page_of_events(context, token, is_reverse=is_reverse, batches=_FIND_BATCHES)
        read += len(events)
        before = [*before[-HISTORY_PAGE_EVENTS:], *events]
        has_it = any(event.event_id == wanted for event in events)
        if has_it or not token or not events:
            break
    ordered = before[::-1] if is_reverse else before
    at = next((number for number, event in enumerate(ordered) if event.event_id == wanted), 0)
    begin = max(at - HISTORY_PAGE_EVENTS // 4, 0)
    return ordered[begin : begin + HISTORY_PAGE_EVENTS], "", read


async def download(context: Context) -> Download:
    """The whole history as JSON, in the form that the command line and replayers read."""
    await describe(context)
    names = context.names
    return Download(f"{names['workflow_id']}_{names['run_id']}.json", "application/json", _file(context))


async def _file(context: Context) -> AsyncIterator[bytes]:
    yield b'{"events":['
    is_first = True
    async for events in events_of(context):
        for text in _texts(events):
            yield (text if is_first else "," + text).encode("utf-8", "replace")
            is_first = False
    yield b"]}"


def _texts(events: Iterable[HistoryEvent]) -> Iterable[str]:
    for event in events:
        yield "\n" + json.dumps(MessageToDict(event, descriptor_pool=POOL), ensure_ascii=False)
