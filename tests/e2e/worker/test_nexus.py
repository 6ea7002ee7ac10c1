"""Nexus between two workers: results, errors and cancellations cross from one namespace's workflow to another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import nexusrpc
import pytest
from nexusrpc import handler as nexus_handler

from perdure import activity, nexus, workflow
from perdure.client import (
    ActivityExecutionDescription,
    ActivityExecutionStatus,
    Client,
    NexusOperationFailureError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from perdure.common import NexusOperationExecutionStatus, NexusOperationIDConflictPolicy
from perdure.exceptions import (
    ApplicationError,
    CancelledError,
    NexusOperationAlreadyStartedError,
    NexusOperationError,
    TerminatedError,
)
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.e2e.python_sdk import unique
from tests.e2e.worker.targets import KINDS, Target


@nexusrpc.service
class Orders:
    """What callers know."""

    price: nexusrpc.Operation[int, int]
    deliver: nexusrpc.Operation[str, str]
    change: nexusrpc.Operation[str, str]
    pack: nexusrpc.Operation[str, str]


@activity.defn
async def pack(article: str) -> str:
    """Answers an operation: at once, with a failure, or when it is cancelled."""
    if article == "glass":
        raise ApplicationError("broken", type="Broken", non_retryable=True)
    while article == "piano":
        activity.heartbeat()
        await asyncio.sleep(0.1)
    return f"{article} in a box"


@workflow.defn
class Delivery:
    """Answers an operation: at once, by an update, or never."""

    def __init__(self) -> None:
        self.address = ""

    @workflow.run
    async def run(self, address: str) -> str:
        self.address = address
        if address == "unknown":
            await workflow.wait_condition(lambda: self.address != "unknown")
        return f"delivered to {self.address}"

    @workflow.update
    async def move(self, address: str) -> str:
        self.address, old = address, self.address
        return f"{old} -> {address}"


@nexus_handler.service_handler(service=Orders)
class OrdersHandler:
    """Serves them."""

    @nexus_handler.sync_operation
    async def price(self, ctx: nexus_handler.StartOperationContext, input: int) -> int:
        if input < 0:
            raise nexusrpc.OperationError(
                "nothing is cheaper than free", state=nexusrpc.OperationErrorState.FAILED
            )
        if input > 1000:
            raise nexusrpc.HandlerError("too much", type=nexusrpc.HandlerErrorType.BAD_REQUEST)
        return 2 * input

    @nexus.workflow_run_operation
    async def deliver(self, ctx: nexus.WorkflowRunOperationContext, input: str) -> nexus.WorkflowHandle[str]:
        return await ctx.start_workflow(Delivery.run, input, id=f"delivery-{ctx.request_id}")

    @nexus.temporal_operation
    async def change(
        self, ctx: nexus.TemporalStartOperationContext, client: nexus.TemporalNexusClient, input: str
    ) -> nexus.TemporalOperationResult[str]:
        return await client.start_workflow_update(input, Delivery.move, "elsewhere")

    @nexus.temporal_operation
    async def pack(
        self, ctx: nexus.TemporalStartOperationContext, client: nexus.TemporalNexusClient, input: str
    ) -> nexus.TemporalOperationResult[str]:
        return await client.start_activity(
            pack,
            input,
            id=f"pack-{ctx.request_id}",
            start_to_close_timeout=timedelta(seconds=40),
            heartbeat_timeout=timedelta(seconds=1),
        )


@workflow.defn
class Call:
    """Calls one operation."""

    @workflow.run
    async def run(self, endpoint: str, operation: str, value: Any, seconds_until_cancel: float) -> Any:
        caller = workflow.create_nexus_client(service=Orders, endpoint=endpoint)
        handle: workflow.NexusOperationHandle[Any] = await caller.start_operation(
            getattr(Orders, operation), value, schedule_to_close_timeout=timedelta(seconds=40)
        )
        if seconds_until_cancel:
            await workflow.sleep(seconds_until_cancel)
            handle.cancel()
        return await handle


class Callers:
    """A worker with the service and its callers.

    Args:
        client: Of the namespace of both.
        queue: Of both.
        endpoint: Name of the service's.
    """

    def __init__(self, client: Client, queue: str, endpoint: str) -> None:
        self.client = client
        self.queue = queue
        self.endpoint = endpoint

    async def call(self, operation: str, value: object, seconds_until_cancel: float = 0) -> Any:
        """Call an operation from a workflow."""
        return await self.client.execute_workflow(
            Call.run,
            args=[self.endpoint, operation, value, seconds_until_cancel],
            id=unique("call"),
            task_queue=self.queue,
        )


@asynccontextmanager
async def _callers(client: Client) -> AsyncIterator[Callers]:
    queue = unique("nexus")
    environment = WorkflowEnvironment.from_client(client)
    endpoint = await environment.create_nexus_endpoint(unique("endpoint"), queue)
    try:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[Call, Delivery],
            activities=[pack],
            nexus_service_handlers=[OrdersHandler()],
        ):
            yield Callers(client, queue, endpoint.spec.name)
    finally:
        await environment.delete_nexus_endpoint(endpoint)


@pytest.fixture(scope="module", params=KINDS)
def nexus_target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """One server for all tests of this file."""
    target = Target(request.param)
    target.start()
    try:
        yield target
    finally:
        target.stop()


def _with_callers(scenario: Callable[[Callers], Awaitable[None]]) -> Callable[[Target], None]:
    async def run(client: Client) -> None:
        async with _callers(client) as callers:
            await scenario(callers)

    def test(nexus_target: Target) -> None:
        nexus_target.run(run)

    test.__doc__ = scenario.__doc__
    return test


@_with_callers
async def test_an_operation_is_answered_at_once(callers: Callers) -> None:
    """By the handler itself."""
    assert await callers.call("price", 21) == 42


@_with_callers
async def test_a_workflow_answers_an_operation(callers: Callers) -> None:
    """When it is over; each side's history leads to the other's."""
    assert await callers.call("deliver", "home") == "delivered to home"
    deliveries = [run.id async for run in callers.client.list_workflows(f"TaskQueue = '{callers.queue}'")]
    [delivery] = [found for found in deliveries if found.startswith("delivery-")]
    history = await callers.client.get_workflow_handle(delivery).fetch_history()
    started = history.events[0].workflow_execution_started_event_attributes
    assert started.completion_callbacks[0].nexus.header["nexus-operation-token"]
    [link] = [*history.events[0].links, *started.completion_callbacks[0].links]
    assert link.workflow_event.workflow_id.startswith("call-")


@_with_callers
async def test_a_cancelled_operation_cancels_its_workflow(callers: Callers) -> None:
    """And the caller sees a cancellation."""
    with pytest.raises(WorkflowFailureError) as caught:
        await callers.call("deliver", "unknown", 0.5)
    assert isinstance(caught.value.cause, NexusOperationError | CancelledError)
    found = callers.client.list_workflows(f"TaskQueue = '{callers.queue}' AND WorkflowType = 'Delivery'")
    async with asyncio.timeout(20):
        statuses = [
            (await callers.client.get_workflow_handle(run.id).describe()).status async for run in found
        ]
    assert statuses == [WorkflowExecutionStatus.CANCELED]


# Perdure's server takes no callbacks for updates yet, and says so.
@pytest.mark.parametrize("nexus_target", ["official"], indirect=True)
@_with_callers
async def test_an_update_answers_an_operation(callers: Callers) -> None:
    """Of a workflow that runs already."""
    delivery = unique("delivery")
    handle = await callers.client.start_workflow(
        Delivery.run, "unknown", id=delivery, task_queue=callers.queue
    )
    assert await callers.call("change", delivery) == "unknown -> elsewhere"
    assert await handle.result() == "delivered to elsewhere"


async def _packed(callers: Callers) -> ActivityExecutionDescription:
    """Describe the activity that answered."""
    found = callers.client.list_activities(f"TaskQueue = '{callers.queue}'")
    [listed] = [one async for one in found]
    return await callers.client.get_activity_handle(listed.activity_id).describe()


# Perdure's server takes no callbacks for activities yet, and says so.
@pytest.mark.parametrize("nexus_target", ["official"], indirect=True)
@_with_callers
async def test_an_activity_answers_an_operation(callers: Callers) -> None:
    """Without any workflow of the service; each side leads to the other's."""
    assert await callers.call("pack", "cup") == "cup in a box"
    packed = await _packed(callers)
    [shown] = packed.raw_callbacks
    [link] = shown.info.callback.links
    assert link.workflow_event.workflow_id.startswith("call-")
    history = await callers.client.get_workflow_handle(link.workflow_event.workflow_id).fetch_history()
    [started] = [
        event for event in history.events if event.HasField("nexus_operation_started_event_attributes")
    ]
    assert started.links[0].activity.run_id == packed.activity_run_id


