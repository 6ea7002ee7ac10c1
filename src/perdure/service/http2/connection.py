"""One HTTP/2 connection, seen from the client: streams of unary calls, windows, pings, and how all of it ends.

May live here: the protocol. May not: what a header or a message says (`messages`), or deadlines (`transport`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from hpack import Decoder
from hpack.exceptions import HPACKError

from perdure.server.doors.http2 import frames
from perdure.server.doors.http2.frames import ConnectionBrokenError, ErrorCode
from perdure.service._errors import RPCError, RPCStatusCode
from perdure.service.http2.messages import Headers, reset_error

if TYPE_CHECKING:
    from perdure.service._config import KeepAliveConfig

_STREAM_WINDOW: Final = frames.MAX_WINDOW
"""One call never needs more, so its window is never renewed."""
_CONNECTION_WINDOW: Final = 1 << 30
_CREDIT_STEP: Final = 1 << 24
"""The connection's window is renewed in steps of this size."""
_MAX_FRAME_BYTES: Final = 1 << 20
"""Longest frame we ask for."""
_MAX_HEADER_BLOCK_BYTES: Final = 1 << 20
_MAX_REMEMBERED_BLOCKS: Final = 256
_MAX_REMEMBERED_BLOCK_BYTES: Final = 256
_LAST_STREAM: Final = frames.MAX_STREAM_ID - 2
_GREETING: Final = (
    frames.PREFACE
    + frames.settings(
        {
            # Without a table equal blocks mean equal headers, so a block is decoded once.
            frames.HEADER_TABLE_SIZE: 0,
            frames.ENABLE_PUSH: 0,
            frames.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            frames.MAX_FRAME_SIZE: _MAX_FRAME_BYTES,
        }
    )
    + frames.window_update(0, _CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
)
_EMPTY_TABLE: Final = b"\x20"
"""HPACK's dynamic table size update to 0, before the first header block: we never use a table (RFC 7541, 4.2).

A server that is told so may take equal blocks for equal headers, and decode each of them once; ours does.
"""
_WORTH_WRITING_PIECES: Final = 24
"""What begins in one turn of the loop is written together, but no more than this (eight calls, of three pieces each).

If all calls of a busy worker left at the end of a turn, the server would stand idle during the turn, and the worker
while the server works: two processes would take turns as one.
"""
_HEAD = frames.frame_header


class NotProcessedError(Exception):
    """The server has said that it did not look at this call: it may be sent again on another connection."""


class Stream:
    """One call.

    Attributes:
        answered: done when the answer is complete or the call has failed.
        head: The first header block of the answer.
        trailers: The last one.
        body: What came between them.
    """

    __slots__ = ("answered", "body", "head", "id", "pending", "trailers", "window")

    def __init__(self, number: int, window: int, answered: asyncio.Future[None]) -> None:
        self.id = number
        self.window = window
        self.answered = answered
        self.head: Headers | None = None
        self.trailers: Headers = {}
        self.body = bytearray()
        self.pending: memoryview | None = None
        """What could not be sent yet because of a window."""


class Connection(asyncio.Protocol):
    """A connection to a server; `loop.create_connection` makes it live.

    Args:
        loop: The event loop it belongs to.
        name: The server's address, for messages.
        keep_alive: When a silent server is asked for a sign of life; None means never.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, keep_alive: KeepAliveConfig | None
    ) -> None:
        self._loop = loop
        self._name = name
        self._keep_alive = keep_alive
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._flush_scheduled = False
        self._streams: dict[int, Stream] = {}
        self._next_stream = 1
        self._window = frames.DEFAULT_WINDOW
        self._initial_window = frames.DEFAULT_WINDOW
        self._peer_frame_bytes = frames.DEFAULT_FRAME_BYTES
        self._peer_max_streams = frames.MAX_STREAM_ID
        self._waiting_for_stream: deque[asyncio.Future[None]] = deque()
        self._waiting_for_window: deque[Stream] = deque()
        self._uncredited = 0
        self._decoder = Decoder()
        self._decoder.max_allowed_table_size = 0
        # Not every server announces what follows from our settings anyway: that its table is empty.
        self._decoder.header_table_size = 0
        self._known_blocks: dict[bytes, Headers] = {}
        self._block_of: tuple[int, int] | None = None
        self._block = bytearray()
        self._greeted = False
        self._greeting: asyncio.Future[None] = loop.create_future()
        self._draining = False
        self._failure: RPCError | None = None
        self._heard = True
        self._ping_timer: asyncio.TimerHandle | None = None

    # --- for the transport

    @property
    def is_usable(self) -> bool:
        """Whether further calls can be made on it."""
        return self._failure is None and not self._draining and self._next_stream <= _LAST_STREAM

    async def wait_for_greeting(self) -> None:
        """Wait for the server's settings: only then is it known what it is and how much it takes.

        Raises:
            RPCError: What answers is no gRPC server, or it has gone already.
        """
        if not self._greeted:
            await self._greeting

    @property
    def has_room(self) -> bool:
        """Whether `open_stream` begins a call at once, without waiting for others to end."""
        return len(self._streams) < self._peer_max_streams

    async def open_stream(self, headers: bytes, body: bytes) -> Stream:
        """Begin a call. Its answer is there when `answered` is done.

        Args:
            headers: The header block.
            body: The message.

        Raises:
            NotProcessedError: The connection takes no more calls.
            RPCError: The connection is lost.
        """
        while len(self._streams) >= self._peer_max_streams and self.is_usable:
            turn = self._loop.create_future()
            self._waiting_for_stream.append(turn)
            await turn
        if self._failure is not None:
            raise RPCError(self._failure.message, self._failure.status, b"")
        if not self.is_usable:
            raise NotProcessedError
        number = self._next_stream
        self._next_stream = number + 2
        if number == 1:
            headers = _EMPTY_TABLE + headers
        stream = self._streams[number] = Stream(number, self._initial_window, self._loop.create_future())
        self._out.append(frames.header_frames(number, headers, False, self._peer_frame_bytes))
        size = len(body)
        if size <= self._window and size <= stream.window and size <= self._peer_frame_bytes:
            self._window -= size
            stream.window -= size
            self._out.append(_HEAD.pack(size >> 8, size & 0xFF, frames.DATA, frames.END_STREAM, number))
            self._out.append(body)
        else:
            stream.pending = memoryview(body)
            self._send_pending(stream)
        self._schedule_flush()
        return stream

    def abandon(self, stream: Stream) -> None:
        """End a call whose answer is not wanted any more."""
        if self._streams.pop(stream.id, None) is not None:
            self._write(frames.rst_stream(stream.id, ErrorCode.CANCEL))
            self._stream_ended()

    def close(self, error: RPCError) -> None:
        """End the connection; calls under way fail with `error`."""
        if self._failure is None:
            self._write(frames.goaway(0, ErrorCode.NO_ERROR))
            self._flush()
        self._fail(error)

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._out.insert(0, _GREETING)
        self._flush()
        self._schedule_ping()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        why = f": {exc}" if exc else ""
        if not self._greeted:
            why = " before greeting: it may expect TLS, or be no gRPC server"
        self._fail(RPCError(f"{self._name} closed the connection{why}", RPCStatusCode.UNAVAILABLE, b""))

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self._heard = True
        buffer = self._buffer
        buffer += data
        position, end = 0, len(buffer)
        try:
            while end - position >= frames.HEADER_BYTES:
                high, low, kind, flags, stream_id = _HEAD.unpack_from(buffer, position)
                size = high << 8 | low
                self._check_frame(size, kind)
                after = position + frames.HEADER_BYTES + size
                if after > end:
                    break
                payload = bytes(buffer[position + frames.HEADER_BYTES : after])
                position = after
                self._take(kind, flags, stream_id & frames.MAX_STREAM_ID, payload)
        except ConnectionBrokenError as error:
            self._broken(error)
            return
        del buffer[:position]

    def _check_frame(self, size: int, kind: int) -> None:
        if not self._greeted and kind != frames.SETTINGS:
            raise ConnectionBrokenError(
                ErrorCode.PROTOCOL_ERROR,
                "it does not speak HTTP/2 without TLS: it is no gRPC server, or it uses TLS",
            )
        if size > _MAX_FRAME_BYTES:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
        if self._block_of is not None and kind != frames.CONTINUATION:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "a frame inside a header block")

    # --- frames

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.DATA:
            self._take_data(flags, stream_id, payload)
        elif kind == frames.HEADERS:
            self._block_of = (stream_id, flags & frames.END_STREAM)
            self._take_block(frames.unpadded(kind, flags, payload), flags)
        elif kind == frames.CONTINUATION:
            self._take_block(payload, flags)
        elif kind == frames.WINDOW_UPDATE:
            self._take_window(stream_id, payload)
        elif kind == frames.PING:
            if not flags & frames.ACK:
                self._write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.SETTINGS:
            if not flags & frames.ACK:
                self._take_settings(payload)
            if not self._greeted:
                self._greeted = True
                if not self._greeting.done():
                    self._greeting.set_result(None)
        elif kind == frames.RST_STREAM:
            self._take_reset(stream_id, payload)
        elif kind == frames.GOAWAY:
            self._take_goaway(payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "a push, which we had switched off")
        # Frames of unknown kinds, and PRIORITY, mean nothing to us.

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._uncredited += len(payload)
        if self._uncredited >= _CREDIT_STEP:
            self._write(frames.window_update(0, self._uncredited))
            self._uncredited = 0
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.body += frames.unpadded(frames.DATA, flags, payload) if flags & frames.PADDED else payload
        if flags & frames.END_STREAM:
            self._end(stream, None)

    def _take_block(self, fragment: bytes, flags: int) -> None:
        if self._block_of is None:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION of nothing")
        self._block += fragment
        if len(self._block) > _MAX_HEADER_BLOCK_BYTES:
            raise ConnectionBrokenError(ErrorCode.ENHANCE_YOUR_CALM, "a header block that is too long")
        if not flags & frames.END_HEADERS:
            return
        (stream_id, ends), self._block_of = self._block_of, None
        headers = self._decoded(bytes(self._block))
        self._block.clear()
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if headers.get(":status", "").startswith("1"):
            return
        stream.trailers = headers
        if stream.head is None:
            stream.head = headers
        if ends:
            self._end(stream, None)

    def _decoded(self, block: bytes) -> Headers:
        headers = self._known_blocks.get(block)
        if headers is None:
            try:
                fields = self._decoder.decode(block)
            except HPACKError as error:
                raise ConnectionBrokenError(
                    ErrorCode.COMPRESSION_ERROR, f"a header block: {error}"
                ) from error
            headers = {str(name): str(value) for name, value in fields}
            if len(block) <= _MAX_REMEMBERED_BLOCK_BYTES and len(self._known_blocks) < _MAX_REMEMBERED_BLOCKS:
                self._known_blocks[block] = headers
        return headers

    def _take_window(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE of another size")
        increment = frames.unsigned.unpack(payload)[0] & frames.MAX_WINDOW
        if stream_id == 0:
            self._window += increment
            if self._window > frames.MAX_WINDOW:
                raise ConnectionBrokenError(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
            for _ in range(len(self._waiting_for_window)):
                self._send_pending(self._waiting_for_window.popleft())
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.window += increment
            if stream.pending is not None and stream not in self._waiting_for_window:
                self._send_pending(stream)

    def _take_settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS of another size")
        for key, value in frames.setting.iter_unpack(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                change, self._initial_window = value - self._initial_window, value
                for stream in list(self._streams.values()):
                    stream.window += change
                    if stream.pending is not None and stream not in self._waiting_for_window:
                        self._send_pending(stream)
            elif key == frames.MAX_FRAME_SIZE:
                self._peer_frame_bytes = min(value, _MAX_FRAME_BYTES)
            elif key == frames.MAX_CONCURRENT_STREAMS:
                self._peer_max_streams = value
                self._wake_waiting()
        self._write(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _take_reset(self, stream_id: int, payload: bytes) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or len(payload) != 4:
            return
        code = frames.unsigned.unpack(payload)[0]
        if code == ErrorCode.NO_ERROR and stream.trailers.get("grpc-status") is not None:
            self._end(stream, None)
        elif code == ErrorCode.REFUSED_STREAM:
            self._end(stream, NotProcessedError())
        else:
            self._end(stream, reset_error(code))

    def _take_goaway(self, payload: bytes) -> None:
        self._draining = True
        last = frames.unsigned.unpack_from(payload)[0] & frames.MAX_STREAM_ID if len(payload) >= 8 else 0
        for stream in [stream for stream in self._streams.values() if stream.id > last]:
            self._end(stream, NotProcessedError())
        self._wake_waiting()
        self._close_if_drained()

    # --- sending

    def _send_pending(self, stream: Stream) -> None:
        """Send what the windows allow of a body; the rest waits."""
        pending = stream.pending
        if pending is None or stream.id not in self._streams:
            return
        while pending:
            size = min(len(pending), self._window, stream.window, self._peer_frame_bytes)
            if size <= 0:
                if self._window <= 0:
                    self._waiting_for_window.append(stream)
                break
            ends = frames.END_STREAM if size == len(pending) else 0
            self._out.append(_HEAD.pack(size >> 8, size & 0xFF, frames.DATA, ends, stream.id))
            self._out.append(bytes(pending[:size]))
            self._window -= size
            stream.window -= size
            pending = pending[size:]
        stream.pending = pending if pending else None
        self._schedule_flush()

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_scheduled_pieces)
        elif len(self._out) >= _WORTH_WRITING_PIECES:
            self._flush()

    def _flush_scheduled_pieces(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._transport is not None and self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
            self._out.clear()

    # --- ends

    def _end(self, stream: Stream, error: Exception | None) -> None:
        self._streams.pop(stream.id, None)
        if not stream.answered.done():
            if error is None:
                stream.answered.set_result(None)
            else:
                stream.answered.set_exception(error)
        if stream.pending is not None and error is None:
            # The server answered without wanting the rest.
            self._write(frames.rst_stream(stream.id, ErrorCode.CANCEL))
        self._stream_ended()

    def _stream_ended(self) -> None:
        if self._waiting_for_stream:
            self._wake_waiting()
        if self._draining:
            self._close_if_drained()

    def _wake_waiting(self) -> None:
        # All of them: those for whom there is no room wait again.
        while self._waiting_for_stream:
            turn = self._waiting_for_stream.popleft()
            if not turn.done():
                turn.set_result(None)

    def _close_if_drained(self) -> None:
        if self._draining and not self._streams and self._transport is not None:
            self._transport.close()

    def _broken(self, error: ConnectionBrokenError) -> None:
        self._write(frames.goaway(0, error.code, str(error)))
        self._flush()
        self._fail(RPCError(f"{self._name}: {error}", RPCStatusCode.UNAVAILABLE, b""))

    def _fail(self, error: RPCError) -> None:
        if self._failure is None:
            self._failure = error
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        if not self._greeted and not self._greeting.done():
            self._greeting.set_exception(RPCError(error.message, error.status, b""))
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            if not stream.answered.done():
                stream.answered.set_exception(RPCError(error.message, error.status, b""))
        self._wake_waiting()
        if self._transport is not None:
            self._transport.close()

    # --- keep-alive

    def _schedule_ping(self) -> None:
        if self._keep_alive is not None:
            self._ping_timer = self._loop.call_later(self._keep_alive.interval_millis / 1000, self._ping)

    def _ping(self) -> None:
        if self._keep_alive is None:
            return
        if self._heard:
            self._heard = False
            self._schedule_ping()
            return
        self._write(frames.frame(frames.PING, 0, 0, bytes(8)))
        self._ping_timer = self._loop.call_later(self._keep_alive.timeout_millis / 1000, self._check_pong)

    def _check_pong(self) -> None:
        if self._heard:
            self._schedule_ping()
            return
        text = f"{self._name} does not answer: no sign of life"
        self._fail(RPCError(text, RPCStatusCode.UNAVAILABLE, b""))
        if self._transport is not None:
            self._transport.abort()
