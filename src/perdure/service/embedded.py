"""The transport to an engine inside this process: typed messages passed to its handlers, no socket, nothing serialised.

May live here: what makes an in-process call behave like one over gRPC (statuses, deadlines, cancellation, ownership of
messages). May not: the lifetime of engines (`perdure.server.embedding`).
"""

from __future__ import annotations

import asyncio
from os import getpid  # bound here: the guards of workflow code put a slower one into the module
from typing import Any, Final, TypeVar, cast

from google.protobuf.message import Message

from perdure.core.errors import DeadlineExceededError, StoreOpenError, UnavailableError
from perdure.server.doors.deadlines import Deadlines
from perdure.server.doors.status import Status, answer_to
from perdure.server.embedding import EmbeddedEngine, EngineGoneError, LoopEndedError, leave, open_engine
from perdure.server.service.call import Call
from perdure.service._errors import ClientConnectError, RPCError, RPCStatusCode
from perdure.service.transport import Metadata

ResponseT = TypeVar("ResponseT", bound=Message)

_HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
_EXACT_BELOW_S: Final = 2.0
"""Calls with less time than this have a timer of their own; the others' end may come a twentieth of a second late."""
_EXPIRED: Final = Status(RPCStatusCode.DEADLINE_EXCEEDED, str(DeadlineExceededError()), b"")
_CLOSED: Final = Status(RPCStatusCode.CANCELLED, "the client was closed", b"")


async def open_embedded(address: str) -> EmbeddedTransport:
    """Open a transport to the engine of an address in this process, which is opened if nobody here uses it yet.

    Args:
        address: such as `sqlite:///orders.db`; see `perdure.server.addresses`.

    Raises:
        AddressError: it is no address of an engine.
        ClientConnectError: the database cannot be used; if another process uses it, the message names that.
    """
    return EmbeddedTransport(address, await _open(address))


async def _open(address: str) -> EmbeddedEngine:
    try:
        return await open_engine(address)
    except (StoreOpenError, EngineGoneError) as error:
        raise ClientConnectError(f"Failed client connect: {address}: {error}") from error


