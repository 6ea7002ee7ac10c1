"""Calls about schedules and sets of build ids: inputs to requests, answers and errors to what the caller gets.

May live here: those requests. May not: public forms of calls (`_client_others`, `_schedule`).
"""

from __future__ import annotations

import inspect

from perdure.api.errordetails import v1 as errordetails
from perdure.api.schedule import v1 as schedule_api
from perdure.api.workflowservice import v1 as service_api
from perdure.client._exceptions import ScheduleAlreadyRunningError
from perdure.client._impl_base import ImplBase, RpcInput
from perdure.client._inputs_other import (
    BackfillScheduleInput,
    CreateScheduleInput,
    DeleteScheduleInput,
    DescribeScheduleInput,
    GetWorkerBuildIdCompatibilityInput,
    GetWorkerTaskReachabilityInput,
    ListSchedulesInput,
    PauseScheduleInput,
    TriggerScheduleInput,
    UnpauseScheduleInput,
    UpdateScheduleInput,
    UpdateWorkerBuildIdCompatibilityInput,
)
from perdure.client._schedule import ScheduleHandle
from perdure.client._schedule_description import (
    ScheduleAsyncIterator,
    ScheduleDescription,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from perdure.client._wire import enum_value, new_request_id
from perdure.client._worker_versioning import WorkerBuildIdVersionSets, WorkerTaskReachability
from perdure.converter import encode_search_attributes
from perdure.service import RPCError
from perdure.service._errors import detail_of


class ScheduleCalls(ImplBase):
    """The client's end of calls about schedules."""

    async def create_schedule(self, input: CreateScheduleInput) -> ScheduleHandle:
        state = input.schedule.state
        if state.limited_actions and not state.remaining_actions:
            raise ValueError("Must set limited actions to false if there are no remaining actions set")
        if not state.limited_actions and state.remaining_actions:
            raise ValueError("Must set limited actions to true if there are remaining actions set")
        client = self._client
        request = service_api.CreateScheduleRequest(
            namespace=client.namespace,
            schedule_id=input.id,
            schedule=await input.schedule._to_proto(client),
            identity=client.identity,
            request_id=new_request_id(),
            memo=await client.data_converter._encode_memo(input.memo) if input.memo else None,
        )
        if input.trigger_immediately:
            overlap = enum_value(input.schedule.policy.overlap)
            request.initial_patch.trigger_immediately.overlap_policy = overlap
        if input.backfill:
            request.initial_patch.backfill_request.extend(b._to_proto() for b in input.backfill)
        if input.search_attributes:
            encode_search_attributes(input.search_attributes, request.search_attributes)
        try:
            await self._call(client.workflow_service.create_schedule, request, input)
        except RPCError as error:
            if detail_of(error, errordetails.WorkflowExecutionAlreadyStartedFailure) is not None:
                raise ScheduleAlreadyRunningError from error
            raise
        return ScheduleHandle(client, input.id)

    def list_schedules(self, input: ListSchedulesInput) -> ScheduleAsyncIterator:
        return ScheduleAsyncIterator(self._client, input)

    async def backfill_schedule(self, input: BackfillScheduleInput) -> None:
        backfills = [backfill._to_proto() for backfill in input.backfills]
        await self._patch(input.id, schedule_api.SchedulePatch(backfill_request=backfills), input)

    async def pause_schedule(self, input: PauseScheduleInput) -> None:
        note = input.note or "Paused via Python SDK"
        await self._patch(input.id, schedule_api.SchedulePatch(pause=note), input)

    async def unpause_schedule(self, input: UnpauseScheduleInput) -> None:
        note = input.note or "Unpaused via Python SDK"
        await self._patch(input.id, schedule_api.SchedulePatch(unpause=note), input)

    async def trigger_schedule(self, input: TriggerScheduleInput) -> None:
        trigger = schedule_api.TriggerImmediatelyRequest(overlap_policy=enum_value(input.overlap))
        await self._patch(input.id, schedule_api.SchedulePatch(trigger_immediately=trigger), input)

    async def _patch(self, id: str, patch: schedule_api.SchedulePatch, input: RpcInput) -> None:
        request = service_api.PatchScheduleRequest(
            namespace=self._client.namespace,
            schedule_id=id,
            patch=patch,
            identity=self._client.identity,
            request_id=new_request_id(),
        )
        await self._call(self._client.workflow_service.patch_schedule, request, input)

    async def delete_schedule(self, input: DeleteScheduleInput) -> None:
        request = service_api.DeleteScheduleRequest(
            namespace=self._client.namespace, schedule_id=input.id, identity=self._client.identity
        )
        await self._call(self._client.workflow_service.delete_schedule, request, input)

    async def describe_schedule(self, input: DescribeScheduleInput) -> ScheduleDescription:
        return await self._describe(input.id, input)

    async def _describe(self, id: str, input: RpcInput) -> ScheduleDescription:
        request = service_api.DescribeScheduleRequest(namespace=self._client.namespace, schedule_id=id)
        response = await self._call(self._client.workflow_service.describe_schedule, request, input)
        return ScheduleDescription._from_proto(id, response, self._client.data_converter)

    async def update_schedule(self, input: UpdateScheduleInput) -> None:
        description = await self._describe(input.id, input)
        update = input.updater(ScheduleUpdateInput(description=description))
        if inspect.isawaitable(update):
            update = await update
        if not update:
            return
        if not isinstance(update, ScheduleUpdate):
            raise TypeError(
                f"The updater of a schedule must return a ScheduleUpdate or None, not {type(update).__name__}"
            )
        request = service_api.UpdateScheduleRequest(
            namespace=self._client.namespace,
            schedule_id=input.id,
            schedule=await update.schedule._to_proto(self._client),
            identity=self._client.identity,
            request_id=new_request_id(),
        )
        if update.search_attributes is not None:
            # Set even if it is empty: that removes them.
            request.search_attributes.SetInParent()
            encode_search_attributes(update.search_attributes, request.search_attributes)
        await self._call(self._client.workflow_service.update_schedule, request, input)


class VersioningCalls(ImplBase):
    """The client's end of calls about sets of build ids."""

    async def update_worker_build_id_compatibility(
        self, input: UpdateWorkerBuildIdCompatibilityInput
    ) -> None:
        request = input.operation._as_partial_proto()
        request.namespace = self._client.namespace
        request.task_queue = input.task_queue
        await self._call(self._client.workflow_service.update_worker_build_id_compatibility, request, input)

    async def get_worker_build_id_compatibility(
        self, input: GetWorkerBuildIdCompatibilityInput
    ) -> WorkerBuildIdVersionSets:
        request = service_api.GetWorkerBuildIdCompatibilityRequest(
            namespace=self._client.namespace, task_queue=input.task_queue, max_sets=input.max_sets or 0
        )
        return WorkerBuildIdVersionSets._from_proto(
            await self._call(self._client.workflow_service.get_worker_build_id_compatibility, request, input)
        )

    async def get_worker_task_reachability(
        self, input: GetWorkerTaskReachabilityInput
    ) -> WorkerTaskReachability:
        request = service_api.GetWorkerTaskReachabilityRequest(
            namespace=self._client.namespace,
            build_ids=input.build_ids,
            task_queues=input.task_queues,
            reachability=input.reachability._to_proto() if input.reachability else None,
        )
        return WorkerTaskReachability._from_proto(
            await self._call(self._client.workflow_service.get_worker_task_reachability, request, input)
        )
