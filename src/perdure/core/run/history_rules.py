"""Rules about a run's whole event history and the state it must lead to, for `perdure.core.run.invariants`.

A simple replay of the history, sharing no code with the primitives: what it says is pending must be what the state
says is pending. Buffered events count as a history's unwritten end. Not cheap: tests and the simulator use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.core.run.rules import Rule
from perdure.core.run.state import Activity, Child, External, NexusOperation, RunHeader, Timer, Update

_TASK = "WORKFLOW_TASK_"
_RUN = "WORKFLOW_EXECUTION_"
_RUN_ENDS = frozenset(
    f"{_RUN}{end}"
    for end in ("COMPLETED", "FAILED", "CANCELED", "TERMINATED", "TIMED_OUT", "CONTINUED_AS_NEW")
)
_ACTIVITY_ENDS = frozenset(f"ACTIVITY_TASK_{end}" for end in ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELED"))
_CHILD_ENDS = frozenset(
    f"CHILD_{_RUN}{end}" for end in ("COMPLETED", "FAILED", "CANCELED", "TIMED_OUT", "TERMINATED")
)
_EXTERNAL = {
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED": "signal",
    "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED": "signal",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED": "cancel",
    "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED": "cancel",
}
"""What can come of a signal or request to cancel, and of which."""
_OPERATION_ENDS = frozenset(
    f"NEXUS_OPERATION_{end}" for end in ("COMPLETED", "FAILED", "CANCELED", "TIMED_OUT")
)
_CHILD_NEWS = _CHILD_ENDS | {f"CHILD_{_RUN}STARTED", f"START_CHILD_{_RUN}FAILED"}
_NEWS = (
    _ACTIVITY_ENDS
    | _CHILD_NEWS
    | _EXTERNAL.keys()
    | _OPERATION_ENDS
    | {
        "NEXUS_OPERATION_STARTED",
        "TIMER_FIRED",
        f"{_RUN}SIGNALED",
        f"{_RUN}CANCEL_REQUESTED",
        f"{_RUN}STARTED",
    }
)
"""What a workflow's code must be told."""


@dataclass(slots=True)
class Replayed:
    """What a history says about a run.

    Attributes:
        written: how many events are; the rest wait in the buffer.
        problems: what is wrong with the history by itself.
        types: event types by id.
        activities: pending ones: scheduled event id to activity id.
        started: scheduled event ids of activities whose Started event is written, to its id.
        timers: pending ones: started event id to timer id. An id may run twice in a history for a while: the end of
            the first may wait in the buffer when a workflow task starts the second. So may an activity id.
        children: pending ones: initiated event id to the started event's place, 0 for none.
        externals: signals and requests to cancel without outcome: initiated event id to "signal" or "cancel".
        operations: pending Nexus operations: scheduled event id to the started event's place, 0 for none.
        operation_cancels: scheduled event ids of those that are to be cancelled, to the event that says so.
        scheduled, began: the pending workflow task's events, 0 for none.
        completed: the last WorkflowTaskCompleted event.
        last_started: the WorkflowTaskStarted event of the last completed task.
        news: types of events that no started workflow task has shown yet.
        shown: news that the started workflow task shows.
        signals: how many signals came.
        updates: accepted ones: by id the Accepted event, and the Completed one, 0 for none.
    """

    written: int = 0
    problems: list[str] = field(default_factory=list)
    types: dict[int, str] = field(default_factory=dict)
    activities: dict[int, str] = field(default_factory=dict)
    cancel_requested: dict[int, int] = field(default_factory=dict)
    started: dict[int, int] = field(default_factory=dict)
    timers: dict[int, str] = field(default_factory=dict)
    scheduled: int = 0
    began: int = 0
    completed: int = 0
    last_started: int = 0
    news: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    children: dict[int, int] = field(default_factory=dict)
    externals: dict[int, str] = field(default_factory=dict)
    operations: dict[int, int] = field(default_factory=dict)
    operation_cancels: dict[int, int] = field(default_factory=dict)
    signals: int = 0
    updates: dict[str, tuple[int, int]] = field(default_factory=dict)
    cancel_asked: bool = False
    ended: str = ""

    def expect(self, condition: object, problem: str) -> None:
        """Notes a problem unless the condition holds."""
        if not condition:
            self.problems.append(problem)


