"""What operators do to pending activities: pause, unpause, reset, change options. None of it leaves an event.

A paused activity is not handed to workers and none of its timeouts runs; an attempt that a worker has goes on, and is
told by its next heartbeat.
"""

from __future__ import annotations

import json

from perdure.api.activity.v1 import ActivityOptions
from perdure.api.command.v1 import ScheduleActivityTaskCommandAttributes
from perdure.api.common.v1 import Payload, RetryPolicy
from perdure.api.history.v1 import ActivityTaskScheduledEventAttributes
from perdure.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from perdure.core.run import activity, properties, retry
from perdure.core.run.protos import duration_ns, set_duration
from perdure.core.run.state import Activity
from perdure.core.run.transition import Transition

NOT_FOUND = "Can't find pending activity with such ID. Invalid activityID or activity already completed"
PAUSE_INFO = "TemporalPauseInfo"
"""The search attribute that says what of a run is paused."""


# --- which ---


def chosen(tx: Transition, *, activity_id: str = "", activity_type: str = "") -> list[Activity]:
    """Editable copies of the pending activities of an id or a type, or of all.

    Raises:
        NotFoundError: the run is closed, or there is none.
    """
    if not tx.header.is_open:
        raise NotFoundError(activity.RUN_CLOSED)
    if activity_id:
        pending = activity.by_id(tx, activity_id)
        found = [pending] if pending is not None else []
    else:
        found = [pending for pending in tx.activities if activity_type in ("", pending.activity_type)]
    if not found:
        raise NotFoundError(NOT_FOUND)
    return [tx.activities.edit(pending.scheduled_event_id) for pending in found]


# --- pause and unpause ---


def pause(tx: Transition, pending: Activity, *, identity: str, reason: str, request_id: str) -> None:
    """Pauses an activity, once per request id.

    Raises:
        FailedPreconditionError: it is paused by another request.
    """
    if pending.paused_ns:
        if pending.pause_request_id == request_id:
            return
        raise FailedPreconditionError("activity is already paused")
    if not pending.started_ns:
        pending.stamp += 1
    pending.paused_ns = tx.now_ns
    pending.pause_identity = identity
    pending.pause_reason = reason
    pending.pause_request_id = request_id
    pending.is_adjusted = True
    note_pauses(tx)


def unpause(
    tx: Transition,
    pending: Activity,
    *,
    resets_attempts: bool = False,
    resets_heartbeat: bool = False,
    jitter_ns: int = 0,
) -> None:
    """Lets a paused activity go on: an attempt that no worker has is due now, or `jitter_ns` later."""
    if not pending.paused_ns:
        return
    _clear_pause(tx, pending)
    if resets_attempts:
        pending.attempt = 1
    if resets_heartbeat:
        _forget_heartbeat(pending)
    if not pending.started_ns:
        _reschedule(tx, pending, tx.now_ns + jitter_ns)


def _clear_pause(tx: Transition, pending: Activity) -> None:
    pending.paused_ns = 0
    pending.pause_identity = pending.pause_reason = pending.pause_request_id = ""
    pending.stamp += 1
    note_pauses(tx)


def _forget_heartbeat(pending: Activity) -> None:
    pending.heartbeat_details = b""
    pending.last_heartbeat_ns = 0


def _reschedule(tx: Transition, pending: Activity, at_ns: int) -> None:
    """The attempt that waits is due at another time; what went wrong before it is forgotten."""
    pending.scheduled_ns = at_ns
    pending.backing_off = at_ns > tx.now_ns
    pending.last_failure = b""
    if pending.resets_heartbeat:
        _forget_heartbeat(pending)
    pending.is_reset = pending.resets_heartbeat = False


