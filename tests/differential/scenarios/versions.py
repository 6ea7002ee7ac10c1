"""Worker versions without routing: build ids that polls and answers carry, as histories record them."""

from __future__ import annotations

from tests.differential.context import IDLE_POLL_S, Context
from tests.differential.registry import scenario
from tests.support.builders import (
    application_failure,
    cancel_activity,
    complete_workflow,
    retry_policy,
    schedule_activity,
)
from tests.support.proto import common, enums, workflowservice

POLLED = common.WorkerVersionCapabilities(build_id="polled")
STAMP = common.WorkerVersionStamp(build_id="stamped")


@scenario
async def version_of_workflow_tasks(ctx: Context) -> None:
    """Polls name a build id, completions another: normal, inline and transient tasks; a binary checksum beside it."""
    run = await ctx.start()
    client = ctx.client
    first = await client.poll_workflow_task(run.task_queue, worker_version_capabilities=POLLED)
    inline = await run.complete(
        first,
        worker_version_stamp=STAMP,
        binary_checksum="checksum",
        force_create_new_workflow_task=True,
        return_new_workflow_task=True,
    )
    ctx.record("inline task", list(inline.workflow_task.history.events))
    await client.fail_workflow_task(
        inline.workflow_task.task_token,
        enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
        worker_version=STAMP,
    )
    transient = await client.poll_workflow_task(run.task_queue, worker_version_capabilities=POLLED)
    ctx.record("transient task", list(transient.history.events)[-2:])
    await run.complete(
        transient, complete_workflow(), worker_version_stamp=STAMP, identity="another identity"
    )
    await run.record_history()


def _completed(ctx: Context, task_token: bytes) -> workflowservice.RespondActivityTaskCompletedRequest:
    return workflowservice.RespondActivityTaskCompletedRequest(
        namespace=ctx.client.namespace,
        identity=ctx.client.identity,
        task_token=task_token,
        worker_version=STAMP,
    )


@scenario
async def version_of_activities(ctx: Context) -> None:
    """The build id of an activity's result or failure is recorded with its start, a poll's or cancellation's not."""
    run = await ctx.start()
    client = ctx.client
    retry = retry_policy(attempts=1)
    begun = await run.complete(
        await run.poll(),
        *(schedule_activity(name, run.task_queue, retry=retry) for name in "abcd"),
        schedule_activity("e", run.task_queue, retry=retry, eager=True),
        worker_version_stamp=STAMP,
    )
    tasks = {task.activity_id: task.task_token for task in begun.activity_tasks}
    for _ in "abcd":
        task = await client.poll_activity_task(run.task_queue, worker_version_capabilities=POLLED)
        tasks[task.activity_id] = task.task_token
    await client.invoke(_completed(ctx, tasks["a"]))
    await client.fail_activity(tasks["b"], application_failure(), worker_version=STAMP)
    await run.step(cancel_activity(7))
    await client.invoke(
        workflowservice.RespondActivityTaskCanceledRequest(
            namespace=client.namespace, task_token=tasks["c"], worker_version=STAMP
        )
    )
    await client.invoke(
        workflowservice.RespondActivityTaskCompletedByIdRequest(
            namespace=client.namespace, workflow_id=run.workflow_id, activity_id="d"
        )
    )
    await client.invoke(_completed(ctx, tasks["e"]))
    await run.step(complete_workflow())
    await run.record_history()


@scenario
async def version_errors(ctx: Context) -> None:
    """A build id that is too long."""
    for length in (255, 256):
        capabilities = common.WorkerVersionCapabilities(build_id="b" * length)
        poll = ctx.client.poll_workflow_task(
            ctx.id("queue"), worker_version_capabilities=capabilities, timeout_s=IDLE_POLL_S
        )
        await ctx.attempt(f"workflow, {length} bytes", poll)
    poll_activity = ctx.client.poll_activity_task(
        ctx.id("queue"), worker_version_capabilities=capabilities, timeout_s=IDLE_POLL_S
    )
    await ctx.attempt("activity, 256 bytes", poll_activity)
