"""Listening: accepts connections, moves bytes between transports and state machines, keeps time, stops in order."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Final, cast

from perdure.server.doors.http2.calls import CallsOfConnection, Dispatcher, Routes
from perdure.server.doors.http2.connection import Connection
from perdure.server.doors.http2.frames import ErrorCode
from perdure.server.doors.http2.grpc_messages import Code, StatusError
from perdure.server.doors.http2.limits import (
    DRAIN_PING_S,
    MAX_CONNECTIONS,
    MAX_UNSENT_BYTES,
    TICK_S,
    WRITE_HIGH_WATER_BYTES,
    Limits,
)

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
CLOSE_S: Final = 1.0
"""How long a peer has to read our last words before its connection is cut."""

STOPPING: Final = StatusError(Code.UNAVAILABLE, "the server is stopping")


class Http2Server:
    """A gRPC server.

    Args:
        routes: what is served.
        limits: what peers may ask.
    """

    def __init__(self, routes: Routes, limits: Limits) -> None:
        self._routes = routes
        self._limits = limits
        self._dispatcher: Dispatcher | None = None
        self._transports: set[Transport] = set()
        self._all_gone = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self.port = 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Binds one address and serves.

        Args:
            host: name or address. Of a name with several addresses an IPv4 one is taken.
            port: 0 takes a free one.
            tls: serves TLS; the context must offer `h2` by ALPN.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._dispatcher = Dispatcher(self._routes, self._limits, loop)
        listener = await _bind(host, port)
        try:
            server = self._server = await loop.create_server(
                self._accept, sock=listener, backlog=BACKLOG, ssl=tls, start_serving=False
            )
        except BaseException:  # whatever it was: nobody else would close it
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        try:
            await server.start_serving()
        except BaseException:  # cancelled: it listens already, and nobody else would close it
            server.close()
            raise
        self._ticker = loop.call_later(TICK_S, self._tick)

    def _accept(self) -> Transport:
        dispatcher = cast(Dispatcher, self._dispatcher)
        return Transport(dispatcher, self._transports, self._all_gone)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for transport in list(self._transports):
            transport.tick(now_s)
        self._ticker = loop.call_later(TICK_S, self._tick)

    @property
    def busy_calls(self) -> int:
        """Calls under way."""
        return 0 if self._dispatcher is None else self._dispatcher.budget.calls

    def turn_away(self) -> None:
        """Answers new calls with UNAVAILABLE from now on; those under way go on."""
        if self._dispatcher is not None:
            self._dispatcher.turned_away = STOPPING

    async def stop(self, grace_s: float) -> None:
        """Takes no new connections and calls, lets calls under way finish for `grace_s` seconds, fails the rest."""
        if self._server is None or self._dispatcher is None:
            return
        self._server.close()
        self._server = None
        self.turn_away()
        if self._ticker is not None:
            self._ticker.cancel()
        for transport in list(self._transports):
            transport.leave()
        # Calls that were sent before the peers heard of it still get an answer; no longer than this, though.
        heard_s = min(DRAIN_PING_S, grace_s)
        if not await self._wait_until_gone(heard_s):
            for transport in list(self._transports):
                transport.drain()
            if not await self._wait_until_gone(grace_s - heard_s):
                for transport in list(self._transports):
                    transport.fail_all()
                await self._wait_until_gone(CLOSE_S)
        for transport in list(self._transports):
            transport.abort()
        self._dispatcher.deadlines.close()
        if self._dispatcher.cancelled:
            await asyncio.wait(self._dispatcher.cancelled, timeout=CLOSE_S)

    async def _wait_until_gone(self, timeout_s: float) -> bool:
        if not self._transports:
            return True
        self._all_gone.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_gone.wait()
        except TimeoutError:
            return False
        return True


class Transport(asyncio.Protocol):
    """One connection's bytes: from the transport to the state machine and back.

    Args:
        dispatcher: starts calls.
        connected: this is put in while the connection lasts.
        all_gone: set when `connected` gets empty.
    """

    def __init__(self, dispatcher: Dispatcher, connected: set[Transport], all_gone: asyncio.Event) -> None:
        self._loop = dispatcher.loop
        self._connected = connected
        self._all_gone = all_gone
        self._calls = CallsOfConnection(dispatcher, self.flush_soon)
        self.connection = Connection(self._calls, dispatcher.limits, self._loop.time(), dispatcher.budget)
        self._calls.connection = self.connection
        self._transport: asyncio.Transport | None = None
        self._is_flush_planned = False
        self._is_closing = False
        self._cut: asyncio.TimerHandle | None = None

    @property
    def unsent_bytes(self) -> int:
        """What the transport could not write yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Our own settings are sent together with the first answer, when it is known that the peer speaks HTTP/2."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connected) >= MAX_CONNECTIONS:
            logger.warning("a connection was refused: there are %d", MAX_CONNECTIONS)
            self._transport.abort()
            return
        self._connected.add(self)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.connection.receive(data, self._loop.time())
        self._flush()

    def eof_received(self) -> bool:
        """A peer that sends no more cannot take answers either: gRPC clients never half-close a connection."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends every call."""
        self.connection.lost()
        self._transport = None
        if self._cut is not None:
            self._cut.cancel()
        self._connected.discard(self)
        if not self._connected:
            self._all_gone.set()

    def pause_writing(self) -> None:
        """The transport is full."""
        self.connection.pause()

    def resume_writing(self) -> None:
        """The transport takes more."""
        self.connection.resume()
        self.flush_soon()

    # --- our side

    def flush_soon(self) -> None:
        """Writes what there is at the end of this turn of the loop in one piece, or now if that is worth it."""
        if not self._is_flush_planned:
            self._is_flush_planned = True
            self._loop.call_soon(self._flush_planned)
        elif self.connection.outbox.is_worth_writing:
            self._flush()

    def _flush_planned(self) -> None:
        self._is_flush_planned = False
        self._flush()

    def _flush(self) -> None:
        transport, connection = self._transport, self.connection
        if transport is None or self._is_closing:
            return
        data = connection.take()
        if data and not transport.is_closing():
            transport.write(data)
            if connection.outbox.is_paused and transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                logger.warning("a connection was cut: its peer reads nothing")
                transport.abort()
                return
        if connection.outbox.has_more:
            self.flush_soon()
        elif connection.has_ended:
            self._close(transport)

    def _close(self, transport: asyncio.Transport) -> None:
        """Closes so that the peer can read our last words: closing at once could take them back (TCP reset)."""
        self._is_closing = True
        self._cut_later(transport)
        if not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:
            # The peer was faster: the connection is gone already.
            transport.abort()

    def _cut_later(self, transport: asyncio.Transport) -> None:
        unsent = transport.get_write_buffer_size()

        def cut() -> None:
            # A peer that is still reading gets the rest.
            if transport.get_write_buffer_size() < unsent:
                self._cut_later(transport)
            else:
                transport.abort()

        self._cut = self._loop.call_later(CLOSE_S, cut)

    def tick(self, now_s: float) -> None:
        """Looks at what takes too long."""
        self.connection.tick(now_s)
        self._flush()

    def leave(self) -> None:
        """Asks the peer to go elsewhere with new calls."""
        self.connection.leave(self._loop.time())
        self._flush()

    def drain(self) -> None:
        """Refuses new calls; the connection closes after the last one."""
        self.connection.drain()
        self._flush()

    def fail_all(self) -> None:
        """Fails the calls under way and closes."""
        self._calls.fail_all(STOPPING)
        self.connection.resume()
        self._flush()
        self.connection.end(ErrorCode.NO_ERROR, STOPPING.message)
        self._flush()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()


async def _bind(host: str, port: int) -> socket.socket:
    """A bound socket. A second server on the same port is refused by the system, unlike with SO_REUSEPORT."""
    if not 0 <= port <= 65535:
        # The system would listen at another port, the rest of the division by 65536.
        raise OverflowError("a port is a number from 0 to 65535")
    infos = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = min(infos, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        # Listening begins here, so that a taken port shows as such (bind alone may succeed).
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
