"""Starting a workflow, also one like another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from uuid import uuid4

from perdure.api.common.v1 import Memo, SearchAttributes, WorkflowExecution, WorkflowType
from perdure.api.enums.v1 import WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    StartWorkflowExecutionRequest,
)
from perdure.ui.context import IDENTITY, Context
from perdure.ui.forms import Field, Form, Values
from perdure.ui.page import Redirect
from perdure.ui.plain import editable

_REUSE: Final = (
    ("ALLOW_DUPLICATE", "allow a new run when the last one is closed"),
    ("ALLOW_DUPLICATE_FAILED_ONLY", "allow a new run when the last one did not complete"),
    ("REJECT_DUPLICATE", "refuse if there was one"),
)
_CONFLICT: Final = (
    ("FAIL", "refuse"),
    ("USE_EXISTING", "use the running one"),
    ("TERMINATE_EXISTING", "terminate the running one"),
)


async def _load(context: Context) -> Mapping[str, str]:
    """Initial values: those of another run, if the address names one."""
    workflow_id, run_id = context.query.get("like", ""), context.query.get("run", "")
    if not workflow_id:
        return {"workflow_id": f"workflow-{uuid4()}"}
    request = GetWorkflowExecutionHistoryRequest(
        namespace=context.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        maximum_page_size=1,
    )
    answer = await context.call("get_workflow_execution_history", request)
    await context.decode(answer)
    first = answer.history.events[0].workflow_execution_started_event_attributes
    return {
        "workflow_id": f"{workflow_id}-{uuid4().hex[:8]}",
        "workflow_type": first.workflow_type.name,
        "task_queue": first.task_queue.name,
        "input": "\n".join(editable(payload) for payload in first.input.payloads),
        "memo": _object({name: editable(first.memo.fields[name]) for name in sorted(first.memo.fields)}),
        "search_attributes": _object(
            {
                name: editable(first.search_attributes.indexed_fields[name])
                for name in sorted(first.search_attributes.indexed_fields)
                if not name.startswith("Temporal") and name != "BuildIds"
            }
        ),
    }


def _object(values: Mapping[str, str]) -> str:
    if not values:
        return ""
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in values.items()) + "}"


async def _start(context: Context, values: Values) -> Redirect:
    memo = await values.mapping("memo")
    attributes = await values.mapping("search_attributes", encodes=False)
    request = StartWorkflowExecutionRequest(
        namespace=context.namespace,
        workflow_id=values.text("workflow_id"),
        workflow_type=WorkflowType(name=values.text("workflow_type")),
        task_queue=TaskQueue(name=values.text("task_queue")),
        input=await values.payloads("input"),
        identity=IDENTITY,
        request_id=str(uuid4()),
        workflow_execution_timeout=values.duration("execution_timeout"),
        workflow_start_delay=values.duration("start_delay"),
        workflow_id_reuse_policy=WorkflowIdReusePolicy.Value(
            f"WORKFLOW_ID_REUSE_POLICY_{values.text('reuse')}"
        ),
        workflow_id_conflict_policy=WorkflowIdConflictPolicy.Value(
            f"WORKFLOW_ID_CONFLICT_POLICY_{values.text('conflict')}"
        ),
        memo=Memo(fields=memo) if memo else None,
        search_attributes=SearchAttributes(indexed_fields=attributes) if attributes else None,
    )
    answer = await context.call("start_workflow_execution", request)
    url = context.url("namespaces", context.namespace, "workflows", request.workflow_id, answer.run_id)
    return Redirect(url, f"Workflow “{request.workflow_id}” was started.")


def _back(context: Context) -> str:
    return context.url("namespaces", context.namespace, "workflows")


START: Final = Form(
    "Start a workflow",
    "Start",
    (
        Field("workflow_id", "Workflow ID", is_required=True),
        Field("workflow_type", "Type", help="The name its code is registered under.", is_required=True),
        Field("task_queue", "Task queue", help="The one that its workers poll.", is_required=True),
        Field("input", "Input", "json", "JSON values, one for each argument, one after the other."),
        Field("execution_timeout", "Execution timeout", "duration", "Such as 1h 30m; empty for none."),
        Field("start_delay", "Start delay", "duration"),
        Field("reuse", "If the id was used before", "select", options=_REUSE, initial="ALLOW_DUPLICATE"),
        Field("conflict", "If one is running", "select", options=_CONFLICT, initial="FAIL"),
        Field("memo", "Memo", "json", 'A JSON object, such as {"note": "by hand"}.'),
        Field(
            "search_attributes", "Search attributes", "json", 'A JSON object, such as {"CustomerId": "A-1"}.'
        ),
    ),
    _start,
    load=_load,
    nav="workflows",
    back=_back,
)
