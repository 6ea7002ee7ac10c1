"""Throwing an exception into the thread that runs an activity, and only while it does."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def raise_in_thread(thread_id: int, exception: type[BaseException]) -> None:
    """Make a thread raise at its next bytecode, instead of what was thrown into it and it has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(exception))


class _TakenBack(BaseException):
    """Takes the place of what was thrown, and ends where it is raised."""


def take_back() -> None:
    """Let the calling thread raise no more of what was thrown into it.

    It may be raised before that, within this call too. Python's own way, to throw NULL, is not good enough: before
    3.13 the interpreter then goes on for ever to look for something to raise. That makes 3.12 slow, and 3.11 stands
    still at the next function that a debugger or a coverage tool traces.
    """
    try:
        raise_in_thread(threading.get_ident(), _TakenBack)
        while True:
            pass
    except _TakenBack:  # it has done its work
        pass


class ThreadExceptionRaiser:
    """Throws one exception into the thread of one activity; held back while the thread shields itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._pending: type[BaseException] | None = None
        self._has_thrown = False
        self._shield_depth = 0

    @contextmanager
    def active_thread(self) -> Iterator[None]:
        """Exceptions may be thrown into the calling thread within this block, and not a moment longer."""
        with self._lock:
            self._thread_id = threading.get_ident()
            self._throw()
        try:
            yield None
        finally:
            with self._lock:
                self._thread_id = None
                self._pending = None
            if self._has_thrown:
                take_back()  # it would hit the executor's own code

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
            self._has_thrown = True
