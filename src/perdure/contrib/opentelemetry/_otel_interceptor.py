"""The interceptor of `OpenTelemetryPlugin`: it carries contexts along, and makes spans of its own only if told to.

Inside workflows its spans, and those of the workflow's code, last as long as what they stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

import opentelemetry.context
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanKind, get_tracer, get_tracer_provider

import perdure.client
import perdure.worker
import perdure.workflow
from perdure.contrib.opentelemetry._calls import (
    Attributes,
    TracingActivityInboundInterceptor,
    TracingClientOutboundInterceptor,
    TracingNexusOperationInboundInterceptor,
)
from perdure.contrib.opentelemetry._propagation import (
    HEADER_KEY,
    HasHeaders,
    attached,
    context_from,
    current_carrier,
    default_text_map_propagator,
    errors_marked,
    with_carrier,
    with_text_carrier,
)
from perdure.contrib.opentelemetry._tracer_provider import ReplaySafeTracerProvider
from perdure.converter import PayloadConverter

# OpenTelemetry looks for its context implementation, on disk, at the first use: that must not be in a workflow.
opentelemetry.context.get_current()


class _Spans:
    """How this interceptor makes spans and carries contexts."""

    header_key: str = HEADER_KEY
    text_map_propagator: TextMapPropagator = default_text_map_propagator
    payload_converter: PayloadConverter = PayloadConverter.default

    def __init__(self, add_temporal_spans: bool) -> None:
        self._add_temporal_spans = add_temporal_spans

    @contextmanager
    def _outgoing(
        self, name: str, attributes: Attributes, *inputs: HasHeaders, kind: SpanKind = SpanKind.CLIENT
    ) -> Iterator[None]:
        with self.span(name, attributes, kind):
            carrier = current_carrier(self)
            for call_input in inputs:
                call_input.headers = with_carrier(self, call_input.headers, carrier)
            yield

    @contextmanager
    def _incoming(self, name: str, attributes: Attributes, context: Context | None) -> Iterator[None]:
        # Without a context in the headers it is nobody's: what happens to be current here belongs to the worker.
        with (
            attached(Context() if context is None else context),
            self.span(name, attributes, SpanKind.SERVER),
        ):
            yield

    @contextmanager
    def span(self, name: str, attributes: Attributes, kind: SpanKind) -> Iterator[None]:
        """Enter a span, if there are to be any."""
        if not self._add_temporal_spans:
            yield
            return
        with (
            get_tracer(__name__).start_as_current_span(
                name, attributes=attributes, kind=kind, set_status_on_exception=False
            ) as span,
            errors_marked(span),
        ):
            yield


class OpenTelemetryInterceptor(perdure.client.Interceptor, perdure.worker.Interceptor):
    """Carries OpenTelemetry's context through clients, workflows, activities and Nexus operations."""

    def __init__(self, add_temporal_spans: bool = False) -> None:
        """Create the interceptor.

        Args:
            add_temporal_spans: Also make spans for starts, signals, activities and so on.
        """
        self._spans = _Spans(add_temporal_spans)

    def intercept_client(
        self, next: perdure.client.OutboundInterceptor
    ) -> perdure.client.OutboundInterceptor:
        """See the base class."""
        return TracingClientOutboundInterceptor(next, self._spans)

    def intercept_activity(
        self, next: perdure.worker.ActivityInboundInterceptor
    ) -> perdure.worker.ActivityInboundInterceptor:
        """See the base class."""
        return TracingActivityInboundInterceptor(next, self._spans)

    def workflow_interceptor_class(
        self, input: perdure.worker.WorkflowInterceptorClassInput
    ) -> type[perdure.worker.WorkflowInboundInterceptor]:
        """See the base class.

        Raises:
            ValueError: The global tracer provider is not one that workflows may use.
        """
        if not isinstance(get_tracer_provider(), ReplaySafeTracerProvider):
            raise ValueError(
                "When using OpenTelemetryPlugin, the global trace provider must be a ReplaySafeTracerProvider:"
                " call opentelemetry.trace.set_tracer_provider(create_tracer_provider()) first"
            )
        spans = self._spans

        class WithSpans(_WorkflowInboundInterceptor):
            _spans = spans

        return WithSpans

    def intercept_nexus_operation(
        self, next: perdure.worker.NexusOperationInboundInterceptor
    ) -> perdure.worker.NexusOperationInboundInterceptor:
        """See the base class."""
        return TracingNexusOperationInboundInterceptor(next, self._spans)


