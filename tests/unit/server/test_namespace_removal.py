"""What is begun in a namespace while that is being removed is refused, or removed with it; nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from perdure.api.operatorservice.v1 import DeleteNamespaceRequest
from perdure.api.workflowservice.v1 import (
    CreateScheduleRequest,
    CreateWorkerDeploymentRequest,
    DescribeNamespaceRequest,
    ListNamespacesRequest,
    RegisterNamespaceRequest,
    StartActivityExecutionRequest,
    StartBatchOperationRequest,
    StartWorkflowExecutionRequest,
    UpdateNamespaceRequest,
    UpdateTaskQueueConfigRequest,
)
from perdure.core.errors import NamespaceNotFoundError, UnavailableError
from perdure.core.run.records import RunKind
from perdure.server import namespace_removals
from perdure.server.config import ServerConfig
from perdure.server.namespaces import DELETED
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.server.time_skipping import SkippingRuntime
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


async def _removals(server: Server) -> None:
    """Returns when no namespace is being removed any more."""
    await asyncio.gather(*server.namespace_removals._tasks.values())


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
    await _removals(server)
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
    monkeypatch.setattr(namespace_removals, "RETRY_S", 0.0)

    async def scenario() -> None:
        store = FaultyStore(MemoryStore())
        server = Server(store, ServerConfig(port=0, namespaces=(NAME,)), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        await client.invoke(_workflow())
        store.calls.clear()
        store.decide = fail_method(method, fault)
        await client.invoke(DeleteNamespaceRequest(namespace=NAME))
        await _removals(server)
        assert method in store.calls
        assert [stored.name for stored in await store.list_namespaces()] == ["default"]
        assert not any(slot.state for slot in server.engine.runs.slots()), "a removed run is still in memory"
        await server.stop(1.0)

    run(scenario())


@asynccontextmanager
async def _faulty() -> AsyncIterator[tuple[FaultyStore, Server]]:
    """A server with a namespace to delete, on a store that can be told to fail; at the end nothing is left of it."""
    store = FaultyStore(MemoryStore())
    server = Server(store, ServerConfig(port=0, namespaces=(NAME,)), SystemRuntime(), "memory")
    await server.start()
    await LocalClient(server).invoke(_workflow())
    namespace_id = server.namespaces.get(NAME).namespace_id
    yield store, server
    await _removals(server)
    assert not (await store.list_runs(namespace_id, None, 10, None)).rows
    assert [stored.name for stored in await store.list_namespaces()] == ["default"]
    assert not await store.list_deployments()
    assert not await store.list_queue_configs()
    await server.stop(1.0)


@pytest.mark.parametrize(
    ("request_of", "put", "read"),
    [
        (_deployment, "put_deployment", "list_deployments"),
        (_queue_config, "put_queue_config", "list_queue_configs"),
    ],
)
def test_a_row_that_nobody_knows_whether_it_was_written_is_removed_with_its_namespace(
    request_of: Any, put: str, read: str
) -> None:
    """The write was reported as failed and could not be looked up then: the removal looks before it is done."""

    async def scenario() -> None:
        async with _faulty() as (store, server):
            store.calls.clear()
            faults = {put: Fault.AFTER, read: Fault.BEFORE}
            store.decide = lambda call: faults.pop(call.method, Fault.NONE)
            with pytest.raises(UnavailableError):
                await LocalClient(server).invoke(request_of())
            await LocalClient(server).invoke(DeleteNamespaceRequest(namespace=NAME))

    run(scenario())


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_deletion_whose_write_was_reported_as_failed_goes_on(is_readable: bool) -> None:
    """Once it is known that it was written after all: who repeats it finds no namespace and cannot begin it."""

    async def scenario() -> None:
        async with _faulty() as (store, server):
            faults = {"put_namespace": Fault.AFTER}
            if not is_readable:
                faults["list_namespaces"] = Fault.BEFORE
            store.decide = lambda call: faults.pop(call.method, Fault.NONE)
            client = LocalClient(server)
            with pytest.raises(UnavailableError):
                await client.invoke(DeleteNamespaceRequest(namespace=NAME))
            if not is_readable:
                with pytest.raises(UnavailableError):
                    await client.invoke(DeleteNamespaceRequest(namespace=NAME))
            with pytest.raises(NamespaceNotFoundError):
                await client.invoke(DeleteNamespaceRequest(namespace=NAME))

    run(scenario())


def test_a_deletion_goes_on_whose_caller_has_gone() -> None:
    """While it was being written: the write goes on, and so does what follows from it."""

    async def scenario() -> None:
        async with _holding("put_namespace") as stage:
            deletion = stage.begin(DeleteNamespaceRequest(namespace=NAME))
            await stage.store.has_come.wait()
            deletion.cancel()
            with pytest.raises(asyncio.CancelledError):
                await deletion
            stage.store.may_go.set()
            await stage.server.namespaces.settled()

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
        assert not server.namespace_removals._tasks
        assert len((await store.list_runs(namespace_id, None, 10, None)).rows) == 1
        await LocalClient(server).invoke(DeleteNamespaceRequest(namespace=NAME))
        await _removals(server)
        assert [stored.name for stored in await store.list_namespaces()] == ["default"]
        await server.stop(1.0)

    run(scenario())


DELAY_S = 3_600


def _deletion(name: str = NAME, delay_s: int | None = DELAY_S) -> DeleteNamespaceRequest:
    request = DeleteNamespaceRequest(namespace=name)
    if delay_s is not None:
        request.namespace_delete_delay.seconds = delay_s
    return request


class Delayed:
    """A server on a clock that tests move, and whose namespace is deleted with a delay; it can be started again."""

    def __init__(self, config: ServerConfig) -> None:
        self.store = MemoryStore()
        self.runtime = SkippingRuntime(SystemRuntime())
        self._config = config

    async def start(self, **changes: Any) -> None:
        """Start the server, with the store and the clock that there are."""
        config = replace(self._config, **changes)
        self.server = Server(self.store, config, self.runtime, "memory", listens=False)
        await self.server.start()
        self.client = LocalClient(self.server)

    async def delete(self, request: DeleteNamespaceRequest) -> str:
        """Delete the namespace; returns once its removal rests. Its name from then on."""
        answer = await self.client.invoke(request)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return str(answer.deleted_namespace)  # type: ignore[attr-defined]

    async def skip(self, seconds: int) -> None:
        """Move the clock on as a skip of time does, and let the removal have its turns."""
        self.runtime.skip_to(self.runtime.now_ns() + seconds * 10**9)
        self.server.namespace_removals.clock_moved()
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def names(self) -> list[str]:
        """Of the namespaces that the store has, `default` left out."""
        stored = await self.store.list_namespaces()
        return sorted(each.name for each in stored if each.name != "default")

    async def has_runs(self, namespace_id: str) -> bool:
        """Whether the store has workflows of a namespace."""
        return bool((await self.store.list_runs(namespace_id, None, 10, None)).rows)


@asynccontextmanager
async def _delayed(**settings: Any) -> AsyncIterator[Delayed]:
    stage = Delayed(ServerConfig(port=0, namespaces=(NAME,), **settings))
    await stage.start()
    yield stage
    await stage.server.stop(1.0)


def test_a_deleted_namespace_stays_for_the_delay_without_what_was_in_it() -> None:
    """It is shown by its new name and its id meanwhile, and by lists that ask for it; its old name is free."""

    async def scenario() -> None:
        async with _delayed() as stage:
            await stage.client.invoke(_workflow())
            namespace_id = stage.server.namespaces.get(NAME).namespace_id
            assert await stage.has_runs(namespace_id)
            deleted = await stage.delete(_deletion())
            assert not await stage.has_runs(namespace_id)
            for found in (
                DescribeNamespaceRequest(namespace=deleted),
                DescribeNamespaceRequest(id=namespace_id),
            ):
                described: Any = await stage.client.invoke(found)
                assert described.namespace_info.name == deleted
                assert described.namespace_info.state == DELETED
            listed: Any = await stage.client.invoke(ListNamespacesRequest())
            assert [each.namespace_info.name for each in listed.namespaces] == ["default"]
            request = ListNamespacesRequest()
            request.namespace_filter.include_deleted = True
            listed = await stage.client.invoke(request)
            assert [each.namespace_info.name for each in listed.namespaces] == ["default", deleted]
            again = RegisterNamespaceRequest(namespace=NAME)
            again.workflow_execution_retention_period.seconds = 86_400
            await stage.client.invoke(again)
            assert await stage.names() == [NAME, deleted]
            await stage.skip(DELAY_S - 60)
            assert await stage.names() == [NAME, deleted]
            await stage.skip(60)
            assert await stage.names() == [NAME]

    run(scenario())


def test_a_delay_goes_on_when_the_server_is_started_again() -> None:
    """It does not begin again, and what is over by then is removed at once."""

    async def scenario() -> None:
        async with _delayed() as stage:
            deleted = await stage.delete(_deletion())
            await stage.server.stop(1.0)
            stage.runtime.skip_to(stage.runtime.now_ns() + (DELAY_S - 60) * 10**9)
            await stage.start(namespaces=())
            await stage.skip(0)
            assert await stage.names() == [deleted]
            await stage.server.stop(1.0)
            stage.runtime.skip_to(stage.runtime.now_ns() + 60 * 10**9)
            await stage.start(namespaces=())
            await stage.skip(0)
            assert await stage.names() == []

    run(scenario())


@pytest.mark.parametrize("delay_s", [0, -5])
def test_no_delay_is_none(delay_s: int) -> None:
    """What the request says counts, not what the server would take without it; a negative delay is over."""

    async def scenario() -> None:
        async with _delayed(namespace_delete_delay_s=DELAY_S) as stage:
            await stage.delete(_deletion(delay_s=delay_s))
            assert await stage.names() == []

    run(scenario())


def test_a_request_that_says_nothing_takes_the_delay_of_the_configuration() -> None:
    async def scenario() -> None:
        async with _delayed(namespace_delete_delay_s=DELAY_S) as stage:
            deleted = await stage.delete(_deletion(delay_s=None))
            await stage.skip(DELAY_S - 60)
            assert await stage.names() == [deleted]
            await stage.skip(60)
            assert await stage.names() == []

    run(scenario())


def test_to_delete_once_more_is_to_replace_the_delay() -> None:
    """It begins anew, longer or shorter; none removes the namespace at once."""

    async def scenario() -> None:
        async with _delayed() as stage:
            deleted = await stage.delete(_deletion())
            await stage.skip(DELAY_S - 60)
            assert await stage.delete(_deletion(deleted)) == deleted
            await stage.skip(DELAY_S - 60)
            assert await stage.names() == [deleted]
            assert await stage.delete(_deletion(deleted, None)) == deleted
            assert await stage.names() == []
            with pytest.raises(NamespaceNotFoundError):
                await stage.delete(_deletion(deleted))

    run(scenario())


def test_time_is_not_skipped_to_the_end_of_a_delay_but_past_it() -> None:
    """As retention: only who moves the clock so far on sees the namespace go."""

    async def scenario() -> None:
        async with _delayed() as stage:
            deleted = await stage.delete(_deletion())
            skipping = stage.server.time_skipping
            assert skipping is not None
            began_ns = stage.runtime.now_ns()
            await skipping.sleep_unlocked(began_ns + (DELAY_S - 60) * 10**9)
            await stage.skip(0)
            assert await stage.names() == [deleted]
            removals = list(stage.server.namespace_removals._tasks.values())
            await skipping.sleep_unlocked(began_ns + (DELAY_S + 60) * 10**9)
            await asyncio.gather(*removals)
            assert await stage.names() == []

    run(scenario())
