"""asyncio on the workflow's event loop: a fixed order of everything, and a typed error for what is not there."""

from __future__ import annotations

import asyncio
import gc
import sys
import sysconfig
import threading
import types
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from perdure import workflow
from perdure.core.replay.activation import FireTimer
from perdure.core.replay.instructions import CompleteWorkflow, StartTimer
from perdure.worker.workflow_code import guards
from perdure.worker.workflow_code.errors import UnsupportedInWorkflowError
from tests.no_skip import OLDER_PYTHON

from .driver import SECOND_NS, Driver, kinds, only, pause, value_of

_scripts: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {}


def script(code: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Makes an async function something that `Scripted` runs."""
    _scripts[code.__name__] = code
    return code


@workflow.defn
class Scripted:
    """Runs one of the functions below."""

    @workflow.run
    async def run(self, name: str) -> Any:
        return await _scripts[name]()


def outcome(name: str) -> Any:
    """The script's result; its timers fire one by one, the earliest first."""
    run = Driver(Scripted, name)
    due: dict[int, int] = {}
    answer = run.start()
    for _ in range(100):
        for each in answer:
            if isinstance(each, StartTimer):
                due[each.seq] = run.now_ns + each.duration_ns
            elif isinstance(each, CompleteWorkflow):
                return value_of(each.result)
            else:
                due.pop(getattr(each, "seq", 0), None)
        seq = min(due, key=lambda each: (due[each], each))
        run.now_ns = due.pop(seq)
        answer = run.fire(seq)
    raise AssertionError("the script does not end")


@script
async def gather_in_order() -> list[Any]:
    seen: list[str] = []

    async def step(name: str, delay_s: float) -> str:
        seen.append(f"{name} starts")
        await pause(delay_s)
        seen.append(f"{name} ends")
        return name

    results = await asyncio.gather(step("a", 2), step("b", 1), step("c", 1))
    return [*seen, *results]


@script
async def task_group_cancels_the_others() -> list[str]:
    seen: list[str] = []

    async def waits(name: str) -> None:
        try:
            await pause(100)
        except asyncio.CancelledError:
            seen.append(f"{name} cancelled")
            raise

    async def fails() -> None:
        await pause(1)
        raise ValueError("first failure")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits("a"))
            group.create_task(fails())
            group.create_task(waits("b"))
    except* ValueError as errors:
        seen.append(str(errors.exceptions[0]))
    return seen


@script
async def queue_between_tasks() -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    seen: list[int] = []

    async def produce() -> None:
        for number in range(5):
            await queue.put(number)
        await queue.put(-1)

    async def consume() -> None:
        while (number := await queue.get()) >= 0:
            seen.append(number)

    await asyncio.gather(produce(), consume())
    return seen


@script
async def locks_are_fair() -> list[str]:
    lock, free, seen = asyncio.Lock(), asyncio.Semaphore(2), list[str]()

    async def use(name: str) -> None:
        async with free:
            seen.append(f"{name} in")
            async with lock:
                await pause(1)
                seen.append(name)

    await asyncio.gather(*(use(name) for name in "abcd"))
    return seen


@script
async def event_wakes_in_order() -> list[str]:
    event, seen = asyncio.Event(), list[str]()

    async def wait(name: str) -> None:
        await event.wait()
        seen.append(name)

    tasks = [asyncio.create_task(wait(name)) for name in "xyz"]
    await pause(0)
    event.set()
    await asyncio.wait(tasks)
    return seen


@script
async def wait_returns_lists() -> list[Any]:
    async def after(delay_s: float) -> float:
        await pause(delay_s)
        return delay_s

    tasks = [asyncio.create_task(after(delay)) for delay in (3, 1, 2)]
    done, pending = await workflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    first = [task.result() for task in done], len(pending)
    done, pending = await workflow.wait(tasks, timeout=1.5)
    second = [task.result() for task in done], len(pending)
    return [first, second, [await each for each in workflow.as_completed(tasks)]]


@script
async def as_completed_times_out() -> list[str]:
    seen = []
    for each in workflow.as_completed([pause(1, "quick"), pause(9, "slow")], timeout=2):
        try:
            seen.append(await each)
        except TimeoutError:
            seen.append("late")
    return seen


@script
async def wait_for_gives_up() -> str:
    try:
        return await asyncio.wait_for(pause(9, "slow"), 2)
    except TimeoutError:
        return "late"


