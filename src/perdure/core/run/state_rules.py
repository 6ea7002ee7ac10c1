"""Rules about one state of a run, for `perdure.core.run.invariants`.

Pure, and written apart from the code that it watches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from perdure.api.enums.v1 import EventType, ParentClosePolicy
from perdure.api.history.v1 import HistoryEvent
from perdure.core.deployment.routes import queue_name
from perdure.core.run.items import decode_run
from perdure.core.run.records import QueueKey, RunKey, Task, TaskKey, TaskKind
from perdure.core.run.rules import Rule, RuleTable
from perdure.core.run.state import (
    Activity,
    Callback,
    Child,
    External,
    NexusOperation,
    RunHeader,
    RunState,
    Timer,
    Update,
    encode,
)
from perdure.core.run.transition import UNBUFFERED, Transition

_ABANDON = ParentClosePolicy.Value("PARENT_CLOSE_POLICY_ABANDON")


@dataclass(frozen=True, slots=True)
class View:
    """A run's state at one moment, whether committed or about to be."""

    run: RunKey
    header: RunHeader
    activities: dict[int, Activity]
    timers: dict[str, Timer]
    buffered: list[HistoryEvent]
    updates: dict[str, Update] = field(default_factory=dict)
    children: dict[int, Child] = field(default_factory=dict)
    externals: dict[int, External] = field(default_factory=dict)
    operations: dict[int, NexusOperation] = field(default_factory=dict)
    callbacks: dict[int, Callback] = field(default_factory=dict)

    @classmethod
    def of(cls, state: RunState) -> View:
        """The view of a committed state."""
        buffered = [state.buffered[key] for key in sorted(state.buffered)]
        return cls(
            state.run,
            state.header,
            state.activities,
            state.timers,
            buffered,
            state.updates,
            state.children,
            state.externals,
            state.nexus_operations,
            state.callbacks,
        )

    @classmethod
    def after(cls, tx: Transition) -> View:
        """The view of what a transition leads to."""
        return cls(
            tx.state.run,
            tx.header,
            {a.scheduled_event_id: a for a in tx.activities},
            {t.timer_id: t for t in tx.timers},
            [event for key in tx.buffered_keys() if (event := tx.buffered.get(key)) is not None],
            {key: u for key, u in {**tx.state.updates, **tx.updates.changes}.items() if u is not None},
            {child.initiated_event_id: child for child in tx.children},
            {external.initiated_event_id: external for external in tx.externals},
            {operation.scheduled_event_id: operation for operation in tx.nexus_operations},
            {item.key: item for item in tx.callbacks},
        )


Dispatch = tuple[QueueKey, bool, str]


def dispatch_of(task: Task) -> Dispatch:
    """What of a task row follows from the state, besides its key."""
    return task.queue, task.sticky, task.delivery_id


def derived_tasks(view: View) -> dict[TaskKey, Dispatch]:
    """The task rows a state calls for: what is scheduled and waits for a worker."""
    header, namespace_id = view.header, view.run.namespace_id
    if not header.is_open or header.paused_ns:
        return {}
    rows: dict[TaskKey, Dispatch] = {}
    if header.task_scheduled_event_id and not header.task_started_event_id and not header.task_is_speculative:
        sticky = header.task_on_sticky_queue and not header.task_rerouted
        name = header.sticky_queue if sticky else queue_name(header.task_queue, header.task_version)
        queue = QueueKey(namespace_id, name, TaskKind.WORKFLOW)
        rows[TaskKey(queue.kind, header.task_scheduled_event_id)] = (queue, sticky, str(header.task_stamp))
    if header.versioning is not None and header.versioning.holds_activities:
        return rows
    for event_id, activity in view.activities.items():
        if not activity.started_ns and not activity.backing_off and not activity.paused_ns:
            name = queue_name(activity.task_queue, activity.version)
            queue = QueueKey(namespace_id, name, TaskKind.ACTIVITY)
            rows[TaskKey(queue.kind, event_id)] = (queue, False, str(activity.stamp))
    return rows


_state: RuleTable[View] = RuleTable()
STATE_RULES: Sequence[Rule[View]] = _state.rules


@_state("a started workflow task was scheduled")
def _started_was_scheduled(view: View) -> str | None:
    header = view.header
    if header.has_started_task and not 0 < header.task_scheduled_event_id < header.task_started_event_id:
        return f"started {header.task_started_event_id}, scheduled {header.task_scheduled_event_id}"
    if header.has_started_task != bool(header.task_started_ns):
        return "the started event id and time disagree"
    return None


