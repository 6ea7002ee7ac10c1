"""What gRPC adds to HTTP/2: length-prefixed messages, compression, timeouts, status trailers. No state, no I/O.

Requests are decompressed, answers are never compressed.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from enum import IntEnum
from typing import Final

from perdure.server.doors.http2.hpack_fields import field

PREFIX_BYTES: Final = 5
prefix = struct.Struct(">BI")
"""Compressed or not, length."""
ACCEPTED_ENCODINGS: Final = b"identity,gzip,deflate"
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
_UNIT_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
MAX_TIMEOUT_DIGITS: Final = 8
_FIELD_OVERHEAD_BYTES: Final = 32
_SHORTEST_MESSAGE_BYTES: Final = 256
"""A status message is not cut below this in favour of the details."""


class Code(IntEnum):
    """The gRPC status codes that the protocol itself gives."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class StatusError(Exception):
    """Ends a call with a status.

    Args:
        code: the gRPC status code.
        message: for people.
        details: a serialised google.rpc.Status, or nothing.
    """

    def __init__(self, code: int, message: str, details: bytes = b"") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


def too_large(size_bytes: int, max_bytes: int) -> StatusError:
    """The status of a message that is too long. Official SDKs recognise the text and do not repeat the request."""
    text = f"grpc: received message larger than max ({size_bytes} vs. {max_bytes})"
    return StatusError(Code.RESOURCE_EXHAUSTED, text)


def read_timeout_s(value: bytes) -> float | None:
    """A grpc-timeout in seconds, None if it is malformed."""
    digits, unit_s = value[:-1], _UNIT_S.get(value[-1:])
    if unit_s is None or not digits.isdigit() or len(digits) > MAX_TIMEOUT_DIGITS:
        return None
    return int(digits) * unit_s


def read_message(body: bytes | bytearray, encoding: str, max_bytes: int) -> bytes:
    """The one message inside a length-prefixed body, decompressed.

    Args:
        body: prefix and message, nothing more.
        encoding: the call's grpc-encoding.
        max_bytes: longest message, compressed or not.

    Raises:
        StatusError: there is not exactly one message, or it is too large, or its compression is unknown or damaged.
    """
    if len(body) < PREFIX_BYTES:
        text = "the request ended inside a message" if body else "the request has no message"
        raise StatusError(Code.INTERNAL if body else Code.UNIMPLEMENTED, text)
    is_compressed, length = prefix.unpack_from(body)
    if length > max_bytes:
        raise too_large(length, max_bytes)
    if length != len(body) - PREFIX_BYTES:
        if length > len(body) - PREFIX_BYTES:
            raise StatusError(Code.INTERNAL, "the request ended inside a message")
        raise StatusError(Code.UNIMPLEMENTED, "more than one message in the request of a unary call")
    message = bytes(body[PREFIX_BYTES:])
    return _decompressed(message, is_compressed, encoding, max_bytes) if is_compressed else message


def _decompressed(message: bytes, flag: int, encoding: str, max_bytes: int) -> bytes:
    if flag != 1:
        raise StatusError(Code.INTERNAL, f"a message with the unknown flags {flag}")
    if encoding == "identity":
        raise StatusError(Code.INTERNAL, "a compressed message in a call without grpc-encoding")
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = inflater.decompress(message, max_bytes + 1)
    except zlib.error as error:
        raise StatusError(Code.INTERNAL, f"the compressed message is damaged: {error}") from error
    if len(plain) > max_bytes:
        raise too_large(len(plain), max_bytes)
    if not inflater.eof:
        raise StatusError(Code.INTERNAL, "the compressed message is cut short")
    return plain


def check_encoding(encoding: str) -> None:
    """Refuses a call whose messages could not be read.

    Raises:
        StatusError: the compression is unknown.
    """
    if encoding != "identity" and encoding not in _WINDOW_BITS:
        raise StatusError(Code.UNIMPLEMENTED, f"messages compressed with {encoding!r} are not supported")


def percent_encoded(message: str) -> bytes:
    """A status message as gRPC sends it: printable ASCII, everything else escaped."""
    text = message.encode("utf-8", "replace")
    if text.isascii() and message.isprintable() and b"%" not in text:
        return text
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in text
    )


def _cut(encoded: bytes, max_bytes: int) -> bytes:
    """The first bytes of a percent-encoded message, without half an escape or half a character at its end."""
    if len(encoded) <= max_bytes:
        return encoded
    text = encoded[: max(0, max_bytes)]
    if b"%" in text[-2:]:
        text = text[: text.rindex(b"%")]
    # Bytes of one character follow each other as escapes: drop continuation bytes, then the byte that leads them.
    while text[-3:-2] == b"%" and 0x80 <= int(text[-2:], 16) <= 0xBF:
        text = text[:-3]
    if text[-3:-2] == b"%" and int(text[-2:], 16) >= 0xC0:
        text = text[:-3]
    return text


def status_trailers(error: StatusError, max_list_bytes: int) -> bytes:
    """The header block that ends a failed call.

    Clients refuse header lists that are too long, and the call would then end without its status. So the message is
    cut until all fits, and if that is not enough the details are left out.

    Args:
        error: the status.
        max_list_bytes: longest header list the peer takes, counted as HTTP/2 does.
    """
    room = max_list_bytes - _list_bytes(b"grpc-status", b"16") - _list_bytes(b"grpc-message", b"")
    details = binascii.b2a_base64(error.details, newline=False).rstrip(b"=") if error.details else b""
    if details:
        needed = _list_bytes(b"grpc-status-details-bin", details)
        if needed + _SHORTEST_MESSAGE_BYTES <= room:
            room -= needed
        else:
            details = b""
    block = field(b"grpc-status", str(int(error.code)).encode())
    if error.message:
        block += field(b"grpc-message", _cut(percent_encoded(error.message), room))
    if details:
        block += field(b"grpc-status-details-bin", details)
    return block


def _list_bytes(name: bytes, value: bytes) -> int:
    return len(name) + len(value) + _FIELD_OVERHEAD_BYTES
