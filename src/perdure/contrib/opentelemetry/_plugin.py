"""The plugin that puts OpenTelemetry into a client and its workers."""

from __future__ import annotations

from perdure.contrib.opentelemetry._otel_interceptor import OpenTelemetryInterceptor
from perdure.plugin import SimplePlugin


class OpenTelemetryPlugin(SimplePlugin):
    """Carries OpenTelemetry's context everywhere, and lets workflow code make spans with OpenTelemetry's own API.

    The global tracer provider must be one that `create_tracer_provider` made.
    """

    def __init__(self, *, add_temporal_spans: bool = False) -> None:
        """Create the plugin.

        Args:
            add_temporal_spans: Also make spans for starts, signals, activities and so on.
        """
        super().__init__("OpenTelemetryPlugin", interceptors=[OpenTelemetryInterceptor(add_temporal_spans)])
