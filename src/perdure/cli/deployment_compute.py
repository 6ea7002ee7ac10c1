"""How a server that starts workers itself reaches them: flags of worker deployments, turned into messages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from perdure.api.compute import v1 as compute
from perdure.api.protobuf import FieldMask
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import payloads
from perdure.cli.command import Flags
from perdure.cli.errors import WrongUsageError

COMPUTE: Final[f.FlagGroup] = (
    f.text("--aws-lambda-function-arn", metavar="ARN", help="AWS Lambda function that works."),
    f.text("--aws-lambda-assume-role-arn", metavar="ARN", help="Role in which it is called."),
    f.text("--aws-lambda-assume-role-external-id", metavar="ID", help="External id of that role."),
    f.switch("--aws-lambda-skip-role-and-external-id", help="Call it without a role."),
    f.text("--aws-agentcore-endpoint-arn", metavar="ARN", help="AWS Bedrock AgentCore endpoint that works."),
    f.text("--aws-agentcore-assume-role-arn", metavar="ARN", help="Role in which it is called."),
    f.text("--aws-agentcore-assume-role-external-id", metavar="ID", help="External id of that role."),
    f.switch("--aws-agentcore-skip-role-and-external-id", help="Call it without a role."),
    f.text("--gcp-cloud-run-project", metavar="NAME", help="Project of the Cloud Run worker pool."),
    f.text("--gcp-cloud-run-region", metavar="NAME", help="Its region."),
    f.text("--gcp-cloud-run-worker-pool", metavar="NAME", help="Name of the worker pool."),
    f.text("--gcp-cloud-run-service-account", metavar="NAME", help="Account in whose name it is scaled."),
    f.integer("--gcp-cloud-run-min-instances", help="At least so many workers."),
    f.integer("--gcp-cloud-run-max-instances", help="At most so many workers."),
    f.integer("--gcp-cloud-run-initial-instances", help="So many workers at first."),
    f.number("--gcp-cloud-run-utilization-target", help="Busy share of workers to aim at, up to 1."),
    f.duration(
        "--gcp-cloud-run-scale-down-stabilization-duration", help="Wait so long before there are fewer."
    ),
)
_GROUP: Final = "default"
_LAMBDA, _AGENTCORE, _CLOUD_RUN = "aws-lambda", "aws-agentcore", "gcp-cloud-run"
_SCALERS: Final = {_LAMBDA: "no-sync", _AGENTCORE: "no-sync", _CLOUD_RUN: "rate-based"}
_DETAILS: Final = {
    _LAMBDA: {
        "arn": "aws_lambda_function_arn",
        "role": "aws_lambda_assume_role_arn",
        "role_external_id": "aws_lambda_assume_role_external_id",
    },
    _AGENTCORE: {
        "endpoint_arn": "aws_agentcore_endpoint_arn",
        "role": "aws_agentcore_assume_role_arn",
        "role_external_id": "aws_agentcore_assume_role_external_id",
    },
    _CLOUD_RUN: {
        "project": "gcp_cloud_run_project",
        "region": "gcp_cloud_run_region",
        "worker_pool": "gcp_cloud_run_worker_pool",
        "service_account": "gcp_cloud_run_service_account",
    },
}
"""Provider to its details: key to flag."""
_WITHOUT_ROLE: Final = {
    _LAMBDA: ("arn", "aws_lambda_skip_role_and_external_id"),
    _AGENTCORE: ("endpoint_arn", "aws_agentcore_skip_role_and_external_id"),
}
"""Provider to the one detail that it needs with a flag, and that flag."""
_SCALING: Final = {
    "min_count": "gcp_cloud_run_min_instances",
    "max_count": "gcp_cloud_run_max_instances",
    "initial_count": "gcp_cloud_run_initial_instances",
    "utilization_target": "gcp_cloud_run_utilization_target",
    "no_sync_quiet_ms": "gcp_cloud_run_scale_down_stabilization_duration",
}


def scaling_groups(flags: Flags) -> compute.ComputeConfig:
    """What a new version needs.

    Raises:
        WrongUsageError: the flags say nothing, too little, or contradict each other.
    """
    provider = _provider(flags)
    if provider is None:
        raise WrongUsageError(
            "--aws-lambda-function-arn, --aws-agentcore-endpoint-arn or --gcp-cloud-run-worker-pool is needed"
        )
    group = compute.ComputeConfigScalingGroup(
        provider=provider,
        scaler=compute.ComputeScaler(type=_SCALERS[provider.type], details=_scaling(flags, provider.type)),
    )
    return compute.ComputeConfig(scaling_groups={_GROUP: group})


def scaling_group_updates(
    flags: Flags, request: service.UpdateWorkerDeploymentVersionComputeConfigRequest
) -> None:
    """Fills a request that changes a version.

    Raises:
        WrongUsageError: the flags say nothing, too little, or contradict each other.
    """
    provider = _provider(flags)
    is_scaled = any(flags.get(flag) is not None for flag in _SCALING.values())
    if flags.remove:
        if provider is not None or is_scaled:
            raise WrongUsageError("--remove cannot be used with what is to be there instead")
        request.remove_compute_config_scaling_groups.append(_GROUP)
        return
    if provider is None and not is_scaled:
        raise WrongUsageError("nothing is to be changed; give --remove or what is to be there instead")
    kind = provider.type if provider is not None else _CLOUD_RUN
    details = _scaling(flags, kind)
    group = compute.ComputeConfigScalingGroup(scaler=compute.ComputeScaler(details=details))
    paths = ["scaler.details"] if details is not None or kind != _CLOUD_RUN else []
    if provider is not None:
        group.provider.CopyFrom(provider)
        group.scaler.type = _SCALERS[kind]
        paths = ["provider.type", "provider.details", "scaler.type", *paths]
    update = compute.ComputeConfigScalingGroupUpdate(scaling_group=group, update_mask=FieldMask(paths=paths))
    request.compute_config_scaling_groups[_GROUP].CopyFrom(update)


def _provider(flags: Flags) -> compute.ComputeProvider | None:
    given = [kind for kind, keys in _DETAILS.items() if any(flags.get(flag) for flag in keys.values())]
    if not given:
        return None
    if len(given) > 1:
        raise WrongUsageError(
            "--aws-lambda-*, --aws-agentcore-* and --gcp-cloud-run-* cannot be used together"
        )
    (kind,) = given
    details = {key: flags.get(flag) for key, flag in _DETAILS[kind].items() if flags.get(flag)}
    needed = set(_DETAILS[kind])
    only, skip = _WITHOUT_ROLE.get(kind, ("", ""))
    if skip and flags.get(skip):
        needed = {only}
        if details.keys() - needed:
            raise WrongUsageError(f"--{skip.replace('_', '-')} cannot be used with a role")
    missing = [
        f"--{_DETAILS[kind][key].replace('_', '-')}"
        for key in _DETAILS[kind]
        if key in needed - details.keys()
    ]
    if missing:
        raise WrongUsageError(f"{', '.join(missing)} needed as well")
    return compute.ComputeProvider(type=kind, details=payloads.json_payload(details))


def _scaling(flags: Flags, kind: str) -> Any:
    """Details of the scaler, None without any."""
    values = {key: flags.get(flag) for key, flag in _SCALING.items() if flags.get(flag) is not None}
    if not values:
        return None
    if kind != _CLOUD_RUN:
        raise WrongUsageError("limits of instances are for --gcp-cloud-run-worker-pool")
    if len(values) < len(_SCALING):
        raise WrongUsageError(
            "--gcp-cloud-run-{min,max,initial}-instances, --gcp-cloud-run-utilization-target and "
            "--gcp-cloud-run-scale-down-stabilization-duration belong together"
        )
    if (
        not 0 <= values["min_count"] <= values["initial_count"] <= values["max_count"]
        or values["max_count"] < 1
    ):
        raise WrongUsageError("instances must be 0 <= min <= initial <= max, and max at least 1")
    if not 0 < values["utilization_target"] <= 1:
        raise WrongUsageError("--gcp-cloud-run-utilization-target must be more than 0 and at most 1")
    values["no_sync_quiet_ms"] = values["no_sync_quiet_ms"] // timedelta(milliseconds=1)
    return payloads.json_payload(values)
