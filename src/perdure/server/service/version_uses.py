"""What still uses the versions of worker deployments: open runs that are pinned to them, workers that poll.

Lives here: a version's status, and which version may go. May not: what requests on deployments say.
"""

from __future__ import annotations

from perdure.core.deployment.routes import queue_name, version_text
from perdure.core.deployment.state import Deployment
from perdure.core.errors import FailedPreconditionError
from perdure.core.run.records import QueueKey, TaskKind
from perdure.core.visibility import And, Attribute, AttributeType, Comparison, IsNull, Operator
from perdure.server.deployments import Deployments
from perdure.server.engine.engine import Engine
from perdure.server.service import deployment_messages as shown


class VersionUses:
    """What uses the versions of deployments.

    Args:
        engine: runs and pollers.
        deployments: the registry; a full deployment asks here what may go.
    """

    def __init__(self, engine: Engine, deployments: Deployments) -> None:
        self._engine = engine
        self._deployments = deployments
        deployments.find_removable = self.removable

    async def status(self, namespace_id: str, name: str, deployment: Deployment, build_id: str) -> int:
        """The WorkerDeploymentVersionStatus number of a version of a deployment, whose state is given: it may be gone
        from the registry before the answer is there."""
        number = shown.status(deployment, build_id, is_drained=False)
        if number == shown.DRAINING and not await self._pinned_runs(namespace_id, name, build_id):
            return shown.DRAINED
        if number == shown.INACTIVE and await self._pinned_runs(namespace_id, name, build_id):
            return shown.DRAINING  # by overrides: it never was current, and yet runs wait for its workers
        return number

    async def check_unused(
        self,
        namespace_id: str,
        name: str,
        deployment: Deployment,
        build_id: str,
        *,
        skip_drainage: bool = False,
    ) -> None:
        """Checks that a version that is neither current nor ramping may be deleted.

        Raises:
            FailedPreconditionError: open runs are pinned to it, or workers poll.
        """
        version = version_text(name, build_id)
        if (
            not skip_drainage
            and await self.status(namespace_id, name, deployment, build_id) == shown.DRAINING
        ):
            raise FailedPreconditionError(f"version '{version}' cannot be deleted since it is draining")
        for queue, kind in deployment.versions[build_id].queues:
            key = QueueKey(namespace_id, queue_name(queue, version), TaskKind(kind))
            if self._engine.matching.recent_pollers(key):
                raise FailedPreconditionError(
                    f"version '{version}' cannot be deleted since it has active pollers"
                )

    async def removable(self, namespace_id: str, name: str) -> str | None:
        """The build id of a deployment's oldest version that nothing uses; None if everything is in use."""
        deployment = self._deployments.get(namespace_id, name)
        for build_id in sorted(deployment.versions, key=lambda build: deployment.versions[build].created_ns):
            if build_id in (deployment.current, deployment.ramping):
                continue
            try:
                await self.check_unused(namespace_id, name, deployment, build_id)
            except FailedPreconditionError:
                continue
            return build_id
        return None

    async def _pinned_runs(self, namespace_id: str, name: str, build_id: str) -> int:
        """How many open runs are pinned to a version."""
        text = version_text(name, build_id)
        wanted = {"TemporalWorkerDeploymentVersion": text, "TemporalWorkflowVersioningBehavior": "Pinned"}
        where = And(
            (
                *(
                    Comparison(Attribute(key, AttributeType.KEYWORD), Operator.EQUAL, value)
                    for key, value in wanted.items()
                ),
                IsNull(Attribute("CloseTime", AttributeType.DATETIME)),
            )
        )
        counts = await self._engine.reading(self._engine.store.count_runs(namespace_id, where, None))
        return counts[0][1]
