"""A process with an embedded engine that starts and finishes workflows until it is killed.

What it prints was acknowledged: `started ID` when a start was answered, `finished ID` when the completion was.
Arguments: the engine's address, the number of this incarnation.
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.builders import complete_workflow, duration
from tests.support.embedded import TransportClient

QUEUE = "crash-queue"
STARTERS = 4
WORKERS = 4


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _start(client: TransportClient, prefix: str) -> None:
    number = 0
    while True:
        workflow_id = f"{prefix}-{number}"
        await client.start(workflow_id, QUEUE, workflow_task_timeout=duration(1))
        _say(f"started {workflow_id}")
        number += 1


async def _work(client: TransportClient) -> None:
    while True:
        task = await client.poll_workflow_task(QUEUE)
        if not task.task_token:
            continue
        await client.complete_workflow_task(task.task_token, [complete_workflow()])
        _say(f"finished {task.workflow_execution.workflow_id}")


async def main(address: str, incarnation: str) -> None:
    """Runs until the process is killed."""
    client = await TransportClient.connect(address)
    _say("ready")
    await asyncio.gather(
        *(_start(client, f"wf-{incarnation}-{starter}") for starter in range(STARTERS)),
        *(_work(client) for _ in range(WORKERS)),
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
