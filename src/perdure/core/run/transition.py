"""The history core: one transition of one run, from a committed state to what must be committed next.

It knows event ids, which events wait while a workflow task is started, in which order they are flushed, and what
changed. It knows no primitive: activities, timers, signals and the rest are modules beside it that use a Transition.

A Transition never changes the state it was made from. What it wrote lives in overlays until the store has committed it
and the engine calls `absorb`; dropping it undoes everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from perdure.api.common.v1 import WorkerVersionStamp
from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent
from perdure.core.deployment.routes import queue_name
from perdure.core.invariant import invariant, present
from perdure.core.run import task_events
from perdure.core.run.items import (
    ACTIVITY,
    BLOB,
    BUFFERED,
    CALLBACK,
    CHILD,
    EXTERNAL,
    NEXUS_OPERATION,
    REQUEST,
    SIGNAL,
    TIMER,
    UPDATE,
    ItemKind,
)
from perdure.core.run.overlay import Items, Overlay
from perdure.core.run.priorities import task_priority
from perdure.core.run.protos import set_timestamp, varint
from perdure.core.run.records import (
    EventBatch,
    ItemChange,
    QueueKey,
    RunWrite,
    Task,
    TaskKey,
    TaskKind,
    VisibilityRecord,
)
from perdure.core.run.state import (
    RUNNING,
    Activity,
    RunHeader,
    RunState,
    clone,
    encode,
)

UNBUFFERED: frozenset[int] = frozenset(
    EventType.Value(f"EVENT_TYPE_{name}")
    for name in (
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_COMPLETED",
        "WORKFLOW_EXECUTION_FAILED",
        "WORKFLOW_EXECUTION_TIMED_OUT",
        "WORKFLOW_EXECUTION_TERMINATED",
        "WORKFLOW_EXECUTION_CONTINUED_AS_NEW",
        "WORKFLOW_EXECUTION_CANCELED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_TASK_TIMED_OUT",
        "ACTIVITY_TASK_SCHEDULED",
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "TIMER_STARTED",
        "TIMER_CANCELED",
        "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
        "MARKER_RECORDED",
        "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
        "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
        "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
        "WORKFLOW_PROPERTIES_MODIFIED",
        "NEXUS_OPERATION_SCHEDULED",
        "NEXUS_OPERATION_CANCEL_REQUESTED",
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
    )
)
"""Events that are written at once; every other type waits while a workflow task is started."""

UNHEARD: frozenset[int] = frozenset(
    EventType.Value(f"EVENT_TYPE_WORKFLOW_EXECUTION_{name}") for name in ("OPTIONS_UPDATED", "PAUSED")
)
"""Events that may wait too, but call for no workflow task: the workflow's code need not hear of them."""

_COMPLETIONS: frozenset[int] = frozenset(
    EventType.Value(f"EVENT_TYPE_{name}")
    for name in (
        "ACTIVITY_TASK_COMPLETED",
        "ACTIVITY_TASK_FAILED",
        "ACTIVITY_TASK_TIMED_OUT",
        "ACTIVITY_TASK_CANCELED",
        "CHILD_WORKFLOW_EXECUTION_COMPLETED",
        "CHILD_WORKFLOW_EXECUTION_FAILED",
        "CHILD_WORKFLOW_EXECUTION_TIMED_OUT",
        "CHILD_WORKFLOW_EXECUTION_CANCELED",
        "CHILD_WORKFLOW_EXECUTION_TERMINATED",
        "NEXUS_OPERATION_COMPLETED",
        "NEXUS_OPERATION_FAILED",
        "NEXUS_OPERATION_CANCELED",
        "NEXUS_OPERATION_TIMED_OUT",
    )
)
"""Of a flushed buffer these come last, so that what started always precedes what ended."""

_STARTED: dict[int, tuple[str, str]] = {
    EventType.Value("EVENT_TYPE_ACTIVITY_TASK_STARTED"): (
        "activity_task_started_event_attributes",
        "scheduled_event_id",
    ),
    EventType.Value("EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED"): (
        "child_workflow_execution_started_event_attributes",
        "initiated_event_id",
    ),
}
"""Started events and the field that names what they belong to, for wiring `started_event_id` of completions."""

