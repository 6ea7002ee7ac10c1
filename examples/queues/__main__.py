"""Measures what is lost and what is doubled when the process that reads the queue is killed again and again.

    python -m examples.queues                      # all three brokers; takes minutes
    python -m examples.queues --brokers redis      # one
    python -m examples.queues --messages 20 --kills 5 --brokers redis

Starts its own brokers and server. The bank does not ask whether an order was charged before, so that everything shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from examples.queues.brokers import BROKERS, Broker
from examples.queues.orders import TASK_QUEUE, Bank, Ledger, Order
from perdure.client import Client
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

REPOSITORY = Path(__file__).resolve().parents[2]
WAYS = {
    "acknowledge-first": "plain consumer, acknowledges before its work",
    "acknowledge-last": "plain consumer, acknowledges after its work",
    "bridge": "bridge",
}
"""What is compared, with its name in the table."""

LAST_ORDERS_S = 60.0
LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Result:
    """What came of one way of doing it on one broker."""

    broker: str
    way: str
    kills: int
    messages: int
    lost: int
    doubled: int

    def row(self) -> str:
        """One row of the table."""
        return f"| {self.broker} | {WAYS[self.way]} | {self.messages} | {self.kills} | {self.lost} | {self.doubled} |"


async def measure(
    kind: str, broker: Broker, way: str, client: Client, folder: Path, given: argparse.Namespace
) -> Result:
    """Send the orders, let consumers live and die until the queue is empty, and look at the bank's ledger."""
    queue = f"{kind}-{way}"
    ledger = Ledger(folder / queue)
    orders = [f"order-{number}" for number in range(given.messages)]
    await broker.make(queue)
    await broker.send(queue, *[(json.dumps({"order": order}), order) for order in orders])
    async with Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Order],
        activities=[Bank(ledger).charge],
        max_cached_workflows=100,
    ):
        killed = await _lives(
            *("--broker", kind, "--port", str(broker.port), "--queue", queue, "--way", way),
            *("--server", str(client.service_client.config.target_host), "--ledger", str(folder / queue)),
            *("--kills", str(given.kills), "--seed", given.seed),
        )
        async with asyncio.timeout(LAST_ORDERS_S):
            while (await client.count_workflows("ExecutionStatus = 'Running'")).count:
                await asyncio.sleep(LOOK_EVERY_S)
    charges = ledger.charges()
    return Result(
        broker=kind,
        way=way,
        kills=killed,
        messages=given.messages,
        lost=sum(1 for order in orders if not charges[order]),
        doubled=sum(1 for order in orders if charges[order] > 1),
    )


async def _lives(*arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.queues.lives", *arguments),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"a consumer failed with exit code {process.returncode}")
    return int(json.loads(output)["killed"])


async def main(given: argparse.Namespace) -> None:
    """Measure all that was asked for and print a table in Markdown."""
    print("| broker | consumer | orders | killed | not charged | charged twice or more |")
    print("|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="perdure-queues-") as folder:
        for kind in given.brokers:
            async with BROKERS[kind]() as broker, await WorkflowEnvironment.start_local() as env:
                for way in WAYS:
                    result = await measure(kind, broker, way, env.client, Path(folder), given)
                    print(result.row(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--brokers", nargs="+", choices=BROKERS, default=list(BROKERS))
    parser.add_argument("--messages", type=int, default=200, help="orders for each way on each broker")
    parser.add_argument("--kills", type=int, default=100, help="how often each consumer is killed at most")
    parser.add_argument("--seed", default="1", help="another seed kills at other points")
    asyncio.run(main(parser.parse_args()))
