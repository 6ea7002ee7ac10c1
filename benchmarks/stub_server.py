"""A server that only pretends: the benchmark's six methods from memory, and a history that is always the same.

It answers as fast as a Python process can, over the same bare frames as the raw client, so that the
generator's own ceiling is known (`--targets stub`). It understands only that client: every header block is
constant there.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import struct
from collections import defaultdict, deque
from collections.abc import Callable

from temporalio.api.history.v1 import History
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    RespondActivityTaskCompletedRequest,
    RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
)

from benchmarks import wire
from benchmarks.raw_load import EXPECTED_EVENTS

Reply = Callable[[bytes], None]
TRAILERS = wire.literal(b"grpc-status", b"0")
RESPONSE_HEADERS = wire.literal(b":status", b"200") + wire.literal(b"content-type", b"application/grpc")


def fixed_history() -> tuple[bytes, bytes]:
    """The serialised answers to a whole-history request and to a close-event request."""
    whole = History()
    for number, kind in enumerate(EXPECTED_EVENTS, start=1):
        whole.events.add(event_id=number, event_type=kind)
    closing = History(events=whole.events[-1:])
    return (
        GetWorkflowExecutionHistoryResponse(history=whole).SerializeToString(),
        GetWorkflowExecutionHistoryResponse(history=closing).SerializeToString(),
    )


class TaskQueues:
    """Hands tasks to waiting polls, by queue name."""

    def __init__(self) -> None:
        self.tasks: dict[str, deque[bytes]] = defaultdict(deque)
        self.polls: dict[str, deque[Reply]] = defaultdict(deque)

    def add(self, queue: str, task: bytes) -> None:
        """Give the task to a poll or keep it."""
        if self.polls[queue]:
            self.polls[queue].popleft()(task)
        else:
            self.tasks[queue].append(task)

    def poll(self, queue: str, reply: Reply) -> None:
        """Answer with a task now or later."""
        if self.tasks[queue]:
            reply(self.tasks[queue].popleft())
        else:
            self.polls[queue].append(reply)


class StubService:
    """The six methods; a run is its id, a task token is the run's id."""

    def __init__(self) -> None:
        self.ids = itertools.count(1)
        self.workflow_tasks = TaskQueues()
        self.activity_tasks = TaskQueues()
        self.queue_of: dict[str, str] = {}
        self.waiting: dict[str, Reply] = {}
        self.whole, self.closing = fixed_history()
        self.methods: dict[str, Callable[[bytes, Reply], None]] = {
            "StartWorkflowExecution": self.start,
            "GetWorkflowExecutionHistory": self.history,
            "PollWorkflowTaskQueue": self.poll_workflow,
            "PollActivityTaskQueue": self.poll_activity,
            "RespondWorkflowTaskCompleted": self.complete_workflow_task,
            "RespondActivityTaskCompleted": self.complete_activity,
        }

    def start(self, body: bytes, reply: Reply) -> None:
        """New run, first workflow task."""
        request, run = StartWorkflowExecutionRequest.FromString(body), f"run-{next(self.ids):09d}"
        self.queue_of[run] = request.task_queue.name
        reply(StartWorkflowExecutionResponse(run_id=run).SerializeToString())
        task = PollWorkflowTaskQueueResponse(task_token=run.encode(), started_event_id=3)
        self.workflow_tasks.add(request.task_queue.name, task.SerializeToString())

    def history(self, body: bytes, reply: Reply) -> None:
        """Wait for the run's end, or show the fixed history."""
        request = GetWorkflowExecutionHistoryRequest.FromString(body)
        if not request.wait_new_event:
            reply(self.whole)
        elif request.execution.run_id in self.queue_of:
            self.waiting[request.execution.run_id] = reply
        else:
            reply(self.closing)

    def poll_workflow(self, body: bytes, reply: Reply) -> None:
        """Wait for a workflow task."""
        self.workflow_tasks.poll(PollWorkflowTaskQueueRequest.FromString(body).task_queue.name, reply)

    def poll_activity(self, body: bytes, reply: Reply) -> None:
        """Wait for an activity task."""
        self.activity_tasks.poll(PollActivityTaskQueueRequest.FromString(body).task_queue.name, reply)

    def complete_workflow_task(self, body: bytes, reply: Reply) -> None:
        """Schedule the activity or end the run."""
        request = RespondWorkflowTaskCompletedRequest.FromString(body)
        run = request.task_token.decode()
        reply(b"")
        command = request.commands[0]
        if command.HasField("schedule_activity_task_command_attributes"):
            queue = command.schedule_activity_task_command_attributes.task_queue.name
            self.queue_of[run] = request.sticky_attributes.worker_task_queue.name or queue
            task = PollActivityTaskQueueResponse(task_token=request.task_token, activity_id="1")
            self.activity_tasks.add(queue, task.SerializeToString())
        else:
            del self.queue_of[run]
            waiting = self.waiting.pop(run, None)
            if waiting is not None:
                waiting(self.closing)

    def complete_activity(self, body: bytes, reply: Reply) -> None:
        """The second workflow task."""
        request = RespondActivityTaskCompletedRequest.FromString(body)
        reply(b"")
        task = PollWorkflowTaskQueueResponse(
            task_token=request.task_token, previous_started_event_id=3, started_event_id=9
        )
        self.workflow_tasks.add(self.queue_of[request.task_token.decode()], task.SerializeToString())


class StubConnection(wire.FrameProtocol):
    """One connection of the stub."""

    def __init__(self, service: StubService) -> None:
        super().__init__()
        self.service = service
        self.handlers: dict[bytes, Callable[[bytes, Reply], None]] = {}
        self.handler_of: dict[int, Callable[[bytes, Reply], None]] = {}
        self.buffer_skip = len(wire.PREFACE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our settings."""
        super().connection_made(transport)
        self.send(wire.opening_frames())

    def data_received(self, data: bytes) -> None:
        """Drop the client preface, then frames."""
        if self.buffer_skip:
            dropped = min(self.buffer_skip, len(data))
            self.buffer_skip -= dropped
            data = data[dropped:]
        super().data_received(data)

    def on_headers(self, stream: int, block: bytes, end: int) -> None:
        """Equal blocks mean the same method: look into a block only once."""
        handler = self.handlers.get(block)
        if handler is None:
            names = [name for name in self.service.methods if b"/" + name.encode() in block]
            handler = self.handlers[block] = self.service.methods[names[0]]
        self.handler_of[stream] = handler

    def on_data(self, stream: int, data: bytes, end: int) -> None:
        """A whole request (the client sends it in one frame)."""

        def reply(message: bytes) -> None:
            body = struct.pack(">BI", 0, len(message)) + message
            self.send_data(
                wire.frame(wire.HEADERS, wire.FLAG_END_HEADERS, stream, RESPONSE_HEADERS)
                + wire.frame(wire.DATA, 0, stream, body)
                + wire.frame(wire.HEADERS, wire.FLAG_END_HEADERS | wire.FLAG_END_STREAM, stream, TRAILERS),
                len(body),
            )

        self.handler_of.pop(stream)(data[5:], reply)

    def on_reset(self, stream: int, code: int) -> None:
        """A cancelled call needs nothing here."""


async def serve(port: int) -> None:
    """Serve until killed."""
    service = StubService()
    server = await asyncio.get_running_loop().create_server(
        lambda: StubConnection(service), "127.0.0.1", port
    )
    await server.serve_forever()


def main() -> None:
    """Run the stub on --port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(port))
    else:
        uvloop.run(serve(port))


if __name__ == "__main__":
    main()
