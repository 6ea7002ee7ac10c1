"""How descriptions and lists show a standalone activity."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.api.activity.v1 import ActivityExecutionInfo, ActivityExecutionListInfo
from perdure.api.common.v1 import SearchAttributes
from perdure.api.enums.v1 import ActivityExecutionStatus, PendingActivityState, WorkflowExecutionStatus
from perdure.api.failure.v1 import Failure
from perdure.core.activity import control
from perdure.core.activity.state import ActivityHeader, ActivityRun, ActivityTransition
from perdure.core.run import attributes
from perdure.core.run.protos import set_duration, set_timestamp
from perdure.core.run.records import RunKey, VisibilityRecord
from perdure.core.visibility.attributes import AttributeType

_PAUSED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_PAUSED")
_STATUSES: Mapping[int, int] = {
    WorkflowExecutionStatus.Value(f"WORKFLOW_EXECUTION_STATUS_{name}"): ActivityExecutionStatus.Value(
        f"ACTIVITY_EXECUTION_STATUS_{name}"
    )
    for name in ("RUNNING", "COMPLETED", "FAILED", "CANCELED", "TERMINATED", "TIMED_OUT", "PAUSED")
}
"""What lists and headers keep, to what the API calls it."""
_RUN_STATES: Mapping[str, int] = {
    "Scheduled": PendingActivityState.Value("PENDING_ACTIVITY_STATE_SCHEDULED"),
    "Started": PendingActivityState.Value("PENDING_ACTIVITY_STATE_STARTED"),
    "CancelRequested": PendingActivityState.Value("PENDING_ACTIVITY_STATE_CANCEL_REQUESTED"),
    "Paused": PendingActivityState.Value("PENDING_ACTIVITY_STATE_PAUSED"),
    "PauseRequested": PendingActivityState.Value("PENDING_ACTIVITY_STATE_PAUSE_REQUESTED"),
}
_DURATIONS = (
    "schedule_to_close_timeout",
    "schedule_to_start_timeout",
    "start_to_close_timeout",
    "heartbeat_timeout",
    "retry_policy",
)


def listed_status(header: ActivityHeader) -> int:
    """The status that lists keep: a paused execution that no worker has shows as paused."""
    return _PAUSED if header.is_waiting_paused else header.status


def record(tx: ActivityTransition, custom: Mapping[str, AttributeType]) -> VisibilityRecord:
    """The row that lists show of an execution as this transition leaves it.

    Args:
        tx: the transition.
        custom: the namespace's own search attributes.
    """
    header, request = tx.header, tx.state.request
    fields = request.search_attributes
    return VisibilityRecord(
        workflow_type=header.attempt.activity_type,
        task_queue=header.attempt.task_queue,
        status=listed_status(header),
        start_time_ns=header.schedule_ns,
        execution_time_ns=header.first_due_ns,
        close_time_ns=header.close_ns or None,
        history_length=0,
        history_size_bytes=size_bytes(tx.state),
        state_transition_count=header.transition_count + 1,
        parent_workflow_id=None,
        parent_run_id=None,
        root_workflow_id="",
        root_run_id="",
        memo=b"",
        search_attributes=fields.SerializeToString(deterministic=True),
        attributes=attributes.decode_all(fields, custom),
    )


def size_bytes(state: ActivityRun) -> int:
    """About how much is kept of an execution."""
    outcome = state.outcome.ByteSize() if state.outcome is not None else 0
    return state.request.ByteSize() + len(state.header.attempt.heartbeat_details) + outcome


def list_info(run: RunKey, shown: VisibilityRecord, fields: SearchAttributes) -> ActivityExecutionListInfo:
    """One row of a list.

    Args:
        run: which execution.
        shown: its row.
        fields: its search attributes, each marked with its type.
    """
    info = ActivityExecutionListInfo(
        activity_id=run.workflow_id,
        run_id=run.run_id,
        task_queue=shown.task_queue,
        status=_STATUSES[shown.status],  # type: ignore[arg-type]  # a number
        search_attributes=fields,
    )
    info.activity_type.name = shown.workflow_type
    set_timestamp(info.schedule_time, shown.start_time_ns)
    set_timestamp(info.execution_time, shown.execution_time_ns)
    if shown.close_time_ns is not None:
        set_timestamp(info.close_time, shown.close_time_ns)
        set_duration(info.execution_duration, shown.close_time_ns - shown.start_time_ns)
        info.state_transition_count = shown.state_transition_count
        info.state_size_bytes = shown.history_size_bytes
    return info


def describe(
    state: ActivityRun, now_ns: int, fields: SearchAttributes, *, heartbeat: bool, last_failure: bool
) -> ActivityExecutionInfo:
    """An execution as temporal.api.activity.v1.ActivityExecutionInfo.

    Args:
        state: the execution.
        now_ns: the time, nanoseconds since the epoch.
        fields: its search attributes, each marked with its type.
        heartbeat, last_failure: whether these are wanted too.
    """
    header, request = state.header, state.request
    attempt = header.attempt
    info = ActivityExecutionInfo(
        activity_id=state.run.workflow_id,
        run_id=state.run.run_id,
        status=_STATUSES[listed_status(header)],  # type: ignore[arg-type]  # a number
        run_state=_run_state(header),  # type: ignore[arg-type]  # a number
        task_queue=attempt.task_queue,
        attempt=attempt.attempt,
        last_worker_identity=attempt.worker_identity,
        canceled_reason=header.cancel_reason,
        total_heartbeat_count=header.heartbeat_count,
        state_transition_count=header.transition_count,
        state_size_bytes=size_bytes(state),
        sdk_name=header.sdk_name,
        sdk_version=header.sdk_version,
        search_attributes=fields,
        links=state.all_links,
    )
    info.activity_type.name = attempt.activity_type
    options = control.options(header)
    for name in (*_DURATIONS, "priority", "start_delay"):
        if options.HasField(name):  # type: ignore[arg-type]  # rows of the table above
            getattr(info, name).CopyFrom(getattr(options, name))
    for name in ("header", "user_metadata"):
        if request.HasField(name):  # type: ignore[arg-type]
            getattr(info, name).CopyFrom(getattr(request, name))
    _add_times(info, header, now_ns)
    if heartbeat and attempt.heartbeat_details:
        info.heartbeat_details.ParseFromString(attempt.heartbeat_details)
    failure = _last_failure(state) if last_failure else None
    if failure is not None:
        info.last_failure.CopyFrom(failure)
    return info


def _run_state(header: ActivityHeader) -> int:
    if not header.is_open:
        return 0
    name = control.state_name(header)
    if name == "ResetRequested":
        name = "PauseRequested" if header.reset_keeps_paused else "Started"
    return _RUN_STATES[name]


def _add_times(info: ActivityExecutionInfo, header: ActivityHeader, now_ns: int) -> None:
    attempt = header.attempt
    set_timestamp(info.schedule_time, header.schedule_ns)
    set_timestamp(info.execution_time, header.first_due_ns)
    for target, time_ns in (
        ("expiration_time", attempt.expiration_ns),
        ("close_time", header.close_ns),
        ("last_heartbeat_time", attempt.last_heartbeat_ns),
        ("last_started_time", header.last_started_ns),
        ("last_attempt_complete_time", attempt.last_attempt_complete_ns),
    ):
        if time_ns:
            set_timestamp(getattr(info, target), time_ns)
    if header.close_ns:
        set_duration(info.execution_duration, header.close_ns - header.schedule_ns)
    if control.state_name(header) == "Scheduled" and attempt.scheduled_ns > now_ns:
        set_timestamp(info.next_attempt_schedule_time, attempt.scheduled_ns)
        if header.retry_interval_ns:
            set_duration(info.current_retry_interval, header.retry_interval_ns)


def _last_failure(state: ActivityRun) -> Failure | None:
    if state.header.is_outcome_last_failure and state.outcome is not None:
        return state.outcome.failure
    if state.header.attempt.last_failure:
        return Failure.FromString(state.header.attempt.last_failure)
    return None
