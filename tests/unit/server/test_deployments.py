"""Worker deployments on a whole server: who gets which task, overrides, drainage, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from perdure.api.common.v1 import WorkflowExecution, WorkflowType
from perdure.api.deployment.v1 import WorkerDeploymentOptions, WorkerDeploymentVersion
from perdure.api.enums.v1 import ResourceExhaustedCause
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflow.v1 import VersioningOverride, WorkflowExecutionVersioningInfo
from perdure.api.workflowservice.v1 import (
    CreateWorkerDeploymentVersionRequest,
    DeleteWorkerDeploymentVersionRequest,
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    DescribeWorkflowExecutionRequest,
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    RespondWorkflowTaskCompletedRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
)
from perdure.core.deployment import changes
from perdure.core.deployment.routes import version_text
from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from perdure.core.run.records import TaskKind
from perdure.core.run.versioning import AUTO_UPGRADE, PINNED, VERSIONED
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

NAME, QUEUE = "shop", "orders"


def options(build_id: str) -> WorkerDeploymentOptions:
    """What a worker of a version says of itself."""
    return WorkerDeploymentOptions(deployment_name=NAME, build_id=build_id, worker_versioning_mode=VERSIONED)


async def poll(client: LocalClient, build_id: str, timeout_s: float = 5.0) -> PollWorkflowTaskQueueResponse:
    """One poll of a version's worker ("" for one without); empty when nothing came in time."""
    request = PollWorkflowTaskQueueRequest(
        namespace="default", task_queue=TaskQueue(name=QUEUE), identity=f"worker {build_id}"
    )
    if build_id:
        request.deployment_options.CopyFrom(options(build_id))
    answer = await client.invoke(request, timeout_s=timeout_s)
    assert isinstance(answer, PollWorkflowTaskQueueResponse)
    return answer


async def register(client: LocalClient, *build_ids: str) -> None:
    """Workers of these versions poll in vain."""
    for build_id in build_ids:
        await polled_in_vain(client, build_id, TaskKind.WORKFLOW, poll(client, build_id))


async def polled_in_vain(
    client: LocalClient, build_id: str, kind: TaskKind, polling: Coroutine[Any, Any, object]
) -> None:
    """Gives a poll up once the version has its queue."""
    namespace_id = client.server.namespaces.get("default").namespace_id
    task = asyncio.create_task(polling)
    while not client.server.deployments.routes(namespace_id).has(version_text(NAME, build_id), QUEUE, kind):
        assert not task.done(), task
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def make_current(client: LocalClient, build_id: str) -> None:
    """Sends new work to a version."""
    await client.invoke(
        SetWorkerDeploymentCurrentVersionRequest(
            namespace="default", deployment_name=NAME, build_id=build_id, identity="operator"
        )
    )


async def start(client: LocalClient, workflow_id: str, override: VersioningOverride | None = None) -> None:
    """Starts a workflow."""
    request = StartWorkflowExecutionRequest(
        namespace="default",
        workflow_id=workflow_id,
        workflow_type=WorkflowType(name="order"),
        task_queue=TaskQueue(name=QUEUE),
    )
    if override is not None:
        request.versioning_override.CopyFrom(override)
    await client.invoke(request)


async def complete(
    client: LocalClient, task: PollWorkflowTaskQueueResponse, build_id: str, behavior: int
) -> None:
    """Completes a task without a command, as a worker of the version."""
    await client.invoke(
        RespondWorkflowTaskCompletedRequest(
            namespace="default",
            task_token=task.task_token,
            deployment_options=options(build_id),
            versioning_behavior=behavior,  # type: ignore[arg-type]  # an enum number
        )
    )


async def signal(client: LocalClient, workflow_id: str) -> None:
    """Makes a workflow task."""
    await client.invoke(
        SignalWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            signal_name="go on",
        )
    )


async def versioning_of(client: LocalClient, workflow_id: str) -> WorkflowExecutionVersioningInfo:
    """What a description says of a run's versions."""
    described = await client.invoke(
        DescribeWorkflowExecutionRequest(
            namespace="default", execution=WorkflowExecution(workflow_id=workflow_id)
        )
    )
    return described.workflow_execution_info.versioning_info  # type: ignore[attr-defined, no-any-return]


