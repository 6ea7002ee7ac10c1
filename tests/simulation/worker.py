"""A simulated worker process: polls, replays, answers; forgets, dawdles and fails as the seed says.

It holds a cache of runs behind its sticky queue, as SDK workers do, and checks what every task brings against it.
"""

from __future__ import annotations

from collections import OrderedDict
from random import Random
from typing import Any

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.api.enums.v1 import EventType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protocol.v1 import Message
from perdure.api.query.v1 import WorkflowQueryResult
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.update.v1 import Acceptance, Rejection, Request, Response
from perdure.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    RespondQueryTaskCompletedRequest,
    RespondQueryTaskCompletedResponse,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
    RespondWorkflowTaskFailedRequest,
    RespondWorkflowTaskFailedResponse,
    ShutdownWorkerRequest,
    ShutdownWorkerResponse,
)
from perdure.core.run.records import RunKey
from tests.simulation.activity_worker import ActivityWorker
from tests.simulation.context import Context
from tests.simulation.deployment_oracle import behavior_of
from tests.simulation.interpreter import Interpreter, payloads, verdict
from tests.simulation.loop import Node
from tests.simulation.model import check
from tests.simulation.network import CallFailed
from tests.simulation.nexus_worker import NexusWorker

_TASK_STARTED = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_STARTED")
POLL_DEADLINE_S = 65.0
COMPLETION_TRIES = 4


