"""Listing, counting, describing and deleting workflows through the official Python SDK."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from tests.e2e.python_sdk import SharedServer, eventually, new_worker, on_server, unique
from tests.e2e.sdk_workflows import COLOUR, WEIGHT, CancelledTimer, Collector, Fails

RUNNING = 4
DELETION_TIMEOUT_S = 60.0
"""Deletion happens in the background; the official server takes up to half a minute."""


@dataclass(frozen=True)
class Crowd:
    """Workflows of one test, recognised by their common queue: closed, failed, terminated and running ones."""

    queue: str
    prefix: str

    @property
    def mine(self) -> str:
        """The filter that finds exactly these."""
        return f'TaskQueue = "{self.queue}"'


@asynccontextmanager
async def _crowd(client: Client) -> AsyncIterator[Crowd]:
    """Three completed, two failed, one terminated, four running; yields when all of them can be listed."""
    queue, prefix = unique("crowd"), unique("member")
    async with new_worker(client, workflows=[CancelledTimer, Fails, Collector], task_queue=queue):
        for number in range(3):
            await client.execute_workflow(CancelledTimer.run, id=f"{prefix}-done-{number}", task_queue=queue)
        for number in range(2):
            with pytest.raises(WorkflowFailureError):
                await client.execute_workflow(
                    Fails.run, "Odd", id=f"{prefix}-failed-{number}", task_queue=queue
                )
        for number in range(RUNNING + 1):
            await client.start_workflow(Collector.run, id=f"{prefix}-running-{number}", task_queue=queue)
        await client.get_workflow_handle(f"{prefix}-running-{RUNNING}").terminate()
        crowd = Crowd(queue, prefix)
        await eventually(
            "all listed", lambda: _counted(client, f"{crowd.mine} AND ExecutionStatus != 'Running'", 6)
        )
        await eventually("all listed", lambda: _counted(client, crowd.mine, 10))
        try:
            yield crowd
        finally:
            for number in range(RUNNING):
                await client.get_workflow_handle(f"{prefix}-running-{number}").terminate()


async def _counted(client: Client, query: str, count: int) -> bool:
    return (await client.count_workflows(query)).count == count


async def _ids(client: Client, query: str, page_size: int = 1000) -> list[str]:
    return [each.id async for each in client.list_workflows(query, page_size=page_size)]


@on_server
async def test_list_by_type_status_id_and_time(client: Client) -> None:
    """Each default attribute narrows the list to the right workflows."""
    async with _crowd(client) as crowd:
        now = datetime.now(UTC).isoformat()
        hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        done = {f"{crowd.prefix}-done-{number}" for number in range(3)}
        failed = {f"{crowd.prefix}-failed-{number}" for number in range(2)}
        running = {f"{crowd.prefix}-running-{number}" for number in range(RUNNING)}
        ended = {f"{crowd.prefix}-running-{RUNNING}"}
        expected = {
            "WorkflowType = 'CancelledTimer'": done,
            "WorkflowType IN ('CancelledTimer', 'Fails')": done | failed,
            "ExecutionStatus = 'Running'": running,
            "ExecutionStatus = 'Failed' OR ExecutionStatus = 'Terminated'": failed | ended,
            f"WorkflowId = '{crowd.prefix}-done-1'": {f"{crowd.prefix}-done-1"},
            f"WorkflowId STARTS_WITH '{crowd.prefix}-fail'": failed,
            "CloseTime IS NULL": running,
            "CloseTime IS NOT NULL AND WorkflowType != 'Fails'": done | ended,
            f"StartTime > '{hour_ago}'": done | failed | running | ended,
            f"StartTime BETWEEN '{hour_ago}' AND '{now}' AND ExecutionStatus = 'Completed'": done,
            f"StartTime < '{hour_ago}'": set(),
        }
        found = {query: set(await _ids(client, f"{crowd.mine} AND ({query})")) for query in expected}
        assert found == expected


@on_server
async def test_list_pages_join_without_gap_or_double(client: Client) -> None:
    """Small pages give the same workflows in the same order as one large page: newest first."""
    async with _crowd(client) as crowd:
        whole = await _ids(client, crowd.mine)
        assert len(whole) == len(set(whole)) == 10
        assert await _ids(client, crowd.mine, page_size=3) == whole


@on_server
async def test_count_and_count_by_status(client: Client) -> None:
    """Counts agree with the list, in total and in groups."""
    async with _crowd(client) as crowd:
        assert (await client.count_workflows(f"{crowd.mine} AND WorkflowType = 'Fails'")).count == 2
        grouped = await client.count_workflows(f"{crowd.mine} GROUP BY ExecutionStatus")
        counts = Counter({str(group.group_values[0]): group.count for group in grouped.groups})
        assert counts == {"Completed": 3, "Failed": 2, "Terminated": 1, "Running": RUNNING}


@on_server
async def test_listed_workflow_says_what_it_is(client: Client) -> None:
    """An entry of the list has the type, the queue, the status, the times and the history's length."""
    async with _crowd(client) as crowd:
        query = f"WorkflowId = '{crowd.prefix}-done-0'"
        (entry,) = [each async for each in client.list_workflows(query)]
        description = await client.get_workflow_handle(entry.id).describe()
    assert (entry.workflow_type, entry.task_queue) == ("CancelledTimer", crowd.queue)
    assert entry.status == WorkflowExecutionStatus.COMPLETED
    assert entry.close_time is not None
    assert entry.close_time >= entry.start_time
    assert entry.run_id == description.run_id
    assert entry.history_length == description.history_length > 5


