"""Nexus operations that no workflow scheduled: start and its policies, attempts, outcomes, cancellation, lists."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.nexus import (
    NexusTask,
    answer,
    done,
    endpoint,
    handler_failure,
    poll_nexus,
    refuse,
    started,
)
from tests.support.builders import (
    application_failure,
    canceled_failure,
    complete_workflow,
    duration,
    keyword,
    payload,
    payloads,
    user_metadata,
)
from tests.support.proto import common, enums, nexus, workflowservice
from tests.support.rpc import RpcError

Start = workflowservice.StartNexusOperationExecutionRequest
Describe = workflowservice.DescribeNexusOperationExecutionRequest
Poll = workflowservice.PollNexusOperationExecutionRequest
Cancel = workflowservice.RequestCancelNexusOperationExecutionRequest
Terminate = workflowservice.TerminateNexusOperationExecutionRequest
Delete = workflowservice.DeleteNexusOperationExecutionRequest
List = workflowservice.ListNexusOperationExecutionsRequest
Count = workflowservice.CountNexusOperationExecutionsRequest
Reuse = enums.NexusOperationIdReusePolicy
Conflict = enums.NexusOperationIdConflictPolicy
Stage = enums.NexusOperationWaitStage
DROPPED = [
    "info.state_transition_count",  # there, a wait between attempts that is over is one more
    "info.cancellation_info.requested_time",  # later releases say it, too
]


def start(ctx: Context, name: str, label: str = "op", **fields: Any) -> Start:
    """A request to start an operation."""
    values: dict[str, Any] = {
        "namespace": ctx.client.namespace,
        "identity": "client",
        "request_id": ctx.id(f"{label}-request"),
        "operation_id": ctx.id(label),
        "endpoint": name,
        "service": "service",
        "operation": "operation",
        "input": payload("input"),
    }
    return Start(**{name: value for name, value in (values | fields).items() if value is not None})


def about(ctx: Context, label: str = "op", **fields: Any) -> dict[str, Any]:
    """The fields that name an operation."""
    return {"namespace": ctx.client.namespace, "operation_id": ctx.id(label), **fields}


async def describe(ctx: Context, record: str, label: str = "op", **fields: Any) -> Any:
    """Describes an operation with everything there is, and records it."""
    request = Describe(**about(ctx, label, **fields), include_input=True, include_outcome=True)
    response = await ctx.client.call(request, workflowservice.DescribeNexusOperationExecutionResponse)
    ctx.record(record, response, drop=DROPPED)
    return response


async def poll(ctx: Context, record: str, label: str = "op", **fields: Any) -> Any:
    """Waits for an operation, and records what came."""
    request = Poll(**about(ctx, label, **fields))
    response = await ctx.client.call(request, workflowservice.PollNexusOperationExecutionResponse)
    ctx.record(record, response)
    return response


async def begin(ctx: Context, label: str = "op", **fields: Any) -> tuple[str, str]:
    """Registers an endpoint and starts an operation there; returns the endpoint and its queue."""
    name, task_queue = await endpoint(ctx)
    await ctx.attempt("start", start(ctx, name, label, **fields))
    return name, task_queue


async def reach_stage(ctx: Context, stage: str, label: str = "op") -> Any:
    """Waits, without recording, until an operation has come so far."""
    request = Poll(**about(ctx, label), wait_stage=f"NEXUS_OPERATION_WAIT_STAGE_{stage}")  # type: ignore[arg-type]
    return await ctx.client.call(request, workflowservice.PollNexusOperationExecutionResponse)


async def confirm_cancel(ctx: Context, task: NexusTask) -> None:
    """Answers a task to cancel an operation."""
    response = nexus.Response(cancel_operation=nexus.CancelOperationResponse())
    await ctx.client.invoke(
        workflowservice.RespondNexusTaskCompletedRequest(
            namespace=ctx.client.namespace, identity="handler", task_token=task.task_token, response=response
        )
    )


async def run_as_workflow(ctx: Context, task: NexusTask, label: str = "wf") -> tuple[str, str]:
    """A handler starts the workflow that the operation is; returns its id and queue."""
    asked = task.request.start_operation
    task_queue = ctx.id(f"{label}-queue")
    called = common.Callback.Nexus(url=asked.callback, header=dict(asked.callback_header))
    called.header["nexus-operation-token"] = "token"
    await ctx.client.start(
        ctx.id(label),
        task_queue,
        request_id=asked.request_id,
        completion_callbacks=[common.Callback(nexus=called)],
    )
    return ctx.id(label), task_queue


# --- outcomes


@scenario
async def solo_operation_sync(ctx: Context) -> None:
    """An operation that its handler answers at once: what the handler is asked, outcome and description."""
    _, task_queue = await begin(
        ctx,
        user_metadata=user_metadata("summary", "details"),
        nexus_header={"Some-Header": "value"},
        schedule_to_close_timeout=duration(60),
        schedule_to_start_timeout=duration(100),
        start_to_close_timeout=duration(200),
        search_attributes=common.SearchAttributes(indexed_fields={"Shade": keyword("green")}),
    )
    await describe(ctx, "waiting")
    task = await poll_nexus(ctx, task_queue)
    header = dict(task.request.header)
    ctx.record("header", {name: name in header for name in ("some-header", "operation-timeout")})
    link = task.request.start_operation.links[0]
    ctx.record("link", {"type": link.type, "is_details": link.url.endswith("/details")})
    ctx.record("asked", task.request.start_operation, drop=["callback_header", "links"])
    await answer(ctx, task, **done())
    await poll(ctx, "outcome")
    await describe(ctx, "done")
    await poll(ctx, "outcome again", wait_stage=Stage.Value("NEXUS_OPERATION_WAIT_STAGE_STARTED"))


@scenario
async def solo_operation_failed(ctx: Context) -> None:
    """An operation that its handler fails at once; and one that it says is cancelled."""
    name, task_queue = await begin(ctx)
    await answer(ctx, await poll_nexus(ctx, task_queue), failure=application_failure("no"))
    await poll(ctx, "outcome")
    await describe(ctx, "failed")
    await ctx.attempt("second", start(ctx, name, "second"))
    await answer(ctx, await poll_nexus(ctx, task_queue), failure=canceled_failure("stopped"))
    await poll(ctx, "canceled", "second")
    await describe(ctx, "described as canceled", "second")


@scenario
async def solo_operation_refused(ctx: Context) -> None:
    """A handler's error that trying again does not help."""
    _, task_queue = await begin(ctx)
    await refuse(
        ctx,
        await poll_nexus(ctx, task_queue),
        failure=handler_failure("BAD_REQUEST", cause=application_failure("why")),
    )
    await poll(ctx, "outcome")
    await describe(ctx, "failed")


