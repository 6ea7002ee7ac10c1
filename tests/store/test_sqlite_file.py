"""The SQLite store and its file: what it keeps, which files it refuses and how, pragmas, migrations, the lock."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.core.errors import StoreOpenError
from perdure.core.run.records import AttributeValue, ItemChange, RunKey, RunWrite, Text
from perdure.core.visibility import Attribute, AttributeType, ContainsAny
from perdure.store.protocol import StoredNamespace
from perdure.store.sqlite import SqliteStore, opening
from perdure.store.sqlite.opening import APPLICATION_ID
from tests.store.builders import NAMESPACE, QUEUE, batch, dump, record, run_key, task, write

RUN = run_key(1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


def _fill(path: Path) -> dict[str, object]:
    """Makes a database with something of everything, and tells what can be seen of it."""

    async def fill() -> dict[str, object]:
        store = SqliteStore(path)
        await store.open()
        await store.put_namespace(StoredNamespace(NAMESPACE, "default", 1, b"config"))
        await store.commit(
            [
                write(
                    RUN,
                    wakeup_ns=5,
                    events=(batch(1, 2),),
                    items=(ItemChange("timer", "t", b"1"),),
                    tasks_put=(task(RUN),),
                    visibility=record(RUN, attributes={"Tags": ["a"]}),
                )
            ]
        )
        seen = await dump(store, [RUN])
        await store.close()
        return seen

    return asyncio.run(fill())


def _open(path: Path, pragmas: dict[str, str] | None = None) -> str:
    """Opens and closes; returns the cluster id."""

    async def open_and_close() -> str:
        store = SqliteStore(path, pragmas)
        await store.open()
        try:
            return await store.cluster_id()
        finally:
            await store.close()

    return asyncio.run(open_and_close())


def _refusal(path: Path, pragmas: dict[str, str] | None = None) -> str:
    with pytest.raises(StoreOpenError) as refused:
        _open(path, pragmas)
    return str(refused.value)


# --- what stays


def test_everything_is_there_after_a_restart(path: Path) -> None:
    written = _fill(path)

    async def read() -> dict[str, object]:
        store = SqliteStore(path)
        await store.open()
        try:
            assert await store.is_durable()
            return await dump(store, [RUN])
        finally:
            await store.close()

    assert asyncio.run(read()) == written


def test_the_cluster_id_is_made_once(path: Path) -> None:
    first = _open(path)
    assert _open(path) == first
    assert _open(path.with_name("other.db")) != first


def test_tasks_put_after_a_restart_come_after_older_ones(path: Path) -> None:
    async def put_again(run_number: int, version: int) -> list[str]:
        store = SqliteStore(path)
        await store.open()
        run = run_key(run_number)
        await store.commit([write(run, version, tasks_put=(task(run),))])
        waiting = [found.run.run_id for _, found in await store.read_tasks(QUEUE, None, 9)]
        await store.close()
        return waiting

    for number in (1, 2, 3):
        asyncio.run(put_again(number, 0))
    assert asyncio.run(put_again(1, 1)) == [run_key(number).run_id for number in (2, 3, 1)]


def test_closing_leaves_one_file_and_the_lock(path: Path) -> None:
    _fill(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["orders.db", "orders.db.lock"]


# --- refused files: each message names the file and says what to do, and the file stays as it was


def _text_file(path: Path) -> None:
    path.write_text("Dear diary, this is longer than a header of SQLite: " + "x" * 200)


def _foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cookies (name TEXT)")
    connection.close()


def _foreign_application(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 1196444487")
    connection.close()


def _newer_schema(path: Path) -> None:
    _fill(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()


def _folder(path: Path) -> None:
    path.mkdir()


def _read_only(path: Path) -> None:
    _fill(path)
    path.chmod(0o444)


def _damaged(path: Path) -> None:
    _fill(path)
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * 3_000 + data[3_100:])


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_text_file, ("not a SQLite database", "new file")),
        (_foreign_database, ("another application", "new file")),
        (_foreign_application, ("another application", "new file")),
        (_newer_schema, ("newer release", "9999", "Install")),
        (_folder, ("is a folder", "path of a database file")),
        (_read_only, ("read-only", "writable")),
        (_damaged, ("damaged", "backup")),
        (_pipe, ("not a regular file",)),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_"),
)
def test_a_file_that_cannot_be_used_is_refused_and_not_touched(
    path: Path, prepare: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    message = _refusal(path)
    assert str(path) in message
    for word in words:
        assert word in message
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not path.with_name("orders.db-wal").exists()


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    message = _refusal(tmp_path / "nowhere" / "orders.db")
    assert str(tmp_path / "nowhere") in message
    assert "Create it" in message
    assert not (tmp_path / "nowhere").exists()


def test_a_refused_file_is_not_left_locked(path: Path) -> None:
    _text_file(path)
    _refusal(path)
    path.unlink()
    _open(path)


def test_an_empty_file_is_a_new_database(path: Path) -> None:
    path.touch()
    _open(path)


# --- one process


def test_a_second_store_on_the_file_is_refused_until_the_first_closes(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"

    async def both() -> None:
        first = SqliteStore(path)
        await first.open()
        link.symlink_to(path)
        for name in (path, link):
            with pytest.raises(StoreOpenError, match="in use by another process") as refused:
                await SqliteStore(name).open()
            assert str(name) in str(refused.value)
            assert str(os.getpid()) in str(refused.value)
        await first.commit([write(RUN)])
        await first.close()

    asyncio.run(both())
    _open(link)


HOLDER = """
import asyncio, sys
from perdure.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    print("open", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_the_lock_ends_with_its_process_even_by_sigkill(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            message = _refusal(path)
            assert str(holder.pid) in message
            assert str(path) in message
        finally:
            holder.send_signal(signal.SIGKILL)
    _open(path)


@pytest.mark.parametrize("how", [os.link, os.rename])
def test_a_file_in_use_is_refused_under_another_name_too(
    path: Path, tmp_path: Path, how: Callable[[Path, Path], None]
) -> None:
    """A hard link, or the name it has after it was renamed: in another process, and in this one, whose locks stay."""
    other = tmp_path / "other.db"
    _open(path)

    def undo() -> None:
        # Renaming one name of a file to another name of the same file does nothing.
        if not path.exists():
            os.link(other, path)
        other.unlink()

    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            how(path, other)
            for _ in range(2):
                assert "under another name" in _refusal(other)
        finally:
            holder.send_signal(signal.SIGKILL)
    undo()

    async def in_this_process() -> None:
        store = SqliteStore(path)
        await store.open()
        how(path, other)
        with pytest.raises(StoreOpenError, match=r"under another name .* by this process"):
            await SqliteStore(other).open()
        undo()
        await store.commit([write(RUN)])
        await store.close()

    asyncio.run(in_this_process())


# --- migrations


def _schema(path: Path) -> tuple[int, int, int]:
    connection = sqlite3.connect(path)
    try:
        return tuple(
            connection.execute(statement).fetchone()[0]
            for statement in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT count(*) FROM sqlite_schema",
            )
        )
    finally:
        connection.close()


def test_a_new_database_carries_our_id_and_the_newest_schema(path: Path) -> None:
    _open(path)
    application_id, version, tables = _schema(path)
    assert application_id == APPLICATION_ID
    assert version == opening._migrations()[-1][0]
    assert tables > 8


def test_an_older_database_is_migrated_and_keeps_its_content(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = _fill(path)
    newest = opening._migrations()
    number = newest[-1][0] + 1
    added = (number, "added.sql", "CREATE TABLE added (x ANY) STRICT;\nINSERT INTO added VALUES (1);\n")
    monkeypatch.setattr(opening, "_migrations", lambda: (*newest, added))
    _open(path)
    assert _schema(path)[1] == number
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM added").fetchone() == (1,)
    connection.close()
    _open(path)
    monkeypatch.undo()
    assert "newer release" in _refusal(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {number - 1}")
    connection.close()

    async def read() -> dict[str, object]:
        store = SqliteStore(path)
        await store.open()
        try:
            return await dump(store, [RUN])
        finally:
            await store.close()

    assert asyncio.run(read()) == written


BEFORE_TASK_PLACES = """
DROP INDEX tasks_by_queue;
ALTER TABLE tasks DROP COLUMN place;
ALTER TABLE tasks DROP COLUMN fairness_key;
ALTER TABLE tasks DROP COLUMN fairness_weight;
CREATE INDEX tasks_by_queue ON tasks (namespace, queue, kind, priority, sequence, enqueued_ns);
DROP TABLE queue_configs;
PRAGMA user_version = 7;
"""
BEFORE_SEARCH_INDEX = f"""
{BEFORE_TASK_PLACES}
DROP TABLE deployments;
DROP TABLE batches;
DROP TRIGGER visibility_counts_insert;
DROP TRIGGER visibility_counts_update;
DROP TRIGGER visibility_counts_delete;
DROP TABLE visibility_counts;
DROP TABLE attribute_values;
DROP TABLE attribute_keys;
DROP INDEX visibility_by_type;
DROP INDEX visibility_by_status;
DROP INDEX visibility_by_start;
DROP INDEX visibility_by_parent;
DROP INDEX visibility_by_root;
ALTER TABLE runs DROP COLUMN history_size_bytes;
ALTER TABLE runs DROP COLUMN transition_count;
PRAGMA user_version = 4;
"""
BEFORE_RUN_KINDS = f"""
{BEFORE_SEARCH_INDEX}
DROP TABLE nexus_endpoints;
CREATE TABLE old_keys (namespace INTEGER PRIMARY KEY, namespace_id TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO old_keys SELECT namespace, namespace_id FROM namespace_keys;
DROP TABLE namespace_keys;
ALTER TABLE old_keys RENAME TO namespace_keys;
PRAGMA user_version = 2;
"""


def test_runs_of_a_database_from_before_kinds_of_runs_are_of_workflows(path: Path) -> None:
    """The third migration must find every run, task and list row of its namespace again."""
    written = _fill(path)
    connection = sqlite3.connect(path)
    connection.executescript(BEFORE_RUN_KINDS)
    connection.close()

    async def read() -> dict[str, object]:
        store = SqliteStore(path)
        await store.open()
        try:
            return await dump(store, [RUN])
        finally:
            await store.close()

    assert asyncio.run(read()) == written


def test_runs_of_a_database_from_before_the_search_index_are_found_by_it(path: Path) -> None:
    """The fifth migration must index what is there: the same index as if the runs had been written after it."""
    attributes: list[dict[str, AttributeValue]] = [
        {"Customer": "a", "Amount": 5, "Tags": ["x", "y", "x"], "Flag": True, "Ratio": 0.5},
        {"Customer": "b", "TemporalNamespaceDivision": "system"},
        {"Amount": 2.5, "Tags": ["y"]},
        {"Amount": 0.1 + 0.2, "Ratio": 1.2345678901234567},
        {},
    ]

    async def fill() -> None:
        store = SqliteStore(path)
        await store.open()
        for number, given in enumerate(attributes):
            run = run_key(number)
            shown = record(run, attributes=given, close_ns=number or None)
            await store.commit([write(run, visibility=shown)])
        await store.close()

    def index() -> list[list[object]]:
        connection = sqlite3.connect(path)
        try:
            statements = (
                "SELECT namespace, name, kinds FROM attribute_keys ORDER BY name",
                """
                SELECT k.name, v.value, v.close_key, v.start_time_ns, v.run_row, v.status, v.division
                FROM attribute_values AS v JOIN attribute_keys AS k USING (attribute) ORDER BY 1, 2, 3, 4, 5
                """,
                "SELECT * FROM visibility_counts ORDER BY 1, 2, 3, 4",
            )
            return [connection.execute(statement).fetchall() for statement in statements]
        finally:
            connection.close()

    asyncio.run(fill())
    written = index()
    assert len(written[1]) == 11
    connection = sqlite3.connect(path)
    connection.executescript(BEFORE_SEARCH_INDEX)
    connection.close()
    _open(path)
    assert index() == written


def test_words_of_a_database_from_before_the_search_index_are_found(path: Path) -> None:
    """That migration cannot tell Text from Keyword: words of such an attribute are looked for in every run."""
    words = Attribute("Notes", AttributeType.TEXT)
    old, changed, new = (run_key(number) for number in range(3))

    def notes(run: RunKey, text: str, version: int = 0) -> RunWrite:
        return write(run, version, visibility=record(run, attributes={"Notes": Text(text)}))

    async def fill() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.commit([notes(old, "Quick brown fox"), notes(changed, "quick blue fox")])
        await store.close()

    async def found() -> list[set[RunKey]]:
        store = SqliteStore(path)
        await store.open()
        await store.commit([notes(changed, "slow red fox", version=1), notes(new, "quick cat")])
        answers = []
        for word in ("quick", "fox", "blue", "Quick brown fox"):
            where = ContainsAny(words, (word,))
            page = await store.list_runs(NAMESPACE, where, 10, None)
            answers.append({row.run for row in page.rows})
            assert await store.count_runs(NAMESPACE, where, None) == [(None, len(page.rows))]
        await store.close()
        return answers

    asyncio.run(fill())
    connection = sqlite3.connect(path)
    connection.executescript(BEFORE_SEARCH_INDEX)
    connection.close()
    assert asyncio.run(found()) == [{old, new}, {old, changed}, set(), set()]


def test_a_migration_that_fails_half_way_changes_nothing_and_can_be_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(path)
    before = _schema(path)
    newest = opening._migrations()
    broken = (newest[-1][0] + 1, "broken.sql", "CREATE TABLE added (x ANY) STRICT;\nSELECT * FROM nowhere;\n")
    monkeypatch.setattr(opening, "_migrations", lambda: (*newest, broken))
    assert "nowhere" in _refusal(path)
    assert _schema(path) == before
    monkeypatch.undo()
    _open(path)


KILLED_MIGRATION = """
import asyncio, os, signal, sys
from perdure.store.sqlite import SqliteStore, opening
original = opening._statements
def statements(script):
    for number, statement in enumerate(original(script)):
        if number == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield statement
opening._statements = statements
asyncio.run(SqliteStore(sys.argv[1]).open())
"""


@pytest.mark.parametrize("statement", [0, 1, 5])
def test_a_process_killed_while_it_migrates_leaves_a_database_that_opens(path: Path, statement: int) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_MIGRATION, str(path), str(statement)], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    _fill(path)


# --- pragmas


def test_the_defaults_are_durable(path: Path) -> None:
    connection = opening.connect_writer(path, opening.check_pragmas({}))
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("locking_mode", "exclusive"),
        ("journal_mode", "delete"),
        ("cache_size", "1; DROP TABLE runs"),
        ("max_page_count", "many"),
        ("writable_schema", "1"),
        ("synchronous", "sometimes"),
    ],
)
def test_a_pragma_that_is_not_allowed_is_refused_by_name(path: Path, name: str, value: str) -> None:
    assert name in _refusal(path, {name: value})
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "value", "read_back"),
    [
        ("cache_size", "-4000", -4000),
        ("Synchronous", "extra", 3),
        ("wal_autocheckpoint", "77", 77),
        ("max_page_count", "5000", 5000),
    ],
)
def test_an_allowed_pragma_is_set(path: Path, name: str, value: str, read_back: int) -> None:
    connection = opening.connect_writer(path, opening.check_pragmas({name: value}))
    assert connection.execute(f"PRAGMA {name}").fetchone() == (read_back,)
    connection.close()


def test_the_page_size_of_a_new_database_can_be_chosen(path: Path) -> None:
    _open(path, {"page_size": "8192", "journal_mode": "WAL"})
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA page_size").fetchone() == (8192,)
    connection.close()


@pytest.mark.parametrize("value", ["off", "0", "NORMAL", "1"])
def test_a_pragma_that_weakens_durability_is_said_aloud(
    path: Path, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    _open(path, {"synchronous": value})
    assert "can lose" in caplog.text


def test_the_defaults_say_nothing_aloud(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _open(path, {"synchronous": "full"})
    assert not [entry for entry in caplog.records if entry.levelname == "WARNING"]
