"""A connection without a network: bytes in, frames out, an observer that notes what it is told and can answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hpack import Encoder

from perdure.server.doors.http2 import frames
from perdure.server.doors.http2.calls import RESPONSE_HEADERS, TRAILERS_OK
from perdure.server.doors.http2.connection import Connection, Stream
from perdure.server.doors.http2.frames import ErrorCode
from perdure.server.doors.http2.limits import Limits

MESSAGE_BYTES = 100_000
PATH = "/test.Service/Method"
REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PATH),
    (":authority", "here"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
OPENING = frames.PREFACE + frames.settings({})


class Frame(NamedTuple):
    """One frame as it was sent."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


def parse(data: bytes) -> list[Frame]:
    """Cuts output into frames; it must end at the end of one."""
    found, position = [], 0
    while position < len(data):
        high, low, kind, flags, stream_id = frames.frame_header.unpack_from(data, position)
        stop = position + 9 + (high << 8 | low)
        assert stop <= len(data)
        found.append(Frame(kind, flags, stream_id, data[position + 9 : stop]))
        position = stop
    return found


class Recorder:
    """Notes what a connection tells it; answers each complete request with `answer`, or not at all if that is None."""

    def __init__(self, answer: bytes | None = b"answer") -> None:
        self.answer = answer
        self.connection: Connection
        self.events: list[tuple[str, int]] = []
        self.bodies: dict[int, bytes] = {}
        self.open: dict[int, Stream] = {}

    def opened(self, stream: Stream) -> None:
        """A request began."""
        self.events.append(("opened", stream.id))
        self.bodies[stream.id] = b""
        self.open[stream.id] = stream
        self._answer_if_complete(stream)

    def received(self, stream: Stream, data: bytes) -> None:
        """A piece of its body."""
        assert stream.id in self.open
        self.bodies[stream.id] += data
        self._answer_if_complete(stream)

    def _answer_if_complete(self, stream: Stream) -> None:
        if stream.is_complete:
            self.events.append(("complete", stream.id))
            if self.answer is not None:
                self.reply(stream, self.answer)

    def reply(self, stream: Stream, body: bytes) -> None:
        """Answers a stream."""
        self.connection.outbox.send_whole(stream, RESPONSE_HEADERS, b"", body, TRAILERS_OK)

    def overdue(self, stream: Stream) -> None:
        """Its request takes too long."""
        self.events.append(("overdue", stream.id))

    def writable(self, stream: Stream) -> None:
        """All of it was handed out."""
        self.events.append(("writable", stream.id))

    def closed(self, stream: Stream) -> None:
        """It has ended."""
        self.events.append(("closed", stream.id))
        del self.open[stream.id]


class Wire:
    """A connection and the client's end of the wire.

    Args:
        answer: what requests are answered with; None: nothing.
        is_open: the client's preface and settings have been exchanged already.
    """

    def __init__(self, answer: bytes | None = b"answer", *, is_open: bool = True) -> None:
        self.recorder = Recorder(answer)
        self.now_s = 1000.0
        self.connection = Connection(self.recorder, Limits(MESSAGE_BYTES), self.now_s)
        self.recorder.connection = self.connection
        self.encoder = Encoder()
        self.encoder.header_table_size = 0
        self.output = b""
        if is_open:
            self.send(OPENING)
            self.read()

    def send(self, *data: bytes) -> None:
        """The client sends."""
        self.connection.receive(b"".join(data), self.now_s)

    def has_ended(self) -> bool:
        """Whether the transport should be closed now."""
        return self.connection.has_ended

    def read(self) -> list[Frame]:
        """What the server sent since the last time."""
        data = b""
        while True:
            part = self.connection.take()
            data += part
            if not part or not self.connection.outbox.has_more:
                return parse(data)

    def headers(
        self, stream_id: int, flags: int = frames.END_HEADERS, pairs: Iterable[tuple[str, str]] = REQUEST
    ) -> bytes:
        """A HEADERS frame."""
        return frames.frame(frames.HEADERS, flags, stream_id, self.encoder.encode(list(pairs)))

    def request(self, stream_id: int, body: bytes = b"body") -> bytes:
        """A whole request."""
        return self.headers(stream_id) + frames.frame(frames.DATA, frames.END_STREAM, stream_id, body)


def ended_with(sent: Iterable[Frame]) -> ErrorCode | None:
    """The code of the GOAWAY among frames; None without one."""
    codes = [
        frames.unsigned.unpack_from(frame.payload, 4)[0] for frame in sent if frame.kind == frames.GOAWAY
    ]
    return ErrorCode(codes[-1]) if codes else None


def resets(sent: Iterable[Frame]) -> dict[int, ErrorCode]:
    """Streams that were reset among frames."""
    return {
        frame.stream_id: ErrorCode(frames.unsigned.unpack(frame.payload)[0])
        for frame in sent
        if frame.kind == frames.RST_STREAM
    }


def body_of(sent: Iterable[Frame], stream_id: int) -> bytes:
    """The DATA of a stream among frames, joined."""
    return b"".join(
        frame.payload for frame in sent if frame.kind == frames.DATA and frame.stream_id == stream_id
    )
