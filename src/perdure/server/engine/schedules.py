"""Schedules at work: load, apply the core, commit, act, commit what became of it.

What a schedule has to do is committed before it is done, and each start has a request id that follows from it, so after
a crash it is done once. What a schedule is to do when is decided in `core/schedule`; how workflows are started, by
`Starts`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perdure.api.enums.v1 import WorkflowExecutionStatus
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.errors import (
    AlreadyExistsError,
    CurrentRunConflictError,
    NotFoundError,
    PerdureError,
    ServiceError,
    StoreError,
    UnavailableError,
    VersionConflictError,
    WorkflowAlreadyStartedError,
)
from perdure.core.run import cancellation, lifecycle
from perdure.core.run.ids import derived_id
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.records import RunKey
from perdure.core.run.state import RUNNING, RunState
from perdure.core.run.transition import Transition
from perdure.core.schedule import machine, messages
from perdure.core.schedule.state import Ending, ScheduleState, Start, decode
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.kept_schedules import KeptSchedules
from perdure.server.engine.prepared_starts import PreparedStarts
from perdure.server.engine.starts import Starts
from perdure.server.engine.timers import Timers
from perdure.server.namespaces import STARTABLE_STATES, Namespace
from perdure.store.protocol import ScheduleKey, ScheduleWakeup, StoredSchedule, Wakeup

logger = logging.getLogger(__name__)

ATTENTION_NS = 1
"""Stored as the wake-up of a schedule with running workflows: after a restart it is looked at first of all."""
CHECK_NS = 60 * SECOND_NS
"""How often is looked whether a running workflow has closed, should its news have been lost."""
RETRY_NS = SECOND_NS
"""How long until a schedule is looked at whose row could not be written."""
MAX_ROUNDS = 100
"""Rounds of one wake-up before others get their turn."""
_PAST_ATTENTION = ScheduleWakeup(ATTENTION_NS + 1, ScheduleKey("", ""))
CONCURRENT = 512
"""Schedules worked on at the same time: those that wait together share a write to the disk, and often many are due
at one second. Two groups of the SQLite store: one is computed while the disk writes the other."""
REMOVE_PAGE = 100
STARTS_AT_ONCE = 16
"""Workflows that one commit starts, with the row of their schedule."""
_COMPLETED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_COMPLETED")
_FAILED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_FAILED")
_UNKNOWN = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_UNSPECIFIED")

Change = Callable[[ScheduleState, int], ScheduleState]
"""From a schedule's state and the time to its next state. It may raise, then nothing has happened."""


