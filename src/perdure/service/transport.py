"""The seam between a service client and what carries its calls: gRPC, or an engine of this program.

Here live the protocol of a transport and the registry from address schemes to the module that opens one. No transport
lives here. Retries, identity and API keys are the service client's affair: a transport carries one call, once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Protocol, TypeVar

from google.protobuf.message import Message

ResponseT = TypeVar("ResponseT", bound=Message)

Metadata = Mapping[str, str | bytes]


class Transport(Protocol):
    """What a service client sends its calls through; one per address, shared by all calls of a client."""

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
        """Make one call and return its answer.

        Args:
            service: Full proto name, such as `temporal.api.workflowservice.v1.WorkflowService`.
            rpc_path: What gRPC calls the method's path, such as
                `/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo`; a constant per method, fit for a
                dictionary's key.
            request: The request message. It belongs to the caller and is neither changed nor kept after the call.
            response_type: Class of the answer. The answer belongs to the caller, who may change it.
            metadata: Complete metadata of the call, keys in lower case, keys of binary values ending in `-bin`.
            timeout: Seconds until the call ends with DEADLINE_EXCEEDED; None waits without a limit.

        Raises:
            RPCError: The call failed; status, message and details as a gRPC server would give them.
            asyncio.CancelledError: The caller was cancelled; the server side of the call is cancelled too.
        """
        ...

    async def close(self) -> None:
        """Release what the transport holds. Calls in flight end with CANCELLED. Closing twice is fine."""
        ...


Opener = Callable[[str], Awaitable[Transport]]
"""Opens the transport of an address, given as the user wrote it (`sqlite:///orders.db`)."""

SCHEMES: dict[str, str] = {
    "sqlite": "perdure.service.own_engine:open_own_engine",
    "postgresql": "perdure.service.own_engine:open_own_engine",
}
"""Address scheme to `module:function` of its `Opener`; anything else is a gRPC address."""


def scheme_of(address: str) -> str | None:
    """Return the scheme in front of `://` in lower case, or None for a plain `host:port`."""
    scheme, separator, _ = address.partition("://")
    return scheme.lower() if separator else None


def opener_for(address: str) -> Opener | None:
    """Return what opens the transport of an address with a registered scheme; None means gRPC.

    The module of the scheme is imported here and not before: most clients need one transport only.
    """
    target = SCHEMES.get(scheme_of(address) or "")
    if target is None:
        return None
    module_name, _, function_name = target.partition(":")
    opener: Opener = getattr(import_module(module_name), function_name)
    return opener
