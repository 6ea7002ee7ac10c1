"""The skipping clock: when it moves, how far, what holds it, and that everything else happens as it would have.

Real time is bounded: a test that waited for what should be skipped would run into its limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure.api.common import v1 as common
from perdure.api.protobuf import Empty
from perdure.api.services import TEST_SERVICE, method_path
from perdure.api.testservice.v1 import (
    GetCurrentTimeResponse,
    LockTimeSkippingRequest,
    LockTimeSkippingResponse,
    SleepRequest,
    SleepResponse,
    SleepUntilRequest,
    UnlockTimeSkippingRequest,
    UnlockTimeSkippingResponse,
)
from perdure.api.workflowservice import v1 as workflowservice
from perdure.core.run.state import RUNNING
from perdure.server import Server, time_skipping
from perdure.server.time_skipping import END_NS
from perdure.service._errors import RPCError, RPCStatusCode
from tests.support.builders import (
    application_failure,
    complete_workflow,
    duration,
    retry_policy,
    schedule_activity,
    start_timer,
    sticky,
    sticky_queue,
)
from tests.support.embedded import EmbeddedClient
from tests.unit.server.support import TIMEOUT_S, run

QUEUE = "skipping-queue"
DAY_S = 86_400.0
# Below, TIMEOUT_S stands for "time was real": no scenario takes longer, so what is more was skipped.


class Clock:
    """The test service of an embedded server."""

    def __init__(self, client: EmbeddedClient) -> None:
        self._transport = client.transport

    async def _call(self, name: str, request: Any, response: Any) -> Any:
        return await self._transport.call(
            TEST_SERVICE, method_path(TEST_SERVICE, name), request, response, metadata={}, timeout=15
        )

    async def now_s(self) -> float:
        """The server's time, seconds since the epoch."""
        answer = (await self._call("GetCurrentTime", Empty(), GetCurrentTimeResponse)).time
        return float(answer.seconds + answer.nanos / 1e9)

    async def unlock(self) -> None:
        await self._call("UnlockTimeSkipping", UnlockTimeSkippingRequest(), UnlockTimeSkippingResponse)

    async def lock(self) -> None:
        await self._call("LockTimeSkipping", LockTimeSkippingRequest(), LockTimeSkippingResponse)

    async def sleep(self, seconds: float) -> None:
        await self._call("Sleep", SleepRequest(duration=duration(seconds)), SleepResponse)

    async def sleep_until(self, seconds: float) -> None:
        request = SleepUntilRequest()
        request.timestamp.seconds = int(seconds)
        await self._call("SleepUntil", request, SleepResponse)

    async def unlock_with_sleep(self, seconds: float) -> None:
        request = SleepRequest(duration=duration(seconds))
        await self._call("UnlockTimeSkippingWithSleep", request, SleepResponse)


@asynccontextmanager
async def skipping(address: str = "sqlite://?name=skipping") -> AsyncIterator[tuple[EmbeddedClient, Clock]]:
    """A client of a server that skips time, and its clock, which is locked once."""
    async with Server(address, time_skipping=True) as server:
        client = await EmbeddedClient.connect(server.address)
        yield client, Clock(client)
        await client.close()


Scenario = Callable[[EmbeddedClient, Clock], Awaitable[None]]


def _run(scenario: Scenario, address: str = "sqlite://?name=skipping") -> None:
    async def work() -> None:
        async with skipping(address) as (client, clock):
            await scenario(client, clock)

    run(work())


async def _timer_workflow(client: EmbeddedClient, workflow_id: str, seconds: float) -> None:
    """Starts a workflow that waits for a timer."""
    await client.start(workflow_id, f"{QUEUE}-{workflow_id}")
    task = await client.poll_workflow_task(f"{QUEUE}-{workflow_id}")
    await client.complete_workflow_task(task.task_token, [start_timer("t", seconds)])


async def _finish(client: EmbeddedClient, workflow_id: str) -> None:
    task = await client.poll_workflow_task(f"{QUEUE}-{workflow_id}")
    await client.complete_workflow_task(task.task_token, [complete_workflow()])


