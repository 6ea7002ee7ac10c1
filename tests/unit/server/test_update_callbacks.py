"""Callbacks that come with updates: which of them leave an event, once each, and what becomes of those in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError, UnavailableError
from perdure.core.run.limits import Limits
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.faults import Fault, FaultyStore, fail_method
from perdure.store.memory import MemoryStore
from tests.support.proto import common
from tests.support.updates import ACCEPTED, COMPLETED, acceptance, rejection, response, update_request
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run
from tests.unit.server.test_updates import answer, begun

CONFIG = ServerConfig(port=0, limits=Limits())


def asked(
    client: LocalClient, execution: Any, request_id: str, *names: str, stage: Any = ACCEPTED
) -> asyncio.Task[Any]:
    """Sends the update `u` with callbacks that their headers name."""
    request = update_request(client.namespace, execution, "u", stage=stage)
    request.request.request_id = request_id
    for name in names:
        header = {"name": name}
        request.request.completion_callbacks.append(
            common.Callback(nexus=common.Callback.Nexus(url="temporal://system", header=header))
        )
    return asyncio.create_task(client.invoke(request, timeout_s=15))


async def attached(client: LocalClient, execution: Any) -> list[tuple[str, str]]:
    """Request id and name of the callback of each event that attached one to an update."""
    found = []
    for event in await client.history(execution.workflow_id, run_id=execution.run_id):
        for option in event.workflow_execution_options_updated_event_attributes.workflow_update_options:
            (callback,) = option.attached_completion_callbacks
            found.append((option.attached_request_id, callback.nexus.header["name"]))
    return found


async def in_memory(client: LocalClient, execution: Any, request_id: str) -> None:
    """Waits until the server holds what a request attaches to an update that a worker was sent."""
    (slot,) = [slot for slot in client.server.engine.runs.slots() if slot.key.run_id == execution.run_id]
    while slot.updates is None or request_id not in slot.updates.waiting["u"].attached:
        await asyncio.sleep(0)  # the test as a whole has a bound


def test_each_request_attaches_once() -> None:
    """While the update is with the worker, and while it is worked on: one event for each request, in their order."""

    async def scenario() -> None:
        async with serving(CONFIG) as client:
            execution = await begun(client)
            first = asked(client, execution, "1", "first")
            task = await client.poll_workflow_task("q")
            others = [asked(client, execution, number, number) for number in ("2", "2", "1", "3")]
            await in_memory(client, execution, "3")
            await answer(client, task, acceptance(task.messages[0]))
            for sent in (first, *others):
                assert (await sent).stage == ACCEPTED
            assert await attached(client, execution) == [("2", "2"), ("3", "3")]
            for number in ("3", "4", "4", "1"):
                await asked(client, execution, number, f"later {number}")
            assert await attached(client, execution) == [("2", "2"), ("3", "3"), ("4", "later 4")]

    run(scenario())


def test_nothing_is_attached_to_what_is_over() -> None:
    """A completed update answers at once, in an open run and in a closed one; a rejected one leaves nothing."""

    async def scenario() -> None:
        async with serving(CONFIG) as client:
            execution = await begun(client)
            refused = asked(client, execution, "1", "refused", stage=COMPLETED)
            task = await client.poll_workflow_task("q")
            await answer(client, task, rejection(task.messages[0]))
            assert (await refused).outcome.failure.message == "no"
            done = asked(client, execution, "2", "done", stage=COMPLETED)
            task = await client.poll_workflow_task("q")
            await answer(client, task, acceptance(task.messages[0]), response(task.messages[0]))
            assert (await done).stage == COMPLETED
            assert (await asked(client, execution, "3", "late", stage=COMPLETED)).stage == COMPLETED
            await client.terminate("w")
            assert (await asked(client, execution, "", "later", stage=COMPLETED)).stage == COMPLETED
            assert await attached(client, execution) == []

    run(scenario())


def test_callbacks_need_a_request_id() -> None:
    """Whatever the update's state is; and such a request lets no update in."""

    async def scenario() -> None:
        async with serving(CONFIG) as client:
            execution = await begun(client)
            with pytest.raises(InvalidArgumentError, match="request_id is required"):
                await asked(client, execution, "", "new")
            first = asked(client, execution, "1", "first")
            task = await client.poll_workflow_task("q")
            with pytest.raises(InvalidArgumentError, match="request_id is required"):
                await asked(client, execution, "", "sent")
            await answer(client, task, acceptance(task.messages[0]))
            await first
            with pytest.raises(InvalidArgumentError, match="request_id is required"):
                await asked(client, execution, "", "accepted")
            assert await attached(client, execution) == []

    run(scenario())


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
def test_an_attachment_that_fails_is_asked_for_again(fault: Fault) -> None:
    """Before its commit or after it: the request comes again, and there is one event."""

    async def scenario() -> None:
        store = FaultyStore(MemoryStore())
        server = Server(store, CONFIG, SystemRuntime(), "memory")
        await server.start()
        client = LocalClient(server)
        execution = await begun(client)
        first = asked(client, execution, "1", "first")
        task = await client.poll_workflow_task("q")
        await answer(client, task, acceptance(task.messages[0]))
        await first
        store.decide = fail_method("commit", fault, store.calls["commit"] + 1)
        with pytest.raises(UnavailableError):
            await asked(client, execution, "2", "second")
        await asked(client, execution, "2", "second")
        assert await attached(client, execution) == [("2", "second")]
        await server.stop(0)

    run(scenario())
