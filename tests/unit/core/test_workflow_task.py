"""Workflow tasks: schedule, start, complete, fail, time out; normal, sticky and transient; attempts and timeouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from perdure.core.errors import InvariantViolation, NotFoundError
from perdure.core.run import deadlines, signal, workflow_task
from perdure.core.run.limits import SECOND_NS, Limits
from tests.support.builders import complete_workflow, duration, payloads, start_timer, sticky
from tests.support.proto import common, enums, sdk
from tests.unit.core.driver import QUEUE, START_NS, STICKY, Driver, begun, name_of, with_commands

Cause = enums.WorkflowTaskFailedCause


def failing(times: int) -> Driver:
    """A run whose workflow task failed so many times."""
    driver = begun()
    for _ in range(times):
        driver.poll()
        driver.fail_task()
    return driver


def on_sticky_queue(seconds: float = 10) -> Driver:
    """A run whose second workflow task waits on a sticky queue."""
    driver = begun()
    driver.poll()
    driver.respond(sticky_attributes=sticky(STICKY, QUEUE, seconds))
    driver.signal()
    return driver


# --- schedule ---


def test_the_first_task_is_scheduled_with_the_start() -> None:
    driver = begun()
    attributes = driver.last("WORKFLOW_TASK_SCHEDULED").workflow_task_scheduled_event_attributes
    assert (attributes.task_queue.name, attributes.task_queue.kind) == (QUEUE, 1)
    assert attributes.start_to_close_timeout == duration(10)
    assert attributes.attempt == 1
    assert driver.header.task_scheduled_event_id == 2


def test_a_second_pending_task_is_a_bug() -> None:
    driver = begun()
    with pytest.raises(InvariantViolation, match="pending already"):
        workflow_task.schedule(driver.transition())


def test_an_event_while_a_task_waits_schedules_no_other() -> None:
    driver = begun()
    driver.signal()
    assert driver.types() == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_EXECUTION_SIGNALED",
    ]


def test_an_event_while_a_task_is_started_waits_and_then_makes_a_task() -> None:
    driver = begun()
    driver.poll()
    driver.signal()
    assert len(driver.history) == 3
    driver.respond()
    assert driver.types(3) == [
        "WORKFLOW_TASK_COMPLETED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
    ]


def test_a_delayed_run_waits_for_its_time_and_no_signal_brings_it_forward() -> None:
    driver = begun(workflow_start_delay=duration(60))
    driver.sleep(5)
    driver.signal()
    assert driver.types() == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_EXECUTION_SIGNALED"]
    assert driver.state.wakeup_ns == START_NS + 60 * SECOND_NS
    driver.wake()
    assert driver.types(2) == ["WORKFLOW_TASK_SCHEDULED"]
    assert driver.header.task_scheduled_ns == START_NS + 60 * SECOND_NS


def test_signal_with_start_releases_a_delayed_run() -> None:
    driver = begun(workflow_start_delay=duration(60))
    driver.apply(workflow_task.release_first_task)
    assert driver.header.has_pending_task
    assert driver.state.wakeup_ns is None


def test_releasing_a_run_that_has_a_task_changes_nothing() -> None:
    driver = begun()
    driver.apply(workflow_task.release_first_task)
    assert len(driver.history) == 2


def test_a_cancellation_is_heard_at_once_by_a_delayed_run() -> None:
    """As the official server does: only signals wait for the delay."""
    driver = begun(workflow_start_delay=duration(60))
    driver.cancel()
    assert driver.types(1) == ["WORKFLOW_EXECUTION_CANCEL_REQUESTED", "WORKFLOW_TASK_SCHEDULED"]


# --- start ---


def test_a_start_is_written_with_who_and_how_large_the_history_is() -> None:
    driver = begun()
    size = driver.header.history_size_bytes
    driver.sleep(3)
    token = driver.poll("request", "me")
    event = driver.last("WORKFLOW_TASK_STARTED")
    attributes = event.workflow_task_started_event_attributes
    assert (attributes.scheduled_event_id, attributes.identity, attributes.request_id) == (2, "me", "request")
    assert attributes.history_size_bytes == size
    assert not attributes.suggest_continue_as_new
    assert event.event_time.ToNanoseconds() == START_NS + 3 * SECOND_NS
    assert (token.scheduled_event_id, token.started_event_id, token.attempt) == (2, 3, 1)
    assert token.started_ns == driver.now_ns


@pytest.mark.parametrize("prepare", [lambda driver: driver.respond(), lambda driver: None])
def test_starting_without_a_waiting_task_is_a_bug(prepare: Callable[[Driver], object]) -> None:
    driver = begun()
    driver.poll()
    prepare(driver)
    with pytest.raises(InvariantViolation, match="no workflow task waits"):
        driver.poll()


@pytest.mark.parametrize(
    ("limits", "reasons"),
    [
        (Limits(suggest_continue_as_new_bytes=1), ["HISTORY_SIZE_TOO_LARGE"]),
        (Limits(suggest_continue_as_new_events=2), ["TOO_MANY_HISTORY_EVENTS"]),
        (Limits(suggest_continue_as_new_events=3), []),
        (
            Limits(suggest_continue_as_new_bytes=1, suggest_continue_as_new_events=1),
            ["HISTORY_SIZE_TOO_LARGE", "TOO_MANY_HISTORY_EVENTS"],
        ),
    ],
)
def test_a_long_history_suggests_to_continue_as_new(limits: Limits, reasons: list[str]) -> None:
    driver = begun(limits)
    driver.poll()
    attributes = driver.last("WORKFLOW_TASK_STARTED").workflow_task_started_event_attributes
    names = [
        enums.SuggestContinueAsNewReason.Name(reason).removeprefix("SUGGEST_CONTINUE_AS_NEW_REASON_")
        for reason in attributes.suggest_continue_as_new_reasons
    ]
    assert names == reasons
    assert attributes.suggest_continue_as_new == bool(reasons)


@pytest.mark.parametrize(("use_versioning", "is_written"), [(False, True), (True, False)])
def test_a_start_says_which_version_an_unversioned_worker_has(use_versioning: bool, is_written: bool) -> None:
    driver = begun()
    version = common.WorkerVersionStamp(build_id="build", use_versioning=use_versioning)
    driver.apply(lambda tx: workflow_task.start(tx, "poll", "worker", driver.limits, version))
    attributes = driver.last("WORKFLOW_TASK_STARTED").workflow_task_started_event_attributes
    assert attributes.HasField("worker_version") is is_written


def test_a_task_that_follows_at_once_counts_the_events_before_it() -> None:
    """The size that the worker is told is that of all it gets to see."""
    driver = begun()
    tx = driver.transition()
    signal.receive(
        tx, name="s", input=None, identity="", header=None, request_id="", links=(), limits=driver.limits
    )
    tx.flush()
    size = driver.header.history_size_bytes + tx.new_bytes()
    workflow_task.start(tx, "poll", "worker", driver.limits, counts_new_events=True)
    assert tx.header.task_history_size_bytes == size


# --- complete ---


def test_a_completion_records_what_the_worker_said() -> None:
    driver = begun()
    driver.poll()
    driver.respond(
        binary_checksum="checksum",
        sdk_metadata=sdk.WorkflowTaskCompletedMetadata(core_used_flags=[1], sdk_name="python"),
        worker_version_stamp=common.WorkerVersionStamp(build_id="build"),
        metering_metadata=common.MeteringMetadata(nonfirst_local_activity_execution_attempts=2),
        deployment_options={"deployment_name": "deployment"},
    )
    attributes = driver.last("WORKFLOW_TASK_COMPLETED").workflow_task_completed_event_attributes
    assert (attributes.scheduled_event_id, attributes.started_event_id) == (2, 3)
    assert (attributes.identity, attributes.binary_checksum) == ("worker", "checksum")
    assert attributes.sdk_metadata.sdk_name == "python"
    assert attributes.worker_version.build_id == "build"
    assert attributes.metering_metadata.nonfirst_local_activity_execution_attempts == 2
    assert attributes.worker_deployment_name == "deployment"
    assert driver.header.last_completed_task_started_event_id == 3
    assert not driver.header.has_pending_task


@pytest.mark.parametrize("end", [Driver.respond, Driver.fail_task, Driver.wake, Driver.terminate])
def test_a_task_that_is_over_leaves_nothing_behind(end: Callable[[Driver], object]) -> None:
    """What a poll wrote into the header must not show up with the next task."""
    driver = begun()
    driver.poll("request", "me")
    end(driver)
    header = driver.header
    assert (header.task_request_id, header.task_worker_identity, header.task_started_ns) == ("", "", 0)
    assert (header.task_history_size_bytes, header.task_suggest_reasons) == (0, [])


def test_a_completion_without_extras_has_none() -> None:
    attributes = with_commands().last("WORKFLOW_TASK_COMPLETED").workflow_task_completed_event_attributes
    assert not attributes.HasField("sdk_metadata")
    assert not attributes.HasField("worker_version")


@pytest.mark.parametrize(
    "wrong",
    [
        {"scheduled_event_id": 1},
        {"started_event_id": 2},
        {"started_ns": 1},
        {"attempt": 2},
    ],
)
def test_a_token_of_another_task_is_stale(wrong: dict[str, int]) -> None:
    driver = begun()
    token = replace(driver.poll(), **wrong)
    for answer in (driver.respond, driver.fail_task):
        with pytest.raises(NotFoundError, match=r"Workflow task not found\."):
            answer(token=token)


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda driver: driver.respond(),
        lambda driver: driver.fail_task(),
        lambda driver: driver.wake(),
        lambda driver: driver.terminate(),
    ],
    ids=["completed", "failed", "timed out", "closed"],
)
def test_a_task_that_is_over_cannot_be_answered(meanwhile: Callable[[Driver], object]) -> None:
    driver = begun()
    token = driver.poll()
    meanwhile(driver)
    with pytest.raises(NotFoundError, match=r"Workflow task not found\."):
        driver.respond(token=token)


# --- fail, transient tasks ---


def test_the_first_failure_is_written_and_the_next_task_is_transient() -> None:
    driver = begun()
    driver.poll()
    driver.fail_task(Cause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR)
    attributes = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert (attributes.scheduled_event_id, attributes.started_event_id) == (2, 3)
    assert attributes.cause == Cause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
    assert (attributes.failure.message, attributes.identity) == ("bad code", "worker")
    assert driver.types(3) == ["WORKFLOW_TASK_FAILED"]
    assert (driver.header.task_attempt, driver.header.task_scheduled_event_id) == (2, 5)


def test_later_failures_leave_no_event() -> None:
    driver = failing(3)
    assert driver.types(4) == []
    assert driver.header.task_attempt == 4
    driver.poll()
    assert driver.types(4) == []
    assert (driver.header.task_scheduled_event_id, driver.header.task_started_event_id) == (5, 6)


def test_a_transient_tasks_events_are_shown_to_the_worker_only() -> None:
    driver = failing(1)
    driver.sleep(1)
    driver.poll("request", "me")
    scheduled, started = workflow_task.transient_events(driver.header, "me")
    assert started.workflow_task_started_event_attributes.identity == "me"
    assert (scheduled.event_id, started.event_id) == (5, 6)
    assert scheduled.workflow_task_scheduled_event_attributes.attempt == 2
    assert started.workflow_task_started_event_attributes.scheduled_event_id == 5
    assert started.workflow_task_started_event_attributes.request_id == "request"
    assert started.event_time.ToNanoseconds() == scheduled.event_time.ToNanoseconds() + SECOND_NS


def test_a_transient_task_that_waits_shows_that_it_is_scheduled() -> None:
    """Readers of the history see it; nobody has it, so there is no Started event."""
    (scheduled,) = workflow_task.transient_events(failing(1).header)
    assert (scheduled.event_id, name_of(scheduled)) == (5, "WORKFLOW_TASK_SCHEDULED")


def _news_after_failure() -> Driver:
    driver = failing(1)
    driver.signal()
    return driver


@pytest.mark.parametrize("prepare", [begun, with_commands, _news_after_failure, lambda: _polled()])
def test_tasks_whose_events_are_or_will_be_written_have_no_transient_ones(
    prepare: Callable[[], Driver],
) -> None:
    assert workflow_task.transient_events(prepare().header) == []


def _polled() -> Driver:
    driver = begun()
    driver.poll()
    return driver


def test_a_transient_task_that_completes_writes_all_three_events() -> None:
    driver = failing(1)
    driver.sleep(1)
    driver.poll("request", "me")
    driver.sleep(1)
    driver.respond()
    scheduled, started, completed = driver.history[4:]
    assert [name_of(event) for event in driver.history[4:]] == [
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
    ]
    assert scheduled.workflow_task_scheduled_event_attributes.attempt == 2
    assert started.workflow_task_started_event_attributes.request_id == "request"
    assert completed.workflow_task_completed_event_attributes.started_event_id == 6
    times = [event.event_time.ToNanoseconds() for event in driver.history[4:]]
    assert times == [START_NS, START_NS + SECOND_NS, START_NS + 2 * SECOND_NS]
    assert driver.header.task_attempt == 1


def test_an_event_before_its_start_turns_a_transient_task_into_a_normal_one() -> None:
    """The event is written alone; Scheduled and Started follow at the poll, with attempt 1."""
    driver = failing(2)
    driver.signal()
    assert driver.types(4) == ["WORKFLOW_EXECUTION_SIGNALED"]
    assert driver.header.task_attempt == 3
    token = driver.poll()
    assert driver.types(5) == ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]
    assert (token.scheduled_event_id, token.started_event_id, token.attempt) == (6, 7, 1)


def test_an_event_during_a_transient_task_makes_the_next_one_normal() -> None:
    driver = failing(2)
    driver.poll()
    driver.signal()
    driver.fail_task()
    assert driver.types(4) == ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_TASK_SCHEDULED"]
    assert driver.header.task_attempt == 1


@pytest.mark.parametrize(
    "cause",
    [
        Cause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
        Cause.WORKFLOW_TASK_FAILED_CAUSE_FAILOVER_CLOSE_COMMAND,
    ],
)
def test_some_causes_begin_again_with_the_first_attempt(cause: int) -> None:
    driver = begun()
    driver.poll()
    driver.fail_task(cause)
    assert driver.header.task_attempt == 1
    assert driver.types(3) == ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]


def test_a_failure_on_a_sticky_queue_only_ends_stickiness() -> None:
    driver = on_sticky_queue()
    driver.poll()
    driver.fail_task()
    assert driver.header.sticky_queue == ""
    assert driver.header.task_attempt == 1
    assert driver.types(7) == ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]
    assert (
        driver.last("WORKFLOW_TASK_SCHEDULED").workflow_task_scheduled_event_attributes.task_queue.name
        == QUEUE
    )


@pytest.mark.parametrize(
    ("failures", "timeout_s"),
    [(0, 10), (2, 10), (3, 15), (4, 20), (5, 30), (9, 330), (10, 610), (200, 610)],
)
def test_the_timeout_grows_after_the_third_attempt(failures: int, timeout_s: int) -> None:
    driver = begun()
    tx = driver.transition()
    tx.header.task_attempt = failures + 1
    tx.header.task_scheduled_event_id = 0
    workflow_task.schedule(tx)
    assert tx.header.task_timeout_ns == timeout_s * SECOND_NS


# --- time out ---


def test_a_started_task_times_out() -> None:
    driver = begun()
    driver.poll()
    assert driver.state.wakeup_ns == START_NS + 10 * SECOND_NS
    driver.wake()
    attributes = driver.last("WORKFLOW_TASK_TIMED_OUT").workflow_task_timed_out_event_attributes
    assert (attributes.scheduled_event_id, attributes.started_event_id) == (2, 3)
    assert attributes.timeout_type == enums.TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    assert driver.types(3) == ["WORKFLOW_TASK_TIMED_OUT"]
    assert driver.header.task_attempt == 2


def test_a_transient_task_times_out_without_an_event() -> None:
    driver = failing(1)
    driver.poll()
    driver.wake()
    assert driver.types(4) == []
    assert driver.header.task_attempt == 3


def test_a_task_on_the_normal_queue_waits_for_ever() -> None:
    assert begun().state.wakeup_ns is None


# --- sticky queues ---


def test_a_completion_asks_for_stickiness_and_takes_it_back() -> None:
    driver = on_sticky_queue()
    attributes = driver.last("WORKFLOW_TASK_SCHEDULED").workflow_task_scheduled_event_attributes
    assert (attributes.task_queue.name, attributes.task_queue.normal_name) == (STICKY, QUEUE)
    assert attributes.task_queue.kind == enums.TaskQueueKind.TASK_QUEUE_KIND_STICKY
    driver.complete()
    assert (driver.header.sticky_queue, driver.header.sticky_timeout_ns) == ("", 0)


def test_a_sticky_task_that_nobody_takes_goes_to_the_normal_queue() -> None:
    driver = on_sticky_queue(4)
    assert driver.state.wakeup_ns == START_NS + 4 * SECOND_NS
    driver.wake()
    attributes = driver.last("WORKFLOW_TASK_TIMED_OUT").workflow_task_timed_out_event_attributes
    assert attributes.timeout_type == enums.TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
    assert attributes.started_event_id == 0
    assert driver.types(6) == ["WORKFLOW_TASK_TIMED_OUT", "WORKFLOW_TASK_SCHEDULED"]
    assert (driver.header.task_attempt, driver.header.task_on_sticky_queue) == (1, False)


def test_a_sticky_task_never_waits_without_limit() -> None:
    """A worker that names no limit gets the usual ten seconds: its queue may die with it."""
    driver = begun()
    driver.poll()
    attributes = sticky(STICKY, QUEUE)
    attributes.ClearField("schedule_to_start_timeout")
    driver.respond(sticky_attributes=attributes)
    driver.signal()
    assert driver.state.wakeup_ns == START_NS + 10 * SECOND_NS


def test_a_rerouted_task_keeps_its_limit_and_stickiness() -> None:
    driver = on_sticky_queue(4)
    stamp = driver.header.task_stamp
    driver.apply(workflow_task.reroute_to_normal_queue)
    assert driver.header.task_stamp == stamp + 1
    assert driver.header.sticky_queue == STICKY
    assert driver.state.wakeup_ns == START_NS + 4 * SECOND_NS
    driver.poll()
    assert driver.state.wakeup_ns == START_NS + 10 * SECOND_NS


# --- wake-ups ---


def test_a_wake_up_before_the_time_does_nothing() -> None:
    driver = begun()
    driver.poll()
    driver.sleep(9)
    tx = driver.transition()
    deadlines.fire(tx, driver.limits)
    assert tx.is_untouched


def test_a_timer_and_the_tasks_timeout_in_one_late_wake_up() -> None:
    driver = with_commands(start_timer("t", 12))
    driver.signal()
    driver.poll()
    driver.wake(60)
    assert driver.types(8) == ["WORKFLOW_TASK_TIMED_OUT", "TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED"]
    assert driver.header.task_attempt == 1


def test_closing_commands_after_a_transient_attempt_write_its_events() -> None:
    driver = failing(1)
    driver.complete(complete_workflow(payloads("r")))
    assert driver.types(4) == [
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
