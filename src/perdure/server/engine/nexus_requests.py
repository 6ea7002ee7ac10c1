"""Asks the handlers of Nexus operations, wherever they are: at a task queue, at an address, or in this server.

For whoever owes a request: this module knows the record of an operation, not what scheduled it. May not live here:
when a request is owed, and what its outcome does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

from perdure.api.common.v1 import Link, Payload
from perdure.api.enums.v1 import TimeoutType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.nexus.v1 import Request
from perdure.core.errors import ResourceExhaustedError
from perdure.core.nexus import links, outcomes
from perdure.core.nexus.outcomes import (
    Answer,
    CancelOutcome,
    OutOfTime,
    Refused,
    Started,
    StartOutcome,
    Succeeded,
)
from perdure.core.run import callback, nexus_attempts
from perdure.core.run.records import QueueKey, RunKey, TaskKind
from perdure.core.run.state import NexusOperation, RunState
from perdure.server.engine import callback_tokens
from perdure.server.engine.engine import Engine
from perdure.server.engine.nexus_tasks import NexusTasks
from perdure.server.nexus_endpoints import Endpoint, NexusEndpoints

CONCURRENT: Final = 500
"""Requests to one task queue's endpoint at once; the rest stands in line."""
CONCURRENT_AT_HOST: Final = 32
"""Requests by HTTP to one host at once; the rest stands in line, and in nobody else's way."""
_DISPATCH_MARGIN_S: Final = 1.0
"""How much of a request's time is kept for its way back."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a handler is asked for.

    Attributes:
        run: who waits for the operation.
        operation: its record.
        header: for the handler.
        input: of the operation; None when there is none.
        link: to what scheduled it; None for a request to cancel.
    """

    run: RunKey
    operation: NexusOperation
    header: Mapping[str, str]
    input: Payload | None = None
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a callback was not delivered; `message` is empty when it was."""

    message: str = ""
    may_retry: bool = False


class Remote(Protocol):
    """Handlers and callbacks that are reached by HTTP."""

    async def start(
        self, url: str, request: Request, timeout_s: float, operation_timeout_s: float
    ) -> StartOutcome:
        """Asks the handlers of an address to start an operation."""

    async def cancel(self, url: str, request: Request, timeout_s: float) -> CancelOutcome:
        """Asks the handlers of an address to cancel an operation."""

    async def call_back(self, run: RunState, key: int, news: HistoryEvent, timeout_s: float) -> Refusal:
        """Delivers a completion callback."""


class System(Protocol):
    """What the server itself does as the handler of its own endpoint."""

    async def start(self, order: Order) -> StartOutcome:
        """Does it."""


@dataclass(slots=True)
class _Line:
    """Those who want to ask at one destination."""

    places: asyncio.Semaphore
    users: int = 0


@dataclass(slots=True)
class Lines:
    """Bounds how many requests go to each destination at once, so that a slow one holds up nobody else."""

    _lines: dict[str, _Line] = field(default_factory=dict)

    @asynccontextmanager
    async def place(self, destination: str, places: int) -> AsyncIterator[None]:
        """Waits for one of the destination's places, and keeps it."""
        line = self._lines.setdefault(destination, _Line(asyncio.Semaphore(places)))
        line.users += 1
        try:
            async with line.places:
                yield
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[destination]


