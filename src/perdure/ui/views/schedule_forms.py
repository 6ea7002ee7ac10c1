"""Creating and changing schedules, and what can be done with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from perdure.api.common.v1 import WorkflowType
from perdure.api.enums.v1 import ScheduleOverlapPolicy
from perdure.api.schedule.v1 import (
    BackfillRequest,
    IntervalSpec,
    Schedule,
    ScheduleAction,
    SchedulePatch,
    SchedulePolicies,
    ScheduleSpec,
    ScheduleState,
    TriggerImmediatelyRequest,
)
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.api.workflow.v1 import NewWorkflowExecutionInfo
from perdure.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
    PatchScheduleRequest,
    UpdateScheduleRequest,
)
from perdure.ui.context import IDENTITY, Context
from perdure.ui.forms import Field, FieldError, Form, Values, duration_text, read_duration
from perdure.ui.page import Redirect
from perdure.ui.plain import editable
from perdure.ui.views.schedules import cron_of, url_of

_OVERLAPS: Final = (
    ("UNSPECIFIED", "as the schedule says"),
    ("SKIP", "skip it"),
    ("BUFFER_ONE", "keep one waiting"),
    ("BUFFER_ALL", "keep all waiting"),
    ("CANCEL_OTHER", "cancel the running one"),
    ("TERMINATE_OTHER", "terminate the running one"),
    ("ALLOW_ALL", "start it beside the others"),
)


def _overlap(values: Values) -> ScheduleOverlapPolicy.ValueType:
    return ScheduleOverlapPolicy.Value(f"SCHEDULE_OVERLAP_POLICY_{values.text('overlap')}")


def _lines(values: Values, name: str) -> list[str]:
    return [line.strip() for line in values.entered.get(name, "").splitlines() if line.strip()]


def _intervals(values: Values) -> list[IntervalSpec]:
    found = []
    for line in _lines(values, "intervals"):
        every, _, offset = line.partition("+")
        found.append(
            IntervalSpec(
                interval=read_duration(every.strip(), "intervals"),
                phase=read_duration(offset.strip(), "intervals") if offset.strip() else None,
            )
        )
    return found


async def _create(context: Context, values: Values) -> Redirect:
    schedule_id = values.text("schedule_id")
    crons, intervals = _lines(values, "crons"), _intervals(values)
    if not crons and not intervals:
        raise FieldError("crons", "At least one cron expression or interval is needed.")
    action = NewWorkflowExecutionInfo(
        workflow_id=values.text("workflow_id") or f"{schedule_id}-run",
        workflow_type=WorkflowType(name=values.text("workflow_type")),
        task_queue=TaskQueue(name=values.text("task_queue")),
        input=await values.payloads("input"),
    )
    schedule = Schedule(
        spec=ScheduleSpec(
            cron_string=crons,
            interval=intervals,
            jitter=values.duration("jitter"),
            timezone_name=values.text("timezone"),
        ),
        action=ScheduleAction(start_workflow=action),
        policies=SchedulePolicies(
            overlap_policy=_overlap(values),
            catchup_window=values.duration("catchup"),
            pause_on_failure=values.check("pause_on_failure"),
        ),
        state=ScheduleState(notes=values.text("notes"), paused=values.check("paused")),
    )
    request = CreateScheduleRequest(
        namespace=context.namespace,
        schedule_id=schedule_id,
        schedule=schedule,
        identity=IDENTITY,
        request_id=str(uuid4()),
    )
    await context.call("create_schedule", request)
    return Redirect(url_of(context, schedule_id), f"Schedule “{schedule_id}” was created.")


async def _described(context: Context) -> DescribeScheduleResponse:
    request = DescribeScheduleRequest(namespace=context.namespace, schedule_id=context.names["schedule_id"])
    answer: DescribeScheduleResponse = await context.call("describe_schedule", request)
    return answer


def _as_entered(schedule: Schedule) -> dict[str, str]:
    """A schedule as the form has it. Calendars that did not come from cron expressions have no text here."""
    spec, policies, action = schedule.spec, schedule.policies, schedule.action.start_workflow
    intervals = [
        duration_text(one.interval) + (f" + {duration_text(one.phase)}" if one.phase.ToNanoseconds() else "")
        for one in spec.interval
    ]
    overlap = ScheduleOverlapPolicy.Name(policies.overlap_policy).removeprefix("SCHEDULE_OVERLAP_POLICY_")
    return {
        "crons": "\n".join([*spec.cron_string, *filter(None, map(cron_of, spec.structured_calendar))]),
        "intervals": "\n".join(intervals),
        "jitter": duration_text(spec.jitter),
        "timezone": spec.timezone_name,
        "workflow_id": action.workflow_id,
        "workflow_type": action.workflow_type.name,
        "task_queue": action.task_queue.name,
        "input": "\n".join(editable(payload) for payload in action.input.payloads),
        "overlap": overlap,
        "catchup": duration_text(policies.catchup_window),
        "pause_on_failure": "on" if policies.pause_on_failure else "",
        "notes": schedule.state.notes,
    }


async def _load(context: Context) -> Mapping[str, str]:
    described = await _described(context)
    await context.decode(described)
    return _as_entered(described.schedule)


async def _edit(context: Context, values: Values) -> Redirect:
    # As it is stored: what the form does not show, such as the memo, goes back encrypted.
    described = await _described(context)
    schedule, before = described.schedule, _as_entered(described.schedule)
    spec, action = schedule.spec, schedule.action.start_workflow
    if _lines(values, "crons") != before["crons"].splitlines():
        # Calendars that no cron expression can say have no line in the form; they stay.
        kept = [one for one in spec.structured_calendar if not cron_of(one)]
        del spec.structured_calendar[:], spec.cron_string[:]
        spec.structured_calendar.extend(kept)
        spec.cron_string.extend(_lines(values, "crons"))
    del spec.interval[:]
    spec.interval.extend(_intervals(values))
    spec.ClearField("jitter")
    spec.MergeFrom(ScheduleSpec(jitter=values.duration("jitter")))
    schedule.policies.ClearField("catchup_window")
    schedule.policies.MergeFrom(SchedulePolicies(catchup_window=values.duration("catchup")))
    spec.timezone_name = values.text("timezone")
    action.workflow_id = values.text("workflow_id")
    action.workflow_type.name = values.text("workflow_type")
    action.task_queue.name = values.text("task_queue")
    arguments = await values.payloads("input")
    action.ClearField("input")
    if arguments is not None:
        action.input.CopyFrom(arguments)
    schedule.policies.overlap_policy = _overlap(values)
    schedule.policies.pause_on_failure = values.check("pause_on_failure")
    schedule.state.notes = values.text("notes")
    request = UpdateScheduleRequest(
        namespace=context.namespace,
        schedule_id=context.names["schedule_id"],
        schedule=schedule,
        conflict_token=described.conflict_token,
        identity=IDENTITY,
        request_id=str(uuid4()),
    )
    await context.call("update_schedule", request)
    return Redirect(url_of(context, context.names["schedule_id"]), "The schedule was changed.")


async def _patch(context: Context, patch: SchedulePatch, done: str) -> Redirect:
    schedule_id = context.names["schedule_id"]
    request = PatchScheduleRequest(
        namespace=context.namespace,
        schedule_id=schedule_id,
        patch=patch,
        identity=IDENTITY,
        request_id=str(uuid4()),
    )
    await context.call("patch_schedule", request)
    return Redirect(url_of(context, schedule_id), done)


async def _pause(context: Context, values: Values) -> Redirect:
    return await _patch(
        context,
        SchedulePatch(pause=values.text("reason") or "paused in the web UI"),
        "The schedule is paused.",
    )


async def _unpause(context: Context, values: Values) -> Redirect:
    patch = SchedulePatch(unpause=values.text("reason") or "unpaused in the web UI")
    return await _patch(context, patch, "The schedule goes on.")


async def _trigger(context: Context, values: Values) -> Redirect:
    patch = SchedulePatch(trigger_immediately=TriggerImmediatelyRequest(overlap_policy=_overlap(values)))
    return await _patch(context, patch, "The schedule's action was taken.")


async def _backfill(context: Context, values: Values) -> Redirect:
    start, end = values.time("start"), values.time("end")
    if start is not None and end is not None and end.ToNanoseconds() <= start.ToNanoseconds():
        raise FieldError("end", "The end must be after the start.")
    request = BackfillRequest(start_time=start, end_time=end, overlap_policy=_overlap(values))
    return await _patch(
        context, SchedulePatch(backfill_request=[request]), "The actions of that time are being taken."
    )


async def _delete(context: Context, values: Values) -> Redirect:
    schedule_id = context.names["schedule_id"]
    request = DeleteScheduleRequest(namespace=context.namespace, schedule_id=schedule_id, identity=IDENTITY)
    await context.call("delete_schedule", request)
    return Redirect(
        context.url("namespaces", context.namespace, "schedules"), f"Schedule “{schedule_id}” was deleted."
    )


def _back(context: Context) -> str:
    return url_of(context, context.names["schedule_id"])


_FIELDS: Final = (
    Field("crons", "Cron expressions", "area", "One a line, such as 0 12 * * MON-FRI."),
    Field("intervals", "Intervals", "area", "One a line, such as 1h, or 1h + 15m with an offset."),
    Field("timezone", "Time zone", help="Such as Europe/Berlin; empty for UTC."),
    Field("jitter", "Spread over", "duration", "Each action is delayed at random, at most by this."),
    Field("workflow_type", "Workflow type", is_required=True),
    Field("task_queue", "Task queue", is_required=True),
    Field("workflow_id", "Workflow ID", help="The time of the action is added to it."),
    Field("input", "Input", "json", "JSON values, one for each argument, one after the other."),
    Field("overlap", "If the last run still runs", "select", options=_OVERLAPS, initial="SKIP"),
    Field(
        "catchup", "Catch-up window", "duration", "How late an action may be taken after the server was down."
    ),
    Field("pause_on_failure", "Pause when a run fails", "check"),
    Field("notes", "Notes"),
)
_REASON: Final = Field("reason", "Reason", help="Kept as the schedule's notes.")
_OVERLAP: Final = Field("overlap", "If a run still runs", "select", options=_OVERLAPS, initial="UNSPECIFIED")


def _form(title: str, button: str, fields: tuple[Field, ...], send: Any, about: str, **more: Any) -> Form:
    return Form(title, button, fields, send, about, nav="schedules", back=_back, **more)


CREATE: Final = Form(
    "Create a schedule",
    "Create",
    (
        Field("schedule_id", "Schedule ID", is_required=True),
        *_FIELDS,
        Field("paused", "Begin paused", "check"),
    ),
    _create,
    "Starts a workflow again and again, at times or in intervals.",
    nav="schedules",
    back=lambda context: context.url("namespaces", context.namespace, "schedules"),
)
ACTIONS: Final[dict[str, Form]] = {
    "edit": _form(
        "Change the schedule",
        "Save",
        _FIELDS,
        _edit,
        "Calendars that are not cron expressions stay as they are.",
        load=_load,
    ),
    "pause": _form(
        "Pause the schedule", "Pause", (_REASON,), _pause, "No action is taken until it is unpaused."
    ),
    "unpause": _form("Unpause the schedule", "Unpause", (_REASON,), _unpause, "Its actions are taken again."),
    "trigger": _form(
        "Take the action now",
        "Trigger",
        (_OVERLAP,),
        _trigger,
        "Starts the workflow at once, beside the schedule's own times.",
    ),
    "backfill": _form(
        "Backfill",
        "Backfill",
        (
            Field("start", "From", "time", "In UTC.", is_required=True),
            Field("end", "To", "time", "In UTC.", is_required=True),
            _OVERLAP,
        ),
        _backfill,
        "Takes the actions that the schedule would have taken in a time that is past.",
    ),
    "delete": _form(
        "Delete this schedule", "Delete", (), _delete, "Runs that it started go on.", is_dangerous=True
    ),
}
"""Name in the address to form."""
