"""Options of an open workflow that are changed from outside: priority, versioning override."""

from __future__ import annotations

from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.support.builders import complete_workflow, schedule_activity
from tests.support.proto import common, workflow, workflowservice

Update = workflowservice.UpdateWorkflowExecutionOptionsRequest
Options = workflow.WorkflowExecutionOptions


def _update(run: Run, *paths: str, **options: Any) -> Update:
    request = Update(
        namespace=run.client.namespace,
        workflow_execution=run.execution,
        workflow_execution_options=Options(**options),
        identity="operator",
    )
    request.update_mask.paths.extend(paths)
    return request


@scenario
async def options_priority(ctx: Context) -> None:
    """The priority changes as a whole or in parts; what is what it was leaves no event."""
    run = await ctx.start()
    await ctx.attempt("whole", _update(run, "priority", priority=common.Priority(priority_key=2)))
    await ctx.attempt("same", _update(run, "priority", priority=common.Priority(priority_key=2)))
    await ctx.attempt(
        "a part", _update(run, "priority.fairness_key", priority=common.Priority(fairness_key="k"))
    )
    task = await run.poll()
    await ctx.attempt(
        "with a workflow task started", _update(run, "priority", priority=common.Priority(priority_key=4))
    )
    await run.complete(task, schedule_activity("a", run.task_queue))
    ctx.record("activity", await run.poll_activity())
    described = await run.describe()
    ctx.record("described", described.workflow_execution_info.priority)
    await ctx.attempt("taken away", _update(run, "priority"))
    described = await run.describe()
    ctx.record("described without", described.workflow_execution_info.priority)
    await run.record_history()


@scenario
async def options_versioning_override(ctx: Context) -> None:
    """An override to upgrade on its own is set and taken away; it changes as a whole."""
    run = await ctx.start()
    override = workflow.VersioningOverride(auto_upgrade=True)
    await ctx.attempt("set", _update(run, "versioning_override", versioning_override=override))
    await ctx.attempt(
        "in part", _update(run, "versioning_override.auto_upgrade", versioning_override=override)
    )
    await ctx.attempt("taken away", _update(run, "versioning_override"))
    await ctx.attempt("taken away again", _update(run, "versioning_override"))
    await run.step(complete_workflow())
    await ctx.attempt("closed", _update(run, "priority", priority=common.Priority(priority_key=2)))
    await run.record_history()


@scenario
async def options_refused(ctx: Context) -> None:
    """Requests that are refused, and the words."""
    run = await ctx.start()
    await ctx.attempt("no workflow id", Update(namespace=ctx.client.namespace))
    no_mask = _update(run)
    no_mask.ClearField("update_mask")
    await ctx.attempt("no mask", no_mask)
    no_options = _update(run, "priority")
    no_options.ClearField("workflow_execution_options")
    await ctx.attempt("no options", no_options)
    await ctx.attempt("empty mask", _update(run))
    await ctx.attempt("unknown path", _update(run, "nonsense"))
    await ctx.attempt("bad priority", _update(run, "priority", priority=common.Priority(priority_key=-1)))
    await ctx.attempt(
        "time skipping",
        _update(run, "time_skipping_config", time_skipping_config=common.TimeSkippingConfig(enabled=True)),
    )
    unknown = _update(run, "priority")
    unknown.workflow_execution.workflow_id = ctx.id("nobody")
    unknown.workflow_execution.run_id = ""
    await ctx.attempt("unknown", unknown)
    bad_run = _update(run, "priority")
    bad_run.workflow_execution.run_id = "x"
    await ctx.attempt("bad run id", bad_run)
    nowhere = _update(run, "priority")
    nowhere.namespace = "no-such-namespace"
    await ctx.attempt("unknown namespace", nowhere)


@scenario
async def options_after_a_reset(ctx: Context) -> None:
    """Options that were changed before and after the point of a reset are those of the new run."""
    run = await ctx.start()
    await ctx.client.invoke(_update(run, "priority", priority=common.Priority(priority_key=2)))
    await run.step(schedule_activity("a", run.task_queue))
    override = workflow.VersioningOverride(auto_upgrade=True)
    await ctx.client.invoke(_update(run, "versioning_override", versioning_override=override))
    await run.signal()
    answer = await ctx.attempt(
        "reset",
        workflowservice.ResetWorkflowExecutionRequest(
            namespace=ctx.client.namespace,
            workflow_execution=run.execution,
            workflow_task_finish_event_id=5,
            request_id=ctx.id("reset"),
            reason="why",
        ),
    )
    assert answer is not None
    again = Run(ctx, run.workflow_id, answer.run_id, run.task_queue)
    await again.record_history("new run")
    described = await again.describe()
    ctx.record("priority", described.workflow_execution_info.priority)
