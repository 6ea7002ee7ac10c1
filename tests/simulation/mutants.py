"""Bugs on purpose: each breaks one thing in the server, and the simulator must find it in a bounded number of seeds.

Some were real ones once. A mutant that survives says what the simulator does not look at.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest

from perdure.api.history.v1 import HistoryEvent
from perdure.api.update.v1 import Acceptance
from perdure.core.activity import machine as activity_machine
from perdure.core.activity.state import ActivityRun, ActivityTransition
from perdure.core.errors import InvariantViolation, NotFoundError, PerdureError, ResourceExhaustedError
from perdure.core.run import (
    activity,
    cancellation,
    commands,
    completion,
    deadlines,
    lifecycle,
    signal,
    timer,
    update,
    workflow_task,
)
from perdure.core.run.overlay import Overlay
from perdure.core.run.records import QueueKey, RunKey, RunWrite
from perdure.core.run.transition import Transition
from perdure.core.schedule import machine, messages
from perdure.core.schedule.state import ScheduleState
from perdure.server.engine import timers
from perdure.server.engine.activity_runs import ActivityRuns
from perdure.server.engine.commits import Commits
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.matching import Matching, Poller
from perdure.server.engine.pending import Pending
from perdure.server.engine.queries import Queries
from perdure.server.engine.runs import HistoryTail, RunLock, RunSlot
from perdure.server.engine.schedules import Schedules
from perdure.server.engine.starts import Starts
from perdure.server.engine.timers import Timers
from perdure.server.service.task_responses import TaskResponses
from perdure.store.memory import MemoryStore
from perdure.store.protocol import ScheduleKey
from tests.simulation.callback_mutants import CALLBACK_MUTANTS
from tests.simulation.control_mutants import CONTROL_MUTANTS
from tests.simulation.cron_mutants import CRON_MUTANTS
from tests.simulation.deployment_mutants import DEPLOYMENT_MUTANTS
from tests.simulation.fleet_mutants import FLEET_MUTANTS
from tests.simulation.interpreter import NonDeterminism
from tests.simulation.limit_mutants import LIMIT_MUTANTS
from tests.simulation.loop import SimulationError
from tests.simulation.model import Broken
from tests.simulation.removal_mutants import REMOVAL_MUTANTS
from tests.simulation.store import SimStore
from tests.simulation.update_with_start_mutants import UPDATE_WITH_START_MUTANTS

SEEDS = 300
"""So many may be needed to find one."""
FINDINGS = (Broken, InvariantViolation, NonDeterminism, SimulationError)
"""What the simulator says of a broken server. Any other error is a mutant that no longer fits the code it patches."""
Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]
MUTANTS: dict[str, Mutant] = {
    mutant.__name__.replace("_", " "): mutant
    for mutant in (
        *CALLBACK_MUTANTS,
        *CONTROL_MUTANTS,
        *CRON_MUTANTS,
        *DEPLOYMENT_MUTANTS,
        *FLEET_MUTANTS,
        *LIMIT_MUTANTS,
        *REMOVAL_MUTANTS,
        *UPDATE_WITH_START_MUTANTS,
    )
}


def _mutant(apply: Mutant) -> Mutant:
    MUTANTS[apply.__name__.replace("_", " ")] = apply
    return apply


# --- events


@_mutant
def flush_in_order_of_arrival(patch: Patch) -> None:
    patch.setattr("perdure.core.run.transition._COMPLETIONS", frozenset())


@_mutant
def buffered_events_dropped(patch: Patch) -> None:
    """What waits while a task is started is lost when it ends."""

    def flush(self: Transition) -> bool:
        had = self.has_buffered()
        self.buffered.clear()
        return had

    patch.setattr(Transition, "flush", flush)


@_mutant
def completions_do_not_name_their_start(patch: Patch) -> None:
    patch.setattr("perdure.core.run.transition._CLOSED_BY", {})


@_mutant
def closing_over_unseen_events(patch: Patch) -> None:
    """A run may close although events wait that its worker has not seen."""

    class Careless(commands.CommandContext):
        @property
        def must_handle_events(self) -> bool:
            return False

        @must_handle_events.setter
        def must_handle_events(self, value: bool) -> None:
            pass

    patch.setattr(completion, "CommandContext", Careless)


@_mutant
def fired_timer_not_taken_back(patch: Patch) -> None:
    patch.setattr(timer, "_take_back_fired", lambda tx, timer_id: 0)


# --- time


@_mutant
def timers_fire_early(patch: Patch) -> None:
    start = timer.start

    def early(tx: Transition, command: Any, completed_event_id: int) -> None:
        start(tx, command, completed_event_id)
        pending = tx.timers.edit(command.timer_id)
        pending.fire_ns -= min(pending.fire_ns - tx.now_ns, 1_000_000_000)

    patch.setattr(timer, "start", early)


@_mutant
def retries_are_not_woken(patch: Patch) -> None:
    """The wake-up forgets the end of a retry's backoff."""
    found = activity.deadlines

    def forgetful(pending: Any) -> list[tuple[int, int]]:
        return [(time_ns, kind) for time_ns, kind in found(pending) if kind]

    patch.setattr(activity, "deadlines", forgetful)


