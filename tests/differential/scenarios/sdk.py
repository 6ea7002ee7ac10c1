"""Scenarios through the official Python SDK: real workers and clients, compared by the histories they leave."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker

from tests.differential.context import Context, Run
from tests.differential.registry import scenario, slow_scenario

# The SDK warns about every activity that fails, as these are meant to.
logging.getLogger("temporalio").setLevel(logging.ERROR)

SHORT = timedelta(seconds=10)
FAST_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=3)


@activity.defn
async def greet(name: str) -> str:
    return f"hello {name}"


@activity.defn
async def fail_once() -> str:
    if activity.info().attempt == 1:
        raise ApplicationError("first time", type="Once")
    return f"attempt {activity.info().attempt}"


@activity.defn
async def fail_always() -> None:
    raise ApplicationError("for good", "detail", type="Always", non_retryable=True)


@activity.defn
async def wait_for_cancel() -> None:
    while True:
        activity.heartbeat("waiting")
        await asyncio.sleep(0.2)


ACTIVITIES = (greet, fail_once, fail_always, wait_for_cancel)


@workflow.defn
class Order:
    """Activities one after another, a timer, a signal and a query."""

    def __init__(self) -> None:
        self.delivered = False
        self.status = "new"

    @workflow.run
    async def run(self, name: str) -> list[str]:
        greeting = await workflow.execute_activity(greet, name, start_to_close_timeout=SHORT)
        again = await workflow.execute_activity(
            fail_once, start_to_close_timeout=SHORT, retry_policy=FAST_RETRY
        )
        self.status = "waiting"
        await workflow.wait_condition(lambda: self.delivered, timeout=timedelta(seconds=30))
        self.status = "delivered"
        return [greeting, again]

    @workflow.signal
    def deliver(self) -> None:
        self.delivered = True

    @workflow.query
    def get_status(self) -> str:
        return self.status


@workflow.defn
class Failing:
    """Ends with the failure of its activity."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(fail_always, start_to_close_timeout=SHORT)


@workflow.defn
class Cancellable:
    """Waits for an activity until it is cancelled."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.execute_activity(
                wait_for_cancel,
                start_to_close_timeout=timedelta(seconds=60),
                heartbeat_timeout=timedelta(seconds=2),
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
        except ActivityError:
            return "cancelled"
        return "finished"


@workflow.defn
class Local:
    """A local activity, a patch, a memo change."""

    @workflow.run
    async def run(self) -> str:
        result = await workflow.execute_local_activity(greet, "local", start_to_close_timeout=SHORT)
        if workflow.patched("patch"):
            workflow.upsert_memo({"patched": True})
        return result


@workflow.defn
class Sleeper:
    """One timer."""

    @workflow.run
    async def run(self) -> str:
        await asyncio.sleep(1)
        return "awake"


WORKFLOWS = (Order, Failing, Cancellable, Local, Sleeper)


class _Session:
    """An SDK client and worker of one scenario."""

    def __init__(self, ctx: Context, client: Client, **options: Any) -> None:
        self.ctx = ctx
        self.client = client
        self.task_queue = ctx.id("queue")
        self.worker = Worker(
            client,
            task_queue=self.task_queue,
            workflows=WORKFLOWS,
            activities=ACTIVITIES,
            workflow_runner=workflow_runner(),
            identity="worker",
            **options,
        )

    async def start(self, kind: Any, *args: Any, **options: Any) -> WorkflowHandle[Any, Any]:
        """Start a run of this workflow class on the worker's queue."""
        return await self.client.start_workflow(
            kind.run, args=args, id=self.ctx.id("wf"), task_queue=self.task_queue, **options
        )

    async def record_history(self, handle: WorkflowHandle[Any, Any]) -> None:
        """Record the history through the raw client."""
        await Run(self.ctx, handle.id, handle.first_execution_run_id or "", self.task_queue).record_history()


def workflow_runner() -> Any:
    """The unsandboxed runner: these workflow classes share a module with the scenarios."""
    from temporalio.worker import UnsandboxedWorkflowRunner

    return UnsandboxedWorkflowRunner()


async def _connect(ctx: Context, **options: Any) -> _Session:
    client = await Client.connect(ctx.client.address, identity="sdk-client")
    return _Session(ctx, client, **options)


