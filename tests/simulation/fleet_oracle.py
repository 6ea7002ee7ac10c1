"""What is known to be true of workers that say how they are: who is listed, with what, and who is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perdure.api.worker.v1 import WorkerHeartbeat
from perdure.server.engine.worker_registry import REMEMBERED_S
from tests.simulation.model import check
from tests.simulation.trace import Trace

_Key = tuple[str, str]
"""Namespace and instance key."""


@dataclass(frozen=True, slots=True)
class Said:
    """A heartbeat that a server has acknowledged.

    Attributes:
        count: how many the worker had sent with it.
        server: the process; another one knows nothing of it.
        sent_s: simulated time at which it was sent.
    """

    count: int
    server: str
    sent_s: float


class FleetOracle:
    """Knows what each worker has said, and looks at every list.

    Args:
        trace: what happened.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._sent: dict[_Key, int] = {}
        self._said: dict[_Key, Said] = {}
        self._left: dict[_Key, str] = {}

    def sends(self, namespace: str, key: str) -> int:
        """A worker sends a heartbeat. Returns how many that makes."""
        self._sent[namespace, key] = self._sent.get((namespace, key), 0) + 1
        return self._sent[namespace, key]

    def acknowledged(self, namespace: str, key: str, said: Said) -> None:
        """A heartbeat has arrived."""
        self._said[namespace, key] = said

    def left(self, namespace: str, key: str, server: str) -> None:
        """A server has acknowledged that a worker shut down."""
        self._left[namespace, key] = server
        self._trace.reach("fleet: worker shut down")

    def ended(self, namespace: str, key: str) -> None:
        """A worker says no more than goodbye, if that."""
        self._said.pop((namespace, key), None)

    def known(self, namespace: str) -> Mapping[str, Said]:
        """What the workers of a namespace have said so far."""
        return {key: said for (of, key), said in self._said.items() if of == namespace}

    def gone(self, namespace: str) -> Mapping[str, str]:
        """The workers of a namespace that have shut down, and the processes that know."""
        return {key: server for (of, key), server in self._left.items() if of == namespace}

    def count(self, namespace: str) -> int:
        """How many workers of a namespace have said something."""
        return sum(of == namespace for of, _ in self._sent)

    def check_origin(self, namespace: str, listed: Sequence[WorkerHeartbeat]) -> None:
        """Checks that each worker is listed once, and with what it said in this namespace."""
        keys = [worker.worker_instance_key for worker in listed]
        check(len(set(keys)) == len(keys), "each worker is listed once", keys)
        check(keys == sorted(keys), "workers are listed by instance key", keys)
        for worker in listed:
            sent = self._sent.get((namespace, worker.worker_instance_key), 0)
            right = worker.worker_identity == f"{worker.worker_instance_key} in {namespace}"
            check(right and worker.total_sticky_cache_hit <= sent, "only what was said is listed", worker)

    def check_list(
        self,
        listed: Sequence[WorkerHeartbeat],
        known: Mapping[str, Said],
        gone: Mapping[str, str],
        server: str,
        now_s: float,
        *,
        clock_was_set: bool,
    ) -> None:
        """Checks a list that one process has given.

        Args:
            listed: the workers.
            known, gone: what this namespace's workers had said, and who had shut down, before it was asked for.
            server: the process.
            now_s: simulated time at which it came.
            clock_was_set: whether that ever happened: then nobody knows what was said last.
        """
        found = {worker.worker_instance_key: worker for worker in listed}
        for key, said in known.items():
            if said.server != server or now_s >= said.sent_s + REMEMBERED_S:
                continue
            check(key in found, "who says how it is is listed", (key, said))
            newest = clock_was_set or found[key].total_sticky_cache_hit >= said.count
            check(newest, "what a worker said last is listed", (key, said, found[key].total_sticky_cache_hit))
            self._trace.reach("fleet: worker listed")
        for key, told in gone.items():
            back = told == server and not clock_was_set and key in found
            check(not back, "who has shut down is not listed", key)

    def check_end(self, namespace: str, listed: Sequence[WorkerHeartbeat]) -> None:
        """Checks a list from so long after that whoever ended without a word is forgotten."""
        found = {worker.worker_instance_key for worker in listed}
        silent = found - self.known(namespace).keys()
        check(not silent, "who says nothing any more is forgotten", silent)
