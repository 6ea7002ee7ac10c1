"""What a call sends and what its answer means: header blocks, statuses, the message itself. No state, no I/O."""

from __future__ import annotations

import binascii
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from perdure.server.doors.http2.frames import ErrorCode
from perdure.server.doors.http2.grpc_messages import StatusError, check_encoding, prefix, read_message
from perdure.server.doors.http2.hpack_fields import field
from perdure.service._errors import NoGrpcAnswerError, RPCError, RPCStatusCode

_POST_HTTP: Final = b"\x83\x86"
"""`:method POST` and `:scheme http`, from HPACK's static table."""
_COMMON: Final = field(b"content-type", b"application/grpc") + field(b"te", b"trailers")
_MAX_TIMEOUT: Final = 99_999_999
_GZIP_WINDOW_BITS: Final = 31
_HTTP_STATUSES: Final[Mapping[str, RPCStatusCode]] = {
    "400": RPCStatusCode.INTERNAL,
    "401": RPCStatusCode.UNAUTHENTICATED,
    "403": RPCStatusCode.PERMISSION_DENIED,
    "404": RPCStatusCode.UNIMPLEMENTED,
    "429": RPCStatusCode.UNAVAILABLE,
    "502": RPCStatusCode.UNAVAILABLE,
    "503": RPCStatusCode.UNAVAILABLE,
    "504": RPCStatusCode.UNAVAILABLE,
}
_RESET_STATUSES: Final[Mapping[int, RPCStatusCode]] = {
    ErrorCode.REFUSED_STREAM: RPCStatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: RPCStatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: RPCStatusCode.RESOURCE_EXHAUSTED,
}

Headers = dict[str, str]


def call_headers(
    authority: str, path: str, metadata: Mapping[str, str | bytes], more: Iterable[bytes]
) -> bytes:
    """Return the header block of a call, except its timeout, which may follow.

    Args:
        authority: `host:port` of the server.
        path: The method's.
        metadata: The call's; values of bytes are sent as base64.
        more: Further fields, encoded.
    """
    block = bytearray(_POST_HTTP)
    block += field(b":path", path.encode())
    block += field(b":authority", authority.encode())
    block += _COMMON
    for encoded in more:
        block += encoded
    for key, item in metadata.items():
        if isinstance(item, bytes):
            block += field(key.encode(), binascii.b2a_base64(item, newline=False).rstrip(b"="))
        else:
            block += field(key.encode(), item.encode())
    return bytes(block)


def timeout_field(timeout_s: float) -> bytes:
    """Return the field that tells the server how long the caller waits."""
    if timeout_s < 10:
        return field(b"grpc-timeout", b"%du" % max(1, math.ceil(timeout_s * 1e6)))
    return field(b"grpc-timeout", b"%dm" % min(_MAX_TIMEOUT, math.ceil(timeout_s * 1e3)))


def message(data: bytes, compress: bool) -> bytes:
    """Return a message as the body of a call."""
    if not compress:
        return prefix.pack(0, len(data)) + data
    compressor = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW_BITS)
    packed = compressor.compress(data) + compressor.flush()
    return prefix.pack(1, len(packed)) + packed


def read_answer(head: Headers, trailers: Headers, body: bytearray, max_bytes: int) -> bytes:
    """Return the message of an answer.

    Args:
        head: The first header block; the same as `trailers` if there was only one.
        trailers: The last header block.
        body: What came between them.
        max_bytes: Longest message.

    Raises:
        RPCError: The answer is an error, or is damaged.
    """
    status = trailers.get("grpc-status")
    if status is None:
        raise _http_error(head)
    if status != "0":
        raise _status_error(status, trailers)
    try:
        encoding = head.get("grpc-encoding", "identity")
        check_encoding(encoding)
        return read_message(body, encoding, max_bytes)
    except StatusError as error:
        code = RPCStatusCode(int(error.code))
        raise RPCError(error.message.replace("request", "answer"), code, b"") from error


def reset_error(code: int) -> RPCError:
    """Return the error of a call that the server ended without an answer."""
    status = _RESET_STATUSES.get(code, RPCStatusCode.INTERNAL)
    return RPCError(f"the server ended the call without an answer (HTTP/2 error {code})", status, b"")


def _status_error(status: str, trailers: Headers) -> RPCError:
    number = int(status) if status.isdigit() else int(RPCStatusCode.UNKNOWN)
    known = number in RPCStatusCode._value2member_map_
    text = unquote_to_bytes(trailers.get("grpc-message", "")).decode("utf-8", "replace")
    details = trailers.get("grpc-status-details-bin", "")
    try:
        raw = binascii.a2b_base64(details + "=" * (-len(details) % 4))
    except binascii.Error:
        raw = b""
    return RPCError(text, RPCStatusCode(number) if known else RPCStatusCode.UNKNOWN, raw)


def _http_error(head: Headers) -> RPCError:
    http_status = head.get(":status", "none")
    if http_status == "200":
        return RPCError("the server ended the call without a status", RPCStatusCode.INTERNAL, b"")
    text = f"unexpected HTTP status {http_status}: what answers there is no gRPC server"
    return NoGrpcAnswerError(text, _HTTP_STATUSES.get(http_status, RPCStatusCode.UNKNOWN), b"")
