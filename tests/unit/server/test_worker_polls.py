"""What workers get from polls beside the plain case: refusals of versioned workers, bounded first pages of history."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.core.errors import InvalidArgumentError, UnavailableError, UnimplementedError
from perdure.server.config import ServerConfig
from perdure.server.service.task_responses import TaskResponses
from tests.support.builders import payloads, queue, record_marker, schedule_activity
from tests.support.proto import common, enums, history, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

Mode = enums.WorkerVersioningMode
KILOBYTE = 1024
PAGE_BYTES = 2 * 1024 * KILOBYTE


def options(mode: Mode.ValueType) -> WorkerDeploymentOptions:
    """What a worker says of its deployment."""
    return WorkerDeploymentOptions(deployment_name="d", build_id="b", worker_versioning_mode=mode)


VERSIONED = options(Mode.WORKER_VERSIONING_MODE_VERSIONED)
UNVERSIONED = options(Mode.WORKER_VERSIONING_MODE_UNVERSIONED)


def test_a_worker_that_relies_on_version_sets_is_told_that_there_are_none() -> None:
    """They came before deployments."""

    async def scenario() -> None:
        fields: dict[str, Any] = {
            "worker_version_capabilities": common.WorkerVersionCapabilities(build_id="b", use_versioning=True)
        }
        async with serving() as client:
            with pytest.raises(UnimplementedError, match="use worker deployments"):
                await client.poll_workflow_task("q", **fields)
            with pytest.raises(UnimplementedError, match="use worker deployments"):
                await client.poll_activity_task("q", **fields)

    run(scenario())


def test_a_deployment_without_versioning_is_served() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", "q")
            task = await client.poll_workflow_task("q", deployment_options=UNVERSIONED)
            await client.complete_workflow_task(task.task_token, deployment_options=UNVERSIONED)
            completed = (await client.history("w"))[-1].workflow_task_completed_event_attributes
            assert completed.worker_deployment_name == "d"

    run(scenario())


# --- first pages ---


async def grown(client: LocalClient, rounds: int, marker_bytes: int) -> None:
    """A run `w` with this many completed workflow tasks, each with a marker of this size; another task waits."""
    await client.start("w", "q")
    task = await client.poll_workflow_task("q")
    token = task.task_token
    for _ in range(rounds):
        answer = await client.complete_workflow_task(
            token,
            [record_marker("m", {"m": payloads("x" * marker_bytes)})],
            force_create_new_workflow_task=True,
            return_new_workflow_task=True,
        )
        token = answer.workflow_task.task_token
    await client.complete_workflow_task(token)
    await client.signal("w")


async def remaining(
    client: LocalClient, task: workflowservice.PollWorkflowTaskQueueResponse
) -> tuple[list[history.HistoryEvent], int]:
    """What follows a task's first page, and in how many pages."""
    events: list[history.HistoryEvent] = []
    token, pages = task.next_page_token, 0
    while token:
        page = await client.history_page("w", run_id=task.workflow_execution.run_id, next_page_token=token)
        events.extend(page.history.events)
        token, pages = page.next_page_token, pages + 1
    return events, pages


@pytest.mark.parametrize("is_transient", [False, True])
def test_a_large_history_comes_in_pages_of_bounded_size(is_transient: bool) -> None:
    """Together they are the whole history up to the task's own Started event, whether or not it is written."""

    async def scenario() -> None:
        async with serving() as client:
            await grown(client, rounds=12, marker_bytes=400 * KILOBYTE)
            if is_transient:
                failing = await client.poll_workflow_task("q")
                cause = enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNSPECIFIED
                await client.fail_workflow_task(failing.task_token, cause)
            task = await client.poll_workflow_task("q")
            assert task.ByteSize() < PAGE_BYTES + 500 * KILOBYTE
            rest, pages = await remaining(client, task)
            assert pages == 2
            whole = [*task.history.events, *rest]
            assert [event.event_id for event in whole] == list(range(1, len(whole) + 1))
            assert whole[-1].event_id == task.started_event_id
            assert whole[-1].event_type == enums.EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
            assert task.attempt == (2 if is_transient else 1)

    run(scenario())


def test_a_long_history_comes_in_pages_of_so_many_batches() -> None:
    async def scenario() -> None:
        async with serving(ServerConfig(port=0, history_page_batches=5)) as client:
            await grown(client, rounds=20, marker_bytes=1)
            task = await client.poll_workflow_task("q")
            rest, pages = await remaining(client, task)
            assert pages >= 4
            assert len(task.history.events) < 25
            assert [event.event_id for event in rest][-1] == task.started_event_id

    run(scenario())


