"""What a scenario talks through: a raw client, unique names, shortcuts for one run, and the recorder.

A scenario sends, waits and records; it does not judge. Comparing is done afterwards, on what was recorded.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from google.protobuf.message import Message

from tests.differential.compare import Record
from tests.differential.normalise import Normaliser
from tests.support.builders import queue, sticky, sticky_queue
from tests.support.proto import command, common, enums, failure, history, workflowservice
from tests.support.rpc import RawClient, RpcError

POLL_TIMEOUT_S = 20.0
IDLE_POLL_S = 5.0
"""Of a poll for which nothing should come. Servers refuse one that has less than two seconds left when they look at it,
and answer empty a second before its end: that leaves a busy machine three seconds before, and one after."""
CONDITION_TIMEOUT_S = 20.0
CONDITION_POLL_S = 0.05
LATE_S = 15.0
"""Until when something that takes a second or two may come on a busy machine; how long it takes, the messages say."""

ResultT = TypeVar("ResultT")
WorkflowTask = workflowservice.PollWorkflowTaskQueueResponse
ActivityTask = workflowservice.PollActivityTaskQueueResponse


class ScenarioError(Exception):
    """A scenario could not go on: a task it needs did not come, a condition did not become true."""


@dataclass
class Clock:
    """Measures how long a part of a scenario took."""

    started_s: float

    def elapsed_s(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self.started_s


class Context:
    """One scenario running against one server."""

    def __init__(self, name: str, client: RawClient) -> None:
        self.name = name
        self.client = client
        self.token = uuid.uuid4().hex[:8]
        self.records: list[Record] = []
        self._normaliser = Normaliser(self.token)

    def id(self, label: str) -> str:
        """A name (workflow id, queue, …) that is unique to this run and compares equal across runs."""
        return f"{self.name}-{label}-{self.token}"

    def record(self, label: str, value: Any, *, drop: Sequence[str] = ()) -> None:
        """Keep a message, an error or plain data for the comparison.

        Args:
            label: unique within the scenario.
            value: a message, an RpcError, or plain data.
            drop: dotted paths inside the recorded data to leave out (they differ by nature).
        """
        if any(record.label == label for record in self.records):
            raise ScenarioError(f"label {label!r} used twice")
        data = self._normaliser.data(value)
        for path in drop:
            _drop(data, path.split("."))
        self.records.append(Record(label, data))

    async def attempt(
        self, label: str, call: Message | Awaitable[Any], *, drop: Sequence[str] = (), timeout_s: float = 30
    ) -> Any:
        """Run a call (or send a request) and record its answer or its error, whichever comes.

        Returns:
            The response, or None after an error.
        """
        awaitable = self.client.invoke(call, timeout_s=timeout_s) if isinstance(call, Message) else call
        try:
            response = await awaitable
        except RpcError as error:
            self.record(label, error, drop=drop)
            return None
        self.record(label, response, drop=drop)
        return response

    async def start(self, label: str = "wf", *, task_queue: str = "", **fields: Any) -> Run:
        """Start a workflow run with its own task queue and return a handle on it."""
        task_queue = task_queue or self.id(f"{label}-queue")
        response = await self.client.start(self.id(label), task_queue, **fields)
        return Run(self, self.id(label), response.run_id, task_queue)

    async def side_by_side(
        self, labels: Iterable[str], body: Callable[[Context, str], Awaitable[None]]
    ) -> None:
        """Run one body for each label at once, each with names and numbered ids of its own.

        What they recorded stands in the order of the labels; each record's label begins with its own.
        """
        parts = {label: Context(f"{self.name}-{_word(label)}", self.client) for label in labels}
        try:
            await asyncio.gather(*(body(part, label) for label, part in parts.items()))
        finally:
            for label, part in parts.items():
                self.records += [Record(f"{label}: {record.label}", record.data) for record in part.records]

    async def pause(self, seconds: float) -> None:
        """Let real time pass, for what cannot be observed from outside: a timer that fires into a buffer."""
        await asyncio.sleep(seconds)

    async def until(
        self,
        what: str,
        fetch: Callable[[], Awaitable[ResultT]],
        holds: Callable[[ResultT], bool],
        *,
        timeout_s: float = CONDITION_TIMEOUT_S,
    ) -> ResultT:
        """Fetch again and again until the condition holds, and return what satisfied it.

        Raises:
            ScenarioError: it did not hold within the time.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            result = await fetch()
            if holds(result):
                return result
            if time.monotonic() > deadline_s:
                raise ScenarioError(f"{what}: not within {timeout_s} s")
            await asyncio.sleep(CONDITION_POLL_S)

    def clock(self) -> Clock:
        """Start measuring time."""
        return Clock(time.monotonic())

    def record_about(self, label: str, clock: Clock, low_s: float, high_s: float) -> None:
        """Record whether the time since the clock started lies between two bounds, in seconds."""
        elapsed_s = clock.elapsed_s()
        inside = low_s <= elapsed_s <= high_s
        self.record(label, f"within {low_s}..{high_s} s" if inside else f"{elapsed_s:.2f} s")

    async def poll_activity(
        self, task_queue: str, *, timeout_s: float = POLL_TIMEOUT_S, expect: bool = True
    ) -> ActivityTask:
        """Poll for an activity task; with `expect`, an empty answer ends the scenario."""
        task = await self.client.poll_activity_task(task_queue, timeout_s=timeout_s)
        if expect and not task.task_token:
            raise ScenarioError(f"no activity task on {task_queue} within {timeout_s} s")
        return task


