"""Nexus operations started by a client, as lists and descriptions show them.

May live here: what a server says about such an operation. May not: doing anything with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from perdure.api.nexus import v1 as nexus_api
from perdure.api.workflowservice import v1 as service_api
from perdure.client._pages import PageIterator
from perdure.client._wire import _decode_user_metadata, optional_timedelta, optional_utc
from perdure.common import (
    NexusOperationCancellationState,
    NexusOperationExecutionStatus,
    PendingNexusOperationExecutionState,
    SearchAttributeValue,
    TypedSearchAttributes,
)
from perdure.converter import DataConverter, decode_typed_search_attributes
from perdure.converter._search_attributes import _decode_search_attribute_value

if TYPE_CHECKING:
    from perdure.client._client import Client
    from perdure.client._inputs_other import ListNexusOperationsInput


@dataclass
class NexusOperationExecutionCancellationInfo:
    """How far the cancellation of an operation has come."""

    raw: nexus_api.NexusOperationExecutionCancellationInfo
    """The server's message."""

    requested_time: datetime | None
    """When it was asked for."""

    state: NexusOperationCancellationState
    """What it is doing."""

    attempt: int
    """How often the handler was asked, or is being asked."""

    last_attempt_complete_time: datetime | None
    """When the last attempt ended."""

    next_attempt_schedule_time: datetime | None
    """When the next one is due, while it waits."""

    last_attempt_failure: BaseException | None
    """Why the last one failed."""

    blocked_reason: str
    """Why it is held back; empty if it is not."""

    reason: str
    """Why it was asked for."""

    @classmethod
    async def _from_info(
        cls, info: nexus_api.NexusOperationExecutionCancellationInfo, converter: DataConverter
    ) -> Self:
        return cls(
            raw=info,
            requested_time=optional_utc(info, "requested_time"),
            state=NexusOperationCancellationState(info.state),
            attempt=info.attempt,
            last_attempt_complete_time=optional_utc(info, "last_attempt_complete_time"),
            next_attempt_schedule_time=optional_utc(info, "next_attempt_schedule_time"),
            last_attempt_failure=await _failure(info, converter),
            blocked_reason=info.blocked_reason,
            reason=info.reason,
        )


@dataclass
class NexusOperationExecution:
    """One operation, as a list shows it."""

    operation_id: str
    """Its id."""

    run_id: str
    """Id of its run."""

    endpoint: str
    """Where its handlers are."""

    service: str
    """Name of the service."""

    operation: str
    """Name of the operation."""

    schedule_time: datetime | None
    """When it was started by its client."""

    close_time: datetime | None
    """When it closed."""

    status: NexusOperationExecutionStatus
    """Its status."""

    search_attributes: TypedSearchAttributes
    """Its search attributes."""

    state_transition_count: int
    """How often its state has changed; lists say it of closed ones."""

    execution_duration: timedelta | None
    """From its start to its closing."""

    raw_info: nexus_api.NexusOperationExecutionListInfo | nexus_api.NexusOperationExecutionInfo
    """The server's message."""

    @classmethod
    def _from_raw_info(
        cls,
        info: nexus_api.NexusOperationExecutionListInfo | nexus_api.NexusOperationExecutionInfo,
        **more: Any,
    ) -> Self:
        return cls(
            operation_id=info.operation_id,
            run_id=info.run_id,
            endpoint=info.endpoint,
            service=info.service,
            operation=info.operation,
            schedule_time=optional_utc(info, "schedule_time"),
            close_time=optional_utc(info, "close_time"),
            status=NexusOperationExecutionStatus(info.status),
            search_attributes=decode_typed_search_attributes(info.search_attributes),
            state_transition_count=info.state_transition_count,
            execution_duration=optional_timedelta(info, "execution_duration"),
            raw_info=info,
            **more,
        )


