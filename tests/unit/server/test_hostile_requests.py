"""Whatever a request holds, every handler answers with its response or a typed error; the server stays as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.api.common.v1 import WorkflowExecution, WorkflowType
from perdure.api.enums.v1 import WorkflowIdConflictPolicy
from perdure.api.services import WORKFLOW_SERVICE, method_path
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    PollWorkflowTaskQueueRequest,
    StartWorkflowExecutionRequest,
)
from perdure.core.errors import ServiceError
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.server.service.call import Call
from perdure.store.memory import MemoryStore
from tests.support.messages import messages

_POLL = Call(deadline_s=1.02 + 1.0)


class Running:
    """A server in memory with one open run, driven call by call."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        config = ServerConfig(port=0, long_poll_s=0.005, history_wait_s=0.005)
        self.server = Server(MemoryStore(), config, SystemRuntime(), "memory")
        self.loop.run_until_complete(self.server.start())
        self.methods = [method for method in self.server.service.methods.values() if method.serve is not None]
        self.task_token = b""
        self.start("order")
        self.take_task("order")

    def start(self, workflow_id: str, request_id: str = "", *, replaces: bool = False) -> None:
        """Starts a workflow on a task queue of its own, in place of an open run if it `replaces` one."""
        request = StartWorkflowExecutionRequest(
            namespace="default",
            workflow_id=workflow_id,
            workflow_type=WorkflowType(name="Order"),
            task_queue=TaskQueue(name=f"queue of {workflow_id}"),
            request_id=request_id or workflow_id,
        )
        if replaces:
            request.workflow_id_conflict_policy = (
                WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
            )
        self.call("StartWorkflowExecution", request)

    def take_task(self, workflow_id: str) -> None:
        """Starts a workflow's workflow task, and remembers its token."""
        queue = TaskQueue(name=f"queue of {workflow_id}")
        request = PollWorkflowTaskQueueRequest(namespace="default", task_queue=queue)
        self.task_token = self.call("PollWorkflowTaskQueue", request).task_token  # type: ignore[attr-defined]
        assert self.task_token

    def call(self, rpc: str, request: Message) -> Message:
        return self.serve(method_path(WORKFLOW_SERVICE, rpc), request)

    def serve(self, path: str, request: Message) -> Message:
        async def bounded() -> Message:
            async with asyncio.timeout(10):
                return await self.server.service.call(path, request, _POLL)

        return self.loop.run_until_complete(bounded())

    def serve_or_error(self, path: str, request: Message) -> Message | ServiceError:
        """The answer, or the typed error; any other exception goes through."""
        try:
            return self.serve(path, request)
        except ServiceError as error:
            return error


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.loop.run_until_complete(running.server.stop(0))
    running.loop.close()


@given(data=st.data())
@settings(max_examples=1500)
def test_every_handler_answers_hostile_requests_with_its_response_or_a_typed_error(
    running: Running, data: st.DataObject
) -> None:
    """No request, however malformed, gets anything but its response class or a ServiceError."""
    method = data.draw(st.sampled_from(running.methods), label="method")
    request = data.draw(messages(method.request), label="request")
    names = method.request.DESCRIPTOR.fields_by_name
    if "namespace" in names and data.draw(st.booleans()):
        request.namespace = "default"  # type: ignore[attr-defined]
    if "task_token" in names and data.draw(st.booleans()):
        request.task_token = running.task_token  # type: ignore[attr-defined]
    for field in ("execution", "workflow_execution"):
        if field in names and data.draw(st.booleans()):
            getattr(request, field).workflow_id = "order"
            getattr(request, field).run_id = ""
    if method.path.endswith(("DeleteNamespace", "UpdateNamespace", "DeprecateNamespace")):
        request.namespace = "other"  # type: ignore[attr-defined]
    answer = running.serve_or_error(method.path, request)
    assert isinstance(answer, method.response) or str(answer), "an error without a message helps nobody"


@given(garbage=st.binary(max_size=300))
def test_a_changed_token_is_refused(running: Running, garbage: bytes) -> None:
    """A forged or damaged task token never reaches a run."""
    method = running.server.service.methods[method_path(WORKFLOW_SERVICE, "RespondWorkflowTaskCompleted")]
    with pytest.raises(ServiceError):
        running.serve(method.path, method.request(namespace="default", task_token=garbage))


def test_the_server_still_works_after_all_that(running: Running) -> None:
    """After the hostile requests a new workflow starts and can be read."""
    running.start("afterwards")
    described = running.call(
        "DescribeWorkflowExecution",
        DescribeWorkflowExecutionRequest(
            namespace="default", execution=WorkflowExecution(workflow_id="afterwards")
        ),
    )
    assert described.workflow_execution_info.type.name == "Order"  # type: ignore[attr-defined]
