"""Reading runs: history pages, long polls, reverse, describe, list, count; and deleting them."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import Message

from tests.differential.context import LATE_S, Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    complete_workflow,
    fail_workflow,
    keyword,
    payloads,
    record_marker,
    schedule_activity,
    start_timer,
)
from tests.support.proto import common, enums, filter, history, workflowservice
from tests.support.rpc import RpcError

CLOSE_EVENT = enums.HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
MISSING_RUN = "0190c7a8-0000-7000-8000-000000000001"


def _ids(page: workflowservice.GetWorkflowExecutionHistoryResponse) -> dict[str, object]:
    """The ids on a page and whether there is more."""
    return {
        "events": [event.event_id for event in page.history.events],
        "more": bool(page.next_page_token),
        "archived": page.archived,
    }


async def _closed_run(ctx: Context, label: str = "wf") -> Run:
    run = await ctx.start(label)
    await run.step(*(record_marker(f"m{number}") for number in range(3)), complete_workflow(payloads("done")))
    return run


@scenario
async def history_pages(ctx: Context) -> None:
    """A closed run read in pages of three, forward and in reverse."""
    run = await _closed_run(ctx)
    token, number = b"", 0
    while number == 0 or token:
        page = await ctx.client.history_page(
            run.workflow_id, run_id=run.run_id, maximum_page_size=3, next_page_token=token
        )
        ctx.record(f"page {number}", _ids(page))
        token, number = page.next_page_token, number + 1
    token, number = b"", 0
    while number == 0 or token:
        reverse = await ctx.client.call(
            workflowservice.GetWorkflowExecutionHistoryReverseRequest(
                namespace="default", execution=run.execution, maximum_page_size=3, next_page_token=token
            ),
            workflowservice.GetWorkflowExecutionHistoryReverseResponse,
        )
        ids = [event.event_id for event in reverse.history.events]
        ctx.record(f"reverse page {number}", {"events": ids, "more": bool(reverse.next_page_token)})
        token, number = reverse.next_page_token, number + 1


@scenario
async def history_pages_of_open_run(ctx: Context) -> None:
    """An open run in pages, without waiting for more."""
    run = await ctx.start()
    await run.step(start_timer("t", 60))
    page = await ctx.client.history_page(run.workflow_id, maximum_page_size=3)
    ctx.record("first", _ids(page))
    if page.next_page_token:
        page = await ctx.client.history_page(
            run.workflow_id, maximum_page_size=3, next_page_token=page.next_page_token
        )
        ctx.record("second", _ids(page))


@scenario
async def history_errors(ctx: Context) -> None:
    """History of nothing, with bad ids, garbled tokens and a token of another run."""
    run = await _closed_run(ctx)
    other = await _closed_run(ctx, "other")
    client = ctx.client
    token = (await client.history_page(run.workflow_id, maximum_page_size=2)).next_page_token
    await ctx.attempt("unknown workflow", client.history_page("no-such-workflow"))
    await ctx.attempt("unknown run", client.history_page(run.workflow_id, run_id=MISSING_RUN))
    await ctx.attempt("bad run id", client.history_page(run.workflow_id, run_id="not-a-uuid"))
    await ctx.attempt("no workflow id", client.history_page(""))
    await ctx.attempt("no execution", client.history_page("x", execution=None))
    await ctx.attempt("garbled token", client.history_page(run.workflow_id, next_page_token=b"garbled"))
    await ctx.attempt(
        "token of another run",
        client.history_page(other.workflow_id, run_id=other.run_id, next_page_token=token),
    )
    await ctx.attempt(
        "unknown namespace", client.history_page(run.workflow_id, namespace="no-such-namespace")
    )
    await ctx.attempt("negative page size", client.history_page(run.workflow_id, maximum_page_size=-1))


@scenario
async def history_close_event(ctx: Context) -> None:
    """The close-event filter on a closed run: the last event only, with or without waiting."""
    run = await _closed_run(ctx)
    for wait in (False, True):
        page = await ctx.client.history_page(
            run.workflow_id, history_event_filter_type=CLOSE_EVENT, wait_new_event=wait
        )
        ctx.record(f"wait {wait}", page)


@slow_scenario
async def history_close_event_waits(ctx: Context) -> None:
    """A client that awaits a result: the long poll ends when the run closes."""
    run = await ctx.start()
    task = await run.poll()

    async def result() -> list[history.HistoryEvent]:
        token, pages = b"", 0
        while pages < 5:
            page = await ctx.client.history_page(
                run.workflow_id,
                run_id=run.run_id,
                next_page_token=token,
                history_event_filter_type=CLOSE_EVENT,
                wait_new_event=True,
            )
            token, pages = page.next_page_token, pages + 1
            if page.history.events or not token:
                return list(page.history.events)
        return []

    waiting = asyncio.create_task(result())
    await run.signal()
    await run.complete(task, start_timer("t", 60))
    clock = ctx.clock()
    await run.step(complete_workflow(payloads("done")))
    ctx.record("result", await waiting)
    ctx.record_about("answered after closing", clock, 0, LATE_S)


@slow_scenario
async def history_close_event_open_run(ctx: Context) -> None:
    """The close-event filter without waiting on a run that is open."""
    run = await ctx.start()
    page = await ctx.client.history_page(run.workflow_id, history_event_filter_type=CLOSE_EVENT)
    ctx.record("page", page)


@scenario
async def history_waits_for_events(ctx: Context) -> None:
    """wait_new_event: what is there at once, then each new batch as it comes, until the run closes."""
    run = await ctx.start()
    fields: dict[str, Any] = {"run_id": run.run_id, "wait_new_event": True}
    page = await ctx.client.history_page(run.workflow_id, **fields)
    ctx.record("at once", _ids(page))
    for label, commands in (("completed", [start_timer("t", 60)]), ("closed", [complete_workflow()])):
        task = await run.poll()
        page = await ctx.client.history_page(run.workflow_id, next_page_token=page.next_page_token, **fields)
        ctx.record(f"started before {label}", _ids(page))
        waiting = asyncio.create_task(
            ctx.client.history_page(run.workflow_id, next_page_token=page.next_page_token, **fields)
        )
        await run.complete(task, *commands)
        page = await waiting
        ctx.record(label, _ids(page))
        if label == "completed":
            await run.signal()
            page = await ctx.client.history_page(
                run.workflow_id, next_page_token=page.next_page_token, **fields
            )
            ctx.record("signal", _ids(page))


@slow_scenario
async def history_long_poll_empty(ctx: Context) -> None:
    """A history long poll with nothing new answers empty with a token shortly before the caller's deadline."""
    run = await ctx.start()
    await run.step(start_timer("t", 60))
    page = await ctx.client.history_page(run.workflow_id, wait_new_event=True)
    ctx.record("first", _ids(page))
    clock = ctx.clock()
    await ctx.attempt(
        "empty",
        ctx.client.history_page(
            run.workflow_id, wait_new_event=True, next_page_token=page.next_page_token, timeout_s=4
        ),
    )
    ctx.record_about("took", clock, 1, LATE_S)


