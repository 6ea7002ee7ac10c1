"""Questions waiting for a workflow task, and the small helpers between protobuf fields and integers."""

from __future__ import annotations

import json

import pytest

from perdure.api.protobuf import Duration, Timestamp
from perdure.core.errors import InvalidArgumentError, ResourceExhaustedError
from perdure.core.run import protos
from perdure.core.run.query import QueryRegistry
from tests.support.proto import query

ASKED = query.WorkflowQuery(query_type="state")
ANSWER = query.WorkflowQueryResult(answer=None, error_message="")


def test_a_query_waits_is_sent_and_answered() -> None:
    registry = QueryRegistry()
    registry.add("one", ASKED, 1)
    assert registry.take() == {"one": ASKED}
    assert (registry.waiting, set(registry.sent)) == ({}, {"one"})
    assert registry.answer({"one": ANSWER, "unknown": ANSWER}) == {"one": ANSWER}
    assert registry.sent == {}


@pytest.mark.parametrize("sent", [False, True])
def test_only_one_query_may_wait(sent: bool) -> None:
    registry = QueryRegistry()
    registry.add("one", ASKED, 1)
    if sent:
        registry.take()
    with pytest.raises(ResourceExhaustedError, match="consistent query buffer is full") as caught:
        registry.add("two", ASKED, 1)
    assert (caught.value.cause, caught.value.scope) == (5, 1)


def test_a_query_whose_task_ended_without_an_answer_waits_again() -> None:
    registry = QueryRegistry()
    registry.add("one", ASKED, 1)
    registry.take()
    registry.put_back()
    assert (set(registry.waiting), registry.sent) == ({"one"}, {})


@pytest.mark.parametrize("sent", [False, True])
def test_a_query_whose_asker_gave_up_is_gone(sent: bool) -> None:
    registry = QueryRegistry()
    registry.add("one", ASKED, 1)
    if sent:
        registry.take()
    registry.remove("one")
    registry.remove("one")
    assert (registry.waiting, registry.sent) == ({}, {})


@pytest.mark.parametrize(
    ("seconds", "nanos", "value_ns"),
    [(0, 0, 0), (5, 0, 5_000_000_000), (1, 500, 1_000_000_500), (2**62, 0, protos.MAX_DURATION_NS)],
)
def test_durations_in_nanoseconds(seconds: int, nanos: int, value_ns: int) -> None:
    assert protos.checked_duration_ns(Duration(seconds=seconds, nanos=nanos), "It") == value_ns


@pytest.mark.parametrize(
    ("seconds", "nanos", "message"),
    [
        (-1, 0, "invalid It: negative duration"),
        (0, -1, "invalid It: negative duration"),
        (-1, -1, "invalid It: negative duration"),
        (1, -1, "invalid It: duration has seconds and nanos with different signs"),
        (-1, 1, "invalid It: duration has seconds and nanos with different signs"),
        (0, 1_000_000_000, "invalid It: nanos out of range"),
    ],
)
def test_impossible_durations(seconds: int, nanos: int, message: str) -> None:
    for check in (protos.checked_duration_ns, protos.cap_duration):
        with pytest.raises(InvalidArgumentError) as caught:
            check(Duration(seconds=seconds, nanos=nanos), "It")
        assert str(caught.value) == message


def test_times() -> None:
    assert protos.timestamp_ns(Timestamp(seconds=5, nanos=7)) == 5_000_000_007
    target = Timestamp()
    protos.set_timestamp(target, 5_000_000_007)
    assert target == Timestamp(seconds=5, nanos=7)
    unset = Timestamp()
    protos.set_timestamp(unset, 0)
    assert unset == Timestamp()


def test_a_text_as_a_payload() -> None:
    (payload,) = protos.text_payloads('sä"y').payloads
    assert payload.metadata["encoding"] == b"json/plain"
    assert json.loads(payload.data) == 'sä"y'
