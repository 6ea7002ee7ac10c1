"""Workflow tasks: schedule, start, complete, fail, time out; normal, sticky and transient.

At most one is pending. A task whose attempt is above 1 is transient: its Scheduled and Started events are not written
until it completes, so a workflow whose code keeps failing does not grow its history. Commands are not handled here.
"""

from __future__ import annotations

from perdure.api.common.v1 import WorkerVersionStamp
from perdure.api.enums.v1 import (
    EventType,
    SuggestContinueAsNewReason,
    TimeoutType,
    WorkflowTaskFailedCause,
)
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import RespondWorkflowTaskCompletedRequest
from perdure.core.errors import NotFoundError
from perdure.core.invariant import invariant
from perdure.core.run import problems, task_events, versioning
from perdure.core.run.limits import MINUTE_NS, SECOND_NS, Limits
from perdure.core.run.state import RunHeader
from perdure.core.run.transition import Transition

_BACKOFF_AFTER_ATTEMPT = 3
_BACKOFF_FIRST_NS = 5 * SECOND_NS
_BACKOFF_MAX_NS = 10 * MINUTE_NS
_STICKY_TIMEOUT_NS = 10 * SECOND_NS
_COMPLETED = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_COMPLETED")
_FAILED = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_FAILED")
_TIMED_OUT = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT")
_START_TO_CLOSE = TimeoutType.Value("TIMEOUT_TYPE_START_TO_CLOSE")
_SCHEDULE_TO_START = TimeoutType.Value("TIMEOUT_TYPE_SCHEDULE_TO_START")
_REASON_SIZE = SuggestContinueAsNewReason.Value("SUGGEST_CONTINUE_AS_NEW_REASON_HISTORY_SIZE_TOO_LARGE")
_REASON_UPDATES = SuggestContinueAsNewReason.Value("SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_UPDATES")
_REASON_EVENTS = SuggestContinueAsNewReason.Value("SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_HISTORY_EVENTS")
_REJECTION = "/temporal.api.update.v1.Rejection"
UNHANDLED = WorkflowTaskFailedCause.Value("WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND")
FORCE_CLOSE = WorkflowTaskFailedCause.Value("WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND")
_RESETS_ATTEMPT = frozenset(
    WorkflowTaskFailedCause.Value(f"WORKFLOW_TASK_FAILED_CAUSE_{name}")
    for name in ("RESET_WORKFLOW", "FAILOVER_CLOSE_COMMAND")
)

NOT_FOUND = "Workflow task not found."


# --- schedule ---


def schedule(tx: Transition, first_scheduled_ns: int = 0) -> None:
    """Makes a workflow task pending.

    Args:
        tx: the transition; no workflow task may be pending in it.
        first_scheduled_ns: for a heartbeating task, when the first of its row was scheduled.

    A paused run gets none: its end of pause makes one.
    """
    header = tx.header
    invariant(not header.has_pending_task, "a workflow task is pending already", run=tx.state.run)
    if tx.flush():
        header.task_attempt = 1
    if header.paused_ns:
        return
    _make_pending(tx, first_scheduled_ns or tx.now_ns)
    if not header.is_task_transient:
        tx.append(task_events.scheduled(header, tx.now_ns))


def schedule_speculative(tx: Transition, limits: Limits) -> None:
    """Makes a workflow task pending that exists in memory only, to bring updates to the workflow.

    Its events are written when the workflow has something to say that must be kept, or when anything else is written.
    """
    header = tx.header
    invariant(
        not header.has_pending_task and not header.is_task_transient,
        "another workflow task comes first",
        run=tx.state.run,
    )
    _make_pending(tx, tx.now_ns)
    header.task_is_speculative = tx.is_in_memory = True
    header.task_start_limit_ns = 0 if header.task_on_sticky_queue else limits.speculative_task_start_ns


def _make_pending(tx: Transition, first_scheduled_ns: int) -> None:
    header = tx.header
    header.task_on_sticky_queue = bool(header.sticky_queue)
    header.task_rerouted = False
    header.task_timeout_ns = _timeout_ns(header)
    header.task_scheduled_ns = tx.now_ns
    header.task_first_scheduled_ns = first_scheduled_ns
    header.task_stamp += 1
    header.task_scheduled_event_id = header.next_event_id


