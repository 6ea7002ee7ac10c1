"""Bugs on purpose in what is remembered of workers that say how they are. See `mutants`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import pytest

from perdure.api.worker.v1 import WorkerHeartbeat
from perdure.api.workflowservice.v1 import ListWorkersRequest, ListWorkersResponse
from perdure.server.engine import worker_registry
from perdure.server.engine.engine import Engine
from perdure.server.engine.worker_registry import WorkerRegistry
from perdure.server.service.call import Call
from perdure.server.service.worker_rpcs import WorkerRpcs
from tests.simulation import fleet

Patch = pytest.MonkeyPatch


def late_heartbeats_are_believed(patch: Patch) -> None:
    """A copy that comes late replaces what is newer, and brings workers back that have shut down."""
    patch.setattr(worker_registry, "_came_late", lambda heartbeat, known: False)


def silent_workers_live_for_ever(patch: Patch) -> None:
    """Nobody is forgotten."""
    patch.setattr(worker_registry, "REMEMBERED_S", 1e18)


def workers_are_forgotten_at_once(patch: Patch) -> None:
    """A heartbeat is remembered for seconds."""
    patch.setattr(worker_registry, "REMEMBERED_S", 3.0)


def silence_is_counted_by_the_clock_of_the_machine(patch: Patch) -> None:
    """Whoever sets that clock forward makes workers vanish that live."""
    init = WorkerRpcs.__init__

    def by_the_wall(self: WorkerRpcs, engine: Engine, registry: WorkerRegistry) -> None:
        init(self, engine, registry)
        registry._time_s = lambda: engine.runtime.now_ns() / 1e9

    patch.setattr(WorkerRpcs, "__init__", by_the_wall)


def workers_of_all_namespaces_are_one(patch: Patch) -> None:
    """What a worker says counts everywhere."""
    record = WorkerRegistry.record

    def anywhere(self: WorkerRegistry, namespace_id: str, heartbeats: Iterable[WorkerHeartbeat]) -> None:
        heartbeats = list(heartbeats)
        for known in {namespace_id, *(of for of, _ in self._workers)}:
            record(self, known, heartbeats)

    patch.setattr(WorkerRegistry, "record", anywhere)


def pages_begin_with_the_last_of_the_page_before(patch: Patch) -> None:
    """The first of each following page was in the one before."""
    list_workers = WorkerRpcs.list_workers

    async def overlapping(self: WorkerRpcs, request: ListWorkersRequest, call: Call) -> ListWorkersResponse:
        response = await list_workers(self, request, call)
        if response.next_page_token and len(response.workers_info) > 1:
            last = response.workers_info[-2].worker_heartbeat.worker_instance_key
            response.next_page_token = self._engine.tokens.seal("workers-page", last)
        return response

    patch.setattr(WorkerRpcs, "list_workers", overlapping)


def _where_they_are(mutant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """The mutant where every seed has such workers: those that have them otherwise are few."""

    @functools.wraps(mutant)
    def apply(patch: Patch) -> None:
        mutant(patch)
        patch.setattr(fleet, "SHARE", 1.0)

    return apply


FLEET_MUTANTS: tuple[Callable[[Patch], None], ...] = tuple(
    _where_they_are(mutant)
    for mutant in (
        late_heartbeats_are_believed,
        silent_workers_live_for_ever,
        workers_are_forgotten_at_once,
        silence_is_counted_by_the_clock_of_the_machine,
        workers_of_all_namespaces_are_one,
        pages_begin_with_the_last_of_the_page_before,
    )
)
