"""What lists and counts with filters cost over many runs in SQLite, and what the index of search attributes costs.

The runs are written with the store's own statements in large transactions; nine in ten are closed, and each has a
customer (a thousand of them), a colour (three, uneven), an amount, tags and a note. Times are of the whole call, the
best of three; the page is 100 runs.

    python -m benchmarks.micro.visibility_cost --runs 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from benchmarks.micro.store_cost import HEADER, NAMESPACE, run_key, visibility, workflow
from perdure.core.run.records import AttributeValue, RunWrite, Text
from perdure.core.visibility import AttributeType, parse_query
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.apply import Applier

PER_TRANSACTION = 20_000
PAGE = 100
ROUNDS = 3
ATTRIBUTES: Mapping[str, AttributeType] = {
    "Customer": AttributeType.KEYWORD,
    "Colour": AttributeType.KEYWORD,
    "Amount": AttributeType.INT,
    "Tags": AttributeType.KEYWORD_LIST,
    "Note": AttributeType.TEXT,
}
FILTERS = (
    "",
    "ExecutionStatus = 'Running'",
    "ExecutionStatus = 'Failed'",
    "WorkflowType = 'Refund'",
    "WorkflowType = 'Order' AND ExecutionStatus = 'Completed'",
    "WorkflowId = 'order-00000000'",
    "WorkflowId STARTS_WITH 'order-0000'",
    "Customer = 'customer-7'",
    "Customer IN ('customer-7', 'customer-8') AND ExecutionStatus = 'Running'",
    "Colour = 'red'",
    "Colour = 'red' AND Customer = 'customer-7'",
    "Colour = 'blue' AND ExecutionStatus = 'Running'",
    "Amount BETWEEN 100 AND 1000",
    "Amount > 999000 OR Customer STARTS_WITH 'customer-99'",
    "Tags IN ('fast', 'rare')",
    "Note = 'urgent'",
    "HistoryLength > 100 AND Customer = 'customer-7'",
)


def attributes(number: int) -> dict[str, AttributeValue]:
    """The search attributes of a run."""
    return {
        "Customer": f"customer-{number * 7919 % 1000}",
        "Colour": "red" if number % 10 == 0 else "blue" if number % 10 < 4 else "green",
        "Amount": number * 104_729 % 1_000_000,
        "Tags": ["fast", "retry"] if number % 50 == 0 else ["rare"] if number % 5_000 == 1 else ["slow"],
        "Note": Text("urgent parcel" if number % 700 == 0 else "ordinary parcel"),
    }


def fill(path: Path, runs: int, namespace_id: str = NAMESPACE) -> float:
    """Writes the runs into a file that a store has made. Returns seconds."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -400000")
    applier = Applier(connection, 1)
    started = time.perf_counter()
    for first in range(0, runs, PER_TRANSACTION):
        connection.execute("BEGIN IMMEDIATE")
        for number in range(first, min(first + PER_TRANSACTION, runs)):
            run = run_key(number)._replace(namespace_id=namespace_id)
            is_open = number % 10 == 9
            row = replace(
                visibility(run, number, closed=not is_open),
                attributes=attributes(number),
                workflow_type="Refund" if number % 1_000 == 3 else "Order",
                status=1 if is_open else 3 if number % 300 == 0 else 2,
            )
            write = RunWrite(
                run, 0, row.status, HEADER[:60], None, visibility=row, becomes_current=True, first_run_id="f"
            )
            applier.commit([write])
        connection.execute("COMMIT")
    applier.disconnect()
    connection.close()
    return time.perf_counter() - started


async def read(path: Path) -> None:
    """Prints a line for each filter."""
    store = SqliteStore(path)
    await store.open()
    print(f"{'filter':75} {'runs':>8} {'first page':>11} {'count':>9} {'by status':>10}")
    for text in FILTERS:
        where = parse_query(text, ATTRIBUTES).filter
        found = [
            await timed(store, lambda where=where: store.list_runs(NAMESPACE, where, PAGE, None)),
            await timed(store, lambda where=where: store.count_runs(NAMESPACE, where, None)),
            await timed(store, lambda where=where: store.count_runs(NAMESPACE, where, "ExecutionStatus")),
        ]
        ((_, number),) = await store.count_runs(NAMESPACE, where, None)
        print(f"{text or '(all)':75} {number:8} {found[0]:8.1f} ms {found[1]:6.1f} ms {found[2]:7.1f} ms")
    await store.close()


async def timed(store: SqliteStore, act: object) -> float:
    """Milliseconds, the best of some rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        await act()  # type: ignore[operator]
        times.append(time.perf_counter() - started)
    return min(times) * 1_000


def writing(count: int, given: Mapping[str, AttributeValue]) -> float:
    """Median microseconds of CPU that all six commits of a workflow cost in the applier, in transactions of 50."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "write.db"
        asyncio.run(_make(path))
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        applier = Applier(connection, 1)
        times = []
        for first in range(0, count, 50):
            steps = [workflow(number) for number in range(first, first + 50)]
            started = time.process_time()
            for step in zip(*steps, strict=True):
                connection.execute("BEGIN IMMEDIATE")
                for write in step:
                    if write.visibility is not None and given:
                        write = replace(write, visibility=replace(write.visibility, attributes=dict(given)))
                    applier.commit([write])
                connection.execute("COMMIT")
            times.append((time.process_time() - started) / 50 * 1e6)
        applier.disconnect()
        connection.close()
    return statistics.median(times)


async def _make(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.close()


def main() -> None:
    """Entry of `python -m benchmarks.micro.visibility_cost`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--file", type=Path, help="keep the database here, or use the one that is here")
    parser.add_argument(
        "--writes", type=int, default=5_000, help="workflows to write for the cost of writing"
    )
    options = parser.parse_args()
    if options.writes:
        for name, given in (("none", {}), ("one keyword", {"Customer": "c"}), ("five", attributes(7))):
            print(f"search attributes: {name:12} {writing(options.writes, given):6.1f} µs for each workflow")
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "runs.db"
        if not path.exists():
            asyncio.run(_make(path))
            print(
                f"{options.runs} runs written in {fill(path, options.runs):.0f} s, {path.stat().st_size >> 20} MB"
            )
        asyncio.run(read(path))


if __name__ == "__main__":
    main()
