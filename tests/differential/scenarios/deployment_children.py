"""Worker deployments: what children have of an override that counts for one workflow task."""

from __future__ import annotations

from perdure.api.workflow.v1 import VersioningOverride
from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.deployments import (
    FIRST_BACKOFF,
    PINNED,
    _complete,
    _make_current,
    _options,
    _poll,
    _registered,
    _shown,
    _version,
)
from tests.support.builders import queue, start_child
from tests.support.proto import history, workflowservice


async def _override_once(ctx: Context, run: Run, build_id: str) -> None:
    """Has the run's next workflow task go to a version."""
    override = VersioningOverride()
    override.one_time.target_deployment_version.CopyFrom(_version(ctx, build_id))
    request = workflowservice.UpdateWorkflowExecutionOptionsRequest(
        namespace="default", workflow_execution=run.execution
    )
    request.update_mask.paths.append("versioning_override")
    request.workflow_execution_options.versioning_override.CopyFrom(override)
    await ctx.client.invoke(request)


@scenario
async def deployment_child_of_overridden_once(ctx: Context) -> None:
    """A child begins while its parent's next workflow task is to go to another version, and another one afterwards."""
    run = await ctx.start()
    await _registered(ctx, run, "1")
    await _registered(ctx, run, "2")
    await _make_current(ctx, run.task_queue, "1")
    await _complete(ctx, run, "1", PINNED)
    await run.signal()
    task = await _poll(ctx, run, "1")
    await _override_once(ctx, run, "2")
    children = [Run(ctx, ctx.id(label), "", run.task_queue) for label in ("first", "second")]
    await run.complete(
        task,
        start_child(children[0].workflow_id, task_queue=queue(run.task_queue)),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=PINNED,
    )
    await ctx.until("the child began", run.events, lambda found: _children(found) == 1)
    await children[0].record_history("first", drop=[FIRST_BACKOFF])
    await _shown(ctx, children[0], "first shown")
    await ctx.client.terminate(children[0].workflow_id)
    moved = await _poll(ctx, run, "2")
    ctx.record("moved", moved.workflow_execution.workflow_id == run.workflow_id)
    await run.complete(
        moved,
        start_child(children[1].workflow_id, task_queue=queue(run.task_queue)),
        deployment_options=_options(ctx, "2"),
        versioning_behavior=PINNED,
    )
    await ctx.until("the second child began", run.events, lambda found: _children(found) == 2)
    await children[1].record_history("second", drop=[FIRST_BACKOFF])
    await _shown(ctx, children[1], "second shown")
    await _shown(ctx, run, "parent shown")


def _children(events: list[history.HistoryEvent]) -> int:
    return sum(event.HasField("child_workflow_execution_started_event_attributes") for event in events)