@scenario
async def solo_operation_retried(ctx: Context) -> None:
    """A handler's error that is tried again, with the same request id."""
    _, task_queue = await begin(ctx)
    first = await poll_nexus(ctx, task_queue)
    await refuse(ctx, first, failure=handler_failure("INTERNAL"))
    request = Describe(**about(ctx))
    shown = await ctx.until(
        "it backs off",
        lambda: ctx.client.call(request, workflowservice.DescribeNexusOperationExecutionResponse),
        lambda response: response.info.HasField("last_attempt_failure"),
    )
    ctx.record("backing off", shown, drop=DROPPED)
    second = await poll_nexus(ctx, task_queue)
    asked = first.request.start_operation.request_id, second.request.start_operation.request_id
    ctx.record("same request", asked[0] == asked[1])
    await answer(ctx, second, **done())
    await poll(ctx, "outcome")
    await describe(ctx, "done")


@scenario
async def solo_operation_workflow(ctx: Context) -> None:
    """An operation that is a workflow: stages, links both ways, and its outcome when the workflow ends."""
    _, task_queue = await begin(ctx, schedule_to_close_timeout=duration(60))
    task = await poll_nexus(ctx, task_queue)
    _, workflow_queue = await run_as_workflow(ctx, task)
    await answer(ctx, task, **started())
    await poll(ctx, "started", wait_stage=Stage.Value("NEXUS_OPERATION_WAIT_STAGE_STARTED"))
    await describe(ctx, "running")
    work = await ctx.client.poll_workflow_task(workflow_queue)
    await ctx.client.complete_workflow_task(work.task_token, [complete_workflow(payloads("result"))])
    await poll(ctx, "outcome")
    await describe(ctx, "done")


