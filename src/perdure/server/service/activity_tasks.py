"""RPCs of workers on activities: poll, heartbeat, complete, fail, cancel; by task token or by id."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from perdure.api.common.v1 import Payloads, WorkerVersionStamp
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    RecordActivityTaskHeartbeatByIdRequest,
    RecordActivityTaskHeartbeatByIdResponse,
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
    RespondActivityTaskCanceledByIdRequest,
    RespondActivityTaskCanceledByIdResponse,
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCanceledResponse,
    RespondActivityTaskCompletedByIdRequest,
    RespondActivityTaskCompletedByIdResponse,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskCompletedResponse,
    RespondActivityTaskFailedByIdRequest,
    RespondActivityTaskFailedByIdResponse,
    RespondActivityTaskFailedRequest,
    RespondActivityTaskFailedResponse,
)
from perdure.core.activity.machine import Asked
from perdure.core.errors import InvalidArgumentError, UnavailableError
from perdure.core.run.activity import ActivityToken
from perdure.core.run.failures import oversized, server_failure
from perdure.core.run.records import QueueKey, RunKey, RunKind, TaskKind
from perdure.server.deployments import Deployments
from perdure.server.engine.engine import Engine
from perdure.server.engine.histories import Histories
from perdure.server.engine.rate_limits import NO_LIMIT
from perdure.server.service import checks
from perdure.server.service.activity_answers import Answers, StandaloneAnswers, WorkflowAnswers, find
from perdure.server.service.call import Call
from perdure.server.service.task_responses import ACTIVITY_TASK, STANDALONE_TASK, TaskResponses
from perdure.server.service.worker_tasks import advise, open_any_token, task_namespace
from perdure.server.service.worker_versions import polled_queue, worker_options, worker_version

Named = tuple[Answers, RunKey, ActivityToken]
"""Who takes an answer, and what it is about."""

RESULT_TOO_LARGE = "Complete result exceeds size limit."
HEARTBEAT_TOO_LARGE = "Heartbeat details exceed size limit."
CANCEL_TOO_LARGE = "Cancel details exceed size limit."


class ByToken(Protocol):
    """A request that names its activity by task token."""

    @property
    def namespace(self) -> str: ...
    @property
    def task_token(self) -> bytes: ...


class ById(Protocol):
    """A request that names its activity by id, and by the workflow's if it has one."""

    @property
    def namespace(self) -> str: ...
    @property
    def workflow_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def activity_id(self) -> str: ...


