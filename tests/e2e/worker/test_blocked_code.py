"""Workflow code that does not return, on the thread of the worker's event loop: what stands still and what goes on."""

from __future__ import annotations

import asyncio
import contextvars
import io
import pdb
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.api.enums.v1 import EventType
from perdure.client import Client, WorkflowHandle
from perdure.worker import Worker, _breakpoints
from tests.e2e.python_sdk import eventually, unique
from tests.e2e.worker.targets import on_every_target
from tests.e2e.worker.workflows import Counter

LIMIT = timedelta(milliseconds=300)


async def _failures(handle: WorkflowHandle[Any, Any]) -> list[str]:
    history = await handle.fetch_history()
    return [
        event.workflow_task_failed_event_attributes.failure.message
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]


async def _failed_with(handle: WorkflowHandle[Any, Any], text: str) -> None:
    async def has_failed() -> bool:
        return any(text in message for message in await _failures(handle))

    await eventually("the workflow task failed", has_failed)


@workflow.defn
class Spins:
    """Does not return until it is allowed to."""

    may_end = False

    @workflow.run
    async def run(self) -> str:
        while not Spins.may_end:
            with suppress(Exception):  # as code has it that tries again for ever
                sum(range(1000))
        return "ended"


@workflow.defn
class Steps:
    """A few activities, one after the other."""

    @workflow.run
    async def run(self, name: str) -> str:
        for number in range(3):
            name = await workflow.execute_activity(
                add_number, args=[name, number], start_to_close_timeout=timedelta(seconds=20)
            )
        return name


@workflow.defn
class WaitsForBeats:
    """Runs an activity that has to be heard of."""

    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity(
            beats,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=4),
        )


@activity.defn
async def add_number(name: str, number: int) -> str:
    return f"{name}.{number}"


_may_stop = threading.Event()


@activity.defn
async def beats() -> int:
    """Sends heartbeats until the test lets it stop; its attempt."""
    while not _may_stop.is_set():
        activity.heartbeat()
        await asyncio.sleep(0.05)
    return activity.info().attempt


@on_every_target
async def test_healthy_workflows_and_heartbeats_go_on_beside_code_that_does_not_return(
    client: Client,
) -> None:
    """Twenty healthy workflows end although one blocks again and again; the activity's first attempt lives on."""
    queue = unique("spins")
    Spins.may_end = False
    _may_stop.clear()
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Spins, Steps, WaitsForBeats],
        activities=[add_number, beats],
        deadlock_timeout=LIMIT,
    ):
        waits = await client.start_workflow(WaitsForBeats.run, id=f"{queue}-beats", task_queue=queue)
        blocked = await client.start_workflow(
            Spins.run, id=queue, task_queue=queue, task_timeout=timedelta(seconds=2)
        )
        names = [f"{queue}-{number}" for number in range(20)]
        results = await asyncio.gather(
            *(client.execute_workflow(Steps.run, name, id=name, task_queue=queue) for name in names)
        )
        assert results == [f"{name}.0.1.2" for name in names]
        await _failed_with(blocked, "[TMPRL1101] Potential deadlock detected")
        _may_stop.set()
        assert await waits.result() == 1
        Spins.may_end = True
        assert await blocked.result() == "ended"


@workflow.defn
class WaitsForThread:
    """Waits for what another thread does."""

    @workflow.run
    async def run(self) -> bool:
        return threading.Event().wait(20)


@on_every_target
async def test_waiting_for_a_thread_is_refused_with_what_to_do(client: Client) -> None:
    queue = unique("waits")
    async with Worker(client, task_queue=queue, workflows=[WaitsForThread]):
        handle = await client.start_workflow(WaitsForThread.run, id=queue, task_queue=queue)
        await _failed_with(handle, "threading.Event.wait() in workflow code")
        [message] = await _failures(handle)
        assert "workflow.wait_condition" in message
        assert "test_blocked_code.py" in message
        await handle.terminate()


_taken = threading.Lock()


@workflow.defn
class WaitsForLock:
    """Waits for a lock of its module."""

    @workflow.run
    async def run(self) -> bool:
        with _taken:
            return True


@on_every_target
async def test_a_lock_that_somebody_holds_is_refused_and_a_free_one_is_taken(client: Client) -> None:
    """The task fails at once, and the next one goes on when the lock is free."""
    queue = unique("lock")
    async with Worker(client, task_queue=queue, workflows=[WaitsForLock]):
        with _taken:
            handle = await client.start_workflow(
                WaitsForLock.run, id=queue, task_queue=queue, task_timeout=timedelta(seconds=2)
            )
            await _failed_with(handle, "threading.Lock.acquire(), which would wait, in workflow code")
        assert await handle.result()


@workflow.defn
class BlocksWhenItEnds:
    """Blocks when it is cancelled, which is how code is ended that leaves memory."""

    @workflow.run
    async def run(self) -> None:
        try:
            await workflow.wait_condition(lambda: False)
        finally:
            while True:
                pass

    @workflow.query
    def is_there(self) -> bool:
        return True


@on_every_target
async def test_code_that_blocks_when_it_is_ended_keeps_nobody(client: Client) -> None:
    queue = unique("ends")
    async with Worker(
        client, task_queue=queue, workflows=[BlocksWhenItEnds, Counter], deadlock_timeout=LIMIT
    ):
        handle = await client.start_workflow(BlocksWhenItEnds.run, id=queue, task_queue=queue)
        assert await handle.query(BlocksWhenItEnds.is_there)
    async with Worker(client, task_queue=queue, workflows=[Counter]):
        other = await client.start_workflow(Counter.run, id=f"{queue}-other", task_queue=queue)
        assert await other.query(Counter.count) == 0
    await handle.terminate()


_seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


@workflow.defn
class LooksAround:
    """What code sees of the thread it shares."""

    @workflow.run
    async def run(self) -> list[str]:
        task = asyncio.current_task()
        return [
            _seen.get(),
            type(asyncio.get_running_loop()).__name__,
            task.get_name().partition(" ")[0] if task is not None else "no task",
        ]


@on_every_target
async def test_code_sees_its_own_loop_task_and_context_and_leaves_the_workers_alone(client: Client) -> None:
    queue = unique("around")
    _seen.set("the worker's")
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    async with Worker(client, task_queue=queue, workflows=[LooksAround]):
        seen = await client.execute_workflow(LooksAround.run, id=queue, task_queue=queue)
    assert seen == ["nothing", "WorkflowLoop", "run"]
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task() is task


@workflow.defn
class Stops:
    """Stops at a breakpoint the first time."""

    times = 0

    @workflow.run
    async def run(self) -> str:
        Stops.times += 1
        if Stops.times == 1:
            breakpoint()
        return "went on"


class QuitsAfterAWhile(pdb.Pdb):
    """Someone who thinks for longer than the limit, and then leaves the debugger."""

    def interaction(self, *args: Any) -> None:
        """Think, then type q."""
        until = threading.Event()
        with workflow.unsafe.sandbox_unrestricted():
            until.wait(3 * LIMIT.total_seconds())
        self.set_quit()


@on_every_target
async def test_leaving_a_debugger_fails_the_task_and_not_the_worker(client: Client) -> None:
    """Without debug mode; and nobody is interrupted for thinking too long."""
    queue = unique("stops")
    Stops.times = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pdb, "Pdb", QuitsAfterAWhile)
        patch.setattr("sys.breakpointhook", _stop_here)
        async with Worker(client, task_queue=queue, workflows=[Stops], deadlock_timeout=LIMIT):
            handle = await client.start_workflow(Stops.run, id=queue, task_queue=queue)
            assert await handle.result() == "went on"
            assert len(await _failures(handle)) == 1
            assert "deadlock" not in str(await _failures(handle))


def _stop_here() -> None:
    import sys

    QuitsAfterAWhile(nosigint=True).set_trace(sys._getframe().f_back)


@workflow.defn
class StopsEachTime:
    """Stops at a breakpoint whenever the code runs."""

    times = 0

    @workflow.run
    async def run(self) -> str:
        StopsEachTime.times += 1
        breakpoint()
        return "went on"


@on_every_target
async def test_in_debug_mode_leaving_the_debugger_lets_the_code_go_on(client: Client) -> None:
    """With q, or at the end of the input: no task fails, so the breakpoint does not come again; the log says it."""
    for typed in ("q\n", "exit\n", ""):
        queue = unique("leaves")
        StopsEachTime.times = 0
        said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.breakpointhook", sys.__breakpointhook__)  # that of pytest is its own debugger
            patch.delenv("PYTHONBREAKPOINT", raising=False)
            patch.setattr("sys.stdin", io.StringIO(typed))
            patch.setattr(
                _breakpoints.logger, "warning", lambda text, *args, into=said: into.append(text % args)
            )
            async with Worker(client, task_queue=queue, workflows=[StopsEachTime], debug_mode=True):
                handle = await client.start_workflow(StopsEachTime.run, id=queue, task_queue=queue)
                assert await handle.result() == "went on"
        assert await _failures(handle) == []
        assert StopsEachTime.times == 1
        assert [text for text in said if text.startswith("The debugger was left at test_blocked_code.py:")]


@pytest.mark.parametrize("chosen", ["hook", "variable"])
def test_a_debugger_that_somebody_chose_remains(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debug mode replaces neither a hook, such as that of pytest or of an editor, nor PYTHONBREAKPOINT."""
    hook = sys.__breakpointhook__ if chosen == "variable" else _stop_here
    monkeypatch.setattr("sys.breakpointhook", hook)
    monkeypatch.setenv("PYTHONBREAKPOINT", "0" if chosen == "variable" else "")
    _breakpoints.let_quit_go_on()
    assert sys.breakpointhook is hook


@workflow.defn
class Counts:
    """Many activations, so that a replay pauses."""

    def __init__(self) -> None:
        self._count = 0

    @workflow.run
    async def run(self, rounds: int) -> int:
        for _ in range(rounds):
            await workflow.execute_local_activity(
                add_number, args=["", 1], start_to_close_timeout=timedelta(seconds=5)
            )
            self._count += 1
        await workflow.wait_condition(lambda: self._count < 0)
        return self._count

    @workflow.query
    def count(self) -> int:
        return self._count

    @workflow.signal
    def end(self) -> None:
        self._count = -1


@on_every_target
async def test_a_long_replay_lets_the_loop_go_on(client: Client) -> None:
    """A question to a run that is not in memory, and then a task of it: both replay 120 activations.

    One worker that keeps no run, not one after another: the official server may lose a question that comes right after
    the end of a worker ("context canceled").
    """
    queue = unique("long")
    async with Worker(
        client, task_queue=queue, workflows=[Counts], activities=[add_number], max_cached_workflows=0
    ):
        handle = await client.start_workflow(Counts.run, 120, id=queue, task_queue=queue)

        async def is_there() -> bool:
            return await handle.query(Counts.count) == 120

        await eventually("all rounds are done", is_there)
        assert await handle.query(Counts.count) == 120
        await handle.signal(Counts.end)
        assert await handle.result() == -1
