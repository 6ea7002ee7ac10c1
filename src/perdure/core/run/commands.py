"""From a worker's commands to the primitives: one table of what is checked and done for each command type.

A bad command fails the whole workflow task (`TaskFailure`), an oversized one terminates the run; nothing of a
failed task's commands is applied. Commands whose primitives are not here yet fail the task with a message that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perdure.api.command.v1 import Command
from perdure.api.common.v1 import Memo, Payload
from perdure.api.enums.v1 import CommandType, WorkflowTaskFailedCause
from perdure.api.protocol.v1 import Message as ProtocolMessage
from perdure.core.deployment.routes import NO_ROUTES, Routes
from perdure.core.errors import InvalidArgumentError, ServiceError
from perdure.core.invariant import present
from perdure.core.run import (
    activity,
    attributes,
    chain,
    child,
    cron,
    external,
    lifecycle,
    marker,
    nexus_operation,
    priorities,
    properties,
    timer,
)
from perdure.core.run.limits import Limits
from perdure.core.run.nexus_attempts import SYSTEM_ENDPOINT
from perdure.core.run.protos import cap_duration
from perdure.core.run.transition import Transition
from perdure.core.run.update import UpdateAnswers, check_protocol
from perdure.core.visibility.attributes import AttributeType

_CAUSE_PREFIX = "WORKFLOW_TASK_FAILED_CAUSE_"


def cause_number(name: str) -> WorkflowTaskFailedCause.ValueType:
    """The number of a WorkflowTaskFailedCause by its name without prefix."""
    return WorkflowTaskFailedCause.Value(_CAUSE_PREFIX + name)


def cause_label(cause: WorkflowTaskFailedCause.ValueType) -> str:
    """A cause's name as messages show it, such as BadStartTimerAttributes."""
    words = WorkflowTaskFailedCause.Name(cause).removeprefix(_CAUSE_PREFIX).split("_")
    return "".join(word.capitalize() for word in words)


class TaskFailure(Exception):
    """A command that fails its workflow task.

    Args:
        cause: a WorkflowTaskFailedCause number.
        message: what is wrong; empty for causes that say it all.
        terminates: the run is terminated too.
    """

    def __init__(
        self, cause: WorkflowTaskFailedCause.ValueType, message: str = "", *, terminates: bool = False
    ) -> None:
        self.cause = cause
        self.terminates = terminates
        label = cause_label(cause)
        super().__init__(f"{label}: {message}" if message else label)


EndpointId = Callable[[str], str]


def no_endpoint(name: str) -> str:
    """The id of any Nexus endpoint where there are none."""
    return ""


@dataclass(slots=True)
class CommandContext:
    """What the commands of one completion share.

    Attributes:
        tx: the transition, in which the workflow task has just completed.
        completed_event_id: the WorkflowTaskCompleted event.
        identity: the worker's.
        limits: what sizes and counts are held to.
        custom: the namespace's own search attributes.
        must_handle_events: events came that the worker has not seen: the run may not close now.
        eager: scheduled event ids of activities that the worker wants to run itself at once.
        new_children: workflow ids of children that these commands start.
        cancelled_unstarted: an activity was cancelled before it started; the workflow must hear of it.
        endpoint_id: of the Nexus endpoint of a name; empty when there is none.
        routes: of worker versions, in the run's namespace.
        messages: the worker's messages that no command has placed yet, by id.
        updates: applies them; None when the run has no updates and there are no messages.
    """

    tx: Transition
    completed_event_id: int
    identity: str
    limits: Limits
    custom: Mapping[str, AttributeType]
    must_handle_events: bool
    eager: list[int] = field(default_factory=list)
    new_children: set[str] = field(default_factory=set)
    cancelled_unstarted: bool = False
    endpoint_id: EndpointId = no_endpoint
    routes: Routes = NO_ROUTES
    messages: dict[str, ProtocolMessage] = field(default_factory=dict)
    updates: UpdateAnswers | None = None


@dataclass(frozen=True, slots=True)
class Handler:
    """How one command type is handled.

    Attributes:
        label: the command's name in messages.
        attributes: the field of Command that holds its attributes.
        bad_cause: the cause when the attributes are bad.
        apply: does it; raises InvalidArgumentError (becomes `bad_cause`) or TaskFailure.
        closes: the command closes the run.
    """

    label: str
    attributes: str
    bad_cause: WorkflowTaskFailedCause.ValueType
    apply: Callable[[CommandContext, Any], None]
    closes: bool = False


