"""Runs in memory: a bounded cache of states with the newest part of their histories, and who waits for news.

A cache: dropping an entry that nobody uses loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from perdure.api.query.v1 import WorkflowQueryResult
from perdure.core.run.query import QueryRegistry
from perdure.core.run.records import EventBatch, RunKey
from perdure.core.run.state import RunHeader, RunState
from perdure.core.run.update import UpdateRegistry

CLOSE_EVENT = 2**62
"""An event id that no run reaches: who waits for it waits for the run's end."""
TAIL_BYTES = 64 * 1024
"""How much of a run's newest history is kept in memory."""


class HistoryTail:
    """The newest batches of a run's history, contiguous up to its end."""

    __slots__ = ("batches", "size_bytes")

    def __init__(self) -> None:
        self.batches: deque[EventBatch] = deque()
        self.size_bytes = 0

    def append(self, batches: tuple[EventBatch, ...]) -> None:
        """Adds what was just committed; forgets the oldest when it grows too large."""
        for batch in batches:
            if self.batches and self.batches[-1].last_event_id + 1 != batch.first_event_id:
                self.clear()
            self.batches.append(batch)
            self.size_bytes += len(batch.data)
        while self.size_bytes > TAIL_BYTES and len(self.batches) > 1:
            self.size_bytes -= len(self.batches.popleft().data)

    def clear(self) -> None:
        """Forgets everything."""
        self.batches.clear()
        self.size_bytes = 0

    def covers(self, first_event_id: int, end_event_id: int) -> bool:
        """Whether every event of [first_event_id, end_event_id) is here."""
        batches = self.batches
        return bool(batches) and (
            batches[0].first_event_id <= first_event_id and end_event_id <= batches[-1].last_event_id + 1
        )

    def read(self, first_event_id: int, end_event_id: int) -> list[EventBatch]:
        """The batches that hold events of the range; `covers` must hold."""
        return [
            batch
            for batch in self.batches
            if batch.last_event_id >= first_event_id and batch.first_event_id < end_event_id
        ]


class RunLock(asyncio.Lock):
    """A run's lock, which can be asked whether acquiring it would wait."""

    @property
    def is_free(self) -> bool:
        """Whether nobody holds it and nobody who waited for it is about to: between a release and the next holder's
        turn it is not locked, and not free either."""
        return not self.locked() and not self._waiters


