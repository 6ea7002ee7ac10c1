"""Activities: starting them, and the handles they have in a workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any, Concatenate, TypedDict, Unpack, overload

from perdure.common import Priority, RetryPolicy, _arg_or_args, _arg_unset
from perdure.types import (
    CallableAsyncNoParam,
    CallableAsyncSingleParam,
    CallableSyncNoParam,
    CallableSyncSingleParam,
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MethodSyncNoParam,
    MethodSyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)
from perdure.workflow._event_groups import EventGroup
from perdure.workflow._exceptions import VersioningIntent
from perdure.workflow._runtime import _Runtime
from perdure.workflow._shown_options import shows_options


class _AsyncioTask(asyncio.Task[ReturnType]):
    """A task that says what it returns."""


class ActivityHandle(_AsyncioTask[ReturnType]):
    """A started activity: a task that ends with the activity's result. Cancelling it cancels the activity."""


class ActivityCancellationType(IntEnum):
    """What the workflow waits for when it cancels an activity."""

    TRY_CANCEL = 0
    """Ask for cancellation and go on at once."""
    WAIT_CANCELLATION_COMPLETED = 1
    """Ask for cancellation and wait for the activity's end. It must heartbeat to hear of it."""
    ABANDON = 2
    """Go on at once and let the activity run."""


class ActivityConfig(TypedDict, total=False):
    """Options of `start_activity` and `execute_activity`, to keep and pass as `**options`."""

    task_queue: str | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    heartbeat_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    cancellation_type: ActivityCancellationType
    activity_id: str | None
    versioning_intent: VersioningIntent | None
    summary: str | None
    priority: Priority
    event_groups: Sequence[EventGroup] | None


