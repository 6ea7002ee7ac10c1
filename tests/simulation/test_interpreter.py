"""The replay checker: takes every prefix of a true history, and notices every kind of untrue one."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest

from perdure.api.history.v1 import History, HistoryEvent
from perdure.store.memory import MemoryStore
from tests.simulation.interpreter import COMMAND_EVENTS, Interpreter, NonDeterminism, event_name
from tests.simulation.oracle import Oracle, immediate
from tests.simulation.program import ANY, agrees, predict, random_program
from tests.simulation.world import World

Events = list[HistoryEvent]


@cache
def _histories() -> tuple[Events, ...]:
    """Histories of whole seeds, read before retention removes them."""
    found: list[Events] = []

    class Keeping(Oracle):
        def check_histories(self) -> None:
            super().check_histories()
            for run in self.models:
                batches = immediate(self._store.read_history(run, 1, 1 << 60, 1 << 60))
                found.append([e for batch in batches for e in History.FromString(batch.data).events])

    for seed in range(4):
        world = World(seed)
        world.oracle.__class__ = Keeping
        assert isinstance(world.durable, MemoryStore)
        world.loop.run_until_complete(world.run())
        world.loop.close()
    return tuple(found)


def _replay(events: Events) -> Interpreter:
    interpreter = Interpreter()
    interpreter.feed(events)
    return interpreter


def test_every_prefix_of_a_true_history_replays() -> None:
    """Whole commits arrive together, so a prefix ends where a workflow task or an outside event does."""
    for events in _histories():
        for end in range(1, len(events) + 1):
            _replay(events[:end])


def test_event_by_event_is_the_same_as_all_at_once() -> None:
    for events in _histories():
        one_by_one = Interpreter()
        for event in events:
            one_by_one.feed([event])
        whole = _replay(events)
        assert one_by_one.results == whole.results
        assert one_by_one.signals == whole.signals


def test_a_missing_event_is_noticed() -> None:
    for events in _histories():
        for index in range(len(events) - 1):
            with pytest.raises(NonDeterminism):
                _replay(events[:index] + events[index + 1 :])


def test_another_command_than_the_program_gives_is_noticed() -> None:
    """Command events under other names, or without their command."""
    checked = 0
    for events in _histories():
        for index, event in enumerate(events):
            name = event_name(event)
            if name not in ("ACTIVITY_TASK_SCHEDULED", "TIMER_STARTED", "MARKER_RECORDED"):
                continue
            changed = HistoryEvent.FromString(event.SerializeToString())
            attributes = getattr(changed, str(changed.WhichOneof("attributes")))
            field = {"A": "activity_id", "T": "timer_id", "M": "marker_name"}[name[0]]
            setattr(attributes, field, "another")
            with pytest.raises(NonDeterminism):
                _replay([*events[:index], changed, *events[index + 1 :]])
            checked += 1
    assert checked > 20


def test_a_command_left_out_is_noticed() -> None:
    """The event is gone and the later ones are renumbered, so that only the program can tell."""
    checked = 0
    for events in _histories():
        for index, event in enumerate(events):
            if event_name(event) not in COMMAND_EVENTS or index == len(events) - 1:
                continue
            rest = [HistoryEvent.FromString(e.SerializeToString()) for e in events[index + 1 :]]
            for later in rest:
                later.event_id -= 1
            with pytest.raises(NonDeterminism):
                _replay([*events[:index], *rest])
            checked += 1
    assert checked > 50


def test_predictions_compare_slot_by_slot() -> None:
    assert agrees(["a", [ANY, "b"]], ["a", [["failed", "x"], "b"]])
    assert not agrees(["a", [ANY, "b"]], ["a", ["c", "d"]])
    assert not agrees(["a"], ["a", "b"])


def test_programs_are_many_and_predictable() -> None:
    programs = [random_program(Random(seed)) for seed in range(300)]
    kinds = {step[0] for program in programs for step in program["steps"]}
    assert kinds == {
        "activity",
        "timer",
        "signal",
        "marker",
        "attributes",
        "local",
        "race",
        "guard",
        "all",
        "child",
        "abort",
        "poke",
        "operation",
        "drop",
    }
    assert all(len(predict(program)) == len(program["steps"]) for program in programs)
