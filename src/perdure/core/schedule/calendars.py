"""Calendars against real time: which seconds match, in a time zone with its jumps.

A second matches when its local date and time do. So a local time that a jump forward leaves out never comes, and one
that a jump back repeats comes twice. Seconds since the epoch in and out; the only outside knowledge is the zone.
"""

from __future__ import annotations

import datetime
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

from perdure.api.schedule.v1 import StructuredCalendarSpec
from perdure.core.errors import InvalidArgumentError
from perdure.core.schedule.ranges import LAST_YEAR, values

DAY_S = 86_400
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_LATEST_REPETITION_S = 3600
"""How long after its end a day may begin to be repeated; one minute is the most that is known."""
_UTC_NAMES = ("", "UTC", "Etc/UTC")


class Zone:
    """A time zone's offsets.

    Args:
        info: the zone.
    """

    def __init__(self, info: datetime.tzinfo) -> None:
        self._info = info
        self._is_utc = info is datetime.UTC

    def offset_s(self, time_s: int) -> int:
        """Local time minus UTC at an instant, seconds."""
        if self._is_utc:
            return 0
        offset = datetime.datetime.fromtimestamp(time_s, self._info).utcoffset()
        return 0 if offset is None else int(offset.total_seconds())

    def next_change_s(self, time_s: int, until_s: int) -> int:
        """The first instant of (time_s, until_s) with another offset than at `time_s`, or `until_s`."""
        offset = self.offset_s(time_s)
        if self._is_utc or self.offset_s(until_s - 1) == offset:
            return until_s
        low, high = time_s, until_s - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.offset_s(middle) == offset else (low, middle)
        return high

    def day_again_s(self, time_s: int, day: int) -> int | None:
        """When a local day that ended at `time_s` goes on because the clock is set back to it; None if it is over.

        Args:
            time_s: its end.
            day: days since the epoch.
        """
        if self._is_utc:
            return None
        change_s = time_s
        if (time_s + self.offset_s(time_s)) // DAY_S > day:
            change_s = self.next_change_s(time_s, time_s + _LATEST_REPETITION_S)
        return change_s if (change_s + self.offset_s(change_s)) // DAY_S == day else None

    def start_of_s(self, day: datetime.date) -> int:
        """The first instant of a local day."""
        midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=self._info)
        return int(midnight.timestamp())


class _Data:
    """Bytes as the file that `ZoneInfo` reads."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all that are left if `size` is negative."""
        end = len(self._data) if size < 0 else self._position + size
        found = self._data[self._position : end]
        self._position += len(found)
        return found

    def readline(self) -> bytes:
        """The rest of a line with its end."""
        end = self._data.find(b"\n", self._position)
        return self.read(end + 1 - self._position if end >= 0 else -1)

    def seek(self, offset: int, whence: int = 0) -> None:
        """Moves to a position (whence 0), or on by `offset` (1)."""
        self._position = offset + (self._position if whence else 0)


@lru_cache(maxsize=1_000)
def zone(name: str, data: bytes = b"") -> Zone:
    """The zone of a name, or of TZif data.

    Raises:
        InvalidArgumentError: there is none, or the data cannot be read.
    """
    try:
        if data:
            return Zone(ZoneInfo.from_file(_Data(data), key=name or None))
        return Zone(datetime.UTC if name in _UTC_NAMES else ZoneInfo(name))
    except (OSError, ValueError, KeyError) as error:
        what = "malformed time zone information" if data else f"unknown time zone {name}"
        raise InvalidArgumentError(what) from error


