"""The harness itself can tell: each kind of difference is found, and what differs by nature is not one."""

from __future__ import annotations

import pytest

from tests.differential.compare import Difference, Record, differences, unified
from tests.differential.known_differences import KnownDifference, unexpected, unused
from tests.differential.normalise import Normaliser
from tests.support.builders import duration, payloads
from tests.support.proto import enums, errordetails, history, workflowservice
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
