"""Activities at work: attempts, outcomes, retries, the four timeouts, cancellation, tokens and calls by id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError, NotFoundError
from perdure.core.run import activity, attempts, retry
from perdure.core.run.activity import ActivityToken
from perdure.core.run.limits import SECOND_NS, Limits
from perdure.core.run.state import Activity
from perdure.core.run.transition import Transition
from tests.support.builders import (
    application_failure,
    cancel_activity,
    canceled_failure,
    payloads,
    retry_policy,
    schedule_activity,
)
from tests.support.proto import common, enums, failure
from tests.unit.core.driver import QUEUE, START_NS, Driver, with_commands

RetryState = enums.RetryState
Timeout = enums.TimeoutType


def scheduled(limits: Limits | None = None, **fields: Any) -> Driver:
    """A run whose activity "a" is event 5 and waits."""
    return with_commands(schedule_activity("a", QUEUE, **fields), limits=limits)


def started(limits: Limits | None = None, **fields: Any) -> Driver:
    """The same, a worker has it."""
    driver = scheduled(limits, **fields)
    driver.start_activity(5)
    return driver


def cancel_requested(**fields: Any) -> Driver:
    """The same, and its cancellation was requested (event 10)."""
    driver = started(**fields)
    driver.signal()
    driver.complete(cancel_activity(5))
    return driver


def pending(driver: Driver) -> Activity:
    """The activity."""
    return driver.state.activities[5]


# --- attempts ---


def test_a_start_leaves_no_event_and_takes_the_row() -> None:
    driver = scheduled()
    events = len(driver.history)
    driver.sleep(2)
    driver.start_activity(5)
    assert len(driver.history) == events
    assert driver.tasks == {}
    assert (pending(driver).started_ns, pending(driver).worker_identity) == (driver.now_ns, "worker")


def test_a_completion_writes_started_and_completed_and_calls_the_workflow() -> None:
    driver = started()
    driver.sleep(1)
    driver.complete_activity(5)
    assert driver.types(5) == [
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    start, end = driver.history[5:7]
    attributes = start.activity_task_started_event_attributes
    assert (attributes.scheduled_event_id, attributes.attempt) == (5, 1)
    assert (attributes.identity, attributes.request_id) == ("worker", "poll")
    assert start.event_time.ToNanoseconds() == driver.now_ns - SECOND_NS
    completed = end.activity_task_completed_event_attributes
    assert (completed.scheduled_event_id, completed.started_event_id) == (5, 6)
    assert (completed.result, completed.identity) == (payloads("result"), "worker")
    assert driver.state.activities == {}


def test_a_completion_may_be_without_result() -> None:
    driver = started()
    driver.answer(5, lambda tx, a: activity.complete(tx, a, None, "worker"))
    assert not driver.last("ACTIVITY_TASK_COMPLETED").activity_task_completed_event_attributes.HasField(
        "result"
    )


def test_a_retried_failure_leaves_no_event_and_waits_for_its_backoff() -> None:
    driver = started()
    events = len(driver.history)
    driver.fail_activity(5, application_failure())
    again = pending(driver)
    assert len(driver.history) == events
    assert (again.attempt, again.backing_off, again.started_ns) == (2, True, 0)
    assert again.last_failure == application_failure().SerializeToString()
    assert again.last_attempt_complete_ns == driver.now_ns
    assert driver.tasks == {}
    assert driver.state.wakeup_ns == driver.now_ns + SECOND_NS
    stamp = again.stamp
    driver.wake()
    assert (pending(driver).backing_off, driver.waiting_activities()) == (False, [5])
    assert pending(driver).stamp == stamp > 1
    assert pending(driver).scheduled_ns == driver.now_ns


def test_time_to_wait_for_a_worker_counts_from_the_dispatch() -> None:
    """A server that was down when the backoff ended does not let the attempt time out at once."""
    driver = started(schedule_to_start_s=3, start_to_close_s=10)
    driver.fail_activity(5, application_failure())
    driver.wake(late_s=60)
    assert driver.waiting_activities() == [5]
    assert pending(driver).scheduled_ns == driver.now_ns
    assert driver.state.wakeup_ns == driver.now_ns + 3 * SECOND_NS


def test_a_retry_without_delay_waits_for_a_worker_at_once() -> None:
    driver = started()
    driver.fail_activity(5, application_failure(next_retry_delay_s=0))
    assert driver.waiting_activities() == [5]
    assert pending(driver).attempt == 2


def test_a_failure_may_be_without_a_failure() -> None:
    driver = started(retry=retry_policy(attempts=2))
    for _ in range(2):
        driver.answer(5, lambda tx, a: activity.fail(tx, a, None, "worker", driver.limits))
        if driver.state.activities:
            driver.wake()
            driver.start_activity(5)
    attributes = driver.last("ACTIVITY_TASK_FAILED").activity_task_failed_event_attributes
    assert not attributes.HasField("failure")
    start = driver.last("ACTIVITY_TASK_STARTED").activity_task_started_event_attributes
    assert not start.HasField("last_failure")


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_the_started_event_says_which_version_the_worker_has(end: str) -> None:
    driver = started(retry=retry_policy(attempts=1))
    version = common.WorkerVersionStamp(build_id="build")
    if end == "completed":
        driver.answer(5, lambda tx, a: activity.complete(tx, a, None, "worker", version))
    else:
        driver.answer(
            5, lambda tx, a: activity.fail(tx, a, application_failure(), "worker", driver.limits, version)
        )
    start = driver.last("ACTIVITY_TASK_STARTED").activity_task_started_event_attributes
    assert start.worker_version == version


def test_the_last_attempts_event_carries_the_failure_before() -> None:
    driver = started(retry=retry_policy(attempts=2))
    driver.fail_activity(5, application_failure("first"))
    driver.wake()
    driver.start_activity(5)
    driver.fail_activity(5, application_failure("second"))
    start = driver.last("ACTIVITY_TASK_STARTED").activity_task_started_event_attributes
    assert (start.attempt, start.last_failure.message) == (2, "first")
    end = driver.last("ACTIVITY_TASK_FAILED").activity_task_failed_event_attributes
    assert end.failure.message == "second"
    assert end.retry_state == RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED


@pytest.mark.parametrize(
    ("driver", "cause", "state"),
    [
        (started, application_failure(non_retryable=True), "NON_RETRYABLE_FAILURE"),
        (started, canceled_failure(), "NON_RETRYABLE_FAILURE"),
        (
            lambda: started(retry=retry_policy(non_retryable=("Fatal",))),
            application_failure(type="Fatal"),
            "NON_RETRYABLE_FAILURE",
        ),
        (
            lambda: started(retry=retry_policy(attempts=1)),
            application_failure(),
            "MAXIMUM_ATTEMPTS_REACHED",
        ),
        (lambda: started(schedule_to_close_s=0.5), application_failure(), "TIMEOUT"),
        (cancel_requested, application_failure(), "CANCEL_REQUESTED"),
    ],
)
def test_why_a_failure_is_final(driver: Callable[[], Driver], cause: failure.Failure, state: str) -> None:
    run = driver()
    run.fail_activity(5, cause)
    attributes = run.last("ACTIVITY_TASK_FAILED").activity_task_failed_event_attributes
    assert attributes.failure == cause
    assert attributes.retry_state == RetryState.Value(f"RETRY_STATE_{state}")
    assert attributes.identity == "worker"
    assert run.state.activities == {}


def test_a_failure_says_whether_it_is_retried() -> None:
    driver = started()
    tx = driver.transition()
    assert activity.fail(tx, tx.activities.edit(5), application_failure(), "w", driver.limits)
    tx = driver.transition()
    final = application_failure(non_retryable=True)
    assert not activity.fail(tx, tx.activities.edit(5), final, "w", driver.limits)


# --- timeouts ---


def _timed_out(driver: Driver) -> Any:
    return driver.last("ACTIVITY_TASK_TIMED_OUT").activity_task_timed_out_event_attributes


@pytest.mark.parametrize(
    ("fields", "take", "after_s", "kind", "name", "state"),
    [
        (
            {"schedule_to_start_s": 3},
            False,
            3,
            Timeout.TIMEOUT_TYPE_SCHEDULE_TO_START,
            "ScheduleToStart",
            "TIMEOUT",
        ),
        (
            {"schedule_to_close_s": 4, "start_to_close_s": None},
            False,
            4,
            Timeout.TIMEOUT_TYPE_SCHEDULE_TO_START,
            "ScheduleToStart",
            "TIMEOUT",
        ),
        (
            {"start_to_close_s": 5, "retry": retry_policy(attempts=1)},
            True,
            5,
            Timeout.TIMEOUT_TYPE_START_TO_CLOSE,
            "StartToClose",
            "MAXIMUM_ATTEMPTS_REACHED",
        ),
        (
            {"heartbeat_s": 2, "retry": retry_policy(attempts=1)},
            True,
            2,
            Timeout.TIMEOUT_TYPE_HEARTBEAT,
            "Heartbeat",
            "MAXIMUM_ATTEMPTS_REACHED",
        ),
        (
            {"heartbeat_s": 2, "retry": retry_policy(non_retryable=("TemporalTimeout:Heartbeat",))},
            True,
            2,
            Timeout.TIMEOUT_TYPE_HEARTBEAT,
            "Heartbeat",
            "NON_RETRYABLE_FAILURE",
        ),
    ],
    ids=["schedule to start", "both schedule timeouts", "start to close", "heartbeat", "not retryable"],
)
def test_each_timeout_closes_the_activity(
    fields: dict[str, Any], take: bool, after_s: float, kind: int, name: str, state: str
) -> None:
    driver = started(**fields) if take else scheduled(**fields)
    assert driver.state.wakeup_ns == START_NS + after_s * SECOND_NS
    driver.wake()
    attributes = _timed_out(driver)
    assert attributes.failure.message == f"activity {name} timeout"
    assert attributes.failure.source == "Server"
    assert attributes.failure.timeout_failure_info.timeout_type == kind
    assert attributes.retry_state == RetryState.Value(f"RETRY_STATE_{state}")
    assert bool(attributes.started_event_id) is take
    assert driver.header.has_pending_task


@pytest.mark.parametrize("attempts_allowed", [0, 1])
@pytest.mark.parametrize("limits", [{"start_to_close_s": 10}, {"start_to_close_s": None, "heartbeat_s": 4}])
def test_the_time_for_the_whole_activity_is_over_while_it_runs(
    limits: dict[str, Any], attempts_allowed: int
) -> None:
    """A worker that waited takes it in the instant in which it is scheduled: its own limits are then as long."""
    driver = started(schedule_to_close_s=4, retry=retry_policy(attempts=attempts_allowed), **limits)
    driver.sleep(4)
    driver.wake()
    attributes = _timed_out(driver)
    # Start-to-close was cut to the same moment; either way there is no time for another attempt.
    assert attributes.failure.timeout_failure_info.timeout_type == Timeout.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
    assert attributes.retry_state == RetryState.RETRY_STATE_TIMEOUT
    assert attributes.failure.message == attempts.NO_TIME_FOR_RETRY


@pytest.mark.parametrize("fields", [{"start_to_close_s": 5}, {"heartbeat_s": 5, "start_to_close_s": 60}])
def test_a_timeout_is_retried(fields: dict[str, Any]) -> None:
    driver = started(**fields)
    driver.wake()
    assert (pending(driver).attempt, pending(driver).backing_off) == (2, True)
    kept = failure.Failure.FromString(pending(driver).last_failure)
    assert kept.timeout_failure_info.timeout_type in (
        Timeout.TIMEOUT_TYPE_START_TO_CLOSE,
        Timeout.TIMEOUT_TYPE_HEARTBEAT,
    )


def test_a_timeout_without_time_for_another_attempt_says_so_with_the_cause() -> None:
    driver = started(schedule_to_close_s=8, start_to_close_s=3, retry=retry_policy(initial_s=2))
    driver.fail_activity(5, application_failure("first"))
    driver.wake()
    driver.start_activity(5)
    driver.wake()  # start-to-close at 5 s; the next attempt would begin after 8 s
    attributes = _timed_out(driver)
    assert attributes.failure.message == attempts.NO_TIME_FOR_RETRY
    assert attributes.failure.timeout_failure_info.timeout_type == Timeout.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
    assert attributes.retry_state == RetryState.RETRY_STATE_TIMEOUT
    assert attributes.failure.cause.message == "first"


def test_heartbeats_keep_an_activity_alive_and_their_details_go_on() -> None:
    driver = started(heartbeat_s=5, start_to_close_s=60)
    driver.sleep(4)
    driver.heartbeat(5, "progress")
    beat_ns = driver.now_ns
    assert driver.state.wakeup_ns == beat_ns + 5 * SECOND_NS
    driver.wake()
    assert pending(driver).heartbeat_details == payloads("progress").SerializeToString()
    driver.wake()
    driver.start_activity(5)
    assert pending(driver).last_heartbeat_ns == beat_ns
    assert driver.state.wakeup_ns == driver.now_ns + 5 * SECOND_NS


def test_a_final_timeout_carries_the_last_heartbeats_details() -> None:
    driver = started(heartbeat_s=5, retry=retry_policy(attempts=1))
    driver.heartbeat(5, "progress")
    driver.wake()
    assert _timed_out(driver).failure.timeout_failure_info.last_heartbeat_details == payloads("progress")


def test_a_heartbeat_may_be_without_details() -> None:
    driver = started(heartbeat_s=5)
    driver.heartbeat(5, "progress")
    driver.heartbeat(5)
    assert pending(driver).heartbeat_details == b""


def test_a_timeout_after_a_cancellation_request_is_final() -> None:
    driver = cancel_requested()
    driver.wake()
    assert _timed_out(driver).retry_state == RetryState.RETRY_STATE_CANCEL_REQUESTED


def test_a_late_wake_up_takes_what_is_due_in_order_of_time() -> None:
    """The backoff ends, then the new attempt waits too long for a worker: both in one wake-up."""
    driver = started(schedule_to_start_s=3, schedule_to_close_s=60, start_to_close_s=10)
    driver.fail_activity(5, application_failure())
    driver.wake(late_s=100)
    attributes = _timed_out(driver)
    assert attributes.failure.timeout_failure_info.timeout_type == Timeout.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
    assert attributes.started_event_id == 0


def test_only_timeouts_that_are_set_have_deadlines() -> None:
    assert activity.deadlines(Activity(started_ns=5)) == []
    assert activity.deadlines(Activity(scheduled_ns=5)) == []


def test_what_is_not_due_any_more_does_nothing() -> None:
    driver = started(heartbeat_s=5, start_to_close_s=60)
    tx = driver.transition()
    activity.fire(tx, 5, 1, retry.HEARTBEAT, driver.limits)
    activity.fire(tx, 99, 1, retry.HEARTBEAT, driver.limits)
    assert tx.is_untouched


# --- cancellation ---


def test_an_activity_that_no_worker_has_is_cancelled_at_once() -> None:
    driver = scheduled()
    driver.signal()
    driver.complete(cancel_activity(5))
    assert driver.types(8) == [
        "WORKFLOW_TASK_COMPLETED",
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "ACTIVITY_TASK_CANCELED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    requested = driver.last("ACTIVITY_TASK_CANCEL_REQUESTED")
    asked = requested.activity_task_cancel_requested_event_attributes
    assert (asked.scheduled_event_id, asked.workflow_task_completed_event_id) == (5, 9)
    attributes = driver.last("ACTIVITY_TASK_CANCELED").activity_task_canceled_event_attributes
    assert attributes.latest_cancel_requested_event_id == requested.event_id
    assert attributes.details == payloads("ACTIVITY_ID_NOT_STARTED")
    assert (attributes.started_event_id, attributes.identity) == (0, "worker")
    assert driver.state.activities == {}


def test_an_activity_in_backoff_is_cancelled_at_once() -> None:
    driver = started()
    driver.fail_activity(5, application_failure())
    driver.signal()
    driver.complete(cancel_activity(5))
    attributes = driver.last("ACTIVITY_TASK_CANCELED").activity_task_canceled_event_attributes
    assert attributes.started_event_id == 0
    assert driver.state.wakeup_ns is None


def test_an_activity_scheduled_and_cancelled_by_one_task() -> None:
    driver = with_commands(schedule_activity("a", QUEUE), cancel_activity(5))
    assert driver.types(4) == [
        "ACTIVITY_TASK_SCHEDULED",
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "ACTIVITY_TASK_CANCELED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    assert driver.waiting_activities() == []


def test_a_worker_hears_of_the_cancellation_and_confirms_it() -> None:
    driver = cancel_requested()
    assert not driver.header.has_pending_task
    assert pending(driver).cancel_requested_event_id == 10
    driver.cancel_activity(5)
    attributes = driver.last("ACTIVITY_TASK_CANCELED").activity_task_canceled_event_attributes
    assert attributes.latest_cancel_requested_event_id == 10
    assert (attributes.details, attributes.identity) == (payloads("details"), "worker")
    assert attributes.started_event_id == 11
    assert driver.header.has_pending_task


def test_a_confirmation_may_be_without_details() -> None:
    driver = cancel_requested()
    driver.answer(5, lambda tx, a: activity.cancel(tx, a, None, "worker"))
    attributes = driver.last("ACTIVITY_TASK_CANCELED").activity_task_canceled_event_attributes
    assert not attributes.HasField("details")


def test_a_confirmation_that_nobody_asked_for_is_refused() -> None:
    driver = started()
    with pytest.raises(InvalidArgumentError) as caught:
        driver.cancel_activity(5)
    assert (
        str(caught.value)
        == "unable to mark activity as canceled without activity being request canceled first"
    )


def test_an_activity_may_complete_in_spite_of_the_request() -> None:
    driver = cancel_requested()
    driver.complete_activity(5)
    assert driver.types(10)[:2] == ["ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED"]


@pytest.mark.parametrize(
    "finish", [Driver.complete_activity, lambda d, e: d.fail_activity(e, canceled_failure())]
)
def test_a_request_that_crosses_the_end_is_recorded_and_changes_nothing(
    finish: Callable[[Driver, int], object],
) -> None:
    """The end waits in the buffer: the workflow could not know."""
    driver = started()
    driver.signal()
    driver.poll()
    finish(driver, 5)
    driver.respond(cancel_activity(5))
    assert driver.types(8)[:3] == [
        "WORKFLOW_TASK_COMPLETED",
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "ACTIVITY_TASK_STARTED",
    ]


@pytest.mark.parametrize("prepare", [cancel_requested, lambda: with_commands(), lambda: _ended()])
def test_a_request_for_what_is_not_pending_is_refused(prepare: Callable[[], Driver]) -> None:
    driver = prepare()
    if not driver.header.has_pending_task:
        driver.signal()
    done = driver.complete(cancel_activity(5))
    assert (
        str(done.error) == "BadRequestCancelActivityAttributes: invalid history builder state for action:"
        " add-activitytask-cancel-requested-event, ScheduledEventID: 5"
    )


def test_a_request_knows_which_activity_ended_in_the_buffer() -> None:
    driver = with_commands(schedule_activity("a", QUEUE), schedule_activity("b", QUEUE))
    driver.start_activity(5)
    driver.start_activity(6)
    driver.signal()
    driver.poll()
    driver.complete_activity(6)
    driver.complete_activity(5)
    driver.respond(cancel_activity(5))
    assert driver.types(10)[0] == "ACTIVITY_TASK_CANCEL_REQUESTED"


def _ended() -> Driver:
    driver = started()
    driver.complete_activity(5)
    return driver


# --- tokens and calls by id ---


def _current(
    driver: Driver, token: ActivityToken, start_as: str | None = None
) -> tuple[Transition, Activity]:
    tx = driver.transition()
    return tx, activity.current(tx, token, start_as=start_as)


@pytest.mark.parametrize("wrong", [{"scheduled_event_id": 6}, {"attempt": 2}, {"started_ns": 1}])
def test_a_token_of_another_attempt_is_stale(wrong: dict[str, Any]) -> None:
    driver = started()
    with pytest.raises(NotFoundError) as caught:
        _current(driver, replace(driver.activity_token(5), **wrong))
    assert str(caught.value) == activity.NOT_FOUND


@pytest.mark.parametrize(
    ("meanwhile", "message"),
    [
        (lambda d: d.fail_activity(5, application_failure()), activity.NOT_FOUND),
        (lambda d: d.complete_activity(5), activity.NOT_FOUND),
        (lambda d: d.wake(), activity.NOT_FOUND),
        (lambda d: d.terminate(), "workflow execution already completed"),
    ],
    ids=["retried", "completed", "timed out", "run closed"],
)
def test_an_attempt_that_is_over_cannot_be_answered(
    meanwhile: Callable[[Driver], object], message: str
) -> None:
    driver = started()
    token = driver.activity_token(5)
    meanwhile(driver)
    with pytest.raises(NotFoundError) as caught:
        _current(driver, token)
    assert str(caught.value) == message


def test_a_call_by_id_fits_any_started_attempt() -> None:
    driver = started()
    _, found = _current(driver, ActivityToken(activity_id="a"))
    assert found.scheduled_event_id == 5


def test_a_call_by_an_unknown_id_says_which() -> None:
    with pytest.raises(NotFoundError) as caught:
        _current(started(), ActivityToken(activity_id="nope"))
    assert (
        str(caught.value)
        == "cannot find pending activity with ActivityID nope, check workflow execution history for more details"
    )


def test_a_call_by_id_for_an_activity_that_no_worker_has_is_refused() -> None:
    with pytest.raises(NotFoundError) as caught:
        _current(scheduled(), ActivityToken(activity_id="a"))
    assert str(caught.value) == activity.NOT_FOUND


@pytest.mark.parametrize("identity", ["someone", ""])
@pytest.mark.parametrize("in_backoff", [False, True])
def test_a_completion_by_id_starts_what_no_worker_has(identity: str, in_backoff: bool) -> None:
    driver = started() if in_backoff else scheduled()
    if in_backoff:
        driver.fail_activity(5, application_failure())
    tx, found = _current(driver, ActivityToken(activity_id="a"), start_as=identity)
    activity.complete(tx, found, payloads("r"), identity)
    driver.commit(tx)
    start = driver.last("ACTIVITY_TASK_STARTED").activity_task_started_event_attributes
    assert (start.identity, start.request_id, start.attempt) == (identity, "", 2 if in_backoff else 1)
    assert driver.types(5) == [
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
