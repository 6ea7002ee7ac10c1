"""Drives one run through the core as the engine does, with a model of the store, and checks every invariant each time.

Lives here: what a client, a worker and the passing of time do to a run, as short calls. May not: expectations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.api.history.v1 import History, HistoryEvent
from perdure.api.protocol.v1 import Message
from perdure.api.update.v1 import Input, Meta, Request
from perdure.api.workflowservice.v1 import (
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskFailedRequest,
    StartWorkflowExecutionRequest,
)
from perdure.core.run import (
    activity,
    cancellation,
    completion,
    deadlines,
    invariants,
    lifecycle,
    listing,
    pause,
    signal,
    workflow_task,
)
from perdure.core.run.activity import ActivityToken
from perdure.core.run.completion import Completion, TaskToken
from perdure.core.run.items import decode_run
from perdure.core.run.limits import SECOND_NS, Limits
from perdure.core.run.records import RunKey, RunWrite, Task, TaskKey, TaskKind
from perdure.core.run.state import Activity, RunHeader, RunState
from perdure.core.run.transition import Transition
from perdure.core.run.update import UpdateRegistry, WaitingUpdate
from perdure.core.visibility.attributes import AttributeType
from tests.support.builders import payloads, queue, sticky
from tests.support.proto import command, common, enums, failure

RUN = RunKey("namespace-id", "workflow", "run-1")
QUEUE = "queue"
STICKY = "sticky-queue"
START_NS = 1_700_000_000_000_000_000
CUSTOM = {
    "Kw": AttributeType.KEYWORD,
    "Num": AttributeType.INT,
    "Dbl": AttributeType.DOUBLE,
    "Flag": AttributeType.BOOL,
    "When": AttributeType.DATETIME,
    "List": AttributeType.KEYWORD_LIST,
    "Txt": AttributeType.TEXT,
}


NOWHERE = "nowhere"
"""The name of a Nexus endpoint that is not registered; every other one is."""


class Driver:
    """One run and the store's rows of it.

    Attributes:
        state: the committed state.
        now_ns: the time; nothing moves it but `sleep` and `wake`.
        history: every event written.
        tasks: the task rows.
        write: what the last commit wrote.
        updates: the updates that wait for the workflow's word.
        messages: what the last started workflow task brought of them.
        following: the next run of the chain, once this one has closed.
    """

    def __init__(self, limits: Limits | None = None, run: RunKey = RUN, now_ns: int = START_NS) -> None:
        self.limits = limits or Limits()
        self.state = RunState(run, 0, RunHeader())
        self.now_ns = now_ns
        self.following: Driver | None = None
        self.history: list[HistoryEvent] = []
        self.tasks: dict[TaskKey, Task] = {}
        self.items: dict[tuple[str, str], bytes] = {}
        self.write: RunWrite | None = None
        self.updates = UpdateRegistry()
        self.messages: tuple[Message, ...] = ()

    # --- transitions ---

    def transition(self) -> Transition:
        """A new transition of the committed state."""
        return Transition(self.state, self.now_ns)

    def commit(self, tx: Transition) -> RunWrite:
        """Completes, checks, stores and absorbs a transition; reloads the state and checks that it is the same."""
        if tx.header.task_is_speculative:
            tx.write_speculative_task()
        completion.overflow_buffer(tx, self.limits)
        completion.end_oversized_run(tx, self.limits)
        workflow_task.schedule_if_needed(tx)
        visibility = listing.record(tx, CUSTOM) if tx.visibility_changed else None
        write = tx.finish(deadlines.next_wakeup_ns(tx), visibility)
        invariants.check_transition(tx, write)
        self._store(write)
        tx.absorb()
        if tx.successor is not None:
            self.following = Driver(self.limits, tx.successor.state.run, self.now_ns)
            self.following.state = tx.successor.state
            self.following.commit(tx.successor)
        reloaded = decode_run(
            self.state.run,
            self.state.version,
            write.header,
            [(kind, key, data) for (kind, key), data in self.items.items()],
            write.wakeup_ns,
        )
        assert reloaded == self.state
        self.check()
        return write

    def keep(self, tx: Transition) -> None:
        """Keeps a transition that writes nothing, and checks what it leads to."""
        version = self.state.version
        tx.keep(deadlines.next_wakeup_ns(tx))
        assert self.state.version == version
        self.check()

    def lose_memory(self) -> None:
        """The server forgets the run and loads what is stored: nothing waits any more, no task is speculative."""
        assert self.write is not None
        items = [(kind, key, data) for (kind, key), data in self.items.items()]
        state = self.state
        self.state = decode_run(state.run, state.version, self.write.header, items, self.write.wakeup_ns)
        self.updates = UpdateRegistry()
        self.check()

    def _store(self, write: RunWrite) -> None:
        self.write = write
        for batch in write.events:
            self.history += History.FromString(batch.data).events
        for change in write.items:
            if change.data is None:
                self.items.pop((change.kind, change.key), None)
            else:
                self.items[(change.kind, change.key)] = change.data
        for key in write.tasks_deleted:
            del self.tasks[key]
        for task in write.tasks_put:
            self.tasks[task.key] = task

    def check(self) -> None:
        """Checks the committed state against the whole history and the task rows."""
        invariants.check_state(self.state)
        invariants.check_history(self.state, self.history)
        invariants.check_tasks(self.state, self.tasks.values())

    def apply(self, change: Callable[[Transition], object]) -> RunWrite:
        """Commits a transition in which `change` happens."""
        tx = self.transition()
        change(tx)
        return self.commit(tx)

    @property
    def header(self) -> RunHeader:
        """The committed header."""
        return self.state.header

    def types(self, since: int = 0) -> list[str]:
        """Short names of the events after event id `since`, such as WORKFLOW_TASK_STARTED."""
        return [name_of(event) for event in self.history[since:]]

    def last(self, name: str) -> HistoryEvent:
        """The newest event of a type, by its short name."""
        return next(event for event in reversed(self.history) if name_of(event) == name)

    # --- clients ---

    def start(self, *, eager: bool = False, **fields: Any) -> Driver:
        """Starts the run; fields of StartWorkflowExecutionRequest may be given."""
        request = StartWorkflowExecutionRequest(
            workflow_id=RUN.workflow_id,
            workflow_type=common.WorkflowType(name="type"),
            task_queue=queue(QUEUE),
            request_id="start-request",
            identity="client",
        )
        request.workflow_task_timeout.FromSeconds(10)
        request.MergeFrom(StartWorkflowExecutionRequest(**fields))
        context = lifecycle.StartContext("namespace", 3600 * SECOND_NS, eager)
        self.apply(lambda tx: lifecycle.start(tx, request, context))
        return self

    def update(self, update_id: str = "u") -> WaitingUpdate | None:
        """Sends an update; if no workflow task is on its way, a speculative one is made for it."""
        request = Request(meta=Meta(update_id=update_id), input=Input(name="set"))
        waiting = self.updates.admit(self.state, request, self.limits)
        self.bring_updates()
        return waiting

    def bring_updates(self) -> None:
        """Makes the speculative workflow task that waiting updates call for."""
        header = self.header
        if not header.is_open:
            self.updates.waiting.clear()
        if self.updates.waiting and not header.has_pending_task and not header.paused_ns:
            tx = self.transition()
            workflow_task.schedule_speculative(tx, self.limits)
            self.keep(tx)

    def signal(self, name: str = "signal", request_id: str = "", **fields: Any) -> RunWrite:
        """Signals the run."""
        values: dict[str, Any] = {"input": None, "identity": "client", "header": None, "links": ()}
        values |= {"name": name, "request_id": request_id, "limits": self.limits} | fields
        return self.apply(lambda tx: signal.receive(tx, **values))

    def pause(self, request_id: str = "q") -> None:
        """Pauses the run."""
        self.apply(lambda tx: pause.pause(tx, identity="client", reason="why", request_id=request_id))

    def unpause(self) -> None:
        """Lets the run go on."""
        self.apply(lambda tx: pause.unpause(tx, identity="client", reason="", request_id=""))

    def cancel(self) -> RunWrite:
        """Asks the run to cancel."""
        return self.apply(
            lambda tx: cancellation.request(tx, reason="why", identity="client", request_id="", links=())
        )

    def terminate(self) -> RunWrite:
        """Terminates the run."""
        return self.apply(
            lambda tx: lifecycle.terminate(tx, reason="why", details=payloads("d"), identity="client")
        )

    # --- the worker's workflow tasks ---

    def poll(self, request_id: str = "poll", identity: str = "worker") -> TaskToken:
        """Starts the waiting workflow task."""
        tx = self.transition()
        waiting = len(self.updates.waiting)
        workflow_task.start(tx, request_id, identity, self.limits, updates_waiting=waiting)
        if tx.is_in_memory:
            self.keep(tx)
        else:
            self.commit(tx)
        self.messages = self.updates.send(self.header.task_started_event_id, again=True)
        return self.token()

    def token(self) -> TaskToken:
        """The token of the started workflow task."""
        header = self.header
        return TaskToken(
            header.task_scheduled_event_id,
            header.task_started_event_id,
            header.task_started_ns,
            header.task_attempt,
        )

    def respond(
        self, *commands: command.Command, token: TaskToken | None = None, **fields: Any
    ) -> Completion:
        """Completes the started workflow task with commands and commits; returns what it led to."""
        request = RespondWorkflowTaskCompletedRequest(identity="worker", commands=commands, **fields)
        done = completion.respond_completed(
            self.state,
            self.now_ns,
            token or self.token(),
            request,
            self.limits,
            CUSTOM,
            self.updates,
            lambda name: f"id of {name}" if name != NOWHERE else "",
        )
        if done.tx.is_in_memory:
            self.keep(done.tx)
        else:
            self.commit(done.tx)
        if done.task_failed:
            self.updates.fail_sent()
        if done.updates is not None:
            self.updates.settle(done.updates)
        self.bring_updates()
        return done

    def complete(self, *commands: command.Command, sticky_on: str = "", **fields: Any) -> Completion:
        """Starts the waiting workflow task and completes it; `sticky_on` asks for stickiness."""
        self.poll()
        if sticky_on:
            fields["sticky_attributes"] = sticky(sticky_on, QUEUE)
        return self.respond(*commands, **fields)

    def fail_task(self, cause: int = 0, token: TaskToken | None = None) -> None:
        """Fails the started workflow task."""
        request = RespondWorkflowTaskFailedRequest(
            identity="worker", cause=enums.WorkflowTaskFailedCause.ValueType(cause)
        )
        request.failure.message = "bad code"
        self.commit(completion.respond_failed(self.state, self.now_ns, token or self.token(), request))

    # --- the worker's activities ---

    def start_activity(self, scheduled_event_id: int) -> ActivityToken:
        """Starts the waiting attempt of an activity."""
        self.apply(lambda tx: activity.start(tx, scheduled_event_id, "poll", "worker"))
        return self.activity_token(scheduled_event_id)

    def activity_token(self, scheduled_event_id: int) -> ActivityToken:
        """The token of an activity's started attempt."""
        pending = self.state.activities[scheduled_event_id]
        return ActivityToken(scheduled_event_id, pending.activity_id, pending.attempt, pending.started_ns)

    def answer(self, scheduled_event_id: int, change: Callable[[Transition, Activity], object]) -> RunWrite:
        """Commits what a worker that holds an activity says."""
        token = self.activity_token(scheduled_event_id)
        return self.apply(lambda tx: change(tx, activity.current(tx, token)))

    def complete_activity(self, scheduled_event_id: int) -> RunWrite:
        """An activity succeeds."""
        return self.answer(
            scheduled_event_id, lambda tx, a: activity.complete(tx, a, payloads("result"), "worker")
        )

    def fail_activity(self, scheduled_event_id: int, cause: failure.Failure) -> RunWrite:
        """An activity's attempt fails."""
        return self.answer(
            scheduled_event_id, lambda tx, a: activity.fail(tx, a, cause, "worker", self.limits)
        )

    def heartbeat(self, scheduled_event_id: int, *details: str) -> RunWrite:
        """An activity says that it is alive."""
        return self.answer(
            scheduled_event_id,
            lambda tx, a: activity.heartbeat(tx, a, payloads(*details) if details else None),
        )

    def cancel_activity(self, scheduled_event_id: int) -> RunWrite:
        """An activity confirms its cancellation."""
        return self.answer(
            scheduled_event_id, lambda tx, a: activity.cancel(tx, a, payloads("details"), "worker")
        )

    # --- time ---

    def sleep(self, seconds: float) -> None:
        """Lets time pass; nothing is woken."""
        self.now_ns += round(seconds * SECOND_NS)

    def fire(self) -> RunWrite:
        """Wakes the run now, as the engine does: nothing is written if nothing is due."""
        tx = self.transition()
        deadlines.fire(tx, self.limits)
        if tx.is_untouched and deadlines.next_wakeup_ns(tx) == self.state.wakeup_ns:
            assert self.write is not None
            return self.write
        return self.commit(tx)

    def wake(self, late_s: float = 0) -> RunWrite:
        """Lets time pass to the run's next wake-up (and a little longer) and wakes it."""
        assert self.state.wakeup_ns is not None
        self.now_ns = max(self.now_ns, self.state.wakeup_ns + round(late_s * SECOND_NS))
        return self.fire()

    # --- reading ---

    def waiting_activities(self) -> list[int]:
        """Scheduled event ids of the activities that wait for a worker."""
        return [key.scheduled_event_id for key in self.tasks if key.kind is TaskKind.ACTIVITY]

    def waiting_workflow_task(self) -> Task | None:
        """The workflow task that waits for a worker."""
        if self.header.task_is_speculative:
            return self.transition().waiting_workflow_task(self.header)
        return next((task for key, task in self.tasks.items() if key.kind is TaskKind.WORKFLOW), None)


def name_of(event: HistoryEvent) -> str:
    """An event type's name without prefix."""
    return enums.EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")


def begun(limits: Limits | None = None, *, eager: bool = False, **fields: Any) -> Driver:
    """A run that was just started: its first workflow task waits (unless delayed)."""
    return Driver(limits).start(eager=eager, **fields)


def with_commands(*commands: command.Command, limits: Limits | None = None, **fields: Any) -> Driver:
    """A run whose first workflow task was completed with these commands; event 5 is the first command's."""
    driver = begun(limits, **fields)
    driver.complete(*commands)
    return driver
