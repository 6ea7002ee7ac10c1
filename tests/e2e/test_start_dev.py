"""`perdure server start-dev` as a process: what it says, when it is ready, how it stops, how it refuses to start."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest
from google.protobuf.message import Message
from temporalio import workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from examples.ports import free_port
from tests.support.proto import operatorservice, workflowservice
from tests.support.rpc import RawClient, RpcError
from tests.support.servers import HOST, find_executable

TIMEOUT_S = 60.0
# Far below the minute for which a poll waits, and far above what ending takes on a busy machine.
STOP_BOUND_S = 15.0
# Of processor time. A start takes about half a second of it, and a slow machine may be three times slower.
START_BOUND_S = 2.0
IDLE_MEMORY_MB = 120
ATTEMPTS = 5


class Process:
    """A server whose banner has been read."""

    def __init__(self, popen: subprocess.Popen[str], banner: str) -> None:
        self.popen = popen
        self.banner = banner
        address = re.search(r"^Server: +(\S+):(\d+)$", banner, re.MULTILINE)
        assert address, banner
        self.port = int(address[2])

    @property
    def address(self) -> str:
        """host:port."""
        return f"{HOST}:{self.port}"

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, float, str]:
        """Sends a signal: exit code, seconds it took, and everything written to stderr."""
        begun = time.monotonic()
        self.popen.send_signal(number)
        _, stderr = self.popen.communicate(timeout=TIMEOUT_S)
        return self.popen.returncode, time.monotonic() - begun, stderr


def _command(*flags: str) -> list[str]:
    return [find_executable("perdure"), "server", "start-dev", "--ip", HOST, *flags]


@contextmanager
def _server(*flags: str, port: int = 0) -> Iterator[Process]:
    """A server on a free port that has said that it serves."""
    popen = subprocess.Popen(
        _command("--port", str(port), *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert popen.stdout is not None
        yield Process(popen, _read_banner(popen.stdout))
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.communicate(timeout=TIMEOUT_S)


def _read_banner(stdout: IO[str]) -> str:
    lines: list[str] = []
    for line in stdout:
        lines.append(line)
        if line.startswith("Persistence:"):
            break
    return "".join(lines)


def _refused(*flags: str) -> str:
    """Starts a server that must not start: the one line it says."""
    done = subprocess.run(_command(*flags), capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await work()

    asyncio.run(bounded())


def _system_info(address: str) -> workflowservice.GetSystemInfoResponse:
    async def call() -> workflowservice.GetSystemInfoResponse:
        async with RawClient(address) as client:
            return await client.call(
                workflowservice.GetSystemInfoRequest(), workflowservice.GetSystemInfoResponse
            )

    return asyncio.run(call())


def test_a_server_that_has_said_so_serves() -> None:
    with _server("--headless") as server:
        assert "in-memory" in server.banner
        assert "UI" not in server.banner
        assert _system_info(server.address).server_version


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order_while_polls_wait(number: signal.Signals) -> None:
    async def scenario() -> None:
        with _server("--headless") as server:
            async with RawClient(server.address) as client:
                polls = [asyncio.create_task(_poll(client)) for _ in range(3)]
                await _until_pollers_wait(client, len(polls))
                code, seconds, stderr = await asyncio.to_thread(server.end, number)
                assert code == 0
                assert stderr == ""
                assert seconds < STOP_BOUND_S
                for poll in await asyncio.gather(*polls):
                    assert poll.task_token == b""

    _run(scenario)


async def _poll(client: RawClient) -> workflowservice.PollWorkflowTaskQueueResponse:
    return await client.poll_workflow_task("queue", timeout_s=TIMEOUT_S, identity=os.urandom(4).hex())


async def _until_pollers_wait(client: RawClient, number: int) -> None:
    """A poll is not answered before it waits, so a description tells when all do."""
    request = workflowservice.DescribeTaskQueueRequest(namespace="default")
    request.task_queue.name = "queue"
    request.task_queue_type = 1  # type: ignore[assignment]  # workflow
    while True:
        answer = await client.call(request, workflowservice.DescribeTaskQueueResponse)
        if len(answer.pollers) == number:
            return


def test_a_second_signal_ends_it_at_once() -> None:
    with _server("--headless") as server:
        # Stopped, so that both signals are there before the first is handled.
        server.popen.send_signal(signal.SIGSTOP)
        server.popen.send_signal(signal.SIGINT)
        server.popen.send_signal(signal.SIGTERM)
        server.popen.send_signal(signal.SIGCONT)
        server.popen.communicate(timeout=TIMEOUT_S)
        assert server.popen.returncode == 130


def test_requested_namespaces_and_search_attributes_are_there() -> None:
    async def scenario() -> None:
        flags = ("-n", "one", "-n", "two", "--search-attribute", "Colour=Keyword")
        with _server("--headless", *flags) as server:
            async with RawClient(server.address) as client:
                listed = await client.call(
                    workflowservice.ListNamespacesRequest(), workflowservice.ListNamespacesResponse
                )
                names = [described.namespace_info.name for described in listed.namespaces]
                assert names == ["default", "one", "two"]
                for described in listed.namespaces:
                    assert described.config.workflow_execution_retention_ttl.seconds == 24 * 3600
                    aliases = described.config.custom_search_attribute_aliases
                    assert dict(aliases) == {"Keyword01": "Colour"}

    _run(scenario)


def test_a_file_keeps_runs_and_definitions_over_restarts(tmp_path: Path) -> None:
    async def scenario() -> None:
        flags = ("--headless", "--db-filename", str(tmp_path / "runs.db"))
        with _server(*flags, "-n", "kept", "--search-attribute", "Colour=Keyword") as server:
            assert "runs.db" in server.banner
            async with RawClient(server.address, namespace="kept") as client:
                started = await client.start("flow", "queue")
            assert (await asyncio.to_thread(server.end))[0] == 0
        with _server(*flags) as server:
            async with RawClient(server.address, namespace="kept") as client:
                described = await client.describe("flow")
                assert described.workflow_execution_info.execution.run_id == started.run_id
                namespace = await client.call(
                    workflowservice.DescribeNamespaceRequest(namespace="kept"),
                    workflowservice.DescribeNamespaceResponse,
                )
                assert "Colour" in namespace.config.custom_search_attribute_aliases.values()

    _run(scenario)


def test_dynamic_values_take_effect() -> None:
    async def scenario() -> None:
        with _server("--headless", "--dynamic-config-value", "limit.blobSize.error=1234") as server:
            async with RawClient(server.address) as client:
                described = await client.call(
                    workflowservice.DescribeNamespaceRequest(namespace="default"),
                    workflowservice.DescribeNamespaceResponse,
                )
                assert described.namespace_info.limits.blob_size_limit_error == 1234

    _run(scenario)


def test_what_has_no_effect_is_said_once_and_unknown_keys_only_on_demand() -> None:
    flags = ("--metrics-port", "1", "--dynamic-config-value", "frontend.unknownKey=1")
    with _server(*flags) as server:
        _, _, stderr = server.end()
        assert stderr.count("--metrics-port") == 1
        assert "unknownKey" not in stderr
    with _server(*flags, "--log-level", "info", "--log-format", "pretty") as server:
        _, _, stderr = server.end()
        assert stderr.count("frontend.unknownKey") == 1


def test_a_port_in_use_is_refused_in_one_line() -> None:
    with _server("--headless") as server:
        line = _refused("--headless", "--port", str(server.port))
        assert line.startswith(
            f"Error: cannot listen on {server.address}: Address already in use. Perhaps a server"
        )
        assert _system_info(server.address).server_version


def test_a_file_in_use_is_refused_in_one_line_and_its_server_goes_on(tmp_path: Path) -> None:
    path = str(tmp_path / "runs.db")
    with _server("--headless", "--db-filename", path) as server:
        line = _refused("--headless", "--db-filename", path, "--port", str(free_port()))
        assert line.startswith("Error: ")
        assert path in line
        assert "in use" in line
        assert _system_info(server.address).server_version


def test_files_that_are_not_ours_are_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but more than enough bytes to look like one\n" * 20)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    for path in (text, foreign):
        before = path.read_bytes()
        line = _refused("--headless", "--db-filename", str(path), "--port", str(free_port()))
        assert line.startswith("Error: ")
        assert str(path) in line
        assert path.read_bytes() == before
    missing = tmp_path / "no-such-folder" / "runs.db"
    assert "no-such-folder" in _refused("--headless", "--db-filename", str(missing))


async def _repeat(client: RawClient, request: Message) -> None:
    """Asks until there is an error: for the end of something that happens in the background."""
    while True:
        await client.invoke(request)


@workflow.defn
class Greeting:
    """Answers without any activity."""

    @workflow.run
    async def run(self, name: str) -> str:
        """The greeting."""
        return f"hello {name}"


@pytest.mark.parametrize("ui", [False, True], ids=["headless", "with UI flags"])
def test_the_official_sdk_starts_it_in_the_place_of_the_official_server(ui: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        environment = await WorkflowEnvironment.start_local(
            dev_server_existing_path=find_executable("perdure"),
            dev_server_database_filename=str(tmp_path / "runs.db"),
            dev_server_startup_timeout=timedelta(seconds=TIMEOUT_S),
            namespace="mine",
            ui=ui,
        )
        async with environment as env:
            assert await env.client.service_client.check_health()
            async with Worker(env.client, task_queue="queue", workflows=[Greeting]):
                result = await env.client.execute_workflow(
                    Greeting.run,
                    "you",
                    id="greeting",
                    task_queue="queue",
                    execution_timeout=timedelta(seconds=TIMEOUT_S),
                )
            assert result == "hello you"
            assert (await env.client.count_workflows()).count == 1

    _run(scenario)


def test_a_deleted_namespace_disappears_with_its_runs() -> None:
    async def scenario() -> None:
        with _server("--headless", "-n", "old") as server:
            async with RawClient(server.address, namespace="old") as client:
                await client.start("flow", "queue")
                deleted = await client.call(
                    operatorservice.DeleteNamespaceRequest(namespace="old"),
                    operatorservice.DeleteNamespaceResponse,
                )
                gone = workflowservice.DescribeNamespaceRequest(namespace=deleted.deleted_namespace)
                with pytest.raises(RpcError, match="NOT_FOUND"):
                    await _repeat(client, gone)

    _run(scenario)


@pytest.mark.serial
def test_it_starts_quickly_and_is_small(tmp_path: Path) -> None:
    """By the processor time of its start, in one of a few attempts: other work on the machine only adds to it."""
    attempts = (_seconds_to_first_answer(str(tmp_path / f"{number}.db")) for number in range(ATTEMPTS))
    assert any(seconds < START_BOUND_S for seconds in attempts)
    with _server("--headless", "--db-filename", str(tmp_path / "memory.db")) as server:
        _system_info(server.address)
        status = Path(f"/proc/{server.popen.pid}/status").read_text()
        resident = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert resident
        assert int(resident[1]) / 1024 < IDLE_MEMORY_MB


def _seconds_to_first_answer(path: str) -> float:
    with _server("--headless", "--db-filename", path) as server:
        _system_info(server.address)
        # After the name, which may hold anything: user and system time are the twelfth and thirteenth.
        fields = Path(f"/proc/{server.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
