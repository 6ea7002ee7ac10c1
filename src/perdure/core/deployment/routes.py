"""Which worker version the tasks of a queue go to: versions as text, the routes of a namespace, and the ramp.

A version is written `deployment:build` here, and "" stands for workers without one; a deployment's name has no colon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from perdure.api.deployment.v1 import WorkerDeploymentVersion
from perdure.core.run.records import TaskKind

UNVERSIONED = ""
UNVERSIONED_NAME = "__unversioned__"
"""The workers without version, where requests and answers name versions as earlier releases did."""
QueueName = tuple[str, TaskKind]
"""A task queue of a namespace: its name and kind."""
_QUEUE_PREFIX = "/_sys/version/"
_HASHES = 2**32


def version_text(deployment_name: str, build_id: str) -> str:
    """A version as text."""
    return f"{deployment_name}:{build_id}"


def split_version(version: str) -> tuple[str, str]:
    """Deployment name and build id of a version."""
    deployment_name, _, build_id = version.partition(":")
    return deployment_name, build_id


def split_dotted(version: str) -> tuple[str, str] | None:
    """Deployment name and build id of a version as earlier releases wrote it, `deployment.build`; None if it is none.

    A colon before the first dot separates as well: so do versions that a new command printed and an old one sends.
    """
    dot, colon = version.find("."), version.find(":")
    end = colon if 0 <= colon < dot else dot
    return (version[:end], version[end + 1 :]) if 0 < end < len(version) - 1 else None


def dotted(version: str) -> str:
    """A version as earlier releases wrote it."""
    return version.replace(":", ".", 1) if version else UNVERSIONED_NAME


def version_message(version: str) -> WorkerDeploymentVersion:
    """A version as messages name it."""
    deployment_name, build_id = split_version(version)
    return WorkerDeploymentVersion(deployment_name=deployment_name, build_id=build_id)


def message_text(message: WorkerDeploymentVersion) -> str:
    """A message's version as text; "" for an empty one."""
    if not message.deployment_name and not message.build_id:
        return UNVERSIONED
    return version_text(message.deployment_name, message.build_id)


def queue_name(name: str, version: str) -> str:
    """The task queue that a version's workers poll for a queue of this name; without a version, that queue itself."""
    return f"{_QUEUE_PREFIX}{len(name)}/{name}/{version}" if version else name


def plain_name(name: str) -> str:
    """The name of the task queue whose part for a version this is; the same for one that is no version's."""
    if not name.startswith(_QUEUE_PREFIX):
        return name
    length, _, rest = name.removeprefix(_QUEUE_PREFIX).partition("/")
    return rest[: int(length)]


@dataclass(frozen=True, slots=True)
class Route:
    """Where the tasks of one queue go that are not pinned.

    Attributes:
        current: a version.
        ramping: another one, which gets `percentage` of the workflows.
        percentage: 0 to 100.
        revision: of the deployment whose routing this is.
        ramping_revision: of the deployment whose ramp it is.
    """

    current: str = UNVERSIONED
    ramping: str = UNVERSIONED
    percentage: float = 0.0
    revision: int = 0
    ramping_revision: int = 0

    def target(self, workflow_id: str, *, prefers_ramp: bool = False) -> tuple[str, int]:
        """The version for a workflow, and the revision of the routing that says so.

        Args:
            workflow_id: decides by its hash, the same each time.
            prefers_ramp: the ramping version if there is one, whatever the hash.
        """
        if self.ramping and prefers_ramp:
            return self.ramping, self.ramping_revision
        if self.percentage > 0 and ramp_position(workflow_id) <= self.percentage:
            return self.ramping, self.ramping_revision
        return self.current, self.revision


_NOWHERE = Route()


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes of a namespace.

    Attributes:
        by_queue: for queues that a version was ever polled on.
        members: queues by version.
    """

    by_queue: Mapping[QueueName, Route] = field(default_factory=dict)
    members: Mapping[str, frozenset[QueueName]] = field(default_factory=dict)

    def route(self, name: str, kind: TaskKind) -> Route:
        """The route of a queue; one to workers without version if none is set."""
        return self.by_queue.get((name, kind), _NOWHERE)

    def has(self, version: str, name: str, kind: TaskKind) -> bool:
        """Whether workers of the version polled the queue."""
        return (name, kind) in self.members.get(version, frozenset())


NO_ROUTES = Routes()
"""Of a namespace without worker versions."""


def ramp_position(workflow_id: str) -> float:
    """A number above 0 and at most 100 that stays the same for a workflow id."""
    digest = blake2b(workflow_id.encode(), digest_size=4).digest()
    return 100 * (int.from_bytes(digest, "big") + 1) / _HASHES
