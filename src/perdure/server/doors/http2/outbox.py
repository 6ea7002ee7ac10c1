"""The sending half of a connection: answers within the peer's windows, in fair turns, cut into frames late.

Pure: bytes collect here until the transport's owner takes them. A long answer stays one object; frames are cut only
when they can be sent, so a slow reader costs its answer and no more.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from perdure.server.doors.http2 import frames
from perdure.server.doors.http2.frames import ConnectionBrokenError, ErrorCode, StreamBrokenError
from perdure.server.doors.http2.limits import Budget

if TYPE_CHECKING:
    from perdure.server.doors.http2.connection import Stream

_pack_frame: Final = frames.frame_header.pack
MAX_FRAME_BYTES: Final = frames.DEFAULT_FRAME_BYTES
"""Every peer takes frames of this size. Larger ones would gain little and make turns between streams longer."""
_WORTH_WRITING_PIECES: Final = 56
"""Eight answers, of seven pieces each. If more of them waited for the end of a turn of the loop, a busy worker would be
idle during the turn, and the server while the worker works on all of them: two processes would take turns as one.
"""
_END: Final = frames.END_HEADERS | frames.END_STREAM


class Outbox:
    """What waits to be written.

    Args:
        on_sent: told when the last frame of a stream has been handed out.
        on_writable: told when nothing of a stream waits any more and it goes on.
        max_list_bytes: the longest list of headers that the peer takes.
        budget: where bytes of bodies that wait are counted, too, with those of other connections.
    """

    __slots__ = (
        "_budget", "_on_sent", "_on_writable", "_out", "_ready", "has_answered", "has_more", "initial_window",
        "is_paused", "max_list_bytes", "pending_bytes", "waiting", "window",
    )  # fmt: skip

    def __init__(
        self,
        on_sent: Callable[[Stream], None],
        on_writable: Callable[[Stream], None],
        max_list_bytes: int,
        budget: Budget,
    ) -> None:
        self._budget = budget
        self._on_sent = on_sent
        self._on_writable = on_writable
        self._out: list[bytes | memoryview] = []
        self._ready: OrderedDict[int, Stream] = OrderedDict()
        self.waiting: dict[int, Stream] = {}
        """Streams with something that could not be sent at once."""
        self.pending_bytes = 0
        """Bytes of bodies that wait."""
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_list_bytes = max_list_bytes
        self.is_paused = False
        """The transport takes no more for now."""
        self.has_answered = False
        """Something of an answer was sent since this was last cleared."""
        self.has_more = False
        """The last `take` left something that could be sent at once."""

    @property
    def is_worth_writing(self) -> bool:
        """So much waits that its receiver should not have to wait for the rest of this turn."""
        return len(self._out) >= _WORTH_WRITING_PIECES

    # --- in

    def control(self, data: bytes) -> None:
        """Queues a frame of the connection itself, which no window holds back."""
        self._out.append(data)

    def send_whole(self, stream: Stream, head: bytes, prefix: bytes, body: bytes, tail: bytes) -> None:
        """Queues a whole answer: header block, body in two parts, trailer block."""
        size = len(prefix) + len(body)
        if (
            size > self.window
            or size > stream.send_window
            or size > MAX_FRAME_BYTES
            or len(tail) > MAX_FRAME_BYTES
            or self.is_paused
            or stream.pending
        ):
            self.send_headers(stream, head, False)
            self.send_data(stream, prefix + body if size <= MAX_FRAME_BYTES else prefix)
            if size > MAX_FRAME_BYTES:
                self.send_data(stream, body)
            self.send_headers(stream, tail, True)
            return
        self.window -= size
        self.has_answered = True
        number = stream.id
        self._out += (
            _pack_frame(0, len(head), frames.HEADERS, frames.END_HEADERS, number),
            head,
            _pack_frame(size >> 8, size & 0xFF, frames.DATA, 0, number),
            prefix,
            body,
            _pack_frame(len(tail) >> 8, len(tail) & 0xFF, frames.HEADERS, _END, number),
            tail,
        )
        self._on_sent(stream)

    def send_headers(self, stream: Stream, block: bytes, end_stream: bool) -> None:
        """Queues a header block behind what waits of the stream; `end_stream` makes it the last thing."""
        if stream.pending or self.is_paused:
            self._wait(stream, True, memoryview(block), end_stream)
            return
        self._put_headers(stream, block, end_stream)

    def send_data(self, stream: Stream, data: bytes) -> None:
        """Queues a piece of a body. It is sent by `take`."""
        self._count(len(data))
        self._wait(stream, False, memoryview(data), False)

    def _count(self, change: int) -> None:
        self.pending_bytes += change
        self._budget.pending_answer_bytes += change

    def _wait(self, stream: Stream, is_headers: bool, data: memoryview, end_stream: bool) -> None:
        if stream.pending is None:
            stream.pending = deque()
        stream.pending.append((is_headers, data, end_stream))
        if stream.id not in self.waiting:
            self.waiting[stream.id] = stream
            stream.checked_at_s = math.inf
        self._ready[stream.id] = stream

    def _put_headers(self, stream: Stream, block: bytes, end_stream: bool) -> None:
        self.has_answered = True
        self._out.append(frames.header_frames(stream.id, block, end_stream, MAX_FRAME_BYTES))
        if end_stream:
            self._on_sent(stream)

    def forget(self, stream: Stream) -> None:
        """Drops what waits of a stream."""
        if stream.pending:
            self._count(-sum(len(data) for is_headers, data, _ in stream.pending if not is_headers))
            stream.pending = None
        if self.waiting.pop(stream.id, None) is not None:
            self._ready.pop(stream.id, None)

    # --- windows

    def widen(self, increment: int) -> None:
        """The peer takes more on the connection.

        Raises:
            ConnectionBrokenError: its window would leave its range.
        """
        self.window += increment
        if self.window > frames.MAX_WINDOW:
            raise ConnectionBrokenError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """The peer takes more on a stream.

        Raises:
            StreamBrokenError: its window would leave its range.
        """
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamBrokenError(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
        if stream.pending:
            self._ready[stream.id] = stream

    # --- out

    def take(self, max_bytes: int) -> bytes:
        """Hands out what can be sent now.

        Args:
            max_bytes: about how much of waiting answers to include.
        """
        self.has_more = False
        if self._ready:
            self._pump(max_bytes)
        out = self._out
        if not out:
            return b""
        data = b"".join(out)
        out.clear()
        return data

    def _pump(self, max_bytes: int) -> None:
        left = max_bytes
        ready = self._ready
        while ready and left > 0 and not self.is_paused:
            stream_id, stream = ready.popitem(last=False)
            sent = self._push(stream)
            if sent < 0:
                # The connection's window is shut. The stream keeps its place.
                ready[stream_id] = stream
                ready.move_to_end(stream_id, last=False)
                return
            left -= sent
        self.has_more = bool(ready) and not self.is_paused

    def _push(self, stream: Stream) -> int:
        """Sends one DATA frame of a stream, and the header blocks around it.

        Returns:
            bytes sent, -1 when the connection's window lets nothing through.
        """
        pending, sent = stream.pending, 0
        while pending:
            is_headers, data, end_stream = pending[0]
            if is_headers:
                pending.popleft()
                if end_stream:
                    self.waiting.pop(stream.id, None)
                self._put_headers(stream, bytes(data), end_stream)
                sent += len(data)
                continue
            if sent > MAX_FRAME_BYTES:
                break
            size = min(len(data), stream.send_window, self.window, MAX_FRAME_BYTES)
            if size <= 0 and data:
                if stream.send_window > 0:
                    return -1
                return sent
            self._put_data(stream, data[:size])
            self._count(-size)
            sent += size
            if size < len(data):
                pending[0] = (False, data[size:], False)
                break
            pending.popleft()
        if pending:
            self._ready[stream.id] = stream
        elif self.waiting.pop(stream.id, None) is not None:
            self._on_writable(stream)
        return sent

    def _put_data(self, stream: Stream, data: memoryview) -> None:
        size = len(data)
        self.window -= size
        stream.send_window -= size
        stream.taken_bytes += size
        self.has_answered = True
        self._out.append(_pack_frame(size >> 8, size & 0xFF, frames.DATA, 0, stream.id))
        self._out.append(data)
