"""What the official suite takes from the official SDK's private Nexus modules and we have in our own form.

Used by `official_sdk_equivalents` only; the same rule holds: behaviour, and not how the official SDK is built. Every
function here hands over to what our SDK itself uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import nexusrpc

from perdure.api.common.v1 import Link
from perdure.api.nexus.v1 import StartOperationRequest, StartOperationResponse
from perdure.api.workflowservice.v1 import PollNexusTaskQueueResponse
from perdure.client._links import served_operation
from perdure.nexus import _link_conversion, _operation_context
from perdure.worker import _nexus_worker
from perdure.worker._environment import Environment

_SOME_HISTORY: Final = "temporal:///namespaces/n/workflows/w/r/history"
"""Of links whose queries alone matter."""


def _event_of(query: Mapping[str, list[str]]) -> Link.WorkflowEvent:
    url = f"{_SOME_HISTORY}?{urlencode(query, doseq=True)}"
    link = _link_conversion.nexus_link_to_workflow_event_link(
        nexusrpc.Link(url=url, type=Link.WorkflowEvent.DESCRIPTOR.full_name)
    )
    if link is None:
        raise ValueError(f"not of a link to an event: {query}")
    return link.workflow_event


def _query_of(event: Link.WorkflowEvent) -> str:
    return urlsplit(_link_conversion.workflow_event_to_nexus_link(event).url).query


LINK_CONVERSION: Final[dict[str, Any]] = {
    **vars(_link_conversion),
    "_query_params_to_event_reference": lambda query: _event_of(query).event_ref,
    "_query_params_to_request_id_reference": lambda query: _event_of(query).request_id_ref,
    "_event_reference_to_query_params": lambda event: _query_of(Link.WorkflowEvent(event_ref=event)),
    "_request_id_reference_to_query_params": lambda event: _query_of(
        Link.WorkflowEvent(request_id_ref=event)
    ),
}


def _start_context(
    *, _runtime_metric_meter: Any, _worker_shutdown_event: Any, **given: Any
) -> _operation_context.StartContext:
    return _operation_context.StartContext(
        runtime_metric_meter=_runtime_metric_meter, worker_shutdown_event=_worker_shutdown_event, **given
    )


class _Served:
    """Their context variable; we have two, of which the client reads the other."""

    def set(self, context: Any) -> Sequence[Any]:
        """Begin to serve an operation; return what `reset` takes."""
        return _operation_context.current_context.set(context), served_operation.set(context)

    def reset(self, tokens: Sequence[Any]) -> None:
        """End it."""
        _operation_context.current_context.reset(tokens[0])
        served_operation.reset(tokens[1])


OPERATION_CONTEXT: Final[dict[str, Any]] = {
    **vars(_operation_context),
    "_TemporalStartOperationContext": _start_context,
    "_temporal_start_operation_context": _Served(),
}


class _Worker:
    """Their worker's part for Nexus, made and called as the suite does it, around ours."""

    def __init__(
        self, *, bridge_worker: Any, service_handlers: Sequence[Any], executor: Any, **given: Any
    ) -> None:
        del bridge_worker  # the native one, which polls and answers
        environment = Environment(identity="", build_id="", deployment=None, instance_key="", **given)
        self._worker = _nexus_worker.NexusWorker(environment, service_handlers, executor, Any, Any)  # type: ignore[arg-type]

    async def _start_operation(
        self,
        request: StartOperationRequest,
        headers: Mapping[str, str],
        cancellation: Any,
        request_deadline: datetime | None,
        endpoint: str,
    ) -> StartOperationResponse:
        answer = PollNexusTaskQueueResponse()
        answer.request.start_operation.CopyFrom(request)
        answer.request.header.update(headers)
        answer.request.endpoint = endpoint
        task = _nexus_worker._Task(answer, Any)  # type: ignore[arg-type]
        task.cancellation, task.deadline = cancellation, request_deadline
        response = await self._worker._start(task)
        return response.start_operation


WORKER: Final[dict[str, Any]] = {
    "_NexusWorker": _Worker,
    "_NexusTaskCancellation": _nexus_worker._Cancellation,
}
