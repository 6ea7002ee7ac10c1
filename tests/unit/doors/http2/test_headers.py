"""Header blocks of requests: what is read from them, and that remembering them changes nothing."""

from __future__ import annotations

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from perdure.server.doors.http2 import limits
from perdure.server.doors.http2.frames import ConnectionBrokenError
from perdure.server.doors.http2.headers import HeaderReader, read_request
from perdure.server.doors.http2.hpack_fields import field, literal_names
from tests.unit.doors.http2.support import REQUEST

OFF = b"\x20"
"""The table size update to 0 with which clients take up our setting."""

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True).filter(
    lambda name: name not in ("connection", "keep-alive", "upgrade", "te", "transfer-encoding")
)
VALUES = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40),
    st.just("\x0cgrpc-timeout"),
    st.sampled_from(["x\x0cgrpc-timeout\x031S2", "@\x0cgrpc-timeout\x02"]),
)
TIMEOUTS = st.one_of(st.none(), st.from_regex(r"[0-9]{1,8}[HMSmun]", fullmatch=True), st.just("broken"))


def _encoder() -> Encoder:
    encoder = Encoder()
    encoder.header_table_size = 0
    assert encoder.encode([]) == OFF
    return encoder


def _pairs(timeout: str | None, extra: list[tuple[str, str]], position: int) -> list[tuple[str, str]]:
    pairs = [*REQUEST, *extra]
    if timeout is not None:
        pairs.insert(min(len(pairs), len(REQUEST) + position), ("grpc-timeout", timeout))
    return pairs


@given(
    st.lists(
        st.tuples(TIMEOUTS, st.lists(st.tuples(NAMES, VALUES), max_size=3), st.integers(0, 3), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_a_reader_that_remembers_reads_the_same_as_a_fresh_one(
    requests: list[tuple[str | None, list[tuple[str, str]], int, bool]],
) -> None:
    reader, encoder = HeaderReader(), _encoder()
    reader.pairs(OFF)
    for timeout, extra, position, huffman in requests * 2:
        pairs = _pairs(timeout, extra, position)
        encoded = [(name.encode(), value.encode()) for name, value in pairs]
        got = reader.request(encoder.encode(encoded, huffman=huffman))
        expected = read_request(encoded)
        assert got._replace(metadata={}) == expected._replace(metadata={})
        assert dict(got.metadata) == dict(expected.metadata)


def test_blocks_that_differ_only_in_their_timeout_are_decoded_once() -> None:
    reader, encoder = HeaderReader(), _encoder()
    reader.pairs(OFF)
    first = reader.request(encoder.encode([*REQUEST, ("grpc-timeout", "100m"), ("a", "b")], huffman=False))
    again = reader.request(encoder.encode([*REQUEST, ("grpc-timeout", "200m"), ("a", "b")], huffman=False))
    assert (first.timeout_s, again.timeout_s) == (0.1, 0.2)
    assert again.metadata is first.metadata


def test_a_value_that_looks_like_a_timeout_is_none() -> None:
    reader, encoder = HeaderReader(), _encoder()
    reader.pairs(OFF)
    for value in ("1S", "2S", "3S"):
        text = f"\x0cgrpc-timeout\x02{value}"
        headers = reader.request(encoder.encode([*REQUEST, ("a", text), ("b", "c")], huffman=False))
        assert headers.metadata["a"] == text
        assert headers.timeout_s is None


@pytest.mark.parametrize("huffman", [True, False])
def test_equal_blocks_are_decoded_once(huffman: bool) -> None:
    reader = HeaderReader()
    block = _encoder().encode(list(REQUEST), huffman=huffman)
    assert reader.request(OFF + block) is not reader.request(OFF + block)
    assert reader.request(block) is reader.request(block)


def test_a_client_that_keeps_its_table_is_read_correctly() -> None:
    reader, encoder = HeaderReader(), Encoder()
    for number in range(20):
        pairs = [*REQUEST, ("number", str(number // 3)), ("grpc-timeout", f"{number % 2 + 1}S")]
        headers = reader.request(encoder.encode(pairs))
        assert headers.metadata["number"] == str(number // 3)
        assert headers.timeout_s == number % 2 + 1


def test_equal_blocks_that_refer_to_a_table_are_read_anew() -> None:
    reader = HeaderReader()
    block = b"".join(field(name.encode(), value.encode()) for name, value in REQUEST) + b"\xbe"
    for value in (b"first", b"second"):
        reader.pairs(b"\x40" + field(b"name", value)[1:])
        assert reader.request(block).metadata["name"] == value.decode()


def test_what_is_remembered_is_bounded() -> None:
    reader, encoder = HeaderReader(), _encoder()
    reader.pairs(OFF)
    for number in range(5 * limits.MAX_REMEMBERED_BLOCKS):
        reader.request(encoder.encode([*REQUEST, ("number", str(number)), ("grpc-timeout", "1S")]))
    reader.request(encoder.encode([*REQUEST, ("long", "x" * 5_000)]))
    assert len(reader._known) <= limits.MAX_REMEMBERED_BLOCKS
    assert len(reader._templates) <= limits.MAX_REMEMBERED_BLOCKS
    assert all(len(block) <= limits.MAX_REMEMBERED_BLOCK_BYTES for block in reader._known)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.booleans())
def test_spelled_out_names_are_found_where_they_are(extra: list[tuple[str, str]], huffman: bool) -> None:
    block = _encoder().encode([*REQUEST, *extra], huffman=huffman)
    for name_at, value_at in literal_names(block):
        size = block[name_at] & 0x7F
        assert name_at + 1 + size == value_at
        assert value_at < len(block)
    assert len(list(literal_names(block))) >= len([name for name, _ in extra if name.startswith("x-")])


@given(st.binary(max_size=200))
def test_any_block_is_read_or_refused(block: bytes) -> None:
    try:
        HeaderReader().request(block)
    except ConnectionBrokenError:
        return


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=5))
def test_fields_we_write_are_read_back(pairs: list[tuple[bytes, bytes]]) -> None:
    block = b"".join(field(name, value) for name, value in pairs)
    assert HeaderReader().pairs(block) == pairs


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({":method": "GET"}, 405),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/grpc-web"}, 415),
        ({"content-type": "application/grpc+json"}, 415),
        ({"content-type": "application/grpc+proto"}, None),
        ({"content-type": "application/grpc;charset=utf-8"}, None),
        ({"content-type": "application/grpc"}, None),
    ],
)
def test_what_is_no_grpc_request_is_refused_with_an_http_status(
    changes: dict[str, str], status: int | None
) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in (dict(REQUEST) | changes).items()]
    refusal = read_request(pairs).http_refusal
    assert (None if refusal is None else refusal[0]) == status


def test_metadata_is_what_the_caller_added_last() -> None:
    extra = [
        (b"client-name", b"a"), (b"client-name", b"b"), (b"x-bin", b"AA"), (b"grpc-encoding", b"gzip"),
        (b"user-agent", b"me"), (b"bad", b"\xff"),
    ]  # fmt: skip
    headers = read_request([(name.encode(), value.encode()) for name, value in REQUEST] + extra)
    assert dict(headers.metadata) == {"client-name": "b", "user-agent": "me", "bad": "\ufffd"}
    assert headers.encoding == "gzip"
    assert not headers.malformed
