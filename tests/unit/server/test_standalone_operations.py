"""Standalone Nexus operations on a whole server: crashes, completions, who waits, retention, skipped time."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError, NotFoundError, StoreUnavailableError, UnavailableError
from perdure.core.run.records import RunKey, RunKind
from perdure.server.engine import nexus_calls
from perdure.server.engine.standalone_runs import Slot
from tests.support.builders import complete_workflow, duration, payload, payloads
from tests.support.proto import common, enums, nexus, operatorservice, workflowservice
from tests.unit.server.local_client import LocalClient
from tests.unit.server.test_nexus import (
    WAIT_S,
    _LastingStore,
    answer,
    callback_of,
    done,
    endpoint,
    poll,
    receiving,
    running,
    served,
    step,
    until_callback,
)

STARTED = enums.NexusOperationWaitStage.NEXUS_OPERATION_WAIT_STAGE_STARTED
CLOSED = enums.NexusOperationWaitStage.NEXUS_OPERATION_WAIT_STAGE_CLOSED
Start = workflowservice.StartNexusOperationExecutionRequest
Outcome = workflowservice.PollNexusOperationExecutionResponse
Terminate = workflowservice.TerminateNexusOperationExecutionRequest


async def start(client: LocalClient, operation_id: str = "op", **fields: Any) -> RunKey:
    """Starts an operation at the endpoint `endpoint`."""
    values: dict[str, Any] = {
        "namespace": "default",
        "operation_id": operation_id,
        "endpoint": "endpoint",
        "service": "service",
        "operation": "operation",
        "input": payload("input"),
    }
    response = await client.call(
        Start(**(values | fields)), workflowservice.StartNexusOperationExecutionResponse
    )
    namespace_id = client.server.namespaces.get("default").namespace_id
    return RunKey(namespace_id, operation_id, response.run_id, RunKind.NEXUS_OPERATION)


async def outcome(
    client: LocalClient, operation_id: str = "op", stage: enums.NexusOperationWaitStage.ValueType = CLOSED
) -> Outcome:
    """Waits for a stage of an operation."""
    request = workflowservice.PollNexusOperationExecutionRequest(
        namespace="default", operation_id=operation_id, wait_stage=stage
    )
    return await client.call(request, Outcome, timeout_s=WAIT_S)


async def until_gone(client: LocalClient, run: RunKey) -> None:
    """Waits until an execution is deleted."""
    with pytest.raises(NotFoundError):
        await client.server.engine.operation_runs.wait(run, lambda state: False, WAIT_S)


def test_what_a_crash_left_unasked_is_asked_by_the_next_server() -> None:
    """What is owed follows from the state."""

    async def scenario() -> None:
        store = _LastingStore()
        async with served(store) as client:
            client.server.engine.operation_runs.begin = lambda run, effects: None
            await endpoint(client)
            await start(client)
        async with served(store) as client:
            await answer(client, await poll(client), **done("late"))
            assert (await outcome(client)).result == payload("late")

    asyncio.run(scenario())


def test_a_request_that_a_stop_cut_off_is_made_again_with_the_same_id() -> None:
    """So its handler recognises it."""

    async def scenario() -> None:
        store = _LastingStore()
        async with served(store) as client:
            await endpoint(client)
            await start(client)
            first = await poll(client)
        async with served(store) as client:
            second = await poll(client)
            ids = [task.request.start_operation.request_id for task in (first, second)]
            assert ids[0] == ids[1]
            await answer(client, second, **running())
            assert (await outcome(client, stage=STARTED)).operation_token == "token"

    asyncio.run(scenario())


def test_more_requests_than_may_be_under_way_are_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand in line, and none is looked at again and again meanwhile."""
    monkeypatch.setattr(nexus_calls, "UNDER_WAY_LIMIT", 1)

    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            for number in range(3):
                await start(client, f"call{number}")
            for _ in range(3):
                await answer(client, await poll(client), **done())
            for number in range(3):
                await outcome(client, f"call{number}")

    asyncio.run(scenario())


def test_the_end_of_its_workflow_and_its_outcome_are_one_commit() -> None:
    """A store that fails while it is told leaves the workflow's callback owed, and nothing half done."""

    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            run = await start(client)
            task = await poll(client)
            await client.start("w", "w", completion_callbacks=[callback_of(task)])
            await answer(client, task, **running())
            await outcome(client, stage=STARTED)
            store = client.server.engine.store
            failed: list[list[RunKind]] = []
            commit = store.commit

            async def failing(writes: Any, *more: Any) -> None:
                if any(write.run == run for write in writes) and not failed:
                    failed.append([write.run.kind for write in writes])
                    raise StoreUnavailableError("disk full")
                await commit(writes, *more)

            store.commit = failing  # type: ignore[method-assign, assignment]
            await step(client, "w", complete_workflow(payloads("r")))
            assert (await outcome(client)).result == payload("r")
            assert failed == [[RunKind.WORKFLOW, RunKind.NEXUS_OPERATION]]
            described = await client.describe("w")
            assert described.callbacks[0].state == enums.CallbackState.CALLBACK_STATE_SUCCEEDED

    asyncio.run(scenario())


def test_the_callback_of_an_operation_that_is_closed_fails_for_good() -> None:
    """Nobody waits any more."""

    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            await start(client)
            task = await poll(client)
            await client.start("w", "w", completion_callbacks=[callback_of(task)])
            await client.invoke(Terminate(namespace="default", operation_id="op", reason="enough"))
            await step(client, "w", complete_workflow(payloads("r")))
            await until_callback(client, "w", enums.CallbackState.CALLBACK_STATE_FAILED)
            described = await client.describe("w")
            assert "operation not found" in described.callbacks[0].last_attempt_failure.message

    asyncio.run(scenario())


