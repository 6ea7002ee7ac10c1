"""The HTTP/2 transport against a peer made of the h2 library, which checks every frame we send."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.settings import SettingCodes
from h2.settings import Settings as H2Settings

from perdure.api.errordetails.v1 import NamespaceNotFoundFailure
from perdure.api.google.rpc import Status
from perdure.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
    GetSystemInfoResponse,
)
from perdure.service import (
    ClientConnectError,
    ConnectConfig,
    DnsLoadBalancingConfig,
    KeepAliveConfig,
    RPCError,
    RPCStatusCode,
    ServiceClient,
)
from perdure.service.http2.messages import timeout_field
from perdure.service.http2.transport import Http2Transport, address_of

LIMIT_S = 60.0
Settings = dict[SettingCodes, int]
SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
PATH = f"/{SERVICE}/GetSystemInfo"
OK_HEAD = [(":status", "200"), ("content-type", "application/grpc")]
OK_END = [("grpc-status", "0")]


def _message(data: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(data).to_bytes(4, "big") + data


class Peer:
    """One connection of a server that does what a test says with each call.

    Args:
        answer: Called with the peer and the number of the stream once a call is complete.
    """

    def __init__(self, answer: Callable[[Peer, int], Awaitable[None]], settings: Settings) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.answer = answer
        self.settings = settings
        self.headers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.calls: asyncio.Queue[int] = asyncio.Queue()
        self.resets: asyncio.Queue[int] = asyncio.Queue()
        self.widened = asyncio.Event()
        self.credits: list[int] = []
        self.hold_windows = False
        self.writer: Any = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.writer = writer
        self.h2.local_settings = H2Settings(client=False, initial_values=self.settings)
        self.h2.initiate_connection()
        self.flush()
        tasks: set[asyncio.Task[None]] = set()
        while data := await reader.read(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    self.headers[event.stream_id] = {str(k): str(v) for k, v in event.headers}
                    self.bodies[event.stream_id] = bytearray()
                elif isinstance(event, DataReceived):
                    self.bodies[event.stream_id] += event.data
                    if not self.hold_windows:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, WindowUpdated):
                    self.credits += [event.delta] if event.stream_id == 0 else []
                    self.widened.set()
                elif isinstance(event, StreamReset):
                    self.resets.put_nowait(event.stream_id)
                elif isinstance(event, StreamEnded):
                    self.calls.put_nowait(event.stream_id)
                    task = asyncio.ensure_future(self.answer(self, event.stream_id))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            self.flush()
        writer.close()

    def flush(self) -> None:
        """Write what h2 has to say."""
        self.writer.write(self.h2.data_to_send())

    def succeed(self, stream: int, body: bytes = _message(b"")) -> None:
        """Answer a call with success."""
        self.h2.send_headers(stream, OK_HEAD)
        self.h2.send_data(stream, body)
        self.h2.send_headers(stream, OK_END, end_stream=True)
        self.flush()


async def _succeed(peer: Peer, stream: int) -> None:
    peer.succeed(stream, _message(GetSystemInfoResponse(server_version="peer").SerializeToString()))


@asynccontextmanager
async def _peer(
    answer: Callable[[Peer, int], Awaitable[None]] = _succeed,
    *,
    settings: Settings | None = None,
    **config: Any,
) -> AsyncIterator[tuple[Http2Transport, list[Peer]]]:
    """A transport, and the connections that its server has got so far."""
    peers: list[Peer] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(answer, settings or {})
        peers.append(peer)
        await peer.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    connection_settings = ConnectConfig(target, **config)._to_bridge_config()
    address = address_of(connection_settings)
    assert address is not None
    transport = Http2Transport(connection_settings, address)
    try:
        yield transport, peers
    finally:
        await transport.close()
        server.close()


def _run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario

    asyncio.run(bounded())


async def _call(
    transport: Http2Transport, request: Any = None, *, timeout_s: float | None = 10.0, **metadata: Any
) -> GetSystemInfoResponse:
    return await transport.call(
        SERVICE,
        PATH,
        request or GetSystemInfoRequest(),
        GetSystemInfoResponse,
        metadata={key.replace("_", "-"): value for key, value in metadata.items()},
        timeout=timeout_s,
    )


def test_a_call_says_what_it_is_and_gets_its_answer() -> None:
    """Path, deadline, metadata of text and bytes, user agent; one connection for many calls."""

    async def scenario() -> None:
        async with _peer() as (transport, peers):
            answers = await asyncio.gather(
                *(_call(transport, text="t", raw_bin=b"\x00\xff") for _ in range(20))
            )
            assert {answer.server_version for answer in answers} == {"peer"}
            [peer] = peers
            headers = peer.headers[1]
            assert (headers[":method"], headers[":path"], headers["te"]) == ("POST", PATH, "trailers")
            assert headers["grpc-timeout"] == "10000m"
            assert (headers["text"], headers["raw-bin"]) == ("t", "AP8")
            assert headers["user-agent"].startswith("perdure-python/")
            assert bytes(peer.bodies[1]) == _message(b"")

    _run(scenario())


@pytest.mark.parametrize(
    ("seconds", "field"), [(0.0000001, b"1u"), (1.5, b"1500000u"), (70.0, b"70000m"), (1e9, b"99999999m")]
)
def test_deadlines_fit_the_wire(seconds: float, field: bytes) -> None:
    """At most eight digits, rounded up."""
    assert timeout_field(seconds).endswith(field)


def test_an_error_comes_with_message_and_details() -> None:
    """Escapes decoded, details as bytes; also if the answer has trailers only."""
    detail = Status(code=5, message="x")
    detail.details.add().Pack(NamespaceNotFoundFailure(namespace="ns"))

    async def answer(peer: Peer, stream: int) -> None:
        import base64

        encoded = base64.b64encode(detail.SerializeToString()).decode().rstrip("=")
        fields = [
            ("grpc-status", "5"),
            ("grpc-message", "caf%C3%A9 100%25"),
            ("grpc-status-details-bin", encoded),
        ]
        peer.h2.send_headers(stream, [*OK_HEAD, *fields], end_stream=True)
        peer.flush()

    async def scenario() -> None:
        async with _peer(answer) as (transport, _):
            with pytest.raises(RPCError) as caught:
                await _call(transport)
            assert (caught.value.status, caught.value.message) == (RPCStatusCode.NOT_FOUND, "café 100%")
            assert caught.value.grpc_status.details[0].Is(NamespaceNotFoundFailure.DESCRIPTOR)

    _run(scenario())


def test_long_messages_go_through_small_windows_both_ways() -> None:
    """The peer opens its windows bit by bit; ours are wide and are renewed."""
    # Hardly compressible.
    name = random.Random(1).randbytes(200_000).hex()
    version = "v" * 40_000_000

    async def answer(peer: Peer, stream: int) -> None:
        body = memoryview(_message(GetSystemInfoResponse(server_version=version).SerializeToString()))
        peer.h2.send_headers(stream, OK_HEAD)
        while body:
            room = min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size, len(body))
            if not room:
                peer.widened.clear()
                peer.flush()
                await peer.widened.wait()
                continue
            peer.h2.send_data(stream, bytes(body[:room]))
            body = body[room:]
        peer.h2.send_headers(stream, OK_END, end_stream=True)
        peer.flush()

    async def scenario() -> None:
        settings: Settings = {SettingCodes.INITIAL_WINDOW_SIZE: 10_000}
        async with _peer(answer, settings=settings) as (transport, peers):
            for _ in range(2):
                request = DescribeNamespaceRequest(namespace=name)
                answered = await _call(transport, request, timeout_s=LIMIT_S)
                assert answered.server_version == version
            # The wide window of the beginning, and renewals while 80 megabytes came.
            assert len(peers[0].credits) > 3
            assert len(peers[0].bodies[1]) > 10 * 10_000
            sent = [_sent_message(peers[0], stream) for stream in peers[0].bodies]
            assert sent == [DescribeNamespaceRequest(namespace=name).SerializeToString()] * 2

    _run(scenario())


def _sent_message(peer: Peer, stream: int) -> bytes:
    body = bytes(peer.bodies[stream])
    return gzip.decompress(body[5:]) if body[0] else body[5:]


def test_a_compressed_answer_is_read() -> None:
    """With the encoding its head names."""

    async def answer(peer: Peer, stream: int) -> None:
        packed = gzip.compress(GetSystemInfoResponse(server_version="small").SerializeToString())
        peer.h2.send_headers(stream, [*OK_HEAD, ("grpc-encoding", "gzip")])
        peer.h2.send_data(stream, _message(packed, 1))
        peer.h2.send_headers(stream, OK_END, end_stream=True)
        peer.flush()

    async def scenario() -> None:
        async with _peer(answer) as (transport, _):
            assert (await _call(transport)).server_version == "small"

    _run(scenario())


async def _never(peer: Peer, stream: int) -> None:
    """Answer nothing."""


def test_a_late_and_a_cancelled_call_are_taken_back() -> None:
    """The server is told, so that it can stop; the connection goes on."""

    async def scenario() -> None:
        async with _peer() as (transport, peers):
            # A call whose time is over while it still connects has nothing to take back.
            await _call(transport)
            peers[0].answer = _never
            with pytest.raises(RPCError) as caught:
                await _call(transport, timeout_s=0.05)
            assert caught.value.status is RPCStatusCode.DEADLINE_EXCEEDED
            assert await peers[0].resets.get() == 3
            waiting = asyncio.create_task(_call(transport))
            while await peers[0].calls.get() != 5:
                pass
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await peers[0].resets.get() == 5
            peers[0].answer = _succeed
            assert (await _call(transport)).server_version == "peer"
            assert len(peers) == 1

    _run(scenario())


def test_calls_beyond_what_the_server_takes_wait_for_their_turn() -> None:
    """And their deadlines run meanwhile."""

    async def scenario() -> None:
        release = asyncio.Event()

        async def answer(peer: Peer, stream: int) -> None:
            await release.wait()
            await _succeed(peer, stream)

        release.set()
        settings: Settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
        async with _peer(answer, settings=settings) as (transport, peers):
            await _call(transport)
            release.clear()
            calls = [asyncio.create_task(_call(transport)) for _ in range(5)]
            while await peers[0].calls.get() != 5:
                pass
            with pytest.raises(RPCError) as caught:
                await _call(transport, timeout_s=0.05)
            assert caught.value.status is RPCStatusCode.DEADLINE_EXCEEDED
            assert max(peers[0].headers) == 5
            release.set()
            await asyncio.gather(*calls)
            assert max(peers[0].headers) == 11

    _run(scenario())


def test_calls_that_a_leaving_server_did_not_look_at_are_sent_again() -> None:
    """On another connection, and nobody notices."""

    left: list[int] = []

    async def answer(peer: Peer, stream: int) -> None:
        if left:
            await _succeed(peer, stream)
            return
        # The first connection says that it has looked at nothing.
        left.append(stream)
        peer.h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=0)
        peer.flush()
        peer.writer.close()

    async def scenario() -> None:
        async with _peer(answer) as (transport, peers):
            assert (await _call(transport)).server_version == "peer"
            assert len(peers) == 2

    _run(scenario())


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCodes.INTERNAL_ERROR, RPCStatusCode.INTERNAL),
        (ErrorCodes.CANCEL, RPCStatusCode.CANCELLED),
        (ErrorCodes.REFUSED_STREAM, RPCStatusCode.UNAVAILABLE),
    ],
)
def test_a_call_that_the_server_resets_has_a_status(code: ErrorCodes, status: RPCStatusCode) -> None:
    """One that it refused is tried again first, a few times."""

    async def answer(peer: Peer, stream: int) -> None:
        peer.h2.reset_stream(stream, code)
        peer.flush()

    async def scenario() -> None:
        async with _peer(answer) as (transport, _):
            with pytest.raises(RPCError) as caught:
                await _call(transport)
            assert caught.value.status is status

    _run(scenario())


def test_a_reset_at_the_deadline_is_the_deadline() -> None:
    """The server knows it too, and its reset may be read before the client's own timer comes to its turn."""

    async def answer(peer: Peer, stream: int) -> None:
        loop = asyncio.get_running_loop()
        late = loop.time() + 0.05
        while loop.time() < late:
            """It is the client's loop as well: when it goes on, timer and reset are there together."""
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        peer.flush()

    async def scenario() -> None:
        async with _peer(answer) as (transport, _):
            with pytest.raises(RPCError) as caught:
                await _call(transport, timeout_s=0.02)
            assert caught.value.status is RPCStatusCode.DEADLINE_EXCEEDED

    _run(scenario())


