"""One callable per RPC, made from the contract's descriptors on first use.

May live here: how a method's name, path and message classes are found. May not: how a call is made.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable, Mapping
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from perdure.api.registry import POOL

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor

    from perdure.service._client import ServiceClient

HEALTH_SERVICE = "grpc.health.v1.Health"
SERVICES: Mapping[str, str] = {
    "workflow": "temporal.api.workflowservice.v1.WorkflowService",
    "operator": "temporal.api.operatorservice.v1.OperatorService",
    "cloud": "temporal.api.cloud.cloudservice.v1.CloudService",
    "test": "temporal.api.testservice.v1.TestService",
    "health": HEALTH_SERVICE,
}
"""Short name of a service, as interceptors of calls see it, to its full proto name."""

# Calls that a server holds open until there is something to say; they get more time before they count as lost.
_LONG_POLLS = frozenset(
    {
        "describe_activity_execution",
        "poll_activity_execution",
        "poll_activity_task_queue",
        "poll_nexus_operation_execution",
        "poll_nexus_task_queue",
        "poll_workflow_execution_update",
        "poll_workflow_task_queue",
        "update_workflow_execution",
        "execute_multi_operation",
    }
)
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Method(NamedTuple):
    """What a transport must know of one RPC."""

    service: str
    path: str
    name: str
    """As the contract has it: `GetSystemInfo`."""
    long_poll: bool
    may_wait: bool
    """A request may ask to wait, which makes it a long poll: it has a field `wait_new_event`."""


class UnaryCall(Protocol):
    """A method of a service client."""

    def __call__(
        self,
        req: Any,
        retry: bool = False,
        metadata: Mapping[str, str | bytes] = {},
        timeout: timedelta | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Make the call.

        Args:
            req: The request message.
            retry: Repeat it as the client's `RetryConfig` says.
            metadata: Metadata of this call; its keys win over the client's.
            timeout: Limit of every try.

        Returns:
            The response message.

        Raises:
            RPCError: The call failed.
        """
        ...


def snake_case(name: str) -> str:
    """Return `GetSystemInfo` as `get_system_info`."""
    return _CAPITAL.sub("_", name).lower()


@cache
def _descriptors(service: str) -> Mapping[str, MethodDescriptor]:
    full_name = SERVICES[service]
    if full_name == HEALTH_SERVICE:
        from grpc_health.v1 import health_pb2

        # The library's client has no streams, and `List` is younger than most servers.
        methods: Iterable[MethodDescriptor] = [
            health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["Check"]
        ]
    else:
        methods = POOL.FindServiceByName(full_name).methods
    return {snake_case(method.name): method for method in methods}


@cache
def find_method(service: str, rpc: str) -> Method:
    """Return what a transport must know of an RPC.

    Args:
        service: Short name, a key of `SERVICES`.
        rpc: Name in snake case.

    Raises:
        ValueError: There is no such service or RPC.
    """
    if service not in SERVICES:
        raise ValueError(f"Unrecognized service {service}")
    descriptor = _descriptors(service).get(rpc)
    if descriptor is None:
        raise ValueError(f"Unknown RPC call {rpc} of service {service}")
    full_name = SERVICES[service]
    may_wait = "wait_new_event" in descriptor.input_type.fields_by_name
    return Method(full_name, f"/{full_name}/{descriptor.name}", descriptor.name, rpc in _LONG_POLLS, may_wait)


def response_class(service: str, rpc: str) -> type[Message]:
    """Return the class of an RPC's response."""
    return GetMessageClass(_descriptors(service)[rpc].output_type)


class ServiceMethods:
    """The methods of one service, in snake case, as attributes: made on first use and kept.

    Args:
        client: Makes the calls.
    """

    _service: ClassVar[str]

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> UnaryCall:
        if name.startswith("_") or name not in _descriptors(self._service):
            raise AttributeError(f"{type(self).__name__} has no RPC {name!r}")
        call = _make_call(self._client, self._service, name)
        self.__dict__[name] = call
        return call

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_descriptors(self._service)})


def _make_call(client: ServiceClient, service: str, rpc: str) -> UnaryCall:
    req_type = GetMessageClass(_descriptors(service)[rpc].input_type)
    resp_type = response_class(service, rpc)

    def call(
        req: Any,
        retry: bool = False,
        metadata: Mapping[str, str | bytes] = {},
        timeout: timedelta | None = None,
    ) -> Coroutine[Any, Any, Any]:
        if type(req) is not req_type:
            req = _own_request(rpc, req, req_type)
        # Looked up per call, so that a service client whose `_rpc_call` is replaced is obeyed.
        return client._rpc_call(
            rpc, req, resp_type, service=service, retry=retry, metadata=metadata, timeout=timeout
        )

    call.__name__ = rpc
    call.__qualname__ = f"{service}_service.{rpc}"
    call.__doc__ = f"Call `{SERVICES[service]}/{find_method(service, rpc).name}`."
    return call


def _own_request(rpc: str, given: Any, req_type: type[Message]) -> Message:
    """Return a request that was made with the classes of another package, such as the official SDK's, as ours.

    Raises:
        TypeError: It is no such request.
    """
    name = req_type.DESCRIPTOR.full_name
    if isinstance(given, Message) and given.DESCRIPTOR.full_name == name:
        return req_type.FromString(given.SerializeToString())
    what = given.DESCRIPTOR.full_name if isinstance(given, Message) else type(given).__name__
    raise TypeError(
        f"{rpc} takes a {name} ({req_type.__module__}.{req_type.__name__}), not a {what}. Inside it, timestamps and "
        "durations may be given as datetime and timedelta; those of google.protobuf itself are other classes"
    )


class WorkflowService(ServiceMethods):
    """The server's workflow service."""

    _service = "workflow"


class OperatorService(ServiceMethods):
    """The server's operator service."""

    _service = "operator"


class CloudService(ServiceMethods):
    """The operations service of Temporal Cloud."""

    _service = "cloud"


class TestService(ServiceMethods):
    """The service of a server whose time can be skipped."""

    __test__ = False
    _service = "test"


class HealthService(ServiceMethods):
    """The server's health service."""

    _service = "health"
