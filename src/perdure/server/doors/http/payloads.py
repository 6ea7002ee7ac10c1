"""The short form of payloads in JSON: the value itself instead of base64 and metadata.

Short are payloads that are JSON and nothing else: `json/plain` is the value, `json/protobuf` the message with its
type in `_protoMessageType`. Everything else, null too, keeps the long form, and so does whatever somebody sends in it.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any, Final

from perdure.core.errors import InvalidArgumentError

PROTO_TYPE_KEY: Final = "_protoMessageType"
_LONG_FORM_KEYS: Final = frozenset({"metadata", "data", "externalPayloads"})


_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?")


def _encoded(text: str) -> str:
    try:
        return base64.b64encode(text.encode()).decode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            "a payload holds half of a character (an unpaired surrogate), which is no text"
        ) from error


def is_base64(text: str) -> bool:
    """Whether text is bytes, in either alphabet, with or without padding; the library takes anything for that."""
    return _BASE64.fullmatch(text.replace("-", "+").replace("_", "/")) is not None


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
        and all(isinstance(text, str) and is_base64(text) for text in value["metadata"].values())
        and isinstance(value.get("data", ""), str)
        and is_base64(value.get("data", ""))
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
        data = base64.b64decode(payload.get("data", ""))
        return json.loads(data, parse_constant=refuse_constant, parse_float=finite)
    except (ValueError, RecursionError):
        # Not JSON that can be read, whatever it says of itself.
        return otherwise


def refuse_constant(text: str) -> None:
    """For `json.loads`, which reads NaN and Infinity by itself."""
    raise ValueError(f"{text} is not JSON")


def finite(text: str) -> float:
    """For `json.loads`, which reads what is too large for a number as Infinity."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large for a number")
    return number
