"""Replays every prefix of a history that ends at a workflow task, and compares the commands with what follows.

Lives here: what any history must fulfil, whoever wrote it. May not: workflows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import Message as ProtobufMessage

from perdure.api.command.v1 import Command
from perdure.api.enums.v1 import CommandType, EventType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protobuf import Any as AnyMessage
from perdure.api.protocol.v1 import Message
from perdure.client import WorkflowHistory
from perdure.core.replay.events import COMMAND_EVENTS
from perdure.core.replay.markers import LOCAL_ACTIVITY_MARKER, LocalActivityMarker, read_local_activity
from perdure.core.replay.run import WorkflowRun
from perdure.core.replay.steps import (
    LocalActivity,
    LocalActivityOutcome,
    LocalActivityWork,
    Step,
    TaskCompletion,
    WorkflowTask,
)
from perdure.worker import Replayer

_STARTED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
_COMPLETED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_ACCEPTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
_UPDATE_EVENTS: Final = (_ACCEPTED, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED)
_MARKER: Final = EventType.EVENT_TYPE_MARKER_RECORDED
_PROTOCOL_MESSAGE: Final = CommandType.COMMAND_TYPE_PROTOCOL_MESSAGE
_COMPARED: Final = (
    *("activity_id", "activity_type", "input", "header", "timer_id", "start_to_fire_timeout", "marker_name"),
    *("workflow_type", "signal_name", "search_attributes", "upserted_memo", "result", "failure"),
)
_EVENT_OF_COMMAND: Final = {
    "SCHEDULE_ACTIVITY_TASK": "ACTIVITY_TASK_SCHEDULED",
    "REQUEST_CANCEL_ACTIVITY_TASK": "ACTIVITY_TASK_CANCEL_REQUESTED",
    "START_TIMER": "TIMER_STARTED",
    "CANCEL_TIMER": "TIMER_CANCELED",
    "RECORD_MARKER": "MARKER_RECORDED",
    "START_CHILD_WORKFLOW_EXECUTION": "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION": "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION": "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
    "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES": "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
    "MODIFY_WORKFLOW_PROPERTIES": "WORKFLOW_PROPERTIES_MODIFIED",
    "COMPLETE_WORKFLOW_EXECUTION": "WORKFLOW_EXECUTION_COMPLETED",
    "FAIL_WORKFLOW_EXECUTION": "WORKFLOW_EXECUTION_FAILED",
    "CANCEL_WORKFLOW_EXECUTION": "WORKFLOW_EXECUTION_CANCELED",
    "CONTINUE_AS_NEW_WORKFLOW_EXECUTION": "WORKFLOW_EXECUTION_CONTINUED_AS_NEW",
}

Shown = tuple[str, dict[str, Any]]


@dataclass
class Task:
    """One completed workflow task of a history.

    Attributes:
        previous_started_id: Id of the started event of the completed task before; 0 for the first.
        started_id: Id of its started event.
        after: Events that its completion wrote, then those up to the next task.
    """

    previous_started_id: int
    started_id: int
    after: list[HistoryEvent]

    @property
    def recorded(self) -> list[HistoryEvent]:
        """The events that record its commands."""
        found = []
        for event in self.after:
            if event.event_type not in COMMAND_EVENTS:
                break
            found.append(event)
        return found


@dataclass
class Replays:
    """How many replays were made, and what they found.

    Attributes:
        cold, sticky: Workflow tasks replayed by fresh code; by code that has seen all before.
        whole: Prefixes that the `Replayer` has replayed.
        problems: Texts, one for each false alarm or other command.
    """

    cold: int = 0
    sticky: int = 0
    whole: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """All replays."""
        return self.cold + self.sticky + self.whole


def completed_tasks(events: Sequence[HistoryEvent]) -> list[Task]:
    """Return the completed workflow tasks of a history."""
    tasks: list[Task] = []
    previous = 0
    for index in range(1, len(events)):
        if events[index].event_type == _COMPLETED:
            started_id = events[index].workflow_task_completed_event_attributes.started_event_id
            end = next(
                (i for i in range(index + 1, len(events)) if events[i].event_type == _STARTED), len(events)
            )
            tasks.append(Task(previous, started_id, list(events[index + 1 : end])))
            previous = started_id
    return tasks


class HistoryReplay:
    """Replays of one history against workflow classes.

    Args:
        replayer: With the classes and the data converter.
        history: From its first event; payloads need no codec.
        replays: Counts.
    """

    def __init__(self, replayer: Replayer, history: WorkflowHistory, replays: Replays) -> None:
        self._programs = replayer._programs()
        self._history = history
        self._events = list(history.events)
        self._tasks = completed_tasks(self._events)
        self._replays = replays
        started = self._events[0].workflow_execution_started_event_attributes
        self._type = started.workflow_type.name
        self._run_id = started.original_execution_run_id

    def check(self) -> None:
        """Replay each task cold, and all of them one after the other, sticky."""
        for task in self._tasks:
            run = self._new_run()
            self._replays.cold += 1
            self._replay(run, task, self._events[: task.started_id], "cold")
            self._programs.close(run.program)
        run = self._new_run()
        for task in self._tasks:
            self._replays.sticky += 1
            events = self._events[task.previous_started_id : task.started_id]
            if not self._replay(run, task, events, "sticky"):
                break
        self._programs.close(run.program)

    def _new_run(self) -> WorkflowRun:
        program = self._programs.create(self._type, self._history.workflow_id, self._run_id)
        config = self._programs.config_for(self._type)
        return WorkflowRun(self._history.workflow_id, self._run_id, program, config)

    def _replay(self, run: WorkflowRun, task: Task, events: Sequence[HistoryEvent], how: str) -> bool:
        step: Step | None = run.handle(
            WorkflowTask(events, task.previous_started_id, task.started_id, messages=_requests(task))
        )
        markers = _local_markers(task)
        running: dict[int, LocalActivity] = {}
        while isinstance(step, LocalActivityWork):
            running |= {local.seq: local for local in step.start}
            marker = next((marker for marker in markers if marker.seq in running), None)
            if marker is None:
                step = run.heartbeat()
                break
            local = running.pop(marker.seq)
            step = run.local_activity_resolved(marker.seq, _outcome(local, marker))
        where = f"{self._history.workflow_id} ({how}), task started at event {task.started_id}"
        if not isinstance(step, TaskCompletion):
            self._replays.problems.append(f"{where}: {step}")
            return False
        asked = [_shown_command(command) for command in step.commands]
        recorded = [_shown_event(event) for event in task.recorded]
        if _comparable(asked) != _comparable(recorded):
            self._replays.problems.append(f"{where}:\n  asked    {asked}\n  recorded {recorded}")
        return True


def _requests(task: Task) -> list[Message]:
    """The update requests that came with a task and were accepted, made again from what history keeps of them."""
    messages = []
    for event in task.recorded:
        if event.event_type != _ACCEPTED:
            continue
        accepted = event.workflow_execution_update_accepted_event_attributes
        body = AnyMessage()
        body.Pack(accepted.accepted_request)
        messages.append(
            Message(
                id=accepted.accepted_request_message_id,
                protocol_instance_id=accepted.protocol_instance_id,
                event_id=accepted.accepted_request_sequencing_event_id,
                body=body,
            )
        )
    return messages


def _local_markers(task: Task) -> list[LocalActivityMarker]:
    """What became of local activities during a task; those that the code itself gave up have no time."""
    markers = [
        read_local_activity(event.marker_recorded_event_attributes)
        for event in task.recorded
        if _is_local(event)
    ]
    return [marker for marker in markers if marker.complete_time_ns is not None]


def _outcome(local: LocalActivity, marker: LocalActivityMarker) -> LocalActivityOutcome:
    failure = marker.failure
    return LocalActivityOutcome(
        result=marker.result,
        failure=failure,
        is_canceled=failure is not None and failure.HasField("canceled_failure_info"),
        backoff_s=None if marker.backoff_ns is None else marker.backoff_ns / 1e9,
        attempt=marker.attempt,
        original_schedule_time_ns=marker.original_schedule_time_ns or 0,
        elapsed_ns=(marker.complete_time_ns or 0) - local.schedule_time_ns,
    )


def _is_local(event: HistoryEvent) -> bool:
    marker = event.marker_recorded_event_attributes
    return event.event_type == _MARKER and marker.marker_name == LOCAL_ACTIVITY_MARKER


def _shown_command(command: Command) -> Shown:
    name = CommandType.Name(command.command_type).removeprefix("COMMAND_TYPE_")
    if command.command_type == _PROTOCOL_MESSAGE:
        return ("UPDATE", {})
    attributes = getattr(command, command.WhichOneof("attributes") or "")
    return (_EVENT_OF_COMMAND[name], _shown_fields(attributes))


def _shown_event(event: HistoryEvent) -> Shown:
    if event.event_type in _UPDATE_EVENTS:
        return ("UPDATE", {})
    attributes = getattr(event, event.WhichOneof("attributes") or "")
    name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
    return (name, _shown_fields(attributes))


def _shown_fields(attributes: ProtobufMessage) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name in _COMPARED:
        if name not in attributes.DESCRIPTOR.fields_by_name:
            continue
        value = getattr(attributes, name)
        if isinstance(value, Failure):
            value = value.message
        shown[name] = str(value)
    return shown


def _comparable(shown: Sequence[Shown]) -> list[Shown]:
    """Without what is empty on one side and missing on the other."""
    return [(name, {key: value for key, value in fields.items() if value}) for name, fields in shown]


def prefixes(history: WorkflowHistory) -> Iterator[WorkflowHistory]:
    """Every beginning of a history that ends at a workflow task: where it started, and where it was completed."""
    events = list(history.events)
    for task in completed_tasks(events):
        yield WorkflowHistory(history.workflow_id, events[: task.started_id])
        yield WorkflowHistory(history.workflow_id, events[: task.started_id + 1])
    yield history
