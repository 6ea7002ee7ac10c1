"""The watch: the exception lands in the watched call and nowhere else, whatever the moment; it costs little."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from types import FunctionType

import pytest

from perdure.worker import DeadlockError
from perdure.worker import _workflow_watch as watch
from perdure.worker._thread_cancel import raise_in_thread
from perdure.worker._workflow_watch import NO_PROGRESS, InterruptDeadlock, run_watched, watchdog


def _spin(seconds: float) -> None:
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        pass


def test_the_exception_never_lands_outside() -> None:
    """Calls that end just when the watchdog throws: the call fails, or nothing is noticed; nothing comes later.

    The stack before and after every call is plain Python with many places at which an exception could land.
    """
    numbers = random.Random(7)
    limit_s = 0.02
    outcomes = {True: 0, False: 0}
    until_s = time.perf_counter() + 6
    while time.perf_counter() < until_s and min(outcomes.values()) < 60:
        # Around the moment at which the watchdog throws, which it does at one of its looks after the limit.
        seconds = limit_s + numbers.uniform(-0.002, 0.012)
        try:
            run_watched(lambda seconds=seconds: _spin(seconds), NO_PROGRESS, limit_s)  # type: ignore[misc]
        except DeadlockError:
            outcomes[True] += 1
        else:
            outcomes[False] += 1
        _spin(0.0005)
    _spin(0.2)
    assert all(outcomes.values()), outcomes


def test_a_call_that_ends_while_the_watchdog_throws_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of the handshake is stretched, so that the call ends in the middle of each."""
    thrown = raise_in_thread
    for delay_before_s, delay_after_s in ((0.05, 0.0), (0.0, 0.05), (0.02, 0.02)):
        is_over = threading.Event()

        def slowly(
            thread_id: int,
            exception: type[BaseException],
            before_s: float = delay_before_s,
            after_s: float = delay_after_s,
            is_over: threading.Event = is_over,
        ) -> None:
            # The watchdog is at it: now the call ends, and only then the exception is thrown.
            is_over.set()
            _spin(before_s)
            thrown(thread_id, exception)
            _spin(after_s)

        monkeypatch.setattr(watch, "raise_in_thread", slowly)

        def until_the_watchdog_throws(is_over: threading.Event = is_over) -> None:
            while not is_over.is_set():
                pass

        with pytest.raises(DeadlockError):
            run_watched(until_the_watchdog_throws, NO_PROGRESS, 0.02)
        _spin(0.1)


def test_many_threads_at_once() -> None:
    """Each has a record of its own: who blocks is interrupted, who does not is left alone."""
    outcomes: list[str] = []

    def work(call: Callable[[], None], name: str) -> None:
        for _ in range(3):
            try:
                run_watched(call, NO_PROGRESS, 0.05)
                outcomes.append(f"{name} ended")
            except DeadlockError:
                outcomes.append(f"{name} failed")
            except InterruptDeadlock:
                outcomes.append(f"{name} hit")

    def for_ever() -> None:
        while True:
            pass

    threads = [threading.Thread(target=work, args=(for_ever, "bad")) for _ in range(2)]
    threads += [threading.Thread(target=work, args=(lambda: None, "good")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["bad failed"] * 6 + ["good ended"] * 6


def test_code_that_swallows_the_exception_is_interrupted_again() -> None:
    """Its result is of no use, even if it ends by itself in the end."""
    times = 0

    def stubborn() -> str:
        nonlocal times
        while times < 2:
            try:
                _spin(20)
            except BaseException:  # what such code does
                times += 1
        return "as if nothing had been"

    with pytest.raises(DeadlockError):
        run_watched(stubborn, NO_PROGRESS, 0.05)
    assert times == 2


def test_a_tasks_code_does_not_keep_it() -> None:
    """asyncio keeps other exceptions in the task or in the callback's log."""

    async def spin() -> None:
        _spin(20)

    def call() -> None:
        asyncio.run(spin())

    with pytest.raises(DeadlockError):
        run_watched(call, NO_PROGRESS, 0.05)


def test_what_the_call_raises_comes_through_untouched() -> None:
    error = ValueError("mine")

    def fails() -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        run_watched(fails, NO_PROGRESS, 5.0)
    assert caught.value is error


def test_a_debugger_on_the_stack_is_a_sign_of_life() -> None:
    """Someone who looks at a variable for a minute does not want the workflow task to fail."""
    stop = FunctionType(_spin.__code__, {"time": time, "__name__": "pdb"})
    run_watched(lambda: stop(0.5), NO_PROGRESS, 0.05)


def test_a_block_inside_c_code_is_logged_with_the_remedy(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a bounded rate: the interval doubles."""
    monkeypatch.setattr(watch, "_THROW_EVERY_S", 0.02)
    monkeypatch.setattr(watch, "_FIRST_REPEAT_S", 0.1)
    lock = threading.Lock()
    lock.acquire()

    def blocks_in_c() -> None:
        lock.acquire(timeout=1.5)

    with caplog.at_level(logging.ERROR), pytest.raises(DeadlockError):
        run_watched(blocks_in_c, NO_PROGRESS, 0.05)
    lines = [record.getMessage() for record in caplog.records]
    assert 2 <= len(lines) <= 5, lines
    assert "workflow_task_executor" in lines[0]
    assert "in blocks_in_c" in lines[0]


def test_the_watchdog_stands_still_while_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PARK_AFTER_S", 0.05)
    run_watched(lambda: None, NO_PROGRESS, 5.0)
    until_s = time.monotonic() + 10
    while not watchdog.is_parked and time.monotonic() < until_s:
        threading.Event().wait(0.01)
    assert watchdog.is_parked
    looks = watchdog.looks
    threading.Event().wait(0.3)
    assert watchdog.looks == looks
    with pytest.raises(DeadlockError):
        run_watched(lambda: _spin(20), NO_PROGRESS, 0.05)


def test_a_watched_call_costs_little() -> None:
    """Well under 2 us; the best of several rounds, for a busy machine."""
    rounds = []
    for _ in range(20):
        began_ns = time.perf_counter_ns()
        for _ in range(2000):
            run_watched(_nothing, NO_PROGRESS, 5.0)
        rounds.append((time.perf_counter_ns() - began_ns) / 2000)
    assert min(rounds) < 2000, rounds


def _nothing() -> None:
    return None
