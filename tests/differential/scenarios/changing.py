"""Changes of what is not a workflow, each asked for once as it should be: schedules, deployments, namespaces."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from perdure.api.common.v1 import Payload
from perdure.api.schedule.v1 import Schedule, ScheduleSpec
from tests.differential.context import Context
from tests.differential.registry import scenario
from tests.support.builders import duration
from tests.support.proto import workflowservice as service
from tests.support.rpc import RpcError

TOKENS = ("conflict_token", "previous_conflict_token")
PATIENCE_S = 45.0
"""The official server's deployments and schedules are workflows: on a busy machine they take their time."""


async def _not_found(ctx: Context, request: Message) -> bool:
    try:
        await ctx.client.invoke(request)
    except RpcError as error:
        return error.code == "NOT_FOUND"
    return False


@scenario
async def schedule_updated_and_deleted(ctx: Context) -> None:
    """A schedule gets another specification, and then it is gone."""
    values: dict[str, Any] = {"namespace": ctx.client.namespace, "schedule_id": ctx.id("schedule")}
    schedule = Schedule(spec=ScheduleSpec(cron_string=["0 0 1 1 * 2099"]))
    template = schedule.action.start_workflow
    template.workflow_id, template.workflow_type.name = ctx.id("wf"), "type"
    template.task_queue.name = ctx.id("queue")
    schedule.state.paused = True
    create = service.CreateScheduleRequest(**values, schedule=schedule, request_id=ctx.id("create"))
    await ctx.client.invoke(create)
    schedule.spec.cron_string[:] = ["30 12 1 1 * 2099"]
    update = service.UpdateScheduleRequest(**values, schedule=schedule, request_id=ctx.id("update"))
    await ctx.attempt("updated", update)

    async def described() -> Any:
        return await ctx.client.invoke(service.DescribeScheduleRequest(**values))

    found = await ctx.until(
        "the update is seen",
        described,
        lambda answer: answer.schedule.spec.structured_calendar[0].hour[0].start == 12,
        timeout_s=PATIENCE_S,
    )
    ctx.record("specification", found.schedule.spec)
    await ctx.attempt("deleted", service.DeleteScheduleRequest(**values, identity="me"))
    describe = service.DescribeScheduleRequest(**values)
    await ctx.until("it is gone", lambda: _not_found(ctx, describe), bool, timeout_s=PATIENCE_S)


@scenario
async def deployment_changed_by_hand(ctx: Context) -> None:
    """A version without workers: metadata, a manager, a share of new runs, a compute configuration removed."""
    values: dict[str, Any] = {
        "namespace": ctx.client.namespace,
        "deployment_name": ctx.id("shop"),
        "identity": "me",
    }
    await ctx.client.invoke(service.CreateWorkerDeploymentRequest(**values))
    create = service.CreateWorkerDeploymentVersionRequest(namespace=ctx.client.namespace, identity="me")
    version = create.deployment_version
    version.deployment_name, version.build_id = ctx.id("shop"), "1"
    await ctx.client.invoke(create)
    metadata = service.UpdateWorkerDeploymentVersionMetadataRequest(
        namespace=ctx.client.namespace, deployment_version=version, identity="me"
    )
    metadata.upsert_entries["key"].CopyFrom(Payload(data=b"value"))
    await ctx.attempt("metadata", metadata)
    compute = service.UpdateWorkerDeploymentVersionComputeConfigRequest(
        namespace=ctx.client.namespace,
        deployment_version=version,
        identity="me",
        request_id=ctx.id("compute"),
    )
    compute.remove_compute_config_scaling_groups.append("group")
    await ctx.attempt("compute", compute)
    manager = service.SetWorkerDeploymentManagerRequest(**values, manager_identity="me")
    await ctx.attempt("manager", manager, drop=TOKENS)
    ramp = service.SetWorkerDeploymentRampingVersionRequest(
        **values, build_id="1", percentage=25, ignore_missing_task_queues=True, allow_no_pollers=True
    )
    await ctx.attempt("ramping", ramp, drop=TOKENS)
    describe = service.DescribeWorkerDeploymentRequest(
        namespace=ctx.client.namespace, deployment_name=ctx.id("shop")
    )
    found = await ctx.client.call(describe, service.DescribeWorkerDeploymentResponse)
    info = found.worker_deployment_info
    routing = info.routing_config
    ctx.record("manager of it", info.manager_identity)
    ctx.record("share", routing.ramping_version_percentage)
    ctx.record("version", routing.ramping_deployment_version)


@scenario
async def namespace_deprecated(ctx: Context) -> None:
    """A namespace that is deprecated says so."""
    register = service.RegisterNamespaceRequest(
        namespace=ctx.id("ns"), workflow_execution_retention_period=duration(3 * 86400)
    )
    await ctx.client.invoke(register)
    await ctx.attempt("deprecated", service.DeprecateNamespaceRequest(namespace=ctx.id("ns")))
    describe = service.DescribeNamespaceRequest(namespace=ctx.id("ns"))
    found = await ctx.client.call(describe, service.DescribeNamespaceResponse)
    ctx.record("info", found.namespace_info)
