"""Pausing and unpausing whole workflows."""

from __future__ import annotations

from typing import Any

from tests.differential.context import IDLE_POLL_S, Context, Run
from tests.differential.registry import scenario
from tests.support.builders import complete_workflow, payloads, schedule_activity, start_timer
from tests.support.proto import query, workflowservice
from tests.support.updates import update_request

Pause = workflowservice.PauseWorkflowExecutionRequest
Unpause = workflowservice.UnpauseWorkflowExecutionRequest


def _about(run: Run, **fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "namespace": run.client.namespace,
        "workflow_id": run.workflow_id,
        "run_id": run.run_id,
        "identity": "operator",
    }
    return values | fields


async def _described(ctx: Context, run: Run, label: str) -> None:
    described = await run.describe()
    ctx.record(f"{label}: status", described.workflow_execution_info.status)
    ctx.record(f"{label}: pause", described.workflow_extended_info.pause_info)
    ctx.record(f"{label}: task", described.pending_workflow_task)
    fields = described.workflow_execution_info.search_attributes.indexed_fields
    pauses = fields["TemporalPauseInfo"].data.decode() if "TemporalPauseInfo" in fields else "[]"
    ctx.record(f"{label}: what lists show", pauses)


@scenario
async def pause_idle_workflow(ctx: Context) -> None:
    """A paused workflow records signals and hears of them when it is unpaused."""
    run = await ctx.start()
    await run.step(start_timer("t", 600))
    await ctx.attempt("pause", Pause(**_about(run, reason="why", request_id="q")))
    await _described(ctx, run, "paused")
    await ctx.attempt("same request", Pause(**_about(run, reason="why", request_id="q")))
    await ctx.attempt("other request", Pause(**_about(run, request_id="r")))
    await run.signal()
    await ctx.attempt("update", update_request(run.client.namespace, run.execution))
    ctx.record("history while paused", list(await run.events()))
    ctx.record("nothing to do", bool((await run.poll(timeout_s=IDLE_POLL_S, expect=False)).task_token))
    await ctx.attempt("unpause", Unpause(**_about(run, reason="because")))
    await _described(ctx, run, "unpaused")
    await ctx.attempt("unpause again", Unpause(**_about(run)))
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def pause_before_task_started(ctx: Context) -> None:
    """A workflow task that nobody has taken yet fails with the pause."""
    run = await ctx.start()
    await ctx.attempt("pause", Pause(**_about(run)))
    await _described(ctx, run, "paused")
    ctx.record("history while paused", list(await run.events()))
    await ctx.attempt("unpause", Unpause(**_about(run)))
    await run.step(complete_workflow())
    ctx.record("history", list(await run.events()))


@scenario
async def pause_while_task_started(ctx: Context) -> None:
    """A workflow task that a worker has goes on; no other follows."""
    run = await ctx.start()
    task = await run.poll()
    await ctx.attempt("pause", Pause(**_about(run)))
    await run.signal()
    await ctx.attempt("heartbeat of the task", run.complete(task, force_create_new_workflow_task=True))
    await run.complete(task, start_timer("t", 600), return_new_workflow_task=True)
    ctx.record("history while paused", list(await run.events()))
    await _described(ctx, run, "paused")
    await ctx.attempt("unpause", Unpause(**_about(run)))
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def pause_with_activities(ctx: Context) -> None:
    """Activities of a paused workflow wait; those that workers have may finish."""
    run = await ctx.start()
    await run.step(schedule_activity("a", run.task_queue, start_to_close_s=60))
    task = await run.poll_activity()
    await run.signal()
    await run.step(schedule_activity("b", run.task_queue, start_to_close_s=60))
    await ctx.attempt("pause", Pause(**_about(run)))
    ctx.record(
        "nothing to do", bool((await run.poll_activity(timeout_s=IDLE_POLL_S, expect=False)).task_token)
    )
    await run.client.complete_activity(task.task_token, payloads("r"))
    ctx.record("history while paused", list(await run.events()))
    await ctx.attempt("unpause", Unpause(**_about(run)))
    task = await run.poll_activity()
    await run.client.complete_activity(task.task_token, payloads("r"))
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def pause_then_terminate(ctx: Context) -> None:
    """A paused workflow can be terminated, and cancelled when it goes on."""
    run = await ctx.start()
    await run.step(start_timer("t", 600))
    await ctx.attempt("pause", Pause(**_about(run)))
    await run.client.request_cancel(run.workflow_id)
    await run.client.terminate(run.workflow_id)
    await run.until_closed()
    await _described(ctx, run, "terminated")
    await ctx.attempt("pause closed", Pause(**_about(run)))
    await ctx.attempt("unpause closed", Unpause(**_about(run)))
    await run.record_history()


@scenario
async def pause_refused(ctx: Context) -> None:
    """Requests that make no sense."""
    run = await ctx.start()
    for name, request_type in (("pause", Pause), ("unpause", Unpause)):
        await ctx.attempt(f"{name}: unknown workflow", request_type(**_about(run, workflow_id="unknown")))
        await ctx.attempt(f"{name}: unknown namespace", request_type(**_about(run, namespace="nowhere")))
        await ctx.attempt(f"{name}: long reason", request_type(**_about(run, reason="x" * 1001)))
        await ctx.attempt(f"{name}: long request id", request_type(**_about(run, request_id="x" * 1001)))
        await ctx.attempt(f"{name}: long identity", request_type(**_about(run, identity="x" * 1001)))
    await ctx.attempt("unpause: not paused", Unpause(**_about(run)))


@scenario
async def pause_and_query(ctx: Context) -> None:
    """A paused workflow is not asked; it is again when it has been unpaused."""
    run = await ctx.start()
    await run.step(start_timer("t", 600))
    await ctx.attempt("pause", Pause(**_about(run, request_id="q")))
    question = workflowservice.QueryWorkflowRequest(
        namespace=run.client.namespace, execution=run.execution, query=query.WorkflowQuery(query_type="state")
    )
    await ctx.attempt("query", question)
