"""What workers and time do to a standalone activity: start, take, heartbeat, outcome, retry, the four timeouts.

An execution without a worker waits, backs off or is paused; with one it runs, or the worker has yet to hear of a
cancellation, a reset or a pause (in this order: one hides the next).
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.api.activity.v1 import ActivityExecutionOutcome
from perdure.api.command.v1 import ScheduleActivityTaskCommandAttributes
from perdure.api.common.v1 import Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import ActivityTaskScheduledEventAttributes
from perdure.api.workflowservice.v1 import StartActivityExecutionRequest
from perdure.core.activity import control
from perdure.core.activity.state import ActivityHeader, ActivityRun, ActivityTransition
from perdure.core.errors import InvalidArgumentError, NotFoundError
from perdure.core.run import activity, attempts, lifecycle, retry
from perdure.core.run.activity import ActivityToken
from perdure.core.run.limits import Limits
from perdure.core.run.protos import duration_ns
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunHeader

NO_DETAILS = "activity task failed without failure details"
_SHARED = (
    "activity_type",
    "task_queue",
    "schedule_to_close_timeout",
    "schedule_to_start_timeout",
    "start_to_close_timeout",
    "heartbeat_timeout",
    "retry_policy",
)
"""Fields that a start request and a workflow's command to schedule have in common and that are normalised."""
_ENDS_AT_ONCE = (retry.SCHEDULE_TO_START, retry.SCHEDULE_TO_CLOSE)


# --- start


def normalize(request: StartActivityExecutionRequest, limits: Limits) -> None:
    """Fills in what a request leaves open and checks it as a workflow's command to schedule is.

    Raises:
        InvalidArgumentError: the message names the field.
    """
    attributes = ScheduleActivityTaskCommandAttributes(activity_id=request.activity_id)
    for name in (*_SHARED, "priority"):
        if request.HasField(name):  # type: ignore[arg-type]  # rows of the table above
            getattr(attributes, name).CopyFrom(getattr(request, name))
    activity.normalize(attributes, RunHeader(), limits)
    for name in _SHARED:
        getattr(request, name).CopyFrom(getattr(attributes, name))


def start(
    run: RunKey, request: StartActivityExecutionRequest, namespace: str, retention_ns: int, now_ns: int
) -> ActivityTransition:
    """The first transition of an execution.

    Args:
        run: which.
        request: normalised; not changed afterwards.
        namespace: its name, for workers.
        retention_ns: how long it is kept after it closed.
        now_ns: nanoseconds since the epoch.
    """
    header = ActivityHeader(
        namespace=namespace,
        start_request_id=request.request_id,
        schedule_ns=now_ns,
        start_delay_ns=duration_ns(request.start_delay),
        retention_ns=retention_ns,
    )
    attributes = ActivityTaskScheduledEventAttributes(activity_id=request.activity_id)
    for name in (*_SHARED, "priority"):
        if request.HasField(name):  # type: ignore[arg-type]  # rows of the table above
            getattr(attributes, name).CopyFrom(getattr(request, name))
    header.attempt = activity.scheduled(1, attributes, header.first_due_ns)
    header.attempt.backing_off = header.start_delay_ns > 0
    return ActivityTransition(ActivityRun(run, 0, header, request), now_ns)


# --- an attempt


def take(
    tx: ActivityTransition, request_id: str, identity: str, sdk_name: str = "", sdk_version: str = ""
) -> None:
    """A worker takes the waiting attempt. The library and its version are said as far as the worker says them."""
    header = tx.header
    attempts.begin(tx.attempt, tx.now_ns, request_id, identity)
    header.last_started_ns = tx.now_ns
    header.first_started_ns = header.first_started_ns or tx.now_ns
    header.sdk_name, header.sdk_version = sdk_name, sdk_version


