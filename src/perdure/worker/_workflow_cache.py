"""The sticky cache: runs whose code stands in memory where their last workflow task left it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure.worker._local_activities import RunLocals

if TYPE_CHECKING:
    from perdure.core.replay.instructions import Program
    from perdure.core.replay.run import WorkflowRun
    from perdure.worker._payload_edge import WorkflowPayloads


@dataclass(slots=True, eq=False)
class CachedRun:
    """One run in the cache.

    Attributes:
        workflow_id: Of the run.
        run_id: Of the run.
        workflow_type: Of the run.
        run: Holds history against the code; None until its first task is loaded.
        program: The code.
        payloads: Decodes and encodes; None where payloads need neither.
        lock: Held while a task of the run is worked on.
        users: How many tasks of the run are worked on or wait for the lock.
        locals: Its local activities.
        started_ns: When the server started it, if anybody looks at metrics.
    """

    workflow_id: str
    run_id: str
    workflow_type: str
    run: WorkflowRun | None = None
    program: Program | None = None
    payloads: WorkflowPayloads | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    locals: RunLocals = field(default_factory=RunLocals)
    started_ns: int = 0

    @property
    def has_local_activities(self) -> bool:
        """Some run, or have ended and the run does not know it yet: whoever ends the run here has them run again."""
        return bool(self.locals.tasks or self.locals.finished)


class RunCache:
    """Runs by id; those that were used last stay longest.

    Args:
        maximum: So many runs are kept. Those that are worked on count, but never leave.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.hits = 0
        """Tasks that found their run."""
        self.misses = 0
        """Tasks that should have, and did not."""
        self._runs: OrderedDict[str, CachedRun] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[CachedRun]:
        return iter(list(self._runs.values()))

    def get(self, run_id: str) -> CachedRun | None:
        """Return a run, which is then the last one used."""
        cached = self._runs.get(run_id)
        if cached is not None:
            self._runs.move_to_end(run_id)
        return cached

    def put(self, cached: CachedRun) -> None:
        """Add a run."""
        self._runs[cached.run_id] = cached

    def remove(self, cached: CachedRun) -> None:
        """Take a run out, if it is still the one that stands there."""
        if self._runs.get(cached.run_id) is cached:
            del self._runs[cached.run_id]

    def overdue(self) -> list[CachedRun]:
        """Take out, and return, the runs beyond the maximum that nobody works on.

        Those used longest ago go first, and last those with results of local activities that no task has reported yet.
        """
        surplus = len(self._runs) - self.maximum
        if surplus <= 0:
            return []
        idle = [cached for cached in self._runs.values() if not cached.users and not cached.locals.tasks]
        idle.sort(key=lambda cached: cached.has_local_activities)
        for cached in idle[:surplus]:
            del self._runs[cached.run_id]
        return idle[:surplus]
