"""Values for people: times, durations, names of enum values, payloads, and where in a message they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perdure.cli.command import printable

_TIMESTAMP: Final = "google.protobuf.Timestamp"
_DURATION: Final = "google.protobuf.Duration"
_STEPS: Final = (
    (60, 1, "second"), (3600, 60, "minute"), (86_400, 3600, "hour"), (604_800, 86_400, "day"),
    (2_629_800, 604_800, "week"), (31_557_600, 2_629_800, "month"), (float("inf"), 31_557_600, "year"),
)  # fmt: skip
_NANOSECONDS: Final = 1_000_000_000
_NO_TIME_S: Final = -62_135_596_800
"""How servers written in Go say that there is no time."""


def time_of(message: Any) -> datetime | None:
    """A `Timestamp` as a time; None for none, which the year 1 means as well."""
    if (not message.seconds and not message.nanos) or message.seconds <= _NO_TIME_S:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(
        seconds=message.seconds, microseconds=message.nanos // 1000
    )


def relative(moment: datetime, now: datetime) -> str:
    """`3 minutes ago`, `in 2 days`."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    for limit, unit, name in _STEPS:
        if abs(seconds) < limit:
            count = int(abs(seconds) // unit)
            words = f"{count} {name}{'' if count == 1 else 's'}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return moment.isoformat()


def go_duration(nanoseconds: int) -> str:
    """A duration in the spelling that flags take: `1h30m0s`, `1.5s`, `20ms`."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest == 0:
        return "0s"
    if rest < _NANOSECONDS:
        for unit, name in ((1_000_000, "ms"), (1000, "µs"), (1, "ns")):
            if rest >= unit:
                return f"{sign}{_decimal(rest, unit)}{name}"
    minutes, rest = divmod(rest, 60 * _NANOSECONDS)
    hours, minutes = divmod(minutes, 60)
    shown = f"{_decimal(rest, _NANOSECONDS)}s"
    if hours or minutes:
        shown = f"{minutes}m{shown}"
    return sign + (f"{hours}h{shown}" if hours else shown)


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = str(part).rjust(len(str(unit)) - 1, "0").rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def spaced_duration(nanoseconds: int) -> str:
    """A duration with days and spaces: `3d 0h 0m 0s`, as the official command shows schedules and backlogs."""

    def with_days(match: re.Match[str]) -> str:
        hours = int(match[0][:-1])
        return match[0] if hours < 24 else f"{hours // 24}d{hours % 24}h"

    return re.sub(r"([a-z])", r"\1 ", re.sub(r"\d+h", with_days, go_duration(nanoseconds))).strip()


def nanoseconds_of(message: Any) -> int:
    """A `Duration` in nanoseconds."""
    return int(message.seconds) * _NANOSECONDS + int(message.nanos)


def enum_label(name: str, enum_name: str) -> str:
    """`Completed` for `WORKFLOW_EXECUTION_STATUS_COMPLETED` of `WorkflowExecutionStatus`."""
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum_name).upper() + "_"
    rest = name.removeprefix(prefix)
    return "".join(part.capitalize() for part in rest.split("_"))


def look(message: Any, path: str) -> Any:
    """What is at a dotted path in a message, for people; None where nothing is."""
    for name in path.split("."):
        if not isinstance(message, Message):
            return None
        descriptor: Any = message.DESCRIPTOR
        field = descriptor.fields_by_name.get(name)
        if field is None or (field.has_presence and not message.HasField(name)):
            return None
        message = _readable(getattr(message, name), field)
    return message


def _readable(value: Any, field: FieldDescriptor) -> Any:
    if field.enum_type is not None and not field.is_repeated:
        named = field.enum_type.values_by_number.get(value)
        return enum_label(named.name, field.enum_type.name) if named else value
    if field.message_type is not None and not field.is_repeated:
        if field.message_type.full_name == _TIMESTAMP:
            return time_of(value)
        if field.message_type.full_name == _DURATION:
            return timedelta(microseconds=nanoseconds_of(value) // 1000)
    if field.is_repeated:
        return dict(value) if isinstance(value, Mapping) else list(value)
    return value


def to_json(value: Any, *, has_short_payloads: bool = True) -> Any:
    """A value, with messages anywhere inside, as JSON has it."""
    if isinstance(value, Message):
        from perdure.server.doors.http.messages import to_value

        return to_value(value, has_short_payloads=has_short_payloads)
    if isinstance(value, Mapping):
        return {str(key): to_json(each, has_short_payloads=has_short_payloads) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each, has_short_payloads=has_short_payloads) for each in value]
    return value


class Shown:
    """Turns values into text.

    Args:
        time_format: `relative`, `iso` or `raw`.
        now: the time that relative times refer to.
    """

    def __init__(self, time_format: str, now: datetime) -> None:
        self._time_format = time_format
        self._now = now

    def __call__(self, value: Any) -> str:
        """The text of a value; empty for nothing."""
        if value is None or value == "" or value == [] or value == {}:
            return ""
        if isinstance(value, datetime):
            return self.time(value)
        if isinstance(value, timedelta):
            return go_duration(round(value / timedelta(microseconds=1)) * 1000)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return printable(value)
        if isinstance(value, float):
            return f"{value:g}"
        if isinstance(value, Sequence) and all(isinstance(each, str) for each in value):
            return printable(", ".join(value))
        return json.dumps(to_json(value), ensure_ascii=False, default=str)

    def time(self, moment: datetime) -> str:
        """The text of a time."""
        if self._time_format == "relative":
            return relative(moment, self._now)
        if self._time_format == "raw":
            return str(moment)
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def failure_text(failure: Any, indent: str = "") -> str:
    """A failure and its causes, a line each, with stack traces below."""
    lines = []
    while failure is not None:
        kind = failure.WhichOneof("failure_info") or ""
        type_name = failure.application_failure_info.type if kind == "application_failure_info" else ""
        lines.append(f"{indent}{type_name + ': ' if type_name else ''}{failure.message}")
        lines += [f"{indent}    {line}" for line in failure.stack_trace.splitlines()]
        failure = failure.cause if failure.HasField("cause") else None
        indent += "  "
        if failure is not None:
            lines.append(f"{indent[2:]}caused by")
    return "\n".join(lines)
