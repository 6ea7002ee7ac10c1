"""How fast a task queue gives out its tasks, when its workers ask for a limit. Knows no queues and no tasks."""

from __future__ import annotations

import math
from typing import Final

NO_LIMIT: Final = 1e9
"""Tasks a second that no queue reaches."""


class RateLimit:
    """A bucket of permits that fills with time; a task takes one.

    It holds the permits of one second, at least one, so that a limit of 10 a second may give out ten at once.

    Args:
        per_second: permits a second; 0 gives none.
        now_s: the loop's time.
    """

    __slots__ = ("_permits", "_seen_s", "per_second")

    def __init__(self, per_second: float, now_s: float) -> None:
        self.per_second = per_second
        self._permits = self._most
        self._seen_s = now_s

    @property
    def _most(self) -> float:
        return max(1.0, math.ceil(self.per_second)) if self.per_second > 0 else 0.0

    def change(self, per_second: float, now_s: float) -> None:
        """Another limit from now on; what was saved up so far stays, as far as there is room for it."""
        self._fill(now_s)
        self.per_second = per_second
        self._permits = min(self._permits, self._most)

    def take(self, now_s: float) -> bool:
        """Takes a permit if there is one."""
        self._fill(now_s)
        if self._permits < 1.0:
            return False
        self._permits -= 1.0
        return True

    def put_back(self) -> None:
        """What a permit was taken for did not happen."""
        self._permits = min(self._permits + 1.0, self._most)

    def wait_s(self, now_s: float) -> float:
        """Seconds until there is a permit; infinite if there will be none."""
        self._fill(now_s)
        if self._permits >= 1.0:
            return 0.0
        return (1.0 - self._permits) / self.per_second if self.per_second > 0 else math.inf

    def _fill(self, now_s: float) -> None:
        # Rounding must not keep whoever waited for exactly one permit waiting for nothing.
        gained = max(now_s - self._seen_s, 0.0) * self.per_second
        self._permits = min(self._permits + gained + 1e-9, self._most)
        self._seen_s = now_s
