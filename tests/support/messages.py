"""Hypothesis strategies for protobuf messages: any message of a class, hostile values included."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

MAX_DEPTH = 4
_TEXTS = st.one_of(
    st.sampled_from(
        ["", "default", "order", "no-such-namespace", "x" * 1001, "\x00", "ä" * 600, "/_sys/queue"]
    ),
    st.text(max_size=12),
)
_NUMBERS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.one_of(
        st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]), st.integers(-5, 5000)
    ),
    FieldDescriptor.CPPTYPE_INT64: st.one_of(
        st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]), st.integers(-5, 5000)
    ),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.one_of(st.integers(0, 8), st.sampled_from([-1, 99, 2**31 - 1])),
}


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=40) if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
    return _NUMBERS[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, cls: type[Message], depth: int = MAX_DEPTH) -> Message:
    """Any message of `cls`: a few fields set to values that are plausible, extreme or nonsense."""
    message = cls()
    fill(draw, message, depth)
    return message


def fill(draw: st.DrawFn, message: Message, depth: int) -> None:
    """Sets some fields of a message."""
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    chosen = draw(st.lists(st.sampled_from(fields), max_size=6, unique_by=lambda f: f.name))
    for field in chosen:
        _set(draw, message, field, depth)


def _set(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    target = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _set_entry(draw, target, field.message_type, depth)
    elif field.message_type is not None:
        part = target.add() if field.is_repeated else target
        part.SetInParent()
        if depth:
            fill(draw, part, depth - 1)
    elif field.is_repeated:
        target.extend(draw(st.lists(_scalar(field), max_size=2)))
    else:
        setattr(message, field.name, draw(_scalar(field)))


def _set_entry(draw: st.DrawFn, target: Any, entry: Descriptor, depth: int) -> None:
    key = draw(_scalar(entry.fields_by_name["key"]))
    value = entry.fields_by_name["value"]
    if value.message_type is None:
        target[key] = draw(_scalar(value))
    elif depth:
        fill(draw, target[key], depth - 1)
