"""Cron schedules of workflows: the five standard fields, the @ descriptors, `@every`, and a time zone in front.

Source: the documented syntax of Temporal's cron_schedule (that of robfig/cron, "standard" parser). Text and times in,
times out. In a gap of daylight saving time a schedule does not run; in a repeated hour it runs in both.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

from perdure.core.errors import InvalidArgumentError
from perdure.core.run.limits import SECOND_NS

INVALID = "invalid CronSchedule."
NEVER = "invalid CronSchedule, no time can be found to satisfy the schedule"
_SEARCH_DAYS = 5 * 366
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    (0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
"""Of minute, hour, day of month, month, day of week: the smallest value, the largest, names."""
_ALL_OF_THEM = ("*", "?", "*/1", "?/1")
DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed schedule: either an interval, or the values of each field in a time zone."""

    every_ns: int = 0
    zone: datetime.tzinfo = datetime.UTC
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    either_day: bool = False
    """Day of month and day of week are both restricted: one of them must match, not both."""

    def next_ns(self, after_ns: int) -> int | None:
        """The first time of the schedule after `after_ns` (both nanoseconds since the epoch), if one comes."""
        if self.every_ns:
            return after_ns - after_ns % SECOND_NS + self.every_ns
        after = datetime.datetime.fromtimestamp(after_ns // SECOND_NS, datetime.UTC)
        local = after.astimezone(self.zone)
        day = local.date()
        for _ in range(_SEARCH_DAYS):
            if self._runs_on(day):
                for found in self._times_of(day, local):
                    if found > after:
                        return int(found.timestamp()) * SECOND_NS
            day += datetime.timedelta(days=1)
        return None

    def _runs_on(self, day: datetime.date) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day or by_weekday if self.either_day else by_day and by_weekday

    def _times_of(self, day: datetime.date, after: datetime.datetime) -> Iterator[datetime.datetime]:
        """The day's times in order, in UTC; those long before `after` may be left out."""
        first_hour = after.hour - 2 if day == after.date() else 0
        times: set[datetime.datetime] = set()
        for hour in self.hours:
            if hour < first_hour:
                continue
            for minute in self.minutes:
                for fold in (0, 1):
                    local = datetime.datetime(
                        day.year, day.month, day.day, hour, minute, tzinfo=self.zone, fold=fold
                    )
                    found = local.astimezone(datetime.UTC)
                    if found.astimezone(self.zone).replace(tzinfo=None) == local.replace(tzinfo=None):
                        times.add(found)
        yield from sorted(times)


@lru_cache(maxsize=256)
def parse(text: str) -> Schedule:
    """Parses a schedule.

    Raises:
        InvalidArgumentError: it is none.
    """
    zone: datetime.tzinfo = datetime.UTC
    spec = text
    if spec.startswith(("TZ=", "CRON_TZ=")):
        name, _, spec = spec.partition(" ")
        zone = _zone(name.partition("=")[2])
        spec = spec.strip()
    if spec.startswith("@every "):
        return Schedule(every_ns=_every_ns(spec.removeprefix("@every ")))
    if spec.startswith("@"):
        if spec not in DESCRIPTORS:
            raise InvalidArgumentError(INVALID)
        spec = DESCRIPTORS[spec]
    fields = spec.split()
    if len(fields) != len(_FIELDS):
        raise InvalidArgumentError(INVALID)
    values = [_field(field, *row) for field, row in zip(fields, _FIELDS, strict=True)]
    # A star with a step restricts: "*/2" is the odd days, beside which a day of the week adds others.
    starred = [any(part in _ALL_OF_THEM for part in field.split(",")) for field in fields]
    return Schedule(
        0,
        zone,
        tuple(sorted(values[0])),
        tuple(sorted(values[1])),
        values[2],
        values[3],
        values[4],
        either_day=not starred[2] and not starred[4],
    )


def validate(text: str, now_ns: int) -> None:
    """Checks a schedule given by a user; empty is none.

    Raises:
        InvalidArgumentError: it cannot be parsed, or never comes.
    """
    if text and parse(text).next_ns(now_ns) is None:
        raise InvalidArgumentError(NEVER)


def delay_ns(text: str, scheduled_ns: int, now_ns: int) -> int | None:
    """How long after `now_ns` the run after the one scheduled at `scheduled_ns` is due, in whole seconds, rounded up.

    Times that passed while the run was open are left out. None when no time follows.
    """
    schedule = parse(text)
    due_ns: int | None = scheduled_ns
    if now_ns >= scheduled_ns:
        if schedule.every_ns:
            missed = max(now_ns - scheduled_ns - 1, 0) // schedule.every_ns
            scheduled_ns += missed * schedule.every_ns
        due_ns = schedule.next_ns(scheduled_ns)
        while due_ns is not None and due_ns < now_ns:
            due_ns = schedule.next_ns(max(due_ns, now_ns - SECOND_NS) if not schedule.every_ns else due_ns)
    if due_ns is None:
        return None
    return -(-(due_ns - now_ns) // SECOND_NS) * SECOND_NS


def _zone(name: str) -> datetime.tzinfo:
    try:
        return ZoneInfo(name) if name else datetime.UTC
    except (ValueError, OSError, KeyError) as error:
        raise InvalidArgumentError(INVALID) from error


def _every_ns(text: str) -> int:
    text = text.strip()
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        raise InvalidArgumentError(INVALID)
    total_ns = int(sum(float(part.group(1)) * UNITS_NS[part.group(2)] for part in parts))
    return max(total_ns - total_ns % SECOND_NS, SECOND_NS)


def _field(text: str, smallest: int, largest: int, names: dict[str, int]) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        values.update(_range(part, smallest, largest, names))
    return frozenset(values)


def _range(text: str, smallest: int, largest: int, names: dict[str, int]) -> range:
    span, slash, step_text = text.partition("/")
    low_text, dash, high_text = span.partition("-")
    if low_text in ("*", "?") and not dash:
        low, high = smallest, largest
    else:
        low = _number(low_text, names)
        high = _number(high_text, names) if dash else (largest if slash else low)
    step = _number(step_text, {}) if slash else 1
    if low < smallest or high > largest or low > high or step == 0:
        raise InvalidArgumentError(INVALID)
    return range(low, high + 1, step)


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not (text.isascii() and text.isdigit()) or len(text) > 4:
        raise InvalidArgumentError(INVALID)
    return int(text)
