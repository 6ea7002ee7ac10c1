"""Worker deployments: versions made by hand, routing of new and open runs, what pins and moves them, what drains."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import Message

from perdure.api.compute.v1 import ComputeConfigScalingGroup, ComputeProvider, ComputeScaler
from perdure.api.deployment.v1 import WorkerDeploymentOptions, WorkerDeploymentVersion
from perdure.api.workflow.v1 import VersioningOverride
from tests.differential.context import Context, Run
from tests.differential.registry import scenario
from tests.support.builders import (
    application_failure,
    continue_as_new,
    fail_workflow,
    queue,
    retry_policy,
    schedule_activity,
)
from tests.support.proto import enums, workflowservice
from tests.support.rpc import RpcError

VERSIONED = enums.WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED
UNVERSIONED = enums.WorkerVersioningMode.WORKER_VERSIONING_MODE_UNVERSIONED
WORKFLOWS = enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
ACTIVITIES = enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
FIRST_BACKOFF = "workflow_execution_started_event_attributes.first_workflow_task_backoff"
PINNED = enums.VersioningBehavior.VERSIONING_BEHAVIOR_PINNED
AUTO_UPGRADE = enums.VersioningBehavior.VERSIONING_BEHAVIOR_AUTO_UPGRADE
service = workflowservice
_QUICKLY = retry_policy(initial_s=1, attempts=5)
PATIENCE_S = 45.0
"""The official server's deployments are workflows: on a busy machine they take their time."""


def _options(ctx: Context, build_id: str) -> WorkerDeploymentOptions:
    return WorkerDeploymentOptions(
        deployment_name=ctx.id("shop"), build_id=build_id, worker_versioning_mode=VERSIONED
    )


def _version(ctx: Context, build_id: str) -> WorkerDeploymentVersion:
    return WorkerDeploymentVersion(deployment_name=ctx.id("shop"), build_id=build_id)


async def _poll(
    ctx: Context, run: Run, build_id: str, timeout_s: float = 20.0
) -> workflowservice.PollWorkflowTaskQueueResponse:
    return await ctx.client.poll_workflow_task(
        run.task_queue, timeout_s=timeout_s, deployment_options=_options(ctx, build_id)
    )


async def _complete(ctx: Context, run: Run, build_id: str, behavior: int) -> None:
    task = await _poll(ctx, run, build_id)
    await run.complete(task, deployment_options=_options(ctx, build_id), versioning_behavior=behavior)


async def _make_current(ctx: Context, task_queue: str, build_id: str) -> None:
    """Makes a version current that polls the queue, once it is known, and waits until the queue is told."""

    async def tried() -> str:
        request = service.SetWorkerDeploymentCurrentVersionRequest(
            namespace="default", deployment_name=ctx.id("shop"), build_id=build_id, identity="operator"
        )
        try:
            await ctx.client.invoke(request)
        except RpcError as error:
            return error.message
        return ""

    await ctx.until(f"{build_id} made current", tried, lambda message: not message, timeout_s=PATIENCE_S)
    described = service.DescribeTaskQueueRequest(
        namespace="default", task_queue=queue(task_queue), task_queue_type=WORKFLOWS
    )
    await ctx.until(
        "routing in force",
        lambda: ctx.client.call(described, service.DescribeTaskQueueResponse),
        lambda answer: answer.versioning_info.current_deployment_version.build_id == build_id,
        timeout_s=PATIENCE_S,
    )


async def _registered(ctx: Context, run: Run, build_id: str) -> None:
    """A worker of the version polls in vain until its deployment knows."""
    described = service.DescribeWorkerDeploymentVersionRequest(
        namespace="default", deployment_version=_version(ctx, build_id)
    )

    async def queues() -> list[str]:
        try:
            answer = await ctx.client.call(described, service.DescribeWorkerDeploymentVersionResponse)
        except RpcError:
            return []
        return [known.name for known in answer.version_task_queues]

    polling = asyncio.create_task(_poll(ctx, run, build_id, 60.0))
    try:
        await ctx.until(
            f"{build_id} known", queues, lambda names: run.task_queue in names, timeout_s=PATIENCE_S
        )
    finally:
        polling.cancel()
        await asyncio.wait({polling})


