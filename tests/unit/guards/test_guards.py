"""Guards of workflow code: deterministic where clean, refused with a message that helps elsewhere, absent outside."""

from __future__ import annotations

import concurrent.futures
import copy
import datetime
import glob
import logging
import os
import platform
import queue
import random
import re
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic as monotonic_imported_before
from time import time as time_imported_before
from typing import Any

import pytest

from perdure.api.common.v1 import Payload
from perdure.converter import CompositePayloadConverter, JSONPlainPayloadConverter
from perdure.worker._workflow_watch import NO_PROGRESS, run_watched
from perdure.worker.workflow_code import guards
from perdure.worker.workflow_code.guards import RestrictedWorkflowAccessError, waits
from tests.no_skip import OLDER_PYTHON

now_kept_before = datetime.datetime.now
random_imported_before = random.random

NOW_NS = 1_700_000_000_123_456_789


class Run:
    """A running workflow as guards see it."""

    def __init__(self, seed: int = 7, permits: guards.Permits | None = None) -> None:
        self._random = random.Random(seed)
        self.permits = permits or guards.Permits()

    def time_ns(self) -> int:
        """A fixed time."""
        return NOW_NS

    def random(self) -> random.Random:
        """Seeded."""
        return self._random


class Guarded:
    """Runs a function as workflow code."""

    def __call__(self, function: Callable[[], Any], seed: int = 7) -> Any:
        guards.enter(Run(seed))
        try:
            return function()
        finally:
            guards.leave()


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    """Installs the guards; this module counts as a workflow module."""
    guards.install()
    guards.watch(Guarded)
    yield Guarded()
    guards.leave()


def test_clocks_give_workflow_time_inside_and_real_time_outside(guarded: Guarded) -> None:
    for clock in ("time", "perf_counter", "monotonic"):
        assert guarded(partial(lambda name: getattr(time, name)(), clock)) == NOW_NS / 1e9
        assert guarded(partial(lambda name: getattr(time, name + "_ns")(), clock)) == NOW_NS
    assert abs(time.time() - datetime.datetime.now().timestamp()) < 60


def test_calendar_functions_without_a_time_take_workflow_time(guarded: Guarded) -> None:
    assert guarded(lambda: time.gmtime()) == time.gmtime(NOW_NS / 1e9)
    assert guarded(lambda: time.localtime()) == time.localtime(NOW_NS / 1e9)
    assert guarded(lambda: time.ctime()) == time.ctime(NOW_NS / 1e9)
    assert guarded(lambda: time.strftime("%Y %j")) == "2023 318"
    assert guarded(lambda: time.strftime("%Y", time.gmtime(0))) == "1970"
    assert time.gmtime().tm_year > 2023


def test_names_imported_before_are_deterministic_too(guarded: Guarded) -> None:
    assert guarded(lambda: (time_imported_before(), monotonic_imported_before())) == (NOW_NS / 1e9,) * 2
    assert abs(time_imported_before() - NOW_NS / 1e9) > 1e6


@pytest.mark.parametrize(
    "draw",
    [
        lambda: random.random(),
        lambda: random_imported_before(),
        lambda: random.randint(1, 1_000_000),
        lambda: random.choice(range(1_000_000)),
        lambda: random.sample(range(1_000_000), 3),
        lambda: uuid.uuid4(),
    ],
)
def test_randomness_follows_the_runs_seed(guarded: Guarded, draw: Callable[[], Any]) -> None:
    assert guarded(draw, seed=1) == guarded(draw, seed=1)
    assert guarded(draw, seed=1) != guarded(draw, seed=2)
    assert draw() != draw()


