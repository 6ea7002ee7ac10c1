"""A timeline on a page: the part of it that the address wants to see, its picture, and its JSON twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from markupsafe import Markup

from perdure.ui.context import Context
from perdure.ui.plain import iso
from perdure.ui.rendering import when
from perdure.ui.timeline.layout import DEFAULT_WIDTH, MAX_WIDTH, MIN_WIDTH, Drawing, View, lay_out
from perdure.ui.timeline.model import Item, Kind, Segment, Timeline
from perdure.ui.timeline.svg import MOMENT, draw, legend, say

KINDS: Final = {kind.name.lower(): kind for kind in Kind if kind is not Kind.LIFE}


def view_of(context: Context, timeline: Timeline) -> View:
    """What the address wants to see."""
    width = context.number("width", DEFAULT_WIDTH, MIN_WIDTH, MAX_WIDTH)
    chosen = frozenset(KINDS[name] for name in context.query.get("kinds", "").split(",") if name in KINDS)
    return View(
        _bound(context, "from", timeline.start_ns),
        _bound(context, "to", timeline.start_ns),
        {"1": True, "0": False}.get(context.query.get("fold", "")),
        width,
        chosen or None,
    )


def _bound(context: Context, name: str, start_ns: int) -> int | None:
    """A moment of the address, in milliseconds since the run began."""
    text = context.query.get(name, "")
    try:
        return start_ns + int(float(text) * 1e6) if text else None
    except (ValueError, OverflowError):
        return None


def shown(context: Context, timeline: Timeline, event_url: Callable[[int], str]) -> dict[str, Any]:
    """What `timeline.html` shows beside the values of the JSON twin.

    Args:
        context: its query says which part is shown.
        timeline: the model.
        event_url: the address of an event by its id.
    """

    def run_url(workflow_id: str, run_id: str) -> str:
        return context.url(
            "namespaces", context.namespace, "workflows", workflow_id, *([run_id] if run_id else [])
        )

    drawing = lay_out(timeline, view_of(context, timeline))
    return {
        "svg": draw(drawing, event_url, run_url),
        "drawing": drawing,
        "waits": [_with_times(text) for text in timeline.waiting_for],
        "legend": legend(drawing),
        "range_s": (drawing.to_ns - drawing.from_ns) / 1e9,
        "zoomed": _zoomed(drawing, timeline),
    }


def _with_times(text: str) -> Markup:
    """A text of the model with its moments as `<time>`."""
    parts = MOMENT.split(text)
    return Markup("").join(when(iso(int(one))) if at % 2 else one for at, one in enumerate(parts))


def _zoomed(drawing: Drawing, timeline: Timeline) -> dict[str, Any]:
    """Ranges for the controls that zoom and move, in milliseconds since the run began."""
    span = drawing.to_ns - drawing.from_ns
    middle = (drawing.from_ns + drawing.to_ns) // 2

    def bounds(from_ns: float, to_ns: float) -> dict[str, str]:
        return {
            "from": f"{(from_ns - timeline.start_ns) / 1e6:.3f}",
            "to": f"{(to_ns - timeline.start_ns) / 1e6:.3f}",
        }

    return {
        "is_zoomed": drawing.from_ns != timeline.start_ns or drawing.to_ns < timeline.end_ns,
        "start": timeline.start_ns,
        "in": bounds(middle - span / 4, middle + span / 4),
        "out": bounds(max(middle - span, timeline.start_ns), min(middle + span, timeline.end_ns)),
        "left": bounds(drawing.from_ns - span / 2, drawing.to_ns - span / 2),
        "right": bounds(drawing.from_ns + span / 2, drawing.to_ns + span / 2),
    }


def data_of(timeline: Timeline, length: int, *, is_last: bool, with_items: bool) -> dict[str, Any]:
    """A timeline as plain values.

    Args:
        timeline: the model.
        length: events of the whole history.
        is_last: if that is longer than what was read, the end of it was read.
        with_items: with all that is drawn.
    """
    return {
        "start": iso(timeline.start_ns),
        "end": iso(timeline.end_ns),
        "is_open": timeline.is_open,
        "first_event_id": timeline.first_event_id,
        "last_event_id": timeline.last_event_id,
        "history_length": length,
        "part": "last" if is_last else "first",
        "items": [_item(item) for item in (timeline.items if with_items else ())],
    }


def _item(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind.value,
        "name": item.name,
        "key": item.key,
        "summary": item.summary,
        "event_id": item.event_id,
        "start": iso(item.start_ns),
        "end": None if item.end_ns is None else iso(item.end_ns),
        "state": item.state.value,
        "detail": say(item.detail),
        "segments": [_segment(segment) for segment in item.segments],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "phase": segment.phase.value,
        "attempt": segment.attempt,
        "start": iso(segment.start_ns),
        "end": None if segment.end_ns is None else iso(segment.end_ns),
        "state": segment.state.value,
        "failure": segment.failure,
        "is_estimated": segment.is_estimated,
    }
