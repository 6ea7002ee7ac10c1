"""The transport for connections without TLS: connecting, deadlines, one connection per event loop.

May live here: what a call is made of besides the protocol. May not: frames (`connection`), retries by status.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from perdure import __version__
from perdure.server.doors.http2.hpack_fields import field
from perdure.service._config import CLIENT_NAME, ConnectionSettings
from perdure.service._errors import ClientClosedError, RPCError, RPCStatusCode, closed_under_way
from perdure.service._received import max_receive_bytes, read_message
from perdure.service.http2.connection import Connection, NotProcessedError, Stream
from perdure.service.http2.messages import call_headers, message, read_answer, timeout_field

ResponseT = TypeVar("ResponseT", bound=Message)
FutureT = TypeVar("FutureT", bound="asyncio.Future[Any]")

_COMPRESS_FROM_BYTES: Final = 16 * 1024
"""Smaller requests cost more to compress than to send, on the near networks where there is no TLS."""
_CONNECT_TIMEOUT_S: Final = 20.0
_NEXT_ADDRESS_S: Final = 0.25
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
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
        self._max_receive_bytes = max_receive_bytes()
        self._compresses = settings.grpc_compression == "gzip"
        accepted = b"identity,gzip" if self._compresses else b"identity"
        self._fields = (_USER_AGENT, field(b"grpc-accept-encoding", accepted))
        self._connections: dict[asyncio.AbstractEventLoop, asyncio.Future[Connection]] = {}
        self._current: tuple[asyncio.AbstractEventLoop, Connection] | None = None
        # Metadata and its header blocks by path, in one attribute: calls of several threads may swap it.
        self._known: tuple[Mapping[str, str | bytes], dict[str, bytes]] = ({}, {})
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
            raise ClientClosedError
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
        return read_message(rpc_path, response_type, answer)

    def _headers(self, path: str, metadata: Mapping[str, str | bytes], compress: bool) -> bytes:
        """The header block of a call; those of calls without metadata of their own are remembered."""
        if compress:
            fields = (*self._fields, field(b"grpc-encoding", b"gzip"))
            return call_headers(self._authority, path, metadata, fields)
        known = self._known
        if known[0] is not metadata:
            known = self._known = (metadata, {})
        blocks = known[1]
        block = blocks.get(path)
        if block is None:
            block = call_headers(self._authority, path, metadata, self._fields)
            if len(blocks) < _MAX_HEADER_BLOCKS:
                blocks[path] = block
        return block

    async def _answer(self, headers: bytes, body: bytes, timeout_s: float | None) -> bytes:
        """Send a call and wait for its answer, with its deadline."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        deadline = _Deadline()
        timer = loop.call_later(timeout_s, deadline.expire) if timeout_s is not None else None
        try:
            for _ in range(_MAX_SENDS):
                current = self._current
                if current is not None and current[0] is loop and current[1].is_usable:
                    connection = current[1]
                else:
                    connection = await deadline.applied_to(loop.create_task(self._connection(loop)))
                if deadline.is_over:
                    raise asyncio.CancelledError
                try:
                    if connection.has_room:
                        stream = await connection.open_stream(headers, body)
                    else:
                        # The deadline ends waiting for room too.
                        turn = deadline.applied_to(loop.create_task(connection.open_stream(headers, body)))
                        stream = await _opened(connection, turn)
                    try:
                        await deadline.applied_to(stream.answered)
                    except asyncio.CancelledError:
                        connection.abandon(stream)
                        raise
                except NotProcessedError:
                    continue
                return read_answer(stream.head or {}, stream.trailers, stream.body, self._max_receive_bytes)
        except asyncio.CancelledError:
            if task is not None and task.cancelling() > before:
                raise
            if deadline.is_over:
                raise _deadline_exceeded() from None
            if self._closed:
                raise closed_under_way() from None
            raise
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
            # A copy: other threads add their loops meanwhile.
            for other in [other for other in list(self._connections) if other.is_closed()]:
                self._connections.pop(other, None)
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
                    lambda: Connection(loop, self._authority, keep_alive),
                    self._host,
                    self._port,
                    **_race(loop),
                )
                try:
                    await connection.wait_for_greeting()
                except asyncio.CancelledError:
                    connection.close(closed_under_way())
                    raise
        except TimeoutError:
            raise self._unreachable("no answer: is it a gRPC server, and does it use TLS?") from None
        except socket.gaierror as error:
            raise self._unreachable(f"there is no such name: {error.strerror or error}") from error
        except OSError as error:
            raise self._unreachable(_reasons(error)) from error
        except (UnicodeError, OverflowError) as error:
            raise self._unreachable(f"this cannot be an address: {error}") from error
        if self._closed:
            connection.close(closed_under_way())
        return connection

    def _unreachable(self, why: str) -> RPCError:
        return RPCError(f"failed to connect to {self._authority}: {why}", RPCStatusCode.UNAVAILABLE, b"")

    async def close(self) -> None:
        """Close the connections; calls in flight end with CANCELLED."""
        self._closed = True
        self._current = None
        here = asyncio.get_running_loop()
        for loop, attempt in list(self._connections.items()):
            if loop.is_closed():
                continue
            if not attempt.done():
                loop.call_soon_threadsafe(attempt.cancel)
            elif not attempt.cancelled() and attempt.exception() is None:
                connection = attempt.result()
                if loop is here:
                    connection.close(closed_under_way())
                else:
                    loop.call_soon_threadsafe(connection.close, closed_under_way())
        self._connections.clear()


class _Deadline:
    """The end of a call's time: it ends whatever the call waits for then."""

    __slots__ = ("_waiting", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._waiting: asyncio.Future[Any] | None = None

    def expire(self) -> None:
        """The time is over."""
        self.is_over = True
        if self._waiting is not None:
            self._waiting.cancel()

    def applied_to(self, waiting: FutureT) -> FutureT:
        """Return what the call waits for next, ended already if the time is over.

        What came before may have been done in the very turn of the loop in which the time was over.
        """
        self._waiting = waiting
        if self.is_over:
            waiting.cancel()
        return waiting


def _race(loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """What makes the loop try a name's next address soon, while one of a network that is not there swallows the first.

    Loops that are not asyncio's own (uvloop) have no such argument.
    """
    return {"happy_eyeballs_delay": _NEXT_ADDRESS_S} if isinstance(loop, asyncio.BaseEventLoop) else {}


def _reasons(error: OSError) -> str:
    """Why no address could be connected to: asyncio says that in numbers, and one text for several addresses."""
    numbers = [error.errno] if error.errno else [int(number) for number in _ERRNO.findall(str(error))]
    return ", ".join(dict.fromkeys(map(os.strerror, numbers))) or str(error)


def _is_usable(attempt: asyncio.Future[Connection]) -> bool:
    return not attempt.cancelled() and attempt.exception() is None and attempt.result().is_usable


async def _opened(connection: Connection, turn: asyncio.Future[Stream]) -> Stream:
    """Wait for a call to begin; one that has begun when the caller is cancelled is ended again."""
    try:
        return await turn
    except asyncio.CancelledError:
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            connection.abandon(turn.result())
        raise


def _deadline_exceeded() -> RPCError:
    return RPCError("Deadline Exceeded", RPCStatusCode.DEADLINE_EXCEEDED, b"")
