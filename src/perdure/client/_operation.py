"""Nexus operations that a client starts: the client of one service, and the handle of an operation.

`nexusrpc` is optional: it is looked at only when a service or an operation is given as one of its classes. May live
here: the public methods. May not: requests (`_impl_operations`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Required, TypedDict, TypeVar, Unpack, overload

from perdure.client._exceptions import NexusOperationFailureError
from perdure.client._inputs_other import (
    CancelNexusOperationInput,
    DescribeNexusOperationInput,
    GetNexusOperationResultInput,
    StartNexusOperationInput,
    TerminateNexusOperationInput,
)
from perdure.common import (
    NexusOperationIDConflictPolicy,
    NexusOperationIDReusePolicy,
    TypedSearchAttributes,
    _arg_unset,
)
from perdure.types import NexusServiceType, ReturnType

if TYPE_CHECKING:
    import nexusrpc

    from perdure.client._client import Client
    from perdure.client._operation_execution import NexusOperationExecutionDescription
    from perdure.nexus._operation_types import (
        AsyncStart,
        MakeHandler,
        SyncStart,
        TemporalOperationStartHandlerFunc,
        WorkflowRunStart,
    )

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


class _StartOptions(TypedDict, total=False):
    """The keyword arguments that all forms of starting and executing operations have."""

    id: Required[str]
    """The operation's id; at most one operation of an id runs at a time."""
    id_reuse_policy: NexusOperationIDReusePolicy
    """What happens if an operation of this id has run before."""
    id_conflict_policy: NexusOperationIDConflictPolicy
    """What happens if an operation of this id is running."""
    schedule_to_close_timeout: timedelta | None
    """Limit for everything."""
    schedule_to_start_timeout: timedelta | None
    """Limit until it runs."""
    start_to_close_timeout: timedelta | None
    """Limit of its run, for one that is not answered at once."""
    search_attributes: TypedSearchAttributes | None
    """Values to find it by."""
    summary: str | None
    """One line about it, for people."""
    headers: Mapping[str, str] | None
    """For its handler."""
    rpc_metadata: Mapping[str, str | bytes]
    """Metadata of the call."""
    rpc_timeout: timedelta | None
    """Limit of the call."""


