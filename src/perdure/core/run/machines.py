"""The state machines inside a run, as tables: which state follows which input.

The primitives are code; these tables say what that code may do. Tests hold every call of an input against them and
demand that each row is seen, and the diagrams in docs/state-machines.md are drawn from them, so neither can lie.
An input is a function of this package, `module.function`. Nothing here runs in production.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.api.enums.v1 import EventType, WorkflowExecutionStatus
from perdure.core.run.state import RunHeader
from perdure.core.run.transition import Transition

Edge = tuple[str, str, str]
"""A state, an input and the state that follows."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One state machine.

    Attributes:
        name: what it is the machine of.
        about: a sentence or two for the documentation.
        states: every state with what it means, the initial one first.
        edges: every change of state that may happen.
    """

    name: str
    about: str
    states: dict[str, str]
    edges: frozenset[Edge]

    @property
    def initial(self) -> str:
        """The state before the first input."""
        return next(iter(self.states))

    @property
    def final(self) -> list[str]:
        """States that nothing leads out of."""
        return [name for name in self.states if all(edge[0] != name for edge in self.edges)]


def _edges(*rows: tuple[str, str, str]) -> frozenset[Edge]:
    """Rows of `states input states`; several states or inputs in one cell are separated by spaces."""
    return frozenset(
        (before, name, after)
        for befores, names, afters in rows
        for before in befores.split()
        for name in names.split()
        for after in afters.split()
    )


def _outcome(
    tx: Transition,
    event_id: int,
    named: dict[int, tuple[str, str]],
    field: str = "initiated_event_id",
) -> str:
    """The state that an event of this transition says something begun before has come to."""
    if not tx.header.is_open:
        return "dropped"
    for event in (*tx.buffered, *tx.events):
        if event.event_type in named:
            state, attributes = named[event.event_type]
            if getattr(getattr(event, attributes), field) == event_id:
                return state
    return "none"


# --- the run ---

RUN = Machine(
    "run",
    "A run is started once and closes once; what closes it decides its status. A run that completed, failed or timed "
    "out may be followed by another one (cron, retry); one that continued as new always is.",
    {
        "none": "not started",
        "running": "open",
        "completed": "its code returned",
        "failed": "its code raised",
        "canceled": "its code ended because it was asked to",
        "terminated": "closed from outside, or by the server for a payload that is too large",
        "timed_out": "its run or execution timeout is over",
        "continued_as_new": "its code goes on in the next run of the chain",
        "paused": "open, and nothing of it is handed to workers",
    },
    _edges(
        ("none", "lifecycle.start reset.begin", "running"),
        ("running", "lifecycle.complete", "completed"),
        ("running", "lifecycle.fail", "failed"),
        ("running", "lifecycle.cancel", "canceled"),
        ("running paused", "lifecycle.terminate", "terminated"),
        ("running paused", "lifecycle.time_out", "timed_out"),
        ("running", "lifecycle.continue_as_new", "continued_as_new"),
        ("running", "pause.pause", "paused"),
        ("paused", "pause.unpause", "running"),
    ),
)


def run_state(tx: Transition) -> str:
    """The run's state in this transition."""
    if not tx.state.version and not tx.events:
        return "none"
    if tx.header.paused_ns:
        return "paused"
    name = WorkflowExecutionStatus.Name(tx.header.status)  # type: ignore[arg-type]  # enum numbers are plain ints
    return name.removeprefix("WORKFLOW_EXECUTION_STATUS_").lower()


# --- its workflow task ---