@dataclass
class NexusOperationExecutionDescription(NexusOperationExecution):
    """One operation, as `NexusOperationHandle.describe` shows it."""

    raw_description: nexus_api.NexusOperationExecutionInfo
    """The server's message."""

    state: PendingNexusOperationExecutionState
    """What it is doing, while it runs."""

    schedule_to_close_timeout: timedelta | None
    """The option of that name."""

    schedule_to_start_timeout: timedelta | None
    """The option of that name."""

    start_to_close_timeout: timedelta | None
    """The option of that name."""

    attempt: int
    """Number of the current attempt to start it, from 1."""

    expiration_time: datetime | None
    """When its schedule-to-close timeout ends."""

    last_attempt_complete_time: datetime | None
    """When the last attempt ended."""

    next_attempt_schedule_time: datetime | None
    """When the next attempt is due, while it waits."""

    last_attempt_failure: BaseException | None
    """Why the last attempt failed."""

    blocked_reason: str | None
    """Why it is held back."""

    request_id: str
    """The id that its handler knows the request by."""

    operation_token: str | None
    """Names it to its handler, once it runs."""

    identity: str
    """Who started it."""

    cancellation_info: NexusOperationExecutionCancellationInfo | None
    """Its cancellation, if one was asked for."""

    _data_converter: DataConverter = field(kw_only=True, compare=False, repr=False)
    _static_summary: str | None = field(kw_only=True, default=None, compare=False, repr=False)
    _static_details: str | None = field(kw_only=True, default=None, compare=False, repr=False)
    _metadata_decoded: bool = field(kw_only=True, default=False, compare=False, repr=False)

    async def static_summary(self) -> str | None:
        """Return the line about it that it was started with."""
        await self._decode_metadata()
        return self._static_summary

    async def static_details(self) -> str | None:
        """Return the text about it that it was started with."""
        await self._decode_metadata()
        return self._static_details

    async def _decode_metadata(self) -> None:
        if self._metadata_decoded:
            return
        metadata = self.raw_description.user_metadata
        self._static_summary, self._static_details = await _decode_user_metadata(
            self._data_converter, metadata
        )
        self._metadata_decoded = True

    @classmethod
    async def _from_info(cls, info: nexus_api.NexusOperationExecutionInfo, converter: DataConverter) -> Self:
        cancellation = None
        if info.HasField("cancellation_info"):
            cancellation = await NexusOperationExecutionCancellationInfo._from_info(
                info.cancellation_info, converter
            )
        return cls._from_raw_info(
            info,
            raw_description=info,
            state=PendingNexusOperationExecutionState(info.state),
            schedule_to_close_timeout=optional_timedelta(info, "schedule_to_close_timeout"),
            schedule_to_start_timeout=optional_timedelta(info, "schedule_to_start_timeout"),
            start_to_close_timeout=optional_timedelta(info, "start_to_close_timeout"),
            attempt=info.attempt,
            expiration_time=optional_utc(info, "expiration_time"),
            last_attempt_complete_time=optional_utc(info, "last_attempt_complete_time"),
            next_attempt_schedule_time=optional_utc(info, "next_attempt_schedule_time"),
            last_attempt_failure=await _failure(info, converter),
            blocked_reason=info.blocked_reason or None,
            request_id=info.request_id,
            operation_token=info.operation_token or None,
            identity=info.identity,
            cancellation_info=cancellation,
            _data_converter=converter,
        )


async def _failure(
    info: nexus_api.NexusOperationExecutionInfo | nexus_api.NexusOperationExecutionCancellationInfo,
    converter: DataConverter,
) -> BaseException | None:
    if not info.HasField("last_attempt_failure"):
        return None
    return await converter.decode_failure(info.last_attempt_failure)


@dataclass(frozen=True)
class NexusOperationExecutionCountAggregationGroup:
    """Operations that have the same values in a grouped count."""

    count: int
    """How many, approximately."""

    group_values: Sequence[SearchAttributeValue]
    """The values they have in common."""


@dataclass
class NexusOperationExecutionCount:
    """What `Client.count_nexus_operations` found."""

    count: int
    """How many operations, approximately; with groups the sum of theirs."""

    groups: Sequence[NexusOperationExecutionCountAggregationGroup]
    """The groups, if the query asked for some."""

    @staticmethod
    def _from_raw(resp: service_api.CountNexusOperationExecutionsResponse) -> NexusOperationExecutionCount:
        groups = [
            NexusOperationExecutionCountAggregationGroup(
                group.count, [_decode_search_attribute_value(value) for value in group.group_values]
            )
            for group in resp.groups
        ]
        return NexusOperationExecutionCount(resp.count, groups)


class NexusOperationExecutionAsyncIterator(PageIterator[NexusOperationExecution]):
    """The operations of a list, asked for page by page. Made by `Client.list_nexus_operations`."""

    def __init__(self, client: Client, input: ListNexusOperationsInput) -> None:
        super().__init__(input.page_size, input.next_page_token, input.limit)
        self._client = client
        self._input = input

    async def _fetch(self, page_size: int, token: bytes) -> tuple[Sequence[NexusOperationExecution], bytes]:
        response = await self._client.workflow_service.list_nexus_operation_executions(
            service_api.ListNexusOperationExecutionsRequest(
                namespace=self._client.namespace,
                page_size=page_size,
                next_page_token=token,
                query=self._input.query or "",
            ),
            retry=True,
            metadata=self._input.rpc_metadata,
            timeout=self._input.rpc_timeout,
        )
        found = [NexusOperationExecution._from_raw_info(info) for info in response.operations]
        return found, response.next_page_token