@script
async def loop_clock_is_workflow_time() -> list[float]:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await pause(2.5)
    return [loop.time() - before, workflow.time() - before, (workflow.now().timestamp() - before)]


@script
async def generators_are_closed() -> list[str]:
    seen = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(3):
                await pause(1)
                yield number
        finally:
            seen.append("closed")

    async for number in numbers():
        seen.append(str(number))
    return seen


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "gather_in_order",
            ["a starts", "b starts", "c starts", "b ends", "c ends", "a ends", "a", "b", "c"],
        ),
        ("task_group_cancels_the_others", ["a cancelled", "b cancelled", "first failure"]),
        ("queue_between_tasks", [0, 1, 2, 3, 4]),
        ("locks_are_fair", ["a in", "b in", "a", "c in", "b", "d in", "c", "d"]),
        ("event_wakes_in_order", ["x", "y", "z"]),
        ("wait_returns_lists", [[[1], 2], [[1, 2], 1], [1, 2, 3]]),
        ("as_completed_times_out", ["quick", "late"]),
        ("wait_for_gives_up", "late"),
        ("loop_clock_is_workflow_time", [2.5, 2.5, 2.5]),
        ("generators_are_closed", ["0", "1", "2", "closed"]),
    ],
)
def test_asyncio_works_in_a_fixed_order(name: str, expected: object) -> None:
    """Every run of the script gives the same, and it is what asyncio's own loop would give."""
    assert [outcome(name) for _ in range(3)] == [expected] * 3


@pytest.mark.parametrize("name", sorted(_scripts))
def test_instructions_are_the_same_in_every_run(name: str) -> None:
    """Not only the results: what is asked of the server, and its order."""

    def instructions() -> list[object]:
        run = Driver(Scripted, name)
        answers = [run.start()]
        for seq in range(1, 4):
            run.now_ns += 10 * SECOND_NS
            answers.append(run.send(FireTimer(seq)))
        return [repr(answer) for answer in answers]

    first = instructions()
    assert all(instructions() == first for _ in range(5))


@script
async def to_thread() -> None:
    await asyncio.to_thread(print)


@script
async def opens_connection() -> None:
    await asyncio.open_connection("localhost", 1)


@script
async def starts_process() -> None:
    await asyncio.create_subprocess_exec("true")


@script
async def threadsafe() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


@pytest.mark.parametrize("name", ["to_thread", "opens_connection", "starts_process", "threadsafe"])
def test_what_a_workflow_cannot_have_is_refused_by_name(name: str) -> None:
    """With a typed error that says what to do instead."""
    run = Driver(Scripted, name)
    failure = run.task_failure(run.first_job)
    assert failure.application_failure_info.type in (
        UnsupportedInWorkflowError.__name__,
        "RestrictedWorkflowAccessError",
    )
    assert "activity" in failure.message


_PACKAGE = """
import asyncio

async def get():
    return await asyncio.shield(asyncio.create_task(resolve()))

async def resolve():
    return await asyncio.gather(look_up())

async def look_up():
    return await asyncio.get_running_loop().getaddrinfo("example.com", 80)
"""


@script
async def asks_a_package() -> None:
    await sys.modules["ledgers"].get()


def test_what_a_package_does_in_tasks_of_its_own_is_told_of_the_users_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as HTTP clients that look a name up: the user's code has no frame in those tasks."""
    guards.install()
    package: Any = types.ModuleType("ledgers")
    exec(  # noqa: S102 - ours
        compile(_PACKAGE, f"{sysconfig.get_path('purelib')}/ledgers.py", "exec"), vars(package)
    )
    monkeypatch.setitem(sys.modules, "ledgers", package)
    run = Driver(Scripted, "asks_a_package", guarded=frozenset((Scripted,)))
    failure = run.task_failure(run.first_job)
    line = asks_a_package.__code__.co_firstlineno + 2
    assert failure.message.startswith("ledgers.get() in workflow code comes to loop.getaddrinfo(): ")
    assert f"Called at {__file__}:{line} in asks_a_package. " in failure.message


def test_the_loop_refuses_everything_that_asyncio_leaves_open() -> None:
    """A method of a newer Python that this loop does not know must not be silently missing."""
    from perdure.worker.workflow_code.loop import WorkflowLoop

    ours = vars(WorkflowLoop)
    public = {
        name
        for name, each in vars(asyncio.AbstractEventLoop).items()
        if callable(each) and not name.startswith("_")
    }
    assert public - set(ours) == set()