class NexusClient(ABC, Generic[NexusServiceType]):
    """Starts the operations of one service behind one endpoint. Made by `Client.create_nexus_client`."""

    @overload
    async def start_operation(
        self,
        operation: nexusrpc.Operation[InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: WorkflowRunStart[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: AsyncStart[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: SyncStart[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: MakeHandler[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: TemporalOperationStartHandlerFunc[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: str,
        arg: Any,
        *,
        result_type: type[OutputT],
        **options: Unpack[_StartOptions],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: str,
        arg: Any,
        *,
        result_type: None = None,
        **options: Unpack[_StartOptions],
    ) -> NexusOperationHandle[Any]: ...

    @abstractmethod
    async def start_operation(
        self,
        operation: Any,
        arg: Any,
        *,
        id: str,
        id_reuse_policy: NexusOperationIDReusePolicy = NexusOperationIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy: NexusOperationIDConflictPolicy = NexusOperationIDConflictPolicy.FAIL,
        result_type: type | None = None,
        schedule_to_close_timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        start_to_close_timeout: timedelta | None = None,
        search_attributes: TypedSearchAttributes | None = None,
        summary: str | None = None,
        headers: Mapping[str, str] | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> NexusOperationHandle[Any]:
        """Start an operation (StartNexusOperationExecution) and return its handle; nobody waits for its handler.

        Args:
            operation: An operation of the service, the method that handles it, or its name.
            arg: Its only argument.
            id: Its id; at most one operation of an id runs at a time.
            id_reuse_policy: What happens if an operation of this id has run before.
            id_conflict_policy: What happens if an operation of this id is running.
            result_type: What to convert the result to, for an operation given by name.
            schedule_to_close_timeout: Limit for everything.
            schedule_to_start_timeout: Limit until it runs.
            start_to_close_timeout: Limit of its run, for one that is not answered at once.
            search_attributes: Values to find it by.
            summary: One line about it, for people.
            headers: For its handler.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            NexusOperationAlreadyStartedError: The id is in use, and the policies do not allow this.
            RPCError: It could not be started.
        """

    @overload
    async def execute_operation(
        self,
        operation: nexusrpc.Operation[InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: WorkflowRunStart[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: AsyncStart[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: SyncStart[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: MakeHandler[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: TemporalOperationStartHandlerFunc[NexusServiceType, InputT, OutputT],
        arg: InputT,
        **options: Unpack[_StartOptions],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: str,
        arg: Any,
        *,
        result_type: type[OutputT],
        **options: Unpack[_StartOptions],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: str,
        arg: Any,
        *,
        result_type: None = None,
        **options: Unpack[_StartOptions],
    ) -> Any: ...

    @abstractmethod
    async def execute_operation(
        self,
        operation: Any,
        arg: Any,
        *,
        id: str,
        id_reuse_policy: NexusOperationIDReusePolicy = NexusOperationIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy: NexusOperationIDConflictPolicy = NexusOperationIDConflictPolicy.FAIL,
        result_type: type | None = None,
        schedule_to_close_timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        start_to_close_timeout: timedelta | None = None,
        search_attributes: TypedSearchAttributes | None = None,
        summary: str | None = None,
        headers: Mapping[str, str] | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        """Start an operation and wait for its result: `start_operation`, then `NexusOperationHandle.result`.

        Raises:
            NexusOperationAlreadyStartedError: The id is in use, and the policies do not allow this.
            NexusOperationFailureError: The operation did not succeed.
            RPCError: It could not be started, or the server could not be asked.
        """


class _NexusClient(NexusClient[NexusServiceType]):
    """The one that `Client.create_nexus_client` makes."""

    def __init__(self, client: Client, service: type[NexusServiceType] | str, endpoint: str) -> None:
        self._client = client
        self._endpoint = endpoint
        self._service = service if isinstance(service, str) else _service_name(service)

    async def start_operation(
        self,
        operation: Any,
        arg: Any,
        *,
        result_type: type | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> NexusOperationHandle[Any]:
        name, output_type = _resolve(operation)
        defaults: dict[str, Any] = {
            "id_reuse_policy": NexusOperationIDReusePolicy.ALLOW_DUPLICATE,
            "id_conflict_policy": NexusOperationIDConflictPolicy.FAIL,
            "schedule_to_close_timeout": None,
            "schedule_to_start_timeout": None,
            "start_to_close_timeout": None,
            "search_attributes": None,
            "summary": None,
            "rpc_metadata": {},
            "rpc_timeout": None,
        }
        return await self._client._impl.start_nexus_operation(
            StartNexusOperationInput(
                operation=name,
                arg=arg,
                endpoint=self._endpoint,
                service=self._service,
                result_type=result_type or output_type,
                headers=headers or {},
                **(defaults | options),
            )
        )

    async def execute_operation(self, operation: Any, arg: Any, **options: Any) -> Any:
        handle = await self.start_operation(operation, arg, **options)
        metadata, timeout = options.get("rpc_metadata", {}), options.get("rpc_timeout")
        return await handle.result(rpc_metadata=metadata, rpc_timeout=timeout)


def _service_name(service: type) -> str:
    import nexusrpc

    definition = nexusrpc.get_service_definition(service)
    if definition is None:
        raise ValueError(f"`service` is neither a name nor a class that nexusrpc decorated: {service}")
    return definition.name


def _resolve(operation: Any) -> tuple[str, type | None]:
    """The name and the type of the result of an operation."""
    if isinstance(operation, str):
        return operation, None
    import nexusrpc

    if not isinstance(operation, nexusrpc.Operation):
        definition = nexusrpc.get_operation(operation) if callable(operation) else None
        if definition is None:
            raise ValueError(f"Operation is not a Nexus operation: {operation}")
        operation = definition
    return operation.name, operation.output_type


class NexusOperationHandle(Generic[ReturnType]):
    """An operation started by a client. Made by `NexusClient.start_operation` and `Client.get_nexus_operation_handle`.

    Args:
        client: The client to ask with.
        operation_id: The operation's id.
        run_id: The run that is meant; None means the newest.
        result_type: What to convert the result to.
        endpoint: Where it was started; empty for a handle made from an id.
        service: The service that has it; likewise.
        operation: Its name; likewise.
    """

    def __init__(
        self,
        client: Client,
        operation_id: str,
        *,
        run_id: str | None = None,
        result_type: type | None = None,
        endpoint: str = "",
        service: str = "",
        operation: str = "",
    ) -> None:
        self._client = client
        self._operation_id = operation_id
        self._run_id = run_id
        self._result_type = result_type
        self._endpoint = endpoint
        self._service = service
        self._operation = operation
        self._known_result: Any = _arg_unset
        self._known_error: NexusOperationFailureError | None = None

    @property
    def operation_id(self) -> str:
        """The operation's id."""
        return self._operation_id

    @property
    def run_id(self) -> str | None:
        """The run that is meant; None means the newest."""
        return self._run_id

    @property
    def endpoint(self) -> str:
        """Where its handlers are; empty for a handle made from an id."""
        return self._endpoint

    @property
    def service(self) -> str:
        """Name of the service; empty for a handle made from an id."""
        return self._service

    async def result(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> ReturnType:
        """Wait until the operation is over and return its result (PollNexusOperationExecution).

        Args:
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call, not of waiting.

        Raises:
            NexusOperationFailureError: It failed, was cancelled, was terminated or timed out. What has ended once stays
                so: the same error is raised again.
            RPCError: The server could not be asked.
        """
        if self._known_error is not None:
            raise self._known_error
        if self._known_result is _arg_unset:
            try:
                self._known_result = await self._client._impl.get_nexus_operation_result(
                    GetNexusOperationResultInput(
                        operation_id=self._operation_id,
                        run_id=self._run_id,
                        endpoint=self._endpoint,
                        service=self._service,
                        operation=self._operation,
                        rpc_metadata=rpc_metadata,
                        rpc_timeout=rpc_timeout,
                        result_type=self._result_type,
                    )
                )
            except NexusOperationFailureError as error:
                self._known_error = error
                raise
        known: ReturnType = self._known_result
        return known

    async def describe(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> NexusOperationExecutionDescription:
        """Return what the server knows of the operation (DescribeNexusOperationExecution).

        Args:
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server could not be asked, or does not know it.
        """
        return await self._client._impl.describe_nexus_operation(
            DescribeNexusOperationInput(self._operation_id, self._run_id, rpc_metadata, rpc_timeout)
        )

    async def cancel(
        self,
        *,
        reason: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Ask for the operation's cancellation; its handler is asked once it runs.

        Args:
            reason: Why.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be asked for.
        """
        await self._client._impl.cancel_nexus_operation(
            CancelNexusOperationInput(self._operation_id, self._run_id, reason, rpc_metadata, rpc_timeout)
        )

    async def terminate(
        self,
        *,
        reason: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """End the operation at once; its handler is not told.

        Args:
            reason: Why.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be ended.
        """
        await self._client._impl.terminate_nexus_operation(
            TerminateNexusOperationInput(self._operation_id, self._run_id, reason, rpc_metadata, rpc_timeout)
        )
