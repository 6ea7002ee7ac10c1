"""Worker deployments as messages show them."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.api.common.v1 import Payload
from perdure.api.deployment.v1 import (
    RoutingConfig,
    VersionDrainageInfo,
    WorkerDeploymentInfo,
    WorkerDeploymentVersionInfo,
)
from perdure.api.enums.v1 import (
    RoutingConfigUpdateState,
    VersionDrainageStatus,
    WorkerDeploymentVersionStatus,
)
from perdure.core.deployment import routes
from perdure.core.deployment.routes import version_message, version_text
from perdure.core.deployment.state import Deployment, Version
from perdure.core.run.protos import set_timestamp

Summary = WorkerDeploymentInfo.WorkerDeploymentVersionSummary
INACTIVE, CURRENT, RAMPING, DRAINING, DRAINED, CREATED = (
    WorkerDeploymentVersionStatus.Value(f"WORKER_DEPLOYMENT_VERSION_STATUS_{name}")
    for name in ("INACTIVE", "CURRENT", "RAMPING", "DRAINING", "DRAINED", "CREATED")
)
_DRAINAGE: dict[int, VersionDrainageStatus.ValueType] = {
    DRAINING: VersionDrainageStatus.Value("VERSION_DRAINAGE_STATUS_DRAINING"),
    DRAINED: VersionDrainageStatus.Value("VERSION_DRAINAGE_STATUS_DRAINED"),
}
_COMPLETED = RoutingConfigUpdateState.Value("ROUTING_CONFIG_UPDATE_STATE_COMPLETED")
_TIMES = {
    "create_time": "created_ns",
    "current_since_time": "current_since_ns",
    "ramping_since_time": "ramping_since_ns",
    "first_activation_time": "first_activation_ns",
    "last_current_time": "last_current_ns",
    "last_deactivation_time": "last_deactivation_ns",
}
"""Fields of both messages on a version, and of the state."""


def dotted(name: str, build_id: str) -> str:
    """A version as earlier releases wrote it; build id "" for workers without one."""
    return routes.dotted(version_text(name, build_id) if build_id else routes.UNVERSIONED)


def status(deployment: Deployment, build_id: str, *, is_drained: bool) -> int:
    """A version's WorkerDeploymentVersionStatus number."""
    version = deployment.versions[build_id]
    if build_id == deployment.current:
        return CURRENT
    if build_id == deployment.ramping:
        return RAMPING
    if version.last_deactivation_ns:
        return DRAINED if is_drained else DRAINING
    return CREATED if version.is_created_by_hand else INACTIVE


def routing_config(name: str, deployment: Deployment) -> RoutingConfig:
    """A deployment's routing."""
    shown = RoutingConfig(
        current_version=dotted(name, deployment.current),
        ramping_version_percentage=deployment.percentage,
        revision_number=deployment.revision,
    )
    if deployment.current:
        shown.current_deployment_version.CopyFrom(version_message(version_text(name, deployment.current)))
    if deployment.ramping is not None:
        shown.ramping_version = dotted(name, deployment.ramping)
    if deployment.ramping:
        shown.ramping_deployment_version.CopyFrom(version_message(version_text(name, deployment.ramping)))
    set_timestamp(shown.current_version_changed_time, deployment.current_changed_ns)
    set_timestamp(shown.ramping_version_changed_time, deployment.ramping_changed_ns)
    set_timestamp(shown.ramping_version_percentage_changed_time, deployment.percentage_changed_ns)
    return shown


def summary(name: str, deployment: Deployment, build_id: str, number: int, now_ns: int) -> Summary:
    """A version in a deployment's description. `number` is its status."""
    version = deployment.versions[build_id]
    shown = Summary(version=dotted(name, build_id), status=number)  # type: ignore[arg-type]  # an enum number
    shown.deployment_version.CopyFrom(version_message(version_text(name, build_id)))
    for field, source in _TIMES.items():
        set_timestamp(getattr(shown, field), getattr(version, source))
    set_timestamp(shown.routing_update_time, version.routing_changed_ns)
    if number in _DRAINAGE:
        shown.drainage_info.CopyFrom(_drainage(version, number, now_ns))
    return shown


def deployment_info(
    name: str, deployment: Deployment, statuses: Mapping[str, int], now_ns: int
) -> WorkerDeploymentInfo:
    """A deployment's description.

    Args:
        name: its name.
        deployment: its state.
        statuses: of each version by build id.
        now_ns: when the statuses were found.
    """
    shown = WorkerDeploymentInfo(
        name=name,
        last_modifier_identity=deployment.last_modifier,
        manager_identity=deployment.manager,
        routing_config_update_state=_COMPLETED,
    )
    set_timestamp(shown.create_time, deployment.created_ns)
    shown.routing_config.CopyFrom(routing_config(name, deployment))
    newest = sorted(
        deployment.versions, key=lambda build: (deployment.versions[build].created_ns, build), reverse=True
    )
    for build_id in newest:
        row = summary(name, deployment, build_id, statuses[build_id], now_ns)
        row.drainage_status = row.drainage_info.status  # for clients of earlier releases
        shown.version_summaries.append(row)
    return shown


def version_info(
    name: str, deployment: Deployment, build_id: str, number: int, now_ns: int
) -> WorkerDeploymentVersionInfo:
    """A version's description. `number` is its status."""
    version = deployment.versions[build_id]
    shown = WorkerDeploymentVersionInfo(
        version=dotted(name, build_id),
        status=number,  # type: ignore[arg-type]  # an enum number
        last_modifier_identity=version.last_modifier,
    )
    shown.deployment_version.CopyFrom(version_message(version_text(name, build_id)))
    for field, source in _TIMES.items():
        set_timestamp(getattr(shown, field), getattr(version, source))
    set_timestamp(shown.routing_changed_time, version.routing_changed_ns)
    if build_id == deployment.ramping:
        shown.ramp_percentage = deployment.percentage
    for queue, kind in version.queues:
        shown.task_queue_infos.add(name=queue, type=kind)
    if number in _DRAINAGE:
        shown.drainage_info.CopyFrom(_drainage(version, number, now_ns))
    for key, data in version.metadata.items():
        shown.metadata.entries[key].CopyFrom(Payload.FromString(data))
    return shown


def _drainage(version: Version, number: int, now_ns: int) -> VersionDrainageInfo:
    shown = VersionDrainageInfo(status=_DRAINAGE[number])
    set_timestamp(shown.last_changed_time, version.last_deactivation_ns)
    set_timestamp(shown.last_checked_time, now_ns)
    return shown