def replay(events: Sequence[HistoryEvent], buffered: Sequence[HistoryEvent] = ()) -> Replayed:
    """Replays a history, and then what waits in the buffer."""
    replayed = Replayed(written=len(events))
    for position, event in enumerate((*events, *buffered), 1):
        name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
        attributes = getattr(event, name.lower() + "_event_attributes")
        if event.event_id != (position if position <= len(events) else 0):
            replayed.problems.append(f"{name} has id {event.event_id}")
        if replayed.ended:
            replayed.problems.append(f"{name} after {replayed.ended}")
        if (position == 1) != (name == f"{_RUN}STARTED"):
            replayed.problems.append(f"{name} is event {position}")
        replayed.types[position] = name
        if name in _NEWS:
            replayed.news.append(name)
        completed = getattr(attributes, "workflow_task_completed_event_id", 0)
        if completed and completed != replayed.completed:
            replayed.problems.append(f"{position} {name} follows from task {completed}")
        handler = _HANDLERS.get(name)
        if handler is not None:
            handler(replayed, position, attributes)
        elif name in _RUN_ENDS:
            replayed.ended = name
            replayed.expect(not replayed.began, f"{name} while a workflow task is started")
    return replayed


# --- one handler per type ---


def _task_scheduled(r: Replayed, event_id: int, attributes: object) -> None:
    r.expect(not r.scheduled, f"{event_id}: a workflow task is scheduled already")
    r.scheduled = event_id


def _task_started(r: Replayed, event_id: int, attributes: object) -> None:
    scheduled = attributes.scheduled_event_id  # type: ignore[attr-defined]  # by the event's type
    r.expect(
        r.scheduled == scheduled and not r.began, f"{event_id} starts {scheduled}, pending {r.scheduled}"
    )
    r.began = event_id
    r.shown, r.news = r.shown + r.news, []


def _task_completed(r: Replayed, event_id: int, attributes: object) -> None:
    _end_task(r, event_id, attributes)
    r.completed, r.last_started = event_id, attributes.started_event_id  # type: ignore[attr-defined]
    r.shown = []


def _task_not_completed(r: Replayed, event_id: int, attributes: object) -> None:
    _end_task(r, event_id, attributes)
    r.shown, r.news = [], r.shown + r.news or ["a failed workflow task"]


def _end_task(r: Replayed, event_id: int, attributes: object) -> None:
    ids = attributes.scheduled_event_id, attributes.started_event_id  # type: ignore[attr-defined]
    r.expect(r.scheduled and ids == (r.scheduled, r.began), f"{event_id} ends {ids}, not the pending task")
    r.scheduled = r.began = 0


def _activity_scheduled(r: Replayed, event_id: int, attributes: object) -> None:
    activity_id = attributes.activity_id  # type: ignore[attr-defined]
    r.expect(r.completed, f"{event_id}: an activity before the first completed task")
    r.activities[event_id] = activity_id


def _activity_started(r: Replayed, event_id: int, attributes: object) -> None:
    scheduled = attributes.scheduled_event_id  # type: ignore[attr-defined]
    r.expect(scheduled in r.activities and scheduled not in r.started, f"{event_id} starts {scheduled}")
    r.started[scheduled] = event_id


def _activity_ended(r: Replayed, event_id: int, attributes: object) -> None:
    scheduled = attributes.scheduled_event_id  # type: ignore[attr-defined]
    r.expect(scheduled in r.activities, f"{event_id} ends {scheduled}, which is not pending")
    started = attributes.started_event_id  # type: ignore[attr-defined]
    written = r.types.get(started) == "ACTIVITY_TASK_STARTED" and r.started.get(scheduled) == started
    is_buffered = not started and r.started.get(scheduled) not in (None, 0)
    r.expect(
        written or (not started and scheduled not in r.started) or is_buffered,
        f"{event_id} names started event {started}, actual {r.started.get(scheduled)}",
    )
    asked = getattr(attributes, "latest_cancel_requested_event_id", None)
    if asked is not None:
        r.expect(asked and asked == r.cancel_requested.get(scheduled), f"{event_id}: cancelled by {asked}")
    r.activities.pop(scheduled, None)


def _activity_cancel_requested(r: Replayed, event_id: int, attributes: object) -> None:
    scheduled = attributes.scheduled_event_id  # type: ignore[attr-defined]
    is_scheduled = r.types.get(scheduled) == "ACTIVITY_TASK_SCHEDULED"
    r.expect(is_scheduled, f"{event_id}: cancels {scheduled}, which is no activity")
    r.cancel_requested[scheduled] = event_id


def _timer_started(r: Replayed, event_id: int, attributes: object) -> None:
    r.timers[event_id] = attributes.timer_id  # type: ignore[attr-defined]


