"""What a client does with Nexus operations: clients of services, handles, lists, counts.

May live here: the public methods. May not: requests (`_impl_operations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from perdure.client._inputs_other import CountNexusOperationsInput, ListNexusOperationsInput
from perdure.client._interceptor import OutboundInterceptor
from perdure.client._operation import NexusClient, NexusOperationHandle, _NexusClient
from perdure.client._operation_execution import (
    NexusOperationExecutionAsyncIterator,
    NexusOperationExecutionCount,
)
from perdure.types import NexusServiceType, ReturnType

if TYPE_CHECKING:
    import nexusrpc

    from perdure.client._client import Client

OutputT = TypeVar("OutputT")


class OperationMethods:
    """The part of `Client` that is about Nexus operations."""

    _impl: OutboundInterceptor

    @overload
    def create_nexus_client(
        self, service: type[NexusServiceType], endpoint: str
    ) -> NexusClient[NexusServiceType]: ...

    @overload
    def create_nexus_client(self, service: str, endpoint: str) -> NexusClient[Any]: ...

    def create_nexus_client(self, service: Any, endpoint: str) -> NexusClient[Any]:
        """Return a client for the operations of one service. Nothing is asked of the server.

        Args:
            service: Its name, or a class that `nexusrpc` decorated as a service or a service handler.
            endpoint: Name of the endpoint where its handlers are; registered with the server.

        Raises:
            ValueError: The class is no service.
        """
        return _NexusClient(cast("Client", self), service, endpoint)

    def list_nexus_operations(
        self,
        query: str | None = None,
        *,
        limit: int | None = None,
        page_size: int = 1000,
        next_page_token: bytes | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> NexusOperationExecutionAsyncIterator:
        """Return the operations started by clients that match, as an async iterator (ListNexusOperationExecutions).

        Args:
            query: A list filter; None means all.
            limit: Most operations in all.
            page_size: Operations per call.
            next_page_token: Where to begin.
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call.
        """
        return self._impl.list_nexus_operations(
            ListNexusOperationsInput(
                query=query,
                page_size=page_size,
                next_page_token=next_page_token,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                limit=limit,
            )
        )

    async def count_nexus_operations(
        self,
        query: str | None = None,
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> NexusOperationExecutionCount:
        """Count the operations started by clients that match (CountNexusOperationExecutions).

        Args:
            query: A list filter, possibly with GROUP BY; None means all.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The filter is wrong, or the server could not be asked.
        """
        return await self._impl.count_nexus_operations(
            CountNexusOperationsInput(query=query, rpc_metadata=rpc_metadata, rpc_timeout=rpc_timeout)
        )

    @overload
    def get_nexus_operation_handle(
        self, operation_id: str, *, run_id: str | None = None
    ) -> NexusOperationHandle[Any]: ...

    @overload
    def get_nexus_operation_handle(
        self, operation_id: str, *, run_id: str | None = None, result_type: type[ReturnType]
    ) -> NexusOperationHandle[ReturnType]: ...

    @overload
    def get_nexus_operation_handle(
        self,
        operation_id: str,
        *,
        operation: nexusrpc.Operation[Any, OutputT],
        run_id: str | None = None,
    ) -> NexusOperationHandle[OutputT]: ...

    def get_nexus_operation_handle(
        self,
        operation_id: str,
        *,
        operation: nexusrpc.Operation[Any, Any] | None = None,
        run_id: str | None = None,
        result_type: type | None = None,
    ) -> NexusOperationHandle[Any]:
        """Return a handle to an operation started before by a client. Nothing is asked of the server.

        Args:
            operation_id: The operation's id.
            operation: The operation, which says what to convert the result to.
            run_id: The run that is meant; None means the newest.
            result_type: What to convert the result to.
        """
        if result_type is None and operation is not None:
            result_type = operation.output_type
        return NexusOperationHandle(
            cast("Client", self), operation_id, run_id=run_id, result_type=result_type
        )
