"""What is kept of a worker deployment, and the routes that all deployments of a namespace make together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from perdure.core.deployment.routes import UNVERSIONED, QueueName, Route, Routes, version_text
from perdure.core.run.records import TaskKind
from perdure.core.run.state import Record

_UNSET = (False, 0)
"""The strength of a deployment's claim on a queue: whether it leads to a version, and when it changed. Here: never."""


class Version(Record):
    """One version of a deployment. Times are nanoseconds since the epoch; 0: never."""

    created_ns: int = 0
    is_created_by_hand: bool = False
    """It was made by a request, and no worker has polled yet."""
    create_request_id: str = ""
    current_since_ns: int = 0
    ramping_since_ns: int = 0
    routing_changed_ns: int = 0
    first_activation_ns: int = 0
    last_current_ns: int = 0
    last_deactivation_ns: int = 0
    """When it last ceased to be current or ramping; it drains since then."""
    last_modifier: str = ""
    metadata: Mapping[str, bytes] = msgspec.field(default_factory=dict)
    """Serialised temporal.api.common.v1.Payload by key."""
    queues: tuple[tuple[str, int], ...] = ()
    """Name and kind of each task queue that its workers polled."""


class Deployment(Record):
    """A deployment with its versions by build id. Build id "" stands for workers without version."""

    created_ns: int = 0
    create_request_id: str = ""
    token: bytes = b""
    """The conflict token of the last change of routing or manager; registering versions leaves it."""
    last_modifier: str = ""
    manager: str = ""
    current: str = ""
    ramping: str | None = None
    """None: nothing ramps."""
    percentage: float = 0.0
    current_changed_ns: int = 0
    ramping_changed_ns: int = 0
    percentage_changed_ns: int = 0
    revision: int = 0
    versions: Mapping[str, Version] = msgspec.field(default_factory=dict)


def routes(deployments: Iterable[tuple[str, Deployment]]) -> Routes:
    """The routes of a namespace, from the names and states of its deployments.

    A queue that versions of more than one deployment were polled on follows the one that changed last; but what leads
    to a version is stronger than what leads to none, however new that is.
    """
    by_queue: dict[QueueName, Route] = {}
    members: dict[str, frozenset[QueueName]] = {}
    current_by: dict[QueueName, tuple[bool, int]] = {}
    ramping_by: dict[QueueName, tuple[bool, int]] = {}
    for name, deployment in deployments:
        for build_id, version in deployment.versions.items():
            queues = [(queue, TaskKind(kind)) for queue, kind in version.queues]
            members[version_text(name, build_id)] = frozenset(queues)
            for queue in queues:  # not in the order of a set: tasks are sent on in this one
                by_queue.setdefault(queue, Route())
        known = {queue for build in deployment.versions for queue in members[version_text(name, build)]}
        current = _full(name, deployment.current)
        strength = (bool(current), deployment.current_changed_ns)
        for queue in members.get(current, frozenset()) if current else known:
            if strength > current_by.get(queue, _UNSET):
                current_by[queue] = strength
                by_queue[queue] = _with_current(by_queue[queue], current, deployment.revision)
        ramping = _full(name, deployment.ramping or "")
        strength = (bool(ramping), deployment.percentage_changed_ns)
        for queue in members.get(ramping, frozenset()) if ramping else known:
            if strength > ramping_by.get(queue, _UNSET):
                ramping_by[queue] = strength
                by_queue[queue] = _with_ramp(by_queue[queue], ramping, deployment)
    return Routes(by_queue, members)


def _full(name: str, build_id: str) -> str:
    return version_text(name, build_id) if build_id else UNVERSIONED


def _with_current(route: Route, current: str, revision: int) -> Route:
    return Route(current, route.ramping, route.percentage, revision, route.ramping_revision)


def _with_ramp(route: Route, ramping: str, deployment: Deployment) -> Route:
    return Route(route.current, ramping, deployment.percentage, route.revision, deployment.revision)
