"""Which version a worker's request is of, and the note that its poll leaves in its deployment."""

from __future__ import annotations

from perdure.api.common.v1 import WorkerVersionCapabilities
from perdure.api.deployment.v1 import Deployment, WorkerDeploymentOptions, WorkerDeploymentVersion
from perdure.api.enums.v1 import TaskQueueKind, WorkerVersioningMode
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflow.v1 import VersioningOverride
from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollNexusTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
)
from perdure.core.deployment.routes import (
    UNVERSIONED,
    UNVERSIONED_NAME,
    Routes,
    queue_name,
    split_dotted,
    version_text,
)
from perdure.core.errors import FailedPreconditionError, InvalidArgumentError, UnimplementedError
from perdure.core.run import versioning
from perdure.core.run.limits import Limits
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.deployments import Deployments
from perdure.server.engine.matching import WorkerOptions
from perdure.server.service.checks import MAX_BUILD_ID_BYTES

_VERSIONED = WorkerVersioningMode.Value("WORKER_VERSIONING_MODE_VERSIONED")
_STICKY = TaskQueueKind.Value("TASK_QUEUE_KIND_STICKY")
_OVERHEAD = 41
"""Bytes of the longest id that are not for the two names; so Temporal's server has it."""


async def polled_queue(deployments: Deployments, key: QueueKey, queue: TaskQueue, version: str) -> QueueKey:
    """The queue that a poll waits on, once its worker's version has that queue.

    Args:
        deployments: where it is noted.
        key: the queue by its plain name.
        queue: as the request names it.
        version: of the worker.

    Raises:
        InvalidArgumentError: a sticky queue that does not say whose it is.
        ResourceExhaustedError: the deployment has too many versions or queues.
        UnavailableError: the store cannot write now.
    """
    if not version:
        return key
    if queue.kind == _STICKY:
        if not queue.normal_name:
            raise InvalidArgumentError(
                "NormalName must be set on sticky queue when UseVersioning is true or DeploymentOptions are set."
            )
        return key
    await deployments.register(key.namespace_id, version, key.name, key.kind)
    return key._replace(name=queue_name(key.name, version))


def worker_version(
    capabilities: WorkerVersionCapabilities, options: WorkerDeploymentOptions, limits: Limits
) -> str:
    """The version of a worker whose tasks are routed by it; "" for one without.

    Raises:
        UnimplementedError: it relies on the version sets of earlier releases.
        InvalidArgumentError: a name is missing or not possible.
    """
    if len(capabilities.build_id.encode()) > MAX_BUILD_ID_BYTES:
        raise InvalidArgumentError(
            "Build ID exceeds configured limit.workerBuildIdSize, use a shorter build ID."
        )
    if options.worker_versioning_mode == _VERSIONED:
        if not options.deployment_name or not options.build_id:
            raise InvalidArgumentError("Deployment name and build id must be set together.")
        return checked_version(options.deployment_name, options.build_id, limits)
    if capabilities.use_versioning:
        raise UnimplementedError(
            "version sets are not supported by Perdure; use worker deployments (deployment_options) to route tasks by "
            "version"
        )
    return UNVERSIONED


def worker_options(
    request: PollWorkflowTaskQueueRequest | PollActivityTaskQueueRequest | PollNexusTaskQueueRequest,
) -> WorkerOptions:
    """What a poll says of its worker, for descriptions of the queue."""
    per_second: float | None = None
    if isinstance(request, PollActivityTaskQueueRequest):
        limit = request.task_queue_metadata
        per_second = limit.max_tasks_per_second.value if limit.HasField("max_tasks_per_second") else None
    return WorkerOptions(
        request.worker_version_capabilities if request.HasField("worker_version_capabilities") else None,
        request.deployment_options if request.HasField("deployment_options") else None,
        per_second,
    )


def checked_version(deployment_name: str, build_id: str, limits: Limits) -> str:
    """A version from its two names.

    Raises:
        InvalidArgumentError: one of them is not possible.
    """
    check_deployment_name(deployment_name, limits)
    _check_name("BuildID", build_id, limits)
    return version_text(deployment_name, build_id)


def check_deployment_name(name: str, limits: Limits) -> None:
    """Raises InvalidArgumentError if a deployment cannot have this name."""
    _check_name("WorkerDeploymentName", name, limits)
    for delimiter in ".:":
        if delimiter in name:
            raise InvalidArgumentError(f"worker deployment name cannot contain '{delimiter}'")


