"""Bugs on purpose in the removal of deleted namespaces. See `mutants`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from perdure.server.deployments import Deployments
from perdure.server.namespace_removals import NamespaceRemovals
from perdure.server.namespaces import Namespaces
from perdure.server.queue_configs import QueueConfigs
from perdure.server.registry import Registry
from tests.simulation import removals

Patch = pytest.MonkeyPatch


def removals_forgotten_at_restart(patch: Patch) -> None:
    """Only what is deleted from now on is removed."""

    def start(self: NamespaceRemovals) -> None:
        self._namespaces.on_removal = self.begin

    patch.setattr(NamespaceRemovals, "start", start)


def deletion_begun_only_when_answered(patch: Patch) -> None:
    """What was written and reported as failed is not begun."""
    reload = Registry._reload

    async def silent(self: Registry) -> None:
        if isinstance(self, Namespaces):
            told, self.on_removal = self.on_removal, lambda namespace: None
            try:
                await reload(self)
            finally:
                self.on_removal = told
        else:
            await reload(self)

    patch.setattr(Namespaces, "_reload", silent)


def whatever_is_begun_in_deleted_namespaces(patch: Patch) -> None:
    """What was looked up before the deletion is not refused after it."""
    patch.setattr(Namespaces, "check_exists", lambda self, namespace_id, name: None)


def removal_does_not_settle_doubt(patch: Patch) -> None:
    """Rows that may have been written are not looked for."""

    async def delete_queue_configs(self: QueueConfigs, namespace_id: str) -> None:
        for queue in [queue for queue in self._kept if queue.namespace_id == namespace_id]:
            await self._written(self._store.delete_queue_config(queue))
            self._kept.pop(queue, None)

    async def delete_deployments(self: Deployments, namespace_id: str) -> None:
        for name, _ in self.all(namespace_id):
            await self._written(self._store.delete_deployment(namespace_id, name))
        self._kept.pop(namespace_id, None)
        self._routes.pop(namespace_id, None)

    patch.setattr(QueueConfigs, "delete_all", delete_queue_configs)
    patch.setattr(Deployments, "delete_all", delete_deployments)


def _where_they_are(mutant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """The mutant where every seed has such namespaces: those that have them otherwise are few."""

    @functools.wraps(mutant)
    def apply(patch: Patch) -> None:
        mutant(patch)
        patch.setattr(removals, "SHARE", 1.0)

    return apply


REMOVAL_MUTANTS: tuple[Callable[[Patch], None], ...] = tuple(
    _where_they_are(mutant)
    for mutant in (
        removals_forgotten_at_restart,
        deletion_begun_only_when_answered,
        whatever_is_begun_in_deleted_namespaces,
        removal_does_not_settle_doubt,
    )
)
