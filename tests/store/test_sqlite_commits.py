"""Group commit of the SQLite store: isolation within a group, full disks, I/O errors, programs that hold the file.

Each test runs with COMMIT on the loop's thread and with COMMIT in its own.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from perdure.core.errors import StoreUnavailableError, VersionConflictError
from perdure.core.run.records import ItemChange, RunWrite
from perdure.store.protocol import ListPage
from perdure.store.sqlite import SqliteStore, lists, queries, writer
from perdure.store.sqlite.commit_place import CommitPlace
from tests.store.builders import NAMESPACE, QUEUE, batch, dump, record, run_key, task, write

LIMIT_S = 20


class Connection(sqlite3.Connection):
    """A connection that counts commits and fails where a test says."""

    log: ClassVar[list[str]] = []
    failing: ClassVar[dict[str, list[str]]] = {}
    """Statement to the names of the errors that its next executions raise."""
    interference: ClassVar[dict[str, Callable[[], object]]] = {}
    """Statement to what happens once, right before its next execution."""
    disk: ClassVar[threading.Event] = threading.Event()
    """Commits of other threads than the test's wait for it."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        Connection.log.append(sql)
        if sql == "COMMIT" and threading.current_thread() is not threading.main_thread():
            Connection.disk.wait(20)
        if sql in Connection.interference:
            Connection.interference.pop(sql)()
        if Connection.failing.get(sql):
            name = Connection.failing[sql].pop(0)
            error = sqlite3.OperationalError(f"injected {name}")
            error.sqlite_errorname = name
            error.sqlite_errorcode = getattr(sqlite3, name)
            raise error
        return super().execute(sql, *parameters)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Connection]:
    """Writing connections that are watched."""
    Connection.log.clear()
    Connection.failing.clear()
    Connection.interference.clear()
    Connection.disk.set()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Connection))
    return Connection


