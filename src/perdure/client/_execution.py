"""Workflow executions as lists and descriptions show them.

May live here: what a server says about a run. May not: doing anything with the run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self

from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service_api
from perdure.client._history import WorkflowHistory, WorkflowHistoryEventFilterType
from perdure.client._pages import PageIterator
from perdure.client._wire import _decode_user_metadata, optional_utc, utc
from perdure.common import SearchAttributes, SearchAttributeValue, TypedSearchAttributes, _arg_unset
from perdure.converter import (
    DataConverter,
    WorkflowSerializationContext,
    decode_search_attributes,
    decode_typed_search_attributes,
)
from perdure.converter._search_attributes import _decode_search_attribute_value

if TYPE_CHECKING:
    from perdure.api.workflow.v1 import WorkflowExecutionInfo
    from perdure.client._client import Client
    from perdure.client._inputs_workflow import ListWorkflowsInput


class WorkflowExecutionStatus(IntEnum):
    """Status of a run."""

    RUNNING = int(enums.WORKFLOW_EXECUTION_STATUS_RUNNING)
    COMPLETED = int(enums.WORKFLOW_EXECUTION_STATUS_COMPLETED)
    FAILED = int(enums.WORKFLOW_EXECUTION_STATUS_FAILED)
    CANCELED = int(enums.WORKFLOW_EXECUTION_STATUS_CANCELED)
    TERMINATED = int(enums.WORKFLOW_EXECUTION_STATUS_TERMINATED)
    CONTINUED_AS_NEW = int(enums.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW)
    TIMED_OUT = int(enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT)
    PAUSED = int(enums.WORKFLOW_EXECUTION_STATUS_PAUSED)


@dataclass
class WorkflowExecution:
    """One run, as a list shows it."""

    close_time: datetime | None
    """When it closed."""

    execution_time: datetime | None
    """When it began to run, or will: later than `start_time` if its start was delayed."""

    history_length: int
    """Number of its events."""

    id: str
    """The workflow's id."""

    namespace: str
    """Its namespace."""

    parent_id: str | None
    """Id of the parent workflow, if it is a child."""

    parent_run_id: str | None
    """Run id of the parent workflow."""

    root_id: str | None
    """Id of the workflow at the root of parents."""

    root_run_id: str | None
    """Run id of that workflow."""

    raw_info: WorkflowExecutionInfo
    """The server's message."""

    run_id: str
    """The run's id."""

    search_attributes: SearchAttributes
    """Search attributes without types; use `typed_search_attributes`."""

    start_time: datetime
    """When it was started."""

    status: WorkflowExecutionStatus | None
    """Its status."""

    task_queue: str
    """Its task queue."""

    typed_search_attributes: TypedSearchAttributes
    """Its search attributes."""

    workflow_type: str
    """Name of the workflow."""

    _context_free_data_converter: DataConverter

    @property
    def data_converter(self) -> DataConverter:
        """Converts the payloads of this workflow."""
        return self._context_free_data_converter.with_context(
            WorkflowSerializationContext(namespace=self.namespace, workflow_id=self.id)
        )

    @classmethod
    def _from_raw_info(
        cls, info: WorkflowExecutionInfo, namespace: str, converter: DataConverter, **additional_fields: Any
    ) -> Self:
        parent = info.parent_execution if info.HasField("parent_execution") else None
        root = info.root_execution if info.HasField("root_execution") else None
        return cls(
            close_time=optional_utc(info, "close_time"),
            execution_time=optional_utc(info, "execution_time"),
            history_length=info.history_length,
            id=info.execution.workflow_id,
            namespace=namespace,
            parent_id=parent.workflow_id if parent else None,
            parent_run_id=parent.run_id if parent else None,
            root_id=root.workflow_id if root else None,
            root_run_id=root.run_id if root else None,
            raw_info=info,
            run_id=info.execution.run_id,
            search_attributes=decode_search_attributes(info.search_attributes),
            start_time=utc(info.start_time),
            status=WorkflowExecutionStatus(info.status) if info.status else None,
            task_queue=info.task_queue,
            typed_search_attributes=decode_typed_search_attributes(info.search_attributes),
            workflow_type=info.type.name,
            _context_free_data_converter=converter,
            **additional_fields,
        )

    async def memo(self) -> Mapping[str, Any]:
        """Return the memo, converted without type hints."""
        return await self.data_converter._decode_memo(self.raw_info.memo)

    async def memo_value(self, key: str, default: Any = _arg_unset, *, type_hint: type | None = None) -> Any:
        """Return one value of the memo.

        Args:
            key: Its key.
            default: Returned if there is no such key.
            type_hint: What to convert it to.

        Raises:
            KeyError: There is no such key, and no default.
        """
        return await self.data_converter._decode_memo_field(self.raw_info.memo, key, default, type_hint)