def note_pauses(tx: Transition) -> None:
    """Says in the run's search attributes what of it is paused."""
    entries: list[str] = []
    if tx.header.paused_ns:
        entries.append(f"Workflow:{tx.state.run.workflow_id}")
        if tx.header.pause_reason:
            entries.append(f"Reason:{tx.header.pause_reason}")
    types = {pending.activity_type for pending in tx.activities if pending.paused_ns}
    entries += [f"property:activityType={name}" for name in sorted(types)]
    fields = properties.search_attributes(tx)
    if entries:
        payload = Payload(data=json.dumps(entries, separators=(",", ":")).encode())
        payload.metadata["encoding"] = b"json/plain"
        payload.metadata["type"] = b"KeywordList"
        fields.indexed_fields[PAUSE_INFO].CopyFrom(payload)
    else:
        fields.indexed_fields.pop(PAUSE_INFO, None)
    tx.blobs.put(properties.SEARCH_ATTRIBUTES, fields.SerializeToString(deterministic=True))
    tx.visibility_changed = True


# --- reset ---


def reset(
    tx: Transition,
    pending: Activity,
    *,
    resets_heartbeat: bool = False,
    keeps_paused: bool = False,
    jitter_ns: int = 0,
    original: ActivityTaskScheduledEventAttributes | None = None,
) -> None:
    """Begins an activity again at its first attempt; one that a worker has is told to, and starts again if it fails.

    Args:
        tx: the transition.
        pending: its editable copy.
        resets_heartbeat: the next attempt gets no heartbeat details.
        keeps_paused: a paused activity stays paused.
        jitter_ns: how much later than now an attempt that no worker has is due.
        original: its scheduled event's attributes, if its options, without the priority, are to be those again.
    """
    was_paused = pending.paused_ns > 0
    pending.attempt = 1
    pending.is_adjusted = True
    pending.is_reset = True
    pending.resets_heartbeat = pending.resets_heartbeat or resets_heartbeat
    if original is not None:
        priority = pending.priority
        take_options(pending, options_of_event(original))
        pending.priority = priority
        pending.stamp += 1
    if was_paused and not keeps_paused:
        _clear_pause(tx, pending)
    if pending.started_ns or pending.paused_ns:
        return
    if not was_paused:
        pending.stamp += 1
    _reschedule(tx, pending, tx.now_ns + jitter_ns)


# --- options ---


def options(pending: Activity) -> ActivityOptions:
    """The options that a pending activity has now."""
    found = ActivityOptions()
    found.task_queue.name = pending.task_queue
    found.task_queue.kind = "TASK_QUEUE_KIND_NORMAL"  # type: ignore[assignment]  # by name
    set_duration(found.schedule_to_close_timeout, pending.schedule_to_close_ns)
    set_duration(found.schedule_to_start_timeout, pending.schedule_to_start_ns)
    set_duration(found.start_to_close_timeout, pending.start_to_close_ns)
    set_duration(found.heartbeat_timeout, pending.heartbeat_ns)
    policy: RetryPolicy = found.retry_policy
    set_duration(policy.initial_interval, pending.initial_interval_ns)
    set_duration(policy.maximum_interval, pending.maximum_interval_ns)
    policy.backoff_coefficient = pending.backoff_coefficient
    policy.maximum_attempts = pending.maximum_attempts
    if pending.priority:
        found.priority.ParseFromString(pending.priority)
    return found


def options_of_event(event: ActivityTaskScheduledEventAttributes) -> ActivityOptions:
    """The options that an activity was scheduled with."""
    found = ActivityOptions()
    found.task_queue.name = event.task_queue.name
    for name in (
        "schedule_to_close_timeout",
        "schedule_to_start_timeout",
        "start_to_close_timeout",
        "heartbeat_timeout",
        "retry_policy",
        "priority",
    ):
        if event.HasField(name):
            getattr(found, name).CopyFrom(getattr(event, name))
    return found