def _workflow_attributes() -> Attributes:
    info = perdure.workflow.info()
    return {"temporalWorkflowID": info.workflow_id, "temporalRunID": info.run_id}


class _WorkflowInboundInterceptor(perdure.worker.WorkflowInboundInterceptor):
    """Enters the context of whoever sent what the workflow handles."""

    _spans: ClassVar[_Spans]

    def init(self, outbound: perdure.worker.WorkflowOutboundInterceptor) -> None:
        super().init(_WorkflowOutboundInterceptor(outbound, self._spans))

    @contextmanager
    def _handling(self, name: str, input: HasHeaders) -> Iterator[None]:
        with self._spans._incoming(name, _workflow_attributes(), context_from(self._spans, input.headers)):
            yield

    async def execute_workflow(self, input: perdure.worker.ExecuteWorkflowInput) -> Any:
        with self._handling(f"RunWorkflow:{perdure.workflow.info().workflow_type}", input):
            return await super().execute_workflow(input)

    async def handle_signal(self, input: perdure.worker.HandleSignalInput) -> None:
        with self._handling(f"HandleSignal:{input.signal}", input):
            await super().handle_signal(input)

    async def handle_query(self, input: perdure.worker.HandleQueryInput) -> Any:
        with self._handling(f"HandleQuery:{input.query}", input):
            return await super().handle_query(input)

    def handle_update_validator(self, input: perdure.worker.HandleUpdateInput) -> None:
        with self._handling(f"ValidateUpdate:{input.update}", input):
            super().handle_update_validator(input)

    async def handle_update_handler(self, input: perdure.worker.HandleUpdateInput) -> Any:
        with self._handling(f"HandleUpdate:{input.update}", input):
            return await super().handle_update_handler(input)


class _WorkflowOutboundInterceptor(perdure.worker.WorkflowOutboundInterceptor):
    """Puts the current context into what a workflow asks for."""

    def __init__(self, next: perdure.worker.WorkflowOutboundInterceptor, spans: _Spans) -> None:
        super().__init__(next)
        self._spans = spans

    @contextmanager
    def _asking(self, name: str, *inputs: HasHeaders, kind: SpanKind = SpanKind.CLIENT) -> Iterator[None]:
        with self._spans._outgoing(name, _workflow_attributes(), *inputs, kind=kind):
            yield

    def continue_as_new(self, input: perdure.worker.ContinueAsNewInput) -> NoReturn:
        input.headers = with_carrier(self._spans, input.headers, current_carrier(self._spans))
        super().continue_as_new(input)

    async def signal_child_workflow(self, input: perdure.worker.SignalChildWorkflowInput) -> None:
        with self._asking(f"SignalChildWorkflow:{input.signal}", input, kind=SpanKind.SERVER):
            await super().signal_child_workflow(input)

    async def signal_external_workflow(self, input: perdure.worker.SignalExternalWorkflowInput) -> None:
        with self._asking(f"SignalExternalWorkflow:{input.signal}", input):
            await super().signal_external_workflow(input)

    def start_activity(
        self, input: perdure.worker.StartActivityInput
    ) -> perdure.workflow.ActivityHandle[Any]:
        with self._asking(f"StartActivity:{input.activity}", input):
            return super().start_activity(input)

    async def start_child_workflow(
        self, input: perdure.worker.StartChildWorkflowInput
    ) -> perdure.workflow.ChildWorkflowHandle[Any, Any]:
        with self._asking(f"StartChildWorkflow:{input.workflow}", input):
            return await super().start_child_workflow(input)

    def start_local_activity(
        self, input: perdure.worker.StartLocalActivityInput
    ) -> perdure.workflow.ActivityHandle[Any]:
        with self._asking(f"StartActivity:{input.activity}", input):
            return super().start_local_activity(input)

    async def start_nexus_operation(
        self, input: perdure.worker.StartNexusOperationInput[Any, Any]
    ) -> perdure.workflow.NexusOperationHandle[Any]:
        with self._asking(f"StartNexusOperation:{input.service}/{input.operation_name}"):
            input.headers = with_text_carrier(input.headers, current_carrier(self._spans))
            return await super().start_nexus_operation(input)
