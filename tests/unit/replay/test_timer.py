"""Timers: what they ask for, how they end, what history must say."""

from __future__ import annotations

from perdure.core.replay.activation import FireTimer
from perdure.core.replay.errors import NondeterminismError
from perdure.core.replay.steps import TaskCompletion
from tests.support.builders import user_metadata
from tests.unit.replay.bench import Bench
from tests.unit.replay.code import Code, Context


async def sleeps(context: Context) -> str:
    await context.timer(1.5)
    return "done"


def test_a_timer_fires() -> None:
    bench = Bench(lambda: Code(sleeps))
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    attributes = step.commands[0].start_timer_command_attributes
    assert attributes.timer_id == "1"
    assert attributes.start_to_fire_timeout.ToNanoseconds() == 1_500_000_000
    assert bench.record(step) == ["START_TIMER"]
    bench.fire()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    assert bench.code.activation.jobs == [FireTimer(1)]
    bench.check_replay()


def test_a_timer_cancelled_before_it_was_sent_disappears() -> None:
    async def main(context: Context) -> None:
        context.cancel_timer(context.timer(5))
        await context.timer(1)

    bench = Bench(lambda: Code(main))
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    assert [command.start_timer_command_attributes.timer_id for command in step.commands] == ["2"]
    bench.record(step)
    bench.fire("2")
    bench.work()
    bench.check_replay()


async def cancels_on_signal(context: Context) -> None:
    timer = context.timer(50)
    await context.until(lambda: bool(context.signals))
    context.cancel_timer(timer)
    context.cancel_timer(timer)
    await context.timer(1)


def test_a_started_timer_is_cancelled_once() -> None:
    bench = Bench(lambda: Code(cancels_on_signal))
    bench.work()
    bench.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="go")
    assert bench.work() == ["CANCEL_TIMER", "START_TIMER"]
    bench.fire("2")
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_a_timer_that_fired_is_not_cancelled() -> None:
    async def main(context: Context) -> None:
        timer = context.timer(50)
        await timer
        timer.done = False
        context.cancel_timer(timer)

    bench = Bench(lambda: Code(main))
    bench.work()
    bench.fire()
    assert bench.work() == ["COMPLETE_WORKFLOW_EXECUTION"]
    bench.check_replay()


def test_the_summary_goes_with_the_command() -> None:
    async def main(context: Context) -> None:
        timer = context.timer(1)
        context.code.instructions[-1].metadata = user_metadata("nap", "")  # type: ignore[union-attr]
        await timer

    bench = Bench(lambda: Code(main))
    step = bench.handle()
    assert isinstance(step, TaskCompletion)
    assert step.commands[0].user_metadata == user_metadata("nap", "")


def test_a_timer_of_another_number_is_noticed() -> None:
    bench = Bench(lambda: Code(sleeps))
    bench.work()
    bench.events[4].timer_started_event_attributes.timer_id = "7"
    bench.fire("7")
    bench.open_task()
    failure = bench.replay()
    assert failure is not None
    assert isinstance(failure.error, NondeterminismError)
    assert failure.error.event_id == 5


def test_the_cancellation_of_another_timer_is_noticed() -> None:
    """Otherwise whoever waits for the timer that history cancelled would wait for ever."""

    def cancels(number: int) -> Code:
        async def main(context: Context) -> None:
            timers = [context.timer(100), context.timer(100)]
            await context.activity("a")
            context.cancel_timer(timers[number])
            await context.activity("b")

        return Code(main)

    bench = Bench(lambda: cancels(0))
    bench.work()
    bench.complete_activity("1")
    bench.work()
    bench.open_task()
    bench.check_replay()
    failure = bench.replay(lambda: cancels(1))
    assert failure is not None
    assert isinstance(failure.error, NondeterminismError)
    assert "timer_id '1'" in failure.error.recorded
    assert "CancelTimer(timer_id '2')" in failure.error.asked
