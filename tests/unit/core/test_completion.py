"""A worker's answer to a workflow task: heartbeats, inline tasks, eager activities, failures, the buffer's overflow."""

from __future__ import annotations

import uuid

import pytest

from perdure.core.errors import InvalidArgumentError, NotFoundError
from perdure.core.run import workflow_task
from perdure.core.run.completion import INLINE_REQUEST_ID
from perdure.core.run.limits import SECOND_NS, Limits
from tests.support.builders import (
    cancel_activity,
    cancel_timer,
    complete_workflow,
    duration,
    schedule_activity,
    start_timer,
    sticky,
)
from tests.support.proto import enums, taskqueue
from tests.unit.core.driver import QUEUE, STICKY, Driver, begun, with_commands

BAD = cancel_timer("nope")


def _news(driver: Driver) -> Driver:
    """Starts the waiting workflow task and lets a signal wait in the buffer."""
    driver.poll()
    driver.signal()
    return driver


# --- what follows a completion ---


def test_nothing_follows_when_nothing_happened() -> None:
    driver = with_commands(start_timer("t", 5))
    assert driver.types(3) == ["WORKFLOW_TASK_COMPLETED", "TIMER_STARTED"]
    assert driver.waiting_workflow_task() is None


@pytest.mark.parametrize("inline", [False, True])
def test_a_task_follows_when_something_waits(inline: bool) -> None:
    driver = _news(begun())
    done = driver.respond(return_new_workflow_task=inline)
    assert done.new_task_inline is inline
    started = ["WORKFLOW_TASK_STARTED"] if inline else []
    assert driver.types(3) == [
        "WORKFLOW_TASK_COMPLETED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
        *started,
    ]
    if inline:
        attributes = driver.last("WORKFLOW_TASK_STARTED").workflow_task_started_event_attributes
        assert (attributes.request_id, attributes.identity) == (INLINE_REQUEST_ID, "worker")


@pytest.mark.parametrize("is_started", [False, True])
def test_the_cancellation_of_an_unstarted_activity_is_told_at_once(is_started: bool) -> None:
    """The worker that cancelled it gets the next task in the answer; a started one must confirm first."""
    driver = with_commands(schedule_activity("a", QUEUE))
    if is_started:
        driver.start_activity(5)
    driver.signal()
    done = driver.complete(cancel_activity(5), return_new_workflow_task=True)
    assert done.new_task_inline is not is_started
    assert driver.header.has_started_task is not is_started


def test_nothing_is_returned_inline_when_nothing_follows() -> None:
    driver = begun()
    assert not driver.complete(return_new_workflow_task=True).new_task_inline


def test_an_inline_task_may_be_a_sticky_one() -> None:
    driver = _news(begun())
    done = driver.respond(sticky_attributes=sticky(STICKY, QUEUE), return_new_workflow_task=True)
    assert done.new_task_inline
    assert driver.tasks == {}


# --- heartbeats ---


def test_a_worker_that_needs_time_gets_another_task() -> None:
    driver = begun()
    driver.poll()
    for _ in range(3):
        driver.sleep(8)
        done = driver.respond(force_create_new_workflow_task=True, return_new_workflow_task=True)
        assert done.new_task_inline
    assert (
        driver.types(3) == ["WORKFLOW_TASK_COMPLETED", "WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"] * 3
    )


def test_heartbeats_without_progress_end_after_a_while() -> None:
    driver = begun(Limits(task_heartbeat_ns=20 * SECOND_NS))
    driver.poll()
    for _ in range(2):
        driver.sleep(9)
        driver.respond(
            force_create_new_workflow_task=True,
            return_new_workflow_task=True,
            sticky_attributes=sticky(STICKY, QUEUE),
        )
    driver.sleep(3)
    done = driver.respond(force_create_new_workflow_task=True)
    assert isinstance(done.error, NotFoundError)
    assert str(done.error) == "workflow task heartbeat timeout"
    assert driver.types(9) == ["WORKFLOW_TASK_TIMED_OUT", "WORKFLOW_TASK_SCHEDULED"]
    assert driver.header.sticky_queue == ""


