"""Resets on a whole server: what of the runs that followed is done once more, and chains of any length."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from perdure.core.run.limits import Limits
from perdure.server.config import ServerConfig
from tests.support.builders import complete_workflow, continue_as_new, queue, start_child
from tests.support.proto import enums, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

AT_ONCE = ServerConfig(port=0, limits=replace(Limits(), chain_interval_ns=0))
ABANDON = enums.ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON
EventType = enums.EventType


async def step(client: LocalClient, queue_name: str, *commands: Any) -> None:
    """Completes the next workflow task of a queue."""
    task = await client.poll_workflow_task(queue(queue_name))
    assert task.task_token, f"no task on {queue_name}"
    await client.complete_workflow_task(task.task_token, commands)


async def reset(client: LocalClient, run_id: str, event_id: int) -> str:
    """Resets a run; returns the new one's id."""
    request = workflowservice.ResetWorkflowExecutionRequest(
        namespace="default", request_id="reset", workflow_task_finish_event_id=event_id, reason="why"
    )
    request.workflow_execution.workflow_id, request.workflow_execution.run_id = "w", run_id
    response: Any = await client.invoke(request)
    return str(response.run_id)


def test_signals_of_a_long_chain_are_received_again() -> None:
    """Longer than functions can call each other."""
    runs = 120

    async def scenario() -> None:
        async with serving(AT_ONCE) as client:
            first = await client.start("w", "q")
            for number in range(runs):
                if number % 40 == 0:
                    await client.signal("w", f"s{number}")
                await step(client, "q", continue_as_new())
            depth, frame = 0, sys._getframe()
            while frame.f_back is not None:
                depth, frame = depth + 1, frame.f_back
            usual = sys.getrecursionlimit()
            sys.setrecursionlimit(depth + 100)
            try:
                new_run_id = await reset(client, first.run_id, 3)
            finally:
                sys.setrecursionlimit(usual)
            events = await client.history("w", run_id=new_run_id)
            names = [
                event.workflow_execution_signaled_event_attributes.signal_name
                for event in events
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
            ]
            assert names == ["s0", "s40", "s80"]

    run(scenario())


def test_children_of_the_runs_that_followed_are_not_the_new_runs() -> None:
    """Both runs have a child whose Initiated event has the same id; only the other run's child has ended."""

    async def scenario() -> None:
        async with serving(AT_ONCE) as client:
            first = await client.start("w", "q")
            await step(client, "q", start_child("own", task_queue=queue("own"), parent_close_policy=ABANDON))
            await step(client, "q", continue_as_new())
            await step(client, "q", start_child("other", task_queue=queue("other")))
            await step(client, "other", complete_workflow())
            await step(client, "q")
            new_run_id = await reset(client, first.run_id, 8)
            described = await client.describe("w", run_id=new_run_id)
            assert [child.workflow_id for child in described.pending_children] == ["own"]

    run(scenario())
