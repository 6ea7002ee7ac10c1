"""What a heartbeat says: counts since the last one, drivers and plugins; and what a refused one leads to."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.api.enums.v1 import WorkerStatus
from perdure.runtime import Runtime, TelemetryConfig
from perdure.service import RPCStatusCode
from perdure.worker._slots import ActivitySlot, FixedSlots
from perdure.worker._worker_heartbeats import WorkerHeartbeats
from tests.unit.client.fakes import rpc_error


class _Service:
    """Takes heartbeats, or refuses them."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.heard = 0

    async def record_worker_heartbeat(self, request: Any, **_: Any) -> None:
        """One heartbeat."""
        self.heard += 1
        if self.answers:
            raise self.answers.pop(0)
        raise asyncio.CancelledError


def _heartbeats(service: Any = None, *, is_served: bool = True, **options: Any) -> tuple[Any, FixedSlots]:
    slots = FixedSlots(3)
    drivers = [SimpleNamespace(type=lambda: "s3"), SimpleNamespace(type=lambda: "s3")]
    environment = SimpleNamespace(
        namespace="ns",
        task_queue="queue",
        identity="me",
        instance_key="key",
        deployment=SimpleNamespace(deployment_name="d", build_id="1"),
        data_converter=SimpleNamespace(external_storage=SimpleNamespace(drivers=drivers)),
        capabilities=SimpleNamespace(worker_heartbeats=is_served),
        service=service,
    )
    parts: Any = SimpleNamespace(
        environment=environment,
        workflow_worker=None,
        tallies=lambda: [("activity_task_slots_info", slots.tally)],
    )
    runtime = Runtime(telemetry=TelemetryConfig(), **options)
    return WorkerHeartbeats(parts, [], ["plugin"], runtime), slots


def test_counts_are_in_all_and_since_the_last_heartbeat() -> None:
    """A slot that was reserved and got no task is no task."""

    async def scenario() -> None:
        heartbeats, slots = _heartbeats()
        empty, busy, done = [await slots.reserve() for _ in range(3)]
        slots.mark_used(busy, ActivitySlot("a"))
        slots.mark_used(done, ActivitySlot("a"))
        slots.tally.failed += 1
        for permit in (empty, done, done):
            permit.release()
        running = WorkerStatus.WORKER_STATUS_RUNNING
        first = heartbeats.message(running)
        said = first.activity_task_slots_info
        assert (said.current_used_slots, said.current_available_slots) == (1, 2)
        assert (said.total_processed_tasks, said.last_interval_processed_tasks) == (1, 1)
        assert (said.total_failed_tasks, said.last_interval_failure_tasks) == (1, 1)
        assert not first.HasField("elapsed_since_last_heartbeat")
        busy.release()
        second = heartbeats.message(running)
        said = second.activity_task_slots_info
        assert (said.total_processed_tasks, said.last_interval_processed_tasks) == (2, 1)
        assert (said.total_failed_tasks, said.last_interval_failure_tasks) == (1, 0)
        assert second.HasField("elapsed_since_last_heartbeat")
        assert [driver.type for driver in second.drivers] == ["s3"]
        assert [plugin.name for plugin in second.plugins] == ["plugin"]
        assert second.deployment_version.build_id == "1"
        assert second.environment.runtimes

    asyncio.run(scenario())


def test_the_environment_is_kept_back_if_the_runtime_says_so() -> None:
    """Some do not tell what they run on."""
    heartbeats, _ = _heartbeats(disable_environment_info=True)
    assert not heartbeats.message(WorkerStatus.WORKER_STATUS_RUNNING).HasField("environment")


def test_a_server_that_does_not_know_heartbeats_is_sent_no_more() -> None:
    """One that is away for a moment is."""

    async def scenario() -> None:
        service = _Service(rpc_error(RPCStatusCode.UNIMPLEMENTED))
        await _heartbeats(service)[0].run()
        assert service.heard == 1
        away = _Service(rpc_error(RPCStatusCode.UNAVAILABLE))
        with pytest.raises(asyncio.CancelledError):
            await _heartbeats(away, worker_heartbeat_interval=timedelta(seconds=1))[0].run()
        assert away.heard == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("options", [{"is_served": False}, {"worker_heartbeat_interval": None}])
def test_nothing_is_sent_that_nobody_wants(options: dict[str, Any]) -> None:
    """Neither if the namespace does not take heartbeats, nor if the user switched them off."""
    service = _Service()
    heartbeats, _ = _heartbeats(service, **options)
    asyncio.run(heartbeats.run())
    assert service.heard == 0
