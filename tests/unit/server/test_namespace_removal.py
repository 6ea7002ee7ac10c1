"""What is begun in a namespace while that is being removed is refused, or removed with it; nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.api.operatorservice.v1 import DeleteNamespaceRequest
from perdure.api.workflowservice.v1 import (
    CreateScheduleRequest,
    StartActivityExecutionRequest,
    StartBatchOperationRequest,
    StartWorkflowExecutionRequest,
)
from perdure.core.errors import NamespaceNotFoundError
from perdure.core.run.records import RunKind
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.unit.server.local_client import LocalClient
from tests.unit.server.support import run

NAME = "old"
TURNS = 500
"""Of the event loop: far more than a removal takes that waits for nothing, since the store is in memory."""


class _HeldStore(MemoryStore):
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
    ],
)
def test_what_was_under_way_when_its_namespace_was_deleted_leaves_nothing(
    request_of: Any, method: str, is_refused: bool
) -> None:
    """Before its write it is refused; a write that was on its way is found by the removal."""

    async def scenario() -> None:
        store = _HeldStore()
        server = Server(store, ServerConfig(port=0, namespaces=(NAME,)), SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        namespace_id = server.namespaces.get(NAME).namespace_id
        store.held_method = method
        begun = asyncio.ensure_future(client.invoke(request_of()))
        await store.has_come.wait()
        await client.invoke(DeleteNamespaceRequest(namespace=NAME))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        store.may_go.set()
        if is_refused:
            with pytest.raises(NamespaceNotFoundError, match=f"Namespace {NAME} is not found"):
                await begun
        else:
            await begun
        await asyncio.gather(*server._background)
        for kind in RunKind:
            assert (await store.list_runs(namespace_id, None, 10, None, kind)).rows == ()
        assert not await store.list_schedules(namespace_id, "", 10)
        assert not await store.list_batches(namespace_id, None, 10)
        assert [stored.name for stored in await store.list_namespaces()] == ["default"]
        await server.stop(1.0)

    run(scenario())
