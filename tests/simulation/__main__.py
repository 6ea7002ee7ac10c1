"""`python -m tests.simulation`: runs seeds, says how fast, and what to do with one that fails."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.simulation import hints
from tests.simulation.report import describe_failure
from tests.simulation.world import run_seed


def main() -> int:
    """Runs what the arguments say. Returns the exit code: 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run (default 200)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--trace", action="store_true", help="print the whole trace")
    parser.add_argument("--reached", action="store_true", help="print how often each rare situation occurred")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    parser.add_argument(
        "--find-hints", action="store_true", help="find the seeds that tests should try first"
    )
    arguments = parser.parse_args()
    if arguments.find_hints:
        for line in hints.find():
            print(line, flush=True)
        return 0
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    reached: Counter[str] = Counter()
    failures = commits = 0
    simulated_s = 0.0
    began, began_cpu = time.perf_counter(), time.process_time()
    for seed in seeds:
        result = run_seed(seed, keep_trace=arguments.trace)
        reached.update(result.reached)
        commits += result.commits
        simulated_s += result.simulated_s
        if arguments.trace:
            print("\n".join(result.trace.lines))
        if result.error is not None:
            failures += 1
            if arguments.keep_going:
                print(f"seed {seed}: {type(result.error).__name__}: {result.error}", flush=True)
                continue
            traceback.print_exception(result.error)
            print(describe_failure(result))
            break
    cpu_s = time.process_time() - began_cpu
    took_s = time.perf_counter() - began
    count = len(seeds) if not failures or arguments.keep_going else seeds.index(seed) + 1
    print(
        f"{count} seeds, {failures} failed, {took_s:.1f} s: {count / took_s:.2f} seeds/s, "
        f"{count / cpu_s:.2f} per CPU second, {commits} commits, "
        f"{simulated_s / 3600:.1f} simulated hours"
    )
    if arguments.reached:
        for name, times in sorted(reached.items()):
            print(f"{times:8} {name}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