@dataclass(slots=True)
class _Slot:
    """What is known of a schedule while somebody works on it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    pins: int = 0
    is_poked: bool = False


class Schedules:
    """The schedules of an engine's store.

    Args:
        engine: the runs.
        starts: starts workflows.
        histories: for what they leave.

    Attributes:
        prepare: checks a start request and fills it in; set by whoever builds the service.
        on_change: called when what `next_ns` and `running` say may have changed.
    """

    def __init__(self, engine: Engine, starts: Starts, histories: Histories) -> None:
        self._engine = engine
        self._starts = starts
        self._histories = histories
        self._timers = Timers(self, engine.runtime, self._wake, CONCURRENT)
        self._slots: dict[ScheduleKey, _Slot] = {}
        self._watched: dict[tuple[str, str], ScheduleKey] = {}
        self._watching: dict[ScheduleKey, set[tuple[str, str]]] = {}
        """The running workflows whose ends are waited for, and the same by schedule."""
        self._attended: set[ScheduleKey] = set()
        self._may_be_lost = True
        """A row that wants attention may be one that the timer service does not hold."""
        self._deadlines: dict[ScheduleKey, int] | None = None
        self._prepared = PreparedStarts()
        self._kept = KeptSchedules()
        self.prepare: Callable[[StartWorkflowExecutionRequest, Namespace], None] = _as_it_is
        self.on_change: Callable[[], None] = _nothing

    # --- life

    async def start(self, *, track_deadlines: bool = False) -> None:
        """Goes on with what was pending when the process ended. The engine is started.

        Args:
            track_deadlines: keep all deadlines in memory, for a clock that is moved to them.
        """
        self._engine.commits.on_closed = self._on_closed
        if track_deadlines:
            self._deadlines = {}
            for namespace in list(self._engine.namespaces.all()):
                await self._track(namespace.namespace_id)
        await self._timers.start()

    async def stop(self) -> None:
        """Stops; what is being worked on is finished first."""
        await self._timers.stop()

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """The schedules to look at, as the timer service wants them; without those it knows of.

        Rows that want attention, one for each schedule with a running workflow, are read only if one may be lost.
        """
        if after is not None:
            return await self._due(until_ns, ScheduleWakeup(after.wakeup_ns, _key(after.run)), limit)
        if not self._may_be_lost:
            return await self._due(until_ns, _PAST_ATTENTION, limit)
        self._may_be_lost = False
        try:
            found = await self._due(until_ns, None, limit)
        except BaseException:  # whatever it was: they were not looked at
            self._may_be_lost = True
            raise
        self._may_be_lost |= bool(found) and found[0].wakeup_ns == ATTENTION_NS  # until they are attended
        return found

    async def _due(self, until_ns: int, last: ScheduleWakeup | None, limit: int) -> list[Wakeup]:
        found: list[Wakeup] = []
        while len(found) < limit:
            rows = await self._engine.store.due_schedules(until_ns, last, limit)
            found += [
                Wakeup(row.wakeup_ns, _run(row.key))
                for row in rows
                if row.wakeup_ns != ATTENTION_NS or row.key not in self._attended
            ]
            if len(rows) < limit:
                break
            last = rows[-1]
        return found[:limit]

    async def _track(self, namespace_id: str) -> None:
        after_id = ""
        while rows := await self._engine.store.list_schedules(namespace_id, after_id, REMOVE_PAGE):
            for schedule_id, _ in rows:
                key = ScheduleKey(namespace_id, schedule_id)
                stored = await self._engine.store.load_schedule(key)
                if stored is not None:
                    self._set_deadline(key, machine.next_ns(_decode(stored), self._engine.runtime.now_ns()))
            after_id = rows[-1][0]

    # --- a clock that is moved asks

    def running(self) -> int:
        """How much is under way that time must wait for."""
        return len(self._timers.working)

    def next_ns(self) -> int | None:
        """The next time at which a schedule acts."""
        return min(self._deadlines.values(), default=None) if self._deadlines else None

    def clock_moved(self) -> None:
        """The clock was moved on: what is due now is worked on at once."""
        self._timers.clock_moved()

    def _set_deadline(self, key: ScheduleKey, time_ns: int | None) -> None:
        if self._deadlines is None:
            return
        if time_ns is None:
            self._deadlines.pop(key, None)
        else:
            self._deadlines[key] = time_ns
        self.on_change()

    def _track_deadline(self, key: ScheduleKey, state: ScheduleState) -> None:
        if self._deadlines is not None:
            self._set_deadline(key, machine.next_ns(state, self._engine.runtime.now_ns()))

    # --- what callers do

    async def load(self, key: ScheduleKey) -> ScheduleState:
        """A schedule's committed state, after whatever is being done about it now.

        Raises:
            NotFoundError: there is none of this name.
        """
        async with _Pinned(self._slots, key):
            stored = await self._engine.reading(self._engine.store.load_schedule(key))
        if stored is None:
            raise NotFoundError("schedule not found")
        return _decode(stored)

    async def create(self, state: ScheduleState) -> ScheduleState:
        """Commits a new schedule; does nothing if the same request has created it before.

        Returns:
            the schedule as it is now.

        Raises:
            WorkflowAlreadyStartedError: there is one of this name.
        """
        return await self._engine.finish_anyway(self._create(state))

    async def _create(self, state: ScheduleState) -> ScheduleState:
        key = ScheduleKey(state.namespace_id, state.schedule_id)
        async with _Pinned(self._slots, key):
            found = await self._engine.reading(self._engine.store.load_schedule(key))
            if found is None:
                self._engine.namespaces.check_exists(state.namespace_id, state.namespace)
                await self._commit(key, None, None, state)
        if found is None:
            await self._settle(key, state)
            return state
        current = _decode(found)
        if current.request_id != state.request_id:
            message = f'schedule "{state.schedule_id}" is already registered'
            raise WorkflowAlreadyStartedError(message, start_request_id="", run_id="", first_run_id="")
        return current

    async def change(self, key: ScheduleKey, change: Change) -> ScheduleState:
        """Commits a change of a schedule; what follows from it is done afterwards.

        Raises:
            NotFoundError: there is none of this name.
        """
        return await self._engine.finish_anyway(self._change(key, change))

    async def _change(self, key: ScheduleKey, change: Change) -> ScheduleState:
        while (state := await self._changed(key, change)) is None:
            await self._wake(_run(key))
        await self._settle(key, state)
        return state

    async def _changed(self, key: ScheduleKey, change: Change) -> ScheduleState | None:
        """The state after a change, committed; None, and nothing is done, if so much is due that it comes first."""
        async with _Pinned(self._slots, key):
            stored = await self._take(key)
            if stored is None:
                raise NotFoundError("schedule not found")
            before, now_ns = _decode(stored), self._engine.runtime.now_ns()
            if machine.is_far_behind(before, now_ns):
                return None
            state = change(before, now_ns)
            if state is not before:
                await self._commit(key, stored, before, state)
            return state

    async def _settle(self, key: ScheduleKey, state: ScheduleState) -> None:
        """Does at once what follows from a request, so that whoever asks next sees it done; later if not possible."""
        self._prepare_ahead(state)
        try:
            await self._wake(_run(key))
        except PerdureError as error:
            logger.warning("schedule %s has to wait: %s", key.schedule_id, error)
            self._poke(key)

    def _prepare_ahead(self, state: ScheduleState) -> None:
        """Prepares the request of the actions now: when they are due, thousands of others may be, too."""
        namespace = self._engine.namespaces.by_id(state.namespace_id)
        if namespace is None or not machine.may_act(state):
            return
        try:
            self._request(state, Start(0, state.processed_ns, state.processed_ns), namespace)
        except ServiceError:
            return  # it is told when an action is taken

    async def delete(self, key: ScheduleKey) -> None:
        """Deletes a schedule. Workflows that it started go on.

        Raises:
            NotFoundError: there is none of this name.
        """
        if not await self._engine.finish_anyway(self._delete(key)):
            raise NotFoundError("schedule not found")

    async def _delete(self, key: ScheduleKey) -> bool:
        async with _Pinned(self._slots, key):
            self._kept.take(key)  # even if it is not known whether it was deleted
            deleted = await self._engine.reading(self._engine.store.delete_schedule(key))
            self._forget(key)
            return deleted

    async def delete_all(self, namespace_id: str) -> None:
        """Deletes every schedule of a namespace."""
        while rows := await self._engine.store.list_schedules(namespace_id, "", REMOVE_PAGE):
            for schedule_id, _ in rows:
                await self._engine.finish_anyway(self._delete(ScheduleKey(namespace_id, schedule_id)))

    def _forget(self, key: ScheduleKey) -> None:
        self._prepared.forget(key)
        self._attended.discard(key)
        self._timers.note(_run(key), None)
        self._set_deadline(key, None)
        for workflow in list(self._watching.get(key, ())):
            self._unwatch(key, workflow)

    async def _commit(
        self,
        key: ScheduleKey,
        stored: StoredSchedule | None,
        before: ScheduleState | None,
        state: ScheduleState,
    ) -> StoredSchedule:
        """Commits a state.

        Args:
            key: the schedule's.
            stored, before: its row and the state in it.
            state: the new one.
        """
        written = self._row(key, stored, before, state, machine.next_ns(state, self._engine.runtime.now_ns()))
        try:
            await self._engine.store.put_schedule(written)
        except StoreError as error:
            # It may have been written, and then there may be something to do: looked at soon, not without a pause.
            self._timers.note(_run(key), self._engine.runtime.now_ns() + RETRY_NS)
            self._check_held(key)
            raise UnavailableError(f"the database cannot be written now: {error}") from error
        self._track_deadline(key, state)
        return written

    def _row(
        self,
        key: ScheduleKey,
        stored: StoredSchedule | None,
        before: ScheduleState | None,
        state: ScheduleState,
        next_ns: int | None,
    ) -> StoredSchedule:
        now_ns = self._engine.runtime.now_ns()
        has_to_do = state.starting or state.ending or state.buffer or state.info.running_workflows
        wakeup_ns = ATTENTION_NS if has_to_do else next_ns or machine.expires_ns(state, next_ns)
        version = 1 if stored is None else stored.version + 1
        if stored is None or before is None or before.conflict_token != state.conflict_token:
            entry = messages.list_entry(state, now_ns)
        else:
            entry = messages.renewed_entry(stored.entry, state, now_ns)
        return StoredSchedule(key, version, wakeup_ns, entry.SerializeToString(), state.encode())

    # --- work

    async def _take(self, key: ScheduleKey) -> StoredSchedule | None:
        """A schedule's committed row, for whoever holds its lock."""
        return self._kept.take(key) or await self._engine.reading(self._engine.store.load_schedule(key))

    def _poke(self, key: ScheduleKey) -> None:
        """Has a schedule looked at now."""
        slot = self._slots.get(key)
        if slot is not None:
            slot.is_poked = True
        self._timers.note(_run(key), self._engine.runtime.now_ns())
        self._check_held(key)

    def _check_held(self, key: ScheduleKey) -> None:
        """Notes whether the timer service will look at a schedule again, or the store must be asked for it."""
        if self._timers.holds(_run(key)):
            self._attended.add(key)
        else:
            self._attended.discard(key)
            self._may_be_lost = True

    def _on_closed(self, run: RunKey) -> None:
        key = self._watched.get((run.namespace_id, run.workflow_id))
        if key is not None:
            self._poke(key)

    async def _wake(self, run: RunKey) -> None:
        key = _key(run)
        self._attended.discard(key)
        try:
            await self._work(key)
        except BaseException:  # whatever it was: the schedule must be found again
            self._timers.note(run, self._engine.runtime.now_ns() + RETRY_NS)
            self._may_be_lost = True
            raise

    async def _work(self, key: ScheduleKey) -> None:
        async with _Pinned(self._slots, key) as slot:
            stored = await self._take(key)
            if stored is None:
                self._forget(key)
                return
            state = _decode(stored)
            for _ in range(MAX_ROUNDS):
                slot.is_poked = False
                before, state = state, await self._advance(state)
                if state is not before:
                    done = await self._act_at_once(key, stored, before, state)
                    if done is not None:
                        stored, state, next_ns = done
                        is_due = next_ns is not None and next_ns <= self._engine.runtime.now_ns()
                        if slot.is_poked or state.buffer or is_due:
                            continue
                        await self._rest(key, state, stored, next_ns)
                        return
                    stored = await self._commit(key, stored, before, state)
                before, state = state, await self._act(state)
                if state is not before:
                    stored = await self._commit(key, stored, before, state)
                elif not slot.is_poked:
                    break
            await self._rest(key, state, stored, machine.next_ns(state, self._engine.runtime.now_ns()))

    async def _act_at_once(
        self, key: ScheduleKey, stored: StoredSchedule, before: ScheduleState, state: ScheduleState
    ) -> tuple[StoredSchedule, ScheduleState, int | None] | None:
        """Starts what the state says is to be started, in one commit with the state in which that is done.

        Args:
            key: the schedule's.
            stored, before: its row and the state in it.
            state: what follows from that and the time.

        Returns:
            the new row and state, and when that has something to do next. None: nothing happened, since that is not
            all there is to do, or something stands in the way; then what is to be done is committed before it is done.
        """
        namespace = self._engine.namespaces.by_id(key.namespace_id)
        requests = self._requests(state, namespace)
        if namespace is None or not requests:
            return None
        done: list[tuple[StoredSchedule, ScheduleState, int | None]] = []

        def following(runs: Sequence[RunKey]) -> StoredSchedule:
            now_ns, after = self._engine.runtime.now_ns(), state
            for start, run in zip(state.starting, runs, strict=True):
                after = machine.started(after, start, run.workflow_id, run.run_id, now_ns)
            next_ns = machine.next_ns(after, now_ns)
            done.append((self._row(key, stored, before, after, next_ns), after, next_ns))
            return done[0][0]

        watched = [
            request.workflow_id
            for start, request in zip(state.starting, requests, strict=True)
            if not start.overlaps
        ]
        for workflow_id in watched:  # before the commit: its end may come with its beginning
            self._watch(key, workflow_id)
        try:
            await self._starts.start_with(namespace, requests, following)
        except (CurrentRunConflictError, VersionConflictError):
            for workflow_id in watched:
                self._unwatch(key, (key.namespace_id, workflow_id))
            return None
        self._track_deadline(key, done[0][1])
        return done[0]

    def _requests(
        self, state: ScheduleState, namespace: Namespace | None
    ) -> list[StartWorkflowExecutionRequest]:
        """What is to be started; nothing if that cannot be all done at once."""
        if namespace is None or namespace.info.state not in STARTABLE_STATES:
            return []
        if len(state.starting) > STARTS_AT_ONCE or not all(ending.done for ending in state.ending):
            return []
        try:
            requests = [self._request(state, start, namespace) for start in state.starting]
        except ServiceError:
            return []  # what is wrong is found again, and told, when each is started by itself
        return requests if len({request.workflow_id for request in requests}) == len(requests) else []

    def _request(
        self, state: ScheduleState, start: Start, namespace: Namespace
    ) -> StartWorkflowExecutionRequest:
        """The checked request that takes an action.

        Raises:
            ServiceError: it cannot be done as it is.
        """
        shared = self._prepared.get(state, namespace)
        if shared is not None:
            return messages.renewed_request(shared, state, start)
        request = messages.start_request(state, start)
        self.prepare(request, namespace)
        self._prepared.keep(state, namespace, request)
        return request

    async def _rest(
        self, key: ScheduleKey, state: ScheduleState, stored: StoredSchedule, next_ns: int | None
    ) -> None:
        """Nothing is left to do now: sees to it that the schedule is looked at again, at `next_ns` unless before."""
        now_ns = self._engine.runtime.now_ns()
        expires_ns = machine.expires_ns(state, next_ns)
        if expires_ns is not None and expires_ns <= now_ns:
            await self._engine.reading(self._engine.store.delete_schedule(key))
            self._forget(key)
            return
        self._kept.keep(stored)
        self._set_deadline(key, next_ns)
        times = [next_ns, expires_ns]
        if stored.wakeup_ns == ATTENTION_NS:
            times.append(now_ns + CHECK_NS)
        self._timers.note(_run(key), min((time for time in times if time is not None), default=None))
        self._check_held(key)

    async def _advance(self, state: ScheduleState) -> ScheduleState:
        """Takes in which workflows closed and what is due. The same state if nothing changed."""
        news = state
        for running in list(state.info.running_workflows):
            closed = await self._closed(state, running.workflow_id, running.run_id)
            if closed is not None:
                news = machine.closed(news, closed)
                key = ScheduleKey(state.namespace_id, state.schedule_id)
                self._unwatch(key, (state.namespace_id, running.workflow_id))
        return machine.advanced(news, self._engine.runtime.now_ns())

    def _watch(self, key: ScheduleKey, workflow_id: str) -> None:
        workflow = (key.namespace_id, workflow_id)
        self._watched[workflow] = key
        self._watching.setdefault(key, set()).add(workflow)

    def _unwatch(self, key: ScheduleKey, workflow: tuple[str, str]) -> None:
        if self._watched.get(workflow) == key:
            del self._watched[workflow]
        mine = self._watching.get(key, set())
        mine.discard(workflow)
        if not mine:
            self._watching.pop(key, None)

    async def _closed(
        self, state: ScheduleState, workflow_id: str, first_run_id: str
    ) -> machine.Closed | None:
        """How a workflow that the schedule started ended, or None while its chain goes on."""
        namespace_id = state.namespace_id
        self._watch(ScheduleKey(namespace_id, state.schedule_id), workflow_id)
        current = await self._engine.reading(self._engine.store.current_run(namespace_id, workflow_id))
        if current is None or current.first_run_id != first_run_id:
            return machine.Closed(workflow_id, _UNKNOWN)
        if current.status == RUNNING:
            return None
        try:
            header = await self._histories.header(current.run)
            if header.is_open:
                return None  # Its end is in the store, and `_on_closed` is told of it in a moment.
            event = await self._histories.event(current.run, header.close_event_id)
        except NotFoundError:
            return machine.Closed(workflow_id, current.status)
        largest = self._engine.limits.run.blob_bytes
        if header.status == _COMPLETED:
            result = event.workflow_execution_completed_event_attributes.result
            fits = result.ByteSize() <= largest
            return machine.Closed(workflow_id, header.status, result=result if fits else None)
        if header.status == _FAILED:
            failure = event.workflow_execution_failed_event_attributes.failure
            fits = failure.ByteSize() <= largest
            return machine.Closed(workflow_id, header.status, failure=failure if fits else None)
        return machine.Closed(workflow_id, header.status)

    async def _act(self, state: ScheduleState) -> ScheduleState:
        """Does what the state says is to be done. The same state if that is nothing."""
        for ending in state.ending:
            if not ending.done:
                await self._end(state, ending)
                state = machine.ended(state, ending)
        for start in state.starting:
            state = await self._start(state, start)
        return state

    async def _start(self, state: ScheduleState, start: Start) -> ScheduleState:
        request = messages.start_request(state, start)
        namespace = self._engine.namespaces.by_id(state.namespace_id)
        if namespace is None or namespace.info.state not in STARTABLE_STATES:
            return machine.not_started(state, start)
        try:
            self.prepare(request, namespace)
            run_id = (await self._starts.start(namespace, request)).first_run_id
        except UnavailableError:
            raise
        except WorkflowAlreadyStartedError as error:
            run = RunKey(state.namespace_id, request.workflow_id, error.first_run_id)
            if not await self._was_started_by(run, request.request_id):
                return _failed(state, start, error)
            run_id = error.first_run_id
        except ServiceError as error:
            return _failed(state, start, error)
        return machine.started(state, start, request.workflow_id, run_id, self._engine.runtime.now_ns())

    async def _was_started_by(self, run: RunKey, request_id: str) -> bool:
        """Whether a chain's first run was started by this request; it may have gone on since."""
        try:
            return (await self._histories.header(run)).start_request_id == request_id
        except NotFoundError:
            return False

    async def _end(self, state: ScheduleState, ending: Ending) -> None:
        current = await self._engine.reading(
            self._engine.store.current_run(state.namespace_id, ending.workflow_id)
        )
        if current is None or current.first_run_id != ending.run_id:
            return
        by = messages.identity(state)

        def apply(run: RunState, now_ns: int) -> tuple[Transition | None, None]:
            if not run.header.is_open:
                return None, None
            tx = Transition(run, now_ns)
            if ending.terminate:
                reason = "terminated by schedule overlap policy"
                lifecycle.terminate(tx, reason=reason, details=None, identity=by)
            else:
                request_id = derived_id(state.incarnation, ending.run_id, "cancel")
                reason = "cancelled by schedule overlap policy"
                cancellation.request(tx, reason=reason, identity=by, request_id=request_id, links=())
            return tx, None

        try:
            await self._engine.transact(current.run, apply)
        except (NotFoundError, AlreadyExistsError):
            return  # it is gone, or was asked before