def check_token(tx: ActivityTransition, token: ActivityToken, *, may_wait: bool = False) -> None:
    """Checks that a worker's answer is about the attempt that is with a worker now.

    Args:
        tx: the transition.
        token: without attempt for an answer by id, which fits any.
        may_wait: an answer by id may come although no worker has it.

    Raises:
        NotFoundError: it is closed, or that attempt is over.
    """
    fits = not token.attempt or (token.attempt, token.started_ns) == (
        tx.attempt.attempt,
        tx.attempt.started_ns,
    )
    is_expected = tx.header.is_with_worker or (may_wait and not token.attempt)
    if not tx.header.is_open or not fits or not is_expected:
        raise NotFoundError(f"activity not found for ID: {tx.state.run.workflow_id}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a worker is told with the answer to a heartbeat."""

    cancel: bool = False
    pause: bool = False
    reset: bool = False


def heartbeat(tx: ActivityTransition, details: Payloads | None) -> Asked:
    """The worker says that the attempt is alive."""
    attempts.beat(tx.attempt, tx.now_ns, details)
    tx.header.heartbeat_count += 1
    if tx.header.cancel_ns:
        return Asked(cancel=True)
    if tx.attempt.is_reset:
        return Asked(reset=True)
    return Asked(pause=tx.attempt.paused_ns != 0)


def complete(tx: ActivityTransition, result: Payloads | None, identity: str) -> None:
    """The attempt succeeded; or somebody says so of an activity that no worker has."""
    if not tx.attempt.started_ns:
        tx.header.last_started_ns = tx.now_ns
        tx.header.first_started_ns = tx.header.first_started_ns or tx.now_ns
    tx.attempt.last_attempt_complete_ns = tx.now_ns
    tx.attempt.worker_identity = identity
    outcome = ActivityExecutionOutcome()
    outcome.result.SetInParent()
    if result is not None:
        outcome.result.CopyFrom(result)
    _close(tx, lifecycle.STATUS_COMPLETED, outcome)


def fail(tx: ActivityTransition, failure: Failure | None, identity: str, limits: Limits) -> None:
    """The attempt failed: another one follows, or the execution closes."""
    state = _after(tx, failure or Failure(), limits)
    if state == retry.IN_PROGRESS:
        return
    tx.attempt.last_attempt_complete_ns = tx.now_ns
    tx.attempt.worker_identity = identity
    tx.header.is_outcome_last_failure = True
    # A closed execution without an outcome could not be told from one that has none yet.
    outcome = _failed(failure or Failure(message=NO_DETAILS), state)
    _close(tx, lifecycle.STATUS_FAILED, outcome)


def cancel(tx: ActivityTransition, details: Payloads | None) -> None:
    """The worker confirms a requested cancellation.

    Raises:
        InvalidArgumentError: nobody asked for it.
    """
    if not tx.header.cancel_ns:
        raise InvalidArgumentError(
            "unable to mark activity as canceled without activity being request canceled first"
        )
    close_canceled(tx, details)


def close_canceled(tx: ActivityTransition, details: Payloads | None) -> None:
    """Closes an execution whose cancellation was requested."""
    failure = Failure(message="Activity canceled")
    failure.canceled_failure_info.identity = tx.header.cancel_identity
    if details is not None:
        failure.canceled_failure_info.details.CopyFrom(details)
    _close(tx, lifecycle.STATUS_CANCELED, _failed(failure))


def close_terminated(tx: ActivityTransition, reason: str, identity: str) -> None:
    """Closes an execution at once."""
    failure = Failure(message=reason)
    failure.terminated_failure_info.identity = identity
    _close(tx, lifecycle.STATUS_TERMINATED, _failed(failure))


def _failed(failure: Failure, state: int = 0) -> ActivityExecutionOutcome:
    return ActivityExecutionOutcome(failure=failure, retry_state=state)  # type: ignore[arg-type]  # a number


def _close(tx: ActivityTransition, status: int, outcome: ActivityExecutionOutcome) -> None:
    tx.header.status = status
    tx.header.close_ns = tx.now_ns
    tx.outcome = outcome
    tx.visibility_changed = True


def _after(tx: ActivityTransition, failure: Failure, limits: Limits) -> int:
    """Makes the attempt that follows one that failed, if one does.

    Returns:
        the retry state: IN_PROGRESS, or why none does.
    """
    header, attempt = tx.header, tx.attempt
    if attempt.is_reset:
        attempts.end(attempt, failure, limits)
        attempt.last_attempt_complete_ns = tx.now_ns
        control.begin_again(tx)
        return retry.IN_PROGRESS
    if header.cancel_ns:
        return retry.CANCEL_REQUESTED
    refused = attempts.refusal(attempt, failure)
    if refused != retry.IN_PROGRESS:
        return refused
    decision = attempts.next_attempt(attempt, failure, tx.now_ns)
    if decision.state != retry.IN_PROGRESS:
        return decision.state
    attempts.end(attempt, failure, limits)
    attempts.back_off(attempt, tx.now_ns, decision.delay_ns)
    attempt.last_attempt_complete_ns = tx.now_ns
    header.retry_interval_ns = decision.delay_ns
    header.is_interval_given = failure.application_failure_info.HasField("next_retry_delay")
    if attempt.paused_ns:
        tx.visibility_changed = True  # it was asked to pause, now it is paused
    return retry.IN_PROGRESS


# --- time


def deadlines(header: ActivityHeader) -> list[tuple[int, int]]:
    """(time, timeout type) of every timeout that runs now, and (time, 0) for the moment the attempt is due. A paused
    activity that no worker has only has its schedule-to-close timeout."""
    if not header.is_open:
        return []
    found = attempts.deadlines(header.attempt)
    if header.is_waiting_paused:
        return [deadline for deadline in found if deadline[1] == retry.SCHEDULE_TO_CLOSE]
    return found


def next_wakeup_ns(header: ActivityHeader) -> int | None:
    """When the execution must be looked at again at the latest; a closed one at the end of its retention."""
    if not header.is_open:
        return header.close_ns + header.retention_ns
    return min((time_ns for time_ns, _ in deadlines(header)), default=None)


def fire(tx: ActivityTransition, limits: Limits) -> None:
    """Does everything that is due at `tx.now_ns`, in order of time."""
    for due in sorted(deadlines(tx.header)):
        if due[0] > tx.now_ns or due not in deadlines(tx.header):
            continue
        if due[1] == attempts.DISPATCH:
            tx.attempt.backing_off = False
        else:
            _time_out(tx, due[1], limits)


def _time_out(tx: ActivityTransition, timeout_type: int, limits: Limits) -> None:
    attempt = tx.attempt
    failure = attempts.timeout_failure(timeout_type)
    if timeout_type in _ENDS_AT_ONCE:
        is_canceled = timeout_type == retry.SCHEDULE_TO_CLOSE and tx.header.cancel_ns
        closing = attempts.closing_timeout(attempt, failure, no_time_for_retry=False)
        reason = retry.CANCEL_REQUESTED if is_canceled else retry.TIMEOUT
        _close(tx, lifecycle.STATUS_TIMED_OUT, _failed(closing, reason))
        return
    state = _after(tx, failure, limits)
    if state == retry.IN_PROGRESS:
        return
    no_time = state == retry.TIMEOUT
    closing = attempts.closing_timeout(attempt, failure, no_time_for_retry=no_time)
    if no_time:
        own = attempts.closing_timeout(attempt, failure, no_time_for_retry=False)
        attempt.last_failure = own.SerializeToString()
    tx.header.is_outcome_last_failure = not no_time
    attempt.last_attempt_complete_ns = tx.now_ns
    _close(tx, lifecycle.STATUS_TIMED_OUT, _failed(closing, state))
