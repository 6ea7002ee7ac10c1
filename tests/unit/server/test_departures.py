"""Workers that say goodbye: their polls end, nothing is lost, what is remembered of them is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.server.config import ServerConfig, with_dynamic_values
from perdure.server.engine import departures
from perdure.server.engine.departures import Departures
from tests.support.proto import workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

ON, _ = with_dynamic_values(ServerConfig(port=0), {"frontend.enableCancelWorkerPollsOnShutdown": True})
LEAVING: dict[str, Any] = {"worker_instance_key": "leaving", "identity": "leaving"}


async def say_goodbye(client: LocalClient, **fields: Any) -> None:
    values: dict[str, Any] = {"namespace": client.namespace, "task_queue": "q", **LEAVING} | fields
    await client.invoke(workflowservice.ShutdownWorkerRequest(**values))


async def waiting_poll(client: LocalClient, **fields: Any) -> asyncio.Task[Any]:
    """A poll of the leaving worker that has arrived."""
    poll = asyncio.create_task(client.poll_workflow_task("q", **(LEAVING | fields)))
    while "leaving" not in await pollers(client):
        await asyncio.sleep(0)
    return poll


async def pollers(client: LocalClient) -> list[str]:
    request = workflowservice.DescribeTaskQueueRequest(namespace=client.namespace)
    request.task_queue.name = "q"
    request.task_queue_type = 1  # type: ignore[assignment]  # workflow tasks
    described = await client.call(request, workflowservice.DescribeTaskQueueResponse)
    return [each.identity for each in described.pollers]


def test_a_task_goes_to_another_worker_than_the_one_that_left() -> None:
    async def scenario() -> None:
        async with serving(ON) as client:
            poll = await waiting_poll(client)
            await say_goodbye(client)
            assert not (await poll).task_token
            assert await pollers(client) == []
            await client.start("w", "q")
            assert not (await client.poll_workflow_task("q", **LEAVING)).task_token
            assert (await client.poll_workflow_task("q")).task_token

    run(scenario())


@pytest.mark.parametrize("fields", [{"worker_instance_key": ""}, {"task_queue": ""}])
def test_a_goodbye_without_key_or_queue_ends_nothing(fields: dict[str, str]) -> None:
    async def scenario() -> None:
        async with serving(ON) as client:
            poll = await waiting_poll(client)
            await say_goodbye(client, **fields)
            await client.start("w", "q")
            assert (await poll).task_token

    run(scenario())


def test_a_goodbye_ends_nothing_unless_that_is_turned_on() -> None:
    async def scenario() -> None:
        async with serving() as client:
            poll = await waiting_poll(client)
            await say_goodbye(client)
            await client.start("w", "q")
            assert (await poll).task_token

    run(scenario())


async def polled(left: Departures, key: str, polling: Any) -> Any:
    """What a poll of a worker in a namespace `n` comes to."""
    return await left.poll(("n", key), polling)


def departures_of_polls(given_back: list[Any] | None = None) -> Departures:
    """Departures that are turned on."""
    left = Departures((given_back if given_back is not None else []).append)
    left.is_enabled = True
    return left


async def work() -> str:
    return "work"


def test_a_caller_that_is_gone_ends_its_poll_and_no_other() -> None:
    async def scenario() -> None:
        left = departures_of_polls()
        never = asyncio.Event()
        gone, stays = (asyncio.create_task(polled(left, "w", never.wait())) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert not stays.done()
        left.leave(("n", "w"))
        assert await stays is None
        assert not left._polls

    run(scenario())


def test_work_that_came_as_its_caller_went_is_given_back() -> None:
    """The poll has ended, and the caller goes before its own turn to hear of it."""

    async def scenario() -> None:
        given_back: list[Any] = []
        left = departures_of_polls(given_back)
        came: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def polling() -> str:
            return await came

        gone = asyncio.create_task(polled(left, "w", polling()))
        while not left._polls:
            await asyncio.sleep(0)
        [poll] = left._polls[("n", "w")]
        poll.add_done_callback(lambda _: None)
        came.set_result("work")
        while not poll.done():
            await asyncio.sleep(0)
            if poll.done():
                gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert given_back == ["work"]

    run(scenario())


def test_workers_are_remembered_for_a_while_and_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "REMEMBERED_WORKERS", 2)

    async def scenario() -> None:
        left = departures_of_polls()
        for key in "abc":
            left.leave(("n", key))
        assert [await polled(left, key, work()) for key in "abc"] == ["work", None, None]
        left.leave(("another namespace", "d"))
        assert await polled(left, "d", work()) == "work"
        monkeypatch.setattr(departures, "REMEMBERED_S", 0.0)
        left.leave(("n", "b"))
        assert await polled(left, "b", work()) == "work"

    run(scenario())
