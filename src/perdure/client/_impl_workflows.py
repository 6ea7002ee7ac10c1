"""Calls about workflows: inputs to requests, answers and errors to what the caller gets.

May live here: requests of workflows and their updates. May not: public forms of calls (`_client`, `_workflow`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from perdure.api.common import v1 as common_api
from perdure.api.enums import v1 as enums
from perdure.api.errordetails import v1 as errordetails
from perdure.api.failure import v1 as failure_api
from perdure.api.update import v1 as update_api
from perdure.api.workflowservice import v1 as service_api
from perdure.client._exceptions import (
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from perdure.client._execution import (
    WorkflowExecutionAsyncIterator,
    WorkflowExecutionCount,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
)
from perdure.client._history import WorkflowHistoryEventAsyncIterator
from perdure.client._impl_base import ImplBase
from perdure.client._inputs_workflow import (
    CancelWorkflowInput,
    CountWorkflowsInput,
    DescribeWorkflowInput,
    FetchWorkflowHistoryEventsInput,
    ListWorkflowsInput,
    QueryWorkflowInput,
    SignalWorkflowInput,
    StartWorkflowInput,
    StartWorkflowUpdateInput,
    StartWorkflowUpdateWithStartInput,
    TerminateWorkflowInput,
    UpdateWithStartStartWorkflowInput,
    UpdateWithStartUpdateWorkflowInput,
)
from perdure.client._links import served_operation
from perdure.client._results import single_value
from perdure.client._update import WAIT_ENDED, WorkflowUpdateHandle, WorkflowUpdateStage
from perdure.client._wire import _encode_user_metadata, callback_messages, enum_value, new_request_id
from perdure.client._workflow import WorkflowHandle
from perdure.common import Priority
from perdure.converter import encode_search_attributes
from perdure.exceptions import WorkflowAlreadyStartedError
from perdure.service import RPCError, RPCStatusCode
from perdure.service._errors import detail_of
from perdure.service.eager_workflows import Reservation, reserve

_ACCEPTED = int(enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED)


class WorkflowCalls(ImplBase):
    """The client's end of calls about workflows."""

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        service = self._client.workflow_service
        # A first task comes with the answer only if a worker of this connection waits for it.
        reservation: Reservation | None = None
        if input.request_eager_start and input.start_signal is None:
            reservation = reserve(self._client.service_client, self._client.namespace, input.task_queue)
        try:
            if input.start_signal is None:
                response = await service.start_workflow_execution(
                    await self._start_request(input, is_eager=reservation is not None),
                    retry=True,
                    metadata=input.rpc_metadata,
                    timeout=input.rpc_timeout,
                )
                if reservation is not None and response.HasField("eager_workflow_task"):
                    reservation.take(response.eager_workflow_task)
                    reservation = None
            else:
                response = await service.signal_with_start_workflow_execution(
                    await self._signal_with_start_request(input),
                    retry=True,
                    metadata=input.rpc_metadata,
                    timeout=input.rpc_timeout,
                )
        except RPCError as error:
            raise _already_started(error, input) or error from None
        finally:
            if reservation is not None:
                reservation.release()
        operation = served_operation.get()
        if operation is not None:
            operation.take_start(self._client.namespace, input.id, response)
        handle: WorkflowHandle[Any, Any] = WorkflowHandle(
            self._client,
            input.id,
            result_run_id=response.run_id,
            first_execution_run_id=response.run_id if input.start_signal is None else None,
            result_type=input.ret_type,
            start_workflow_response=response,
        )
        if input.request_eager_start:
            eagerly_started = input.start_signal is None and response.HasField("eager_workflow_task")
            # The name is the official SDK's; its users' tests read it. (As an attribute it would be mangled.)
            vars(handle)["__temporal_eagerly_started"] = eagerly_started
        return handle

    async def _start_request(
        self, input: StartWorkflowInput, *, is_eager: bool
    ) -> service_api.StartWorkflowExecutionRequest:
        request = service_api.StartWorkflowExecutionRequest(request_eager_execution=is_eager)
        await self._fill_start(request, input)
        request.request_id = input.request_id or request.request_id
        request.completion_callbacks.extend(callback_messages(input.callbacks, input.links))
        # Older servers read the links here, and not from the callbacks.
        request.links.extend(input.links)
        operation = served_operation.get()
        if operation is not None:
            # If the workflow runs already, it answers this operation as well.
            request.on_conflict_options.attach_request_id = True
            request.on_conflict_options.attach_completion_callbacks = True
            request.on_conflict_options.attach_links = True
            if not input.request_id:
                request.links.extend(operation.request_links())
        return request

    async def _signal_with_start_request(
        self, input: StartWorkflowInput
    ) -> service_api.SignalWithStartWorkflowExecutionRequest:
        request = service_api.SignalWithStartWorkflowExecutionRequest(signal_name=input.start_signal or "")
        if input.start_signal_args:
            converter = self._workflow_converter(input.id, workflow_type=input.workflow)
            request.signal_input.payloads.extend(await converter.encode(input.start_signal_args))
        await self._fill_start(request, input)
        request.request_id = input.request_id or request.request_id
        operation = served_operation.get()
        if operation is not None:
            request.links.extend(operation.request_links())
        return request

    async def _fill_start(
        self,
        request: service_api.StartWorkflowExecutionRequest
        | service_api.SignalWithStartWorkflowExecutionRequest,
        input: StartWorkflowInput | UpdateWithStartStartWorkflowInput,
    ) -> None:
        """Fill in what all ways to start a workflow have in common; fields left at their defaults are not touched."""
        converter = self._workflow_converter(input.id, workflow_type=input.workflow)
        request.namespace = self._client.namespace
        request.workflow_id = input.id
        request.workflow_type.name = input.workflow
        request.task_queue.name = input.task_queue
        request.identity = self._client.identity
        request.request_id = new_request_id()
        request.workflow_id_reuse_policy = enum_value(input.id_reuse_policy)
        request.workflow_id_conflict_policy = enum_value(input.id_conflict_policy)
        if input.args:
            request.input.payloads.extend(await converter.encode(input.args))
        if input.execution_timeout is not None:
            request.workflow_execution_timeout.FromTimedelta(input.execution_timeout)
        if input.run_timeout is not None:
            request.workflow_run_timeout.FromTimedelta(input.run_timeout)
        if input.task_timeout is not None:
            request.workflow_task_timeout.FromTimedelta(input.task_timeout)
        if input.start_delay is not None:
            request.workflow_start_delay.FromTimedelta(input.start_delay)
        if input.retry_policy is not None:
            input.retry_policy.apply_to_proto(request.retry_policy)
        if input.cron_schedule:
            request.cron_schedule = input.cron_schedule
        if input.memo is not None:
            await converter._encode_memo_existing(input.memo, request.memo)
        if input.search_attributes is not None:
            encode_search_attributes(input.search_attributes, request.search_attributes)
        user_metadata = await _encode_user_metadata(converter, input.static_summary, input.static_details)
        if user_metadata is not None:
            request.user_metadata.CopyFrom(user_metadata)
        if input.headers:
            await self._apply_headers(input.headers, request.header.fields)
        if input.priority is not Priority.default:
            request.priority.CopyFrom(input.priority._to_proto())
        if input.versioning_override is not None:
            request.versioning_override.CopyFrom(input.versioning_override._to_proto())
        if input.time_skipping_config is not None:
            request.time_skipping_config.CopyFrom(input.time_skipping_config)

    async def cancel_workflow(self, input: CancelWorkflowInput) -> None:
        await self._call(
            self._client.workflow_service.request_cancel_workflow_execution,
            service_api.RequestCancelWorkflowExecutionRequest(
                namespace=self._client.namespace,
                workflow_execution=_execution(input.id, input.run_id),
                identity=self._client.identity,
                request_id=new_request_id(),
                first_execution_run_id=input.first_execution_run_id or "",
                reason=input.reason,
            ),
            input,
        )

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:
        response = await self._call(
            self._client.workflow_service.describe_workflow_execution,
            service_api.DescribeWorkflowExecutionRequest(
                namespace=self._client.namespace, execution=_execution(input.id, input.run_id)
            ),
            input,
        )
        converter = self._workflow_converter(input.id)
        return await WorkflowExecutionDescription._from_raw_description(
            response, namespace=self._client.namespace, converter=converter
        )

    def fetch_workflow_history_events(
        self, input: FetchWorkflowHistoryEventsInput
    ) -> WorkflowHistoryEventAsyncIterator:
        return WorkflowHistoryEventAsyncIterator(self._client, input)

    def list_workflows(self, input: ListWorkflowsInput) -> WorkflowExecutionAsyncIterator:
        return WorkflowExecutionAsyncIterator(self._client, input)

    async def count_workflows(self, input: CountWorkflowsInput) -> WorkflowExecutionCount:
        request = service_api.CountWorkflowExecutionsRequest(
            namespace=self._client.namespace, query=input.query or ""
        )
        return WorkflowExecutionCount._from_raw(
            await self._call(self._client.workflow_service.count_workflow_executions, request, input)
        )

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        converter = self._workflow_converter(input.id, run_id=input.run_id)
        request = service_api.QueryWorkflowRequest(
            namespace=self._client.namespace,
            execution=_execution(input.id, input.run_id),
            query_reject_condition=enum_value(input.reject_condition),
        )
        request.query.query_type = input.query
        if input.args:
            request.query.query_args.payloads.extend(await converter.encode(input.args))
        if input.headers:
            await self._apply_headers(input.headers, request.query.header.fields)
        try:
            response = await self._call(self._client.workflow_service.query_workflow, request, input)
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT:
                raise WorkflowQueryFailedError(error.message) from error
            raise
        operation = served_operation.get()
        if operation is not None and response.HasField("link"):
            operation.take_link(response.link)
        if response.HasField("query_rejected"):
            status = response.query_rejected.status
            raise WorkflowQueryRejectedError(WorkflowExecutionStatus(status) if status else None)
        return await single_value(converter, response.query_result, input.ret_type, "query")

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        request = service_api.SignalWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=_execution(input.id, input.run_id),
            signal_name=input.signal,
            identity=self._client.identity,
            request_id=input.request_id or new_request_id(),
        )
        if input.args:
            converter = self._workflow_converter(input.id, run_id=input.run_id)
            request.input.payloads.extend(await converter.encode(input.args))
        if input.headers:
            await self._apply_headers(input.headers, request.header.fields)
        operation = served_operation.get()
        if operation is not None:
            request.links.extend(operation.request_links())
        response = await self._call(self._client.workflow_service.signal_workflow_execution, request, input)
        if operation is not None and response.HasField("link"):
            operation.take_link(response.link)

    async def terminate_workflow(self, input: TerminateWorkflowInput) -> None:
        request = service_api.TerminateWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=_execution(input.id, input.run_id),
            reason=input.reason or "",
            identity=self._client.identity,
            first_execution_run_id=input.first_execution_run_id or "",
        )
        if input.args:
            converter = self._workflow_converter(input.id, run_id=input.run_id)
            request.details.payloads.extend(await converter.encode(input.args))
        await self._call(self._client.workflow_service.terminate_workflow_execution, request, input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        request = await self._update_request(
            input, input.id, run_id=input.run_id, first_run_id=input.first_execution_run_id
        )
        request.request.request_id = input.request_id or ""
        request.request.completion_callbacks.extend(callback_messages(input.callbacks, input.links))
        request.request.links.extend(input.links)
        response = service_api.UpdateWorkflowExecutionResponse()
        try:
            # A server whose time is up answers with the stage reached so far; then it is asked again.
            while response.stage < _ACCEPTED:
                response = await self._call(
                    self._client.workflow_service.update_workflow_execution, request, input
                )
        except RPCError as error:
            if error.status in WAIT_ENDED:
                raise WorkflowUpdateRPCTimeoutOrCancelledError from error
            raise
        except asyncio.CancelledError as error:
            raise WorkflowUpdateRPCTimeoutOrCancelledError from error
        operation = served_operation.get()
        if operation is not None and response.HasField("link"):
            operation.take_link(response.link)
        handle: WorkflowUpdateHandle[Any] = WorkflowUpdateHandle(
            self._client,
            request.request.meta.update_id,
            input.id,
            workflow_run_id=response.update_ref.workflow_execution.run_id,
            result_type=input.ret_type,
            known_outcome=response.outcome if response.HasField("outcome") else None,
        )
        if input.wait_for_stage == WorkflowUpdateStage.COMPLETED:
            await handle._poll_until_outcome()
        return handle

    async def _update_request(
        self,
        input: StartWorkflowUpdateInput | UpdateWithStartUpdateWorkflowInput,
        workflow_id: str,
        *,
        run_id: str | None = None,
        first_run_id: str | None = None,
    ) -> service_api.UpdateWorkflowExecutionRequest:
        request = service_api.UpdateWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=_execution(workflow_id, run_id),
            first_execution_run_id=first_run_id or "",
            request=update_api.Request(
                meta=update_api.Meta(
                    update_id=input.update_id or new_request_id(), identity=self._client.identity
                ),
                input=update_api.Input(name=input.update),
            ),
            wait_policy=update_api.WaitPolicy(lifecycle_stage=enum_value(input.wait_for_stage)),
        )
        if input.args:
            converter = self._workflow_converter(workflow_id, run_id=run_id)
            request.request.input.args.payloads.extend(await converter.encode(input.args))
        if input.headers:
            await self._apply_headers(input.headers, request.request.input.header.fields)
        return request

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        started = False

        def on_start(response: service_api.StartWorkflowExecutionResponse) -> None:
            nonlocal started
            if not started:
                started = True
                input._on_start(response)

        try:
            return await self._update_with_start(input, on_start)
        except (RPCError, asyncio.CancelledError) as error:
            # All others reach who waits for the workflow's handle as they reach the caller.
            reported, raised = _update_with_start_errors(error, input.start_workflow_input)
            input._on_start_error(reported)
            raise raised from (error if raised is not error else error.__cause__)

    async def _update_with_start(
        self,
        input: StartWorkflowUpdateWithStartInput,
        on_start: Callable[[service_api.StartWorkflowExecutionResponse], None],
    ) -> WorkflowUpdateHandle[Any]:
        start = service_api.StartWorkflowExecutionRequest()
        await self._fill_start(start, input.start_workflow_input)
        workflow_id = input.start_workflow_input.id
        update = await self._update_request(input.update_workflow_input, workflow_id)
        operation = service_api.ExecuteMultiOperationRequest.Operation
        request = service_api.ExecuteMultiOperationRequest(
            namespace=self._client.namespace,
            operations=[operation(start_workflow=start), operation(update_workflow=update)],
        )
        stage = 0
        while stage < _ACCEPTED:
            response = await self._call(self._client.workflow_service.execute_multi_operation, request, input)
            start_response = response.responses[0].start_workflow
            update_response = response.responses[1].update_workflow
            on_start(start_response)
            stage = update_response.stage
        handle: WorkflowUpdateHandle[Any] = WorkflowUpdateHandle(
            self._client,
            update.request.meta.update_id,
            workflow_id,
            workflow_run_id=start_response.run_id,
            result_type=input.update_workflow_input.ret_type,
            known_outcome=update_response.outcome if update_response.HasField("outcome") else None,
        )
        if input.update_workflow_input.wait_for_stage == WorkflowUpdateStage.COMPLETED:
            await handle._poll_until_outcome()
        return handle


