"""Streams to calls: requests put together, one task per call, deadlines and cancellation, answers and statuses back.

A `Dispatcher` belongs to a server, a `CallsOfConnection` to each of its connections. What calls mean is in the routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Final, NamedTuple

from perdure.server.doors.deadlines import Deadlines
from perdure.server.doors.http2.connection import Connection, Stream
from perdure.server.doors.http2.frames import ErrorCode
from perdure.server.doors.http2.grpc_messages import (
    ACCEPTED_ENCODINGS,
    PREFIX_BYTES,
    Code,
    StatusError,
    check_encoding,
    prefix,
    read_message,
    status_trailers,
    too_large,
)
from perdure.server.doors.http2.headers import RequestHeaders
from perdure.server.doors.http2.hpack_fields import field
from perdure.server.doors.http2.limits import (
    MAX_ALL_PENDING_ANSWER_BYTES,
    MAX_BUFFERED_REQUEST_BYTES,
    MAX_PENDING_ANSWER_BYTES,
    STREAM_QUEUE_MESSAGES,
    Budget,
    Limits,
)

UnaryRoute = Callable[[bytes, RequestHeaders], Awaitable[bytes]]
"""Serves a call of one message and one answer, both serialised; is cancelled when the caller goes."""

StreamRoute = Callable[[AsyncIterator[bytes], RequestHeaders], AsyncGenerator[bytes, None]]
"""Serves a call of many messages either way."""

_STATUS_200: Final = b"\x88"
_CONTENT_TYPE_GRPC: Final = field(b"content-type", b"application/grpc")
RESPONSE_HEADERS: Final = _STATUS_200 + _CONTENT_TYPE_GRPC
TRAILERS_OK: Final = field(b"grpc-status", b"0")
_ACCEPT_ENCODING: Final = field(b"grpc-accept-encoding", ACCEPTED_ENCODINGS)
_TOO_SLOW: Final = StatusError(Code.DEADLINE_EXCEEDED, "the request did not come to its end in time")
_NO_TIMEOUT_LEFT: Final = StatusError(Code.DEADLINE_EXCEEDED, "deadline exceeded")


class Routes(NamedTuple):
    """Where calls go, by path."""

    unary: Mapping[str, UnaryRoute]
    stream: Mapping[str, StreamRoute]
    translate: Callable[[Exception, str], StatusError]
    """The status of an exception that the route of a path raised."""


class Dispatcher:
    """What the connections of a server share.

    Args:
        routes: where calls go.
        limits: what peers may ask.
        loop: where calls run.
    """

    def __init__(self, routes: Routes, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.routes = routes
        self.limits = limits
        self.loop = loop
        self.budget = Budget()
        self.deadlines = Deadlines(loop)
        self.cancelled: set[asyncio.Task[None]] = set()
        """Tasks whose callers are gone and which have not ended yet. They count as calls."""
        self.turned_away: StatusError | None = None
        """What new calls are answered, once the server stops."""

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Cancels a call's task and keeps it until it has ended."""
        self.cancelled.add(task)
        task.add_done_callback(self.cancelled.discard)
        task.cancel()


class Call:
    """One call."""

    __slots__ = (
        "_calls", "body", "can_write", "deadline", "has_headers", "incoming", "is_over", "stream", "task", "unary",
    )  # fmt: skip

    def __init__(self, calls: CallsOfConnection, stream: Stream, unary: UnaryRoute | None) -> None:
        self._calls = calls
        self.stream = stream
        self.unary = unary
        self.body: bytes | bytearray = b""
        self.task: asyncio.Task[None] | None = None
        self.deadline = 0
        self.is_over = False
        """Its answer or status is on its way; nothing the caller still sends matters."""
        self.has_headers = False
        """The response's headers were sent."""
        self.incoming: asyncio.Queue[bytes | None] | None = None
        """Messages of a streaming call; None is their end."""
        self.can_write: asyncio.Event | None = None

    def expire(self) -> None:
        """The caller's deadline has passed."""
        self._calls.fail(self, _NO_TIMEOUT_LEFT)


