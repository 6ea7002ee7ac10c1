"""The simulated clock and source of ids: a wall clock that jumps, and what one server process sees of it."""

from __future__ import annotations

from random import Random

from perdure.core.run.ids import uuid4, uuid7
from tests.simulation.loop import SimLoop

EPOCH_NS = 1_800_000_000 * 1_000_000_000
"""When simulations begin."""


class WallClock:
    """The machine's clock: simulated time plus an offset that faults change.

    Args:
        loop: the simulated time.
    """

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.offset_ns = 0

    def now_ns(self) -> int:
        """The time of day, nanoseconds since the epoch."""
        return EPOCH_NS + self._loop.now_ns + self.offset_ns


class SimRuntime:
    """The `perdure.server.runtime.Runtime` of one server process.

    Args:
        clock: the machine's.
        random: for ids.
    """

    def __init__(self, clock: WallClock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._last_ns = 0

    def now_ns(self) -> int:
        """The wall clock; within one process it never goes back.

        A process that catches up after a pause does much in no time; as on a real clock, no two readings are the same:
        a workflow task that was lost from memory and the next one are told apart by when they started.
        """
        self._last_ns = max(self._last_ns + 1, self._clock.now_ns())
        return self._last_ns

    def new_run_id(self) -> str:
        """A UUID of version 7."""
        return uuid7(self.now_ns() // 1_000_000, self._random.getrandbits(80))

    def new_id(self) -> str:
        """A UUID of version 4."""
        return new_uuid(self._random)


def new_uuid(random: Random) -> str:
    """A UUID of version 4 from this source."""
    return uuid4(random.getrandbits(128).to_bytes(16, "big"))
