"""Frames of the pipe come out as they were put in, however the bytes are cut on their way."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from perdure.server.doors.pipe.frames import FrameConnection, Kind


class _Kept(FrameConnection):
    """Keeps what it receives."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.frames: list[tuple[int, int, bytes]] = []

    def received(self, kind: int, number: int, body: bytes) -> None:
        """Keeps a frame."""
        self.frames.append((kind, number, body))


class _Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.data = b""
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.data += data
        self.writes += 1


_FRAMES = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=30
)


@given(_FRAMES, st.lists(st.integers(1, 60), max_size=40))
def test_frames_come_out_as_they_went_in(frames: list[tuple[Kind, int, bytes]], cuts: list[int]) -> None:
    """Whole frames, in order, whatever the pieces."""
    loop = asyncio.new_event_loop()
    try:
        sender, receiver, written = _Kept(loop), _Kept(loop), _Written()
        transport: Any = written
        sender.connection_made(transport)
        for frame in frames:
            sender.send(*frame)
        loop.call_soon(loop.stop)
        loop.run_forever()
        data = written.data
        for cut in cuts:
            receiver.data_received(data[:cut])
            data = data[cut:]
        receiver.data_received(data)
        assert receiver.frames == frames
    finally:
        loop.close()


def test_many_frames_of_one_turn_leave_before_it_ends() -> None:
    """The other side has something to do meanwhile; what is left goes with the turn."""
    loop = asyncio.new_event_loop()
    try:
        sender, written = _Kept(loop), _Written()
        transport: Any = written
        sender.connection_made(transport)
        for number in range(10):
            sender.send(Kind.CALL, number, b"x")
        assert written.writes == 1
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert written.writes == 2
    finally:
        loop.close()
