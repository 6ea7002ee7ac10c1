"""Activities of a run: schedule, start, heartbeat, outcome, retry, the four timeouts, cancellation.

Attempts that fail and are retried leave no event; ActivityTaskStarted is written together with the closing event.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.api.command.v1 import ScheduleActivityTaskCommandAttributes
from perdure.api.common.v1 import Payloads, RetryPolicy, WorkerVersionStamp
from perdure.api.enums.v1 import EventType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import ActivityTaskScheduledEventAttributes, HistoryEvent
from perdure.core.errors import InvalidArgumentError, NotFoundError
from perdure.core.run import attempts, priorities, retry
from perdure.core.run.limits import Limits
from perdure.core.run.protos import checked_duration_ns, duration_ns, set_duration, text_payloads
from perdure.core.run.state import Activity, RunHeader
from perdure.core.run.transition import Transition

_SCHEDULED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED")
_STARTED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_STARTED")
_COMPLETED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_COMPLETED")
_FAILED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_FAILED")
_TIMED_OUT = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT")
_CANCELED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_CANCELED")
_CANCEL_REQUESTED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED")
_FINISHED = frozenset((_COMPLETED, _FAILED, _TIMED_OUT, _CANCELED))
_SERVER = "Server"

NOT_FOUND = "invalid activityID or activity already timed out or invoking workflow is completed"
NOT_STARTED = "ACTIVITY_ID_NOT_STARTED"
RUN_CLOSED = "workflow execution already completed"


# --- schedule ---


def normalize(attributes: ScheduleActivityTaskCommandAttributes, header: RunHeader, limits: Limits) -> None:
    """Fills in what a ScheduleActivityTask command leaves open and checks it.

    Missing timeouts follow from the others and are capped by the run timeout; missing retry policy fields get defaults.

    Raises:
        InvalidArgumentError: the message names the field.
    """
    if not attributes.HasField("task_queue"):
        raise InvalidArgumentError("taskQueue is not set")
    name = attributes.task_queue.name
    if not name:
        raise InvalidArgumentError("missing task queue name")
    if len(name.encode()) > limits.id_bytes:
        raise InvalidArgumentError("taskQueue length exceeds limit")
    if name.startswith("/_sys/"):
        raise InvalidArgumentError("task queue name cannot start with reserved prefix /_sys/")
    if attributes.task_queue.kind == 0:
        attributes.task_queue.kind = "TASK_QUEUE_KIND_NORMAL"  # type: ignore[assignment]
    if not attributes.activity_id:
        raise InvalidArgumentError("activityId is not set")
    if not attributes.activity_type.name:
        raise InvalidArgumentError("activityType is not set")
    retry.fill_defaults(attributes.retry_policy)
    retry.validate(attributes.retry_policy)
    for label, value in (
        ("activityId", attributes.activity_id),
        ("activityType", attributes.activity_type.name),
    ):
        length = len(value.encode())
        if length > limits.id_bytes:
            raise InvalidArgumentError(
                f"{label} exceeds length limit. Length={length} Limit={limits.id_bytes}"
            )
    priorities.check(attributes.priority, "invalid priorities: ")
    _normalize_timeouts(attributes, header.run_timeout_ns)
    if attributes.use_workflow_build_id and name != header.task_queue:
        raise InvalidArgumentError("Activity with UseCompatibleVersion cannot run on different task queue.")


def check_options(attributes: ScheduleActivityTaskCommandAttributes) -> None:
    """Checks the task queue and the timeouts of changed options, and fills in timeouts that follow from the others.

    Raises:
        InvalidArgumentError: the message names the field.
    """
    if not attributes.task_queue.name:
        raise InvalidArgumentError("missing task queue name")
    _normalize_timeouts(attributes, 0)


def _normalize_timeouts(attributes: ScheduleActivityTaskCommandAttributes, run_timeout_ns: int) -> None:
    close_ns = checked_duration_ns(attributes.schedule_to_close_timeout, "ScheduleToCloseTimeout")
    start_ns = checked_duration_ns(attributes.schedule_to_start_timeout, "ScheduleToStartTimeout")
    run_ns = checked_duration_ns(attributes.start_to_close_timeout, "StartToCloseTimeout")
    heartbeat_ns = checked_duration_ns(attributes.heartbeat_timeout, "HeartbeatTimeout")
    if close_ns:
        start_ns = min(start_ns, close_ns) if start_ns else close_ns
        run_ns = min(run_ns, close_ns) if run_ns else close_ns
    elif run_ns:
        close_ns = run_timeout_ns
        start_ns = start_ns or run_timeout_ns
    else:
        raise InvalidArgumentError(
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity."
            f" ActivityId={attributes.activity_id} ActivityType={attributes.activity_type.name}"
        )
    if run_timeout_ns:
        close_ns, start_ns, run_ns, heartbeat_ns = (
            min(value, run_timeout_ns) for value in (close_ns, start_ns, run_ns, heartbeat_ns)
        )
    set_duration(attributes.schedule_to_close_timeout, close_ns)
    set_duration(attributes.schedule_to_start_timeout, start_ns)
    set_duration(attributes.start_to_close_timeout, run_ns)
    set_duration(attributes.heartbeat_timeout, min(heartbeat_ns, run_ns))


def schedule(
    tx: Transition, attributes: ScheduleActivityTaskCommandAttributes, completed_event_id: int
) -> HistoryEvent:
    """Schedules an activity from normalised attributes.

    Returns:
        the ActivityTaskScheduled event.

    Raises:
        InvalidArgumentError: another pending activity has this id.
    """
    if by_id(tx, attributes.activity_id) is not None:
        raise InvalidArgumentError(
            "invalid history builder state for action: add-activitytask-scheduled-event, "
            f"ActivityID: {attributes.activity_id}"
        )
    event = tx.new_event(_SCHEDULED)
    target = event.activity_task_scheduled_event_attributes
    target.workflow_task_completed_event_id = completed_event_id
    target.activity_id = attributes.activity_id
    target.use_workflow_build_id = attributes.use_workflow_build_id
    for name in (
        "activity_type",
        "task_queue",
        "header",
        "input",
        "schedule_to_close_timeout",
        "schedule_to_start_timeout",
        "start_to_close_timeout",
        "heartbeat_timeout",
        "retry_policy",
        "priority",
    ):
        if attributes.HasField(name):
            getattr(target, name).CopyFrom(getattr(attributes, name))
    tx.append(event)
    if tx.activity_ids is not None:
        tx.activity_ids[attributes.activity_id] = event.event_id
    tx.activities.put(event.event_id, scheduled(event.event_id, target, tx.now_ns))
    return event


def scheduled(event_id: int, attributes: ActivityTaskScheduledEventAttributes, now_ns: int) -> Activity:
    """The pending activity of an ActivityTaskScheduled event, its first attempt waiting since `now_ns`."""
    policy: RetryPolicy = attributes.retry_policy
    return Activity(
        scheduled_event_id=event_id,
        activity_id=attributes.activity_id,
        activity_type=attributes.activity_type.name,
        task_queue=attributes.task_queue.name,
        priority=attributes.priority.SerializeToString() if attributes.HasField("priority") else b"",
        first_scheduled_ns=now_ns,
        scheduled_ns=now_ns,
        schedule_to_close_ns=duration_ns(attributes.schedule_to_close_timeout),
        schedule_to_start_ns=duration_ns(attributes.schedule_to_start_timeout),
        start_to_close_ns=duration_ns(attributes.start_to_close_timeout),
        heartbeat_ns=duration_ns(attributes.heartbeat_timeout),
        initial_interval_ns=duration_ns(policy.initial_interval),
        backoff_coefficient=policy.backoff_coefficient,
        maximum_interval_ns=duration_ns(policy.maximum_interval),
        maximum_attempts=policy.maximum_attempts,
        non_retryable_types=list(policy.non_retryable_error_types),
        stamp=1,
    )


# --- find ---


def by_id(tx: Transition, activity_id: str) -> Activity | None:
    """The pending activity of this id, or None."""
    ids = tx.activity_ids
    if ids is None:
        ids = tx.activity_ids = {
            activity.activity_id: activity.scheduled_event_id for activity in tx.activities
        }
    scheduled_event_id = ids.get(activity_id)
    return None if scheduled_event_id is None else tx.activities.get(scheduled_event_id)


@dataclass(frozen=True, slots=True)
class ActivityToken:
    """Which activity attempt a worker holds; a call by id has no scheduled event and fits any attempt."""

    scheduled_event_id: int = 0
    activity_id: str = ""
    attempt: int = 0
    started_ns: int = 0


def current(tx: Transition, token: ActivityToken, *, start_as: str | None = None) -> Activity:
    """The started activity that a token names, as an editable copy.

    Args:
        tx: the transition.
        token: which attempt.
        start_as: for a completion by id: an activity that no worker took is started by this identity first.
            None: it is not found.

    Raises:
        NotFoundError: the run is closed, the activity is gone, or the attempt is over.
    """
    if not tx.header.is_open:
        raise NotFoundError(RUN_CLOSED)
    if not token.scheduled_event_id:
        return _current_by_id(tx, token.activity_id, start_as)
    found = tx.activities.get(token.scheduled_event_id)
    if (
        found is None
        or not found.started_ns
        or found.attempt != token.attempt
        or found.started_ns != token.started_ns
    ):
        raise NotFoundError(NOT_FOUND)
    return tx.activities.edit(token.scheduled_event_id)


def _current_by_id(tx: Transition, activity_id: str, start_as: str | None) -> Activity:
    found = by_id(tx, activity_id)
    if found is None:
        raise NotFoundError(
            f"cannot find pending activity with ActivityID {activity_id}, check workflow execution history for "
            "more details"
        )
    if found.started_ns:
        return tx.activities.edit(found.scheduled_event_id)
    if start_as is None:
        raise NotFoundError(NOT_FOUND)
    return start(tx, found.scheduled_event_id, "", start_as)


# --- an attempt ---


def start(
    tx: Transition, scheduled_event_id: int, request_id: str, identity: str, version: str = ""
) -> Activity:
    """A worker (of a deployment's version, if it has one) takes the waiting attempt. Leaves no event yet."""
    activity = tx.activities.edit(scheduled_event_id)
    attempts.begin(activity, tx.now_ns, request_id, identity)
    activity.worker_version = version
    return activity


def heartbeat(tx: Transition, activity: Activity, details: Payloads | None) -> None:
    """The worker says that the attempt is alive, with progress to carry into the next attempt."""
    attempts.beat(activity, tx.now_ns, details)


def complete(
    tx: Transition,
    activity: Activity,
    result: Payloads | None,
    identity: str,
    version: WorkerVersionStamp | None = None,
) -> None:
    """The attempt succeeded. `version` is the worker's, if it says."""
    _close_started(tx, activity, version)
    event = tx.new_event(_COMPLETED)
    attributes = event.activity_task_completed_event_attributes
    attributes.scheduled_event_id = activity.scheduled_event_id
    if result is not None:
        attributes.result.CopyFrom(result)
    attributes.identity = identity
    _finish(tx, activity, event)


def fail(
    tx: Transition,
    activity: Activity,
    failure: Failure | None,
    identity: str,
    limits: Limits,
    version: WorkerVersionStamp | None = None,
) -> bool:
    """The attempt failed: retries it later, or closes the activity.

    Args:
        tx: the transition.
        activity: its editable copy.
        failure: why; None if the worker does not say.
        identity: the worker's.
        limits: for what is kept of the failure between attempts.
        version: the worker's, if it says.

    Returns:
        whether it is retried.
    """
    activity.last_attempt_complete_ns = tx.now_ns
    state = _retry(tx, activity, failure or Failure(), limits)
    if state == retry.IN_PROGRESS:
        return True
    _close_started(tx, activity, version)
    event = tx.new_event(_FAILED)
    attributes = event.activity_task_failed_event_attributes
    attributes.scheduled_event_id = activity.scheduled_event_id
    if failure is not None:
        attributes.failure.CopyFrom(failure)
    attributes.retry_state = state  # type: ignore[assignment]
    attributes.identity = identity
    _finish(tx, activity, event)
    return False


def cancel(tx: Transition, activity: Activity, details: Payloads | None, identity: str) -> None:
    """The worker confirms a requested cancellation.

    Raises:
        InvalidArgumentError: nobody asked for it.
    """
    if not activity.cancel_requested_event_id:
        raise InvalidArgumentError(
            "unable to mark activity as canceled without activity being request canceled first"
        )
    _close_started(tx, activity)
    event = tx.new_event(_CANCELED)
    attributes = event.activity_task_canceled_event_attributes
    attributes.scheduled_event_id = activity.scheduled_event_id
    attributes.latest_cancel_requested_event_id = activity.cancel_requested_event_id
    if details is not None:
        attributes.details.CopyFrom(details)
    attributes.identity = identity
    _finish(tx, activity, event)


def _close_started(tx: Transition, activity: Activity, version: WorkerVersionStamp | None = None) -> None:
    if not activity.started_ns:
        return
    event = tx.new_event(_STARTED, activity.started_ns)
    attributes = event.activity_task_started_event_attributes
    attributes.scheduled_event_id = activity.scheduled_event_id
    attributes.attempt = activity.attempt
    attributes.identity = activity.worker_identity
    attributes.request_id = activity.request_id
    if activity.last_failure:
        attributes.last_failure.ParseFromString(activity.last_failure)
    if version is not None:
        attributes.worker_version.CopyFrom(version)
    tx.append(event)


def _finish(tx: Transition, activity: Activity, event: HistoryEvent) -> None:
    tx.append(event)
    tx.activities.delete(activity.scheduled_event_id)
    if tx.activity_ids is not None:
        tx.activity_ids.pop(activity.activity_id, None)
    tx.needs_task = True


def _retry(tx: Transition, activity: Activity, failure: Failure, limits: Limits) -> int:
    if activity.cancel_requested_event_id:
        return retry.CANCEL_REQUESTED
    refusal = attempts.refusal(activity, failure)
    if refusal != retry.IN_PROGRESS:
        return refusal
    if activity.paused_ns:
        # It goes on when it is unpaused, whatever its retry policy says.
        attempts.end(activity, failure, limits)
        return retry.IN_PROGRESS
    decision = attempts.next_attempt(activity, failure, tx.now_ns)
    if decision.state != retry.IN_PROGRESS:
        return decision.state
    attempts.end(activity, failure, limits)
    attempts.back_off(activity, tx.now_ns, decision.delay_ns)
    if activity.resets_heartbeat:
        activity.heartbeat_details = b""
        activity.last_heartbeat_ns = 0
    activity.is_reset = activity.resets_heartbeat = False
    return retry.IN_PROGRESS


# --- cancellation request ---


def request_cancel(tx: Transition, scheduled_event_id: int, completed_event_id: int, identity: str) -> None:
    """The workflow asks for an activity's cancellation: at once if no worker has it, else told by heartbeat.

    Raises:
        InvalidArgumentError: no such activity, or asked before.
    """
    activity = tx.activities.get(scheduled_event_id)
    if (activity is None and not _has_finish_event(tx, scheduled_event_id)) or (
        activity is not None and activity.cancel_requested_event_id
    ):
        raise InvalidArgumentError(
            "invalid history builder state for action: add-activitytask-cancel-requested-event,"
            f" ScheduledEventID: {scheduled_event_id}"
        )
    event = tx.new_event(_CANCEL_REQUESTED)
    attributes = event.activity_task_cancel_requested_event_attributes
    attributes.scheduled_event_id = scheduled_event_id
    attributes.workflow_task_completed_event_id = completed_event_id
    tx.append(event)
    if activity is None:
        return
    edited = tx.activities.edit(scheduled_event_id)
    edited.cancel_requested_event_id = event.event_id
    if not edited.started_ns:
        cancel(tx, edited, text_payloads(NOT_STARTED), identity)


def _has_finish_event(tx: Transition, scheduled_event_id: int) -> bool:
    """Whether the activity's closing event is still in the buffer (its commands could not know of it)."""
    for event in tx.buffered:
        if event.event_type in _FINISHED:
            name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower() + "_event_attributes"
            if getattr(event, name).scheduled_event_id == scheduled_event_id:
                return True
    return False


# --- timeouts ---


def deadlines(activity: Activity) -> list[tuple[int, int]]:
    """(time, timeout type) of every timeout that runs now, and (time, 0) for the end of a retry's backoff."""
    return [] if activity.paused_ns else attempts.deadlines(activity)


def first_deadline_ns(activity: Activity) -> int:
    """The earliest time of `deadlines`, 0 if there is none."""
    return 0 if activity.paused_ns else attempts.first_deadline_ns(activity)


def fire(tx: Transition, scheduled_event_id: int, due_ns: int, timeout_type: int, limits: Limits) -> None:
    """Does what `deadlines` said is due, if it still is: dispatches the next attempt, or times the attempt out."""
    committed = tx.activities.get(scheduled_event_id)
    if committed is None or (due_ns, timeout_type) not in deadlines(committed):
        return
    activity = tx.activities.edit(scheduled_event_id)
    if not timeout_type:
        activity.backing_off = False
        activity.scheduled_ns = tx.now_ns
        return
    failure = attempts.timeout_failure(timeout_type, _SERVER)
    state = _retry(tx, activity, failure, limits)
    if state == retry.IN_PROGRESS:
        return
    no_time = state == retry.TIMEOUT and timeout_type != retry.SCHEDULE_TO_START
    failure = attempts.closing_timeout(activity, failure, no_time_for_retry=no_time)
    _close_started(tx, activity)
    event = tx.new_event(_TIMED_OUT)
    attributes = event.activity_task_timed_out_event_attributes
    attributes.scheduled_event_id = scheduled_event_id
    attributes.failure.CopyFrom(failure)
    attributes.retry_state = state  # type: ignore[assignment]
    _finish(tx, activity, event)
