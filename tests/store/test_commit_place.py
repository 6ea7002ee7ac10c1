"""Which thread commits: the rule by itself, and the SQLite store with commits that take as long as a test says."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.errors import StoreUnavailableError
from perdure.store.sqlite import SqliteStore, commit_place, writer
from perdure.store.sqlite.commit_place import CommitPlace
from tests.store.builders import batch, run_key, write

QUICK_S = 0.000_1
SLOW_S = 0.005


class Clock:
    """Stands still unless told to go on."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds


class Connection(sqlite3.Connection):
    """A connection whose commits take as long as the test says, and that notes where they ran."""

    clock: ClassVar[Clock]
    commit_s: ClassVar[float]
    places: ClassVar[list[str]]
    checkpoints: ClassVar[list[tuple[str, int]]] = []
    """Of each commit: where, and after how many pages of log SQLite would checkpoint in it."""
    failing: ClassVar[list[str]]
    """Names of the errors that the next commits raise."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            is_loop = threading.current_thread() is threading.main_thread()
            self.places.append("loop" if is_loop else "thread")
            pages = super().execute("PRAGMA wal_autocheckpoint").fetchone()[0]
            self.checkpoints.append((self.places[-1], pages))
            self.clock.pass_by(self.commit_s)
            if self.failing:
                error = sqlite3.OperationalError("injected")
                error.sqlite_errorname = self.failing.pop(0)
                error.sqlite_errorcode = getattr(sqlite3, error.sqlite_errorname)
                raise error
        return super().execute(sql, *parameters)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type[Connection]:
    """Writing connections on a disk that the test controls; quick at first."""
    Connection.clock, Connection.commit_s, Connection.places, Connection.failing = Clock(), QUICK_S, [], []
    connect = sqlite3.connect

    def connect_watched(*arguments: Any, uri: bool = False, **options: Any) -> sqlite3.Connection:
        factory = sqlite3.Connection if uri else Connection  # readers are not watched
        return connect(*arguments, uri=uri, factory=factory, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_watched)
    return Connection


@pytest.fixture
def store(disk: type[Connection], tmp_path: Path) -> SqliteStore:
    return SqliteStore(
        tmp_path / "place.db", {"wal_autocheckpoint": "100", "synchronous": "off"}, clock=disk.clock
    )


async def _commits(store: SqliteStore, disk: type[Connection], numbers: range) -> Counter[str]:
    """Commits a group for each number, one after the other. Returns where."""
    disk.places.clear()
    for number in numbers:
        await store.commit([write(run_key(number))])
    return Counter(disk.places)


# --- the rule


def _try(place: CommitPlace, clock: Clock, seconds: float, size_bytes: int = 1_000) -> bool:
    """One group. Returns whether the loop's thread committed it."""
    is_loop = place.is_loop(size_bytes)
    if is_loop:
        place.time(lambda: clock.pass_by(seconds))
    else:
        clock.pass_by(seconds)
    return is_loop


def test_quick_commits_stay_on_the_loop_but_for_one_of_32() -> None:
    clock = Clock()
    place = CommitPlace(clock)
    assert [_try(place, clock, QUICK_S) for _ in range(96)] == ([True] * 31 + [False]) * 3


def test_a_large_group_goes_to_the_thread_and_changes_nothing_else() -> None:
    clock = Clock()
    place = CommitPlace(clock)
    assert not _try(place, clock, SLOW_S, commit_place.MAX_BYTES + 1)
    assert _try(place, clock, QUICK_S, commit_place.MAX_BYTES)


def test_one_slow_commit_in_a_while_changes_nothing() -> None:
    clock = Clock()
    place = CommitPlace(clock)
    for _ in range(5):
        clock.pass_by(commit_place.CREDIT_S)
        assert _try(place, clock, SLOW_S)
        assert _try(place, clock, QUICK_S)


def test_a_commit_that_hung_is_forgotten_after_a_while() -> None:
    clock = Clock()
    place = CommitPlace(clock)
    assert _try(place, clock, 600)
    clock.pass_by(commit_place.PAUSE_PER_SLOW_SECOND - 2)
    assert not _try(place, clock, QUICK_S)
    clock.pass_by(2)
    assert _try(place, clock, QUICK_S)


def test_a_commit_that_fails_is_timed_too() -> None:
    clock = Clock()
    place = CommitPlace(clock)

    def fails() -> None:
        clock.pass_by(1)
        raise sqlite3.OperationalError

    assert place.is_loop(1)
    with pytest.raises(sqlite3.OperationalError):
        place.time(fails)
    assert not place.is_loop(1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.2)), max_size=200))
def test_slow_commits_take_one_percent_of_the_loop_whatever_the_disk_does(
    groups: list[tuple[float, float]],
) -> None:
    """Each group: how long its commit takes, and how long until the next. The last slow one may still be owed."""
    clock = Clock()
    place = CommitPlace(clock)
    began_s, slow_s, largest_s = clock(), 0.0, 0.0
    for commit_s, rest_s in groups:
        if _try(place, clock, commit_s) and commit_s > commit_place.QUICK_COMMIT_S:
            slow_s += commit_s
            largest_s = max(largest_s, commit_s)
        assert slow_s <= (clock() - began_s + commit_place.CREDIT_S) / 100 + largest_s + 1e-6
        clock.pass_by(rest_s)