async def _shown(ctx: Context, run: Run, label: str) -> None:
    info = (await run.describe()).workflow_execution_info
    ctx.record(label, info.versioning_info)


@scenario
async def deployment_by_hand(ctx: Context) -> None:
    """A deployment and a version that a request makes, made twice, and what cannot be made."""
    name, identity = ctx.id("shop"), "operator"

    def version(build_id: str, request_id: str = "", **fields: Any) -> Message:
        return service.CreateWorkerDeploymentVersionRequest(
            namespace="default",
            deployment_version=_version(ctx, build_id),
            identity=identity,
            request_id=request_id,
            **fields,
        )

    await ctx.attempt("too early", version("1"))
    create = service.CreateWorkerDeploymentRequest(
        namespace="default", deployment_name=name, identity=identity, request_id=ctx.id("request")
    )
    await ctx.attempt("deployment", create, drop=["conflict_token"])
    await ctx.attempt("deployment again", create, drop=["conflict_token"])
    await ctx.attempt("version", version("1", ctx.id("one")))
    await ctx.attempt("version again", version("1", ctx.id("one")))
    await ctx.attempt("version of another request", version("1", ctx.id("two")))
    await ctx.attempt("without build id", version(""))
    described = service.DescribeWorkerDeploymentVersionRequest(
        namespace="default", deployment_version=_version(ctx, "1")
    )
    await ctx.attempt("described", described)
    await ctx.attempt(
        "made current",
        service.SetWorkerDeploymentCurrentVersionRequest(
            namespace="default", deployment_name=name, build_id="no-such-build", identity=identity
        ),
    )
    delete = service.DeleteWorkerDeploymentRequest(
        namespace="default", deployment_name=name, identity=identity
    )
    await ctx.attempt("deleted too early", delete)
    await ctx.attempt(
        "version deleted",
        service.DeleteWorkerDeploymentVersionRequest(
            namespace="default", deployment_version=_version(ctx, "1"), identity=identity
        ),
    )


@scenario
async def deployment_rules(ctx: Context) -> None:
    """Who may do what, in which order what is wrong is said, and what a deployment shows of its versions' past."""
    name = ctx.id("shop")
    ask: dict[str, Any] = {"namespace": "default", "deployment_name": name, "identity": "boss"}
    token = ["conflict_token"]
    shown = [
        "conflict_token",
        "worker_deployment_info.routing_config_update_state",
        "worker_deployment_info.version_summaries.drainage_info",
        "worker_deployment_info.version_summaries.drainage_status",
    ]
    status = "worker_deployment_info.version_summaries.status"
    current = service.SetWorkerDeploymentCurrentVersionRequest
    ramping = service.SetWorkerDeploymentRampingVersionRequest
    describe = service.DescribeWorkerDeploymentRequest(namespace="default", deployment_name=name)
    await ctx.attempt("no version of none", current(**ask))
    await ctx.attempt("made by setting none", current(**ask, allow_no_pollers=True), drop=token)
    await ctx.attempt("made", describe, drop=shown)
    for label, version in (("no delimiter", "nothing"), ("of another", "another.1")):
        await ctx.attempt(f"{label}: current", current(**ask, version=version))
        await ctx.attempt(f"{label}: ramping", ramping(**ask, version=version, percentage=5))
        await ctx.attempt(f"{label}: too much", ramping(**ask, version=version, percentage=101))
    run = await ctx.start()
    await _registered(ctx, run, "1")
    await _registered(ctx, run, "2")
    await ctx.attempt("1 current", current(**ask, build_id="1"), drop=token)
    await ctx.attempt("2 ramping", ramping(**ask, build_id="2", percentage=5), drop=token)
    await ctx.attempt("none ramping", ramping(**ask), drop=token)
    await ctx.attempt("2 has ramped", describe, drop=[*shown, status])
    await ctx.attempt("2 ramping again", ramping(**ask, build_id="2", percentage=7), drop=token)
    await ctx.attempt("2 ramps again", describe, drop=shown)
    await ctx.attempt("2 current", current(**ask, build_id="2"), drop=token)
    await ctx.attempt("2 has all", describe, drop=[*shown, status])
    await ctx.attempt(
        "managed", service.SetWorkerDeploymentManagerRequest(**ask, manager_identity="boss"), drop=token
    )
    other = {**ask, "identity": "somebody"}
    await ctx.attempt("current by another", current(**other, build_id="1"))
    made = service.CreateWorkerDeploymentVersionRequest(
        namespace="default", deployment_version=_version(ctx, "3"), identity="somebody"
    )
    await ctx.attempt("version by another", made)
    await ctx.attempt("deleted with versions", service.DeleteWorkerDeploymentRequest(**other))
    delete = service.DeleteWorkerDeploymentVersionRequest(
        namespace="default", deployment_version=_version(ctx, "3"), identity="somebody"
    )
    await ctx.attempt("version deleted by another", delete)
    delete.identity = "boss"
    await ctx.attempt("version deleted", delete)
    metadata = service.UpdateWorkerDeploymentVersionMetadataRequest(
        namespace="default", deployment_version=_version(ctx, "1"), identity="somebody", remove_entries=["x"]
    )
    await ctx.attempt("nothing removed", metadata)


