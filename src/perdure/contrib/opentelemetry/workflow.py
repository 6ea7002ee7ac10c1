"""What workflow code may call when it is traced."""

from __future__ import annotations

import warnings

from opentelemetry.trace import get_tracer
from opentelemetry.util.types import Attributes

from perdure.contrib.opentelemetry._workflow_interceptor import TracingWorkflowInboundInterceptor


def completed_span(name: str, *, attributes: Attributes = None, exception: Exception | None = None) -> None:
    """Make a span without duration, unless the workflow is replaying or not traced.

    With `OpenTelemetryPlugin` make spans with `opentelemetry.trace.get_tracer()` instead; they may last.

    Args:
        name: Name of the span.
        attributes: Attributes beside the workflow id and run id.
        exception: An exception to record on it.
    """
    interceptor = TracingWorkflowInboundInterceptor._from_context()
    if interceptor is not None:
        interceptor._completed_span(name, additional_attributes=attributes, exception=exception)
        return
    warnings.warn(
        "When using OpenTelemetryPlugin, you should prefer using opentelemetry directly.",
        DeprecationWarning,
        stacklevel=2,
    )
    span = get_tracer(__name__).start_span(name, attributes=attributes)
    if exception is not None:
        span.record_exception(exception)
    span.end()
