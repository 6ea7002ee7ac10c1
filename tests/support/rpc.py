"""A thin raw gRPC client: one call per RPC, wire messages in and out, errors as data.

No retries, no conversions, no defaults beyond namespace, identity and a deadline: what a test sends is what goes on
the wire. Anything that builds messages belongs in `builders`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from tests.support.builders import queue
from tests.support.proto import (
    AnyMessage,
    Status,
    command,
    common,
    enums,
    errordetails,
    failure,
    history,
    operatorservice,
    query,
    taskqueue,
    workflowservice,
)

DEFAULT_NAMESPACE = "default"
CALL_TIMEOUT_S = 30.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A restarted server is found again quickly; the default backoff starts at a second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    # Also how long one attempt to connect may take, so not small: a busy machine is not a missing server.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Two clients in one process never share a connection.
    ("grpc.use_local_subchannel_pool", 1),
)

ResponseT = TypeVar("ResponseT", bound=Message)


class RpcError(Exception):
    """A call answered with an error status: code name, message and the details as messages.

    A detail of a type that is not in the errordetails package stays the packed Any.
    """

    def __init__(self, code: str, message: str, details: Sequence[Message]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = tuple(details)


def _unpack(packed: AnyMessage) -> Message:
    message_class = getattr(errordetails, packed.type_url.rpartition(".")[2], None)
    if message_class is None:
        return packed
    return cast(Message, message_class.FromString(packed.value))


def _ended_with_its_deadline(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server's end of the stream at the deadline was faster than grpc's own timer."""
    codes = (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
    return error.code() in codes and "RST_STREAM" in (error.details() or "")


def to_rpc_error(error: grpc.aio.AioRpcError) -> RpcError:
    """Turn grpc's error into code, message and unpacked details."""
    details: list[Message] = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            details.extend(_unpack(packed) for packed in Status.FromString(value).details)
    return RpcError(error.code().name, error.details() or "", details)


class RawClient:
    """One gRPC channel to one server, for one namespace and identity.

    Use as an async context manager, or call `close`. Every helper takes the fields of its request as keyword
    arguments on top of the ones it fills in (namespace, identity); a keyword given explicitly wins.
    """

    def __init__(
        self, address: str, *, namespace: str = DEFAULT_NAMESPACE, identity: str = "raw-client"
    ) -> None:
        self.address = address
        self.namespace = namespace
        self.identity = identity
        self.channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls under way end with CANCELLED."""
        await self.channel.close()

    async def invoke(
        self,
        request: Message,
        *,
        timeout_s: float | None = CALL_TIMEOUT_S,
        wait_for_ready: bool = False,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Message:
        """Send a request to the RPC its type names and return the response.

        Args:
            request: any `…Request` message of the workflow or operator service.
            timeout_s: the deadline in seconds; None sends none.
            wait_for_ready: wait (within the deadline) for a server that does not listen yet.
            metadata: request headers, such as the `client-name` every SDK sends.

        Raises:
            RpcError: the server answered with an error status.
        """
        name = request.DESCRIPTOR.name.removesuffix("Request")
        package = request.DESCRIPTOR.file.package
        is_operator = package.endswith("operatorservice.v1")
        service = "OperatorService" if is_operator else "WorkflowService"
        responses = operatorservice if is_operator else workflowservice
        response_type = getattr(responses, f"{name}Response")
        method = self.channel.unary_unary(
            f"/{package}.{service}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response_type.FromString,
        )
        try:
            response = await method(
                request, timeout=timeout_s, wait_for_ready=wait_for_ready, metadata=tuple(metadata)
            )
        except grpc.aio.AioRpcError as error:
            if timeout_s is not None and _ended_with_its_deadline(error):
                raise RpcError("DEADLINE_EXCEEDED", "Deadline Exceeded", ()) from None
            raise to_rpc_error(error) from None
        return cast(Message, response)

    async def call(
        self, request: Message, response_type: type[ResponseT], *, timeout_s: float | None = CALL_TIMEOUT_S
    ) -> ResponseT:
        """`invoke` with the response type said by the caller, for typed access to its fields."""
        response = await self.invoke(request, timeout_s=timeout_s)
        if not isinstance(response, response_type):
            raise TypeError(f"{type(request).__name__} answers {type(response).__name__}")
        return response

    def start_request(
        self, workflow_id: str, task_queue: str, /, **fields: Any
    ) -> workflowservice.StartWorkflowExecutionRequest:
        """A plain start: type `flow`, a fresh request id, nothing optional."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "workflow_id": workflow_id,
            "workflow_type": common.WorkflowType(name="flow"),
            "task_queue": queue(task_queue),
            "identity": self.identity,
            "request_id": str(uuid.uuid4()),
        }
        return workflowservice.StartWorkflowExecutionRequest(**(values | fields))

    async def start(
        self, workflow_id: str, task_queue: str, /, **fields: Any
    ) -> workflowservice.StartWorkflowExecutionResponse:
        """StartWorkflowExecution."""
        return await self.call(
            self.start_request(workflow_id, task_queue, **fields),
            workflowservice.StartWorkflowExecutionResponse,
        )

    async def poll_workflow_task(
        self,
        task_queue: str | taskqueue.TaskQueue,
        *,
        timeout_s: float | None = CALL_TIMEOUT_S,
        **fields: Any,
    ) -> workflowservice.PollWorkflowTaskQueueResponse:
        """PollWorkflowTaskQueue; an empty task token in the answer means that no task came."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "task_queue": queue(task_queue) if isinstance(task_queue, str) else task_queue,
            "identity": self.identity,
        }
        return await self.call(
            workflowservice.PollWorkflowTaskQueueRequest(**(values | fields)),
            workflowservice.PollWorkflowTaskQueueResponse,
            timeout_s=timeout_s,
        )

    async def complete_workflow_task(
        self, task_token: bytes, commands: Sequence[command.Command] = (), **fields: Any
    ) -> workflowservice.RespondWorkflowTaskCompletedResponse:
        """RespondWorkflowTaskCompleted with these commands."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "task_token": task_token,
            "commands": commands,
            "identity": self.identity,
        }
        return await self.call(
            workflowservice.RespondWorkflowTaskCompletedRequest(**(values | fields)),
            workflowservice.RespondWorkflowTaskCompletedResponse,
        )

    async def fail_workflow_task(
        self,
        task_token: bytes,
        cause: enums.WorkflowTaskFailedCause.ValueType,
        failed: failure.Failure | None = None,
        **fields: Any,
    ) -> workflowservice.RespondWorkflowTaskFailedResponse:
        """RespondWorkflowTaskFailed."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "task_token": task_token,
            "cause": cause,
            "failure": failed,
            "identity": self.identity,
        }
        return await self.call(
            workflowservice.RespondWorkflowTaskFailedRequest(**(values | fields)),
            workflowservice.RespondWorkflowTaskFailedResponse,
        )

    async def poll_activity_task(
        self, task_queue: str, *, timeout_s: float | None = CALL_TIMEOUT_S, **fields: Any
    ) -> workflowservice.PollActivityTaskQueueResponse:
        """PollActivityTaskQueue; an empty task token in the answer means that no task came."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "task_queue": queue(task_queue),
            "identity": self.identity,
        }
        return await self.call(
            workflowservice.PollActivityTaskQueueRequest(**(values | fields)),
            workflowservice.PollActivityTaskQueueResponse,
            timeout_s=timeout_s,
        )

    async def complete_activity(
        self, task_token: bytes, result: common.Payloads | None = None
    ) -> workflowservice.RespondActivityTaskCompletedResponse:
        """RespondActivityTaskCompleted."""
        return await self.call(
            workflowservice.RespondActivityTaskCompletedRequest(
                namespace=self.namespace, task_token=task_token, result=result, identity=self.identity
            ),
            workflowservice.RespondActivityTaskCompletedResponse,
        )

    async def fail_activity(
        self, task_token: bytes, failed: failure.Failure, **fields: Any
    ) -> workflowservice.RespondActivityTaskFailedResponse:
        """RespondActivityTaskFailed."""
        return await self.call(
            workflowservice.RespondActivityTaskFailedRequest(
                namespace=self.namespace,
                task_token=task_token,
                failure=failed,
                identity=self.identity,
                **fields,
            ),
            workflowservice.RespondActivityTaskFailedResponse,
        )

    async def cancel_activity(
        self, task_token: bytes, details: common.Payloads | None = None
    ) -> workflowservice.RespondActivityTaskCanceledResponse:
        """RespondActivityTaskCanceled."""
        return await self.call(
            workflowservice.RespondActivityTaskCanceledRequest(
                namespace=self.namespace, task_token=task_token, details=details, identity=self.identity
            ),
            workflowservice.RespondActivityTaskCanceledResponse,
        )

    async def heartbeat_activity(
        self, task_token: bytes, details: common.Payloads | None = None
    ) -> workflowservice.RecordActivityTaskHeartbeatResponse:
        """RecordActivityTaskHeartbeat."""
        return await self.call(
            workflowservice.RecordActivityTaskHeartbeatRequest(
                namespace=self.namespace, task_token=task_token, details=details, identity=self.identity
            ),
            workflowservice.RecordActivityTaskHeartbeatResponse,
        )

    async def signal(
        self, workflow_id: str, name: str = "go", *, run_id: str = "", **fields: Any
    ) -> workflowservice.SignalWorkflowExecutionResponse:
        """SignalWorkflowExecution."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "workflow_execution": common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            "signal_name": name,
            "identity": self.identity,
        }
        return await self.call(
            workflowservice.SignalWorkflowExecutionRequest(**(values | fields)),
            workflowservice.SignalWorkflowExecutionResponse,
        )

    async def request_cancel(
        self, workflow_id: str, *, run_id: str = "", **fields: Any
    ) -> workflowservice.RequestCancelWorkflowExecutionResponse:
        """RequestCancelWorkflowExecution."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "workflow_execution": common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            "identity": self.identity,
        }
        return await self.call(
            workflowservice.RequestCancelWorkflowExecutionRequest(**(values | fields)),
            workflowservice.RequestCancelWorkflowExecutionResponse,
        )

    async def terminate(
        self, workflow_id: str, *, run_id: str = "", **fields: Any
    ) -> workflowservice.TerminateWorkflowExecutionResponse:
        """TerminateWorkflowExecution."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "workflow_execution": common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            "identity": self.identity,
        }
        return await self.call(
            workflowservice.TerminateWorkflowExecutionRequest(**(values | fields)),
            workflowservice.TerminateWorkflowExecutionResponse,
        )

    async def describe(
        self, workflow_id: str, *, run_id: str = ""
    ) -> workflowservice.DescribeWorkflowExecutionResponse:
        """DescribeWorkflowExecution."""
        return await self.call(
            workflowservice.DescribeWorkflowExecutionRequest(
                namespace=self.namespace,
                execution=common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            ),
            workflowservice.DescribeWorkflowExecutionResponse,
        )

    async def query(
        self,
        workflow_id: str,
        query_type: str = "state",
        *,
        run_id: str = "",
        timeout_s: float = CALL_TIMEOUT_S,
        **fields: Any,
    ) -> workflowservice.QueryWorkflowResponse:
        """QueryWorkflow."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "execution": common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            "query": query.WorkflowQuery(query_type=query_type),
        }
        return await self.call(
            workflowservice.QueryWorkflowRequest(**(values | fields)),
            workflowservice.QueryWorkflowResponse,
            timeout_s=timeout_s,
        )

    async def history_page(
        self,
        workflow_id: str,
        *,
        run_id: str = "",
        timeout_s: float = CALL_TIMEOUT_S,
        **fields: Any,
    ) -> workflowservice.GetWorkflowExecutionHistoryResponse:
        """GetWorkflowExecutionHistory, one page."""
        values: dict[str, Any] = {
            "namespace": self.namespace,
            "execution": common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        }
        return await self.call(
            workflowservice.GetWorkflowExecutionHistoryRequest(**(values | fields)),
            workflowservice.GetWorkflowExecutionHistoryResponse,
            timeout_s=timeout_s,
        )

    async def history(self, workflow_id: str, *, run_id: str = "") -> list[history.HistoryEvent]:
        """Every event of a run, all pages."""
        events: list[history.HistoryEvent] = []
        token = b""
        while True:
            page = await self.history_page(workflow_id, run_id=run_id, next_page_token=token)
            events.extend(page.history.events)
            token = page.next_page_token
            if not token:
                return events
