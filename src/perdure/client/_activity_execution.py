"""Activities started by a client, as lists and descriptions show them.

May live here: what a server says about such an activity. May not: doing anything with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self

from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service_api
from perdure.client._pages import PageIterator
from perdure.client._results import single_value
from perdure.client._wire import optional_timedelta, optional_utc
from perdure.common import (
    Priority,
    RetryPolicy,
    SearchAttributeValue,
    TypedSearchAttributes,
    WorkerDeploymentVersion,
)
from perdure.converter import DataConverter, decode_typed_search_attributes
from perdure.converter._search_attributes import _decode_search_attribute_value

if TYPE_CHECKING:
    from perdure.api.activity.v1 import (
        ActivityExecutionInfo,
        ActivityExecutionListInfo,
        ActivityExecutionOutcome,
        CallbackInfo,
    )
    from perdure.api.common.v1 import Payloads
    from perdure.client._client import Client
    from perdure.client._inputs_activity import ListActivitiesInput


class ActivityExecutionStatus(IntEnum):
    """Status of an activity."""

    UNSPECIFIED = int(enums.ACTIVITY_EXECUTION_STATUS_UNSPECIFIED)
    RUNNING = int(enums.ACTIVITY_EXECUTION_STATUS_RUNNING)
    COMPLETED = int(enums.ACTIVITY_EXECUTION_STATUS_COMPLETED)
    FAILED = int(enums.ACTIVITY_EXECUTION_STATUS_FAILED)
    CANCELED = int(enums.ACTIVITY_EXECUTION_STATUS_CANCELED)
    TERMINATED = int(enums.ACTIVITY_EXECUTION_STATUS_TERMINATED)
    TIMED_OUT = int(enums.ACTIVITY_EXECUTION_STATUS_TIMED_OUT)
    PAUSED = int(enums.ACTIVITY_EXECUTION_STATUS_PAUSED)


class PendingActivityState(IntEnum):
    """What a running activity is doing."""

    UNSPECIFIED = int(enums.PENDING_ACTIVITY_STATE_UNSPECIFIED)
    SCHEDULED = int(enums.PENDING_ACTIVITY_STATE_SCHEDULED)
    STARTED = int(enums.PENDING_ACTIVITY_STATE_STARTED)
    CANCEL_REQUESTED = int(enums.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED)
    PAUSED = int(enums.PENDING_ACTIVITY_STATE_PAUSED)
    PAUSE_REQUESTED = int(enums.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED)


@dataclass(frozen=True, eq=False, kw_only=True)
class ActivityExecution:
    """One activity, as a list shows it."""

    activity_id: str
    """Its id."""

    activity_run_id: str | None
    """Id of its run."""

    activity_type: str
    """Name of the activity."""

    close_time: datetime | None
    """When it closed."""

    execution_duration: timedelta | None
    """From its scheduling to its closing."""

    execution_time: datetime | None
    """When its first task could begin, or can: later than `schedule_time` if its start was delayed."""

    namespace: str
    """Its namespace."""

    schedule_time: datetime
    """When it was scheduled."""

    status: ActivityExecutionStatus
    """Its status."""

    task_queue: str
    """Its task queue."""

    typed_search_attributes: TypedSearchAttributes
    """Its search attributes."""

    raw_info: ActivityExecutionListInfo | ActivityExecutionInfo = field(repr=False)
    """The server's message."""

    @property
    def scheduled_time(self) -> datetime:
        """An older name of `schedule_time`."""
        return self.schedule_time

    @property
    def state_transition_count(self) -> int | None:
        """How often its state has changed, if the server says so."""
        return self.raw_info.state_transition_count or None

    @classmethod
    def _from_raw_info(
        cls, info: ActivityExecutionListInfo | ActivityExecutionInfo, namespace: str, **more: Any
    ) -> Self:
        return cls(
            activity_id=info.activity_id,
            activity_run_id=info.run_id or None,
            activity_type=info.activity_type.name,
            close_time=optional_utc(info, "close_time"),
            execution_duration=optional_timedelta(info, "execution_duration"),
            execution_time=optional_utc(info, "execution_time"),
            namespace=namespace,
            schedule_time=optional_utc(info, "schedule_time") or datetime.min.replace(tzinfo=UTC),
            status=ActivityExecutionStatus(info.status),
            task_queue=info.task_queue,
            typed_search_attributes=decode_typed_search_attributes(info.search_attributes),
            raw_info=info,
            **more,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class ActivityExecutionDescription(ActivityExecution):
    """One activity, as `ActivityHandle.describe` shows it."""

    attempt: int
    """Number of the current attempt, from 1."""

    canceled_reason: str | None
    """Why its cancellation was asked for."""

    current_retry_interval: timedelta | None
    """Wait before the next attempt, while it waits."""

    expiration_time: datetime | None
    """When its schedule-to-close timeout ends."""

    heartbeat_timeout: timedelta | None
    """The option of that name."""

    last_attempt_complete_time: datetime | None
    """When the last attempt ended."""

    last_deployment_version: WorkerDeploymentVersion | None
    """Version of the worker that got it last."""

    last_heartbeat_time: datetime | None
    """When the last heartbeat came."""

    last_started_time: datetime | None
    """When the last attempt began."""

    last_worker_identity: str | None
    """Identity of the worker that got it last."""

    next_attempt_schedule_time: datetime | None
    """When the next attempt is scheduled."""

    priority: Priority
    """The option of that name."""

    retry_policy: RetryPolicy | None
    """The option of that name."""

    run_state: PendingActivityState | None
    """What it is doing, while it runs."""

    schedule_to_close_timeout: timedelta | None
    """The option of that name."""

    schedule_to_start_timeout: timedelta | None
    """The option of that name."""

    start_to_close_timeout: timedelta | None
    """The option of that name."""

    start_delay: timedelta | None
    """The option of that name."""

    total_heartbeat_count: int
    """Heartbeats of all attempts."""

    raw_info: ActivityExecutionInfo = field(repr=False)
    """The server's message."""

    raw_callbacks: Sequence[CallbackInfo] = field(repr=False)
    """What is called when it is over."""

    raw_input: Payloads | None = field(repr=False)
    """Its arguments, if they were asked for."""

    raw_outcome: ActivityExecutionOutcome | None = field(repr=False)
    """Its outcome, if it was asked for and there is one."""

    data_converter: DataConverter = field(repr=False)
    """Converts its payloads."""

    @classmethod
    def _from_resp(
        cls,
        resp: service_api.DescribeActivityExecutionResponse,
        namespace: str,
        data_converter: DataConverter,
        **more: Any,
    ) -> Self:
        info = resp.info
        version = info.last_deployment_version if info.HasField("last_deployment_version") else None
        durations = (
            "current_retry_interval",
            "heartbeat_timeout",
            "schedule_to_close_timeout",
            "schedule_to_start_timeout",
            "start_to_close_timeout",
            "start_delay",
        )
        times = (
            "expiration_time",
            "last_attempt_complete_time",
            "last_heartbeat_time",
            "last_started_time",
            "next_attempt_schedule_time",
        )
        more |= {name: optional_timedelta(info, name) for name in durations}
        more |= {name: optional_utc(info, name) for name in times}
        return cls._from_raw_info(
            info,
            namespace,
            attempt=info.attempt,
            canceled_reason=info.canceled_reason or None,
            last_deployment_version=version
            and WorkerDeploymentVersion(deployment_name=version.deployment_name, build_id=version.build_id),
            last_worker_identity=info.last_worker_identity or None,
            priority=Priority._from_proto(info.priority),
            retry_policy=RetryPolicy.from_proto(info.retry_policy) if info.HasField("retry_policy") else None,
            run_state=PendingActivityState(info.run_state) if info.run_state else None,
            total_heartbeat_count=info.total_heartbeat_count,
            raw_callbacks=resp.callbacks,
            raw_input=resp.input if resp.HasField("input") else None,
            raw_outcome=resp.outcome if resp.HasField("outcome") else None,
            data_converter=data_converter,
            **more,
        )

    def has_heartbeat_details(self) -> bool:
        """Return whether there are details of a heartbeat; only if they were asked for."""
        return self.raw_info.HasField("heartbeat_details")

    async def heartbeat_details(self, type_hints: list[type] | None = None) -> list[Any] | None:
        """Return the details of the last heartbeat, None if there are none.

        Args:
            type_hints: What to convert them to.
        """
        if not self.has_heartbeat_details():
            return None
        return await self.data_converter.decode_wrapper(self.raw_info.heartbeat_details, type_hints)

    def has_last_failure(self) -> bool:
        """Return whether there is a failure of an attempt; only if it was asked for."""
        return self.raw_info.HasField("last_failure")

    async def last_failure(self) -> BaseException | None:
        """Return the failure of the last failed attempt, None if there is none."""
        if not self.has_last_failure():
            return None
        return await self.data_converter.decode_failure(self.raw_info.last_failure)

    def has_input(self) -> bool:
        """Return whether the arguments are there; only if they were asked for."""
        return self.raw_input is not None

    async def input(self, type_hints: list[type] | None = None) -> list[Any] | None:
        """Return the arguments, None if they were not asked for.

        Args:
            type_hints: What to convert them to.
        """
        return (
            None
            if self.raw_input is None
            else await self.data_converter.decode_wrapper(self.raw_input, type_hints)
        )

    def has_result(self) -> bool:
        """Return whether there is a result; only if the outcome was asked for."""
        return self.raw_outcome is not None and self.raw_outcome.HasField("result")

    async def result(self, type_hint: type | None = None) -> Any | None:
        """Return the result, None if there is none.

        Args:
            type_hint: What to convert it to.
        """
        if self.raw_outcome is None or not self.raw_outcome.HasField("result"):
            return None
        return await single_value(self.data_converter, self.raw_outcome.result, type_hint, "activity")

    def has_outcome_failure(self) -> bool:
        """Return whether it failed; only if the outcome was asked for."""
        return self.raw_outcome is not None and self.raw_outcome.HasField("failure")

    async def outcome_failure(self) -> BaseException | None:
        """Return what it failed with, None if it did not."""
        if self.raw_outcome is None or not self.raw_outcome.HasField("failure"):
            return None
        return await self.data_converter.decode_failure(self.raw_outcome.failure)


@dataclass(frozen=True)
class ActivityExecutionCountAggregationGroup:
    """Activities that have the same values in a grouped count."""

    count: int
    """How many, approximately."""

    group_values: Sequence[SearchAttributeValue]
    """The values they have in common."""

    @staticmethod
    def _from_raw(
        raw: service_api.CountActivityExecutionsResponse.AggregationGroup,
    ) -> ActivityExecutionCountAggregationGroup:
        return ActivityExecutionCountAggregationGroup(
            count=raw.count, group_values=[_decode_search_attribute_value(v) for v in raw.group_values]
        )


@dataclass(frozen=True)
class ActivityExecutionCount:
    """What `Client.count_activities` found."""

    count: int
    """How many activities, approximately; with groups the sum of theirs."""

    groups: Sequence[ActivityExecutionCountAggregationGroup]
    """The groups, if the query asked for some."""

    @staticmethod
    def _from_raw(resp: service_api.CountActivityExecutionsResponse) -> ActivityExecutionCount:
        groups = [ActivityExecutionCountAggregationGroup._from_raw(group) for group in resp.groups]
        return ActivityExecutionCount(count=resp.count, groups=groups)


class ActivityExecutionAsyncIterator(PageIterator[ActivityExecution]):
    """The activities of a list, asked for page by page. Made by `Client.list_activities`."""

    def __init__(self, client: Client, input: ListActivitiesInput) -> None:
        super().__init__(input.page_size, input.next_page_token, input.limit)
        self._client = client
        self._input = input

    async def _fetch(self, page_size: int, token: bytes) -> tuple[Sequence[ActivityExecution], bytes]:
        client = self._client
        response = await client.workflow_service.list_activity_executions(
            service_api.ListActivityExecutionsRequest(
                namespace=client.namespace,
                page_size=page_size,
                next_page_token=token,
                query=self._input.query or "",
            ),
            retry=True,
            metadata=self._input.rpc_metadata,
            timeout=self._input.rpc_timeout,
        )
        found = [ActivityExecution._from_raw_info(info, client.namespace) for info in response.executions]
        return found, response.next_page_token
