"""Waits of the threading module: refused in workflow code, and interruptible where a watched thread waits unguarded.

Events, queues, futures, barriers and semaphores all wait in `threading.Condition.wait`, which is replaced once per
process; so is `time.sleep`. Elsewhere the replacement costs a read of a thread-local before a wait.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from time import monotonic  # bound here: in workflow code, the one in the module is to give workflow time
from typing import Any

from perdure.worker.workflow_code.guards.errors import refuse
from perdure.worker.workflow_code.guards.state import armed

INSTEAD = "await what asyncio has for it (Event, Queue, Lock, gather), workflow.wait_condition(...), or an activity."

_SLICE_S = 0.05
_installing = threading.Lock()
_is_installed = False


def install() -> None:
    """Replaces both. Called by every worker; only the first call does anything."""
    global _is_installed
    with _installing:
        if _is_installed:
            return
        condition: Any = threading.Condition
        condition.wait = _waiting(condition.wait)
        clock: Any = time
        clock.sleep = _sleeping(time.sleep)
        _is_installed = True


def _is_watched() -> bool:
    watched = armed.watched
    return watched is not None and watched.job != 0


def _waiting(original: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(original)
    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        if armed.run is not None:
            refuse("threading.Condition.wait()", INSTEAD)
        if _is_watched():
            return _wait_in_slices(self, timeout)
        return original(self, timeout)

    return wait


def _wait_in_slices(condition: Any, timeout: float | None) -> bool:
    """What `Condition.wait` does, but with moments at which an exception thrown into the thread is raised."""
    if not condition._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    until_s = None if timeout is None else monotonic() + timeout
    notified = threading.Lock()
    notified.acquire()
    condition._waiters.append(notified)
    held = condition._release_save()
    is_notified = False
    try:
        while not is_notified:
            left_s = _SLICE_S if until_s is None else min(_SLICE_S, until_s - monotonic())
            if left_s <= 0:
                is_notified = notified.acquire(blocking=False)
                break
            is_notified = notified.acquire(timeout=left_s)
    finally:
        condition._acquire_restore(held)
        if notified in condition._waiters:
            condition._waiters.remove(notified)
    return is_notified


def _sleeping(original: Callable[[float], None]) -> Callable[[float], None]:
    @functools.wraps(original)
    def sleep(seconds: float, /) -> None:
        if not _is_watched():
            original(seconds)
            return
        until_s = monotonic() + seconds
        # The first one as it was asked for: what is no number or negative is refused by the original.
        original(min(seconds, _SLICE_S))
        while (left_s := until_s - monotonic()) > 0:
            original(min(left_s, _SLICE_S))

    return sleep