def test_a_month_passes_at_once() -> None:
    """Unlocked and with nothing running, the clock moves to the timer, and not beyond it."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        before_s = await clock.now_s()
        assert abs(before_s - time.time()) < TIMEOUT_S
        await _timer_workflow(client, "month", 30 * DAY_S)
        await clock.unlock()
        await _finish(client, "month")
        await clock.lock()
        assert 0 <= await clock.now_s() - before_s - 30 * DAY_S < TIMEOUT_S
        fired = next(e for e in await client.history("month") if e.HasField("timer_fired_event_attributes"))
        assert -1 < fired.event_time.seconds - before_s - 30 * DAY_S < TIMEOUT_S

    _run(scenario)


def test_while_locked_time_is_real() -> None:
    """A timer does not fire early."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await _timer_workflow(client, "locked", DAY_S)
        assert (await client.poll_workflow_task(f"{QUEUE}-locked", timeout_s=2.1)).task_token == b""
        assert abs(await clock.now_s() - time.time()) < TIMEOUT_S

    _run(scenario)


def test_timers_fire_in_their_order() -> None:
    """Each workflow sees its own time, also when another moves the clock further."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        start_s = await clock.now_s()
        for days in (3, 1, 2):
            await _timer_workflow(client, f"wf-{days}", days * DAY_S)
        order: list[int] = []

        async def worker(days: int) -> None:
            task = await client.poll_workflow_task(f"{QUEUE}-wf-{days}")
            order.append(days)
            assert abs(task.started_time.seconds - start_s - days * DAY_S) < TIMEOUT_S
            await client.complete_workflow_task(task.task_token, [complete_workflow()])

        await clock.unlock()
        await asyncio.gather(*(worker(days) for days in (1, 2, 3)))
        assert order == [1, 2, 3]

    _run(scenario)


def test_what_runs_holds_the_clock() -> None:
    """A workflow task and an activity, waiting for a worker or held by one: time does not pass them by."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await _timer_workflow(client, "timer", DAY_S)
        await client.start("busy", QUEUE)
        await clock.unlock()

        async def assert_held() -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            assert await clock.now_s() - time.time() < TIMEOUT_S

        await assert_held()
        task = await client.poll_workflow_task(QUEUE)
        await assert_held()
        await client.complete_workflow_task(
            task.task_token, [schedule_activity("a", QUEUE, start_to_close_s=3600)]
        )
        await assert_held()
        attempt = await client.poll_activity_task(QUEUE)
        await assert_held()
        await client.complete_activity(attempt.task_token)
        await assert_held()
        task = await client.poll_workflow_task(QUEUE)
        await client.complete_workflow_task(task.task_token, [complete_workflow()])
        await _finish(client, "timer")
        assert await clock.now_s() - time.time() > DAY_S - TIMEOUT_S

    _run(scenario)


def test_retries_are_skipped_to() -> None:
    """The backoff between attempts of an activity takes no real time."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await client.start("retry", QUEUE)
        task = await client.poll_workflow_task(QUEUE)
        policy = retry_policy(initial_s=3600, coefficient=2, maximum_s=DAY_S * 10)
        await client.complete_workflow_task(
            task.task_token, [schedule_activity("a", QUEUE, start_to_close_s=10, retry=policy)]
        )
        await clock.unlock()
        for attempt in range(1, 6):
            polled = await client.poll_activity_task(QUEUE)
            assert polled.attempt == attempt
            await client.fail_activity(polled.task_token, application_failure())
        assert await clock.now_s() - time.time() > 3600 * (1 + 2 + 4 + 8) - TIMEOUT_S

    _run(scenario)


def test_an_activity_can_sleep_through_its_own_timeout() -> None:
    """A sleep with unlocking takes the activity's own hold from the clock."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await client.start("heartbeat", QUEUE)
        task = await client.poll_workflow_task(QUEUE)
        command = schedule_activity(
            "a", QUEUE, start_to_close_s=1000, heartbeat_s=20, retry=retry_policy(attempts=1)
        )
        await client.complete_workflow_task(task.task_token, [command])
        await clock.unlock()
        begin_s = await clock.now_s()
        await client.poll_activity_task(QUEUE)
        sleeping = asyncio.create_task(clock.unlock_with_sleep(40))
        task = await client.poll_workflow_task(QUEUE)
        timed_out = next(
            e for e in task.history.events if e.HasField("activity_task_timed_out_event_attributes")
        )
        assert 20 <= timed_out.event_time.ToNanoseconds() / 1e9 - begin_s < 40
        await client.complete_workflow_task(task.task_token, [complete_workflow()])
        await sleeping
        assert await clock.now_s() - begin_s >= 40
        assert await clock.now_s() - time.time() > 20

    _run(scenario)


