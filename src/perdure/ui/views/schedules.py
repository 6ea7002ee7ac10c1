"""Schedules: the list, and one of them with its next and recent runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perdure.api.schedule.v1 import Range, ScheduleSpec, StructuredCalendarSpec
from perdure.api.workflowservice.v1 import DescribeScheduleRequest, ListSchedulesRequest
from perdure.ui.config import DEFAULT_PAGE_ROWS
from perdure.ui.context import Context
from perdure.ui.page import Page
from perdure.ui.plain import plain
from perdure.ui.rendering import duration
from perdure.ui.views.workflows import decode_token, encode_token


def url_of(context: Context, schedule_id: str, *more: str) -> str:
    """The address of a schedule, or of something below it."""
    return context.url("namespaces", context.namespace, "schedules", schedule_id, *more)


_CRON_FIELDS: Final = (
    ("minute", 0, 59), ("hour", 0, 23), ("day_of_month", 1, 31), ("month", 1, 12), ("day_of_week", 0, 6),
)  # fmt: skip


def cron_of(calendar: StructuredCalendarSpec) -> str:
    """A calendar as a cron expression; empty if none says the same. Servers keep cron expressions as calendars."""
    seconds = [(one.start, max(one.end, one.start)) for one in calendar.second]
    if calendar.year or seconds not in ([], [(0, 0)]):
        return ""
    fields = [_cron_field(getattr(calendar, name), least, most) for name, least, most in _CRON_FIELDS]
    return " ".join(fields) + (f" # {calendar.comment}" if calendar.comment else "")


def _cron_field(ranges: Sequence[Range], least: int, most: int) -> str:
    texts = []
    for one in ranges or (Range(start=least, end=least),):
        end, step = max(one.end, one.start), max(one.step, 1)
        text = (
            "*"
            if (one.start, end) == (least, most)
            else f"{one.start}"
            if end == one.start
            else f"{one.start}-{end}"
        )
        texts.append(text if step == 1 else f"{text}/{step}")
    return ",".join(texts)


def spec_words(spec: ScheduleSpec) -> list[str]:
    """When a schedule acts, in words, one for each of its parts."""
    found = []
    for interval in spec.interval:
        text = f"every {duration(interval.interval.ToNanoseconds() / 1e9)}"
        phase_s = interval.phase.ToNanoseconds() / 1e9
        found.append(f"{text}, offset {duration(phase_s)}" if phase_s else text)
    found += [f"cron {text}" for text in spec.cron_string]
    for calendar in spec.structured_calendar:
        cron = cron_of(calendar)
        found.append(f"cron {cron}" if cron else _calendar_words(calendar))
    if spec.jitter.ToNanoseconds():
        found.append(f"within {duration(spec.jitter.ToNanoseconds() / 1e9)} after that")
    return found


_CALENDAR_WORDS: Final = (
    ("year", "year"), ("month", "month"), ("day_of_month", "day"), ("day_of_week", "weekday"), ("hour", "h"),
    ("minute", "min"), ("second", "s"),
)  # fmt: skip


def _calendar_words(calendar: StructuredCalendarSpec) -> str:
    parts = []
    for field, word in _CALENDAR_WORDS:
        ranges = [_range_words(one) for one in getattr(calendar, field)]
        if ranges:
            parts.append(f"{word} {','.join(ranges)}")
    return f"calendar: {'; '.join(parts)}" + (f" ({calendar.comment})" if calendar.comment else "")


def _range_words(one: Range) -> str:
    text = f"{one.start}" if one.end <= one.start else f"{one.start}–{one.end}"
    return text if one.step <= 1 else f"{text}/{one.step}"


async def show_all(context: Context) -> Page:
    """The schedules of a namespace."""
    request = ListSchedulesRequest(
        namespace=context.namespace,
        maximum_page_size=context.number("rows", DEFAULT_PAGE_ROWS, least=1),
        next_page_token=decode_token(context.query.get("page", "")),
        query=context.query.get("query", ""),
    )
    answer = await context.call("list_schedules", request)
    schedules = []
    for entry in answer.schedules:
        shown = plain(entry)
        shown["url"] = url_of(context, entry.schedule_id)
        shown["spec_words"] = spec_words(entry.info.spec)
        schedules.append(shown)
    data = {
        "namespace": context.namespace,
        "query": context.query.get("query", ""),
        "schedules": schedules,
        "next_page": encode_token(answer.next_page_token),
    }
    return Page("schedules.html", f"Schedules · {context.namespace}", data)


async def show(context: Context) -> Page:
    """One schedule."""
    schedule_id = context.names["schedule_id"]
    request = DescribeScheduleRequest(namespace=context.namespace, schedule_id=schedule_id)
    answer = await context.call("describe_schedule", request)
    warning = await context.decode(answer)
    shown = plain(answer)
    shown.pop("conflict_token", None)
    recent = []
    for action in shown.get("info", {}).get("recent_actions", [])[::-1]:
        run = action.get("start_workflow_result", {})
        url = (
            context.url("namespaces", context.namespace, "workflows", run["workflow_id"], run["run_id"])
            if run
            else ""
        )
        recent.append({**action, "url": url})
    is_paused = bool(shown.get("schedule", {}).get("state", {}).get("paused"))
    names = ("unpause" if is_paused else "pause", "trigger", "backfill", "edit", "delete")
    data = {
        "namespace": context.namespace,
        "schedule_id": schedule_id,
        "is_paused": is_paused,
        "schedule": shown.get("schedule", {}),
        "info": shown.get("info", {}),
        "memo": shown.get("memo", {}),
        "search_attributes": shown.get("search_attributes", {}),
        "spec_words": spec_words(answer.schedule.spec),
        "recent": recent,
        "urls": {name: url_of(context, schedule_id, name) for name in names},
        "codec_error": warning,
    }
    return Page("schedule.html", f"{schedule_id} · Schedule", data)
