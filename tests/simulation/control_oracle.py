"""What is known to be true of pauses, resets of activities and changed options: rules about each commit of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perdure.core.run.records import RunKey
from perdure.core.run.state import Activity, RunState
from tests.simulation.model import check
from tests.simulation.trace import Trace

Look = Callable[[RunState], None]


class ControlOracle:
    """Watches what operators do to open runs.

    Args:
        trace: what happened.

    Attributes:
        restarted: runs whose activities were asked to begin again; attempts are counted anew there.
        heartbeats_dropped: (run id, activity id) of activities whose heartbeat details were to be forgotten.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._looks: dict[RunKey, list[Look]] = {}
        self.restarted: set[RunKey] = set()
        self.heartbeats_dropped: set[tuple[str, str]] = set()

    @contextmanager
    def looking(self, run: RunKey, look: Look) -> Iterator[None]:
        """Shows every committed state of a run meanwhile."""
        self._looks.setdefault(run, []).append(look)
        try:
            yield
        finally:
            self._looks[run].remove(look)

    def committed(self, previous: RunState | None, state: RunState) -> None:
        """Checks what a commit did, and shows it to whoever looks."""
        for look in self._looks.get(state.run, ()):
            look(state)
        if previous is None:
            return
        before, after = previous.header, state.header
        rests = before.paused_ns > 0 and before.paused_ns == after.paused_ns
        begun = after.has_started_task and not before.has_started_task
        check(not (rests and begun), "a paused run is given no workflow task", state.run)
        if rests:
            self._trace.reach("something happened to a paused run")
        for key, activity in state.activities.items():
            known = previous.activities.get(key)
            if known is not None:
                self._compare(state.run, known, activity, rests=rests)

    def _compare(self, run: RunKey, before: Activity, after: Activity, *, rests: bool) -> None:
        paused = before.paused_ns > 0 and before.paused_ns == after.paused_ns
        begun = after.started_ns > 0 and (before.started_ns == 0 or after.attempt != before.attempt)
        check(not (begun and (paused or rests)), "no attempt of a paused activity begins", (run, after))
        counted = after.attempt in (before.attempt, before.attempt + 1)
        restarted = run in self.restarted and after.attempt == 1
        check(counted or restarted, "attempts are counted", (run, before.attempt, after))
