"""Single features over raw gRPC: activities fanned out from one workflow, signals to waiting workflows, updates.

Each is driven by one scripted worker and client on connections of their own, against one server after the other in
alternating order. What a worker answers is decided by what the workflow task holds, so a server that leaves work out
does not finish.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    CommandType,
    EventType,
    TaskQueueKind,
    UpdateWorkflowExecutionLifecycleStage,
)
from temporalio.api.protocol.v1 import Message
from temporalio.api.update.v1 import Acceptance, Request, Response
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryResponse,
    PollWorkflowTaskQueueResponse,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
    SignalWorkflowExecutionRequest,
    UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
)

from benchmarks.measure import percentile
from benchmarks.procstat import machine_busy_s, tree_usage
from benchmarks.requests import (
    IDENTITY,
    SERVICE,
    Methods,
    RequestTemplates,
    first_bytes_field,
    json_payloads,
)
from benchmarks.rounds import Json, machine
from benchmarks.targets import NAMESPACE, TARGETS, RunningServer, ServerFailedError, running
from benchmarks.wire import Method, RawChannel, RpcError, connect

ACTIVITIES: Final = 100
FAN_OUTS: Final = 12
"""Workflows, one after the other; the first two are not counted."""
UNCOUNTED: Final = 2
WAITING: Final = 1_000
UPDATES: Final = 200
AT_ONCE: Final = 50
POLLS: Final = 20
PATIENT_CALL_S: Final = 60
PATIENCE_S: Final = 120.0
GOALS: Final = {"fan_out_p50_ms": 60.0, "update_p50_ms": 6.0}
TARGET_NAMES: Final = ("perdure-file", "temporal-file")

_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
_ACTIVITY_COMPLETED = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
_SIGNALED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
_UPDATE_COMPLETED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED

Task = PollWorkflowTaskQueueResponse
Decide = Callable[[Task], tuple[list[Command], list[Message]]]
"""What a worker answers to a workflow task: commands and messages."""


class Worker:
    """Polls for workflow tasks and activities, and answers them at once.

    Args:
        address: the server's.
        channels: of client, workflow worker and activity worker.
        decide: answers workflow tasks.
    """

    def __init__(
        self, address: str, channels: tuple[RawChannel, RawChannel, RawChannel], decide: Decide
    ) -> None:
        unique = uuid.uuid4().hex[:8]
        self.client, self._worker, self._activities = channels
        self._decide = decide
        self.queue = f"bench-{unique}"
        self.sticky = f"sticky-{unique}"
        self.templates = RequestTemplates(NAMESPACE, self.queue, self.sticky, False)
        self.methods = Methods.of(address)
        self._is_over = False
        self.answered = 0
        self._start = Method(SERVICE + "StartWorkflowExecution", address, PATIENT_CALL_S)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed.add_done_callback(asyncio.Future.exception)  # looked at, whoever asks

    def start(self) -> None:
        """Opens the polls."""
        for _ in range(POLLS):
            self._poll(
                self._worker, self.methods.poll_workflow, self.templates.poll_normal, self._workflow_task
            )
            self._poll(
                self._worker, self.methods.poll_workflow, self.templates.poll_sticky, self._workflow_task
            )
            self._poll(
                self._activities, self.methods.poll_activity, self.templates.poll_activity, self._activity
            )

    def stop(self) -> None:
        """Opens no more polls."""
        self._is_over = True

    def _poll(
        self, channel: RawChannel, method: Method, request: bytes, handle: Callable[[bytes], None]
    ) -> None:
        def on_task(reply: bytes | None, error: Exception | None) -> None:
            if self._is_over:
                return
            if error is not None or reply is None:
                self._fail(error)
                return
            channel.call(method, request, on_task)
            if reply:
                handle(reply)

        channel.call(method, request, on_task)

    def _fail(self, error: Exception | None) -> None:
        if not self.failed.done() and not self._is_over:
            self.failed.set_exception(error or RuntimeError("an empty reply"))

    def _workflow_task(self, reply: bytes) -> None:
        self._answer(Task.FromString(reply))

    def _answer(self, task: Task) -> None:
        if not task.task_token:
            return
        commands, messages = self._decide(task)
        request = RespondWorkflowTaskCompletedRequest(
            namespace=NAMESPACE,
            identity=IDENTITY,
            task_token=task.task_token,
            commands=commands,
            messages=messages,
            return_new_workflow_task=True,
        )
        queue = request.sticky_attributes.worker_task_queue
        queue.name, queue.kind, queue.normal_name = (
            self.sticky,
            TaskQueueKind.TASK_QUEUE_KIND_STICKY,
            self.queue,
        )
        request.sticky_attributes.schedule_to_start_timeout.seconds = 10

        def on_answer(reply: bytes | None, error: Exception | None) -> None:
            if error is not None:
                self._fail(error)
                return
            self.answered += 1
            response = RespondWorkflowTaskCompletedResponse.FromString(reply or b"")
            if response.HasField("workflow_task"):
                self._answer(response.workflow_task)

        self._worker.call(self.methods.complete_workflow, request.SerializeToString(), on_answer)

    def _activity(self, reply: bytes) -> None:
        def on_answer(_: bytes | None, error: Exception | None) -> None:
            if error is not None:
                self._fail(error)

        request = self.templates.with_token(self.templates.activity_prefix, first_bytes_field(reply, 1))
        self._activities.call(self.methods.complete_activity, request, on_answer)

    async def begin(self, workflow_id: str) -> bytes:
        """Starts a workflow; returns its run id."""
        reply = await self.client.unary(self._start, self.templates.start(workflow_id.encode()))
        return first_bytes_field(reply, 1)

    async def result(self, workflow_id: str, run_id: bytes) -> None:
        """Waits for a workflow's end."""
        token = b""
        while True:
            request = self.templates.history(workflow_id.encode(), run_id, token)
            reply = await self.client.unary(self.methods.history, request)
            page = GetWorkflowExecutionHistoryResponse.FromString(reply)
            if page.history.events:
                if page.history.events[-1].event_type != _COMPLETED:
                    raise RuntimeError(f"{workflow_id} did not complete")
                return
            token = page.next_page_token


