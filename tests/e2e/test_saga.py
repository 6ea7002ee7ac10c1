"""`perdure.contrib.saga` and the trip booking that uses it: whatever goes wrong, what was done is undone in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from examples.saga.trip import PARTS, TASK_QUEUE, Agency, Booking, BookTrip, Companies, Trip, working
from perdure import activity, workflow
from perdure.api.enums.v1 import EventType
from perdure.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from perdure.common import RetryPolicy
from perdure.contrib.saga import SAGA_UNDO_FAILED, Saga, idempotency_key
from perdure.exceptions import ActivityError, ApplicationError, CancelledError
from perdure.testing import WorkflowEnvironment
from perdure.worker import Replayer, Worker

SCENARIO_TIMEOUT_S = 60
SHORT = timedelta(seconds=5)


def skipping(scenario: Callable[[WorkflowEnvironment], Awaitable[None]]) -> None:
    """Runs a scenario in an environment of its own."""

    async def run() -> None:
        async with (
            asyncio.timeout(SCENARIO_TIMEOUT_S),
            await WorkflowEnvironment.start_time_skipping() as env,
        ):
            await scenario(env)

    asyncio.run(run())


async def _book(client: Client, companies: Companies) -> list[Booking]:
    async with working(client, Agency(companies)):
        return await client.execute_workflow(BookTrip.run, Trip("t", "Porto"), id="t", task_queue=TASK_QUEUE)


def test_a_trip_that_can_be_had_is_booked_and_kept() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        companies = Companies()
        bookings = await _book(env.client, companies)
        assert [booking.reference for booking in bookings] == ["t/car", "t/hotel", "t/flight"]
        assert companies.log == ["booked car", "booked hotel", "booked flight"]
        assert sorted(companies.bookings.values()) == sorted(PARTS)

    skipping(scenario)


@pytest.mark.parametrize("silent", [False, True], ids=["sold-out", "answer-lost"])
@pytest.mark.parametrize("failing", PARTS)
def test_a_failure_at_any_step_undoes_what_took_effect_newest_first(failing: str, silent: bool) -> None:
    """Also the failed step itself, when it took effect and only its answer was lost."""

    async def scenario(env: WorkflowEnvironment) -> None:
        parts = frozenset({failing})
        companies = Companies(silent=parts) if silent else Companies(sold_out=parts)
        with pytest.raises(WorkflowFailureError) as raised:
            await _book(env.client, companies)
        assert isinstance(raised.value.cause, ActivityError)
        reason = raised.value.cause.cause
        assert isinstance(reason, ApplicationError)
        assert reason.type == ("ConnectionError" if silent else "SoldOut")
        took_effect = list(PARTS[: PARTS.index(failing) + silent])
        expected = [f"booked {part}" for part in took_effect]
        expected += [f"cancelled {part}" for part in reversed(took_effect)]
        assert companies.log == expected
        assert companies.bookings == {}

        history = await env.client.get_workflow_handle("t").fetch_history()
        scheduled = [
            event
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ]
        ids = [event.activity_task_scheduled_event_attributes.activity_id for event in scheduled]
        tried = ids[: PARTS.index(failing) + 1]
        assert ids == [*tried, *(f"undo:{done}" for done in reversed(tried))]
        assert b"undo book" in scheduled[-1].user_metadata.summary.data
        await Replayer(workflows=[BookTrip]).replay_workflow(history)

    skipping(scenario)


class SlowAgency(Agency):
    """Books only when it is told to, and says when it was asked."""

    def __init__(self, companies: Companies) -> None:
        super().__init__(companies)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    @activity.defn
    async def book(self, part: str, trip: Trip) -> Booking:
        """Waits, then books."""
        self.asked.set()
        await self.go.wait()
        return await super().book(part, trip)


async def _completed_tasks(handle: WorkflowHandle[Any, Any]) -> int:
    completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    return [event.event_type async for event in handle.fetch_history_events()].count(completed)


def test_a_step_under_way_when_the_workflow_is_cancelled_ends_before_it_is_undone() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        agency = SlowAgency(Companies())
        async with working(env.client, agency):
            handle = await env.client.start_workflow(
                BookTrip.run, Trip("t", "Faro"), id="t", task_queue=TASK_QUEUE
            )
            await agency.asked.wait()
            await handle.cancel()
            # The code has heard of it once the task that told it is completed.
            while await _completed_tasks(handle) < 2:
                await asyncio.sleep(0)
            agency.go.set()
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()
        assert isinstance(raised.value.cause, CancelledError)
        assert agency.companies.log == ["booked car", "cancelled car"]

    skipping(scenario)


class Undoing:
    """Activities whose undo waits to be let go, or fails."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.undoing, self.go_on = asyncio.Event(), asyncio.Event()
        self.keys: dict[str, str] = {}

    @activity.defn
    async def do(self, name: str) -> None:
        """Does a step; the step `bad` fails."""
        self.keys[name] = idempotency_key()
        self.log.append(f"do {name}")
        if name == "bad":
            raise ApplicationError("bad", non_retryable=True)

    @activity.defn
    async def undo(self, name: str) -> None:
        """Undoes a step; the step `stuck` cannot be undone, and `slow` waits."""
        assert idempotency_key() == self.keys[name]
        if name == "slow":
            self.undoing.set()
            await self.go_on.wait()
        if name == "stuck":
            raise ApplicationError("stuck for ever", non_retryable=True)
        self.log.append(f"undo {name}")

    @activity.defn
    async def no_step(self) -> str:
        """Asks for a key that there is not."""
        return idempotency_key()


