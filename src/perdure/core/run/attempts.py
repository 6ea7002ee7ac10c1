"""What an attempt of an activity is, whoever scheduled it: taken by a worker, alive, over, tried again, timed out.

Pure functions over one `Activity` record and a time. What is written about an attempt (a workflow's events, a
standalone activity's outcome) is said by those who call them; nothing of that may live here.
"""

from __future__ import annotations

from collections.abc import Iterator

from perdure.api.common.v1 import Payloads
from perdure.api.failure.v1 import Failure
from perdure.core.run import retry
from perdure.core.run.failures import truncated_failure
from perdure.core.run.limits import Limits
from perdure.core.run.state import Activity

NO_TIME_FOR_RETRY = (
    "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying"
)
DISPATCH = 0
"""In the place of a timeout's type: the end of a backoff."""
_NEVER_RETRIED = (retry.SCHEDULE_TO_START, retry.SCHEDULE_TO_CLOSE)


def begin(activity: Activity, now_ns: int, request_id: str, identity: str) -> None:
    """A worker takes the waiting attempt."""
    activity.started_ns = now_ns
    activity.backing_off = False
    activity.request_id = request_id
    activity.worker_identity = identity


def beat(activity: Activity, now_ns: int, details: Payloads | None) -> None:
    """The worker says that the attempt is alive, with progress to carry into the next attempt."""
    activity.last_heartbeat_ns = now_ns
    activity.heartbeat_details = details.SerializeToString() if details is not None else b""


def end(activity: Activity, failure: Failure, limits: Limits) -> None:
    """The attempt is over without success; the next one has its number, and nobody has it."""
    activity.attempt += 1
    activity.stamp += 1
    activity.started_ns = 0
    activity.request_id = ""
    activity.last_failure = truncated_failure(failure, limits.stored_failure_bytes).SerializeToString()


def back_off(activity: Activity, now_ns: int, delay_ns: int) -> None:
    """The next attempt is due after `delay_ns`."""
    activity.scheduled_ns = now_ns + delay_ns
    activity.backing_off = delay_ns > 0


def refusal(activity: Activity, failure: Failure) -> int:
    """Why no attempt follows one that ended like this, whatever the policy's counts and times say.

    Returns:
        a retry state; IN_PROGRESS: nothing speaks against it.
    """
    is_timeout = failure.WhichOneof("failure_info") == "timeout_failure_info"
    if is_timeout and failure.timeout_failure_info.timeout_type in _NEVER_RETRIED:
        return retry.TIMEOUT
    if not retry.is_retryable(failure, activity.non_retryable_types):
        return retry.NON_RETRYABLE
    return retry.IN_PROGRESS


def next_attempt(activity: Activity, failure: Failure, now_ns: int) -> retry.Decision:
    """Whether the policy has another attempt after the one that failed now, and after how long."""
    return retry.next_attempt(
        now_ns=now_ns,
        attempt=activity.attempt,
        maximum_attempts=activity.maximum_attempts,
        initial_interval_ns=activity.initial_interval_ns,
        maximum_interval_ns=activity.maximum_interval_ns,
        backoff_coefficient=activity.backoff_coefficient,
        expiration_ns=activity.expiration_ns,
        failure=failure,
    )


def deadlines(activity: Activity) -> list[tuple[int, int]]:
    """(time, timeout type) of every timeout that runs now, and (time, DISPATCH) for the end of a backoff. What a
    pause changes about it is the caller's."""
    found: list[tuple[int, int]] = []
    end_ns = activity.expiration_ns
    if end_ns:
        found.append((end_ns, retry.SCHEDULE_TO_CLOSE))
    if activity.started_ns:
        # A waiting worker takes an activity in the instant in which it is scheduled. With equal limits the whole
        # activity's time is over then, as it is for a worker that came later.
        found += [limit for limit in _attempt_limits(activity) if not end_ns or limit[0] < end_ns]
    elif activity.backing_off:
        found.append((activity.scheduled_ns, DISPATCH))
    elif activity.schedule_to_start_ns:
        found.append((activity.scheduled_ns + activity.schedule_to_start_ns, retry.SCHEDULE_TO_START))
    return found


def first_deadline_ns(activity: Activity) -> int:
    """The earliest time of `deadlines`, 0 if there is none."""
    first_ns = activity.expiration_ns
    other_ns = 0
    if activity.started_ns:
        if activity.start_to_close_ns:
            other_ns = activity.started_ns + activity.start_to_close_ns
        if activity.heartbeat_ns:
            alive_ns = max(activity.started_ns, activity.last_heartbeat_ns) + activity.heartbeat_ns
            other_ns = min(other_ns, alive_ns) if other_ns else alive_ns
    elif activity.backing_off:
        other_ns = activity.scheduled_ns
    elif activity.schedule_to_start_ns:
        other_ns = activity.scheduled_ns + activity.schedule_to_start_ns
    return min(first_ns, other_ns) if first_ns and other_ns else first_ns or other_ns


def _attempt_limits(activity: Activity) -> Iterator[tuple[int, int]]:
    """(time, timeout type) of what a started attempt has to keep to."""
    if activity.start_to_close_ns:
        yield activity.started_ns + activity.start_to_close_ns, retry.START_TO_CLOSE
    if activity.heartbeat_ns:
        alive_ns = max(activity.started_ns, activity.last_heartbeat_ns)
        yield alive_ns + activity.heartbeat_ns, retry.HEARTBEAT


def timeout_failure(timeout_type: int, source: str = "") -> Failure:
    """The failure of an attempt that timed out."""
    failure = Failure(message=f"activity {retry.TIMEOUT_NAMES[timeout_type]} timeout", source=source)
    failure.timeout_failure_info.timeout_type = timeout_type  # type: ignore[assignment]
    return failure


def closing_timeout(activity: Activity, failure: Failure, *, no_time_for_retry: bool) -> Failure:
    """The failure that closes an activity whose attempt timed out with `failure`.

    Args:
        activity: with the failure of the attempt before.
        failure: a timeout.
        no_time_for_retry: only the schedule-to-close timeout speaks against another attempt.
    """
    closing = failure
    if no_time_for_retry:
        closing = Failure(message=NO_TIME_FOR_RETRY, source=failure.source)
        closing.timeout_failure_info.timeout_type = retry.SCHEDULE_TO_CLOSE
    if activity.heartbeat_details:
        closing.timeout_failure_info.last_heartbeat_details.ParseFromString(activity.heartbeat_details)
    if activity.last_failure:
        closing.cause.ParseFromString(activity.last_failure)
    return closing