class Run:
    """Handle on one workflow run of a scenario, playing its worker by hand."""

    def __init__(self, context: Context, workflow_id: str, run_id: str, task_queue: str) -> None:
        self.context = context
        self.client = context.client
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.task_queue = task_queue

    @property
    def execution(self) -> common.WorkflowExecution:
        """Workflow id and run id as a message."""
        return common.WorkflowExecution(workflow_id=self.workflow_id, run_id=self.run_id)

    async def poll(
        self, *, timeout_s: float = POLL_TIMEOUT_S, sticky_name: str = "", expect: bool = True
    ) -> WorkflowTask:
        """Poll for the run's next workflow task, on its queue or on a sticky one."""
        polled = sticky_queue(sticky_name, self.task_queue) if sticky_name else queue(self.task_queue)
        task = await self.client.poll_workflow_task(polled, timeout_s=timeout_s)
        if expect and not task.task_token:
            raise ScenarioError(f"no workflow task on {polled.name} within {timeout_s} s")
        return task

    async def poll_in_background(self, *, sticky_name: str = "") -> asyncio.Task[WorkflowTask]:
        """Start a poll and return once the server knows the poller, so that what follows finds it waiting."""
        name = sticky_name or self.task_queue
        poll = asyncio.create_task(self.poll(sticky_name=sticky_name))
        request = workflowservice.DescribeTaskQueueRequest(
            namespace=self.client.namespace,
            task_queue=sticky_queue(name, self.task_queue) if sticky_name else queue(name),
            task_queue_type=enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        response_type = workflowservice.DescribeTaskQueueResponse
        await self.context.until(
            f"poller on {name}",
            lambda: self.client.call(request, response_type),
            lambda described: len(described.pollers) > 0,
        )
        return poll

    async def complete(
        self, task: WorkflowTask, *commands: command.Command, **fields: Any
    ) -> workflowservice.RespondWorkflowTaskCompletedResponse:
        """Complete a workflow task with commands."""
        return await self.client.complete_workflow_task(task.task_token, commands, **fields)

    async def step(self, *commands: command.Command, **fields: Any) -> WorkflowTask:
        """Poll and complete with commands; returns the task that was completed."""
        task = await self.poll()
        await self.complete(task, *commands, **fields)
        return task

    async def fail_task(
        self,
        task: WorkflowTask,
        cause: enums.WorkflowTaskFailedCause.ValueType = (
            enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
        ),
        failed: failure.Failure | None = None,
    ) -> None:
        """Fail a workflow task the way a worker with a bug does."""
        await self.client.fail_workflow_task(
            task.task_token, cause, failed or failure.Failure(message="bug", source="test")
        )

    async def signal(self, name: str = "go", **fields: Any) -> None:
        """Send a signal to this run."""
        await self.client.signal(self.workflow_id, name, **fields)

    async def poll_activity(self, *, timeout_s: float = POLL_TIMEOUT_S, expect: bool = True) -> ActivityTask:
        """Poll the run's queue for an activity task."""
        return await self.context.poll_activity(self.task_queue, timeout_s=timeout_s, expect=expect)

    async def events(self) -> list[history.HistoryEvent]:
        """All events of this run."""
        return await self.client.history(self.workflow_id, run_id=self.run_id)

    async def record_history(
        self, label: str = "history", *, drop: Sequence[str] = ()
    ) -> list[history.HistoryEvent]:
        """Record every event of the run (without `drop`ped paths), and whether their times and ids are in order."""
        events = await self.events()
        self.context.record(label, list(events), drop=drop)
        times = [event.event_time.ToNanoseconds() for event in events]
        self.context.record(
            f"{label} in order",
            {
                "ids": [event.event_id for event in events] == list(range(1, len(events) + 1)),
                "times": times == sorted(times),
                "task ids": all(a.task_id < b.task_id for a, b in pairwise(events)),
            },
        )
        return events

    async def describe(self) -> workflowservice.DescribeWorkflowExecutionResponse:
        """Describe this run; pending activities by id, as the official server keeps them in no order."""
        described = await self.client.describe(self.workflow_id, run_id=self.run_id)
        described.pending_activities.sort(key=lambda pending: pending.activity_id)
        return described

    async def until_described(
        self, what: str, holds: Callable[[workflowservice.DescribeWorkflowExecutionResponse], bool]
    ) -> workflowservice.DescribeWorkflowExecutionResponse:
        """Describe until a condition holds."""
        return await self.context.until(what, self.describe, holds)

    async def until_event(self, *types: enums.EventType.ValueType) -> None:
        """Wait until the history ends with an event of one of these types."""
        await self.context.until(
            f"last event one of {types}", self.events, lambda events: events[-1].event_type in types
        )

    async def until_closed(self) -> None:
        """Wait until the run is closed."""
        running = enums.WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
        await self.until_described(
            "closed", lambda described: described.workflow_execution_info.status != running
        )

    def sticky(self, name: str, schedule_to_start_s: float = 10) -> Any:
        """Sticky attributes that send this run's next tasks to the named queue."""
        return sticky(name, self.task_queue, schedule_to_start_s)


def _word(label: str) -> str:
    """A label as a part of a name."""
    return label.replace(" ", "-")


def _drop(data: Any, path: Sequence[str]) -> None:
    head, *rest = path
    if isinstance(data, list):
        for item in data:
            _drop(item, path)
    elif isinstance(data, dict) and head in data:
        if rest:
            _drop(data[head], rest)
        else:
            del data[head]
