"""A workflow worker's replay: a pure function from history to commands, and a checker of what history it is given.

`feed` takes events in order and accepts nothing that a correct server can not send: gaps, events of things that do not
exist, command events that differ from the commands which the program issues at that point.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Generator, Iterable
from typing import Any

import msgspec

from perdure.api.command.v1 import Command
from perdure.api.common.v1 import Payload, Payloads
from perdure.api.enums.v1 import CommandType, EventType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from tests.simulation import program as programs
from tests.simulation.program import CANCEL, CLEAN_UP, FAILURE_TYPE, Program, Step

ATTRIBUTE = "SimulatedKeyword"
"""The namespaces' own search attribute that programs upsert."""

NAMES: dict[int, str] = {number: name.removeprefix("EVENT_TYPE_") for name, number in EventType.items()}
_COMMAND: dict[str, CommandType.ValueType] = {
    name.removeprefix("COMMAND_TYPE_"): number for name, number in CommandType.items()
}
COMMAND_EVENTS = {
    "ACTIVITY_TASK_SCHEDULED": "SCHEDULE_ACTIVITY_TASK",
    "ACTIVITY_TASK_CANCEL_REQUESTED": "REQUEST_CANCEL_ACTIVITY_TASK",
    "TIMER_STARTED": "START_TIMER",
    "TIMER_CANCELED": "CANCEL_TIMER",
    "MARKER_RECORDED": "RECORD_MARKER",
    "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES": "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
    "WORKFLOW_PROPERTIES_MODIFIED": "MODIFY_WORKFLOW_PROPERTIES",
    "WORKFLOW_EXECUTION_COMPLETED": "COMPLETE_WORKFLOW_EXECUTION",
    "WORKFLOW_EXECUTION_FAILED": "FAIL_WORKFLOW_EXECUTION",
    "WORKFLOW_EXECUTION_CANCELED": "CANCEL_WORKFLOW_EXECUTION",
    "WORKFLOW_EXECUTION_CONTINUED_AS_NEW": "CONTINUE_AS_NEW_WORKFLOW_EXECUTION",
    "START_CHILD_WORKFLOW_EXECUTION_INITIATED": "START_CHILD_WORKFLOW_EXECUTION",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED": "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED": "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION",
    "NEXUS_OPERATION_SCHEDULED": "SCHEDULE_NEXUS_OPERATION",
    "NEXUS_OPERATION_CANCEL_REQUESTED": "REQUEST_CANCEL_NEXUS_OPERATION",
}
"""Events that a command makes, and the command."""

_UPDATE_EVENTS = ("WORKFLOW_EXECUTION_UPDATE_ACCEPTED", "WORKFLOW_EXECUTION_UPDATE_COMPLETED")
_LOCAL_PREFIX = "local:"
Thread = Generator[None, None, None]


class NonDeterminism(Exception):
    """The history is not one that this program can have."""


def verdict(update_id: str) -> str:
    """What the workflow says to an update; the same whoever asks: reject, accept (and complete later) or complete."""
    return ("reject", "accept", "complete", "complete")[zlib.crc32(update_id.encode()) % 4]


def payload(value: Any) -> Payload:
    """A value as one json/plain payload."""
    return Payload(metadata={"encoding": b"json/plain"}, data=msgspec.json.encode(value))


def payloads(value: Any) -> Payloads:
    """A value as payloads."""
    return Payloads(payloads=[payload(value)])


def value_of(given: Payloads) -> Any:
    """The value in payloads made by `payloads`."""
    return value_of_payload(given.payloads[0]) if given.payloads else None


def value_of_payload(given: Payload) -> Any:
    """The value in a payload made by `payload`."""
    return msgspec.json.decode(given.data)


def event_name(event: HistoryEvent) -> str:
    """The event's type without its prefix."""
    return NAMES[event.event_type]


def attributes_of(event: HistoryEvent) -> Any:
    """The event's own attributes message."""
    field = event.WhichOneof("attributes")
    return getattr(event, field) if field else None


