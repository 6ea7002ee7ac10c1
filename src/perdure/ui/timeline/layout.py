"""Where everything of a timeline is drawn: rows, bars, ticks, in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from perdure.ui.timeline.model import Item, Kind, Phase, Segment, State, Timeline
from perdure.ui.timeline.scale import LEAST_FOLDED, MINUTE, Fold, Scale, Tick, folded, linear

MAX_ROWS_OF_THEIR_OWN: Final = 60
MAX_LANES: Final = 40
MIN_WIDTH, MAX_WIDTH, DEFAULT_WIDTH = 320, 4_000, 1_180
NARROW: Final = 640
"""Below this width there is no room for labels beside the rows; they are above the bars."""
GUTTER: Final = 236
RIGHT: Final = 164
"""Room behind the plot for what is written behind a bar."""
NARROW_RIGHT: Final = 12
HEAD: Final = 30
ROW: Final = 26
BAR: Final = 14
NARROW_ROW: Final = 36
LANE: Final = 7
LEAST_IDLE: Final = 4.0
"""So many times as long as all the rest is what is folded if nobody says otherwise."""
LEAST_FOLDED_SPAN_NS: Final = 10 * MINUTE
"""A shorter range is shown as it went if nobody says otherwise: its waits are part of its story."""
_MIN_BAR: Final = 2.0


@dataclass(frozen=True, slots=True)
class View:
    """What is to be seen.

    Attributes:
        from_ns, to_ns: range of time; None for where the run begins or ends.
        is_folded: idle stretches are folded; None for those of a long range that leave no room for the
            rest.
        width: pixels.
        kinds: what is shown; None for everything.
    """

    from_ns: int | None = None
    to_ns: int | None = None
    is_folded: bool | None = False
    width: int = DEFAULT_WIDTH
    kinds: frozenset[Kind] | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """A drawn stretch or moment.

    Attributes:
        x, y, width, height: pixels.
        style: class names: what it was and how it stands.
        says: what is shown when somebody points at it; may hold moments (see `moments`).
        event_id: where a click leads; 0 for nowhere.
        is_moment: drawn as a diamond.
        count: how many are drawn as one, because there is no room for each.
    """

    x: float
    y: float
    width: float
    height: float
    style: str
    says: str
    event_id: int = 0
    is_moment: bool = False
    count: int = 1


@dataclass(slots=True)
class Row:
    """A row, with its label.

    Attributes:
        y, height: pixels.
        label, note: its name, and what else tells it from others.
        kind: of what is in it.
        bars: in it.
        text, text_x: written behind the last bar, and where.
        target: the run that the row is about; empty without one.
        event_id: where it begins.
        style: how its text is coloured.
    """

    y: float
    height: float
    label: str
    note: str
    kind: Kind
    bars: list[Bar] = field(default_factory=list)
    text: str = ""
    text_x: float = 0.0
    target: tuple[str, str] = ("", "")
    event_id: int = 0
    style: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A timeline, placed.

    Attributes:
        width, height, plot_x, end_x: pixels; the plot goes from `plot_x` to `end_x`.
        rows, ticks, folds: in it.
        points: pixels and times between which the axis is linear.
        now_x: where now is, if the run is open and now is in the range.
        notes: what is not shown, in words.
        from_ns, to_ns: the range.
        is_narrow: labels are above the bars.
    """

    width: int
    height: float
    plot_x: float
    end_x: float
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    folds: tuple[Fold, ...]
    points: tuple[tuple[float, int], ...]
    now_x: float | None
    notes: tuple[str, ...]
    from_ns: int
    to_ns: int
    is_narrow: bool


