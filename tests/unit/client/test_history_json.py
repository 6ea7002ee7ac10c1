"""Histories as JSON: every spelling that tools write is read, and what we write is read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure.api.enums import v1 as enums
from perdure.api.history.v1 import History, HistoryEvent, WorkflowExecutionStartedEventAttributes
from perdure.client import WorkflowHistory

STARTED = HistoryEvent(
    event_id=1,
    event_type=enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
    workflow_execution_started_event_attributes=WorkflowExecutionStartedEventAttributes(
        original_execution_run_id="run"
    ),
)


FAILED = HistoryEvent(event_id=2, event_type=enums.EVENT_TYPE_ACTIVITY_TASK_FAILED)
FAILED.event_time.FromJsonString("2026-01-02T03:04:05.678Z")
FAILED.activity_task_failed_event_attributes.failure.application_failure_info.details.payloads.add(
    data=b"\x00\xff"
)
FAILED.activity_task_failed_event_attributes.retry_state = enums.RETRY_STATE_TIMEOUT


def test_a_history_survives_json() -> None:
    """Text and dictionary alike, with times, bytes and enums."""
    history = WorkflowHistory("id", [STARTED, FAILED])
    assert list(WorkflowHistory.from_json("id", history.to_json()).events) == [STARTED, FAILED]
    assert list(WorkflowHistory.from_json("id", history.to_json_dict()).events) == [STARTED, FAILED]


def test_short_names_of_enums_are_read_wherever_they_are() -> None:
    """Older tools write `TimerStarted` for `EVENT_TYPE_TIMER_STARTED`, also inside failures and their causes."""
    text = json.dumps(
        {
            "events": [
                {
                    "eventType": "ActivityTaskTimedOut",
                    "activityTaskTimedOutEventAttributes": {
                        "retryState": "MaximumAttemptsReached",
                        "failure": {
                            "timeoutFailureInfo": {"timeoutType": "StartToClose"},
                            "cause": {"timeoutFailureInfo": {"timeoutType": "TIMEOUT_TYPE_HEARTBEAT"}},
                        },
                    },
                },
                {
                    "event_type": "WorkflowExecutionStarted",
                    "workflowExecutionStartedEventAttributes": {
                        "initiator": "CronSchedule",
                        "taskQueue": {"name": "q", "kind": "Normal"},
                    },
                },
            ]
        }
    )
    [timed_out, started] = WorkflowHistory.from_json("id", text).events
    attributes = timed_out.activity_task_timed_out_event_attributes
    assert timed_out.event_type == enums.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT
    assert attributes.retry_state == enums.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
    assert attributes.failure.timeout_failure_info.timeout_type == enums.TIMEOUT_TYPE_START_TO_CLOSE
    assert attributes.failure.cause.timeout_failure_info.timeout_type == enums.TIMEOUT_TYPE_HEARTBEAT
    assert started.event_type == enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
    assert started.workflow_execution_started_event_attributes.task_queue.kind == enums.TASK_QUEUE_KIND_NORMAL


def test_the_given_dictionary_stays_as_it_is() -> None:
    """Names of enums are completed in a copy."""
    given_events = {"events": [{"eventType": "TimerFired"}]}
    WorkflowHistory.from_json("id", given_events)
    assert given_events == {"events": [{"eventType": "TimerFired"}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not a dictionary"),
        ("{}", "iterable 'events'"),
        ('{"events": [1]}', "Event not a dictionary"),
        ('{"events": [{"eventId": "x"}]}', "not a workflow history"),
    ],
)
def test_what_is_no_history_is_refused(text: str, message: str) -> None:
    """With what is wrong about it."""
    with pytest.raises(ValueError, match=message):
        WorkflowHistory.from_json("id", text)


@pytest.mark.parametrize(
    "history",
    [
        {"events": [{"eventType": "\ud800"}]},
        {"events": [{"\ud800": 1}]},
        {"\udfff": 1, "events": []},
        {"events": [{"workflowExecutionStartedEventAttributes": {"identity": "\ud800"}}]},
    ],
    ids=["an enum", "a field", "beside the events", "a text"],
)
def test_half_a_character_is_refused(history: dict[str, Any]) -> None:
    """As text with and without escapes, and parsed: descriptors fail badly when they look such a name up."""
    for form in (history, json.dumps(history), json.dumps(history, ensure_ascii=False)):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            WorkflowHistory.from_json("id", form)


def test_characters_that_json_writes_as_two_halves_are_read() -> None:
    """Each half has its place there."""
    attributes = WorkflowExecutionStartedEventAttributes(identity="\U0001f600")
    text = json.dumps({"events": [{"workflowExecutionStartedEventAttributes": {"identity": "\U0001f600"}}]})
    [started] = WorkflowHistory.from_json("id", text).events
    assert started.workflow_execution_started_event_attributes == attributes


def test_the_run_id_is_that_of_the_start() -> None:
    """A history without its start has none."""
    assert WorkflowHistory("id", [STARTED]).run_id == "run"
    with pytest.raises(RuntimeError, match="No events"):
        _ = WorkflowHistory("id", []).run_id
    with pytest.raises(RuntimeError, match="not workflow start"):
        _ = WorkflowHistory("id", [HistoryEvent()]).run_id
    assert History(events=[STARTED]).events[0].event_id == 1
