"""Payloads as contents of requests by HTTP: a body and headers that describe it, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError

from perdure.api.common.v1 import Payload

_PARAMETER = re.compile(r';\s*([!-~]+?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))\s*')
_WHOLE = "application/x-temporal-payload"
_UNKNOWN = b"unknown/nexus-content"


class Content(NamedTuple):
    """A body, and its headers by name without `content-`, in lower case."""

    headers: dict[str, str]
    data: bytes


def of_payload(payload: Payload | None) -> Content:
    """A payload as content."""
    if payload is None:
        return Content({}, b"")
    metadata = dict(payload.metadata)
    encoding = metadata.pop("encoding", b"").decode("utf-8", "replace")
    message_type = metadata.get("messageType", b"").decode("utf-8", "replace")
    is_bare, is_message = not metadata, set(metadata) == {"messageType"} and message_type
    if encoding == _UNKNOWN.decode():
        headers = {name: value.decode("utf-8", "replace") for name, value in metadata.items()}
        return Content(headers, payload.data)
    if encoding == "json/protobuf" and is_message:
        kind = f'application/json; format=protobuf; message-type="{message_type}"'
    elif encoding == "binary/protobuf" and is_message:
        kind = f'application/x-protobuf; message-type="{message_type}"'
    elif encoding == "json/plain" and is_bare:
        kind = "application/json"
    elif encoding == "binary/plain" and is_bare:
        kind = "application/octet-stream"
    elif encoding == "binary/null" and is_bare:
        return Content({}, payload.data)
    else:
        return Content({"type": _WHOLE}, payload.SerializeToString())
    return Content({"type": kind}, payload.data)


def to_payload(headers: Mapping[str, str], data: bytes) -> Payload:
    """Content as a payload.

    Args:
        headers: those of the content, by name without `content-`, in lower case.
        data: the body.

    Raises:
        ValueError: the body is not what its type says.
    """
    described = {name: value for name, value in headers.items() if name not in ("encoding", "length")}
    payload = Payload(data=data)
    if not described and not data:
        payload.metadata["encoding"] = b"binary/null"
        return payload
    kind, _, rest = described.get("type", "").partition(";")
    parameters = _parameters(f";{rest}" if rest else "")
    if (
        len(described) == 1
        and parameters is not None
        and _describe(payload, kind.strip().lower(), parameters)
    ):
        return payload
    payload.metadata.clear()
    for name, value in described.items():
        payload.metadata[name] = value.encode()
    payload.metadata["encoding"] = _UNKNOWN
    return payload


def _describe(payload: Payload, kind: str, parameters: dict[str, str]) -> bool:
    """Sets the metadata that a type means; False for one that is not known."""
    message_type = parameters.get("message-type", "")
    if kind == _WHOLE:
        try:
            payload.ParseFromString(payload.data)
        except DecodeError as error:
            raise ValueError("the body is no payload") from error
        return True
    if kind == "application/json" and not parameters:
        payload.metadata["encoding"] = b"json/plain"
    elif kind == "application/json" and len(parameters) == 2 and parameters.get("format") == "protobuf":
        payload.metadata["encoding"] = b"json/protobuf"
        payload.metadata["messageType"] = message_type.encode()
    elif kind == "application/x-protobuf" and len(parameters) == 1:
        payload.metadata["encoding"] = b"binary/protobuf"
        payload.metadata["messageType"] = message_type.encode()
    elif kind == "application/octet-stream" and not parameters:
        payload.metadata["encoding"] = b"binary/plain"
    else:
        return False
    return bool(message_type) or not parameters


def _parameters(text: str) -> dict[str, str] | None:
    """The parameters of a media type; None when they cannot be read."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            return None
        quoted = match[2]
        found[match[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
        position = match.end()
    return found


def is_json(content_type: str) -> bool:
    """Whether a content type says JSON."""
    return content_type.partition(";")[0].strip().lower() == "application/json"
