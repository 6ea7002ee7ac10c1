"""Engines in processes of their own: calls, sharing, ends of either process, and what the user is told."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.services import WORKFLOW_SERVICE
from perdure.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
    GetSystemInfoResponse,
)
from perdure.server import Server
from perdure.service import engine_processes
from perdure.service._errors import ClientClosedError, RPCError, RPCStatusCode
from tests.support.own_process import (
    ProcessClient,
    is_free,
    is_there,
    line,
    program,
    with_client,
)
from tests.support.rpc import RawClient, RpcError
from tests.unit.embedded.test_transport import WRONG
from tests.unit.server.support import run

QUEUE = "own-process-queue"


class _End:
    """The end of a process that is not our child, to be waited for.

    Args:
        pid: of a process that is there.
    """

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def wait(self) -> None:
        """Returns when it has ended."""
        try:
            readable, _, _ = select.select([self._descriptor], [], [], 20)
            assert readable, "the process goes on"
        finally:
            os.close(self._descriptor)


def test_errors_are_those_of_grpc(tmp_path: Path, address: str) -> None:
    """Status, message and details of the same wrong calls, through a pipe and over gRPC."""

    async def scenario() -> None:
        inside = await ProcessClient.connect(address)
        await inside.start("taken", QUEUE)
        async with (
            Server("sqlite://?name=own", grpc="127.0.0.1:0") as server,
            RawClient(server.grpc_address) as outside,
        ):
            await outside.start("taken", QUEUE)
            for request in WRONG:
                with pytest.raises(RPCError) as caught:
                    await inside.invoke(request)
                with pytest.raises(RpcError) as expected:
                    await outside.invoke(request)
                assert caught.value.status.name == expected.value.code, request
                kinds = [detail.type_url.rsplit("/", 1)[-1] for detail in caught.value.grpc_status.details]
                assert kinds == [detail.DESCRIPTOR.full_name for detail in expected.value.details]
        await inside.close()

    run(scenario())


def test_what_is_not_there_is_unimplemented(address: str) -> None:
    """A path that nobody serves."""

    async def scenario(client: ProcessClient) -> None:
        with pytest.raises(RPCError) as caught:
            await client.transport.call(
                "x", "/no.Such/Method", GetSystemInfoRequest(), GetSystemInfoResponse, metadata={}, timeout=5
            )
        assert caught.value.status is RPCStatusCode.UNIMPLEMENTED

    with_client(address, scenario)


def test_health(address: str) -> None:
    """Of the server, of its services, and not of others; as a door answers."""

    async def scenario(client: ProcessClient) -> None:
        async def check(service: str) -> Any:
            return await client.transport.call(
                "grpc.health.v1.Health",
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest(service=service),
                health_pb2.HealthCheckResponse,
                metadata={},
                timeout=5,
            )

        assert (await check(WORKFLOW_SERVICE)).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(RPCError) as caught:
            await check("whatever")
        assert caught.value.status is RPCStatusCode.NOT_FOUND

    with_client(address, scenario)


def test_clients_of_one_file_share_one_process(tmp_path: Path, address: str) -> None:
    """What one starts the other sees; with the last one the process ends and the file is free, and not before."""

    async def scenario() -> None:
        one, two = await asyncio.gather(ProcessClient.connect(address), ProcessClient.connect(address))
        assert one.pid == two.pid
        started = await one.start("wf", QUEUE)
        await one.close()
        await one.close()
        described = await two.describe("wf")
        assert described.workflow_execution_info.execution.run_id == started.run_id
        pid = two.pid
        assert is_there(pid)
        await two.close()
        assert not is_there(pid)
        assert is_free(tmp_path / "orders.db")
        with pytest.raises(ClientClosedError):
            await two.describe("wf")

    run(scenario())


def test_a_loop_of_another_thread_uses_the_same_client(address: str) -> None:
    """Each loop has a connection of its own; the engine outlives them all until the client is closed."""

    async def scenario(client: ProcessClient) -> None:
        def elsewhere(workflow_id: str) -> None:
            asyncio.run(client.start(workflow_id, QUEUE))

        threads = [threading.Thread(target=elsewhere, args=(f"thread-{number}",)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        for number in range(3):
            assert (await client.describe(f"thread-{number}")).workflow_execution_info.execution.run_id

    with_client(address, scenario)


def test_the_loop_that_connected_may_end(address: str) -> None:
    """The engine belongs to no loop."""
    client = asyncio.run(ProcessClient.connect(address))

    async def scenario() -> None:
        await client.start("wf", QUEUE)
        await client.close()

    run(scenario())


def test_the_last_to_close_lets_calls_finish_and_ends_polls_empty(address: str) -> None:
    """Draining: no answer is lost, no poll waits on."""

    async def scenario() -> None:
        client = await ProcessClient.connect(address)
        await client.start("wf", QUEUE)
        poll = asyncio.create_task(client.poll_workflow_task("other", timeout_s=60))
        starts = [asyncio.create_task(client.start(f"wf-{number}", "other")) for number in range(20)]
        await asyncio.sleep(0)
        await client.close()
        assert all(start.run_id for start in await asyncio.gather(*starts))
        assert (await poll).task_token == b"" or (await poll).workflow_execution.workflow_id

    run(scenario())


def test_closing_one_of_two_ends_its_calls(address: str) -> None:
    """As its user said; the other's go on."""

    async def scenario(other: ProcessClient) -> None:
        client = await ProcessClient.connect(address)
        poll = asyncio.create_task(client.poll_workflow_task(QUEUE, timeout_s=60))
        await client.call(DescribeNamespaceRequest(namespace="default"), Message)
        await client.close()
        with pytest.raises(RPCError) as caught:
            await poll
        assert caught.value.status is RPCStatusCode.CANCELLED
        await other.start("wf", QUEUE)
        assert (await other.poll_workflow_task(QUEUE, timeout_s=10)).workflow_execution.workflow_id == "wf"

    with_client(address, scenario)


