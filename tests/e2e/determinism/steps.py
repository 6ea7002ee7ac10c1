"""Steps that workflows are put together from, before and after a change.

Every step is a function of its own, so that a message which names its file and line names the step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from perdure import activity, workflow
from perdure.common import RetryPolicy, SearchAttributeKey
from perdure.exceptions import ApplicationError, FailureError

Step = Callable[[], Awaitable[Any]]

COLOUR: Final = SearchAttributeKey.for_keyword("Colour")
_SHORT_S: Final = 0.001
_LONG_S: Final = 3600.0
_LIMIT: Final = timedelta(seconds=30)


@activity.defn(name="a")
async def activity_a(text: str = "") -> str:
    """Return at once."""
    return "a"


@activity.defn(name="b")
async def activity_b(text: str = "") -> str:
    """Return at once."""
    return "b"


@activity.defn(name="endless")
async def activity_endless() -> None:
    """Run until it is cancelled."""
    await asyncio.Event().wait()


@workflow.defn(name="x")
class ChildX:
    """A child."""

    @workflow.run
    async def run(self, text: str = "") -> None:
        return


@workflow.defn(name="y")
class ChildY:
    """Another child."""

    @workflow.run
    async def run(self, text: str = "") -> None:
        return


async def a() -> None:
    await workflow.execute_activity("a", start_to_close_timeout=_LIMIT)


async def b() -> None:
    await workflow.execute_activity("b", start_to_close_timeout=_LIMIT)


async def a_with_argument() -> None:
    await workflow.execute_activity("a", "other", start_to_close_timeout=_LIMIT)


async def a_with_options() -> None:
    await workflow.execute_activity(
        activity_a,
        schedule_to_close_timeout=timedelta(minutes=9),
        retry_policy=RetryPolicy(maximum_attempts=7),
        summary="what for",
    )


async def a_with_id() -> None:
    await workflow.execute_activity("a", activity_id="one", start_to_close_timeout=_LIMIT)


async def a_with_other_id() -> None:
    await workflow.execute_activity("a", activity_id="two", start_to_close_timeout=_LIMIT)


async def timer() -> None:
    await asyncio.sleep(_SHORT_S)


async def longer_timer() -> None:
    await workflow.sleep(2 * _SHORT_S, summary="longer")


async def condition_with_timeout() -> None:
    try:
        await workflow.wait_condition(lambda: False, timeout=_SHORT_S)
    except TimeoutError:
        return


async def local_a() -> None:
    await workflow.execute_local_activity("a", start_to_close_timeout=_LIMIT)


async def local_a_with_options() -> None:
    await workflow.execute_local_activity(
        "a", "other", schedule_to_close_timeout=_LIMIT, retry_policy=RetryPolicy(maximum_attempts=2)
    )


async def local_b() -> None:
    await workflow.execute_local_activity("b", start_to_close_timeout=_LIMIT)


async def child_x() -> None:
    await workflow.execute_child_workflow("x", id=f"{workflow.info().workflow_id}-child")


async def child_x_with_options() -> None:
    await workflow.execute_child_workflow(
        "x", "text", id=f"{workflow.info().workflow_id}-child", execution_timeout=_LIMIT, memo={"new": 1}
    )


async def child_y() -> None:
    await workflow.execute_child_workflow("y", id=f"{workflow.info().workflow_id}-child")


async def child_x_of_other_id() -> None:
    await workflow.execute_child_workflow("x", id=f"{workflow.info().workflow_id}-other")


async def signal_one() -> None:
    await _signal_nobody("nobody", "one")


async def signal_two() -> None:
    await _signal_nobody("nobody", "two")


async def signal_somebody_else() -> None:
    await _signal_nobody("no one", "one")


async def _signal_nobody(target: str, name: str) -> None:
    try:
        await workflow.get_external_workflow_handle(target).signal(name)
    except FailureError:
        return


async def cancel_nobody() -> None:
    await _cancel_nobody("nobody")


async def cancel_no_one() -> None:
    await _cancel_nobody("no one")


async def _cancel_nobody(target: str) -> None:
    try:
        await workflow.get_external_workflow_handle(target).cancel()
    except FailureError:
        return


async def memo() -> None:
    workflow.upsert_memo({"note": 1})


async def other_memo() -> None:
    workflow.upsert_memo({"note": 2, "more": 3})


async def search() -> None:
    workflow.upsert_search_attributes([COLOUR.value_set("red")])


async def other_search() -> None:
    workflow.upsert_search_attributes([COLOUR.value_set("blue")])


async def patched() -> None:
    await (b() if workflow.patched("p") else a())


async def patched_in_another_name() -> None:
    await (b() if workflow.patched("q") else a())


async def deprecated() -> None:
    workflow.deprecate_patch("p")
    await b()


async def gather_a_b() -> None:
    await asyncio.gather(a(), b())


async def gather_b_a() -> None:
    await asyncio.gather(b(), a())


async def gather_a_b_timer() -> None:
    await asyncio.gather(a(), b(), timer())


async def group_a_timer() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(a())
        group.create_task(timer())


async def group_timer_a() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(timer())
        group.create_task(a())


async def race() -> None:
    await _race(True, a(), asyncio.sleep(_LONG_S))


async def race_the_other_way_round() -> None:
    await _race(True, asyncio.sleep(_LONG_S), a())


async def race_that_leaves_the_loser() -> None:
    await _race(False, a(), asyncio.sleep(_LONG_S))


async def race_with_an_activity() -> None:
    await _race(True, timer(), workflow.execute_activity("endless", start_to_close_timeout=_LIMIT))


async def race_that_leaves_the_activity() -> None:
    await _race(False, timer(), workflow.execute_activity("endless", start_to_close_timeout=_LIMIT))


async def _race(is_loser_cancelled: bool, *runners: Any) -> None:
    tasks = [asyncio.ensure_future(runner) for runner in runners]
    _, losers = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    if is_loser_cancelled:
        for loser in losers:
            loser.cancel()
        await asyncio.gather(*losers, return_exceptions=True)


async def limit() -> None:
    async with asyncio.timeout(_LONG_S):
        await a()


async def a_turn() -> None:
    await asyncio.sleep(0)


async def log() -> None:
    workflow.logger.info("a line")
    workflow.set_current_details("details")


async def random_number() -> None:
    workflow.random().random()


async def uuid_id() -> None:
    await workflow.execute_activity("a", activity_id=str(workflow.uuid4()), start_to_close_timeout=_LIMIT)


async def fail() -> None:
    raise ApplicationError("on purpose")


async def fail_otherwise() -> None:
    raise ApplicationError("in another way", type="Other")


async def again() -> None:
    workflow.continue_as_new()
