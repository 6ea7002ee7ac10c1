"""The transport to an engine inside this process: typed messages passed to its handlers, no socket, nothing serialised.

May live here: what makes an in-process call behave like one over gRPC (statuses, deadlines, cancellation, ownership of
messages). May not: the lifetime of engines (`perdure.server.embedding`).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar, cast

from google.protobuf.message import Message

from perdure.core.errors import DeadlineExceededError, StoreOpenError
from perdure.server.doors.status import Status, answer_to
from perdure.server.embedding import EmbeddedEngine, EngineGoneError, leave, open_engine
from perdure.server.service.call import Call
from perdure.service._errors import ClientConnectError, RPCError, RPCStatusCode
from perdure.service.transport import Metadata

ResponseT = TypeVar("ResponseT", bound=Message)

_HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
_CLOSED: Final = Status(RPCStatusCode.CANCELLED, "the client was closed", b"")


async def open_embedded(address: str) -> EmbeddedTransport:
    """Open a transport to the engine of an address, which is opened if nobody in this process uses it yet.

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
        self._serve = engine.serve
        self._loop = engine.loop
        self._is_closed = False
        self._calls: set[asyncio.Task[Any]] = set()

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
        """See `Transport.call`."""
        if self._is_closed:
            raise _error(_CLOSED)
        # Handlers fill in what a request leaves open; the caller's own message must stay as it is.
        own = type(request)()
        own.CopyFrom(request)
        if asyncio.get_running_loop() is self._loop:
            return cast(ResponseT, await self._call(rpc_path, own, metadata, timeout))
        if self._loop.is_closed():
            await self._reopen()
        return cast(ResponseT, await self._call_over(rpc_path, own, metadata, timeout))

    async def _call(
        self, path: str, request: Message, metadata: Metadata, timeout_s: float | None
    ) -> Message:
        """One call on the engine's loop, in the running task."""
        if path == _HEALTH_CHECK:
            return _health()
        call = Call(timeout_s, cast(Any, metadata))
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._calls.add(task)
        try:
            if timeout_s is None:
                return await self._serve(path, request, call)
            async with asyncio.timeout(timeout_s) as limit:
                return await self._serve(path, request, call)
        except TimeoutError as error:
            if timeout_s is not None and limit.expired():
                error_now: Exception = DeadlineExceededError()
            else:
                error_now = error
            raise _error(answer_to(error_now, path, self._engine.new_id)) from error
        except asyncio.CancelledError:
            if self._is_closed and task not in self._calls:
                # `close` cancelled the call, not the caller's own doing: the caller gets an answer.
                task.uncancel()
                raise _error(_CLOSED) from None
            raise
        except Exception as error:  # Whatever a handler raises becomes one answer, as at every door.
            raise _error(answer_to(error, path, self._engine.new_id)) from error
        finally:
            self._calls.discard(task)

    async def _call_over(
        self, path: str, request: Message, metadata: Metadata, timeout_s: float | None
    ) -> Message:
        """One call from another loop."""
        try:
            return await self._engine.on_loop(lambda: self._call(path, request, metadata, timeout_s))
        except EngineGoneError as error:
            raise _error(answer_to(error, path, self._engine.new_id)) from error

    async def _reopen(self) -> None:
        """The loop of the engine has ended, this is another: what is in a file can be opened anew."""
        if self._engine.place.path is None:
            text = (
                "The engine in memory ended with the event loop it ran on, and its workflows with it. Connect again on "
                "the loop that runs now, or keep them in a file (sqlite:///FILE)."
            )
            raise _error(Status(RPCStatusCode.FAILED_PRECONDITION, text, b""))
        engine = await _open(self._address)
        if not self._loop.is_closed():
            await leave(engine)  # another call was faster
            return
        gone, self._engine, self._serve, self._loop = self._engine, engine, engine.serve, engine.loop
        await leave(gone)

    async def close(self) -> None:
        """See `Transport.close`. The last transport of an engine drains it: calls are answered, polls end empty."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._loop.is_closed():
            await leave(self._engine)
            return
        await self._engine.on_loop(self._close)

    async def _close(self) -> None:
        if self._engine.users > 1:
            calls, self._calls = self._calls, set()
            for task in calls:
                task.cancel()
        await leave(self._engine)


def _error(status: Status) -> RPCError:
    return RPCError(status.message, RPCStatusCode(status.code), status.details)


def _health() -> Message:
    from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

    return cast(Message, health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING))
