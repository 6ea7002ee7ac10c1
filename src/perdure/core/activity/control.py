"""What clients and operators do to a standalone activity: cancel, terminate, pause, unpause, reset, options, links.

Each request may come twice under one request id; the second one finds what the first did and does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.api.activity.v1 import ActivityOptions
from perdure.api.command.v1 import ScheduleActivityTaskCommandAttributes
from perdure.api.common.v1 import Link
from perdure.api.workflowservice.v1 import StartActivityExecutionRequest
from perdure.core.activity.state import ActivityHeader, ActivityTransition
from perdure.core.errors import FailedPreconditionError
from perdure.core.run import activity, activity_control, retry
from perdure.core.run.protos import duration_ns, set_duration
from perdure.core.run.state import RUNNING

MAX_LINKS = 2_000
"""Links of one execution."""
_CLOSED_NAMES = {2: "Completed", 3: "Failed", 4: "Canceled", 5: "Terminated", 7: "TimedOut"}
_OPTION_FIELDS = (
    "schedule_to_close_timeout",
    "schedule_to_start_timeout",
    "start_to_close_timeout",
    "heartbeat_timeout",
    "retry_policy",
    "priority",
)


def state_name(header: ActivityHeader) -> str:
    """What messages call the state that an execution is in."""
    if header.status != RUNNING:
        return _CLOSED_NAMES[header.status]
    if not header.is_with_worker:
        return "Paused" if header.attempt.paused_ns else "Scheduled"
    if header.cancel_ns:
        return "CancelRequested"
    if header.attempt.is_reset:
        return "ResetRequested"
    return "PauseRequested" if header.attempt.paused_ns else "Started"


# --- cancel


def request_cancel(tx: ActivityTransition, *, request_id: str, identity: str, reason: str) -> bool:
    """Asks for the cancellation of an execution.

    Returns:
        whether no worker has it, so that it is to be closed at once.

    Raises:
        FailedPreconditionError: it is closed, or its cancellation was requested by another request.
    """
    header = tx.header
    if request_id and header.cancel_request_id == request_id:
        return False
    if not header.is_open:
        raise FailedPreconditionError(f"activity is in terminal state {state_name(header)}")
    if header.cancel_ns:
        raise FailedPreconditionError(
            f"cancellation already requested with request ID {header.cancel_request_id}"
        )
    header.cancel_ns = tx.now_ns
    header.cancel_request_id = request_id
    header.cancel_identity = identity
    header.cancel_reason = reason
    # It takes precedence over what else the worker was to hear of.
    header.reset_restores_options = header.reset_keeps_paused = False
    tx.attempt.is_reset = tx.attempt.resets_heartbeat = False
    if not header.is_with_worker:
        return True
    _forget_pause(tx)
    return False


# --- pause and unpause


def pause(tx: ActivityTransition, *, request_id: str, identity: str, reason: str) -> None:
    """Keeps an execution from further attempts.

    Raises:
        FailedPreconditionError: it is not in a state for it.
    """
    header, attempt = tx.header, tx.attempt
    if request_id and header.pause_request_id == request_id:
        return
    name = state_name(header)
    if name not in ("Scheduled", "Started"):
        raise FailedPreconditionError(f"activity is in non-pausable state {name}")
    header.pause_request_id = request_id
    attempt.paused_ns = tx.now_ns
    attempt.pause_identity = identity
    attempt.pause_reason = reason
    if not header.is_with_worker:
        attempt.stamp += 1
        tx.visibility_changed = True


def unpause(tx: ActivityTransition, *, request_id: str, jitter_ns: int) -> None:
    """Lets a paused execution go on, after what is left of its backoff.

    Raises:
        FailedPreconditionError: it is not paused.
    """
    header, attempt = tx.header, tx.attempt
    if request_id and header.unpause_request_id == request_id:
        return
    if not header.is_open:
        raise FailedPreconditionError(f"activity is in terminal state {state_name(header)}")
    name = state_name(header)
    if name not in ("Paused", "PauseRequested"):
        raise FailedPreconditionError(f"activity is in non-unpausable state {name}")
    header.unpause_request_id = request_id
    _forget_pause(tx)
    if not header.is_with_worker:
        _schedule(tx, max(header.due_ns(tx.now_ns + jitter_ns), _retry_ns(header)))
        attempt.stamp += 1


def _forget_pause(tx: ActivityTransition) -> None:
    attempt = tx.attempt
    if attempt.paused_ns and not attempt.started_ns:
        tx.visibility_changed = True
    attempt.paused_ns = 0
    attempt.pause_identity = attempt.pause_reason = ""


def _retry_ns(header: ActivityHeader) -> int:
    """When the backoff that the attempt waits for is over; 0 when there is none."""
    if not header.retry_interval_ns:
        return 0
    return header.attempt.last_attempt_complete_ns + header.retry_interval_ns


def _schedule(tx: ActivityTransition, at_ns: int) -> None:
    tx.attempt.scheduled_ns = at_ns
    tx.attempt.backing_off = at_ns > tx.now_ns


# --- reset


def reset(
    tx: ActivityTransition,
    *,
    request_id: str,
    keeps_paused: bool,
    clears_heartbeat: bool,
    restores_options: bool,
    jitter_ns: int,
) -> None:
    """Begins an execution again at its first attempt; if a worker has it, once that attempt fails.

    Raises:
        FailedPreconditionError: it is closed, or something else is pending.
    """
    header, attempt = tx.header, tx.attempt
    if request_id and header.reset_request_id == request_id:
        return
    if not header.is_open:
        raise FailedPreconditionError("activity execution is not running")
    if header.is_with_worker:
        if header.cancel_ns:
            raise FailedPreconditionError("cannot reset an activity with a pending cancellation")
        if attempt.is_reset:
            raise FailedPreconditionError("cannot reset an activity with a pending reset")
        header.reset_keeps_paused = keeps_paused and attempt.paused_ns != 0
        if not keeps_paused:
            _forget_pause(tx)
        header.reset_restores_options = restores_options
        attempt.resets_heartbeat = clears_heartbeat
        attempt.is_reset = True
    else:
        header.reset_restores_options = restores_options
        attempt.resets_heartbeat = clears_heartbeat
        header.reset_keeps_paused = keeps_paused and attempt.paused_ns != 0
        attempt.stamp += 1
        begin_again(tx, jitter_ns)
    header.reset_request_id = request_id


def begin_again(tx: ActivityTransition, jitter_ns: int = 0) -> None:
    """Does what a reset asked for, now that no worker has the execution: its next attempt is the first."""
    header, attempt = tx.header, tx.attempt
    if header.reset_restores_options:
        _take(tx, options_of_request(tx.state.request))
    if attempt.resets_heartbeat:
        attempt.heartbeat_details = b""
        attempt.last_heartbeat_ns = 0
    if not header.reset_keeps_paused:
        _forget_pause(tx)
    attempt.attempt = 1
    header.retry_interval_ns = 0
    header.is_interval_given = False
    _schedule(tx, header.due_ns(tx.now_ns + jitter_ns))
    header.reset_restores_options = header.reset_keeps_paused = False
    attempt.is_reset = attempt.resets_heartbeat = False
    tx.visibility_changed = True


# --- options


def options(header: ActivityHeader) -> ActivityOptions:
    """The options that an execution has now."""
    found = activity_control.options(header.attempt)
    found.retry_policy.non_retryable_error_types.extend(header.attempt.non_retryable_types)
    if header.start_delay_ns:
        set_duration(found.start_delay, header.start_delay_ns)
    return found


def options_of_request(request: StartActivityExecutionRequest) -> ActivityOptions:
    """The options that an execution was started with."""
    found = ActivityOptions(task_queue=request.task_queue)
    for name in (*_OPTION_FIELDS, "start_delay"):
        if request.HasField(name):  # type: ignore[arg-type]  # rows of the table above
            getattr(found, name).CopyFrom(getattr(request, name))
    return found


def set_options(
    tx: ActivityTransition, request_id: str, update: ActivityOptions, paths: set[str], *, restores: bool
) -> None:
    """Changes options; timeouts and backoff that run now run anew under them.

    Args:
        tx: the transition.
        request_id: of the request.
        update: new values.
        paths: which, in the words of the message's fields.
        restores: the original ones instead.

    Raises:
        FailedPreconditionError: it is not in a state for it.
        InvalidArgumentError: the options make no sense together.
    """
    header = tx.header
    if request_id and header.options_request_id == request_id:
        return
    name = state_name(header)
    if name in ("CancelRequested", "ResetRequested") or not header.is_open:
        raise FailedPreconditionError(f"Cannot update options for activity in state {name}")
    if "start_delay" in paths and header.first_started_ns:
        _refuse_start_delay()
    if "start_delay" in paths and not (tx.now_ns < header.first_due_ns or header.is_waiting_paused):
        _refuse_start_delay()
    if restores:
        wanted = options_of_request(tx.state.request)
    else:
        wanted = _merged(header, update, paths)
    _take(tx, wanted)
    header.options_request_id = request_id
    tx.visibility_changed = True
    _apply_policy(tx, changes_policy=restores or any(path.startswith("retry_policy") for path in paths))
    tx.attempt.stamp += 1
    if not header.is_with_worker and not tx.attempt.paused_ns:
        _schedule(tx, _retry_ns(header) or header.due_ns(tx.now_ns))


def _refuse_start_delay() -> None:
    raise FailedPreconditionError(
        "cannot update start_delay: the first activity attempt has already been dispatched"
    )


def _merged(header: ActivityHeader, update: ActivityOptions, paths: set[str]) -> ActivityOptions:
    merged = options(header)
    activity_control.merge(merged, update, paths)
    if "start_delay" in paths:
        merged.start_delay.CopyFrom(update.start_delay)
    if any(path.startswith("retry_policy") for path in paths):
        retry.fill_defaults(merged.retry_policy)
        retry.validate(merged.retry_policy)
    attributes = ScheduleActivityTaskCommandAttributes(activity_id=header.attempt.activity_id)
    attributes.activity_type.name = header.attempt.activity_type
    attributes.task_queue.CopyFrom(merged.task_queue)
    timeouts = [name for name in _OPTION_FIELDS if name.endswith("timeout")]
    for name in timeouts:
        getattr(attributes, name).CopyFrom(getattr(merged, name))
    activity.check_options(attributes)
    for name in timeouts:
        getattr(merged, name).CopyFrom(getattr(attributes, name))
    return merged


def _take(tx: ActivityTransition, wanted: ActivityOptions) -> None:
    header, attempt = tx.header, tx.attempt
    activity_control.take_options(attempt, wanted)
    attempt.non_retryable_types = list(wanted.retry_policy.non_retryable_error_types)
    if not header.first_started_ns:
        header.start_delay_ns = duration_ns(wanted.start_delay)
    attempt.first_scheduled_ns = header.first_due_ns


def _apply_policy(tx: ActivityTransition, *, changes_policy: bool) -> None:
    """A wait between attempts that followed from the policy follows from the new one."""
    header, attempt = tx.header, tx.attempt
    waits = not header.is_with_worker and header.retry_interval_ns and not header.is_interval_given
    if changes_policy and waits:
        header.retry_interval_ns = retry.interval_ns(
            attempt.initial_interval_ns,
            attempt.backoff_coefficient,
            attempt.attempt - 1,
            attempt.maximum_interval_ns,
        )


# --- links


def attach_links(tx: ActivityTransition, request_id: str, links: Sequence[Link]) -> None:
    """Attaches links, once per request id.

    Raises:
        FailedPreconditionError: it is closed, or would have too many.
    """
    state = tx.state
    if not links or request_id in state.links or request_id == tx.header.start_request_id:
        return
    if not tx.header.is_open:
        raise FailedPreconditionError("cannot attach links to a closed activity")
    count = len(state.all_links)
    if count + len(links) > MAX_LINKS:
        raise FailedPreconditionError(
            f"cannot attach more than {MAX_LINKS} links to an activity ({count} links already attached)"
        )
    tx.new_links[request_id] = tuple(links)