@scenario
async def describe_errors(ctx: Context) -> None:
    """Describe nothing, with bad ids."""
    run = await ctx.start()
    client = ctx.client
    await ctx.attempt("unknown workflow", client.describe("no-such-workflow"))
    await ctx.attempt("unknown run", client.describe(run.workflow_id, run_id=MISSING_RUN))
    await ctx.attempt("bad run id", client.describe(run.workflow_id, run_id="not-a-uuid"))
    await ctx.attempt("no workflow id", client.describe(""))
    await ctx.attempt("no execution", workflowservice.DescribeWorkflowExecutionRequest(namespace="default"))
    await ctx.attempt("no namespace", workflowservice.DescribeWorkflowExecutionRequest())


@scenario
async def describe_latest_run(ctx: Context) -> None:
    """Without a run id the latest run is described; with one, that run."""
    first = await _closed_run(ctx)
    second = await ctx.start()
    for label, run_id in (("latest", ""), ("first", first.run_id), ("second", second.run_id)):
        described = await ctx.client.describe(first.workflow_id, run_id=run_id)
        info = described.workflow_execution_info
        ctx.record(label, {"run": info.execution.run_id, "status": int(info.status)})


@scenario
async def describe_pending(ctx: Context) -> None:
    """Pending activities in their states, and the pending workflow task."""
    run = await ctx.start()
    await run.step(
        schedule_activity("a", run.task_queue, heartbeat_s=30),
        schedule_activity("b", ctx.id("nobody")),
        start_timer("t", 60),
    )
    task = await run.poll_activity()
    await ctx.client.heartbeat_activity(task.task_token, payloads("progress"))
    await run.signal()
    described = await run.describe()
    pending = {entry.activity_id: entry for entry in described.pending_activities}
    ctx.record("activities", dict(sorted(pending.items())))
    ctx.record("workflow task", described.pending_workflow_task)


async def _visible(ctx: Context, query: str, count: int) -> workflowservice.ListWorkflowExecutionsResponse:
    """List until the query finds so many runs (visibility may lag behind)."""
    request = workflowservice.ListWorkflowExecutionsRequest(namespace="default", query=query)
    return await ctx.until(
        f"{count} runs for {query}",
        lambda: ctx.client.call(request, workflowservice.ListWorkflowExecutionsResponse),
        lambda response: len(response.executions) == count,
    )


