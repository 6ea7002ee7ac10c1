"""The server's side of one HTTP/2 connection as a pure state machine: bytes and times in, observer calls and bytes out.

No asyncio, no clock, no transport: its owner feeds it with `receive`, `tick`, `pause`, and writes what `take` returns.
It knows nothing of gRPC beyond which headers a request needs.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Protocol

from perdure.server.doors.http2 import frames
from perdure.server.doors.http2.frames import ConnectionBrokenError, ErrorCode, StreamBrokenError
from perdure.server.doors.http2.headers import HeaderReader, RequestHeaders
from perdure.server.doors.http2.limits import (
    CONNECTION_CREDIT_STEP,
    CONNECTION_WINDOW,
    CONTROL_BURST,
    CONTROLS_PER_S,
    DRAIN_PING_S,
    HANDSHAKE_S,
    KEEPALIVE_TIME_S,
    KEEPALIVE_TIMEOUT_S,
    MAX_ANSWER_HEADER_BYTES,
    MAX_CONTINUATIONS,
    MAX_HEADER_BLOCK_BYTES,
    MAX_HEADER_LIST_BYTES,
    MAX_IDLE_S,
    MAX_PING_STRIKES,
    MAX_REMEMBERED_RESETS,
    MAX_STREAMS,
    REQUEST_S,
    RESET_BURST,
    RESETS_PER_S,
    STALL_BYTES,
    STALL_S,
    STREAM_CREDIT_STEP,
    STREAM_WINDOW_SLACK,
    STREAMS_PER_CONTROL,
    WRITE_CHUNK_BYTES,
    Bucket,
    Budget,
    Limits,
)
from perdure.server.doors.http2.outbox import Outbox

logger = logging.getLogger(__name__)

_KEEPALIVE_PING: Final = b"perdure?"
_DRAIN_PING: Final = b"perdure."
_HTTP1_METHODS: Final = (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC")
_HTTP1_TEXT: Final = b"This port speaks gRPC (HTTP/2 without TLS); it does not answer HTTP/1 requests.\n"
_HTTP1_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
    % (len(_HTTP1_TEXT), _HTTP1_TEXT)
)
_unpack_frame: Final = frames.frame_header.unpack_from

FrameHandler = Callable[[int, int, bytes], None]


class State(Enum):
    """What becomes of new streams."""

    OPEN = "open"
    LEAVING = "leaving"
    """The peer has been told to open no more; those under way to us are still served."""
    DRAINING = "draining"
    """New streams are refused; when the last one ends, the connection has ended."""
    ENDED = "ended"
    """Nothing more is read. What is queued should be written, then the transport closed."""


class Stream:
    """One request and its answer.

    Attributes:
        id: its number.
        headers: of the request.
        opened_at_s: when it began.
        is_complete: the request has come to its end.
        send_window: bytes the peer takes.
        receive_window: bytes the peer may send.
        uncredited: bytes of `receive_window` used up and free to be given back.
        received_bytes: length of the body so far.
        taken_bytes: bytes of the answer's body handed out, for the stall check together with `checked_bytes`.
        pending: what waits of the answer: (is it a header block, bytes, is it the end).
        call: what the observer keeps with it.
    """

    __slots__ = (
        "call", "checked_at_s", "checked_bytes", "headers", "id", "is_complete", "opened_at_s", "pending",
        "receive_window", "received_bytes", "send_window", "taken_bytes", "uncredited",
    )  # fmt: skip

    def __init__(
        self,
        stream_id: int,
        headers: RequestHeaders,
        send_window: int,
        receive_window: int,
        opened_at_s: float,
    ) -> None:
        self.id = stream_id
        self.headers = headers
        self.opened_at_s = opened_at_s
        self.is_complete = False
        self.send_window = send_window
        self.receive_window = receive_window
        self.uncredited = 0
        self.received_bytes = 0
        self.taken_bytes = 0
        self.checked_bytes = 0
        self.checked_at_s = math.inf
        self.pending: deque[tuple[bool, memoryview, bool]] | None = None
        self.call: Any = None


class Observer(Protocol):
    """What a connection tells. May answer at once, from inside these calls."""

    def opened(self, stream: Stream) -> None:
        """A request began; `stream.is_complete` if it has no body."""

    def received(self, stream: Stream, data: bytes) -> None:
        """A piece of its body came, the last one if `stream.is_complete`."""

    def overdue(self, stream: Stream) -> None:
        """Its request is not complete, `REQUEST_S` seconds and more after it began."""

    def writable(self, stream: Stream) -> None:
        """Everything queued so far has been handed out."""

    def closed(self, stream: Stream) -> None:
        """The stream has ended: answered, reset by either side, or lost. Comes once for each one opened."""


class Connection:
    """The state of one connection.

    Args:
        observer: told of streams.
        limits: what the peer may ask.
        now_s: the time, seconds of any steady clock; so are all later times.
        budget: what it shares with other connections, if there are any.
    """

    def __init__(
        self, observer: Observer, limits: Limits, now_s: float, budget: Budget | None = None
    ) -> None:
        self._observer = observer
        self._limits = limits
        self.state = State.OPEN
        self.streams: dict[int, Stream] = {}
        self.outbox = Outbox(self._forget, observer.writable, MAX_ANSWER_HEADER_BYTES, budget or Budget())
        self._stream_window = min(frames.MAX_WINDOW, limits.message_bytes + STREAM_WINDOW_SLACK)
        self._headers = HeaderReader()
        self._preface_left = frames.PREFACE
        self._rest = b""
        self._block: tuple[int, int, bytearray] | None = None
        self._continuations = 0
        self._last_stream_id = 0
        self._last_served_id = 0
        self._ended_early: OrderedDict[int, None] = OrderedDict()
        self._forgotten_id = 0
        self._uncredited = 0
        self._now_s = now_s
        self._heard_at_s = now_s
        self._busy_at_s = now_s
        self._opened_at_s = now_s
        self._left_at_s = math.inf
        self._ping_sent_at_s: float | None = None
        self._pinged_at_s = -math.inf
        self._ping_strikes = 0
        self._resets = Bucket(RESET_BURST, RESETS_PER_S)
        self._controls = Bucket(CONTROL_BURST, CONTROLS_PER_S)
        self._in_order: tuple[FrameHandler, ...] = (
            self._on_data, self._on_headers, self._on_priority, self._on_reset, self._on_settings,
            self._on_push_promise, self._on_ping, self._on_goaway, self._on_window_update, self._on_stray_continuation,
        )  # fmt: skip
        self._only_settings: tuple[FrameHandler, ...] = tuple(
            self._on_first_settings if kind == frames.SETTINGS else self._on_no_settings for kind in range(10)
        )
        self._only_continuation: tuple[FrameHandler, ...] = tuple(
            self._on_continuation if kind == frames.CONTINUATION else self._on_interruption
            for kind in range(10)
        )
        self._nothing_more: tuple[FrameHandler, ...] = (self._on_ignored,) * 10
        self._handlers = self._only_settings
        self.outbox.control(
            frames.settings(
                {
                    frames.HEADER_TABLE_SIZE: 0,
                    frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                    frames.INITIAL_WINDOW_SIZE: self._stream_window,
                    frames.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        )

    # --- for the owner of the transport

    @property
    def has_ended(self) -> bool:
        """Whether the transport should be closed once all is written."""
        return self.state is State.ENDED or (self.state is State.DRAINING and not self.streams)

    def receive(self, data: bytes, now_s: float) -> None:
        """Takes bytes from the peer, in pieces of any size.

        A peer that breaks the protocol is told so and the connection ends; nothing is raised.
        """
        if self.state is State.ENDED:
            return
        self._now_s = self._heard_at_s = now_s
        if self._preface_left:
            data = self._after_preface(data)
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        try:
            while end - position >= frames.HEADER_BYTES:
                high, low, kind, flags, stream_id = _unpack_frame(data, position)
                size = high << 8 | low
                if size > frames.DEFAULT_FRAME_BYTES:
                    raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
                stop = position + frames.HEADER_BYTES + size
                if stop > end:
                    break
                payload = data[position + frames.HEADER_BYTES : stop]
                position = stop
                try:
                    if kind < len(self._handlers):
                        self._handlers[kind](flags, stream_id & frames.MAX_STREAM_ID, payload)
                    else:
                        self._on_unknown(kind)
                except StreamBrokenError as error:
                    logger.debug("stream %d broke the protocol: %s", error.stream_id, error)
                    self.reset(error.stream_id, error.code)
        except ConnectionBrokenError as error:
            self.end(error.code, str(error))
            return
        self._rest = data[position:] if position < end else b""

    def take(self) -> bytes:
        """What should be written now; call again soon if `outbox.has_more` afterwards."""
        return self.outbox.take(WRITE_CHUNK_BYTES)

    def pause(self) -> None:
        """The transport is full: answers wait."""
        self.outbox.is_paused = True

    def resume(self) -> None:
        """The transport takes more."""
        self.outbox.is_paused = False

    def lost(self) -> None:
        """The transport is gone: every stream ends."""
        self.state = State.ENDED
        self._handlers = self._nothing_more
        for stream in list(self.streams.values()):
            self._remove(stream)

    def end(self, code: ErrorCode, message: str) -> None:
        """Ends the connection at once, telling the peer why."""
        if self.state is State.ENDED:
            return
        self.outbox.control(frames.goaway(self._last_served_id, code, message))
        if code is not ErrorCode.NO_ERROR:
            logger.info("a connection was ended: %s", message)
        self.lost()

    def leave(self, now_s: float) -> None:
        """Asks the peer to open no more streams here; those already sent are served, then `drain` follows by itself."""
        if self.state is State.OPEN:
            self.state = State.LEAVING
            self._left_at_s = now_s
            self.outbox.control(
                frames.goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR)
                + frames.frame(frames.PING, 0, 0, _DRAIN_PING)
            )

    def drain(self) -> None:
        """Refuses new streams from now on; the connection has ended when the last one under way has."""
        if self.state in (State.OPEN, State.LEAVING):
            self.state = State.DRAINING
            self.outbox.control(frames.goaway(self._last_served_id, ErrorCode.NO_ERROR))

    def tick(self, now_s: float) -> None:
        """Looks at what takes too long. To be called every few seconds."""
        self._now_s = now_s
        if self._handlers is self._only_settings:
            if now_s - self._opened_at_s > HANDSHAKE_S:
                self.end(ErrorCode.SETTINGS_TIMEOUT, "no HTTP/2 preface")
            return
        if self.state is State.LEAVING and now_s - self._left_at_s >= DRAIN_PING_S:
            self.drain()
        self._check_stalls(now_s)
        self._check_requests(now_s)
        if self.streams:
            self._busy_at_s = now_s
        elif now_s - self._busy_at_s > MAX_IDLE_S:
            self.leave(now_s)
        if self._ping_sent_at_s is not None and self._ping_sent_at_s > self._heard_at_s:
            if now_s - self._ping_sent_at_s >= KEEPALIVE_TIMEOUT_S:
                self.end(ErrorCode.NO_ERROR, "no sign of life")
        elif now_s - self._heard_at_s >= KEEPALIVE_TIME_S:
            self._ping_sent_at_s = now_s
            self.outbox.control(frames.frame(frames.PING, 0, 0, _KEEPALIVE_PING))

    def _check_stalls(self, now_s: float) -> None:
        for stream in list(self.outbox.waiting.values()):
            if stream.checked_at_s > now_s:
                stream.checked_at_s, stream.checked_bytes = now_s, stream.taken_bytes
            elif now_s - stream.checked_at_s >= STALL_S:
                if stream.taken_bytes - stream.checked_bytes < STALL_BYTES:
                    logger.info("a caller did not take its answer for %d s", STALL_S)
                    self.reset(stream.id, ErrorCode.ENHANCE_YOUR_CALM)
                stream.checked_at_s, stream.checked_bytes = now_s, stream.taken_bytes

    def _check_requests(self, now_s: float) -> None:
        for stream in list(self.streams.values()):
            if not stream.is_complete and now_s - stream.opened_at_s >= REQUEST_S:
                self._observer.overdue(stream)

    # --- for the observer

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Ends a stream without an answer."""
        self.outbox.control(frames.rst_stream(stream_id, code))
        stream = self.streams.get(stream_id)
        if stream is None or not stream.is_complete:
            self._remember_early_end(stream_id)
        if stream is not None:
            self._remove(stream)
        if code is not ErrorCode.NO_ERROR and not self._resets.take(self._now_s):
            self.end(ErrorCode.ENHANCE_YOUR_CALM, "too many broken streams")

    def credit(self, stream: Stream, size: int) -> None:
        """Gives the peer back `size` bytes of a stream's window, for streams longer than one window."""
        stream.uncredited += size
        if stream.uncredited >= STREAM_CREDIT_STEP and not stream.is_complete and stream.id in self.streams:
            stream.receive_window += stream.uncredited
            self.outbox.control(frames.window_update(stream.id, stream.uncredited))
            stream.uncredited = 0

    # --- ends of streams

    def _forget(self, stream: Stream) -> None:
        """The answer has been sent to its end."""
        if not stream.is_complete:
            # The answer came before the request's end: the caller need not send the rest.
            self.outbox.control(frames.rst_stream(stream.id, ErrorCode.NO_ERROR))
            self._remember_early_end(stream.id)
        self._remove(stream)

    def _remove(self, stream: Stream) -> None:
        if self.streams.pop(stream.id, None) is not None:
            self.outbox.forget(stream)
            if not self.streams:
                self._busy_at_s = self._now_s
            self._observer.closed(stream)

    def _remember_early_end(self, stream_id: int) -> None:
        """Frames of this stream may still be under way and mean no harm."""
        self._ended_early[stream_id] = None
        if len(self._ended_early) > MAX_REMEMBERED_RESETS:
            self._forgotten_id = max(self._forgotten_id, self._ended_early.popitem(last=False)[0])

    def _check_late(self, stream_id: int, what: str) -> None:
        """A frame came for a stream that is not open.

        Raises:
            ConnectionBrokenError: it never was, or the peer itself had ended it.
        """
        if stream_id in self._ended_early or (stream_id <= self._forgotten_id and stream_id & 1):
            return
        if stream_id > self._last_stream_id or not stream_id & 1:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, f"{what} for a stream that never was")
        raise ConnectionBrokenError(ErrorCode.STREAM_CLOSED, f"{what} for a stream that has ended")

    # --- frames in: the beginning

    def _after_preface(self, data: bytes) -> bytes:
        expected = self._preface_left
        count = min(len(expected), len(data))
        if data[:count] != expected[:count]:
            sent = frames.PREFACE[: len(frames.PREFACE) - len(expected)] + data[:16]
            if sent.startswith(_HTTP1_METHODS):
                # Our settings are taken back: an HTTP/1 client would not know what to make of them.
                self.outbox.take(0)
                self.outbox.control(_HTTP1_ANSWER)
                self.lost()
            else:
                self.end(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2 without TLS")
            return b""
        self._preface_left = expected[count:]
        return data[count:]

    def _on_first_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & frames.ACK:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "the first SETTINGS is no acknowledgement")
        self._handlers = self._in_order
        self._on_settings(flags, stream_id, payload)

    def _on_ignored(self, flags: int, stream_id: int, payload: bytes) -> None:
        """The connection has ended; what was already under way is of no interest."""

    def _on_no_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")

    # --- frames in: requests

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "HEADERS without a stream")
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = frames.unpadded(frames.HEADERS, flags, payload)
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream_id, payload)
        else:
            self._block = (flags, stream_id, bytearray(payload))
            self._continuations = 0
            self._handlers = self._only_continuation

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or self._block[1] != stream_id:
            raise ConnectionBrokenError(
                ErrorCode.PROTOCOL_ERROR, "CONTINUATION of another stream's header block"
            )
        first_flags, _, block = self._block
        block += payload
        self._continuations += 1
        if len(block) > MAX_HEADER_BLOCK_BYTES or self._continuations > MAX_CONTINUATIONS:
            raise ConnectionBrokenError(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too long")
        if flags & frames.END_HEADERS:
            self._block = None
            self._handlers = self._in_order
            self._on_block(first_flags, stream_id, bytes(block))

    def _on_stray_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")

    def _on_interruption(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._on_trailers(flags, stream, block)
            return
        if stream_id <= self._last_stream_id or not stream_id & 1:
            self._headers.pairs(block)
            self._check_late(stream_id, "HEADERS")
            return
        headers = self._headers.request(block)
        self._last_stream_id = stream_id
        if self.state is State.DRAINING or len(self.streams) >= MAX_STREAMS:
            raise StreamBrokenError(stream_id, ErrorCode.REFUSED_STREAM, "no more streams are taken")
        if headers.malformed:
            raise StreamBrokenError(stream_id, ErrorCode.PROTOCOL_ERROR, headers.malformed)
        self._last_served_id = stream_id
        stream = Stream(stream_id, headers, self.outbox.initial_window, self._stream_window, self._now_s)
        if flags & frames.END_STREAM:
            stream.is_complete = True
            if headers.content_length:
                raise StreamBrokenError(stream_id, ErrorCode.PROTOCOL_ERROR, "content-length does not match")
        self.streams[stream_id] = stream
        self._observer.opened(stream)

    def _on_trailers(self, flags: int, stream: Stream, block: bytes) -> None:
        names = [name for name, _ in self._headers.pairs(block)]
        if stream.is_complete:
            raise StreamBrokenError(stream.id, ErrorCode.STREAM_CLOSED, "HEADERS after the end")
        if not flags & frames.END_STREAM:
            raise StreamBrokenError(stream.id, ErrorCode.PROTOCOL_ERROR, "trailers that are not the end")
        if any(name.startswith(b":") for name in names):
            raise StreamBrokenError(stream.id, ErrorCode.PROTOCOL_ERROR, "a pseudo-header in trailers")
        self._complete(stream)
        self._observer.received(stream, b"")

    def _complete(self, stream: Stream) -> None:
        announced = stream.headers.content_length
        if announced is not None and announced != stream.received_bytes:
            raise StreamBrokenError(stream.id, ErrorCode.PROTOCOL_ERROR, "content-length does not match")
        stream.is_complete = True

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._uncredited += size
        if self._uncredited >= CONNECTION_CREDIT_STEP:
            self.outbox.control(frames.window_update(0, self._uncredited))
            self._uncredited = 0
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_late(stream_id, "DATA")
            return
        if stream.is_complete:
            raise StreamBrokenError(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end")
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamBrokenError(
                stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window allows"
            )
        if flags & frames.PADDED:
            payload = frames.unpadded(frames.DATA, flags, payload)
            self.credit(stream, size - len(payload))
        stream.received_bytes += len(payload)
        if flags & frames.END_STREAM:
            self._complete(stream)
        elif not payload:
            self._count_control()
        self._observer.received(stream, payload)

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM holds four bytes")
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._remove(stream)
            if not self._resets.take(self._now_s):
                raise ConnectionBrokenError(ErrorCode.ENHANCE_YOUR_CALM, "too many calls abandoned")
        elif stream_id > self._last_stream_id or not stream_id & 1:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM for a stream that never was")

    # --- frames in: the connection

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        self._count_control()
        if flags & frames.ACK:
            return
        window = self.outbox.initial_window
        for position in range(0, len(payload), 6):
            key, value = frames.setting.unpack_from(payload, position)
            if key == frames.INITIAL_WINDOW_SIZE:
                window = value
                if value > frames.MAX_WINDOW:
                    raise ConnectionBrokenError(
                        ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too large"
                    )
            else:
                self._on_setting(key, value)
        if window != self.outbox.initial_window:
            self._change_initial_window(window)
        self.outbox.control(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _change_initial_window(self, window: int) -> None:
        # It concerns every stream, so with many of them it may not come often.
        for _ in range(len(self.streams) // STREAMS_PER_CONTROL):
            self._count_control()
        change, self.outbox.initial_window = window - self.outbox.initial_window, window
        for stream in list(self.streams.values()):
            try:
                self.outbox.widen_stream(stream, change)
            except StreamBrokenError as error:
                raise ConnectionBrokenError(ErrorCode.FLOW_CONTROL_ERROR, str(error)) from error

    def _on_setting(self, key: int, value: int) -> None:
        if key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value <= frames.MAX_FRAME_BYTES:
                raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "the frame size is out of range")
        elif key == frames.MAX_HEADER_LIST_SIZE:
            self.outbox.max_list_bytes = min(value, MAX_ANSWER_HEADER_BYTES)
        elif key == frames.ENABLE_PUSH and value > 1:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE holds four bytes")
        increment = frames.unsigned.unpack(payload)[0] & frames.MAX_WINDOW
        if stream_id == 0:
            if not increment:
                raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "a window grows by at least one byte")
            self.outbox.widen(increment)
            return
        stream = self.streams.get(stream_id)
        if stream is not None:
            if not increment:
                raise StreamBrokenError(
                    stream_id, ErrorCode.PROTOCOL_ERROR, "a window grows by at least one byte"
                )
            self.outbox.widen_stream(stream, increment)
        elif stream_id > self._last_stream_id or not stream_id & 1:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE for a stream that never was")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "PING holds eight bytes")
        if flags & frames.ACK:
            if payload == _DRAIN_PING and self.state is State.LEAVING:
                self.drain()
            return
        # Clients measure bandwidth with pings while they get answers; those count for nothing.
        if self.outbox.has_answered:
            self.outbox.has_answered = False
            self._ping_strikes = 0
            self._pinged_at_s = -math.inf
        if self._now_s - self._pinged_at_s < self._limits.min_ping_interval_s:
            self._ping_strikes += 1
            if self._ping_strikes > MAX_PING_STRIKES:
                # Clients know this word and ping less often from then on.
                raise ConnectionBrokenError(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
        self._pinged_at_s = self._now_s
        self.outbox.control(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        """The peer will leave. It closes the connection itself when its calls are answered."""
        if stream_id:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")
        self._count_control()

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        if len(payload) != 5:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY holds five bytes")
        self._count_control()

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "clients do not push")

    def _on_unknown(self, kind: int) -> None:
        if self._handlers is not self._in_order:
            # As unwelcome here as any other frame; the handler raises.
            self._handlers[frames.PRIORITY](0, 0, b"")
        self._count_control()

    def _count_control(self) -> None:
        if not self._controls.take(self._now_s):
            raise ConnectionBrokenError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
