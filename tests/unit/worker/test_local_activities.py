"""Local activities: attempts, time-outs, retries here or after a timer, cancellations, while their workflow waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from perdure import activity
from perdure.api.command.v1 import ScheduleActivityTaskCommandAttributes
from perdure.api.enums.v1 import TimeoutType
from perdure.converter import DataConverter
from perdure.core.replay.steps import LocalActivity, LocalActivityOutcome
from perdure.exceptions import ApplicationError
from perdure.worker import _logs
from perdure.worker._activity_registry import ActivityRegistry
from perdure.worker._activity_runner import ActivityRunner
from perdure.worker._local_activities import LocalActivities, RunLocals
from perdure.worker._slots import FixedSlots


class _World:
    """Local activities without a worker or a workflow around them."""

    def __init__(self, *activities: Callable[..., Any], slots: int = 10) -> None:
        environment: Any = SimpleNamespace(
            namespace="ns",
            task_queue="queue",
            metrics=None,
            identity="me",
            client=None,
            data_converter=DataConverter.default,
            interceptors=[],
            metric_meter=None,
            encode_headers=False,
        )
        runner = ActivityRunner(environment, ActivityRegistry(activities, None, None), None, None, print)
        self.local_activities = LocalActivities(runner, FixedSlots(slots))
        self.locals = RunLocals()
        self.retries = 0
        self.run: Any = SimpleNamespace(workflow_type="W", local_activity_retried=self._retried)

    def _retried(self) -> None:
        self.retries += 1

    def start(
        self,
        name: str,
        *,
        seq: int = 1,
        threshold_s: float = 60,
        attempts: int = 0,
        limits_s: Mapping[str, float] = {},
        coefficient: float = 0,
        longest_s: float = 0,
    ) -> None:
        attributes = ScheduleActivityTaskCommandAttributes(activity_id=str(seq))
        attributes.activity_type.name = name
        attributes.retry_policy.initial_interval.FromTimedelta(timedelta(milliseconds=10))
        attributes.retry_policy.maximum_attempts = attempts
        attributes.retry_policy.backoff_coefficient = coefficient
        attributes.retry_policy.maximum_interval.FromTimedelta(timedelta(seconds=longest_s))
        for limit, seconds in limits_s.items():
            getattr(attributes, limit).FromTimedelta(timedelta(seconds=seconds))
        work = LocalActivity(seq, attributes, 1, 0, 0, threshold_s)
        self.local_activities.start(work, self.run, self.locals, "w", "r")

    async def outcome(self) -> LocalActivityOutcome:
        async with asyncio.timeout(10):
            while not self.locals.finished:
                self.locals.changed.clear()
                await self.locals.changed.wait()
        return self.locals.finished.popleft()[1]


def _value(outcome: LocalActivityOutcome) -> Any:
    assert outcome.result is not None
    return DataConverter.default.payload_converter.from_payloads(outcome.result.payloads)[0]


@activity.defn
async def third_time() -> int:
    """Fail twice."""
    if activity.info().attempt < 3:
        raise RuntimeError("not yet")
    return activity.info().attempt


@activity.defn
async def fourth_time() -> int:
    """Fail three times."""
    if activity.info().attempt < 4:
        raise RuntimeError("not yet")
    return activity.info().attempt


@activity.defn
async def hangs() -> None:
    """Wait until it is cancelled."""
    await asyncio.Event().wait()


@activity.defn
async def refuses() -> NoReturn:
    """Fail for good."""
    raise ApplicationError("no", non_retryable=True)


@activity.defn
async def completes_later() -> None:
    """Not possible for a local activity."""
    activity.raise_complete_async()


def test_attempts_are_repeated_here_and_counted() -> None:
    async def scenario() -> None:
        world = _World(third_time)
        world.start("third_time")
        outcome = await world.outcome()
        assert _value(outcome) == 3
        assert (outcome.attempt, world.retries) == (3, 2)

    asyncio.run(scenario())


def test_a_retry_that_waits_too_long_is_left_to_a_timer() -> None:
    async def scenario() -> None:
        world = _World(third_time)
        world.start("third_time", threshold_s=0.001)
        outcome = await world.outcome()
        assert outcome.backoff_s == pytest.approx(0.01)
        assert outcome.failure is not None
        assert outcome.attempt == 1
        assert outcome.original_schedule_time_ns > 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "limits", "kind"),
    [
        ("hangs", {"start_to_close_timeout": 0.05}, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE),
        ("hangs", {"schedule_to_close_timeout": 0.05}, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
        ("third_time", {"schedule_to_close_timeout": 0.005}, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
    ],
)
def test_limits_end_it(name: str, limits: dict[str, float], kind: int) -> None:
    async def scenario() -> None:
        world = _World(third_time, hangs)
        world.start(name, attempts=1 if name == "hangs" else 0, limits_s=limits)
        outcome = await world.outcome()
        assert outcome.failure is not None
        assert outcome.failure.timeout_failure_info.timeout_type == kind

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("start_s", "all_s", "kind"),
    [
        (0.05, 0, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START),
        (0.05, 60, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START),
        (60, 0.05, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
    ],
)
def test_one_that_finds_no_slot_in_time_is_out_of_time(start_s: float, all_s: float, kind: int) -> None:
    """In the time that was over first."""

    async def scenario() -> None:
        world = _World(hangs, slots=1)
        world.start("hangs", seq=1)
        limits_s = {"schedule_to_start_timeout": start_s, "schedule_to_close_timeout": all_s}
        world.start("hangs", seq=2, limits_s={name: limit_s for name, limit_s in limits_s.items() if limit_s})
        outcome = await world.outcome()
        assert outcome.failure is not None
        assert outcome.failure.timeout_failure_info.timeout_type == kind
        world.local_activities.drop(world.locals)

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["refuses", "completes_later", "unknown"])
def test_failures_for_good_are_not_repeated(name: str) -> None:
    async def scenario() -> None:
        world = _World(refuses, completes_later)
        world.start(name, attempts=0 if name != "unknown" else 1)
        outcome = await world.outcome()
        assert outcome.failure is not None
        assert outcome.attempt == 1

    asyncio.run(scenario())


def test_a_cancellation_ends_it_while_it_runs_and_while_it_waits() -> None:
    async def scenario() -> None:
        world = _World(hangs, slots=1)
        world.start("hangs", seq=1)
        world.start("hangs", seq=2)
        await asyncio.wait([world.locals.tasks[1]], timeout=0.01)
        world.local_activities.cancel(2, world.locals)
        assert (await world.outcome()).is_canceled
        world.local_activities.cancel(1, world.locals)
        assert (await world.outcome()).is_canceled
        assert world.locals.tasks == {}

    asyncio.run(scenario())


@activity.defn
async def fails_when_cancelled() -> None:
    """Raise something of its own where it is cancelled."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("cleaning up failed") from None


