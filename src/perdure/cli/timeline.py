"""`perdure workflow show --timeline`: a run drawn in the terminal, a bar for each thing that took time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.text import Text

from perdure.cli.command import printable
from perdure.cli.session import Session
from perdure.cli.show import go_duration
from perdure.cli.spans import Mark, Span, Story, story_of

MIN_BARS: Final = 20
MAX_NAME: Final = 40
MAX_ROWS: Final = 2_000
"""Rows that are drawn at most; of more the first are, and it says how many are missing."""
_WIDTH: Final = 100
"""Columns where there is no terminal."""
_STEPS: Final = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    21_600,
    43_200,
    86_400,
    604_800,
)
"""Distances of ticks in seconds; below a second they are 1, 2 or 5 times a power of ten."""

STYLES: Final = {
    "completed": "green", "fired": "green", "running": "blue", "failed": "red", "terminated": "red",
    "timed out": "yellow", "canceled": "magenta", "continued as new": "cyan", "rejected": "red",
}  # fmt: skip
_WAITING, _WORKING, _OPEN = "░", "█", "▒"


async def show_timeline(session: Session, workflow_id: str, events: AsyncIterator[Any]) -> None:
    """Draws a run; while it goes on, up to now."""
    story = story_of([event async for event in events])
    if story is None:
        return
    console = session.out.console
    width = console.width if console.is_terminal else _WIDTH
    if session.out.is_text:
        for line in draw(story, f"{story.whole.name} {workflow_id}", width, datetime.now(UTC)):
            console.print(line, no_wrap=True, overflow="crop")


def draw(story: Story, title: str, width: int, now: datetime) -> list[Text]:
    """The lines of a picture.

    Args:
        story: what happened.
        title: name of the run.
        width: columns.
        now: where what has not ended goes to.
    """
    whole = story.whole
    end = whole.ended or max(now, whole.began)
    title, shown = printable(title), story.spans[:MAX_ROWS]
    names = [printable(f"  {span.name}") for span in shown]
    name_width = min(MAX_NAME, max(map(len, (title, *names))))
    scale = _Scale(whole.began, end, max(MIN_BARS, width - name_width - 26))
    lines = [_row(title, whole, scale, name_width, end), scale.ticks(name_width)]
    lines += [_row(name, span, scale, name_width, end) for name, span in zip(names, shown, strict=True)]
    if len(story.spans) > MAX_ROWS:
        lines.append(Text(f"  ... and {len(story.spans) - MAX_ROWS} more", style="dim"))
    lines += [_mark(mark, scale, name_width) for mark in story.marks[:MAX_ROWS]]
    lines.append(
        Text(
            f"{story.events} events; {_WAITING} waits for a worker or a retry, {_WORKING} works", style="dim"
        )
    )
    return lines


class _Scale:
    """From times to columns.

    Args:
        begin, end: what is drawn.
        columns: how many there are.
    """

    def __init__(self, begin: datetime, end: datetime, columns: int) -> None:
        self.begin = begin
        self.columns = columns
        self.seconds = max((end - begin).total_seconds(), 1e-6)

    def column(self, at: datetime) -> int:
        """The column of a time."""
        part = (at - self.begin).total_seconds() / self.seconds
        return min(self.columns - 1, max(0, int(part * self.columns)))

    def ticks(self, indent: int) -> Text:
        """The axis with round labels."""
        step = self._step()
        line = [" "] * (self.columns + 12)
        number = 0
        while number * step <= self.seconds:
            shown = "│" + (go_duration(round(number * step * 1e9)) if number else "0")
            at = int(number * step / self.seconds * self.columns)
            line[at : at + len(shown)] = shown
            number += 1
        return Text(" " * (indent + 2) + "".join(line[: self.columns + 12]).rstrip(), style="dim")

    def _step(self) -> float:
        wanted = self.seconds / max(2, self.columns // 14)
        power = 1e-6
        while power < 1:
            for factor in (1, 2, 5):
                if power * factor >= wanted:
                    return power * factor
            power *= 10
        return next((float(step) for step in _STEPS if step >= wanted), wanted)


def _row(name: str, span: Span, scale: _Scale, name_width: int, end: datetime) -> Text:
    style = STYLES.get(span.state, "default")
    shown = name if len(name) <= name_width else name[: name_width - 1] + "…"
    until = span.ended or end
    first, last = scale.column(span.began), scale.column(until)
    working = scale.column(span.started) if span.started and span.kind == "activity" else first
    line = Text(f"{shown:<{name_width}}  ")
    line.append(" " * first)
    line.append(_WAITING * (working - first), style="dim")
    line.append((_OPEN if span.ended is None else _WORKING) * (last - working + 1), style=style)
    line.append(" " * (scale.columns - last) + f"{_took(until - span.began):>8} ")
    line.append(span.state, style=style)
    if span.attempts > 1:
        line.append(f" (attempt {span.attempts})", style="yellow")
    if span.detail:
        line.append(printable(f" {' '.join(span.detail.split())}"), style="dim")
    return line


def _mark(mark: Mark, scale: _Scale, name_width: int) -> Text:
    line = Text(" " * (name_width + 2 + scale.column(mark.at)))
    line.append("▲ ", style="cyan")
    line.append(printable(mark.name), style="cyan")
    return line


def _took(time: timedelta) -> str:
    """A duration with three digits or so."""
    microseconds = time // timedelta(microseconds=1)
    for unit in (1_000_000, 10_000, 100):
        if microseconds > unit * 100:
            microseconds -= microseconds % (unit // 10 if unit > 100 else unit)
            break
    return go_duration(microseconds * 1000)
