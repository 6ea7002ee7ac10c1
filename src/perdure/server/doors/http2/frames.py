"""HTTP/2 frames as RFC 9113 lays them out: numbers, packing, and the two kinds of protocol error. No state."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9
DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1
DEFAULT_FRAME_BYTES: Final = 16_384
MAX_FRAME_BYTES: Final = 2**24 - 1

# Plain integers, not an enumeration: these are compared for every frame.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

frame_header = struct.Struct(">HBBBI")
"""Length (high 16 bits, low 8 bits), type, flags, stream."""
unsigned = struct.Struct(">I")
setting = struct.Struct(">HI")

MAX_DEBUG_BYTES: Final = 200
"""Longest explanation in a GOAWAY."""


class ErrorCode(IntEnum):
    """Why a stream or a connection was ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionBrokenError(Exception):
    """The peer broke the protocol so that the connection cannot go on: it ends with GOAWAY.

    Args:
        code: what the GOAWAY says.
        message: for people, sent along.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamBrokenError(Exception):
    """The peer broke the protocol on one stream: it ends with RST_STREAM, the others go on.

    Args:
        stream_id: which one.
        code: what the RST_STREAM says.
        message: for the log.
    """

    def __init__(self, stream_id: int, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.stream_id = stream_id
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return frame_header.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(setting.pack(key, value) for key, value in values.items()))


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame for a stream, or (0) for the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, unsigned.pack(increment))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, unsigned.pack(code))


def goaway(last_stream_id: int, code: ErrorCode, message: str = "") -> bytes:
    """A GOAWAY frame."""
    debug = message.encode("utf-8", "replace")[:MAX_DEBUG_BYTES]
    return frame(GOAWAY, 0, 0, unsigned.pack(last_stream_id) + unsigned.pack(code) + debug)


def header_frames(stream_id: int, block: bytes, end_stream: bool, max_frame_bytes: int) -> bytes:
    """A header block as one HEADERS frame, followed by CONTINUATION frames if it is longer than a frame."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_frame_bytes:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[start : start + max_frame_bytes] for start in range(0, len(block), max_frame_bytes)]
    first, last = frame(HEADERS, flags, stream_id, parts[0]), len(parts) - 1
    return first + b"".join(
        frame(CONTINUATION, END_HEADERS if number == last else 0, stream_id, parts[number])
        for number in range(1, len(parts))
    )


def unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without padding and priority fields.

    Raises:
        ConnectionBrokenError: it is too short for what its flags announce.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionBrokenError(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without its pad length")
        start, end = 1, end - payload[0]
    if kind == HEADERS and flags & HAS_PRIORITY:
        start += 5
        if start > len(payload):
            raise ConnectionBrokenError(
                ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for its priority fields"
            )
    if start > end:
        raise ConnectionBrokenError(ErrorCode.PROTOCOL_ERROR, "padding longer than the frame")
    return payload[start:end]
