"""What a client does with schedules and sets of build ids.

May live here: the public methods. May not: requests (`_impl_others`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from perdure.client._inputs_other import (
    CreateScheduleInput,
    GetWorkerBuildIdCompatibilityInput,
    GetWorkerTaskReachabilityInput,
    ListSchedulesInput,
    UpdateWorkerBuildIdCompatibilityInput,
)
from perdure.client._interceptor import OutboundInterceptor
from perdure.client._schedule import ScheduleHandle
from perdure.client._schedule_description import ScheduleAsyncIterator
from perdure.client._schedule_spec import Schedule, ScheduleBackfill
from perdure.client._worker_versioning import (
    BuildIdOp,
    TaskReachabilityType,
    WorkerBuildIdVersionSets,
    WorkerTaskReachability,
)
from perdure.common import SearchAttributes, TypedSearchAttributes, _warn_on_deprecated_search_attributes

if TYPE_CHECKING:
    from perdure.client._client import Client


class OtherMethods:
    """The part of `Client` that is about schedules and sets of build ids."""

    _impl: OutboundInterceptor

    async def create_schedule(
        self,
        id: str,
        schedule: Schedule,
        *,
        trigger_immediately: bool = False,
        backfill: Sequence[ScheduleBackfill] = [],
        memo: Mapping[str, Any] | None = None,
        search_attributes: TypedSearchAttributes | SearchAttributes | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ScheduleHandle:
        """Create a schedule and return its handle.

        Args:
            id: The schedule's id.
            schedule: What it does, when and how.
            trigger_immediately: Act once now.
            backfill: Act for times in the past.
            memo: Values shown with the schedule, not indexed; workflows have the action's.
            search_attributes: Values to find the schedule by; workflows have the action's.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            ScheduleAlreadyRunningError: There is a schedule of this id.
            ValueError: Whether actions are limited contradicts how many remain.
            RPCError: It could not be created.
        """
        _warn_on_deprecated_search_attributes(search_attributes)
        return await self._impl.create_schedule(
            CreateScheduleInput(
                id=id,
                schedule=schedule,
                trigger_immediately=trigger_immediately,
                backfill=backfill,
                memo=memo,
                search_attributes=search_attributes,
                rpc_metadata=rpc_metadata,
                rpc_timeout=rpc_timeout,
            )
        )

    def get_schedule_handle(self, id: str) -> ScheduleHandle:
        """Return a handle to a schedule. Nothing is asked of the server.

        Args:
            id: The schedule's id.
        """
        return ScheduleHandle(cast("Client", self), id)

    async def list_schedules(
        self,
        query: str | None = None,
        *,
        page_size: int = 1000,
        next_page_token: bytes | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> ScheduleAsyncIterator:
        """Return the schedules that match, as an async iterator; errors come when it is iterated over.

        Args:
            query: A list filter; None means all.
            page_size: Schedules per call.
            next_page_token: Where to begin.
            rpc_metadata: Metadata of every call.
            rpc_timeout: Limit of every call.
        """
        return self._impl.list_schedules(
            ListSchedulesInput(page_size, next_page_token, rpc_metadata, rpc_timeout, query)
        )

    async def update_worker_build_id_compatibility(
        self,
        task_queue: str,
        operation: BuildIdOp,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> None:
        """Change the sets of compatible build ids of a task queue. Deprecated in Temporal.

        Args:
            task_queue: The task queue.
            operation: The change.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server refuses, or no longer does this.
        """
        await self._impl.update_worker_build_id_compatibility(
            UpdateWorkerBuildIdCompatibilityInput(task_queue, operation, rpc_metadata, rpc_timeout)
        )

    async def get_worker_build_id_compatibility(
        self,
        task_queue: str,
        max_sets: int | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkerBuildIdVersionSets:
        """Return the sets of compatible build ids of a task queue. Deprecated in Temporal.

        Args:
            task_queue: The task queue.
            max_sets: Most sets returned; None means all.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server refuses, or no longer does this.
        """
        return await self._impl.get_worker_build_id_compatibility(
            GetWorkerBuildIdCompatibilityInput(task_queue, max_sets, rpc_metadata, rpc_timeout)
        )

    async def get_worker_task_reachability(
        self,
        build_ids: Sequence[str],
        task_queues: Sequence[str] = [],
        reachability_type: TaskReachabilityType | None = None,
        rpc_metadata: Mapping[str, str | bytes] = {},
        rpc_timeout: timedelta | None = None,
    ) -> WorkerTaskReachability:
        """Return where build ids may still get tasks. Deprecated in Temporal.

        Args:
            build_ids: The build ids, at least one.
            task_queues: Look at these only; empty means all.
            reachability_type: By which workflows.
            rpc_metadata: Metadata of the call.
            rpc_timeout: Limit of the call.

        Raises:
            RPCError: The server refuses, or no longer does this.
        """
        return await self._impl.get_worker_task_reachability(
            GetWorkerTaskReachabilityInput(
                build_ids, task_queues, reachability_type, rpc_metadata, rpc_timeout
            )
        )