# --- the store


async def test_a_disk_that_becomes_slow_moves_commits_to_the_thread_and_back(
    store: SqliteStore, disk: type[Connection]
) -> None:
    disk.clock.pass_by(commit_place.CREDIT_S)
    quick = await _commits(store, disk, range(64))
    assert quick == {"loop": 62, "thread": 2}
    disk.commit_s = SLOW_S
    slow = await _commits(store, disk, range(100, 300))
    assert slow["loop"] <= 5, "three until the credit is used up, then one in each half second"
    disk.commit_s = QUICK_S
    disk.clock.pass_by(commit_place.CREDIT_S)
    again = await _commits(store, disk, range(600, 664))
    assert again["loop"] >= 61


async def test_checkpoints_are_left_to_the_thread_and_keep_the_log_short(
    store: SqliteStore, disk: type[Connection], tmp_path: Path
) -> None:
    """The setting is 100 pages of 4 kB; a group writes about ten, so 31 groups come on top."""
    disk.checkpoints.clear()
    assert (await _commits(store, disk, range(200)))["loop"] > 190
    assert set(disk.checkpoints) == {("loop", 0), ("thread", 100)}
    assert (tmp_path / "place.db-wal").stat().st_size < (100 + 32 * 12) * 4_120


async def test_a_large_unit_is_committed_by_the_thread(store: SqliteStore, disk: type[Connection]) -> None:
    data = b"x" * (commit_place.MAX_BYTES + 1)
    await store.commit([write(run_key(1), events=(batch(1, data=data),))])
    assert disk.places[-1] == "thread"
    await store.commit([write(run_key(2))])
    assert disk.places[-1] == "loop"


async def test_a_busy_commit_is_repeated_by_the_thread(store: SqliteStore, disk: type[Connection]) -> None:
    disk.failing.append("SQLITE_BUSY")
    assert await _commits(store, disk, range(1)) == {"loop": 1, "thread": 1}
    stored = await store.load_run(run_key(0))
    assert stored is not None
    assert await _commits(store, disk, range(1, 2)) == {"loop": 1}


async def test_a_commit_that_stays_busy_fails_and_leaves_nothing(
    store: SqliteStore, disk: type[Connection]
) -> None:
    disk.failing += ["SQLITE_BUSY"] * 2
    with pytest.raises(StoreUnavailableError, match="SQLITE_BUSY"):
        await store.commit([write(run_key(1))])
    assert await store.load_run(run_key(1)) is None
    await store.commit([write(run_key(1))])


async def test_nothing_is_read_between_a_failed_sync_and_its_fence(
    store: SqliteStore, disk: type[Connection]
) -> None:
    """The reader asks right behind the loop's failed commit, and gets its answer after the thread's fence."""
    disk.places.clear()
    disk.failing.append("SQLITE_IOERR_FSYNC")
    failed = asyncio.ensure_future(store.commit([write(run_key(1))]))
    while not disk.places:
        await asyncio.sleep(0)
    assert await store.load_run(run_key(1)) is None
    assert disk.places[:2] == ["loop", "thread"], "the failed commit and the fence"
    with pytest.raises(StoreUnavailableError, match="SQLITE_IOERR_FSYNC"):
        await failed


async def test_others_have_their_turn_between_groups(
    store: SqliteStore, disk: type[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_GROUP_JOBS", 5)
    disk.places.clear()
    loop = asyncio.get_running_loop()
    turns: list[int] = []

    def turn() -> None:
        turns.append(len(disk.places))
        if turns[-1] < 4:
            loop.call_soon(turn)

    loop.call_soon(turn)
    await asyncio.gather(*(store.commit([write(run_key(number))]) for number in range(20)))
    assert disk.places == ["loop"] * 4
    assert set(turns) >= {0, 1, 2, 3}


async def test_what_the_answered_submit_at_once_shares_the_next_commit(
    store: SqliteStore, disk: type[Connection]
) -> None:
    disk.places.clear()

    async def client(number: int) -> None:
        for version in range(4):
            await store.commit([write(run_key(number), version)])

    await asyncio.gather(*map(client, range(20)))
    assert disk.places == ["loop"] * 4


async def test_a_group_waits_some_passes_for_what_its_first_jobs_lead_to(
    store: SqliteStore, disk: type[Connection]
) -> None:
    """As a worker does that was handed a task before its commit: it answers a few passes of the loop later."""
    disk.places.clear()
    first = store.commit([write(run_key(1))])
    for _ in range(writer.GATHERING_PASSES - 1):
        await asyncio.sleep(0)
    await asyncio.gather(first, store.commit([write(run_key(1), 1)]))
    assert disk.places == ["loop"]