class _Pinned:
    """Holds a schedule's lock; the slot goes when nobody wants it any more."""

    def __init__(self, slots: dict[ScheduleKey, _Slot], key: ScheduleKey) -> None:
        self._slots, self._key = slots, key
        self._slot = slots.setdefault(key, _Slot())

    async def __aenter__(self) -> _Slot:
        self._slot.pins += 1
        try:
            await self._slot.lock.acquire()
        except BaseException:  # cancelled while it waited: the pin must go
            self._unpin()
            raise
        return self._slot

    async def __aexit__(self, *error: object) -> None:
        self._slot.lock.release()
        self._unpin()

    def _unpin(self) -> None:
        self._slot.pins -= 1
        if not self._slot.pins:
            self._slots.pop(self._key, None)


def _failed(state: ScheduleState, start: Start, error: ServiceError) -> ScheduleState:
    logger.warning("schedule %s cannot start its workflow: %s", state.schedule_id, error)
    return machine.not_started(state, start)


def _decode(stored: StoredSchedule) -> ScheduleState:
    return decode(stored.key.namespace_id, stored.key.schedule_id, stored.data)


def _run(key: ScheduleKey) -> RunKey:
    """The key under which the timer service knows a schedule."""
    return RunKey(key.namespace_id, key.schedule_id, "")


def _key(run: RunKey) -> ScheduleKey:
    return ScheduleKey(run.namespace_id, run.workflow_id)


def _as_it_is(request: StartWorkflowExecutionRequest, namespace: Namespace) -> None:
    pass


def _nothing() -> None:
    pass
