"""Requests with which a worker answers workflow tasks and questions. Messages in, messages out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perdure.api.enums.v1 import QueryResultType, TaskQueueKind
from perdure.api.failure.v1 import Failure
from perdure.api.query.v1 import WorkflowQueryResult
from perdure.api.taskqueue.v1 import StickyExecutionAttributes, TaskQueue
from perdure.api.workflowservice.v1 import (
    RespondQueryTaskCompletedRequest,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskFailedRequest,
)
from perdure.core.replay.steps import TaskCompletion, TaskFailure

if TYPE_CHECKING:
    from perdure.worker._environment import Environment


class WorkflowAnswers:
    """Makes the answers of one worker.

    Args:
        environment: Of the worker.
        sticky_queue: Name of the worker's own queue; None without a cache.
        sticky_timeout: For which a task waits there before any worker may take it.
    """

    def __init__(self, environment: Environment, sticky_queue: str | None, sticky_timeout: timedelta) -> None:
        self._environment = environment
        self._sticky: StickyExecutionAttributes | None = None
        if sticky_queue is not None:
            self._sticky = StickyExecutionAttributes(
                worker_task_queue=sticky_task_queue(sticky_queue, environment.task_queue)
            )
            self._sticky.schedule_to_start_timeout.FromTimedelta(sticky_timeout)
        self._common: dict[str, Any] = {
            "identity": environment.identity,
            "namespace": environment.namespace,
        }
        if environment.deployment is not None:
            self._common["deployment_options"] = environment.deployment
        # What every answer says, made once: filling in a message is most of what an answer costs.
        self._completed = RespondWorkflowTaskCompletedRequest(
            sticky_attributes=self._sticky, worker_version_stamp=environment.version_stamp, **self._common
        )
        self._completed.capabilities.discard_speculative_workflow_task_with_events = True

    def completed(
        self, task_token: bytes, completion: TaskCompletion, *, return_new_task: bool
    ) -> RespondWorkflowTaskCompletedRequest:
        """Return the answer to a task that was done."""
        request = RespondWorkflowTaskCompletedRequest()
        request.CopyFrom(self._completed)
        request.task_token = task_token
        request.return_new_workflow_task = return_new_task
        request.commands.extend(completion.commands)
        behavior: Any = completion.versioning_behavior or self._environment.default_versioning_behavior
        if behavior:
            request.versioning_behavior = behavior
        if completion.messages:
            request.messages.extend(completion.messages)
        if completion.force_create_new_workflow_task:
            request.force_create_new_workflow_task = True
        if completion.sdk_metadata is not None:
            request.sdk_metadata.CopyFrom(completion.sdk_metadata)
        if completion.metering_metadata is not None:
            request.metering_metadata.CopyFrom(completion.metering_metadata)
        for query_id, result in completion.query_results.items():
            request.query_results[query_id].CopyFrom(result)
        return request

    def fail_queries(self, request: RespondWorkflowTaskCompletedRequest, failure: Failure) -> None:
        """Put a failure in the place of each answer to a question in an answer that `completed` made."""
        for result in request.query_results.values():
            result.Clear()
            result.result_type = QueryResultType.QUERY_RESULT_TYPE_FAILED
            result.error_message = failure.message
            result.failure.CopyFrom(failure)

    def failed(self, task_token: bytes, failure: TaskFailure) -> RespondWorkflowTaskFailedRequest:
        """Return the answer to a task that could not be done."""
        return RespondWorkflowTaskFailedRequest(
            task_token=task_token,
            cause=failure.cause,
            failure=failure.failure,
            worker_version=self._environment.version_stamp,
            **self._common,
        )

    def query_answered(
        self, task_token: bytes, result: WorkflowQueryResult
    ) -> RespondQueryTaskCompletedRequest:
        """Return the answer to a task that was only a question."""
        return RespondQueryTaskCompletedRequest(
            task_token=task_token,
            namespace=self._environment.namespace,
            completed_type=result.result_type,
            query_result=result.answer if result.HasField("answer") else None,
            error_message=result.error_message,
            failure=result.failure if result.HasField("failure") else None,
        )

    def query_failed(self, task_token: bytes, failure: Failure) -> RespondQueryTaskCompletedRequest:
        """Return the answer to a question that could not be answered because its code could not be run."""
        return RespondQueryTaskCompletedRequest(
            task_token=task_token,
            namespace=self._environment.namespace,
            completed_type=QueryResultType.QUERY_RESULT_TYPE_FAILED,
            error_message=failure.message,
            failure=failure,
        )


def sticky_task_queue(sticky_queue: str, task_queue: str) -> TaskQueue:
    """Return the message that names a worker's own queue."""
    return TaskQueue(name=sticky_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=task_queue)
