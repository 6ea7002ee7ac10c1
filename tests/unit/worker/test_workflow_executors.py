"""Where workflow code runs: on the loop or in a pool; errors carried, blocked code found, and what follows it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from perdure.worker import DeadlockError
from perdure.worker._workflow_executors import LoopExecutor, PoolExecutor, WorkflowExecutor, make_executor
from perdure.worker._workflow_watch import NO_PROGRESS, run_watched

KINDS = ("loop", "pool")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4, thread_name_prefix="test-pool") as made:
        yield made


def _make(kind: str, pool: ThreadPoolExecutor, limit_s: float | None = 5.0) -> WorkflowExecutor:
    return make_executor(pool if kind == "pool" else None, limit_s)


@pytest.mark.parametrize("kind", KINDS)
def test_results_come_back(kind: str, pool: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        executor = _make(kind, pool)

        def job(number: int) -> Callable[[], int]:
            return lambda: number * 2

        results = await asyncio.gather(*(executor.run(job(number), NO_PROGRESS) for number in range(50)))
        assert results == [number * 2 for number in range(50)]

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("raised", "seen"),
    [(ValueError("no"), ValueError), (StopIteration(1), RuntimeError), (SystemExit(1), RuntimeError)],
)
def test_what_a_job_raises_is_carried_and_the_next_one_runs(
    kind: str, pool: ThreadPoolExecutor, raised: BaseException, seen: type[Exception]
) -> None:
    async def scenario() -> None:
        executor = _make(kind, pool)

        def fails() -> NoReturn:
            raise raised

        with pytest.raises(seen):
            await executor.run(fails, NO_PROGRESS)
        assert await executor.run(lambda: 1, NO_PROGRESS) == 1

    asyncio.run(scenario())


def test_ctrl_c_ends_the_program_and_not_a_task() -> None:
    """On the loop's thread it arrives in whatever code runs."""

    async def scenario() -> None:
        def interrupted() -> NoReturn:
            raise KeyboardInterrupt

        await make_executor(None, 5.0).run(interrupted, NO_PROGRESS)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(scenario())


def test_code_runs_on_the_loops_thread_or_in_the_pools(pool: ThreadPoolExecutor) -> None:
    async def scenario() -> None:
        name = await _make("loop", pool).run(lambda: threading.current_thread().name, NO_PROGRESS)
        assert name == threading.current_thread().name
        name = await _make("pool", pool).run(lambda: threading.current_thread().name, NO_PROGRESS)
        assert name.startswith("test-pool")

    asyncio.run(scenario())


def test_code_cannot_run_inside_code() -> None:
    async def scenario() -> None:
        executor = LoopExecutor(asyncio.get_running_loop(), 5.0)
        with pytest.raises(RuntimeError, match="inside workflow code"):
            await executor.run(lambda: run_watched(lambda: 1, NO_PROGRESS, 5.0), NO_PROGRESS)

    asyncio.run(scenario())


def test_asynchronous_generators_of_code_are_not_the_loops() -> None:
    """The loop would finish them in a task of its own, outside the workflow."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = sys.get_asyncgen_hooks()
        generator = numbers()

        def code() -> None:
            with pytest.raises(StopIteration):
                generator.__anext__().send(None)  # type: ignore[attr-defined]

        await LoopExecutor(loop, 5.0).run(code, NO_PROGRESS)
        assert generator not in loop._asyncgens  # type: ignore[attr-defined]
        assert sys.get_asyncgen_hooks() == before
        await generator.aclose()  # type: ignore[attr-defined]

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_code_that_blocks_is_found_with_its_stack_and_interrupted(
    kind: str, pool: ThreadPoolExecutor
) -> None:
    """The stack begins with the code; the next job runs as if nothing had been."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        executor = _make(kind, pool, 0.1)
        ended = threading.Event()

        def blocks_here() -> None:
            try:
                while True:
                    pass
            finally:
                ended.set()

        with pytest.raises(DeadlockError, match="didn't yield within 0.1 second") as caught:
            await executor.run(blocks_here, NO_PROGRESS)
        assert "in blocks_here" in caught.value.advice
        assert "in scenario" not in caught.value.advice
        assert await asyncio.to_thread(ended.wait, 10)
        assert asyncio.get_running_loop() is loop
        assert await executor.run(lambda: "ran", NO_PROGRESS) == "ran"
        await asyncio.sleep(0)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_waiting_for_a_thread_is_interrupted(kind: str, pool: ThreadPoolExecutor) -> None:
    """The lock of the condition is free again afterwards."""

    async def scenario() -> None:
        executor = _make(kind, pool, 0.1)
        gate = threading.Event()
        with pytest.raises(DeadlockError) as caught:
            await executor.run(gate.wait, NO_PROGRESS)
        assert "threading.py" in caught.value.advice
        gate.set()
        assert await executor.run(gate.wait, NO_PROGRESS)

    asyncio.run(scenario())


def test_a_blocked_pool_thread_is_given_up_at_once_and_ends_its_code_itself(pool: ThreadPoolExecutor) -> None:
    """A plain lock cannot be interrupted: the job fails, others go on, and its code is ended once it lets go."""

    async def scenario() -> None:
        executor = PoolExecutor(asyncio.get_running_loop(), pool, 0.1)
        lock, ended = threading.Lock(), threading.Event()
        lock.acquire()
        blocked = asyncio.ensure_future(
            executor.run(lambda: lock.acquire(timeout=20), NO_PROGRESS, ended.set)
        )
        assert await executor.run(lambda: "ran", NO_PROGRESS) == "ran"
        with pytest.raises(DeadlockError) as caught:
            await blocked
        assert caught.value.is_running
        assert not ended.is_set()
        lock.release()
        assert await asyncio.to_thread(ended.wait, 10)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_keeps_entering_code_is_no_deadlock(kind: str, pool: ThreadPoolExecutor) -> None:
    """A long replay activates code many times; each time counts as a sign of life."""

    class Run:
        activation_count = 0

    async def scenario() -> None:
        executor = _make(kind, pool, 1.5)
        run, pause = Run(), threading.Event()

        def many_steps() -> int:
            for _ in range(15):
                run.activation_count += 1
                pause.wait(0.15)
            return run.activation_count

        assert await executor.run(many_steps, run) == 15

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_ended_is_logged(
    kind: str, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        executor = _make(kind, pool)

        def fails() -> NoReturn:
            raise ValueError("will not end")

        executor.end(fails)
        await executor.drain()

    asyncio.run(scenario())
    assert "will not end" in caplog.text
