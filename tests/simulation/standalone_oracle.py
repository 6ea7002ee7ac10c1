"""What is known to be true of standalone activities: all committed and acknowledged, and checks of every commit."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from perdure.core.activity import invariants
from perdure.core.activity.state import ActivityRun, decode_activity
from perdure.core.run.records import RunKey, RunWrite, Task, TaskKey
from perdure.store.memory import MemoryStore
from tests.simulation.limit_oracle import LimitOracle
from tests.simulation.model import check
from tests.simulation.trace import Trace

_ENDS = {"COMPLETED": 2, "FAILED": 3, "CANCELED": 4}


class StandaloneOracle:
    """Watches what the durable store keeps of standalone activities.

    Args:
        store: the truth; it is read after every commit.
        trace: what happened.
        read: waits for a call of the store in memory, which never waits.
        limits: watches one task queue.
    """

    def __init__(
        self,
        store: MemoryStore,
        trace: Trace,
        read: Callable[[Coroutine[Any, Any, Any]], Any],
        limits: LimitOracle,
    ) -> None:
        self.limits = limits
        self._store = store
        self._trace = trace
        self._read = read
        self.states: dict[RunKey, ActivityRun] = {}
        self.tasks: dict[RunKey, dict[TaskKey, Task]] = {}
        self.deleted: dict[RunKey, ActivityRun] = {}
        self.may_delete: set[RunKey] = set()
        self._current: dict[tuple[str, str], RunKey] = {}
        self._begun: dict[RunKey, set[int]] = {}

    def committed(self, write: RunWrite) -> None:
        """Takes a write that the store has just committed, and checks everything about its execution."""
        run = write.run
        invariants.check_write(write)
        before = self.states.get(run)
        check((before.version if before else 0) == write.expected_version, "version increases by one", run)
        if before is None:
            current = self._current.get(run[:2])
            is_free = current is None or current not in self.states or not self.states[current].header.is_open
            check(is_free, "an activity id has one open execution", (current, run))
            self._current[run[:2]] = run
        tasks = self.tasks.setdefault(run, {})
        for key in write.tasks_deleted:
            tasks.pop(key, None)
        for task in write.tasks_put:
            tasks[task.key] = task
        stored = self._read(self._store.load_run(run))
        check(stored is not None, "what is committed can be read", run)
        state = decode_activity(run, stored.version, stored.header, stored.items, stored.wakeup_ns)
        self.states[run] = state
        invariants.check(state, list(tasks.values()), before)
        self._observe(state, before)
        self.limits.committed(before, state)

    def _observe(self, state: ActivityRun, before: ActivityRun | None) -> None:
        header, reach = state.header, self._trace.reach
        if header.attempt.attempt > 1:
            reach("standalone activity retried")
        if before is not None and before.header.is_open and not header.is_open:
            reach(f"standalone activity ended, status {header.status}")

    def removed(self, run: RunKey, now_ns: int) -> None:
        """The store has deleted an execution."""
        state = self.states.pop(run)
        self.tasks.pop(run, None)
        header = state.header
        check(not header.is_open, "only closed executions are deleted", run)
        over = now_ns >= header.close_ns + header.retention_ns
        check(over or run in self.may_delete, "retention is kept", run)
        self.deleted[run] = state

    def begins(self, run: RunKey, attempt: int) -> None:
        """A worker was given an attempt."""
        begun = self._begun.setdefault(run, set())
        begun.add(attempt)
        state = self.states.get(run) or self.deleted[run]
        allowed = state.request.retry_policy.maximum_attempts
        check(not allowed or len(begun) <= allowed, "at most the allowed attempts", (run, begun))

    def ended(self, run: RunKey, ends: str) -> None:
        """A worker's outcome was acknowledged."""
        state = self.states.get(run) or self.deleted[run]
        check(state.header.status == _ENDS[ends], "an acknowledged outcome is durable", (run, ends))

    def state(self, run: RunKey) -> ActivityRun:
        """An execution that was acknowledged: it is there, or it was deleted in order."""
        known = self.states.get(run) or self.deleted.get(run)
        check(known is not None, "an acknowledged start is durable", run)
        assert known is not None
        return known

    def open(self) -> list[RunKey]:
        """Executions that have not ended."""
        return [run for run, state in self.states.items() if state.header.is_open]
