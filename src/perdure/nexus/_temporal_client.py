"""The client that operations with `@nexus.temporal_operation` get, and what their start methods return.

May live here: starting what answers an operation. May not: the handlers themselves (`_operation_handlers`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Self, TypedDict, TypeVar, Unpack, cast, overload

from nexusrpc import HandlerError, HandlerErrorType, OperationError, OperationErrorState
from nexusrpc.handler import StartOperationResultAsync, StartOperationResultSync

from perdure.client import WorkflowUpdateFailedError, WorkflowUpdateHandle, WorkflowUpdateStage
from perdure.common import _arg_unset
from perdure.nexus._operation_context import BackingActivityOptions, BackingWorkflowOptions, StartContext
from perdure.nexus._token import OperationToken, OperationTokenType
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
    from perdure.client import Client
    from perdure.workflow import UpdateMethodMultiParam

ResultT = TypeVar("ResultT")


class BackingUpdateOptions(TypedDict, total=False):
    """The keyword arguments of an update that answers an operation."""

    update_id: str | None
    """The update's id; None means that of the request, so that repeating it updates nothing again."""
    rpc_metadata: Mapping[str, str | bytes]
    """Metadata of the calls."""
    rpc_timeout: timedelta | None
    """Limit of every call."""
    run_id: str | None
    """The run that is updated; None means the newest."""
    first_execution_run_id: str | None
    """Update only the chain of runs that began with this one."""


@dataclass(frozen=True)
class TemporalOperationResult(Generic[ResultT]):
    """What starting an operation has come to: its result, or a token of what goes on.

    Raises:
        ValueError: Both are given, or neither, or an empty token.
    """

    value: ResultT | object = _arg_unset
    token: str | None = None

    def __post_init__(self) -> None:
        """Check that it is one of the two."""
        if (self.value is not _arg_unset) == (self.token is not None):
            raise ValueError("TemporalOperationResult must have exactly one of value or token set.")
        token: object = self.token
        if token is not None and not (isinstance(token, str) and token):
            raise ValueError("TemporalOperationResult token must be a non-empty string.")

    @classmethod
    def sync(cls, value: ResultT) -> Self:
        """Return that the operation is over, with a result."""
        return cls(value=value)

    @classmethod
    def async_token(cls, token: str) -> Self:
        """Return that the operation goes on, under a token."""
        return cls(token=token)

    def _to_nexus_result(self) -> StartOperationResultSync[ResultT] | StartOperationResultAsync:
        if self.token is not None:
            return StartOperationResultAsync(self.token)
        return StartOperationResultSync(cast(ResultT, self.value))


