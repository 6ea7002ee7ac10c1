"""Runs that wait for their first workflow task, where the official server cannot be compared with."""

from __future__ import annotations

from perdure.server.config import ServerConfig
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.support.builders import complete_workflow, duration, queue
from tests.support.proto import enums, workflowservice
from tests.unit.server.local_client import LocalClient
from tests.unit.server.support import run
from tests.unit.server.test_worker_registry import Clock

HOUR_NS = 3_600_000_000_000


def test_a_delay_that_ends_while_its_run_is_paused_is_over_when_the_run_goes_on() -> None:
    async def scenario() -> None:
        clock = Clock()
        server = Server(MemoryStore(), ServerConfig(port=0), clock, "memory")
        await server.start()
        client = LocalClient(server)
        about = {"namespace": "default", "workflow_id": "w"}
        await client.start("w", "q", workflow_start_delay=duration(3600))
        await client.invoke(workflowservice.PauseWorkflowExecutionRequest(**about))
        clock.time_ns += HOUR_NS + 1
        server.engine.timers.clock_moved()
        await client.invoke(workflowservice.UnpauseWorkflowExecutionRequest(**about))
        task = await client.poll_workflow_task(queue("q"))
        await client.complete_workflow_task(task.task_token, [complete_workflow()])
        names = [enums.EventType.Name(event.event_type) for event in await client.history("w")]
        assert [name.removeprefix("EVENT_TYPE_WORKFLOW_") for name in names] == [
            "EXECUTION_STARTED",
            "EXECUTION_PAUSED",
            "EXECUTION_UNPAUSED",
            "TASK_SCHEDULED",
            "TASK_STARTED",
            "TASK_COMPLETED",
            "EXECUTION_COMPLETED",
        ]
        await server.stop(0)

    run(scenario())
