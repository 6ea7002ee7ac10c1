"""Batch operations: what becomes of the workflows and of the job, and requests that cannot be done."""

from __future__ import annotations

from typing import Any

from perdure.api.batch.v1 import (
    BatchOperationCancellation,
    BatchOperationDeletion,
    BatchOperationReset,
    BatchOperationResetActivities,
    BatchOperationSignal,
    BatchOperationTermination,
    BatchOperationUnpauseActivities,
    BatchOperationUpdateActivityOptions,
    BatchOperationUpdateWorkflowExecutionOptions,
)
from perdure.api.common.v1 import Execution
from perdure.api.enums.v1 import BatchOperationState, ExecutionType, ResetType
from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.support.builders import payloads
from tests.support.proto import workflowservice
from tests.support.rpc import RpcError

RUNNING = BatchOperationState.Value("BATCH_OPERATION_STATE_RUNNING")
DROPPED = ("start_time", "close_time")
STARTED_IN_TURN_S = 120.0
"""How long a scenario waits until the jobs of others are done: a namespace has one at a time."""


def _start(ctx: Context, label: str, **fields: Any) -> Any:
    given: dict[str, Any] = {"reason": "tidying", "job_id": ctx.id(label), **fields}
    return workflowservice.StartBatchOperationRequest(**{"namespace": ctx.client.namespace, **given})


async def _describe(ctx: Context, label: str) -> Any:
    request = workflowservice.DescribeBatchOperationRequest(
        namespace=ctx.client.namespace, job_id=ctx.id(label)
    )
    return await ctx.client.invoke(request)


async def _begin(ctx: Context, request: Any) -> None:
    """Starts a job as soon as the namespace has none."""

    async def attempt() -> bool:
        try:
            await ctx.client.invoke(request)
        except RpcError as error:
            if error.code != "RESOURCE_EXHAUSTED":
                raise
            return False
        return True

    await ctx.until("the job is started", attempt, bool, timeout_s=STARTED_IN_TURN_S)


async def _done(ctx: Context, label: str, **fields: Any) -> None:
    """Does a job and records what is said of it."""
    await _begin(ctx, _start(ctx, label, **fields))
    described = await ctx.until(
        f"{label} is done", lambda: _describe(ctx, label), lambda found: found.state != RUNNING, timeout_s=60
    )
    ctx.record(f"job: {label}", described, drop=DROPPED)


async def _runs(ctx: Context, count: int) -> list[Run]:
    """Workflows that lists show."""
    runs = [await ctx.start(f"wf {number}", task_queue=ctx.id("queue")) for number in range(count)]

    async def listed() -> int:
        request = workflowservice.CountWorkflowExecutionsRequest(
            namespace=ctx.client.namespace, query=_query(ctx)
        )
        response: Any = await ctx.client.invoke(request)
        return int(response.count)

    await ctx.until("all are listed", listed, lambda found: found == count)
    return runs


def _query(ctx: Context) -> str:
    return f"TaskQueue = '{ctx.id('queue')}'"


async def _last_event(run: Run) -> Any:
    return (await run.client.history(run.workflow_id))[-1]


@scenario
async def batch_termination(ctx: Context) -> None:
    """Terminates what a query finds."""
    runs = await _runs(ctx, 3)
    operation = BatchOperationTermination(identity="me")
    await _done(ctx, "job", visibility_query=_query(ctx), termination_operation=operation)
    event = await _last_event(runs[0])
    ctx.record("event", event, drop=("workflow_execution_terminated_event_attributes.identity",))


@scenario
async def batch_cancellation_of_listed_executions(ctx: Context) -> None:
    """Cancels the executions that the request lists, one of which never was."""
    (run,) = await _runs(ctx, 1)
    kind = ExecutionType.Value("EXECUTION_TYPE_WORKFLOW")
    targets = [Execution(type=kind, business_id=name) for name in (run.workflow_id, ctx.id("nobody"))]
    operation = BatchOperationCancellation(identity="me")
    await _done(ctx, "job", target_executions=targets, cancellation_operation=operation)
    events = await run.client.history(run.workflow_id)
    kinds = [event.WhichOneof("attributes") for event in events]
    ctx.record("events", kinds)