class CallsOfConnection:
    """Observes the streams of one connection.

    Args:
        dispatcher: what all connections share.
        flush_soon: makes the connection's output be written in this turn of the loop.
    """

    connection: Connection
    """Set by whoever makes both."""

    def __init__(self, dispatcher: Dispatcher, flush_soon: Callable[[], None]) -> None:
        self._shared = dispatcher
        self._unary = dispatcher.routes.unary
        self._max_bytes = dispatcher.limits.message_bytes
        self._flush_soon = flush_soon

    # --- what the connection tells

    def opened(self, stream: Stream) -> None:
        """A call begins."""
        shared, headers = self._shared, stream.headers
        unary = self._unary.get(headers.path)
        call = stream.call = Call(self, stream, unary)
        shared.budget.calls += 1
        if headers.http_refusal is not None:
            call.is_over = True
            self._refuse_http(stream, *headers.http_refusal)
            return
        if shared.budget.calls + len(shared.cancelled) > shared.limits.calls:
            self.fail(call, StatusError(Code.RESOURCE_EXHAUSTED, "too many calls at once"))
            return
        if shared.turned_away is not None:
            self.fail(call, shared.turned_away)
            return
        if headers.has_bad_timeout:
            self.fail(call, StatusError(Code.INTERNAL, "malformed grpc-timeout"))
            return
        if headers.encoding != "identity":
            try:
                check_encoding(headers.encoding)
            except StatusError as error:
                self.fail(call, error)
                return
        if unary is None and not self._open_streaming(call):
            return
        if headers.timeout_s is not None:
            shared.deadlines.add(call, headers.timeout_s)
        if stream.is_complete:
            self._end_of_request(call)

    def _open_streaming(self, call: Call) -> bool:
        path = call.stream.headers.path
        route = self._shared.routes.stream.get(path)
        if route is None:
            self.fail(call, StatusError(Code.UNIMPLEMENTED, f"unknown method {path}"))
            return False
        call.incoming = asyncio.Queue()
        self._start(call, self._serve_stream(call, route))
        return True

    def received(self, stream: Stream, data: bytes) -> None:
        """A piece of the request. Usually the whole of it."""
        call: Call = stream.call
        if call.is_over:
            return
        if call.incoming is not None:
            self._receive_messages(call, data)
        elif stream.is_complete and not call.body:
            call.body = data
        else:
            self._gather(call, data)
        if stream.is_complete and not call.is_over:
            self._end_of_request(call)

    def overdue(self, stream: Stream) -> None:
        """A request takes too long to come. A streaming call's may: its messages are answered one by one."""
        call: Call = stream.call
        if call.incoming is None and not call.is_over:
            self.fail(call, _TOO_SLOW)

    def writable(self, stream: Stream) -> None:
        """A streaming call may go on."""
        call: Call = stream.call
        if call.can_write is not None:
            call.can_write.set()

    def closed(self, stream: Stream) -> None:
        """A call has ended, one way or another. If it is still being served, nobody waits for it."""
        call: Call = stream.call
        shared = self._shared
        shared.budget.calls -= 1
        if call.deadline:
            shared.deadlines.discard(call)
        if call.body:
            self._release_body(call)
        if call.task is not None:
            shared.cancel(call.task)
            call.task = None

    # --- requests

    def _gather(self, call: Call, data: bytes) -> None:
        """Puts a request together that comes in pieces; refuses one that is too large as soon as that shows."""
        if not isinstance(call.body, bytearray):
            call.body = bytearray()
        body, budget = call.body, self._shared.budget
        body += data
        budget.buffered_bytes += len(data)
        if len(body) >= PREFIX_BYTES:
            length = prefix.unpack_from(body)[1]
            if length > self._max_bytes:
                self.fail(call, too_large(length, self._max_bytes))
                return
            if len(body) > length + PREFIX_BYTES:
                text = "more than one message in the request of a unary call"
                self.fail(call, StatusError(Code.UNIMPLEMENTED, text))
                return
        self._check_buffered(call)

    def _check_buffered(self, call: Call) -> None:
        if self._shared.budget.buffered_bytes > MAX_BUFFERED_REQUEST_BYTES:
            text = "the server holds too many incomplete requests"
            self.fail(call, StatusError(Code.RESOURCE_EXHAUSTED, text))

    def _release_body(self, call: Call) -> None:
        if isinstance(call.body, bytearray):
            self._shared.budget.buffered_bytes -= len(call.body)
        call.body = b""

    def _end_of_request(self, call: Call) -> None:
        if call.incoming is not None:
            if call.body:
                self.fail(call, StatusError(Code.INTERNAL, "the request ended inside a message"))
            else:
                self._enqueue(call, None)
            return
        unary = call.unary
        try:
            message = read_message(call.body, call.stream.headers.encoding, self._max_bytes)
        except StatusError as error:
            self.fail(call, error)
            return
        if call.body:
            self._release_body(call)
        if unary is not None:
            self._start(call, self._serve_unary(call, unary, message))

    def _receive_messages(self, call: Call, data: bytes) -> None:
        """Cuts the messages of a streaming call out of its body."""
        if not isinstance(call.body, bytearray):
            call.body = bytearray()
        body = call.body
        body += data
        self._shared.budget.buffered_bytes += len(data)
        while len(body) >= PREFIX_BYTES:
            end = PREFIX_BYTES + prefix.unpack_from(body)[1]
            if end - PREFIX_BYTES <= self._max_bytes and len(body) < end:
                break
            try:
                # A message that is too large is refused here, before it is complete.
                message = read_message(body[:end], call.stream.headers.encoding, self._max_bytes)
            except StatusError as error:
                self.fail(call, error)
                return
            del body[:end]
            self._shared.budget.buffered_bytes -= end
            if not self._enqueue(call, message):
                return
        self._check_buffered(call)

    def _enqueue(self, call: Call, message: bytes | None) -> bool:
        if call.incoming is None or call.incoming.qsize() > STREAM_QUEUE_MESSAGES:
            self.fail(
                call, StatusError(Code.RESOURCE_EXHAUSTED, "messages come faster than they are answered")
            )
            return False
        call.incoming.put_nowait(message)
        return True

    # --- serving

    def _start(self, call: Call, serving: Coroutine[None, None, None]) -> None:
        call.task = self._shared.loop.create_task(serving)

    async def _serve_unary(self, call: Call, route: UnaryRoute, message: bytes) -> None:
        stream = call.stream
        try:
            answer = await route(message, stream.headers)
        except asyncio.CancelledError:
            self._on_cancelled(call)
            return
        except Exception as error:  # Whatever a route raises must become one answer, and the server stays up.
            self._on_error(call, error)
            return
        if call.task is None:
            return
        call.task = None
        call.is_over = True
        connection = self.connection
        if (
            connection.outbox.pending_bytes + len(answer) > MAX_PENDING_ANSWER_BYTES
            or self._shared.budget.pending_answer_bytes + len(answer) > MAX_ALL_PENDING_ANSWER_BYTES
        ):
            self.fail(call, StatusError(Code.RESOURCE_EXHAUSTED, "too many answers wait to be read"))
            return
        connection.outbox.send_whole(
            stream, RESPONSE_HEADERS, prefix.pack(0, len(answer)), answer, TRAILERS_OK
        )
        self._flush_soon()

    async def _serve_stream(self, call: Call, route: StreamRoute) -> None:
        outbox, stream = self.connection.outbox, call.stream
        try:
            async with aclosing(route(self._messages(call), stream.headers)) as answers:
                async for answer in answers:
                    if call.task is None:
                        return
                    self._send_headers(call)
                    outbox.send_data(stream, prefix.pack(0, len(answer)) + answer)
                    await self._wait_until_sent(call)
        except asyncio.CancelledError:
            self._on_cancelled(call)
            return
        except Exception as error:  # Whatever a route raises must become one answer, and the server stays up.
            self._on_error(call, error)
            return
        if call.task is None:
            return
        call.task = None
        call.is_over = True
        self._send_headers(call)
        outbox.send_headers(stream, TRAILERS_OK, True)
        self._flush_soon()

    def _send_headers(self, call: Call) -> None:
        if not call.has_headers:
            call.has_headers = True
            self.connection.outbox.send_headers(call.stream, RESPONSE_HEADERS, False)

    async def _wait_until_sent(self, call: Call) -> None:
        """The next answer is not asked for while the last one waits: a slow reader slows its call down."""
        if call.can_write is None:
            call.can_write = asyncio.Event()
        call.can_write.clear()
        self._flush_soon()
        await call.can_write.wait()

    async def _messages(self, call: Call) -> AsyncIterator[bytes]:
        while call.incoming is not None:
            message = await call.incoming.get()
            if message is None:
                return
            self.connection.credit(call.stream, len(message) + PREFIX_BYTES)
            self._flush_soon()
            yield message

    # --- ends

    def _on_cancelled(self, call: Call) -> None:
        # Without a task the call has ended and we cancelled it. Otherwise what it waited for was cancelled.
        if call.task is not None:
            call.task = None
            self.fail(call, StatusError(Code.CANCELLED, "the server cancelled the call"))

    def _on_error(self, call: Call, error: Exception) -> None:
        status = self._shared.routes.translate(error, call.stream.headers.path)
        if call.task is not None:
            call.task = None
            self.fail(call, status)

    def fail(self, call: Call, error: StatusError) -> None:
        """Ends a call with a status, and with it whatever still serves it."""
        stream = call.stream
        if stream.id not in self.connection.streams:
            return
        call.is_over = True
        task, call.task = call.task, None
        if stream.pending:
            # Part of an answer waits for a caller that does not take it; a status would wait behind it.
            self.connection.reset(stream.id, ErrorCode.CANCEL)
        else:
            block = status_trailers(error, self.connection.outbox.max_list_bytes)
            if not call.has_headers:
                block = RESPONSE_HEADERS + block
                if error.code == Code.UNIMPLEMENTED:
                    block = RESPONSE_HEADERS + _ACCEPT_ENCODING + block[len(RESPONSE_HEADERS) :]
            self.connection.outbox.send_headers(stream, block, True)
        if task is not None:
            self._shared.cancel(task)
        self._flush_soon()

    def fail_all(self, error: StatusError) -> None:
        """Ends every call with a status."""
        for stream in list(self.connection.streams.values()):
            self.fail(stream.call, error)

    def _refuse_http(self, stream: Stream, http_status: int, text: str) -> None:
        head = field(b":status", str(http_status).encode()) + field(b"content-type", b"text/plain")
        tail = status_trailers(StatusError(Code.UNIMPLEMENTED, text), self.connection.outbox.max_list_bytes)
        self.connection.outbox.send_whole(stream, head, b"", text.encode() + b"\n", tail)
        self._flush_soon()
