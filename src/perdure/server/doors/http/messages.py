"""Requests from JSON, paths and query strings; responses and errors to JSON.

Lives here: the protobuf JSON mapping with what the protocol adds to it (short payloads, short names of enum values).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from perdure.api.google.rpc import Status as RpcStatus
from perdure.api.registry import POOL, message_class
from perdure.core.errors import InvalidArgumentError
from perdure.server.doors.http.payloads import refuse_constant, to_long, to_short
from perdure.server.doors.http.routes import Fields, fields_at
from perdure.server.doors.status import Status

MAX_DEPTH: Final = 100
_PAYLOAD: Final = "temporal.api.common.v1.Payload"
_PAYLOADS: Final = "temporal.api.common.v1.Payloads"
_WELL_KNOWN: Final = "google.protobuf."

Walk = Callable[[Any, Descriptor], Any]
"""Changes the JSON of a message somewhere inside."""


def read_request(
    request: Descriptor, body: bytes, path_values: Mapping[Fields, str], query: Iterable[tuple[str, str]]
) -> Message:
    """Makes a request.

    Args:
        request: its descriptor.
        body: JSON, or nothing.
        path_values: fields that the path sets; they win over the body.
        query: fields of the query string; names that the request does not have are ignored, as officially.

    Raises:
        InvalidArgumentError: something cannot be read; the message says what.
    """
    value = _read_json(body) if body else {}
    if not isinstance(value, dict):
        raise InvalidArgumentError("the body must be a JSON object")
    value = _lengthened(value, request, 0)
    for name, text in query:
        try:
            fields = fields_at(request, name)
        except KeyError:
            continue
        _set_field(value, fields, text)
    for fields, text in path_values.items():
        _set_field(value, fields, text)
    message = message_class(request.full_name)()
    try:
        ParseDict(value, message, descriptor_pool=POOL, max_recursion_depth=MAX_DEPTH)
    except (ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # The library raises more kinds than it says for JSON of the wrong shape.
        raise InvalidArgumentError(f"the request cannot be read: {error}") from error
    return message


def write_message(message: Message, *, is_pretty: bool, has_short_payloads: bool) -> bytes:
    """The JSON of a message.

    Args:
        message: what to write; fields without a value are left out.
        is_pretty: over several lines.
        has_short_payloads: values instead of base64 where that says the same.
    """
    return _dump(to_value(message, has_short_payloads=has_short_payloads), is_pretty)


def to_value(message: Message, *, has_short_payloads: bool) -> Any:
    """What `write_message` writes, before it is text."""
    value = MessageToDict(message, descriptor_pool=POOL)
    if not has_short_payloads:
        return value
    descriptor: Any = message.DESCRIPTOR
    return _shortened(value, descriptor, 0)


def write_status(status: Status, is_pretty: bool) -> bytes:
    """The JSON of an error: code, message and details."""
    value: dict[str, Any] = {"code": status.code, "message": status.message}
    if status.details:
        details = RpcStatus.FromString(status.details).details
        value["details"] = [MessageToDict(detail, descriptor_pool=POOL) for detail in details]
    return _dump(value, is_pretty)


def _dump(value: Any, is_pretty: bool) -> bytes:
    if is_pretty:
        return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _read_json(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"the body is no JSON: {error}") from error


def _set_field(value: dict[str, Any], fields: Fields, text: str) -> None:
    """Sets a field from text; the mapping accepts numbers as text."""
    for field in fields[:-1]:
        inner = _take(value, field)
        if not isinstance(inner, dict):
            inner = {}
        value[field.json_name] = inner
        value = inner
    last = fields[-1]
    item: Any = text
    if last.type == FieldDescriptor.TYPE_BOOL:
        item = {"true": True, "false": False}.get(text.lower(), text)
    elif last.enum_type is not None:
        item = _enum_value(text, last.enum_type)
    if last.is_repeated:
        before = _take(value, last)
        item = [*(before if isinstance(before, list) else ()), item]
    else:
        _take(value, last)
    value[last.json_name] = item


def _take(value: dict[str, Any], field: FieldDescriptor) -> Any:
    """Removes a field under either of its names."""
    by_proto_name = value.pop(field.name, None)
    return value.pop(field.json_name, by_proto_name)


def _lengthened(value: Any, message: Descriptor, depth: int) -> Any:
    """JSON as protobuf reads it, from JSON with short payloads and short names of enum values."""
    if message.full_name == _PAYLOAD:
        return to_long(value)
    if message.full_name == _PAYLOADS and isinstance(value, list):
        return {"payloads": [to_long(item) for item in value]}
    if not isinstance(value, dict):
        return value
    return _walk(value, message, depth, _lengthened, _enum_value)


def _shortened(value: Any, message: Descriptor, depth: int) -> Any:
    if message.full_name == _PAYLOAD:
        return to_short(value)
    if message.full_name == _PAYLOADS:
        payloads = value.get("payloads", [])
        shorts = [to_short(payload) for payload in payloads]
        are_all_short = all(short is not long for short, long in zip(shorts, payloads, strict=True))
        return shorts if are_all_short and shorts else {**value, "payloads": shorts} if shorts else value
    return _walk(value, message, depth, _shortened, None)


def _walk(
    value: dict[str, Any],
    message: Descriptor,
    depth: int,
    step: Callable[[Any, Descriptor, int], Any],
    enum_step: Callable[[Any, EnumDescriptor], Any] | None,
) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise InvalidArgumentError(f"the request is nested deeper than {MAX_DEPTH} levels")
    if message.full_name.startswith(_WELL_KNOWN):
        return value
    result = dict(value)
    names = _fields_by_json_name(message)
    for name, item in value.items():
        field = names.get(name)
        if field is None:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"].message_type
            if inner is not None and isinstance(item, dict):
                result[name] = {key: step(each, inner, depth + 1) for key, each in item.items()}
        elif field.message_type is not None:
            inner = field.message_type
            if field.is_repeated and isinstance(item, list):
                result[name] = [step(each, inner, depth + 1) for each in item]
            elif item is not None or inner.full_name == _PAYLOAD:
                result[name] = step(item, inner, depth + 1)
        elif field.enum_type is not None and enum_step is not None:
            values = item if isinstance(item, list) else [item]
            changed = [enum_step(each, field.enum_type) for each in values]
            result[name] = changed if isinstance(item, list) else changed[0]
    return result


@cache
def _fields_by_json_name(message: Descriptor) -> dict[str, FieldDescriptor]:
    return {name: field for field in message.fields for name in (field.name, field.json_name)}


def _enum_value(value: Any, enum: EnumDescriptor) -> Any:
    """The full name of an enum value that was given in short: `Fail` for `WORKFLOW_ID_CONFLICT_POLICY_FAIL`."""
    if not isinstance(value, str) or value in enum.values_by_name:
        return value
    full_name = f"{_upper(enum.name)}_{_upper(value)}"
    return full_name if full_name in enum.values_by_name else value


def _upper(camel_case: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", camel_case).upper()
