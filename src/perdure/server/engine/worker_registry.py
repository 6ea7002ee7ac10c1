"""The workers that say how they are: their last heartbeats, per namespace. Kept in memory only and forgotten after a
while: a worker that lives says so again.

The while is real time: a worker is not silent because the clock of the machine was set, or that of a test was skipped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from perdure.api.enums.v1 import WorkerStatus
from perdure.api.worker.v1 import WorkerHeartbeat
from perdure.core.run.protos import timestamp_ns

REMEMBERED_S = 5 * 60.0
"""A worker that was silent for this long is gone. That one has shut down is known for this long, whatever comes late of
what it said before."""
MOST_WORKERS = 100_000
_SHUTDOWN = WorkerStatus.Value("WORKER_STATUS_SHUTDOWN")


class WorkerRegistry:
    """The heartbeats of all namespaces' workers.

    Args:
        time_s: a clock that nobody sets, seconds.
    """

    def __init__(self, time_s: Callable[[], float]) -> None:
        self._time_s = time_s
        self._workers: OrderedDict[tuple[str, str], tuple[float, WorkerHeartbeat]] = OrderedDict()
        """By namespace id and worker instance key, least recently seen first."""

    def record(self, namespace_id: str, heartbeats: Iterable[WorkerHeartbeat]) -> None:
        """Takes heartbeats; a worker that says it has shut down is found no more."""
        now_s = self._time_s()
        for heartbeat in heartbeats:
            key = (namespace_id, heartbeat.worker_instance_key)
            known = self._workers.pop(key, None)
            last = known[1] if known is not None and _came_late(heartbeat, known[1]) else heartbeat
            self._workers[key] = (now_s, last)
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        while self._workers:
            key, (seen_s, _) = next(iter(self._workers.items()))
            if len(self._workers) <= MOST_WORKERS and seen_s > now_s - REMEMBERED_S:
                return
            del self._workers[key]

    def find(self, namespace_id: str, worker_instance_key: str) -> WorkerHeartbeat | None:
        """A worker's last heartbeat; None when it is not known."""
        self._forget(self._time_s())
        _, found = self._workers.get((namespace_id, worker_instance_key), (0, None))
        return found if found is not None and found.status != _SHUTDOWN else None

    def all(self, namespace_id: str) -> list[WorkerHeartbeat]:
        """The last heartbeats of a namespace's workers, by instance key."""
        self._forget(self._time_s())
        found = {
            key: heartbeat
            for (namespace, key), (_, heartbeat) in self._workers.items()
            if namespace == namespace_id and heartbeat.status != _SHUTDOWN
        }
        return [found[key] for key in sorted(found)]


def _came_late(heartbeat: WorkerHeartbeat, known: WorkerHeartbeat) -> bool:
    """Whether a worker said this before what is known of it; if much older, then by a clock that was set back since."""
    older_ns = timestamp_ns(known.heartbeat_time) - timestamp_ns(heartbeat.heartbeat_time)
    return 0 < older_ns <= REMEMBERED_S * 1e9
