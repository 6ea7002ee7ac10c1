"""The UI on the official server: every page of a namespace, a run, an activity and a schedule can be read."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from perdure.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)
from perdure.ui import UiApp, UiConfig
from perdure.worker import Worker
from tests.support.servers import RealServer
from tests.ui import application
from tests.ui.application import QUEUE, SECOND, Item, Nap, Order, reserve
from tests.ui.test_app import ask

pytestmark = pytest.mark.serial
LIMIT_S = 120.0
RUN_PAGES = (
    "",
    "/history",
    "/relationships",
    "/workers",
    "/actions/reset",
    "/actions/retry",
    "/actions/signal",
)
PAGES = (
    "", "/workflows", "/activities", "/nexus-operations", "/schedules", "/schedules/hourly", "/batches", "/task-queues",
    f"/task-queues/{QUEUE}", "/workers", "/deployments", "/search-attributes", "/start-workflow", "/start-activity",
    "/start-batch", "/create-schedule",
)  # fmt: skip


async def _prepare(client: Client) -> str:
    """An order that waits for its delivery, an activity without a workflow, a schedule. Returns the order's run id."""
    handle = await client.start_workflow(Order.run, Item("lamp"), id="order", task_queue=QUEUE)
    # The update is taken whatever the order does at that time; it is in the history afterwards.
    await handle.execute_update(Order.change_address, "Side Street 2")
    await client.execute_activity(
        reserve, Item("x"), id="solo", task_queue=QUEUE, start_to_close_timeout=60 * SECOND
    )
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))])
    action = ScheduleActionStartWorkflow(Nap.run, id="scheduled", task_queue=QUEUE)
    await client.create_schedule("hourly", Schedule(action=action, spec=spec))
    return handle.first_execution_run_id or ""


async def _visit() -> dict[str, tuple[int, Any]]:
    """Status and JSON of each page, by path."""
    switches = {"nexusoperation.enableStandalone": "true"}
    async with RealServer(dynamic_config=switches) as server:
        client = await Client.connect(server.address)
        worker = Worker(
            client, task_queue=QUEUE, workflows=application.WORKFLOWS, activities=application.ACTIVITIES
        )
        async with worker:
            run_id = await _prepare(client)
            app = UiApp(client.service_client, UiConfig())
            found = {}
            run = f"/workflows/order/{run_id}"
            for path in (*PAGES, *(f"{run}{part}" for part in RUN_PAGES), "/activities/solo"):
                name = path.replace(run_id, "RUN")
                found[name] = await _read(app, f"/namespaces/default{path}")
        await client.service_client.close()
        return found


async def _read(app: UiApp, path: str) -> tuple[int, Any]:
    """A page and its JSON twin; a redirection is followed once."""
    answer = await ask(app, path)
    if answer.status == 303:
        path = answer.headers["location"].partition("?")[0]
        answer = await ask(app, path)
    twin = await ask(app, path, headers={"accept": "application/json"})
    assert twin.status == answer.status
    return answer.status, json.loads(twin.body)


@pytest.mark.timeout(2 * LIMIT_S)
def test_every_page_can_be_read_on_the_official_server() -> None:
    """All answer, none tells of a part that failed, and the run's timeline holds what the run did."""
    found = asyncio.run(asyncio.wait_for(_visit(), LIMIT_S))
    assert {path: status for path, (status, _) in found.items() if status != 200} == {}
    errors = {path: data.get("error") or data.get("timeline_error") for path, (_, data) in found.items()}
    assert {path: error for path, error in errors.items() if error} == {}
    _, run = found["/workflows/order/RUN"]
    assert "change_address" in {item["name"] for item in run["timeline"]["items"]}
    _, solo = found["/activities/solo"]
    assert solo["outcome"]["result"][0]["value"] == "reserved x"
