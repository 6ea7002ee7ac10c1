"""Watches the core's functions at work and holds every change of state against the tables of `machines`.

Each input is wrapped; the state before and after its outermost call makes an edge, which must be in the table.
Collected edges tell which rows of the tables were seen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perdure.api.history.v1 import HistoryEvent
from perdure.core.run import machines
from perdure.core.run.machines import Edge, Machine
from perdure.core.run.state import Activity
from perdure.core.run.transition import Transition

Seen = dict[str, set[Edge]]
Keys = Callable[[Transition, tuple[Any, ...], Any], list[Any]]
"""From a call's transition, arguments and result to the keys of the things it may change."""


def _whole_run(tx: Transition, args: tuple[Any, ...], result: Any) -> list[Any]:
    return [None]


def _activities(tx: Transition, args: tuple[Any, ...], result: Any) -> list[Any]:
    if isinstance(args[0], (int, Activity)):
        return [args[0] if isinstance(args[0], int) else args[0].scheduled_event_id]
    return [result.event_id] if result is not None else []  # activity.schedule


def _timers(tx: Transition, args: tuple[Any, ...], result: Any) -> list[Any]:
    timer_id = args[0] if isinstance(args[0], str) else args[0].timer_id
    timer = tx.timers.get(timer_id)
    if timer is not None:
        return [timer.started_event_id]
    fired = [
        event.timer_fired_event_attributes
        for event in tx.buffered
        if event.HasField("timer_fired_event_attributes")
    ]
    return [attributes.started_event_id for attributes in fired if attributes.timer_id == timer_id][:1]


def _initiated(tx: Transition, args: tuple[Any, ...], result: Any) -> list[Any]:
    if isinstance(args[0], int):
        return [args[0]]
    if isinstance(args[0], HistoryEvent):
        return [args[0].event_id]
    return [result.event_id] if result is not None else []


_CREATES = (
    "activity.schedule",
    "timer.start",
    "child.initiate",
    "external.initiate_signal",
    "external.initiate_cancel",
    "nexus_operation.schedule",
)
"""These make a new thing: its key is known afterwards."""

WATCHED: tuple[
    tuple[Machine, Callable[[Transition, Any], str], Keys, Callable[[Transition], list[Any]]], ...
] = (
    (machines.RUN, lambda tx, key: machines.run_state(tx), _whole_run, lambda tx: [None]),
    (
        machines.WORKFLOW_TASK,
        lambda tx, key: machines.workflow_task_state(tx.header),
        _whole_run,
        lambda tx: [None],
    ),
    (
        machines.ACTIVITY,
        machines.activity_state,
        _activities,
        lambda tx: [activity.scheduled_event_id for activity in tx.activities],
    ),
    (
        machines.TIMER,
        machines.timer_state,
        _timers,
        lambda tx: [timer.started_event_id for timer in tx.timers],
    ),
    (
        machines.CHILD,
        machines.child_state,
        _initiated,
        lambda tx: [child.initiated_event_id for child in tx.children],
    ),
    (
        machines.EXTERNAL,
        machines.external_state,
        _initiated,
        lambda tx: [external.initiated_event_id for external in tx.externals],
    ),
    (
        machines.NEXUS_OPERATION,
        machines.nexus_operation_state,
        _initiated,
        lambda tx: [operation.scheduled_event_id for operation in tx.nexus_operations],
    ),
)


@contextmanager
def observed(seen: Seen) -> Iterator[None]:
    """While it lasts, every input of every machine is checked; what was seen is added to `seen`."""
    with pytest.MonkeyPatch.context() as patch:
        for machine, state_of, keys_of, all_keys in WATCHED:
            depth = [0]
            for name in sorted({name for _, name, _ in machine.edges}):
                module_name, function_name = name.split(".")
                module = importlib.import_module(f"perdure.core.run.{module_name}")
                watched = _watch(
                    machine,
                    name,
                    getattr(module, function_name),
                    state_of,
                    _every(all_keys) if function_name == "_close" else keys_of,
                    seen.setdefault(machine.name, set()),
                    depth,
                )
                patch.setattr(module, function_name, watched)
        yield


def _every(all_keys: Callable[[Transition], list[Any]]) -> Keys:
    return lambda tx, args, result: all_keys(tx)


def _watch(
    machine: Machine,
    name: str,
    function: Callable[..., Any],
    state_of: Callable[[Transition, Any], str],
    keys_of: Keys,
    seen: set[Edge],
    depth: list[int],
) -> Callable[..., Any]:
    def call(tx: Transition, *args: Any, **named: Any) -> Any:
        if depth[0]:
            return function(tx, *args, **named)
        before = {key: state_of(tx, key) for key in keys_of(tx, args, None)}
        depth[0] += 1
        try:
            result = function(tx, *args, **named)
        finally:
            depth[0] -= 1
        if name in _CREATES:
            before = dict.fromkeys(keys_of(tx, args, result), "none")
        for key, state in before.items():
            edge = (state, name, state_of(tx, key))
            if edge[0] != edge[2]:
                assert edge in machine.edges, f"{machine.name}: {edge} is not in the table"
                seen.add(edge)
        return result

    return call
