"""The record of a Nexus operation, whoever scheduled it: when its handler is asked, what answers do, its timeouts.

Pure functions over one record. What becomes of an operation (a workflow's events, a standalone operation's outcome) is
said by those who call them; nothing of that may live here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from perdure.api.enums.v1 import NexusOperationCancellationState, TimeoutType
from perdure.api.failure.v1 import Failure
from perdure.core.nexus.outcomes import CancelOutcome
from perdure.core.run import retry
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.state import NexusOperation

SCHEDULE_TO_CLOSE = TimeoutType.Value("TIMEOUT_TYPE_SCHEDULE_TO_CLOSE")
SCHEDULE_TO_START = TimeoutType.Value("TIMEOUT_TYPE_SCHEDULE_TO_START")
START_TO_CLOSE = TimeoutType.Value("TIMEOUT_TYPE_START_TO_CLOSE")

CANCEL_SUCCEEDED = NexusOperationCancellationState.Value("NEXUS_OPERATION_CANCELLATION_STATE_SUCCEEDED")
CANCEL_FAILED = NexusOperationCancellationState.Value("NEXUS_OPERATION_CANCELLATION_STATE_FAILED")
_CANCEL_SCHEDULED = NexusOperationCancellationState.Value("NEXUS_OPERATION_CANCELLATION_STATE_SCHEDULED")
_CANCEL_BACKING_OFF = NexusOperationCancellationState.Value("NEXUS_OPERATION_CANCELLATION_STATE_BACKING_OFF")

FIRST_RETRY_NS = SECOND_NS
LONGEST_RETRY_NS = 3600 * SECOND_NS
_RETRY_COEFFICIENT = 2.0
SYSTEM_ENDPOINT: Final = "__temporal_system"
"""The endpoint of what the server itself does for workflows."""
DISALLOWED_HEADERS = frozenset(
    (
        "request-timeout",
        "xdc-redirection",
        "xdc-redirection-api",
        "xdc-source-cell",
        "caller-name",
        "caller-type",
        "call-initiation",
        "principal-type",
        "principal-name",
    )
)
NOT_FOUND = "operation not found"


# --- what is owed, and what is due


def start_due_ns(operation: NexusOperation) -> int:
    """Since when, or from when on, the handler is to be asked to start; 0: it is not."""
    return 0 if operation.started_ns else max(operation.scheduled_ns, operation.next_attempt_ns)


def cancel_due_ns(operation: NexusOperation) -> int:
    """Since when, or from when on, the handler is to be asked to cancel; 0: it is not."""
    if not operation.cancel_requested_ns or operation.cancel_state:
        return 0
    return max(operation.cancel_requested_ns, operation.cancel_next_attempt_ns)


def deadlines(operation: NexusOperation) -> Iterator[tuple[int, int]]:
    """The times at which the operation times out, each with its TimeoutType."""
    if operation.schedule_to_close_ns:
        yield operation.scheduled_ns + operation.schedule_to_close_ns, SCHEDULE_TO_CLOSE
    if operation.schedule_to_start_ns and not operation.started_ns:
        yield operation.scheduled_ns + operation.schedule_to_start_ns, SCHEDULE_TO_START
    if operation.start_to_close_ns and operation.started_ns:
        yield operation.started_ns + operation.start_to_close_ns, START_TO_CLOSE


def backoff_ns(attempt: int) -> int:
    """How long to wait after attempt `attempt`, counted from 1."""
    return retry.interval_ns(FIRST_RETRY_NS, _RETRY_COEFFICIENT, attempt, LONGEST_RETRY_NS)


# --- what becomes of it


def back_off(operation: NexusOperation, now_ns: int, failure: Failure) -> None:
    """An attempt to start has failed, and another one follows."""
    operation.attempt += 1
    operation.last_attempt_ns = now_ns
    operation.last_failure = failure.SerializeToString()
    operation.next_attempt_ns = now_ns + backoff_ns(operation.attempt)


def begin(operation: NexusOperation, now_ns: int, token: str, started_ns: int) -> None:
    """The operation runs since `started_ns`; a cancellation that waited for that is due."""
    operation.started_ns = max(started_ns, 1)
    operation.operation_token = token
    operation.attempt += 1
    operation.last_attempt_ns = now_ns
    operation.last_failure = b""
    operation.next_attempt_ns = 0


def cancel_asked(operation: NexusOperation, now_ns: int, outcome: CancelOutcome) -> bool:
    """What came of asking the handler to cancel. Returns whether that is final; if not, it is asked again."""
    operation.cancel_attempt += 1
    operation.cancel_last_attempt_ns = now_ns
    operation.cancel_next_attempt_ns = 0
    operation.cancel_last_failure = b"" if outcome is None else outcome.failure.SerializeToString()
    if outcome is not None and outcome.may_retry:
        operation.cancel_next_attempt_ns = now_ns + backoff_ns(operation.cancel_attempt)
        return False
    operation.cancel_state = CANCEL_SUCCEEDED if outcome is None else CANCEL_FAILED
    return True


def timed_out(timeout_type: int) -> Failure:
    """The failure of an operation that took too long."""
    failure = Failure(message="operation timed out")
    failure.timeout_failure_info.timeout_type = timeout_type  # type: ignore[assignment]  # an enum number
    return failure


# --- as descriptions show it


def cancellation_state(operation: NexusOperation, now_ns: int) -> int:
    """The NexusOperationCancellationState number of a requested cancellation; 0 while it waits for the start."""
    if operation.cancel_state or not operation.cancel_requested_ns:
        return operation.cancel_state
    return _CANCEL_BACKING_OFF if operation.cancel_next_attempt_ns > now_ns else _CANCEL_SCHEDULED
