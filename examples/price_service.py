"""A service for other teams: they call its operations through an endpoint, without knowing its workflows or its queue.

Small things are answered at once; a quote that takes days is a workflow, whose result reaches the caller when it is
there, whatever crashes in between. Needs `perdure[nexus]`; run `python -m examples.price_service`.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta

import nexusrpc
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation

from perdure import nexus, workflow
from perdure.client import Client
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker

ENDPOINT = "prices"
SERVICE_QUEUE = "prices"
CALLER_QUEUE = "shop"


@dataclass(frozen=True)
class Wish:
    """What a customer wants."""

    article: str
    amount: int


@nexusrpc.service
class Prices:
    """The contract: all that callers import."""

    unit_price: nexusrpc.Operation[str, int]
    quote: nexusrpc.Operation[Wish, int]


@workflow.defn
class Quote:
    """Works out a quote; asks people, waits for suppliers."""

    @workflow.run
    async def run(self, wish: Wish) -> int:
        """Returns a price in cents."""
        await workflow.sleep(timedelta(milliseconds=100))
        return wish.amount * 90


@service_handler(service=Prices)
class PriceHandler:
    """The service's own side."""

    @sync_operation
    async def unit_price(self, ctx: StartOperationContext, article: str) -> int:
        """Answers at once."""
        return 100 if article == "bolt" else 250

    @nexus.workflow_run_operation
    async def quote(self, ctx: nexus.WorkflowRunOperationContext, wish: Wish) -> nexus.WorkflowHandle[int]:
        """A workflow answers. The request's id names it: a repeated request starts nothing again."""
        return await ctx.start_workflow(Quote.run, wish, id=f"quote-{ctx.request_id}")


@workflow.defn
class Shop:
    """A caller."""

    @workflow.run
    async def run(self, wish: Wish) -> list[int]:
        """Returns the price of one and the quote for all."""
        prices = workflow.create_nexus_client(service=Prices, endpoint=ENDPOINT)
        one = await prices.execute_operation(Prices.unit_price, wish.article)
        everything = await prices.execute_operation(
            Prices.quote, wish, schedule_to_close_timeout=timedelta(days=7)
        )
        return [one, everything]


async def main(address: str) -> None:
    """Serves prices and asks for some."""
    async with await Client.connect(address) as client:
        await WorkflowEnvironment.from_client(client).create_nexus_endpoint(ENDPOINT, SERVICE_QUEUE)
        async with (
            Worker(
                client,
                task_queue=SERVICE_QUEUE,
                workflows=[Quote],
                nexus_service_handlers=[PriceHandler()],
            ),
            Worker(client, task_queue=CALLER_QUEUE, workflows=[Shop]),
        ):
            print(
                await client.execute_workflow(
                    Shop.run, Wish("bolt", 1000), id="shop-1", task_queue=CALLER_QUEUE
                )
            )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite://"))
