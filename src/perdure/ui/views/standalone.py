"""Activities and Nexus operations that no workflow started: their lists, and one of them. Two kinds, one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import (
    CountActivityExecutionsRequest,
    CountNexusOperationExecutionsRequest,
    DescribeActivityExecutionRequest,
    DescribeNexusOperationExecutionRequest,
    ListActivityExecutionsRequest,
    ListNexusOperationExecutionsRequest,
)
from perdure.service import RPCError, RPCStatusCode
from perdure.ui.config import DEFAULT_PAGE_ROWS
from perdure.ui.context import Context
from perdure.ui.page import Page, Redirect
from perdure.ui.plain import plain
from perdure.ui.problems import problem
from perdure.ui.timeline.build import words
from perdure.ui.views.workflows import (
    STATUSES,
    conjunction,
    counts_by_status,
    decode_token,
    encode_token,
)

OPEN_STATUSES: Final = ("Running", "Paused")


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells one kind from the other.

    Attributes:
        segment: in addresses.
        title: of the list.
        word: for one of them.
        id_name: the field that names one.
        rpc_name: what its RPCs are about, as in `list_<rpc_name>_executions`.
        list_request: of that RPC, which answers with `rows_name`.
        count_request: of the one that counts.
        describe_request: of the one that describes, with all of `describe_also` asked for.
        actions: what can be done while one is open, in the order of the page.
        example: a filter, for the field where one is entered.
    """

    segment: str
    title: str
    word: str
    id_name: str
    rpc_name: str
    list_request: type[Message]
    rows_name: str
    count_request: type[Message]
    describe_request: type[Message]
    describe_also: tuple[str, ...]
    actions: tuple[str, ...]
    example: str


ACTIVITIES: Final = Kind(
    "activities",
    "Standalone activities",
    "activity",
    "activity_id",
    "activity",
    ListActivityExecutionsRequest,
    "executions",
    CountActivityExecutionsRequest,
    DescribeActivityExecutionRequest,
    ("include_input", "include_outcome", "include_heartbeat_details", "include_last_failure"),
    ("pause", "unpause", "reset", "options", "cancel", "terminate"),
    "ActivityType = 'charge' AND StartTime > '2026-01-01T00:00:00Z'",
)
OPERATIONS: Final = Kind(
    "nexus-operations",
    "Standalone Nexus operations",
    "Nexus operation",
    "operation_id",
    "nexus_operation",
    ListNexusOperationExecutionsRequest,
    "operations",
    CountNexusOperationExecutionsRequest,
    DescribeNexusOperationExecutionRequest,
    ("include_input", "include_outcome"),
    ("cancel", "terminate"),
    "ExecutionStatus = 'Failed'",
)


def kind_url(kind: Kind, context: Context, *more: str, **query: Any) -> str:
    """The address of the list, or of something below it."""
    return context.url("namespaces", context.namespace, kind.segment, *more, **query)


def one_url(kind: Kind, context: Context, *more: str, **query: Any) -> str:
    """The address of the one that the path names, or of something below it."""
    return kind_url(kind, context, context.names["id"], context.names["run_id"], *more, **query)


def _row(kind: Kind, context: Context, info: Any) -> dict[str, Any]:
    """What lists and pages say of one."""
    shown = plain(info)
    shown["id"] = getattr(info, kind.id_name)
    shown["url"] = kind_url(kind, context, shown["id"], info.run_id)
    shown["name"] = f"{info.service}.{info.operation}" if kind is OPERATIONS else info.activity_type.name
    if info.HasField("execution_duration"):
        shown["duration_s"] = info.execution_duration.ToNanoseconds() / 1e9
    elif info.HasField("schedule_time"):
        shown["duration_s"] = max(context.now_ns - info.schedule_time.ToNanoseconds(), 0) / 1e9
    shown["is_open"] = shown.get("status") in OPEN_STATUSES
    return shown


