"""What handlers, clients and time do to a standalone Nexus operation.

It is scheduled, backs off between attempts to start it, runs, and closes; a handler may close it with its first answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.api.common.v1 import Link
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import StartNexusOperationExecutionRequest
from perdure.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from perdure.core.nexus.outcomes import (
    CancelOutcome,
    CompletionOutcome,
    Ended,
    OutOfTime,
    Refused,
    Started,
    StartOutcome,
    Succeeded,
)
from perdure.core.operation.state import OperationHeader, OperationRun, OperationTransition, Outcome
from perdure.core.run import lifecycle, nexus_attempts
from perdure.core.run.limits import Limits
from perdure.core.run.protos import checked_duration_ns, duration_ns, set_duration
from perdure.core.run.records import RunKey
from perdure.core.run.state import NexusOperation

REASON_BYTES = 1000
_STATES = {2: "Succeeded", 3: "Failed", 4: "Canceled", 5: "Terminated", 7: "TimedOut"}
"""What messages call the states that an execution can have ended in."""
_TIMEOUTS = ("schedule_to_close_timeout", "schedule_to_start_timeout", "start_to_close_timeout")


# --- start


def normalize(request: StartNexusOperationExecutionRequest, limits: Limits) -> None:
    """Checks what is asked of whom, cuts the timeouts to each other, and puts names of headers into lower case.

    Raises:
        InvalidArgumentError: the message names the field.
    """
    for name in ("service", "operation"):
        text = getattr(request, name)
        if not text:
            raise InvalidArgumentError(f"{name} is required")
        length, limit = len(text.encode()), limits.nexus_name_bytes
        if length > limit:
            raise InvalidArgumentError(f"{name} exceeds length limit. Length={length} Limit={limit}")
    _normalize_timeouts(request)
    length = request.input.ByteSize()
    if length > limits.blob_bytes:
        raise InvalidArgumentError(f"input exceeds size limit. Length={length} Limit={limits.blob_bytes}")


def _normalize_timeouts(request: StartNexusOperationExecutionRequest) -> None:
    for name in _TIMEOUTS:
        field = getattr(request, name)
        try:
            value_ns = checked_duration_ns(field, "")
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                f"{name} is invalid: {str(error).removeprefix('invalid : ')}"
            ) from error
        if value_ns != duration_ns(field):
            set_duration(field, value_ns)
    to_close_ns = duration_ns(request.schedule_to_close_timeout)
    for name in _TIMEOUTS[1:]:
        if 0 < to_close_ns < duration_ns(getattr(request, name)):
            set_duration(getattr(request, name), to_close_ns)


def normalize_header(request: StartNexusOperationExecutionRequest, limits: Limits) -> None:
    """Checks the header and puts its names into lower case.

    Raises:
        InvalidArgumentError: the message names what is wrong.
    """
    lowered = {name.lower(): value for name, value in request.nexus_header.items()}
    for name in request.nexus_header:
        if name.lower() in nexus_attempts.DISALLOWED_HEADERS:
            raise InvalidArgumentError(f'nexus_header contains a disallowed key: "{name}"')
    size = sum(len(name.encode()) + len(value.encode()) for name, value in request.nexus_header.items())
    if size > limits.nexus_header_bytes:
        raise InvalidArgumentError("nexus_header exceeds size limit")
    request.nexus_header.clear()
    request.nexus_header.update(lowered)


def start(
    run: RunKey,
    request: StartNexusOperationExecutionRequest,
    endpoint_id: str,
    handler_request_id: str,
    retention_ns: int,
    now_ns: int,
) -> OperationTransition:
    """The first transition of an execution.

    Args:
        run: which.
        request: normalised; not changed afterwards.
        endpoint_id: of the endpoint that the request names.
        handler_request_id: the id that every request to start carries to the handler.
        retention_ns: how long it is kept after it closed.
        now_ns: nanoseconds since the epoch.
    """
    operation = NexusOperation(
        scheduled_ns=now_ns,
        endpoint=request.endpoint,
        endpoint_id=endpoint_id,
        service=request.service,
        operation=request.operation,
        request_id=handler_request_id,
        schedule_to_close_ns=duration_ns(request.schedule_to_close_timeout),
        schedule_to_start_ns=duration_ns(request.schedule_to_start_timeout),
        start_to_close_ns=duration_ns(request.start_to_close_timeout),
    )
    header = OperationHeader(
        operation=operation, start_request_id=request.request_id, retention_ns=retention_ns
    )
    return OperationTransition(OperationRun(run, 0, header, request), now_ns)


# --- what came of requests to the handler


def start_answered(tx: OperationTransition, attempt: int, outcome: StartOutcome) -> None:
    """What came of a request to start; of one that is not the current attempt nothing does.

    Args:
        tx: the transition.
        attempt: how many attempts had failed when the request was made.
        outcome: what the handler said.
    """
    operation = tx.operation
    if not tx.header.is_open or operation.started_ns or operation.attempt != attempt:
        return
    if isinstance(outcome, Started):
        _begin(tx, outcome.token, outcome.links, tx.now_ns)
    elif isinstance(outcome, Refused) and outcome.may_retry:
        nexus_attempts.back_off(operation, tx.now_ns, outcome.failure)
    else:
        operation.attempt += 1
        operation.next_attempt_ns = 0
        if isinstance(outcome, Succeeded):
            tx.links = (*tx.links, *outcome.links) if outcome.links else tx.links
            _succeed(tx, outcome)
            return
        operation.last_attempt_ns = tx.now_ns
        operation.last_failure = b""  # the outcome says it
        tx.header.is_outcome_last_failure = True
        if isinstance(outcome, OutOfTime):
            _close_timed_out(tx, outcome.timeout_type)
        elif isinstance(outcome, Refused):
            _end(tx, Ended(outcome.failure))
        else:
            _end(tx, outcome)


def cancel_answered(tx: OperationTransition, attempt: int, outcome: CancelOutcome) -> None:
    """What came of a request to cancel; `attempt` is how many were over when it was made."""
    operation = tx.operation
    if tx.header.is_open and nexus_attempts.cancel_due_ns(operation) and operation.cancel_attempt == attempt:
        nexus_attempts.cancel_asked(operation, tx.now_ns, outcome)


def complete(
    tx: OperationTransition,
    request_id: str,
    outcome: CompletionOutcome,
    *,
    token: str = "",
    started_ns: int = 0,
    links: Iterable[Link] = (),
) -> None:
    """A completion has come. One that is faster than the answer to the start says that the operation has started, too.

    Args:
        tx: the transition.
        request_id: which of the requests to start it belongs to.
        outcome: how it ended.
        token, started_ns, links: what is known of its start, if that is missing.

    Raises:
        NotFoundError: it is closed, or another operation is meant.
    """
    if not tx.header.is_open or tx.operation.request_id != request_id:
        raise NotFoundError(nexus_attempts.NOT_FOUND)
    if not tx.operation.started_ns:
        _begin(tx, token, links, started_ns or tx.now_ns)
    if isinstance(outcome, Succeeded):
        _succeed(tx, outcome)
    else:
        _end(tx, outcome)


def _begin(tx: OperationTransition, token: str, links: Iterable[Link], started_ns: int) -> None:
    nexus_attempts.begin(tx.operation, tx.now_ns, token, started_ns)
    tx.links = (*tx.links, *links)
    if tx.header.cancel_asked_ns:
        tx.operation.cancel_requested_ns = tx.now_ns


def _succeed(tx: OperationTransition, outcome: Succeeded) -> None:
    told = Outcome()
    told.result.SetInParent()
    if outcome.result is not None:
        told.result.CopyFrom(outcome.result)
    _close(tx, lifecycle.STATUS_COMPLETED, told)


def _end(tx: OperationTransition, outcome: Ended) -> None:
    status = lifecycle.STATUS_CANCELED if outcome.is_canceled else lifecycle.STATUS_FAILED
    _close(tx, status, Outcome(failure=outcome.cause))


def _close_timed_out(tx: OperationTransition, timeout_type: int) -> None:
    failure = nexus_attempts.timed_out(timeout_type)
    _close(tx, lifecycle.STATUS_TIMED_OUT, Outcome(failure=failure))


def _close(tx: OperationTransition, status: int, outcome: Outcome) -> None:
    tx.header.status = status
    tx.header.close_ns = tx.now_ns
    tx.outcome = outcome
    tx.operation.next_attempt_ns = 0
    tx.visibility_changed = True


# --- what clients ask


def request_cancel(tx: OperationTransition, *, request_id: str, reason: str) -> None:
    """Asks for the cancellation; the handler is asked once the operation runs.

    Raises:
        FailedPreconditionError: it is closed, or another request has asked for it.
    """
    header = tx.header
    if header.cancel_asked_ns and header.cancel_request_id == request_id:
        return
    if not header.is_open:
        raise FailedPreconditionError("operation already completed")
    if header.cancel_asked_ns:
        raise FailedPreconditionError(
            f"cancellation already requested with request ID {header.cancel_request_id}"
        )
    header.cancel_asked_ns = tx.now_ns
    header.cancel_request_id = request_id
    header.cancel_reason = reason
    if tx.operation.started_ns:
        tx.operation.cancel_requested_ns = tx.now_ns


def terminate(tx: OperationTransition, *, request_id: str, reason: str, identity: str) -> None:
    """Closes it at once. Its handler is not told.

    Raises:
        FailedPreconditionError: it is closed, or another request has terminated it.
    """
    header = tx.header
    if header.status == lifecycle.STATUS_TERMINATED:
        if header.terminate_request_id != request_id:
            raise FailedPreconditionError(f"already terminated with request ID {header.terminate_request_id}")
        return
    if not header.is_open:
        raise FailedPreconditionError(f"invalid transition from {_STATES[header.status]}")
    header.terminate_request_id = request_id
    failure = Failure(message=reason)
    failure.terminated_failure_info.identity = identity
    _close(tx, lifecycle.STATUS_TERMINATED, Outcome(failure=failure))


# --- time


def fire(tx: OperationTransition) -> None:
    """Closes an execution one of whose timeouts is over: the first one that was."""
    due = sorted(found for found in nexus_attempts.deadlines(tx.operation) if found[0] <= tx.now_ns)
    if tx.header.is_open and due:
        _close_timed_out(tx, due[0][1])