@_mutant
def wakeups_forgotten_at_restart(patch: Patch) -> None:
    async def load(self: Timers) -> None:
        self._known_until_ns = 1 << 62

    patch.setattr(Timers, "_load", load)


@_mutant
def first_page_of_wakeups_only(patch: Patch) -> None:
    """A page full of runs that are being worked on is asked for again and again."""

    async def load(self: Timers) -> None:
        rows = await self._store.due_wakeups(self._runtime.now_ns() + timers.HORIZON_NS, None, timers.PAGE)
        self._known_until_ns = (
            rows[-1].wakeup_ns if len(rows) == timers.PAGE else self._runtime.now_ns() + timers.HORIZON_NS
        )
        for wakeup in rows:
            if wakeup.run not in self._working and self._wanted.get(wakeup.run) != wakeup.wakeup_ns:
                self._wanted[wakeup.run] = wakeup.wakeup_ns
                heapq.heappush(self._heap, wakeup)

    patch.setattr(Timers, "_load", load)


@_mutant
def retention_ignored(patch: Patch) -> None:
    fire_due = Engine._fire_due

    def eager(self: Engine, state: Any, now_ns: int) -> Any:
        return (None, True) if not state.header.is_open else fire_due(self, state, now_ns)

    patch.setattr(Engine, "_fire_due", eager)
    patch.setattr(deadlines, "next_wakeup_ns", _wakes_at_close(deadlines.next_wakeup_ns))


def _wakes_at_close(next_wakeup_ns: Callable[[Transition], int | None]) -> Callable[[Transition], int | None]:
    def wakes(tx: Transition) -> int | None:
        return next_wakeup_ns(tx) if tx.header.is_open else tx.header.close_ns + 1

    return wakes


# --- exactly once


@_mutant
def activity_ends_twice(patch: Patch) -> None:
    """An activity stays pending after its end."""

    def finish(tx: Transition, pending: Any, event: HistoryEvent) -> None:
        tx.append(event)
        tx.needs_task = True

    patch.setattr(activity, "_finish", finish)


@_mutant
def retry_recorded_as_end(patch: Patch) -> None:
    """An attempt that is retried leaves its failure in the history too."""
    fail = activity.fail

    def twice(tx: Transition, pending: Any, failure: Any, identity: str, *rest: Any) -> bool:
        retried = fail(tx, pending, failure, identity, *rest)
        if retried:
            event = tx.new_event(activity._FAILED)
            event.activity_task_failed_event_attributes.scheduled_event_id = pending.scheduled_event_id
            tx.append(event)
            tx.needs_task = True
        return retried

    patch.setattr(activity, "fail", twice)