@dataclass(frozen=True, slots=True)
class Calendar:
    """A compiled calendar: the values of each field, ascending; no years mean all of them."""

    years: tuple[int, ...]
    months: tuple[int, ...]
    days: tuple[int, ...]
    weekdays: tuple[int, ...]
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]

    @property
    def has_times(self) -> bool:
        """Whether no field leaves out everything; one that does is not to be asked when it matches next."""
        return all((self.months, self.days, self.weekdays, self.hours, self.minutes, self.seconds))

    def matches(self, time_s: int, where: Zone) -> bool:
        """Whether an instant matches."""
        day, second = divmod(time_s + where.offset_s(time_s), DAY_S)
        return self._has_date(datetime.date.fromordinal(day + _EPOCH)) and self._has_second(second)

    def next_s(self, after_s: int, where: Zone) -> int | None:
        """The first matching instant after `after_s`, or None."""
        time_s = after_s + 1
        while True:
            day, second = divmod(time_s + where.offset_s(time_s), DAY_S)
            end_s = where.next_change_s(time_s, time_s + DAY_S - second)
            date = datetime.date.fromordinal(day + _EPOCH)
            if date.year > LAST_YEAR:
                return None
            if self._has_date(date):
                found = self._next_second(second)
                if found is not None and time_s + found - second < end_s:
                    return time_s + found - second
            is_end_of_day = end_s == time_s + DAY_S - second
            time_s = end_s
            if is_end_of_day:
                again_s = where.day_again_s(time_s, day) if self._has_date(date) else None
                if again_s is not None:
                    time_s = again_s
                    continue
                next_date = self._next_date(date + datetime.timedelta(days=1))
                if next_date is None:
                    return None
                time_s = max(time_s, where.start_of_s(next_date))

    def end_of_block_s(self, time_s: int, where: Zone) -> int:
        """The last instant up to which everything from `time_s`, which matches, does because whole units do."""
        second = (time_s + where.offset_s(time_s)) % DAY_S
        unit_s = 1
        for have, all_of_them, size_s in (
            (self.seconds, 60, 60),
            (self.minutes, 60, 3600),
            (self.hours, 24, DAY_S),
        ):
            if len(have) < all_of_them:
                break
            unit_s = size_s
        return where.next_change_s(time_s, time_s + unit_s - second % unit_s) - 1

    def _has_date(self, date: datetime.date) -> bool:
        return (
            (not self.years or date.year in self.years)
            and date.month in self.months
            and date.day in self.days
            and date.isoweekday() % 7 in self.weekdays
        )

    def _has_second(self, second: int) -> bool:
        hour, rest = divmod(second, 3600)
        return hour in self.hours and rest // 60 in self.minutes and rest % 60 in self.seconds

    def _next_second(self, second: int) -> int | None:
        """The first matching second of a day from `second` on."""
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        at_second = bisect_left(self.seconds, second)
        at_minute = bisect_left(self.minutes, minute)
        at_hour = bisect_left(self.hours, hour)
        is_hour = at_hour < len(self.hours) and self.hours[at_hour] == hour
        is_minute = at_minute < len(self.minutes) and self.minutes[at_minute] == minute
        if is_hour and is_minute and at_second < len(self.seconds):
            return hour * 3600 + minute * 60 + self.seconds[at_second]
        if is_hour and (at_minute := at_minute + is_minute) < len(self.minutes):
            return hour * 3600 + self.minutes[at_minute] * 60 + self.seconds[0]
        if (at_hour := at_hour + is_hour) < len(self.hours):
            return self.hours[at_hour] * 3600 + self.minutes[0] * 60 + self.seconds[0]
        return None

    def _next_date(self, first: datetime.date) -> datetime.date | None:
        """The first matching date from `first` on."""
        for year in range(first.year, LAST_YEAR + 1):
            if self.years and year not in self.years:
                continue
            for month in self.months:
                if (year, month) < (first.year, first.month):
                    continue
                for day in self.days:
                    if (year, month, day) < (first.year, first.month, first.day) or day > _days_in(
                        year, month
                    ):
                        continue
                    date = datetime.date(year, month, day)
                    if date.isoweekday() % 7 in self.weekdays:
                        return date
        return None


def compiled(calendar: StructuredCalendarSpec) -> Calendar:
    """A calendar of ranges, checked before, ready to be asked."""
    return Calendar(
        years=values(calendar.year),
        months=values(calendar.month),
        days=values(calendar.day_of_month),
        weekdays=values(calendar.day_of_week),
        hours=values(calendar.hour),
        minutes=values(calendar.minute),
        seconds=values(calendar.second),
    )


def _days_in(year: int, month: int) -> int:
    following = datetime.date(year + month // 12, month % 12 + 1, 1)
    return (following - datetime.timedelta(days=1)).day