def _timer_ended(r: Replayed, event_id: int, attributes: object) -> None:
    timer_id, started = attributes.timer_id, attributes.started_event_id  # type: ignore[attr-defined]
    r.expect(r.timers.pop(started, None) == timer_id, f"{event_id} ends timer {timer_id} of event {started}")


def _update_admitted(r: Replayed, event_id: int, attributes: object) -> None:
    update_id = attributes.request.meta.update_id  # type: ignore[attr-defined]
    r.expect(update_id not in r.updates, f"{event_id} admits {update_id} once more")
    r.updates[update_id] = (0, 0)


def _update_accepted(r: Replayed, event_id: int, attributes: object) -> None:
    update_id = attributes.protocol_instance_id  # type: ignore[attr-defined]
    r.expect(r.updates.get(update_id, (0, 0)) == (0, 0), f"{event_id} accepts {update_id} once more")
    has_request = attributes.HasField("accepted_request")  # type: ignore[attr-defined]
    r.expect(has_request or update_id in r.updates, f"{event_id} accepts {update_id}, which nobody sent")
    r.expect(r.types.get(event_id - 1) != f"{_TASK}STARTED", f"{event_id}: no workflow task was completed")
    r.updates[update_id] = (event_id, 0)


def _update_completed(r: Replayed, event_id: int, attributes: object) -> None:
    update_id = attributes.meta.update_id  # type: ignore[attr-defined]
    accepted = attributes.accepted_event_id  # type: ignore[attr-defined]
    r.expect(r.updates.get(update_id) == (accepted, 0), f"{event_id} completes {update_id} of {accepted}")
    r.updates[update_id] = (accepted, event_id)


def _signaled(r: Replayed, event_id: int, attributes: object) -> None:
    r.signals += 1


def _cancel_asked(r: Replayed, event_id: int, attributes: object) -> None:
    r.expect(not r.cancel_asked, f"{event_id}: cancellation was requested before")
    r.cancel_asked = True


def _child_initiated(r: Replayed, event_id: int, attributes: object) -> None:
    r.children[event_id] = 0


def _child_started(r: Replayed, event_id: int, attributes: object) -> None:
    initiated = attributes.initiated_event_id  # type: ignore[attr-defined]
    r.expect(r.children.get(initiated) == 0, f"{event_id} starts child {initiated}")
    r.children[initiated] = event_id


def _child_not_started(r: Replayed, event_id: int, attributes: object) -> None:
    initiated = attributes.initiated_event_id  # type: ignore[attr-defined]
    r.expect(r.children.pop(initiated, None) == 0, f"{event_id}: child {initiated} cannot be started")


def _child_ended(r: Replayed, event_id: int, attributes: object) -> None:
    initiated, named = attributes.initiated_event_id, attributes.started_event_id  # type: ignore[attr-defined]
    started = r.children.pop(initiated, 0)
    is_buffered = not named and started > r.written
    r.expect(started and (named == started or is_buffered), f"{event_id} ends {initiated}, started {named}")


def _external_initiated(r: Replayed, event_id: int, attributes: object) -> None:
    r.externals[event_id] = "signal" if r.types[event_id].startswith("SIGNAL") else "cancel"


def _external_settled(r: Replayed, event_id: int, attributes: object) -> None:
    kind = r.externals.pop(attributes.initiated_event_id, None)  # type: ignore[attr-defined]
    r.expect(kind == _EXTERNAL[r.types[event_id]], f"{event_id} settles a {kind}")


def _operation_scheduled(r: Replayed, event_id: int, attributes: object) -> None:
    r.operations[event_id] = 0


def _operation_started(r: Replayed, event_id: int, attributes: object) -> None:
    scheduled = attributes.scheduled_event_id  # type: ignore[attr-defined]
    r.expect(r.operations.get(scheduled) == 0, f"{event_id} starts operation {scheduled}")
    r.operations[scheduled] = event_id


def _operation_ended(r: Replayed, event_id: int, attributes: object) -> None:
    scheduled = attributes.scheduled_event_id  # type: ignore[attr-defined]
    r.expect(scheduled in r.operations, f"{event_id} ends operation {scheduled}, which is not pending")
    r.operations.pop(scheduled, None)


