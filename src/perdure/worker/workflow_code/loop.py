"""The event loop that workflow code runs on: asyncio's semantics, one thread, first in first out, workflow time.

It runs only while an activation is applied and never waits: timers are asked of the workflow's host and fire when
history says so. Everything that would reach outside the workflow is refused with a typed error.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio import tasks
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, NoReturn, Protocol, TypeVar

from perdure.api.sdk.v1 import UserMetadata
from perdure.worker.workflow_code.errors import UnsupportedInWorkflowError
from perdure.worker.workflow_code.guards.errors import Way, refuse, way_from_user
from perdure.worker.workflow_code.guards.state import armed
from perdure.worker.workflow_code.logic_flags import LogicFlag

_T = TypeVar("_T")
_ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

_logger = logging.getLogger(__name__)

_FIRST_PRUNE_AT = 64
_HASH_BITS = 12
_SEED_MASK = (1 << 48) - 1

timer_metadata: ContextVar[UserMetadata | None] = ContextVar("perdure_timer_metadata", default=None)
"""What timers started by asyncio's own functions are to say about themselves."""


def make_current(loop: asyncio.AbstractEventLoop | None, task: asyncio.Task[Any] | None) -> None:
    """Makes a loop the running one of this thread, and a task the current one, whatever stands there."""
    asyncio._set_running_loop(loop)
    # From 3.14 on a thread has one current task, not one for each loop.
    if sys.version_info >= (3, 14) and loop is not None:
        tasks._swap_current_task(loop, task)


class LoopHost(Protocol):
    """What the loop asks of the workflow that runs on it."""

    def now_ns(self) -> int:
        """Workflow time."""

    def check_writable(self, action: str, *, is_allowed_while_evicting: bool = False) -> None:
        """Raises if nothing may be changed now."""

    def start_timer(self, delay_s: float, metadata: UserMetadata | None) -> int:
        """Asks for a timer; its number."""

    def cancel_timer(self, seq: int) -> None:
        """Takes the request for a timer back."""

    def generation(self) -> LogicFlag:
        """Whose `wait_for` and `gather` the run goes by."""