@on_server
async def test_list_by_custom_search_attributes(client: Client) -> None:
    """Attributes registered at the server's start are found by equality and by range."""
    queue = unique("coloured")
    for weight, colour in enumerate(["green", "green", "grey"]):
        attributes = TypedSearchAttributes(
            [SearchAttributePair(COLOUR, colour), SearchAttributePair(WEIGHT, weight)]
        )
        await client.start_workflow(
            Collector.run, id=f"{queue}-{weight}", task_queue=queue, search_attributes=attributes
        )
    mine = f"TaskQueue = '{queue}'"
    await eventually("all listed", lambda: _counted(client, mine, 3))
    assert set(await _ids(client, f"{mine} AND Colour = 'green'")) == {f"{queue}-0", f"{queue}-1"}
    assert set(await _ids(client, f"{mine} AND Weight >= 1")) == {f"{queue}-1", f"{queue}-2"}
    for weight in range(3):
        await client.get_workflow_handle(f"{queue}-{weight}").terminate()


@pytest.mark.parametrize("query", ["WorkflowType =", "NoSuchAttribute = 1", "ExecutionStatus = 'Asleep'"])
def test_bad_filter_is_an_invalid_argument(shared_server: SharedServer, query: str) -> None:
    """A filter that does not parse or names what does not exist is refused with a typed error."""

    async def scenario(client: Client) -> None:
        with pytest.raises(RPCError) as raised:
            await _ids(client, query)
        assert raised.value.status == RPCStatusCode.INVALID_ARGUMENT

    shared_server.run(scenario)


@on_server
async def test_deleted_workflow_is_gone(client: Client) -> None:
    """A deleted workflow is neither described nor listed."""
    queue = unique("deleted")
    handle = await client.start_workflow(Collector.run, id=unique("deleted"), task_queue=queue)
    await handle.terminate()
    mine = f"TaskQueue = '{queue}'"
    await eventually("listed", lambda: _counted(client, mine, 1))
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.result_run_id or ""),
        )
    )

    async def gone() -> bool:
        try:
            await handle.describe()
        except RPCError as error:
            return error.status == RPCStatusCode.NOT_FOUND
        return False

    await eventually("not described", gone, DELETION_TIMEOUT_S)
    await eventually("not listed", lambda: _counted(client, mine, 0))


@on_server
async def test_unknown_workflow_is_not_found(client: Client) -> None:
    """Each verb on a workflow that does not exist answers NOT_FOUND."""
    handle = client.get_workflow_handle(unique("never"))
    for call in (handle.describe(), handle.signal("x"), handle.cancel(), handle.terminate(), handle.result()):
        with pytest.raises(RPCError) as raised:
            await call
        assert raised.value.status == RPCStatusCode.NOT_FOUND


@on_server
async def test_task_queue_names_its_pollers(client: Client) -> None:
    """Describing a task queue shows the identity of the worker that polls it."""
    async with new_worker(client, workflows=[Collector], identity="the-poller") as worker:
        request = DescribeTaskQueueRequest(namespace=client.namespace, task_queue_type=1)  # type: ignore[arg-type]
        request.task_queue.name = worker.task_queue

        async def seen() -> bool:
            answer = await client.workflow_service.describe_task_queue(request)
            return [poller.identity for poller in answer.pollers] == ["the-poller"]

        await eventually("the poller is known", seen)
