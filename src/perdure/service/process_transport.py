"""The transport to an engine in a process of its own: calls as frames over a socket, one connection per event loop.

May live here: calls. May not: the process and its life (`perdure.service.engine_processes`).
"""

from __future__ import annotations

import asyncio
import logging
from os import getpid  # bound here: the guards of workflow code put a slower one into the module
from typing import Final, TypeVar

import msgspec
from google.protobuf.message import Message

from perdure.server.addresses import Place
from perdure.server.doors.deadlines import Deadlines
from perdure.server.doors.pipe.frames import ENSURE_NAMESPACES, NO_TIMEOUT, TIMEOUT, FrameConnection, Kind
from perdure.service._errors import (
    ClientClosedError,
    ClientConnectError,
    RPCError,
    RPCStatusCode,
    closed_under_way,
)
from perdure.service._received import read_message
from perdure.service.engine_processes import (
    END_S,
    EngineEndingError,
    EngineProcess,
    EngineStartError,
    SharedEngine,
    join,
    leave,
)
from perdure.service.transport import Metadata

ResponseT = TypeVar("ResponseT", bound=Message)

logger = logging.getLogger(__name__)

_EXACT_BELOW_S: Final = 2.0
"""Calls with less time than this have a timer of their own; the others' end may come a twentieth of a second late."""


async def open_process(address: str, place: Place) -> ProcessTransport:
    """Open a transport to the engine's process of a place, which is started if no client of this process has it yet.

    Args:
        address: as the user wrote it, for errors.
        place: that it means.

    Raises:
        ClientConnectError: the process did not start, or cannot use the database.
    """
    try:
        transport = ProcessTransport(join(place), place)
    except EngineStartError as error:
        raise ClientConnectError(f"Failed client connect: {address}: {error}") from error
    try:
        await transport.open()
    except BaseException as error:  # also when cancelled: nobody else would close it
        await transport.close()
        if isinstance(error, EngineStartError | RPCError):
            raise ClientConnectError(f"Failed client connect: {address}: {error}") from error
        raise
    return transport


