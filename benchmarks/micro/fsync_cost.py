"""What a durable SQLite commit costs here: WAL commits per second by rows per transaction and `synchronous`.

The ceiling of a server that commits every transition alone, and the gain of committing in groups.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from pathlib import Path

ROW_BYTES = 400
ROWS_PER_COMMIT = (1, 20, 100)


def commits_per_second(path: Path, synchronous: str, rows: int, seconds: float) -> tuple[float, float]:
    """Commit transactions of `rows` inserts for `seconds`; return commits per second and CPU µs each."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS event (run INTEGER, number INTEGER, body BLOB, PRIMARY KEY (run, number))"
    )
    body = os.urandom(ROW_BYTES)
    run = connection.execute("SELECT coalesce(max(run), 0) FROM event").fetchone()[0]
    commits, started, cpu_started = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        run += 1
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO event VALUES (?, ?, ?)", [(run, number, body) for number in range(rows)]
        )
        connection.execute("COMMIT")
        commits += 1
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    connection.close()
    return commits / elapsed, cpu / commits * 1e6


def fsyncs_per_second(path: Path, seconds: float) -> float:
    """Append 4 KiB and fdatasync, as the bare floor below any database."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    page, count, started = os.urandom(4096), 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        os.write(descriptor, page)
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Print one line for each folder, `synchronous` level and transaction size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", default=[tempfile.gettempdir(), "."])
    parser.add_argument("--seconds", type=float, default=1.5)
    arguments = parser.parse_args()
    print(f"sqlite {sqlite3.sqlite_version}, rows of {ROW_BYTES} bytes")
    for folder in arguments.folders:
        with tempfile.TemporaryDirectory(dir=folder, prefix="perdure-fsync-") as scratch:
            bare = fsyncs_per_second(Path(scratch) / "bare", arguments.seconds)
            print(f"{folder}: bare append + fdatasync {bare:,.0f}/s ({1e3 / bare:.2f} ms)")
            for synchronous in ("FULL", "NORMAL"):
                for rows in ROWS_PER_COMMIT:
                    path = Path(scratch) / f"{synchronous}-{rows}.db"
                    rate, cpu_us = commits_per_second(path, synchronous, rows, arguments.seconds)
                    print(
                        f"{folder}: synchronous={synchronous:<6} {rows:>3} rows each: {rate:>8,.0f} commits/s "
                        f"{rate * rows:>9,.0f} rows/s, {1e3 / rate:6.3f} ms and {cpu_us:5.0f} us CPU each"
                    )


if __name__ == "__main__":
    main()
