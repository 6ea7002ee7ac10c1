"""Search attributes to payloads and back: bytes as officially, bad values refused, unreadable ones left out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import temporalio.api.common.v1
import temporalio.common
import temporalio.converter

from perdure.api.common.v1 import Payload, SearchAttributes
from perdure.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from perdure.converter import (
    decode_search_attributes,
    decode_typed_search_attributes,
    encode_search_attribute_values,
    encode_search_attributes,
    encode_typed_search_attribute_value,
)
from perdure.converter._search_attributes import (
    _decode_search_attribute_value,
    _encode_maybe_typed_search_attributes,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)

VALUES: tuple[tuple[str, Any], ...] = (
    ("for_text", "some text"),
    ("for_keyword", "word"),
    ("for_int", 5),
    ("for_float", 1.5),
    ("for_bool", True),
    ("for_datetime", NOW),
    ("for_keyword_list", ["a", "b"]),
)


@pytest.mark.parametrize(("maker", "value"), VALUES)
def test_a_typed_value_has_the_official_bytes_and_comes_back(maker: str, value: Any) -> None:
    key = getattr(SearchAttributeKey, maker)("name")
    payload = encode_typed_search_attribute_value(key, value)
    official = temporalio.converter.encode_typed_search_attribute_value(
        getattr(temporalio.common.SearchAttributeKey, maker)("name"), value
    )
    assert payload.SerializeToString(deterministic=True) == official.SerializeToString(deterministic=True)
    api = SearchAttributes(indexed_fields={"name": payload})
    assert decode_typed_search_attributes(api) == TypedSearchAttributes([SearchAttributePair(key, value)])
    assert encode_typed_search_attribute_value(key, None).metadata == {"encoding": b"binary/null"}


@pytest.mark.parametrize("values", [["a", "b"], [1, 2], [1.5], [True], [NOW], []])
def test_untyped_values_have_the_official_bytes(values: Any) -> None:
    ours, official = SearchAttributes(), temporalio.api.common.v1.SearchAttributes()
    encode_search_attributes({"k": values}, ours)
    temporalio.converter.encode_search_attributes({"k": values}, official)
    assert ours.SerializeToString(deterministic=True) == official.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("maker", "value", "error", "message"),
    [
        ("for_int", "5", TypeError, "str not suitable for search attribute name .* INT"),
        ("for_keyword_list", ["a", 1], TypeError, "keyword list must be strings, not int"),
        ("for_datetime", datetime(2026, 1, 1), ValueError, "Timezone must be present"),
    ],
)
def test_a_value_of_another_type_is_refused(
    maker: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        encode_typed_search_attribute_value(getattr(SearchAttributeKey, maker)("name"), value)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ("abc", TypeError, "must be lists, not str"),
        ([1, "a"], TypeError, "must have the same type"),
        ([None], TypeError, "of type NoneType not one of"),
        ([datetime(2026, 1, 1)], ValueError, "Timezone must be present"),
    ],
)
def test_untyped_values_that_do_not_go_together_are_refused(
    values: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        encode_search_attribute_values(values)


def _field(metadata_type: bytes, data: bytes) -> SearchAttributes:
    metadata = {"encoding": b"json/plain", "type": metadata_type}
    return SearchAttributes(indexed_fields={"k": Payload(metadata=metadata, data=data)})


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        (_field(b"Double", b"5"), 5.0),
        (_field(b"Int", b"[5]"), 5),
        (_field(b"Datetime", b'"2026-01-02T03:04:05.000006Z"'), NOW),
        (_field(b"Int", b"[5, 6]"), None),
        (_field(b"Int", b'"x"'), None),
        (_field(b"Datetime", b"null"), None),
        (_field(b"Datetime", b"5"), None),
        (_field(b"Datetime", b'"soon"'), None),
        (_field(b"Unheard", b"5"), None),
        (_field(b"", b"5"), None),
    ],
)
def test_what_servers_write_is_read_and_the_rest_left_out(api: SearchAttributes, expected: Any) -> None:
    values = [pair.value for pair in decode_typed_search_attributes(api)]
    assert values == ([] if expected is None else [expected])
    assert [type(value) for value in values] == ([] if expected is None else [type(expected)])


def test_untyped_values_are_read_as_lists() -> None:
    assert decode_search_attributes(_field(b"Int", b"5")) == {"k": [5]}
    assert decode_search_attributes(_field(b"KeywordList", b'["a"]')) == {"k": ["a"]}
    assert decode_search_attributes(_field(b"Datetime", b'"2026-01-02T03:04:05.000006Z"')) == {"k": [NOW]}
    field = _field(b"Datetime", b'"2026-01-02T03:04:05.000006Z"').indexed_fields["k"]
    assert _decode_search_attribute_value(field) == NOW
    assert _decode_search_attribute_value(_field(b"Int", b"5").indexed_fields["k"]) == 5


def test_attributes_are_given_in_one_form_only() -> None:
    typed = TypedSearchAttributes([SearchAttributePair(SearchAttributeKey.for_int("k"), 1)])
    with pytest.raises(ValueError, match="both"):
        _encode_maybe_typed_search_attributes({"k": [1]}, typed, SearchAttributes())
    for untyped, given in (({"k": [1]}, TypedSearchAttributes.empty), (None, typed), ({}, typed)):
        api = SearchAttributes()
        _encode_maybe_typed_search_attributes(untyped, given, api)
        assert list(api.indexed_fields) == ["k"]
    api = SearchAttributes()
    _encode_maybe_typed_search_attributes(None, None, api)
    assert not api.indexed_fields