def complete_workflow() -> Command:
    """The command that ends a workflow."""
    command = Command(command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION)
    command.complete_workflow_execution_command_attributes.result.CopyFrom(json_payloads('"done"'))
    return command


def schedule_activity(number: int, queue: str) -> Command:
    """The command that schedules an activity."""
    command = Command(command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK)
    attributes = command.schedule_activity_task_command_attributes
    attributes.activity_id, attributes.activity_type.name = str(number), "charge"
    attributes.task_queue.name = queue
    attributes.input.CopyFrom(json_payloads(str(number)))
    attributes.start_to_close_timeout.seconds = 60
    return command


# --- activities fanned out from one workflow


async def fan_out(server: RunningServer, channels: tuple[RawChannel, RawChannel, RawChannel]) -> Json:
    """Times of workflows that schedule a hundred activities at once and end when all have completed."""
    done: dict[str, int] = {}

    def decide(task: Task) -> tuple[list[Command], list[Message]]:
        run_id = task.workflow_execution.run_id
        if not task.previous_started_event_id:
            done[run_id] = 0
            return [schedule_activity(number, worker.queue) for number in range(ACTIVITIES)], []
        done[run_id] += sum(event.event_type == _ACTIVITY_COMPLETED for event in task.history.events)
        return ([complete_workflow()] if done[run_id] == ACTIVITIES else []), []

    worker = Worker(server.address, channels, decide)
    worker.start()
    times: list[float] = []
    answered = 0
    before_s = 0.0
    for number in range(FAN_OUTS):
        if number == UNCOUNTED:
            before_s, answered = tree_usage(server.pid).cpu_s, worker.answered
        began = time.perf_counter()
        workflow_id = f"{worker.queue}-{number}"
        await _or_failure(worker, worker.result(workflow_id, await worker.begin(workflow_id)))
        times.append((time.perf_counter() - began) * 1e3)
    worker.stop()
    counted = times[UNCOUNTED:]
    cpu_ms = (tree_usage(server.pid).cpu_s - before_s) * 1e3 / len(counted)
    tasks = (worker.answered - answered) / len(counted)
    return {
        "fan_out_p50_ms": statistics.median(counted),
        "fan_out_max_ms": max(counted),
        "fan_out_server_cpu_ms": cpu_ms,
        "fan_out_workflow_tasks": tasks,
    }


