"""What the tabs of a run count: what is known anyway, and two questions that cost next to nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.api.workflowservice.v1 import CountWorkflowExecutionsRequest, DescribeWorkflowExecutionResponse
from perdure.ui.context import Context, part
from perdure.ui.views import queues
from perdure.ui.views.workflows import quoted


def children_of(described: DescribeWorkflowExecutionResponse) -> str:
    """The filter that finds a run's children."""
    execution = described.workflow_execution_info.execution
    return f"ParentWorkflowId = {quoted(execution.workflow_id)} AND ParentRunId = {quoted(execution.run_id)}"


async def counts(context: Context, described: DescribeWorkflowExecutionResponse) -> dict[str, Any]:
    """Events, what is pending, children, and the workers that poll for the run's workflow tasks.

    What the server does not say is None, and the tab goes without a number.
    """
    info = described.workflow_execution_info
    query = CountWorkflowExecutionsRequest(namespace=context.namespace, query=children_of(described))
    (children, _), (queue, _) = await asyncio.gather(
        part(context.call("count_workflow_executions", query)),
        part(queues.describe(context, info.task_queue, dict(queues.TYPES)["workflow"])),
    )
    pending = (described.pending_activities, described.pending_children, described.pending_nexus_operations)
    return {
        "events": info.history_length,
        "pending": sum(len(some) for some in pending),
        "parents": int(bool(info.parent_execution.workflow_id)),
        "children": None if children is None else children.count,
        "workers": None if queue is None else len({poller.identity for poller in queue.pollers}),
    }
