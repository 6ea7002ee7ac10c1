"""What client and worker cost per workflow, without a server: CPU time against a transport that only pretends.

python -m benchmarks.micro.worker_cost [--steps 1] [--rounds 40] [--profile]

One activity per step, 50 workflows in flight. Every answer is a copy of one made in advance, so nearly all of the time
is the SDK's. CPU time and not the clock, so that a busy machine shows less; still, compare alternating runs.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import itertools
import pstats
import time
from collections import defaultdict, deque
from datetime import timedelta
from typing import Any

from perdure import activity, workflow
from perdure.api.common.v1 import Payload, Payloads
from perdure.api.enums.v1 import CommandType, EventType
from perdure.api.history.v1 import History
from perdure.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryResponse,
    PollActivityTaskQueueResponse,
    PollWorkflowTaskQueueResponse,
    RespondWorkflowTaskCompletedResponse,
    StartWorkflowExecutionResponse,
)
from perdure.client import Client
from perdure.service import transport
from perdure.worker import Worker

IN_FLIGHT = 50
PER_ROUND = 200
_TEXT = Payload(metadata={"encoding": b"json/plain"}, data=b'"A-1"')
_STEP_EVENTS = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
)


@activity.defn
async def charge(order: str) -> str:
    """The step."""
    return order


@workflow.defn
class Order:
    """So many steps, one after the other."""

    steps = 1

    @workflow.run
    async def run(self, order: str) -> str:
        for _ in range(Order.steps):
            order = await workflow.execute_activity(
                charge, order, start_to_close_timeout=timedelta(seconds=60)
            )
        return order


class Pretending:
    """A transport whose workflows all go the same way; activities always come with the answer to their task."""

    def __init__(self) -> None:
        self._tasks: defaultdict[str, deque[PollWorkflowTaskQueueResponse]] = defaultdict(deque)
        self._polls: defaultdict[str, deque[asyncio.Future[Any]]] = defaultdict(deque)
        self._closed: dict[str, asyncio.Future[None]] = {}
        self._sticky = ""
        self._numbers = itertools.count()
        self._first = _first_task()
        self._steps = [_step_task(step) for step in range(Order.steps)]
        self._close = GetWorkflowExecutionHistoryResponse()
        closing = self._close.history.events.add(
            event_id=99, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
        )
        closing.workflow_execution_completed_event_attributes.result.payloads.append(_TEXT)

    async def call(
        self, service: str, rpc_path: str, request: Any, response_type: type[Any], **_: Any
    ) -> Any:
        """Answer one call."""
        handler = getattr(self, "_on_" + rpc_path.rpartition("/")[2], None)
        return response_type() if handler is None else await handler(request)

    async def close(self) -> None:
        """Nothing to close."""

    def _give(
        self, queue: str, template: PollWorkflowTaskQueueResponse, token: str, workflow_id: str
    ) -> None:
        task = PollWorkflowTaskQueueResponse()
        task.CopyFrom(template)
        task.task_token = token.encode()
        task.workflow_execution.run_id = token.partition(" ")[0]
        task.workflow_execution.workflow_id = workflow_id
        while self._polls[queue]:
            poll = self._polls[queue].popleft()
            if not poll.done():
                poll.set_result(task)
                return
        self._tasks[queue].append(task)

    async def _on_StartWorkflowExecution(self, request: Any) -> StartWorkflowExecutionResponse:  # noqa: N802
        run_id = f"run-{next(self._numbers)}"
        self._closed[run_id] = asyncio.get_running_loop().create_future()
        self._give(request.task_queue.name, self._first, f"{run_id} 0", request.workflow_id)
        return StartWorkflowExecutionResponse(run_id=run_id)

    async def _on_PollWorkflowTaskQueue(self, request: Any) -> PollWorkflowTaskQueueResponse:  # noqa: N802
        queue = request.task_queue.name
        if request.task_queue.normal_name:
            self._sticky = queue
        if self._tasks[queue]:
            return self._tasks[queue].popleft()
        poll: asyncio.Future[PollWorkflowTaskQueueResponse] = asyncio.get_running_loop().create_future()
        self._polls[queue].append(poll)
        return await poll

    async def _on_PollActivityTaskQueue(self, request: Any) -> PollActivityTaskQueueResponse:  # noqa: N802
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def _on_RespondWorkflowTaskCompleted(self, request: Any) -> RespondWorkflowTaskCompletedResponse:  # noqa: N802
        response = RespondWorkflowTaskCompletedResponse()
        token: str = request.task_token.decode()
        [command] = request.commands
        if command.command_type == CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION:
            self._closed[token.partition(" ")[0]].set_result(None)
            return response
        asked = command.schedule_activity_task_command_attributes
        task = response.activity_tasks.add(
            task_token=request.task_token, activity_id=asked.activity_id, attempt=1, input=asked.input
        )
        task.activity_type.name = asked.activity_type.name
        task.workflow_type.name = "Order"
        task.workflow_execution.run_id = task.workflow_execution.workflow_id = token
        task.start_to_close_timeout.CopyFrom(asked.start_to_close_timeout)
        return response

    async def _on_RespondActivityTaskCompleted(self, request: Any) -> Any:  # noqa: N802
        from perdure.api.workflowservice.v1 import RespondActivityTaskCompletedResponse

        run_id, _, step = request.task_token.decode().partition(" ")
        self._give(self._sticky, self._steps[int(step)], f"{run_id} {int(step) + 1}", run_id)
        return RespondActivityTaskCompletedResponse()

    async def _on_GetWorkflowExecutionHistory(self, request: Any) -> GetWorkflowExecutionHistoryResponse:  # noqa: N802
        await self._closed[request.execution.run_id]
        response = GetWorkflowExecutionHistoryResponse()
        response.CopyFrom(self._close)
        return response


def _first_task() -> PollWorkflowTaskQueueResponse:
    history = History()
    event = history.events.add(event_id=1, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    event.event_time.GetCurrentTime()
    started = event.workflow_execution_started_event_attributes
    started.workflow_type.name = "Order"
    started.task_queue.name = "queue"
    started.input.payloads.append(_TEXT)
    started.original_execution_run_id = started.first_execution_run_id = "run"
    started.workflow_task_timeout.seconds = 10
    started.attempt = 1
    scheduled = history.events.add(event_id=2, event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
    begun = history.events.add(event_id=3, event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED)
    begun.workflow_task_started_event_attributes.scheduled_event_id = 2
    for later in (scheduled, begun):
        later.event_time.CopyFrom(event.event_time)
    return _task(history, previous=0, started=3)


def _step_task(step: int) -> PollWorkflowTaskQueueResponse:
    history = History()
    first = 4 + step * len(_STEP_EVENTS)
    for number, kind in enumerate(_STEP_EVENTS, start=first):
        history.events.add(event_id=number, event_type=kind).event_time.GetCurrentTime()
    completed, scheduled, begun, done, task_scheduled, task_started = history.events
    completed.workflow_task_completed_event_attributes.scheduled_event_id = first - 2
    completed.workflow_task_completed_event_attributes.started_event_id = first - 1
    scheduled.activity_task_scheduled_event_attributes.activity_id = str(step + 1)
    scheduled.activity_task_scheduled_event_attributes.activity_type.name = "charge"
    begun.activity_task_started_event_attributes.scheduled_event_id = first + 1
    done.activity_task_completed_event_attributes.scheduled_event_id = first + 1
    done.activity_task_completed_event_attributes.result.CopyFrom(Payloads(payloads=[_TEXT]))
    task_scheduled.workflow_task_scheduled_event_attributes.attempt = 1
    task_started.workflow_task_started_event_attributes.scheduled_event_id = first + 4
    return _task(history, previous=first - 1, started=first + 5)


def _task(history: History, *, previous: int, started: int) -> PollWorkflowTaskQueueResponse:
    task = PollWorkflowTaskQueueResponse(
        previous_started_event_id=previous, started_event_id=started, attempt=1, history=history
    )
    task.workflow_type.name = "Order"
    return task


async def open_pretending(_: str) -> transport.Transport:
    """Open the transport."""
    return Pretending()


transport.SCHEMES["pretend"] = "benchmarks.micro.worker_cost:open_pretending"


async def _measure(rounds: int, profile: bool) -> None:
    client = await Client.connect("pretend://")
    async with Worker(client, task_queue="queue", workflows=[Order], activities=[charge]):
        numbers = itertools.count()

        async def in_turn() -> None:
            for _ in range(PER_ROUND // IN_FLIGHT):
                await client.execute_workflow(Order.run, "A-1", id=f"w{next(numbers)}", task_queue="queue")

        results = []
        profiler = cProfile.Profile()
        for turn in range(rounds + 1):
            if profile and turn:
                profiler.enable()
            began_s = time.process_time()
            await asyncio.gather(*(in_turn() for _ in range(IN_FLIGHT)))
            results.append((time.process_time() - began_s) / PER_ROUND * 1e6)
            profiler.disable()
        measured = sorted(results[1:])
        print(
            f"CPU per workflow of {Order.steps} step(s): best {measured[0]:.0f} us, "
            f"lower quartile {measured[len(measured) // 4]:.0f}, median {measured[len(measured) // 2]:.0f}"
        )
        if profile:
            pstats.Stats(profiler).sort_stats("tottime").print_stats(90)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    Order.steps = options.steps
    asyncio.run(_measure(options.rounds, options.profile))


if __name__ == "__main__":
    from benchmarks.micro import worker_cost

    worker_cost.main()  # of the module that the transport's address names, and not of this copy of it