def schedule_if_needed(tx: Transition) -> None:
    """At the end of a transition: schedules a task if something needs one and none is pending or held back."""
    header = tx.header
    if not header.is_open or header.has_started_task:
        return
    if tx.needs_task and not header.has_pending_task and not header.first_task_at_ns:
        schedule(tx)
    tx.flush()


def release_first_task(tx: Transition) -> None:
    """Ends the first task's backoff (start delay, cron, retry) and schedules it."""
    tx.header.first_task_at_ns = 0
    if not tx.header.has_pending_task:
        schedule(tx)


def reroute_to_normal_queue(tx: Transition) -> None:
    """The sticky queue has no worker: let the pending task wait on the normal queue. Stickiness itself stays."""
    tx.header.task_rerouted = True
    tx.header.task_stamp += 1


def _timeout_ns(header: RunHeader) -> int:
    extra = 0
    if header.task_attempt > _BACKOFF_AFTER_ATTEMPT:
        doublings = min(header.task_attempt - _BACKOFF_AFTER_ATTEMPT - 1, 30)
        extra = min(_BACKOFF_FIRST_NS << doublings, _BACKOFF_MAX_NS)
    return header.default_task_timeout_ns + extra


# --- start ---


def start(
    tx: Transition,
    request_id: str,
    identity: str,
    limits: Limits,
    version: WorkerVersionStamp | None = None,
    *,
    counts_new_events: bool = False,
    updates_waiting: int = 0,
) -> None:
    """A worker takes the pending task. The start of a speculative one writes nothing.

    Args:
        tx: the transition; a task must be pending and not started.
        request_id: the poll's id, written into the Started event.
        identity: the worker's.
        limits: for the advice to continue as new.
        version: the worker's, written into the Started event.
        counts_new_events: the history size that the worker is told includes this transition's events: to the worker,
            they were there before its task started.
        updates_waiting: updates that wait to be looked at, for the advice to continue as new.
    """
    header = tx.header
    invariant(
        header.has_pending_task and not header.has_started_task, "no workflow task waits", run=tx.state.run
    )
    written = not header.is_task_transient
    if header.task_is_speculative:
        written = False
        tx.is_in_memory = True
    elif not written and header.task_scheduled_event_id != header.next_event_id:
        # Events came since the transient task was scheduled: it becomes a normal first attempt.
        header.task_attempt = 1
        written = True
        header.task_scheduled_event_id = header.next_event_id
        tx.append(task_events.scheduled(header, tx.now_ns))
    header.task_started_ns = tx.now_ns
    header.task_request_id = request_id
    header.task_worker_identity = identity
    header.task_history_size_bytes = header.history_size_bytes + (tx.new_bytes() if counts_new_events else 0)
    header.task_suggest_reasons = _suggest_reasons(tx, limits, updates_waiting)
    header.task_started_event_id = header.task_scheduled_event_id + 1
    if written:
        event = tx.append(task_events.started(header, identity, version))
        header.task_started_event_id = event.event_id


def _suggest_reasons(tx: Transition, limits: Limits, updates_waiting: int) -> list[int]:
    header = tx.header
    reasons: list[int] = []
    if header.task_history_size_bytes >= limits.suggest_continue_as_new_bytes:
        reasons.append(_REASON_SIZE)
    if header.next_event_id > limits.suggest_continue_as_new_events:
        reasons.append(_REASON_EVENTS)
    updates = updates_waiting + tx.update_count
    if updates and 0 < limits.updates_total * limits.updates_suggest_continue_as_new <= updates:
        reasons.append(_REASON_UPDATES)
    return reasons


