"""Engines in processes of their own: how they start, what keeps them from it, and starts that are given up."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from perdure.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
)
from perdure.client import Client
from perdure.server import Server
from perdure.server.addresses import AddressError, parse_address
from perdure.service import engine_processes, process_transport
from perdure.service._errors import ClientConnectError, RPCError, RPCStatusCode
from perdure.service.process_transport import ProcessTransport
from tests.support.embedded import TransportClient
from tests.support.own_process import (
    ProcessClient,
    is_free,
    is_there,
    line,
    pid_of,
    program,
    with_client,
)
from tests.unit.server.support import run

QUEUE = "own-process-queue"
_SHORTER_THAN_A_WAIT_FOR_THE_FILE_S = 4.0


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, address: str) -> None:
    """With the reason that the engine's process gave."""
    (tmp_path / "orders.db").write_text("not a database" * 1000)
    with pytest.raises(ClientConnectError, match="is not a SQLite database"):
        run(ProcessClient.connect(address))
    assert not engine_processes.of_this_process()


def test_other_options_than_those_it_runs_with_are_refused(address: str) -> None:
    """The pragmas of a file are those of who opened it."""

    async def scenario(client: ProcessClient) -> None:
        await client.call(DescribeNamespaceRequest(namespace="default"), Message)
        with pytest.raises(ClientConnectError, match="with other options"):
            await ProcessClient.connect(f"{address}&synchronous=normal")

    with_client(address, scenario)


def test_a_second_process_on_a_file_is_refused_and_told_who_has_it(address: str) -> None:
    """Whichever way it would run its engine; it is told of the program, which can be stopped, and of the engine."""

    async def scenario(client: ProcessClient) -> None:
        text = f"in use by another process (pid {os.getpid()}, whose engine is process {client.pid})."
        for other in (address, address.partition("?")[0]):
            assert text in await asyncio.to_thread(_tried_elsewhere, other)

    with_client(address, scenario)


def _tried_elsewhere(address: str) -> str:
    """What another process says that connects."""
    program = (
        "import asyncio, sys; from perdure.client import Client; asyncio.run(Client.connect(sys.argv[1]))"
    )
    tried = subprocess.run(
        [sys.executable, "-c", program, address], capture_output=True, text=True, timeout=60, check=False
    )
    return tried.stderr


def test_a_program_with_both_addresses_of_a_file_is_told_so(address: str) -> None:
    """At once: the process that has the file is its own, or its own engine's, and will not let go of it."""
    plain = address.partition("?")[0]

    async def scenario() -> None:
        inside = await TransportClient.connect(plain)
        async with asyncio.timeout(4):
            with pytest.raises(ClientConnectError, match="this program has it open without engine=process"):
                await ProcessClient.connect(address)
        await inside.close()
        beside = await ProcessClient.connect(address)
        with pytest.raises(ClientConnectError, match="this program has it open with engine=process"):
            await TransportClient.connect(plain)
        await beside.close()

    run(scenario())


