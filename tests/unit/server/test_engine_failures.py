"""A transition that fails on its way: its run is free again, and whoever waited for its tasks goes on waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.core.run import listing
from perdure.core.run.records import QueueKey, RunKey, Task, TaskKey, TaskKind
from perdure.server.engine.effects import Effects
from tests.support.builders import queue, start_child
from tests.support.proto import enums
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

TERMINATE_IF_RUNNING = enums.WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING


async def _in_line(client: LocalClient, name: str) -> None:
    """Returns when a poller of this queue waits."""
    key = QueueKey(client.server.namespaces.get(client.namespace).namespace_id, name, TaskKind.WORKFLOW)
    some = Task(RunKey(key.namespace_id, "w", "r"), TaskKey(TaskKind.WORKFLOW, 2), key, 1)
    matching = client.server.engine.matching
    while (poller := matching.reserve(some)) is None:
        await asyncio.sleep(0)
    matching.release(some, poller)


class _Defect(Exception):
    """What code raises that has a mistake."""


def test_a_defect_while_a_write_is_computed_does_not_hold_the_run_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", "q")

            def defect(*_: object) -> None:
                raise _Defect

            with monkeypatch.context() as patch:
                patch.setattr(listing, "record", defect)
                with pytest.raises(_Defect):
                    await client.terminate("w")
            async with asyncio.timeout(5):
                await client.terminate("w")

    run(scenario())


def test_a_defect_while_a_write_is_computed_frees_the_poller_that_was_to_get_its_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with serving() as client:
            polling = asyncio.create_task(client.poll_workflow_task("q", timeout_s=5))
            await _in_line(client, "q")

            def defect(*_: object) -> None:
                raise _Defect

            with monkeypatch.context() as patch:
                patch.setattr(listing, "record", defect)
                with pytest.raises(_Defect):
                    await client.start("lost", "q")
            await client.start("w", "q")
            assert (await polling).workflow_execution.workflow_id == "w"

    run(scenario())


def test_children_that_cannot_be_started_yet_leave_pollers_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second child's id is freed between the look and the lock: both are started a moment later."""

    async def scenario() -> None:
        async with serving() as client:
            await client.start("second", "other")
            await client.start("parent", "parents")
            task = await client.poll_workflow_task("parents")
            look, was_late = Effects._wanted, False

            async def look_too_early(self: Effects, parent: RunKey, effect: Any) -> Any:
                nonlocal was_late
                wanted = await look(self, parent, effect)
                if wanted.replaces and not was_late:
                    was_late = True
                    await client.terminate("second")
                return wanted

            monkeypatch.setattr(Effects, "_wanted", look_too_early)
            polling = asyncio.create_task(client.poll_workflow_task("kids", timeout_s=5))
            await _in_line(client, "kids")
            first = start_child("first", task_queue=queue("kids"))
            second = start_child(
                "second", task_queue=queue("other"), workflow_id_reuse_policy=TERMINATE_IF_RUNNING
            )
            await client.complete_workflow_task(task.task_token, [first, second])
            assert (await polling).workflow_execution.workflow_id == "first"
            assert was_late

    run(scenario())