@pytest.mark.parametrize("timeout_s", [-1, 0.05, 2.1])
def test_the_deadline_ends_a_call_of_an_engine_that_stands_still(address: str, timeout_s: float) -> None:
    """With the status of gRPC; when the engine goes on, so do calls."""

    async def scenario(client: ProcessClient) -> None:
        os.kill(client.pid, signal.SIGSTOP)
        with pytest.raises(RPCError, match="Deadline Exceeded") as caught:
            await client.call(DescribeNamespaceRequest(namespace="default"), Message, timeout_s=timeout_s)
        assert caught.value.status is RPCStatusCode.DEADLINE_EXCEEDED
        os.kill(client.pid, signal.SIGCONT)
        await client.start("wf", QUEUE)

    with_client(address, scenario)


def test_a_cancelled_poll_takes_no_task(address: str) -> None:
    """The engine hears of it before it hears of the next call."""

    async def scenario(client: ProcessClient) -> None:
        poll = asyncio.create_task(client.poll_workflow_task(QUEUE, timeout_s=60))
        await client.call(DescribeNamespaceRequest(namespace="default"), Message)
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        await client.start("wf", QUEUE)
        task = await client.poll_workflow_task(QUEUE, timeout_s=10)
        assert (task.workflow_execution.workflow_id, task.attempt) == ("wf", 1)

    with_client(address, scenario)


def test_large_messages_come_whole(address: str) -> None:
    """In many pieces, either way, with small ones in between."""

    async def scenario(client: ProcessClient) -> None:
        inputs = {f"wf-{number}": bytes([number]) * (number * 150_000) for number in range(8)}
        await asyncio.gather(
            *(
                client.start(name, QUEUE, input=Payloads(payloads=[Payload(data=data)]))
                for name, data in inputs.items()
            )
        )
        for name, data in inputs.items():
            begun = (await client.history(name))[0].workflow_execution_started_event_attributes
            assert begun.input.payloads[0].data == data

    with_client(address, scenario)


def test_namespaces_of_the_address_are_created(tmp_path: Path, address: str) -> None:
    """Also those of a client that comes later."""

    async def scenario(client: ProcessClient) -> None:
        await client.call(DescribeNamespaceRequest(namespace="default"), Message)
        later = await ProcessClient.connect(f"{address}&namespace=sales&namespace=stock")
        for name in ("sales", "stock"):
            await later.call(DescribeNamespaceRequest(namespace=name), Message)
        await later.close()

    with_client(address, scenario)


# --- when something ends


def test_a_call_on_a_connection_that_was_lost_ends(address: str) -> None:
    """Its engine ended between the choice of the connection and the call: nothing would ever answer."""

    async def scenario(client: ProcessClient) -> None:
        (attempt,) = client.transport._connections.values()
        connection = await attempt
        os.kill(client.pid, signal.SIGKILL)
        await client.connection_is_lost()
        async with asyncio.timeout(20):
            with pytest.raises(RPCError, match="process ended") as caught:
                await connection.call("/x", b"", {}, None)
        assert caught.value.status is RPCStatusCode.UNAVAILABLE

    with_client(address, scenario)


