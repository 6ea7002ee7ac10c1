"""Other workflows: children, workflows known by id, and the next run of this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any, Concatenate, Generic, NoReturn, TypedDict, Unpack, overload

from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributes,
    TypedSearchAttributes,
    VersioningOverride,
    WorkflowIDReusePolicy,
    _arg_or_args,
    _arg_unset,
    _warn_on_deprecated_search_attributes,
)
from perdure.types import (
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MethodSyncOrAsyncNoParam,
    MethodSyncOrAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)
from perdure.workflow._activities import _AsyncioTask
from perdure.workflow._context import uuid4
from perdure.workflow._event_groups import EventGroup
from perdure.workflow._exceptions import ContinueAsNewVersioningBehavior, VersioningIntent
from perdure.workflow._runtime import _Runtime
from perdure.workflow._shown_options import shows_options


class ChildWorkflowCancellationType(IntEnum):
    """What the workflow waits for when it cancels a child."""

    ABANDON = 0
    """Go on at once and let the child run."""
    TRY_CANCEL = 1
    """Ask for cancellation and go on at once."""
    WAIT_CANCELLATION_COMPLETED = 2
    """Ask for cancellation and wait for the child's end."""
    WAIT_CANCELLATION_REQUESTED = 3
    """Ask for cancellation and wait until the child was told."""


class ParentClosePolicy(IntEnum):
    """What happens to a child when its parent ends."""

    UNSPECIFIED = 0
    TERMINATE = 1
    ABANDON = 2
    REQUEST_CANCEL = 3


class ChildWorkflowHandle(_AsyncioTask[ReturnType], Generic[SelfType, ReturnType]):
    """A started child: a task that ends with the child's result. Cancelling it cancels the child."""

    @property
    def id(self) -> str:
        """Workflow id of the child."""
        raise NotImplementedError

    @property
    def first_execution_run_id(self) -> str | None:
        """Run id of the child's first run."""
        raise NotImplementedError

    @overload
    async def signal(
        self,
        signal: MethodSyncOrAsyncNoParam[SelfType, None],
        *,
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: MethodSyncOrAsyncSingleParam[SelfType, ParamType, None],
        arg: ParamType,
        *,
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[None] | None],
        *,
        args: Sequence[Any],
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = ...,
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None: ...

    async def signal(
        self,
        signal: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = (),
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None:
        """Sends the child a signal and waits until it is in the child's history.

        Args:
            signal: The name, or the handler in the child's class.
            arg: Its argument, if there is exactly one.
            args: Its arguments, if `arg` is not given.
            event_groups: Groups that it belongs to, for user interfaces (experimental).
        """
        raise NotImplementedError


class ChildWorkflowConfig(TypedDict, total=False):
    """Options of `start_child_workflow` and `execute_child_workflow`, to keep and pass as `**options`.

    Attributes:
        id: Workflow id; a random one of the workflow's own by default.
        task_queue: Where workers with the child poll; the workflow's own queue by default.
        cancellation_type: What a cancellation waits for.
        parent_close_policy: What happens to the child when this workflow ends.
        execution_timeout: For everything, retries and continued runs included.
        run_timeout: For one run.
        task_timeout: For one workflow task.
        id_reuse_policy: Whether a closed workflow may have had the same id.
        retry_policy: How a failed child is tried again; not at all by default.
        cron_schedule: When to run again, in cron's notation.
        memo: Of the child.
        search_attributes: Of the child. The dictionary form is deprecated.
        versioning_intent: Deprecated in favour of worker deployments.
        static_summary: One line about the child for user interfaces.
        static_details: More lines about the child for user interfaces.
        priority: Its place in the queue.
        event_groups: Groups that its start belongs to, for user interfaces (experimental).
        versioning_override: Takes the place of what the child inherits (experimental; newer servers only).
    """

    id: str | None
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
    versioning_intent: VersioningIntent | None
    static_summary: str | None
    static_details: str | None
    priority: Priority
    event_groups: Sequence[EventGroup] | None
    versioning_override: VersioningOverride | None


async def _start_child(
    workflow: Any,
    args: Sequence[Any],
    *,
    result_type: type | None,
    id: str | None = None,
    task_queue: str | None = None,
    cancellation_type: ChildWorkflowCancellationType = ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    parent_close_policy: ParentClosePolicy = ParentClosePolicy.TERMINATE,
    execution_timeout: timedelta | None = None,
    run_timeout: timedelta | None = None,
    task_timeout: timedelta | None = None,
    id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    retry_policy: RetryPolicy | None = None,
    cron_schedule: str = "",
    memo: Mapping[str, Any] | None = None,
    search_attributes: TypedSearchAttributes | SearchAttributes | None = None,
    versioning_intent: VersioningIntent | None = None,
    static_summary: str | None = None,
    static_details: str | None = None,
    priority: Priority = Priority.default,
    event_groups: Sequence[EventGroup] | None = None,
    versioning_override: VersioningOverride | None = None,
) -> ChildWorkflowHandle[Any, Any]:
    return await _Runtime.current().start_child_workflow(
        workflow,
        args,
        id=id or str(uuid4()),
        task_queue=task_queue,
        result_type=result_type,
        cancellation_type=cancellation_type,
        parent_close_policy=parent_close_policy,
        execution_timeout=execution_timeout,
        run_timeout=run_timeout,
        task_timeout=task_timeout,
        id_reuse_policy=id_reuse_policy,
        retry_policy=retry_policy,
        cron_schedule=cron_schedule,
        memo=memo,
        search_attributes=search_attributes,
        versioning_intent=versioning_intent,
        static_summary=static_summary,
        static_details=static_details,
        priority=priority,
        event_groups=event_groups,
        versioning_override=versioning_override,
    )


@overload
async def start_child_workflow(
    workflow: MethodAsyncNoParam[SelfType, ReturnType], **options: Unpack[ChildWorkflowConfig]
) -> ChildWorkflowHandle[SelfType, ReturnType]: ...


@overload
async def start_child_workflow(
    workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ChildWorkflowConfig],
) -> ChildWorkflowHandle[SelfType, ReturnType]: ...


