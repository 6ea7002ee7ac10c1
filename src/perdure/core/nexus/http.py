"""The Nexus protocol over HTTP, without any transport: names of headers, links in them, and which status means what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from perdure.api.failure.v1 import Failure
from perdure.api.nexus.v1 import Failure as NexusFailure
from perdure.api.nexus.v1 import Link
from perdure.core.nexus import content, failures, outcomes
from perdure.core.nexus.outcomes import Ended, Refused

STATE: Final = "nexus-operation-state"
TOKEN: Final = "nexus-operation-token"
REQUEST_ID: Final = "nexus-request-id"
LINK: Final = "nexus-link"
START_TIME: Final = "nexus-operation-start-time"
CLOSE_TIME: Final = "nexus-operation-close-time"
RETRYABLE: Final = "nexus-request-retryable"
CALLBACK_PREFIX: Final = "nexus-callback-"
CONTENT_PREFIX: Final = "content-"
REQUEST_TIMEOUT: Final = "request-timeout"
OPERATION_TIMEOUT: Final = "operation-timeout"
FAILURE_SUPPORT: Final = "temporal-nexus-failure-support"
"""A caller that says `true` gets failures whole; others get what the older protocol had."""
FAILURE_SOURCE: Final = "temporal-nexus-failure-source"
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
UNSUCCESSFUL: Final = 424
STATUSES: Final[Mapping[str, int]] = {
    "BAD_REQUEST": 400,
    "UNAUTHENTICATED": 401,
    "UNAUTHORIZED": 403,
    "NOT_FOUND": 404,
    "REQUEST_TIMEOUT": 408,
    "CONFLICT": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "NOT_IMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UPSTREAM_TIMEOUT": 520,
}
"""Statuses of errors of handlers; an error of another type is an internal one."""
_TYPES: Final = {status: kind for kind, status in STATUSES.items()}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_LINK = re.compile(r'\s*<\s*([^<>]+?)\s*>\s*;\s*type\s*=\s*("?)([A-Za-z0-9_./]+)\2\s*')


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer by HTTP. Header names are in lower case; a name may come more than once."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request by HTTP, read whole. Header names are in lower case, values of one name joined by commas."""

    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def wants_whole_failures(self) -> bool:
        """Whether the caller understands failures as they are written now."""
        return self.headers.get(FAILURE_SUPPORT) == "true"

    def content_headers(self) -> dict[str, str]:
        """The headers that describe the body, without their prefix."""
        return with_prefix(self.headers, CONTENT_PREFIX)


def with_prefix(headers: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The headers whose names begin like this, without that."""
    return {name.removeprefix(prefix): value for name, value in headers.items() if name.startswith(prefix)}


def duration_s(text: str) -> float:
    """Seconds of a duration as headers have it, such as `1500ms`.

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid duration: {text!r}")
    return float(match[1]) * _UNITS_S[match[2]]


def link_header(link: Link) -> str:
    """A link as a header's value."""
    return f'<{link.url}>; type="{link.type}"'


def read_links(value: str) -> list[Link]:
    """The links of a header.

    Raises:
        ValueError: it holds something else.
    """
    found, position = [], 0
    while position < len(value):
        match = _LINK.match(value, position)
        if match is None:
            raise ValueError("failed to parse link header")
        parse_qsl(urlsplit(match[1]).query, keep_blank_values=True)
        found.append(Link(url=match[1], type=match[3]))
        position = match.end()
        if position < len(value):
            if value[position] != ",":
                raise ValueError("failed to parse link header")
            position += 1
    return found


# --- failures as answers


def refusal(refused: Refused, *, whole: bool, from_worker: bool = False) -> Reply:
    """The answer to a request that failed."""
    failure = refused.failure
    info = failure.nexus_handler_failure_info
    shown = failures.from_temporal(failure)
    if not whole and shown.HasField("cause"):
        shown = NexusFailure.FromString(shown.cause.SerializeToString())
    headers = [("content-type", "application/json")]
    if info.retry_behavior:
        headers.append((RETRYABLE, "true" if info.retry_behavior == failures.RETRYABLE else "false"))
    if from_worker:
        headers.append((FAILURE_SOURCE, "worker"))
    body = failures.encoded(shown)
    return Reply(STATUSES.get(info.type, 500), tuple(headers), body)


def unsuccessful(ended: Ended, *, whole: bool) -> Reply:
    """The answer that says that an operation failed or was cancelled."""
    state = "canceled" if ended.is_canceled else "failed"
    shown = failures.from_temporal(ended.cause)
    if whole:
        shown = wrapped(shown, state)
    headers = (("content-type", "application/json"), (STATE, state), (FAILURE_SOURCE, "worker"))
    return Reply(UNSUCCESSFUL, headers, failures.encoded(shown))


def wrapped(cause: NexusFailure, state: str) -> NexusFailure:
    """The error of an operation around what it says, which is all that counts of it."""
    made = NexusFailure(message="operation error")
    made.metadata.update({"type": "nexus.OperationError", "unwrap-error": "true"})
    made.details = json.dumps({"state": state}).encode()
    made.cause.CopyFrom(cause)
    return made


def unwrapped(failure: NexusFailure) -> NexusFailure:
    """What an operation's error says, without a wrapper that means nothing by itself."""
    if failure.metadata.get("unwrap-error") == "true" and failure.HasField("cause"):
        return failure.cause
    return failure


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """What an answer by HTTP means that is no success."""
    failure = _read_failure(headers, body)
    kind = _TYPES.get(status)
    if failure is not None:
        made = failures.to_temporal(failure)
        if made.HasField("nexus_handler_failure_info"):
            return Refused(made, failures.may_retry(made))
    if kind is None:
        plain = Failure(message=f"unexpected response status: {status}")
        plain.application_failure_info.type = "CallError"
        return Refused(plain, may_retry=True)
    behavior = {"true": failures.RETRYABLE, "false": failures.NOT_RETRYABLE}.get(
        headers.get(RETRYABLE, "").lower(), 0
    )
    made = failures.handler_failure(kind, "", behavior)
    if failure is not None:
        made.cause.CopyFrom(failures.to_temporal(failure))
    return Refused(made, failures.may_retry(made))


def read_unsuccessful(headers: Mapping[str, str], body: bytes) -> Ended | None:
    """How an operation ended, of an answer or a completion; None when it does not say."""
    failure = _read_failure(headers, body)
    if failure is None:
        return None
    state = headers.get(STATE, "")
    if failure.metadata.get("type") == "nexus.OperationError":
        try:
            state = json.loads(failure.details or b"{}").get("state", state)
        except (ValueError, AttributeError, RecursionError):
            return None
    if state not in ("failed", "canceled"):
        return None
    return outcomes.ended(failures.to_temporal(unwrapped(failure)), is_canceled=state == "canceled")


def _read_failure(headers: Mapping[str, str], body: bytes) -> NexusFailure | None:
    if not content.is_json(headers.get("content-type", "")):
        return None
    try:
        return failures.of_document(json.loads(body))
    except (ValueError, RecursionError):
        return None


def link_headers(links: Iterable[Link]) -> list[tuple[str, str]]:
    """Links as headers."""
    return [(LINK, link_header(link)) for link in links]