def test_a_lost_connection_fails_its_calls_and_the_next_one_makes_another() -> None:
    """UNAVAILABLE, which the service client tries again."""

    async def answer(peer: Peer, stream: int) -> None:
        if stream == 3:
            peer.writer.transport.abort()
        else:
            await _succeed(peer, stream)

    async def scenario() -> None:
        async with _peer(answer) as (transport, peers):
            await _call(transport)
            with pytest.raises(RPCError, match="closed the connection|lost|reset") as caught:
                await _call(transport)
            assert caught.value.status is RPCStatusCode.UNAVAILABLE
            await _call(transport)
            assert len(peers) == 2

    _run(scenario())


def test_a_silent_server_is_noticed() -> None:
    """By a ping that it does not answer."""

    async def scenario() -> None:
        silence = asyncio.Event()

        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # It greets, and then never says anything again.
            writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            await silence.wait()
            writer.close()

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        config = ConnectConfig(
            target, keep_alive_config=KeepAliveConfig(interval_millis=20, timeout_millis=20)
        )
        with pytest.raises(ClientConnectError, match="no sign of life"):
            await ServiceClient.connect(config)
        silence.set()
        server.close()

    _run(scenario())


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"", b"\xff" * 100]
)
def test_what_is_no_grpc_server_is_an_error_that_says_so(greeting: bytes) -> None:
    """A web server, a TLS server, one that hangs up, one that talks nonsense."""

    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(greeting)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ClientConnectError, match="TLS") as caught:
            await ServiceClient.connect(ConnectConfig(target))
        assert target in str(caught.value)
        server.close()

    _run(scenario())


