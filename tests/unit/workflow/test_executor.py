"""Workflow code under execution: activities, timers, conditions, signals, how a run ends."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from perdure import activity, workflow
from perdure.common import RetryPolicy
from perdure.core.replay.activation import CancelWorkflow, FireTimer, ResolveActivity
from perdure.core.replay.instructions import (
    CancelTimer,
    CompleteWorkflow,
    ContinueAsNew,
    FailWorkflow,
    RequestCancelActivity,
    RequestCancelLocalActivity,
    ScheduleActivity,
    ScheduleLocalActivity,
    StartTimer,
)
from perdure.exceptions import ActivityError, ApplicationError, CancelledError

from .driver import (
    SECOND_NS,
    Driver,
    activity_failure,
    cancelled_activity,
    kinds,
    only,
    pause,
    payloads,
    signal,
    value_of,
)

TEN_SECONDS = timedelta(seconds=10)


@activity.defn
async def shout(text: str) -> str:
    return text.upper()


@workflow.defn
class Straight:
    """One activity, one timer."""

    @workflow.run
    async def run(self, name: str) -> str:
        loud = await workflow.execute_activity(shout, name, start_to_close_timeout=TEN_SECONDS)
        await pause(5)
        return f"{loud}!"


def test_a_run_asks_waits_and_completes() -> None:
    """Each activation takes the code to where it waits next, and the last one ends it."""
    run = Driver(Straight, "bob")
    scheduled = only(run.start(), ScheduleActivity)
    assert scheduled.seq == 1
    assert scheduled.attributes.activity_id == "1"
    assert scheduled.attributes.activity_type.name == "shout"
    assert scheduled.attributes.task_queue.name == "queue"
    assert value_of(scheduled.attributes.input) == "bob"
    assert scheduled.attributes.start_to_close_timeout.seconds == 10
    assert only(run.resolve(1, "BOB"), StartTimer).duration_ns == 5 * SECOND_NS
    assert value_of(only(run.fire(1, after_s=5), CompleteWorkflow).result) == "BOB!"


@workflow.defn
class AllOptions:
    """An activity with every option."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            "other",
            args=[1, "two"],
            task_queue="elsewhere",
            result_type=int,
            schedule_to_close_timeout=timedelta(seconds=1, milliseconds=500),
            schedule_to_start_timeout=timedelta(seconds=2),
            start_to_close_timeout=timedelta(seconds=3),
            heartbeat_timeout=timedelta(seconds=4),
            retry_policy=RetryPolicy(maximum_attempts=3),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            activity_id="mine",
            summary="a line",
        )


def test_every_option_of_an_activity_is_in_its_command() -> None:
    """Timeouts, queue, retries, id, kind of cancellation and summary arrive as given."""
    scheduled = only(Driver(AllOptions).start(), ScheduleActivity)
    attributes = scheduled.attributes
    assert attributes.activity_id == "mine"
    assert attributes.task_queue.name == "elsewhere"
    assert (attributes.schedule_to_close_timeout.seconds, attributes.schedule_to_close_timeout.nanos) == (
        1,
        500_000_000,
    )
    assert attributes.schedule_to_start_timeout.seconds == 2
    assert attributes.start_to_close_timeout.seconds == 3
    assert attributes.heartbeat_timeout.seconds == 4
    assert attributes.retry_policy.maximum_attempts == 3
    assert not attributes.request_eager_execution, "another queue's workers cannot be handed it"
    assert scheduled.cancellation == 1
    assert scheduled.metadata is not None
    assert value_of(scheduled.metadata.summary) == "a line"


@workflow.defn(failure_exception_types=[ValueError])
class NoTimeout:
    """An activity without a timeout."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(shout, "x")


def test_an_activity_without_timeout_is_refused() -> None:
    """The message says which timeouts there are."""
    failed = only(Driver(NoTimeout).start(), FailWorkflow)
    assert "must have start_to_close_timeout or schedule_to_close_timeout" in failed.failure.message


@workflow.defn
class Catches:
    """An activity's failure, seen from the workflow."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.execute_activity(shout, "x", start_to_close_timeout=TEN_SECONDS)
        except ActivityError as error:
            return f"caught {type(error.cause).__name__}: {error.cause}"
        return "no error"


