"""What a user sets about logs and metrics.

May live here: values and their checks. May not: anything that records, exports or listens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import ClassVar, NamedTuple

from perdure.runtime._buffer import MetricBuffer

_LEVELS: Mapping[str, int] = {
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": 5,
}
_module_started_s = time.time()


@dataclass
class TelemetryFilter:
    """From which level on logs are kept."""

    core_level: str
    """Level for the SDK's own inner workings: `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`."""

    other_level: str
    """Level for everything else."""

    def formatted(self) -> str:
        """Return the filter as one text: the level for all, then those of single parts."""
        return f"{self.other_level},perdure={self.core_level}"


class LoggingFormat(Enum):
    """How logs are written to a console."""

    COMPACT = "compact"
    PRETTY = "pretty"
    JSON = "json"


class LogEntry(NamedTuple):
    """One line of the SDK's inner log, as `LogForwardingConfig` hands it on."""

    target: str
    """The part of the SDK that speaks, such as `perdure.worker`."""
    message: str
    time: float
    """Seconds since the epoch."""
    level: int
    """A level of Python's logging."""
    fields: Mapping[str, object]


@dataclass
class LogForwardingConfig:
    """Sends the SDK's inner log to a logger of the application.

    Every record has the attribute `temporal_log` with the entry's own level, time, target, message and fields.
    """

    logger: logging.Logger
    """Where the log goes."""

    append_target_to_name: bool = True
    """Add the speaking part to the record's logger name."""

    prepend_target_on_message: bool = True
    """Begin the message with the speaking part."""

    overwrite_log_record_time: bool = True
    """Give the record the time of the entry instead of that of its forwarding."""

    append_log_fields_to_message: bool = True
    """End the message with the entry's fields."""

    def _on_logs(self, logs: Sequence[LogEntry]) -> None:
        for entry in logs:
            if self.logger.isEnabledFor(entry.level):
                self.logger.handle(self._record(entry))

    def _record(self, entry: LogEntry) -> logging.LogRecord:
        source = f"sdk_core::{entry.target}"
        message = f"[{source}] {entry.message}" if self.prepend_target_on_message else entry.message
        if self.append_log_fields_to_message:
            message = f"{message} {dict(entry.fields)}"
        name = f"{self.logger.name}-{source}" if self.append_target_to_name else self.logger.name
        record = self.logger.makeRecord(
            name, entry.level, "(perdure)", 0, message, (), None, "(perdure)", {"temporal_log": entry}
        )
        if self.overwrite_log_record_time:
            record.created = entry.time
            record.msecs = (entry.time % 1) * 1000
            record.relativeCreated = (entry.time - _module_started_s) * 1000
        return record


@dataclass(frozen=True)
class LoggingConfig:
    """What becomes of the SDK's inner log."""

    filter: TelemetryFilter | str
    """From which level on entries are kept: a filter, or its text such as `ERROR,perdure=WARN`."""

    forwarding: LogForwardingConfig | None = None
    """Where they go; None leaves them to Python's logging under the name `perdure`."""

    format: LoggingFormat | None = None
    """Accepted for compatibility: how logs look is decided by Python's logging handlers."""

    default: ClassVar[LoggingConfig]
    """Warnings of the SDK, errors of everything else."""

    def _core_level(self) -> int:
        if isinstance(self.filter, TelemetryFilter):
            return _LEVELS.get(self.filter.core_level.upper(), logging.WARNING)
        parts = self.filter.split(",")
        # The SDK is a named part: what is said of parts comes before what is said of everything else.
        named = [part for part in parts if "=" in part]
        levels = [part.rpartition("=")[2].strip().upper() for part in named or parts]
        return min((_LEVELS[level] for level in levels if level in _LEVELS), default=logging.WARNING)


LoggingConfig.default = LoggingConfig(filter=TelemetryFilter(core_level="WARN", other_level="ERROR"))


class OpenTelemetryMetricTemporality(Enum):
    """What an exported number counts: everything so far, or what was new since the last export."""

    CUMULATIVE = 1
    DELTA = 2


@dataclass(frozen=True)
class OpenTelemetryConfig:
    """Metrics are sent to an OpenTelemetry collector; needs the extra `perdure[opentelemetry-metrics]`.

    Args:
        url: The collector's endpoint: `http://localhost:4317` for gRPC, with `http` set rather
            `http://localhost:4318/v1/metrics`.
        headers: Sent with every export.
        metric_periodicity: Time between exports; None means one second.
        metric_temporality: What the numbers count.
        durations_as_seconds: Durations as fractions of seconds instead of whole milliseconds.
        http: Send over HTTP instead of gRPC.
        histogram_bucket_overrides: Bucket boundaries by metric name.
    """

    url: str
    headers: Mapping[str, str] | None = None
    metric_periodicity: timedelta | None = None
    metric_temporality: OpenTelemetryMetricTemporality = OpenTelemetryMetricTemporality.CUMULATIVE
    durations_as_seconds: bool = False
    http: bool = False
    histogram_bucket_overrides: Mapping[str, Sequence[float]] | None = None


@dataclass(frozen=True)
class PrometheusConfig:
    """Metrics are served to Prometheus at `http://<bind_address>/metrics`; needs the extra `perdure[prometheus]`.

    Args:
        bind_address: `host:port` to listen on.
        counters_total_suffix: Names of counters end in `_total`.
        unit_suffix: Names end in their unit.
        durations_as_seconds: Durations as fractions of seconds instead of whole milliseconds.
        histogram_bucket_overrides: Bucket boundaries by metric name.
    """

    bind_address: str
    counters_total_suffix: bool = False
    unit_suffix: bool = False
    durations_as_seconds: bool = False
    histogram_bucket_overrides: Mapping[str, Sequence[float]] | None = None


@dataclass(frozen=True)
class TelemetryConfig:
    """Logs and metrics of one runtime."""

    logging: LoggingConfig | None = LoggingConfig.default
    """What becomes of logs."""

    metrics: OpenTelemetryConfig | PrometheusConfig | MetricBuffer | None = None
    """Where metrics go; None means nowhere, at no cost."""

    global_tags: Mapping[str, str] = field(default_factory=dict)
    """Attributes of every metric."""

    attach_service_name: bool = True
    """Whether every metric has the attribute `service_name`."""

    metric_prefix: str | None = None
    """What names of the SDK's own metrics begin with; None means `temporal_`."""
