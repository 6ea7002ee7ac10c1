"""How a run begins and ends: start; complete, fail, cancel, terminate, time out.

Chains of runs (workflow retry, cron, continue-as-new) are not here yet; their place is a module that makes the
next run's `start` from the closing event.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perdure.api.command.v1 import (
    CancelWorkflowExecutionCommandAttributes,
    CompleteWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
)
from perdure.api.common.v1 import Link, Payloads
from perdure.api.enums.v1 import EventType, RetryState, WorkflowExecutionStatus
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.run import properties, workflow_task
from perdure.core.run.attributes import is_nil
from perdure.core.run.protos import duration_ns, set_duration, set_timestamp
from perdure.core.run.state import RUNNING, RunHeader
from perdure.core.run.transition import Transition

_STARTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_STARTED")
_COMPLETED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED")
_FAILED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_FAILED")
_TIMED_OUT = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT")
_CANCELED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED")
_TERMINATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED")
STATUS_COMPLETED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_COMPLETED")
STATUS_FAILED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_FAILED")
STATUS_CANCELED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_CANCELED")
STATUS_TERMINATED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_TERMINATED")
STATUS_TIMED_OUT = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_TIMED_OUT")
_TIMEOUT = RetryState.Value("RETRY_STATE_TIMEOUT")
SERVER_IDENTITY = "history-service"
"""Who did it, in events that the server writes by itself."""
_POLICY_NOT_SET = RetryState.Value("RETRY_STATE_RETRY_POLICY_NOT_SET")

_COPIED_MESSAGES = (
    "workflow_type",
    "task_queue",
    "header",
    "input",
    "retry_policy",
    "versioning_override",
    "priority",
    "continued_failure",
    "last_completion_result",
)


@dataclass(frozen=True, slots=True)
class StartContext:
    """What a start needs beside the client's request: ids and choices made outside the core."""

    namespace: str
    retention_ns: int
    eager: bool = False
    """The first workflow task goes back to the client in the start's own answer."""


def start(tx: Transition, request: StartWorkflowExecutionRequest, context: StartContext) -> None:
    """Begins a run from a normalised request: the started event, and the first workflow task unless delayed.

    Source: workflowservice.v1.StartWorkflowExecutionRequest, history.v1.WorkflowExecutionStartedEventAttributes.
    """
    run = tx.state.run
    backoff_ns = duration_ns(request.workflow_start_delay)
    header = tx.header
    header.namespace = context.namespace
    header.retention_ns = context.retention_ns
    header.workflow_type = request.workflow_type.name
    header.task_queue = request.task_queue.name
    header.status = RUNNING
    header.start_request_id = request.request_id
    header.first_run_id = header.original_run_id = run.run_id
    header.root_workflow_id, header.root_run_id = run.workflow_id, run.run_id
    header.start_ns = tx.now_ns
    header.execution_ns = tx.now_ns + backoff_ns
    header.execution_timeout_ns = duration_ns(request.workflow_execution_timeout)
    header.run_timeout_ns = duration_ns(request.workflow_run_timeout)
    header.default_task_timeout_ns = duration_ns(request.workflow_task_timeout)
    if header.run_timeout_ns:
        header.run_expiration_ns = header.execution_ns + header.run_timeout_ns
    if request.HasField("priority"):
        header.priority = request.priority.SerializeToString()
    if request.HasField("user_metadata"):
        header.user_metadata = request.user_metadata.SerializeToString()
    event = _started_event(tx, request, backoff_ns, context.eager)
    tx.append(event)
    _put_properties(tx, event)
    tx.visibility_changed = True
    if backoff_ns:
        header.first_task_at_ns = header.execution_ns
    else:
        tx.needs_task = True


