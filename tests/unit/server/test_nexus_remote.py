"""Requests to addresses outside: peers that are slow or send what cannot be read hold nobody up."""

from __future__ import annotations

import asyncio
import threading

from perdure.api.nexus.v1 import Request
from perdure.server.nexus_remote import THREADS, HttpRemote
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


def test_peers_that_never_end_free_their_threads_when_their_callers_give_up() -> None:
    async def scenario() -> None:
        slow = await _listening(b"HTTP/1.1 202 ok\r\nContent-Length: 100000\r\n\r\n", and_then_dribbles=True)
        healthy = await _listening(b"HTTP/1.1 202 ok\r\nContent-Length: 0\r\n\r\n")
        remote = HttpRemote()
        async with slow, healthy, asyncio.timeout(LIMIT_S):
            calls = [remote.cancel(_url(slow), _cancellation(), 0.5) for _ in range(THREADS + 4)]
            assert None not in await asyncio.gather(*calls)
            assert await remote.cancel(_url(healthy), _cancellation(), 10) is None
            waiting = asyncio.create_task(remote.cancel(_url(slow), _cancellation(), LIMIT_S))
            while not any(request._socket for request in remote._under_way):
                await asyncio.sleep(0)
            remote.close()
            assert await waiting is not None
        names = [thread for thread in threading.enumerate() if thread.name.startswith("perdure-nexus")]
        for thread in names:
            await asyncio.to_thread(thread.join, LIMIT_S)
            assert not thread.is_alive()

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
