"""Search attributes to payloads and back. No payload codec applies: the server must be able to read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import perdure.api.common.v1
from perdure.common import (
    SearchAttributeIndexedValueType,
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributes,
    SearchAttributeValue,
    SearchAttributeValues,
    SearchAttributeValueType,
    TypedSearchAttributes,
)
from perdure.converter._data_converter import default


def encode_search_attributes(
    attributes: SearchAttributes | TypedSearchAttributes, api: perdure.api.common.v1.SearchAttributes
) -> None:
    """Write search attributes into a message.

    Args:
        attributes: The attributes; a mapping is deprecated.
        api: The message.
    """
    if isinstance(attributes, TypedSearchAttributes):
        for key, value in attributes:
            api.indexed_fields[key.name].CopyFrom(encode_typed_search_attribute_value(key, value))
    else:
        for name, values in (attributes or {}).items():
            api.indexed_fields[name].CopyFrom(encode_search_attribute_values(values))


def encode_typed_search_attribute_value(
    key: SearchAttributeKey[SearchAttributeValueType], value: SearchAttributeValue | None
) -> perdure.api.common.v1.Payload:
    """Turn the value of a search attribute into a payload.

    Args:
        key: The attribute.
        value: Its value, or None to remove it.

    Raises:
        TypeError: The value is not of the attribute's type.
        ValueError: A date has no time zone.
    """
    converter = default().payload_converter
    if value is None:
        # Without a type: the server takes a typed null for a value.
        return converter.to_payload(None)
    if not isinstance(value, key.origin_value_type):
        raise TypeError(
            f"Value of type {type(value).__name__} not suitable for search attribute {key.name} of indexed value"
            f" type {key.indexed_value_type.name}"
        )
    wire_value: Any = value
    if isinstance(value, datetime):
        _require_time_zone(value)
        wire_value = value.isoformat()
    elif not isinstance(value, str) and isinstance(value, Sequence):
        for item in value:
            if not isinstance(item, str):
                raise TypeError(f"All values of a keyword list must be strings, not {type(item).__name__}")
    payload = converter.to_payload(wire_value)
    payload.metadata["type"] = key._metadata_type.encode()
    return payload


def _require_time_zone(value: datetime) -> None:
    if value.tzinfo is None:
        raise ValueError(
            "Timezone must be present on all search attribute dates: use for example datetime.now(timezone.utc)"
        )


def encode_search_attribute_values(vals: SearchAttributeValues) -> perdure.api.common.v1.Payload:
    """Turn the values of an untyped search attribute into a payload. Deprecated: use typed ones.

    Args:
        vals: A list of values of one type.

    Raises:
        TypeError: It is no list, or a value has a type that is not allowed or not that of the others.
        ValueError: A date has no time zone.
    """
    if not isinstance(vals, list):
        raise TypeError(f"Search attribute values must be lists, not {type(vals).__name__}")
    wire_values: list[Any] = []
    types = set()
    for value in vals:
        if isinstance(value, datetime):
            _require_time_zone(value)
            wire_values.append(value.isoformat())
            continue
        if not isinstance(value, (str, int, float, bool)):
            raise TypeError(
                f"Search attribute value of type {type(value).__name__} not one of str, int, float, bool, or datetime"
            )
        types.add(type(value))
        if len(types) > 1:
            raise TypeError("Search attribute values must have the same type for the same key")
        wire_values.append(value)
    return default().payload_converter.to_payload(wire_values)


def _encode_maybe_typed_search_attributes(
    non_typed_attributes: SearchAttributes | None,
    typed_attributes: TypedSearchAttributes | None,
    api: perdure.api.common.v1.SearchAttributes,
) -> None:
    """Write search attributes that may be given in one of two forms.

    Raises:
        ValueError: They are given in both.
    """
    has_typed = typed_attributes is not None and len(typed_attributes) > 0
    if non_typed_attributes and has_typed:
        raise ValueError("Cannot provide both deprecated search attributes and typed search attributes")
    if non_typed_attributes:
        encode_search_attributes(non_typed_attributes, api)
    elif typed_attributes is not None and has_typed:
        encode_search_attributes(typed_attributes, api)


def decode_search_attributes(api: perdure.api.common.v1.SearchAttributes) -> SearchAttributes:
    """Turn the search attributes of a message into lists of values by name. Deprecated: use typed ones.

    Args:
        api: The message.
    """
    converter = default().payload_converter
    values: dict[str, Any] = {}
    for name, payload in api.indexed_fields.items():
        value = converter.from_payload(payload)
        items = value if isinstance(value, list) else [value]
        if payload.metadata.get("type") == b"Datetime":
            items = [datetime.fromisoformat(item) for item in items]
        values[name] = items
    return values


def decode_typed_search_attributes(api: perdure.api.common.v1.SearchAttributes) -> TypedSearchAttributes:
    """Turn the search attributes of a message into typed ones.

    Attributes that say no type, or whose value does not fit it, are left out.

    Args:
        api: The message.
    """
    converter = default().payload_converter
    pairs: list[SearchAttributePair[Any]] = []
    for name, payload in api.indexed_fields.items():
        key = SearchAttributeKey._from_metadata_type(name, payload.metadata.get("type", b"").decode())
        if key is None:
            continue
        value = _value_of_type(converter.from_payload(payload), key.indexed_value_type)
        if isinstance(value, key.origin_value_type):
            pairs.append(SearchAttributePair(key, value))
    return TypedSearchAttributes(pairs)


def _value_of_type(value: Any, indexed_type: SearchAttributeIndexedValueType) -> Any:
    """Return a value as its type has it in Python; None if that cannot be."""
    if indexed_type != SearchAttributeIndexedValueType.KEYWORD_LIST and isinstance(value, list):
        if len(value) != 1:
            return None
        value = value[0]
    if indexed_type == SearchAttributeIndexedValueType.DATETIME:
        return _date_or_none(value)
    if indexed_type == SearchAttributeIndexedValueType.DOUBLE and type(value) is int:
        # A whole number loses its point on the way.
        return float(value)
    return value


def _date_or_none(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _decode_search_attribute_value(payload: perdure.api.common.v1.Payload) -> SearchAttributeValue:
    value = default().payload_converter.from_payload(payload)
    if isinstance(value, str) and payload.metadata.get("type") == b"Datetime":
        return datetime.fromisoformat(value)
    return value  # type: ignore[no-any-return]
