"""From events, and a description of what is pending, to the model. One function per kind of event, found by a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from perdure.api.enums.v1 import EventType, PendingActivityState
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from perdure.ui.plain import payload as shown_payload
from perdure.ui.timeline.attempts import earlier_attempts
from perdure.ui.timeline.model import Item, Kind, Phase, Segment, State, Timeline

_MOST_SUMMARY: Final = 200
"""Characters of a summary that are shown."""
_PATCH_MARKERS: Final = frozenset({"core_patch"})
_LOCAL_MARKERS: Final = frozenset({"core_local_activity", "LocalActivity"})


def build(
    events: Iterable[HistoryEvent], described: DescribeWorkflowExecutionResponse | None, now_ns: int
) -> Timeline:
    """The model of a run.

    Args:
        events: its history, or a part of it, in order.
        described: what the server says of it now; None to go by the events alone.
        now_ns: the time, in nanoseconds since the epoch.
    """
    builder = _Builder(now_ns)
    for event in events:
        builder.add(event)
    if described is not None:
        builder.add_pending(described)
    return builder.finish()


class _Builder:
    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._items: dict[int, Item] = {}
        self._scheduled: dict[int, HistoryEvent] = {}
        self._started: dict[int, HistoryEvent] = {}
        self._updates: dict[str, Item] = {}
        self._first: HistoryEvent | None = None
        self._last: HistoryEvent | None = None
        self._closed_ns: int | None = None
        self._is_paused = False
        self._cancel_requested = False
        self._waits: list[str] = []
        self._task_id = 0
        self._task_failure = ""

    # --- events ---

    def add(self, event: HistoryEvent) -> None:
        """Takes the next event."""
        self._first = self._first or event
        self._last = event
        handler = _HANDLERS.get(event.event_type)
        if handler is not None:
            handler(self, event, _attributes(event), event.event_time.ToNanoseconds())

    def _open(self, event: HistoryEvent, kind: Kind, name: str, key: str = "", detail: str = "") -> Item:
        item = Item(kind, name, key, event.event_id, event.event_time.ToNanoseconds(), detail=detail)
        if event.user_metadata.HasField("summary"):
            item.summary = _line_of(shown_payload(event.user_metadata.summary)["value"])
        self._items[event.event_id] = item
        return item

    def _moment(self, event: HistoryEvent, kind: Kind, name: str, detail: str = "", key: str = "") -> Item:
        item = self._open(event, kind, name, key, detail)
        item.end_ns, item.state, item.last_event_id = item.start_ns, State.OK, event.event_id
        return item

    def _opened(self, event: HistoryEvent, event_id: int, kind: Kind) -> Item:
        """The item that began with an event; if that is missing, one that begins where this part does."""
        item = self._items.get(event_id)
        if item is None:
            start_ns = self._first.event_time.ToNanoseconds() if self._first is not None else 0
            item = Item(
                kind, kind.value, f"event {event_id}", event_id, start_ns, detail="began before this part"
            )
            self._items[event_id] = item
        return item

    def _close(self, item: Item, event: HistoryEvent, state: State, failure: str = "") -> None:
        item.end_ns = max(event.event_time.ToNanoseconds(), item.start_ns)
        item.state, item.last_event_id = state, event.event_id
        if failure:
            item.detail = failure
        if item.segments and item.segments[-1].end_ns is None:
            last = item.segments[-1]
            item.segments[-1] = Segment(last.phase, last.start_ns, item.end_ns, last.attempt, state, failure)

    def life(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """The run starts or closes, is paused, asked to cancel or given other options."""
        text, detail = _LIFE[event.event_type]
        item = self._moment(event, Kind.LIFE, text, detail)
        kind = event.event_type
        if kind in _CLOSING:
            self._closed_ns, item.state = at_ns, _CLOSING[kind]
            failure = getattr(attributes, "failure", None)
            if isinstance(failure, Failure) and failure.message:
                item.detail = words(failure)
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            backoff_ns = attributes.first_workflow_task_backoff.ToNanoseconds()
            if backoff_ns:
                item.end_ns = at_ns + backoff_ns
                item.segments.append(Segment(Phase.SLEEP, at_ns, item.end_ns, 0, State.OK))
                item.detail = "its start was delayed"
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
            self._cancel_requested = True
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED:
            self._is_paused = True
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UNPAUSED:
            self._is_paused = False

    def task_scheduled(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """A workflow task waits for a worker."""
        item = self._open(event, Kind.TASK, "workflow task")
        item.segments.append(Segment(Phase.WAIT, at_ns, None, attributes.attempt))
        self._task_id = event.event_id

    def task_started(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """A worker has it."""
        item = self._opened(event, attributes.scheduled_event_id, Kind.TASK)
        if item.segments:
            wait = item.segments.pop()
            if at_ns > wait.start_ns:
                item.segments.append(Segment(Phase.WAIT, wait.start_ns, at_ns, wait.attempt, State.OK))
        item.segments.append(Segment(Phase.RUN, at_ns, None))
        item.detail = f"by {attributes.identity}"

    def task_closed(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """It was answered, or timed out."""
        item = self._opened(event, attributes.scheduled_event_id, Kind.TASK)
        state = _ENDS[event.event_type]
        failure = words(attributes.failure) if state is State.FAILED else "no answer in time"
        self._close(item, event, state, failure if state.is_bad else "")
        self._task_id = 0
        self._task_failure = failure if state.is_bad else ""

    def activity_scheduled(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """An activity waits for a worker."""
        item = self._open(event, Kind.ACTIVITY, attributes.activity_type.name, attributes.activity_id)
        item.segments.append(Segment(Phase.WAIT, at_ns, None, 1))
        self._scheduled[event.event_id] = event

    def activity_started(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """The last attempt of an activity began: the history says so when the activity ends."""
        item = self._opened(event, attributes.scheduled_event_id, Kind.ACTIVITY)
        item.segments = self._attempts(item, at_ns, attributes.attempt, words(attributes.last_failure))
        item.segments.append(Segment(Phase.ATTEMPT, at_ns, None, attributes.attempt))
        if attributes.attempt > 1:
            item.detail = f"attempt {attributes.attempt}"

    def _attempts(self, item: Item, last_start_ns: int, attempt: int, failure: str) -> list[Segment]:
        scheduled = self._scheduled.get(item.event_id)
        if scheduled is None:
            return []
        policy = scheduled.activity_task_scheduled_event_attributes.retry_policy
        return earlier_attempts(policy, item.start_ns, last_start_ns, attempt, failure)

    def closed(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """An activity or a Nexus operation ended."""
        kind = Kind.ACTIVITY if "ACTIVITY" in EventType.Name(event.event_type) else Kind.NEXUS
        item = self._opened(event, attributes.scheduled_event_id, kind)
        failure = getattr(attributes, "failure", None)
        said = words(failure) if isinstance(failure, Failure) else ""
        self._close(item, event, _ENDS[event.event_type], said)
        if kind is Kind.ACTIVITY and not getattr(attributes, "started_event_id", 1):
            item.detail = item.detail or "no worker began it"

    def timer_started(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """A timer runs."""
        seconds = attributes.start_to_fire_timeout.ToNanoseconds() / 1e9
        item = self._open(event, Kind.TIMER, "timer", attributes.timer_id, f"for {seconds:g} s")
        item.segments.append(Segment(Phase.SLEEP, at_ns, None))
        self._scheduled[event.event_id] = event

    def timer_ended(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """It fired, or was canceled."""
        detail = self._opened(event, attributes.started_event_id, Kind.TIMER)
        self._close(detail, event, _ENDS[event.event_type])

    def child_initiated(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """A child workflow is to be started."""
        item = self._open(event, Kind.CHILD, attributes.workflow_type.name, attributes.workflow_id)
        item.target = (attributes.workflow_id, "")
        item.segments.append(Segment(Phase.WAIT, at_ns, None))

    def child_started(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """It was started."""
        item = self._opened(event, attributes.initiated_event_id, Kind.CHILD)
        item.segments = (
            [Segment(Phase.WAIT, item.start_ns, at_ns, 0, State.OK)] if at_ns > item.start_ns else []
        )
        item.segments.append(Segment(Phase.RUN, at_ns, None))
        item.target = (attributes.workflow_execution.workflow_id, attributes.workflow_execution.run_id)

    def initiated_closed(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """A child ended, or a message to another workflow arrived or did not."""
        item = self._opened(event, attributes.initiated_event_id, Kind.CHILD)
        failure = getattr(attributes, "failure", None)
        said = words(failure) if isinstance(failure, Failure) else ""
        self._close(item, event, _ENDS[event.event_type], said)

    def external(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """Another workflow is to be signalled or canceled."""
        other = attributes.workflow_execution
        name = getattr(attributes, "signal_name", "")
        text = f"signal {name}" if name else "cancel"
        item = self._open(event, Kind.EXTERNAL, text, other.workflow_id)
        item.target = (other.workflow_id, other.run_id)
        item.segments.append(Segment(Phase.RUN, at_ns, None))

    def nexus_scheduled(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """A Nexus operation is to be started."""
        name = f"{attributes.service}.{attributes.operation}"
        item = self._open(event, Kind.NEXUS, name, attributes.endpoint)
        item.segments.append(Segment(Phase.WAIT, at_ns, None))

    def nexus_started(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """Its handler took it on."""
        item = self._opened(event, attributes.scheduled_event_id, Kind.NEXUS)
        item.segments = [Segment(Phase.WAIT, item.start_ns, at_ns, 0, State.OK)]
        item.segments.append(Segment(Phase.RUN, at_ns, None))

    def signaled(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """A signal arrived."""
        self._moment(event, Kind.SIGNAL, attributes.signal_name, f"from {attributes.identity}")

    def marker(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """Workflow code recorded something."""
        if attributes.marker_name in _LOCAL_MARKERS:
            self._local_activity(event, attributes, at_ns)
        else:
            patch = _marker_data(attributes).get("id") if attributes.marker_name in _PATCH_MARKERS else None
            self._moment(event, Kind.MARKER, f"patch {patch}" if patch else attributes.marker_name)

    def _local_activity(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        data = _marker_data(attributes)
        name = str(data.get("activity_type") or "local activity")
        item = self._moment(event, Kind.LOCAL, name, key=str(data.get("activity_id") or ""))
        if attributes.HasField("failure"):
            item.state, item.detail = State.FAILED, words(attributes.failure)

    def update_accepted(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """An update was accepted: it runs."""
        request = attributes.accepted_request
        key = request.meta.update_id or attributes.protocol_instance_id
        item = self._open(event, Kind.UPDATE, request.input.name or "update", key)
        item.segments.append(Segment(Phase.RUN, at_ns, None))
        self._updates[key] = item

    def update_completed(self, event: HistoryEvent, attributes: Any, at_ns: int) -> None:
        """An update ended."""
        item = self._updates.get(attributes.meta.update_id)
        if item is None:
            item = self._opened(event, attributes.accepted_event_id, Kind.UPDATE)
        failed = attributes.outcome.HasField("failure")
        said = words(attributes.outcome.failure) if failed else ""
        self._close(item, event, State.FAILED if failed else State.OK, said)

    # --- what is pending now ---

    def add_pending(self, described: DescribeWorkflowExecutionResponse) -> None:
        """Adds what the history does not say: attempts under way, and what the run waits for."""
        for pending in described.pending_activities:
            self._pending_activity(pending)
        by_event = {
            operation.scheduled_event_id: operation for operation in described.pending_nexus_operations
        }
        for item in self._items.values():
            operation = by_event.get(item.event_id)
            if operation is not None and item.end_ns is None:
                item.detail = words(operation.last_attempt_failure) or item.detail
        if described.HasField("pending_workflow_task"):
            task = described.pending_workflow_task
            has_worker = task.HasField("started_time")
            text = (
                "a worker that runs the workflow's code" if has_worker else "a worker for its workflow task"
            )
            if task.attempt > 1:
                failure = f": {self._task_failure}" if self._task_failure else ""
                text += f" (attempt {task.attempt}: the workflow task before it failed{failure})"
            self._waits.append(text)

    def _pending_activity(self, pending: Any) -> None:
        item = next(
            (
                one
                for one in reversed(self._items.values())
                if one.kind is Kind.ACTIVITY and one.key == pending.activity_id and one.end_ns is None
            ),
            None,
        )
        if item is None:
            return
        failure = words(pending.last_failure)
        is_running = pending.state in (
            PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
            PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
            PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
        )
        if is_running and pending.HasField("last_started_time"):
            begun_ns = pending.last_started_time.ToNanoseconds()
            item.segments = self._attempts(item, begun_ns, pending.attempt, failure)
            item.segments.append(Segment(Phase.ATTEMPT, begun_ns, None, pending.attempt))
        elif pending.attempt > 1 and pending.HasField("last_attempt_complete_time"):
            self._between_attempts(item, pending, failure)
        item.detail = _pending_words(pending, failure)

    def _between_attempts(self, item: Item, pending: Any, failure: str) -> None:
        ended_ns = pending.last_attempt_complete_time.ToNanoseconds()
        begun_ns = ended_ns
        if pending.HasField("last_started_time"):
            begun_ns = min(pending.last_started_time.ToNanoseconds(), ended_ns)
        last = pending.attempt - 1
        item.segments = self._attempts(item, begun_ns, last, "its failure is not recorded")
        item.segments.append(Segment(Phase.ATTEMPT, begun_ns, ended_ns, last, State.FAILED, failure))
        item.segments.append(Segment(Phase.BACKOFF, ended_ns, None, pending.attempt))

    def finish(self) -> Timeline:
        """The model of what was added."""
        items = sorted(self._items.values(), key=lambda item: (item.start_ns, item.event_id))
        if self._closed_ns is not None:
            for item in items:
                if item.end_ns is None:
                    self._abandon(item, self._closed_ns)
        start_ns = self._first.event_time.ToNanoseconds() if self._first is not None else self._now_ns
        last_ns = self._last.event_time.ToNanoseconds() if self._last is not None else start_ns
        is_open = self._closed_ns is None
        end_ns = max(last_ns, self._now_ns) if is_open else last_ns
        return Timeline(
            min([start_ns, *(item.start_ns for item in items)]),
            max([end_ns, *(item.end_or(end_ns) for item in items)]),
            is_open,
            tuple(items),
            tuple(self._waiting(items)) if is_open else (),
            self._first.event_id if self._first is not None else 0,
            self._last.event_id if self._last is not None else 0,
        )

    def _abandon(self, item: Item, closed_ns: int) -> None:
        """The run closed while this was open."""
        item.end_ns, item.state = max(closed_ns, item.start_ns), State.CANCELED
        item.detail = item.detail or "still open when the run closed"
        if item.segments and item.segments[-1].end_ns is None:
            last = item.segments[-1]
            end_ns = max(item.end_ns, last.start_ns)
            item.segments[-1] = Segment(last.phase, last.start_ns, end_ns, last.attempt, State.CANCELED)

    def _waiting(self, items: list[Item]) -> list[str]:
        waits = list(self._waits)
        if self._is_paused:
            waits.insert(0, "somebody to unpause it")
        for item in items:
            if item.end_ns is not None or item.kind is Kind.TASK:
                continue
            waits.append(self._wait_words(item))
        if not waits and not self._task_id:
            waits.append("a signal or an update: nothing is scheduled")
        if not waits:
            waits.append("a worker for its workflow task")
        return waits

    def _wait_words(self, item: Item) -> str:
        if item.kind is Kind.TIMER:
            started = self._scheduled.get(item.event_id)
            if started is not None:
                timeout = started.timer_started_event_attributes.start_to_fire_timeout.ToNanoseconds()
                return f"timer {item.key} until \x01{item.start_ns + timeout}"
            return f"timer {item.key}"
        text = f"{item.kind.value} {item.name}"
        return f"{text} ({item.detail})" if item.detail else text


def _line_of(value: Any) -> str:
    """A text as one line of a picture; nothing if it is no text, as when only a codec could read it."""
    if not isinstance(value, str):
        return ""
    shown = "".join(one if one.isprintable() else " " for one in value[:_MOST_SUMMARY])
    return " ".join(shown.split())


def words(failure: Failure) -> str:
    """A failure in one sentence: its type, its message, and its cause."""
    kind = failure.WhichOneof("failure_info")
    if kind is None and not failure.message:
        return ""
    text = failure.message or (kind or "failure").removesuffix("_failure_info").replace("_", " ")
    if failure.application_failure_info.type:
        text = f"{failure.application_failure_info.type}: {text}"
    cause = words(failure.cause) if failure.HasField("cause") else ""
    return f"{text} ← {cause}" if cause else text


def _attributes(event: HistoryEvent) -> Any:
    name = event.WhichOneof("attributes")
    return getattr(event, name) if name is not None else None


def _marker_data(attributes: Any) -> dict[str, Any]:
    names = ("data", "Data", "patch-data")
    for payloads in (attributes.details[name] for name in names if name in attributes.details):
        for payload in payloads.payloads:
            try:
                found = json.loads(payload.data)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                return found
    return {}


def _pending_words(pending: Any, failure: str) -> str:
    state = PendingActivityState.Name(pending.state).removeprefix("PENDING_ACTIVITY_STATE_")
    is_between = state != "STARTED" and pending.HasField("next_attempt_schedule_time")
    is_waiting = state in ("SCHEDULED", "BACKING_OFF")
    parts = [state.replace("_", " ").lower()]
    if is_waiting:
        parts = ["between attempts" if is_between else "waiting for a worker"]
    elif state == "STARTED":
        parts = ["running"]
    if pending.attempt > 1:
        parts.append(
            f"attempt {pending.attempt}"
            + (f" of {pending.maximum_attempts}" if pending.maximum_attempts else "")
        )
    if is_between:
        parts.append(f"next try at \x01{pending.next_attempt_schedule_time.ToNanoseconds()}")
    if failure:
        parts.append(f"last failure: {failure}")
    return ", ".join(parts)


_E: Final = EventType
_LIFE: Final[dict[int, tuple[str, str]]] = {
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: ("started", ""),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: ("completed", ""),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: ("failed", ""),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: ("timed out", "the run took longer than it may"),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: ("canceled", ""),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: ("terminated", ""),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: (
        "continued as new",
        "the next run of the chain took over",
    ),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: ("cancellation requested", ""),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED: ("paused", ""),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_UNPAUSED: ("unpaused", ""),
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED: ("options changed", ""),
    _E.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: ("search attributes changed", ""),
    _E.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED: ("memo changed", ""),
}
_CLOSING: Final[dict[int, State]] = {
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: State.OK,
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: State.FAILED,
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: State.TIMED_OUT,
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: State.CANCELED,
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: State.FAILED,
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: State.OK,
}
_Handler = Callable[[_Builder, HistoryEvent, Any, int], None]
_ENDERS: Final[dict[int, tuple[_Handler, State]]] = {
    _E.EVENT_TYPE_WORKFLOW_TASK_COMPLETED: (_Builder.task_closed, State.OK),
    _E.EVENT_TYPE_WORKFLOW_TASK_FAILED: (_Builder.task_closed, State.FAILED),
    _E.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: (_Builder.task_closed, State.TIMED_OUT),
    _E.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: (_Builder.closed, State.OK),
    _E.EVENT_TYPE_ACTIVITY_TASK_FAILED: (_Builder.closed, State.FAILED),
    _E.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: (_Builder.closed, State.TIMED_OUT),
    _E.EVENT_TYPE_ACTIVITY_TASK_CANCELED: (_Builder.closed, State.CANCELED),
    _E.EVENT_TYPE_NEXUS_OPERATION_COMPLETED: (_Builder.closed, State.OK),
    _E.EVENT_TYPE_NEXUS_OPERATION_FAILED: (_Builder.closed, State.FAILED),
    _E.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT: (_Builder.closed, State.TIMED_OUT),
    _E.EVENT_TYPE_NEXUS_OPERATION_CANCELED: (_Builder.closed, State.CANCELED),
    _E.EVENT_TYPE_TIMER_FIRED: (_Builder.timer_ended, State.OK),
    _E.EVENT_TYPE_TIMER_CANCELED: (_Builder.timer_ended, State.CANCELED),
    _E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: (_Builder.initiated_closed, State.OK),
    _E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED: (_Builder.initiated_closed, State.FAILED),
    _E.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: (_Builder.initiated_closed, State.FAILED),
    _E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: (_Builder.initiated_closed, State.CANCELED),
    _E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: (_Builder.initiated_closed, State.TIMED_OUT),
    _E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: (_Builder.initiated_closed, State.FAILED),
    _E.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: (_Builder.initiated_closed, State.FAILED),
    _E.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED: (_Builder.initiated_closed, State.OK),
    _E.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: (
        _Builder.initiated_closed,
        State.FAILED,
    ),
    _E.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED: (_Builder.initiated_closed, State.OK),
}
"""Events that end an item: what takes them, and how the item then stands."""
_ENDS: Final = {number: state for number, (_, state) in _ENDERS.items()}
_HANDLERS: Final[dict[int, _Handler]] = {
    **dict.fromkeys(_LIFE, _Builder.life),
    **{number: handler for number, (handler, _) in _ENDERS.items()},
    _E.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED: _Builder.task_scheduled,
    _E.EVENT_TYPE_WORKFLOW_TASK_STARTED: _Builder.task_started,
    _E.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: _Builder.activity_scheduled,
    _E.EVENT_TYPE_ACTIVITY_TASK_STARTED: _Builder.activity_started,
    _E.EVENT_TYPE_TIMER_STARTED: _Builder.timer_started,
    _E.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: _Builder.child_initiated,
    _E.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED: _Builder.child_started,
    _E.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: _Builder.external,
    _E.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: _Builder.external,
    _E.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: _Builder.nexus_scheduled,
    _E.EVENT_TYPE_NEXUS_OPERATION_STARTED: _Builder.nexus_started,
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: _Builder.signaled,
    _E.EVENT_TYPE_MARKER_RECORDED: _Builder.marker,
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: _Builder.update_accepted,
    _E.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED: _Builder.update_completed,
}
