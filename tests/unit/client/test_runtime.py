"""The runtime: default ones, metrics in a buffer and for Prometheus, forwarded logs."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest

from examples.ports import free_port
from perdure.api.workflowservice.v1 import GetSystemInfoRequest
from perdure.common import MetricMeter
from perdure.runtime import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_HISTOGRAM,
    LogForwardingConfig,
    LoggingConfig,
    MetricBuffer,
    MetricBufferDurationFormat,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from perdure.runtime._runtime import log
from perdure.service import RPCError, RPCStatusCode
from tests.unit.client.fakes import fake_service, rpc_error


def _buffered(
    duration_format: MetricBufferDurationFormat = MetricBufferDurationFormat.MILLISECONDS, size: int = 100
) -> tuple[MetricBuffer, Runtime]:
    buffer = MetricBuffer(size, duration_format)
    return buffer, Runtime(telemetry=TelemetryConfig(metrics=buffer, global_tags={"tag": "t"}))


def test_without_configuration_metrics_cost_nothing() -> None:
    """The meter does nothing, and calls are not measured."""
    runtime = Runtime(telemetry=TelemetryConfig())
    assert runtime.metric_meter is MetricMeter.noop
    assert runtime._call_metrics() is None
    with pytest.raises(ValueError, match="must be positive"):
        Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=timedelta(0))


def test_a_buffer_shows_the_same_metric_as_the_same_object() -> None:
    """Also the same attributes, so that they can be compared by identity."""
    buffer, runtime = _buffered()
    counter = runtime.metric_meter.create_counter("c", "what", "unit")
    more = counter.with_additional_attributes({"a": 1})
    counter.add(1)
    more.add(2)
    counter.add(3)
    more.add(4, {"b": True})
    first, second, third, fourth = buffer.retrieve_updates()
    assert first.metric is second.metric is third.metric
    assert (first.metric.name, first.metric.description, first.metric.unit) == ("c", "what", "unit")
    assert first.metric.kind == BUFFERED_METRIC_KIND_COUNTER
    assert first.attributes is third.attributes
    assert first.attributes == {"tag": "t", "service_name": "temporal-core-sdk"}
    assert second.attributes == {**first.attributes, "a": 1}
    assert fourth.attributes == {**second.attributes, "b": True}
    assert [update.value for update in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert not buffer.retrieve_updates()


@pytest.mark.parametrize(
    ("duration_format", "value", "unit"),
    [(MetricBufferDurationFormat.MILLISECONDS, 1500, "ms"), (MetricBufferDurationFormat.SECONDS, 1.5, "s")],
)
def test_durations_have_the_format_that_was_asked_for(
    duration_format: MetricBufferDurationFormat, value: float, unit: str
) -> None:
    """Whole milliseconds or fractions of seconds."""
    buffer, runtime = _buffered(duration_format)
    histogram = runtime.metric_meter.create_histogram_timedelta("h", unit="duration")
    histogram.record(timedelta(seconds=1.5))
    [update] = buffer.retrieve_updates()
    assert (update.value, type(update.value), update.metric.unit) == (value, type(value), unit)
    assert update.metric.kind == BUFFERED_METRIC_KIND_HISTOGRAM


def test_a_full_buffer_drops_updates_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """Memory stays bounded."""
    buffer, runtime = _buffered(size=2)
    counter = runtime.metric_meter.create_counter("c")
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            counter.add(1)
    assert len(buffer.retrieve_updates()) == 2
    assert len(caplog.records) == 1


def test_wrong_values_and_attributes_are_refused() -> None:
    """A buffer without a runtime too."""
    _, runtime = _buffered()
    with pytest.raises(ValueError, match="negative"):
        runtime.metric_meter.create_gauge("g").set(-1)
    with pytest.raises(TypeError, match="Invalid value type for key 'a'"):
        runtime.metric_meter.with_additional_attributes({"a": None})  # type: ignore[dict-item]
    with pytest.raises(RuntimeError, match="before runtime created"):
        MetricBuffer(1).retrieve_updates()


def test_prometheus_reads_counters_gauges_and_histograms() -> None:
    """Names and labels in its alphabet, buckets as set."""
    address = f"127.0.0.1:{free_port()}"
    config = PrometheusConfig(
        address, counters_total_suffix=True, histogram_bucket_overrides={"my-histogram": [1, 10]}
    )
    runtime = Runtime(telemetry=TelemetryConfig(metrics=config))
    meter = runtime.metric_meter.with_additional_attributes({"an-attr": True})
    meter.create_counter("my-counter", "counted").add(2)
    meter.create_gauge_float("gauge").set(1.5)
    histogram = meter.create_histogram("my-histogram")
    for value in (1, 5, 50):
        histogram.record(value)
    with urlopen(f"http://{address}/metrics") as response:
        text = response.read().decode()
    labels = 'an_attr="true",service_name="temporal-core-sdk"'
    assert f"my_counter_total{{{labels}}} 2\n" in text, "whole numbers as the official workers write them"
    assert f"gauge{{{labels}}} 1.5\n" in text
    assert "# HELP my_counter counted" in text
    for bound, count in (("1", 1), ("10", 2), ("+Inf", 3)):
        assert (
            f"my_histogram_bucket{{{labels.replace(',', ',le=' + chr(34) + bound + chr(34) + ',')}}} {count}\n"
            in text
        )
    assert f"my_histogram_sum{{{labels}}} 56\n" in text
    with pytest.raises(RuntimeError, match="cannot be served"):
        Runtime(telemetry=TelemetryConfig(metrics=config))


def test_calls_are_measured_with_what_they_were_and_how_they_ended() -> None:
    """Names have the prefix; failures have their status."""
    buffer, runtime = _buffered()

    async def scenario() -> None:
        service, _ = fake_service({"GetSystemInfo": [rpc_error(RPCStatusCode.NOT_FOUND)]})
        service._metrics = runtime._call_metrics()
        with pytest.raises(RPCError):
            await service.workflow_service.get_system_info(GetSystemInfoRequest())

    asyncio.run(scenario())
    found = {update.metric.name: update.attributes for update in buffer.retrieve_updates()}
    assert set(found) == {"temporal_request", "temporal_request_failure", "temporal_request_latency"}
    assert found["temporal_request"]["operation"] == "GetSystemInfo"
    assert found["temporal_request_failure"]["status_code"] == "NOT_FOUND"


def test_inner_logs_are_forwarded_from_their_level_on() -> None:
    """With the entry itself on the record."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.Logger("mine", logging.DEBUG)
    logger.addHandler(Keep())
    runtime = Runtime(
        telemetry=TelemetryConfig(
            logging=LoggingConfig(
                TelemetryFilter(core_level="INFO", other_level="ERROR"), LogForwardingConfig(logger)
            )
        )
    )
    log(runtime, logging.DEBUG, "perdure.worker", "too quiet", {})
    log(runtime, logging.INFO, "perdure.worker", "heard", {"run_id": "r"})
    [record] = records
    assert record.name == "mine-sdk_core::perdure.worker"
    assert record.getMessage() == "[sdk_core::perdure.worker] heard {'run_id': 'r'}"
    assert record.temporal_log.fields == {"run_id": "r"}  # type: ignore[attr-defined]
    assert record.created == record.temporal_log.time  # type: ignore[attr-defined]


