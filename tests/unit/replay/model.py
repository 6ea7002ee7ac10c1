"""A server in the test: the server's own core drives a run, so that histories are what a server writes.

Lives here: a worker's side of workflow tasks (sticky cache, evictions, local activities, heartbeats) over the core's
driver. May not: expectations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from perdure.api.command.v1 import Command
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protocol.v1 import Message
from perdure.core.replay.run import WorkflowRun
from perdure.core.replay.steps import (
    LocalActivity,
    LocalActivityOutcome,
    LocalActivityWork,
    RunConfig,
    Step,
    TaskCompletion,
    WorkflowTask,
)
from perdure.core.run import workflow_task
from tests.support.builders import application_failure, payloads
from tests.unit.core.driver import Driver, begun
from tests.unit.replay.code import Code

CONFIG = RunConfig(task_queue="queue", sdk_version="1", build_id="build")
WORKFLOW_ID = "workflow"
RUN_ID = "run-1"


def outcome_of(activity: LocalActivity) -> LocalActivityOutcome:
    """What a local activity does: those named "fail..." fail, the others succeed."""
    name = activity.attributes.activity_type.name
    outcome = LocalActivityOutcome(
        attempt=activity.attempt,
        original_schedule_time_ns=activity.original_schedule_time_ns,
        elapsed_ns=1_000_000,
    )
    if name.startswith("fail"):
        outcome.failure = application_failure(name)
    else:
        outcome.result = payloads(name)
    return outcome


@dataclass
class Handed:
    """A workflow task and what it was answered with."""

    events: list[HistoryEvent]
    previous_started_event_id: int
    started_event_id: int
    commands: list[bytes]
    is_heartbeat: bool = False
    messages: Sequence[Message] = ()
    resolved: Sequence[tuple[int, LocalActivityOutcome]] = ()


@dataclass
class Model:
    """A run on the server, and a worker that works on it.

    Attributes:
        make: makes fresh code.
        handed: the tasks that were completed so far.
        running: local activities that were started and not yet resolved.
    """

    make: Callable[[], Code]
    config: RunConfig = CONFIG
    driver: Driver = field(default_factory=begun)
    handed: list[Handed] = field(default_factory=list)
    running: dict[int, LocalActivity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.previous = 0
        self._resolved: list[tuple[int, LocalActivityOutcome]] = []
        self.evict()

    def evict(self) -> None:
        """The worker forgets the run."""
        self.code = self.make()
        self.run = WorkflowRun(WORKFLOW_ID, RUN_ID, self.code, self.config)
        self.running = {}

    @property
    def history(self) -> list[HistoryEvent]:
        return self.driver.history

    @property
    def is_waiting(self) -> bool:
        """A workflow task waits for the worker."""
        header = self.driver.header
        return header.is_open and header.has_pending_task and not header.has_started_task

    @property
    def is_over(self) -> bool:
        return not self.driver.header.is_open

    def work(self, *, local_order: int = 1, heartbeat: bool = False) -> TaskCompletion:
        """Takes the waiting workflow task and completes it.

        Args:
            local_order: 1 resolves local activities in the order of their start, -1 in the opposite one.
            heartbeat: hands the task in while a local activity runs, if one does.
        """
        whole = self.poll()
        events = whole[self.run.last_event_id :]
        started = whole[-1].event_id
        attempt, messages = self.driver.header.task_attempt, self.driver.messages
        task = WorkflowTask(events, self.previous, started, attempt, messages=messages)
        step = self.finish(self.run.handle(task), local_order, heartbeat)
        assert isinstance(step, TaskCompletion), step
        self.respond(step, whole, started)
        return step

    def poll(self) -> list[HistoryEvent]:
        """The whole history as the worker gets it with the waiting task: a transient task's events are not written."""
        self.driver.poll()
        return self.history + workflow_task.transient_events(self.driver.header, "worker")

    def finish(self, step: Step | None, local_order: int = 1, heartbeat: bool = False) -> Step | None:
        """Runs local activities until the task in hand has an answer."""
        while isinstance(step, LocalActivityWork):
            for activity in step.start:
                self.running[activity.seq] = activity
            for seq in step.cancel:
                activity = self.running.pop(seq)
                step = self._resolve(seq, LocalActivityOutcome(is_canceled=True))
                break
            else:
                if heartbeat:
                    return self.run.heartbeat()
                seq = sorted(self.running)[::local_order][0]
                activity = self.running.pop(seq)
                step = self._resolve(seq, outcome_of(activity))
        return step

    def _resolve(self, seq: int, outcome: LocalActivityOutcome) -> Step | None:
        self._resolved.append((seq, outcome))
        return self.run.local_activity_resolved(seq, outcome)

    def respond(self, step: TaskCompletion, whole: list[HistoryEvent], started: int) -> None:
        """Completes the task on the server."""
        commands = [serialize(command) for command in step.commands]
        is_heartbeat, messages = step.force_create_new_workflow_task, self.driver.messages
        resolved, self._resolved = self._resolved, []
        handed = Handed(whole, self.previous, started, commands, is_heartbeat, messages, resolved)
        done = self.driver.respond(
            *step.commands,
            messages=step.messages,
            force_create_new_workflow_task=step.force_create_new_workflow_task,
            sdk_metadata=step.sdk_metadata,
        )
        if done.reset_event_id:
            self.run.reset_to(done.reset_event_id)
            return
        self.previous = started
        self.handed.append(handed)

    def do_activity(self, scheduled_event_id: int, succeeds: bool = True) -> None:
        """An activity worker runs an attempt."""
        self.driver.start_activity(scheduled_event_id)
        if succeeds:
            self.driver.complete_activity(scheduled_event_id)
        else:
            self.driver.fail_activity(scheduled_event_id, application_failure(non_retryable=True))


def serialize(command: Command) -> bytes:
    """A command's bytes, the same for the same command."""
    return command.SerializeToString(deterministic=True)
