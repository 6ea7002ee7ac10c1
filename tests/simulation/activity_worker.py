"""The half of a simulated worker that runs activities: as their specification says, and as the seed's faults allow."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from google.protobuf.message import Message

from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCanceledResponse,
    RespondActivityTaskCompletedByIdRequest,
    RespondActivityTaskCompletedByIdResponse,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskCompletedResponse,
    RespondActivityTaskFailedRequest,
    RespondActivityTaskFailedResponse,
)
from perdure.core.run.records import RunKey, RunKind
from tests.simulation.context import Context
from tests.simulation.interpreter import payloads, value_of
from tests.simulation.model import check
from tests.simulation.network import CallFailed
from tests.simulation.program import FAILURE_TYPE, activity_value

POLL_DEADLINE_S = 65.0
TRIES = 6

Answer = TypeVar("Answer", bound=Message)


class ActivityWorker:
    """Runs the activities of one worker process."""

    def __init__(
        self,
        context: Context,
        random: Random,
        namespace: str,
        task_queue: str,
        name: str,
        deployment: WorkerDeploymentOptions | None = None,
    ) -> None:
        self._context = context
        self._loop = context.loop
        self._random = random
        self._namespace = namespace
        self._task_queue = task_queue
        self._name = name
        self._deployment = deployment

    async def poll(self) -> None:
        """Takes activities for ever."""
        request = PollActivityTaskQueueRequest(namespace=self._namespace, identity=self._name)
        request.task_queue.CopyFrom(TaskQueue(name=self._task_queue, kind=1))  # type: ignore[arg-type]
        if self._deployment is not None:
            request.deployment_options.CopyFrom(self._deployment)
        while True:
            try:
                task = await self._context.network.call(
                    request, PollActivityTaskQueueResponse, POLL_DEADLINE_S
                )
            except CallFailed as error:
                self._context.accept(error)
                await self._loop.sleep(self._random.uniform(0.1, 2.0))
                continue
            if task.task_token:
                self._context.start(self._loop.node, self.work(task))

    async def work(self, task: PollActivityTaskQueueResponse) -> None:
        """One attempt of an activity."""
        document = value_of(task.input)
        spec, origin = document["spec"], document["origin"]
        check(origin["namespace"] == self._namespace, "namespaces do not mix", origin)
        check(document["id"] == task.activity_id, "activities do not mix", task.activity_id)
        check(origin["workflow_id"] == task.workflow_execution.workflow_id, "runs do not mix", origin)
        if self._deployment is not None:
            namespace_id, execution = self._context.namespace_ids[self._namespace], task.workflow_execution
            run = RunKey(namespace_id, execution.workflow_id, execution.run_id)
            self._context.oracle.deployments.activity_begins(run, self._name)
        details = value_of(task.heartbeat_details)
        self._context.oracle.attempt_begins(_run_id(task), task.activity_id, task.attempt, details)
        if task.activity_run_id:
            self._context.oracle.standalone.begins(self._standalone(task), task.attempt)
        if self._random.random() < self._context.faults.activity_loss:
            self._context.trace.reach("activity attempt lost")
            return
        if task.attempt <= spec.get("hangs", 0):
            self._context.trace.reach("activity attempt hangs")
            return
        if await self._run(task, spec):
            await self._finish(task, spec)

    async def _run(self, task: PollActivityTaskQueueResponse, spec: dict[str, Any]) -> bool:
        """Spends the activity's time, with heartbeats if it has them. Returns whether it still has to be finished."""
        left_s: float = spec.get("duration_s", 0.0)
        if "heartbeat_s" not in spec:
            if left_s:
                await self._loop.sleep(left_s)
            return True
        beat = 0
        while left_s > 0:
            await self._loop.sleep(min(left_s, spec["heartbeat_s"] * 0.4))
            left_s -= spec["heartbeat_s"] * 0.4
            beat += 1
            asked = await self._heartbeat(task, [task.attempt, beat])
            if asked is None:
                return False
            if asked and spec.get("on_cancel") != "finish":
                await self._confirm_cancel(task)
                return False
        return True

    async def _heartbeat(self, task: PollActivityTaskQueueResponse, details: list[int]) -> bool | None:
        """Sends a heartbeat. Returns whether cancellation is asked for; None when the attempt is over."""
        run_id = _run_id(task)
        request = RecordActivityTaskHeartbeatRequest(
            task_token=task.task_token,
            namespace=self._namespace,
            identity=self._name,
            details=payloads(details),
        )
        self._context.oracle.heartbeat_sent(run_id, task.activity_id, details)
        try:
            response = await self._context.network.call(request, RecordActivityTaskHeartbeatResponse, 3.0)
        except CallFailed as error:
            if error.is_unknown:
                return False
            self._context.accept(error, "NotFoundError")
            return None
        self._context.oracle.heartbeat_acknowledged(run_id, task.activity_id, details)
        return response.cancel_requested

    async def _confirm_cancel(self, task: PollActivityTaskQueueResponse) -> None:
        request = RespondActivityTaskCanceledRequest(
            task_token=task.task_token, namespace=self._namespace, identity=self._name
        )
        if await self._tell(request, RespondActivityTaskCanceledResponse):
            self._recorded(task, "CANCELED")

    async def _finish(self, task: PollActivityTaskQueueResponse, spec: dict[str, Any]) -> None:
        fails = spec.get("hangs", 0) + spec.get("fails", 0)
        if task.attempt <= fails or spec.get("non_retryable"):
            request = RespondActivityTaskFailedRequest(
                task_token=task.task_token, namespace=self._namespace, identity=self._name
            )
            request.failure.message = "planned"
            info = request.failure.application_failure_info
            info.type, info.non_retryable = FAILURE_TYPE, spec.get("non_retryable", False)
            if "delay_s" in spec:
                info.next_retry_delay.FromMilliseconds(int(spec["delay_s"] * 1000))
            if await self._tell(request, RespondActivityTaskFailedResponse) and info.non_retryable:
                self._recorded(task, "FAILED")
            return
        result = payloads(activity_value(task.activity_id))
        if spec.get("by_id"):
            by_id = RespondActivityTaskCompletedByIdRequest(
                namespace=self._namespace,
                workflow_id=task.workflow_execution.workflow_id,
                run_id=_run_id(task),
                activity_id=task.activity_id,
                result=result,
                identity=self._name,
            )
            done = await self._tell(by_id, RespondActivityTaskCompletedByIdResponse)
        else:
            by_token = RespondActivityTaskCompletedRequest(
                task_token=task.task_token, namespace=self._namespace, identity=self._name, result=result
            )
            done = await self._tell(by_token, RespondActivityTaskCompletedResponse)
        if done:
            self._recorded(task, "COMPLETED")

    async def _tell(self, request: Message, answer: type[Answer]) -> bool:
        """Sends an outcome until it is answered. Returns whether it was accepted."""
        for _ in range(TRIES):
            try:
                await self._context.network.call(request, answer)
            except CallFailed as error:
                if error.is_unknown:
                    await self._loop.sleep(self._random.uniform(0.05, 1.0))
                    continue
                self._context.accept(error, "NotFoundError")
                return False
            return True
        return False

    def _recorded(self, task: PollActivityTaskQueueResponse, ends: str) -> None:
        if task.activity_run_id:
            self._context.oracle.standalone.ended(self._standalone(task), ends)
            return
        execution = task.workflow_execution
        namespace_id = self._context.namespace_ids[self._namespace]
        run = RunKey(namespace_id, execution.workflow_id, execution.run_id)
        self._context.oracle.activity_finished(run, task.activity_id, ends)

    def _standalone(self, task: PollActivityTaskQueueResponse) -> RunKey:
        namespace_id = self._context.namespace_ids[self._namespace]
        return RunKey(namespace_id, task.activity_id, task.activity_run_id, RunKind.ACTIVITY)


def _run_id(task: PollActivityTaskQueueResponse) -> str:
    """The run that an activity belongs to: its workflow's, or its own."""
    return task.activity_run_id or task.workflow_execution.run_id
