"""What is remembered of workers that say how they are, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.api.worker.v1 import WorkerHeartbeat
from perdure.server.engine import worker_registry
from perdure.server.engine.worker_registry import REMEMBERED_S, WorkerRegistry
from perdure.server.runtime import SystemRuntime
from tests.support.proto import enums, workflowservice
from tests.unit.server.local_client import serving
from tests.unit.server.support import run

Status = enums.WorkerStatus


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time_s = 1.0

    def __call__(self) -> float:
        """The time."""
        return self.time_s


def _worker(key: str, status: Status.ValueType = Status.WORKER_STATUS_RUNNING) -> WorkerHeartbeat:
    return WorkerHeartbeat(worker_instance_key=key, status=status)


def _keys(registry: WorkerRegistry, namespace_id: str = "n") -> list[str]:
    return [worker.worker_instance_key for worker in registry.all(namespace_id)]


def test_a_silent_worker_is_forgotten_after_five_minutes() -> None:
    clock = Clock()
    registry = WorkerRegistry(clock)
    registry.record("n", [_worker("a"), _worker("b")])
    clock.time_s += REMEMBERED_S - 1
    registry.record("n", [_worker("b")])
    clock.time_s += 1
    assert _keys(registry) == ["b"]
    assert registry.find("n", "a") is None


def test_a_worker_is_not_forgotten_because_the_clock_was_set() -> None:
    """Or skipped: to say how it is it had no more time than passed in truth."""

    class Settable(SystemRuntime):
        ahead_ns = 0

        def now_ns(self) -> int:
            return super().now_ns() + self.ahead_ns

    async def scenario() -> None:
        runtime = Settable()
        async with serving(runtime=runtime) as client:
            await client.invoke(
                workflowservice.RecordWorkerHeartbeatRequest(
                    namespace="default", worker_heartbeat=[_worker("a")]
                )
            )
            runtime.ahead_ns = 3_600_000_000_000
            listed: Any = await client.invoke(workflowservice.ListWorkersRequest(namespace="default"))
            assert [found.worker_instance_key for found in listed.workers] == ["a"]

    run(scenario())


def test_a_worker_that_shuts_down_is_forgotten_at_once() -> None:
    registry = WorkerRegistry(Clock())
    registry.record("n", [_worker("a"), _worker("b")])
    registry.record("n", [_worker("a", Status.WORKER_STATUS_SHUTDOWN)])
    assert _keys(registry) == ["b"]


def _said(key: str, at_s: int, status: Status.ValueType = Status.WORKER_STATUS_RUNNING) -> WorkerHeartbeat:
    heartbeat = _worker(key, status)
    heartbeat.heartbeat_time.seconds = at_s
    return heartbeat


def test_what_comes_late_does_not_bring_a_worker_back() -> None:
    """A copy of a heartbeat from before the shutdown; the next one of that name, which is alive, is found."""
    registry = WorkerRegistry(Clock())
    registry.record("n", [_said("a", 1000), _said("a", 1001, Status.WORKER_STATUS_SHUTDOWN)])
    registry.record("n", [_said("a", 1000)])
    assert _keys(registry) == []
    assert registry.find("n", "a") is None
    registry.record("n", [_said("a", 1002)])
    assert _keys(registry) == ["a"]


def test_what_comes_late_does_not_replace_what_is_newer() -> None:
    """But it is a sign of life; and a clock that was set back is not waited for."""
    clock = Clock()
    registry = WorkerRegistry(clock)
    registry.record("n", [_said("a", 1000)])
    clock.time_s += REMEMBERED_S - 1
    registry.record("n", [_said("a", 999)])
    clock.time_s += REMEMBERED_S - 1
    assert [worker.heartbeat_time.seconds for worker in registry.all("n")] == [1000]
    registry.record("n", [_said("a", 1000 - int(REMEMBERED_S) - 1)])
    assert [worker.heartbeat_time.seconds for worker in registry.all("n")] == [699]


def test_namespaces_do_not_mix() -> None:
    registry = WorkerRegistry(Clock())
    registry.record("n", [_worker("a")])
    registry.record("m", [_worker("a"), _worker("b")])
    assert _keys(registry) == ["a"]
    assert _keys(registry, "m") == ["a", "b"]
    assert registry.find("n", "b") is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest silent ones go first."""
    monkeypatch.setattr(worker_registry, "MOST_WORKERS", 3)
    registry = WorkerRegistry(Clock())
    for key in "abcda":
        registry.record("n", [_worker(key)])
    assert _keys(registry) == ["a", "c", "d"]


def test_a_status_of_a_newer_protocol_does_not_break_lists() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.invoke(
                workflowservice.RecordWorkerHeartbeatRequest(
                    namespace="default",
                    identity="i",
                    worker_heartbeat=[_worker("a", 99)],  # type: ignore[arg-type]
                )
            )
            for query, keys in (("TaskQueue IS NULL", ["a"]), ("Status = 'Running'", [])):
                listed: Any = await client.invoke(
                    workflowservice.ListWorkersRequest(namespace="default", query=query)
                )
                assert [found.worker_instance_key for found in listed.workers] == keys

    run(scenario())


def test_a_time_that_no_calendar_has_does_not_break_lists() -> None:
    """One worker's nonsense would otherwise keep everybody from looking."""

    async def scenario() -> None:
        async with serving() as client:
            request = workflowservice.RecordWorkerHeartbeatRequest(
                namespace="default", worker_heartbeat=[_said("a", 10**12), _said("b", 1000)]
            )
            await client.invoke(request)
            await client.invoke(request)
            query = "HeartbeatTime > '1970-01-01T00:00:00Z'"
            listed: Any = await client.invoke(
                workflowservice.ListWorkersRequest(namespace="default", query=query)
            )
            assert [found.worker_instance_key for found in listed.workers] == ["a", "b"]

    run(scenario())