@workflow.defn
class Steps:
    """Does the steps it is told to, and counts how often it was told of a cancellation."""

    @workflow.run
    async def run(self, names: list[str], ending: str) -> str:
        """Ends in the way that `ending` names."""
        async with Saga() as saga:
            for name in names:
                await saga.step(
                    Undoing.do,
                    name,
                    undo=Undoing.undo,
                    start_to_close_timeout=SHORT,
                    retry_policy=RetryPolicy(maximum_attempts=1),
                )
            if ending == "keep":
                saga.keep()
                raise ApplicationError("after the point of no return")
            if ending == "undo":
                await saga.undo()
            if ending == "timeout":
                async with asyncio.timeout(1):
                    await asyncio.sleep(10)
            if ending == "cancelled undo":

                async def undo_by_waiting() -> None:
                    gone = asyncio.get_running_loop().create_future()
                    gone.cancel()
                    await gone

                saga.add_undo("waits for what is cancelled", undo_by_waiting)
                raise ApplicationError("no child")
            if ending == "child":

                async def undo_child() -> None:
                    await workflow.execute_activity_method(
                        Undoing.do, "undid child", start_to_close_timeout=SHORT, activity_id="a-b"
                    )

                saga.add_undo("child", undo_child)
                raise ApplicationError("no child")
        return "done"


async def _steps(client: Client, undoing: Undoing, names: list[str], ending: str = "") -> str:
    async with _steps_worker(client, undoing):
        return await client.execute_workflow(Steps.run, args=[names, ending], id="s", task_queue="s")


def _steps_worker(client: Client, undoing: Undoing) -> Worker:
    activities: list[Callable[..., Any]] = [undoing.do, undoing.undo, undoing.no_step]
    return Worker(
        client,
        task_queue="s",
        workflows=[Steps, WithoutKey],
        activities=activities,
        workflow_failure_exception_types=[TimeoutError],
    )