def test_an_activity_failure_is_raised_with_its_cause() -> None:
    """The workflow can catch it."""
    run = Driver(Catches)
    run.start()
    answer = run.send(ResolveActivity(1, failure=activity_failure(ApplicationError("bad luck"))))
    assert value_of(only(answer, CompleteWorkflow).result) == "caught ApplicationError: bad luck"


def test_an_activity_failure_that_nobody_catches_fails_the_workflow() -> None:
    """With the activity's failure inside."""
    run = Driver(Straight, "bob")
    run.start()
    answer = run.send(ResolveActivity(1, failure=activity_failure(ApplicationError("bad luck"))))
    assert only(answer, FailWorkflow).failure.cause.message == "bad luck"


@workflow.defn
class Parallel:
    """Three activities at once."""

    @workflow.run
    async def run(self) -> list[str]:
        started = [
            workflow.start_activity(shout, text, start_to_close_timeout=TEN_SECONDS)
            for text in ("a", "b", "c")
        ]
        return await asyncio.gather(*started)


def test_parallel_activities_resolve_in_any_order() -> None:
    """The results come in the order in which the activities were started."""
    run = Driver(Parallel)
    assert [each.seq for each in run.start() if isinstance(each, ScheduleActivity)] == [1, 2, 3]
    assert run.resolve(3, "C") == []
    assert run.resolve(1, "A") == []
    assert value_of(only(run.resolve(2, "B"), CompleteWorkflow).result) == ["A", "B", "C"]


@workflow.defn
class CancelsActivity:
    """Cancels an activity after a timer, or before its task had a step."""

    @workflow.run
    async def run(self, at_once: bool) -> str:
        handle = workflow.start_activity(shout, "x", start_to_close_timeout=TEN_SECONDS)
        if not at_once:
            await pause(1)
        handle.cancel()
        try:
            return await handle
        except (ActivityError, asyncio.CancelledError) as error:
            return type(error).__name__


def test_cancelling_an_activity_asks_for_it_and_waits_for_the_answer() -> None:
    """The activity's own end decides what the workflow sees."""
    run = Driver(CancelsActivity, False)
    assert kinds(run.start()) == ["ScheduleActivity", "StartTimer"]
    assert only(run.fire(1), RequestCancelActivity).seq == 1
    assert value_of(only(run.send(cancelled_activity(1)), CompleteWorkflow).result) == "ActivityError"


def test_an_activity_that_ends_well_although_cancelled_gives_its_result() -> None:
    """A cancellation is a request."""
    run = Driver(CancelsActivity, False)
    run.start()
    run.fire(1)
    assert value_of(only(run.resolve(1, "done"), CompleteWorkflow).result) == "done"


def test_an_activity_cancelled_before_its_first_step_is_cancelled_on_the_server_too() -> None:
    """The task never ran, so it cannot ask by itself."""
    run = Driver(CancelsActivity, True)
    assert kinds(run.start()) == ["ScheduleActivity", "RequestCancelActivity", "CompleteWorkflow"]


@workflow.defn
class Local:
    """A local activity."""

    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_local_activity(
            shout, "x", start_to_close_timeout=TEN_SECONDS, local_retry_threshold=timedelta(seconds=9)
        )


