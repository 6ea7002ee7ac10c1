"""Actions on one run, each a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from perdure.api.enums.v1 import (
    EventType,
    ResetReapplyExcludeType,
    UpdateWorkflowExecutionLifecycleStage,
)
from perdure.api.update.v1 import Input, Meta, Request, WaitPolicy
from perdure.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    PauseWorkflowExecutionRequest,
    RequestCancelWorkflowExecutionRequest,
    ResetWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
    UnpauseWorkflowExecutionRequest,
    UpdateWorkflowExecutionRequest,
)
from perdure.ui.context import IDENTITY, Context
from perdure.ui.forms import Field, FieldError, Form, Values
from perdure.ui.page import Redirect
from perdure.ui.plain import payload
from perdure.ui.rendering import oneline
from perdure.ui.timeline.build import words
from perdure.ui.views.runs import events_of, execution_of, run_url

_REASON: Final = Field("reason", "Reason", help="Recorded in the history or shown beside the run.")
_INPUT: Final = Field(
    "input",
    "Input",
    "json",
    help='JSON values, one for each argument, one after the other: "A-17" {"amount": 3}. A payload that is no JSON is '
    'given as {"metadata": {"encoding": …}, "data": …} in base64.',
)
_UPDATE_TIMEOUT_S: Final = 30.0


async def _signal(context: Context, values: Values) -> Redirect:
    name = values.text("name")
    request = SignalWorkflowExecutionRequest(
        namespace=context.namespace,
        workflow_execution=execution_of(context),
        signal_name=name,
        input=await values.payloads("input"),
        identity=IDENTITY,
        request_id=values.text("request_id") or str(uuid4()),
    )
    await context.call("signal_workflow_execution", request)
    return Redirect(run_url(context), f"Signal “{name}” was sent.")


async def _update(context: Context, values: Values) -> Redirect:
    name = values.text("name")
    stage = UpdateWorkflowExecutionLifecycleStage
    waits = values.text("wait")
    wanted = (
        stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
        if waits == "completed"
        else stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
    )
    update_id = values.text("update_id") or str(uuid4())
    request = UpdateWorkflowExecutionRequest(
        namespace=context.namespace,
        workflow_execution=execution_of(context),
        wait_policy=WaitPolicy(lifecycle_stage=wanted),
        request=Request(
            meta=Meta(update_id=update_id, identity=IDENTITY),
            input=Input(name=name, args=await values.payloads("input")),
        ),
    )
    answer = await context.call("update_workflow_execution", request, timeout_s=_UPDATE_TIMEOUT_S)
    await context.decode(answer)
    if answer.outcome.HasField("failure"):
        raise FieldError(
            "name", f"The workflow refused or failed the update: {words(answer.outcome.failure)}"
        )
    if answer.outcome.HasField("success"):
        shown = ", ".join(oneline(payload(one)["value"]) for one in answer.outcome.success.payloads)
        return Redirect(
            run_url(context), f"Update “{name}” completed" + (f": {shown}" if shown else "") + "."
        )
    if answer.stage == stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED:
        return Redirect(run_url(context), f"Update “{name}” was accepted.")
    return Redirect(run_url(context), f"Update “{name}” was sent; no worker has taken it yet.")


async def _cancel(context: Context, values: Values) -> Redirect:
    request = RequestCancelWorkflowExecutionRequest(
        namespace=context.namespace,
        workflow_execution=execution_of(context),
        identity=IDENTITY,
        request_id=str(uuid4()),
        reason=values.text("reason"),
    )
    await context.call("request_cancel_workflow_execution", request)
    return Redirect(
        run_url(context), "Cancellation was requested; the workflow's code decides what it does about it."
    )


async def _terminate(context: Context, values: Values) -> Redirect:
    request = TerminateWorkflowExecutionRequest(
        namespace=context.namespace,
        workflow_execution=execution_of(context),
        identity=IDENTITY,
        reason=values.text("reason"),
    )
    await context.call("terminate_workflow_execution", request)
    return Redirect(run_url(context), "The run was terminated.")


async def _delete(context: Context, values: Values) -> Redirect:
    request = DeleteWorkflowExecutionRequest(
        namespace=context.namespace, workflow_execution=execution_of(context)
    )
    await context.call("delete_workflow_execution", request)
    return Redirect(context.url("namespaces", context.namespace, "workflows"), "The run is being deleted.")


async def _pause(context: Context, values: Values) -> Redirect:
    names = context.names
    request = PauseWorkflowExecutionRequest(
        namespace=context.namespace,
        workflow_id=names["workflow_id"],
        run_id=names["run_id"],
        identity=IDENTITY,
        reason=values.text("reason"),
        request_id=str(uuid4()),
    )
    await context.call("pause_workflow_execution", request)
    return Redirect(run_url(context), "The workflow is paused: its code and its activities wait.")


async def _unpause(context: Context, values: Values) -> Redirect:
    names = context.names
    request = UnpauseWorkflowExecutionRequest(
        namespace=context.namespace,
        workflow_id=names["workflow_id"],
        run_id=names["run_id"],
        identity=IDENTITY,
        reason=values.text("reason"),
        request_id=str(uuid4()),
    )
    await context.call("unpause_workflow_execution", request)
    return Redirect(run_url(context), "The workflow goes on.")


async def reset_points(context: Context) -> tuple[list[tuple[int, str]], int]:
    """The events a run can be reset to, newest first, with what was about to happen there.

    Returns:
        at most 200 points (event id, words), and the one before the last failure, 0 if nothing failed.
    """
    points: list[tuple[int, str]] = []
    last_task = before_failure = 0
    tasks: dict[int, int] = {}
    async for events in events_of(context):
        for event in events:
            kind = event.event_type
            if kind in (
                EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
                EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
                EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
            ):
                last_task = event.event_id
                words_ = (
                    EventType.Name(kind).removeprefix("EVENT_TYPE_WORKFLOW_TASK_").replace("_", " ").lower()
                )
                points.append((last_task, f"workflow task {words_}"))
                points = points[-200:]
            elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                attributes = event.activity_task_scheduled_event_attributes
                tasks[event.event_id] = attributes.workflow_task_completed_event_id
            elif kind in (
                EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
                EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
            ):
                closed: Any = (
                    event.activity_task_failed_event_attributes
                    if event.HasField("activity_task_failed_event_attributes")
                    else event.activity_task_timed_out_event_attributes
                )
                before_failure = tasks.get(closed.scheduled_event_id, before_failure)
    return points[::-1], before_failure


async def _load_reset(context: Context) -> Mapping[str, str]:
    points, _ = await reset_points(context)
    chosen = context.query.get("event_id") or (str(points[-1][0]) if points else "")
    return {"event_id": chosen, "reason": "reset in the web UI"}


async def _load_retry(context: Context) -> Mapping[str, str]:
    _, before_failure = await reset_points(context)
    return {"event_id": str(before_failure or ""), "reason": "retried from the failed step in the web UI"}


_EXCLUDES: Final = (
    ("exclude_signals", ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL),
    ("exclude_updates", ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE),
)


async def _reset(context: Context, values: Values) -> Redirect:
    event_id = values.whole("event_id")
    if event_id < 1:
        raise FieldError("event_id", "The id of a completed, failed or timed out workflow task is needed.")
    request = ResetWorkflowExecutionRequest(
        namespace=context.namespace,
        workflow_execution=execution_of(context),
        reason=values.text("reason"),
        workflow_task_finish_event_id=event_id,
        request_id=str(uuid4()),
        reset_reapply_exclude_types=[number for name, number in _EXCLUDES if values.check(name)],
        identity=IDENTITY,
    )
    answer = await context.call("reset_workflow_execution", request)
    url = context.url(
        "namespaces", context.namespace, "workflows", context.names["workflow_id"], answer.run_id
    )
    return Redirect(url, f"A new run goes on from event {event_id}; this is it.")


def _back(context: Context) -> str:
    return run_url(context)


def _action(
    title: str,
    button: str,
    fields: tuple[Field, ...],
    send: Any,
    about: str,
    *,
    is_dangerous: bool = False,
    load: Any = None,
) -> Form:
    return Form(title, button, fields, send, about, is_dangerous, load, "workflows", _back)


_RESET_FIELDS: Final = (
    Field(
        "event_id", "Event", "number", "The workflow task after which the new run goes on.", is_required=True
    ),
    _REASON,
    Field("exclude_signals", "Leave out signals that came later", "check"),
    Field("exclude_updates", "Leave out updates that came later", "check"),
)
ACTIONS: Final[dict[str, Form]] = {
    "signal": _action(
        "Send a signal",
        "Send signal",
        (
            Field("name", "Signal", is_required=True),
            _INPUT,
            Field("request_id", "Request ID", help="Sent twice with the same id, it arrives once."),
        ),
        _signal,
        "The signal is recorded in the history; the workflow's code receives it in order.",
    ),
    "update": _action(
        "Send an update",
        "Send update",
        (
            Field("name", "Update", is_required=True),
            _INPUT,
            Field(
                "update_id", "Update ID", help="The same id twice is the same update. Made up if left empty."
            ),
            Field(
                "wait",
                "Wait until it is",
                "select",
                options=(("completed", "completed"), ("accepted", "accepted")),
                initial="completed",
            ),
        ),
        _update,
        "An update changes the workflow and answers; its validator may reject it. A worker must be running.",
    ),
    "cancel": _action(
        "Cancel this workflow",
        "Request cancellation",
        (_REASON,),
        _cancel,
        "The workflow's code is told, and may clean up before it ends.",
        is_dangerous=True,
    ),
    "terminate": _action(
        "Terminate this workflow",
        "Terminate",
        (_REASON,),
        _terminate,
        "The run ends at once. Its code is not told and cleans nothing up.",
        is_dangerous=True,
    ),
    "delete": _action(
        "Delete this run",
        "Delete for ever",
        (),
        _delete,
        "The run and its history are removed. An open run is terminated first.",
        is_dangerous=True,
    ),
    "pause": _action(
        "Pause this workflow",
        "Pause",
        (_REASON,),
        _pause,
        "No code of it runs until it is unpaused; signals are kept.",
    ),
    "unpause": _action(
        "Unpause this workflow", "Unpause", (_REASON,), _unpause, "The workflow goes on where it was paused."
    ),
    "reset": _action(
        "Reset this workflow",
        "Reset",
        _RESET_FIELDS,
        _reset,
        "A new run keeps the history up to the event and goes on from there with today's code. An open run ends.",
        is_dangerous=True,
        load=_load_reset,
    ),
    "retry": _action(
        "Retry from the failed step",
        "Retry",
        _RESET_FIELDS,
        _reset,
        "A new run keeps everything before the activity that failed last was scheduled, and does it again.",
        load=_load_retry,
    ),
}
"""Name in the address to form."""
