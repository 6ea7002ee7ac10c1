"""gRPC's own layer: messages in bodies, timeouts, and statuses as trailers."""

from __future__ import annotations

import base64
import gzip
import zlib
from urllib.parse import unquote

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from perdure.server.doors.http2.grpc_messages import (
    Code,
    StatusError,
    check_encoding,
    percent_encoded,
    prefix,
    read_message,
    read_timeout_s,
    status_trailers,
)

MAX = 1_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600), (b"2M", 120), (b"30S", 30), (b"1500m", 1.5), (b"5u", 5e-6), (b"99999999n", 0.099999999),
        (b"0S", 0), (b"", None), (b"S", None), (b"1", None), (b"-1S", None), (b"1.5S", None), (b"123456789S", None),
        (b"1s", None), (b" 1S", None), (b"1_0S", None), (b"1S ", None),
    ],
)  # fmt: skip
def test_timeouts(text: bytes, seconds: float | None) -> None:
    assert read_timeout_s(text) == (None if seconds is None else pytest.approx(seconds))


def _body(message: bytes, flag: int = 0) -> bytes:
    return prefix.pack(flag, len(message)) + message


@given(st.binary(max_size=MAX))
def test_a_message_comes_out_as_it_went_in(message: bytes) -> None:
    assert read_message(_body(message), "identity", MAX) == message
    assert read_message(bytearray(_body(message)), "gzip", MAX) == message
    compressed = gzip.compress(message, mtime=0)
    assert read_message(_body(compressed, 1), "gzip", 2 * MAX) == message
    assert read_message(_body(zlib.compress(message), 1), "deflate", 2 * MAX) == message


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (b"", "identity", Code.UNIMPLEMENTED),
        (b"\0\0\0", "identity", Code.INTERNAL),
        (_body(b"abc")[:-1], "identity", Code.INTERNAL),
        (_body(b"abc") + _body(b""), "identity", Code.UNIMPLEMENTED),
        (_body(bytes(MAX + 1)), "identity", Code.RESOURCE_EXHAUSTED),
        (b"\0\xff\xff\xff\xff", "identity", Code.RESOURCE_EXHAUSTED),
        (_body(b"abc", 1), "identity", Code.INTERNAL),
        (_body(b"abc", 1), "gzip", Code.INTERNAL),
        (_body(b"abc", 2), "gzip", Code.INTERNAL),
        (_body(gzip.compress(bytes(500), mtime=0)[:-12], 1), "gzip", Code.INTERNAL),
        (_body(gzip.compress(bytes(MAX + 1), mtime=0), 1), "gzip", Code.RESOURCE_EXHAUSTED),
    ],
)
def test_a_body_that_is_not_one_message_has_a_status(body: bytes, encoding: str, code: Code) -> None:
    with pytest.raises(StatusError) as caught:
        read_message(body, encoding, MAX)
    assert caught.value.code == code


def test_a_bomb_is_not_unpacked_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000), mtime=0)
    with pytest.raises(StatusError) as caught:
        read_message(_body(bomb, 1), "gzip", len(bomb))
    assert f"({len(bomb) + 1} vs. {len(bomb)})" in caught.value.message


def test_only_known_compression_is_accepted() -> None:
    for name in ("identity", "gzip", "deflate"):
        check_encoding(name)
    with pytest.raises(StatusError, match="snappy"):
        check_encoding("snappy")


@given(st.text(max_size=200))
def test_messages_are_escaped_so_that_they_can_be_read_back(message: str) -> None:
    encoded = percent_encoded(message)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode()) == message.encode("utf-8", "replace").decode()


@given(
    st.integers(1, 16),
    st.text(max_size=3_000),
    st.binary(max_size=6_000),
    st.integers(400, 9_000),
)
def test_trailers_fit_what_the_peer_takes_and_keep_the_status(
    code: int, message: str, details: bytes, limit: int
) -> None:
    block = status_trailers(StatusError(code, message, details), limit)
    pairs = [(bytes(name), bytes(value)) for name, value in Decoder().decode(block, raw=True)]
    assert sum(len(name) + len(value) + 32 for name, value in pairs) <= limit
    got = dict(pairs)
    assert got[b"grpc-status"] == str(code).encode()
    text = unquote(got.get(b"grpc-message", b"").decode(), errors="strict")
    assert message.encode("utf-8", "replace").decode().startswith(text)
    sent = got.get(b"grpc-status-details-bin")
    if sent is not None:
        assert base64.b64decode(sent + b"=" * (-len(sent) % 4)) == details


def test_details_come_before_a_long_message() -> None:
    block = status_trailers(StatusError(5, "m" * 4_000, b"d" * 3_000), 8_000)
    got = {bytes(name): bytes(value) for name, value in Decoder().decode(block, raw=True)}
    assert len(got[b"grpc-status-details-bin"]) == 4_000
    assert 3_000 < len(got[b"grpc-message"]) < 4_000


def test_details_that_do_not_fit_are_left_out() -> None:
    block = status_trailers(StatusError(5, "message", b"d" * 6_000), 8_000)
    got = {bytes(name): bytes(value) for name, value in Decoder().decode(block, raw=True)}
    assert got == {b"grpc-status": b"5", b"grpc-message": b"message"}
