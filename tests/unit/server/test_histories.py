"""Single events of histories: those that were written together are parsed once, and each is the right one."""

from __future__ import annotations

import asyncio

import pytest

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from perdure.core.errors import InvariantViolation, NotFoundError
from perdure.server.engine import histories
from perdure.server.engine.histories import Histories
from tests.support.builders import schedule_activity
from tests.unit.server.local_client import serving
from tests.unit.server.support import run

MANY = 30


@pytest.mark.parametrize("remembered", [1, 16])
def test_each_event_of_a_large_batch_is_found(monkeypatch: pytest.MonkeyPatch, remembered: int) -> None:
    """Of two runs in turn, whether both are remembered or push each other out; no batch is parsed for each event."""
    monkeypatch.setattr(histories, "REMEMBERED", remembered)
    parsed = 0
    parse = histories.events

    def counted(batches: object) -> object:
        nonlocal parsed
        parsed += 1
        return parse(batches)  # type: ignore[arg-type]

    async def scenario() -> None:
        async with serving() as client:
            engine = client.server.engine
            commands = [schedule_activity(str(number), "other") for number in range(MANY)]
            runs = []
            for name in ("v", "w"):
                await client.start(name, "q")
                task = await client.poll_workflow_task("q")
                await client.complete_workflow_task(task.task_token, commands)
                current = await engine.store.current_run(
                    client.server.namespaces.get("default").namespace_id, name
                )
                assert current is not None
                runs.append(current.run)
            found = Histories(engine)
            monkeypatch.setattr(histories, "events", counted)
            for event_id in range(1, 5 + MANY):
                for key in runs:
                    assert (await found.event(key, event_id)).event_id == event_id
            assert len(found._recent) <= remembered
            assert parsed < 3 * MANY if remembered == 1 else parsed <= 8

    run(scenario())


def test_an_event_of_a_run_that_was_deleted_meanwhile_is_not_found() -> None:
    """Whoever waits for it is told so; only in a history that is there may no event be missing."""

    async def scenario() -> None:
        async with serving() as client:
            engine = client.server.engine
            await client.start("w", "q")
            namespace_id = client.server.namespaces.get("default").namespace_id
            current = await engine.store.current_run(namespace_id, "w")
            assert current is not None
            found = Histories(engine)
            with pytest.raises(InvariantViolation, match="an event is missing"):
                await found.event(current.run, 100)
            await client.terminate("w")
            await client.invoke(
                DeleteWorkflowExecutionRequest(
                    namespace="default", workflow_execution=WorkflowExecution(workflow_id="w")
                )
            )
            while await engine.store.current_run(namespace_id, "w"):
                await asyncio.sleep(0)
            with pytest.raises(NotFoundError):
                await found.event(current.run, 1)

    run(scenario())
