"""How a run begins and ends: start; complete, fail, cancel, terminate, time out, continue as new.

What follows a closed run (workflow retry, cron, continue-as-new) is in `chain`, which makes the next run's `start`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from perdure.api.command.v1 import (
    CancelWorkflowExecutionCommandAttributes,
    CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
)
from perdure.api.common.v1 import Link, Payloads
from perdure.api.enums.v1 import (
    ContinueAsNewInitiator,
    EventType,
    ParentClosePolicy,
    RetryState,
    WorkflowExecutionStatus,
)
from perdure.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.run import callback, cron, properties, versioning, workflow_task
from perdure.core.run.attributes import is_nil
from perdure.core.run.items import CALLBACK
from perdure.core.run.limits import Limits
from perdure.core.run.protos import duration_ns, set_duration, set_timestamp
from perdure.core.run.state import RUNNING, RunHeader
from perdure.core.run.transition import Transition

_STARTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_STARTED")
_COMPLETED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED")
_FAILED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_FAILED")
_TIMED_OUT = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT")
_CANCELED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED")
_TERMINATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED")
_CONTINUED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW")
STATUS_COMPLETED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_COMPLETED")
STATUS_FAILED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_FAILED")
STATUS_CANCELED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_CANCELED")
STATUS_TERMINATED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_TERMINATED")
STATUS_CONTINUED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW")
STATUS_TIMED_OUT = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_TIMED_OUT")
SERVER_IDENTITY = "history-service"
"""Who did it, in events that the server writes by itself."""
POLICY_NOT_SET = RetryState.Value("RETRY_STATE_RETRY_POLICY_NOT_SET")
_ABANDON = ParentClosePolicy.Value("PARENT_CLOSE_POLICY_ABANDON")
_BY_CRON = ContinueAsNewInitiator.Value("CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE")
START_LINKS = "start_links"

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
_CONTINUED_MESSAGES = (
    "workflow_type",
    "task_queue",
    "input",
    "workflow_run_timeout",
    "workflow_task_timeout",
    "backoff_start_interval",
    "failure",
    "last_completion_result",
    "header",
)


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The run of the chain that this one follows, and why."""

    run_id: str
    first_run_id: str
    initiator: int
    """temporal.api.enums.v1.ContinueAsNewInitiator number."""
    attempt: int
    execution_expiration_ns: int


@dataclass(frozen=True, slots=True)
class Parent:
    """The run whose child this one is, and the root of them all."""

    workflow_id: str
    run_id: str
    initiated_event_id: int
    root_workflow_id: str
    root_run_id: str


class StartContext(NamedTuple):
    """What a start needs beside the client's request: ids and choices made outside the core."""

    namespace: str
    retention_ns: int
    eager: bool = False
    """The first workflow task goes back to the client in the start's own answer."""
    predecessor: Predecessor | None = None
    parent: Parent | None = None
    inherited: WorkflowExecutionStartedEventAttributes | None = None
    """What the started event takes over from the parent or predecessor of worker versions."""


def start(tx: Transition, request: StartWorkflowExecutionRequest, context: StartContext) -> None:
    """Begins a run from a normalised request: the started event, and the first workflow task unless delayed.

    The first run of a cron schedule is delayed to the schedule's next time.

    Source: workflowservice.v1.StartWorkflowExecutionRequest, history.v1.WorkflowExecutionStartedEventAttributes.
    """
    run = tx.state.run
    backoff_ns = duration_ns(request.workflow_start_delay) if request.HasField("workflow_start_delay") else 0
    before = context.predecessor
    if request.cron_schedule and before is None:
        backoff_ns = max(cron.delay_ns(request.cron_schedule, tx.now_ns, tx.now_ns) or 0, 0)
    header = tx.header
    header.namespace = context.namespace
    header.retention_ns = context.retention_ns
    header.workflow_type = request.workflow_type.name
    header.task_queue = request.task_queue.name
    header.status = RUNNING
    header.start_request_id = request.request_id
    header.original_run_id = run.run_id
    header.first_run_id = before.first_run_id if before is not None else run.run_id
    header.attempt = before.attempt if before is not None else 1
    header.cron_schedule = request.cron_schedule
    header.root_workflow_id, header.root_run_id = run.workflow_id, run.run_id
    parent = context.parent
    if parent is not None:
        header.parent_workflow_id, header.parent_run_id = parent.workflow_id, parent.run_id
        header.parent_initiated_event_id = parent.initiated_event_id
        header.root_workflow_id, header.root_run_id = parent.root_workflow_id, parent.root_run_id
    header.start_ns = tx.now_ns
    header.execution_ns = tx.now_ns + backoff_ns
    header.execution_timeout_ns = duration_ns(request.workflow_execution_timeout)
    header.run_timeout_ns = duration_ns(request.workflow_run_timeout)
    header.default_task_timeout_ns = duration_ns(request.workflow_task_timeout)
    _set_expirations(header, before)
    if request.HasField("retry_policy"):
        header.retry_policy = request.retry_policy.SerializeToString()
    if request.HasField("priority"):
        header.priority = request.priority.SerializeToString()
    if request.HasField("user_metadata"):
        header.user_metadata = request.user_metadata.SerializeToString()
    event = _started_event(tx, request, backoff_ns, context)
    tx.append(event)
    put_properties(tx, event)
    versioning.started(tx, event.workflow_execution_started_event_attributes)
    if request.completion_callbacks:
        callback.register(tx, request.request_id, request.completion_callbacks)
    tx.visibility_changed = True
    if backoff_ns:
        header.first_task_at_ns = header.execution_ns
    else:
        tx.needs_task = True


