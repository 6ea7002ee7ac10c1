"""Requests to addresses outside: peers that are slow or send what cannot be read hold nobody up."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from perdure.api.nexus.v1 import Request
from perdure.server import http_calls
from perdure.server.engine.nexus_requests import CONCURRENT_AT_HOST, Lines, host_of
from perdure.server.nexus_remote import HttpRemote
from tests.unit.server.support import run

LIMIT_S = 20


async def _listening(answer: bytes, *, and_then_dribbles: bool = False) -> asyncio.Server:
    """A peer; `and_then_dribbles`: it sends a byte now and then and never ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        try:
            while and_then_dribbles:
                await asyncio.wait_for(reader.read(1), 0.1)
                return
        except TimeoutError:
            while and_then_dribbles and not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                with_pause = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_later(0.1, with_pause.set_result, None)
                await with_pause
        except ConnectionError:
            pass
        finally:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def _url(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _cancellation() -> Request:
    request = Request()
    request.cancel_operation.operation_token = "t"
    return request


def test_peers_that_never_end_end_with_their_callers_and_with_the_server() -> None:
    async def scenario() -> None:
        slow = await _listening(b"HTTP/1.1 202 ok\r\nContent-Length: 100000\r\n\r\n", and_then_dribbles=True)
        remote = HttpRemote()
        async with slow, asyncio.timeout(LIMIT_S):
            calls = [remote.cancel(_url(slow), _cancellation(), 0.3) for _ in range(20)]
            assert None not in await asyncio.gather(*calls)
            waiting = asyncio.create_task(remote.cancel(_url(slow), _cancellation(), LIMIT_S))
            while not remote._calls._open:
                await asyncio.sleep(0)
            remote.close()
            assert await waiting is not None
            assert await remote.cancel(_url(slow), _cancellation(), LIMIT_S) is not None, "it is closed"
        assert not remote._calls._open

    run(scenario())


def test_a_host_that_hangs_delays_nobody_elses_callback() -> None:
    """Each host has its own places, also when there are more calls to a slow one than any pool has."""

    async def scenario() -> None:
        silent = await _listening(b"", and_then_dribbles=True)
        lines = Lines()
        held = asyncio.Event()
        order: list[str] = []

        async def call(url: str, name: str) -> None:
            async with lines.place(host_of(url), CONCURRENT_AT_HOST):
                if name == "slow":
                    await held.wait()
                order.append(name)

        async with silent, asyncio.timeout(LIMIT_S):
            slow = [asyncio.create_task(call(_url(silent), "slow")) for _ in range(3 * CONCURRENT_AT_HOST)]
            await asyncio.sleep(0)
            await call("http://healthy.example:80/path", "healthy")
            assert order == ["healthy"]
            held.set()
            await asyncio.gather(*slow)
        assert not lines._lines, "a destination that nobody asks is forgotten"

    run(scenario())


def test_a_name_that_is_not_resolved_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who ask for one name wait for one look-up."""
    asked: list[str] = []
    gate = threading.Event()

    def look_up(host: str, port: int) -> list[str]:
        asked.append(host)
        if host == "slow.example":
            gate.wait(LIMIT_S)
        return ["127.0.0.1"]

    monkeypatch.setattr(http_calls, "_look_up", look_up)

    async def scenario() -> None:
        healthy = await _listening(b"HTTP/1.1 202 ok\r\nContent-Length: 0\r\n\r\n")
        port = healthy.sockets[0].getsockname()[1]
        remote = HttpRemote()
        async with healthy, asyncio.timeout(LIMIT_S):
            slow = [
                asyncio.create_task(remote.cancel(f"http://slow.example:{port}", _cancellation(), LIMIT_S))
                for _ in range(3 * http_calls.NAME_THREADS)
            ]
            assert await remote.cancel(f"http://healthy.example:{port}", _cancellation(), LIMIT_S) is None
            gate.set()
            assert set(await asyncio.gather(*slow)) == {None}
        remote.close()
        assert asked.count("slow.example") == 1

    run(scenario())


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (b"HTTP/1.1 202 ok\r\nContent-Length: 9\r\n\r\nhalf", "peer closed"),
        (b"no protocol at all\r\n\r\n", "illegal status line"),
        (b"", "without an answer"),
    ],
    ids=["cut off", "something else", "nothing"],
)
def test_an_answer_that_cannot_be_read_is_refused_for_now(said: bytes, means: str) -> None:
    """The request is made again."""

    async def scenario() -> None:
        peer = await _listening(said)
        remote = HttpRemote()
        async with peer:
            refused = await remote.cancel(_url(peer), _cancellation(), LIMIT_S)
        remote.close()
        assert refused is not None
        assert refused.may_retry
        assert re.search(means, refused.failure.message), refused.failure.message

    run(scenario())


def test_headers_of_the_caller_do_not_replace_those_of_the_protocol() -> None:
    """A length that is a lie would be another request."""

    async def scenario() -> None:
        got: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 202 ok\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        request = _cancellation()
        request.header.update({"Content-Length": "999", "Host": "elsewhere", "mine": "x"})
        remote = HttpRemote()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as peer:
            assert await remote.cancel(_url(peer), request, LIMIT_S) is None
            request.header["mine"] = "line\r\nother: x"
            assert await remote.cancel(_url(peer), request, LIMIT_S) is not None
            address = _url(peer)[7:]
        remote.close()
        lines = got[0].decode().lower().split("\r\n")
        assert "mine: x" in lines
        assert "content-length: 0" in lines
        assert [line for line in lines if line.startswith("host:")] == [f"host: {address}"]

    run(scenario())


def test_an_answer_that_is_nested_without_end_is_malformed() -> None:
    async def scenario() -> None:
        body = b"[" * 100_000
        head = f"HTTP/1.1 201 ok\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        peer = await _listening(head.encode() + body)
        request = Request()
        request.start_operation.service = request.start_operation.operation = "o"
        remote = HttpRemote()
        async with peer:
            answer = await remote.start(_url(peer), request, 10, 0)
        remote.close()
        assert "malformed answer" in str(answer)

    run(scenario())
