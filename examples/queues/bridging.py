"""`python -m examples.queues.bridging`: orders from a Redis stream to workflows, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal

from examples.queues.orders import decide
from perdure.client import Client
from perdure.contrib.bridge import Bridge
from perdure.contrib.bridge.redis import RedisStream


async def main() -> None:
    """Bridge until it is told to stop."""
    client = await Client.connect("127.0.0.1:7233", lazy=True)
    source = RedisStream("redis://localhost:6379", "orders")
    bridge = Bridge(client, source, handler=decide)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, bridge.stop)
    await bridge.run()
    print(bridge.counters)


if __name__ == "__main__":
    asyncio.run(main())
