"""Random workflows against the server's core: every prefix of every history gives the same commands again."""

from __future__ import annotations

import itertools

import pytest

from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.run import WorkflowRun, replay_history
from perdure.core.replay.steps import LocalActivityWork, Step, TaskCompletion, WorkflowTask
from tests.unit.replay.model import CONFIG, RUN_ID, WORKFLOW_ID, Handed, Model, serialize
from tests.unit.replay.scripts import run_random

SEEDS = range(80)


def cold(model: Model, handed: Handed) -> Step | None:
    """A worker that has never seen the run gets the task."""
    run = WorkflowRun(WORKFLOW_ID, RUN_ID, model.make(), CONFIG)
    step: Step | None = run.handle(
        WorkflowTask(
            handed.events, handed.previous_started_event_id, handed.started_event_id, messages=handed.messages
        )
    )
    for seq, outcome in handed.resolved:
        step = run.local_activity_resolved(seq, outcome)
    return run.heartbeat() if isinstance(step, LocalActivityWork) and handed.is_heartbeat else step


@pytest.mark.parametrize("seed", SEEDS)
def test_each_task_gives_the_same_commands_cold_as_sticky(seed: int) -> None:
    model = run_random(seed)
    assert model.handed
    for handed in model.handed:
        step = cold(model, handed)
        assert isinstance(step, TaskCompletion), step
        assert sorted(map(serialize, step.commands)) == sorted(handed.commands)


@pytest.mark.parametrize("seed", SEEDS[::4])
def test_every_prefix_of_a_history_replays(seed: int) -> None:
    model = run_random(seed)
    for length in range(1, len(model.history) + 1):
        events: list[HistoryEvent] = model.history[:length]
        failure = replay_history(model.make(), events, workflow_id=WORKFLOW_ID, run_id=RUN_ID, config=CONFIG)
        assert failure is None, (length, failure)


def test_other_code_is_noticed() -> None:
    """The check above can fail: the same history does not replay with the code of another seed."""
    histories = [run_random(seed) for seed in range(10)]
    noticed = 0
    for model, other in itertools.pairwise(histories):
        failure = replay_history(other.make(), model.history, workflow_id=WORKFLOW_ID, config=CONFIG)
        noticed += failure is not None
    assert noticed >= 8


def test_random_workflows_do_all_kinds_of_things() -> None:
    kinds = {event.event_type for seed in SEEDS[:20] for event in run_random(seed).history}
    assert len(kinds) >= 22
