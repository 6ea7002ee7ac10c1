"""Metadata of calls: what is valid, and what a call sends in the end.

May live here: checks and merging of keys and values. May not: what the values mean to a server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Metadata = Mapping[str, str | bytes]

_KEY = re.compile(r"[0-9a-z_.\-!#$%&'*+^`|~]+")
_BINARY_SUFFIX = "-bin"
_WRONG_KIND = "failed to extract enum RpcMetadataValue ('str | bytes')"
_BAD_KEY = "invalid gRPC metadata key name"


def parted(metadata: Metadata) -> tuple[dict[str, str], dict[str, bytes]]:
    """Part metadata that is to be sent with every call into texts and binary values, with keys in lower case.

    Whether keys and values are valid is found by `check_texts` and `check_binaries`.

    Raises:
        TypeError: A value is neither str nor bytes.
    """
    texts: dict[str, str] = {}
    binaries: dict[str, bytes] = {}
    for key, value in metadata.items():
        if isinstance(value, str):
            texts[key.lower()] = value
        elif isinstance(value, bytes):
            binaries[key.lower()] = value
        else:
            raise TypeError(f"{_WRONG_KIND}: the value of {key!r} is {type(value).__name__}")
    return texts, binaries


def check_texts(texts: Mapping[str, str]) -> None:
    """Raise ValueError unless every key may carry text and every text is printable ASCII."""
    for key, value in texts.items():
        if not _KEY.fullmatch(key) or key.endswith(_BINARY_SUFFIX):
            raise ValueError(f"Invalid ASCII header key '{key}': {_BAD_KEY}")
        if not value.isascii() or not (value.isprintable()):
            raise ValueError(f"Invalid ASCII header value for key '{key}': only printable ASCII is allowed")


def check_binaries(binaries: Mapping[str, bytes]) -> None:
    """Raise ValueError unless every key may carry bytes."""
    for key in binaries:
        if not _KEY.fullmatch(key) or not key.endswith(_BINARY_SUFFIX):
            raise ValueError(f"Invalid binary header key '{key}': {_BAD_KEY} (keys of bytes end in -bin)")


def check_call_metadata(metadata: Metadata) -> dict[str, str | bytes]:
    """Check the metadata of one call.

    Raises:
        TypeError: A value is neither str nor bytes.
        ValueError: A key does not fit its value.
    """
    checked: dict[str, str | bytes] = {}
    for given_key, value in metadata.items():
        key = given_key.lower()
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"argument 'call': metadata key {given_key!r}") from TypeError(
                f"{_WRONG_KIND}: the value of {given_key!r} is {type(value).__name__}"
            )
        if not _KEY.fullmatch(key):
            raise ValueError(f"Invalid metadata key: {given_key!r}: {_BAD_KEY}")
        if key.endswith(_BINARY_SUFFIX):
            if not isinstance(value, bytes):
                raise ValueError(f"Invalid metadata value for binary key {given_key}: expected bytes")
        elif not isinstance(value, str):
            raise ValueError(f"Invalid metadata value for ASCII key {given_key}: expected str")
        elif not value.isascii() or not value.isprintable():
            raise ValueError(f"Invalid metadata value: {given_key}: only printable ASCII is allowed")
        checked[key] = value
    return checked


def check_api_key(api_key: str | None) -> None:
    """Raise ValueError unless the key can be sent. The message does not repeat what is a secret."""
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError(
            "Invalid API key: only printable ASCII is allowed. A key that was read from a file may end with a line "
            "break: strip it"
        )


class Headers:
    """The metadata a client sends with every call, kept ready to send.

    Args:
        fixed: Values no user sets (name and version of the client); a user's value wins over them.
        metadata: The user's.
        api_key: Sent as bearer token unless there is an `authorization`.

    Raises:
        ValueError: The key, or a value of the metadata, cannot be sent.
    """

    def __init__(self, fixed: Mapping[str, str], metadata: Metadata, api_key: str | None) -> None:
        check_api_key(api_key)
        self._fixed = dict(fixed)
        self._texts: dict[str, str] = {}
        self._binaries: dict[str, bytes] = {}
        self._api_key = api_key
        self._complete: dict[str, str | bytes] = {}
        self.update(metadata)

    def update(self, metadata: Metadata) -> None:
        """Replace the user's metadata. Texts are replaced before binary values are checked, as in the official SDK.

        Raises:
            TypeError: A value is neither str nor bytes.
            ValueError: A key does not fit its value.
        """
        texts, binaries = parted(metadata)
        check_texts(texts)
        self._texts = texts
        try:
            check_binaries(binaries)
            self._binaries = binaries
        finally:
            self._complete = self._merged({})

    def update_api_key(self, api_key: str | None) -> None:
        """Replace the API key, or remove it with None.

        Raises:
            ValueError: The key cannot be sent.
        """
        check_api_key(api_key)
        self._api_key = api_key
        self._complete = self._merged({})

    def for_call(self, metadata: Metadata) -> Metadata:
        """Return what a call sends: its own metadata over the client's. Do not change what is returned."""
        return self._merged(check_call_metadata(metadata)) if metadata else self._complete

    def _merged(self, own: dict[str, str | bytes]) -> dict[str, str | bytes]:
        merged = {**self._fixed, **self._texts, **self._binaries, **own}
        if self._api_key is not None:
            merged.setdefault("authorization", f"Bearer {self._api_key}")
        return merged