class NexusRequests:
    """Asks handlers.

    Args:
        engine: for clock, namespaces, limits and tokens.
        tasks: asks handlers that poll.
        endpoints: where handlers are.
        remote: asks by HTTP; None where that is not possible.

    Attributes:
        system: what the server does itself; set by whoever builds it.
        callback_template: the address at which callers elsewhere complete operations, in which `{{.NamespaceName}}` and
            `{{.NamespaceID}}` stand for the namespace of who waits; empty when there is none.
        lines: the places at each destination.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: NexusTasks,
        endpoints: NexusEndpoints,
        remote: Remote | None = None,
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._endpoints = endpoints
        self._remote = remote
        self.system: System | None = None
        self.callback_template = ""
        self.lines = Lines()

    # --- start

    async def start(self, order: Order) -> StartOutcome:
        """Asks a handler to start an operation. It is the operation's `turn`."""
        operation = order.operation
        is_here = operation.endpoint == nexus_attempts.SYSTEM_ENDPOINT
        endpoint = self._endpoint(operation)
        if endpoint is None and not is_here:
            return outcomes.refused("NOT_FOUND", "endpoint not registered")
        now_ns = self._engine.runtime.now_ns()
        left_ns, timeout_type = self._time_to_start(operation, now_ns)
        if left_ns < self._engine.limits.run.nexus_least_request_ns:
            return OutOfTime(timeout_type)
        if endpoint is not None and not is_here:
            operation_s = _operation_timeout_ns(operation, now_ns) / 1e9
            return self._checked(await self._start_at(endpoint, order, left_ns / 1e9, operation_s))
        if self.system is None:
            return outcomes.refused("NOT_IMPLEMENTED", "the system endpoint is not served here")
        return await self.system.start(order)

    async def _start_at(
        self, endpoint: Endpoint, order: Order, timeout_s: float, operation_s: float
    ) -> StartOutcome:
        callback_url = self._callback_url(order.run) if endpoint.url else ""
        request = self._start_request(order, endpoint, callback_url)
        if not endpoint.url:
            return outcomes.of_start(await self._ask(endpoint, request, timeout_s, operation_s))
        if self._remote is None:
            return outcomes.refused("NOT_IMPLEMENTED", "external endpoints cannot be reached from here")
        return await self._remote.start(endpoint.url, request, timeout_s, operation_s)

    def _checked(self, outcome: StartOutcome) -> StartOutcome:
        """The outcome, or the failure that it is because it is too large."""
        limits = self._engine.limits.run
        if isinstance(outcome, Started):
            length = len(outcome.token.encode())
            if length <= limits.nexus_token_bytes:
                return outcome
            said = (
                f"invalid operation token: length exceeds allowed limit ({length}/{limits.nexus_token_bytes})"
            )
            return Refused(_call_error(said), may_retry=False)
        if not isinstance(outcome, Succeeded):
            return outcome
        if outcome.result is None:
            return Succeeded(callback.no_payload(), outcome.links)
        if outcome.result.ByteSize() > limits.blob_bytes:
            return Refused(_call_error("http: response body too large"), may_retry=False)
        return outcome

    def _callback_url(self, run: RunKey) -> str:
        """Where handlers at addresses complete operations of a namespace; empty if they cannot."""
        namespace = self._engine.namespaces.by_id(run.namespace_id)
        name = namespace.name if namespace is not None else run.namespace_id
        filled = self.callback_template.replace("{{.NamespaceName}}", quote(name, safe=""))
        return filled.replace("{{.NamespaceID}}", run.namespace_id)

    def _start_request(self, order: Order, endpoint: Endpoint, callback_url: str) -> Request:
        operation = order.operation
        request = self._request(order, endpoint)
        request.capabilities.temporal_failure_responses = True
        start = request.start_operation
        start.service, start.operation = operation.service, operation.operation
        start.request_id = operation.request_id
        start.callback = callback_url or callback.SYSTEM_URL
        waiting = callback_tokens.Waiting(order.run, operation.scheduled_event_id, operation.request_id)
        start.callback_header[callback.TOKEN_HEADER] = callback_tokens.seal(self._engine.tokens, waiting)
        start.payload.CopyFrom(order.input if order.input is not None else callback.no_payload())
        link = links.to_nexus(order.link) if order.link is not None else None
        if link is not None:
            start.links.append(link)
        return request

    def _time_to_start(self, operation: NexusOperation, now_ns: int) -> tuple[int, int]:
        """How long a request to start may take, and which timeout limits it."""
        limit_ns = self._engine.limits.run.nexus_request_ns
        for timeout_ns, timeout_type in (
            (operation.schedule_to_start_ns, nexus_attempts.SCHEDULE_TO_START),
            (operation.schedule_to_close_ns, nexus_attempts.SCHEDULE_TO_CLOSE),
        ):
            if timeout_ns:
                return min(limit_ns, operation.scheduled_ns + timeout_ns - now_ns), timeout_type
        return limit_ns, 0

    # --- cancel

    async def cancel(self, order: Order) -> CancelOutcome:
        """Asks a handler to cancel an operation. It is the operation's `turn`."""
        operation = order.operation
        endpoint = self._endpoint(operation)
        if endpoint is None:
            return outcomes.refused("NOT_FOUND", "endpoint not registered")
        left_ns, timeout_type = self._time_to_cancel(operation, self._engine.runtime.now_ns())
        if left_ns < self._engine.limits.run.nexus_least_request_ns:
            name = TimeoutType.Name(timeout_type).removeprefix("TIMEOUT_TYPE_")  # type: ignore[arg-type]
            short = "".join(word.capitalize() for word in name.split("_"))
            message = f"not enough time to execute another request before {short} timeout"
            return Refused(_call_error(message), may_retry=False)
        request = self._request(order, endpoint)
        request.capabilities.SetInParent()
        asked = request.cancel_operation
        asked.service, asked.operation = operation.service, operation.operation
        asked.operation_token = asked.operation_id = operation.operation_token
        if not endpoint.url:
            return outcomes.of_cancel(await self._ask(endpoint, request, left_ns / 1e9))
        if self._remote is None:
            return outcomes.refused("NOT_IMPLEMENTED", "external endpoints cannot be reached from here")
        return await self._remote.cancel(endpoint.url, request, left_ns / 1e9)

    def _time_to_cancel(self, operation: NexusOperation, now_ns: int) -> tuple[int, int]:
        left_ns, timeout_type = self._engine.limits.run.nexus_request_ns, 0
        for deadline_ns, kind in nexus_attempts.deadlines(operation):
            if deadline_ns - now_ns < left_ns:
                left_ns, timeout_type = deadline_ns - now_ns, kind
        return left_ns, timeout_type

    # --- asking

    async def call_back(self, run: RunState, key: int, news: HistoryEvent, url: str) -> Refusal:
        """Delivers a completion callback to an address, in its turn."""
        if self._remote is None:
            return Refusal("callbacks by HTTP cannot be made from here")
        timeout_s = self._engine.limits.run.nexus_request_ns / 1e9
        async with self.lines.place(host_of(url), CONCURRENT_AT_HOST):
            return await self._remote.call_back(run, key, news, timeout_s)

    def turn(self, operation: NexusOperation) -> AbstractAsyncContextManager[None]:
        """Waits for one of the places at an operation's handlers, and keeps it."""
        endpoint = self._endpoint(operation)
        if endpoint is not None and endpoint.url:
            return self.lines.place(host_of(endpoint.url), CONCURRENT_AT_HOST)
        return self.lines.place(operation.endpoint_id or operation.endpoint, CONCURRENT)

    def _endpoint(self, operation: NexusOperation) -> Endpoint | None:
        return self._endpoints.by_id(operation.endpoint_id) or self._endpoints.by_name(operation.endpoint)

    def _request(self, order: Order, endpoint: Endpoint) -> Request:
        request = Request(endpoint=endpoint.name)  # as it is called now
        request.header.update(order.header)
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


def host_of(url: str) -> str:
    """The destination that an address means: its host and port, in lower case."""
    try:
        return f"http {urlsplit(url).netloc.rpartition('@')[2].lower()}"
    except ValueError:
        return "http"


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
