"""What a client does with activities: start, execute, find, count, complete from outside.

May live here: the public methods and their forms. May not: requests (`_impl_activities`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Required, TypedDict, Unpack, cast, overload

from perdure.client._activity import ActivityHandle
from perdure.client._activity_execution import ActivityExecutionAsyncIterator, ActivityExecutionCount
from perdure.client._async_activity import AsyncActivityHandle, AsyncActivityIDReference
from perdure.client._definitions import activity_name_and_type
from perdure.client._inputs_activity import CountActivitiesInput, ListActivitiesInput, StartActivityInput
from perdure.client._interceptor import OutboundInterceptor
from perdure.client._links import Backing
from perdure.common import (
    ActivityIDConflictPolicy,
    ActivityIDReusePolicy,
    Priority,
    RetryPolicy,
    TypedSearchAttributes,
    _arg_or_args,
    _arg_unset,
)
from perdure.types import (
    CallableAsyncNoParam,
    CallableAsyncSingleParam,
    CallableSyncNoParam,
    CallableSyncSingleParam,
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)

if TYPE_CHECKING:
    from perdure.client._client import Client


class PlainActivityOptions(TypedDict, total=False):
    """The keyword arguments that all ways to start an activity have, those that answer a Nexus operation too."""

    id: Required[str]
    """The activity's id; at most one activity of an id runs at a time."""
    schedule_to_close_timeout: timedelta | None
    """Limit for all attempts together; this or `start_to_close_timeout` is required."""
    schedule_to_start_timeout: timedelta | None
    """Limit of waiting for a worker."""
    start_to_close_timeout: timedelta | None
    """Limit of one attempt."""
    heartbeat_timeout: timedelta | None
    """Limit between heartbeats."""
    id_reuse_policy: ActivityIDReusePolicy
    """What happens if an activity of this id has run before."""
    id_conflict_policy: ActivityIDConflictPolicy
    """What happens if an activity of this id is running."""
    retry_policy: RetryPolicy | None
    """Whether and when it is tried again."""
    search_attributes: TypedSearchAttributes | None
    """Values to find it by."""
    summary: str | None
    """One line about it, for people."""
    priority: Priority
    """Which tasks come first."""
    start_delay: timedelta | None
    """Wait before the first attempt."""
    rpc_metadata: Mapping[str, str | bytes]
    """Metadata of the call."""
    rpc_timeout: timedelta | None
    """Limit of the call."""


class StartActivityOptions(PlainActivityOptions, total=False):
    """The keyword arguments that all forms of starting and executing activities have."""

    task_queue: Required[str]
    """Where its worker polls."""


_NOTHING_BACKED = Backing("", (), ())


