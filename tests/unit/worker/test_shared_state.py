"""Heartbeats from other processes: one that is broken, and a manager whose process is gone."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.activity import ActivityCancellationDetails
from perdure.api.workflowservice.v1 import PollActivityTaskQueueResponse
from perdure.common import _CompositeEvent
from perdure.worker import SharedStateManager
from perdure.worker._activity_attempt import Attempt
from perdure.worker._shared_state import _QUEUE_SIZE


class _Queue(queue.Queue[Any]):
    """A queue whose `get` raises the errors that are put in."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        item = super().get(block, timeout)
        if isinstance(item, Exception):
            raise item
        return item


def _manager() -> tuple[SharedStateManager, _Queue]:
    items = _Queue(_QUEUE_SIZE)
    fake: Any = SimpleNamespace(Queue=lambda _: items, Event=threading.Event)
    return SharedStateManager.create_from_multiprocessing(fake), items


def test_one_heartbeat_that_is_broken_does_not_end_the_others() -> None:
    """Details whose class is not known here, or a worker of this manager that has ended."""

    async def scenario() -> None:
        manager, items = _manager()
        arrived: list[Sequence[Any]] = []

        def refuse(*_: Any) -> None:
            raise RuntimeError("Event loop is closed")

        await manager.register_heartbeater(b"gone", refuse)
        sender = await manager.register_heartbeater(b"token", lambda *details: arrived.append(details))
        items.put(ModuleNotFoundError("No module named 'details'"))
        sender.send_heartbeat(b"gone", 1)
        sender.send_heartbeat(b"token", 2)
        await asyncio.wait_for(manager.unregister_heartbeater(b"token"), 10)
        assert arrived == [(2,)]
        await asyncio.wait_for(manager.unregister_heartbeater(b"gone"), 10)

    asyncio.run(scenario())


def test_an_activity_ends_although_the_manager_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its last heartbeats are asked for, or while they are."""

    async def scenario() -> None:
        manager, items = _manager()
        await manager.register_heartbeater(b"token", print)
        items.put(EOFError())
        await asyncio.wait_for(manager.unregister_heartbeater(b"token"), 10)

        def refuse(*_: Any) -> None:
            raise BrokenPipeError

        monkeypatch.setattr(items, "put", refuse)
        await manager.register_heartbeater(b"token", print)
        await asyncio.wait_for(manager.unregister_heartbeater(b"token"), 10)

    asyncio.run(scenario())


def test_a_full_queue_does_not_hold_up_the_event_loop() -> None:
    async def scenario() -> None:
        manager, items = _manager()
        may_go_on = threading.Event()

        def wait(*_: Any) -> None:
            may_go_on.wait(10)

        await manager.register_heartbeater(b"token", wait)
        while not items.full():
            items.put((b"token", ()))
        items.put((b"token", ()))
        ending = asyncio.create_task(manager.unregister_heartbeater(b"token"))
        asyncio.get_running_loop().call_soon(may_go_on.set)
        await asyncio.wait_for(ending, 5)

    asyncio.run(scenario())


def test_an_attempt_is_cancelled_although_its_process_cannot_be_told() -> None:
    class Gone(threading.Event):
        def set(self) -> None:
            raise BrokenPipeError

    attempt = Attempt(PollActivityTaskQueueResponse(), SimpleNamespace())  # type: ignore[arg-type]
    attempt.cancelled_event = _CompositeEvent(Gone(), None)
    attempt.cancel(ActivityCancellationDetails(cancel_requested=True))
    assert attempt.cancelled_by_request
