"""`perdure worker deployment`: versions of workers, and which of them gets tasks."""

from __future__ import annotations

from typing import Any, Final

from perdure.api.deployment import v1 as deployment_api
from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import go_json, listings, payloads, wire
from perdure.cli.command import Flags, Group
from perdure.cli.deployment_compute import COMPUTE, scaling_group_updates, scaling_groups
from perdure.cli.errors import WrongUsageError
from perdure.cli.session import Session
from perdure.cli.show import enum_label, nanoseconds_of, time_of, to_json

deployment = Group("deployment", "Say which version of a deployment gets tasks.")
manager = deployment.group_of("manager-identity", "Say who may change a deployment.")

_NAME: Final = f.text("--name", "-d", required=True, metavar="NAME", help="Name of the deployment.")
_VERSION: Final[f.FlagGroup] = (
    f.text("--deployment-name", required=True, metavar="NAME", help="Name of the deployment."),
    f.text("--build-id", required=True, metavar="ID", help="Build of the version."),
)
_VERSION_OR_NONE: Final[f.FlagGroup] = (
    _VERSION[0],
    f.text("--build-id", metavar="ID", help="Build of the version."),
    f.switch("--unversioned", help="Workers without a version, instead of a build."),
    f.switch(
        "--ignore-missing-task-queues", help="Do it although the version lacks task queues of the one before."
    ),
    f.switch("--allow-no-pollers", help="Do it although no worker of the version polls."),
    f.YES,
)
_VERSION_EXAMPLE: Final = "--deployment-name orders --build-id 42"


def _version(flags: Flags) -> deployment_api.WorkerDeploymentVersion:
    return deployment_api.WorkerDeploymentVersion(
        deployment_name=flags.deployment_name, build_id=flags.build_id
    )


def _routing(config: Any) -> dict[str, Any]:
    current, ramping = config.current_deployment_version, config.ramping_deployment_version
    return {
        "currentVersionDeploymentName": current.deployment_name,
        "currentVersionBuildID": current.build_id,
        "rampingVersionDeploymentName": ramping.deployment_name,
        "rampingVersionBuildID": ramping.build_id,
        "rampingVersionPercentage": config.ramping_version_percentage,
        "currentVersionChangedTime": go_json.time(config, "current_version_changed_time"),
        "rampingVersionChangedTime": go_json.time(config, "ramping_version_changed_time"),
        "rampingVersionPercentageChangedTime": go_json.time(
            config, "ramping_version_percentage_changed_time"
        ),
    }


def _drainage(status: Any) -> str:
    return enum_label(enums.VersionDrainageStatus.Name(status), "VersionDrainageStatus").lower()


def _deployment(info: Any, versions: list[Any] | None = None) -> dict[str, Any]:
    """A deployment as the official command prints it."""
    rows = [
        {
            "deploymentName": each.deployment_version.deployment_name,
            "BuildID": each.deployment_version.build_id,
            "drainageStatus": _drainage(each.drainage_status),
            "createTime": go_json.time(each, "create_time"),
        }
        for each in versions or ()
    ]
    return {
        "name": info.name,
        "createTime": go_json.time(info, "create_time"),
        "lastModifierIdentity": getattr(info, "last_modifier_identity", ""),
        "routingConfig": _routing(info.routing_config),
        "versionSummaries": go_json.or_null(rows),
        "managerIdentity": getattr(info, "manager_identity", ""),
    }


@deployment.add("create", _NAME, example="perdure worker deployment create --name orders")
async def create(session: Session, flags: Flags) -> None:
    """Create a deployment before its first worker polls."""
    await session.call(
        service.CreateWorkerDeploymentRequest(deployment_name=flags.name, request_id=wire.new_id())
    )
    session.out.note("The deployment was created")


@deployment.add("describe", _NAME, f.WATCH, example="perdure worker deployment describe --name orders")
async def describe(session: Session, flags: Flags) -> None:
    """Show a deployment: its versions, and which of them gets tasks."""
    answer = await session.call(service.DescribeWorkerDeploymentRequest(deployment_name=flags.name))
    _show(session, answer.worker_deployment_info)


def _show(session: Session, info: Any) -> None:
    shown = _deployment(info, list(info.version_summaries))
    if session.out.is_json:
        session.out.json(shown)
        return
    flat = {**shown, **shown["routingConfig"]}
    session.out.card(
        {
            name: value
            for name, value in flat.items()
            if name not in ("routingConfig", "versionSummaries") and value not in (go_json.NO_TIME, 0, "")
        }
    )
    if shown["versionSummaries"]:
        session.out.heading("Versions:")
        session.out.table(shown["versionSummaries"], list(shown["versionSummaries"][0]))


