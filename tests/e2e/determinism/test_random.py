"""Random workflows on the whole SDK: every prefix of their histories gives the same commands, cold and sticky."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from perdure.api.enums.v1 import EventType, WorkflowTaskFailedCause
from perdure.client import Client, WorkflowFailureError, WorkflowHistory
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker
from perdure.worker._workflow_cache import CachedRun, RunCache
from tests.e2e.determinism.interpreter import COLOUR, Activities, Interpreter
from tests.e2e.determinism.programs import operations, random_program
from tests.e2e.determinism.replaying import HistoryReplay, Replays, prefixes

BATCH: Final = 10
BATCHES: Final = int(os.environ.get("PERDURE_DETERMINISM_BATCHES", "7"))
LEAST_REPLAYS: Final = 150
"""In each batch, so more than a thousand in all."""
"""Ten random workflows each; set more for a long run."""
BATCH_LIMIT_S: Final = 60.0
CACHES: Final = (1000, 0, 3)
"""So many runs the worker keeps: all, none, too few."""
EVICTION_CHANCE: Final = 0.3
LEAST_EVICTIONS: Final = 20
_FAILED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
_UNHANDLED_COMMAND: Final = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
_CHILD: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
_CONTINUED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW


async def _history(client: Client, workflow_id: str, run_id: str) -> WorkflowHistory:
    return await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()


async def _all_histories(client: Client, workflow_id: str, run_id: str) -> list[WorkflowHistory]:
    """Of a run, the runs after it, and all children."""
    found = [await _history(client, workflow_id, run_id)]
    for event in found[0].events:
        if event.event_type == _CHILD:
            child = event.child_workflow_execution_started_event_attributes.workflow_execution
            found += await _all_histories(client, child.workflow_id, child.run_id)
        elif event.event_type == _CONTINUED:
            continued = event.workflow_execution_continued_as_new_event_attributes
            found += await _all_histories(client, workflow_id, continued.new_execution_run_id)
    return found


async def run_programs(seeds: range, max_cached_workflows: int) -> list[WorkflowHistory]:
    """Run the programs of some seeds, all at the same time, and return all their histories."""
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_extra_args=["--search-attribute", f"{COLOUR.name}=Keyword"]
    ) as env:
        activities = Activities(env.client)
        worker = Worker(
            env.client,
            task_queue="random",
            workflows=[Interpreter],
            activities=[activities.act, activities.poke],
            max_cached_workflows=max_cached_workflows,
        )

        async def run(seed: int) -> list[WorkflowHistory]:
            handle = await env.client.start_workflow(
                Interpreter.run, args=[random_program(seed)], id=f"seed-{seed}", task_queue="random"
            )
            try:
                await handle.result()
            except WorkflowFailureError:
                pass  # some programs fail or are cancelled, as planned
            return await _all_histories(env.client, handle.id, handle.first_execution_run_id or "")

        async with worker, asyncio.timeout(BATCH_LIMIT_S):
            return [history for found in await asyncio.gather(*map(run, seeds)) for history in found]


async def _replay_publicly(histories: list[WorkflowHistory], replays: Replays) -> None:
    """Every prefix in the `Replayer`, one after the other."""

    async def beginnings() -> AsyncIterator[WorkflowHistory]:
        for history in histories:
            for beginning in prefixes(history):
                yield beginning

    async with Replayer(workflows=[Interpreter]).workflow_replay_iterator(beginnings()) as results:
        async for result in results:
            replays.whole += 1
            if result.replay_failure is not None:
                last = len(result.history.events)
                replays.problems.append(f"{result.history.workflow_id} to {last}: {result.replay_failure}")


def replay_everything(histories: list[WorkflowHistory]) -> Replays:
    """Replay every prefix of the histories in every way."""
    replays = Replays()
    replayer = Replayer(workflows=[Interpreter])
    for history in histories:
        HistoryReplay(replayer, history, replays).check()
    asyncio.run(_replay_publicly(histories, replays))
    return replays


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_prefix_of_every_history_gives_the_same_commands(batch: int) -> None:
    """Ten random workflows with their children and next runs; no false alarm, and no other command."""
    seeds = range(batch * BATCH, (batch + 1) * BATCH)
    histories = asyncio.run(run_programs(seeds, CACHES[batch % len(CACHES)]))
    alarms = [message for history in histories for message in _alarms(history)]
    replays = replay_everything(histories)
    print(
        f"{len(histories)} runs, {replays.cold} cold, {replays.sticky} sticky, {replays.whole} in the Replayer"
    )
    assert not alarms
    assert not replays.problems, "\n".join(replays.problems[:3])
    assert replays.count >= LEAST_REPLAYS


def test_a_cache_that_forgets_at_random_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs leave it between any two of their tasks: no task fails, and histories replay as if they had stayed."""
    chance, evicted = random.Random(1), list[CachedRun]()

    def overdue(cache: RunCache) -> list[CachedRun]:
        idle = [cached for cached in cache if not cached.users and not cached.locals.tasks]
        leaving = [cached for cached in idle if chance.random() < EVICTION_CHANCE]
        for cached in leaving:
            cache.remove(cached)
        evicted.extend(leaving)
        return leaving

    monkeypatch.setattr(RunCache, "overdue", overdue)
    histories = asyncio.run(run_programs(range(BATCH), CACHES[0]))
    assert len(evicted) >= LEAST_EVICTIONS
    assert not [message for history in histories for message in _alarms(history)]
    replays = replay_everything(histories)
    assert not replays.problems, "\n".join(replays.problems[:3])


def _alarms(history: WorkflowHistory) -> list[str]:
    """Workflow tasks that failed while the workflow ran; unhandled commands are no alarm."""
    failed = [
        event.workflow_task_failed_event_attributes for event in history.events if event.event_type == _FAILED
    ]
    return [attributes.failure.message for attributes in failed if attributes.cause != _UNHANDLED_COMMAND]


def test_programs_use_every_operation() -> None:
    """The generator leaves nothing out within the seeds of a normal run."""
    used = set().union(*(operations(random_program(seed)) for seed in range(BATCHES * BATCH)))
    assert len(used) == 22, used


def test_a_program_depends_on_its_seed_only() -> None:
    """The same again for the same seed, another for another."""
    assert random_program(7) == random_program(7) != random_program(8)


def test_other_code_is_noticed() -> None:
    """The comparison can fail: a workflow that asks for one activity more is caught in most histories."""
    histories = asyncio.run(run_programs(range(4), 1000))

    original = Interpreter.do

    async def do(self: Interpreter, node: dict[str, Any]) -> None:
        self.log.append("changed")
        await original(self, node)

    Interpreter.do = do  # type: ignore[method-assign]
    try:
        replays = replay_everything(histories)
    finally:
        Interpreter.do = original  # type: ignore[method-assign]
    assert replays.problems
