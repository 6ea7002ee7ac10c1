"""Frames between a client and its engine in another process: what they say, and a connection that carries them.

Both sides are of one release and belong to one user. So there is no negotiation, no flow control and no limit but
memory: what strangers may do is the HTTP/2 door's matter.

    header    length of what follows it (uint32), kind (uint8), number of the call (uint32)
    CALL      timeout in seconds (float64; negative: none), path, NUL, request
    METADATA  of the calls from here on: a map of text to text or bytes, in MessagePack
    CANCEL    nobody waits for the call any more
    ANSWER    the response
    FAILURE   a status: code, message and details, in MessagePack
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from enum import IntEnum
from struct import Struct
from typing import Final, cast


class Kind(IntEnum):
    """What a frame says."""

    CALL = 1
    METADATA = 2
    CANCEL = 3
    ANSWER = 4
    FAILURE = 5


TIMEOUT: Final = Struct("<d")
NO_TIMEOUT: Final = -1.0
ENSURE_NAMESPACES: Final = "/perdure.Engine/EnsureNamespaces"
"""Path of the one call that is no RPC: creates the namespaces of a list, in MessagePack, that are not there."""
_HEADER: Final = Struct("<IBI")
_WRITE_AT_PIECES: Final = 16
"""So many pieces (two a frame) are written before the turn of the loop ends: the other side can begin with them."""


class FrameConnection(asyncio.Protocol):
    """One end of a connection.

    Args:
        loop: where it runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()
        self._unsent: list[bytes] = []

    @abstractmethod
    def received(self, kind: int, number: int, body: bytes) -> None:
        """A frame came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Frames can be sent."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone, or this one was closed."""
        self._transport = None
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Cuts what came into frames; what is left of the last waits for the rest of it."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < _HEADER.size or len(rest) < _HEADER.size + _HEADER.unpack_from(rest)[0]:
                return
            data = bytes(rest)
            rest.clear()
        at, end = 0, len(data)
        while end - at >= _HEADER.size:
            length, kind, number = _HEADER.unpack_from(data, at)
            begin = at + _HEADER.size
            if begin + length > end:
                break
            at = begin + length
            self.received(kind, number, data[begin:at])
        rest += data[at:]

    def send(self, kind: Kind, number: int, body: bytes) -> None:
        """Send a frame, when this turn of the loop ends at the latest. Without a peer it is dropped."""
        unsent = self._unsent
        if not unsent:
            self._loop.call_soon(self.flush)
        unsent.append(_HEADER.pack(len(body), kind, number))
        unsent.append(body)
        if len(unsent) >= _WRITE_AT_PIECES:
            self.flush()

    def flush(self) -> None:
        """Send what there is now."""
        if self._unsent and self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def close(self) -> None:
        """Send what there is, and close."""
        self.flush()
        if self._transport is not None:
            self._transport.close()
