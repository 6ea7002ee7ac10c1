"""The opaque positions of list pages: same bytes in every store, so that they can be tested once.

A cursor holds the sort key of the last row of a page (keyset paging). It stays good when rows come, go or
move.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from perdure.core.errors import InvalidArgumentError

_VERSION = 1
_HEAD = struct.Struct(">Bqq")

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
