"""What the guards of workflow code cost: calls outside workflow code, before and after, and calls inside of it.

    python -m benchmarks.micro.guards

The last column is what a call costs in workflow code: the run's own answer, or a refusal with its message.
Lives here: one measurement. May not: expectations.
"""

from __future__ import annotations

import datetime
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perdure.worker.workflow_code import guards

CALLS = 5_000
ROUNDS = 30
_EVENT = threading.Event()
_LOCK = threading.Lock()


def _entered() -> None:
    with _LOCK:
        pass


FUNCTIONS: dict[str, Callable[[], object]] = {
    "time.time": lambda: time.time(),
    "time.monotonic": lambda: time.monotonic(),
    "random.random": lambda: random.random(),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "datetime.now": lambda: datetime.datetime.now(),
    "random.randint": lambda: random.randint(1, 6),
    "threading.Lock": _entered,
    "os.urandom": lambda: os.urandom(8),
    "os.stat": lambda: os.stat("."),
    "os.environ[...]": lambda: os.environ["PATH"],
    "open": lambda: open(os.devnull).close(),
    "time.sleep(0)": lambda: time.sleep(0),
    "Event.wait(0)": lambda: _EVENT.wait(0),
}


def _nanoseconds(function: Callable[[], object], clock: Callable[[], int] = time.process_time_ns) -> float:
    """The fastest round's nanoseconds per call; the clock is bound before the guards refuse it."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = clock()
        for _ in range(CALLS):
            function()
        best = min(best, (clock() - start) / CALLS)
    return best


class _Run:
    """A running workflow as guards see it."""

    permits = guards.Permits()

    def __init__(self) -> None:
        self._random = random.Random(7)

    def time_ns(self) -> int:
        return 1_700_000_000_123_456_789

    def random(self) -> random.Random:
        return self._random


class _Flow:
    """Makes this module one of a workflow."""


def _inside(function: Callable[[], object]) -> tuple[float, bool]:
    """Nanoseconds per call in workflow code, and whether it is refused there."""

    def caught() -> None:
        try:
            function()
        except guards.RestrictedWorkflowAccessError:
            refused.append(None)

    refused: list[None] = []
    with _workflow_code():
        caught()
    is_refused = bool(refused)
    with _workflow_code():
        return _nanoseconds(caught if is_refused else function), is_refused


@contextmanager
def _workflow_code() -> Iterator[None]:
    guards.enter(_Run())
    try:
        yield
    finally:
        guards.leave()


def main() -> None:
    """Prints a row per function: nanoseconds per call without guards and with them."""
    before = {name: _nanoseconds(function) for name, function in FUNCTIONS.items()}
    guards.install()
    after = {name: _nanoseconds(function) for name, function in FUNCTIONS.items()}
    guards.watch(_Flow)
    inside = {name: _inside(function) for name, function in FUNCTIONS.items()}
    print(f"{'ns per call':18}{'without':>9}{'outside':>9}{'inside':>9}")
    for name in FUNCTIONS:
        nanoseconds, is_refused = inside[name]
        print(
            f"{name:18}{before[name]:9.0f}{after[name]:9.0f}{nanoseconds:9.0f}{' refused' if is_refused else ''}"
        )


if __name__ == "__main__":
    main()
