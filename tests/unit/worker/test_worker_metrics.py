"""What a worker records about itself, under the names and with the attributes of the official workers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.client import Client
from perdure.common import RetryPolicy
from perdure.exceptions import ActivityError
from perdure.runtime import MetricBuffer, Runtime, TelemetryConfig
from perdure.worker import Worker
from tests.unit.server.support import run

QUEUE = "measured"
LIMIT = timedelta(seconds=20)
ONCE = RetryPolicy(maximum_attempts=1)
AT_ONCE = RetryPolicy(initial_interval=timedelta(milliseconds=1))
Values = dict[str, list[tuple[float, dict[str, Any]]]]


@activity.defn
async def second_time() -> str:
    """Fails first."""
    if activity.info().attempt == 1:
        raise ValueError("not yet")
    return "done"


@activity.defn
async def too_long() -> None:
    """Never ends by itself."""
    await asyncio.Event().wait()


@workflow.defn
class Measured:
    """Activities of both kinds that fail, succeed, time out and are cancelled; a timer between two tasks."""

    @workflow.run
    async def run(self) -> None:
        """Ends well."""
        await workflow.execute_local_activity(second_time, start_to_close_timeout=LIMIT, retry_policy=AT_ONCE)
        with pytest.raises(ActivityError):
            await workflow.execute_local_activity(
                too_long, start_to_close_timeout=timedelta(milliseconds=20), retry_policy=ONCE
            )
        cancelled = workflow.start_local_activity(
            too_long,
            start_to_close_timeout=LIMIT,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        await workflow.execute_local_activity(second_time, start_to_close_timeout=LIMIT, retry_policy=AT_ONCE)
        cancelled.cancel()
        with pytest.raises(ActivityError):
            await cancelled
        await workflow.execute_activity(second_time, start_to_close_timeout=LIMIT, retry_policy=AT_ONCE)


@workflow.defn
class Fails:
    """Fails its task, once."""

    attempts = 0

    @workflow.run
    async def run(self) -> None:
        """Raises what a retry does not."""
        type(self).attempts += 1
        if type(self).attempts == 1:
            raise KeyError("a mistake in the code")


async def _measured(cached: int) -> Values:
    Fails.attempts = 0
    buffer = MetricBuffer(100_000)
    client = await Client.connect("sqlite://", runtime=Runtime(telemetry=TelemetryConfig(metrics=buffer)))
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[Measured, Fails],
        activities=[second_time, too_long],
        max_cached_workflows=cached,
    ):
        await client.execute_workflow(Measured.run, id=f"measured-{cached}", task_queue=QUEUE)
        await client.execute_workflow(Fails.run, id=f"fails-{cached}", task_queue=QUEUE)
    await client.close()
    values: Values = defaultdict(list)
    for update in buffer.retrieve_updates():
        attributes = {
            name: value
            for name, value in update.attributes.items()
            if name not in ("service_name", "namespace", "task_queue")
        }
        values[update.metric.name.removeprefix("temporal_")].append((update.value, attributes))
    return values


def _of(type_name: str, **more: Any) -> dict[str, Any]:
    return {"activity_type": type_name, "workflow_type": "Measured", **more}


def test_attempts_of_activities_of_both_kinds_are_measured() -> None:
    """Each attempt once, with its ending; what succeeded also from when it was scheduled."""
    values = run(_measured(100))
    error = {"failure_reason": "ActivityError"}
    assert [of for _, of in values["local_activity_total"]] == [
        _of("second_time"),
        _of("second_time"),
        _of("too_long"),
        _of("second_time"),
        _of("second_time"),
        _of("too_long"),
    ]
    assert len(values["local_activity_execution_latency"]) == 6
    assert [of for _, of in values["local_activity_execution_failed"]] == [
        _of("second_time", **error),
        _of("too_long", failure_reason="timeout"),
        _of("second_time", **error),
    ]
    assert [of for _, of in values["local_activity_execution_cancelled"]] == [_of("too_long")]
    assert [of for _, of in values["local_activity_succeed_endtoend_latency"]] == [_of("second_time")] * 2
    assert [of for _, of in values["activity_execution_failed"]] == [_of("second_time", **error)]
    assert [of for _, of in values["activity_succeed_endtoend_latency"]] == [_of("second_time")]
    assert [of["eager"] for _, of in values["activity_task_received"]] == [True, False]


@pytest.mark.parametrize(("cached", "replays"), [(100, 0), (0, 1)])
def test_runs_and_replays_are_measured(cached: int, replays: int) -> None:
    """From the start to the end; a run that is not in memory is run again, and left it to make room."""
    values = run(_measured(cached))
    ended = [(of["workflow_type"]) for _, of in values["workflow_endtoend_latency"]]
    assert ended == ["Measured", "Fails"]
    assert all(value >= 0 for value, _ in values["workflow_endtoend_latency"])
    assert [of["workflow_type"] for _, of in values["workflow_task_replay_latency"]] == ["Measured"] * replays
    assert len(values["sticky_cache_total_forced_eviction"]) == replays
    assert len(values["sticky_cache_hit"]) == 1 - replays
    assert values["sticky_cache_size"][-1][0] == 0
    assert [of for _, of in values["workflow_task_execution_failed"]] == [
        {"workflow_type": "Fails", "failure_reason": "WorkflowError"}
    ]
