"""What the guards of workflow code cost everybody else in the process: calls outside workflow code, before and after.

    python -m benchmarks.micro.guards

Lives here: one measurement. May not: expectations.
"""

from __future__ import annotations

import datetime
import os
import random
import threading
import time
import uuid
from collections.abc import Callable

from perdure.worker.workflow_code import guards

CALLS = 20_000
ROUNDS = 7
_EVENT = threading.Event()
FUNCTIONS: dict[str, Callable[[], object]] = {
    "time.time": lambda: time.time(),
    "time.monotonic": lambda: time.monotonic(),
    "random.random": lambda: random.random(),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "datetime.now": lambda: datetime.datetime.now(),
    "os.urandom": lambda: os.urandom(8),
    "os.stat": lambda: os.stat("."),
    "os.environ[...]": lambda: os.environ["PATH"],
    "open": lambda: open(os.devnull).close(),
    "time.sleep(0)": lambda: time.sleep(0),
    "Event.wait(0)": lambda: _EVENT.wait(0),
}


def _nanoseconds(function: Callable[[], object]) -> float:
    """The fastest round's nanoseconds per call."""
    best = float("inf")
    clock = time.process_time_ns
    for _ in range(ROUNDS):
        start = clock()
        for _ in range(CALLS):
            function()
        best = min(best, (clock() - start) / CALLS)
    return best


def main() -> None:
    """Prints a row per function: nanoseconds per call without guards and with them."""
    before = {name: _nanoseconds(function) for name, function in FUNCTIONS.items()}
    guards.install()
    after = {name: _nanoseconds(function) for name, function in FUNCTIONS.items()}
    print(f"{'ns per call':18}{'without':>9}{'with':>9}")
    for name in FUNCTIONS:
        print(f"{name:18}{before[name]:9.0f}{after[name]:9.0f}")


if __name__ == "__main__":
    main()