@scenario
async def solo_operation_fast_workflow(ctx: Context) -> None:
    """The workflow that an operation is ends before its handler answers; the answer then means nothing."""
    _, task_queue = await begin(ctx)
    task = await poll_nexus(ctx, task_queue)
    _, workflow_queue = await run_as_workflow(ctx, task)
    work = await ctx.client.poll_workflow_task(workflow_queue)
    await ctx.client.complete_workflow_task(work.task_token, [complete_workflow(payloads("result"))])
    await poll(ctx, "outcome")
    await describe(ctx, "done")
    await answer(ctx, task, **started("late"))
    await describe(ctx, "still done")


# --- ids and policies


@scenario
async def solo_operation_ids(ctx: Context) -> None:
    """A repeated start, the conflict policies while an operation is open, the reuse policies after it closed."""
    name, task_queue = await begin(ctx)
    await ctx.attempt("repeated", start(ctx, name))
    await ctx.attempt("taken", start(ctx, name, request_id=ctx.id("other")))
    use = Conflict.Value("NEXUS_OPERATION_ID_CONFLICT_POLICY_USE_EXISTING")
    await ctx.attempt("used", start(ctx, name, request_id=ctx.id("third"), id_conflict_policy=use))
    await answer(ctx, await poll_nexus(ctx, task_queue), **done())
    await reach_stage(ctx, "CLOSED")
    for policy in ("REJECT_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY"):
        value = Reuse.Value(f"NEXUS_OPERATION_ID_REUSE_POLICY_{policy}")
        await ctx.attempt(policy, start(ctx, name, request_id=ctx.id(policy), id_reuse_policy=value))
    await ctx.attempt("again", start(ctx, name, request_id=ctx.id("again")))
    await ctx.client.invoke(Terminate(**about(ctx), reason="enough"))
    value = Reuse.Value("NEXUS_OPERATION_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY")
    await ctx.attempt("after a failure", start(ctx, name, request_id=ctx.id("last"), id_reuse_policy=value))


@scenario
async def solo_operation_bad_starts(ctx: Context) -> None:
    """Starts that are refused."""
    name, _ = await endpoint(ctx)
    bad: dict[str, dict[str, Any]] = {
        "no id": {"operation_id": ""},
        "long id": {"operation_id": "x" * 1001},
        "long request id": {"request_id": "x" * 1001},
        "long identity": {"identity": "x" * 1001},
        "no endpoint": {"endpoint": ""},
        "unknown endpoint": {"endpoint": "nowhere"},
        "no service": {"service": ""},
        "long service": {"service": "x" * 1001},
        "no operation": {"operation": ""},
        "long operation": {"operation": "x" * 1001},
        "negative timeout": {"schedule_to_close_timeout": duration(-1)},
        "negative start timeout": {"schedule_to_start_timeout": duration(-1)},
        "negative run timeout": {"start_to_close_timeout": duration(-1)},
        "header": {"nexus_header": {"Request-Timeout": "1s"}},
        "large header": {"nexus_header": {"name": "x" * 8192}},
        "large summary": {"user_metadata": user_metadata("x" * 500, "")},
        "large details": {"user_metadata": user_metadata("", "x" * 20_001)},
        "large input": {"input": payload("x" * 2 * 1024 * 1024)},
        "attribute": {"search_attributes": common.SearchAttributes(indexed_fields={"No": keyword("x")})},
        "namespace": {"namespace": "nowhere"},
        "reuse policy": {"id_reuse_policy": 17},
    }
    for label, fields in bad.items():
        await ctx.attempt(label, start(ctx, name, f"op {label}", **fields))