FORBIDDEN: dict[str, Callable[[], Any]] = {
    "datetime.datetime.now": lambda: datetime.datetime.now(),
    "datetime.datetime.now with a zone": lambda: datetime.datetime.now(datetime.UTC),
    "datetime.datetime.utcnow": lambda: datetime.datetime.utcnow(),
    "datetime.datetime.today": lambda: datetime.datetime.today(),
    "datetime.now kept before": lambda: now_kept_before(),
    "datetime.date.today": lambda: datetime.date.today(),
    "time.sleep": lambda: time.sleep(0),
    "open": lambda: open(os.devnull),  # noqa: SIM115
    "os.listdir": lambda: os.listdir("."),
    "os.remove": lambda: os.remove("no such file"),
    "glob": lambda: glob.glob("*"),
    "shutil": lambda: shutil.rmtree("no such folder"),
    "tempfile": lambda: tempfile.mkdtemp(),
    "subprocess": lambda: subprocess.run(["true"], check=False),
    "os.system": lambda: os.system("true"),
    "socket": lambda: socket.socket(),
    "socket.getaddrinfo": lambda: socket.getaddrinfo("localhost", 1),
    "sqlite3": lambda: sqlite3.connect(":memory:"),
    "a thread": lambda: threading.Thread(target=int).start(),
    "os.environ": lambda: os.environ["HOME"],
    "os.getenv": lambda: os.getenv("HOME"),
    "all of os.environ": lambda: dict(os.environ),
    "os.urandom": lambda: os.urandom(1),
    "uuid.uuid1": lambda: uuid.uuid1(),
    "secrets": lambda: secrets.token_hex(),
    "threading.Event.wait": lambda: threading.Event().wait(1),
    "threading.Barrier.wait": lambda: threading.Barrier(2).wait(1),
    "threading.Semaphore.acquire": lambda: threading.Semaphore(0).acquire(),
    "queue.Queue.get": lambda: queue.Queue[int]().get(),
    "concurrent.futures.Future.result": lambda: concurrent.futures.Future[int]().result(1),
    "concurrent.futures.wait": lambda: concurrent.futures.wait([concurrent.futures.Future[int]()]),
    "random.seed": lambda: random.seed(42),
    "random.seed of the clock": lambda: random.seed(),
    "random.Random without a seed": lambda: random.Random(),
    "random.SystemRandom": lambda: random.SystemRandom().random(),
    "time.process_time": lambda: time.process_time(),
    "os.stat": lambda: os.stat("."),
    "os.path.exists": lambda: os.path.exists("."),
    "Path.exists": lambda: Path(".").exists(),
    "os.access": lambda: os.access(".", os.R_OK),
    "platform.node": lambda: platform.node(),
}


@pytest.mark.filterwarnings("ignore:.*utcnow.*:DeprecationWarning")
@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_breaks_replay_is_refused_and_the_message_names_call_place_and_alternative(
    guarded: Guarded, name: str
) -> None:
    with pytest.raises(RestrictedWorkflowAccessError) as raised:
        guarded(FORBIDDEN[name])
    error = raised.value
    assert error.file == __file__
    line = FORBIDDEN[name].__code__.co_firstlineno
    assert error.line == line
    assert f"Called at {__file__}:{line} in" in str(error)
    assert "Instead: " in str(error)


@pytest.mark.parametrize(
    "name", [name for name in FORBIDDEN if name.startswith(("threading.", "queue.", "concurrent."))]
)
def test_a_wait_for_a_thread_is_called_what_the_user_called(guarded: Guarded, name: str) -> None:
    """All of them wait in the same place."""
    with pytest.raises(RestrictedWorkflowAccessError) as raised:
        guarded(FORBIDDEN[name])
    assert raised.value.qualified_name == f"{name}()"


def test_what_need_not_wait_for_a_thread_is_allowed(guarded: Guarded) -> None:
    event, items, future = threading.Event(), queue.Queue[int](), concurrent.futures.Future[int]()
    event.set()
    items.put(1)
    future.set_result(2)
    assert guarded(lambda: (event.wait(), items.get(), future.result())) == (True, 1, 2)


_kept = types.SimpleNamespace(held=threading.Lock(), free=threading.Lock(), no_items=queue.SimpleQueue[int]())
_held = threading.Lock()
_held_by_a_thread = threading.RLock()
_free = threading.Lock()
_no_items: queue.SimpleQueue[int] = queue.SimpleQueue()


