"""The runtime: where logs and metrics of clients and workers go.

May live here: the default runtime and what a runtime offers to clients and workers. May not: exporters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from perdure.runtime._buffer import MetricBuffer
from perdure.runtime._config import LogEntry, TelemetryConfig

if TYPE_CHECKING:
    from perdure.common import MetricMeter
    from perdure.service._metrics import CallMetrics


# Servers forget workers that say nothing for some minutes.
_SHORTEST: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(seconds=60)


class _RuntimeRef:
    """Holds the default runtime."""

    def __init__(self) -> None:
        self._default_runtime: Runtime | None = None
        self._prevent_default = False

    def default(self) -> Runtime:
        if self._default_runtime is None:
            if self._prevent_default:
                raise RuntimeError(
                    "Cannot create default Runtime after Runtime.prevent_default has been called: "
                    "set one with Runtime.set_default, or give every client its own"
                )
            self._default_runtime = Runtime(telemetry=TelemetryConfig())
        return self._default_runtime

    def prevent_default(self) -> None:
        if self._default_runtime is not None:
            raise RuntimeError("Runtime.prevent_default called after default runtime has been created or set")
        self._prevent_default = True

    def set_default(self, runtime: Runtime, *, error_if_already_set: bool = True) -> None:
        if self._default_runtime is not None and error_if_already_set:
            raise RuntimeError("Runtime default already set")
        self._default_runtime = runtime


_runtime_ref = _RuntimeRef()


class Runtime:
    """Where logs and metrics of clients and workers go. Most applications need only the default one.

    Args:
        telemetry: Logs and metrics.
        worker_heartbeat_interval: Time between heartbeats of workers, 1 to 60 seconds; None turns them off.
        disable_environment_info: Keep the environment (runtime, platform) out of those heartbeats.

    Raises:
        ValueError: The interval is shorter than 1 second or longer than 60.
        RuntimeError: What the metrics need is not installed, or its address is in use.
    """

    @classmethod
    def default(cls) -> Runtime:
        """Return the default runtime; the first call makes it.

        Raises:
            RuntimeError: There is none, and `prevent_default` forbids making it.
        """
        return _runtime_ref.default()

    @classmethod
    def prevent_default(cls) -> None:
        """Make `default` an error until `set_default` has been called.

        Raises:
            RuntimeError: There is a default runtime already.
        """
        _runtime_ref.prevent_default()

    @staticmethod
    def set_default(runtime: Runtime, *, error_if_already_set: bool = True) -> None:
        """Make `runtime` the default one. Clients and workers keep the runtime they were made with.

        Raises:
            RuntimeError: There is a default already and `error_if_already_set` is true.
        """
        _runtime_ref.set_default(runtime, error_if_already_set=error_if_already_set)

    def __init__(
        self,
        *,
        telemetry: TelemetryConfig,
        worker_heartbeat_interval: timedelta | None = timedelta(seconds=60),
        disable_environment_info: bool = False,
    ) -> None:
        if worker_heartbeat_interval is not None and worker_heartbeat_interval <= timedelta(0):
            raise ValueError("worker_heartbeat_interval must be positive")
        if worker_heartbeat_interval is not None and not _SHORTEST <= worker_heartbeat_interval <= _LONGEST:
            raise ValueError("worker_heartbeat_interval must be between 1 and 60 seconds")
        self._telemetry = telemetry
        self._worker_heartbeat_interval = worker_heartbeat_interval
        self._disable_environment_info = disable_environment_info
        self._meter: MetricMeter | None = None
        self._sdk_meter: MetricMeter | None = None
        if telemetry.metrics is not None:
            from perdure.runtime._meter import make_meters

            self._meter, self._sdk_meter = make_meters(telemetry)
            if isinstance(telemetry.metrics, MetricBuffer):
                telemetry.metrics._in_use = True

    @property
    def metric_meter(self) -> MetricMeter:
        """The meter for the application's own metrics; it does nothing if no metrics are configured."""
        if self._meter is None:
            from perdure.common import MetricMeter

            return MetricMeter.noop
        return self._meter

    @property
    def _internal_meter(self) -> MetricMeter | None:
        """The meter for the SDK's own metrics, whose names get the prefix; None if there are no metrics."""
        return self._sdk_meter

    def _call_metrics(self) -> CallMetrics | None:
        """What records calls of services; None if there are no metrics."""
        if self._sdk_meter is None:
            return None
        from perdure.service._metrics import CallMetrics

        return CallMetrics(self._sdk_meter)

    def _log(self, level: int, target: str, message: str, fields: Mapping[str, object]) -> bool:
        """Filter and forward an entry of the SDK's inner log.

        Returns:
            Whether that is all: a `LogForwardingConfig` has taken it, or the filter drops it. If not, the caller
            logs it as usual.
        """
        config = self._telemetry.logging
        if config is None:
            return False
        if level < config._core_level():
            return True
        if config.forwarding is None:
            return False
        config.forwarding._on_logs([LogEntry(target, message, time.time(), level, fields)])
        return True


def log(runtime: Runtime | None, level: int, target: str, message: str, fields: Mapping[str, object]) -> None:
    """Write to the SDK's inner log: to the runtime's forwarding if it has one, else to Python's logging."""
    if runtime is None or not runtime._log(level, target, message, fields):
        logging.getLogger(target).log(level, "%s %s", message, dict(fields))
