"""How a deployment changes: from its state and what is asked for to the next state, or to a typed error.

Source: workflowservice.v1 requests on worker deployments; the messages of errors are what clients know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from perdure.api.enums.v1 import ResourceExhaustedCause, ResourceExhaustedScope
from perdure.core.deployment.routes import version_text
from perdure.core.deployment.state import Deployment, Version
from perdure.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    TooManyVersionsError,
)

MAX_VERSIONS = 100
MAX_QUEUES = 100
"""Of a version: names, whatever its workers poll them for."""
MAX_METADATA_BYTES = 64 * 1024
"""Of a version, keys and values: deployments are all in memory, and written whole."""

CREATED_BY_POLL = "_auto_create_"
"""In place of the id of a request that made a deployment: a worker's poll did."""
_LIMITS = ResourceExhaustedCause.Value("RESOURCE_EXHAUSTED_CAUSE_WORKER_DEPLOYMENT_LIMITS")
_NAMESPACE = ResourceExhaustedScope.Value("RESOURCE_EXHAUSTED_SCOPE_NAMESPACE")


def limit_reached(message: str) -> ResourceExhaustedError:
    """The error of a limit on deployments."""
    return ResourceExhaustedError(message, _LIMITS, _NAMESPACE)


def token_at(now_ns: int, revision: int) -> bytes:
    """The conflict token of a change: its time, and the revision that tells changes of one instant apart."""
    return now_ns.to_bytes(8, "big") + revision.to_bytes(8, "big")


def registered(
    name: str, deployment: Deployment, build_id: str, queue: tuple[str, int], now_ns: int
) -> Deployment:
    """After a worker of a version polled a queue. Returns the same state if that was known.

    Raises:
        TooManyVersionsError: too many versions.
        ResourceExhaustedError: too many queues.
    """
    version = deployment.versions.get(build_id)
    if version is not None and queue in version.queues and not version.is_created_by_hand:
        return deployment
    if version is None:
        deployment = with_version(name, deployment, build_id, Version(created_ns=now_ns))
        version = deployment.versions[build_id]
    names = {known for known, _ in version.queues}
    if queue[0] not in names and len(names) >= MAX_QUEUES:
        raise limit_reached(
            f"cannot add task queue {queue[0]} since maximum number of task queues ({MAX_QUEUES}) have been "
            "registered in deployment"
        )
    queues = version.queues if queue in version.queues else tuple(sorted({*version.queues, queue}))
    return _put(deployment, {build_id: replace(version, queues=queues, is_created_by_hand=False)})


def created(
    name: str, deployment: Deployment, build_id: str, now_ns: int, *, identity: str, request_id: str
) -> Deployment:
    """With a version that was made by a request. Returns the same state if that request made it before.

    Raises:
        AlreadyExistsError: it is there.
        TooManyVersionsError: there are too many.
    """
    found = deployment.versions.get(build_id)
    if found is not None:
        if request_id and found.create_request_id == request_id:
            return deployment
        raise AlreadyExistsError(f'Worker Deployment Version "{name}.{build_id}" already exists')
    version = Version(
        created_ns=now_ns, is_created_by_hand=True, create_request_id=request_id, last_modifier=identity
    )
    return with_version(name, deployment, build_id, version)


def with_version(name: str, deployment: Deployment, build_id: str, version: Version) -> Deployment:
    """With one more version.

    Raises:
        TooManyVersionsError: there are too many.
    """
    if len(deployment.versions) >= MAX_VERSIONS:
        raise TooManyVersionsError(
            f"cannot add version {name}.{build_id} since maximum number of versions ({MAX_VERSIONS}) have been "
            "registered in the deployment",
            _LIMITS,
            _NAMESPACE,
        )
    return _put(deployment, {build_id: version})


def set_current(
    name: str,
    deployment: Deployment,
    build_id: str,
    now_ns: int,
    *,
    identity: str,
    token: bytes = b"",
    may_create: bool = False,
) -> Deployment:
    """With another current version; build id "" for none. Returns the same state if nothing changes.

    Raises:
        FailedPreconditionError: the conflict token is another one, or the manager is somebody else.
        NotFoundError: there is no such version.
    """
    if deployment.current == build_id and deployment.last_modifier == identity:
        return deployment
    _check(name, deployment, build_id, identity, token, may_create)
    if build_id and build_id not in deployment.versions:
        deployment = with_version(name, deployment, build_id, Version(created_ns=now_ns))
    before = deployment.current
    revision = deployment.revision
    changes: dict[str, Version] = {}
    if before != build_id:
        revision += 1
        if before:
            changes[before] = _deactivated(deployment.versions[before], now_ns)
        if build_id:
            changes[build_id] = replace(
                _activated(deployment.versions[build_id], now_ns),
                current_since_ns=now_ns,
                last_current_ns=now_ns,
                ramping_since_ns=0,
            )
        deployment = replace(deployment, current=build_id, current_changed_ns=now_ns)
        if deployment.ramping == build_id:
            deployment = replace(
                deployment,
                ramping=None,
                percentage=0.0,
                ramping_changed_ns=now_ns,
                percentage_changed_ns=now_ns,
            )
    return _changed(_put(deployment, changes), revision, now_ns, identity)