@_mutant
def signals_not_deduplicated(patch: Patch) -> None:
    receive = signal.receive

    def naive(tx: Transition, **given: Any) -> bool:
        if given["request_id"]:
            tx.signal_request_ids.delete(given["request_id"])
        return receive(tx, **given)

    patch.setattr(signal, "receive", naive)


@_mutant
def starts_not_deduplicated(patch: Patch) -> None:
    existing = Starts.existing

    def naive(self: Starts, current: Any, request: Any) -> Any:
        return existing(self, replace(current, start_request_id=""), request)

    patch.setattr(Starts, "existing", naive)


@_mutant
def stale_task_tokens_accepted(patch: Patch) -> None:
    """A completion counts for whichever workflow task is started now."""
    check = workflow_task.check_current

    def lax(header: Any, *token: Any) -> None:
        if not header.is_open or not header.has_started_task:
            check(header, *token)

    patch.setattr(workflow_task, "check_current", lax)


# --- what is acknowledged


@_mutant
def acknowledged_before_durable(patch: Patch) -> None:
    """The store answers first and writes a moment later, if it still can."""
    commit = SimStore.commit

    async def early(self: SimStore, unit: Sequence[RunWrite], *rest: Any) -> None:
        writing = asyncio.ensure_future(commit(self, unit, *rest))
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())

    patch.setattr(SimStore, "commit", early)


@_mutant
def neither_lock_nor_version_check(patch: Patch) -> None:
    """Two transitions of a run at a time, and the store does not notice. (Without the lock alone nothing breaks.)"""
    init = RunSlot.__init__

    class NoLock(RunLock):
        @property
        def is_free(self) -> bool:
            return True

        async def acquire(self) -> Literal[True]:
            return True

        def release(self) -> None:
            pass

    def unlocked(self: RunSlot, key: Any) -> None:
        init(self, key)
        self.lock = NoLock()

    def lax(self: MemoryStore, unit: Sequence[RunWrite]) -> None:
        pass

    patch.setattr(RunSlot, "__init__", unlocked)
    patch.setattr(MemoryStore, "_check_expectations", lax)


@_mutant
def failed_commit_keeps_the_state(patch: Patch) -> None:
    """What is in memory is believed although a commit's outcome is unknown."""
    patch.setattr(RunSlot, "forget", lambda self: None)


@_mutant
def reads_show_what_is_not_durable(patch: Patch) -> None:
    """A read is answered with the state that the next transition is computed on."""

    async def hasty(self: Histories, run: Any) -> Any:
        slot = self._engine.runs.pin(run)
        try:
            if slot.state is not None:
                return slot.state
        finally:
            self._engine.runs.unpin(slot)
        return await state(self, run)

    state = Histories.state
    patch.setattr(Histories, "state", hasty)


@_mutant
def long_polls_show_what_is_not_durable(patch: Patch) -> None:
    """Whoever follows a history sees events on their way to the disk."""
    go_ahead = Pending.go_ahead

    def hasty(self: Pending, write: RunWrite) -> None:
        go_ahead(self, write)
        self.slot.durable = self.tx.header
        self.slot.wake()

    patch.setattr(Pending, "go_ahead", hasty)


@_mutant
def write_behind_a_failed_one_is_done(patch: Patch) -> None:
    """The store does what was computed on a write that never happened, wherever that leads."""
    check_expectations = MemoryStore._check_expectations

    def lax(self: MemoryStore, unit: Sequence[RunWrite]) -> None:
        if any(write.becomes_current for write in unit):
            check_expectations(self, unit)

    patch.setattr(MemoryStore, "_check_expectations", lax)


