"""The table of addresses. Names in an address are quoted, so that a workflow id may hold a slash."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote

from perdure.ui.context import Context
from perdure.ui.forms import Form, serve
from perdure.ui.page import Answer, RefusedError
from perdure.ui.views import (
    activity_actions,
    attributes,
    batches,
    deployments,
    history,
    imports,
    namespaces,
    nexus,
    queues,
    relations,
    schedule_forms,
    schedules,
    settings,
    standalone,
    standalone_actions,
    start,
    workflow,
    workflow_actions,
    workflow_tools,
    workflows,
)

Handler = Callable[[Context], Awaitable[Answer]]


def form(one: Form) -> Handler:
    """The handler of a form."""

    async def handle(context: Context) -> Answer:
        return await serve(one, context)

    return handle


def about(kind: standalone.Kind, view: Callable[[standalone.Kind, Context], Awaitable[Answer]]) -> Handler:
    """The handler of a page about what no workflow started."""

    async def handle(context: Context) -> Answer:
        return await view(kind, context)

    return handle


_NAMESPACE: Final = "/namespaces/{namespace}"
_RUN: Final = f"{_NAMESPACE}/workflows/{{workflow_id}}/{{run_id}}"
_SCHEDULE: Final = f"{_NAMESPACE}/schedules/{{schedule_id}}"
_KINDS: Final = (standalone.ACTIVITIES, standalone.OPERATIONS)
_ACTIVITY: Final = f"{_NAMESPACE}/activities/{{id}}/{{run_id}}"
_OPERATION: Final = f"{_NAMESPACE}/nexus-operations/{{id}}/{{run_id}}"
_PAGES: Final[dict[str, Handler]] = {
    "/": namespaces.home,
    "/namespaces": namespaces.show_all,
    "/settings": settings.show,
    "/nexus-endpoints": nexus.show_all,
    f"{_NAMESPACE}": namespaces.show,
    f"{_NAMESPACE}/workflows": workflows.show,
    f"{_NAMESPACE}/import-history": imports.ask,
    f"{_NAMESPACE}/workflows/{{workflow_id}}": workflow.latest,
    f"{_RUN}": workflow.show,
    f"{_RUN}/history": history.show,
    f"{_RUN}/history/download": history.download,
    f"{_RUN}/queries": workflow_tools.query,
    f"{_RUN}/call-stack": workflow_tools.call_stack,
    f"{_RUN}/relationships": relations.show,
    f"{_RUN}/workers": workflow_tools.workers,
    **{f"{_NAMESPACE}/{kind.segment}": about(kind, standalone.show_all) for kind in _KINDS},
    **{f"{_NAMESPACE}/{kind.segment}/{{id}}": about(kind, standalone.latest) for kind in _KINDS},
    **{f"{_NAMESPACE}/{kind.segment}/{{id}}/{{run_id}}": about(kind, standalone.show) for kind in _KINDS},
    f"{_NAMESPACE}/schedules": schedules.show_all,
    f"{_SCHEDULE}": schedules.show,
    f"{_NAMESPACE}/batches": batches.show_all,
    f"{_NAMESPACE}/batches/{{job_id}}": batches.show,
    f"{_NAMESPACE}/task-queues": queues.show_all,
    f"{_NAMESPACE}/task-queues/{{task_queue}}": queues.show,
    f"{_NAMESPACE}/workers": queues.workers,
    f"{_NAMESPACE}/workers/{{worker}}": queues.worker,
    f"{_NAMESPACE}/deployments": deployments.show_all,
    f"{_NAMESPACE}/deployments/{{deployment}}": deployments.show,
    f"{_NAMESPACE}/search-attributes": attributes.show,
}
"""Pages that show something."""
_POSTS: Final[dict[str, Handler]] = {
    "/settings": settings.save,
    f"{_NAMESPACE}/import-history": imports.show,
    "/settings/token": settings.save_token,
    f"{_NAMESPACE}/workflows/views": workflows.save_view,
    f"{_NAMESPACE}/workflows/columns": workflows.save_columns,
}
"""What is sent without a form of the table below."""
_FORMS: Final[dict[str, Form]] = {
    "/create-namespace": namespaces.CREATE,
    f"{_NAMESPACE}/edit": namespaces.EDIT,
    "/create-nexus-endpoint": nexus.CREATE,
    "/nexus-endpoints/{endpoint_id}/edit": nexus.EDIT,
    "/nexus-endpoints/{endpoint_id}/delete": nexus.DELETE,
    f"{_NAMESPACE}/start-workflow": start.START,
    **{f"{_RUN}/actions/{name}": one for name, one in workflow_actions.ACTIONS.items()},
    **{f"{_RUN}/activities/{name}": one for name, one in activity_actions.ACTIONS.items()},
    f"{_NAMESPACE}/start-activity": standalone_actions.START,
    **{f"{_ACTIVITY}/actions/{name}": one for name, one in standalone_actions.ACTIVITY_ACTIONS.items()},
    **{f"{_OPERATION}/actions/{name}": one for name, one in standalone_actions.OPERATION_ACTIONS.items()},
    f"{_NAMESPACE}/create-schedule": schedule_forms.CREATE,
    **{f"{_SCHEDULE}/{name}": one for name, one in schedule_forms.ACTIONS.items()},
    f"{_NAMESPACE}/start-batch": batches.START,
    f"{_NAMESPACE}/batches/{{job_id}}/stop": batches.STOP,
    f"{_NAMESPACE}/add-search-attribute": attributes.ADD,
    f"{_NAMESPACE}/search-attributes/{{attribute}}/remove": attributes.REMOVE,
    f"{_NAMESPACE}/deployments/{{deployment}}/set-current": deployments.SET_CURRENT,
    f"{_NAMESPACE}/deployments/{{deployment}}/set-ramping": deployments.SET_RAMPING,
}
"""Actions: GET shows the form, POST sends it."""


def _compiled(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "/?")


def _table() -> list[tuple[re.Pattern[str], dict[str, Handler]]]:
    methods: dict[str, dict[str, Handler]] = {}
    for path, handler in _PAGES.items():
        methods.setdefault(path, {})["GET"] = handler
    for path, handler in _POSTS.items():
        methods.setdefault(path, {})["POST"] = handler
    for path, one in _FORMS.items():
        methods.setdefault(path, {}).update(GET=form(one), POST=form(one))
    # Longer patterns first would not do: what has fewer names in it is more exact.
    ordered = sorted(methods.items(), key=lambda entry: entry[0].count("{"))
    return [(_compiled(path), handlers) for path, handlers in ordered]


_TABLE: Final = _table()


def find(method: str, path: str) -> tuple[Handler, dict[str, str]]:
    """The handler of a request, and what its path names.

    Args:
        method: of the request.
        path: quoted, as it was sent.

    Raises:
        RefusedError: there is no such page, or it does not take the method.
    """
    for pattern, handlers in _TABLE:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        handler = handlers.get("GET" if method == "HEAD" else method)
        if handler is not None:
            return handler, {name: unquote(text) for name, text in match.groupdict().items()}
        if method == "POST" or "GET" in handlers:
            raise RefusedError(405, f"This page does not take {method} requests.")
    raise RefusedError(404, "There is no such page.")


def paths() -> dict[str, tuple[str, ...]]:
    """Every address of the UI with its methods, for the tests and the documentation."""
    found = dict.fromkeys(_PAGES, ("GET",))
    for path in _POSTS:
        found[path] = (*found.get(path, ()), "POST")
    return {**found, **dict.fromkeys(_FORMS, ("GET", "POST"))}
