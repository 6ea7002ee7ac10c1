"""Calls to the process of a shared state manager, in a thread of their own, and the events that go to other processes.

Whatever is done with a manager's objects waits for its process: a call, setting an event, and even dropping the last
reference to one. A process that hangs must hold up neither the worker's event loop nor the end of its own process.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.exceptions import ApplicationError

if TYPE_CHECKING:
    from perdure.worker._shared_state import SharedStateManager

T = TypeVar("T")

logger = logging.getLogger("perdure.worker")

ANSWER_TIMEOUT_S = 10.0
"""So long the process of a manager may take to answer."""


class CallThread:
    """A thread that makes calls one after the other, and is given up with the process if one never returns."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._is_started = False
        # The thread knows the queue alone, so that it ends when nobody has calls for it any more.
        weakref.finalize(self, self._calls.put, None).atexit = False

    def put(self, call: Callable[[], object]) -> None:
        """Have something called that does not raise; never waits."""
        if not self._is_started:
            self._is_started = True
            threading.Thread(target=_make, args=[self._calls], name=self._name, daemon=True).start()
        self._calls.put(call)

    async def call(self, function: Callable[[], T], timeout_s: float) -> T:
        """Call a function and return or raise what it does.

        Raises:
            TimeoutError: It has not returned in time.
        """
        outcome: Future[T] = Future()
        self.put(partial(_settle, outcome, function))
        return await asyncio.wait_for(asyncio.wrap_future(outcome), timeout_s)


class ProcessEvents:
    """Makes the events of a worker's activities in other processes."""

    def __init__(self, manager: SharedStateManager) -> None:
        self._manager = manager
        self._thread = CallThread("perdure-process-events")

    async def new(self) -> threading.Event:
        """Make an event that works in other processes.

        Raises:
            BrokenExecutor: The manager's process is gone, so that no activity can run in another process any more.
            ApplicationError: It does not answer.
        """
        try:
            held = await self._thread.call(lambda: [self._manager.new_event()], ANSWER_TIMEOUT_S)
        except TimeoutError as error:
            raise ApplicationError(
                f"The process of the worker's shared_state_manager has not answered for {ANSWER_TIMEOUT_S:g} s, and "
                "activities in other processes need it: find what holds it up, or start the worker anew",
                type="SharedStateManagerTimeout",
            ) from error
        except (EOFError, OSError) as error:
            raise BrokenExecutor(
                f"The process of the worker's shared_state_manager cannot be reached ({error!r}), and activities in "
                "other processes need it: start the worker anew, with a manager that lives as long as the worker"
            ) from error
        return _ProcessEvent(held, self._thread)


class _ProcessEvent(threading.Event):
    """A manager's event as the worker has it; in other processes it is the manager's own.

    Only the worker sets it, and so need not ask whether it is set.
    """

    def __init__(self, held: list[threading.Event], thread: CallThread) -> None:
        super().__init__()
        self._held = held
        self._thread = thread

    def set(self) -> None:
        super().set()
        self._thread.put(partial(_set, self._held))

    def __reduce__(self) -> Any:
        return _itself, (self._held[0],)

    def __del__(self) -> None:
        self._thread.put(self._held.clear)


# At the top level of the module, so that it can be pickled.
def _itself(event: threading.Event) -> threading.Event:
    return event


def _set(held: list[threading.Event]) -> None:
    try:
        held[0].set()
    except (EOFError, OSError):
        logger.warning(
            "Activities in other processes cannot be told to end: the process of the shared_state_manager is gone",
            exc_info=True,
        )


def _make(calls: queue.SimpleQueue[Callable[[], object] | None]) -> None:
    while (call := calls.get()) is not None:
        try:
            call()
        except Exception:  # what a manager of the user's raises; the next call may succeed
            logger.warning("A call to the shared_state_manager has failed", exc_info=True)
        del call  # or it would hold what it has used until the next one comes


def _settle(outcome: Future[T], function: Callable[[], T]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # it goes to whoever called
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
