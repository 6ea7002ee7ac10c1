"""Schedules as lists and descriptions show them, and changes of them.

May live here: what a server says about a schedule. May not: doing anything with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from perdure.api.workflowservice import v1 as service_api
from perdure.client._pages import PageIterator
from perdure.client._schedule_spec import Schedule, ScheduleSpec
from perdure.client._wire import optional_utc, utc
from perdure.common import SearchAttributes, TypedSearchAttributes, _arg_unset
from perdure.converter import DataConverter, decode_search_attributes, decode_typed_search_attributes

if TYPE_CHECKING:
    from perdure.api.common.v1 import WorkflowExecution
    from perdure.api.schedule import v1 as schedule_api
    from perdure.client._client import Client
    from perdure.client._inputs_other import ListSchedulesInput


class ScheduleActionExecution:
    """Something that a schedule started."""


@dataclass
class ScheduleActionExecutionStartWorkflow(ScheduleActionExecution):
    """A workflow that a schedule started."""

    workflow_id: str
    """The workflow's id."""

    first_execution_run_id: str
    """Id of its first run."""

    @staticmethod
    def _from_proto(exec: WorkflowExecution) -> ScheduleActionExecutionStartWorkflow:
        return ScheduleActionExecutionStartWorkflow(exec.workflow_id, exec.run_id)


@dataclass
class ScheduleActionResult:
    """One time at which a schedule acted."""

    scheduled_at: datetime
    """The time, with jitter."""

    started_at: datetime
    """When it really acted."""

    action: ScheduleActionExecution
    """What it started."""

    @staticmethod
    def _from_proto(res: schedule_api.ScheduleActionResult) -> ScheduleActionResult:
        return ScheduleActionResult(
            scheduled_at=utc(res.schedule_time),
            started_at=utc(res.actual_time),
            action=ScheduleActionExecutionStartWorkflow._from_proto(res.start_workflow_result),
        )


@dataclass
class ScheduleInfo:
    """What a schedule has done and will do."""

    num_actions: int
    """How often it has acted."""

    num_actions_missed_catchup_window: int
    """How often it did not because it was too late."""

    num_actions_skipped_overlap: int
    """How often it did not because something ran."""

    running_actions: Sequence[ScheduleActionExecution]
    """What runs."""

    recent_actions: Sequence[ScheduleActionResult]
    """The last times, oldest first."""

    next_action_times: Sequence[datetime]
    """The next times."""

    created_at: datetime
    """When it was created."""

    last_updated_at: datetime | None
    """When it was changed."""

    @staticmethod
    def _from_proto(info: schedule_api.ScheduleInfo) -> ScheduleInfo:
        return ScheduleInfo(
            num_actions=info.action_count,
            num_actions_missed_catchup_window=info.missed_catchup_window,
            num_actions_skipped_overlap=info.overlap_skipped,
            running_actions=[
                ScheduleActionExecutionStartWorkflow._from_proto(run) for run in info.running_workflows
            ],
            recent_actions=[ScheduleActionResult._from_proto(result) for result in info.recent_actions],
            next_action_times=[utc(time) for time in info.future_action_times],
            created_at=utc(info.create_time),
            last_updated_at=optional_utc(info, "update_time"),
        )


@dataclass
class ScheduleDescription:
    """One schedule, as `ScheduleHandle.describe` shows it."""

    id: str
    """Its id."""

    schedule: Schedule
    """What it is."""

    info: ScheduleInfo
    """What it has done and will do."""

    typed_search_attributes: TypedSearchAttributes
    """Its own search attributes."""

    search_attributes: SearchAttributes
    """The same without types; deprecated."""

    data_converter: DataConverter
    """Converts its payloads."""

    raw_description: service_api.DescribeScheduleResponse
    """The server's message."""

    @staticmethod
    def _from_proto(
        id: str, desc: service_api.DescribeScheduleResponse, converter: DataConverter
    ) -> ScheduleDescription:
        return ScheduleDescription(
            id=id,
            schedule=Schedule._from_proto(desc.schedule),
            info=ScheduleInfo._from_proto(desc.info),
            typed_search_attributes=decode_typed_search_attributes(desc.search_attributes),
            search_attributes=decode_search_attributes(desc.search_attributes),
            data_converter=converter,
            raw_description=desc,
        )

    async def memo(self) -> Mapping[str, Any]:
        """Return the schedule's own memo, converted without type hints."""
        return await self.data_converter._decode_memo(self.raw_description.memo)

    async def memo_value(self, key: str, default: Any = _arg_unset, *, type_hint: type | None = None) -> Any:
        """Return one value of the schedule's own memo.

        Args:
            key: Its key.
            default: Returned if there is no such key.
            type_hint: What to convert it to.

        Raises:
            KeyError: There is no such key, and no default.
        """
        memo = self.raw_description.memo
        return await self.data_converter._decode_memo_field(memo, key, default, type_hint)