class EmbeddedTransport:
    """A `perdure.service.transport.Transport` to an engine of this process.

    Calls from the engine's own event loop run in the caller's task. Calls from another loop (another thread) are run on
    the engine's and waited for.

    Args:
        address: the engine's.
        engine: in use by this transport until it is closed.
    """

    def __init__(self, address: str, engine: EmbeddedEngine) -> None:
        self._address = address
        self._engine = engine
        self._loop = engine.loop
        self._is_closed = False
        self._process_id = getpid()
        self._pending: set[_Pending] = set()
        self._deadlines = Deadlines(engine.loop)

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
            raise _error(_CLOSED)
        if getpid() != self._process_id:
            raise AssertionError(
                "Cannot use client across forks: this process was forked from one that had connected. Connect in the "
                "process that uses the client; an engine on a file serves one process at a time."
            )
        # Handlers fill in what a request leaves open; the caller's own message must stay as it is.
        own = type(request)()
        own.CopyFrom(request)
        if asyncio.get_running_loop() is not self._loop:
            return await self._call_over(service, rpc_path, own, response_type, metadata, timeout)
        if rpc_path == _HEALTH_CHECK:
            return cast(ResponseT, self._health(own))
        task: Any = asyncio.current_task(self._loop)
        pending = _Pending(task)
        self._pending.add(pending)
        if timeout is not None:
            if timeout < _EXACT_BELOW_S:
                pending.timer = self._loop.call_later(timeout, pending.expire)
            else:
                self._deadlines.add(pending, timeout)
        engine = self._engine
        known = Call(timeout, metadata, is_local=True)  # type: ignore[arg-type] # no handler reads a binary value
        try:
            handler = engine.begin(rpc_path)
            try:
                return cast(ResponseT, await handler(own, known))
            finally:
                engine.end()
        except asyncio.CancelledError:
            status = pending.status
            if status is None or not pending.is_only_cancelled_by_us():
                raise
            raise _error(status) from None
        except Exception as error:  # Whatever a handler raises becomes one answer, as at every door.
            raise _error(answer_to(error, rpc_path, engine.new_id)) from error
        finally:
            self._pending.discard(pending)
            pending.end(self._deadlines)

    async def _call_over(
        self,
        service: str,
        path: str,
        request: Message,
        response_type: type[ResponseT],
        metadata: Metadata,
        timeout_s: float | None,
    ) -> ResponseT:
        """One call from another loop: the same on the engine's."""
        if self._loop.is_closed() or self._engine.ended_with_loop:
            await self._reopen()
        try:
            return await self._engine.on_loop(
                lambda: self.call(service, path, request, response_type, metadata=metadata, timeout=timeout_s)
            )
        except LoopEndedError as error:
            # The next try finds that out, and whether there is a file to open anew.
            raise _error(answer_to(UnavailableError(str(error)), path, self._engine.new_id)) from error
        except EngineGoneError as error:
            raise _error(answer_to(error, path, self._engine.new_id)) from error

    def _health(self, request: Any) -> Message:
        """The answer of the health service, which is a door's own and not the engine's."""
        from grpc_health.v1 import health_pb2

        if request.service and request.service not in self._engine.server.service.names:
            raise _error(Status(RPCStatusCode.NOT_FOUND, f"unknown service {request.service}", b""))
        return cast(Message, health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING))

    async def _reopen(self) -> None:
        """The loop of the engine has ended, this is another: what is in a file can be opened anew."""
        if self._engine.place.path is None:
            text = (
                "The engine in memory ended with the event loop it ran on, and its workflows with it. Connect again on "
                "the loop that runs now, or keep them in a file (sqlite:///FILE)."
            )
            raise _error(Status(RPCStatusCode.FAILED_PRECONDITION, text, b""))
        engine = await _open(self._address)
        if self._is_closed:
            # Closed while this call was opening it: nobody else would leave it.
            await leave(engine)
            raise _error(_CLOSED)
        if not (self._loop.is_closed() or self._engine.ended_with_loop):
            await leave(engine)  # another call was faster
            return
        gone, self._engine, self._loop = self._engine, engine, engine.loop
        self._deadlines = Deadlines(self._loop)
        await leave(gone)

    async def close(self) -> None:
        """See `Transport.close`. The last transport of an engine drains it: calls are answered, polls end empty."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._loop.is_closed():
            await leave(self._engine)
            return
        try:
            await self._engine.on_loop(self._close)
        except LoopEndedError:
            pass  # and with it everything that there was to close

    async def _close(self) -> None:
        if self._engine.users > 1:
            for pending in list(self._pending):
                pending.cancel(_CLOSED)
        self._deadlines.close()
        await leave(self._engine)


class _Pending:
    """A call that is being served in a task of its caller.

    Args:
        task: the caller's.
    """

    __slots__ = ("_cancelling", "_task", "deadline", "status", "timer")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._cancelling = task.cancelling()
        self.deadline = 0
        self.timer: asyncio.TimerHandle | None = None
        self.status: Status | None = None
        """What ended it, if we did and not the caller."""

    def expire(self) -> None:
        """The caller's time is over."""
        self.cancel(_EXPIRED)

    def cancel(self, status: Status) -> None:
        """Ends the call with a status, once."""
        if self.status is None:
            self.status = status
            self._task.cancel()

    def is_only_cancelled_by_us(self) -> bool:
        """Whether the caller was not cancelled meanwhile too."""
        return self._task.cancelling() - 1 <= self._cancelling

    def end(self, deadlines: Deadlines) -> None:
        """The call is over: takes back what we did to the task, and the deadline."""
        if self.status is not None:
            self._task.uncancel()
        if self.timer is not None:
            self.timer.cancel()
        elif self.deadline:
            deadlines.discard(self)


def _error(status: Status) -> RPCError:
    return RPCError(status.message, RPCStatusCode(status.code), status.details)
