"""`asyncio.wait` and `asyncio.as_completed` in a fixed order: the standard ones keep futures in sets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from perdure.types import AnyType

if TYPE_CHECKING:
    _FT = TypeVar("_FT", bound=asyncio.Future[Any])
else:
    _FT = TypeVar("_FT", bound=asyncio.Future)

_RETURN_WHEN = (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED)


def as_completed(
    fs: Iterable[Awaitable[AnyType]], *, timeout: float | None = None
) -> Iterator[Awaitable[AnyType]]:
    """Like `asyncio.as_completed`, and the same on every replay: use it instead in workflows.

    Args:
        fs: What to wait for.
        timeout: How long to wait at most, in seconds.

    Returns:
        Awaitables, as many as were given; each ends as the next of them that is done. After the timeout each raises
        `asyncio.TimeoutError`.

    Raises:
        TypeError: a single future or coroutine was given.
    """
    if asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
        raise TypeError(f"expect an iterable of futures, not {type(fs).__name__}")
    loop = asyncio.get_running_loop()
    pending = [asyncio.ensure_future(f, loop=loop) for f in fs]
    count = len(pending)
    # None stands for one that was still pending when the time was over.
    finished: asyncio.Queue[asyncio.Future[AnyType] | None] = asyncio.Queue()
    timer: asyncio.TimerHandle | None = None

    def on_done(future: asyncio.Future[AnyType]) -> None:
        if future in pending:
            pending.remove(future)
            finished.put_nowait(future)
            if not pending and timer is not None:
                timer.cancel()

    def on_timeout() -> None:
        for future in pending:
            future.remove_done_callback(on_done)
            finished.put_nowait(None)
        pending.clear()

    async def next_finished() -> AnyType:
        future = await finished.get()
        if future is None:
            raise TimeoutError
        return future.result()

    for future in pending:
        future.add_done_callback(on_done)
    if pending and timeout is not None:
        timer = loop.call_later(timeout, on_timeout)
    for _ in range(count):
        yield next_finished()


@overload
async def wait(
    fs: Iterable[_FT], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[list[_FT], list[_FT]]: ...


@overload
async def wait(
    fs: Iterable[asyncio.Task[AnyType]],
    *,
    timeout: float | None = None,
    return_when: str = asyncio.ALL_COMPLETED,
) -> tuple[list[asyncio.Task[AnyType]], list[asyncio.Task[AnyType]]]: ...


async def wait(
    fs: Iterable[Any], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[list[Any], list[Any]]:
    """Like `asyncio.wait`, and the same on every replay: use it instead in workflows.

    Args:
        fs: Tasks or futures.
        timeout: How long to wait at most, in seconds. Nothing is raised or cancelled when it is over.
        return_when: One of asyncio's constants of that name.

    Returns:
        Those that are done and those that are not, each in the order given.

    Raises:
        TypeError: a single future or coroutine, or coroutines among the futures.
        ValueError: nothing to wait for, or an unknown `return_when`.
    """
    if asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
        raise TypeError(f"Expect an iterable of Tasks/Futures, not {type(fs).__name__}")
    futures = list(fs)
    if not futures:
        raise ValueError("Sequence of Tasks/Futures must not be empty.")
    if return_when not in _RETURN_WHEN:
        raise ValueError(f"Invalid return_when value: {return_when}")
    if any(asyncio.iscoroutine(future) for future in futures):
        raise TypeError("Passing coroutines is forbidden, use tasks explicitly.")
    return await _wait(futures, timeout, return_when, asyncio.get_running_loop())


async def _wait(
    fs: Sequence[asyncio.Future[Any]],
    timeout: float | None,
    return_when: str,
    loop: asyncio.AbstractEventLoop,
) -> tuple[list[Any], list[Any]]:
    waiter: asyncio.Future[None] = loop.create_future()
    timer = None if timeout is None else loop.call_later(timeout, _release_waiter, waiter)
    missing = len(fs)

    def on_done(future: asyncio.Future[Any]) -> None:
        nonlocal missing
        missing -= 1
        is_enough = missing <= 0 or return_when == asyncio.FIRST_COMPLETED
        if not is_enough and return_when == asyncio.FIRST_EXCEPTION:
            is_enough = not future.cancelled() and future.exception() is not None
        if is_enough:
            if timer is not None:
                timer.cancel()
            _release_waiter(waiter)

    for future in fs:
        future.add_done_callback(on_done)
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for future in fs:
            future.remove_done_callback(on_done)
    return [future for future in fs if future.done()], [future for future in fs if not future.done()]


def _release_waiter(waiter: asyncio.Future[Any], *_args: Any) -> None:
    if not waiter.done():
        waiter.set_result(None)
