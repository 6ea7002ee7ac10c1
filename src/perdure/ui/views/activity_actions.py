"""Actions on activities of one run: pause, unpause, reset, other options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from perdure.api.activity.v1 import ActivityOptions
from perdure.api.common.v1 import RetryPolicy
from perdure.api.workflowservice.v1 import (
    PauseActivityRequest,
    ResetActivityRequest,
    UnpauseActivityRequest,
    UpdateActivityOptionsRequest,
)
from perdure.ui.context import IDENTITY, Context
from perdure.ui.forms import Field, FieldError, Form, Values, duration_text
from perdure.ui.page import Redirect
from perdure.ui.views.runs import describe, execution_of, run_url

_ACTIVITY: Final = Field("activity", "Activity ID", is_required=True)
_JITTER: Final = Field(
    "jitter", "Spread over", "duration", "The next attempt begins at random within this time, such as 30s."
)


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


_TIMEOUTS: Final = (
    ("schedule_to_close_timeout", "Schedule to close"),
    ("schedule_to_start_timeout", "Schedule to start"),
    ("start_to_close_timeout", "Start to close"),
    ("heartbeat_timeout", "Heartbeat"),
)
_RETRY: Final = (("initial_interval", "First retry after"), ("maximum_interval", "Longest wait"))


async def _load_options(context: Context) -> Mapping[str, str]:
    wanted = context.query.get("activity", "")
    for activity in (await describe(context)).pending_activities:
        if activity.activity_id == wanted:
            options = activity.activity_options
            shown = {name: duration_text(getattr(options, name)) for name, _ in _TIMEOUTS}
            shown |= {name: duration_text(getattr(options.retry_policy, name)) for name, _ in _RETRY}
            return {
                **shown,
                "task_queue": options.task_queue.name,
                "maximum_attempts": str(options.retry_policy.maximum_attempts),
            }
    return {}


async def _options(context: Context, values: Values) -> Redirect:
    options = ActivityOptions()
    paths: list[str] = []
    for name, _ in _TIMEOUTS:
        _set(values, name, getattr(options, name), name, paths)
    for name, _ in _RETRY:
        _set(values, name, getattr(options.retry_policy, name), f"retry_policy.{name}", paths)
    if values.text("maximum_attempts"):
        options.retry_policy.MergeFrom(RetryPolicy(maximum_attempts=values.whole("maximum_attempts")))
        paths.append("retry_policy.maximum_attempts")
    if values.text("task_queue"):
        options.task_queue.name = values.text("task_queue")
        paths.append("task_queue.name")
    if not paths:
        raise FieldError("", "Nothing was entered.")
    request = UpdateActivityOptionsRequest(**_common(context, values), activity_options=options)
    request.update_mask.paths.extend(paths)
    await context.call("update_activity_options", request)
    return Redirect(run_url(context), f"Activity {request.id} has the new options.")


def _set(values: Values, name: str, field: Any, path: str, paths: list[str]) -> None:
    duration = values.duration(name)
    if duration is not None:
        field.CopyFrom(duration)
        paths.append(path)


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
        (_ACTIVITY, Field("reset_attempts", "Count attempts from 1 again", "check"), _HEARTBEAT, _JITTER),
        _unpause, "Its next attempt begins.",
    ),
    "reset": _form(
        "Reset an activity", "Reset",
        (
            _ACTIVITY, _HEARTBEAT, Field("keep_paused", "Stay paused, if it is", "check"),
            Field("restore_original", "Restore the options it was scheduled with", "check"), _JITTER,
        ),
        _reset, "It begins again with attempt 1, at once.",
    ),
    "options": _form(
        "Change an activity's options", "Change",
        (
            _ACTIVITY,
            *(Field(name, label, "duration") for name, label in (*_TIMEOUTS, *_RETRY)),
            Field("maximum_attempts", "Most attempts", "number", "0 for no limit"),
            Field("task_queue", "Task queue"),
        ),
        _options, "Fields that are left empty stay as they are. What is running is not changed.", _load_options,
    ),
}  # fmt: skip
"""Name in the address to form."""
