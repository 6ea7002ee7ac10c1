"""Metrics for an OpenTelemetry collector, sent by OpenTelemetry's own SDK.

May live here: setting that SDK up, and handing values to it. May not: instruments of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.runtime._buffer import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_GAUGE,
    MetricIdentity,
)

if TYPE_CHECKING:
    from perdure.common import MetricAttributes
    from perdure.runtime._config import OpenTelemetryConfig

_DEFAULT_PERIOD_MS = 1000


class OpenTelemetrySink:
    """Hands all values to OpenTelemetry's SDK, which sends them periodically from a thread of its own.

    Args:
        config: Where and how to send.

    Raises:
        RuntimeError: OpenTelemetry's packages are not installed.
    """

    def __init__(self, config: OpenTelemetryConfig) -> None:
        self.durations_as_seconds = config.durations_as_seconds
        try:
            self._provider = _make_provider(config)
        except ImportError as error:
            raise RuntimeError(
                "Metrics for OpenTelemetry need its SDK and exporter: pip install 'perdure[opentelemetry-metrics]'"
            ) from error
        self._meter = self._provider.get_meter("perdure")
        self._instruments: dict[MetricIdentity, Any] = {}

    def update(self, metric: MetricIdentity, value: int | float, attributes: MetricAttributes) -> None:
        """See `Sink.update`."""
        instrument = self._instruments.get(metric)
        if instrument is None:
            instrument = self._instruments[metric] = self._make(metric)
        instrument(value, dict(attributes))

    def _make(self, metric: MetricIdentity) -> Any:
        details = {"unit": metric.unit or "", "description": metric.description or ""}
        if metric.kind == BUFFERED_METRIC_KIND_COUNTER:
            return self._meter.create_counter(metric.name, **details).add
        if metric.kind == BUFFERED_METRIC_KIND_GAUGE:
            return self._meter.create_gauge(metric.name, **details).set
        return self._meter.create_histogram(metric.name, **details).record


def _make_provider(config: OpenTelemetryConfig) -> Any:
    from opentelemetry.sdk import metrics as sdk
    from opentelemetry.sdk.metrics import view as views
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        PeriodicExportingMetricReader,
    )

    from perdure.runtime._config import OpenTelemetryMetricTemporality

    if config.http:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
            OTLPMetricExporter,
        )
    else:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
            OTLPMetricExporter,
        )
    wants_delta = config.metric_temporality is OpenTelemetryMetricTemporality.DELTA
    temporality = AggregationTemporality.DELTA if wants_delta else AggregationTemporality.CUMULATIVE
    more = {} if config.http else {"insecure": not config.url.startswith("https://")}
    exporter = OTLPMetricExporter(
        endpoint=config.url,
        headers=dict(config.headers or {}),
        preferred_temporality=dict.fromkeys((sdk.Counter, sdk.Histogram), temporality),
        **more,
    )
    period = config.metric_periodicity
    reader = PeriodicExportingMetricReader(
        exporter,
        export_interval_millis=_DEFAULT_PERIOD_MS if period is None else period.total_seconds() * 1000,
    )
    overrides = (config.histogram_bucket_overrides or {}).items()
    return sdk.MeterProvider(
        metric_readers=[reader],
        views=[
            views.View(
                instrument_name=name, aggregation=views.ExplicitBucketHistogramAggregation(list(bounds))
            )
            for name, bounds in overrides
        ],
    )
