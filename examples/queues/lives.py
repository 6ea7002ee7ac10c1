"""A consumer that dies: each life is a process that kills itself somewhere, and is followed by another.

    python -m examples.queues.lives --broker redis --port 6379 --queue orders --way bridge --kills 20 ...

Prints one line of JSON: how often it was killed. Processes are forked from one that has imported everything, so a life
costs little. May live here: dying and living again. May not: what is measured by it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from examples.queues.brokers import BROKERS, Broker
from examples.queues.orders import Ledger
from examples.queues.plain import consume
from perdure.client import Client
from perdure.contrib.bridge import Bridge, Delivery, Source

CLAIM_AFTER_S = 2
"""After which a life gets what an earlier one had taken; long enough for a machine that has other things to do."""

IDLE_S = 2.6
"""A bridge that has got nothing for so long (more than a claim takes to expire) has nothing left to do."""

WATCH_EVERY_S = 0.05
REQUEUED_AFTER_S = 0.3
"""After which a broker has noticed that a connection is gone."""

LIFE_LIMIT_S = 120.0


class Fate:
    """Kills the process at one of the points it passes.

    Args:
        chance: Of dying at a point, 0 to 1.
        points: Where it may happen; empty for anywhere.
        seed: The same seed dies at the same points.
    """

    def __init__(self, chance: float, points: Sequence[str], seed: str) -> None:
        self._chance = chance
        self._points = points
        self._random = random.Random(seed)

    def meet(self, point: str) -> None:
        """Pass a point, or die there."""
        if (not self._points or point in self._points) and self._random.random() < self._chance:
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """A source whose process may die before and after whatever the bridge does."""

    def __init__(self, source: Source, fate: Fate) -> None:
        self._source = source
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Messages are with the bridge, and nothing has happened."""
        taken = await self._source.take(limit)
        if taken:
            self._fate.meet("taken")
        return taken

    async def acknowledge(self, delivery: Delivery) -> None:
        """The bridge has acted, and the broker does not know."""
        self._fate.meet("acted")
        await self._source.acknowledge(delivery)
        self._fate.meet("acknowledged")

    async def set_aside(self, delivery: Delivery, reason: str) -> None:
        """Around setting aside."""
        self._fate.meet("refused")
        await self._source.set_aside(delivery, reason)
        self._fate.meet("set aside")


def live(
    one_life: Callable[[Fate], None], *, kills: int, chance: float, points: Sequence[str], seed: str
) -> int:
    """Run one life after another until one ends by itself; the last, after `kills`, is not killed.

    Returns:
        How often it was killed.

    Raises:
        RuntimeError: A life failed, or took too long.
    """
    killed = 0
    while True:
        fate = Fate(chance if killed < kills else 0.0, points, f"{seed}/{killed}")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(int(LIFE_LIMIT_S))
                one_life(fate)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return killed
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise RuntimeError(f"a life ended with status {status}")
        killed += 1


async def bridge_until_idle(bridge: Bridge) -> None:
    """Run a bridge until it has got nothing for a while, and stop it."""
    running = asyncio.create_task(bridge.run())
    before, since = -1, time.monotonic()
    while not running.done() and (bridge.counters.taken != before or time.monotonic() - since < IDLE_S):
        if bridge.counters.taken != before:
            before, since = bridge.counters.taken, time.monotonic()
        await asyncio.sleep(WATCH_EVERY_S)
    bridge.stop()
    await running


def _lives(given: argparse.Namespace) -> int:
    broker: Broker = BROKERS[given.broker](given.port)
    ledger = Ledger(given.ledger)
    module, _, function = given.handler.partition(":")
    handler = getattr(importlib.import_module(module), function)

    async def bridging(fate: Fate) -> None:
        client = await Client.connect(given.server)
        bridge = Bridge(
            client, Mortal(broker.source(given.queue, claim_after_s=CLAIM_AFTER_S), fate), handler=handler
        )
        await bridge_until_idle(bridge)
        await client.close()

    def one_life(fate: Fate) -> None:
        if given.way == "bridge":
            asyncio.run(bridging(fate))
        else:
            asyncio.run(consume(broker, given.queue, ledger, given.way, fate.meet))

    killed = 0
    while True:
        killed += live(
            one_life,
            kills=given.kills - killed,
            chance=given.chance,
            points=given.at,
            seed=f"{given.seed}/{killed}",
        )
        time.sleep(REQUEUED_AFTER_S)
        if asyncio.run(broker.left(given.queue)) == 0:
            return killed


def main() -> None:
    """Read what to do, live, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=BROKERS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--way", choices=["bridge", "acknowledge-first", "acknowledge-last"], required=True)
    parser.add_argument("--handler", default="examples.queues.orders:decide")
    parser.add_argument("--server", default="127.0.0.1:7233")
    parser.add_argument("--ledger", type=Path, default=Path("ledger"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--chance", type=float, default=0.3)
    parser.add_argument("--at", nargs="*", default=[])
    parser.add_argument("--seed", default="1")
    json.dump({"killed": _lives(parser.parse_args())}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