def test_a_local_activity_that_backs_off_is_asked_for_again_after_a_timer() -> None:
    """Under a new number, with the attempt and the first schedule's time that the answer said."""
    run = Driver(Local)
    first = only(run.start(), ScheduleLocalActivity)
    assert (first.seq, first.attempt, first.local_retry_threshold_s) == (1, 1, 9.0)
    again = ResolveActivity(1, backoff_s=70.0, attempt=4, original_schedule_time_ns=123)
    assert only(run.send(again), StartTimer).duration_ns == 70 * SECOND_NS
    second = only(run.fire(1), ScheduleLocalActivity)
    assert (second.seq, second.attempt, second.original_schedule_time_ns) == (2, 4, 123)
    assert second.attributes.activity_id == "2"
    assert value_of(only(run.resolve(2, "X"), CompleteWorkflow).result) == "X"


def test_a_local_activity_is_cancelled_as_such() -> None:
    """The whole workflow's cancellation reaches it."""
    run = Driver(Local)
    run.start()
    assert only(run.cancel("enough"), RequestCancelLocalActivity).seq == 1
    assert kinds(run.send(cancelled_activity(1))) == ["CancelWorkflowExecution"]


@workflow.defn
class Signals:
    """Waits for signals."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self, count: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self.seen) >= count)
        return self.seen

    @workflow.signal
    def add(self, text: str) -> None:
        self.seen.append(text)

    @workflow.signal
    async def add_later(self, text: str) -> None:
        await pause(1)
        self.seen.append(text)


def test_signals_of_the_first_task_are_handled_before_the_code_runs() -> None:
    """The workflow's object exists before its `run` starts."""
    run = Driver(Signals, 1)
    assert value_of(only(run.start(signal("add", "early")), CompleteWorkflow).result) == ["early"]


def test_signals_wake_a_condition() -> None:
    """Also when an async handler does it."""
    run = Driver(Signals, 2)
    assert run.start() == []
    assert run.send(signal("add", "one")) == []
    assert kinds(run.send(signal("add_later", "two"))) == ["StartTimer"]
    assert value_of(only(run.fire(1, after_s=1), CompleteWorkflow).result) == ["one", "two"]


def test_a_signal_whose_argument_does_not_fit_is_dropped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The workflow goes on: the sender cannot be told any more."""
    run = Driver(Signals, 1)
    run.start()
    with caplog.at_level(logging.ERROR):
        assert run.send(signal("add", {"not": "a string"})) == []
    assert "dropping the signal" in caplog.text
    assert kinds(run.send(signal("add", "good"))) == ["CompleteWorkflow"]


def test_a_handler_that_is_called_with_too_many_arguments_fails_the_task() -> None:
    """Types are not guessed when there are not as many as arguments; the next activation starts afresh."""
    run = Driver(Signals, 1)
    run.start()
    assert run.task_failure(signal("add", "one", "two")).application_failure_info.type == "TypeError"
    assert kinds(run.send(signal("add", "one"))) == ["CompleteWorkflow"]


@workflow.defn
class LateHandlers:
    """Sets its signal handlers when it has begun."""

    @workflow.run
    async def run(self) -> list[str]:
        seen: list[str] = []
        await pause(1)
        workflow.set_signal_handler("first", lambda text: seen.append(f"first {text}"))
        await pause(1)
        workflow.set_dynamic_signal_handler(self.rest(seen))
        await workflow.wait_condition(lambda: len(seen) == 3)
        return seen

    @staticmethod
    def rest(seen: list[str]):  # type: ignore[no-untyped-def] # noqa: ANN205
        from collections.abc import Sequence

        from perdure.common import RawValue

        def handle(name: str, args: Sequence[RawValue]) -> None:
            seen.append(f"{name} {workflow.payload_converter().from_payload(args[0].payload, str)}")

        handle.__annotations__ = {"name": str, "args": Sequence[RawValue], "return": None}
        return handle


def test_signals_without_handler_wait_for_one() -> None:
    """First those with a name, then all the others in the order of their arrival."""
    run = Driver(LateHandlers)
    run.start(signal("other", "a"), signal("first", "b"), signal("another", "c"))
    assert kinds(run.fire(1)) == ["StartTimer"]
    assert value_of(only(run.fire(2), CompleteWorkflow).result) == ["first b", "other a", "another c"]


@workflow.defn
class ConditionWithTimeout:
    """A condition that never holds."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.wait_condition(lambda: False, timeout=2, timeout_summary="patience")
        except TimeoutError:
            await pause(1)
            return "late"
        return "in time"


