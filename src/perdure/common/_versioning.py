"""Worker deployments: versions, and what a workflow does when a new one comes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum

import perdure.api.deployment.v1
import perdure.api.enums.v1
import perdure.api.workflow.v1


class VersioningBehavior(IntEnum):
    """When a workflow moves to workers of another build."""

    UNSPECIFIED = 0
    """Not said. A worker that takes part in versioning has to say it."""
    PINNED = 1
    """Stays with its build unless somebody moves it."""
    AUTO_UPGRADE = 2
    """Moves to the current build with its next task."""


@dataclass(frozen=True)
class WorkerDeploymentVersion:
    """One version of one worker deployment."""

    deployment_name: str
    build_id: str

    def to_canonical_string(self) -> str:
        """Return the version as `deployment_name.build_id`."""
        return f"{self.deployment_name}.{self.build_id}"

    @staticmethod
    def from_canonical_string(canonical: str) -> WorkerDeploymentVersion:
        """Read a version written as `deployment_name.build_id`.

        Args:
            canonical: The text; the deployment's name contains no dot.

        Raises:
            ValueError: There is no dot in the text.
        """
        deployment_name, dot, build_id = canonical.partition(".")
        if not dot:
            raise ValueError(
                f"Cannot read the version {canonical!r}: it must look like <deployment_name>.<build_id>"
            )
        return WorkerDeploymentVersion(deployment_name, build_id)

    def _to_proto(self) -> perdure.api.deployment.v1.WorkerDeploymentVersion:
        return perdure.api.deployment.v1.WorkerDeploymentVersion(
            build_id=self.build_id, deployment_name=self.deployment_name
        )


class VersioningOverride(ABC):
    """Replaces, for one workflow, what its workers say about versioning."""

    @abstractmethod
    def _to_proto(self) -> perdure.api.workflow.v1.VersioningOverride: ...


@dataclass(frozen=True)
class PinnedVersioningOverride(VersioningOverride):
    """The workflow stays with one version."""

    version: WorkerDeploymentVersion

    def _to_proto(self) -> perdure.api.workflow.v1.VersioningOverride:
        message = perdure.api.workflow.v1.VersioningOverride
        # Older servers read the first two fields, newer ones the third.
        return message(
            behavior=perdure.api.enums.v1.VersioningBehavior.VERSIONING_BEHAVIOR_PINNED,
            pinned_version=self.version.to_canonical_string(),
            pinned=message.PinnedOverride(
                version=self.version._to_proto(),
                behavior=message.PinnedOverrideBehavior.PINNED_OVERRIDE_BEHAVIOR_PINNED,
            ),
        )


@dataclass(frozen=True)
class AutoUpgradeVersioningOverride(VersioningOverride):
    """The workflow moves to the current version with its next task."""

    def _to_proto(self) -> perdure.api.workflow.v1.VersioningOverride:
        message = perdure.api.workflow.v1.VersioningOverride
        return message(
            behavior=perdure.api.enums.v1.VersioningBehavior.VERSIONING_BEHAVIOR_AUTO_UPGRADE,
            auto_upgrade=True,
        )


@dataclass(frozen=True)
class OneTimeVersioningOverride(VersioningOverride):
    """Tasks go to one version until one of them completes there; then the override is gone."""

    target_version: WorkerDeploymentVersion

    def _to_proto(self) -> perdure.api.workflow.v1.VersioningOverride:
        message = perdure.api.workflow.v1.VersioningOverride
        return message(
            one_time=message.OneTimeOverride(target_deployment_version=self.target_version._to_proto())
        )
