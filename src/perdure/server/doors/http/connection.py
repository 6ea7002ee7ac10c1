"""One connection of the HTTP door: how long it may take, and how many there may be. HTTP itself is uvicorn's and h11's.

What this adds: a peer that sends its request, or takes its answer, too slowly loses the connection, and one connection
too many is closed at once. Nothing of requests or routes may live here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 1_000
"""Of one door. Each may hold one request, with a body as long as the door takes."""
HEAD_S: Final = 20.0
"""How long the head of a request may take: from the connection's beginning, or from the first byte of a later one."""
REQUEST_S: Final = 120.0
"""How long the whole request may take."""
STALL_S: Final = 60.0
"""In so many seconds a peer must take something of an answer that waits for it."""
CHECK_S: Final = 5.0
"""How often the times above are looked at."""

_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: 27\r\n\r\n"
    b"the request took too long.\n"
)


class BoundedConnection(H11Protocol):
    """A connection whose peer has limited time. `check` is to be called every `CHECK_S` seconds."""

    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.received_bytes = 0
        self.asked_at_s: float | None = self.loop.time()
        """When the request under way began to come; None while there is none, or all of it is here."""
        self._unsent_bytes = 0
        """The least that waited for the peer since `_taken_at_s`."""
        self._taken_at_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection, or closes it if there are too many."""
        is_one_too_many = len(self.connections) >= MAX_CONNECTIONS
        super().connection_made(transport)
        if is_one_too_many:
            logger.warning("an HTTP connection was refused: there are %d", MAX_CONNECTIONS)
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.received_bytes += len(data)
        if self.asked_at_s is None:
            self.asked_at_s = self.loop.time()
        before = self.conn.their_state
        super().data_received(data)
        after = self.conn.their_state
        if after is h11.IDLE and self.timeout_keep_alive_task is None:
            # The head of a request is waited for, and uvicorn does not count.
            if before is not h11.IDLE:
                self.asked_at_s = self.loop.time()
        elif after is not h11.SEND_BODY:
            self.asked_at_s = None

    def check(self, now_s: float) -> None:
        """Looks at what takes too long."""
        if self.asked_at_s is not None and not self.transport.is_closing():
            limit_s = HEAD_S if self.conn.their_state is h11.IDLE else REQUEST_S
            if now_s - self.asked_at_s >= limit_s:
                logger.info("an HTTP connection was closed: its request took longer than %d s", limit_s)
                # A browser that only connected ahead would take an answer for that of its first request.
                if self.received_bytes and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    self.transport.write(_TOO_SLOW)
                self.transport.close()
        unsent = self.transport.get_write_buffer_size()
        if not self._unsent_bytes or unsent < self._unsent_bytes:
            self._unsent_bytes, self._taken_at_s = unsent, now_s
        elif now_s - self._taken_at_s >= STALL_S:
            logger.info("an HTTP connection was cut: its peer took nothing of an answer for %d s", STALL_S)
            self.transport.abort()
