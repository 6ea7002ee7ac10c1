"""The process that holds an embedded engine is killed: nothing that it acknowledged is lost, the next one goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perdure.api.enums.v1 import WorkflowExecutionStatus
from tests.support.builders import complete_workflow
from tests.support.embedded import TransportClient
from tests.unit.server.support import run

QUEUE = "crash-queue"
LINES_PER_LIFE = 150
LIVES = 4
REPOSITORY = Path(__file__).parents[3]
COMPLETED = WorkflowExecutionStatus.Value("WORKFLOW_EXECUTION_STATUS_COMPLETED")


def _live_and_die(address: str, incarnation: int) -> list[str]:
    """Runs a process until it has acknowledged enough, kills it, and returns what it had said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.testing.embedding_process", address, str(incarnation)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(LINES_PER_LIFE)]
    finally:
        process.kill()
        rest = process.stdout.read()
        process.wait()
    # The last line may be cut off: only what was said completely counts.
    said = "".join(lines) + rest
    return [line for line in said.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.serial
@pytest.mark.parametrize("option", ["", "?engine=process"])
def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path, option: str) -> None:
    """Every start and every completion that was answered is there; what was not finished is, by the next process.

    An engine in a process of its own ends with the one that is killed: the next one gets the file.
    """
    address = f"sqlite:///{tmp_path}/orders.db{option}"
    said = [line.split() for life in range(LIVES) for line in _live_and_die(address, life)]
    started = {words[1] for words in said if words[0] == "started"}
    finished = {words[1] for words in said if words[0] == "finished"}
    assert sum(words == ["ready"] for words in said) == LIVES
    assert len(started) > LIVES
    assert len(finished) > LIVES

    async def check() -> None:
        client = await TransportClient.connect(address)
        for workflow_id in finished:
            described = await client.describe(workflow_id)
            assert described.workflow_execution_info.status == COMPLETED, workflow_id
        left = {
            workflow_id
            for workflow_id in started - finished
            if (await client.describe(workflow_id)).workflow_execution_info.status != COMPLETED
        }
        while left:
            # Those that a killed worker had started come again when their task times out; after one second.
            task = await client.poll_workflow_task(QUEUE, timeout_s=15)
            assert task.task_token, left
            await client.complete_workflow_task(task.task_token, [complete_workflow()])
            left.discard(task.workflow_execution.workflow_id)
        for workflow_id in started:
            closing = (await client.history(workflow_id))[-1]
            assert closing.HasField("workflow_execution_completed_event_attributes"), workflow_id
        await client.close()

    run(check())