WORKFLOW_TASK = Machine(
    "workflow task",
    "At most one workflow task is pending. While one is started, what happens to the run waits in the buffer. A task "
    "after a failure is transient: it has no events until it completes; if anything was written to the history "
    "meanwhile it becomes a normal first attempt. A task that only brings updates is speculative: it has no "
    "events either, and is not stored; whatever is written meanwhile makes it a normal one. It may come "
    "while the first one is held back.",
    {
        "idle": "none is pending; nothing has happened that one must look at",
        "held_back": "the first one waits for the end of the start delay",
        "waiting": "scheduled on the normal queue",
        "waiting_sticky": "scheduled on a worker's own queue, for a limited time",
        "waiting_rerouted": "scheduled on a worker's own queue that nobody polls; waits on the normal one",
        "waiting_transient": "scheduled again after a failure, without events",
        "started": "a worker has it",
        "started_transient": "a worker has it, without events",
        "waiting_speculative": "scheduled for updates, in memory only, for a limited time",
        "started_speculative": "a worker has it, in memory only",
        "failing": "none is pending within the transition; the next one is transient",
        "closed": "the run is closed",
    },
    _edges(
        ("idle", "lifecycle.start", "held_back"),
        ("held_back", "cancellation.request", "idle"),
        ("held_back", "workflow_task.release_first_task", "waiting"),
        ("idle", "workflow_task.schedule", "waiting waiting_sticky"),
        ("failing", "workflow_task.schedule", "waiting_transient waiting idle"),
        ("waiting_sticky", "workflow_task.reroute_to_normal_queue", "waiting_rerouted"),
        ("waiting waiting_sticky waiting_rerouted", "workflow_task.start", "started"),
        ("waiting_transient", "workflow_task.start", "started_transient started"),
        ("started started_transient", "workflow_task.complete", "idle"),
        ("started", "workflow_task.fail workflow_task.time_out", "failing idle"),
        ("started_transient", "workflow_task.fail workflow_task.time_out", "failing"),
        ("waiting waiting_sticky waiting_rerouted", "workflow_task.time_out", "idle"),
        ("idle held_back", "workflow_task.schedule_speculative", "waiting_speculative"),
        (
            "waiting_speculative",
            "signal.receive cancellation.request",
            "waiting waiting_sticky waiting_rerouted",
        ),
        (
            "waiting waiting_sticky waiting_rerouted waiting_transient waiting_speculative",
            "pause.pause",
            "idle",
        ),
        ("started_speculative", "pause.pause", "started"),
        ("waiting_speculative", "workflow_task.start", "started_speculative"),
        ("waiting_speculative", "workflow_task.time_out", "idle"),
        ("waiting_speculative", "workflow_task.drop_unseen", "idle held_back"),
        ("started_speculative", "signal.receive cancellation.request", "started"),
        ("started_speculative", "workflow_task.complete", "idle"),
        ("started_speculative", "workflow_task.discard", "idle held_back"),
        ("started_speculative", "workflow_task.fail workflow_task.time_out", "failing idle"),
        (
            "idle held_back waiting waiting_sticky waiting_rerouted waiting_transient failing",
            "lifecycle._close",
            "closed",
        ),
    ),
)


def workflow_task_state(header: RunHeader) -> str:
    """The state of a run's workflow task."""
    if not header.is_open:
        return "closed"
    if not header.has_pending_task:
        if header.first_task_at_ns:
            return "held_back"
        return "failing" if header.is_task_transient else "idle"
    transient = "_transient" if header.is_task_transient else ""
    if header.task_is_speculative:
        return "started_speculative" if header.has_started_task else "waiting_speculative"
    if header.has_started_task:
        return f"started{transient}"
    if header.task_on_sticky_queue:
        return "waiting_rerouted" if header.task_rerouted else "waiting_sticky"
    return f"waiting{transient}"


# --- an activity ---

ACTIVITY = Machine(
    "activity",
    "An attempt leaves no event; the Started event is written together with the event that closes the activity. "
    "`activity.fire` is the passing of time: the end of a backoff, or one of the four timeouts. An activity of a run "
    "that was reset waits anew, and is cancelled if that was asked for in the copied history.",
    {
        "none": "not scheduled",
        "waiting": "an attempt waits for a worker",
        "started": "a worker has it",
        "cancel_requested": "a worker has it and is told at its next heartbeat",
        "backing_off": "an attempt failed, the next one is not due yet",
        "paused": "no worker has it, and none gets it",
        "pause_requested": "a worker has it and is told at its next heartbeat; no further attempt follows",
        "completed": "closed: a result",
        "failed": "closed: a failure that is not retried",
        "timed_out": "closed: a timeout that is not retried",
        "canceled": "closed: cancelled before a worker had it, or confirmed by the worker",
        "dropped": "its run closed first",
    },
    _edges(
        ("none", "activity.schedule", "waiting"),
        ("waiting backing_off", "activity.start", "started"),
        ("started cancel_requested", "activity.complete", "completed"),
        ("started", "activity.fail", "backing_off waiting failed"),
        ("cancel_requested", "activity.fail", "failed"),
        ("waiting backing_off", "activity.request_cancel", "canceled"),
        ("started", "activity.request_cancel", "cancel_requested"),
        ("cancel_requested waiting", "activity.cancel", "canceled"),
        # Of an attempt that an operator or its worker put off beyond the activity's end.
        ("backing_off", "activity.fire", "waiting timed_out"),
        ("started", "activity.fire", "backing_off timed_out"),
        ("waiting cancel_requested", "activity.fire", "timed_out"),
        ("waiting backing_off", "activity_control.pause", "paused"),
        ("started", "activity_control.pause", "pause_requested"),
        ("paused", "activity_control.unpause activity_control.reset", "waiting backing_off"),
        ("pause_requested", "activity_control.unpause activity_control.reset", "started"),
        ("backing_off", "activity_control.reset activity_control.apply_options", "waiting"),
        ("waiting", "activity_control.reset activity_control.apply_options", "backing_off"),
        ("paused", "activity.start", "pause_requested"),
        ("pause_requested", "activity.complete", "completed"),
        ("pause_requested", "activity.fail", "paused failed"),
        ("paused", "activity.request_cancel", "canceled"),
        ("pause_requested", "activity.request_cancel", "cancel_requested"),
        (
            "waiting started cancel_requested backing_off paused pause_requested",
            "lifecycle._close",
            "dropped",
        ),
    ),
)
_ACTIVITY_ENDS: dict[int, tuple[str, str]] = {
    EventType.Value(f"EVENT_TYPE_ACTIVITY_TASK_{name.upper()}"): (
        name,
        f"activity_task_{name}_event_attributes",
    )
    for name in ("completed", "failed", "timed_out", "canceled")
}


