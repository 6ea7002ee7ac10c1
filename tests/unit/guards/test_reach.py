"""Names in the user's other modules count as well: a workflow's helper has its own for functions, locks and objects."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.worker.workflow_code import guards
from perdure.worker.workflow_code.guards import RestrictedWorkflowAccessError
from tests.unit.guards.test_guards import NOW_NS, Run

SOURCES = {
    "reach_flows": "import reach_shared\nfrom reach_ledger import book\nclass Flow: pass\n",
    "reach_ledger": "import reach_clock\ndef book(): return reach_clock.stamp()\n",
    "reach_clock": """
import datetime
from time import time as seconds
def stamp(): return seconds()
class Days:
    def tomorrow(self):
        return [datetime.date.today() + datetime.timedelta(1) for _ in range(1)]
""",
    "reach_shared": """
import queue, threading
lock = threading.Lock()
class Table:
    def __init__(self):
        self._lock = threading.RLock()
        self.items = queue.SimpleQueue()
    def count(self):
        with self._lock:
            return 0
table = Table()
""",
    "reach_elsewhere": "import threading\nlock = threading.Lock()\n",
}


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Modules of a user, of which a workflow's reaches all but the last one."""
    guards.install()
    loaded = types.SimpleNamespace()
    for name, source in reversed(SOURCES.items()):
        module = types.ModuleType(name)
        module.__file__ = str(tmp_path / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(source, module.__file__, "exec"), vars(module))  # noqa: S102 - ours
        setattr(loaded, name.removeprefix("reach_"), module)
    guards.watch(loaded.flows.Flow)
    yield loaded
    guards.leave()


def _guarded(code: Any) -> Any:
    guards.enter(Run())
    try:
        return code()
    finally:
        guards.leave()


def test_a_function_that_a_helpers_helper_imported_by_name_is_deterministic(modules: Any) -> None:
    assert _guarded(lambda: modules.flows.book()) == NOW_NS / 1e9
    assert modules.flows.book() != NOW_NS / 1e9


def test_a_clock_that_another_module_reads_is_refused(modules: Any) -> None:
    """On every Python, inside of a method and a comprehension; outside of workflow code it is read."""
    days = modules.clock.Days()
    with pytest.raises(RestrictedWorkflowAccessError, match=r"datetime\.date\.today") as raised:
        _guarded(days.tomorrow)
    assert Path(raised.value.file).name == "reach_clock.py"
    assert days.tomorrow()


def test_a_held_lock_of_another_module_is_refused_and_a_free_one_is_taken(modules: Any) -> None:
    """By attribute of the module, and of an object there; on every Python."""
    held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with modules.shared.lock, modules.shared.table._lock:
            held.set()
            may_end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(30)
        for code, called in (
            (lambda: modules.shared.lock.acquire(), "threading.Lock.acquire"),
            (lambda: modules.shared.table.count(), "threading.RLock.acquire"),
            (lambda: modules.shared.table.items.get(), "queue.SimpleQueue.get"),
        ):
            with pytest.raises(RestrictedWorkflowAccessError, match=called):
                _guarded(code)
    finally:
        may_end.set()
        thread.join(30)
    assert _guarded(modules.shared.table.count) == 0
    modules.shared.table.items.put(1)
    assert _guarded(modules.shared.table.items.get) == 1


def test_modules_that_nothing_leads_to_and_those_of_packages_keep_what_they_have(modules: Any) -> None:
    assert type(modules.elsewhere.lock) is type(threading.Lock())
    assert type(threading._active_limbo_lock).__module__ == "_thread"  # type: ignore[attr-defined]
