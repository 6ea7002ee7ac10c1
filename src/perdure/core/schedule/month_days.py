"""The last day of a month and the n-th weekday of it, as calendars that the protocol knows.

An addition to the protocol's syntax: `L` as a day of the month, `5#2` (the second Friday) and `5L` (the last one) as
days of the week. A calendar that has one of them stands for several plain ones: months of one length at a time.
"""

from __future__ import annotations

import calendar as months
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from perdure.api.schedule.v1 import CalendarSpec, Range, StructuredCalendarSpec
from perdure.core.errors import InvalidArgumentError
from perdure.core.schedule.ranges import FIELDS, FIRST_YEAR, LAST_YEAR, structured, values

_LAST_DAY = "l"
_SPECIAL_WEEKDAY = re.compile(r"([0-7]|[a-z]{2,9})(?:l|#([1-5]))")
_WEEK = 7
_NEVER = "no day is meant by DayOfMonth and DayOfWeek together"
_DAYS = next(field.names for field in FIELDS if field.name == "day_of_week")


class _Length(NamedTuple):
    """Months of one length: which they are, in which years (none: all)."""

    days: int
    months: frozenset[int]
    years: frozenset[int]


def _lengths() -> tuple[_Length, ...]:
    every = range(FIRST_YEAR, LAST_YEAR + 1)
    leap = frozenset(year for year in every if months.isleap(year))
    return (
        _Length(31, frozenset((1, 3, 5, 7, 8, 10, 12)), frozenset()),
        _Length(30, frozenset((4, 6, 9, 11)), frozenset()),
        _Length(29, frozenset((2,)), leap),
        _Length(28, frozenset((2,)), frozenset(every) - leap),
    )


_LENGTHS = _lengths()


def calendars(given: CalendarSpec) -> list[StructuredCalendarSpec]:
    """A calendar of texts as plain calendars of ranges: one, or several that together mean the same.

    Raises:
        InvalidArgumentError: a text cannot be read, or no day is meant.
    """
    days, has_last_day = _split(given.day_of_month, lambda part: part == _LAST_DAY)
    weekdays, special = _split(given.day_of_week, lambda part: bool(_SPECIAL_WEEKDAY.fullmatch(part)))
    if not has_last_day and not special:
        return [structured(given)]
    plain = CalendarSpec()
    plain.CopyFrom(given)
    plain.day_of_month, plain.day_of_week = ",".join(days), ",".join(weekdays)
    base = structured(plain)  # checks every other part
    day_values = frozenset(values(base.day_of_month)) if days or not has_last_day else frozenset()
    weekday_values = frozenset(values(base.day_of_week)) if weekdays or not special else frozenset()
    found = []
    for length in _LENGTHS:
        chosen_days = day_values | ({length.days} if has_last_day else set())
        options = [(chosen_days, weekday_values)]
        options += [
            (chosen_days & set(span), frozenset((weekday,))) for weekday, span in _spans(special, length.days)
        ]
        for on_days, on_weekdays in options:
            one = _restricted(base, length, on_days, on_weekdays)
            if one is not None:
                found.append(one)
    if not found:
        raise InvalidArgumentError(_NEVER)
    return found


def _split(text: str, is_special: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """The plain parts of a text and the others, in lower case."""
    parts = [part for part in text.strip().split(",") if part]
    special = [part.lower() for part in parts if is_special(part.lower())]
    return [part for part in parts if part.lower() not in special], special


def _weekday(text: str) -> int:
    for name, number in _DAYS.items():
        if (text.isdigit() and int(text) % _WEEK == number) or name.startswith(text):
            return number
    raise InvalidArgumentError(f"DayOfWeek {text} is no day")


def _spans(special: Iterable[str], last_day: int) -> Iterator[tuple[int, range]]:
    """The weekday of each special part, and the days of a month of this length among which it lies."""
    for part in special:
        found = _SPECIAL_WEEKDAY.fullmatch(part)
        if found is not None:
            name, number = found.groups()
            first = (int(number) - 1) * _WEEK + 1 if number else last_day - _WEEK + 1
            yield _weekday(name), range(first, min(first + _WEEK, last_day + 1))


def _restricted(
    base: StructuredCalendarSpec, length: _Length, days: Iterable[int], weekdays: Iterable[int]
) -> StructuredCalendarSpec | None:
    """The calendar on these days of months of this length; None if there is no such day."""
    result = StructuredCalendarSpec()
    result.CopyFrom(base)
    on_months = length.months.intersection(values(base.month))
    years = frozenset(values(base.year))
    on_years = years & length.years if years and length.years else years | length.years
    is_empty = bool(years) and not on_years
    chosen = {
        "day_of_month": {day for day in days if day <= length.days},
        "day_of_week": set(weekdays),
        "month": set(on_months),
    }
    if is_empty or not all(chosen.values()):
        return None
    for name, numbers in {**chosen, "year": on_years}.items():
        field = getattr(result, name)
        del field[:]
        field.extend(_ranges(sorted(numbers)))
    return result


def _ranges(numbers: list[int]) -> Iterator[Range]:
    """Few ranges for ascending numbers: with the step between the first two of each, as long as it goes on."""
    while numbers:
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        count = 1
        while count < len(numbers) and numbers[count] - numbers[count - 1] == step:
            count += 1
        if count == 2 and step > 1:
            count = 1
        first, last = numbers[0], numbers[count - 1]
        yield Range(
            start=first, end=0 if first == last else last, step=0 if step == 1 or first == last else step
        )
        numbers = numbers[count:]
