"""Holding polls back so that a worker starts no more than so many activities in a second."""

from __future__ import annotations

import asyncio
import time


class RateLimit:
    """Lets one poll pass each time the rate allows another activity.

    Args:
        per_second: Activities per second.
    """

    def __init__(self, per_second: float) -> None:
        self._interval_s = 1.0 / per_second
        self._next_s = 0.0

    async def wait(self) -> None:
        """Wait for the next free moment, and take it."""
        now_s = time.monotonic()
        at_s = max(self._next_s, now_s)
        self._next_s = at_s + self._interval_s
        if at_s > now_s:
            await asyncio.sleep(at_s - now_s)
