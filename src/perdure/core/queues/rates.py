"""How many of something happen a second, over the last half minute. Time enters as a number of seconds."""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 30
_STEP_S = 3
_STEPS = WINDOW_S // _STEP_S


class Rate:
    """A count in steps of three seconds; counting costs an addition.

    Args:
        now_s: when it begins to count.
    """

    __slots__ = ("_began_s", "_counts", "_step")

    def __init__(self, now_s: float) -> None:
        self._began_s = now_s
        self._step = int(now_s // _STEP_S)
        self._counts = [0] * _STEPS

    def count(self, now_s: float) -> None:
        """It happened once."""
        step = int(now_s // _STEP_S)
        if step != self._step:
            self._advance(step)
        self._counts[step % _STEPS] += 1

    def per_second(self, now_s: float) -> float:
        """How often it happened a second, over the window or since it began to count if that is less."""
        step = int(now_s // _STEP_S)
        if step != self._step:
            self._advance(step)
        elapsed_s = min(now_s - self._began_s, WINDOW_S - _STEP_S + now_s % _STEP_S)
        return sum(self._counts) / max(elapsed_s, 1.0)

    def _advance(self, step: int) -> None:
        for passed in range(self._step + 1, min(step, self._step + _STEPS) + 1):
            self._counts[passed % _STEPS] = 0
        self._step = step