@pytest.mark.parametrize("nexus_target", ["official"], indirect=True)
@_with_callers
async def test_an_operation_fails_as_its_activity_does(callers: Callers) -> None:
    """With the same failure as the cause."""
    with pytest.raises(WorkflowFailureError) as caught:
        await callers.call("pack", "glass")
    failed = caught.value.cause
    assert isinstance(failed, NexusOperationError)
    assert isinstance(failed.cause, ApplicationError)
    assert (failed.cause.message, failed.cause.type) == ("broken", "Broken")


@pytest.mark.parametrize("nexus_target", ["official"], indirect=True)
@_with_callers
async def test_a_cancelled_operation_cancels_its_activity(callers: Callers) -> None:
    """And the caller sees a cancellation."""
    with pytest.raises(WorkflowFailureError) as caught:
        await callers.call("pack", "piano", 0.5)
    failed = caught.value.cause
    assert isinstance(failed.cause if isinstance(failed, NexusOperationError) else failed, CancelledError)
    assert (await _packed(callers)).status is ActivityExecutionStatus.CANCELED


@_with_callers
async def test_errors_of_operations_and_handlers_are_told_apart(callers: Callers) -> None:
    """The one is what the operation ended in; the other is trouble of its service."""
    with pytest.raises(WorkflowFailureError) as failed:
        await callers.call("price", -1)
    operation_error = failed.value.cause
    assert isinstance(operation_error, NexusOperationError)
    assert "cheaper" in str(operation_error.cause)
    with pytest.raises(WorkflowFailureError) as refused:
        await callers.call("price", 1001)
    handler_error = refused.value.cause
    assert isinstance(handler_error, NexusOperationError)
    assert isinstance(handler_error.cause, nexusrpc.HandlerError)
    assert handler_error.cause.type is nexusrpc.HandlerErrorType.BAD_REQUEST


