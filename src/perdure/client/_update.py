"""Updates of workflows: their stages, the handle to one, and the start that may come with one.

May live here: what a caller holds of an update. May not: sending one (`_impl_workflows`).
"""

from __future__ import annotations

import asyncio
import functools
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Unpack, overload

from perdure.api.common import v1 as common_api
from perdure.api.enums import v1 as enums
from perdure.api.update import v1 as update_api
from perdure.api.workflowservice import v1 as service_api
from perdure.client._definitions import workflow_name_and_type
from perdure.client._exceptions import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from perdure.client._inputs_workflow import UpdateWithStartStartWorkflowInput
from perdure.client._results import single_value
from perdure.client._start_options import DirectStartOptions
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
from perdure.converter import DataConverter, WorkflowSerializationContext
from perdure.service import RPCError, RPCStatusCode
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
    from typing import Required

    from perdure.client._client import Client
    from perdure.client._workflow import WorkflowHandle

WAIT_ENDED = frozenset({RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})
"""Statuses that mean that waiting for an update ended, and not the update."""


class WorkflowUpdateStage(IntEnum):
    """How far an update has come, and how far a caller waits."""

    ADMITTED = int(enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED)
    """The server has it."""
    ACCEPTED = int(enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED)
    """The workflow's validator has let it through."""
    COMPLETED = int(enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED)
    """Its handler has returned or failed."""


class WorkflowUpdateHandle(Generic[LocalReturnType]):
    """A started update. Made by `WorkflowHandle.start_update` or `get_update_handle`.

    Args:
        client: The client to ask with.
        id: The update's id.
        workflow_id: The workflow's id.
        workflow_run_id: The run that got the update, if known.
        result_type: What to convert the result to.
        known_outcome: The outcome, if known already.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        workflow_id: str,
        *,
        workflow_run_id: str | None = None,
        result_type: type | None = None,
        known_outcome: update_api.Outcome | None = None,
    ) -> None:
        self._client = client
        self._id = id
        self._workflow_id = workflow_id
        self._workflow_run_id = workflow_run_id
        self._result_type = result_type
        self._known_outcome = known_outcome

    @functools.cached_property
    def _data_converter(self) -> DataConverter:
        return self._client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self._client.namespace, workflow_id=self._workflow_id)
        )

    @property
    def id(self) -> str:
        """The update's id."""
        return self._id

    @property
    def workflow_id(self) -> str:
        """The workflow's id."""
        return self._workflow_id

    @property
    def workflow_run_id(self) -> str | None:
        """Id of the run that got the update, if known."""
        return self._workflow_run_id

    async def result(
        self, *, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> LocalReturnType:
        """Wait for the update's result.

        Args:
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call.

        Raises:
            WorkflowUpdateFailedError: The update was rejected or failed.
            WorkflowUpdateRPCTimeoutOrCancelledError: Waiting was cancelled or took longer than a call may.
            RPCError: The server could not be asked.
        """
        outcome = await self._poll_until_outcome(rpc_metadata, rpc_timeout)
        if outcome.HasField("failure"):
            raise WorkflowUpdateFailedError(await self._data_converter.decode_failure(outcome.failure))
        value: LocalReturnType = await single_value(
            self._data_converter, outcome.success, self._result_type, "update"
        )
        return value

    async def _poll_until_outcome(
        self, rpc_metadata: Mapping[str, str | bytes] = {}, rpc_timeout: timedelta | None = None
    ) -> update_api.Outcome:
        if self._known_outcome is not None:
            return self._known_outcome
        request = service_api.PollWorkflowExecutionUpdateRequest(
            namespace=self._client.namespace,
            update_ref=update_api.UpdateRef(
                workflow_execution=common_api.WorkflowExecution(
                    workflow_id=self._workflow_id, run_id=self._workflow_run_id or ""
                ),
                update_id=self._id,
            ),
            identity=self._client.identity,
            wait_policy=update_api.WaitPolicy(
                lifecycle_stage=enums.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
            ),
        )
        # A server answers a long poll without an outcome when its time is up; then it is asked again.
        while True:
            try:
                response = await self._client.workflow_service.poll_workflow_execution_update(
                    request, retry=True, metadata=rpc_metadata, timeout=rpc_timeout
                )
            except RPCError as error:
                if error.status in WAIT_ENDED:
                    raise WorkflowUpdateRPCTimeoutOrCancelledError from error
                raise
            except asyncio.CancelledError as error:
                raise WorkflowUpdateRPCTimeoutOrCancelledError from error
            if response.HasField("outcome"):
                self._known_outcome = response.outcome
                return self._known_outcome


class WithStartOptions(DirectStartOptions, total=False):
    """The keyword arguments that all forms of `WithStartWorkflowOperation` have."""

    task_queue: Required[str]
    """Where its worker polls."""
    id_conflict_policy: Required[WorkflowIDConflictPolicy]
    """What happens if a workflow of this id is running."""


class WithStartWorkflowOperation(Generic[SelfType, ReturnType]):
    """The start of a workflow that is sent together with an update. Each can be used once.

    The arguments are those of `Client.start_workflow`; `id_conflict_policy` must be given.

    Raises:
        ValueError: The conflict policy is not given.
    """

    @overload
    def __init__(
        self, workflow: MethodAsyncNoParam[SelfType, ReturnType], **options: Unpack[WithStartOptions]
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[WithStartOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[WithStartOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        result_type: type[ReturnType] | None = None,
        **options: Unpack[WithStartOptions],
    ) -> None: ...

    def __init__(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        result_type: type | None = None,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        retry_policy: RetryPolicy | None = None,
        cron_schedule: str = "",
        memo: Mapping[str, Any] | None = None,
        search_attributes: TypedSearchAttributes | SearchAttributes | None = None,
        static_summary: str | None = None,
        static_details: str | None = None,
        start_delay: timedelta | None = None,
        priority: Priority = Priority.default,
        versioning_override: VersioningOverride | None = None,
        stack_level: int = 2,
    ) -> None:
        _warn_on_deprecated_search_attributes(search_attributes, stack_level=stack_level)
        name, hinted_type = workflow_name_and_type(workflow)
        if id_conflict_policy == WorkflowIDConflictPolicy.UNSPECIFIED:
            raise ValueError(
                "WorkflowIDConflictPolicy is required: say what happens if the workflow runs already, "
                "for example id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING"
            )
        self._start_workflow_input = UpdateWithStartStartWorkflowInput(
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
            static_summary=static_summary,
            static_details=static_details,
            start_delay=start_delay,
            headers={},
            ret_type=result_type or hinted_type,
            priority=priority,
            versioning_override=versioning_override,
        )
        self._workflow_handle: Future[WorkflowHandle[SelfType, ReturnType]] = Future()
        self._used = False

    async def workflow_handle(self) -> WorkflowHandle[SelfType, ReturnType]:
        """Wait until the workflow has been started, or found running, and return its handle.

        Raises:
            WorkflowAlreadyStartedError: It runs, and the conflict policy forbids that.
            RPCError: It could not be started.
        """
        # One waiter's cancellation must not end the waiting of others, nor the start itself.
        return await asyncio.shield(self._workflow_handle)