def named_version(message: WorkerDeploymentVersion, text: str) -> tuple[str, str]:
    """Deployment name and build id of a request that names a version by message, or by text as earlier ones did.

    Raises:
        InvalidArgumentError: the text is not a version.
    """
    if message.deployment_name or message.build_id:
        return message.deployment_name, message.build_id
    if text == UNVERSIONED_NAME:
        return "", ""
    named = split_dotted(text)
    if named is None:
        raise _no_version(text)
    return named


def named_build_id(name: str, build_id: str, text: str) -> str:
    """The build id that a request on a deployment means, "" for workers without version.

    Args:
        name: of the deployment.
        build_id: as the request names it; heeded without `text`.
        text: a version of the deployment as earlier requests named it.

    Raises:
        InvalidArgumentError: the text is not a version of the deployment.
    """
    if not text:
        return build_id
    if text == UNVERSIONED_NAME:
        return UNVERSIONED
    named = split_dotted(text)
    if named is None:
        raise InvalidArgumentError(f"invalid version string: {_flaw(text)} version string {text}")
    if named[0] != name:
        raise InvalidArgumentError(f"invalid version string '{text}' does not match deployment name '{name}'")
    return named[1]


def _flaw(text: str) -> str:
    """Why a text is no version, as far as "in"."""
    if "." not in text and ":" not in text:
        return "expected delimiter ':' or '.' not found in"
    is_nameless = text.startswith(".") or (text.startswith(":") and "." in text)
    return f"{'deployment name' if is_nameless else 'build id'} is empty in"


def check_override(override: VersioningOverride, routes: Routes, task_queue: str) -> None:
    """Checks a versioning override of a run on a task queue.

    Raises:
        InvalidArgumentError: it does not say what it must.
        FailedPreconditionError: the version that it names has no workers for the queue.
    """
    version = _named_by(override)
    if version is None:
        return
    text = version_text(version.deployment_name, version.build_id)
    if not routes.has(text, task_queue, TaskKind.WORKFLOW):
        raise FailedPreconditionError(
            f"Pinned version '{text}' is not present in task queue '{task_queue}' of type 'Workflow'"
        )


def _named_by(override: VersioningOverride) -> WorkerDeploymentVersion | None:
    """The version that an override names; None for one to follow the routing."""
    kind = override.WhichOneof("override")
    if kind == "auto_upgrade":
        if not override.auto_upgrade:
            raise InvalidArgumentError("auto-upgrade override must be true")
        return None
    if kind == "pinned":
        if not override.pinned.HasField("version"):
            raise InvalidArgumentError("must provide version if override is pinned.")
        if not override.pinned.behavior:
            raise InvalidArgumentError("must specify pinned override behavior if override is pinned.")
        return override.pinned.version
    if kind == "one_time":
        if not override.one_time.HasField("target_deployment_version"):
            raise InvalidArgumentError("must provide target deployment version if override is one-time.")
        return override.one_time.target_deployment_version
    return _named_as_before(override)


def _named_as_before(override: VersioningOverride) -> WorkerDeploymentVersion | None:
    """The same for the form of earlier releases."""
    if not override.behavior:
        raise InvalidArgumentError("override behavior is required")
    if override.behavior == versioning.AUTO_UPGRADE:
        for field, label in (("deployment", "deployment"), ("pinned_version", "pinned version")):
            if getattr(override, field) != type(getattr(override, field))():
                raise InvalidArgumentError(f"only provide {label} if behavior is 'PINNED'")
        return None
    if override.behavior != versioning.PINNED:
        raise InvalidArgumentError(f"override behavior {override.behavior} not recognized")
    if override.HasField("deployment"):
        _check_deployment(override.deployment)
    elif not override.pinned_version:
        raise InvalidArgumentError(
            "must provide deployment (deprecated) or pinned version if behavior is 'PINNED'"
        )
    elif split_dotted(override.pinned_version) is None:
        raise _no_version(override.pinned_version)
    return versioning.normalized(override).pinned.version


def _check_deployment(deployment: Deployment) -> None:
    if not deployment.series_name:
        raise InvalidArgumentError("deployment name cannot be empty")
    if "." in deployment.series_name or ":" in deployment.series_name:
        raise InvalidArgumentError("deployment name cannot contain '.' or ':'")
    if not deployment.build_id:
        raise InvalidArgumentError("deployment build ID cannot be empty")


def _no_version(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f'invalid version string "{text}", expected format is "<deployment_name>.<build_id>"'
    )


def _check_name(label: str, value: str, limits: Limits) -> None:
    if not value:
        raise InvalidArgumentError(f"{label} cannot be empty")
    if len(value.encode()) > (limits.id_bytes - _OVERHEAD) // 2:
        raise InvalidArgumentError(f"size of {label} larger than the maximum allowed")
    if value.startswith("__"):
        raise InvalidArgumentError(f"{label} cannot start with '__'")
