"""`wait_for` and `gather` keep to the Python on which a run began, whatever Python this is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from asyncio import gather as gather_imported_before
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import workflow
from perdure.core.replay.activation import ResolveActivity
from perdure.core.replay.instructions import CompleteWorkflow, Instruction, ScheduleActivity
from perdure.exceptions import ApplicationError
from perdure.worker.workflow_code import generations

from . import test_random_workflows as random_workflows
from .driver import Driver, activity_failure, kinds, only, pause, value_of

OLDER, NEWER = 311, 312
ORDERS = Path(__file__).with_name("orders.json")
"""A digest for each generation and seed. `python -m tests.unit.workflow.test_generations` writes it anew: only when
the random workflows themselves have changed, because what changes it otherwise breaks the histories of users."""


async def act(name: str) -> str:
    result: str = await workflow.execute_activity(name, start_to_close_timeout=timedelta(1), result_type=str)
    return result


@workflow.defn
class Waits:
    """Its argument names what it does."""

    @workflow.run
    async def run(self, what: str) -> Any:
        return await getattr(self, what)()

    async def limited_beside(self) -> None:
        await asyncio.gather(asyncio.wait_for(act("limited"), 60), act("beside"))

    async def gathered_done(self) -> list[str]:
        done = asyncio.create_task(pause(0))
        await asyncio.wait([done])
        seen = list[str]()
        asyncio.get_running_loop().call_soon(lambda: seen.append("a turn"))
        await gather_imported_before(done, done)
        return seen

    async def gathered_failed(self) -> list[str]:
        failed = asyncio.create_task(act("fails"))
        await asyncio.wait([failed])
        errors = await asyncio.gather(failed, pause(0), return_exceptions=True)
        try:
            await asyncio.gather(failed, pause(0))
        except Exception as error:
            return [type(error).__name__, *(type(each).__name__ for each in errors)]
        return []

    async def too_late(self) -> str:
        try:
            await asyncio.wait_for(pause(600), 60)
        except TimeoutError:
            return "too late"
        return "in time"


def run_of(generation: int, what: str) -> Driver:
    run = Driver(Waits, what)
    run.available_flags = (generation,)
    return run


def activities(given: list[Instruction]) -> list[str]:
    return [each.attributes.activity_type.name for each in given if isinstance(each, ScheduleActivity)]


@pytest.mark.parametrize(
    ("generation", "order"), [(OLDER, ["beside", "limited"]), (NEWER, ["limited", "beside"])]
)
def test_what_is_waited_for_with_a_limit_starts_as_the_run_has_it(generation: int, order: list[str]) -> None:
    """The older one waits for a task of its own, which begins a turn later."""
    assert activities(run_of(generation, "limited_beside").start()) == order


@pytest.mark.parametrize(("generation", "seen"), [(OLDER, ["a turn"]), (NEWER, [])])
def test_what_is_done_is_gathered_as_the_run_has_it(generation: int, seen: list[str]) -> None:
    """Also under a name that the module got before, and of one future given twice."""
    generations.watch(Waits)
    (end,) = run_of(generation, "gathered_done").start()
    assert isinstance(end, CompleteWorkflow)
    assert value_of(end.result) == seen


@pytest.mark.parametrize("generation", [OLDER, NEWER])
def test_errors_of_what_was_done_before_are_those_of_asyncio(generation: int) -> None:
    run = run_of(generation, "gathered_failed")
    run.start()
    given = run.send(ResolveActivity(1, None, activity_failure(ApplicationError("bad"))))
    assert value_of(only(given, CompleteWorkflow).result) == ["ActivityError", "ActivityError", "NoneType"]


@pytest.mark.parametrize("generation", [OLDER, NEWER])
@pytest.mark.parametrize("fires", [True, False])
def test_a_limit_ends_the_wait_or_is_taken_back(generation: int, fires: bool) -> None:
    run = run_of(generation, "too_late")
    assert kinds(run.start()) == ["StartTimer", "StartTimer"]
    *cancelled, end = run.fire(1 if fires else 2, 60)
    assert kinds(cancelled) == ["CancelTimer"]
    assert isinstance(end, CompleteWorkflow)
    assert value_of(end.result) == ("too late" if fires else "in time")


def test_history_says_what_a_run_began_with_where_it_matters() -> None:
    """Nothing is recorded for a run that does without, nor again, nor while history is replayed."""
    plain, waiting, replayed = (
        Driver(Waits, "gathered_done"),
        Driver(Waits, "too_late"),
        Driver(Waits, "too_late"),
    )
    replayed.is_replaying = True
    for run in (plain, waiting, replayed, run_of(OLDER, "too_late")):
        run.start()
    assert set(waiting.answer.used_flags) == {generations.NATIVE}
    assert set(plain.answer.used_flags) == {generations.NATIVE}
    assert not replayed.answer.used_flags
    simple = Driver(random_workflows.Planned, ["gather", ["timer", 1], ["activity", True]])
    simple.start()
    assert not simple.answer.used_flags


def digest_of(generation: int, seed: int) -> str:
    """Of everything that a random workflow asks for, in order, without what other features may add to it."""
    _, answers, _ = random_workflows.run_live(seed, (generation,))
    asked = [[(type(each).__name__, getattr(each, "seq", 0)) for each in answer] for answer in answers]
    names = [activities(answer) for answer in answers]
    return hashlib.sha256(repr((asked, names)).encode()).hexdigest()[:12]


@pytest.mark.parametrize("generation", [OLDER, NEWER])
def test_every_python_asks_in_the_same_order(generation: int) -> None:
    """Histories that were recorded on one Python, or with an earlier version of Perdure, replay on this one."""
    expected = json.loads(ORDERS.read_text())[str(generation)]
    assert [digest_of(generation, seed) for seed in random_workflows.SEEDS] == expected


if __name__ == "__main__":
    orders = {each: [digest_of(each, seed) for seed in random_workflows.SEEDS] for each in (OLDER, NEWER)}
    ORDERS.write_text(json.dumps(orders, indent=0) + "\n")
