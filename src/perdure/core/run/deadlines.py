"""What is due at a time, over all primitives. Deadlines are a function of the state; nothing else remembers them."""

from __future__ import annotations

from collections.abc import Set

from perdure.core.run import activity, chain, effects, nexus_attempts, nexus_operation, timer, workflow_task
from perdure.core.run.effects import NONE, Effect
from perdure.core.run.items import NEXUS_OPERATION, TIMER
from perdure.core.run.limits import Limits
from perdure.core.run.transition import Transition


def next_wakeup_ns(tx: Transition, under_way: Set[Effect] = NONE) -> int | None:
    """When the run must be looked at again at the latest; None when only an outside event can move it.

    Args:
        tx: the transition.
        under_way: effects that somebody sees to already; what is stored knows none.
    """
    header = tx.header
    due = min(effects.due_ns(tx, under_way), default=None) if tx.may_reach_out else None
    if not header.is_open:
        return header.close_ns + header.retention_ns if due is None else due
    times = [time_ns for time_ns in (workflow_task.deadline_ns(header), header.run_expiration_ns) if time_ns]
    if tx.state.activities or tx.activities.changes:
        times += filter(None, tx.activities.measure(activity.first_deadline_ns))
    if tx.may_have(TIMER):
        times += [pending.fire_ns for pending in tx.timers]
    if tx.may_have(NEXUS_OPERATION):
        times += [time_ns for item in tx.nexus_operations for time_ns, _ in nexus_attempts.deadlines(item)]
    if due is not None:
        times.append(due)
    return min(times, default=None)


def fire(tx: Transition, limits: Limits) -> None:
    """Does everything that is due at `tx.now_ns`, in order of time: timers, activity timeouts and retries, workflow
    task timeouts, the run timeout. A run that is not open has nothing due."""
    now_ns = tx.now_ns
    if not tx.header.is_open:
        return
    if tx.header.run_expiration_ns and tx.header.run_expiration_ns <= now_ns:
        chain.time_out(tx, limits)
        return
    due: list[tuple[int, int, str, int, int]] = []
    for pending in tx.timers:
        if pending.fire_ns <= now_ns:
            due.append((pending.fire_ns, 0, pending.timer_id, pending.started_event_id, 0))
    for waiting in tx.activities:
        for time_ns, timeout_type in activity.deadlines(waiting):
            if time_ns <= now_ns:
                due.append((time_ns, 1, "", waiting.scheduled_event_id, timeout_type))
    if tx.may_have(NEXUS_OPERATION):
        for operation in tx.nexus_operations:
            for time_ns, timeout_type in nexus_attempts.deadlines(operation):
                if time_ns <= now_ns:
                    due.append((time_ns, 2, "", operation.scheduled_event_id, timeout_type))
    for time_ns, kind, timer_id, event_id, timeout_type in sorted(
        due, key=lambda row: (row[0], row[3], row[4])
    ):
        if kind == 2:
            nexus_operation.fire(tx, event_id, timeout_type)
        elif kind:
            activity.fire(tx, event_id, time_ns, timeout_type, limits)
        else:
            timer.fire(tx, timer_id)
    workflow_task.fire(tx)
