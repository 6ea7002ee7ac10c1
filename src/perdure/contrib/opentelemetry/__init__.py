"""OpenTelemetry: spans for what clients, workers, workflows and activities do, in one trace.

`TracingInterceptor` writes, inside workflows, spans without duration that are complete at once, so that replay cannot
disturb them. `OpenTelemetryPlugin` lets workflow code make spans of its own with OpenTelemetry's API; it needs the
tracer provider that `create_tracer_provider` makes. `ReplaySafeMeterProvider` and `ReplaySafeLoggerProvider` keep
metrics and log records of libraries from counting twice; `MetricsExporter` hands the metrics of client and worker to a
meter provider of the application. Needs the extra `perdure[opentelemetry]`.
"""

from __future__ import annotations

try:
    import opentelemetry.sdk.trace  # noqa: F401  said here once for all modules below
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "perdure.contrib.opentelemetry needs OpenTelemetry: pip install 'perdure[opentelemetry]'",
        name=error.name,
    ) from error

from perdure.contrib.opentelemetry._interceptor import TracingInterceptor
from perdure.contrib.opentelemetry._logger_provider import ReplaySafeLoggerProvider
from perdure.contrib.opentelemetry._meter_provider import ReplaySafeMeterProvider
from perdure.contrib.opentelemetry._metrics_exporter import MetricsExporter
from perdure.contrib.opentelemetry._otel_interceptor import OpenTelemetryInterceptor
from perdure.contrib.opentelemetry._plugin import OpenTelemetryPlugin
from perdure.contrib.opentelemetry._tracer_provider import ReplaySafeTracerProvider, create_tracer_provider
from perdure.contrib.opentelemetry._workflow_interceptor import TracingWorkflowInboundInterceptor

__all__ = [
    "MetricsExporter",
    "OpenTelemetryInterceptor",
    "OpenTelemetryPlugin",
    "ReplaySafeLoggerProvider",
    "ReplaySafeMeterProvider",
    "ReplaySafeTracerProvider",
    "TracingInterceptor",
    "TracingWorkflowInboundInterceptor",
    "create_tracer_provider",
]
