"""Actions on activities of one run: pause, unpause, reset, other options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from perdure.api.workflowservice.v1 import (
    PauseActivityRequest,
    ResetActivityRequest,
    UnpauseActivityRequest,
    UpdateActivityOptionsRequest,
)
from perdure.ui.context import IDENTITY, Context
from perdure.ui.forms import Field, Form, Values
from perdure.ui.page import Redirect
from perdure.ui.views import activity_options
from perdure.ui.views.activity_options import JITTER
from perdure.ui.views.runs import describe, execution_of, run_url

_ACTIVITY: Final = Field("activity", "Activity ID", is_required=True)


def _common(context: Context, values: Values) -> dict[str, Any]:
    return {
        "namespace": context.namespace,
        "execution": execution_of(context),
        "identity": IDENTITY,
        "id": values.text("activity"),
    }


async def _pause(context: Context, values: Values) -> Redirect:
    request = PauseActivityRequest(
        **_common(context, values), reason=values.text("reason"), request_id=str(uuid4())
    )
    await context.call("pause_activity", request)
    return Redirect(run_url(context), f"Activity {request.id} is paused: no further attempt begins.")


async def _unpause(context: Context, values: Values) -> Redirect:
    request = UnpauseActivityRequest(
        **_common(context, values),
        reset_attempts=values.check("reset_attempts"),
        reset_heartbeat=values.check("reset_heartbeat"),
        jitter=values.duration("jitter"),
    )
    await context.call("unpause_activity", request)
    return Redirect(run_url(context), f"Activity {request.id} goes on.")


async def _reset(context: Context, values: Values) -> Redirect:
    request = ResetActivityRequest(
        **_common(context, values),
        reset_heartbeat=values.check("reset_heartbeat"),
        keep_paused=values.check("keep_paused"),
        restore_original_options=values.check("restore_original"),
        jitter=values.duration("jitter"),
    )
    await context.call("reset_activity", request)
    return Redirect(run_url(context), f"Activity {request.id} begins again with attempt 1.")


async def _load_options(context: Context) -> Mapping[str, str]:
    wanted = context.query.get("activity", "")
    for activity in (await describe(context)).pending_activities:
        if activity.activity_id == wanted:
            options = activity.activity_options
            return activity_options.shown(options, options.retry_policy, options.task_queue.name)
    return {}


async def _options(context: Context, values: Values) -> Redirect:
    options, paths = activity_options.read(values)
    request = UpdateActivityOptionsRequest(**_common(context, values), activity_options=options)
    request.update_mask.paths.extend(paths)
    await context.call("update_activity_options", request)
    return Redirect(run_url(context), f"Activity {request.id} has the new options.")


def _form(
    title: str, button: str, fields: tuple[Field, ...], send: Any, about: str, load: Any = None
) -> Form:
    return Form(title, button, fields, send, about, False, load, "workflows", run_url)


_HEARTBEAT: Final = Field("reset_heartbeat", "Forget the last heartbeat's details", "check")
ACTIONS: Final[dict[str, Form]] = {
    "pause": _form(
        "Pause an activity", "Pause", (_ACTIVITY, Field("reason", "Reason")), _pause,
        "No further attempt begins until it is unpaused; one under way may finish.",
    ),
    "unpause": _form(
        "Unpause an activity", "Unpause",
        (_ACTIVITY, Field("reset_attempts", "Count attempts from 1 again", "check"), _HEARTBEAT, JITTER),
        _unpause, "Its next attempt begins.",
    ),
    "reset": _form(
        "Reset an activity", "Reset",
        (
            _ACTIVITY, _HEARTBEAT, Field("keep_paused", "Stay paused, if it is", "check"),
            Field("restore_original", "Restore the options it was scheduled with", "check"), JITTER,
        ),
        _reset, "It begins again with attempt 1, at once.",
    ),
    "options": _form(
        "Change an activity's options", "Change",
        (_ACTIVITY, *activity_options.FIELDS),
        _options, "Fields that are left empty stay as they are. What is running is not changed.", _load_options,
    ),
}  # fmt: skip
"""Name in the address to form."""
