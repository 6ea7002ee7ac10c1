"""What a client does with workflows: start, execute, find, count, update with start.

May live here: the public methods and their forms. May not: requests (`_impl_workflows`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Required, Unpack, cast, overload

from perdure.client._definitions import run_method_type, update_name_and_type, workflow_name_and_type
from perdure.client._execution import WorkflowExecutionAsyncIterator, WorkflowExecutionCount
from perdure.client._inputs_workflow import (
    CountWorkflowsInput,
    ListWorkflowsInput,
    StartWorkflowInput,
    StartWorkflowUpdateWithStartInput,
    UpdateWithStartUpdateWorkflowInput,
)
from perdure.client._interceptor import OutboundInterceptor
from perdure.client._links import Backing
from perdure.client._start_options import PlainStartOptions
from perdure.client._update import WithStartWorkflowOperation, WorkflowUpdateHandle, WorkflowUpdateStage
from perdure.client._workflow import UpdateOptions, WorkflowHandle
from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributes,
    TypedSearchAttributes,
    VersioningOverride,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
    _arg_or_args,
    _arg_unset,
    _warn_on_deprecated_search_attributes,
)
from perdure.types import (
    LocalReturnType,
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)

if TYPE_CHECKING:
    from perdure.api.workflowservice.v1 import StartWorkflowExecutionResponse
    from perdure.client._client import Client
    from perdure.workflow import UpdateMethodMultiParam


class StartWorkflowOptions(PlainStartOptions, total=False):
    """The keyword arguments that all forms of `Client.start_workflow` and `execute_workflow` have."""

    task_queue: Required[str]
    """Where its worker polls."""


_NOTHING_BACKED = Backing("", (), ())


class WorkflowMethods:
    """The part of `Client` that is about workflows."""

    _impl: OutboundInterceptor

    @overload
    async def start_workflow(
        self,
        workflow: MethodAsyncNoParam[SelfType, ReturnType],
        **options: Unpack[StartWorkflowOptions],
    ) -> WorkflowHandle[SelfType, ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartWorkflowOptions],
    ) -> WorkflowHandle[SelfType, ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartWorkflowOptions],
    ) -> WorkflowHandle[SelfType, ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type[ReturnType] | None = None,
        **options: Unpack[StartWorkflowOptions],
    ) -> WorkflowHandle[Any, Any]: ...

    async def start_workflow(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        result_type: type | None = None,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.UNSPECIFIED,
        retry_policy: RetryPolicy | None = None,
        cron_schedule: str = "",
        memo: Mapping[str, Any] | None = None,
        search_attributes: TypedSearchAttributes | SearchAttributes | None = None,
        static_summary: str | None = None,
        static_details: str | None = None,
        start_delay: timedelta | None = None,
        start_signal: str | None = None,
        start_signal_args: Sequence[Any] = [],
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        request_eager_start: bool = False,
        priority: Priority = Priority.default,
        versioning_override: VersioningOverride | None = None,
        backing: Backing | None = None,
        stack_level: int = 2,
    ) -> WorkflowHandle[Any, Any]:
        """Start a workflow and return its handle; see `StartWorkflowOptions` for the other arguments.

        Args:
            workflow: Its method decorated with `@workflow.run`, or its name; `arg` is its one argument.

        Raises:
            WorkflowAlreadyStartedError: The id is in use, and the policies do not allow it.
        """
        _warn_on_deprecated_search_attributes(search_attributes, stack_level=stack_level)
        name, hint = workflow_name_and_type(workflow)
        given = StartWorkflowInput(
            workflow=name,
            args=_arg_or_args(arg, args),
            id=id,
            task_queue=task_queue,
            execution_timeout=execution_timeout,
            run_timeout=run_timeout,
            task_timeout=task_timeout,
            id_reuse_policy=id_reuse_policy,
            id_conflict_policy=id_conflict_policy,
            retry_policy=retry_policy,
            cron_schedule=cron_schedule,
            memo=memo,
            search_attributes=search_attributes,
            start_delay=start_delay,
            headers={},
            start_signal=start_signal,
            start_signal_args=start_signal_args,
            static_summary=static_summary,
            static_details=static_details,
            ret_type=result_type or hint,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
            request_eager_start=request_eager_start,
            priority=priority,
            versioning_override=versioning_override,
            **vars(backing or _NOTHING_BACKED),
        )
        return await self._impl.start_workflow(given)

    @overload
    async def execute_workflow(
        self,
        workflow: MethodAsyncNoParam[SelfType, ReturnType],
        **options: Unpack[StartWorkflowOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_workflow(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartWorkflowOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_workflow(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartWorkflowOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_workflow(
        self,
        workflow: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type[ReturnType] | None = None,
        **options: Unpack[StartWorkflowOptions],
    ) -> Any: ...

    async def execute_workflow(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        result_type: type | None = None,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.UNSPECIFIED,
        retry_policy: RetryPolicy | None = None,
        cron_schedule: str = "",
        memo: Mapping[str, Any] | None = None,
        search_attributes: TypedSearchAttributes | SearchAttributes | None = None,
        static_summary: str | None = None,
        static_details: str | None = None,
        start_delay: timedelta | None = None,
        start_signal: str | None = None,
        start_signal_args: Sequence[Any] = [],
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        request_eager_start: bool = False,
        priority: Priority = Priority.default,
        versioning_override: VersioningOverride | None = None,
    ) -> Any:
        """Start a workflow, wait until it is over and return its result.

        The arguments are those of `start_workflow`, the errors those of `start_workflow` and `WorkflowHandle.result`.
        """
        # Untyped, because the overloads know nothing of `stack_level`.
        start: Any = self.start_workflow
        handle: WorkflowHandle[Any, Any] = await start(
            workflow,
            arg,
            args=args,
            task_queue=task_queue,
            result_type=result_type,
            id=id,
            execution_timeout=execution_timeout,
            run_timeout=run_timeout,
            task_timeout=task_timeout,
            id_reuse_policy=id_reuse_policy,
            id_conflict_policy=id_conflict_policy,
            retry_policy=retry_policy,
            cron_schedule=cron_schedule,
            memo=memo,
            search_attributes=search_attributes,
            static_summary=static_summary,
            static_details=static_details,
            start_delay=start_delay,
            start_signal=start_signal,
            start_signal_args=start_signal_args,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
            request_eager_start=request_eager_start,
            priority=priority,
            versioning_override=versioning_override,
            stack_level=3,
        )
        return await handle.result()

    def get_workflow_handle(
        self,
        workflow_id: str,
        *,
        run_id: str | None = None,
        first_execution_run_id: str | None = None,
        result_type: type | None = None,
    ) -> WorkflowHandle[Any, Any]:
        """Return a handle to a workflow started before. Nothing is asked of the server.

        Args:
            workflow_id: The workflow's id.
            run_id: The run that is meant; None means the newest.
            first_execution_run_id: Cancel and terminate only the chain of runs that began with this one.
            result_type: What to convert the result to.
        """
        return WorkflowHandle(
            cast("Client", self),
            workflow_id,
            run_id=run_id,
            result_run_id=run_id,
            first_execution_run_id=first_execution_run_id,
            result_type=result_type,
        )

    @overload
    def get_workflow_handle_for(
        self,
        workflow: MethodAsyncNoParam[SelfType, ReturnType],
        workflow_id: str,
        *,
        run_id: str | None = None,
        first_execution_run_id: str | None = None,
    ) -> WorkflowHandle[SelfType, ReturnType]: ...

    @overload
    def get_workflow_handle_for(
        self,
        workflow: MethodAsyncSingleParam[SelfType, Any, ReturnType],
        workflow_id: str,
        *,
        run_id: str | None = None,
        first_execution_run_id: str | None = None,
    ) -> WorkflowHandle[SelfType, ReturnType]: ...

    def get_workflow_handle_for(
        self,
        workflow: Callable[..., Awaitable[Any]],
        workflow_id: str,
        *,
        run_id: str | None = None,
        first_execution_run_id: str | None = None,
    ) -> WorkflowHandle[Any, Any]:
        """Return a handle to a workflow started before, typed by its method; see `get_workflow_handle`."""
        return self.get_workflow_handle(
            workflow_id,
            run_id=run_id,
            first_execution_run_id=first_execution_run_id,
            result_type=run_method_type(workflow),
        )

    @overload
    async def execute_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[[SelfType], LocalReturnType],
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        **options: Unpack[UpdateOptions],
    ) -> LocalReturnType: ...

    @overload
    async def execute_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[[SelfType, ParamType], LocalReturnType],
        arg: ParamType,
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        **options: Unpack[UpdateOptions],
    ) -> LocalReturnType: ...

    @overload
    async def execute_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[MultiParamSpec, LocalReturnType],
        *,
        args: Sequence[Any],
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        **options: Unpack[UpdateOptions],
    ) -> LocalReturnType: ...

    @overload
    async def execute_update_with_start_workflow(
        self,
        update: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        **options: Unpack[UpdateOptions],
    ) -> Any: ...

    async def execute_update_with_start_workflow(
        self,
        update: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: type | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        """Send a workflow an update, starting it first if it does not run, and wait for the update's result.

        Args:
            update: The update's method, or its name.
            arg: Its one argument.
            start_workflow_operation: How the workflow is started; used once.
            args: Its arguments, if there are several.
            id: The update's id; None means a random one.
            result_type: What to convert the result to, if the update is given by name.
            rpc_metadata: Metadata of the calls.
            rpc_timeout: Limit of every call.

        Raises:
            WorkflowAlreadyStartedError: The workflow runs, and the conflict policy forbids that.
            WorkflowUpdateFailedError: The update was rejected or failed.
            WorkflowUpdateRPCTimeoutOrCancelledError: Waiting was cancelled or took longer than a call may.
            RPCError: It could not be sent.
        """
        handle: WorkflowUpdateHandle[Any] = await self._start_update_with_start(
            update,
            arg,
            args=args,
            start_workflow_operation=start_workflow_operation,
            wait_for_stage=WorkflowUpdateStage.COMPLETED,
            id=id,
            result_type=result_type,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )
        return await handle.result()

    @overload
    async def start_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[[SelfType], LocalReturnType],
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        wait_for_stage: WorkflowUpdateStage,
        **options: Unpack[UpdateOptions],
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[[SelfType, ParamType], LocalReturnType],
        arg: ParamType,
        *,
        start_workflow_operation: WithStartWorkflowOperation[SelfType, Any],
        wait_for_stage: WorkflowUpdateStage,
        **options: Unpack[UpdateOptions],
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update_with_start_workflow(
        self,
        update: UpdateMethodMultiParam[MultiParamSpec, LocalReturnType],
        *,
        args: Sequence[Any],
        wait_for_stage: WorkflowUpdateStage,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        **options: Unpack[UpdateOptions],
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update_with_start_workflow(
        self,
        update: str,
        arg: Any = _arg_unset,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        **options: Unpack[UpdateOptions],
    ) -> WorkflowUpdateHandle[Any]: ...

    async def start_update_with_start_workflow(
        self,
        update: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: type | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[Any]:
        """Send a workflow an update, starting it first if it does not run, and wait until `wait_for_stage`.

        The other arguments and errors are those of `execute_update_with_start_workflow`.
        """
        return await self._start_update_with_start(
            update,
            arg,
            wait_for_stage=wait_for_stage,
            args=args,
            id=id,
            result_type=result_type,
            start_workflow_operation=start_workflow_operation,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )

    async def _start_update_with_start(
        self,
        update: str | Callable[..., Any],
        arg: Any,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any],
        id: str | None,
        result_type: type | None,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        rpc_metadata: Mapping[str, str | bytes],
        rpc_timeout: timedelta | None,
    ) -> WorkflowUpdateHandle[Any]:
        if wait_for_stage == WorkflowUpdateStage.ADMITTED:
            raise ValueError("ADMITTED wait stage not supported: wait for ACCEPTED or COMPLETED")
        operation = start_workflow_operation
        if operation._used:
            raise RuntimeError("WithStartWorkflowOperation cannot be reused: make a new one for every update")
        operation._used = True
        name, hinted_type = update_name_and_type(update)
        start = operation._start_workflow_input

        def on_start(response: StartWorkflowExecutionResponse) -> None:
            handle: WorkflowHandle[Any, Any] = WorkflowHandle(
                cast("Client", self),
                start.id,
                first_execution_run_id=response.first_execution_run_id or response.run_id,
                result_run_id=response.run_id,
                result_type=start.ret_type,
            )
            if not operation._workflow_handle.done():
                operation._workflow_handle.set_result(handle)

        def on_error(error: BaseException) -> None:
            if not operation._workflow_handle.done():
                operation._workflow_handle.set_exception(error)
                # The caller gets it as well: it is no loss if nobody waits for the handle.
                operation._workflow_handle.exception()

        request = StartWorkflowUpdateWithStartInput(
            start_workflow_input=start,
            update_workflow_input=UpdateWithStartUpdateWorkflowInput(
                update_id=id,
                update=name,
                args=_arg_or_args(arg, args),
                headers={},
                ret_type=result_type or hinted_type,
                wait_for_stage=wait_for_stage,
            ),
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
            _on_start=on_start,
            _on_start_error=on_error,
        )
        try:
            return await self._impl.start_update_with_start_workflow(request)
        except BaseException as error:
            # Of interceptors too, and whatever it is: who waits for the workflow's handle must not wait for ever.
            on_error(error)
            raise

    def list_workflows(
        self,
        query: str | None = None,
        *,
        limit: int | None = None,
        page_size: int = 1000,
        next_page_token: bytes | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowExecutionAsyncIterator:
        """Return the workflows that match, as an async iterator; errors come when it is iterated over.

        Args:
            query: A list filter; None means all.
            limit: Most workflows in all.
            page_size: Workflows per call.
            next_page_token: Where to begin.
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call.
        """
        return self._impl.list_workflows(
            ListWorkflowsInput(
                query=query,
                page_size=page_size,
                next_page_token=next_page_token,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                limit=limit,
            )
        )

    async def count_workflows(
        self,
        query: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowExecutionCount:
        """Count the workflows that match.

        Args:
            query: A list filter, possibly with GROUP BY; None means all.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The filter is wrong, or the server could not be asked.
        """
        return await self._impl.count_workflows(
            CountWorkflowsInput(query=query, rpc_metadata=rpc_metadata, rpc_timeout=rpc_timeout)
        )
