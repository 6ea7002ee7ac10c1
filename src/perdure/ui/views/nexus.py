"""Nexus endpoints: the list, creating, changing, removing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.api.nexus.v1 import EndpointSpec, EndpointTarget
from perdure.api.operatorservice.v1 import (
    CreateNexusEndpointRequest,
    DeleteNexusEndpointRequest,
    GetNexusEndpointRequest,
    ListNexusEndpointsRequest,
    UpdateNexusEndpointRequest,
)
from perdure.ui.config import DEFAULT_PAGE_ROWS
from perdure.ui.context import Context
from perdure.ui.forms import Field, FieldError, Form, Values
from perdure.ui.page import Page, Redirect
from perdure.ui.plain import plain, read_payload
from perdure.ui.views.workflows import decode_token, encode_token


def _back(context: Context) -> str:
    return context.url("nexus-endpoints")


async def show_all(context: Context) -> Page:
    """All endpoints."""
    request = ListNexusEndpointsRequest(
        page_size=DEFAULT_PAGE_ROWS, next_page_token=decode_token(context.query.get("page", ""))
    )
    answer = await context.call("list_nexus_endpoints", request, service="operator")
    await context.decode(answer)
    data = {
        "endpoints": [
            {
                **plain(endpoint),
                "edit_url": context.url("nexus-endpoints", endpoint.id, "edit"),
                "delete_url": context.url("nexus-endpoints", endpoint.id, "delete"),
            }
            for endpoint in answer.endpoints
        ],
        "next_page": encode_token(answer.next_page_token),
    }
    return Page("nexus_endpoints.html", "Nexus endpoints", data)


def _spec(values: Values) -> EndpointSpec:
    url = values.text("url")
    if url:
        target = EndpointTarget(external=EndpointTarget.External(url=url))
    else:
        queue = values.text("task_queue")
        if not queue:
            raise FieldError("task_queue", "A task queue is needed, or the address of an external handler.")
        namespace = values.text("target_namespace") or values.context.config.default_namespace
        target = EndpointTarget(worker=EndpointTarget.Worker(namespace=namespace, task_queue=queue))
    description = values.text("description")
    return EndpointSpec(
        name=values.text("name"),
        description=read_payload(description) if description else None,
        target=target,
    )


async def _create(context: Context, values: Values) -> Redirect:
    request = CreateNexusEndpointRequest(spec=_spec(values))
    await context.call("create_nexus_endpoint", request, service="operator")
    return Redirect(_back(context), f"Endpoint “{request.spec.name}” was created.")


async def _load(context: Context) -> Mapping[str, str]:
    request = GetNexusEndpointRequest(id=context.names["endpoint_id"])
    answer = await context.call("get_nexus_endpoint", request, service="operator")
    endpoint = answer.endpoint
    await context.decode(endpoint)
    shown = plain(endpoint)["spec"].get("description")
    return {
        "name": endpoint.spec.name,
        "description": str(shown["value"]) if shown else "",
        "target_namespace": endpoint.spec.target.worker.namespace,
        "task_queue": endpoint.spec.target.worker.task_queue,
        "url": endpoint.spec.target.external.url,
        "version": str(endpoint.version),
    }


async def _edit(context: Context, values: Values) -> Redirect:
    request = UpdateNexusEndpointRequest(
        id=context.names["endpoint_id"], version=values.whole("version"), spec=_spec(values)
    )
    await context.call("update_nexus_endpoint", request, service="operator")
    return Redirect(_back(context), f"Endpoint “{request.spec.name}” was changed.")


async def _delete(context: Context, values: Values) -> Redirect:
    request = DeleteNexusEndpointRequest(id=context.names["endpoint_id"], version=values.whole("version"))
    await context.call("delete_nexus_endpoint", request, service="operator")
    return Redirect(_back(context), "The endpoint was removed.")


_FIELDS: Final = (
    Field("name", "Name", is_required=True),
    Field("description", "Description"),
    Field("target_namespace", "Handler's namespace", help="Empty for the default namespace."),
    Field("task_queue", "Handler's task queue"),
    Field("url", "Address of an external handler", help="Instead of a task queue."),
)
_VERSION: Final = Field("version", "Version", "hidden")
CREATE: Final = Form("Create a Nexus endpoint", "Create", _FIELDS, _create, nav="nexus", back=_back)
EDIT: Final = Form(
    "Change the Nexus endpoint", "Save", (*_FIELDS, _VERSION), _edit, load=_load, nav="nexus", back=_back
)
DELETE: Final = Form(
    "Remove this Nexus endpoint",
    "Remove",
    (_VERSION,),
    _delete,
    "Operations that are called through it fail from then on.",
    is_dangerous=True,
    load=_load,
    nav="nexus",
    back=_back,
)
