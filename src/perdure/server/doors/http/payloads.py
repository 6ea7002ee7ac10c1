"""The short form of payloads in JSON: the value itself instead of base64 and metadata.

Short are payloads that are JSON and nothing else: `json/plain` is the value, `json/protobuf` the message with its
type in `_protoMessageType`. Everything else, null too, keeps the long form, and so does whatever somebody sends in it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

PROTO_TYPE_KEY: Final = "_protoMessageType"
_LONG_FORM_KEYS: Final = frozenset({"metadata", "data", "externalPayloads"})


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


_PLAIN: Final = _encoded("json/plain")
_PROTOBUF: Final = _encoded("json/protobuf")
_NULL: Final = _encoded("binary/null")


def to_short(payload: dict[str, Any]) -> Any:
    """The short form of a payload in long form, or the long form where there is no short one.

    Args:
        payload: as protobuf's JSON has it: `metadata` and `data` in base64.
    """
    metadata = payload.get("metadata", {})
    encoding = metadata.get("encoding")
    if encoding == _PLAIN and len(metadata) == 1 and "externalPayloads" not in payload:
        return _value(payload, payload)
    if encoding == _PROTOBUF and set(metadata) == {"encoding", "messageType"}:
        value = _value(payload, None)
        if isinstance(value, dict) and PROTO_TYPE_KEY not in value:
            message_type = base64.b64decode(metadata["messageType"]).decode(errors="replace")
            return {PROTO_TYPE_KEY: message_type, **value}
    return payload


def is_long(value: Any) -> bool:
    """Whether JSON is a payload in long form, rather than somebody's value."""
    return (
        isinstance(value, dict)
        and value.keys() <= _LONG_FORM_KEYS
        and isinstance(value.get("metadata"), dict)
        and all(isinstance(text, str) for text in value["metadata"].values())
        and isinstance(value.get("data", ""), str)
    )


def to_long(value: Any) -> dict[str, Any]:
    """The long form of what somebody sent as a payload."""
    if is_long(value):
        return dict(value)
    if value is None:
        return {"metadata": {"encoding": _NULL}}
    if isinstance(value, dict) and isinstance(value.get(PROTO_TYPE_KEY), str):
        rest = {key: item for key, item in value.items() if key != PROTO_TYPE_KEY}
        metadata = {"encoding": _PROTOBUF, "messageType": _encoded(value[PROTO_TYPE_KEY])}
        return {"metadata": metadata, "data": _data(rest)}
    return {"metadata": {"encoding": _PLAIN}, "data": _data(value)}


def _data(value: Any) -> str:
    return _encoded(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _value(payload: dict[str, Any], otherwise: Any) -> Any:
    try:
        return json.loads(base64.b64decode(payload.get("data", "")), parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        # Not JSON that can be read, whatever it says of itself.
        return otherwise


def refuse_constant(text: str) -> None:
    """For `json.loads`, which reads NaN and Infinity by itself."""
    raise ValueError(f"{text} is not JSON")
