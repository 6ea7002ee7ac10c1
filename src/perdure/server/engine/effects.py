"""Delivers what runs do to other runs: starts children, signals and cancels, tells parents, ends children.

Each delivery is one commit of both runs. What is to be delivered is asked of the state each time, so a delivery that
failed, was cut short by a crash or comes twice does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from perdure.api.enums.v1 import (
    StartChildWorkflowExecutionFailedCause,
    WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy,
)
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.errors import (
    CurrentRunConflictError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    VersionConflictError,
    WorkflowAlreadyStartedError,
)
from perdure.core.operation.state import OperationTransition
from perdure.core.run import callback, child, effects, external, lifecycle, versioning
from perdure.core.run.effects import Effect, Kind
from perdure.core.run.nexus_attempts import NOT_FOUND
from perdure.core.run.records import RunKey, RunKind, RunWrite
from perdure.core.run.state import RUNNING, RunHeader, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine import callback_tokens
from perdure.server.engine.callback_tokens import Waiting
from perdure.server.engine.completions import Completion, Completions
from perdure.server.engine.engine import BUSY_RUN, CONFLICT_RETRIES, Engine, RunNotFoundError
from perdure.server.engine.histories import Histories
from perdure.server.engine.nexus_calls import NexusCalls, is_request
from perdure.server.engine.pending import Pending
from perdure.server.engine.runs import RunSlot
from perdure.server.engine.starts import Starts
from perdure.store.protocol import CurrentRun

STARTED_AT_ONCE = 64
"""Children of one run that are started in one commit, at most."""
TOLD_AT_ONCE = 64
"""Children whose end a parent is told of in one commit, at most."""
_ALREADY_EXISTS = StartChildWorkflowExecutionFailedCause.Value(
    "START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS"
)
_TERMINATE_IF_RUNNING = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING")
_ALLOW_DUPLICATE = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE")
_FAIL = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_FAIL")
_TERMINATE_EXISTING = WorkflowIdConflictPolicy.Value("WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING")

Slots = Mapping[RunKey, RunSlot]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A child that is to be started, and the run that its workflow id stands for now; `replaces`: that one must end."""

    effect: Effect
    initiated: HistoryEvent
    current: CurrentRun | None
    replaces: bool


@dataclass(slots=True)
class _News:
    """Children that have ended and whose parent is told of them together."""

    children: list[RunKey]
    told: asyncio.Future[bool]
    """False: the parent was reset in the meantime, and the one that follows is to be told."""