def test_a_sleep_with_unlocking_skips_and_locks_again() -> None:
    """Everything due on the way happens; afterwards time is real again."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await _timer_workflow(client, "on-the-way", 100)
        finish = asyncio.create_task(_finish(client, "on-the-way"))
        await clock.unlock_with_sleep(1000)
        await finish
        assert abs(await clock.now_s() - time.time() - 1000) < TIMEOUT_S
        await _timer_workflow(client, "later", DAY_S)
        assert (await client.poll_workflow_task(f"{QUEUE}-later", timeout_s=2.1)).task_token == b""

    _run(scenario)


def test_a_sleep_with_unlocking_does_not_wait_for_workers_that_are_not_there() -> None:
    """A signal's task that nobody takes holds the clock for those who wait for results, and not for who moves it."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await _timer_workflow(client, "wf", 1800)
        await client.start("nobody", "nobody")
        await clock.unlock()
        await client.signal("wf", "go")
        for _ in range(20):
            await asyncio.sleep(0)
        assert await clock.now_s() - time.time() < TIMEOUT_S
        await clock.unlock_with_sleep(3600)
        task = await client.poll_workflow_task(f"{QUEUE}-wf")
        assert any(e.HasField("timer_fired_event_attributes") for e in task.history.events)
        await client.complete_workflow_task(task.task_token, [complete_workflow()])

    _run(scenario)


def test_what_is_paused_does_not_hold_the_clock() -> None:
    """An activity, or all of a workflow: not for those who wait for results, and not for who moves the clock."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        for name in ("activity", "workflow"):
            await client.start(name, QUEUE)
            task = await client.poll_workflow_task(QUEUE)
            command = schedule_activity("a", f"{QUEUE}-{name}", start_to_close_s=3600)
            await client.complete_workflow_task(task.task_token, [command])
        about: dict[str, Any] = {"namespace": client.namespace}
        paused = common.WorkflowExecution(workflow_id="activity")
        await client.invoke(workflowservice.PauseActivityRequest(execution=paused, id="a", **about))
        await client.invoke(workflowservice.PauseWorkflowExecutionRequest(workflow_id="workflow", **about))
        workers = [
            asyncio.create_task(client.poll_activity_task(f"{QUEUE}-{name}"))
            for name in ("activity", "workflow")
        ]
        await clock.unlock_with_sleep(DAY_S)
        await _timer_workflow(client, "timer", DAY_S)
        await clock.unlock()
        await _finish(client, "timer")
        assert not any(worker.done() for worker in workers)
        for worker in workers:
            worker.cancel()

    _run(scenario)


def test_plain_sleeps_wait_for_others_to_move_the_clock() -> None:
    """Sleep and SleepUntil do not unlock; the clock stops at each on its way."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        now_s = await clock.now_s()
        sleeps = [
            asyncio.create_task(clock.sleep(DAY_S)),
            asyncio.create_task(clock.sleep_until(now_s + 2 * DAY_S)),
        ]
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(sleep.done() for sleep in sleeps)
        await clock.unlock()
        await asyncio.gather(*sleeps)
        assert 2 * DAY_S - TIMEOUT_S < await clock.now_s() - now_s < 2 * DAY_S + TIMEOUT_S
        await clock.lock()
        await clock.sleep(0.01)
        await clock.sleep_until(now_s)

    _run(scenario)


def test_locks_are_counted() -> None:
    """The server starts locked once; unlocked oftener, it is locked again by as many locks."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        for _ in range(2):  # two who wait for results, while nothing runs
            await clock.unlock()
        for _ in range(3):
            await clock.lock()
        await clock.unlock()
        await _timer_workflow(client, "still-locked", DAY_S)
        assert (await client.poll_workflow_task(f"{QUEUE}-still-locked", timeout_s=2.1)).task_token == b""
        with pytest.raises(RPCError, match="negative"):
            await clock.sleep(-1)

    _run(scenario)


async def _close_event(client: EmbeddedClient, workflow_id: str) -> None:
    """Waits for a workflow's end, as whoever wants its result."""
    await client.history_page(
        workflow_id, wait_new_event=True, history_event_filter_type="HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT"
    )


