"""To which event a reset in a batch goes back: found in each execution's own history.

Asked through the same RPCs as a client would, because histories are paged and points of build ids are described there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from google.protobuf.message import Message

from perdure.api.batch.v1 import BatchOperationReset
from perdure.api.enums.v1 import EventType, ResetType
from perdure.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryReverseRequest,
    ResetWorkflowExecutionRequest,
)
from perdure.core.errors import InvalidArgumentError

MAX_PAGES: Final = 1_000
"""Pages of a history that are read at most; no history has more."""
_COMPLETED: Final = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_COMPLETED")
_SCHEDULED: Final = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_SCHEDULED")
_FIRST: Final = ResetType.Value("RESET_TYPE_FIRST_WORKFLOW_TASK")
_LAST: Final = ResetType.Value("RESET_TYPE_LAST_WORKFLOW_TASK")

Serve = Callable[[str, Message], Awaitable[Any]]


async def reset_point(
    serve: Serve, operation: BatchOperationReset, request: ResetWorkflowExecutionRequest
) -> None:
    """Fills in the event, and the run if it is another one, that a reset goes back to.

    Args:
        serve: serves an RPC.
        operation: what the batch says.
        request: a reset of one execution; its `workflow_task_finish_event_id` is set.

    Raises:
        InvalidArgumentError: there is no such point.
    """
    target: str = operation.options.WhichOneof("target") or ""
    if not operation.HasField("options"):
        target = {_FIRST: "first_workflow_task", _LAST: "last_workflow_task"}.get(operation.reset_type, "")
    if target == "workflow_task_id":
        request.workflow_task_finish_event_id = operation.options.workflow_task_id
    elif target == "build_id":
        await _of_build(serve, operation, request)
    elif target == "first_workflow_task":
        await _of_task(serve, request, is_last=False)
    elif target == "last_workflow_task":
        await _of_task(serve, request, is_last=True)
    else:
        raise InvalidArgumentError(f"provided reset type ({operation.reset_type}) is not supported.")


async def _of_task(serve: Serve, request: ResetWorkflowExecutionRequest, *, is_last: bool) -> None:
    """The first or last workflow task that completed; if none did, the one that was scheduled."""
    name = "GetWorkflowExecutionHistoryReverse" if is_last else "GetWorkflowExecutionHistory"
    kind: Any = GetWorkflowExecutionHistoryReverseRequest if is_last else GetWorkflowExecutionHistoryRequest
    asked = kind(namespace=request.namespace, execution=request.workflow_execution)
    scheduled = 0
    for _ in range(MAX_PAGES):
        page = await serve(name, asked)
        for event in page.history.events:
            if event.event_type == _COMPLETED:
                request.workflow_task_finish_event_id = event.event_id
                return
            if event.event_type == _SCHEDULED and (is_last or not scheduled):
                scheduled = event.event_id + 1
        if not page.next_page_token:
            break
        asked.next_page_token = page.next_page_token
    if not scheduled:
        raise InvalidArgumentError("unable to find any scheduled or completed task")
    request.workflow_task_finish_event_id = scheduled


async def _of_build(
    serve: Serve, operation: BatchOperationReset, request: ResetWorkflowExecutionRequest
) -> None:
    """The first workflow task that a build id completed."""
    build_id = operation.options.build_id
    asked = DescribeWorkflowExecutionRequest(
        namespace=request.namespace, execution=request.workflow_execution
    )
    described = await serve("DescribeWorkflowExecution", asked)
    for point in described.workflow_execution_info.auto_reset_points.points:
        if point.build_id != build_id:
            continue
        if not point.resettable:
            raise InvalidArgumentError(f"Reset point for {build_id} is not resettable")
        if point.run_id != request.workflow_execution.run_id and operation.options.current_run_only:
            raise InvalidArgumentError(
                f"Reset point for {build_id} points to previous run and CurrentRunOnly is set"
            )
        request.workflow_execution.run_id = point.run_id
        request.workflow_task_finish_event_id = point.first_workflow_task_completed_id
        return
    raise InvalidArgumentError(f"Can't find reset point for {build_id}")
