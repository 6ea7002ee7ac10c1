"""Messages of `google.protobuf` itself where one of ours is due: `Duration`, `FieldMask` and others of the same name.

Our classes live in a pool of their own, so protobuf takes the public package's `duration_pb2.Duration` for something
else and refuses it, although applications have it at hand. Classes that an application fills in take both here. Classes
that histories and commands are made of do not: they are made by the thousand, and by nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_WELL_KNOWN: Final = "google.protobuf."
_CLOSED: Final = (
    "google.",
    "temporal.api.command.",
    "temporal.api.failure.",
    "temporal.api.history.",
    "temporal.api.protocol.",
    "temporal.api.worker.",
)
# Without a reference protobuf would drop a class and make it again later, as it was.
_kept: dict[str, type[Message]] = {}


def opened(message_class: type[Message]) -> type[Message]:
    """Returns a class, which from now on takes messages of the public package if it is one that applications fill in."""
    descriptor = message_class.DESCRIPTOR
    name = descriptor.full_name
    if name in _kept:
        return message_class
    if name.startswith(_WELL_KNOWN) and descriptor.file.name != "google/protobuf/descriptor.proto":
        _open_well_known(message_class)
    elif not name.startswith(_CLOSED) and not name.endswith("Response"):
        fields: Iterable[Any] = descriptor.fields
        due = {
            field.name: GetMessageClass(field.message_type)
            for field in fields
            if field.message_type is not None and field.message_type.full_name.startswith(_WELL_KNOWN)
        }
        for well_known in due.values():
            _open_well_known(well_known)
        if due:
            _open_constructor(message_class, due)
    return message_class


def _open_constructor(message_class: type[Message], due: Mapping[str, type[Message]]) -> None:
    make: Callable[..., None] = message_class.__init__

    def __init__(self: Message, *args: Any, **fields: Any) -> None:
        try:
            make(self, *args, **fields)
        except TypeError:
            known = {name: _ours(fields[name], due[name]) for name in due if name in fields}
            if all(known[name] is fields[name] for name in known):
                raise
            self.Clear()
            make(self, *args, **{**fields, **known})

    _replace(message_class, "__init__", __init__)
    _kept[message_class.DESCRIPTOR.full_name] = message_class


def _ours(value: Any, target: type[Message]) -> Any:
    if isinstance(value, Message):
        return _converted(value, target)
    if isinstance(value, list | tuple):
        ours = [_ours(one, target) for one in value]
        return value if all(one is other for one, other in zip(ours, value, strict=True)) else ours
    return value


def _converted(value: Message, target: type[Message]) -> Message:
    """A message of another pool as one of ours; anything else as it is."""
    is_namesake = value.DESCRIPTOR.full_name == target.DESCRIPTOR.full_name
    return (
        target.FromString(value.SerializeToString())
        if is_namesake and not isinstance(value, target)
        else value
    )


def _open_well_known(message_class: type[Message]) -> None:
    name = message_class.DESCRIPTOR.full_name
    if name not in _kept:
        _kept[name] = message_class
        for method in ("CopyFrom", "MergeFrom"):
            _open_method(message_class, method)


def _open_method(message_class: type[Message], method: str) -> None:
    take: Callable[[Message, Message], None] = getattr(message_class, method)

    def replacement(self: Message, other_msg: Message) -> None:
        try:
            take(self, other_msg)
        except TypeError:
            ours = _ours(other_msg, message_class)
            if ours is other_msg:
                raise
            take(self, ours)

    _replace(message_class, method, replacement)


def _replace(message_class: type[Message], name: str, replacement: Callable[..., None]) -> None:
    replacement.__name__ = name
    replacement.__doc__ = getattr(message_class, name).__doc__
    setattr(message_class, name, replacement)
