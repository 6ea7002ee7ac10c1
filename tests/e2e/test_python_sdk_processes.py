"""Workers and servers that come and go: shutdown, SIGKILL, restart on the same file, start by the SDK itself."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.testing import WorkflowEnvironment

from tests.e2e.python_sdk import (
    SCENARIO_TIMEOUT_S,
    events_of,
    eventually,
    history_names,
    new_worker,
    on_server,
    unique,
)
from tests.e2e.sdk_activities import ALL_ACTIVITIES, Gate
from tests.e2e.sdk_workflows import COLOUR, WEIGHT, ActivityCall, Collector, RunActivity, Timers
from tests.support.target import target_executable, target_server

pytestmark = pytest.mark.serial

REPOSITORY: Final = Path(__file__).resolve().parents[2]
STICKY_TIMEOUT: Final = timedelta(seconds=2)


@contextlib.asynccontextmanager
async def _worker_process(
    address: str, queue: str, marker: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.e2e.sdk_worker", address, queue, str(marker), cwd=REPOSITORY
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


@on_server
async def test_worker_shutdown_lets_activities_finish(client: Client) -> None:
    """A worker that stops gives a running activity its grace period; another worker ends the workflow."""
    queue = unique("shutdown")
    options: dict[str, Any] = {
        "workflows": [RunActivity],
        "activities": ALL_ACTIVITIES,
        "task_queue": queue,
    }
    async with new_worker(client, graceful_shutdown_timeout=timedelta(seconds=10), **options):
        handle = await client.start_workflow(
            RunActivity.run, ActivityCall("until_worker_shutdown"), id=unique("shutdown"), task_queue=queue
        )
        await eventually("the activity runs", lambda: _activity_started(handle))
    async with new_worker(client, **options):
        assert await handle.result() == "finished in the grace period"
    assert (await events_of(handle))[5].activity_task_started_event_attributes.attempt == 1


async def _activity_started(handle: WorkflowHandle[Any, Any]) -> bool:
    pending = (await handle.describe()).raw_description.pending_activities
    return any(each.HasField("last_started_time") for each in pending)


@on_server
async def test_stopped_workers_leave_no_task_behind(client: Client) -> None:
    """Workflows started while workers come and go all complete: no task is lost with a cancelled poll."""
    queue, handles = unique("come-and-go"), []
    for _ in range(5):
        async with new_worker(client, workflows=[Timers], task_queue=queue):
            for _ in range(4):
                handles.append(
                    await client.start_workflow(Timers.run, [0.01], id=unique("short"), task_queue=queue)
                )
    async with new_worker(client, workflows=[Timers], task_queue=queue):
        results = await asyncio.gather(*(handle.result() for handle in handles))
    assert results == [[0]] * 20


def test_killed_worker_is_replaced_in_the_middle_of_an_activity(shared_server: Any, tmp_path: Path) -> None:
    """The heartbeat timeout finds the dead worker's activity; the next attempt runs elsewhere and gets its details."""

    async def scenario(client: Client) -> None:
        queue, marker = unique("killed"), tmp_path / "began"
        details: list[Any] = []

        @activity.defn(name="survive")
        async def survive() -> str:
            details.extend(activity.info().heartbeat_details)
            return f"attempt {activity.info().attempt}"

        address = client.service_client.config.target_host
        async with _worker_process(address, queue, marker) as process:
            handle = await client.start_workflow(
                RunActivity.run,
                ActivityCall("survive", heartbeat_s=1.0),
                id=unique("killed"),
                task_queue=queue,
            )
            await eventually("the activity began", lambda: _exists(marker))
            process.kill()
            await process.wait()
        async with new_worker(client, workflows=[RunActivity], activities=[survive], task_queue=queue):
            assert await handle.result() == "attempt 2"
        assert details == ["before the kill"]
        names = await history_names(handle)
        assert names.count("ActivityTaskStarted") == names.count("ActivityTaskCompleted") == 1

    shared_server.run(scenario)


