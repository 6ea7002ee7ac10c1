"""Metrics of a worker: what ended how, how long it took, how many polls are open. Names are the official workers'."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from perdure.api.command.v1 import Command
from perdure.api.enums.v1 import CommandType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.common import MetricMeter
    from perdure.worker._slots import SlotKind, SlotTally

_ENDINGS = {
    CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION: "workflow_completed",
    CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION: "workflow_failed",
    CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION: "workflow_canceled",
    CommandType.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION: "workflow_continue_as_new",
}


_WORKER_TYPES: Mapping[SlotKind, str] = {
    "workflow": "WorkflowWorker",
    "activity": "ActivityWorker",
    "local-activity": "LocalActivityWorker",
    "nexus": "NexusWorker",
}
# What is polled, whether a task came; the official workers count the ones for workflows both ways.
_POLL_COUNTERS = (
    (("workflow_task", True), "workflow_task_queue_poll_succeed", "with"),
    (("workflow_task", False), "workflow_task_queue_poll_empty", "without"),
    (("activity_task", False), "activity_poll_no_task", "without"),
    (("nexus_task", False), "nexus_poll_no_task", "without"),
)
_WAITS = (
    ("workflow_task", "workflow_task_schedule_to_start_latency", "workflow tasks"),
    ("activity_task", "activity_schedule_to_start_latency", "activities"),
    ("nexus_task", "nexus_task_schedule_to_start_latency", "Nexus tasks"),
)


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
        self._cache_uses = {
            True: meter.create_counter("sticky_cache_hit", "Count of tasks that found their run in memory"),
            False: meter.create_counter(
                "sticky_cache_miss", "Count of tasks that had to load their run again"
            ),
        }
        self._nexus_failures = meter.create_counter(
            "nexus_task_execution_failed", "Count of Nexus tasks that failed"
        )
        self._nexus_latency = meter.create_histogram_timedelta(
            "nexus_task_execution_latency", "How long Nexus tasks took in this worker", "duration"
        )
        self._pollers = meter.create_gauge("num_pollers", "How many polls are open")
        self._slots_used = meter.create_gauge("worker_task_slots_used", "How many slots have a task")
        self._slots_available = meter.create_gauge(
            "worker_task_slots_available", "How many slots have none; not known of every supplier"
        )
        self._starts = meter.create_counter("worker_start", "Count of workers that began to poll")
        self._polls = {
            names: meter.create_counter(counter, f"Count of polls that came back {text} a task")
            for names, counter, text in _POLL_COUNTERS
        }
        self._waits = {
            poller_type: meter.create_histogram_timedelta(name, f"How long {what} waited", "duration")
            for poller_type, name, what in _WAITS
        }

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

    def nexus_task_done(self, service: str, operation: str, seconds: float, *, failed: bool) -> None:
        """A Nexus task ended."""
        attributes = {"nexus_service": service, "nexus_operation": operation}
        self._nexus_latency.record(timedelta(seconds=seconds), attributes)
        if failed:
            self._nexus_failures.add(1, attributes)

    def started(self) -> None:
        """The worker has begun to poll."""
        self._starts.add(1)

    def polled(self, poller_type: str, waited_s: float | None) -> None:
        """A poll came back.

        Args:
            poller_type: Of what.
            waited_s: So long the task waited for it; None if there was none.
        """
        kind = poller_type.removeprefix("sticky_")
        counter = self._polls.get((kind, waited_s is not None))
        if counter is not None:
            counter.add(1)
        if waited_s is not None and kind in self._waits:
            self._waits[kind].record(timedelta(seconds=max(0.0, waited_s)))

    def slots_changed(self, kind: SlotKind, tally: SlotTally) -> None:
        """A slot was taken or given back."""
        attributes = {"worker_type": _WORKER_TYPES[kind]}
        self._slots_used.set(tally.used, attributes)
        if tally.available is not None:
            self._slots_available.set(tally.available, attributes)

    def cache_used(self, *, is_hit: bool) -> None:
        """A run was looked for in memory."""
        self._cache_uses[is_hit].add(1)

    def cached(self, count: int) -> None:
        """So many workflows are in memory."""
        self._cache_size.set(count)

    def polling(self, poller_type: str, count: int) -> None:
        """So many polls of one kind are open."""
        self._pollers.set(count, {"poller_type": poller_type})
