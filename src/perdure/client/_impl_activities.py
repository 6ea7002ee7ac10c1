"""Calls about activities: inputs to requests, answers and errors to what the caller gets.

May live here: requests of activities, those started by a client and those completed from outside. May not: public forms
of calls (`_client_activities`, `_activity`, `_async_activity`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from perdure.api.common import v1 as common_api
from perdure.api.errordetails import v1 as errordetails
from perdure.api.failure import v1 as failure_api
from perdure.api.taskqueue import v1 as taskqueue_api
from perdure.api.workflowservice import v1 as service_api
from perdure.client._activity import ActivityHandle
from perdure.client._activity_execution import (
    ActivityExecutionAsyncIterator,
    ActivityExecutionCount,
    ActivityExecutionDescription,
)
from perdure.client._activity_options import ActivityExecutionOptions
from perdure.client._async_activity import AsyncActivityIDReference
from perdure.client._exceptions import AsyncActivityCancelledError
from perdure.client._impl_base import ImplBase
from perdure.client._inputs_activity import (
    CancelActivityInput,
    CompleteAsyncActivityInput,
    CountActivitiesInput,
    DescribeActivityInput,
    FailAsyncActivityInput,
    HeartbeatAsyncActivityInput,
    ListActivitiesInput,
    PauseActivityInput,
    ReportCancellationAsyncActivityInput,
    StartActivityInput,
    TerminateActivityInput,
    UnpauseActivityInput,
    UpdateActivityOptionsInput,
)
from perdure.client._links import ServedOperation, served_operation
from perdure.client._wire import _encode_user_metadata, callback_messages, enum_value, new_request_id
from perdure.common import Priority, _arg_unset
from perdure.converter import (
    ActivitySerializationContext,
    DataConverter,
    StorageDriverActivityInfo,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
    encode_search_attributes,
)
from perdure.exceptions import ActivityAlreadyStartedError
from perdure.service import RPCError
from perdure.service._errors import detail_of

AsyncInput = (
    HeartbeatAsyncActivityInput
    | CompleteAsyncActivityInput
    | FailAsyncActivityInput
    | ReportCancellationAsyncActivityInput
)

_DURATION_OPTIONS = frozenset(
    {
        "schedule_to_close_timeout",
        "schedule_to_start_timeout",
        "start_to_close_timeout",
        "heartbeat_timeout",
        "start_delay",
    }
)


class _Report(NamedTuple):
    """One kind of report about an activity: its two RPCs and their requests, by token and by ids."""

    by_token: str
    token_request: str
    by_id: str
    id_request: str


_HEARTBEAT = _Report(
    "record_activity_task_heartbeat",
    "RecordActivityTaskHeartbeatRequest",
    "record_activity_task_heartbeat_by_id",
    "RecordActivityTaskHeartbeatByIdRequest",
)
_COMPLETED = _Report(
    "respond_activity_task_completed",
    "RespondActivityTaskCompletedRequest",
    "respond_activity_task_completed_by_id",
    "RespondActivityTaskCompletedByIdRequest",
)
_FAILED = _Report(
    "respond_activity_task_failed",
    "RespondActivityTaskFailedRequest",
    "respond_activity_task_failed_by_id",
    "RespondActivityTaskFailedByIdRequest",
)
_CANCELED = _Report(
    "respond_activity_task_canceled",
    "RespondActivityTaskCanceledRequest",
    "respond_activity_task_canceled_by_id",
    "RespondActivityTaskCanceledByIdRequest",
)


def _serve_with(
    request: service_api.StartActivityExecutionRequest, operation: ServedOperation, input: StartActivityInput
) -> None:
    """Link an activity with who called the operation that starts it; starting it again starts nothing.

    An activity that answers the operation has those links in its callbacks.
    """
    request.request_id = input.request_id or operation.request_id
    request.completion_callbacks.extend(callback_messages(input.callbacks, input.links))
    if not request.completion_callbacks:
        request.links.extend(operation.request_links())
    if request.links or request.completion_callbacks:
        # If the activity runs already, it is linked all the same, and answers this operation as well.
        request.on_conflict_options.attach_request_id = True
        request.on_conflict_options.attach_completion_callbacks = True
        request.on_conflict_options.attach_links = True


class ActivityCalls(ImplBase):
    """The client's end of calls about activities."""

    async def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        if not (input.start_to_close_timeout or input.schedule_to_close_timeout):
            raise ValueError("Activity must have start_to_close_timeout or schedule_to_close_timeout")
        if input.start_delay is not None and input.start_delay < timedelta(0):
            raise ValueError("start_delay must be non-negative")
        request = await self._start_activity_request(input)
        operation = served_operation.get()
        if operation is not None:
            _serve_with(request, operation, input)
        try:
            response = await self._call(
                self._client.workflow_service.start_activity_execution, request, input
            )
        except RPCError as error:
            taken = detail_of(error, errordetails.ActivityExecutionAlreadyStartedFailure)
            if taken is not None:
                raise ActivityAlreadyStartedError(
                    input.id, input.activity_type, run_id=taken.run_id
                ) from None
            raise
        if operation is not None:
            operation.take_activity(self._client.namespace, input.id, response)
        return ActivityHandle(self._client, input.id, run_id=response.run_id, result_type=input.result_type)

    async def _start_activity_request(
        self, input: StartActivityInput
    ) -> service_api.StartActivityExecutionRequest:
        namespace = self._client.namespace
        converter = self._client.data_converter._with_contexts(
            ActivitySerializationContext(
                namespace=namespace,
                activity_id=input.id,
                activity_type=input.activity_type,
                activity_task_queue=input.task_queue,
                is_local=False,
                workflow_id=None,
                workflow_type=None,
            ),
            StorageDriverStoreContext(
                target=StorageDriverActivityInfo(id=input.id, type=input.activity_type, namespace=namespace)
            ),
        )
        request = service_api.StartActivityExecutionRequest(
            namespace=namespace,
            identity=self._client.identity,
            request_id=new_request_id(),
            activity_id=input.id,
            activity_type=common_api.ActivityType(name=input.activity_type),
            task_queue=taskqueue_api.TaskQueue(name=input.task_queue),
            id_reuse_policy=enum_value(input.id_reuse_policy),
            id_conflict_policy=enum_value(input.id_conflict_policy),
        )
        for name in _DURATION_OPTIONS:
            value = getattr(input, name)
            if value is not None:
                getattr(request, name).FromTimedelta(value)
        if input.retry_policy is not None:
            input.retry_policy.apply_to_proto(request.retry_policy)
        if input.args:
            request.input.payloads.extend(await converter.encode(input.args))
        if input.search_attributes is not None:
            encode_search_attributes(input.search_attributes, request.search_attributes)
        user_metadata = await _encode_user_metadata(converter, input.summary, None)
        if user_metadata is not None:
            request.user_metadata.CopyFrom(user_metadata)
        if input.headers:
            await self._apply_headers(input.headers, request.header.fields)
        if input.priority is not Priority.default:
            request.priority.CopyFrom(input.priority._to_proto())
        return request

    async def cancel_activity(self, input: CancelActivityInput) -> None:
        request = service_api.RequestCancelActivityExecutionRequest(**self._named(input))
        await self._call(self._client.workflow_service.request_cancel_activity_execution, request, input)

    async def terminate_activity(self, input: TerminateActivityInput) -> None:
        request = service_api.TerminateActivityExecutionRequest(**self._named(input))
        await self._call(self._client.workflow_service.terminate_activity_execution, request, input)

    async def pause_activity(self, input: PauseActivityInput) -> None:
        request = service_api.PauseActivityExecutionRequest(**self._named(input))
        await self._call(self._client.workflow_service.pause_activity_execution, request, input)

    async def unpause_activity(self, input: UnpauseActivityInput) -> None:
        request = service_api.UnpauseActivityExecutionRequest(**self._named(input))
        if input.jitter is not None:
            request.jitter.FromTimedelta(input.jitter)
        await self._call(self._client.workflow_service.unpause_activity_execution, request, input)

    def _named(
        self, input: CancelActivityInput | TerminateActivityInput | PauseActivityInput | UnpauseActivityInput
    ) -> dict[str, Any]:
        """The fields that all requests to do something to an activity have."""
        return {
            "namespace": self._client.namespace,
            "activity_id": input.activity_id,
            "run_id": input.activity_run_id or "",
            "identity": self._client.identity,
            "request_id": new_request_id(),
            "reason": input.reason or "",
        }

    async def update_activity_options(self, input: UpdateActivityOptionsInput) -> ActivityExecutionOptions:
        if input.restore_original and input.updates:
            raise ValueError("restore_original cannot be combined with individual option updates")
        request = service_api.UpdateActivityExecutionOptionsRequest(
            namespace=self._client.namespace,
            activity_id=input.activity_id,
            run_id=input.activity_run_id or "",
            identity=self._client.identity,
            request_id=new_request_id(),
            restore_original=input.restore_original,
        )
        for update in input.updates:
            if update.key.name in request.update_mask.paths:
                raise ValueError(f"update_options received more than one update for {update.key.name}")
            request.update_mask.paths.append(update.key.name)
            if update.value is not None:
                _set_option(request.activity_options, update.key.name, update.value)
        response = await self._call(
            self._client.workflow_service.update_activity_execution_options, request, input
        )
        return ActivityExecutionOptions._from_proto(response.activity_options)

    async def describe_activity(self, input: DescribeActivityInput) -> ActivityExecutionDescription:
        namespace = self._client.namespace
        response = await self._call(
            self._client.workflow_service.describe_activity_execution,
            service_api.DescribeActivityExecutionRequest(
                namespace=namespace,
                activity_id=input.activity_id,
                run_id=input.activity_run_id or "",
                include_input=input.include_input,
                include_outcome=input.include_outcome,
                include_heartbeat_details=input.include_heartbeat_details,
                include_last_failure=input.include_last_failure,
            ),
            input,
        )
        context = ActivitySerializationContext(
            namespace=namespace,
            activity_id=response.info.activity_id,
            activity_type=response.info.activity_type.name,
            activity_task_queue=response.info.task_queue,
            is_local=False,
            workflow_id=None,
            workflow_type=None,
        )
        converter = self._client.data_converter.with_context(context)
        return ActivityExecutionDescription._from_resp(response, namespace, converter)

    def list_activities(self, input: ListActivitiesInput) -> ActivityExecutionAsyncIterator:
        return ActivityExecutionAsyncIterator(self._client, input)

    async def count_activities(self, input: CountActivitiesInput) -> ActivityExecutionCount:
        request = service_api.CountActivityExecutionsRequest(
            namespace=self._client.namespace, query=input.query or ""
        )
        return ActivityExecutionCount._from_raw(
            await self._call(self._client.workflow_service.count_activity_executions, request, input)
        )

    async def heartbeat_async_activity(self, input: HeartbeatAsyncActivityInput) -> None:
        details = await self._async_converter(input).encode_wrapper(input.details) if input.details else None
        response = await self._report(_HEARTBEAT, input, details=details)
        if response.cancel_requested or response.activity_paused or response.activity_reset:
            from perdure.activity import ActivityCancellationDetails

            raise AsyncActivityCancelledError(
                ActivityCancellationDetails(
                    cancel_requested=response.cancel_requested,
                    paused=response.activity_paused,
                    reset=response.activity_reset,
                )
            )

    async def complete_async_activity(self, input: CompleteAsyncActivityInput) -> None:
        result = None
        if input.result is not _arg_unset:
            result = await self._async_converter(input).encode_wrapper([input.result])
        await self._report(_COMPLETED, input, result=result)

    async def fail_async_activity(self, input: FailAsyncActivityInput) -> None:
        converter = self._async_converter(input)
        failure = failure_api.Failure()
        await converter.encode_failure(input.error, failure)
        details = input.last_heartbeat_details
        last_heartbeat_details = await converter.encode_wrapper(details) if details else None
        await self._report(_FAILED, input, failure=failure, last_heartbeat_details=last_heartbeat_details)

    async def report_cancellation_async_activity(self, input: ReportCancellationAsyncActivityInput) -> None:
        details = await self._async_converter(input).encode_wrapper(input.details) if input.details else None
        await self._report(_CANCELED, input, details=details)

    async def _report(self, report: _Report, input: AsyncInput, **fields: Any) -> Any:
        """Send a report about an activity named by ids or by a task token."""
        reference = input.id_or_token
        fields |= {"namespace": self._client.namespace, "identity": self._client.identity}
        if isinstance(reference, AsyncActivityIDReference):
            name, request_name = report.by_id, report.id_request
            fields |= {
                "workflow_id": reference.workflow_id or "",
                "run_id": reference.run_id or "",
                "activity_id": reference.activity_id,
            }
        else:
            name, request_name = report.by_token, report.token_request
            fields["task_token"] = reference
        request = getattr(service_api, request_name)(**fields)
        return await self._call(getattr(self._client.workflow_service, name), request, input)

    def _async_converter(self, input: AsyncInput) -> DataConverter:
        converter = input.data_converter_override or self._client.data_converter
        reference = input.id_or_token
        namespace = self._client.namespace
        target: StorageDriverWorkflowInfo | StorageDriverActivityInfo | None = None
        if isinstance(reference, AsyncActivityIDReference):
            run_id = reference.run_id or None
            if reference.workflow_id:
                target = StorageDriverWorkflowInfo(
                    id=reference.workflow_id, run_id=run_id, namespace=namespace
                )
            else:
                target = StorageDriverActivityInfo(
                    id=reference.activity_id, run_id=run_id, namespace=namespace
                )
        return converter._with_store_context(StorageDriverStoreContext(target=target))


def _set_option(options: Any, name: str, value: Any) -> None:
    if name == "task_queue.name":
        options.task_queue.name = value
    elif name == "retry_policy":
        value.apply_to_proto(options.retry_policy)
    elif name == "priority":
        options.priority.CopyFrom(value._to_proto())
    elif name in _DURATION_OPTIONS:
        getattr(options, name).FromTimedelta(value)
    else:
        raise ValueError(f"There is no activity option {name!r}: use the keys of ActivityOptionsKeys")
