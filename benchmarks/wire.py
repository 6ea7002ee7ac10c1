"""The cheapest possible gRPC: unary calls as raw bytes over HTTP/2 frames, for load generation only.

grpc's own Python client costs about 150 µs of CPU per call, more than some servers spend on answering it; on
a small machine the generator would then be what is measured. This speaks just the part of HTTP/2 that unary
gRPC needs: constant header blocks without compression state, one DATA frame a message, large receive windows.
It is strict where a mistake would falsify a measurement (status, stream and window accounting) and refuses
what it does not know.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import cast

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
FLAG_ACK = FLAG_END_STREAM = 0x1
FLAG_END_HEADERS, FLAG_PADDED, FLAG_PRIORITY = 0x4, 0x8, 0x20
SETTING_HEADER_TABLE_SIZE, SETTING_INITIAL_WINDOW_SIZE, SETTING_MAX_FRAME_SIZE = 1, 4, 5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_SIZE = 16_384
TABLE_SIZE_ZERO = b"\x20"
LARGE_WINDOW = 2**31 - 1
WINDOW_REFILL = 2**30

_frame_header = struct.Struct(">HBBBI")
_message_header = struct.Struct(">BI")
OnReply = Callable[[bytes | None, "RpcError | None"], None]


class RpcError(Exception):
    """A call that did not end with status OK: the grpc status number and the server's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"grpc status {status}: {message}")
        self.status = status
        self.message = message


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one HTTP/2 frame."""
    size = len(payload)
    return _frame_header.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings_frame(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame with `values`."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values.items()))


def opening_frames() -> bytes:
    """The frames either side opens with: no dynamic header table, receive windows that never close."""
    return settings_frame({SETTING_HEADER_TABLE_SIZE: 0, SETTING_INITIAL_WINDOW_SIZE: LARGE_WINDOW}) + frame(
        WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGE_WINDOW - DEFAULT_WINDOW)
    )


def literal(name: bytes, value: bytes) -> bytes:
    """Encode a header as an HPACK literal, not indexed, no Huffman coding (under 127 bytes each)."""
    if len(name) > 126 or len(value) > 126:
        raise ValueError("a header of this client must stay under 127 bytes")
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def request_block(path: str, authority: str, timeout_s: int) -> bytes:
    """The constant header block of every call to one method."""
    return b"".join(
        literal(name, value.encode())
        for name, value in (
            (b":method", "POST"),
            (b":scheme", "http"),
            (b":path", path),
            (b":authority", authority),
            (b"te", "trailers"),
            (b"content-type", "application/grpc"),
            (b"grpc-timeout", f"{timeout_s}S"),
            (b"user-agent", "perdure-bench"),
        )
    )


class FrameProtocol(asyncio.Protocol):
    """Splits the byte stream into frames, keeps the windows, sends what one turn of the loop wrote at once."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.outgoing: list[bytes] = []
        self.waiting_for_window: deque[tuple[int, bytes]] = deque()
        self.send_window = DEFAULT_WINDOW
        self.received_since_refill = 0
        self.flush_planned = False
        self.loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; the subclass sends its opening frames."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note why the connection ended."""
        if not self.closed.done():
            self.closed.set_result(str(exc or "connection closed"))

    def send(self, data: bytes) -> None:
        """Queue bytes for the one write at the end of this turn."""
        self.outgoing.append(data)
        if not self.flush_planned:
            self.flush_planned = True
            self.loop.call_soon(self.flush)

    def send_data(self, frames: bytes, data_size: int) -> None:
        """Queue frames of which `data_size` bytes count against the peer's connection window."""
        if self.send_window < data_size or self.waiting_for_window:
            self.waiting_for_window.append((data_size, frames))
            return
        self.send_window -= data_size
        self.send(frames)

    def flush(self) -> None:
        """Write everything queued in one call."""
        self.flush_planned = False
        if self.outgoing and self.transport is not None and not self.closed.done():
            data = b"".join(self.outgoing)
            self.outgoing.clear()
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Handle every complete frame, keep the rest."""
        if self.buffer:
            data = self.buffer + data
        position, end = 0, len(data)
        while end - position >= 9:
            high, low, kind, flags, stream = _frame_header.unpack_from(data, position)
            frame_end = position + 9 + (high << 8 | low)
            if frame_end > end:
                break
            if kind in (DATA, HEADERS):
                start, stop = position + 9, frame_end
                if flags & FLAG_PADDED:
                    stop -= data[start]
                    start += 1
                if kind == HEADERS:
                    if not flags & FLAG_END_HEADERS:
                        raise RpcError(2, "header block in several frames: not supported by this client")
                    if flags & FLAG_PRIORITY:
                        start += 5
                    self.on_headers(stream, data[start:stop], flags & FLAG_END_STREAM)
                else:
                    self.received_since_refill += frame_end - position - 9
                    self.on_data(stream, data[start:stop], flags & FLAG_END_STREAM)
            else:
                self.on_control(kind, flags, stream, data[position + 9 : frame_end])
            position = frame_end
        self.buffer = data[position:]
        if self.received_since_refill > WINDOW_REFILL:
            self.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self.received_since_refill)))
            self.received_since_refill = 0
        self.flush()

    def on_control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Answer the connection's own frames."""
        if kind == SETTINGS and not flags & FLAG_ACK:
            self.send(frame(SETTINGS, FLAG_ACK, 0))
        elif kind == PING and not flags & FLAG_ACK:
            self.send(frame(PING, FLAG_ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self.send_window += struct.unpack(">I", payload)[0] & 0x7FFFFFFF
            while self.waiting_for_window and self.waiting_for_window[0][0] <= self.send_window:
                data_size, frames = self.waiting_for_window.popleft()
                self.send_window -= data_size
                self.send(frames)
        elif kind == RST_STREAM:
            self.on_reset(stream, struct.unpack(">I", payload)[0])
        elif kind == GOAWAY:
            error = struct.unpack(">I", payload[4:8])[0]
            if not self.closed.done():
                self.closed.set_result(
                    f"server said GOAWAY, code {error}: {payload[8:].decode(errors='replace')}"
                )
        elif kind == CONTINUATION:
            raise RpcError(2, "header block in several frames: not supported by this client")

    def on_headers(self, stream: int, block: bytes, end: int) -> None:
        """A header block arrived."""
        raise NotImplementedError

    def on_data(self, stream: int, data: bytes, end: int) -> None:
        """A piece of a message arrived."""
        raise NotImplementedError

    def on_reset(self, stream: int, code: int) -> None:
        """The peer gave up a stream."""
        raise NotImplementedError


class Method:
    """One method of one server: its constant header block."""

    __slots__ = ("block",)

    def __init__(self, path: str, authority: str, timeout_s: int) -> None:
        self.block = request_block(path, authority, timeout_s)


class RawChannel(FrameProtocol):
    """One client connection; `call` sends a unary request and hands the reply to a callback."""

    def __init__(self) -> None:
        super().__init__()
        self.next_stream = 1
        # The first block says that our header table has size 0, whatever the server allows.
        self.first_block_prefix = TABLE_SIZE_ZERO
        self.callbacks: dict[int, OnReply] = {}
        self.messages: dict[int, bytes] = {}
        self.statuses: dict[bytes, tuple[int, str] | None] = {}
        self.calls = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the client preface and settings."""
        super().connection_made(transport)
        self.send(PREFACE + opening_frames())

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every call that still waits."""
        super().connection_lost(exc)
        error = RpcError(14, self.closed.result())
        callbacks, self.callbacks = self.callbacks, {}
        for callback in callbacks.values():
            callback(None, error)

    def call(self, method: Method, request: bytes, on_reply: OnReply) -> None:
        """Send `request`; later `on_reply(reply, None)` or `on_reply(None, error)` runs, once."""
        size = len(request)
        if size + 5 > DEFAULT_FRAME_SIZE:
            raise ValueError(f"a request of {size} bytes does not fit one frame")
        stream = self.next_stream
        self.next_stream = stream + 2
        self.callbacks[stream] = on_reply
        self.calls += 1
        block, total = method.block, size + 5
        if self.first_block_prefix:
            block, self.first_block_prefix = self.first_block_prefix + block, b""
        header_frame = _frame_header.pack(
            len(block) >> 8, len(block) & 0xFF, HEADERS, FLAG_END_HEADERS, stream
        )
        data_frame = _frame_header.pack(total >> 8, total & 0xFF, DATA, FLAG_END_STREAM, stream)
        message = _message_header.pack(0, size)
        self.send_data(b"".join((header_frame, block, data_frame, message, request)), total)

    def unary(self, method: Method, request: bytes) -> asyncio.Future[bytes]:
        """The same as a future, for set-up code."""
        future: asyncio.Future[bytes] = self.loop.create_future()

        def done(reply: bytes | None, error: RpcError | None) -> None:
            if future.done():
                return
            if error is not None or reply is None:
                future.set_exception(error or RpcError(2, "no reply"))
            else:
                future.set_result(reply)

        self.call(method, request, done)
        return future

    def close(self) -> None:
        """Close the connection; waiting calls fail."""
        if self.transport is not None:
            self.transport.close()

    def on_data(self, stream: int, data: bytes, end: int) -> None:
        """Gather the message."""
        known = self.messages.get(stream)
        self.messages[stream] = data if known is None else known + data
        if end:
            self.finish(stream, (2, "stream ended without a status"))

    def on_headers(self, stream: int, block: bytes, end: int) -> None:
        """The trailers end the call. Without a dynamic table equal blocks mean equal headers: remember them."""
        if not end:
            return
        status = self.statuses.get(block)
        if status is None:
            status = decode_status(block)
            if len(self.statuses) < 1_000:
                self.statuses[block] = status
        self.finish(stream, status)

    def on_reset(self, stream: int, code: int) -> None:
        """The server reset a call. After an early answer (code 0) the call is already finished."""
        self.finish(stream, (1, f"stream reset by the server, code {code}"))

    def finish(self, stream: int, status: tuple[int, str]) -> None:
        """Hand the outcome to the caller."""
        callback = self.callbacks.pop(stream, None)
        message = self.messages.pop(stream, None)
        if callback is None:
            return
        if status[0] != 0:
            callback(None, RpcError(*status))
        elif message is None or len(message) < 5 or message[0] != 0:
            callback(None, RpcError(13, "the reply is missing or compressed"))
        else:
            callback(message[5:], None)


def decode_status(block: bytes) -> tuple[int, str]:
    """Read grpc-status and grpc-message out of a header block (slow path: once for each distinct block)."""
    from hpack import Decoder

    headers = {bytes(name): bytes(value) for name, value in Decoder().decode(block, raw=True)}
    if b"grpc-status" not in headers:
        return 2, f"no grpc-status in the trailers (http status {headers.get(b':status', b'?').decode()})"
    return int(headers[b"grpc-status"]), headers.get(b"grpc-message", b"").decode(errors="replace")


async def connect(address: str) -> RawChannel:
    """Open a raw channel to `host:port`; raises OSError when nothing listens."""
    host, _, port = address.rpartition(":")
    _, channel = await asyncio.get_running_loop().create_connection(RawChannel, host, int(port))
    return channel