@scenario
async def deployment_made_by_a_poll(ctx: Context) -> None:
    """A deployment that a worker made cannot be made by hand; an empty one is deleted by anybody."""
    run = await ctx.start()
    await _registered(ctx, run, "1")
    create = service.CreateWorkerDeploymentRequest(
        namespace="default", deployment_name=ctx.id("shop"), identity="me", request_id=ctx.id("request")
    )
    await ctx.attempt("made again", create)
    create.deployment_name = ctx.id("mart")
    await ctx.attempt("another made", create, drop=["conflict_token"])
    manager = service.SetWorkerDeploymentManagerRequest(
        namespace="default", deployment_name=ctx.id("mart"), identity="boss", manager_identity="boss"
    )
    await ctx.attempt("managed", manager, drop=["conflict_token"])
    await ctx.attempt(
        "deleted by another",
        service.DeleteWorkerDeploymentRequest(
            namespace="default", deployment_name=ctx.id("mart"), identity="me"
        ),
    )


@scenario
async def deployment_compute(ctx: Context) -> None:
    """Compute configurations: no provider can be used on either server as it is started here."""
    name = ctx.id("shop")
    await ctx.client.invoke(
        service.CreateWorkerDeploymentRequest(namespace="default", deployment_name=name, identity="me")
    )
    await ctx.client.invoke(
        service.CreateWorkerDeploymentVersionRequest(
            namespace="default", deployment_version=_version(ctx, "1"), identity="me"
        )
    )
    for kind in ("", "aws-lambda", "subprocess", "nonsense"):
        group = ComputeConfigScalingGroup(
            task_queue_types=[WORKFLOWS],
            provider=ComputeProvider(type=kind),
            scaler=ComputeScaler(type="no-sync"),
        )
        created = service.CreateWorkerDeploymentVersionRequest(
            namespace="default", deployment_version=_version(ctx, f"of {kind}"), identity="me"
        )
        created.compute_config.scaling_groups["group"].CopyFrom(group)
        await ctx.attempt(f"created with {kind!r}", created)
        update = service.UpdateWorkerDeploymentVersionComputeConfigRequest(
            namespace="default", deployment_version=_version(ctx, "1"), identity="me"
        )
        update.compute_config_scaling_groups["group"].scaling_group.CopyFrom(group)
        await ctx.attempt(f"updated to {kind!r}", update)
        validate = service.ValidateWorkerDeploymentVersionComputeConfigRequest(
            namespace="default", deployment_version=_version(ctx, "1"), identity="me"
        )
        validate.compute_config_scaling_groups["group"].scaling_group.CopyFrom(group)
        await ctx.attempt(f"validated {kind!r}", validate)


