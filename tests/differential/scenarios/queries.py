"""Queries: direct and beside a workflow task, on closed runs, rejected, failed, unanswered."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.differential.context import LATE_S, Context, Run, WorkflowTask
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    complete_workflow,
    fail_workflow,
    header,
    payloads,
    record_marker,
    start_timer,
)
from tests.support.proto import enums, query, workflowservice
from tests.support.rpc import RpcError

ANSWERED = enums.QueryResultType.QUERY_RESULT_TYPE_ANSWERED
FAILED = enums.QueryResultType.QUERY_RESULT_TYPE_FAILED
Reject = enums.QueryRejectCondition


def _answer(task: WorkflowTask, **fields: Any) -> workflowservice.RespondQueryTaskCompletedRequest:
    values: dict[str, Any] = {
        "namespace": "default",
        "task_token": task.task_token,
        "completed_type": ANSWERED,
        "query_result": payloads("answer"),
    }
    return workflowservice.RespondQueryTaskCompletedRequest(**(values | fields))


async def _idle_run(ctx: Context, label: str = "wf") -> Run:
    """A run with a timer and no pending workflow task."""
    run = await ctx.start(label)
    await run.step(start_timer("t", 60))
    return run


def _background(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a call; its error is for whoever awaits it."""

    async def outcome() -> Any:
        try:
            return await call
        except RpcError as error:
            return error

    return asyncio.create_task(outcome())


@scenario
async def query_direct(ctx: Context) -> None:
    """A query on an idle run goes straight to a worker; the task it gets; the answer."""
    run = await _idle_run(ctx)
    asked = query.WorkflowQuery(query_type="state", query_args=payloads("arg"), header=header({"h": "x"}))
    call = _background(ctx.client.query(run.workflow_id, query=asked))
    task = await run.poll()
    ctx.record("task", task)
    await ctx.attempt("answer", _answer(task))
    ctx.record("result", await call)
    await run.record_history()


@scenario
async def query_failed(ctx: Context) -> None:
    """A worker answers that the query failed: with a message, with a failure."""
    run = await _idle_run(ctx)
    call = _background(ctx.client.query(run.workflow_id))
    await ctx.client.invoke(
        _answer(await run.poll(), completed_type=FAILED, query_result=None, error_message="no such query")
    )
    ctx.record("message", await call)
    call = _background(ctx.client.query(run.workflow_id))
    await ctx.client.invoke(
        _answer(
            await run.poll(),
            completed_type=FAILED,
            query_result=None,
            error_message="no such query",
            failure=application_failure("inside"),
        )
    )
    ctx.record("failure", await call)


@scenario
async def query_answer_errors(ctx: Context) -> None:
    """Wrong answers to a query task: twice, garbled token, no type."""
    run = await _idle_run(ctx)
    call = _background(ctx.client.query(run.workflow_id))
    task = await run.poll()
    await ctx.attempt("empty token", _answer(task, task_token=b""))
    await ctx.attempt("garbled token", _answer(task, task_token=b"garbled"))
    await ctx.attempt("answer", _answer(task))
    ctx.record("result", await call)
    await ctx.attempt("answer again", _answer(task))


@scenario
async def query_closed_run(ctx: Context) -> None:
    """Closed runs are queried through a worker with their full history, however they closed."""
    for label, closing in (
        ("completed", complete_workflow(payloads("done"))),
        ("failed", fail_workflow(application_failure())),
        ("terminated", None),
    ):
        run = await ctx.start(label)
        if closing is None:
            await run.step()
            await ctx.client.terminate(run.workflow_id)
        else:
            await run.step(closing)
        call = _background(ctx.client.query(run.workflow_id))
        task = await run.poll()
        ctx.record(
            f"{label}: task",
            {
                "events": [event.event_id for event in task.history.events],
                "started": task.started_event_id,
                "previous": task.previous_started_event_id,
                "attempt": task.attempt,
                "query": task.query,
            },
        )
        await ctx.client.invoke(_answer(task))
        ctx.record(f"{label}: result", await call)


@scenario
async def query_rejected(ctx: Context) -> None:
    """Reject conditions against open, completed and failed runs."""
    commands = {
        "open": start_timer("t", 60),
        "completed": complete_workflow(),
        "failed": fail_workflow(application_failure()),
    }
    conditions = {
        "none": Reject.QUERY_REJECT_CONDITION_NONE,
        "not open": Reject.QUERY_REJECT_CONDITION_NOT_OPEN,
        "not completed cleanly": Reject.QUERY_REJECT_CONDITION_NOT_COMPLETED_CLEANLY,
    }
    for run_label, command in commands.items():
        for label, condition in conditions.items():
            # Each on a queue of its own: a cancelled poll could take the next query's task away.
            run = await ctx.start(f"{run_label} {label}")
            await run.step(command)
            call = _background(ctx.client.query(run.workflow_id, query_reject_condition=condition))
            poll = asyncio.create_task(run.poll(timeout_s=20, expect=False))
            done, _ = await asyncio.wait({call, poll}, return_when=asyncio.FIRST_COMPLETED)
            if poll in done:
                await ctx.client.invoke(_answer(poll.result()))
            else:
                poll.cancel()
            ctx.record(f"{run_label} × {label}", await call)
            await asyncio.wait({poll})


