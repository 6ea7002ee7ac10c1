"""Raw clients of engines of this program, in its process or beside it: the helpers of `RawClient` over a transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from google.protobuf.message import Message

from perdure.api.services import OPERATOR_SERVICE, TEST_SERVICE, WORKFLOW_SERVICE, method_path, rpcs
from perdure.service.embedded import EmbeddedTransport, open_embedded
from perdure.service.own_engine import open_own_engine
from perdure.service.transport import Transport
from tests.support.rpc import CALL_TIMEOUT_S, DEFAULT_NAMESPACE, RawClient

_METHODS = {
    rpc.request: (name, method_path(name, rpc.name), rpc.response)
    for name in (WORKFLOW_SERVICE, OPERATOR_SERVICE, TEST_SERVICE)
    for rpc in rpcs(name)
    if rpc.request.DESCRIPTOR.name != "Empty"
}


class TransportClient(RawClient):
    """Calls through a transport; errors are the transport's `RPCError`."""

    def __init__(self, transport: Transport, namespace: str = DEFAULT_NAMESPACE) -> None:
        self.transport = transport
        self.namespace = namespace
        self.identity = "embedded"

    @classmethod
    async def connect(cls, address: str) -> Self:
        """Open the engine of an address, or join it."""
        return cls(await open_own_engine(address))

    async def close(self) -> None:
        """Close the transport."""
        await self.transport.close()

    async def invoke(
        self,
        request: Message,
        *,
        timeout_s: float | None = CALL_TIMEOUT_S,
        wait_for_ready: bool = False,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Message:
        """Make the call that the request's type names."""
        service, path, response = _METHODS[type(request)]
        return await self.transport.call(
            service, path, request, response, metadata=dict(metadata), timeout=timeout_s
        )


class EmbeddedClient(TransportClient):
    """Of an engine in this process."""

    transport: EmbeddedTransport

    @classmethod
    async def connect(cls, address: str) -> Self:
        """Open the engine of an address, or join it."""
        return cls(await open_embedded(address))
