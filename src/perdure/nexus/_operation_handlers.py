"""Handlers of operations that workflows, updates or activities answer: how they start, and how they are cancelled.

May live here: handlers. May not: how methods become handlers (`_decorators`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic

from nexusrpc import HandlerError, HandlerErrorType, InputT, OutputT
from nexusrpc.handler import (
    CancelOperationContext,
    OperationHandler,
    StartOperationContext,
    StartOperationResultAsync,
    StartOperationResultSync,
)

from perdure.core.invariant import invariant
from perdure.nexus._functions import is_async_callable
from perdure.nexus._operation_context import (
    TemporalCancelOperationContext,
    TemporalStartOperationContext,
    client,
)
from perdure.nexus._temporal_client import (
    TemporalNexusClient,
    TemporalOperationResult,
    _TemporalNexusClient,
)
from perdure.nexus._token import OperationToken, OperationTokenType, WorkflowHandle


class WorkflowRunOperationHandler(OperationHandler[InputT, OutputT]):
    """Serves an operation that a workflow answers.

    Args:
        start: An `async def` function that starts the workflow with `WorkflowRunOperationContext.start_workflow` and
            returns what that returns.

    Raises:
        RuntimeError: It is no `async def` function.
    """

    def __init__(
        self, start: Callable[[StartOperationContext, InputT], Awaitable[WorkflowHandle[OutputT]]]
    ) -> None:
        if not is_async_callable(start):
            raise RuntimeError(
                f"{start} is not an `async def` method. "
                "WorkflowRunOperationHandler must be initialized with an `async def` start method."
            )
        self._start = start

    async def start(self, ctx: StartOperationContext, input: InputT) -> StartOperationResultAsync:
        """Start the workflow."""
        handle: object = await self._start(ctx, input)
        if not isinstance(handle, WorkflowHandle):
            raise RuntimeError(
                f"Expected {handle} to be a nexus.WorkflowHandle, but got {type(handle)}. "
                "When using @workflow_run_operation you must use WorkflowRunOperationContext.start_workflow() "
                "to start a workflow that will deliver the result of the Nexus operation, and you must return the "
                "nexus.WorkflowHandle that it returns. It is not possible to use client.Client.start_workflow() and "
                "client.WorkflowHandle for this purpose."
            )
        return StartOperationResultAsync(handle.to_token())

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        """Cancel the workflow."""
        await _cancel_workflow(token)


async def _cancel_workflow(token: str) -> None:
    """Cancel the workflow that a token names; for handlers that start workflows in ways of their own."""
    try:
        backing = WorkflowHandle[Any].from_token(token)
    except TypeError as error:
        raise HandlerError(
            "Failed to decode operation token as a workflow operation token. "
            "Canceling non-workflow operations is not supported.",
            type=HandlerErrorType.NOT_FOUND,
        ) from error
    try:
        handle = backing._to_client_workflow_handle(client())
    except ValueError as error:
        raise HandlerError(
            "Failed to construct workflow handle from workflow operation token",
            type=HandlerErrorType.NOT_FOUND,
        ) from error
    await handle.cancel()


@dataclass(frozen=True)
class CancelWorkflowRunOptions:
    """Which workflow is to be cancelled."""

    workflow_id: str
    """Of the workflow that answers the operation."""


@dataclass(frozen=True)
class CancelUpdateWorkflowOptions:
    """Which update is to be cancelled."""

    workflow_id: str
    """Of the workflow that has accepted it."""
    update_id: str
    """Of the update."""
    run_id: str
    """Of the run that has accepted it."""


@dataclass(frozen=True)
class CancelActivityOptions:
    """Which activity is to be cancelled."""

    activity_id: str
    """Of the activity that answers the operation."""
    run_id: str
    """Of its run."""


class TemporalOperationHandler(OperationHandler[InputT, OutputT], ABC, Generic[InputT, OutputT]):
    """Serves an operation that a workflow, an update or an activity answers; subclasses say how it starts."""

    @abstractmethod
    async def start_operation(
        self, ctx: TemporalStartOperationContext, client: TemporalNexusClient, input: InputT
    ) -> TemporalOperationResult[OutputT]:
        """Start what answers the operation, with `client`, and return what that returns; or return a result."""

    async def start(
        self, ctx: StartOperationContext, input: InputT
    ) -> StartOperationResultSync[OutputT] | StartOperationResultAsync:
        """Start the operation."""
        context = TemporalStartOperationContext._from_start_operation_context(ctx)
        result = await self.start_operation(context, _TemporalNexusClient(), input)
        return result._to_nexus_result()

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        """Cancel what answers the operation."""
        try:
            read = OperationToken.decode(token)
        except TypeError as error:
            raise HandlerError(
                "Unable to decode operation token to cancel", type=HandlerErrorType.INTERNAL
            ) from error
        context = TemporalCancelOperationContext._from_cancel_operation_context(ctx)
        if read.type is OperationTokenType.WORKFLOW:
            await self.cancel_workflow_run(context, CancelWorkflowRunOptions(read.workflow_id or ""))
        elif read.type is OperationTokenType.ACTIVITY:
            if not read.run_id:
                raise HandlerError(
                    "Expected operation token of type ACTIVITY to have a valid run id.",
                    type=HandlerErrorType.INTERNAL,
                )
            of_activity = CancelActivityOptions(read.activity_id or "", read.run_id)
            await self.cancel_activity(context, of_activity)
        else:
            invariant(read.update_id, "the token of an update names it")
            of_update = CancelUpdateWorkflowOptions(
                read.workflow_id or "", read.update_id or "", read.run_id or ""
            )
            await self.cancel_workflow_update(context, of_update)

    async def cancel_workflow_run(
        self, ctx: TemporalCancelOperationContext, options: CancelWorkflowRunOptions
    ) -> None:
        """Cancel the workflow that answers the operation."""
        await client().get_workflow_handle(options.workflow_id).cancel()

    async def cancel_workflow_update(
        self, ctx: TemporalCancelOperationContext, options: CancelUpdateWorkflowOptions
    ) -> None:
        """Cancel the update that answers the operation. Nothing can do that by itself: override it.

        Raises:
            nexusrpc.HandlerError: Always, NOT_IMPLEMENTED.
        """
        raise HandlerError(
            "An accepted update cannot be cancelled from outside: override cancel_workflow_update and tell the "
            "update's handler, for example by a signal",
            type=HandlerErrorType.NOT_IMPLEMENTED,
        )

    async def cancel_activity(
        self, ctx: TemporalCancelOperationContext, options: CancelActivityOptions
    ) -> None:
        """Ask the activity that answers the operation to cancel."""
        await client().get_activity_handle(options.activity_id, run_id=options.run_id).cancel()