def effective_timeouts(execution_ns: int, run_ns: int, task_ns: int, limits: Limits) -> tuple[int, int]:
    """The run timeout and workflow task timeout that are held to: each is capped by the one around it.

    Args:
        execution_ns, run_ns, task_ns: as asked for; 0 for none.
        limits: the default and the longest workflow task timeout.
    """
    if execution_ns:
        run_ns = min(run_ns or execution_ns, execution_ns)
    task_ns = min(task_ns or limits.task_timeout_default_ns, limits.task_timeout_max_ns)
    return run_ns, min(task_ns, run_ns) if run_ns else task_ns


def _set_expirations(header: RunHeader, before: Predecessor | None) -> None:
    if before is not None:
        header.execution_expiration_ns = before.execution_expiration_ns
    elif header.execution_timeout_ns:
        # Other than the time of a run, it does not wait for the first task: not for a delay, nor for a cron schedule.
        header.execution_expiration_ns = header.start_ns + header.execution_timeout_ns
    header.run_expiration_ns = header.execution_expiration_ns
    if header.run_timeout_ns:
        expiration_ns = header.execution_ns + header.run_timeout_ns
        header.run_expiration_ns = min(expiration_ns, header.execution_expiration_ns or expiration_ns)


def _started_event(
    tx: Transition, request: StartWorkflowExecutionRequest, backoff_ns: int, context: StartContext
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
    if header.execution_expiration_ns:
        set_timestamp(attributes.workflow_execution_expiration_time, header.execution_expiration_ns)
    attributes.identity = request.identity
    attributes.attempt = header.attempt
    attributes.cron_schedule = request.cron_schedule
    attributes.original_execution_run_id = tx.state.run.run_id
    attributes.first_execution_run_id = header.first_run_id
    attributes.workflow_id = tx.state.run.workflow_id
    attributes.eager_execution_accepted = context.eager
    if context.parent is not None:
        _name_parent(attributes, tx)
    if context.predecessor is not None:
        attributes.continued_execution_run_id = context.predecessor.run_id
        attributes.initiator = context.predecessor.initiator  # type: ignore[assignment]  # an enum number
    elif request.cron_schedule:
        attributes.initiator = _BY_CRON
    copy_properties(request, attributes)
    if context.inherited is not None:
        attributes.MergeFrom(context.inherited)
    attributes.completion_callbacks.extend(request.completion_callbacks)
    event.links.extend(request.links)
    if request.HasField("user_metadata"):
        event.user_metadata.CopyFrom(request.user_metadata)
    return event


def _name_parent(attributes: WorkflowExecutionStartedEventAttributes, tx: Transition) -> None:
    header = tx.header
    attributes.parent_workflow_namespace = header.namespace
    attributes.parent_workflow_namespace_id = tx.state.run.namespace_id
    attributes.parent_workflow_execution.workflow_id = header.parent_workflow_id
    attributes.parent_workflow_execution.run_id = header.parent_run_id
    attributes.parent_initiated_event_id = header.parent_initiated_event_id
    attributes.root_workflow_execution.workflow_id = header.root_workflow_id
    attributes.root_workflow_execution.run_id = header.root_run_id


def copy_properties(source: Any, target: Any) -> None:
    """Copies memo and search attributes from a message that has both to another, without nil values."""
    for name, field in (("memo", "fields"), ("search_attributes", "indexed_fields")):
        given = getattr(source, name)
        values = getattr(given, field)
        nil = [key for key in values if is_nil(values[key])]
        if len(nil) == len(values):
            continue  # nothing to copy, and an empty message is not the same as none
        copied = getattr(target, name)
        copied.CopyFrom(given)
        for key in nil:
            del getattr(copied, field)[key]


def put_properties(tx: Transition, event: HistoryEvent) -> None:
    """Keeps what a started event says of memo, search attributes and links."""
    attributes = event.workflow_execution_started_event_attributes
    if attributes.memo.fields:
        tx.blobs.put(properties.MEMO, attributes.memo.SerializeToString(deterministic=True))
    if attributes.search_attributes.indexed_fields:
        data = attributes.search_attributes.SerializeToString(deterministic=True)
        tx.blobs.put(properties.SEARCH_ATTRIBUTES, data)
    if event.links:
        # Only the links: they are all of this event that continuing as new needs and the state does not have.
        tx.blobs.put(START_LINKS, HistoryEvent(links=event.links).SerializeToString())


# --- the ways to close ---


def complete(
    tx: Transition,
    command: CompleteWorkflowExecutionCommandAttributes,
    completed_event_id: int,
    next_run_id: str = "",
) -> None:
    """The workflow returned. `next_run_id` names the run that follows, if any does."""
    event = tx.new_event(_COMPLETED)
    attributes = event.workflow_execution_completed_event_attributes
    if command.HasField("result"):
        attributes.result.CopyFrom(command.result)
    attributes.workflow_task_completed_event_id = completed_event_id
    attributes.new_execution_run_id = next_run_id
    _close(tx, event, STATUS_COMPLETED)


def fail(
    tx: Transition,
    command: FailWorkflowExecutionCommandAttributes,
    completed_event_id: int,
    retry_state: int = POLICY_NOT_SET,
    next_run_id: str = "",
) -> None:
    """The workflow raised. `retry_state` says why it is or is not tried again, `next_run_id` names what follows."""
    event = tx.new_event(_FAILED)
    attributes = event.workflow_execution_failed_event_attributes
    attributes.failure.CopyFrom(command.failure)
    attributes.retry_state = retry_state  # type: ignore[assignment]  # a RetryState number
    attributes.workflow_task_completed_event_id = completed_event_id
    attributes.new_execution_run_id = next_run_id
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


def time_out(tx: Transition, retry_state: int = POLICY_NOT_SET, next_run_id: str = "") -> None:
    """The run's time is over: its own, or that of the whole execution."""
    _force_close(tx)
    event = tx.new_event(_TIMED_OUT)
    attributes = event.workflow_execution_timed_out_event_attributes
    attributes.retry_state = retry_state  # type: ignore[assignment]  # a RetryState number
    attributes.new_execution_run_id = next_run_id
    _close(tx, event, STATUS_TIMED_OUT)


def continue_as_new(
    tx: Transition,
    command: ContinueAsNewWorkflowExecutionCommandAttributes,
    completed_event_id: int,
    next_run_id: str,
) -> None:
    """The workflow goes on in a new run."""
    event = tx.new_event(_CONTINUED)
    attributes = event.workflow_execution_continued_as_new_event_attributes
    attributes.new_execution_run_id = next_run_id
    attributes.workflow_task_completed_event_id = completed_event_id
    attributes.initiator = command.initiator
    attributes.inherit_build_id = command.inherit_build_id
    for name in _CONTINUED_MESSAGES:
        if command.HasField(name):  # type: ignore[arg-type]  # a row of the table above
            getattr(attributes, name).CopyFrom(getattr(command, name))
    copy_properties(command, attributes)
    _close(tx, event, STATUS_CONTINUED)


def _force_close(tx: Transition) -> None:
    if tx.header.task_is_speculative and not tx.header.has_started_task:
        workflow_task.drop_unseen(tx)
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
    header.paused_ns = 0
    workflow_task.clear_pending(header)
    workflow_task.clear_sticky(header)
    for overlay in (tx.activities, tx.timers, tx.buffered):
        overlay.clear()
    if tx.may_reach_out:
        tx.externals.clear()
        _close_children(tx)
        tx.nexus_operations.clear()
    goes_on = tx.successor is not None or header.reset_run_id
    header.owes_parent = bool(header.parent_initiated_event_id) and not goes_on
    header.calls_back = tx.may_have(CALLBACK) and callback.has_of_run(tx) and not goes_on
    if tx.may_have(CALLBACK):
        callback.end_updates(tx)
    tx.needs_task = False
    tx.visibility_changed = True


def _close_children(tx: Transition) -> None:
    """Of the children only those are kept that run and must not go on without their parent."""
    for child in list(tx.children):
        if not child.run_id or child.close_policy == _ABANDON or tx.header.reset_run_id:
            tx.children.delete(child.initiated_event_id)
