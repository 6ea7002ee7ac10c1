"""Nexus operations of a workflow: scheduled, tried again, started, ended, and asked to cancel.

What is asked of a handler, and when, follows from the state (`effects`); the engine asks and brings the outcome here.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.api.command.v1 import ScheduleNexusOperationCommandAttributes
from perdure.api.common.v1 import Link
from perdure.api.enums.v1 import EventType, PendingNexusOperationState
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent, NexusOperationScheduledEventAttributes
from perdure.api.workflow.v1 import PendingNexusOperationInfo
from perdure.core.errors import InvalidArgumentError, NotFoundError
from perdure.core.nexus import system
from perdure.core.nexus.outcomes import (
    CancelOutcome,
    CompletionOutcome,
    Ended,
    OutOfTime,
    Refused,
    StartOutcome,
    Succeeded,
)
from perdure.core.nexus.outcomes import Started as StartedOutcome
from perdure.core.run import nexus_attempts
from perdure.core.run.ids import derived_id
from perdure.core.run.limits import Limits
from perdure.core.run.protos import checked_duration_ns, duration_ns, set_duration, set_timestamp
from perdure.core.run.state import NexusOperation
from perdure.core.run.transition import Transition


def _type(name: str) -> int:
    return EventType.Value(f"EVENT_TYPE_NEXUS_OPERATION_{name}")


_SCHEDULED, _STARTED, _COMPLETED = _type("SCHEDULED"), _type("STARTED"), _type("COMPLETED")
_FAILED, _CANCELED, _TIMED_OUT = _type("FAILED"), _type("CANCELED"), _type("TIMED_OUT")
_CANCEL_REQUESTED = _type("CANCEL_REQUESTED")
_CANCEL_COMPLETED, _CANCEL_FAILED = _type("CANCEL_REQUEST_COMPLETED"), _type("CANCEL_REQUEST_FAILED")
ENDS = frozenset((_COMPLETED, _FAILED, _CANCELED, _TIMED_OUT))
"""The events that end an operation."""
_STATE_SCHEDULED = PendingNexusOperationState.Value("PENDING_NEXUS_OPERATION_STATE_SCHEDULED")
_STATE_BACKING_OFF = PendingNexusOperationState.Value("PENDING_NEXUS_OPERATION_STATE_BACKING_OFF")
_STATE_STARTED = PendingNexusOperationState.Value("PENDING_NEXUS_OPERATION_STATE_STARTED")

_LABEL = "ScheduleNexusOperationCommandAttributes"
_TIMEOUTS = (
    ("schedule_to_close_timeout", "ScheduleToCloseTimeout"),
    ("schedule_to_start_timeout", "ScheduleToStartTimeout"),
    ("start_to_close_timeout", "StartToCloseTimeout"),
)


# --- schedule


def normalize(command: ScheduleNexusOperationCommandAttributes, run_timeout_ns: int, limits: Limits) -> None:
    """Checks a command and cuts its timeouts to the run's and to each other.

    Raises:
        InvalidArgumentError: a field is bad; the message names it.
    """
    for name, value in (("Service", command.service), ("Operation", command.operation)):
        if len(value.encode()) > limits.nexus_name_bytes:
            raise InvalidArgumentError(f"{_LABEL}.{name} exceeds length limit of {limits.nexus_name_bytes}")
    for field, name in _TIMEOUTS:
        try:
            value_ns = checked_duration_ns(getattr(command, field), "")
        except InvalidArgumentError as error:
            reason = str(error).removeprefix("invalid : ")
            raise InvalidArgumentError(f"{_LABEL}.{name} is invalid: {reason}") from error
        if value_ns != duration_ns(getattr(command, field)):
            set_duration(getattr(command, field), value_ns)
    size = 0
    for key, value in command.nexus_header.items():
        size += len(key.lower().encode()) + len(value.encode())
        if key.lower() in nexus_attempts.DISALLOWED_HEADERS:
            raise InvalidArgumentError(f'{_LABEL}.NexusHeader contains a disallowed header key: "{key}"')
    if size > limits.nexus_header_bytes:
        raise InvalidArgumentError(f"{_LABEL}.NexusHeader exceeds size limit")
    to_close_ns = duration_ns(command.schedule_to_close_timeout)
    if run_timeout_ns and not 0 < to_close_ns <= run_timeout_ns:
        to_close_ns = run_timeout_ns
        set_duration(command.schedule_to_close_timeout, to_close_ns)
    for field, _ in _TIMEOUTS[1:]:
        if 0 < to_close_ns < duration_ns(getattr(command, field)):
            set_duration(getattr(command, field), to_close_ns)


def check_system(command: ScheduleNexusOperationCommandAttributes, namespace: str) -> None:
    """Checks a command for the server's own endpoint.

    Raises:
        InvalidArgumentError: there is no such operation, or its input is none for it.
    """
    if command.nexus_header:
        raise InvalidArgumentError(
            f"{_LABEL}.NexusHeader must be empty when using {nexus_attempts.SYSTEM_ENDPOINT} endpoint"
        )
    system.check(command.service, command.operation)
    system.read(command.input, namespace)


def schedule(
    tx: Transition,
    command: ScheduleNexusOperationCommandAttributes,
    endpoint_id: str,
    completed_event_id: int,
) -> HistoryEvent:
    """Records that an operation is to be started, from a normalised command; returns the event."""
    event = tx.new_event(_SCHEDULED)
    target = event.nexus_operation_scheduled_event_attributes
    target.workflow_task_completed_event_id = completed_event_id
    for name in ("endpoint", "service", "operation"):
        setattr(target, name, getattr(command, name))
    target.endpoint_id = endpoint_id
    for name in ("input", *(field for field, _ in _TIMEOUTS)):
        if command.HasField(name):  # type: ignore[arg-type]  # one of the names above
            getattr(target, name).CopyFrom(getattr(command, name))
    for key, value in command.nexus_header.items():
        target.nexus_header[key.lower()] = value
    target.request_id = derived_id(tx.state.run.run_id, tx.header.next_event_id, "nexus")
    tx.append(event)
    tx.nexus_operations.put(event.event_id, scheduled(event.event_id, target, tx.now_ns))
    return event


def scheduled(
    event_id: int, attributes: NexusOperationScheduledEventAttributes, now_ns: int
) -> NexusOperation:
    """The operation that a scheduled event begins."""
    return NexusOperation(
        scheduled_event_id=event_id,
        scheduled_ns=now_ns,
        endpoint=attributes.endpoint,
        endpoint_id=attributes.endpoint_id,
        service=attributes.service,
        operation=attributes.operation,
        request_id=attributes.request_id,
        schedule_to_close_ns=duration_ns(attributes.schedule_to_close_timeout),
        schedule_to_start_ns=duration_ns(attributes.schedule_to_start_timeout),
        start_to_close_ns=duration_ns(attributes.start_to_close_timeout),
    )


def request_cancel(tx: Transition, scheduled_event_id: int, completed_event_id: int) -> None:
    """Records that the operation is to be asked to cancel; one that ended while the workflow task ran needs not be.

    Raises:
        InvalidArgumentError: it was asked already, or there is no such operation.
    """
    operation = tx.nexus_operations.get(scheduled_event_id)
    if operation is None and not _has_just_ended(tx, scheduled_event_id):
        raise InvalidArgumentError(
            "requested cancelation for a non-existing or already completed operation with scheduled event ID of "
            f"{scheduled_event_id}"
        )
    if operation is not None and operation.cancel_requested_event_id:
        raise InvalidArgumentError(
            f"cancelation was already requested for an operation with scheduled event ID {scheduled_event_id}"
        )
    event = tx.new_event(_CANCEL_REQUESTED)
    target = event.nexus_operation_cancel_requested_event_attributes
    target.scheduled_event_id = scheduled_event_id
    target.workflow_task_completed_event_id = completed_event_id
    tx.append(event)
    if operation is not None:
        changed = tx.nexus_operations.edit(scheduled_event_id)
        changed.cancel_requested_event_id = event.event_id
        changed.cancel_requested_ns = tx.now_ns if changed.started_ns else 0


def _has_just_ended(tx: Transition, scheduled_event_id: int) -> bool:
    """Whether the operation's end waits in the buffer: the workflow task could not know of it."""
    for event in tx.buffered:
        if event.event_type in ENDS:
            attributes = getattr(event, str(event.WhichOneof("attributes")))
            if attributes.scheduled_event_id == scheduled_event_id:
                return True
    return False