def transient_events(header: RunHeader, identity: str = "") -> list[HistoryEvent]:
    """The pending transient or speculative task's events, which are not in the history: Scheduled, and Started once a
    worker has it.

    Args:
        header: the run's.
        identity: the worker's, when the events are for the worker itself.

    Returns:
        none when no such task is pending, or when events came after it was scheduled (its start is then written).
    """
    if (
        not (header.is_task_transient or header.task_is_speculative)
        or not header.has_pending_task
        or header.task_scheduled_event_id != header.next_event_id
    ):
        return []
    scheduled = task_events.scheduled(header, header.task_scheduled_ns)
    scheduled.event_id = header.task_scheduled_event_id
    if not header.has_started_task:
        return [scheduled]
    started = task_events.started(header, identity, None)
    started.event_id = header.task_started_event_id
    return [scheduled, started]


# --- close ---


def check_current(
    header: RunHeader, scheduled_event_id: int, started_event_id: int, started_ns: int, attempt: int
) -> None:
    """Checks that a token names the workflow task that is started now.

    Raises:
        NotFoundError: it does not, or the run is closed.
    """
    if (
        not header.is_open
        or not header.has_started_task
        or header.task_scheduled_event_id != scheduled_event_id
        or header.task_started_event_id != started_event_id
        or header.task_started_ns != started_ns
        or header.task_attempt != attempt
    ):
        raise NotFoundError(NOT_FOUND)


def worker_version(request: RespondWorkflowTaskCompletedRequest) -> WorkerVersionStamp | None:
    """The version of the worker that completes a task; None if it does not say."""
    return request.worker_version_stamp if request.HasField("worker_version_stamp") else None


def complete(tx: Transition, request: RespondWorkflowTaskCompletedRequest) -> int:
    """Writes the completion of the started task (for a transient one also its Scheduled and Started events).

    Returns:
        the WorkflowTaskCompleted event's id.
    """
    header = tx.header
    if header.task_is_speculative:
        tx.write_speculative_task(request.identity, worker_version(request))
    elif header.is_task_transient:
        scheduled = tx.append(task_events.scheduled(header, header.task_scheduled_ns))
        header.task_scheduled_event_id = scheduled.event_id
        started = task_events.started(header, request.identity, worker_version(request))
        header.task_started_event_id = tx.append(started).event_id
    event = tx.new_event(_COMPLETED)
    attributes = event.workflow_task_completed_event_attributes
    attributes.scheduled_event_id = header.task_scheduled_event_id
    attributes.started_event_id = header.task_started_event_id
    attributes.identity = request.identity
    attributes.binary_checksum = request.binary_checksum
    for name in ("worker_version_stamp", "sdk_metadata", "metering_metadata"):
        if request.HasField(name):
            target = "worker_version" if name == "worker_version_stamp" else name
            getattr(attributes, target).CopyFrom(getattr(request, name))
    versioning.describe_completion(request, attributes)
    header.last_completed_task_started_event_id = header.task_started_event_id
    header.task_attempt = 1
    problems.solved(header)
    _clear(header)
    versioning.completed(tx, attributes)
    tx.append(event)
    return event.event_id


def may_discard(tx: Transition, request: RespondWorkflowTaskCompletedRequest, limits: Limits) -> bool:
    """Whether a completion of the started task leaves nothing that must be kept: the task is speculative and its worker
    did nothing but reject updates."""
    header = tx.header
    if not header.task_is_speculative or request.commands or request.force_create_new_workflow_task:
        return False
    shown = header.next_event_id - header.last_completed_task_started_event_id - 2
    if shown > (
        limits.discarded_events if request.capabilities.discard_speculative_workflow_task_with_events else 0
    ):
        return False
    return all(message.body.type_url.endswith(_REJECTION) for message in request.messages)


def discard(tx: Transition) -> None:
    """Drops the started speculative task without a trace; the worker goes back to where it was before."""
    invariant(tx.header.task_is_speculative, "only a speculative task can be dropped", run=tx.state.run)
    _clear(tx.header)
    tx.is_in_memory = True


def set_sticky(header: RunHeader, request: RespondWorkflowTaskCompletedRequest, timeout_ns: int) -> None:
    """Takes over, or clears, the sticky queue that a completion names.

    Args:
        header: of the transition.
        request: the completion.
        timeout_ns: how long a task may wait on the sticky queue. None given means 10 s, what SDKs ask for: without a
            limit a task would wait for ever for a worker that is gone.
    """
    name = request.sticky_attributes.worker_task_queue.name
    header.sticky_queue = name
    header.sticky_timeout_ns = (timeout_ns or _STICKY_TIMEOUT_NS) if name else 0