@scenario
async def deployment_routing(ctx: Context) -> None:
    """A pinned run stays with its version, one that upgrades moves, a new one begins at the current version."""
    first = await ctx.start(label="pinned", task_queue=ctx.id("queue"))
    await _registered(ctx, first, "1")
    await _make_current(ctx, first.task_queue, "1")
    await _complete(ctx, first, "1", PINNED)
    moving = await ctx.start(label="moving", task_queue=first.task_queue)
    await _complete(ctx, moving, "1", AUTO_UPGRADE)
    await _shown(ctx, first, "pinned")
    await _shown(ctx, moving, "moving")
    await _registered(ctx, first, "2")
    await _make_current(ctx, first.task_queue, "2")
    for run in (first, moving):
        await ctx.client.signal(run.workflow_id, "go")
    await _complete(ctx, moving, "2", AUTO_UPGRADE)
    await _complete(ctx, first, "1", PINNED)
    new = await ctx.start(label="new", task_queue=first.task_queue)
    await _complete(ctx, new, "2", PINNED)
    for label, run in (("pinned", first), ("moved", moving), ("new", new)):
        await _shown(ctx, run, f"{label} after")
        await run.record_history(f"{label} history")


@scenario
async def deployment_override(ctx: Context) -> None:
    """A run that is pinned from outside, in the form of earlier releases too, and let go again."""
    run = await ctx.start()
    await _registered(ctx, run, "1")
    await _make_current(ctx, run.task_queue, "1")
    await _complete(ctx, run, "1", AUTO_UPGRADE)
    pinned = VersioningOverride()
    pinned.pinned.behavior = "PINNED_OVERRIDE_BEHAVIOR_PINNED"  # type: ignore[assignment]  # by name
    pinned.pinned.version.CopyFrom(_version(ctx, "1"))
    both = VersioningOverride(behavior=AUTO_UPGRADE, auto_upgrade=True)
    older = VersioningOverride(behavior=PINNED, pinned_version=f"{ctx.id('shop')}.1")
    for label, override in (("pinned", pinned), ("both forms", both), ("older form", older), ("none", None)):
        request = service.UpdateWorkflowExecutionOptionsRequest(
            namespace="default", workflow_execution=run.execution
        )
        request.update_mask.paths.append("versioning_override")
        request.workflow_execution_options.SetInParent()
        if override is not None:
            request.workflow_execution_options.versioning_override.CopyFrom(override)
        await ctx.attempt(label, request)
        await _shown(ctx, run, f"{label}: shown")
    await run.record_history()


async def _poll_activity(
    ctx: Context, task_queue: str, build_id: str, timeout_s: float = 20.0
) -> workflowservice.PollActivityTaskQueueResponse:
    return await ctx.client.poll_activity_task(
        task_queue, timeout_s=timeout_s, deployment_options=_options(ctx, build_id)
    )


async def _has_activities(ctx: Context, task_queue: str, build_id: str) -> None:
    """A worker of the version polls for activities in vain until its deployment knows."""
    described = service.DescribeWorkerDeploymentVersionRequest(
        namespace="default", deployment_version=_version(ctx, build_id)
    )
    polling = asyncio.create_task(_poll_activity(ctx, task_queue, build_id, 60.0))
    try:
        await ctx.until(
            f"activities of {build_id} known",
            lambda: ctx.client.call(described, service.DescribeWorkerDeploymentVersionResponse),
            lambda answer: any(known.type == ACTIVITIES for known in answer.version_task_queues),
            timeout_s=PATIENCE_S,
        )
    finally:
        polling.cancel()
        await asyncio.wait({polling})


async def _described(ctx: Context, run: Run, label: str) -> None:
    """What a run's description and its list entry show of versions."""
    described = await run.describe()
    info = described.workflow_execution_info
    ctx.record(f"{label}: versions", info.versioning_info)
    ctx.record(f"{label}: deployment", info.worker_deployment_name)
    ctx.record(f"{label}: attributes", info.search_attributes)
    ctx.record(f"{label}: activities", list(described.pending_activities))


