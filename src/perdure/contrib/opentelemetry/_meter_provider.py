"""A meter provider whose instruments workflow code may use: a replay records nothing a second time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import (
    CallbackT,
    Counter,
    Histogram,
    Meter,
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
    _Gauge,
)
from opentelemetry.util.types import Attributes

from perdure.contrib.opentelemetry._replay import is_replay, outside_guards


class _Wrapped:
    """An instrument whose measurements count outside of replays only."""

    def __init__(self, instrument: Any) -> None:
        self._instrument = instrument

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instrument, name)

    def _measure(
        self,
        measure: Callable[..., None],
        amount: float,
        attributes: Attributes,
        context: Context | None,
    ) -> None:
        if is_replay():
            return
        with outside_guards():
            measure(amount, attributes, context)


class _ReplaySafeCounter(_Wrapped, Counter):
    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        self._measure(self._instrument.add, amount, attributes, context)


class _ReplaySafeUpDownCounter(_Wrapped, UpDownCounter):
    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        self._measure(self._instrument.add, amount, attributes, context)


class _ReplaySafeHistogram(_Wrapped, Histogram):
    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        self._measure(self._instrument.record, amount, attributes, context)


class _ReplaySafeGauge(_Wrapped, _Gauge):
    def set(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        self._measure(self._instrument.set, amount, attributes, context)


class _ReplaySafeMeter(Meter):
    """Makes instruments that workflow code may use."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter.name, version=meter.version, schema_url=meter.schema_url)
        self._meter = meter

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        with outside_guards():
            return _ReplaySafeCounter(self._meter.create_counter(name, unit, description))

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> UpDownCounter:
        with outside_guards():
            return _ReplaySafeUpDownCounter(self._meter.create_up_down_counter(name, unit, description))

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        with outside_guards():
            histogram = self._meter.create_histogram(
                name,
                unit,
                description,
                explicit_bucket_boundaries_advisory=explicit_bucket_boundaries_advisory,
            )
        return _ReplaySafeHistogram(histogram)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> _Gauge:
        with outside_guards():
            return _ReplaySafeGauge(self._meter.create_gauge(name, unit, description))

    # Observable instruments are asked by whoever exports, never inside workflow code.

    def create_observable_counter(
        self,
        name: str,
        callbacks: Sequence[CallbackT] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableCounter:
        return self._meter.create_observable_counter(name, callbacks, unit, description)

    def create_observable_gauge(
        self,
        name: str,
        callbacks: Sequence[CallbackT] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableGauge:
        return self._meter.create_observable_gauge(name, callbacks, unit, description)

    def create_observable_up_down_counter(
        self,
        name: str,
        callbacks: Sequence[CallbackT] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableUpDownCounter:
        return self._meter.create_observable_up_down_counter(name, callbacks, unit, description)


class ReplaySafeMeterProvider(MeterProvider):
    """Makes meters whose measurements, when workflow code makes them, count on its first execution only.

    What queries and update validators measure is kept, whenever they run, and observable instruments are untouched.
    Make it the process's provider (`opentelemetry.metrics.set_meter_provider`) for libraries that measure inside
    workflow code; workflow code itself has `workflow.metric_meter()`.
    """

    def __init__(self, meter_provider: MeterProvider) -> None:
        """Wrap a provider.

        Args:
            meter_provider: Makes the meters that do the work.
        """
        self._meter_provider = meter_provider

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped provider has besides, such as `shutdown` and `force_flush`."""
        return getattr(self._meter_provider, name)

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Meter:
        """Return a meter for a module or library."""
        with outside_guards():
            return _ReplaySafeMeter(self._meter_provider.get_meter(name, version, schema_url, attributes))
