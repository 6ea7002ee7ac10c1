"""The engine's half for standalone Nexus operations: what is due of them, and requests to their handlers.

Requests run beside the execution (`nexus_calls`); which are owed is asked of the state, so that none is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import TYPE_CHECKING, Final

from perdure.core.operation import machine, messages
from perdure.core.operation.state import (
    OperationRun,
    OperationTransition,
    cancel_due_ns,
    decode_operation,
    next_wakeup_ns,
    start_due_ns,
)
from perdure.core.run.effects import Effect, Kind
from perdure.core.run.records import RunKey, RunWrite
from perdure.server.engine.standalone_runs import Slot, StandaloneRuns
from perdure.store.protocol import StoredRun

if TYPE_CHECKING:
    from perdure.server.engine.engine import Engine

START: Final = Effect(Kind.START_OPERATION)
CANCEL: Final = Effect(Kind.CANCEL_OPERATION)


class OperationRuns(StandaloneRuns[OperationRun, OperationTransition]):
    """The standalone Nexus operations of an engine's store.

    Args:
        engine: whose store, timers, namespaces and clock are used.

    Attributes:
        begin: begins requests beside an execution; set by whoever makes them.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "operation")
        self.begin: Callable[[RunKey, Iterable[Effect]], None] = _nobody

    def _decode(self, run: RunKey, stored: StoredRun) -> OperationRun:
        return decode_operation(run, stored.version, stored.header, stored.items, stored.wakeup_ns)

    def _fire_due(self, state: OperationRun, now_ns: int) -> OperationTransition | None:
        tx = OperationTransition(state, now_ns)
        machine.fire(tx)
        if not tx.is_untouched:
            return tx
        run, header, engine = state.run, state.header, self._engine
        owed = [
            effect
            for effect, due_ns in ((START, start_due_ns(header)), (CANCEL, cancel_due_ns(header)))
            if due_ns and due_ns <= now_ns and effect not in engine.requests_under_way(run)
        ]
        self.begin(run, owed)
        # In memory the next look leaves out what is seen to: timeouts come before its end.
        engine.timers.note(run, self._wakeup_ns(state, engine.requests_under_way(run)))
        return None

    def _wakeup_ns(self, state: OperationRun, under_way: Set[Effect]) -> int | None:
        return next_wakeup_ns(state.header, is_starting=START in under_way, is_canceling=CANCEL in under_way)

    async def _commit(
        self, slot: Slot[OperationRun], tx: OperationTransition, *, expected_current_run_id: str | None = None
    ) -> OperationRun:
        try:
            await self._engine.store.commit([self.write(tx, expected_current_run_id)])
        except BaseException as error:  # whatever it was: what is in memory is not known to be true any more
            self.forget(slot)
            failure = self._not_written(error)
            if failure is error:
                raise
            raise failure from error
        return self.publish(slot, tx)

    def write(self, tx: OperationTransition, expected_current_run_id: str | None = None) -> RunWrite:
        """The record of a transition, for whoever commits it together with others'."""
        shown = None
        if tx.visibility_changed:
            namespace = self._engine.namespaces.by_id(tx.state.run.namespace_id)
            shown = messages.record(tx, namespace.search_attributes if namespace is not None else {})
        return tx.finish(shown, expected_current_run_id=expected_current_run_id)

    def publish(self, slot: Slot[OperationRun], tx: OperationTransition) -> OperationRun:
        """A transition is durable: whoever waits looks again, and so does the timer service."""
        state = slot.state = tx.committed()
        self._engine.timers.note(state.run, state.wakeup_ns)
        slot.wake()
        return state

    def forget(self, slot: Slot[OperationRun]) -> None:
        """A commit has failed: what is in memory is not known to be true any more."""
        slot.state = None
        slot.wake()


def _nobody(run: RunKey, effects: Iterable[Effect]) -> None:
    pass
