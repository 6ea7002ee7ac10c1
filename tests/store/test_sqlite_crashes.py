"""The SQLite store under SIGKILL and with a torn log: nothing acknowledged is lost, and no unit is there in part."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from perdure.core.run.records import RunKey, RunWrite
from perdure.store.sqlite import SqliteStore
from tests.store.builders import ALL_EVENTS, NO_LIMIT, QUEUE, batch, record, run_key, task, write

KILLS = 25
CLIENTS = 8
ROOT = Path(__file__).resolve().parents[2]

WRITER = f"""
import asyncio, os, sys
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.commit_place import CommitPlace
from tests.store.test_sqlite_crashes import step

CommitPlace.is_loop = lambda place, size_bytes: sys.argv[2] == "loop"

async def client(store, pair):
    stored = await store.load_run(step(pair, 0)[0].run)
    version = stored.version if stored else 0
    while True:
        await store.commit(step(pair, version))
        version += 1
        os.write(1, f"{{pair}} {{version}}\\n".encode())

async def main():
    store = SqliteStore(sys.argv[1], {{"wal_autocheckpoint": "50"}})
    await store.open()
    await asyncio.gather(*(client(store, pair) for pair in range({CLIENTS})))

asyncio.run(main())
"""


def pair_of(pair: int) -> tuple[RunKey, RunKey]:
    """Two runs that are always written in one unit."""
    return run_key(pair * 2 + 1), run_key(pair * 2 + 2)


def step(pair: int, version: int) -> list[RunWrite]:
    """The unit that brings a pair of runs from `version` to the next."""
    return [
        write(
            run,
            version,
            events=(batch(version + 1, data=b"x" * 300),),
            tasks_put=(task(run, event_id=2, delivery_id=str(version + 1)),),
            visibility=record(run, start_ns=version + 1),
        )
        for run in pair_of(pair)
    ]


async def _check(path: Path, acknowledged: dict[int, int]) -> None:
    """Every acknowledged step is there, and of every step all or nothing."""
    store = SqliteStore(path)
    await store.open()
    shown = {
        row.run: row.record.start_time_ns
        for row in (await store.list_runs(QUEUE.namespace_id, None, 99, None)).rows
    }
    waiting = {found.run: int(found.delivery_id) for _, found in await store.read_tasks(QUEUE, None, 99)}
    for pair in range(CLIENTS):
        versions = set()
        for run in pair_of(pair):
            stored = await store.load_run(run)
            version = stored.version if stored else 0
            events = await store.read_history(run, 0, ALL_EVENTS, NO_LIMIT)
            assert [found.first_event_id for found in events] == list(range(1, version + 1))
            assert shown.get(run, 0) == waiting.get(run, 0) == version
            versions.add(version)
        assert len(versions) == 1, f"pair {pair} was written in part: {versions}"
        assert versions.pop() >= acknowledged.get(pair, 0), f"pair {pair} lost an acknowledged step"
    await store.close()


def _run_and_kill(path: Path, place: str, acknowledgements: int) -> dict[int, int]:
    """Starts a writer that commits on the `loop` or in the `thread`, kills it after so many acknowledgements, and
    tells the last one of each pair."""
    last: dict[int, int] = defaultdict(int)
    command = [sys.executable, "-c", WRITER, str(path), place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            for number, line in enumerate(process.stdout, start=1):
                if number == acknowledgements:
                    process.send_signal(signal.SIGKILL)
                pair, version = map(int, line.split())
                last[pair] = version
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    return last


@pytest.mark.timeout(300)
def test_killed_in_the_middle_of_commits_it_loses_nothing_acknowledged(tmp_path: Path) -> None:
    chooser = random.Random(20)
    path = tmp_path / "crash.db"
    acknowledged: dict[int, int] = {}
    for number in range(KILLS):
        place = ("loop", "thread")[number % 2]
        acknowledged |= _run_and_kill(path, place, chooser.randrange(1, 250))
        asyncio.run(_check(path, acknowledged))
    assert sum(acknowledged.values()) > KILLS


def test_a_log_torn_at_any_byte_gives_back_whole_groups_only(tmp_path: Path) -> None:
    """As after a power failure: any tail of the log may be missing or garbage; what is left is whole groups."""
    path = tmp_path / "torn.db"
    sizes: list[int] = []

    async def fill() -> tuple[bytes, bytes]:
        store = SqliteStore(path, {"wal_autocheckpoint": "0"})
        await store.open()
        log = path.with_name("torn.db-wal")
        for version in range(6):
            await asyncio.gather(*(store.commit(step(pair, version)) for pair in range(CLIENTS)))
            sizes.append(log.stat().st_size)
        files = path.read_bytes(), log.read_bytes()
        await store.close()
        return files

    data, log = asyncio.run(fill())
    chooser = random.Random(7)
    cuts = [size + change for size in sizes for change in (-1, 0)]
    cuts += [chooser.randrange(sizes[0], sizes[-1]) for _ in range(20)]
    for number, cut in enumerate(cuts):
        torn = tmp_path / f"torn-{number}.db"
        torn.write_bytes(data)
        garbage = chooser.randbytes(min(5_000, len(log) - cut)) if number % 2 else b""
        torn.with_name(f"{torn.name}-wal").write_bytes(log[:cut] + garbage)
        whole_groups = sum(size <= cut for size in sizes)
        asyncio.run(_check(torn, dict.fromkeys(range(CLIENTS), whole_groups)))
        asyncio.run(_check_versions(torn, whole_groups))


async def _check_versions(path: Path, version: int) -> None:
    """All pairs are at one version: they were written in one group."""
    store = SqliteStore(path)
    await store.open()
    for pair in range(CLIENTS):
        stored = await store.load_run(pair_of(pair)[0])
        assert (stored.version if stored else 0) == version
    await store.close()
