"""Limits of task queues that workers ask for: what a limit gives out when, and what waits for it."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from perdure.core.errors import InvalidArgumentError
from perdure.core.queues.config import Limit, QueueConfig
from perdure.core.run.records import QueueKey, RunKey, Task, TaskKey, TaskKind
from perdure.server.engine.rate_limits import QueueLimits, RateLimit
from tests.support.builders import schedule_activity
from tests.support.proto import enums, taskqueue, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

COUNT = 8
ACTIVITY = enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


@given(
    st.floats(0.1, 1000),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_never_more_than_a_seconds_worth_at_once_and_the_rate_in_the_long_run(
    per_second: float, pauses_s: list[float]
) -> None:
    limit, now_s, taken = RateLimit(per_second, 0.0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        while taken < 10_000 and limit.take(now_s):
            taken += 1
        assert taken <= math.ceil(per_second) + now_s * per_second + 1
        if taken >= 10_000:
            return  # enough was looked at; permits are left
        wait_s = limit.wait_s(now_s)
        assert 0 < wait_s <= 1 / per_second
        assert limit.take(now_s + wait_s), "whoever waits as long as it is told gets a permit"
        taken, now_s = taken + 1, now_s + wait_s


def test_a_limit_of_nothing_gives_nothing_until_it_is_raised() -> None:
    limit = RateLimit(0.0, 0.0)
    assert not limit.take(100.0)
    assert limit.wait_s(100.0) == math.inf
    limit.change(2.0, 100.0)
    assert not limit.take(100.0)
    assert limit.wait_s(100.0) == pytest.approx(0.5)
    assert limit.take(100.5)


def test_a_key_that_is_given_more_weight_waits_no_longer_than_that_says() -> None:
    """Not as long as its old weight did, which may have been a thousandth."""
    queue = QueueKey("namespace", "q", TaskKind.ACTIVITY)
    task = Task(
        RunKey("namespace", "workflow", "run"),
        TaskKey(TaskKind.ACTIVITY, 5),
        queue,
        0,
        fairness_key="key",
        fairness_weight=0.001,
    )
    limits = QueueLimits()
    slow = QueueConfig(key_limit=Limit(1.0))
    limits.change(None, slow, 0.0)
    assert limits.take(task, 0.0)
    assert limits.wait_s(task, 0.0) == pytest.approx(1000.0)
    limits.change(None, replace(slow, weights={"key": 1.0}), 1.0)
    assert limits.wait_s(task, 1.0) <= 1.0
    assert limits.take(task, 2.0)
    limits.change(None, replace(slow, weights={"key": 1.0, "other": 2.0}), 2.0)
    assert limits.wait_s(task, 2.0) == pytest.approx(1.0), "the weights of others give it no permits"


def test_workers_that_disagree_do_not_fill_the_bucket_by_changing_it() -> None:
    limit = RateLimit(5.0, 0.0)
    assert [limit.take(0.0) for _ in range(6)].count(True) == 5
    for _ in range(10):
        limit.change(50.0, 0.0)
        limit.change(5.0, 0.0)
    assert not limit.take(0.0)


async def _scheduled(client: LocalClient) -> None:
    """A run that waits for activities."""
    await client.start("w", "q")
    task = await client.poll_workflow_task("q")
    await client.complete_workflow_task(
        task.task_token, [schedule_activity(str(number), "q") for number in range(COUNT)]
    )


def _limited(per_second: float) -> taskqueue.TaskQueueMetadata:
    metadata = taskqueue.TaskQueueMetadata()
    metadata.max_tasks_per_second.value = per_second
    return metadata


def test_activities_are_given_out_as_fast_as_their_worker_asked() -> None:
    """The first second's worth at once, the others one after the other; nothing is lost."""

    async def scenario() -> None:
        async with serving() as client:
            await _scheduled(client)
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            polls = [
                asyncio.create_task(client.poll_activity_task("q", task_queue_metadata=_limited(5)))
                for _ in range(COUNT)
            ]
            found = await asyncio.gather(*polls)
            assert {task.activity_id for task in found} == {str(number) for number in range(COUNT)}
            assert loop.time() - begun_s >= (COUNT - 5) / 5 - 0.01
            described = await client.call(
                workflowservice.DescribeTaskQueueRequest(
                    namespace="default", task_queue=taskqueue.TaskQueue(name="q"), task_queue_type=ACTIVITY
                ),
                workflowservice.DescribeTaskQueueResponse,
            )
            assert described.effective_rate_limit.requests_per_second == 5

    run(scenario())


def test_a_task_made_while_its_poller_waits_waits_for_a_permit_too() -> None:
    async def scenario() -> None:
        async with serving() as client:
            poll = asyncio.create_task(client.poll_activity_task("q", task_queue_metadata=_limited(0)))
            await _scheduled(client)
            key = next(key for key in client.server.engine.matching._queues if key.kind is TaskKind.ACTIVITY)
            assert isinstance(key, QueueKey)
            assert not poll.done()
            client.server.engine.matching.limit(key, 100)
            assert (await poll).activity_id in {str(number) for number in range(COUNT)}

    run(scenario())


def test_what_waits_longer_goes_first_and_a_task_that_is_gone_costs_nothing() -> None:
    """Ten activities of runs that ended meanwhile would else hold the next one up for longer than the poll lasts."""

    async def scenario() -> None:
        async with serving() as client:
            for number in range(10):
                await client.start(f"gone {number}", "q")
                task = await client.poll_workflow_task("q")
                await client.complete_workflow_task(task.task_token, [schedule_activity("gone", "q")])
                await client.terminate(f"gone {number}")
            await _scheduled(client)
            found = await client.poll_activity_task("q", task_queue_metadata=_limited(0.2))
            assert found.workflow_execution.workflow_id == "w"

    run(scenario())


def test_a_limit_without_end_is_none_and_what_is_no_number_is_refused() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await _scheduled(client)
            assert (await client.poll_activity_task("q", task_queue_metadata=_limited(math.inf))).task_token
            with pytest.raises(InvalidArgumentError, match="no number"):
                await client.poll_activity_task("q", task_queue_metadata=_limited(math.nan))

    run(scenario())