def activity_state(tx: Transition, scheduled_event_id: int) -> str:
    """The state of an activity that is pending, or was closed in this transition."""
    pending = tx.activities.get(scheduled_event_id)
    if pending is not None:
        if not pending.started_ns:
            if pending.paused_ns:
                return "paused"
            return "backing_off" if pending.backing_off else "waiting"
        if pending.cancel_requested_event_id:
            return "cancel_requested"
        return "pause_requested" if pending.paused_ns else "started"
    return _outcome(tx, scheduled_event_id, _ACTIVITY_ENDS, "scheduled_event_id")


# --- a timer ---

TIMER = Machine(
    "timer",
    "A timer that fired while a workflow task was started can still be cancelled by that task: its TimerFired event "
    "waits in the buffer and is taken back.",
    {
        "none": "not started",
        "running": "its time has not come",
        "fired": "its time came; TimerFired is written, or waits in the buffer",
        "canceled": "cancelled by the workflow",
        "dropped": "its run closed first",
    },
    _edges(
        ("none", "timer.start", "running"),
        ("running", "timer.fire", "fired"),
        ("running fired", "timer.cancel", "canceled"),
        ("running", "lifecycle._close", "dropped"),
    ),
)
_TIMER_ENDS: dict[int, tuple[str, str]] = {
    EventType.Value(f"EVENT_TYPE_TIMER_{name.upper()}"): (name, f"timer_{name}_event_attributes")
    for name in ("fired", "canceled")
}


def timer_state(tx: Transition, started_event_id: int) -> str:
    """The state of a timer that is pending, fired and waiting to be written, or ended in this transition."""
    if any(timer.started_event_id == started_event_id for timer in tx.timers):
        return "running"
    return _outcome(tx, started_event_id, _TIMER_ENDS, "started_event_id")


# --- a child, on its parent's side ---

CHILD = Machine(
    "child",
    "A child is a run of its own; this is what its parent knows of it. Its start and its end are written on both "
    "sides in one commit. A parent that closes keeps the children it has yet to end.",
    {
        "none": "not asked for",
        "initiated": "its run is about to be made",
        "not_started": "its workflow id is in use, or may not be used again",
        "started": "it runs, perhaps in a later run of its chain",
        "ended": "it completed, failed, was cancelled or terminated, or timed out",
        "to_be_ended": "its parent closed first, and its close policy has yet to be applied",
        "dropped": "its parent closed before it was started, or abandoned it, or has ended it",
    },
    _edges(
        ("none", "child.initiate", "initiated"),
        ("initiated", "child.started", "started"),
        ("initiated", "child.start_failed", "not_started"),
        ("started", "child.ended", "ended"),
        ("started", "lifecycle._close", "to_be_ended dropped"),
        ("initiated", "lifecycle._close", "dropped"),
        ("to_be_ended", "child.forget", "dropped"),
    ),
)
_CHILD_EVENTS: dict[int, tuple[str, str]] = {
    EventType.Value("EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED"): (
        "not_started",
        "start_child_workflow_execution_failed_event_attributes",
    ),
    **{
        EventType.Value(f"EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_{end}"): (
            "ended",
            f"child_workflow_execution_{end.lower()}_event_attributes",
        )
        for end in ("COMPLETED", "FAILED", "CANCELED", "TIMED_OUT", "TERMINATED")
    },
}


