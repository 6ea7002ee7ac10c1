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
FOLD_WIDTH: Final = 34.0
MAX_FOLDS: Final = 12
_LEAST_FOLDED_PART: Final = 0.08
_TICK_DISTANCE: Final = 90.0
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
        """Lines at round distances from a moment, none in a fold, none too close to another."""
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
            at_ns = -(-(from_ns - zero_ns) // step_ns) * step_ns
            while at_ns + zero_ns <= to_ns:
                x = self.x(at_ns + zero_ns)
                if not ticks or x - ticks[-1].x >= _TICK_DISTANCE * 0.7:
                    ticks.append(Tick(x, distance(at_ns)))
                at_ns += step_ns
        return ticks


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


def folded(start_ns: int, end_ns: int, x0: float, x1: float, moments_ns: Iterable[int]) -> Scale:
    """A scale on which long stretches without any of the moments are folded."""
    end_ns = max(end_ns, start_ns + 1)
    stops = sorted({start_ns, end_ns, *(moment for moment in moments_ns if start_ns < moment < end_ns)})
    gaps = sorted(
        (
            (to_ns - from_ns, from_ns, to_ns)
            for from_ns, to_ns in pairwise(stops)
            if to_ns - from_ns >= _LEAST_FOLDED_PART * (end_ns - start_ns)
        ),
        reverse=True,
    )[:MAX_FOLDS]
    kept: list[tuple[int, int]] = []
    for length_ns, from_ns, to_ns in sorted(gaps, key=lambda gap: gap[1]):
        # What happens right before and after stays visible.
        margin_ns = length_ns // 20
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
