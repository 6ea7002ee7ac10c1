"""Literals of a query to typed values: numbers, datetimes, durations, execution statuses.

Lives here: conversions of single values and their error texts. May not: operators, attributes' names and
trees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Final, TypeAlias

from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility.attributes import (
    EXECUTION_DURATION,
    EXECUTION_STATUS,
    Attribute,
    AttributeType,
)
from perdure.core.visibility.nodes import Scalar

Literal: TypeAlias = str | int | float | bool
"""A value as it stands in the text, before its attribute's type is considered."""

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

_NS_PER_SECOND: Final = 1_000_000_000
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_INTEGER: Final = re.compile(r"[0-9]+")
_REAL: Final = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_CLOCK: Final = re.compile(r"([0-9]+):([0-9]{1,2}):([0-9]{1,2})")
_DURATION: Final = re.compile(r"([+-]?)((?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h|d))+|0)")
_DURATION_PART: Final = re.compile(r"([0-9]*)\.?([0-9]*)(ns|us|µs|μs|ms|s|m|h|d)")
_MAX_DURATION_CHARS: Final = 100
_UNIT_NS: Final[Mapping[str, int]] = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": _NS_PER_SECOND,
    "m": 60 * _NS_PER_SECOND,
    "h": 3_600 * _NS_PER_SECOND,
    "d": 86_400 * _NS_PER_SECOND,
}

EXECUTION_STATUSES: Final[Mapping[str, int]] = {
    "Unspecified": 0,
    "Running": 1,
    "Completed": 2,
    "Failed": 3,
    "Canceled": 4,
    "Terminated": 5,
    "ContinuedAsNew": 6,
    "TimedOut": 7,
    "Paused": 8,
}
"""Names of `temporal.api.enums.v1.WorkflowExecutionStatus` in queries."""

_STATUS_PREFIX: Final = "WORKFLOW_EXECUTION_STATUS_"
_STATUS_NUMBERS: Final[Mapping[str, int]] = {
    **EXECUTION_STATUSES,
    # The enum's long names are accepted as well: WORKFLOW_EXECUTION_STATUS_TIMED_OUT.
    **{
        _STATUS_PREFIX + re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): number
        for name, number in EXECUTION_STATUSES.items()
    },
}


def invalid(reason: str) -> InvalidArgumentError:
    """Make the error of a query that cannot be used."""
    return InvalidArgumentError(f"invalid query: {reason}")


def invalid_expression(reason: str) -> InvalidArgumentError:
    """Make the error of a part of a query that makes no sense."""
    return invalid(f"invalid expression: {reason}")


def not_supported(reason: str) -> InvalidArgumentError:
    """Make the error of something that SQL has and queries have not."""
    return invalid(f"operation is not supported: {reason}")


def parse_number(text: str, *, negative: bool = False) -> int | float:
    """Convert an unquoted number.

    Args:
        text: digits with an optional fraction and exponent, no sign.
        negative: a minus sign stands before it.

    Returns:
        An int if it is written as one and fits 64 bits, else a float.

    Raises:
        InvalidArgumentError: it is not a number or too large for a float.
    """
    sign = "-" if negative else ""
    digits = text.lstrip("0") or "0"
    # More than nineteen digits cannot fit, and Python refuses to convert very long ones.
    if _INTEGER.fullmatch(text) and len(digits) <= 19:
        number = int(sign + digits)
        if INT64_MIN <= number <= INT64_MAX:
            return number
    if _REAL.fullmatch(text):
        real = float(sign + text)
        if math.isfinite(real):
            return real
    raise invalid_expression(f'unable to parse value "{shorten(sign + text)}"')


def typed_value(attribute: Attribute, name: str, literal: Literal) -> Scalar:
    """Convert a literal to the type of the attribute it is compared with.

    Args:
        attribute: the attribute.
        name: what the query calls it, for errors.
        literal: the value in the text.

    Returns:
        The typed value. For an INT attribute it can also be a float, which the caller must round.

    Raises:
        InvalidArgumentError: the literal is of another type or cannot be understood.
    """
    if attribute.name == EXECUTION_STATUS:
        return _execution_status(attribute, name, literal)
    if attribute.name == EXECUTION_DURATION:
        return _execution_duration(attribute, name, literal)
    is_number = isinstance(literal, int | float) and not isinstance(literal, bool)
    match attribute.type:
        case AttributeType.INT if is_number:
            return literal
        case AttributeType.DOUBLE if is_number:
            return float(literal)
        case AttributeType.BOOL if isinstance(literal, bool):
            return literal
        case AttributeType.DATETIME if isinstance(literal, str):
            return parse_datetime(literal)
        case AttributeType.DATETIME if isinstance(literal, int) and is_number:
            return literal
        case AttributeType.KEYWORD | AttributeType.KEYWORD_LIST | AttributeType.TEXT:
            if isinstance(literal, str):
                return literal
    raise _wrong_type(attribute, name, literal)