@overload
async def start_child_workflow(
    workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ChildWorkflowConfig],
) -> ChildWorkflowHandle[SelfType, ReturnType]: ...


@overload
async def start_child_workflow(
    workflow: str,
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = None,
    **options: Unpack[ChildWorkflowConfig],
) -> ChildWorkflowHandle[Any, Any]: ...


@shows_options(ChildWorkflowConfig, _start_child)
async def start_child_workflow(
    workflow: Any,
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = (),
    result_type: type | None = None,
    **options: Unpack[ChildWorkflowConfig],
) -> ChildWorkflowHandle[Any, Any]:
    """Starts a child and waits until it has started.

    Args:
        workflow: The class's `run` method, or the workflow type.
        arg: Its argument, if there is exactly one.
        args: Its arguments, if `arg` is not given.
        result_type: Of a child given by type name; for a method its signature says it.

    The other options are explained in `ChildWorkflowConfig`.

    Returns:
        A task that ends with the result.

    Raises:
        WorkflowAlreadyStartedError: the id is in use.
        ValueError: `arg` and `args` are given.
    """
    _warn_on_deprecated_search_attributes(options.get("search_attributes"))
    return await _start_child(workflow, _arg_or_args(arg, args), result_type=result_type, **options)


@overload
async def execute_child_workflow(
    workflow: MethodAsyncNoParam[SelfType, ReturnType], **options: Unpack[ChildWorkflowConfig]
) -> ReturnType: ...


@overload
async def execute_child_workflow(
    workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ChildWorkflowConfig],
) -> ReturnType: ...


@overload
async def execute_child_workflow(
    workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ChildWorkflowConfig],
) -> ReturnType: ...


@overload
async def execute_child_workflow(
    workflow: str,
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = None,
    **options: Unpack[ChildWorkflowConfig],
) -> Any: ...


@shows_options(ChildWorkflowConfig, _start_child)
async def execute_child_workflow(
    workflow: Any,
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = (),
    result_type: type | None = None,
    **options: Unpack[ChildWorkflowConfig],
) -> Any:
    """Starts a child and waits for its result; see `start_child_workflow`."""
    _warn_on_deprecated_search_attributes(options.get("search_attributes"))
    return await (await _start_child(workflow, _arg_or_args(arg, args), result_type=result_type, **options))