@pytest.mark.parametrize("commands", [[], [start_timer("t", 500)]], ids=["no progress", "progress"])
def test_progress_begins_a_new_row_of_heartbeats(commands: list[object]) -> None:
    driver = begun(Limits(task_heartbeat_ns=20 * SECOND_NS))
    driver.poll()
    driver.sleep(9)
    driver.respond(
        *commands,  # type: ignore[arg-type]  # commands
        force_create_new_workflow_task=True,
        return_new_workflow_task=True,
    )
    driver.sleep(9)
    driver.respond(force_create_new_workflow_task=True, return_new_workflow_task=True)
    driver.sleep(9)
    done = driver.respond(force_create_new_workflow_task=True)
    assert (done.error is None) is bool(commands)


# --- eager activities ---


def test_eager_activities_start_with_the_completion() -> None:
    driver = begun()
    driver.poll()
    done = driver.respond(
        schedule_activity("a", QUEUE, eager=True),
        schedule_activity("b", QUEUE),
        schedule_activity("c", QUEUE, eager=True),
        cancel_activity(7),
    )
    assert done.eager == [5]
    assert set(done.started) == {5}
    assert done.started[5].started_ns == driver.now_ns
    assert uuid.UUID(done.started[5].request_id).version == 4
    assert driver.waiting_activities() == [6]


def test_no_activity_starts_when_the_run_closes() -> None:
    driver = begun()
    assert driver.complete(schedule_activity("a", QUEUE, eager=True), complete_workflow()).eager == []


# --- failures ---


def test_a_bad_command_on_the_first_attempt_fails_the_task() -> None:
    driver = begun()
    done = driver.complete(BAD, binary_checksum="checksum")
    assert isinstance(done.error, InvalidArgumentError)
    attributes = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert attributes.binary_checksum == "checksum"
    assert (driver.header.task_attempt, driver.header.has_pending_task) == (2, True)


def test_a_bad_command_on_a_later_attempt_leaves_the_task_to_its_timeout() -> None:
    """A task that fails at once again and again would otherwise spin."""
    driver = begun()
    driver.complete(BAD)
    driver.poll()
    version = driver.state.version
    with pytest.raises(InvalidArgumentError, match="BadCancelTimerAttributes"):
        driver.respond(BAD)
    assert (driver.state.version, driver.header.has_started_task) == (version, True)
    driver.wake()
    assert driver.header.task_attempt == 3


