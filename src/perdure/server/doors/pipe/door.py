"""Calls from frames: requests read, one task per call, answers and statuses back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from google.protobuf.message import Message

from perdure.server.doors.http2.calls import UnaryRoute
from perdure.server.doors.http2.grpc_messages import StatusError
from perdure.server.doors.http2.headers import RequestHeaders
from perdure.server.doors.http2.health import Health
from perdure.server.doors.pipe.frames import ENSURE_NAMESPACES, TIMEOUT, FrameConnection, Kind
from perdure.server.doors.status import Status, answer_to
from perdure.server.embedding import EmbeddedEngine
from perdure.server.service.call import Call

_NO_HEADERS: Final = RequestHeaders("")


class PipeDoor:
    """The connections to an engine.

    Args:
        engine: open, on the loop that runs.
    """

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine
        service = engine.server.service
        self.requests: Mapping[str, Callable[[bytes], Message]] = {
            path: method.request.FromString for path, method in service.methods.items()
        }
        self.routes: Mapping[str, UnaryRoute] = {
            **Health(service.names).unary,
            ENSURE_NAMESPACES: self._ensure_namespaces,
        }
        """What is served here and not by the engine."""
        self.connections: set[PipeConnection] = set()
        self._all_gone = asyncio.Event()

    async def _ensure_namespaces(self, request: bytes, headers: RequestHeaders) -> bytes:
        await self.engine.server.ensure_namespaces(msgspec.msgpack.decode(request))
        return b""

    def connected(self) -> PipeConnection:
        """A new connection, for asyncio to begin."""
        connection = PipeConnection(self)
        self.connections.add(connection)
        return connection

    def lost(self, connection: PipeConnection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._all_gone.set()

    async def stop(self, grace_s: float) -> None:
        """Close the connections; what was answered before gets `grace_s` seconds to leave."""
        for connection in list(self.connections):
            connection.close()
        if self.connections:
            self._all_gone.clear()
            try:
                async with asyncio.timeout(grace_s):
                    await self._all_gone.wait()
            except TimeoutError:
                return  # a peer that reads nothing


class PipeConnection(FrameConnection):
    """Serves the calls of one connection; those under way end with it.

    Args:
        door: what the connections share.
    """

    def __init__(self, door: PipeDoor) -> None:
        super().__init__(door.engine.loop)
        self._door = door
        self._engine = door.engine
        self._requests = door.requests
        self._metadata: Mapping[str, str] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the calls any more."""
        super().connection_lost(exc)
        for task in self._tasks.values():
            task.cancel()
        self._door.lost(self)

    def received(self, kind: int, number: int, body: bytes) -> None:
        """Begins or ends a call."""
        if kind == Kind.CALL:
            self._tasks[number] = self._loop.create_task(self._serve(number, body, self._metadata))
        elif kind == Kind.METADATA:
            self._metadata = msgspec.msgpack.decode(body)
        elif (task := self._tasks.pop(number, None)) is not None:
            task.cancel()

    async def _serve(self, number: int, call: bytes, metadata: Mapping[str, str]) -> None:
        end = call.index(0, TIMEOUT.size)
        path = call[TIMEOUT.size : end].decode()
        timeout_s = TIMEOUT.unpack_from(call)[0]
        try:
            answer = await self._answer(
                path, call[end + 1 :], Call(None if timeout_s < 0 else timeout_s, metadata)
            )
        except asyncio.CancelledError:
            pass  # whoever asked is gone, or has been told by its own clock
        except Exception as error:  # Whatever a handler raises becomes one answer, as at every door.
            self.send(Kind.FAILURE, number, msgspec.msgpack.encode(self._status(error, path)))
        else:
            self.send(Kind.ANSWER, number, answer)
        finally:
            self._tasks.pop(number, None)

    async def _answer(self, path: str, request: bytes, call: Call) -> bytes:
        route = self._door.routes.get(path)
        if route is not None:
            return await route(request, _NO_HEADERS)
        engine = self._engine
        handler = engine.begin(path)
        try:
            response = await handler(self._requests[path](request), call)
        finally:
            engine.end()
        return response.SerializeToString()

    def _status(self, error: Exception, path: str) -> Status:
        if isinstance(error, StatusError):
            return Status(error.code, error.message, error.details)
        return answer_to(error, path, self._engine.new_id)
