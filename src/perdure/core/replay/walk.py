"""Walks a history window by window and feeds the ledger: events become jobs, commands meet the events that record them.

Written for speed: a cold replay passes every event of a history through here. Types are read once into a list of
integers, one table leads from type to handler, and nothing is copied.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from perdure.api.enums.v1 import WorkflowTaskFailedCause
from perdure.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from perdure.core.replay.activation import (
    CancelWorkflow,
    InitializeWorkflow,
    NotifyHasPatch,
    SignalWorkflow,
    UpdateRandomSeed,
)
from perdure.core.replay.errors import HistoryError, NondeterminismError
from perdure.core.replay.events import (
    COMMAND_EVENTS,
    EVENT_NAMES,
    FINAL_EVENTS,
    INITIATING_EVENT_ID,
    MARKER_RECORDED,
    UPSERT_SEARCH_ATTRIBUTES,
    WORKFLOW_EXECUTION_CANCEL_REQUESTED,
    WORKFLOW_EXECUTION_SIGNALED,
    WORKFLOW_EXECUTION_STARTED,
    WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    WORKFLOW_EXECUTION_UPDATE_ADMITTED,
    WORKFLOW_TASK_COMPLETED,
    WORKFLOW_TASK_FAILED,
    WORKFLOW_TASK_STARTED,
    describe,
    event_time_ns,
)
from perdure.core.replay.ledger import Ledger
from perdure.core.replay.machines import local_activity, update
from perdure.core.replay.machines.patch import PatchMachine
from perdure.core.replay.markers import (
    CHANGE_VERSION,
    LOCAL_ACTIVITY_MARKER,
    PATCH_MARKER,
    read_local_activity,
    read_patch,
)
from perdure.core.replay.seed import random_seed
from perdure.core.replay.steps import CacheMissError
from perdure.core.replay.window import window_end

_NEVER: Final = 1 << 62
_LOOKED_AHEAD: Final = frozenset({MARKER_RECORDED, WORKFLOW_EXECUTION_UPDATE_ACCEPTED})


class Walk:
    """The position of a run in its history.

    Attributes:
        last_event_id: the last event that was walked over.
        started_event_id: of the last workflow task that the code saw.
        history_size_bytes, continue_as_new_suggested, suggest_reasons, deployment_changed: as its started event says.
        sent_live: the commands that wait for their events were sent by this worker, not asked for on replay.
        has_ended: history has the event that closes the run.
        checks_end: nothing comes after these events, so commands of the last completed task are compared here.
        build_id, deployment_name: of the worker that completed the task being replayed; empty when unknown.
        before_event: called before each event is applied; for debuggers.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.last_event_id = 0
        self.started_event_id = 0
        self.history_size_bytes = 0
        self.continue_as_new_suggested = False
        self.suggest_reasons: Sequence[int] = ()
        self.deployment_changed = False
        self.sent_live = False
        self.has_ended = False
        self.checks_end = False
        self.build_id = ""
        self.deployment_name = ""
        self.before_event: Callable[[HistoryEvent], None] | None = None
        self._events: Sequence[HistoryEvent] = ()
        self._types: list[int] = []
        self._first_id = 1
        self._next = 0
        self._previous_started = 0
        self._completions: list[int] = []
        self._completions_read = 0
        self._ahead: list[int] = []
        self._requests: list[update.Request] = []
        self._requests_due = _NEVER
        self._admitted: dict[str, update.Request] = {}
        self._skipped = -1
        self._open_task: HistoryEvent | None = None

    # --- what a workflow task brings ---

    def add(self, events: Sequence[HistoryEvent], previous_started_event_id: int) -> None:
        """Takes the events of a new task; those already walked over are left out.

        Raises: CacheMissError when they do not go on where the walk stands.
        """
        self._previous_started = previous_started_event_id
        self.ledger.replaying = previous_started_event_id > 0
        expected = self.last_event_id + 1
        if not events:
            if previous_started_event_id > self.started_event_id:
                raise CacheMissError(
                    f"The task goes on after event {previous_started_event_id}, the run stands before."
                )
            self._load((), expected)
            return
        first = events[0].event_id
        if first > expected:
            raise CacheMissError(f"The task's events start at {first}, the run expects {expected}.")
        if first < expected:
            events = events[expected - first :]
        self._load(events, expected)

    def _load(self, events: Sequence[HistoryEvent], first_id: int) -> None:
        types: list[int] = [event.event_type for event in events]
        ids = [event.event_id for event in events]
        if ids != list(range(first_id, first_id + len(ids))):
            raise HistoryError(
                f"History is incomplete: events after {self.last_event_id} are not numbered one by one."
            )
        if first_id == 1 and types and types[0] != WORKFLOW_EXECUTION_STARTED:
            raise HistoryError(
                f"A history starts with WorkflowExecutionStarted, not with {describe(events[0])}."
            )
        kinds = set(types)
        if not kinds <= EVENT_NAMES.keys():
            self._check_known(events)
        self._events, self._types, self._first_id, self._next = events, types, first_id, 0
        self._completions = [index for index, kind in enumerate(types) if kind == WORKFLOW_TASK_COMPLETED]
        self._completions_read = 0
        self._ahead = []
        if not kinds.isdisjoint(_LOOKED_AHEAD):
            self._ahead = [index for index, kind in enumerate(types) if kind in _LOOKED_AHEAD]
        self._skipped = -1

    def _check_known(self, events: Sequence[HistoryEvent]) -> None:
        for event in events:
            if event.event_type not in EVENT_NAMES and not event.worker_may_ignore:
                raise HistoryError(
                    f"Event {event.event_id} has a type ({event.event_type}) this worker does not know: use a newer "
                    "Perdure."
                )

    def add_requests(self, requests: list[update.Request]) -> None:
        """Update requests that came with the task; each is delivered behind the event it was sequenced after."""
        self._requests.extend(requests)
        due = (request.sequencing_event_id for request in self._requests)
        self._requests_due = min(due, default=_NEVER)

    def forget_events(self) -> None:
        """The task is over: its events are needed no more."""
        self._events, self._types, self._completions, self._ahead = (), [], [], []
        self._first_id, self._next, self._completions_read, self._skipped = self.last_event_id + 1, 0, 0, -1

    def reset_to(self, started_event_id: int) -> None:
        """The last task was never written: its scheduled and started events will come again as others."""
        self.started_event_id = started_event_id
        self.last_event_id -= 2
        self.forget_events()

    # --- windows ---

    def next_window(self) -> int:
        """Walks over the next window.

        Returns: how many events it had; 0 at the end of history.
        """
        ledger, start, count = self.ledger, self._next, len(self._types)
        if self.has_ended or start >= count:
            ledger.replaying = False
            return 0
        ledger.activation_index = 0
        end = window_end(self._types, start)
        is_last = ledger.is_last_task = end == count - 1
        self._read_completions(end)
        live_from = self._live_from(start, end) if is_last and ledger.replaying else _NEVER
        self._walk(start, end, live_from)
        self._next = end + 1
        self.last_event_id = self._first_id + end
        if self._requests and is_last:
            self._deliver_requests(_NEVER)
        if self._ahead and self._ahead[-1] > end:
            self._look_ahead(end + 1)
        return end + 1 - start

    def _walk(self, start: int, end: int, live_from: int) -> None:
        types, events, routes, ledger = self._types, self._events, _ROUTES, self.ledger
        has_completion, before_event = False, self.before_event
        for index in range(start, end + 1):
            if before_event is not None:
                before_event(events[index])
            if index == live_from:
                ledger.replaying = False
            if self._requests_due < self._first_id + index:
                self._deliver_requests(self._first_id + index)
            event_type = types[index]
            route = routes.get(event_type)
            if route is not None and index != self._skipped:
                route(self, events[index], event_type)
                if event_type == WORKFLOW_TASK_COMPLETED:
                    has_completion = True
        last_type = types[end]
        if last_type in FINAL_EVENTS:
            self.has_ended = True
        elif last_type == WORKFLOW_TASK_STARTED:
            if has_completion:
                if ledger.commands and not self.sent_live:
                    self._check_all_recorded(start, end)
                self.sent_live = False
            self._task_started(events[end])
        elif has_completion and self.checks_end and ledger.commands and not self.sent_live:
            self._check_all_recorded(start, end)

    def _live_from(self, start: int, end: int) -> int:
        """Index of the first event of the last window that the code has not produced itself: replay ends there."""
        for index in range(start, end + 1):
            event_type = self._types[index]
            if (
                self._first_id + index > self._previous_started
                and event_type != WORKFLOW_TASK_COMPLETED
                and event_type not in COMMAND_EVENTS
            ):
                return index
        return _NEVER

    def _check_all_recorded(self, start: int, end: int) -> None:
        """All commands of a completed task are in history right behind it; one left over was never asked for then."""
        front = self.ledger.front()
        if front is None or self.ledger.local_activities:
            return
        if any(machine.can_be_absent or machine.is_message for machine, _ in self.ledger.commands):
            return
        machine, kind = front
        index = max(i for i in range(start, end + 1) if self._types[i] == WORKFLOW_TASK_COMPLETED) + 1
        while index <= end and self._types[index] in COMMAND_EVENTS:
            index += 1
        if index > end:
            # The history may have been cut between the events of the task's commands.
            return
        raise NondeterminismError(
            self._first_id + index,
            f"{describe(self._events[index])}, nothing more was asked for in that workflow task",
            machine.asked(kind),
            machine.source,
        )

    def _read_completions(self, end: int) -> None:
        """Takes flags and versions of completed tasks up to the one that follows `end`: they hold for this window."""
        completions, position = self._completions, self._completions_read
        while position < len(completions) and (position == 0 or completions[position - 1] <= end):
            completed = self._events[completions[position]].workflow_task_completed_event_attributes
            if completed.HasField("sdk_metadata"):
                self.ledger.flags.read(completed.sdk_metadata)
            if completed.HasField("deployment_version"):
                self.build_id = completed.deployment_version.build_id
                self.deployment_name = completed.deployment_version.deployment_name
            elif completed.worker_deployment_version:
                self.deployment_name, _, self.build_id = completed.worker_deployment_version.partition(".")
            elif completed.worker_deployment_name or completed.worker_version.build_id:
                self.deployment_name = completed.worker_deployment_name
                self.build_id = completed.worker_version.build_id
            position += 1
        self._completions_read = position

    def _task_started(self, event: HistoryEvent) -> None:
        self.started_event_id = event.event_id
        ledger = self.ledger
        ledger.advance_to(event_time_ns(event))
        task = event.workflow_task_started_event_attributes
        self.history_size_bytes = task.history_size_bytes
        self.continue_as_new_suggested = task.suggest_continue_as_new
        self.suggest_reasons = tuple(task.suggest_continue_as_new_reasons)
        self.deployment_changed = task.target_worker_deployment_version_changed
        if not ledger.replaying and ledger.has_local_activities:
            local_activity.run_unresolved(ledger)

    # --- what the next window knows already ---

    def _look_ahead(self, start: int) -> None:
        """Patches, local activities and updates of the next window belong to the activation before it."""
        ledger, resolved, accepted = self.ledger, [], []
        end = window_end(self._types, start)
        for position in range(bisect_left(self._ahead, start), len(self._ahead)):
            index = self._ahead[position]
            if index > end:
                break
            event = self._events[index]
            if self._types[index] == WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                accepted.append(event)
                continue
            marker = event.marker_recorded_event_attributes
            if marker.marker_name == PATCH_MARKER:
                patch_id = read_patch(marker)[0]
                ledger.patches[patch_id] = False
                ledger.jobs.append(NotifyHasPatch(patch_id))
            elif marker.marker_name == LOCAL_ACTIVITY_MARKER:
                resolved.append(read_local_activity(marker))
        for known in resolved:
            local_activity.known_from_history(ledger, known)
        for event in accepted:
            request = update.Request.of_accepted(event.workflow_execution_update_accepted_event_attributes)
            update.deliver(ledger, self._admitted.pop(request.protocol_instance_id, request))

    def _deliver_requests(self, before_event_id: int) -> None:
        due = [request for request in self._requests if request.sequencing_event_id < before_event_id]
        self._requests = [
            request for request in self._requests if request.sequencing_event_id >= before_event_id
        ]
        self.add_requests([])
        for request in due:
            update.deliver(self.ledger, request)

    # --- events ---

    def _command(self, event: HistoryEvent, event_type: int) -> None:
        if event_type == MARKER_RECORDED:
            marker = event.marker_recorded_event_attributes
            if marker.marker_name == LOCAL_ACTIVITY_MARKER and local_activity.recorded_out_of_order(
                self.ledger, event, read_local_activity(marker)
            ):
                return
            if marker.marker_name == PATCH_MARKER and self._skips_patch(event):
                return
        front = self.ledger.front()
        if not (
            event_type == MARKER_RECORDED
            and event.marker_recorded_event_attributes.marker_name == PATCH_MARKER
        ):
            while front is not None and type(front[0]) is PatchMachine:
                self.ledger.commands.popleft()
                front = self.ledger.front()
        if front is None:
            waiting = local_activity.first_unrecorded(self.ledger)
            if waiting is not None:
                raise self.ledger.differs(event, waiting, MARKER_RECORDED)
            raise NondeterminismError(event.event_id, describe(event), "nothing more in this workflow task")
        machine, kind = front
        if kind != event_type:
            raise self.ledger.differs(event, machine, kind)
        self.ledger.commands.popleft()
        machine.recorded(self.ledger, event, kind)

    def _skips_patch(self, event: HistoryEvent) -> bool:
        """A marker of a deprecated patch is left out when the code does not ask for it any more."""
        patch_id, is_deprecated = read_patch(event.marker_recorded_event_attributes)
        front = self.ledger.front()
        machine = front[0] if front is not None else None
        if isinstance(machine, PatchMachine) and (
            machine.instruction.patch_id == patch_id or not is_deprecated
        ):
            return False
        if is_deprecated:
            following = event.event_id - self._first_id + 1
            if following < len(self._types) and self._types[following] == UPSERT_SEARCH_ATTRIBUTES:
                upsert = self._events[following].upsert_workflow_search_attributes_event_attributes
                if CHANGE_VERSION in upsert.search_attributes.indexed_fields:
                    self._skipped = following
            return True
        raise NondeterminismError(
            event.event_id,
            f"workflow.patched({patch_id!r})",
            machine.asked(front[1])
            if machine is not None and front is not None
            else "nothing more in this task",
            machine.source if machine is not None else None,
            hint=(
                f"The call of workflow.patched({patch_id!r}) is gone or comes at another place. Keep it until no run "
                "needs it, then replace it by workflow.deprecate_patch, and remove that when those runs have ended."
            ),
        )

    def _answer(self, event: HistoryEvent, event_type: int) -> None:
        initiating = INITIATING_EVENT_ID[event_type](event)
        machine = self.ledger.by_event_id.get(initiating)
        if machine is not None:
            machine.on_event(self.ledger, event, event_type)
        elif initiating <= 0 or initiating >= event.event_id:
            raise HistoryError(f"Event {event.event_id} {describe(event)} refers to event {initiating}.")

    def _started(self, event: HistoryEvent, event_type: int) -> None:
        # A copy: the attributes outlive the task, and a part of a message keeps the whole history in memory.
        ledger, attributes = self.ledger, WorkflowExecutionStartedEventAttributes()
        attributes.CopyFrom(event.workflow_execution_started_event_attributes)
        ledger.started = attributes
        time_ns = event_time_ns(event)
        ledger.advance_to(time_ns)
        seed = random_seed(attributes.original_execution_run_id)
        ledger.jobs.append(InitializeWorkflow(attributes, ledger.workflow_id, time_ns, seed))

    def _signaled(self, event: HistoryEvent, event_type: int) -> None:
        signal = event.workflow_execution_signaled_event_attributes
        self.ledger.jobs.append(
            SignalWorkflow(signal.signal_name, signal.input, signal.header, signal.identity, event.event_id)
        )

    def _cancel_requested(self, event: HistoryEvent, event_type: int) -> None:
        self.ledger.jobs.append(
            CancelWorkflow(event.workflow_execution_cancel_requested_event_attributes.cause)
        )

    def _update_admitted(self, event: HistoryEvent, event_type: int) -> None:
        request = update.Request.of_admitted(event)
        if self.ledger.replaying:
            self._admitted[request.protocol_instance_id] = request
        else:
            self.add_requests([request])

    def _task_failed(self, event: HistoryEvent, event_type: int) -> None:
        failed = event.workflow_task_failed_event_attributes
        if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
            self.ledger.jobs.append(UpdateRandomSeed(random_seed(failed.new_run_id)))

    def _task_opened(self, event: HistoryEvent, event_type: int) -> None:
        self._open_task = event

    def _task_completed(self, event: HistoryEvent, event_type: int) -> None:
        """A heartbeat inside a window counts as seen only when it is completed."""
        if self._open_task is not None and self._open_task.event_id > self.started_event_id:
            self._task_started(self._open_task)
        self._open_task = None


_ROUTES: Final[dict[int, Callable[[Walk, HistoryEvent, int], None]]] = {
    **dict.fromkeys(COMMAND_EVENTS, Walk._command),
    **dict.fromkeys(INITIATING_EVENT_ID, Walk._answer),
    WORKFLOW_EXECUTION_STARTED: Walk._started,
    WORKFLOW_EXECUTION_SIGNALED: Walk._signaled,
    WORKFLOW_EXECUTION_CANCEL_REQUESTED: Walk._cancel_requested,
    WORKFLOW_EXECUTION_UPDATE_ADMITTED: Walk._update_admitted,
    WORKFLOW_TASK_STARTED: Walk._task_opened,
    WORKFLOW_TASK_COMPLETED: Walk._task_completed,
    WORKFLOW_TASK_FAILED: Walk._task_failed,
}
"""Events of other types change nothing for workflow code."""
