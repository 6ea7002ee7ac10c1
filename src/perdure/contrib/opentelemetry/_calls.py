"""Which calls of clients, activities and Nexus operations have spans, and how these are called.

How a span is made and whether there is one differs between the two interceptors; they pass in how.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from opentelemetry.context import Context

import perdure.activity
import perdure.client
import perdure.worker
from perdure.contrib.opentelemetry._propagation import (
    HasHeaders,
    HasPropagation,
    context_from,
    current_carrier,
    with_text_carrier,
)

Attributes = Mapping[str, str]


class Spans(HasPropagation, Protocol):
    """How an interceptor makes its spans."""

    def _outgoing(
        self, name: str, attributes: Attributes, *inputs: HasHeaders
    ) -> AbstractContextManager[None]:
        """Enter the span of a call that goes out, and put the context into the headers of its inputs."""
        ...

    def _incoming(
        self, name: str, attributes: Attributes, context: Context | None
    ) -> AbstractContextManager[None]:
        """Enter the context of a call that comes in, and its span."""
        ...


class TracingClientOutboundInterceptor(perdure.client.OutboundInterceptor):
    """Spans for what a client starts and sends."""

    def __init__(self, next: perdure.client.OutboundInterceptor, spans: Spans) -> None:
        """Create the interceptor."""
        super().__init__(next)
        self._spans = spans

    async def start_workflow(self, input: Any) -> Any:
        """See the base class."""
        verb = "SignalWithStartWorkflow" if input.start_signal else "StartWorkflow"
        with self._spans._outgoing(f"{verb}:{input.workflow}", {"temporalWorkflowID": input.id}, input):
            return await super().start_workflow(input)

    async def query_workflow(self, input: Any) -> Any:
        """See the base class."""
        with self._spans._outgoing(f"QueryWorkflow:{input.query}", {"temporalWorkflowID": input.id}, input):
            return await super().query_workflow(input)

    async def signal_workflow(self, input: Any) -> None:
        """See the base class."""
        with self._spans._outgoing(f"SignalWorkflow:{input.signal}", {"temporalWorkflowID": input.id}, input):
            await super().signal_workflow(input)

    async def start_workflow_update(self, input: Any) -> Any:
        """See the base class."""
        attributes = {"temporalWorkflowID": input.id}
        with self._spans._outgoing(f"StartWorkflowUpdate:{input.update}", attributes, input):
            return await super().start_workflow_update(input)

    async def start_update_with_start_workflow(self, input: Any) -> Any:
        """See the base class."""
        start, update = input.start_workflow_input, input.update_workflow_input
        attributes = {"temporalWorkflowID": start.id}
        if update.update_id is not None:
            attributes["temporalUpdateID"] = update.update_id
        name = f"StartUpdateWithStartWorkflow:{start.workflow}"
        with self._spans._outgoing(name, attributes, start, update):
            return await super().start_update_with_start_workflow(input)

    async def start_activity(self, input: Any) -> Any:
        """See the base class."""
        attributes = {"temporalActivityID": input.id, "temporalActivityType": input.activity_type}
        with self._spans._outgoing(f"StartActivity:{input.activity_type}", attributes, input):
            return await super().start_activity(input)


class TracingActivityInboundInterceptor(perdure.worker.ActivityInboundInterceptor):
    """A span around each activity."""

    def __init__(self, next: perdure.worker.ActivityInboundInterceptor, spans: Spans) -> None:
        """Create the interceptor."""
        super().__init__(next)
        self._spans = spans

    async def execute_activity(self, input: perdure.worker.ExecuteActivityInput) -> Any:
        """See the base class."""
        info = perdure.activity.info()
        attributes = {"temporalActivityID": info.activity_id}
        if info.workflow_id:
            attributes["temporalWorkflowID"] = info.workflow_id
        if info.workflow_run_id:
            attributes["temporalRunID"] = info.workflow_run_id
        context = context_from(self._spans, input.headers)
        with self._spans._incoming(f"RunActivity:{info.activity_type}", attributes, context):
            return await super().execute_activity(input)


class TracingNexusOperationInboundInterceptor(perdure.worker.NexusOperationInboundInterceptor):
    """A span around each handler of a Nexus operation."""

    def __init__(self, next: perdure.worker.NexusOperationInboundInterceptor, spans: Spans) -> None:
        """Create the interceptor."""
        super().__init__(next)
        self._spans = spans

    def _span(self, verb: str, input: Any) -> AbstractContextManager[None]:
        return self._spans._incoming(
            f"{verb}:{input.ctx.service}/{input.ctx.operation}",
            {},
            self._spans.text_map_propagator.extract(input.ctx.headers),
        )

    def _with_current_headers(self, input: Any) -> Any:
        headers = with_text_carrier(input.ctx.headers, current_carrier(self._spans))
        return dataclasses.replace(input, ctx=dataclasses.replace(input.ctx, headers=headers))

    async def execute_nexus_operation_start(self, input: Any) -> Any:
        """See the base class."""
        with self._span("RunStartNexusOperationHandler", input):
            return await super().execute_nexus_operation_start(self._with_current_headers(input))

    async def execute_nexus_operation_cancel(self, input: Any) -> None:
        """See the base class."""
        with self._span("RunCancelNexusOperationHandler", input):
            await super().execute_nexus_operation_cancel(self._with_current_headers(input))