def duration_words(span_ns: int) -> str:
    """A duration for people, at most two units."""
    seconds = span_ns / 1e9
    if seconds < 0.001:
        return f"{span_ns / 1e3:.0f} µs" if span_ns else "0 s"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    for length, unit, smaller, smaller_unit in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= length:
            rest = whole % length // smaller
            return f"{whole // length} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def lay_out(timeline: Timeline, view: View) -> Drawing:
    """Places a timeline."""
    width = max(MIN_WIDTH, min(view.width, MAX_WIDTH))
    is_narrow = width < NARROW
    plot_x = 10.0 if is_narrow else float(GUTTER)
    from_ns = timeline.start_ns if view.from_ns is None else view.from_ns
    to_ns = timeline.end_ns if view.to_ns is None else view.to_ns
    if to_ns <= from_ns:
        from_ns, to_ns = timeline.start_ns, timeline.end_ns
    if to_ns - from_ns < 1_000:
        to_ns = from_ns + 1_000_000
    items = [
        item
        for item in timeline.items
        if item.start_ns <= to_ns
        and item.end_or(timeline.end_ns) >= from_ns
        and (view.kinds is None or item.kind in view.kinds or item.kind is Kind.LIFE)
    ]
    x1 = float(width - (NARROW_RIGHT if is_narrow else RIGHT))
    is_short = view.is_folded is None and to_ns - from_ns < LEAST_FOLDED_SPAN_NS
    if view.is_folded is False or is_short:
        scale = linear(from_ns, to_ns, plot_x, x1)
    else:
        least = LEAST_FOLDED if view.is_folded else LEAST_IDLE
        scale = folded(from_ns, to_ns, plot_x, x1, _moments(items), least)
    placer = _Placer(timeline, scale, is_narrow)
    placer.place(items)
    is_now_seen = timeline.is_open and from_ns <= timeline.end_ns <= to_ns
    return Drawing(
        width,
        placer.y + 8,
        plot_x,
        x1,
        tuple(placer.rows),
        tuple(scale.ticks(timeline.start_ns)),
        scale.folds,
        scale.points,
        scale.x(timeline.end_ns) if is_now_seen else None,
        tuple(placer.notes),
        from_ns,
        to_ns,
        is_narrow,
    )


def _moments(items: Iterable[Item]) -> Iterable[int]:
    for item in items:
        yield item.start_ns
        if item.end_ns is not None:
            yield item.end_ns
        for segment in item.segments:
            yield segment.start_ns


