"""JSON as the official command prints it where it prints records of its own instead of the protocol's messages.

Scripts read that JSON, so ours is the same, odd as some of it is: lists that are null when empty, times of the year 1,
durations in nanoseconds, names of fields as in the protocol files.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import Message

from perdure.cli.show import to_json

NO_TIME: Final = "0001-01-01T00:00:00Z"
_EPOCH: Final = "1970-01-01T00:00:00Z"


def time(message: Any, name: str, otherwise: str = NO_TIME) -> str:
    """A message's time, or what stands for none."""
    return str(to_json(getattr(message, name))) if message.HasField(name) else otherwise


def epoch_time(message: Any, name: str) -> str:
    """A message's time; none is the beginning of 1970."""
    return time(message, name, _EPOCH)


def or_null(items: list[Any]) -> list[Any] | None:
    """A list, null without items."""
    return items or None


def record(message: Message) -> dict[str, Any]:
    """A message by the names of its fields, enums as numbers, without what is not set."""
    return {field.name: _plain(field, value) for field, value in message.ListFields()}


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {key: record(each) if isinstance(each, Message) else each for key, each in value.items()}
    if field.is_repeated:
        return [record(each) if isinstance(each, Message) else each for each in value]
    if isinstance(value, Message):
        return record(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values without those that are empty."""
    return {name: value for name, value in values.items() if value not in (None, "", 0, [], {})}
