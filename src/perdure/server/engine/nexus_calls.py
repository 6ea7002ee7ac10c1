"""Requests beside runs: asks Nexus handlers to start and cancel operations, and calls back addresses.

Which requests are owed is asked of the state each time, so losing one does no harm: it is made again. Nothing is
written when one begins; its outcome is one transition of the run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final, Protocol

from perdure.api.common.v1 import Link
from perdure.api.enums.v1 import EventType, TimeoutType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent, NexusOperationScheduledEventAttributes
from perdure.api.nexus.v1 import Request
from perdure.core.errors import NotFoundError, PerdureError, ResourceExhaustedError
from perdure.core.nexus import links, outcomes
from perdure.core.nexus.outcomes import Answer, CancelOutcome, OutOfTime, Refused, StartOutcome, Succeeded
from perdure.core.run import callback, nexus_operation
from perdure.core.run.effects import NONE, Effect, Kind
from perdure.core.run.records import QueueKey, RunKey, TaskKind
from perdure.core.run.state import NexusOperation, RunState
from perdure.core.run.transition import Transition
from perdure.server.engine import callback_tokens
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.nexus_tasks import NexusTasks
from perdure.server.nexus_endpoints import Endpoint, NexusEndpoints

logger = logging.getLogger(__name__)

UNDER_WAY_LIMIT: Final = 10_000
"""Requests under way or in line at once; what is owed beyond that waits for the next look."""
CONCURRENT: Final = 500
"""Requests to one destination at once; the rest stands in line."""
RETRY_NS: Final = 1_000_000_000
"""How long until what could not be done for a reason of this server is looked at again."""
_DISPATCH_MARGIN_S: Final = 1.0
"""How much of a request's time is kept for its way back."""
_SCHEDULED = EventType.Value("EVENT_TYPE_NEXUS_OPERATION_SCHEDULED")
_REQUESTS = frozenset((Kind.START_OPERATION, Kind.CANCEL_OPERATION, Kind.CALL_BACK))


class Remote(Protocol):
    """Handlers and callbacks that are reached by HTTP."""

    async def start(
        self, url: str, request: Request, timeout_s: float, operation_timeout_s: float
    ) -> StartOutcome:
        """Asks the handlers of an address to start an operation."""

    async def cancel(self, url: str, request: Request, timeout_s: float) -> CancelOutcome:
        """Asks the handlers of an address to cancel an operation."""

    async def call_back(self, run: RunState, key: int, closing: HistoryEvent, timeout_s: float) -> Refusal:
        """Delivers a completion callback."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a callback was not delivered; `message` is empty when it was."""

    message: str = ""
    may_retry: bool = False


