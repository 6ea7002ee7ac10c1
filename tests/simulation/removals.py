"""Namespaces that are deleted while everything begins and runs in them: their worker, and the client that does it.

Two of the same name, one after the other: what a late request of the first one's time does in the second is part of it.
What happens in them follows no prediction; what matters is that nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from google.protobuf.message import Message

from perdure.api.command.v1 import Command
from perdure.api.enums.v1 import CommandType, TaskQueueType
from perdure.api.operatorservice.v1 import DeleteNamespaceRequest, DeleteNamespaceResponse
from perdure.api.workflowservice.v1 import (
    CreateScheduleRequest,
    CreateScheduleResponse,
    CreateWorkerDeploymentRequest,
    CreateWorkerDeploymentResponse,
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    RegisterNamespaceRequest,
    RegisterNamespaceResponse,
    ResetWorkflowExecutionRequest,
    ResetWorkflowExecutionResponse,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
    StartActivityExecutionRequest,
    StartActivityExecutionResponse,
    StartBatchOperationRequest,
    StartBatchOperationResponse,
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
    UpdateTaskQueueConfigRequest,
    UpdateTaskQueueConfigResponse,
)
from perdure.core.run.records import RunKey, RunKind
from tests.simulation.context import Context
from tests.simulation.loop import Node
from tests.simulation.model import check
from tests.simulation.network import CallFailed
from tests.simulation.removal_oracle import NAME
from tests.simulation.runtime import new_uuid

Response = TypeVar("Response", bound=Message)
SHARE = 0.03
"""Of the seeds, in so many there are such namespaces."""
POLL_DEADLINE_S = 65.0
_SETTLED_S = 30.0
"""After the end of the faults, no late copy of a request arrives and no slow commit is under way."""
_REMOVED_WITHIN_S = 60.0
"""Simulated seconds in which everything must be removed by then."""
_OVER = ("NamespaceNotFoundError", "NotFoundError", "FailedPreconditionError")
"""Errors of calls that come too late."""
_ACTIVITIES = TaskQueueType.Value("TASK_QUEUE_TYPE_ACTIVITY")


def start_worker(context: Context, node: Node) -> None:
    """Starts a worker of these namespaces; it takes what comes, whichever of them is there."""
    context.start(node, _work(context, context.stream("doomed worker")))


async def _work(context: Context, random: Random) -> None:
    request = PollWorkflowTaskQueueRequest(namespace=NAME, identity="doomed worker")
    request.task_queue.name = NAME
    while True:
        try:
            task = await context.network.call(request, PollWorkflowTaskQueueResponse, POLL_DEADLINE_S)
            if task.task_token:
                await context.loop.sleep(random.uniform(0.0, 0.7))
                answer = RespondWorkflowTaskCompletedRequest(namespace=NAME, task_token=task.task_token)
                answer.commands.append(_command(random))
                await context.network.call(answer, RespondWorkflowTaskCompletedResponse)
        except CallFailed as error:
            context.accept(error, *_OVER, "InvalidArgumentError")
            await context.loop.sleep(random.uniform(0.1, 2.0))


def _command(random: Random) -> Command:
    """Something that makes more of a run, or ends it."""
    names = ("START_TIMER", "START_CHILD_WORKFLOW_EXECUTION", "CONTINUE_AS_NEW_WORKFLOW_EXECUTION")
    name = random.choice((*names, "COMPLETE_WORKFLOW_EXECUTION"))
    command = Command(command_type=CommandType.Value(f"COMMAND_TYPE_{name}"))
    if name == "START_TIMER":
        command.start_timer_command_attributes.timer_id = new_uuid(random)
        command.start_timer_command_attributes.start_to_fire_timeout.seconds = 2
    elif name == "START_CHILD_WORKFLOW_EXECUTION":
        child = command.start_child_workflow_execution_command_attributes
        child.workflow_id, child.workflow_type.name, child.task_queue.name = new_uuid(random), NAME, NAME
    elif name == "CONTINUE_AS_NEW_WORKFLOW_EXECUTION":
        following = command.continue_as_new_workflow_execution_command_attributes
        following.workflow_type.name = following.task_queue.name = NAME
    else:
        command.complete_workflow_execution_command_attributes.SetInParent()
    return command


class RemovalClient:
    """A client that makes namespaces, begins things in them, and deletes them meanwhile.

    Args:
        context: the world.
        node: the process.
    """

    def __init__(self, context: Context, node: Node) -> None:
        self._context = context
        self._loop = context.loop
        self._node = node
        self._random = context.stream("removals client")
        self._oracle = context.oracle.removals
        self.unfinished = 0
        self._begin(self._live())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.unfinished += 1
        self._context.start(self._node, work).add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self.unfinished -= 1

    async def _call(self, request: Message, response: type[Response], *allowed: str) -> Response | CallFailed:
        """Calls until there is an answer; errors whose names are allowed are answers too."""
        while True:
            try:
                return await self._context.network.call(request, response)
            except CallFailed as error:
                self._context.accept(error, *allowed)
                if not error.is_unknown:
                    return error
                await self._loop.sleep(self._random.uniform(0.05, 2.0))

    # --- the namespaces

    async def _live(self) -> None:
        before = ""
        for _ in range(2):
            await self._loop.sleep(self._random.uniform(0, 3))
            await self._register()
            namespace_id = await self._find()
            check(
                bool(namespace_id) and namespace_id != before,
                "a name is free once its namespace is deleted",
                before,
            )
            within_s = self._random.uniform(1, 20)
            acts = (
                self._workflow,
                self._workflow,
                self._activity,
                self._schedule,
                self._deployment,
                self._queue_config,
                self._batch,
            )
            for _ in range(self._random.randint(4, 14)):
                self._begin(
                    self._after(
                        self._random.uniform(0, within_s + 1), self._random.choice(acts), namespace_id
                    )
                )
            await self._loop.sleep(within_s)
            await self._delete(namespace_id)
            before = namespace_id
        await self._see_them_go()

    async def _after(
        self, delay_s: float, act: Callable[[str], Coroutine[Any, Any, None]], namespace_id: str
    ) -> None:
        await self._loop.sleep(delay_s)
        await act(namespace_id)

    async def _register(self) -> None:
        request = RegisterNamespaceRequest(namespace=NAME)
        request.workflow_execution_retention_period.seconds = 86_400
        await self._call(request, RegisterNamespaceResponse, "NamespaceAlreadyExistsError")

    async def _find(self) -> str:
        """The id of the namespace of this name; "" if there is none."""
        request = DescribeNamespaceRequest(namespace=NAME)
        answer = await self._call(request, DescribeNamespaceResponse, "NamespaceNotFoundError")
        return "" if isinstance(answer, CallFailed) else answer.namespace_info.id

    async def _delete(self, namespace_id: str) -> None:
        """By its id: a late copy of the request must not meet the next one."""
        self._oracle.asked.add(namespace_id)
        request = DeleteNamespaceRequest(namespace_id=namespace_id)
        await self._call(request, DeleteNamespaceResponse, "NamespaceNotFoundError")
        self._context.trace.reach("removal: namespace deleted")

    async def _see_them_go(self) -> None:
        """Deletes what a late copy of a request has made again; once none can come any more, all must go."""
        calm_since_s = self._context.calm_since_s
        while calm_since_s is None or self._loop.time() < calm_since_s + _SETTLED_S:
            await self._loop.sleep(1.0)
            calm_since_s = self._context.calm_since_s
        if namespace_id := await self._find():
            await self._delete(namespace_id)
        await self._loop.sleep(_REMOVED_WITHIN_S)
        self._oracle.check_gone()

    # --- what is begun in them

    async def _workflow(self, namespace_id: str) -> None:
        random = self._random
        request = StartWorkflowExecutionRequest(
            namespace=NAME,
            workflow_id=f"w{random.randint(0, 9)}",
            request_id=new_uuid(random),
            identity="client",
        )
        request.workflow_type.name = request.task_queue.name = NAME
        request.workflow_start_delay.seconds = random.choice((0, 0, 2))
        answer = await self._call(
            request, StartWorkflowExecutionResponse, *_OVER, "WorkflowAlreadyStartedError"
        )
        if isinstance(answer, CallFailed):
            return
        self._started(RunKey(namespace_id, request.workflow_id, answer.run_id))
        await self._loop.sleep(random.uniform(0, 4))
        reset = ResetWorkflowExecutionRequest(
            namespace=NAME, workflow_task_finish_event_id=4, request_id=new_uuid(random), reason="planned"
        )
        reset.workflow_execution.workflow_id = request.workflow_id
        reset.workflow_execution.run_id = answer.run_id
        again = await self._call(reset, ResetWorkflowExecutionResponse, *_OVER, "InvalidArgumentError")
        if not isinstance(again, CallFailed):
            self._context.trace.reach("removal: workflow reset")

    async def _activity(self, namespace_id: str) -> None:
        random = self._random
        request = StartActivityExecutionRequest(
            namespace=NAME, activity_id=f"a{random.randint(0, 9)}", request_id=new_uuid(random)
        )
        request.activity_type.name = request.task_queue.name = NAME
        request.start_to_close_timeout.seconds = 10
        request.schedule_to_close_timeout.seconds = random.choice((2, 1000))
        answer = await self._call(
            request, StartActivityExecutionResponse, *_OVER, "ActivityAlreadyStartedError"
        )
        if not isinstance(answer, CallFailed):
            self._started(RunKey(namespace_id, request.activity_id, answer.run_id, RunKind.ACTIVITY))

    def _started(self, run: RunKey) -> None:
        """The run is there, unless a request that was repeated has met the next namespace of this name."""
        if run.namespace_id not in self._oracle.asked:
            self._oracle.started(run)

    async def _schedule(self, namespace_id: str) -> None:
        random = self._random
        request = CreateScheduleRequest(
            namespace=NAME, schedule_id=f"s{random.randint(0, 4)}", request_id=new_uuid(random)
        )
        template = request.schedule.action.start_workflow
        template.workflow_id = template.workflow_type.name = template.task_queue.name = NAME
        request.schedule.spec.interval.add().interval.FromSeconds(random.choice((1, 3)))
        if random.random() < 0.5:
            request.initial_patch.trigger_immediately.SetInParent()
        await self._call(request, CreateScheduleResponse, *_OVER, "WorkflowAlreadyStartedError")

    async def _deployment(self, namespace_id: str) -> None:
        name = f"d{self._random.randint(0, 4)}"
        request = CreateWorkerDeploymentRequest(
            namespace=NAME, deployment_name=name, request_id=new_uuid(self._random)
        )
        await self._call(request, CreateWorkerDeploymentResponse, *_OVER, "AlreadyExistsError")

    async def _queue_config(self, namespace_id: str) -> None:
        queue = f"q{self._random.randint(0, 4)}"
        request = UpdateTaskQueueConfigRequest(
            namespace=NAME, task_queue=queue, task_queue_type=_ACTIVITIES, identity="operator"
        )
        request.update_queue_rate_limit.rate_limit.requests_per_second = 1.0
        await self._call(request, UpdateTaskQueueConfigResponse, *_OVER)

    async def _batch(self, namespace_id: str) -> None:
        request = StartBatchOperationRequest(
            namespace=NAME,
            job_id=new_uuid(self._random),
            reason="planned",
            visibility_query="WorkflowType='doomed'",
        )
        if self._random.random() < 0.5:
            request.termination_operation.identity = "operator"
        else:
            request.signal_operation.signal = "planned"
        await self._call(request, StartBatchOperationResponse, *_OVER, "WorkflowAlreadyStartedError")
