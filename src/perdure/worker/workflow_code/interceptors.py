"""The inner ends of the two interceptor chains: the one calls the user's code, the other asks the executor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.core.invariant import present
from perdure.worker.interceptor_workflow import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    HandleQueryInput,
    HandleSignalInput,
    HandleUpdateInput,
    SignalChildWorkflowInput,
    SignalExternalWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    StartNexusOperationInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)
from perdure.worker.workflow_code.arguments import call_user_code
from perdure.worker.workflow_code.completion import ContinueAsNewRequest
from perdure.workflow import ActivityHandle, ChildWorkflowHandle, Info, NexusOperationHandle, _attached

if TYPE_CHECKING:
    from perdure.worker.workflow_code.instance import WorkflowInstance


async def _call(what: str, given: Callable[..., Any] | None, args: Any) -> Any:
    handler = present(given, "a handler that was there a moment ago is gone")
    answer = call_user_code(what, handler, args)
    return await answer if inspect.iscoroutinefunction(handler) else answer


class InnermostInbound(WorkflowInboundInterceptor):
    """Calls the user's code."""

    def __init__(self, instance: WorkflowInstance) -> None:
        # There is no next one, so not the base's.
        self._instance = instance

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        self._instance.outbound = outbound

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        args = (self._instance.object, *input.args)
        return await call_user_code(
            f"Workflow {self._instance.info.workflow_type}", input.run_fn, args, own=1
        )

    async def handle_signal(self, input: HandleSignalInput) -> None:
        handlers = self._instance.handlers
        definition = handlers.signals.get(input.signal) or handlers.signals.get(None)
        await _call(f"Signal '{input.signal}'", handlers.bound(definition), input.args)

    async def handle_query(self, input: HandleQueryInput) -> Any:
        handlers = self._instance.handlers
        definition = handlers.queries.get(input.query) or handlers.queries.get(None)
        return await _call(f"Query '{input.query}'", handlers.bound(definition), input.args)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        validator = self._instance.handlers.validator(input.update)
        if validator is not None:
            validator(*input.args)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        handlers = self._instance.handlers
        definition = handlers.updates.get(input.update) or handlers.updates.get(None)
        return await _call(f"Update '{input.update}'", handlers.bound(definition), input.args)


class InnermostOutbound(WorkflowOutboundInterceptor):
    """Asks the executor."""

    def __init__(self, instance: WorkflowInstance) -> None:
        # There is no next one, so not the base's.
        self._instance = instance

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        with _attached(input.event_groups):
            raise ContinueAsNewRequest(input)

    def info(self) -> Info:
        return self._instance.info

    async def signal_child_workflow(self, input: SignalChildWorkflowInput) -> None:
        with _attached(input.event_groups):
            await self._instance.externals.signal_child(input)

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:
        with _attached(input.event_groups):
            await self._instance.externals.signal_external(input)

    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        with _attached(input.event_groups):
            return self._instance.activities.start(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> ChildWorkflowHandle[Any, Any]:
        with _attached(input.event_groups):
            return await self._instance.children.start(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> ActivityHandle[Any]:
        with _attached(input.event_groups):
            return self._instance.activities.start(input)

    async def start_nexus_operation(
        self, input: StartNexusOperationInput[Any, Any]
    ) -> NexusOperationHandle[Any]:
        with _attached(input.event_groups):
            return await self._instance.nexus_operations.start(input)
