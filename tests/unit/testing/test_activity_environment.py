"""`ActivityEnvironment`: activity code finds there what a worker would give it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from perdure import activity
from perdure.client import Client
from perdure.exceptions import CancelledError
from perdure.testing import ActivityEnvironment
from tests.unit.server.support import run

WAIT_S = 10.0


def test_the_context_is_there_and_gone_afterwards() -> None:
    """Info, converter and meter are those of the environment."""
    env = ActivityEnvironment()
    env.info = replace(env.info, activity_type="mine", heartbeat_timeout=timedelta(seconds=7))

    def work(number: int, *, factor: int) -> tuple[int, str, timedelta | None]:
        assert activity.in_activity()
        assert activity.payload_converter() is env.payload_converter
        activity.metric_meter().create_counter("calls").add(1)
        return number * factor, activity.info().activity_type, activity.info().heartbeat_timeout

    assert env.run(work, 3, factor=4) == (12, "mine", timedelta(seconds=7))
    assert not activity.in_activity()


def test_default_info_is_fresh_and_has_the_documented_values() -> None:
    """Tests of users rely on them."""
    info = ActivityEnvironment.default_info()
    assert info is not ActivityEnvironment.default_info()
    assert (info.activity_id, info.activity_type, info.attempt) == ("test", "unknown", 1)
    assert (info.task_queue, info.task_token, info.workflow_run_id) == ("test", b"test", "test-run")
    assert info.in_workflow


@pytest.mark.parametrize("is_async", [False, True])
def test_heartbeats_are_handed_out(is_async: bool) -> None:
    """With their details; without a callback they are dropped."""
    env = ActivityEnvironment()
    seen: list[Any] = []

    def work() -> None:
        activity.heartbeat("a", 1)
        activity.heartbeat()

    async def work_async() -> None:
        work()

    def go() -> None:
        if is_async:
            run(env.run(work_async))
        else:
            env.run(work)

    go()
    env.on_heartbeat = lambda *details: seen.append(details)
    go()
    assert seen == [("a", 1), ()]


def test_an_async_activity_is_cancelled_as_a_task() -> None:
    """It sees the request, the details, and CancelledError; what it returns afterwards counts."""
    env = ActivityEnvironment()
    started = asyncio.Event()

    async def work() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert activity.is_cancelled()
            await activity.wait_for_cancelled()
            details = activity.cancellation_details()
            assert details is not None
            assert details.paused
            return "cleaned up"
        return "not reached"

    async def scenario() -> None:
        task = asyncio.ensure_future(env.run(work))
        await started.wait()
        env.cancel(activity.ActivityCancellationDetails(paused=True))
        env.cancel(activity.ActivityCancellationDetails(reset=True))  # only the first call has an effect
        assert await task == "cleaned up"

    run(scenario())


def test_an_async_activity_is_told_from_another_thread() -> None:
    """Of the cancellation and of the shutdown: the loop that it runs on may sleep."""
    env = ActivityEnvironment()
    started, heard = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        await activity.wait_for_worker_shutdown()
        heard.set()
        await asyncio.Event().wait()

    def tell() -> None:
        started.wait()
        env.worker_shutdown()
        heard.wait()
        env.cancel()

    async def scenario() -> None:
        asyncio.get_running_loop().set_debug(True)  # a call that is not for other threads raises there
        telling = asyncio.create_task(asyncio.to_thread(tell))
        with pytest.raises(asyncio.CancelledError):
            await env.run(work)
        await telling

    run(scenario())


def _in_thread(env: ActivityEnvironment, work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.append(env.run(work))
        except CancelledError as error:
            outcome.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    return thread, outcome


def test_a_threaded_activity_is_cancelled_by_an_exception() -> None:
    """Wherever its code is; a shield delays it."""
    env = ActivityEnvironment()
    started, shielded = threading.Event(), threading.Event()

    def work() -> None:
        with activity.shield_thread_cancel_exception():
            started.set()
            assert shielded.wait(WAIT_S)
            assert activity.is_cancelled()
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            pass

    thread, outcome = _in_thread(env, work)
    assert started.wait(WAIT_S)
    env.cancel()
    shielded.set()
    thread.join(WAIT_S)
    assert isinstance(outcome[0], CancelledError)


def test_a_threaded_activity_may_refuse_exceptions() -> None:
    """Then it only hears of the request."""
    env = ActivityEnvironment()
    started = threading.Event()

    @activity.defn(no_thread_cancel_exception=True)
    def work() -> str:
        started.set()
        activity.wait_for_cancelled_sync(WAIT_S)
        return "asked" if activity.is_cancelled() else "not asked"

    thread, outcome = _in_thread(env, work)
    assert started.wait(WAIT_S)
    env.cancel()
    thread.join(WAIT_S)
    assert outcome == ["asked"]


def test_cancelled_before_it_runs() -> None:
    """An async activity is cancelled at its first wait; a threaded one finds that it was asked."""
    env = ActivityEnvironment()
    env.cancel()

    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        run(env.run(work))
    assert env.run(activity.is_cancelled)


def test_the_shutdown_of_the_worker_is_heard() -> None:
    """By activities that run, in both kinds, and by later ones."""
    env = ActivityEnvironment()
    started = threading.Event()

    def work() -> bool:
        started.set()
        activity.wait_for_worker_shutdown_sync(WAIT_S)
        return activity.is_worker_shutdown()

    thread, outcome = _in_thread(env, work)
    assert started.wait(WAIT_S)
    env.worker_shutdown()
    env.worker_shutdown()
    thread.join(WAIT_S)
    assert outcome == [True]

    async def work_async() -> None:
        await activity.wait_for_worker_shutdown()

    run(env.run(work_async))
    assert not env.run(activity.is_cancelled)


def test_the_client_is_for_async_activities() -> None:
    """And only there, as on a worker."""
    client = cast(Client, object())

    async def work() -> Client:
        return activity.client()

    assert run(ActivityEnvironment(client).run(work)) is client
    with pytest.raises(RuntimeError, match="No client available"):
        run(ActivityEnvironment().run(work))
    with pytest.raises(RuntimeError, match="No client available"):
        ActivityEnvironment(client).run(activity.client)


def test_callables_and_errors() -> None:
    """An object with an async `__call__` is async; what is raised comes out, and the context is gone."""

    class Work:
        async def __call__(self) -> str:
            return activity.info().activity_id

    assert run(ActivityEnvironment().run(Work())) == "test"

    def broken() -> None:
        raise ZeroDivisionError

    env = ActivityEnvironment()
    with pytest.raises(ZeroDivisionError):
        env.run(broken)
    assert not activity.in_activity()
    env.cancel()
