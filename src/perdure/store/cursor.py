"""The opaque positions of list pages: same bytes in every store, so that they can be tested once.

A cursor holds the sort key of the last row of a page (keyset paging). It stays good when rows come, go or
move.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Final, NamedTuple

from perdure.core.errors import InvalidArgumentError
from perdure.core.visibility import AttributeType

_VERSION = 1
_ORDERED_VERSION = 2
_HEAD = struct.Struct(">Bqq")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

OPEN_CLOSE_KEY = (1 << 63) - 1
"""Stands for the close time of an open run, so that open runs sort before closed ones."""


class ListPosition(NamedTuple):
    """A place in a list: rows come by `close_key` (highest first), `start_time_ns` (highest first), `run_id`
    (lowest first)."""

    close_key: int
    start_time_ns: int
    run_id: str


def close_key(close_time_ns: int | None) -> int:
    """The sort key of a close time; open runs (None) get the highest."""
    return OPEN_CLOSE_KEY if close_time_ns is None else close_time_ns


def encode_cursor(position: ListPosition) -> bytes:
    """Makes the cursor that continues after `position`."""
    return _HEAD.pack(_VERSION, position.close_key, position.start_time_ns) + position.run_id.encode()


def decode_cursor(cursor: bytes) -> ListPosition:
    """Reads a cursor made by `encode_cursor`.

    Raises:
        InvalidArgumentError: it was not.
    """
    try:
        version, closed, started = _HEAD.unpack_from(cursor)
        run_id = bytes(cursor[_HEAD.size :]).decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise InvalidArgumentError("Invalid next page token: it was not given by this server.") from error
    if version != _VERSION or not run_id:
        raise InvalidArgumentError("Invalid next page token: it was not given by this server.")
    return ListPosition(closed, started, run_id)


class OrderedPosition(NamedTuple):
    """A place in a list that is ordered by an attribute, among the runs that have it."""

    value: str | int | float
    run_id: str


_ORDERED_TYPES: Final = {
    AttributeType.KEYWORD: (str,),
    AttributeType.INT: (int, bool),
    AttributeType.DOUBLE: (int, float, bool),
    AttributeType.DATETIME: (int, bool),
}


def encode_ordered_cursor(position: OrderedPosition) -> bytes:
    """Makes the cursor that continues after `position`."""
    return bytes([_ORDERED_VERSION]) + json.dumps(position).encode()


def decode_ordered_cursor(cursor: bytes, attribute_type: AttributeType) -> OrderedPosition | ListPosition:
    """Reads a cursor of an ordered list: a place among the runs that have the attribute, or among the others.

    Raises:
        InvalidArgumentError: it is none, or of another order.
    """
    if cursor[:1] != bytes([_ORDERED_VERSION]):
        return decode_cursor(cursor)
    try:
        value, run_id = json.loads(cursor[1:])
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgumentError("Invalid next page token: it was not given by this server.") from error
    if type(value) not in _ORDERED_TYPES[attribute_type] or not isinstance(run_id, str):
        raise InvalidArgumentError("Invalid next page token: it was given for a list in another order.")
    if not (_is_storable(value) and _is_storable(run_id)):
        raise InvalidArgumentError("Invalid next page token: it was not given by this server.")
    return OrderedPosition(value, run_id)


def _is_storable(value: str | int | float) -> bool:
    """Tell whether a database takes the value: a number of 64 bits, a text without half a surrogate pair."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return not isinstance(value, str) or not _SURROGATE.search(value)
