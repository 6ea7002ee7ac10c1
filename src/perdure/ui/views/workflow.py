"""One run: summary, timeline, what is pending, input and result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from markupsafe import Markup

from perdure.api.common.v1 import WorkflowExecution
from perdure.api.enums.v1 import EventType, PendingActivityState
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
)
from perdure.service import RPCError
from perdure.ui.config import TIMELINE_EVENTS
from perdure.ui.context import Context, part
from perdure.ui.page import Later, Page, Redirect
from perdure.ui.plain import iso, plain
from perdure.ui.problems import problem
from perdure.ui.rendering import when
from perdure.ui.timeline.build import build, words
from perdure.ui.timeline.layout import DEFAULT_WIDTH, MAX_WIDTH, MIN_WIDTH, Drawing, View, lay_out
from perdure.ui.timeline.model import Kind, Timeline
from perdure.ui.timeline.svg import MOMENT, draw, legend, say
from perdure.ui.views import queues
from perdure.ui.views.runs import describe, head, page_of_events, part_of_history, run_url

_MOST_QUEUES: Final = 3
"""Task queues that are asked who polls them."""
KINDS: Final = {kind.name.lower(): kind for kind in Kind if kind is not Kind.LIFE}
_CLOSING: Final = (
    "workflow_execution_completed_event_attributes",
    "workflow_execution_failed_event_attributes",
    "workflow_execution_canceled_event_attributes",
    "workflow_execution_terminated_event_attributes",
    "workflow_execution_timed_out_event_attributes",
    "workflow_execution_continued_as_new_event_attributes",
)


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
    error = None
    events: list[HistoryEvent] = []
    try:
        events = await part_of_history(context, TIMELINE_EVENTS, is_last=is_last)
    except RPCError as failed:
        error = problem(failed)
    first, last = await _ends(context, events, is_long, is_last)
    warning = await context.decode(described, *(event for event in (first, last) if event is not None))
    timeline = build(events, described, context.now_ns)
    drawing = lay_out(timeline, view_of(context, timeline))
    data = {
        "namespace": context.namespace,
        "workflow": workflow,
        "config": plain(described.execution_config),
        "input": _input(first),
        "result": _result(last),
        "user_metadata": plain(first.user_metadata) if first is not None else {},
        "pending": _pending(context, described),
        "waiting_for": [say(text) for text in timeline.waiting_for],
        "unserved": await _unserved(context, described),
        "task_failure": _task_failure(events, described),
        "timeline": _timeline_data(timeline, length, is_last, with_items=context.is_json),
        "timeline_error": error,
        "codec_error": warning,
    }
    only_html = {
        "svg": _svg(context, drawing),
        "drawing": drawing,
        "waits": [_with_times(text) for text in timeline.waiting_for],
        "kinds": KINDS,
        "legend": legend(drawing),
        "range_s": (drawing.to_ns - drawing.from_ns) / 1e9,
        "zoomed": _zoomed(drawing, timeline),
        "is_long": is_long,
    }
    return Page("workflow.html", _title(workflow), data, only_html=only_html)


def _svg(context: Context, drawing: Drawing) -> Any:
    history = run_url(context, "history")
    return draw(
        drawing,
        lambda event_id: f"{history}?event={event_id}#event-{event_id}",
        lambda workflow_id, run_id: context.url(
            "namespaces", context.namespace, "workflows", workflow_id, *([run_id] if run_id else [])
        ),
    )


def _with_times(text: str) -> Markup:
    """A text of the model with its moments as `<time>`."""
    parts = MOMENT.split(text)
    return Markup("").join(when(iso(int(one))) if at % 2 else one for at, one in enumerate(parts))


def view_of(context: Context, timeline: Timeline) -> View:
    """What the address wants to see."""
    width = context.number("width", DEFAULT_WIDTH, MIN_WIDTH, MAX_WIDTH)
    chosen = frozenset(KINDS[name] for name in context.query.get("kinds", "").split(",") if name in KINDS)
    return View(
        _bound(context, "from", timeline.start_ns),
        _bound(context, "to", timeline.start_ns),
        {"1": True, "0": False}.get(context.query.get("fold", "")),
        width,
        chosen or None,
    )


def _bound(context: Context, name: str, start_ns: int) -> int | None:
    """A moment of the address, in milliseconds since the run began."""
    text = context.query.get(name, "")
    try:
        return start_ns + int(float(text) * 1e6) if text else None
    except (ValueError, OverflowError):
        return None


def _zoomed(drawing: Drawing, timeline: Timeline) -> dict[str, Any]:
    """Ranges for the links that zoom and move, in milliseconds since the run began."""
    span = drawing.to_ns - drawing.from_ns
    middle = (drawing.from_ns + drawing.to_ns) // 2

    def bounds(from_ns: float, to_ns: float) -> dict[str, str]:
        return {
            "from": f"{(from_ns - timeline.start_ns) / 1e6:.3f}",
            "to": f"{(to_ns - timeline.start_ns) / 1e6:.3f}",
        }

    return {
        "is_zoomed": drawing.from_ns != timeline.start_ns or drawing.to_ns < timeline.end_ns,
        "start": timeline.start_ns,
        "in": bounds(middle - span / 4, middle + span / 4),
        "out": bounds(max(middle - span, timeline.start_ns), min(middle + span, timeline.end_ns)),
        "left": bounds(drawing.from_ns - span / 2, drawing.to_ns - span / 2),
        "right": bounds(drawing.from_ns + span / 2, drawing.to_ns + span / 2),
    }


async def _ends(
    context: Context, events: list[HistoryEvent], is_long: bool, is_last: bool
) -> tuple[HistoryEvent | None, HistoryEvent | None]:
    """The first and the last event of the run; of a long history, one of them is not in the part."""
    if not events:
        return None, None
    first, last = events[0], events[-1]
    try:
        if is_long and is_last:
            first = (await page_of_events(context, batches=1))[0][0]
        elif is_long:
            last = (await page_of_events(context, is_reverse=True, batches=1))[0][0]
    except RPCError:
        pass  # the page says so where the history would be
    # Decoding changes messages; the timeline reads the others.
    return first, last


def _input(first: HistoryEvent | None) -> dict[str, Any]:
    if first is None or not first.HasField("workflow_execution_started_event_attributes"):
        return {}
    attributes = plain(first.workflow_execution_started_event_attributes)
    names = ("input", "identity", "cron_schedule", "retry_policy", "attempt", "continued_execution_run_id",
             "first_execution_run_id", "parent_workflow_execution", "last_completion_result",
             "original_execution_run_id", "header", "priority")  # fmt: skip
    return {name: attributes[name] for name in names if name in attributes}


def _result(last: HistoryEvent | None) -> dict[str, Any]:
    """How the run ended: result, failure or reason."""
    name = last.WhichOneof("attributes") if last is not None else None
    if last is None or name not in _CLOSING:
        return {}
    attributes = getattr(last, name)
    shown = plain(attributes)
    names = ("result", "failure", "details", "reason", "identity", "new_execution_run_id")
    kept: dict[str, Any] = {name: shown[name] for name in names if name in shown}
    if "failure" in kept:
        kept["failure_words"] = words(attributes.failure)
    return {"event_id": last.event_id, "time": iso(last.event_time.ToNanoseconds()), **kept}


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


def _task_failure(
    events: Sequence[HistoryEvent], described: DescribeWorkflowExecutionResponse
) -> dict[str, Any] | None:
    """The failure of the workflow's code, while it is tried again and again."""
    if described.pending_workflow_task.attempt <= 1:
        return None
    for event in reversed(events):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return None
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failure = event.workflow_task_failed_event_attributes.failure
            return {"event_id": event.event_id, "failure": plain(failure)}
    return None