async def status_of(client: LocalClient, build_id: str) -> str:
    """A version's status, in one word."""
    described = await client.invoke(
        DescribeWorkerDeploymentRequest(namespace="default", deployment_name=NAME)
    )
    for summary in described.worker_deployment_info.version_summaries:  # type: ignore[attr-defined]
        if summary.deployment_version.build_id == build_id:
            field = summary.DESCRIPTOR.fields_by_name["status"]
            name: str = field.enum_type.values_by_number[summary.status].name
            return name.rsplit("_", 1)[-1]
    raise AssertionError(build_id)


def pinned_to(build_id: str) -> VersioningOverride:
    """An override that pins."""
    override = VersioningOverride()
    override.pinned.behavior = "PINNED_OVERRIDE_BEHAVIOR_PINNED"  # type: ignore[assignment]  # by name
    override.pinned.version.CopyFrom(WorkerDeploymentVersion(deployment_name=NAME, build_id=build_id))
    return override


def test_a_pinned_run_stays_and_another_one_goes_to_the_new_version() -> None:
    """The point of deployments."""

    async def scenario() -> None:
        async with serving() as client:
            await register(client, "1", "2")
            await make_current(client, "1")
            for workflow_id, behavior in (("pinned", PINNED), ("follows", AUTO_UPGRADE)):
                await start(client, workflow_id)
                await complete(client, await poll(client, "1"), "1", behavior)
            await make_current(client, "2")
            await signal(client, "pinned")
            await signal(client, "follows")
            moved, stayed = await poll(client, "2"), await poll(client, "1")
            assert (moved.workflow_execution.workflow_id, stayed.workflow_execution.workflow_id) == (
                "follows",
                "pinned",
            )
            assert (await versioning_of(client, "follows")).HasField("version_transition")
            await complete(client, moved, "2", AUTO_UPGRADE)
            after = await versioning_of(client, "follows")
            assert not after.HasField("version_transition")
            assert after.deployment_version.build_id == "2"

    run(scenario())


def test_what_waits_goes_to_the_version_that_becomes_current() -> None:
    """Tasks in the queue are sent on, whether they waited for workers without version or of another one."""

    async def scenario() -> None:
        async with serving() as client:
            await start(client, "waits")
            await register(client, "1", "2")
            with pytest.raises(NotFoundError):
                await make_current(client, "3")
            task = await poll(client, "")  # no version is current: workers without one get it
            assert task.workflow_execution.workflow_id == "waits"
            await start(client, "waits too")
            await make_current(client, "1")
            await make_current(client, "2")
            assert (await poll(client, "2")).workflow_execution.workflow_id == "waits too"

    run(scenario())


def test_a_version_drains_while_open_runs_are_pinned_to_it() -> None:
    """Drainage is what it is when asked."""

    async def scenario() -> None:
        async with serving() as client:
            await register(client, "1", "2")
            assert await status_of(client, "1") == "INACTIVE"
            await make_current(client, "1")
            await start(client, "pinned")
            await complete(client, await poll(client, "1"), "1", PINNED)
            await make_current(client, "2")
            assert (await status_of(client, "1"), await status_of(client, "2")) == ("DRAINING", "CURRENT")
            deletion = DeleteWorkerDeploymentVersionRequest(namespace="default")
            deletion.deployment_version.CopyFrom(WorkerDeploymentVersion(deployment_name=NAME, build_id="1"))
            with pytest.raises(FailedPreconditionError, match="is draining"):
                await client.invoke(deletion)
            await client.invoke(
                TerminateWorkflowExecutionRequest(
                    namespace="default", workflow_execution=WorkflowExecution(workflow_id="pinned")
                )
            )
            assert await status_of(client, "1") == "DRAINED"
            with pytest.raises(FailedPreconditionError, match="active pollers"):
                await client.invoke(deletion)

    run(scenario())


def test_an_override_at_start_pins_a_run_to_a_version_that_is_not_current() -> None:
    """And one that names a version without workers for the queue is refused."""

    async def scenario() -> None:
        async with serving() as client:
            await register(client, "1", "2")
            await make_current(client, "2")
            await start(client, "old", pinned_to("1"))
            assert (await poll(client, "1")).workflow_execution.workflow_id == "old"
            with pytest.raises(FailedPreconditionError, match="is not present in task queue"):
                await start(client, "none", pinned_to("9"))

    run(scenario())


def test_a_version_that_runs_were_pinned_to_by_hand_drains() -> None:
    """Also if it never was current: deleting it would leave a run that nobody works on."""

    async def scenario() -> None:
        async with serving() as client:
            await register(client, "1", "2")
            await make_current(client, "2")
            await start(client, "old", pinned_to("1"))
            assert await status_of(client, "1") == "DRAINING"
            deletion = DeleteWorkerDeploymentVersionRequest(namespace="default")
            deletion.deployment_version.CopyFrom(WorkerDeploymentVersion(deployment_name=NAME, build_id="1"))
            with pytest.raises(FailedPreconditionError, match="is draining"):
                await client.invoke(deletion)

    run(scenario())