def test_who_waits_for_an_operation_that_is_deleted_is_told() -> None:
    """And who starts the id again starts anew."""

    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            first = await start(client)
            waiting = asyncio.create_task(outcome(client))
            async with asyncio.timeout(WAIT_S):
                while not client.server.engine.operation_runs.peek(first):
                    await asyncio.sleep(0)
            request = workflowservice.DeleteNexusOperationExecutionRequest(
                namespace="default", operation_id="op"
            )
            await client.invoke(request)
            ended = (await asyncio.gather(waiting, return_exceptions=True))[0]
            assert isinstance(ended, NotFoundError) or not isinstance(ended, BaseException)
            with pytest.raises(NotFoundError):
                await client.invoke(request)
            assert await start(client) != first

    asyncio.run(scenario())


def test_retention_deletes_what_is_closed() -> None:
    """And only that."""

    async def scenario() -> None:
        async with served(retention_s=0.2) as client:
            await endpoint(client)
            await start(client, "open")
            run = await start(client, "closed")
            await client.invoke(Terminate(namespace="default", operation_id="closed"))
            await until_gone(client, run)
            request = workflowservice.CountNexusOperationExecutionsRequest(namespace="default")
            counted = await client.call(request, workflowservice.CountNexusOperationExecutionsResponse)
            assert counted.count == 1

    asyncio.run(scenario())


def test_a_removed_namespace_has_no_operations() -> None:
    """Everything of it goes."""

    async def scenario() -> None:
        async with served(namespaces=("default", "other")) as client:
            await endpoint(client)
            namespace_id = client.server.namespaces.get("other").namespace_id
            response = await client.call(
                Start(namespace="other", operation_id="op", endpoint="endpoint", service="s", operation="o"),
                workflowservice.StartNexusOperationExecutionResponse,
            )
            run = RunKey(namespace_id, "op", response.run_id, RunKind.NEXUS_OPERATION)
            assert await client.server.engine.store.load_run(run) is not None
            await client.invoke(operatorservice.DeleteNamespaceRequest(namespace="other"))
            await until_gone(client, run)

    asyncio.run(scenario())


def test_a_store_that_fails_leaves_nothing_believed() -> None:
    """The next call reads what is true."""

    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            run = await start(client)
            await poll(client)
            store = client.server.engine.store
            commit = store.commit

            async def failing(writes: Any, *more: Any) -> None:
                raise StoreUnavailableError("disk full")

            store.commit = failing  # type: ignore[method-assign, assignment]
            with pytest.raises(UnavailableError):
                await client.invoke(Terminate(namespace="default", operation_id="op"))
            store.commit = commit  # type: ignore[method-assign]
            assert (await client.server.engine.operation_runs.state(run)).header.is_open

    asyncio.run(scenario())


def test_an_answer_that_is_too_large_ends_it() -> None:
    """Asking again would bring the same answer: a result from a worker, a token from an address."""

    async def scenario() -> None:
        body = json.dumps({"token": "t" * 4097, "state": "running"}).encode()
        async with served() as client, receiving((201, {"content-type": "application/json"}, body)) as far:
            await endpoint(client)
            await start(client)
            await answer(client, await poll(client), **done("x" * (2 * 1024 * 1024)))
            assert "response body too large" in (await outcome(client)).failure.message
            url = f"http://127.0.0.1:{far.server_port}"
            target = nexus.EndpointTarget(external=nexus.EndpointTarget.External(url=url))
            spec = nexus.EndpointSpec(name="far", target=target)
            await client.invoke(operatorservice.CreateNexusEndpointRequest(spec=spec))
            await start(client, "far", endpoint="far")
            assert "invalid operation token" in (await outcome(client, "far")).failure.message

    asyncio.run(scenario())


def test_callbacks_of_the_start_are_refused() -> None:
    """Nobody waits for a call that never comes."""

    async def scenario() -> None:
        async with served() as client:
            await endpoint(client)
            callback = common.Callback(nexus=common.Callback.Nexus(url="temporal://system"))
            with pytest.raises(InvalidArgumentError, match="completion callbacks"):
                await start(client, completion_callbacks=[callback])

    asyncio.run(scenario())


def test_a_long_wait_passes_at_once_where_time_is_skipped() -> None:
    """A started operation's timeout is moved to; a request under way holds the clock."""

    async def scenario() -> None:
        async with served(time_skipping=True) as client:
            await endpoint(client)
            await start(client, schedule_to_close_timeout=duration(30 * 86_400))
            await answer(client, await poll(client), **running())
            time_skipping = client.server.time_skipping
            assert time_skipping is not None
            time_skipping.unlock()
            told = await outcome(client)
            assert told.failure.timeout_failure_info.timeout_type == 3

    asyncio.run(scenario())


def test_who_waited_first_is_woken_first() -> None:
    """In an order of memory addresses, a run of the simulator would not be the same again."""

    async def woken(backwards: bool) -> bool:
        slot: Slot[Any] = Slot()
        waiting = [asyncio.get_running_loop().create_future() for _ in range(50)]
        order: list[int] = []
        numbers = range(49, -1, -1) if backwards else range(50)
        for number in numbers:
            waiting[number].add_done_callback(
                functools.partial(lambda number, _: order.append(number), number)
            )
            slot.waiters[waiting[number]] = None
        slot.wake()
        await asyncio.sleep(0)  # the callbacks run
        return order == list(numbers)

    assert asyncio.run(woken(backwards=False))
    assert asyncio.run(woken(backwards=True))
