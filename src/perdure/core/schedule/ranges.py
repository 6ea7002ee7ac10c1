"""The fields of a calendar: ranges as text (`1-5/2,8`) and as messages, their checks and the values they stand for.

Source: the documented syntax of schedules' calendars. Nothing here knows time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from perdure.api.schedule.v1 import CalendarSpec, Range, StructuredCalendarSpec
from perdure.core.errors import InvalidArgumentError

FIRST_YEAR, LAST_YEAR = 2000, 2100
MAX_COMMENT_BYTES = 200
_SUNDAY_AGAIN = 7
"""A day of the week that texts may use for Sunday; messages use 0 only."""
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a calendar.

    Attributes:
        name: the message's field.
        label: how errors name it.
        least, most: the values it may have.
        default: what an empty text means.
        names: words for values.
        shortest_name: how many letters of a word are enough.
    """

    name: str
    label: str
    least: int
    most: int
    default: str = "*"
    names: Mapping[str, int] = field(default_factory=dict)
    shortest_name: int = 0

    @property
    def most_in_text(self) -> int:
        """The largest value that a text may have."""
        return _SUNDAY_AGAIN if self.name == "day_of_week" else self.most


FIELDS = (
    Field("second", "Second", 0, 59, "0"),
    Field("minute", "Minute", 0, 59, "0"),
    Field("hour", "Hour", 0, 23, "0"),
    Field("day_of_week", "DayOfWeek", 0, 6, names={name: i for i, name in enumerate(_DAYS)}, shortest_name=2),
    Field("day_of_month", "DayOfMonth", 1, 31),
    Field("month", "Month", 1, 12, names={name: i for i, name in enumerate(_MONTHS, 1)}, shortest_name=3),
    Field("year", "Year", FIRST_YEAR, LAST_YEAR),
)


def structured(calendar: CalendarSpec) -> StructuredCalendarSpec:
    """A calendar of texts as one of ranges.

    Raises:
        InvalidArgumentError: a text cannot be read; every such field is named.
    """
    result, problems = StructuredCalendarSpec(comment=calendar.comment), []
    for kind in FIELDS:
        try:
            getattr(result, kind.name).extend(parse(getattr(calendar, kind.name), kind))
        except InvalidArgumentError as error:
            problems.append(str(error))
    if problems:
        raise InvalidArgumentError(", ".join(problems))
    return result


def parse(text: str, kind: Field) -> list[Range]:
    """The ranges that a text stands for; every year is none at all.

    Raises:
        InvalidArgumentError: it cannot be read.
    """
    text = text.strip() or kind.default
    if text == "*" and kind.name == "year":
        return []
    return [found for part in text.split(",") for found in _parse_part(part, kind)]


def _parse_part(part: str, kind: Field) -> Iterable[Range]:
    part, step = _split_step(part, kind)
    start, end = kind.least, kind.most_in_text
    if part != "*":
        if part.count("-") > 1:
            raise InvalidArgumentError(f"{kind.label} has too many dashes")
        limits = f"[{kind.least}-{kind.most_in_text}]"
        first, dash, last = part.partition("-")
        found = _value(first, kind, kind.least)
        if found is None:
            raise InvalidArgumentError(f"{kind.label}{' Start' if dash else ''} is not in range {limits}")
        start = found
        if dash:
            found = _value(last, kind, start)
            if found is None:
                raise InvalidArgumentError(f"{kind.label} End is before Start or not in range {limits}")
            end = found
        elif not step:
            end = start
    step = step or 1
    if kind.name == "day_of_week" and end == _SUNDAY_AGAIN:
        if (_SUNDAY_AGAIN - start) % step == 0 and (step > 1 or start > 1):
            yield Range()
            if start == _SUNDAY_AGAIN:
                return
        end = kind.most
    yield Range(start=start, end=0 if end == start else end, step=0 if step == 1 else step)


def _split_step(part: str, kind: Field) -> tuple[str, int]:
    """The part without its step, and the step; 0 where there is none."""
    if part.count("/") > 1:
        raise InvalidArgumentError(f"{kind.label} has too many slashes")
    part, slash, text = part.partition("/")
    if not slash:
        return part, 0
    if not text:
        raise InvalidArgumentError(f"{kind.label} missing step value")
    step = _number(text)
    if step is None or not 1 <= step < 1 << 31:
        raise InvalidArgumentError(f"{kind.label} has invalid Step")
    return part, step


def _value(text: str, kind: Field, least: int) -> int | None:
    word = text.lower()
    value = _number(text)
    if kind.shortest_name and len(word) >= kind.shortest_name:
        value = next((number for name, number in kind.names.items() if name.startswith(word)), value)
    return value if value is not None and least <= value <= kind.most_in_text else None


def _number(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("+", "-") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None


def check(calendar: StructuredCalendarSpec) -> None:
    """Checks the ranges of a calendar.

    Raises:
        InvalidArgumentError: a value is out of its field's range, or the comment is too long.
    """
    problems = []
    for kind in FIELDS:
        limits = f"[{kind.least}-{kind.most}]"
        for item in getattr(calendar, kind.name):
            if not kind.least <= item.start <= kind.most:
                problems.append(f"{kind.label} Start is not in range {limits}")
            if item.end and not item.start <= item.end <= kind.most:
                problems.append(f"{kind.label} End is before Start or not in range {limits}")
            if item.step < 0:
                problems.append(f"{kind.label} has invalid Step")
    if len(calendar.comment.encode()) > MAX_COMMENT_BYTES:
        problems.append("comment is too long")
    if problems:
        raise InvalidArgumentError("invalid calendar spec: " + ", ".join(problems))


def fill(calendar: StructuredCalendarSpec) -> None:
    """Writes out the ends and steps that ranges leave open, as descriptions show them."""
    for kind in FIELDS:
        for item in getattr(calendar, kind.name):
            item.end = max(item.end, item.start)
            item.step = item.step or 1


def values(ranges: Iterable[Range]) -> tuple[int, ...]:
    """Every value of some ranges, ascending."""
    found: set[int] = set()
    for item in ranges:
        found.update(range(item.start, max(item.end, item.start) + 1, item.step or 1))
    return tuple(sorted(found))