@dataclass(slots=True)
class _Teller:
    """Tells one parent, one batch of news after the other; `next` can still be added to."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    next: _News | None = None
    users: int = 0


class Effects:
    """Effects between an engine's runs.

    Args:
        engine: the runs.
        histories: for the events that say what is to be done.
        starts: for what workflow ids that are in use mean.
        calls: makes requests to Nexus handlers and addresses.
        completions: finds the runs that wait for operations.
    """

    def __init__(
        self,
        engine: Engine,
        histories: Histories,
        starts: Starts,
        calls: NexusCalls,
        completions: Completions,
    ) -> None:
        self._engine = engine
        self._histories = histories
        self._starts = starts
        self._calls = calls
        self._completions = completions
        self._tellers: dict[RunKey, _Teller] = {}

    async def deliver(self, run: RunKey) -> None:
        """Delivers everything that a run has yet to do to others, and begins the requests that it owes.

        Raises:
            NotFoundError: there is no such run.
            UnavailableError: something could not be done now; the rest was.
        """
        held_up: set[Effect] = set()
        has_begun = False
        while True:
            found, requests = await self._pending(run)
            if requests:
                has_begun = True
                self._calls.begin(run, requests)
            found = [effect for effect in found if effect not in held_up]
            if not found:
                break
            starts = [effect for effect in found if effect.kind is Kind.START_CHILD]
            if starts:
                await self._engine.finish_anyway(self._start_children(run, starts[:STARTED_AT_ONCE]))
            elif not await self._engine.finish_anyway(self._deliver_one(run, found[0])):
                held_up.add(found[0])
        if held_up:
            raise UnavailableError(BUSY_RUN)
        if has_begun:
            # Looked at again at once: what it has to wait for beside the requests is not known yet.
            self._engine.timers.note(run, self._engine.runtime.now_ns())

    async def _pending(self, run: RunKey) -> tuple[list[Effect], list[Effect]]:
        """What is to be delivered, and the requests that are to be made beside the run."""
        state = await self._histories.state(run)
        tx = Transition(state, self._engine.runtime.now_ns())
        found = effects.pending(tx, self._engine.requests_under_way(run))
        requests = [effect for effect in found if is_request(effect, state)]
        made_beside = set(requests)
        return [effect for effect in found if effect not in made_beside], requests

    async def _deliver_one(self, run: RunKey, effect: Effect) -> bool:
        """Returns whether it was done (or need not be done any more); False: not now."""
        for _ in range(CONFLICT_RETRIES):
            try:
                if effect.kind is Kind.TELL_PARENT:
                    await self._tell_parent(run)
                elif effect.kind is Kind.CLOSE_CHILD:
                    await self._close_child(run, effect)
                elif effect.kind is Kind.CALL_BACK:
                    await self._call_back(run, effect)
                else:
                    await self._reach_external(run, effect)
                return True
            except (VersionConflictError, CurrentRunConflictError):
                continue
            except ResourceExhaustedError:
                return False
        raise UnavailableError(BUSY_RUN)

    # --- locks and transitions ---

    @asynccontextmanager
    async def locked(self, *runs: RunKey) -> AsyncIterator[Slots]:
        """Takes runs alone in the order of their keys, so that two deliveries never wait for each other."""
        slots = {run: self._engine.runs.pin(run) for run in sorted(set(runs))}
        held: list[RunSlot] = []
        try:
            for slot in slots.values():
                await slot.lock.acquire()
                held.append(slot)
                while slot.in_flight:
                    await slot.settle()
            yield slots
        finally:
            for slot in held:
                slot.lock.release()
            for slot in slots.values():
                self._engine.runs.unpin(slot)

    async def _source(self, slot: RunSlot, effect: Effect) -> Transition | None:
        """A transition of the run whose effect it is; None when the effect is not called for any more."""
        state = await self._engine.load(slot)
        tx = Transition(state, self._engine.runtime.now_ns())
        return tx if effect in effects.pending(tx) else None

    async def _target(self, slot: RunSlot) -> Transition | None:
        """A transition of the run that is to be changed; None when it does not exist."""
        try:
            state = await self._engine.load(slot)
        except RunNotFoundError:
            return None
        return Transition(state, self._engine.runtime.now_ns())

    async def _commit(
        self, slots: Slots, *changed: Transition | None, beside: Sequence[RunWrite] = ()
    ) -> None:
        engine = self._engine
        unit: list[Pending] = []
        try:
            for tx in changed:
                if tx is not None and not tx.is_untouched:
                    unit.append(engine.commits.prepare(slots[tx.state.run], tx))
            if unit:
                await engine.commits.submit(unit, beside)
        except BaseException:  # whatever it was: nothing of it was handed over
            engine.commits.drop(unit)
            raise

    async def _current(self, run: RunKey, workflow_id: str) -> CurrentRun | None:
        engine = self._engine
        return await engine.reading(engine.store.current_run(run.namespace_id, workflow_id))

    # --- children start ---

    async def _start_children(self, run: RunKey, starts: Sequence[Effect]) -> None:
        for _ in range(CONFLICT_RETRIES):
            wanted = [await self._wanted(run, effect) for effect in starts]
            try:
                await self._start_once(run, wanted)
                return
            except (VersionConflictError, CurrentRunConflictError):
                continue
        raise UnavailableError(BUSY_RUN)

    async def _wanted(self, run: RunKey, effect: Effect) -> _Wanted:
        initiated = await self._histories.event(run, effect.event_id)
        asked = initiated.start_child_workflow_execution_initiated_event_attributes
        current = await self._current(run, asked.workflow_id)
        replaces = False
        if current is not None and current.status == RUNNING and current.run != run:
            policy = asked.workflow_id_reuse_policy
            replaces = policy == _TERMINATE_IF_RUNNING
        return _Wanted(effect, initiated, current, replaces)

    async def _start_once(self, run: RunKey, wanted: Sequence[_Wanted]) -> None:
        replaced = [want.current.run for want in wanted if want.current is not None and want.replaces]
        async with self.locked(run, *replaced) as slots:
            state = await self._engine.load(slots[run])
            tx = Transition(state, self._engine.runtime.now_ns())
            called_for = set(effects.pending(tx))
            unit: list[Pending] = []
            new_slots: list[RunSlot] = []
            ids: set[str] = set()
            try:
                for want in wanted:
                    asked = want.initiated.start_child_workflow_execution_initiated_event_attributes
                    if want.effect not in called_for or asked.workflow_id in ids:
                        continue  # the second child of an id is looked at again when the first one is there
                    ids.add(asked.workflow_id)
                    await self._start(tx, want, slots, new_slots, unit)
                unit.append(self._engine.commits.prepare(slots[run], tx))
                await self._engine.commits.submit(unit)
            except BaseException:  # whatever it was: nothing of it was handed over
                self._engine.commits.drop(unit)
                raise
            finally:
                for slot in new_slots:
                    slot.lock.release()
                    self._engine.runs.unpin(slot)

    async def _start(
        self, tx: Transition, want: _Wanted, slots: Slots, new_slots: list[RunSlot], unit: list[Pending]
    ) -> None:
        """Starts one child, or finds that it cannot be; adds what is to be committed of other runs to `unit`."""
        engine, current = self._engine, want.current
        request = child.start_request(tx, want.initiated)
        if want.replaces or request.workflow_id_reuse_policy == _TERMINATE_IF_RUNNING:
            request.workflow_id_reuse_policy = _ALLOW_DUPLICATE
        # Not the run itself: nobody starts his own replacement.
        request.workflow_id_conflict_policy = _TERMINATE_EXISTING if want.replaces else _FAIL
        try:
            found = self._starts.existing(current, request) if current is not None else None
        except WorkflowAlreadyStartedError:
            child.start_failed(tx, want.initiated, _ALREADY_EXISTS)
            return
        if found is not None:
            child.started(tx, want.initiated, found.run.run_id)
            return
        item = tx.children.get(want.effect.event_id)
        if item is None:
            return
        run, parent = child.new_run(tx, item)
        if current is not None and current.status == RUNNING:
            old = slots[current.run]
            state = await engine.load(old)
            if not state.header.is_open:
                raise CurrentRunConflictError("the current run closed")
            unit.append(self._starts.terminated(old, state, tx.now_ns, run))
        slot = engine.runs.pin(run)
        await slot.lock.acquire()
        new_slots.append(slot)
        unit.append(self._new_child(slot, tx, request, parent, current))
        child.started(tx, want.initiated, run.run_id)

    def _new_child(
        self,
        slot: RunSlot,
        tx: Transition,
        request: StartWorkflowExecutionRequest,
        parent: lifecycle.Parent,
        current: CurrentRun | None,
    ) -> Pending:
        engine = self._engine
        namespace = engine.namespaces.by_id(slot.key.namespace_id)
        retention_ns = namespace.retention_ns if namespace is not None else tx.header.retention_ns
        started = Transition(RunState(slot.key, 0, RunHeader()), tx.now_ns)
        inherited = versioning.inheritance(
            tx.header,
            task_queue=request.task_queue.name,
            routes=engine.routes(slot.key.namespace_id),
            has_override=request.HasField("versioning_override"),
        )
        context = lifecycle.StartContext(
            tx.header.namespace, retention_ns, parent=parent, inherited=inherited
        )
        lifecycle.start(started, request, context)
        pending = engine.commits.prepare(slot, started)
        # A start of a client's may be faster: no worker is to run the code of a child that then never was.
        pending.becomes_current = pending.is_patient = True
        pending.expected_current_run_id = current.run.run_id if current is not None else None
        return pending

    # --- signals and requests to cancel ---

    async def _reach_external(self, run: RunKey, effect: Effect) -> None:
        initiated = await self._histories.event(run, effect.event_id)
        named = external.attributes_of(initiated).workflow_execution
        target = RunKey(run.namespace_id, named.workflow_id, named.run_id)
        if not named.run_id:
            current = await self._current(run, named.workflow_id)
            target = current.run if current is not None else target
        async with self.locked(run, *([target] if target.run_id else [])) as slots:
            tx = await self._source(slots[run], effect)
            if tx is None:
                return
            other = None
            # A workflow that reaches for itself is told that nobody is there.
            if target.run_id and target.workflow_id != run.workflow_id:
                other = await self._target(slots[target])
            if other is not None and not named.run_id and not other.header.is_open:
                await self._check_newest(target)
            cause = external.NOT_FOUND[tx.externals.edit(effect.event_id).kind]
            if other is not None:
                cause = external.receive(other, run, initiated, self._engine.limits.run)
            external.settled(tx, initiated, cause)
            await self._commit(slots, other, tx)

    async def _check_newest(self, run: RunKey) -> None:
        """A closed run may have been followed by another one since it was looked up.

        Raises:
            CurrentRunConflictError: it was; look again.
        """
        newest = await self._current(run, run.workflow_id)
        if newest is not None and newest.run != run:
            raise CurrentRunConflictError("another run has followed")

    # --- operations of other runs that this one was ---

    async def _call_back(self, run: RunKey, effect: Effect, reset: RunKey | None = None) -> None:
        """Completes the operation that this run, or an update of it, was: in one commit with the callback's success.

        Args:
            run, effect: what is to be called back, and where that is noted.
            reset: the run that waited, and was reset after it was found.
        """
        state = await self._histories.state(run)
        item = state.callbacks.get(effect.event_id)
        if item is None:
            return
        headers = callback.message(item).nexus.header
        news = await self._histories.news(state, item)
        waiting, target, problem = await self._waiting(headers.get(callback.TOKEN_HEADER, ""))

        def completion_of(tx: Transition) -> Completion:
            return Completion(
                callback.told(item, news),
                headers.get(callback.OPERATION_TOKEN_HEADER, ""),
                tx.header.start_ns,
                [callback.start_link(tx, item)],
            )

        if waiting is not None and target is not None and target.kind is RunKind.NEXUS_OPERATION:
            await self._complete_standalone(run, effect, waiting, completion_of)
            return
        async with self.locked(run, *([target] if target is not None else [])) as slots:
            tx = await self._source(slots[run], effect)
            if tx is None:
                return
            other = tx if target == run and tx.header.is_open else None  # a workflow that updates itself
            if target is not None and target != run:
                other = await self._target(slots[target])
            if target == reset or not _was_reset(other):
                if waiting is not None and other is not None:
                    completion = completion_of(tx)
                    try:
                        completion.apply(other, waiting)
                    except NotFoundError as error:
                        problem = str(error)
                elif not problem:
                    problem = NOT_FOUND
                if problem:
                    other = None
                _settle(tx, effect, problem)
                await self._commit(slots, None if other is tx else other, tx)
                return
        await self._call_back(run, effect, target)

    async def _complete_standalone(
        self, run: RunKey, effect: Effect, waiting: Waiting, completion_of: Callable[[Transition], Completion]
    ) -> None:
        """Completes a standalone operation that this closed run was, in one commit of both.

        The run is locked first, then the operation: who has an operation's lock never waits for a run's.
        """
        operations, now_ns = self._engine.operation_runs, self._engine.runtime.now_ns
        async with self.locked(run) as slots:
            tx = await self._source(slots[run], effect)
            if tx is None:
                return
            with operations.pin(waiting.run) as slot:
                async with slot.lock:
                    try:
                        other = OperationTransition(await operations.load(slot, waiting.run), now_ns())
                        completion_of(tx).apply_standalone(other, waiting)
                    except NotFoundError as error:
                        _settle(tx, effect, str(error))
                        await self._commit(slots, tx)
                        return
                    _settle(tx, effect, "")
                    try:
                        await self._commit(slots, tx, beside=(operations.write(other),))
                    except (
                        BaseException
                    ):  # whatever it was: what is in memory is not known to be true any more
                        operations.forget(slot)
                        raise
                    operations.publish(slot, other)

    async def _waiting(self, token: str) -> tuple[Waiting | None, RunKey | None, str]:
        """The operation that a token names, the run that waits for it, and what is wrong if there is none."""
        try:
            waiting = callback_tokens.unseal(self._engine.tokens, token)
            return waiting, await self._completions.find(waiting), ""
        except InvalidArgumentError as error:
            return None, None, str(error)
        except NotFoundError as error:
            return None, None, str(error)

    # --- parents and children when one closes ---

    async def _tell_parent(self, run: RunKey, reset: RunKey | None = None) -> None:
        """Tells the parent; children of one parent that end while it is being told are told of together.

        Args:
            run: the child.
            reset: the parent that waited, and was reset after it was found.
        """
        parent = await self._parent(run)
        teller = self._tellers.setdefault(parent, _Teller())
        news = teller.next
        if news is not None and len(news.children) < TOLD_AT_ONCE:
            news.children.append(run)
            is_told = await asyncio.shield(news.told)
        else:
            news = teller.next = _News([run], asyncio.get_running_loop().create_future())
            is_told = await self._tell_together(teller, parent, news, reset)
        if not is_told:
            await self._tell_parent(run, parent)

    async def _tell_together(
        self, teller: _Teller, parent: RunKey, news: _News, reset: RunKey | None
    ) -> bool:
        """Returns whether the parent was told; False: it was reset in the meantime."""
        teller.users += 1
        try:
            async with teller.lock:
                if teller.next is news:
                    teller.next = None
                is_told = await self._tell(parent, news.children, reset)
            news.told.set_result(is_told)
            return is_told
        except BaseException as error:  # whatever it was: those that wait for the same news must hear of it
            news.told.set_exception(error)
            news.told.exception()  # read here, because nobody else may wait
            raise
        finally:
            teller.users -= 1
            if not teller.users:
                self._tellers.pop(parent, None)

    async def _parent(self, run: RunKey) -> RunKey:
        """The run to tell of a child: its parent, or what that was reset into."""
        header = (await self._histories.state(run)).header
        parent = RunKey(run.namespace_id, header.parent_workflow_id, header.parent_run_id)
        try:
            return await self._histories.reset_into(parent)
        except NotFoundError:
            return parent

    async def _tell(self, parent: RunKey, runs: Sequence[RunKey], reset: RunKey | None) -> bool:
        async with self.locked(parent, *runs) as slots:
            other = await self._target(slots[parent])
            if parent != reset and _was_reset(other):
                return False
            told: list[Transition] = []
            for run in runs:
                tx = await self._source(slots[run], Effect(Kind.TELL_PARENT))
                if tx is None:
                    continue
                if other is not None and other.header.is_open:
                    item = other.children.get(tx.header.parent_initiated_event_id)
                    if item is not None and item.run_id == tx.header.first_run_id:
                        closing = await self._histories.event(run, tx.header.close_event_id)
                        child.ended(other, item.initiated_event_id, run, closing)
                tx.header.owes_parent = False
                told.append(tx)
            await self._commit(slots, other, *told)
            return True

    async def _close_child(self, run: RunKey, effect: Effect) -> None:
        item = (await self._histories.state(run)).children.get(effect.event_id)
        if item is None:
            return
        current = await self._current(run, item.workflow_id)
        async with self.locked(run, *([current.run] if current is not None else [])) as slots:
            tx = await self._source(slots[run], effect)
            if tx is None:
                return
            other = None
            # Runs that followed the child's first one are the child too.
            if current is not None and current.first_run_id == item.run_id:
                other = await self._target(slots[current.run])
            if other is not None and not other.header.is_open:
                await self._check_newest(other.state.run)
            if other is not None and other.header.is_open:
                child.close_with_parent(other, item, run)
            child.forget(tx, effect.event_id)
            await self._commit(slots, other, tx)


def _was_reset(tx: Transition | None) -> bool:
    """Whether another run goes on with what a run has begun."""
    return tx is not None and not tx.header.is_open and bool(tx.header.reset_run_id)


def _settle(tx: Transition, effect: Effect, problem: str) -> None:
    """What came of a callback to this server; `problem` is empty when whoever waits was told."""
    if problem:
        callback.not_delivered(tx, effect.event_id, f"handler error (NOT_FOUND): {problem}", may_retry=False)
    else:
        callback.delivered(tx, effect.event_id)
