"""The server itself and its namespaces: system and cluster info, register, describe, update, list."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from tests.differential.context import Context
from tests.differential.registry import scenario
from tests.support.builders import duration
from tests.support.proto import enums, namespace, operatorservice, workflowservice

# What a server is rather than what it does.
_BUILD_FIELDS = ("server_version", "cluster_id", "cluster_name", "version_info", "supported_clients")


@scenario
async def system_info(ctx: Context) -> None:
    """GetSystemInfo: the capabilities."""
    await ctx.attempt("system info", workflowservice.GetSystemInfoRequest(), drop=["server_version"])


@scenario
async def cluster_info(ctx: Context) -> None:
    """GetClusterInfo: its shape, without what says which server it is."""
    drop = (*_BUILD_FIELDS, "persistence_store", "visibility_store", "history_shard_count")
    await ctx.attempt("cluster info", workflowservice.GetClusterInfoRequest(), drop=drop)


@scenario
async def namespace_default(ctx: Context) -> None:
    """DescribeNamespace of the default namespace, by name and by id."""
    response = await ctx.attempt(
        "by name",
        workflowservice.DescribeNamespaceRequest(namespace="default"),
        # Aliases name the columns of the real server's store.
        drop=["replication_config", "namespace_info.description", "config.custom_search_attribute_aliases"],
    )
    by_id = await ctx.client.call(
        workflowservice.DescribeNamespaceRequest(id=response.namespace_info.id),
        workflowservice.DescribeNamespaceResponse,
    )
    ctx.record("by id", by_id.namespace_info.name)


def _register(name: str, **fields: Any) -> workflowservice.RegisterNamespaceRequest:
    values: dict[str, Any] = {
        "namespace": name,
        "workflow_execution_retention_period": duration(3 * 86400),
    }
    return workflowservice.RegisterNamespaceRequest(**(values | fields))


@scenario
async def namespace_register_errors(ctx: Context) -> None:
    """Each way a registration can be wrong."""
    cases: dict[str, Message] = {
        "no name": _register(""),
        "long name": _register("n" * 1001),
        "bad name": _register("bad name!"),
        "exists": _register("default"),
        "no retention": _register(ctx.id("a"), workflow_execution_retention_period=None),
        "short retention": _register(ctx.id("b"), workflow_execution_retention_period=duration(60)),
        "negative retention": _register(ctx.id("c"), workflow_execution_retention_period=duration(-1)),
        "global": _register(ctx.id("d"), is_global_namespace=True),
        "unknown cluster": _register(ctx.id("e"), active_cluster_name="nowhere"),
        "system name": _register("temporal-system"),
    }
    for label, request in cases.items():
        await ctx.attempt(label, request)


@scenario
async def namespace_life(ctx: Context) -> None:
    """Register, describe, update info and config, list."""
    name = ctx.id("ns")
    register = _register(name, description="words", owner_email="me@example.org", data={"k": "v"})
    await ctx.attempt("register", register)
    describe = workflowservice.DescribeNamespaceRequest(namespace=name)
    drop = ("replication_config",)
    await ctx.attempt("describe", describe, drop=drop)
    await ctx.attempt("register again", register)
    await ctx.attempt(
        "update",
        workflowservice.UpdateNamespaceRequest(
            namespace=name,
            update_info=namespace.UpdateNamespaceInfo(
                description="other", owner_email="you@example.org", data={"k2": "v2"}
            ),
            config=namespace.NamespaceConfig(workflow_execution_retention_ttl=duration(5 * 86400)),
        ),
        drop=drop,
    )
    await ctx.attempt("describe after", describe, drop=drop)
    listed = await ctx.client.call(
        workflowservice.ListNamespacesRequest(page_size=100), workflowservice.ListNamespacesResponse
    )
    names = {entry.namespace_info.name for entry in listed.namespaces}
    ctx.record("listed", {"default": "default" in names, "new": name in names})


@scenario
async def namespace_deleted_with_delay(ctx: Context) -> None:
    """Deleted with a delay it is there by its id and its new name, its old name is free; deleted twice, and wrongly."""
    name = ctx.id("ns")
    await ctx.client.invoke(_register(name))
    described = await ctx.client.call(
        workflowservice.DescribeNamespaceRequest(namespace=name), workflowservice.DescribeNamespaceResponse
    )
    namespace_id = described.namespace_info.id
    delay = duration(3600)
    answer = await ctx.client.call(
        operatorservice.DeleteNamespaceRequest(namespace=name, namespace_delete_delay=delay),
        operatorservice.DeleteNamespaceResponse,
        timeout_s=30,
    )
    deleted = answer.deleted_namespace
    ctx.record("new name", deleted == f"{name}-deleted-{namespace_id[:5]}")

    async def show(label: str) -> None:
        for by, request in {
            "id": workflowservice.DescribeNamespaceRequest(id=namespace_id),
            "name": workflowservice.DescribeNamespaceRequest(namespace=deleted),
        }.items():
            found = (await ctx.client.call(request, workflowservice.DescribeNamespaceResponse)).namespace_info
            ctx.record(f"{label}: by {by}", {"state": found.state, "is renamed": found.name == deleted})
        for include in (False, True):
            listing = workflowservice.ListNamespacesRequest(page_size=1000)
            listing.namespace_filter.include_deleted = include
            listed = await ctx.client.call(listing, workflowservice.ListNamespacesResponse)
            names = {entry.namespace_info.name for entry in listed.namespaces}
            ctx.record(f"{label}: listed{' with deleted ones' if include else ''}", deleted in names)

    await show("deleted")
    await ctx.attempt("register again", _register(name))
    again = await ctx.client.call(
        operatorservice.DeleteNamespaceRequest(namespace=deleted, namespace_delete_delay=delay),
        operatorservice.DeleteNamespaceResponse,
        timeout_s=30,
    )
    ctx.record("deleted again", again.deleted_namespace == deleted)
    await show("deleted again")


@scenario
async def namespace_errors(ctx: Context) -> None:
    """Describe and update of a namespace that does not exist, and bad updates."""
    unknown = "no-such-namespace"
    service = workflowservice
    cases: dict[str, Message] = {
        "describe unknown": service.DescribeNamespaceRequest(namespace=unknown),
        "describe unknown id": service.DescribeNamespaceRequest(id="0190c7a8-0000-7000-8000-000000000001"),
        "describe nothing": service.DescribeNamespaceRequest(),
        "update unknown": service.UpdateNamespaceRequest(
            namespace=unknown, update_info=namespace.UpdateNamespaceInfo(description="x")
        ),
        "update nothing": service.UpdateNamespaceRequest(),
        "update short retention": service.UpdateNamespaceRequest(
            namespace="default",
            config=namespace.NamespaceConfig(workflow_execution_retention_ttl=duration(60)),
        ),
    }
    for label, request in cases.items():
        await ctx.attempt(label, request)


@scenario
async def namespaces_are_separate(ctx: Context) -> None:
    """The same workflow id in two namespaces; a token of one namespace used in another."""
    name = ctx.id("ns")
    await ctx.client.invoke(_register(name))

    async def started() -> bool:
        try:
            await ctx.client.start(ctx.id("wf"), ctx.id("queue"), namespace=name)
        except Exception as error:  # The real server refuses a namespace it registered until caches refresh.
            if "not found" not in str(error):
                raise
            return False
        return True

    await ctx.until("namespace usable", started, bool)
    run = await ctx.start("wf", task_queue=ctx.id("queue"))
    ctx.record("history in default", list(await run.events()))
    task = await ctx.client.poll_workflow_task(ctx.id("queue"), namespace=name, timeout_s=20)
    ctx.record("task of the other", {"got one": bool(task.task_token)})
    await ctx.attempt(
        "token in the wrong namespace",
        ctx.client.complete_workflow_task(task.task_token, namespace="default"),
    )
    await ctx.attempt("token in its own", ctx.client.complete_workflow_task(task.task_token, namespace=name))


@scenario
async def search_attributes_listed(ctx: Context) -> None:
    """ListSearchAttributes: custom ones as registered at start, and the system's."""
    response = await ctx.client.call(
        operatorservice.ListSearchAttributesRequest(namespace="default"),
        operatorservice.ListSearchAttributesResponse,
    )
    types = enums.IndexedValueType
    ctx.record(
        "custom", {name: types.Name(kind) for name, kind in sorted(response.custom_attributes.items())}
    )
    ctx.record(
        "system", {name: types.Name(kind) for name, kind in sorted(response.system_attributes.items())}
    )


@scenario
async def unimplemented(ctx: Context) -> None:
    """RPCs that the official server itself does not implement."""
    service = workflowservice
    requests: tuple[Message, ...] = (
        service.FetchWorkerConfigRequest(namespace="default"),
        service.UpdateWorkerConfigRequest(namespace="default"),
    )
    for request in requests:
        await ctx.attempt(request.DESCRIPTOR.name, request)
