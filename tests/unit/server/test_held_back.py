"""Runs that wait for their first workflow task, where the official server cannot be compared with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.support.builders import complete_workflow, duration, queue
from tests.support.proto import common, enums, workflowservice
from tests.support.updates import DISCARDS, rejection, update_request
from tests.unit.server.local_client import LocalClient
from tests.unit.server.support import run

HOUR_NS = 3_600_000_000_000


class Clock(SystemRuntime):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.time_ns = 1

    def now_ns(self) -> int:
        """The time."""
        return self.time_ns


@asynccontextmanager
async def served() -> AsyncIterator[tuple[LocalClient, Clock]]:
    """A server whose clock stands still until it is moved."""
    clock = Clock()
    server = Server(MemoryStore(), ServerConfig(port=0), clock, "memory")
    await server.start()
    try:
        yield LocalClient(server), clock
    finally:
        await server.stop(0)


async def names(client: LocalClient) -> list[str]:
    """The types of a history's events."""
    types = [enums.EventType.Name(event.event_type) for event in await client.history("w")]
    return [name.removeprefix("EVENT_TYPE_WORKFLOW_") for name in types]


def test_a_delay_that_ends_while_its_run_is_paused_is_over_when_the_run_goes_on() -> None:
    async def scenario() -> None:
        async with served() as (client, clock):
            about = {"namespace": "default", "workflow_id": "w"}
            await client.start("w", "q", workflow_start_delay=duration(3600))
            await client.invoke(workflowservice.PauseWorkflowExecutionRequest(**about))
            clock.time_ns += HOUR_NS + 1
            client.server.engine.timers.clock_moved()
            await client.invoke(workflowservice.UnpauseWorkflowExecutionRequest(**about))
            task = await client.poll_workflow_task(queue("q"))
            await client.complete_workflow_task(task.task_token, [complete_workflow()])
            assert await names(client) == [
                "EXECUTION_STARTED",
                "EXECUTION_PAUSED",
                "EXECUTION_UNPAUSED",
                "TASK_SCHEDULED",
                "TASK_STARTED",
                "TASK_COMPLETED",
                "EXECUTION_COMPLETED",
            ]

    run(scenario())


@pytest.mark.parametrize("ends_meanwhile", [False, True])
def test_an_update_that_is_rejected_before_the_first_task_leaves_no_trace(ends_meanwhile: bool) -> None:
    """The first task comes when the delay is over, also if that was while the worker looked at the update."""

    async def scenario() -> None:
        async with served() as (client, clock):
            response = await client.start("w", "q", workflow_start_delay=duration(3600))
            execution = common.WorkflowExecution(workflow_id="w", run_id=response.run_id)
            asking = asyncio.create_task(client.invoke(update_request("default", execution)))
            task = await client.poll_workflow_task(queue("q"))
            if ends_meanwhile:
                clock.time_ns += HOUR_NS + 1
                client.server.engine.timers.clock_moved()
            await client.complete_workflow_task(
                task.task_token, [], messages=[rejection(task.messages[0])], capabilities=DISCARDS
            )
            answer: Any = await asking
            assert answer.outcome.failure.message
            if not ends_meanwhile:
                assert await names(client) == ["EXECUTION_STARTED"]
                clock.time_ns += HOUR_NS + 1
                client.server.engine.timers.clock_moved()
            task = await client.poll_workflow_task(queue("q"))
            assert [event.event_id for event in task.history.events] == [1, 2, 3]
            await client.complete_workflow_task(task.task_token, [complete_workflow()])
            assert len(await names(client)) == 5

    run(scenario())
