"""What goes wrong around the server: a full disk, pollers that vanish, workers that die with a task in their hands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure.api.enums.v1 import EventType
from perdure.api.workflowservice import v1 as workflowservice
from tests.support import builders
from tests.support.rpc import RawClient, RpcError
from tests.support.servers import PerdureServer

QUEUE = "orders"
SMALL_DATABASE_PAGES = 150
_SIGNALED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")


async def _fill(client: RawClient) -> tuple[list[str], RpcError]:
    """Starts workflows until the database refuses; returns those acknowledged and the refusal."""
    acknowledged: list[str] = []
    for number in range(2_000):
        workflow_id = f"order-{number}"
        try:
            await client.start(workflow_id, QUEUE, input=builders.payloads("x" * 4_000))
        except RpcError as error:
            return acknowledged, error
        acknowledged.append(workflow_id)
    pytest.fail("the database never filled up")


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(tmp_path: Path) -> None:
    """A full database answers UNAVAILABLE and says why; nothing acknowledged is lost; with room again it goes on."""

    async def run() -> None:
        db_path = tmp_path / "full.db"
        small = ["--sqlite-pragma", f"max_page_count={SMALL_DATABASE_PAGES}"]
        async with (
            PerdureServer(db_path=db_path, extra_args=small) as server,
            RawClient(server.address) as client,
        ):
            acknowledged, refusal = await _fill(client)
            assert refusal.code == "UNAVAILABLE"
            assert "full" in refusal.message
            assert acknowledged
            for workflow_id in acknowledged:
                assert await client.history(workflow_id)
            with pytest.raises(RpcError, match="UNAVAILABLE"):
                await client.signal(acknowledged[0], "big", input=builders.payloads("x" * 100_000))
            assert len(await client.history(acknowledged[0])) == 2, "a refused signal left a trace"
        async with PerdureServer(db_path=db_path) as server, RawClient(server.address) as client:
            await client.signal(acknowledged[0], "big", input=builders.payloads("x" * 100_000))
            history = await client.history(acknowledged[0])
            assert [event.event_type for event in history].count(_SIGNALED) == 1
            for workflow_id in acknowledged:
                assert await client.history(workflow_id)

    asyncio.run(run())


def test_pollers_that_vanish_take_no_task_with_them() -> None:
    """Tasks go to pollers that are still there: a cancelled poll or a dead connection swallows none."""

    async def run() -> None:
        async with PerdureServer() as server, RawClient(server.address) as client:
            for round_number in range(10):
                gone = RawClient(server.address, identity=f"gone-{round_number}")
                polls = [asyncio.create_task(gone.poll_workflow_task(QUEUE, timeout_s=20)) for _ in range(5)]
                waiting = asyncio.create_task(client.poll_workflow_task(QUEUE, timeout_s=20))
                await _until_polled(client, identities=round_number + 2)
                for poll in polls:
                    poll.cancel()
                await gone.close()
                await client.start(f"order-{round_number}", QUEUE)
                task = await asyncio.wait_for(waiting, 20)
                assert task.workflow_execution.workflow_id == f"order-{round_number}"
                assert task.attempt == 1
                await client.complete_workflow_task(task.task_token, [builders.complete_workflow()])

    asyncio.run(run())


async def _until_polled(client: RawClient, identities: int) -> None:
    """Waits until the server knows this many pollers of the queue."""
    request = workflowservice.DescribeTaskQueueRequest(namespace="default", task_queue=builders.queue(QUEUE))
    async with asyncio.timeout(20):
        while True:
            answer = await client.call(request, workflowservice.DescribeTaskQueueResponse)
            if len(answer.pollers) >= identities:
                return


def test_a_poller_cancelled_at_the_moment_of_the_start_loses_nothing() -> None:
    """Cancelling a poll while its task is being handed over never costs the workflow its task.

    An answer that was on its way when the caller gave up is handed out again after the task's timeout.
    """

    async def run() -> None:
        async with PerdureServer() as server, RawClient(server.address) as client:
            for number in range(14):
                poll = asyncio.create_task(client.poll_workflow_task(QUEUE, timeout_s=20))
                await _until_polled(client, identities=1)
                start = asyncio.create_task(
                    client.start(f"order-{number}", QUEUE, workflow_task_timeout=builders.duration(1))
                )
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                poll.cancel()
                await start
                await asyncio.gather(poll, return_exceptions=True)
                if not poll.cancelled():
                    task = poll.result()
                else:
                    task = await client.poll_workflow_task(QUEUE, timeout_s=20)
                assert task.workflow_execution.workflow_id == f"order-{number}"
                await client.complete_workflow_task(task.task_token, [builders.complete_workflow()])

    asyncio.run(run())
