"""The client when things go wrong: servers killed and restarted, deadlines, cancellation, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.client import Client, RetryConfig, WorkflowFailureError
from perdure.exceptions import TerminatedError
from perdure.service import ClientClosedError, RPCError, RPCStatusCode
from tests.e2e.python_sdk import unique
from tests.support.servers import PerdureServer

LIMIT_S = 60.0
PATIENT = RetryConfig(max_elapsed_time_millis=30_000, max_retries=0, max_interval_millis=500)
IMPATIENT = RetryConfig(max_elapsed_time_millis=500, max_retries=3)

Scenario = Callable[[PerdureServer], Coroutine[Any, Any, None]]


def _on_a_server(scenario: Scenario, path: Path) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S), PerdureServer(db_path=path / "db.sqlite") as server:
            await scenario(server)

    asyncio.run(bounded())


async def _polling(client: Client) -> asyncio.Event:
    """An event that is set once a history is being waited for: from then on a crash hits the waiting call."""
    begun = asyncio.Event()
    service: Any = client.service_client
    call = service._rpc_call

    async def observed(rpc: str, *args: Any, **kwargs: Any) -> Any:
        if rpc == "get_workflow_execution_history":
            asyncio.get_running_loop().call_soon(begun.set)
        return await call(rpc, *args, **kwargs)

    service._rpc_call = observed
    return begun


def test_waiting_for_a_result_survives_a_killed_server(tmp_path: Path) -> None:
    """The server is killed and started again while the client waits; the client gets the result all the same."""

    async def scenario(server: PerdureServer) -> None:
        client = await Client.connect(server.address, retry_config=PATIENT)
        begun = await _polling(client)
        handle = await client.start_workflow("Nobody", id=unique("id"), task_queue="none")
        waiting = asyncio.create_task(handle.result())
        await begun.wait()
        await server.restart_after_kill()
        await client.get_workflow_handle(handle.id).terminate(reason="after the crash")
        with pytest.raises(WorkflowFailureError) as caught:
            await waiting
        assert isinstance(caught.value.cause, TerminatedError)
        assert str(caught.value.cause) == "after the crash"
        await client.close()

    _on_a_server(scenario, tmp_path)


def test_a_server_that_stays_away_is_an_error_after_the_retries(tmp_path: Path) -> None:
    """Not a call that hangs."""

    async def scenario(server: PerdureServer) -> None:
        client = await Client.connect(server.address, retry_config=IMPATIENT)
        handle = await client.start_workflow("Nobody", id=unique("id"), task_queue="none")
        await server.kill()
        with pytest.raises(RPCError) as caught:
            await handle.describe()
        assert caught.value.status is RPCStatusCode.UNAVAILABLE
        await client.close()

    _on_a_server(scenario, tmp_path)


def test_deadlines_cancellation_and_closing_end_calls(tmp_path: Path) -> None:
    """Each with its own error; a cancelled call leaves the connection as it was."""

    async def scenario(server: PerdureServer) -> None:
        client = await Client.connect(server.address, retry_config=IMPATIENT)
        begun = await _polling(client)
        handle = await client.start_workflow("Nobody", id=unique("id"), task_queue="none")
        with pytest.raises(RPCError) as late:
            # No worker answers it.
            await handle.query("state", rpc_timeout=timedelta(milliseconds=300))
        assert late.value.status is RPCStatusCode.DEADLINE_EXCEEDED

        begun.clear()
        waiting = asyncio.create_task(handle.result())
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await handle.describe()).id == handle.id

        begun.clear()
        waiting = asyncio.create_task(handle.result())
        await begun.wait()
        await client.close()
        with pytest.raises((RPCError, ClientClosedError)) as closed:
            await waiting
        assert not isinstance(closed.value, RPCError) or closed.value.status is RPCStatusCode.CANCELLED
        with pytest.raises(ClientClosedError):
            await handle.describe()

    _on_a_server(scenario, tmp_path)


def test_a_namespace_that_does_not_exist_says_how_to_make_one(tmp_path: Path) -> None:
    """The server's error, with a note."""

    async def scenario(server: PerdureServer) -> None:
        async with await Client.connect(server.address, namespace="nowhere") as client:
            with pytest.raises(RPCError) as caught:
                await client.start_workflow("Nobody", id="id", task_queue="none")
        assert caught.value.status is RPCStatusCode.NOT_FOUND
        assert "perdure operator namespace create --namespace nowhere" in caught.value.__notes__[0]

    _on_a_server(scenario, tmp_path)
