"""How descriptions and lists show a standalone Nexus operation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from perdure.api.common.v1 import SearchAttributes
from perdure.api.enums.v1 import (
    NexusOperationExecutionStatus,
    NexusOperationWaitStage,
    PendingNexusOperationState,
    WorkflowExecutionStatus,
)
from perdure.api.nexus.v1 import NexusOperationExecutionInfo, NexusOperationExecutionListInfo
from perdure.core.operation.state import OperationHeader, OperationRun, OperationTransition, Outcome
from perdure.core.run import attributes, nexus_attempts
from perdure.core.run.protos import set_duration, set_timestamp
from perdure.core.run.records import RunKey, VisibilityRecord
from perdure.core.visibility.attributes import AttributeType

SERVICE: Final = "TemporalNexusService"
REQUEST_ID: Final = "TemporalNexusRequestId"
ATTRIBUTES: Final[Mapping[str, AttributeType]] = MappingProxyType(
    {SERVICE: AttributeType.KEYWORD, REQUEST_ID: AttributeType.KEYWORD}
)
"""What lists keep of operations alone, beside the namespace's own attributes."""
ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "OperationId": "WorkflowId",
        "Operation": "WorkflowType",
        "Endpoint": "TaskQueue",
        "Service": SERVICE,
        "RequestId": REQUEST_ID,
    }
)
"""What lists of operations call the attributes of their runs."""
_STATUSES: Mapping[int, int] = {
    WorkflowExecutionStatus.Value(f"WORKFLOW_EXECUTION_STATUS_{name}"): NexusOperationExecutionStatus.Value(
        f"NEXUS_OPERATION_EXECUTION_STATUS_{name}"
    )
    for name in ("RUNNING", "COMPLETED", "FAILED", "CANCELED", "TERMINATED", "TIMED_OUT")
}
"""What lists and headers keep, to what the API calls it."""
_SCHEDULED = PendingNexusOperationState.Value("PENDING_NEXUS_OPERATION_STATE_SCHEDULED")
_BACKING_OFF = PendingNexusOperationState.Value("PENDING_NEXUS_OPERATION_STATE_BACKING_OFF")
_STARTED = PendingNexusOperationState.Value("PENDING_NEXUS_OPERATION_STATE_STARTED")
_STAGE_STARTED = NexusOperationWaitStage.Value("NEXUS_OPERATION_WAIT_STAGE_STARTED")
_STAGE_CLOSED = NexusOperationWaitStage.Value("NEXUS_OPERATION_WAIT_STAGE_CLOSED")
_TIMEOUTS = ("schedule_to_close_timeout", "schedule_to_start_timeout", "start_to_close_timeout")


def record(tx: OperationTransition, custom: Mapping[str, AttributeType]) -> VisibilityRecord:
    """The row that lists show of an execution as this transition leaves it.

    Args:
        tx: the transition.
        custom: the namespace's own search attributes.
    """
    header, fields, operation = tx.header, tx.state.request.search_attributes, tx.operation
    own = {SERVICE: operation.service, REQUEST_ID: operation.request_id}
    return VisibilityRecord(
        workflow_type=operation.operation,
        task_queue=operation.endpoint,
        status=header.status,
        start_time_ns=operation.scheduled_ns,
        execution_time_ns=operation.scheduled_ns,
        close_time_ns=header.close_ns or None,
        history_length=0,
        history_size_bytes=size_bytes(tx.state, tx.outcome),
        state_transition_count=header.transition_count + 1,
        parent_workflow_id=None,
        parent_run_id=None,
        root_workflow_id="",
        root_run_id="",
        memo=b"",
        search_attributes=fields.SerializeToString(deterministic=True),
        attributes=attributes.decode_all(fields, custom) | own,
    )


def size_bytes(state: OperationRun, outcome: Outcome | None) -> int:
    """About how much is kept of an execution."""
    return state.request.ByteSize() + (outcome.ByteSize() if outcome is not None else 0)


def list_info(
    run: RunKey, shown: VisibilityRecord, fields: SearchAttributes
) -> NexusOperationExecutionListInfo:
    """One row of a list.

    Args:
        run: which execution.
        shown: its row.
        fields: its search attributes, each marked with its type.
    """
    info = NexusOperationExecutionListInfo(
        operation_id=run.workflow_id,
        run_id=run.run_id,
        endpoint=shown.task_queue,
        service=str(shown.attributes.get(SERVICE, "")),
        operation=shown.workflow_type,
        status=_STATUSES[shown.status],  # type: ignore[arg-type]  # a number
        search_attributes=fields,
    )
    set_timestamp(info.schedule_time, shown.start_time_ns)
    if shown.close_time_ns is not None:
        set_timestamp(info.close_time, shown.close_time_ns)
        set_duration(info.execution_duration, shown.close_time_ns - shown.start_time_ns)
        info.state_transition_count = shown.state_transition_count
        info.state_size_bytes = shown.history_size_bytes
    return info


