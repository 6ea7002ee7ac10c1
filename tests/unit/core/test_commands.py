"""The table of commands: every bad attribute with its cause and message, sizes, order, what is not there yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.run import commands
from perdure.core.run.limits import Limits
from tests.support.builders import (
    application_failure,
    bare_command,
    cancel_activity,
    cancel_timer,
    cancel_workflow,
    complete_workflow,
    fail_workflow,
    keyword,
    modify_memo,
    payload,
    payloads,
    record_marker,
    schedule_activity,
    start_timer,
    upsert_search_attributes,
    user_metadata,
)
from tests.support.proto import command, common, enums, sdk
from tests.unit.core.driver import QUEUE, Driver, begun, with_commands

CommandType = enums.CommandType
LONG = "x" * 1001
LABELS = {number: handler.label for number, handler in commands.TABLE.items()}


def refused(*given: command.Command, limits: Limits | None = None) -> tuple[str, str, Driver]:
    """The cause (without prefix) and the message that a first attempt with these commands fails with."""
    driver = begun(limits)
    done = driver.complete(*given)
    attributes = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert str(done.error) == attributes.failure.message
    assert isinstance(done.error, InvalidArgumentError)
    assert attributes.failure.HasField("server_failure_info")
    assert attributes.identity == "worker"
    cause = enums.WorkflowTaskFailedCause.Name(attributes.cause)
    return cause.removeprefix("WORKFLOW_TASK_FAILED_CAUSE_"), attributes.failure.message, driver


CAUSES = {
    "SCHEDULE_ACTIVITY_TASK": "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES",
    "REQUEST_CANCEL_ACTIVITY_TASK": "BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES",
    "START_TIMER": "BAD_START_TIMER_ATTRIBUTES",
    "CANCEL_TIMER": "BAD_CANCEL_TIMER_ATTRIBUTES",
    "RECORD_MARKER": "BAD_RECORD_MARKER_ATTRIBUTES",
    "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES": "BAD_SEARCH_ATTRIBUTES",
    "MODIFY_WORKFLOW_PROPERTIES": "BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES",
    "COMPLETE_WORKFLOW_EXECUTION": "BAD_COMPLETE_WORKFLOW_EXECUTION_ATTRIBUTES",
    "FAIL_WORKFLOW_EXECUTION": "BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES",
    "CANCEL_WORKFLOW_EXECUTION": "BAD_CANCEL_WORKFLOW_EXECUTION_ATTRIBUTES",
    "CONTINUE_AS_NEW_WORKFLOW_EXECUTION": "BAD_CONTINUE_AS_NEW_ATTRIBUTES",
    "START_CHILD_WORKFLOW_EXECUTION": "BAD_START_CHILD_EXECUTION_ATTRIBUTES",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION": "BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION": "BAD_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_ATTRIBUTES",
    "PROTOCOL_MESSAGE": "BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE",
    "SCHEDULE_NEXUS_OPERATION": "BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES",
    "REQUEST_CANCEL_NEXUS_OPERATION": "BAD_REQUEST_CANCEL_NEXUS_OPERATION_ATTRIBUTES",
}


def test_every_command_type_has_a_row() -> None:
    assert set(commands.TABLE) == set(CommandType.values()) - {0}
    assert {CommandType.Value(f"COMMAND_TYPE_{name}") for name in CAUSES} == set(commands.TABLE)


@pytest.mark.parametrize("name", sorted(CAUSES))
def test_a_command_without_attributes_fails_the_task(name: str) -> None:
    number = CommandType.Value(f"COMMAND_TYPE_{name}")
    cause, message, _ = refused(bare_command(number))
    label = LABELS[number]
    assert cause == CAUSES[name]
    assert message.endswith(f": {label}CommandAttributes is not set on {label}Command.")
    assert message.startswith("Bad")


def test_causes_are_labelled_in_one_word() -> None:
    assert (
        commands.cause_label(commands.cause_number("BAD_START_TIMER_ATTRIBUTES")) == "BadStartTimerAttributes"
    )
    assert str(commands.TaskFailure(commands.cause_number("UNHANDLED_COMMAND"))) == "UnhandledCommand"


def _with(given: command.Command, **values: Any) -> command.Command:
    """The command with fields of its attributes replaced (None clears one)."""
    attributes: Any = getattr(given, given.WhichOneof("attributes") or "")
    for name, value in values.items():
        if value is None:
            attributes.ClearField(name)
        elif isinstance(value, (str, int)):
            setattr(attributes, name, value)
        else:
            getattr(attributes, name).CopyFrom(value)
    return given


@pytest.mark.parametrize(
    ("given", "cause", "message"),
    [
        (
            _with(schedule_activity("", QUEUE)),
            "BAD_SCHEDULE_ACTIVITY_ATTRIBUTES",
            "activityId is not set",
        ),
        (
            cancel_activity(0),
            "BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES",
            "ScheduledEventId is not set on RequestCancelActivityTaskCommand.",
        ),
        (
            cancel_activity(-5),
            "BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES",
            "ScheduledEventId is not set on RequestCancelActivityTaskCommand.",
        ),
        (
            start_timer("", 1),
            "BAD_START_TIMER_ATTRIBUTES",
            "TimerId is not set on StartTimerCommand.",
        ),
        (
            start_timer(LONG, 1),
            "BAD_START_TIMER_ATTRIBUTES",
            (f"TimerId on StartTimerCommand exceeds length limit. TimerId={LONG} Length=1001 Limit=1000"),
        ),
        (
            start_timer("t", -1),
            "BAD_START_TIMER_ATTRIBUTES",
            ("An invalid StartToFireTimeout is set on StartTimerCommand: negative duration. TimerId=t"),
        ),
        (
            cancel_timer(""),
            "BAD_CANCEL_TIMER_ATTRIBUTES",
            "TimerId is not set on CancelTimerCommand.",
        ),
        (
            cancel_timer("nope"),
            "BAD_CANCEL_TIMER_ATTRIBUTES",
            ("invalid history builder state for action: add-timer-canceled-event, TimerID: nope"),
        ),
        (
            record_marker(""),
            "BAD_RECORD_MARKER_ATTRIBUTES",
            "MarkerName is not set on RecordMarkerCommand.",
        ),
        (
            record_marker("ä" * 501),
            "BAD_RECORD_MARKER_ATTRIBUTES",
            (
                "MarkerName on RecordMarkerCommand exceeds length limit. "
                f"MarkerName={'ä' * 501} Length=1002 Limit=1000"
            ),
        ),
        (
            _with(upsert_search_attributes({}), search_attributes=None),
            "BAD_SEARCH_ATTRIBUTES",
            "SearchAttributes is not set on UpsertWorkflowSearchAttributesCommand.",
        ),
        (
            upsert_search_attributes({}),
            "BAD_SEARCH_ATTRIBUTES",
            "IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.",
        ),
        (
            upsert_search_attributes({"Nope": keyword("w")}),
            "BAD_SEARCH_ATTRIBUTES",
            "Namespace namespace has no mapping defined for search attribute Nope",
        ),
        (
            _with(modify_memo({}), upserted_memo=None),
            "BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES",
            "UpsertedMemo is not set on ModifyWorkflowPropertiesCommand.",
        ),
        (
            modify_memo({}),
            "BAD_MODIFY_WORKFLOW_PROPERTIES_ATTRIBUTES",
            "UpsertedMemo.Fields is not set on ModifyWorkflowPropertiesCommand.",
        ),
        (
            fail_workflow(None),
            "BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES",
            "Failure is not set on FailWorkflowExecutionCommand.",
        ),
    ],
)
def test_a_bad_attribute_fails_the_task(given: command.Command, cause: str, message: str) -> None:
    label = commands.cause_label(commands.cause_number(cause))
    assert refused(given)[:2] == (cause, f"{label}: {message}")


def test_an_id_may_be_as_long_as_the_limit() -> None:
    assert list(with_commands(start_timer("x" * 1000, 5)).state.timers) == ["x" * 1000]


# --- duplicates and counts ---


@pytest.mark.parametrize(
    ("twice", "cause"),
    [
        (schedule_activity("a", QUEUE), "SCHEDULE_ACTIVITY_DUPLICATE_ID"),
        (start_timer("a", 5), "START_TIMER_DUPLICATE_ID"),
    ],
)
def test_an_id_twice_in_one_task(twice: command.Command, cause: str) -> None:
    found, message, driver = refused(twice, twice)
    assert found == cause
    assert message.startswith(
        commands.cause_label(commands.cause_number(cause)) + ": invalid history builder state"
    )
    assert (driver.state.activities, driver.state.timers) == ({}, {})


def test_the_number_of_pending_activities_is_limited() -> None:
    limits = Limits(pending_activities=2)
    given = [schedule_activity(name, QUEUE) for name in "abc"]
    assert with_commands(*given[:2], limits=limits).waiting_activities() == [5, 6]
    cause, message, _ = refused(*given, limits=limits)
    assert cause == "PENDING_ACTIVITIES_LIMIT_EXCEEDED"
    assert message == (
        "PendingActivitiesLimitExceeded: the number of pending activities, 2, has reached the per-workflow limit of 2"
    )


# --- sizes ---

SMALL = Limits(blob_bytes=100, memo_bytes=150, search_attribute_value_bytes=60, search_attributes_bytes=90)
BIG = payloads("x" * 200)
MODIFY = "ModifyWorkflowPropertiesCommandAttributes"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [schedule_activity("a", QUEUE, input=BIG)],
            "BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes.Input exceeds size limit.",
        ),
        (
            [record_marker("m", {"ä" * 51: common.Payloads()})],
            "BadRecordMarkerAttributes: RecordMarkerCommandAttributes.Details exceeds size limit.",
        ),
        (
            [modify_memo({"k": payload("x" * 200)})],
            f"BadModifyWorkflowPropertiesAttributes: {MODIFY} exceeds size limit.",
        ),
        (
            [modify_memo({"k": payload("x" * 80)}), modify_memo({"l": payload("x" * 80)})],
            f"BadModifyWorkflowPropertiesAttributes: {MODIFY}. Memo exceeds size limit.",
        ),
        (
            [upsert_search_attributes({"Txt": keyword("x" * 200)})],
            "BadSearchAttributes: UpsertWorkflowSearchAttributesCommandAttributes exceeds size limit.",
        ),
        (
            [upsert_search_attributes({"Txt": keyword("x" * 80)})],
            "BadSearchAttributes: search attribute Txt value size 82 exceeds size limit 60",
        ),
        (
            [complete_workflow(BIG)],
            "BadScheduleActivityAttributes: CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit.",
        ),
        (
            [fail_workflow(application_failure("x" * 200))],
            "BadFailWorkflowExecutionAttributes: FailWorkflowExecutionCommandAttributes.Failure exceeds size limit.",
        ),
    ],
    ids=["input", "marker", "memo", "memo together", "attributes", "attribute", "result", "failure"],
)
def test_what_is_too_large_terminates_the_run(given: list[command.Command], message: str) -> None:
    _, found, driver = refused(*given, limits=SMALL)
    assert found == message
    assert driver.types(3) == ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_TERMINATED"]
    attributes = driver.last("WORKFLOW_EXECUTION_TERMINATED").workflow_execution_terminated_event_attributes
    assert (attributes.reason, attributes.identity) == (message, "history-service")


def test_search_attributes_are_limited_together() -> None:
    given = [upsert_search_attributes({name: keyword("x" * 40)}) for name in ("Kw", "Txt")]
    _, message, _ = refused(*given, limits=SMALL)
    assert message.startswith("BadSearchAttributes: total size of search attributes ")


# --- order ---


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [complete_workflow(), start_timer("t", 1)],
            (
                "invalid command sequence: [CompleteWorkflowExecution, StartTimer], command "
                "CompleteWorkflowExecution must be the last command."
            ),
        ),
        (
            [cancel_workflow(), fail_workflow(application_failure()), command.Command(command_type=99)],  # type: ignore[arg-type]
            (
                "invalid command sequence: [CancelWorkflowExecution, FailWorkflowExecution, ?], command "
                "CancelWorkflowExecution must be the last command."
            ),
        ),
        ([start_timer("t", 1), command.Command(command_type=99)], "unknown command type: 99"),  # type: ignore[arg-type]
        ([command.Command()], "unknown command type: Unspecified"),
    ],
)
def test_an_impossible_sequence_leaves_the_task_as_it_is(given: list[command.Command], message: str) -> None:
    """Nothing is written: the task runs into its timeout."""
    driver = begun()
    driver.poll()
    version = driver.state.version
    with pytest.raises(InvalidArgumentError) as caught:
        driver.respond(*given)
    assert str(caught.value) == message
    assert (driver.state.version, driver.header.has_started_task) == (version, True)


def test_a_bad_command_takes_the_good_ones_with_it() -> None:
    _, _, driver = refused(start_timer("t", 5), record_marker("m"), cancel_timer("nope"))
    assert driver.types(3) == ["WORKFLOW_TASK_FAILED"]
    assert driver.state.timers == {}


# --- what comes with a command ---


def test_metadata_goes_to_the_commands_first_event() -> None:
    given = cancel_activity(5)
    given.user_metadata.CopyFrom(user_metadata("s", "d"))
    driver = with_commands(schedule_activity("a", QUEUE), given)
    requested, canceled = driver.history[5:7]
    assert requested.user_metadata == user_metadata("s", "d")
    assert canceled.user_metadata == sdk.UserMetadata()


def test_a_command_may_leave_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    number = CommandType.COMMAND_TYPE_START_TIMER
    silent = replace(commands.TABLE[number], apply=lambda context, attributes: None)
    monkeypatch.setitem(commands.TABLE, number, silent)
    given = start_timer("t", 5)
    given.user_metadata.CopyFrom(user_metadata("s", "d"))
    driver = with_commands(given)
    assert driver.types(3) == ["WORKFLOW_TASK_COMPLETED"]
    assert not driver.history[-1].HasField("user_metadata")


def test_group_markers_are_kept() -> None:
    given = start_timer("t", 5)
    given.event_group_markers.add()
    assert len(with_commands(given).last("TIMER_STARTED").event_group_markers) == 1


# --- timers out of all bounds ---


@pytest.mark.parametrize("seconds", [2**62, 315_576_000_001])
def test_a_timer_beyond_a_hundred_years_is_cut(seconds: int) -> None:
    given = start_timer("t", 1)
    given.start_timer_command_attributes.start_to_fire_timeout.seconds = seconds
    driver = with_commands(given)
    century_s = 100 * 365 * 24 * 3600
    attributes = driver.last("TIMER_STARTED").timer_started_event_attributes
    assert attributes.start_to_fire_timeout.seconds == century_s
    assert driver.state.wakeup_ns is not None
    assert driver.state.wakeup_ns < 2**63