@workflow.defn
class WithoutKey:
    """Runs an activity that is no step."""

    @workflow.run
    async def run(self) -> str:
        """Fails."""
        return await workflow.execute_activity_method(
            Undoing.no_step,
            start_to_close_timeout=SHORT,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


def test_an_undo_that_cannot_be_done_does_not_keep_the_others_from_it_and_is_named() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        undoing = Undoing()
        with pytest.raises(WorkflowFailureError) as raised:
            await _steps(env.client, undoing, ["one", "stuck", "two", "bad"])
        assert undoing.log == ["do one", "do stuck", "do two", "do bad", "undo bad", "undo two", "undo one"]
        cause = raised.value.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == SAGA_UNDO_FAILED
        assert list(cause.details) == [["do"]]
        assert "stuck for ever" in cause.message

    skipping(scenario)


def test_a_second_cancellation_does_not_end_the_undoing() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        undoing = Undoing()
        async with _steps_worker(env.client, undoing):
            handle = await env.client.start_workflow(
                Steps.run, args=[["one", "slow", "bad"], ""], id="s", task_queue="s"
            )
            await undoing.undoing.wait()
            before = await _completed_tasks(handle)
            await handle.cancel()
            while await _completed_tasks(handle) == before:
                await asyncio.sleep(0)
            undoing.go_on.set()
            with pytest.raises(WorkflowFailureError):
                await handle.result()
        assert undoing.log[-3:] == ["undo bad", "undo slow", "undo one"]

    skipping(scenario)


@pytest.mark.parametrize(
    ("ending", "outcome", "log"),
    [
        ("", "done", ["do one"]),
        ("undo", "done", ["do one", "undo one"]),
        ("keep", None, ["do one"]),
        ("timeout", None, ["do one", "undo one"]),
        ("child", None, ["do one", "do undid child", "undo one"]),
    ],
)
def test_each_way_to_end_keeps_or_undoes(ending: str, outcome: str | None, log: list[str]) -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        undoing = Undoing()
        if outcome is None:
            with pytest.raises(WorkflowFailureError):
                await _steps(env.client, undoing, ["one"], ending)
        else:
            assert await _steps(env.client, undoing, ["one"], ending) == outcome
        assert undoing.log == log

    skipping(scenario)


def test_an_undo_that_ends_as_cancelled_does_not_keep_the_others_from_it_and_is_named() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        undoing = Undoing()
        with pytest.raises(WorkflowFailureError) as raised:
            await _steps(env.client, undoing, ["one"], "cancelled undo")
        assert undoing.log == ["do one", "undo one"]
        cause = raised.value.cause
        assert isinstance(cause, ApplicationError)
        assert cause.type == SAGA_UNDO_FAILED
        assert "waits for what is cancelled: CancelledError" in cause.message

    skipping(scenario)


class Slow:
    """A step that goes on until it is told to stop, and then takes effect all the same."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.begun = asyncio.Event()

    @activity.defn
    async def slow(self) -> None:
        """Goes on."""
        self.begun.set()
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.01)
        finally:
            self.log.append("slow took effect")

    @activity.defn
    async def fails(self) -> None:
        """Fails while the other is under way."""
        await self.begun.wait()
        raise ApplicationError("no", non_retryable=True)

    @activity.defn
    async def undo_slow(self) -> None:
        """Undoes it."""
        self.log.append("undid slow")

    @activity.defn
    async def undo_fails(self) -> None:
        """Undoes nothing."""
        self.log.append("undid fails")


@workflow.defn
class AtOnce:
    """Two steps at once: when one fails, `gather` leaves the other alone."""

    @workflow.run
    async def run(self) -> None:
        """Fails."""
        async with Saga() as saga:
            await asyncio.gather(
                saga.step(
                    Slow.slow,
                    undo=Slow.undo_slow,
                    start_to_close_timeout=SHORT * 12,
                    heartbeat_timeout=SHORT * 12,
                ),
                saga.step(Slow.fails, undo=Slow.undo_fails, start_to_close_timeout=SHORT * 12),
            )


def test_a_step_that_another_one_has_left_under_way_ends_before_it_is_undone() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        slow = Slow()
        activities = [slow.slow, slow.fails, slow.undo_slow, slow.undo_fails]
        async with Worker(
            env.client,
            task_queue="s",
            workflows=[AtOnce],
            activities=activities,
            max_heartbeat_throttle_interval=timedelta(milliseconds=20),
        ):
            handle = await env.client.start_workflow(AtOnce.run, id="s", task_queue="s")
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()
        assert isinstance(raised.value.cause, ActivityError)
        assert slow.log == ["undid fails", "slow took effect", "undid slow"]
        await Replayer(workflows=[AtOnce]).replay_workflow(await handle.fetch_history())

    skipping(scenario)


@workflow.defn(name="Defective")
class Defective:
    """Has a defect after its step."""

    @workflow.run
    async def run(self) -> str:
        """Never gets past the defect."""
        async with Saga() as saga:
            await saga.step(Undoing.do, "one", undo=Undoing.undo, start_to_close_timeout=SHORT)
            raise LookupError("a defect")


@workflow.defn(name="Defective")
class Repaired:
    """The same without the defect."""

    @workflow.run
    async def run(self) -> str:
        """Goes on where the other stopped."""
        async with Saga() as saga:
            await saga.step(Undoing.do, "one", undo=Undoing.undo, start_to_close_timeout=SHORT)
        return "repaired"


def test_a_defect_undoes_nothing_and_the_repaired_code_goes_on() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        undoing = Undoing()
        activities = [undoing.do, undoing.undo]
        async with Worker(env.client, task_queue="s", workflows=[Defective], activities=activities):
            handle = await env.client.start_workflow(Defective.run, id="s", task_queue="s")
            while not (await handle.describe()).raw_description.pending_workflow_task.attempt > 1:
                await asyncio.sleep(0)
        assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
        async with Worker(env.client, task_queue="s", workflows=[Repaired], activities=activities):
            assert await handle.result() == "repaired"
        assert undoing.log == ["do one"]

    skipping(scenario)


def test_an_activity_that_is_no_step_has_no_key() -> None:
    async def scenario(env: WorkflowEnvironment) -> None:
        async with _steps_worker(env.client, Undoing()):
            with pytest.raises(WorkflowFailureError) as raised:
                await env.client.execute_workflow(WithoutKey.run, id="k", task_queue="s")
        assert isinstance(raised.value.cause, ActivityError)
        assert "is not a step of a saga" in str(raised.value.cause.cause)

    skipping(scenario)
