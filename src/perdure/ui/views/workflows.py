"""The list of workflows: filter, counts by status, saved views, columns."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import Message

from perdure.api.workflow.v1 import WorkflowExecutionInfo
from perdure.api.workflowservice.v1 import CountWorkflowExecutionsRequest, ListWorkflowExecutionsRequest
from perdure.service import RPCError, RPCStatusCode
from perdure.ui.config import DEFAULT_PAGE_ROWS
from perdure.ui.context import Context, part
from perdure.ui.page import Page, Redirect, RefusedError
from perdure.ui.plain import plain
from perdure.ui.preferences import COLUMNS, DEFAULT_COLUMNS
from perdure.ui.problems import problem

STATUSES: Final = (
    ("Running", "Running"), ("Completed", "Completed"), ("Failed", "Failed"), ("TimedOut", "Timed out"),
    ("Canceled", "Canceled"), ("Terminated", "Terminated"), ("ContinuedAsNew", "Continued as new"),
    ("Paused", "Paused"),
)  # fmt: skip
"""Names of the filter language, and words."""
PRESETS: Final = (
    ("All", ""),
    ("Running", "ExecutionStatus = 'Running'"),
    ("Failed or timed out", "ExecutionStatus IN ('Failed', 'TimedOut')"),
    ("Without a parent", "ParentWorkflowId IS NULL"),
    ("Started by a schedule", "TemporalScheduledById IS NOT NULL"),
)
OPERATORS: Final = ("=", "!=", ">", ">=", "<", "<=", "STARTS_WITH", "IN", "IS NULL", "IS NOT NULL")
COLUMN_LABELS: Final = {
    "status": "Status", "id": "Workflow ID", "type": "Type", "start": "Start", "close": "End",
    "duration": "Duration", "run": "Run ID", "task_queue": "Task queue", "history": "Events", "size": "Size",
    "parent": "Parent", "memo": "Memo",
}  # fmt: skip
_ORDER_BY: Final = re.compile(r"\s+ORDER\s+BY\s+.*$", re.IGNORECASE | re.DOTALL)
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?|true|false", re.IGNORECASE)
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*")


def quoted(text: str) -> str:
    """A text of the filter language."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def conjunction(*conditions: str) -> str:
    """All of these conditions; empty ones count for nothing."""
    given = [condition for condition in conditions if condition.strip()]
    if len(given) <= 1:
        return "".join(given)
    return " AND ".join(f"({one})" if re.search(r"\bOR\b", one, re.IGNORECASE) else one for one in given)


def built(query: Mapping[str, str]) -> str:
    """The condition that the fields of the filter builder say."""
    conditions = []
    for field, attribute in (("b_id", "WorkflowId"), ("b_type", "WorkflowType")):
        text = query.get(field, "").strip()
        if text.endswith("*"):
            conditions.append(f"{attribute} STARTS_WITH {quoted(text[:-1])}")
        elif text:
            conditions.append(f"{attribute} = {quoted(text)}")
    for field, operator in (("b_from", ">="), ("b_to", "<=")):
        text = query.get(field, "").strip()
        if text:
            conditions.append(f"StartTime {operator} {quoted(_moment(text))}")
    conditions.append(_attribute_condition(query))
    return conjunction(*conditions)


def _moment(text: str) -> str:
    moment = f"{text}:00" if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text) else text
    return moment if moment.endswith("Z") or "+" in moment else f"{moment}Z"


def _attribute_condition(query: Mapping[str, str]) -> str:
    name, operator = query.get("b_name", "").strip(), query.get("b_op", "=")
    value = query.get("b_value", "").strip()
    if not name or operator not in OPERATORS:
        return ""
    shown = name if _NAME.fullmatch(name) else f"`{name}`"
    if operator.startswith("IS"):
        return f"{shown} {operator}"
    if operator == "IN":
        return f"{shown} IN ({', '.join(_literal(one.strip()) for one in value.split(','))})"
    return f"{shown} {operator} {_literal(value)}"


def _literal(text: str) -> str:
    return text if _NUMBER.fullmatch(text) else quoted(text)


def row(context: Context, info: WorkflowExecutionInfo) -> dict[str, Any]:
    """A row of the list."""
    shown = plain(info)
    shown["url"] = context.url(
        "namespaces", context.namespace, "workflows", info.execution.workflow_id, info.execution.run_id
    )
    if info.HasField("execution_duration"):
        shown["duration_s"] = info.execution_duration.ToNanoseconds() / 1e9
    elif info.HasField("start_time"):
        end_ns = info.close_time.ToNanoseconds() if info.HasField("close_time") else context.now_ns
        shown["duration_s"] = max(end_ns - info.start_time.ToNanoseconds(), 0) / 1e9
    return shown


