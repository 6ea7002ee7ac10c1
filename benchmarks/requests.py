"""The requests of the raw load, serialised once: per call only the ids are appended.

Protobuf fields may come in any order and parts of a message may be concatenated, so a request is a constant
prefix plus the fields that vary. What the replies must be asked is read with the generated classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import CommandType, HistoryEventFilterType, TaskQueueKind
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    PollActivityTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    RespondActivityTaskCompletedRequest,
    RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
)

from benchmarks.wire import Method

SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
IDENTITY = "1000@perdure-bench"
LONG_POLL_S = 70
CALL_S = 10


def length_delimited(field: int, value: bytes) -> bytes:
    """Encode one length-delimited protobuf field (number under 16)."""
    size = len(value)
    prefix = bytearray((field << 3 | 2,))
    while size > 127:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + value


def first_bytes_field(message: bytes, field: int) -> bytes:
    """Return the value of `field` when it comes first in the message (tokens and run ids do), else b""."""
    if not message or message[0] != field << 3 | 2:
        return b""
    size, shift, position = 0, 0, 1
    while True:
        byte = message[position]
        size |= (byte & 0x7F) << shift
        position += 1
        if byte < 128:
            return message[position : position + size]
        shift += 7


def json_payloads(text: str) -> Payloads:
    """One JSON payload."""
    return Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=text.encode())])


@dataclass(frozen=True)
class Methods:
    """The constant header block of every method, for one server address."""

    start: Method
    history: Method
    poll_workflow: Method
    poll_activity: Method
    complete_workflow: Method
    complete_activity: Method

    @classmethod
    def of(cls, address: str) -> Methods:
        """Build the blocks for the server at `address`."""

        def method(name: str, timeout_s: int) -> Method:
            return Method(SERVICE + name, address, timeout_s)

        return cls(
            start=method("StartWorkflowExecution", CALL_S),
            history=method("GetWorkflowExecutionHistory", LONG_POLL_S),
            poll_workflow=method("PollWorkflowTaskQueue", LONG_POLL_S),
            poll_activity=method("PollActivityTaskQueue", LONG_POLL_S),
            complete_workflow=method("RespondWorkflowTaskCompleted", CALL_S),
            complete_activity=method("RespondActivityTaskCompleted", CALL_S),
        )


class RequestTemplates:
    """The constant parts of each request for one namespace and task queue."""

    def __init__(
        self,
        namespace: str,
        task_queue: str,
        sticky_queue: str | None,
        eager_activity: bool,
        run_timeout_s: int = 300,
    ) -> None:
        self.namespace = namespace
        queue = TaskQueue(name=task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
        start = StartWorkflowExecutionRequest(
            namespace=namespace, identity=IDENTITY, task_queue=queue, input=json_payloads('{"order":"A-1"}')
        )
        start.workflow_type.name = "Order"
        if run_timeout_s:
            start.workflow_run_timeout.seconds = run_timeout_s
        start.workflow_task_timeout.seconds = 10
        self.start_prefix = start.SerializeToString()
        history = GetWorkflowExecutionHistoryRequest(
            namespace=namespace,
            wait_new_event=True,
            history_event_filter_type=HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
            skip_archival=True,
        )
        self.history_prefix = history.SerializeToString()
        self.poll_normal = PollWorkflowTaskQueueRequest(
            namespace=namespace, identity=IDENTITY, task_queue=queue
        ).SerializeToString()
        self.poll_sticky = b""
        if sticky_queue is not None:
            sticky = TaskQueue(
                name=sticky_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=task_queue
            )
            self.poll_sticky = PollWorkflowTaskQueueRequest(
                namespace=namespace, identity=IDENTITY, task_queue=sticky
            ).SerializeToString()
        self.poll_activity = PollActivityTaskQueueRequest(
            namespace=namespace, identity=IDENTITY, task_queue=queue
        ).SerializeToString()
        self.schedule_prefix = self.decision(
            namespace, sticky_queue, self._schedule_activity(queue, eager_activity)
        )
        self.close_prefix = self.decision(namespace, sticky_queue, self._complete_workflow())
        completed = RespondActivityTaskCompletedRequest(
            namespace=namespace, identity=IDENTITY, result=json_payloads('"charged"')
        )
        self.activity_prefix = completed.SerializeToString()

    @staticmethod
    def _schedule_activity(queue: TaskQueue, eager: bool) -> Command:
        command = Command(command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK)
        attributes = command.schedule_activity_task_command_attributes
        attributes.activity_id, attributes.activity_type.name = "1", "charge"
        attributes.task_queue.CopyFrom(queue)
        attributes.input.CopyFrom(json_payloads('{"order":"A-1","amount":125}'))
        attributes.start_to_close_timeout.seconds = 60
        attributes.request_eager_execution = eager
        return command

    @staticmethod
    def _complete_workflow() -> Command:
        command = Command(command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION)
        command.complete_workflow_execution_command_attributes.result.CopyFrom(json_payloads('"done"'))
        return command

    @staticmethod
    def decision(namespace: str, sticky_queue: str | None, command: Command) -> bytes:
        """A workflow task's completion with one command, without its token."""
        request = RespondWorkflowTaskCompletedRequest(
            namespace=namespace,
            identity=IDENTITY,
            commands=[command],
            return_new_workflow_task=True,
        )
        if sticky_queue is not None:
            request.sticky_attributes.worker_task_queue.name = sticky_queue
            request.sticky_attributes.worker_task_queue.kind = TaskQueueKind.TASK_QUEUE_KIND_STICKY
            request.sticky_attributes.schedule_to_start_timeout.seconds = 10
        return request.SerializeToString()

    def start(self, workflow_id: bytes) -> bytes:
        """StartWorkflowExecution for `workflow_id` (also used as the request id)."""
        # 2: workflow_id, 10: request_id
        return self.start_prefix + length_delimited(2, workflow_id) + length_delimited(10, workflow_id)

    def history(self, workflow_id: bytes, run_id: bytes, page_token: bytes) -> bytes:
        """GetWorkflowExecutionHistory waiting for the close event."""
        execution = length_delimited(1, workflow_id) + length_delimited(2, run_id)
        request = self.history_prefix + length_delimited(2, execution)
        return request + length_delimited(4, page_token) if page_token else request

    def whole_history(self, workflow_id: bytes, run_id: bytes) -> bytes:
        """GetWorkflowExecutionHistory of every event, without waiting."""
        request = GetWorkflowExecutionHistoryRequest(namespace=self.namespace)
        request.execution.workflow_id, request.execution.run_id = workflow_id.decode(), run_id.decode()
        return request.SerializeToString()

    def with_token(self, prefix: bytes, task_token: bytes) -> bytes:
        """A completion request: `prefix` plus the task's token (field 1 in each of them)."""
        return prefix + length_delimited(1, task_token)
