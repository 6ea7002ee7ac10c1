"""What callers ask by the Nexus protocol over HTTP: start and cancel operations, complete operations. No transport.

The door (`doors/http/nexus.py`) reads requests and writes replies; everything between is here.
"""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from perdure.api.nexus.v1 import Request
from perdure.core.errors import (
    InvalidArgumentError,
    NamespaceInvalidStateError,
    NamespaceNotFoundError,
    NotFoundError,
    ResourceExhaustedError,
    ServiceError,
)
from perdure.core.nexus import content, failures, http, links, outcomes
from perdure.core.nexus.http import Asked, Reply
from perdure.core.nexus.outcomes import CompletionOutcome, Ended, OutOfTime, Refused, Started, Succeeded
from perdure.core.run.callback import TOKEN_HEADER
from perdure.core.run.protos import set_timestamp
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.engine import callback_tokens
from perdure.server.engine.completions import Completion, Completions
from perdure.server.engine.engine import Engine
from perdure.server.engine.nexus_tasks import NexusTasks
from perdure.server.nexus_endpoints import NexusEndpoints
from perdure.server.service import checks

DEFAULT_TIMEOUT_S: Final = 60.0
LONGEST_TIMEOUT_S: Final = 60.0
"""How long a caller may wait for a handler."""
_STATES = ("succeeded", "failed", "canceled")
_FARTHEST_NS: Final = 2**62
"""From the epoch: the years 1824 to 2116. An operation's timeouts are counted from its start, in 64 bits."""


class RequestRefused(Exception):
    """A request that cannot be served; it carries the answer that says so."""

    def __init__(self, kind: str, message: str, behavior: int = 0) -> None:
        super().__init__(message)
        self.refused = outcomes.refused(kind, message)
        if behavior:
            self.refused.failure.nexus_handler_failure_info.retry_behavior = behavior  # type: ignore[assignment]


