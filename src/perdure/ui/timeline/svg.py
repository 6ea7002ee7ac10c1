"""Writes a placed timeline as SVG: classes for colours, links to events, a title on everything; nothing inline."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from markupsafe import Markup, escape

from perdure.ui.plain import iso
from perdure.ui.timeline.layout import Bar, Drawing, Row
from perdure.ui.timeline.scale import distance, rough

MOMENT: Final = re.compile("\x01([0-9]{1,30})")
"""Of other people's texts, too: what they hold after this character is any number."""
_CHARACTER: Final = 6.6
_HATCH: Final = (
    '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="hatch-back" width="5" height="5"/><rect class="hatch-line" width="2" height="5"/>'
    "</pattern></defs>"
)


def say(text: str) -> str:
    """A text of the model with its moments written out, in UTC."""
    return MOMENT.sub(lambda match: iso(int(match[1])).replace("T", " "), text)


def draw(drawing: Drawing, event_url: Callable[[int], str], run_url: Callable[[str, str], str]) -> Markup:
    """The picture.

    Args:
        drawing: what to draw.
        event_url: the address of an event.
        run_url: the address of another run, from its workflow id and run id.
    """
    size = f'width="{drawing.width}" height="{drawing.height:.0f}"'
    points = " ".join(f"{x:.1f}:{(time_ns - drawing.from_ns) / 1e6:.3f}" for x, time_ns in drawing.points)
    parts = [
        f'<svg class="timeline" {size} role="group" aria-label="Timeline of the run" ',
        f'data-from="{drawing.from_ns}" data-to="{drawing.to_ns}" ',
        f'data-points="{points}" data-plot="{drawing.plot_x:g}" data-end="{drawing.end_x:g}">',
        _HATCH,
        *_background(drawing),
        *(text for row in drawing.rows for text in _row(drawing, row, event_url, run_url)),
    ]
    if drawing.now_x is not None:
        parts.append(
            f'<line class="now" x1="{drawing.now_x:.1f}" x2="{drawing.now_x:.1f}" y1="22" y2="{drawing.height:.0f}"/>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))  # every text in it went through `escape`


_LEGEND: Final = (
    ("attempt ok", "completed", r"\b(attempt|run)\b.* ok"),
    ("attempt failed", "failed", r"(attempt|run) .*(failed|timed_out)$"),
    ("attempt open", "running", r"(attempt|run) .*open"),
    ("wait", "waiting for a worker", r"^wait "),
    ("backoff", "waiting for the next attempt", r"^backoff "),
    ("estimated", "estimated attempt", r"estimated"),
    ("sleep", "timer", r"^sleep "),
    ("child", "child workflow", r" child "),
    ("child", "Nexus operation", r" nexus "),
    ("signal", "signal", r"\bsignal\b"),
    ("signal", "update", r" update "),
    ("signal", "message to another workflow", r" external "),
    ("task", "workflow task", r" task "),
)
"""Swatch, words, and the styles of the bars that they explain."""


def legend(drawing: Drawing) -> list[tuple[str, str]]:
    """What the colours of a picture mean: those that are in it."""
    styles = {bar.style for row in drawing.rows for bar in row.bars}
    return [
        (swatch, text) for swatch, text, looks in _LEGEND if any(re.search(looks, style) for style in styles)
    ]


def _background(drawing: Drawing) -> Iterator[str]:
    for tick in drawing.ticks:
        yield f'<line class="tick" x1="{tick.x:.1f}" x2="{tick.x:.1f}" y1="22" y2="{drawing.height:.0f}"/>'
        anchor = "start" if tick.x < drawing.plot_x + 12 else "middle"
        if tick.x > drawing.width - 24:
            anchor = "end"
        yield f'<text class="tick-label" x="{tick.x:.1f}" y="15" text-anchor="{anchor}">{escape(tick.label)}</text>'
    for fold in drawing.folds:
        span_ns = fold.end_ns - fold.start_ns
        yield (
            f'<g class="fold"><rect x="{fold.x:.1f}" y="22" width="{fold.width:.1f}" '
            f'height="{drawing.height - 22:.0f}"/>'
            f'<text x="{fold.x + fold.width / 2:.1f}" y="15" text-anchor="middle">{escape(rough(span_ns))}</text>'
            f"<title>{escape(distance(span_ns // 1_000_000_000 * 1_000_000_000))}"
            " without any event, folded</title></g>"
        )


def _row(
    drawing: Drawing, row: Row, event_url: Callable[[int], str], run_url: Callable[[str, str], str]
) -> Iterator[str]:
    yield f'<g class="row {row.kind.name.lower()}">'
    yield f'<rect class="row-back" x="0" y="{row.y:.1f}" width="{drawing.width}" height="{row.height:.1f}"/>'
    yield _label(drawing, row, run_url)
    for bar in row.bars:
        yield _bar(bar, event_url)
    if row.text:
        anchor = ' text-anchor="end"' if drawing.is_narrow else ""
        y = row.y + (row.height / 2 + 4 if not drawing.is_narrow else 12)
        x = row.text_x if not drawing.is_narrow else drawing.width - 10
        yield f'<text class="row-text {escape(row.style)}" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(row.text)}</text>'
    yield "</g>"


def _label(drawing: Drawing, row: Row, run_url: Callable[[str, str], str]) -> str:
    room = int(((drawing.plot_x - 20) if not drawing.is_narrow else drawing.width - 150) / _CHARACTER)
    label, note = shorten(row.label, max(room, 12)), row.note
    left = room - len(label) - 2
    note = shorten(note, left) if left >= 6 else ""
    y = row.y + (row.height / 2 + 4 if not drawing.is_narrow else 12)
    if row.height > 60 and not drawing.is_narrow:
        y = row.y + 17
    noted = f'<tspan class="row-note" dx="6">{escape(note)}</tspan>' if note else ""
    title = f"<title>{escape(f'{row.kind.value} {row.label} {row.note}'.strip())}</title>"
    text = f'<text class="row-label" x="10" y="{y:.1f}">{escape(label)}{noted}{title}</text>'
    if row.target[0]:
        return f'<a href="{escape(run_url(*row.target))}">{text}</a>'
    return text


def _bar(bar: Bar, event_url: Callable[[int], str]) -> str:
    title = f"<title>{escape(say(bar.says))}</title>"
    if bar.is_moment:
        x, y, r = bar.x, bar.y + bar.height / 2, bar.height / 2 - 1
        path = f"M{x:.1f} {y - r:.1f}l{r} {r}l{-r} {r}l{-r} {-r}z"
        shape = f'<path class="bar {escape(bar.style)}" d="{path}">{title}</path>'
    else:
        radius = 2 if bar.height > 4 and bar.width > 4 else 0
        shape = (
            f'<rect class="bar {escape(bar.style)}" x="{bar.x:.1f}" y="{bar.y:.1f}" width="{bar.width:.1f}" '
            f'height="{bar.height:.1f}" rx="{radius}">{title}</rect>'
        )
    if not bar.event_id:
        return shape
    return f'<a href="{escape(event_url(bar.event_id))}" data-event="{bar.event_id}">{shape}</a>'


def shorten(text: str, most: int) -> str:
    """A text cut in its middle: ends of ids tell them apart."""
    if len(text) <= most:
        return text
    tail = max((most - 1) // 3, 1)
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"
