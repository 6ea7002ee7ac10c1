"""One server with its web UI, one worker, and runs in every state: what all tests of the UI look at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from examples.ports import free_port
from perdure.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    WorkflowHandle,
)
from perdure.worker import Worker
from tests.support.servers import HOST, PerdureServer
from tests.ui import application
from tests.ui.application import QUEUE, Item

ResultT = TypeVar("ResultT")
LIMIT_S = 110.0


class ServerWithUi(PerdureServer):
    """Perdure's server with its web UI."""

    def __init__(self, log_path: Path) -> None:
        super().__init__(log_path=log_path)
        self.ui_port = free_port()

    def command_line(self) -> list[str]:
        """The command of a server without UI, with one."""
        line = [part for part in super().command_line() if part != "--headless"]
        return [*line, "--ui-port", str(self.ui_port)]


class Stage:
    """Runs the server's process, and a worker in a thread with a loop of its own.

    Args:
        log_path: of the server.
    """

    def __init__(self, log_path: Path) -> None:
        self.server = ServerWithUi(log_path)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stage", daemon=True)
        self._worker: Worker | None = None
        self._work: asyncio.Task[None] | None = None
        self.client: Client
        self.run_ids: dict[str, str] = {}

    @property
    def url(self) -> str:
        """The UI's address."""
        return f"http://{HOST}:{self.server.ui_port}"

    def page_of(self, workflow_id: str, *more: str) -> str:
        """The address of a run's page."""
        parts = ["namespaces", "default", "workflows", workflow_id, self.run_ids[workflow_id], *more]
        return "/".join([self.url, *parts])

    def wait(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Runs a coroutine on the stage's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_S)

    def start(self) -> None:
        """Starts server and worker."""
        self._thread.start()
        self.wait(self._start())

    def stop(self) -> None:
        """Stops both."""
        try:
            self.wait(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(LIMIT_S)
            self._loop.close()

    async def _start(self) -> None:
        await self.server.start()
        self.client = await Client.connect(self.server.address)
        self._worker = Worker(
            self.client,
            task_queue=QUEUE,
            workflows=application.WORKFLOWS,
            activities=application.ACTIVITIES,
            identity="stage-worker",
        )
        self._work = asyncio.create_task(self._worker.run())

    async def _stop(self) -> None:
        if self._worker is not None and self._work is not None:
            await self._worker.shutdown()
            await self._work
        await self.client.service_client.close()
        await self.server.stop()

    # --- runs ---

    async def begin(
        self, workflow: Any, workflow_id: str, *arguments: Any, **more: Any
    ) -> WorkflowHandle[Any, Any]:
        """Starts a run."""
        handle: WorkflowHandle[Any, Any] = await self.client.start_workflow(
            workflow, args=arguments, id=workflow_id, **{"task_queue": QUEUE, **more}
        )
        self.run_ids[workflow_id] = handle.first_execution_run_id or handle.result_run_id or ""
        return handle

    async def until(self, condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Waits until a condition holds."""
        async with asyncio.timeout(LIMIT_S):
            while not await condition():
                await asyncio.sleep(0.05)

    async def status_is(self, handle: WorkflowHandle[Any, Any], wanted: str) -> None:
        """Waits until an order says that it is there."""

        async def is_there() -> bool:
            return bool(await handle.query("status") == wanted)

        await self.until(is_there)

    async def prepare(self) -> None:
        """Runs in every state."""
        delivered = await self.begin(
            application.Order.run, "order-delivered", Item("lamp"), memo={"note": "by hand"}
        )
        waiting = await self.begin(application.Order.run, "order-waiting", Item("table", 120.0))
        broken = await self.begin(application.Broken.run, "broken", "aisle 7")
        stuck = await self.begin(application.Stuck.run, "stuck", "aisle 9")
        await self.begin(application.Nap.run, "nap")
        await self.begin(application.Nap.run, "with/slash and spaces.json")
        ended = await self.begin(application.Nap.run, "ended")
        await ended.terminate("by the test")
        for number in range(4):
            await (await self.begin(application.Nap.run, f"poked-{number}")).signal("poke")
        await self.status_is(delivered, "waiting for the delivery")
        await delivered.execute_update("change_address", "Side Street 2")
        await delivered.signal("delivered")
        await delivered.result()
        await self.status_is(waiting, "waiting for the delivery")
        try:
            await broken.result()
        except Exception:
            pass  # it fails on purpose

        async def has_retried() -> bool:
            pending = (await stuck.describe()).raw_description.pending_activities
            return bool(pending and pending[0].attempt >= 3)

        await self.until(has_retried)
        # It goes on while the first tests look at other things.
        await self.begin(application.Wide.run, "wide", 38, 40)
        await self.client.create_schedule(
            "hourly",
            Schedule(
                action=ScheduleActionStartWorkflow(application.Nap.run, id="scheduled", task_queue=QUEUE),
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))]),
            ),
        )
