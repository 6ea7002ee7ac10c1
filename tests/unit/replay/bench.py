"""A history written by hand beside the run that works on it: each workflow task is answered, its commands are recorded.

Lives here: the smallest server that knows which event records which command. May not: expectations about the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from perdure.api.command.v1 import Command
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protocol.v1 import Message
from perdure.api.query.v1 import WorkflowQuery
from perdure.api.update.v1 import Acceptance, Input, Meta, Request, Response
from perdure.core.replay.run import WorkflowRun, replay_history
from perdure.core.replay.steps import RunConfig, Step, TaskCompletion, TaskFailure, WorkflowTask
from tests.support.builders import payloads
from tests.support.proto import enums
from tests.unit.replay.code import Code

SECOND_NS: Final = 1_000_000_000
START_NS: Final = 1_700_000_000 * SECOND_NS
CONFIG: Final = RunConfig(namespace="default", task_queue="queue", sdk_version="1")

_RECORDED: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "SCHEDULE_ACTIVITY_TASK": ("ACTIVITY_TASK_SCHEDULED", ("activity_id", "activity_type")),
    "REQUEST_CANCEL_ACTIVITY_TASK": ("ACTIVITY_TASK_CANCEL_REQUESTED", ("scheduled_event_id",)),
    "START_TIMER": ("TIMER_STARTED", ("timer_id",)),
    "CANCEL_TIMER": ("TIMER_CANCELED", ("timer_id",)),
    "RECORD_MARKER": ("MARKER_RECORDED", ("marker_name", "details", "failure")),
    "START_CHILD_WORKFLOW_EXECUTION": (
        "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
        ("workflow_id", "workflow_type"),
    ),
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION": (
        "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
        ("signal_name",),
    ),
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION": (
        "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
        (),
    ),
    "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES": ("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", ("search_attributes",)),
    "MODIFY_WORKFLOW_PROPERTIES": ("WORKFLOW_PROPERTIES_MODIFIED", ("upserted_memo",)),
    "SCHEDULE_NEXUS_OPERATION": ("NEXUS_OPERATION_SCHEDULED", ("endpoint", "service", "operation")),
    "REQUEST_CANCEL_NEXUS_OPERATION": ("NEXUS_OPERATION_CANCEL_REQUESTED", ("scheduled_event_id",)),
    "COMPLETE_WORKFLOW_EXECUTION": ("WORKFLOW_EXECUTION_COMPLETED", ("result",)),
    "FAIL_WORKFLOW_EXECUTION": ("WORKFLOW_EXECUTION_FAILED", ("failure",)),
    "CANCEL_WORKFLOW_EXECUTION": ("WORKFLOW_EXECUTION_CANCELED", ("details",)),
    "CONTINUE_AS_NEW_WORKFLOW_EXECUTION": ("WORKFLOW_EXECUTION_CONTINUED_AS_NEW", ("workflow_type",)),
}
"""By command: the event that records it and the attributes that it has from there."""


def name_of(command: Command) -> str:
    """A command's type, such as START_TIMER."""
    return enums.CommandType.Name(command.command_type).removeprefix("COMMAND_TYPE_")