def _execution(workflow_id: str, run_id: str | None) -> common_api.WorkflowExecution:
    return common_api.WorkflowExecution(workflow_id=workflow_id, run_id=run_id or "")


def _already_started(
    error: RPCError, input: StartWorkflowInput | UpdateWithStartStartWorkflowInput
) -> WorkflowAlreadyStartedError | None:
    """The typed error for a workflow id that is taken, if `error` says that."""
    taken = detail_of(error, errordetails.WorkflowExecutionAlreadyStartedFailure)
    return _taken_by(taken, input) if taken is not None else None


def _taken_by(
    taken: errordetails.WorkflowExecutionAlreadyStartedFailure,
    input: StartWorkflowInput | UpdateWithStartStartWorkflowInput,
) -> WorkflowAlreadyStartedError:
    return WorkflowAlreadyStartedError(
        input.id,
        input.workflow,
        run_id=taken.run_id,
        first_run_id=taken.first_execution_run_id or None,
    )


def _update_with_start_errors(
    error: RPCError | asyncio.CancelledError, input: UpdateWithStartStartWorkflowInput
) -> tuple[BaseException, BaseException]:
    """What a failed update-with-start means: for who waits for the workflow's handle, and for the caller."""
    if isinstance(error, asyncio.CancelledError) or error.status in WAIT_ENDED:
        return error, WorkflowUpdateRPCTimeoutOrCancelledError()
    failure = detail_of(error, errordetails.MultiOperationExecutionFailure)
    if failure is None:
        return error, error
    aborted = failure_api.MultiOperationExecutionAborted.DESCRIPTOR
    for status in failure.statuses:
        if status.code == RPCStatusCode.OK or (status.details and status.details[0].Is(aborted)):
            continue
        if status.code == RPCStatusCode.ALREADY_EXISTS and status.details:
            taken = errordetails.WorkflowExecutionAlreadyStartedFailure()
            if status.details[0].Unpack(taken):
                error_of_start = _taken_by(taken, input)
                return error_of_start, error_of_start
        elif status.code in RPCStatusCode._value2member_map_:
            told = RPCError(status.message, RPCStatusCode(status.code), error.raw_grpc_status)
            return told, told
        break
    return error, error
