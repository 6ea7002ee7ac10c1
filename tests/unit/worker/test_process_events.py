"""Events for activities in other processes: a manager that hangs or is gone holds nothing up."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.managers import SyncManager
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.activity import ActivityCancellationDetails
from perdure.api.workflowservice.v1 import PollActivityTaskQueueResponse
from perdure.common import _CompositeEvent
from perdure.exceptions import ApplicationError
from perdure.worker import SharedStateManager, _process_events
from perdure.worker._activity_attempt import Attempt
from perdure.worker._process_events import CallThread, ProcessEvents

_QUICK_S = 5.0


@pytest.fixture
def manager() -> Iterator[SyncManager]:
    with multiprocessing.get_context("spawn").Manager() as manager:
        yield manager


def _stop(manager: SyncManager, signal_number: signal.Signals) -> None:
    process: Any = manager._process  # type: ignore[attr-defined]
    os.kill(process.pid, signal_number)


def test_a_manager_that_hangs_does_not_hold_up_the_event_loop(
    manager: SyncManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where an event is made, nor where one is set, nor where the last reference to one is dropped."""
    monkeypatch.setattr(_process_events, "ANSWER_TIMEOUT_S", 0.2)

    async def scenario() -> None:
        events = ProcessEvents(SharedStateManager.create_from_multiprocessing(manager))
        kept, dropped = await events.new(), await events.new()
        others = pickle.loads(pickle.dumps(kept))  # as it is for another process
        _stop(manager, signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            with pytest.raises(ApplicationError, match="has not answered for"):
                await events.new()
            kept.set()
            del dropped
            gc.collect()
            assert time.monotonic() - began_s < _QUICK_S
            assert kept.is_set()
        finally:
            _stop(manager, signal.SIGCONT)
        assert await asyncio.to_thread(others.wait, 10)

    asyncio.run(scenario())


def test_an_event_is_set_that_another_process_has(manager: SyncManager) -> None:
    async def scenario() -> None:
        event = await ProcessEvents(SharedStateManager.create_from_multiprocessing(manager)).new()
        others = pickle.loads(pickle.dumps(event))
        assert not others.is_set()
        event.set()
        assert await asyncio.to_thread(others.wait, 10)

    asyncio.run(scenario())


def test_an_attempt_is_cancelled_although_its_process_cannot_be_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Gone(threading.Event):
        def set(self) -> None:
            raise BrokenPipeError

    async def scenario() -> None:
        events = ProcessEvents(SimpleNamespace(new_event=Gone))  # type: ignore[arg-type]
        attempt = Attempt(PollActivityTaskQueueResponse(), SimpleNamespace())  # type: ignore[arg-type]
        attempt.cancelled_event = _CompositeEvent(await events.new(), None)
        attempt.cancel(ActivityCancellationDetails(cancel_requested=True))
        assert attempt.cancelled_by_request
        await events.new()  # calls are made in order

    asyncio.run(scenario())
    assert "cannot be told to end" in caplog.text


def test_the_thread_ends_when_nobody_has_calls_for_it() -> None:
    async def scenario() -> threading.Thread:
        return await CallThread("calls").call(threading.current_thread, 10)

    thread = asyncio.run(scenario())
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
