"""Instruments: what is recorded goes, with its attributes, to one sink.

May live here: meters, counters, histograms, gauges, and the seam to what keeps or exports them. May not: exporters.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

from perdure.common import (
    MetricAttributes,
    MetricCommon,
    MetricCounter,
    MetricGauge,
    MetricGaugeFloat,
    MetricHistogram,
    MetricHistogramFloat,
    MetricHistogramTimedelta,
    MetricMeter,
)
from perdure.runtime._buffer import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_GAUGE,
    BUFFERED_METRIC_KIND_HISTOGRAM,
    BufferedMetricKind,
    MetricBuffer,
    MetricIdentity,
    MetricUpdate,
)

if TYPE_CHECKING:
    from perdure.runtime._config import TelemetryConfig

_SERVICE_NAME: Final = "temporal-core-sdk"
"""Value of the attribute `service_name`: the one that dashboards of Temporal's SDKs look for."""
_DEFAULT_PREFIX: Final = "temporal_"


class Sink(Protocol):
    """Keeps or exports what instruments record."""

    durations_as_seconds: bool
    """How it wants durations: fractions of seconds, or whole milliseconds."""

    def update(self, metric: MetricIdentity, value: int | float, attributes: MetricAttributes) -> None:
        """Take one value.

        Args:
            metric: Which metric; the same object for the same metric.
            value: What was added (counter), set (gauge) or measured (histogram).
            attributes: Not to be changed: an instrument gives its own, the same object with every value; only
                attributes that come with one value make a new one.
        """
        ...


class BufferSink:
    """Puts everything into a `MetricBuffer`."""

    def __init__(self, buffer: MetricBuffer) -> None:
        self._buffer = buffer
        self.durations_as_seconds = buffer._durations_as_seconds

    def update(self, metric: MetricIdentity, value: int | float, attributes: MetricAttributes) -> None:
        """See `Sink.update`."""
        self._buffer._append(MetricUpdate(metric, value, attributes))


def make_meters(telemetry: TelemetryConfig) -> tuple[MetricMeter, MetricMeter]:
    """Return the meter for the application and that for the SDK itself, which prefixes its names.

    Raises:
        RuntimeError: What the configured metrics need is not installed, or cannot be opened.
    """
    attributes: dict[str, str] = dict(telemetry.global_tags)
    if telemetry.attach_service_name:
        attributes["service_name"] = _SERVICE_NAME
    shared = _Shared(_make_sink(telemetry))
    prefix = _DEFAULT_PREFIX if telemetry.metric_prefix is None else telemetry.metric_prefix
    return _Meter(shared, attributes), _Meter(shared, attributes, prefix)


def _make_sink(telemetry: TelemetryConfig) -> Sink:
    from perdure.runtime._config import OpenTelemetryConfig, PrometheusConfig

    metrics = telemetry.metrics
    if isinstance(metrics, MetricBuffer):
        return BufferSink(metrics)
    if isinstance(metrics, PrometheusConfig):
        from perdure.runtime._prometheus import PrometheusSink

        return PrometheusSink(metrics)
    if isinstance(metrics, OpenTelemetryConfig):
        from perdure.runtime._opentelemetry import OpenTelemetrySink

        return OpenTelemetrySink(metrics)
    raise TypeError(
        "TelemetryConfig.metrics must be an OpenTelemetryConfig, a PrometheusConfig or a MetricBuffer, "
        f"not {type(metrics).__name__}"
    )


