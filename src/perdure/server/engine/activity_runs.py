"""The engine's other half: standalone activities. One transition at a time: load, apply, hand over, commit, publish.

Store, matching, timers and clock are those of the engine. An execution is kept in memory only while somebody works on
it or waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from perdure.core.activity import machine, messages
from perdure.core.activity.state import ActivityRun, ActivityTransition, decode_activity
from perdure.core.errors import (
    CurrentRunConflictError,
    NotFoundError,
    StoreError,
    UnavailableError,
    VersionConflictError,
)
from perdure.core.run.records import RunKey, RunWrite, Task
from perdure.server.engine.deliveries import StandaloneActivityDelivery
from perdure.server.engine.matching import Poller

if TYPE_CHECKING:
    from perdure.server.engine.engine import Engine

Result = TypeVar("Result")
Compute = Callable[[ActivityRun, int], tuple[ActivityTransition | None, Result]]
"""From an execution's state and the time to a transition (None: nothing changes) and what the caller wants to know.
It may raise, then nothing has happened; it may be called again."""

CONFLICT_RETRIES = 10
BUSY = "the activity is being changed by others; try again"


@dataclass(slots=True, eq=False)
class _Slot:
    """An execution that somebody works on or waits for."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    state: ActivityRun | None = None
    waiters: set[asyncio.Future[None]] = field(default_factory=set)
    pins: int = 0

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Pinned:
    """The slot of an execution, while it is used."""

    def __init__(self, slots: dict[RunKey, _Slot], run: RunKey) -> None:
        self._slots = slots
        self._run = run

    def __enter__(self) -> _Slot:
        slot = self._slots.setdefault(self._run, _Slot())
        slot.pins += 1
        return slot

    def __exit__(self, *_: object) -> None:
        slot = self._slots[self._run]
        slot.pins -= 1
        if not slot.pins:
            del self._slots[self._run]


