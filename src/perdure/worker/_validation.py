"""The first call of a worker: is there such a namespace, and what can the server do?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from perdure.api.namespace.v1 import NamespaceInfo
from perdure.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeNamespaceResponse
from perdure.exceptions import TemporalError
from perdure.service import RPCError, RPCStatusCode
from perdure.worker._calls import CALL_TIMEOUT, call_until

if TYPE_CHECKING:
    from perdure.worker._environment import Environment

_TRY_FOR_S = 10.0


class WorkerValidationError(TemporalError, RuntimeError):
    """A worker cannot start; the message says why and what to do. `__cause__` is the error underneath."""


async def validate(environment: Environment) -> NamespaceInfo:
    """Ask for the worker's namespace.

    Args:
        environment: Of the worker.

    Returns:
        What the server can do in it, and what it accepts.

    Raises:
        WorkerValidationError: There is no such namespace, or the server cannot be reached.
    """
    request = DescribeNamespaceRequest(namespace=environment.namespace)
    try:
        response: DescribeNamespaceResponse = await call_until(
            time.monotonic() + _TRY_FOR_S,
            lambda: environment.service.describe_namespace(request, timeout=CALL_TIMEOUT),
            "Asking for the namespace",
        )
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            return NamespaceInfo()
        raise WorkerValidationError(f"Worker validation failed: {_advice(environment, error)}") from error
    return response.namespace_info


def _advice(environment: Environment, error: RPCError) -> str:
    name = environment.namespace
    if error.status is RPCStatusCode.NOT_FOUND:
        return (
            f"there is no namespace {name!r} on this server. Connect the client with the name of one that exists, or "
            f"create it: perdure operator namespace create --namespace {name}"
        )
    if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
        return f"the server does not let this client work in namespace {name!r}: {error.message}. Check its credentials"
    return (
        f"the server cannot be asked for namespace {name!r} ({error.status.name}: {error.message}). "
        "Check the address that the client is connected to"
    )
