"""The order application's worker: `python -m examples.order.worker`. Ctrl-C stops it; nothing is lost by that.

By its address it polls a server (`host:port`), or embeds the engine on a database file (`sqlite:///orders.db`, with a
gRPC port for whoever sends signals). Nothing else of the application knows the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from examples.order.activities import LOG, OrderActivities
from examples.order.ledger import Ledger
from examples.order.models import TASK_QUEUE
from examples.order.workflows import OrderWorkflow
from perdure.client import Client
from perdure.server import Server
from perdure.worker import Worker


async def run_worker(address: str, grpc: str | None, activities: OrderActivities) -> None:
    """Work on orders until SIGINT or SIGTERM; with `grpc`, the engine is embedded and listens there, too."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        if grpc is not None:
            await stack.enter_async_context(Server(address, grpc=grpc))
        worker = Worker(
            await Client.connect(address),
            task_queue=TASK_QUEUE,
            workflows=[OrderWorkflow],
            activities=[activities.charge_card, activities.notify_customer],
            # A worker that was killed keeps its cached workflows' tasks for this long; short, because we kill it.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        )
        await stack.enter_async_context(worker)
        LOG.info("worker started")
        await stopping.wait()
        LOG.info("worker stopping; its orders wait for the next worker")


def main() -> int:
    """Read the command line and run until stopped; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.order.worker", description="worker of the order example"
    )
    parser.add_argument(
        "--address", default="127.0.0.1:7233", help="the server's host:port, or sqlite:///FILE"
    )
    parser.add_argument("--grpc", help="host:port that the embedded engine listens on")
    parser.add_argument(
        "--ledger",
        type=Path,
        default=Path("orders-ledger.jsonl"),
        help="file that records attempts and effects",
    )
    parser.add_argument(
        "--sending-seconds",
        type=float,
        default=6.0,
        help="how long a message to the customer takes: time enough to stop the worker in the middle of it",
    )
    given = parser.parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    LOG.setLevel(logging.INFO)
    # The activities say themselves what failed.
    for name in ("perdure.activity", "perdure.worker"):
        logging.getLogger(name).setLevel(logging.ERROR)
    activities = OrderActivities(Ledger(given.ledger), given.sending_seconds)
    try:
        asyncio.run(run_worker(given.address, given.grpc, activities))
    except (OSError, RuntimeError) as error:
        print(f"The worker cannot run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
