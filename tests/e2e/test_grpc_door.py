"""The gRPC door over a real socket: what happens to requests and errors between a client and the service.

The service behind it is made of stand-ins, so that each can do exactly what a test needs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from perdure.api.errordetails.v1 import NamespaceNotFoundFailure
from perdure.api.google.rpc import Status as RpcStatus
from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, method_path, rpcs
from perdure.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    GetSystemInfoRequest,
    GetSystemInfoResponse,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    StartWorkflowExecutionRequest,
)
from perdure.core.errors import NamespaceNotFoundError
from perdure.server.config import ServerConfig
from perdure.server.doors.http2.door import GrpcDoor
from perdure.server.doors.ports import PortError
from perdure.server.service.call import Call
from perdure.server.service.service import Service

HOST = "127.0.0.1"
TIMEOUT_S = 30.0
MAX_BYTES = 4 * 1024 * 1024
ERROR_ID = "0123456789abcdef"
REFLECTION = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class StandIns:
    """Handlers that do what a test tells them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.polling = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.released = asyncio.Event()
        self.failure: Exception | None = None

    async def get_system_info(self, request: GetSystemInfoRequest, call: Call) -> GetSystemInfoResponse:
        """Answers, or raises `failure`."""
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure
        return GetSystemInfoResponse(server_version="1")

    async def describe_namespace(
        self, request: DescribeNamespaceRequest, call: Call
    ) -> DescribeNamespaceResponse:
        """Answers with what it was asked."""
        answer = DescribeNamespaceResponse()
        answer.namespace_info.description = request.namespace
        return answer

    async def poll_workflow_task_queue(
        self, request: PollWorkflowTaskQueueRequest, call: Call
    ) -> PollWorkflowTaskQueueResponse:
        """Waits until released; notes a cancellation."""
        self.polling.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return PollWorkflowTaskQueueResponse(task_token=b"late")


