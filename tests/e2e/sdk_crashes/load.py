"""The load: a workflow of many kinds of steps, and a process that runs it until it is killed.

`python -m tests.e2e.sdk_crashes.load ADDRESS QUEUE PREFIX COUNT` starts COUNT workflows named after PREFIX and works on
whatever the queue has. It prints a line when it is ready, for each activity that it runs, and for each start that was
acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Any, Final

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.worker import Worker

PARALLEL: Final = 3
ROUNDS: Final = 2
_SHORT: Final = timedelta(seconds=2)
_SOON: Final = RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_interval=timedelta(seconds=1))


def say(text: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@activity.defn
async def work(text: str) -> str:
    """Tell, and return what came in; fail now and then the first time."""
    if text.endswith("1") and activity.info().attempt == 1:
        raise ValueError("try again")
    say(f"did {text}")
    return text


@workflow.defn
class Small:
    """A child with one activity."""

    @workflow.run
    async def run(self, text: str) -> str:
        return await workflow.execute_activity(
            work, f"{text} child", start_to_close_timeout=_SHORT, retry_policy=_SOON
        )


@workflow.defn
class Busy:
    """Rounds of parallel activities, a local activity, a timer and a child."""

    @workflow.run
    async def run(self, name: str) -> list[str]:
        seen: list[str] = []
        for number in range(ROUNDS):
            seen += await asyncio.gather(
                *(
                    workflow.execute_activity(
                        work, f"{name} {number} {branch}", start_to_close_timeout=_SHORT, retry_policy=_SOON
                    )
                    for branch in range(PARALLEL)
                )
            )
            seen.append(
                await workflow.execute_local_activity(
                    work, f"{name} {number} local", start_to_close_timeout=_SHORT, retry_policy=_SOON
                )
            )
            await asyncio.sleep(0.01)
        seen.append(await workflow.execute_child_workflow(Small.run, name, task_timeout=timedelta(seconds=2)))
        return seen


def expected_result(name: str) -> list[str]:
    """What `Busy` returns."""
    seen: list[str] = []
    for number in range(ROUNDS):
        seen += [f"{name} {number} {branch}" for branch in range(PARALLEL)] + [f"{name} {number} local"]
    return [*seen, f"{name} child"]


async def start(client: Client, workflow_id: str, queue: str) -> Any:
    """Start one workflow, whose tasks come again soon when a worker is killed."""
    return await client.start_workflow(
        Busy.run, workflow_id, id=workflow_id, task_queue=queue, task_timeout=timedelta(seconds=2)
    )


def new_worker(client: Client, queue: str) -> Worker:
    """A worker for the load."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[Busy, Small],
        activities=[work],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    )


async def main(address: str, queue: str, prefix: str, count: int) -> None:
    """Run until the process is killed."""
    client = await Client.connect(address)
    async with new_worker(client, queue):
        say("ready")
        for number in range(count):
            await start(client, f"{prefix}-{number}", queue)
            say(f"started {prefix}-{number}")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