# --- signals to waiting workflows


async def signals(server: RunningServer, channels: tuple[RawChannel, RawChannel, RawChannel]) -> Json:
    """How long it takes until a thousand waiting workflows have had their signal and ended."""

    def decide(task: Task) -> tuple[list[Command], list[Message]]:
        is_signaled = any(event.event_type == _SIGNALED for event in task.history.events)
        return ([complete_workflow()] if is_signaled else []), []

    worker = Worker(server.address, channels, decide)
    worker.start()
    method = Method(SERVICE + "SignalWorkflowExecution", server.address, PATIENT_CALL_S)
    names = [f"{worker.queue}-{number}" for number in range(WAITING)]
    latencies: list[float] = []

    async def send(name: str) -> None:
        request = SignalWorkflowExecutionRequest(
            namespace=NAMESPACE,
            signal_name="go",
            identity=IDENTITY,
            request_id=name,
            input=json_payloads("1"),
        )
        request.workflow_execution.workflow_id = name
        began = time.perf_counter()
        await worker.client.unary(method, request.SerializeToString())
        latencies.append((time.perf_counter() - began) * 1e3)

    await _or_failure(worker, _each(names, worker.begin))
    await _or_failure(worker, _until(lambda: worker.answered >= WAITING))
    before_s, began = tree_usage(server.pid).cpu_s, time.perf_counter()
    await _or_failure(worker, _each(names, send))
    await _or_failure(worker, _until(lambda: worker.answered >= 2 * WAITING))
    elapsed_s = time.perf_counter() - began
    worker.stop()
    latencies.sort()
    return {
        "signals_s": elapsed_s,
        "signal_p50_ms": percentile(latencies, 50),
        "signal_p99_ms": percentile(latencies, 99),
        "signal_server_cpu_ms": (tree_usage(server.pid).cpu_s - before_s) * 1e3 / WAITING,
    }


# --- updates


async def updates(server: RunningServer, channels: tuple[RawChannel, RawChannel, RawChannel]) -> Json:
    """Round trips of updates that are waited for until they are completed, one after the other."""

    def decide(task: Task) -> tuple[list[Command], list[Message]]:
        messages = [answer for asked in task.messages for answer in _accepted_and_completed(asked)]
        return [_sends(message) for message in messages], messages

    worker = Worker(server.address, channels, decide)
    worker.start()
    method = Method(SERVICE + "UpdateWorkflowExecution", server.address, PATIENT_CALL_S)
    name = f"{worker.queue}-updated"
    await worker.begin(name)
    await _or_failure(worker, _until(lambda: worker.answered >= 1))
    times: list[float] = []
    before_s = tree_usage(server.pid).cpu_s
    for number in range(UPDATES):
        request = UpdateWorkflowExecutionRequest(
            namespace=NAMESPACE, workflow_execution=WorkflowExecution(workflow_id=name)
        )
        request.wait_policy.lifecycle_stage = _UPDATE_COMPLETED
        request.request.meta.update_id = str(number)
        request.request.meta.identity = IDENTITY
        request.request.input.name = "add"
        request.request.input.args.CopyFrom(json_payloads("1"))
        began = time.perf_counter()
        reply = await _or_failure(worker, worker.client.unary(method, request.SerializeToString()))
        times.append((time.perf_counter() - began) * 1e3)
        response = UpdateWorkflowExecutionResponse.FromString(reply)
        if response.stage != _UPDATE_COMPLETED or not response.outcome.HasField("success"):
            raise RuntimeError(f"update {number} did not complete: {response!s:.200}")
    worker.stop()
    times.sort()
    return {
        "update_p50_ms": percentile(times, 50),
        "update_p99_ms": percentile(times, 99),
        "update_server_cpu_ms": (tree_usage(server.pid).cpu_s - before_s) * 1e3 / UPDATES,
    }


