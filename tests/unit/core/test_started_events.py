"""What WorkflowTaskStarted and ActivityTaskStarted say of the worker and of the history before them."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.api.history.v1 import History
from perdure.core.run import activity, workflow_task
from perdure.core.run.limits import Limits
from tests.support.builders import payloads, retry_policy, schedule_activity, start_timer
from tests.support.proto import common
from tests.unit.core.driver import QUEUE, Driver, begun, with_commands

VERSION = common.WorkerVersionStamp(build_id="build")
ROUTED = common.WorkerVersionStamp(build_id="build", use_versioning=True)


def started(driver: Driver) -> Any:
    """Attributes of the newest WorkflowTaskStarted event."""
    return driver.last("WORKFLOW_TASK_STARTED").workflow_task_started_event_attributes


@pytest.mark.parametrize("version", [VERSION, None])
def test_a_polls_version_is_recorded(version: common.WorkerVersionStamp | None) -> None:
    driver = begun()
    driver.apply(lambda tx: workflow_task.start(tx, "poll", "worker", driver.limits, version))
    assert started(driver).HasField("worker_version") == (version is not None)
    assert started(driver).worker_version == (version or common.WorkerVersionStamp())


@pytest.mark.parametrize(("stamp", "recorded"), [(VERSION, True), (ROUTED, False)])
def test_a_transient_task_is_recorded_with_what_its_completion_says(
    stamp: common.WorkerVersionStamp, recorded: bool
) -> None:
    """Also the identity. A version that tasks are routed by is none that this run was routed by."""
    driver = begun()
    driver.poll()
    driver.fail_task()
    driver.poll(identity="who polled")
    driver.respond(worker_version_stamp=stamp)
    assert started(driver).identity == "worker"
    assert started(driver).HasField("worker_version") is recorded
    completed = driver.last("WORKFLOW_TASK_COMPLETED").workflow_task_completed_event_attributes
    assert completed.worker_version == stamp


def test_an_inline_task_is_started_by_the_version_that_completed() -> None:
    driver = begun()
    driver.complete(
        worker_version_stamp=VERSION, force_create_new_workflow_task=True, return_new_workflow_task=True
    )
    assert started(driver).worker_version == VERSION


def test_an_activitys_answer_says_which_version_it_was() -> None:
    driver = with_commands(schedule_activity("a", QUEUE, retry=retry_policy(attempts=1)))
    driver.start_activity(5)
    driver.answer(5, lambda tx, a: activity.complete(tx, a, payloads("r"), "worker", VERSION))
    assert (
        driver.last("ACTIVITY_TASK_STARTED").activity_task_started_event_attributes.worker_version == VERSION
    )


def test_the_history_size_counts_this_transitions_events_only_if_asked() -> None:
    driver = begun()
    driver.complete(start_timer("t", 60))
    before = driver.header.history_size_bytes
    assert before == len(History(events=driver.history[:2]).SerializeToString()) + sum(
        len(History(events=events).SerializeToString())
        for events in (driver.history[2:3], driver.history[3:])
    )
    tx = driver.transition()
    tx.needs_task = True
    workflow_task.schedule_if_needed(tx)
    workflow_task.start(tx, "poll", "worker", Limits(), counts_new_events=True)
    scheduled, begun_event = tx.events
    counted = begun_event.workflow_task_started_event_attributes.history_size_bytes
    assert counted == before + len(History(events=[scheduled]).SerializeToString())


def test_continuing_as_new_is_advised_by_the_size_that_is_told() -> None:
    driver = begun()
    limits = Limits(suggest_continue_as_new_bytes=driver.header.history_size_bytes)
    tx = driver.transition()
    workflow_task.start(tx, "poll", "worker", limits)
    assert tx.events[-1].workflow_task_started_event_attributes.suggest_continue_as_new


def test_after_an_overflowing_buffer_the_next_task_is_transient() -> None:
    """Its events are not written, so a workflow that cannot keep up does not grow its history by them."""
    driver = begun(Limits(buffered_events=2))
    driver.poll()
    for _ in range(3):
        driver.signal()
    assert driver.types(3) == ["WORKFLOW_TASK_FAILED"] + 3 * ["WORKFLOW_EXECUTION_SIGNALED"]
    assert (driver.header.task_attempt, driver.header.has_pending_task) == (2, True)
    (scheduled,) = workflow_task.transient_events(driver.header)
    assert scheduled.event_id == driver.header.next_event_id