class _Placer:
    def __init__(self, timeline: Timeline, scale: Scale, is_narrow: bool) -> None:
        self._timeline = timeline
        self._scale = scale
        self._is_narrow = is_narrow
        self._row = NARROW_ROW if is_narrow else ROW
        self.y = float(HEAD)
        self.rows: list[Row] = []
        self.notes: list[str] = []

    def place(self, items: Sequence[Item]) -> None:
        """Places items in rows."""
        self._life([item for item in items if item.kind is Kind.LIFE])
        tasks = [item for item in items if item.kind is Kind.TASK]
        if tasks:
            self._shared("Workflow tasks", str(len(tasks)), Kind.TASK, tasks)
        others = [item for item in items if item.kind not in (Kind.LIFE, Kind.TASK)]
        groups: dict[tuple[Kind, str], list[Item]] = {}
        for item in others:
            groups.setdefault((item.kind, item.name), []).append(item)
        moments = {key for key, group in groups.items() if all(item.is_moment for item in group)}
        rows = sum(1 if key in moments else len(group) for key, group in groups.items())
        if rows > MAX_ROWS_OF_THEIR_OWN:
            for (kind, name), group in groups.items():
                if (kind, name) in moments or len(group) == 1:
                    self._shared(name, str(len(group)) if len(group) > 1 else group[0].key, kind, group)
                else:
                    self._packed(kind, name, group)
            return
        placed: set[tuple[Kind, str]] = set()
        for item in others:
            key = (item.kind, item.name)
            if key not in moments:
                self._own(item)
            elif key not in placed:
                placed.add(key)
                group = groups[key]
                self._shared(item.name, f"×{len(group)}" if len(group) > 1 else item.key, item.kind, group)

    def _new_row(self, label: str, note: str, kind: Kind, height: float | None = None) -> Row:
        row = Row(self.y, height or self._row, label, note, kind)
        self.rows.append(row)
        self.y += row.height
        return row

    def _bar_y(self, row: Row) -> float:
        return row.y + (18.0 if self._is_narrow else (ROW - BAR) / 2)

    def _life(self, items: Sequence[Item]) -> None:
        timeline = self._timeline
        row = self._new_row("Workflow", "", Kind.LIFE)
        y = self._bar_y(row)
        x0, x1 = self._scale.x(timeline.start_ns), self._scale.x(timeline.end_ns)
        state = "open" if timeline.is_open else "ok"
        for item in items:
            if item.name in ("failed", "terminated", "timed out"):
                state = "failed"
            elif item.name == "canceled":
                state = "canceled"
        took = duration_words(timeline.end_ns - timeline.start_ns)
        says = f"the run, {took}" + (" so far" if timeline.is_open else "")
        row.bars.append(Bar(x0, y + 4, max(x1 - x0, _MIN_BAR), BAR - 8, f"life {state}", says))
        for item in items:
            row.bars.append(self._moment(item, y))
        row.text, row.style = took, state
        self._write(row)

    def _moment(self, item: Item, y: float) -> Bar:
        name = item.name if item.kind is Kind.LIFE else f"{item.kind.value} {item.name}"
        says = f"{name}\nat \x01{item.start_ns}" + (f"\n{item.detail}" if item.detail else "")
        style = f"moment {item.kind.name.lower()} {item.state.name.lower()}"
        return Bar(self._scale.x(item.start_ns), y, BAR, BAR, style, says, item.event_id, True)

    def _own(self, item: Item) -> None:
        """A row for one item."""
        row = self._new_row(item.name, item.summary or item.key, item.kind)
        row.event_id, row.target = item.event_id, item.target
        y = self._bar_y(row)
        row.bars += self._bars(item, y, BAR)
        row.style = item.state.name.lower()
        row.text = duration_words(item.end_or(self._timeline.end_ns) - item.start_ns)
        last = max((segment.attempt for segment in item.segments), default=0)
        if last > 1:
            row.text += f" · {last} attempts"
        if item.state not in (State.OK, State.OPEN):
            row.text = f"{item.state.value} · {row.text}"
        self._write(row)

    def _write(self, row: Row) -> None:
        row.text_x = max((bar.x + bar.width for bar in row.bars), default=0.0) + 8

    def _bars(self, item: Item, y: float, height: float) -> list[Bar]:
        if item.is_moment:
            return [self._moment(item, y)]
        end_ns = self._timeline.end_ns
        segments = item.segments or [Segment(Phase.RUN, item.start_ns, item.end_ns, 0, item.state)]
        bars = []
        for segment in segments:
            segment_end_ns = end_ns if segment.end_ns is None else segment.end_ns
            if segment_end_ns < self._scale.start_ns or segment.start_ns > self._scale.end_ns:
                continue
            x0, x1 = self._scale.x(segment.start_ns), self._scale.x(segment_end_ns)
            says = says_of(item, segment, segment_end_ns)
            style = _style(item, segment)
            is_thin = segment.phase in (Phase.WAIT, Phase.BACKOFF)
            inset = height * 0.3 if is_thin else 0.0
            bars.append(
                Bar(x0, y + inset, max(x1 - x0, _MIN_BAR), height - 2 * inset, style, says, item.event_id)
            )
        # Waits are drawn first, so that a short attempt is not hidden behind the wait after it.
        bars.sort(key=lambda bar: not bar.style.startswith(("wait", "backoff")))
        return bars

    def _shared(self, label: str, note: str, kind: Kind, items: Sequence[Item]) -> None:
        """One row for all of these; they rarely overlap, or are moments."""
        row = self._new_row(label, note, kind)
        row.event_id = items[0].event_id if len(items) == 1 else 0
        y = self._bar_y(row)
        row.bars = merged([bar for item in items for bar in self._bars(item, y, BAR)])

    def _packed(self, kind: Kind, name: str, items: Sequence[Item]) -> None:
        """Thin lanes, in which items that do not overlap share a lane."""
        lanes, left_out = pack(items, self._timeline.end_ns)
        height = max(self._row, len(lanes) * LANE + 10)
        row = self._new_row(name, f"×{len(items)}", kind, height)
        top = row.y + (18 if self._is_narrow else 5)
        for number, lane in enumerate(lanes):
            y = top + number * LANE
            row.bars += merged([bar for item in lane for bar in self._bars(item, y, LANE - 2)])
        bad = sum(item.state.is_bad for item in items)
        if bad:
            row.note += f", {bad} failed"
        if left_out:
            self.notes.append(
                f"{left_out} of {len(items)} {name} overlap more than {MAX_LANES} others and are not drawn"
            )


