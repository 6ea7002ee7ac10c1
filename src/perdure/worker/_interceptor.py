"""Interceptors of a worker: one object per worker, which wraps activities, workflows and Nexus operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.activity import Info
    from perdure.api.common.v1 import Payload
    from perdure.worker.interceptor_workflow import WorkflowInboundInterceptor


class Interceptor:
    """Base class for interceptors of a worker; every method may be left out."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap an activity; called for each attempt.

        Args:
            next: What to delegate to.
        """
        return next

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Return the class that wraps each workflow, or None. Called once per worker.

        Args:
            input: Its functions may be added to.

        Returns:
            A class whose constructor takes the next interceptor.
        """
        return None

    def intercept_nexus_operation(
        self, next: NexusOperationInboundInterceptor
    ) -> NexusOperationInboundInterceptor:
        """Wrap a Nexus operation.

        Args:
            next: What to delegate to.
        """
        return next


@dataclass(frozen=True)
class WorkflowInterceptorClassInput:
    """Input of `Interceptor.workflow_interceptor_class`.

    Attributes:
        unsafe_extern_functions: Functions that workflow interceptors can reach with `workflow.extern_functions`;
            nothing keeps them deterministic.
    """

    unsafe_extern_functions: MutableMapping[str, Callable[..., Any]]


@dataclass
class ExecuteActivityInput:
    """Input of `ActivityInboundInterceptor.execute_activity`.

    Attributes:
        fn: The activity.
        args: Its arguments.
        executor: Where a `def` activity runs; None for an async one.
        headers: As sent by what scheduled it.
    """

    fn: Callable[..., Any]
    args: Sequence[Any]
    executor: Executor | None
    headers: Mapping[str, Payload]


class ActivityInboundInterceptor:
    """Wraps the execution of an activity.

    Args:
        next: What the methods delegate to.
    """

    def __init__(self, next: ActivityInboundInterceptor) -> None:
        self.next = next

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        """Take the outbound interceptor; wrap it before passing it on to intercept calls of the activity."""
        self.next.init(outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Run the activity and return its result."""
        return await self.next.execute_activity(input)


class ActivityOutboundInterceptor:
    """Wraps what activity code calls.

    Args:
        next: What the methods delegate to.
    """

    def __init__(self, next: ActivityOutboundInterceptor) -> None:
        self.next = next

    def info(self) -> Info:
        """Called for each `activity.info`."""
        return self.next.info()

    def heartbeat(self, *details: Any) -> None:
        """Called for each `activity.heartbeat`."""
        self.next.heartbeat(*details)


@dataclass
class ExecuteNexusOperationStartInput:
    """Input of `NexusOperationInboundInterceptor.execute_nexus_operation_start`.

    Attributes:
        ctx: nexusrpc's StartOperationContext.
        input: Of the operation.
    """

    ctx: Any
    input: Any


@dataclass
class ExecuteNexusOperationCancelInput:
    """Input of `NexusOperationInboundInterceptor.execute_nexus_operation_cancel`.

    Attributes:
        ctx: nexusrpc's CancelOperationContext.
        token: Of the operation.
    """

    ctx: Any
    token: str


class NexusOperationInboundInterceptor:
    """Wraps Nexus operations.

    Args:
        next: What the methods delegate to.
    """

    def __init__(self, next: NexusOperationInboundInterceptor) -> None:
        self.next = next

    async def execute_nexus_operation_start(self, input: ExecuteNexusOperationStartInput) -> Any:
        """Start an operation."""
        return await self.next.execute_nexus_operation_start(input)

    async def execute_nexus_operation_cancel(self, input: ExecuteNexusOperationCancelInput) -> None:
        """Cancel an operation."""
        await self.next.execute_nexus_operation_cancel(input)
