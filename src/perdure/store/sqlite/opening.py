"""Opening a database file: which files are accepted, how connections are set up, and migrations.

A file is ours when SQLite's `application_id` in it says so; `user_version` is the number of the last
migration. Migrations are `migrations/NNNN_name.sql`, only ever added, each one transaction together with its
number: a crash leaves the database before or after it.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from perdure.core.errors import StoreOpenError
from perdure.store.sqlite.columns import add_functions

APPLICATION_ID: Final = int.from_bytes(b"PERD", "big")
MINIMUM_SQLITE: Final = (3, 37, 0)
"""The first release with STRICT tables."""

# cache_size from 2 to 32 MB, wal_autocheckpoint from 1,000 to 8,000 pages and mmap_size made no difference beyond noise
# with 60,000 runs (benchmarks/micro/store_cost.py), so these are chosen for memory: at most 8 MB for each connection.
DEFAULT_PRAGMAS: Final[Mapping[str, str]] = {
    "synchronous": "FULL",
    "cache_size": "-8000",
    "wal_autocheckpoint": "2000",
    "temp_store": "MEMORY",
    "journal_size_limit": "67108864",
}

OPEN_TIMEOUT_S: Final = 2.0
"""How long opening waits for another program that holds the file, such as a backup."""

_READER_PRAGMAS: Final = frozenset({"cache_size", "mmap_size", "temp_store"})
"""Pragmas that mean something for a connection that only reads."""

_ALLOWED_PRAGMAS: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "auto_vacuum": r"none|full|incremental|[012]",
        "cache_size": r"-?\d{1,9}",
        "journal_mode": r"wal",
        "journal_size_limit": r"-?\d{1,15}",
        "max_page_count": r"\d{1,10}",
        "mmap_size": r"\d{1,13}",
        "page_size": r"512|1024|2048|4096|8192|16384|32768|65536",
        "synchronous": r"off|normal|full|extra|[0123]",
        "temp_store": r"default|file|memory|[012]",
        "wal_autocheckpoint": r"\d{1,7}",
    }.items()
}

_BEFORE_WAL: Final = ("page_size", "auto_vacuum")
"""Pragmas that only work before the first page is written."""

_WEAK_SYNCHRONOUS: Final[Mapping[str, str]] = {
    "off": "a crash of the machine can lose acknowledged work and corrupt the database",
    "normal": "a crash of the machine can lose the acknowledged work of the last moments",
}

_log = logging.getLogger(__name__)


def check_pragmas(pragmas: Mapping[str, str]) -> dict[str, str]:
    """Checks a user's pragmas and adds the defaults.

    Returns:
        names to values; all safe to put into a statement.

    Raises:
        StoreOpenError: a pragma or value that is not allowed.
    """
    checked = dict(DEFAULT_PRAGMAS)
    for name, value in pragmas.items():
        known = _ALLOWED_PRAGMAS.get(name.lower())
        if known is None:
            allowed = ", ".join(sorted(_ALLOWED_PRAGMAS))
            raise StoreOpenError(f"The SQLite pragma {name} cannot be set. These can: {allowed}.")
        if not known.fullmatch(value.strip()):
            raise StoreOpenError(f"The SQLite pragma {name} cannot be set to {value}.")
        checked[name.lower()] = value.strip()
    level = checked["synchronous"].lower()
    weakness = _WEAK_SYNCHRONOUS.get({"0": "off", "1": "normal"}.get(level, level))
    if weakness:
        _log.warning("SQLite runs with synchronous=%s: %s.", level, weakness)
    return checked


def check_file(path: Path) -> None:
    """Checks everything about the file that can be told without opening it.

    Raises:
        StoreOpenError: it cannot be a database that Perdure can use.
    """
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        needed = ".".join(map(str, MINIMUM_SQLITE))
        raise StoreOpenError(f"SQLite {needed} or newer is needed; this Python has {sqlite3.sqlite_version}.")
    if not path.parent.is_dir():
        raise StoreOpenError(
            f"The folder {path.parent} does not exist. Create it, or choose another database file."
        )
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreOpenError(f"Cannot open the database {path}: {error.strerror}.") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise StoreOpenError(f"{path} is {kind}. Give the path of a database file.")
    # The mode bits too: for a user who may write everything they are the only sign that the file is meant to
    # be kept.
    if not mode & 0o222 or not os.access(path, os.R_OK | os.W_OK):
        raise StoreOpenError(f"The database {path} is read-only. Make it writable, or use another file.")


def connect_writer(path: Path, pragmas: Mapping[str, str]) -> sqlite3.Connection:
    """Opens the connection that writes, in autocommit mode, for any thread (one at a time).

    Raises:
        sqlite3.Error: the driver's reason.
    """
    connection = sqlite3.connect(path, timeout=OPEN_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        # Asked first, because it is the first statement that reads the file: if it is no database, nothing
        # was changed.
        connection.execute("PRAGMA schema_version").fetchone()
        for name, value in pragmas.items():
            if name not in ("journal_mode", *_BEFORE_WAL):
                connection.execute(f"PRAGMA {name} = {value}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, pragmas: Mapping[str, str]) -> sqlite3.Connection:
    """Opens a connection that can only read, in autocommit mode, for any thread (one at a time).

    Raises:
        sqlite3.Error: the driver's reason.
    """
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro",
        uri=True,
        timeout=1,
        isolation_level=None,
        check_same_thread=False,
    )
    for name in sorted(_READER_PRAGMAS & pragmas.keys()):
        connection.execute(f"PRAGMA {name} = {pragmas[name]}")
    add_functions(connection)
    return connection


def prepare(connection: sqlite3.Connection, path: Path, pragmas: Mapping[str, str]) -> None:
    """Makes sure that the database is ours and current.

    Raises:
        StoreOpenError: it is another application's, or a newer release wrote it.
        sqlite3.Error: the driver's reason.
    """
    schema = _schema_of(connection, path)
    for name in _BEFORE_WAL:
        if name in pragmas:
            connection.execute(f"PRAGMA {name} = {pragmas[name]}")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreOpenError(
            f"The database {path} is on a file system that cannot hold a write-ahead log. Use a local disk."
        )
    for number, name, script in _migrations():
        if number > schema:
            _migrate(connection, number, name, script)


def _schema_of(connection: sqlite3.Connection, path: Path) -> int:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if application_id != APPLICATION_ID and not (is_empty and application_id == 0 and schema == 0):
        raise StoreOpenError(
            f"{path} is a SQLite database of another application. Give a new file, or one that Perdure made."
        )
    newest = _migrations()[-1][0]
    if schema > newest:
        raise StoreOpenError(
            f"The database {path} was written by a newer release of Perdure: its schema is {schema}, this release "
            f"knows {newest}. Install that release or a newer one, or use another file."
        )
    return schema


@cache
def _migrations() -> tuple[tuple[int, str, str], ...]:
    """(number, file name, script) of every migration, in order."""
    folder = resources.files("perdure.store.sqlite") / "migrations"
    files = sorted(
        (file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql")
    )
    return tuple((int(name.split("_")[0]), name, script) for name, script in files)


def _migrate(connection: sqlite3.Connection, number: int, name: str, script: str) -> None:
    _log.info("Migrating the database: %s.", name)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
