"""Workers that are killed and servers that restart while workflows run: nothing is lost, nothing is recorded twice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from perdure.api.enums.v1 import EventType
from perdure.client import Client, WorkflowHandle
from perdure.service import engine_processes
from perdure.worker import Worker
from tests.e2e.python_sdk import eventually, unique
from tests.e2e.worker.worker_process import STEPS, Steps, make_mark
from tests.support.servers import PerdureServer, RealServer, ServerProcess

pytestmark = pytest.mark.serial

REPOSITORY: Final = Path(__file__).resolve().parents[3]
WORKFLOWS: Final = 20
KILLS: Final = 3
BOUND_S: Final = 80.0


@contextlib.asynccontextmanager
async def _worker_process(address: str, queue: str, marks: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.worker.worker_process", address, queue, str(marks)),
        cwd=REPOSITORY,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _lines(path: Path) -> int:
    text = await asyncio.to_thread(lambda: path.read_text(encoding="utf-8") if path.exists() else "")
    return text.count("\n")


async def _check_histories(handles: list[WorkflowHandle[Any, Any]]) -> None:
    """Each workflow has its result, and each activity was completed exactly once in its history."""
    for handle in handles:
        assert await handle.result() == [f"{handle.id}-{step}" for step in range(STEPS)]
        history = await handle.fetch_history()
        completed = [
            event.activity_task_completed_event_attributes.scheduled_event_id
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        ]
        assert len(completed) == len(set(completed)) == STEPS


@pytest.mark.parametrize("server_type", [PerdureServer, RealServer])
def test_workers_killed_under_load_lose_nothing(server_type: type[ServerProcess], tmp_path: Path) -> None:
    """Three times the worker is killed in the middle of its work; the fourth one finishes all of it."""

    async def scenario() -> None:
        marks = tmp_path / "marks"
        queue = unique("kills")
        async with server_type() as server, await Client.connect(server.address) as client:
            handles = [
                await client.start_workflow(Steps.run, f"{queue}-{i}", id=f"{queue}-{i}", task_queue=queue)
                for i in range(WORKFLOWS)
            ]
            for kill in range(KILLS):
                async with _worker_process(server.address, queue, marks):
                    wanted = (kill + 1) * WORKFLOWS * STEPS // (KILLS + 2)

                    async def has_done_some(wanted: int = wanted) -> bool:
                        return await _lines(marks) >= wanted

                    await eventually("some activities have run", has_done_some, 30)
            async with _worker_process(server.address, queue, marks):
                await _check_histories(handles)

    asyncio.run(asyncio.wait_for(scenario(), BOUND_S))


def test_a_worker_goes_on_after_its_server_restarted(tmp_path: Path) -> None:
    """The server is killed and started again on its file, twice, while the same worker keeps polling."""

    async def scenario() -> None:
        marks = tmp_path / "marks"
        queue = unique("restart")
        server = PerdureServer(db_path=tmp_path / "server.db")
        async with server, await Client.connect(server.address) as client:
            worker = Worker(
                client,
                task_queue=queue,
                workflows=[Steps],
                activities=[make_mark(marks)],
                sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
            )
            async with worker:
                handles = []
                for restart in range(2):
                    started = [
                        await client.start_workflow(
                            Steps.run, f"{queue}-{restart}-{i}", id=f"{queue}-{restart}-{i}", task_queue=queue
                        )
                        for i in range(WORKFLOWS // 2)
                    ]
                    handles += started
                    await server.restart_after_kill()
                await _check_histories(handles)
            assert worker.is_shutdown

    asyncio.run(asyncio.wait_for(scenario(), BOUND_S))


def test_a_worker_goes_on_after_its_engines_process_was_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Client and worker live; the engine beside them is killed three times while it works, and started anew."""
    killed: list[int] = []

    async def scenario() -> None:
        marks = tmp_path / "marks"
        queue = unique("engine-kills")
        async with await Client.connect(f"sqlite:///{tmp_path}/orders.db?engine=process") as client:
            worker = Worker(
                client,
                task_queue=queue,
                workflows=[Steps],
                activities=[make_mark(marks)],
                sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
            )
            async with worker:
                handles: list[WorkflowHandle[Any, Any]] = []
                for kill in range(KILLS):
                    names = [f"{queue}-{kill}-{number}" for number in range(WORKFLOWS)]
                    started = [
                        client.start_workflow(Steps.run, name, id=name, task_queue=queue) for name in names
                    ]
                    handles += await asyncio.gather(*started)
                    (engine,) = await _engine_processes()
                    os.kill(engine, signal.SIGKILL)
                    killed.append(engine)
                await _check_histories(handles)

    with caplog.at_level(logging.WARNING, "perdure"):
        asyncio.run(asyncio.wait_for(scenario(), BOUND_S))
    assert len(set(killed)) == KILLS
    assert caplog.text.count("killed by SIGKILL") == KILLS


async def _engine_processes() -> list[int]:
    """Process numbers of the engines that this process has started."""
    found = [await asyncio.wrap_future(shared.running()) for shared in engine_processes.of_this_process()]
    return [process.pid for process in found]
