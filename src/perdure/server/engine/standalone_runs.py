"""What the engine's halves for runs without a workflow have in common: load, compute, commit, wait, delete.

An execution is kept in memory only while somebody works on it or waits for it: most have three transitions. What a
transition is, and what follows from its commit, is said by the subclasses.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from perdure.core.errors import (
    CurrentRunConflictError,
    NotFoundError,
    StoreError,
    UnavailableError,
    VersionConflictError,
)
from perdure.core.run.records import RunKey
from perdure.store.protocol import StoredRun

if TYPE_CHECKING:
    from perdure.server.engine.engine import Engine
    from perdure.server.namespaces import Namespace


class Header(Protocol):
    """What every header has."""

    close_ns: int
    retention_ns: int

    @property
    def is_open(self) -> bool:
        """Whether it has not closed."""


class State(Protocol):
    """An execution as last committed."""

    @property
    def run(self) -> RunKey:
        """Which one."""

    @property
    def header(self) -> Header:
        """What changes."""


class Changes(Protocol):
    """One transition."""

    @property
    def state(self) -> State:
        """What it was computed from."""

    @property
    def is_untouched(self) -> bool:
        """Whether there is nothing to commit."""


StateT = TypeVar("StateT", bound=State)
ChangesT = TypeVar("ChangesT", bound=Changes)
Result = TypeVar("Result")

CONFLICT_RETRIES = 10


@dataclass(slots=True, eq=False)
class Slot(Generic[StateT]):
    """An execution that somebody works on or waits for."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    state: StateT | None = None
    waiters: dict[asyncio.Future[None], None] = field(default_factory=dict)
    """In the order in which they came, which is the order in which they are woken."""
    pins: int = 0

    def wake(self) -> None:
        """Everybody who waits looks again."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class Pinned(Generic[StateT]):
    """The slot of an execution, while it is used."""

    def __init__(self, slots: dict[RunKey, Slot[StateT]], run: RunKey) -> None:
        self._slots = slots
        self._run = run

    def __enter__(self) -> Slot[StateT]:
        slot = self._slots.setdefault(self._run, Slot())
        slot.pins += 1
        return slot

    def __exit__(self, *_: object) -> None:
        slot = self._slots[self._run]
        slot.pins -= 1
        if not slot.pins:
            del self._slots[self._run]


class StandaloneRuns(ABC, Generic[StateT, ChangesT]):
    """The executions of one kind of an engine's store.

    Args:
        engine: whose store, timers, namespaces and clock are used.
        noun: what messages call an execution.
    """

    def __init__(self, engine: Engine, noun: str) -> None:
        self._engine = engine
        self._noun = noun
        self._slots: dict[RunKey, Slot[StateT]] = {}

    # --- what each kind says itself

    @abstractmethod
    def _decode(self, run: RunKey, stored: StoredRun) -> StateT:
        """An execution's state from what the store keeps of it."""

    @abstractmethod
    async def _commit(
        self, slot: Slot[StateT], tx: ChangesT, *, expected_current_run_id: str | None = None
    ) -> StateT:
        """Commits a transition and publishes it. The slot's lock must be held.

        Raises:
            VersionConflictError, CurrentRunConflictError: nothing was written.
            UnavailableError: the outcome is unknown.
        """

    @abstractmethod
    def _fire_due(self, state: StateT, now_ns: int) -> ChangesT | None:
        """Does what is due of an execution that is kept; None: nothing is."""

    # --- what callers do

    def pin(self, run: RunKey) -> Pinned[StateT]:
        """The slot of an execution, to be used in a `with`."""
        return Pinned(self._slots, run)

    async def create(
        self, namespace: Namespace, make: Callable[[int], ChangesT], expected_current_run_id: str | None
    ) -> StateT:
        """Commits a new execution.

        Args:
            namespace: where.
            make: from the time to its first transition.
            expected_current_run_id: the execution that it follows; None: its id has none.

        Raises:
            CurrentRunConflictError: the id has another one now.
            NamespaceNotFoundError: the namespace was deleted meanwhile.
            UnavailableError: the outcome is unknown.
        """
        return await self._engine.finish_anyway(self._create(namespace, make, expected_current_run_id))

    async def _create(
        self, namespace: Namespace, make: Callable[[int], ChangesT], expected_current_run_id: str | None
    ) -> StateT:
        tx = make(self._engine.runtime.now_ns())
        with self.pin(tx.state.run) as slot:
            async with slot.lock:
                self._engine.namespaces.check_exists(namespace.namespace_id, namespace.name)
                return await self._commit(slot, tx, expected_current_run_id=expected_current_run_id)

    async def transact(
        self, run: RunKey, compute: Callable[[StateT, int], tuple[ChangesT | None, Result]]
    ) -> Result:
        """Computes and commits one transition. It is finished even if the caller is cancelled meanwhile.

        Args:
            run: which execution.
            compute: from its state and the time to a transition (None: nothing changes) and what the caller wants to
                know. It may raise, then nothing has happened; it may be called again.

        Returns:
            what `compute` returned, after the commit.

        Raises:
            NotFoundError: there is no such execution.
            UnavailableError: the store could not do it; the outcome may be unknown.
        """
        return await self._engine.finish_anyway(self._transact(run, compute))

    async def _transact(
        self, run: RunKey, compute: Callable[[StateT, int], tuple[ChangesT | None, Result]]
    ) -> Result:
        with self.pin(run) as slot:
            async with slot.lock:
                for _ in range(CONFLICT_RETRIES):
                    tx, result = compute(await self.load(slot, run), self._engine.runtime.now_ns())
                    if tx is None or tx.is_untouched:
                        return result
                    try:
                        await self._commit(slot, tx)
                    except VersionConflictError:
                        continue
                    return result
                raise UnavailableError(f"the {self._noun} is being changed by others; try again")

    async def state(self, run: RunKey) -> StateT:
        """An execution as last committed.

        Raises:
            NotFoundError: there is none.
        """
        with self.pin(run) as slot:
            if slot.state is not None:
                return slot.state
            async with slot.lock:
                return await self.load(slot, run)

    async def wait(self, run: RunKey, holds: Callable[[StateT], bool], timeout_s: float) -> StateT | None:
        """Waits until a condition holds of an execution.

        Returns:
            its state then; None when the time is over or the server stops.

        Raises:
            NotFoundError: there is no such execution, or it was deleted meanwhile.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        with self.pin(run) as slot:
            while True:
                waiter: asyncio.Future[None] = loop.create_future()
                slot.waiters[waiter] = None
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
                    slot.waiters.pop(waiter, None)

    async def delete(self, run: RunKey) -> bool:
        """Deletes an execution with everything that belongs to it. Returns whether it was there."""
        return await self._engine.finish_anyway(self._delete(run))

    async def _delete(self, run: RunKey) -> bool:
        engine = self._engine
        with self.pin(run) as slot:
            async with slot.lock:
                slot.state = None
                deleted = await engine.reading(engine.store.delete_run(run))
                engine.timers.note(run, None)
                slot.wake()
                return deleted

    async def load(self, slot: Slot[StateT], run: RunKey) -> StateT:
        """The state, from the store if it is not in memory. The slot's lock must be held.

        Raises:
            NotFoundError: there is no such execution.
            UnavailableError: the store cannot be read now.
        """
        if slot.state is None:
            stored = await self._engine.reading(self._engine.store.load_run(run))
            if stored is None:
                raise NotFoundError(self.not_found(run))
            slot.state = self._decode(run, stored)
        return slot.state

    def not_found(self, run: RunKey) -> str:
        """The message for an execution that is not there."""
        return f"{self._noun} not found for ID: {run.workflow_id}"

    # --- the engine asks

    def peek(self, run: RunKey) -> StateT | None:
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
            is_expired = await self._transact(run, self._due)
        except NotFoundError:
            return
        if is_expired:
            await self._delete(run)

    def _due(self, state: StateT, now_ns: int) -> tuple[ChangesT | None, bool]:
        header = state.header
        if not header.is_open and now_ns >= header.close_ns + header.retention_ns:
            return None, True
        return self._fire_due(state, now_ns), False

    def _not_written(self, error: BaseException) -> BaseException:
        """What callers get of a commit that failed."""
        is_known = isinstance(error, (VersionConflictError, CurrentRunConflictError))
        if not isinstance(error, StoreError) or is_known:
            return error
        return UnavailableError(f"the database cannot be written now: {error}")


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
