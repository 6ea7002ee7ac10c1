"""The engine: one transition at a time per run: load, apply the core, hand over, commit, publish.

`transact` is the only way anything changes a run. What a request means is decided by its caller's function over
the core; what is durable is decided by the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from perdure.api.history.v1 import History, HistoryEvent
from perdure.core.deployment.routes import Routes
from perdure.core.errors import (
    CurrentRunConflictError,
    NotFoundError,
    PerdureError,
    StoreError,
    StoreUnavailableError,
    UnavailableError,
    VersionConflictError,
)
from perdure.core.invariant import invariant
from perdure.core.run import (
    activity,
    completion,
    deadlines,
    effects,
    listing,
    problems,
    versioning,
    workflow_task,
)
from perdure.core.run.effects import NONE, Effect
from perdure.core.run.items import decode_run
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunKey, RunKind, RunWrite, Task, TaskKind
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.core.visibility.attributes import AttributeType
from perdure.server.engine.activity_runs import ActivityRuns
from perdure.server.engine.deliveries import ActivityDelivery, Delivery, WorkflowTaskDelivery
from perdure.server.engine.departures import Departures
from perdure.server.engine.matching import Matching, Poller
from perdure.server.engine.operation_runs import OperationRuns
from perdure.server.engine.pending import Outcome, Pending, Reserved
from perdure.server.engine.runs import RunCache, RunSlot
from perdure.server.engine.standalone_runs import StandaloneRuns
from perdure.server.engine.timers import Timers, Woken
from perdure.server.engine.tokens import TokenSealer
from perdure.server.namespaces import Namespaces
from perdure.server.runtime import Runtime
from perdure.store.protocol import Store, StoredSchedule

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Compute = Callable[[RunState, int], tuple[Transition | None, Result]]
"""From a run's state and the time to a transition (None: nothing changes) and what the caller wants to know."""

CONFLICT_RETRIES = 10
_NO_ROUTES = Routes()
BUSY_RUN = "the workflow is being changed by others; try again"


class RunNotFoundError(NotFoundError):
    """The store has no such run."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engine holds itself to.

    Attributes:
        cached_runs: runs kept in memory.
        run: the limits every run is held to.
    """

    cached_runs: int = 4_000
    run: Limits = field(default_factory=Limits)


