"""The service client: retries, deadlines, metadata, methods, closing, connecting."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from examples.ports import free_port
from perdure.api.registry import POOL
from perdure.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    GetSystemInfoRequest,
    GetWorkflowExecutionHistoryRequest,
    PollWorkflowTaskQueueRequest,
)
from perdure.service import (
    ClientClosedError,
    ClientConnectError,
    ConnectConfig,
    RetryConfig,
    RPCError,
    RPCStatusCode,
    ServiceClient,
    TLSConfig,
)
from perdure.service._methods import SERVICES, find_method
from perdure.service._retry import RETRYABLE, Backoff, Retrier
from tests.unit.client.fakes import fake_service, rpc_error


def _retrier(**limits: Any) -> Retrier:
    return Retrier(RetryConfig(**limits), lambda: 0.5)


@pytest.mark.parametrize("status", list(RPCStatusCode))
def test_only_statuses_that_may_pass_are_tried_again(status: RPCStatusCode) -> None:
    """A wrong request stays wrong; a server that is away may come back."""
    wait_s = _retrier().wait_s(rpc_error(status), 0.0)
    assert (wait_s is not None) == (status in RETRYABLE)


def test_tries_are_limited_in_number() -> None:
    """Three tries mean two waits."""
    retrier = _retrier(max_retries=3)
    waits = [retrier.wait_s(rpc_error(RPCStatusCode.UNAVAILABLE), 0.0) for _ in range(3)]
    assert [wait is None for wait in waits] == [False, False, True]


def test_no_try_begins_after_the_time_allowed() -> None:
    """Neither when the time is over, nor when the wait would end after it."""
    assert _retrier().wait_s(rpc_error(RPCStatusCode.UNAVAILABLE), 10.1) is None
    assert _retrier().wait_s(rpc_error(RPCStatusCode.UNAVAILABLE), 9.95) is None
    assert _retrier(max_elapsed_time_millis=None).wait_s(rpc_error(RPCStatusCode.UNAVAILABLE), 99.0) == 0.1


def test_an_overloaded_server_gets_more_time() -> None:
    """At least a second, doubled each time, where others wait a tenth."""
    retrier = _retrier()
    waits = [retrier.wait_s(rpc_error(RPCStatusCode.RESOURCE_EXHAUSTED), 0.0) for _ in range(3)]
    assert waits == [1.0, 2.0, 4.0]


def test_a_message_that_is_too_large_is_not_sent_again() -> None:
    """It does not shrink."""
    error = rpc_error(RPCStatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (5 vs. 4)")
    assert _retrier().wait_s(error, 0.0) is None


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 12))
def test_waits_grow_to_the_limit_within_the_jitter(random: float, tries: int) -> None:
    """Wait n is 100 ms times 1.5 to the n, at most 5 s, give or take a fifth."""
    config = RetryConfig(max_elapsed_time_millis=None)
    backoff = Backoff(config, lambda: random)
    waits = [backoff.next_s(0.0) for _ in range(tries)]
    for index, wait in enumerate(waits):
        middle = min(0.1 * 1.5**index, 5.0)
        assert wait is not None
        assert 0.8 * middle - 1e-9 <= wait <= 1.2 * middle + 1e-9


def test_calls_are_repeated_only_if_asked() -> None:
    """`retry` is off by default, as users of the raw services expect."""

    async def scenario() -> None:
        service, transport = fake_service({"GetSystemInfo": [rpc_error(RPCStatusCode.UNAVAILABLE)]})
        with pytest.raises(RPCError):
            await service.workflow_service.get_system_info(GetSystemInfoRequest())
        assert len(transport.calls) == 1
        with pytest.raises(RPCError):
            await service.workflow_service.get_system_info(GetSystemInfoRequest(), retry=True)
        assert len(transport.calls) == 1 + 10

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("rpc", "request_message", "options", "limit_s"),
    [
        ("get_system_info", GetSystemInfoRequest(), {}, 30.0),
        ("get_system_info", GetSystemInfoRequest(), {"timeout": timedelta(seconds=3)}, 3.0),
        ("get_workflow_execution_history", GetWorkflowExecutionHistoryRequest(), {"retry": True}, 30.0),
        (
            "get_workflow_execution_history",
            GetWorkflowExecutionHistoryRequest(wait_new_event=True),
            {"retry": True},
            70.0,
        ),
        ("poll_workflow_task_queue", PollWorkflowTaskQueueRequest(), {"retry": True}, 70.0),
    ],
)
def test_every_try_has_a_deadline(
    rpc: str, request_message: Any, options: dict[str, Any], limit_s: float
) -> None:
    """Long polls get more time than a server takes for them."""

    async def scenario() -> None:
        service, transport = fake_service()
        await getattr(service.workflow_service, rpc)(request_message, **options)
        assert transport.calls[0][3] == limit_s

    asyncio.run(scenario())


@pytest.mark.parametrize("key", ["secret\n", "clé"])
def test_an_api_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    """A key that is read from a file often ends with a line break."""
    with pytest.raises(ValueError, match="strip it") as refused:
        fake_service(api_key=key, tls=False)
    assert key not in str(refused.value)
    service, _ = fake_service(api_key="key", tls=False)
    with pytest.raises(ValueError, match="Invalid API key"):
        service.update_api_key(key)


def test_a_call_sends_its_metadata_over_the_clients() -> None:
    """And the API key unless there is an authorization; keys are sent in lower case."""

    async def scenario() -> None:
        service, transport = fake_service(rpc_metadata={"A": "1", "b-bin": b"2"}, api_key="key", tls=False)
        call = service.workflow_service.get_system_info
        await call(GetSystemInfoRequest())
        await call(GetSystemInfoRequest(), metadata={"a": "9", "authorization": "mine"})
        service.update_api_key(None)
        service.update_rpc_metadata({})
        await call(GetSystemInfoRequest())
        sent = [metadata for _, _, metadata, _ in transport.calls]
        assert (sent[0]["a"], sent[0]["b-bin"], sent[0]["authorization"]) == ("1", b"2", "Bearer key")
        assert sent[0]["client-name"] == "perdure-python"
        assert (sent[1]["a"], sent[1]["authorization"]) == ("9", "mine")
        assert set(sent[2]) == {"client-name", "client-version"}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"text": b"bytes"}, "expected str"),
        ({"key-bin": "text"}, "expected bytes"),
        ({"k y": "v"}, "invalid gRPC metadata key name"),
        ({"key": "a\nb"}, "printable ASCII"),
        ({"key": "ä"}, "printable ASCII"),
    ],
)
def test_metadata_that_grpc_would_refuse_is_refused_with_its_key(
    metadata: dict[str, str | bytes], error: str
) -> None:
    """Before anything is sent."""

    async def scenario() -> None:
        service, transport = fake_service()
        with pytest.raises(ValueError, match=error):
            await service.workflow_service.get_system_info(GetSystemInfoRequest(), metadata=metadata)
        assert not transport.calls

    asyncio.run(scenario())


def test_every_rpc_of_the_contract_is_a_method() -> None:
    """In snake case, and no others; `dir` shows them."""
    service, _ = fake_service()
    methods = set(dir(service.workflow_service))
    assert {"start_workflow_execution", "poll_activity_task_queue"} <= methods
    assert find_method("workflow", "start_workflow_execution").path == (
        "/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution"
    )
    for name in SERVICES:
        for rpc in dir(getattr(service, f"{name}_service")):
            if not rpc.startswith("_"):
                assert callable(getattr(getattr(service, f"{name}_service"), rpc))
    with pytest.raises(AttributeError, match="no RPC 'nonsense'"):
        _ = service.workflow_service.nonsense


def test_a_closed_client_says_so() -> None:
    """Its transport is closed with it, once."""

    async def scenario() -> None:
        service, transport = fake_service()
        async with service:
            pass
        assert transport.closed
        await service.close()
        with pytest.raises(ClientClosedError, match="has been closed"):
            await service.workflow_service.get_system_info(GetSystemInfoRequest())

    asyncio.run(scenario())


def test_nobody_there_is_an_error_that_says_what_to_do() -> None:
    """At once, with the address and how to start a server."""

    async def scenario() -> None:
        address = f"127.0.0.1:{free_port()}"
        with pytest.raises(ClientConnectError, match="perdure server start-dev") as caught:
            await ServiceClient.connect(ConnectConfig(target_host=address))
        assert address in str(caught.value)
        assert isinstance(caught.value.__cause__, RPCError)
        lazy = await ServiceClient.connect(ConnectConfig(target_host=address, lazy=True))
        with pytest.raises(ClientConnectError):
            await lazy.workflow_service.get_system_info(GetSystemInfoRequest())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (TLSConfig(client_cert=b"x"), "both client cert and private key"),
        (TLSConfig(client_private_key=b"x"), "both client cert and private key"),
        (TLSConfig(verification_server_name="x"), "server root CA cert"),
    ],
)
def test_tls_settings_that_contradict_each_other_are_refused(tls: TLSConfig, message: str) -> None:
    """Before anything is dialled."""
    with pytest.raises(ValueError, match=message):
        asyncio.run(ServiceClient.connect(ConnectConfig(target_host="localhost:1", tls=tls)))


@pytest.mark.parametrize(
    ("config", "url", "has_tls"),
    [
        (ConnectConfig("h:1"), "http://h:1", False),
        (ConnectConfig("h:1", api_key="k"), "https://h:1", True),
        (ConnectConfig("h:1", api_key="k", tls=False), "http://h:1", False),
        (ConnectConfig("h:1", tls=True), "https://h:1", True),
        (ConnectConfig("h:1", tls=TLSConfig(domain="d")), "https://h:1", True),
    ],
)
def test_tls_follows_from_the_api_key_unless_said(config: ConnectConfig, url: str, has_tls: bool) -> None:
    """As in the official SDK."""
    settings = config._to_bridge_config()
    assert (settings.target_url, settings.tls_config is not None) == (url, has_tls)


def test_a_connect_timeout_that_is_a_number_is_refused_before_anything_is_tried() -> None:
    """Seconds and milliseconds look alike; the error says what it must be."""
    number: Any = 5
    with pytest.raises(TypeError, match="connect_timeout must be a timedelta, not int"):
        ConnectConfig("h:1", connect_timeout=number)._to_bridge_config()


def test_an_address_with_a_scheme_of_http_is_warned_about() -> None:
    """It works, for now; addresses of engines are no such case."""
    with pytest.warns(UserWarning, match="without https://"):
        settings = ConnectConfig("https://h:1")._to_bridge_config()
    assert settings.target == "h:1"
    assert settings.tls_config is not None
    assert ConnectConfig("sqlite://")._to_bridge_config().tls_config is None


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("", "localhost:7233"),
        ("localhost", "localhost:7233"),
        ("localhost:99999", "there is no port 99999"),
        ("localhost:0", "there is no port 0"),
        ("http://localhost:70000", "there is no port 70000"),
        ("localhost:-1", "there is no port -1"),
        ("localhost:7233\n", "strip it"),
        (" localhost:7233", "strip it"),
        ("unix:///run/server.sock", "unix:/PATH"),
        ("dns:///localhost:7233", "HOST:PORT"),
        ("sqlite:/orders.db", "sqlite:///FILE"),
        ("sqlite3:///orders.db", "nothing is known about sqlite3://"),
        ("mysql://localhost:1/x", "nothing is known about mysql://"),
        ("postgres://me:s3cret@localhost:1/x", "postgresql://"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_tried(address: str, advice: str) -> None:
    """Port 99999 would wrap around to somebody else's server; others would end in a message about name servers."""
    with pytest.raises(ClientConnectError, match="is no address") as caught:
        asyncio.run(ServiceClient.connect(ConnectConfig(target_host=address)))
    assert advice in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("address", [None, 7233, b"localhost:7233"])
