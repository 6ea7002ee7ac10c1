"""A clock that can be skipped, and who moves it: on to the next deadline whenever nothing would happen before it.

All deadlines of the engine follow the injected clock, so moving that is all there is to skipping. When it may be moved
is decided here and nowhere else: what runs holds it, locks hold it, and both are counted together (see `TimeSkipping`).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple, Protocol

from perdure.core.activity.state import ActivityRun
from perdure.core.errors import InvalidArgumentError
from perdure.core.operation.state import OperationRun
from perdure.core.run.ids import uuid7
from perdure.core.run.records import QueueKey, RunKey, RunKind
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.engine import Engine
from perdure.server.engine.runs import CLOSE_EVENT, RunSlot
from perdure.server.runtime import Runtime

logger = logging.getLogger(__name__)

LOOK_S = 0.05
"""How often is looked again while time may be skipped, for what nobody gave notice of."""
TELL_S = 0.1
"""How long the clock waits at most for somebody who is told the result of a run, and is about to lock it."""
TELL_LOOK_S = 0.005
"""How often is looked meanwhile whether somebody waits for a result again."""
PAGE = 500
"""Runs listed at a time at the start."""

END_NS = 5_995_814_400 * 1_000_000_000
"""The beginning of the year 2160: time is not skipped past it. What is stored of times, nanoseconds in 64 bits, ends in
2262, and a deadline may be a hundred years ahead."""

WORKER_GONE_NS = 1_000_000_000
"""Nobody polled for this long: whoever sleeps with unlocking need not wait for the tasks of the queue."""


class SkippingRuntime:
    """A runtime whose clock can be moved on. It runs as fast as the real one in between.

    Args:
        base: the real one.
    """

    def __init__(self, base: Runtime) -> None:
        self._base = base
        self._offset_ns = 0

    def now_ns(self) -> int:
        """The time to which was skipped, and what has passed since."""
        return self._base.now_ns() + self._offset_ns

    def skip_to(self, time_ns: int) -> int:
        """Moves the clock on to `time_ns`, not past its end and never back. Returns by how much, in nanoseconds."""
        skipped_ns = max(min(time_ns, END_NS) - self.now_ns(), 0)
        self._offset_ns += skipped_ns
        return skipped_ns

    def new_run_id(self) -> str:
        """A UUID of version 7 of the skipped time."""
        return uuid7(self.now_ns() // 1_000_000, int.from_bytes(os.urandom(10), "big"))

    def new_id(self) -> str:
        """A UUID of version 4."""
        return self._base.new_id()


class Source(Protocol):
    """Something else than runs that has deadlines, such as schedules."""

    def running(self) -> int:
        """How much is under way that time must wait for."""

    def next_ns(self) -> int | None:
        """The next deadline; one that has passed means that it is being worked on."""

    def clock_moved(self) -> None:
        """The clock was moved on: what is due now is worked on at once."""


class _Run(NamedTuple):
    """What of a run matters here.

    Attributes:
        wakeup_ns: its next deadline.
        is_with_worker: a worker holds its workflow task.
        waiting: where its workflow task and its attempts of activities wait.
        started: how many attempts of its activities are with workers.
    """

    wakeup_ns: int | None
    is_with_worker: bool = False
    waiting: tuple[QueueKey, ...] = ()
    started: int = 0


class TimeSkipping:
    """Moves the clock of an engine.

    The clock is held by locks (one at the start), and by everything that runs: workflow tasks and activity attempts
    that wait for a worker or are with one. When nothing holds it, it moves to the next deadline at once. A sleep with
    unlocking takes a lock away meanwhile or, if there is none, the hold of one attempt that is with a worker: so an
    activity can let its own timeouts pass. It does not wait for tasks that no worker is there to take. Unlocking more
    than once takes no more away than the locks there are: several may wait for results at the same time.

    When the last result that somebody waits for is there, the clock stands still until that somebody has locked it:
    otherwise it would depend on how fast that is, how much later it is then.

    Args:
        engine: whose deadlines.
        runtime: its clock.
    """

    def __init__(self, engine: Engine, runtime: SkippingRuntime) -> None:
        self._engine = engine
        self._runtime = runtime
        self._locks = 1
        self._sleeping_unlocked = 0
        self._telling_until_s = 0.0
        """Until then, by the loop's clock, somebody may be about to lock the clock."""
        self._runs: dict[RunKey, _Run] = {}
        """Runs that matter."""
        self._sources: list[Source] = []
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sleeps = 0
        self._changed = asyncio.Event()
        self._is_ended = False
        self._is_end_told = False
        self._task: asyncio.Task[None] | None = None

    def add_source(self, source: Source) -> None:
        """Takes the deadlines of something else than runs into account."""
        self._sources.append(source)

    def notice(self) -> None:
        """What a source says may have changed."""
        self._changed.set()

    # --- what callers do

    def now_ns(self) -> int:
        """The time, nanoseconds since the epoch."""
        return self._runtime.now_ns()

    def lock(self) -> None:
        """One more holds the clock."""
        self._locks += 1
        self._telling_until_s = 0.0

    def unlock(self) -> None:
        """One less holds the clock.

        Never refused: whether others wait for results already, and what runs, is nothing that one who begins to wait
        knows of.
        """
        self._locks -= 1
        self._changed.set()

    async def sleep_until(self, time_ns: int) -> None:
        """Waits until the clock is there; does not move it by itself.

        Raises:
            InvalidArgumentError: the clock never gets there.
        """
        if time_ns > END_NS:
            raise InvalidArgumentError("time cannot be skipped past the beginning of the year 2160")
        if time_ns <= self.now_ns() or self._is_ended:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeps += 1
        sleeper = (time_ns, self._sleeps, future)
        heapq.heappush(self._sleepers, sleeper)
        self._changed.set()
        try:
            await future
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def sleep_unlocked(self, time_ns: int) -> None:
        """Waits until the clock is there, and takes one away meanwhile that holds it.

        Raises:
            InvalidArgumentError: the clock never gets there.
        """
        self._sleeping_unlocked += 1
        try:
            await self.sleep_until(time_ns)
        finally:
            self._sleeping_unlocked -= 1

    # --- life

    async def start(self) -> None:
        """Takes stock of the runs there are; the engine is started. From now on the clock moves."""
        for namespace in list(self._engine.namespaces.all()):
            async for run in self._open_runs(namespace.namespace_id, RunKind.ACTIVITY):
                self._take_in_activity(run, await self._engine.activity_runs.state(run))
            async for run in self._open_runs(namespace.namespace_id, RunKind.NEXUS_OPERATION):
                self._take_in_operation(run, await self._engine.operation_runs.state(run))
            async for run in self._open_runs(namespace.namespace_id, RunKind.WORKFLOW):
                slot = self._engine.runs.pin(run)
                try:
                    async with slot.alone():
                        self._take_in(run, await self._engine.load(slot))
                finally:
                    self._engine.runs.unpin(slot)
        self._engine.timers.on_note = self._on_note
        self._task = asyncio.create_task(self._run(), name="time skipping")

    def end_sleeps(self) -> None:
        """Ends every sleep, and every new one at once."""
        self._is_ended = True
        for _, _, future in self._sleepers:
            _resolve(future)

    async def stop(self) -> None:
        """The clock is not moved any more."""
        self.end_sleeps()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _open_runs(self, namespace_id: str, kind: RunKind) -> AsyncIterator[RunKey]:
        cursor: bytes | None = None
        while True:
            page = await self._engine.store.list_runs(namespace_id, None, PAGE, cursor, kind)
            for row in page.rows:
                if row.record.close_time_ns is not None:
                    return  # the open ones come first
                yield row.run
            if (cursor := page.next_cursor) is None:
                return

    # --- what is going on

    def _on_note(self, run: RunKey) -> None:
        if run.kind is RunKind.ACTIVITY:
            self._take_in_activity(run, self._engine.activity_runs.peek(run))
            self._changed.set()
            return
        if run.kind is RunKind.NEXUS_OPERATION:
            self._take_in_operation(run, self._engine.operation_runs.peek(run))
            self._changed.set()
            return
        slot = self._engine.runs.peek(run)
        if slot is not None and _tells_result(slot):
            self._telling_until_s = asyncio.get_running_loop().time() + TELL_S
        if (
            slot is None or not slot.in_flight
        ):  # what is under way is waited for, and the last of it gives notice
            self._take_in(run, slot.state if slot is not None else None)
        self._changed.set()

    def _take_in(self, run: RunKey, state: RunState | None) -> None:
        if state is None:
            self._runs.pop(run, None)
            return
        wakeup_ns, header = state.wakeup_ns, state.header
        if header.is_open:
            started = sum(activity.started_ns != 0 for activity in state.activities.values())
            self._runs[run] = _Run(wakeup_ns, header.has_started_task, _waiting_at(state), started)
        elif wakeup_ns is not None and wakeup_ns < header.close_ns + header.retention_ns:
            self._runs[run] = _Run(wakeup_ns)  # it has something left to do for other runs
        else:
            self._runs.pop(run, None)  # time is not skipped to the end of a retention

    def _take_in_activity(self, run: RunKey, state: ActivityRun | None) -> None:
        if state is None or not state.header.is_open:
            self._runs.pop(run, None)  # time is not skipped to the end of a retention
            return
        task = state.task()
        waiting = (task.queue,) if task is not None else ()
        self._runs[run] = _Run(state.wakeup_ns, waiting=waiting, started=int(state.header.is_with_worker))

    def _take_in_operation(self, run: RunKey, state: OperationRun | None) -> None:
        if state is None or not state.header.is_open:
            self._runs.pop(run, None)  # time is not skipped to the end of a retention
            return
        self._runs[run] = _Run(state.wakeup_ns)

    def _held(self) -> bool:
        """Whether something holds the clock."""
        held = max(self._locks, 0) - self._sleeping_unlocked
        for run in self._runs.values():
            if run.is_with_worker or any(map(self._will_be_taken, run.waiting)):
                return True
            held += run.started
        return held > 0 or any(source.running() for source in self._sources)

    def _is_telling(self) -> bool:
        """Whether somebody is told the last result that is waited for."""
        if asyncio.get_running_loop().time() >= self._telling_until_s:
            return False
        if any(_is_open(slot) and _waits_for_result(slot) for slot in self._engine.runs.slots()):
            self._telling_until_s = 0.0
            return False
        return True

    def _will_be_taken(self, queue: QueueKey) -> bool:
        """Whether a task that waits there holds the clock: not for those who move it while no worker is there."""
        return not self._sleeping_unlocked or self._engine.matching.is_alive(queue, WORKER_GONE_NS)

    def _deadlines(self) -> Iterable[int | None]:
        for run in self._runs.values():
            yield run.wakeup_ns
        for source in self._sources:
            yield source.next_ns()

    # --- moving the clock

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._wake_sleepers()
            if self._is_locked() or not await self._skip():
                await self._wait()

    def _is_locked(self) -> bool:
        return self._locks > self._sleeping_unlocked

    async def _skip(self) -> bool:
        """Moves the clock on if nothing holds it. Returns whether to look again at once."""
        # One turn, so that what a commit brings about is under way when we look.
        await asyncio.sleep(0)
        under_way = self._engine.working | self._engine.timers.working
        if under_way:
            await asyncio.wait(under_way, timeout=LOOK_S)
            return True
        if self._held() or self._is_telling():
            return False
        now_ns = self.now_ns()
        next_ns = min((deadline for deadline in self._deadlines() if deadline is not None), default=None)
        if next_ns is not None and next_ns <= now_ns:
            self._engine.timers.clock_moved()  # it is due: whoever works on it gives notice
            return False
        if self._sleepers:
            next_ns = min(next_ns or self._sleepers[0][0], self._sleepers[0][0])
        if next_ns is None:
            return False
        skipped_ns = self._runtime.skip_to(next_ns)
        if next_ns > END_NS:
            self._tell_of_the_end()
            if not skipped_ns:
                return False
        self._engine.matching.clock_moved(skipped_ns)
        self._engine.timers.clock_moved()
        for source in self._sources:
            source.clock_moved()
        return True

    def _tell_of_the_end(self) -> None:
        if not self._is_end_told:
            self._is_end_told = True
            logger.warning(
                "time is not skipped past the beginning of the year 2160; what is due later has to wait"
            )

    def _wake_sleepers(self) -> None:
        now_ns = self.now_ns()
        while self._sleepers and self._sleepers[0][0] <= now_ns:
            _resolve(heapq.heappop(self._sleepers)[2])

    async def _wait(self) -> None:
        """Waits until something changed, a sleep is over, or it is time to look again."""
        wait_s = [] if self._is_locked() else [TELL_LOOK_S if self._is_telling() else LOOK_S]
        if self._sleepers:
            wait_s.append((self._sleepers[0][0] - self.now_ns()) / 1e9)
        timer = asyncio.get_running_loop().call_later(min(wait_s), self._changed.set) if wait_s else None
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()


def _is_open(slot: RunSlot) -> bool:
    return slot.durable is not None and slot.durable.is_open


def _waits_for_result(slot: RunSlot) -> bool:
    return any(event_id >= CLOSE_EVENT for _, event_id in slot.waiters)


def _tells_result(slot: RunSlot) -> bool:
    """Whether a commit that closed a run is about to be told to somebody who waits for its result."""
    return slot.durable is not None and not slot.durable.is_open and _waits_for_result(slot)


def _waiting_at(state: RunState) -> tuple[QueueKey, ...]:
    """The queues at which tasks of an open run wait for workers. What is paused waits for somebody else."""
    tx = Transition(state, 0)
    tasks = [tx.activity_dispatch(activity) for activity in state.activities.values()]
    if not state.header.paused_ns:
        tasks.append(tx.waiting_workflow_task(state.header))
    return tuple(task.queue for task in tasks if task is not None)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
