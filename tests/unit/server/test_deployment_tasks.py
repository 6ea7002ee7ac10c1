"""What beside workflow tasks goes to workers by version: standalone activities, eager starts, Nexus tasks."""

from __future__ import annotations

import asyncio

from perdure.api.deployment.v1 import WorkerDeploymentOptions
from perdure.core.run.records import QueueKey, TaskKind
from perdure.core.run.versioning import VERSIONED
from tests.support.builders import duration, queue
from tests.support.proto import common, nexus, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run
from tests.unit.server.test_deployments import QUEUE, make_current, options, poll, polled_in_vain, register


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