class ActivityTasks:
    """Handlers of the RPCs on activities.

    Args:
        engine: the runs.
        histories: finds runs by workflow id.
        responses: builds answers to polls.
        deployments: where versions of workers are noted.
        long_poll_s: how long a poll waits at most.
    """

    def __init__(
        self,
        engine: Engine,
        histories: Histories,
        responses: TaskResponses,
        deployments: Deployments,
        long_poll_s: float = 60.0,
    ) -> None:
        self._engine = engine
        self._limits = engine.limits.run
        self._histories = histories
        self._responses = responses
        self._deployments = deployments
        self._long_poll_s = long_poll_s
        self._of_workflows: Answers = WorkflowAnswers(engine)
        self._standalone: Answers = StandaloneAnswers(engine)

    async def poll_activity_task_queue(
        self, request: PollActivityTaskQueueRequest, call: Call
    ) -> PollActivityTaskQueueResponse:
        """PollActivityTaskQueue: waits for an activity; empty when none came in time."""
        namespace = self._engine.namespaces.get(request.namespace)
        timeout_s = checks.long_poll_s(call, self._long_poll_s)
        if checks.too_long(request.identity, self._limits):
            raise InvalidArgumentError("Identity length exceeds limit.")
        version = worker_version(
            request.worker_version_capabilities, request.deployment_options, self._limits
        )
        name = checks.task_queue(request.task_queue if request.HasField("task_queue") else None, self._limits)
        key = QueueKey(namespace.namespace_id, name, TaskKind.ACTIVITY)
        key = await polled_queue(self._deployments, key, request.task_queue, version)
        matching = self._engine.matching
        if request.task_queue_metadata.HasField("max_tasks_per_second"):
            per_second = request.task_queue_metadata.max_tasks_per_second.value
            if math.isnan(per_second):
                raise InvalidArgumentError("max_tasks_per_second is no number")
            matching.limit(key, min(max(per_second, 0.0), NO_LIMIT))
        sdk = (call.metadata.get("client-name", ""), call.metadata.get("client-version", ""))
        began_s = asyncio.get_running_loop().time()
        polling = matching.poll(
            key,
            request.identity,
            self._engine.runtime.new_id(),
            timeout_s,
            sdk=sdk,
            deployment_version=version,
            options=worker_options(request),
        )
        worker = (namespace.namespace_id, request.worker_instance_key)
        delivery = await self._engine.departures.poll(worker, polling)
        if delivery is None:
            return PollActivityTaskQueueResponse()
        try:
            response = await self._responses.activity_task(delivery)
            advise(matching, key, began_s, response)
            return response
        except (asyncio.CancelledError, UnavailableError):
            matching.give_back(delivery)
            raise

    # --- by token ---

    async def record_activity_task_heartbeat(
        self, request: RecordActivityTaskHeartbeatRequest, call: Call
    ) -> RecordActivityTaskHeartbeatResponse:
        """RecordActivityTaskHeartbeat: the reply says whether cancellation, a pause or a reset was asked for."""
        details = request.details if request.HasField("details") else None
        asked = await self._heartbeat(self._by_token(request), details, request.identity)
        return RecordActivityTaskHeartbeatResponse(
            cancel_requested=asked.cancel, activity_paused=asked.pause, activity_reset=asked.reset
        )

    async def respond_activity_task_completed(
        self, request: RespondActivityTaskCompletedRequest, call: Call
    ) -> RespondActivityTaskCompletedResponse:
        """RespondActivityTaskCompleted."""
        result = request.result if request.HasField("result") else None
        version = request.worker_version if request.HasField("worker_version") else None
        await self._complete(self._by_token(request), result, request.identity, version)
        return RespondActivityTaskCompletedResponse()

    async def respond_activity_task_failed(
        self, request: RespondActivityTaskFailedRequest, call: Call
    ) -> RespondActivityTaskFailedResponse:
        """RespondActivityTaskFailed: the server decides whether it is retried."""
        version = request.worker_version if request.HasField("worker_version") else None
        complaints = await self._failed(self._by_token(request), request, version)
        return RespondActivityTaskFailedResponse(failures=complaints)

    async def respond_activity_task_canceled(
        self, request: RespondActivityTaskCanceledRequest, call: Call
    ) -> RespondActivityTaskCanceledResponse:
        """RespondActivityTaskCanceled: confirms a requested cancellation."""
        details = request.details if request.HasField("details") else None
        await self._cancel(self._by_token(request), details, request.identity)
        return RespondActivityTaskCanceledResponse()

    # --- by id ---

    async def record_activity_task_heartbeat_by_id(
        self, request: RecordActivityTaskHeartbeatByIdRequest, call: Call
    ) -> RecordActivityTaskHeartbeatByIdResponse:
        """RecordActivityTaskHeartbeatById."""
        details = request.details if request.HasField("details") else None
        asked = await self._heartbeat(await self._by_id(request), details, request.identity)
        return RecordActivityTaskHeartbeatByIdResponse(
            cancel_requested=asked.cancel, activity_paused=asked.pause, activity_reset=asked.reset
        )

    async def respond_activity_task_completed_by_id(
        self, request: RespondActivityTaskCompletedByIdRequest, call: Call
    ) -> RespondActivityTaskCompletedByIdResponse:
        """RespondActivityTaskCompletedById: also completes an activity that no worker has taken yet."""
        result = request.result if request.HasField("result") else None
        await self._complete(await self._by_id(request), result, request.identity, may_wait=True)
        return RespondActivityTaskCompletedByIdResponse()

    async def respond_activity_task_failed_by_id(
        self, request: RespondActivityTaskFailedByIdRequest, call: Call
    ) -> RespondActivityTaskFailedByIdResponse:
        """RespondActivityTaskFailedById."""
        complaints = await self._failed(await self._by_id(request), request)
        return RespondActivityTaskFailedByIdResponse(failures=complaints)

    async def respond_activity_task_canceled_by_id(
        self, request: RespondActivityTaskCanceledByIdRequest, call: Call
    ) -> RespondActivityTaskCanceledByIdResponse:
        """RespondActivityTaskCanceledById."""
        details = request.details if request.HasField("details") else None
        await self._cancel(await self._by_id(request), details, request.identity)
        return RespondActivityTaskCanceledByIdResponse()

    # --- which activity ---

    def _by_token(self, request: ByToken) -> Named:
        namespace = task_namespace(self._engine, request.namespace, request.task_token)
        kinds = (ACTIVITY_TASK, STANDALONE_TASK)
        kind, fields = open_any_token(self._engine, kinds, request.task_token, namespace)
        if kind == STANDALONE_TASK:
            token = ActivityToken(attempt=fields[3], started_ns=fields[4])
            return self._standalone, RunKey(*fields[:3])._replace(kind=RunKind.ACTIVITY), token
        return self._of_workflows, RunKey(*fields[:3]), ActivityToken(*fields[3:])

    async def _by_id(self, request: ById) -> Named:
        namespace = self._engine.namespaces.get(request.namespace)
        if not request.activity_id:
            raise InvalidArgumentError("ActivityId is not set on request.")
        if request.run_id and not checks.is_uuid(request.run_id):
            raise InvalidArgumentError("RunId is not valid UUID.")
        token = ActivityToken(activity_id=request.activity_id)
        if not request.workflow_id:
            run = await find(self._engine, namespace.namespace_id, request.activity_id, request.run_id)
            return self._standalone, run, token
        run = await self._histories.resolve(namespace.namespace_id, request.workflow_id, request.run_id)
        return self._of_workflows, run, token

    # --- what happens to it ---

    async def _heartbeat(self, named: Named, details: Payloads | None, identity: str) -> Asked:
        answers, run, token = named
        if self._too_large(details):
            failure = server_failure(HEARTBEAT_TOO_LARGE, non_retryable=True)
            await answers.fail(run, token, failure, None, identity)
            return Asked(cancel=True)
        return await answers.heartbeat(run, token, details)

    async def _complete(
        self,
        named: Named,
        result: Payloads | None,
        identity: str,
        version: WorkerVersionStamp | None = None,
        *,
        may_wait: bool = False,
    ) -> None:
        answers, run, token = named
        if self._too_large(result):
            failure = server_failure(RESULT_TOO_LARGE, non_retryable=True)
            await answers.fail(run, token, failure, None, identity)
            return
        await answers.complete(run, token, result, identity, version, may_wait=may_wait)

    async def _failed(
        self,
        named: Named,
        request: RespondActivityTaskFailedRequest | RespondActivityTaskFailedByIdRequest,
        version: WorkerVersionStamp | None = None,
    ) -> list[Failure]:
        """A worker reports a failure.

        Returns:
            what could not be taken as it was sent, as failures for the answer.
        """
        answers, run, token = named
        failure = request.failure if request.HasField("failure") else None
        details = request.last_heartbeat_details if request.HasField("last_heartbeat_details") else None
        if failure is not None and not failure.HasField("application_failure_info"):
            raise InvalidArgumentError("Failure must have ApplicationFailureInfo.")
        complaints: list[Failure] = []
        if self._too_large(details):
            complaints.append(server_failure(HEARTBEAT_TOO_LARGE, non_retryable=True))
            details = None
        if failure is not None and self._too_large(failure):
            failure = oversized(failure, self._limits.kept_failure_bytes, non_retryable=True)
            complaints.append(failure)
        await answers.fail(run, token, failure, details, request.identity, version)
        return complaints

    async def _cancel(self, named: Named, details: Payloads | None, identity: str) -> None:
        answers, run, token = named
        if self._too_large(details):
            failure = server_failure(CANCEL_TOO_LARGE, non_retryable=True)
            await answers.fail(run, token, failure, None, identity)
            return
        await answers.cancel(run, token, details, identity)

    def _too_large(self, value: Payloads | Failure | None) -> bool:
        return value is not None and value.ByteSize() > self._limits.blob_bytes
