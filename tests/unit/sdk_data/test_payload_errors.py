"""A payload that cannot be read says which one it is, its encoding, the type wanted and what to do."""

from __future__ import annotations

import asyncio
import pickle
from asyncio import Future
from typing import Any

import pytest

from perdure.api.common.v1 import Payload
from perdure.converter import (
    BinaryNullPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
    value_to_type,
)
from perdure.exceptions import (
    PayloadError,
    PayloadParseError,
    PayloadTypeError,
    TemporalError,
    UnknownPayloadEncodingError,
)
from tests.unit.sdk_data.models import Level, Line, Order, Plain, Tree

CONVERTER = DataConverter.default.payload_converter


def _payload(encoding: bytes, data: bytes, **metadata: bytes) -> Payload:
    return Payload(metadata={"encoding": encoding, **metadata}, data=data)


@pytest.mark.parametrize(
    ("payload", "type_hint", "error_class", "official_class", "words"),
    [
        (
            _payload(b"binary/encrypted", b"x"),
            None,
            UnknownPayloadEncodingError,
            KeyError,
            "binary/encrypted",
        ),
        (Payload(data=b"1"), int, UnknownPayloadEncodingError, KeyError, "payload codec"),
        (_payload(b"json/plain", b"{"), None, PayloadParseError, RuntimeError, "holds no JSON"),
        (_payload(b"json/plain", b"\xff"), None, PayloadParseError, RuntimeError, "payload codec"),
        (_payload(b"binary/null", b"x"), None, PayloadParseError, RuntimeError, "1 bytes"),
        (_payload(b"json/protobuf", b"{}"), None, PayloadParseError, RuntimeError, "import the module"),
        (
            _payload(b"binary/protobuf", b"\xff", messageType=b"temporal.api.common.v1.Memo"),
            None,
            PayloadParseError,
            RuntimeError,
            "not a temporal.api.common.v1.Memo",
        ),
        (_payload(b"json/plain", b"1"), str, PayloadTypeError, TypeError, "to str: Expected value to be str"),
        (_payload(b"json/plain", b"1"), Line, PayloadTypeError, TypeError, "to Line"),
        (_payload(b"json/plain", b"{}"), Line, PayloadTypeError, TypeError, "sku"),
        (_payload(b"json/plain", b"3"), Level, PayloadTypeError, TypeError, "3 is not a valid Level"),
        (_payload(b"json/plain", b'"one"'), Plain, PayloadTypeError, TypeError, "Unserializable"),
    ],
)
def test_the_error_says_which_payload_and_why(
    payload: Payload,
    type_hint: Any,
    error_class: type[PayloadError],
    official_class: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error_class) as raised:
        CONVERTER.from_payloads([CONVERTER.to_payload(1), payload], [int, type_hint])
    error = raised.value
    assert isinstance(error, official_class)
    assert isinstance(error, TemporalError)
    assert (error.index, error.type_hint) == (1, type_hint)
    assert error.encoding == payload.metadata.get("encoding", b"<unknown>").decode()
    assert "index 1" in str(error)
    assert error.encoding in str(error)
    assert words in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.index) == (type(error), str(error), 1)


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (
            Order,
            {"name": "n", "placed": "2026-01-01", "lines": [{"sku": 1}], "by_sku": {}},
            ["field lines", "index 0", "field sku", "str, was <class 'int'>"],
        ),
        (Tree, {"value": 1, "children": [{"value": "x"}]}, ["field children", "field value"]),
        (dict[str, list[int]], {"a": [1, "x"]}, ["key 'a'", "index 1"]),
        (dict[int, str], {"x": "y"}, ["key 'x'", "int"]),
        (tuple[int, str], [1, "a", 2], ["only expecting 2 values"]),
        (int | None, "x", ["int", "'x'"]),
    ],
)
def test_the_error_names_the_place_inside_the_value(hint: Any, value: Any, words: list[str]) -> None:
    with pytest.raises(TypeError) as raised:
        value_to_type(hint, value)
    assert all(word in str(raised.value) for word in words), str(raised.value)


class _Strict(EncodingPayloadConverter):
    """Fails with an error of the user's own."""

    class NotToday(ValueError):
        """The error."""

    @property
    def encoding(self) -> str:
        return "strict"

    def to_payload(self, value: Any) -> Payload | None:
        return None

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        raise _Strict.NotToday("no")


def test_an_error_of_a_users_converter_keeps_its_class() -> None:
    with pytest.raises(_Strict.NotToday) as raised:
        CompositePayloadConverter(_Strict()).from_payload(_payload(b"strict", b""), int)
    assert str(raised.value) == "no"
    assert raised.value.__notes__ == ["Payload at index 0 with encoding strict could not be converted to int"]


def test_a_value_that_no_converter_takes_is_refused() -> None:
    with pytest.raises(
        RuntimeError, match="index 1 of type <class 'int'> has no known converter.*binary/null"
    ):
        CompositePayloadConverter(BinaryNullPayloadConverter()).to_payloads([None, 5])


@pytest.mark.parametrize("value", [object(), Plain.ONE, {1: object()}, complex(1)])
def test_a_value_that_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        CONVERTER.to_payload(value)


def test_a_coroutine_is_refused_with_what_is_missing() -> None:
    """Who forgets `await` reads of it, and not of JSON alone."""
    future: Future[None] = Future(loop=asyncio.new_event_loop())
    with pytest.raises(TypeError, match="an `await` is missing"):
        CONVERTER.to_payload({"a": future})
    future.get_loop().close()


def test_a_pydantic_model_without_its_converter_is_warned_about() -> None:
    class Model:
        value: Any = None

        def dict(self) -> Any:
            return {"a": 1}

        @classmethod
        def parse_obj(cls, value: Any) -> Model:
            made = cls()
            made.value = value
            return made

    converter = JSONPlainPayloadConverter()
    with pytest.warns(UserWarning, match="perdure.contrib.pydantic"):
        payload = converter.to_payload(Model())
    assert payload is not None
    assert payload.data == b'{"a":1}'
    assert converter.from_payload(payload, Model).value == {"a": 1}
