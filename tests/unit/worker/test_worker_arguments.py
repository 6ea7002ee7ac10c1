"""What a worker refuses to be made with, and what it says."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.common import VersioningBehavior, WorkerDeploymentVersion
from perdure.worker import Worker, WorkerDeploymentConfig, WorkerTuner
from tests.unit.client.fakes import fake_client


@activity.defn
async def greet() -> None:
    """An activity."""


@activity.defn
def blocking() -> None:
    """A `def` activity."""


@workflow.defn
class Hello:
    """A workflow."""

    @workflow.run
    async def run(self) -> None: ...


_DEPLOYMENT = WorkerDeploymentConfig(WorkerDeploymentVersion("d", "b"), use_worker_versioning=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "At least one activity, Nexus service, or workflow"),
        ({"activities": [greet, greet]}, ValueError, "More than one activity named greet"),
        ({"activities": [blocking]}, ValueError, "activity_executor must be present.*ThreadPoolExecutor"),
        ({"activities": [len]}, TypeError, "was it decorated with @activity.defn"),
        ({"workflows": [Hello, Hello]}, ValueError, "More than one workflow named Hello"),
        ({"workflows": [Hello], "deployment_config": _DEPLOYMENT}, ValueError, "versioning behavior"),
        (
            {"activities": [greet], "deployment_config": _DEPLOYMENT, "build_id": "x"},
            ValueError,
            "deployment_config cannot be used with build_id",
        ),
        ({"activities": [greet], "use_worker_versioning": True}, ValueError, "build_id must be specified"),
        (
            {"activities": [greet], "tuner": WorkerTuner.create_fixed(), "max_concurrent_activities": 1},
            ValueError,
            "when also specifying tuner",
        ),
        (
            {"activities": [greet], "max_eager_activity_reservations_per_workflow_task": 0},
            ValueError,
            "must be positive",
        ),
        ({"workflows": [Hello], "max_concurrent_workflow_tasks": 1}, ValueError, "requires at least 2"),
        ({"workflows": [Hello], "max_cached_workflows": -1}, ValueError, "must not be negative"),
        ({"activities": [greet], "max_concurrent_activities": -1}, ValueError, "must not be negative"),
        (
            {"activities": [greet], "tuner": WorkerTuner.create_fixed(activity_slots=-1)},
            ValueError,
            "must not be negative",
        ),
        ({"activities": [greet], "max_activities_per_second": 0}, ValueError, "leave it out for no limit"),
        ({"activities": [greet], "max_activities_per_second": -2.5}, ValueError, "leave it out for no limit"),
        (
            {"workflows": [Hello], "tuner": WorkerTuner.create_fixed(workflow_slots=1)},
            ValueError,
            "requires at least 2",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    client, _ = fake_client()
    with pytest.raises(error, match=message):
        Worker(client, task_queue="queue", **arguments)


def test_one_workflow_task_at_once_is_enough_without_a_cache() -> None:
    """Nor does a worker without workflows poll two queues."""
    client, _ = fake_client()
    Worker(
        client,
        task_queue="queue",
        workflows=[Hello],
        max_concurrent_workflow_tasks=1,
        max_cached_workflows=0,
    )
    Worker(client, task_queue="queue", activities=[greet], max_concurrent_workflow_tasks=1)


def test_a_default_behaviour_stands_for_workflows_that_do_not_say() -> None:
    client, _ = fake_client()
    deployment = WorkerDeploymentConfig(
        WorkerDeploymentVersion("d", "b"), True, VersioningBehavior.AUTO_UPGRADE
    )
    worker = Worker(client, task_queue="queue", workflows=[Hello], deployment_config=deployment)
    assert worker.task_queue == "queue"
    assert not worker.is_running


def test_the_configuration_is_what_was_given() -> None:
    client, _ = fake_client()
    worker = Worker(client, task_queue="queue", activities=[greet], graceful_shutdown_timeout=timedelta(1))
    config = worker.config()
    assert config["activities"] == [greet]
    assert config["graceful_shutdown_timeout"] == timedelta(1)
    again = Worker(**config)
    assert again.config() == config


def test_a_forked_process_makes_no_worker_of_its_parents_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does it run its parent's; a client that has not connected yet belongs to nobody."""
    client, _ = fake_client()
    worker = Worker(client, task_queue="queue", activities=[greet])
    monkeypatch.setattr(client.service_client, "_process_id", os.getpid())
    Worker(client, task_queue="queue", activities=[greet])
    monkeypatch.setattr(client.service_client, "_process_id", os.getpid() + 1)
    with pytest.raises(AssertionError, match="Cannot create worker across forks"):
        Worker(client, task_queue="queue", activities=[greet])
    with pytest.raises(AssertionError, match="Cannot use worker across forks"):
        asyncio.run(asyncio.wait_for(worker.run(), 10))


def test_a_worker_that_limits_its_rate_takes_no_activities_past_its_polls() -> None:
    """Those that come with answers would not be counted."""
    client, _ = fake_client()
    worker = Worker(
        client, task_queue="queue", workflows=[Hello], activities=[greet], max_activities_per_second=2
    )
    assert worker._workflow_worker is not None
    assert worker._workflow_worker._eager is None