@scenario
async def solo_operation_bad_requests(ctx: Context) -> None:
    """Requests about operations that are not there, or that are malformed."""
    for request in (Describe, Poll, Cancel, Terminate, Delete):
        kind = request.__name__.removesuffix("NexusOperationExecutionRequest")
        await ctx.attempt(f"{kind} missing", request(**about(ctx)))
        await ctx.attempt(f"{kind} no id", request(namespace=ctx.client.namespace))
        await ctx.attempt(f"{kind} run id", request(**about(ctx, run_id="x")))
        missing = "01920000-0000-7000-8000-000000000000"
        await ctx.attempt(f"{kind} missing run", request(**about(ctx, run_id=missing)))
        await ctx.attempt(f"{kind} long", request(namespace=ctx.client.namespace, operation_id="x" * 1001))
        await ctx.attempt(f"{kind} namespace", request(namespace="nowhere", operation_id="x"))
    for request in (Cancel, Terminate):
        kind = request.__name__.removesuffix("NexusOperationExecutionRequest")
        await ctx.attempt(f"{kind} reason", request(**about(ctx), reason="x" * 1001))
        await ctx.attempt(f"{kind} identity", request(**about(ctx), identity="x" * 1001))
        await ctx.attempt(f"{kind} request id", request(**about(ctx), request_id="x" * 1001))
    await ctx.attempt("token", Describe(**about(ctx), long_poll_token=b"x"))
    run_id = "01920000-0000-7000-8000-000000000000"
    await ctx.attempt("bad token", Describe(**about(ctx, run_id=run_id), long_poll_token=b"x"))
    await ctx.attempt("stage", Poll(**about(ctx), wait_stage=7))  # type: ignore[arg-type]
    await ctx.attempt("count", Count(namespace=ctx.client.namespace, query="No = 'x'"))


# --- ending one


@scenario
async def solo_operation_canceled(ctx: Context) -> None:
    """A request to cancel a started operation: the handler is asked, and its workflow's end is the outcome."""
    _, task_queue = await begin(ctx)
    task = await poll_nexus(ctx, task_queue)
    await answer(ctx, task, **started())
    await reach_stage(ctx, "STARTED")
    await ctx.attempt("cancel", Cancel(**about(ctx), request_id="r", reason="why", identity="me"))
    await ctx.attempt("cancel again", Cancel(**about(ctx), request_id="r", reason="why"))
    await ctx.attempt("another", Cancel(**about(ctx), request_id="s", reason="why"))
    asked = await poll_nexus(ctx, task_queue)
    ctx.record("asked", asked.request.cancel_operation)
    await confirm_cancel(ctx, asked)
    request = Describe(**about(ctx))
    shown = await ctx.until(
        "the handler was asked",
        lambda: ctx.client.call(request, workflowservice.DescribeNexusOperationExecutionResponse),
        lambda response: response.info.cancellation_info.HasField("last_attempt_complete_time"),
    )
    ctx.record("asked to cancel", shown, drop=DROPPED)
    await ctx.client.invoke(Terminate(**about(ctx), request_id="t", reason="enough"))
    await ctx.attempt("cancel closed", Cancel(**about(ctx), request_id="r"))
    await ctx.attempt("other cancel closed", Cancel(**about(ctx), request_id="u"))