def test_a_bad_command_with_news_makes_a_normal_first_attempt() -> None:
    driver = _news(begun())
    driver.respond(BAD)
    assert driver.types(3) == [
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    assert driver.header.task_attempt == 1


@pytest.mark.parametrize("transient", [False, True])
def test_a_run_cannot_close_over_news(transient: bool) -> None:
    driver = begun()
    if transient:
        driver.poll()
        driver.fail_task()
    done = _news(driver).respond(complete_workflow(), return_new_workflow_task=True)
    assert str(done.error) == "UnhandledCommand"
    assert not done.new_task_inline
    failed = [] if transient else ["WORKFLOW_TASK_FAILED"]
    assert driver.types(4 if transient else 3) == [
        *failed,
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    if not transient:
        attributes = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
        assert attributes.cause == enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
    assert (driver.header.task_attempt, driver.header.is_open) == (1, True)


def test_a_run_may_close_over_its_own_cancellation_of_an_unstarted_activity() -> None:
    driver = with_commands(schedule_activity("a", QUEUE))
    driver.signal()
    driver.complete(cancel_activity(5), complete_workflow())
    assert driver.types(8) == [
        "WORKFLOW_TASK_COMPLETED",
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]


def test_a_bad_sticky_timeout_is_refused() -> None:
    driver = begun()
    driver.poll()
    attributes = taskqueue.StickyExecutionAttributes(
        worker_task_queue=taskqueue.TaskQueue(name=STICKY), schedule_to_start_timeout=duration(-1)
    )
    with pytest.raises(InvalidArgumentError, match="StickyAttributes: negative duration"):
        driver.respond(sticky_attributes=attributes)


def test_a_failed_task_keeps_what_the_worker_said() -> None:
    driver = begun()
    driver.poll()
    driver.fail_task()
    attributes = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert (attributes.failure.message, attributes.identity) == ("bad code", "worker")


def test_a_cause_that_this_server_does_not_know_is_recorded_as_it_came() -> None:
    """A worker may be newer, or broken."""
    driver = begun()
    driver.poll()
    driver.fail_task(-1)
    assert driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes.cause == -1
    assert driver.state.header.task_problem == "Failed-1"


# --- too many events wait ---


@pytest.mark.parametrize(
    ("limits", "survives"),
    [(Limits(buffered_events=3), 3), (Limits(buffered_bytes=300), 5)],
    ids=["by number", "by size"],
)
def test_a_full_buffer_fails_the_started_task_and_is_written(limits: Limits, survives: int) -> None:
    driver = begun(limits)
    driver.poll()
    signals = 0
    while driver.header.has_started_task:
        driver.signal("s" * 30)
        signals += 1
    assert signals == survives + 1
    assert driver.types(3) == ["WORKFLOW_TASK_FAILED", *["WORKFLOW_EXECUTION_SIGNALED"] * signals]
    attributes = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert attributes.cause == workflow_task.FORCE_CLOSE
    assert attributes.identity == "history-service"
    assert driver.header.has_pending_task


def test_one_event_larger_than_the_buffer_may_wait() -> None:
    driver = begun(Limits(buffered_bytes=10))
    driver.poll()
    driver.signal("s" * 30)
    assert driver.header.has_started_task


# --- histories that are too long or too large ---


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(history_events=8), "Workflow history count exceeds limit."),
        (Limits(history_bytes=400), "Workflow history size exceeds limit."),
    ],
)
@pytest.mark.parametrize("inline", [False, True])
def test_a_run_whose_history_outgrows_its_limit_is_terminated(
    limits: Limits, reason: str, inline: bool
) -> None:
    """Nothing is lost before that, and a worker that holds a task may finish it."""
    driver = begun(limits)
    rounds = 0
    while driver.header.is_open and rounds < 50:
        _news(driver).respond(return_new_workflow_task=False)
        rounds += 1
        if inline and driver.header.is_open:
            done = _news(driver).respond(return_new_workflow_task=True)
            if done.new_task_inline:
                driver.respond()
    attributes = driver.history[-1].workflow_execution_terminated_event_attributes
    assert (attributes.reason, attributes.identity) == (reason, "history-service")
    assert "WORKFLOW_TASK_FAILED" not in driver.types()
    assert driver.tasks == {}


def test_heartbeats_that_hold_too_much_together_end_their_run() -> None:
    """Each may be as large as a payload, and there may be thousands of activities. The newest of each counts."""
    both = (schedule_activity("1", QUEUE), schedule_activity("2", QUEUE))
    driver = with_commands(*both, limits=Limits(state_bytes=200))
    first, second = sorted(driver.state.activities)
    for scheduled in (first, second):
        driver.start_activity(scheduled)
    for _ in range(5):
        driver.heartbeat(first, "h" * 100)
    assert driver.header.is_open
    driver.heartbeat(second, "h" * 100)
    terminated = driver.history[-1].workflow_execution_terminated_event_attributes
    assert terminated.reason == "Workflow mutable state size exceeds limit."
    assert driver.tasks == {}


def test_signals_to_an_idle_run_end_it_too_when_they_are_too_many() -> None:
    driver = begun(Limits(history_events=3))
    driver.signal()
    driver.signal()
    assert driver.types(2) == [
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_TERMINATED",
    ]


def test_a_history_that_a_worker_cannot_take_in_ends_the_run() -> None:
    """No other attempt could."""
    driver = begun()
    driver.poll()
    driver.fail_task(enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_GRPC_MESSAGE_TOO_LARGE)
    assert driver.types(3) == ["WORKFLOW_TASK_FAILED", "WORKFLOW_EXECUTION_TERMINATED"]
    attributes = driver.history[-1].workflow_execution_terminated_event_attributes
    assert (attributes.reason, attributes.identity) == ("GrpcMessageTooLarge", "history-service")
