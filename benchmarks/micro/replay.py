"""How fast a saved history is replayed cold: the run alone, and with the asyncio loop that executes workflow code.

    python -m benchmarks.micro.replay [events]

The history is that of a workflow that runs activities one after the other and, every tenth time, waits for a timer.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from perdure import workflow
from perdure.api.command.v1 import ScheduleActivityTaskCommandAttributes
from perdure.api.common.v1 import Payloads
from perdure.api.history.v1 import History, HistoryEvent
from perdure.converter import DataConverter
from perdure.core.replay import activation as jobs
from perdure.core.replay import instructions as asked
from perdure.core.replay.instructions import Program
from perdure.core.replay.run import replay_history
from perdure.worker.workflow_code import WorkflowCodeSettings, WorkflowProgram
from perdure.workflow import _Definition
from tests.support.proto import enums
from tests.unit.replay.code import Code, Context

TIMER_EVERY = 10
_SECOND_NS = 1_000_000_000


@workflow.defn(name="Order", sandboxed=False)
class Order:
    """The workflow that the history below was written by, as a user writes it."""

    @workflow.run
    async def run(self, count: int) -> str:
        """Runs the activities."""
        for number in range(count):
            if number % TIMER_EVERY == TIMER_EVERY - 1:
                await asyncio.sleep(1)
            await workflow.execute_activity("work", number, start_to_close_timeout=timedelta(seconds=60))
        return "done"


async def order(context: Context) -> str:
    """The same for the tests' bare loop."""
    count = int(context.code.activation.jobs[0].attributes.input.payloads[0].data)  # type: ignore[union-attr]
    for number in range(count):
        if number % TIMER_EVERY == TIMER_EVERY - 1:
            await context.timer(1)
        await context.activity("work")
    return "done"


class _Scripted:
    """The same workflow without any loop: what remains is the run's own cost."""

    def __init__(self) -> None:
        self.count = self.number = self.timers = 0

    def activate(self, activation: jobs.Activation) -> asked.Answer:
        """Asks for the next activity or timer."""
        job = activation.jobs[0]
        if isinstance(job, jobs.InitializeWorkflow):
            self.count = int(job.attributes.input.payloads[0].data)
        was_timer = isinstance(job, jobs.FireTimer)
        if not was_timer and not isinstance(job, jobs.InitializeWorkflow):
            self.number += 1
        if self.number == self.count:
            return asked.Answer([asked.CompleteWorkflow(Payloads())])
        if self.number % TIMER_EVERY == TIMER_EVERY - 1 and not was_timer:
            self.timers += 1
            return asked.Answer([asked.StartTimer(self.timers, _SECOND_NS)])
        seq = self.number + 1
        attributes = ScheduleActivityTaskCommandAttributes(activity_id=str(seq))
        attributes.activity_type.name = "work"
        return asked.Answer([asked.ScheduleActivity(seq, attributes)])


class Writer:
    """Writes the history of such a workflow, with the attributes that make up its usual size."""

    def __init__(self) -> None:
        self.history = History()

    def add(self, name: str) -> HistoryEvent:
        """A new event."""
        number = len(self.history.events) + 1
        event = self.history.events.add(
            event_id=number, event_type=enums.EventType.Value(f"EVENT_TYPE_{name}"), task_id=number
        )
        event.event_time.FromNanoseconds(1_700_000_000 * _SECOND_NS + number * 1_000_000)
        return event

    def task(self) -> None:
        """A workflow task that is completed."""
        scheduled = self.add("WORKFLOW_TASK_SCHEDULED").event_id
        started = self.add("WORKFLOW_TASK_STARTED")
        started.workflow_task_started_event_attributes.scheduled_event_id = scheduled
        started.workflow_task_started_event_attributes.history_size_bytes = 100 * started.event_id
        completed = self.add("WORKFLOW_TASK_COMPLETED").workflow_task_completed_event_attributes
        completed.scheduled_event_id, completed.started_event_id = scheduled, started.event_id
        completed.identity = "1234@machine"
        if started.event_id == 3:
            completed.sdk_metadata.core_used_flags.extend([1, 2, 3])

    def activity(self, number: int) -> None:
        """An activity that completes."""
        scheduled = self.add("ACTIVITY_TASK_SCHEDULED")
        attributes = scheduled.activity_task_scheduled_event_attributes
        attributes.activity_id, attributes.activity_type.name = str(number), "work"
        attributes.input.payloads.add(data=b'{"order":"A-1","amount":125}').metadata["encoding"] = (
            b"json/plain"
        )
        started = self.add("ACTIVITY_TASK_STARTED")
        started.activity_task_started_event_attributes.scheduled_event_id = scheduled.event_id
        completed = self.add("ACTIVITY_TASK_COMPLETED").activity_task_completed_event_attributes
        completed.scheduled_event_id, completed.started_event_id = scheduled.event_id, started.event_id
        completed.result.payloads.add(data=b'"result"').metadata["encoding"] = b"json/plain"

    def timer(self, number: int) -> None:
        """A timer that fires."""
        started = self.add("TIMER_STARTED")
        started.timer_started_event_attributes.timer_id = str(number)
        fired = self.add("TIMER_FIRED").timer_fired_event_attributes
        fired.timer_id, fired.started_event_id = str(number), started.event_id


def write_history(activities: int) -> Sequence[HistoryEvent]:
    """The history of a workflow that ran this many activities, as it comes off the wire."""
    writer = Writer()
    started = writer.add("WORKFLOW_EXECUTION_STARTED").workflow_execution_started_event_attributes
    started.workflow_type.name, started.original_execution_run_id = "Order", "0" * 36
    started.input.payloads.add(data=str(activities).encode()).metadata["encoding"] = b"json/plain"
    started.attempt, started.task_queue.name = 1, "queue"
    writer.task()
    timers = 0
    for number in range(activities):
        if number % TIMER_EVERY == TIMER_EVERY - 1:
            timers += 1
            writer.timer(timers)
            writer.task()
        writer.activity(number + 1)
        writer.task()
    writer.add("WORKFLOW_EXECUTION_COMPLETED")
    return History.FromString(writer.history.SerializeToString()).events


def measure(
    name: str, events: Sequence[HistoryEvent], program: Callable[[], Program], rounds: int = 5
) -> float:
    """Prints and returns how many events a second are replayed, in the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        failure = replay_history(program(), events, workflow_id="bench")
        best = min(best, time.perf_counter() - start)
        if failure is not None:
            raise SystemExit(failure.message)
    rate = len(events) / best
    print(f"{name:32} {len(events):6} events  {rate:9,.0f} events/s  {1e6 / rate:5.2f} us per event")
    return rate


def main() -> None:
    """Measures a history of about as many events as the first argument says (10,000 by default)."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    events = write_history(round(wanted / 6.5))
    measure("the run alone", events, _Scripted)
    converter = DataConverter.default
    settings = WorkflowCodeSettings(
        "default",
        "queue",
        {"Order": _Definition.must_from_class(Order)},
        converter.payload_converter,
        converter.failure_converter,
    )
    measure("with the tests' loop", events, lambda: Code(order))
    definition = _Definition.must_from_class(Order)
    measure(
        "with the worker's event loop", events, lambda: WorkflowProgram(definition, "bench", "run", settings)
    )


if __name__ == "__main__":
    main()
