"""Calls about Nexus operations that a client starts: inputs to requests, answers and errors to what the caller gets.

May live here: requests. May not: public forms of calls (`_operation`, `_client_operations`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from perdure.api.enums.v1 import NexusOperationWaitStage
from perdure.api.errordetails import v1 as errordetails
from perdure.api.workflowservice import v1 as service_api
from perdure.client._exceptions import NexusOperationFailureError
from perdure.client._impl_base import ImplBase
from perdure.client._inputs_other import (
    CancelNexusOperationInput,
    CountNexusOperationsInput,
    DescribeNexusOperationInput,
    GetNexusOperationResultInput,
    ListNexusOperationsInput,
    StartNexusOperationInput,
    TerminateNexusOperationInput,
)
from perdure.client._operation import NexusOperationHandle
from perdure.client._operation_execution import (
    NexusOperationExecutionAsyncIterator,
    NexusOperationExecutionCount,
    NexusOperationExecutionDescription,
)
from perdure.client._wire import _encode_user_metadata, enum_value, long_polled, new_request_id
from perdure.converter import DataConverter, NexusSerializationContext, encode_search_attributes
from perdure.exceptions import NexusOperationAlreadyStartedError
from perdure.service import RPCError
from perdure.service._errors import detail_of

_TIMEOUTS = ("schedule_to_close_timeout", "schedule_to_start_timeout", "start_to_close_timeout")
_CLOSED = NexusOperationWaitStage.NEXUS_OPERATION_WAIT_STAGE_CLOSED


class OperationCalls(ImplBase):
    """The client's end of calls about Nexus operations."""

    async def start_nexus_operation(self, input: StartNexusOperationInput) -> NexusOperationHandle[Any]:
        request = await self._start_operation_request(input)
        try:
            response = await self._call(
                self._client.workflow_service.start_nexus_operation_execution, request, input
            )
        except RPCError as error:
            taken = detail_of(error, errordetails.NexusOperationExecutionAlreadyStartedFailure)
            if taken is not None:
                raise NexusOperationAlreadyStartedError(input.id, run_id=taken.run_id) from None
            raise
        return NexusOperationHandle(
            self._client,
            input.id,
            run_id=response.run_id or None,
            result_type=input.result_type,
            endpoint=input.endpoint,
            service=input.service,
            operation=input.operation,
        )

    async def _start_operation_request(
        self, input: StartNexusOperationInput
    ) -> service_api.StartNexusOperationExecutionRequest:
        converter = self._operation_converter(input.endpoint, input.service, input.operation)
        request = service_api.StartNexusOperationExecutionRequest(
            namespace=self._client.namespace,
            identity=self._client.identity,
            request_id=new_request_id(),
            operation_id=input.id,
            endpoint=input.endpoint,
            service=input.service,
            operation=input.operation,
            id_reuse_policy=enum_value(input.id_reuse_policy),
            id_conflict_policy=enum_value(input.id_conflict_policy),
            nexus_header=dict(input.headers),
        )
        for name in _TIMEOUTS:
            value = getattr(input, name)
            if value is not None:
                getattr(request, name).FromTimedelta(value)
        request.input.CopyFrom((await converter.encode([input.arg]))[0])
        if input.search_attributes is not None:
            encode_search_attributes(input.search_attributes, request.search_attributes)
        user_metadata = await _encode_user_metadata(converter, input.summary, None)
        if user_metadata is not None:
            request.user_metadata.CopyFrom(user_metadata)
        return request

    def _operation_converter(self, endpoint: str, service: str, operation: str) -> DataConverter:
        """The data converter for an operation's payloads; a handle made from an id alone knows no operation."""
        converter = self._client.data_converter
        if not (endpoint and service and operation):
            return converter
        return converter.with_context(
            NexusSerializationContext(endpoint=endpoint, service=service, operation=operation)
        )

    async def describe_nexus_operation(
        self, input: DescribeNexusOperationInput
    ) -> NexusOperationExecutionDescription:
        request = service_api.DescribeNexusOperationExecutionRequest(
            namespace=self._client.namespace,
            operation_id=input.operation_id,
            run_id=input.run_id or "",
        )
        call = self._client.workflow_service.describe_nexus_operation_execution
        info = (await self._call(call, request, input)).info
        converter = self._operation_converter(info.endpoint, info.service, info.operation)
        return await NexusOperationExecutionDescription._from_info(info, converter)

    async def get_nexus_operation_result(self, input: GetNexusOperationResultInput) -> Any:
        converter = self._operation_converter(input.endpoint, input.service, input.operation)
        request = service_api.PollNexusOperationExecutionRequest(
            namespace=self._client.namespace,
            operation_id=input.operation_id,
            run_id=input.run_id or "",
            wait_stage=_CLOSED,
        )
        call = self._client.workflow_service.poll_nexus_operation_execution
        while True:
            response = await long_polled(partial(self._call, call, request, input))
            if response.HasField("failure"):
                raise NexusOperationFailureError(cause=await converter.decode_failure(response.failure))
            if response.HasField("result"):
                hints = [input.result_type] if input.result_type else None
                return (await converter.decode([response.result], hints))[0]

    async def cancel_nexus_operation(self, input: CancelNexusOperationInput) -> None:
        request = service_api.RequestCancelNexusOperationExecutionRequest(**self._ended(input))
        call = self._client.workflow_service.request_cancel_nexus_operation_execution
        await self._call(call, request, input)

    async def terminate_nexus_operation(self, input: TerminateNexusOperationInput) -> None:
        request = service_api.TerminateNexusOperationExecutionRequest(**self._ended(input))
        call = self._client.workflow_service.terminate_nexus_operation_execution
        await self._call(call, request, input)

    def _ended(self, input: CancelNexusOperationInput | TerminateNexusOperationInput) -> dict[str, Any]:
        """The fields that both requests to end an operation have."""
        return {
            "namespace": self._client.namespace,
            "operation_id": input.operation_id,
            "run_id": input.run_id or "",
            "identity": self._client.identity,
            "request_id": new_request_id(),
            "reason": input.reason or "",
        }

    def list_nexus_operations(self, input: ListNexusOperationsInput) -> NexusOperationExecutionAsyncIterator:
        return NexusOperationExecutionAsyncIterator(self._client, input)

    async def count_nexus_operations(self, input: CountNexusOperationsInput) -> NexusOperationExecutionCount:
        request = service_api.CountNexusOperationExecutionsRequest(
            namespace=self._client.namespace, query=input.query or ""
        )
        return NexusOperationExecutionCount._from_raw(
            await self._call(self._client.workflow_service.count_nexus_operation_executions, request, input)
        )
