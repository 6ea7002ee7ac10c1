"""The generated message classes behave as protobuf's own do, though they live in a pool of their own."""

from __future__ import annotations

import datetime
import timeit

import pytest
import temporalio.api.enums.v1
import temporalio.api.history.v1
import temporalio.api.workflowservice.v1
from google.protobuf import json_format, timestamp_pb2
from google.protobuf.message import DecodeError

import perdure.api.common.v1 as common
import perdure.api.enums.v1 as enums
from perdure.api.common.v1 import Memo, Payload, WorkflowExecution
from perdure.api.enums.v1 import EVENT_TYPE_TIMER_FIRED, EventType
from perdure.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from perdure.api.google.rpc import Status
from perdure.api.history.v1 import HistoryEvent, TimerFiredEventAttributes, TimerStartedEventAttributes
from perdure.api.protobuf import Any, Duration, Empty, FieldMask, ListValue, Struct, Timestamp
from perdure.api.registry import POOL, message_class
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest


def _event() -> HistoryEvent:
    event = HistoryEvent(event_id=7, event_type=EVENT_TYPE_TIMER_FIRED)
    event.event_time.FromNanoseconds(1_700_000_000_123_456_789)
    event.timer_fired_event_attributes.CopyFrom(TimerFiredEventAttributes(timer_id="t", started_event_id=5))
    return event


def test_bytes_are_the_same_as_those_of_the_official_classes() -> None:
    official = temporalio.api.history.v1.HistoryEvent.FromString(_event().SerializeToString())
    assert official.timer_fired_event_attributes.timer_id == "t"
    assert official.SerializeToString() == _event().SerializeToString()
    assert HistoryEvent.FromString(official.SerializeToString()) == _event()


def test_every_message_of_the_official_workflow_service_exists_with_the_same_fields() -> None:
    official = temporalio.api.workflowservice.v1
    names = [name for name in official.__all__ if name.endswith(("Request", "Response"))]
    assert len(names) > 200
    for name in names:
        theirs = getattr(official, name).DESCRIPTOR
        ours = message_class(theirs.full_name).DESCRIPTOR
        assert [(f.name, f.number, f.type) for f in ours.fields] == [
            (f.name, f.number, f.type) for f in theirs.fields
        ]


def test_json_round_trip() -> None:
    text = json_format.MessageToJson(_event())
    assert '"eventType": "EVENT_TYPE_TIMER_FIRED"' in text
    assert '"2023-11-14T22:13:20.123456789Z"' in text
    assert json_format.Parse(text, HistoryEvent(), descriptor_pool=POOL) == _event()


def test_any_packs_and_unpacks_a_detail_of_a_status() -> None:
    detail = WorkflowExecutionAlreadyStartedFailure(start_request_id="r", run_id="x")
    status = Status(code=6, message="already started")
    status.details.add().Pack(detail)
    received = Status.FromString(status.SerializeToString())
    unpacked = WorkflowExecutionAlreadyStartedFailure()
    assert received.details[0].Is(WorkflowExecutionAlreadyStartedFailure.DESCRIPTOR)
    assert received.details[0].Unpack(unpacked)
    assert unpacked == detail
    assert not received.details[0].Unpack(Empty())
    as_json = json_format.MessageToDict(received, descriptor_pool=POOL)
    assert as_json["details"][0]["runId"] == "x"
    assert json_format.ParseDict(as_json, Status(), descriptor_pool=POOL) == received


def test_map_fields() -> None:
    memo = Memo(fields={"a": Payload(data=b"1")})
    memo.fields["b"].metadata["encoding"] = b"binary/plain"
    again = Memo.FromString(memo.SerializeToString())
    assert sorted(again.fields) == ["a", "b"]
    assert again.fields["b"].metadata == {"encoding": b"binary/plain"}
    del again.fields["b"]
    assert again == Memo(fields={"a": Payload(data=b"1")})