@_mutant
def tasks_handed_over_before_they_are_durable(patch: Patch) -> None:
    """Whoever waits for a task gets it while its start is on its way to the disk."""

    def hasty(self: Commits, unit: Sequence[Pending], *rest: Any, **named: Any) -> Any:
        committed = commit(self, unit, *rest, **named)
        for pending in unit:
            reserved, pending.reserved = pending.reserved, []
            for poller, task, delivery in reserved:
                found = delivery or self._hand_over.workflow_task(pending.slot, pending.tx, task)
                self._matching.deliver(poller, found)
        return committed

    commit = Commits.submit
    patch.setattr(Commits, "submit", hasty)


@_mutant
def activities_handed_over_before_they_are_durable(patch: Patch) -> None:
    """A worker of the server's process begins an attempt that a crash would forget."""

    def hasty(self: Commits, unit: Sequence[Pending], *rest: Any, **named: Any) -> Any:
        committed = commit(self, unit, *rest, **named)
        for pending in unit:
            for reserved in list(pending.reserved):
                if reserved.delivery is not None:
                    pending.reserved.remove(reserved)
                    self._matching.deliver(reserved.poller, reserved.delivery)
        return committed

    commit = Commits.submit
    patch.setattr(Commits, "submit", hasty)


@_mutant
def remote_workers_are_taken_for_local_ones(patch: Patch) -> None:
    """Workflow tasks are given to workers that outlive the server before they are durable."""
    init = Poller.__init__

    def local(self: Poller, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        self.is_local = True

    patch.setattr(Poller, "__init__", local)


@_mutant
def cancellation_without_event(patch: Patch) -> None:
    def request(tx: Transition, **given: Any) -> bool:
        tx.header.cancel_requested = True
        return True

    patch.setattr(cancellation, "request", request)


@_mutant
def reset_forgets_updates(patch: Patch) -> None:
    """What the workflow had accepted after the point of a reset does not reach the new run."""
    patch.setattr(update, "bring_again", lambda tx, event: None)


@_mutant
def updates_brought_again_are_never_heard_of(patch: Patch) -> None:
    """The workflow's word on an update that a reset brought leaves it as it was."""

    def accept(self: update.UpdateAnswers, update_id: str, acceptance: Any) -> None:
        if update_id not in self.tx.updates:
            real(self, update_id, acceptance)

    real = update.UpdateAnswers.accept
    patch.setattr(
        update, "_KINDS", tuple((kind, accept if kind is Acceptance else act) for kind, act in update._KINDS)
    )


# --- tasks


@_mutant
def task_lost_when_its_start_fails(patch: Patch) -> None:
    async def start(self: Matching, task: Any, poller: Any) -> Any:
        return await self._start_task(task, poller)

    patch.setattr(Matching, "_start_or_offer", start)


@_mutant
def task_lost_when_its_commit_is_uncertain(patch: Patch) -> None:
    """A commit was done but reported failed: nobody hears of the tasks it made."""
    not_committed = Commits._not_committed

    def forgetful(
        self: Commits, unit: Sequence[Pending], writes: Sequence[RunWrite], error: BaseException
    ) -> BaseException:
        return not_committed(self, unit, [], error)

    patch.setattr(Commits, "_not_committed", forgetful)


@_mutant
def offered_task_lost_with_its_poller(patch: Patch) -> None:
    """A task handed to a poll whose connection died is forgotten."""
    patch.setattr(Matching, "give_back", lambda self, item: None)


@_mutant
def no_task_offered(patch: Patch) -> None:
    """Only the backlog that is read at the first poll is known."""
    patch.setattr(Matching, "offer", lambda self, task, *, is_stored=True: None)


@_mutant
def queues_of_all_namespaces_are_one(patch: Patch) -> None:
    queue = Matching._queue

    def mixed(self: Matching, key: QueueKey) -> Any:
        return queue(self, key._replace(namespace_id=""))

    def reserve(self: Matching, task: Any) -> Any:
        return mixed(self, task.queue).waiting_poller()

    patch.setattr(Matching, "_queue", mixed)
    patch.setattr(Matching, "reserve", reserve)


# --- what workers and clients are told


@_mutant
def partial_history_skips_an_event(patch: Patch) -> None:
    first_event = TaskResponses._first_event

    def skipping(self: TaskResponses, delivery: Any) -> int:
        first = first_event(self, delivery)
        return first if first == 1 else first + 1

    patch.setattr(TaskResponses, "_first_event", skipping)


@_mutant
def history_in_memory_misses_its_beginning(patch: Patch) -> None:
    """The newest part of a history is taken for all of it."""
    patch.setattr(HistoryTail, "covers", lambda self, first, end: bool(self.batches))


@_mutant
def transient_tasks_without_events(patch: Patch) -> None:
    patch.setattr(workflow_task, "transient_events", lambda tx, identity="": [])


@_mutant
def heartbeat_details_forgotten(patch: Patch) -> None:
    retry = activity._retry

    def forgetful(tx: Transition, pending: Any, *rest: Any) -> int:
        state = retry(tx, pending, *rest)
        pending.heartbeat_details = b""
        return state

    patch.setattr(activity, "_retry", forgetful)


@_mutant
def queries_ask_without_waiting(patch: Patch) -> None:
    """A query does not wait for the workflow task that would show what was signalled before."""

    async def at_once(self: Queries, run: Any, query: Any) -> None:
        return None

    patch.setattr(Queries, "_ask_with_task", at_once)


@_mutant
def refused_query_holds_its_run(patch: Patch) -> None:
    """A query that finds the buffer full leaves its run pinned in memory."""
    ask = Queries._ask_with_task

    async def holding(self: Queries, run: Any, query: Any) -> Any:
        try:
            return await ask(self, run, query)
        except ResourceExhaustedError:
            self._engine.runs.pin(run)
            raise

    patch.setattr(Queries, "_ask_with_task", holding)


@_mutant
def query_asked_before_the_first_task(patch: Patch) -> None:
    """A query that waits for a delayed first workflow task is let through by whatever is committed before it."""
    publish = Commits._publish

    def hasty(self: Commits, pending: Pending, write: RunWrite) -> None:
        publish(self, pending, write)
        if not pending.tx.header.has_pending_task:
            pending.slot.unblock_queries()

    async def unchecked(self: Queries, run: Any, query: Any, timeout_s: float) -> Any:
        header = (await self._histories.state(run)).header
        if header.has_pending_task or not header.last_completed_task_started_event_id:
            result = await self._ask_with_task(run, query)
            if result is not None:
                return result.answer
            header = (await self._histories.state(run)).header
        return await self._ask_directly(run, header, query, None)

    patch.setattr(Commits, "_publish", hasty)
    patch.setattr(Queries, "ask", unchecked)


@_mutant
def lists_miss_the_end(patch: Patch) -> None:
    close = lifecycle._close

    def quiet(tx: Transition, event: HistoryEvent, status: int) -> None:
        before = tx.visibility_changed
        close(tx, event, status)
        tx.visibility_changed = before

    patch.setattr(lifecycle, "_close", quiet)


@_mutant
def deleted_items_stay(patch: Patch) -> None:
    """What a transition removes comes back."""
    patch.setattr(Overlay, "delete", lambda self, key: None)


@_mutant
def runs_committed_one_by_one(patch: Patch) -> None:
    """A parent and its child, or a run and the one that follows it, are two commits: a crash comes between."""
    commit = Commits.submit

    def torn(self: Commits, unit: Sequence[Pending], *rest: Any, **named: Any) -> asyncio.Future[None]:
        for pending in unit[:-1]:
            commit(self, [pending])
        return commit(self, unit[-1:], *rest, **named)

    patch.setattr(Commits, "submit", torn)


@_mutant
def child_forgets_its_parent(patch: Patch) -> None:
    """The next run of a child's chain does not know whose child it is."""
    start = lifecycle.start

    def orphaned(tx: Transition, request: Any, context: Any) -> None:
        start(tx, request, context._replace(parent=None) if context.predecessor is not None else context)

    patch.setattr(lifecycle, "start", orphaned)


# --- schedules


@_mutant
def scheduled_start_has_no_name(patch: Patch) -> None:
    """A start that is done again after a crash is not recognised, where it is noted before it is done."""

    async def not_at_once(*_: object) -> None:
        return None

    patch.setattr(Schedules, "_act_at_once", not_at_once)
    numbers = itertools.count()
    patch.setattr(messages, "derived_id", lambda *parts: f"start {next(numbers)}")


@_mutant
def schedule_written_behind_its_action(patch: Patch) -> None:
    """The run and the row of the schedule that starts it are two commits; a crash in between separates them."""
    commit = SimStore.commit

    def apart(self: SimStore, unit: Any, schedule: Any = None) -> Any:
        if schedule is None:
            return commit(self, unit)

        async def one_after_the_other() -> None:
            await commit(self, unit)
            await self.put_schedule(schedule)

        return one_after_the_other()

    patch.setattr(SimStore, "commit", apart)


@_mutant
def actions_that_are_late_are_dropped(patch: Patch) -> None:
    """Only the newest of the actions that came due while no server ran is taken."""
    take = machine._take_due

    def newest(state: ScheduleState, now_ns: int) -> None:
        before = len(state.buffer)
        take(state, now_ns)
        state.buffer[before:] = state.buffer[before:][-1:]

    patch.setattr(machine, "_take_due", newest)


@_mutant
def change_before_what_is_due(patch: Patch) -> None:
    """A schedule is changed although more came due before than one step takes in: the rest is passed over."""
    patch.setattr(machine, "is_far_behind", lambda *_: False)


@_mutant
def schedule_lost_when_it_cannot_be_written(patch: Patch) -> None:
    """A schedule that failed to do what is due counts as one that will be looked at again."""

    async def wake(self: Schedules, run: RunKey) -> None:
        key = ScheduleKey(run.namespace_id, run.workflow_id)
        try:
            await self._work(key)
        except PerdureError:
            self._attended.add(key)

    patch.setattr(Schedules, "_wake", wake)


@_mutant
def repeated_patch_is_done_again(patch: Patch) -> None:
    patched = machine.patched

    def again(state: ScheduleState, change: Any, request_id: str, now_ns: int) -> ScheduleState:
        known = state.request_ids
        result = patched(replace(state, request_ids=[]), change, request_id, now_ns)
        result.request_ids = list(dict.fromkeys([*known, *result.request_ids]))
        return result

    patch.setattr(machine, "patched", again)


# --- standalone activities


@_mutant
def standalone_answer_before_the_commit(patch: Patch) -> None:
    """A transition is told before it is durable."""

    async def commit(self: ActivityRuns, slot: Any, tx: ActivityTransition, **fields: Any) -> ActivityRun:
        self._write(tx, fields.get("expected_current_run_id"))
        state: ActivityRun = tx.committed()
        slot.state = state
        return state

    patch.setattr(ActivityRuns, "_commit", commit)


@_mutant
def standalone_token_of_any_attempt(patch: Patch) -> None:
    """An attempt that is over may still say how the execution ends."""

    def check_token(tx: ActivityTransition, token: Any, *, may_wait: bool = False) -> None:
        if not tx.header.is_open:
            raise NotFoundError("gone")

    patch.setattr(activity_machine, "check_token", check_token)


@_mutant
def standalone_wakeup_without_a_backoff(patch: Patch) -> None:
    """Nobody is told when the next attempt is due."""
    real = activity_machine.next_wakeup_ns
    patch.setattr(
        activity_machine,
        "next_wakeup_ns",
        lambda header: None if header.is_open and header.attempt.backing_off else real(header),
    )
