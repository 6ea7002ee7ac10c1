"""The timer service: looks at each run again when its earliest deadline has come.

The store's `wakeup_ns` per run is the truth. Memory holds the near future of it as a heap of hints: a hint that is
stale or comes twice does no harm, one that was lost is found by the sweep.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, cast

from perdure.core.errors import PerdureError
from perdure.core.run.records import RunKey
from perdure.server.runtime import Runtime
from perdure.store.protocol import Wakeup

logger = logging.getLogger(__name__)

PAGE = 5_000
"""Wake-ups loaded from the store at a time."""
HORIZON_NS = 120 * 1_000_000_000
"""How far ahead wake-ups are held in memory."""
SWEEP_S = 20.0
"""How often the store is asked for what memory does not know."""
RETRY_S = 1.0
"""How long to wait before a wake-up that failed is tried again."""
LOOKED_S = 4.0
"""For how long a run that was looked at in vain is passed over: while the wall clock stands still nothing else ends."""
STILL_S = 0.05
"""How often a wake-up that is nearly due is looked at while the clock stands still."""
CONCURRENT = 64
"""Wake-ups worked on at the same time."""


class Wakeups(Protocol):
    """Where wake-ups are kept."""

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """See `Store.due_wakeups`."""


class Woken(Enum):
    """What a run that was woken had to do."""

    IN_VAIN = "nothing yet"
    FIRED = "what was due"
    REACHES_OUT = "something to other runs"
    EXPIRED = "nothing any more: its retention is over"


Fire = Callable[[RunKey], Awaitable[None]]


class _Look(NamedTuple):
    """When a run was looked at."""

    now_ns: int
    loop_s: float


class Timers:
    """Wakes runs.

    Args:
        store: the truth about wake-ups.
        runtime: the clock.
        fire: looks at a run again; must commit a later `wakeup_ns` or none.
        concurrent: how many wake-ups are worked on at the same time; CONCURRENT unless given.
    """

    def __init__(self, store: Wakeups, runtime: Runtime, fire: Fire, concurrent: int = 0) -> None:
        self._store = store
        self._runtime = runtime
        self._fire = fire
        self._heap: list[Wakeup] = []
        self._wanted: dict[RunKey, int] = {}
        self._known_until_ns = 0
        self._noted: dict[RunKey, int | None] | None = None
        """What was noted while the store was being asked: newer than its answer. None when it is not asked."""
        self._slept_at_ns = 0
        self._working: set[RunKey] = set()
        self._looked: dict[RunKey, _Look] = {}
        """What was looked at a moment ago: what has to wait for others stays due in the store."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._concurrent = concurrent or CONCURRENT
        self._due: deque[RunKey] = deque()
        """What is due and waits for its turn."""
        self._jobs: set[asyncio.Task[None]] = set()
        self.on_note: Callable[[RunKey], None] = _nothing
        """Called after every note with the run that was committed. For whoever watches what is going on."""

    async def start(self) -> None:
        """Loads the near future and starts waking."""
        await self._load()
        self._task = asyncio.create_task(self._run(), name="timers")

    async def stop(self) -> None:
        """Stops; what was being worked on is finished first. What waits for its turn is in the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._due.clear()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    @property
    def working(self) -> set[asyncio.Task[None]]:
        """Those who work on wake-ups that are due."""
        return self._jobs

    def holds(self, run: RunKey) -> bool:
        """Whether the run's next wake-up is known here, so that it needs not be found in the store."""
        return run in self._wanted

    def clock_moved(self) -> None:
        """The clock was moved on: what is due now is worked on at once."""
        self._changed.set()

    def note(self, run: RunKey, wakeup_ns: int | None) -> None:
        """A commit set a run's next deadline."""
        self._note(run, wakeup_ns)
        self.on_note(run)

    def _note(self, run: RunKey, wakeup_ns: int | None) -> None:
        if self._noted is not None:
            self._noted[run] = wakeup_ns
        if wakeup_ns is None or (wakeup_ns > self._known_until_ns and run not in self._looked):
            self._wanted.pop(run, None)
            return
        if self._wanted.get(run) == wakeup_ns:
            return
        self._wanted[run] = wakeup_ns
        first = self._heap[0].wakeup_ns if self._heap else None
        heapq.heappush(self._heap, Wakeup(wakeup_ns, run))
        if first is None or wakeup_ns < first:
            self._changed.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_sweep = loop.time() + SWEEP_S
        not_before = 0.0
        while True:
            self._fire_due()
            now_ns = self._runtime.now_ns()
            is_behind = self._known_until_ns < now_ns and loop.time() >= not_before and self._wants_more
            if is_behind or loop.time() >= next_sweep:
                next_sweep = loop.time() + SWEEP_S
                try:
                    await self._load()
                except PerdureError as error:
                    logger.warning("cannot read wake-ups now, trying again: %s", error)
                    next_sweep = not_before = loop.time() + RETRY_S
                continue
            await self._sleep_until(next_sweep, now_ns)

    async def _sleep_until(self, next_sweep: float, now_ns: int) -> None:
        """Sleeps until the first hint is due, the horizon is reached, something changed, or `next_sweep`.

        `now_ns` is the reading that found the horizon ahead: at a later one it may have passed, and nothing would
        end the sleep.
        """
        loop = asyncio.get_running_loop()
        ahead_ns = [wakeup.wakeup_ns - now_ns for wakeup in self._heap[:1]]
        if self._known_until_ns >= now_ns:
            ahead_ns.append(self._known_until_ns + 1 - now_ns)
        wait_s = min(ahead_ns) / 1e9 if ahead_ns else SWEEP_S
        if now_ns == self._slept_at_ns:
            # The clock stands still: what is nearly due would be looked at without pause.
            wait_s = max(wait_s, STILL_S)
        self._slept_at_ns = now_ns
        self._changed.clear()
        timer = loop.call_at(min(next_sweep, loop.time() + wait_s), self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    def _fire_due(self) -> None:
        now_ns = self._runtime.now_ns()
        while self._heap and self._heap[0].wakeup_ns <= now_ns:
            wakeup = heapq.heappop(self._heap)
            if self._wanted.get(wakeup.run) != wakeup.wakeup_ns or wakeup.run in self._working:
                continue
            del self._wanted[wakeup.run]
            self._working.add(wakeup.run)
            self._due.append(wakeup.run)
        for _ in range(min(self._concurrent - len(self._jobs), len(self._due))):
            self._jobs.add(asyncio.create_task(self._work_on_due()))

    @property
    def _wants_more(self) -> bool:
        """Whether another page of what is due can be taken up; a great backlog stays in the store until then."""
        return len(self._due) <= self._concurrent

    async def _work_on_due(self) -> None:
        try:
            while self._due:
                run = self._due.popleft()
                if len(self._due) == self._concurrent:
                    self._changed.set()  # from here on `_wants_more`
                await self._work(run)
        finally:
            # Before anybody else runs: what comes next is not left to one who has looked for the last time.
            self._jobs.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _work(self, run: RunKey) -> None:
        retry = False
        self._looked[run] = _Look(self._runtime.now_ns(), asyncio.get_running_loop().time())
        try:
            await self._fire(run)
        except PerdureError as error:
            retry = True
            logger.warning("wake-up of run %s failed, trying again: %s", run.run_id, error)
        except Exception:  # A bug: it must not take along what else the run has to do.
            retry = True
            logger.exception("wake-up of run %s failed, trying again", run.run_id)
        finally:
            self._working.discard(run)
            # A deadline noted while we worked was skipped when it came due: put it back in line.
            wanted_ns = self._wanted.get(run)
            if wanted_ns is not None:
                heapq.heappush(self._heap, Wakeup(wanted_ns, run))
                self._changed.set()
            elif retry:
                self.note(run, self._runtime.now_ns() + int(RETRY_S * 1e9))

    async def _load(self) -> None:
        """Asks the store for what is due up to the horizon, page by page until one holds something new.

        A full page shortens the horizon to its last row. Pages of nothing but runs that are being worked on, or were
        looked at when they were due already, are passed over: stopping at one would ask for it again and again.
        """
        noted: dict[RunKey, int | None] = {}
        self._noted = noted
        forget_s = asyncio.get_running_loop().time() - LOOKED_S
        self._looked = {run: look for run, look in self._looked.items() if look.loop_s > forget_s}
        try:
            await self._load_pages(noted)
        finally:
            self._noted = None
        for run, wakeup_ns in noted.items():
            self._note(run, wakeup_ns)  # once more: the horizon was another one then

    async def _load_pages(self, noted: Mapping[RunKey, int | None]) -> None:
        horizon_ns = self._runtime.now_ns() + HORIZON_NS
        after: Wakeup | None = None
        while True:
            rows = await self._store.due_wakeups(horizon_ns, after, PAGE)
            is_last = len(rows) < PAGE
            self._known_until_ns = horizon_ns if is_last else rows[-1].wakeup_ns
            news = False
            for wakeup in rows:
                look = self._looked.get(wakeup.run)
                is_old = look is not None and wakeup.wakeup_ns <= look.now_ns
                if is_old or wakeup.run in self._working or wakeup.run in noted:
                    continue
                if self._wanted.get(wakeup.run) != wakeup.wakeup_ns:
                    self._wanted[wakeup.run] = wakeup.wakeup_ns
                    heapq.heappush(self._heap, wakeup)
                    news = True
            if news or is_last:
                return
            after = rows[-1]


def _nothing(run: RunKey) -> None:
    pass