def test_workflow_cached_by_a_killed_worker_moves_on(shared_server: Any, tmp_path: Path) -> None:
    """A signal for a workflow cached by a dead worker reaches another worker, by way of the normal queue."""

    async def scenario(client: Client) -> None:
        queue = unique("sticky")
        address = client.service_client.config.target_host
        async with _worker_process(address, queue, tmp_path / "never") as process:
            handle = await client.start_workflow(Collector.run, id=unique("sticky"), task_queue=queue)
            await handle.signal(Collector.add, "before")
            assert await handle.query(Collector.items) == ["before"]
            process.kill()
            await process.wait()
        await handle.signal(Collector.add, "after")
        async with new_worker(client, workflows=[Collector], task_queue=queue):
            await handle.signal(Collector.stop)
            assert await handle.result() == ["before", "after"]

    shared_server.run(scenario)


def test_killed_server_goes_on_from_its_file(tmp_path: Path) -> None:
    """SIGKILL to the server with timers, activities and signals under way; a connected worker finishes them all."""

    async def scenario() -> None:
        server = target_server(db_path=tmp_path / "runs.db")
        async with server, asyncio.timeout(SCENARIO_TIMEOUT_S):
            client, queue, gate = await Client.connect(server.address), unique("restart"), Gate()
            async with new_worker(
                client,
                workflows=[Collector, Timers, RunActivity],
                activities=[gate.pass_gate],
                task_queue=queue,
                sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
            ):
                call = ActivityCall("pass_gate", start_to_close_s=20.0)
                signalled = await client.start_workflow(Collector.run, id="signalled", task_queue=queue)
                timed = await client.start_workflow(Timers.run, [2.0, 1.0], id="timed", task_queue=queue)
                working = await client.start_workflow(RunActivity.run, call, id="working", task_queue=queue)
                await signalled.signal(Collector.add, "before")
                assert await asyncio.to_thread(gate.began.wait, 20)
                await eventually("timers started", lambda: _has_event(timed, "TimerStarted"))
                before = {handle.id: await events_of(handle) for handle in (signalled, timed, working)}
                await server.restart_after_kill()
                gate.open.set()
                await signalled.signal(Collector.add, "after")
                await signalled.signal(Collector.stop)
                assert await signalled.result() == ["before", "after"]
                assert await timed.result() == [1, 0]
                assert await working.result() == 1
                for handle in (signalled, timed, working):
                    assert (await events_of(handle))[: len(before[handle.id])] == before[handle.id]
            assert gate.attempts == [1]

    asyncio.run(scenario())


async def _has_event(handle: WorkflowHandle[Any, Any], name: str) -> bool:
    return name in await history_names(handle)


def test_sdk_starts_the_server_itself(tmp_path: Path) -> None:
    """`WorkflowEnvironment.start_local` takes our executable for the one it would download."""

    async def scenario() -> None:
        async with await WorkflowEnvironment.start_local(
            namespace="orders",
            search_attributes=[COLOUR, WEIGHT],
            dev_server_existing_path=target_executable(),
            dev_server_startup_timeout=timedelta(minutes=1),
            dev_server_database_filename=str(tmp_path / "local.db"),
            dev_server_extra_args=["--dynamic-config-value", "frontend.enableExecuteMultiOperation=true"],
        ) as environment:
            client = environment.client
            attributes = TypedSearchAttributes([SearchAttributePair(COLOUR, "blue")])
            async with new_worker(client, workflows=[Timers]) as worker:
                handle = await client.start_workflow(
                    Timers.run,
                    [0.05],
                    id=unique("local"),
                    task_queue=worker.task_queue,
                    search_attributes=attributes,
                )
                assert await handle.result() == [0]
                assert (await handle.describe()).typed_search_attributes.get(COLOUR) == "blue"
            assert client.namespace == "orders"
        assert (tmp_path / "local.db").exists()

    asyncio.run(asyncio.wait_for(scenario(), SCENARIO_TIMEOUT_S))
