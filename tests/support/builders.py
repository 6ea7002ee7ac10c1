"""Short ways to write wire messages: payloads, durations, failures and one function per workflow command.

Only plain construction lives here: nothing that talks to a server. A value left out stays unset on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.proto import Duration, command, common, enums, failure, sdk, taskqueue

CommandType = enums.CommandType


def duration(seconds: float | None) -> Duration | None:
    """The wire form of a length of time; None (field left unset) stays None."""
    if seconds is None:
        return None
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1_000_000_000))


def payload(text: str) -> common.Payload:
    """One payload holding a JSON string, as every SDK's default converter would write it."""
    return common.Payload(metadata={"encoding": b"json/plain"}, data=f'"{text}"'.encode())


def payloads(*texts: str) -> common.Payloads:
    """Several JSON string payloads."""
    return common.Payloads(payloads=[payload(text) for text in texts])


def payload_map(values: Mapping[str, str]) -> dict[str, common.Payload]:
    """A map of names to JSON string payloads (memo fields, headers, marker details)."""
    return {name: payload(text) for name, text in values.items()}


def keyword(text: str) -> common.Payload:
    """A search attribute value of type Keyword."""
    return common.Payload(metadata={"encoding": b"json/plain", "type": b"Keyword"}, data=f'"{text}"'.encode())


def header(values: Mapping[str, str]) -> common.Header:
    """A header of JSON string payloads."""
    return common.Header(fields=payload_map(values))


def memo(values: Mapping[str, str]) -> common.Memo:
    """A memo of JSON string payloads."""
    return common.Memo(fields=payload_map(values))


def user_metadata(summary: str, details: str) -> sdk.UserMetadata:
    """The summary and details a user attaches to a start, a timer or an activity."""
    return sdk.UserMetadata(summary=payload(summary), details=payload(details))


def queue(name: str) -> taskqueue.TaskQueue:
    """A normal task queue."""
    return taskqueue.TaskQueue(name=name, kind=enums.TaskQueueKind.TASK_QUEUE_KIND_NORMAL)


def sticky_queue(name: str, normal_name: str) -> taskqueue.TaskQueue:
    """A worker's own sticky task queue beside the normal queue it belongs to."""
    return taskqueue.TaskQueue(
        name=name, kind=enums.TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=normal_name
    )


def sticky(
    name: str, normal_name: str, schedule_to_start_s: float = 10
) -> taskqueue.StickyExecutionAttributes:
    """What a worker sends to ask that the run's next workflow tasks come to its sticky queue."""
    return taskqueue.StickyExecutionAttributes(
        worker_task_queue=sticky_queue(name, normal_name),
        schedule_to_start_timeout=duration(schedule_to_start_s),
    )


def retry_policy(
    *,
    initial_s: float | None = None,
    coefficient: float = 0,
    maximum_s: float | None = None,
    attempts: int = 0,
    non_retryable: tuple[str, ...] = (),
) -> common.RetryPolicy:
    """A retry policy; everything left out stays unset for the server to fill in."""
    return common.RetryPolicy(
        initial_interval=duration(initial_s),
        backoff_coefficient=coefficient,
        maximum_interval=duration(maximum_s),
        maximum_attempts=attempts,
        non_retryable_error_types=non_retryable,
    )


def application_failure(
    message: str = "boom",
    *,
    type: str = "Boom",
    non_retryable: bool = False,
    next_retry_delay_s: float | None = None,
) -> failure.Failure:
    """The failure an activity or workflow raises on purpose."""
    return failure.Failure(
        message=message,
        source="test",
        stack_trace="line 1",
        application_failure_info=failure.ApplicationFailureInfo(
            type=type, non_retryable=non_retryable, next_retry_delay=duration(next_retry_delay_s)
        ),
    )


def canceled_failure(message: str = "canceled") -> failure.Failure:
    """The failure a cancelled workflow or activity ends with."""
    return failure.Failure(message=message, canceled_failure_info=failure.CanceledFailureInfo())


def schedule_activity(
    activity_id: str,
    task_queue: str,
    *,
    type: str = "work",
    input: common.Payloads | None = None,
    start_to_close_s: float | None = 10,
    schedule_to_close_s: float | None = None,
    schedule_to_start_s: float | None = None,
    heartbeat_s: float | None = None,
    retry: common.RetryPolicy | None = None,
    header: common.Header | None = None,
    eager: bool = False,
    priority: common.Priority | None = None,
    user_metadata: sdk.UserMetadata | None = None,
) -> command.Command:
    """SCHEDULE_ACTIVITY_TASK; times in seconds, None leaves a field unset."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
        user_metadata=user_metadata,
        schedule_activity_task_command_attributes=command.ScheduleActivityTaskCommandAttributes(
            activity_id=activity_id,
            activity_type=common.ActivityType(name=type),
            task_queue=taskqueue.TaskQueue(name=task_queue),
            header=header,
            input=input,
            schedule_to_close_timeout=duration(schedule_to_close_s),
            schedule_to_start_timeout=duration(schedule_to_start_s),
            start_to_close_timeout=duration(start_to_close_s),
            heartbeat_timeout=duration(heartbeat_s),
            retry_policy=retry,
            request_eager_execution=eager,
            priority=priority,
        ),
    )


def cancel_activity(scheduled_event_id: int) -> command.Command:
    """REQUEST_CANCEL_ACTIVITY_TASK."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK,
        request_cancel_activity_task_command_attributes=command.RequestCancelActivityTaskCommandAttributes(
            scheduled_event_id=scheduled_event_id
        ),
    )


