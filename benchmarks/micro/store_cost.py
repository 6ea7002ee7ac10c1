"""What the SQLite store costs: commits per second and CPU per write of a typical workflow, at several concurrencies.

Each simulated workflow makes the six commits of a run with one activity (start, task started, activity scheduled,
activity started, activity completed, closed) with realistic sizes; `--closed` and `--open` fill the database first, so
that the same numbers can be read on a large one. CPU is of the whole process, the hand-over to asyncio included.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

from perdure.core.run.records import (
    EventBatch,
    ItemChange,
    QueueKey,
    RunKey,
    RunWrite,
    Task,
    TaskKey,
    TaskKind,
    VisibilityRecord,
)
from perdure.store.sqlite import SqliteStore

NAMESPACE = "0193a1b2-0000-7000-8000-000000000001"
HEADER = os.urandom(700)
EVENT = os.urandom(350)
ITEM = os.urandom(500)
SECOND_NS = 1_000_000_000


def run_key(number: int) -> RunKey:
    """A run with ids as the server makes them: time-ordered run ids, the client's own workflow ids."""
    return RunKey(
        NAMESPACE,
        f"order-{number * 2654435761 % (1 << 32):08x}",
        f"0193a1b2-{number:012x}-7000-8000-00000000",
    )


def visibility(run: RunKey, number: int, *, closed: bool) -> VisibilityRecord:
    """The list row of a run without search attributes."""
    start_ns = number * SECOND_NS
    return VisibilityRecord(
        workflow_type="Order",
        task_queue="orders",
        status=2 if closed else 1,
        start_time_ns=start_ns,
        execution_time_ns=start_ns,
        close_time_ns=start_ns + SECOND_NS if closed else None,
        history_length=11,
        history_size_bytes=4000,
        state_transition_count=6,
        parent_workflow_id=None,
        parent_run_id=None,
        root_workflow_id=run.workflow_id,
        root_run_id=run.run_id,
        memo=b"",
        search_attributes=b"",
        attributes={},
    )


def workflow(number: int, *, backlog: bool = False) -> list[RunWrite]:
    """The six writes of one workflow with one activity.

    Args:
        number: which workflow.
        backlog: its tasks become rows, as if no worker were waiting.
    """
    run = run_key(number)
    wakeup_ns = (number + 10) * SECOND_NS
    queue = QueueKey(NAMESPACE, "orders", TaskKind.WORKFLOW)
    task_key = TaskKey(TaskKind.WORKFLOW, 2)
    task = Task(run, task_key, queue, number * SECOND_NS, delivery_id="1")
    return [
        RunWrite(
            run,
            0,
            1,
            HEADER,
            wakeup_ns,
            events=(EventBatch(1, 2, EVENT * 2),),
            visibility=visibility(run, number, closed=False),
            tasks_put=(task,) if backlog else (),
            becomes_current=True,
            start_request_id="5e3ac7e5-f0b1-47a3-9c6e-4d1e2f7a9b00",
            first_run_id=run.run_id,
        ),
        RunWrite(
            run,
            1,
            1,
            HEADER,
            wakeup_ns,
            events=(EventBatch(3, 3, EVENT),),
            tasks_deleted=(task_key,) if backlog else (),
        ),
        RunWrite(
            run,
            2,
            1,
            HEADER,
            wakeup_ns,
            events=(EventBatch(4, 5, EVENT * 2),),
            items=(ItemChange("activity", "5", ITEM),),
        ),
        RunWrite(run, 3, 1, HEADER, wakeup_ns, items=(ItemChange("activity", "5", ITEM),)),
        RunWrite(
            run,
            4,
            1,
            HEADER,
            wakeup_ns,
            events=(EventBatch(6, 9, EVENT * 4),),
            items=(ItemChange("activity", "5", None),),
        ),
        RunWrite(
            run,
            5,
            2,
            HEADER,
            wakeup_ns + 86_400 * SECOND_NS,
            events=(EventBatch(10, 11, EVENT * 2),),
            visibility=visibility(run, number, closed=True),
        ),
    ]


