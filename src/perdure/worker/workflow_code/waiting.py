"""Waiting for time and for conditions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.worker.workflow_code.loop import WorkflowTimer, timer_metadata

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def sleep(instance: WorkflowInstance, duration_s: float, summary: str | None) -> None:
    """Waits for a timer."""
    future: asyncio.Future[None] = asyncio.Future(loop=instance.loop)
    metadata = instance.conversions.workflow.metadata(summary)
    timer: WorkflowTimer = instance.loop.start_timer(duration_s, metadata, _finish, (future,))

    def cancel_timer(done: asyncio.Future[None]) -> None:
        if done.cancelled():
            timer.cancel()

    future.add_done_callback(cancel_timer)
    await future


class Conditions:
    """Conditions that workflow code waits for, in the order in which it began to wait."""

    __slots__ = ("_instance", "_waiting")

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def check(self) -> None:
        """Wakes those whose condition holds; forgets those that wait no more."""
        if self._waiting:
            self._waiting[:] = [
                waiting for waiting in self._waiting if not waiting[1].done() and not _is_met(*waiting)
            ]

    async def wait(
        self, condition: Callable[[], bool], *, timeout_s: float | None, timeout_summary: str | None
    ) -> None:
        """Waits until the condition holds.

        Raises:
            asyncio.TimeoutError: the time is over.
            asyncio.CancelledError: the task was cancelled.
        """
        instance = self._instance
        # A thrown away run may wait, to be cancelled once more: code that catches everything in a loop would otherwise
        # never come back.
        instance.recorder.check_writable("wait condition", is_allowed_while_evicting=True)
        was_cancelled = instance.cancel_reason is not None
        future: asyncio.Future[None] = asyncio.Future(loop=instance.loop)
        self._waiting.append((condition, future))
        try:
            if timeout_s is None:
                await future
            else:
                await self._wait_with_timeout(future, timeout_s, timeout_summary)
        except TimeoutError:
            if self._is_cancelled_since(was_cancelled):
                raise asyncio.CancelledError from None
            raise
        if self._is_cancelled_since(was_cancelled):
            raise asyncio.CancelledError

    async def _wait_with_timeout(
        self, future: asyncio.Future[None], timeout_s: float, summary: str | None
    ) -> None:
        token = timer_metadata.set(self._instance.conversions.workflow.metadata(summary))
        try:
            await asyncio.wait_for(future, timeout_s)
        finally:
            timer_metadata.reset(token)

    def _is_cancelled_since(self, was_cancelled: bool) -> bool:
        """Some Pythons' wait_for prefers a result or a timeout of the same step over a cancellation."""
        instance = self._instance
        return instance.is_single_batch and not was_cancelled and instance.cancel_reason is not None


def _is_met(condition: Callable[[], bool], future: asyncio.Future[None]) -> bool:
    if not condition():
        return False
    future.set_result(None)
    return True
