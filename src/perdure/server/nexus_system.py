"""Serves the operations of the server's own Nexus endpoint: each is a request to the server's own service."""

from __future__ import annotations

from typing import Final, Protocol

from perdure.api.common.v1 import Payload
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import (
    SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse,
)
from perdure.core.errors import (
    AbortedError,
    ResourceExhaustedError,
    ServiceError,
    UnavailableError,
)
from perdure.core.nexus import system
from perdure.core.nexus.outcomes import Refused, StartOutcome, Succeeded
from perdure.server.engine.engine import Engine
from perdure.server.engine.nexus_requests import Order
from perdure.server.service.call import Call

_MAY_PASS: Final = (UnavailableError, ResourceExhaustedError, AbortedError)
"""Errors that another attempt may not have."""


class Serves(Protocol):
    """Whoever serves the RPCs that are operations."""

    async def signal_with_start_workflow_execution(
        self, request: SignalWithStartWorkflowExecutionRequest, call: Call
    ) -> SignalWithStartWorkflowExecutionResponse:
        """SignalWithStartWorkflowExecution."""


class NexusSystem:
    """The handler of the server's own endpoint.

    Args:
        engine: for namespaces.
        service: serves the requests.
    """

    def __init__(self, engine: Engine, service: Serves) -> None:
        self._engine = engine
        self._service = service

    async def start(self, order: Order) -> StartOutcome:
        """Does what an operation asks for. The operation's request id makes a repeated one harmless."""
        try:
            system.check(order.operation.service, order.operation.operation)
            namespace = self._engine.namespaces.by_id(order.run.namespace_id)
            name = namespace.name if namespace is not None else order.run.namespace_id
            request = system.read(order.input or Payload(), name)
            request.request_id = order.operation.request_id
            if order.link is not None:
                request.links.append(order.link)
            response = await self._service.signal_with_start_workflow_execution(request, Call())
        except ServiceError as error:
            return _refused(error)
        links = (response.signal_link,) if response.HasField("signal_link") else ()
        return Succeeded(_payload(response), links)


def _payload(response: SignalWithStartWorkflowExecutionResponse) -> Payload:
    told = SignalWithStartWorkflowExecutionResponse(run_id=response.run_id, started=response.started)
    told.signal_link.CopyFrom(response.signal_link)
    payload = Payload(data=told.SerializeToString())
    payload.metadata["encoding"] = b"binary/protobuf"
    payload.metadata["messageType"] = response.DESCRIPTOR.full_name.encode()
    return payload


def _refused(error: ServiceError) -> Refused:
    may_retry = isinstance(error, _MAY_PASS)
    failure = Failure(message=f"{type(error).__name__.removesuffix('Error')}: {error}")
    failure.server_failure_info.non_retryable = not may_retry
    return Refused(failure, may_retry)
