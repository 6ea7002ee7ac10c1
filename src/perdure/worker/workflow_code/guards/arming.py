"""Arms and disarms the guards around workflow code, and installs them once per process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from perdure.worker.workflow_code.guards import audit, calls, functions, objects, waits
from perdure.worker.workflow_code.guards.errors import count_as_users
from perdure.worker.workflow_code.guards.reach import modules_reached_from
from perdure.worker.workflow_code.guards.state import GuardedRun, armed

_installing = threading.Lock()
_is_installed = False


def install() -> None:
    """Installs the guards in this process. Called by every worker; only the first call does anything."""
    global _is_installed
    with _installing:
        if _is_installed:
            return
        # First: what refuses to sleep has to be called by workflow code itself, not by what makes it interruptible.
        waits.install()
        functions.install()
        calls.install()
        audit.install()
        _is_installed = True


def watch(workflow_class: type) -> None:
    """Watches the module that defines a workflow: what its code calls, and the names for functions and locks in it and
    in the user's modules that it reaches.
    """
    module = sys.modules.get(workflow_class.__module__)
    if module is not None:
        count_as_users(module.__name__)
        for reached in modules_reached_from(module):
            functions.rebind(reached)
            objects.rebind(reached)
            calls.rebind(reached)
            calls.watch(reached, is_workflows=reached is module)


def enter(run: GuardedRun | None) -> None:
    """Workflow code of `run` is about to run in this thread; None for code that is not to be guarded."""
    armed.run = run


def leave() -> None:
    """Workflow code has stopped running in this thread."""
    armed.run = None


@contextmanager
def unguarded() -> Iterator[None]:
    """Lifts the guards in this thread for a while; what happens then is the user's responsibility."""
    run = armed.run
    armed.run = None
    try:
        yield
    finally:
        armed.run = run
