"""The raw load: a scripted worker and a client without any SDK, driven by callbacks in one event loop.

Each workflow is one activity: start, workflow task scheduling the activity, activity, workflow task
completing the workflow, and the client waiting for the close event by long poll. It runs in a process of its
own (`python -m benchmarks.raw_load`) and prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryResponse,
    PollWorkflowTaskQueueResponse,
    RespondWorkflowTaskCompletedResponse,
)

from benchmarks.measure import Window
from benchmarks.requests import Methods, RequestTemplates, first_bytes_field
from benchmarks.wire import Method, RawChannel, RpcError, connect

EXPECTED_NAMES = (
    "WORKFLOW_EXECUTION_STARTED",
    "WORKFLOW_TASK_SCHEDULED",
    "WORKFLOW_TASK_STARTED",
    "WORKFLOW_TASK_COMPLETED",
    "ACTIVITY_TASK_SCHEDULED",
    "ACTIVITY_TASK_STARTED",
    "ACTIVITY_TASK_COMPLETED",
    "WORKFLOW_TASK_SCHEDULED",
    "WORKFLOW_TASK_STARTED",
    "WORKFLOW_TASK_COMPLETED",
    "WORKFLOW_EXECUTION_COMPLETED",
)
COMPLETED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
EXPECTED_EVENTS = tuple(EventType.Value(f"EVENT_TYPE_{name}") for name in EXPECTED_NAMES)
WORKFLOW_TASK_EVENTS = {
    kind for name, kind in EventType.items() if name.startswith("EVENT_TYPE_WORKFLOW_TASK_")
}
# An overloaded server may lose a started workflow task to its 10 s timeout, also twice: that is slow, not wrong.
DRAIN_S = 45.0
NOT_FOUND = 5


@dataclass(frozen=True)
class LoadOptions:
    """What to run: see the command line's help for each."""

    address: str
    namespace: str = "default"
    concurrency: int = 50
    warmup_s: float = 1.0
    seconds: float = 5.0
    pollers: int = 10
    sticky: bool = True
    eager_activity: bool = False
    server_pid: int | None = None


