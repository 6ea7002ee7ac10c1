"""What the server holds in memory whole is what the store holds, after failed writes and when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.api.operatorservice.v1 import CreateNexusEndpointRequest
from perdure.api.workflowservice.v1 import (
    CreateWorkerDeploymentRequest,
    RegisterNamespaceRequest,
    UpdateTaskQueueConfigRequest,
)
from perdure.core.errors import AlreadyExistsError, UnavailableError
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.config import ServerConfig
from perdure.server.engine import rerouting
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.faults import Call, Fault, FaultyStore, fail_method, no_faults
from perdure.store.memory import MemoryStore
from tests.support.proto import enums
from tests.unit.server.local_client import LocalClient
from tests.unit.server.support import run
from tests.unit.server.test_deployments import NAME, make_current, poll, register, start

ACTIVITY = enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
FAULTS = pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[LocalClient, FaultyStore]]:
    store = FaultyStore(MemoryStore())
    server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
    await server.start()
    try:
        yield LocalClient(server), store
    finally:
        store.decide = no_faults
        await server.stop(0)


async def _deployment(client: LocalClient) -> None:
    await client.invoke(CreateWorkerDeploymentRequest(namespace="default", deployment_name=NAME))


async def _endpoint(client: LocalClient) -> None:
    request = CreateNexusEndpointRequest()
    request.spec.name = "endpoint"
    request.spec.target.worker.namespace, request.spec.target.worker.task_queue = "default", "q"
    await client.invoke(request)


async def _namespace(client: LocalClient) -> None:
    request = RegisterNamespaceRequest(namespace="another")
    request.workflow_execution_retention_period.seconds = 3 * 86_400
    await client.invoke(request)


async def _queue_config(client: LocalClient) -> None:
    request = UpdateTaskQueueConfigRequest(namespace="default", task_queue="q", task_queue_type=ACTIVITY)
    request.set_fairness_weight_overrides["k"] = 2.0
    await client.invoke(request)


def _shown(client: LocalClient) -> list[Any]:
    """What each registry of a server says there is."""
    server = client.server
    namespace_id = server.namespaces.get("default").namespace_id
    queue = QueueKey(namespace_id, "q", TaskKind.ACTIVITY)
    return [
        server.deployments.find(namespace_id, NAME) is not None,
        server.nexus.endpoints.by_name("endpoint") is not None,
        server.namespaces.has("another"),
        server.queue_configs.find(queue) is not None,
    ]


Add = Callable[[LocalClient], Awaitable[None]]
WRITES: dict[str, Add] = {
    "put_deployment": _deployment,
    "put_endpoint": _endpoint,
    "put_namespace": _namespace,
    "put_queue_config": _queue_config,
}
EACH = pytest.mark.parametrize("method", WRITES)


@EACH
@FAULTS
def test_a_write_of_unknown_outcome_shows_what_became_of_it(method: str, fault: Fault) -> None:
    """Memory that still shows the row before would act on it until the next start, and then no more."""

    async def scenario() -> None:
        async with serving() as (client, store):
            store.decide = fail_method(method, fault, store.calls.get(method, 0) + 1)
            with pytest.raises(UnavailableError):
                await WRITES[method](client)
            expected = [fault is Fault.AFTER and method == name for name in WRITES]
            assert _shown(client) == expected

    run(scenario())


@EACH
def test_a_write_whose_caller_goes_is_in_memory_too(method: str) -> None:
    """A caller that is cancelled while the disk writes must not leave memory behind it."""

    async def scenario() -> None:
        async with serving() as (client, store):
            go, is_writing = asyncio.Event(), asyncio.Event()
            write = getattr(store.inner, method)

            async def slow(row: Any) -> None:
                is_writing.set()
                await go.wait()
                await write(row)

            setattr(store.inner, method, slow)
            calling = asyncio.ensure_future(WRITES[method](client))
            await is_writing.wait()
            calling.cancel()
            await asyncio.wait({calling})
            go.set()
            server = client.server
            for registry in (
                server.deployments,
                server.nexus.endpoints,
                server.namespaces,
                server.queue_configs,
            ):
                await registry.settled()
            assert _shown(client) == [method == name for name in WRITES]

    run(scenario())


def test_a_store_that_cannot_be_read_leaves_namespaces_as_they_were() -> None:
    """A failed write is followed by a read; that one may fail, too, and no request may find its namespace gone."""

    async def scenario() -> None:
        async with serving() as (client, store):

            def decide(call: Call) -> Fault:
                return Fault.BEFORE if call.method in ("put_namespace", "list_namespaces") else Fault.NONE

            store.decide = decide
            with pytest.raises(UnavailableError):
                await _namespace(client)
            assert client.server.namespaces.has("default")
            with pytest.raises(UnavailableError):
                await _namespace(client)
            store.decide = no_faults
            await _namespace(client)
            assert client.server.namespaces.has("another")

    run(scenario())


def test_tasks_follow_a_routing_whose_write_had_an_unknown_outcome() -> None:
    """The version is current in the store, so what waits goes to it, although whoever asked heard of a failure."""

    async def scenario() -> None:
        async with serving() as (client, store):
            await register(client, "1")
            await start(client, "w")
            store.decide = fail_method("put_deployment", Fault.AFTER, store.calls["put_deployment"] + 1)
            with pytest.raises(UnavailableError):
                await make_current(client, "1")
            assert (await poll(client, "1")).workflow_execution.workflow_id == "w"

    run(scenario())


def test_tasks_are_sent_on_although_the_store_could_not_do_it_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The routing has changed and nobody will ask for it again: giving up would leave the task where nobody polls."""
    monkeypatch.setattr(rerouting, "RETRY_S", 0.01)

    async def scenario() -> None:
        async with serving() as (client, store):
            await register(client, "1")
            await start(client, "w")
            store.decide = fail_method("read_tasks", Fault.BEFORE, store.calls.get("read_tasks", 0) + 1)
            await make_current(client, "1")
            assert (await poll(client, "1")).workflow_execution.workflow_id == "w"

    run(scenario())


def test_of_two_requests_that_create_a_deployment_one_is_told_that_it_is_there() -> None:
    """Both look before either has written."""

    async def scenario() -> None:
        async with serving() as (client, _):
            requests = [
                CreateWorkerDeploymentRequest(
                    namespace="default", deployment_name=NAME, request_id=request_id
                )
                for request_id in ("a", "b", "a")
            ]
            async with client.server.deployments._lock:  # another write is under way
                calls = [asyncio.ensure_future(client.invoke(request)) for request in requests]
                for _ in range(10):
                    await asyncio.sleep(0)
            answers = await asyncio.gather(*calls, return_exceptions=True)
            kinds = [type(answer).__name__ for answer in answers]
            assert kinds == ["CreateWorkerDeploymentResponse", AlreadyExistsError.__name__, kinds[0]]

    run(scenario())
