"""The closed loop that drives every system's program, and its command line."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.measure import Window

STEPS = {"echo": 1, "ten": 10}
"""Steps (activities) of one workflow, by workload."""


def arguments(description: str | None) -> argparse.Namespace:
    """The command line that every program takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--address", required=True, help="of the server, or of the database")
    parser.add_argument("--workload", choices=sorted(STEPS), default="echo")
    parser.add_argument("--concurrency", type=int, default=50, help="workflows in flight")
    parser.add_argument("--warmup-s", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the measured window")
    parser.add_argument("--server-pid", type=int, help="process whose CPU and memory are reported")
    return parser.parse_args()


async def drive(run_one: Callable[[str, int], Awaitable[str]], options: argparse.Namespace) -> None:
    """Keeps workflows in flight, measures the window, prints the outcome as JSON.

    Args:
        run_one: starts a workflow with this id and number of steps and returns its result.
        options: of the command line.
    """
    steps = STEPS[options.workload]
    window, stopping = Window(options.workload, options.concurrency, options.server_pid), asyncio.Event()
    unique = f"{options.workload}-{time.time_ns()}"

    async def one_after_another(number: int) -> None:
        count = 0
        while not stopping.is_set():
            count += 1
            began = time.perf_counter()
            try:
                result = await run_one(f"{unique}-{number}-{count}", steps)
            except Exception as error:  # whatever it is, the measurement failed, and the report says so
                window.error(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.1)
                continue
            if result != "charged A-1":
                window.error(f"wrong result {result!r}")
            window.completed(began)

    loops = [asyncio.create_task(one_after_another(number)) for number in range(options.concurrency)]
    await asyncio.sleep(options.warmup_s)
    window.open()
    await asyncio.sleep(options.seconds)
    outcome = window.close()
    stopping.set()
    await asyncio.gather(*loops)
    outcome.errors, outcome.error_samples = window.errors, window.error_samples
    json.dump(outcome.as_json(), sys.stdout)
    print()
