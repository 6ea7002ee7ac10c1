"""Metrics and log records of workflow code count once; metrics of client and worker reach a meter provider."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry._logs import LoggerProvider, LogRecord
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from perdure import workflow
from perdure.client import Client
from perdure.contrib.opentelemetry import MetricsExporter, ReplaySafeLoggerProvider, ReplaySafeMeterProvider
from perdure.runtime import MetricBuffer, Runtime, TelemetryConfig
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.unit.sdk_data.drivers import run


class _Written(sdk_logs.LogRecordProcessor):
    """Keeps log records."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    def on_emit(self, log_record: Any) -> None:
        """Keep one."""
        self.bodies.append(log_record.log_record.body)

    def shutdown(self) -> None:
        """Nothing."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing to flush."""
        return True


def _totals(reader: InMemoryMetricReader) -> dict[str, float]:
    """By metric: what a counter or gauge shows, how often a histogram was asked to record."""
    found: dict[str, float] = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = metric.data.data_points
                found[metric.name] = sum(float(getattr(p, "value", getattr(p, "count", 0))) for p in points)
    return found


_reader = InMemoryMetricReader()
_meters = ReplaySafeMeterProvider(SdkMeterProvider([_reader]))
_written = _Written()
_sdk_logs = sdk_logs.LoggerProvider()
_sdk_logs.add_log_record_processor(_written)
_logs = ReplaySafeLoggerProvider(_sdk_logs)


@workflow.defn
class Measured:
    """Measures between timers, as a library would that knows nothing of workflows."""

    def __init__(self) -> None:
        self.goes_on = False

    @workflow.run
    async def run(self) -> None:
        """Three tasks at least."""
        meter, logger = _meters.get_meter("library"), _logs.get_logger("library")
        for number in range(3):
            meter.create_counter("counted").add(1)
            meter.create_up_down_counter("up_and_down").add(2)
            meter.create_histogram("measured").record(5)
            meter.create_gauge("shown").set(number + 1)
            if logger.enabled():
                logger.emit(LogRecord(body=f"round {number}"))
            await workflow.sleep(0.001)
        await workflow.wait_condition(lambda: self.goes_on)

    @workflow.signal
    def go_on(self) -> None:
        """End."""
        self.goes_on = True

    @workflow.query
    def asked(self) -> None:
        """Counted whenever it runs."""
        _meters.get_meter("library").create_counter("asked").add(1)


@workflow.defn
class Unmeasured:
    """Measures nothing, so that the totals of other tests stay as they are."""

    @workflow.run
    async def run(self) -> None:
        """End at once."""


def test_a_replay_measures_and_writes_nothing_again() -> None:
    """Without a cache every task replays everything before it; a query is news even then."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local() as environment:
            queue = f"queue-{uuid.uuid4()}"
            async with Worker(
                environment.client, task_queue=queue, workflows=[Measured], max_cached_workflows=0
            ):
                handle = await environment.client.start_workflow(Measured.run, id=queue, task_queue=queue)
                await handle.query(Measured.asked)
                await handle.signal(Measured.go_on)
                await handle.result()
                await handle.query(Measured.asked)

    run(scenario())
    assert _totals(_reader) == {"counted": 3, "up_and_down": 6, "measured": 3, "shown": 3, "asked": 2}
    assert _written.bodies == ["round 0", "round 1", "round 2"]


def test_outside_of_workflows_everything_counts_and_providers_can_be_shut_down() -> None:
    """What wraps a provider is in nobody's way."""
    reader, written = InMemoryMetricReader(), _Written()
    meters = ReplaySafeMeterProvider(SdkMeterProvider([reader]))
    meter = meters.get_meter("application", "1")
    assert meter.name == "application"
    meter.create_counter("counted").add(2, {"a": "b"})
    meter.create_observable_gauge("observed", [lambda _: []])
    meter.create_observable_counter("observed_counter", [lambda _: []])
    meter.create_observable_up_down_counter("observed_up_down", [lambda _: []])
    assert _totals(reader) == {"counted": 2}
    inner = sdk_logs.LoggerProvider()
    inner.add_log_record_processor(written)
    logs = ReplaySafeLoggerProvider(inner)
    logs.get_logger("application").emit(LogRecord(body="here"))
    assert written.bodies == ["here"]
    assert logs.force_flush()
    logs.shutdown()
    meters.shutdown()


@pytest.mark.parametrize(
    ("wrapper", "wrapped"),
    [(ReplaySafeMeterProvider, MeterProvider), (ReplaySafeLoggerProvider, LoggerProvider)],
)
def test_every_method_that_makes_something_is_wrapped(wrapper: type, wrapped: type) -> None:
    """A release of OpenTelemetry that adds one makes this fail: inherited, it would do nothing at all."""
    own = vars(wrapper)
    assert {name for name in vars(wrapped) if not name.startswith("_")} <= set(own)
    made = {name for name in vars(Meter) if name.startswith("create_")}
    assert made <= set(vars(type(_meters.get_meter("any"))))


def test_metrics_of_client_and_worker_reach_a_meter_provider() -> None:
    """Counters, histograms and gauges of a runtime's buffer, to the last one before the end."""
    reader = InMemoryMetricReader()
    buffer = MetricBuffer(10_000)

    async def scenario() -> None:
        runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer))
        meter = runtime.metric_meter
        async with MetricsExporter(buffer, SdkMeterProvider([reader]), poll_interval=timedelta(hours=1)):
            client = await Client.connect("sqlite://", runtime=runtime)
            queue = f"queue-{uuid.uuid4()}"
            async with Worker(client, task_queue=queue, workflows=[Unmeasured]):
                await client.execute_workflow(Unmeasured.run, id=queue, task_queue=queue)
            meter.create_gauge("own_gauge").set(7)
            meter.create_gauge("own_gauge").set(4)
            await client.close()

    run(scenario())
    totals = _totals(reader)
    assert totals["temporal_workflow_completed"] == 1
    assert totals["temporal_workflow_task_execution_latency"] >= 1
    assert totals["own_gauge"] == 4


def test_an_exporter_that_cannot_work_says_so() -> None:
    """A buffer of no runtime; a second run; instruments and handlers that raise, which cost one update each."""
    told: list[Exception] = []
    seen: list[float] = []

    class Broken(SdkMeterProvider):
        """Refuses one counter."""

        def get_meter(self, *_: Any, **__: Any) -> Any:
            """Return itself: it is the meter as well."""
            return self

        def create_counter(self, name: str, *_: Any) -> Any:
            """Refuse, or return something that records."""
            if name == "bad":
                raise ValueError("no such counter")
            return self

        def add(self, value: float, _: Any) -> None:
            """Record."""
            seen.append(value)

    def tell(error: Exception) -> None:
        told.append(error)
        raise RuntimeError("and the handler, too")

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="before runtime created"):
            await MetricsExporter(MetricBuffer(1)).run()
        buffer = MetricBuffer(10)
        runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer))
        runtime.metric_meter.create_counter("bad").add(1)
        runtime.metric_meter.create_counter("good").add(2)
        exporter = MetricsExporter(buffer, Broken(), on_error=tell)
        first = asyncio.create_task(exporter.run())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            await exporter.run()
        await exporter.shutdown()
        await first

    run(scenario())
    assert [str(error) for error in told] == ["no such counter"]
    assert seen == [2]
