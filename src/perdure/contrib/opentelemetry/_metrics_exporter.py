"""Metrics of client and worker for a meter provider of the application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from opentelemetry.metrics import Meter, MeterProvider, get_meter_provider

from perdure.runtime import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_GAUGE,
    BUFFERED_METRIC_KIND_HISTOGRAM,
    BufferedMetric,
    BufferedMetricKind,
    BufferedMetricUpdate,
    MetricBuffer,
)

logger = logging.getLogger(__name__)

_Record = Callable[..., None]


def _counter(meter: Meter, name: str, unit: str, description: str) -> _Record:
    return meter.create_counter(name, unit, description).add


def _histogram(meter: Meter, name: str, unit: str, description: str) -> _Record:
    return meter.create_histogram(name, unit, description).record


def _gauge(meter: Meter, name: str, unit: str, description: str) -> _Record:
    return meter.create_gauge(name, unit, description).set


_MAKERS: Final[dict[BufferedMetricKind, Callable[[Meter, str, str, str], _Record]]] = {
    BUFFERED_METRIC_KIND_COUNTER: _counter,
    BUFFERED_METRIC_KIND_HISTOGRAM: _histogram,
    BUFFERED_METRIC_KIND_GAUGE: _gauge,
}


class MetricsExporter:
    """Empties a metric buffer into a meter provider, again and again, while it runs (experimental).

    Use it with `async with`, or run `run()` in a task and end it with `shutdown()`. The buffer must be that of a
    runtime, `Runtime(telemetry=TelemetryConfig(metrics=buffer))`, made before.
    """

    def __init__(
        self,
        buffer: MetricBuffer,
        meter_provider: MeterProvider | None = None,
        *,
        meter_name: str = "temporalio",
        meter_version: str | None = None,
        poll_interval: timedelta = timedelta(seconds=1),
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        """Make the exporter; it does nothing yet.

        Args:
            buffer: Is emptied.
            meter_provider: Makes the instruments; the process's own by default.
            meter_name: The name under which it is asked for a meter; the official SDK's by default.
            meter_version: The version that goes with the name.
            poll_interval: How long to wait until the buffer is emptied again.
            on_error: Is called with what goes wrong for single updates, besides the log.
        """
        self._buffer = buffer
        self._meter = (meter_provider or get_meter_provider()).get_meter(meter_name, meter_version)
        self._poll_interval_s = poll_interval.total_seconds()
        self._on_error = on_error
        # As many as the application has metrics.
        self._records: dict[tuple[str, BufferedMetricKind], _Record] = {}
        self._is_running = False
        self._stop = asyncio.Event()
        self._stopped = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Empty the buffer until `shutdown` is called, and once more then.

        Raises:
            RuntimeError: It runs already, or no runtime has been made with the buffer.
        """
        if self._is_running:
            raise RuntimeError("MetricsExporter is already running")
        self._is_running = True
        self._stopped.clear()
        try:
            while not self._stop.is_set():
                self._export()
                try:
                    await asyncio.wait_for(self._stop.wait(), self._poll_interval_s)
                except TimeoutError:
                    continue
            self._export()
        finally:
            self._is_running = False
            # Only now: a shutdown that came before the first step has to count.
            self._stop.clear()
            self._stopped.set()

    async def shutdown(self) -> None:
        """End `run`, after everything in the buffer has been exported."""
        self._stop.set()
        await self._stopped.wait()

    async def __aenter__(self) -> Self:
        """Start `run` in a task."""
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; raises what it raised."""
        self._stop.set()
        if self._task is not None:
            await self._task

    def _export(self) -> None:
        for update in self._buffer.retrieve_updates():
            try:
                self._record_of(update.metric)(update.value, update.attributes)
            except Exception as error:  # whatever an instrument raises: the other updates are not to be lost
                self._tell(update, error)

    def _tell(self, update: BufferedMetricUpdate, error: Exception) -> None:
        logger.error("The metric %s could not be exported: %r", update.metric.name, error)
        if self._on_error is None:
            return
        try:
            self._on_error(error)
        except Exception:  # the application's handler must not end the export
            logger.exception("on_error of MetricsExporter failed")

    def _record_of(self, metric: BufferedMetric) -> _Record:
        key = (metric.name, metric.kind)
        record = self._records.get(key)
        if record is None:
            make = _MAKERS[metric.kind]
            record = make(self._meter, metric.name, metric.unit or "", metric.description or "")
            self._records[key] = record
        return record
