"""Values survive conversion, and the bytes and the outcomes are those of the official converter."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import pickle
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NewType, cast
from uuid import uuid4

import pytest
import temporalio.converter
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

import perdure.api.common.v1
from perdure.api.common.v1 import Payload
from perdure.common import RawValue
from perdure.converter import (
    AdvancedJSONEncoder,
    BinaryProtoPayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
    JSONProtoPayloadConverter,
    JSONTypeConverter,
    JSONTypeConverterUnhandled,
    PayloadConverter,
    value_to_type,
)
from tests.unit.sdk_data.models import (
    HINTS,
    JSON_VALUES,
    Colour,
    Frozen,
    Level,
    Line,
    Order,
    hints_with_values,
)

OURS = DataConverter.default.payload_converter
OFFICIAL = temporalio.converter.DataConverter.default.payload_converter


def _outcome(action: Any, *arguments: Any) -> Any:
    """Return what a call returned, with its type, or that it failed."""
    try:
        result = action(*arguments)
    except Exception:
        return "failed"
    return type(result), repr(result)


@given(hints_with_values())
def test_a_value_with_a_type_hint_comes_back_as_it_was(case: tuple[Any, Any]) -> None:
    hint, value = case
    payload = OURS.to_payload(value)
    [back] = OURS.from_payloads([payload], [hint])
    assert (back, type(back)) == (value, type(value))


@given(hints_with_values())
def test_the_bytes_are_the_official_ones_and_each_reads_the_other(case: tuple[Any, Any]) -> None:
    hint, value = case
    ours, official = OURS.to_payload(value), OFFICIAL.to_payload(value)
    assert ours.SerializeToString(deterministic=True) == official.SerializeToString(deterministic=True)
    assert OFFICIAL.from_payloads([official], [hint]) == OURS.from_payloads([ours], [hint])


@given(HINTS, JSON_VALUES)
def test_any_json_under_any_hint_ends_as_with_the_official_converter(hint: Any, value: Any) -> None:
    if _contains_unordered(hint):
        # Only types whose values show their items in order can be compared by what they look like.
        return
    ours = _outcome(value_to_type, hint, value)
    assert ours == _outcome(temporalio.converter.value_to_type, hint, value)


def _contains_unordered(hint: Any) -> bool:
    return hint is set or "set[" in str(hint) or "<class 'set'>" in str(hint)


@given(st.binary())
def test_any_bytes_are_json_or_not_as_they_are_officially(data: bytes) -> None:
    ours = Payload(metadata={"encoding": b"json/plain"}, data=data)
    official = temporalio.converter.PayloadConverter.default.to_payload(1)
    official.data = data
    assert _outcome(OURS.from_payload, ours) == _outcome(OFFICIAL.from_payload, official)


@pytest.mark.parametrize(
    "data",
    [
        b" 1 ",
        b'\xef\xbb\xbf"a"',
        '"é"'.encode("utf-16"),
        b"[1, 2]\n",
        b"",
        b"1 2",
        b"NaN",
        b'"\\ud800"',
        b"{,}",
    ],
)
def test_json_in_unusual_form_is_read_as_json_reads_it(data: bytes) -> None:
    payload = Payload(metadata={"encoding": b"json/plain"}, data=data)
    assert _outcome(JSONPlainPayloadConverter().from_payload, payload) == _outcome(json.loads, data)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        10**30,
        1.5,
        math.inf,
        "",
        "\u00e9\ud83d\ude00\u0000",
        b"",
        [],
        {},
        (1, "a"),
        Level.HIGH,
        Colour.RED,
    ],
)
def test_a_scalar_has_the_official_bytes(value: Any) -> None:
    assert OURS.to_payload(value).SerializeToString(deterministic=True) == OFFICIAL.to_payload(
        value
    ).SerializeToString(deterministic=True)


def test_a_field_that_the_constructor_does_not_take_comes_back() -> None:
    frozen = Frozen("a")
    object.__setattr__(frozen, "size", 5)
    assert OURS.from_payload(OURS.to_payload(frozen), Frozen) == frozen


def test_annotations_do_not_count() -> None:
    assert value_to_type(cast(Any, Annotated[int, ["unhashable"]]), 5) == 5


def test_of_equal_unions_each_takes_its_own_first_member() -> None:
    # `float | int == int | float`, so what is kept for one must not be used for the other.
    assert repr(value_to_type(float | int, 1)) == "1.0"  # type: ignore[arg-type]
    assert repr(value_to_type(int | float, 1)) == "1"  # type: ignore[arg-type]


def test_protobuf_messages_travel_as_json_and_both_sides_read_them() -> None:
    execution = perdure.api.common.v1.WorkflowExecution(workflow_id="w", run_id="r")
    payload = OURS.to_payload(execution)
    assert payload.data == b'{"runId":"r","workflowId":"w"}'
    assert payload.metadata["messageType"] == b"temporal.api.common.v1.WorkflowExecution"
    assert OURS.from_payload(payload) == execution
    assert type(OURS.from_payload(payload)) is perdure.api.common.v1.WorkflowExecution


@pytest.mark.parametrize("message", [Duration(seconds=3), Timestamp(seconds=3)])
@pytest.mark.parametrize("converter", [JSONProtoPayloadConverter(), BinaryProtoPayloadConverter()])
def test_messages_of_other_modules_come_back_as_their_own_class(converter: Any, message: Any) -> None:
    back = converter.from_payload(converter.to_payload(message))
    assert (back, type(back)) == (message, type(message))


def test_a_message_comes_back_as_the_class_that_is_asked_for() -> None:
    import temporalio.api.common.v1

    payload = JSONProtoPayloadConverter().to_payload(perdure.api.common.v1.WorkflowExecution(run_id="r"))
    assert payload is not None
    theirs = JSONProtoPayloadConverter().from_payload(payload, temporalio.api.common.v1.WorkflowExecution)
    assert theirs == temporalio.api.common.v1.WorkflowExecution(run_id="r")


def test_unknown_fields_of_a_message_are_refused_unless_ignored() -> None:
    payload = OURS.to_payload(perdure.api.common.v1.WorkflowExecution())
    payload.data = b'{"nope":1}'
    with pytest.raises(RuntimeError, match="WorkflowExecution"):
        OURS.from_payload(payload)
    ignoring = JSONProtoPayloadConverter(ignore_unknown_fields=True)
    assert ignoring.from_payload(payload) == perdure.api.common.v1.WorkflowExecution()


def test_a_raw_value_is_not_touched() -> None:
    payload = Payload(metadata={"encoding": b"mine"}, data=b"\xff")
    assert OURS.to_payload(RawValue(payload)) is payload
    assert OURS.from_payloads([payload], [RawValue]) == [RawValue(payload)]


def test_payloads_without_hints_and_hints_without_payloads() -> None:
    payloads = OURS.to_payloads([1, "a"])
    assert OURS.from_payloads(payloads, [int]) == [1, "a"]
    assert OURS.from_payloads(payloads[:1], [int, str]) == [1]
    assert OURS.from_payloads_wrapper(None) == []
    assert OURS.from_payloads_wrapper(OURS.to_payloads_wrapper([1])) == [1]


def test_a_converter_can_be_pickled_after_use() -> None:
    OURS.from_payload(OURS.to_payload(Line("a")), Line)
    copy: PayloadConverter = pickle.loads(pickle.dumps(DefaultPayloadConverter()))
    assert copy.from_payload(copy.to_payload(Line("a")), Line) == Line("a")


class _AddressEncoder(AdvancedJSONEncoder):
    def default(self, o: Any) -> Any:
        return str(o) if isinstance(o, ipaddress.IPv4Address) else super().default(o)


class _AddressTypeConverter(JSONTypeConverter):
    def to_typed_value(self, hint: type, value: Any) -> Any | JSONTypeConverterUnhandled | None:
        return ipaddress.IPv4Address(value) if hint is ipaddress.IPv4Address else JSONTypeConverter.Unhandled


@dataclass
class _Host:
    address: ipaddress.IPv4Address
    others: dict[ipaddress.IPv4Address, list[ipaddress.IPv4Address | None]]


def test_types_of_the_users_own_are_converted_at_any_depth() -> None:
    converter = JSONPlainPayloadConverter(
        encoder=_AddressEncoder, custom_type_converters=[_AddressTypeConverter()]
    )
    home = ipaddress.IPv4Address("127.0.0.1")
    payload = converter.to_payload(_Host(home, {}))
    assert payload is not None
    payload.data = b'{"address":"127.0.0.1","others":{"127.0.0.1":["127.0.0.1",null]}}'
    # A custom converter is asked about every type, and this one does not know None.
    with pytest.raises(TypeError):
        JSONPlainPayloadConverter().from_payload(payload, _Host)
    assert converter.from_payload(payload, _Host) == _Host(home, {home: [home, None]})


def test_an_encoder_of_the_users_own_is_made_anew_for_each_value() -> None:
    class Counting(json.JSONEncoder):
        made = 0

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            Counting.made += 1

    converter = JSONPlainPayloadConverter(encoder=Counting)
    converter.to_payload([1])
    converter.to_payload([2])
    assert Counting.made == 2


def test_a_value_that_contains_itself_is_refused_and_leaves_nothing_behind() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for _ in range(2):
        with pytest.raises(ValueError, match="[Cc]ircular"):
            OURS.to_payload(loop)
    assert OURS.to_payload([[]]).data == b"[[]]"


def test_new_hints_without_end_do_not_fill_the_memory() -> None:
    from perdure.converter._type_hints import _MAXIMUM_PLANS, TypePlanner

    planner = TypePlanner()
    for _ in range(_MAXIMUM_PLANS // 2 + 10):
        # Of two hints that are gone, one may get the other's place in memory and must not get its plan.
        assert planner.plan(NewType("Number", int))(1) == 1
        assert planner.plan(NewType("Text", str))("a") == "a"
    assert len(planner._plans) <= _MAXIMUM_PLANS


def test_keys_that_are_what_is_wanted_are_left_alone() -> None:
    assert value_to_type(dict[object, int], {"a": 1}) == {"a": 1}


def test_the_data_converter_does_all_of_it() -> None:
    async def round_trip() -> None:
        order = Order("n", datetime(2026, 1, 2), [Line("a")], {"a": Line("b")})  # type: ignore[arg-type]
        converter = DataConverter.default
        payloads = await converter.encode([order, None, uuid4()])
        assert (await converter.decode(payloads, [Order, type(None), str]))[0] == order
        assert await converter.decode_wrapper(None) == []
        assert await converter.decode_wrapper(await converter.encode_wrapper([1])) == [1]
        memo = await converter._encode_memo({"a": 1, "b": Payload(data=b"x")})
        assert memo.fields["b"].data == b"x"
        assert await converter._decode_memo_field(memo, "a", None, int) == 1
        assert await converter._decode_memo_field(memo, "z", 7, int) == 7

    asyncio.run(round_trip())