def _names(response: workflowservice.ListWorkflowExecutionsResponse) -> list[str]:
    return [info.execution.workflow_id for info in response.executions]


@slow_scenario
async def list_runs(ctx: Context) -> None:
    """Simple filters over runs in several states: which are found, in which order, and what an entry holds."""
    kind = ctx.id("kind")
    workflow_type = common.WorkflowType(name=kind)
    attributes = common.SearchAttributes(indexed_fields={"Shade": keyword("blue")})
    completed = await ctx.start("completed", workflow_type=workflow_type, search_attributes=attributes)
    await completed.step(complete_workflow(payloads("done")))
    failed = await ctx.start("failed", workflow_type=workflow_type)
    await failed.step(fail_workflow(application_failure()))
    opened = await ctx.start("open", workflow_type=workflow_type, memo=common.Memo(fields={}))
    terminated = await ctx.start("terminated", workflow_type=workflow_type)
    await ctx.client.terminate(terminated.workflow_id)
    base = f"WorkflowType = '{kind}'"
    # Runs leave "Running" as visibility catches up, so that one is asked last.
    for status in ("Completed", "Failed", "Terminated", "Running"):
        found = await _visible(ctx, f"{base} AND ExecutionStatus = '{status}'", 1)
        ctx.record(status, found)
    ctx.record("all", _names(await _visible(ctx, base, 4)))
    queries = {
        "by id": f"{base} AND WorkflowId = '{opened.workflow_id}'",
        "by run id": f"{base} AND RunId = '{failed.run_id}'",
        "by queue": f"TaskQueue = '{opened.task_queue}'",
        "not": f"{base} AND NOT ExecutionStatus = 'Running'",
        "in": f"{base} AND ExecutionStatus IN ('Failed', 'Terminated')",
        "or": f"{base} AND (ExecutionStatus = 'Failed' OR ExecutionStatus = 'Running')",
        "prefix": f"{base} AND WorkflowId STARTS_WITH '{ctx.name}-com'",
        "attribute": f"{base} AND Shade = 'blue'",
        "closed": f"{base} AND CloseTime IS NOT NULL",
        "not closed": f"{base} AND CloseTime IS NULL",
        "started since": f"{base} AND StartTime > '2020-01-01T00:00:00Z'",
        "between": f"{base} AND StartTime BETWEEN '2020-01-01T00:00:00Z' AND '2021-01-01T00:00:00Z'",
        "status number": f"{base} AND ExecutionStatus = 1",
    }
    for label, query in queries.items():
        request = workflowservice.ListWorkflowExecutionsRequest(namespace="default", query=query)
        response = await ctx.client.call(request, workflowservice.ListWorkflowExecutionsResponse)
        ctx.record(label, sorted(_names(response)))
    count = workflowservice.CountWorkflowExecutionsRequest(namespace="default", query=base)
    await ctx.attempt("count", count)
    count.query = f"{base} GROUP BY ExecutionStatus"
    counted = await ctx.client.call(count, workflowservice.CountWorkflowExecutionsResponse)
    groups = sorted(counted.groups, key=lambda group: group.group_values[0].data)
    ctx.record("groups", {"count": counted.count, "groups": groups})


@slow_scenario
async def list_pages(ctx: Context) -> None:
    """A list in pages of two, newest first."""
    kind = ctx.id("kind")
    for number in range(5):
        await ctx.start(f"wf{number}", workflow_type=common.WorkflowType(name=kind))
    query = f"WorkflowType = '{kind}'"
    await _visible(ctx, query, 5)
    token, number = b"", 0
    while number == 0 or token:
        response = await ctx.client.call(
            workflowservice.ListWorkflowExecutionsRequest(
                namespace="default", query=query, page_size=2, next_page_token=token
            ),
            workflowservice.ListWorkflowExecutionsResponse,
        )
        ctx.record(f"page {number}", _names(response))
        token, number = response.next_page_token, number + 1