def set_ramping(
    name: str,
    deployment: Deployment,
    build_id: str | None,
    percentage: float,
    now_ns: int,
    *,
    identity: str,
    token: bytes = b"",
    may_create: bool = False,
) -> Deployment:
    """With another ramping version or percentage; None for no ramp. Returns the same state if nothing changes.

    Raises:
        FailedPreconditionError: the conflict token is another one, the manager is somebody else, or the version is the
            current one.
        NotFoundError: there is no such version.
    """
    is_same = deployment.ramping == build_id and deployment.percentage == percentage
    if is_same and deployment.last_modifier == identity:
        return deployment
    if token and token != deployment.token:
        raise FailedPreconditionError("conflict token mismatch")
    if build_id is not None and deployment.current == build_id:
        shown = version_text(name, build_id).replace(":", ".", 1) if build_id else "__unversioned__"
        raise FailedPreconditionError(f"requested ramping version {shown} is already current")
    _check(name, deployment, build_id or "", identity, token, may_create)
    if build_id and build_id not in deployment.versions:
        deployment = with_version(name, deployment, build_id, Version(created_ns=now_ns))
    if is_same:
        return _changed(deployment, deployment.revision, now_ns, identity)
    before = deployment.ramping
    changes: dict[str, Version] = {}
    if before != build_id:
        if before:
            changes[before] = _deactivated(deployment.versions[before], now_ns)
        deployment = replace(deployment, ramping=build_id, ramping_changed_ns=now_ns)
    if build_id:
        version = _activated(deployment.versions[build_id], now_ns)
        changes[build_id] = replace(version, ramping_since_ns=version.ramping_since_ns or now_ns)
    deployment = replace(
        deployment, percentage=percentage if build_id is not None else 0.0, percentage_changed_ns=now_ns
    )
    return _changed(_put(deployment, changes), deployment.revision + 1, now_ns, identity)


def set_manager(
    deployment: Deployment, manager: str, now_ns: int, *, identity: str, token: bytes
) -> Deployment:
    """With another manager; "" for none. Returns the same state if nothing changes.

    Raises:
        FailedPreconditionError: the conflict token is another one.
    """
    if deployment.manager == manager and deployment.last_modifier == identity:
        return deployment
    if token and token != deployment.token:
        raise FailedPreconditionError("conflict token mismatch")
    return _changed(replace(deployment, manager=manager), deployment.revision, now_ns, identity)


def without_version(name: str, deployment: Deployment, build_id: str, *, identity: str | None) -> Deployment:
    """Without a version. Whether it still has workers or runs is checked by the caller.

    Args:
        name, deployment, build_id: which one.
        identity: of who wants that; None for the server itself, which needs no manager's leave.

    Raises:
        FailedPreconditionError: it is current or ramping, or the manager is somebody else.
    """
    if build_id in (deployment.current, deployment.ramping):
        raise FailedPreconditionError(
            f"version '{version_text(name, build_id)}' cannot be deleted since it is current or ramping"
        )
    if identity is None:
        identity = deployment.last_modifier
    else:
        check_manager(deployment, identity)
    left = {build: version for build, version in deployment.versions.items() if build != build_id}
    return replace(deployment, versions=left, last_modifier=identity)


def with_metadata(
    name: str,
    deployment: Deployment,
    build_id: str,
    upserts: Mapping[str, bytes],
    removals: Iterable[str],
    identity: str,
) -> Deployment:
    """With other metadata of a version.

    Raises:
        NotFoundError: the deployment has no such version.
        InvalidArgumentError: it would be too large.
    """
    version = deployment.versions.get(build_id)
    if version is None:
        raise no_build_id(name, build_id)
    metadata = {**version.metadata, **upserts}
    for key in removals:
        metadata.pop(key, None)
    size = sum(len(key.encode()) + len(value) for key, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise InvalidArgumentError(
            f"metadata of the version exceeds size limit. Length={size} Limit={MAX_METADATA_BYTES}"
        )
    return _put(deployment, {build_id: replace(version, metadata=metadata, last_modifier=identity)})


def check_manager(deployment: Deployment, identity: str) -> None:
    """Raises FailedPreconditionError if the deployment has a manager and it is somebody else."""
    if deployment.manager and deployment.manager != identity:
        raise FailedPreconditionError(
            f"ManagerIdentity '{deployment.manager}' is set and does not match user identity '{identity}'; to proceed, "
            "set your own identity as the ManagerIdentity, remove the ManagerIdentity, or wait for the other client to "
            "do so"
        )


def missing_queues(deployment: Deployment, build_id: str) -> list[tuple[str, int]]:
    """Queues of the current version that another version was never polled on."""
    if not deployment.current or not build_id:
        return []
    version = deployment.versions.get(build_id)
    known = set(version.queues) if version is not None else set()
    return [queue for queue in deployment.versions[deployment.current].queues if queue not in known]


def _check(
    name: str, deployment: Deployment, build_id: str, identity: str, token: bytes, may_create: bool
) -> None:
    if token and token != deployment.token:
        raise FailedPreconditionError("conflict token mismatch")
    if build_id and build_id not in deployment.versions and not may_create:
        raise no_build_id(name, build_id)
    check_manager(deployment, identity)


def no_build_id(name: str, build_id: str) -> NotFoundError:
    """The error for a version that a deployment does not have."""
    return NotFoundError(f"build ID '{build_id}' not found in Worker Deployment '{name}'")


def _activated(version: Version, now_ns: int) -> Version:
    return replace(
        version,
        routing_changed_ns=now_ns,
        first_activation_ns=version.first_activation_ns or now_ns,
        last_deactivation_ns=0,
    )


def _deactivated(version: Version, now_ns: int) -> Version:
    return replace(
        version,
        current_since_ns=0,
        ramping_since_ns=0,
        routing_changed_ns=now_ns,
        last_deactivation_ns=now_ns,
    )


def _put(deployment: Deployment, changes: Mapping[str, Version]) -> Deployment:
    return replace(deployment, versions={**deployment.versions, **changes}) if changes else deployment


def _changed(deployment: Deployment, revision: int, now_ns: int, identity: str) -> Deployment:
    return replace(deployment, revision=revision, last_modifier=identity, token=token_at(now_ns, revision))
