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
from perdure.server.doors.http.payloads import finite, is_base64, refuse_constant, to_long, to_short
from perdure.server.doors.http.routes import Fields, fields_at
from perdure.server.doors.status import Status

MAX_DEPTH: Final = 100
_PAYLOAD: Final = "temporal.api.common.v1.Payload"
_PAYLOADS: Final = "temporal.api.common.v1.Payloads"
_WELL_KNOWN: Final = "google.protobuf."
_WHOLE_NUMBER: Final = re.compile("-?[0-9]{1,10}")
_BOOLEANS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
"""How a truth may be written where all is text."""


class _Object(dict[str, Any]):
    """A JSON object, and a name that it says more than once."""

    repeated = ""


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
    given: set[Fields] = set()
    for name, text in query:
        try:
            fields = fields_at(request, name)
        except KeyError:
            continue
        if fields in given and not fields[-1].is_repeated:
            raise InvalidArgumentError(f"{name} is given twice")
        given.add(fields)
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
        return json.loads(
            body.decode(), parse_constant=refuse_constant, parse_float=finite, object_pairs_hook=_object
        )
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"the body is no JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    result = _Object(pairs)
    if len(result) < len(pairs):
        result.repeated = _first_repeated(name for name, _ in pairs)
    return result


def _first_repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _set_field(value: dict[str, Any], fields: Fields, text: str) -> None:
    """Sets a field from text; the mapping accepts numbers as text."""
    for field in fields[:-1]:
        inner = _take(value, field)
        if not isinstance(inner, dict):
            inner = {}
        value[field.json_name] = inner
        value = inner
    last = fields[-1]
    item = _from_text(text, last)
    if last.is_repeated:
        before = _take(value, last)
        item = [*(before if isinstance(before, list) else ()), item]
    else:
        _take(value, last)
    value[last.json_name] = item


def _from_text(text: str, field: FieldDescriptor) -> Any:
    """What a field's text means, as the mapping has it."""
    if field.message_type is not None and not field.message_type.full_name.startswith(_WELL_KNOWN):
        raise InvalidArgumentError(f"{field.json_name} has fields of its own: name one of them")
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _BOOLEANS.get(text.lower(), text)
    if field.enum_type is not None:
        if not _WHOLE_NUMBER.fullmatch(text):
            return _enum_value(text, field.enum_type)
        if int(text) not in field.enum_type.values_by_number:
            raise InvalidArgumentError(f"{text} is no value of {field.json_name}")
        return int(text)
    _check_text(text, field)
    return text


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
    _check_object(value, message)
    return _walk(value, message, depth, _lengthened, _enum_value)


def _check_object(value: dict[str, Any], message: Descriptor) -> None:
    """Refuses what the library would read as something else than was meant."""
    names = _fields_by_json_name(message)
    _refuse_repeated(value)
    seen: set[int] = set()
    for name, item in value.items():
        field = names.get(name)
        if field is None:
            continue
        if field.number in seen:
            raise InvalidArgumentError(f"the field {name!r} is given twice, by both of its names")
        seen.add(field.number)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _refuse_repeated(item)
        for each in item if isinstance(item, list) else (item,):
            _check_text(each, field)


def _refuse_repeated(value: Any) -> None:
    if isinstance(value, _Object) and value.repeated:
        raise InvalidArgumentError(f"{value.repeated!r} is given twice in one object")


def _check_text(value: Any, field: FieldDescriptor) -> None:
    if not isinstance(value, str):
        return
    if field.type == FieldDescriptor.TYPE_BYTES and not is_base64(value):
        raise InvalidArgumentError(f"{field.json_name} is no base64: {value[:100]!r}")
    if field.enum_type is not None and _WHOLE_NUMBER.fullmatch(value):
        raise InvalidArgumentError(
            f"{value!r} is no value of {field.json_name}: a number stands without quotes"
        )


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