async def _end_awaited(client: EmbeddedClient, clock: Clock, *, others: bool) -> asyncio.Task[None]:
    """Ends a workflow whose end is waited for, while another one has a timer of a day.

    Args:
        others: whether the end of that one is waited for, too.
    """
    await _timer_workflow(client, "later", DAY_S)
    await client.start("now", QUEUE)
    ends = [asyncio.create_task(_close_event(client, name)) for name in ["now"] + ["later"] * others]
    for _ in range(20):
        await asyncio.sleep(0)
    await clock.unlock()
    task = await client.poll_workflow_task(QUEUE)
    await client.complete_workflow_task(task.task_token, [complete_workflow()])
    await ends[0]
    return ends[-1]


def test_the_clock_waits_for_whoever_is_told_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """That somebody locks it, and what is due later does not happen before; it moves when it is unlocked again."""
    monkeypatch.setattr(time_skipping, "TELL_S", 1000.0)

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await _end_awaited(client, clock, others=False)
        assert (await client.poll_workflow_task(f"{QUEUE}-later", timeout_s=2.1)).task_token == b""
        await clock.lock()
        await clock.unlock()
        await _finish(client, "later")

    _run(scenario)


def test_who_is_told_a_result_and_does_not_lock_holds_nobody_up() -> None:
    """The clock goes on after a while."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await _end_awaited(client, clock, others=False)
        await _finish(client, "later")

    _run(scenario)


def test_the_clock_does_not_stop_while_other_results_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays unlocked for them anyway."""
    monkeypatch.setattr(time_skipping, "TELL_S", 1000.0)

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        other = await _end_awaited(client, clock, others=True)
        await _finish(client, "later")
        await other

    _run(scenario)


def test_several_may_wait_for_results_at_once() -> None:
    """However often time was unlocked, what runs holds the clock; as many locks lock it again."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await client.start("busy", QUEUE)
        task = await client.poll_workflow_task(QUEUE)
        await client.complete_workflow_task(
            task.task_token, [schedule_activity("a", QUEUE, start_to_close_s=3600)]
        )
        attempt = await client.poll_activity_task(QUEUE)
        for _ in range(3):
            await clock.unlock()
        await _timer_workflow(client, "timer", DAY_S)
        for _ in range(20):
            await asyncio.sleep(0)
        assert await clock.now_s() - time.time() < TIMEOUT_S
        await client.complete_activity(attempt.task_token)
        task = await client.poll_workflow_task(QUEUE)
        await client.complete_workflow_task(task.task_token, [complete_workflow()])
        await _finish(client, "timer")
        for _ in range(3):
            await clock.lock()
        await _timer_workflow(client, "later", DAY_S)
        assert (await client.poll_workflow_task(f"{QUEUE}-later", timeout_s=2.1)).task_token == b""

    _run(scenario)


def test_a_cancelled_sleep_gives_its_lock_back() -> None:
    """Nobody who goes away leaves the clock unlocked."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await client.start("busy", QUEUE)  # holds the clock
        sleeping = asyncio.create_task(clock.unlock_with_sleep(DAY_S))
        for _ in range(5):
            await asyncio.sleep(0)
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
        server = client.transport._engine.server
        assert server.time_skipping is not None
        assert server.time_skipping._locks == 1
        assert server.time_skipping._is_locked()
        assert not server.time_skipping._sleepers

    _run(scenario)


def test_run_timeouts_and_delays_are_skipped_to() -> None:
    """A workflow nobody works on times out; one with a start delay begins."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await client.start("delayed", QUEUE, workflow_start_delay=duration(DAY_S))
        await clock.unlock()
        task = await client.poll_workflow_task(QUEUE)
        assert task.workflow_execution.workflow_id == "delayed"
        await client.complete_workflow_task(task.task_token, [complete_workflow()])
        await clock.lock()
        await client.start("timeout", QUEUE, workflow_run_timeout=duration(DAY_S))
        task = await client.poll_workflow_task(QUEUE)
        await client.complete_workflow_task(task.task_token)
        await clock.unlock_with_sleep(2 * DAY_S)
        events = await client.history("timeout")
        assert events[-1].HasField("workflow_execution_timed_out_event_attributes")

    _run(scenario)


def test_closed_runs_are_kept_however_far_the_clock_moves() -> None:
    """Retention does not take away what a test wants to look at, and is nothing to skip to."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await _timer_workflow(client, "done", 1)
        await clock.unlock()
        await _finish(client, "done")
        now_s = await clock.now_s()
        for _ in range(20):
            await asyncio.sleep(0)
        assert await clock.now_s() - now_s < TIMEOUT_S
        await clock.lock()
        await clock.unlock_with_sleep(400 * DAY_S)
        for _ in range(200):  # a wake-up would come
            await asyncio.sleep(0)
        assert len(await client.history("done")) > 5

    _run(scenario)


