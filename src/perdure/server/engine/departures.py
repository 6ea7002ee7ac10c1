"""Workers that say goodbye: their waiting polls end empty, and so do those that are still on their way.

Knows polls by the key of the worker that makes them, which is the same for all of its task queues. What a poll waits
for is matching's.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from perdure.server.engine.deliveries import Delivery

REMEMBERED_S = 30.0
"""A poll that was on its way when its worker left arrives within this time."""
REMEMBERED_WORKERS = 10_000

WorkerKey = tuple[str, str]
"""Namespace id, and the key that a worker gave itself."""


class Departures:
    """Polls of workers by worker, and who left lately.

    Args:
        give_back: gets the work of a poll whose caller went just as that came.

    Attributes:
        is_enabled: goodbyes end polls (`frontend.enableCancelWorkerPollsOnShutdown`); otherwise they change nothing.
    """

    def __init__(self, give_back: Callable[[Delivery | None], None]) -> None:
        self._give_back = give_back
        self.is_enabled = False
        self._polls: dict[WorkerKey, dict[asyncio.Task[Delivery | None], None]] = {}
        self._left: OrderedDict[WorkerKey, float] = OrderedDict()

    async def poll(self, worker: WorkerKey, polling: Coroutine[Any, Any, Delivery | None]) -> Delivery | None:
        """Waits for a poll unless its worker leaves.

        Args:
            worker: who polls; without a key of its own it cannot be known again.
            polling: the poll of matching; cancelled, it gives back what it was about to get.

        Returns:
            the work; None when there was none in time or the worker is gone.
        """
        if not self.is_enabled or not worker[1]:
            return await polling
        if self._has_left(worker):
            polling.close()
            return None
        task = asyncio.create_task(polling)
        polls = self._polls.setdefault(worker, {})
        polls[task] = None
        try:
            return await task
        except asyncio.CancelledError:
            if task not in polls:
                return None
            # The caller is gone, and the worker is not.
            if task.done() and not task.cancelled() and task.exception() is None:
                self._give_back(task.result())
            raise
        finally:
            polls.pop(task, None)
            if not polls and self._polls.get(worker) is polls:
                del self._polls[worker]

    def leave(self, worker: WorkerKey) -> None:
        """The worker takes no more work: ends its polls, and for a while every new one at once."""
        self._left[worker] = asyncio.get_running_loop().time() + REMEMBERED_S
        self._left.move_to_end(worker)
        while len(self._left) > REMEMBERED_WORKERS:
            self._left.popitem(last=False)
        polls = self._polls.pop(worker, {})
        waiting = list(polls)
        polls.clear()
        for task in waiting:
            task.cancel()

    def _has_left(self, worker: WorkerKey) -> bool:
        until = self._left.get(worker)
        if until is None:
            return False
        if until > asyncio.get_running_loop().time():
            return True
        del self._left[worker]
        return False
