"""Whatever makes a workflow wait is skipped: children, continue-as-new, retries, cron, updates, delays, timeouts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from perdure import workflow
from perdure.client import WorkflowExecutionStatus, WorkflowFailureError
from perdure.common import RetryPolicy
from perdure.exceptions import ApplicationError, TimeoutError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.unit.server.support import run

QUEUE = "features-queue"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DAY_S = 86_400


@workflow.defn
class Child:
    """Sleeps for some days."""

    @workflow.run
    async def run(self, days: int) -> int:
        await asyncio.sleep(days * DAY_S)
        return days


@workflow.defn
class Parent:
    """Waits for children, one after the other and together."""

    @workflow.run
    async def run(self) -> int:
        total = 0
        for days in (1, 2, 3):
            total += await workflow.execute_child_workflow(Child.run, days)
        together = await asyncio.gather(
            *(workflow.execute_child_workflow(Child.run, days) for days in (1, 2, 3))
        )
        return total + sum(together)


@workflow.defn
class Continued:
    """A day in each of its runs."""

    @workflow.run
    async def run(self, left: int) -> str:
        await asyncio.sleep(DAY_S)
        if left:
            workflow.continue_as_new(left - 1)
        return "end"


@workflow.defn
class Failing:
    """Fails until its fourth attempt."""

    @workflow.run
    async def run(self) -> int:
        if workflow.info().attempt < 4:
            raise ApplicationError("not yet")
        return workflow.info().attempt


@workflow.defn
class Updated:
    """Ends a day after an update that takes an hour."""

    def __init__(self) -> None:
        self._is_updated = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self._is_updated)
        await asyncio.sleep(DAY_S)
        return "updated"

    @workflow.update
    async def change(self, number: int) -> int:
        await asyncio.sleep(3600)
        self._is_updated = True
        return number + 1


@workflow.defn
class Tick:
    """Ends at once."""

    @workflow.run
    async def run(self) -> None:
        pass


Scenario = Callable[[WorkflowEnvironment], Awaitable[None]]


def _in_environment(scenario: Scenario, at_least: timedelta, at_most: timedelta | None = None) -> None:
    """Runs a scenario, and checks how much time passed in it for the server."""

    async def work() -> None:
        async with await WorkflowEnvironment.start_time_skipping() as env:
            workflows = [Parent, Child, Continued, Failing, Updated, Tick]
            async with Worker(env.client, task_queue=QUEUE, workflows=workflows):
                begin = await env.get_current_time()
                await scenario(env)
                passed = await env.get_current_time() - begin
        assert at_least <= passed < (at_most or at_least) + timedelta(seconds=30)

    run(work())


def test_children() -> None:
    """A parent's time is that of its children."""

    async def scenario(env: WorkflowEnvironment) -> None:
        assert await env.client.execute_workflow(Parent.run, id="wf", task_queue=QUEUE) == 12

    _in_environment(scenario, 9 * DAY)


def test_chains_of_runs() -> None:
    """The result is that of the last run."""

    async def scenario(env: WorkflowEnvironment) -> None:
        assert await env.client.execute_workflow(Continued.run, 5, id="wf", task_queue=QUEUE) == "end"

    _in_environment(scenario, 6 * DAY)


def test_retries_of_workflows() -> None:
    """With the backoff between them."""

    async def scenario(env: WorkflowEnvironment) -> None:
        result = await env.client.execute_workflow(
            Failing.run, id="wf", task_queue=QUEUE, retry_policy=RetryPolicy(initial_interval=HOUR)
        )
        assert result == 4

    _in_environment(scenario, 7 * HOUR)


def test_updates() -> None:
    """Time skips in their handlers too, while somebody waits for the workflow's result."""

    async def scenario(env: WorkflowEnvironment) -> None:
        handle = await env.client.start_workflow(Updated.run, id="wf", task_queue=QUEUE)
        update = asyncio.create_task(handle.execute_update(Updated.change, 1))
        assert await handle.result() == "updated"
        assert await update == 2

    _in_environment(scenario, DAY + HOUR)


def test_cron() -> None:
    """Every run of a day."""

    async def scenario(env: WorkflowEnvironment) -> None:
        handle = await env.client.start_workflow(
            Tick.run, id="wf", task_queue=QUEUE, cron_schedule="0 * * * *"
        )
        await env.sleep(DAY)
        runs = [run async for run in env.client.list_workflows("WorkflowId = 'wf'")]
        assert sum(run.status != WorkflowExecutionStatus.RUNNING for run in runs) == 24
        await handle.terminate()

    _in_environment(scenario, DAY)


def test_delays_and_timeouts() -> None:
    """A start delay passes before the first task; a workflow that nobody works on ends with its timeout."""

    async def scenario(env: WorkflowEnvironment) -> None:
        await env.client.execute_workflow(Tick.run, id="delayed", task_queue=QUEUE, start_delay=DAY)
        with pytest.raises(WorkflowFailureError) as caught:
            await env.client.execute_workflow(
                Continued.run, 50, id="wf", task_queue=QUEUE, execution_timeout=timedelta(hours=36)
            )
        assert isinstance(caught.value.cause, TimeoutError)

    _in_environment(scenario, DAY + 36 * HOUR)