class NexusHttp:
    """Serves the Nexus protocol.

    Args:
        engine: for namespaces, tokens and runs.
        tasks: asks handlers.
        endpoints: finds handlers.
        completions: tells runs how their operations ended.
    """

    def __init__(
        self, engine: Engine, tasks: NexusTasks, endpoints: NexusEndpoints, completions: Completions
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._endpoints = endpoints
        self._completions = completions

    # --- where to

    def by_endpoint(self, endpoint_id: str) -> tuple[QueueKey, str]:
        """The queue of an endpoint's handlers, and its name.

        Raises:
            RequestRefused: it has none here.
        """
        endpoint = self._endpoints.by_id(endpoint_id)
        if endpoint is None:
            raise RequestRefused("NOT_FOUND", "nexus endpoint not found", failures.NOT_RETRYABLE)
        if endpoint.url:
            raise RequestRefused("BAD_REQUEST", "invalid endpoint target")
        if self._engine.namespaces.by_id(endpoint.namespace_id) is None:
            raise RequestRefused("NOT_FOUND", "invalid endpoint target")
        return QueueKey(endpoint.namespace_id, endpoint.task_queue, TaskKind.NEXUS), endpoint.name

    def by_queue(self, namespace: str, task_queue: str) -> tuple[QueueKey, str]:
        """A queue of handlers; it has no endpoint's name.

        Raises:
            RequestRefused: there is no such namespace, or a queue cannot have this name.
        """
        try:
            namespace_id = self._engine.namespaces.get(namespace).namespace_id
        except (NamespaceNotFoundError, NamespaceInvalidStateError) as error:
            raise RequestRefused("NOT_FOUND", f'namespace not found: "{namespace}"') from error
        try:
            name = checks.queue_name(task_queue, self._engine.limits.run)
        except InvalidArgumentError as error:
            raise RequestRefused("BAD_REQUEST", str(error)) from error
        return QueueKey(namespace_id, name, TaskKind.NEXUS), ""

    # --- start and cancel

    async def operate(
        self, asked: Asked, queue: QueueKey, endpoint: str, service: str, operation: str, token: str | None
    ) -> Reply:
        """Starts an operation, or cancels one.

        Args:
            asked: the request.
            queue: of the handlers.
            endpoint: its name, if it was found by one.
            service, operation: what is asked for.
            token: of the operation that is to be cancelled; None to start one.
        """
        whole = asked.wants_whole_failures
        try:
            timeout_s, operation_s = _timeouts(asked)
            if token is None:
                request = self._start(asked, endpoint, service, operation)
                answer = await self._tasks.ask(queue, request, timeout_s, operation_s)
                return _started(outcomes.of_start(answer), whole=whole)
            request = self._request(asked, endpoint)
            cancel = request.cancel_operation
            cancel.service, cancel.operation = service, operation
            cancel.operation_token = cancel.operation_id = token
            refused = outcomes.of_cancel(await self._tasks.ask(queue, request, timeout_s))
        except RequestRefused as error:
            return http.refusal(error.refused, whole=whole)
        except ResourceExhaustedError:
            return http.refusal(outcomes.refused("RESOURCE_EXHAUSTED", "resource exhausted"), whole=whole)
        if refused is not None:
            return http.refusal(refused, whole=whole, from_worker=True)
        return Reply(202)

    def _request(self, asked: Asked, endpoint: str) -> Request:
        request = Request(endpoint=endpoint)
        for name, value in asked.headers.items():
            if not name.startswith((http.CONTENT_PREFIX, http.CALLBACK_PREFIX)) and name not in (
                "authorization",
                "host",
                "accept-encoding",
                http.FAILURE_SUPPORT,
                http.TOKEN,
            ):
                request.header[name] = value
        set_timestamp(request.scheduled_time, self._engine.runtime.now_ns())
        request.capabilities.temporal_failure_responses = asked.wants_whole_failures
        return request

    def _start(self, asked: Asked, endpoint: str, service: str, operation: str) -> Request:
        request = self._request(asked, endpoint)
        start = request.start_operation
        start.service, start.operation = service, operation
        start.request_id = asked.headers.get(http.REQUEST_ID, "")
        start.callback = asked.query.get("callback", "")
        start.callback_header.update(http.with_prefix(asked.headers, http.CALLBACK_PREFIX))
        try:
            start.links.extend(http.read_links(asked.headers.get(http.LINK, "")))
        except ValueError as error:
            raise RequestRefused("BAD_REQUEST", f'invalid "{http.LINK}" header') from error
        try:
            start.payload.CopyFrom(content.to_payload(asked.content_headers(), asked.body))
        except ValueError as error:
            raise RequestRefused("BAD_REQUEST", "invalid input") from error
        if start.payload.ByteSize() > self._engine.limits.run.blob_bytes:
            raise RequestRefused("BAD_REQUEST", "input exceeds size limit")
        return request

    # --- complete

    async def complete(self, asked: Asked, namespace: str | None) -> Reply:
        """Takes a completion. `namespace` is the one that the address names, if it does."""
        whole = asked.wants_whole_failures
        try:
            await self._complete(asked, namespace)
        except RequestRefused as error:
            return http.refusal(error.refused, whole=whole)
        except NotFoundError as error:
            return http.refusal(outcomes.refused("NOT_FOUND", str(error)), whole=whole)
        except ServiceError:  # the store, or a run that others change: the sender tries again
            return http.refusal(outcomes.refused("UNAVAILABLE", "service unavailable"), whole=whole)
        return Reply(200)

    async def _complete(self, asked: Asked, namespace: str | None) -> None:
        outcome = self._outcome(asked)
        try:
            waiting = callback_tokens.unseal(self._engine.tokens, asked.headers.get(TOKEN_HEADER, ""))
        except InvalidArgumentError as error:
            raise RequestRefused("BAD_REQUEST", str(error)) from error
        found = self._engine.namespaces.by_id(waiting.run.namespace_id)
        if found is None:
            raise RequestRefused("NOT_FOUND", f'namespace "{waiting.run.namespace_id}" not found')
        if namespace is not None and found.name != namespace:
            raise RequestRefused("BAD_REQUEST", callback_tokens.INVALID)
        token = asked.headers.get(http.TOKEN, "")
        length, limit = len(token.encode()), self._engine.limits.run.nexus_token_bytes
        if length > limit:
            raise RequestRefused(
                "BAD_REQUEST", f"operation token length exceeds allowed limit ({length}/{limit})"
            )
        try:
            found_links = links.from_nexus(http.read_links(asked.headers.get(http.LINK, "")))
        except ValueError as error:
            raise RequestRefused("BAD_REQUEST", "failed to decode links from request headers") from error
        completion = Completion(outcome, token, _start_ns(asked), found_links)
        await self._completions.complete(waiting, completion)

    def _outcome(self, asked: Asked) -> CompletionOutcome:
        state = asked.headers.get(http.STATE, "")
        if state not in _STATES:
            raise RequestRefused("BAD_REQUEST", f'invalid request operation state: "{state}"')
        if state == "succeeded":
            try:
                result = content.to_payload(asked.content_headers(), asked.body)
            except ValueError as error:
                raise RequestRefused("BAD_REQUEST", "invalid result content") from error
            if result.ByteSize() > self._engine.limits.run.blob_bytes:
                raise RequestRefused("BAD_REQUEST", "result exceeds size limit")
            return Succeeded(result)
        kind = asked.headers.get("content-type", "")
        if not content.is_json(kind):
            raise RequestRefused("BAD_REQUEST", f'invalid request content type: "{kind}"')
        ended = http.read_unsuccessful(asked.headers, asked.body)
        if ended is None:
            raise RequestRefused("BAD_REQUEST", "failed to decode Failure from request body")
        return ended


def _timeouts(asked: Asked) -> tuple[float, float]:
    """How long the request, and the operation, may take; 0 for an operation without limit."""
    text, operation = (
        asked.headers.get(http.REQUEST_TIMEOUT, ""),
        asked.headers.get(http.OPERATION_TIMEOUT, ""),
    )
    try:
        timeout_s = http.duration_s(text) if text else DEFAULT_TIMEOUT_S
    except ValueError as error:
        raise RequestRefused("BAD_REQUEST", "invalid request timeout header") from error
    try:
        operation_s = http.duration_s(operation) if operation else 0.0
    except ValueError:
        operation_s = 0.0  # the handler gets it as it is
    # A timeout of zero means none, as in the protocol's own library.
    return min(timeout_s or DEFAULT_TIMEOUT_S, LONGEST_TIMEOUT_S), operation_s


def _started(outcome: outcomes.StartOutcome, *, whole: bool) -> Reply:
    if isinstance(outcome, Refused):
        return http.refusal(outcome, whole=whole, from_worker=True)
    if isinstance(outcome, Ended):
        return http.unsuccessful(outcome, whole=whole)
    if isinstance(outcome, OutOfTime):
        return http.refusal(outcomes.refused("REQUEST_TIMEOUT", "request timed out"), whole=whole)
    headers = http.link_headers(outcome.given_links)
    if isinstance(outcome, Started):
        body = json.dumps({"token": outcome.token, "state": "running"}, separators=(",", ":")).encode()
        return Reply(201, (*headers, ("content-type", "application/json")), body)
    described, data = content.of_payload(outcome.result)
    headers += [(f"{http.CONTENT_PREFIX}{name}", value) for name, value in described.items()]
    return Reply(200, tuple(headers), data)


def _start_ns(asked: Asked) -> int:
    text = asked.headers.get(http.START_TIME, "")
    if not text:
        return 0
    try:
        moment: datetime = parsedate_to_datetime(text)
        started_ns = int(moment.timestamp()) * 1_000_000_000
    except (ValueError, OverflowError) as error:
        raise RequestRefused("BAD_REQUEST", "failed to parse operation start time header") from error
    if abs(started_ns) > _FARTHEST_NS:
        raise RequestRefused("BAD_REQUEST", "the operation start time header is out of range")
    return started_ns
