"""A tracer provider whose spans workflow code may use: a replay writes none of them a second time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import opentelemetry.sdk.trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanLimits, SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    use_span,
)
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes, AttributeValue

import perdure.workflow
from perdure.contrib.opentelemetry._id_generator import TemporalIdGenerator
from perdure.contrib.opentelemetry._replay import is_replay, outside_guards


class _ReplaySafeSpan(Span):
    """A span that never ends in a replay, so that it is not written again."""

    def __init__(self, span: Span) -> None:
        self._exception: BaseException | None = None
        self._span = span

    def __getattr__(self, name: str) -> Any:
        return getattr(self._span, name)

    def end(self, end_time: int | None = None) -> None:
        if is_replay() or self._failed_the_task():
            return
        with outside_guards():
            self._span.end(end_time=end_time)

    def _failed_the_task(self) -> bool:
        """Tell whether the span ends with an error that fails the workflow task, which is tried again."""
        return (
            self._exception is not None
            and perdure.workflow.in_workflow()
            and not perdure.workflow.is_failure_exception(self._exception)
        )

    def get_span_context(self) -> SpanContext:
        return self._span.get_span_context()

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self._span.set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self._span.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        with outside_guards():
            self._span.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self._span.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self._span.update_name(name)

    def is_recording(self) -> bool:
        return self._span.is_recording()

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self._span.set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self._exception = exception
        with outside_guards():
            self._span.record_exception(exception, attributes, timestamp, escaped)


class _ReplaySafeTracer(Tracer):
    """Makes spans that workflow code may use."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        if start_time is None and is_replay():
            # A span that was open when the workflow was last in memory began then, and not now.
            start_time = perdure.workflow.time_ns()
        with outside_guards():
            span = self._tracer.start_span(
                name,
                context,
                kind,
                attributes,
                links,
                start_time,
                record_exception,
                set_status_on_exception,
            )
        return _ReplaySafeSpan(span)

    # OpenTelemetry's own decorator, so that the result can decorate functions of both kinds as well.
    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        span = self.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )
        with use_span(
            span,
            end_on_exit=end_on_exit,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        ):
            yield span


class ReplaySafeTracerProvider(TracerProvider):
    """Makes tracers whose spans workflow code may use."""

    def __init__(
        self, tracer_provider: opentelemetry.sdk.trace.TracerProvider, id_generator: TemporalIdGenerator
    ) -> None:
        """Create the provider; `create_tracer_provider` does it with less to get wrong.

        Args:
            tracer_provider: Makes the spans.
            id_generator: The generator of that provider.

        Raises:
            ValueError: The provider has another generator, whose ids would differ in a replay.
        """
        if not isinstance(tracer_provider.id_generator, TemporalIdGenerator):
            raise ValueError(
                "ReplaySafeTracerProvider should only be used with a TemporalIdGenerator for replay safety:"
                " make the provider with create_tracer_provider"
            )
        self._id_generator = id_generator
        self._tracer_provider = tracer_provider

    def add_span_processor(self, span_processor: opentelemetry.sdk.trace.SpanProcessor) -> None:
        """Add something that is told of every span."""
        self._tracer_provider.add_span_processor(span_processor)

    def shutdown(self) -> None:
        """Shut the processors down."""
        self._tracer_provider.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Have the processors export what they hold.

        Args:
            timeout_millis: How long to wait, in milliseconds.

        Returns:
            Whether they did in time.
        """
        return self._tracer_provider.force_flush(timeout_millis)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes | None = None,
    ) -> Tracer:
        """Return a tracer for a module or library."""
        # Newer releases look, for a tracer's own metrics, into the environment.
        with outside_guards():
            tracer = self._tracer_provider.get_tracer(
                instrumenting_module_name, instrumenting_library_version, schema_url, attributes
            )
        return _ReplaySafeTracer(tracer)

    def id_generator(self) -> TemporalIdGenerator:
        """Return the generator of ids."""
        return self._id_generator


def create_tracer_provider(
    sampler: Sampler | None = None,
    resource: Resource | None = None,
    shutdown_on_exit: bool = True,
    active_span_processor: SynchronousMultiSpanProcessor | ConcurrentMultiSpanProcessor | None = None,
    id_generator: IdGenerator | None = None,
    span_limits: SpanLimits | None = None,
) -> ReplaySafeTracerProvider:
    """Return a tracer provider for `OpenTelemetryPlugin`, to be made the global one.

    Args:
        sampler: Decides which spans are recorded.
        resource: What the spans come from.
        shutdown_on_exit: Shut down when the process ends.
        active_span_processor: Is told of every span.
        id_generator: Makes the ids outside of workflows.
        span_limits: How much a span may hold.
    """
    generator = TemporalIdGenerator(id_generator or RandomIdGenerator())
    provider = opentelemetry.sdk.trace.TracerProvider(
        sampler=sampler,
        resource=resource,
        shutdown_on_exit=shutdown_on_exit,
        active_span_processor=active_span_processor,
        span_limits=span_limits,
        id_generator=generator,
    )
    return ReplaySafeTracerProvider(provider, generator)
