"""In-process calls behave as calls over gRPC do: statuses, deadlines, cancellation, whose message is whose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from perdure.api.services import WORKFLOW_SERVICE
from perdure.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
    GetSystemInfoResponse,
    ListNamespacesRequest,
    PollWorkflowTaskQueueRequest,
    QueryWorkflowRequest,
    RegisterNamespaceRequest,
    SignalWithStartWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
    UpdateNamespaceRequest,
)
from perdure.core.errors import PerdureError
from perdure.server import Server
from perdure.service._errors import RPCError, RPCStatusCode
from tests.support.embedded import EmbeddedClient
from tests.support.rpc import RawClient, RpcError
from tests.unit.server.support import run

QUEUE = "transport-queue"
ADDRESS = "sqlite://?name=transport"

Scenario = Callable[[EmbeddedClient], Awaitable[None]]


def _with_client(scenario: Scenario) -> None:
    async def work() -> None:
        client = await EmbeddedClient.connect(ADDRESS)
        try:
            await scenario(client)
        finally:
            await client.close()

    run(work())


WRONG: list[Message] = [
    DescribeNamespaceRequest(namespace="nobody"),
    StartWorkflowExecutionRequest(namespace="default"),
    StartWorkflowExecutionRequest(namespace="default", workflow_id="taken", request_id="other"),
    QueryWorkflowRequest(namespace="default"),
    RegisterNamespaceRequest(namespace="default"),
    PollWorkflowTaskQueueRequest(namespace="default"),
]


def test_errors_are_those_of_grpc() -> None:
    """Status, message and details of the same wrong calls, over both doors of one server."""

    async def scenario() -> None:
        async with Server(ADDRESS, grpc="127.0.0.1:0") as server:
            inside = await EmbeddedClient.connect(server.address)
            await inside.start("taken", QUEUE)
            async with RawClient(server.grpc_address) as outside:
                for request in WRONG:
                    with pytest.raises(RPCError) as caught:
                        await inside.invoke(request)
                    with pytest.raises(RpcError) as expected:
                        await outside.invoke(request)
                    assert caught.value.status.name == expected.value.code, request
                    assert caught.value.message == expected.value.message
                    assert len(caught.value.grpc_status.details) == len(expected.value.details)
                    for got, wanted in zip(
                        caught.value.grpc_status.details, expected.value.details, strict=True
                    ):
                        assert got.type_url.endswith(wanted.DESCRIPTOR.full_name)
                        assert got.value == wanted.SerializeToString()
            await inside.close()

    run(scenario())


def test_what_is_not_there_is_unimplemented() -> None:
    """An RPC nobody serves, and the test service of a server that skips no time."""

    async def scenario(client: EmbeddedClient) -> None:
        for path in ("/temporal.api.testservice.v1.TestService/GetCurrentTime", "/no.Such/Method"):
            with pytest.raises(RPCError) as caught:
                await client.transport.call(
                    "x", path, GetSystemInfoRequest(), GetSystemInfoResponse, metadata={}, timeout=5
                )
            assert caught.value.status is RPCStatusCode.UNIMPLEMENTED

    _with_client(scenario)


def test_health() -> None:
    """Of the server, of its services, and not of others; as a door answers."""

    async def scenario(client: EmbeddedClient) -> None:
        async def check(service: str) -> Any:
            return await client.transport.call(
                "grpc.health.v1.Health",
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest(service=service),
                health_pb2.HealthCheckResponse,
                metadata={},
                timeout=5,
            )

        serving = health_pb2.HealthCheckResponse.SERVING
        assert (await check("")).status == serving
        assert (await check(WORKFLOW_SERVICE)).status == serving
        with pytest.raises(RPCError) as caught:
            await check("whatever")
        assert caught.value.status is RPCStatusCode.NOT_FOUND

    _with_client(scenario)


def test_a_defect_is_masked_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The caller learns an id, the log has the exception under it; as at the gRPC door."""

    async def scenario(client: EmbeddedClient) -> None:
        async def broken(*_: Any) -> Message:
            raise ZeroDivisionError("secret")

        client.transport._engine._handler = lambda _: broken
        with pytest.raises(RPCError, match="internal error") as caught:
            await client.describe("wf")
        assert caught.value.status is RPCStatusCode.INTERNAL
        assert "secret" not in caught.value.message
        assert "secret" in caplog.text
        assert caught.value.message.rsplit(" ", 1)[-1] in caplog.text

    _with_client(scenario)


def test_a_timeout_inside_a_handler_is_not_the_callers_deadline() -> None:
    """A TimeoutError that a handler raises is a defect; the caller's time was not over."""

    async def scenario(client: EmbeddedClient) -> None:
        async def broken(*_: Any) -> Message:
            raise TimeoutError

        client.transport._engine._handler = lambda _: broken
        with pytest.raises(RPCError) as caught:
            await client.describe("wf")
        assert caught.value.status is RPCStatusCode.INTERNAL

    _with_client(scenario)


