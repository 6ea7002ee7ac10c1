"""Calls over streams: limits shared by all connections, deadlines, and ends that come in an unusual order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import pytest

from perdure.server.doors.deadlines import MAX_TIMEOUT_S, Deadlines
from perdure.server.doors.http2 import frames, limits
from perdure.server.doors.http2.calls import CallsOfConnection, Dispatcher, Routes
from perdure.server.doors.http2.connection import Connection
from perdure.server.doors.http2.frames import ErrorCode, frame
from perdure.server.doors.http2.grpc_messages import StatusError, prefix
from perdure.server.doors.http2.headers import HeaderReader, RequestHeaders
from perdure.server.doors.http2.limits import Limits
from tests.unit.doors.http2.support import OPENING, REQUEST, Frame, Wire, body_of, parse, resets

MAX_BYTES = 50_000
TIMEOUT_S = 20.0


class Server:
    """A dispatcher with one connection, and the client's end of it."""

    def __init__(self, **more: int) -> None:
        self.started: list[bytes] = []
        self.cancelled: list[bytes] = []
        self.may_end = asyncio.Event()
        self.failure: BaseException | None = None
        routes = Routes(
            {"/t/wait": self.wait}, {"/t/stream": self.stream}, lambda error, path: StatusError(13, path)
        )
        loop = asyncio.get_running_loop()
        self.dispatcher = Dispatcher(routes, Limits(MAX_BYTES, **more), loop)
        self.connect()

    def connect(self) -> None:
        """Another connection takes the place of the one that is sent on; that stays open, with its calls."""
        self.calls = CallsOfConnection(self.dispatcher, lambda: None)
        self.connection = self.calls.connection = Connection(
            self.calls, self.dispatcher.limits, 0.0, self.dispatcher.budget
        )
        self.wire = Wire()
        self.connection.receive(OPENING, 0.0)
        self.connection.take()

    async def wait(self, message: bytes, headers: RequestHeaders) -> bytes:
        """Waits, then answers what it was asked or fails."""
        self.started.append(message)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(message)
            raise
        if self.failure is not None:
            raise self.failure
        return message

    async def stream(
        self, messages: AsyncIterator[bytes], headers: RequestHeaders
    ) -> AsyncGenerator[bytes, None]:
        """Waits, then answers each message."""
        await self.may_end.wait()
        async for message in messages:
            yield message

    def send(self, *data: bytes) -> None:
        """The client sends."""
        self.connection.receive(b"".join(data), 0.0)

    def headers(self, stream_id: int, path: str = "/t/wait", *more: tuple[str, str]) -> bytes:
        """A HEADERS frame."""
        pairs = [(name, path if name == ":path" else value) for name, value in REQUEST]
        return self.wire.headers(stream_id, pairs=[*pairs, *more])

    def request(self, stream_id: int, message: bytes, *more: tuple[str, str]) -> bytes:
        """A whole call."""
        return self.headers(stream_id, "/t/wait", *more) + data(stream_id, message)

    async def settle(self) -> list[Frame]:
        """Lets everything run that can; what was sent."""
        for _ in range(20):
            await asyncio.sleep(0)
        return parse(self.connection.take())


def data(stream_id: int, message: bytes, flags: int = frames.END_STREAM) -> bytes:
    """A message as one DATA frame."""
    return frame(frames.DATA, flags, stream_id, prefix.pack(0, len(message)) + message)


def status_of(sent: list[Frame], stream_id: int) -> tuple[str, str] | None:
    """Status and message that ended a call."""
    for one in sent:
        if one.stream_id == stream_id and one.kind == frames.HEADERS and one.flags & frames.END_STREAM:
            pairs = dict(HeaderReader().pairs(one.payload))
            return pairs[b"grpc-status"].decode(), pairs.get(b"grpc-message", b"").decode()
    return None


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await scenario()

    asyncio.run(bounded())