@scenario
async def solo_operation_cancel_before_start(ctx: Context) -> None:
    """A request to cancel an operation that has not started waits for the start."""
    _, task_queue = await begin(ctx)
    task = await poll_nexus(ctx, task_queue)
    await ctx.attempt("cancel", Cancel(**about(ctx), request_id="r", reason="why"))
    await describe(ctx, "waiting")
    await answer(ctx, task, **started())
    asked = await poll_nexus(ctx, task_queue)
    ctx.record("asked", asked.request.cancel_operation)
    await refuse(ctx, asked, failure=handler_failure("NOT_FOUND"))
    request = Describe(**about(ctx))
    shown = await ctx.until(
        "the handler refused",
        lambda: ctx.client.call(request, workflowservice.DescribeNexusOperationExecutionResponse),
        lambda response: response.info.cancellation_info.HasField("last_attempt_failure"),
    )
    ctx.record("refused", shown, drop=DROPPED)


@scenario
async def solo_operation_cancel_retried(ctx: Context) -> None:
    """A request to cancel that the handler refuses for now is repeated."""
    _, task_queue = await begin(ctx)
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    await reach_stage(ctx, "STARTED")
    await ctx.attempt("cancel", Cancel(**about(ctx), request_id="r"))
    await refuse(ctx, await poll_nexus(ctx, task_queue), failure=handler_failure("UNAVAILABLE"))
    request = Describe(**about(ctx))
    shown = await ctx.until(
        "it backs off",
        lambda: ctx.client.call(request, workflowservice.DescribeNexusOperationExecutionResponse),
        lambda response: response.info.cancellation_info.HasField("last_attempt_failure"),
    )
    ctx.record("backing off", shown, drop=DROPPED)
    await confirm_cancel(ctx, await poll_nexus(ctx, task_queue))


@scenario
async def solo_operation_terminated(ctx: Context) -> None:
    """Termination closes at once; a repeated one is recognised; what is closed cannot be terminated."""
    await begin(ctx)
    await ctx.attempt("terminate", Terminate(**about(ctx), request_id="t", reason="why", identity="me"))
    await poll(ctx, "outcome")
    await describe(ctx, "terminated")
    await ctx.attempt("repeated", Terminate(**about(ctx), request_id="t", reason="why"))
    await ctx.attempt("another", Terminate(**about(ctx), request_id="u", reason="why"))
    name, task_queue = await endpoint(ctx, "other")
    await ctx.attempt("second", start(ctx, name, "second"))
    await answer(ctx, await poll_nexus(ctx, task_queue), **done())
    await reach_stage(ctx, "CLOSED", "second")
    await ctx.attempt("closed", Terminate(**about(ctx, "second"), request_id="t"))


@scenario
async def solo_operation_deleted(ctx: Context) -> None:
    """A deleted operation is gone, open or closed."""
    name, _ = await begin(ctx)
    await ctx.attempt("delete open", Delete(**about(ctx)))
    request = Describe(**about(ctx))

    async def code() -> str:
        try:
            await ctx.client.invoke(request)
        except RpcError as error:
            return error.code
        return ""

    await ctx.until("it is gone", code, lambda found: found == "NOT_FOUND")
    await ctx.attempt("gone", request)
    await ctx.attempt("start again", start(ctx, name, request_id=ctx.id("again")))


# --- time


@slow_scenario
async def solo_operation_timeouts(ctx: Context) -> None:
    """The three timeouts, and an attempt that has too little time left."""
    name, task_queue = await endpoint(ctx)
    await ctx.attempt("close", start(ctx, name, "close", schedule_to_close_timeout=duration(2)))
    await ctx.attempt("begin", start(ctx, name, "begin", schedule_to_start_timeout=duration(2)))
    await ctx.attempt("short", start(ctx, name, "short", schedule_to_close_timeout=duration(1)))
    await poll(ctx, "short of time", "short")
    await poll(ctx, "not closed in time", "close")
    await poll(ctx, "not started in time", "begin")
    other, other_queue = await endpoint(ctx, "other")
    await ctx.attempt("run", start(ctx, other, "run", start_to_close_timeout=duration(2)))
    await answer(ctx, await poll_nexus(ctx, other_queue), **started())
    await poll(ctx, "not done in time", "run")
    await describe(ctx, "described as not done", "run")
    ctx.record("queue", bool(task_queue))


