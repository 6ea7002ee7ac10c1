"""`asyncio.wait_for` and `asyncio.gather` as the Python on which a run began has them.

Python 3.12 changed how many turns of the loop the two take, and so which of two coroutines goes on first. A run keeps
to what it began with: its history has a flag that says which, and the other kind is made here. The functions are
replaced once per process; outside workflow code the replacement costs a look at the running loop.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from perdure.worker.workflow_code.logic_flags import LogicFlag
from perdure.worker.workflow_code.loop import WorkflowLoop

NATIVE: Final = LogicFlag.ASYNCIO_OF_3_12 if sys.version_info >= (3, 12) else LogicFlag.ASYNCIO_OF_3_11
"""What this Python's own functions do."""

_wait_for: Final = asyncio.wait_for
_gather: Final = asyncio.gather


def install() -> None:
    """Replaces both functions in this process. Called by every worker; repeating it changes nothing."""
    for module in (asyncio, asyncio.tasks):
        _rebind(module)


def watch(workflow_class: type) -> None:
    """Gives the module that defines a workflow, which may have imported them by name, what took their place."""
    module = sys.modules.get(workflow_class.__module__)
    if module is not None:
        _rebind(module)


def _rebind(module: ModuleType) -> None:
    for name, value in list(vars(module).items()):
        if value is _wait_for or value is _gather:
            setattr(module, name, wait_for if value is _wait_for else gather)


@functools.wraps(_wait_for)
def wait_for(fut: Any, timeout: float | None) -> Any:
    """In workflow code: of the run's generation."""
    loop = asyncio._get_running_loop()
    if isinstance(loop, WorkflowLoop) and timeout is not None and timeout > 0:
        generation = loop.generation()
        if generation is not NATIVE:
            return _WAIT_FOR[generation](fut, timeout)
    return _wait_for(fut, timeout)


@functools.wraps(_gather)
def gather(*coros_or_futures: Any, return_exceptions: bool = False) -> Any:
    """In workflow code: of the run's generation. They differ where something is done before it is gathered."""
    loop = asyncio._get_running_loop()
    if isinstance(loop, WorkflowLoop) and any(map(_is_done, coros_or_futures)):
        generation = loop.generation()
        if generation is not NATIVE:
            return _GATHER[generation](coros_or_futures, return_exceptions)
    return _gather(*coros_or_futures, return_exceptions=return_exceptions)


# wait_for


async def _wait_for_a_task(awaitable: Any, timeout_s: float) -> Any:
    """Python 3.11: what is awaited runs in a task of its own, and its end takes a turn more to be heard of."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    timer = loop.call_later(timeout_s, _wake, waiter)
    wake = functools.partial(_wake, waiter)
    task = asyncio.ensure_future(awaitable)
    task.add_done_callback(wake)
    try:
        await waiter
    except asyncio.CancelledError:
        # That Python prefers a result over a cancellation.
        if not task.done():
            task.remove_done_callback(wake)
            await _cancel_and_wait(task)
            raise
    else:
        if not task.done():
            task.remove_done_callback(wake)
            await _cancel_and_wait(task)
            try:
                return task.result()
            except (
                asyncio.CancelledError
            ) as error:  # what `gather` gave may raise it without being cancelled itself
                raise TimeoutError from error
    finally:
        timer.cancel()
    return task.result()


def _wake(waiter: asyncio.Future[None], *_: object) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _cancel_and_wait(task: asyncio.Future[Any]) -> None:
    waiter = asyncio.get_running_loop().create_future()
    wake = functools.partial(_wake, waiter)
    task.add_done_callback(wake)
    try:
        task.cancel()
        await waiter
    finally:
        task.remove_done_callback(wake)


async def _wait_for_in_place(awaitable: Any, timeout_s: float) -> Any:
    """Python 3.12 and later: what is awaited runs in the task that waits."""
    async with asyncio.timeout(timeout_s):
        return await awaitable


# gather


class _Done(asyncio.Future[Any]):
    """Stands for a future that was done before it was gathered."""

    def __init__(self, original: asyncio.Future[Any]) -> None:
        super().__init__(loop=original.get_loop())
        if original.cancelled():
            self.cancel(getattr(original, "_cancel_message", None))
        elif (error := original.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(original.result())


class _HeardOfLater(_Done):
    """The function that gathers does not see that it is done, so its callback takes a turn."""

    def done(self) -> bool:
        return False


class _HeardOfAtOnce(_Done):
    """Keeps the callback, to be called when everything is gathered."""

    def __init__(self, original: asyncio.Future[Any]) -> None:
        super().__init__(original)
        self.callback: Callable[[asyncio.Future[Any]], object] | None = None

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Any = None) -> None:
        self.callback = fn


def _is_done(given: Any) -> bool:
    return asyncio.isfuture(given) and given.done()


def _standing_in(kind: type[_Done], given: tuple[Any, ...]) -> list[Any]:
    """What was given, with a stand-in for each done future; the same for one that is there twice."""
    stand_ins: dict[int, _Done] = {}
    return [
        (stand_ins.get(id(each)) or stand_ins.setdefault(id(each), kind(each))) if _is_done(each) else each
        for each in given
    ]


def _gather_with_turns(given: tuple[Any, ...], return_exceptions: bool) -> Any:
    """Python 3.11: what is done already is heard of a turn later."""
    return _gather(*_standing_in(_HeardOfLater, given), return_exceptions=return_exceptions)


def _gather_at_once(given: tuple[Any, ...], return_exceptions: bool) -> Any:
    """Python 3.12 and later: what is done already is heard of at once; if all is, nobody waits."""
    gathered = _standing_in(_HeardOfAtOnce, given)
    outer = _gather(*gathered, return_exceptions=return_exceptions)
    for each in gathered:
        if isinstance(each, _HeardOfAtOnce) and each.callback is not None:
            callback, each.callback = each.callback, None
            callback(each)
    return outer


_WAIT_FOR: Final[dict[LogicFlag, Callable[[Any, float], Any]]] = {
    LogicFlag.ASYNCIO_OF_3_11: _wait_for_a_task,
    LogicFlag.ASYNCIO_OF_3_12: _wait_for_in_place,
}
_GATHER: Final[dict[LogicFlag, Callable[[tuple[Any, ...], bool], Any]]] = {
    LogicFlag.ASYNCIO_OF_3_11: _gather_with_turns,
    LogicFlag.ASYNCIO_OF_3_12: _gather_at_once,
}
