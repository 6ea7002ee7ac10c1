"""Requests beside runs: asks Nexus handlers to start and cancel operations, and calls back addresses.

Which requests are owed is asked of the state each time, so losing one does no harm: it is made again. Nothing is
written when one begins; its outcome is one transition of the run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Set
from typing import Final

from perdure.api.common.v1 import Link
from perdure.api.enums.v1 import EventType
from perdure.core.errors import NotFoundError, PerdureError
from perdure.core.operation import machine
from perdure.core.operation.state import OperationRun, OperationTransition, cancel_due_ns, start_due_ns
from perdure.core.run import callback, nexus_attempts, nexus_operation
from perdure.core.run.effects import NONE, Effect, Kind
from perdure.core.run.records import RunKey, RunKind
from perdure.core.run.state import NexusOperation, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.nexus_requests import NexusRequests, Order

logger = logging.getLogger(__name__)

UNDER_WAY_LIMIT: Final = 10_000
"""Requests that are made, or wait for a place at their destination, at once; others stand in line for that."""
RETRY_NS: Final = 1_000_000_000
"""How long until what could not be done for a reason of this server is looked at again."""
_SCHEDULED = EventType.Value("EVENT_TYPE_NEXUS_OPERATION_SCHEDULED")
_REQUESTS = frozenset((Kind.START_OPERATION, Kind.CANCEL_OPERATION, Kind.CALL_BACK))


class NexusCalls:
    """Makes the requests that runs owe.

    Args:
        engine: the runs.
        histories: for the events that say what is asked.
        requests: asks handlers.
        records_cancellations: events say what came of requests to cancel.
    """

    def __init__(
        self,
        engine: Engine,
        histories: Histories,
        requests: NexusRequests,
        *,
        records_cancellations: bool = True,
    ) -> None:
        self._engine = engine
        self._histories = histories
        self._requests = requests
        self._records = records_cancellations
        self._under_way: dict[RunKey, dict[Effect, asyncio.Task[None] | None]] = {}
        """Who makes each request; None while it stands in line."""
        self._line: deque[tuple[RunKey, Effect]] = deque()
        self._count = 0
        self._is_stopping = False

    def under_way(self, run: RunKey) -> Set[Effect]:
        """What is being seen to for a run."""
        found = self._under_way.get(run)
        return found.keys() if found is not None else NONE

    def begin(self, run: RunKey, effects: Iterable[Effect]) -> None:
        """Begins requests, or puts them in line. None is begun once this stops: the next server asks the state."""
        for effect in effects:
            self._under_way.setdefault(run, {})[effect] = None
            if self._is_stopping or self._count >= UNDER_WAY_LIMIT:
                self._line.append((run, effect))
            else:
                self._make(run, effect)

    def _make(self, run: RunKey, effect: Effect) -> None:
        self._under_way[run][effect] = asyncio.create_task(
            self._work(run, effect), name=f"{effect.kind.value}"
        )
        self._count += 1

    async def stop(self) -> None:
        """Ends every request; they are made again after the next start."""
        self._is_stopping = True
        working = [task for tasks in self._under_way.values() for task in tasks.values() if task is not None]
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    async def _work(self, run: RunKey, effect: Effect) -> None:
        again = False
        try:
            if run.kind is RunKind.NEXUS_OPERATION:
                await self._see_to_standalone(run, effect)
            elif effect.kind is Kind.CALL_BACK:
                await self._call_back(run, effect.event_id)
            elif effect.kind is Kind.CANCEL_OPERATION:
                await self._cancel(run, effect.event_id)
            else:
                await self._start(run, effect.event_id)
        except NotFoundError:
            pass  # the run is gone, and with it what it owed
        except PerdureError as error:
            again = True
            logger.warning("%s of run %s failed, trying again: %s", effect.kind.value, run.run_id, error)
        except Exception:  # A bug: it must not pass in silence, nor end with an error that nobody reads.
            again = True
            logger.exception("%s of run %s failed, trying again", effect.kind.value, run.run_id)
        finally:
            working = self._under_way[run]
            del working[effect]
            if not working:
                del self._under_way[run]
            self._count -= 1
        if self._is_stopping:
            return
        if self._line:
            self._make(*self._line.popleft())
        timers, now_ns = self._engine.timers, self._engine.runtime.now_ns()
        if again:
            timers.note(run, now_ns + RETRY_NS)
        elif not timers.holds(run):
            # Whoever looked while this was under way left out when it is due again, which only now counts.
            timers.note(run, now_ns)

    # --- operations of workflows

    async def _start(self, run: RunKey, event_id: int) -> None:
        operation = (await self._histories.state(run)).nexus_operations.get(event_id)
        if operation is None or operation.started_ns:
            return
        async with self._requests.turn(operation):
            outcome = await self._requests.start(await self._order(run, operation))

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            tx = Transition(state, now_ns)
            if tx.header.is_open:
                nexus_operation.start_answered(tx, event_id, operation.attempt, outcome)
            return tx, None

        await self._engine.transact(run, apply)

    async def _cancel(self, run: RunKey, event_id: int) -> None:
        operation = (await self._histories.state(run)).nexus_operations.get(event_id)
        if operation is None or not nexus_attempts.cancel_due_ns(operation):
            return
        async with self._requests.turn(operation):
            outcome = await self._requests.cancel(await self._order(run, operation))

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            tx = Transition(state, now_ns)
            if tx.header.is_open:
                nexus_operation.cancel_answered(
                    tx, event_id, operation.cancel_attempt, outcome, records=self._records
                )
            return tx, None

        await self._engine.transact(run, apply)

    async def _order(self, run: RunKey, operation: NexusOperation) -> Order:
        """What is asked for an operation of a workflow: its scheduled event says it."""
        event = await self._histories.event(run, operation.scheduled_event_id)
        scheduled = event.nexus_operation_scheduled_event_attributes
        link = Link()
        caller = link.workflow_event
        caller.namespace = self._namespace(run)
        caller.workflow_id, caller.run_id = run.workflow_id, run.run_id
        caller.event_ref.event_id = event.event_id
        caller.event_ref.event_type = _SCHEDULED
        asked = scheduled.input if scheduled.HasField("input") else None
        return Order(run, operation, dict(scheduled.nexus_header), asked, link)

    def _namespace(self, run: RunKey) -> str:
        namespace = self._engine.namespaces.by_id(run.namespace_id)
        return namespace.name if namespace is not None else run.namespace_id

    # --- standalone operations

    async def _see_to_standalone(self, run: RunKey, effect: Effect) -> None:
        """Makes a request for an operation that no workflow scheduled; its outcome is one transition of that."""
        runs = self._engine.operation_runs
        state = await runs.state(run)
        operation, request = state.header.operation, state.request
        is_start = effect.kind is Kind.START_OPERATION
        due_ns = (start_due_ns if is_start else cancel_due_ns)(state.header)
        if not due_ns:
            return
        link = Link()
        caller = link.nexus_operation
        caller.namespace = self._namespace(run)
        caller.operation_id, caller.run_id = run.workflow_id, run.run_id
        asked = request.input if request.HasField("input") else None
        order = Order(run, operation, dict(request.nexus_header), asked, link)
        async with self._requests.turn(operation):
            started = await self._requests.start(order) if is_start else None
            canceled = await self._requests.cancel(order) if not is_start else None

        def apply(state: OperationRun, now_ns: int) -> tuple[OperationTransition, None]:
            tx = OperationTransition(state, now_ns)
            if started is not None:
                machine.start_answered(tx, operation.attempt, started)
            else:
                machine.cancel_answered(tx, operation.cancel_attempt, canceled)
            return tx, None

        await runs.transact(run, apply)

    # --- callbacks

    async def _call_back(self, run: RunKey, key: int) -> None:
        state = await self._histories.state(run)
        item = state.callbacks.get(key)
        if item is None or item.end_state:
            return
        news = await self._histories.news(state, item)
        url = callback.message(item).nexus.url
        refusal = await self._requests.call_back(state, key, news, url)

        def apply(now: RunState, now_ns: int) -> tuple[Transition | None, None]:
            tx = Transition(now, now_ns)
            current = tx.callbacks.get(key)
            if current is None or current.end_state or current.attempt != item.attempt:
                return None, None
            if refusal.message:
                callback.not_delivered(tx, key, refusal.message, may_retry=refusal.may_retry)
            else:
                callback.delivered(tx, key)
            return tx, None

        await self._engine.transact(run, apply)


def is_request(effect: Effect, state: RunState) -> bool:
    """Whether an effect is a request beside the run, and no commit of two runs."""
    if effect.kind is Kind.CALL_BACK:
        item = state.callbacks.get(effect.event_id)
        return item is not None and callback.message(item).nexus.url != callback.SYSTEM_URL
    return effect.kind in _REQUESTS