async def fill(store: SqliteStore, first: int, count: int, *, closed: bool) -> None:
    """Writes `count` runs, whole workflows in few commits."""
    for start in range(first, first + count, 2_000):
        for part in (slice(0, 1), slice(1, 6)):
            if part.start and not closed:
                continue
            writes = [workflow(number)[part] for number in range(start, min(start + 2_000, first + count))]
            for step in zip(*writes, strict=True):
                await asyncio.gather(*(store.commit([write]) for write in step))


async def measure(store: SqliteStore, first: int, concurrency: int, seconds: float, backlog: bool) -> int:
    """Runs workflows for `seconds` and prints one line. Returns how many were done."""
    numbers = iter(range(first, 1 << 40))
    until = time.perf_counter() + seconds
    latencies: list[float] = []
    done = 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < until:
            for write in workflow(next(numbers), backlog=backlog):
                started = time.perf_counter()
                await store.commit([write])
                latencies.append(time.perf_counter() - started)
            done += 1

    started, cpu_started = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    latencies.sort()
    kind = "backlog" if backlog else ""
    print(
        f"concurrency {concurrency:>3} {kind:<7}: {len(latencies) / elapsed:>7,.0f} commits/s, "
        f"{cpu / len(latencies) * 1e6:>5.0f} us CPU each, latency ms p50 {statistics.median(latencies) * 1e3:.2f} "
        f"p99 {latencies[int(len(latencies) * 0.99)] * 1e3:.2f} max {latencies[-1] * 1e3:.1f}"
    )
    return done


async def timed_reads(store: SqliteStore, count: int) -> None:
    """Prints what reads cost, by the kind of read."""
    runs = [run_key(number) for number in range(0, count, max(1, count // 500))]
    for name, read in (
        ("load_run", lambda run: store.load_run(run)),
        ("current_run", lambda run: store.current_run(NAMESPACE, run.workflow_id)),
        ("read_history", lambda run: store.read_history(run, 1, 1 << 20, 1 << 20)),
        ("due_wakeups", lambda run: store.due_wakeups(SECOND_NS * 1000, None, 10)),
        ("list_runs(20)", lambda run: store.list_runs(NAMESPACE, None, 20, None)),
        ("count_runs", lambda run: store.count_runs(NAMESPACE, None, None)),
        ("count by status", lambda run: store.count_runs(NAMESPACE, None, "ExecutionStatus")),
    ):
        repeats = runs[:5] if name.startswith("count") else runs
        started = time.perf_counter()
        for run in repeats:
            await read(run)
        print(f"{name:<16} {(time.perf_counter() - started) / len(repeats) * 1e6:>9,.0f} us")


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Fills, measures and reports."""
    pragmas = dict(pragma.split("=") for pragma in arguments.pragma)
    store = SqliteStore(folder / "bench.db", pragmas)
    await store.open()
    first = 0
    if arguments.closed or arguments.open:
        started = time.perf_counter()
        await fill(store, 0, arguments.closed, closed=True)
        await fill(store, arguments.closed, arguments.open, closed=False)
        first = arguments.closed + arguments.open
        print(f"filled with {first:,} runs in {time.perf_counter() - started:.0f} s")
    for concurrency in arguments.concurrency:
        for backlog in (False, True) if arguments.backlog else (False,):
            first += await measure(store, first, concurrency, arguments.seconds, backlog) + concurrency
    await timed_reads(store, first)
    size_mb = (folder / "bench.db").stat().st_size / 1e6
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"database {size_mb:,.0f} MB, process at most {memory_mb:,.0f} MB")
    await store.close()


def main() -> None:
    """Runs the benchmark in a scratch folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where to make the scratch database")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--closed", type=int, default=0, help="closed runs to fill the database with")
    parser.add_argument("--open", type=int, default=0, help="open runs to fill the database with")
    parser.add_argument("--backlog", action="store_true", help="also with tasks that become rows")
    parser.add_argument("--pragma", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="perdure-store-") as scratch:
        asyncio.run(run(arguments, Path(scratch)))


if __name__ == "__main__":
    main()