class NexusCalls:
    """Makes the requests that runs owe.

    Args:
        engine: the runs.
        histories: for the events that say what is asked.
        tasks: asks handlers that poll.
        endpoints: where handlers are.
        remote: asks by HTTP; None where that is not possible.
        records_cancellations: events say what came of requests to cancel.

    Attributes:
    """

    def __init__(
        self,
        engine: Engine,
        histories: Histories,
        tasks: NexusTasks,
        endpoints: NexusEndpoints,
        remote: Remote | None = None,
        *,
        records_cancellations: bool = True,
    ) -> None:
        self._engine = engine
        self._histories = histories
        self._tasks = tasks
        self._endpoints = endpoints
        self._remote = remote
        self._records = records_cancellations
        self._under_way: dict[RunKey, dict[Effect, asyncio.Task[None]]] = {}
        self._count = 0
        self._is_stopping = False
        self._lines: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(CONCURRENT))

    def under_way(self, run: RunKey) -> Set[Effect]:
        """What is being seen to for a run."""
        found = self._under_way.get(run)
        return found.keys() if found is not None else NONE

    def begin(self, run: RunKey, effects: Iterable[Effect]) -> bool:
        """Begins requests. Returns whether all were; the rest must be tried again."""
        for effect in effects:
            if self._count >= UNDER_WAY_LIMIT or self._is_stopping:
                return False
            working = asyncio.create_task(self._work(run, effect), name=f"{effect.kind.value}")
            self._under_way.setdefault(run, {})[effect] = working
            self._count += 1
        return True

    async def stop(self) -> None:
        """Ends every request; they are made again after the next start."""
        self._is_stopping = True
        working = [task for tasks in self._under_way.values() for task in tasks.values()]
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    async def _work(self, run: RunKey, effect: Effect) -> None:
        again = False
        try:
            if effect.kind is Kind.CALL_BACK:
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
        if again and not self._is_stopping:
            self._engine.timers.note(run, self._engine.runtime.now_ns() + RETRY_NS)

    # --- start

    async def _start(self, run: RunKey, event_id: int) -> None:
        operation = (await self._histories.state(run)).nexus_operations.get(event_id)
        if operation is None or operation.started_ns:
            return
        async with self._lines[operation.endpoint_id]:
            event = await self._histories.event(run, event_id)
            outcome = await self._ask_to_start(run, operation, event)

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            tx = Transition(state, now_ns)
            if tx.header.is_open:
                nexus_operation.start_answered(tx, event_id, operation.attempt, outcome)
            return tx, None

        await self._engine.transact(run, apply)

    async def _ask_to_start(
        self, run: RunKey, operation: NexusOperation, event: HistoryEvent
    ) -> StartOutcome:
        scheduled = event.nexus_operation_scheduled_event_attributes
        now_ns = self._engine.runtime.now_ns()
        namespace = self._engine.namespaces.by_id(run.namespace_id)
        link = Link()
        caller = link.workflow_event
        caller.namespace = namespace.name if namespace is not None else run.namespace_id
        caller.workflow_id, caller.run_id = run.workflow_id, run.run_id
        caller.event_ref.event_id = event.event_id
        caller.event_ref.event_type = _SCHEDULED
        endpoint = self._endpoint(operation)
        if endpoint is None:
            return outcomes.refused("NOT_FOUND", "endpoint not registered")
        left_ns, timeout_type = self._time_to_start(operation, now_ns)
        if left_ns < self._engine.limits.run.nexus_least_request_ns:
            return OutOfTime(timeout_type)
        request = self._start_request(run, operation, scheduled, link)
        operation_s = _operation_timeout_ns(operation, now_ns) / 1e9
        if endpoint.url:
            if self._remote is None:
                return outcomes.refused("NOT_IMPLEMENTED", "external endpoints cannot be reached from here")
            return await self._remote.start(endpoint.url, request, left_ns / 1e9, operation_s)
        outcome = outcomes.of_start(await self._ask(endpoint, request, left_ns / 1e9, operation_s))
        result = outcome.result if isinstance(outcome, Succeeded) else None
        if result is not None and result.ByteSize() > self._engine.limits.run.blob_bytes:
            return Refused(_call_error("http: response body too large"), may_retry=False)
        if isinstance(outcome, Succeeded) and result is None:
            return Succeeded(callback.no_payload(), outcome.links)
        return outcome

    def _start_request(
        self,
        run: RunKey,
        operation: NexusOperation,
        scheduled: NexusOperationScheduledEventAttributes,
        link: Link,
    ) -> Request:
        request = self._request(operation, scheduled)
        request.capabilities.temporal_failure_responses = True
        start = request.start_operation
        start.service, start.operation = operation.service, operation.operation
        start.request_id = operation.request_id
        start.callback = callback.SYSTEM_URL
        waiting = callback_tokens.Waiting(run, operation.scheduled_event_id, operation.request_id)
        start.callback_header[callback.TOKEN_HEADER] = callback_tokens.seal(self._engine.tokens, waiting)
        has_input = scheduled.HasField("input")
        start.payload.CopyFrom(scheduled.input if has_input else callback.no_payload())
        nexus_link = links.to_nexus(link)
        if nexus_link is not None:
            start.links.append(nexus_link)
        return request

    def _time_to_start(self, operation: NexusOperation, now_ns: int) -> tuple[int, int]:
        """How long a request to start may take, and which timeout limits it."""
        limit_ns = self._engine.limits.run.nexus_request_ns
        for timeout_ns, timeout_type in (
            (operation.schedule_to_start_ns, nexus_operation.SCHEDULE_TO_START),
            (operation.schedule_to_close_ns, nexus_operation.SCHEDULE_TO_CLOSE),
        ):
            if timeout_ns:
                return min(limit_ns, operation.scheduled_ns + timeout_ns - now_ns), timeout_type
        return limit_ns, 0

    # --- cancel

    async def _cancel(self, run: RunKey, event_id: int) -> None:
        operation = (await self._histories.state(run)).nexus_operations.get(event_id)
        if operation is None or not nexus_operation.cancel_due_ns(operation):
            return
        async with self._lines[operation.endpoint_id]:
            event = await self._histories.event(run, event_id)
            scheduled = event.nexus_operation_scheduled_event_attributes
            outcome = await self._ask_to_cancel(operation, scheduled)

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            tx = Transition(state, now_ns)
            if tx.header.is_open:
                nexus_operation.cancel_answered(
                    tx, event_id, operation.cancel_attempt, outcome, records=self._records
                )
            return tx, None

        await self._engine.transact(run, apply)

    async def _ask_to_cancel(
        self, operation: NexusOperation, scheduled: NexusOperationScheduledEventAttributes
    ) -> CancelOutcome:
        endpoint = self._endpoint(operation)
        if endpoint is None:
            return outcomes.refused("NOT_FOUND", "endpoint not registered")
        left_ns, timeout_type = self._time_to_cancel(operation, self._engine.runtime.now_ns())
        if left_ns < self._engine.limits.run.nexus_least_request_ns:
            name = TimeoutType.Name(timeout_type).removeprefix("TIMEOUT_TYPE_")  # type: ignore[arg-type]
            short = "".join(word.capitalize() for word in name.split("_"))
            message = f"not enough time to execute another request before {short} timeout"
            return Refused(_call_error(message), may_retry=False)
        request = self._request(operation, scheduled)
        request.capabilities.SetInParent()
        asked = request.cancel_operation
        asked.service, asked.operation = operation.service, operation.operation
        asked.operation_token = asked.operation_id = operation.operation_token
        if endpoint.url:
            if self._remote is None:
                return outcomes.refused("NOT_IMPLEMENTED", "external endpoints cannot be reached from here")
            return await self._remote.cancel(endpoint.url, request, left_ns / 1e9)
        return outcomes.of_cancel(await self._ask(endpoint, request, left_ns / 1e9))

    def _time_to_cancel(self, operation: NexusOperation, now_ns: int) -> tuple[int, int]:
        left_ns, timeout_type = self._engine.limits.run.nexus_request_ns, 0
        for deadline_ns, kind in nexus_operation.deadlines(operation):
            if deadline_ns - now_ns < left_ns:
                left_ns, timeout_type = deadline_ns - now_ns, kind
        return left_ns, timeout_type

    # --- asking

    def _endpoint(self, operation: NexusOperation) -> Endpoint | None:
        return self._endpoints.by_id(operation.endpoint_id) or self._endpoints.by_name(operation.endpoint)

    def _request(
        self, operation: NexusOperation, scheduled: NexusOperationScheduledEventAttributes
    ) -> Request:
        request = Request(endpoint=operation.endpoint)
        request.header.update(scheduled.nexus_header)
        request.scheduled_time.FromNanoseconds(self._engine.runtime.now_ns())
        return request

    async def _ask(
        self, endpoint: Endpoint, request: Request, timeout_s: float, operation_s: float = 0.0
    ) -> Answer | None:
        namespace = self._engine.namespaces.by_id(endpoint.namespace_id)
        if namespace is None:
            missing = outcomes.refused("NOT_FOUND", f'namespace not found: "{endpoint.namespace_id}"')
            return Answer(failure=missing.failure)
        queue = QueueKey(endpoint.namespace_id, endpoint.task_queue, TaskKind.NEXUS)
        if "operation-timeout" in request.header:
            operation_s = 0.0
        try:
            return await self._tasks.ask(
                queue, request, max(timeout_s - _DISPATCH_MARGIN_S, _DISPATCH_MARGIN_S / 2), operation_s
            )
        except ResourceExhaustedError:
            return Answer(failure=outcomes.refused("RESOURCE_EXHAUSTED", "resource exhausted").failure)

    # --- callbacks

    async def _call_back(self, run: RunKey, key: int) -> None:
        state = await self._histories.state(run)
        item = state.callbacks.get(key)
        if item is None or item.end_state:
            return
        closing = await self._histories.event(run, state.header.close_event_id)
        if self._remote is None:
            refusal = Refusal("callbacks by HTTP cannot be made from here")
        else:
            timeout_s = self._engine.limits.run.nexus_request_ns / 1e9
            async with self._lines["callbacks"]:
                refusal = await self._remote.call_back(state, key, closing, timeout_s)

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


def _operation_timeout_ns(operation: NexusOperation, now_ns: int) -> int:
    """How long the operation may take from now on, as far as its handler is concerned; 0 for no limit."""
    limits = [operation.start_to_close_ns] if operation.start_to_close_ns else []
    if operation.schedule_to_close_ns:
        limits.append(max(operation.scheduled_ns + operation.schedule_to_close_ns - now_ns, 1))
    return min(limits, default=0)


def _call_error(message: str) -> Failure:
    failure = Failure(message=message)
    failure.application_failure_info.type = "CallError"
    failure.application_failure_info.non_retryable = True
    return failure