@_state("a transient or speculative workflow task has no events, any other has")
def _transient_has_no_events(view: View) -> str | None:
    header = view.header
    if not header.has_pending_task:
        return None
    scheduled, started, end = (
        header.task_scheduled_event_id,
        header.task_started_event_id,
        header.next_event_id,
    )
    if header.task_is_speculative:
        wanted = (end, end + 1 if header.has_started_task else 0)
        return None if (scheduled, started) == wanted else f"speculative {scheduled}/{started} of {end}"
    if not header.is_task_transient:
        return None if scheduled < end and started < end else f"normal task {scheduled}/{started} of {end}"
    if header.has_started_task:
        return None if (scheduled, started) == (end, end + 1) else f"transient {scheduled}/{started} of {end}"
    return None if scheduled <= end else f"transient task {scheduled} beyond {end}"


@_state("a speculative workflow task is a first attempt of an open run, and nothing waits behind it")
def _speculative_is_first(view: View) -> str | None:
    header = view.header
    if not header.task_is_speculative:
        return None
    if not header.is_open or not header.has_pending_task or header.is_task_transient or view.buffered:
        return f"attempt {header.task_attempt}, {len(view.buffered)} events wait"
    return None if header.task_on_sticky_queue or header.task_start_limit_ns else "it may wait for ever"


@_state("an update names its events")
def _updates_are_consistent(view: View) -> str | None:
    for update_id, update in view.updates.items():
        ids = (update.admitted_event_id, update.accepted_event_id, update.completed_event_id)
        known = [event_id for event_id in ids if event_id]
        in_order = known == sorted(set(known)) and ids[1] >= bool(ids[2])
        if not known or not in_order or known[-1] >= view.header.next_event_id:
            return f"update {update_id}: admitted, accepted and completed by {ids}"
    return None


@_state("events wait only while a workflow task is started")
def _events_wait_for_started(view: View) -> str | None:
    if view.buffered and not view.header.has_started_task:
        return f"{len(view.buffered)} events wait"
    return None


@_state("a waiting event has no id and is of a type that waits")
def _waiting_events_are_unnumbered(view: View) -> str | None:
    for event in view.buffered:
        if event.event_id or event.event_type in UNBUFFERED:
            return f"{EventType.Name(event.event_type)} waits with id {event.event_id}"
    return None


@_state("a closed run has nothing pending")
def _closed_has_nothing(view: View) -> str | None:
    header = view.header
    if header.is_open:
        return "an open run has a close time or event" if header.close_ns or header.close_event_id else None
    if view.activities or view.timers or view.buffered or view.externals or view.operations:
        return "activities, timers, waiting events, signals, cancellations or Nexus operations are left"
    if header.has_pending_task or header.has_started_task or header.first_task_at_ns or header.sticky_queue:
        return "a workflow task or a sticky queue is left"
    if header.close_event_id != header.next_event_id - 1:
        return f"closed by event {header.close_event_id}, the last is {header.next_event_id - 1}"
    return None if header.close_ns >= header.start_ns else "closed before it started"


@_state("a sticky workflow task is a first attempt on a sticky queue")
def _sticky_is_consistent(view: View) -> str | None:
    header = view.header
    on_queue = header.has_pending_task and (header.sticky_queue or header.has_started_task)
    if header.task_on_sticky_queue and not on_queue:  # who takes it may be of another version, and not sticky
        return "no sticky queue or no task"
    if header.sticky_queue and header.is_task_transient:
        return "a transient task while the run has a sticky queue"
    if bool(header.sticky_queue) != bool(header.sticky_timeout_ns):
        return "a sticky queue without a limit of waiting there, or the other way round"
    if header.task_rerouted and not header.task_on_sticky_queue:
        return "rerouted although not sticky"
    return None


@_state("a run whose first workflow task is held back has none")
def _held_back_has_no_task(view: View) -> str | None:
    header = view.header
    if not header.first_task_at_ns:
        return None
    if header.has_pending_task and not header.task_is_speculative:
        return "it has a workflow task"
    if header.last_completed_task_started_event_id:
        return "it had a workflow task"
    return "it has activities or timers" if view.activities or view.timers else None