def clear_sticky(header: RunHeader) -> None:
    """The next task goes to the normal queue with the full history."""
    header.sticky_queue = ""
    header.sticky_timeout_ns = 0


def fail(
    tx: Transition,
    cause: int,
    failure: Failure | None = None,
    identity: str = "",
    binary_checksum: str = "",
) -> None:
    """The started task failed. A transient one leaves no event."""
    header = tx.header
    if header.task_is_speculative:
        tx.write_speculative_task(identity)
    if not header.is_task_transient:
        event = tx.new_event(_FAILED)
        attributes = event.workflow_task_failed_event_attributes
        attributes.scheduled_event_id = header.task_scheduled_event_id
        attributes.started_event_id = header.task_started_event_id
        attributes.cause = cause  # type: ignore[assignment]
        if failure is not None:
            attributes.failure.CopyFrom(failure)
        attributes.identity = identity
        attributes.binary_checksum = binary_checksum
        tx.append(event)
        problems.failed(header, cause)
    failures = header.task_failures
    _after_failure(header)
    header.task_close_refused = cause == UNHANDLED
    if cause in _RESETS_ATTEMPT:
        header.task_attempt = 1
        header.task_failures = failures


def time_out(tx: Transition) -> None:
    """The started task ran out of time, or the waiting sticky one found no worker. Another one is needed."""
    header = tx.header
    started = header.has_started_task
    if header.task_is_speculative:
        tx.write_speculative_task()
    if not header.is_task_transient or not started:
        event = tx.new_event(_TIMED_OUT)
        attributes = event.workflow_task_timed_out_event_attributes
        attributes.scheduled_event_id = header.task_scheduled_event_id
        attributes.started_event_id = header.task_started_event_id
        attributes.timeout_type = _START_TO_CLOSE if started else _SCHEDULE_TO_START
        tx.append(event)
        problems.timed_out(header, attributes.timeout_type)
    _after_failure(header, counts=started)
    tx.needs_task = True


def _after_failure(header: RunHeader, *, counts: bool = True) -> None:
    if header.sticky_queue:
        clear_sticky(header)  # once more with the full history before it counts as a failure
    elif counts:
        header.task_attempt += 1
        header.task_failures += 1
    _clear(header)


def _clear(header: RunHeader) -> None:
    header.task_scheduled_event_id = 0
    header.task_started_event_id = 0
    header.task_scheduled_ns = 0
    header.task_started_ns = 0
    header.task_request_id = ""
    header.task_worker_identity = ""
    header.task_on_sticky_queue = False
    header.task_rerouted = False
    header.task_is_speculative = False
    header.task_start_limit_ns = 0
    header.task_history_size_bytes = 0
    header.task_suggest_reasons = []
    header.task_close_refused = False


def drop_unseen(tx: Transition) -> None:
    """Drops a speculative task that no worker has taken: the run closes."""
    _clear(tx.header)


def clear_pending(header: RunHeader) -> None:
    """Drops a pending task without a trace: the run closes."""
    _clear(header)


# --- deadlines ---


def deadline_ns(header: RunHeader) -> int:
    """When the pending task (or the held-back first one) must be looked at again; 0 never."""
    if header.has_started_task:
        return header.task_started_ns + header.task_timeout_ns
    if header.has_pending_task:
        limit_ns = header.sticky_timeout_ns if header.task_on_sticky_queue else header.task_start_limit_ns
        return header.task_scheduled_ns + limit_ns if limit_ns else 0
    return 0 if header.paused_ns else header.first_task_at_ns


def fire(tx: Transition) -> None:
    """Does what is due: releases the first task, or times the pending one out."""
    due = deadline_ns(tx.header)
    if not due or due > tx.now_ns:
        return
    if tx.header.has_pending_task:
        time_out(tx)
    else:
        release_first_task(tx)
