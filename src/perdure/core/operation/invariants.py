"""What must always hold of a standalone Nexus operation: named rules about one state, and about one transition.

Pure; they share no code with what they watch. Tests and the simulator check them after every transition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perdure.core.errors import InvariantViolation
from perdure.core.operation.state import OperationHeader, OperationRun
from perdure.core.run.records import RunWrite

_OPEN = 1
_CLOSED = frozenset((2, 3, 4, 5, 7))
"""Completed, failed, canceled, terminated, timed out; numbers of WorkflowExecutionStatus."""


def check(state: OperationRun, before: OperationRun | None = None) -> None:
    """Checks one committed state, and what led to it.

    Args:
        state: as committed.
        before: the state before; None for the first.

    Raises:
        InvariantViolation: a rule does not hold; the message names all that do not.
    """
    broken = list(_about_state(state))
    if before is not None:
        broken += _about_transition(before, state)
    if broken:
        raise InvariantViolation(f"operation {state.run}: {'; '.join(broken)}")


def check_write(write: RunWrite) -> None:
    """Checks the shape of a write: an execution has no history and no task.

    Raises:
        InvariantViolation: it has.
    """
    if write.events or write.tasks_put or write.tasks_deleted:
        raise InvariantViolation(f"operation {write.run}: events or tasks")


def _earliest(header: OperationHeader) -> int:
    """The first moment at which an open execution has anything to do; 0: never."""
    operation = header.operation
    times = []
    if operation.schedule_to_close_ns:
        times.append(operation.scheduled_ns + operation.schedule_to_close_ns)
    if not operation.started_ns:
        times.append(max(operation.scheduled_ns, operation.next_attempt_ns))
        if operation.schedule_to_start_ns:
            times.append(operation.scheduled_ns + operation.schedule_to_start_ns)
    elif operation.start_to_close_ns:
        times.append(operation.started_ns + operation.start_to_close_ns)
    if operation.cancel_requested_ns and not operation.cancel_state:
        times.append(max(operation.cancel_requested_ns, operation.cancel_next_attempt_ns))
    return min(times, default=0)


_STATE_RULES: dict[str, Callable[[OperationRun, OperationHeader], bool]] = {
    "its status is one that operations have": lambda state, h: h.status == _OPEN or h.status in _CLOSED,
    "it has an outcome exactly when it is closed": lambda state, h: (
        (state.outcome is not None) == (h.status != _OPEN)
    ),
    "it has a close time exactly when it is closed": lambda state, h: (h.close_ns > 0) == (h.status != _OPEN),
    "a completed one has a result, any other end a failure": lambda state, h: (
        state.outcome is None
        or state.outcome.WhichOneof("outcome") == ("result" if h.status == 2 else "failure")
    ),
    "only what runs is asked to cancel": lambda state, h: (
        not h.operation.cancel_requested_ns or h.operation.started_ns > 0
    ),
    "what runs and is to be cancelled is asked to": lambda state, h: (
        not (h.cancel_asked_ns and h.operation.started_ns) or h.operation.cancel_requested_ns > 0
    ),
    "what runs does not back off": lambda state, h: (
        not (h.operation.started_ns and h.operation.next_attempt_ns)
    ),
    "an open one wakes when it has something to do": lambda state, h: (
        h.status != _OPEN or state.wakeup_ns == (_earliest(h) or None)
    ),
    "a closed one is looked at when its retention ends": lambda state, h: (
        h.status == _OPEN or state.wakeup_ns == h.close_ns + h.retention_ns
    ),
}


def _about_state(state: OperationRun) -> Iterator[str]:
    for name, holds in _STATE_RULES.items():
        if not holds(state, state.header):
            yield name


def _about_transition(before: OperationRun, after: OperationRun) -> Iterator[str]:
    old, new = before.header, after.header
    if after.version != before.version + 1:
        yield "versions count up"
    if old.status != _OPEN and (new.status != old.status or after.outcome != before.outcome):
        yield "an outcome never changes"
    if old.operation.started_ns and (
        new.operation.started_ns != old.operation.started_ns
        or new.operation.operation_token != old.operation.operation_token
    ):
        yield "what runs has started once"
    if new.operation.request_id != old.operation.request_id or after.request != before.request:
        yield "the request never changes"
    if not 0 <= new.operation.attempt - old.operation.attempt <= 1:
        yield "attempts count up one by one"
    if not 0 <= new.operation.cancel_attempt - old.operation.cancel_attempt <= 1:
        yield "attempts to cancel count up one by one"
    if old.cancel_asked_ns and new.cancel_request_id != old.cancel_request_id:
        yield "one request asks for its cancellation"