class SimWorker:
    """One worker process for one namespace and task queue.

    Args:
        context: the world.
        node: the process.
        namespace, task_queue: what it serves.
        name: unique over all processes; the sticky queue is named after it.
        deployment: its version, if it has one; such a worker has no Nexus operations.
    """

    def __init__(
        self,
        context: Context,
        node: Node,
        namespace: str,
        task_queue: str,
        name: str,
        deployment: WorkerDeploymentOptions | None = None,
    ) -> None:
        self._context = context
        self._loop = context.loop
        self._random: Random = context.stream(f"worker {name}")
        self._namespace = namespace
        self._task_queue = task_queue
        self._name = name
        self._deployment = deployment
        self._sticky_queue = f"sticky {name}"
        self._sticky_share = self._random.choice((0.0, 0.7, 1.0, 1.0))
        self._sticky_timeout_s = self._random.choice((1, 5, 10))
        self._cached = self._random.choice((1, 2, 5, 100))
        self._cache: OrderedDict[str, Interpreter] = OrderedDict()
        self._latest: dict[str, Interpreter] = {}
        self._activities = ActivityWorker(context, self._random, namespace, task_queue, name, deployment)
        for _ in range(self._random.randint(1, 2)):
            context.start(node, self._poll(task_queue, sticky=False))
        context.start(node, self._poll(self._sticky_queue, sticky=True))
        for _ in range(self._random.randint(1, 2)):
            context.start(node, self._activities.poll())
        if deployment is not None:
            return
        operations = NexusWorker(context, context.stream(f"nexus worker {name}"), namespace, task_queue, name)
        for _ in range(2):
            context.start(node, operations.poll())

    async def say_goodbye(self) -> None:
        """Tells the server that this worker shuts down."""
        request = ShutdownWorkerRequest(
            namespace=self._namespace, sticky_task_queue=self._sticky_queue, identity=self._name
        )
        try:
            await self._context.network.call(request, ShutdownWorkerResponse, 2.0)
        except CallFailed:
            pass  # a worker that shuts down does not insist

    # --- workflow tasks

    async def _poll(self, queue: str, *, sticky: bool) -> None:
        request = PollWorkflowTaskQueueRequest(namespace=self._namespace, identity=self._name)
        request.task_queue.CopyFrom(TaskQueue(name=queue, kind=2 if sticky else 1))  # type: ignore[arg-type]
        if sticky:
            request.task_queue.normal_name = self._task_queue
        if self._deployment is not None:
            request.deployment_options.CopyFrom(self._deployment)
        while True:
            try:
                task = await self._context.network.call(
                    request, PollWorkflowTaskQueueResponse, POLL_DEADLINE_S
                )
            except CallFailed as error:
                self._context.accept(error)
                await self._loop.sleep(self._random.uniform(0.1, 2.0))
                continue
            if task.task_token:
                await self._work(task)

    async def _work(self, task: PollWorkflowTaskQueueResponse) -> None:
        """Does a task, and those that come back with its completion."""
        following: PollWorkflowTaskQueueResponse | None = task
        while following is not None:
            check(
                following.workflow_execution_task_queue.name == self._task_queue,
                "tasks go to their queue",
                following.workflow_execution_task_queue.name,
            )
            run = await self._catch_up(following)
            if run is None:
                return
            if following.HasField("query"):
                await self._answer_query(following, run)
                return
            self._check(following, run)
            following = await self._do(following, run)

    async def _catch_up(self, task: PollWorkflowTaskQueueResponse) -> Interpreter | None:
        """The run as of this task: from the cache, or replayed from its whole history."""
        run_id = task.workflow_execution.run_id
        events = list(task.history.events)
        fetched = await self._rest(task, task.next_page_token) if task.next_page_token else []
        if fetched is None:
            return None
        events += fetched
        first = events[0].event_id if events else 0
        cached = self._cache.get(run_id)
        if first != 1 and cached is None:
            self._context.trace.reach("sticky task without the run in the cache")
            whole = await self._rest(task, b"")
            if whole is None:
                return None
            known = whole[-1].event_id if whole else 0
            if self._tells_otherwise(task, whole, events):
                return None
            events = [*whole, *(event for event in events if event.event_id > known)]
            if task.started_event_id:
                events = [event for event in events if event.event_id <= task.started_event_id]
            fetched, first = events, 1
        if fetched and task.started_event_id and not self._ends_with_start(task, events):
            return None
        if first == 1:
            interpreter = Interpreter()
        else:
            assert cached is not None
            if task.HasField("query") and not events:
                return cached
            if 0 < task.started_event_id < cached.next_event_id:
                self._context.trace.reach("task came too late")
                return None
            at = f"{first}, cache at {cached.next_event_id}"
            check(first == cached.next_event_id, "a partial history continues the cached one", at)
            self._context.trace.reach("partial history")
            interpreter = cached
        interpreter.feed(events)
        return interpreter

    def _ends_with_start(self, task: PollWorkflowTaskQueueResponse, events: list[HistoryEvent]) -> bool:
        """Whether a history that was read in several calls ends with the task's start.

        It does not when the task was over before it was read; only then may it end otherwise.
        """
        last = events[-1]
        if last.event_id == task.started_event_id and last.event_type == _TASK_STARTED:
            return True
        self._check_over(task, f"{last.event_id}, not {task.started_event_id}")
        return False

    def _tells_otherwise(
        self, task: PollWorkflowTaskQueueResponse, whole: list[HistoryEvent], own: list[HistoryEvent]
    ) -> bool:
        """Whether a history that was read tells of other events than the task it was read for.

        Only a worker of the server's process meets that: its task was handed over before it was durable, and never was.
        """
        types = {event.event_id: event.event_type for event in own}
        others = [
            event.event_id
            for event in whole
            if types.get(event.event_id, event.event_type) != event.event_type
        ]
        if others:
            self._check_over(task, f"event {others[0]} of the history is not the task's")
        return bool(others)

    def _check_over(self, task: PollWorkflowTaskQueueResponse, why: str) -> None:
        execution = task.workflow_execution
        namespace_id = self._context.namespace_ids[self._namespace]
        state = self._context.oracle.states.get(RunKey(namespace_id, execution.workflow_id, execution.run_id))
        over = state is None or (
            (state.header.task_started_event_id, state.header.task_attempt)
            != (task.started_event_id, task.attempt)
        )
        check(over, "a task's history ends with its start", why)
        self._context.trace.reach("task over while its history was read")

    async def _rest(self, task: PollWorkflowTaskQueueResponse, token: bytes) -> list[HistoryEvent] | None:
        """The history from a page token on, or from the beginning; None if it can not be had."""
        execution: WorkflowExecution = task.workflow_execution
        events: list[HistoryEvent] = []
        for _ in range(200):
            request = GetWorkflowExecutionHistoryRequest(
                namespace=self._namespace, execution=execution, next_page_token=token
            )
            request.maximum_page_size = self._random.choice((0, 1, 3))
            try:
                page = await self._context.network.call(request, GetWorkflowExecutionHistoryResponse)
            except CallFailed as error:
                self._context.accept(error, "NotFoundError", "RunNotFoundError")
                return None
            events += page.history.events
            token = page.next_page_token
            if not token:
                return events
            self._context.trace.reach("history in pages")
        raise AssertionError("a history without end")

    def _check(self, task: PollWorkflowTaskQueueResponse, run: Interpreter) -> None:
        """Checks that the task is what a worker may rely on."""
        started = run.started_event_id
        check(started == task.started_event_id, "a task's history ends with its start", started)
        check(
            run.last_completed_started_id == task.previous_started_event_id,
            "a task names the start of the last completed one",
            f"{task.previous_started_event_id} {run.last_completed_started_id}",
        )
        if task.attempt > 1:
            self._context.trace.reach("transient task delivered")

    async def _do(
        self, task: PollWorkflowTaskQueueResponse, run: Interpreter
    ) -> PollWorkflowTaskQueueResponse | None:
        """One workflow task; returns the next one if the server sends it along."""
        run_id = task.workflow_execution.run_id
        faults, random = self._context.faults, self._random
        run.begin_task()
        check(run.origin["namespace"] == self._namespace, "namespaces do not mix", run.origin)
        check(run.origin["workflow_id"] == task.workflow_execution.workflow_id, "runs do not mix", run.origin)
        self._evict(run_id, None)
        self._latest[run_id] = run
        if random.random() < faults.task_failure:
            await self._fail(task)
            return None
        if random.random() < faults.task_loss:
            return None
        if random.random() < faults.task_slowness:
            await self._loop.sleep(random.uniform(0, 14))
        else:
            await self._loop.sleep(random.uniform(0, 0.05))
        force = self._local_activities(run)
        request = self._completion(task, run, force)
        self._answer_updates(task, run, request)
        bad = random.random() < faults.bad_command and request.commands
        if bad:
            request.commands.add(command_type=4).cancel_timer_command_attributes.timer_id = "none"
        return await self._complete(run_id, request, run, bad=bool(bad))

    def _local_activities(self, run: Interpreter) -> bool:
        """Goes on with local activities. Returns whether the task must heartbeat."""
        for local_id in list(run.pending_local):
            if run.is_ending or local_id not in run.pending_local:
                continue
            if run.pending_local[local_id] <= 0:
                run.resolve_local(local_id)
            else:
                run.pending_local[local_id] -= 1
        if run.pending_local and not run.is_ending:
            self._context.trace.reach("workflow task heartbeats")
            return True
        return False

    def _completion(
        self, task: PollWorkflowTaskQueueResponse, run: Interpreter, force: bool
    ) -> RespondWorkflowTaskCompletedRequest:
        request = RespondWorkflowTaskCompletedRequest(
            task_token=task.task_token,
            namespace=self._namespace,
            identity=self._name,
            commands=run.commands,
            force_create_new_workflow_task=force,
            return_new_workflow_task=self._random.random() < 0.8,
        )
        if self._deployment is not None:
            request.deployment_options.CopyFrom(self._deployment)
            request.versioning_behavior = behavior_of(run.origin["workflow_id"])  # type: ignore[assignment]
        if self._random.random() < self._sticky_share:
            sticky = request.sticky_attributes
            sticky.worker_task_queue.name = self._sticky_queue
            sticky.worker_task_queue.kind = "TASK_QUEUE_KIND_STICKY"  # type: ignore[assignment]
            sticky.worker_task_queue.normal_name = self._task_queue
            sticky.schedule_to_start_timeout.FromSeconds(self._sticky_timeout_s)
        for query_id in task.queries:
            self._context.trace.reach("query answered with a workflow task")
            request.query_results[query_id].CopyFrom(
                WorkflowQueryResult(result_type=1, answer=payloads(_view(run)))  # type: ignore[arg-type]
            )
        return request

    def _answer_updates(
        self,
        task: PollWorkflowTaskQueueResponse,
        run: Interpreter,
        request: RespondWorkflowTaskCompletedRequest,
    ) -> None:
        """Says something to every update that the task brings, and completes those that were accepted before."""
        words: list[Message] = []
        for brought in task.messages:
            update_id = brought.protocol_instance_id
            check(brought.event_id == task.started_event_id - 1, "a message follows the events", brought)
            if verdict(update_id) == "reject":
                rejected = Rejection(failure=Failure(message=f"rejected {update_id}"))
                words.append(_word(update_id, "reject", rejected))
                continue
            accepted = Acceptance(
                accepted_request_message_id=brought.id,
                accepted_request_sequencing_event_id=brought.event_id,
            )
            asked = Request()
            brought.body.Unpack(asked)
            accepted.accepted_request.CopyFrom(asked)
            words.append(_word(update_id, "accept", accepted))
            if verdict(update_id) == "complete":
                words.append(_word(update_id, "complete", _outcome(update_id)))
        for update_id, event in run.admitted.items():
            accepted = Acceptance(
                accepted_request_message_id=f"{update_id}/request",
                accepted_request_sequencing_event_id=event.event_id,
                accepted_request=event.workflow_execution_update_admitted_event_attributes.request,
            )
            words.append(_word(update_id, "accept", accepted))
            if verdict(update_id) == "complete":
                words.append(_word(update_id, "complete", _outcome(update_id)))
        words += [_word(update_id, "complete", _outcome(update_id)) for update_id in run.updates]
        placed = [word for word in words if not word.id.endswith("reject")]
        commands = list(request.commands)
        del request.commands[:]
        for word in placed:
            command = request.commands.add(command_type=14)  # PROTOCOL_MESSAGE
            command.protocol_message_command_attributes.message_id = word.id
        request.commands.extend(commands)
        request.messages.extend(words)
        request.capabilities.discard_speculative_workflow_task_with_events = self._random.random() < 0.7

    async def _complete(
        self, run_id: str, request: RespondWorkflowTaskCompletedRequest, run: Interpreter, *, bad: bool
    ) -> PollWorkflowTaskQueueResponse | None:
        for _ in range(self._random.randint(1, COMPLETION_TRIES)):
            try:
                response = await self._context.network.call(request, RespondWorkflowTaskCompletedResponse)
            except CallFailed as error:
                if error.is_unknown:
                    await self._loop.sleep(self._random.uniform(0.05, 1.0))
                    continue
                refused = error.error == "InvalidArgumentError"
                if refused and not bad:
                    # The server that sent an update may be gone, and what waited in its memory with it.
                    excused = ("UnhandledCommand", "wasn't found on the server")
                    known = any(words in error.message for words in excused)
                    check(known, "good commands are accepted", error.message)
                # A task of a paused run may not go on with another one.
                paused = ("FailedPreconditionError",) if request.force_create_new_workflow_task else ()
                self._context.accept(error, "InvalidArgumentError", "NotFoundError", *paused)
                return None
            check(not bad, "bad commands are refused", request.commands)
            if response.reset_history_event_id:
                # The task never happened; this worker has no way back but to read the history again.
                self._context.trace.reach("speculative task without a trace")
                self._evict(run_id, None)
            elif not run.is_ending and self._latest.get(run_id) is run:
                self._evict(run_id, run)
            for activity in response.activity_tasks:
                self._context.trace.reach("eager activity")
                self._context.start(self._loop.node, self._activities.work(activity))
            if response.HasField("workflow_task") and response.workflow_task.task_token:
                if response.workflow_task.messages:
                    self._context.trace.reach("updates with the next task")
                self._context.trace.reach("next task with the completion")
                return response.workflow_task
            return None
        return None

    def _evict(self, run_id: str, replacement: Interpreter | None) -> None:
        self._cache.pop(run_id, None)
        if replacement is not None:
            self._cache[run_id] = replacement
            while len(self._cache) > self._cached:
                self._cache.popitem(last=False)

    async def _fail(self, task: PollWorkflowTaskQueueResponse) -> None:
        request = RespondWorkflowTaskFailedRequest(
            task_token=task.task_token, namespace=self._namespace, identity=self._name
        )
        request.cause = "WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE"  # type: ignore[assignment]
        request.failure.message = "planned"
        try:
            await self._context.network.call(request, RespondWorkflowTaskFailedResponse)
        except CallFailed as error:
            self._context.accept(error, "NotFoundError", "RunNotFoundError")

    async def _answer_query(self, task: PollWorkflowTaskQueueResponse, run: Interpreter) -> None:
        check(run.origin, "a run is queried after its first workflow task", task.workflow_execution)
        self._context.trace.reach("query answered directly")
        request = RespondQueryTaskCompletedRequest(
            task_token=task.task_token, namespace=self._namespace, query_result=payloads(_view(run))
        )
        request.completed_type = "QUERY_RESULT_TYPE_ANSWERED"  # type: ignore[assignment]
        try:
            await self._context.network.call(request, RespondQueryTaskCompletedResponse)
        except CallFailed as error:
            self._context.accept(error, "NotFoundError", "RunNotFoundError")


def _view(run: Interpreter) -> dict[str, Any]:
    """What queries see of a run."""
    return {"signals": [request_id for _, request_id in run.signals], "origin": run.origin}


def _word(update_id: str, kind: str, body: Acceptance | Rejection | Response) -> Message:
    message = Message(id=f"{update_id}/{kind}", protocol_instance_id=update_id)
    message.body.Pack(body)
    return message


def _outcome(update_id: str) -> Response:
    response = Response()
    response.meta.update_id = update_id
    response.outcome.success.CopyFrom(payloads(f"updated {update_id}"))
    return response