class ReadyCallback(asyncio.Handle):
    """A callback in the queue of the loop."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        # Not the base's: it asks for debug mode and traces, and a callback is made for every step of every task.
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class WorkflowTimer(asyncio.TimerHandle):
    """A timer of the workflow."""

    __slots__ = ("seq",)

    def __init__(
        self,
        seq: int,
        when_s: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        super().__init__(when_s, callback, args, loop, context)
        self.seq = seq


class InOrder:
    """A task or future whose hash is the same on every replay.

    asyncio keeps tasks in sets (`TaskGroup`, `wait`), and so do users; the order of a set follows from hashes, which
    by default are addresses. The order in which a task group cancels its tasks would be another on every replay.
    """

    hash_in_order: int

    def __hash__(self) -> int:
        return self.hash_in_order


class WorkflowTask(InOrder, asyncio.Task[_T]):
    """A task of a workflow.

    Attributes:
        source: where in the user's code it was made, when known: what runs in it may have no frame there.
        way: how the user's code came to have a package make it; what is refused in it is told of that call.
    """

    source: str | None = None
    way: Way = ()

    def __init__(
        self, coro: Any, loop: WorkflowLoop, name: str, context: Context | None, options: dict[str, Any]
    ) -> None:
        # First of all: the base puts itself into a set.
        self.hash_in_order = loop.next_hash()
        super().__init__(coro, loop=loop, name=name, context=context, **options)


class WorkflowFuture(InOrder, asyncio.Future[_T]):
    """A future of a workflow, as users get it."""

    def __init__(self, loop: WorkflowLoop) -> None:
        self.hash_in_order = loop.next_hash()
        super().__init__(loop=loop)


class WorkflowLoop(asyncio.AbstractEventLoop):
    """One workflow's event loop.

    Args:
        host: the workflow.
        task_name_suffix: says in the names of tasks whose they are.
        seed: of the run. Hashes begin with it, so that tasks of different runs do not collide in asyncio's sets.

    Attributes:
        failure: set by a task that must end the run of the loop at once: it is raised after the current step.
        is_silent: problems in tasks are not logged any more: the workflow is being thrown away.
        find_source: returns where in the user's code its caller was called from; None while nobody asks.
    """

    def __init__(self, host: LoopHost, task_name_suffix: str, seed: int) -> None:
        self._host = host
        # Small sets of hashes that follow each other keep the order of their making.
        self._next_hash = (seed & _SEED_MASK) << _HASH_BITS
        self._task_name_suffix = task_name_suffix
        self._task_count = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: dict[int, WorkflowTimer] = {}
        # Strong references: asyncio itself keeps only weak ones. In the order in which they were made.
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = _FIRST_PRUNE_AT
        self._exception_handler: _ExceptionHandler | None = None
        self.failure: BaseException | None = None
        self.is_silent = False
        self.find_source: Callable[[], str | None] | None = None

    # Running

    def run_ready(self, check_conditions: Callable[[], None] | None) -> None:
        """Runs everything that is ready until nothing is.

        Args:
            check_conditions: called whenever the queue is empty after steps; it may make more ready.

        Raises:
            BaseException: `failure`, when a task has set it.
        """
        ready = self._ready
        while ready:
            while ready:
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
                    if self.failure is not None and not self.is_silent:
                        raise self.failure
            if check_conditions is not None:
                check_conditions()

    def enter(self) -> tuple[asyncio.AbstractEventLoop | None, asyncio.Task[Any] | None]:
        """Makes this the running loop of the thread; what ran before, for `leave`."""
        outer = asyncio._get_running_loop()
        outer_task = None
        # From 3.14 on a thread has one current task, not one for each loop.
        if sys.version_info >= (3, 14) and outer is not None:
            outer_task = tasks._swap_current_task(outer, None)
        asyncio._set_running_loop(self)
        return outer, outer_task

    def leave(self, before: tuple[asyncio.AbstractEventLoop | None, asyncio.Task[Any] | None]) -> None:
        """Makes what ran before run again."""
        make_current(*before)

    def fire_timer(self, seq: int) -> None:
        """Makes the callback of a timer ready; nothing if it was cancelled."""
        timer = self._timers.pop(seq, None)
        if timer is not None:
            self._ready.append(timer)

    def unfinished_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, oldest first."""
        return [task for task in self._tasks if not task.done()]

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Holds a task until it is done."""
        kept = self._tasks
        kept.append(task)
        if len(kept) > self._prune_at:
            self._tasks = self.unfinished_tasks()
            self._prune_at = max(_FIRST_PRUNE_AT, 2 * len(self._tasks))
        # A workflow may be thrown away with tasks that were never finished; that is no mistake of the user's.
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    def task_name(self, name: str | None) -> str:
        """What a task is called: the same on every replay."""
        if name is None:
            self._task_count += 1
            name = f"Task-{self._task_count}"
        return name + self._task_name_suffix

    def next_hash(self) -> int:
        """The hash of the next task or future."""
        self._next_hash += 1
        return self._next_hash

    def generation(self) -> LogicFlag:
        """Whose `asyncio.wait_for` and `asyncio.gather` the run goes by."""
        return self._host.generation()

    def discard(self) -> None:
        """Forgets everything that is queued."""
        self._ready.clear()
        self._timers.clear()
        self._tasks.clear()

    # What asyncio asks of a loop

    def time(self) -> float:
        """Workflow time, in seconds."""
        return self._host.now_ns() / 1e9

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Runs a callback after those that are ready."""
        self._host.check_writable("schedule task", is_allowed_while_evicting=True)
        handle = ReadyCallback(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Starts a timer."""
        return self.start_timer(delay, timer_metadata.get(), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Starts a timer for a point of workflow time, to the millisecond: floats of today have no more."""
        return self.call_later(round(when - self.time(), 3), callback, *args, context=context)

    def start_timer(
        self,
        delay_s: float,
        metadata: UserMetadata | None,
        callback: Callable[..., object],
        args: tuple[Any, ...] = (),
        context: Context | None = None,
    ) -> WorkflowTimer:
        """Starts a timer that says something about itself.

        Raises:
            RuntimeError: the delay is negative.
        """
        self._host.check_writable("schedule timer")
        if delay_s < 0:
            raise RuntimeError("Attempting to schedule timer with negative delay")
        seq = self._host.start_timer(delay_s, metadata)
        timer = WorkflowTimer(seq, self.time() + delay_s, callback, args, self, context)
        self._timers[seq] = timer
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, WorkflowTimer) and self._timers.pop(handle.seq, None) is not None:
            self._host.cancel_timer(handle.seq)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return WorkflowFuture(self)

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T] | Awaitable[_T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[_T]:
        """Starts a task. Options of newer Pythons (`eager_start`) are handed on."""
        self._host.check_writable("create task", is_allowed_while_evicting=False)
        task: WorkflowTask[_T] = WorkflowTask(coro, self, self.task_name(name), context, options)
        if self.find_source is not None:
            task.source = self.find_source()
        if armed.run is not None and (way := way_from_user()):
            task.way = way
        self.keep(task)
        return task

    def get_task_factory(self) -> None:
        """None: there is no other way to make tasks."""

    def get_debug(self) -> bool:
        """False."""
        return False

    def is_running(self) -> bool:
        """True: code that can ask runs on this loop."""
        return True

    def is_closed(self) -> bool:
        """False: a loop of a workflow is thrown away, never closed."""
        return False

    # Problems in callbacks and in tasks that nobody awaits

    def get_exception_handler(self) -> _ExceptionHandler | None:
        """What `set_exception_handler` set."""
        return self._exception_handler

    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None:
        """Sets who hears of problems; None for the log."""
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Writes a problem to the log."""
        details = "".join(
            f"\n{key}: {context[key]!r}" for key in sorted(context) if key not in ("message", "exception")
        )
        error = context.get("exception")
        _logger.error(
            "%s%s", context.get("message") or "Unhandled exception in event loop", details, exc_info=error
        )

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Hands a problem to whoever hears of problems."""
        if self.is_silent:
            return
        if self._exception_handler is None:
            self.default_exception_handler(context)
            return
        try:
            self._exception_handler(self, context)
        except Exception as error:  # the user's handler must not break the loop
            self.default_exception_handler(
                {"message": "Unhandled error in exception handler", "exception": error, "context": context}
            )


_REFUSED = (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "call_soon_threadsafe",
    "close",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "remove_reader",
    "remove_signal_handler",
    "remove_writer",
    "run_forever",
    "run_in_executor",
    "run_until_complete",
    "sendfile",
    "set_debug",
    "set_default_executor",
    "set_task_factory",
    "shutdown_asyncgens",
    "shutdown_default_executor",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "stop",
    "subprocess_exec",
    "subprocess_shell",
)
"""Methods of a real loop that workflow code cannot have."""


def _refusal(name: str) -> Callable[..., NoReturn]:
    def method(self: WorkflowLoop, *args: Any, **kwargs: Any) -> NoReturn:
        if armed.run is not None:
            refuse(f"loop.{name}()", "do it in an activity and await the activity's result.")
        raise UnsupportedInWorkflowError(f"The event loop's {name}()")

    method.__name__ = name
    return method


for _name in _REFUSED:
    setattr(WorkflowLoop, _name, _refusal(_name))