# --- time


def fire(tx: Transition, scheduled_event_id: int, timeout_type: int) -> None:
    """A timeout of the operation is over."""
    operation = tx.nexus_operations.get(scheduled_event_id)
    if operation is not None:
        _time_out(tx, operation, timeout_type)


# --- what came of requests to the handler


def start_answered(tx: Transition, scheduled_event_id: int, attempt: int, outcome: StartOutcome) -> None:
    """What came of a request to start; of one that is not the current attempt nothing does.

    Args:
        tx: the transition of the run.
        scheduled_event_id: which operation.
        attempt: how many attempts had failed when the request was made.
        outcome: what the handler said.
    """
    operation = tx.nexus_operations.get(scheduled_event_id)
    if operation is None or operation.started_ns or operation.attempt != attempt:
        return
    if isinstance(outcome, StartedOutcome):
        _start(tx, operation, outcome.token, outcome.links, tx.now_ns)
    elif isinstance(outcome, Refused) and outcome.may_retry:
        nexus_attempts.back_off(tx.nexus_operations.edit(scheduled_event_id), tx.now_ns, outcome.failure)
    elif isinstance(outcome, Refused):
        _end(tx, operation, Ended(outcome.failure))
    elif isinstance(outcome, OutOfTime):
        _time_out(tx, operation, outcome.timeout_type)
    else:
        _end(tx, operation, outcome)