class Takes:
    """Code of a workflow module, with what it waits for inside another object."""

    lock = threading.Lock()

    def held(self) -> None:
        """Would wait."""
        _kept.held.acquire()

    def free(self) -> bool:
        """Does not wait."""
        return bool(_kept.free.acquire())

    def empty(self) -> int:
        """Would wait."""
        return int(_kept.no_items.get())


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason=OLDER_PYTHON + "calls of built-in methods are watched from 3.12 on"
)
def test_a_lock_held_elsewhere_is_refused_and_a_free_one_is_not(guarded: Guarded) -> None:
    guards.watch(Takes)
    _kept.held.acquire()
    try:
        with pytest.raises(RestrictedWorkflowAccessError, match=r"threading\.Lock\.acquire"):
            guarded(Takes().held)
        with pytest.raises(RestrictedWorkflowAccessError, match=r"queue\.SimpleQueue\.get"):
            guarded(Takes().empty)
        assert guarded(Takes().free)
    finally:
        _kept.held.release()
        _kept.free.release()


def test_a_module_that_is_loaded_anew_is_watched_too(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code equals what it was before."""
    for _ in ("first", "again"):
        _load_and_run(guarded, monkeypatch)


def _load_and_run(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("loaded_anew")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = "import datetime\nclass Flow:\n    def run(self):\n        return datetime.datetime.now()\n"
    exec(compile(source, "loaded_anew.py", "exec"), vars(module))  # noqa: S102
    guards.watch(module.Flow)
    with pytest.raises(RestrictedWorkflowAccessError, match="now"):
        guarded(module.Flow().run)


def _entered(lock: Any) -> bool:
    with lock:
        return bool(lock.locked())


def test_what_would_wait_is_refused_where_the_module_has_a_name_for_it(guarded: Guarded) -> None:
    """On every Python, and in `with` blocks; a class's names count as well. Outside nothing changes."""
    guards.watch(Takes)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_held_by_a_thread.acquire).result(10)
        _held.acquire()
        Takes.lock.acquire()
        for called, code in (
            ("threading.Lock.acquire", lambda: _entered(_held)),
            ("threading.Lock.acquire", lambda: _held.acquire(timeout=20)),
            ("threading.Lock.acquire", lambda: _entered(Takes().lock)),
            ("threading.RLock.acquire", lambda: _held_by_a_thread.acquire()),
            ("queue.SimpleQueue.get", lambda: _no_items.get(timeout=20)),
        ):
            with pytest.raises(RestrictedWorkflowAccessError, match=re.escape(called)) as raised:
                guarded(code)
            assert raised.value.file == __file__
        thread.submit(_held_by_a_thread.release).result(10)
    _held.release()
    Takes.lock.release()
    assert guarded(lambda: _entered(_held))
    assert guarded(lambda: _held_by_a_thread.acquire())
    _held_by_a_thread.release()
    _no_items.put(1)
    assert guarded(_no_items.get) == 1
    assert not _held.locked()


def test_a_stand_in_is_a_lock_to_everybody_else() -> None:
    """For conditions and instance checks; nobody gets a second one, and it can no more be copied than a lock."""
    guards.watch(Takes)
    stand_in: Any = _free
    guards.watch(Takes)
    assert _free is stand_in
    assert isinstance(_free, type(threading.Lock()))
    assert repr(_free).startswith("<unlocked")
    with pytest.raises(TypeError, match="pickle"):
        copy.copy(stand_in)
    condition = threading.Condition(_free)
    with condition:
        assert _free.locked()
        assert not stand_in.acquire(blocking=False)
    assert not _free.locked()


@pytest.mark.filterwarnings("ignore:.*utcnow.*:DeprecationWarning")
@pytest.mark.parametrize(
    "name", ["datetime.datetime.now", "datetime.date.today", "open", "os.getenv", "os.urandom"]
)
def test_outside_workflow_code_and_where_guards_are_lifted_everything_works(
    guarded: Guarded, name: str
) -> None:
    def lifted() -> None:
        with guards.unguarded():
            FORBIDDEN[name]()

    FORBIDDEN[name]()
    guarded(lifted)
    FORBIDDEN[name]()


