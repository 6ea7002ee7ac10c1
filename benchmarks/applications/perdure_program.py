"""The application on Perdure's SDK. The address decides: `sqlite:///file` embeds the engine, else it is a server's."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from benchmarks.applications.loop import arguments, drive
from perdure import activity, workflow
from perdure.client import Client
from perdure.service import engine_processes
from perdure.worker import Worker


@activity.defn
async def charge(order: str) -> str:
    """One step: nothing to do."""
    return f"charged {order}"


@workflow.defn
class Order:
    """So many steps, one after the other."""

    @workflow.run
    async def run(self, order: str, steps: int) -> str:
        """Charges the order."""
        result = ""
        for _ in range(steps):
            result = await workflow.execute_activity(
                charge, order, start_to_close_timeout=timedelta(seconds=60)
            )
        return result


async def main() -> None:
    """Runs the load."""
    options = arguments(__doc__)
    client = await Client.connect(options.address)
    for engine in engine_processes.of_this_process():
        options.server_pid = (await asyncio.wrap_future(engine.running())).pid

    async def run_one(workflow_id: str, steps: int) -> str:
        return await client.execute_workflow(
            Order.run, args=["A-1", steps], id=workflow_id, task_queue="orders"
        )

    async with Worker(client, task_queue="orders", workflows=[Order], activities=[charge]):
        await drive(run_one, options)


if __name__ == "__main__":
    asyncio.run(main())