def cancel_answered(
    tx: Transition, scheduled_event_id: int, attempt: int, outcome: CancelOutcome, *, records: bool = True
) -> None:
    """What came of a request to cancel; `attempt` is as for `start_answered`. `records`: events say so."""
    operation = tx.nexus_operations.get(scheduled_event_id)
    if (
        operation is None
        or not nexus_attempts.cancel_due_ns(operation)
        or operation.cancel_attempt != attempt
    ):
        return
    changed = tx.nexus_operations.edit(scheduled_event_id)
    if not nexus_attempts.cancel_asked(changed, tx.now_ns, outcome) or not records:
        return
    event = tx.new_event(_CANCEL_COMPLETED if outcome is None else _CANCEL_FAILED)
    event.worker_may_ignore = True
    if outcome is None:
        done = event.nexus_operation_cancel_request_completed_event_attributes
        done.scheduled_event_id = scheduled_event_id
        done.requested_event_id = operation.cancel_requested_event_id
    else:
        failed = event.nexus_operation_cancel_request_failed_event_attributes
        failed.scheduled_event_id = scheduled_event_id
        failed.requested_event_id = operation.cancel_requested_event_id
        failed.failure.CopyFrom(outcome.failure)
    tx.append(event)
    tx.needs_task = True


def complete(
    tx: Transition,
    scheduled_event_id: int,
    request_id: str,
    outcome: CompletionOutcome,
    *,
    token: str = "",
    started_ns: int = 0,
    links: Iterable[Link] = (),
) -> None:
    """A completion has come. One that is faster than the answer to the start says that the operation has started, too.

    Args:
        tx: the transition of the run that waits for it.
        scheduled_event_id, request_id: which operation.
        outcome: how it ended.
        token, started_ns, links: for its started event, if that is missing.

    Raises:
        NotFoundError: no such operation is pending.
    """
    operation = tx.nexus_operations.get(scheduled_event_id) if tx.header.is_open else None
    if operation is None or operation.request_id != request_id:
        raise NotFoundError(nexus_attempts.NOT_FOUND)
    if not operation.started_ns:
        _start(tx, operation, token, links, started_ns or tx.now_ns)
        operation = tx.nexus_operations.edit(scheduled_event_id)
    if isinstance(outcome, Succeeded):
        outcome = Succeeded(outcome.result)  # the links are those of the start
    _end(tx, operation, outcome)


# --- events


def started(tx: Transition, scheduled_event_id: int, token: str) -> None:
    """What a started event, written elsewhere, says of an operation."""
    operation = tx.nexus_operations.edit(scheduled_event_id)
    operation.started_ns = tx.now_ns
    operation.operation_token = token
    operation.attempt, operation.last_attempt_ns = 1, tx.now_ns
    if operation.cancel_requested_event_id:
        operation.cancel_requested_ns = tx.now_ns


def _start(
    tx: Transition, operation: NexusOperation, token: str, links: Iterable[Link], event_ns: int
) -> None:
    event = tx.new_event(_STARTED, event_ns)
    target = event.nexus_operation_started_event_attributes
    target.scheduled_event_id = operation.scheduled_event_id
    target.operation_token = target.operation_id = token
    target.request_id = operation.request_id
    event.links.extend(links)
    tx.append(event)
    changed = tx.nexus_operations.edit(operation.scheduled_event_id)
    nexus_attempts.begin(changed, tx.now_ns, token, event_ns)
    if changed.cancel_requested_event_id:
        changed.cancel_requested_ns = tx.now_ns
    tx.needs_task = True


