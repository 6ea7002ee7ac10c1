"""RPCs of workers on workflow tasks: poll, complete, fail, answer queries, shut down."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from perdure.api.common.v1 import WorkerVersionStamp
from perdure.api.enums.v1 import TaskQueueKind
from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueResponse,
    PollNexusTaskQueueResponse,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    ResetStickyTaskQueueRequest,
    ResetStickyTaskQueueResponse,
    RespondQueryTaskCompletedRequest,
    RespondQueryTaskCompletedResponse,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
    RespondWorkflowTaskFailedRequest,
    RespondWorkflowTaskFailedResponse,
    ShutdownWorkerRequest,
    ShutdownWorkerResponse,
)
from perdure.core.errors import InvalidArgumentError, NotFoundError, UnavailableError
from perdure.core.run import activity, completion, workflow_task
from perdure.core.run.completion import Completion, TaskToken
from perdure.core.run.records import QueueKey, RunKey, TaskKey, TaskKind
from perdure.core.run.records import Task as TaskRecord
from perdure.core.run.state import RunState
from perdure.core.run.transition import Transition
from perdure.server.deployments import Deployments
from perdure.server.engine.deliveries import ActivityDelivery, Delivery, WorkflowTaskDelivery
from perdure.server.engine.engine import Engine, RunNotFoundError
from perdure.server.engine.histories import Histories, not_found
from perdure.server.engine.matching import Matching
from perdure.server.engine.queries import Queries
from perdure.server.engine.runs import RunSlot
from perdure.server.engine.worker_registry import WorkerRegistry
from perdure.server.namespaces import Namespace
from perdure.server.nexus_endpoints import NexusEndpoints
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.server.service.task_responses import QUERY_TASK, WORKFLOW_TASK, TaskResponses
from perdure.server.service.worker_versions import polled_queue, worker_options, worker_version

BAD_TOKEN = "Error deserializing task token."
NO_TOKEN = "Task token not set on request."
WRONG_NAMESPACE = "Operation requested with a token from a different namespace."
_STICKY = TaskQueueKind.Value("TASK_QUEUE_KIND_STICKY")


def open_token(engine: Engine, kind: str, token: bytes, namespace: Namespace) -> list[object]:
    """The fields of a task token, which must be of this namespace.

    Raises:
        InvalidArgumentError: missing, not ours, or of another namespace.
    """
    return open_any_token(engine, (kind,), token, namespace)[1]


def open_any_token(
    engine: Engine, kinds: Collection[str], token: bytes, namespace: Namespace
) -> tuple[str, list[Any]]:
    """The kind and the fields of a task token of one of these kinds, which must be of this namespace.

    Raises:
        InvalidArgumentError: missing, not ours, or of another namespace.
    """
    if not token:
        raise InvalidArgumentError(NO_TOKEN)
    kind, fields = engine.tokens.open_any(kinds, token, BAD_TOKEN)
    if fields[0] != namespace.namespace_id:
        raise InvalidArgumentError(WRONG_NAMESPACE)
    return kind, fields


def task_namespace(engine: Engine, name: str, token: bytes) -> Namespace:
    """The namespace of a request that answers a task: the one it names, or its token's.

    Raises:
        InvalidArgumentError: neither says one.
        NamespaceNotFoundError: there is none of the name.
    """
    if name:
        return engine.namespaces.get(name)
    if not token:
        raise InvalidArgumentError(NO_TOKEN)
    namespace = engine.namespaces.by_id(engine.tokens.namespace_id(token, BAD_TOKEN))
    return engine.namespaces.get(namespace.name if namespace is not None else "")


def advise(
    matching: Matching,
    key: QueueKey,
    began_s: float,
    response: PollWorkflowTaskQueueResponse | PollActivityTaskQueueResponse | PollNexusTaskQueueResponse,
) -> None:
    """Tells a worker that scales its polls whether to make more or fewer of them."""
    change = matching.scaling(key, began_s)
    if change:
        response.poller_scaling_decision.poll_request_delta_suggestion = change


class WorkerTasks:
    """Handlers of the RPCs on workflow tasks.

    Args:
        engine: the runs.
        histories: finds runs by workflow id.
        queries: answers to queries go there.
        responses: builds answers to polls.
        workers: a worker that shuts down sends its last heartbeat.
        endpoints: of Nexus, for operations that workflows schedule.
        deployments: where versions of workers are noted.
        long_poll_s: how long a poll waits at most.
    """

    def __init__(
        self,
        engine: Engine,
        histories: Histories,
        queries: Queries,
        responses: TaskResponses,
        workers: WorkerRegistry,
        endpoints: NexusEndpoints,
        deployments: Deployments,
        long_poll_s: float = 60.0,
    ) -> None:
        self._engine = engine
        self._histories = histories
        self._namespaces = engine.namespaces
        self._limits = engine.limits.run
        self._queries = queries
        self._responses = responses
        self._workers = workers
        self._endpoints = endpoints
        self._deployments = deployments
        self._long_poll_s = long_poll_s

    async def poll_workflow_task_queue(
        self, request: PollWorkflowTaskQueueRequest, call: Call
    ) -> PollWorkflowTaskQueueResponse:
        """PollWorkflowTaskQueue: waits for a workflow task or a query; empty when none came in time."""
        namespace = self._namespaces.get(request.namespace)
        timeout_s = checks.long_poll_s(call, self._long_poll_s)
        if checks.too_long(request.identity, self._limits):
            raise InvalidArgumentError("Identity length exceeds limit.")
        capabilities = request.worker_version_capabilities
        deployed = worker_version(capabilities, request.deployment_options, self._limits)
        version = WorkerVersionStamp(build_id=capabilities.build_id) if capabilities.build_id else None
        name = checks.task_queue(request.task_queue if request.HasField("task_queue") else None, self._limits)
        key = QueueKey(namespace.namespace_id, name, TaskKind.WORKFLOW)
        key = await polled_queue(self._deployments, key, request.task_queue, deployed)
        matching = self._engine.matching
        request_id, began_s = self._engine.runtime.new_id(), asyncio.get_running_loop().time()
        polling = matching.poll(
            key,
            request.identity,
            request_id,
            timeout_s,
            version,
            is_local=call.is_local,
            deployment_version=deployed,
            options=worker_options(request),
        )
        worker = (namespace.namespace_id, request.worker_instance_key)
        delivery = await self._engine.departures.poll(worker, polling)
        if delivery is None:
            return PollWorkflowTaskQueueResponse()
        try:
            response = await self._responses.workflow_task_queue(delivery)
        except (asyncio.CancelledError, UnavailableError):
            matching.give_back(delivery)
            raise
        if isinstance(delivery, WorkflowTaskDelivery) and delivery.was_lost:
            return PollWorkflowTaskQueueResponse()
        advise(matching, key, began_s, response)
        return response

    async def respond_workflow_task_completed(
        self, request: RespondWorkflowTaskCompletedRequest, call: Call
    ) -> RespondWorkflowTaskCompletedResponse:
        """RespondWorkflowTaskCompleted: applies commands; may return the next task and eager activities."""
        namespace = task_namespace(self._engine, request.namespace, request.task_token)
        run, token = self._token(request.task_token, namespace)

        slot = self._engine.runs.pin(run)
        try:
            done = await self._complete(slot, token, request, namespace)
            if done.error is not None:
                raise done.error
            return await self._completed(slot, done, again=not request.force_create_new_workflow_task)
        finally:
            self._engine.runs.unpin(slot)

    async def _complete(
        self,
        slot: RunSlot,
        token: TaskToken,
        request: RespondWorkflowTaskCompletedRequest,
        namespace: Namespace,
    ) -> Completion:
        latest: list[Completion] = []

        def apply(state: RunState, now_ns: int) -> tuple[Transition, Completion]:
            done = completion.respond_completed(
                state,
                now_ns,
                token,
                request,
                self._limits,
                namespace.search_attributes,
                slot.updates,
                self._endpoint_id,
                self._engine.routes(slot.key.namespace_id),
            )
            latest[:] = [done]
            return done.tx, done

        def settle(slot: RunSlot) -> None:
            done, updates = latest[0], slot.updates
            if updates is None:
                return
            if done.task_failed:
                updates.fail_sent()
            if done.updates is not None:
                updates.settle(done.updates)
            if done.brings_updates:
                done.inline = self._engine.speculative.start_inline(
                    slot, completion.INLINE_REQUEST_ID, request.identity
                )

        try:
            return await self._queries.transact_completion(slot.key, apply, request.query_results, settle)
        except NotFoundError as error:
            raise NotFoundError(workflow_task.NOT_FOUND) from error

    def _endpoint_id(self, name: str) -> str:
        endpoint = self._endpoints.by_name(name)
        return endpoint.endpoint_id if endpoint is not None else ""

    async def _completed(
        self, slot: RunSlot, done: Completion, *, again: bool
    ) -> RespondWorkflowTaskCompletedResponse:
        response = RespondWorkflowTaskCompletedResponse()
        run = slot.key
        if done.reset_event_id is not None:
            response.reset_history_event_id = done.reset_event_id
        deliveries: list[Delivery] = []
        if done.new_task_inline or done.inline is not None:
            deliveries.append(self._inline_delivery(slot, done.inline or done.tx, again=again))
        deliveries += [self._eager_delivery(run, done, event_id) for event_id in done.eager]
        try:
            for delivery in deliveries:
                if isinstance(delivery, WorkflowTaskDelivery):
                    response.workflow_task.CopyFrom(await self._responses.workflow_task(delivery))
                else:
                    response.activity_tasks.append(await self._responses.activity_task(delivery))
        except (asyncio.CancelledError, UnavailableError):
            for delivery in deliveries:
                self._engine.matching.give_back(delivery)
            raise
        return response

    def _inline_delivery(self, slot: RunSlot, tx: Transition, *, again: bool) -> WorkflowTaskDelivery:
        header, run = tx.header, slot.key
        queue = QueueKey(run.namespace_id, header.sticky_queue or header.task_queue, TaskKind.WORKFLOW)
        key = TaskKey(TaskKind.WORKFLOW, header.task_scheduled_event_id)
        task = TaskRecord(run, key, queue, header.task_scheduled_ns, sticky=True)
        return self._engine.hand_over.workflow_task(slot, tx, task, again=again)

    def _eager_delivery(self, run: RunKey, done: Completion, event_id: int) -> ActivityDelivery:
        event = next(event for event in done.tx.events if event.event_id == event_id)
        started = done.started[event_id]
        queue = QueueKey(run.namespace_id, started.task_queue, TaskKind.ACTIVITY)
        return ActivityDelivery(run, done.tx.header, queue, started, event)

    async def respond_workflow_task_failed(
        self, request: RespondWorkflowTaskFailedRequest, call: Call
    ) -> RespondWorkflowTaskFailedResponse:
        """RespondWorkflowTaskFailed: another attempt follows."""
        namespace = task_namespace(self._engine, request.namespace, request.task_token)
        run, token = self._token(request.task_token, namespace)

        def apply(state: RunState, now_ns: int) -> tuple[Transition, None]:
            if not state.header.is_open:
                raise NotFoundError(activity.RUN_CLOSED)
            return completion.respond_failed(state, now_ns, token, request), None

        await self._engine.transact(run, apply)
        return RespondWorkflowTaskFailedResponse()

    def _token(self, token: bytes, namespace: Namespace) -> tuple[RunKey, TaskToken]:
        fields = open_token(self._engine, WORKFLOW_TASK, token, namespace)
        return RunKey(*fields[:3]), TaskToken(*fields[3:])  # type: ignore[arg-type]  # sealed by us

    async def respond_query_task_completed(
        self, request: RespondQueryTaskCompletedRequest, call: Call
    ) -> RespondQueryTaskCompletedResponse:
        """RespondQueryTaskCompleted: the answer to a query outside of a workflow task."""
        namespace = task_namespace(self._engine, request.namespace, request.task_token)
        fields = open_token(self._engine, QUERY_TASK, request.task_token, namespace)
        self._queries.answer(str(fields[2]), request)
        return RespondQueryTaskCompletedResponse()

    async def reset_sticky_task_queue(
        self, request: ResetStickyTaskQueueRequest, call: Call
    ) -> ResetStickyTaskQueueResponse:
        """ResetStickyTaskQueue: the run's next workflow task goes to the normal queue."""
        namespace = self._namespaces.get(request.namespace)
        named = checks.execution(request, "execution")
        run = await self._histories.resolve(namespace.namespace_id, named.workflow_id, named.run_id)

        def apply(state: RunState, now_ns: int) -> tuple[Transition | None, None]:
            if not state.header.is_open or not state.header.sticky_queue:
                return None, None
            tx = Transition(state, now_ns)
            if tx.header.has_pending_task and not tx.header.has_started_task:
                workflow_task.reroute_to_normal_queue(tx)
            workflow_task.clear_sticky(tx.header)
            return tx, None

        try:
            await self._engine.transact(run, apply)
        except RunNotFoundError as error:
            raise not_found(run) from error
        return ResetStickyTaskQueueResponse()

    async def shutdown_worker(self, request: ShutdownWorkerRequest, call: Call) -> ShutdownWorkerResponse:
        """ShutdownWorker: the worker's polls end, if that is on; tasks of its sticky queue go to the normal queue."""
        namespace = self._namespaces.get(request.namespace)
        if self._engine.departures.is_enabled and request.task_queue and request.worker_instance_key:
            self._engine.departures.leave((namespace.namespace_id, request.worker_instance_key))
            asked = {int(kind) for kind in request.task_queue_types}
            named = [kind for kind in TaskKind if kind in asked]
            for kind in named or (TaskKind.WORKFLOW, TaskKind.ACTIVITY):
                key = QueueKey(namespace.namespace_id, request.task_queue, kind)
                self._engine.matching.forget_poller(key, request.identity)
        if request.HasField("worker_heartbeat"):
            self._workers.record(namespace.namespace_id, [request.worker_heartbeat])
        if request.sticky_task_queue:
            key = QueueKey(namespace.namespace_id, request.sticky_task_queue, TaskKind.WORKFLOW)
            self._engine.matching.forget_sticky(key)
        return ShutdownWorkerResponse()