def test_what_is_recorded_waits_for_no_scrape() -> None:
    """Writing all values out takes long; what comes meanwhile is in the next one."""
    address = f"127.0.0.1:{free_port()}"
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(address), attach_service_name=False))
    histogram = runtime.metric_meter.create_histogram("h")
    histogram.record(1)
    sink: Any = runtime._meter._shared.sink  # type: ignore[union-attr]
    scrape = sink.collect()
    counts: list[float] = []
    runtime.metric_meter.create_histogram("other").record(1)
    for metric in scrape:
        recording = Thread(target=histogram.record, args=(2,), daemon=True)
        recording.start()
        recording.join(5)
        assert not recording.is_alive(), "it waits for the scrape"
        counts += [sample.value for sample in metric.samples if sample.name.endswith("_count")]
    assert counts == [1, 1]


@pytest.mark.parametrize(
    ("text", "level"),
    [("ERROR,perdure=WARN", logging.WARNING), ("DEBUG,perdure=ERROR", logging.ERROR), ("INFO", logging.INFO)],
)
def test_a_filter_as_text_means_what_it_says_of_the_sdk(text: str, level: int) -> None:
    """What is said of a part comes before what is said of everything else."""
    assert LoggingConfig(text)._core_level() == level


def test_a_filter_without_forwarding_drops_what_is_below_its_level(caplog: pytest.LogCaptureFixture) -> None:
    """The rest goes to Python's logging, which has levels of its own."""
    runtime = Runtime(telemetry=TelemetryConfig(logging=LoggingConfig("ERROR,perdure=INFO")))
    with caplog.at_level(logging.DEBUG, "perdure"):
        log(runtime, logging.DEBUG, "perdure.worker", "too quiet", {})
        log(runtime, logging.INFO, "perdure.worker", "heard", {})
        log(Runtime(telemetry=TelemetryConfig(logging=None)), logging.DEBUG, "perdure.worker", "all", {})
    assert [record.getMessage() for record in caplog.records] == ["heard {}", "all {}"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:\N{SUPERSCRIPT TWO}"]
)
def test_an_address_for_prometheus_without_a_port_is_told(address: str) -> None:
    """By the name of the setting, and with one that is right."""
    pytest.importorskip("prometheus_client")
    with pytest.raises(RuntimeError, match=r"bind_address must be host:port, such as 127\.0\.0\.1:9090"):
        Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))
