"""The transport for connections without TLS: connecting, deadlines, one connection per event loop.

May live here: what a call is made of besides the protocol. May not: frames (`connection`), retries by status.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from perdure import __version__
from perdure.server.doors.http2.hpack_fields import field
from perdure.service._config import CLIENT_NAME, ConnectionSettings
from perdure.service._errors import ClientClosedError, RPCError, RPCStatusCode
from perdure.service.http2.connection import Connection, NotProcessedError
from perdure.service.http2.messages import call_headers, message, read_answer, timeout_field

ResponseT = TypeVar("ResponseT", bound=Message)

_MAX_RECEIVE_BYTES: Final = 128 * 1024 * 1024
_MAX_RECEIVE_VARIABLE: Final = "TEMPORAL_MAX_INCOMING_GRPC_BYTES"
_COMPRESS_FROM_BYTES: Final = 16 * 1024
"""Smaller requests cost more to compress than to send, on the near networks where there is no TLS."""
_CONNECT_TIMEOUT_S: Final = 20.0
_MAX_HEADER_BLOCKS: Final = 512
_MAX_SENDS: Final = 3
"""How often a call is sent that servers refuse to look at because they are going away."""
_USER_AGENT: Final = field(b"user-agent", f"{CLIENT_NAME}/{__version__}".encode())


def address_of(settings: ConnectionSettings) -> tuple[str, int] | None:
    """Return host and port if this transport can reach them: no TLS, no proxy, no balancing, a port."""
    if settings.tls_config or settings.http_connect_proxy_config or settings.dns_load_balancing_config:
        return None
    host, _, port = settings.target.rpartition(":")
    if not host or not port.isdigit() or "/" in host or (":" in host and not host.startswith("[")):
        return None
    return host.strip("[]"), int(port)


class Http2Transport:
    """Calls over one connection per event loop, made when it is needed and made anew when it is lost.

    Args:
        settings: Where and how to connect.
        address: Host and port.
    """

    def __init__(self, settings: ConnectionSettings, address: tuple[str, int]) -> None:
        self._settings = settings
        self._host, self._port = address
        self._authority = settings.target
        max_receive = os.environ.get(_MAX_RECEIVE_VARIABLE, "")
        self._max_receive_bytes = int(max_receive) if max_receive.isdigit() else _MAX_RECEIVE_BYTES
        self._compresses = settings.grpc_compression == "gzip"
        accepted = b"identity,gzip" if self._compresses else b"identity"
        self._fields = (_USER_AGENT, field(b"grpc-accept-encoding", accepted))
        self._connections: dict[asyncio.AbstractEventLoop, asyncio.Future[Connection]] = {}
        self._current: tuple[asyncio.AbstractEventLoop, Connection] | None = None
        self._metadata: Mapping[str, str | bytes] | None = None
        self._blocks: dict[str, bytes] = {}
        self._process = os.getpid()
        self._closed = False

    async def call(
        self,
        service: str,
        rpc_path: str,
        request: Message,
        response_type: type[ResponseT],
        *,
        metadata: Mapping[str, str | bytes],
        timeout: float | None,
    ) -> ResponseT:
        """Make one call; see `perdure.service.transport.Transport.call`."""
        if self._closed:
            raise ClientClosedError("This client has been closed; connect a new one.")
        if self._process != os.getpid():
            # The class is the official SDK's choice.
            raise AssertionError(
                "Cannot use client across forks: this process was forked from the one that made the client. "
                "Connect a client in each process."
            )
        data = request.SerializeToString()
        compress = self._compresses and len(data) >= _COMPRESS_FROM_BYTES
        headers = self._headers(rpc_path, metadata, compress)
        if timeout is not None:
            headers += timeout_field(timeout)
        answer = await self._answer(headers, message(data, compress), timeout)
        try:
            return response_type.FromString(answer)
        except DecodeError as error:
            text = f"The answer of {rpc_path} is not a {response_type.__name__}: {error}"
            raise RPCError(text, RPCStatusCode.INTERNAL, b"") from error

    def _headers(self, path: str, metadata: Mapping[str, str | bytes], compress: bool) -> bytes:
        """The header block of a call; those of calls without metadata of their own are remembered."""
        if compress:
            fields = (*self._fields, field(b"grpc-encoding", b"gzip"))
            return call_headers(self._authority, path, metadata, fields)
        if metadata is not self._metadata:
            self._metadata = metadata
            self._blocks = {}
        block = self._blocks.get(path)
        if block is None:
            block = call_headers(self._authority, path, metadata, self._fields)
            if len(self._blocks) < _MAX_HEADER_BLOCKS:
                self._blocks[path] = block
        return block

    async def _answer(self, headers: bytes, body: bytes, timeout_s: float | None) -> bytes:
        """Send a call and wait for its answer, with its deadline."""
        loop = asyncio.get_running_loop()
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            if waiting is not None and not waiting.done():
                waiting.cancel()

        waiting: asyncio.Future[Any] | None = None
        timer = loop.call_later(timeout_s, expire) if timeout_s is not None else None
        try:
            for _ in range(_MAX_SENDS):
                if late:
                    raise asyncio.CancelledError
                current = self._current
                if current is not None and current[0] is loop and current[1].is_usable:
                    connection = current[1]
                else:
                    waiting = loop.create_task(self._connection(loop))
                    connection = await waiting
                try:
                    if connection.has_room:
                        stream = await connection.open_stream(headers, body)
                    else:
                        # The deadline ends waiting for room too.
                        turn = waiting = loop.create_task(connection.open_stream(headers, body))
                        stream = await turn
                    waiting = stream.answered
                    try:
                        await waiting
                    except asyncio.CancelledError:
                        connection.abandon(stream)
                        raise
                except NotProcessedError:
                    continue
                return read_answer(stream.head or {}, stream.trailers, stream.body, self._max_receive_bytes)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not late or (task is not None and task.cancelling()):
                raise
            raise _deadline_exceeded() from None
        except RPCError as error:
            # The server knows the deadline too, and may have ended the call before our timer came to its turn.
            if error.status is RPCStatusCode.CANCELLED and timer is not None and loop.time() >= timer.when():
                raise _deadline_exceeded() from error
            raise
        finally:
            if timer is not None:
                timer.cancel()
        raise RPCError(f"{self._authority} takes no calls: it is going away", RPCStatusCode.UNAVAILABLE, b"")

    async def _connection(self, loop: asyncio.AbstractEventLoop) -> Connection:
        """The loop's connection; calls that need one at the same time share the attempt."""
        attempt = self._connections.get(loop)
        if attempt is not None and attempt.done() and not _is_usable(attempt):
            attempt = None
        if attempt is None:
            for other in [other for other in self._connections if other.is_closed()]:
                del self._connections[other]
            attempt = self._connections[loop] = loop.create_task(self._connect(loop))
            attempt.add_done_callback(_is_usable)
        # One caller's cancellation must not end the attempt of the others.
        connection = await asyncio.shield(attempt)
        self._current = (loop, connection)
        return connection

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        keep_alive = self._settings.keep_alive_config
        limit = self._settings.connect_timeout
        try:
            async with asyncio.timeout(limit.total_seconds() if limit else _CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._authority, keep_alive), self._host, self._port
                )
                try:
                    await connection.wait_for_greeting()
                except asyncio.CancelledError:
                    connection.close(_closed_error())
                    raise
        except TimeoutError:
            raise self._unreachable("no answer: is it a gRPC server, and does it use TLS?") from None
        except socket.gaierror as error:
            raise self._unreachable(f"there is no such name: {error.strerror or error}") from error
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error
        if self._closed:
            connection.close(_closed_error())
        return connection

    def _unreachable(self, why: str) -> RPCError:
        return RPCError(f"failed to connect to {self._authority}: {why}", RPCStatusCode.UNAVAILABLE, b"")

    async def close(self) -> None:
        """Close the connections; calls in flight end with CANCELLED."""
        self._closed = True
        self._current = None
        here = asyncio.get_running_loop()
        for loop, attempt in self._connections.items():
            if loop.is_closed():
                continue
            if not attempt.done():
                loop.call_soon_threadsafe(attempt.cancel)
            elif not attempt.cancelled() and attempt.exception() is None:
                connection = attempt.result()
                if loop is here:
                    connection.close(_closed_error())
                else:
                    loop.call_soon_threadsafe(connection.close, _closed_error())
        self._connections.clear()


def _is_usable(attempt: asyncio.Future[Connection]) -> bool:
    return not attempt.cancelled() and attempt.exception() is None and attempt.result().is_usable


def _deadline_exceeded() -> RPCError:
    return RPCError("Deadline Exceeded", RPCStatusCode.DEADLINE_EXCEEDED, b"")


def _closed_error() -> RPCError:
    return RPCError("the client was closed", RPCStatusCode.CANCELLED, b"")