def _accepted_and_completed(asked: Message) -> list[Message]:
    request = Request()
    asked.body.Unpack(request)
    accepted = Message(id=f"{asked.id}/accept", protocol_instance_id=asked.protocol_instance_id)
    accepted.body.Pack(
        Acceptance(
            accepted_request_message_id=asked.id,
            accepted_request_sequencing_event_id=asked.event_id,
            accepted_request=request,
        )
    )
    completed = Message(id=f"{asked.id}/complete", protocol_instance_id=asked.protocol_instance_id)
    response = Response(meta=request.meta)
    response.outcome.success.CopyFrom(json_payloads("2"))
    completed.body.Pack(response)
    return [accepted, completed]


def _sends(message: Message) -> Command:
    command = Command(command_type=CommandType.COMMAND_TYPE_PROTOCOL_MESSAGE)
    command.protocol_message_command_attributes.message_id = message.id
    return command


# --- the run


async def _or_failure(worker: Worker, work: Any) -> Any:
    """Awaits `work`, but no longer than the worker goes on, nor for ever."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, worker.failed}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    if worker.failed.done():
        task.cancel()
        worker.failed.result()
    if not task.done():
        task.cancel()
        raise TimeoutError(f"not done after {PATIENCE_S:.0f} s")
    return task.result()


async def _each(names: list[str], act: Callable[[str], Any]) -> None:
    """Does `act` for each name, so many at once."""
    waiting = list(reversed(names))

    async def one_after_the_other() -> None:
        while waiting:
            await act(waiting.pop())

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.001)


FEATURES: Final = {"fan-out": fan_out, "signals": signals, "updates": updates}


async def _measure(server: RunningServer, feature: Any) -> Json:
    channels = (await connect(server.address), await connect(server.address), await connect(server.address))
    busy, total = machine_busy_s()
    used_s = tree_usage(server.pid).cpu_s
    own = time.process_time()
    try:
        found: Json = await feature(server, channels)
    finally:
        for channel in channels:
            channel.close()
    busy_after, total_after = machine_busy_s()
    ours_s = tree_usage(server.pid).cpu_s - used_s + time.process_time() - own
    others = (busy_after - busy - ours_s) / max(total_after - total, 1e-9)
    return {**found, "others_share": max(others, 0.0)}


def run_features(names: list[str], targets: list[str], rounds: int, tell: Callable[[str], None]) -> Json:
    """Measures features on servers in alternating order, each on a new file; medians over the rounds."""
    results: list[Json] = []
    reasons: list[str] = []
    for number in range(1, rounds + 1):
        for target in targets if number % 2 else reversed(targets):
            result: Json = {"round": number, "target": target}
            results.append(result)
            try:
                for name in names:
                    with running(TARGETS[target]) as server:
                        result[name] = asyncio.run(_measure(server, FEATURES[name]))
                    shown = ", ".join(f"{key} {value:.3g}" for key, value in result[name].items())
                    tell(f"round {number} {target} {name}: {shown}")
            except (ServerFailedError, RpcError, OSError, RuntimeError) as error:
                reasons.append(f"round {number} {target}: {type(error).__name__}: {error}")
    medians = {
        target: _medians([one for one in results if one["target"] == target], names) for target in targets
    }
    for figure, goal in GOALS.items():
        value = medians[targets[0]].get(figure)
        if value is not None:
            tell(
                f"{figure} of {targets[0]}: {value:.1f}, goal {goal:.0f}: {'met' if value <= goal else 'missed'}"
            )
    return {
        "machine": machine(),
        "rounds": results,
        "medians": medians,
        "goals": GOALS,
        "valid": not reasons,
        "invalid_reasons": reasons,
    }


def _medians(results: list[Json], names: list[str]) -> Json:
    values: dict[str, list[float]] = {}
    for result in results:
        for name in names:
            for figure, value in result.get(name, {}).items():
                values.setdefault(figure, []).append(value)
    return {figure: statistics.median(found) for figure, found in values.items()}
