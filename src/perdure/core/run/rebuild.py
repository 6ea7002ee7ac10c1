"""A run's state from its events: what a reset begins with, a copy of another run's history up to some event.

One function per event type that leaves something behind; the others leave nothing. What events do not say (attempts of
activities, heartbeats, stickiness) begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from perdure.core.run import (
    activity,
    callback,
    lifecycle,
    nexus_attempts,
    nexus_operation,
    options,
    properties,
    versioning,
)
from perdure.core.run.protos import duration_ns
from perdure.core.run.state import Child, External, Timer, Update
from perdure.core.run.transition import Transition

Handler = Callable[[Transition, HistoryEvent, Any], None]


def rebuild(tx: Transition, events: Iterable[HistoryEvent], namespace: str, retention_ns: int) -> None:
    """Copies events into a new run and works out the state that they lead to.

    Args:
        tx: of the new run, empty.
        events: from the first one on, without a gap; they are copied.
        namespace, retention_ns: of the new run.
    """
    for given in events:
        event = HistoryEvent()
        event.CopyFrom(given)
        tx.copy_event(event)
        handler = HANDLERS.get(event.event_type)
        if handler is not None:
            handler(tx, event, getattr(event, str(event.WhichOneof("attributes"))))
    header = tx.header
    header.namespace, header.retention_ns = namespace, retention_ns
    header.start_ns = header.execution_ns = tx.now_ns
    if header.execution_timeout_ns:
        header.execution_expiration_ns = tx.now_ns + header.execution_timeout_ns
    header.run_expiration_ns = header.execution_expiration_ns
    if header.run_timeout_ns:
        expiration_ns = tx.now_ns + header.run_timeout_ns
        header.run_expiration_ns = min(expiration_ns, header.execution_expiration_ns or expiration_ns)
    tx.visibility_changed = True


# --- the run ---


def _started(
    tx: Transition, event: HistoryEvent, attributes: WorkflowExecutionStartedEventAttributes
) -> None:
    header, run = tx.header, tx.state.run
    header.workflow_type = attributes.workflow_type.name
    header.task_queue = attributes.task_queue.name
    header.first_run_id = attributes.first_execution_run_id
    header.original_run_id = attributes.original_execution_run_id
    header.attempt = attributes.attempt
    header.cron_schedule = attributes.cron_schedule
    header.execution_timeout_ns = duration_ns(attributes.workflow_execution_timeout)
    header.run_timeout_ns = duration_ns(attributes.workflow_run_timeout)
    header.default_task_timeout_ns = duration_ns(attributes.workflow_task_timeout)
    header.root_workflow_id, header.root_run_id = run.workflow_id, run.run_id
    if attributes.HasField("parent_workflow_execution"):
        parent, root = attributes.parent_workflow_execution, attributes.root_workflow_execution
        header.parent_workflow_id, header.parent_run_id = parent.workflow_id, parent.run_id
        header.parent_initiated_event_id = attributes.parent_initiated_event_id
        header.root_workflow_id, header.root_run_id = root.workflow_id, root.run_id
    for name in ("priority", "retry_policy"):
        if attributes.HasField(name):
            setattr(header, name, getattr(attributes, name).SerializeToString())
    if event.HasField("user_metadata"):
        header.user_metadata = event.user_metadata.SerializeToString()
    lifecycle.put_properties(tx, event)
    versioning.started(tx, attributes)
    callback.register(tx, "", attributes.completion_callbacks)


def _signaled(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.header.signal_count += 1
    if attributes.request_id and not attributes.HasField("external_workflow_execution"):
        tx.signal_request_ids.put(attributes.request_id, 0)


def _cancel_requested(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.header.cancel_requested = True


def _attributes_upserted(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    merged = properties.search_attributes(tx)
    properties.merge(merged.indexed_fields, attributes.search_attributes.indexed_fields)
    tx.blobs.put(properties.SEARCH_ATTRIBUTES, merged.SerializeToString(deterministic=True))


def _memo_modified(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    merged = properties.memo(tx)
    properties.merge(merged.fields, attributes.upserted_memo.fields)
    tx.blobs.put(properties.MEMO, merged.SerializeToString(deterministic=True))


def _options_updated(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    for attached in (attributes, *attributes.workflow_update_options):
        if attached.attached_request_id:
            tx.attached_requests.put(attached.attached_request_id, event.event_id)
    callback.register(tx, attributes.attached_request_id, attributes.attached_completion_callbacks)
    options.take(tx, attributes)


# --- workflow tasks ---


def _task_scheduled(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    header = tx.header
    header.task_scheduled_event_id = event.event_id
    header.task_scheduled_ns = header.task_first_scheduled_ns = event.event_time.ToNanoseconds()
    header.task_timeout_ns = duration_ns(attributes.start_to_close_timeout)
    header.task_stamp += 1


def _task_started(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.header.task_started_event_id = event.event_id
    tx.header.task_started_ns = event.event_time.ToNanoseconds()


def _task_completed(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.header.last_completed_task_started_event_id = attributes.started_event_id
    versioning.completed(tx, attributes)
    _task_ended(tx, event, attributes)


def _task_ended(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    header = tx.header
    header.task_scheduled_event_id = header.task_started_event_id = 0
    header.task_scheduled_ns = header.task_started_ns = 0


# --- activities and timers ---


def _activity_scheduled(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.activities.put(event.event_id, activity.scheduled(event.event_id, attributes, tx.now_ns))


def _activity_cancel_requested(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    if attributes.scheduled_event_id in tx.activities:
        tx.activities.edit(attributes.scheduled_event_id).cancel_requested_event_id = event.event_id


def _activity_ended(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.activities.delete(attributes.scheduled_event_id)


def _timer_started(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    fire_ns = event.event_time.ToNanoseconds() + duration_ns(attributes.start_to_fire_timeout)
    tx.timers.put(attributes.timer_id, Timer(attributes.timer_id, event.event_id, fire_ns))


def _timer_ended(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.timers.delete(attributes.timer_id)


# --- children, other workflows, updates ---


def _child_initiated(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.children.put(
        event.event_id,
        Child(
            initiated_event_id=event.event_id,
            initiated_ns=tx.now_ns,
            workflow_id=attributes.workflow_id,
            workflow_type=attributes.workflow_type.name,
            close_policy=attributes.parent_close_policy,
        ),
    )


def _child_started(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    item = tx.children.edit(attributes.initiated_event_id)
    item.run_id = attributes.workflow_execution.run_id
    item.started_event_id = event.event_id


def _child_ended(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.children.delete(attributes.initiated_event_id)


def _external_initiated(kind: str) -> Handler:
    def initiated(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
        named = attributes.workflow_execution
        item = External(event.event_id, tx.now_ns, kind, named.workflow_id, named.run_id)
        tx.externals.put(event.event_id, item)

    return initiated


def _external_settled(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.externals.delete(attributes.initiated_event_id)


def _operation_scheduled(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    operation = nexus_operation.scheduled(event.event_id, attributes, tx.now_ns)
    tx.nexus_operations.put(event.event_id, operation)


def _operation_started(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    nexus_operation.started(tx, attributes.scheduled_event_id, attributes.operation_token)


def _operation_cancel_requested(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    if attributes.scheduled_event_id in tx.nexus_operations:
        operation = tx.nexus_operations.edit(attributes.scheduled_event_id)
        operation.cancel_requested_event_id = event.event_id
        operation.cancel_requested_ns = tx.now_ns if operation.started_ns else 0


def _operation_cancel_settled(state: int) -> Handler:
    def settled(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
        if attributes.scheduled_event_id in tx.nexus_operations:
            operation = tx.nexus_operations.edit(attributes.scheduled_event_id)
            operation.cancel_state = state
            operation.cancel_attempt, operation.cancel_last_attempt_ns = 1, tx.now_ns

    return settled


def _operation_ended(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.nexus_operations.delete(attributes.scheduled_event_id)


def _update_admitted(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    request = attributes.request
    admitted = Update(admitted_event_id=event.event_id, request_id=request.request_id)
    tx.updates.put(request.meta.update_id, admitted)


def _update_accepted(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    update_id = attributes.protocol_instance_id
    if attributes.HasField("accepted_request"):  # else the event that admitted it has the request
        tx.updates.put(update_id, Update(request_id=attributes.accepted_request.request_id))
    tx.updates.edit(update_id).accepted_event_id = event.event_id


def _update_completed(tx: Transition, event: HistoryEvent, attributes: Any) -> None:
    tx.updates.edit(attributes.meta.update_id).completed_event_id = event.event_id


_ROWS: dict[str, Handler] = {
    "WORKFLOW_EXECUTION_STARTED": _started,
    "WORKFLOW_EXECUTION_SIGNALED": _signaled,
    "WORKFLOW_EXECUTION_CANCEL_REQUESTED": _cancel_requested,
    "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES": _attributes_upserted,
    "WORKFLOW_PROPERTIES_MODIFIED": _memo_modified,
    "WORKFLOW_EXECUTION_OPTIONS_UPDATED": _options_updated,
    "WORKFLOW_TASK_SCHEDULED": _task_scheduled,
    "WORKFLOW_TASK_STARTED": _task_started,
    "WORKFLOW_TASK_COMPLETED": _task_completed,
    "WORKFLOW_TASK_FAILED": _task_ended,
    "WORKFLOW_TASK_TIMED_OUT": _task_ended,
    "ACTIVITY_TASK_SCHEDULED": _activity_scheduled,
    "ACTIVITY_TASK_CANCEL_REQUESTED": _activity_cancel_requested,
    "ACTIVITY_TASK_COMPLETED": _activity_ended,
    "ACTIVITY_TASK_FAILED": _activity_ended,
    "ACTIVITY_TASK_TIMED_OUT": _activity_ended,
    "ACTIVITY_TASK_CANCELED": _activity_ended,
    "TIMER_STARTED": _timer_started,
    "TIMER_FIRED": _timer_ended,
    "TIMER_CANCELED": _timer_ended,
    "START_CHILD_WORKFLOW_EXECUTION_INITIATED": _child_initiated,
    "START_CHILD_WORKFLOW_EXECUTION_FAILED": _child_ended,
    "CHILD_WORKFLOW_EXECUTION_STARTED": _child_started,
    "CHILD_WORKFLOW_EXECUTION_COMPLETED": _child_ended,
    "CHILD_WORKFLOW_EXECUTION_FAILED": _child_ended,
    "CHILD_WORKFLOW_EXECUTION_CANCELED": _child_ended,
    "CHILD_WORKFLOW_EXECUTION_TIMED_OUT": _child_ended,
    "CHILD_WORKFLOW_EXECUTION_TERMINATED": _child_ended,
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED": _external_initiated("signal"),
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED": _external_settled,
    "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED": _external_settled,
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED": _external_initiated("cancel"),
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED": _external_settled,
    "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED": _external_settled,
    "NEXUS_OPERATION_SCHEDULED": _operation_scheduled,
    "NEXUS_OPERATION_STARTED": _operation_started,
    "NEXUS_OPERATION_COMPLETED": _operation_ended,
    "NEXUS_OPERATION_FAILED": _operation_ended,
    "NEXUS_OPERATION_CANCELED": _operation_ended,
    "NEXUS_OPERATION_TIMED_OUT": _operation_ended,
    "NEXUS_OPERATION_CANCEL_REQUESTED": _operation_cancel_requested,
    "NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED": _operation_cancel_settled(nexus_attempts.CANCEL_SUCCEEDED),
    "NEXUS_OPERATION_CANCEL_REQUEST_FAILED": _operation_cancel_settled(nexus_attempts.CANCEL_FAILED),
    "WORKFLOW_EXECUTION_UPDATE_ADMITTED": _update_admitted,
    "WORKFLOW_EXECUTION_UPDATE_ACCEPTED": _update_accepted,
    "WORKFLOW_EXECUTION_UPDATE_COMPLETED": _update_completed,
}
HANDLERS: dict[int, Handler] = {
    EventType.Value(f"EVENT_TYPE_{name}"): handler for name, handler in _ROWS.items()
}