def _end(tx: Transition, operation: NexusOperation, outcome: CompletionOutcome) -> None:
    if isinstance(outcome, Succeeded):
        event = tx.new_event(_COMPLETED)
        completed = event.nexus_operation_completed_event_attributes
        completed.scheduled_event_id = operation.scheduled_event_id
        completed.request_id = operation.request_id
        if outcome.result is not None:
            completed.result.CopyFrom(outcome.result)
        event.links.extend(outcome.links)
    elif outcome.is_canceled:
        event = tx.new_event(_CANCELED)
        canceled = event.nexus_operation_canceled_event_attributes
        canceled.scheduled_event_id = operation.scheduled_event_id
        canceled.request_id = operation.request_id
        canceled.failure.CopyFrom(_failure(operation, outcome.cause))
    else:
        event = tx.new_event(_FAILED)
        failed = event.nexus_operation_failed_event_attributes
        failed.scheduled_event_id = operation.scheduled_event_id
        failed.request_id = operation.request_id
        failed.failure.CopyFrom(_failure(operation, outcome.cause))
    _close(tx, operation, event)


def _time_out(tx: Transition, operation: NexusOperation, timeout_type: int) -> None:
    cause = nexus_attempts.timed_out(timeout_type)
    event = tx.new_event(_TIMED_OUT)
    target = event.nexus_operation_timed_out_event_attributes
    target.scheduled_event_id = operation.scheduled_event_id
    target.request_id = operation.request_id
    target.failure.CopyFrom(_failure(operation, cause))
    _close(tx, operation, event)


def _close(tx: Transition, operation: NexusOperation, event: HistoryEvent) -> None:
    tx.nexus_operations.delete(operation.scheduled_event_id)
    tx.append(event)
    tx.needs_task = True


def _failure(operation: NexusOperation, cause: Failure) -> Failure:
    failure = Failure(message="nexus operation completed unsuccessfully")
    info = failure.nexus_operation_execution_failure_info
    info.endpoint, info.service, info.operation = operation.endpoint, operation.service, operation.operation
    info.operation_token = info.operation_id = operation.operation_token
    info.scheduled_event_id = operation.scheduled_event_id
    failure.cause.CopyFrom(cause)
    return failure


# --- as descriptions show it


def described(operation: NexusOperation, now_ns: int) -> PendingNexusOperationInfo:
    """The pending operation as DescribeWorkflowExecution shows it."""
    info = PendingNexusOperationInfo(
        endpoint=operation.endpoint,
        service=operation.service,
        operation=operation.operation,
        operation_id=operation.operation_token,
        operation_token=operation.operation_token,
        scheduled_event_id=operation.scheduled_event_id,
        attempt=operation.attempt,
    )
    is_backing_off = not operation.started_ns and operation.next_attempt_ns > now_ns
    state = _STATE_BACKING_OFF if is_backing_off else _STATE_SCHEDULED
    info.state = _STATE_STARTED if operation.started_ns else state
    for field, value_ns in (
        ("schedule_to_close_timeout", operation.schedule_to_close_ns),
        ("schedule_to_start_timeout", operation.schedule_to_start_ns),
        ("start_to_close_timeout", operation.start_to_close_ns),
    ):
        if value_ns:
            set_duration(getattr(info, field), value_ns)
    set_timestamp(info.scheduled_time, operation.scheduled_ns)
    set_timestamp(info.last_attempt_complete_time, operation.last_attempt_ns)
    if is_backing_off:
        set_timestamp(info.next_attempt_schedule_time, operation.next_attempt_ns)
    if operation.last_failure:
        info.last_attempt_failure.ParseFromString(operation.last_failure)
    if operation.cancel_requested_event_id:
        _describe_cancellation(info, operation, now_ns)
    return info


def _describe_cancellation(info: PendingNexusOperationInfo, operation: NexusOperation, now_ns: int) -> None:
    target = info.cancellation_info
    target.SetInParent()
    state = nexus_attempts.cancellation_state(operation, now_ns)
    target.state = state  # type: ignore[assignment]  # an enum number
    if operation.cancel_next_attempt_ns > now_ns:
        set_timestamp(target.next_attempt_schedule_time, operation.cancel_next_attempt_ns)
    target.attempt = operation.cancel_attempt
    set_timestamp(target.requested_time, operation.cancel_requested_ns)
    set_timestamp(target.last_attempt_complete_time, operation.cancel_last_attempt_ns)
    if operation.cancel_last_failure:
        target.last_attempt_failure.ParseFromString(operation.cancel_last_failure)