@dataclass
class WorkflowExecutionDescription(WorkflowExecution):
    """One run, as `WorkflowHandle.describe` shows it."""

    raw_description: service_api.DescribeWorkflowExecutionResponse
    """The server's message."""

    _static_summary: str | None = None
    _static_details: str | None = None
    _metadata_decoded: bool = False

    async def static_summary(self) -> str | None:
        """Return the one-line summary given when the workflow was started."""
        await self._decode_metadata()
        return self._static_summary

    async def static_details(self) -> str | None:
        """Return the details given when the workflow was started."""
        await self._decode_metadata()
        return self._static_details

    async def _decode_metadata(self) -> None:
        if not self._metadata_decoded:
            metadata = self.raw_description.execution_config.user_metadata
            self._static_summary, self._static_details = await _decode_user_metadata(
                self.data_converter, metadata
            )
            self._metadata_decoded = True

    @staticmethod
    async def _from_raw_description(
        description: service_api.DescribeWorkflowExecutionResponse, namespace: str, converter: DataConverter
    ) -> WorkflowExecutionDescription:
        return WorkflowExecutionDescription._from_raw_info(
            description.workflow_execution_info,
            namespace=namespace,
            converter=converter,
            raw_description=description,
        )


@dataclass
class WorkflowExecutionCountAggregationGroup:
    """Runs that have the same values in a grouped count."""

    count: int
    """How many, approximately."""

    group_values: Sequence[SearchAttributeValue]
    """The values they have in common."""

    @staticmethod
    def _from_raw(
        raw: service_api.CountWorkflowExecutionsResponse.AggregationGroup,
    ) -> WorkflowExecutionCountAggregationGroup:
        return WorkflowExecutionCountAggregationGroup(
            count=raw.count, group_values=[_decode_search_attribute_value(v) for v in raw.group_values]
        )


@dataclass
class WorkflowExecutionCount:
    """What `Client.count_workflows` found."""

    count: int
    """How many runs, approximately; with groups the sum of theirs."""

    groups: Sequence[WorkflowExecutionCountAggregationGroup]
    """The groups, if the query asked for some."""

    @staticmethod
    def _from_raw(raw: service_api.CountWorkflowExecutionsResponse) -> WorkflowExecutionCount:
        groups = [WorkflowExecutionCountAggregationGroup._from_raw(group) for group in raw.groups]
        return WorkflowExecutionCount(count=raw.count, groups=groups)


class WorkflowExecutionAsyncIterator(PageIterator[WorkflowExecution]):
    """The runs of a list, asked for page by page. Made by `Client.list_workflows`."""

    def __init__(self, client: Client, input: ListWorkflowsInput) -> None:
        super().__init__(input.page_size, input.next_page_token, input.limit)
        self._client = client
        self._input = input

    async def _fetch(self, page_size: int, token: bytes) -> tuple[Sequence[WorkflowExecution], bytes]:
        client = self._client
        response = await client.workflow_service.list_workflow_executions(
            service_api.ListWorkflowExecutionsRequest(
                namespace=client.namespace,
                page_size=page_size,
                next_page_token=token,
                query=self._input.query or "",
            ),
            retry=True,
            metadata=self._input.rpc_metadata,
            timeout=self._input.rpc_timeout,
        )
        runs = [
            WorkflowExecution._from_raw_info(info, client.namespace, client.data_converter)
            for info in response.executions
        ]
        return runs, response.next_page_token

    async def map_histories(
        self,
        *,
        event_filter_type: WorkflowHistoryEventFilterType = WorkflowHistoryEventFilterType.ALL_EVENT,
        skip_archival: bool = False,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> AsyncIterator[WorkflowHistory]:
        """Give the history of every run instead of the run.

        Args:
            event_filter_type: Which events.
            skip_archival: Do not look into archives.
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call.
        """
        async for run in self:
            handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
            yield await handle.fetch_history(
                event_filter_type=event_filter_type,
                skip_archival=skip_archival,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