@scenario
async def sdk_order(ctx: Context) -> None:
    """Activities, a retry, a query, a signal, the result; the query again on the closed run."""
    session = await _connect(ctx)
    async with session.worker:
        handle = await session.start(Order, "you")

        async def status() -> str:
            return str(await handle.query(Order.get_status))

        await ctx.until("waiting", status, lambda value: value == "waiting")
        await handle.signal(Order.deliver)
        ctx.record("result", await handle.result())
        ctx.record("query after closing", await status())
    await session.record_history(handle)


@scenario
async def sdk_order_without_cache(ctx: Context) -> None:
    """The same order with no workflow cache: every task replays from the first event."""
    session = await _connect(ctx, max_cached_workflows=0)
    async with session.worker:
        handle = await session.start(Order, "you")
        run = Run(ctx, handle.id, handle.first_execution_run_id or "", session.task_queue)

        async def timer_started() -> bool:
            return any(event.HasField("timer_started_event_attributes") for event in await run.events())

        await ctx.until("waiting", timer_started, bool)
        await handle.signal(Order.deliver)
        ctx.record("result", await handle.result())
    await session.record_history(handle)


@scenario
async def sdk_failure(ctx: Context) -> None:
    """A non-retryable activity failure ends the run; what the client raises."""
    session = await _connect(ctx)
    async with session.worker:
        handle = await session.start(Failing)
        try:
            await handle.result()
        except WorkflowFailureError as error:
            causes = [type(error.cause).__name__, str(error.cause)]
            ctx.record("client", causes)
    await session.record_history(handle)


@scenario
async def sdk_cancel(ctx: Context) -> None:
    """Cancelling a run whose activity heartbeats: the activity learns it and the run ends in order."""
    session = await _connect(ctx)
    async with session.worker:
        handle = await session.start(Cancellable)

        async def started() -> bool:
            described = await ctx.client.describe(handle.id)
            return any(entry.HasField("last_heartbeat_time") for entry in described.pending_activities)

        await ctx.until("activity heartbeats", started, bool)
        await handle.cancel()
        ctx.record("result", await handle.result())
    await session.record_history(handle)


@scenario
async def sdk_local_activity(ctx: Context) -> None:
    """Markers, patch and memo as the SDK writes them."""
    session = await _connect(ctx)
    async with session.worker:
        handle = await session.start(Local)
        ctx.record("result", await handle.result())
    run = Run(ctx, handle.id, handle.first_execution_run_id or "", session.task_queue)
    kinds = [int(event.event_type) for event in await run.events()]
    ctx.record("event types", kinds)


@scenario
async def sdk_worker_restart(ctx: Context) -> None:
    """A worker stops while a timer runs; another one finishes the run from its history."""
    first = await _connect(ctx)
    async with first.worker:
        handle = await first.start(Sleeper)
        run = Run(ctx, handle.id, handle.first_execution_run_id or "", first.task_queue)

        async def waiting() -> bool:
            return any(event.HasField("timer_started_event_attributes") for event in await run.events())

        await ctx.until("timer started", waiting, bool)
    second = await _connect(ctx)
    async with second.worker:
        ctx.record("result", await handle.result())
    kinds = [int(event.event_type) for event in await run.events()]
    ctx.record("ends with", kinds[-1])


@scenario
async def sdk_errors(ctx: Context) -> None:
    """What the SDK's client raises for unknown runs, a second start and a rejected query."""
    session = await _connect(ctx)
    handle = await session.start(Sleeper)
    try:
        await session.start(Sleeper)
    except Exception as error:  # The point is which class the SDK makes of the server's answer.
        ctx.record("second start", [type(error).__name__, str(error)])
    try:
        await session.client.get_workflow_handle("no-such-workflow").describe()
    except RPCError as error:
        ctx.record("unknown", [error.status.name, str(error)])
    description = await handle.describe()
    ctx.record("status", str(description.status))
    await handle.terminate("enough")
    try:
        await handle.result()
    except WorkflowFailureError as error:
        ctx.record("terminated", [type(error.cause).__name__, str(error.cause)])


@slow_scenario
async def sdk_list(ctx: Context) -> None:
    """The SDK's list and count."""
    session = await _connect(ctx)
    handle = await session.start(Sleeper)
    query = f"WorkflowId = '{handle.id}'"

    async def found() -> list[str]:
        return [entry.id async for entry in session.client.list_workflows(query)]

    ctx.record("list", await ctx.until("listed", found, bool))
    ctx.record("count", (await session.client.count_workflows(query)).count)