@_state("a pending activity is in one possible state")
def _activities_are_consistent(view: View) -> str | None:
    for key, activity in view.activities.items():
        name = f"activity {activity.activity_id} ({key})"
        if key != activity.scheduled_event_id or not 0 < key < view.header.next_event_id:
            return f"{name} names event {activity.scheduled_event_id}"
        too_many = 0 < activity.maximum_attempts < activity.attempt and not activity.is_adjusted
        if activity.attempt < 1 or too_many:
            return f"{name} is at attempt {activity.attempt} of {activity.maximum_attempts}"
        if activity.backing_off and activity.started_ns:
            return f"{name} backs off and is started"
        if activity.cancel_requested_event_id and not activity.started_ns:
            return f"{name} was cancelled unstarted and is still there"
        if activity.last_failure and activity.attempt == 1 and not activity.is_adjusted:
            return f"{name} is at its first attempt and has a last failure"
        if not activity.paused_ns and (activity.pause_reason or activity.pause_request_id):
            return f"{name} remembers a pause that is over"
        if activity.last_heartbeat_ns and activity.last_heartbeat_ns < activity.first_scheduled_ns:
            return f"{name} has a heartbeat from before it was scheduled"
    return None


@_state("pending activities have different ids")
def _activity_ids_differ(view: View) -> str | None:
    ids = [activity.activity_id for activity in view.activities.values()]
    return f"{sorted(ids)}" if len(set(ids)) < len(ids) else None


@_state("a pending timer names its event")
def _timers_are_consistent(view: View) -> str | None:
    for key, timer in view.timers.items():
        if key != timer.timer_id or not 0 < timer.started_event_id < view.header.next_event_id:
            return f"timer {key}: {timer}"
    return None


@_state("a pending child is initiated, started or kept by a closed parent")
def _children_are_consistent(view: View) -> str | None:
    for key, child in view.children.items():
        if key != child.initiated_event_id or not 0 < key < view.header.next_event_id:
            return f"child {key}: {child}"
        if child.started_event_id and not (child.run_id and key < child.started_event_id):
            return f"child {key} started by {child.started_event_id}, run {child.run_id!r}"
        if not view.header.is_open and (not child.run_id or child.close_policy == _ABANDON):
            return f"a closed parent keeps child {key}, which is none of its business"
    return None


@_state("a signal or cancellation on its way names its event")
def _externals_are_consistent(view: View) -> str | None:
    for key, external in view.externals.items():
        if key != external.initiated_event_id or not 0 < key < view.header.next_event_id:
            return f"external {key}: {external}"
    return None


@_state("a pending Nexus operation is in one possible state")
def _operations_are_consistent(view: View) -> str | None:
    for key, item in view.operations.items():
        if key != item.scheduled_event_id or not 0 < key < view.header.next_event_id or not item.request_id:
            return f"operation {key}: {item}"
        if item.started_ns and item.next_attempt_ns:
            return f"operation {key} is started and is to be tried again"
        if (item.next_attempt_ns and not item.attempt) or (item.started_ns and not item.attempt):
            return f"operation {key} has had no attempt"
        waits = item.cancel_requested_event_id and item.started_ns
        if bool(item.cancel_requested_ns) != bool(waits):
            return f"operation {key}: the request to cancel and its time disagree"
        if item.cancel_attempt and not item.cancel_requested_ns:
            return f"operation {key}: its handler was asked to cancel what has not started"
    return None


@_state("callbacks are counted, and delivered only by the end of a chain or an update")
def _callbacks_are_consistent(view: View) -> str | None:
    if sorted(view.callbacks) != list(range(1, len(view.callbacks) + 1)):
        return f"keys {sorted(view.callbacks)}"
    if view.header.calls_back and (view.header.is_open or not view.callbacks):
        return "it calls back, and is open or has nobody to call"
    for key, item in view.callbacks.items():
        is_over = bool(item.update_ended_ns) if item.update_id else view.header.calls_back
        if not is_over and (item.attempt or item.end_state):
            return f"callback {key} was delivered too early"
        if item.update_ended_ns and not (item.update_id and view.header.tells_of_updates):
            return f"callback {key} of an update is not known to be due"
        if item.end_state and item.next_attempt_ns:
            return f"callback {key} is settled and tried again"
    return None


@_state("only a closed child owes its parent anything")
def _debts_are_real(view: View) -> str | None:
    header = view.header
    if header.owes_parent and (header.is_open or not header.parent_initiated_event_id):
        return "it is open, or nobody's child"
    named = (header.parent_workflow_id, header.parent_run_id, header.parent_initiated_event_id)
    return None if all(named) or not any(named) else f"half a parent: {named}"


@_state("a header and its items survive encoding", cheap=False, alone=True)
def _encoding_is_faithful(view: View) -> str | None:
    items = [("activity", str(key), encode(activity)) for key, activity in view.activities.items()]
    items += [("timer", key, encode(timer)) for key, timer in view.timers.items()]
    try:
        decoded = decode_run(view.run, 1, encode(view.header), items, None)
    except msgspec.DecodeError as error:
        return str(error)
    if (decoded.header, decoded.activities, decoded.timers) != (view.header, view.activities, view.timers):
        return "decoded otherwise"
    return None
