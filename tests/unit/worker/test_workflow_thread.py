"""The workflow thread: jobs in order, errors carried, blocked code found, and what follows it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import NoReturn

import pytest

from perdure.worker import DeadlockError
from perdure.worker._workflow_thread import InlineExecutor, WorkflowExecutor, WorkflowThread


def _never() -> int:
    return 0


def _make(kind: str) -> WorkflowExecutor:
    loop = asyncio.get_running_loop()
    return InlineExecutor(loop) if kind == "inline" else WorkflowThread(loop, "test-workflows", 2.0)


@pytest.mark.parametrize("kind", ["inline", "thread"])
def test_jobs_run_in_order_and_their_results_come_back(kind: str) -> None:
    async def scenario() -> None:
        executor = _make(kind)
        ran: list[int] = []

        def job(number: int) -> Callable[[], int]:
            def run() -> int:
                ran.append(number)
                return number * 2

            return run

        futures = [executor.run(job(number), _never) for number in range(50)]
        assert await asyncio.gather(*futures) == [number * 2 for number in range(50)]
        assert ran == list(range(50))
        executor.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["inline", "thread"])
@pytest.mark.parametrize(
    ("raised", "seen"),
    [(ValueError("no"), ValueError), (StopIteration(1), RuntimeError), (SystemExit(1), RuntimeError)],
)
def test_what_a_job_raises_is_carried_and_the_next_one_runs(
    kind: str, raised: BaseException, seen: type[Exception]
) -> None:
    async def scenario() -> None:
        executor = _make(kind)

        def fails() -> NoReturn:
            raise raised

        with pytest.raises(seen):
            await executor.run(fails, _never)
        assert await executor.run(lambda: 1, _never) == 1
        executor.close()

    asyncio.run(scenario())


def test_code_runs_in_a_thread_of_its_own_or_inline_without_a_running_loop() -> None:
    async def scenario() -> None:
        for kind in ("inline", "thread"):
            executor = _make(kind)
            name = await executor.run(lambda: threading.current_thread().name, _never)
            assert name == ("MainThread" if kind == "inline" else "test-workflows")
            assert await executor.run(asyncio._get_running_loop, _never) is None
            executor.close()

    asyncio.run(scenario())


def test_code_that_blocks_is_found_with_its_stack_and_others_go_on() -> None:
    """What it held is ended in its own thread, once it lets go."""

    async def scenario() -> None:
        executor = WorkflowThread(asyncio.get_running_loop(), "test", 0.1)
        gate, ended = threading.Event(), threading.Event()

        def blocks_here() -> None:
            gate.wait(20)

        blocked = executor.run(blocks_here, _never, ended.set)
        behind = executor.run(lambda: "ran", _never)
        with pytest.raises(DeadlockError, match="didn't yield within 0.1 second") as caught:
            await blocked
        assert "in blocks_here" in caught.value.advice
        assert await behind == "ran"
        assert not ended.is_set()
        gate.set()
        assert await asyncio.to_thread(ended.wait, 10)
        executor.close()

    asyncio.run(scenario())


def test_others_do_not_wait_until_blocked_code_is_given_up() -> None:
    """Spare threads run them, each only as long as there is something to do."""

    async def scenario() -> None:
        executor = WorkflowThread(asyncio.get_running_loop(), "test", 60)
        gate = threading.Event()
        blocked = [executor.run(lambda: gate.wait(20), _never) for _ in range(2)]
        behind = [executor.run(lambda: 1, _never) for _ in range(10)]
        assert await asyncio.gather(*behind) == [1] * 10
        assert not any(future.done() for future in blocked)
        gate.set()
        assert await asyncio.gather(*blocked) == [True, True]
        executor.close()

    asyncio.run(scenario())


def test_a_job_that_keeps_entering_code_is_no_deadlock() -> None:
    """A long replay activates code many times; each time counts as a sign of life."""

    async def scenario() -> None:
        executor = WorkflowThread(asyncio.get_running_loop(), "test", 0.1)
        count = 0
        pause = threading.Event()

        def many_steps() -> int:
            nonlocal count
            for _ in range(20):
                count += 1
                pause.wait(0.02)
            return count

        assert await executor.run(many_steps, lambda: count) == 20
        executor.close()

    asyncio.run(scenario())
