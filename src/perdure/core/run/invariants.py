"""What must always hold of a run, as named rules. Pure, and written apart from the code it watches.

Three kinds, by what they look at:

    transition   one transition before it is committed: the state before, the state after, what is to be written
    state        one state, wherever it comes from
    history      a state against the run's whole event history, replayed here in a simple way

`check_transition` and `check_state` with `cheap=True` cost little and may run in production; the rest is for tests and
the simulator. Every rule returns None, or a sentence that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from perdure.api.enums.v1 import EventType, ParentClosePolicy, WorkflowExecutionStatus
from perdure.api.history.v1 import History, HistoryEvent
from perdure.core.deployment.routes import queue_name
from perdure.core.invariant import invariant
from perdure.core.run.history_rules import HISTORY_RULES, HistoryRule, HistorySubject, replay
from perdure.core.run.items import decode_run, encoded_items
from perdure.core.run.records import QueueKey, RunKey, RunWrite, Task, TaskKey, TaskKind
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
from perdure.core.run.transition import UNBUFFERED, UNHEARD, Transition

Subject = TypeVar("Subject")

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
_ABANDON = ParentClosePolicy.Value("PARENT_CLOSE_POLICY_ABANDON")
_PAUSED = 8
"""The status that lists show of a paused run."""
_CONTINUED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW")
_TASK_COMPLETED = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_COMPLETED")
_OPERATION_STARTED = EventType.Value("EVENT_TYPE_NEXUS_OPERATION_STARTED")
_ACTIVITY_STARTED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_STARTED")


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


@dataclass(frozen=True, slots=True)
class Step:
    """One transition with what it is to write."""

    before: RunState
    tx: Transition
    after: View
    write: RunWrite


@dataclass(frozen=True, slots=True)
class Rule(Generic[Subject]):
    """A named rule; `cheap` ones cost no encoding and no pass over the history, and for those `alone` that are about a
    state by itself there is a rule about the transition that led to it."""

    name: str
    holds: Callable[[Subject], str | None]
    cheap: bool = True
    alone: bool = False


@dataclass(slots=True)
class _Table(Generic[Subject]):
    rules: list[Rule[Subject]] = field(default_factory=list)

    def __call__(
        self, name: str, *, cheap: bool = True, alone: bool = False
    ) -> Callable[[Callable[[Subject], str | None]], Callable[[Subject], str | None]]:
        def register(function: Callable[[Subject], str | None]) -> Callable[[Subject], str | None]:
            self.rules.append(Rule(name, function, cheap, alone))
            return function

        return register


_state: _Table[View] = _Table()
_transition: _Table[Step] = _Table()
STATE_RULES: list[Rule[View]] = _state.rules
TRANSITION_RULES: list[Rule[Step]] = _transition.rules


def names() -> list[str]:
    """The names of all rules."""
    found = [rule.name for rule in STATE_RULES]
    found += [rule.name for rule in TRANSITION_RULES]
    return found + [rule.name for rule in HISTORY_RULES]


def check_state(state: RunState, *, cheap: bool = False) -> None:
    """Checks a state by itself.

    Raises:
        InvariantViolation: names the broken rule.
    """
    _check(STATE_RULES, View.of(state), state.run, cheap)


def check_transition(tx: Transition, write: RunWrite, *, cheap: bool = False) -> None:
    """Checks a finished transition before it is committed and absorbed.

    Args:
        tx: the transition, after `finish`.
        write: what `finish` returned.
        cheap: only the rules that cost little.

    Raises:
        InvariantViolation: names the broken rule.
    """
    after = View.after(tx)
    _check((rule for rule in STATE_RULES if not rule.alone), after, tx.state.run, cheap)
    _check(TRANSITION_RULES, Step(tx.state, tx, after, write), tx.state.run, cheap)


def check_history(state: RunState, events: Sequence[HistoryEvent]) -> None:
    """Checks a state against the run's whole history.

    Raises:
        InvariantViolation: names the broken rule.
    """
    view = View.of(state)
    written = replay(events)
    subject = HistorySubject(
        view.header,
        view.activities,
        view.timers,
        written,
        replay(events, view.buffered) if view.buffered else written,
        len(events),
        view.updates,
        view.children,
        view.externals,
        view.operations,
    )
    for rule in HISTORY_RULES:
        problem = rule.holds(subject)
        invariant(problem is None, problem or "", rule=rule.name, run=state.run)


def check_tasks(state: RunState, tasks: Iterable[Task]) -> None:
    """Checks the task rows that a store keeps for a run: exactly those its state calls for.

    Raises:
        InvariantViolation: names the rule.
    """
    stored = {task.key: _dispatch(task) for task in tasks}
    wanted = derived_tasks(View.of(state)) if state.version else {}
    problem = f"task rows {stored}, but the state calls for {wanted}"
    invariant(stored == wanted, problem, rule="stored tasks are those of the state", run=state.run)


def _check(rules: Iterable[Rule[Subject]], subject: Subject, run: RunKey, cheap: bool) -> None:
    for rule in rules:
        if rule.cheap or not cheap:
            problem = rule.holds(subject)
            if problem is not None:
                invariant(False, problem, rule=rule.name, run=run)


# --- rules about a state ---


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
    if header.has_pending_task or header.last_completed_task_started_event_id:
        return "it has or had a workflow task"
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


# --- rules about a transition ---


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
    if header.first_task_at_ns and not header.paused_ns:
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
    if step.before.header.first_task_at_ns:
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
        if rows.get(task.key) == _dispatch(task) and same_priority:
            return f"puts {task.key} again, unchanged"
        rows[task.key] = _dispatch(task)
    wanted = derived_tasks(step.after)
    return None if rows == wanted else f"rows {rows}, the state calls for {wanted}"


Dispatch = tuple[QueueKey, bool, str]


def _dispatch(task: Task) -> Dispatch:
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
    for event_id, activity in view.activities.items():
        if not activity.started_ns and not activity.backing_off and not activity.paused_ns:
            name = queue_name(activity.task_queue, activity.version)
            queue = QueueKey(namespace_id, name, TaskKind.ACTIVITY)
            rows[TaskKey(queue.kind, event_id)] = (queue, False, str(activity.stamp))
    return rows


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


__all__ = [
    "HISTORY_RULES",
    "STATE_RULES",
    "TRANSITION_RULES",
    "HistoryRule",
    "Rule",
    "Step",
    "View",
    "check_history",
    "check_state",
    "check_tasks",
    "check_transition",
    "derived_tasks",
    "names",
]