def test_a_worker_that_has_the_run_cached_gets_only_what_is_new() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", "q")
            task = await client.poll_workflow_task("q")
            attributes = workflowservice.RespondWorkflowTaskCompletedRequest().sticky_attributes
            attributes.worker_task_queue.CopyFrom(queue("sticky"))
            await client.complete_workflow_task(task.task_token, sticky_attributes=attributes)
            await client.poll_workflow_task("sticky", timeout_s=2.1)
            await client.signal("w")
            task = await client.poll_workflow_task("sticky")
            assert [event.event_id for event in task.history.events] == [4, 5, 6, 7]
            assert not task.next_page_token

    run(scenario())


def test_resetting_stickiness_sends_the_next_task_to_the_normal_queue_with_the_whole_history() -> None:
    """Without a run id, the workflow id's newest run is meant."""

    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", "q")
            task = await client.poll_workflow_task("q")
            attributes = workflowservice.RespondWorkflowTaskCompletedRequest().sticky_attributes
            attributes.worker_task_queue.CopyFrom(queue("sticky"))
            await client.complete_workflow_task(task.task_token, sticky_attributes=attributes)
            request = workflowservice.ResetStickyTaskQueueRequest(namespace="default")
            request.execution.workflow_id = "w"
            await client.invoke(request)
            await client.signal("w")
            task = await client.poll_workflow_task("q")
            assert [event.event_id for event in task.history.events] == [1, 2, 3, 4, 5, 6, 7]

    run(scenario())


def test_a_task_whose_history_cannot_be_read_now_goes_to_the_next_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workflow tasks, activities and eager activities: what was started must not wait for its timeout."""

    async def unable(*_: object) -> None:
        raise UnavailableError("the database cannot be read now")

    async def scenario() -> None:
        async with serving() as client:
            with monkeypatch.context() as patch:
                patch.setattr(TaskResponses, "workflow_task", unable)
                started = await client.start("w", "q", request_eager_execution=True)
            assert not started.HasField("eager_workflow_task")
            with monkeypatch.context() as patch:
                patch.setattr(TaskResponses, "workflow_task_queue", unable)
                with pytest.raises(UnavailableError):
                    await client.poll_workflow_task("q")
            task = await client.poll_workflow_task("q", timeout_s=4)
            eager = schedule_activity("eager", "q", eager=True)
            with monkeypatch.context() as patch:
                patch.setattr(TaskResponses, "activity_task", unable)
                with pytest.raises(UnavailableError):
                    await client.complete_workflow_task(
                        task.task_token, [eager, schedule_activity("a", "acts")]
                    )
                with pytest.raises(UnavailableError):
                    await client.poll_activity_task("acts")
            for name, activity_id in (("acts", "a"), ("q", "eager")):
                assert (await client.poll_activity_task(name, timeout_s=4)).activity_id == activity_id

    run(scenario())


def test_an_answer_that_names_no_namespace_is_of_its_tokens() -> None:
    """As on the official server; without both it is told that the token is missing."""

    async def scenario() -> None:
        async with serving() as client:
            await client.start("w", "q")
            task = await client.poll_workflow_task("q")
            request = workflowservice.RespondWorkflowTaskCompletedRequest(task_token=task.task_token)
            await client.call(request, workflowservice.RespondWorkflowTaskCompletedResponse)
            for token, message in (
                (b"", "Task token not set"),
                (b"x" * 40, "Error deserializing task token"),
            ):
                request.task_token = token
                with pytest.raises(InvalidArgumentError, match=message):
                    await client.call(request, workflowservice.RespondWorkflowTaskCompletedResponse)

    run(scenario())


def test_a_poll_that_reads_the_store_when_its_sticky_queue_is_forgotten_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody would wake it: tasks that come are offered to the queue that is made anew."""

    async def scenario() -> None:
        async with serving() as client:
            store, matching = client.server.engine.store, client.server.engine.matching
            reads, may_read = store.read_tasks, asyncio.Event()
            has_come = asyncio.Event()

            async def slow(*args: Any) -> Any:
                has_come.set()
                await may_read.wait()
                return await reads(*args)

            monkeypatch.setattr(store, "read_tasks", slow)
            poll = asyncio.ensure_future(client.poll_workflow_task("sticky"))
            await has_come.wait()
            await client.invoke(
                workflowservice.ShutdownWorkerRequest(namespace="default", sticky_task_queue="sticky")
            )
            may_read.set()
            assert not (await asyncio.wait_for(poll, 5)).task_token
            assert not matching._queues

    run(scenario())
