"""The order among the fairness keys of one priority level of a task queue: start-time fair queueing in whole numbers.

A task's place says when its turn is, in virtual time; a key's tasks lie `1/weight` apart. See decision record 28.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Final

MAX_KEYS: Final = 10_000
"""Keys of a level that are remembered: those that have more waiting than their share."""
LEAST_WEIGHT: Final = 0.001
GREATEST_WEIGHT: Final = 1_000.0
STRIDE: Final = 10_000_000
"""Virtual time between two tasks of a key of weight 1. With the greatest weight it is `MAX_KEYS`."""


def effective_weight(weight: float) -> float:
    """The weight that counts: 1 if none is given, and within the bounds.

    Args:
        weight: as a request gives it; 0 and less: not given.
    """
    if weight <= 0:
        return 1.0
    return min(max(weight, LEAST_WEIGHT), GREATEST_WEIGHT)


def stride(weight: float) -> int:
    """Virtual time between two tasks of a key of this weight."""
    return round(STRIDE / effective_weight(weight))


class FairOrder:
    """Gives tasks their places. Its memory is bounded, and losing it costs some fairness, never a task.

    Args:
        max_keys: keys to remember at most.
    """

    __slots__ = ("_ends", "_last_end", "_max_keys", "now")

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self.now = 0
        """The virtual time: no task that comes gets a place before it."""
        self._ends: dict[str, int] = {}
        self._last_end = 0
        self._max_keys = max_keys

    @property
    def keys_remembered(self) -> int:
        """How many keys are remembered."""
        return len(self._ends)

    def place(self, key: str, weight: float) -> int:
        """The place of a new task.

        Args:
            key: its fairness key; "" is one, too.
            weight: as given; see `effective_weight`.
        """
        step = stride(weight) if weight else STRIDE
        end = self._ends.get(key, 0)
        now = self.now
        if end > now:
            place = end
        else:
            place = now
            self.now = now + max(step // self._max_keys, 1)
        self._note(key, place + step)
        return place

    def served(self, place: int) -> None:
        """A task was given out."""
        if place > self.now:
            self.now = place

    def rested(self) -> None:
        """Nothing waits any more: whoever comes next starts with all others."""
        if self._ends:
            self.now = max(self.now, self._last_end)
            self._ends.clear()

    def learn(self, first: int, last_places: Mapping[str, int]) -> None:
        """Takes over what is found waiting after a restart.

        Args:
            first: the place of the first task.
            last_places: of the last task of keys.
        """
        self.served(first)
        for key, place in last_places.items():
            if place + STRIDE > self._ends.get(key, 0):
                self._note(key, place + STRIDE)

    def _note(self, key: str, end: int) -> None:
        self._ends[key] = end
        if end > self._last_end:
            self._last_end = end
        if len(self._ends) > self._max_keys:
            self._forget()

    def _forget(self) -> None:
        """Keys that have caught up are as good as unknown; if most are ahead, those least ahead go."""
        now = self.now
        self._ends = {key: end for key, end in self._ends.items() if end > now}
        if len(self._ends) > self._max_keys // 2:
            kept = heapq.nlargest(self._max_keys // 2, self._ends.items(), key=lambda item: item[1])
            self._ends = dict(kept)
