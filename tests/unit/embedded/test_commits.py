"""How many commits a workflow makes whose client and worker share the process with the engine."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.client import Client
from perdure.store.sqlite.writer import GroupWriter
from perdure.worker import Worker
from tests.unit.server.support import run

STEPS = 5


@activity.defn
async def step(number: int) -> int:
    """The next number."""
    return number + 1


@workflow.defn
class Steps:
    """Some steps, one after the other."""

    @workflow.run
    async def run(self) -> int:
        """Their count."""
        number = 0
        for _ in range(STEPS):
            number = await workflow.execute_activity(
                step, number, start_to_close_timeout=timedelta(minutes=1)
            )
        return number


def test_an_event_and_the_workflow_task_that_it_causes_are_one_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start with the first workflow task, then each activity's completion with the workflow task behind it.

    That is STEPS + 1 groups, and without gathering twice as many. Others of the server's may come between, so some
    more are let pass.
    """
    groups: list[int] = []
    take_group = GroupWriter._take_group

    def counted(writer: GroupWriter) -> Any:
        group = take_group(writer)
        groups.append(len(group.jobs))
        return group

    monkeypatch.setattr(GroupWriter, "_take_group", counted)

    async def scenario() -> None:
        client = await Client.connect(f"sqlite:///{tmp_path}/commits.db")
        try:
            async with Worker(client, task_queue="q", workflows=[Steps], activities=[step]):
                assert await client.execute_workflow(Steps.run, id="warm", task_queue="q") == STEPS
                groups.clear()
                assert await client.execute_workflow(Steps.run, id="one", task_queue="q") == STEPS
                assert STEPS < len(groups) < 2 * STEPS, groups
        finally:
            await client.close()

    run(scenario())
