"""What must always hold of a standalone activity: named rules about one state, and about one transition.

Pure; they share no code with what they watch. Tests and the simulator check them after every transition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from perdure.core.activity.state import ActivityHeader, ActivityRun
from perdure.core.deployment.routes import queue_name
from perdure.core.errors import InvariantViolation
from perdure.core.run.records import RunWrite, Task

_OPEN = 1
_CLOSED = frozenset((2, 3, 4, 5, 7))
"""Completed, failed, canceled, terminated, timed out; numbers of WorkflowExecutionStatus."""


def check(state: ActivityRun, tasks: Sequence[Task], before: ActivityRun | None = None) -> None:
    """Checks one committed state, and what led to it.

    Args:
        state: as committed.
        tasks: its task rows.
        before: the state before; None for the first.

    Raises:
        InvariantViolation: a rule does not hold; the message names all that do not.
    """
    broken = [*_about_state(state), *_about_tasks(state, tasks)]
    if before is not None:
        broken += _about_transition(before, state)
    if broken:
        raise InvariantViolation(f"activity {state.run}: {'; '.join(broken)}")


def check_write(write: RunWrite) -> None:
    """Checks the shape of a write: an execution has no history.

    Raises:
        InvariantViolation: it has.
    """
    if write.events or len(write.tasks_put) > 1:
        raise InvariantViolation(f"activity {write.run}: events, or more than one task")


_STATE_RULES: dict[str, Callable[[ActivityRun, ActivityHeader], bool]] = {
    "its status is one that activities have": lambda state, h: h.status == _OPEN or h.status in _CLOSED,
    "it has an outcome exactly when it is closed": lambda state, h: (
        (state.outcome is not None) == (h.status != _OPEN)
    ),
    "it has a close time exactly when it is closed": lambda state, h: (h.close_ns > 0) == (h.status != _OPEN),
    "a completed one has a result, any other end a failure": lambda state, h: (
        state.outcome is None
        or state.outcome.WhichOneof("value") == ("result" if h.status == 2 else "failure")
    ),
    "attempts count from 1": lambda state, h: h.attempt.attempt >= 1,
    "no attempt beyond those that its policy allows": lambda state, h: (
        not h.attempt.maximum_attempts
        or h.attempt.attempt <= h.attempt.maximum_attempts
        or bool(h.options_request_id)
    ),
    "an attempt that is with a worker does not back off": lambda state, h: (
        not (h.attempt.started_ns and h.attempt.backing_off)
    ),
    "only what a worker has waits for the end of a reset": lambda state, h: (
        h.status != _OPEN or not h.attempt.is_reset or h.attempt.started_ns > 0
    ),
    "only a requested cancellation cancels": lambda state, h: h.status != 4 or h.cancel_ns > 0,
    "what no worker has is canceled at once": lambda state, h: (
        h.status != _OPEN or not h.cancel_ns or h.attempt.started_ns > 0
    ),
    "an open one always has something ahead or waits for a worker": lambda state, h: (
        h.status != _OPEN
        or state.wakeup_ns is not None
        or h.attempt.started_ns > 0
        or h.attempt.paused_ns > 0
        or not h.attempt.backing_off
    ),
    "a closed one is looked at when its retention ends": lambda state, h: (
        h.status == _OPEN or state.wakeup_ns == h.close_ns + h.retention_ns
    ),
}


def _about_state(state: ActivityRun) -> Iterator[str]:
    for name, holds in _STATE_RULES.items():
        if not holds(state, state.header):
            yield name


def _about_tasks(state: ActivityRun, tasks: Sequence[Task]) -> Iterator[str]:
    header = state.header
    attempt = header.attempt
    waits = header.status == _OPEN and not (attempt.started_ns or attempt.backing_off or attempt.paused_ns)
    if len(tasks) != int(waits):
        yield f"a task row exists exactly while an attempt is due and waits ({len(tasks)})"
    for task in tasks:
        queue = queue_name(attempt.task_queue, attempt.version)
        if task.delivery_id != str(attempt.stamp) or task.queue.name != queue:
            yield "its task is of the current attempt"


def _about_transition(before: ActivityRun, after: ActivityRun) -> Iterator[str]:
    old, new = before.header, after.header
    if after.version != before.version + 1:
        yield "versions count up"
    if old.status != _OPEN and (new.status != old.status or after.outcome != before.outcome):
        yield "an outcome never changes"
    if new.heartbeat_count < old.heartbeat_count or new.first_started_ns < old.first_started_ns:
        yield "what happened stays"
    if after.request != before.request:
        yield "the request never changes"
    is_next = new.attempt.attempt == old.attempt.attempt + 1
    if is_next and not old.attempt.started_ns:
        yield "the next attempt follows one that a worker had"
    if new.attempt.attempt > old.attempt.attempt + 1:
        yield "attempts count up one by one"
    if new.attempt.stamp < old.attempt.stamp:
        yield "dispatches count up"
