"""What is begun in a namespace while that is being removed is refused, or removed with it; nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from perdure.api.operatorservice.v1 import DeleteNamespaceRequest
from perdure.api.workflowservice.v1 import (
    CreateScheduleRequest,
    CreateWorkerDeploymentRequest,
    StartActivityExecutionRequest,
    StartBatchOperationRequest,
    StartWorkflowExecutionRequest,
    UpdateNamespaceRequest,
    UpdateTaskQueueConfigRequest,
)
from perdure.core.errors import NamespaceNotFoundError
from perdure.core.run.records import RunKind
from perdure.server import server as servers
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.faults import Fault, FaultyStore, fail_method
from perdure.store.memory import MemoryStore
from tests.unit.server.local_client import LocalClient
from tests.unit.server.support import run

NAME = "old"
TURNS = 500
"""Of the event loop: far more than a removal takes that waits for nothing, since the store is in memory."""


class HeldStore(MemoryStore):
    """A store in memory in which the calls of one method wait for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.held_method = ""
        self.has_come, self.may_go = asyncio.Event(), asyncio.Event()

    def __getattribute__(self, name: str) -> Any:
        """A method, which waits first if it is the held one."""
        found = super().__getattribute__(name)
        if name == "held_method" or name != self.held_method:
            return found

        async def held(*args: Any) -> Any:
            self.has_come.set()
            await self.may_go.wait()
            return await found(*args)

        return held


def _workflow() -> StartWorkflowExecutionRequest:
    request = StartWorkflowExecutionRequest(namespace=NAME, workflow_id="w", request_id="r")
    request.workflow_type.name = request.task_queue.name = "q"
    return request


def _activity() -> StartActivityExecutionRequest:
    request = StartActivityExecutionRequest(namespace=NAME, activity_id="a", request_id="r")
    request.activity_type.name = request.task_queue.name = "q"
    request.start_to_close_timeout.seconds = 10
    return request


def _schedule() -> CreateScheduleRequest:
    request = CreateScheduleRequest(namespace=NAME, schedule_id="s", request_id="r")
    template = request.schedule.action.start_workflow
    template.workflow_id = template.workflow_type.name = template.task_queue.name = "w"
    request.schedule.spec.interval.add().interval.FromSeconds(3_600)
    return request


def _triggered() -> CreateScheduleRequest:
    request = _schedule()
    request.initial_patch.trigger_immediately.SetInParent()
    return request


def _batch() -> StartBatchOperationRequest:
    request = StartBatchOperationRequest(
        namespace=NAME, job_id="j", reason="r", visibility_query="WorkflowId='w'"
    )
    request.termination_operation.identity = "me"
    return request


def _deployment(name: str = "d") -> CreateWorkerDeploymentRequest:
    return CreateWorkerDeploymentRequest(namespace=NAME, deployment_name=name, request_id=name)


def _queue_config(queue: str = "q") -> UpdateTaskQueueConfigRequest:
    request = UpdateTaskQueueConfigRequest(namespace=NAME, task_queue=queue)
    request.task_queue_type = 2  # type: ignore[assignment]  # activities
    request.update_queue_rate_limit.rate_limit.requests_per_second = 1.0
    return request


@dataclass(frozen=True)
class Stage:
    """A server with a namespace to delete, on a store in which the calls of one method wait."""

    store: HeldStore
    server: Server
    client: LocalClient
    namespace_id: str

    def begin(self, request: Any) -> asyncio.Future[Any]:
        """Send a request; its answer is awaited later."""
        return asyncio.ensure_future(self.client.invoke(request))

    async def delete_and_let_go(self) -> None:
        """Delete the namespace; when its removal has had time for all that it can do, the waiting calls go on."""
        await self.client.invoke(DeleteNamespaceRequest(namespace=NAME))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self.store.may_go.set()


