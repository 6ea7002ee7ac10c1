"""A worker's answer to a workflow task: all that completing or failing it does to the run.

It puts the history core, the workflow task and the commands together; each rule lives in their modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import (
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskFailedRequest,
)
from perdure.core.deployment.routes import NO_ROUTES, Routes
from perdure.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, ServiceError
from perdure.core.run import activity, commands, lifecycle, versioning, workflow_task
from perdure.core.run.commands import (
    CommandContext,
    EndpointId,
    TaskFailure,
    cause_label,
    cause_number,
    no_endpoint,
)
from perdure.core.run.failures import server_failure
from perdure.core.run.ids import derived_id
from perdure.core.run.limits import Limits
from perdure.core.run.protos import checked_duration_ns
from perdure.core.run.state import Activity, RunState
from perdure.core.run.transition import Transition
from perdure.core.run.update import UpdateAnswers, UpdateChanges, UpdateRegistry, unheard
from perdure.core.visibility.attributes import AttributeType

_TOO_LARGE = cause_number("GRPC_MESSAGE_TOO_LARGE")
PAUSED = "Workflow is paused and force create new workflow task is not allowed."
NO_PAGES = "workflow task completion pagination is disabled for this namespace {}"
HISTORY_TOO_LARGE = "Workflow history size exceeds limit."
HISTORY_TOO_LONG = "Workflow history count exceeds limit."
STATE_TOO_LARGE = "Workflow mutable state size exceeds limit."
INLINE_REQUEST_ID = "request-from-RespondWorkflowTaskCompleted"
"""The request id in WorkflowTaskStarted events of tasks that are returned by the completion of the one before."""


@dataclass(frozen=True, slots=True)
class TaskToken:
    """Which workflow task attempt a worker holds."""

    scheduled_event_id: int
    started_event_id: int
    started_ns: int
    attempt: int


@dataclass(slots=True)
class Completion:
    """What a completion led to.

    Attributes:
        tx: the transition to commit.
        error: what the worker is told after the commit, if its task failed.
        new_task_inline: the next workflow task is started and goes back in the answer.
        eager: scheduled event ids of activities started for this worker, to go back in the answer.
        started: those activities as started.
        updates: what happens to waiting updates after the commit; None: nothing.
        brings_updates: a speculative workflow task is to follow at once, in the answer.
        reset_event_id: of a task that was dropped without a trace: the event the worker goes back to.
        task_failed: the task failed, on the server's word.
        inline: after the commit, the transition that holds the task of the answer, if it is not `tx`.
    """

    tx: Transition
    error: ServiceError | None = None
    new_task_inline: bool = False
    eager: list[int] = field(default_factory=list)
    started: dict[int, Activity] = field(default_factory=dict)
    updates: UpdateChanges | None = None
    brings_updates: bool = False
    reset_event_id: int | None = None
    task_failed: bool = False
    inline: Transition | None = None


def respond_completed(
    state: RunState,
    now_ns: int,
    token: TaskToken,
    request: RespondWorkflowTaskCompletedRequest,
    limits: Limits,
    custom: Mapping[str, AttributeType],
    registry: UpdateRegistry | None = None,
    endpoint_id: EndpointId = no_endpoint,
    routes: Routes = NO_ROUTES,
) -> Completion:
    """Applies a completed workflow task: its commands, its stickiness, and what must follow.

    Raises:
        NotFoundError: the token's task is not the started one.
        InvalidArgumentError: the commands cannot be accepted and the task must be left to time out.
        FailedPreconditionError: it is only a page of a completion, or a paused run is to get another task.
    """
    tx = Transition(state, now_ns)
    _check(tx, token)
    _check_is_whole(request)
    versioning.check_completion(request)
    if tx.header.paused_ns and request.force_create_new_workflow_task:
        raise FailedPreconditionError(PAUSED)
    sticky_timeout_ns = checked_duration_ns(
        request.sticky_attributes.schedule_to_start_timeout, "ScheduleToStartTimeout in StickyAttributes"
    )
    heartbeat = request.force_create_new_workflow_task and not request.commands and not request.messages
    first_scheduled_ns = tx.header.task_first_scheduled_ns
    if heartbeat and now_ns > first_scheduled_ns + limits.task_heartbeat_ns:
        return _heartbeat_expired(tx)
    attempt = tx.header.task_attempt
    completed_event_id = 0
    if workflow_task.may_discard(tx, request, limits):
        workflow_task.discard(tx)
    else:
        completed_event_id = workflow_task.complete(tx, request)
    workflow_task.set_sticky(tx.header, request, sticky_timeout_ns)
    context = CommandContext(tx, completed_event_id, request.identity, limits, custom, tx.has_buffered())
    context.endpoint_id, context.routes = endpoint_id, routes
    if registry is not None or request.messages or unheard(state):
        context.updates = UpdateAnswers(tx, registry or UpdateRegistry(), limits)
        context.messages = {message.id: message for message in request.messages}
    try:
        commands.apply_all(context, request.commands)
    except TaskFailure as failure:
        return _failed(state, now_ns, request, failure, attempt)
    answers = context.updates
    done = Completion(tx, updates=answers.changes if answers is not None else None)
    if not tx.header.is_open:
        return done
    has_news = False
    if answers is not None:
        if not request.force_create_new_workflow_task:
            answers.reject_unprocessed()
        has_news = answers.has_unsent and not tx.header.paused_ns
    if tx.is_in_memory:
        done.reset_event_id = tx.header.last_completed_task_started_event_id
        done.brings_updates = has_news and request.return_new_workflow_task
        return done
    _start_eagerly(context, state, request, done)
    if end_oversized_run(tx, limits):
        return Completion(tx, updates=done.updates)
    _follow_with_a_task(context, request, registry, done, first_scheduled_ns if heartbeat else 0)
    if has_news and not tx.header.has_pending_task:
        if request.return_new_workflow_task:
            done.brings_updates = True
        else:
            workflow_task.schedule(tx)
    return done


def _check_is_whole(request: RespondWorkflowTaskCompletedRequest) -> None:
    """Refuses a page of a completion: what the other pages hold would be lost."""
    if request.intermediate_page or request.page_number > 0:
        raise FailedPreconditionError(NO_PAGES.format(request.namespace))


def _start_eagerly(
    context: CommandContext, state: RunState, request: RespondWorkflowTaskCompletedRequest, done: Completion
) -> None:
    """Starts the activities that this worker asked to be given at once."""
    tx = context.tx
    done.eager = [event_id for event_id in context.eager if event_id in tx.activities]
    version = versioning.completed_by(request)
    for event_id in done.eager:
        request_id = eager_request_id(state.run.run_id, event_id)
        done.started[event_id] = activity.start(tx, event_id, request_id, request.identity, version)


def _follow_with_a_task(
    context: CommandContext,
    request: RespondWorkflowTaskCompletedRequest,
    registry: UpdateRegistry | None,
    done: Completion,
    first_scheduled_ns: int,
) -> None:
    """Schedules the next workflow task if there is reason for one, and starts it if the worker takes it at once."""
    if not (
        request.force_create_new_workflow_task or context.must_handle_events or context.cancelled_unstarted
    ):
        return
    tx = context.tx
    workflow_task.schedule(tx, first_scheduled_ns)
    done.new_task_inline = request.return_new_workflow_task and tx.header.has_pending_task
    if done.new_task_inline:
        version = workflow_task.worker_version(request)
        waiting = len(registry.waiting) if registry is not None else 0
        workflow_task.start(
            tx, INLINE_REQUEST_ID, request.identity, context.limits, version, updates_waiting=waiting
        )


def eager_request_id(run_id: str, scheduled_event_id: int) -> str:
    """A request id in the form of a UUID for an activity started by a completion; the same for the same activity."""
    return derived_id(run_id, scheduled_event_id)


def _check(tx: Transition, token: TaskToken) -> None:
    workflow_task.check_current(
        tx.header, token.scheduled_event_id, token.started_event_id, token.started_ns, token.attempt
    )


def _heartbeat_expired(tx: Transition) -> Completion:
    workflow_task.time_out(tx)
    workflow_task.clear_sticky(tx.header)
    workflow_task.schedule_if_needed(tx)
    return Completion(tx, NotFoundError("workflow task heartbeat timeout"))


def _failed(
    state: RunState,
    now_ns: int,
    request: RespondWorkflowTaskCompletedRequest,
    failure: TaskFailure,
    attempt: int,
) -> Completion:
    unhandled = failure.cause == cause_number("UNHANDLED_COMMAND")
    if attempt > 1 and not unhandled:
        # Leave it to time out: a task that keeps failing at once would otherwise spin.
        raise InvalidArgumentError(str(failure))
    tx = Transition(state, now_ns)
    workflow_task.fail(
        tx, failure.cause, server_failure(str(failure)), request.identity, request.binary_checksum
    )
    if failure.terminates:
        tx.flush()
        lifecycle.terminate(tx, reason=str(failure), details=None, identity=lifecycle.SERVER_IDENTITY)
    else:
        workflow_task.schedule(tx)
    return Completion(tx, InvalidArgumentError(str(failure)), task_failed=True)


def respond_failed(
    state: RunState, now_ns: int, token: TaskToken, request: RespondWorkflowTaskFailedRequest
) -> Transition:
    """Applies a workflow task that the worker could not do: a new attempt follows, unless none can succeed.

    Raises:
        NotFoundError: the token's task is not the started one.
    """
    tx = Transition(state, now_ns)
    _check(tx, token)
    if request.cause == _TOO_LARGE:
        # The worker could not take the task's history in, or not send its answer: no attempt can.
        lifecycle.terminate(
            tx,
            reason=cause_label(request.cause),
            details=None,
            identity=lifecycle.SERVER_IDENTITY,
        )
        return tx
    failure = request.failure if request.HasField("failure") else None
    workflow_task.fail(tx, request.cause, failure, request.identity, request.binary_checksum)
    workflow_task.schedule(tx)
    return tx


def end_oversized_run(tx: Transition, limits: Limits) -> bool:
    """Terminates a run whose history has become too long or too large, or its state; what happened before is kept.

    While a workflow task is started it may go on: only what waits in the buffer can be added, and that is limited.

    Returns:
        whether it did.
    """
    header = tx.header
    if not header.is_open or header.has_started_task:
        return False
    if header.history_size_bytes > limits.history_bytes:
        reason = HISTORY_TOO_LARGE
    elif header.next_event_id - 1 + tx.buffered_count > limits.history_events:
        reason = HISTORY_TOO_LONG
    elif _heartbeat_bytes(tx) > limits.state_bytes:
        reason = STATE_TOO_LARGE
    else:
        return False
    lifecycle.terminate(tx, reason=reason, details=None, identity=lifecycle.SERVER_IDENTITY)
    return True


def _heartbeat_bytes(tx: Transition) -> int:
    """What the last heartbeats of all pending activities hold, which is the part of a run's state that has no limits of
    its own; 0 if no heartbeat came just now, because there may be thousands to add up."""
    if not any(changed and changed.heartbeat_details for changed in tx.activities.changes.values()):
        return 0
    return sum(len(activity.heartbeat_details) for activity in tx.activities)


def overflow_buffer(tx: Transition, limits: Limits) -> None:
    """If too many events wait, fails the started workflow task so that they are written; nothing is ever dropped."""
    if not tx.header.has_started_task:
        return
    sizes = tx.buffered.measure(HistoryEvent.ByteSize)
    if len(sizes) <= limits.buffered_events and (len(sizes) < 2 or sum(sizes) <= limits.buffered_bytes):
        return
    workflow_task.fail(tx, workflow_task.FORCE_CLOSE, identity=lifecycle.SERVER_IDENTITY)
    # Written before the next task is scheduled: that one then counts as a further attempt.
    tx.flush()
    workflow_task.schedule(tx)
