"""What a run can be asked through its workers: queries, its call stack; and the workers that serve its queue."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from perdure.api.common.v1 import Payloads
from perdure.api.enums.v1 import QueryRejectCondition
from perdure.api.query.v1 import WorkflowQuery
from perdure.api.workflowservice.v1 import QueryWorkflowRequest
from perdure.service import RPCError
from perdure.ui.context import Context, part
from perdure.ui.forms import Field, Form, Values, refuse
from perdure.ui.page import Page
from perdure.ui.plain import payload
from perdure.ui.problems import problem
from perdure.ui.views import tabs
from perdure.ui.views.queues import pollers_of
from perdure.ui.views.runs import describe, execution_of, head

STACK_QUERY: Final = "__stack_trace"
METADATA_QUERY: Final = "__temporal_workflow_metadata"
QUERY_TIMEOUT_S: Final = 8.0


async def ask(context: Context, name: str, arguments: Payloads | None = None) -> Any:
    """The answer to a query: a payload as plain values, or None if it had none.

    Raises:
        RPCError: nobody answered, or the query failed.
    """
    query = WorkflowQuery(query_type=name)
    if arguments is not None:
        query.query_args.CopyFrom(arguments)
    request = QueryWorkflowRequest(
        namespace=context.namespace,
        execution=execution_of(context),
        query=query,
        query_reject_condition=QueryRejectCondition.QUERY_REJECT_CONDITION_NONE,
    )
    answer = await context.call("query_workflow", request, timeout_s=QUERY_TIMEOUT_S)
    await context.decode(answer)
    return [payload(one) for one in answer.query_result.payloads]


async def call_stack(context: Context) -> Page:
    """Where the code of the run is."""
    described = await describe(context)
    (answers, error), counts = await asyncio.gather(
        part(ask(context, STACK_QUERY)), tabs.counts(context, described)
    )
    stack = answers[0]["value"] if answers else None
    data = {
        "namespace": context.namespace,
        "workflow": head(context, described),
        "counts": counts,
        "stack": stack if isinstance(stack, str) or stack is None else json.dumps(stack, indent=2),
        "error": error,
    }
    return Page("call_stack.html", f"{context.names['workflow_id']} · Call stack", data)


async def workers(context: Context) -> Page:
    """The workers that poll the run's task queue."""
    described = await describe(context)
    queue = described.workflow_execution_info.task_queue
    (found, error), counts = await asyncio.gather(
        part(pollers_of(context, queue)), tabs.counts(context, described)
    )
    data = {
        "namespace": context.namespace,
        "workflow": head(context, described),
        "counts": counts,
        "task_queue": queue,
        "pollers": found or [],
        "error": error,
    }
    return Page("workflow_workers.html", f"{context.names['workflow_id']} · Workers", data)


_QUERY: Final = Form("Queries", "Ask", (Field("name", "Query"), Field("input", "Arguments", "json")), refuse)


async def query(context: Context) -> Page:
    """The queries of a run: what handlers it has, and the answer of one."""
    described = await describe(context)
    handlers: list[dict[str, Any]] = []
    (metadata, metadata_error), counts = await asyncio.gather(
        part(ask(context, METADATA_QUERY)), tabs.counts(context, described)
    )
    if metadata and isinstance(metadata[0]["value"], dict):
        definition = metadata[0]["value"].get("definition", {})
        handlers = [one for one in definition.get("queryDefinitions", []) if isinstance(one, dict)]
    name = context.query.get("name", "")
    answer, error = None, None
    if name and context.query.get("ask"):
        values = Values({"name": name, "input": context.query.get("input", "")}, _QUERY, context)
        try:
            answer = await ask(context, name, await values.payloads("input"))
        except RPCError as failed:
            error = problem(failed)
        except ValueError as wrong:
            error = {"message": str(wrong)}
    data = {
        "namespace": context.namespace,
        "workflow": head(context, described),
        "counts": counts,
        "handlers": handlers,
        "handlers_error": metadata_error,
        "name": name,
        "input": context.query.get("input", ""),
        "answer": answer,
        "error": error,
        "details": metadata[0]["value"].get("currentDetails", "")
        if metadata and isinstance(metadata[0]["value"], dict)
        else "",
    }
    return Page("queries.html", f"{context.names['workflow_id']} · Queries", data)
