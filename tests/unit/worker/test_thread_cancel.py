"""Exceptions thrown into threads: what is taken back is not raised, and leaves nothing behind in the interpreter."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from perdure.worker._thread_cancel import ThreadExceptionRaiser, raise_in_thread, take_back

_TRACED = """
import sys
from concurrent.futures import CancelledError
from perdure.worker._thread_cancel import ThreadExceptionRaiser, raise_in_thread, take_back

raiser = ThreadExceptionRaiser()
if "thrown" in sys.argv:
    try:
        with raiser.active_thread():
            raiser.raise_in_thread(CancelledError)
    except CancelledError:
        pass
with raiser.active_thread():
    pass
take_back()

def function():
    return "traced"

sys.settrace(lambda *given: None)
print(function())
"""


class Thrown(Exception):
    """What the tests throw."""


def test_what_is_taken_back_is_not_raised() -> None:
    """A thread throws it into another one, which takes it back while it cannot raise it."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(1_000):
                try:
                    raise_in_thread(threading.get_ident(), Thrown)
                    take_back()
                except Thrown:
                    pass  # raised before it was taken back, as it may be
                sum(range(10))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert raised == []


def test_an_activity_that_nobody_cancels_throws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking back is for what was thrown: every activity would pay for it."""
    monkeypatch.setattr("perdure.worker._thread_cancel.take_back", lambda: pytest.fail("nothing was thrown"))
    with ThreadExceptionRaiser().active_thread():
        pass


@pytest.mark.parametrize("mode", ["thrown", "not thrown"])
def test_threads_can_be_traced_after_something_was_taken_back(mode: str) -> None:
    """Python 3.11 stood still at the first function that a debugger or a coverage tool traced after an activity."""
    done = subprocess.run([sys.executable, "-c", _TRACED, mode], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "traced\n"), done.stderr