class RawLoad:
    """A closed loop of `concurrency` workflows on three connections: client, workflow worker, activity worker."""

    def __init__(self, options: LoadOptions, channels: tuple[RawChannel, RawChannel, RawChannel]) -> None:
        self.options = options
        self.client, self.worker, self.activities = channels
        unique = uuid.uuid4().hex[:8]
        sticky_queue = f"sticky-{unique}" if options.sticky else None
        self.prefix = f"bench-{unique}-"
        self.templates = RequestTemplates(
            options.namespace, f"bench-{unique}", sticky_queue, options.eager_activity
        )
        self.methods = Methods.of(options.address)
        self.window = Window("raw", options.concurrency, options.server_pid)
        self.started = 0
        self.running: set[bytes] = set()
        self.stopping = False
        self.last_workflow: tuple[bytes, bytes] = (b"", b"")
        self.drained = asyncio.Event()

    # client

    def start_workflow(self) -> None:
        """Start the next workflow unless the load is stopping."""
        if self.stopping:
            return
        self.started += 1
        workflow_id, began = f"{self.prefix}{self.started:08d}".encode(), time.perf_counter()
        self.running.add(workflow_id)

        def on_started(reply: bytes | None, error: RpcError | None) -> None:
            run_id = first_bytes_field(reply or b"", 1)
            if error is not None or not run_id:
                self.failed(workflow_id, "StartWorkflowExecution", error)
                return
            self.wait_for_result(workflow_id, run_id, b"", began)

        self.client.call(self.methods.start, self.templates.start(workflow_id), on_started)

    def wait_for_result(self, workflow_id: bytes, run_id: bytes, page_token: bytes, began: float) -> None:
        """Long-poll for the close event, again while the server answers with an empty page and a token."""

        def on_history(reply: bytes | None, error: RpcError | None) -> None:
            if error is not None or reply is None:
                self.failed(workflow_id, "GetWorkflowExecutionHistory", error)
                return
            page = GetWorkflowExecutionHistoryResponse.FromString(reply)
            if not page.history.events and page.next_page_token:
                self.wait_for_result(workflow_id, run_id, page.next_page_token, began)
            elif not page.history.events or page.history.events[-1].event_type != COMPLETED:
                self.failed(
                    workflow_id, "GetWorkflowExecutionHistory", RpcError(2, f"no close event: {page!s:.200}")
                )
            else:
                self.last_workflow = (workflow_id, run_id)
                self.window.completed(began)
                self.finished(workflow_id)

        request = self.templates.history(workflow_id, run_id, page_token)
        self.client.call(self.methods.history, request, on_history)

    def failed(self, workflow_id: bytes, what: str, error: RpcError | None) -> None:
        """Note an error of a client call and go on with the next workflow (a little later, not to spin)."""
        if not self.stopping:
            self.window.error(f"{what}: {error or 'unexpected empty reply'}")
        self.client.loop.call_later(0.1, self.finished, workflow_id)

    def finished(self, workflow_id: bytes) -> None:
        """Keep the loop closed: one done, one begun."""
        self.running.discard(workflow_id)
        if self.stopping and not self.running:
            self.drained.set()
        self.start_workflow()

    # workers

    def poll_forever(
        self, channel: RawChannel, method: Method, request: bytes, handle_sticky: bool | None
    ) -> None:
        """Keep one poll open; `handle_sticky` None means an activity poll."""

        def on_task(reply: bytes | None, error: RpcError | None) -> None:
            if error is not None or reply is None:
                if not self.stopping:
                    self.window.error(f"poll: {error}")
                    channel.loop.call_later(0.1, again)
                return
            again()
            if reply:
                if handle_sticky is None:
                    self.handle_activity(first_bytes_field(reply, 1))
                else:
                    self.handle_workflow_task(PollWorkflowTaskQueueResponse.FromString(reply))

        def again() -> None:
            if not self.stopping or self.running:
                channel.call(method, request, on_task)

        again()

    def handle_workflow_task(self, task: PollWorkflowTaskQueueResponse) -> None:
        """First task: schedule the activity. Later ones: complete the workflow."""
        if not task.task_token:
            return
        templates = self.templates
        prefix = templates.close_prefix if task.previous_started_event_id else templates.schedule_prefix

        def on_completed(reply: bytes | None, error: RpcError | None) -> None:
            if error is not None:
                # A task that timed out under overload was given again: a stale token is answered so.
                if not self.stopping and error.status != NOT_FOUND:
                    self.window.error(f"RespondWorkflowTaskCompleted: {error}")
            elif reply:
                response = RespondWorkflowTaskCompletedResponse.FromString(reply)
                for activity in response.activity_tasks:
                    self.handle_activity(activity.task_token)
                if response.HasField("workflow_task"):
                    self.handle_workflow_task(response.workflow_task)

        self.worker.call(
            self.methods.complete_workflow, templates.with_token(prefix, task.task_token), on_completed
        )

    def handle_activity(self, task_token: bytes) -> None:
        """Complete the activity at once."""
        if not task_token:
            return

        def on_completed(reply: bytes | None, error: RpcError | None) -> None:
            if error is not None and not self.stopping:
                self.window.error(f"RespondActivityTaskCompleted: {error}")

        request = self.templates.with_token(self.templates.activity_prefix, task_token)
        self.activities.call(self.methods.complete_activity, request, on_completed)

    # the run

    async def run(self) -> dict[str, object]:
        """Warm up, measure, stop, verify one history; return the outcome as a dictionary."""
        for _ in range(self.options.pollers):
            self.poll_forever(self.worker, self.methods.poll_workflow, self.templates.poll_normal, False)
            if self.templates.poll_sticky:
                self.poll_forever(self.worker, self.methods.poll_workflow, self.templates.poll_sticky, True)
            self.poll_forever(self.activities, self.methods.poll_activity, self.templates.poll_activity, None)
        for _ in range(self.options.concurrency):
            self.start_workflow()
        await asyncio.sleep(self.options.warmup_s)
        calls_before = sum(channel.calls for channel in (self.client, self.worker, self.activities))
        self.window.open()
        await asyncio.sleep(self.options.seconds)
        outcome = self.window.close()
        calls = sum(channel.calls for channel in (self.client, self.worker, self.activities)) - calls_before
        self.stopping = True
        if self.running:
            try:
                await asyncio.wait_for(self.drained.wait(), DRAIN_S)
            except TimeoutError:
                names = ", ".join(sorted(workflow.decode() for workflow in self.running)[:3])
                self.window.error(f"{len(self.running)} workflows did not finish in {DRAIN_S:.0f} s: {names}")
        await self.verify_last()
        outcome.errors, outcome.error_samples = self.window.errors, self.window.error_samples
        return {**outcome.as_json(), "rpcs_per_workflow": calls / max(1, outcome.completed)}

    async def verify_last(self) -> None:
        """Read the whole history of the last workflow: a server that skips work must not win."""
        workflow_id, run_id = self.last_workflow
        if not run_id:
            return
        reply = await self.client.unary(
            self.methods.history, self.templates.whole_history(workflow_id, run_id)
        )
        events = GetWorkflowExecutionHistoryResponse.FromString(reply).history.events
        kinds = tuple(event.event_type for event in events)
        if len(kinds) < len(EXPECTED_EVENTS) or _steps(kinds) != _steps(EXPECTED_EVENTS):
            self.window.error(
                f"history of {workflow_id.decode()} has events {kinds}, expected {EXPECTED_EVENTS}"
            )


def _steps(kinds: tuple[int, ...]) -> list[int]:
    """The events that are not about workflow tasks."""
    return [kind for kind in kinds if kind not in WORKFLOW_TASK_EVENTS]


async def run_load(options: LoadOptions) -> dict[str, object]:
    """Connect, run, close."""
    channels = (
        await connect(options.address),
        await connect(options.address),
        await connect(options.address),
    )
    try:
        return await RawLoad(options, channels).run()
    finally:
        for channel in channels:
            channel.close()


def run_in_fast_loop(options: LoadOptions) -> dict[str, object]:
    """Run on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(run_load(options))
    return uvloop.run(run_load(options))


def main() -> None:
    """Parse the options, run the load, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="host:port of the server")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--concurrency", type=int, default=50, help="workflows in flight")
    parser.add_argument("--warmup-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the measured window")
    parser.add_argument("--pollers", type=int, default=10, help="open polls of each kind")
    parser.add_argument("--no-sticky", dest="sticky", action="store_false")
    parser.add_argument(
        "--eager-activity", action="store_true", help="ask for the activity in the completion's reply"
    )
    parser.add_argument("--server-pid", type=int, help="process whose CPU and memory are reported")
    options = LoadOptions(**vars(parser.parse_args()))
    json.dump(run_in_fast_loop(options), sys.stdout)
    print()


if __name__ == "__main__":
    main()
