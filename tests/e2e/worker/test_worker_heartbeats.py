"""What a worker says of itself: heartbeats that a server lists, and metrics under the official workers' names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure import __version__, activity, workflow
from perdure.api.enums.v1 import WorkerStatus
from perdure.api.worker.v1 import WorkerHeartbeat
from perdure.api.workflowservice.v1 import DescribeWorkerRequest
from perdure.client import Client
from perdure.exceptions import ApplicationError
from perdure.runtime import MetricBuffer, Runtime, TelemetryConfig
from perdure.service import RPCError, RPCStatusCode
from perdure.worker import PollerBehaviorAutoscaling, Worker
from tests.e2e.python_sdk import unique
from tests.e2e.worker.targets import Target

INTERVAL = timedelta(seconds=1)
WAIT_S = 20


@activity.defn
async def fail_once() -> None:
    """Fails once."""
    if activity.info().attempt == 1:
        raise ApplicationError("once")


@activity.defn
async def nearby() -> None:
    """Runs beside its workflow."""


@workflow.defn
class Busy:
    """Keeps all kinds of slots busy."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_local_activity(nearby, start_to_close_timeout=timedelta(seconds=5))
        await workflow.execute_activity(fail_once, start_to_close_timeout=timedelta(seconds=5))


@asynccontextmanager
async def _working(address: str, runtime: Runtime, **options: Any) -> AsyncIterator[Worker]:
    async with await Client.connect(address, runtime=runtime) as client:
        async with Worker(
            client,
            task_queue=unique("heartbeats"),
            workflows=[Busy],
            activities=[fail_once, nearby],
            activity_task_poller_behavior=PollerBehaviorAutoscaling(),
            **options,
        ) as worker:
            await client.execute_workflow(Busy.run, id=worker.task_queue, task_queue=worker.task_queue)
            yield worker


async def _heard(worker: Worker, is_wanted: Callable[[WorkerHeartbeat], bool]) -> WorkerHeartbeat:
    """Return the first heartbeat that the server has which is wanted."""
    environment = worker._environment
    request = DescribeWorkerRequest(
        namespace=environment.namespace, worker_instance_key=environment.instance_key
    )
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                answer = await worker.client.workflow_service.describe_worker(request)
                heartbeat: WorkerHeartbeat = answer.worker_info.worker_heartbeat
                if is_wanted(heartbeat):
                    return heartbeat
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            await asyncio.sleep(0)


def test_a_worker_tells_how_it_is(target: Target) -> None:
    """As often as the runtime says: what it is, where it runs, and what became of its slots and polls."""

    async def scenario(_: Client) -> None:
        runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=INTERVAL)
        async with _working(target.address, runtime, max_concurrent_activities=7) as worker:
            said = await _heard(worker, lambda beat: beat.activity_task_slots_info.total_processed_tasks == 2)
        assert said.worker_identity == worker.client.identity
        assert (said.task_queue, said.status) == (worker.task_queue, WorkerStatus.WORKER_STATUS_RUNNING)
        assert (said.sdk_name, said.sdk_version) == ("perdure-python", __version__)
        assert said.host_info.process_id == str(os.getpid())
        assert said.environment.runtimes[0].version
        activities = said.activity_task_slots_info
        assert (activities.slot_supplier_kind, activities.total_failed_tasks) == ("Fixed", 1)
        assert (activities.current_available_slots, activities.current_used_slots) == (7, 0)
        assert said.local_activity_slots_info.total_processed_tasks == 1
        assert said.workflow_task_slots_info.total_processed_tasks >= 2
        assert said.activity_poller_info.is_autoscaling
        assert said.activity_poller_info.current_pollers
        assert said.activity_poller_info.HasField("last_successful_poll_time")
        assert not said.workflow_poller_info.is_autoscaling
        assert said.elapsed_since_last_heartbeat.seconds >= 1
        assert not said.HasField("nexus_task_slots_info")

    if target.kind == "embedded":
        target = _SameAddress(target)
    target.run(scenario)


class _SameAddress(Target):
    """An engine in this process that two clients share."""

    def __init__(self, other: Target) -> None:
        super().__init__(other.kind)

    @property
    def address(self) -> str:
        """Named, so that the second client finds it."""
        return "sqlite://?name=heartbeats"


def test_metrics_have_the_official_workers_names() -> None:
    """Slots and polls; what is not configured is not counted."""
    buffer = MetricBuffer(10_000)

    async def scenario() -> None:
        runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer))
        async with _working("sqlite://", runtime, max_concurrent_activities=7):
            pass

    asyncio.run(scenario())
    updates = buffer.retrieve_updates()
    found: dict[str, list[Any]] = {}
    for update in updates:
        found.setdefault(update.metric.name, []).append(update)
    of_activities = {
        name: [update.value for update in found[name] if update.attributes["worker_type"] == "ActivityWorker"]
        for name in ("temporal_worker_task_slots_used", "temporal_worker_task_slots_available")
    }
    assert of_activities["temporal_worker_task_slots_used"] == [0, 1, 0, 1, 0]
    assert of_activities["temporal_worker_task_slots_available"] == [7, 6, 7, 6, 7]
    kinds = {update.attributes["worker_type"] for update in found["temporal_worker_task_slots_used"]}
    assert kinds == {"WorkflowWorker", "ActivityWorker", "LocalActivityWorker"}
    assert {
        "temporal_worker_start",
        "temporal_num_pollers",
        "temporal_workflow_task_queue_poll_succeed",
        "temporal_workflow_task_schedule_to_start_latency",
        "temporal_activity_schedule_to_start_latency",
        "temporal_sticky_cache_hit",
    } <= set(found)


@pytest.mark.parametrize("seconds", [0.5, 61])
def test_heartbeats_are_neither_too_often_nor_too_rare(seconds: float) -> None:
    """Servers forget workers that say nothing."""
    with pytest.raises(ValueError, match="between 1 and 60 seconds"):
        Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=timedelta(seconds=seconds))


def test_without_an_interval_nothing_is_said() -> None:
    """And neither when the server does not listen."""

    async def scenario() -> None:
        runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=None)
        async with _working("sqlite://", runtime) as worker:
            environment = worker._environment
            request = DescribeWorkerRequest(
                namespace=environment.namespace, worker_instance_key=environment.instance_key
            )
            with pytest.raises(RPCError, match="not found"):
                await worker.client.workflow_service.describe_worker(request)

    asyncio.run(scenario())
