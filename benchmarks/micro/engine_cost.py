"""What the engine costs without any door: workflows of one activity driven by calling the service in this process.

The scripted worker answers like an SDK's worker that asks for everything eagerly: the start returns the first workflow
task, its completion returns the activity, and a sticky poll waits for the second workflow task. `--no-eager` polls for
each instead. The CPU is of the whole process: engine, store, and the few microseconds of the script.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import resource
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from perdure.api.command.v1 import Command
from perdure.api.common.v1 import Payload, Payloads
from perdure.api.enums.v1 import CommandType, HistoryEventFilterType, TaskQueueKind
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    PollActivityTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    RespondActivityTaskCompletedRequest,
    RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
)
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.server.service.call import Call
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore

SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
QUEUE = "engine-cost"
CALL = Call(deadline_s=60)


def payloads(text: str) -> Payloads:
    """One JSON payload."""
    return Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=text.encode())])


class Load:
    """A closed loop of workflows against a server in this process."""

    def __init__(self, server: Server, eager: bool) -> None:
        self.service = server.service
        self.eager = eager
        self.sticky = f"sticky-{uuid.uuid4()}"
        self.done = 0
        self.latencies_ms: list[float] = []
        self.stopping = False

    async def call(self, name: str, request: Any) -> Any:
        """One RPC."""
        return await self.service.call(SERVICE + name, request, CALL)

    async def workflow(self) -> None:
        """Starts one workflow and waits for its result."""
        workflow_id = str(uuid.uuid4())
        start = StartWorkflowExecutionRequest(
            namespace="default",
            workflow_id=workflow_id,
            task_queue=TaskQueue(name=QUEUE),
            input=payloads('{"order":"A-1"}'),
            identity="bench",
            request_id=str(uuid.uuid4()),
            request_eager_execution=self.eager,
        )
        start.workflow_type.name = "Order"
        began = time.perf_counter()
        started = await self.call("StartWorkflowExecution", start)
        if self.eager:
            await self.decide(started.eager_workflow_task)
        await self.call(
            "GetWorkflowExecutionHistory",
            GetWorkflowExecutionHistoryRequest(
                namespace="default",
                execution={"workflow_id": workflow_id, "run_id": started.run_id},  # type: ignore[arg-type]
                wait_new_event=True,
                history_event_filter_type=HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
            ),
        )
        self.latencies_ms.append((time.perf_counter() - began) * 1000)
        self.done += 1

    async def decide(self, task: Any) -> None:
        """Answers a workflow task: schedules the activity at the first, completes at the second."""
        done = RespondWorkflowTaskCompletedRequest(
            namespace="default", task_token=task.task_token, identity="bench"
        )
        done.sticky_attributes.worker_task_queue.name = self.sticky
        done.sticky_attributes.worker_task_queue.kind = TaskQueueKind.TASK_QUEUE_KIND_STICKY
        done.sticky_attributes.worker_task_queue.normal_name = QUEUE
        done.sticky_attributes.schedule_to_start_timeout.seconds = 10
        command = Command()
        if not task.previous_started_event_id:
            command.command_type = CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK
            attributes = command.schedule_activity_task_command_attributes
            attributes.activity_id, attributes.activity_type.name = "1", "charge"
            attributes.task_queue.name = QUEUE
            attributes.input.CopyFrom(payloads('{"order":"A-1","amount":125}'))
            attributes.start_to_close_timeout.seconds = 60
            attributes.request_eager_execution = self.eager
        else:
            command.command_type = CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION
            command.complete_workflow_execution_command_attributes.result.CopyFrom(payloads('"done"'))
        done.commands.append(command)
        answer = await self.call("RespondWorkflowTaskCompleted", done)
        for activity in answer.activity_tasks:
            await self.act(activity)

    async def act(self, task: Any) -> None:
        """Completes an activity."""
        await self.call(
            "RespondActivityTaskCompleted",
            RespondActivityTaskCompletedRequest(
                namespace="default",
                task_token=task.task_token,
                identity="bench",
                result=payloads('"charged"'),
            ),
        )

    async def poll_workflow(self, queue: TaskQueue) -> None:
        """One poller of workflow tasks."""
        while not self.stopping:
            request = PollWorkflowTaskQueueRequest(namespace="default", task_queue=queue, identity="bench")
            task = await self.call("PollWorkflowTaskQueue", request)
            if task.task_token:
                await self.decide(task)

    async def poll_activity(self) -> None:
        """One poller of activity tasks."""
        while not self.stopping:
            request = PollActivityTaskQueueRequest(
                namespace="default", task_queue=TaskQueue(name=QUEUE), identity="bench"
            )
            task = await self.call("PollActivityTaskQueue", request)
            if task.task_token:
                await self.act(task)

    async def client(self, until: float) -> None:
        """One client: a workflow after the other."""
        while time.perf_counter() < until:
            await self.workflow()


async def measure(store: Store, options: argparse.Namespace) -> None:
    """Runs the load and prints what it cost."""
    server = Server(store, ServerConfig(port=0), SystemRuntime(), "sqlite")
    await server.start()
    load = Load(server, options.eager)
    sticky = TaskQueue(name=load.sticky, kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=QUEUE)
    pollers = [load.poll_workflow(sticky) for _ in range(options.pollers)]
    if not options.eager:
        pollers += [load.poll_workflow(TaskQueue(name=QUEUE)) for _ in range(options.pollers)]
        pollers += [load.poll_activity() for _ in range(options.pollers)]
    polling = [asyncio.create_task(poller) for poller in pollers]
    await asyncio.gather(*(load.client(time.perf_counter() + 1) for _ in range(options.concurrency)))
    load.done, load.latencies_ms = 0, []
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    cpu_before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    await asyncio.gather(
        *(load.client(time.perf_counter() + options.seconds) for _ in range(options.concurrency))
    )
    elapsed = time.perf_counter() - began
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    if options.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    used_ms = (cpu.ru_utime + cpu.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime) * 1000
    latencies = sorted(load.latencies_ms)
    print(
        f"{load.done / elapsed:.0f} workflows/s, {used_ms / load.done:.2f} ms CPU per workflow, "
        f"p50 {latencies[len(latencies) // 2]:.1f} ms"
    )
    load.stopping = True
    for task in polling:
        task.cancel()
    await asyncio.gather(*polling, return_exceptions=True)
    await server.stop(0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--pollers", type=int, default=50)
    parser.add_argument("--memory", action="store_true", help="a store in memory")
    parser.add_argument("--no-eager", dest="eager", action="store_false")
    parser.add_argument("--profile", action="store_true", help="cProfile the window (it slows everything)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store: Store = MemoryStore() if options.memory else SqliteStore(Path(folder) / "bench.db")
        asyncio.run(measure(store, options))


if __name__ == "__main__":
    main()
