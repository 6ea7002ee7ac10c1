"""Throwing an exception into the thread that runs an activity, and only while it does."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def raise_in_thread(thread_id: int, exception: type[BaseException] | None) -> None:
    """Make a thread raise at its next bytecode; None takes back what it has not raised yet."""
    pointer = ctypes.py_object(exception) if exception is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), pointer)


class ThreadExceptionRaiser:
    """Throws one exception into the thread of one activity; held back while the thread shields itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._pending: type[BaseException] | None = None
        self._shield_depth = 0

    @contextmanager
    def active_thread(self) -> Iterator[None]:
        """Exceptions may be thrown into the calling thread within this block, and not a moment longer."""
        thread_id = threading.get_ident()
        with self._lock:
            self._thread_id = thread_id
            self._throw()
        try:
            yield None
        finally:
            with self._lock:
                self._thread_id = None
                self._pending = None
                # What was thrown and has not been raised yet would hit the executor's own code.
                raise_in_thread(thread_id, None)

    def raise_in_thread(self, exception: type[BaseException]) -> None:
        """Throw, now or as soon as the thread runs the activity without a shield."""
        with self._lock:
            self._pending = exception
            self._throw()

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold exceptions back within this block; may be nested."""
        with self._lock:
            self._shield_depth += 1
        try:
            yield None
        finally:
            with self._lock:
                self._shield_depth -= 1
                self._throw()

    def _throw(self) -> None:
        if self._thread_id is not None and self._shield_depth == 0 and self._pending is not None:
            raise_in_thread(self._thread_id, self._pending)
            self._pending = None
