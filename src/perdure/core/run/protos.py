"""Small helpers between protobuf fields and the core's integers. Nothing here knows a primitive."""

from __future__ import annotations

import json

from perdure.api.common.v1 import Payloads
from perdure.api.protobuf import Duration, Timestamp
from perdure.core.errors import InvalidArgumentError

MAX_DURATION_NS = 100 * 365 * 24 * 3600 * 1_000_000_000
"""Durations are capped at a hundred years, as Temporal's server does."""


_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799


def duration_ns(duration: Duration) -> int:
    """A Duration in nanoseconds; unset is 0."""
    return duration.seconds * 1_000_000_000 + duration.nanos


def checked_duration_ns(duration: Duration, name: str) -> int:
    """Like `duration_ns`, capped at a hundred years.

    Raises:
        InvalidArgumentError: negative, seconds and nanos of different signs, or more nanos than a second has.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if seconds * nanos < 0:
        raise InvalidArgumentError(f"invalid {name}: duration has seconds and nanos with different signs")
    if seconds < 0 or nanos < 0:
        raise InvalidArgumentError(f"invalid {name}: negative duration")
    if nanos > 999_999_999:
        raise InvalidArgumentError(f"invalid {name}: nanos out of range")
    value = seconds * 1_000_000_000 + nanos
    return value if value < MAX_DURATION_NS else MAX_DURATION_NS


def cap_duration(duration: Duration, name: str) -> None:
    """Checks a Duration field like `checked_duration_ns` and cuts it to a hundred years; an unset one stays unset."""
    value = checked_duration_ns(duration, name)
    if value != duration_ns(duration):
        set_duration(duration, value)


def set_duration(target: Duration, value_ns: int) -> None:
    """Sets a Duration field (also to an explicit zero, which some SDKs tell from unset)."""
    target.seconds, target.nanos = divmod(value_ns, 1_000_000_000)
    if not value_ns:
        target.SetInParent()


def timestamp_ns(timestamp: Timestamp) -> int:
    """A Timestamp in nanoseconds since the epoch; unset is 0."""
    return timestamp.seconds * 1_000_000_000 + timestamp.nanos


def checked_timestamp_ns(timestamp: Timestamp, name: str) -> int:
    """Like `timestamp_ns`, of a time that calendars have.

    Raises:
        InvalidArgumentError: before the year 1, after the year 9999, or nanos that are no part of a second.
    """
    if not (_FIRST_SECOND <= timestamp.seconds <= _LAST_SECOND and 0 <= timestamp.nanos < 1_000_000_000):
        raise InvalidArgumentError(f"invalid {name}: not between the years 1 and 9999")
    return timestamp_ns(timestamp)


def set_timestamp(target: Timestamp, value_ns: int) -> None:
    """Sets a Timestamp field; 0 leaves it unset."""
    if value_ns:
        target.seconds, target.nanos = divmod(value_ns, 1_000_000_000)


def varint(value: int) -> bytes:
    """A number that is not negative as it stands on the wire, such as before what has a length."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def text_payloads(text: str) -> Payloads:
    """A text as one json/plain payload, for details that the server itself writes."""
    payloads = Payloads()
    payload = payloads.payloads.add()
    payload.metadata["encoding"] = b"json/plain"
    payload.data = json.dumps(text, ensure_ascii=False).encode()
    return payloads