@asynccontextmanager
async def _holding(method: str) -> AsyncIterator[Stage]:
    """The stage of a test, which deletes the namespace; at the end nothing is left of it."""
    store = HeldStore()
    server = Server(store, ServerConfig(port=0, namespaces=(NAME,)), SystemRuntime(), "memory")
    await server.start()
    namespace_id = server.namespaces.get(NAME).namespace_id
    store.held_method = method
    yield Stage(store, server, LocalClient(server), namespace_id)
    await asyncio.gather(*server._background)
    for kind in RunKind:
        assert (await store.list_runs(namespace_id, None, 10, None, kind)).rows == ()
    assert not await store.list_schedules(namespace_id, "", 10)
    assert not await store.list_batches(namespace_id, None, 10)
    assert [stored.name for stored in await store.list_namespaces()] == ["default"]
    assert not await store.list_deployments()
    assert not await store.list_queue_configs()
    assert namespace_id not in {*server.deployments._kept, *server.deployments._routes}
    await server.stop(1.0)


@pytest.mark.parametrize(
    ("request_of", "method", "is_refused"),
    [
        (_workflow, "current_run", True),
        (_workflow, "commit", False),
        (_activity, "current_run", True),
        (_activity, "commit", False),
        (_schedule, "load_schedule", True),
        (_schedule, "put_schedule", False),
        (_triggered, "commit", False),
        (_batch, "load_batch", True),
        (_batch, "put_batch", False),
        (_deployment, "put_deployment", False),
        (_queue_config, "put_queue_config", False),
    ],
)
def test_what_was_under_way_when_its_namespace_was_deleted_leaves_nothing(
    request_of: Any, method: str, is_refused: bool
) -> None:
    """Before its write it is refused; a write that was on its way is found by the removal."""

    async def scenario() -> None:
        async with _holding(method) as stage:
            begun = stage.begin(request_of())
            await stage.store.has_come.wait()
            await stage.delete_and_let_go()
            if is_refused:
                with pytest.raises(NamespaceNotFoundError, match=f"Namespace {NAME} is not found"):
                    await begun
            else:
                await begun

    run(scenario())


@pytest.mark.parametrize(
    ("request_of", "method"), [(_deployment, "put_deployment"), (_queue_config, "put_queue_config")]
)
def test_what_waited_for_its_turn_when_its_namespace_was_deleted_is_refused(
    request_of: Any, method: str
) -> None:
    """Changes of what is held in memory come one after the other: the second one gets its turn after the deletion."""

    async def scenario() -> None:
        async with _holding(method) as stage:
            first = stage.begin(request_of("first"))
            await stage.store.has_come.wait()
            second = stage.begin(request_of("second"))
            await asyncio.sleep(0)
            await stage.delete_and_let_go()
            await first
            with pytest.raises(NamespaceNotFoundError):
                await second

    run(scenario())


@pytest.mark.parametrize("method", ["list_runs", "delete_run", "delete_namespace"])
@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
def test_a_removal_goes_on_when_the_store_can_again(
    method: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not wait for the next start of the server."""
    monkeypatch.setattr(servers, "REMOVAL_RETRY_S", 0.0)

    async def scenario() -> None:
        store = FaultyStore(MemoryStore())
        server = Server(store, ServerConfig(port=0, namespaces=(NAME,)), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        await client.invoke(_workflow())
        store.calls.clear()
        store.decide = fail_method(method, fault)
        await client.invoke(DeleteNamespaceRequest(namespace=NAME))
        await asyncio.gather(*server._background)
        assert method in store.calls
        assert [stored.name for stored in await store.list_namespaces()] == ["default"]
        await server.stop(1.0)

    run(scenario())


def test_a_namespace_whose_state_was_set_to_deleted_keeps_what_it_has() -> None:
    """As on Temporal's server: only a request to delete it removes anything, so a restart must not either."""

    async def scenario() -> None:
        store = MemoryStore()
        config = ServerConfig(port=0, namespaces=(NAME,))
        server = Server(store, config, SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        await client.invoke(_workflow())
        request = UpdateNamespaceRequest(namespace=NAME)
        request.update_info.state = 3  # type: ignore[assignment]  # deleted
        await client.invoke(request)
        namespace_id = next(each.namespace_id for each in server.namespaces.all() if each.name == NAME)
        await server.stop(1.0)

        server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
        await server.start()
        assert not server._background
        assert len((await store.list_runs(namespace_id, None, 10, None)).rows) == 1
        await LocalClient(server).invoke(DeleteNamespaceRequest(namespace=NAME))
        await asyncio.gather(*server._background)
        assert [stored.name for stored in await store.list_namespaces()] == ["default"]
        await server.stop(1.0)

    run(scenario())