def encode_token(token: bytes) -> str:
    """A page token as it stands in an address."""
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def decode_token(text: str) -> bytes:
    """A page token of an address.

    Raises:
        RefusedError: it is none.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise RefusedError(
            400, "The address of this page is damaged: its page is not one the server gave."
        ) from None


async def counts_by_status(
    context: Context, query: str, rpc: str, request_type: type[Message]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """How many match a filter, by status; and the error of that part of the page.

    Args:
        context: of the request.
        query: the filter; what it says of the order is left out.
        rpc: that counts, in snake case.
        request_type: of that RPC.
    """
    grouped = f"{_ORDER_BY.sub('', query)} GROUP BY ExecutionStatus".strip()
    answer, error = await part(context.call(rpc, request_type(namespace=context.namespace, query=grouped)))
    if answer is None:
        return {"total": None, "by_status": {}}, error
    by_status: dict[str, int] = {}
    for group in answer.groups:
        status = plain(group)["group_values"][0]["value"] if group.group_values else ""
        by_status[str(status)] = group.count
    return {"total": answer.count, "by_status": by_status}, None


async def show(context: Context) -> Page | Redirect:
    """The list."""
    query = context.query.get("query", "").strip()
    addition = built(context.query)
    if any(name.startswith("b_") for name in context.query):
        kept = {"status": context.query.get("status", "")}
        url = context.url(
            "namespaces", context.namespace, "workflows", query=conjunction(query, addition), **kept
        )
        return Redirect(url)
    status = context.query.get("status", "")
    status = status if status in dict(STATUSES) else ""
    effective = conjunction(query, f"ExecutionStatus = '{status}'" if status else "")
    counts, count_error = await counts_by_status(
        context, query, "count_workflow_executions", CountWorkflowExecutionsRequest
    )
    request = ListWorkflowExecutionsRequest(
        namespace=context.namespace,
        query=effective,
        page_size=context.number("rows", DEFAULT_PAGE_ROWS, least=1),
        next_page_token=decode_token(context.query.get("page", "")),
    )
    rows: list[dict[str, Any]] = []
    next_page, error = "", None
    try:
        answer = await context.call("list_workflow_executions", request)
        warning = await context.decode(*(execution.memo for execution in answer.executions))
        rows = [row(context, execution) for execution in answer.executions]
        next_page = encode_token(answer.next_page_token)
    except RPCError as failed:
        if failed.status is not RPCStatusCode.INVALID_ARGUMENT:
            raise
        error, warning = problem(failed), ""
    data = {
        "namespace": context.namespace,
        "query": query,
        "status": status,
        "effective_query": effective,
        "counts": counts,
        "count_error": count_error if error is None else None,
        "error": error,
        "workflows": rows,
        "next_page": next_page,
        "codec_error": warning,
    }
    status_code = 200 if error is None else 400
    return Page("workflows.html", f"Workflows · {context.namespace}", data, status_code, _choices(context))


def _choices(context: Context) -> dict[str, Any]:
    preferences = context.preferences
    return {
        "statuses": STATUSES,
        "presets": PRESETS,
        "views": preferences.views,
        "columns": preferences.columns,
        "search_columns": preferences.search_columns,
        "all_columns": COLUMNS,
        "column_labels": COLUMN_LABELS,
        "operators": OPERATORS,
    }


async def save_view(context: Context) -> Redirect:
    """Saves the query as a view, or removes one."""
    name, query = context.field("name"), context.field("query")
    url = context.url("namespaces", context.namespace, "workflows", query=query)
    if not name:
        raise RefusedError(400, "A view needs a name.")
    if context.field("remove"):
        return Redirect(url, f"The view “{name}” was removed.", context.preferences.without_view(name))
    return Redirect(url, f"The view “{name}” was saved.", context.preferences.with_view(name[:60], query))


async def save_columns(context: Context) -> Redirect:
    """Chooses what columns are shown."""
    chosen = tuple(name for name in COLUMNS if name in context.form.get("column", []))
    names = [name.strip() for name in context.field("search_columns").split(",")]
    attributes = tuple(name for name in names if name)[:10]
    preferences = replace(context.preferences, columns=chosen or DEFAULT_COLUMNS, search_columns=attributes)
    url = context.url("namespaces", context.namespace, "workflows", query=context.field("query"))
    return Redirect(url, "", preferences)
