"""RPCs of workers on Nexus tasks: poll, answer, refuse."""

from __future__ import annotations

import asyncio
import json

from perdure.api.nexus.v1 import Failure
from perdure.api.workflowservice.v1 import (
    PollNexusTaskQueueRequest,
    PollNexusTaskQueueResponse,
    RespondNexusTaskCompletedRequest,
    RespondNexusTaskCompletedResponse,
    RespondNexusTaskFailedRequest,
    RespondNexusTaskFailedResponse,
)
from perdure.core.errors import InvalidArgumentError, InvariantViolation
from perdure.core.nexus.outcomes import Answer
from perdure.core.run.limits import Limits
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.deployments import Deployments
from perdure.server.engine.deliveries import NexusDelivery
from perdure.server.engine.engine import Engine
from perdure.server.engine.nexus_tasks import NEXUS_TASK, NexusTasks
from perdure.server.engine.worker_registry import WorkerRegistry
from perdure.server.service import checks
from perdure.server.service.call import Call
from perdure.server.service.worker_tasks import advise, open_token, task_namespace
from perdure.server.service.worker_versions import polled_queue, worker_options, worker_version


class NexusTaskRpcs:
    """Handlers of the RPCs on Nexus tasks.

    Args:
        engine: for matching and tokens.
        tasks: requests that wait for answers.
        workers: a poll may bring heartbeats.
        deployments: where versions of workers are noted.
        long_poll_s: how long a poll waits at most.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: NexusTasks,
        workers: WorkerRegistry,
        deployments: Deployments,
        long_poll_s: float = 60.0,
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._workers = workers
        self._deployments = deployments
        self._limits: Limits = engine.limits.run
        self._long_poll_s = long_poll_s

    async def poll_nexus_task_queue(
        self, request: PollNexusTaskQueueRequest, call: Call
    ) -> PollNexusTaskQueueResponse:
        """PollNexusTaskQueue: waits for a request to a handler; empty when none came in time."""
        namespace = self._engine.namespaces.get(request.namespace)
        timeout_s = checks.long_poll_s(call, self._long_poll_s)
        if checks.too_long(request.identity, self._limits):
            raise InvalidArgumentError("Identity length exceeds limit.")
        version = worker_version(
            request.worker_version_capabilities, request.deployment_options, self._limits
        )
        name = checks.task_queue(request.task_queue if request.HasField("task_queue") else None, self._limits)
        if request.worker_heartbeat:
            self._workers.record(namespace.namespace_id, request.worker_heartbeat)
        key = QueueKey(namespace.namespace_id, name, TaskKind.NEXUS)
        key = await polled_queue(self._deployments, key, request.task_queue, version)
        matching = self._engine.matching
        began_s = asyncio.get_running_loop().time()
        polling = matching.poll(
            key,
            request.identity,
            self._engine.runtime.new_id(),
            timeout_s,
            options=worker_options(request),
        )
        worker = (namespace.namespace_id, request.worker_instance_key)
        delivery = await self._engine.departures.poll(worker, polling)
        if delivery is None:
            return PollNexusTaskQueueResponse()
        if not isinstance(delivery, NexusDelivery):
            raise InvariantViolation("another kind of task in a queue of Nexus tasks")
        response = self._response(delivery)
        advise(matching, key, began_s, response)
        return response

    def _response(self, delivery: NexusDelivery) -> PollNexusTaskQueueResponse:
        now_s = asyncio.get_running_loop().time()
        queue = delivery.queue
        response = PollNexusTaskQueueResponse(
            task_token=self._engine.tokens.seal(NEXUS_TASK, queue.namespace_id, queue.name, delivery.task_id)
        )
        response.request.CopyFrom(delivery.request)
        left_s = max(delivery.deadline_s - now_s, 0.001)
        header = response.request.header
        # The Java SDK reads the one with capitals.
        header["request-timeout"] = header["Request-Timeout"] = f"{left_s:.9f}s"
        if delivery.operation_deadline_s:
            left_ms = max(round((delivery.operation_deadline_s - now_s) * 1000), 0)
            header["operation-timeout"] = f"{left_ms}ms"
        return response

    async def respond_nexus_task_completed(
        self, request: RespondNexusTaskCompletedRequest, call: Call
    ) -> RespondNexusTaskCompletedResponse:
        """RespondNexusTaskCompleted: the handler's answer."""
        namespace = task_namespace(self._engine, request.namespace, request.task_token)
        start = request.response.start_operation
        if not request.task_token:
            open_token(self._engine, NEXUS_TASK, request.task_token, namespace)
        if start.HasField("async_success"):
            token = start.async_success.operation_token or start.async_success.operation_id
            if not token:
                raise InvalidArgumentError("missing opration token in response")
            length, limit = len(token.encode()), self._limits.nexus_token_bytes
            if length > limit:
                raise InvalidArgumentError(f"operation token length exceeds allowed limit ({length}/{limit})")
        fields = open_token(self._engine, NEXUS_TASK, request.task_token, namespace)
        if start.HasField("operation_error"):
            _check_details(start.operation_error.failure)
        self._tasks.answer(str(fields[2]), Answer(response=request.response))
        return RespondNexusTaskCompletedResponse()

    async def respond_nexus_task_failed(
        self, request: RespondNexusTaskFailedRequest, call: Call
    ) -> RespondNexusTaskFailedResponse:
        """RespondNexusTaskFailed: the handler cannot do what it was asked."""
        namespace = task_namespace(self._engine, request.namespace, request.task_token)
        fields = open_token(self._engine, NEXUS_TASK, request.task_token, namespace)
        has_error, has_failure = request.HasField("error"), request.HasField("failure")
        if not has_error and not has_failure:
            raise InvalidArgumentError("request must contain error or failure")
        if has_error:
            _check_details(request.error.failure)
        if has_failure and not request.failure.HasField("nexus_handler_failure_info"):
            raise InvalidArgumentError(
                "request Failure must contain error or failure with NexusHandlerFailureInfo"
            )
        error = request.error if has_error else None
        self._tasks.answer(
            str(fields[2]), Answer(error=error, failure=None if has_error else request.failure)
        )
        return RespondNexusTaskFailedResponse()


def _check_details(failure: Failure) -> None:
    if failure.details:
        try:
            json.loads(failure.details)
        except ValueError as error:
            raise InvalidArgumentError("failure details must be JSON serializable") from error
