"""Bugs on purpose in how tasks find their worker's version. See `mutants`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.run import versioning
from perdure.core.run.records import TaskKind
from perdure.server.deployments import Deployments
from perdure.server.engine.rerouting import Rerouting
from perdure.server.service.version_uses import VersionUses
from tests.simulation import world

Patch = pytest.MonkeyPatch


def pinned_runs_follow_the_routing(patch: Patch) -> None:
    """Where a workflow task goes does not depend on the run."""

    def follow(header: Any, workflow_id: str, routes: Any) -> str:
        return versioning._target(header, workflow_id, routes)[0]

    patch.setattr(versioning, "workflow_task_version", follow)


def activities_of_pinned_runs_follow_the_routing(patch: Patch) -> None:
    def follow(header: Any, activity: Any, workflow_id: str, routes: Any) -> str:
        target: str = routes.route(activity.task_queue, TaskKind.ACTIVITY).target(workflow_id)[0]
        return target

    patch.setattr(versioning, "activity_version", follow)


def waiting_tasks_are_not_sent_on(patch: Patch) -> None:
    """A task waits for the version that it was made for, whatever becomes of the routing."""

    async def send_on(self: Rerouting, namespace_id: str, changed: Any) -> None:
        pass

    patch.setattr(Rerouting, "_send_on", send_on)


def routing_forgotten_at_restart(patch: Patch) -> None:
    load = Deployments.load

    async def forgetful(self: Deployments) -> None:
        await load(self)
        for kept in self._kept.values():
            for name, (version, state) in kept.items():
                state.current, state.ramping = "", None
                kept[name] = (version, state)
        self._routes = {namespace_id: self._made(namespace_id) for namespace_id in self._kept}

    patch.setattr(Deployments, "load", forgetful)


def drained_with_pinned_runs(patch: Patch) -> None:
    """Nobody looks at the runs."""

    async def none(self: VersionUses, namespace_id: str, name: str, build_id: str) -> int:
        return 0

    patch.setattr(VersionUses, "_pinned_runs", none)


def _where_versions_are(mutant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """The mutant where every seed has a rollout: those that have one otherwise are few."""

    @functools.wraps(mutant)
    def apply(patch: Patch) -> None:
        mutant(patch)
        patch.setattr(world, "VERSIONED_SHARE", 1.0)

    return apply


DEPLOYMENT_MUTANTS: tuple[Callable[[Patch], None], ...] = tuple(
    _where_versions_are(mutant)
    for mutant in (
        pinned_runs_follow_the_routing,
        activities_of_pinned_runs_follow_the_routing,
        waiting_tasks_are_not_sent_on,
        routing_forgotten_at_restart,
        drained_with_pinned_runs,
    )
)