@deployment.add("delete", _NAME, example="perdure worker deployment delete --name orders")
async def delete(session: Session, flags: Flags) -> None:
    """Delete a deployment that has no versions."""
    await session.call(service.DeleteWorkerDeploymentRequest(deployment_name=flags.name))
    session.out.note("The deployment was deleted")


_DEPLOYMENTS: Final = listings.Listing(
    request=service.ListWorkerDeploymentsRequest,
    items="worker_deployments",
    columns={
        "Name": "name",
        "CreateTime": "create_time",
        "CurrentBuildId": "routing_config.current_deployment_version.build_id",
        "RampingBuildId": "routing_config.ramping_deployment_version.build_id",
        "RampingPercentage": "routing_config.ramping_version_percentage",
    },
    item=_deployment,
)


@deployment.add("list", f.WATCH, example="perdure worker deployment list")
async def list_deployments(session: Session, flags: Flags) -> None:
    """List deployments."""
    await listings.show(session, flags, _DEPLOYMENTS, service.ListWorkerDeploymentsRequest())


@deployment.add(
    "create-version", _VERSION, COMPUTE,
    example=f"perdure worker deployment create-version {_VERSION_EXAMPLE} --gcp-cloud-run-worker-pool pool "
    "--gcp-cloud-run-project p --gcp-cloud-run-region europe-west1 --gcp-cloud-run-service-account a@p",
)  # fmt: skip
async def create_version(session: Session, flags: Flags) -> None:
    """Create a version with what a server that starts workers itself needs to know."""
    await session.call(
        service.CreateWorkerDeploymentVersionRequest(
            deployment_version=_version(flags), compute_config=scaling_groups(flags), request_id=wire.new_id()
        )
    )
    session.out.note("The version was created")


@deployment.add(
    "update-version-compute-config", _VERSION, COMPUTE,
    f.switch("--remove", help="Remove what is known of the version's workers."),
    example=f"perdure worker deployment update-version-compute-config {_VERSION_EXAMPLE} --remove",
)  # fmt: skip
async def update_compute(session: Session, flags: Flags) -> None:
    """Change what a server that starts workers itself knows of a version."""
    request = service.UpdateWorkerDeploymentVersionComputeConfigRequest(
        deployment_version=_version(flags), request_id=wire.new_id()
    )
    scaling_group_updates(flags, request)
    await session.call(request)
    session.out.note("The version was changed")


def _stats(stats: Any) -> dict[str, Any]:
    return {
        "approximateBacklogCount": stats.approximate_backlog_count,
        "approximateBacklogAge": nanoseconds_of(stats.approximate_backlog_age),
        "backlogIncreaseRate": stats.tasks_add_rate - stats.tasks_dispatch_rate,
        "tasksAddRate": stats.tasks_add_rate,
        "tasksDispatchRate": stats.tasks_dispatch_rate,
    }


def _queue(queue: Any, has_stats: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": queue.name,
        "type": enum_label(enums.TaskQueueType.Name(queue.type), "TaskQueueType").lower(),
    }
    if has_stats:
        found["stats"] = _stats(queue.stats)
        if queue.stats_by_priority_key:
            found["statsByPriorityKey"] = {
                str(key): _stats(each) for key, each in sorted(queue.stats_by_priority_key.items())
            }
    return found


def _version_record(info: Any, queues: list[dict[str, Any]]) -> dict[str, Any]:
    """A version as the official command prints it."""
    drainage = {"drainageStatus": "", "lastChangedTime": go_json.NO_TIME, "lastCheckedTime": go_json.NO_TIME}
    if info.HasField("drainage_info"):
        drainage = {
            "drainageStatus": _drainage(info.drainage_info.status),
            "lastChangedTime": go_json.epoch_time(info.drainage_info, "last_changed_time"),
            "lastCheckedTime": go_json.epoch_time(info.drainage_info, "last_checked_time"),
        }
    found = {
        "deploymentName": info.deployment_version.deployment_name,
        "BuildID": info.deployment_version.build_id,
        "createTime": go_json.epoch_time(info, "create_time"),
        "routingChangedTime": go_json.epoch_time(info, "routing_changed_time"),
        "currentSinceTime": go_json.epoch_time(info, "current_since_time"),
        "rampingSinceTime": go_json.epoch_time(info, "ramping_since_time"),
        "rampPercentage": info.ramp_percentage,
        "drainageInfo": drainage,
        "taskQueuesInfos": go_json.or_null(queues),
        "metadata": {key: go_json.record(value) for key, value in sorted(info.metadata.entries.items())}
        or None,
    }
    groups = {
        name: _scaling_group(group)
        for name, group in sorted(info.compute_config.scaling_groups.items())
        if group.HasField("provider") or group.HasField("scaler")
    }
    return found | ({"computeConfig": {"scalingGroups": groups}} if groups else {})


