"""The lock that keeps a database file to one process.

A file beside the database, `<file>.lock`, is held with `flock` for as long as the store is open; the kernel
lets go of it when the process ends, however it ends. It is not the database itself, because closing any
descriptor of that would drop SQLite's own locks. The lock file stays where it is: removing it would race with
the next process.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from perdure.core.errors import StoreOpenError


class FileLock:
    """Holds the lock of one database file.

    Args:
        database: the database's path; symbolic links are followed, so that two names of a file share one
        lock.

    Raises:
        StoreOpenError: another process, or another store in this process, holds it, or it cannot be made.
    """

    def __init__(self, database: Path) -> None:
        path = Path(f"{database.resolve()}.lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreOpenError(
                f"Cannot make the lock file {path}: {error.strerror}. Perdure needs to write in the database's folder."
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StoreOpenError(
                f"The database {database} is in use by another process{f' (pid {holder})' if holder else ''}. "
                "One file serves one process at a time: stop that process, connect to its address if it is a server, "
                "or use another file."
            ) from error
        _held.add(self)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets the next process in. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _after_fork() -> None:
    """A forked child shares its parent's locks and would keep them when the parent ends; its copies are closed."""
    for lock in list(_held):
        lock.release()
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
