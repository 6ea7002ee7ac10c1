"""Schedules: what specifications become, which times match, what is refused, how workflows are started."""

from __future__ import annotations

from typing import Any

from perdure.api.schedule.v1 import (
    CalendarSpec,
    Range,
    Schedule,
    SchedulePatch,
    ScheduleSpec,
    StructuredCalendarSpec,
    TriggerImmediatelyRequest,
)
from tests.differential.context import Context
from tests.differential.registry import scenario
from tests.support.proto import workflowservice

SPRING_S, AUTUMN_S = 1_772_841_600, 1_793_404_800
"""The days before daylight saving time begins and ends in New York in 2026."""
SPECS: dict[str, ScheduleSpec] = {
    "cron": ScheduleSpec(cron_string=["*/20 8-17/4 * feb-dec mon-5,7 # work"]),
    "cron with years": ScheduleSpec(cron_string=["0 12 1-7 * 3-7/3 2026-2030"]),
    "cron with seconds": ScheduleSpec(cron_string=["*/30 59 23 * * * *"]),
    "every": ScheduleSpec(cron_string=["@every 90m/7m", "@every 1d"]),
    "daily": ScheduleSpec(cron_string=["CRON_TZ=Asia/Kolkata @daily"]),
    "left out": ScheduleSpec(cron_string=["TZ=America/New_York 30 2 * * *"]),
    "repeated": ScheduleSpec(cron_string=["TZ=America/New_York */30 1 * * *"]),
    "calendar": ScheduleSpec(
        calendar=[CalendarSpec(hour="*/6", minute="15", comment="quarterly", day_of_week="sat")],
        exclude_calendar=[CalendarSpec(day_of_month="1-10", hour="*", minute="*", second="*")],
        timezone_name="Europe/Berlin",
    ),
    "structured": ScheduleSpec(
        structured_calendar=[
            StructuredCalendarSpec(
                second=[Range()],
                minute=[Range(start=5)],
                hour=[Range(start=1, end=23, step=7)],
                day_of_month=[Range(start=1, end=31)],
                month=[Range(start=1, end=12)],
                day_of_week=[Range(start=0, end=6)],
                year=[Range(start=2026)],
            )
        ]
    ),
    "nothing": ScheduleSpec(),
}
REFUSED: dict[str, ScheduleSpec] = {
    "fields": ScheduleSpec(cron_string=["* * *"]),
    "range": ScheduleSpec(cron_string=["61 25 * * *"]),
    "backwards": ScheduleSpec(cron_string=["5-1 * * * *"]),
    "dashes": ScheduleSpec(cron_string=["1-2-3 * * * *"]),
    "slashes": ScheduleSpec(cron_string=["1/2/3 * * * *"]),
    "step": ScheduleSpec(cron_string=["*/0 * * * *"]),
    "missing step": ScheduleSpec(cron_string=["*/ * * * *"]),
    "missing every": ScheduleSpec(cron_string=["@every"]),
    "often": ScheduleSpec(cron_string=["@every 10ms"]),
    "zone": ScheduleSpec(cron_string=["@daily"], timezone_name="Nowhere/Town"),
    "zones": ScheduleSpec(cron_string=["@daily", "TZ=UTC @daily"]),
    "structured": ScheduleSpec(structured_calendar=[StructuredCalendarSpec(hour=[Range(start=24)])]),
    "comment": ScheduleSpec(structured_calendar=[StructuredCalendarSpec(comment="x" * 201)]),
}


def _create(ctx: Context, label: str, spec: ScheduleSpec, **changes: Any) -> Any:
    schedule = Schedule(spec=spec)
    template = schedule.action.start_workflow
    template.workflow_id = ctx.id(f"{label} wf")
    template.workflow_type.name = "type"
    template.task_queue.name = ctx.id("queue")
    for name, value in changes.items():
        setattr(template, name, value)
    return workflowservice.CreateScheduleRequest(
        namespace=ctx.client.namespace, schedule_id=ctx.id(label), schedule=schedule, request_id=ctx.id(label)
    )


async def _describe(ctx: Context, label: str) -> Any:
    request = workflowservice.DescribeScheduleRequest(
        namespace=ctx.client.namespace, schedule_id=ctx.id(label)
    )
    return await ctx.client.invoke(request)


@scenario
async def schedule_specs(ctx: Context) -> None:
    """Every form of specification: how it is described, and the times that match around both jumps of a year."""
    for label, spec in SPECS.items():
        await ctx.attempt(f"create {label}", _create(ctx, label, spec))
        ctx.record(f"spec of {label}", (await _describe(ctx, label)).schedule)
        for season, start_s in (("spring", SPRING_S), ("autumn", AUTUMN_S)):
            request = workflowservice.ListScheduleMatchingTimesRequest(
                namespace=ctx.client.namespace, schedule_id=ctx.id(label)
            )
            request.start_time.seconds, request.end_time.seconds = start_s, start_s + 4 * 86_400
            times: Any = await ctx.client.invoke(request)
            ctx.record(f"{season} times of {label}", [time.seconds - start_s for time in times.start_time])


@scenario
async def schedule_refusals(ctx: Context) -> None:
    """Specifications and actions that cannot be."""
    for label, spec in REFUSED.items():
        await ctx.attempt(f"spec: {label}", _create(ctx, label, spec))
    await ctx.attempt("cron in the action", _create(ctx, "c", ScheduleSpec(), cron_schedule="@daily"))
    await ctx.attempt("reuse policy", _create(ctx, "r", ScheduleSpec(), workflow_id_reuse_policy=3))
    request = _create(ctx, "no request", ScheduleSpec())
    request.request_id = ""
    await ctx.attempt("no request id", request)
    await ctx.attempt("first", _create(ctx, "twice", ScheduleSpec()))
    request = _create(ctx, "twice", ScheduleSpec())
    request.request_id = "another"
    await ctx.attempt("the name is taken", request)
    patch = workflowservice.PatchScheduleRequest(namespace=ctx.client.namespace, schedule_id=ctx.id("twice"))
    await ctx.attempt("no patch", patch)


@scenario
async def schedule_starts_a_workflow(ctx: Context) -> None:
    """The started event of a triggered workflow, and what the schedule says of it."""
    await ctx.client.invoke(_create(ctx, "s", ScheduleSpec()))
    patch = SchedulePatch(trigger_immediately=TriggerImmediatelyRequest())
    patch.trigger_immediately.scheduled_time.seconds = SPRING_S
    await ctx.attempt(
        "trigger",
        workflowservice.PatchScheduleRequest(
            namespace=ctx.client.namespace, schedule_id=ctx.id("s"), patch=patch
        ),
    )
    await ctx.until("it acted", lambda: _describe(ctx, "s"), lambda found: found.info.action_count == 1)
    task = await ctx.client.poll_workflow_task(ctx.id("queue"))
    ctx.record("started event", task.history.events[0])
    described = await _describe(ctx, "s")
    ctx.record("running", len(described.info.running_workflows))
    ctx.record("workflow id", described.info.recent_actions[0].start_workflow_result.workflow_id)