@scenario
async def list_errors(ctx: Context) -> None:
    """Queries that do not parse, name unknown attributes, order, limit or group wrongly."""
    queries = {
        "not a query": "this is no query",
        "unknown attribute": "Nope = 'x'",
        "unbalanced": "(WorkflowId = 'x'",
        "wrong type": "Count = 'words'",
        "bad status": "ExecutionStatus = 'Nonsense'",
        "bad time": "StartTime > 'yesterday'",
        "order by": "WorkflowId = 'x' ORDER BY StartTime",
        "limit": "WorkflowId = 'x' LIMIT 3",
        "group by": "GROUP BY WorkflowType",
        "function": "abs(Count) = 3",
        "two columns": "WorkflowId = RunId",
        "like": "WorkflowId LIKE 'x%'",
        "less on keyword list": "BuildIds < 'x'",
        "semicolon": "WorkflowId = 'x'; DROP TABLE executions",
    }
    for label, query in queries.items():
        await ctx.attempt(
            f"list {label}", workflowservice.ListWorkflowExecutionsRequest(namespace="default", query=query)
        )
        await ctx.attempt(
            f"count {label}", workflowservice.CountWorkflowExecutionsRequest(namespace="default", query=query)
        )
    others: dict[str, Message] = {
        "unknown namespace": workflowservice.ListWorkflowExecutionsRequest(namespace="no-such-namespace"),
        "negative page": workflowservice.ListWorkflowExecutionsRequest(
            namespace="default", page_size=-1, query="WorkflowId = 'x'"
        ),
    }
    for label, request in others.items():
        await ctx.attempt(label, request)


@slow_scenario
async def list_open_and_closed(ctx: Context) -> None:
    """The old list calls with their filters."""
    opened = await ctx.start("open")
    closed = await _closed_run(ctx, "closed")
    await _visible(ctx, f"WorkflowId = '{opened.workflow_id}'", 1)
    await _visible(ctx, f"WorkflowId = '{closed.workflow_id}' AND ExecutionStatus = 'Completed'", 1)
    await ctx.attempt(
        "open",
        workflowservice.ListOpenWorkflowExecutionsRequest(
            namespace="default",
            execution_filter=filter.WorkflowExecutionFilter(workflow_id=opened.workflow_id),
        ),
    )
    await ctx.attempt(
        "closed",
        workflowservice.ListClosedWorkflowExecutionsRequest(
            namespace="default",
            execution_filter=filter.WorkflowExecutionFilter(workflow_id=closed.workflow_id),
        ),
    )


async def _delete(ctx: Context, run: Run) -> None:
    """Delete a run, wait until it is gone, then look at it in each way."""
    request = workflowservice.DeleteWorkflowExecutionRequest(
        namespace="default", workflow_execution=run.execution
    )

    async def gone() -> bool:
        try:
            await run.describe()
        except RpcError as error:
            return error.code == "NOT_FOUND"
        return False

    await ctx.attempt("delete", request)
    # The official server may take most of a minute over a closed run.
    await ctx.until("deleted", gone, bool, timeout_s=60)
    await ctx.attempt("describe after", run.describe())
    await ctx.attempt("describe latest after", ctx.client.describe(run.workflow_id))
    await ctx.attempt("history after", ctx.client.history_page(run.workflow_id, run_id=run.run_id))
    await ctx.attempt("signal after", ctx.client.signal(run.workflow_id))
    await ctx.attempt("delete again", request)
    again = await ctx.client.start(run.workflow_id, run.task_queue)
    ctx.record("id is free again", again.started)


@slow_scenario
async def delete_open(ctx: Context) -> None:
    """Deleting an open run."""
    await _delete(ctx, await ctx.start())


@slow_scenario
async def delete_closed(ctx: Context) -> None:
    """Deleting a closed run."""
    run = await _closed_run(ctx)
    await _visible(ctx, f"WorkflowId = '{run.workflow_id}' AND ExecutionStatus = 'Completed'", 1)
    await _delete(ctx, run)


@scenario
async def delete_unknown(ctx: Context) -> None:
    """Deleting what does not exist or is badly named."""
    for label, execution in {
        "unknown workflow": common.WorkflowExecution(workflow_id="no-such-workflow"),
        "unknown run": common.WorkflowExecution(workflow_id="no-such-workflow", run_id=MISSING_RUN),
        "bad run id": common.WorkflowExecution(workflow_id="x", run_id="not-a-uuid"),
        "nothing": None,
    }.items():
        await ctx.attempt(
            label,
            workflowservice.DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=execution),
        )


@scenario
async def time_skipping_is_polled_for(ctx: Context) -> None:
    """Of a single workflow, where the feature is off: what is wrong with the request is said first."""
    run = await ctx.start()
    executions = {
        "nothing": None,
        "no workflow id": common.WorkflowExecution(),
        "odd run id": common.WorkflowExecution(workflow_id=run.workflow_id, run_id="odd"),
        "missing": common.WorkflowExecution(workflow_id="missing"),
        "running": common.WorkflowExecution(workflow_id=run.workflow_id),
    }
    for label, execution in executions.items():
        for name in (ctx.client.namespace, "no-such-namespace"):
            request = workflowservice.PollWorkflowExecutionTimeSkippingRequest(
                namespace=name, workflow_execution=execution
            )
            await ctx.attempt(f"{label}, {name}", request)
