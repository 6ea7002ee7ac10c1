"""What is on its way into the store: records between the engine's computing and the store's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar, cast

from perdure.core.errors import PerdureError
from perdure.core.run.records import RunWrite, Task
from perdure.core.run.state import RunHeader
from perdure.core.run.transition import Transition
from perdure.server.engine.deliveries import ActivityDelivery
from perdure.server.engine.matching import Poller
from perdure.server.engine.runs import RunSlot

Result = TypeVar("Result")


class Reserved(NamedTuple):
    """A poller that gets a task in the commit that makes it.

    Attributes:
        poller, task: who gets what.
        delivery: an activity's; a workflow task's is made when it is handed over.
    """

    poller: Poller
    task: Task
    delivery: ActivityDelivery | None


@dataclass(slots=True)
class Pending:
    """A transition on its way into the store, with what is handed over in it.

    Attributes:
        slot: the run's slot.
        tx: the transition.
        reserved: pollers that get a task of this transition.
        becomes_current, expected_current_run_id: for a new run, see RunWrite.
        on_commit: called once the transition is committed, before anything of it is handed over; a workflow task may
            be on its way already to a worker of this process, unless `is_patient` is set.
        is_patient: nothing of it is handed over before that, not even to workers of this process.
        before: the header that it was computed on.
        generation: the slot's, when it was handed to the store.
        is_with_store: it was.
    """

    slot: RunSlot
    tx: Transition
    reserved: list[Reserved]
    becomes_current: bool = False
    expected_current_run_id: str | None = None
    on_commit: Callable[[RunSlot], None] | None = None
    is_patient: bool = False
    before: RunHeader = field(init=False)
    generation: int = 0
    is_with_store: bool = False

    def go_ahead(self, write: RunWrite) -> None:
        """It is in the store's queue: what comes next is computed on it."""
        slot, tx = self.slot, self.tx
        self.before, self.generation, self.is_with_store = tx.state.header, slot.generation, True
        tx.absorb()
        slot.state = tx.state
        slot.tail.append(write.events)
        slot.in_flight += 1
        slot.pins += 1

    @property
    def is_outlived(self) -> bool:
        """Whether a commit before it failed, so that it was computed on what never happened."""
        return self.generation != self.slot.generation


class Outcome(Generic[Result]):
    """What came of computing a transition.

    Args:
        value: what the caller wants to know.
        waiter: resolves when the transition is durable; None when nothing is to be written.
        error: it was refused.
    """

    __slots__ = ("_error", "_value", "waiter")

    def __init__(
        self,
        value: Result | None = None,
        *,
        waiter: asyncio.Future[None] | None = None,
        error: PerdureError | None = None,
    ) -> None:
        self._value = value
        self.waiter = waiter
        self._error = error

    def result(self) -> Result:
        """The value; raises the error."""
        if self._error is not None:
            raise self._error
        return cast(Result, self._value)