class _Shared:
    """What all instruments of a runtime share: the sink, and one identity per metric."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._identities: dict[tuple[str, BufferedMetricKind], MetricIdentity] = {}

    def identity(
        self, name: str, description: str | None, unit: str | None, kind: BufferedMetricKind
    ) -> MetricIdentity:
        """Return the identity of a metric; what was said of it first stays."""
        key = (name, kind)
        if key not in self._identities:
            self._identities[key] = MetricIdentity(name, description, unit, kind)
        return self._identities[key]


def _merged(attributes: MetricAttributes, more: MetricAttributes) -> MetricAttributes:
    for key, value in more.items():
        if not isinstance(value, (str, int, float, bool)):
            raise TypeError(
                f"Invalid value type for key {key!r}: {type(value).__name__}; use str, int, float or bool"
            )
    return {**attributes, **more}


class _Instrument(MetricCommon):
    """A metric with attributes."""

    def __init__(self, shared: _Shared, metric: MetricIdentity, attributes: MetricAttributes) -> None:
        self._shared = shared
        self._metric = metric
        self._attributes = attributes

    @property
    def name(self) -> str:
        return self._metric.name

    @property
    def description(self) -> str | None:
        return self._metric.description

    @property
    def unit(self) -> str | None:
        return self._metric.unit

    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> Self:
        return type(self)(self._shared, self._metric, _merged(self._attributes, additional_attributes))

    def _update(self, value: int | float, more: MetricAttributes | None) -> None:
        if value < 0:
            raise ValueError("Metric value cannot be negative")
        attributes = _merged(self._attributes, more) if more else self._attributes
        self._shared.sink.update(self._metric, value, attributes)


class _Counter(_Instrument, MetricCounter):
    def add(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._update(value, additional_attributes)


class _Histogram(_Instrument, MetricHistogram):
    def record(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._update(value, additional_attributes)


class _HistogramFloat(_Instrument, MetricHistogramFloat):
    def record(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        self._update(value, additional_attributes)


class _HistogramTimedelta(_Instrument, MetricHistogramTimedelta):
    def record(self, value: timedelta, additional_attributes: MetricAttributes | None = None) -> None:
        if self._shared.sink.durations_as_seconds:
            self._update(value.total_seconds(), additional_attributes)
        else:
            self._update(value // timedelta(milliseconds=1), additional_attributes)


class _Gauge(_Instrument, MetricGauge):
    def set(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        self._update(value, additional_attributes)


class _GaugeFloat(_Instrument, MetricGaugeFloat):
    def set(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        self._update(value, additional_attributes)


InstrumentT = TypeVar("InstrumentT", bound=_Instrument)


class _Meter(MetricMeter):
    """Makes instruments whose names have a prefix and which have attributes in common."""

    def __init__(self, shared: _Shared, attributes: MetricAttributes, prefix: str = "") -> None:
        self._shared = shared
        self._attributes = attributes
        self._prefix = prefix

    def create_counter(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricCounter:
        return self._make(_Counter, name, description, unit, BUFFERED_METRIC_KIND_COUNTER)

    def create_histogram(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogram:
        return self._make(_Histogram, name, description, unit, BUFFERED_METRIC_KIND_HISTOGRAM)

    def create_histogram_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramFloat:
        return self._make(_HistogramFloat, name, description, unit, BUFFERED_METRIC_KIND_HISTOGRAM)

    def create_histogram_timedelta(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramTimedelta:
        if unit == "duration":
            unit = "s" if self._shared.sink.durations_as_seconds else "ms"
        return self._make(_HistogramTimedelta, name, description, unit, BUFFERED_METRIC_KIND_HISTOGRAM)

    def create_gauge(self, name: str, description: str | None = None, unit: str | None = None) -> MetricGauge:
        return self._make(_Gauge, name, description, unit, BUFFERED_METRIC_KIND_GAUGE)

    def create_gauge_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricGaugeFloat:
        return self._make(_GaugeFloat, name, description, unit, BUFFERED_METRIC_KIND_GAUGE)

    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> MetricMeter:
        return _Meter(self._shared, _merged(self._attributes, additional_attributes), self._prefix)

    def _make(
        self,
        instrument: type[InstrumentT],
        name: str,
        description: str | None,
        unit: str | None,
        kind: BufferedMetricKind,
    ) -> InstrumentT:
        metric = self._shared.identity(self._prefix + name, description, unit, kind)
        return instrument(self._shared, metric, self._attributes)
