"""Task tokens and page tokens: what the server hands out and gets back, sealed against forgery.

A token is JSON followed by a keyed BLAKE2 tag. The key comes from the database's own identity, so tokens survive a
restart and mean nothing to another database. Every token names its namespace; the handler checks it against the
request's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from typing import Any, Final

import msgspec

from perdure.core.errors import InvalidArgumentError

_TAG_BYTES: Final = 16
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class TokenSealer:
    """Makes and opens tokens.

    Args:
        secret: the database's identity.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.blake2b(secret.encode(), person=b"perdure-token").digest()

    def seal(self, kind: str, *fields: str | int) -> bytes:
        """A token of this kind with these fields."""
        body = _encode([kind, *fields])
        return body + self._tag(body)

    def open(self, kind: str, token: bytes, error: str) -> list[Any]:
        """The fields of a token of this kind.

        Raises:
            InvalidArgumentError: `error`; it is none of ours, or of another kind.
        """
        return self.open_any((kind,), token, error)[1]

    def open_any(self, kinds: Collection[str], token: bytes, error: str) -> tuple[str, list[Any]]:
        """The kind and the fields of a token of one of these kinds.

        Raises:
            InvalidArgumentError: `error`; it is none of ours, or of another kind.
        """
        kind, *fields = self._opened(token, error)
        if kind not in kinds:
            raise InvalidArgumentError(error)
        return kind, fields

    def namespace_id(self, token: bytes, error: str) -> str:
        """The namespace that a token of any kind is of.

        Raises:
            InvalidArgumentError: `error`; it is none of ours.
        """
        return str(self._opened(token, error)[1])

    def _opened(self, token: bytes, error: str) -> list[Any]:
        body, tag = token[:-_TAG_BYTES], token[-_TAG_BYTES:]
        if len(token) <= _TAG_BYTES or not hmac.compare_digest(tag, self._tag(body)):
            raise InvalidArgumentError(error)
        opened: list[Any] = _decode(body)
        return opened

    def _tag(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self._key, digest_size=_TAG_BYTES).digest()
