"""Codecs change bytes and nothing else; contexts reach every part that wants one; the Pydantic converter."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import pydantic
import pytest
import temporalio.contrib.pydantic
from hypothesis import given

from perdure.api.common.v1 import Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.contrib.pydantic import (
    PydanticJSONPlainPayloadConverter,
    PydanticPayloadConverter,
    ToJsonOptions,
    pydantic_data_converter,
)
from perdure.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    ExternalStorage,
    JSONPlainPayloadConverter,
    PayloadCodec,
    PayloadConverter,
    SerializationContext,
    StorageDriverStoreContext,
    TransferTypeConverter,
    WithSerializationContext,
    WorkflowSerializationContext,
    transfer_type_convertible,
)
from perdure.exceptions import ApplicationError, TimeoutError
from tests.unit.sdk_data.drivers import MemoryDriver, ReversingCodec, WrappingCodec, run
from tests.unit.sdk_data.models import JSON_VALUES

CONTEXT = WorkflowSerializationContext(namespace="n", workflow_id="w")


@given(JSON_VALUES)
def test_a_codec_gets_the_payloads_and_gives_them_back(value: Any) -> None:
    converter = DataConverter(payload_codec=WrappingCodec())
    payloads = run(converter.encode([value, 2]))
    assert [payload.metadata["encoding"] for payload in payloads] == [b"wrapped"]
    assert run(converter.decode(payloads)) == [value, 2]


def test_a_codec_that_returns_what_it_was_given_loses_nothing() -> None:
    class Same(ReversingCodec):
        async def encode(self, payloads: Any) -> Any:
            return payloads

    payloads = Payloads(payloads=[Payload(data=b"1"), Payload(data=b"2")])
    run(Same().encode_wrapper(payloads))
    assert [payload.data for payload in payloads.payloads] == [b"1", b"2"]


def test_a_codec_reaches_every_payload_of_a_failure_and_its_causes() -> None:
    converter = DataConverter(
        payload_codec=ReversingCodec(),
        failure_converter_class=type(
            "Encoding", (DefaultFailureConverter,), {"__init__": _encode_common_attributes}
        ),
    )
    error = ApplicationError("outer", "detail")
    error.__cause__ = TimeoutError("inner", type=None, last_heartbeat_details=["beat"])
    failure = Failure()
    run(converter.encode_failure(error, failure))
    texts = failure.SerializeToString()
    assert not any(secret in texts for secret in (b"outer", b"inner", b"detail", b"beat"))
    back: Any = run(converter.decode_failure(failure))
    assert (back.message, back.details) == ("outer", ("detail",))
    assert (back.cause.message, back.cause.last_heartbeat_details) == ("inner", ["beat"])


def _encode_common_attributes(self: Any) -> None:
    DefaultFailureConverter.__init__(self, encode_common_attributes=True)


class _ContextEncoding(EncodingPayloadConverter, WithSerializationContext):
    """Writes down its context in place of every string."""

    def __init__(self, context: SerializationContext | None = None) -> None:
        self.context = context

    @property
    def encoding(self) -> str:
        return "with-context"

    def with_context(self, context: SerializationContext) -> _ContextEncoding:
        return _ContextEncoding(context)

    def to_payload(self, value: Any) -> Payload | None:
        if not isinstance(value, str):
            return None
        return Payload(metadata={"encoding": b"with-context"}, data=repr(self.context).encode())

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        return payload.data.decode()


class _ContextConverter(CompositePayloadConverter):
    def __init__(self) -> None:
        super().__init__(_ContextEncoding(), *DefaultPayloadConverter.default_encoding_payload_converters)


class _ContextCodec(PayloadCodec, WithSerializationContext):
    def __init__(self, context: SerializationContext | None = None) -> None:
        self.context = context

    def with_context(self, context: SerializationContext) -> _ContextCodec:
        return _ContextCodec(context)

    async def encode(self, payloads: Any) -> list[Payload]:
        return [Payload(data=repr(self.context).encode()) for _ in payloads]

    async def decode(self, payloads: Any) -> list[Payload]:
        return list(payloads)


class _ContextFailureConverter(DefaultFailureConverter, WithSerializationContext):
    context: SerializationContext | None = None

    def with_context(self, context: SerializationContext) -> _ContextFailureConverter:
        made = type(self)()
        made.context = context
        return made


def test_the_context_reaches_every_part_that_takes_one() -> None:
    plain = DataConverter(_ContextConverter, _ContextCodec(), _ContextFailureConverter)
    converter = plain.with_context(CONTEXT)
    assert converter.payload_converter.to_payload("s").data == repr(CONTEXT).encode()
    assert converter.payload_converter.to_payload(1).data == b"1"
    assert run(converter.encode([1]))[0].data == repr(CONTEXT).encode()
    assert converter.failure_converter.context == CONTEXT  # type: ignore[attr-defined]
    assert plain.payload_converter.to_payload("s").data == b"None"
    assert type(converter) is DataConverter


def test_storing_for_somebody_keeps_the_context_of_the_parts() -> None:
    storage = ExternalStorage([MemoryDriver()], payload_size_threshold=10**6)
    plain = DataConverter(_ContextConverter, external_storage=storage)
    converter = plain._with_contexts(CONTEXT, StorageDriverStoreContext())
    assert run(converter.encode(["s"]))[0].data == repr(CONTEXT).encode()


def test_a_context_that_makes_no_difference_makes_no_copy() -> None:
    assert DataConverter.default.with_context(CONTEXT) is DataConverter.default
    assert pydantic_data_converter.with_context(CONTEXT) is pydantic_data_converter


@dataclass
class _Money:
    cents: int


class _MoneyConverter(TransferTypeConverter[_Money, str]):
    transfer_type = str

    def to_transfer_type(self, value: _Money) -> str:
        return f"{value.cents}c"

    def from_transfer_type(self, value: str, type_hint: type[_Money]) -> _Money:
        return type_hint(int(value[:-1]))


transfer_type_convertible(_MoneyConverter)(_Money)


@pytest.mark.parametrize("converter", [DataConverter.default, pydantic_data_converter])
def test_a_transfer_type_stands_for_the_value_on_the_wire(converter: DataConverter) -> None:
    payload = converter.payload_converter.to_payload(_Money(5))
    assert payload.data == b'"5c"'
    assert converter.payload_converter.from_payloads([payload, payload], [_Money, str]) == [_Money(5), "5c"]
    with pytest.raises(TypeError, match="already has a transfer type converter"):
        transfer_type_convertible(_MoneyConverter)(_Money)


class Item(pydantic.BaseModel):
    """A model."""

    name: str
    at: datetime
    id: UUID | None = None
    tags: set[str] = set()


ITEM = Item(name="n", at=datetime(2026, 1, 2, tzinfo=UTC), id=UUID(int=1), tags={"a"})


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (ITEM, Item),
        ([ITEM], list[Item]),
        ({"a": {1, 2}}, dict[str, set[int]]),
        (None, None),
        (b"x", bytes),
        (1.5, None),
    ],
)
def test_pydantic_values_have_the_official_bytes_and_come_back(value: Any, hint: Any) -> None:
    ours = pydantic_data_converter.payload_converter
    official = temporalio.contrib.pydantic.pydantic_data_converter.payload_converter
    payload = ours.to_payload(value)
    assert payload.SerializeToString(deterministic=True) == official.to_payload(value).SerializeToString(
        deterministic=True
    )
    assert ours.from_payload(payload, hint) == value


def test_pydantic_options_and_errors() -> None:
    class Small(PydanticPayloadConverter):
        def __init__(self) -> None:
            super().__init__(ToJsonOptions(exclude_unset=True), max_cached_type_adapters=0)

    converter: PayloadConverter = DataConverter(payload_converter_class=Small).payload_converter
    payload = converter.to_payload(Item(name="n", at=ITEM.at))
    assert payload.data == b'{"name":"n","at":"2026-01-02T00:00:00Z"}'
    payload.data = b'{"name":5}'
    with pytest.raises(pydantic.ValidationError, match="2 validation errors for Item") as raised:
        converter.from_payload(payload, Item)
    assert "index 0" in raised.value.__notes__[0]
    with pytest.raises(ValueError, match="negative"):
        PydanticJSONPlainPayloadConverter(max_cached_type_adapters=-1)


def test_the_pydantic_converter_survives_pickle_after_use() -> None:
    converter = PydanticJSONPlainPayloadConverter(max_cached_type_adapters=3)
    payload = converter.to_payload(ITEM)
    assert payload is not None
    assert converter.from_payload(payload, Item) == ITEM
    assert pickle.loads(pickle.dumps(converter)).from_payload(payload, Item) == ITEM


def test_pydantic_tells_hints_apart_that_are_equal() -> None:
    """`int | float == float | int`, and each takes its first that fits: no matter which the process saw first."""
    converter = PydanticJSONPlainPayloadConverter()
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'"1"')
    hints: list[Any] = [int | float, float | int]
    assert [type(converter.from_payload(payload, hint)) for hint in hints] == [int, float]
    without_hash: Any = Annotated[str, []]
    assert converter.from_payload(payload, without_hash) == "1"


def test_pydantic_makes_one_adapter_for_hints_that_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """`result_type=list[Item]` in a loop: making an adapter takes longer than all else that a payload needs."""
    made: list[Any] = []

    def counted(hint: Any) -> pydantic.TypeAdapter[Any]:
        made.append(hint)
        return pydantic.TypeAdapter(hint)

    monkeypatch.setattr("perdure.contrib.pydantic.TypeAdapter", counted)
    converter = PydanticJSONPlainPayloadConverter()
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b"[1]")
    for _ in range(3):
        for hint in (list[int], list[Literal[1]], Annotated[list[int], "a"], list[int | float]):
            assert converter.from_payload(payload, cast(type, hint)) == [1]
    assert len(made) == 4


def test_pydantic_takes_the_place_of_json_only() -> None:
    kinds = [type(converter) for converter in PydanticPayloadConverter().converters.values()]
    assert JSONPlainPayloadConverter not in kinds
    assert kinds[-1] is PydanticJSONPlainPayloadConverter
    assert len(kinds) == len(DefaultPayloadConverter.default_encoding_payload_converters)