@pytest.mark.parametrize("timeout_s", [0.01, 2.0])
def test_the_deadline_ends_a_call(timeout_s: float) -> None:
    """A handler that takes longer is cancelled, and the caller gets what gRPC would say, and goes on uncancelled."""

    async def scenario(client: EmbeddedClient) -> None:
        was_cancelled = asyncio.Event()

        async def slow(*_: Any) -> Message:
            try:
                await asyncio.Event().wait()
            finally:
                was_cancelled.set()
            raise AssertionError

        client.transport._engine._handler = lambda _: slow
        with pytest.raises(RPCError, match="Deadline Exceeded") as caught:
            await client.call(DescribeNamespaceRequest(namespace="default"), Message, timeout_s=timeout_s)
        assert caught.value.status is RPCStatusCode.DEADLINE_EXCEEDED
        assert was_cancelled.is_set()
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    _with_client(scenario)


def test_a_caller_that_is_cancelled_when_its_time_is_over_is_cancelled() -> None:
    """Its own cancellation is not taken for ours."""

    async def scenario(client: EmbeddedClient) -> None:
        poll = asyncio.create_task(client.poll_workflow_task(QUEUE, timeout_s=60))
        while not client.transport._engine._in_flight:
            await asyncio.sleep(0)
        (pending,) = client.transport._pending
        pending.expire()
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll

    _with_client(scenario)


def test_the_deadline_reaches_the_handler() -> None:
    """A poll answers empty before its caller stops waiting; one without time to wait is refused."""

    async def scenario(client: EmbeddedClient) -> None:
        assert (await client.poll_workflow_task(QUEUE, timeout_s=2.1)).task_token == b""
        with pytest.raises(RPCError) as caught:
            await client.poll_workflow_task(QUEUE, timeout_s=1)
        assert caught.value.status is RPCStatusCode.FAILED_PRECONDITION

    _with_client(scenario)


@pytest.mark.parametrize("turns", range(12))
def test_a_task_matched_to_a_cancelled_poll_is_not_lost(turns: int) -> None:
    """Whenever the poll is cancelled while its task comes, the task is with it or goes to the next poll, attempt 1."""

    async def scenario(client: EmbeddedClient) -> None:
        poll = asyncio.create_task(client.poll_workflow_task(QUEUE, timeout_s=60))
        while not client.transport._engine._in_flight:
            await asyncio.sleep(0)
        start = asyncio.create_task(client.start("wf", QUEUE))
        for _ in range(turns):
            await asyncio.sleep(0)
        poll.cancel()
        await start
        try:
            task = await poll
        except asyncio.CancelledError:
            task = await client.poll_workflow_task(QUEUE, timeout_s=10)
        assert task.workflow_execution.workflow_id == "wf"
        assert task.attempt == 1
        await client.complete_workflow_task(task.task_token)

    _with_client(scenario)


def test_a_request_stays_the_callers() -> None:
    """Handlers fill in what requests leave open: in their own copy."""

    async def scenario(client: EmbeddedClient) -> None:
        requests: list[Any] = [
            client.start_request("wf", QUEUE, request_id=""),
            SignalWithStartWorkflowExecutionRequest(namespace="default", workflow_id="ws", signal_name="go"),
            RegisterNamespaceRequest(namespace="shop"),
            UpdateNamespaceRequest(namespace="default"),
        ]
        requests[1].workflow_type.name = "flow"
        requests[1].task_queue.name = QUEUE
        requests[2].workflow_execution_retention_period.seconds = 86_400
        for request in requests:
            before = request.SerializeToString(deterministic=True)
            await client.invoke(request)
            assert request.SerializeToString(deterministic=True) == before, type(request)

    _with_client(scenario)


def test_an_answer_is_the_callers() -> None:
    """What a caller does to an answer shows in no other."""

    async def scenario(client: EmbeddedClient) -> None:
        await client.start("wf", QUEUE)
        reads: list[Callable[[], Awaitable[Any]]] = [
            lambda: client.invoke(GetSystemInfoRequest()),
            lambda: client.invoke(ListNamespacesRequest(page_size=10)),
            lambda: client.invoke(DescribeNamespaceRequest(namespace="default")),
            lambda: client.describe("wf"),
            lambda: client.history_page("wf"),
        ]
        for read in reads:
            first = await read()
            before = first.SerializeToString(deterministic=True)
            first.Clear()
            assert (await read()).SerializeToString(deterministic=True) == before

    _with_client(scenario)


def test_what_a_caller_changes_after_the_call_is_not_recorded() -> None:
    """A payload changed once the call is under way: the history has what was passed."""

    async def scenario(client: EmbeddedClient) -> None:
        request = client.start_request("wf", QUEUE)
        payload = request.input.payloads.add()
        payload.data = b"passed"
        start = asyncio.create_task(client.invoke(request))
        await asyncio.sleep(0)
        payload.data = b"changed"
        await start
        event = (await client.history("wf"))[0]
        recorded = event.workflow_execution_started_event_attributes.input.payloads[0].data
        assert recorded == b"passed"

    _with_client(scenario)


def test_errors_are_no_perdure_errors() -> None:
    """What leaves a transport is an RPCError, whatever was raised."""

    async def scenario(client: EmbeddedClient) -> None:
        with pytest.raises(RPCError) as caught:
            await client.describe("nobody")
        assert not isinstance(caught.value, PerdureError)
        assert isinstance(caught.value.__cause__, PerdureError)

    _with_client(scenario)
