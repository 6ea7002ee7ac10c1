"""Workflows and activities that the worker's end-to-end tests share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError, CancelledError


@dataclass
class Call:
    """How a workflow runs an activity.

    Attributes:
        name: Of the activity.
        args: Of the activity.
        attempts: At most so many; 0 for any number.
        start_to_close_s: Limit of one attempt.
        heartbeat_s: Limit between heartbeats, if there is one.
        is_local: Run it as a local activity.
    """

    name: str
    args: list[Any] = field(default_factory=list)
    attempts: int = 1
    start_to_close_s: float = 30.0
    heartbeat_s: float | None = None
    is_local: bool = False


@workflow.defn
class RunActivity:
    """Runs one activity, and cancels it when it is told to."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None

    @workflow.run
    async def run(self, call: Call) -> Any:
        self._task = asyncio.create_task(self._execute(call))
        try:
            return await self._task
        except (asyncio.CancelledError, ActivityError) as error:
            if isinstance(error, asyncio.CancelledError) or isinstance(error.cause, CancelledError):
                return "cancelled"
            raise

    async def _execute(self, call: Call) -> Any:
        retry_policy = RetryPolicy(
            maximum_attempts=call.attempts, initial_interval=timedelta(milliseconds=10)
        )
        limit = timedelta(seconds=call.start_to_close_s)
        if call.is_local:
            return await workflow.execute_local_activity(
                call.name, args=call.args, start_to_close_timeout=limit, retry_policy=retry_policy
            )
        return await workflow.execute_activity(
            call.name,
            args=call.args,
            start_to_close_timeout=limit,
            heartbeat_timeout=timedelta(seconds=call.heartbeat_s) if call.heartbeat_s else None,
            retry_policy=retry_policy,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )

    @workflow.signal
    def cancel_activity(self) -> None:
        if self._task is not None:
            self._task.cancel()


@workflow.defn
class Counter:
    """Counts signals until it is told to finish."""

    def __init__(self) -> None:
        self._count = 0
        self._finished = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self._finished)
        return self._count

    @workflow.signal
    def add(self, number: int) -> None:
        self._count += number

    @workflow.signal
    def finish(self) -> None:
        self._finished = True

    @workflow.query
    def count(self) -> int:
        return self._count

    @workflow.update
    async def add_and_get(self, number: int) -> int:
        self._count += number
        return self._count


@activity.defn
async def echo(text: str) -> str:
    """Return what it is given."""
    return text


@activity.defn
def in_another_process(number: int) -> int:
    """Send a heartbeat and add one."""
    activity.heartbeat(number)
    return number + 1
