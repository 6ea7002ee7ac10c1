"""Reading histories: from memory when the newest part suffices, else from the store; and waiting for news."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perdure.api.history.v1 import History as HistoryMessage
from perdure.api.history.v1 import HistoryEvent
from perdure.core.errors import NotFoundError
from perdure.core.invariant import invariant
from perdure.core.run import callback
from perdure.core.run.records import EventBatch, RunKey
from perdure.core.run.state import Callback, RunHeader, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.engine import Engine

PAGE_BYTES = 2 * 1024 * 1024
"""A page of history ends with the batch that reaches this size, so that answers stay well below what clients accept."""

RESETS_FOLLOWED = 100
"""Runs of a workflow that was reset again and again are followed so far."""
REMEMBERED = 16
"""Batches of several events that are kept parsed, each of at most so many bytes."""
REMEMBERED_BYTES = 64 * 1024


class Histories:
    """Histories of an engine's runs.

    Args:
        engine: the runs.
        page_batches: batches of a page at most.
    """

    def __init__(self, engine: Engine, page_batches: int = 256) -> None:
        self._engine = engine
        self._page_batches = page_batches
        self._recent: dict[int, tuple[bytes, Sequence[HistoryEvent]]] = {}
        """Batches that were parsed lately, by the identity of their bytes."""

    async def resolve(self, namespace_id: str, workflow_id: str, run_id: str) -> RunKey:
        """The run a request names; without run id the workflow id's newest.

        Raises:
            NotFoundError: there is none.
        """
        if run_id:
            return RunKey(namespace_id, workflow_id, run_id)
        current = await self._engine.reading(self._engine.store.current_run(namespace_id, workflow_id))
        if current is None:
            raise NotFoundError(f"workflow not found for ID: {workflow_id}")
        return current.run

    async def reset_into(self, run: RunKey) -> RunKey:
        """The run that waits now for what a run has begun: itself, or what it was reset into.

        What was begun may outlive the run that was reset. Once that is deleted it is the workflow's newest run, of
        which the caller has to see whether it waits.

        Raises:
            NotFoundError: the workflow has no run.
        """
        found = run
        try:
            header = (await self.state(found)).header
            for _ in range(RESETS_FOLLOWED):
                if header.is_open or not header.reset_run_id:
                    break
                found = found._replace(run_id=header.reset_run_id)
                header = (await self.state(found)).header
        except NotFoundError:
            return await self.resolve(run.namespace_id, run.workflow_id, "")
        return found

    async def state(self, run: RunKey) -> RunState:
        """The run's committed state; only to be read, and only until the next await.

        Raises:
            NotFoundError: there is no such run.
        """
        slot = self._engine.runs.pin(run)
        try:
            if slot.state is not None and not slot.in_flight:
                return slot.state
            async with slot.alone():
                return await self._engine.load(slot)
        except NotFoundError as error:
            raise not_found(run) from error
        finally:
            self._engine.runs.unpin(slot)

    async def header(self, run: RunKey) -> RunHeader:
        """The header that was committed last; never changed afterwards.

        Raises:
            NotFoundError: there is no such run.
        """
        slot = self._engine.runs.peek(run)
        if slot is not None and slot.durable is not None:
            return slot.durable
        return (await self.state(run)).header

    async def wait_for_news(self, run: RunKey, next_event_id: int, timeout_s: float) -> RunHeader:
        """Waits until the run has events from `next_event_id` on or is closed, at most `timeout_s`.

        Returns:
            the run's header then; the caller looks what came.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        slot = self._engine.runs.pin(run)
        try:
            while True:
                header = slot.durable or (await self.state(run)).header
                remaining_s = deadline - loop.time()
                news = header.next_event_id > next_event_id or not header.is_open
                if news or remaining_s <= 0 or self._engine.is_stopping:
                    return header
                await slot.wait(remaining_s, next_event_id)
        finally:
            self._engine.runs.unpin(slot)

    async def read(
        self,
        run: RunKey,
        first_event_id: int,
        end_event_id: int,
        *,
        max_batches: int = 0,
        reverse: bool = False,
    ) -> Sequence[EventBatch]:
        """Batches that hold the events of [first_event_id, end_event_id), newest first if `reverse`.

        Args:
            max_batches: at most so many; 0, or more than a page may have, for as many as fit into a page.
        """
        if first_event_id >= end_event_id:
            return []
        slot = self._engine.runs.pin(run)
        try:
            batches: Sequence[EventBatch]
            if slot.tail.covers(first_event_id, end_event_id):
                batches = slot.tail.read(first_event_id, end_event_id)
                if reverse:
                    batches = batches[::-1]
            else:
                if slot.in_flight:  # the store does not show yet what is under way
                    await slot.settle()
                batches = await self._engine.reading(
                    self._engine.store.read_history(
                        run, first_event_id, end_event_id, PAGE_BYTES, reverse=reverse
                    )
                )
        finally:
            self._engine.runs.unpin(slot)
        return batches[: min(max_batches, self._page_batches) if max_batches > 0 else self._page_batches]

    async def event(self, run: RunKey, event_id: int) -> HistoryEvent:
        """One event of a run, to be read only: others may get it, too.

        Raises:
            NotFoundError: the run was deleted meanwhile.
        """
        for batch in await self.read(run, event_id, event_id + 1):
            found = self._parsed(batch)[event_id - batch.first_event_id]
            if found.event_id == event_id:
                return found
        await self.state(run)
        invariant(False, "an event is missing from the history", run=run, event_id=event_id)
        raise AssertionError  # invariant raised

    async def news(self, state: RunState, item: Callback) -> HistoryEvent:
        """The event that a callback tells of; an empty one if it tells of what is in none."""
        event_id = callback.event_id(Transition(state, 0), item)
        return await self.event(state.run, event_id) if event_id else HistoryEvent()

    def _parsed(self, batch: EventBatch) -> Sequence[HistoryEvent]:
        """The events of a batch. Some are remembered: of many that were written at once, one after the other is asked
        for, as workers take the activities that they scheduled."""
        known = self._recent.get(id(batch.data))
        if known is not None and known[0] is batch.data:
            return known[1]
        parsed = events((batch,))
        if len(parsed) > 1 and len(batch.data) <= REMEMBERED_BYTES:
            if len(self._recent) >= REMEMBERED:
                del self._recent[next(iter(self._recent))]
            self._recent[id(batch.data)] = (batch.data, parsed)
        return parsed


def events(batches: Sequence[EventBatch]) -> list[HistoryEvent]:
    """The events of batches, in order."""
    return list(HistoryMessage.FromString(b"".join(batch.data for batch in batches)).events)


def not_found(run: RunKey) -> NotFoundError:
    """The error for a run that is not there."""
    return NotFoundError(
        f'workflow execution not found for workflow ID "{run.workflow_id}" and run ID "{run.run_id}"'
    )
