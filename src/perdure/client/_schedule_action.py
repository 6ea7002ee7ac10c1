"""What a schedule does at its times: start a workflow.

May live here: actions and their messages, both ways. May not: when they happen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Required, Unpack, overload

from perdure.api.common import v1 as common_api
from perdure.api.schedule import v1 as schedule_api
from perdure.api.taskqueue import v1 as taskqueue_api
from perdure.api.workflow import v1 as workflow_api
from perdure.client._definitions import workflow_name_and_type
from perdure.client._start_options import StartOptions
from perdure.client._wire import _apply_headers, _encode_user_metadata, duration, optional_timedelta
from perdure.common import (
    HeaderCodecBehavior,
    Priority,
    RetryPolicy,
    SearchAttributes,
    TypedSearchAttributes,
    _arg_or_args,
    _arg_unset,
)
from perdure.converter import (
    DataConverter,
    StorageDriverStoreContext,
    StorageDriverWorkflowInfo,
    WorkflowSerializationContext,
    decode_search_attributes,
    decode_typed_search_attributes,
    encode_search_attributes,
)
from perdure.types import (
    MethodAsyncNoParam,
    MethodAsyncSingleParam,
    MultiParamSpec,
    ParamType,
    ReturnType,
    SelfType,
)

if TYPE_CHECKING:
    from perdure.client._client import Client


class ScheduleAction(ABC):
    """What a schedule does."""

    @staticmethod
    def _from_proto(action: schedule_api.ScheduleAction) -> ScheduleAction:
        if not action.HasField("start_workflow"):
            raise ValueError(f"Unsupported action: {action.WhichOneof('action')}")
        return ScheduleActionStartWorkflow("<unset>", raw_info=action.start_workflow)

    @abstractmethod
    async def _to_proto(self, client: Client) -> schedule_api.ScheduleAction: ...


class StartActionOptions(StartOptions, total=False):
    """The keyword arguments that all forms of `ScheduleActionStartWorkflow` have."""

    task_queue: Required[str]
    """Where its worker polls."""
    typed_search_attributes: TypedSearchAttributes
    """Values to find the workflows by."""


@dataclass
class ScheduleActionStartWorkflow(ScheduleAction):
    """Starts a workflow; the server appends the time to its id.

    The arguments are those of `Client.start_workflow`. One that comes from a server has payloads where there were
    values (arguments, memo, summary, details); payloads are sent as they are.

    Raises:
        ValueError: Id or task queue is missing, or the workflow is dynamic.
    """

    workflow: str
    args: Sequence[Any] | Sequence[common_api.Payload]
    id: str
    task_queue: str
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    task_timeout: timedelta | None
    retry_policy: RetryPolicy | None
    memo: Mapping[str, Any] | Mapping[str, common_api.Payload] | None
    typed_search_attributes: TypedSearchAttributes
    untyped_search_attributes: SearchAttributes
    """Values that came from a server without a type; deprecated otherwise."""
    static_summary: str | common_api.Payload | None
    static_details: str | common_api.Payload | None
    priority: Priority
    headers: Mapping[str, common_api.Payload] | None
    """Set by interceptors."""
    _from_raw: bool = field(compare=False, init=False)

    @overload
    def __init__(
        self, workflow: MethodAsyncNoParam[SelfType, ReturnType], **options: Unpack[StartActionOptions]
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: MethodAsyncSingleParam[SelfType, ParamType, ReturnType],
        arg: ParamType,
        **options: Unpack[StartActionOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: Callable[Concatenate[SelfType, MultiParamSpec], Awaitable[ReturnType]],
        *,
        args: Sequence[Any],
        **options: Unpack[StartActionOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        workflow: str,
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        **options: Unpack[StartActionOptions],
    ) -> None: ...

    @overload
    def __init__(self, workflow: str, *, raw_info: workflow_api.NewWorkflowExecutionInfo) -> None: ...

    def __init__(
        self,
        workflow: str | Callable[..., Awaitable[Any]],
        arg: Any = _arg_unset,
        *,
        args: Sequence[Any] = [],
        id: str | None = None,
        task_queue: str | None = None,
        execution_timeout: timedelta | None = None,
        run_timeout: timedelta | None = None,
        task_timeout: timedelta | None = None,
        retry_policy: RetryPolicy | None = None,
        memo: Mapping[str, Any] | None = None,
        typed_search_attributes: TypedSearchAttributes = TypedSearchAttributes.empty,
        untyped_search_attributes: SearchAttributes | None = None,
        static_summary: str | None = None,
        static_details: str | None = None,
        headers: Mapping[str, common_api.Payload] | None = None,
        raw_info: workflow_api.NewWorkflowExecutionInfo | None = None,
        priority: Priority = Priority.default,
    ) -> None:
        super().__init__()
        self._from_raw = raw_info is not None
        if raw_info is not None:
            self._take(raw_info)
            return
        if not id:
            raise ValueError("ID required")
        if not task_queue:
            raise ValueError("Task queue required")
        if not callable(workflow) and not isinstance(workflow, str):
            raise TypeError("Workflow must be a string or callable")
        self.workflow = workflow_name_and_type(workflow)[0]
        self.args = _arg_or_args(arg, args)
        self.id = id
        self.task_queue = task_queue
        self.execution_timeout = execution_timeout
        self.run_timeout = run_timeout
        self.task_timeout = task_timeout
        self.retry_policy = retry_policy
        self.memo = memo
        self.typed_search_attributes = typed_search_attributes
        self.untyped_search_attributes = (
            {} if untyped_search_attributes is None else untyped_search_attributes
        )
        self.static_summary = static_summary
        self.static_details = static_details
        self.headers = headers
        self.priority = priority

    def _take(self, info: workflow_api.NewWorkflowExecutionInfo) -> None:
        """Fill in the fields from a server's message."""
        self.workflow = info.workflow_type.name
        self.args = info.input.payloads
        self.id = info.workflow_id
        self.task_queue = info.task_queue.name
        self.execution_timeout = optional_timedelta(info, "workflow_execution_timeout")
        self.run_timeout = optional_timedelta(info, "workflow_run_timeout")
        self.task_timeout = optional_timedelta(info, "workflow_task_timeout")
        has_policy = info.HasField("retry_policy")
        self.retry_policy = RetryPolicy.from_proto(info.retry_policy) if has_policy else None
        self.memo = info.memo.fields or None
        self.typed_search_attributes = decode_typed_search_attributes(info.search_attributes)
        typed_names = {pair.key.name for pair in self.typed_search_attributes}
        untyped = decode_search_attributes(info.search_attributes)
        self.untyped_search_attributes = {
            name: values for name, values in untyped.items() if name not in typed_names
        }
        metadata = info.user_metadata
        self.static_summary = metadata.summary if metadata.HasField("summary") else None
        self.static_details = metadata.details if metadata.HasField("details") else None
        self.headers = info.header.fields or None
        has_priority = info.HasField("priority")
        self.priority = Priority._from_proto(info.priority) if has_priority else Priority.default

    async def _to_proto(self, client: Client) -> schedule_api.ScheduleAction:
        converter = self._converter(client)
        info = workflow_api.NewWorkflowExecutionInfo(
            workflow_id=self.id,
            workflow_type=common_api.WorkflowType(name=self.workflow),
            task_queue=taskqueue_api.TaskQueue(name=self.task_queue),
            workflow_execution_timeout=duration(self.execution_timeout or None),
            workflow_run_timeout=duration(self.run_timeout or None),
            workflow_task_timeout=duration(self.task_timeout or None),
            memo=await converter._encode_memo(self.memo) if self.memo else None,
            user_metadata=await _encode_user_metadata(converter, self.static_summary, self.static_details),
            priority=self.priority._to_proto(),
        )
        for value in self.args:
            is_payload = isinstance(value, common_api.Payload)
            info.input.payloads.append(value if is_payload else (await converter.encode([value]))[0])
        if self.retry_policy is not None:
            self.retry_policy.apply_to_proto(info.retry_policy)
        typed_names = {pair.key.name for pair in self.typed_search_attributes}
        untyped = {k: v for k, v in self.untyped_search_attributes.items() if k not in typed_names}
        if untyped:
            encode_search_attributes(untyped, info.search_attributes)
        if self.typed_search_attributes:
            encode_search_attributes(self.typed_search_attributes, info.search_attributes)
        if self.headers:
            # What comes from a server has been encoded already.
            encode = (
                client._config["header_codec_behavior"] is HeaderCodecBehavior.CODEC and not self._from_raw
            )
            await _apply_headers(self.headers, info.header.fields, encode, client.data_converter)
        return schedule_api.ScheduleAction(start_workflow=info)

    def _converter(self, client: Client) -> DataConverter:
        return client.data_converter._with_contexts(
            WorkflowSerializationContext(namespace=client.namespace, workflow_id=self.id),
            StorageDriverStoreContext(
                target=StorageDriverWorkflowInfo(id=self.id, type=self.workflow, namespace=client.namespace)
            ),
        )
