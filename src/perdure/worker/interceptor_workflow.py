"""Interceptors around workflow code: what comes in (start, signals, queries, updates) and what it asks for.

The base classes hand everything on. The ends of both chains are in `perdure.worker.workflow_code.interceptors`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from perdure.api.common.v1 import Payload
    from perdure.common import (
        Priority,
        RetryPolicy,
        SearchAttributes,
        TypedSearchAttributes,
        VersioningOverride,
        WorkflowIDReusePolicy,
    )
    from perdure.workflow import (
        ActivityCancellationType,
        ActivityHandle,
        ChildWorkflowCancellationType,
        ChildWorkflowHandle,
        ContinueAsNewVersioningBehavior,
        EventGroup,
        Info,
        NexusOperationCancellationType,
        NexusOperationHandle,
        ParentClosePolicy,
        VersioningIntent,
    )

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


@dataclass
class ExecuteWorkflowInput:
    """Input for `WorkflowInboundInterceptor.execute_workflow`."""

    type: type
    run_fn: Callable[..., Awaitable[Any]]
    """The `run` method, not bound to the instance."""
    args: Sequence[Any]
    headers: Mapping[str, Payload]


@dataclass
class HandleSignalInput:
    """Input for `WorkflowInboundInterceptor.handle_signal`."""

    signal: str
    args: Sequence[Any]
    headers: Mapping[str, Payload]


@dataclass
class HandleQueryInput:
    """Input for `WorkflowInboundInterceptor.handle_query`."""

    id: str
    query: str
    args: Sequence[Any]
    headers: Mapping[str, Payload]


@dataclass
class HandleUpdateInput:
    """Input for `WorkflowInboundInterceptor.handle_update_validator` and `handle_update_handler`."""

    id: str
    update: str
    args: Sequence[Any]
    headers: Mapping[str, Payload]


@dataclass
class ContinueAsNewInput:
    """Input for `WorkflowOutboundInterceptor.continue_as_new`."""

    workflow: str | None
    args: Sequence[Any]
    task_queue: str | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    backoff_start_interval: timedelta | None
    retry_policy: RetryPolicy | None
    memo: Mapping[str, Any] | None
    search_attributes: TypedSearchAttributes | SearchAttributes | None
    headers: Mapping[str, Payload]
    versioning_intent: VersioningIntent | None
    initial_versioning_behavior: ContinueAsNewVersioningBehavior | None
    arg_types: list[type] | None
    event_groups: Sequence[EventGroup] | None = None


@dataclass
class SignalChildWorkflowInput:
    """Input for `WorkflowOutboundInterceptor.signal_child_workflow`."""

    signal: str
    args: Sequence[Any]
    child_workflow_id: str
    headers: Mapping[str, Payload]
    event_groups: Sequence[EventGroup] | None = None


@dataclass
class SignalExternalWorkflowInput:
    """Input for `WorkflowOutboundInterceptor.signal_external_workflow`."""

    signal: str
    args: Sequence[Any]
    namespace: str
    workflow_id: str
    workflow_run_id: str | None
    headers: Mapping[str, Payload]
    event_groups: Sequence[EventGroup] | None = None


@dataclass
class StartActivityInput:
    """Input for `WorkflowOutboundInterceptor.start_activity`."""

    activity: str
    args: Sequence[Any]
    activity_id: str | None
    task_queue: str | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    heartbeat_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    cancellation_type: ActivityCancellationType
    headers: Mapping[str, Payload]
    disable_eager_execution: bool
    versioning_intent: VersioningIntent | None
    summary: str | None
    priority: Priority
    arg_types: list[type] | None
    ret_type: type | None
    event_groups: Sequence[EventGroup] | None = None


@dataclass
class StartLocalActivityInput:
    """Input for `WorkflowOutboundInterceptor.start_local_activity`."""

    activity: str
    args: Sequence[Any]
    activity_id: str | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    local_retry_threshold: timedelta | None
    cancellation_type: ActivityCancellationType
    headers: Mapping[str, Payload]
    summary: str | None
    arg_types: list[type] | None
    ret_type: type | None
    event_groups: Sequence[EventGroup] | None = None


@dataclass
class StartChildWorkflowInput:
    """Input for `WorkflowOutboundInterceptor.start_child_workflow`."""

    workflow: str
    args: Sequence[Any]
    id: str
    task_queue: str | None
    cancellation_type: ChildWorkflowCancellationType
    parent_close_policy: ParentClosePolicy
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    id_reuse_policy: WorkflowIDReusePolicy
    retry_policy: RetryPolicy | None
    cron_schedule: str
    memo: Mapping[str, Any] | None
    search_attributes: TypedSearchAttributes | SearchAttributes | None
    headers: Mapping[str, Payload]
    versioning_intent: VersioningIntent | None
    static_summary: str | None
    static_details: str | None
    priority: Priority
    arg_types: list[type] | None
    ret_type: type | None
    versioning_override: VersioningOverride | None = None
    event_groups: Sequence[EventGroup] | None = None


@dataclass
class StartNexusOperationInput(Generic[InputT, OutputT]):
    """Input for `WorkflowOutboundInterceptor.start_nexus_operation`.

    Raises:
        ValueError: the operation is neither a name nor something that `nexusrpc` made an operation.
    """

    endpoint: str
    service: str
    operation: Any
    """A name, a `nexusrpc.Operation`, or the method that handles one."""
    input: InputT
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    cancellation_type: NexusOperationCancellationType
    headers: Mapping[str, str] | None
    summary: str | None
    output_type: type[OutputT] | None = None
    event_groups: Sequence[EventGroup] | None = None

    def __post_init__(self) -> None:
        """Reads the type of the result from the operation, if it says it."""
        if not isinstance(self.operation, str):
            self.output_type = _nexus_operation(self.operation).output_type

    @property
    def operation_name(self) -> str:
        """The name under which the service knows the operation."""
        if isinstance(self.operation, str):
            return self.operation
        name: str = _nexus_operation(self.operation).name
        return name


def _nexus_operation(operation: Any) -> Any:
    """What `nexusrpc` knows about an operation or about the method that handles it."""
    import nexusrpc

    if isinstance(operation, nexusrpc.Operation):
        return operation
    definition = nexusrpc.get_operation(operation) if callable(operation) else None
    if definition is None:
        raise ValueError(f"Operation is not a Nexus operation: {operation}")
    return definition


class WorkflowInboundInterceptor:
    """What comes into a workflow. Made once per run; extend it and override what you want to see or change."""

    def __init__(self, next: WorkflowInboundInterceptor) -> None:
        """Keeps the next interceptor of the chain, to which everything is handed by default."""
        self.next = next

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """Called once, with the outbound chain; wrap it before handing it on to add an outbound interceptor."""
        self.next.init(outbound)

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        """Runs the workflow's code."""
        return await self.next.execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        """Runs the handler of a signal."""
        return await self.next.handle_signal(input)

    async def handle_query(self, input: HandleQueryInput) -> Any:
        """Runs the handler of a query."""
        return await self.next.handle_query(input)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        """Runs the validator of an update, if it has one."""
        self.next.handle_update_validator(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        """Runs the handler of an update."""
        return await self.next.handle_update_handler(input)


class WorkflowOutboundInterceptor:
    """What workflow code asks for. Made once per run; extend it and override what you want to see or change."""

    next: WorkflowOutboundInterceptor

    def __init__(self, next: WorkflowOutboundInterceptor) -> None:
        """Keeps the next interceptor of the chain, to which everything is handed by default."""
        self.next = next

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        """For `workflow.continue_as_new`."""
        self.next.continue_as_new(input)

    def info(self) -> Info:
        """For `workflow.info`."""
        return self.next.info()

    async def signal_child_workflow(self, input: SignalChildWorkflowInput) -> None:
        """For `signal` of a child's handle."""
        return await self.next.signal_child_workflow(input)

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:
        """For `signal` of another workflow's handle."""
        return await self.next.signal_external_workflow(input)

    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        """For `workflow.start_activity` and `workflow.execute_activity`."""
        return self.next.start_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> ChildWorkflowHandle[Any, Any]:
        """For `workflow.start_child_workflow` and `workflow.execute_child_workflow`."""
        return await self.next.start_child_workflow(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> ActivityHandle[Any]:
        """For `workflow.start_local_activity` and `workflow.execute_local_activity`."""
        return self.next.start_local_activity(input)

    async def start_nexus_operation(
        self, input: StartNexusOperationInput[InputT, OutputT]
    ) -> NexusOperationHandle[OutputT]:
        """For a Nexus client's `start_operation` and `execute_operation`."""
        return await self.next.start_nexus_operation(input)
