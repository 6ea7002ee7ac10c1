"""Random workflows under random answers: told the same again, in fresh memory, the code asks for the same again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import workflow
from perdure.core.replay import instructions as asked
from perdure.core.replay.activation import (
    Activation,
    CancelWorkflow,
    FireTimer,
    Job,
    NotifyHasPatch,
    ResolveActivity,
    ResolveChildWorkflow,
    ResolveChildWorkflowStart,
)
from perdure.core.replay.instructions import Instruction
from perdure.exceptions import ActivityError, ApplicationError, ChildWorkflowError
from perdure.workflow import ActivityCancellationType

from .driver import Driver, activity_failure, cancelled_activity, pause, payloads, signal, update

SEEDS = range(150)
MAX_TASKS = 60


@workflow.defn
class Planned:
    """Does what a plan says: a tree of activities, timers, children and ways to combine them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.pokes = 0

    @workflow.run
    async def run(self, plan: list[Any]) -> list[str]:
        await self.do(plan, "m")
        return self.log

    @workflow.signal(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def poke(self, waits: bool) -> None:
        self.pokes += 1
        self.log.append(f"poke {self.pokes}")
        if waits:
            await pause(1)
            self.log.append("poked")

    @workflow.update(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def ask(self, number: int) -> int:
        self.log.append(f"ask {number}")
        await self.activity([False], "u")
        return number

    async def do(self, node: list[Any], path: str) -> None:
        kind, *rest = node
        self.log.append(f"{path}:{kind}")
        try:
            await getattr(self, kind)(rest, path)
        except (ActivityError, ChildWorkflowError, ApplicationError, TimeoutError, ExceptionGroup) as error:
            self.log.append(f"{path} {type(error).__name__}")
        except asyncio.CancelledError:
            self.log.append(f"{path} cancelled")
            raise
        self.log.append(f"{path} done")

    async def activity(self, rest: list[Any], path: str) -> None:
        cancellation = ActivityCancellationType.TRY_CANCEL if rest[0] else ActivityCancellationType.ABANDON
        await workflow.execute_activity(
            path, start_to_close_timeout=timedelta(9), cancellation_type=cancellation
        )

    async def timer(self, rest: list[Any], path: str) -> None:
        await pause(rest[0])

    async def child(self, rest: list[Any], path: str) -> None:
        await workflow.execute_child_workflow("Child", path)

    async def condition(self, rest: list[Any], path: str) -> None:
        await workflow.wait_condition(lambda: self.pokes >= rest[0], timeout=rest[1])

    async def choice(self, rest: list[Any], path: str) -> None:
        self.log.append(f"{workflow.patched(path)} {workflow.random().random()} {workflow.uuid4()}")

    async def sequence(self, rest: list[Any], path: str) -> None:
        for index, node in enumerate(rest):
            await self.do(node, f"{path}.{index}")

    async def gather(self, rest: list[Any], path: str) -> None:
        await asyncio.gather(*self.steps(rest, path))

    async def group(self, rest: list[Any], path: str) -> None:
        async with asyncio.TaskGroup() as group:
            for step in self.steps(rest, path):
                group.create_task(step)
            if len(rest) == 2:
                group.create_task(self.fail_later())

    async def fail_later(self) -> None:
        await pause(3)
        raise ApplicationError("the group is over")

    async def first(self, rest: list[Any], path: str) -> None:
        # The standard function, with its sets.
        tasks = {asyncio.create_task(step) for step in self.steps(rest, path)}
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.wait(done | pending)

    async def limited(self, rest: list[Any], path: str) -> None:
        async with asyncio.timeout(rest[0]):
            await self.do(rest[1], f"{path}.l")

    async def shielded(self, rest: list[Any], path: str) -> None:
        task = asyncio.create_task(self.do(rest[0], f"{path}.s"))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await task
            raise

    async def waited(self, rest: list[Any], path: str) -> None:
        await asyncio.wait_for(self.do(rest[1], f"{path}.w"), rest[0])

    async def again(self, rest: list[Any], path: str) -> None:
        # Some are done before they are gathered.
        tasks = [asyncio.create_task(step) for step in self.steps(rest, path)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*tasks)

    async def passed(self, rest: list[Any], path: str) -> None:
        # A lock, a queue and a semaphore, each waited for by several.
        lock, items, few = asyncio.Lock(), asyncio.Queue[int](1), asyncio.Semaphore(2)

        async def one(number: int, node: list[Any]) -> None:
            async with few:
                await self.do(node, f"{path}.{number}")
            async with lock:
                await pause(0)
                await items.put(number)

        async with asyncio.TaskGroup() as group:
            for number, node in enumerate(rest):
                group.create_task(one(number, node))
            for _ in rest:
                self.log.append(f"{path} {await items.get()}")

    def steps(self, rest: list[Any], path: str) -> list[Any]:
        return [self.do(node, f"{path}.{index}") for index, node in enumerate(rest)]


LEAVES = ("activity", "activity", "timer", "child", "condition", "choice")
BRANCHES = ("sequence", "gather", "group", "first", "limited", "shielded", "waited", "again", "passed")


def new_plan(numbers: random.Random, depth: int = 0) -> list[Any]:
    """A random plan."""
    kind = numbers.choice(LEAVES if depth == 3 or (depth and numbers.random() < 0.35) else BRANCHES)
    match kind:
        case "activity":
            return [kind, numbers.random() < 0.5]
        case "timer":
            return [kind, numbers.randint(0, 4)]
        case "condition":
            return [kind, numbers.randint(1, 3), numbers.randint(2, 9)]
        case "child" | "choice":
            return [kind]
        case "limited" | "waited":
            return [kind, numbers.randint(1, 5), new_plan(numbers, depth + 1)]
        case "shielded":
            return [kind, new_plan(numbers, depth + 1)]
    return [kind, *(new_plan(numbers, depth + 1) for _ in range(numbers.randint(2, 3)))]


@dataclass
class World:
    """Answers what the code asks for, in a random order: what a server and its workers would do."""

    numbers: random.Random
    activities: set[int] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)
    timers: dict[int, int] = field(default_factory=dict)
    starting: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    patches: list[str] = field(default_factory=list)
    is_over: bool = False
    updates: int = 0

    def take(self, given: Iterable[Instruction], now_ns: int) -> None:
        for each in given:
            match each:
                case asked.StartTimer():
                    self.timers[each.seq] = now_ns + each.duration_ns
                case asked.CancelTimer():
                    self.timers.pop(each.seq, None)
                case asked.ScheduleActivity():
                    self.activities.add(each.seq)
                case asked.RequestCancelActivity():
                    self.cancelled |= {each.seq} & self.activities
                case asked.StartChildWorkflow():
                    self.starting.add(each.seq)
                case asked.SetPatch():
                    self.patches.append(each.patch_id)
                case asked.CompleteWorkflow() | asked.FailWorkflow() | asked.CancelWorkflowExecution():
                    self.is_over = True

    def answers(self, now_ns: int) -> tuple[int, list[Job]]:
        """The next task: when it starts, and what it brings."""
        jobs: list[Job] = []
        for seq in sorted(self.cancelled):
            jobs.append(cancelled_activity(seq))
        self.activities -= self.cancelled
        self.cancelled.clear()
        if not jobs or self.numbers.random() < 0.5:
            jobs += self._more(now_ns)
        if self.timers and (not jobs or self.numbers.random() < 0.3):
            seq = min(self.timers, key=lambda each: (self.timers[each], each))
            now_ns = max(now_ns, self.timers.pop(seq))
            jobs.append(FireTimer(seq))
        # Signals and updates come first, as history has them.
        arrivals: list[Job] = []
        if self.numbers.random() < 0.2:
            arrivals.append(signal("poke", self.numbers.random() < 0.5))
        if self.numbers.random() < 0.05:
            self.updates += 1
            arrivals.append(update("ask", self.updates, id=f"u-{self.updates}"))
        if self.numbers.random() < 0.02:
            jobs.append(CancelWorkflow("enough"))
        return now_ns, arrivals + jobs

    def _more(self, now_ns: int) -> list[Job]:
        jobs: list[Job] = []
        for seq in sorted(self.activities):
            if self.numbers.random() < 0.4:
                self.activities.discard(seq)
                is_bad = self.numbers.random() < 0.2
                failure = activity_failure(ApplicationError("bad")) if is_bad else None
                jobs.append(ResolveActivity(seq, None if is_bad else payloads(seq), failure))
        for seq in sorted(self.starting):
            if self.numbers.random() < 0.7:
                self.starting.discard(seq)
                self.children.add(seq)
                jobs.append(ResolveChildWorkflowStart(seq, run_id=f"child-{seq}"))
        for seq in sorted(self.children):
            if self.numbers.random() < 0.3:
                self.children.discard(seq)
                jobs.append(ResolveChildWorkflow(seq, payloads("done")))
        return jobs


def run_live(
    seed: int, flags: tuple[int, ...] = ()
) -> tuple[list[Activation], list[list[Instruction]], list[list[str]]]:
    """Runs a random workflow, in whose history are these flags, to its end or for as long as is worth it."""
    numbers = random.Random(seed)
    run, world = Driver(Planned, new_plan(numbers), seed=seed), World(numbers)
    told, answers, patches = list[Activation](), list[list[Instruction]](), list[list[str]]()
    jobs: list[Job] = [run.first_job]
    while not world.is_over and len(told) < MAX_TASKS:
        activation = Activation(run.now_ns, False, len(told), jobs, available_flags=flags)
        answer = run.program.activate(activation)
        assert answer.task_failure is None, answer.task_failure
        world.patches = []
        world.take(answer.instructions, run.now_ns)
        told.append(activation)
        answers.append(list(answer.instructions))
        patches.append(world.patches)
        run.now_ns, jobs = world.answers(run.now_ns)
        if not jobs and not (world.activities or world.timers or world.starting or world.children):
            break
    run.program.evict()
    return told, answers, patches


def _without_sources(given: Iterable[Any]) -> list[Any]:
    return [replace(each, source=None) if hasattr(each, "source") else each for each in given]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replay_asks_for_the_same(seed: int) -> None:
    """Every activation of a fresh program gets the answer that the first one gave."""
    told, answers, patches = run_live(seed)
    again = Driver(Planned, seed=seed)
    for activation, answer, patched in zip(told, answers, patches, strict=True):
        jobs = [NotifyHasPatch(each) for each in patched] + list(activation.jobs)
        replayed = again.program.activate(
            replace(activation, is_replaying=True, jobs=jobs, available_flags=(1,))
        )
        assert replayed.task_failure is None, replayed.task_failure
        assert _without_sources(replayed.instructions) == answer
    again.program.evict()


def test_random_workflows_reach_what_they_are_meant_to() -> None:
    """The seeds together use every kind of step, cancel, time out, and mostly end."""
    kinds: set[str] = set()
    ends = 0
    for seed in SEEDS:
        _, answers, _ = run_live(seed)
        names = {type(each).__name__ for answer in answers for each in answer}
        kinds |= names
        ends += bool(names & {"CompleteWorkflow", "FailWorkflow", "CancelWorkflowExecution"})
    assert ends > len(SEEDS) * 0.8
    assert kinds >= {
        "ScheduleActivity",
        "RequestCancelActivity",
        "StartTimer",
        "CancelTimer",
        "StartChildWorkflow",
        "CancelChildWorkflow",
        "SetPatch",
        "UpdateAccepted",
        "UpdateCompleted",
        "CancelWorkflowExecution",
    }
