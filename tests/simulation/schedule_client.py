"""Simulated clients that take schedules through their lives: make, trigger, pause, backfill, update, delete them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.api.enums.v1 import ScheduleOverlapPolicy
from perdure.api.schedule.v1 import IntervalSpec, Schedule, SchedulePatch
from perdure.api.workflowservice.v1 import (
    CreateScheduleRequest,
    CreateScheduleResponse,
    DeleteScheduleRequest,
    DeleteScheduleResponse,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    PatchScheduleRequest,
    PatchScheduleResponse,
    UpdateScheduleRequest,
    UpdateScheduleResponse,
)
from perdure.store.protocol import ScheduleKey
from tests.simulation.context import Context
from tests.simulation.interpreter import payloads
from tests.simulation.loop import Node
from tests.simulation.network import CallFailed
from tests.simulation.runtime import new_uuid
from tests.simulation.schedules import SchedulePlan


class ScheduleClient:
    """One client process that takes a schedule through its life.

    Args:
        context: the world.
        node: the process.
        plan: the schedule.
    """

    def __init__(self, context: Context, node: Node, plan: SchedulePlan) -> None:
        self._context = context
        self._loop = context.loop
        self._plan = plan
        self._random = context.stream(f"client of {plan.namespace} {plan.schedule_id}")
        self._key = ScheduleKey(context.namespace_ids[plan.namespace], plan.schedule_id)
        self._oracle = context.oracle.schedules
        self.unfinished = 1
        context.start(node, self._live())

    async def _live(self) -> None:
        plan, random = self._plan, self._random
        await self._loop.sleep(random.uniform(0, 10))
        self._oracle.expect(self._key, plan)
        create = CreateScheduleRequest(
            namespace=plan.namespace, schedule_id=plan.schedule_id, request_id=new_uuid(random)
        )
        create.schedule.CopyFrom(self._schedule())
        await self._call(create, CreateScheduleResponse)
        acts: list[Callable[[], Any]] = [self._trigger] * plan.triggers + [self._update] * plan.updates
        acts += [self._pause] * plan.pauses
        acts += [self._backfill] if plan.backfills else []
        random.shuffle(acts)
        for act in acts:
            await self._loop.sleep(random.uniform(0, 15))
            await act()
        while self._context.calm_since_s is None:
            await self._loop.sleep(1.0)
        await self._loop.sleep(random.uniform(0, 60))
        await self._describe()
        delete = DeleteScheduleRequest(namespace=plan.namespace, schedule_id=plan.schedule_id)
        await self._call(delete, DeleteScheduleResponse, "NotFoundError")
        self._oracle.check_deleted(self._key)
        self.unfinished = 0

    def _schedule(self) -> Schedule:
        plan = self._plan
        schedule = Schedule()
        interval = IntervalSpec()
        interval.interval.FromSeconds(plan.every_s)
        schedule.spec.interval.append(interval)
        schedule.policies.overlap_policy = ScheduleOverlapPolicy.Value(
            f"SCHEDULE_OVERLAP_POLICY_{plan.policy}"
        )
        schedule.policies.catchup_window.FromSeconds(plan.catchup_s)
        schedule.policies.pause_on_failure = plan.pause_on_failure
        template = schedule.action.start_workflow
        template.workflow_id = plan.schedule_id
        template.workflow_type.name = "program"
        template.task_queue.name = plan.task_queue
        origin = {"namespace": plan.namespace, "workflow_id": "", "task_queue": plan.task_queue}
        template.input.CopyFrom(payloads({"program": plan.program, "origin": origin, "scheduled": True}))
        return schedule

    async def _call(self, request: Any, response: type[Any], *allowed: str) -> Any:
        """Calls until there is an answer."""
        while True:
            try:
                return await self._context.network.call(request, response, 10.0)
            except CallFailed as error:
                self._context.accept(error, *allowed)
                if not error.is_unknown:
                    return None
                await self._loop.sleep(self._random.uniform(0.05, 2.0))

    async def _patch(self, patch: SchedulePatch) -> None:
        request_id = new_uuid(self._random)
        self._oracle.asked(self._key, request_id, patch)
        request = PatchScheduleRequest(
            namespace=self._plan.namespace, schedule_id=self._plan.schedule_id, request_id=request_id
        )
        request.patch.CopyFrom(patch)
        await self._call(request, PatchScheduleResponse)
        self._oracle.acknowledged(self._key, request_id)

    async def _trigger(self) -> None:
        patch = SchedulePatch()
        patch.trigger_immediately.SetInParent()
        await self._patch(patch)

    async def _pause(self) -> None:
        await self._patch(SchedulePatch(pause="for a while"))
        await self._loop.sleep(self._random.uniform(0, 15))
        await self._patch(SchedulePatch(unpause="go on"))

    async def _backfill(self) -> None:
        patch = SchedulePatch()
        backfill = patch.backfill_request.add()
        backfill.overlap_policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
        backfill.start_time.FromSeconds(1_700_000_000)
        backfill.end_time.FromSeconds(1_700_000_000 + 25 * self._plan.every_s)
        await self._patch(patch)

    async def _update(self) -> None:
        """Sets it anew, as it was; a token that is too old is refused only the first time."""
        request_id = new_uuid(self._random)
        self._oracle.asked(self._key, request_id, None)
        request = UpdateScheduleRequest(
            namespace=self._plan.namespace, schedule_id=self._plan.schedule_id, request_id=request_id
        )
        request.schedule.CopyFrom(self._schedule())
        await self._call(request, UpdateScheduleResponse)
        self._oracle.acknowledged(self._key, request_id)

    async def _describe(self) -> None:
        request = DescribeScheduleRequest(namespace=self._plan.namespace, schedule_id=self._plan.schedule_id)
        described = await self._call(request, DescribeScheduleResponse)
        for workflow in described.info.running_workflows:
            self._context.oracle.started(self._key.namespace_id, workflow.workflow_id, workflow.run_id)