def _operation_cancel_requested(r: Replayed, event_id: int, attributes: object) -> None:
    scheduled = attributes.scheduled_event_id  # type: ignore[attr-defined]
    is_scheduled = r.types.get(scheduled) == "NEXUS_OPERATION_SCHEDULED"
    r.expect(is_scheduled and scheduled not in r.operation_cancels, f"{event_id} cancels {scheduled}")
    r.operation_cancels[scheduled] = event_id


def _operation_cancel_settled(r: Replayed, event_id: int, attributes: object) -> None:
    scheduled = attributes.scheduled_event_id  # type: ignore[attr-defined]
    requested = attributes.requested_event_id  # type: ignore[attr-defined]
    is_known = r.operation_cancels.get(scheduled) == requested and r.operations.get(scheduled)
    r.expect(is_known, f"{event_id}: request {requested} to cancel {scheduled}")


_HANDLERS: Mapping[str, Callable[[Replayed, int, object], None]] = {
    f"{_TASK}SCHEDULED": _task_scheduled,
    f"{_TASK}STARTED": _task_started,
    f"{_TASK}COMPLETED": _task_completed,
    f"{_TASK}FAILED": _task_not_completed,
    f"{_TASK}TIMED_OUT": _task_not_completed,
    "ACTIVITY_TASK_SCHEDULED": _activity_scheduled,
    "ACTIVITY_TASK_STARTED": _activity_started,
    **dict.fromkeys(_ACTIVITY_ENDS, _activity_ended),
    "ACTIVITY_TASK_CANCEL_REQUESTED": _activity_cancel_requested,
    "TIMER_STARTED": _timer_started,
    "TIMER_FIRED": _timer_ended,
    "TIMER_CANCELED": _timer_ended,
    f"{_RUN}UPDATE_ADMITTED": _update_admitted,
    f"{_RUN}UPDATE_ACCEPTED": _update_accepted,
    f"{_RUN}UPDATE_COMPLETED": _update_completed,
    f"START_CHILD_{_RUN}INITIATED": _child_initiated,
    f"START_CHILD_{_RUN}FAILED": _child_not_started,
    f"CHILD_{_RUN}STARTED": _child_started,
    **dict.fromkeys(_CHILD_ENDS, _child_ended),
    f"SIGNAL_EXTERNAL_{_RUN}INITIATED": _external_initiated,
    f"REQUEST_CANCEL_EXTERNAL_{_RUN}INITIATED": _external_initiated,
    **dict.fromkeys(_EXTERNAL, _external_settled),
    "NEXUS_OPERATION_SCHEDULED": _operation_scheduled,
    "NEXUS_OPERATION_STARTED": _operation_started,
    **dict.fromkeys(_OPERATION_ENDS, _operation_ended),
    "NEXUS_OPERATION_CANCEL_REQUESTED": _operation_cancel_requested,
    "NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED": _operation_cancel_settled,
    "NEXUS_OPERATION_CANCEL_REQUEST_FAILED": _operation_cancel_settled,
    f"{_RUN}SIGNALED": _signaled,
    f"{_RUN}CANCEL_REQUESTED": _cancel_asked,
}


# --- the rules ---


@dataclass(frozen=True, slots=True)
class HistorySubject:
    """A state and the replay of its history, with and without the buffered events."""

    header: RunHeader
    activities: Mapping[int, Activity]
    timers: Mapping[str, Timer]
    written: Replayed
    whole: Replayed
    length: int
    updates: Mapping[str, Update] = field(default_factory=dict)
    children: Mapping[int, Child] = field(default_factory=dict)
    externals: Mapping[int, External] = field(default_factory=dict)
    operations: Mapping[int, NexusOperation] = field(default_factory=dict)


def _history_is_possible(s: HistorySubject) -> str | None:
    return "; ".join(s.whole.problems) or None


def _length_is_known(s: HistorySubject) -> str | None:
    return (
        None
        if s.header.next_event_id == s.length + 1
        else f"{s.length} events, next {s.header.next_event_id}"
    )


def _status_is_told(s: HistorySubject) -> str | None:
    return (
        None
        if bool(s.written.ended) != s.header.is_open
        else f"status {s.header.status}, {s.written.ended!r}"
    )


def _pending_activities_agree(s: HistorySubject) -> str | None:
    pending = {key: activity.activity_id for key, activity in s.activities.items()}
    told = s.whole.activities if s.header.is_open else {}
    if pending != told:
        return f"the state has {pending}, the history {told}"
    for key, activity in s.activities.items():
        if activity.cancel_requested_event_id != s.whole.cancel_requested.get(key, 0):
            return f"cancellation of {key} requested by {activity.cancel_requested_event_id}"
        if key in s.whole.started:
            return f"{key} is pending and its Started event is written"
    return None