@scenario
async def query_with_pending_task(ctx: Context) -> None:
    """A query while a workflow task waits is delivered with that task and answered by its completion."""
    run = await _idle_run(ctx)
    await run.signal()
    call = _background(ctx.client.query(run.workflow_id))
    # The query is behind the task once it is buffered; the task must not be taken before that.
    await ctx.pause(1)
    task = await run.poll()
    ctx.record("queries", [entry.query_type for entry in task.queries.values()])
    results = {
        query_id: query.WorkflowQueryResult(result_type=ANSWERED, answer=payloads("answer"))
        for query_id in task.queries
    }
    await run.complete(task, record_marker("m"), query_results=results)
    ctx.record("result", await call)
    await run.record_history()


@scenario
async def query_with_pending_task_failed(ctx: Context) -> None:
    """As above; the worker answers with a failure, or leaves the query unanswered and answers it next time."""
    run = await _idle_run(ctx)
    await run.signal()
    call = _background(ctx.client.query(run.workflow_id))
    await ctx.pause(1)
    task = await run.poll()
    results = {
        query_id: query.WorkflowQueryResult(
            result_type=FAILED, error_message="bad", failure=application_failure("inside")
        )
        for query_id in task.queries
    }
    await run.complete(task, query_results=results)
    ctx.record("result", await call)
    await run.record_history()


@scenario
async def query_during_started_task(ctx: Context) -> None:
    """A query while a workflow task is started waits for it, then goes to the worker."""
    run = await _idle_run(ctx)
    await run.signal()
    task = await run.poll()
    call = _background(ctx.client.query(run.workflow_id))
    await ctx.pause(1)
    response = await run.complete(task, return_new_workflow_task=True)
    ctx.record("inline task", bool(response.workflow_task.task_token))
    if response.workflow_task.task_token:
        ctx.record("inline", [entry.query_type for entry in response.workflow_task.queries.values()])
        results = {
            query_id: query.WorkflowQueryResult(result_type=ANSWERED, answer=payloads("answer"))
            for query_id in response.workflow_task.queries
        }
        await run.complete(response.workflow_task, query_results=results)
    else:
        query_task = await run.poll()
        ctx.record("query task", {"query": query_task.query, "events": len(query_task.history.events)})
        await ctx.client.invoke(_answer(query_task))
    ctx.record("result", await call)
    await run.record_history()


@scenario
async def query_buffer_full(ctx: Context) -> None:
    """More than one query behind a workflow task is refused."""
    run = await _idle_run(ctx)
    await run.signal()
    first = _background(ctx.client.query(run.workflow_id, "first"))
    await ctx.pause(1)
    ctx.record("second", await _background(ctx.client.query(run.workflow_id, "second", timeout_s=5)))
    task = await run.poll()
    results = {
        query_id: query.WorkflowQueryResult(result_type=ANSWERED, answer=payloads("answer"))
        for query_id in task.queries
    }
    await run.complete(task, query_results=results)
    ctx.record("first", await first)


@scenario
async def query_sticky(ctx: Context) -> None:
    """A query on a sticky run goes to the sticky queue with an empty history."""
    run = await ctx.start()
    name = ctx.id("sticky")
    await run.step(start_timer("t", 60), sticky_attributes=run.sticky(name))
    polling = await run.poll_in_background(sticky_name=name)
    call = _background(ctx.client.query(run.workflow_id))
    task = await polling
    ctx.record("task", task)
    await ctx.client.invoke(_answer(task))
    ctx.record("result", await call)


@scenario
async def query_before_first_task(ctx: Context) -> None:
    """A query before the first workflow task was completed."""
    run = await ctx.start()
    ctx.record("nobody polls", await _background(ctx.client.query(run.workflow_id, timeout_s=3)))


@slow_scenario
async def query_failing_run(ctx: Context) -> None:
    """A run whose workflow task keeps failing is not ready for queries."""
    run = await ctx.start()
    for _ in range(3):
        await run.fail_task(await run.poll())
    ctx.record("query", await _background(ctx.client.query(run.workflow_id, timeout_s=5)))


@slow_scenario
async def query_without_poller(ctx: Context) -> None:
    """Nobody polls the queue: the error, and how soon it comes."""
    response = await ctx.client.start(ctx.id("wf"), ctx.id("never-polled"), request_eager_execution=True)
    run = Run(ctx, ctx.id("wf"), response.run_id, ctx.id("never-polled"))
    await run.complete(response.eager_workflow_task, start_timer("t", 60))
    clock = ctx.clock()
    ctx.record("never polled", await _background(ctx.client.query(run.workflow_id, timeout_s=6)))
    ctx.record_about("took", clock, 0, LATE_S)


@scenario
async def query_errors(ctx: Context) -> None:
    """Queries of nothing and with fields missing."""
    run = await _idle_run(ctx)
    client = ctx.client
    await ctx.attempt("unknown workflow", client.query("no-such-workflow"))
    await ctx.attempt("bad run id", client.query(run.workflow_id, run_id="not-a-uuid"))
    await ctx.attempt(
        "unknown run", client.query(run.workflow_id, run_id="0190c7a8-0000-7000-8000-000000000001")
    )
    await ctx.attempt("no workflow id", client.query(""))
    await ctx.attempt("no execution", client.query("x", execution=None))
    await ctx.attempt("no query", client.query(run.workflow_id, query=None))
    await ctx.attempt("no query type", client.query(run.workflow_id, ""))
    await ctx.attempt("unknown namespace", client.query(run.workflow_id, namespace="no-such-namespace"))