@scenario
async def deployment_activity_moves_its_run(ctx: Context) -> None:
    """A worker of the new version that would take an activity has its run's code moved there first."""
    run = await ctx.start()
    for build_id in ("1", "2"):
        await _registered(ctx, run, build_id)
        await _has_activities(ctx, run.task_queue, build_id)
    await _make_current(ctx, run.task_queue, "1")
    task = await _poll(ctx, run, "1")
    await run.complete(
        task,
        schedule_activity("a", run.task_queue),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=AUTO_UPGRADE,
    )
    await _make_current(ctx, run.task_queue, "2")
    polling = asyncio.create_task(_poll_activity(ctx, run.task_queue, "2"))
    await run.until_described("moving", lambda now: now.HasField("pending_workflow_task"))
    await _described(ctx, run, "moving")
    await _complete(ctx, run, "2", AUTO_UPGRADE)
    ctx.record("activity", (await polling).activity_id)
    await _described(ctx, run, "moved")
    await run.record_history()


@scenario
async def deployment_override_moves_activities(ctx: Context) -> None:
    """An activity that waits for workers of a version goes with its run where an override pins it."""
    run = await ctx.start()
    for build_id in ("1", "2"):
        await _registered(ctx, run, build_id)
        await _has_activities(ctx, run.task_queue, build_id)
    await _make_current(ctx, run.task_queue, "1")
    task = await _poll(ctx, run, "1")
    await run.complete(
        task,
        schedule_activity("a", run.task_queue),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=PINNED,
    )
    request = service.UpdateWorkflowExecutionOptionsRequest(
        namespace="default", workflow_execution=run.execution
    )
    request.update_mask.paths.append("versioning_override")
    override = request.workflow_execution_options.versioning_override
    override.pinned.behavior = "PINNED_OVERRIDE_BEHAVIOR_PINNED"  # type: ignore[assignment]  # by name
    override.pinned.version.CopyFrom(_version(ctx, "2"))
    await ctx.attempt("pinned", request)
    await _described(ctx, run, "pinned")
    ctx.record("activity", (await _poll_activity(ctx, run.task_queue, "2")).activity_id)
    await _described(ctx, run, "started")
    request.workflow_execution_options.Clear()
    await ctx.attempt("let go", request)
    await _described(ctx, run, "let go")


@scenario
async def deployment_told_of_target(ctx: Context) -> None:
    """A pinned run is told of another current version until its code does not pin it any more, or declined."""
    run = await ctx.start()
    await _registered(ctx, run, "1")
    await _registered(ctx, run, "2")
    await _make_current(ctx, run.task_queue, "1")
    await _complete(ctx, run, "1", PINNED)
    await _make_current(ctx, run.task_queue, "2")
    await run.signal()
    told = await _poll(ctx, run, "1")
    await ctx.attempt(
        "behavior without version",
        ctx.client.complete_workflow_task(told.task_token, (), versioning_behavior=PINNED),
    )
    await run.complete(
        told,
        continue_as_new(task_queue=queue(run.task_queue)),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=PINNED,
    )
    stays = await _poll(ctx, run, "1")
    ctx.record("declined", list(stays.history.events), drop=[FIRST_BACKOFF])
    await run.complete(stays, deployment_options=_options(ctx, "1"), versioning_behavior=AUTO_UPGRADE)
    await run.signal()
    moves = await _poll(ctx, run, "2")
    ctx.record("not told", list(moves.history.events)[-1])
    unversioned = _options(ctx, "2")
    unversioned.worker_versioning_mode = UNVERSIONED
    await run.complete(moves, deployment_options=unversioned)
    next_run = Run(ctx, run.workflow_id, stays.workflow_execution.run_id, run.task_queue)
    await _described(ctx, next_run, "without version")