_SCALER: Final = {
    "min_count": "minInstances", "max_count": "maxInstances", "initial_count": "initialInstances",
    "utilization_target": "utilizationTarget",
}  # fmt: skip


def _scaling_group(group: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if group.HasField("provider"):
        found["provider"] = {"type": group.provider.type}
    if group.HasField("scaler"):
        details = payloads.value_of_one(group.scaler.details)
        known = details if isinstance(details, dict) else {}
        found["scaler"] = {"type": group.scaler.type} | {
            shown: known[name] for name, shown in _SCALER.items() if name in known
        }
    return found


@deployment.add(
    "describe-version", _VERSION, f.WATCH,
    f.switch("--report-task-queue-stats", help="Show what waits in its task queues."),
    example=f"perdure worker deployment describe-version {_VERSION_EXAMPLE} --report-task-queue-stats",
)  # fmt: skip
async def describe_version(session: Session, flags: Flags) -> None:
    """Show a version: since when it gets tasks, whether it is drained, its task queues."""
    answer = await session.call(
        service.DescribeWorkerDeploymentVersionRequest(
            deployment_version=_version(flags), report_task_queue_stats=flags.report_task_queue_stats
        )
    )
    queues = [_queue(each, flags.report_task_queue_stats) for each in answer.version_task_queues]
    info = answer.worker_deployment_version_info
    shown = _version_record(info, queues)
    if session.out.is_json:
        session.out.json(shown)
        return
    times = ("create_time", "routing_changed_time", "current_since_time", "ramping_since_time")
    session.out.card(
        {
            "DeploymentName": shown["deploymentName"],
            "BuildId": shown["BuildID"],
            **{name: time_of(getattr(info, name)) for name in times},
            "RampPercentage": info.ramp_percentage or None,
            "DrainageStatus": shown["drainageInfo"]["drainageStatus"],
            "Metadata": to_json(dict(info.metadata.entries)),
            "ComputeConfig": shown.get("computeConfig"),
        }
    )
    session.out.heading("Task queues:")
    session.out.table(
        [{**each, **each.get("stats", {})} for each in queues], ["name", "type", *_stats_names(queues)]
    )


def _stats_names(queues: list[dict[str, Any]]) -> list[str]:
    return list(queues[0]["stats"]) if queues and "stats" in queues[0] else []


@deployment.add(
    "delete-version", _VERSION,
    f.switch("--skip-drainage", help="Delete it although workflows still need it."),
    example=f"perdure worker deployment delete-version {_VERSION_EXAMPLE}",
)  # fmt: skip
async def delete_version(session: Session, flags: Flags) -> None:
    """Delete a version that no workflow needs any more."""
    await session.call(
        service.DeleteWorkerDeploymentVersionRequest(
            version=f"{flags.deployment_name}.{flags.build_id}",
            deployment_version=_version(flags),
            skip_drainage=flags.skip_drainage,
        )
    )
    session.out.note("The version was deleted")


async def _token(session: Session, flags: Flags, what: str, *, may_be_missing: bool = False) -> bytes:
    """What shows that nobody changed the deployment since it was looked at and, without --yes, agreed to."""
    from perdure.service import RPCError, RPCStatusCode

    request = service.DescribeWorkerDeploymentRequest(deployment_name=flags.deployment_name)
    try:
        answer = await session.call(request)
    except RPCError as error:
        if may_be_missing and error.status is RPCStatusCode.NOT_FOUND:
            return b""
        raise
    if session.out.is_text and not flags.yes:
        _show(session, answer.worker_deployment_info)
    session.confirm(f"Change the {what} of this deployment?", flags.yes)
    return bytes(answer.conflict_token)


def _build_id(flags: Flags) -> str:
    if flags.build_id and flags.unversioned:
        raise WrongUsageError("--build-id cannot be used with --unversioned")
    if not flags.build_id and not flags.unversioned:
        raise WrongUsageError("either --build-id or --unversioned is needed")
    return flags.build_id or ""


@deployment.add(
    "set-current-version", _VERSION_OR_NONE,
    example=f"perdure worker deployment set-current-version {_VERSION_EXAMPLE}",
)  # fmt: skip
async def set_current(session: Session, flags: Flags) -> None:
    """Give new workflows to a version."""
    build_id = _build_id(flags)
    token = await _token(session, flags, "current version", may_be_missing=flags.allow_no_pollers)
    await session.call(
        service.SetWorkerDeploymentCurrentVersionRequest(
            deployment_name=flags.deployment_name,
            build_id=build_id,
            conflict_token=token,
            ignore_missing_task_queues=flags.ignore_missing_task_queues,
            allow_no_pollers=flags.allow_no_pollers,
        )
    )
    session.out.note("The current version was set")


@deployment.add(
    "set-ramping-version", _VERSION_OR_NONE,
    f.number("--percentage", help="Share of new workflows that it gets."),
    f.switch("--delete", help="Give it none any more."),
    example=f"perdure worker deployment set-ramping-version {_VERSION_EXAMPLE} --percentage 10",
)  # fmt: skip
async def set_ramping(session: Session, flags: Flags) -> None:
    """Give a share of new workflows to a version."""
    if flags.build_id and flags.unversioned:
        raise WrongUsageError("--build-id cannot be used with --unversioned")
    token = await _token(session, flags, "ramping version", may_be_missing=flags.allow_no_pollers)
    await session.call(
        service.SetWorkerDeploymentRampingVersionRequest(
            deployment_name=flags.deployment_name,
            build_id=flags.build_id or "",
            percentage=0.0 if flags.delete else flags.percentage or 0.0,
            conflict_token=token,
            ignore_missing_task_queues=flags.ignore_missing_task_queues,
            allow_no_pollers=flags.allow_no_pollers,
        )
    )
    session.out.note("The ramping version was set")


@deployment.add(
    "update-version-metadata", _VERSION,
    f.texts("--metadata", metavar="KEY=JSON", help="Value to keep with the version."),
    f.texts("--remove-entries", metavar="KEY", help="Value to remove."),
    example=f"perdure worker deployment update-version-metadata {_VERSION_EXAMPLE} --metadata 'commit=\"3f2a\"'",
)  # fmt: skip
async def update_metadata(session: Session, flags: Flags) -> None:
    """Keep values with a version, for people and tools."""
    values = payloads.json_values(flags.metadata, "--metadata")
    answer = await session.call(
        service.UpdateWorkerDeploymentVersionMetadataRequest(
            deployment_version=_version(flags),
            upsert_entries={key: payloads.json_payload(value) for key, value in values.items()},
            remove_entries=flags.remove_entries,
        )
    )
    if session.out.is_json:
        entries = sorted(answer.metadata.entries.items())
        session.out.json({"Metadata": {key: go_json.record(value) for key, value in entries} or None})
    session.out.card(to_json(dict(answer.metadata.entries)))


@manager.add(
    "set", _VERSION[0], f.YES,
    f.text("--manager-identity", metavar="TEXT", help="Who may change the deployment from now on."),
    f.switch("--self", help="You may."),
    example="perdure worker deployment manager-identity set --deployment-name orders --self",
)  # fmt: skip
async def set_manager(session: Session, flags: Flags) -> None:
    """Let only one identity change a deployment."""
    if flags.self == bool(flags.manager_identity):
        raise WrongUsageError("either --manager-identity or --self is needed")
    await _set_manager(
        session, flags, {"self": True} if flags.self else {"manager_identity": flags.manager_identity}
    )


@manager.add(
    "unset", _VERSION[0], f.YES,
    example="perdure worker deployment manager-identity unset --deployment-name orders",
)  # fmt: skip
async def unset_manager(session: Session, flags: Flags) -> None:
    """Let anybody change a deployment again."""
    await _set_manager(session, flags, {"manager_identity": ""})


async def _set_manager(session: Session, flags: Flags, who: dict[str, Any]) -> None:
    token = await _token(session, flags, "manager")
    answer = await session.call(
        service.SetWorkerDeploymentManagerRequest(
            deployment_name=flags.deployment_name, conflict_token=token, **who
        )
    )
    session.out.note(f"The manager was changed; it was {answer.previous_manager_identity!r}")