def test_an_engine_that_is_lost_at_once_is_not_looked_for_elsewhere(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of a server (its address, TLS) is of no use for an engine of the program's own."""

    async def lost(*_: object, **__: object) -> None:
        raise RPCError("the engine's process ended", RPCStatusCode.UNAVAILABLE, b"")

    monkeypatch.setattr(ProcessTransport, "call", lost)
    with pytest.raises(ClientConnectError, match="this program's own: its log says more") as caught:
        run(Client.connect(address))
    assert "TLS" not in str(caught.value)


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_a_connect_that_is_cancelled_leaves_no_process_behind(
    tmp_path: Path, address: str, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far it had come: the process that was starting ends, and no other is started in its stead."""
    begun: list[Any] = []

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen(*args, **options))
        return begun[-1]  # type: ignore[no-any-return]

    _replace(monkeypatch, "subprocess", Popen=start)

    async def scenario() -> None:
        connecting = asyncio.create_task(ProcessClient.connect(address))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting

    run(scenario())
    threads = [thread for thread in threading.enumerate() if thread.name == "perdure engine process"]
    for thread in threads:
        thread.join(20)
    assert all(process.poll() is not None for process in begun), begun
    assert len(begun) <= 1
    assert is_free(tmp_path / "orders.db")


def test_a_process_that_stands_still_at_its_start_is_given_up(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A connect that is cancelled ends within the time of an engine's end, and the process with it."""
    monkeypatch.setattr(process_transport, "END_S", 0.2)
    monkeypatch.setattr(engine_processes, "_PROGRAM", "tests.support.stands_still")
    starting: list[int] = []

    async def scenario() -> None:
        connecting = await _starting(address)
        starting.append(pid_of(engine_processes.of_this_process()[0]))
        connecting.cancel()
        done, _ = await asyncio.wait((connecting,), timeout=20)
        assert done
        assert connecting.cancelled()

    with caplog.at_level(logging.WARNING, "perdure"):
        run(scenario())
    assert not is_there(starting[0])
    assert "is killed" in caplog.text


def test_a_client_that_comes_while_the_last_one_goes_waits_for_the_file(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long calls under way take to end; the program that has the file is this one."""

    async def scenario() -> None:
        first = await ProcessClient.connect(address)
        await first.start("wf", QUEUE)
        before = first.transport.engine.running().result()
        has_ended: list[bool] = []

        def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
            has_ended.append(before.ended.done())
            return subprocess.Popen(*args, **options)

        _replace(monkeypatch, "subprocess", Popen=start)
        closing = asyncio.create_task(first.close())
        await asyncio.sleep(0)
        second = await ProcessClient.connect(address)
        await closing
        assert has_ended == [True]
        assert (await second.describe("wf")).workflow_execution_info.execution.run_id
        await second.close()

    run(scenario())


def test_a_connect_that_is_cancelled_does_not_wait_for_a_file_in_use(address: str) -> None:
    """The process that tries to get it hears that nobody needs it."""

    async def scenario() -> None:
        connecting = await _starting(address)
        connecting.cancel()
        done, _ = await asyncio.wait((connecting,), timeout=_SHORTER_THAN_A_WAIT_FOR_THE_FILE_S)
        assert done
        assert connecting.cancelled()

    other = program(address, "wait")
    try:
        line(other)
        run(scenario())
    finally:
        other.communicate()


def test_a_child_that_is_forked_while_the_engine_starts_keeps_no_engine_alive(address: str) -> None:
    """It has copies of what tells the engine that its parent is there; they are closed in it."""
    forked: list[int] = []

    async def scenario() -> None:
        connecting = await _starting(address)
        forked.append(os.fork())
        if not forked[0]:
            signal.pause()
        client = await connecting
        engine = client.pid
        async with asyncio.timeout(10):
            await client.close()
        assert not is_there(engine)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and a fork: that is what this is about
        try:
            run(scenario())
        finally:
            os.kill(forked[0], signal.SIGKILL)
            os.waitpid(forked[0], 0)


async def _starting(address: str) -> asyncio.Task[ProcessClient]:
    """A connect whose process has begun and is not ready."""
    connecting = asyncio.create_task(ProcessClient.connect(address))
    while not (found := engine_processes.of_this_process()) or not pid_of(found[0]):
        await asyncio.sleep(0)
    return connecting


@pytest.mark.parametrize("executable", ["", "frozen"])
def test_a_program_without_a_python_is_told_so(
    address: str, executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen program would start itself again, and again."""
    monkeypatch.setattr(engine_processes, "get_executable", lambda: executable and sys.executable)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(ClientConnectError, match="multiprocessing.set_executable"):
        run(ProcessClient.connect(address))


def test_the_engine_finds_the_modules_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interactive session and `python -c` look where they stand first."""
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    assert engine_processes._search_path() == f"{os.getcwd()}:/somewhere"


def test_a_module_path_that_is_no_text_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python's own imports do, which ignore it."""
    monkeypatch.setattr(sys, "path", [Path("/somewhere"), "/else"])
    assert engine_processes._search_path() == "/else"


def test_a_program_whose_folder_is_gone_looks_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to be found in it any more."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "path", ["", "/else"])
    assert engine_processes._search_path() == "/else"


@pytest.mark.parametrize(
    ("fails_at", "error"),
    [("subprocess.Popen", ValueError), ("socket.socketpair", OSError), ("threading.Thread", RuntimeError)],
)
def test_whatever_keeps_the_process_from_starting_is_told(
    address: str, fails_at: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptors, no threads, or something nobody thought of: the caller does not wait for ever."""

    def fail(*_: object, **__: object) -> None:
        raise error("no more of these")

    module, _, function = fails_at.partition(".")
    _replace(monkeypatch, module, **{function: fail})

    async def scenario() -> None:
        async with asyncio.timeout(20):
            with pytest.raises(ClientConnectError, match=r"cannot be started: .*no more of these"):
                await ProcessClient.connect(address)

    run(scenario())
    assert not engine_processes.of_this_process()


def _replace(monkeypatch: pytest.MonkeyPatch, module: str, **functions: object) -> None:
    """Functions of a module, for engine processes alone."""
    stand_in = types.SimpleNamespace(**{**vars(getattr(engine_processes, module)), **functions})
    monkeypatch.setattr(engine_processes, module, stand_in)


def test_pragmas_reach_the_engine(tmp_path: Path, address: str) -> None:
    """A wrong one is refused with what can be set."""
    with pytest.raises(ClientConnectError, match="cannot be set"):
        run(ProcessClient.connect(f"{address}&colour=blue"))
    with sqlite3.connect(tmp_path / "orders.db") as connection:
        connection.execute("SELECT 1")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("sqlite://?engine=process", "an engine in memory takes no such option"),
        ("sqlite:///o.db?engine=thread", "the option engine is process, or left out"),
        ("sqlite:///o.db?engine=", "has no value"),
    ],
)
def test_addresses_that_cannot_be(address: str, text: str) -> None:
    """Refused before anything is started."""
    with pytest.raises(AddressError, match=text):
        parse_address(address)


def test_a_server_runs_in_its_own_process() -> None:
    """Its address may not say otherwise."""
    with pytest.raises(AddressError, match="leave engine=process out"):
        Server("sqlite:///o.db?engine=process")
