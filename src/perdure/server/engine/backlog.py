"""The waiting tasks of one queue that are in memory: those up to a horizon, in the order in which they are given out.

The rest is in the store, in the same order. So a task that comes belongs here if it is before the
horizon, and only there if it is behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from perdure.core.queues.fair_order import FairOrder
from perdure.core.run.records import RunKey, Task, TaskKey
from perdure.store.protocol import TaskCursor, TaskLevel

HEAD: Final = 1_000
"""Tasks of a queue that are read from the store at once; twice as many are held at most."""
DEFAULT_LEVEL: Final = 3
_LEVELS = 5
_NOTHING = (0, 0)
Place = tuple[int, int]
"""A priority level and a place in it."""


class _Entry(NamedTuple):
    place: int
    arrival: int
    task: Task
    is_stored: bool


def level_of(task: Task) -> int:
    """The priority level that a task is of."""
    return task.priority_key or DEFAULT_LEVEL


class Backlog:
    """What is in memory of a queue's waiting tasks, and the order in which new ones are to be given out.

    Args:
        head: tasks that a read brings at most.

    Attributes:
        horizon: up to where every stored task is here; None: all of them. At the start nothing is.
        head: as given.
        is_known: the orders have learnt of the tasks that were there before this process.
    """

    __slots__ = (
        "_arrivals", "_heaps", "_length", "_missed", "_missed_from", "_orders", "head", "horizon", "is_known",
    )  # fmt: skip

    def __init__(self, head: int = HEAD) -> None:
        self.head = head
        self.horizon: Place | None = _NOTHING
        self.is_known = False
        self._heaps: tuple[list[_Entry], ...] = tuple([] for _ in range(_LEVELS))
        self._orders: dict[int, FairOrder] = {}
        self._length = 0
        self._arrivals = 0
        self._missed: list[Task] = []
        self._missed_from: Place | None = None

    def __len__(self) -> int:
        return self._length

    @property
    def more_in_store(self) -> bool:
        """Whether there may be tasks that are not here."""
        return self.horizon is not None

    # --- places ---

    def place(self, task: Task, weight: float) -> int:
        """The place of a task that is about to be stored.

        Args:
            task: it has none yet.
            weight: of its fairness key; 0: the default.
        """
        return self._order(level_of(task)).place(task.fairness_key, weight)

    def learn(self, levels: Sequence[TaskLevel]) -> None:
        """Takes note of what was waiting when this process looked for the first time."""
        self.is_known = True
        for level in levels:
            self._order(level.priority).learn(level.first_place, level.last_places)

    def given_out(self, task: Task) -> None:
        """A task was given out, from here or directly."""
        order = self._orders.get(level_of(task))
        if order is not None:
            order.served(task.place)
            if not self._length and self.horizon is None:
                order.rested()

    def _order(self, level: int) -> FairOrder:
        order = self._orders.get(level)
        if order is None:
            order = self._orders[level] = FairOrder()
        return order

    # --- tasks ---

    def add(self, task: Task, *, is_stored: bool = True) -> None:
        """A task waits. It is kept here if this is where it belongs, or if nothing else keeps it.

        Args:
            task: the task.
            is_stored: its row was committed, so that forgetting it does no harm.
        """
        where = (level_of(task), task.place)
        if not is_stored or self.horizon is None or where < self.horizon:
            self._push(task, is_stored)
            if self._length > 2 * self.head:
                self._shorten()
        elif len(self._missed) < self.head:
            self._missed.append(task)  # whether a read that is under way sees it is not known
        elif self._missed_from is None or where < self._missed_from:
            self._missed_from = where

    def heads(self) -> Iterator[Task]:
        """The first task of each level, the most urgent first."""
        for heap in self._heaps:
            if heap:
                yield heap[0].task

    def take(self, task: Task) -> None:
        """Takes the first task of a level out."""
        heapq.heappop(self._heaps[level_of(task) - 1])
        self._length -= 1

    def begin_load(self) -> None:
        """A read of the store's first tasks begins; what is added from now on may be in it or not.

        So until it is there, no stored task comes here by itself, wherever the horizon was.
        """
        self.horizon = _NOTHING
        self._missed.clear()
        self._missed_from = None

    def load(self, rows: Sequence[tuple[TaskCursor, Task]]) -> None:
        """Takes over what was read: the first `head` tasks of the store, or all. Nothing stored may be here."""
        for _, task in rows:
            self._push(task, True)
        last = rows[-1][0] if len(rows) == self.head else None
        self.horizon = None if last is None else (last.priority, last.place)
        seen = {(task.run, task.key, task.delivery_id) for _, task in rows} if self._missed else _NO_TASKS
        missed, self._missed = self._missed, []
        for task in missed:
            if (task.run, task.key, task.delivery_id) not in seen:
                self.add(task)
        self._missed.clear()
        if self._missed_from is not None and (self.horizon is None or self._missed_from < self.horizon):
            self._forget_from(self._missed_from)
        self._missed_from = None

    def _push(self, task: Task, is_stored: bool) -> None:
        self._arrivals += 1
        entry = _Entry(task.place, self._arrivals, task, is_stored)
        heapq.heappush(self._heaps[level_of(task) - 1], entry)
        self._length += 1

    def _shorten(self) -> None:
        """Leaves the later half to the store."""
        stored = sorted(
            (level, entry.place)
            for level, heap in enumerate(self._heaps, 1)
            for entry in heap
            if entry.is_stored
        )
        if len(stored) > self.head:
            self._forget_from(stored[self.head])

    def _forget_from(self, first: Place) -> None:
        """The store alone has what is at this place or behind it."""
        self.horizon = first
        for level, heap in enumerate(self._heaps, 1):
            heap[:] = [entry for entry in heap if not entry.is_stored or (level, entry.place) < first]
            heapq.heapify(heap)
        self._length = sum(map(len, self._heaps))


_NO_TASKS: Final[set[tuple[RunKey, TaskKey, str]]] = set()