def test_guards_are_armed_in_one_thread_only(guarded: Guarded) -> None:
    answers: list[object] = []
    entered, done = threading.Event(), threading.Event()

    def other_thread() -> None:
        entered.wait(10)
        answers.append(datetime.datetime.now().year >= 2023 and bool(os.listdir(".")))
        done.set()

    thread = threading.Thread(target=other_thread)
    thread.start()

    def workflow() -> None:
        entered.set()
        for _ in range(100_000_000):
            if done.is_set():
                break

    guarded(workflow)
    thread.join(10)
    assert answers == [True]


def test_logging_and_tracebacks_work_in_workflow_code(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Both read clocks and files, but nothing of that reaches the workflow."""

    def workflow() -> str:
        logging.getLogger("workflow").warning("hello")
        try:
            raise ValueError("boom")
        except ValueError:
            return traceback.format_exc()

    assert "boom" in guarded(workflow)
    assert "hello" in caplog.text


def test_time_zones_are_read_in_workflow_code(guarded: Guarded) -> None:
    """They are data of the interpreter, cached, and no workflow with a calendar does without."""
    zoneinfo.ZoneInfo.clear_cache()
    zone = guarded(lambda: zoneinfo.ZoneInfo("Europe/Berlin"))
    assert datetime.datetime(2026, 1, 1, tzinfo=zone).utcoffset() == datetime.timedelta(hours=1)


def test_a_late_import_works_in_workflow_code(guarded: Guarded) -> None:
    sys.modules.pop("colorsys", None)

    def workflow() -> object:
        import colorsys

        return colorsys.rgb_to_hsv(0, 0, 0)

    assert guarded(workflow) == (0.0, 0.0, 0)


def test_a_subclass_of_datetime_is_refused_too(guarded: Guarded) -> None:
    class Moment(datetime.datetime):
        """Somebody's own."""

    assert isinstance(Moment.now(), Moment)
    with pytest.raises(RestrictedWorkflowAccessError, match="now"):
        guarded(lambda: Moment.now())


def test_what_a_payload_converter_reads_is_not_workflow_code(guarded: Guarded) -> None:
    class ReadsTheEnvironment(JSONPlainPayloadConverter):
        """As Pydantic does when it makes a schema."""

        def from_payload(self, payload: Payload, type_hint: type | None = None) -> object:
            return os.environ.get("HOME_OF_NOBODY", "nowhere")

    class Converters(CompositePayloadConverter):
        """Only that one."""

        def __init__(self) -> None:
            super().__init__(ReadsTheEnvironment())

    payloads = JSONPlainPayloadConverter().to_payload("x")
    assert payloads is not None
    assert guarded(lambda: Converters().from_payloads([payloads])) == ["nowhere"]


def test_generators_with_a_seed_are_allowed(guarded: Guarded) -> None:
    assert guarded(lambda: random.Random(3).random()) == random.Random(3).random()
    assert random.Random().random() != random.Random().random()


def test_functions_that_ask_what_the_system_can_do_still_hear_it(guarded: Guarded, tmp_path: Path) -> None:
    """shutil copies times, and removes trees safely, only if `os.stat` is among the functions that can."""
    assert os.stat in os.supports_dir_fd
    (tmp_path / "file").write_text("x")
    shutil.copy2(tmp_path / "file", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mtime_ns == (tmp_path / "file").stat().st_mtime_ns


def test_a_log_handler_may_wait_for_a_thread_and_its_limit_is_real_time(guarded: Guarded) -> None:
    """Workflow time stands still meanwhile."""
    wait = types.FunctionType((lambda event: event.wait(0.1)).__code__, {"__name__": "logging.handlers"})
    event = threading.Event()
    waits.install()
    assert not run_watched(lambda: guarded(lambda: wait(event)), NO_PROGRESS, 2.0)
