"""What is known to be true of namespaces that are deleted: nothing of them is left, and nothing comes later."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.core.run.records import RunKey, RunWrite
from perdure.store.memory import MemoryStore
from perdure.store.protocol import StoredNamespace
from tests.simulation.model import check
from tests.simulation.trace import Trace

NAME = "doomed"
"""Of the namespaces that are deleted, one after the other."""


class RemovalOracle:
    """Watches the store's namespaces of that name. What is in them is looked at here alone.

    Args:
        store: the truth.
        trace: what happened.

    Attributes:
        asked: the ids of those that somebody has asked to delete.
        gone: the ids of those whose rows were deleted.
    """

    def __init__(self, store: MemoryStore, trace: Trace) -> None:
        self._store = store
        self._trace = trace
        self._begun: set[str] = set()
        self._known: set[str] = set()
        self.asked: set[str] = set()
        self.gone: set[str] = set()
        self._runs: set[RunKey] = set()

    def owns(self, namespace_id: str) -> bool:
        """Whether what is in a namespace is looked at here."""
        return namespace_id in self._known

    def namespace_put(self, stored: StoredNamespace) -> None:
        """The store has a new state of a namespace."""
        if stored.name == NAME:
            self._known.add(stored.namespace_id)
        elif stored.namespace_id in self._known:
            check(stored.namespace_id in self.asked, "only who is asked to deletes a namespace", stored.name)
            self._begun.add(stored.namespace_id)

    def namespace_deleted(self, namespace_id: str) -> None:
        """The store has deleted a namespace's row."""
        if not self.owns(namespace_id):
            return
        check(namespace_id in self._begun, "a namespace is deleted before it is removed", namespace_id)
        self.gone.add(namespace_id)
        self.check_nothing_left(namespace_id)
        self._trace.reach("removal: namespace gone")

    def committed(self, write: RunWrite) -> None:
        """The store has committed a write of a run in such a namespace, of whatever kind."""
        self._runs.add(write.run)
        if write.run.namespace_id in self._begun:
            self._trace.reach("removal: written while it went on")

    def started(self, run: RunKey) -> None:
        """A start was acknowledged."""
        check(run in self._runs, "an acknowledged start is durable", run)

    def removed(self, run: RunKey) -> None:
        """The store has deleted a run in such a namespace."""
        if run.namespace_id in self._begun:
            self._trace.reach(f"removal: {run.kind.name.lower()} removed")

    def server_started(self) -> None:
        """A server has started: what was begun before must go on."""
        if self._begun - self.gone:
            self._trace.reach("removal: server started while it went on")

    def check_nothing_left(self, namespace_id: str) -> None:
        """Checks that the store has no row of a namespace."""
        left = list(self._rows(namespace_id))
        check(not left, "nothing is left of a removed namespace", left[:3])

    def _rows(self, namespace_id: str) -> Iterator[object]:
        store = self._store
        for of_runs in (store._runs, store._queues, store._schedules, store._batches, store._queue_configs):
            yield from (key for key in of_runs if key.namespace_id == namespace_id)
        yield from (key for key in store._current if key[0] == namespace_id)
        yield from (key for key in store._deployments if key[0] == namespace_id)
        yield from (key for key in store._namespaces if key == namespace_id)
        yield from (key for key, rows in store._lists.items() if key[0] == namespace_id and len(rows))
        yield from (due for due in store._wakeups.after(None) if due.run.namespace_id == namespace_id)
        yield from (
            due for due in store._schedule_wakeups.after(None) if due.key.namespace_id == namespace_id
        )

    def check_gone(self) -> None:
        """Checks in the end that all that were there are gone, and that nothing was written behind their backs."""
        check(self._known == self.gone, "a deleted namespace is removed", self._known - self.gone)
        for namespace_id in self._known:
            self.check_nothing_left(namespace_id)
