"""Completions of Nexus operations: finding the run that waits for one, and telling it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perdure.api.common.v1 import Link
from perdure.core.errors import NotFoundError
from perdure.core.nexus.outcomes import CompletionOutcome
from perdure.core.operation import machine
from perdure.core.operation.state import OperationRun, OperationTransition
from perdure.core.run import nexus_operation
from perdure.core.run.records import RunKey, RunKind
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.callback_tokens import Waiting
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories

ALREADY_COMPLETED = "workflow execution already completed"


@dataclass(frozen=True, slots=True)
class Completion:
    """How an operation ended, and what is known of its start.

    Attributes:
        outcome: how it ended.
        token: the operation's own; empty when it is not known.
        started_ns: when it started, nanoseconds since the epoch; 0 when it is not known.
        links: to what did it.
    """

    outcome: CompletionOutcome
    token: str = ""
    started_ns: int = 0
    links: Sequence[Link] = field(default=())

    def apply_standalone(self, tx: OperationTransition, waiting: Waiting) -> None:
        """Tells the standalone operation that waits.

        Raises:
            NotFoundError: it is closed.
        """
        machine.complete(
            tx,
            waiting.request_id,
            self.outcome,
            token=self.token,
            started_ns=self.started_ns,
            links=self.links,
        )

    def apply(self, tx: Transition, waiting: Waiting) -> None:
        """Tells the run that waits.

        Raises:
            NotFoundError: the operation is not pending in it.
        """
        if not tx.header.is_open:
            raise NotFoundError(ALREADY_COMPLETED)
        nexus_operation.complete(
            tx,
            waiting.scheduled_event_id,
            waiting.request_id,
            self.outcome,
            token=self.token,
            started_ns=self.started_ns,
            links=self.links,
        )


class Completions:
    """Tells runs of an engine how their operations ended.

    Args:
        engine: the runs.
        histories: for their states.
    """

    def __init__(self, engine: Engine, histories: Histories) -> None:
        self._engine = engine
        self._histories = histories

    async def find(self, waiting: Waiting) -> RunKey:
        """The run that waits now: the one that scheduled the operation, or what that was reset into.

        Raises:
            NotFoundError: none does.
        """
        run = waiting.run
        if run.kind is RunKind.NEXUS_OPERATION:
            await self._engine.operation_runs.state(run)
            return run
        return await self._histories.reset_into(run)

    async def complete(self, waiting: Waiting, completion: Completion) -> None:
        """Tells the run that waits for an operation how it ended.

        Raises:
            NotFoundError: nobody waits for it any more.
            UnavailableError: not now.
        """

        def apply(state: RunState, now_ns: int) -> tuple[Transition, None]:
            tx = Transition(state, now_ns)
            completion.apply(tx, waiting)
            return tx, None

        def apply_standalone(state: OperationRun, now_ns: int) -> tuple[OperationTransition, None]:
            tx = OperationTransition(state, now_ns)
            completion.apply_standalone(tx, waiting)
            return tx, None

        run = await self.find(waiting)
        if run.kind is RunKind.NEXUS_OPERATION:
            await self._engine.operation_runs.transact(run, apply_standalone)
            return
        try:
            await self._engine.transact(run, apply)
        except NotFoundError:
            now_waiting = await self.find(waiting)
            if now_waiting == run:
                raise
            await self._engine.transact(now_waiting, apply)  # it was reset after it was found
