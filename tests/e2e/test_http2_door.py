"""The HTTP/2 door over real sockets with others' clients: grpc's C library, hyper-h2, the official SDK and CLI.

The door's contract (statuses, limits, health, reflection) is in the tests of the gRPC door; here is what depends on the
transport: sizes, numbers, slow and vanishing callers, stopping.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from perdure.server.config import ServerConfig
from perdure.server.doors.http2 import limits
from perdure.server.doors.http2.calls import Routes
from perdure.server.doors.http2.grpc_messages import StatusError
from perdure.server.doors.http2.headers import RequestHeaders
from perdure.server.doors.http2.limits import Limits
from perdure.server.doors.http2.server import Http2Server, Transport
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.support.servers import find_executable

HOST = "127.0.0.1"
TIMEOUT_S = 60.0
MAX_BYTES = 4 * 1024 * 1024
LARGE_BYTES = 30_000_000
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00"
GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"
"""The beginnings of these frames."""


class Handlers:
    """Routes that do what tests need."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0
        self.changed = asyncio.Condition()
        self.released = asyncio.Event()

    async def echo(self, message: bytes, headers: RequestHeaders) -> bytes:
        """Answers what it was asked."""
        return message

    async def sized(self, message: bytes, headers: RequestHeaders) -> bytes:
        """Answers as many bytes as the message says."""
        return b"x" * int(message)

    async def refuse(self, message: bytes, headers: RequestHeaders) -> bytes:
        """Fails with an unusual status."""
        raise StatusError(5, "größer 100%\n", b"\x08\x05" + b"d" * 100)

    async def wait(self, message: bytes, headers: RequestHeaders) -> bytes:
        """Waits until released; notes a cancellation."""
        await self._count(1, 0)
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            await self._count(-1, 1)
            raise
        return message

    async def _count(self, waiting: int, cancelled: int) -> None:
        async with self.changed:
            self.waiting += waiting
            self.cancelled += cancelled
            self.changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when calls that wait or were cancelled fulfil a condition."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def twice(
        self, messages: AsyncIterator[bytes], headers: RequestHeaders
    ) -> AsyncGenerator[bytes, None]:
        """Answers each message twice."""
        async for message in messages:
            yield message
            yield message

    def routes(self) -> Routes:
        """All of them."""

        def translate(error: Exception, path: str) -> StatusError:
            return error if isinstance(error, StatusError) else StatusError(13, "bug")

        unary = {f"/t/{route.__name__}": route for route in (self.echo, self.sized, self.refuse, self.wait)}
        return Routes(unary, {"/t/twice": self.twice}, translate)


@asynccontextmanager
async def _served() -> AsyncIterator[tuple[Http2Server, Handlers]]:
    handlers = Handlers()
    server = Http2Server(handlers.routes(), Limits(MAX_BYTES))
    await server.start(HOST, 0)
    try:
        yield server, handlers
    finally:
        await server.stop(0)


