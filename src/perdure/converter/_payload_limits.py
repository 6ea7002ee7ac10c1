"""How large the payloads of a message are, field by field, to warn before a server refuses them.

Which fields of which message hold payloads is read from the descriptors once per type. What is done about a
size is for the callers to decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf.message import Message

_PAYLOADS, _MEMO = "payloads", "memo"

_KINDS = {
    "temporal.api.common.v1.Payloads": _PAYLOADS,
    "temporal.api.common.v1.Payload": _PAYLOADS,
    "temporal.api.common.v1.Memo": _MEMO,
}

# Servers limit these in other ways, or not at all.
_NOT_MEASURED = frozenset({"temporal.api.common.v1.Header", "temporal.api.common.v1.SearchAttributes"})


@dataclass(frozen=True)
class PayloadSizeLimits:
    """From which size on a field counts as large, in bytes; 0 for never."""

    payloads_bytes: int
    memo_bytes: int
    smallest_bytes: int = field(init=False)
    """The smaller of the two that are set; 0 when neither is."""

    def __post_init__(self) -> None:
        """Works the smaller one out, once."""
        smallest = min((limit for limit in (self.payloads_bytes, self.memo_bytes) if limit), default=0)
        object.__setattr__(self, "smallest_bytes", smallest)

    def limit_of(self, kind: str) -> int:
        """Return the limit for a kind of field."""
        return self.memo_bytes if kind == _MEMO else self.payloads_bytes


@dataclass(frozen=True)
class LargeField:
    """A field that is larger than its limit."""

    path: str
    """Where it is in the message, such as `commands[2].schedule_activity_task_command_attributes.input`."""

    kind: str
    """`payloads` or `memo`."""

    size_bytes: int
    limit_bytes: int


def large_fields(message: Message, limits: PayloadSizeLimits) -> list[LargeField]:
    """Return the fields of a message, at any depth, whose payloads are larger than a limit.

    Args:
        message: Usually a request about to be sent.
        limits: What counts as large.
    """
    smallest = limits.smallest_bytes
    # The usual case, decided without a walk: what is small as a whole has no large part.
    if not smallest or message.ByteSize() <= smallest:
        return []
    return list(_walk(message, "", limits, smallest))


def _walk(message: Message, prefix: str, limits: PayloadSizeLimits, smallest: int) -> Iterator[LargeField]:
    for name, kind, is_repeated in _fields_with_payloads(message.DESCRIPTOR):
        if not is_repeated and not message.HasField(name):
            continue
        value: Any = getattr(message, name)
        for index, part in enumerate(value) if is_repeated else ((None, value),):
            size = part.ByteSize()
            if size <= smallest:
                continue
            path = f"{prefix}{name}" if index is None else f"{prefix}{name}[{index}]"
            if kind is None:
                yield from _walk(part, f"{path}.", limits, smallest)
                continue
            limit = limits.limit_of(kind)
            if limit and size > limit:
                yield LargeField(path, kind, size, limit)


@cache
def _fields_with_payloads(descriptor: Any) -> tuple[tuple[str, str | None, bool], ...]:
    """Return name, kind and whether it is repeated, of each field that holds payloads; None to look inside."""
    fields = []
    for each in descriptor.fields:
        kind = _kind_inside(each)
        if kind is not None:
            fields.append((each.name, kind or None, bool(each.is_repeated)))
    return tuple(fields)


def _kind_inside(field: Any) -> str | None:
    """Return the kind of a field; an empty text if payloads are somewhere inside it, None if there are none."""
    inner = field.message_type
    if inner is None or inner.GetOptions().map_entry or inner.full_name in _NOT_MEASURED:
        return None
    return _KINDS.get(inner.full_name) or ("" if _reaches_payloads(inner) else None)


@cache
def _reaches_payloads(descriptor: Any) -> bool:
    seen = {descriptor.full_name}
    waiting = [descriptor]
    while waiting:
        for each in waiting.pop().fields:
            inner = each.message_type
            if inner is None or inner.full_name in seen or inner.full_name in _NOT_MEASURED:
                continue
            if inner.full_name in _KINDS:
                return True
            seen.add(inner.full_name)
            waiting.append(inner)
    return False
