"""Workflows that the Python SDK tests run: each shows one behaviour. No test code here, the sandbox imports it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ApplicationError
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from tests.e2e import sdk_activities

STEP_TIMEOUT: Final = timedelta(seconds=20)
COLOUR: Final = SearchAttributeKey.for_keyword("Colour")
WEIGHT: Final = SearchAttributeKey.for_int("Weight")


@dataclass(frozen=True)
class ActivityCall:
    """An activity to run: its name, arguments, timeouts in seconds (None: not set) and retries."""

    name: str
    arguments: list[Any] = field(default_factory=list)
    start_to_close_s: float | None = 20.0
    schedule_to_start_s: float | None = None
    schedule_to_close_s: float | None = None
    heartbeat_s: float | None = None
    maximum_attempts: int = 0
    initial_interval_s: float = 0.05
    non_retryable: list[str] = field(default_factory=list)
    task_queue: str | None = None
    activity_id: str | None = None


def _timeout(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _start(
    call: ActivityCall,
    cancellation: ActivityCancellationType = ActivityCancellationType.TRY_CANCEL,
) -> workflow.ActivityHandle[Any]:
    return workflow.start_activity(
        call.name,
        args=call.arguments,
        task_queue=call.task_queue,
        activity_id=call.activity_id,
        start_to_close_timeout=_timeout(call.start_to_close_s),
        schedule_to_start_timeout=_timeout(call.schedule_to_start_s),
        schedule_to_close_timeout=_timeout(call.schedule_to_close_s),
        heartbeat_timeout=_timeout(call.heartbeat_s),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=call.initial_interval_s),
            backoff_coefficient=1.0,
            maximum_attempts=call.maximum_attempts,
            non_retryable_error_types=call.non_retryable,
        ),
        cancellation_type=cancellation,
    )


@workflow.defn
class RunActivity:
    """Run one activity and answer its result."""

    @workflow.run
    async def run(self, call: ActivityCall) -> Any:
        """Schedule it and wait."""
        return await _start(call)


@workflow.defn
class CancelActivity:
    """Run one activity, cancel it on a signal, and answer what became of it."""

    def __init__(self) -> None:
        self._cancel = False

    @workflow.run
    async def run(self, call: ActivityCall, wait: bool) -> Any:
        """`wait` chooses to wait for the activity's own end after the request."""
        kind = (
            ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
            if wait
            else ActivityCancellationType.TRY_CANCEL
        )
        handle = _start(call, kind)
        await workflow.wait_condition(lambda: self._cancel)
        handle.cancel()
        return await handle

    @workflow.signal
    def cancel_activity(self) -> None:
        """Now."""
        self._cancel = True


@workflow.defn
class LocalActivity:
    """Run one local activity with retries."""

    @workflow.run
    async def run(self, name: str, arguments: list[Any]) -> Any:
        """Execute it in this worker."""
        return await workflow.execute_local_activity(
            name,
            args=arguments,
            start_to_close_timeout=STEP_TIMEOUT,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=20)),
        )


@workflow.defn
class Timers:
    """Start several timers together and answer their numbers in the order in which they fired."""

    @workflow.run
    async def run(self, delays_s: list[float]) -> list[int]:
        """Wait for all of them."""
        fired: list[int] = []

        async def one(number: int, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            fired.append(number)

        await asyncio.gather(*(one(number, delay_s) for number, delay_s in enumerate(delays_s)))
        return fired


@workflow.defn
class CancelledTimer:
    """Give up a long timer after a short one."""

    @workflow.run
    async def run(self) -> str:
        """The long timer must not hold anything up."""
        long_timer = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0.05)
        long_timer.cancel()
        try:
            await long_timer
        except asyncio.CancelledError:
            return "given up"
        return "waited"


