"""The harness itself can tell: each kind of difference is found, and what differs by nature is not one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tests.differential.compare import Difference, Record, differences, unified
from tests.differential.coverage import complaints, events_in
from tests.differential.known_differences import KnownDifference, unexpected, unused
from tests.differential.normalise import Normaliser
from tests.differential.reference import CONCURRENCIES, with_second_answers
from tests.differential.repeating import disagreements, longest
from tests.differential.runner import Outcome
from tests.support.builders import duration, payloads
from tests.support.proto import common, enums, errordetails, history, workflow, workflowservice
from tests.support.rpc import RpcError

RUN_ID_A = "0190c7a8-0000-7000-8000-00000000000a"
RUN_ID_B = "0190c7a8-0000-7000-8000-00000000000b"


def _differ(real: object, perdure: object) -> list[str]:
    """Paths at which two recorded values differ."""
    found = differences([Record("it", real)], [Record("it", perdure)])
    return [difference.path for difference in found]


@pytest.mark.parametrize(
    ("real", "perdure", "paths"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["it.a"]),
        ({"a": 1}, {}, ["it.a"]),
        ({}, {"a": 1}, ["it.a"]),
        ([1, 2], [1], ["it[1]"]),
        ([1], [1, 2], ["it[1]"]),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}, ["it.a[0].b"]),
        ({"a": {}}, {}, ["it.a"]),
        (True, 1, ["it"]),
        ("1", 1, ["it"]),
    ],
)
def test_finds_each_kind_of_difference(real: object, perdure: object, paths: list[str]) -> None:
    """A changed, missing, added, reordered or retyped value is found at its path."""
    assert _differ(real, perdure) == paths


def test_finds_a_record_only_one_side_has() -> None:
    """A scenario that broke off on one side differs there."""
    records = [Record("one", 1), Record("two", 2)]
    assert [str(difference) for difference in differences(records, records[:1])] == [
        "two: real 2, perdure <missing>"
    ]
    assert [difference.path for difference in differences(records[:1], records)] == ["two"]
    assert "-## two" in unified(records, records[:1])


def test_same_ids_get_the_same_number() -> None:
    """Random ids are numbered by first appearance, so equal ids stay equal and others stay different."""
    normaliser = Normaliser("token")
    shown = [normaliser.text(text) for text in (RUN_ID_A, f"x {RUN_ID_B}", RUN_ID_A, "wf-token")]
    assert shown == ["<id 1>", "x <id 2>", "<id 1>", "wf"]


def test_event_keeps_what_is_behaviour() -> None:
    """Times, task ids and sizes become placeholders; ids of events, durations, enums and payloads stay."""
    event = history.HistoryEvent(
        event_id=3,
        event_type=enums.EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        task_id=77,
        workflow_task_started_event_attributes=history.WorkflowTaskStartedEventAttributes(
            scheduled_event_id=2, history_size_bytes=400
        ),
    )
    event.event_time.FromSeconds(1_700_000_000)
    assert Normaliser("t").data(event) == {
        "event_id": 3,
        "event_time": "<time>",
        "event_type": "EVENT_TYPE_WORKFLOW_TASK_STARTED",
        "task_id": "<task id>",
        "workflow_task_started_event_attributes": {"scheduled_event_id": 2, "history_size_bytes": "<size>"},
    }


def test_set_but_empty_fields_are_kept() -> None:
    """A message field that is set but empty, or zero, is not the same as one that is not set."""
    request = workflowservice.StartWorkflowExecutionRequest(
        input=payloads(), workflow_run_timeout=duration(0), workflow_task_timeout=duration(1.5)
    )
    assert Normaliser("t").data(request) == {
        "input": {},
        "workflow_run_timeout": "0s",
        "workflow_task_timeout": "1.5s",
    }


def _pending(activity_id: str, worker: str = "") -> workflow.PendingActivityInfo:
    return workflow.PendingActivityInfo(activity_id=activity_id, last_worker_identity=worker)


def test_lists_in_no_order_are_sorted() -> None:
    """Where nobody promises an order two orders are the same; what is in the list, and how often, still counts."""
    one, two = _pending("a"), _pending("b")
    described = [
        Normaliser("t").data(workflowservice.DescribeWorkflowExecutionResponse(pending_activities=entries))
        for entries in ([one, two], [two, one], [one, one], [one])
    ]
    assert described[0] == described[1]
    assert described[0] != described[2] != described[3]


def test_lists_in_an_order_keep_it() -> None:
    """Any other list is compared in its order."""
    payloads_of = [
        common.Payloads(payloads=[common.Payload(data=data) for data in order])
        for order in ((b"a", b"b"), (b"b", b"a"))
    ]
    assert Normaliser("t").data(payloads_of[0]) != Normaliser("t").data(payloads_of[1])


def test_ids_in_unordered_lists_are_numbered_alike() -> None:
    """Random ids get the same numbers whichever way an unordered list or a map came; known ids keep theirs."""
    shown = []
    for first, second in ((RUN_ID_A, RUN_ID_B), (RUN_ID_B, RUN_ID_A)):
        normaliser = Normaliser("t")
        entries = [_pending("a", first), _pending("b", second)]
        forward = workflowservice.DescribeWorkflowExecutionResponse(pending_activities=entries)
        shown.append((normaliser.data(forward), normaliser.text(second)))
        normaliser = Normaliser("t")
        backward = workflowservice.DescribeWorkflowExecutionResponse(pending_activities=entries[::-1])
        shown.append((normaliser.data(backward), normaliser.text(second)))
        normaliser = Normaliser("t")
        infos = {first: workflow.RequestIdInfo(event_id=1), second: workflow.RequestIdInfo(event_id=2)}
        normaliser.data(workflow.WorkflowExecutionExtendedInfo(request_id_infos=infos))
        shown.append((shown[0][0], normaliser.text(second)))
    assert all(one == shown[0] for one in shown)
    assert shown[0][1] == "<id 2>"


def test_disagreements_say_what_was_there_and_how_often() -> None:
    """Rounds of one server are compared place by place; what never changed is not shown."""
    rounds = [
        {"x": Outcome((Record("it", {"same": 1, "other": value}),), seconds)}
        for value, seconds in (("a", 1.0), ("b", 3.0), ("a", 2.0))
    ]
    assert [str(found) for found in disagreements(rounds)] == ["x: it.other: 2x a | 1x b"]
    assert longest(rounds) == [("x", 3.0)]


def test_only_the_official_server_is_asked_again() -> None:
    """Where it differs or broke off it is asked again: its answers count if they agree, or are the first at all."""
    rounds = [{"either": 1, "wrong": 3, "broken": 4}, {"wrong": 5, "broken": 1}]
    asked: list[tuple[list[str], int]] = []

    async def ask(names: Sequence[str], concurrency: int) -> Mapping[str, int]:
        asked.append((list(names), concurrency))
        return rounds[len(asked) - 1]

    answers = asyncio.run(
        with_second_answers(
            {"same": 1, "either": 2, "wrong": 2, "broken": 0},
            agrees=lambda _, answer: answer == 1,
            says_nothing=lambda answer: answer == 0,
            ask=ask,
        )
    )
    names = [["either", "wrong", "broken"], ["wrong", "broken"]]
    assert asked == list(zip(names, CONCURRENCIES, strict=True))
    assert answers == {"same": 1, "either": 1, "wrong": 2, "broken": 1}


def test_errors_keep_code_message_and_details() -> None:
    """An error is recorded with its code name, text and unpacked details."""
    detail = errordetails.NamespaceNotFoundFailure(namespace="x")
    assert Normaliser("t").data(RpcError("NOT_FOUND", "no wf-t", [detail])) == {
        "error": "NOT_FOUND",
        "message": "no wf",
        "details": [{"@type": "NamespaceNotFoundFailure", "namespace": "x"}],
    }


def test_known_differences_accept_only_what_they_name() -> None:
    """Patterns match scenario and path; brackets in a path are literal; an entry without use is reported."""
    known = (
        KnownDifference("timer_*", "history[*].message", "because of this and that"),
        KnownDifference("never", "*", "because of something that is gone"),
    )
    accepted = Difference("history[3].message", "a", "b")
    other = Difference("history[3].code", "a", "b")
    assert unexpected("timer_x", [accepted, other], known) == [other]
    assert unexpected("signal_x", [accepted], known) == [accepted]
    assert unused([("timer_x", accepted)], known) == [known[1]]


def test_finds_events_wherever_they_were_recorded() -> None:
    """In histories, in pages of them and inside of tasks; an event type that is a field of something else is none."""
    event = {"event_id": 1, "event_type": "EVENT_TYPE_TIMER_FIRED"}
    data = [{"history": {"events": [event]}}, {"event_type": "OTHER"}, "EVENT_TYPE_TIMER_STARTED"]
    assert list(events_in(data)) == ["TIMER_FIRED"]


def test_says_what_is_missing_and_which_exceptions_are_none() -> None:
    """Both directions, and names that the contract does not have."""
    assert complaints("event", ["A", "B", "C"], {"B": "why", "C": "why", "X": "why"}, {"C"}) == [
        "no scenario shows event A",
        "event C is listed as never seen, and was",
        "event X does not exist",
    ]
