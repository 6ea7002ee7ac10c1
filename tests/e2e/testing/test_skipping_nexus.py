"""Nexus operations are skipped: a caller's time is that of its operations, whoever handles them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import nexusrpc
import pytest
from nexusrpc import handler as nexus_handler

from perdure import nexus, workflow
from perdure.client import WorkflowFailureError
from perdure.exceptions import NexusOperationError, TimeoutError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.unit.server.support import run

QUEUE = "nexus-queue"
ENDPOINT = "letters"
DAY = timedelta(days=1)
WEEK_S = 7 * 86_400


@nexusrpc.service
class Letters:
    """What callers know."""

    weigh: nexusrpc.Operation[str, int]
    send: nexusrpc.Operation[str, str]


@workflow.defn
class Journey:
    """Takes a week."""

    @workflow.run
    async def run(self, letter: str) -> str:
        await asyncio.sleep(WEEK_S)
        return f"{letter} has arrived"


@nexus_handler.service_handler(service=Letters)
class LettersHandler:
    """Serves them: one operation at once, the other as a workflow."""

    @nexus_handler.sync_operation
    async def weigh(self, ctx: nexus_handler.StartOperationContext, input: str) -> int:
        return len(input)

    @nexus.workflow_run_operation
    async def send(self, ctx: nexus.WorkflowRunOperationContext, input: str) -> nexus.WorkflowHandle[str]:
        return await ctx.start_workflow(Journey.run, input, id=f"journey-{ctx.request_id}")


@workflow.defn
class Sender:
    """Waits for both operations; the second is given so many days at most."""

    @workflow.run
    async def run(self, days: int) -> str:
        letters = workflow.create_nexus_client(service=Letters, endpoint=ENDPOINT)
        weight = await letters.execute_operation(Letters.weigh, "a letter")
        await asyncio.sleep(WEEK_S)
        said = await letters.execute_operation(
            Letters.send, "a letter", schedule_to_close_timeout=timedelta(days=days)
        )
        return f"{said}: {weight}"


def _send(days: int, seconds_at_least: float) -> str:
    """Sends a letter where time skips. Returns the result, and checks how much time passed for the server."""

    async def scenario() -> str:
        async with (
            await WorkflowEnvironment.start_time_skipping() as env,
            Worker(
                env.client,
                task_queue=QUEUE,
                workflows=[Sender, Journey],
                nexus_service_handlers=[LettersHandler()],
            ),
        ):
            await env.create_nexus_endpoint(ENDPOINT, QUEUE)
            begin = await env.get_current_time()
            try:
                return await env.client.execute_workflow(Sender.run, days, id="wf", task_queue=QUEUE)
            finally:
                passed = (await env.get_current_time() - begin).total_seconds()
                assert seconds_at_least <= passed < seconds_at_least + 60

    return run(scenario())


def test_a_caller_waits_for_its_operations() -> None:
    """One is answered at once; the timer inside the other's workflow is skipped, while both sides wait."""
    assert _send(30, 2 * WEEK_S) == "a letter has arrived: 8"


def test_an_operation_that_takes_too_long_times_out() -> None:
    """At its own deadline, before that of the workflow behind it."""
    with pytest.raises(WorkflowFailureError) as caught:
        _send(2, WEEK_S + 2 * DAY.total_seconds())
    assert isinstance(caught.value.cause, NexusOperationError)
    assert isinstance(caught.value.cause.cause, TimeoutError)
