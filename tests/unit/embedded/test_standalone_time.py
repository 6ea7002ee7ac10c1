"""Standalone activities on a server whose clock is skipped: their deadlines are moved to, their attempts hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure.api.workflowservice import v1 as workflowservice
from tests.support.builders import application_failure, duration, queue, retry_policy
from tests.support.embedded import EmbeddedClient
from tests.unit.embedded.test_time_skipping import DAY_S, QUEUE, Clock, _run
from tests.unit.server.support import TIMEOUT_S, run


async def _start(client: EmbeddedClient, **fields: Any) -> None:
    values: dict[str, Any] = {
        "namespace": client.namespace,
        "activity_id": "a",
        "request_id": "start",
        "task_queue": queue(QUEUE),
        "start_to_close_timeout": duration(30 * DAY_S),
        "retry_policy": retry_policy(initial_s=DAY_S, maximum_s=DAY_S, coefficient=1),
    }
    request = workflowservice.StartActivityExecutionRequest(**(values | fields))
    request.activity_type.name = "work"
    await client.invoke(request)


async def _outcome(client: EmbeddedClient) -> Any:
    request = workflowservice.PollActivityExecutionRequest(namespace=client.namespace, activity_id="a")
    return await client.invoke(request)


def test_a_day_between_attempts_passes_at_once() -> None:
    """The end of a backoff is a deadline like any other."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        before_s = await clock.now_s()
        await _start(client)
        task = await client.poll_activity_task(QUEUE)
        await client.fail_activity(task.task_token, application_failure())
        await clock.unlock()
        task = await client.poll_activity_task(QUEUE)
        assert task.attempt == 2
        assert -1 < await clock.now_s() - before_s - DAY_S < TIMEOUT_S

    _run(scenario)


def test_an_attempt_holds_the_clock() -> None:
    """What a worker works on takes real time: its timeout does not come early."""

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await _start(client)
        task = await client.poll_activity_task(QUEUE)
        await clock.unlock()
        before_s = await clock.now_s()
        await client.heartbeat_activity(task.task_token, None)
        assert await clock.now_s() - before_s < TIMEOUT_S
        await client.complete_activity(task.task_token, None)
        assert (await _outcome(client)).outcome.HasField("result")

    _run(scenario)


def test_what_another_server_began_is_taken_into_account(tmp_path: Path) -> None:
    """Over a file: the delay of a first attempt is skipped after a restart, too."""
    address = f"sqlite:///{tmp_path}/orders.db"

    async def begin() -> None:
        client = await EmbeddedClient.connect(address)
        await _start(client, start_delay=duration(DAY_S))
        await client.close()

    run(begin())

    async def scenario(client: EmbeddedClient, clock: Clock) -> None:
        await clock.unlock()
        task = await client.poll_activity_task(QUEUE)
        assert task.activity_id == "a"

    _run(scenario, address)
