"""What beside workflow tasks goes to workers by version: standalone activities, eager starts, Nexus tasks."""

from __future__ import annotations

import asyncio

import pytest

from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.records import QueueKey, TaskKind
from perdure.core.run.versioning import AUTO_UPGRADE, PINNED, VERSIONED
from tests.support.builders import duration, queue, schedule_activity
from tests.support.proto import common, nexus, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run
from tests.unit.server.test_deployments import (
    QUEUE,
    complete,
    make_current,
    options,
    pinned_to,
    poll,
    polled_in_vain,
    register,
    start,
)


async def _poll_activity(
    client: LocalClient, build_id: str, timeout_s: float = 5.0
) -> workflowservice.PollActivityTaskQueueResponse:
    request = workflowservice.PollActivityTaskQueueRequest(namespace="default", task_queue=queue(QUEUE))
    if build_id:
        request.deployment_options.CopyFrom(options(build_id))
    answer = await client.invoke(request, timeout_s=timeout_s)
    assert isinstance(answer, workflowservice.PollActivityTaskQueueResponse)
    return answer


async def _registered(client: LocalClient, *build_ids: str) -> None:
    await register(client, *build_ids)
    for build_id in build_ids:
        await polled_in_vain(client, build_id, TaskKind.ACTIVITY, _poll_activity(client, build_id))


async def _start_activity(client: LocalClient, activity_id: str) -> None:
    await client.invoke(
        workflowservice.StartActivityExecutionRequest(
            namespace="default",
            activity_id=activity_id,
            activity_type=common.ActivityType(name="pack"),
            task_queue=queue(QUEUE),
            start_to_close_timeout=duration(10),
        )
    )


def test_a_standalone_activity_goes_to_the_current_version_and_on_when_that_changes() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await _registered(client, "1", "2")
            await _start_activity(client, "before")
            assert not (await _poll_activity(client, "1", 2.0)).task_token, "no version is current yet"
            await make_current(client, "1")
            assert (await _poll_activity(client, "1")).activity_id == "before"
            await _start_activity(client, "waits")
            await make_current(client, "2")
            assert (await _poll_activity(client, "2")).activity_id == "waits"

    run(scenario())


async def _with_waiting_activity(client: LocalClient, behavior: int) -> None:
    """Versions 1 and 2; a run of 1, the current one, with an activity that nobody polls for."""
    await _registered(client, "1", "2")
    await make_current(client, "1")
    await start(client, "order")
    task = await poll(client, "1")
    request = workflowservice.RespondWorkflowTaskCompletedRequest(
        namespace="default",
        task_token=task.task_token,
        deployment_options=options("1"),
        versioning_behavior=behavior,  # type: ignore[arg-type]  # an enum number
        commands=[schedule_activity("pack", QUEUE)],
    )
    await client.invoke(request)


def test_an_activity_waits_until_the_code_of_its_run_has_moved_to_the_new_version() -> None:
    """The new version's code may expect its activities to run after it, and the old one's worker may be gone."""

    async def scenario() -> None:
        async with serving() as client:
            await _with_waiting_activity(client, AUTO_UPGRADE)
            await make_current(client, "2")
            polled = asyncio.create_task(_poll_activity(client, "2"))
            moves = await poll(client, "2")
            assert moves.workflow_execution.workflow_id == "order"
            assert not polled.done()
            await complete(client, moves, "2", AUTO_UPGRADE)
            assert (await polled).activity_id == "pack"

    run(scenario())


def test_an_activity_that_waits_goes_with_its_run_where_an_override_pins_it() -> None:
    """Workers of the version that it waited for may be gone: that is what overrides are for."""

    async def scenario() -> None:
        async with serving() as client:
            await _with_waiting_activity(client, PINNED)
            request = workflowservice.UpdateWorkflowExecutionOptionsRequest(
                namespace="default", workflow_execution=common.WorkflowExecution(workflow_id="order")
            )
            request.update_mask.paths.append("versioning_override")
            request.workflow_execution_options.versioning_override.CopyFrom(pinned_to("2"))
            await client.invoke(request)
            assert (await _poll_activity(client, "2")).activity_id == "pack"

    run(scenario())


def test_a_behavior_without_a_version_is_refused() -> None:
    """And the task can still be completed."""

    async def scenario() -> None:
        async with serving() as client:
            await start(client, "order")
            task = await poll(client, "")
            request = workflowservice.RespondWorkflowTaskCompletedRequest(
                namespace="default",
                task_token=task.task_token,
                versioning_behavior=PINNED,
            )
            with pytest.raises(InvalidArgumentError, match="versioning behavior cannot be specified"):
                await client.invoke(request)
            request.ClearField("versioning_behavior")
            await client.invoke(request)

    run(scenario())


async def _start_eagerly(
    client: LocalClient, workflow_id: str, worker: WorkerDeploymentOptions | None
) -> bool:
    request = workflowservice.StartWorkflowExecutionRequest(
        namespace="default",
        workflow_id=workflow_id,
        workflow_type=common.WorkflowType(name="order"),
        task_queue=queue(QUEUE),
        request_eager_execution=True,
    )
    if worker is not None:
        request.eager_worker_deployment_options.CopyFrom(worker)
    answer = await client.call(request, workflowservice.StartWorkflowExecutionResponse)
    return answer.HasField("eager_workflow_task")


def test_a_start_is_eager_only_for_workers_of_the_version_that_it_goes_to() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await register(client, "1", "2")
            assert await _start_eagerly(client, "none is current", None)
            await make_current(client, "1")
            assert not await _start_eagerly(client, "of none", None)
            assert not await _start_eagerly(client, "of another", options("2"))
            unversioned = WorkerDeploymentOptions(deployment_name="shop", build_id="1")
            assert unversioned.worker_versioning_mode != VERSIONED
            assert not await _start_eagerly(client, "not versioned", unversioned)
            assert await _start_eagerly(client, "of this one", options("1"))
            found = {(await poll(client, "1")).workflow_execution.workflow_id for _ in range(3)}
            assert found == {"of none", "of another", "not versioned"}

    run(scenario())


def test_a_nexus_task_goes_to_the_current_version_also_when_that_changes_while_it_waits() -> None:
    async def scenario() -> None:
        async with serving() as client:

            def polled(build_id: str) -> asyncio.Task[workflowservice.PollNexusTaskQueueResponse]:
                request = workflowservice.PollNexusTaskQueueRequest(
                    namespace="default", task_queue=queue(QUEUE)
                )
                request.deployment_options.CopyFrom(options(build_id))
                return asyncio.create_task(client.call(request, workflowservice.PollNexusTaskQueueResponse))

            first, second = polled("1"), polled("2")
            namespace_id = client.server.namespaces.get("default").namespace_id
            while len(client.server.deployments.routes(namespace_id).members) < 2:
                await asyncio.sleep(0)
            await make_current(client, "1")
            key = QueueKey(namespace_id, QUEUE, TaskKind.NEXUS)
            asking = asyncio.create_task(client.server.nexus.tasks.ask(key, nexus.Request(), 5.0))
            assert (await first).task_token
            assert not second.done()
            waits = asyncio.create_task(client.server.nexus.tasks.ask(key, nexus.Request(), 5.0))
            await asyncio.sleep(0)
            assert not second.done()
            await make_current(client, "2")
            assert (await second).task_token
            asking.cancel()
            waits.cancel()

    run(scenario())
