"""What calls about schedules, worker versions and nexus operations were asked, as interceptors see it.

May live here: fields. May not: behaviour; interceptors see these objects and may change them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.client._schedule_description import ScheduleUpdate, ScheduleUpdateInput
    from perdure.client._schedule_spec import Schedule, ScheduleBackfill, ScheduleOverlapPolicy
    from perdure.client._worker_versioning import BuildIdOp, TaskReachabilityType
    from perdure.common import (
        NexusOperationIDConflictPolicy,
        NexusOperationIDReusePolicy,
        SearchAttributes,
        TypedSearchAttributes,
    )


@dataclass
class CreateScheduleInput:
    """What `Client.create_schedule` was asked."""

    id: str
    schedule: Schedule
    trigger_immediately: bool
    backfill: Sequence[ScheduleBackfill]
    memo: Mapping[str, Any] | None
    search_attributes: SearchAttributes | TypedSearchAttributes | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class ListSchedulesInput:
    """What `Client.list_schedules` was asked."""

    page_size: int
    next_page_token: bytes | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
    query: str | None = None


@dataclass
class BackfillScheduleInput:
    """What `ScheduleHandle.backfill` was asked."""

    id: str
    backfills: Sequence[ScheduleBackfill]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class DeleteScheduleInput:
    """What `ScheduleHandle.delete` was asked."""

    id: str
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class DescribeScheduleInput:
    """What `ScheduleHandle.describe` was asked."""

    id: str
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class PauseScheduleInput:
    """What `ScheduleHandle.pause` was asked."""

    id: str
    note: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class TriggerScheduleInput:
    """What `ScheduleHandle.trigger` was asked."""

    id: str
    overlap: ScheduleOverlapPolicy | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class UnpauseScheduleInput:
    """What `ScheduleHandle.unpause` was asked."""

    id: str
    note: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class UpdateScheduleInput:
    """What `ScheduleHandle.update` was asked."""

    id: str
    updater: Callable[[ScheduleUpdateInput], ScheduleUpdate | Awaitable[ScheduleUpdate | None] | None]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class UpdateWorkerBuildIdCompatibilityInput:
    """What `Client.update_worker_build_id_compatibility` was asked."""

    task_queue: str
    operation: BuildIdOp
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class GetWorkerBuildIdCompatibilityInput:
    """What `Client.get_worker_build_id_compatibility` was asked."""

    task_queue: str
    max_sets: int | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class GetWorkerTaskReachabilityInput:
    """What `Client.get_worker_task_reachability` was asked."""

    build_ids: Sequence[str]
    task_queues: Sequence[str]
    reachability: TaskReachabilityType | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class StartNexusOperationInput:
    """What `NexusClient.start_operation` was asked."""

    operation: str
    arg: Any
    id: str
    endpoint: str
    service: str
    result_type: type | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    id_reuse_policy: NexusOperationIDReusePolicy
    id_conflict_policy: NexusOperationIDConflictPolicy
    search_attributes: TypedSearchAttributes | None
    summary: str | None
    headers: Mapping[str, str]
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class DescribeNexusOperationInput:
    """What `NexusOperationHandle.describe` was asked."""

    operation_id: str
    run_id: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class GetNexusOperationResultInput:
    """What `NexusOperationHandle.result` was asked."""

    operation_id: str
    run_id: str | None
    endpoint: str
    service: str
    operation: str
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
    result_type: type[Any] | None


@dataclass
class CancelNexusOperationInput:
    """What `NexusOperationHandle.cancel` was asked."""

    operation_id: str
    run_id: str | None
    reason: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class TerminateNexusOperationInput:
    """What `NexusOperationHandle.terminate` was asked."""

    operation_id: str
    run_id: str | None
    reason: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None


@dataclass
class ListNexusOperationsInput:
    """What `Client.list_nexus_operations` was asked."""

    query: str | None
    page_size: int
    next_page_token: bytes | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
    limit: int | None


@dataclass
class CountNexusOperationsInput:
    """What `Client.count_nexus_operations` was asked."""

    query: str | None
    rpc_metadata: Mapping[str, str | bytes]
    rpc_timeout: timedelta | None
