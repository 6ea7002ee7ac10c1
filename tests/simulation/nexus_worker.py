"""The part of a simulated worker that handles Nexus operations: as the operation's name says, and as faults allow."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from google.protobuf.message import Message

from perdure.api.common.v1 import Callback
from perdure.api.nexus.v1 import HandlerError, StartOperationRequest
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import (
    PollNexusTaskQueueRequest,
    PollNexusTaskQueueResponse,
    RequestCancelWorkflowExecutionRequest,
    RequestCancelWorkflowExecutionResponse,
    RespondNexusTaskCompletedRequest,
    RespondNexusTaskCompletedResponse,
    RespondNexusTaskFailedRequest,
    RespondNexusTaskFailedResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
)
from tests.simulation.context import Context
from tests.simulation.interpreter import payload, payloads, value_of_payload
from tests.simulation.model import check
from tests.simulation.network import CallFailed
from tests.simulation.program import activity_value

SERVICE = "simulated"
POLL_DEADLINE_S = 65.0
Answer = TypeVar("Answer", bound=Message)


class NexusWorker:
    """Handles the operations of one worker process."""

    def __init__(self, context: Context, random: Random, namespace: str, task_queue: str, name: str) -> None:
        self._context = context
        self._loop = context.loop
        self._random = random
        self._namespace = namespace
        self._task_queue = task_queue
        self._name = name

    async def poll(self) -> None:
        """Takes requests for ever."""
        request = PollNexusTaskQueueRequest(namespace=self._namespace, identity=self._name)
        request.task_queue.CopyFrom(TaskQueue(name=self._task_queue, kind=1))  # type: ignore[arg-type]
        while True:
            try:
                task = await self._context.network.call(request, PollNexusTaskQueueResponse, POLL_DEADLINE_S)
            except CallFailed as error:
                self._context.accept(error)
                await self._loop.sleep(self._random.uniform(0.1, 2.0))
                continue
            if task.task_token:
                await self._work(task)

    async def _work(self, task: PollNexusTaskQueueResponse) -> None:
        """One request: lost, refused for now, or answered."""
        random = self._random
        if random.random() < self._context.faults.activity_loss:
            self._context.trace.reach("operation request lost")
            return
        answer = RespondNexusTaskCompletedRequest(
            namespace=self._namespace, identity=self._name, task_token=task.task_token
        )
        cancel = task.request.cancel_operation
        if task.request.HasField("cancel_operation"):
            done = await self._cancel(cancel.operation_token)
            answer.response.cancel_operation.SetInParent()
        else:
            done = await self._start(task.request.start_operation, answer.response.start_operation)
        if done and random.random() >= self._context.faults.activity_loss:
            await self._tell(answer, RespondNexusTaskCompletedResponse, "NotFoundError")
            return
        self._context.trace.reach("operation request refused for now")
        refusal = RespondNexusTaskFailedRequest(
            namespace=self._namespace,
            identity=self._name,
            task_token=task.task_token,
            error=HandlerError(error_type="UNAVAILABLE"),
        )
        await self._tell(refusal, RespondNexusTaskFailedResponse, "NotFoundError")

    async def _start(self, start: StartOperationRequest, answer: Any) -> bool:
        """Starts an operation. Returns whether the answer is known."""
        document = value_of_payload(start.payload)
        check(document["origin"]["namespace"] == self._namespace, "namespaces do not mix", document["origin"])
        check(start.service == SERVICE, "operations keep their service", start.service)
        if start.operation == "workflow":
            token = await self._start_workflow(start, document)
            answer.async_success.operation_token = token or ""
            return token is not None
        if start.operation == "fails":
            answer.failure.message = "planned"
            answer.failure.application_failure_info.type = "OperationError"
        else:
            answer.sync_success.payload.CopyFrom(payload(activity_value(document["id"])))
        return True

    async def _start_workflow(self, start: StartOperationRequest, document: dict[str, Any]) -> str | None:
        """Starts the workflow that the operation is; the same one, however often it is asked."""
        origin = document["origin"] | {"workflow_id": f"{document['id']} {start.request_id}"}
        request = StartWorkflowExecutionRequest(
            namespace=self._namespace,
            workflow_id=origin["workflow_id"],
            request_id=start.request_id,
            identity=self._name,
        )
        request.workflow_type.name = "program"
        request.task_queue.name = self._task_queue
        request.workflow_id_reuse_policy = "WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE"  # type: ignore[assignment]
        request.workflow_id_conflict_policy = "WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING"  # type: ignore[assignment]
        request.input.CopyFrom(payloads({"program": document["program"], "origin": origin}))
        called = Callback.Nexus(url=start.callback, header=dict(start.callback_header))
        request.completion_callbacks.append(Callback(nexus=called))
        request.on_conflict_options.attach_request_id = True
        request.on_conflict_options.attach_completion_callbacks = True
        return origin["workflow_id"] if await self._tell(request, StartWorkflowExecutionResponse) else None

    async def _cancel(self, token: str) -> bool:
        request = RequestCancelWorkflowExecutionRequest(namespace=self._namespace, request_id=token)
        request.workflow_execution.workflow_id = token
        return await self._tell(request, RequestCancelWorkflowExecutionResponse, "NotFoundError") is not None

    async def _tell(self, request: Message, answer: type[Answer], *allowed: str) -> bool | None:
        """Calls once. Returns whether it was done; None when that is not known."""
        try:
            await self._context.network.call(request, answer)
        except CallFailed as error:
            if error.is_unknown:
                return None
            self._context.accept(error, *allowed)
            return False
        return True