def test_a_call_is_counted_until_it_has_ended_however_it_ends() -> None:
    async def scenario() -> None:
        server = Server()
        server.send(*(server.request(number, b"%d" % number) for number in (1, 3, 5)), server.headers(7))
        await server.settle()
        assert server.dispatcher.budget.calls == 4
        server.send(frame(frames.RST_STREAM, 0, 1, bytes(4)), frame(frames.RST_STREAM, 0, 7, bytes(4)))
        await server.settle()
        assert server.cancelled == [b"1"]
        assert server.dispatcher.budget.calls == 2
        server.may_end.set()
        sent = await server.settle()
        assert body_of(sent, 3)[5:] == b"3"
        assert server.dispatcher.budget.calls == 0
        assert not server.dispatcher.cancelled

    _run(scenario)


def test_more_calls_than_allowed_are_refused_and_cancelled_ones_count_until_they_are_over() -> None:
    async def scenario() -> None:
        server = Server(calls=2)
        server.send(server.request(1, b"a"), server.request(3, b"b"), server.request(5, b"c"))
        assert status_of(await server.settle(), 5) == ("8", "too many calls at once")
        server.send(frame(frames.RST_STREAM, 0, 1, bytes(4)), server.request(7, b"d"))
        assert status_of(await server.settle(), 7) == ("8", "too many calls at once")
        server.send(server.request(9, b"e"))
        assert status_of(await server.settle(), 9) is None
        assert server.started == [b"a", b"b", b"e"]

    _run(scenario)


def test_a_connection_that_takes_all_it_may_leaves_as_much_to_others() -> None:
    """Its bound is its own, below that of all together: others are answered, and it hears that it is one too many."""

    async def scenario() -> None:
        server = Server()
        ids = range(1, 2 * limits.MAX_STREAMS + 2, 2)
        server.send(*map(server.headers, ids))
        assert resets(parse(server.connection.take())) == {ids[-1]: ErrorCode.REFUSED_STREAM}
        assert server.dispatcher.budget.calls == limits.MAX_STREAMS
        server.connect()
        server.may_end.set()
        server.send(server.request(1, b"mine"), *map(server.headers, ids[1 : limits.MAX_STREAMS]))
        sent = await server.settle()
        assert body_of(sent, 1)[5:] == b"mine"
        assert {status_of(sent, number) for number in ids[1 : limits.MAX_STREAMS : 1000]} == {None}

    _run(scenario)


def test_a_deadline_ends_the_call_with_its_status_and_its_handler() -> None:
    async def scenario() -> None:
        server = Server()
        server.send(server.request(1, b"late", ("grpc-timeout", "60m")), server.request(3, b"patient"))
        await asyncio.wait_for(_until(lambda: bool(server.cancelled)), TIMEOUT_S)
        sent = await server.settle()
        assert status_of(sent, 1) == ("4", "deadline exceeded")
        assert status_of(sent, 3) is None

    _run(scenario)


def test_a_deadline_counts_while_the_request_is_incomplete() -> None:
    async def scenario() -> None:
        server = Server()
        server.send(server.headers(1, "/t/wait", ("grpc-timeout", "10m")))
        await _until(lambda: not server.dispatcher.budget.calls)
        sent = await server.settle()
        assert status_of(sent, 1) == ("4", "deadline exceeded")
        assert resets(sent) == {1: ErrorCode.NO_ERROR}

    _run(scenario)


def test_a_request_that_does_not_come_to_its_end_is_given_up_and_its_place_is_free() -> None:
    """Without a deadline, callers that send half of a request would keep every place and all memory for ever."""

    async def scenario() -> None:
        server = Server(calls=3)
        part = prefix.pack(0, 5_000) + bytes(3_000)
        server.send(server.headers(1), server.headers(3), frame(frames.DATA, 0, 3, part))
        server.send(server.request(5, b"complete"))
        server.connection.tick(limits.REQUEST_S - 1)
        # It says that it is alive, which makes the request no faster.
        server.connection.receive(frame(frames.DATA, 0, 3, b"x"), limits.REQUEST_S)
        server.connection.tick(limits.REQUEST_S)
        sent = await server.settle()
        assert {number: status_of(sent, number) for number in (1, 3, 5)} == {
            1: ("4", "the request did not come to its end in time"),
            3: ("4", "the request did not come to its end in time"),
            5: None,
        }
        assert resets(sent) == {1: ErrorCode.NO_ERROR, 3: ErrorCode.NO_ERROR}
        assert (server.dispatcher.budget.calls, server.dispatcher.budget.buffered_bytes) == (1, 0)
        assert server.started == [b"complete"]

    _run(scenario)


