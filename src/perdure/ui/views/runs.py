"""One run: describing it, and reading its history in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryReverseRequest,
)
from perdure.ui.context import Context
from perdure.ui.plain import plain
from perdure.ui.views.workflows import row

PAGE_BATCHES: Final = 256
"""Events written together come together; a server gives at most so many of such batches at once."""
OPEN_STATUSES: Final = ("Running", "Paused")


def execution_of(context: Context) -> WorkflowExecution:
    """The run that the path names."""
    return WorkflowExecution(workflow_id=context.names["workflow_id"], run_id=context.names.get("run_id", ""))


def run_url(context: Context, *more: str, **query: Any) -> str:
    """The address of the run that the path names, or of something below it."""
    names = context.names
    return context.url(
        "namespaces", context.namespace, "workflows", names["workflow_id"], names["run_id"], *more, **query
    )


async def describe(context: Context) -> DescribeWorkflowExecutionResponse:
    """What the server says of the run.

    Raises:
        RPCError: what the server answered.
    """
    request = DescribeWorkflowExecutionRequest(namespace=context.namespace, execution=execution_of(context))
    answer: DescribeWorkflowExecutionResponse = await context.call("describe_workflow_execution", request)
    return answer


def head(context: Context, described: DescribeWorkflowExecutionResponse) -> dict[str, Any]:
    """What every page of a run shows above."""
    shown = row(context, described.workflow_execution_info)
    shown["is_open"] = shown.get("status") in OPEN_STATUSES
    shown["cancel_requested"] = described.workflow_extended_info.cancel_requested
    shown["is_paused"] = described.workflow_extended_info.HasField("pause_info")
    if shown["is_paused"]:
        shown["pause"] = plain(described.workflow_extended_info.pause_info)
    shown["reset_run_id"] = described.workflow_extended_info.reset_run_id
    return shown


async def page_of_events(
    context: Context, token: bytes = b"", *, is_reverse: bool = False, batches: int = PAGE_BATCHES
) -> tuple[list[HistoryEvent], bytes]:
    """One page of the history, and where the next one begins; empty at the end.

    Raises:
        RPCError: what the server answered.
    """
    request: Any
    if is_reverse:
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=context.namespace,
            execution=execution_of(context),
            maximum_page_size=batches,
            next_page_token=token,
        )
        answer = await context.call("get_workflow_execution_history_reverse", request)
    else:
        request = GetWorkflowExecutionHistoryRequest(
            namespace=context.namespace,
            execution=execution_of(context),
            maximum_page_size=batches,
            next_page_token=token,
        )
        answer = await context.call("get_workflow_execution_history", request)
    return list(answer.history.events), answer.next_page_token


async def events_of(context: Context, *, is_reverse: bool = False) -> AsyncIterator[list[HistoryEvent]]:
    """The history, page by page.

    Raises:
        RPCError: what the server answered.
    """
    token = b""
    while True:
        events, token = await page_of_events(context, token, is_reverse=is_reverse)
        yield events
        if not token or not events:
            return


async def part_of_history(context: Context, most: int, *, is_last: bool) -> list[HistoryEvent]:
    """At most so many events from the beginning, or from the end, in the order of the history.

    Raises:
        RPCError: what the server answered.
    """
    found: list[HistoryEvent] = []
    async for events in events_of(context, is_reverse=is_last):
        found += events
        if len(found) >= most:
            break
    found = found[:most]
    return found[::-1] if is_last else found
