"""The locks that keep a database file to one process, and to the place where it was opened.

Two are held with `flock` for as long as the store is open; the kernel lets go of them when the process ends, however
it ends. One is a file beside the database, `<file>.lock`, which also says who holds it; it stays where it is, because
removing it would race with the next process. The other is the database itself, which may have another name, too: a
hard link, or the one it had before it was renamed. SQLite's own locks (`fcntl`) know nothing of `flock`, but are
dropped when any descriptor of the file is closed in the process; so ours stays open until SQLite has closed its own,
and a file that is open in this process is never opened a second time.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from typing import Final

from perdure.core.errors import StoreInUseError, StoreOpenError

_HOLDER_BYTES: Final = 64

_Identity = tuple[int, int]
"""Device and number of a file, whatever its names are."""

_ADVICE = (
    "One file serves one process at a time: stop that process, connect to its address if it is a server (perdure "
    "server start-dev is one, which all can use), or use another file."
)


class FileLock:
    """Holds the locks of one database file.

    Args:
        database: the database's path; symbolic links are followed, so that two names of a file share one
        lock. An empty file is made where there is none.
        user_pid: the program that this process is the engine of, if it is another's.

    Raises:
        StoreOpenError: another process, or another store in this process, holds one of them, or it cannot be made.
    """

    def __init__(self, database: Path, user_pid: int | None = None) -> None:
        self._user_pid = user_pid
        self._named, self._database = database, database.resolve()
        self._descriptors: list[int] = []
        self._identity: _Identity | None = None
        self._log = Path(f"{self._database}-wal")
        self._log_identity: _Identity | None = None
        path = Path(f"{self._database}.lock")
        try:
            self._lock_name(path)
            self._lock_file()
        except OSError as error:
            self.release()
            raise StoreOpenError(
                f"Cannot make the lock file {path}: {error.strerror}. Perdure needs to write in the database's folder."
            ) from error
        except StoreOpenError:
            self.release()
            raise
        _held.add(self)

    def _lock_name(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._descriptors.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise self._in_use(os.pread(descriptor, _HOLDER_BYTES, 0).decode("ascii", "replace")) from error
        os.ftruncate(descriptor, 0)
        pids = [os.getpid()] if self._user_pid is None else [os.getpid(), self._user_pid]
        os.pwrite(descriptor, f"{' '.join(map(str, pids))}\n".encode(), 0)

    def _in_use(self, holder: str) -> StoreOpenError:
        """The error about a holder: a process, and the program that it is the engine of if it is one's."""
        engine, _, user = holder.strip().partition(" ")
        is_engine_here, is_engine_there = self._user_pid is not None, bool(user)
        if is_engine_here != is_engine_there and (user or engine) == str(self._user_pid or os.getpid()):
            option = "with" if is_engine_there else "without"
            return StoreOpenError(
                f"The database {self._named} cannot be opened a second time: this program has it open {option} "
                "engine=process in its address. Give the same address everywhere."
            )
        who = (
            f" (pid {user}, whose engine is process {engine})"
            if user
            else f" (pid {engine})"
            if engine
            else ""
        )
        return StoreInUseError(f"The database {self._named} is in use by another process{who}. {_ADVICE}")

    def _lock_file(self) -> None:
        in_use = f"The database {self._named} is in use under another name (a link, or the name that it had before)"
        if any(lock.is_of(_identity_of(self._database)) for lock in _held):
            raise StoreOpenError(f"{in_use} by this process. {_ADVICE}")
        descriptor = os.open(self._database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._descriptors.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreInUseError(f"{in_use} by another process. {_ADVICE}") from error
        found = os.fstat(descriptor)
        self._identity = (found.st_dev, found.st_ino)

    def is_of(self, identity: _Identity | None) -> bool:
        """Whether the locked file is this one."""
        return identity is not None and identity == self._identity

    def watch_log(self) -> None:
        """From now on the log (`<file>-wal`) has its place, too: a connection that stays open has written to it.

        SQLite makes it at the first write, keeps it through every checkpoint, whoever does it, and removes it when the
        last connection is closed; so nobody else has to touch it before.
        """
        self._log_identity = _identity_of(self._log)

    def is_in_place(self) -> bool:
        """Whether file and log still have the names they were opened by: neither was deleted, moved or replaced."""
        if not self.is_of(_identity_of(self._database)):
            return False
        return self._log_identity is None or self._log_identity == _identity_of(self._log)

    def release(self) -> None:
        """Lets the next process in. May be called twice."""
        self._identity = self._log_identity = None
        while self._descriptors:
            os.close(self._descriptors.pop())


def _identity_of(path: Path) -> _Identity | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _after_fork() -> None:
    """A forked child shares its parent's locks and would keep them when the parent ends; its copies are closed."""
    for lock in list(_held):
        lock.release()
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