def test_a_condition_times_out_with_a_timer_that_says_what_it_is() -> None:
    """The summary is the timer's and of no later one."""
    run = Driver(ConditionWithTimeout)
    timer = only(run.start(), StartTimer)
    assert timer.duration_ns == 2 * SECOND_NS
    assert timer.metadata is not None
    assert value_of(timer.metadata.summary) == "patience"
    later = only(run.fire(1, after_s=2), StartTimer)
    assert later.metadata is None
    assert value_of(only(run.fire(2, after_s=1), CompleteWorkflow).result) == "late"


@workflow.defn
class Impatient:
    """Does not catch its timeout."""

    @workflow.run
    async def run(self) -> None:
        async with asyncio.timeout(0.1):
            await asyncio.Event().wait()


def test_a_timeout_that_nobody_catches_fails_the_workflow() -> None:
    """It is taken for meant, not for a bug of the code."""
    run = Driver(Impatient)
    run.start()
    assert kinds(run.fire(1, after_s=0.1)) == ["FailWorkflow"]


def test_timers_that_asyncio_starts_are_exact_to_the_millisecond() -> None:
    """asyncio adds the delay to the clock and takes the clock off again, in floats; history compares the delay."""
    run = Driver(Impatient)
    run.now_ns += 123_456_789
    assert only(run.start(), StartTimer).duration_ns == 100_000_000


@workflow.defn
class Race:
    """A timer against an activity."""

    @workflow.run
    async def run(self) -> str:
        async with asyncio.timeout(3):
            return await workflow.execute_activity(shout, "x", start_to_close_timeout=TEN_SECONDS)


def test_a_timer_that_is_not_needed_any_more_is_cancelled() -> None:
    """asyncio.timeout takes its timer back when the code is in time."""
    run = Driver(Race)
    assert kinds(run.start()) == ["StartTimer", "ScheduleActivity"]
    answer = run.resolve(1, "X")
    assert kinds(answer) == ["CancelTimer", "CompleteWorkflow"]
    assert isinstance(answer[0], CancelTimer)
    assert answer[0].seq == 1


def test_a_timeout_cancels_the_activity_and_fails_the_workflow() -> None:
    """asyncio's TimeoutError is a failure of the workflow, not of the task."""
    run = Driver(Race)
    run.start()
    assert kinds(run.fire(1, after_s=3)) == ["RequestCancelActivity"]
    assert kinds(run.send(cancelled_activity(1))) == ["FailWorkflow"]


@workflow.defn
class RaisesWhatItIsTold:
    """Raises."""

    @workflow.run
    async def run(self, name: str) -> None:
        raise {"value": ValueError, "application": ApplicationError, "key": KeyError}[name]("told so")


def test_an_application_error_fails_the_workflow() -> None:
    """It is a failure that was meant."""
    assert only(Driver(RaisesWhatItIsTold, "application").start(), FailWorkflow).failure.message == "told so"


def test_another_error_fails_the_task_and_not_the_workflow() -> None:
    """It is taken for a bug that a new version of the code may fix."""
    run = Driver(RaisesWhatItIsTold, "value")
    failure = run.task_failure(run.first_job)
    assert (failure.message, failure.application_failure_info.type) == ("told so", "ValueError")
    assert "test_executor.py" in failure.stack_trace


def test_errors_that_the_worker_names_fail_the_workflow() -> None:
    """As `workflow_failure_exception_types` of the worker say; subclasses too."""
    run = Driver(RaisesWhatItIsTold, "key", failure_exception_types=(LookupError,))
    assert kinds(run.start()) == ["FailWorkflow"]


