"""Scheduling activities: what is filled in, what is refused, what the event says."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.run import activity
from perdure.core.run.limits import Limits
from perdure.core.run.state import RunHeader
from tests.support.builders import (
    duration,
    header,
    payloads,
    retry_policy,
    schedule_activity,
    user_metadata,
)
from tests.support.proto import common
from tests.unit.core.driver import QUEUE, begun, with_commands

S = 1_000_000_000


def _normalized(run_timeout_s: float = 0, **fields: Any) -> Any:
    attributes = schedule_activity("a", QUEUE, **fields).schedule_activity_task_command_attributes
    activity.normalize(attributes, RunHeader(run_timeout_ns=round(run_timeout_s * S)), Limits())
    return attributes


@pytest.mark.parametrize(
    ("run_s", "close", "start", "run", "heartbeat", "expected"),
    [
        (0, None, None, 5, None, (0, 0, 5, 0)),
        (0, 7, None, None, None, (7, 7, 7, 0)),
        (0, 7, None, 20, None, (7, 7, 7, 0)),
        (0, 7, 30, None, None, (7, 7, 7, 0)),
        (0, 7, 3, 2, None, (7, 3, 2, 0)),
        (0, None, 3, 5, None, (0, 3, 5, 0)),
        (0, None, None, 2, 9, (0, 0, 2, 2)),
        (60, None, None, 5, None, (60, 60, 5, 0)),
        (60, 90, 70, 80, 65, (60, 60, 60, 60)),
        (60, None, 70, 80, 65, (60, 60, 60, 60)),
    ],
)
def test_timeouts_follow_from_each_other(
    run_s: float,
    close: float | None,
    start: float | None,
    run: float | None,
    heartbeat: float | None,
    expected: tuple[float, float, float, float],
) -> None:
    """Columns: run timeout; schedule-to-close, schedule-to-start, start-to-close, heartbeat; what becomes of them."""
    attributes = _normalized(
        run_s,
        schedule_to_close_s=close,
        schedule_to_start_s=start,
        start_to_close_s=run,
        heartbeat_s=heartbeat,
    )
    names = ("schedule_to_close", "schedule_to_start", "start_to_close", "heartbeat")
    for name, seconds in zip(names, expected, strict=True):
        field = f"{name}_timeout"
        assert attributes.HasField(field), name
        assert getattr(attributes, field) == duration(seconds), name


def test_the_retry_policy_gets_defaults() -> None:
    assert _normalized().retry_policy == retry_policy(initial_s=1, coefficient=2, maximum_s=100)


def test_a_timeout_beyond_a_hundred_years_is_cut() -> None:
    attributes = schedule_activity("a", QUEUE).schedule_activity_task_command_attributes
    attributes.start_to_close_timeout.seconds = 2**62
    activity.normalize(attributes, RunHeader(), Limits())
    assert attributes.start_to_close_timeout.seconds == 100 * 365 * 24 * 3600


LONG = "x" * 1001
NO_TIMEOUT = (
    "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity."
    " ActivityId=a ActivityType=work"
)


def _bad(field: str, value: Any) -> Any:
    attributes: Any = schedule_activity("a", QUEUE, type="work").schedule_activity_task_command_attributes
    if value is None:
        attributes.ClearField(field)
    elif isinstance(value, str):
        target, _, leaf = field.rpartition(".")
        setattr(getattr(attributes, target) if target else attributes, leaf, value)
    else:
        getattr(attributes, field).CopyFrom(value)
    return attributes


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task_queue", None, "taskQueue is not set"),
        ("task_queue.name", "", "missing task queue name"),
        ("task_queue.name", LONG, "taskQueue length exceeds limit"),
        (
            "task_queue.name",
            "/_sys/mine",
            "task queue name cannot start with reserved prefix /_sys/",
        ),
        ("activity_id", "", "activityId is not set"),
        ("activity_id", LONG, "activityId exceeds length limit. Length=1001 Limit=1000"),
        ("activity_type", None, "activityType is not set"),
        ("activity_type.name", LONG, "activityType exceeds length limit. Length=1001 Limit=1000"),
        (
            "start_to_close_timeout",
            None,
            NO_TIMEOUT,
        ),
        ("start_to_close_timeout", duration(-1), "invalid StartToCloseTimeout: negative duration"),
        ("schedule_to_close_timeout", duration(-1), "invalid ScheduleToCloseTimeout: negative duration"),
        ("schedule_to_start_timeout", duration(-1), "invalid ScheduleToStartTimeout: negative duration"),
        ("heartbeat_timeout", duration(-1), "invalid HeartbeatTimeout: negative duration"),
        ("retry_policy", retry_policy(attempts=-1), "MaximumAttempts cannot be negative on retry policy."),
        (
            "priority",
            common.Priority(priority_key=-1),
            "invalid priorities: priority key can't be negative",
        ),
        (
            "priority",
            common.Priority(fairness_key="ä" * 33),
            "invalid priorities: fairness key length exceeds limit",
        ),
        ("priority", common.Priority(fairness_weight=-1), "invalid priorities: must be greater than zero"),
    ],
)
def test_bad_attributes_are_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        activity.normalize(_bad(field, value), RunHeader(), Limits())
    assert str(caught.value) == message


@pytest.mark.parametrize(("queue", "accepted"), [(QUEUE, True), ("other", False)])
def test_an_activity_of_the_workflows_own_build_stays_on_its_queue(queue: str, accepted: bool) -> None:
    attributes = schedule_activity("a", queue).schedule_activity_task_command_attributes
    attributes.use_workflow_build_id = True
    if accepted:
        activity.normalize(attributes, RunHeader(task_queue=QUEUE), Limits())
    else:
        with pytest.raises(InvalidArgumentError, match="cannot run on different task queue"):
            activity.normalize(attributes, RunHeader(task_queue=QUEUE), Limits())


def test_lengths_are_counted_in_bytes() -> None:
    with pytest.raises(InvalidArgumentError, match="Length=1002"):
        activity.normalize(_bad("activity_id", "ä" * 501), RunHeader(), Limits())


def test_the_event_says_what_the_command_said() -> None:
    driver = with_commands(
        schedule_activity(
            "a",
            "other",
            type="work",
            input=payloads("in"),
            start_to_close_s=5,
            heartbeat_s=2,
            retry=retry_policy(attempts=3),
            header=header({"trace": "1"}),
            priority=common.Priority(priority_key=2),
            user_metadata=user_metadata("summary", "details"),
        )
    )
    event = driver.last("ACTIVITY_TASK_SCHEDULED")
    attributes = event.activity_task_scheduled_event_attributes
    assert (attributes.activity_id, attributes.activity_type.name) == ("a", "work")
    assert (attributes.task_queue.name, attributes.task_queue.kind) == ("other", 1)
    assert attributes.input == payloads("in")
    assert attributes.header == header({"trace": "1"})
    assert attributes.retry_policy.maximum_attempts == 3
    assert attributes.priority.priority_key == 2
    assert attributes.workflow_task_completed_event_id == 4
    assert event.user_metadata == user_metadata("summary", "details")
    pending = driver.state.activities[5]
    assert (pending.task_queue, pending.start_to_close_ns, pending.heartbeat_ns) == ("other", 5 * S, 2 * S)
    assert (pending.attempt, pending.stamp, pending.maximum_attempts) == (1, 1, 3)


def test_what_the_command_leaves_out_stays_out() -> None:
    attributes = with_commands(schedule_activity("a", QUEUE)).last("ACTIVITY_TASK_SCHEDULED")
    event = attributes.activity_task_scheduled_event_attributes
    assert not any(event.HasField(name) for name in ("input", "header", "priority"))


def test_a_queue_kind_that_is_given_is_kept() -> None:
    attributes = schedule_activity("a", QUEUE).schedule_activity_task_command_attributes
    attributes.task_queue.kind = 2  # type: ignore[assignment]  # sticky
    activity.normalize(attributes, RunHeader(), Limits())
    assert attributes.task_queue.kind == 2


def test_an_id_may_be_used_again_after_its_activity_ended() -> None:
    driver = with_commands(schedule_activity("a", QUEUE))
    driver.start_activity(5)
    driver.complete_activity(5)
    driver.complete(schedule_activity("a", QUEUE))
    assert [pending.activity_id for pending in driver.state.activities.values()] == ["a"]


def test_an_id_that_is_pending_is_refused() -> None:
    driver = begun()
    driver.poll()
    done = driver.respond(schedule_activity("a", QUEUE), schedule_activity("a", QUEUE))
    assert (
        str(done.error)
        == "ScheduleActivityDuplicateId: invalid history builder state for action: add-activitytask-scheduled-event,"
        " ActivityID: a"
    )