class ExternalWorkflowHandle(Generic[SelfType]):
    """A workflow known by its id."""

    @property
    def id(self) -> str:
        """Its workflow id."""
        raise NotImplementedError

    @property
    def run_id(self) -> str | None:
        """Its run id, if one was given."""
        raise NotImplementedError

    @overload
    async def signal(
        self,
        signal: MethodSyncOrAsyncNoParam[SelfType, None],
        *,
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: MethodSyncOrAsyncSingleParam[SelfType, ParamType, None],
        arg: ParamType,
        *,
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = ...,
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None: ...

    async def signal(
        self,
        signal: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = (),
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None:
        """Sends the workflow a signal and waits until it is in its history.

        Args:
            signal: The name, or the handler in the workflow's class.
            arg: Its argument, if there is exactly one.
            args: Its arguments, if `arg` is not given.
            event_groups: Groups that it belongs to, for user interfaces (experimental).
        """
        raise NotImplementedError

    async def cancel(
        self,
        *,
        reason: str = "",
        event_groups: Sequence[EventGroup] | None = None,
    ) -> None:
        """Asks the workflow to cancel and waits until the request is in its history.

        Args:
            reason: What its `cancellation_reason()` says.
            event_groups: Groups that it belongs to, for user interfaces (experimental).
        """
        raise NotImplementedError


def get_external_workflow_handle(
    workflow_id: str, *, run_id: str | None = None
) -> ExternalWorkflowHandle[Any]:
    """A handle to the workflow with this id; whether it exists shows when the handle is used."""
    return _Runtime.current().external_workflow_handle(workflow_id, run_id=run_id)


def get_external_workflow_handle_for(
    workflow: MethodAsyncNoParam[SelfType, Any] | MethodAsyncSingleParam[SelfType, Any, Any],
    workflow_id: str,
    *,
    run_id: str | None = None,
) -> ExternalWorkflowHandle[SelfType]:
    """As `get_external_workflow_handle`; the class's `run` method serves type checkers only."""
    return get_external_workflow_handle(workflow_id, run_id=run_id)


class ContinueAsNewError(BaseException):
    """Raised by `continue_as_new`. Let it pass: it ends the run when it leaves the workflow's code."""

    def __init__(self, *args: object) -> None:
        """Only for the executor's own class.

        Raises:
            RuntimeError: raised by hand.
        """
        if type(self) is ContinueAsNewError:
            raise RuntimeError("Cannot instantiate ContinueAsNewError directly")
        super().__init__(*args)


class _ContinueAsNewConfig(TypedDict, total=False):
    """Options of `continue_as_new`, for its overloads."""

    task_queue: str | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    backoff_start_interval: timedelta | None
    retry_policy: RetryPolicy | None
    memo: Mapping[str, Any] | None
    search_attributes: TypedSearchAttributes | SearchAttributes | None
    versioning_intent: VersioningIntent | None
    initial_versioning_behavior: ContinueAsNewVersioningBehavior | None
    event_groups: Sequence[EventGroup] | None


@overload
def continue_as_new(
    arg: Any = _arg_unset, *, args: Sequence[Any] = ..., **options: Unpack[_ContinueAsNewConfig]
) -> NoReturn: ...


@overload
def continue_as_new(
    *, workflow: MethodAsyncNoParam[SelfType, Any], **options: Unpack[_ContinueAsNewConfig]
) -> NoReturn: ...


@overload
def continue_as_new(
    arg: ParamType,
    *,
    workflow: MethodAsyncSingleParam[SelfType, ParamType, Any],
    **options: Unpack[_ContinueAsNewConfig],
) -> NoReturn: ...


@overload
def continue_as_new(
    *,
    workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[Any]],
    args: Sequence[Any],
    **options: Unpack[_ContinueAsNewConfig],
) -> NoReturn: ...


@overload
def continue_as_new(
    *, workflow: str, args: Sequence[Any] = ..., **options: Unpack[_ContinueAsNewConfig]
) -> NoReturn: ...


def continue_as_new(
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = (),
    workflow: Callable[..., Any] | str | None = None,
    task_queue: str | None = None,
    run_timeout: timedelta | None = None,
    task_timeout: timedelta | None = None,
    backoff_start_interval: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    memo: Mapping[str, Any] | None = None,
    search_attributes: TypedSearchAttributes | SearchAttributes | None = None,
    versioning_intent: VersioningIntent | None = None,
    initial_versioning_behavior: ContinueAsNewVersioningBehavior | None = None,
    event_groups: Sequence[EventGroup] | None = None,
) -> NoReturn:
    """Ends this run at once and starts a new one of the same workflow id, with an empty history.

    Args:
        arg: The new run's argument, if there is exactly one.
        args: Its arguments, if `arg` is not given.
        workflow: Another workflow to go on as: its class's `run` method, or its type.
        task_queue: Another task queue.
        run_timeout: Another timeout for one run.
        task_timeout: Another timeout for one workflow task.
        backoff_start_interval: How long the new run waits before its first workflow task.
        retry_policy: Another retry policy.
        memo: Another memo.
        search_attributes: Other search attributes. The dictionary form is deprecated.
        versioning_intent: Deprecated in favour of worker deployments.
        initial_versioning_behavior: Which version runs the new run's first task (experimental).
        event_groups: Groups that the end of this run belongs to, for user interfaces (experimental).

    Raises:
        ContinueAsNewError: always; let it pass.
    """
    _warn_on_deprecated_search_attributes(search_attributes)
    _Runtime.current().continue_as_new(
        workflow,
        _arg_or_args(arg, args),
        task_queue=task_queue,
        run_timeout=run_timeout,
        task_timeout=task_timeout,
        backoff_start_interval=backoff_start_interval,
        retry_policy=retry_policy,
        memo=memo,
        search_attributes=search_attributes,
        versioning_intent=versioning_intent,
        initial_versioning_behavior=initial_versioning_behavior,
        event_groups=event_groups,
    )