def test_an_address_that_is_no_text_says_what_one_looks_like(address: Any) -> None:
    """A variable of the environment that is not set is the usual one."""
    with pytest.raises(TypeError, match="target_host must be .* 'localhost:7233'"):
        asyncio.run(ServiceClient.connect(ConnectConfig(target_host=address)))


def test_requests_of_other_packages_become_ours_and_what_is_none_is_refused() -> None:
    """The official SDK's classes have the same names and form; anything else would fail somewhere inside."""
    pool = DescriptorPool()
    for file in ("google/protobuf/duration.proto", "temporal/api/workflowservice/v1/request_response.proto"):
        _add_with_imports(pool, POOL.FindFileByName(file))
    name = "temporal.api.workflowservice.v1.CountWorkflowExecutionsRequest"
    foreign = GetMessageClass(pool.FindMessageTypeByName(name))

    async def scenario() -> None:
        service, transport = fake_service()
        count = service.workflow_service.count_workflow_executions
        await count(foreign(namespace="ns", query="q"))
        [request] = transport.requests("CountWorkflowExecutions")
        assert request == CountWorkflowExecutionsRequest(namespace="ns", query="q")
        for wrong in (GetSystemInfoRequest(), {"namespace": "ns"}):
            with pytest.raises(TypeError, match="count_workflow_executions takes a temporal.api"):
                await count(wrong)

    asyncio.run(scenario())


def _add_with_imports(pool: DescriptorPool, file: FileDescriptor) -> None:
    for imported in file.dependencies:
        _add_with_imports(pool, imported)
    pool.AddSerializedFile(file.serialized_pb)
