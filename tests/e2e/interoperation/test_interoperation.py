"""Our worker, client and replayer with the official ones, on our server and on the official server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Final

import pytest
import temporalio.client
import temporalio.worker

import perdure.client
import perdure.worker
from perdure.service import RPCError, RPCStatusCode
from tests.e2e.determinism.replaying import HistoryReplay, Replays, prefixes
from tests.e2e.interoperation import application, driver
from tests.e2e.interoperation.twins import official_application, official_driver
from tests.e2e.python_sdk import eventually, unique
from tests.support.servers import PerdureServer, RealServer, ServerProcess

LIMIT_S: Final = 100.0
SERVERS: Final = {"perdure": PerdureServer, "official": RealServer}
COMBINATIONS: Final = [("perdure", "perdure"), ("perdure", "official"), ("official", "perdure")]
"""SDK of the worker, and of the client."""
Saved = list[tuple[str, str]]
"""Workflow ids and histories, as JSON."""


def our_worker(client: perdure.client.Client, queue: str) -> AbstractAsyncContextManager[object]:
    """A worker of our SDK for the application."""
    return perdure.worker.Worker(
        client,
        task_queue=queue,
        workflows=application.WORKFLOWS,
        activities=application.ACTIVITIES,
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    )


def official_worker(client: temporalio.client.Client, queue: str) -> AbstractAsyncContextManager[object]:
    """A worker of the official SDK for the same application."""
    return temporalio.worker.Worker(
        client,
        task_queue=queue,
        workflows=official_application.WORKFLOWS,
        activities=official_application.ACTIVITIES,
        workflow_runner=temporalio.worker.UnsandboxedWorkflowRunner(),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    )


@asynccontextmanager
async def clients(
    server: ServerProcess,
) -> AsyncIterator[tuple[perdure.client.Client, temporalio.client.Client]]:
    """A client of each SDK."""
    theirs = await temporalio.client.Client.connect(server.address)
    async with await perdure.client.Client.connect(server.address) as ours:
        yield ours, theirs


def _on(server_name: str, scenario: Callable[[ServerProcess], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            async with SERVERS[server_name](search_attributes={"Colour": "Keyword"}) as server:
                await scenario(server)

    asyncio.run(bounded())


async def _replay_in_ours(histories: Saved) -> Replays:
    """Every prefix that ends at a task; in addition each task's commands are compared, cold and sticky."""
    replays = Replays()
    replayer = perdure.worker.Replayer(workflows=application.WORKFLOWS)
    read = [perdure.client.WorkflowHistory.from_json(key, text) for key, text in histories]
    for history in read:
        await asyncio.to_thread(HistoryReplay(replayer, history, replays).check)
        for beginning in prefixes(history):
            replays.whole += 1
            await replayer.replay_workflow(beginning)
    return replays


async def _replay_in_theirs(histories: Saved) -> None:
    replayer = temporalio.worker.Replayer(
        workflows=official_application.WORKFLOWS,
        workflow_runner=temporalio.worker.UnsandboxedWorkflowRunner(),
    )
    for key, text in histories:
        await replayer.replay_workflow(temporalio.client.WorkflowHistory.from_json(key, text))


@pytest.mark.parametrize("server_name", SERVERS)
def test_workers_clients_and_histories_of_both_sdks_fit(server_name: str) -> None:
    """All scenarios with each pair of worker and client; then every history replays in both replayers."""

    async def scenario(server: ServerProcess) -> None:
        histories: Saved = []
        async with clients(server) as (ours, theirs):
            for worker_sdk, client_sdk in COMBINATIONS:
                queue = unique("queue")
                worker = (
                    our_worker(ours, queue) if worker_sdk == "perdure" else official_worker(theirs, queue)
                )
                client, driving = (ours, driver) if client_sdk == "perdure" else (theirs, official_driver)
                async with worker:
                    found = await asyncio.gather(*(each(client, queue) for each in driving.SCENARIOS))
                    for handles in found:
                        for handle in handles:
                            histories.append((handle.id, (await handle.fetch_history()).to_json()))
        assert len(histories) == 7 * len(COMBINATIONS)
        await _replay_in_theirs(histories)
        replays = await _replay_in_ours(histories)
        assert not replays.problems, "\n".join(replays.problems[:3])
        print(f"{len(histories)} histories, {replays.count} replays")

    _on(server_name, scenario)


@pytest.mark.parametrize("server_name", SERVERS)
@pytest.mark.parametrize("first_sdk", ["perdure", "official"])
def test_a_worker_of_the_other_sdk_takes_an_open_workflow_over(server_name: str, first_sdk: str) -> None:
    """One SDK's worker begins, the other's goes on from the history and ends it; the history replays in both."""

    async def scenario(server: ServerProcess) -> None:
        queue = unique("queue")
        async with clients(server) as (ours, theirs):
            workers: dict[str, Callable[[], AbstractAsyncContextManager[object]]] = {
                "perdure": lambda: our_worker(ours, queue),
                "official": lambda: official_worker(theirs, queue),
            }
            handle = await ours.start_workflow(
                application.Messages.run, driver.ORDER, id=unique("w"), task_queue=queue
            )
            async with workers.pop(first_sdk)():
                await driver.begin_messages(handle)

                async def has_heard() -> bool:
                    return "second" in await handle.query(application.Messages.said)

                await eventually("the signal's activity is done", has_heard)
            (other,) = workers.values()
            async with other():

                async def answers() -> bool:
                    try:
                        return "first" in await handle.query(application.Messages.said)
                    except RPCError as error:
                        # The official server may give a query to a poll of the worker that has just left, and tells the
                        # asker that this was canceled.
                        if server_name != "official" or error.status is not RPCStatusCode.CANCELLED:
                            raise
                        return False

                await eventually("the other worker answers", answers)
                await driver.end_messages(handle)
            histories = [(handle.id, (await handle.fetch_history()).to_json())]
        await _replay_in_theirs(histories)
        assert not (await _replay_in_ours(histories)).problems

    _on(server_name, scenario)


def test_twins_differ_in_their_imports_only() -> None:
    """The official twin really is the official SDK's, and has the same names."""
    ours = {name for name in vars(application) if not name.startswith("__")}
    assert ours == {name for name in vars(official_application) if not name.startswith("__")}
    assert official_application.ActivityError.__module__.startswith("temporalio")
    assert vars(application)["ActivityError"].__module__.startswith("perdure")