@workflow.defn
class Collector:
    """Collect what signals bring until one says stop."""

    def __init__(self) -> None:
        self._items: list[str] = []
        self._stopped = False

    @workflow.run
    async def run(self) -> list[str]:
        """Wait for the stop."""
        await workflow.wait_condition(lambda: self._stopped)
        return self._items

    @workflow.signal
    def add(self, item: str) -> None:
        """One more."""
        self._items.append(item)

    @workflow.signal
    def stop(self) -> None:
        """No more."""
        self._stopped = True

    @workflow.query
    def items(self) -> list[str]:
        """What came so far."""
        return self._items

    @workflow.query
    def broken(self) -> None:
        """A query whose handler fails."""
        raise ValueError("this query never works")


@workflow.defn
class CleansUp:
    """Wait forever; when cancelled, run an activity and end as cancelled or, if asked, as completed."""

    @workflow.run
    async def run(self, swallow: bool) -> str:
        """Cancellation is an exception like any other."""
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            text = await workflow.execute_activity(
                sdk_activities.greet, "cleanup", start_to_close_timeout=STEP_TIMEOUT
            )
            if swallow:
                return text
            raise
        return "never"


@workflow.defn
class Fails:
    """End with a failure that carries details."""

    @workflow.run
    async def run(self, kind: str) -> None:
        """Fail at once."""
        raise ApplicationError("failed on purpose", {"code": 17}, type=kind)


@workflow.defn(name="Repaired")
class Broken:
    """The first version of a workflow: its code has a bug."""

    @workflow.run
    async def run(self) -> str:
        """Fail the workflow task, not the workflow."""
        raise RuntimeError("a bug in the workflow's code")


@workflow.defn(name="Repaired")
class Repaired:
    """The second version, without it."""

    @workflow.run
    async def run(self) -> str:
        """Work."""
        return "repaired"


@workflow.defn
class ManySteps:
    """Run many activities at once, wait for a signal, run as many again: a history of several pages."""

    def __init__(self) -> None:
        self._sum = 0
        self._go = False

    @workflow.run
    async def run(self, steps: int) -> int:
        """The sum of all results."""
        await self._many(steps)
        await workflow.wait_condition(lambda: self._go)
        await self._many(steps)
        return self._sum

    async def _many(self, steps: int) -> None:
        results = await asyncio.gather(
            *(
                workflow.execute_activity(sdk_activities.double, number, start_to_close_timeout=STEP_TIMEOUT)
                for number in range(steps)
            )
        )
        self._sum += sum(results)

    @workflow.signal
    def go_on(self) -> None:
        """Start the second half."""
        self._go = True

    @workflow.query
    def total(self) -> int:
        """The sum so far."""
        return self._sum


@workflow.defn
class Deterministic:
    """Answer random numbers, ids, the time and a patch's verdict, each read on both sides of a wait."""

    @workflow.run
    async def run(self) -> list[bool]:
        """Every entry says that replay saw the same as the first execution."""
        before = (workflow.random().random(), str(workflow.uuid4()), workflow.now())
        first = await self._echo(str(before[0]))
        second = await self._echo(before[1])
        third = await self._echo(before[2].isoformat())
        return [
            first == str(before[0]),
            second == before[1],
            third == before[2].isoformat(),
            workflow.patched("a-change"),
        ]

    async def _echo(self, text: str) -> str:
        answer = await workflow.execute_activity(
            sdk_activities.greet, text, start_to_close_timeout=STEP_TIMEOUT
        )
        return answer.removeprefix("Hello, ").removesuffix("!")


@workflow.defn
class Labels:
    """Change its own search attributes and memo, then wait for a signal."""

    def __init__(self) -> None:
        self._done = False

    @workflow.run
    async def run(self) -> None:
        """Upsert, remove one, wait."""
        workflow.upsert_search_attributes([COLOUR.value_set("red"), WEIGHT.value_set(5)])
        workflow.upsert_memo({"note": "changed", "gone": None})
        await workflow.wait_condition(lambda: self._done)
        workflow.upsert_search_attributes([COLOUR.value_unset()])

    @workflow.signal
    def done(self) -> None:
        """End."""
        self._done = True
