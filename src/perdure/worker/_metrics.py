"""Metrics of a worker: what ended how, how long it took, how many polls are open. Names are the official workers'."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

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


# The words of the official workers for what failed.
_ACTIVITY_ERROR = "ActivityError"
LocalEnding = Literal["succeeded", "failed", "timed out", "cancelled"]


def _since(time_ns: int) -> timedelta:
    """From a point of time of the server's until now; clocks may differ."""
    return timedelta(microseconds=max(0, (time.time_ns() - time_ns) // 1000))


class _LocalInstruments:
    """The instruments of local activities."""

    def __init__(self, meter: MetricMeter) -> None:
        self.attempts = meter.create_counter("local_activity_total", "Count of attempts of local activities")
        self.failures = meter.create_counter(
            "local_activity_execution_failed", "Count of attempts of local activities that failed"
        )
        self.cancellations = meter.create_counter(
            "local_activity_execution_cancelled", "Count of attempts of local activities that were cancelled"
        )
        self.latency = meter.create_histogram_timedelta(
            "local_activity_execution_latency", "How long attempts of local activities took", "duration"
        )
        self.endtoend_latency = meter.create_histogram_timedelta(
            "local_activity_succeed_endtoend_latency",
            "How long local activities took that succeeded, from when they were scheduled",
            "duration",
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
        self._endtoend_latency = meter.create_histogram_timedelta(
            "workflow_endtoend_latency", "How long runs took, from their start to their end", "duration"
        )
        self._replay_latency = meter.create_histogram_timedelta(
            "workflow_task_replay_latency",
            "How long it took to run code again up to its new task",
            "duration",
        )
        self._activities_received = meter.create_counter(
            "activity_task_received", "Count of attempts of activities that came"
        )
        self._activity_endtoend_latency = meter.create_histogram_timedelta(
            "activity_succeed_endtoend_latency",
            "How long activities took that succeeded, from when they were scheduled",
            "duration",
        )
        self._locals = _LocalInstruments(meter)
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
        self._forced_evictions = meter.create_counter(
            "sticky_cache_total_forced_eviction", "Count of runs that left memory to make room"
        )
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

    def workflow_task_done(
        self, workflow_type: str, seconds: float, commands: Iterable[Command], started_ns: int
    ) -> None:
        """A workflow task was worked on, and these commands are its answer.

        Args:
            workflow_type: Of the run.
            seconds: So long.
            commands: The answer.
            started_ns: When the run was started; 0 if that is not known.
        """
        attributes = {"workflow_type": workflow_type}
        self._task_latency.record(timedelta(seconds=seconds), attributes)
        for command in commands:
            ending = self._endings.get(command.command_type)
            if ending is not None:
                ending.add(1, attributes)
                if started_ns:
                    self._endtoend_latency.record(_since(started_ns), attributes)

    def workflow_task_failed(self, workflow_type: str, reason: str) -> None:
        """A workflow task could not be done."""
        self._task_failures.add(1, {"workflow_type": workflow_type, "failure_reason": reason})

    def replayed(self, workflow_type: str, seconds: float) -> None:
        """A run's code was executed again, from its history."""
        self._replay_latency.record(timedelta(seconds=seconds), {"workflow_type": workflow_type})

    def activity_received(self, activity_type: str, workflow_type: str, *, is_eager: bool) -> None:
        """An attempt of an activity came, from a poll or with the answer to a workflow task."""
        self._activities_received.add(
            1, {"activity_type": activity_type, "workflow_type": workflow_type, "eager": is_eager}
        )

    def activity_done(
        self,
        activity_type: str,
        workflow_type: str,
        seconds: float,
        scheduled_ns: int,
        *,
        failed: bool,
        succeeded: bool,
    ) -> None:
        """An attempt of an activity ended, maybe neither way: cancelled, or to be completed later."""
        attributes = {"activity_type": activity_type, "workflow_type": workflow_type}
        self._activity_latency.record(timedelta(seconds=seconds), attributes)
        if failed:
            self._activity_failures.add(1, {**attributes, "failure_reason": _ACTIVITY_ERROR})
        if succeeded:
            self._activity_endtoend_latency.record(_since(scheduled_ns), attributes)

    def local_activity_done(
        self, activity_type: str, workflow_type: str, seconds: float, scheduled_ns: int, ending: LocalEnding
    ) -> None:
        """An attempt of a local activity ended."""
        attributes = {"activity_type": activity_type, "workflow_type": workflow_type}
        self._locals.attempts.add(1, attributes)
        self._locals.latency.record(timedelta(seconds=seconds), attributes)
        if ending == "failed":
            self._locals.failures.add(1, {**attributes, "failure_reason": _ACTIVITY_ERROR})
        elif ending == "timed out":
            self._locals.failures.add(1, {**attributes, "failure_reason": "timeout"})
        elif ending == "cancelled":
            self._locals.cancellations.add(1, attributes)
        else:
            self._locals.endtoend_latency.record(_since(scheduled_ns), attributes)

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

    def cache_used(self, workflow_type: str, *, is_hit: bool) -> None:
        """A run was looked for in memory."""
        self._cache_uses[is_hit].add(1, {"workflow_type": workflow_type})

    def forced_out(self) -> None:
        """A run that is not over left memory to make room."""
        self._forced_evictions.add(1)

    def cached(self, count: int) -> None:
        """So many workflows are in memory."""
        self._cache_size.set(count)

    def polling(self, poller_type: str, count: int) -> None:
        """So many polls of one kind are open."""
        self._pollers.set(count, {"poller_type": poller_type})
