"""More of what reaches a run that waits for its first task, and whether that ends the wait."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import Message

from tests.differential.context import IDLE_POLL_S, Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.chains import BACKOFF
from tests.differential.scenarios.held_back import FOR_LONG, held_back, record
from tests.differential.scenarios.links_over_chains import link
from tests.support.builders import cancel_external, complete_workflow, duration, signal_external
from tests.support.proto import common, enums, workflow, workflowservice
from tests.support.rpc import RpcError
from tests.support.updates import (
    ACCEPTED,
    COMPLETED,
    DISCARDS,
    acceptance,
    place,
    poll_request,
    rejection,
    response,
    update_request,
)

Conflict = enums.WorkflowIdConflictPolicy
USE_EXISTING = Conflict.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
TERMINATE_EXISTING = Conflict.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING


async def _whether_a_task_comes(run: Run) -> None:
    task = await run.poll(timeout_s=IDLE_POLL_S, expect=False)
    run.context.record("a task came", bool(task.task_token))


@slow_scenario
async def held_back_signalled(ctx: Context) -> None:
    """Signals after each reason to wait, and whether a task comes."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)
        await run.signal(links=[link("x")], request_id="s")
        await _whether_a_task_comes(run)
        await record(run, "signalled")
        await part.client.terminate(run.workflow_id)
        await record(run, "terminated")

    await ctx.side_by_side(FOR_LONG, one)


@slow_scenario
async def held_back_cancelled(ctx: Context) -> None:
    """A request to cancel, and another, after each reason to wait; whether a task comes."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)
        await part.client.request_cancel(run.workflow_id, request_id="c")
        await part.attempt("again", part.client.request_cancel(run.workflow_id))
        await _whether_a_task_comes(run)
        await record(run, "asked")
        await part.client.terminate(run.workflow_id)
        await record(run, "terminated")

    await ctx.side_by_side(FOR_LONG, one)


@slow_scenario
async def held_back_by_workflows(ctx: Context) -> None:
    """A signal and a request to cancel by another workflow."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)
        for how, made in (("signal", signal_external), ("cancel", cancel_external)):
            other = await part.start(f"{how}-sender")
            await other.step(made(run.workflow_id))
            await other.step()
        await _whether_a_task_comes(run)
        await record(run, "reached")
        await part.client.terminate(run.workflow_id)

    await ctx.side_by_side(FOR_LONG, one)


async def _updated(part: Context, why: str, how: str) -> None:
    """An update of a run that waits: what becomes of it, what is written then, and what a signal does afterwards."""
    run = await held_back(part, why)
    stage = ACCEPTED if how == "accepted" else COMPLETED
    request = update_request(part.client.namespace, run.execution, stage=stage)
    asking = asyncio.create_task(part.attempt("update", request, timeout_s=10 if how != "nobody" else 2))
    if how != "nobody":
        task = await run.poll()
        (message,) = task.messages
        task.ClearField("messages")
        part.record("task", task, drop=[f"history.events.{BACKOFF}"])
        words = [acceptance(message), *([response(message)] if how == "completed" else [])]
        if how == "rejected":
            await run.complete(task, messages=[rejection(message)], capabilities=DISCARDS)
        else:
            places = [place(word) for word in words]
            await run.complete(task, *places, messages=words, capabilities=DISCARDS)
    await asking
    await record(run, "updated")
    polling = poll_request(part.client.namespace, run.execution, stage=ACCEPTED)
    await part.attempt("polled", polling, timeout_s=2)
    await run.signal()
    await _whether_a_task_comes(run)
    await record(run, "signalled")
    await part.client.terminate(run.workflow_id)


@slow_scenario
async def held_back_update_accepted(ctx: Context) -> None:
    """An update that is accepted and not yet completed."""
    await ctx.side_by_side(FOR_LONG, lambda part, why: _updated(part, why, "accepted"))


