"""Batch operations: what runs, how far it is, starting one and stopping it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from perdure.api.batch.v1 import (
    BatchOperationCancellation,
    BatchOperationDeletion,
    BatchOperationReset,
    BatchOperationSignal,
    BatchOperationTermination,
)
from perdure.api.common.v1 import ResetOptions
from perdure.api.protobuf import Empty
from perdure.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    DescribeBatchOperationRequest,
    ListBatchOperationsRequest,
    StartBatchOperationRequest,
    StopBatchOperationRequest,
)
from perdure.ui.config import DEFAULT_PAGE_ROWS
from perdure.ui.context import IDENTITY, Context
from perdure.ui.forms import Field, FieldError, Form, Values
from perdure.ui.page import Page, Redirect
from perdure.ui.plain import plain
from perdure.ui.rendering import counted
from perdure.ui.views.workflows import decode_token, encode_token, quoted

_OPERATIONS: Final = (
    ("cancel", "Cancel"),
    ("terminate", "Terminate"),
    ("signal", "Send a signal"),
    ("reset", "Reset"),
    ("delete", "Delete"),
)
_RESETS: Final = (("first", "to the first workflow task"), ("last", "to the last workflow task"))


def _url(context: Context, job_id: str) -> str:
    return context.url("namespaces", context.namespace, "batches", job_id)


async def show_all(context: Context) -> Page:
    """The batches of a namespace."""
    request = ListBatchOperationsRequest(
        namespace=context.namespace,
        page_size=context.number("rows", DEFAULT_PAGE_ROWS, least=1),
        next_page_token=decode_token(context.query.get("page", "")),
    )
    answer = await context.call("list_batch_operations", request)
    batches = [{**plain(batch), "url": _url(context, batch.job_id)} for batch in answer.operation_info]
    data = {
        "namespace": context.namespace,
        "batches": batches,
        "next_page": encode_token(answer.next_page_token),
    }
    return Page("batches.html", f"Batches · {context.namespace}", data)


async def show(context: Context) -> Page:
    """One batch and its progress."""
    job_id = context.names["job_id"]
    request = DescribeBatchOperationRequest(namespace=context.namespace, job_id=job_id)
    answer = await context.call("describe_batch_operation", request)
    batch = plain(answer)
    batch["total"] = answer.total_operation_count
    batch["done"] = answer.complete_operation_count
    batch["failed"] = answer.failure_operation_count
    batch["is_running"] = batch.get("state") == "Running"
    data = {
        "namespace": context.namespace,
        "batch": batch,
        "stop_url": context.url("namespaces", context.namespace, "batches", job_id, "stop"),
    }
    return Page("batch.html", f"Batch {job_id}", data)


async def _load(context: Context) -> Mapping[str, str]:
    """The query of the address; the runs that were selected in the list, if there are any."""
    selected = [run for run in context.query.get("runs", "").split(",") if run]
    query = (
        f"RunId IN ({', '.join(quoted(run) for run in selected)})"
        if selected
        else context.query.get("query", "")
    )
    return {"query": query, "reason": "by hand in the web UI"}


async def _start(context: Context, values: Values) -> Redirect:
    query = values.text("query")
    operation = values.text("operation")
    if not query and not values.check("all"):
        raise FieldError(
            "query", "Without a filter this is every run of the namespace; check the box below if so."
        )
    found = await context.call(
        "count_workflow_executions",
        CountWorkflowExecutionsRequest(namespace=context.namespace, query=query),
    )
    if not found.count:
        raise FieldError("query", "No run matches this filter at the moment.")
    operations = await _operation(operation, values)
    request = StartBatchOperationRequest(
        namespace=context.namespace,
        visibility_query=query,
        job_id=str(uuid4()),
        reason=values.text("reason"),
        max_operations_per_second=float(values.whole("pace")),
        **operations,
    )
    await context.call("start_batch_operation", request)
    return Redirect(
        _url(context, request.job_id),
        f"The batch was started; {counted(found.count, 'run')} matched its filter.",
    )


async def _operation(operation: str, values: Values) -> dict[str, Any]:
    if operation == "cancel":
        return {"cancellation_operation": BatchOperationCancellation(identity=IDENTITY)}
    if operation == "terminate":
        return {"termination_operation": BatchOperationTermination(identity=IDENTITY)}
    if operation == "delete":
        return {"deletion_operation": BatchOperationDeletion(identity=IDENTITY)}
    if operation == "reset":
        is_first = values.text("reset") == "first"
        options = (
            ResetOptions(first_workflow_task=Empty())
            if is_first
            else ResetOptions(last_workflow_task=Empty())
        )
        return {"reset_operation": BatchOperationReset(identity=IDENTITY, options=options)}
    name = values.text("signal")
    if not name:
        raise FieldError("signal", "The signal's name is needed.")
    signal = BatchOperationSignal(signal=name, input=await values.payloads("input"), identity=IDENTITY)
    return {"signal_operation": signal}


def _back(context: Context) -> str:
    return context.url("namespaces", context.namespace, "batches")


START: Final = Form(
    "Start a batch",
    "Start batch",
    (
        Field("operation", "Operation", "select", options=_OPERATIONS, initial="cancel"),
        Field("query", "Filter", "area", "Which runs, in the language of lists."),
        Field("all", "Every run of the namespace, if the filter is empty", "check"),
        Field("reason", "Reason", is_required=True),
        Field("signal", "Signal", help="For the operation “Send a signal”."),
        Field("input", "Signal input", "json"),
        Field("reset", "Reset", "select", options=_RESETS, initial="last"),
        Field("pace", "Most runs per second", "number", "Empty for the server's own pace."),
    ),
    _start,
    "Does the same to every run that matches a filter. It goes on when this page is closed.",
    is_dangerous=True,
    load=_load,
    nav="batches",
    back=_back,
)


async def _stop(context: Context, values: Values) -> Redirect:
    job_id = context.names["job_id"]
    request = StopBatchOperationRequest(
        namespace=context.namespace, job_id=job_id, reason=values.text("reason"), identity=IDENTITY
    )
    await context.call("stop_batch_operation", request)
    return Redirect(_url(context, job_id), "The batch was stopped; what it did stays done.")


STOP: Final = Form(
    "Stop this batch",
    "Stop",
    (Field("reason", "Reason", is_required=True, initial="stopped in the web UI"),),
    _stop,
    "No further run is changed.",
    is_dangerous=True,
    nav="batches",
    back=lambda context: _url(context, context.names["job_id"]),
)
