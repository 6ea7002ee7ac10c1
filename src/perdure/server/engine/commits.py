"""How a transition becomes durable: prepared, handed to the store, published; or refused, or undone.

    prepare ──► submit ──► the store ──┬─► published: who waits for the run, its tasks and its end is told
       │           │                   └─► undone: what was computed on it is forgotten, pollers wait again
       └─► drop    └─► refused: the store did not even take it

What a transition does is decided by the core, which worker gets its tasks by `hand_over`. Nothing here waits: whoever
needs the outcome awaits what `submit` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from perdure.core.deployment.routes import Routes
from perdure.core.errors import (
    CurrentRunConflictError,
    StoreError,
    StoreUnavailableError,
    UnavailableError,
    VersionConflictError,
)
from perdure.core.run import completion, deadlines, listing, problems, versioning, workflow_task
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunKey, RunWrite
from perdure.core.run.transition import Transition
from perdure.core.visibility.attributes import AttributeType
from perdure.server.engine.hand_over import HandOver
from perdure.server.engine.matching import Matching
from perdure.server.engine.pending import Pending
from perdure.server.engine.runs import RunCache, RunSlot
from perdure.server.engine.speculative_tasks import SpeculativeTasks
from perdure.server.engine.timers import Timers
from perdure.server.namespaces import Namespaces
from perdure.store.protocol import Store, StoredSchedule


class Commits:
    """Commits the transitions of an engine's runs.

    Args:
        store: the truth.
        namespaces: for search attribute types.
        runs: what is in memory.
        timers: told of the runs' deadlines.
        matching: told of the tasks that wait.
        hand_over: gives tasks to pollers.
        speculative: brings updates that wait behind a commit.
        limits: what every run is held to.
        routes: the routes of worker versions by namespace id.

    Attributes:
        starting: commits of new runs that are on their way to the disk, by namespace id and workflow id.
        under_way: what the store has not answered yet.
        on_closed: called after the commit that closed a run; for whoever waits for its end.
    """

    def __init__(
        self,
        store: Store,
        namespaces: Namespaces,
        runs: RunCache,
        timers: Timers,
        matching: Matching,
        hand_over: HandOver,
        speculative: SpeculativeTasks,
        limits: Limits,
        routes: Callable[[str], Routes],
    ) -> None:
        self._store = store
        self._namespaces = namespaces
        self._runs = runs
        self._timers = timers
        self._matching = matching
        self._hand_over = hand_over
        self._speculative = speculative
        self._limits = limits
        self._routes = routes
        self.starting: dict[tuple[str, str], asyncio.Future[None]] = {}
        self.under_way: set[asyncio.Future[None]] = set()
        self.on_closed: Callable[[RunKey], None] = _nothing

    def prepare(self, slot: RunSlot, tx: Transition) -> Pending:
        """Completes a transition: schedules what it calls for and hands tasks to waiting pollers in it."""
        limits = self._limits
        if tx.header.task_is_speculative:
            tx.write_speculative_task()
        completion.overflow_buffer(tx, limits)
        completion.end_oversized_run(tx, limits)
        workflow_task.schedule_if_needed(tx)
        problems.note(tx, limits.task_failures_reported)
        versioning.route(tx, self._routes(slot.key.namespace_id))
        return Pending(slot, tx, self._hand_over.reserve(slot, tx))

    def drop(self, unit: Sequence[Pending]) -> None:
        """Gives up transitions that the store does not have: pollers that were to get their tasks wait again."""
        for pending in unit:
            if not pending.is_with_store:
                self._hand_over.release(pending.reserved)

    def submit(
        self,
        unit: Sequence[Pending],
        beside: Sequence[RunWrite] = (),
        schedule: StoredSchedule | None = None,
    ) -> asyncio.Future[None]:
        """Hands transitions to the store, to be committed together; they are their runs' states at once.

        Nothing is awaited between the computation and this. Everything else is told once they are durable.

        Args:
            unit: the transitions.
            beside: writes of runs of another kind, committed with them and published by the caller.
            schedule: written with them: the one that they are an action of.

        Returns:
            resolves when they are durable and published, whoever waits. It raises VersionConflictError or
            CurrentRunConflictError: nothing was written; UnavailableError: the outcome may be unknown. Then states
            were dropped from memory.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            writes = [self._write(pending) for pending in unit]
        except BaseException:  # a defect must not take pollers along
            self.drop(unit)
            raise
        try:
            committing = asyncio.ensure_future(self._store.commit([*writes, *beside], schedule))
            if committing.done():
                committing.result()
        except BaseException as error:  # it was refused at once, and what is in flight goes on
            waiter.set_exception(self._refused(unit, error))
            return waiter
        self.under_way.add(committing)
        for pending, write in zip(unit, writes, strict=True):
            pending.go_ahead(write)
            if pending.becomes_current:
                self._note_start(pending, committing)
            if pending.reserved:
                self._hand_over.deliver_early(pending, committing)
        committing.add_done_callback(lambda done: self._answered(unit, writes, done, waiter))
        return waiter

    def _write(self, pending: Pending) -> RunWrite:
        tx = pending.tx
        visibility = listing.record(tx, self._custom_attributes(tx)) if tx.visibility_changed else None
        write = tx.finish(
            deadlines.next_wakeup_ns(tx),
            visibility,
            becomes_current=pending.becomes_current,
            expected_current_run_id=pending.expected_current_run_id,
        )
        return self._matching.placed(write) if write.tasks_put else write

    def _custom_attributes(self, tx: Transition) -> Mapping[str, AttributeType]:
        """The run's namespace's own search attributes."""
        namespace = self._namespaces.by_id(tx.state.run.namespace_id)
        return namespace.search_attributes if namespace is not None else {}

    def _note_start(self, pending: Pending, committing: asyncio.Future[None]) -> None:
        """Others of the same workflow id may lose the race to this run, or this one to a run that is ahead of it."""
        workflow = pending.slot.key[:2]
        pending.is_patient = pending.is_patient or workflow in self.starting
        self.starting[workflow] = committing

    def _answered(
        self,
        unit: Sequence[Pending],
        writes: Sequence[RunWrite],
        done: asyncio.Future[None],
        waiter: asyncio.Future[None],
    ) -> None:
        """The store has answered: publishes or undoes a unit, then tells whoever waits for it."""
        self.under_way.discard(done)
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        for pending in unit:
            if error is None and pending.is_outlived:
                error = StoreUnavailableError("a commit before it failed")
            pending.slot.answered()
        try:
            if error is None:
                for pending, write in zip(unit, writes, strict=True):
                    self._publish(pending, write)
            else:
                error = self._not_committed(unit, writes, error)
        finally:
            for pending in unit:
                self._runs.unpin(pending.slot)
                if pending.becomes_current and self.starting.get(pending.slot.key[:2]) is done:
                    del self.starting[pending.slot.key[:2]]
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)
                    waiter.exception()  # read here, because the caller may be gone

    def _publish(self, pending: Pending, write: RunWrite) -> None:
        slot, tx, before = pending.slot, pending.tx, pending.before
        slot.durable = tx.header
        self._timers.note(write.run, write.wakeup_ns)
        if pending.on_commit is not None:
            pending.on_commit(slot)
        if before.has_started_task and (
            tx.header.task_stamp != before.task_stamp or not tx.header.has_pending_task
        ):
            slot.queries.put_back()
        self._hand_over.deliver(pending)
        for task in write.tasks_put:
            self._matching.offer(task)
        is_last = not slot.in_flight
        # What is in memory may have a speculative task that `on_commit` made.
        header = tx.state.header if is_last else tx.header
        if not header.has_pending_task and (
            header.last_completed_task_started_event_id or not header.is_open
        ):
            slot.unblock_queries()
        if slot.updates is not None and is_last:
            self._speculative.bring_updates(slot)
        slot.wake()
        if before.is_open and not tx.header.is_open:
            self.on_closed(slot.key)

    def _refused(self, unit: Sequence[Pending], error: BaseException) -> BaseException:
        """The store did not even take a unit; returns the error that its callers get."""
        self.drop(unit)
        if isinstance(error, (VersionConflictError, CurrentRunConflictError)):
            for pending in unit:
                pending.slot.forget()
        elif isinstance(error, StoreError):
            return _unavailable(error)
        return error

    def _not_committed(
        self, unit: Sequence[Pending], writes: Sequence[RunWrite], error: BaseException
    ) -> BaseException:
        """Undoes what was reserved for a commit that failed; returns the error that its callers get."""
        for pending in unit:
            if not pending.is_outlived:
                pending.slot.forget()
            self._hand_over.release(pending.reserved)
        if not isinstance(error, StoreError) or isinstance(
            error, (VersionConflictError, CurrentRunConflictError)
        ):
            return error
        # If it was written after all, its tasks wait; whoever gets one that does not exist drops it.
        for write in writes:
            for task in write.tasks_put:
                self._matching.offer(task)
        return _unavailable(error)


def _unavailable(error: StoreError) -> UnavailableError:
    unavailable = UnavailableError(f"the database cannot be written now: {error}")
    unavailable.__cause__ = error
    return unavailable


def _nothing(run: RunKey) -> None:
    pass
