"""What the simulated processes of one run share: the world they live in."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from random import Random
from typing import Any

from tests.simulation.faults import Faults
from tests.simulation.loop import Node, SimLoop
from tests.simulation.model import Broken
from tests.simulation.network import CallFailed, Network
from tests.simulation.oracle import Oracle
from tests.simulation.runtime import WallClock
from tests.simulation.trace import Trace


class Context:
    """The world of one seed.

    Args:
        seed: every random choice follows from it.
        loop, clock, trace, oracle: the world.
        faults: the rates until the faults end.
    """

    def __init__(
        self,
        seed: int,
        loop: SimLoop,
        clock: WallClock,
        trace: Trace,
        oracle: Oracle,
        faults: Faults,
    ) -> None:
        self.seed = seed
        self.loop = loop
        self.clock = clock
        self.trace = trace
        self.oracle = oracle
        self.faults = faults
        self.network = Network(loop, self.stream("network"), lambda: self.faults, trace)
        self.namespace_ids: dict[str, str] = {}
        self.calls_answered = 0
        self.store_is_down = False
        self.store_is_up_since_s = -math.inf
        self.set_back_s = 0.0
        """By how much the machine's clock was set back, in sum."""
        self.calm_since_s: float | None = None
        """Simulated seconds at which the faults ended."""

    def stream(self, name: str) -> Random:
        """A source of randomness of its own, so that one part of the world does not disturb another."""
        return Random(f"{self.seed} {name}")

    def start(self, node: Node, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task in a node; what it raises ends the run."""
        task = self.loop.spawn(node, coroutine)
        task.add_done_callback(self._look)
        return task

    def _look(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Something is wrong: the run ends."""
        self.note("FAILURE", f"{type(error).__name__}: {error}")
        self.loop.abort(error)

    async def take_the_store_down(self, seconds: float) -> None:
        """Nothing can be read or written for a while."""
        self.trace.reach("store down")
        self.store_is_down = True
        await self.loop.sleep(seconds)
        self.store_is_down = False
        self.store_is_up_since_s = self.loop.time()

    def note(self, who: str, text: str) -> None:
        """Adds a line to the trace."""
        self.trace.add(self.loop.now_ns, who, text)

    def accept(self, error: CallFailed, *allowed: str) -> None:
        """Lets a failed call pass if it may be repeated, or if its error is one of those allowed.

        Raises:
            Broken: it is another.
        """
        if not error.is_unknown and error.error not in allowed:
            raise Broken("calls fail as documented", error)
