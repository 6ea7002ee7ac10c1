"""What is known to be true of standalone Nexus operations: all committed and acknowledged; checks of every commit."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from perdure.core.operation import invariants
from perdure.core.operation.state import OperationRun, decode_operation
from perdure.core.run.records import RunKey, RunWrite
from perdure.store.memory import MemoryStore
from tests.simulation.model import check
from tests.simulation.trace import Trace


class OperationOracle:
    """Watches what the durable store keeps of standalone operations.

    Args:
        store: the truth; it is read after every commit.
        trace: what happened.
        read: waits for a call of the store in memory, which never waits.
    """

    def __init__(
        self, store: MemoryStore, trace: Trace, read: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._store = store
        self._trace = trace
        self._read = read
        self.states: dict[RunKey, OperationRun] = {}
        self.deleted: dict[RunKey, OperationRun] = {}
        self.may_delete: set[RunKey] = set()
        self._current: dict[tuple[str, str], RunKey] = {}

    def committed(self, write: RunWrite) -> None:
        """Takes a write that the store has just committed, and checks everything about its execution."""
        run = write.run
        invariants.check_write(write)
        before = self.states.get(run)
        check((before.version if before else 0) == write.expected_version, "version increases by one", run)
        if before is None:
            current = self._current.get(run[:2])
            is_free = current is None or current not in self.states or not self.states[current].header.is_open
            check(is_free, "an operation id has one open execution", (current, run))
            self._current[run[:2]] = run
        stored = self._read(self._store.load_run(run))
        check(stored is not None, "what is committed can be read", run)
        state = decode_operation(run, stored.version, stored.header, stored.items, stored.wakeup_ns)
        self.states[run] = state
        invariants.check(state, before)
        header = state.header
        if header.operation.attempt > 1:
            self._trace.reach("standalone operation tried again")
        if before is not None and before.header.is_open and not header.is_open:
            self._trace.reach(f"standalone operation ended, status {header.status}")

    def removed(self, run: RunKey, now_ns: int) -> None:
        """The store has deleted an execution."""
        state = self.states.pop(run)
        header = state.header
        check(not header.is_open, "only closed executions are deleted", run)
        over = now_ns >= header.close_ns + header.retention_ns
        check(over or run in self.may_delete, "retention is kept", run)
        self.deleted[run] = state

    def state(self, run: RunKey) -> OperationRun:
        """An execution that was acknowledged: it is there, or it was deleted in order."""
        known = self.states.get(run) or self.deleted.get(run)
        check(known is not None, "an acknowledged start is durable", run)
        assert known is not None
        return known

    def open(self) -> list[RunKey]:
        """Executions that have not ended."""
        return [run for run, state in self.states.items() if state.header.is_open]