@slow_scenario
async def held_back_update_completed(ctx: Context) -> None:
    """An update that is completed with the task that brought it."""
    await ctx.side_by_side(FOR_LONG, lambda part, why: _updated(part, why, "completed"))


@slow_scenario
async def held_back_update_rejected(ctx: Context) -> None:
    """An update that is rejected: the run waits on."""
    await ctx.side_by_side(FOR_LONG, lambda part, why: _updated(part, why, "rejected"))


@slow_scenario
async def held_back_update_nobody_takes(ctx: Context) -> None:
    """An update whose task no worker takes; its caller gives up, a signal comes."""
    await ctx.side_by_side(FOR_LONG, lambda part, why: _updated(part, why, "nobody"))


@scenario
async def held_back_started_again(ctx: Context) -> None:
    """A start that attaches itself, one that is refused, one that ends the run and is delayed itself."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)

        def again(**fields: Any) -> workflowservice.StartWorkflowExecutionRequest:
            return part.client.start_request(run.workflow_id, run.task_queue, **fields)

        attaching = again(
            request_id="attached",
            workflow_id_conflict_policy=USE_EXISTING,
            links=[link("attached")],
            on_conflict_options=workflow.OnConflictOptions(attach_request_id=True, attach_links=True),
        )
        await part.attempt("attach", attaching)
        await record(run, "attached")
        await part.attempt("fail", again())
        answer = await part.attempt(
            "in its place",
            again(workflow_id_conflict_policy=TERMINATE_EXISTING, workflow_start_delay=duration(60)),
        )
        await record(run, "old")
        await record(Run(part, run.workflow_id, answer.run_id, run.task_queue), "new")
        await part.client.terminate(run.workflow_id)

    await ctx.side_by_side(FOR_LONG, one)


def _update_with_start(
    ctx: Context, workflow_id: str, task_queue: str, **fields: Any
) -> workflowservice.ExecuteMultiOperationRequest:
    start = ctx.client.start_request(
        workflow_id, task_queue, workflow_id_conflict_policy=USE_EXISTING, **fields
    )
    execution = common.WorkflowExecution(workflow_id=workflow_id)
    request = workflowservice.ExecuteMultiOperationRequest(namespace=ctx.client.namespace)
    request.operations.add().start_workflow.CopyFrom(start)
    update = update_request(ctx.client.namespace, execution, stage=ACCEPTED)
    request.operations.add().update_workflow.CopyFrom(update)
    return request


@slow_scenario
async def held_back_updated_with_start(ctx: Context) -> None:
    """Update-with-start that finds a run which waits: whether that begins it."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)
        request = _update_with_start(part, run.workflow_id, run.task_queue)
        asking = asyncio.create_task(part.attempt("both", request))
        task = await run.poll()
        word = acceptance(task.messages[0])
        await run.complete(task, place(word), messages=[word], capabilities=DISCARDS)
        await asking
        await record(run, "updated")
        await part.client.terminate(run.workflow_id)

    await ctx.side_by_side(FOR_LONG, one)


@slow_scenario
async def update_with_a_start_that_waits(ctx: Context) -> None:
    """Update-with-start whose start has a delay or a schedule of its own."""
    fields: dict[str, dict[str, Any]] = {
        "delay": {"workflow_start_delay": duration(60)},
        "cron": {"cron_schedule": "@every 1h"},
    }

    async def one(part: Context, why: str) -> None:
        request = _update_with_start(part, part.id("wf"), part.id("queue"), **fields[why])
        asking = asyncio.create_task(part.attempt("both", request, timeout_s=8))
        run = Run(part, part.id("wf"), "", part.id("queue"))
        task = await run.poll(timeout_s=IDLE_POLL_S, expect=False)
        part.record("a task came", bool(task.task_token))
        if task.task_token:
            word = acceptance(task.messages[0])
            await run.complete(task, place(word), messages=[word], capabilities=DISCARDS)
        await asking

    await ctx.side_by_side(fields, one)