@script
async def swallows_everything() -> None:
    while True:
        try:
            await pause(1000)
        except asyncio.CancelledError:
            continue


@script
async def catches_all_in_a_loop() -> None:
    while True:
        try:
            await workflow.wait_condition(lambda: False)
        except BaseException:
            _cleaned.append("caught")


@script
async def cleans_up() -> None:
    try:
        await pause(1000)
    finally:
        _cleaned.append("begun")
        await pause(1)
        _cleaned.append("never")


_cleaned: list[str] = []


def test_eviction_ends_every_task_and_records_nothing() -> None:
    """`finally` blocks begin, and stop at the first thing they ask for."""
    _cleaned.clear()
    run = Driver(Scripted, "cleans_up")
    run.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.program.evict()
        gc.collect()
    assert _cleaned == ["begun"]


def test_eviction_ends_a_task_that_swallows_cancellations() -> None:
    """It asks for a timer, which an evicted workflow cannot have."""
    run = Driver(Scripted, "swallows_everything")
    run.start()
    run.program.evict()
    assert run.program.info is None


def test_eviction_ends_a_task_that_catches_everything_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """It would wait again for ever; nobody could tell which workflow it was without the run's id."""
    run = Driver(Scripted, "catches_all_in_a_loop")
    run.start()
    run.program.evict()
    assert run.program.info is None
    assert any("Timed out running eviction job for run ID" in record.message for record in caplog.records)


def test_an_evicted_workflow_is_collected() -> None:
    """Nothing keeps it: no task in asyncio's sets, no loop, no thread."""
    run = Driver(Scripted, "cleans_up")
    run.start()
    assert run.program._instance is not None
    instance = weakref.ref(run.program._instance)
    run.program.evict()
    gc.collect()
    assert instance() is None


_seen_in_context: ContextVar[str] = ContextVar("seen", default="nothing")


@script
async def reads_context() -> str:
    before = _seen_in_context.get()
    _seen_in_context.set("the workflow's")
    await pause(1)
    return f"{before}, {_seen_in_context.get()}"


def test_context_variables_of_the_worker_are_not_seen() -> None:
    """And the workflow's own stay its own."""
    token = _seen_in_context.set("the worker's")
    try:
        assert outcome("reads_context") == "nothing, the workflow's"
        assert _seen_in_context.get() == "the worker's"
    finally:
        _seen_in_context.reset(token)


def test_activations_work_inside_a_running_loop_and_in_any_thread() -> None:
    """The worker's loop and its current task are as they were."""
    run = Driver(Scripted, "gather_in_order")

    async def main() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert kinds(run.start()) == ["StartTimer"] * 3
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        await pause(0)

    asyncio.run(main())
    answers = []
    thread = threading.Thread(
        target=lambda: answers.extend(run.send(FireTimer(1), FireTimer(2), FireTimer(3)))
    )
    thread.start()
    thread.join(10)
    only(answers, CompleteWorkflow)


@script
async def names_its_tasks() -> list[str]:
    tasks = [asyncio.create_task(pause(0)), asyncio.create_task(pause(0), name="mine")]
    await asyncio.wait(tasks)
    return [task.get_name().split(" (")[0] for task in tasks]


def test_tasks_have_the_same_names_on_every_replay() -> None:
    """Python's own numbers count all tasks of the process."""
    assert outcome("names_its_tasks") == outcome("names_its_tasks") == ["Task-1", "mine"]


def test_finished_tasks_are_not_kept() -> None:
    """A workflow that starts many tasks one after another holds few of them."""

    async def many() -> int:
        for _ in range(1000):
            await asyncio.create_task(pause(0))
        return len(asyncio.get_running_loop()._tasks)  # type: ignore[attr-defined]

    _scripts["many"] = many
    assert outcome("many") <= 65


@pytest.mark.skipif(sys.version_info < (3, 12), reason=OLDER_PYTHON + "tasks can start eagerly from 3.12 on")
def test_eager_tasks_start_at_once() -> None:
    """TaskGroup and create_task may ask for it."""

    async def eager() -> list[str]:
        seen = []

        async def step() -> None:
            seen.append("step")

        loop: Any = asyncio.get_running_loop()
        task = loop.create_task(step(), eager_start=True)
        seen.append("after")
        await task
        return seen

    _scripts["eager"] = eager
    assert outcome("eager") == ["step", "after"]
