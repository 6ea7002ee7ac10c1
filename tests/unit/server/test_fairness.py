"""Fairness keys on a whole server: shares, restarts, weights and limits that operators set."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from perdure.server.config import ServerConfig
from perdure.server.engine import matching
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.sqlite import SqliteStore
from tests.support.builders import schedule_activity
from tests.support.proto import command, enums, taskqueue, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

ACTIVITY = enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
UpdateConfig = workflowservice.UpdateTaskQueueConfigRequest


def _activity(name: str, key: str, weight: float = 0.0) -> command.Command:
    made = schedule_activity(name, "q")
    priority = made.schedule_activity_task_command_attributes.priority
    priority.fairness_key, priority.fairness_weight = key, weight
    return made


async def _schedule(client: LocalClient, workflow_id: str, *commands: command.Command) -> None:
    await client.start(workflow_id, workflow_id)
    task = await client.poll_workflow_task(workflow_id)
    await client.complete_workflow_task(task.task_token, commands)


async def _take(client: LocalClient, count: int) -> list[str]:
    return [(await client.poll_activity_task("q")).activity_id for _ in range(count)]


async def _configure(client: LocalClient, **fields: Any) -> taskqueue.TaskQueueConfig:
    request = UpdateConfig(namespace="default", task_queue="q", task_queue_type=ACTIVITY, **fields)
    return (await client.call(request, workflowservice.UpdateTaskQueueConfigResponse)).config


async def _describe(client: LocalClient) -> workflowservice.DescribeTaskQueueResponse:
    request = workflowservice.DescribeTaskQueueRequest(
        namespace="default",
        task_queue=taskqueue.TaskQueue(name="q"),
        task_queue_type=ACTIVITY,
        report_stats=True,
        report_config=True,
    )
    return await client.call(request, workflowservice.DescribeTaskQueueResponse)


def test_each_key_gets_its_share_by_weight_and_order_within() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await _schedule(client, "a", *(_activity(f"a{number:02}", "a") for number in range(30)))
            await _schedule(client, "b", *(_activity(f"b{number:02}", "b", 2.0) for number in range(30)))
            taken = await _take(client, 30)
            shares = Counter(name[0] for name in taken)
            assert abs(shares["b"] - 20) <= 2
            for key in "ab":
                assert [name for name in taken if name[0] == key] == sorted(
                    name for name in taken if name[0] == key
                )

    run(scenario())


def test_the_order_survives_the_end_of_the_process(tmp_path: Path) -> None:
    """Whoever has much waiting is as far behind after it as before, and so is what it adds."""

    async def scenario() -> None:
        path, config = tmp_path / "db.sqlite", ServerConfig(port=0)
        first = Server(SqliteStore(path), config, SystemRuntime(), "sqlite")
        await first.start()
        client = LocalClient(first)
        await _schedule(client, "many", *(_activity(f"m{number:02}", "many") for number in range(40)))
        await _take(client, 10)
        await first.stop(0)
        second = Server(SqliteStore(path), config, SystemRuntime(), "sqlite")
        await second.start()
        try:
            client = LocalClient(second)
            assert (await _take(client, 1))[0].startswith("m")  # now the queue is known
            await _schedule(client, "more", *(_activity(f"n{number:02}", "many") for number in range(5)))
            await _schedule(client, "few", *(_activity(f"f{number:02}", "few") for number in range(5)))
            taken = await _take(client, 39)
            assert Counter(name[0] for name in taken[:10])["f"] in (4, 5)
            assert [name for name in taken if name[0] == "n"] == taken[-5:], "behind what its key had"
        finally:
            await second.stop(0)

    run(scenario())


def test_an_operator_sets_the_weight_of_a_key() -> None:
    async def scenario() -> None:
        async with serving() as client:
            config = await _configure(client, set_fairness_weight_overrides={"a": 4.0})
            assert dict(config.fairness_weight_overrides) == {"a": 4.0}
            await _schedule(client, "a", *(_activity(f"a{number:02}", "a") for number in range(30)))
            await _schedule(client, "b", *(_activity(f"b{number:02}", "b") for number in range(30)))
            assert Counter(name[0] for name in await _take(client, 20))["a"] in (15, 16, 17)

    run(scenario())


def test_a_key_without_permit_waits_and_the_operators_limit_goes_before_the_workers() -> None:
    async def scenario() -> None:
        async with serving() as client:
            limit = UpdateConfig.RateLimitUpdate(reason="slow")
            limit.rate_limit.requests_per_second = 0.01
            await _configure(client, update_fairness_key_rate_limit_default=limit)
            await _schedule(client, "a", *(_activity(f"a{number}", "a") for number in range(4)))
            await _schedule(client, "b", _activity("b0", "b"))
            assert sorted(await _take(client, 2)) == ["a0", "b0"], "a poll does not wait for a1's permit"
            limit.rate_limit.requests_per_second = 1
            await _configure(client, update_fairness_key_rate_limit_default=limit)
            begun_s = asyncio.get_running_loop().time()
            assert await _take(client, 2) == ["a1", "a2"]
            assert asyncio.get_running_loop().time() - begun_s >= 0.99
            limit.rate_limit.requests_per_second = 0
            await _configure(client, update_queue_rate_limit=limit)
            metadata = taskqueue.TaskQueueMetadata()
            metadata.max_tasks_per_second.value = 1000
            poll = asyncio.create_task(client.poll_activity_task("q", task_queue_metadata=metadata))
            while len((await _describe(client)).pollers) < 1:
                await asyncio.sleep(0)
            described = await _describe(client)
            assert described.effective_rate_limit.requests_per_second == 0
            assert described.effective_rate_limit.rate_limit_source == 1  # the API's
            assert not poll.done()
            await _configure(
                client,
                update_queue_rate_limit=UpdateConfig.RateLimitUpdate(),
                update_fairness_key_rate_limit_default=UpdateConfig.RateLimitUpdate(),
            )
            assert (await poll).activity_id == "a3"
            described = await _describe(client)
            assert described.effective_rate_limit.requests_per_second == 1000
            assert described.config.queue_rate_limit.metadata.reason == ""

    run(scenario())


def test_configuration_is_there_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, config = tmp_path / "db.sqlite", ServerConfig(port=0)
        for expected in (0, 7):
            server = Server(SqliteStore(path), config, SystemRuntime(), "sqlite")
            await server.start()
            try:
                client = LocalClient(server)
                limit = (await _describe(client)).effective_rate_limit
                assert limit.requests_per_second == expected
                update = UpdateConfig.RateLimitUpdate()
                update.rate_limit.requests_per_second = 7
                await _configure(client, update_queue_rate_limit=update)
            finally:
                await server.stop(0)

    run(scenario())


def test_rates_tell_what_came_and_what_was_given_out() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await _schedule(client, "a", *(_activity(f"a{number}", "a") for number in range(30)))
            await _take(client, 15)
            stats = (await _describe(client)).stats
            assert stats.approximate_backlog_count == 15
            assert 1 <= stats.tasks_add_rate <= 30
            assert abs(stats.tasks_add_rate - 2 * stats.tasks_dispatch_rate) < 0.01

    run(scenario())


def test_workers_are_advised_to_poll_more_while_old_tasks_wait_and_less_after_a_long_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With times so short that nobody has to wait for them."""

    async def scenario() -> None:
        async with serving() as client:
            await _schedule(client, "a", *(_activity(f"a{number}", "a") for number in range(4)))
            monkeypatch.setattr(matching, "OLD_TASK_NS", -1)
            task = await client.poll_activity_task("q")
            assert task.poller_scaling_decision.poll_request_delta_suggestion == 1
            monkeypatch.setattr(matching, "IDLE_POLL_S", 0.0)
            task = await client.poll_activity_task("q")
            assert task.poller_scaling_decision.poll_request_delta_suggestion == -1
            for name, value in (("OLD_TASK_NS", 1 << 60), ("IDLE_POLL_S", 1e9), ("BUSY_RATIO", 1e9)):
                monkeypatch.setattr(matching, name, value)
            task = await client.poll_activity_task("q")
            assert not task.HasField("poller_scaling_decision")

    run(scenario())