async def _until_running(world: _World) -> None:
    async with asyncio.timeout(10):
        while not world.locals.attempts or not all(
            attempt.is_executing for attempt in world.locals.attempts.values()
        ):
            await asyncio.sleep(0)


def test_one_that_is_dropped_is_not_repeated() -> None:
    """Whatever it raises: its run has left, and would repeat it for ever."""

    async def scenario() -> None:
        world = _World(fails_when_cancelled)
        world.start("fails_when_cancelled")
        await _until_running(world)
        tasks = list(world.locals.tasks.values())
        world.local_activities.drop(world.locals)
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert world.retries == 0

    asyncio.run(scenario())


def test_a_policy_whose_waits_overflow_goes_on_with_the_longest() -> None:
    async def scenario() -> None:
        world = _World(fourth_time)
        world.start("fourth_time", coefficient=1e300, longest_s=0.001)
        assert _value(await world.outcome()) == 4

    asyncio.run(scenario())


def test_a_bug_around_an_attempt_is_its_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Its workflow does not wait for ever."""

    async def scenario() -> None:
        world = _World(third_time)
        world.local_activities._slots = SimpleNamespace()
        world.start("third_time")
        outcome = await world.outcome()
        assert outcome.failure is not None
        assert "could not run the local activity" in outcome.failure.message
        assert "could not be run" in caplog.text

    asyncio.run(scenario())


def test_a_filter_that_raises_does_not_change_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(record: logging.LogRecord) -> bool:
        raise KeyError("broken filter")

    async def scenario() -> None:
        world = _World(refuses)
        world.start("refuses")
        outcome = await world.outcome()
        assert outcome.failure is not None
        assert outcome.failure.message == "no"

    _logs.activity_logger.addFilter(broken)
    try:
        asyncio.run(scenario())
    finally:
        _logs.activity_logger.removeFilter(broken)
    assert "broken filter" in capsys.readouterr().err


def test_what_is_abandoned_is_waited_for_and_not_reported() -> None:
    """A worker that ends leaves no code running behind it; a later one is not begun at all."""
    cleaned: list[str] = []

    @activity.defn
    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(str(activity.cancellation_details()))

    async def scenario() -> None:
        world = _World(cleans_up)
        world.start("cleans_up", attempts=1)
        await _until_running(world)
        world.local_activities.abandon()
        assert world.locals.is_abandoned
        await asyncio.wait_for(world.local_activities.drain(), 10)
        assert len(cleaned) == 1
        assert "worker_shutdown=True" in cleaned[0]
        await asyncio.wait_for(asyncio.gather(*world.locals.tasks.values()), 10)
        world.locals = RunLocals()
        world.start("cleans_up")
        assert world.locals.is_abandoned
        assert not world.locals.tasks
        assert not world.locals.finished

    asyncio.run(scenario())
