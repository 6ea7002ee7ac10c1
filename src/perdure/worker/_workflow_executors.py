"""Where a worker runs workflow code: on its own event loop, or in the threads of a pool that it was given."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from perdure.worker._workflow_watch import NO_PROGRESS, DeadlockError, Progress, run_watched
from perdure.worker.workflow_code import guards
from perdure.worker.workflow_code.loop import make_current

T = TypeVar("T")

logger = logging.getLogger("perdure.worker")


class WorkflowExecutor(Protocol):
    """Runs workflow code.

    Attributes:
        limit_s: Seconds for which code may run without waiting; None for ever.
    """

    limit_s: float | None

    async def run(
        self, job: Callable[[], T], progress: Progress, after_deadlock: Callable[[], None] | None = None
    ) -> T:
        """Run a job.

        Args:
            job: Runs workflow code.
            progress: Tells that the job gets on: while it grows, nothing blocks.
            after_deadlock: Called when a job has ended for whose end this call did not wait.

        Raises:
            DeadlockError: It did not wait in time. Its attribute `is_running` says whether it still runs.
            Exception: Whatever the job raised.
        """
        ...

    def end(self, job: Callable[[], None]) -> None:
        """Run a job that ends code, and log what it raises. It may go on after this call."""
        ...

    async def drain(self) -> None:
        """Wait for the jobs that end code."""
        ...


class LoopExecutor:
    """Runs jobs at once, in the thread of the worker's event loop, which stands still meanwhile.

    Args:
        loop: The worker's.
        limit_s: See `WorkflowExecutor`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float | None) -> None:
        guards.install_waits()
        self._loop = loop
        self.limit_s = limit_s

    async def run(
        self, job: Callable[[], T], progress: Progress, after_deadlock: Callable[[], None] | None = None
    ) -> T:
        return self._run(job, progress)

    def end(self, job: Callable[[], None]) -> None:
        try:
            self._run(job, NO_PROGRESS)
        except Exception as error:  # whatever the user's code does when it is to end
            logger.warning("Workflow code could not be ended: %s", error)

    async def drain(self) -> None:
        """Nothing to wait for."""

    def _run(self, job: Callable[[], T], progress: Progress) -> T:
        # The loop's hooks would have it finish asynchronous generators of workflow code, outside the workflow.
        hooks = sys.get_asyncgen_hooks()
        task = asyncio.current_task(self._loop) if sys.version_info >= (3, 14) else None
        sys.set_asyncgen_hooks(None, None)
        try:
            return run_watched(job, progress, self.limit_s)
        except DeadlockError:
            # The code may have been interrupted on its way out.
            make_current(self._loop, task)
            guards.leave()
            raise
        except (StopIteration, SystemExit) as error:
            raise _carried(error) from error
        finally:
            sys.set_asyncgen_hooks(*hooks)


@dataclass(slots=True, eq=False)
class _Job:
    function: Callable[[], Any]
    progress: Progress
    future: asyncio.Future[Any]
    after_deadlock: Callable[[], None] | None
    result: Any = None
    error: BaseException | None = None


class PoolExecutor:
    """Runs jobs in the threads of a pool, which stays its owner's.

    A job that does not wait in time fails at once, although its thread may still be inside.

    Args:
        loop: The worker's, on which everything but the jobs runs.
        pool: Of threads.
        limit_s: See `WorkflowExecutor`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pool: ThreadPoolExecutor, limit_s: float | None
    ) -> None:
        guards.install_waits()
        self._loop = loop
        self._pool = pool
        self.limit_s = limit_s
        self._finished: deque[_Job] = deque()
        self._is_wake_pending = False
        self._endings: set[asyncio.Future[Any]] = set()

    async def run(
        self, job: Callable[[], T], progress: Progress, after_deadlock: Callable[[], None] | None = None
    ) -> T:
        result: T = await self._submit(job, progress, after_deadlock)
        return result

    def end(self, job: Callable[[], None]) -> None:
        try:
            future = self._submit(job, NO_PROGRESS, None)
        except RuntimeError as error:
            logger.warning("Workflow code could not be ended, its executor takes nothing any more: %s", error)
            return
        self._endings.add(future)
        future.add_done_callback(self._ended)

    async def drain(self) -> None:
        while self._endings:
            await asyncio.wait(self._endings)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._endings.discard(future)
        if not future.cancelled() and future.exception() is not None:
            logger.warning("Workflow code could not be ended: %s", future.exception())

    def _submit(
        self, job: Callable[[], Any], progress: Progress, after_deadlock: Callable[[], None] | None
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pool.submit(self._work, _Job(job, progress, future, after_deadlock))
        return future

    def _work(self, job: _Job) -> None:
        def fail_at_once(error: DeadlockError) -> None:
            error.is_running = True
            with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_fail, job.future, error)

        try:
            job.result = run_watched(job.function, job.progress, self.limit_s, fail_at_once)
        except DeadlockError:
            asyncio._set_running_loop(None)
            guards.leave()
            if job.after_deadlock is not None:
                self._end_code(job.after_deadlock)
            return
        except BaseException as error:  # handed to whoever waits for the job
            job.error = error
        self._finished.append(job)
        if not self._is_wake_pending:
            self._is_wake_pending = True
            with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver)

    def _end_code(self, after_deadlock: Callable[[], None]) -> None:
        try:
            run_watched(after_deadlock, NO_PROGRESS, self.limit_s)
        except BaseException as error:  # what it raises must not end the pool's thread
            logger.warning("Workflow code that blocked could not be ended: %s", error)

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


def make_executor(pool: ThreadPoolExecutor | None, limit_s: float | None) -> WorkflowExecutor:
    """Return what runs workflow code for the running event loop.

    Args:
        pool: Of threads; None to run it on the loop.
        limit_s: See `WorkflowExecutor`.
    """
    loop = asyncio.get_running_loop()
    return LoopExecutor(loop, limit_s) if pool is None else PoolExecutor(loop, pool, limit_s)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _carried(error: BaseException) -> BaseException:
    # A future cannot carry StopIteration, and SystemExit would end the event loop.
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapper = RuntimeError(f"Workflow code raised {type(error).__name__}: {error}")
    wrapper.__cause__ = error
    return wrapper