async def _retried(ctx: Context, run: Run, before: str, after: str) -> Run:
    """The run of one version fails while another one is current; `after` gets the retry, which is recorded."""
    await run.signal()
    task = await _poll(ctx, run, before)
    await run.complete(
        task,
        fail_workflow(application_failure("again")),
        deployment_options=_options(ctx, before),
        versioning_behavior=PINNED,
    )
    retry = await _poll(ctx, run, after)
    ctx.record(f"retry of {before}", list(retry.history.events), drop=[FIRST_BACKOFF])
    follower = Run(ctx, run.workflow_id, retry.workflow_execution.run_id, run.task_queue)
    await follower.complete(
        retry,
        continue_as_new(task_queue=queue(run.task_queue), retry_policy=_QUICKLY),
        deployment_options=_options(ctx, after),
        versioning_behavior=PINNED,
    )
    return follower


@scenario
async def deployment_retry_of_pinned(ctx: Context) -> None:
    """A retry begins where the routing leads now, unless its run had its pinned version from another run."""
    run = await ctx.start(retry_policy=_QUICKLY)
    await _registered(ctx, run, "1")
    await _registered(ctx, run, "2")
    await _make_current(ctx, run.task_queue, "1")
    await _complete(ctx, run, "1", PINNED)
    await _make_current(ctx, run.task_queue, "2")
    retry = await _retried(ctx, run, "1", "2")
    continued = await _poll(ctx, retry, "2")
    ctx.record("continued", list(continued.history.events), drop=[FIRST_BACKOFF])
    inherits = Run(ctx, run.workflow_id, continued.workflow_execution.run_id, run.task_queue)
    await inherits.complete(continued, deployment_options=_options(ctx, "2"), versioning_behavior=PINNED)
    await _make_current(ctx, run.task_queue, "1")
    await _retried(ctx, inherits, "2", "2")


@scenario
async def deployment_continues_elsewhere(ctx: Context) -> None:
    """A run continues on another task queue: what pins it goes along where its version has that queue."""
    run = await ctx.start()
    served = Run(ctx, run.workflow_id, "", ctx.id("served"))
    foreign = Run(ctx, run.workflow_id, "", ctx.id("foreign"))
    await _registered(ctx, run, "1")
    await _registered(ctx, served, "1")
    await _registered(ctx, foreign, "2")
    await _make_current(ctx, run.task_queue, "1")
    task = await _poll(ctx, run, "1")
    await run.complete(
        task,
        continue_as_new(task_queue=queue(served.task_queue)),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=PINNED,
    )
    there = await _poll(ctx, served, "1")
    ctx.record("served", list(there.history.events), drop=[FIRST_BACKOFF])
    second = Run(ctx, run.workflow_id, there.workflow_execution.run_id, served.task_queue)
    request = service.UpdateWorkflowExecutionOptionsRequest(
        namespace="default", workflow_execution=second.execution
    )
    request.update_mask.paths.append("versioning_override")
    override = request.workflow_execution_options.versioning_override
    override.pinned.behavior = "PINNED_OVERRIDE_BEHAVIOR_PINNED"  # type: ignore[assignment]  # by name
    override.pinned.version.CopyFrom(_version(ctx, "1"))
    await second.complete(there, deployment_options=_options(ctx, "1"), versioning_behavior=PINNED)
    await ctx.client.invoke(request)
    await second.signal()
    again = await _poll(ctx, second, "1")
    await second.complete(
        again,
        continue_as_new(task_queue=queue(run.task_queue)),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=PINNED,
    )
    back = await _poll(ctx, run, "1")
    ctx.record("back with an override", list(back.history.events), drop=[FIRST_BACKOFF])
    third = Run(ctx, run.workflow_id, back.workflow_execution.run_id, run.task_queue)
    await third.complete(
        back,
        continue_as_new(task_queue=queue(foreign.task_queue)),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=PINNED,
    )
    anywhere = await ctx.client.poll_workflow_task(foreign.task_queue, timeout_s=20.0)
    ctx.record("foreign", list(anywhere.history.events), drop=[FIRST_BACKOFF])
    await _shown(ctx, Run(ctx, run.workflow_id, "", foreign.task_queue), "foreign: shown")