def _pending_timers_agree(s: HistorySubject) -> str | None:
    pending = {timer.started_event_id: timer_id for timer_id, timer in s.timers.items()}
    told = s.whole.timers if s.header.is_open else {}
    return None if pending == told else f"the state has {pending}, the history {told}"


def _pending_children_agree(s: HistorySubject) -> str | None:
    told = s.whole.children
    if not s.header.is_open:
        unknown = {key for key in s.children if not told.get(key)}
        return f"a closed parent keeps {unknown}, which do not run" if unknown else None
    if s.children.keys() != told.keys():
        return f"the state has {sorted(s.children)}, the history {sorted(told)}"
    for key, child in s.children.items():
        started = told[key]
        known = started if started <= s.length else 0
        if bool(child.run_id) != bool(started) or child.started_event_id != known:
            return f"child {key} started by {child.started_event_id}, the history says {started}"
    return None


def _pending_externals_agree(s: HistorySubject) -> str | None:
    pending = {key: external.kind for key, external in s.externals.items()}
    told = s.whole.externals if s.header.is_open else {}
    return None if pending == told else f"the state has {pending}, the history {told}"


def _pending_operations_agree(s: HistorySubject) -> str | None:
    told = s.whole.operations if s.header.is_open else {}
    if s.operations.keys() != told.keys():
        return f"the state has {sorted(s.operations)}, the history {sorted(told)}"
    for key, item in s.operations.items():
        if bool(item.started_ns) != bool(told[key]):
            return f"operation {key} started by {told[key]}, the state says {item.started_ns}"
        if item.cancel_requested_event_id != s.whole.operation_cancels.get(key, 0):
            return f"cancellation of operation {key} requested by {item.cancel_requested_event_id}"
    return None


def _workflow_task_agrees(s: HistorySubject) -> str | None:
    header = s.header
    told = (s.written.scheduled, s.written.began) if header.is_open else (0, 0)
    kept = (header.task_scheduled_event_id, header.task_started_event_id)
    if header.has_pending_task and (header.is_task_transient or header.task_is_speculative):
        return None if told == (0, 0) else f"a transient or speculative task, the history has {told}"
    return None if kept == told else f"the state has {kept}, the history {told}"


def _last_completed_agrees(s: HistorySubject) -> str | None:
    kept, told = s.header.last_completed_task_started_event_id, s.written.last_started
    return None if kept == told else f"the state has {kept}, the history {told}"


def _news_are_looked_at(s: HistorySubject) -> str | None:
    header = s.header
    waits = header.has_pending_task or header.first_task_at_ns or header.paused_ns
    if not header.is_open or waits or not s.whole.news:
        return None
    return f"nobody will look at {s.whole.news}"


def _updates_agree(s: HistorySubject) -> str | None:
    kept = {key: (update.accepted_event_id, update.completed_event_id) for key, update in s.updates.items()}
    # One that a reset brought and the workflow rejected left its event only.
    told = {key: events for key, events in s.whole.updates.items() if events[0] or key in kept}
    return None if kept == told else f"the state has {kept}, the history {s.whole.updates}"


def _counts_agree(s: HistorySubject) -> str | None:
    if s.header.is_open and s.header.signal_count != s.whole.signals:
        return f"{s.header.signal_count} signals counted, {s.whole.signals} in the history"
    if s.header.cancel_requested != s.whole.cancel_asked and s.header.is_open:
        return "the request to cancel is in one place only"
    return None


HISTORY_RULES: tuple[Rule[HistorySubject], ...] = (
    Rule("the history is one that can have happened", _history_is_possible),
    Rule("the state knows the history's length", _length_is_known),
    Rule("a closing event is there when the run is closed", _status_is_told),
    Rule("pending activities follow from the history", _pending_activities_agree),
    Rule("pending timers follow from the history", _pending_timers_agree),
    Rule("pending children follow from the history", _pending_children_agree),
    Rule("signals and cancellations on their way follow from the history", _pending_externals_agree),
    Rule("pending Nexus operations follow from the history", _pending_operations_agree),
    Rule("the pending workflow task follows from the history", _workflow_task_agrees),
    Rule("the last completed workflow task follows from the history", _last_completed_agrees),
    Rule("every event that a workflow must hear of is looked at", _news_are_looked_at),
    Rule("accepted and completed updates follow from the history", _updates_agree),
    Rule("signals and the request to cancel are counted", _counts_agree),
)
