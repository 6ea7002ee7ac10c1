"""What a reset does to the new run at the end: options that change, what is refused, and batches of such resets."""

from __future__ import annotations

from typing import Any

from perdure.api.batch.v1 import BatchOperationReset
from perdure.api.enums.v1 import ResetType
from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.batches import _done, _query, _runs, _start
from tests.differential.scenarios.chains import TRANSITIONS
from tests.differential.scenarios.resets import do_reset, reset
from tests.support.builders import complete_workflow, schedule_activity
from tests.support.proto import common, workflow, workflowservice

Operation = workflow.PostResetOperation
Options = workflow.WorkflowExecutionOptions
_UPGRADE = workflow.VersioningOverride(auto_upgrade=True)


def _priority(key: int) -> common.Priority:
    return common.Priority(priority_key=key)


def change(*paths: str, **options: Any) -> Operation:
    """An operation that changes options of the new run."""
    made = Operation()
    made.update_workflow_options.workflow_execution_options.CopyFrom(Options(**options))
    made.update_workflow_options.update_mask.paths.extend(paths)
    return made


def _signal(name: str = "s") -> Operation:
    return Operation(signal_workflow=Operation.SignalWorkflow(signal_name=name))


async def _stepped(ctx: Context, label: str = "wf", **fields: Any) -> Run:
    run = await ctx.start(label, **fields)
    await run.step()
    return run


@scenario
async def post_reset_options(ctx: Context) -> None:
    """Each operation is an event of its own, behind the signals that come again; one that changes nothing is none."""
    run = await _stepped(ctx)
    await run.signal("after")
    operations = [
        change("priority", priority=_priority(2)),
        change("priority", priority=_priority(2)),
        change("versioning_override", versioning_override=_UPGRADE),
        change("priority.fairness_key", priority=common.Priority(fairness_key="k")),
        change("versioning_override"),
    ]
    new = await do_reset(run, 4, post_reset_operations=operations, identity="operator")
    await new.record_history("new")
    ctx.record("described", await new.describe(), drop=[TRANSITIONS])
    await new.step(schedule_activity("a", new.task_queue))
    ctx.record("priority of its activity", (await new.poll_activity()).priority)
    await new.signal()
    await new.step(complete_workflow())
    await new.record_history("closed")


@scenario
async def post_reset_over_options_again(ctx: Context) -> None:
    """Options that were changed after the point of the reset are changed again first."""
    run = await _stepped(ctx, priority=_priority(5))
    update = change("priority", priority=_priority(1)).update_workflow_options
    await ctx.attempt(
        "changed",
        workflowservice.UpdateWorkflowExecutionOptionsRequest(
            namespace=run.client.namespace,
            workflow_execution=run.execution,
            workflow_execution_options=update.workflow_execution_options,
            update_mask=update.update_mask,
        ),
    )
    new = await do_reset(run, 4, post_reset_operations=[change("priority", priority=_priority(3))])
    await new.record_history("new")
    again = await do_reset(new, 4, "once more", request_id=ctx.id("again"))
    await again.record_history("again")


@scenario
async def post_reset_refused(ctx: Context) -> None:
    """Operations that cannot be done: the run stays as it is."""
    run = await _stepped(ctx)
    pinned = workflow.VersioningOverride()
    pinned.pinned.version.deployment_name, pinned.pinned.version.build_id = "nobody", "1"
    no_behavior = workflow.VersioningOverride()
    no_behavior.CopyFrom(pinned)
    pinned.pinned.behavior = 1  # type: ignore[assignment]  # pinned
    cases = {
        "signal": [_signal()],
        "nothing": [Operation()],
        "signal second": [change("priority", priority=_priority(2)), _signal()],
        "empty": [change()],
        "mask without options": [change("priority")],
        "unknown path": [change("nonsense")],
        "part of override": [change("versioning_override.behavior")],
        "no behavior": [change("versioning_override", versioning_override=no_behavior)],
        "no such version": [change("versioning_override", versioning_override=pinned)],
        "auto-upgrade, false": [
            change("versioning_override", versioning_override=workflow.VersioningOverride(auto_upgrade=False))
        ],
    }
    for label, operations in cases.items():
        run = await _stepped(ctx, label)
        request = reset(run, 4, post_reset_operations=operations, request_id=ctx.id(f"r {label}"))
        new = await ctx.attempt(label, request)
        await run.record_history(f"{label}: old")
        if new is not None:
            after = Run(ctx, run.workflow_id, new.run_id, run.task_queue)
            await after.record_history(f"{label}: new")
    run = await _stepped(ctx, "bad event")
    await ctx.attempt("bad event before signal", reset(run, 100, post_reset_operations=[_signal()]))
    await ctx.attempt("odd event before signal", reset(run, 2, post_reset_operations=[_signal()]))
    missing = reset(run, 4, post_reset_operations=[_signal()])
    missing.workflow_execution.workflow_id = ctx.id("missing")
    await ctx.attempt("no workflow before signal", missing)


@scenario
async def post_reset_batch(ctx: Context) -> None:
    """A batch of resets with operations; and one whose operations are refused for each workflow."""
    runs = await _runs(ctx, 2)
    for run in runs:
        await run.step()
    kind = ResetType.Value("RESET_TYPE_FIRST_WORKFLOW_TASK")
    changed = BatchOperationReset(
        reset_type=kind, post_reset_operations=[change("priority", priority=_priority(2))]
    )
    await _done(ctx, "job", visibility_query=_query(ctx), reset_operation=changed)
    for number, run in enumerate(runs):
        now = Run(ctx, run.workflow_id, "", run.task_queue)
        described = await now.describe()
        now.run_id = described.workflow_execution_info.execution.run_id
        await now.record_history(f"{number}: new")
    refused = BatchOperationReset(reset_type=kind, post_reset_operations=[_signal()])
    await ctx.attempt("refused", _start(ctx, "other", reason="", reset_operation=refused))
