"""A workflow with a stream, its publishers and its reader. `twins.py` makes the same ones of the official SDK."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.client import Client, WorkflowHandle
from perdure.contrib.workflow_streams import (
    WorkflowStream,
    WorkflowStreamClient,
    WorkflowStreamState,
)

QUICKLY = timedelta(milliseconds=10)
ITEMS_OF_ACTIVITY = 5


@dataclass
class Step:
    """What is streamed, with text that is not ASCII."""

    name: str
    number: int = 0


@dataclass
class Stages:
    """Input of the workflow."""

    runs: int
    stream: WorkflowStreamState | None = None


@activity.defn
async def publish_steps(run: int) -> None:
    """Publishes to the stream of its workflow."""
    async with WorkflowStreamClient.from_within_activity(batch_interval=QUICKLY) as stream:
        steps = stream.topic("steps", type=Step)
        for number in range(ITEMS_OF_ACTIVITY):
            steps.publish(Step(f"Schritt «{run}»", number))


@workflow.defn
class Streaming:
    """Streams what it and its activity do, over several runs; the last one waits for a guest's word."""

    @workflow.init
    def __init__(self, stages: Stages) -> None:
        self.stream = WorkflowStream(stages.stream)
        self.is_over = False

    @workflow.signal
    def end(self) -> None:
        """The reader has seen it all."""
        self.is_over = True

    @workflow.run
    async def run(self, stages: Stages) -> str:
        """Publishes, and goes on as new or ends."""
        raw = self.stream.topic("raw", type=bytes)
        raw.publish(b"\x00begin")
        await workflow.execute_activity(
            publish_steps, stages.runs, start_to_close_timeout=timedelta(seconds=20)
        )
        if stages.runs > 1:
            await self.stream.continue_as_new(lambda state: [Stages(stages.runs - 1, state)])
        await workflow.wait_condition(lambda: self.is_over)
        self.stream.detach_pollers()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return "over"


async def start(client: Client, queue: str, id: str, runs: int = 2) -> WorkflowHandle[Any, Any]:
    """Starts the workflow."""
    return await client.start_workflow(Streaming.run, Stages(runs), id=id, task_queue=queue)


async def greet(client: Client, id: str) -> None:
    """Publishes from outside."""
    stream = WorkflowStreamClient.create(client, id)
    stream.topic("guests").publish({"from": "outside"})
    await stream.flush()


async def read(client: Client, id: str, topics: list[str], count: int) -> list[tuple[str, int, Any]]:
    """The first items: topic, offset, value."""
    stream = WorkflowStreamClient.create(client, id)
    items: list[tuple[str, int, Any]] = []
    async for item in stream.subscribe(topics, poll_cooldown=QUICKLY):
        items.append((item.topic, item.offset, item.data))
        if len(items) == count:
            break
    return items


async def read_all(client: Client, id: str, begun: asyncio.Event) -> list[Any]:
    """What comes until the workflow ends."""
    stream = WorkflowStreamClient.create(client, id)
    values = []
    async for item in stream.subscribe(poll_cooldown=QUICKLY):
        values.append(item.data)
        begun.set()
    return values