async def _unserved(context: Context, described: DescribeWorkflowExecutionResponse) -> list[dict[str, str]]:
    """Task queues at which something of the run waits for a worker, and which no worker polls."""
    waits: set[tuple[str, str]] = set()
    if described.HasField("pending_workflow_task") and not described.pending_workflow_task.HasField(
        "started_time"
    ):
        waits.add((described.execution_config.task_queue.name, "workflow"))
    for activity in described.pending_activities:
        is_waiting = activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        if is_waiting and not activity.HasField("next_attempt_schedule_time") and not activity.paused:
            waits.add((activity.activity_options.task_queue.name, "activity"))
    found = []
    for name, kind in sorted(wait for wait in waits if wait[0])[:_MOST_QUEUES]:
        answer, _ = await part(queues.describe(context, name, dict(queues.TYPES)[kind]))
        if answer is not None and not answer.pollers:
            url = context.url("namespaces", context.namespace, "task-queues", name)
            found.append({"task_queue": name, "type": kind, "url": url})
    return found


def _timeline_data(timeline: Timeline, length: int, is_last: bool, *, with_items: bool) -> dict[str, Any]:
    return {
        "start": iso(timeline.start_ns),
        "end": iso(timeline.end_ns),
        "is_open": timeline.is_open,
        "first_event_id": timeline.first_event_id,
        "last_event_id": timeline.last_event_id,
        "history_length": length,
        "part": "last" if is_last else "first",
        "items": [
            {
                "kind": item.kind.value,
                "name": item.name,
                "key": item.key,
                "summary": item.summary,
                "event_id": item.event_id,
                "start": iso(item.start_ns),
                "end": None if item.end_ns is None else iso(item.end_ns),
                "state": item.state.value,
                "detail": say(item.detail),
                "segments": [
                    {
                        "phase": segment.phase.value,
                        "attempt": segment.attempt,
                        "start": iso(segment.start_ns),
                        "end": None if segment.end_ns is None else iso(segment.end_ns),
                        "state": segment.state.value,
                        "failure": segment.failure,
                        "is_estimated": segment.is_estimated,
                    }
                    for segment in item.segments
                ],
            }
            for item in (timeline.items if with_items else ())
        ],
    }