class RunSlot:
    """One run in memory.

    Attributes:
        lock: whoever loads the state or needs the run alone holds it; nobody else computes a transition meanwhile.
        state: the state that transitions are computed on, None when it must be loaded. It may be ahead of the store's.
        durable: the header as it was last committed: what may be shown. None if `state` is, or nothing was committed.
        in_flight: commits of the run that the store has not answered yet.
        generation: how often what was in memory was dropped because a commit failed.
        tail: the newest history, as `state` is.
        queries: questions that wait for a workflow task, and `query_futures` their askers by query id.
        updates: updates that wait for the workflow's word; None while the run has had none.
        waiters: who waits for a commit, each with the event id that it waits for (see `wait`).
        pins: how many callers use the slot; a pinned slot is not evicted.
    """

    __slots__ = (
        "_answers",
        "_settling",
        "durable",
        "generation",
        "in_flight",
        "key",
        "lock",
        "pins",
        "queries",
        "query_futures",
        "state",
        "tail",
        "updates",
        "waiters",
    )

    def __init__(self, key: RunKey) -> None:
        self.key = key
        self.lock = RunLock()
        self.state: RunState | None = None
        self.durable: RunHeader | None = None
        self.in_flight = 0
        self.generation = 0
        self._answers = 0
        self._settling: list[asyncio.Future[None]] = []
        self.tail = HistoryTail()
        self.queries = QueryRegistry()
        self.query_futures: dict[str, asyncio.Future[WorkflowQueryResult | None]] = {}
        self.updates: UpdateRegistry | None = None
        self.waiters: list[tuple[asyncio.Future[None], int]] = []
        self.pins = 0

    def forget(self) -> None:
        """Drops the cached state: what was committed is not known for sure, or was proven stale."""
        self.generation += 1
        self.state = self.durable = None
        self.tail.clear()
        if self.updates is not None:
            self.wake()  # a workflow task that was in memory only is lost: those who wait for it make another

    # --- commits under way

    def answered(self) -> None:
        """The store has answered one more of the commits under way."""
        self.in_flight -= 1
        self._answers += 1
        if self._settling:
            settling, self._settling = self._settling, []
            for waiter in settling:
                _resolve(waiter)

    async def settle(self) -> bool:
        """Waits until every commit that is under way now was answered.

        Returns:
            whether they succeeded; if not, what was computed on them means nothing.
        """
        generation, until = self.generation, self._answers + self.in_flight
        while self._answers < until:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._settling.append(waiter)
            await waiter
        return self.generation == generation

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Holds the run at rest: its lock, and no commit under way. Nobody computes a transition meanwhile."""
        async with self.lock:
            while self.in_flight:
                await self.settle()
            yield

    @property
    def updates_waiting(self) -> int:
        """How many updates wait for the workflow's word."""
        return len(self.updates.waiting) if self.updates is not None else 0

    def unblock_queries(self) -> None:
        """No workflow task is pending: questions that waited for one may be asked directly."""
        for query_id in list(self.queries.waiting):
            future = self.query_futures.get(query_id)
            if future is not None and not future.done():
                future.set_result(None)

    async def wait(self, timeout_s: float, event_id: int = 0) -> None:
        """Waits for a commit, or until the time is over; may end early.

        Args:
            timeout_s: seconds.
            event_id: only a commit that writes this event, or closes the run, is waited for; 0 for any.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (waiter, event_id)
        self.waiters.append(waiting)
        timer = asyncio.get_running_loop().call_later(timeout_s, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if waiting in self.waiters:
                self.waiters.remove(waiting)

    def wake(self) -> None:
        """Something was committed: everybody whose news it may be looks again."""
        if not self.waiters:
            return
        header = self.durable
        if header is None or not header.is_open:
            self.wake_all()
            return
        next_event_id = header.next_event_id
        waiters, self.waiters = self.waiters, []
        for waiter, event_id in waiters:
            if event_id >= next_event_id:
                self.waiters.append((waiter, event_id))
            else:
                _resolve(waiter)

    def wake_all(self) -> None:
        """Everybody who waits looks again."""
        waiters, self.waiters = self.waiters, []
        for waiter, _ in waiters:
            _resolve(waiter)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class RunCache:
    """A bounded cache of run slots, least recently used out first.

    Args:
        capacity: slots kept; pinned ones may exceed it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._slots: dict[RunKey, RunSlot] = {}
        # Those that nobody uses, in the order in which their uses ended: only they can leave, so that no use looks at
        # any other, however many wait for the ends of their runs.
        self._idle: OrderedDict[RunKey, RunSlot] = OrderedDict()

    def pin(self, key: RunKey) -> RunSlot:
        """The run's slot, kept until `unpin`."""
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = RunSlot(key)
        elif not slot.pins:
            del self._idle[key]
        slot.pins += 1
        return slot

    def peek(self, key: RunKey) -> RunSlot | None:
        """The run's slot if it is in memory; to look at only."""
        return self._slots.get(key)

    def unpin(self, slot: RunSlot) -> None:
        """Ends a use of the slot."""
        slot.pins -= 1
        if slot.pins:
            return
        if slot.state is None and slot.updates is None:
            # Nothing is in it: many runs that are deleted must not take the places of others.
            del self._slots[slot.key]
            return
        self._idle[slot.key] = slot
        while self._idle and len(self._slots) > self._capacity:
            key, _ = self._idle.popitem(last=False)
            del self._slots[key]

    def drop(self, key: RunKey) -> None:
        """The run was deleted."""
        slot = self._slots.get(key)
        if slot is not None:
            slot.forget()
            slot.wake()

    def slots(self) -> list[RunSlot]:
        """Every slot in memory."""
        return list(self._slots.values())

    def __len__(self) -> int:
        return len(self._slots)
