"""Metrics that user code writes: the meter, its instruments, and those that do nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar, Self, TypeAlias

MetricAttributes: TypeAlias = Mapping[str, str | int | float | bool]
"""Attributes of a metric's value, by name."""


class MetricMeter(ABC):
    """Creates metrics."""

    noop: ClassVar[MetricMeter]
    """A meter whose metrics go nowhere."""

    @abstractmethod
    def create_counter(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricCounter:
        """Return a counter that only goes up.

        Args:
            name: Name of the metric.
            description: What it counts.
            unit: Unit of its values.
        """
        ...

    @abstractmethod
    def create_histogram(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogram:
        """Return a histogram of integers; the arguments are those of `create_counter`."""
        ...

    @abstractmethod
    def create_histogram_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramFloat:
        """Return a histogram of floats; the arguments are those of `create_counter`."""
        ...

    @abstractmethod
    def create_histogram_timedelta(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramTimedelta:
        """Return a histogram of durations with a precision of a millisecond.

        The unit `duration` is exported as `ms` or `s`; the arguments are those of `create_counter`.
        """
        ...

    @abstractmethod
    def create_gauge(self, name: str, description: str | None = None, unit: str | None = None) -> MetricGauge:
        """Return a gauge of integers; the arguments are those of `create_counter`."""
        ...

    @abstractmethod
    def create_gauge_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricGaugeFloat:
        """Return a gauge of floats; the arguments are those of `create_counter`."""
        ...

    @abstractmethod
    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> MetricMeter:
        """Return a meter that adds attributes to everything its metrics record.

        Raises:
            TypeError: An attribute is not a string, number or boolean.
        """
        ...


class MetricCommon(ABC):
    """What all metrics have."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the metric."""
        ...

    @property
    @abstractmethod
    def description(self) -> str | None:
        """What the metric is about, if said."""
        ...

    @property
    @abstractmethod
    def unit(self) -> str | None:
        """Unit of the values, if said."""
        ...

    @abstractmethod
    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> Self:
        """Return a metric that adds attributes to everything it records.

        Raises:
            TypeError: An attribute is not a string, number or boolean.
        """
        ...


class MetricCounter(MetricCommon):
    """A sum that only goes up."""

    @abstractmethod
    def add(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        """Add a value.

        Args:
            value: At least 0.
            additional_attributes: Attributes of this value alone.

        Raises:
            ValueError: The value is negative.
            TypeError: An attribute is not a string, number or boolean.
        """
        ...


class MetricHistogram(MetricCommon):
    """A distribution of integers."""

    @abstractmethod
    def record(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        """Record a value; arguments and errors are those of `MetricCounter.add`."""
        ...


class MetricHistogramFloat(MetricCommon):
    """A distribution of floats."""

    @abstractmethod
    def record(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        """Record a value; arguments and errors are those of `MetricCounter.add`."""
        ...


class MetricHistogramTimedelta(MetricCommon):
    """A distribution of durations, precise to a millisecond."""

    @abstractmethod
    def record(self, value: timedelta, additional_attributes: MetricAttributes | None = None) -> None:
        """Record a value; arguments and errors are those of `MetricCounter.add`."""
        ...


class MetricGauge(MetricCommon):
    """An integer that goes up and down."""

    @abstractmethod
    def set(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        """Set the value; arguments and errors are those of `MetricCounter.add`."""
        ...


class MetricGaugeFloat(MetricCommon):
    """A float that goes up and down."""

    @abstractmethod
    def set(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        """Set the value; arguments and errors are those of `MetricCounter.add`."""
        ...


class _NoopMetric(MetricCommon):
    def __init__(self, name: str, description: str | None, unit: str | None) -> None:
        self._name = name
        self._description = description
        self._unit = unit

    @property
    def name(self) -> str:
        return self._name

    @property
    def description(self) -> str | None:
        return self._description

    @property
    def unit(self) -> str | None:
        return self._unit

    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> Self:
        return self


class _NoopMetricCounter(_NoopMetric, MetricCounter):
    def add(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        pass


class _NoopMetricHistogram(_NoopMetric, MetricHistogram):
    def record(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        pass


class _NoopMetricHistogramFloat(_NoopMetric, MetricHistogramFloat):
    def record(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        pass


class _NoopMetricHistogramTimedelta(_NoopMetric, MetricHistogramTimedelta):
    def record(self, value: timedelta, additional_attributes: MetricAttributes | None = None) -> None:
        pass


class _NoopMetricGauge(_NoopMetric, MetricGauge):
    def set(self, value: int, additional_attributes: MetricAttributes | None = None) -> None:
        pass


class _NoopMetricGaugeFloat(_NoopMetric, MetricGaugeFloat):
    def set(self, value: float, additional_attributes: MetricAttributes | None = None) -> None:
        pass


class _NoopMetricMeter(MetricMeter):
    def create_counter(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricCounter:
        return _NoopMetricCounter(name, description, unit)

    def create_histogram(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogram:
        return _NoopMetricHistogram(name, description, unit)

    def create_histogram_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramFloat:
        return _NoopMetricHistogramFloat(name, description, unit)

    def create_histogram_timedelta(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricHistogramTimedelta:
        return _NoopMetricHistogramTimedelta(name, description, unit)

    def create_gauge(self, name: str, description: str | None = None, unit: str | None = None) -> MetricGauge:
        return _NoopMetricGauge(name, description, unit)

    def create_gauge_float(
        self, name: str, description: str | None = None, unit: str | None = None
    ) -> MetricGaugeFloat:
        return _NoopMetricGaugeFloat(name, description, unit)

    def with_additional_attributes(self, additional_attributes: MetricAttributes) -> MetricMeter:
        return self


MetricMeter.noop = _NoopMetricMeter()
