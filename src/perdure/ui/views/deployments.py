"""Worker deployments and their versions: what is current, what ramps up, and setting both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    ListWorkerDeploymentsRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from perdure.ui.config import DEFAULT_PAGE_ROWS
from perdure.ui.context import IDENTITY, Context
from perdure.ui.forms import Field, FieldError, Form, Values
from perdure.ui.page import Page, Redirect
from perdure.ui.plain import plain
from perdure.ui.views.workflows import decode_token, encode_token


def _url(context: Context) -> str:
    return context.url("namespaces", context.namespace, "deployments", context.names["deployment"])


async def show_all(context: Context) -> Page:
    """All deployments."""
    request = ListWorkerDeploymentsRequest(
        namespace=context.namespace,
        page_size=DEFAULT_PAGE_ROWS,
        next_page_token=decode_token(context.query.get("page", "")),
    )
    answer = await context.call("list_worker_deployments", request)
    data = {
        "namespace": context.namespace,
        "deployments": [
            {**plain(one), "url": context.url("namespaces", context.namespace, "deployments", one.name)}
            for one in answer.worker_deployments
        ],
        "next_page": encode_token(answer.next_page_token),
    }
    return Page("deployments.html", f"Deployments · {context.namespace}", data)


async def show(context: Context) -> Page:
    """One deployment with its versions."""
    name = context.names["deployment"]
    request = DescribeWorkerDeploymentRequest(namespace=context.namespace, deployment_name=name)
    answer = await context.call("describe_worker_deployment", request)
    urls = {
        action: context.url("namespaces", context.namespace, "deployments", name, action)
        for action in ("set-current", "set-ramping")
    }
    data = {
        "namespace": context.namespace,
        "deployment": plain(answer.worker_deployment_info),
        "urls": urls,
    }
    return Page("deployment.html", f"{name} · Deployment", data)


async def _load(context: Context) -> Mapping[str, str]:
    return {"build_id": context.query.get("build_id", "")}


async def _set_current(context: Context, values: Values) -> Redirect:
    build_id = values.text("build_id")
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=context.namespace,
        deployment_name=context.names["deployment"],
        build_id=build_id,
        identity=IDENTITY,
        ignore_missing_task_queues=values.check("ignore_missing"),
        allow_no_pollers=values.check("allow_no_pollers"),
    )
    await context.call("set_worker_deployment_current_version", request)
    shown = f"Version “{build_id}” is current." if build_id else "Workers without a version are current."
    return Redirect(_url(context), shown)


async def _set_ramping(context: Context, values: Values) -> Redirect:
    percentage = values.whole("percentage")
    if percentage > 100:
        raise FieldError("percentage", "At most 100 percent.")
    build_id = values.text("build_id")
    request = SetWorkerDeploymentRampingVersionRequest(
        namespace=context.namespace,
        deployment_name=context.names["deployment"],
        build_id=build_id,
        # Without a build id, a share would go to workers without a version instead of ending the ramp.
        percentage=float(percentage) if build_id else 0.0,
        identity=IDENTITY,
        ignore_missing_task_queues=values.check("ignore_missing"),
        allow_no_pollers=values.check("allow_no_pollers"),
    )
    await context.call("set_worker_deployment_ramping_version", request)
    if not build_id:
        return Redirect(_url(context), "No version is ramping any more.")
    return Redirect(_url(context), f"Version “{build_id}” gets {percentage} % of new workflows.")


_CHECKS: Final = (
    Field(
        "ignore_missing", "Also if it does not serve every task queue that the current one serves", "check"
    ),
    Field("allow_no_pollers", "Also if no worker of it polls", "check"),
)
SET_CURRENT: Final = Form(
    "Set the current version",
    "Set current",
    (Field("build_id", "Build ID", help="Empty for workers without a version."), *_CHECKS),
    _set_current,
    "New workflows, and those that upgrade by themselves, go to workers of this version.",
    load=_load,
    nav="deployments",
    back=_url,
)
SET_RAMPING: Final = Form(
    "Set the ramping version",
    "Set ramping",
    (
        Field("build_id", "Build ID", help="Empty to end the ramp."),
        Field("percentage", "Percent of new workflows", "number", initial="10"),
        *_CHECKS,
    ),
    _set_ramping,
    load=_load,
    nav="deployments",
    back=_url,
)