def child_state(tx: Transition, initiated_event_id: int) -> str:
    """The state of a child that is pending, or ended for its parent in this transition."""
    pending = tx.children.get(initiated_event_id)
    if pending is not None:
        if not tx.header.is_open:
            return "to_be_ended"
        return "started" if pending.run_id else "initiated"
    return _outcome(tx, initiated_event_id, _CHILD_EVENTS)


# --- a signal or request to cancel, on the sender's side ---

EXTERNAL = Machine(
    "external",
    "A signal or request to cancel that a workflow sends to another one. What it does there and what came of it "
    "here are one commit.",
    {
        "none": "not asked for",
        "initiated": "it is on its way",
        "done": "the other workflow has it",
        "failed": "there is no such workflow, or it takes no more",
        "dropped": "the sender closed first",
    },
    _edges(
        ("none", "external.initiate_signal external.initiate_cancel", "initiated"),
        ("initiated", "external.settled", "done failed"),
        ("initiated", "lifecycle._close", "dropped"),
    ),
)
_EXTERNAL_EVENTS: dict[int, tuple[str, str]] = {
    EventType.Value(f"EVENT_TYPE_{name}"): (state, f"{name.lower()}_event_attributes")
    for name, state in (
        ("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", "done"),
        ("EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED", "done"),
        ("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED", "failed"),
        ("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED", "failed"),
    )
}


def external_state(tx: Transition, initiated_event_id: int) -> str:
    """The state of a signal or request to cancel that is pending, or was settled in this transition."""
    if initiated_event_id in tx.externals:
        return "initiated"
    return _outcome(tx, initiated_event_id, _EXTERNAL_EVENTS)


# --- a Nexus operation, on its caller's side ---

NEXUS_OPERATION = Machine(
    "nexus operation",
    "What its caller knows of an operation: requests to the handler run beside the run, and each answer is one input. "
    "A cancellation that is asked for before the operation runs waits for that; its answer ends nothing, only "
    "the operation's own end does.",
    {
        "none": "not asked for",
        "scheduled": "its handler is to be asked to start it",
        "tried": "an attempt failed, and the next one follows after a pause",
        "started": "it runs, and its end comes as a completion",
        "cancel_waits": "it is to be cancelled as soon as it runs",
        "canceling": "it runs, and its handler is to be asked to cancel it",
        "cancel_settled": "it runs, and its handler was asked to cancel it, or refused for good",
        "ended": "it completed, failed, was cancelled or timed out",
        "dropped": "its caller closed first",
    },
    _edges(
        ("none", "nexus_operation.schedule", "scheduled"),
        ("scheduled", "nexus_operation.start_answered", "tried"),
        ("scheduled tried", "nexus_operation.start_answered", "started ended"),
        ("scheduled tried", "nexus_operation.request_cancel", "cancel_waits"),
        ("cancel_waits", "nexus_operation.start_answered", "canceling ended"),
        ("started", "nexus_operation.request_cancel", "canceling"),
        ("canceling", "nexus_operation.cancel_answered", "cancel_settled"),
        (
            "scheduled tried started cancel_waits canceling cancel_settled",
            "nexus_operation.complete nexus_operation.fire",
            "ended",
        ),
        ("scheduled tried started cancel_waits canceling cancel_settled", "lifecycle._close", "dropped"),
    ),
)
_OPERATION_EVENTS: dict[int, tuple[str, str]] = {
    EventType.Value(f"EVENT_TYPE_NEXUS_OPERATION_{end}"): (
        "ended",
        f"nexus_operation_{end.lower()}_event_attributes",
    )
    for end in ("COMPLETED", "FAILED", "CANCELED", "TIMED_OUT")
}


def nexus_operation_state(tx: Transition, scheduled_event_id: int) -> str:
    """The state of an operation that is pending, or ended for its caller in this transition."""
    pending = tx.nexus_operations.get(scheduled_event_id)
    if pending is None:
        return _outcome(tx, scheduled_event_id, _OPERATION_EVENTS, "scheduled_event_id")
    if not tx.header.is_open:
        return "dropped"
    if not pending.started_ns:
        waits = "tried" if pending.attempt else "scheduled"
        return "cancel_waits" if pending.cancel_requested_event_id else waits
    if not pending.cancel_requested_event_id:
        return "started"
    return "cancel_settled" if pending.cancel_state else "canceling"


MACHINES = (RUN, WORKFLOW_TASK, ACTIVITY, TIMER, CHILD, EXTERNAL, NEXUS_OPERATION)