def set_options(
    tx: Transition, pending: Activity, update: ActivityOptions, paths: set[str]
) -> ActivityOptions:
    """Changes the options that `paths` name, in the words of the message's fields.

    Returns:
        all options as they are now.

    Raises:
        InvalidArgumentError: a path is given without a value that it needs, or the options make no sense together.
    """
    merged = options(pending)
    merge(merged, update, paths)
    retry.fill_defaults(merged.retry_policy)
    if any(path.startswith("retry_policy") for path in paths):
        retry.validate(merged.retry_policy)
    attributes = ScheduleActivityTaskCommandAttributes(activity_id=pending.activity_id)
    attributes.activity_type.name = pending.activity_type
    attributes.task_queue.CopyFrom(merged.task_queue)
    for name in _TIMEOUTS:
        getattr(attributes, name).CopyFrom(getattr(merged, name))
    activity.check_options(attributes)
    for name in _TIMEOUTS:
        getattr(merged, name).CopyFrom(getattr(attributes, name))
    return apply_options(tx, pending, merged)


def apply_options(tx: Transition, pending: Activity, wanted: ActivityOptions) -> ActivityOptions:
    """Gives a pending activity these options; an attempt that no worker has is dispatched anew under them."""
    take_options(pending, wanted)
    pending.stamp += 1
    pending.is_adjusted = True
    if not pending.started_ns and not pending.paused_ns:
        _reschedule(tx, pending, _next_ns(pending))
    return wanted


_TIMEOUTS = (
    "schedule_to_close_timeout",
    "schedule_to_start_timeout",
    "start_to_close_timeout",
    "heartbeat_timeout",
)
_WHOLE = (*_TIMEOUTS, "priority")
_PARTS = ("task_queue", "priority", "retry_policy")
_MISSING = {
    "task_queue": "TaskQueue is not provided",
    "priority": "Priority is not provided",
    "retry_policy": "RetryPolicy is not provided",
}


def merge(target: ActivityOptions, update: ActivityOptions, paths: set[str]) -> None:
    """Takes over from `update` what `paths` name: a field, or a field of a message with a dot between.

    A list in a message, such as the errors that a policy does not retry, is not changed by itself.

    Raises:
        InvalidArgumentError: a part of a message is named that is not given.
    """
    for path in sorted(paths):
        name, _, part = path.partition(".")
        if not part and name in _WHOLE:
            target.ClearField(name)  # type: ignore[arg-type]  # a row of the table above
            if update.HasField(name):  # type: ignore[arg-type]
                getattr(target, name).CopyFrom(getattr(update, name))
            continue
        if name not in _PARTS or (not part and name != "retry_policy"):
            continue
        if not update.HasField(name):  # type: ignore[arg-type]
            raise InvalidArgumentError(_MISSING[name])
        source, changed = getattr(update, name), getattr(target, name)
        if not part:
            changed.CopyFrom(source)
        elif part in source.DESCRIPTOR.fields_by_name:
            field = source.DESCRIPTOR.fields_by_name[part]
            if field.is_repeated:
                continue
            if field.message_type is None:
                setattr(changed, part, getattr(source, part))
            else:
                getattr(changed, part).CopyFrom(getattr(source, part))


def take_options(pending: Activity, wanted: ActivityOptions) -> None:
    pending.task_queue = wanted.task_queue.name
    pending.schedule_to_close_ns = duration_ns(wanted.schedule_to_close_timeout)
    pending.schedule_to_start_ns = duration_ns(wanted.schedule_to_start_timeout)
    pending.start_to_close_ns = duration_ns(wanted.start_to_close_timeout)
    pending.heartbeat_ns = duration_ns(wanted.heartbeat_timeout)
    policy = wanted.retry_policy
    pending.initial_interval_ns = duration_ns(policy.initial_interval)
    pending.maximum_interval_ns = duration_ns(policy.maximum_interval)
    pending.backoff_coefficient = policy.backoff_coefficient
    pending.maximum_attempts = policy.maximum_attempts
    pending.priority = wanted.priority.SerializeToString() if wanted.HasField("priority") else b""


def _next_ns(pending: Activity) -> int:
    """When the waiting attempt is due under the retry policy that the activity has now."""
    if pending.attempt <= 1:
        return pending.scheduled_ns
    return pending.last_attempt_complete_ns + retry.interval_ns(
        pending.initial_interval_ns, pending.backoff_coefficient, pending.attempt, pending.maximum_interval_ns
    )
