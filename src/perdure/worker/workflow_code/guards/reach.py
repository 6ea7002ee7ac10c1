"""Which modules workflow code reaches by names: its own and the user's that it imports, and so on from there.

Names in all of them get what takes the place of functions and locks: a helper in the next module may have
`from time import time` as well. Installed packages and the standard library are left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

from perdure.worker.workflow_code.guards.errors import is_users

_MAX_MODULES = 2_000


def modules_reached_from(module: ModuleType) -> Iterator[ModuleType]:
    """A workflow module, and the user's modules that it or another one of them has a name from."""
    found = {module.__name__: module}
    waiting = [module]
    while waiting:
        current = waiting.pop()
        yield current
        for value in list(vars(current).values()):
            name = value.__name__ if isinstance(value, ModuleType) else _home(value)
            reached = sys.modules.get(name)
            if reached is None or name in found or len(found) >= _MAX_MODULES:
                continue
            if is_users(name, getattr(reached, "__file__", None)):
                found[name] = reached
                waiting.append(reached)


def _home(value: object) -> str:
    """The module that defines a function, a class or the class of an object; empty if it does not say."""
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""
