"""Metrics for Prometheus: values by metric and attributes, shown at `/metrics`.

May live here: keeping values until they are asked for, and the server that shows them. May not: instruments.
"""

from __future__ import annotations

import bisect
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from perdure.runtime._buffer import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_GAUGE,
    MetricIdentity,
)

if TYPE_CHECKING:
    from perdure.common import MetricAttributes
    from perdure.runtime._config import PrometheusConfig

_WHOLE_NUMBER: Final = re.compile(rb"^([^#\n].* -?[0-9]+)\.0$", re.MULTILINE)
_INVALID: Final = re.compile(r"[^a-zA-Z0-9_:]")
# Latencies from the cost of a call inside the process to that of the longest long poll.
_BUCKETS_MS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 90_000)
_MAX_SERIES: Final = 10_000
"""Sets of attributes kept per metric; what is beyond goes into one series without attributes."""

Labels = tuple[tuple[str, str], ...]


class _Histogram:
    """Counts of values by bucket."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> _Histogram:
        """Return one with the same counts, that does not change with this one."""
        copy = _Histogram(self.bounds)
        copy.counts, copy.total = list(self.counts), self.total
        return copy


class PrometheusSink:
    """Keeps all values and serves them to Prometheus.

    Args:
        config: Where to listen, and how names and durations look.

    Raises:
        RuntimeError: `prometheus-client` is not installed, or the address cannot be listened on.
    """

    def __init__(self, config: PrometheusConfig) -> None:
        self.durations_as_seconds = config.durations_as_seconds
        self._config = config
        self._lock = threading.Lock()
        self._values: dict[MetricIdentity, dict[Labels, Any]] = {}
        self._server = _serve(self, config.bind_address)

    def update(self, metric: MetricIdentity, value: int | float, attributes: MetricAttributes) -> None:
        """See `Sink.update`."""
        labels = tuple(sorted((_INVALID.sub("_", key), _text(item)) for key, item in attributes.items()))
        with self._lock:
            series = self._values.setdefault(metric, {})
            if labels not in series and len(series) >= _MAX_SERIES:
                labels = ()
            if metric.kind == BUFFERED_METRIC_KIND_COUNTER:
                series[labels] = series.get(labels, 0) + value
            elif metric.kind == BUFFERED_METRIC_KIND_GAUGE:
                series[labels] = value
            else:
                if labels not in series:
                    series[labels] = _Histogram(self._bounds(metric))
                series[labels].add(value)

    def _bounds(self, metric: MetricIdentity) -> Sequence[float]:
        overrides: Mapping[str, Sequence[float]] = self._config.histogram_bucket_overrides or {}
        if metric.name in overrides:
            return sorted(overrides[metric.name])
        seconds = metric.unit == "s"
        return [bound / 1000 for bound in _BUCKETS_MS] if seconds else _BUCKETS_MS

    def collect(self) -> Iterable[Any]:
        """Return all metrics as `prometheus_client` wants them; called for every scrape."""
        from prometheus_client import Metric

        for identity, series in self._snapshot():
            name = _INVALID.sub("_", identity.name)
            if self._config.unit_suffix and identity.unit:
                name = f"{name}_{_INVALID.sub('_', _UNIT_NAMES.get(identity.unit, identity.unit))}"
            metric = Metric(name, identity.description or name, _TYPES.get(identity.kind, "histogram"))
            for labels, value in series:
                self._add_samples(metric, name, identity, dict(labels), value)
            yield metric

    def _snapshot(self) -> list[tuple[MetricIdentity, list[tuple[Labels, Any]]]]:
        """All values as they are now: writing them out takes long, and nobody who records may wait for it."""
        with self._lock:
            return [
                (identity, [(labels, _copied(value)) for labels, value in series.items()])
                for identity, series in self._values.items()
            ]

    def _add_samples(
        self, metric: Any, name: str, identity: MetricIdentity, labels: dict[str, str], value: Any
    ) -> None:
        if not isinstance(value, _Histogram):
            is_counter = identity.kind == BUFFERED_METRIC_KIND_COUNTER
            suffix = "_total" if is_counter and self._config.counters_total_suffix else ""
            metric.add_sample(name + suffix, labels, value)
            return
        count = 0
        for bound, amount in zip((*value.bounds, float("inf")), value.counts, strict=True):
            count += amount
            le = "+Inf" if bound == float("inf") else str(bound)
            metric.add_sample(f"{name}_bucket", {**labels, "le": le}, count)
        metric.add_sample(f"{name}_sum", labels, value.total)
        metric.add_sample(f"{name}_count", labels, count)


# Counters are shown as `unknown`: prometheus_client would add `_total` to a counter's name, which is a choice here.
_TYPES: Final[Mapping[int, str]] = {
    BUFFERED_METRIC_KIND_COUNTER: "unknown",
    BUFFERED_METRIC_KIND_GAUGE: "gauge",
}
_UNIT_NAMES: Final[Mapping[str, str]] = {"ms": "milliseconds", "s": "seconds"}


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, _Histogram) else value


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _serve(sink: PrometheusSink, bind_address: str) -> Any:
    try:
        from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server
    except ImportError as error:
        raise RuntimeError(
            "Metrics for Prometheus need the package prometheus-client: pip install 'perdure[prometheus]'"
        ) from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(sink)
    host, _, port = bind_address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise RuntimeError(
            f"PrometheusConfig.bind_address must be host:port, such as 127.0.0.1:9090, not {bind_address!r}"
        )
    try:
        server = start_http_server(int(port), addr=host.strip("[]") or "0.0.0.0", registry=registry)
    except OSError as error:
        raise RuntimeError(f"Metrics cannot be served at {bind_address}: {error}") from error
    server[0].set_app(_with_whole_numbers(make_wsgi_app(registry, disable_compression=True)))
    return server


def _with_whole_numbers(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The application with `2` for `2.0`, as the official workers write whole numbers and scripts look for them."""

    def shortened(environ: Any, start_response: Any) -> Iterable[bytes]:
        return [_WHOLE_NUMBER.sub(rb"\1", b"".join(application(environ, start_response)))]

    return shortened