class ActivityMethods:
    """The part of `Client` that is about activities."""

    _impl: OutboundInterceptor

    @overload
    async def start_activity(
        self,
        activity: CallableAsyncNoParam[ReturnType],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: CallableSyncNoParam[ReturnType],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: CallableAsyncSingleParam[ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: CallableSyncSingleParam[ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: Callable[..., Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: Callable[..., ReturnType],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[Any]: ...

    async def start_activity(
        self,
        activity: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        result_type: type | None = None,
        schedule_to_close_timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        start_to_close_timeout: timedelta | None = None,
        heartbeat_timeout: timedelta | None = None,
        id_reuse_policy: ActivityIDReusePolicy = ActivityIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy: ActivityIDConflictPolicy = ActivityIDConflictPolicy.FAIL,
        retry_policy: RetryPolicy | None = None,
        search_attributes: TypedSearchAttributes | None = None,
        summary: str | None = None,
        priority: Priority = Priority.default,
        start_delay: timedelta | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        backing: Backing | None = None,
    ) -> ActivityHandle[Any]:
        """Start an activity without a workflow and return its handle.

        Args:
            activity: The function decorated with `@activity.defn`, or the activity's name.
            arg: Its one argument.
            args: Its arguments, if there are several.
            result_type: What to convert the result to, if the activity is given by name.
            id: And all others: see `StartActivityOptions`.

        Raises:
            ActivityAlreadyStartedError: The id is in use, and the policies do not allow it.
            ValueError: Neither limit of its run time is given, or the delay is negative.
            RPCError: It could not be started.
        """
        name, hinted_type = activity_name_and_type(activity)
        return await self._impl.start_activity(
            StartActivityInput(
                activity_type=name,
                args=_arg_or_args(arg, args),
                id=id,
                task_queue=task_queue,
                result_type=result_type or hinted_type,
                schedule_to_close_timeout=schedule_to_close_timeout,
                start_to_close_timeout=start_to_close_timeout,
                schedule_to_start_timeout=schedule_to_start_timeout,
                heartbeat_timeout=heartbeat_timeout,
                id_reuse_policy=id_reuse_policy,
                id_conflict_policy=id_conflict_policy,
                retry_policy=retry_policy,
                priority=priority,
                search_attributes=search_attributes,
                summary=summary,
                start_delay=start_delay,
                headers={},
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                **vars(backing or _NOTHING_BACKED),
            )
        )

    @overload
    async def execute_activity(
        self,
        activity: CallableAsyncNoParam[ReturnType],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity(
        self,
        activity: CallableSyncNoParam[ReturnType],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity(
        self,
        activity: CallableAsyncSingleParam[ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity(
        self,
        activity: CallableSyncSingleParam[ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity(
        self,
        activity: Callable[..., Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity(
        self,
        activity: Callable[..., ReturnType],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity(
        self,
        activity: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[StartActivityOptions],
    ) -> Any: ...

    async def execute_activity(
        self,
        activity: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[StartActivityOptions],
    ) -> Any:
        """Start an activity without a workflow, wait until it is over and return its result.

        The arguments are those of `start_activity`, the errors those of `start_activity` and `ActivityHandle.result`.
        """
        handle: ActivityHandle[Any] = await self.start_activity(
            cast(Any, activity),
            arg,
            args=args,
            result_type=result_type,
            **options,
        )
        return await handle.result()

    @overload
    async def start_activity_class(
        self,
        activity: type[CallableAsyncNoParam[ReturnType]],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity_class(
        self,
        activity: type[CallableSyncNoParam[ReturnType]],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity_class(
        self,
        activity: type[CallableAsyncSingleParam[ParamType, ReturnType]],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity_class(
        self,
        activity: type[CallableSyncSingleParam[ParamType, ReturnType]],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity_class(
        self,
        activity: type[Callable[..., Awaitable[ReturnType]]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity_class(
        self,
        activity: type[Callable[..., ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    async def start_activity_class(
        self,
        activity: type[Callable[..., Any]],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[Any]:
        """Start an activity that is a class with `__call__`; otherwise as `start_activity`."""
        return await self.start_activity(
            cast(Any, activity),
            arg,
            args=args,
            result_type=result_type,
            **options,
        )

    @overload
    async def execute_activity_class(
        self,
        activity: type[CallableAsyncNoParam[ReturnType]],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity_class(
        self,
        activity: type[CallableSyncNoParam[ReturnType]],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity_class(
        self,
        activity: type[CallableAsyncSingleParam[ParamType, ReturnType]],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity_class(
        self,
        activity: type[CallableSyncSingleParam[ParamType, ReturnType]],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity_class(
        self,
        activity: type[Callable[..., Awaitable[ReturnType]]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity_class(
        self,
        activity: type[Callable[..., ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    async def execute_activity_class(
        self,
        activity: type[Callable[..., Any]],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[StartActivityOptions],
    ) -> Any:
        """Execute an activity that is a class with `__call__`; otherwise as `execute_activity`."""
        return await self.execute_activity(
            cast(Any, activity),
            arg,
            args=args,
            result_type=result_type,
            **options,
        )

    @overload
    async def start_activity_method(
        self,
        activity: MethodAsyncNoParam[SelfType, ReturnType],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity_method(
        self,
        activity: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity_method(
        self,
        activity: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    @overload
    async def start_activity_method(
        self,
        activity: Callable[Concatenate[SelfType, MultiParamSpec], ReturnType],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[ReturnType]: ...

    async def start_activity_method(
        self,
        activity: Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[StartActivityOptions],
    ) -> ActivityHandle[Any]:
        """Start an activity that is a method; otherwise as `start_activity`."""
        return await self.start_activity(
            cast(Any, activity),
            arg,
            args=args,
            result_type=result_type,
            **options,
        )

    @overload
    async def execute_activity_method(
        self,
        activity: MethodAsyncNoParam[SelfType, ReturnType],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity_method(
        self,
        activity: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity_method(
        self,
        activity: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    @overload
    async def execute_activity_method(
        self,
        activity: Callable[Concatenate[SelfType, MultiParamSpec], ReturnType],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActivityOptions],
    ) -> ReturnType: ...

    async def execute_activity_method(
        self,
        activity: Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type | None = None,
        **options: Unpack[StartActivityOptions],
    ) -> Any:
        """Execute an activity that is a method; otherwise as `execute_activity`."""
        return await self.execute_activity(
            cast(Any, activity),
            arg,
            args=args,
            result_type=result_type,
            **options,
        )

    def list_activities(
        self,
        query: str | None = None,
        *,
        limit: int | None = None,
        page_size: int = 1000,
        next_page_token: bytes | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ActivityExecutionAsyncIterator:
        """Return the activities started by clients that match, as an async iterator.

        Args:
            query: A list filter; None means all.
            limit: Most activities in all.
            page_size: Activities per call.
            next_page_token: Where to begin.
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call.
        """
        return self._impl.list_activities(
            ListActivitiesInput(
                query=query,
                page_size=page_size,
                next_page_token=next_page_token,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                limit=limit,
            )
        )

    async def count_activities(
        self,
        query: str | None = None,
        *,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ActivityExecutionCount:
        """Count the activities started by clients that match.

        Args:
            query: A list filter, possibly with GROUP BY; None means all.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The filter is wrong, or the server could not be asked.
        """
        return await self._impl.count_activities(
            CountActivitiesInput(query=query, rpc_metadata=rpc_metadata, rpc_timeout=rpc_timeout)
        )

    @overload
    def get_activity_handle(self, activity_id: str, *, run_id: str | None = None) -> ActivityHandle[Any]: ...

    @overload
    def get_activity_handle(
        self, activity_id: str, *, result_type: type[ReturnType], run_id: str | None = None
    ) -> ActivityHandle[ReturnType]: ...

    def get_activity_handle(
        self, activity_id: str, *, run_id: str | None = None, result_type: type | None = None
    ) -> ActivityHandle[Any]:
        """Return a handle to an activity started before by a client. Nothing is asked of the server.

        Args:
            activity_id: The activity's id.
            run_id: The run that is meant; None means the newest.
            result_type: What to convert the result to.
        """
        return ActivityHandle(cast("Client", self), activity_id, run_id=run_id, result_type=result_type)

    @overload
    def get_async_activity_handle(
        self, *, activity_id: str, workflow_id: str | None = None, run_id: str | None = None
    ) -> AsyncActivityHandle: ...

    @overload
    def get_async_activity_handle(self, *, task_token: bytes) -> AsyncActivityHandle: ...

    def get_async_activity_handle(
        self,
        *,
        workflow_id: str | None = None,
        run_id: str | None = None,
        activity_id: str | None = None,
        task_token: bytes | None = None,
    ) -> AsyncActivityHandle:
        """Return a handle that completes an activity from outside. Nothing is asked of the server.

        Args:
            workflow_id: Id of its workflow; None for an activity started by a client.
            run_id: Run id of its workflow, or its own if it has none; None means the newest.
            activity_id: The activity's id.
            task_token: The running attempt's token, instead of all ids.

        Raises:
            ValueError: Both a token and ids are given, or neither, or no activity id.
        """
        client = cast("Client", self)
        if task_token is not None:
            if workflow_id is not None or run_id is not None or activity_id is not None:
                raise ValueError("Task token cannot be present with other IDs")
            return AsyncActivityHandle(client, task_token)
        if activity_id is not None:
            return AsyncActivityHandle(client, AsyncActivityIDReference(workflow_id, run_id, activity_id))
        if workflow_id is not None:
            raise ValueError("Workflow ID, run ID, and activity ID must all be given together")
        raise ValueError("Require task token, or workflow_id & run_id & activity_id, or activity_id & run_id")