@asynccontextmanager
async def _channel(server: Http2Server, *options: tuple[str, int], **more: Any) -> AsyncIterator[Any]:
    all_options = [
        ("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1), *options,
    ]  # fmt: skip
    async with grpc.aio.insecure_channel(f"{HOST}:{server.port}", options=all_options, **more) as channel:
        yield channel


def _run(scenario: Callable[[Http2Server, Handlers], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_S), _served() as (server, handlers):
            await scenario(server, handlers)

    asyncio.run(bounded())


# --- grpc's C library


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 300_000, MAX_BYTES])
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_of_every_size_go_both_ways(size: int, compression: Any) -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        async with _channel(server, compression=compression) as channel:
            message = os.urandom(size // 2) + bytes(size - size // 2)
            assert await channel.unary_unary("/t/echo")(message, timeout=TIMEOUT_S) == message

    _run(scenario)


def test_a_large_answer_arrives_whole_while_others_are_answered() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        async with _channel(server) as channel:
            large = channel.unary_unary("/t/sized")(str(LARGE_BYTES).encode(), timeout=TIMEOUT_S)
            small = [channel.unary_unary("/t/echo")(b"%d" % number) for number in range(100)]
            assert await asyncio.gather(*small) == [b"%d" % number for number in range(100)]
            assert await large == b"x" * LARGE_BYTES

    _run(scenario)


def test_the_blocking_client_works() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        def calls() -> None:
            with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
                echo: Any = channel.unary_unary("/t/echo")
                assert [echo(b"%d" % number, timeout=TIMEOUT_S) for number in range(20)] == [
                    b"%d" % number for number in range(20)
                ]
                refuse: Any = channel.unary_unary("/t/refuse")
                with pytest.raises(grpc.RpcError) as caught:
                    refuse(b"", timeout=TIMEOUT_S)
                error: Any = caught.value
                assert error.code() is grpc.StatusCode.NOT_FOUND
                assert error.details() == "größer 100%\n"
                trailers = dict(error.trailing_metadata())
                assert trailers["grpc-status-details-bin"] == b"\x08\x05" + b"d" * 100

        await asyncio.to_thread(calls)

    _run(scenario)


def test_five_hundred_calls_wait_on_one_connection_and_are_released_together() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        async with _channel(server) as channel:
            wait = channel.unary_unary("/t/wait")
            calls = [asyncio.ensure_future(wait(b"%d" % number, timeout=TIMEOUT_S)) for number in range(500)]
            await handlers.until(lambda: handlers.waiting == 500)
            assert await channel.unary_unary("/t/echo")(b"still answering") == b"still answering"
            handlers.released.set()
            assert await asyncio.gather(*calls) == [b"%d" % number for number in range(500)]

    _run(scenario)


@pytest.mark.parametrize("how", ["cancelled", "channel closed", "deadline"])
def test_calls_whose_callers_go_are_cancelled(how: str) -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        async with _channel(server) as channel:
            timeout = 3.0 if how == "deadline" else TIMEOUT_S
            calls = [channel.unary_unary("/t/wait")(b"", timeout=timeout) for _ in range(50)]
            outcomes = [asyncio.ensure_future(call.code()) for call in calls]
            await handlers.until(lambda: handlers.waiting + handlers.cancelled == 50)
            if how == "cancelled":
                for call in calls:
                    call.cancel()
            elif how == "channel closed":
                await channel.close()
            await handlers.until(lambda: handlers.cancelled == 50)
            expected = grpc.StatusCode.DEADLINE_EXCEEDED if how == "deadline" else grpc.StatusCode.CANCELLED
            assert set(await asyncio.gather(*outcomes)) == {expected}

    _run(scenario)


def test_a_request_over_the_limit_is_refused_without_reading_it_all() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        async with _channel(server, ("grpc.max_send_message_length", -1)) as channel:
            for size in (MAX_BYTES + 1, 20 * MAX_BYTES):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary("/t/echo")(bytes(size), timeout=TIMEOUT_S)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                text = f"grpc: received message larger than max ({size} vs. {MAX_BYTES})"
                assert caught.value.details() == text
            assert await channel.unary_unary("/t/echo")(b"next") == b"next"

    _run(scenario)


def test_messages_stream_both_ways() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        async with _channel(server) as channel:
            call = channel.stream_stream("/t/twice")()
            for number in range(200):
                message = b"%d" % number * 2_000
                await call.write(message)
                assert await call.read() == message
                assert await call.read() == message
            await call.done_writing()
            assert await call.read() == grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK

    _run(scenario)


def test_a_stopping_server_finishes_what_it_began_and_then_fails_the_rest() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        async with _channel(server) as channel:
            calls = [channel.unary_unary("/t/wait")(b"done", timeout=TIMEOUT_S) for _ in range(5)]
            outcomes = [asyncio.ensure_future(call.code()) for call in calls]
            await handlers.until(lambda: handlers.waiting == 5)
            stopping = asyncio.ensure_future(server.stop(TIMEOUT_S))
            handlers.released.set()
            assert set(await asyncio.gather(*outcomes)) == {grpc.StatusCode.OK}
            await stopping

    _run(scenario)


# --- a client with hands on the protocol (hyper-h2)


class Peer:
    """A client that decides itself when to read, to acknowledge, and to open its windows."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.data: dict[int, bytearray] = {}
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.is_over = False
        self.is_greedy = True
        """Opens windows again for what it got."""

    @classmethod
    async def connect(cls, server: Http2Server) -> Peer:
        """Connects and says hello."""
        peer = cls(*await asyncio.open_connection(HOST, server.port))
        peer.h2.initiate_connection()
        await peer.flush()
        return peer

    async def flush(self) -> None:
        """Sends what there is to send."""
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    def request(self, path: str, message: bytes, *more: tuple[str, str]) -> int:
        """Queues a call, returns its stream."""
        number: int = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, [
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", HOST),
            ("te", "trailers"), ("content-type", "application/grpc"), *more,
        ])  # fmt: skip
        self.h2.send_data(number, len(message).to_bytes(5, "big") + message, end_stream=True)
        return number

    async def until(self, condition: Callable[[], bool]) -> None:
        """Reads until a condition holds or the server closes."""
        while not condition():
            received = await self.reader.read(65_536)
            if not received:
                self.is_over = True
                assert condition(), "the server closed the connection"
                return
            for event in self.h2.receive_data(received):
                self._note(event)
            await self.flush()

    def _note(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            number = event.stream_id or 0
            self.data.setdefault(number, bytearray()).extend(event.data or b"")
            if self.is_greedy:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
        elif isinstance(event, h2.events.ResponseReceived):
            self.headers[event.stream_id or 0] = dict(event.headers or ())
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers[event.stream_id or 0] = dict(event.headers or ())

    async def ended(self, number: int) -> dict[bytes, bytes]:
        """The trailers of a call, once it has ended."""
        await self.until(lambda: number in self.trailers or b"grpc-status" in self.headers.get(number, {}))
        return self.trailers.get(number) or self.headers[number]

    def close(self) -> None:
        """Cuts the connection."""
        self.writer.transport.abort()


def _only_transport(server: Http2Server) -> Transport:
    (transport,) = server._transports
    return transport


def test_an_answer_that_is_not_taken_waits_and_costs_no_more_than_itself() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        peer = await Peer.connect(server)
        peer.is_greedy = False
        number = peer.request("/t/sized", str(LARGE_BYTES).encode())
        await peer.until(lambda: len(peer.data.get(number, b"")) == 65_535)
        transport = _only_transport(server)
        waiting = transport.connection.outbox.pending_bytes
        assert waiting == LARGE_BYTES + 5 - 65_535
        peer.is_greedy = True
        peer.h2.increment_flow_control_window(2**24)
        peer.h2.increment_flow_control_window(2**24, number)
        await peer.flush()
        assert (await peer.ended(number))[b"grpc-status"] == b"0"
        assert peer.data[number][5:] == b"x" * LARGE_BYTES
        assert transport.connection.outbox.pending_bytes == 0
        peer.close()

    _run(scenario)


def test_a_peer_that_does_not_read_its_socket_fills_no_memory() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        peer = await Peer.connect(server)
        peer.h2.increment_flow_control_window(2**30)
        peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
        numbers = [peer.request("/t/sized", str(LARGE_BYTES).encode()) for _ in range(3)]
        last = peer.request("/t/wait", b"")
        await peer.flush()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await handlers.until(lambda: handlers.waiting == 1)
        transport = _only_transport(server)
        # Everything that could be written has been once the socket is full and nothing is planned any more.
        while not transport.connection.outbox.is_paused:
            await asyncio.sleep(0)
        unsent = transport.unsent_bytes
        assert unsent < limits.WRITE_HIGH_WATER_BYTES + 2 * limits.WRITE_CHUNK_BYTES
        assert transport.connection.outbox.pending_bytes > 2 * LARGE_BYTES
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for number in numbers:
            assert (await peer.ended(number))[b"grpc-status"] == b"0"
            assert len(peer.data[number]) == LARGE_BYTES + 5
        assert last not in peer.trailers
        peer.close()
        await handlers.until(lambda: handlers.cancelled == 1)

    _run(scenario)


def test_a_deadline_is_kept_by_the_server_too() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        peer = await Peer.connect(server)
        number = peer.request("/t/wait", b"", ("grpc-timeout", "80m"))
        await peer.flush()
        assert (await peer.ended(number))[b"grpc-status"] == b"4"
        await handlers.until(lambda: handlers.cancelled == 1)
        assert not server.busy_calls
        peer.close()

    _run(scenario)


@pytest.mark.parametrize("end", ["reset", "lost"])
def test_a_call_that_is_reset_or_lost_is_cancelled(end: str) -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        peer = await Peer.connect(server)
        number = peer.request("/t/wait", b"")
        await peer.flush()
        await handlers.until(lambda: handlers.waiting == 1)
        if end == "reset":
            peer.h2.reset_stream(number)
            await peer.flush()
        else:
            peer.close()
        await handlers.until(lambda: handlers.cancelled == 1)
        peer.close()

    _run(scenario)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((":path", "/t/unheard-of"), {b"grpc-status": b"12"}),
        ((":method", "GET"), {b":status": b"405"}),
        (("content-type", "application/json"), {b":status": b"415"}),
        (("grpc-encoding", "snappy"), {b"grpc-status": b"12", b"grpc-accept-encoding": b"identity,gzip,deflate"}),
        (("grpc-timeout", "soon"), {b"grpc-status": b"13"}),
    ],
)  # fmt: skip
def test_calls_that_cannot_be_served_say_why(more: tuple[str, str], expected: dict[bytes, bytes]) -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        peer = await Peer.connect(server)
        pairs = {
            ":method": "POST", ":scheme": "http", ":path": "/t/echo", ":authority": HOST, "te": "trailers",
            "content-type": "application/grpc",
        } | dict((more,))  # fmt: skip
        number = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(number, list(pairs.items()))
        peer.h2.send_data(number, bytes(5), end_stream=True)
        await peer.flush()
        await peer.ended(number)
        assert expected.items() <= (peer.headers[number] | peer.trailers.get(number, {})).items()
        peer.close()

    _run(scenario)


def test_a_leaving_server_says_so_and_closes_after_the_last_answer() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        peer = await Peer.connect(server)
        peer.request("/t/wait", b"last words")
        await peer.flush()
        await handlers.until(lambda: handlers.waiting == 1)
        stopping = asyncio.ensure_future(server.stop(TIMEOUT_S))
        received = b""
        # The library would close at the first GOAWAY, so the rest is read without it.
        while received.count(GOAWAY) < 2:
            received += await peer.reader.read(65_536)
            if (found := received.find(PING)) >= 0:
                peer.writer.write(PING[:4] + b"\x01" + received[found + 5 : found + 17])
        with pytest.raises(OSError):
            await asyncio.open_connection(HOST, server.port)
        assert not stopping.done()
        handlers.released.set()
        received = await peer.reader.read(-1)
        assert b"last words" in received
        assert b"grpc-status\x010" in received
        await stopping

    _run(scenario)


def test_callers_that_flood_are_cut_off_and_others_are_served() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        peer = await Peer.connect(server)
        peer.writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * (limits.CONTROL_BURST + 2_000))
        while await peer.reader.read(65_536):
            pass
        peer.close()
        async with _channel(server) as channel:
            assert await channel.unary_unary("/t/echo")(b"served", timeout=TIMEOUT_S) == b"served"

    _run(scenario)


def test_an_http1_request_gets_an_answer() -> None:
    async def scenario(server: Http2Server, handlers: Handlers) -> None:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        writer.close()

    _run(scenario)


# --- the official SDK and command line


@workflow.defn(sandboxed=False)
class Greeting:
    """One activity."""

    @workflow.run
    async def run(self, name: str) -> str:
        """Greets."""
        return await workflow.execute_activity(
            greet, name, start_to_close_timeout=timedelta(seconds=TIMEOUT_S)
        )


@activity.defn
async def greet(name: str) -> str:
    """The greeting."""
    return f"Hello, {name}!"


async def _temporal(port: int, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        find_executable("temporal"), *arguments, "--address", f"{HOST}:{port}", "-o", "json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


def test_the_official_python_sdk_and_the_command_line_work() -> None:
    async def scenario() -> None:
        server = Server(MemoryStore(), ServerConfig(host=HOST, port=0), SystemRuntime(), "memory")
        await server.start()
        try:
            client = await Client.connect(f"{HOST}:{server.port}")
            async with Worker(client, task_queue="greetings", workflows=[Greeting], activities=[greet]):
                names = [f"caller {number}" for number in range(20)]
                started = [
                    client.execute_workflow(Greeting.run, name, id=name, task_queue="greetings")
                    for name in names
                ]
                assert await asyncio.gather(*started) == [f"Hello, {name}!" for name in names]
            assert len(json.loads(await _temporal(server.port, "workflow", "list"))) == len(names)
            assert "SERVING" in await _temporal(server.port, "operator", "cluster", "health")
        finally:
            await server.stop(0)

    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await scenario()

    asyncio.run(bounded())
