"""Activities that the Python SDK tests run: each shows one behaviour. No test code here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError

HEARTBEAT_INTERVAL_S: Final = 0.05
HANG_LIMIT_S: Final = 30.0
"""An activity that waits for something that never comes ends by itself after this."""


@activity.defn
async def greet(name: str) -> str:
    """Answer at once."""
    return f"Hello, {name}!"


@activity.defn
def double(number: int) -> int:
    """A synchronous activity, run in a thread."""
    return number * 2


@activity.defn
async def succeed_at_attempt(attempt: int) -> int:
    """Fail every attempt before the given one; answer its number."""
    if activity.info().attempt < attempt:
        raise ApplicationError(f"not at attempt {activity.info().attempt}", type="TooEarly")
    return activity.info().attempt


@activity.defn
async def succeed_after_delay(delay_s: float) -> float:
    """Ask for its own retry delay once; answer the seconds between the two attempts' starts."""
    info = activity.info()
    if info.attempt == 1:
        raise ApplicationError("later", next_retry_delay=timedelta(seconds=delay_s))
    return (info.started_time - info.scheduled_time).total_seconds()


@activity.defn
async def always_fail(kind: str) -> None:
    """Fail with an error of the given type."""
    raise ApplicationError("as asked", "some", "details", type=kind)


@activity.defn
async def hang() -> None:
    """Neither finish nor heartbeat."""
    await asyncio.sleep(HANG_LIMIT_S)


@activity.defn
def heartbeat_then_hang() -> None:
    """Heartbeat once, then be silent."""
    activity.heartbeat("last words", 7)
    activity.wait_for_cancelled_sync(HANG_LIMIT_S)


@activity.defn
async def resume_from_heartbeat() -> list[Any]:
    """Fail once after a heartbeat; the next attempt answers the details it finds."""
    if activity.info().attempt == 1:
        activity.heartbeat("progress", 42)
        raise RuntimeError("crashed after a heartbeat")
    return list(activity.info().heartbeat_details)


@activity.defn
async def heartbeat_until_cancelled() -> str:
    """Heartbeat until cancellation arrives, then answer normally."""
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
    except asyncio.CancelledError:
        return "cleaned up"


@activity.defn
async def accept_cancellation() -> None:
    """Heartbeat until cancellation arrives, and end as cancelled."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_INTERVAL_S)


@activity.defn
def sync_until_cancelled() -> str:
    """The same from a thread, into which the SDK raises the cancellation."""
    try:
        while True:
            activity.heartbeat()
            activity.wait_for_cancelled_sync(HEARTBEAT_INTERVAL_S)
    except CancelledError:
        return "thread cleaned up"


@activity.defn
async def until_worker_shutdown() -> str:
    """Run until the worker is asked to stop, and use its grace period to finish."""
    await activity.wait_for_worker_shutdown()
    return "finished in the grace period"


class Gate:
    """An activity that tells when it began and ends when it is let go, for tests in the same process."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.open = threading.Event()
        self.attempts: list[int] = []

    @activity.defn(name="pass_gate")
    def pass_gate(self) -> int:
        """Wait for the gate; answer the attempt."""
        self.attempts.append(activity.info().attempt)
        self.began.set()
        if not self.open.wait(HANG_LIMIT_S):
            raise TimeoutError("the gate was never opened")
        return activity.info().attempt


class Elsewhere:
    """An activity whose result comes from somewhere else; keeps what is needed to deliver it."""

    def __init__(self) -> None:
        self.infos: list[activity.Info] = []
        self.began = asyncio.Event()

    @activity.defn(name="complete_elsewhere")
    async def complete_elsewhere(self) -> str:
        """Hand the completion over."""
        self.infos.append(activity.info())
        self.began.set()
        activity.raise_complete_async()


ALL_ACTIVITIES: Final[list[Callable[..., Any]]] = [
    greet,
    double,
    succeed_at_attempt,
    succeed_after_delay,
    always_fail,
    hang,
    heartbeat_then_hang,
    resume_from_heartbeat,
    heartbeat_until_cancelled,
    accept_cancellation,
    sync_until_cancelled,
    until_worker_shutdown,
]
