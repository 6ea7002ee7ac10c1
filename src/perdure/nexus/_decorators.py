"""The decorators of start methods: they attach to a method what `nexusrpc` looks for, and leave it as it is.

May live here: decorators. May not: what the handlers do (`_operation_handlers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import nexusrpc
from nexusrpc import InputT, OutputT
from nexusrpc.handler import OperationHandler, StartOperationContext

from perdure.nexus._functions import callable_name, input_and_output_types, is_async_callable
from perdure.nexus._operation_context import TemporalStartOperationContext, WorkflowRunOperationContext
from perdure.nexus._operation_handlers import TemporalOperationHandler, WorkflowRunOperationHandler
from perdure.nexus._operation_types import TemporalOperationStartHandlerFunc, WorkflowRunStart
from perdure.nexus._temporal_client import TemporalNexusClient, TemporalOperationResult
from perdure.nexus._token import WorkflowHandle
from perdure.types import NexusServiceType


@overload
def workflow_run_operation(
    start: WorkflowRunStart[NexusServiceType, InputT, OutputT],
) -> WorkflowRunStart[NexusServiceType, InputT, OutputT]: ...


@overload
def workflow_run_operation(
    *, name: str | None = None
) -> Callable[
    [WorkflowRunStart[NexusServiceType, InputT, OutputT]], WorkflowRunStart[NexusServiceType, InputT, OutputT]
]: ...


def workflow_run_operation(start: Any = None, *, name: str | None = None) -> Any:
    """Mark the method of a service that starts a workflow, whose result is that of the operation.

    Args:
        start: An `async def` method that takes a `WorkflowRunOperationContext` and the input, starts the workflow
            with the context and returns what that returns.
        name: Of the operation; None means the method's.
    """

    def decorated(start: Callable[..., Any]) -> Callable[..., Any]:
        def make_handler(self: Any) -> OperationHandler[Any, Any]:
            async def bound(ctx: StartOperationContext, input: Any) -> WorkflowHandle[Any]:
                context = WorkflowRunOperationContext._from_start_operation_context(ctx)
                handle: WorkflowHandle[Any] = await start(self, context, input)
                return handle

            bound.__doc__ = start.__doc__
            return WorkflowRunOperationHandler(bound)

        types = input_and_output_types(
            start, context_types=(WorkflowRunOperationContext,), result_type=WorkflowHandle
        )
        return _with_operation(start, make_handler, name, types)

    return decorated if start is None else decorated(start)


@overload
def temporal_operation(
    start: TemporalOperationStartHandlerFunc[NexusServiceType, InputT, OutputT],
) -> TemporalOperationStartHandlerFunc[NexusServiceType, InputT, OutputT]: ...


@overload
def temporal_operation(
    *, name: str | None = None
) -> Callable[
    [TemporalOperationStartHandlerFunc[NexusServiceType, InputT, OutputT]],
    TemporalOperationStartHandlerFunc[NexusServiceType, InputT, OutputT],
]: ...


def temporal_operation(start: Any = None, *, name: str | None = None) -> Any:
    """Mark the method of a service that starts whatever answers the operation: a workflow, an update, or itself.

    Args:
        start: An `async def` method that takes a `TemporalStartOperationContext`, a `TemporalNexusClient` and the
            input, and returns a `TemporalOperationResult`.
        name: Of the operation; None means the method's.

    Raises:
        RuntimeError: It is no `async def` method.
    """

    def decorated(start: Callable[..., Any]) -> Callable[..., Any]:
        if not is_async_callable(start):
            raise RuntimeError(
                f"{start} is not an `async def` method. "
                "@temporal_operation must decorate an `async def` start method."
            )

        def make_handler(service: Any) -> OperationHandler[Any, Any]:
            class Handler(TemporalOperationHandler[Any, Any]):
                async def start_operation(
                    self, ctx: TemporalStartOperationContext, client: TemporalNexusClient, input: Any
                ) -> TemporalOperationResult[Any]:
                    result: TemporalOperationResult[Any] = await start(service, ctx, client, input)
                    return result

            Handler.start_operation.__doc__ = start.__doc__
            return Handler()

        types = input_and_output_types(
            start,
            context_types=(TemporalStartOperationContext, TemporalNexusClient),
            result_type=TemporalOperationResult,
        )
        return _with_operation(start, make_handler, name, types)

    return decorated if start is None else decorated(start)


def _with_operation(
    start: Callable[..., Any],
    make_handler: Callable[[Any], OperationHandler[Any, Any]],
    name: str | None,
    types: tuple[type | None, type | None],
) -> Callable[..., Any]:
    method_name = callable_name(start)
    operation: nexusrpc.Operation[Any, Any] = nexusrpc.Operation(
        name=name or method_name, input_type=types[0], output_type=types[1]
    )
    operation.method_name = method_name
    nexusrpc.set_operation(make_handler, operation)
    # Where `nexusrpc` looks for what makes the handler of a decorated method.
    vars(start)["__nexus_operation_factory__"] = make_handler
    return start
