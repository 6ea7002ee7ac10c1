"""Actions on activities and Nexus operations that no workflow started, and starting an activity by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import uuid4

from google.protobuf.message import Message

from perdure.api.common.v1 import ActivityType, RetryPolicy
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflowservice.v1 import (
    DeleteActivityExecutionRequest,
    DeleteNexusOperationExecutionRequest,
    DescribeActivityExecutionRequest,
    PauseActivityExecutionRequest,
    RequestCancelActivityExecutionRequest,
    RequestCancelNexusOperationExecutionRequest,
    ResetActivityExecutionRequest,
    StartActivityExecutionRequest,
    TerminateActivityExecutionRequest,
    TerminateNexusOperationExecutionRequest,
    UnpauseActivityExecutionRequest,
    UpdateActivityExecutionOptionsRequest,
)
from perdure.ui.context import IDENTITY, Context
from perdure.ui.forms import Field, FieldError, Form, Values
from perdure.ui.page import Redirect
from perdure.ui.views import activity_options
from perdure.ui.views.activity_options import JITTER
from perdure.ui.views.standalone import ACTIVITIES, OPERATIONS, Kind, kind_url, one_url

Send = Callable[[Context, Values], Awaitable[Redirect]]

_REASON: Final = Field("reason", "Reason")
_HEARTBEAT: Final = Field("reset_heartbeat", "Forget the last heartbeat's details", "check")


def _named(kind: Kind, context: Context) -> dict[str, Any]:
    return {
        "namespace": context.namespace,
        kind.id_name: context.names["id"],
        "run_id": context.names["run_id"],
    }


def _sends(
    kind: Kind, rpc: str, request_type: type[Message], done: str, more: Callable[[Values], Mapping[str, Any]]
) -> Send:
    """Sends a request about the one that the path names, with what the form adds to it."""

    async def send(context: Context, values: Values) -> Redirect:
        # One for each time the form is sent, so that a repeated call of the transport does nothing twice.
        common = {"identity": IDENTITY, "request_id": str(uuid4())}
        await context.call(rpc, request_type(**_named(kind, context), **common, **more(values)))
        return Redirect(one_url(kind, context), done)

    return send


def _deletes(kind: Kind, rpc: str, request_type: type[Message]) -> Send:
    async def send(context: Context, values: Values) -> Redirect:
        await context.call(rpc, request_type(**_named(kind, context)))
        return Redirect(kind_url(kind, context), f"The {kind.word} “{context.names['id']}” was deleted.")

    return send


def _reason(values: Values) -> Mapping[str, Any]:
    return {"reason": values.text("reason")}


def _unpaused(values: Values) -> Mapping[str, Any]:
    return {"reason": values.text("reason"), "jitter": values.duration("jitter")}


def _reset(values: Values) -> Mapping[str, Any]:
    return {
        "reset_heartbeat": values.check("reset_heartbeat"),
        "keep_paused": values.check("keep_paused"),
        "restore_original_options": values.check("restore_original"),
        "jitter": values.duration("jitter"),
    }


def _options(values: Values) -> Mapping[str, Any]:
    options, paths = activity_options.read(values)
    request = UpdateActivityExecutionOptionsRequest(activity_options=options)
    request.update_mask.paths.extend(paths)
    return {"activity_options": request.activity_options, "update_mask": request.update_mask}


async def _load_options(context: Context) -> Mapping[str, str]:
    request = DescribeActivityExecutionRequest(**_named(ACTIVITIES, context))
    info = (await context.call("describe_activity_execution", request)).info
    return activity_options.shown(info, info.retry_policy, info.task_queue)


def _form(
    kind: Kind,
    title: str,
    button: str,
    fields: tuple[Field, ...],
    send: Send,
    about: str,
    *,
    is_dangerous: bool = False,
    load: Callable[[Context], Awaitable[Mapping[str, str]]] | None = None,
) -> Form:
    def back(context: Context) -> str:
        return one_url(kind, context)

    return Form(f"{title} {kind.word}", button, fields, send, about, is_dangerous, load, kind.segment, back)


def _ends(
    kind: Kind, cancel: type[Message], terminate: type[Message], delete: type[Message]
) -> dict[str, Form]:
    """What can be done with either kind; the RPCs are named alike."""
    name = kind.rpc_name
    return {
        "cancel": _form(
            kind, "Cancel this", "Request cancellation", (_REASON,),
            _sends(kind, f"request_cancel_{name}_execution", cancel, "Cancellation was requested.", _reason),
            "Its code is asked to end, and decides what it does about it.",
        ),
        "terminate": _form(
            kind, "Terminate this", "Terminate", (_REASON,),
            _sends(kind, f"terminate_{name}_execution", terminate, "It was terminated.", _reason),
            "It ends at once; what its worker still does about it is not recorded.", is_dangerous=True,
        ),
        "delete": _form(
            kind, "Delete this", "Delete", (), _deletes(kind, f"delete_{name}_execution", delete),
            "It is removed with all that is known about it, and ended first if it is open.", is_dangerous=True,
        ),
    }  # fmt: skip


ACTIVITY_ACTIONS: Final[dict[str, Form]] = {
    "pause": _form(
        ACTIVITIES, "Pause this", "Pause", (_REASON,),
        _sends(ACTIVITIES, "pause_activity_execution", PauseActivityExecutionRequest,
               "It is paused: no further attempt begins.", _reason),
        "No further attempt begins until it is unpaused; one under way may finish.",
    ),
    "unpause": _form(
        ACTIVITIES, "Unpause this", "Unpause", (_REASON, JITTER),
        _sends(ACTIVITIES, "unpause_activity_execution", UnpauseActivityExecutionRequest, "It goes on.", _unpaused),
        "Its next attempt begins.",
    ),
    "reset": _form(
        ACTIVITIES, "Reset this", "Reset",
        (
            _HEARTBEAT, Field("keep_paused", "Stay paused, if it is", "check"),
            Field("restore_original", "Restore the options it was started with", "check"), JITTER,
        ),
        _sends(ACTIVITIES, "reset_activity_execution", ResetActivityExecutionRequest,
               "It begins again with attempt 1.", _reset),
        "It begins again with attempt 1, at once.",
    ),
    "options": _form(
        ACTIVITIES, "Change the options of this", "Change", activity_options.FIELDS,
        _sends(ACTIVITIES, "update_activity_execution_options", UpdateActivityExecutionOptionsRequest,
               "It has the new options.", _options),
        "Fields that are left empty stay as they are. What is running is not changed.", load=_load_options,
    ),
    **_ends(
        ACTIVITIES, RequestCancelActivityExecutionRequest, TerminateActivityExecutionRequest,
        DeleteActivityExecutionRequest,
    ),
}  # fmt: skip
"""Name in the address to form."""
OPERATION_ACTIONS: Final[dict[str, Form]] = _ends(
    OPERATIONS,
    RequestCancelNexusOperationExecutionRequest,
    TerminateNexusOperationExecutionRequest,
    DeleteNexusOperationExecutionRequest,
)
"""Name in the address to form."""


async def _start(context: Context, values: Values) -> Redirect:
    timeouts: dict[str, Any] = {name: values.duration(name) for name, _ in activity_options.TIMEOUTS}
    if not timeouts["start_to_close_timeout"] and not timeouts["schedule_to_close_timeout"]:
        raise FieldError("start_to_close_timeout", "This one, or “Schedule to close”, is needed.")
    attempts = values.whole("maximum_attempts")
    request = StartActivityExecutionRequest(
        namespace=context.namespace,
        identity=IDENTITY,
        request_id=str(uuid4()),
        activity_id=values.text("activity_id"),
        activity_type=ActivityType(name=values.text("activity_type")),
        task_queue=TaskQueue(name=values.text("task_queue")),
        input=await values.payloads("input"),
        retry_policy=RetryPolicy(maximum_attempts=attempts) if attempts else None,
        **timeouts,
    )
    answer = await context.call("start_activity_execution", request)
    url = kind_url(ACTIVITIES, context, request.activity_id, answer.run_id)
    return Redirect(url, f"Activity “{request.activity_id}” was started.")


async def _load_start(context: Context) -> Mapping[str, str]:
    return {"activity_id": f"activity-{uuid4()}"}


START: Final = Form(
    "Start an activity",
    "Start",
    (
        Field("activity_id", "Activity ID", is_required=True),
        Field("activity_type", "Type", help="The name its code is registered under.", is_required=True),
        Field("task_queue", "Task queue", help="The one that its workers poll.", is_required=True),
        Field("input", "Input", "json", "JSON values, one for each argument, one after the other."),
        *(
            Field(name, label, "duration", initial="1h" if name == "start_to_close_timeout" else "")
            for name, label in activity_options.TIMEOUTS
        ),
        Field("maximum_attempts", "Most attempts", "number", "Empty for no limit"),
    ),
    _start,
    "It runs without a workflow: tried again until it works, and its outcome is kept.",
    load=_load_start,
    nav=ACTIVITIES.segment,
    back=lambda context: kind_url(ACTIVITIES, context),
)