def parse_datetime(text: str) -> int:
    """Convert an RFC 3339 datetime such as `2024-05-01T12:00:00.5+02:00`.

    Returns:
        Nanoseconds since 1970 UTC, cut to 64 bits (the years 1677 to 2262).

    Raises:
        InvalidArgumentError: it is not one.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise _bad_datetime(text)
    year, month, day, hour, minute, second = (int(group) for group in found.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = found.groups()[6:]
    away_hours, away_minutes = int(offset_hours or 0), int(offset_minutes or 0)
    if hour > 23 or minute > 59 or second > 59 or away_hours > 23 or away_minutes > 59:
        raise _bad_datetime(text)
    offset_s = (away_hours * 3600 + away_minutes * 60) * (-1 if sign == "-" else 1)
    try:
        # Python has no year 0; the year 400 has the same calendar, and both are cut to the same limit.
        days = date(year or 400, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        raise _bad_datetime(text) from None
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset_s
    nanoseconds = int((fraction or "")[:9].ljust(9, "0"))
    return min(max(seconds * _NS_PER_SECOND + nanoseconds, INT64_MIN), INT64_MAX)


def parse_duration(text: str) -> int | None:
    """Convert a duration: `90m`, `1h30m`, `-1.5s`, `2d`, `1:30:00`, or a number of nanoseconds.

    Returns:
        Nanoseconds, or None if it is not a duration or does not fit 64 bits.
    """
    if len(text) > _MAX_DURATION_CHARS:
        return None
    if _INTEGER.fullmatch(text.removeprefix("-")):
        total = int(text)
    elif clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (int(group) for group in clock.groups())
        if minutes > 59 or seconds > 59:
            return None
        total = (hours * 3600 + minutes * 60 + seconds) * _NS_PER_SECOND
    elif found := _DURATION.fullmatch(text):
        total = sum(
            int(whole or 0) * _UNIT_NS[unit] + int(fraction or 0) * _UNIT_NS[unit] // 10 ** len(fraction)
            for whole, fraction, unit in _DURATION_PART.findall(found[2])
        )
        total = -total if found[1] == "-" else total
    else:
        return None
    return total if INT64_MIN <= total <= INT64_MAX else None


def shorten(text: str) -> str:
    """Cut a piece of a query to a length that is fit for an error message."""
    return text if len(text) <= 100 else text[:97] + "..."


def _execution_status(attribute: Attribute, name: str, literal: Literal) -> int:
    if isinstance(literal, bool):
        raise _wrong_type(attribute, name, literal)
    if isinstance(literal, float):
        raise invalid_expression(f"unexpected value type float64 for search attribute {attribute.name}")
    if isinstance(literal, int):
        if literal in EXECUTION_STATUSES.values():
            return literal
        raise invalid_expression(f"invalid {attribute.name} value {literal}")
    if literal in _STATUS_NUMBERS:
        return _STATUS_NUMBERS[literal]
    raise invalid_expression(f"invalid {attribute.name} value '{shorten(literal)}'")


def _execution_duration(attribute: Attribute, name: str, literal: Literal) -> int:
    if isinstance(literal, bool):
        raise _wrong_type(attribute, name, literal)
    if isinstance(literal, float):
        raise invalid_expression(f"unexpected value type float64 for search attribute {attribute.name}")
    if isinstance(literal, int):
        return literal
    duration_ns = parse_duration(literal)
    if duration_ns is None:
        raise invalid_expression(
            f"invalid duration value for search attribute {attribute.name}: {shorten(literal)}"
        )
    return duration_ns


def _bad_datetime(text: str) -> InvalidArgumentError:
    return invalid_expression(f"unable to parse datetime '{shorten(text)}'")


_SHOWN_TYPES: Final[Mapping[type, str]] = {bool: "bool", int: "int64", float: "float64", str: "string"}


def _wrong_type(attribute: Attribute, name: str, literal: Literal) -> InvalidArgumentError:
    if isinstance(literal, str):
        shown = f'"{shorten(literal)}"'
    elif isinstance(literal, bool):
        shown = "true" if literal else "false"
    else:
        shown = str(literal)
    return invalid_expression(
        f"invalid value type for search attribute {name} of type {attribute.type.label}: "
        f"{shown} (type: {_SHOWN_TYPES[type(literal)]})"
    )
