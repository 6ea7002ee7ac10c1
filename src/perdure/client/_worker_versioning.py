"""Sets of compatible build ids, the first form of worker versioning. Deprecated in Temporal; kept for moving over.

May live here: values of those calls. May not: worker deployments, which replaced them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service_api


@dataclass(frozen=True)
class BuildIdVersionSet:
    """Build ids that can take over each other's workflows."""

    build_ids: Sequence[str]
    """The build ids; the last one is the set's default."""

    def default(self) -> str:
        """Return the set's default build id."""
        return self.build_ids[-1]


@dataclass(frozen=True)
class WorkerBuildIdVersionSets:
    """The sets of a task queue."""

    version_sets: Sequence[BuildIdVersionSet]
    """The sets; the last one gets new workflows."""

    def default_set(self) -> BuildIdVersionSet:
        """Return the set that gets new workflows."""
        return self.version_sets[-1]

    def default_build_id(self) -> str:
        """Return the build id that gets new workflows."""
        return self.default_set().default()

    @staticmethod
    def _from_proto(
        resp: service_api.GetWorkerBuildIdCompatibilityResponse,
    ) -> WorkerBuildIdVersionSets:
        return WorkerBuildIdVersionSets(
            [BuildIdVersionSet(sets.build_ids) for sets in resp.major_version_sets]
        )


class BuildIdOp(ABC):
    """A change of the sets."""

    @abstractmethod
    def _as_partial_proto(self) -> service_api.UpdateWorkerBuildIdCompatibilityRequest:
        """The request, without namespace and task queue."""


@dataclass(frozen=True)
class BuildIdOpAddNewDefault(BuildIdOp):
    """Adds a build id in a new set, which gets new workflows."""

    build_id: str

    def _as_partial_proto(self) -> service_api.UpdateWorkerBuildIdCompatibilityRequest:
        return _request(add_new_build_id_in_new_default_set=self.build_id)


@dataclass(frozen=True)
class BuildIdOpAddNewCompatible(BuildIdOp):
    """Adds a build id to the set of another one."""

    build_id: str
    existing_compatible_build_id: str
    promote_set: bool = False
    """Whether that set gets new workflows then."""

    def _as_partial_proto(self) -> service_api.UpdateWorkerBuildIdCompatibilityRequest:
        request = service_api.UpdateWorkerBuildIdCompatibilityRequest
        return _request(
            add_new_compatible_build_id=request.AddNewCompatibleVersion(
                new_build_id=self.build_id,
                existing_compatible_build_id=self.existing_compatible_build_id,
                make_set_default=self.promote_set,
            )
        )


@dataclass(frozen=True)
class BuildIdOpPromoteSetByBuildId(BuildIdOp):
    """Lets the set of a build id get new workflows."""

    build_id: str

    def _as_partial_proto(self) -> service_api.UpdateWorkerBuildIdCompatibilityRequest:
        return _request(promote_set_by_build_id=self.build_id)


@dataclass(frozen=True)
class BuildIdOpPromoteBuildIdWithinSet(BuildIdOp):
    """Makes a build id the default of its set."""

    build_id: str

    def _as_partial_proto(self) -> service_api.UpdateWorkerBuildIdCompatibilityRequest:
        return _request(promote_build_id_within_set=self.build_id)


@dataclass(frozen=True)
class BuildIdOpMergeSets(BuildIdOp):
    """Merges the sets of two build ids."""

    primary_build_id: str
    secondary_build_id: str

    def _as_partial_proto(self) -> service_api.UpdateWorkerBuildIdCompatibilityRequest:
        request = service_api.UpdateWorkerBuildIdCompatibilityRequest
        return _request(
            merge_sets=request.MergeSets(
                primary_set_build_id=self.primary_build_id, secondary_set_build_id=self.secondary_build_id
            )
        )


def _request(**operation: Any) -> service_api.UpdateWorkerBuildIdCompatibilityRequest:
    return service_api.UpdateWorkerBuildIdCompatibilityRequest(**operation)


class TaskReachabilityType(Enum):
    """Which workflows may still have tasks for a build id."""

    NEW_WORKFLOWS = 1
    EXISTING_WORKFLOWS = 2
    OPEN_WORKFLOWS = 3
    CLOSED_WORKFLOWS = 4

    @staticmethod
    def _from_proto(reachability: int) -> TaskReachabilityType:
        for member, number in _REACHABILITY.items():
            if number == reachability:
                return member
        raise ValueError(f"Cannot convert reachability type: {reachability}")

    def _to_proto(self) -> Any:
        return _REACHABILITY[self]


_REACHABILITY: Mapping[TaskReachabilityType, int] = {
    TaskReachabilityType.NEW_WORKFLOWS: int(enums.TASK_REACHABILITY_NEW_WORKFLOWS),
    TaskReachabilityType.EXISTING_WORKFLOWS: int(enums.TASK_REACHABILITY_EXISTING_WORKFLOWS),
    TaskReachabilityType.OPEN_WORKFLOWS: int(enums.TASK_REACHABILITY_OPEN_WORKFLOWS),
    TaskReachabilityType.CLOSED_WORKFLOWS: int(enums.TASK_REACHABILITY_CLOSED_WORKFLOWS),
}


@dataclass(frozen=True)
class BuildIdReachability:
    """Where one build id may still get tasks."""

    task_queue_reachability: Mapping[str, Sequence[TaskReachabilityType]]
    """From which workflows, by task queue."""

    unretrieved_task_queues: frozenset[str]
    """Task queues that the server did not look at; ask for them alone."""


@dataclass(frozen=True)
class WorkerTaskReachability:
    """Where build ids may still get tasks."""

    build_id_reachability: Mapping[str, BuildIdReachability]
    """By build id."""

    @staticmethod
    def _from_proto(resp: service_api.GetWorkerTaskReachabilityResponse) -> WorkerTaskReachability:
        found: dict[str, BuildIdReachability] = {}
        for build in resp.build_id_reachability:
            reached: dict[str, Sequence[TaskReachabilityType]] = {}
            unretrieved: set[str] = set()
            for queue in build.task_queue_reachability:
                if list(queue.reachability) == [enums.TASK_REACHABILITY_UNSPECIFIED]:
                    unretrieved.add(queue.task_queue)
                else:
                    reached[queue.task_queue] = [
                        TaskReachabilityType._from_proto(kind) for kind in queue.reachability
                    ]
            found[build.build_id] = BuildIdReachability(reached, frozenset(unretrieved))
        return WorkerTaskReachability(found)
