"""What the demonstration must have shown, each as a named check over the history, the ledger and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from examples.order.ledger import ATTEMPT, EFFECT, Ledger
from examples.order.models import STATUS_DELIVERED, Order, OrderResult
from perdure.api.enums.v1 import EventType
from perdure.api.history.v1 import HistoryEvent


@dataclass(frozen=True)
class Evidence:
    """Everything the demonstration collected."""

    order: Order
    ledger: Ledger
    result: OrderResult
    status_after_completion: str
    events_before_crash: Sequence[HistoryEvent]
    events: Sequence[HistoryEvent]


@dataclass(frozen=True)
class Check:
    """One statement, whether it held, and what was seen."""

    statement: str
    held: bool
    seen: str


def _count(events: Sequence[HistoryEvent], kind: EventType.ValueType) -> int:
    return sum(1 for event in events if event.event_type == kind)


def _step_check(evidence: Evidence, step: str, attempts: int) -> Check:
    key = f"{evidence.order.order_id}/{step}"
    began, happened = evidence.ledger.count(ATTEMPT, key), evidence.ledger.count(EFFECT, key)
    statement = f"step {step!r} happened exactly once, in {attempts} attempt(s)"
    return Check(statement, (began, happened) == (attempts, 1), f"{happened} time(s), {began} attempt(s)")


def _prefix_check(evidence: Evidence) -> Check:
    before, after = evidence.events_before_crash, evidence.events
    same = len(before) > 0 and list(after[: len(before)]) == list(before)
    return Check(
        "every event recorded before the crash is still there, unchanged", same, f"{len(before)} events"
    )


def evaluate(evidence: Evidence) -> list[Check]:
    """Evaluate every check; the demonstration succeeded when all of them held."""
    events = evidence.events
    ids = [event.event_id for event in events]
    completed = _count(events, EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED)
    signals = _count(events, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
    last = events[-1].event_type
    return [
        Check(
            "the order ended as delivered", evidence.result.status == STATUS_DELIVERED, evidence.result.status
        ),
        Check(
            "the query after completion answers with the final status",
            evidence.status_after_completion == STATUS_DELIVERED,
            evidence.status_after_completion,
        ),
        _step_check(evidence, "charge", attempts=2),
        _step_check(evidence, "confirmed", attempts=2),
        _step_check(evidence, "delivered", attempts=1),
        Check("the history has one completion for each of the three steps", completed == 3, str(completed)),
        Check("the signal was recorded exactly once", signals == 1, str(signals)),
        _prefix_check(evidence),
        Check(
            "the history has no gap and ends with the completion",
            ids == list(range(1, len(ids) + 1)) and last == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
            f"events 1 to {ids[-1]}",
        ),
    ]
