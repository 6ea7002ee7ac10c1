"""The real clock and randomness: ids are valid, never repeat, and are not shared with a forked process."""

from __future__ import annotations

import multiprocessing
import os
import threading
import uuid

import pytest

from perdure.core.run.ids import uuid4
from perdure.server import runtime
from perdure.server.runtime import SystemRuntime


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
