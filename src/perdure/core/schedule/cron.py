"""Cron strings of schedules: five to seven fields, descriptors such as `@daily`, `@every`, a time zone, a comment.

Texts in, calendars and intervals out. The cron schedules of workflows have another syntax (`core/run/cron.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from perdure.api.schedule.v1 import CalendarSpec, IntervalSpec, StructuredCalendarSpec
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.cron import DESCRIPTORS, UNITS_NS
from perdure.core.run.protos import MAX_DURATION_NS, set_duration
from perdure.core.schedule import month_days

_FIELDS = {
    5: ("minute", "hour", "day_of_month", "month", "day_of_week"),
    6: ("minute", "hour", "day_of_month", "month", "day_of_week", "year"),
    7: ("second", "minute", "hour", "day_of_month", "month", "day_of_week", "year"),
}
_UNITS_NS = {**UNITS_NS, "d": 86_400_000_000_000}
_COMMENT = re.compile(r"(?<![0-9A-Za-z])#|#(?![0-9](?:[,\s]|$))")
"""Where a comment begins; `5#2` is the second Friday."""
_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


@dataclass(frozen=True, slots=True)
class Cron:
    """What a cron string says: calendars or an interval, and the time zone it names (empty: none)."""

    calendars: list[StructuredCalendarSpec]
    interval: IntervalSpec | None
    zone: str


def parse(text: str) -> Cron:
    """Reads a cron string.

    Raises:
        InvalidArgumentError: it cannot be read.
    """
    text, zone = text.strip(), ""
    if text.startswith(("TZ=", "CRON_TZ=")):
        prefix, space, text = text.partition(" ")
        if not space:
            raise InvalidArgumentError("CronString has time zone but missing fields")
        zone = prefix.partition("=")[2]
    text, _, comment = _COMMENT.sub("\n", text, count=1).partition("\n")
    text = text.strip()
    if text.startswith("@every"):
        return Cron([], _every(text), "")
    parts = DESCRIPTORS.get(text, text).split()
    names = _FIELDS.get(len(parts))
    if names is None:
        raise InvalidArgumentError("CronString does not have 5-7 fields")
    calendar = CalendarSpec(comment=comment.strip(), **dict(zip(names, parts, strict=True)))
    return Cron(month_days.calendars(calendar), None, zone)


def _every(text: str) -> IntervalSpec:
    _, space, rest = text.partition(" ")
    if not space:
        raise InvalidArgumentError("CronString does not have interval after @every")
    every, _, phase = rest.partition("/")
    interval = IntervalSpec()
    set_duration(interval.interval, duration_ns(every))
    if phase:
        set_duration(interval.phase, duration_ns(phase))
    return interval


def duration_ns(text: str) -> int:
    """A duration such as `1h30m` or `2d` in nanoseconds.

    Raises:
        InvalidArgumentError: it is none.
    """
    text = text.strip()
    if not _DURATION.fullmatch(text):
        raise InvalidArgumentError(f'invalid duration "{text}": write numbers with units, such as 1h30m')
    total = sum(int(Decimal(number) * _UNITS_NS[unit]) for number, unit in _PART.findall(text))
    return min(total, MAX_DURATION_NS)