@pytest.fixture(params=["loop", "thread"], autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where every COMMIT is tried first."""
    is_loop = request.param == "loop"
    monkeypatch.setattr(CommitPlace, "is_loop", lambda place, size_bytes: is_loop)
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "commits.db")


IN_THE_THREAD = pytest.mark.parametrize("place", ["thread"], indirect=True)


async def _versions(store: SqliteStore, numbers: range) -> list[int]:
    loaded = [await store.load_run(run_key(number)) for number in numbers]
    return [found.version if found else 0 for found in loaded]


# --- groups


async def test_units_that_are_ready_together_share_one_commit(
    watched: type[Connection], store: SqliteStore
) -> None:
    watched.log.clear()
    await asyncio.gather(*(store.commit([write(run_key(number))]) for number in range(100)))
    assert watched.log.count("COMMIT") == 1


async def test_a_group_is_bounded_by_count(watched: type[Connection], store: SqliteStore) -> None:
    watched.log.clear()
    units = writer.MAX_GROUP_JOBS * 2 + 1
    await asyncio.gather(*(store.commit([write(run_key(number))]) for number in range(units)))
    assert watched.log.count("COMMIT") == 3


async def test_a_group_is_bounded_by_bytes(watched: type[Connection], store: SqliteStore) -> None:
    watched.log.clear()
    data = b"x" * (writer.MAX_GROUP_BYTES // 2)
    units = [[write(run_key(number), events=(batch(1, data=data),))] for number in range(3)]
    await asyncio.gather(*map(store.commit, units))
    assert watched.log.count("COMMIT") == 3


async def test_the_queue_is_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUED_JOBS", 5)
    commits = (store.commit([write(run_key(number))]) for number in range(9))
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    assert outcomes[:5] == [None] * 5
    assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes[5:])
    await store.commit([write(run_key(50))])


async def test_units_of_a_group_see_what_the_earlier_ones_of_the_group_wrote(
    watched: type[Connection], store: SqliteStore
) -> None:
    watched.log.clear()
    first, stale, second = [write(run_key(1))], [write(run_key(1))], [write(run_key(1), 1, header=b"second")]
    outcomes = await asyncio.gather(*map(store.commit, [first, stale, second]), return_exceptions=True)
    assert watched.log.count("COMMIT") == 1
    assert [type(outcome) for outcome in outcomes] == [type(None), VersionConflictError, type(None)]
    stored = await store.load_run(run_key(1))
    assert stored is not None
    assert stored.header == b"second"


UNBINDABLE = write(run_key(3), header="not bytes \ud800")
NOT_FINITE = [
    write(run_key(3), visibility=record(run_key(3), attributes={"Share": float(number)}))
    for number in ("nan", "inf")
]
"""No client can set these; whatever keeps them would have to find them again when their attribute is removed."""


@pytest.mark.parametrize(
    "bad",
    [UNBINDABLE, write(run_key(3), wakeup_ns=1 << 70), *NOT_FINITE],
    ids=["type", "range", "nan", "infinity"],
)
async def test_a_unit_the_driver_cannot_write_fails_alone(store: SqliteStore, bad: RunWrite) -> None:
    """Its group is rolled back and done again unit by unit."""
    units = [[write(run_key(number))] if number != 3 else [write(run_key(33)), bad] for number in range(6)]
    units.append([write(run_key(0))])
    outcomes = await asyncio.gather(*map(store.commit, units), return_exceptions=True)
    assert isinstance(outcomes[3], (TypeError, ValueError, OverflowError, sqlite3.Error))
    assert isinstance(outcomes[6], VersionConflictError)
    assert [outcomes[place] for place in (0, 1, 2, 4, 5)] == [None] * 5
    assert await _versions(store, range(6)) == [1, 1, 1, 0, 1, 1]
    assert await store.load_run(run_key(33)) is None
    await store.commit([write(run_key(0), 1)])


# --- disks


async def test_a_full_disk_fails_the_group_and_heals_when_there_is_space(
    watched: type[Connection], store: SqliteStore
) -> None:
    await store.commit([write(run_key(1))])
    before = await dump(store, [run_key(1)])
    watched.failing["COMMIT"] = ["SQLITE_FULL"]
    outcomes = await asyncio.gather(
        store.commit([write(run_key(1), 1)]), store.commit([write(run_key(2))]), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailableError] * 2
    assert "SQLITE_FULL" in str(outcomes[0])
    assert await dump(store, [run_key(1)]) == before
    await asyncio.gather(store.commit([write(run_key(1), 1)]), store.commit([write(run_key(2))]))
    assert await _versions(store, range(1, 3)) == [2, 1]


async def test_a_database_that_reaches_its_size_limit_still_reads_and_takes_what_fits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "small.db", {"max_page_count": "75"})
    await store.open()
    await store.commit([write(run_key(1))])
    units = [[write(run_key(number), events=(batch(1, data=b"x" * 100_000),))] for number in (2, 3, 4)]
    outcomes = await asyncio.gather(
        *map(store.commit, units), store.commit([write(run_key(1), 1)]), return_exceptions=True
    )
    assert outcomes[0] is None, "done again by itself, the first unit fits"
    assert [type(outcome) for outcome in outcomes[1:3]] == [StoreUnavailableError] * 2
    assert outcomes[3] is None
    assert await _versions(store, range(1, 5)) == [2, 1, 0, 0]
    await store.delete_run(run_key(2))
    await store.commit(units[1])
    assert await _versions(store, range(1, 5)) == [2, 0, 1, 0]
    await store.close()


@contextmanager
def _files_at_most(size_bytes: int) -> Iterator[None]:
    """Makes the kernel refuse to let any file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_when_the_kernel_refuses_to_write_nothing_is_told_until_a_fence_is_written(
    store: SqliteStore, tmp_path: Path
) -> None:
    """A real I/O error: the log cannot grow, so no fence can be written either, and the store admits that."""
    await store.commit([write(run_key(1))])
    log_size = (tmp_path / "commits.db-wal").stat().st_size
    big = b"x" * 300_000
    with _files_at_most(log_size):
        outcomes = await asyncio.gather(
            store.commit([write(run_key(1), 1, header=big)]),
            store.commit([write(run_key(2), header=big)]),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailableError] * 2
        with pytest.raises(StoreUnavailableError):
            await store.load_run(run_key(1))
        with pytest.raises(StoreUnavailableError):
            await store.list_runs(NAMESPACE, None, 5, None)
        with pytest.raises(StoreUnavailableError):
            await store.commit([write(run_key(1), 1)])
    assert await _versions(store, range(1, 3)) == [1, 0]
    await store.commit([write(run_key(1), 1)])
    assert await _versions(store, range(1, 3)) == [2, 0]


async def test_after_a_failed_sync_the_connection_is_replaced_and_a_fence_committed(
    watched: type[Connection], store: SqliteStore
) -> None:
    await store.commit([write(run_key(1))])
    watched.failing["COMMIT"] = ["SQLITE_IOERR_FSYNC"]
    watched.log.clear()
    with pytest.raises(StoreUnavailableError, match="SQLITE_IOERR_FSYNC"):
        await store.commit([write(run_key(1), 1)])
    assert watched.log.count("COMMIT") == 2
    assert any("fence" in sql or "meta" in sql for sql in watched.log)
    assert await _versions(store, range(1, 2)) == [1]
    await store.commit([write(run_key(1), 1)])


async def test_until_a_fence_succeeds_every_call_tries_one_and_fails(
    watched: type[Connection], store: SqliteStore
) -> None:
    await store.commit([write(run_key(1))])
    watched.failing["COMMIT"] = ["SQLITE_IOERR_FSYNC"] * 4
    with pytest.raises(StoreUnavailableError):
        await store.commit([write(run_key(1), 1)])
    with pytest.raises(StoreUnavailableError):
        await store.load_run(run_key(1))
    with pytest.raises(StoreUnavailableError):
        await store.commit([write(run_key(1), 1)])
    assert await _versions(store, range(1, 2)) == [1]
    await store.commit([write(run_key(1), 1)])


async def test_a_failed_rollback_replaces_the_connection(
    watched: type[Connection], store: SqliteStore
) -> None:
    await store.commit([write(run_key(1))])
    watched.failing["COMMIT"] = ["SQLITE_FULL"]
    watched.failing["ROLLBACK"] = ["SQLITE_IOERR_WRITE"]
    with pytest.raises(StoreUnavailableError):
        await store.commit([write(run_key(1), 1)])
    assert await _versions(store, range(1, 2)) == [1]
    await store.commit([write(run_key(1), 1)])


@IN_THE_THREAD
async def test_a_defect_in_the_commit_thread_fails_its_callers_and_not_the_store(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(writer.GroupWriter, "_settle", broken)
        with pytest.raises(StoreUnavailableError, match="a defect"):
            await store.commit([write(run_key(1))])
    await store.close()


# --- other programs


@pytest.mark.parametrize("becomes", ["deleted", "moved", "replaced"])
async def test_nothing_is_acknowledged_that_goes_into_a_file_that_nobody_finds_again(
    watched: type[Connection], store: SqliteStore, tmp_path: Path, becomes: str
) -> None:
    """A deleted file takes commits, and loses them with the last descriptor. One that is put back serves again."""
    path, aside = store._path, tmp_path / "aside.db"
    await store.commit([write(run_key(1))])
    os.link(path, aside)
    if becomes == "replaced":
        (tmp_path / "new.db").touch()
        (tmp_path / "new.db").replace(path)
    else:
        path.unlink()
    for number in (2, 3):
        with pytest.raises(StoreUnavailableError, match="deleted, moved or replaced"):
            await store.commit([write(run_key(number))])
    aside.replace(path)
    await store.commit([write(run_key(4))])


@pytest.mark.parametrize("becomes", ["deleted", "moved", "replaced"])
async def test_nothing_is_acknowledged_that_goes_into_a_log_that_nobody_finds_again(
    watched: type[Connection], store: SqliteStore, tmp_path: Path, becomes: str
) -> None:
    """Somebody tidies up: a crash would lose all that the log holds. Put back, it serves again."""
    log, aside = Path(f"{store._path}-wal"), tmp_path / "aside"
    await store.commit([write(run_key(1))])
    os.link(log, aside)
    if becomes == "replaced":
        (tmp_path / "new").touch()
        (tmp_path / "new").replace(log)
    else:
        log.unlink()
    for number in (2, 3):
        with pytest.raises(StoreUnavailableError, match="deleted, moved or replaced"):
            await store.commit([write(run_key(number))])
    aside.replace(log)
    await store.commit([write(run_key(4))])


async def test_a_log_that_was_deleted_loses_nothing_when_the_store_is_closed(
    watched: type[Connection], store: SqliteStore
) -> None:
    """Which is what the error says to do: closing moves what the log holds into the database."""
    await store.commit([write(run_key(1))])
    Path(f"{store._path}-wal").unlink()
    with pytest.raises(StoreUnavailableError, match="stop this process"):
        await store.commit([write(run_key(2))])
    await store.close()
    await store.open()
    assert await _versions(store, range(1, 2)) == [1]
    await store.commit([write(run_key(3))])


async def test_a_log_is_in_place_whoever_else_writes_and_checkpoints(
    watched: type[Connection], store: SqliteStore
) -> None:
    """No other program that uses the database as SQLite does makes us think that the log is gone; nor does a fence."""
    for number, pragma in enumerate(
        ("wal_checkpoint(TRUNCATE)", "wal_checkpoint(RESTART)", "journal_mode = DELETE")
    ):
        await store.commit([write(run_key(number))])
        other = sqlite3.connect(store._path, isolation_level=None)
        with suppress(sqlite3.OperationalError):  # the last one: another process uses the database
            other.execute(f"PRAGMA {pragma}").fetchone()
        other.close()
        await store.commit([write(run_key(number), 1)])
    watched.failing["COMMIT"] = ["SQLITE_IOERR_FSYNC"] * 2
    with pytest.raises(StoreUnavailableError):
        await store.commit([write(run_key(8))])
    await store.commit([write(run_key(9))])


async def test_a_fence_is_not_written_into_a_new_file(watched: type[Connection], store: SqliteStore) -> None:
    """The disk reports an error and the file is gone: no empty database takes its place."""
    await store.commit([write(run_key(1))])
    store._path.unlink()
    watched.failing["COMMIT"] = ["SQLITE_IOERR_FSYNC"] * 2
    with pytest.raises(StoreUnavailableError):
        await store.commit([write(run_key(2))])
    with pytest.raises(StoreUnavailableError):
        await store.commit([write(run_key(3))])
    assert not store._path.exists()


async def test_a_program_that_holds_the_database_for_a_moment_is_waited_for(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(tmp_path / "commits.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(store.commit([write(run_key(1))]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    other.execute("ROLLBACK")
    await asyncio.wait_for(waiting, 20)
    other.close()


async def test_a_program_that_holds_the_database_for_long_makes_writes_unavailable(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BUSY_TIMEOUT_MS", 10)
    other = sqlite3.connect(tmp_path / "commits.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="SQLITE_BUSY"):
        await store.commit([write(run_key(1))])
    assert await store.load_run(run_key(1)) is None
    other.execute("ROLLBACK")
    await store.commit([write(run_key(1))])
    other.close()


@IN_THE_THREAD
async def test_reads_go_on_while_a_commit_waits_for_the_disk(
    watched: type[Connection], store: SqliteStore
) -> None:
    await store.commit([write(run_key(1))])
    watched.disk.clear()
    first = asyncio.ensure_future(store.commit([write(run_key(1), 1)]))
    while watched.log.count("COMMIT") < 2:
        await asyncio.sleep(0)
    later = [asyncio.ensure_future(store.commit([write(run_key(number))])) for number in (2, 3)]
    assert await _versions(store, range(1, 4)) == [1, 0, 0]
    assert not first.done()
    watched.log.clear()
    watched.disk.set()
    await asyncio.gather(first, *later)
    assert watched.log.count("COMMIT") == 1, "what came meanwhile shares the next commit"
    assert await _versions(store, range(1, 4)) == [2, 1, 1]


async def test_a_run_is_loaded_as_it_was_at_one_moment(
    watched: type[Connection], store: SqliteStore, tmp_path: Path
) -> None:
    """A commit between the two statements of a load is seen by neither of them."""
    await store.commit([write(run_key(1), items=(ItemChange("timer", "t", b"old"),))])
    other = sqlite3.connect(tmp_path / "commits.db", isolation_level=None)
    watched.interference[queries.LOAD_ITEMS] = lambda: other.execute("UPDATE items SET data = x'ff'")
    stored = await store.load_run(run_key(1))
    assert stored is not None
    assert stored.items == (("timer", "t", b"old"),)
    stored = await store.load_run(run_key(1))
    assert stored is not None
    assert stored.items == (("timer", "t", b"\xff"),)
    other.close()


async def test_a_history_is_read_as_it_was_at_one_moment(
    watched: type[Connection], store: SqliteStore, tmp_path: Path
) -> None:
    await store.commit([write(run_key(1), events=(batch(1), batch(2)))])
    other = sqlite3.connect(tmp_path / "commits.db", isolation_level=None)
    watched.interference[queries.READ_EVENTS] = lambda: other.execute("DELETE FROM events")
    assert len(await store.read_history(run_key(1), 1, 9, 1_000)) == 2
    assert len(await store.read_history(run_key(1), 1, 9, 1_000)) == 0
    other.close()


@IN_THE_THREAD
async def test_a_slow_list_does_not_keep_workers_waiting(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first poll of a queue reads what waits there, and must not stand in line behind somebody's list."""
    is_listing, may_end = threading.Event(), threading.Event()

    def slow(*_: object) -> ListPage:
        is_listing.set()
        may_end.wait(LIMIT_S)
        return ListPage((), None)

    monkeypatch.setattr(lists, "list_runs", slow)
    await store.commit([write(run_key(1), tasks_put=(task(run_key(1)),))])
    listing = asyncio.ensure_future(store.list_runs(NAMESPACE, None, 10, None))
    await asyncio.to_thread(is_listing.wait, LIMIT_S)
    assert len(await asyncio.wait_for(store.task_levels(QUEUE, 10), LIMIT_S / 2)) == 1
    assert [count.waiting for count in await store.count_tasks(QUEUE)] == [1]
    assert not listing.done()
    may_end.set()
    assert (await listing).rows == ()
