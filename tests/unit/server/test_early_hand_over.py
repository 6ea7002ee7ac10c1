"""Workflow tasks for workers of the server's own process are handed over while the disk writes; nothing else is.

The store's commits are held until the test lets them go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.message import Message

from perdure.api.services import WORKFLOW_SERVICE, method_path
from perdure.core.errors import NotFoundError, UnavailableError
from perdure.core.run.records import QueueKey, TaskKind
from perdure.server.service.call import Call
from tests.support.builders import complete_workflow, payloads, schedule_activity
from tests.support.proto import enums, workflowservice
from tests.unit.server.local_client import LocalClient
from tests.unit.server.support import run
from tests.unit.server.test_early_release import holding, started, turns


class Inside(LocalClient):
    """A client whose process is the server's."""

    async def invoke(
        self,
        request: Message,
        *,
        timeout_s: float | None = 10.0,
        wait_for_ready: bool = False,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Message:
        """Serves the RPC that the request's type names."""
        path = method_path(WORKFLOW_SERVICE, request.DESCRIPTOR.name.removesuffix("Request"))
        own = type(request).FromString(request.SerializeToString())
        return await self.server.service.call(path, own, Call(timeout_s, dict(metadata), is_local=True))


async def polling(client: LocalClient, kind: TaskKind = TaskKind.WORKFLOW) -> asyncio.Task[Any]:
    """A poll of queue `q` that waits in line."""
    key = QueueKey(client.server.namespaces.get("default").namespace_id, "q", kind)
    poll = client.poll_workflow_task("q") if kind is TaskKind.WORKFLOW else client.poll_activity_task("q")
    (task,) = started(poll)
    while not (queue := client.server.engine.matching._queues.get(key)) or not queue.pollers:
        await asyncio.sleep(0)
    return task


def test_a_start_and_its_first_workflow_task_wait_for_the_disk_together() -> None:
    """The worker's completion is in the store's queue before the start is durable; neither is answered before."""

    async def scenario() -> None:
        async with holding() as (client, store):
            poll = await polling(Inside(client.server))
            (start,) = started(client.start("new", "q"))
            task = await poll
            assert [event.event_id for event in task.history.events] == [1, 2, 3]
            (end,) = started(
                client.complete_workflow_task(task.task_token, [complete_workflow(payloads("done"))])
            )
            await turns()
            assert len(store.held) == 2
            assert not start.done()
            assert not end.done()
            await store.let_go()
            await asyncio.gather(start, end)
            assert (await client.describe("new")).workflow_execution_info.status == 2

    run(scenario())


@pytest.mark.parametrize("kind", [TaskKind.WORKFLOW, TaskKind.ACTIVITY])
def test_what_is_not_handed_over_before_it_is_durable(kind: TaskKind) -> None:
    """A workflow task for a remote worker, whose cache outlives this process; an activity for anybody."""

    async def scenario() -> None:
        async with holding() as (client, store):
            inside = Inside(client.server)
            if kind is TaskKind.WORKFLOW:
                poll = await polling(client)
                (cause,) = started(client.start("new", "q"))
            else:
                store.is_holding = False
                await client.start("new", "q")
                task = await inside.poll_workflow_task("q")
                poll = await polling(inside, TaskKind.ACTIVITY)
                store.is_holding = True
                (cause,) = started(
                    client.complete_workflow_task(task.task_token, [schedule_activity("a", "q")])
                )
            await turns()
            assert len(store.held) == 1
            assert not poll.done()
            await store.let_go()
            await cause
            assert (await poll).task_token

    run(scenario())


def test_a_task_whose_start_was_not_committed_never_was() -> None:
    """The worker's completion is refused as that of a task that is gone, and nothing of the run is left."""

    async def scenario() -> None:
        async with holding() as (client, store):
            poll = await polling(Inside(client.server))
            (start,) = started(client.start("new", "q"))
            task = await poll
            (end,) = started(
                client.complete_workflow_task(task.task_token, [complete_workflow(payloads("done"))])
            )
            await turns()
            await store.let_go(failing=1)
            with pytest.raises(UnavailableError):
                await start
            with pytest.raises(NotFoundError):
                await end
            with pytest.raises(NotFoundError):
                await client.describe("new")

    run(scenario())


@pytest.mark.parametrize("fails", [False, True])
def test_a_task_that_nobody_took_is_given_to_others_once_it_is_durable(fails: bool) -> None:
    """The worker that it was for is gone; the next one may be a remote one."""

    async def scenario() -> None:
        async with holding() as (client, store):
            poll = await polling(Inside(client.server))
            (start,) = started(client.start("new", "q"))
            while not store.held:
                await asyncio.sleep(0)
            poll.cancel()
            await asyncio.gather(poll, return_exceptions=True)
            other = await polling(client)
            await turns()
            assert not other.done()
            await store.let_go(failing=int(fails))
            answers = await asyncio.gather(start, return_exceptions=True)
            assert isinstance(answers[0], UnavailableError) is fails
            if fails:
                await client.start("other", "q")
            named = (await other).workflow_execution.workflow_id
            assert named == ("other" if fails else "new")

    run(scenario())


def test_of_two_starts_of_one_id_only_the_one_that_wins_is_handed_over() -> None:
    """The second start looks again when the first is durable: no worker runs code of a run that never was."""

    async def scenario() -> None:
        async with holding() as (client, store):
            polls = [await polling(Inside(client.server)), await polling(Inside(client.server))]
            starts = started(client.start("new", "q"), client.start("new", "q"))
            await turns()
            assert len(store.held) == 1
            assert [poll.done() for poll in polls].count(True) == 1
            await store.let_go()
            answers = await asyncio.gather(*starts, return_exceptions=True)
            assert sum(isinstance(answer, Exception) for answer in answers) == 1
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)

    run(scenario())


def test_a_query_is_answered_when_what_its_worker_saw_is_durable() -> None:
    """A worker of this process answers from events on their way to the disk; if they are lost, the query fails."""

    async def scenario() -> None:
        async with holding() as (client, store):
            inside = Inside(client.server)
            store.is_holding = False
            await client.start("new", "q")
            task = await inside.poll_workflow_task("q")
            await client.complete_workflow_task(task.task_token, [])
            poll = await polling(inside)
            (asked,) = started(client.query("new", "view"))
            question = await poll
            store.is_holding = True
            (signal,) = started(client.signal("new", "s"))
            await turns()
            assert len(store.held) == 1
            answer = workflowservice.RespondQueryTaskCompletedRequest(
                namespace="default", task_token=question.task_token, query_result=payloads("seen")
            )
            answer.completed_type = enums.QUERY_RESULT_TYPE_ANSWERED
            await inside.invoke(answer)
            await turns()
            assert not asked.done()
            await store.let_go(failing=1)
            with pytest.raises(UnavailableError):
                await asked
            with pytest.raises(UnavailableError):
                await signal

    run(scenario())