@workflow.defn
class GoesOn:
    """Continues as new."""

    @workflow.run
    async def run(self, left: int) -> None:
        workflow.continue_as_new(left - 1, memo={"left": left}, task_queue="next")


def test_continue_as_new_ends_the_run_with_what_the_next_one_gets() -> None:
    """Workflow type and queue are complete; arguments and memo are converted."""
    attributes = only(Driver(GoesOn, 5).start(), ContinueAsNew).attributes
    assert (attributes.workflow_type.name, attributes.task_queue.name) == ("GoesOn", "next")
    assert value_of(attributes.input) == 4
    assert value_of(attributes.memo.fields["left"]) == 5


@workflow.defn
class Survives:
    """Cleans up after its cancellation."""

    @workflow.run
    async def run(self) -> str:
        try:
            await pause(100)
        except asyncio.CancelledError:
            await workflow.execute_activity(shout, "cleanup", start_to_close_timeout=TEN_SECONDS)
            if workflow.cancellation_reason() == "swallow":
                return "alive"
            raise
        return "never"


def test_a_cancelled_workflow_cleans_up_and_ends_as_cancelled() -> None:
    """Its timer is cancelled, what it starts afterwards runs, and the end says it was cancelled."""
    run = Driver(Survives)
    run.start()
    assert kinds(run.cancel("please")) == ["CancelTimer", "ScheduleActivity"]
    assert kinds(run.resolve(1, "done")) == ["CancelWorkflowExecution"]


def test_a_workflow_cancelled_before_its_first_step_still_cleans_up() -> None:
    """The code runs to its first wait and hears of the cancellation there."""
    run = Driver(Survives)
    assert kinds(run.start(CancelWorkflow("early"))) == ["StartTimer", "CancelTimer", "ScheduleActivity"]


def test_a_workflow_may_swallow_its_cancellation() -> None:
    """Then it completes."""
    run = Driver(Survives)
    run.start()
    run.cancel("swallow")
    assert value_of(only(run.resolve(1, "done"), CompleteWorkflow).result) == "alive"


@workflow.defn
class Shielded:
    """Shields an activity from its cancellation."""

    @workflow.run
    async def run(self) -> str:
        inner = workflow.start_activity(shout, "x", start_to_close_timeout=TEN_SECONDS)
        try:
            return await asyncio.shield(inner)
        except asyncio.CancelledError:
            return f"after all {await inner}"


def test_a_shielded_activity_is_not_cancelled() -> None:
    """Only the wait for it is."""
    run = Driver(Shielded)
    run.start()
    assert run.cancel() == []
    assert value_of(only(run.resolve(1, "X"), CompleteWorkflow).result) == "after all X"


@workflow.defn
class RaisesCancelled:
    """Ends with a cancellation nobody asked for."""

    @workflow.run
    async def run(self) -> None:
        raise CancelledError("by itself")


def test_a_cancellation_that_nobody_asked_for_is_a_failure() -> None:
    """The run ends as cancelled only if it was asked to cancel."""
    assert kinds(Driver(RaisesCancelled).start()) == ["FailWorkflow"]


def test_a_cancelled_activity_and_its_result_in_one_task_raise_the_cancellation() -> None:
    """As history's flag 1 says; a replay without the flag gives the result instead."""
    new = Driver(CancelsActivity, False)
    new.start()
    assert value_of(
        only(new.send(FireTimer(1), ResolveActivity(1, payloads("X"))), CompleteWorkflow).result
    ) == ("CancelledError")
    assert 1 in new.answer.used_flags
    old = Driver(CancelsActivity, False)
    old.is_replaying = True
    old.start()
    answer = old.send(FireTimer(1), ResolveActivity(1, payloads("X")))
    assert kinds(answer) == ["RequestCancelActivity", "CompleteWorkflow"]
    assert isinstance(answer[1], CompleteWorkflow)
    assert value_of(answer[1].result) == "X"
    assert not old.answer.used_flags
