"""What a run has yet to do to others: a function of its state, as deadlines and task rows are.

No primitive enqueues anything, so nothing can be lost or left over: an effect is there exactly while the state calls
for it. The engine delivers those between runs, each in one commit with the other run's change; a request to a Nexus
handler or to an address runs beside the run, and its outcome is committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from enum import Enum
from typing import Final

from perdure.core.run import callback, nexus_attempts
from perdure.core.run.items import NEXUS_OPERATION
from perdure.core.run.state import Child
from perdure.core.run.transition import Transition


class Kind(Enum):
    """What is to be done."""

    START_CHILD = "start a child"
    REACH_EXTERNAL = "signal or cancel another workflow"
    TELL_PARENT = "tell the parent how this child ended"
    CLOSE_CHILD = "end a child of a closed parent"
    START_OPERATION = "ask a Nexus handler to start an operation"
    CANCEL_OPERATION = "ask a Nexus handler to cancel an operation"
    CALL_BACK = "deliver a completion callback"


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing to do. `event_id` names the initiated or scheduled event, or the key of the callback; 0 for the news
    to the parent."""

    kind: Kind
    event_id: int = 0


NONE: Final[frozenset[Effect]] = frozenset()


def pending(tx: Transition, under_way: Set[Effect] = NONE) -> list[Effect]:
    """Everything that the run has to do to others now, in the order in which it was asked for.

    Args:
        tx: the transition.
        under_way: effects that somebody sees to already: they are left out.
    """
    found = [Effect(Kind.START_CHILD, child.initiated_event_id) for child in _unstarted(tx)]
    found += [Effect(Kind.REACH_EXTERNAL, external.initiated_event_id) for external in tx.externals]
    found += [effect for effect, due_ns in _requests(tx, under_way) if due_ns <= tx.now_ns]
    if tx.header.owes_parent:
        found.append(Effect(Kind.TELL_PARENT))
    if not tx.header.is_open:
        found += [Effect(Kind.CLOSE_CHILD, child.initiated_event_id) for child in tx.children]
    return sorted(found, key=lambda effect: effect.event_id)


def due_ns(tx: Transition, under_way: Set[Effect] = NONE) -> Iterator[int]:
    """Since when, or from when on, each effect is due. `under_way` is as for `pending`."""
    for _, time_ns in _requests(tx, under_way):
        yield time_ns
    if not tx.header.is_open:
        if tx.header.owes_parent or len(tx.children):
            yield tx.header.close_ns
        return
    for item in (*_unstarted(tx), *tx.externals):
        yield item.initiated_ns


def _requests(tx: Transition, under_way: Set[Effect]) -> Iterator[tuple[Effect, int]]:
    """What is asked of handlers and who is called back, each with the time from which on it is due."""
    if tx.header.calls_back or tx.header.tells_of_updates:
        for key, time_ns in callback.due(tx):
            effect = Effect(Kind.CALL_BACK, key)
            if effect not in under_way:
                yield effect, time_ns
    if not tx.may_have(NEXUS_OPERATION):
        return
    for operation in tx.nexus_operations:
        for kind, time_ns in (
            (Kind.START_OPERATION, nexus_attempts.start_due_ns(operation)),
            (Kind.CANCEL_OPERATION, nexus_attempts.cancel_due_ns(operation)),
        ):
            effect = Effect(kind, operation.scheduled_event_id)
            if time_ns and effect not in under_way:
                yield effect, time_ns


def _unstarted(tx: Transition) -> list[Child]:
    return [child for child in tx.children if not child.run_id] if tx.header.is_open else []
