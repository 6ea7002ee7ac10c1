"""Polling one task queue: a group of long polls, kept open through lost connections and server restarts.

What a task means is the handler's affair; here a poll has either a task or nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar, cast

from perdure.service import RPCError
from perdure.worker._calls import RETRYABLE, Backoff
from perdure.worker._slots import Permit, Slots

logger = logging.getLogger("perdure.worker")

# Codes that do not pass by themselves are borne for so long: a server that restarts may answer anything.
_FATAL_AFTER_S = 60.0
_REPEAT_WARNING_S = 60.0
_WARN_AFTER_S = 1.0
_AT_ONCE_S = 0.05


class PollAnswer(Protocol):
    """What poll responses have in common."""

    @property
    def task_token(self) -> bytes:
        """Empty: no task came in time."""
        ...


AnswerT = TypeVar("AnswerT", bound=PollAnswer)


class PollerScaler:
    """How many polls should be open, following what the server suggests with its answers.

    Args:
        minimum: At least so many.
        maximum: At most so many.
        initial: So many at first.
        follows_load: Open another poll when a task came at once, because there are probably more; otherwise only the
            server's suggestions count.
    """

    def __init__(self, minimum: int, maximum: int, initial: int, *, follows_load: bool = False) -> None:
        self._minimum, self._maximum = minimum, max(minimum, maximum)
        self._follows_load = follows_load
        # Without anything that opens more polls again, none is closed: older servers never suggest a number.
        self._may_grow = follows_load
        self.target = min(max(initial, self._minimum), self._maximum)

    def answered(self, suggestion: int | None, has_task: bool, waited_s: float) -> None:
        """Take a poll's answer into account.

        Args:
            suggestion: By how many polls the server would change the number; None if it said nothing.
            has_task: Whether a task came.
            waited_s: Seconds that the poll took.
        """
        if suggestion is not None:
            self._may_grow = True
            self._change(suggestion)
        elif not has_task:
            self._change(-1)
        elif self._follows_load and waited_s < _AT_ONCE_S:
            self._change(1)

    def refused(self, is_overloaded: bool) -> None:
        """Take a poll's error into account."""
        self._change(-(self.target // 2) if is_overloaded else -1)

    def _change(self, by: int) -> None:
        if self._may_grow:
            self.target = min(max(self.target + by, self._minimum), self._maximum)


class PollBalance:
    """Keeps the polls of two queues that share slots from shutting each other out.

    A poll holds a slot for up to a minute. Were all of them with one queue, nobody would hear of the other's tasks. So
    a queue's second poll waits until the other queue has its first, and the common queue comes before the worker's own.
    Whatever hands out the slots, as soon as there are two, both queues are polled.
    """

    def __init__(self) -> None:
        self._open = {False: 0, True: 0}
        self._waiters: list[asyncio.Future[None]] = []

    async def reserve(self, slots: Slots, *, is_sticky: bool) -> Permit:
        """Wait for a slot, and note that a poll is open; `closed` ends that.

        Args:
            slots: Of both queues.
            is_sticky: Whether the poll is one of the worker's own queue.
        """
        while True:
            while not self._may_open(is_sticky):
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter
            permit = await slots.reserve(is_sticky=is_sticky)
            if self._may_open(is_sticky):
                self._count(is_sticky, 1)
                return permit
            # The other queue lost its last poll while this one waited for a slot.
            permit.release()

    def closed(self, *, is_sticky: bool) -> None:
        """Note that a poll is open no longer, whether or not its slot goes on to be used."""
        self._count(is_sticky, -1)

    def _may_open(self, is_sticky: bool) -> bool:
        is_first = self._open[is_sticky] == 0
        return self._open[not is_sticky] > 0 or (is_first and not is_sticky)

    def _count(self, is_sticky: bool, change: int) -> None:
        self._open[is_sticky] += change
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class PollerGroup(Generic[AnswerT]):
    """The polls of one task queue.

    Args:
        kind: "Workflow" or "Activity".
        name: What is polled, for the log.
        poll: Makes one long poll.
        handle: Takes a task over, with its slot; returns at once.
        slots: One is reserved before each poll.
        scaler: How many polls to keep open.
        is_sticky: Whether the queue is the worker's own.
        balance: Shared with the group of the other queue that uses the same slots, if there is one.
        before_poll: Awaited before each poll (rate limits), or None.
        suggestion: Reads the server's suggestion out of an answer.
        on_count: Told how many polls are open, when that changes.
        on_answer: Told of every answer, and whether it has a task.
        is_autoscaling: Whether the user asked for as many polls as the server suggests.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        poll: Callable[[], Awaitable[AnswerT]],
        handle: Callable[[AnswerT, Permit], None],
        slots: Slots,
        scaler: PollerScaler,
        is_sticky: bool = False,
        balance: PollBalance | None = None,
        before_poll: Callable[[], Awaitable[None]] | None = None,
        suggestion: Callable[[AnswerT], int | None] | None = None,
        on_count: Callable[[int], None] | None = None,
        on_answer: Callable[[AnswerT, bool], None] | None = None,
        is_autoscaling: bool = False,
    ) -> None:
        self.kind = kind
        self._name = name
        self._poll = poll
        self._handle = handle
        self._slots = slots
        self._scaler = scaler
        self._is_sticky = is_sticky
        self._balance = balance
        self._before_poll = before_poll
        self._suggestion = suggestion
        self._on_count = on_count
        self._on_answer = on_answer
        self.is_autoscaling = is_autoscaling
        self.last_task_at_s: float | None = None
        """When a poll brought a task last, since the epoch."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        """Those that have no poll open: they wait for a slot, a rate or a next try."""
        self._stopping = False
        self._failure: asyncio.Future[None] | None = None
        self._failing_since_s: float | None = None
        self._warned_at_s = 0.0

    @property
    def is_sticky(self) -> bool:
        """Whether the queue is the worker's own."""
        return self._is_sticky

    @property
    def open_polls(self) -> int:
        """How many polls are open, or wait for a slot."""
        return len(self._tasks)

    async def run(self) -> None:
        """Poll until stopped.

        Raises:
            RPCError: The server refuses polls, for longer than a restart takes.
        """
        self._failure = asyncio.get_running_loop().create_future()
        self._fill()
        try:
            while self._tasks:
                await asyncio.wait([*self._tasks, self._failure], return_when=asyncio.FIRST_COMPLETED)
                if self._failure.done():
                    self._failure.result()
        finally:
            self._failure.cancel()
            await self.cancel()

    def stop(self) -> None:
        """Open no new polls; those that are open end with what they bring."""
        self._stopping = True
        for task in self._waiting:
            task.cancel()

    async def cancel(self) -> None:
        """Close all polls now."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _is_stopping(self) -> bool:
        return self._stopping

    def _fill(self) -> None:
        while len(self._tasks) < self._scaler.target and not self._stopping:
            task = asyncio.get_running_loop().create_task(self._poll_for_ever())
            self._tasks.add(task)
            self._waiting.add(task)
            task.add_done_callback(self._ended)
            if self._on_count is not None:
                self._on_count(len(self._tasks))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._waiting.discard(task)
        if self._on_count is not None:
            self._on_count(len(self._tasks))
        if task.cancelled():
            return
        error = task.exception()
        if self._failure is None or self._failure.done():
            return
        if error is not None:
            self._failure.set_exception(error)
        else:
            self._fill()

    async def _poll_for_ever(self) -> None:
        backoff: Backoff | None = None
        while not self._stopping and len(self._tasks) <= self._scaler.target:
            permit = await self._reserve()
            polling = cast(asyncio.Task[None], asyncio.current_task())
            wait_s = 0.0
            try:
                if self._before_poll is not None:
                    await self._before_poll()
                self._waiting.discard(polling)
                if self._is_stopping():
                    return
                polled_s = time.monotonic()
                answer = await self._poll()
                self._succeeded()
                backoff = None
                self._take(answer, permit, time.monotonic() - polled_s)
            except RPCError as error:
                backoff = backoff or Backoff()
                wait_s = backoff.next_s(error)
                self._failed(error)
            finally:
                # The handler took the slot over, if there was a task.
                if permit.info is None:
                    permit.release()
                if self._balance is not None:
                    self._balance.closed(is_sticky=self._is_sticky)
            self._waiting.add(polling)
            if wait_s:
                await asyncio.sleep(wait_s)

    async def _reserve(self) -> Permit:
        if self._balance is not None:
            return await self._balance.reserve(self._slots, is_sticky=self._is_sticky)
        return await self._slots.reserve(is_sticky=self._is_sticky)

    def _take(self, answer: AnswerT, permit: Permit, waited_s: float) -> None:
        has_task = bool(answer.task_token)
        suggestion = self._suggestion(answer) if self._suggestion else None
        self._scaler.answered(suggestion, has_task, waited_s)
        if self._on_answer is not None:
            self._on_answer(answer, has_task)
        if has_task:
            self.last_task_at_s = time.time()
            self._handle(answer, permit)
        if len(self._tasks) < self._scaler.target:
            self._fill()

    def _succeeded(self) -> None:
        if self._failing_since_s is None:
            return
        if self._warned_at_s:
            logger.info(
                "Polling %s works again after %.1f s", self._name, time.monotonic() - self._failing_since_s
            )
        self._failing_since_s, self._warned_at_s = None, 0.0

    def _failed(self, error: RPCError) -> None:
        now_s = time.monotonic()
        self._failing_since_s = self._failing_since_s or now_s
        failing_s = now_s - self._failing_since_s
        self._scaler.refused(error.status.name == "RESOURCE_EXHAUSTED")
        if error.status not in RETRYABLE and failing_s > _FATAL_AFTER_S:
            raise error
        if failing_s >= _WARN_AFTER_S and now_s - self._warned_at_s > _REPEAT_WARNING_S:
            self._warned_at_s = now_s
            logger.warning(
                "Polling %s fails (%s: %s); trying again until it works",
                self._name,
                error.status.name,
                error.message,
            )
