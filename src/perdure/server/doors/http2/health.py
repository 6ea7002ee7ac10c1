"""The health service (grpc.health.v1): is this server, or one of its services, serving?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Final

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from perdure.server.doors.http2.calls import StreamRoute, UnaryRoute
from perdure.server.doors.http2.grpc_messages import StatusError
from perdure.server.doors.http2.headers import RequestHeaders
from perdure.server.doors.status import INVALID_ARGUMENT

NAME: Final = "grpc.health.v1.Health"
NOT_FOUND: Final = 5


class Health:
    """The state of services.

    Args:
        services: their full names; the server as a whole is added as the empty name.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._names = frozenset(("", *services))
        self._status = health_pb2.HealthCheckResponse.SERVING
        self._changed = asyncio.Event()
        self.unary: dict[str, UnaryRoute] = {f"/{NAME}/Check": self._check, f"/{NAME}/List": self._list}
        self.stream: dict[str, StreamRoute] = {f"/{NAME}/Watch": self._watch}

    def stop(self) -> None:
        """Reports everything as not serving from now on."""
        self._status = health_pb2.HealthCheckResponse.NOT_SERVING
        self._changed.set()

    async def _check(self, message: bytes, headers: RequestHeaders) -> bytes:
        name = _service_name(message)
        if name not in self._names:
            raise StatusError(NOT_FOUND, f"no service named {name!r}")
        return self._response(self._status)

    async def _list(self, message: bytes, headers: RequestHeaders) -> bytes:
        one = health_pb2.HealthCheckResponse(status=self._status)
        data: bytes = health_pb2.HealthListResponse(
            statuses=dict.fromkeys(self._names, one)
        ).SerializeToString()
        return data

    async def _watch(
        self, messages: AsyncIterator[bytes], headers: RequestHeaders
    ) -> AsyncGenerator[bytes, None]:
        name = _service_name(await anext(messages, b""))
        if name not in self._names:
            yield self._response(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            await self._changed.wait()
            return
        yield self._response(self._status)
        if not self._changed.is_set():
            await self._changed.wait()
            yield self._response(self._status)

    @staticmethod
    def _response(status: int) -> bytes:
        data: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
        return data


def _service_name(message: bytes) -> str:
    try:
        name: str = health_pb2.HealthCheckRequest.FromString(message).service
    except DecodeError as error:
        raise StatusError(INVALID_ARGUMENT, f"the request is not a HealthCheckRequest: {error}") from error
    return name
