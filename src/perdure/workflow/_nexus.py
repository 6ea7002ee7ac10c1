"""Nexus operations: calling services behind an endpoint from a workflow.

`nexusrpc` is optional: it is looked at only when a service or an operation is given as one of its classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack, overload

from perdure.types import NexusServiceType
from perdure.workflow._event_groups import EventGroup
from perdure.workflow._runtime import _Runtime

if TYPE_CHECKING:
    import nexusrpc

    from perdure.nexus._operation_types import (
        AsyncStart,
        MakeHandler,
        SyncStart,
        TemporalOperationStartHandlerFunc,
        WorkflowRunStart,
    )

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


class NexusOperationCancellationType(IntEnum):
    """What the workflow waits for when it cancels a Nexus operation."""

    WAIT_COMPLETED = 0
    """Ask for cancellation and wait for the operation's end, which need not be a cancellation."""
    ABANDON = 1
    """Go on at once and let the operation run."""
    TRY_CANCEL = 2
    """Ask for cancellation and go on at once. The request may be lost if the workflow ends first."""
    WAIT_REQUESTED = 3
    """Ask for cancellation and wait until the request was received."""


class NexusOperationHandle(Generic[OutputT]):
    """A started Nexus operation; await it for its result."""

    def cancel(self) -> bool:
        """Asks for cancellation, as the operation's cancellation type says. False if it had ended."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, Any, OutputT]:
        """Waits for the result."""
        raise NotImplementedError

    @property
    def operation_token(self) -> str | None:
        """Names an asynchronous operation to its service; None for one that ended at once."""
        raise NotImplementedError


class _NamedOperationConfig(TypedDict, total=False):
    """Options of a Nexus operation, whatever says which one it is."""

    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    cancellation_type: NexusOperationCancellationType
    headers: Mapping[str, str] | None
    summary: str | None
    event_groups: Sequence[EventGroup] | None


class _OperationConfig(_NamedOperationConfig, total=False):
    """Options of a Nexus operation whose types are known."""

    output_type: type | None


class NexusClient(ABC, Generic[NexusServiceType]):
    """Calls the operations of one service behind one endpoint."""

    @overload
    async def start_operation(
        self,
        operation: nexusrpc.Operation[InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: WorkflowRunStart[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: AsyncStart[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: SyncStart[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: MakeHandler[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: TemporalOperationStartHandlerFunc[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: str,
        input: Any,
        *,
        output_type: type[OutputT],
        **options: Unpack[_NamedOperationConfig],
    ) -> NexusOperationHandle[OutputT]: ...

    @overload
    async def start_operation(
        self,
        operation: str,
        input: Any,
        *,
        output_type: None = None,
        **options: Unpack[_NamedOperationConfig],
    ) -> NexusOperationHandle[Any]: ...

    @abstractmethod
    async def start_operation(
        self,
        operation: Any,
        input: Any,
        *,
        output_type: Any = None,
        schedule_to_close_timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        start_to_close_timeout: timedelta | None = None,
        cancellation_type: NexusOperationCancellationType = NexusOperationCancellationType.WAIT_COMPLETED,
        headers: Mapping[str, str] | None = None,
        summary: str | None = None,
        event_groups: Sequence[EventGroup] | None = None,
    ) -> NexusOperationHandle[Any]:
        """Starts an operation and waits until it has started.

        Args:
            operation: An operation of the service, the method that handles it, or its name.
            input: Its only argument.
            output_type: Of the result, for an operation given by name.
            schedule_to_close_timeout: For everything, retries included.
            schedule_to_start_timeout: Until it has started.
            start_to_close_timeout: From its start, for an asynchronous operation.
            cancellation_type: What a cancellation waits for.
            headers: Sent with the request.
            summary: One line about the operation for user interfaces.
            event_groups: Groups that it belongs to, for user interfaces (experimental).

        Returns:
            A handle to await.
        """

    @overload
    async def execute_operation(
        self,
        operation: nexusrpc.Operation[InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: WorkflowRunStart[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: AsyncStart[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: SyncStart[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: MakeHandler[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: TemporalOperationStartHandlerFunc[NexusServiceType, InputT, OutputT],
        input: InputT,
        **options: Unpack[_OperationConfig],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: str,
        input: Any,
        *,
        output_type: type[OutputT],
        **options: Unpack[_NamedOperationConfig],
    ) -> OutputT: ...

    @overload
    async def execute_operation(
        self,
        operation: str,
        input: Any,
        *,
        output_type: None = None,
        **options: Unpack[_NamedOperationConfig],
    ) -> Any: ...

    @abstractmethod
    async def execute_operation(self, operation: Any, input: Any, **options: Any) -> Any:
        """Starts an operation and waits for its result; see `start_operation`."""


class _NexusClient(NexusClient[NexusServiceType]):
    """The client that workflow code gets."""

    def __init__(self, *, endpoint: str, service: type[NexusServiceType] | str) -> None:
        self.endpoint = endpoint
        self.service_name = service if isinstance(service, str) else _service_name(service)

    async def start_operation(
        self,
        operation: Any,
        input: Any,
        *,
        output_type: Any = None,
        schedule_to_close_timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        start_to_close_timeout: timedelta | None = None,
        cancellation_type: NexusOperationCancellationType = NexusOperationCancellationType.WAIT_COMPLETED,
        headers: Mapping[str, str] | None = None,
        summary: str | None = None,
        event_groups: Sequence[EventGroup] | None = None,
    ) -> NexusOperationHandle[Any]:
        return await _Runtime.current().start_nexus_operation(
            endpoint=self.endpoint,
            service=self.service_name,
            operation=operation,
            input=input,
            output_type=output_type,
            schedule_to_close_timeout=schedule_to_close_timeout,
            schedule_to_start_timeout=schedule_to_start_timeout,
            start_to_close_timeout=start_to_close_timeout,
            cancellation_type=cancellation_type,
            headers=headers,
            summary=summary,
            event_groups=event_groups,
        )

    async def execute_operation(self, operation: Any, input: Any, **options: Any) -> Any:
        handle: NexusOperationHandle[Any] = await self.start_operation(operation, input, **options)
        return await handle


def _service_name(service: type) -> str:
    import nexusrpc

    definition = nexusrpc.get_service_definition(service)
    if definition is None:
        raise ValueError(
            "`service` may be a name (str), or a class decorated with either "
            "@nexusrpc.handler.service_handler or @nexusrpc.service. "
            f"Invalid service type: {type(service)}"
        )
    return definition.name


@overload
def create_nexus_client(
    *, service: type[NexusServiceType], endpoint: str
) -> NexusClient[NexusServiceType]: ...


@overload
def create_nexus_client(*, service: str, endpoint: str) -> NexusClient[Any]: ...


def create_nexus_client(*, service: Any, endpoint: str) -> NexusClient[Any]:
    """A client for the operations of one service.

    Args:
        service: Its name, or a class that `nexusrpc` decorated as a service or a service handler.
        endpoint: Where the service is reached; configured with the server.

    Raises:
        ValueError: the class is no service.
    """
    return _NexusClient(endpoint=endpoint, service=service)