# --- lists


@scenario
async def solo_operation_lists(ctx: Context) -> None:
    """Lists and counts of operations, by what only operations have."""
    name, task_queue = await begin(
        ctx, search_attributes=common.SearchAttributes(indexed_fields={"Shade": keyword("red")})
    )
    await answer(ctx, await poll_nexus(ctx, task_queue), **done())
    await reach_stage(ctx, "CLOSED")
    await ctx.attempt("second", start(ctx, name, "second", service="other", operation="another"))
    mine = f"Endpoint = '{name}'"

    def counted(query: str, count: int) -> Any:
        request = Count(namespace=ctx.client.namespace, query=query)
        return ctx.until(
            query,
            lambda: ctx.client.call(request, workflowservice.CountNexusOperationExecutionsResponse),
            lambda response: response.count == count,
        )

    await counted(mine, 2)
    await counted(f"{mine} AND ExecutionStatus = 'Completed'", 1)
    for label, query in {
        "all": "",
        "by service": " AND Service = 'other'",
        "by operation": " AND Operation = 'operation'",
        "by id": f" AND OperationId = '{ctx.id('second')}'",
        "by attribute": " AND Shade = 'red'",
        "running": " AND ExecutionStatus = 'Running'",
    }.items():
        await ctx.attempt(
            label, List(namespace=ctx.client.namespace, query=mine + query), drop=["next_page_token"]
        )
        await ctx.attempt(f"count {label}", Count(namespace=ctx.client.namespace, query=mine + query))
    grouped = await ctx.client.call(
        Count(namespace=ctx.client.namespace, query=f"{mine} GROUP BY ExecutionStatus"),
        workflowservice.CountNexusOperationExecutionsResponse,
    )
    ctx.record("by status", sorted((group.group_values[0].data, group.count) for group in grouped.groups))
    await ctx.attempt(
        "of workflows",
        workflowservice.CountWorkflowExecutionsRequest(
            namespace=ctx.client.namespace, query=f"WorkflowId = '{ctx.id('op')}'"
        ),
    )


@scenario
async def solo_operation_long_poll(ctx: Context) -> None:
    """A description with a token comes when the state is another one."""
    _, task_queue = await begin(ctx)
    first = await describe(ctx, "first")
    token, run_id = first.long_poll_token, first.run_id
    await answer(ctx, await poll_nexus(ctx, task_queue), **started())
    changed = await describe(ctx, "changed", run_id=run_id, long_poll_token=token)
    ctx.record("another token", changed.long_poll_token != token)
    await ctx.attempt("no run id", Describe(**about(ctx), long_poll_token=token))
    await ctx.attempt("broken token", Describe(**about(ctx, run_id=run_id), long_poll_token=b"broken"))


@scenario
async def solo_operation_poll_pages(ctx: Context) -> None:
    """A list in pages."""
    name, _ = await endpoint(ctx)
    for number in range(3):
        await ctx.client.invoke(start(ctx, name, f"op{number}", service=f"s{number}"))
    query = f"Endpoint = '{name}'"
    await ctx.until(
        "all are listed",
        lambda: ctx.client.call(
            Count(namespace=ctx.client.namespace, query=query),
            workflowservice.CountNexusOperationExecutionsResponse,
        ),
        lambda response: response.count == 3,
    )
    token, pages = b"", []
    for _ in range(3):
        page = await ctx.client.call(
            List(namespace=ctx.client.namespace, query=query, page_size=2, next_page_token=token),
            workflowservice.ListNexusOperationExecutionsResponse,
        )
        pages.append([row.service for row in page.operations])
        token = page.next_page_token
        if not token:
            break
    ctx.record("pages", pages)
