"""Finished runs and activities go by reference counting: a busy worker leaves nothing to the garbage collector."""

from __future__ import annotations

import asyncio
import gc

from perdure.client import Client
from perdure.worker import Worker
from tests.e2e.python_sdk import unique
from tests.e2e.worker.workflows import Call, RunActivity, echo

_RUNS = 30


def test_finished_workflows_leave_no_garbage() -> None:
    """Each would be about 90 objects in cycles, and collecting them a fifth of a worker's time."""

    async def scenario() -> None:
        queue = unique("garbage")
        async with (
            await Client.connect("sqlite://") as client,
            Worker(client, task_queue=queue, workflows=[RunActivity], activities=[echo]),
        ):

            async def run(number: int) -> None:
                workflow_id = f"{queue}-{number}"
                await client.execute_workflow(
                    RunActivity.run, Call("echo", ["x"]), id=workflow_id, task_queue=queue
                )

            for number in range(10):
                await run(number)
            gc.collect()
            gc.disable()
            try:
                for number in range(10, 10 + _RUNS):
                    await run(number)
                found = gc.collect()
            finally:
                gc.enable()
            assert found < 10 * _RUNS, found

    asyncio.run(scenario())
