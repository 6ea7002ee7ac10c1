"""The service: every RPC of the contract as one table from its path to an async function.

Handlers live in groups, one module and class per theme; a method named like the RPC in snake_case serves it. RPCs
without one answer UNIMPLEMENTED with their own name. Doors and in-process clients call `Service.call`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from perdure.api.services import OPERATOR_SERVICE, TEST_SERVICE, WORKFLOW_SERVICE, method_path, rpcs
from perdure.core.errors import UnimplementedError
from perdure.server.service.call import Call

HandlerFunction = Callable[[Any, Call], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: how to read its request, and who serves it (None: nobody yet)."""

    path: str
    request: type[Message]
    response: type[Message]
    serve: HandlerFunction | None


class Service:
    """Every RPC that doors offer.

    Args:
        groups: objects whose methods are handlers; the first that has a method for an RPC serves it.
        test_service: handler of TestService; None where there is none.
        limited: makes an RPC refuse the calls of doors that are over a quota; None where there are no quotas.
    """

    def __init__(
        self,
        groups: Sequence[object],
        test_service: object | None = None,
        limited: Callable[[Method], Method] | None = None,
    ) -> None:
        self.methods: dict[str, Method] = {}
        services = {WORKFLOW_SERVICE: groups, OPERATOR_SERVICE: groups}
        if test_service is not None:
            services[TEST_SERVICE] = (test_service,)
        self.names = tuple(services)
        for service_name, handlers in services.items():
            for rpc in rpcs(service_name):
                serve = _find(handlers, snake_case(rpc.name))
                path = method_path(service_name, rpc.name)
                self.methods[path] = Method(path, rpc.request, rpc.response, serve)
        self._called = (
            self.methods
            if limited is None
            else {path: limited(method) for path, method in self.methods.items()}
        )

    async def call(self, path: str, request: Message, call: Call) -> Message:
        """Serves one call.

        Args:
            path: such as `/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo`.
            request: a message of the RPC's request class.
            call: what is known of the call.

        Raises:
            ServiceError: the typed error the caller gets.
        """
        return await self.handler(path)(request, call)

    async def call_without_quota(self, path: str, request: Message, call: Call) -> Message:
        """Serves one of the server's own calls.

        Raises:
            ServiceError: the typed error the caller gets.
        """
        return await _serving(self.methods, path)(request, call)

    def handler(self, path: str) -> HandlerFunction:
        """What serves an RPC.

        Raises:
            UnimplementedError: nothing does.
        """
        return _serving(self._called, path)


def _serving(methods: Mapping[str, Method], path: str) -> HandlerFunction:
    method = methods.get(path)
    if method is None or method.serve is None:
        raise UnimplementedError(f"{path.rsplit('/', 1)[-1]} is not implemented by this server")
    return method.serve


def _find(groups: Sequence[object], name: str) -> HandlerFunction | None:
    for group in groups:
        handler: HandlerFunction | None = getattr(group, name, None)
        if handler is not None:
            return handler
    return None


def snake_case(name: str) -> str:
    """The name of the handler of an RPC."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
