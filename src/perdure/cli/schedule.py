"""`perdure schedule`: workflows that are started again and again."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.json_format import ParseDict, ParseError

from perdure.api.enums import v1 as enums
from perdure.api.schedule import v1 as schedule_api
from perdure.api.workflow import v1 as workflow_api
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import listings, payloads, wire
from perdure.cli.command import Flags, Group
from perdure.cli.errors import WrongUsageError
from perdure.cli.flags import parse_duration
from perdure.cli.session import Session
from perdure.cli.show import look, time_of, to_json
from perdure.cli.workflow_start import fill_definition

schedule = Group("schedule", "Start workflows at times and intervals.")

_ID: Final = f.text("--schedule-id", "-s", required=True, metavar="ID", help="Id of the schedule.")
_OVERLAP: Final = f.choice(
    "--overlap-policy",
    of=("Skip", "BufferOne", "BufferAll", "CancelOther", "TerminateOther", "AllowAll"),
    help="What happens while the workflow before still runs.",
    default="Skip",
    show_default=True,
)
_CONFIGURATION: Final[f.FlagGroup] = (
    f.texts("--calendar", metavar="JSON", help='Calendar, such as {"dayOfWeek": "Fri", "hour": "17"}.'),
    f.duration("--catchup-window", help="Actions that are later than this are left out."),
    f.texts("--cron", metavar="CRON", help="Cron string, such as '30 12 * * Fri'."),
    f.moment("--end-time", help="No action after this."),
    f.texts("--interval", metavar="EVERY[/OFFSET]", help="Interval, such as 45m or 6h/5h."),
    f.duration("--jitter", help="Act at a random time within this after each time."),
    f.text("--notes", help="Text for people."),
    f.switch("--paused", help="Take no action until it is unpaused."),
    f.switch("--pause-on-failure", help="Pause when a workflow fails."),
    f.integer("--remaining-actions", help="Take so many actions only."),
    f.moment("--start-time", help="No action before this."),
    f.text(
        "--time-zone", metavar="NAME", help="Time zone of calendars and cron strings, such as Europe/Berlin."
    ),
)
_CREATE_ONLY: Final[f.FlagGroup] = (
    f.texts("--schedule-search-attribute", metavar="KEY=JSON", help="Search attribute of the schedule."),
    f.texts("--schedule-memo", metavar="KEY=JSON", help="Memo of the schedule."),
)
_EXAMPLE: Final = (
    "--schedule-id nightly --interval 24h --type Report --task-queue reports --workflow-id report"
)
_CRON_FIELDS: Final = (
    ("second", "0"), ("minute", "0"), ("hour", "0"), ("day_of_month", "*"), ("month", "*"), ("day_of_week", "*"),
    ("year", "*"),
)  # fmt: skip


def _calendar_as_cron(text: str) -> str:
    """A calendar in JSON as the cron string that means the same."""
    try:
        calendar = ParseDict(payloads.read_json(text), schedule_api.CalendarSpec())
    except (ValueError, ParseError, AttributeError) as error:
        example = '{"hour": "6", "minute": "30"}'
        raise WrongUsageError(f"--calendar {text!r} is no calendar such as {example}: {error}") from None
    fields = [getattr(calendar, name) or default for name, default in _CRON_FIELDS]
    if any(len(field.split()) != 1 for field in fields):
        raise WrongUsageError(f"--calendar {text!r} has a field with spaces")
    return " ".join([*fields, *(("#", calendar.comment) if calendar.comment else ())])


def _interval(text: str) -> schedule_api.IntervalSpec:
    every, _, offset = text.partition("/")
    try:
        return schedule_api.IntervalSpec(
            interval=wire.duration(parse_duration(every)),
            phase=wire.duration(parse_duration(offset)) if offset else None,
        )
    except ValueError as error:
        raise WrongUsageError(f"--interval {text!r} must be EVERY or EVERY/OFFSET: {error}") from None


def _overlap(flags: Flags) -> Any:
    return wire.enum_value(enums.ScheduleOverlapPolicy, flags.overlap_policy)


def _schedule(flags: Flags) -> schedule_api.Schedule:
    """The schedule that the flags describe."""
    workflow = workflow_api.NewWorkflowExecutionInfo(
        workflow_id=flags.workflow_id or f"{flags.schedule_id}-workflow"
    )
    fill_definition(workflow, flags)
    return schedule_api.Schedule(
        spec=schedule_api.ScheduleSpec(
            cron_string=[*flags.cron, *map(_calendar_as_cron, flags.calendar)],
            interval=map(_interval, flags.interval),
            start_time=wire.timestamp(flags.start_time),
            end_time=wire.timestamp(flags.end_time),
            jitter=wire.duration(flags.jitter),
            timezone_name=flags.time_zone or "",
        ),
        action=schedule_api.ScheduleAction(start_workflow=workflow),
        policies=schedule_api.SchedulePolicies(
            overlap_policy=_overlap(flags),
            catchup_window=wire.duration(flags.catchup_window),
            pause_on_failure=flags.pause_on_failure,
        ),
        state=schedule_api.ScheduleState(
            notes=flags.notes or "",
            paused=flags.paused,
            limited_actions=bool(flags.remaining_actions),
            remaining_actions=flags.remaining_actions or 0,
        ),
    )


@schedule.add(
    "create", _CONFIGURATION, _CREATE_ONLY, _ID, _OVERLAP, f.SHARED_START, f.PAYLOAD_INPUT,
    example=f"perdure schedule create {_EXAMPLE}",
)  # fmt: skip
async def create(session: Session, flags: Flags) -> None:
    """Create a schedule."""
    await session.call(
        service.CreateScheduleRequest(
            schedule_id=flags.schedule_id,
            schedule=_schedule(flags),
            request_id=wire.new_id(),
            memo=payloads.memo(flags.schedule_memo, "--schedule-memo"),
            search_attributes=payloads.search_attributes(
                flags.schedule_search_attribute, "--schedule-search-attribute"
            ),
        )
    )
    session.out.note("The schedule was created")


@schedule.add(
    "update", _CONFIGURATION, _ID, _OVERLAP, f.SHARED_START, f.PAYLOAD_INPUT,
    example=f"perdure schedule update {_EXAMPLE}",
)  # fmt: skip
async def update(session: Session, flags: Flags) -> None:
    """Replace a schedule by what the flags say; what they do not say is not kept."""
    changed = _schedule(flags)
    described = await session.call(service.DescribeScheduleRequest(schedule_id=flags.schedule_id))
    await session.call(
        service.UpdateScheduleRequest(
            schedule_id=flags.schedule_id,
            schedule=changed,
            conflict_token=described.conflict_token,
            request_id=wire.new_id(),
        )
    )
    session.out.note("The schedule was changed")


_RECENT: Final = 5
_INFO: Final = {
    "Spec": "schedule.spec",
    "Action": "schedule.action.start_workflow.workflow_type.name",
    "TaskQueue": "schedule.action.start_workflow.task_queue.name",
    "OverlapPolicy": "schedule.policies.overlap_policy",
    "CatchupWindow": "schedule.policies.catchup_window",
    "PauseOnFailure": "schedule.policies.pause_on_failure",
    "Paused": "schedule.state.paused",
    "Notes": "schedule.state.notes",
    "ActionCount": "info.action_count",
    "MissedCatchupWindow": "info.missed_catchup_window",
    "OverlapSkipped": "info.overlap_skipped",
    "CreatedAt": "info.create_time",
    "LastUpdateAt": "info.update_time",
    "Memo": "memo.fields",
    "SearchAttributes": "search_attributes.indexed_fields",
}


@schedule.add("describe", _ID, f.WATCH, example="perdure schedule describe --schedule-id nightly")
async def describe(session: Session, flags: Flags) -> None:
    """Show a schedule: when it acts, what it does, what it did last and will do next."""
    answer = await session.call(service.DescribeScheduleRequest(schedule_id=flags.schedule_id))
    if session.out.is_json:
        session.out.json(answer, has_short_payloads=False)
        return
    shown = {"ScheduleId": flags.schedule_id, **{name: look(answer, path) for name, path in _INFO.items()}}
    if answer.schedule.state.limited_actions:
        shown["RemainingActions"] = str(answer.schedule.state.remaining_actions)
    shown["RunningWorkflows"] = [each.workflow_id for each in answer.info.running_workflows]
    shown["LastRuns"] = [
        f"{session.out.shown(time_of(each.schedule_time))}: {each.start_workflow_result.workflow_id}"
        for each in list(answer.info.recent_actions)[-_RECENT:]
    ]
    shown["NextRuns"] = [
        session.out.shown(time_of(each)) for each in list(answer.info.future_action_times)[:_RECENT]
    ]
    session.out.card(shown)


@schedule.add("delete", _ID, example="perdure schedule delete --schedule-id nightly")
async def delete(session: Session, flags: Flags) -> None:
    """Delete a schedule; workflows that it has started go on."""
    await session.call(service.DeleteScheduleRequest(schedule_id=flags.schedule_id))
    session.out.note("The schedule was deleted")


_SCHEDULES: Final = listings.Listing(
    request=service.ListSchedulesRequest,
    items="schedules",
    columns={
        "ScheduleId": "schedule_id",
        "Action": "info.workflow_type.name",
        "Paused": "info.paused",
        "NextRunTime": "info.future_action_times",
    },
    has_short_payloads=False,
)
_LONG: Final = {"Spec": "info.spec", "Notes": "info.notes"}
_REALLY_LONG: Final = {"Memo": "memo.fields", "SearchAttributes": "search_attributes.indexed_fields"}


@schedule.add(
    "list", f.QUERY, f.LIMIT, f.WATCH,
    f.switch("--long", "-l", help="Show specs and notes, too."),
    f.switch("--really-long", help="Show everything."),
    example="perdure schedule list --long",
)  # fmt: skip
async def list_schedules(session: Session, flags: Flags) -> None:
    """List schedules."""
    if session.out.is_json:
        await listings.show(session, flags, _SCHEDULES, service.ListSchedulesRequest(query=flags.query or ""))
        return
    columns = {**_SCHEDULES.columns, **(_LONG if flags.long or flags.really_long else {})}
    columns |= _REALLY_LONG if flags.really_long else {}
    request = service.ListSchedulesRequest(query=flags.query or "")
    with session.out.listing():
        while True:
            page = await session.call(request)
            rows = [{name: look(each, path) for name, path in columns.items()} for each in page.schedules]
            for row, entry in zip(rows, page.schedules, strict=True):
                coming = list(entry.info.future_action_times)
                row["NextRunTime"] = time_of(coming[0]) if coming else None
            session.out.table(rows, list(columns))
            request.next_page_token = page.next_page_token
            if not page.next_page_token:
                return


async def _patch(session: Session, flags: Flags, patch: schedule_api.SchedulePatch, said: str) -> None:
    await session.call(
        service.PatchScheduleRequest(schedule_id=flags.schedule_id, patch=patch, request_id=wire.new_id())
    )
    session.out.note(said)


@schedule.add(
    "toggle", _ID,
    f.switch("--pause", help="Pause it."),
    f.switch("--unpause", help="Let it go on."),
    f.text("--reason", help="Why.", default="(no reason provided)"),
    example="perdure schedule toggle --schedule-id nightly --pause --reason 'holidays'",
)  # fmt: skip
async def toggle(session: Session, flags: Flags) -> None:
    """Pause a schedule, or let it go on."""
    if flags.pause == flags.unpause:
        raise WrongUsageError("either --pause or --unpause is needed")
    if flags.pause:
        await _patch(
            session, flags, schedule_api.SchedulePatch(pause=flags.reason), "The schedule was paused"
        )
    else:
        await _patch(session, flags, schedule_api.SchedulePatch(unpause=flags.reason), "The schedule goes on")


@schedule.add("trigger", _ID, _OVERLAP, example="perdure schedule trigger --schedule-id nightly")
async def trigger(session: Session, flags: Flags) -> None:
    """Let a schedule act now."""
    now = schedule_api.TriggerImmediatelyRequest(overlap_policy=_overlap(flags))
    await _patch(
        session, flags, schedule_api.SchedulePatch(trigger_immediately=now), "The schedule was triggered"
    )


_TIMES: Final[f.FlagGroup] = (
    f.moment("--start-time", required=True, help="From here."),
    f.moment("--end-time", required=True, help="To here."),
)
_TIMES_EXAMPLE: Final = (
    "--schedule-id nightly --start-time 2026-01-01T00:00:00Z --end-time 2026-01-31T00:00:00Z"
)


@schedule.add("backfill", _ID, _OVERLAP, _TIMES, example=f"perdure schedule backfill {_TIMES_EXAMPLE}")
async def backfill(session: Session, flags: Flags) -> None:
    """Let a schedule do what it would have done between two times."""
    made = schedule_api.BackfillRequest(
        start_time=wire.timestamp(flags.start_time),
        end_time=wire.timestamp(flags.end_time),
        overlap_policy=_overlap(flags),
    )
    await _patch(
        session, flags, schedule_api.SchedulePatch(backfill_request=[made]), "The backfill was requested"
    )


@schedule.add(
    "list-matching-times", _ID, _TIMES, example=f"perdure schedule list-matching-times {_TIMES_EXAMPLE}"
)
async def list_matching_times(session: Session, flags: Flags) -> None:
    """List the times at which a schedule acts between two times."""
    answer = await session.call(
        service.ListScheduleMatchingTimesRequest(
            schedule_id=flags.schedule_id,
            start_time=wire.timestamp(flags.start_time),
            end_time=wire.timestamp(flags.end_time),
        )
    )
    if session.out.is_json:
        session.out.json(answer)
    for each in answer.start_time:
        session.out.line(str(to_json(each)))