class ActivityRuns:
    """The standalone activities of an engine's store.

    Args:
        engine: whose store, matching, timers, namespaces and clock are used.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._slots: dict[RunKey, _Slot] = {}

    # --- what callers do

    async def create(
        self, make: Callable[[int], ActivityTransition], expected_current_run_id: str | None
    ) -> ActivityRun:
        """Commits a new execution.

        Args:
            make: from the time to its first transition.
            expected_current_run_id: the execution that it follows; None: its id has none.

        Raises:
            CurrentRunConflictError: the id has another one now.
            UnavailableError: the outcome is unknown.
        """
        return await self._engine.finish_anyway(self._create(make, expected_current_run_id))

    async def _create(
        self, make: Callable[[int], ActivityTransition], expected_current_run_id: str | None
    ) -> ActivityRun:
        tx = make(self._engine.runtime.now_ns())
        with _Pinned(self._slots, tx.state.run) as slot:
            async with slot.lock:
                return await self._commit(slot, tx, expected_current_run_id=expected_current_run_id)

    async def transact(self, run: RunKey, compute: Compute[Result]) -> Result:
        """Computes and commits one transition. It is finished even if the caller is cancelled meanwhile.

        Returns:
            what `compute` returned, after the commit.

        Raises:
            NotFoundError: there is no such execution.
            UnavailableError: the store could not do it; the outcome may be unknown.
        """
        return await self._engine.finish_anyway(self._transact(run, compute))

    async def _transact(self, run: RunKey, compute: Compute[Result]) -> Result:
        with _Pinned(self._slots, run) as slot:
            async with slot.lock:
                for _ in range(CONFLICT_RETRIES):
                    tx, result = compute(await self._load(slot, run), self._engine.runtime.now_ns())
                    if tx is None or tx.is_untouched:
                        return result
                    try:
                        await self._commit(slot, tx)
                    except VersionConflictError:
                        continue
                    return result
                raise UnavailableError(BUSY)

    async def state(self, run: RunKey) -> ActivityRun:
        """An execution as last committed.

        Raises:
            NotFoundError: there is none.
        """
        with _Pinned(self._slots, run) as slot:
            if slot.state is not None:
                return slot.state
            async with slot.lock:
                return await self._load(slot, run)

    async def wait(
        self, run: RunKey, holds: Callable[[ActivityRun], bool], timeout_s: float
    ) -> ActivityRun | None:
        """Waits until a condition holds of an execution.

        Returns:
            its state then; None when the time is over or the server stops.

        Raises:
            NotFoundError: there is no such execution, or it was deleted meanwhile.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        with _Pinned(self._slots, run) as slot:
            while True:
                waiter: asyncio.Future[None] = loop.create_future()
                slot.waiters.add(waiter)
                timer = loop.call_at(deadline, _resolve, waiter)
                try:
                    state = await self.state(run)
                    if holds(state):
                        return state
                    if loop.time() >= deadline or self._engine.is_stopping:
                        return None
                    await waiter
                finally:
                    timer.cancel()
                    slot.waiters.discard(waiter)

    async def delete(self, run: RunKey) -> bool:
        """Deletes an execution with everything that belongs to it. Returns whether it was there."""
        return await self._engine.finish_anyway(self._delete(run))

    async def _delete(self, run: RunKey) -> bool:
        engine = self._engine
        with _Pinned(self._slots, run) as slot:
            async with slot.lock:
                slot.state = None
                deleted = await engine.reading(engine.store.delete_run(run))
                engine.timers.note(run, None)
                slot.wake()
                return deleted

    # --- the engine asks

    def peek(self, run: RunKey) -> ActivityRun | None:
        """An execution's state if it is in memory; to look at only."""
        slot = self._slots.get(run)
        return slot.state if slot is not None else None

    def wake_all(self) -> None:
        """Everybody who waits looks again: the server stops."""
        for slot in self._slots.values():
            slot.wake()

    async def wake(self, run: RunKey) -> None:
        """Does what is due of an execution; deletes it when its retention is over."""
        try:
            is_expired = await self._transact(run, self._fire_due)
        except NotFoundError:
            return
        if is_expired:
            await self._delete(run)

    def _fire_due(self, state: ActivityRun, now_ns: int) -> tuple[ActivityTransition | None, bool]:
        header = state.header
        if not header.is_open and now_ns >= header.close_ns + header.retention_ns:
            return None, True
        tx = ActivityTransition(state, now_ns)
        machine.fire(tx, self._engine.limits.run)
        if tx.is_untouched:
            self._engine.timers.note(state.run, state.wakeup_ns)
            return None, False
        return tx, False

    async def start_task(self, task: Task, poller: Poller) -> StandaloneActivityDelivery | None:
        """Starts a task of the backlog for a poller; None if it is not the current one any more."""

        def apply(
            state: ActivityRun, now_ns: int
        ) -> tuple[ActivityTransition | None, ActivityTransition | None]:
            current = state.task()
            if current is None or current.delivery_id != task.delivery_id:
                return None, None
            tx = ActivityTransition(state, now_ns)
            machine.take(tx, poller.request_id, poller.identity, *poller.sdk)
            return tx, tx

        try:
            tx = await self._transact(task.run, apply)
        except NotFoundError:
            return None
        return StandaloneActivityDelivery(tx.committed(), task.queue) if tx is not None else None

    # --- transitions

    async def _load(self, slot: _Slot, run: RunKey) -> ActivityRun:
        """The state, from the store if it is not in memory. The slot's lock must be held."""
        if slot.state is None:
            stored = await self._engine.reading(self._engine.store.load_run(run))
            if stored is None:
                raise NotFoundError(not_found(run))
            slot.state = decode_activity(run, stored.version, stored.header, stored.items, stored.wakeup_ns)
        return slot.state

    async def _commit(
        self, slot: _Slot, tx: ActivityTransition, *, expected_current_run_id: str | None = None
    ) -> ActivityRun:
        """Commits a transition and publishes it. The slot's lock must be held.

        Raises:
            VersionConflictError, CurrentRunConflictError: nothing was written.
            UnavailableError: the outcome is unknown.
        """
        engine = self._engine
        task = tx.new_task()
        poller = engine.matching.reserve(task.queue) if task is not None else None
        write: RunWrite | None = None
        try:
            if poller is not None:
                machine.take(tx, poller.request_id, poller.identity, *poller.sdk)
            write = self._write(tx, expected_current_run_id)
            await engine.store.commit([write])
        except BaseException as error:  # whatever it was: what is in memory is not known to be true any more
            slot.state = None
            slot.wake()
            if poller is not None and task is not None:
                engine.matching.release(task.queue, poller)
            failure = self._failure(error, write)
            if failure is error:
                raise
            raise failure from error
        state = slot.state = tx.committed()
        engine.timers.note(state.run, state.wakeup_ns)
        if poller is not None and task is not None:
            engine.matching.deliver(poller, StandaloneActivityDelivery(state, task.queue))
        for waiting in write.tasks_put:
            engine.matching.offer(waiting)
        slot.wake()
        return state

    def _write(self, tx: ActivityTransition, expected_current_run_id: str | None) -> RunWrite:
        shown = None
        if tx.visibility_changed:
            namespace = self._engine.namespaces.by_id(tx.state.run.namespace_id)
            shown = messages.record(tx, namespace.search_attributes if namespace is not None else {})
        return tx.finish(
            machine.next_wakeup_ns(tx.header), shown, expected_current_run_id=expected_current_run_id
        )

    def _failure(self, error: BaseException, write: RunWrite | None) -> BaseException:
        """What callers get of a commit that failed. If it was written after all, its task waits."""
        is_known = isinstance(error, (VersionConflictError, CurrentRunConflictError))
        if not isinstance(error, StoreError) or is_known:
            return error
        for task in write.tasks_put if write is not None else ():
            self._engine.matching.offer(task)
        return UnavailableError(f"the database cannot be written now: {error}")


def not_found(run: RunKey) -> str:
    """The message for an execution that is not there."""
    return f"activity not found for ID: {run.workflow_id}"


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
