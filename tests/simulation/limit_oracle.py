"""What is known to be true of a task queue with a rate limit: how fast the activities begin that it gives out."""

from __future__ import annotations

import math
from collections.abc import Callable

from perdure.core.activity.state import ActivityRun
from tests.simulation.model import check
from tests.simulation.trace import Trace

QUEUE = "limited"
_ON_ITS_WAY_S = 0.1
"""So much later than it was given out is an attempt durable, once the faults have ended."""
_PATIENCE_S = 5.0
"""How much longer than the limit demands a task may wait beside a worker."""


class LimitOracle:
    """Counts the attempts that begin on the limited queue.

    Args:
        trace: what happened.
        time_s: simulated time.
    """

    def __init__(self, trace: Trace, time_s: Callable[[], float]) -> None:
        self._trace = trace
        self._time_s = time_s
        self._per_second: float | None = None
        self._begun_s: list[float] = []
        self._last_s = 0.0

    def measure(self, per_second: float) -> None:
        """From now on this limit is in force."""
        self._per_second = per_second
        self._last_s = self._time_s()

    def committed(self, before: ActivityRun | None, state: ActivityRun) -> None:
        """Takes a commit of an activity."""
        if state.request.task_queue.name != QUEUE or before is None or self._per_second is None:
            return
        known, now = before.header.attempt, state.header.attempt
        if not now.started_ns or (known.started_ns, known.attempt) == (now.started_ns, now.attempt):
            return
        now_s = self._last_s = self._time_s()
        self._begun_s.append(now_s)
        # A second's permits may be given out at once.
        saved = max(1, math.ceil(self._per_second))
        for index, first_s in enumerate(self._begun_s):
            count = len(self._begun_s) - index
            allowed = saved + self._per_second * (now_s - first_s + _ON_ITS_WAY_S)
            check(count <= allowed, "no more is given out than the limit allows", (count, allowed))
        if len(self._begun_s) == 2 * saved + 2:
            self._trace.reach("limited queue: measured")

    def check_moving(self, since_s: float) -> None:
        """A task has waited on the queue beside a worker since then: others must have gone before it."""
        if not self._per_second:
            return
        waited_s = self._time_s() - max(since_s, self._last_s)
        on_time = waited_s <= 1 / self._per_second + _PATIENCE_S
        check(on_time, "a limited queue gives out what its limit allows", waited_s)