def polled(state: OperationRun) -> Outcome:
    """What is told to those who wait for a stage that the execution has reached."""
    told = Outcome()
    if state.outcome is not None:
        told.CopyFrom(state.outcome)
    told.run_id = state.run.run_id
    told.operation_token = state.header.operation.operation_token
    told.wait_stage = _STAGE_STARTED if state.header.is_open else _STAGE_CLOSED
    return told


def describe(state: OperationRun, now_ns: int, fields: SearchAttributes) -> NexusOperationExecutionInfo:
    """An execution as temporal.api.nexus.v1.NexusOperationExecutionInfo.

    Args:
        state: the execution.
        now_ns: the time, nanoseconds since the epoch.
        fields: its search attributes, each marked with its type.
    """
    header, request = state.header, state.request
    operation = header.operation
    is_backing_off = header.is_open and operation.next_attempt_ns > now_ns
    info = NexusOperationExecutionInfo(
        operation_id=state.run.workflow_id,
        run_id=state.run.run_id,
        endpoint=operation.endpoint,
        service=operation.service,
        operation=operation.operation,
        status=_STATUSES[header.status],  # type: ignore[arg-type]  # a number
        state=_state(header, is_backing_off=is_backing_off),  # type: ignore[arg-type]
        attempt=_attempt(header, is_backing_off=is_backing_off),
        request_id=operation.request_id,
        operation_token=operation.operation_token,
        state_transition_count=header.transition_count,
        search_attributes=fields,
        nexus_header=dict(request.nexus_header),
        links=state.links,
        identity=request.identity,
        state_size_bytes=size_bytes(state, state.outcome),
    )
    for name in (*_TIMEOUTS, "user_metadata"):
        if request.HasField(name):  # type: ignore[arg-type]  # one of the names above
            getattr(info, name).CopyFrom(getattr(request, name))
    if header.is_outcome_last_failure and state.outcome is not None:
        info.last_attempt_failure.CopyFrom(state.outcome.failure)
    elif operation.last_failure:
        info.last_attempt_failure.ParseFromString(operation.last_failure)
    _add_times(info, header, now_ns)
    if is_backing_off:
        set_timestamp(info.next_attempt_schedule_time, operation.next_attempt_ns)
    if header.cancel_asked_ns:
        _add_cancellation(info, header, now_ns)
    return info


def _state(header: OperationHeader, *, is_backing_off: bool) -> int:
    if not header.is_open:
        return 0
    if header.is_started:
        return _STARTED
    return _BACKING_OFF if is_backing_off else _SCHEDULED


def _attempt(header: OperationHeader, *, is_backing_off: bool) -> int:
    """The attempt that is under way, or the last one."""
    waits = header.is_open and not header.is_started and not is_backing_off
    return max(header.operation.attempt + int(waits), 1)


def _add_times(info: NexusOperationExecutionInfo, header: OperationHeader, now_ns: int) -> None:
    operation = header.operation
    set_timestamp(info.schedule_time, operation.scheduled_ns)
    set_timestamp(info.close_time, header.close_ns)
    set_timestamp(info.last_attempt_complete_time, operation.last_attempt_ns)
    if operation.schedule_to_close_ns:
        set_timestamp(info.expiration_time, operation.scheduled_ns + operation.schedule_to_close_ns)
    set_duration(info.execution_duration, max((header.close_ns or now_ns) - operation.scheduled_ns, 0))


def _add_cancellation(info: NexusOperationExecutionInfo, header: OperationHeader, now_ns: int) -> None:
    operation, target = header.operation, info.cancellation_info
    target.reason = header.cancel_reason
    target.state = nexus_attempts.cancellation_state(operation, now_ns)  # type: ignore[assignment]
    is_under_way = target.state and not operation.cancel_state and operation.cancel_next_attempt_ns <= now_ns
    target.attempt = operation.cancel_attempt + int(bool(is_under_way))
    set_timestamp(target.requested_time, header.cancel_asked_ns)
    set_timestamp(target.last_attempt_complete_time, operation.cancel_last_attempt_ns)
    if operation.cancel_next_attempt_ns > now_ns:
        set_timestamp(target.next_attempt_schedule_time, operation.cancel_next_attempt_ns)
    if operation.cancel_last_failure:
        target.last_attempt_failure.ParseFromString(operation.cancel_last_failure)
