"""The real clock and randomness: time goes on whatever becomes of the wall clock; ids are valid, never repeat, and are
not shared with a forked process."""

from __future__ import annotations

import multiprocessing
import os
import threading
import uuid

import pytest

from perdure.core.run.ids import uuid4
from perdure.server import runtime
from perdure.server.runtime import SystemRuntime

SECOND_NS = 1_000_000_000


def test_ids_are_random_uuids_in_their_usual_form() -> None:
    """Every id is what Python's own class makes of the same bits."""
    for _ in range(200):
        random = os.urandom(16)
        assert uuid4(random) == str(uuid.UUID(bytes=random, version=4))


def test_ids_and_run_ids_never_repeat_on_any_thread() -> None:
    """Several threads take ids at once; none is given twice, whatever its kind."""
    clock = SystemRuntime()
    taken: list[list[str]] = [[] for _ in range(4)]

    def take(ids: list[str]) -> None:
        for _ in range(1_000):
            ids.append(clock.new_id())
            ids.append(clock.new_run_id())

    threads = [threading.Thread(target=take, args=(ids,)) for ids in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ids = [given for each in taken for given in each]
    assert len(ids) == 8_000
    assert len(set(ids)) == len(ids)
    assert {uuid.UUID(given).version for given in ids} == {4, 7}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_makes_other_ids() -> None:
    """What was fetched for the next ids is not used in both processes."""
    clock = SystemRuntime()
    clock.new_id()
    while not runtime._pieces:  # the last piece of a portion was taken
        clock.new_id()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=lambda: theirs.send([clock.new_id() for _ in range(64)]))
    child.start()
    assert ours.poll(30)
    of_child = ours.recv()
    child.join(30)
    assert not set(of_child) & {clock.new_id() for _ in range(64)}


class _Clocks:
    """A wall clock that can be set, and a steady one."""

    def __init__(self) -> None:
        self.steady_ns = 5 * SECOND_NS
        self.offset_ns = 1_800_000_000 * SECOND_NS

    def wall_ns(self) -> int:
        return self.steady_ns + self.offset_ns

    def pass_s(self, seconds: float) -> None:
        self.steady_ns += int(seconds * SECOND_NS)


def test_time_goes_on_when_the_wall_clock_is_set_back() -> None:
    """A timer of a second must not wait for an hour because the clock was an hour ahead."""
    clocks = _Clocks()
    runtime = SystemRuntime(clocks.wall_ns, lambda: clocks.steady_ns)
    before_ns = runtime.now_ns()
    clocks.offset_ns -= 3_600 * SECOND_NS
    assert runtime.now_ns() == before_ns
    clocks.pass_s(10)
    assert runtime.now_ns() - before_ns == 9 * SECOND_NS
    clocks.offset_ns -= 60 * SECOND_NS
    clocks.pass_s(10)
    assert runtime.now_ns() - before_ns == 18 * SECOND_NS


def test_time_is_the_wall_clocks_again_once_that_has_caught_up() -> None:
    """It loses a tenth of what passes, so a minute takes ten; set forward, the wall clock has caught up at once."""
    clocks = _Clocks()
    runtime = SystemRuntime(clocks.wall_ns, lambda: clocks.steady_ns)
    last_ns = runtime.now_ns()
    for _ in range(3):
        clocks.offset_ns -= 60 * SECOND_NS
        for _ in range(620):
            assert runtime.now_ns() >= last_ns
            last_ns = runtime.now_ns()
            clocks.pass_s(1)
        assert runtime.now_ns() == clocks.wall_ns()
        last_ns = runtime.now_ns()
    clocks.offset_ns -= 60 * SECOND_NS
    assert runtime.now_ns() > clocks.wall_ns()
    clocks.offset_ns += 60 * SECOND_NS + 1
    assert runtime.now_ns() == clocks.wall_ns()
