"""The handle of a workflow: everything a caller can do with one that has been started.

May live here: the public methods and their forms. May not: requests (`_impl_workflows`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypedDict, Unpack, overload

from perdure.client._definitions import query_name_and_type, signal_name, update_name_and_type
from perdure.client._history import (
    WorkflowHistory,
    WorkflowHistoryEventAsyncIterator,
    WorkflowHistoryEventFilterType,
)
from perdure.client._inputs_workflow import (
    CancelWorkflowInput,
    DescribeWorkflowInput,
    FetchWorkflowHistoryEventsInput,
    QueryWorkflowInput,
    SignalWorkflowInput,
    StartWorkflowUpdateInput,
    TerminateWorkflowInput,
)
from perdure.client._links import Backing
from perdure.client._results import Closing, read_closing
from perdure.client._update import WorkflowUpdateHandle, WorkflowUpdateStage
from perdure.common import QueryRejectCondition, _arg_or_args, _arg_unset
from perdure.converter import DataConverter
from perdure.types import (
    LocalReturnType,
    MethodSyncOrAsyncNoParam,
    MethodSyncOrAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)

if TYPE_CHECKING:
    from perdure.api.workflowservice.v1 import (
        SignalWithStartWorkflowExecutionResponse,
        StartWorkflowExecutionResponse,
    )
    from perdure.client._client import Client
    from perdure.client._execution import WorkflowExecutionDescription
    from perdure.workflow import UpdateMethodMultiParam


class RpcOptions(TypedDict, total=False):
    """Keyword arguments of every call."""

    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


class QueryOptions(RpcOptions, total=False):
    """Keyword arguments that all forms of `WorkflowHandle.query` have."""

    reject_condition: QueryRejectCondition | None


class UpdateOptions(RpcOptions, total=False):
    """Keyword arguments that all forms of `WorkflowHandle.execute_update` have."""

    id: str | None


class WorkflowHandle(Generic[SelfType, ReturnType]):
    """A workflow, to be waited for, signalled, queried, updated, cancelled and so on.

    Made by `Client.start_workflow` and `Client.get_workflow_handle`.

    Args:
        client: The client to ask with.
        id: The workflow's id.
        run_id: The run meant by all calls; None means the newest.
        result_run_id: The run whose result is waited for.
        first_execution_run_id: Cancelling and terminating do nothing to a chain of runs that began with another run.
        result_type: What to convert the result to.
        start_workflow_response: The server's answer, if this handle comes from a start.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        *,
        run_id: str | None = None,
        result_run_id: str | None = None,
        first_execution_run_id: str | None = None,
        result_type: type | None = None,
        start_workflow_response: StartWorkflowExecutionResponse
        | SignalWithStartWorkflowExecutionResponse
        | None = None,
    ) -> None:
        self._client = client
        self._id = id
        self._run_id = run_id
        self._result_run_id = result_run_id
        self._first_execution_run_id = first_execution_run_id
        self._result_type = result_type
        self._start_workflow_response = start_workflow_response

    @property
    def _data_converter(self) -> DataConverter:
        return self._client.data_converter._for_workflow(self._client.namespace, self._id)

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self._id

    @property
    def run_id(self) -> str | None:
        """The run that calls are about; None means the newest. `Client.start_workflow` does not set it."""
        return self._run_id

    @property
    def result_run_id(self) -> str | None:
        """The run whose result `result` waits for: the one that was started, or `run_id`."""
        return self._result_run_id

    @property
    def first_execution_run_id(self) -> str | None:
        """First run of the chain that cancelling and terminating are meant for; None means any chain."""
        return self._first_execution_run_id

    async def result(
        self,
        *,
        follow_runs: bool = True,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ReturnType:
        """Wait until the workflow is over and return its result.

        Args:
            follow_runs: Go on with the run that replaced this one (continue-as-new, retry, cron).
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call, not of waiting.

        Raises:
            WorkflowFailureError: It failed, was cancelled, was terminated or timed out.
            WorkflowContinuedAsNewError: It continued as new, and `follow_runs` is false.
            RPCError: The server could not be asked.
        """
        run_id = self._result_run_id
        while True:
            closing = await self._closing_of(run_id, follow_runs, rpc_metadata, rpc_timeout)
            if closing.error is not None:
                raise closing.error
            if not closing.new_run_id:
                result: ReturnType = closing.value
                return result
            run_id = closing.new_run_id

    async def _closing_of(
        self,
        run_id: str | None,
        follow_runs: bool,
        rpc_metadata: Mapping[str, str | bytes],
        rpc_timeout: timedelta | None,
    ) -> Closing:
        events = self._fetch_history_events_for_run(
            run_id,
            wait_new_event=True,
            event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT,
            skip_archival=True,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )
        async for event in events:
            return await read_closing(event, self._data_converter, self._result_type, follow_runs)
        raise RuntimeError("No completion event found: the server ended the history without one")

    async def cancel(
        self,
        *,
        reason: str = "",
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Ask the workflow to cancel itself.

        Args:
            reason: Why; the workflow can read it.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be asked.
        """
        await self._client._impl.cancel_workflow(
            CancelWorkflowInput(
                id=self._id,
                run_id=self._run_id,
                first_execution_run_id=self._first_execution_run_id,
                reason=reason,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    async def describe(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> WorkflowExecutionDescription:
        """Return what the server knows of the workflow.

        Args:
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server could not be asked, or does not know it.
        """
        return await self._client._impl.describe_workflow(
            DescribeWorkflowInput(
                id=self._id, run_id=self._run_id, rpc_metadata=rpc_metadata, rpc_timeout=rpc_timeout
            )
        )

    async def fetch_history(
        self,
        *,
        event_filter_type: WorkflowHistoryEventFilterType = WorkflowHistoryEventFilterType.ALL_EVENT,
        skip_archival: bool = False,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowHistory:
        """Return the whole history; the arguments are those of `fetch_history_events`."""
        events = self.fetch_history_events(
            event_filter_type=event_filter_type,
            skip_archival=skip_archival,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )
        return WorkflowHistory(workflow_id=self._id, events=[event async for event in events])

    def fetch_history_events(
        self,
        *,
        page_size: int | None = None,
        next_page_token: bytes | None = None,
        wait_new_event: bool = False,
        event_filter_type: WorkflowHistoryEventFilterType = WorkflowHistoryEventFilterType.ALL_EVENT,
        skip_archival: bool = False,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowHistoryEventAsyncIterator:
        """Return the events as an async iterator; errors come when it is iterated over.

        Args:
            page_size: Most events per call; None leaves it to the server.
            next_page_token: Where to begin; None is the beginning.
            wait_new_event: Wait for further events until the run is closed.
            event_filter_type: Which events.
            skip_archival: Do not look into archives.
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call.
        """
        return self._fetch_history_events_for_run(
            self._run_id,
            page_size=page_size,
            next_page_token=next_page_token,
            wait_new_event=wait_new_event,
            event_filter_type=event_filter_type,
            skip_archival=skip_archival,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )

    def _fetch_history_events_for_run(
        self,
        run_id: str | None,
        *,
        page_size: int | None = None,
        next_page_token: bytes | None = None,
        wait_new_event: bool = False,
        event_filter_type: WorkflowHistoryEventFilterType = WorkflowHistoryEventFilterType.ALL_EVENT,
        skip_archival: bool = False,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowHistoryEventAsyncIterator:
        return self._client._impl.fetch_workflow_history_events(
            FetchWorkflowHistoryEventsInput(
                id=self._id,
                run_id=run_id,
                page_size=page_size,
                next_page_token=next_page_token,
                wait_new_event=wait_new_event,
                event_filter_type=event_filter_type,
                skip_archival=skip_archival,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    @overload
    async def query(
        self,
        query: MethodSyncOrAsyncNoParam[SelfType, LocalReturnType],
        **options: Unpack[QueryOptions],
    ) -> LocalReturnType: ...

    @overload
    async def query(
        self,
        query: MethodSyncOrAsyncSingleParam[SelfType, ParamType, LocalReturnType],
        arg: ParamType,
        **options: Unpack[QueryOptions],
    ) -> LocalReturnType: ...

    @overload
    async def query(
        self,
        query: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[LocalReturnType] | LocalReturnType],
        *,
        args: Sequence[Any],
        **options: Unpack[QueryOptions],
    ) -> LocalReturnType: ...

    @overload
    async def query(
        self,
        query: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[QueryOptions],
    ) -> Any: ...

    async def query(
        self,
        query: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        reject_condition: QueryRejectCondition | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        """Ask the workflow something.

        Args:
            query: The query's method, or its name.
            arg: Its one argument.
            args: Its arguments, if there are several.
            result_type: What to convert the answer to, if the query is given by name.
            reject_condition: Statuses of the workflow in which it is not asked; None means the client's default.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            WorkflowQueryRejectedError: The reject condition applies.
            WorkflowQueryFailedError: The handler failed, or there is none.
            RPCError: The workflow could not be asked, for example because no worker runs.
        """
        name, hinted_type = query_name_and_type(query)
        return await self._client._impl.query_workflow(
            QueryWorkflowInput(
                id=self._id,
                run_id=self._run_id,
                query=name,
                args=_arg_or_args(arg, args),
                reject_condition=reject_condition
                or self._client._config["default_workflow_query_reject_condition"],
                headers={},
                ret_type=hinted_type or result_type,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    @overload
    async def signal(
        self, signal: MethodSyncOrAsyncNoParam[SelfType, None], **options: Unpack[RpcOptions]
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: MethodSyncOrAsyncSingleParam[SelfType, ParamType, None],
        arg: ParamType,
        **options: Unpack[RpcOptions],
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[None] | None],
        *,
        args: Sequence[Any],
        **options: Unpack[RpcOptions],
    ) -> None: ...

    @overload
    async def signal(
        self,
        signal: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        **options: Unpack[RpcOptions],
    ) -> None: ...

    async def signal(
        self,
        signal: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Send the workflow a signal.

        Args:
            signal: The signal's method, or its name.
            arg: Its one argument.
            args: Its arguments, if there are several.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be sent, for example because the workflow is over.
        """
        await self._client._impl.signal_workflow(
            SignalWorkflowInput(
                id=self._id,
                run_id=self._run_id,
                signal=signal_name(signal),
                args=_arg_or_args(arg, args),
                headers={},
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    async def terminate(
        self,
        *args: Any,
        reason: str | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """End the workflow at once; its code does not run again.

        Args:
            args: Details to record.
            reason: Why.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: It could not be ended.
        """
        await self._client._impl.terminate_workflow(
            TerminateWorkflowInput(
                id=self._id,
                run_id=self._run_id,
                args=args,
                reason=reason,
                first_execution_run_id=self._first_execution_run_id,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    @overload
    async def execute_update(
        self,
        update: UpdateMethodMultiParam[[SelfType], LocalReturnType],
        **options: Unpack[UpdateOptions],
    ) -> LocalReturnType: ...

    @overload
    async def execute_update(
        self,
        update: UpdateMethodMultiParam[[SelfType, ParamType], LocalReturnType],
        arg: ParamType,
        **options: Unpack[UpdateOptions],
    ) -> LocalReturnType: ...

    @overload
    async def execute_update(
        self,
        update: UpdateMethodMultiParam[MultiParamSpec, LocalReturnType],
        *,
        args: Sequence[Any],
        **options: Unpack[UpdateOptions],
    ) -> LocalReturnType: ...

    @overload
    async def execute_update(
        self,
        update: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[UpdateOptions],
    ) -> Any: ...

    async def execute_update(
        self,
        update: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: type | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        """Send the workflow an update and wait for its result.

        Args:
            update: The update's method, or its name.
            arg: Its one argument.
            args: Its arguments, if there are several.
            id: The update's id; sending the same again does nothing again. None means a random one.
            result_type: What to convert the result to, if the update is given by name.
            rpc_metadata: Metadata of the calls.
            rpc_timeout: Limit of every call.

        Raises:
            WorkflowUpdateFailedError: The update was rejected or failed.
            WorkflowUpdateRPCTimeoutOrCancelledError: Waiting was cancelled or took longer than a call may.
            RPCError: It could not be sent.
        """
        handle: WorkflowUpdateHandle[Any] = await self._start_update(
            update,
            arg,
            args=args,
            wait_for_stage=WorkflowUpdateStage.COMPLETED,
            id=id,
            result_type=result_type,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )
        return await handle.result()

    @overload
    async def start_update(
        self,
        update: UpdateMethodMultiParam[[SelfType], LocalReturnType],
        *,
        wait_for_stage: WorkflowUpdateStage,
        **options: Unpack[UpdateOptions],
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update(
        self,
        update: UpdateMethodMultiParam[[SelfType, ParamType], LocalReturnType],
        arg: ParamType,
        *,
        wait_for_stage: WorkflowUpdateStage,
        **options: Unpack[UpdateOptions],
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update(
        self,
        update: UpdateMethodMultiParam[MultiParamSpec, LocalReturnType],
        *,
        args: Sequence[Any],
        wait_for_stage: WorkflowUpdateStage,
        **options: Unpack[UpdateOptions],
    ) -> WorkflowUpdateHandle[LocalReturnType]: ...

    @overload
    async def start_update(
        self,
        update: str,
        arg: Any = _arg_unset,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[UpdateOptions],
    ) -> WorkflowUpdateHandle[Any]: ...

    async def start_update(
        self,
        update: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = [],
        id: str | None = None,
        result_type: type | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkflowUpdateHandle[Any]:
        """Send the workflow an update and wait until it has come as far as `wait_for_stage`.

        The other arguments and errors are those of `execute_update`.

        Args:
            update: The update's method, or its name.
            arg: Its one argument.
            wait_for_stage: ACCEPTED or COMPLETED.
            args: Its arguments, if there are several.
            id: The update's id.
            result_type: What to convert the result to, if the update is given by name.
            rpc_metadata: Metadata of the calls.
            rpc_timeout: Limit of every call.
        """
        return await self._start_update(
            update,
            arg,
            wait_for_stage=wait_for_stage,
            args=args,
            id=id,
            result_type=result_type,
            rpc_metadata=rpc_metadata,
            rpc_timeout=rpc_timeout,
        )

    async def _start_update(
        self,
        update: str | Callable[..., Any],
        arg: Any,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any],
        id: str | None,
        result_type: type | None,
        rpc_metadata: Mapping[str, str | bytes],
        rpc_timeout: timedelta | None,
        backing: Backing | None = None,
    ) -> WorkflowUpdateHandle[Any]:
        if wait_for_stage == WorkflowUpdateStage.ADMITTED:
            raise ValueError("ADMITTED wait stage not supported: wait for ACCEPTED or COMPLETED")
        name, hinted_type = update_name_and_type(update)
        return await self._client._impl.start_workflow_update(
            StartWorkflowUpdateInput(
                id=self._id,
                run_id=self._run_id,
                first_execution_run_id=self._first_execution_run_id,
                update_id=id,
                update=name,
                args=_arg_or_args(arg, args),
                headers={},
                ret_type=result_type or hinted_type,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                wait_for_stage=wait_for_stage,
                **(vars(backing) if backing is not None else {}),
            )
        )

    def get_update_handle(
        self, id: str, *, workflow_run_id: str | None = None, result_type: type | None = None
    ) -> WorkflowUpdateHandle[Any]:
        """Return a handle to an update sent before. Nothing is asked of the server.

        Args:
            id: The update's id.
            workflow_run_id: The run that got it; None means this handle's.
            result_type: What to convert its result to.
        """
        return WorkflowUpdateHandle(
            self._client,
            id,
            self._id,
            workflow_run_id=workflow_run_id or self._run_id,
            result_type=result_type,
        )

    def get_update_handle_for(
        self,
        update: UpdateMethodMultiParam[Any, LocalReturnType],
        id: str,
        *,
        workflow_run_id: str | None = None,
    ) -> WorkflowUpdateHandle[LocalReturnType]:
        """Return a handle to an update sent before, whose result has the type of the update's method."""
        return self.get_update_handle(id, workflow_run_id=workflow_run_id, result_type=update._defn.ret_type)
