"""A workflow that talks while it works, and a process that runs it and talks to it until it is killed.

`python -m tests.e2e.sdk_crashes.stream_load ADDRESS QUEUE NAME [WORKFLOW_ID...]` works on whatever the queue has, and
publishes to those workflows under its name. It prints a line when it is ready, and one for each activity that begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from perdure import activity, workflow
from perdure.client import Client, WorkflowHandle
from perdure.common import RetryPolicy
from perdure.contrib.workflow_streams import WorkflowStream, WorkflowStreamClient, WorkflowStreamState
from perdure.service import RPCError
from perdure.worker import Worker
from tests.e2e.sdk_crashes.load import say

ROUNDS: Final = 3
"""Each is a run of its own."""
PARALLEL: Final = 2
ITEMS: Final = 20
"""Of each activity."""
SAID_OUTSIDE: Final = 300
_BATCH_INTERVAL: Final = timedelta(milliseconds=20)
_SHORT: Final = timedelta(seconds=2)
_SOON: Final = RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_interval=timedelta(seconds=1))


@dataclass
class Said:
    """An item: who says it, and which of his it is."""

    speaker: str
    number: int


def activity_name(round: int, branch: int, attempt: int) -> str:
    """What an attempt of an activity calls itself."""
    return f"round {round} branch {branch} attempt {attempt}"


@activity.defn
async def talk(round: int, branch: int) -> str:
    """Publish under the attempt's name; return that."""
    name = activity_name(round, branch, activity.info().attempt)
    say(name)
    async with WorkflowStreamClient.from_within_activity(batch_interval=_BATCH_INTERVAL) as stream:
        for number in range(ITEMS):
            stream.topic("activities", type=Said).publish(Said(name, number))
            await asyncio.sleep(0.005)
    return name


@workflow.defn
class Talkative:
    """In each round it says when it begins, what its activities come to, and goes on as new."""

    @workflow.init
    def __init__(self, round: int, state: WorkflowStreamState | None) -> None:
        self.stream = WorkflowStream(state)

    @workflow.run
    async def run(self, round: int, state: WorkflowStreamState | None) -> None:
        """One round."""
        own = self.stream.topic("own", type=str)
        own.publish(f"begin {round}")
        names = await asyncio.gather(
            *(
                workflow.execute_activity(
                    talk, args=[round, branch], start_to_close_timeout=_SHORT, retry_policy=_SOON
                )
                for branch in range(PARALLEL)
            )
        )
        for name in names:
            own.publish(name)
        if round + 1 < ROUNDS:
            await self.stream.continue_as_new(lambda carried: [round + 1, carried])
        self.stream.detach_pollers()
        await workflow.wait_condition(workflow.all_handlers_finished)


async def start(client: Client, workflow_id: str, queue: str) -> WorkflowHandle[Any, Any]:
    """Start one workflow, whose tasks come again soon when a worker is killed."""
    return await client.start_workflow(
        Talkative.run, args=[0, None], id=workflow_id, task_queue=queue, task_timeout=_SHORT
    )


def new_worker(client: Client, queue: str) -> Worker:
    """A worker for the load."""
    return Worker(
        client,
        task_queue=queue,
        workflows=[Talkative],
        activities=[talk],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    )


async def _talk_from_outside(client: Client, workflow_id: str, name: str) -> None:
    """Say one thing after the other, as quickly as the workflow answers, until it has ended."""
    stream = WorkflowStreamClient.create(client, workflow_id)
    with contextlib.suppress(RPCError):
        for number in range(SAID_OUTSIDE):
            stream.topic("outside", type=Said).publish(Said(name, number))
            await stream.flush()
            await stream.get_offset()


async def main(address: str, queue: str, name: str, *workflow_ids: str) -> None:
    """Run until the process is killed."""
    client = await Client.connect(address)
    async with new_worker(client, queue):
        say("ready")
        await asyncio.gather(*(_talk_from_outside(client, each, name) for each in workflow_ids))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
