"""What activities in other processes share with the worker: events, and a way back for heartbeats."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from multiprocessing.managers import SyncManager
from typing import Any

from perdure.worker._process_events import ANSWER_TIMEOUT_S, CallThread

logger = logging.getLogger("perdure.worker")

_QUEUE_SIZE = 1000
_LOOK_AGAIN_S = 0.5
_PUT_TIMEOUT_S = 30.0
_LAST_PUT_TIMEOUT_S = 5.0
_MOST_ERRORS = 10


class SharedStateManager(ABC):
    """Makes what crosses a process boundary, for activity executors. One may serve several workers."""

    @staticmethod
    def create_from_multiprocessing(
        mgr: SyncManager, queue_poller_executor: Executor | None = None
    ) -> SharedStateManager:
        """Make one out of a multiprocessing manager.

        Args:
            mgr: Usually `multiprocessing.Manager()`.
            queue_poller_executor: Runs the thread that reads heartbeats; by default one with a single thread.
        """
        return _MultiprocessingSharedStateManager(mgr, queue_poller_executor or ThreadPoolExecutor(1))

    @abstractmethod
    def new_event(self) -> threading.Event:
        """Make an event that works in other processes."""

    @abstractmethod
    async def register_heartbeater(
        self, task_token: bytes, heartbeat: Callable[..., None]
    ) -> SharedHeartbeatSender:
        """Make a sender for one activity.

        Args:
            task_token: Names the activity.
            heartbeat: Called, in any thread, with the details of each heartbeat that is sent.

        Returns:
            The sender, which can be pickled.
        """

    @abstractmethod
    async def unregister_heartbeater(self, task_token: bytes) -> None:
        """Forget an activity, after its last heartbeats have arrived."""


class SharedHeartbeatSender(ABC):
    """Sends heartbeats from another process; can be pickled."""

    @abstractmethod
    def send_heartbeat(self, task_token: bytes, *details: Any) -> None:
        """Send one heartbeat of the activity with this token."""


class _MultiprocessingSharedStateManager(SharedStateManager):
    def __init__(self, mgr: SyncManager, queue_poller_executor: Executor) -> None:
        self._mgr = mgr
        self._executor = queue_poller_executor
        # The second member of an item is None when its activity has ended.
        self._queue: queue.Queue[tuple[bytes, Sequence[Any] | None]] = mgr.Queue(_QUEUE_SIZE)
        self._thread = CallThread("perdure-last-heartbeats")
        self._lock = threading.Lock()
        self._heartbeats: dict[bytes, Callable[..., None]] = {}
        self._ended: dict[bytes, Callable[[], None]] = {}
        self._is_reading = False

    def new_event(self) -> threading.Event:
        return self._mgr.Event()

    async def register_heartbeater(
        self, task_token: bytes, heartbeat: Callable[..., None]
    ) -> SharedHeartbeatSender:
        with self._lock:
            self._heartbeats[task_token] = heartbeat
            if not self._is_reading:
                self._executor.submit(self._read)
                self._is_reading = True
        return _MultiprocessingSharedHeartbeatSender(self._queue)

    async def unregister_heartbeater(self, task_token: bytes) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(ended.set)

        with self._lock:
            self._ended[task_token] = tell
        try:
            # In a thread: the queue may be full, or its process slow.
            put = partial(self._queue.put, (task_token, None), True, _LAST_PUT_TIMEOUT_S)
            await self._thread.call(put, _LAST_PUT_TIMEOUT_S + ANSWER_TIMEOUT_S)
            if self._is_reading:
                await asyncio.wait_for(ended.wait(), ANSWER_TIMEOUT_S)
        except (
            Exception
        ):  # the manager's process is gone, overloaded or hangs; the outcome matters all the same
            logger.warning("The last heartbeats of an activity in another process may be lost", exc_info=True)
        finally:
            with self._lock:
                self._ended.pop(task_token, None)
                self._heartbeats.pop(task_token, None)

    def _read(self) -> None:
        errors = 0
        while True:
            with self._lock:
                if not self._heartbeats:
                    self._is_reading = False
                    return
            try:
                self._pass_on(*self._queue.get(True, _LOOK_AGAIN_S))
                errors = 0
            except queue.Empty:
                continue
            except (
                Exception
            ) as error:  # details that cannot be unpickled, a closed event loop, a manager that is gone
                errors += 1
                if isinstance(error, (EOFError, OSError)) or errors >= _MOST_ERRORS:
                    self._give_up()
                    return
                logger.warning("A heartbeat of an activity in another process was lost", exc_info=True)

    def _give_up(self) -> None:
        logger.warning("Heartbeats of activities in other processes cannot be read", exc_info=True)
        with self._lock:
            self._is_reading = False
            waiting = list(self._ended.values())
        for tell in waiting:
            try:
                tell()
            except RuntimeError:  # its event loop is closed: nobody waits
                continue

    def _pass_on(self, task_token: bytes, details: Sequence[Any] | None) -> None:
        with self._lock:
            heartbeat = self._heartbeats.get(task_token)
            if details is None:
                self._heartbeats.pop(task_token, None)
            ended = self._ended.get(task_token)
        if details is None:
            if ended is not None:
                ended()
        elif heartbeat is not None:
            heartbeat(*details)


class _MultiprocessingSharedHeartbeatSender(SharedHeartbeatSender):
    def __init__(self, heartbeat_queue: queue.Queue[tuple[bytes, Sequence[Any] | None]]) -> None:
        self._queue = heartbeat_queue

    def send_heartbeat(self, task_token: bytes, *details: Any) -> None:
        self._queue.put((task_token, details), True, _PUT_TIMEOUT_S)
