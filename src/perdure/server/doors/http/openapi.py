"""The OpenAPI 3 description of the routes, made from the descriptors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from perdure import __version__
from perdure.server.doors.http.routes import Route

_INTEGER_TEXT: Final = {"type": "string", "format": "int64", "description": "a whole number as text"}
_SCALARS: Final[dict[int, dict[str, str]]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "int64"},
    FieldDescriptor.TYPE_INT64: _INTEGER_TEXT,
    FieldDescriptor.TYPE_UINT64: _INTEGER_TEXT,
}
_WELL_KNOWN: Final[dict[str, dict[str, Any]]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "description": "seconds, such as 1.5s"},
    "google.protobuf.FieldMask": {"type": "string", "description": "names of fields, separated by commas"},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.BoolValue": {"type": "boolean"},
    "google.protobuf.DoubleValue": {"type": "number"},
    "temporal.api.common.v1.Payload": {"description": "a JSON value, or metadata and data in base64"},
    "temporal.api.common.v1.Payloads": {
        "description": "JSON values, or an object with `payloads`",
        "oneOf": [{"type": "array", "items": {}}, {"type": "object"}],
    },
}


def describe(routes: Iterable[Route]) -> bytes:
    """The description as JSON."""
    routes = tuple(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.verb.lower()] = _operation(route)
    messages = _reachable(message for route in routes for message in (route.request, route.response))
    description = {
        "openapi": "3.0.3",
        "info": {"title": "Perdure", "version": __version__},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {message.full_name: _schema(message) for message in messages}},
    }
    return json.dumps(description, separators=(",", ":")).encode()


def _operation(route: Route) -> dict[str, Any]:
    in_path = {segment for segment in route.segments if not isinstance(segment, str)}
    parameters = [
        {
            "name": ".".join(field.name for field in fields),
            "in": "path",
            "required": True,
            "schema": _value_schema(fields[-1]),
        }
        for fields in sorted(in_path, key=lambda fields: [field.number for field in fields])
    ]
    operation: dict[str, Any] = {
        # A template is part of it, because an RPC may have several.
        "operationId": route.rpc if not route.template.startswith("/api/v1") else f"{route.rpc}_v1",
        "tags": [route.path.split("/")[1].rpartition(".")[2]],
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": _json_of(route.response)},
            "default": {
                "description": "an error: code, message and details of google.rpc.Status",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
        },
    }
    if route.has_body:
        operation["requestBody"] = {"required": True, "content": _json_of(route.request)}
    else:
        parameters += [
            {"name": name, "in": "query", "schema": schema}
            for name, schema in _query_parameters(route.request, {fields[0].name for fields in in_path})
        ]
    return operation


def _query_parameters(request: Descriptor, left_out: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in request.fields:
        if field.name not in left_out and (
            field.message_type is None or field.message_type.full_name in _WELL_KNOWN
        ):
            yield field.json_name, _field_schema(field)


def _json_of(message: Descriptor) -> dict[str, Any]:
    return {"application/json": {"schema": _reference(message)}}


def _reference(message: Descriptor) -> dict[str, Any]:
    return _WELL_KNOWN.get(message.full_name) or {"$ref": f"#/components/schemas/{message.full_name}"}


def _schema(message: Descriptor) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.json_name: _field_schema(field) for field in message.fields},
    }


def _field_schema(field: FieldDescriptor) -> dict[str, Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {
            "type": "object",
            "additionalProperties": _value_schema(field.message_type.fields_by_name["value"]),
        }
    return {"type": "array", "items": _value_schema(field)} if field.is_repeated else _value_schema(field)


def _value_schema(field: FieldDescriptor) -> dict[str, Any]:
    if field.message_type is not None:
        return _reference(field.message_type)
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    return _SCALARS[field.type]


def _reachable(roots: Iterable[Descriptor]) -> list[Descriptor]:
    """The messages that a schema is needed for, by name."""
    found: dict[str, Descriptor] = {}
    waiting = list(roots)
    while waiting:
        message = waiting.pop()
        if message.full_name in found or message.full_name in _WELL_KNOWN:
            continue
        if not message.GetOptions().map_entry:
            found[message.full_name] = message
        waiting += [field.message_type for field in message.fields if field.message_type is not None]
    return [found[name] for name in sorted(found)]
