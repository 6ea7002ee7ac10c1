"""Values that are typed on a command line, as payloads: arguments, memos, search attributes, headers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from perdure.api.common import v1 as common
from perdure.cli.command import Flags
from perdure.cli.errors import CommandError, WrongUsageError

_JSON: Final = b"json/plain"


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def read_json(text: str) -> Any:
    """A JSON value; NaN and Infinity, which Python also reads, are none.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(text, parse_constant=_refuse_constant)


def json_payload(value: Any, metadata: Mapping[str, bytes] | None = None) -> common.Payload:
    """A payload `json/plain` with a value; null is `binary/null`."""
    if value is None:
        return common.Payload(metadata={"encoding": b"binary/null"})
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return common.Payload(metadata={"encoding": _JSON, **(metadata or {})}, data=data)


def input_payloads(flags: Flags) -> common.Payloads | None:
    """The arguments that the flags of `PAYLOAD_INPUT` give, None without any.

    Raises:
        WrongUsageError: they contradict each other, or one is not what its encoding says.
        CommandError: a file cannot be read.
    """
    if flags.input and flags.input_file:
        raise WrongUsageError("--input and --input-file cannot be used together")
    data = [text.encode() for text in flags.input] + [_read_file(path) for path in flags.input_file]
    metadata = _metadata(flags.input_meta, len(data))
    if not data:
        return None
    return common.Payloads(
        payloads=[_payload(index, each, metadata, flags.input_base64) for index, each in enumerate(data)]
    )


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"the input file {path} cannot be read: {error.strerror or error}") from error


def _metadata(texts: Iterable[str], inputs: int) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise WrongUsageError(f"--input-meta {text!r} must be KEY=VALUE")
        if key in found and len(found[key]) >= inputs:
            raise WrongUsageError(f"--input-meta gives {key!r} more often than there are inputs")
        found.setdefault(key, []).append(value.encode())
    found.setdefault("encoding", [_JSON])
    return found


def _payload(index: int, data: bytes, metadata: Mapping[str, list[bytes]], is_base64: bool) -> common.Payload:
    own = {key: values[index] if index < len(values) else values[0] for key, values in metadata.items()}
    if is_base64:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise WrongUsageError(f"input {index + 1} is no base64") from None
    if own["encoding"].startswith(b"json/"):
        try:
            read_json(data.decode())
        except ValueError:
            raise WrongUsageError(
                f"input {index + 1} is no JSON: {data[:40].decode(errors='replace')!r} (a text needs quotes, as in "
                "--input '\"text\"')"
            ) from None
    return common.Payload(metadata=own, data=data)


def json_values(texts: Iterable[str], flag: str) -> dict[str, Any]:
    """Texts `KEY=JSON` as a mapping.

    Raises:
        WrongUsageError: one is not.
    """
    found = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise WrongUsageError(f"{flag} {text!r} must be KEY=JSON")
        try:
            found[key] = read_json(value)
        except ValueError:
            raise WrongUsageError(
                f"{flag} {key}: {value!r} is no JSON (a text needs quotes, as in {flag} '{key}=\"text\"')"
            ) from None
    return found


def _payload_map(texts: Iterable[str], flag: str) -> dict[str, common.Payload]:
    return {key: json_payload(value) for key, value in json_values(texts, flag).items()}


def memo(texts: Iterable[str], flag: str = "--memo") -> common.Memo | None:
    """A memo, None without any."""
    fields = _payload_map(texts, flag)
    return common.Memo(fields=fields) if fields else None


def search_attributes(
    texts: Iterable[str], flag: str = "--search-attribute"
) -> common.SearchAttributes | None:
    """Search attributes; the server knows their types. None without any."""
    fields = _payload_map(texts, flag)
    return common.SearchAttributes(indexed_fields=fields) if fields else None


def header(texts: Iterable[str]) -> common.Header | None:
    """A header, None without any."""
    fields = _payload_map(texts, "--headers")
    return common.Header(fields=fields) if fields else None


def value_of(payloads: common.Payloads | None) -> Any:
    """The one value of payloads, as JSON has it; None for none.

    A payload that is not JSON is given in its long form.
    """
    from perdure.cli.show import to_json

    if payloads is None or not payloads.payloads:
        return None
    first = payloads.payloads[0]
    return None if first.metadata.get("encoding") == b"binary/null" else to_json(first)


def value_of_one(payload: common.Payload) -> Any:
    """The value of a payload, None for an empty one."""
    return value_of(common.Payloads(payloads=[payload])) if payload.ByteSize() else None


def friendly(payloads: common.Payloads | None, has_short_payloads: bool) -> Any:
    """One payload as itself, none as null, several as they are."""
    from perdure.cli.show import to_json

    if payloads is None:
        return None
    only = payloads.payloads[0] if len(payloads.payloads) == 1 else payloads
    return to_json(only, has_short_payloads=has_short_payloads)