_CLOSED_BY: dict[int, tuple[str, str]] = {
    EventType.Value(f"EVENT_TYPE_{name}"): (f"{name.lower()}_event_attributes", reference)
    for names, reference in (
        (
            (
                "ACTIVITY_TASK_COMPLETED",
                "ACTIVITY_TASK_FAILED",
                "ACTIVITY_TASK_TIMED_OUT",
                "ACTIVITY_TASK_CANCELED",
            ),
            "scheduled_event_id",
        ),
        (
            tuple(
                f"CHILD_WORKFLOW_EXECUTION_{end}"
                for end in ("COMPLETED", "FAILED", "TIMED_OUT", "CANCELED", "TERMINATED")
            ),
            "initiated_event_id",
        ),
    )
    for name in names
}


_UPDATE_ADMITTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED")
_CHILD_STARTED = EventType.Value("EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED")
_OPTIONS_UPDATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED")


class Transition:
    """One transition of one run at one moment.

    Args:
        state: the run's committed state; it is read, never changed.
        now_ns: the moment, nanoseconds since the epoch.

    Attributes:
        header: a copy of the run's header, free to modify.
        events: events that got their id in this transition, in order.
        activities, timers, and every other kind of items: overlays over what the state has of it.
        overlays: those that were made, so that may hold changes, with their kinds.
        activity_ids: scheduled event ids of pending activities by activity id; `activity` makes it when first asked.
        needs_task: something happened that a workflow task must look at.
        visibility_changed: what lists show changed.
        is_in_memory: it writes nothing; `keep` makes it the run's state in memory. Of speculative workflow tasks.
        successor: the start of the next run of the chain; it is committed with this transition or not at all.
    """

    def __init__(self, state: RunState, now_ns: int) -> None:
        self.state = state
        self.now_ns = now_ns
        self.header: RunHeader = clone(state.header)
        self.events: list[HistoryEvent] = []
        self.overlays: list[tuple[ItemKind[Any, Any], Overlay[Any, Any]]] = []
        self.needs_task = False
        self.visibility_changed = False
        self.is_in_memory = False
        self.successor: Transition | None = None
        self._wakeup_ns: int | None = None
        self._touched = False
        self.activity_ids: dict[str, int] | None = None
        self._batches: tuple[EventBatch, ...] | None = None

    activities = Items(ACTIVITY)
    timers = Items(TIMER)
    buffered = Items(BUFFERED)
    signal_request_ids = Items(SIGNAL)
    attached_requests = Items(REQUEST)
    children = Items(CHILD)
    externals = Items(EXTERNAL)
    nexus_operations = Items(NEXUS_OPERATION)
    callbacks = Items(CALLBACK)
    updates = Items(UPDATE)
    blobs = Items(BLOB)

    def may_have(self, kind: ItemKind[Any, Any]) -> bool:
        """Whether the run may have items of a kind; cheaper than its overlay, and False for most kinds."""
        return kind.attribute in self.__dict__ or bool(getattr(self.state, kind.attribute))

    @property
    def may_reach_out(self) -> bool:
        """Whether the run may have something to do to other runs; cheap, and False for most."""
        header = self.header
        return (
            header.owes_parent
            or header.calls_back
            or header.tells_of_updates
            or self.may_have(CHILD)
            or self.may_have(EXTERNAL)
            or self.may_have(NEXUS_OPERATION)
        )

    @property
    def update_count(self) -> int:
        """How many updates the run has accepted so far."""
        return len(self.updates) if self.may_have(UPDATE) else 0

    @property
    def buffered_count(self) -> int:
        """How many events wait in the buffer."""
        return len(self.buffered) if self.may_have(BUFFERED) else 0

    # --- events ---

    def new_event(self, event_type: int, event_ns: int | None = None) -> HistoryEvent:
        """An event of this moment (or of `event_ns`) without id; fill in its attributes, then `append` it."""
        event = HistoryEvent(event_type=event_type)  # type: ignore[arg-type]  # enum numbers are plain ints here
        set_timestamp(event.event_time, self.now_ns if event_ns is None else event_ns)
        return event

    def append(self, event: HistoryEvent) -> HistoryEvent:
        """Writes the event now, or lets it wait in the buffer if its type waits; a flush follows in `finish`."""
        if self.header.task_is_speculative:
            self.write_speculative_task()
        if event.event_type in UNBUFFERED:
            self._number(event)
        else:
            key = self.header.next_buffer_key
            self.header.next_buffer_key = key + 1
            self.buffered.put(key, event)
        return event

    def copy_event(self, event: HistoryEvent) -> None:
        """Takes over an event of another run as it is, with its id, which must be the next one."""
        invariant(
            event.event_id == self.header.next_event_id, "a copied event out of order", run=self.state.run
        )
        self.header.next_event_id += 1
        self.events.append(event)

    def _number(self, event: HistoryEvent) -> None:
        invariant(self._batches is None, "an event after the last one", run=self.state.run)
        event_id = self.header.next_event_id
        event.event_id = event_id
        event.task_id = event_id
        self.header.next_event_id = event_id + 1
        self.events.append(event)
        if event.event_type == _CHILD_STARTED:
            self._child_started(event)
        if event.event_type == _UPDATE_ADMITTED:
            request = event.workflow_execution_update_admitted_event_attributes.request
            self.updates.edit(request.meta.update_id).admitted_event_id = event_id
        if event.event_type == _OPTIONS_UPDATED:
            changed = event.workflow_execution_options_updated_event_attributes
            of_updates = [attached.attached_request_id for attached in changed.workflow_update_options]
            for request_id in (changed.attached_request_id, *of_updates):
                if request_id:
                    self.attached_requests.put(request_id, event_id)

    def write_speculative_task(self, identity: str = "", version: WorkerVersionStamp | None = None) -> None:
        """Writes the events of the pending speculative workflow task, under the ids that they were given when it was
        scheduled: it is a normal one from now on. Called before anything else is written.

        Args:
            identity, version: the worker's, for the Started event, where it is known.
        """
        header = self.header
        header.task_is_speculative = False
        header.first_task_at_ns = 0  # nothing is held back any more: this is the first task
        scheduled = task_events.scheduled(header, header.task_scheduled_ns)
        self._number(scheduled)
        invariant(
            scheduled.event_id == header.task_scheduled_event_id,
            "something was written before the speculative workflow task",
            run=self.state.run,
        )
        if header.has_started_task:
            self._number(task_events.started(header, identity, version))

    def _child_started(self, event: HistoryEvent) -> None:
        """A child's started event has its id now; the child keeps it for the event that will end it."""
        initiated_event_id = event.child_workflow_execution_started_event_attributes.initiated_event_id
        if initiated_event_id in self.children:
            self.children.edit(initiated_event_id).started_event_id = event.event_id

    def has_buffered(self) -> bool:
        """Whether events wait in the buffer."""
        return self.may_have(BUFFERED) and len(self.buffered) > 0

    def buffered_keys(self) -> list[int]:
        """Keys of the buffered events, in order of arrival."""
        return sorted(key for key in {*self.state.buffered, *self.buffered.changes} if key in self.buffered)

    def _own(self, key: int) -> HistoryEvent:
        """A buffered event that this transition may number: a copy if it belongs to the committed state."""
        if key in self.buffered.changes:
            return present(self.buffered.changes[key], "this buffered event is gone", key=key)
        copied = HistoryEvent()
        copied.CopyFrom(self.state.buffered[key])
        return copied

    def flush(self) -> bool:
        """Writes the buffered events: first everything but completions, in order of arrival, then the completions.

        Returns:
            whether there were any.
        """
        if not self.has_buffered():
            return False
        waiting = [self._own(key) for key in self.buffered_keys()]
        self.buffered.clear()
        ordered = [event for event in waiting if event.event_type not in _COMPLETIONS]
        ordered += [event for event in waiting if event.event_type in _COMPLETIONS]
        started: dict[tuple[str, int], int] = {}
        for event in ordered:
            self._number(event)
            if event.event_type in _STARTED:
                attributes, reference = _STARTED[event.event_type]
                started[(reference, getattr(getattr(event, attributes), reference))] = event.event_id
            elif event.event_type in _CLOSED_BY:
                attributes, reference = _CLOSED_BY[event.event_type]
                closing = getattr(event, attributes)
                event_id = started.get((reference, getattr(closing, reference)))
                if event_id is not None:
                    closing.started_event_id = event_id
        return True

    def new_bytes(self) -> int:
        """The size that this transition's events so far will add to the history."""
        sizes = [event.ByteSize() for event in self.events]
        return sum(size + 1 + (size.bit_length() + 6) // 7 for size in sizes)

    # --- what changed ---

    def touch(self) -> None:
        """There is something to commit although no item changed: the next wake-up."""
        self._touched = True

    @property
    def is_untouched(self) -> bool:
        """Whether nothing at all changed, so that there is nothing to commit."""
        return (
            not self._touched
            and not self.events
            and not any(overlay.changes for _, overlay in self.overlays)
            and self.header == self.state.header
        )

    def workflow_task_dispatch(self, header: RunHeader) -> Task | None:
        """The task row that `header` calls for: a workflow task that is scheduled and waits for a worker."""
        return None if header.task_is_speculative else self.waiting_workflow_task(header)

    def waiting_workflow_task(self, header: RunHeader) -> Task | None:
        """The workflow task of `header` that waits for a worker, whether it has a row or is in memory only."""
        # The fields and not the properties that name them: this is asked sixteen times for each workflow.
        if header.task_started_event_id or not header.task_scheduled_event_id or header.status != RUNNING:
            return None
        sticky = header.task_on_sticky_queue and not header.task_rerouted
        queue = header.sticky_queue if sticky else queue_name(header.task_queue, header.task_version)
        run = self.state.run
        level, fairness_key, weight = task_priority(header.priority)
        return Task(
            run,
            TaskKey(TaskKind.WORKFLOW, header.task_scheduled_event_id),
            QueueKey(run.namespace_id, queue, TaskKind.WORKFLOW),
            header.task_scheduled_ns,
            level,
            sticky,
            str(header.task_stamp),
            fairness_key,
            weight,
        )

    def activity_dispatch(self, activity: Activity | None, header: RunHeader | None = None) -> Task | None:
        """The task row that a pending activity calls for: an attempt that is due and waits for a worker.

        Args:
            activity: the activity.
            header: the run's, if it is not the one of this transition.
        """
        header = header or self.header
        if (
            activity is None
            or activity.started_ns
            or activity.backing_off
            or activity.paused_ns
            or header.paused_ns
            or not header.is_open
            or (header.versioning is not None and header.versioning.holds_activities)
        ):
            return None
        run = self.state.run
        level, fairness_key, weight = task_priority(activity.priority, header.priority)
        return Task(
            run,
            TaskKey(TaskKind.ACTIVITY, activity.scheduled_event_id),
            QueueKey(run.namespace_id, queue_name(activity.task_queue, activity.version), TaskKind.ACTIVITY),
            activity.scheduled_ns,
            level,
            False,
            str(activity.stamp),
            fairness_key,
            weight,
        )

    def new_tasks(self) -> list[Task]:
        """Tasks that this transition makes available, workflow task first."""
        return self._task_changes()[0]

    def _task_changes(self) -> tuple[list[Task], list[TaskKey]]:
        put: list[Task] = []
        deleted: list[TaskKey] = []
        before = self.workflow_task_dispatch(self.state.header) if self.state.version else None
        after = self.workflow_task_dispatch(self.header)
        _compare(before, after, put, deleted)
        if self.header.status != RUNNING and self.state.header.status == RUNNING:
            if self.state.header.paused_ns:
                return put, deleted
            deleted += [
                TaskKey(TaskKind.ACTIVITY, activity.scheduled_event_id)
                for activity in self.state.activities.values()
                if not activity.started_ns and not activity.backing_off and not activity.paused_ns
            ]
            return put, deleted
        for key, activity in self.activities.changes.items():
            committed = self.activities.committed(key)
            had = self.activity_dispatch(committed, self.state.header)
            _compare(had, self.activity_dispatch(activity), put, deleted)
        return put, deleted

    def settle(self) -> None:
        """Ends the events: serialises them and counts their size and the transition in the header. Nothing may be
        appended afterwards. `finish` does it if nobody did; the visibility record needs the counts before."""
        if self._batches is not None:
            return
        self._batches = ()
        if self.events:
            data = _as_history(self.events)
            self.header.history_size_bytes += len(data)
            self._batches = (EventBatch(self.events[0].event_id, self.events[-1].event_id, data),)
        self.header.transition_count += 1

    def finish(
        self,
        wakeup_ns: int | None,
        visibility: VisibilityRecord | None,
        *,
        becomes_current: bool = False,
        expected_current_run_id: str | None = None,
    ) -> RunWrite:
        """The record to commit. Buffered events must have been flushed before if no workflow task is started.

        Args:
            wakeup_ns: the run's next deadline, from `deadlines.next_wakeup_ns`.
            visibility: how lists show the run, if that changed.
            becomes_current, expected_current_run_id: for a new run, see `RunWrite`.
        """
        header = self.header
        state = self.state
        invariant(
            not header.task_is_speculative, "a speculative workflow task would be stored", run=state.run
        )
        invariant(
            header.has_started_task or not self.has_buffered(),
            "events are buffered although no workflow task is started",
            run=state.run,
        )
        self.settle()
        put, deleted = self._task_changes()
        self._wakeup_ns = wakeup_ns
        return RunWrite(
            run=state.run,
            expected_version=state.version,
            status=header.status,
            header=encode(header),
            wakeup_ns=wakeup_ns,
            events=self._batches or (),
            items=tuple(self._item_changes()),
            tasks_put=tuple(put),
            tasks_deleted=tuple(deleted),
            visibility=visibility,
            becomes_current=becomes_current,
            expected_current_run_id=expected_current_run_id,
            start_request_id=header.start_request_id if becomes_current else "",
            first_run_id=header.first_run_id if becomes_current else "",
            history_size_bytes=header.history_size_bytes,
            transition_count=header.transition_count,
        )

    def _item_changes(self) -> Iterator[ItemChange]:
        for kind, overlay in self.overlays:
            for key, item in overlay.changes.items():
                yield ItemChange(kind.name, kind.key_text(key), None if item is None else kind.encode(item))

    def absorb(self) -> None:
        """Makes what was committed the run's state. Called once, after the store has committed `finish`'s record."""
        state = self.state
        state.header = self.header
        if not state.version and (self.header.retry_policy or self.header.cron_schedule):
            state.started = self.events[0]
        state.version += 1
        state.wakeup_ns = self._wakeup_ns
        for _, overlay in self.overlays:
            overlay.absorb()

    def keep(self, wakeup_ns: int | None) -> None:
        """Makes a transition that writes nothing the run's state in memory; losing it loses a workflow task that
        nobody but its worker knows of.

        Args:
            wakeup_ns: the run's next deadline, from `deadlines.next_wakeup_ns`.
        """
        invariant(
            self.is_in_memory and not self.events, "this transition must be written", run=self.state.run
        )
        self.state.header = self.header
        self.state.wakeup_ns = wakeup_ns


def _as_history(events: Sequence[HistoryEvent]) -> bytes:
    """The events as a serialised temporal.api.history.v1.History (field 1), without a copy of each in a message."""
    parts: list[bytes] = []
    for event in events:
        data = event.SerializeToString()
        parts += (b"\n", varint(len(data)), data)
    return b"".join(parts)


def _compare(before: Task | None, after: Task | None, put: list[Task], deleted: list[TaskKey]) -> None:
    if before == after:
        return
    if before is not None and (after is None or before.key != after.key):
        deleted.append(before.key)
    if after is not None:
        put.append(after)