@scenario
async def deployment_override_without_version(ctx: Context) -> None:
    """Overrides that pin without saying where, or in words that are none."""
    run = await ctx.start()
    await _registered(ctx, run, "1")
    await _make_current(ctx, run.task_queue, "1")
    await _complete(ctx, run, "1", AUTO_UPGRADE)
    pinned = VersioningOverride()
    pinned.pinned.behavior = "PINNED_OVERRIDE_BEHAVIOR_PINNED"  # type: ignore[assignment]  # by name
    empty = VersioningOverride()
    empty.CopyFrom(pinned)
    empty.pinned.version.SetInParent()
    once_empty = VersioningOverride()
    once_empty.one_time.SetInParent()
    unknown_pin = VersioningOverride()
    unknown_pin.pinned.version.CopyFrom(_version(ctx, "1"))
    unknown_pin.pinned.behavior = 7  # type: ignore[assignment]  # one that there is not
    series = VersioningOverride(behavior=PINNED)
    series.deployment.SetInParent()
    dotted = VersioningOverride(behavior=PINNED)
    dotted.deployment.series_name, dotted.deployment.build_id = "a.b", "1"
    nameless = VersioningOverride(behavior=PINNED)
    nameless.deployment.series_name = "a"
    cases = {
        "no version": pinned,
        "empty version": empty,
        "once, empty": once_empty,
        "unknown pin": unknown_pin,
        "older, none": VersioningOverride(behavior=PINNED),
        "older, nodot": VersioningOverride(behavior=PINNED, pinned_version="nodot"),
        "older, no name": VersioningOverride(behavior=PINNED, pinned_version=".1"),
        "older, no build": VersioningOverride(behavior=PINNED, pinned_version="a."),
        "older, colon": VersioningOverride(behavior=PINNED, pinned_version="a:1"),
        "older, colon first": VersioningOverride(behavior=PINNED, pinned_version="a:1.2"),
        "older, two dots": VersioningOverride(behavior=PINNED, pinned_version=f"{ctx.id('shop')}.1.2"),
        "empty series": series,
        "series with dot": dotted,
        "series without build": nameless,
        "unknown behavior": VersioningOverride(behavior=9),  # type: ignore[arg-type]  # one that there is not
        "no behavior": VersioningOverride(),
    }
    for label, override in cases.items():
        request = service.UpdateWorkflowExecutionOptionsRequest(
            namespace="default", workflow_execution=run.execution
        )
        request.update_mask.paths.append("versioning_override")
        request.workflow_execution_options.versioning_override.CopyFrom(override)
        await ctx.attempt(label, request)
        await _shown(ctx, run, f"{label}: shown")
        start = workflowservice.StartWorkflowExecutionRequest(
            namespace="default",
            workflow_id=ctx.id("started"),
            task_queue=queue(run.task_queue),
            versioning_override=override,
        )
        start.workflow_type.name = "t"
        start.workflow_start_delay.seconds = 600  # one of them starts: no worker here is to have its task
        await ctx.attempt(f"{label}: start", start)
    request.workflow_execution_options.Clear()
    await ctx.attempt("let go", request)
    await run.signal()
    await _complete(ctx, run, "1", PINNED)
    request.workflow_execution_options.versioning_override.CopyFrom(pinned)
    await ctx.attempt("stays", request)
    await _shown(ctx, run, "stays: shown")
    await run.record_history()


@scenario
async def deployment_told_of_no_target(ctx: Context) -> None:
    """A pinned run is told when workers without version are current again, and when it was pinned before any was."""
    run = await ctx.start()
    await _registered(ctx, run, "1")
    early = await _pinned_from_outside(ctx, run)
    ctx.record("before any was current", list(early.history.events)[-1])
    await run.complete(early, deployment_options=_options(ctx, "1"), versioning_behavior=PINNED)
    await _make_current(ctx, run.task_queue, "1")
    await run.signal()
    same = await _poll(ctx, run, "1")
    ctx.record("its own is current", list(same.history.events)[-1])
    await run.complete(same, deployment_options=_options(ctx, "1"), versioning_behavior=PINNED)
    await _make_current(ctx, run.task_queue, "")
    await run.signal()
    told = await _poll(ctx, run, "1")
    ctx.record("none is current", list(told.history.events)[-1])
    await run.complete(
        told,
        continue_as_new(task_queue=queue(run.task_queue)),
        deployment_options=_options(ctx, "1"),
        versioning_behavior=PINNED,
    )
    stays = await _poll(ctx, run, "1")
    ctx.record("declined", list(stays.history.events), drop=[FIRST_BACKOFF])