def check_sequence(commands: Iterable[Command]) -> None:
    """A closing command must be the last one.

    Raises:
        InvalidArgumentError: it is not, or a command is of an unknown type.
    """
    commands = list(commands)
    closing: Handler | None = None
    for command in commands:
        handler = TABLE.get(command.command_type)
        if closing is not None:
            names = ", ".join(
                TABLE[c.command_type].label if c.command_type in TABLE else "?" for c in commands
            )
            raise InvalidArgumentError(
                f"invalid command sequence: [{names}], command {closing.label} must be the last command."
            )
        if handler is None:
            raise InvalidArgumentError(f"unknown command type: {command.command_type or 'Unspecified'}")
        if handler.closes:
            closing = handler


def apply_all(context: CommandContext, commands: Iterable[Command]) -> None:
    """Applies the commands in order.

    Raises:
        TaskFailure: one was bad; the transition must be dropped.
        InvalidArgumentError: the sequence is wrong.
    """
    commands = list(commands)
    check_sequence(commands)
    for command in commands:
        handler = TABLE[command.command_type]
        if handler.closes and context.must_handle_events:
            raise TaskFailure(cause_number("UNHANDLED_COMMAND"))
        if not command.HasField(handler.attributes):  # type: ignore[arg-type]
            raise TaskFailure(
                handler.bad_cause, f"{handler.label}CommandAttributes is not set on {handler.label}Command."
            )
        before = len(context.tx.events)
        try:
            handler.apply(context, getattr(command, handler.attributes))
        except InvalidArgumentError as error:
            raise TaskFailure(handler.bad_cause, str(error)) from error
        if len(context.tx.events) > before:
            event = context.tx.events[before]
            if command.HasField("user_metadata"):
                event.user_metadata.CopyFrom(command.user_metadata)
            event.event_group_markers.extend(command.event_group_markers)
    # Rejections have no command. What should have had one and has none counts as placed at the end.
    for message_id in list(context.messages):
        _apply_message(context, context.messages.pop(message_id))


def _apply_message(context: CommandContext, message: ProtocolMessage) -> None:
    _check_size(
        message.body.ByteSize(),
        context.limits.blob_bytes,
        "BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE",
        f"Message type {message.body.TypeName()} exceeds size limit.",
    )
    updates = present(context.updates, "messages without what applies them", run=context.tx.state.run)
    try:
        check_protocol(message)
        updates.apply(message)
    except ServiceError as error:
        raise TaskFailure(cause_number("BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE"), str(error)) from error


# --- checks ---


def _check_size(size: int, limit: int, cause: str, message: str) -> None:
    if size > limit:
        raise TaskFailure(cause_number(cause), message, terminates=True)


def _check_id(value: str, name: str, command: str, limits: Limits) -> None:
    if not value:
        raise InvalidArgumentError(f"{name} is not set on {command}Command.")
    length = len(value.encode())
    if length > limits.id_bytes:
        raise InvalidArgumentError(
            f"{name} on {command}Command exceeds length limit. {name}={value} Length={length} Limit={limits.id_bytes}"
        )


def _map_size(fields: Mapping[str, Payload]) -> int:
    return sum(len(key.encode()) + len(payload.data) for key, payload in fields.items())


# --- the handlers ---


def _schedule_activity(context: CommandContext, command: Any) -> None:
    limits = context.limits
    activity.normalize(command, context.tx.header, limits)
    _check_size(
        command.input.ByteSize(),
        limits.blob_bytes,
        "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES",
        "ScheduleActivityTaskCommandAttributes.Input exceeds size limit.",
    )
    if len(context.tx.activities) >= limits.pending_activities:
        raise TaskFailure(
            cause_number("PENDING_ACTIVITIES_LIMIT_EXCEEDED"),
            f"the number of pending activities, {len(context.tx.activities)}, has reached the per-workflow limit of "
            f"{limits.pending_activities}",
        )
    try:
        event = activity.schedule(context.tx, command, context.completed_event_id)
    except InvalidArgumentError as error:
        raise TaskFailure(cause_number("SCHEDULE_ACTIVITY_DUPLICATE_ID"), str(error)) from error
    if command.request_eager_execution:
        context.eager.append(event.event_id)


def _request_cancel_activity(context: CommandContext, command: Any) -> None:
    if command.scheduled_event_id <= 0:
        raise InvalidArgumentError("ScheduledEventId is not set on RequestCancelActivityTaskCommand.")
    pending = context.tx.activities.get(command.scheduled_event_id)
    activity.request_cancel(
        context.tx, command.scheduled_event_id, context.completed_event_id, context.identity
    )
    if pending is not None and command.scheduled_event_id not in context.tx.activities:
        context.cancelled_unstarted = True