def test_setting_one_member_of_a_oneof_clears_the_other() -> None:
    event = _event()
    assert event.WhichOneof("attributes") == "timer_fired_event_attributes"
    event.timer_started_event_attributes.CopyFrom(TimerStartedEventAttributes(timer_id="u"))
    assert event.WhichOneof("attributes") == "timer_started_event_attributes"
    assert not event.HasField("timer_fired_event_attributes")


def test_unknown_fields_survive_a_round_trip() -> None:
    from_the_future = WorkflowExecution(workflow_id="w").SerializeToString() + b"\xfa\x7f\x03new"
    parsed = WorkflowExecution.FromString(from_the_future)
    parsed.run_id = "r"
    assert b"\xfa\x7f\x03new" in parsed.SerializeToString()


def test_malformed_bytes_are_refused_with_the_usual_error() -> None:
    with pytest.raises(DecodeError):
        HistoryEvent.FromString(b"\xff\xff\xff")


def test_well_known_types_have_their_helpers_and_fit_into_fields() -> None:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.datetime(2024, 5, 6, tzinfo=datetime.UTC))
    event = HistoryEvent(event_time=stamp)
    assert event.event_time.ToDatetime(datetime.UTC).year == 2024
    assert event.event_time.ToNanoseconds() == 1_714_953_600_000_000_000
    timeout = Duration()
    timeout.FromTimedelta(datetime.timedelta(seconds=90))
    request = StartWorkflowExecutionRequest(workflow_run_timeout=timeout)
    assert request.workflow_run_timeout.ToTimedelta().total_seconds() == 90
    structure = Struct()
    structure.update({"a": [1, {"b": None}]})
    assert type(structure.fields["a"].list_value) is ListValue
    assert json_format.MessageToDict(structure) == {"a": [1, {"b": None}]}
    mask = FieldMask()
    mask.FromJsonString("taskQueue,versioningBehavior")
    assert mask.paths == ["task_queue", "versioning_behavior"]
    assert Any().type_url == ""


def test_classes_of_the_default_pool_are_not_ours_and_are_refused() -> None:
    theirs = timestamp_pb2.Timestamp(seconds=1)
    with pytest.raises(TypeError):
        HistoryEvent(event_time=theirs)  # type: ignore[arg-type]  # the mistake is the point


def test_enums_have_names_values_and_module_level_constants() -> None:
    assert EventType.Name(EVENT_TYPE_TIMER_FIRED) == "EVENT_TYPE_TIMER_FIRED"
    assert EventType.Value("EVENT_TYPE_TIMER_FIRED") == enums.EVENT_TYPE_TIMER_FIRED == 18
    assert EventType.EVENT_TYPE_TIMER_FIRED == 18


def test_every_official_enum_has_the_same_values() -> None:
    official = temporalio.api.enums.v1
    assert len(official.__all__) > 50
    for name in official.__all__:
        assert getattr(enums, name).items() == getattr(official, name).items()


def test_modules_list_their_names_and_refuse_others() -> None:
    assert {"Payload", "Memo"} <= set(dir(common))
    assert {"EventType", "EVENT_TYPE_TIMER_FIRED"} <= set(dir(enums))
    assert Payload.__module__ == "perdure.api.common.v1"
    with pytest.raises(AttributeError, match=r"module 'perdure\.api\.common\.v1' has no attribute 'Paylod'"):
        common.Paylod  # type: ignore[attr-defined]  # noqa: B018  # the mistake is the point


def test_a_class_is_built_once_and_then_found_as_an_ordinary_global() -> None:
    assert common.Payload is Payload
    assert vars(common)["Payload"] is message_class("temporal.api.common.v1.Payload")


def test_attributes_are_as_fast_as_those_of_the_official_classes() -> None:
    ours, theirs = HistoryEvent(event_id=1), temporalio.api.history.v1.HistoryEvent(event_id=1)
    rounds = 20_000
    own_s = min(timeit.repeat(lambda: ours.event_id, number=rounds, repeat=7))
    official_s = min(timeit.repeat(lambda: theirs.event_id, number=rounds, repeat=7))
    assert own_s < official_s * 2