@pytest.mark.parametrize("through", [None, DnsLoadBalancingConfig()], ids=["our-transport", "grpcio"])
@pytest.mark.parametrize(
    ("head", "what_it_is"),
    [
        ([*OK_HEAD, ("grpc-status", "12"), ("grpc-message", "unknown method")], "an old server"),
        ([(":status", "404"), ("content-type", "text/html")], "no gRPC server"),
        ([(":status", "404")], "no gRPC server"),
        ([(":status", "200"), ("content-type", "text/html")], "no gRPC server"),
    ],
)
def test_a_web_server_that_speaks_http2_is_not_taken_for_an_old_server(
    head: list[tuple[str, str]], what_it_is: str, through: DnsLoadBalancingConfig | None
) -> None:
    """Neither knows the call by which a server introduces itself; our transport and grpcio's tell them apart."""

    async def answer(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, head, end_stream=True)
        peer.flush()

    async def scenario() -> None:
        async with _peer(answer) as (transport, _):
            config = ConnectConfig(transport._authority, dns_load_balancing_config=through)
            if what_it_is == "an old server":
                connected: Any = await ServiceClient.connect(config)
                async with connected:
                    assert connected.system_info is None
            else:
                with pytest.raises(
                    ClientConnectError, match="Check that a Perdure or Temporal server answers"
                ):
                    await ServiceClient.connect(config)

    _run(scenario())