def test_a_streaming_call_may_wait_with_its_messages() -> None:
    async def scenario() -> None:
        server = Server()
        server.send(server.headers(1, "/t/stream"))
        server.connection.tick(limits.REQUEST_S)
        assert status_of(await server.settle(), 1) is None
        assert server.dispatcher.budget.calls == 1

    _run(scenario)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_deadlines_share_timers_and_far_ones_leave_none_behind() -> None:
    async def scenario() -> None:
        class Waiting:
            deadline = 0

            def expire(self) -> None:
                raise AssertionError

        deadlines = Deadlines(asyncio.get_running_loop())
        calls = [Waiting() for _ in range(100)]
        for call in calls:
            deadlines.add(call, 10_000.0)
        assert len(deadlines._timers) <= 2
        for call in calls:
            deadlines.discard(call)
        assert not deadlines._timers
        forever = Waiting()
        deadlines.add(forever, MAX_TIMEOUT_S + 1)
        assert not forever.deadline
        deadlines.close()

    _run(scenario)


@pytest.mark.parametrize("failure", [ValueError("secret"), asyncio.CancelledError()])
def test_whatever_a_handler_raises_becomes_one_status(failure: BaseException) -> None:
    async def scenario() -> None:
        server = Server()
        server.failure = failure
        server.send(server.request(1, b""))
        server.may_end.set()
        status = status_of(await server.settle(), 1)
        assert status is not None
        assert status[0] == ("13" if isinstance(failure, ValueError) else "1")
        assert "secret" not in status[1]

    _run(scenario)


def test_a_request_that_is_too_large_is_refused_at_its_first_bytes_and_costs_nothing() -> None:
    async def scenario() -> None:
        server = Server()
        first = prefix.pack(0, MAX_BYTES + 1) + bytes(10)
        server.send(server.headers(1), frame(frames.DATA, 0, 1, first))
        sent = await server.settle()
        text = f"grpc: received message larger than max ({MAX_BYTES + 1} vs. {MAX_BYTES})"
        assert status_of(sent, 1) == ("8", text)
        assert resets(sent) == {1: ErrorCode.NO_ERROR}
        assert server.dispatcher.budget.buffered_bytes == 0
        assert server.dispatcher.budget.calls == 0

    _run(scenario)


