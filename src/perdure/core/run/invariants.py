"""What must always hold of a run, as named rules. Pure, and written apart from the code it watches.

Lives here: checking them. May not: the rules, which are of three kinds, by what they look at:

    state_rules        one state, wherever it comes from
    transition_rules   one transition before it is committed: the state before, the state after, what is to be written
    history_rules      a state against the run's whole event history, replayed there in a simple way

`check_transition` and `check_state` with `cheap=True` cost little and may run in production; the rest is for tests and
the simulator. Every rule returns None, or a sentence that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from perdure.api.history.v1 import HistoryEvent
from perdure.core.invariant import invariant
from perdure.core.run.history_rules import HISTORY_RULES, HistorySubject, replay
from perdure.core.run.records import RunKey, RunWrite, Task
from perdure.core.run.rules import Rule, Subject
from perdure.core.run.state import RunState
from perdure.core.run.state_rules import STATE_RULES, View, derived_tasks, dispatch_of
from perdure.core.run.transition import Transition
from perdure.core.run.transition_rules import TRANSITION_RULES, Step


def names() -> list[str]:
    """The names of all rules."""
    tables: tuple[Sequence[Rule[Any]], ...] = (STATE_RULES, TRANSITION_RULES, HISTORY_RULES)
    return [rule.name for table in tables for rule in table]


def check_state(state: RunState, *, cheap: bool = False) -> None:
    """Checks a state by itself.

    Raises:
        InvariantViolation: names the broken rule.
    """
    _check(STATE_RULES, View.of(state), state.run, cheap)


def check_transition(tx: Transition, write: RunWrite, *, cheap: bool = False) -> None:
    """Checks a finished transition before it is committed and absorbed.

    Args:
        tx: the transition, after `finish`.
        write: what `finish` returned.
        cheap: only the rules that cost little.

    Raises:
        InvariantViolation: names the broken rule.
    """
    after = View.after(tx)
    _check((rule for rule in STATE_RULES if not rule.alone), after, tx.state.run, cheap)
    _check(TRANSITION_RULES, Step(tx.state, tx, after, write), tx.state.run, cheap)


def check_history(state: RunState, events: Sequence[HistoryEvent]) -> None:
    """Checks a state against the run's whole history.

    Raises:
        InvariantViolation: names the broken rule.
    """
    view = View.of(state)
    written = replay(events)
    subject = HistorySubject(
        view.header,
        view.activities,
        view.timers,
        written,
        replay(events, view.buffered) if view.buffered else written,
        len(events),
        view.updates,
        view.children,
        view.externals,
        view.operations,
    )
    _check(HISTORY_RULES, subject, state.run, cheap=False)


def check_tasks(state: RunState, tasks: Iterable[Task]) -> None:
    """Checks the task rows that a store keeps for a run: exactly those its state calls for.

    Raises:
        InvariantViolation: names the rule.
    """
    stored = {task.key: dispatch_of(task) for task in tasks}
    wanted = derived_tasks(View.of(state)) if state.version else {}
    problem = f"task rows {stored}, but the state calls for {wanted}"
    invariant(stored == wanted, problem, rule="stored tasks are those of the state", run=state.run)


def _check(rules: Iterable[Rule[Subject]], subject: Subject, run: RunKey, cheap: bool) -> None:
    for rule in rules:
        if rule.cheap or not cheap:
            problem = rule.holds(subject)
            if problem is not None:
                invariant(False, problem, rule=rule.name, run=run)
