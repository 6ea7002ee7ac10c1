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

_LOOK_EVERY_S = 0.1
_SPARE_AFTER_S = 0.2
_MOST_LANES = 50


class DeadlockError(PerdureError):
    """Workflow code kept its thread for too long.

    Attributes:
        advice: What to do, and where the code stands.
    """

    def __init__(self, limit_s: float, frame: FrameType | None) -> None:
        # The code in brackets is that of the official SDKs: people look it up and tools match it.
        seconds = int(limit_s) if limit_s == int(limit_s) else limit_s
        super().__init__(
            f"[TMPRL1101] Potential deadlock detected: workflow didn't yield within {seconds} second(s)."
        )
        stack = (
            "".join(traceback.format_stack(frame)) if frame is not None else "(its stack is not available)"
        )
        self.advice = (
            "Workflow code has to await within that time: move blocking calls and long computations into an activity "
            "(or a local activity). To step through it in a debugger, use Worker(debug_mode=True) or TEMPORAL_DEBUG=1. "
            f"It stands here:\n{stack}"
        )


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
    """One thread, the job it is at, and when that was last seen to get on.

    Attributes:
        current: The job; None while the thread waits for one.
        is_spare: It was opened because another one was blocked, and ends when there is nothing to do.
        is_over: Its thread takes no more jobs.
        seen: The job, how often it had entered workflow code, and since when (monotonic clock).
    """

    __slots__ = ("current", "is_over", "is_spare", "seen", "thread")

    def __init__(self, *, is_spare: bool) -> None:
        self.current: _Job | None = None
        self.is_spare = is_spare
        self.is_over = False
        self.seen: tuple[_Job, int, float] | None = None
        self.thread: threading.Thread | None = None

    def stands_since_s(self, now_s: float) -> float | None:
        """Return since when its job has not got on; None without a job."""
        job = self.current
        if job is None:
            self.seen = None
            return None
        count = job.activations()
        if self.seen is None or self.seen[0] is not job or self.seen[1] != count:
            self.seen = (job, count, now_s)
        return self.seen[2]


class WorkflowThread:
    """Runs jobs in a thread of its own. While one of them blocks, others run in spare threads.

    Args:
        loop: The worker's event loop, on which everything but the jobs runs.
        name: Of the thread.
        limit_s: Seconds for which one activation may keep its thread; None for ever.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, limit_s: float | None) -> None:
        self._loop = loop
        self._name = name
        self.limit_s = limit_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._finished: deque[_Job] = deque()
        self._is_wake_pending = False
        self._lanes: list[_Lane] = []
        self._open_lane(is_spare=False)
        self._timer: asyncio.TimerHandle | None = None

    def run(
        self,
        job: Callable[[], T],
        activations: Callable[[], int],
        after_deadlock: Callable[[], None] | None = None,
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(job, activations, future, after_deadlock))
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)
        return future

    def close(self) -> None:
        for _ in self._lanes:
            self._jobs.put(None)
        if self._timer is not None:
            self._timer.cancel()

    def _open_lane(self, *, is_spare: bool) -> None:
        lane = _Lane(is_spare=is_spare)
        self._lanes.append(lane)
        # A daemon: code that blocks for ever must not keep the process alive.
        lane.thread = threading.Thread(target=self._work, args=(lane,), name=self._name, daemon=True)
        lane.thread.start()

    def _work(self, lane: _Lane) -> None:
        while True:
            if lane.is_spare and self._jobs.empty():
                lane.is_over = True
                return
            job = self._jobs.get()
            if job is None:
                return
            lane.current = job
            try:
                job.result = job.function()
            except BaseException as error:  # handed to whoever waits for the job
                job.error = error
            lane.current = None
            if lane.is_over:
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
        self._timer = None
        now_s = time.monotonic()
        self._lanes = [lane for lane in self._lanes if not lane.is_over]
        standing = []
        for lane in self._lanes:
            since_s = lane.stands_since_s(now_s)
            if since_s is None:
                continue
            if self.limit_s is not None and now_s - since_s >= self.limit_s:
                self._give_up(lane, self.limit_s)
            else:
                standing.append(now_s - since_s)
        self._lanes = [lane for lane in self._lanes if not lane.is_over]
        if not any(not lane.is_spare for lane in self._lanes):
            self._open_lane(is_spare=False)
        elif (
            len(standing) == len(self._lanes) < _MOST_LANES
            and min(standing) >= _SPARE_AFTER_S
            and not self._jobs.empty()
        ):
            self._open_lane(is_spare=True)
        if standing or not self._jobs.empty():
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def _give_up(self, lane: _Lane, limit_s: float) -> None:
        job = lane.current
        thread_id = lane.thread.ident if lane.thread is not None else None
        if job is None or thread_id is None:
            return
        error = DeadlockError(limit_s, sys._current_frames().get(thread_id))
        lane.is_over = True
        if not job.future.done():
            job.future.set_exception(error)
        if lane.current is job:
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
