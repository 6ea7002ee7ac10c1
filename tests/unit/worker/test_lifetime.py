"""How a worker ends when something comes in between: a plugin that fails, a second cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity
from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueResponse,
    RespondActivityTaskFailedResponse,
)
from perdure.plugin import SimplePlugin
from perdure.service import RPCStatusCode
from perdure.worker import Worker, _activity_attempt, _activity_worker
from tests.unit.client.fakes import fake_client, rpc_error


@activity.defn
async def greet() -> None:
    """An activity."""


class _Stubborn(SimplePlugin):
    """Does not run the worker."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__("stubborn")
        self._error = error

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Fail, or return."""
        if self._error is not None:
            raise self._error


def test_a_plugin_that_fails_before_the_worker_runs_ends_the_block() -> None:
    async def scenario() -> None:
        client, _ = fake_client()
        worker = Worker(
            client, task_queue="queue", activities=[greet], plugins=[_Stubborn(ValueError("plugin failed"))]
        )
        with pytest.raises(ValueError, match="plugin failed"):
            async with asyncio.timeout(10), worker:
                await asyncio.Event().wait()
        assert worker.is_shutdown

    asyncio.run(scenario())


def test_a_worker_that_fails_leaves_no_cancellation_behind() -> None:
    """What comes later in the same task, such as a task group, would take it for one of others."""

    async def scenario() -> None:
        client, _ = fake_client()
        worker = Worker(
            client, task_queue="queue", activities=[greet], plugins=[_Stubborn(ValueError("plugin failed"))]
        )
        with pytest.raises(ValueError, match="plugin failed"):
            async with worker:
                await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_block_that_fails_ends_with_its_own_error_though_the_worker_fails_then() -> None:
    """Such as when what both of them call is gone: a bare cancellation would say nothing."""

    async def scenario() -> None:
        is_running, is_ending = asyncio.Event(), asyncio.Event()

        class FailsAtTheEnd(SimplePlugin):
            async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
                is_running.set()
                await is_ending.wait()
                raise ValueError("plugin failed")

        async def block() -> None:
            client, _ = fake_client()
            async with Worker(
                client, task_queue="queue", activities=[greet], plugins=[FailsAtTheEnd("late")]
            ):
                await is_running.wait()
                is_ending.set()
                raise LookupError("of the block")

        with pytest.raises(LookupError, match="of the block"):
            await block()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_plugin_that_never_runs_the_worker_lets_the_block_end() -> None:
    async def scenario() -> None:
        client, _ = fake_client()
        worker = Worker(client, task_queue="queue", activities=[greet], plugins=[_Stubborn(None)])
        async with asyncio.timeout(10):
            async with worker:
                pass
            await worker.shutdown()
        with pytest.raises(RuntimeError, match="Already started"):
            await Worker._run(worker)

    asyncio.run(scenario())


def test_a_second_cancellation_ends_a_shutdown_that_takes_too_long() -> None:
    """And whoever waits for the shutdown is told; no poll stays open."""

    async def scenario() -> None:
        polling, ending = asyncio.Event(), asyncio.Event()
        polls: set[asyncio.Task[Any]] = set()

        async def poll(_: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            polls.add(task)
            polling.set()
            await asyncio.Event().wait()

        async def end(_: Any) -> None:
            ending.set()
            await asyncio.Event().wait()

        client, _ = fake_client({"PollActivityTaskQueue": [poll], "ShutdownWorker": [end]})
        worker = Worker(client, task_queue="queue", activities=[greet])
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(10):
            await polling.wait()
            running.cancel()
            await ending.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await worker.shutdown()
            await asyncio.wait(polls)

    asyncio.run(scenario())


def test_an_activity_does_not_outlive_a_shutdown_that_is_given_up() -> None:
    """Nobody would wait for it any more; the server is told, so that another worker runs it at once."""

    async def scenario() -> None:
        started, ended, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @activity.defn
        async def endless() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async def never(_: Any) -> None:
            await asyncio.Event().wait()

        def failed(request: Any) -> RespondActivityTaskFailedResponse:
            assert request.failure.application_failure_info.type == "WorkerShutdown"
            told.set()
            return RespondActivityTaskFailedResponse()

        task = PollActivityTaskQueueResponse(task_token=b"token")
        task.activity_type.name = "endless"
        client, _ = fake_client(
            {"PollActivityTaskQueue": [task, never], "RespondActivityTaskFailed": [failed]},
        )
        grace = timedelta(minutes=1)
        worker = Worker(client, task_queue="queue", activities=[endless], graceful_shutdown_timeout=grace)
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(10):
            await started.wait()
            for _ in range(2):
                await asyncio.wait([running], timeout=0.01)
                running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await ended.wait()
            await told.wait()

    asyncio.run(scenario())


def test_a_shutdown_does_not_wait_for_a_server_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The outcome of an activity may matter to it for hours, and is repeated for some seconds; the code has ended."""
    monkeypatch.setattr(_activity_worker, "ANSWER_GRACE_S", 0.2)
    monkeypatch.setattr(_activity_attempt, "_STILL_RUNNING_EVERY_S", 0.05)

    async def scenario() -> None:
        started = asyncio.Event()

        @activity.defn
        async def endless() -> None:
            activity.heartbeat("there")
            started.set()
            await asyncio.Event().wait()

        async def never(_: Any) -> None:
            await asyncio.Event().wait()

        task = PollActivityTaskQueueResponse(task_token=b"token")
        task.activity_type.name = "endless"
        task.heartbeat_timeout.FromTimedelta(timedelta(minutes=10))
        unreachable = rpc_error(RPCStatusCode.UNAVAILABLE)
        client, _ = fake_client(
            {
                "PollActivityTaskQueue": [task, never],
                "RecordActivityTaskHeartbeat": [unreachable],
                "RespondActivityTaskFailed": [unreachable],
            }
        )
        async with asyncio.timeout(10):
            async with Worker(client, task_queue="queue", activities=[endless]):
                await started.wait()

    asyncio.run(scenario())
    assert "was not accepted (UNAVAILABLE" in caplog.text
    assert "still run" not in caplog.text
