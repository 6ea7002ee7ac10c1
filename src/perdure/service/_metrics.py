"""Metrics of calls: how many, how many failed, how long they took.

May live here: the names and attributes of those metrics. May not: where metrics go (`perdure.runtime`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from perdure.service._errors import RPCError
from perdure.service._methods import Method

if TYPE_CHECKING:
    from perdure.common import MetricMeter

T = TypeVar("T")


class _Instruments:
    """The three metrics of calls that are, or are not, long polls."""

    def __init__(self, meter: MetricMeter, prefix: str, kind: str) -> None:
        self.requests = meter.create_counter(f"{prefix}request", f"Count of {kind}")
        self.failures = meter.create_counter(f"{prefix}request_failure", f"Count of {kind} that failed")
        self.latency = meter.create_histogram_timedelta(
            f"{prefix}request_latency", f"How long {kind} took", "duration"
        )


class CallMetrics:
    """Records every try of every call.

    Args:
        meter: The SDK's own meter.
    """

    def __init__(self, meter: MetricMeter) -> None:
        self._short = _Instruments(meter, "", "calls")
        self._long = _Instruments(meter, "long_", "long polls")

    async def measured(self, method: Method, request: Message, long_poll: bool, answer: Awaitable[T]) -> T:
        """Await an answer and record how it went.

        Args:
            method: What was called.
            request: With what.
            long_poll: Whether the server may wait before it answers.
            answer: The call itself.
        """
        instruments = self._long if long_poll else self._short
        attributes = {"operation": method.name}
        namespace = getattr(request, "namespace", None)
        if isinstance(namespace, str) and namespace:
            attributes["namespace"] = namespace
        task_queue = getattr(getattr(request, "task_queue", None), "name", None)
        if task_queue:
            attributes["task_queue"] = task_queue
        instruments.requests.add(1, attributes)
        started_s = time.monotonic()
        try:
            return await answer
        except RPCError as error:
            instruments.failures.add(1, {**attributes, "status_code": error.status.name})
            raise
        finally:
            instruments.latency.record(timedelta(seconds=time.monotonic() - started_s), attributes)