# --- operations that a client starts


@_with_callers
async def test_a_client_starts_operations_and_waits_for_them(callers: Callers) -> None:
    """Answered at once, or by a workflow; a handle made from the id has the same result."""
    client = callers.client
    orders = client.create_nexus_client(service=Orders, endpoint=callers.endpoint)
    assert await orders.execute_operation(Orders.price, 21, id=unique("price")) == 42
    handle = await orders.start_operation(
        Orders.deliver, "home", id=unique("deliver"), summary="to the door", headers={"key": "value"}
    )
    assert await handle.result() == "delivered to home"
    again = client.get_nexus_operation_handle(handle.operation_id, operation=Orders.deliver)
    assert await again.result() == "delivered to home"
    named = client.create_nexus_client("Orders", callers.endpoint)
    assert await named.execute_operation("price", 4, id=unique("price"), result_type=int) == 8
    by_handler = client.create_nexus_client(service=OrdersHandler, endpoint=callers.endpoint)
    assert await by_handler.execute_operation(OrdersHandler.price, 5, id=unique("price")) == 10
    described = await handle.describe()
    assert described.status is NexusOperationExecutionStatus.COMPLETED
    assert (described.service, described.operation, described.attempt) == ("Orders", "deliver", 1)
    assert await described.static_summary() == "to the door"
    assert described.raw_description.nexus_header == {"key": "value"}
    assert described.operation_token