def says_of(item: Item, segment: Segment, end_ns: int) -> str:
    """What is shown when somebody points at a segment."""
    name = f"{item.kind.value} {item.name}" if item.name != item.kind.value else item.name
    lines = [f"{name} {item.key}".strip()]
    if item.summary:
        lines.append(item.summary)
    took = duration_words(end_ns - segment.start_ns)
    phase = segment.phase.value
    if segment.phase is Phase.ATTEMPT:
        phase = f"attempt {segment.attempt}: {segment.state.value}"
    elif segment.end_ns is None and segment.phase is not Phase.RUN:
        phase = f"{phase} now"
    lines.append(f"{phase}, {took}" + (" so far" if segment.end_ns is None else ""))
    if segment.is_estimated:
        lines.append("estimated: the history records only the last attempt's time")
    lines.append(f"from \x01{segment.start_ns}")
    said = segment.failure or item.detail
    if said:
        lines.append(said)
    return "\n".join(lines)


def _style(item: Item, segment: Segment) -> str:
    names = {
        Phase.WAIT: "wait",
        Phase.BACKOFF: "backoff",
        Phase.ATTEMPT: "attempt",
        Phase.RUN: "run",
        Phase.SLEEP: "sleep",
    }
    state = State.OPEN if segment.end_ns is None else segment.state
    text = f"{names[segment.phase]} {item.kind.name.lower()} {state.name.lower()}"
    return f"{text} estimated" if segment.is_estimated else text


def pack(items: Sequence[Item], now_ns: int) -> tuple[list[list[Item]], int]:
    """Items in lanes without overlaps, at most `MAX_LANES`; those that failed or are open come first.

    Returns:
        the lanes, and how many items are in none.
    """
    ends: list[int] = []
    lanes: list[list[Item]] = []
    left_out = 0
    by_time = sorted(items, key=lambda item: (item.start_ns, item.event_id))
    if _depth(by_time, now_ns) > MAX_LANES:
        by_time.sort(key=lambda item: (not (item.state.is_bad or item.state is State.OPEN), item.start_ns))
        return _pack_chosen(by_time, now_ns)
    for item in by_time:
        lane = next((number for number, end in enumerate(ends) if end <= item.start_ns), None)
        if lane is None:
            ends.append(0)
            lanes.append([])
            lane = len(ends) - 1
        lanes[lane].append(item)
        ends[lane] = max(item.end_or(now_ns), item.start_ns + 1)
    return lanes, left_out


def _depth(items: Sequence[Item], now_ns: int) -> int:
    edges = sorted(
        edge
        for item in items
        for edge in ((item.start_ns, 1), (max(item.end_or(now_ns), item.start_ns + 1), -1))
    )
    deepest = depth = 0
    for _, change in edges:
        depth += change
        deepest = max(deepest, depth)
    return deepest


def _pack_chosen(items: Sequence[Item], now_ns: int) -> tuple[list[list[Item]], int]:
    """Places items in the order given, each in the first lane in which it overlaps nothing."""
    lanes: list[list[Item]] = [[] for _ in range(MAX_LANES)]
    left_out = 0
    for item in items:
        end_ns = max(item.end_or(now_ns), item.start_ns + 1)
        for lane in lanes:
            if all(end_ns <= other.start_ns or item.start_ns >= other.end_or(now_ns) for other in lane):
                lane.append(item)
                break
        else:
            left_out += 1
    return [sorted(lane, key=lambda item: item.start_ns) for lane in lanes if lane], left_out


def merged(bars: Sequence[Bar]) -> list[Bar]:
    """Bars of one row, those without room of their own drawn as one: as many bars as there are pixels, at most."""
    found: list[Bar] = []
    last: dict[tuple[str, float], int] = {}
    for bar in bars:
        at = last.get((bar.style, bar.y))
        if at is not None:
            before = found[at]
            end = max(before.x + before.width, bar.x + bar.width)
            is_tiny = bar.width <= _MIN_BAR or (bar.is_moment and bar.x - before.x < _MIN_BAR)
            if is_tiny and bar.x <= before.x + (before.width if not bar.is_moment else 0) + 1:
                count = before.count + bar.count
                says = f"{before.says.splitlines()[0]} and {count - 1} more; zoom in to see each"
                width = before.width if bar.is_moment else end - before.x
                found[at] = Bar(
                    before.x, bar.y, width, bar.height, bar.style, says, before.event_id, bar.is_moment, count
                )
                continue
        last[bar.style, bar.y] = len(found)
        found.append(bar)
    return found
