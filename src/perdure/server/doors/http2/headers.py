"""Header blocks of requests: decoded by the `hpack` library, checked, and remembered.

We announce a header table of size 0. Once a client has taken that up, equal blocks mean equal headers, and a distinct
block is decoded once per connection. Clients that send the time left until their deadline in each call would never send
equal blocks, so a block is also remembered without the value of its grpc-timeout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.huffman_table import decode_huffman

from perdure.server.doors.http2.frames import ConnectionBrokenError, ErrorCode
from perdure.server.doors.http2.grpc_messages import read_timeout_s
from perdure.server.doors.http2.hpack_fields import literal_names
from perdure.server.doors.http2.limits import (
    MAX_HEADER_LIST_BYTES,
    MAX_REMEMBERED_BLOCK_BYTES,
    MAX_REMEMBERED_BLOCKS,
)

Pairs = Sequence[tuple[bytes, bytes]]

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE_FORBIDDEN: Final = re.compile(rb"[\x00\r\n]")
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_PSEUDO_NEEDED: Final = frozenset((b":method", b":scheme", b":path"))
_OF_A_CONNECTION: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_OF_THE_PROTOCOL: Final = frozenset((b"te", b"content-type", b"content-length"))
_GRPC_CONTENT: Final = re.compile(rb"application/grpc(\+proto)?(;.*)?")
_SIZE_UPDATE_MASK: Final = 0xE0
_SIZE_UPDATE: Final = 0x20
_HUFFMAN: Final = 0x80
_LONG_VALUE: Final = 0x7F
_MAX_LENGTH_DIGITS: Final = 18
# The name grpc-timeout behind its length, plain and Huffman coded.
_TIMEOUT_NAMES: Final = (b"\x0cgrpc-timeout", b"\x89\x9a\xca\xc8\xb2MIOj\x7f")


class Metadata(Mapping[str, str]):
    """A call's own headers, made into a dictionary when first asked for: most calls never are.

    Of a header that came more than once, the last value counts; binary headers and those of the protocol are left out.
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._values: dict[str, str] | None = None

    def _loaded(self) -> dict[str, str]:
        if self._values is None:
            self._values = {
                name.decode("latin-1"): value.decode("utf-8", "replace")
                for name, value in self._pairs
                if not name.startswith((b":", b"grpc-"))
                and not name.endswith(b"-bin")
                and name not in _OF_THE_PROTOCOL
            }
        return self._values

    def __getitem__(self, key: str) -> str:
        return self._loaded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


class RequestHeaders(NamedTuple):
    """What the headers of a request say.

    Attributes:
        path: the RPC's path.
        timeout_s: how long the caller waits; None: without limit.
        encoding: how messages are compressed.
        metadata: the caller's own headers.
        content_length: bytes of the body as announced, None if they were not.
        malformed: why HTTP/2 forbids these headers, or nothing.
        http_refusal: HTTP status and text for what is no gRPC request, else None.
        has_bad_timeout: there is a grpc-timeout that cannot be read.
    """

    path: str
    timeout_s: float | None = None
    encoding: str = "identity"
    metadata: Mapping[str, str] = {}
    content_length: int | None = None
    malformed: str = ""
    http_refusal: tuple[int, str] | None = None
    has_bad_timeout: bool = False


class _Split(NamedTuple):
    """A block around the value of its grpc-timeout. `before` ends with the length byte of the value."""

    before: bytes
    value: bytes
    after: bytes
    name_bytes: int


