"""Messages as plain values: what templates show and JSON twins hold.

Names of fields are the protocol's, enums are words, times are ISO texts, durations seconds, payloads their values.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from perdure.api.common.v1 import Payload

PAYLOAD_KEY: Final = "payload"
"""Marks a payload among plain values: the name of its encoding is there."""
_SHOWN_BYTES: Final = 65_536
_NANOSECONDS: Final = 1_000_000_000
_MOST_NESTED: Final = 200
_FIRST_S: Final = -62_135_596_800
_END_S: Final = 253_402_300_800
"""The years 1 to 9999, which a `datetime` can say; a timer may end later."""


def plain(message: Message) -> dict[str, Any]:
    """The fields of a message that are set, as plain values."""
    return {field.name: _field(field, value) for field, value in message.ListFields()}


def _field(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        return {str(key): _single(inner, value[key]) for key in sorted(value)}
    if field.is_repeated:
        return [_single(field, item) for item in value]
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return message_value(value)
    if field.enum_type is not None:
        return label(field.enum_type, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    return value


def message_value(message: Any) -> Any:
    """A message inside another one."""
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        return iso(message.ToNanoseconds())
    if name == "google.protobuf.Duration":
        return message.ToNanoseconds() / _NANOSECONDS
    if name == "temporal.api.common.v1.Payload":
        return payload(message)
    if name == "temporal.api.common.v1.Payloads":
        return [payload(item) for item in message.payloads]
    if name in ("temporal.api.common.v1.Memo", "temporal.api.common.v1.Header"):
        return {key: payload(message.fields[key]) for key in sorted(message.fields)}
    if name == "temporal.api.common.v1.SearchAttributes":
        return {key: payload(message.indexed_fields[key])["value"] for key in sorted(message.indexed_fields)}
    return plain(message)


def payload(message: Payload) -> dict[str, Any]:
    """A payload: its encoding, its size, and its value if that can be read."""
    encoding = message.metadata.get("encoding", b"").decode(errors="replace")
    shown: dict[str, Any] = {PAYLOAD_KEY: encoding or "none", "size_bytes": len(message.data), "value": None}
    if encoding == "binary/null":
        return shown
    if encoding in ("json/plain", "json/protobuf"):
        try:
            shown["value"] = json.loads(message.data)
            if _is_deep(message.data, shown["value"]):
                raise RecursionError
        except (ValueError, RecursionError):
            shown["error"] = "This payload says it is JSON, but it cannot be read as JSON."
            shown["value"] = message.data[:_SHOWN_BYTES].decode(errors="replace")
        return shown
    shown["base64"] = base64.b64encode(message.data[:_SHOWN_BYTES]).decode()
    if encoding != "binary/plain":
        shown["metadata"] = {
            key: message.metadata[key].decode(errors="replace") for key in sorted(message.metadata)
        }
    return shown


def _is_deep(data: bytes, value: Any) -> bool:
    """Whether a JSON value is nested so deeply that writing it again may not work."""
    if data.count(b"[") + data.count(b"{") < _MOST_NESTED:
        return False
    level = [value]
    for _ in range(_MOST_NESTED):
        inside = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)
        ]
        level = [inner for one in inside for inner in one]
    return bool(level)


def editable(message: Payload) -> str:
    """A payload as text that `read_payload` turns back into the same payload."""
    shown = payload(message)
    if shown[PAYLOAD_KEY] == "json/plain" and "error" not in shown and len(message.metadata) == 1:
        return json.dumps(shown["value"], indent=2, ensure_ascii=False)
    metadata = {key: base64.b64encode(message.metadata[key]).decode() for key in sorted(message.metadata)}
    return json.dumps({"metadata": metadata, "data": base64.b64encode(message.data).decode()})


def read_payload(value: Any) -> Payload:
    """A payload from JSON: the value itself, or a payload in the protocol's own JSON (`metadata` and `data`)."""
    if isinstance(value, dict) and value.keys() <= {"metadata", "data"} and _is_encoded(value):
        metadata = {key: base64.b64decode(text) for key, text in value["metadata"].items()}
        return Payload(metadata=metadata, data=base64.b64decode(value.get("data", "")))
    if value is None:
        return Payload(metadata={"encoding": b"binary/null"})
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Payload(metadata={"encoding": b"json/plain"}, data=data)


def _is_encoded(value: dict[str, Any]) -> bool:
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or "encoding" not in metadata:
        return False
    texts = [*metadata.values(), value.get("data", "")]
    try:
        return all(
            isinstance(text, str) and base64.b64decode(text, validate=True) is not None for text in texts
        )
    except ValueError:
        return False


def iso(time_ns: int) -> str:
    """A time in UTC, to the microsecond; the ends of the calendar stand for what is beyond them."""
    time_ns = max(_FIRST_S * _NANOSECONDS, min(time_ns, _END_S * _NANOSECONDS - 1))
    moment = datetime.fromtimestamp(time_ns // _NANOSECONDS, UTC)
    return f"{moment.isoformat()[:19]}.{time_ns % _NANOSECONDS // 1000:06d}Z"


@cache
def _labels(enum: EnumDescriptor) -> dict[int, str]:
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.number: _words(value.name.removeprefix(prefix)) for value in enum.values}


def label(enum: EnumDescriptor, number: int) -> str:
    """An enum's value in words: `Timed out` for `WORKFLOW_EXECUTION_STATUS_TIMED_OUT`."""
    return _labels(enum).get(number, str(number))


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
