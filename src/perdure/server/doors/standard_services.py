"""The services every gRPC server is expected to have: health checking and reflection, from grpc's own packages.

Reflection is imported when first called: a worker never does, and the import would delay every start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool

from perdure.api.registry import POOL
from perdure.api.services import OPERATOR_SERVICE, WORKFLOW_SERVICE

HEALTH_SERVICE: Final = "grpc.health.v1.Health"
REFLECTION_SERVICES: Final = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


class StandardServices(grpc.GenericRpcHandler):
    """Answers for the health and reflection services."""

    def __init__(self) -> None:
        self._health: Any = None
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._reflection_loaded = False

    async def start(self) -> None:
        """Reports every service as serving."""
        # Imported here, so that a server without this door does not pay for it.
        from grpc_health.v1 import (  # type: ignore[import-untyped]
            health,
            health_pb2,
            health_pb2_grpc,
        )

        self._health = health.aio.HealthServicer()
        for name in ("", WORKFLOW_SERVICE, OPERATOR_SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._handlers |= _handlers_of(health_pb2_grpc.add_HealthServicer_to_server, self._health)

    async def stop(self) -> None:
        """Reports every service as not serving from now on."""
        if self._health is not None:
            await self._health.enter_graceful_shutdown()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method path, None if it is neither health nor reflection."""
        path = handler_call_details.method
        if not self._reflection_loaded and path.startswith("/grpc.reflection."):
            self._handlers |= _load_reflection()
            self._reflection_loaded = True
        return self._handlers.get(path)


class _CombinedPool:
    """Finds descriptors in our own pool first, then in the process's default one, where grpc's own are."""

    def __getattr__(self, name: str) -> Any:
        def find(*arguments: Any) -> Any:
            try:
                return getattr(POOL, name)(*arguments)
            except KeyError:
                return getattr(descriptor_pool.Default(), name)(*arguments)

        return find


def _load_reflection() -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
    from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
        reflection,
        reflection_pb2_grpc,
    )

    names = (WORKFLOW_SERVICE, OPERATOR_SERVICE, HEALTH_SERVICE, *REFLECTION_SERVICES)
    servicer = reflection.aio.ReflectionServicer(names, pool=_CombinedPool())
    alpha = _handlers_of(reflection_pb2_grpc.add_ServerReflectionServicer_to_server, servicer)
    # Version 1 has the messages of v1alpha under another name, so the same handler serves both.
    stable = {path.replace(".v1alpha.", ".v1."): handler for path, handler in alpha.items()}
    return {**alpha, **stable}


def _handlers_of(add_to_server: Any, servicer: Any) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
    """What a generated `add_..._to_server` function would register."""
    collector = _Collector()
    add_to_server(servicer, collector)
    return collector.handlers


class _Collector:
    """Stands in for a server, keeps what is registered."""

    def __init__(self) -> None:
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Takes nothing: the same methods come through `add_registered_method_handlers` too."""

    def add_registered_method_handlers(
        self, service_name: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Keeps the handlers by full path."""
        self.handlers.update({f"/{service_name}/{name}": handler for name, handler in handlers.items()})
