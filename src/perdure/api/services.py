"""What a server needs to know about each RPC, taken from the descriptors: names, request and response classes."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from google.protobuf.message import Message

from perdure.api.registry import POOL, rpc_classes

WORKFLOW_SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
OPERATOR_SERVICE = "temporal.api.operatorservice.v1.OperatorService"
TEST_SERVICE = "temporal.api.testservice.v1.TestService"
SERVICE_NAMES = (WORKFLOW_SERVICE, OPERATOR_SERVICE, TEST_SERVICE)


class Rpc(NamedTuple):
    """One method of a service; every method of the contract takes one message and returns one message."""

    name: str
    request: type[Message]
    response: type[Message]


@cache
def rpcs(service_name: str) -> tuple[Rpc, ...]:
    """Return the methods of a service in the order of the protos.

    Args:
        service_name: Full proto name, one of `SERVICE_NAMES`.

    Raises:
        KeyError: the contract has no such service.
    """
    classes = rpc_classes(POOL.FindServiceByName(service_name))
    return tuple(Rpc(name, request, response) for name, (request, response) in classes.items())


def method_path(service_name: str, rpc_name: str) -> str:
    """Return the path gRPC uses for a method, such as `/temporal.api...WorkflowService/GetSystemInfo`."""
    return f"/{service_name}/{rpc_name}"
