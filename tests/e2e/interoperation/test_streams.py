"""Workflow streams: our workflow with official publishers and readers, and the official workflow with ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import temporalio.worker

import perdure.client
import perdure.worker
from tests.e2e.interoperation import streams
from tests.e2e.interoperation.twins import official_streams
from tests.e2e.python_sdk import SharedServer, unique

RUNS = 2
COUNT = RUNS * (1 + streams.ITEMS_OF_ACTIVITY)


def _worker(sdk: str, client: Any, queue: str) -> Any:
    if sdk == "perdure":
        return perdure.worker.Worker(
            client, task_queue=queue, workflows=[streams.Streaming], activities=[streams.publish_steps]
        )
    return temporalio.worker.Worker(
        client,
        task_queue=queue,
        workflows=[official_streams.Streaming],
        activities=[official_streams.publish_steps],
        workflow_runner=temporalio.worker.UnsandboxedWorkflowRunner(),
    )


async def _scenario(worker_sdk: str, ours: Any, theirs: Any) -> str:
    """Returns the history of the last run."""
    host, guest = (ours, theirs) if worker_sdk == "perdure" else (theirs, ours)
    guest_streams = official_streams if worker_sdk == "perdure" else streams
    queue, stream = unique("queue"), unique("stream")
    async with _worker(worker_sdk, host, queue):
        handle = await guest_streams.start(guest, queue, stream, RUNS)
        begun = asyncio.Event()
        whole = asyncio.create_task(guest_streams.read_all(guest, stream, begun))
        # Over both runs, while the other reader waits for everything.
        read = await guest_streams.read(guest, stream, ["steps", "raw"], COUNT)
        expected: list[Any] = []
        for run in range(RUNS, 0, -1):
            expected += [("raw", b"\x00begin")]
            steps = [{"name": f"Schritt «{run}»", "number": n} for n in range(streams.ITEMS_OF_ACTIVITY)]
            expected += [("steps", step) for step in steps]
        assert [(topic, data) for topic, _, data in read] == expected
        assert [offset for _, offset, _ in read] == list(range(COUNT))

        await guest_streams.greet(guest, stream)
        assert await guest_streams.read(guest, stream, ["guests"], 1) == [
            ("guests", COUNT, {"from": "outside"})
        ]
        await guest.get_workflow_handle(stream).signal("end")
        assert await handle.result() == "over"
        values = await whole
        assert values[: len(expected)] == [data for _, data in expected]
        history = await host.get_workflow_handle(stream).fetch_history()
        return str(history.to_json())


@pytest.mark.parametrize("worker_sdk", ["perdure", "official"])
def test_a_stream_of_one_sdk_is_published_to_and_read_by_the_other(
    shared_server: SharedServer, worker_sdk: str
) -> None:
    """Over a continue-as-new, to the end of the workflow; the history replays with the other SDK's workflow as well."""

    async def scenario(theirs: Any) -> None:
        async with await perdure.client.Client.connect(shared_server.server.address) as ours:
            history = await _scenario(worker_sdk, ours, theirs)
        await perdure.worker.Replayer(workflows=[streams.Streaming]).replay_workflow(
            perdure.client.WorkflowHistory.from_json("w", history)
        )
        await temporalio.worker.Replayer(
            workflows=[official_streams.Streaming],
            workflow_runner=temporalio.worker.UnsandboxedWorkflowRunner(),
        ).replay_workflow(temporalio.client.WorkflowHistory.from_json("w", history))

    shared_server.run(scenario)