def _start_timer(context: CommandContext, command: Any) -> None:
    _check_id(command.timer_id, "TimerId", "StartTimer", context.limits)
    try:
        cap_duration(command.start_to_fire_timeout, "")
    except InvalidArgumentError as error:
        reason = str(error).removeprefix("invalid : ")
        raise InvalidArgumentError(
            f"An invalid StartToFireTimeout is set on StartTimerCommand: {reason}. TimerId={command.timer_id}"
        ) from error
    try:
        timer.start(context.tx, command, context.completed_event_id)
    except InvalidArgumentError as error:
        raise TaskFailure(cause_number("START_TIMER_DUPLICATE_ID"), str(error)) from error


def _cancel_timer(context: CommandContext, command: Any) -> None:
    _check_id(command.timer_id, "TimerId", "CancelTimer", context.limits)
    timer.cancel(context.tx, command.timer_id, context.completed_event_id, context.identity)
    # A TimerFired that waited in the buffer may just have been taken back: then nothing keeps the run from closing.
    context.must_handle_events = context.must_handle_events and context.tx.has_buffered()


def _record_marker(context: CommandContext, command: Any) -> None:
    _check_id(command.marker_name, "MarkerName", "RecordMarker", context.limits)
    size = sum(len(key.encode()) + payloads.ByteSize() for key, payloads in command.details.items())
    _check_size(
        size,
        context.limits.blob_bytes,
        "BAD_RECORD_MARKER_ATTRIBUTES",
        "RecordMarkerCommandAttributes.Details exceeds size limit.",
    )
    marker.record(context.tx, command, context.completed_event_id)


def _upsert_search_attributes(context: CommandContext, command: Any) -> None:
    label = "UpsertWorkflowSearchAttributesCommand"
    tx = context.tx
    if not command.HasField("search_attributes"):
        raise InvalidArgumentError(f"SearchAttributes is not set on {label}.")
    update = command.search_attributes
    if not update.indexed_fields:
        raise InvalidArgumentError(f"IndexedFields is not set on {label}.")
    attributes.validate(update, context.custom, tx.header.namespace, context.limits)
    attributes.mark_types(update, context.custom)
    _check_size(
        _map_size(update.indexed_fields),
        context.limits.blob_bytes,
        "BAD_SEARCH_ATTRIBUTES",
        "UpsertWorkflowSearchAttributesCommandAttributes exceeds size limit.",
    )
    properties.upsert_search_attributes(tx, update, context.completed_event_id)
    try:
        attributes.validate_size(properties.search_attributes(tx), context.limits)
    except InvalidArgumentError as error:
        raise TaskFailure(cause_number("BAD_SEARCH_ATTRIBUTES"), str(error), terminates=True) from error


def _modify_properties(context: CommandContext, command: Any) -> None:
    label = "ModifyWorkflowPropertiesCommand"
    if not command.HasField("upserted_memo"):
        raise InvalidArgumentError(f"UpsertedMemo is not set on {label}.")
    update: Memo = command.upserted_memo
    if not update.fields:
        raise InvalidArgumentError(f"UpsertedMemo.Fields is not set on {label}.")
    cause = "BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES"
    message = "ModifyWorkflowPropertiesCommandAttributes exceeds size limit."
    _check_size(_map_size(update.fields), context.limits.blob_bytes, cause, message)
    properties.upsert_memo(context.tx, update, context.completed_event_id)
    size = _map_size(properties.memo(context.tx).fields)
    message = "ModifyWorkflowPropertiesCommandAttributes. Memo exceeds size limit."
    _check_size(size, context.limits.memo_bytes, cause, message)


def _protocol_message(context: CommandContext, command: Any) -> None:
    if not command.message_id:
        raise InvalidArgumentError("MessageID is not set on ProtocolMessageCommand.")
    message = context.messages.pop(command.message_id, None)
    if message is None:
        raise InvalidArgumentError(
            f"ProtocolMessageCommand referenced absent message ID {command.message_id}"
        )
    _apply_message(context, message)


def _complete(context: CommandContext, command: Any) -> None:
    _check_size(
        command.result.ByteSize(),
        context.limits.blob_bytes,
        "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES",
        "CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit.",
    )
    chain.complete(context.tx, command, context.completed_event_id, context.limits)