async def _pinned_from_outside(ctx: Context, run: Run) -> workflowservice.PollWorkflowTaskQueueResponse:
    """Pins a run by an override, has its worker pin it, too, and takes the override back. Returns its next task."""
    request = service.UpdateWorkflowExecutionOptionsRequest(
        namespace="default", workflow_execution=run.execution
    )
    request.update_mask.paths.append("versioning_override")
    override = request.workflow_execution_options.versioning_override
    override.pinned.behavior = "PINNED_OVERRIDE_BEHAVIOR_PINNED"  # type: ignore[assignment]  # by name
    override.pinned.version.CopyFrom(_version(ctx, "1"))
    await ctx.client.invoke(request)
    await _complete(ctx, run, "1", PINNED)
    request.workflow_execution_options.Clear()
    await ctx.client.invoke(request)
    await run.signal()
    return await _poll(ctx, run, "1")


@scenario
async def deployment_ramps_of_two(ctx: Context) -> None:
    """Two deployments on one task queue: a versioned ramp holds against a newer one to workers without version."""
    run = await ctx.start()
    await _registered(ctx, run, "1")
    shop: dict[str, Any] = {"namespace": "default", "identity": "operator", "deployment_name": ctx.id("shop")}
    mart = {**shop, "deployment_name": ctx.id("mart")}
    current = service.SetWorkerDeploymentCurrentVersionRequest
    ramping = service.SetWorkerDeploymentRampingVersionRequest
    await ctx.client.invoke(ramping(**shop, build_id="1", percentage=30))
    options = WorkerDeploymentOptions(
        deployment_name=ctx.id("mart"), build_id="1", worker_versioning_mode=VERSIONED
    )
    polling = asyncio.create_task(
        ctx.client.poll_workflow_task(run.task_queue, timeout_s=60.0, deployment_options=options)
    )

    async def made() -> bool:
        try:
            await ctx.client.invoke(current(**mart, build_id="1"))
        except RpcError:
            return False
        return True

    await ctx.until("mart current", made, lambda done: done, timeout_s=PATIENCE_S)
    polling.cancel()
    await asyncio.wait({polling})
    described = service.DescribeTaskQueueRequest(
        namespace="default", task_queue=queue(run.task_queue), task_queue_type=WORKFLOWS
    )

    async def shown() -> Any:
        return (await ctx.client.call(described, service.DescribeTaskQueueResponse)).versioning_info

    both = await ctx.until(
        "both in force",
        shown,
        lambda info: (
            info.current_deployment_version.deployment_name == ctx.id("mart")
            and info.ramping_version_percentage == 30
        ),
        timeout_s=PATIENCE_S,
    )
    ctx.record("both", both, drop=["update_time"])
    await ctx.client.invoke(ramping(**mart, percentage=50))
    settled = service.DescribeWorkerDeploymentRequest(namespace="default", deployment_name=ctx.id("mart"))
    await ctx.until(
        "propagated",
        lambda: ctx.client.call(settled, service.DescribeWorkerDeploymentResponse),
        lambda answer: answer.worker_deployment_info.routing_config_update_state == 2,
        timeout_s=PATIENCE_S,
    )
    ctx.record("newer to none", await shown(), drop=["update_time"])
    await ctx.client.invoke(ramping(**shop))
    only = await ctx.until(
        "only the ramp to none",
        shown,
        lambda info: info.ramping_version_percentage != 30,
        timeout_s=PATIENCE_S,
    )
    ctx.record("the other ended", only, drop=["update_time"])