def _started_event(
    tx: Transition, request: StartWorkflowExecutionRequest, backoff_ns: int, eager: bool
) -> HistoryEvent:
    header = tx.header
    event = tx.new_event(_STARTED)
    attributes = event.workflow_execution_started_event_attributes
    for name in _COPIED_MESSAGES:
        if request.HasField(name):  # type: ignore[arg-type]  # a row of the table above
            getattr(attributes, name).CopyFrom(getattr(request, name))
    for name, timeout_ns in (
        ("workflow_execution_timeout", header.execution_timeout_ns),
        ("workflow_run_timeout", header.run_timeout_ns),
    ):
        if timeout_ns or request.HasField(name):  # type: ignore[arg-type]  # a row of the table above
            set_duration(getattr(attributes, name), timeout_ns)
    set_duration(attributes.workflow_task_timeout, header.default_task_timeout_ns)
    set_duration(attributes.first_workflow_task_backoff, backoff_ns)
    if header.execution_timeout_ns:
        expiration_ns = header.execution_ns + header.execution_timeout_ns
        set_timestamp(attributes.workflow_execution_expiration_time, expiration_ns)
    attributes.identity = request.identity
    attributes.attempt = 1
    attributes.original_execution_run_id = attributes.first_execution_run_id = tx.state.run.run_id
    attributes.workflow_id = tx.state.run.workflow_id
    attributes.eager_execution_accepted = eager
    for source, target, field in (
        (request.memo, attributes.memo, "fields"),
        (request.search_attributes, attributes.search_attributes, "indexed_fields"),
    ):
        kept = {key: value for key, value in getattr(source, field).items() if not is_nil(value)}
        for key, value in kept.items():
            getattr(target, field)[key].CopyFrom(value)
    attributes.completion_callbacks.extend(request.completion_callbacks)
    event.links.extend(request.links)
    if request.HasField("user_metadata"):
        event.user_metadata.CopyFrom(request.user_metadata)
    return event


def _put_properties(tx: Transition, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_started_event_attributes
    if attributes.memo.fields:
        tx.blobs.put(properties.MEMO, attributes.memo.SerializeToString(deterministic=True))
    if attributes.search_attributes.indexed_fields:
        data = attributes.search_attributes.SerializeToString(deterministic=True)
        tx.blobs.put(properties.SEARCH_ATTRIBUTES, data)


# --- the ways to close ---


def complete(
    tx: Transition, command: CompleteWorkflowExecutionCommandAttributes, completed_event_id: int
) -> None:
    """The workflow returned."""
    event = tx.new_event(_COMPLETED)
    attributes = event.workflow_execution_completed_event_attributes
    if command.HasField("result"):
        attributes.result.CopyFrom(command.result)
    attributes.workflow_task_completed_event_id = completed_event_id
    _close(tx, event, STATUS_COMPLETED)


def fail(tx: Transition, command: FailWorkflowExecutionCommandAttributes, completed_event_id: int) -> None:
    """The workflow raised."""
    event = tx.new_event(_FAILED)
    attributes = event.workflow_execution_failed_event_attributes
    attributes.failure.CopyFrom(command.failure)
    attributes.retry_state = _POLICY_NOT_SET
    attributes.workflow_task_completed_event_id = completed_event_id
    _close(tx, event, STATUS_FAILED)


def cancel(
    tx: Transition, command: CancelWorkflowExecutionCommandAttributes, completed_event_id: int
) -> None:
    """The workflow ended because it was asked to."""
    event = tx.new_event(_CANCELED)
    attributes = event.workflow_execution_canceled_event_attributes
    if command.HasField("details"):
        attributes.details.CopyFrom(command.details)
    attributes.workflow_task_completed_event_id = completed_event_id
    _close(tx, event, STATUS_CANCELED)


def terminate(
    tx: Transition, *, reason: str, details: Payloads | None, identity: str, links: Iterable[Link] = ()
) -> None:
    """Closes the run from outside, whatever its code is doing."""
    _force_close(tx)
    event = tx.new_event(_TERMINATED)
    attributes = event.workflow_execution_terminated_event_attributes
    attributes.reason = reason
    if details is not None:
        attributes.details.CopyFrom(details)
    attributes.identity = identity
    event.links.extend(links)
    _close(tx, event, STATUS_TERMINATED)


def time_out(tx: Transition) -> None:
    """The run's time is over: its own, or that of the whole execution."""
    _force_close(tx)
    event = tx.new_event(_TIMED_OUT)
    header = tx.header
    execution_over = 0 < header.execution_timeout_ns <= tx.now_ns - header.execution_ns
    state = _TIMEOUT if execution_over else _POLICY_NOT_SET
    event.workflow_execution_timed_out_event_attributes.retry_state = state
    _close(tx, event, STATUS_TIMED_OUT)


def _force_close(tx: Transition) -> None:
    if tx.header.has_started_task:
        workflow_task.fail(tx, workflow_task.FORCE_CLOSE, identity=SERVER_IDENTITY)
    tx.flush()


def _close(tx: Transition, event: HistoryEvent, status: int) -> None:
    header: RunHeader = tx.header
    tx.append(event)
    header.status = status
    header.close_ns = tx.now_ns
    header.close_event_id = event.event_id
    header.first_task_at_ns = 0
    workflow_task.clear_pending(header)
    workflow_task.clear_sticky(header)
    for overlay in (tx.activities, tx.timers, tx.buffered):
        overlay.clear()
    tx.needs_task = False
    tx.visibility_changed = True
