"""What is remembered of workers that say how they are, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.api.worker.v1 import WorkerHeartbeat
from perdure.server.engine import worker_registry
from perdure.server.engine.worker_registry import REMEMBERED_NS, WorkerRegistry
from perdure.server.runtime import SystemRuntime
from tests.support.proto import enums, workflowservice
from tests.unit.server.local_client import serving
from tests.unit.server.support import run

Status = enums.WorkerStatus


class Clock(SystemRuntime):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.time_ns = 1

    def now_ns(self) -> int:
        """The time."""
        return self.time_ns


def _worker(key: str, status: Status.ValueType = Status.WORKER_STATUS_RUNNING) -> WorkerHeartbeat:
    return WorkerHeartbeat(worker_instance_key=key, status=status)


def _keys(registry: WorkerRegistry, namespace_id: str = "n") -> list[str]:
    return [worker.worker_instance_key for worker in registry.all(namespace_id)]


def test_a_silent_worker_is_forgotten_after_five_minutes() -> None:
    clock = Clock()
    registry = WorkerRegistry(clock)
    registry.record("n", [_worker("a"), _worker("b")])
    clock.time_ns += REMEMBERED_NS - 1
    registry.record("n", [_worker("b")])
    clock.time_ns += 1
    assert _keys(registry) == ["b"]
    assert registry.find("n", "a") is None


def test_a_worker_that_shuts_down_is_forgotten_at_once() -> None:
    registry = WorkerRegistry(Clock())
    registry.record("n", [_worker("a"), _worker("b")])
    registry.record("n", [_worker("a", Status.WORKER_STATUS_SHUTDOWN)])
    assert _keys(registry) == ["b"]


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
