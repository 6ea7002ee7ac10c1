"""The axis: time to pixels, stretches folded, ticks at round values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

MS: Final = 1_000_000
SECOND: Final = 1_000 * MS
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
FOLD_WIDTH: Final = 40.0
_FOLD_ROOM: Final = 52.0
"""Pixels around the middle of a fold that its label needs for itself."""
MAX_FOLDS: Final = 12
LEAST_FOLDED: Final = 0.5
"""A fold is at least this many times as long as everything that is not folded."""
_MARGIN: Final = 16
"""Margins of a fold are this part of the time that is not idle."""
_TICK_DISTANCE: Final = 90.0
_MOST_STEPS: Final = 100
"""Ticks from the beginning, after which a distance from there has too many digits."""
_STEPS: Final[tuple[int, ...]] = (
    *(factor * int(10**power) for power in range(9) for factor in (1, 2, 5)),
    *(factor * SECOND for factor in (1, 2, 5, 10, 15, 30)),
    *(factor * MINUTE for factor in (1, 2, 5, 10, 15, 30)),
    *(factor * HOUR for factor in (1, 2, 3, 6, 12)),
    *(factor * DAY * int(10**power) for power in range(5) for factor in (1, 2, 5)),
)
"""Distances between ticks, in nanoseconds, ascending."""
_UNITS: Final = (
    (DAY, "d"),
    (HOUR, "h"),
    (MINUTE, "min"),
    (SECOND, "s"),
    (MS, "ms"),
    (1_000, "µs"),
    (1, "ns"),
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled line on the axis."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Fold:
    """A stretch of time that takes less room than it would."""

    x: float
    width: float
    start_ns: int
    end_ns: int


class Scale:
    """Time to pixels, linear between its points.

    Args:
        times_ns: points in time, strictly ascending, at least two.
        xs: their pixels, ascending.
    """

    def __init__(self, times_ns: Sequence[int], xs: Sequence[float], folds: Sequence[Fold] = ()) -> None:
        self._times_ns = times_ns
        self._xs = xs
        self.folds = tuple(folds)

    @property
    def start_ns(self) -> int:
        """Where the axis begins."""
        return self._times_ns[0]

    @property
    def end_ns(self) -> int:
        """Where it ends."""
        return self._times_ns[-1]

    @property
    def points(self) -> tuple[tuple[float, int], ...]:
        """Pixels and times between which it is linear."""
        return tuple(zip(self._xs, self._times_ns, strict=True))

    def x(self, time_ns: int) -> float:
        """The pixel of a moment; moments outside are at the axis' ends."""
        if time_ns <= self._times_ns[0]:
            return self._xs[0]
        if time_ns >= self._times_ns[-1]:
            return self._xs[-1]
        at = bisect_right(self._times_ns, time_ns) - 1
        from_ns, to_ns = self._times_ns[at], self._times_ns[at + 1]
        part = (time_ns - from_ns) / (to_ns - from_ns)
        return self._xs[at] + part * (self._xs[at + 1] - self._xs[at])

    def ticks(self, zero_ns: int) -> list[Tick]:
        """Lines at round distances from a moment, none in a fold, none too close to another.

        Behind a fold, where a distance from that moment would be long to read, they count from the end of the fold.
        """
        ticks: list[Tick] = []
        folded = {fold.start_ns for fold in self.folds}
        per_px = [
            (to_ns - from_ns) / max(to_x - from_x, 0.001)
            for from_ns, to_ns, from_x, to_x in zip(
                self._times_ns, self._times_ns[1:], self._xs, self._xs[1:], strict=False
            )
            if from_ns not in folded
        ]
        step_ns = round_step(int(max(per_px, default=1) * _TICK_DISTANCE))
        for from_ns, to_ns in zip(self._times_ns, self._times_ns[1:], strict=False):
            if from_ns in folded:
                continue
            base_ns, mark = zero_ns, ""
            if from_ns - zero_ns > _MOST_STEPS * step_ns:
                base_ns, mark = from_ns, "+"
            at_ns = max(-(-(from_ns - base_ns) // step_ns) * step_ns, step_ns if mark else 0)
            while at_ns + base_ns <= to_ns:
                x = self.x(at_ns + base_ns)
                if not ticks or x - ticks[-1].x >= _TICK_DISTANCE * 0.7:
                    ticks.append(Tick(x, mark + distance(at_ns)))
                at_ns += step_ns
        middles = [fold.x + fold.width / 2 for fold in self.folds]
        return [tick for tick in ticks if all(abs(tick.x - middle) >= _FOLD_ROOM for middle in middles)]


def round_step(least_ns: int) -> int:
    """The smallest round distance that is at least so long."""
    # Above the table: addresses may ask for any range, and the number of ticks has to stay small.
    return next((step for step in _STEPS if step >= least_ns), -(-least_ns // _STEPS[-1]) * _STEPS[-1])


def distance(span_ns: int) -> str:
    """A distance on the axis: `0`, `1.5 s`, `1 min 30 s`, `2 d 6 h`; exact."""
    if span_ns == 0:
        return "0"
    sign, rest = ("-", -span_ns) if span_ns < 0 else ("", span_ns)
    if rest < MINUTE:
        length, unit = next(entry for entry in _UNITS if rest >= entry[0])
        return f"{sign}{rest / length:.9f}".rstrip("0").rstrip(".") + f" {unit}"
    parts = []
    for length, unit in _UNITS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    return sign + " ".join(parts)


def linear(start_ns: int, end_ns: int, x0: float, x1: float) -> Scale:
    """A scale without folds."""
    return Scale((start_ns, max(end_ns, start_ns + 1)), (x0, x1))


def folded(
    start_ns: int,
    end_ns: int,
    x0: float,
    x1: float,
    moments_ns: Iterable[int],
    least: float = LEAST_FOLDED,
) -> Scale:
    """A scale on which long stretches without any of the moments are folded.

    Args:
        start_ns, end_ns: nanoseconds since the epoch.
        x0, x1: their pixels.
        moments_ns: what is to be seen.
        least: a fold is at least so many times as long as everything that is not folded.
    """
    end_ns = max(end_ns, start_ns + 1)
    stops = sorted({start_ns, end_ns, *(moment for moment in moments_ns if start_ns < moment < end_ns)})
    gaps = sorted(((to_ns - from_ns, from_ns) for from_ns, to_ns in pairwise(stops)), reverse=True)
    left_ns, found = _most_folds(gaps, end_ns - start_ns, least)
    kept: list[tuple[int, int]] = []
    for from_ns, to_ns in sorted((from_ns, from_ns + length_ns) for length_ns, from_ns in found):
        # What happens right before and after stays visible.
        margin_ns = min((to_ns - from_ns) // 20, max(left_ns // _MARGIN, 1))
        kept.append((from_ns + margin_ns, to_ns - margin_ns))
    room = x1 - x0 - FOLD_WIDTH * len(kept)
    shown_ns = end_ns - start_ns - sum(to_ns - from_ns for from_ns, to_ns in kept)
    if not kept or room <= 0 or shown_ns <= 0:
        return linear(start_ns, end_ns, x0, x1)
    times, xs, folds = [start_ns], [x0], []
    for from_ns, to_ns in kept:
        x = xs[-1] + (from_ns - times[-1]) / shown_ns * room
        times += [from_ns, to_ns]
        xs += [x, x + FOLD_WIDTH]
        folds.append(Fold(x, FOLD_WIDTH, from_ns, to_ns))
    times.append(end_ns)
    xs.append(x1)
    return Scale(times, xs, folds)


def _most_folds(
    gaps: Sequence[tuple[int, int]], whole_ns: int, least: float
) -> tuple[int, Sequence[tuple[int, int]]]:
    """What is left without the longest gaps, and those: as many as are long beside what is left."""
    best: tuple[int, Sequence[tuple[int, int]]] = (whole_ns, ())
    left_ns = whole_ns
    for count, (length_ns, _) in enumerate(gaps[:MAX_FOLDS], 1):
        left_ns -= length_ns
        if left_ns >= MS and length_ns >= least * left_ns:
            best = left_ns, gaps[:count]
    return best


def rough(span_ns: int) -> str:
    """A distance in its largest unit: `3 d`, `14 min`."""
    length, unit = next((entry for entry in _UNITS if span_ns >= entry[0]), _UNITS[-1])
    return f"{round(span_ns / length)} {unit}"
