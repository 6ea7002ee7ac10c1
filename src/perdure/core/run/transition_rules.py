"""Rules about one transition of a run before it is committed, for `perdure.core.run.invariants`.

The state before, the state after, and what is to be written. Pure, and written apart from the code that it watches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perdure.api.enums.v1 import EventType, WorkflowExecutionStatus
from perdure.api.history.v1 import History, HistoryEvent
from perdure.core.run.items import decode_run, encoded_items
from perdure.core.run.records import RunWrite
from perdure.core.run.rules import Rule, RuleTable
from perdure.core.run.state import NexusOperation, RunState, encode
from perdure.core.run.state_rules import View, derived_tasks, dispatch_of
from perdure.core.run.transition import UNBUFFERED, UNHEARD, Transition

_CLOSING: dict[int, int] = {
    EventType.Value(f"EVENT_TYPE_WORKFLOW_EXECUTION_{name}"): status
    for name, status in (
        ("COMPLETED", 2),
        ("FAILED", 3),
        ("CANCELED", 4),
        ("TERMINATED", 5),
        ("CONTINUED_AS_NEW", 6),
        ("TIMED_OUT", 7),
    )
}
_PAUSED = 8
"""The status that lists show of a paused run."""
_CONTINUED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW")
_TASK_COMPLETED = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_COMPLETED")
_OPERATION_STARTED = EventType.Value("EVENT_TYPE_NEXUS_OPERATION_STARTED")
_ACTIVITY_STARTED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_STARTED")


@dataclass(frozen=True, slots=True)
class Step:
    """One transition with what it is to write."""

    before: RunState
    tx: Transition
    after: View
    write: RunWrite


_transition: RuleTable[Step] = RuleTable()
TRANSITION_RULES: Sequence[Rule[Step]] = _transition.rules


@_transition("event ids have no gap")
def _ids_have_no_gap(step: Step) -> str | None:
    first = step.before.header.next_event_id
    ids = [event.event_id for event in step.tx.events]
    if ids != list(range(first, first + len(ids))) or step.after.header.next_event_id != first + len(ids):
        return f"{ids} after {first - 1}, next {step.after.header.next_event_id}"
    batches = [(batch.first_event_id, batch.last_event_id) for batch in step.write.events]
    return None if batches == ([(ids[0], ids[-1])] if ids else []) else f"batches {batches} for {ids}"


@_transition("what is written is what happened", cheap=False)
def _batches_hold_the_events(step: Step) -> str | None:
    data = b"".join(batch.data for batch in step.write.events)
    if list(History.FromString(data).events) != step.tx.events:
        return "the batches hold other events"
    grown = step.after.header.history_size_bytes - step.before.header.history_size_bytes
    return None if grown == len(data) else f"the history grew by {len(data)}, counted are {grown}"


@_transition("event times never go back within what is written at once")
def _times_never_go_back(step: Step) -> str | None:
    latest = {True: 0, False: 0}
    for event in step.tx.events:
        time_ns = event.event_time.ToNanoseconds()
        if time_ns > step.tx.now_ns:
            return f"event {event.event_id} lies in the future"
        if event.event_type in (_ACTIVITY_STARTED, _OPERATION_STARTED):
            continue  # has the time of the start, and may be written with the end
        waits = event.event_type not in UNBUFFERED
        if time_ns < latest[waits] and not _is_completion_moved(event):
            return f"event {event.event_id} is earlier than one before it"
        latest[waits] = max(latest[waits], time_ns)
    return None


def _is_completion_moved(event: HistoryEvent) -> bool:
    """Completions of a flushed buffer go behind events that came after them."""
    return EventType.Name(event.event_type).endswith(("_COMPLETED", "_FAILED", "_TIMED_OUT", "_CANCELED"))


@_transition("a transition counts itself and starts from the committed version")
def _counts_itself(step: Step) -> str | None:
    counted = step.after.header.transition_count - step.before.header.transition_count
    if counted != 1 or step.write.expected_version != step.before.version:
        return f"counted {counted}, version {step.write.expected_version} of {step.before.version}"
    return None


@_transition("a closed run stays as it is")
def _closed_is_final(step: Step) -> str | None:
    if step.before.header.is_open:
        return None
    return (
        "something changed"
        if step.tx.events or step.after.header.status != step.before.header.status
        else None
    )


@_transition("a run closes with one closing event, the last")
def _closing_event_is_last(step: Step) -> str | None:
    closing = [event for event in step.tx.events if event.event_type in _CLOSING]
    if step.after.header.is_open or not step.before.header.is_open:
        return f"{len(closing)} closing events" if closing else None
    if len(closing) != 1 or closing[0] is not step.tx.events[-1]:
        return f"{len(closing)} closing events, or not the last"
    status = _CLOSING[closing[0].event_type]
    return (
        None if status == step.after.header.status else f"status {step.after.header.status}, event {status}"
    )


@_transition("what follows a run is named by its closing event, and names it")
def _successor_is_named(step: Step) -> str | None:
    successor = step.tx.successor
    named = ""
    closes = step.before.header.is_open and not step.after.header.is_open
    if closes:
        last = step.tx.events[-1]
        attributes = getattr(last, EventType.Name(last.event_type).lower()[11:] + "_event_attributes")
        named = getattr(attributes, "new_execution_run_id", "")
    if successor is None:
        left = named or (closes and step.after.header.status == _CONTINUED)
        return f"{named} is named and does not follow" if left else None
    started = successor.events[0].workflow_execution_started_event_attributes
    follows = (started.continued_execution_run_id, started.first_execution_run_id)
    wanted = (step.before.run.run_id, step.after.header.first_run_id)
    if named != successor.state.run.run_id or follows != wanted:
        return f"{named} is named, {successor.state.run.run_id} follows {follows}, not {wanted}"
    same_end = successor.header.execution_expiration_ns == step.after.header.execution_expiration_ns
    return None if same_end else "the chain's end moved"


@_transition("the written status and header are those of the state", cheap=False)
def _header_is_written(step: Step) -> str | None:
    if step.write.status != step.after.header.status or step.write.header != encode(step.after.header):
        return "another status or header"
    return None


@_transition("the wake-up is the earliest deadline")
def _wakeup_is_earliest(step: Step) -> str | None:
    wanted = min(_deadlines(step.after), default=None)
    return None if step.write.wakeup_ns == wanted else f"wake-up {step.write.wakeup_ns}, earliest {wanted}"


def _callbacks_due(view: View) -> Iterator[int]:
    for item in view.callbacks.values():
        since_ns = item.update_ended_ns if item.update_id else view.header.calls_back and view.header.close_ns
        if since_ns and not item.end_state:
            yield max(since_ns, item.next_attempt_ns)


def _deadlines(view: View) -> Iterator[int]:
    """Every moment at which time alone moves the run, said once more."""
    header = view.header
    if not header.is_open:
        owed = [header.close_ns] if header.owes_parent or view.children else []
        yield from [*owed, *_callbacks_due(view)] or [header.close_ns + header.retention_ns]
        return
    yield from _callbacks_due(view)
    for operation in view.operations.values():
        yield from _operation_deadlines(operation)
    yield from (child.initiated_ns for child in view.children.values() if not child.run_id)
    yield from (external.initiated_ns for external in view.externals.values())
    if header.run_expiration_ns:
        yield header.run_expiration_ns
    if header.first_task_at_ns and not header.has_pending_task and not header.paused_ns:
        yield header.first_task_at_ns
    if header.has_started_task:
        yield header.task_started_ns + header.task_timeout_ns
    elif header.task_on_sticky_queue:
        yield header.task_scheduled_ns + header.sticky_timeout_ns
    elif header.has_pending_task and header.task_start_limit_ns:
        yield header.task_scheduled_ns + header.task_start_limit_ns
    yield from (timer.fire_ns for timer in view.timers.values())
    for activity in view.activities.values():
        if activity.paused_ns:
            continue
        if activity.schedule_to_close_ns:
            yield activity.first_scheduled_ns + activity.schedule_to_close_ns
        if activity.backing_off:
            yield activity.scheduled_ns
        elif not activity.started_ns and activity.schedule_to_start_ns:
            yield activity.scheduled_ns + activity.schedule_to_start_ns
        if activity.started_ns and activity.start_to_close_ns:
            yield activity.started_ns + activity.start_to_close_ns
        if activity.started_ns and activity.heartbeat_ns:
            yield max(activity.started_ns, activity.last_heartbeat_ns) + activity.heartbeat_ns


def _operation_deadlines(item: NexusOperation) -> Iterator[int]:
    if not item.started_ns:
        yield item.next_attempt_ns or item.scheduled_ns
        if item.schedule_to_start_ns:
            yield item.scheduled_ns + item.schedule_to_start_ns
    elif item.start_to_close_ns:
        yield item.started_ns + item.start_to_close_ns
    if item.cancel_requested_ns and not item.cancel_state:
        yield item.cancel_next_attempt_ns or item.cancel_requested_ns
    if item.schedule_to_close_ns:
        yield item.scheduled_ns + item.schedule_to_close_ns


@_transition("an open run will be woken")
def _will_be_woken(step: Step) -> str | None:
    header = step.after.header
    if not header.is_open or header.has_pending_task or header.first_task_at_ns or header.paused_ns:
        return None
    types = [event.event_type for event in step.tx.events if not event.worker_may_ignore]
    completed = _TASK_COMPLETED in types
    if not step.before.version or (step.before.header.has_pending_task and not completed):
        return "it has no workflow task and none was completed"
    if step.before.header.first_task_at_ns and not completed:
        return "its first workflow task is neither held back nor scheduled"
    unseen = types[len(types) - types[::-1].index(_TASK_COMPLETED) :] if completed else types
    news = [EventType.Name(kind) for kind in unseen if kind not in UNBUFFERED | UNHEARD]
    return f"nobody will look at {news}" if news or step.tx.needs_task else None


@_transition("task rows follow the state")
def _tasks_follow(step: Step) -> str | None:
    rows = derived_tasks(View.of(step.before)) if step.before.version else {}
    for key in step.write.tasks_deleted:
        if key not in rows:
            return f"deletes {key}, which is not there"
        del rows[key]
    for task in step.write.tasks_put:
        same_priority = step.before.header.priority == step.after.header.priority
        if rows.get(task.key) == dispatch_of(task) and same_priority:
            return f"puts {task.key} again, unchanged"
        rows[task.key] = dispatch_of(task)
    wanted = derived_tasks(step.after)
    return None if rows == wanted else f"rows {rows}, the state calls for {wanted}"


@_transition("a speculative workflow task is not stored")
def _speculative_is_not_stored(step: Step) -> str | None:
    return "it would be" if step.after.header.task_is_speculative else None


@_transition("a dispatch never repeats")
def _dispatches_never_repeat(step: Step) -> str | None:
    if step.after.header.task_stamp < step.before.header.task_stamp:
        return "the workflow task's stamp went back"
    for key, activity in step.after.activities.items():
        before = step.before.activities.get(key)
        if before is not None and activity.is_adjusted:
            continue  # a reset begins again at the first attempt
        if before is not None and (activity.stamp, activity.attempt) < (before.stamp, before.attempt):
            return f"activity {key} went back"
        if before is not None and activity.attempt != before.attempt and activity.stamp == before.stamp:
            return f"activity {key} has a new attempt under an old stamp"
    return None


@_transition("items written are the items changed", cheap=False)
def _items_follow(step: Step) -> str | None:
    items = {(kind, key): data for kind, key, data in encoded_items(step.before)}
    for change in step.write.items:
        if change.data is None:
            items.pop((change.kind, change.key), None)
        else:
            items[(change.kind, change.key)] = change.data
    decoded = decode_run(
        step.before.run,
        step.before.version + 1,
        step.write.header,
        ((kind, key, data) for (kind, key), data in items.items()),
        step.write.wakeup_ns,
    )
    if decoded.header != step.after.header:
        return "the stored header differs"
    after, wanted = View.of(decoded), step.after
    if (after.children, after.externals) != (wanted.children, wanted.externals):
        return "stored children, signals or cancellations differ"
    if (after.operations, after.callbacks) != (wanted.operations, wanted.callbacks):
        return "stored Nexus operations or callbacks differ"
    others = (wanted.activities, wanted.timers, wanted.buffered, wanted.updates)
    if (after.activities, after.timers, after.buffered, after.updates) != others:
        return "what is stored decodes to another state"
    signals = {*step.before.signal_request_ids, *step.tx.signal_request_ids.changes}
    blobs = {name: step.tx.blobs.get(name) for name in (*step.before.blobs, *step.tx.blobs.changes)}
    if set(decoded.signal_request_ids) != signals or decoded.blobs != blobs:
        return "stored signal ids, memo or search attributes differ"
    requests = {**step.before.attached_requests, **step.tx.attached_requests.changes}
    if decoded.attached_requests != requests:
        return "stored attached requests differ"
    return None


@_transition("lists hear of what they show")
def _lists_hear(step: Step) -> str | None:
    record, header = step.write.visibility, step.after.header
    changed = header.status != step.before.header.status or not step.before.version or step.tx.blobs.changes
    if record is None:
        return "the status, memo or search attributes changed" if changed else None
    shown = (
        record.status,
        record.close_time_ns,
        record.history_length,
        record.history_size_bytes,
        record.state_transition_count,
    )
    actual = (
        _PAUSED if header.paused_ns else header.status,
        header.close_ns or None,
        header.next_event_id - 1,
        header.history_size_bytes,
        header.transition_count,
    )
    return None if shown == actual else f"shown {shown}, actual {actual}"


@_transition("a run starts once")
def _starts_once(step: Step) -> str | None:
    began = [event.event_id for event in step.tx.events if event.event_type == 1]
    wanted = [] if step.before.version else [1]
    return None if began == wanted else f"started events {began} at version {step.before.version}"