class ProcessTransport:
    """A `perdure.service.transport.Transport` to an engine in a process of its own.

    An engine that was killed is started anew by the next call; those under way end with UNAVAILABLE.

    Args:
        engine: in use by this transport until it is closed.
        place: where its data is.
    """

    def __init__(self, engine: SharedEngine, place: Place) -> None:
        self.engine = engine
        self._place = place
        self._connections: dict[asyncio.AbstractEventLoop, asyncio.Future[EngineConnection]] = {}
        self._current: tuple[asyncio.AbstractEventLoop, EngineConnection] | None = None
        self._is_closed = False
        self._process_id = getpid()

    async def open(self) -> None:
        """Connect, and create the namespaces that the address names.

        Raises:
            EngineStartError: the engine did not start.
            RPCError: a namespace cannot be created.
        """
        connection = await self._connection(asyncio.get_running_loop())
        if self._place.namespaces:
            await connection.call(ENSURE_NAMESPACES, msgspec.msgpack.encode(self._place.namespaces), {}, None)

    async def call(
        self,
        service: str,
        rpc_path: str,
        request: Message,
        response_type: type[ResponseT],
        *,
        metadata: Metadata,
        timeout: float | None,
    ) -> ResponseT:
        """See `Transport.call`.

        Raises:
            AssertionError: This process was forked from the one that had connected.
        """
        if self._is_closed:
            raise ClientClosedError
        if getpid() != self._process_id:
            raise AssertionError(
                "Cannot use client across forks: this process was forked from one that had connected. Connect in the "
                "process that uses the client; an engine on a file serves one process at a time."
            )
        loop = asyncio.get_running_loop()
        current = self._current
        if current is not None and current[0] is loop and current[1].is_open:
            connection = current[1]
        else:
            connection = await self._connected(loop, timeout)
        answer = await connection.call(rpc_path, request.SerializeToString(), metadata, timeout)
        return read_message(rpc_path, response_type, answer)

    async def _connected(self, loop: asyncio.AbstractEventLoop, timeout_s: float | None) -> EngineConnection:
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connection(loop)
        except TimeoutError:
            raise _deadline_exceeded() from None
        except EngineStartError as error:
            raise RPCError(str(error), RPCStatusCode.UNAVAILABLE, b"") from error
        except EngineEndingError as error:
            raise (closed_under_way() if self._is_closed else _engine_gone()) from error
        if self._is_closed:
            connection.end(closed_under_way())
            raise closed_under_way()
        self._current = (loop, connection)
        return connection

    async def _connection(self, loop: asyncio.AbstractEventLoop) -> EngineConnection:
        """The loop's connection; calls that need one at the same time share the attempt."""
        attempt = self._connections.get(loop)
        if attempt is not None and attempt.done() and not _is_open(attempt):
            attempt = None
        if attempt is None:
            # A copy: other threads add their loops meanwhile.
            for other in [other for other in list(self._connections) if other.is_closed()]:
                self._connections.pop(other, None)
            attempt = self._connections[loop] = loop.create_task(self._connect(loop))
            attempt.add_done_callback(_is_open)
        # One caller's cancellation must not end the attempt of the others.
        return await asyncio.shield(attempt)

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> EngineConnection:
        while True:
            process: EngineProcess = await asyncio.wrap_future(self.engine.running())
            try:
                own_end = process.connect()
            except EngineEndingError:
                await asyncio.wrap_future(process.ended)
                continue
            _, connection = await loop.create_unix_connection(lambda: EngineConnection(loop), sock=own_end)
            return connection

    async def close(self) -> None:
        """See `Transport.close`. The last transport of an engine drains it: calls are answered, polls end empty."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._current is not None and self._current[0] is asyncio.get_running_loop():
            self._current[1].flush()  # before the engine hears of its end
        self._current = None
        process = leave(self.engine)
        if process is not None:
            await _end_of(process)
        here = asyncio.get_running_loop()
        for loop, attempt in list(self._connections.items()):
            if loop.is_closed():
                continue
            if not attempt.done():
                loop.call_soon_threadsafe(attempt.cancel)
            elif _is_open(attempt):
                if loop is here:
                    attempt.result().end(closed_under_way())
                else:
                    loop.call_soon_threadsafe(attempt.result().end, closed_under_way())
        self._connections.clear()


async def _end_of(process: EngineProcess) -> None:
    """Wait for the end of a process that was told to end."""
    ended = asyncio.wrap_future(process.ended)
    try:
        async with asyncio.timeout(END_S):
            await asyncio.shield(ended)
    except TimeoutError:
        process.kill()
        await ended


class EngineConnection(FrameConnection):
    """A connection of one event loop.

    Args:
        loop: the one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._pending: dict[int, _Pending] = {}
        self._deadlines = Deadlines(loop)
        self._number = 0
        self._metadata: Metadata | None = None
        self._ended_with: RPCError | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._transport is not None

    async def call(self, path: str, request: bytes, metadata: Metadata, timeout_s: float | None) -> bytes:
        """Make one call and return the bytes of its answer.

        Raises:
            RPCError: it failed.
        """
        if self._transport is None:  # lost since it was chosen: nothing would ever answer
            raise self._ended_with or _engine_gone()
        if metadata is not self._metadata:
            self._metadata = metadata
            self.send(Kind.METADATA, 0, msgspec.msgpack.encode(dict(metadata)))
        number = self._number = (self._number + 1) % 2**32
        pending = self._pending[number] = _Pending(self, number, self._loop.create_future())
        if timeout_s is None:
            timeout_s = NO_TIMEOUT
        elif timeout_s < _EXACT_BELOW_S:
            timeout_s = max(0.0, timeout_s)
            pending.timer = self._loop.call_later(timeout_s, pending.expire)
        else:
            self._deadlines.add(pending, timeout_s)
        self.send(Kind.CALL, number, b"%b%b\0%b" % (TIMEOUT.pack(timeout_s), path.encode(), request))
        try:
            return await pending.answer
        except asyncio.CancelledError:
            self.abandon(number)
            raise
        finally:
            if pending.timer is not None:
                pending.timer.cancel()
            elif pending.deadline:
                self._deadlines.discard(pending)

    def received(self, kind: int, number: int, body: bytes) -> None:
        """Answers a call, if somebody still waits for it."""
        pending = self._pending.pop(number, None)
        if pending is None or pending.answer.done():
            return
        if kind == Kind.ANSWER:
            pending.answer.set_result(body)
        else:
            code, message, details = msgspec.msgpack.decode(body)
            pending.answer.set_exception(RPCError(message, RPCStatusCode(code), details))

    def abandon(self, number: int) -> None:
        """Nobody waits for a call any more."""
        if self._pending.pop(number, None) is not None:
            self.send(Kind.CANCEL, number, b"")

    def end(self, error: RPCError) -> None:
        """Close it; calls under way end with the error."""
        self._ended_with = error
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends what is under way."""
        super().connection_lost(exc)
        self._deadlines.close()
        pending, self._pending = self._pending, {}
        for each in pending.values():
            if not each.answer.done():
                each.answer.set_exception(self._ended_with or _engine_gone())


class _Pending:
    """A call under way."""

    __slots__ = ("_connection", "_number", "answer", "deadline", "timer")

    def __init__(self, connection: EngineConnection, number: int, answer: asyncio.Future[bytes]) -> None:
        self._connection = connection
        self._number = number
        self.answer = answer
        self.deadline = 0
        self.timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """The caller's time is over."""
        if not self.answer.done():
            self.answer.set_exception(_deadline_exceeded())
            self._connection.abandon(self._number)


def _is_open(attempt: asyncio.Future[EngineConnection]) -> bool:
    return not attempt.cancelled() and attempt.exception() is None and attempt.result().is_open


def _engine_gone() -> RPCError:
    text = "the engine's process ended before it answered; whether the call was done is not known"
    return RPCError(text, RPCStatusCode.UNAVAILABLE, b"")


def _deadline_exceeded() -> RPCError:
    return RPCError("Deadline Exceeded", RPCStatusCode.DEADLINE_EXCEEDED, b"")
