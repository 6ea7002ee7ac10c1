"""The server as a whole, in this process: what start prepares, what is undone when it fails, what stop leaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure.api.namespace.v1 import NamespaceInfo
from perdure.api.services import WORKFLOW_SERVICE, method_path
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.errors import InvalidArgumentError, PerdureError, StoreUnavailableError
from perdure.core.visibility import AttributeType
from perdure.server.config import ServerConfig
from perdure.server.namespaces import DELETED, Namespace
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore
from tests.unit.server.support import CALL, run

HOST = "127.0.0.1"
GRACE_S = 5.0


def _server(store: Store, **config: Any) -> Server:
    return Server(store, ServerConfig(host=HOST, port=0, **config), SystemRuntime(), "test")


async def _start_workflow(server: Server, namespace: str) -> None:
    request = StartWorkflowExecutionRequest(namespace=namespace, workflow_id="flow", request_id="r")
    request.workflow_type.name = "Order"
    request.task_queue.name = "orders"
    await server.service.call(method_path(WORKFLOW_SERVICE, "StartWorkflowExecution"), request, CALL)


def test_start_makes_what_was_asked_for_and_keeps_what_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "runs.db"
        first = _server(SqliteStore(path), namespaces=("one",), search_attributes={"Colour": 2})
        await first.start()
        ids = {namespace.name: namespace.namespace_id for namespace in first.namespaces.all()}
        await first.stop(GRACE_S)
        second = _server(
            SqliteStore(path), namespaces=("one", "two"), search_attributes={"Colour": 3, "Weight": 3}
        )
        await second.start()
        again = {namespace.name: namespace.namespace_id for namespace in second.namespaces.all()}
        assert list(again) == ["default", "one", "two"]
        assert again == {**again, **ids}
        attributes = second.namespaces.get("one").search_attributes
        assert attributes == {"Colour": AttributeType.KEYWORD, "Weight": AttributeType.INT}
        await second.stop(GRACE_S)

    run(scenario())


def test_a_start_that_fails_closes_what_it_opened(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "runs.db"
        holder = _server(MemoryStore())
        await holder.start()
        store = SqliteStore(path)
        config = ServerConfig(host=HOST, port=holder.port)
        blocked = Server(store, config, SystemRuntime(), "test")
        with pytest.raises(PerdureError, match="cannot listen on"):
            await blocked.start()
        with pytest.raises(StoreUnavailableError):
            await store.list_namespaces()
        await holder.stop(GRACE_S)
        # The file is free again.
        after = _server(SqliteStore(path))
        await after.start()
        await after.stop(GRACE_S)

    run(scenario())


def test_an_impossible_search_attribute_is_refused_at_start() -> None:
    with pytest.raises(InvalidArgumentError, match="reserved by system"):
        run(_server(MemoryStore(), search_attributes={"RunId": 1}).start())


def test_a_namespace_that_was_being_deleted_when_the_server_ended_is_removed_at_the_next_start(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        path = tmp_path / "runs.db"
        first = _server(SqliteStore(path), namespaces=("old",))
        await first.start()
        await _start_workflow(first, "old")
        namespace: Namespace = first.namespaces.get("old")
        name = f"old{namespace.deleted_suffix()}"
        deleted = replace(namespace, name=name, info=NamespaceInfo(state=DELETED))
        await first.namespaces.update(deleted)
        await first.stop(GRACE_S)

        store = SqliteStore(path)
        second = _server(store)
        await second.start()
        await asyncio.gather(*second.namespace_removals._tasks.values())
        assert [stored.name for stored in await store.list_namespaces()] == ["default"]
        assert (await store.list_runs(namespace.namespace_id, None, 10, None)).rows == ()
        await second.stop(GRACE_S)

    run(scenario())