class Bench:
    """A history and the run that works on it.

    Attributes:
        events: the history so far.
        previous: started event id of the last completed task.
        step: what the last task led to.
    """

    def __init__(self, make: Callable[[], Code], config: RunConfig = CONFIG, **started: Any) -> None:
        self.make = make
        self.config = config
        self.events: list[HistoryEvent] = []
        self.previous = 0
        self.step: Step | None = None
        self._sent: dict[str, Message] = {}
        self.forget()
        started = {"original_execution_run_id": "run", "workflow_type": {"name": "type"}} | started
        self.add("WORKFLOW_EXECUTION_STARTED", **started)

    def forget(self) -> None:
        """The worker drops the run from its cache."""
        self.code = self.make()
        self.run = WorkflowRun("workflow", "run", self.code, self.config)

    # --- history ---

    def add(self, name: str, **attributes: Any) -> HistoryEvent:
        """Writes an event."""
        number = len(self.events) + 1
        event = HistoryEvent(event_id=number, event_type=enums.EventType.Value(f"EVENT_TYPE_{name}"))
        event.event_time.FromNanoseconds(START_NS + number * SECOND_NS)
        fields = getattr(event, f"{name.lower()}_event_attributes")
        fields.SetInParent()
        fields.MergeFrom(type(fields)(**attributes))
        self.events.append(event)
        return event

    def last(self, name: str, **attributes: Any) -> HistoryEvent:
        """The newest event of a type, with these attributes."""
        number = enums.EventType.Value(f"EVENT_TYPE_{name}")
        for event in reversed(self.events):
            fields = getattr(event, f"{name.lower()}_event_attributes")
            if event.event_type == number and all(
                getattr(fields, key) == value for key, value in attributes.items()
            ):
                return event
        raise LookupError(name)

    def types(self) -> list[str]:
        """Names of all events."""
        return [enums.EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in self.events]

    # --- workflow tasks ---

    def open_task(self) -> int:
        """Schedules and starts a workflow task."""
        scheduled = self.add("WORKFLOW_TASK_SCHEDULED").event_id
        return self.add("WORKFLOW_TASK_STARTED", scheduled_event_id=scheduled).event_id

    def handle(
        self,
        queries: Mapping[str, WorkflowQuery] | None = None,
        messages: tuple[Message, ...] = (),
        attempt: int = 1,
    ) -> Step:
        """Opens a task and lets the run work on it."""
        started = self.open_task()
        events = self.events[self.run.last_event_id :]
        self.step = self.run.handle(
            WorkflowTask(
                events, self.previous, started, attempt, queries=dict(queries or {}), messages=messages
            )
        )
        return self.step

    def work(self, *messages: Message) -> list[str]:
        """Opens a task, lets the run work on it and records its commands; returns their names."""
        step = self.handle(messages=messages)
        assert isinstance(step, TaskCompletion), step
        return self.record(step)

    def record(self, step: TaskCompletion) -> list[str]:
        """Records a completion."""
        started = self.last("WORKFLOW_TASK_STARTED")
        self.previous = started.event_id
        scheduled_event_id = started.workflow_task_started_event_attributes.scheduled_event_id
        self.add(
            "WORKFLOW_TASK_COMPLETED",
            scheduled_event_id=scheduled_event_id,
            started_event_id=started.event_id,
            sdk_metadata=step.sdk_metadata,
        )
        self._sent |= {message.id: message for message in step.messages}
        for command in step.commands:
            self._record(command)
        return [name_of(command) for command in step.commands]

    def _record(self, command: Command) -> None:
        name = name_of(command)
        if name == "PROTOCOL_MESSAGE":
            self._record_message(self._sent[command.protocol_message_command_attributes.message_id])
            return
        event_name, fields = _RECORDED[name]
        given = getattr(command, f"{name.lower()}_command_attributes")
        attributes = {field: getattr(given, field) for field in fields if field != "failure"}
        if "failure" in fields and given.HasField("failure"):
            attributes["failure"] = given.failure
        if name == "CANCEL_TIMER":
            attributes["started_event_id"] = self.last("TIMER_STARTED", timer_id=given.timer_id).event_id
        if name == "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION":
            attributes["workflow_execution"] = given.execution
        if name == "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION":
            attributes["workflow_execution"] = {"workflow_id": given.workflow_id}
        self.add(event_name, **attributes)

    def _record_message(self, message: Message) -> None:
        if message.body.Is(Acceptance.DESCRIPTOR):
            accepted = Acceptance()
            message.body.Unpack(accepted)
            self.add(
                "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
                protocol_instance_id=message.protocol_instance_id,
                accepted_request_message_id=accepted.accepted_request_message_id,
                accepted_request_sequencing_event_id=accepted.accepted_request_sequencing_event_id,
                accepted_request=accepted.accepted_request,
            )
        elif message.body.Is(Response.DESCRIPTOR):
            response = Response()
            message.body.Unpack(response)
            self.add("WORKFLOW_EXECUTION_UPDATE_COMPLETED", meta=response.meta, outcome=response.outcome)

    def update(self, name: str = "set", update_id: str = "u") -> Message:
        """A request that the next task brings."""
        request = Request(meta=Meta(update_id=update_id), input=Input(name=name, args=payloads("new")))
        message = Message(
            id=f"{update_id}/request", protocol_instance_id=update_id, event_id=len(self.events) + 1
        )
        message.body.Pack(request)
        return message

    # --- what happens outside ---

    def fire(self, timer_id: str = "1") -> None:
        """A timer fires."""
        started = self.last("TIMER_STARTED", timer_id=timer_id)
        self.add("TIMER_FIRED", timer_id=timer_id, started_event_id=started.event_id)

    def start_activity(self, activity_id: str = "1") -> dict[str, int]:
        """An activity starts; returns the ids its end refers to."""
        scheduled = self.last("ACTIVITY_TASK_SCHEDULED", activity_id=activity_id).event_id
        started = self.add("ACTIVITY_TASK_STARTED", scheduled_event_id=scheduled).event_id
        return {"scheduled_event_id": scheduled, "started_event_id": started}

    def complete_activity(self, activity_id: str = "1", result: str = "result") -> None:
        """An activity completes."""
        self.add("ACTIVITY_TASK_COMPLETED", result=payloads(result), **self.start_activity(activity_id))

    # --- replay ---

    def replay(self, make: Callable[[], Code] | None = None) -> TaskFailure | None:
        """Replays the history with this code or with other one."""
        return replay_history((make or self.make)(), self.events, workflow_id="workflow", config=self.config)

    def check_replay(self) -> None:
        """Every prefix of the history replays."""
        for length in range(1, len(self.events) + 1):
            failure = replay_history(
                self.make(), self.events[:length], workflow_id="workflow", config=self.config
            )
            assert failure is None, (length, failure)
