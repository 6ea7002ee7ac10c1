"""What a run's state must be, derived a second time: from its events alone, without the core's code.

One `RunModel` per run takes every committed batch of events and every task row, and then compares the stored state with
what it has worked out itself. Each check has a name, so that a failure says which promise was broken.
"""

from __future__ import annotations

from typing import Any

from perdure.api.enums.v1 import WorkflowTaskFailedCause
from perdure.api.history.v1 import HistoryEvent
from perdure.core.deployment.routes import queue_name
from perdure.core.run.records import RunKey, RunWrite, Task, TaskKey, TaskKind, VisibilityRecord
from perdure.core.run.state import Activity, RunHeader, RunState
from tests.simulation.interpreter import Interpreter, NonDeterminism, attributes_of, event_name

RUNNING = 1
BATCH_SIGNAL = "batch"
"""How the names of the signals of batch operations begin; the job's id follows."""
_SHOWN_PAUSED = 8
"""WORKFLOW_EXECUTION_STATUS_PAUSED, which is not the status of a state."""
_PAUSED_FIRST = WorkflowTaskFailedCause.Value(
    "WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_PAUSE_REQUESTED_BEFORE_TASK_STARTED"
)
_STATUS = {
    "WORKFLOW_EXECUTION_COMPLETED": 2,
    "WORKFLOW_EXECUTION_FAILED": 3,
    "WORKFLOW_EXECUTION_CANCELED": 4,
    "WORKFLOW_EXECUTION_TERMINATED": 5,
    "WORKFLOW_EXECUTION_CONTINUED_AS_NEW": 6,
    "WORKFLOW_EXECUTION_TIMED_OUT": 7,
}
_ACTIVITY_ENDS = frozenset(f"ACTIVITY_TASK_{end}" for end in ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELED"))
_CHILD_ENDS = frozenset(
    f"CHILD_WORKFLOW_EXECUTION_{end}"
    for end in ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELED", "TERMINATED")
)
_OPERATION_ENDS = frozenset(
    f"NEXUS_OPERATION_{end}" for end in ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELED")
)
_OUTCOMES = frozenset(
    (
        "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED",
        "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED",
        "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED",
    )
)
_ENDS = _ACTIVITY_ENDS | _CHILD_ENDS | _OPERATION_ENDS
_NEWS = (
    _ENDS
    | _OUTCOMES
    | {
        "START_CHILD_WORKFLOW_EXECUTION_FAILED",
        "CHILD_WORKFLOW_EXECUTION_STARTED",
        "NEXUS_OPERATION_STARTED",
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_TASK_TIMED_OUT",
        "TIMER_FIRED",
    }
)
"""Events that a workflow task must follow."""
_WAITING = frozenset(
    (
        "ACTIVITY_TASK_STARTED",
        "TIMER_FIRED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "CHILD_WORKFLOW_EXECUTION_STARTED",
        "NEXUS_OPERATION_STARTED",
        "START_CHILD_WORKFLOW_EXECUTION_FAILED",
    )
)
"""Events that wait while a workflow task is started, beside the completions."""


class Broken(Exception):
    """An invariant does not hold.

    Args:
        name: which.
        detail: what was found.
    """

    def __init__(self, name: str, detail: object) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


def check(condition: object, name: str, detail: object) -> None:
    """Raises `Broken` unless the condition holds."""
    if not condition:
        raise Broken(name, detail)


class RunModel:
    """One run, as its events tell.

    Attributes:
        status: of the closing event, 1 while there is none.
        signals: request ids in the history.
        is_reset: the history begins with a copy of another run's.
        batches: ids of the batch operations that have signalled it.
        pokes: (sender's run id, request id) of signals of other workflows.
        finished: (activity id, event name) of every closed activity.
        tasks: the run's task rows.
        visibility: the run's row in lists.
    """

    def __init__(self, run: RunKey) -> None:
        self.run = run
        self.version = 0
        self.status = RUNNING
        self.next_event_id = 1
        self.close_event: HistoryEvent | None = None
        self.signals: list[str] = []
        self.batches: set[str] = set()
        self._priority: bytes | None = None
        self.is_reset = False
        self.pokes: list[tuple[str, str]] = []
        self.cancel_requested = False
        self.finished: dict[str, str] = {}
        self.tasks: dict[TaskKey, Task] = {}
        self.visibility: VisibilityRecord | None = None
        self.replay = Interpreter()
        self.started_event: HistoryEvent | None = None
        self._activities: dict[int, tuple[str, int]] = {}
        self._timers: dict[str, tuple[int, int]] = {}
        self._operations: set[int] = set()
        self._task_scheduled = 0
        self._task_started = 0
        self._last_completed_started = 0
        self._last_news = 0

    # --- what is written

    def apply(self, write: RunWrite, events: list[HistoryEvent]) -> None:
        """Takes one committed write, with its events parsed."""
        check(write.expected_version == self.version, "version increases by one", write.expected_version)
        self.version += 1
        for event in events:
            check(event.event_id == self.next_event_id, "history has no gap", event.event_id)
            check(self.status == RUNNING, "nothing follows the closing event", event.event_id)
            self.next_event_id += 1
            self._take(event, event_name(event))
        if not (self.is_reset and self.version == 1):  # a copied history has many flushes
            _check_flush_order(events)
        try:
            self.replay.feed(events)
        except NonDeterminism as error:
            raise Broken("history replays", error) from error
        for key in write.tasks_deleted:
            self.tasks.pop(key, None)
        for task in write.tasks_put:
            self.tasks[task.key] = task
        if write.visibility is not None:
            self.visibility = write.visibility

    def _take(self, event: HistoryEvent, name: str) -> None:
        attributes = attributes_of(event)
        if name in _NEWS:
            self._last_news = event.event_id
        handle = getattr(self, f"_on_{name.lower()}", None)
        if handle is not None:
            handle(event, attributes)
        elif name in _ACTIVITY_ENDS:
            pending = self._activities.pop(attributes.scheduled_event_id, None)
            check(pending is not None, "an activity ends once", (name, event.event_id))
            if pending is not None:
                known = attributes.started_event_id == pending[1]
                check(known, "an activity's end names its start", (name, event.event_id))
                self.finished[pending[0]] = name
        elif name in _OPERATION_ENDS:
            pending_operation = attributes.scheduled_event_id in self._operations
            check(pending_operation, "an operation ends once", (name, event.event_id))
            self._operations.discard(attributes.scheduled_event_id)
        elif name in _STATUS:
            self.status = _STATUS[name]
            self.close_event = event

    def _on_workflow_execution_started(self, event: HistoryEvent, attributes: Any) -> None:
        check(event.event_id == 1, "the first event starts the run", event.event_id)
        self.started_event = event

    def _on_workflow_execution_signaled(self, event: HistoryEvent, attributes: Any) -> None:
        if attributes.external_workflow_execution.run_id:
            key = (attributes.external_workflow_execution.run_id, attributes.request_id)
            check(key not in self.pokes, "a signal of another workflow is recorded once", key)
            self.pokes.append(key)
            return
        check(attributes.request_id not in self.signals, "a signal is recorded once", attributes.request_id)
        if attributes.signal_name.startswith(BATCH_SIGNAL):
            job_id = attributes.signal_name.removeprefix(f"{BATCH_SIGNAL} ")
            check(job_id not in self.batches, "a batch does everything once", job_id)
            self.batches.add(job_id)
        self.signals.append(attributes.request_id)

    def _on_workflow_execution_cancel_requested(self, event: HistoryEvent, attributes: Any) -> None:
        check(not self.cancel_requested, "a cancellation is requested once", event.event_id)
        self.cancel_requested = True

    def _on_workflow_task_scheduled(self, event: HistoryEvent, attributes: Any) -> None:
        check(not self._task_scheduled, "one workflow task at a time", event.event_id)
        self._task_scheduled = event.event_id

    def _on_workflow_task_started(self, event: HistoryEvent, attributes: Any) -> None:
        same = attributes.scheduled_event_id == self._task_scheduled and not self._task_started
        check(same, "a workflow task starts once", event.event_id)
        self._task_started = event.event_id

    def _on_workflow_task_completed(self, event: HistoryEvent, attributes: Any) -> None:
        same = (attributes.scheduled_event_id, attributes.started_event_id) == (
            self._task_scheduled,
            self._task_started,
        )
        check(same and self._task_started, "a workflow task completes after it started", event.event_id)
        self._last_completed_started = self._task_started
        self._task_scheduled = self._task_started = 0

    def _on_workflow_task_failed(self, event: HistoryEvent, attributes: Any) -> None:
        self.is_reset = self.is_reset or bool(attributes.base_run_id)
        known = attributes.started_event_id == self._task_started
        paused = attributes.cause == _PAUSED_FIRST
        check(known and (self._task_started != 0) != paused, "a started task fails", event.event_id)
        self._task_scheduled = self._task_started = 0

    def _on_workflow_task_timed_out(self, event: HistoryEvent, attributes: Any) -> None:
        check(attributes.started_event_id == self._task_started, "the task times out", event.event_id)
        self._task_scheduled = self._task_started = 0

    def _on_workflow_execution_options_updated(self, event: HistoryEvent, attributes: Any) -> None:
        self._priority = _priority_of(attributes, self._priority)

    def _on_activity_task_scheduled(self, event: HistoryEvent, attributes: Any) -> None:
        self._activities[event.event_id] = (attributes.activity_id, 0)

    def _on_activity_task_started(self, event: HistoryEvent, attributes: Any) -> None:
        pending = self._activities.get(attributes.scheduled_event_id)
        check(pending is not None and not pending[1], "an activity starts once", event.event_id)
        if pending is not None:
            self._activities[attributes.scheduled_event_id] = (pending[0], event.event_id)

    def _on_nexus_operation_scheduled(self, event: HistoryEvent, attributes: Any) -> None:
        self._operations.add(event.event_id)

    def _on_timer_started(self, event: HistoryEvent, attributes: Any) -> None:
        check(attributes.timer_id not in self._timers, "timer ids are unique", attributes.timer_id)
        fire_ns = event.event_time.ToNanoseconds() + attributes.start_to_fire_timeout.ToNanoseconds()
        self._timers[attributes.timer_id] = (event.event_id, fire_ns)

    def _on_timer_fired(self, event: HistoryEvent, attributes: Any) -> None:
        started = self._end_timer(attributes.timer_id, attributes.started_event_id)
        check(event.event_time.ToNanoseconds() >= started, "no timer fires early", attributes.timer_id)

    def _on_timer_canceled(self, event: HistoryEvent, attributes: Any) -> None:
        self._end_timer(attributes.timer_id, attributes.started_event_id)

    def _end_timer(self, timer_id: str, started_event_id: int) -> int:
        pending = self._timers.pop(timer_id, None)
        check(pending is not None and pending[0] == started_event_id, "a timer ends once", timer_id)
        return pending[1] if pending is not None else 0

    # --- compared with the stored state

    def compare(self, state: RunState) -> None:
        """Checks the stored state against the events."""
        header = state.header
        check(state.version == self.version, "version increases by one", state.version)
        check(header.next_event_id == self.next_event_id, "the state counts the events", header.next_event_id)
        check(header.status == self.status, "the status is that of the closing event", header.status)
        record = self.visibility
        shown = _SHOWN_PAUSED if header.paused_ns else header.status
        check(record is not None and record.status == shown, "lists show the status", record)
        priority = self._priority
        for event in state.buffered.values():
            if event_name(event) == "WORKFLOW_EXECUTION_OPTIONS_UPDATED":
                priority = _priority_of(attributes_of(event), priority)
        known = priority is None or priority == header.priority
        check(known, "a run's options are those of its events", header.priority)
        self._check_tasks(state)
        check(self._wakes(state), "the wake-up is not after any deadline", state.wakeup_ns)
        if self.status != RUNNING:
            left = (
                state.activities,
                state.timers,
                state.buffered,
                state.externals,
                state.nexus_operations,
            )
            check(not any(left) and not header.has_pending_task, "a closed run has nothing pending", left)
            closed = record is not None and record.close_time_ns == header.close_ns
            check(closed and header.close_event_id == self.next_event_id - 1, "a run closes once", header)
            return
        self._check_workflow_task(header)
        self._check_items(state)

    def _check_workflow_task(self, header: RunHeader) -> None:
        if header.is_task_transient and header.has_pending_task:
            check(not self._task_scheduled, "a transient task has no events", header.task_scheduled_event_id)
        else:
            pending = (header.task_scheduled_event_id, header.task_started_event_id)
            check(pending == (self._task_scheduled, self._task_started), "the state knows the task", pending)
        last = header.last_completed_task_started_event_id
        check(last == self._last_completed_started, "the state knows the last completed task", last)
        handled = self._last_news <= self._last_completed_started
        wakes = handled or header.has_pending_task or header.first_task_at_ns or header.paused_ns
        check(wakes, "every open run has something that will wake it", self._last_news)

    def _check_items(self, state: RunState) -> None:
        waiting = [(event_name(event), attributes_of(event)) for event in state.buffered.values()]
        check(not waiting or state.header.has_started_task, "events wait for a started task only", waiting)
        ended = [attributes.scheduled_event_id for name, attributes in waiting if name in _ACTIVITY_ENDS]
        activities = sorted([*state.activities, *ended])
        check(
            activities == sorted(self._activities), "pending activities are those of the events", activities
        )
        operations = sorted(
            [
                *state.nexus_operations,
                *(attributes.scheduled_event_id for name, attributes in waiting if name in _OPERATION_ENDS),
            ]
        )
        check(
            operations == sorted(self._operations), "pending operations are those of the events", operations
        )
        fired = [
            (attributes.timer_id, attributes.started_event_id)
            for name, attributes in waiting
            if name == "TIMER_FIRED"
        ]
        timers = sorted([*((t.timer_id, t.started_event_id) for t in state.timers.values()), *fired])
        known = sorted((timer_id, started[0]) for timer_id, started in self._timers.items())
        check(timers == known, "pending timers are those of the events", timers)
        for timer in state.timers.values():
            on_time = timer.fire_ns == self._timers[timer.timer_id][1]
            check(on_time, "a timer is due when its event says", timer)
        signals = [
            attributes.request_id
            for name, attributes in waiting
            if name == "WORKFLOW_EXECUTION_SIGNALED" and not attributes.external_workflow_execution.run_id
        ]
        check(len(set(signals)) == len(signals), "a signal is recorded once", signals)
        known_ids = sorted([*self.signals, *signals])
        check(sorted(state.signal_request_ids) == known_ids, "signal request ids are remembered", known_ids)
        asked = self.cancel_requested or any(
            name == "WORKFLOW_EXECUTION_CANCEL_REQUESTED" for name, _ in waiting
        )
        check(state.header.cancel_requested == asked, "a cancellation is remembered", asked)

    def _check_tasks(self, state: RunState) -> None:
        header = state.header
        wanted: set[tuple[TaskKey, str, str]] = set()
        if self.status == RUNNING and not header.paused_ns:
            if header.has_pending_task and not header.has_started_task:
                sticky = header.task_on_sticky_queue and not header.task_rerouted
                queue = header.sticky_queue if sticky else queue_name(header.task_queue, header.task_version)
                key = TaskKey(TaskKind.WORKFLOW, header.task_scheduled_event_id)
                wanted.add((key, queue, str(header.task_stamp)))
            known = header.versioning
            is_held = known is not None and known.holds_activities
            check(
                not is_held or (known is not None and known.is_moving), "only a move holds activities", known
            )
            for activity in () if is_held else state.activities.values():
                if not activity.started_ns and not activity.backing_off and not activity.paused_ns:
                    key = TaskKey(TaskKind.ACTIVITY, activity.scheduled_event_id)
                    wanted.add((key, queue_name(activity.task_queue, activity.version), str(activity.stamp)))
        rows = {(task.key, task.queue.name, task.delivery_id) for task in self.tasks.values()}
        check(rows == wanted, "task rows are what the state calls for", (rows, wanted))
        for task in self.tasks.values():
            check(task.queue.namespace_id == self.run.namespace_id, "namespaces do not mix", task)

    def _wakes(self, state: RunState) -> bool:
        deadlines = self._deadlines(state)
        return not deadlines or (state.wakeup_ns is not None and state.wakeup_ns <= min(deadlines))

    def _deadlines(self, state: RunState) -> list[int]:
        header = state.header
        if self.status != RUNNING:
            return (
                [header.close_ns]
                if header.owes_parent or state.children
                else [header.close_ns + header.retention_ns]
            )
        found = [timer.fire_ns for timer in state.timers.values()]
        found += [header.run_expiration_ns] if header.run_expiration_ns else []
        if header.has_started_task:
            found.append(header.task_started_ns + header.task_timeout_ns)
        elif header.has_pending_task and header.task_on_sticky_queue and header.sticky_timeout_ns:
            found.append(header.task_scheduled_ns + header.sticky_timeout_ns)
        elif header.has_pending_task and not header.task_on_sticky_queue and header.task_start_limit_ns:
            found.append(header.task_scheduled_ns + header.task_start_limit_ns)
        elif header.first_task_at_ns and not header.has_pending_task and not header.paused_ns:
            found.append(header.first_task_at_ns)
        found += [child.initiated_ns for child in state.children.values() if not child.run_id]
        found += [external.initiated_ns for external in state.externals.values()]
        for activity in state.activities.values():
            found += _activity_deadlines(activity)
        return found

    def activity_id(self, scheduled_event_id: int) -> str:
        """The pending activity's id, empty when it is not pending."""
        return self._activities.get(scheduled_event_id, ("", 0))[0]

    def knows_signal(self, state: RunState | None, request_id: str) -> bool:
        """Whether a signal is in the history or waits to be written."""
        waiting = state.buffered.values() if state is not None else ()
        return request_id in self.signals or any(
            event.workflow_execution_signaled_event_attributes.request_id == request_id for event in waiting
        )


def _priority_of(attributes: Any, before: bytes | None) -> bytes | None:
    """The run's priority after an event of changed options; one that only attaches something leaves it."""
    if attributes.unset_versioning_override or attributes.HasField("versioning_override"):
        return bytes(attributes.priority.SerializeToString())
    return before


def _check_flush_order(events: list[HistoryEvent]) -> None:
    """Of events that may wait in the buffer, those written together have the completions last."""
    ended = 0
    for event in events:
        name = event_name(event)
        if name in _ENDS:
            ended = event.event_id
        else:
            check(
                not ended or name not in _WAITING,
                "a flush has the completions last",
                f"{ended} {event.event_id}",
            )


def _activity_deadlines(activity: Activity) -> list[int]:
    found: list[int] = []
    if activity.paused_ns:
        return found
    if activity.schedule_to_close_ns:
        found.append(activity.first_scheduled_ns + activity.schedule_to_close_ns)
    if activity.started_ns:
        if activity.start_to_close_ns:
            found.append(activity.started_ns + activity.start_to_close_ns)
        if activity.heartbeat_ns:
            found.append(max(activity.started_ns, activity.last_heartbeat_ns) + activity.heartbeat_ns)
    elif activity.backing_off:
        found.append(activity.scheduled_ns)
    elif activity.schedule_to_start_ns:
        found.append(activity.scheduled_ns + activity.schedule_to_start_ns)
    return found