def _fail(context: CommandContext, command: Any) -> None:
    if not command.HasField("failure"):
        raise InvalidArgumentError("Failure is not set on FailWorkflowExecutionCommand.")
    _check_size(
        command.failure.ByteSize(),
        context.limits.blob_bytes,
        "BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES",
        "FailWorkflowExecutionCommandAttributes.Failure exceeds size limit.",
    )
    chain.fail(context.tx, command, context.completed_event_id, context.limits)


def _cancel(context: CommandContext, command: Any) -> None:
    lifecycle.cancel(context.tx, command, context.completed_event_id)


def _continue_as_new(context: CommandContext, command: Any) -> None:
    tx, limits = context.tx, context.limits
    cause = "BAD_CONTINUE_AS_NEW_ATTRIBUTES"
    chain.normalize(command, tx.header, limits)
    cron.validate(command.cron_schedule, tx.now_ns)
    try:
        attributes.validate(command.search_attributes, context.custom, tx.header.namespace, limits)
    except InvalidArgumentError as error:
        raise TaskFailure(cause_number("BAD_SEARCH_ATTRIBUTES"), str(error)) from error
    attributes.mark_types(command.search_attributes, context.custom)
    message = "ContinueAsNewWorkflowExecutionCommandAttributes. {} exceeds size limit."
    _check_size(command.input.ByteSize(), limits.blob_bytes, cause, message.format("Input"))
    _check_size(_map_size(command.memo.fields), limits.memo_bytes, cause, message.format("Memo"))
    try:
        attributes.validate_size(command.search_attributes, limits)
    except InvalidArgumentError as error:
        raise TaskFailure(cause_number(cause), str(error), terminates=True) from error
    chain.continue_as_new(tx, command, context.completed_event_id, limits, context.routes)


def _start_child(context: CommandContext, command: Any) -> None:
    tx, limits = context.tx, context.limits
    cause = "BAD_START_CHILD_EXECUTION_ATTRIBUTES"
    child.normalize(command, tx, limits)
    try:
        attributes.validate(command.search_attributes, context.custom, tx.header.namespace, limits)
    except InvalidArgumentError as error:
        raise TaskFailure(cause_number("BAD_SEARCH_ATTRIBUTES"), str(error)) from error
    attributes.mark_types(command.search_attributes, context.custom)
    priorities.check(command.priority)
    label = "StartChildWorkflowExecutionCommandAttributes."
    _check_size(command.input.ByteSize(), limits.blob_bytes, cause, f"{label} Input exceeds size limit.")
    _check_size(_map_size(command.memo.fields), limits.memo_bytes, cause, f"{label}Memo exceeds size limit.")
    try:
        attributes.validate_size(command.search_attributes, limits)
    except InvalidArgumentError as error:
        raise TaskFailure(cause_number(cause), str(error), terminates=True) from error
    _check_count(
        len(tx.children), limits.pending_children, "PENDING_CHILD_WORKFLOWS", "child workflow executions"
    )
    child.initiate(tx, command, context.completed_event_id)
    context.new_children.add(command.workflow_id)


def _signal_external(context: CommandContext, command: Any) -> None:
    tx, limits = context.tx, context.limits
    external.check_signal(command, tx.header.namespace, limits)
    pending = sum(item.kind == external.SIGNAL for item in tx.externals)
    _check_count(pending, limits.pending_external_signals, "PENDING_SIGNALS", "signals to external workflows")
    _check_size(
        command.input.ByteSize(),
        limits.blob_bytes,
        "BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES",
        "SignalExternalWorkflowExecutionCommandAttributes.Input exceeds size limit.",
    )
    external.initiate_signal(tx, command, context.completed_event_id)


def _cancel_external(context: CommandContext, command: Any) -> None:
    tx, limits = context.tx, context.limits
    external.check_cancel(command, tx.header.namespace, context.new_children, limits)
    pending = sum(item.kind == external.CANCEL for item in tx.externals)
    what = "requests to cancel external workflows"
    _check_count(pending, limits.pending_external_cancels, "PENDING_REQUEST_CANCEL", what)
    external.initiate_cancel(tx, command, context.completed_event_id)


def _check_count(pending: int, limit: int, cause: str, what: str) -> None:
    if pending >= limit:
        raise TaskFailure(
            cause_number(f"{cause}_LIMIT_EXCEEDED"),
            f"the number of pending {what}, {pending}, has reached the per-workflow limit of {limit}",
        )


