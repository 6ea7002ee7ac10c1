"""What operators do to activities and to whole runs: what is handed out, what runs out of time, what begins again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perdure.api.activity.v1 import ActivityOptions
from perdure.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from perdure.core.run import activity_control, properties
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.state import Activity
from perdure.core.run.transition import Transition
from tests.support.builders import application_failure, duration, retry_policy, schedule_activity, start_timer
from tests.unit.core.driver import QUEUE, Driver, with_commands

Change = Callable[[Transition, Activity], object]


def _scheduled(**fields: object) -> Driver:
    """A run whose activity "a" is event 5."""
    values: dict[str, object] = {"start_to_close_s": 10, "retry": retry_policy(initial_s=2, coefficient=2)}
    return with_commands(schedule_activity("a", QUEUE, **(values | fields)))  # type: ignore[arg-type]


def _apply(driver: Driver, change: Change) -> None:
    driver.apply(lambda tx: [change(tx, pending) for pending in activity_control.chosen(tx, activity_id="a")])


def _pause(driver: Driver, request_id: str = "q") -> None:
    _apply(
        driver,
        lambda tx, pending: activity_control.pause(
            tx, pending, identity="i", reason="r", request_id=request_id
        ),
    )


def _pauses(driver: Driver) -> str:
    fields = properties.search_attributes(driver.transition()).indexed_fields
    return fields[activity_control.PAUSE_INFO].data.decode() if activity_control.PAUSE_INFO in fields else ""


def test_a_paused_activity_is_not_handed_out_and_does_not_run_out_of_time() -> None:
    driver = _scheduled(schedule_to_close_s=20, schedule_to_start_s=5)
    _pause(driver)
    assert driver.waiting_activities() == []
    assert driver.state.wakeup_ns is None
    assert _pauses(driver) == '["property:activityType=work"]'
    _apply(driver, activity_control.unpause)
    assert driver.waiting_activities() == [5]
    assert _pauses(driver) == ""


def test_only_the_same_request_may_pause_twice() -> None:
    driver = _scheduled()
    _pause(driver)
    _pause(driver)
    with pytest.raises(FailedPreconditionError, match="already paused"):
        _pause(driver, "other")


def test_a_failed_attempt_of_a_paused_activity_waits_for_the_end_of_the_pause() -> None:
    driver = _scheduled(retry=retry_policy(attempts=1))
    driver.start_activity(5)
    _pause(driver)
    driver.fail_activity(5, application_failure())
    assert driver.state.activities[5].attempt == 2
    assert driver.waiting_activities() == []
    _apply(driver, activity_control.unpause)
    assert driver.waiting_activities() == [5]


def test_unpausing_with_jitter_waits() -> None:
    driver = _scheduled()
    _pause(driver)
    _apply(driver, lambda tx, a: activity_control.unpause(tx, a, jitter_ns=3 * SECOND_NS))
    assert driver.waiting_activities() == []
    driver.wake()
    assert driver.waiting_activities() == [5]


def test_a_reset_activity_begins_again_without_what_it_had() -> None:
    driver = _scheduled()
    driver.start_activity(5)
    driver.heartbeat(5, "progress")
    driver.fail_activity(5, application_failure())
    _apply(driver, lambda tx, a: activity_control.reset(tx, a, resets_heartbeat=True))
    again = driver.state.activities[5]
    assert (again.attempt, again.last_failure, again.heartbeat_details) == (1, b"", b"")
    assert driver.waiting_activities() == [5]


def test_a_reset_running_activity_keeps_its_heartbeat_until_the_next_attempt() -> None:
    driver = _scheduled()
    driver.start_activity(5)
    _apply(driver, lambda tx, a: activity_control.reset(tx, a, resets_heartbeat=True))
    driver.heartbeat(5, "progress")
    assert driver.state.activities[5].is_reset
    driver.fail_activity(5, application_failure())
    next_attempt = driver.state.activities[5]
    assert (next_attempt.is_reset, next_attempt.heartbeat_details) == (False, b"")


def test_options_change_what_is_named_and_dispatch_anew() -> None:
    driver = _scheduled()
    stamp = driver.state.activities[5].stamp
    wanted = ActivityOptions(start_to_close_timeout=duration(3))
    wanted.task_queue.name = "other"
    wanted.retry_policy.maximum_attempts = 4
    paths = {"start_to_close_timeout", "task_queue.name", "retry_policy.maximum_attempts"}
    _apply(driver, lambda tx, a: activity_control.set_options(tx, a, wanted, paths))
    changed = driver.state.activities[5]
    assert (changed.start_to_close_ns, changed.task_queue, changed.maximum_attempts) == (
        3 * SECOND_NS,
        "other",
        4,
    )
    assert changed.initial_interval_ns == 2 * SECOND_NS
    assert changed.stamp > stamp
    (task,) = driver.tasks.values()
    assert task.queue.name == "other"


def test_a_reset_to_the_original_options_leaves_the_priority() -> None:
    driver = _scheduled()
    event = driver.history[4].activity_task_scheduled_event_attributes
    wanted = ActivityOptions(start_to_close_timeout=duration(3))
    wanted.priority.priority_key = 4
    _apply(
        driver,
        lambda tx, a: activity_control.set_options(tx, a, wanted, {"start_to_close_timeout", "priority"}),
    )
    _apply(driver, lambda tx, a: activity_control.reset(tx, a, original=event))
    changed = driver.state.activities[5]
    assert changed.start_to_close_ns == 10 * SECOND_NS
    assert activity_control.options(changed).priority.priority_key == 4


def test_the_errors_that_a_policy_does_not_retry_are_not_changed_by_themselves() -> None:
    driver = _scheduled()
    before = activity_control.options(driver.state.activities[5])
    wanted = ActivityOptions()
    wanted.retry_policy.non_retryable_error_types.append("Error")
    path = "retry_policy.non_retryable_error_types"
    _apply(driver, lambda tx, a: activity_control.set_options(tx, a, wanted, {path}))
    assert activity_control.options(driver.state.activities[5]) == before


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("retry_policy", "RetryPolicy is not provided"),
        ("priority.priority_key", "Priority is not provided"),
        ("task_queue.name", "TaskQueue is not provided"),
        ("start_to_close_timeout", "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set"),
    ],
)
def test_options_without_what_they_name_are_refused(path: str, complaint: str) -> None:
    driver = _scheduled()
    with pytest.raises(InvalidArgumentError, match=complaint):
        _apply(driver, lambda tx, a: activity_control.set_options(tx, a, ActivityOptions(), {path}))


def test_what_is_not_there_is_not_found() -> None:
    driver = _scheduled()
    with pytest.raises(NotFoundError, match="Can't find pending activity"):
        activity_control.chosen(driver.transition(), activity_type="unknown")
    driver.terminate()
    with pytest.raises(NotFoundError, match="already completed"):
        activity_control.chosen(driver.transition(), activity_id="a")


# --- whole runs ---


def test_a_paused_run_hands_nothing_out_until_it_goes_on() -> None:
    driver = with_commands(schedule_activity("a", QUEUE, start_to_close_s=10), start_timer("t", 5))
    driver.pause()
    driver.wake()
    driver.signal()
    assert not driver.tasks
    assert driver.types()[-2:] == ["TIMER_FIRED", "WORKFLOW_EXECUTION_SIGNALED"]
    assert _pauses(driver) == '["Workflow:workflow","Reason:why"]'
    driver.unpause()
    assert driver.types()[-2:] == ["WORKFLOW_EXECUTION_UNPAUSED", "WORKFLOW_TASK_SCHEDULED"]
    assert driver.waiting_activities() == [5]


def test_a_run_is_paused_once_and_unpaused_once() -> None:
    driver = with_commands()
    with pytest.raises(FailedPreconditionError, match="not paused"):
        driver.unpause()
    driver.pause()
    with pytest.raises(FailedPreconditionError, match="already paused"):
        driver.pause("other")
