"""Updates: lets them in, and waits for what becomes of them.

Nothing of an update is stored before the workflow accepts it. What waits is in the run's slot; if that is lost, or the
workflow task that was to bring it, whoever waits brings it again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from perdure.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage
from perdure.api.update.v1 import Meta, Outcome, Request
from perdure.core.errors import DeadlineExceededError, NotFoundError, ResourceExhaustedError
from perdure.core.run import activity, callback, update
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.core.run.update import UpdateRegistry, WaitingUpdate
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories, not_found
from perdure.server.engine.runs import RunSlot

_PREFIX = "UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_"
UNSPECIFIED = UpdateWorkflowExecutionLifecycleStage.Value(f"{_PREFIX}UNSPECIFIED")
ADMITTED = UpdateWorkflowExecutionLifecycleStage.Value(f"{_PREFIX}ADMITTED")
ACCEPTED = UpdateWorkflowExecutionLifecycleStage.Value(f"{_PREFIX}ACCEPTED")
COMPLETED = UpdateWorkflowExecutionLifecycleStage.Value(f"{_PREFIX}COMPLETED")
_CAUSE_BUSY_WORKFLOW = 5
_SCOPE_NAMESPACE = 1


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """How far an update is.

    Attributes:
        run: whose.
        stage: an UpdateWorkflowExecutionLifecycleStage number.
        outcome: once completed.
        rejected: the workflow refused it; nothing is in the history.
    """

    run: RunKey
    stage: int
    outcome: Outcome | None = None
    rejected: bool = False


class Updates:
    """Updates of an engine's runs.

    Args:
        engine: the runs.
        histories: for outcomes, and to find runs.
        wait_s: how long a request waits at most before it is told how far its update is.
    """

    def __init__(self, engine: Engine, histories: Histories, wait_s: float) -> None:
        self._engine = engine
        self._histories = histories
        self._wait_s = wait_s

    async def update(
        self,
        namespace_id: str,
        workflow_id: str,
        run_id: str,
        first_run_id: str,
        request: Request,
        stage: int,
        deadline_s: float | None,
    ) -> UpdateStatus:
        """Sends an update to a run and waits until it has reached a stage, or for as long as requests wait.

        Args:
            namespace_id, workflow_id: where to.
            run_id: empty for the newest run, and then for the one that follows it if it ends first.
            first_run_id: the first run of the chain, or empty.
            request: with its update id.
            stage: to wait for.
            deadline_s: how long the caller waits; None without limit.

        Raises:
            NotFoundError: there is no such run, or it is closed and knows nothing of the update.
            WorkflowNotReadyError, ResourceExhaustedError, FailedPreconditionError: the run takes no update now.
            DeadlineExceededError: the caller's time was over.
        """
        patience = _Patience(self._wait_s, deadline_s)
        while True:
            run = await self._histories.resolve(namespace_id, workflow_id, run_id)
            slot = self._engine.runs.pin(run)
            try:
                waiting = await self._admit(slot, request, first_run_id)
                return await self._wait(slot, request.meta.update_id, waiting, stage, patience)
            except NotFoundError:
                # The newest run may have been followed by another while the update waited for its turn.
                if run_id or await self._histories.resolve(namespace_id, workflow_id, "") == run:
                    raise
            except _RunClosed as closed:
                if not await self._is_followed(closed.state):
                    raise NotFoundError(update.ABORTED_BY_CLOSE) from closed
                if run_id:
                    raise ResourceExhaustedError(
                        update.CLOSING, _CAUSE_BUSY_WORKFLOW, _SCOPE_NAMESPACE
                    ) from closed
            finally:
                self._engine.runs.unpin(slot)

    async def poll(self, run: RunKey, update_id: str, stage: int, deadline_s: float | None) -> UpdateStatus:
        """Waits until an update has reached a stage, or for as long as requests wait.

        Args:
            run: whose.
            update_id: which.
            stage: to wait for; UNSPECIFIED not to wait.
            deadline_s: how long the caller waits; None without limit.

        Raises:
            NotFoundError: there is no such run or update.
            DeadlineExceededError: the caller's time was over.
        """
        slot = self._engine.runs.pin(run)
        try:
            state = await self._histories.state(run)
            waiting = slot.updates.waiting.get(update_id) if slot.updates is not None else None
            kept = state.updates.get(update_id)
            if waiting is None and kept is None:
                raise NotFoundError(f'update "{update_id}" not found')
            if waiting is None and kept is not None and not kept.accepted_event_id:
                waiting = await self._watch(slot, update_id)
            return await self._wait(slot, update_id, waiting, stage, _Patience(self._wait_s, deadline_s))
        except _RunClosed as closed:
            raise NotFoundError(update.ABORTED_BY_CLOSE) from closed
        finally:
            self._engine.runs.unpin(slot)

    async def _watch(self, slot: RunSlot, update_id: str) -> WaitingUpdate | None:
        """The waiting update of one that a reset brought; None if the workflow has said its word meanwhile."""
        async with slot.alone():
            state = await self._engine.load(slot)
            if not state.header.is_open or update_id not in update.unheard(state):
                return None
            if slot.updates is None:
                slot.updates = UpdateRegistry()
            return slot.updates.watch(Request(meta=Meta(update_id=update_id)))

    # --- in ---

    async def _admit(self, slot: RunSlot, request: Request, first_run_id: str) -> WaitingUpdate | None:
        async with slot.alone():
            try:
                state = await self._engine.load(slot)
            except NotFoundError as error:
                raise not_found(slot.key) from error
            waiting = self.admit(slot, state, request, first_run_id)
            self._engine.speculative.bring_updates(slot)
        await self.follow_up(slot, request)
        return waiting

    async def follow_up(self, slot: RunSlot, request: Request) -> None:
        """Writes what letting an update in makes necessary. The lock must be free.

        It does not wait for the end of a start delay, and what it attaches to one that the run knows is recorded.

        Raises:
            NotFoundError: the run was deleted meanwhile.
            UnavailableError: the store cannot write now.
        """
        if request.completion_callbacks:
            is_sent = self._is_sent(slot, request.meta.update_id)
            await self._engine.transact(slot.key, partial(_attach, request, is_sent, self._engine.limits.run))

    def _is_sent(self, slot: RunSlot, update_id: str) -> bool:
        waiting = slot.updates.waiting.get(update_id) if slot.updates is not None else None
        return waiting is not None and bool(waiting.attached)

    def admit(
        self, slot: RunSlot, state: RunState, request: Request, first_run_id: str = ""
    ) -> WaitingUpdate | None:
        """Lets an update into a run; somebody must see to it that a workflow task follows. The run must be held alone.

        Returns:
            the waiting update; None if the run has accepted it.

        Raises:
            NotFoundError: the run is of another chain, or closed and knows nothing of the update.
            WorkflowNotReadyError, ResourceExhaustedError, FailedPreconditionError: the run takes no update now.
        """
        if first_run_id and state.header.first_run_id != first_run_id:
            raise NotFoundError("workflow execution not found")
        if not state.header.is_open:
            if request.meta.update_id in state.updates:
                return None
            raise NotFoundError(activity.RUN_CLOSED)
        registry = slot.updates if slot.updates is not None else UpdateRegistry()
        waiting = registry.admit(state, request, self._engine.limits.run)
        slot.updates = registry
        return waiting

    # --- out ---

    async def wait(
        self,
        slot: RunSlot,
        update_id: str,
        waiting: WaitingUpdate | None,
        stage: int,
        deadline_s: float | None,
    ) -> UpdateStatus:
        """Waits for an update that was let in by `admit`. See `update`."""
        try:
            return await self._wait(slot, update_id, waiting, stage, _Patience(self._wait_s, deadline_s))
        except _RunClosed as closed:
            raise NotFoundError(update.ABORTED_BY_CLOSE) from closed

    async def _wait(
        self,
        slot: RunSlot,
        update_id: str,
        waiting: WaitingUpdate | None,
        stage: int,
        patience: _Patience,
    ) -> UpdateStatus:
        while True:
            state = slot.state
            if state is None or slot.in_flight or self._is_lost(slot, state, waiting):
                async with slot.alone():
                    state = await self._engine.load(slot)
                    self._engine.speculative.bring_updates(slot)
            status = await self._status(state, update_id, waiting)
            if status.stage >= stage or self._engine.is_stopping:
                return status
            if not await patience.wait(slot):
                return status

    def _is_lost(self, slot: RunSlot, state: RunState, waiting: WaitingUpdate | None) -> bool:
        """Whether no workflow task is on its way to an update although one should be."""
        header = state.header
        return (
            waiting is not None
            and header.is_open
            and not header.has_pending_task
            and not header.paused_ns
            and slot.updates is not None
            and slot.updates.waiting.get(waiting.update_id) is waiting
        )

    async def _status(self, state: RunState, update_id: str, waiting: WaitingUpdate | None) -> UpdateStatus:
        run = state.run
        accepted = state.updates.get(update_id)
        if accepted is not None and accepted.accepted_event_id:
            if accepted.completed_event_id:
                event = await self._histories.event(run, accepted.completed_event_id)
                outcome = event.workflow_execution_update_completed_event_attributes.outcome
                return UpdateStatus(run, COMPLETED, outcome)
            if not state.header.is_open:
                return UpdateStatus(run, COMPLETED, Outcome(failure=callback.OUTLIVED))
            return UpdateStatus(run, ACCEPTED)
        if waiting is not None and waiting.rejection is not None:
            return UpdateStatus(run, COMPLETED, Outcome(failure=waiting.rejection), rejected=True)
        if waiting is not None and waiting.error is not None:
            raise waiting.error
        if not state.header.is_open:
            raise _RunClosed(state)
        return UpdateStatus(run, ADMITTED)

    async def _is_followed(self, state: RunState) -> bool:
        """Whether another run of the same chain has taken the place of a closed one."""
        run = state.run
        current = await self._engine.reading(
            self._engine.store.current_run(run.namespace_id, run.workflow_id)
        )
        return (
            current is not None and current.run != run and current.first_run_id == state.header.first_run_id
        )


class _RunClosed(Exception):
    """The run closed before its workflow said a word about the update."""

    def __init__(self, state: RunState) -> None:
        super().__init__()
        self.state = state


class _Patience:
    """How long one request may wait, over all its waits."""

    def __init__(self, wait_s: float, deadline_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._until = loop.time() + wait_s
        self._deadline = loop.time() + deadline_s if deadline_s is not None else None

    async def wait(self, slot: RunSlot) -> bool:
        """Waits for the slot's next commit.

        Returns:
            whether it was worth it; False when the server's time is over.

        Raises:
            DeadlineExceededError: the caller's time is over.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._deadline is not None and self._deadline <= now:
            raise DeadlineExceededError
        if self._until <= now:
            return False
        until = self._until if self._deadline is None else min(self._until, self._deadline)
        await slot.wait(until - now)
        return True


def _attach(
    request: Request, is_sent: bool, limits: Limits, state: RunState, now_ns: int
) -> tuple[Transition | None, None]:
    """Attaches a request's callbacks; the task that has sent its update to a worker becomes an ordinary one."""
    tx = Transition(state, now_ns)
    if is_sent and state.header.is_open and state.header.task_is_speculative:
        tx.write_speculative_task()
        return tx, None
    is_attached = state.header.is_open and update.attach(tx, request, limits)
    return (tx if is_attached else None), None
