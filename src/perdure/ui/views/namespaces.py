"""Namespaces: the list, one of them, creating and changing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.api.namespace.v1 import NamespaceConfig, UpdateNamespaceInfo
from perdure.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetClusterInfoRequest,
    ListNamespacesRequest,
    RegisterNamespaceRequest,
    UpdateNamespaceRequest,
)
from perdure.ui.config import MAX_PAGE_ROWS
from perdure.ui.context import Context, part
from perdure.ui.forms import Field, Form, Values
from perdure.ui.page import Page, Redirect
from perdure.ui.plain import plain
from perdure.ui.views.workflows import decode_token, encode_token

_DAY_S: Final = 86_400


async def home(context: Context) -> Redirect:
    """Where the UI begins."""
    return Redirect(context.url("namespaces", context.config.default_namespace, "workflows"))


async def show_all(context: Context) -> Page:
    """All namespaces, and the cluster they are in."""
    request = ListNamespacesRequest(
        page_size=MAX_PAGE_ROWS // 5, next_page_token=decode_token(context.query.get("page", ""))
    )
    answer = await context.call("list_namespaces", request)
    cluster, cluster_error = await part(context.call("get_cluster_info", GetClusterInfoRequest()))
    data = {
        "namespaces": [
            {**plain(one), "url": context.url("namespaces", one.namespace_info.name)}
            for one in answer.namespaces
        ],
        "next_page": encode_token(answer.next_page_token),
        "cluster": plain(cluster) if cluster is not None else {},
        "cluster_error": cluster_error,
        "address": context.config.address,
    }
    return Page("namespaces.html", "Namespaces", data)


async def show(context: Context) -> Page:
    """One namespace."""
    request = DescribeNamespaceRequest(namespace=context.namespace)
    answer = await context.call("describe_namespace", request)
    data = {"namespace": context.namespace, "described": plain(answer)}
    return Page("namespace.html", f"{context.namespace} · Namespace", data)


async def _create(context: Context, values: Values) -> Redirect:
    name = values.text("name")
    request = RegisterNamespaceRequest(
        namespace=name,
        description=values.text("description"),
        owner_email=values.text("owner"),
        workflow_execution_retention_period=values.duration("retention"),
    )
    await context.call("register_namespace", request)
    return Redirect(context.url("namespaces", name), f"Namespace “{name}” was created.")


async def _load(context: Context) -> Mapping[str, str]:
    request = DescribeNamespaceRequest(namespace=context.namespace)
    answer = await context.call("describe_namespace", request)
    retention_s = answer.config.workflow_execution_retention_ttl.ToSeconds()
    whole_days = retention_s % _DAY_S == 0
    return {
        "description": answer.namespace_info.description,
        "owner": answer.namespace_info.owner_email,
        "retention": f"{retention_s // _DAY_S}d" if whole_days else f"{retention_s}s",
    }


async def _edit(context: Context, values: Values) -> Redirect:
    request = UpdateNamespaceRequest(
        namespace=context.namespace,
        update_info=UpdateNamespaceInfo(
            description=values.text("description"), owner_email=values.text("owner")
        ),
        config=NamespaceConfig(workflow_execution_retention_ttl=values.duration("retention")),
    )
    await context.call("update_namespace", request)
    return Redirect(context.url("namespaces", context.namespace), "The namespace was changed.")


_FIELDS: Final = (
    Field("description", "Description"),
    Field("owner", "Owner's e-mail address"),
    Field(
        "retention", "Retention", "duration", "How long closed runs are kept, such as 3d.", True, initial="3d"
    ),
)
CREATE: Final = Form(
    "Create a namespace",
    "Create",
    (Field("name", "Name", is_required=True), *_FIELDS),
    _create,
    nav="namespaces",
    back=lambda context: context.url("namespaces"),
)
EDIT: Final = Form(
    "Change the namespace",
    "Save",
    _FIELDS,
    _edit,
    load=_load,
    nav="namespaces",
    back=lambda context: context.url("namespaces", context.namespace),
)
