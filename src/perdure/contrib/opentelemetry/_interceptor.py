"""The tracing interceptor: spans around calls, and completed spans for what happens inside workflows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import opentelemetry.context
import opentelemetry.trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanKind

import perdure.client
import perdure.worker
from perdure.contrib.opentelemetry._calls import (
    Attributes,
    TracingActivityInboundInterceptor,
    TracingClientOutboundInterceptor,
    TracingNexusOperationInboundInterceptor,
)
from perdure.contrib.opentelemetry._propagation import (
    HEADER_KEY,
    Carrier,
    HasHeaders,
    attached,
    current_carrier,
    default_text_map_propagator,
    errors_marked,
    with_carrier,
)
from perdure.contrib.opentelemetry._workflow_interceptor import (
    COMPLETED_SPAN_FUNCTION,
    CompletedSpan,
    TracingWorkflowInboundInterceptor,
)
from perdure.converter import PayloadConverter

# OpenTelemetry looks for its context implementation, on disk, at the first use: that must not be in a workflow.
opentelemetry.context.get_current()


class TracingInterceptor(perdure.client.Interceptor, perdure.worker.Interceptor):
    """Traces calls of clients, activities, workflows and Nexus operations.

    Give it to `Client.connect` as one of its `interceptors`; the client's workers use it too.

    To change the header, the propagator or the payload converter make a subclass that sets the attributes, and one
    of `TracingWorkflowInboundInterceptor` that sets the same, returned from `workflow_interceptor_class`.
    """

    def __init__(
        self, tracer: opentelemetry.trace.Tracer | None = None, *, always_create_workflow_spans: bool = False
    ) -> None:
        """Create the interceptor.

        Args:
            tracer: Makes the spans; by default OpenTelemetry's own choice.
            always_create_workflow_spans: Make spans in workflows that no traced client started too. After a replay
                they may have no parent.
        """
        self.tracer = tracer or opentelemetry.trace.get_tracer(__name__)
        self.header_key: str = HEADER_KEY
        self.text_map_propagator: TextMapPropagator = default_text_map_propagator
        self.payload_converter = PayloadConverter.default
        self._always_create_workflow_spans = always_create_workflow_spans

    def intercept_client(
        self, next: perdure.client.OutboundInterceptor
    ) -> perdure.client.OutboundInterceptor:
        """See the base class."""
        return TracingClientOutboundInterceptor(next, self)

    def intercept_activity(
        self, next: perdure.worker.ActivityInboundInterceptor
    ) -> perdure.worker.ActivityInboundInterceptor:
        """See the base class."""
        return TracingActivityInboundInterceptor(next, self)

    def workflow_interceptor_class(
        self, input: perdure.worker.WorkflowInterceptorClassInput
    ) -> type[TracingWorkflowInboundInterceptor]:
        """See the base class."""
        input.unsafe_extern_functions[COMPLETED_SPAN_FUNCTION] = self._completed_workflow_span
        return TracingWorkflowInboundInterceptor

    def intercept_nexus_operation(
        self, next: perdure.worker.NexusOperationInboundInterceptor
    ) -> perdure.worker.NexusOperationInboundInterceptor:
        """See the base class."""
        return TracingNexusOperationInboundInterceptor(next, self)

    @contextmanager
    def _outgoing(self, name: str, attributes: Attributes, *inputs: HasHeaders) -> Iterator[None]:
        """Enter the span of a call that goes out, and put it into the headers of its inputs."""
        with self._span(name, attributes, SpanKind.CLIENT):
            carrier = current_carrier(self)
            for call_input in inputs:
                call_input.headers = with_carrier(self, call_input.headers, carrier)
            yield

    @contextmanager
    def _incoming(self, name: str, attributes: Attributes, context: Context | None) -> Iterator[None]:
        """Enter the context of a call that comes in, and its span."""
        with attached(context), self._span(name, attributes, SpanKind.SERVER):
            yield

    @contextmanager
    def _span(self, name: str, attributes: Attributes, kind: SpanKind) -> Iterator[None]:
        with (
            self.tracer.start_as_current_span(
                name, attributes=attributes, kind=kind, set_status_on_exception=False
            ) as span,
            errors_marked(span),
        ):
            yield

    def _completed_workflow_span(self, wanted: CompletedSpan) -> Carrier | None:
        """Make a span that begins and ends at one moment. Called from workflows.

        Args:
            wanted: What the span says.

        Returns:
            The context in which the span is the current one, or None if there is to be no span.
        """
        if wanted.parent_missing and not self._always_create_workflow_spans:
            return None
        context = self.text_map_propagator.extract(wanted.context)
        links = []
        if wanted.link_context:
            linked = opentelemetry.trace.get_current_span(
                self.text_map_propagator.extract(wanted.link_context)
            )
            if linked is not opentelemetry.trace.INVALID_SPAN:
                links.append(opentelemetry.trace.Link(linked.get_span_context()))
        span = self.tracer.start_span(
            wanted.name,
            context,
            kind=wanted.kind,
            attributes=wanted.attributes,
            links=links,
            start_time=wanted.time_ns,
        )
        if wanted.exception is not None:
            span.record_exception(wanted.exception)
        span.end(end_time=wanted.time_ns)
        return current_carrier(self, opentelemetry.trace.set_span_in_context(span, context))