@pytest.mark.parametrize("path", ["/t/wait", "/t/stream"])
def test_incomplete_requests_of_all_connections_have_a_common_limit(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("perdure.server.doors.http2.calls.MAX_BUFFERED_REQUEST_BYTES", 6_000)

    async def scenario() -> None:
        server = Server()
        part = prefix.pack(0, 5_000) + bytes(3_495)
        server.send(server.headers(1), frame(frames.DATA, 0, 1, part))
        assert server.dispatcher.budget.buffered_bytes == 3_500
        server.send(server.headers(3, path), frame(frames.DATA, 0, 3, part))
        assert status_of(await server.settle(), 3) == ("8", "the server holds too many incomplete requests")
        assert server.dispatcher.budget.buffered_bytes == 3_500
        server.send(frame(frames.DATA, frames.END_STREAM, 1, bytes(1_505)))
        await server.settle()
        assert server.started == [bytes(5_000)]
        assert server.dispatcher.budget.buffered_bytes == 0

    _run(scenario)


def test_a_call_refused_while_the_transport_is_full_is_not_served_later() -> None:
    async def scenario() -> None:
        server = Server(calls=1)
        server.send(server.request(1, b"first"))
        server.connection.pause()
        server.send(server.request(3, b"refused"), server.headers(5), data(5, b"refused, and goes on", 0))
        await server.settle()
        assert server.dispatcher.budget.buffered_bytes == 0
        assert server.started == [b"first"]
        server.connection.resume()
        server.may_end.set()
        sent = await server.settle() + await server.settle()
        assert status_of(sent, 3) == ("8", "too many calls at once")
        assert status_of(sent, 1) == ("0", "")
        assert not server.connection.streams

    _run(scenario)


def test_more_unread_answers_than_allowed_become_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.server.doors.http2.calls.MAX_PENDING_ANSWER_BYTES", 60_000)

    async def scenario() -> None:
        server = Server()
        server.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        server.send(*(server.request(number, bytes(40_000)[:15_000]) for number in (1, 3, 5, 7, 9)))
        server.may_end.set()
        sent = await server.settle()
        assert [status_of(sent, number) for number in (1, 3, 5)] == [None] * 3
        assert status_of(sent, 9) == ("8", "too many answers wait to be read")

    _run(scenario)


def test_unread_answers_of_all_connections_have_a_common_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What several peers leave unread together; it is given back when an answer is taken, or nobody will take it."""
    monkeypatch.setattr("perdure.server.doors.http2.calls.MAX_ALL_PENDING_ANSWER_BYTES", 60_000)

    async def scenario() -> None:
        server = Server()
        budget = server.dispatcher.budget
        budget.pending_answer_bytes = 40_000  # of other connections
        server.may_end.set()
        server.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        server.send(server.request(1, bytes(15_000)), server.request(3, bytes(15_000)))
        sent = await server.settle()
        assert status_of(sent, 3) == ("8", "too many answers wait to be read")
        assert budget.pending_answer_bytes == 55_005
        server.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10_000}))
        await server.settle()
        assert budget.pending_answer_bytes == 45_005
        server.connection.lost()
        assert budget.pending_answer_bytes == 40_000

    _run(scenario)


def test_a_call_whose_answer_waits_is_reset_when_its_deadline_passes() -> None:
    async def scenario() -> None:
        server = Server()
        server.may_end.set()
        server.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        server.send(server.request(1, b"x", ("grpc-timeout", "50m")))
        await _until(lambda: bool(server.connection.outbox.pending_bytes))
        await _until(lambda: not server.connection.streams)
        assert resets(await server.settle()) == {1: ErrorCode.CANCEL}
        assert server.connection.outbox.pending_bytes == 0

    _run(scenario)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (frame(frames.DATA, frames.END_STREAM, 1, b"\0\0\0"), "13"),
        (frame(frames.DATA, frames.END_STREAM, 1, prefix.pack(0, MAX_BYTES + 1)), "8"),
        (frame(frames.DATA, 0, 1, (prefix.pack(0, 1) + b"x") * (limits.STREAM_QUEUE_MESSAGES + 2)), "8"),
    ],
)
def test_a_streaming_call_that_goes_wrong_ends_with_a_status(sent: bytes, status: str) -> None:
    async def scenario() -> None:
        server = Server()
        server.send(server.headers(1, "/t/stream"), sent)
        got = status_of(await server.settle(), 1)
        assert got is not None
        assert got[0] == status
        assert server.dispatcher.budget.buffered_bytes == 0

    _run(scenario)


def test_a_stopping_server_turns_new_calls_away_and_finishes_old_ones() -> None:
    async def scenario() -> None:
        server = Server()
        server.send(server.request(1, b"old"))
        server.dispatcher.turned_away = StatusError(14, "the server is stopping")
        server.send(server.request(3, b"new"))
        server.may_end.set()
        sent = await server.settle()
        assert status_of(sent, 3) == ("14", "the server is stopping")
        assert body_of(sent, 1)[5:] == b"old"

    _run(scenario)
