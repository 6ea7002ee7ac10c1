"""Values of search attributes: each type's valid and invalid forms, names, sizes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.errors import InvalidArgumentError
from perdure.core.run import attributes
from perdure.core.run.limits import Limits
from perdure.core.run.records import Text
from perdure.core.visibility.attributes import AttributeType
from tests.support.builders import keyword
from tests.support.proto import common
from tests.unit.core.driver import CUSTOM

NOON_NS = 1_704_110_400_000_000_000
MAX_NS = 2**63 - 1


def _payload(data: bytes, encoding: bytes = b"json/plain") -> common.Payload:
    return common.Payload(metadata={"encoding": encoding}, data=data)


def _fields(**values: common.Payload) -> common.SearchAttributes:
    return common.SearchAttributes(indexed_fields=values)


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        ("KEYWORD", b'"word"', "word"),
        ("KEYWORD", b'""', ""),
        ("KEYWORD", b'["word"]', "word"),
        ("TEXT", '"lang\u00e4uig"'.encode(), "langäuig"),
        ("KEYWORD", b'"\\ud800A"', "\ufffdA"),
        ("KEYWORD", b'"\\ud83d\\ude00"', "😀"),
        ("INT", b"5", 5),
        ("INT", b"[5]", 5),
        ("INT", b" -5 ", -5),
        ("INT", b"9223372036854775807", 2**63 - 1),
        ("INT", b"-9223372036854775808", -(2**63)),
        ("DOUBLE", b"1.5", 1.5),
        ("DOUBLE", b"1", 1.0),
        ("BOOL", b"true", True),
        ("BOOL", b"false", False),
        ("DATETIME", b'"2024-01-01T12:00:00Z"', NOON_NS),
        ("DATETIME", b'"2024-01-01T14:00:00.5+02:00"', NOON_NS + 500_000_000),
        ("DATETIME", b'"2024-01-01T12:00:00.123456789Z"', NOON_NS + 123_456_789),
        ("DATETIME", b'"2024-01-01T12:00:00.1234567891Z"', NOON_NS + 123_456_789),
        ("DATETIME", b'"9999-12-31T23:59:59Z"', MAX_NS),
        ("DATETIME", b'"0001-01-01T00:00:00Z"', -(2**63)),
        ("KEYWORD_LIST", b'["a", "b"]', ["a", "b"]),
        ("KEYWORD_LIST", b'"a"', ["a"]),
        ("KEYWORD_LIST", b'["\\udc00"]', ["\ufffd"]),
    ],
)
def test_a_valid_value_decodes(kind: str, data: bytes, value: Any) -> None:
    decoded = attributes.decode(_payload(data), AttributeType[kind])
    assert decoded == value
    assert type(decoded) is (Text if kind == "TEXT" else type(value))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("KEYWORD", b"5"),
        ("KEYWORD", b'["a", "b"]'),
        ("KEYWORD", b"word"),
        ("KEYWORD", b"\xff\xfe\xff"),
        pytest.param("KEYWORD", b"[" * 100_000, id="deep"),
        ("TEXT", b"true"),
        ("INT", b"1.0"),
        ("INT", b"true"),
        ("INT", b'"5"'),
        ("INT", b"9223372036854775808"),
        pytest.param("INT", b"9" * 5000, id="many digits"),
        ("DOUBLE", b'"1.5"'),
        ("DOUBLE", b"false"),
        ("DOUBLE", b"NaN"),
        ("DOUBLE", b"Infinity"),
        ("DOUBLE", b"1e999"),
        pytest.param("DOUBLE", b"1" + b"0" * 400, id="too large for a double"),
        ("BOOL", b"1"),
        ("BOOL", b'"true"'),
        ("DATETIME", b'"2024-01-01"'),
        ("DATETIME", b'"2024-01-01T12:00:00"'),
        ("DATETIME", b'"20240101T120000Z"'),
        ("DATETIME", b'"2024-13-01T12:00:00Z"'),
        ("DATETIME", b'"yesterday"'),
        ("DATETIME", b"5"),
        ("KEYWORD_LIST", b'["a", 5]'),
        ("KEYWORD_LIST", b"{}"),
    ],
)
def test_an_invalid_value_does_not(kind: str, data: bytes) -> None:
    """Never an accident either: what decodes can be stored and compared."""
    assert attributes.decode(_payload(data), AttributeType[kind]) is None


@pytest.mark.parametrize(
    ("payload", "nil"),
    [
        (_payload(b"anything", b"binary/null"), True),
        (_payload(b""), True),
        (_payload(b"null"), True),
        (_payload(b" [] "), True),
        (common.Payload(), True),
        (_payload(b"[]", b"binary/plain"), False),
        (_payload(b"0"), False),
        (_payload(b'""'), False),
    ],
)
def test_which_payloads_mean_no_value(payload: common.Payload, nil: bool) -> None:
    assert attributes.is_nil(payload) is nil
    if nil:
        assert attributes.decode(payload, AttributeType.KEYWORD) is None


@given(st.binary(max_size=40), st.sampled_from(list(AttributeType)))
def test_no_bytes_break_decoding(data: bytes, kind: AttributeType) -> None:
    value = attributes.decode(_payload(data), kind)
    assert value is None or json.dumps(value, allow_nan=False).encode()


@given(st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds") + "Z"))
def test_every_time_has_a_place_in_64_bits(text: str) -> None:
    time_ns = attributes.datetime_ns(text)
    assert time_ns is not None
    assert -(2**63) <= time_ns <= MAX_NS


# --- validation ---


def test_names_of_every_origin_are_accepted() -> None:
    fields = _fields(
        Kw=keyword("w"),
        Num=_payload(b"5"),
        BuildIds=_payload(b'["a"]'),
        TemporalChangeVersion=_payload(b'["a"]'),
        Flag=_payload(b"null"),
    )
    attributes.validate(fields, CUSTOM, "default", Limits())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("Nope", b'"w"', "Namespace default has no mapping defined for search attribute Nope"),
        ("WorkflowId", b'"w"', "WorkflowId attribute can't be set in SearchAttributes"),
        (
            "TemporalExternalPayloadCount",
            b"5",
            "TemporalExternalPayloadCount attribute can't be set in SearchAttributes",
        ),
        ("Num", b'"words"', "invalid value for search attribute Num of type Int: words"),
        ("When", b"5", "invalid value for search attribute When of type Datetime: 5"),
        (
            "Num",
            b"{broken",
            "invalid value for search attribute Num of type Int: value from <json/plain payload>",
        ),
    ],
)
def test_bad_attributes_are_named(name: str, data: bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        attributes.validate(_fields(**{name: _payload(data)}), CUSTOM, "default", Limits())
    assert str(caught.value) == message


def test_the_number_of_attributes_is_limited() -> None:
    fields = _fields(Kw=keyword("w"), Num=_payload(b"5"))
    attributes.validate(fields, CUSTOM, "default", Limits(search_attribute_count=2))
    with pytest.raises(InvalidArgumentError, match="number of search attributes 2 exceeds limit 1"):
        attributes.validate(fields, CUSTOM, "default", Limits(search_attribute_count=1))


def test_sizes_are_limited() -> None:
    fields = _fields(Kw=keyword("w" * 100), Txt=keyword("w" * 100))
    attributes.validate_size(fields, Limits())
    with pytest.raises(
        InvalidArgumentError, match="search attribute (Kw|Txt) value size 102 exceeds size limit 101"
    ):
        attributes.validate_size(fields, Limits(search_attribute_value_bytes=101))
    with pytest.raises(
        InvalidArgumentError, match=r"total size of search attributes \d+ exceeds size limit 200"
    ):
        attributes.validate_size(fields, Limits(search_attributes_bytes=200))


def test_what_does_not_decode_is_left_out_of_lists() -> None:
    fields = _fields(
        Kw=keyword("w"),
        Num=_payload(b'"x"'),
        Gone=keyword("w"),
        BuildIds=_payload(b'["a"]'),
        Flag=_payload(b"null"),
    )
    assert attributes.decode_all(fields, CUSTOM) == {"Kw": "w", "BuildIds": ["a"]}


def test_values_in_the_history_carry_their_types() -> None:
    """A type that the client gave is kept, one that is missing is filled in, unknown names are left alone."""
    fields = _fields(
        Num=_payload(b"5"),
        Kw=common.Payload(metadata={"type": b"Given"}, data=b'"w"'),
        BuildIds=_payload(b'["a"]'),
        Nope=_payload(b"5"),
    )
    attributes.mark_types(fields, CUSTOM)
    types = {name: payload.metadata.get("type") for name, payload in fields.indexed_fields.items()}
    assert types == {"Num": b"Int", "Kw": b"Given", "BuildIds": b"KeywordList", "Nope": None}
