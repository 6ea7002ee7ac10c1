"""Metrics of a worker: what ended how, how long it took, how many polls are open. Names are the official workers'."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from perdure.api.command.v1 import Command
from perdure.api.enums.v1 import CommandType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.common import MetricMeter

_ENDINGS = {
    CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION: "workflow_completed",
    CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION: "workflow_failed",
    CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION: "workflow_canceled",
    CommandType.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION: "workflow_continue_as_new",
}


class WorkerMetrics:
    """Records what one worker does.

    Args:
        meter: The SDK's own meter.
        namespace: Of the worker.
        task_queue: Of the worker.
    """

    def __init__(self, meter: MetricMeter, namespace: str, task_queue: str) -> None:
        meter = meter.with_additional_attributes({"namespace": namespace, "task_queue": task_queue})
        self._endings = {
            command_type: meter.create_counter(name, f"Count of workflows: {name}")
            for command_type, name in _ENDINGS.items()
        }
        self._task_failures = meter.create_counter(
            "workflow_task_execution_failed", "Count of workflow tasks that failed"
        )
        self._task_latency = meter.create_histogram_timedelta(
            "workflow_task_execution_latency", "How long workflow tasks took in this worker", "duration"
        )
        self._activity_failures = meter.create_counter(
            "activity_execution_failed", "Count of attempts of activities that failed"
        )
        self._activity_latency = meter.create_histogram_timedelta(
            "activity_execution_latency", "How long attempts of activities took", "duration"
        )
        self._cache_size = meter.create_gauge("sticky_cache_size", "How many workflows are in memory")
        self._pollers = meter.create_gauge("num_pollers", "How many polls are open")

    def workflow_task_done(self, workflow_type: str, seconds: float, commands: Iterable[Command]) -> None:
        """A workflow task was worked on, and these commands are its answer."""
        attributes = {"workflow_type": workflow_type}
        self._task_latency.record(timedelta(seconds=seconds), attributes)
        for command in commands:
            ending = self._endings.get(command.command_type)
            if ending is not None:
                ending.add(1, attributes)

    def workflow_task_failed(self, workflow_type: str) -> None:
        """A workflow task could not be done."""
        self._task_failures.add(1, {"workflow_type": workflow_type})

    def activity_done(self, activity_type: str, workflow_type: str, seconds: float, *, failed: bool) -> None:
        """An attempt of an activity ended."""
        attributes = {"activity_type": activity_type, "workflow_type": workflow_type}
        self._activity_latency.record(timedelta(seconds=seconds), attributes)
        if failed:
            self._activity_failures.add(1, attributes)

    def cached(self, count: int) -> None:
        """So many workflows are in memory."""
        self._cache_size.set(count)

    def polling(self, poller_type: str, count: int) -> None:
        """So many polls of one kind are open."""
        self._pollers.set(count, {"poller_type": poller_type})