class HeaderReader:
    """Decodes the header blocks of one connection, in their order."""

    __slots__ = ("_decoder", "_known", "_templates")

    def __init__(self) -> None:
        # The table may stay at its default size: a client that never shrinks it is only slower.
        self._decoder = Decoder(max_header_list_size=MAX_HEADER_LIST_BYTES)
        self._known: dict[bytes, RequestHeaders] = {}
        self._templates: dict[tuple[bytes, bytes], RequestHeaders] = {}

    def request(self, block: bytes) -> RequestHeaders:
        """Decodes a request's block.

        Raises:
            ConnectionBrokenError: it is not valid HPACK, so nothing later can be decoded.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        split = _split_at_timeout(block)
        if split is not None:
            template = self._templates.get((split.before, split.after))
            if template is not None:
                return _with_timeout(template, split)
        headers = read_request(self.pairs(block))
        # A block that resizes the table has an effect, so it cannot be skipped when it comes again.
        resizes = block[:1] and block[0] & _SIZE_UPDATE_MASK == _SIZE_UPDATE
        has_table = self._decoder.header_table.maxsize
        if not has_table and not resizes and len(block) <= MAX_REMEMBERED_BLOCK_BYTES:
            self._remember(block, headers, split)
        return headers

    def pairs(self, block: bytes) -> Pairs:
        """Decodes any block (such as trailers) to names and values.

        Raises:
            ConnectionBrokenError: as for `request`.
        """
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise ConnectionBrokenError(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too long") from error
        except (HPACKError, IndexError) as error:
            # IndexError: the library's way of saying that a block ends inside a field.
            raise ConnectionBrokenError(ErrorCode.COMPRESSION_ERROR, "the header block is damaged") from error

    def _remember(self, block: bytes, headers: RequestHeaders, split: _Split | None) -> None:
        if len(self._known) >= MAX_REMEMBERED_BLOCKS or len(self._templates) >= MAX_REMEMBERED_BLOCKS:
            self._known.clear()
            self._templates.clear()
        self._known[block] = headers
        # The split was found by its bytes; it is one only if a field's name really stands there.
        if split is not None:
            value_at = len(split.before) - 1
            if (value_at - split.name_bytes, value_at) in literal_names(block):
                self._templates[split.before, split.after] = headers


def _split_at_timeout(block: bytes) -> _Split | None:
    for name in _TIMEOUT_NAMES:
        found = block.find(name)
        if found >= 0:
            start = found + len(name) + 1
            size = block[start - 1] & _LONG_VALUE if start <= len(block) else _LONG_VALUE
            if size == _LONG_VALUE or start + size > len(block):
                return None
            end = start + size
            return _Split(block[:start], block[start:end], block[end:], len(name))
    return None


def _with_timeout(template: RequestHeaders, split: _Split) -> RequestHeaders:
    value = split.value
    if split.before[-1] & _HUFFMAN:
        try:
            value = decode_huffman(value)
        except HPACKError as error:
            raise ConnectionBrokenError(ErrorCode.COMPRESSION_ERROR, "the header block is damaged") from error
    timeout_s = read_timeout_s(value)
    return template._replace(timeout_s=timeout_s, has_bad_timeout=timeout_s is None)


def read_request(pairs: Pairs) -> RequestHeaders:
    """Sorts out the headers of a request."""
    pseudo: dict[bytes, bytes] = {}
    known: dict[bytes, bytes] = {}
    malformed = ""
    for name, value in pairs:
        if name.startswith(b":"):
            if name not in _PSEUDO or name in pseudo or known:
                malformed = f"the pseudo-header {name!r} is unknown, repeated or late"
            pseudo[name] = value
        elif not _NAME.fullmatch(name) or name in _OF_A_CONNECTION:
            malformed = f"the header {name[:50]!r} is not allowed"
        else:
            known[name] = value
        if _VALUE_FORBIDDEN.search(value):
            malformed = f"the header {name[:50]!r} has a forbidden character"
    if not pseudo.keys() >= _PSEUDO_NEEDED or not pseudo[b":path"]:
        malformed = "a pseudo-header is missing"
    if known.get(b"te", b"trailers") != b"trailers":
        malformed = "te may only be trailers"
    length = known.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) <= _MAX_LENGTH_DIGITS):
        malformed, length = "content-length is not a number", None
    timeout = known.get(b"grpc-timeout")
    timeout_s = None if timeout is None else read_timeout_s(timeout)
    return RequestHeaders(
        path=pseudo.get(b":path", b"").decode("latin-1"),
        timeout_s=timeout_s,
        encoding=known.get(b"grpc-encoding", b"identity").decode("latin-1"),
        metadata=Metadata(pairs),
        content_length=None if length is None else int(length),
        malformed=malformed,
        http_refusal=_http_refusal(pseudo.get(b":method", b""), known.get(b"content-type", b"")),
        has_bad_timeout=timeout is not None and timeout_s is None,
    )


def _http_refusal(method: bytes, content_type: bytes) -> tuple[int, str] | None:
    if method != b"POST":
        return 405, "this port speaks gRPC, which uses POST"
    if not _GRPC_CONTENT.fullmatch(content_type):
        return 415, "this port speaks gRPC: content-type must be application/grpc"
    return None