def test_one_transport_serves_several_event_loops() -> None:
    """Each with a connection of its own; a loop that is gone leaves nothing behind."""

    async def scenario() -> None:
        async with _peer() as (transport, peers):
            await _call(transport)
            version = await asyncio.to_thread(lambda: asyncio.run(_call(transport)).server_version)
            assert version == "peer"
            assert len(peers) == 2
            await _call(transport)
            assert len(peers) == 2

    _run(scenario())


def test_an_address_that_swallows_connections_does_not_keep_a_name_from_its_next_one() -> None:
    """A name may have an address in a network that is not there: the next one is tried soon, without a timeout."""

    async def scenario() -> None:
        async with _peer() as (transport, peers):
            loop: Any = asyncio.get_running_loop()
            port, transport._host = transport._port, "two.test"
            sock_connect = loop.sock_connect

            async def resolve(*_: object, **__: object) -> list[Any]:
                return [
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
                    for ip in ("192.0.2.1", "127.0.0.1")
                ]

            async def connect(sock: socket.socket, to: Any) -> None:
                if to[0] == "192.0.2.1":
                    await asyncio.Event().wait()
                await sock_connect(sock, to)

            loop.getaddrinfo, loop.sock_connect = resolve, connect
            assert (await _call(transport)).server_version == "peer"
            assert len(peers) == 1

    _run(scenario())


@pytest.mark.parametrize("ips", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
def test_a_refused_connection_is_called_that(ips: list[str]) -> None:
    """Whatever number of addresses the name has: asyncio says which ones, and only by number why."""

    async def scenario() -> None:
        async def resolve(*_: object, **__: object) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 1)) for ip in ips]

        loop: Any = asyncio.get_running_loop()
        loop.getaddrinfo = resolve
        with pytest.raises(
            ClientConnectError, match=r"failed to connect to two\.test:1: Connection refused\. Check"
        ):
            await ServiceClient.connect(ConnectConfig("two.test:1"))

    _run(scenario())