def _schedule_nexus_operation(context: CommandContext, command: Any) -> None:
    tx, limits = context.tx, context.limits
    endpoint_id = ""
    if command.endpoint == SYSTEM_ENDPOINT:
        nexus_operation.check_system(command, tx.header.namespace)
    elif not (endpoint_id := context.endpoint_id(command.endpoint)):
        raise InvalidArgumentError(f'endpoint "{command.endpoint}" not found')
    nexus_operation.normalize(command, tx.header.run_timeout_ns, limits)
    _check_size(
        command.input.ByteSize(),
        limits.blob_bytes,
        "BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES",
        "ScheduleNexusOperationCommandAttributes.Input exceeds size limit",
    )
    if len(tx.nexus_operations) >= limits.pending_nexus_operations:
        raise TaskFailure(
            cause_number("PENDING_NEXUS_OPERATIONS_LIMIT_EXCEEDED"),
            f"workflow has reached the pending nexus operation limit of {limits.pending_nexus_operations} "
            "for this namespace",
        )
    nexus_operation.schedule(tx, command, endpoint_id, context.completed_event_id)


def _cancel_nexus_operation(context: CommandContext, command: Any) -> None:
    nexus_operation.request_cancel(context.tx, command.scheduled_event_id, context.completed_event_id)


def _row(
    command_type: str,
    label: str,
    bad_cause: str,
    apply: Callable[[CommandContext, Any], None],
    *,
    closes: bool = False,
) -> tuple[int, Handler]:
    field_name = command_type.lower() + "_command_attributes"
    number = CommandType.Value(f"COMMAND_TYPE_{command_type}")
    return number, Handler(label, field_name, cause_number(bad_cause), apply, closes)


TABLE: dict[int, Handler] = dict(
    (
        _row(
            "SCHEDULE_ACTIVITY_TASK",
            "ScheduleActivityTask",
            "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES",
            _schedule_activity,
        ),
        _row(
            "REQUEST_CANCEL_ACTIVITY_TASK",
            "RequestCancelActivityTask",
            "BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES",
            _request_cancel_activity,
        ),
        _row("START_TIMER", "StartTimer", "BAD_START_TIMER_ATTRIBUTES", _start_timer),
        _row("CANCEL_TIMER", "CancelTimer", "BAD_CANCEL_TIMER_ATTRIBUTES", _cancel_timer),
        _row("RECORD_MARKER", "RecordMarker", "BAD_RECORD_MARKER_ATTRIBUTES", _record_marker),
        _row(
            "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
            "UpsertWorkflowSearchAttributes",
            "BAD_SEARCH_ATTRIBUTES",
            _upsert_search_attributes,
        ),
        _row(
            "MODIFY_WORKFLOW_PROPERTIES",
            "ModifyWorkflowProperties",
            "BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES",
            _modify_properties,
        ),
        _row(
            "COMPLETE_WORKFLOW_EXECUTION",
            "CompleteWorkflowExecution",
            "BAD_COMPLETE_WORKFLOW_EXECUTION_ATTRIBUTES",
            _complete,
            closes=True,
        ),
        _row(
            "FAIL_WORKFLOW_EXECUTION",
            "FailWorkflowExecution",
            "BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES",
            _fail,
            closes=True,
        ),
        _row(
            "CANCEL_WORKFLOW_EXECUTION",
            "CancelWorkflowExecution",
            "BAD_CANCEL_WORKFLOW_EXECUTION_ATTRIBUTES",
            _cancel,
            closes=True,
        ),
        _row(
            "CONTINUE_AS_NEW_WORKFLOW_EXECUTION",
            "ContinueAsNewWorkflowExecution",
            "BAD_CONTINUE_AS_NEW_ATTRIBUTES",
            _continue_as_new,
            closes=True,
        ),
        _row(
            "START_CHILD_WORKFLOW_EXECUTION",
            "StartChildWorkflowExecution",
            "BAD_START_CHILD_EXECUTION_ATTRIBUTES",
            _start_child,
        ),
        _row(
            "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION",
            "SignalExternalWorkflowExecution",
            "BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES",
            _signal_external,
        ),
        _row(
            "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION",
            "RequestCancelExternalWorkflowExecution",
            "BAD_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_ATTRIBUTES",
            _cancel_external,
        ),
        _row(
            "PROTOCOL_MESSAGE",
            "ProtocolMessage",
            "BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE",
            _protocol_message,
        ),
        _row(
            "SCHEDULE_NEXUS_OPERATION",
            "ScheduleNexusOperation",
            "BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES",
            _schedule_nexus_operation,
        ),
        _row(
            "REQUEST_CANCEL_NEXUS_OPERATION",
            "RequestCancelNexusOperation",
            "BAD_REQUEST_CANCEL_NEXUS_OPERATION_ATTRIBUTES",
            _cancel_nexus_operation,
        ),
    )
)
