"""Update-with-start: every policy over an open, a closed and a missing run; what is refused, and how."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.support.builders import complete_workflow, duration, queue, start_timer
from tests.support.proto import common, enums, update, workflowservice
from tests.support.updates import ACCEPTED, DISCARDS, acceptance, place, rejection, response, update_request

Multi = workflowservice.ExecuteMultiOperationRequest
Conflict = enums.WorkflowIdConflictPolicy
Reuse = enums.WorkflowIdReusePolicy
POLICIES = {
    "unspecified": Conflict.WORKFLOW_ID_CONFLICT_POLICY_UNSPECIFIED,
    "fail": Conflict.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
    "existing": Conflict.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
    "terminate": Conflict.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING,
}


def _multi(ctx: Context, label: str, update_id: str = "u", *, stage: Any = ACCEPTED, **start: Any) -> Multi:
    client = ctx.client
    sent = update_request(
        client.namespace, common.WorkflowExecution(workflow_id=ctx.id(label)), update_id, stage=stage
    )
    started = client.start_request(ctx.id(label), ctx.id(f"{label}-queue"), **start)
    return Multi(
        namespace=client.namespace,
        operations=[Multi.Operation(start_workflow=started), Multi.Operation(update_workflow=sent)],
    )


async def _accept(ctx: Context, label: str) -> None:
    """Plays the worker that accepts and completes the update of the next workflow task."""
    run = Run(ctx, ctx.id(label), "", ctx.id(f"{label}-queue"))
    task = await run.poll()
    (message,) = task.messages
    accepted, done = acceptance(message), response(message)
    await run.complete(
        task,
        place(accepted),
        place(done),
        messages=[accepted, done],
        capabilities=DISCARDS,
    )


@scenario
async def update_with_start_new(ctx: Context) -> None:
    """No run is there: one is started, its first task brings the update."""
    sent = asyncio.create_task(ctx.attempt("answer", _multi(ctx, "wf")))
    run = Run(ctx, ctx.id("wf"), "", ctx.id("wf-queue"))
    task = await run.poll()
    ctx.record("task", task)
    (message,) = task.messages
    accepted = acceptance(message)
    await run.complete(task, place(accepted), messages=[accepted], capabilities=DISCARDS)
    await sent
    await run.record_history()


@scenario
async def update_with_start_rejected(ctx: Context) -> None:
    """The new run rejects the update and stays."""
    sent = asyncio.create_task(ctx.attempt("answer", _multi(ctx, "wf")))
    run = Run(ctx, ctx.id("wf"), "", ctx.id("wf-queue"))
    task = await run.poll()
    await run.complete(task, messages=[rejection(task.messages[0])], capabilities=DISCARDS)
    await sent
    await run.record_history()


@scenario
async def update_with_start_policies_over_running(ctx: Context) -> None:
    """Every conflict policy over an open run."""
    for label, policy in POLICIES.items():
        run = await ctx.start(label)
        await run.step(start_timer("t", 600))
        multi = _multi(ctx, label, workflow_id_conflict_policy=policy)
        sent = asyncio.create_task(ctx.attempt(label, multi))
        if label in ("existing", "terminate"):
            await _accept(ctx, label)
        await sent
        await run.record_history(f"{label} history")


@scenario
async def update_with_start_over_closed(ctx: Context) -> None:
    """Over a closed run: a new one, or the reuse policy's refusal; a completed update is answered from it."""
    for label, reuse in (
        ("allow", Reuse.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE),
        ("reject", Reuse.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE),
    ):
        multi = _multi(ctx, label)
        sent = asyncio.create_task(ctx.attempt(f"{label} first", multi))
        await _accept(ctx, label)
        await sent
        run = Run(ctx, ctx.id(label), "", ctx.id(f"{label}-queue"))
        await run.signal()
        await run.step(complete_workflow())
        await ctx.attempt(f"{label} same update", _multi(ctx, label, workflow_id_reuse_policy=reuse))
        again = _multi(ctx, label, "v", workflow_id_reuse_policy=reuse)
        sent = asyncio.create_task(ctx.attempt(f"{label} other update", again))
        if label == "allow":
            await _accept(ctx, label)
        await sent


@scenario
async def update_with_start_repeated(ctx: Context) -> None:
    """The same request twice: one run, one update; the same start with another update."""
    multi = _multi(ctx, "wf")
    sent = asyncio.create_task(ctx.attempt("first", multi))
    await _accept(ctx, "wf")
    await sent
    await ctx.attempt("again", multi)
    multi.operations[1].update_workflow.request.meta.update_id = "v"
    sent = asyncio.create_task(ctx.attempt("another update", multi))
    await _accept(ctx, "wf")
    await sent
    await Run(ctx, ctx.id("wf"), "", "").record_history()


@scenario
async def update_with_start_over_closing(ctx: Context) -> None:
    """The run that was to be updated closes over the update: a new one is started."""
    run = await ctx.start()
    await run.step(start_timer("t", 600))
    multi = _multi(ctx, "wf", workflow_id_conflict_policy=POLICIES["existing"])
    sent = asyncio.create_task(ctx.attempt("answer", multi))
    task = await run.poll()
    await run.complete(task, complete_workflow(), capabilities=DISCARDS)
    await _accept(ctx, "wf")
    await sent
    await run.record_history()


@scenario
async def update_with_start_validation(ctx: Context) -> None:
    """What is refused as it is, with the status of each half."""

    def changed(label: str) -> Multi:
        multi = _multi(ctx, "wf")
        start = multi.operations[0].start_workflow
        sent = multi.operations[1].update_workflow
        if label == "one operation":
            del multi.operations[1]
        elif label == "no operation":
            del multi.operations[:]
        elif label == "wrong order":
            first, second = multi.operations
            reordered = [second, first]
            del multi.operations[:]
            multi.operations.extend(reordered)
        elif label == "empty operations":
            del multi.operations[:]
            multi.operations.add()
            multi.operations.add()
        elif label == "other workflow id":
            sent.workflow_execution.workflow_id = "other"
        elif label == "run id":
            sent.workflow_execution.run_id = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
        elif label == "first run id":
            sent.first_execution_run_id = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
        elif label == "cron":
            start.cron_schedule = "* * * * *"
        elif label == "delay":
            start.workflow_start_delay.CopyFrom(duration(1) or duration(1))  # type: ignore[arg-type]
        elif label == "eager":
            start.request_eager_execution = True
        elif label == "bad start":
            start.ClearField("workflow_type")
        elif label == "bad update":
            sent.request.input.name = ""
        elif label == "both bad":
            start.ClearField("task_queue")
            sent.request.ClearField("meta")
        elif label == "other namespace of start":
            start.namespace = "other"
        elif label == "other namespace of update":
            sent.namespace = "other"
        elif label == "unknown namespace":
            multi.namespace = "no-such-namespace"
        elif label == "wait for admitted":
            sent.wait_policy.CopyFrom(update.WaitPolicy(lifecycle_stage=1))  # type: ignore[arg-type]
        return multi

    for label in (
        "one operation",
        "no operation",
        "wrong order",
        "empty operations",
        "other workflow id",
        "run id",
        "first run id",
        "cron",
        "delay",
        "eager",
        "bad start",
        "bad update",
        "both bad",
        "other namespace of start",
        "other namespace of update",
        "unknown namespace",
        "wait for admitted",
    ):
        await ctx.attempt(label, changed(label))
    multi = _multi(ctx, "other-queue")
    multi.operations[0].start_workflow.task_queue.CopyFrom(queue(""))
    await ctx.attempt("nameless queue", multi)