def test_a_worker_keeps_its_sticky_queue_over_a_skip() -> None:
    """No time passed for pollers: the workflow's next task comes to the worker that has it in its cache."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        poll = asyncio.create_task(client.poll_workflow_task(sticky_queue("own", QUEUE), timeout_s=2.1))
        await client.start("cached", QUEUE)
        task = await client.poll_workflow_task(QUEUE)
        assert (await poll).task_token == b""
        await client.complete_workflow_task(
            task.task_token, [start_timer("t", 30 * DAY_S)], sticky_attributes=sticky("own", QUEUE)
        )
        await clock.unlock()
        await clock.sleep(29 * DAY_S)
        for _ in range(20):
            await asyncio.sleep(0)
        task = await client.poll_workflow_task(sticky_queue("own", QUEUE))
        assert task.history.events[0].event_id > 1
        assert task.workflow_execution.workflow_id == "cached"

    _run(scenario)


def test_runs_of_before_the_start_are_taken_into_account(tmp_path: Path) -> None:
    """Over a file: a server that skips time goes on with what another server began."""
    address = f"sqlite:///{tmp_path}/orders.db"

    async def begin() -> None:
        client = await EmbeddedClient.connect(address)
        await _timer_workflow(client, "old", DAY_S)
        await client.close()

    run(begin())

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await clock.unlock()
        await _finish(client, "old")

    _run(scenario, address)


def test_the_clock_has_an_end_up_to_which_everything_works(tmp_path: Path) -> None:
    """Times of a database end in 2262, so that deadlines of a hundred years still fit at the end of the clock."""
    century_s = 100 * 365 * DAY_S

    async def first(client: EmbeddedClient, clock: Clock) -> None:
        await clock.unlock_with_sleep(century_s)
        for sleep in (clock.sleep, clock.unlock_with_sleep):
            with pytest.raises(RPCError, match="past the beginning of the year 2160") as refused:
                await sleep(century_s)
            assert refused.value.status is RPCStatusCode.INVALID_ARGUMENT
        with pytest.raises(RPCError, match="past the beginning of the year 2160"):
            await clock.sleep_until(END_NS // 10**9 + 1)
        await _timer_workflow(client, "far", century_s)
        await clock.unlock()
        await clock.sleep_until(END_NS // 10**9)
        await clock.lock()
        await client.start(
            "latest",
            f"{QUEUE}-latest",
            workflow_start_delay=duration(century_s),
            workflow_run_timeout=duration(century_s),
        )
        await _timer_workflow(client, "latest timer", century_s)

    async def second(client: EmbeddedClient, clock: Clock) -> None:
        """What was written at the end is read again, and the clock of the next server begins now."""
        for workflow_id in ("far", "latest", "latest timer"):
            described = await client.describe(workflow_id)
            assert described.workflow_execution_info.status == RUNNING

    address = f"sqlite:///{tmp_path}/runs.db"
    _run(first, address)
    _run(second, address)


def test_at_its_end_the_clock_goes_on_without_skipping(caplog: pytest.LogCaptureFixture) -> None:
    """A deadline that is later is not reached, others still are: at most by the way of real time."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await clock.unlock_with_sleep(100 * 365 * DAY_S)
        await _timer_workflow(client, "far", 100 * 365 * DAY_S)
        await clock.unlock()
        await clock.sleep_until(END_NS // 10**9)
        await _timer_workflow(client, "near", 0.05)
        task = await client.poll_workflow_task(f"{QUEUE}-near")
        await client.complete_workflow_task(task.task_token, [complete_workflow()])
        assert END_NS / 1e9 <= await clock.now_s() < END_NS / 1e9 + DAY_S

    _run(scenario)
    told = [record for record in caplog.records if "not skipped past" in record.getMessage()]
    assert len(told) == 1
