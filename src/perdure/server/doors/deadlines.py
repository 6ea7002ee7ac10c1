"""Deadlines of many calls with few timers: calls that end within the same twentieth of a second share one."""

from __future__ import annotations

import asyncio
import math
from typing import Final, Protocol

STEP_S: Final = 0.05
"""By how much a deadline may be late. Callers keep their own; ours only ends work that nobody waits for."""
MAX_TIMEOUT_S: Final = 30 * 24 * 3600.0
"""A call that would wait longer has no deadline."""
_KEPT_TIMER_S: Final = 180.0
"""Timers nearer than this stay when their last call has ended: another call will soon need them."""


class Expiring(Protocol):
    """What has a deadline."""

    deadline: int
    """Which timer it waits for; 0: none."""

    def expire(self) -> None:
        """Its time is up."""


class Deadlines:
    """The deadlines of a server's calls."""

    __slots__ = ("_loop", "_timers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timers: dict[int, tuple[asyncio.TimerHandle, set[Expiring]]] = {}

    def add(self, call: Expiring, timeout_s: float) -> None:
        """Expires `call` in `timeout_s` seconds, unless it is discarded before."""
        if timeout_s > MAX_TIMEOUT_S:
            return
        step = math.ceil((self._loop.time() + timeout_s) / STEP_S)
        timer = self._timers.get(step)
        if timer is None:
            handle = self._loop.call_at(step * STEP_S, self._fire, step)
            timer = self._timers[step] = (handle, set())
        timer[1].add(call)
        call.deadline = step

    def discard(self, call: Expiring) -> None:
        """The call needs its deadline no more."""
        step, call.deadline = call.deadline, 0
        timer = self._timers.get(step)
        if timer is None:
            return
        timer[1].discard(call)
        if not timer[1] and step * STEP_S - self._loop.time() > _KEPT_TIMER_S:
            timer[0].cancel()
            del self._timers[step]

    def _fire(self, step: int) -> None:
        timer = self._timers.pop(step, None)
        for call in () if timer is None else timer[1]:
            call.deadline = 0
            call.expire()

    def close(self) -> None:
        """Expires nothing any more."""
        for handle, _ in self._timers.values():
            handle.cancel()
        self._timers.clear()