class TemporalNexusClient(ABC):
    """Starts what answers the operation that is served. Only one thing can answer it."""

    @property
    @abstractmethod
    def client(self) -> Client:
        """The worker's client, for everything else."""

    @overload
    async def start_workflow(
        self, workflow: MethodAsyncNoParam[SelfType, ReturnType], **options: Unpack[BackingWorkflowOptions]
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[BackingWorkflowOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[BackingWorkflowOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_workflow(
        self,
        workflow: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type[ReturnType] | None = None,
        **options: Unpack[BackingWorkflowOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @abstractmethod
    async def start_workflow(
        self, workflow: str | Callable[..., Awaitable[Any]], arg: Any = _arg_unset, **options: Any
    ) -> TemporalOperationResult[Any]:
        """Start a workflow whose result is that of the operation; see `WorkflowRunOperationContext.start_workflow`.

        Raises:
            nexusrpc.HandlerError: Something answers the operation already.
        """

    @overload
    async def start_workflow_update(
        self,
        workflow_id: str,
        update: UpdateMethodMultiParam[[Any], ReturnType],
        **options: Unpack[BackingUpdateOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_workflow_update(
        self,
        workflow_id: str,
        update: UpdateMethodMultiParam[[Any, ParamType], ReturnType],
        arg: ParamType,
        **options: Unpack[BackingUpdateOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_workflow_update(
        self,
        workflow_id: str,
        update: UpdateMethodMultiParam[MultiParamSpec, ReturnType],
        *,
        args: Sequence[Any],
        **options: Unpack[BackingUpdateOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_workflow_update(
        self,
        workflow_id: str,
        update: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type[ReturnType] | None = None,
        **options: Unpack[BackingUpdateOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @abstractmethod
    async def start_workflow_update(
        self, workflow_id: str, update: str | Callable[..., Any], arg: Any = _arg_unset, **options: Any
    ) -> TemporalOperationResult[Any]:
        """Send a workflow an update whose result is that of the operation.

        Raises:
            nexusrpc.HandlerError: Something answers the operation already, or there is nowhere to answer to.
            nexusrpc.OperationError: The update is over, and has failed or was rejected.
        """

    @overload
    async def start_activity(
        self,
        activity: CallableAsyncNoParam[ReturnType],
        **options: Unpack[BackingActivityOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: CallableSyncNoParam[ReturnType],
        **options: Unpack[BackingActivityOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: CallableAsyncSingleParam[ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[BackingActivityOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: CallableSyncSingleParam[ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[BackingActivityOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: Callable[..., Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[BackingActivityOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: Callable[..., ReturnType],
        *,
        args: Sequence[Any],
        **options: Unpack[BackingActivityOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @overload
    async def start_activity(
        self,
        activity: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type[ReturnType] | None = None,
        **options: Unpack[BackingActivityOptions],
    ) -> TemporalOperationResult[ReturnType]: ...

    @abstractmethod
    async def start_activity(
        self, activity: str | Callable[..., Any], arg: Any = _arg_unset, **options: Any
    ) -> TemporalOperationResult[Any]:
        """Start an activity without a workflow whose result is that of the operation.

        The arguments are those of `Client.start_activity`; without `task_queue` the activity gets the worker's. The
        server must allow it: `activity.enableCallbacks`.

        Raises:
            nexusrpc.HandlerError: Something answers the operation already.
            ActivityAlreadyStartedError: The id is in use, and the policies do not allow it.
            ValueError: Neither limit of its run time is given, or the delay is negative.
            RPCError: It could not be started.
        """


class _TemporalNexusClient(TemporalNexusClient):
    """The client of the operation whose start is served."""

    def __init__(self) -> None:
        self._served = StartContext.current()
        self._is_answered = False

    @property
    def client(self) -> Client:
        return self._served.client

    @contextmanager
    def _answering(self) -> Iterator[None]:
        if self._is_answered:
            raise HandlerError(
                "Only one async operation can be started per operation handler invocation. "
                "Use TemporalNexusClient.client for additional workflow interactions",
                type=HandlerErrorType.BAD_REQUEST,
            )
        # Before the call: another one may be made meanwhile.
        self._is_answered = True
        try:
            yield
        except BaseException:  # whatever it was, nothing answers the operation
            self._is_answered = False
            raise

    async def start_workflow(
        self, workflow: str | Callable[..., Awaitable[Any]], arg: Any = _arg_unset, **options: Any
    ) -> TemporalOperationResult[Any]:
        with self._answering():
            handle = await self._served.start_workflow(workflow, arg, **options)
        return TemporalOperationResult.async_token(handle.to_token())

    async def start_activity(
        self, activity: str | Callable[..., Any], arg: Any = _arg_unset, **options: Any
    ) -> TemporalOperationResult[Any]:
        with self._answering():
            handle = await self._served.start_activity(activity, arg, **options)
        token = OperationToken(
            type=OperationTokenType.ACTIVITY,
            namespace=self._served.client.namespace,
            activity_id=handle.id,
            run_id=handle.run_id,
        )
        return TemporalOperationResult.async_token(token.encode())

    async def start_workflow_update(
        self,
        workflow_id: str,
        update: str | Callable[..., Any],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        update_id: str | None = None,
        result_type: type | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
        run_id: str | None = None,
        first_execution_run_id: str | None = None,
    ) -> TemporalOperationResult[Any]:
        served = self._served
        if not served.nexus_context.callback_url:
            raise HandlerError(
                "callback URL is required for a workflow update Nexus operation",
                type=HandlerErrorType.BAD_REQUEST,
            )
        update_id = update_id or served.nexus_context.request_id

        def token(run_id: str | None) -> str:
            return OperationToken(
                type=OperationTokenType.UPDATE_WORKFLOW,
                namespace=served.client.namespace,
                workflow_id=workflow_id,
                run_id=run_id,
                update_id=update_id,
            ).encode()

        with self._answering():
            workflow = served.client.get_workflow_handle(
                workflow_id, run_id=run_id, first_execution_run_id=first_execution_run_id
            )
            handle = await workflow._start_update(
                update,
                arg,
                args=args,
                wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                id=update_id,
                result_type=result_type,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
                # Which run takes the update is not known yet.
                backing=served.backing(token(run_id)),
            )
            if handle._known_outcome is not None:
                return TemporalOperationResult.sync(await _result(handle))
        return TemporalOperationResult.async_token(token(handle.workflow_run_id))


async def _result(handle: WorkflowUpdateHandle[Any]) -> Any:
    """Return the result of an update that is over, or raise what its operation ends in."""
    try:
        return await handle.result()
    except WorkflowUpdateFailedError as error:
        raise OperationError(str(error), state=OperationErrorState.FAILED) from error