class Client:
    """Raw calls: bytes or messages in, bytes out."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(
            f"{HOST}:{port}", options=[("grpc.max_send_message_length", -1)]
        )

    def call(self, name: str, request: Message | bytes, **options: Any) -> Any:
        """One call of the workflow service, awaitable."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        options.setdefault("timeout", TIMEOUT_S)
        method: Any = self.channel.unary_unary(method_path(WORKFLOW_SERVICE, name))
        return method(data, **options)

    async def failure(self, name: str, request: Message | bytes, **options: Any) -> grpc.aio.AioRpcError:
        """The error a call ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(name, request, **options)
        return caught.value


@asynccontextmanager
async def _door(**config: Any) -> AsyncIterator[tuple[GrpcDoor, StandIns, Client]]:
    handlers = StandIns()
    door = GrpcDoor(Service([handlers]), ServerConfig(host=HOST, port=0, **config), lambda: ERROR_ID)
    await door.start()
    client = Client(door.port)
    try:
        yield door, handlers, client
    finally:
        handlers.released.set()
        await client.channel.close()
        await door.stop(0)


Scenario = Callable[[GrpcDoor, StandIns, Client], Awaitable[None]]


def _run(scenario: Scenario, **config: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_S), _door(**config) as (door, handlers, client):
            await scenario(door, handlers, client)

    asyncio.run(bounded())


def test_a_request_reaches_its_handler_and_its_answer_comes_back() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        data = await client.call("DescribeNamespace", DescribeNamespaceRequest(namespace="é x"))
        assert DescribeNamespaceResponse.FromString(data).namespace_info.description == "é x"

    _run(scenario)


def test_every_rpc_of_both_services_is_there_and_answers_unimplemented_with_its_own_name() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        for service in (WORKFLOW_SERVICE, OPERATOR_SERVICE):
            for rpc in rpcs(service):
                if hasattr(handlers, _snake_case(rpc.name)):
                    continue
                call: Any = client.channel.unary_unary(method_path(service, rpc.name))
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(b"", timeout=TIMEOUT_S)
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
                assert rpc.name in (caught.value.details() or "")

    _run(scenario)


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def test_a_typed_error_arrives_with_code_text_and_detail() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        handlers.failure = NamespaceNotFoundError("gone")
        error = await client.failure("GetSystemInfo", b"")
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert error.details() == "Namespace gone is not found."
        trailers = dict(error.trailing_metadata() or ())
        status = RpcStatus.FromString(trailers["grpc-status-details-bin"])
        assert status.code == 5
        assert status.details[0].type_url == (
            "type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotFoundFailure"
        )
        detail = NamespaceNotFoundFailure.FromString(status.details[0].value)
        assert detail.namespace == "gone"

    _run(scenario)


def test_a_bug_is_logged_with_its_traceback_and_masked_for_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        handlers.failure = ZeroDivisionError("secret of the server")
        error = await client.failure("GetSystemInfo", b"")
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in (error.details() or "")
        assert ERROR_ID[:8] in (error.details() or "")
        handlers.failure = None
        await client.call("GetSystemInfo", b"")

    with caplog.at_level(logging.ERROR):
        _run(scenario)
    (entry,) = caplog.records
    assert ERROR_ID[:8] in entry.getMessage()
    assert entry.exc_info is not None
    assert isinstance(entry.exc_info[1], ZeroDivisionError)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f"], ids=["bytes", "text", "length"]
)
def test_a_malformed_request_is_an_invalid_argument(data: bytes) -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        error = await client.failure("StartWorkflowExecution", data)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "StartWorkflowExecutionRequest" in (error.details() or "")

    _run(scenario)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_request_over_the_limit_gets_the_text_that_clients_look_for(compression: Any) -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        largest = StartWorkflowExecutionRequest(namespace="x" * (MAX_BYTES - 5))
        assert largest.ByteSize() == MAX_BYTES
        allowed = await client.failure("StartWorkflowExecution", largest, compression=compression)
        assert allowed.code() is grpc.StatusCode.UNIMPLEMENTED
        error = await client.failure(
            "StartWorkflowExecution", b"\0" * (MAX_BYTES + 1), compression=compression
        )
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == "grpc: received message larger than max (4194305 vs. 4194304)"

    _run(scenario)


def test_handlers_know_deadline_and_metadata() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        metadata = (("client-name", "test"), ("client-name", "again"), ("blob-bin", b"\xff"))
        await client.call("GetSystemInfo", b"", metadata=metadata, timeout=20)
        await client.call("GetSystemInfo", b"", timeout=None)
        with_deadline, without = handlers.calls
        assert with_deadline.deadline_s is not None
        # Deadlines are rounded on the wire.
        assert 10 < with_deadline.deadline_s <= 21
        assert without.deadline_s is None
        seen = with_deadline.metadata
        assert seen["client-name"] == "again"
        assert "blob-bin" not in seen
        assert "user-agent" in seen
        assert len(seen) == len(list(seen))

    _run(scenario)


@pytest.mark.parametrize("how", ["cancelled", "connection closed", "deadline"])
def test_a_caller_that_is_gone_cancels_its_handler(how: str) -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        timeout = 1.5 if how == "deadline" else TIMEOUT_S
        call = client.call("PollWorkflowTaskQueue", b"", timeout=timeout)
        waiting = asyncio.ensure_future(_outcome(call))
        await handlers.polling.wait()
        if how == "cancelled":
            call.cancel()
        elif how == "connection closed":
            await client.channel.close()
        await handlers.cancelled.wait()
        await waiting

    _run(scenario)


async def _outcome(call: Any) -> object:
    try:
        return await call
    except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
        return error


def test_stopping_lets_calls_under_way_finish_and_takes_no_new_ones() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        poll = asyncio.ensure_future(client.call("PollWorkflowTaskQueue", b""))
        await handlers.polling.wait()
        stopping = asyncio.ensure_future(door.stop(TIMEOUT_S))
        try:
            error = await Client(door.port).failure("GetSystemInfo", b"")
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert not stopping.done()
        finally:
            handlers.released.set()
            await stopping
        assert PollWorkflowTaskQueueResponse.FromString(await poll).task_token == b"late"

    _run(scenario)


def test_calls_that_do_not_finish_in_time_are_cancelled() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        poll = asyncio.ensure_future(_outcome(client.call("PollWorkflowTaskQueue", b"")))
        await handlers.polling.wait()
        await door.stop(0.01)
        await handlers.cancelled.wait()
        assert isinstance(await poll, grpc.aio.AioRpcError)

    _run(scenario)


def test_a_second_door_on_the_port_fails_with_the_reason() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        second = GrpcDoor(Service([]), ServerConfig(host=HOST, port=door.port), lambda: ERROR_ID)
        with pytest.raises(PortError, match=f"cannot listen on {HOST}:{door.port}: Address already in use"):
            await second.start()
        await second.stop(0)

    _run(scenario)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a" * 300])
def test_an_address_that_cannot_be_listened_on_fails_with_the_reason(host: str) -> None:
    async def start() -> None:
        await GrpcDoor(Service([]), ServerConfig(host=host, port=0), lambda: ERROR_ID).start()

    with pytest.raises(PortError, match="cannot listen on "):
        asyncio.run(start())


def test_a_number_that_is_no_port_is_refused() -> None:
    """The system would take the rest of a division, and listen where nobody expects it."""
    with pytest.raises(PortError, match="a port is a number from 0 to 65535"):
        asyncio.run(GrpcDoor(Service([]), ServerConfig(host=HOST, port=99_999), lambda: ERROR_ID).start())


def test_more_calls_than_allowed_at_once_are_refused() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        poll = asyncio.ensure_future(client.call("PollWorkflowTaskQueue", b""))
        await handlers.polling.wait()
        error = await client.failure("GetSystemInfo", b"")
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        handlers.released.set()
        await poll

    _run(scenario, max_concurrent_calls=1)


def test_health_is_serving_for_the_known_services_until_the_door_stops() -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        health: Any = health_pb2_grpc.HealthStub(client.channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        for name in ("", WORKFLOW_SERVICE, OPERATOR_SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S)
            assert answer.status == serving
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(health_pb2.HealthCheckRequest(service="unheard.of"), timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        states = aiter(watch)
        assert (await anext(states)).status == serving
        stopping = asyncio.ensure_future(door.stop(0.2))
        assert (await anext(states)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await stopping

    _run(scenario)


@pytest.mark.parametrize("package", REFLECTION)
def test_reflection_shows_services_and_their_descriptors(package: str) -> None:
    async def scenario(door: GrpcDoor, handlers: StandIns, client: Client) -> None:
        stream = client.channel.stream_stream(
            f"/{package}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=WORKFLOW_SERVICE),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
        ]
        answers = [answer async for answer in stream(iter(asked), timeout=TIMEOUT_S)]
        names = {service.name for service in answers[0].list_services_response.service}
        assert {WORKFLOW_SERVICE, OPERATOR_SERVICE, "grpc.health.v1.Health"} <= names
        assert f"{package}.ServerReflection" in names
        for answer in answers[1:3]:
            assert answer.file_descriptor_response.file_descriptor_proto
        assert answers[3].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

    _run(scenario)


def test_a_door_that_never_started_can_be_stopped() -> None:
    work: Coroutine[Any, Any, None] = GrpcDoor(Service([]), ServerConfig(), lambda: ERROR_ID).stop(0)
    asyncio.run(work)