@overload
def start_activity(
    activity: CallableAsyncNoParam[ReturnType],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity(
    activity: CallableSyncNoParam[ReturnType],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity(
    activity: CallableAsyncSingleParam[ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity(
    activity: CallableSyncSingleParam[ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity(
    activity: Callable[..., Awaitable[ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity(
    activity: Callable[..., ReturnType],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity(
    activity: str,
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = None,
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[Any]: ...


def start_activity(
    activity: Any,
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = (),
    task_queue: str | None = None,
    result_type: type | None = None,
    schedule_to_close_timeout: timedelta | None = None,
    schedule_to_start_timeout: timedelta | None = None,
    start_to_close_timeout: timedelta | None = None,
    heartbeat_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    cancellation_type: ActivityCancellationType = ActivityCancellationType.TRY_CANCEL,
    activity_id: str | None = None,
    versioning_intent: VersioningIntent | None = None,
    summary: str | None = None,
    priority: Priority = Priority.default,
    event_groups: Sequence[EventGroup] | None = None,
) -> ActivityHandle[Any]:
    """Starts an activity.

    Args:
        activity: The function, or the activity's name.
        arg: Its argument, if there is exactly one.
        args: Its arguments, if `arg` is not given.
        task_queue: Where workers with the activity poll; the workflow's own queue by default.
        result_type: Of an activity given by name; for a function its signature says it.
        schedule_to_close_timeout: For everything, all attempts included. This or the next is required.
        schedule_to_start_timeout: For waiting in the queue.
        start_to_close_timeout: For one attempt.
        heartbeat_timeout: Between heartbeats, after which the attempt counts as lost.
        retry_policy: How failed attempts are tried again; the server's policy by default.
        cancellation_type: What a cancellation waits for.
        activity_id: Derived from the order of starts by default, which is best.
        versioning_intent: Deprecated in favour of worker deployments.
        summary: One line about the activity for user interfaces.
        priority: Its place in the queue.
        event_groups: Groups that it belongs to, for user interfaces (experimental).

    Returns:
        A task that ends with the result.

    Raises:
        ValueError: there is neither a schedule-to-close nor a start-to-close timeout, or `arg` and `args` are given.
    """
    return _Runtime.current().start_activity(
        activity,
        _arg_or_args(arg, args),
        task_queue=task_queue,
        result_type=result_type,
        schedule_to_close_timeout=schedule_to_close_timeout,
        schedule_to_start_timeout=schedule_to_start_timeout,
        start_to_close_timeout=start_to_close_timeout,
        heartbeat_timeout=heartbeat_timeout,
        retry_policy=retry_policy,
        cancellation_type=cancellation_type,
        activity_id=activity_id,
        versioning_intent=versioning_intent,
        summary=summary,
        priority=priority,
        event_groups=event_groups,
    )


@overload
def start_activity_class(
    activity: type[CallableAsyncNoParam[ReturnType]],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_class(
    activity: type[CallableSyncNoParam[ReturnType]],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_class(
    activity: type[CallableAsyncSingleParam[ParamType, ReturnType]],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_class(
    activity: type[CallableSyncSingleParam[ParamType, ReturnType]],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_class(
    activity: type[Callable[..., Awaitable[ReturnType]]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_class(
    activity: type[Callable[..., ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@shows_options(ActivityConfig, start_activity)
def start_activity_class(
    activity: Any, arg: Any = _arg_unset, *, args: Sequence[Any] = (), **options: Unpack[ActivityConfig]
) -> ActivityHandle[Any]:
    """Starts the activity that is a class with a `__call__` method; see `start_activity`."""
    return start_activity(activity, arg, args=args, **options)


@overload
def start_activity_method(
    activity: MethodAsyncNoParam[SelfType, ReturnType],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_method(
    activity: MethodSyncNoParam[SelfType, ReturnType],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_method(
    activity: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_method(
    activity: MethodSyncSingleParam[SelfType, ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_method(
    activity: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@overload
def start_activity_method(
    activity: Callable[Concatenate[SelfType, MultiParamSpec], ReturnType],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ActivityHandle[ReturnType]: ...


@shows_options(ActivityConfig, start_activity)
def start_activity_method(
    activity: Any, arg: Any = _arg_unset, *, args: Sequence[Any] = (), **options: Unpack[ActivityConfig]
) -> ActivityHandle[Any]:
    """Starts the activity that is a method of a class; see `start_activity`."""
    return start_activity(activity, arg, args=args, **options)


@overload
async def execute_activity(
    activity: CallableAsyncNoParam[ReturnType],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity(
    activity: CallableSyncNoParam[ReturnType],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity(
    activity: CallableAsyncSingleParam[ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity(
    activity: CallableSyncSingleParam[ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity(
    activity: Callable[..., Awaitable[ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity(
    activity: Callable[..., ReturnType],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity(
    activity: str,
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = ...,
    result_type: type | None = None,
    **options: Unpack[ActivityConfig],
) -> Any: ...


@shows_options(ActivityConfig, start_activity)
async def execute_activity(
    activity: Any,
    arg: Any = _arg_unset,
    *,
    args: Sequence[Any] = (),
    result_type: type | None = None,
    **options: Unpack[ActivityConfig],
) -> Any:
    """Starts an activity and waits for its result; see `start_activity`."""
    return await start_activity(activity, arg, args=args, result_type=result_type, **options)


@overload
async def execute_activity_class(
    activity: type[CallableAsyncNoParam[ReturnType]],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_class(
    activity: type[CallableSyncNoParam[ReturnType]],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_class(
    activity: type[CallableAsyncSingleParam[ParamType, ReturnType]],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_class(
    activity: type[CallableSyncSingleParam[ParamType, ReturnType]],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_class(
    activity: type[Callable[..., Awaitable[ReturnType]]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_class(
    activity: type[Callable[..., ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@shows_options(ActivityConfig, start_activity)
async def execute_activity_class(
    activity: Any, arg: Any = _arg_unset, *, args: Sequence[Any] = (), **options: Unpack[ActivityConfig]
) -> Any:
    """Starts the activity that is a class with a `__call__` method and waits for its result; see `start_activity`."""
    return await execute_activity(activity, arg, args=args, **options)


@overload
async def execute_activity_method(
    activity: MethodAsyncNoParam[SelfType, ReturnType],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_method(
    activity: MethodSyncNoParam[SelfType, ReturnType],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_method(
    activity: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_method(
    activity: MethodSyncSingleParam[SelfType, ParamType, ReturnType],
    arg: ParamType,
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_method(
    activity: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@overload
async def execute_activity_method(
    activity: Callable[Concatenate[SelfType, MultiParamSpec], ReturnType],
    *,
    args: Sequence[Any],
    **options: Unpack[ActivityConfig],
) -> ReturnType: ...


@shows_options(ActivityConfig, start_activity)
async def execute_activity_method(
    activity: Any, arg: Any = _arg_unset, *, args: Sequence[Any] = (), **options: Unpack[ActivityConfig]
) -> Any:
    """Starts the activity that is a method of a class and waits for its result; see `start_activity`."""
    return await execute_activity(activity, arg, args=args, **options)
