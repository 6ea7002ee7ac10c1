"""What a run has yet to do to other runs: a function of its state, as deadlines and task rows are.

No primitive enqueues anything, so nothing can be lost or left over: an effect is there exactly while the state calls
for it. The engine delivers each in one commit with the other run's change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from perdure.core.run.state import Child
from perdure.core.run.transition import Transition


class Kind(Enum):
    """What is to be done."""

    START_CHILD = "start a child"
    REACH_EXTERNAL = "signal or cancel another workflow"
    TELL_PARENT = "tell the parent how this child ended"
    CLOSE_CHILD = "end a child of a closed parent"


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing to do to another run. `event_id` names the initiated event; 0 for the news to the parent."""

    kind: Kind
    event_id: int = 0


def pending(tx: Transition) -> list[Effect]:
    """Everything that the run has yet to do to others, in the order in which it was asked for."""
    found = [Effect(Kind.START_CHILD, child.initiated_event_id) for child in _unstarted(tx)]
    found += [Effect(Kind.REACH_EXTERNAL, external.initiated_event_id) for external in tx.externals]
    if tx.header.owes_parent:
        found.append(Effect(Kind.TELL_PARENT))
    if not tx.header.is_open:
        found += [Effect(Kind.CLOSE_CHILD, child.initiated_event_id) for child in tx.children]
    return sorted(found, key=lambda effect: effect.event_id)


def due_ns(tx: Transition) -> Iterator[int]:
    """Since when each effect is due."""
    if not tx.header.is_open:
        if tx.header.owes_parent or len(tx.children):
            yield tx.header.close_ns
        return
    for item in (*_unstarted(tx), *tx.externals):
        yield item.initiated_ns


def _unstarted(tx: Transition) -> list[Child]:
    return [child for child in tx.children if not child.run_id] if tx.header.is_open else []
