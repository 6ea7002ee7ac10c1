"""What a run is related to: parent, children, and the runs of its chain, as a list and as a graph."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from markupsafe import Markup, escape

from perdure.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from perdure.ui.context import Context, part
from perdure.ui.page import Page
from perdure.ui.timeline.svg import shorten
from perdure.ui.views import tabs
from perdure.ui.views.runs import describe, head
from perdure.ui.views.workflows import quoted, row

MOST: Final = 60
_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y = 232, 46, 60, 12


async def _found(context: Context, query: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    request = ListWorkflowExecutionsRequest(namespace=context.namespace, query=query, page_size=MOST)
    answer, error = await part(context.call("list_workflow_executions", request))
    return ([row(context, execution) for execution in answer.executions] if answer is not None else []), error


async def show(context: Context) -> Page:
    """Relationships of a run."""
    described = await describe(context)
    info = described.workflow_execution_info
    workflow = head(context, described)
    run_id = info.execution.run_id
    workflow_id = info.execution.workflow_id
    (children, children_error), (chain, chain_error), counts = await asyncio.gather(
        _found(context, tabs.children_of(described)),
        _found(context, f"WorkflowId = {quoted(workflow_id)}"),
        tabs.counts(context, described),
    )
    first = info.first_run_id or run_id
    chain = sorted(
        (one for one in chain if one.get("first_run_id", first) == first),
        key=lambda one: str(one.get("start_time")),
    )
    parent: dict[str, Any] | None = None
    if info.HasField("parent_execution") and info.parent_execution.workflow_id:
        found, _ = await _found(
            context,
            f"WorkflowId = {quoted(info.parent_execution.workflow_id)} "
            f"AND RunId = {quoted(info.parent_execution.run_id)}",
        )
        parent = found[0] if found else {
            "execution": {"workflow_id": info.parent_execution.workflow_id, "run_id": info.parent_execution.run_id},
            "type": {"name": ""},
            "status": "",
            "url": context.url(
                "namespaces", context.namespace, "workflows",
                info.parent_execution.workflow_id, info.parent_execution.run_id,
            ),
        }  # fmt: skip
    data = {
        "namespace": context.namespace,
        "workflow": workflow,
        "counts": counts,
        "parent": parent,
        "children": children,
        "chain": chain,
        "children_error": children_error,
        "chain_error": chain_error,
        "limit": MOST,
    }
    graph = draw(workflow, parent, children, chain)
    return Page("relationships.html", f"{workflow_id} · Relationships", data, only_html={"graph": graph})


def draw(
    workflow: dict[str, Any],
    parent: dict[str, Any] | None,
    children: list[dict[str, Any]],
    chain: list[dict[str, Any]],
) -> Markup:
    """The graph: parent, the runs of the chain below each other, children."""
    runs = chain or [workflow]
    column_x = [10.0, 10.0 + (_BOX_WIDTH + _GAP_X if parent else 0)]
    column_x.append(column_x[1] + _BOX_WIDTH + _GAP_X)
    step = _BOX_HEIGHT + _GAP_Y
    height = max(len(runs), len(children), 1) * step + 20
    width = column_x[2] + (_BOX_WIDTH if children else -_GAP_X) + 10
    here = next(
        (
            number
            for number, one in enumerate(runs)
            if one["execution"]["run_id"] == workflow["execution"]["run_id"]
        ),
        0,
    )
    parts: list[str] = []
    here_y = 10.0 + here * step
    if parent is not None:
        parts.append(
            _edge(column_x[0] + _BOX_WIDTH, here_y + _BOX_HEIGHT / 2, column_x[1], here_y + _BOX_HEIGHT / 2)
        )
        parts.append(_box(column_x[0], here_y, parent, "parent"))
    for number, one in enumerate(runs):
        y = 10.0 + number * step
        if number:
            middle = column_x[1] + _BOX_WIDTH / 2
            parts.append(f'<line class="edge" x1="{middle}" x2="{middle}" y1="{y - _GAP_Y}" y2="{y}"/>')
        parts.append(_box(column_x[1], y, one, "this" if number == here else "run"))
    for number, one in enumerate(children):
        y = 10.0 + number * step
        parts.append(
            _edge(column_x[1] + _BOX_WIDTH, here_y + _BOX_HEIGHT / 2, column_x[2], y + _BOX_HEIGHT / 2)
        )
        parts.append(_box(column_x[2], y, one, "child"))
    text = "".join(parts)  # every text in it went through `escape`
    size = f'width="{width:.0f}" height="{height:.0f}"'
    return Markup(f'<svg class="graph" {size} role="group" aria-label="Related runs">{text}</svg>')


def _edge(x0: float, y0: float, x1: float, y1: float) -> str:
    middle = (x0 + x1) / 2
    return f'<path class="edge" d="M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"/>'


def _box(x: float, y: float, run: dict[str, Any], role: str) -> str:
    status = str(run.get("status", ""))
    style = escape(status.lower().replace(" ", "-"))
    name = shorten(run["execution"]["workflow_id"], 29)
    title = f"{run['execution']['workflow_id']}\n{run['execution'].get('run_id', '')}\n{status}"
    return (
        f'<a href="{escape(run["url"])}"><g class="box {role} {style}"><title>{escape(title)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>'
        f'<rect class="box-status" x="{x:.1f}" y="{y:.1f}" width="4" height="{_BOX_HEIGHT}" rx="2"/>'
        f'<text class="box-name" x="{x + 14:.1f}" y="{y + 19:.1f}">{escape(name)}</text>'
        f'<text class="box-note" x="{x + 14:.1f}" y="{y + 36:.1f}">'
        f"{escape(shorten(run['type']['name'], 20))} · {escape(status)}</text></g></a>"
    )