class Interpreter:
    """One run as a worker sees it.

    Attributes:
        next_event_id: the event that `feed` expects.
        commands: what the current workflow task has to say so far.
        pending_local: local activities that the worker has to compute, by id: heartbeats still wanted.
        signals: (name, request id) of each signal in order.
        is_closed: the history has its closing event.
        updates: ids of accepted updates whose outcome is not in the history.
        admitted: updates that a reset brought and that wait for a word, with the event that brought each.
    """

    def __init__(self) -> None:
        self.next_event_id = 1
        self.commands: list[Command] = []
        self.pending_local: dict[str, int] = {}
        self.signals: list[tuple[str, str]] = []
        self.is_closed = False
        self.updates: list[str] = []
        self.admitted: dict[str, HistoryEvent] = {}
        self.program: Program = {}
        self.origin: dict[str, str] = {}
        self.results: list[Any] = []
        self.last_completed_started_id = 0
        self._batch: list[HistoryEvent] = []
        self._started_id = 0
        self._advanced_id = 0
        self._expected: deque[Command] = deque()
        self._matching = False
        self._threads: list[Thread] = []
        self._activities: dict[str, int] = {}
        self._scheduled: dict[int, str] = {}
        self._outcomes: dict[str, Any] = {}
        self._timers: dict[str, bool] = {}
        self._local_results: dict[str, str] = {}
        self._operations: dict[int, str] = {}
        self._initiated: dict[int, str] = {}
        self._begun: set[str] = set()
        self._chain = ""
        self._cancel_requested = False
        self._ending = False
        self._cron_schedule = ""

    # --- events in

    def feed(self, events: Iterable[HistoryEvent]) -> None:
        """Takes the next events.

        Raises:
            NonDeterminism: they can not be.
        """
        for event in events:
            if event.event_id != self.next_event_id:
                raise NonDeterminism(f"event {self.next_event_id} expected, got {event.event_id}")
            if self.is_closed:
                raise NonDeterminism(f"event {event.event_id} {event_name(event)} after the closing event")
            self.next_event_id += 1
            self._take(event, event_name(event))

    def _take(self, event: HistoryEvent, name: str) -> None:
        if name in _UPDATE_EVENTS:
            self._take_update(event, name)
            return
        if name in COMMAND_EVENTS:
            self._match(event, name)
        else:
            if self._matching and self._expected:
                left = [CommandType.Name(c.command_type) for c in self._expected]
                raise NonDeterminism(f"commands {left} have no events before {event.event_id} {name}")
            self._matching = False
            handle = getattr(self, f"_on_{name.lower()}", None)
            if handle is not None:
                handle(event)
            else:
                self._batch.append(event)
        if name.startswith("WORKFLOW_EXECUTION_") and name.rsplit("_", 1)[1] in _CLOSING:
            self.is_closed = True

    def _take_update(self, event: HistoryEvent, name: str) -> None:
        if not self._matching:
            raise NonDeterminism(f"{event.event_id} {name} does not follow a completed workflow task")
        if name == "WORKFLOW_EXECUTION_UPDATE_ACCEPTED":
            update_id = event.workflow_execution_update_accepted_event_attributes.protocol_instance_id
            if update_id in self.updates or verdict(update_id) == "reject":
                raise NonDeterminism(f"{event.event_id} accepts update {update_id}")
            brought = self.admitted.pop(update_id, None)
            accepted = event.workflow_execution_update_accepted_event_attributes
            if accepted.HasField("accepted_request") == (brought is not None):
                raise NonDeterminism(f"{event.event_id} must name the request unless an event has brought it")
            self.updates.append(update_id)
        else:
            self.updates.remove(event.workflow_execution_update_completed_event_attributes.meta.update_id)

    def _on_workflow_task_scheduled(self, event: HistoryEvent) -> None:
        if self._started_id:
            raise NonDeterminism(f"workflow task scheduled at {event.event_id} while another is started")

    def _on_workflow_task_started(self, event: HistoryEvent) -> None:
        self._started_id = event.event_id

    def _on_workflow_task_failed(self, event: HistoryEvent) -> None:
        self._drop_task(event)

    def _on_workflow_task_timed_out(self, event: HistoryEvent) -> None:
        self._drop_task(event)

    def _drop_task(self, event: HistoryEvent) -> None:
        if self._advanced_id > self.last_completed_started_id:
            raise NonDeterminism(f"event {event.event_id} undoes a task that this copy of the run has done")
        self._started_id = 0

    def _on_workflow_task_completed(self, event: HistoryEvent) -> None:
        started = event.workflow_task_completed_event_attributes.started_event_id
        if not self._started_id or started != self._started_id:
            raise NonDeterminism(f"completed task names started event {started}, not {self._started_id}")
        if self._advanced_id != started:
            self.begin_task()
        self._expected = deque(self.commands)
        self._matching = True
        self.last_completed_started_id = started
        self._started_id = 0

    def _match(self, event: HistoryEvent, name: str) -> None:
        if not self._matching:
            raise NonDeterminism(f"{event.event_id} {name} does not follow a completed workflow task")
        if not self._expected and name == "MARKER_RECORDED":
            marker = event.marker_recorded_event_attributes.marker_name
            if marker.startswith(_LOCAL_PREFIX) and marker.removeprefix(_LOCAL_PREFIX) in self.pending_local:
                before = len(self.commands)
                self.resolve_local(marker.removeprefix(_LOCAL_PREFIX))
                self._expected.extend(self.commands[before:])
        if not self._expected:
            raise NonDeterminism(f"{event.event_id} {name} was not commanded")
        command = self._expected.popleft()
        if command.command_type != _COMMAND[COMMAND_EVENTS[name]]:
            raise NonDeterminism(
                f"{event.event_id} {name}, but the command is {CommandType.Name(command.command_type)}"
            )
        self._compare(event, name, command)

    def _compare(self, event: HistoryEvent, name: str, command: Command) -> None:
        """Checks the fields that say which thing the event is about, and remembers its id."""
        attributes = attributes_of(event)
        wanted = getattr(command, str(command.WhichOneof("attributes")))
        for field in (
            "activity_id",
            "timer_id",
            "marker_name",
            "result",
            "failure",
            "scheduled_event_id",
            "input",
            "workflow_id",
            "signal_name",
        ):
            if field in attributes.DESCRIPTOR.fields_by_name and field in wanted.DESCRIPTOR.fields_by_name:
                if getattr(attributes, field) != getattr(wanted, field):
                    raise NonDeterminism(f"{event.event_id} {name}: another {field} than commanded")
        if name == "ACTIVITY_TASK_SCHEDULED":
            self._activities[attributes.activity_id] = event.event_id
            self._scheduled[event.event_id] = attributes.activity_id
        elif name == "NEXUS_OPERATION_SCHEDULED":
            self._operations[event.event_id] = value_of_payload(attributes.input)["id"]
        elif name.endswith("EXECUTION_INITIATED"):
            named = attributes if name.startswith("START") else attributes.workflow_execution
            self._initiated[event.event_id] = named.workflow_id

    # --- a workflow task

    @property
    def is_ending(self) -> bool:
        """Whether the closing command is among those issued."""
        return self._ending

    @property
    def started_event_id(self) -> int:
        """The started workflow task, 0 when none is."""
        return self._started_id

    def begin_task(self) -> None:
        """Runs the program as far as the events allow; `commands` is then what it wants."""
        if not self._started_id:
            raise NonDeterminism("no workflow task is started")
        self._advanced_id = self._started_id
        self.commands = []
        for event in self._batch:
            self._learn(event, event_name(event))
        self._batch = []
        self._advance()

    def resolve_local(self, local_id: str) -> None:
        """A local activity has its result: records it and goes on."""
        del self.pending_local[local_id]
        self._local_results[local_id] = programs.activity_value(local_id)
        command = self._command("RECORD_MARKER")
        command.record_marker_command_attributes.marker_name = _LOCAL_PREFIX + local_id
        command.record_marker_command_attributes.details["result"].CopyFrom(payloads(local_id))
        self._advance()

    def _learn(self, event: HistoryEvent, name: str) -> None:
        attributes = attributes_of(event)
        if name == "WORKFLOW_EXECUTION_STARTED":
            self._cron_schedule = event.workflow_execution_started_event_attributes.cron_schedule
            document = value_of(attributes.input)
            self.program, self.origin = document["program"], document["origin"]
            if document.get("scheduled"):
                self.origin = {**self.origin, "workflow_id": attributes.workflow_id}
            self._threads = [self._main(self.program["steps"])]
            # Children of an earlier run or attempt may still be there: theirs are other ids.
            self._chain = f"{attributes.original_execution_run_id[-8:]}"
        elif name == "WORKFLOW_EXECUTION_SIGNALED":
            self.signals.append((attributes.signal_name, attributes.request_id))
        elif name == "WORKFLOW_EXECUTION_CANCEL_REQUESTED":
            self._cancel_requested = True
        elif name == "WORKFLOW_EXECUTION_UPDATE_ADMITTED":
            self.admitted[attributes.request.meta.update_id] = event
        elif name == "TIMER_FIRED":
            if self._timers.get(attributes.timer_id) is not False:
                raise NonDeterminism(f"{event.event_id}: timer {attributes.timer_id} is not running")
            self._timers[attributes.timer_id] = True
        elif name.startswith("NEXUS_OPERATION_"):
            self._hear_of_operation(event, name, attributes)
        elif "initiated_event_id" in attributes.DESCRIPTOR.fields_by_name:
            self._hear_of(event, name, attributes)
        elif name.startswith("ACTIVITY_TASK_") and name != "ACTIVITY_TASK_STARTED":
            self._finish_activity(event, name, attributes)

    def _hear_of(self, event: HistoryEvent, name: str, attributes: Any) -> None:
        """Something became of a child, a signal or a request to cancel that this run initiated."""
        about = self._initiated.get(attributes.initiated_event_id)
        if about is None:
            raise NonDeterminism(f"{event.event_id} {name}: nothing was initiated")
        if name == "CHILD_WORKFLOW_EXECUTION_STARTED":
            if about in self._begun:
                raise NonDeterminism(f"{event.event_id}: child {about} starts once more")
            self._begun.add(about)
            return
        if name.startswith("CHILD_") and (about not in self._begun or about in self._outcomes):
            raise NonDeterminism(f"{event.event_id} {name}: the child is not running")
        key = about if "CHILD" in name else f"{attributes.initiated_event_id}"
        if name == "CHILD_WORKFLOW_EXECUTION_COMPLETED":
            self._outcomes[key] = value_of(attributes.result)
        else:
            self._outcomes[key] = [name.rsplit("_", 1)[1].lower()]

    def _hear_of_operation(self, event: HistoryEvent, name: str, attributes: Any) -> None:
        """Something became of a Nexus operation that this run scheduled."""
        about = self._operations.get(attributes.scheduled_event_id)
        if about is None:
            raise NonDeterminism(f"{event.event_id} {name}: no operation was scheduled")
        if "CANCEL_REQUEST_" in name:
            return
        if about in self._outcomes:
            raise NonDeterminism(f"{event.event_id} {name}: operation {about} is over")
        if name == "NEXUS_OPERATION_STARTED":
            if about in self._begun:
                raise NonDeterminism(f"{event.event_id}: operation {about} starts once more")
            self._begun.add(about)
        elif name == "NEXUS_OPERATION_COMPLETED":
            self._outcomes[about] = value_of_payload(attributes.result)
        else:
            self._outcomes[about] = [name.rsplit("_", 1)[1].lower()]

    def _finish_activity(self, event: HistoryEvent, name: str, attributes: Any) -> None:
        activity_id = self._scheduled.get(attributes.scheduled_event_id)
        if activity_id is None or activity_id in self._outcomes:
            raise NonDeterminism(f"{event.event_id} {name}: the activity is not pending")
        if name == "ACTIVITY_TASK_COMPLETED":
            self._outcomes[activity_id] = value_of(attributes.result)
        elif name == "ACTIVITY_TASK_FAILED":
            self._outcomes[activity_id] = ["failed", attributes.failure.application_failure_info.type]
        else:
            self._outcomes[activity_id] = [name.rsplit("_", 1)[1].lower()]

    def _advance(self) -> None:
        if self._ending:
            return
        if self._cancel_requested and self.program["on_cancel"] == CANCEL:
            self._end("CANCEL_WORKFLOW_EXECUTION")
            return
        if self._cancel_requested and self.program["on_cancel"] == CLEAN_UP and len(self._threads) == 1:
            self._threads = [self._clean_up(), self._threads[0]]
            self.pending_local.clear()
        thread = self._threads[0]
        try:
            next(thread)
        except StopIteration:
            if not self._ending:
                raise NonDeterminism("the program ended without a closing command") from None

    # --- the program

    def _main(self, steps: list[Step]) -> Thread:
        self.results = [None] * len(steps)
        yield from self._run_steps(steps, self.results)
        if "next" in self.program:
            self._end("CONTINUE_AS_NEW_WORKFLOW_EXECUTION")
        elif self.program["ends"] == "complete":
            self._end("COMPLETE_WORKFLOW_EXECUTION")
        else:
            self._end("FAIL_WORKFLOW_EXECUTION")

    def _clean_up(self) -> Thread:
        steps = self.program["clean_up"]
        yield from self._run_steps(steps, [None] * len(steps))
        self._end("CANCEL_WORKFLOW_EXECUTION")

    def _end(self, command_type: str) -> None:
        self._ending = True
        command = self._command(command_type)
        if command_type == "COMPLETE_WORKFLOW_EXECUTION":
            command.complete_workflow_execution_command_attributes.result.CopyFrom(payloads(self.results))
        elif command_type == "FAIL_WORKFLOW_EXECUTION":
            failure: Failure = command.fail_workflow_execution_command_attributes.failure
            failure.message = json.dumps(self.results)
            failure.application_failure_info.type = FAILURE_TYPE
        elif command_type == "CONTINUE_AS_NEW_WORKFLOW_EXECUTION":
            document = {"program": self.program["next"], "origin": self.origin}
            again = command.continue_as_new_workflow_execution_command_attributes
            again.input.CopyFrom(payloads(document))
            again.cron_schedule = self._cron_schedule
        else:
            command.cancel_workflow_execution_command_attributes.SetInParent()

    def _run_steps(self, steps: list[Step], results: list[Any]) -> Thread:
        for index, step in enumerate(steps):
            run = getattr(self, f"_run_{step[0]}")
            yield from run(results, index, *step[1:])

    def _command(self, command_type: str) -> Command:
        command = Command(command_type=_COMMAND[command_type])
        self.commands.append(command)
        return command

    def _run_activity(self, results: list[Any], index: int, activity_id: str, spec: dict[str, Any]) -> Thread:
        self._schedule(activity_id, spec)
        while activity_id not in self._outcomes:
            yield
        results[index] = self._outcomes[activity_id]

    def _schedule(self, activity_id: str, spec: dict[str, Any]) -> None:
        attributes = self._command("SCHEDULE_ACTIVITY_TASK").schedule_activity_task_command_attributes
        attributes.activity_id = activity_id
        attributes.activity_type.name = "simulated"
        attributes.task_queue.name = self.origin["task_queue"]
        attributes.input.CopyFrom(payloads({"spec": spec, "id": activity_id, "origin": self.origin}))
        attributes.request_eager_execution = spec.get("eager", False)
        attributes.start_to_close_timeout.FromNanoseconds(int(spec.get("start_to_close_s", 5.0) * 1e9))
        for key, field in (
            ("schedule_to_close_s", "schedule_to_close_timeout"),
            ("schedule_to_start_s", "schedule_to_start_timeout"),
            ("heartbeat_s", "heartbeat_timeout"),
        ):
            if key in spec:
                getattr(attributes, field).FromNanoseconds(int(spec[key] * 1e9))
        if "priority" in spec:
            attributes.priority.priority_key = spec["priority"]
        if "fairness" in spec:
            attributes.priority.fairness_key, attributes.priority.fairness_weight = spec["fairness"]
        attributes.retry_policy.initial_interval.FromMilliseconds(500)
        attributes.retry_policy.maximum_interval.FromSeconds(8)
        attributes.retry_policy.maximum_attempts = spec.get("attempts", 0)

    def _start_timer(self, timer_id: str, seconds: float) -> None:
        attributes = self._command("START_TIMER").start_timer_command_attributes
        attributes.timer_id = timer_id
        attributes.start_to_fire_timeout.FromNanoseconds(int(seconds * 1e9))
        self._timers[timer_id] = False

    def _cancel_timer(self, timer_id: str) -> None:
        if not self._timers[timer_id]:
            self._command("CANCEL_TIMER").cancel_timer_command_attributes.timer_id = timer_id
            del self._timers[timer_id]

    def _run_timer(self, results: list[Any], index: int, timer_id: str, seconds: float) -> Thread:
        self._start_timer(timer_id, seconds)
        while not self._timers[timer_id]:
            yield
        results[index] = timer_id

    def _run_signal(self, results: list[Any], index: int, name: str) -> Thread:
        while not any(received == name for received, _ in self.signals):
            yield
        results[index] = name

    def _run_marker(self, results: list[Any], index: int, name: str) -> Thread:
        self._command("RECORD_MARKER").record_marker_command_attributes.marker_name = name
        results[index] = name
        yield from ()

    def _run_attributes(self, results: list[Any], index: int, value: str) -> Thread:
        upsert = self._command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES")
        fields = upsert.upsert_workflow_search_attributes_command_attributes.search_attributes.indexed_fields
        fields[ATTRIBUTE].CopyFrom(payload(value))
        memo = self._command("MODIFY_WORKFLOW_PROPERTIES").modify_workflow_properties_command_attributes
        memo.upserted_memo.fields["note"].CopyFrom(payload(value))
        results[index] = value
        yield from ()

    def _run_local(self, results: list[Any], index: int, local_id: str, heartbeats: int) -> Thread:
        self.pending_local[local_id] = heartbeats
        while local_id not in self._local_results:
            yield
        results[index] = self._local_results[local_id]

    def _run_race(
        self,
        results: list[Any],
        index: int,
        activity_id: str,
        spec: dict[str, Any],
        timer_id: str,
        seconds: float,
    ) -> Thread:
        self._schedule(activity_id, spec)
        self._start_timer(timer_id, seconds)
        while activity_id not in self._outcomes and not self._timers[timer_id]:
            yield
        if activity_id not in self._outcomes:
            cancel = self._command("REQUEST_CANCEL_ACTIVITY_TASK")
            scheduled_id = self._activities[activity_id]
            cancel.request_cancel_activity_task_command_attributes.scheduled_event_id = scheduled_id
            while activity_id not in self._outcomes:
                yield
        else:
            self._cancel_timer(timer_id)
        results[index] = self._outcomes[activity_id]

    def _start_child(self, child_id: str, program: Program, policy: int) -> str:
        attributes = self._command(
            "START_CHILD_WORKFLOW_EXECUTION"
        ).start_child_workflow_execution_command_attributes
        attributes.workflow_id = f"{self.origin['workflow_id']}/{child_id}/{self._chain}"
        attributes.workflow_type.name = "program"
        attributes.task_queue.name = self.origin["task_queue"]
        attributes.parent_close_policy = policy  # type: ignore[assignment]  # an enum number
        origin = self.origin | {"workflow_id": attributes.workflow_id}
        attributes.input.CopyFrom(payloads({"program": program, "origin": origin}))
        return attributes.workflow_id

    def _run_child(
        self, results: list[Any], index: int, child_id: str, program: Program, policy: int
    ) -> Thread:
        name = self._start_child(child_id, program, policy)
        while name not in self._outcomes:
            yield
        results[index] = self._outcomes[name]

    def _run_abort(
        self, results: list[Any], index: int, child_id: str, program: Program, timer_id: str, seconds: float
    ) -> Thread:
        name = self._start_child(child_id, program, 1)
        self._start_timer(timer_id, seconds)
        while not (self._timers[timer_id] and name in self._begun) and name not in self._outcomes:
            yield
        if name not in self._outcomes:
            cancel = self._command("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION")
            attributes = cancel.request_cancel_external_workflow_execution_command_attributes
            attributes.workflow_id = name
            attributes.child_workflow_only = True
            while name not in self._outcomes:
                yield
        self._cancel_timer(timer_id)
        results[index] = self._outcomes[name]

    def _run_poke(self, results: list[Any], index: int, poke_id: str, workflow_id: str) -> Thread:
        poke = self._command("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION")
        attributes = poke.signal_external_workflow_execution_command_attributes
        attributes.execution.workflow_id = workflow_id
        attributes.signal_name = poke_id
        own = len(self._initiated)
        while len(self._initiated) <= own:
            yield
        # The newest to this workflow is this step's: nothing else of the program signals it.
        event_id = max(key for key, name in self._initiated.items() if name == workflow_id)
        while str(event_id) not in self._outcomes:
            yield
        results[index] = self._outcomes[str(event_id)]

    def _call(self, operation_id: str, operation: str, program: Program) -> None:
        attributes = self._command("SCHEDULE_NEXUS_OPERATION").schedule_nexus_operation_command_attributes
        attributes.endpoint = self.origin["namespace"]
        attributes.service, attributes.operation = "simulated", operation
        document = {"id": operation_id, "program": program, "origin": self.origin}
        attributes.input.CopyFrom(payload(document))

    def _run_operation(
        self, results: list[Any], index: int, operation_id: str, operation: str, program: Program
    ) -> Thread:
        self._call(operation_id, operation, program)
        while operation_id not in self._outcomes:
            yield
        results[index] = self._outcomes[operation_id]

    def _run_drop(
        self,
        results: list[Any],
        index: int,
        operation_id: str,
        operation: str,
        program: Program,
        timer_id: str,
        seconds: float,
    ) -> Thread:
        self._call(operation_id, operation, program)
        self._start_timer(timer_id, seconds)
        while operation_id not in self._outcomes and not self._timers[timer_id]:
            yield
        if operation_id not in self._outcomes:
            cancel = self._command("REQUEST_CANCEL_NEXUS_OPERATION")
            scheduled = next(key for key, name in self._operations.items() if name == operation_id)
            cancel.request_cancel_nexus_operation_command_attributes.scheduled_event_id = scheduled
            while operation_id not in self._outcomes:
                yield
        else:
            self._cancel_timer(timer_id)
        results[index] = self._outcomes[operation_id]

    def _run_guard(
        self, results: list[Any], index: int, timer_id: str, seconds: float, steps: list[Step]
    ) -> Thread:
        self._start_timer(timer_id, seconds)
        results[index] = [None] * len(steps)
        yield from self._run_steps(steps, results[index])
        self._cancel_timer(timer_id)

    def _run_all(self, results: list[Any], index: int, branches: list[list[Step]]) -> Thread:
        results[index] = [[None] * len(branch) for branch in branches]
        running = [
            self._run_steps(branch, outcome) for branch, outcome in zip(branches, results[index], strict=True)
        ]
        while running:
            running = [branch for branch in running if next(branch, _DONE) is None]
            if running:
                yield


_DONE = object()
_CLOSING = frozenset(("COMPLETED", "FAILED", "CANCELED", "TERMINATED", "OUT", "NEW"))