class Engine:
    """Runs of one store.

    Args:
        store: the truth.
        namespaces: for retention and search attribute types.
        runtime: clock and ids.
        limits: sizes of caches and of runs.

    Attributes:
        deliver_effects: does what a run has yet to do to other runs; set by whoever builds the engine.
        on_closed: called after the commit that closed a run; for whoever waits for its end.
        requests_under_way: what of the effects of a run is seen to beside it; set by whoever does.
        routes: the routes of worker versions by namespace id; set by whoever knows them.
        before_stop: awaited, in order, before the engine stops.
    """

    def __init__(
        self, store: Store, namespaces: Namespaces, runtime: Runtime, limits: EngineLimits | None = None
    ) -> None:
        self.store = store
        self.namespaces = namespaces
        self.runtime = runtime
        self.limits = limits or EngineLimits()
        self.runs = RunCache(self.limits.cached_runs)
        self.matching = Matching(store, runtime, self.start_task)
        self.departures = Departures()
        self.timers = Timers(store, runtime, self._wake)
        self.activity_runs = ActivityRuns(self)
        self.operation_runs = OperationRuns(self)
        self._standalone: Mapping[RunKind, StandaloneRuns[Any, Any]] = {
            RunKind.ACTIVITY: self.activity_runs,
            RunKind.NEXUS_OPERATION: self.operation_runs,
        }
        self.tokens = TokenSealer("")
        self.deliver_effects: Callable[[RunKey], Awaitable[None]] | None = None
        self.on_closed: Callable[[RunKey], None] = _nothing
        self.requests_under_way: Callable[[RunKey], Set[Effect]] = _no_requests
        self.routes: Callable[[str], Routes] = _no_routes
        self.before_stop: list[Callable[[], Awaitable[None]]] = []
        self.is_stopping = False
        self._working: set[asyncio.Future[Any]] = set()
        self.starting: dict[tuple[str, str], asyncio.Future[None]] = {}
        """New runs on their way to the disk, by namespace id and workflow id."""

    async def start(self) -> None:
        """Makes the engine ready: what was pending when the process ended goes on. The store must be open."""
        self.tokens = TokenSealer(await self.store.cluster_id())
        await self.timers.start()

    def end_long_polls(self) -> None:
        """Lets every waiting poll return empty, and every new one at once."""
        self.is_stopping = True
        self.matching.close()
        for slot in self.runs.slots():
            slot.wake_all()
        for standalone in self._standalone.values():
            standalone.wake_all()

    async def stop(self) -> None:
        """Finishes what is being committed. The store is closed by its owner afterwards."""
        self.end_long_polls()
        for stop in self.before_stop:
            await stop()
        await self.timers.stop()
        await asyncio.gather(*self._working, return_exceptions=True)

    # --- transitions ---

    async def transact(
        self,
        run: RunKey,
        compute: Compute[Result],
        on_commit: Callable[[RunSlot], None] | None = None,
        *,
        alone: bool = False,
    ) -> Result:
        """Computes and commits one transition of a run.

        It is finished even if the caller is cancelled meanwhile. A conflict with another writer is computed again.

        Args:
            run: which run.
            compute: see `Compute`; it may raise, then nothing has happened. It may be called again.
            on_commit: called with the run's slot once the transition is committed, before anything is handed over.
            alone: compute on what is durable only.

        Returns:
            what `compute` returned, once it and everything that it was computed on is durable.

        Raises:
            NotFoundError: there is no such run.
            UnavailableError: the store could not do it; the outcome may be unknown.
        """
        slot = self.runs.pin(run)
        try:
            state = slot.state
            if (
                state is None
                or not slot.lock.is_free
                or (slot.in_flight and (alone or slot.updates is not None))
            ):
                return await self.finish_anyway(self._transact(run, compute, on_commit, alone))
            outcome = self._attempt(slot, state, compute, on_commit)
            if outcome.waiter is not None:
                try:
                    await outcome.waiter
                except VersionConflictError:
                    return await self.finish_anyway(self._transact(run, compute, on_commit, alone))
            elif slot.in_flight and not await slot.settle():
                return await self.finish_anyway(self._transact(run, compute, on_commit, alone))
            return outcome.result()
        finally:
            self.runs.unpin(slot)

    def _attempt(
        self,
        slot: RunSlot,
        state: RunState,
        compute: Compute[Result],
        on_commit: Callable[[RunSlot], None] | None,
    ) -> Outcome[Result]:
        """Computes a transition and hands it to the store, without waiting for anything."""
        try:
            tx, result = compute(state, self.runtime.now_ns())
        except PerdureError as error:  # an answer too: it stands if what it was computed on does
            return Outcome(error=error)
        if tx is None or tx.is_untouched:
            return Outcome(result)
        if tx.is_in_memory:
            self._keep(slot, tx, on_commit)
            return Outcome(result)
        pending = self.prepare(slot, tx)
        pending.on_commit = on_commit
        if tx.successor is None:
            return Outcome(result, waiter=self.commit([pending]))
        next_slot = self.runs.pin(tx.successor.state.run)
        try:
            following = self.prepare(next_slot, tx.successor)
            following.becomes_current = True
            following.expected_current_run_id = slot.key.run_id
            return Outcome(result, waiter=self.commit([pending, following]))
        except BaseException:  # whatever it was: who waits for the tasks goes on waiting
            self.drop([pending])
            raise
        finally:
            self.runs.unpin(next_slot)

    def commit(
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
            writes = [self._write(pending)[0] for pending in unit]
        except BaseException:  # a defect must not take pollers along
            self.drop(unit)
            raise
        try:
            committing = asyncio.ensure_future(self.store.commit([*writes, *beside], schedule))
            if committing.done():
                committing.result()
        except BaseException as error:  # it was refused at once, and what is in flight goes on
            waiter.set_exception(self._refused(unit, error))
            return waiter
        self._working.add(committing)
        for pending, write in zip(unit, writes, strict=True):
            pending.go_ahead(write)
            if pending.becomes_current:
                self._note_start(pending, waiter)
            if pending.reserved:
                self._hand_over_early(pending, committing)

        def answered(done: asyncio.Future[None]) -> None:
            self._working.discard(done)
            error = asyncio.CancelledError() if done.cancelled() else done.exception()
            if error is None and any(pending.is_outlived for pending in unit):
                error = StoreUnavailableError("a commit before it failed")
            for pending in unit:
                pending.slot.answered()
            try:
                if error is None:
                    for pending, write in zip(unit, writes, strict=True):
                        self._publish(pending, write)
                else:
                    error = self._not_committed(unit, writes, error)
            finally:
                for pending in unit:
                    self.runs.unpin(pending.slot)
                    if pending.becomes_current and self.starting.get(pending.slot.key[:2]) is waiter:
                        del self.starting[pending.slot.key[:2]]
                if not waiter.done():
                    if error is None:
                        waiter.set_result(None)
                    else:
                        waiter.set_exception(error)
                        waiter.exception()  # read here, because the caller may be gone

        committing.add_done_callback(answered)
        return waiter

    def _note_start(self, pending: Pending, waiter: asyncio.Future[None]) -> None:
        """Others of the same workflow id may lose the race to this run, or this one to a run that is ahead of it."""
        workflow = pending.slot.key[:2]
        pending.is_patient = pending.is_patient or workflow in self.starting
        self.starting[workflow] = waiter

    async def finish_anyway(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs `work` to its end even if the caller is cancelled while it waits."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._worked)
        return await asyncio.shield(task)

    @property
    def working(self) -> set[asyncio.Future[Any]]:
        """What is under way and will be finished whoever waits for it."""
        return self._working

    def _worked(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # read here, because a caller that is gone will not

    async def _transact(
        self,
        run: RunKey,
        compute: Compute[Result],
        on_commit: Callable[[RunSlot], None] | None,
        alone: bool,
    ) -> Result:
        slot = self.runs.pin(run)
        try:
            for _ in range(CONFLICT_RETRIES):
                async with slot.lock:
                    while slot.in_flight and (alone or slot.updates is not None):
                        await slot.settle()
                    state = slot.state or await self.load(slot)
                    outcome = self._attempt(slot, state, compute, on_commit)
                if outcome.waiter is not None:
                    try:
                        await outcome.waiter
                    except VersionConflictError:
                        continue
                elif slot.in_flight and not await slot.settle():
                    continue
                return outcome.result()
            raise UnavailableError(BUSY_RUN)
        finally:
            self.runs.unpin(slot)

    async def load(self, slot: RunSlot) -> RunState:
        """The run's state, from the store if it is not in memory. The slot's lock must be held.

        Raises:
            NotFoundError: there is no such run.
            UnavailableError: the store cannot be read now.
        """
        while slot.state is None and slot.in_flight:
            await slot.settle()  # what is still under way is known to fail, but not yet whether it did
        if slot.state is not None:
            return slot.state
        stored = await self.reading(self.store.load_run(slot.key))
        if stored is None:
            raise RunNotFoundError("workflow execution not found")
        slot.tail.clear()
        state = decode_run(stored.run, stored.version, stored.header, stored.items, stored.wakeup_ns)
        if state.header.retry_policy or state.header.cron_schedule:
            first = await self.reading(self.store.read_history(slot.key, 1, 2, 1))
            state.started = History.FromString(first[0].data).events[0]
        slot.state, slot.durable = state, state.header
        if slot.updates is not None:
            slot.updates.forget_accepted(state)
        return state

    async def reading(self, read: Coroutine[Any, Any, Result]) -> Result:
        """Awaits a read of the store; its errors become answers.

        Raises:
            UnavailableError: the store cannot be read now.
        """
        try:
            return await read
        except StoreError as error:
            raise UnavailableError(f"the database cannot be read now: {error}") from error

    def prepare(self, slot: RunSlot, tx: Transition) -> Pending:
        """Completes a transition: schedules what it calls for and hands tasks to waiting pollers in it."""
        limits = self.limits.run
        if tx.header.task_is_speculative:
            tx.write_speculative_task()
        completion.overflow_buffer(tx, limits)
        completion.end_oversized_run(tx, limits)
        workflow_task.schedule_if_needed(tx)
        problems.note(tx, limits.task_failures_reported)
        versioning.route(tx, self.routes(slot.key.namespace_id))
        return Pending(slot, tx, self._hand_over(slot, tx))

    def _hand_over(self, slot: RunSlot, tx: Transition) -> list[Reserved]:
        reserved: list[Reserved] = []
        try:
            self._reserve(slot, tx, reserved)
        except BaseException:  # whatever it was: who waits for the tasks goes on waiting
            self._release(reserved)
            raise
        return reserved

    def _reserve(self, slot: RunSlot, tx: Transition, reserved: list[Reserved]) -> None:
        for task in tx.new_tasks():
            if task.sticky and not self.matching.is_alive(task.queue):
                workflow_task.reroute_to_normal_queue(tx)
                rerouted = tx.workflow_task_dispatch(tx.header)
                if rerouted is None:
                    continue
                task = rerouted
            poller = self.matching.reserve(task)
            if poller is None:
                continue
            reserved.append(Reserved(poller, task, None))
            if task.key.kind is TaskKind.WORKFLOW:
                self._start_for(poller, slot, tx, counts_new_events=True)
            else:
                activity.start(tx, task.key.scheduled_event_id, poller.request_id, poller.identity)
                reserved[-1] = Reserved(poller, task, _activity_delivery(tx, task))

    def _start_for(
        self, poller: Poller, slot: RunSlot, tx: Transition, *, counts_new_events: bool = False
    ) -> None:
        """Starts the pending workflow task for a poller."""
        versioning.taken_by(tx, poller.deployment_version, self.routes(slot.key.namespace_id))
        workflow_task.start(
            tx,
            poller.request_id,
            poller.identity,
            self.limits.run,
            poller.version,
            counts_new_events=counts_new_events,
            updates_waiting=slot.updates_waiting,
        )

    def _hand_over_early(self, pending: Pending, committing: asyncio.Future[None]) -> None:
        """Gives a worker of this process its workflow task while the disk writes; what it answers goes behind."""
        slot = pending.slot
        if pending.is_patient or slot.updates is not None or slot.queries.is_busy:
            return
        for reserved in pending.reserved:
            poller, task, _ = reserved
            if poller.is_local and task.key.kind is TaskKind.WORKFLOW:
                pending.reserved.remove(reserved)
                delivery = self.workflow_task_delivery(slot, pending.tx, task)
                self.matching.deliver(poller, msgspec.structs.replace(delivery, committing=committing))
                return  # a run has one workflow task at a time

    def drop(self, unit: Sequence[Pending]) -> None:
        """Gives up transitions that the store does not have: pollers that were to get their tasks wait again."""
        for pending in unit:
            if not pending.is_with_store:
                self._release(pending.reserved)

    def _release(self, reserved: list[Reserved]) -> None:
        while reserved:
            poller, task, _ = reserved.pop()  # the last one first: each goes to the front of its line
            self.matching.release(task, poller)

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
            self._release(pending.reserved)
        if not isinstance(error, StoreError) or isinstance(
            error, (VersionConflictError, CurrentRunConflictError)
        ):
            return error
        # If it was written after all, its tasks wait; whoever gets one that does not exist drops it.
        for write in writes:
            for task in write.tasks_put:
                self.matching.offer(task)
        return _unavailable(error)

    def _write(self, pending: Pending) -> tuple[RunWrite, Transition]:
        tx = pending.tx
        visibility = listing.record(tx, self.custom_attributes(tx)) if tx.visibility_changed else None
        write = tx.finish(
            deadlines.next_wakeup_ns(tx),
            visibility,
            becomes_current=pending.becomes_current,
            expected_current_run_id=pending.expected_current_run_id,
        )
        return self.matching.placed(write) if write.tasks_put else write, tx

    def custom_attributes(self, tx: Transition) -> Mapping[str, AttributeType]:
        """The run's namespace's own search attributes."""
        namespace = self.namespaces.by_id(tx.state.run.namespace_id)
        return namespace.search_attributes if namespace is not None else {}

    def _publish(self, pending: Pending, write: RunWrite) -> None:
        slot, tx, before = pending.slot, pending.tx, pending.before
        slot.durable = tx.header
        self.timers.note(write.run, write.wakeup_ns)
        if pending.on_commit is not None:
            pending.on_commit(slot)
        if before.has_started_task and (
            tx.header.task_stamp != before.task_stamp or not tx.header.has_pending_task
        ):
            slot.queries.put_back()
        for poller, task, delivery in pending.reserved:
            self.matching.deliver(poller, delivery or self.workflow_task_delivery(slot, tx, task))
        for task in write.tasks_put:
            self.matching.offer(task)
        is_last = not slot.in_flight
        header = (
            tx.state.header if is_last else tx.header
        )  # maybe with a speculative task that `on_commit` made
        if not header.has_pending_task and (
            header.last_completed_task_started_event_id or not header.is_open
        ):
            slot.unblock_queries()
        if slot.updates is not None and is_last:
            self.bring_updates(slot)
        slot.wake()
        if before.is_open and not tx.header.is_open:
            self.on_closed(slot.key)

    # --- updates and the workflow tasks that only bring them ---

    def bring_updates(self, slot: RunSlot) -> None:
        """If updates wait and no workflow task is pending, makes a speculative one. The slot's lock must be held."""
        state, updates = slot.state, slot.updates
        if state is None or updates is None or not updates.waiting:
            return
        header = state.header
        if not header.is_open:
            updates.waiting.clear()  # whoever waits for them sees that the run is closed
            return
        if header.has_pending_task or header.first_task_at_ns or header.paused_ns:
            return
        tx = self.new_speculative_task(state)
        task = tx.waiting_workflow_task(tx.header)
        invariant(task is not None, "a workflow task was just scheduled", run=slot.key)
        poller = self.matching.reserve(task)  # type: ignore[arg-type]  # checked above
        if poller is not None:
            self._start_for(poller, slot, tx)
        self._keep(slot, tx)
        if poller is None:
            self.matching.offer(task, is_stored=False)  # type: ignore[arg-type]  # checked above
        else:
            self.matching.deliver(poller, self.workflow_task_delivery(slot, tx, task))  # type: ignore[arg-type]

    def new_speculative_task(self, state: RunState) -> Transition:
        """A transition that makes a speculative workflow task pending, on a queue that somebody polls if possible."""
        tx = Transition(state, self.runtime.now_ns())
        workflow_task.schedule_speculative(tx, self.limits.run)
        versioning.route(tx, self.routes(state.run.namespace_id))
        task = tx.waiting_workflow_task(tx.header)
        if task is not None and task.sticky and not self.matching.is_alive(task.queue):
            workflow_task.reroute_to_normal_queue(tx)
        return tx

    def start_inline(self, slot: RunSlot, request_id: str, identity: str) -> Transition:
        """Makes a speculative workflow task and starts it for a worker that is being answered. The lock must be held.

        Args:
            slot: the run's; no workflow task may be pending.
            request_id, identity: for its Started event.
        """
        state = slot.state
        invariant(state is not None, "a run that was just committed is in memory", run=slot.key)
        tx = self.new_speculative_task(state)  # type: ignore[arg-type]  # checked above
        workflow_task.start(tx, request_id, identity, self.limits.run, updates_waiting=slot.updates_waiting)
        self._keep(slot, tx)
        return tx

    def _keep(
        self, slot: RunSlot, tx: Transition, on_commit: Callable[[RunSlot], None] | None = None
    ) -> None:
        """Publishes a transition that writes nothing."""
        before = tx.state.header
        invariant(not slot.in_flight, "what writes nothing is computed on what is durable", run=slot.key)
        tx.keep(deadlines.next_wakeup_ns(tx))
        slot.durable = tx.header
        if on_commit is not None:
            on_commit(slot)
        if before.has_started_task and not tx.header.has_started_task:
            slot.queries.put_back()
            slot.unblock_queries()
        self.timers.note(slot.key, tx.state.wakeup_ns)
        if not tx.state.header.has_pending_task:
            self.bring_updates(slot)
        slot.wake()

    # --- starting tasks ---

    def workflow_task_delivery(
        self, slot: RunSlot, tx: Transition, task: Task, *, again: bool = True
    ) -> WorkflowTaskDelivery:
        """The delivery of the workflow task that `tx` started.

        Args:
            slot: the run's.
            tx: the transition.
            task: the task.
            again: updates that a task before has brought and that had no answer are brought again.
        """
        header = tx.header
        transient: list[HistoryEvent] = workflow_task.transient_events(header, header.task_worker_identity)
        messages = slot.updates.send(header.task_started_event_id, again=again) if slot.updates else ()
        return WorkflowTaskDelivery(
            tx.state.run, header, task.queue, task.sticky, tuple(transient), slot.queries.take(), messages
        )

    async def start_task(self, task: Task, poller: Poller) -> Delivery | None:
        """Starts a task of the backlog for a poller.

        Returns:
            the started task, or None if it is not the current one any more.

        Raises:
            UnavailableError: the store could not do it; the outcome may be unknown.
        """
        if task.run.kind is RunKind.ACTIVITY:
            return await self.activity_runs.start_task(task, poller)
        slot = self.runs.pin(task.run)
        try:
            for _ in range(CONFLICT_RETRIES):
                async with slot.lock:
                    while slot.in_flight and slot.updates is not None:
                        await slot.settle()
                    begun = self._begin(slot, slot.state or await self.load(slot), task, poller)
                if begun is None:
                    if not slot.in_flight or await slot.settle():
                        return None
                    continue
                tx, delivery, committed = begun
                if committed is not None:
                    try:
                        await committed
                    except VersionConflictError:
                        continue
                return delivery or self.workflow_task_delivery(slot, tx, task)
            raise UnavailableError(BUSY_RUN)
        except NotFoundError:
            return None
        finally:
            self.runs.unpin(slot)

    def _begin(
        self, slot: RunSlot, state: RunState, task: Task, poller: Poller
    ) -> tuple[Transition, ActivityDelivery | None, asyncio.Future[None] | None] | None:
        """Starts a task: the transition, an activity's delivery, and its commit if it has one; None if it is stale."""
        tx = Transition(state, self.runtime.now_ns())
        if task.key.kind is TaskKind.WORKFLOW:
            current = tx.waiting_workflow_task(tx.header)
        else:
            current = tx.activity_dispatch(tx.activities.get(task.key.scheduled_event_id))
        if current is None or current.key != task.key or current.delivery_id != task.delivery_id:
            return None
        delivery: ActivityDelivery | None = None
        if task.key.kind is TaskKind.WORKFLOW:
            self._start_for(poller, slot, tx)
            if tx.is_in_memory:
                self._keep(slot, tx)
                return tx, None, None
        else:
            if tx.header.task_is_speculative:
                tx.write_speculative_task()
            activity.start(tx, task.key.scheduled_event_id, poller.request_id, poller.identity)
            delivery = _activity_delivery(tx, task)
        return tx, delivery, self.commit([Pending(slot, tx, [])])

    # --- time ---

    async def _wake(self, run: RunKey) -> None:
        if run.kind is not RunKind.WORKFLOW:
            await self._standalone[run.kind].wake(run)
            return
        try:
            woken = await self.transact(run, self._fire_due, alone=True)
            if woken is Woken.REACHES_OUT:
                await self._deliver_effects(run)
        except NotFoundError:
            return
        if woken is Woken.EXPIRED:
            await self.delete_run(run)

    async def settle(self, run: RunKey) -> None:
        """Has everything delivered that the run has yet to do to others, before it is deleted.

        Raises:
            UnavailableError: not now.
        """
        try:
            await self._deliver_effects(run)
        except NotFoundError:
            return

    async def _deliver_effects(self, run: RunKey) -> None:
        invariant(self.deliver_effects is not None, "nobody delivers what runs do to others", run=run)
        try:
            await self.deliver_effects(run)  # type: ignore[misc]  # checked above
        except UnavailableError:
            self.timers.note(
                run, None
            )  # it is due still: not again at once, but when the timer service retries
            raise

    def _fire_due(self, state: RunState, now_ns: int) -> tuple[Transition | None, Woken]:
        tx = Transition(state, now_ns)
        deadlines.fire(tx, self.limits.run)
        under_way = self.requests_under_way(state.run)
        if tx.may_reach_out and effects.pending(tx, under_way):
            return (None if tx.is_untouched else tx), Woken.REACHES_OUT
        if not state.header.is_open and now_ns >= state.header.close_ns + state.header.retention_ns:
            return None, Woken.EXPIRED
        if tx.is_untouched and deadlines.next_wakeup_ns(tx) == state.wakeup_ns:
            # In memory the next look leaves out what is seen to: other deadlines come before its end.
            self.timers.note(state.run, deadlines.next_wakeup_ns(tx, under_way))
            return None, Woken.IN_VAIN
        tx.touch()
        return tx, Woken.FIRED

    async def delete_run(self, run: RunKey) -> bool:
        """Deletes a run with everything that belongs to it, whatever it is of. Returns whether it was there."""
        if run.kind is not RunKind.WORKFLOW:
            return await self._standalone[run.kind].delete(run)
        slot = self.runs.pin(run)
        try:
            async with slot.alone():
                deleted = await self.reading(self.store.delete_run(run))
                self.runs.drop(run)
                self.timers.note(run, None)
                return deleted
        finally:
            self.runs.unpin(slot)


def _activity_delivery(tx: Transition, task: Task) -> ActivityDelivery:
    """The delivery of the activity attempt that `tx` has just started; taken before others change the activity."""
    event_id = task.key.scheduled_event_id
    pending = tx.activities.get(event_id)
    invariant(pending is not None, "an activity that was just started is there", run=tx.state.run)
    scheduled = next((event for event in tx.events if event.event_id == event_id), None)
    return ActivityDelivery(tx.state.run, tx.header, task.queue, pending, scheduled)  # type: ignore[arg-type]  # checked


def _unavailable(error: StoreError) -> UnavailableError:
    unavailable = UnavailableError(f"the database cannot be written now: {error}")
    unavailable.__cause__ = error
    return unavailable


def _nothing(run: RunKey) -> None:
    pass


def _no_routes(namespace_id: str) -> Routes:
    return _NO_ROUTES


def _no_requests(run: RunKey) -> Set[Effect]:
    return NONE
