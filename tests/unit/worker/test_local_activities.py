"""Local activities: attempts, time-outs, retries here or after a timer, cancellations, while their workflow waits."""

from __future__ import annotations

import asyncio
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
    ) -> None:
        attributes = ScheduleActivityTaskCommandAttributes(activity_id=str(seq))
        attributes.activity_type.name = name
        attributes.retry_policy.initial_interval.FromTimedelta(timedelta(milliseconds=10))
        attributes.retry_policy.maximum_attempts = attempts
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


def test_one_that_finds_no_slot_in_time_is_out_of_time() -> None:
    async def scenario() -> None:
        world = _World(hangs, slots=1)
        world.start("hangs", seq=1)
        world.start("hangs", seq=2, limits_s={"schedule_to_start_timeout": 0.05})
        outcome = await world.outcome()
        assert outcome.failure is not None
        kind = outcome.failure.timeout_failure_info.timeout_type
        assert kind == TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
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