@scenario
async def held_back_deleted(ctx: Context) -> None:
    """A run is deleted before its first task; its id is free."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)
        request = workflowservice.DeleteWorkflowExecutionRequest(
            namespace=part.client.namespace, workflow_execution=run.execution
        )
        await part.attempt("delete", request)

        async def describe() -> Message | RpcError:
            try:
                return await run.describe()
            except RpcError as error:
                return error

        error = await part.until("gone", describe, lambda found: isinstance(found, RpcError))
        part.record("gone", error)
        again = part.client.start(run.workflow_id, run.task_queue)
        await part.attempt("started again", again)

    await ctx.side_by_side(FOR_LONG, one)


@scenario
async def held_back_asked(ctx: Context) -> None:
    """Queries with a reject condition, what resets and reads a run, an unpause of what is not paused."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)
        namespace = part.client.namespace
        for name in ("NOT_OPEN", "NOT_COMPLETED_CLEANLY", "NONE"):
            condition = f"QUERY_REJECT_CONDITION_{name}"
            asking = part.client.query(run.workflow_id, timeout_s=4, query_reject_condition=condition)
            await part.attempt(f"query {name}", asking)
        await part.attempt(
            "sticky",
            workflowservice.ResetStickyTaskQueueRequest(namespace=namespace, execution=run.execution),
        )
        backwards = workflowservice.GetWorkflowExecutionHistoryReverseRequest(
            namespace=namespace, execution=run.execution
        )
        await part.attempt("backwards", backwards, drop=[f"history.events.{BACKOFF}"])
        waiting = part.client.history_page(
            run.workflow_id,
            run_id=run.run_id,
            wait_new_event=True,
            history_event_filter_type="HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT",
            timeout_s=3,
        )
        await part.attempt("its end", waiting)
        unpause = workflowservice.UnpauseWorkflowExecutionRequest(
            namespace=namespace, workflow_id=run.workflow_id, run_id=run.run_id
        )
        await part.attempt("unpause", unpause)
        await part.client.terminate(run.workflow_id)

    await ctx.side_by_side(FOR_LONG, one)


@scenario
async def reset_of_the_run_before(ctx: Context) -> None:
    """The closed run is reset while the next one waits for its first task."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)
        first = (await run.describe()).workflow_execution_info.first_run_id
        await run.signal("late", request_id="late")
        request = workflowservice.ResetWorkflowExecutionRequest(
            namespace=part.client.namespace,
            workflow_execution=common.WorkflowExecution(workflow_id=run.workflow_id, run_id=first),
            workflow_task_finish_event_id=4,
            request_id="reset",
        )
        answer = await part.attempt("reset", request)
        await record(run, "later")
        await record(Run(part, run.workflow_id, answer.run_id, run.task_queue), "new")
        await part.client.terminate(run.workflow_id)

    await ctx.side_by_side(("retry", "continued"), one)


@scenario
async def begun_early_by_a_signal_with_start(ctx: Context) -> None:
    """What a run that began early shows of its times, and what follows it: the schedule, the next attempt."""

    async def one(part: Context, why: str) -> None:
        run = await held_back(part, why)
        request = workflowservice.SignalWithStartWorkflowExecutionRequest(
            namespace=part.client.namespace,
            workflow_id=run.workflow_id,
            workflow_type=common.WorkflowType(name="flow"),
            signal_name="go",
            request_id="s",
        )
        request.task_queue.name = run.task_queue
        before = (await run.describe()).workflow_execution_info
        await part.client.invoke(request)
        after = (await run.describe()).workflow_execution_info
        part.record("same execution time", before.execution_time == after.execution_time)
        task = await run.poll()
        part.record("task", task, drop=[f"history.events.{BACKOFF}"])
        await run.complete(task, complete_workflow())
        await record(run, "completed")
        await part.attempt("cleaned up", part.client.terminate(run.workflow_id))

    await ctx.side_by_side(FOR_LONG, one)
