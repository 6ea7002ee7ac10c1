"""Requests by HTTP to Nexus handlers outside of this server, and completion callbacks to addresses: what they say."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import quote, urlencode

from perdure.api.history.v1 import HistoryEvent
from perdure.api.nexus.v1 import Request
from perdure.core.nexus import content, failures, links, outcomes
from perdure.core.nexus import http as protocol
from perdure.core.nexus.outcomes import CancelOutcome, Ended, Refused, Started, StartOutcome, Succeeded
from perdure.core.run import callback
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.engine.nexus_requests import Refusal
from perdure.server.http_calls import Answer, Headers, HttpCalls


class HttpRemote:
    """Reaches handlers and addresses by HTTP. How many at once is said by whoever asks (`nexus_requests`)."""

    def __init__(self) -> None:
        self._calls = HttpCalls()

    def close(self) -> None:
        """Takes no more requests and ends those under way."""
        self._calls.close()

    async def start(
        self, url: str, request: Request, timeout_s: float, operation_timeout_s: float
    ) -> StartOutcome:
        """See `nexus_requests.Remote.start`."""
        asked = request.start_operation
        described, body = content.of_payload(asked.payload)
        headers = [(f"{protocol.CONTENT_PREFIX}{name}", value) for name, value in described.items()]
        headers += [
            (f"{protocol.CALLBACK_PREFIX}{name}", text) for name, text in asked.callback_header.items()
        ]
        headers += protocol.link_headers(asked.links)
        headers += [(protocol.REQUEST_ID, asked.request_id), (protocol.FAILURE_SUPPORT, "true")]
        headers += _limits(timeout_s, operation_timeout_s)
        headers += list(request.header.items())
        back = urlencode({"callback": asked.callback})
        address = f"{_operation(url, asked.service, asked.operation)}?{back}"
        answer = await self._send(address, headers, body, timeout_s)
        if isinstance(answer, Refused):
            return answer
        return _read_start(answer)

    async def cancel(self, url: str, request: Request, timeout_s: float) -> CancelOutcome:
        """See `nexus_requests.Remote.cancel`."""
        asked = request.cancel_operation
        headers = [(protocol.TOKEN, asked.operation_token), *_limits(timeout_s, 0), *request.header.items()]
        address = f"{_operation(url, asked.service, asked.operation)}/cancel"
        answer = await self._send(address, headers, b"", timeout_s)
        if isinstance(answer, Refused):
            return answer
        if answer.status == 202:
            return None
        return protocol.read_refusal(*answer)

    async def call_back(self, run: RunState, key: int, news: HistoryEvent, timeout_s: float) -> Refusal:
        """See `nexus_requests.Remote.call_back`."""
        tx = Transition(run, 0)
        item = run.callbacks[key]
        target = callback.message(item).nexus
        headers, body = completion(tx, key, news)
        headers += [(name, value) for name, value in target.header.items() if name not in dict(headers)]
        answer = await self._send(target.url, headers, body, timeout_s)
        refused = answer if isinstance(answer, Refused) else None
        if isinstance(answer, Answer):
            if 200 <= answer.status < 300:
                return Refusal()
            refused = protocol.read_refusal(*answer)
        failure = refused.failure if refused is not None else outcomes.refused("INTERNAL", "").failure
        kind = failure.nexus_handler_failure_info.type
        said = failure.message or failure.cause.message
        text = f"handler error ({kind}): {said}" if kind else said
        return Refusal(text or "the callback failed", refused.may_retry if refused is not None else True)

    async def _send(self, url: str, headers: Headers, body: bytes, timeout_s: float) -> Answer | Refused:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._calls.post(url, headers, body)
        except TimeoutError:
            return outcomes.refused(outcomes.UPSTREAM_TIMEOUT, "request timed out")
        except (OSError, ValueError) as error:
            return outcomes.refused("UNAVAILABLE", str(error) or type(error).__name__)


def _operation(url: str, service: str, operation: str) -> str:
    return f"{url.rstrip('/')}/{quote(service, safe='')}/{quote(operation, safe='')}"


def _limits(timeout_s: float, operation_s: float) -> list[tuple[str, str]]:
    limits = [(protocol.REQUEST_TIMEOUT, f"{int(timeout_s * 1000)}ms")]
    if operation_s:
        limits.append((protocol.OPERATION_TIMEOUT, f"{int(operation_s * 1000)}ms"))
    return limits


def _read_start(answer: Answer) -> StartOutcome:
    if answer.status == protocol.UNSUCCESSFUL:
        ended = protocol.read_unsuccessful(answer.headers, answer.body)
        return ended if ended is not None else outcomes.refused("INTERNAL", "malformed failure")
    if answer.status not in (200, 201):
        return protocol.read_refusal(*answer)
    try:
        found = tuple(links.from_nexus(protocol.read_links(answer.headers.get(protocol.LINK, ""))))
        if answer.status == 200:
            described = protocol.with_prefix(answer.headers, protocol.CONTENT_PREFIX)
            return Succeeded(content.to_payload(described, answer.body), found)
        info = json.loads(answer.body)
        token = info.get("token") or info.get("id")
        if info.get("state") != "running" or not isinstance(token, str):
            raise ValueError("invalid operation state in response info")
        return Started(token, found)
    except (ValueError, AttributeError, RecursionError) as error:
        return outcomes.refused("INTERNAL", f"malformed answer: {error}")


def completion(tx: Transition, key: int, news: HistoryEvent) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body that tell how a run, or an update of it, ended."""
    item = tx.state.callbacks[key]
    outcome = callback.told(item, news)
    start = datetime.fromtimestamp(tx.header.start_ns / 1e9, UTC)
    close = datetime.fromtimestamp(callback.ended_ns(tx, item) / 1e9, UTC)
    headers = [
        (protocol.START_TIME, format_datetime(start.replace(microsecond=0), usegmt=True)),
        (protocol.CLOSE_TIME, close.isoformat().replace("+00:00", "Z")),
    ]
    link = links.to_nexus(callback.start_link(tx, item))
    if link is not None:
        headers += protocol.link_headers([link])
    if isinstance(outcome, Ended):
        state = "canceled" if outcome.is_canceled else "failed"
        headers += [(protocol.STATE, state), ("content-type", "application/json")]
        return headers, failures.encoded(failures.from_temporal(outcome.cause))
    described, body = content.of_payload(outcome.result)
    headers += [(f"{protocol.CONTENT_PREFIX}{name}", value) for name, value in described.items()]
    return [*headers, (protocol.STATE, "succeeded")], body
