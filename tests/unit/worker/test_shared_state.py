"""Heartbeats from other processes: one that is broken, and a manager whose process is gone or hangs."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.worker import SharedStateManager, _shared_state
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


def test_an_activity_ends_although_the_manager_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outcome does not wait for ever for its last heartbeats: neither to ask for them, nor for them to come."""
    for name, seconds in (("ANSWER_TIMEOUT_S", 0.1), ("_LAST_PUT_TIMEOUT_S", 0.1)):
        monkeypatch.setattr(_shared_state, name, seconds)

    async def scenario() -> None:
        manager, items = _manager()
        may_go_on = threading.Event()
        monkeypatch.setattr(items, "get", lambda *_: may_go_on.wait())
        try:
            await manager.register_heartbeater(b"token", print)
            await asyncio.wait_for(manager.unregister_heartbeater(b"token"), 10)
            monkeypatch.setattr(items, "put", lambda *_: may_go_on.wait())
            await manager.register_heartbeater(b"token", print)
            await asyncio.wait_for(manager.unregister_heartbeater(b"token"), 10)
        finally:
            may_go_on.set()

    asyncio.run(scenario())
