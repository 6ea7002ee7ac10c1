"""The worker in Python: one activity of the Node application's workflow."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from perdure import activity
from perdure.client import Client
from perdure.exceptions import ApplicationError
from perdure.worker import Worker

PRICES_QUEUE = "prices"
PRICES_CENTS = {"tea": 450, "coffee": 390}


@dataclass(frozen=True)
class Price:
    """What an order costs; `contract.ts` has the same shape."""

    total_cents: int
    priced_by: str


@activity.defn
async def price(item: str, quantity: int) -> Price:
    """Prices an order."""
    if item not in PRICES_CENTS:
        raise ApplicationError(f"{item} is not sold here", type="NotSold", non_retryable=True)
    return Price(PRICES_CENTS[item] * quantity, "Python")


async def main() -> None:
    """Works until it is stopped."""
    client = await Client.connect(os.environ.get("PERDURE_ADDRESS", "127.0.0.1:7233"))
    async with Worker(client, task_queue=PRICES_QUEUE, activities=[price]):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
