"""The order application's process: `python -m examples.order_demo.worker`.

By its address it embeds the engine on a database file (`sqlite:///orders.db`, with a gRPC port for whoever sends
signals) or polls a server (`host:port`). Nothing else of the application knows the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from datetime import timedelta
from pathlib import Path

from examples.order_demo.activities import OrderActivities
from examples.order_demo.ledger import Ledger
from examples.order_demo.models import TASK_QUEUE
from examples.order_demo.workflows import OrderWorkflow
from perdure.client import Client
from perdure.server import Server
from perdure.worker import Worker


async def run_application(address: str, grpc: str | None, ledger_path: Path) -> None:
    """Work on orders until the process is stopped, with the engine inside if the address is a file's."""
    if grpc is None:
        await run_worker(address, ledger_path)
        return
    async with Server(address, grpc=grpc):
        await run_worker(address, ledger_path)


async def run_worker(address: str, ledger_path: Path) -> None:
    """Poll `address` for orders until the process is stopped."""
    client = await Client.connect(address)
    activities = OrderActivities(Ledger(ledger_path))
    worker = Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[OrderWorkflow],
        activities=[activities.charge_card, activities.notify_customer],
        # A worker that vanished keeps its cached workflows' tasks for this long; short, because we kill it.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
    )
    logging.getLogger("orders").info("worker started")
    await worker.run()


def main() -> None:
    """Read the command line and run until killed."""
    parser = argparse.ArgumentParser(description="worker of the order example")
    parser.add_argument(
        "--address", default="127.0.0.1:7233", help="sqlite:///file, or the server's host:port"
    )
    parser.add_argument("--grpc", help="host:port that the embedded engine listens on")
    parser.add_argument("--ledger", type=Path, required=True, help="file that records attempts and effects")
    given = parser.parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(message)s")
    logging.getLogger("orders").setLevel(logging.INFO)
    # The activities say themselves what failed.
    logging.getLogger("perdure.worker").setLevel(logging.ERROR)
    asyncio.run(run_application(given.address, given.grpc, given.ledger))


if __name__ == "__main__":
    main()
