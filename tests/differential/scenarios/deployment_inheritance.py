"""Worker deployments: what children and next runs take over, and what a run is told of that was told before."""

from __future__ import annotations

import asyncio

from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.api.workflow.v1 import VersioningOverride
from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.differential.scenarios.deployments import (
    AUTO_UPGRADE,
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
from tests.support.builders import continue_as_new, queue, start_child
from tests.support.proto import enums, history, workflowservice
from tests.support.rpc import RpcError

Initial = enums.ContinueAsNewVersioningBehavior


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
    await ctx.until("the child ended", run.events, lambda found: _ended(found) == 1)
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


def _ended(events: list[history.HistoryEvent]) -> int:
    return sum(event.HasField("child_workflow_execution_terminated_event_attributes") for event in events)


def _children(events: list[history.HistoryEvent]) -> int:
    return sum(event.HasField("child_workflow_execution_started_event_attributes") for event in events)


@scenario
async def deployment_continues_elsewhere_upgraded(ctx: Context) -> None:
    """A pinned run, and one that upgrades, continue on another queue of their version, and on one that it has not."""
    run = await ctx.start()
    served = Run(ctx, run.workflow_id, "", ctx.id("served"))
    foreign = Run(ctx, run.workflow_id, "", ctx.id("foreign"))
    await _registered(ctx, run, "1")
    await _registered(ctx, served, "1")
    await _registered(ctx, run, "2")
    await _registered(ctx, served, "2")
    await _registered(ctx, foreign, "2")
    await _make_current(ctx, run.task_queue, "1")
    await _make_current(ctx, served.task_queue, "1")
    await run.complete(
        await _poll(ctx, run, "1"), deployment_options=_options(ctx, "1"), versioning_behavior=PINNED
    )
    await _make_current(ctx, run.task_queue, "2")
    await _make_current(ctx, served.task_queue, "2")
    at = run
    version = "1"
    for label, target, initial, behavior in (
        ("served", served, Initial.CONTINUE_AS_NEW_VERSIONING_BEHAVIOR_AUTO_UPGRADE, PINNED),
        ("back ramping", run, Initial.CONTINUE_AS_NEW_VERSIONING_BEHAVIOR_USE_RAMPING_VERSION, PINNED),
        ("served upgrading", served, Initial.CONTINUE_AS_NEW_VERSIONING_BEHAVIOR_AUTO_UPGRADE, AUTO_UPGRADE),
        ("foreign", foreign, Initial.CONTINUE_AS_NEW_VERSIONING_BEHAVIOR_AUTO_UPGRADE, PINNED),
        ("back from foreign", run, Initial.CONTINUE_AS_NEW_VERSIONING_BEHAVIOR_AUTO_UPGRADE, PINNED),
    ):
        if at is run and label == "served":
            await run.signal()
        task = await _poll(ctx, at, version)
        ctx.record(f"before {label}", task.history.events[-1])
        current = Run(ctx, run.workflow_id, task.workflow_execution.run_id, at.task_queue)
        await current.complete(
            task,
            continue_as_new(task_queue=queue(target.task_queue), initial_versioning_behavior=initial),
            deployment_options=_options(ctx, version),
            versioning_behavior=behavior,
        )
        at, version = target, "2"
        after = Run(ctx, run.workflow_id, "", target.task_queue)
        first = (await after.events())[0]  # what follows is a matter of how long the run before took
        ctx.record(label, first, drop=[FIRST_BACKOFF])
        await _shown(ctx, after, f"{label} shown")


@scenario
async def deployment_told_of_lower_revision(ctx: Context) -> None:
    """A run that was told of a version is told of that of another deployment, whose routing has changed less often."""
    run = await ctx.start()
    await _registered(ctx, run, "1")
    await _registered(ctx, run, "2")
    for build_id in ("1", "2", "1"):
        await _make_current(ctx, run.task_queue, build_id)
    await _complete(ctx, run, "1", PINNED)
    await _make_current(ctx, run.task_queue, "2")
    await run.signal()
    told = await _poll(ctx, run, "1")
    ctx.record("told", told.history.events[-1])
    await run.complete(told, deployment_options=_options(ctx, "1"), versioning_behavior=PINNED)
    await _other_current(ctx, run)
    await run.signal()
    lower = await _poll(ctx, run, "1")
    ctx.record("lower", lower.history.events[-1])
    await run.complete(
        lower,
        continue_as_new(task_queue=queue(run.task_queue)),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=PINNED,
    )
    after = Run(ctx, run.workflow_id, "", run.task_queue)
    ctx.record("next", (await after.events())[0], drop=[FIRST_BACKOFF])


async def _other_current(ctx: Context, run: Run) -> None:
    """Makes the version of another deployment current on the run's queue."""
    options = WorkerDeploymentOptions(
        deployment_name=ctx.id("mart"),
        build_id="1",
        worker_versioning_mode=enums.WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED,
    )
    polling = asyncio.create_task(
        ctx.client.poll_workflow_task(run.task_queue, timeout_s=60.0, deployment_options=options)
    )
    current = workflowservice.SetWorkerDeploymentCurrentVersionRequest(
        namespace="default", identity="operator", deployment_name=ctx.id("mart"), build_id="1"
    )

    async def made() -> bool:
        try:
            await ctx.client.invoke(current)
        except RpcError:
            return False
        return True

    await ctx.until("mart current", made, lambda done: done, timeout_s=45)
    polling.cancel()
    await asyncio.wait({polling})
    described = workflowservice.DescribeTaskQueueRequest(
        namespace="default",
        task_queue=queue(run.task_queue),
        task_queue_type=enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    await ctx.until(
        "mart in force",
        lambda: ctx.client.call(described, workflowservice.DescribeTaskQueueResponse),
        lambda found: found.versioning_info.current_deployment_version.deployment_name == ctx.id("mart"),
        timeout_s=45,
    )
