"""Servers that tests start as programs: whose port it is, and that none is left behind."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

from perdure.testing._processes import Program, free_port

IP = "127.0.0.1"
_STUBBORN = """
import signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)
"""


def _stubborn(port: int) -> Program:
    """A program that listens and does not heed SIGTERM."""
    return Program(sys.executable, ["-c", _STUBBORN, str(port)], IP, port)


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def test_somebody_elses_listener_is_not_taken_for_the_program() -> None:
    """Tests would talk to another server, and end it by nothing."""

    async def scenario() -> None:
        with socket.create_server((IP, 0)) as other:
            program = _stubborn(other.getsockname()[1])
            with pytest.raises(RuntimeError, match="Something listens at .* already"):
                await program.start()

    _run(scenario())


def test_a_stop_that_is_cancelled_leaves_no_program_behind() -> None:
    """Nobody else would end it."""

    async def scenario() -> None:
        program = _stubborn(free_port(IP))
        await program.start()
        assert program._process is not None
        end = os.pidfd_open(program._process.pid)
        try:
            stopping = asyncio.create_task(program.stop())
            await asyncio.sleep(0)
            stopping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopping
            ended, _, _ = await asyncio.to_thread(select.select, [end], [], [], 20)
            assert ended
        finally:
            os.close(end)

    _run(scenario())


@pytest.mark.parametrize("ip", [IP, "::1"])
def test_a_free_port_is_given_to_nobody_else(ip: str) -> None:
    """Between the choice and the program's start others ask the system for a free port, too."""
    port = free_port(ip)
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as other:
        with pytest.raises(OSError, match="Address already in use"):
            other.bind((ip, port))
    # As servers listen: with SO_REUSEADDR.
    socket.create_server((ip, port), family=socket.AF_INET6 if ":" in ip else socket.AF_INET).close()


def test_the_address_of_a_program_can_be_connected_to() -> None:
    """The brackets of IPv6 included."""
    assert Program("server", [], "::1", 7233).address == "[::1]:7233"
    assert Program("server", [], IP, 7233).address == "127.0.0.1:7233"


def test_somebody_who_listens_in_the_place_of_a_program_that_ended_is_not_taken_for_it() -> None:
    """Two that were told the same port: the second one cannot listen, and the first one answers."""

    async def scenario() -> None:
        port = free_port(IP)
        program = Program(
            sys.executable, ["-c", "import sys; sys.stdin.read(); raise SystemExit(3)"], IP, port
        )
        accepts, asked = program._accepts, 0

        async def accepted_by_somebody_else() -> bool:
            nonlocal asked
            asked += 1
            if asked == 1:
                return await accepts()
            assert program._process is not None
            await program._process.wait()
            return True

        program._accepts = accepted_by_somebody_else  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="ended with exit code 3"):
            await program.start()

    _run(scenario())


def test_a_program_that_ends_says_so() -> None:
    """Instead of a minute of waiting."""

    async def scenario() -> None:
        program = Program(sys.executable, ["-c", "raise SystemExit(3)"], IP, free_port(IP))
        with pytest.raises(RuntimeError, match="ended with exit code 3"):
            await program.start()

    _run(scenario())


def test_a_program_that_does_not_heed_the_request_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time."""
    monkeypatch.setattr("perdure.testing._processes.STOP_S", 0.1)

    async def scenario() -> None:
        program = _stubborn(free_port(IP))
        await program.start()
        process = program._process
        assert process is not None
        await program.stop()
        assert process.returncode == -9

    _run(scenario())