@scenario
async def batch_signal(ctx: Context) -> None:
    """Signals what a query finds."""
    runs = await _runs(ctx, 2)
    operation = BatchOperationSignal(signal="go", identity="me", input=payloads("now"))
    await _done(ctx, "job", visibility_query=_query(ctx), signal_operation=operation)
    for number, run in enumerate(runs):
        ctx.record(f"event {number}", await _last_event(run))


@scenario
async def batch_reset(ctx: Context) -> None:
    """Resets to the first workflow task."""
    (run,) = await _runs(ctx, 1)
    await run.step()
    operation = BatchOperationReset(
        identity="me", reset_type=ResetType.Value("RESET_TYPE_FIRST_WORKFLOW_TASK")
    )
    await _done(ctx, "job", visibility_query=_query(ctx), reset_operation=operation)
    events = await run.client.history(run.workflow_id)
    ctx.record("events", [event.WhichOneof("attributes") for event in events])


@scenario
async def batch_deletion(ctx: Context) -> None:
    """Deletes what a query finds, open or closed."""
    runs = await _runs(ctx, 2)
    await runs[0].client.terminate(runs[0].workflow_id)
    operation = BatchOperationDeletion(identity="me")
    await _done(ctx, "job", visibility_query=_query(ctx), deletion_operation=operation)


@scenario
async def batch_that_finds_nothing(ctx: Context) -> None:
    """A query that matches no workflow."""
    operation = BatchOperationTermination(identity="me")
    await _done(ctx, "job", visibility_query=_query(ctx), termination_operation=operation)


@scenario
async def batch_refusals(ctx: Context) -> None:
    """Requests that can never be done."""
    stop = BatchOperationTermination()
    activity = Execution(type=ExecutionType.Value("EXECUTION_TYPE_ACTIVITY"), business_id="a")
    options = BatchOperationUpdateWorkflowExecutionOptions()
    both = BatchOperationUpdateActivityOptions(restore_original=True, type="t")
    both.activity_options.SetInParent()
    by_query = {"visibility_query": "WorkflowId = 'nobody'"}
    refused: dict[str, dict[str, Any]] = {
        "no operation": by_query,
        "no reason": {**by_query, "termination_operation": stop, "reason": ""},
        "no namespace": {**by_query, "termination_operation": stop, "namespace": ""},
        "no job id": {**by_query, "termination_operation": stop, "job_id": ""},
        "nothing to do it to": {"termination_operation": stop},
        "two selections": {**by_query, "termination_operation": stop, "target_executions": [activity]},
        "no signal name": {**by_query, "signal_operation": BatchOperationSignal()},
        "no reset type": {**by_query, "reset_operation": BatchOperationReset()},
        "no activity": {**by_query, "unpause_activities_operation": BatchOperationUnpauseActivities()},
        "empty activity": {
            **by_query,
            "unpause_activities_operation": BatchOperationUnpauseActivities(type=""),
        },
        "no activity to reset": {**by_query, "reset_activities_operation": BatchOperationResetActivities()},
        "no options": {**by_query, "update_workflow_options_operation": options},
        "options and originals": {**by_query, "update_activity_options_operation": both},
    }
    for label, fields in refused.items():
        await ctx.attempt(label, _start(ctx, label, **fields))


@scenario
async def batch_jobs_that_are_not_there(ctx: Context) -> None:
    """Describing and stopping jobs that never were, and requests that name none."""
    name = ctx.client.namespace
    service = workflowservice
    await ctx.attempt("describe", _describe(ctx, "nobody"))
    job = ctx.id("nobody")
    await ctx.attempt("stop", service.StopBatchOperationRequest(namespace=name, job_id=job, reason="r"))
    await ctx.attempt("no reason", service.StopBatchOperationRequest(namespace=name, job_id=job))
    await ctx.attempt("no job", service.StopBatchOperationRequest(namespace=name, reason="r"))
    await ctx.attempt("describe none", service.DescribeBatchOperationRequest(namespace=name))
    await ctx.attempt("no namespace", service.DescribeBatchOperationRequest(job_id="j"))
    await ctx.attempt("list without namespace", service.ListBatchOperationsRequest())
