"""What a request to a handler, or a completion, means for the operation: plain records, and how answers become them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from perdure.api.common.v1 import Link, Payload
from perdure.api.failure.v1 import Failure
from perdure.api.nexus.v1 import HandlerError, Response
from perdure.api.nexus.v1 import Link as NexusLink
from perdure.core.nexus import failures, links

UPSTREAM_TIMEOUT: Final = "UPSTREAM_TIMEOUT"
_UNSUCCESSFUL = ("failed", "canceled")
"""The states of operations that did not end well, as handlers write them."""


@dataclass(frozen=True, slots=True)
class Started:
    """The operation runs; its end comes as a completion."""

    token: str
    links: tuple[Link, ...] = ()
    given_links: tuple[NexusLink, ...] = ()
    """All of them, as the handler gave them."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The operation has ended well."""

    result: Payload | None
    links: tuple[Link, ...] = ()
    given_links: tuple[NexusLink, ...] = ()
    """All of them, as the handler gave them."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The operation has failed, or was cancelled; `cause` is the handler's own word for it."""

    cause: Failure
    is_canceled: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The request itself failed; `may_retry`: it may succeed another time."""

    failure: Failure
    may_retry: bool


@dataclass(frozen=True, slots=True)
class OutOfTime:
    """The operation has too little time left for a request. `timeout_type` is a TimeoutType number."""

    timeout_type: int


StartOutcome = Started | Succeeded | Ended | Refused | OutOfTime
CancelOutcome = Refused | None
"""None: the handler has taken the request to cancel."""
CompletionOutcome = Succeeded | Ended


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker answered: exactly one of them."""

    response: Response | None = None
    error: HandlerError | None = None
    failure: Failure | None = None


def refused(kind: str, message: str) -> Refused:
    """A request that failed with one of the types of errors that Nexus defines."""
    failure = failures.handler_failure(kind, message)
    return Refused(failure, failures.may_retry(failure))


def of_start(answer: Answer | None) -> StartOutcome:
    """The outcome of a request to start; `answer` is None when none came in time."""
    if answer is None:
        return refused(UPSTREAM_TIMEOUT, "upstream timeout")
    refusal = _refusal(answer)
    if refusal is not None:
        return refusal
    start = answer.response.start_operation if answer.response is not None else None
    variant = start.WhichOneof("variant") if start is not None else None
    if start is None or variant is None:
        return refused("INTERNAL", "empty outcome")
    if variant == "sync_success":
        success = start.sync_success
        result = success.payload if success.HasField("payload") else None
        return Succeeded(result, tuple(links.from_nexus(success.links)), tuple(success.links))
    if variant == "async_success":
        pending = start.async_success
        token = pending.operation_token or pending.operation_id
        return Started(token, tuple(links.from_nexus(pending.links)), tuple(pending.links))
    if variant == "failure":
        return ended(start.failure, is_canceled=start.failure.HasField("canceled_failure_info"))
    error = start.operation_error
    if error.operation_state not in _UNSUCCESSFUL:
        return refused("INTERNAL", f'unexpected operation state: "{error.operation_state}"')
    return ended(failures.to_temporal(error.failure), is_canceled=error.operation_state == "canceled")


def of_cancel(answer: Answer | None) -> CancelOutcome:
    """The outcome of a request to cancel; `answer` is None when none came in time. Any response will do, or none."""
    if answer is None:
        return refused(UPSTREAM_TIMEOUT, "upstream timeout")
    return _refusal(answer)


def ended(cause: Failure, *, is_canceled: bool) -> Ended:
    """An operation that did not end well. What is cancelled says so in its failure, too."""
    if is_canceled and not cause.HasField("canceled_failure_info"):
        canceled = Failure(message=cause.message, stack_trace=cause.stack_trace)
        canceled.canceled_failure_info.SetInParent()
        if cause.HasField("cause"):
            canceled.cause.CopyFrom(cause.cause)
        cause = canceled
    return Ended(cause, is_canceled)


def _refusal(answer: Answer) -> Refused | None:
    if answer.failure is not None:
        failure = failures.of_handler(answer.failure)
    elif answer.error is not None:
        failure = failures.of_handler_error(answer.error)
    else:
        return None
    return Refused(failure, failures.may_retry(failure))