@dataclass
class ScheduleUpdateInput:
    """What the function given to `ScheduleHandle.update` gets."""

    description: ScheduleDescription
    """The schedule as it is."""


@dataclass
class ScheduleUpdate:
    """What the function given to `ScheduleHandle.update` returns."""

    schedule: Schedule
    """The schedule as it shall be."""

    search_attributes: TypedSearchAttributes | None = None
    """Its own search attributes as they shall be; None leaves them."""


class ScheduleListAction:
    """What a schedule in a list does."""


@dataclass
class ScheduleListActionStartWorkflow(ScheduleListAction):
    """It starts a workflow."""

    workflow: str
    """Name of the workflow."""


@dataclass
class ScheduleListState:
    """State of a schedule in a list."""

    note: str | None
    """A note for people."""

    paused: bool
    """Whether it acts at its times."""

    @staticmethod
    def _from_proto(info: schedule_api.ScheduleListInfo) -> ScheduleListState:
        return ScheduleListState(note=info.notes or None, paused=info.paused)


@dataclass
class ScheduleListSchedule:
    """What a schedule in a list is."""

    action: ScheduleListAction
    """What it does."""

    spec: ScheduleSpec
    """When."""

    state: ScheduleListState
    """Its state."""

    @staticmethod
    def _from_proto(info: schedule_api.ScheduleListInfo) -> ScheduleListSchedule:
        if not info.HasField("workflow_type"):
            raise ValueError("Unknown action on schedule")
        return ScheduleListSchedule(
            action=ScheduleListActionStartWorkflow(workflow=info.workflow_type.name),
            spec=ScheduleSpec._from_proto(info.spec),
            state=ScheduleListState._from_proto(info),
        )


@dataclass
class ScheduleListInfo:
    """What a schedule in a list has done and will do."""

    recent_actions: Sequence[ScheduleActionResult]
    """The last times, oldest first."""

    next_action_times: Sequence[datetime]
    """The next times."""

    @staticmethod
    def _from_proto(info: schedule_api.ScheduleListInfo) -> ScheduleListInfo:
        return ScheduleListInfo(
            recent_actions=[ScheduleActionResult._from_proto(result) for result in info.recent_actions],
            next_action_times=[utc(time) for time in info.future_action_times],
        )


@dataclass
class ScheduleListDescription:
    """One schedule, as a list shows it."""

    id: str
    """Its id."""

    schedule: ScheduleListSchedule | None
    """What it is; lists may not know yet."""

    info: ScheduleListInfo | None
    """What it has done and will do; lists may not know yet."""

    typed_search_attributes: TypedSearchAttributes
    """Its own search attributes."""

    search_attributes: SearchAttributes
    """The same without types; deprecated."""

    data_converter: DataConverter
    """Converts its payloads."""

    raw_entry: schedule_api.ScheduleListEntry
    """The server's message."""

    @staticmethod
    def _from_proto(
        entry: schedule_api.ScheduleListEntry, converter: DataConverter
    ) -> ScheduleListDescription:
        has_info = entry.HasField("info")
        return ScheduleListDescription(
            id=entry.schedule_id,
            schedule=ScheduleListSchedule._from_proto(entry.info) if has_info else None,
            info=ScheduleListInfo._from_proto(entry.info) if has_info else None,
            typed_search_attributes=decode_typed_search_attributes(entry.search_attributes),
            search_attributes=decode_search_attributes(entry.search_attributes),
            data_converter=converter,
            raw_entry=entry,
        )

    async def memo(self) -> Mapping[str, Any]:
        """Return the schedule's own memo, converted without type hints."""
        return await self.data_converter._decode_memo(self.raw_entry.memo)

    async def memo_value(self, key: str, default: Any = _arg_unset, *, type_hint: type | None = None) -> Any:
        """Return one value of the schedule's own memo; see `ScheduleDescription.memo_value`."""
        return await self.data_converter._decode_memo_field(self.raw_entry.memo, key, default, type_hint)


class ScheduleAsyncIterator(PageIterator[ScheduleListDescription]):
    """The schedules of a list, asked for page by page. Made by `Client.list_schedules`."""

    def __init__(self, client: Client, input: ListSchedulesInput) -> None:
        super().__init__(input.page_size, input.next_page_token)
        self._client = client
        self._input = input

    async def _fetch(self, page_size: int, token: bytes) -> tuple[Sequence[ScheduleListDescription], bytes]:
        client = self._client
        response = await client.workflow_service.list_schedules(
            service_api.ListSchedulesRequest(
                namespace=client.namespace,
                maximum_page_size=page_size,
                next_page_token=token,
                query=self._input.query or "",
            ),
            retry=True,
            metadata=self._input.rpc_metadata,
            timeout=self._input.rpc_timeout,
        )
        found = [
            ScheduleListDescription._from_proto(entry, client.data_converter) for entry in response.schedules
        ]
        return found, response.next_page_token
