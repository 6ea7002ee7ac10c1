"""An asyncio event loop in simulated time: no thread, no socket, no clock, and an order that a seed decides.

Callbacks belong to nodes (simulated processes). Within a node they run first in, first out, as asyncio promises; which
node goes next is drawn at random. Timers that are due at the same moment run in random order. When nothing is
ready, time jumps to the next timer. A node can be killed: nothing of it ever runs again, not even its `finally` blocks.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
MOST_STEPS = 2_000_000


class SimulationError(Exception):
    """The simulated world itself came to a state that a correct system can not bring it to."""


class _Handle(asyncio.TimerHandle):
    """A callback and whether it is still wanted: asyncio's own does more when it is made than most callbacks do."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[object, ...], context: Context | None
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._context = context or copy_context()
        self._cancelled = False

    def cancel(self) -> None:
        """The callback never runs; its place in a queue stays until its time comes."""
        self._cancelled = True
        self._args = ()


class Node:
    """One simulated process: a name, its ready callbacks and its tasks."""

    __slots__ = ("alive", "name", "paused", "prune_at", "ready", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.ready: deque[_Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.prune_at = 64

    def __repr__(self) -> str:
        return f"<Node {self.name}{'' if self.alive else ' (dead)'}>"


class SimLoop(asyncio.AbstractEventLoop):
    """The loop.

    Args:
        random: decides every order that asyncio leaves open.
        max_steps: callbacks after which a run is taken to be caught in a loop.
    """

    def __init__(self, random: Random, max_steps: int = MOST_STEPS) -> None:
        self._random = random
        self.max_steps = max_steps
        self.steps = 0
        self.now_ns = 0
        self.world = Node("world")
        self._nodes: list[Node] = [self.world]
        self._node = self.world
        self._active: list[Node] = []
        self._timers: list[tuple[int, float, int, _Handle, Node]] = []
        self._sequence = 0
        self._closed = False
        self._running = False
        self._abort: BaseException | None = None
        self.errors: list[dict[str, Any]] = []
        """Contexts of the exceptions that nobody handled, of living nodes."""

    # --- nodes

    @property
    def node(self) -> Node:
        """The node whose callback runs now."""
        return self._node

    def new_node(self, name: str) -> Node:
        """A new process."""
        node = Node(name)
        self._nodes.append(node)
        return node

    def run_in(self, node: Node, delay_ns: int, callback: Callable[..., object], *args: object) -> None:
        """Lets a callback run in a node after a delay; the only way from one node into another."""
        if node.alive and not self._closed:
            self._push_timer(self.now_ns + delay_ns, _Handle(0, callback, args, None), node)

    def spawn(self, node: Node, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts a task in a node."""
        previous, self._node = self._node, node
        try:
            return self.create_task(coroutine)
        finally:
            self._node = previous

    def kill(self, node: Node) -> None:
        """Ends a node at once, as SIGKILL does."""
        node.alive = False
        node.ready.clear()
        if node in self._active:
            self._active.remove(node)

    def pause(self, node: Node) -> None:
        """Stops a node as SIGSTOP does: what becomes ready in it waits."""
        node.paused = True
        if node in self._active:
            self._active.remove(node)

    def resume(self, node: Node) -> None:
        """Lets a paused node go on."""
        node.paused = False
        if node.alive and node.ready and node not in self._active:
            self._active.append(node)

    async def sleep(self, seconds: float) -> None:
        """Lets simulated time pass in the running node."""
        future = self.create_future()
        timer = self.call_later(seconds, _resolve, future)
        try:
            await future
        finally:
            timer.cancel()

    async def hang(self) -> None:
        """Waits for what never comes: for what a dead node was doing."""
        await self.create_future()

    def abort(self, error: BaseException) -> None:
        """Ends `run_until_complete` with this error as soon as the running callback returns."""
        self._abort = self._abort or error

    # --- running

    def run_until_complete(self, future: Any) -> Any:
        """Runs until the coroutine or future is done.

        Raises:
            SimulationError: nothing is left that could happen, or too much happened.
        """
        if self._running:
            raise RuntimeError("the loop is running already")
        previous = events._get_running_loop()
        events._set_running_loop(self)
        self._running = True
        try:
            main = asyncio.ensure_future(future, loop=self)
            while not main.done():
                if not self._active:
                    self._advance(main)
                self._run_one()
                if self._abort is not None:
                    raise self._abort
        finally:
            self._running = False
            events._set_running_loop(previous)
        return main.result()

    def _run_one(self) -> None:
        active = self._active
        index = int(self._random.random() * len(active)) if len(active) > 1 else 0
        node = active[index]
        handle = node.ready.popleft()
        if not node.ready:
            active[index] = active[-1]
            active.pop()
        if handle._cancelled:
            return
        self.steps += 1
        if self.steps > self.max_steps:
            raise SimulationError(f"more than {self.max_steps} callbacks: something runs in circles")
        self._node = node
        try:
            handle._context.run(handle._callback, *handle._args)
        except Exception as error:  # as asyncio does: the loop goes on, and the world looks at it
            self.call_exception_handler({"message": f"Exception in {handle._callback}", "exception": error})
        self._node = self.world

    def _advance(self, main: asyncio.Future[Any]) -> None:
        """Moves time to the next timer and makes all of that moment ready."""
        timers = self._timers
        while not self._active:
            if not timers:
                raise SimulationError(f"nothing is left to happen, and {main!r} is not done")
            when_ns = timers[0][0]
            self.now_ns = max(self.now_ns, when_ns)
            while timers and timers[0][0] <= self.now_ns:
                _, _, _, handle, node = heapq.heappop(timers)
                if node.alive and not handle._cancelled:
                    self._push_ready(node, handle)

    def _push_ready(self, node: Node, handle: _Handle) -> None:
        if not node.ready and not node.paused:
            self._active.append(node)
        node.ready.append(handle)

    def _push_timer(self, when_ns: int, handle: _Handle, node: Node) -> None:
        self._sequence += 1
        heapq.heappush(self._timers, (when_ns, self._random.random(), self._sequence, handle, node))

    # --- what asyncio asks of a loop

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self.now_ns / 1e9

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        """Queues a callback in the running node."""
        handle = _Handle(0, callback, args, context)
        if self._node.alive and not self._closed:
            self._push_ready(self._node, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Queues a callback of the running node for later."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Queues a callback of the running node for a moment, rounded up to nanoseconds."""
        handle = _Handle(when, callback, args, context)
        if self._node.alive and not self._closed:
            # The first nanosecond at which `time()` is not before `when`, although floats are not exact.
            when_ns = math.ceil(when * 1e9 - 0.05)
            when_ns += when_ns / 1e9 < when
            self._push_timer(max(when_ns, self.now_ns), handle, self._node)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of the running node. The node keeps it alive, so that a killed one is never collected half-way."""
        if self._closed:
            coro.close()  # what a `finally` block begins when its coroutine is closed: it never runs
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        node = self._node
        node.tasks.append(task)
        if len(node.tasks) >= node.prune_at:
            node.tasks = [task for task in node.tasks if not task.done()]
            node.prune_at = 2 * len(node.tasks) + 64
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remembers what went wrong without anybody to tell; the world looks at it."""
        if not self._closed:
            self.errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """The same."""
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether `run_until_complete` is."""
        return self._running

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    async def shutdown_asyncgens(self) -> None:
        """There are none."""

    def close(self) -> None:
        """Ends the world: unfinished coroutines are closed without a chance to do anything."""
        self._closed = True
        # Their `finally` blocks may gather. Outside every loop asyncio would make a real one for them, or warn.
        previous = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for node in self._nodes:
                _bury(node)
        finally:
            events._set_running_loop(previous)
        self._timers.clear()
        self._active.clear()


def new_loop(random: Random) -> SimLoop:
    """A loop whose order this source decides."""
    return SimLoop(random)  # type: ignore[abstract]  # the rest is refused, see below


def _refuse(name: str) -> Callable[..., object]:
    def refuse(self: SimLoop, *args: object, **kwargs: object) -> object:
        raise SimulationError(f"{name}: nothing real exists in a simulation")

    return refuse


for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in SimLoop.__dict__:
        setattr(SimLoop, _name, _refuse(_name))


def _bury(node: Node) -> None:
    for task in node.tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if not task.done():
            try:
                task.get_coro().close()
            except RuntimeError:
                pass  # it awaits in a finally block: there is nothing it could wait for any more
        elif not task.cancelled():
            task.exception()
    node.tasks.clear()
    node.ready.clear()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
