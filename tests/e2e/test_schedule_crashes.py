"""The server killed with SIGKILL while schedules act each second: no action is left out, none is taken twice.

The number of kills is PERDURE_SCHEDULE_CRASHES (10 unless set), the seed of their moments PERDURE_CRASH_SEED.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from perdure.api.enums.v1 import ScheduleOverlapPolicy
from perdure.api.schedule.v1 import IntervalSpec, Schedule, SchedulePatch
from perdure.api.workflowservice import v1 as workflowservice
from tests.support import builders
from tests.support.rpc import RawClient
from tests.support.servers import PerdureServer

CRASHES = int(os.environ.get("PERDURE_SCHEDULE_CRASHES", "10"))
SEED = int(os.environ.get("PERDURE_CRASH_SEED", "20"))
SCHEDULES = 40
LIVELY_S = 1.2
"""A killed server has served for at most this long."""
ACTS_FOR_S = 0.08
"""How long after a whole second the schedules act."""
PAGE = 1_000


def each_second(workflow_id: str) -> Schedule:
    """A schedule that acts each second, whatever runs."""
    schedule = Schedule()
    schedule.spec.interval.append(IntervalSpec(interval=builders.duration(1)))
    schedule.policies.overlap_policy = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
    template = schedule.action.start_workflow
    template.workflow_id = workflow_id
    template.workflow_type.name = "Tick"
    template.task_queue.name = "ticks"
    return schedule


async def create(client: RawClient, number: int) -> None:
    """Creates a schedule."""
    request = workflowservice.CreateScheduleRequest(
        namespace="default",
        schedule_id=f"s{number}",
        schedule=each_second(f"w{number}"),
        request_id=f"create {number}",
    )
    await client.call(request, workflowservice.CreateScheduleResponse)


async def stop(client: RawClient, number: int) -> workflowservice.DescribeScheduleResponse:
    """Pauses a schedule; returns its description."""
    patch = workflowservice.PatchScheduleRequest(
        namespace="default", schedule_id=f"s{number}", patch=SchedulePatch(pause="enough")
    )
    await client.call(patch, workflowservice.PatchScheduleResponse)
    return await client.call(
        workflowservice.DescribeScheduleRequest(namespace="default", schedule_id=f"s{number}"),
        workflowservice.DescribeScheduleResponse,
    )


async def started(client: RawClient) -> dict[str, list[datetime.datetime]]:
    """The times that stand in the ids of all runs, by schedule's workflow id."""
    found: defaultdict[str, list[datetime.datetime]] = defaultdict(list)
    token = b""
    while True:
        page = await client.call(
            workflowservice.ListWorkflowExecutionsRequest(
                namespace="default", page_size=PAGE, next_page_token=token
            ),
            workflowservice.ListWorkflowExecutionsResponse,
        )
        for execution in page.executions:
            workflow_id, _, at = execution.execution.workflow_id.partition("-")
            found[workflow_id].append(datetime.datetime.fromisoformat(at.replace("Z", "+00:00")))
        token = page.next_page_token
        if not token:
            return found


async def scenario(db_path: Path, log_path: Path) -> None:
    """Schedules act through crashes; then every second of theirs must be there once."""
    rng = random.Random(SEED)
    async with (
        PerdureServer(db_path=db_path, log_path=log_path) as server,
        RawClient(server.address) as client,
    ):
        await asyncio.gather(*(create(client, number) for number in range(SCHEDULES)))
        for number in range(CRASHES):
            # Not a wait for something: the moment at which the process dies is what is random here.
            after_s = rng.uniform(0.02, LIVELY_S)
            if number % 2:  # while it acts
                after_s = 1 - time.time() % 1 + rng.uniform(0, ACTS_FOR_S)
            moment = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(after_s, moment.set_result, None)
            await moment
            await server.restart_after_kill()
        described = [await stop(client, number) for number in range(SCHEDULES)]
        runs = await started(client)
    for number, schedule in enumerate(described):
        times = Counter(runs[f"w{number}"])
        twice = [at for at, count in times.items() if count > 1]
        assert not twice, f"s{number} acted twice at {twice}"
        created_s = schedule.info.create_time.seconds
        first = datetime.datetime.fromtimestamp(created_s + 1, datetime.UTC)
        wanted = {first + datetime.timedelta(seconds=second) for second in range(len(times))}
        assert set(times) == wanted, f"s{number} left out {sorted(wanted - set(times))}"
        assert schedule.info.action_count == len(times)
        assert not schedule.info.missed_catchup_window
        assert len(times) > CRASHES * LIVELY_S / 4, "too few actions to mean anything"


@pytest.mark.serial
@pytest.mark.timeout(300)
def test_schedules_act_once_for_each_time_when_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    """What was due while no server ran is caught up, what was begun before a crash is not begun again."""
    asyncio.run(scenario(tmp_path / "perdure.db", tmp_path / "server.log"))
