"""The reflection service, versions v1 and v1alpha: what does this server offer? Answers come from grpc's own package.

It is imported with the first call: few callers ask, and the import would delay every start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError

from perdure.api.registry import POOL
from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE
from perdure.server.doors.http2.calls import StreamRoute
from perdure.server.doors.http2.grpc_messages import StatusError
from perdure.server.doors.http2.headers import RequestHeaders
from perdure.server.doors.status import INVALID_ARGUMENT

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
PATHS: Final = tuple(f"/{name}/ServerReflectionInfo" for name in SERVICES)
_SHOWN: Final = (WORKFLOW_SERVICE, OPERATOR_SERVICE, "grpc.health.v1.Health", *SERVICES)


class Reflection:
    """Answers questions about descriptors. One servicer serves both versions: their messages differ in name only."""

    def __init__(self) -> None:
        self._servicer: Any = None
        self._parse: Any = None
        self.stream: dict[str, StreamRoute] = dict.fromkeys(PATHS, self._serve)

    def _load(self) -> None:
        # Imported here, so that a server that is never asked does not pay for it.
        from grpc_health.v1 import health_pb2  # noqa: F401  registers its descriptors
        from grpc_reflection.v1alpha import reflection, reflection_pb2

        self._parse = reflection_pb2.ServerReflectionRequest.FromString
        self._servicer = reflection.aio.ReflectionServicer(_SHOWN, pool=_CombinedPool())

    async def _serve(
        self, messages: AsyncIterator[bytes], headers: RequestHeaders
    ) -> AsyncGenerator[bytes, None]:
        if self._servicer is None:
            await asyncio.to_thread(self._load)

        async def requests() -> AsyncIterator[Any]:
            async for data in messages:
                try:
                    request = self._parse(data)
                except DecodeError as error:
                    text = f"the request is not a ServerReflectionRequest: {error}"
                    raise StatusError(INVALID_ARGUMENT, text) from error
                yield request

        async for answer in self._servicer.ServerReflectionInfo(requests(), None):
            yield answer.SerializeToString()


class _CombinedPool:
    """Finds descriptors in our own pool first, then in the process's default one, where grpc's own are."""

    def __getattr__(self, name: str) -> Any:
        def find(*arguments: Any) -> Any:
            try:
                return getattr(POOL, name)(*arguments)
            except KeyError:
                return getattr(descriptor_pool.Default(), name)(*arguments)

        return find
