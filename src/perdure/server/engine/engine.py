"""The engine: one transition at a time per run: load, apply the core, commit; and what runs do when their time comes.

`transact` is the only way anything changes a run. What a request means is decided by its caller's function over
the core, how a transition becomes durable by `commits`, which worker gets its tasks by `hand_over`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, TypeVar

from perdure.api.history.v1 import History
from perdure.core.deployment.routes import Routes
from perdure.core.errors import (
    NotFoundError,
    PerdureError,
    StoreError,
    UnavailableError,
    VersionConflictError,
)
from perdure.core.invariant import invariant
from perdure.core.run import deadlines, effects, versioning
from perdure.core.run.effects import NONE, Effect
from perdure.core.run.items import decode_run
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunKey, RunKind, Task, TaskKind
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.activity_runs import ActivityRuns
from perdure.server.engine.commits import Commits
from perdure.server.engine.deliveries import ActivityDelivery, Delivery
from perdure.server.engine.departures import Departures
from perdure.server.engine.hand_over import HandOver
from perdure.server.engine.matching import Matching, Poller
from perdure.server.engine.operation_runs import OperationRuns
from perdure.server.engine.pending import Outcome, Pending
from perdure.server.engine.runs import RunCache, RunSlot
from perdure.server.engine.speculative_tasks import SpeculativeTasks
from perdure.server.engine.standalone_runs import StandaloneRuns
from perdure.server.engine.timers import Timers, Woken
from perdure.server.engine.tokens import TokenSealer
from perdure.server.namespaces import Namespaces
from perdure.server.runtime import Runtime
from perdure.store.protocol import Store

Result = TypeVar("Result")
Compute = Callable[[RunState, int], tuple[Transition | None, Result]]
"""From a run's state and the time to a transition (None: nothing changes) and what the caller wants to know."""

CONFLICT_RETRIES = 10
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
        routes: the routes of worker versions by namespace id.
        limits: sizes of caches and of runs.

    Attributes:
        commits: how transitions become durable.
        hand_over: which worker gets which task.
        speculative: workflow tasks that only bring updates.
        deliver_effects: does what a run has yet to do to other runs; set by whoever builds the engine.
        requests_under_way: what of the effects of a run is seen to beside it; set by whoever does.
        before_stop: awaited, in order, before the engine stops.
    """

    def __init__(
        self,
        store: Store,
        namespaces: Namespaces,
        runtime: Runtime,
        routes: Callable[[str], Routes],
        limits: EngineLimits | None = None,
    ) -> None:
        self.store = store
        self.namespaces = namespaces
        self.runtime = runtime
        self.routes = routes
        self.limits = limits or EngineLimits()
        self.runs = RunCache(self.limits.cached_runs)
        self.matching = Matching(store, runtime, self.start_task)
        self.departures = Departures(self.matching.give_back)
        self.timers = Timers(store, runtime, self._wake)
        of_runs = self.limits.run
        self.hand_over = HandOver(self.matching, of_runs, routes)
        self.speculative = SpeculativeTasks(
            runtime, self.matching, self.hand_over, self.timers, of_runs, routes
        )
        self.commits = Commits(
            store,
            namespaces,
            self.runs,
            self.timers,
            self.matching,
            self.hand_over,
            self.speculative,
            of_runs,
            routes,
        )
        self.activity_runs = ActivityRuns(self)
        self.operation_runs = OperationRuns(self)
        self._standalone: Mapping[RunKind, StandaloneRuns[Any, Any]] = {
            RunKind.ACTIVITY: self.activity_runs,
            RunKind.NEXUS_OPERATION: self.operation_runs,
        }
        self.tokens = TokenSealer("")
        self.deliver_effects: Callable[[RunKey], Awaitable[None]] | None = None
        self.requests_under_way: Callable[[RunKey], Set[Effect]] = _no_requests
        self.before_stop: list[Callable[[], Awaitable[None]]] = []
        self.is_stopping = False
        self._working: set[asyncio.Future[Any]] = set()

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
        await asyncio.gather(*self.working, return_exceptions=True)

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
            self.speculative.keep(slot, tx, on_commit)
            return Outcome(result)
        pending = self.commits.prepare(slot, tx)
        pending.on_commit = on_commit
        if tx.successor is None:
            return Outcome(result, waiter=self.commits.submit([pending]))
        next_slot = self.runs.pin(tx.successor.state.run)
        try:
            following = self.commits.prepare(next_slot, tx.successor)
            following.becomes_current = True
            following.expected_current_run_id = slot.key.run_id
            return Outcome(result, waiter=self.commits.submit([pending, following]))
        except BaseException:  # whatever it was: who waits for the tasks goes on waiting
            self.commits.drop([pending])
            raise
        finally:
            self.runs.unpin(next_slot)

    async def finish_anyway(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs `work` to its end even if the caller is cancelled while it waits."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._worked)
        return await asyncio.shield(task)

    @property
    def working(self) -> set[asyncio.Future[Any]]:
        """What is under way and will be finished whoever waits for it."""
        return self._working | self.commits.under_way

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

    # --- starting tasks ---

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
                if delivery is None and task.key.kind is TaskKind.ACTIVITY:
                    return None
                return delivery or self.hand_over.workflow_task(slot, tx, task)
            raise UnavailableError(BUSY_RUN)
        except NotFoundError:
            return None
        finally:
            self.runs.unpin(slot)

    def _begin(
        self, slot: RunSlot, state: RunState, task: Task, poller: Poller
    ) -> tuple[Transition, ActivityDelivery | None, asyncio.Future[None] | None] | None:
        """Starts a task: the transition, an activity's delivery, and its commit if it has one; None if it is stale.

        An activity without a delivery waits: its run begins to move to another version instead.
        """
        tx = Transition(state, self.runtime.now_ns())
        if task.key.kind is TaskKind.WORKFLOW:
            current = tx.waiting_workflow_task(tx.header)
        else:
            current = tx.activity_dispatch(tx.activities.get(task.key.scheduled_event_id))
        if current is None or current.key != task.key or current.delivery_id != task.delivery_id:
            return None
        delivery: ActivityDelivery | None = None
        if task.key.kind is TaskKind.WORKFLOW:
            self.hand_over.start_workflow_task(poller, slot, tx)
            if tx.is_in_memory:
                self.speculative.keep(slot, tx)
                return tx, None, None
        else:
            if tx.header.task_is_speculative:
                tx.write_speculative_task()
            routes = self.routes(slot.key.namespace_id)
            if versioning.moves_before_activity(tx, poller.deployment_version, routes):
                versioning.move_for_activity(tx, poller.deployment_version, routes)
                return tx, None, self.commits.submit([self.commits.prepare(slot, tx)])
            delivery = self.hand_over.start_activity(poller, tx, task)
        return tx, delivery, self.commits.submit([Pending(slot, tx, [])])

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
                try:
                    deleted = await self.reading(self.store.delete_run(run))
                finally:
                    self.runs.drop(run)  # also if it is not known whether it was deleted
                self.timers.note(run, None)
                return deleted
        finally:
            self.runs.unpin(slot)


def _no_requests(run: RunKey) -> Set[Effect]:
    return NONE
