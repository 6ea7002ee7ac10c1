"""The workers that say how they are: their last heartbeats, per namespace. Kept in memory only and forgotten after a
while: a worker that lives says so again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from perdure.api.enums.v1 import WorkerStatus
from perdure.api.worker.v1 import WorkerHeartbeat
from perdure.server.runtime import Runtime

REMEMBERED_NS = 5 * 60 * 1_000_000_000
"""A worker that was silent for this long is gone."""
MOST_WORKERS = 100_000
_SHUTDOWN = WorkerStatus.Value("WORKER_STATUS_SHUTDOWN")


class WorkerRegistry:
    """The heartbeats of all namespaces' workers.

    Args:
        runtime: the clock.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._workers: OrderedDict[tuple[str, str], tuple[int, WorkerHeartbeat]] = OrderedDict()
        """By namespace id and worker instance key, least recently seen first."""

    def record(self, namespace_id: str, heartbeats: Iterable[WorkerHeartbeat]) -> None:
        """Takes heartbeats; a worker that says it has shut down is forgotten."""
        now_ns = self._runtime.now_ns()
        for heartbeat in heartbeats:
            key = (namespace_id, heartbeat.worker_instance_key)
            self._workers.pop(key, None)
            if heartbeat.status != _SHUTDOWN:
                self._workers[key] = (now_ns, heartbeat)
        self._forget(now_ns)

    def _forget(self, now_ns: int) -> None:
        while self._workers:
            key, (seen_ns, _) = next(iter(self._workers.items()))
            if len(self._workers) <= MOST_WORKERS and seen_ns > now_ns - REMEMBERED_NS:
                return
            del self._workers[key]

    def find(self, namespace_id: str, worker_instance_key: str) -> WorkerHeartbeat | None:
        """A worker's last heartbeat; None when it is not known."""
        self._forget(self._runtime.now_ns())
        found = self._workers.get((namespace_id, worker_instance_key))
        return found[1] if found is not None else None

    def all(self, namespace_id: str) -> list[WorkerHeartbeat]:
        """The last heartbeats of a namespace's workers, by instance key."""
        self._forget(self._runtime.now_ns())
        found = {
            key: seen[1] for (namespace, key), seen in self._workers.items() if namespace == namespace_id
        }
        return [found[key] for key in sorted(found)]
