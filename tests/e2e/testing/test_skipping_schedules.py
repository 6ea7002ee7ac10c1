"""Schedules where time is skipped: their actions are what the clock is moved to."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

from perdure import workflow
from perdure.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleState,
)
from perdure.testing import WorkflowEnvironment
from perdure.worker import Worker
from tests.unit.server.support import run

QUEUE = "schedules-queue"
DAY = timedelta(days=1)


@workflow.defn
class Report:
    """Takes an hour."""

    @workflow.run
    async def run(self) -> None:
        await asyncio.sleep(3600)


def test_days_of_a_schedule_pass_in_a_moment() -> None:
    """Three daily actions, each with a workflow of an hour, then none is left and time stands still."""

    async def scenario() -> None:
        async with (
            await WorkflowEnvironment.start_time_skipping() as env,
            Worker(env.client, task_queue=QUEUE, workflows=[Report]),
        ):
            handle = await env.client.create_schedule(
                "daily",
                Schedule(
                    ScheduleActionStartWorkflow(Report.run, id="report", task_queue=QUEUE),
                    ScheduleSpec(intervals=[ScheduleIntervalSpec(every=DAY)]),
                    state=ScheduleState(limited_actions=True, remaining_actions=3),
                ),
            )
            begin = await env.get_current_time()
            await env.sleep(4 * DAY)
            description = await handle.describe()
            assert description.info.num_actions == 3
            times = [action.scheduled_at for action in description.info.recent_actions]
            assert [later - time for time, later in itertools.pairwise(times)] == [DAY, DAY]
            assert begin < times[0] <= begin + DAY
            assert not description.info.running_actions

    run(scenario())