def start_timer(
    timer_id: str, seconds: float | None, *, user_metadata: sdk.UserMetadata | None = None
) -> command.Command:
    """START_TIMER; None leaves the duration unset."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_START_TIMER,
        user_metadata=user_metadata,
        start_timer_command_attributes=command.StartTimerCommandAttributes(
            timer_id=timer_id, start_to_fire_timeout=duration(seconds)
        ),
    )


def cancel_timer(timer_id: str) -> command.Command:
    """CANCEL_TIMER."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_CANCEL_TIMER,
        cancel_timer_command_attributes=command.CancelTimerCommandAttributes(timer_id=timer_id),
    )


def complete_workflow(result: common.Payloads | None = None) -> command.Command:
    """COMPLETE_WORKFLOW_EXECUTION."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
        complete_workflow_execution_command_attributes=command.CompleteWorkflowExecutionCommandAttributes(
            result=result
        ),
    )


def fail_workflow(cause: failure.Failure | None) -> command.Command:
    """FAIL_WORKFLOW_EXECUTION; None leaves the (required) failure out."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
        fail_workflow_execution_command_attributes=command.FailWorkflowExecutionCommandAttributes(
            failure=cause
        ),
    )


def cancel_workflow(details: common.Payloads | None = None) -> command.Command:
    """CANCEL_WORKFLOW_EXECUTION."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION,
        cancel_workflow_execution_command_attributes=command.CancelWorkflowExecutionCommandAttributes(
            details=details
        ),
    )


def record_marker(
    name: str,
    details: Mapping[str, common.Payloads] | None = None,
    *,
    header: common.Header | None = None,
    cause: failure.Failure | None = None,
) -> command.Command:
    """RECORD_MARKER."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_RECORD_MARKER,
        record_marker_command_attributes=command.RecordMarkerCommandAttributes(
            marker_name=name, details=details, header=header, failure=cause
        ),
    )


def upsert_search_attributes(values: Mapping[str, common.Payload]) -> command.Command:
    """UPSERT_WORKFLOW_SEARCH_ATTRIBUTES."""
    attributes = command.UpsertWorkflowSearchAttributesCommandAttributes(
        search_attributes=common.SearchAttributes(indexed_fields=values)
    )
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        upsert_workflow_search_attributes_command_attributes=attributes,
    )


def modify_memo(values: Mapping[str, common.Payload]) -> command.Command:
    """MODIFY_WORKFLOW_PROPERTIES."""
    return command.Command(
        command_type=CommandType.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES,
        modify_workflow_properties_command_attributes=command.ModifyWorkflowPropertiesCommandAttributes(
            upserted_memo=common.Memo(fields=values)
        ),
    )


def any_command(name: str, **fields: Any) -> command.Command:
    """A command by the name of its type in lower case, such as continue_as_new_workflow_execution."""
    made = command.Command(command_type=CommandType.Value(f"COMMAND_TYPE_{name.upper()}"))
    field_name = f"{name}_command_attributes"
    attributes = getattr(made, field_name)
    attributes.SetInParent()
    attributes.MergeFrom(type(attributes)(**fields))
    return made


def continue_as_new(**fields: Any) -> command.Command:
    """CONTINUE_AS_NEW_WORKFLOW_EXECUTION, with fields of its attributes."""
    return any_command("continue_as_new_workflow_execution", **fields)


def start_child(workflow_id: str, **fields: Any) -> command.Command:
    """START_CHILD_WORKFLOW_EXECUTION of the type `child`, with more fields of its attributes."""
    values = {"workflow_type": common.WorkflowType(name="child")} | fields
    return any_command("start_child_workflow_execution", workflow_id=workflow_id, **values)


def signal_external(workflow_id: str, run_id: str = "", **fields: Any) -> command.Command:
    """SIGNAL_EXTERNAL_WORKFLOW_EXECUTION with the signal `go`, with more fields of its attributes."""
    values = {
        "signal_name": "go",
        "execution": common.WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
    }
    return any_command("signal_external_workflow_execution", **values | fields)


def cancel_external(workflow_id: str, run_id: str = "", **fields: Any) -> command.Command:
    """REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION, with more fields of its attributes."""
    name = "request_cancel_external_workflow_execution"
    return any_command(name, workflow_id=workflow_id, run_id=run_id, **fields)


def schedule_operation(endpoint: str = "endpoint", **fields: Any) -> command.Command:
    """SCHEDULE_NEXUS_OPERATION of an operation of a service, with more fields of its attributes."""
    values: dict[str, Any] = {"service": "service", "operation": "operation"}
    return any_command("schedule_nexus_operation", endpoint=endpoint, **values | fields)


def cancel_operation(scheduled_event_id: int) -> command.Command:
    """REQUEST_CANCEL_NEXUS_OPERATION."""
    return any_command("request_cancel_nexus_operation", scheduled_event_id=scheduled_event_id)


def bare_command(command_type: enums.CommandType.ValueType) -> command.Command:
    """A command of a kind with its attributes missing, as a broken worker might send it."""
    return command.Command(command_type=command_type)
