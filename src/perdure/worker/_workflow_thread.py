"""The thread in which all workflow code of a worker runs, the way there and back, and the watch over it.

Handing over is cheap: a queue in, and back one wake-up of the event loop for all answers that are ready. Code that does
not return for longer than the limit loses its thread: its job fails with the stack, and a fresh thread goes on.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar

from perdure.core.errors import PerdureError
from perdure.worker._thread_cancel import raise_in_thread

T = TypeVar("T")

logger = logging.getLogger("perdure.worker")

_LOOKS_PER_LIMIT = 4


class DeadlockError(PerdureError):
    """Workflow code kept its thread for too long. The message says for how long, where, and what to do."""


class _InterruptDeadlockError(BaseException):
    """Thrown into code that blocks the workflow thread, so that the thread can end."""


class WorkflowExecutor(Protocol):
    """Runs workflow code, one job after the other."""

    def run(
        self,
        job: Callable[[], T],
        activations: Callable[[], int],
        after_deadlock: Callable[[], None] | None = None,
    ) -> asyncio.Future[T]:
        """Run a job.

        Args:
            job: Runs workflow code.
            activations: Counts how often the job has entered workflow code: while it grows, nothing blocks.
            after_deadlock: Called in the thread of a job that blocked, when the job has ended at last.

        Returns:
            Its result; DeadlockError if it blocked.
        """
        ...

    def close(self) -> None:
        """End, after the jobs that are waiting."""
        ...


@dataclass(slots=True, eq=False)
class _Job:
    function: Callable[[], Any]
    activations: Callable[[], int]
    future: asyncio.Future[Any]
    after_deadlock: Callable[[], None] | None = None
    result: Any = None
    error: BaseException | None = None


class _Lane:
    """One thread, and the job it is at."""

    __slots__ = ("abandoned", "current", "thread")

    def __init__(self) -> None:
        self.current: _Job | None = None
        self.abandoned = False
        self.thread: threading.Thread | None = None


class WorkflowThread:
    """Runs jobs in a thread of its own.

    Args:
        loop: The worker's event loop, on which everything but the jobs runs.
        name: Of the thread.
        limit_s: Seconds for which one activation may keep the thread; None for ever.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, limit_s: float | None) -> None:
        self._loop = loop
        self._name = name
        self.limit_s = limit_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._finished: deque[_Job] = deque()
        self._is_wake_pending = False
        self._lane = self._new_lane()
        self._seen: tuple[_Job, int, float] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def run(
        self,
        job: Callable[[], T],
        activations: Callable[[], int],
        after_deadlock: Callable[[], None] | None = None,
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(job, activations, future, after_deadlock))
        return future

    def close(self) -> None:
        self._jobs.put(None)
        if self._timer is not None:
            self._timer.cancel()

    def _new_lane(self) -> _Lane:
        lane = _Lane()
        # A daemon: code that blocks for ever must not keep the process alive.
        lane.thread = threading.Thread(target=self._work, args=(lane,), name=self._name, daemon=True)
        lane.thread.start()
        return lane

    def _work(self, lane: _Lane) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            lane.current = job
            try:
                job.result = job.function()
            except BaseException as error:  # handed to whoever waits for the job
                job.error = error
            lane.current = None
            if lane.abandoned:
                _end_code(job)
                return
            self._finished.append(job)
            if not self._is_wake_pending:
                self._is_wake_pending = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    # The event loop is closed: nobody waits any more.
                    return

    def _deliver(self) -> None:
        # Before the queue is emptied: what finishes from now on wakes the loop again.
        self._is_wake_pending = False
        while self._finished:
            job = self._finished.popleft()
            if job.future.done():
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(_carried(job.error))

    def _look(self) -> None:
        limit_s = self.limit_s
        self._timer = self._loop.call_later((limit_s or 2.0) / _LOOKS_PER_LIMIT, self._look)
        job = self._lane.current
        if job is None or limit_s is None:
            self._seen = None
            return
        count, now_s = job.activations(), time.monotonic()
        seen = self._seen
        if seen is None or seen[0] is not job or seen[1] != count:
            self._seen = (job, count, now_s)
        elif now_s - seen[2] >= limit_s:
            self._seen = None
            self._give_up(self._lane, job, limit_s)

    def _give_up(self, lane: _Lane, job: _Job, limit_s: float) -> None:
        thread_id = lane.thread.ident if lane.thread is not None else None
        frame = sys._current_frames().get(thread_id) if thread_id is not None else None
        error = DeadlockError(_deadlock_message(limit_s, frame))
        lane.abandoned = True
        self._lane = self._new_lane()
        if not job.future.done():
            job.future.set_exception(error)
        if thread_id is not None and lane.current is job:
            raise_in_thread(thread_id, _InterruptDeadlockError)


def _end_code(job: _Job) -> None:
    if job.after_deadlock is None:
        return
    try:
        job.after_deadlock()
    except BaseException:  # the thread ends anyway, and what it was interrupted with may come late
        logger.debug("Workflow code that blocked could not be ended", exc_info=True)


def _carried(error: BaseException) -> BaseException:
    # A future cannot carry StopIteration, and SystemExit would end the event loop.
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapper = RuntimeError(f"Workflow code raised {type(error).__name__}: {error}")
    wrapper.__cause__ = error
    return wrapper


def _deadlock_message(limit_s: float, frame: FrameType | None) -> str:
    # The code in brackets is that of the official SDKs: people look it up and tools match it.
    seconds = int(limit_s) if limit_s == int(limit_s) else limit_s
    advice = (
        f"[TMPRL1101] Potential deadlock detected: workflow didn't yield within {seconds} second(s).\n"
        "Workflow code has to await within that time: move blocking calls and long computations into an activity "
        "(or a local activity). To step through it in a debugger, use Worker(debug_mode=True) or TEMPORAL_DEBUG=1. "
        "It stands here:\n"
    )
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its stack is not available)"
    return advice + stack


class InlineExecutor:
    """Runs jobs on the event loop's own thread, without a limit: for stepping through with a debugger.

    Args:
        loop: The worker's event loop; it stands still while a job runs.
    """

    limit_s: float | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(
        self,
        job: Callable[[], T],
        activations: Callable[[], int],
        after_deadlock: Callable[[], None] | None = None,
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        # Not at once: a task cannot run another event loop's tasks while it is itself in a step.
        self._loop.call_soon(self._run, job, future)
        return future

    def close(self) -> None:
        """Nothing to end."""

    def _run(self, job: Callable[[], T], future: asyncio.Future[T]) -> None:
        if future.done():
            return
        asyncio._set_running_loop(None)
        try:
            result = job()
        except BaseException as error:  # handed to whoever waits for the job
            asyncio._set_running_loop(self._loop)
            future.set_exception(_carried(error))
        else:
            asyncio._set_running_loop(self._loop)
            future.set_result(result)
