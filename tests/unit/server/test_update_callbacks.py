"""Callbacks that come with updates: which of them leave an event, once each, and what becomes of those in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from perdure.core.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from perdure.core.run.limits import Limits
from perdure.server.config import Capabilities, ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.faults import Fault, FaultyStore, fail_method
from perdure.store.memory import MemoryStore
from tests.support.builders import complete_workflow, continue_as_new
from tests.support.proto import common, enums
from tests.support.updates import ACCEPTED, COMPLETED, acceptance, rejection, response, update_request
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run
from tests.unit.server.test_resets import reset
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


# --- turned on


CALLED = ServerConfig(port=0, capabilities=Capabilities(workflow_update_callbacks=True))
State = enums.CallbackState
STANDBY, FAILED = State.CALLBACK_STATE_STANDBY, State.CALLBACK_STATE_FAILED


async def callbacks(client: LocalClient, run_id: str = "") -> list[tuple[str, int]]:
    """Update and state of each callback of the run `w`. Those here lead nowhere: they fail when they are called."""
    described = await client.describe("w", run_id=run_id)
    return [
        (info.trigger.update_workflow_execution_completed.update_id, info.state)
        for info in described.callbacks
    ]


async def all_called(client: LocalClient, run_id: str = "") -> None:
    """Waits until every callback of the run was called."""
    while any(state != FAILED for _, state in await callbacks(client, run_id)):
        await asyncio.sleep(0)  # the test as a whole has a bound


async def accepted(client: LocalClient, execution: Any) -> Any:
    """An update with a callback that the workflow works on; returns the message that brought it."""
    first = asked(client, execution, "1", "first")
    task = await client.poll_workflow_task("q")
    await answer(client, task, acceptance(task.messages[0]))
    await first
    return task.messages[0]


async def next_task(client: LocalClient) -> Any:
    """The workflow task that a signal makes."""
    await client.signal("w", "s")
    return await client.poll_workflow_task("q")


def test_callbacks_wait_for_the_end_of_their_update() -> None:
    """Also those that others attach; the run's own go on waiting."""

    async def scenario() -> None:
        async with serving(CALLED) as client:
            own = common.Callback(nexus=common.Callback.Nexus(url="temporal://system"))
            started = await client.start("w", "q", completion_callbacks=[own])
            task = await client.poll_workflow_task("q")
            await client.complete_workflow_task(task.task_token, [])
            execution = common.WorkflowExecution(workflow_id="w", run_id=started.run_id)
            message = await accepted(client, execution)
            await asked(client, execution, "2", "second")
            assert await callbacks(client) == [("", STANDBY), ("u", STANDBY), ("u", STANDBY)]
            await answer(client, await next_task(client), response(message))
            while [state for _, state in await callbacks(client)] != [STANDBY, FAILED, FAILED]:
                await asyncio.sleep(0)

    run(scenario())


@pytest.mark.parametrize("command", [complete_workflow(), continue_as_new()], ids=["ends", "goes on"])
def test_an_update_that_its_run_does_not_live_to_see_ends_with_it(command: Any) -> None:
    """A run that follows has nothing of it."""

    async def scenario() -> None:
        async with serving(CALLED) as client:
            execution = await begun(client)
            await accepted(client, execution)
            await answer(client, await next_task(client), commands=[command])
            await all_called(client, execution.run_id)
            described = await client.describe("w")
            if described.workflow_execution_info.execution.run_id != execution.run_id:
                assert await callbacks(client) == []

    run(scenario())


def test_a_reset_takes_an_update_and_its_callbacks_along() -> None:
    """Nobody is told that the run that was reset ended; the new one tells that the workflow refuses the update."""

    async def scenario() -> None:
        async with serving(CALLED) as client:
            execution = await begun(client)
            await accepted(client, execution)
            await asked(client, execution, "2", "second")
            new = await reset(client, execution.run_id, 4)
            assert await callbacks(client, execution.run_id) == [("u", STANDBY), ("u", STANDBY)]
            assert await callbacks(client, new) == [("u", STANDBY), ("u", STANDBY)]
            task = await client.poll_workflow_task("q")
            await answer(client, task)  # without a word of the update
            await all_called(client, new)

    run(scenario())


def test_an_update_that_a_reset_leaves_out_ends_with_the_run_that_is_reset() -> None:
    async def scenario() -> None:
        async with serving(CALLED) as client:
            execution = await begun(client)
            await accepted(client, execution)
            no_updates = enums.ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE
            new = await reset(client, execution.run_id, 4, reset_reapply_exclude_types=[no_updates])
            assert await callbacks(client, new) == []
            await all_called(client, execution.run_id)

    run(scenario())


def test_a_run_that_makes_room_for_the_reset_of_an_earlier_one_tells_whoever_waits_for_it() -> None:
    """The new run has nothing of it."""

    async def scenario() -> None:
        async with serving(CALLED) as client:
            earlier = await begun(client)
            await answer(client, await next_task(client), commands=[complete_workflow()])
            own = common.Callback(nexus=common.Callback.Nexus(url="temporal://system"))
            started = await client.start("w", "q", completion_callbacks=[own])
            task = await client.poll_workflow_task("q")
            await client.complete_workflow_task(task.task_token, [])
            await accepted(client, common.WorkflowExecution(workflow_id="w", run_id=started.run_id))
            new = await reset(client, earlier.run_id, 4)
            assert await callbacks(client, new) == []
            assert len(await callbacks(client, started.run_id)) == 2
            await all_called(client, started.run_id)

    run(scenario())


def test_an_update_that_was_over_before_the_point_of_a_reset_is_not_told_again() -> None:
    async def scenario() -> None:
        async with serving(CALLED) as client:
            execution = await begun(client)
            message = await accepted(client, execution)
            await answer(client, await next_task(client), response(message))
            await all_called(client)
            task = await next_task(client)
            await answer(client, task)
            new = await reset(client, execution.run_id, task.started_event_id + 1)
            assert await callbacks(client, new) == []

    run(scenario())


def test_callbacks_that_would_be_called_are_checked() -> None:
    """Where they lead to, and how many a run has."""

    async def scenario() -> None:
        few = replace(CALLED, limits=replace(Limits(), callbacks=2))
        async with serving(few) as client:
            execution = await begun(client)
            request = update_request(client.namespace, execution, "u", stage=ACCEPTED)
            request.request.request_id = "0"
            callback = request.request.completion_callbacks.add()
            callback.nexus.url = "http://localhost:1/inside"
            with pytest.raises(InvalidArgumentError, match="does not match any configured"):
                await client.invoke(request)
            await accepted(client, execution)
            await asked(client, execution, "2", "second")
            with pytest.raises(FailedPreconditionError, match="cannot attach more than 2"):
                await asked(client, execution, "3", "third")

    run(scenario())