async def show_all(kind: Kind, context: Context) -> Page:
    """The list."""
    query = context.query.get("query", "").strip()
    status = context.query.get("status", "")
    status = status if status in dict(STATUSES) else ""
    counts, count_error = await counts_by_status(
        context, query, f"count_{kind.rpc_name}_executions", kind.count_request
    )
    request = kind.list_request(
        namespace=context.namespace,
        query=conjunction(query, f"ExecutionStatus = '{status}'" if status else ""),
        page_size=context.number("rows", DEFAULT_PAGE_ROWS, least=1),
        next_page_token=decode_token(context.query.get("page", "")),
    )
    rows: list[dict[str, Any]] = []
    next_page, error = "", None
    try:
        answer = await context.call(f"list_{kind.rpc_name}_executions", request)
        rows = [_row(kind, context, info) for info in getattr(answer, kind.rows_name)]
        next_page = encode_token(answer.next_page_token)
    except RPCError as failed:
        if failed.status is not RPCStatusCode.INVALID_ARGUMENT:
            raise
        error = problem(failed)
    data = {
        "namespace": context.namespace,
        "kind": kind.segment,
        "query": query,
        "status": status,
        "counts": counts,
        "count_error": count_error if error is None else None,
        "error": error,
        "rows": rows,
        "next_page": next_page,
    }
    only_html = {"about": kind, "statuses": STATUSES, "list_url": kind_url(kind, context)}
    status_code = 200 if error is None else 400
    return Page("standalone_list.html", f"{kind.title} · {context.namespace}", data, status_code, only_html)


async def _describe(kind: Kind, context: Context, **more: bool) -> Any:
    named = {kind.id_name: context.names["id"], "run_id": context.names.get("run_id", "")}
    request = kind.describe_request(namespace=context.namespace, **named, **more)
    return await context.call(f"describe_{kind.rpc_name}_execution", request)


async def latest(kind: Kind, context: Context) -> Redirect:
    """The newest execution of an id."""
    answer = await _describe(kind, context)
    return Redirect(kind_url(kind, context, context.names["id"], answer.run_id))


async def show(kind: Kind, context: Context) -> Page:
    """One of them."""
    answer = await _describe(kind, context, **dict.fromkeys(kind.describe_also, True))
    warning = await context.decode(answer)
    one = _row(kind, context, answer.info)
    failure = _failure(kind, answer)
    data = {
        "namespace": context.namespace,
        "kind": kind.segment,
        "one": one,
        "input": _input(kind, answer),
        "outcome": plain(answer.outcome if kind is ACTIVITIES else answer),
        "last_failure_words": words(failure) if failure.ByteSize() else "",
        "callbacks": [plain(callback) for callback in _callbacks(kind, answer)],
        "urls": {name: one_url(kind, context, "actions", name) for name in (*_possible(kind, one), "delete")},
        "codec_error": warning,
    }
    return Page(
        "standalone.html",
        f"{one['id']} · {kind.title}",
        data,
        only_html={"about": kind, "list_url": kind_url(kind, context)},
    )


def _failure(kind: Kind, answer: Any) -> Failure:
    failure: Failure = answer.info.last_failure if kind is ACTIVITIES else answer.info.last_attempt_failure
    return failure


def _callbacks(kind: Kind, answer: Any) -> Any:
    return answer.callbacks if kind is ACTIVITIES else answer.completion_callbacks


def _input(kind: Kind, answer: Any) -> list[Any]:
    if not answer.HasField("input"):
        return []
    shown = plain(answer)["input"]
    return shown if isinstance(shown, list) else [shown]


def _possible(kind: Kind, one: dict[str, Any]) -> tuple[str, ...]:
    """What can be done with it now."""
    if not one["is_open"]:
        return ()
    is_paused = one["status"] == "Paused" or one.get("run_state") in ("Paused", "Pause requested")
    hidden = "pause" if is_paused else "unpause"
    return tuple(name for name in kind.actions if name != hidden)
