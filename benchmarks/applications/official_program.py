"""The application on the official SDK, at its defaults."""

from __future__ import annotations

import asyncio

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.applications.loop import arguments, drive
from benchmarks.applications.official_workflow import Order, charge


async def main() -> None:
    """Runs the load."""
    options = arguments(__doc__)
    client = await Client.connect(options.address)

    async def run_one(workflow_id: str, steps: int) -> str:
        return await client.execute_workflow(
            Order.run, args=["A-1", steps], id=workflow_id, task_queue="orders"
        )

    async with Worker(client, task_queue="orders", workflows=[Order], activities=[charge]):
        await drive(run_one, options)


if __name__ == "__main__":
    asyncio.run(main())
