"""The reflection service, versions v1 and v1alpha: what does this server offer? Answers come from grpc's own package.

It is imported with the first call: few callers ask, and the import would delay every start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any, Final

from google.protobuf.message import DecodeError

from perdure.server.doors.http2.calls import StreamRoute
from perdure.server.doors.http2.grpc_messages import StatusError
from perdure.server.doors.http2.headers import RequestHeaders
from perdure.server.doors.status import INVALID_ARGUMENT

PATHS: Final = (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)


def _load() -> Any:
    from perdure.server.doors.standard_services import StandardServices

    details: Any = SimpleNamespace(method=PATHS[0], invocation_metadata=())
    # One handler serves both versions: their messages differ in name only.
    return StandardServices().service(details)


class Reflection:
    """Answers questions about descriptors."""

    def __init__(self) -> None:
        self._handler: Any = None
        self.stream: dict[str, StreamRoute] = dict.fromkeys(PATHS, self._serve)

    async def _serve(
        self, messages: AsyncIterator[bytes], headers: RequestHeaders
    ) -> AsyncGenerator[bytes, None]:
        if self._handler is None:
            self._handler = await asyncio.to_thread(_load)
        handler = self._handler

        async def requests() -> AsyncIterator[Any]:
            async for data in messages:
                try:
                    request = handler.request_deserializer(data)
                except DecodeError as error:
                    text = f"the request is not a ServerReflectionRequest: {error}"
                    raise StatusError(INVALID_ARGUMENT, text) from error
                yield request

        async for answer in handler.stream_stream(requests(), None):
            yield handler.response_serializer(answer)
