"""Worker versions as text, as older clients name them: which delimiter counts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from perdure.api.common.v1 import Payload
from perdure.api.deployment.v1 import WorkerDeploymentVersion
from perdure.api.workflow.v1 import VersioningOverride
from tests.differential.context import Context
from tests.differential.registry import scenario
from tests.differential.scenarios.deployments import PINNED
from tests.support.proto import workflowservice as service

_BUILDS = ("b", "b.c", "b:c")


async def _with_versions(ctx: Context) -> str:
    """A deployment with versions made by hand. Returns its name."""
    name = ctx.id("shop")
    await ctx.client.invoke(
        service.CreateWorkerDeploymentRequest(
            namespace="default", deployment_name=name, identity="operator", request_id=ctx.id("request")
        )
    )
    for build_id in _BUILDS:
        version = WorkerDeploymentVersion(deployment_name=name, build_id=build_id)
        await ctx.client.invoke(
            service.CreateWorkerDeploymentVersionRequest(
                namespace="default", deployment_version=version, identity="operator", request_id=build_id
            )
        )
    return name


def _texts(name: str) -> dict[str, str]:
    return {
        "dot": f"{name}.b",
        "two dots": f"{name}.b.c",
        "dot and colon": f"{name}.b:c",
        "colon and dot": f"{name}:b.c",
        "colon": f"{name}:b",
        "no build id": f"{name}.",
        "no name": ".b",
        "no delimiter": name,
        "another name": "another.b",
        "another name with a colon": "another:b.c",
        "unversioned": "__unversioned__",
        "nothing": "",
    }


_VERSIONS = ("dot", "two dots", "dot and colon", "colon and dot")
"""What is a version of the deployment."""
_BY_HISTORY = ["conflict_token", "previous_version", "previous_percentage", "previous_deployment_version"]
"""In answers: the official server repeats a change that it has to wait for, and then tells of the first."""


async def _attempt_each(
    ctx: Context, name: str, request: Callable[[str], Message], only: Sequence[str] = ()
) -> None:
    for label, text in _texts(name).items():
        if not only or label in only:
            await ctx.attempt(label, request(text), drop=_BY_HISTORY)


@scenario
async def deployment_text_made_current(ctx: Context) -> None:
    """A version that is to be current, as text."""
    name = await _with_versions(ctx)
    await _attempt_each(
        ctx,
        name,
        lambda text: service.SetWorkerDeploymentCurrentVersionRequest(
            namespace="default",
            deployment_name=name,
            version=text,
            identity="operator",
            ignore_missing_task_queues=True,
        ),
    )


@scenario
async def deployment_text_ramped(ctx: Context) -> None:
    """A version that is to ramp, as text."""
    name = await _with_versions(ctx)
    await _attempt_each(
        ctx,
        name,
        lambda text: service.SetWorkerDeploymentRampingVersionRequest(
            namespace="default",
            deployment_name=name,
            version=text,
            percentage=10,
            identity="operator",
            ignore_missing_task_queues=True,
        ),
    )


@scenario
async def deployment_text_described(ctx: Context) -> None:
    """A version that is looked at, as text."""
    name = await _with_versions(ctx)
    await _attempt_each(
        ctx,
        name,
        lambda text: service.DescribeWorkerDeploymentVersionRequest(namespace="default", version=text),
    )


@scenario
async def deployment_text_annotated(ctx: Context) -> None:
    """A version that gets metadata, as text."""
    name = await _with_versions(ctx)
    await _attempt_each(
        ctx,
        name,
        lambda text: service.UpdateWorkerDeploymentVersionMetadataRequest(
            namespace="default",
            version=text,
            upsert_entries={"key": Payload(data=b"1")},
            identity="operator",
        ),
        only=_VERSIONS,
    )


@scenario
async def deployment_text_deleted(ctx: Context) -> None:
    """A version that is removed, as text."""
    name = await _with_versions(ctx)
    await _attempt_each(
        ctx,
        name,
        lambda text: service.DeleteWorkerDeploymentVersionRequest(
            namespace="default", version=text, identity="operator"
        ),
    )


@scenario
async def deployment_text_pinned_to(ctx: Context) -> None:
    """A version that a run is to be pinned to, as text."""
    name = await _with_versions(ctx)
    for label, text in _texts(name).items():
        override = VersioningOverride(behavior=PINNED, pinned_version=text)
        request = ctx.client.start_request(ctx.id(label), ctx.id("queue"), versioning_override=override)
        await ctx.attempt(label, request, drop=["run_id"])
