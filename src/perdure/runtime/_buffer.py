"""Metric updates kept in memory until the application takes them.

May live here: the buffer and what it holds. May not: instruments (`_meter`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NewType, Protocol

if TYPE_CHECKING:
    from perdure.common import MetricAttributes

logger = logging.getLogger("perdure.runtime")

BufferedMetricKind = NewType("BufferedMetricKind", int)
"""What a buffered metric is: one of the three constants."""

BUFFERED_METRIC_KIND_COUNTER = BufferedMetricKind(0)
"""A counter: values are what was added."""

BUFFERED_METRIC_KIND_GAUGE = BufferedMetricKind(1)
"""A gauge: values are the newest."""

BUFFERED_METRIC_KIND_HISTOGRAM = BufferedMetricKind(2)
"""A histogram: values are single measurements."""


class BufferedMetric(Protocol):
    """A metric of buffered updates; the same metric is the same object in all updates."""

    @property
    def name(self) -> str:
        """The metric's name."""
        ...

    @property
    def description(self) -> str | None:
        """What it measures, if said."""
        ...

    @property
    def unit(self) -> str | None:
        """Its unit, if said."""
        ...

    @property
    def kind(self) -> BufferedMetricKind:
        """Counter, gauge or histogram."""
        ...


class BufferedMetricUpdate(Protocol):
    """One change of one metric."""

    @property
    def metric(self) -> BufferedMetric:
        """The metric."""
        ...

    @property
    def value(self) -> int | float:
        """What was added (counter), set (gauge) or measured (histogram)."""
        ...

    @property
    def attributes(self) -> MetricAttributes:
        """The update's attributes; do not change them."""
        ...


@dataclass(frozen=True)
class MetricIdentity:
    """A metric as the buffer shows it."""

    name: str
    description: str | None
    unit: str | None
    kind: BufferedMetricKind


@dataclass(frozen=True, slots=True)
class MetricUpdate:
    """An update as the buffer shows it."""

    metric: MetricIdentity
    value: int | float
    attributes: MetricAttributes


class MetricBufferDurationFormat(Enum):
    """How a buffer shows durations."""

    MILLISECONDS = 1
    """Whole milliseconds."""

    SECONDS = 2
    """Fractions of seconds."""


class MetricBuffer:
    """Keeps metric updates until `retrieve_updates` takes them; what does not fit is dropped, and logged once.

    Args:
        buffer_size: Most updates kept; tens of thousands are reasonable.
        duration_format: How durations are shown.
    """

    def __init__(
        self,
        buffer_size: int,
        duration_format: MetricBufferDurationFormat = MetricBufferDurationFormat.MILLISECONDS,
    ) -> None:
        self._buffer_size = buffer_size
        self._durations_as_seconds = duration_format is MetricBufferDurationFormat.SECONDS
        self._updates: list[BufferedMetricUpdate] = []
        self._in_use = False
        self._told_full = False

    def retrieve_updates(self) -> Sequence[BufferedMetricUpdate]:
        """Take all updates out of the buffer. Call it regularly.

        Raises:
            RuntimeError: No runtime has been made with this buffer.
        """
        if not self._in_use:
            raise RuntimeError(
                "Attempting to retrieve updates before runtime created: "
                "make a Runtime with TelemetryConfig(metrics=buffer) first"
            )
        updates, self._updates = self._updates, []
        self._told_full = False
        return updates

    def _append(self, update: BufferedMetricUpdate) -> None:
        if len(self._updates) < self._buffer_size:
            self._updates.append(update)
        elif not self._told_full:
            self._told_full = True
            logger.error(
                "The metric buffer is full (%d updates); updates are dropped until it is emptied",
                self._buffer_size,
            )
