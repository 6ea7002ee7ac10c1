"""Resetting runs: a new run from a copy of a history, in one commit with the end of the run that it replaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from perdure.core.errors import (
    CurrentRunConflictError,
    InvalidArgumentError,
    UnavailableError,
    VersionConflictError,
)
from perdure.core.run import reset
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunHeader, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.effects import Effects
from perdure.server.engine.engine import BUSY_RUN, CONFLICT_RETRIES, Engine
from perdure.server.engine.histories import Histories, events
from perdure.server.engine.pending import Pending
from perdure.server.namespaces import Namespace
from perdure.store.protocol import CurrentRun

BAD_EVENT_ID = "Workflow task finish ID must be > 1 && <= workflow last event ID."
_FOLLOWED = {
    EventType.Value(
        f"EVENT_TYPE_WORKFLOW_EXECUTION_{name}"
    ): f"workflow_execution_{name.lower()}_event_attributes"
    for name in ("COMPLETED", "FAILED", "TIMED_OUT", "CONTINUED_AS_NEW")
}


class Resets:
    """Resets runs of an engine.

    Args:
        engine, histories: the runs and their events.
        effects: knows in which order runs are locked.
    """

    def __init__(self, engine: Engine, histories: Histories, effects: Effects) -> None:
        self._engine = engine
        self._histories = histories
        self._effects = effects

    async def reset(
        self,
        namespace: Namespace,
        base: RunKey,
        request: ResetWorkflowExecutionRequest,
        check: Callable[[RunState], None],
    ) -> str:
        """Resets a run.

        Args:
            namespace: where.
            base: the run whose history is copied.
            request: checked but for the event id.
            check: raises if what the request wants beside the reset cannot be done to this run.

        Returns:
            the new run's id.

        Raises:
            NotFoundError: there is no such run.
            InvalidArgumentError: the run cannot be reset to this event.
            UnavailableError: the store could not do it, or others kept changing the run.
        """
        return await self._engine.finish_anyway(self._reset(namespace, base, request, check))

    async def _reset(
        self,
        namespace: Namespace,
        base: RunKey,
        request: ResetWorkflowExecutionRequest,
        check: Callable[[RunState], None],
    ) -> str:
        engine = self._engine
        for _ in range(CONFLICT_RETRIES):
            current = await engine.reading(engine.store.current_run(base.namespace_id, base.workflow_id))
            try:
                return await self._reset_once(namespace, base, current, request, check)
            except (CurrentRunConflictError, VersionConflictError):
                continue
        raise UnavailableError(BUSY_RUN)

    async def _reset_once(
        self,
        namespace: Namespace,
        base: RunKey,
        current: CurrentRun | None,
        request: ResetWorkflowExecutionRequest,
        check: Callable[[RunState], None],
    ) -> str:
        engine = self._engine
        new = RunKey(base.namespace_id, base.workflow_id, engine.runtime.new_run_id())
        known = [base] if current is None else [base, current.run]
        async with self._effects.locked(*known, new) as slots:
            states = {run: await engine.load(slots[run]) for run in known}
            if current is not None and states[current.run].header.reset_request_id == request.request_id:
                return current.run.run_id
            finish, end = request.workflow_task_finish_event_id, states[base].header.next_event_id
            if not 1 < finish < end:
                raise InvalidArgumentError(BAD_EVENT_ID)
            check(states[base])
            excluded = reset.excluded(request.reset_reapply_exclude_types, request.reset_reapply_type)
            copied = [event async for event in self._events(base, 1, finish)]
            later = await self._later(base, finish, end, excluded)
            now_ns = engine.runtime.now_ns()
            plan = reset.Plan(
                base_run_id=base.run_id,
                finish_event_id=finish,
                reason=request.reason,
                request_id=request.request_id,
                start_request_id=states[base].header.start_request_id,
                namespace=namespace.name,
                retention_ns=namespace.retention_ns,
                excluded=excluded,
                changes=[operation.update_workflow_options for operation in request.post_reset_operations],
            )
            tx = Transition(RunState(new, 0, RunHeader()), now_ns)
            reset.begin(tx, plan, copied, later, engine.limits.run)
            unit: list[Pending] = []
            for run, state in states.items():
                if run != base and not state.header.is_open:
                    continue
                left = Transition(state, now_ns)
                reset.leave(left, tx, request.reason, is_base=run == base)
                unit.append(engine.commits.prepare(slots[run], left))
            pending = engine.commits.prepare(slots[new], tx)
            # A start of a client's may be faster.
            pending.becomes_current = pending.is_patient = True
            pending.expected_current_run_id = current.run.run_id if current is not None else None
            await engine.commits.submit([*unit, pending])
            return new.run_id

    async def _later(self, run: RunKey, first: int, end: int, excluded: frozenset[int]) -> list[HistoryEvent]:
        """What is done once more: of a run from one event on, of its buffer, and of the runs that followed it.

        Page by page, so that a long chain is never in memory whole. A run that has more of it than a history holds
        ends at once, so nothing more is looked for.
        """
        found: list[HistoryEvent] = []
        base, most = run, self._engine.limits.run.history_events
        while len(found) <= most:
            last: HistoryEvent | None = None
            async for event in self._events(run, first, end):
                last = event
                if reset.is_done_again(event, excluded, of_base=run == base):
                    found.append(event)
            buffered = self._buffered(run)
            found += [
                event for event in buffered if reset.is_done_again(event, excluded, of_base=run == base)
            ]
            name = _FOLLOWED.get(last.event_type) if last is not None and not buffered else None
            following = getattr(last, name).new_execution_run_id if name is not None else ""
            if not following:
                break
            run, first, end = run._replace(run_id=following), 1, 1 << 60
        return found

    def _buffered(self, run: RunKey) -> list[HistoryEvent]:
        slot = self._engine.runs.pin(run)
        try:
            state = slot.state
            return [] if state is None else [state.buffered[key] for key in sorted(state.buffered)]
        finally:
            self._engine.runs.unpin(slot)

    async def _events(self, run: RunKey, first: int, end: int) -> AsyncIterator[HistoryEvent]:
        """The events of [first, end); none if the run is gone."""
        while first < end:
            batches = await self._histories.read(run, first, end)
            if not batches:
                return
            for event in events(batches):
                if first <= event.event_id < end:
                    yield event
            first = batches[-1].last_event_id + 1