@_with_callers
async def test_a_clients_operation_fails_with_its_cause(callers: Callers) -> None:
    """Once and for all: the same error is raised again."""
    orders = callers.client.create_nexus_client(service=Orders, endpoint=callers.endpoint)
    handle = await orders.start_operation(Orders.price, 1001, id=unique("price"))
    with pytest.raises(NexusOperationFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, nexusrpc.HandlerError)
    with pytest.raises(NexusOperationFailureError) as second:
        await handle.result()
    assert second.value is caught.value
    shown = await handle.describe()
    assert isinstance(shown.last_attempt_failure, nexusrpc.HandlerError)
    with pytest.raises(ValueError, match="not a Nexus operation"):
        await orders.start_operation(len, 1, id=unique("price"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="neither a name nor a class"):
        callers.client.create_nexus_client(service=Delivery, endpoint=callers.endpoint)


@_with_callers
async def test_a_client_ends_operations_and_finds_them(callers: Callers) -> None:
    """Cancelled through its handler, terminated at once; an id in use is refused."""
    client = callers.client
    orders = client.create_nexus_client(service=Orders, endpoint=callers.endpoint)
    first = await orders.start_operation(Orders.deliver, "unknown", id=unique("deliver"))
    with pytest.raises(NexusOperationAlreadyStartedError) as taken:
        await orders.start_operation(Orders.deliver, "unknown", id=first.operation_id)
    assert taken.value.run_id == first.run_id
    same = await orders.start_operation(
        Orders.deliver,
        "unknown",
        id=first.operation_id,
        id_conflict_policy=NexusOperationIDConflictPolicy.USE_EXISTING,
    )
    assert same.run_id == first.run_id
    await first.cancel(reason="not wanted")
    with pytest.raises(NexusOperationFailureError) as canceled:
        await first.result()
    assert isinstance(canceled.value.cause, CancelledError)
    shown = await first.describe()
    assert shown.cancellation_info is not None
    assert shown.cancellation_info.reason == "not wanted"
    second = await orders.start_operation(Orders.deliver, "unknown", id=unique("deliver"))
    await second.terminate(reason="enough")
    with pytest.raises(NexusOperationFailureError, match="failed") as terminated:
        await second.result()
    assert isinstance(terminated.value.cause, TerminatedError)
    mine = f"Endpoint = '{callers.endpoint}'"
    async with asyncio.timeout(20):
        while (await client.count_nexus_operations(f"{mine} AND ExecutionStatus != 'Running'")).count < 2:
            await asyncio.sleep(0)
    found = {row.operation_id: row.status async for row in client.list_nexus_operations(mine, page_size=1)}
    assert found == {
        first.operation_id: NexusOperationExecutionStatus.CANCELED,
        second.operation_id: NexusOperationExecutionStatus.TERMINATED,
    }
    grouped = await client.count_nexus_operations(f"{mine} GROUP BY ExecutionStatus")
    assert sorted(str(group.group_values[0]) for group in grouped.groups) == ["Canceled", "Terminated"]


def test_a_broken_executor_of_handlers_ends_the_worker() -> None:
    """And its error says which part could not go on."""

    @nexus_handler.service_handler(name="Orders")
    class Threaded:
        @nexus_handler.sync_operation
        def price(self, ctx: nexus_handler.StartOperationContext, input: int) -> int:
            raise NotImplementedError

    class Broken(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            raise BrokenExecutor("gone")

    async def scenario(client: Client) -> None:
        queue = unique("nexus")
        environment = WorkflowEnvironment.from_client(client)
        endpoint = await environment.create_nexus_endpoint(unique("endpoint"), queue)
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[Call],
            nexus_service_handlers=[Threaded()],
            nexus_task_executor=Broken(1),
            max_concurrent_nexus_tasks=1,
        )
        arguments = [endpoint.spec.name, "price", 1, 0]
        await client.start_workflow(Call.run, args=arguments, id=queue, task_queue=queue)
        with pytest.raises(RuntimeError, match="Nexus worker failed") as caught:
            await worker.run()
        assert isinstance(caught.value.__cause__, BrokenExecutor)

    Target("embedded").run(scenario)
