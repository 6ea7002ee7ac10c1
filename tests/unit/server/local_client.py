"""A client of a server's service in the same process: the raw client's helpers without a transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from google.protobuf.message import Message

from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE, method_path
from perdure.server.config import ServerConfig
from perdure.server.runtime import Runtime, SystemRuntime
from perdure.server.server import Server
from perdure.server.service.call import Call
from perdure.store.memory import MemoryStore
from tests.support.rpc import RawClient


class LocalClient(RawClient):
    """Calls handlers directly; errors come as the typed errors that handlers raise."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.namespace = "default"
        self.identity = "local"

    async def invoke(
        self,
        request: Message,
        *,
        timeout_s: float | None = 10.0,
        wait_for_ready: bool = False,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Message:
        """Serves the RPC that the request's type names."""
        is_operator = request.DESCRIPTOR.file.package.endswith("operatorservice.v1")
        service = OPERATOR_SERVICE if is_operator else WORKFLOW_SERVICE
        path = method_path(service, request.DESCRIPTOR.name.removesuffix("Request"))
        # What a door reads off the wire is the handler's own; the caller's request stays as it is.
        own = type(request).FromString(request.SerializeToString())
        return await self.server.service.call(path, own, Call(timeout_s, dict(metadata)))


@asynccontextmanager
async def serving(
    config: ServerConfig | None = None, runtime: Runtime | None = None
) -> AsyncIterator[LocalClient]:
    """A client of a server over a store in memory."""
    server = Server(MemoryStore(), config or ServerConfig(port=0), runtime or SystemRuntime(), "memory")
    await server.start()
    try:
        yield LocalClient(server)
    finally:
        await server.stop(0)