def test_a_new_version_takes_the_place_of_the_oldest_that_nothing_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who deploys every day reaches the limit; it is refused only if every version is in use."""
    monkeypatch.setattr(changes, "MAX_VERSIONS", 3)

    async def scenario() -> None:
        async with serving() as client:
            namespace_id = client.server.namespaces.get("default").namespace_id
            await register(client, "1", "2", "3")
            await make_current(client, "1")
            await start(client, "of 2", pinned_to("2"))
            await start(client, "of 3", pinned_to("3"))
            request = CreateWorkerDeploymentVersionRequest(namespace="default", identity="operator")
            request.deployment_version.CopyFrom(WorkerDeploymentVersion(deployment_name=NAME, build_id="4"))
            with pytest.raises(ResourceExhaustedError, match="maximum number of versions") as refused:
                await client.invoke(request)
            assert refused.value.cause == ResourceExhaustedCause.Value(
                "RESOURCE_EXHAUSTED_CAUSE_WORKER_DEPLOYMENT_LIMITS"
            )
            await client.invoke(
                TerminateWorkflowExecutionRequest(
                    namespace="default", workflow_execution=WorkflowExecution(workflow_id="of 3")
                )
            )
            await client.invoke(request)
            assert sorted(client.server.deployments.get(namespace_id, NAME).versions) == ["1", "2", "4"]
            await register(client, "5")  # a poll finds a place, too: that of 4
            assert sorted(client.server.deployments.get(namespace_id, NAME).versions) == ["1", "2", "5"]

    run(scenario())


def test_a_deployment_is_described_while_one_of_its_versions_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of each version are counted in the store; what goes meanwhile is shown as it was."""

    async def scenario() -> None:
        async with serving() as client:
            namespace_id = client.server.namespaces.get("default").namespace_id
            await register(client, "1", "2")
            store = client.server.engine.store
            count = store.count_runs

            async def counting(*arguments: Any) -> Any:
                await client.server.deployments.change(
                    namespace_id, NAME, lambda state: changes.without_version(NAME, state, "2", identity=None)
                )
                return await count(*arguments)

            monkeypatch.setattr(store, "count_runs", counting)
            request = DescribeWorkerDeploymentRequest(namespace="default", deployment_name=NAME)
            answer = await client.invoke(request)
            assert isinstance(answer, DescribeWorkerDeploymentResponse)
            shown = answer.worker_deployment_info.version_summaries
            assert [row.deployment_version.build_id for row in shown] == ["2", "1"]
            assert list(client.server.deployments.get(namespace_id, NAME).versions) == ["1"]

    run(scenario())


def test_a_text_without_build_id_does_not_mean_workers_without_version() -> None:
    """A slip must not take the routing away from every version."""

    async def scenario() -> None:
        async with serving() as client:
            namespace_id = client.server.namespaces.get("default").namespace_id
            await register(client, "1")
            await make_current(client, "1")
            for text in (f"{NAME}.", f"{NAME}:", ".1", f":{NAME}.1"):
                request = SetWorkerDeploymentCurrentVersionRequest(
                    namespace="default", deployment_name=NAME, version=text, identity="operator"
                )
                with pytest.raises(InvalidArgumentError, match="is empty in version string"):
                    await client.invoke(request)
            assert client.server.deployments.get(namespace_id, NAME).current == "1"

    run(scenario())


def test_the_routing_and_what_waits_are_there_after_a_restart() -> None:
    """Routing is one durable row; tasks that were not sent on before the end are sent on after it."""

    async def scenario() -> None:
        store, config = MemoryStore(), ServerConfig(port=0)
        first = Server(store, config, SystemRuntime(), "memory")
        await first.start()
        client = LocalClient(first)
        await register(client, "1")
        await start(client, "waits")
        first.deployments.on_routes = lambda namespace_id, changed: (
            None
        )  # the process ends before it gets to it
        await make_current(client, "1")
        await first.stop(0)
        second = Server(store, config, SystemRuntime(), "memory")
        await second.start()
        try:
            assert (await poll(LocalClient(second), "1")).workflow_execution.workflow_id == "waits"
        finally:
            await second.stop(0)

    run(scenario())
