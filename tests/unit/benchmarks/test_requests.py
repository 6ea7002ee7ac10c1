"""The serialised requests say what they should when a server parses them."""

from __future__ import annotations

from temporalio.api.enums.v1 import CommandType, HistoryEventFilterType, TaskQueueKind
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    PollWorkflowTaskQueueRequest,
    RespondActivityTaskCompletedRequest,
    RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
)

from benchmarks.requests import RequestTemplates, first_bytes_field, length_delimited

TEMPLATES = RequestTemplates("default", "queue", "sticky", eager_activity=True)
LONG_ID = b"w" * 300


def test_start_carries_ids_and_the_rest() -> None:
    request = StartWorkflowExecutionRequest.FromString(TEMPLATES.start(LONG_ID))
    assert request.workflow_id == request.request_id == LONG_ID.decode()
    assert (request.namespace, request.task_queue.name, request.workflow_type.name) == (
        "default",
        "queue",
        "Order",
    )
    assert request.input.payloads[0].data


def test_history_waits_for_the_close_event_of_the_named_run() -> None:
    request = GetWorkflowExecutionHistoryRequest.FromString(TEMPLATES.history(b"w", b"r", b"page"))
    assert (request.execution.workflow_id, request.execution.run_id) == ("w", "r")
    assert request.wait_new_event
    assert request.next_page_token == b"page"
    wanted = HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
    assert request.history_event_filter_type == wanted


def test_workflow_task_completions_schedule_then_close() -> None:
    first, second = (
        RespondWorkflowTaskCompletedRequest.FromString(TEMPLATES.with_token(prefix, b"token"))
        for prefix in (TEMPLATES.schedule_prefix, TEMPLATES.close_prefix)
    )
    assert first.task_token == second.task_token == b"token"
    assert first.sticky_attributes.worker_task_queue.name == "sticky"
    assert first.return_new_workflow_task
    assert first.commands[0].schedule_activity_task_command_attributes.request_eager_execution
    assert second.commands[0].command_type == CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION


def test_without_a_sticky_queue_nothing_is_sticky() -> None:
    templates = RequestTemplates("default", "queue", None, eager_activity=False)
    request = RespondWorkflowTaskCompletedRequest.FromString(templates.close_prefix)
    assert not request.HasField("sticky_attributes")
    assert templates.poll_sticky == b""


def test_the_sticky_poll_names_its_normal_queue() -> None:
    queue = PollWorkflowTaskQueueRequest.FromString(TEMPLATES.poll_sticky).task_queue
    assert (queue.name, queue.normal_name) == ("sticky", "queue")
    assert queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY


def test_activity_completion_carries_token_and_result() -> None:
    request = RespondActivityTaskCompletedRequest.FromString(
        TEMPLATES.with_token(TEMPLATES.activity_prefix, b"token")
    )
    assert request.task_token == b"token"
    assert request.result.payloads[0].data == b'"charged"'


def test_the_first_field_is_read_only_when_it_comes_first() -> None:
    reply = StartWorkflowExecutionResponse(run_id="r" * 200, started=True).SerializeToString()
    assert first_bytes_field(reply, 1) == b"r" * 200
    assert first_bytes_field(reply, 2) == b""
    assert first_bytes_field(b"", 1) == b""
    assert length_delimited(1, b"r" * 200) == reply[: 3 + 200]
