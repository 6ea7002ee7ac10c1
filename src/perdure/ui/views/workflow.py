"""One run: what came in and what came out, summary, timeline, what is pending."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
)
from perdure.service import RPCError
from perdure.service._waits import queues_waited_at
from perdure.ui.config import TIMELINE_EVENTS
from perdure.ui.context import Context, part
from perdure.ui.page import Later, Page, Redirect
from perdure.ui.plain import plain
from perdure.ui.timeline.build import build, words
from perdure.ui.timeline.svg import say
from perdure.ui.views import queues, tabs, timelines
from perdure.ui.views.outcome import input_of, result_of, sdk_of, task_failure
from perdure.ui.views.runs import describe, head, page_of_events, part_of_history, run_url

_MOST_QUEUES: Final = 3
"""Task queues that are asked who polls them."""
_HEAD_BATCHES: Final = 3
"""Batches of a history up to the first workflow task that was completed: start, task begun, task completed."""


async def latest(context: Context) -> Redirect:
    """The current run of a workflow id."""
    execution = WorkflowExecution(workflow_id=context.names["workflow_id"])
    request = DescribeWorkflowExecutionRequest(namespace=context.namespace, execution=execution)
    answer = await context.call("describe_workflow_execution", request)
    found = answer.workflow_execution_info.execution
    return Redirect(
        context.url("namespaces", context.namespace, "workflows", found.workflow_id, found.run_id)
    )


async def show(context: Context) -> Later:
    """The page of a run."""
    described = await describe(context)
    workflow = head(context, described)
    data = {"workflow": workflow}
    frame = Page("run_frame.html", _title(workflow), data)
    return Later(frame, partial(_whole, context, described, workflow))


def _title(workflow: Mapping[str, Any]) -> str:
    return f"{workflow['execution']['workflow_id']} · Workflow"


async def _whole(
    context: Context, described: DescribeWorkflowExecutionResponse, workflow: Mapping[str, Any]
) -> Page:
    length = described.workflow_execution_info.history_length
    is_long = length > TIMELINE_EVENTS
    is_last = is_long and context.query.get("part") != "first"
    (events, error), counts, unserved = await asyncio.gather(
        part(part_of_history(context, TIMELINE_EVENTS, is_last=is_last)),
        tabs.counts(context, described),
        _unserved(context, described),
    )
    events = events or []
    begin, last = await _ends(context, events, is_long, is_last)
    first = begin[0] if begin else None
    warning = await context.decode(described, *(event for event in (first, last) if event is not None))
    timeline = build(events, described, context.now_ns)
    is_failing = described.pending_workflow_task.attempt > 1
    data = {
        "namespace": context.namespace,
        "workflow": workflow,
        "counts": counts,
        "config": plain(described.execution_config),
        "input": input_of(first),
        "result": result_of(last),
        "sdk": sdk_of([*begin, *events]),
        "user_metadata": plain(first.user_metadata) if first is not None else {},
        "pending": _pending(context, described),
        "waiting_for": [say(text) for text in timeline.waiting_for],
        "unserved": unserved,
        "task_failure": task_failure(events) if is_failing else None,
        "timeline": timelines.data_of(timeline, length, is_last=is_last, with_items=context.is_json),
        "timeline_error": error,
        "codec_error": warning,
    }
    history = run_url(context, "history")
    only_html = {
        **timelines.shown(context, timeline, lambda event_id: f"{history}?event={event_id}#event-{event_id}"),
        "commands": _commands(context, workflow),
        "is_long": is_long,
    }
    return Page("workflow.html", _title(workflow), data, only_html=only_html)


def _commands(context: Context, workflow: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What it does, and the command that does it."""
    execution = workflow["execution"]
    names = ["--workflow-id", execution["workflow_id"], "--run-id", execution["run_id"]]
    where = ["--namespace", context.namespace]
    where += ["--address", context.config.address] if context.config.address else []
    return [
        ("Shows the run", shlex.join(["perdure", "workflow", "show", *names, *where, "--timeline"])),
        ("Keeps its history in a file", shlex.join(["perdure", "history", "export", *names, *where])),
    ]


async def _ends(
    context: Context, events: list[HistoryEvent], is_long: bool, is_last: bool
) -> tuple[list[HistoryEvent], HistoryEvent | None]:
    """The run's first events and its last one; of a long history, one end is not in the part that was read."""
    if not events:
        return [], None
    begin, last = events[:1], events[-1]
    try:
        if is_long and is_last:
            begin, _ = await page_of_events(context, batches=_HEAD_BATCHES)
        elif is_long:
            last = (await page_of_events(context, is_reverse=True, batches=1))[0][0]
    except RPCError:
        pass  # the page says so where the history would be
    return begin, last


def _pending(context: Context, described: DescribeWorkflowExecutionResponse) -> dict[str, Any]:
    activities = []
    for activity in described.pending_activities:
        shown = plain(activity)
        shown["failure_words"] = words(activity.last_failure)
        shown["urls"] = {
            name: run_url(context, "activities", name, activity=activity.activity_id)
            for name in ("pause", "unpause", "reset", "options")
        }
        activities.append(shown)
    return {
        "activities": activities,
        "has_heartbeats": any(one.get("last_heartbeat_time") for one in activities),
        "children": [plain(child) for child in described.pending_children],
        "nexus_operations": [plain(operation) for operation in described.pending_nexus_operations],
        "workflow_task": plain(described.pending_workflow_task)
        if described.HasField("pending_workflow_task")
        else None,
        "callbacks": [plain(callback) for callback in described.callbacks],
    }


async def _unserved(context: Context, described: DescribeWorkflowExecutionResponse) -> list[dict[str, str]]:
    """Task queues at which something of the run waits for a worker, and which no worker polls."""
    words = {kind: word for word, kind in queues.TYPES}
    asked = queues_waited_at(described)[:_MOST_QUEUES]
    answers = await asyncio.gather(*(part(queues.describe(context, name, kind)) for name, kind in asked))
    return [
        {
            "task_queue": name,
            "type": words[kind],
            "url": context.url("namespaces", context.namespace, "task-queues", name),
        }
        for (name, kind), (answer, _) in zip(asked, answers, strict=True)
        if answer is not None and not answer.pollers
    ]
