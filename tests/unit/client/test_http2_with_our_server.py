"""Our HTTP/2 client and our HTTP/2 door, joined without a network: what the two spare each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from perdure.server.doors.http2 import frames
from perdure.server.doors.http2.calls import Dispatcher, Routes
from perdure.server.doors.http2.grpc_messages import StatusError
from perdure.server.doors.http2.headers import HeaderReader, Pairs, RequestHeaders
from perdure.server.doors.http2.limits import Limits
from perdure.server.doors.http2.server import Transport as Door
from perdure.service.http2.connection import Connection, Stream
from perdure.service.http2.messages import call_headers, message
from tests.unit.doors.http2.support import parse

LIMIT_S = 30.0
CALLS_IN_A_PIECE = 8


class Wire(asyncio.Transport):
    """One direction of a connection: notes each piece that is written, and hands it over when told."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.handed_over = 0
        self.to: asyncio.Protocol

    def write(self, data: Any) -> None:
        """Notes a piece."""
        self.pieces.append(bytes(data))

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_write_buffer_size(self) -> int:
        """Nothing is kept back."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There are none."""

    def hand_over(self) -> int:
        """Hands everything over at once; returns how much that was."""
        data = b"".join(self.pieces[self.handed_over :])
        self.handed_over = len(self.pieces)
        if data:
            self.to.data_received(data)
        return len(data)


class Joined:
    """A client's connection and the door's end of it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()

        async def echo(body: bytes, headers: RequestHeaders) -> bytes:
            return body

        def translate(error: Exception, path: str) -> StatusError:
            return StatusError(13, repr(error))

        routes = Routes({"/t/one": echo, "/t/other": echo}, {}, translate)
        self.door = Door(Dispatcher(routes, Limits(1 << 20), loop), set(), asyncio.Event())
        self.client = Connection(loop, "door", None)
        self.requests, self.answers = Wire(), Wire()
        self.requests.to, self.answers.to = self.door, self.client
        self.door.connection_made(self.answers)
        self.client.connection_made(self.requests)

    async def quiet(self) -> None:
        """Returns when nothing is under way on either side."""
        idle = 0
        while idle < 10:
            idle = 0 if self.requests.hand_over() + self.answers.hand_over() else idle + 1
            await asyncio.sleep(0)

    async def call(self, paths: Sequence[str]) -> list[Stream]:
        """Begins calls in one turn of the loop and waits for their answers."""
        body = message(b"x", False)
        opening = [self.client.open_stream(call_headers("here:1", path, {}, ()), body) for path in paths]
        calls = asyncio.gather(*opening)
        await self.quiet()
        return await calls


def _run(scenario: Callable[[Joined], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario(Joined())

    asyncio.run(bounded())


def _heads(pieces: Sequence[bytes]) -> list[int]:
    """How many calls or answers begin in each piece."""
    greeting = frames.PREFACE
    return [
        sum(frame.kind == frames.HEADERS and not frame.flags & frames.END_STREAM for frame in parse(piece))
        for piece in (piece.removeprefix(greeting) for piece in pieces)
    ]


def test_the_door_decodes_equal_headers_of_our_client_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our client says that it uses no header table; to decode each call's headers took a third of the door's time."""
    decoded: list[bytes] = []
    pairs = HeaderReader.pairs

    def counting(self: HeaderReader, block: bytes) -> Pairs:
        decoded.append(block)
        return pairs(self, block)

    monkeypatch.setattr(HeaderReader, "pairs", counting)

    async def scenario(joined: Joined) -> None:
        for _ in range(20):
            for stream in await joined.call(["/t/one", "/t/other", "/t/one"]):
                assert (bytes(stream.body), stream.trailers["grpc-status"]) == (message(b"x", False), "0")
        # The very first block also empties the table, so it is not the same as its followers.
        assert len(decoded) == 3

    _run(scenario)


def test_many_calls_and_answers_of_one_turn_travel_in_several_pieces() -> None:
    """So that client and server work at the same time, and not in turns on all calls at once."""

    async def scenario(joined: Joined) -> None:
        await joined.call(["/t/one"])
        requests, answers = len(joined.requests.pieces), len(joined.answers.pieces)
        await joined.call(["/t/one"] * 50)
        for pieces in (joined.requests.pieces[requests:], joined.answers.pieces[answers:]):
            heads = [heads for heads in _heads(pieces) if heads]
            assert sum(heads) == 50
            assert max(heads) <= CALLS_IN_A_PIECE
            assert len(heads) <= 50 // CALLS_IN_A_PIECE + 1

    _run(scenario)
