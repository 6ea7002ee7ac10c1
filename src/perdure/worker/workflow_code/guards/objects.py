"""Locks and simple queues that the user's modules have names for: refused in workflow code where they would wait.

They are of built-in types, and nothing interrupts a thread that waits inside one. So the names for one get a stand-in,
as names of functions do: in the modules that workflow code reaches (`reach.py`), and in the classes and the objects
there. Outside workflow code a stand-in costs a call. What is reached otherwise (a lock that an object made later)
is refused by `calls.py` from Python 3.12 on if workflow code calls `acquire` itself, and else reported by the watch.

Why not the methods of the built-in types, as `calls.py` does on Python 3.11 for those of `datetime`: every lock of the
process would be taken by a function in Python, which a signal can interrupt after the lock was taken and before `with`
knows of it, and then nobody ever releases it.
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from perdure.worker.workflow_code.guards.errors import is_users, refuse
from perdure.worker.workflow_code.guards.state import armed
from perdure.worker.workflow_code.guards.waits import INSTEAD

_LOCK = type(threading.Lock())
_REENTRANT_LOCK = type(threading.RLock())
WAITING_METHODS: dict[type, str] = {
    _LOCK: "threading.Lock.acquire()",
    _REENTRANT_LOCK: "threading.RLock.acquire()",
    queue.SimpleQueue: "queue.SimpleQueue.get()",
}
"""The method of each type that waits for another thread."""


def would_wait(original: Any) -> bool:
    """Whether the method that `WAITING_METHODS` names would wait now."""
    if isinstance(original, queue.SimpleQueue):
        return original.empty()
    if original.acquire(blocking=False):
        original.release()
        return False
    return True


class _StandIn:
    """Is what it stands for, but for the methods of its subclasses."""

    __slots__ = ("__weakref__", "_original")

    def __init__(self, original: Any) -> None:
        self._original = original

    @property  # type: ignore[misc] # as unittest.mock does it
    def __class__(self) -> type:
        """For `isinstance`."""
        return type(self._original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __repr__(self) -> str:
        return repr(self._original)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._original.__reduce_ex__(protocol)

    def _refuse_to_wait(self) -> None:
        if armed.run is not None and would_wait(self._original):
            called = WAITING_METHODS[type(self._original)]
            refuse(f"{called}, which would wait,", INSTEAD, depth=3)


class _Lock(_StandIn):
    __slots__ = ()

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        self._refuse_to_wait()
        return bool(self._original.acquire(*args, **kwargs))

    def __enter__(self) -> bool:
        self._refuse_to_wait()
        return bool(self._original.__enter__())

    def __exit__(self, *error: object) -> None:
        self._original.__exit__(*error)


class _SimpleQueue(_StandIn):
    __slots__ = ()

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self._refuse_to_wait()
        return self._original.get(*args, **kwargs)


_STAND_INS: dict[type, type[_StandIn]] = {
    _LOCK: _Lock,
    _REENTRANT_LOCK: _Lock,
    queue.SimpleQueue: _SimpleQueue,
}


def rebind(module: ModuleType) -> None:
    """Gives the names of a module, and of the classes and objects of user code in it, stand-ins for what would wait."""
    _rebind(module)
    for value in list(vars(module).values()):
        if isinstance(value, type):
            if value.__module__ == module.__name__:
                _rebind(value)
        elif isinstance(members := getattr(value, "__dict__", None), dict) and not isinstance(
            value, ModuleType
        ):
            if is_users(type(value).__module__, _file_of(type(value))):
                _exchange(members, members.__setitem__)


def _file_of(kind: type) -> str | None:
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _rebind(owner: ModuleType | type) -> None:
    _exchange(vars(owner), functools.partial(setattr, owner))


def _exchange(members: Mapping[str, Any], put: Callable[[str, Any], None]) -> None:
    for name, value in list(members.items()):
        stand_in = _STAND_INS.get(type(value))
        if stand_in is not None:
            put(name, stand_in(value))