def test_an_engine_that_is_killed_is_started_anew(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Calls under way fail as they do when a server is gone; the next one finds all that was acknowledged."""

    async def scenario(client: ProcessClient) -> None:
        await client.start("wf", QUEUE)
        poll = asyncio.create_task(client.poll_workflow_task("other", timeout_s=60))
        await client.describe("wf")
        process = client.transport.engine.running().result()
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(RPCError, match="process ended") as caught:
            await poll
        assert caught.value.status is RPCStatusCode.UNAVAILABLE
        await asyncio.wrap_future(process.ended)
        await client.describe("wf")
        assert client.pid != process.pid
        assert "killed by SIGKILL" in caplog.text

    with caplog.at_level(logging.WARNING, "perdure"):
        with_client(address, scenario)


def test_an_engine_that_cannot_be_started_again_is_unavailable(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says why; it is one that calls are repeated after."""

    async def scenario(client: ProcessClient) -> None:
        process = client.transport.engine.running().result()
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.wrap_future(process.ended)
        await client.connection_is_lost()
        monkeypatch.setattr(engine_processes, "get_executable", lambda: str(tmp_path / "nowhere"))
        with pytest.raises(RPCError, match="cannot be started") as caught:
            await client.describe("wf")
        assert caught.value.status is RPCStatusCode.UNAVAILABLE
        monkeypatch.undo()
        await client.start("wf", QUEUE)

    with_client(address, scenario)


def test_signals_for_all_of_a_terminal_or_a_service_leave_the_engine_to_its_parent(address: str) -> None:
    """Ctrl-C and a supervisor's SIGTERM reach both: the parent has things to finish with the engine's help."""

    async def scenario(client: ProcessClient) -> None:
        before = client.pid
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(before, number)
        await client.start("wf", QUEUE)
        assert client.pid == before

    with_client(address, scenario)


def test_an_engine_ends_with_a_parent_that_is_killed(tmp_path: Path, address: str) -> None:
    """Nothing is left behind, and the next process has the file."""
    parent = program(address, "wait")
    end = _End(int(line(parent)))
    parent.kill()
    parent.communicate()

    async def scenario(client: ProcessClient) -> None:
        await client.describe("wf")

    with_client(address, scenario)
    end.wait()


def test_a_program_that_closes_nothing_leaves_nothing_behind(tmp_path: Path, address: str) -> None:
    """When it has ended, its engine has too."""
    parent = program(address, "end")
    pid = int(line(parent))
    parent.communicate(timeout=30)
    assert parent.returncode == 0
    assert not is_there(pid)
    assert is_free(tmp_path / "orders.db")


def test_a_forked_child_is_told_and_keeps_no_engine_alive(address: str) -> None:
    """The engine ends with the process that started it, while the child lives on."""
    parent = program(address, "fork")
    end = _End(int(line(parent)))
    child, _, said = line(parent).partition(" ")
    assert "across forks" in said
    try:
        parent.kill()
        end.wait()
        assert is_there(int(child))
    finally:
        os.kill(int(child), signal.SIGKILL)
        parent.communicate()


def test_what_the_engine_logs_reaches_the_users_handlers(caplog: pytest.LogCaptureFixture) -> None:
    """Under the name of its logger, with the traceback."""
    with caplog.at_level(logging.INFO, "perdure.store"):
        engine_processes._log("perdure.store.x", logging.ERROR, "a defect", "Traceback: ...")
        engine_processes._log("perdure.store.x", logging.DEBUG, "not asked for", None)
    assert [(record.name, record.getMessage(), record.exc_text) for record in caplog.records] == [
        ("perdure.store.x", "a defect", "Traceback: ...")
    ]


def test_a_filter_that_fails_does_not_end_the_thread_that_waits(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The record is dropped; the process is followed to its end."""
    failed: list[str] = []

    def broken(record: logging.LogRecord) -> bool:
        failed.append(record.getMessage())
        raise ValueError(record)

    async def scenario(client: ProcessClient) -> None:
        await client.call(DescribeNamespaceRequest(namespace="default"), Message)

    logger = logging.getLogger("perdure.store.sqlite.opening")
    logger.addFilter(broken)
    try:
        with caplog.at_level(logging.INFO, "perdure"):
            with_client(address, scenario)
    finally:
        logger.removeFilter(broken)
    assert failed


def test_migrations_are_logged_here(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """From the engine's process to the handlers of this one."""

    async def scenario(client: ProcessClient) -> None:
        await client.call(DescribeNamespaceRequest(namespace="default"), Message)

    with caplog.at_level(logging.INFO, "perdure"):
        with_client(address, scenario)
    assert "Migrating the database" in caplog.text
