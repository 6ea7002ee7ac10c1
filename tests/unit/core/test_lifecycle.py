"""How a run begins and ends: what the first event says, each way to close, whatever is pending or waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.run import deadlines, lifecycle, properties
from perdure.core.run.limits import SECOND_NS
from tests.support.builders import (
    application_failure,
    cancel_workflow,
    complete_workflow,
    duration,
    fail_workflow,
    header,
    memo,
    payload,
    payloads,
    retry_policy,
    schedule_activity,
    start_timer,
    user_metadata,
)
from tests.support.proto import common, enums
from tests.unit.core.driver import QUEUE, RUN, START_NS, STICKY, Driver, begun, name_of, with_commands

NIL = common.Payload(metadata={"encoding": b"binary/null"})
HOUR_NS = 3600 * SECOND_NS


# --- start ---


def test_the_started_event_of_a_plain_start() -> None:
    event = begun().history[0]
    attributes = event.workflow_execution_started_event_attributes
    assert (attributes.workflow_type.name, attributes.task_queue.name) == ("type", QUEUE)
    assert attributes.task_queue.kind == enums.TaskQueueKind.TASK_QUEUE_KIND_NORMAL
    assert attributes.original_execution_run_id == attributes.first_execution_run_id == RUN.run_id
    assert (attributes.workflow_id, attributes.identity, attributes.attempt) == ("workflow", "client", 1)
    assert attributes.workflow_task_timeout == duration(10)
    assert attributes.HasField("first_workflow_task_backoff")
    assert not attributes.HasField("workflow_execution_expiration_time")
    for name in ("input", "header", "retry_policy", "priority", "memo", "search_attributes"):
        assert not attributes.HasField(name) or not getattr(attributes, name).ByteSize(), name
    assert not attributes.eager_execution_accepted


def test_everything_a_start_says_is_recorded() -> None:
    link = common.Link(workflow_event=common.Link.WorkflowEvent(workflow_id="caller"))
    callback = common.Callback(nexus=common.Callback.Nexus(url="http://localhost"))
    driver = begun(
        eager=True,
        input=payloads("in"),
        header=header({"trace": "1"}),
        retry_policy=retry_policy(initial_s=1, coefficient=2, maximum_s=100),
        priority=common.Priority(priority_key=2),
        memo=common.Memo(fields={"kept": payload("1"), "nil": NIL}),
        search_attributes=common.SearchAttributes(indexed_fields={"Kw": payload("w"), "Num": NIL}),
        user_metadata=user_metadata("summary", "details"),
        links=[link],
        completion_callbacks=[callback],
        workflow_start_delay=duration(5),
        workflow_run_timeout=duration(60),
        workflow_execution_timeout=duration(90),
    )
    event = driver.history[0]
    attributes = event.workflow_execution_started_event_attributes
    assert (attributes.input, attributes.header) == (payloads("in"), header({"trace": "1"}))
    assert attributes.retry_policy.maximum_interval == duration(100)
    assert attributes.priority.priority_key == 2
    assert attributes.memo == memo({"kept": "1"})
    assert dict(attributes.search_attributes.indexed_fields) == {"Kw": payload("w")}
    assert attributes.first_workflow_task_backoff == duration(5)
    assert attributes.workflow_run_timeout == duration(60)
    assert attributes.workflow_execution_timeout == duration(90)
    expires = attributes.workflow_execution_expiration_time
    assert expires.ToNanoseconds() == START_NS + 90 * SECOND_NS  # whatever the delay
    assert attributes.eager_execution_accepted
    assert list(attributes.completion_callbacks) == [callback]
    assert (list(event.links), event.user_metadata) == ([link], user_metadata("summary", "details"))
    header_ = driver.header
    assert header_.user_metadata == user_metadata("summary", "details").SerializeToString()
    assert header_.execution_ns == START_NS + 5 * SECOND_NS
    assert header_.run_expiration_ns == START_NS + 65 * SECOND_NS
    assert properties.memo(driver.transition()) == memo({"kept": "1"})


def test_a_run_begins_as_its_own_root_and_first() -> None:
    header_ = begun().header
    assert header_.first_run_id == header_.original_run_id == header_.root_run_id == RUN.run_id
    assert header_.root_workflow_id == RUN.workflow_id
    assert (header_.namespace, header_.start_request_id) == ("namespace", "start-request")


# --- the ways to close ---


def _complete(driver: Driver) -> None:
    driver.complete(complete_workflow(payloads("result")))


def _fail(driver: Driver) -> None:
    driver.complete(fail_workflow(application_failure()))


def _cancel(driver: Driver) -> None:
    driver.complete(cancel_workflow(payloads("details")))


def _time_out(driver: Driver) -> None:
    driver.sleep(600)
    driver.fire()


WAYS: dict[str, tuple[Callable[[Driver], Any], str, int]] = {
    "complete": (_complete, "WORKFLOW_EXECUTION_COMPLETED", 2),
    "fail": (_fail, "WORKFLOW_EXECUTION_FAILED", 3),
    "cancel": (_cancel, "WORKFLOW_EXECUTION_CANCELED", 4),
    "terminate": (Driver.terminate, "WORKFLOW_EXECUTION_TERMINATED", 5),
    "time out": (_time_out, "WORKFLOW_EXECUTION_TIMED_OUT", 7),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_closes_with_everything_pending(way: str) -> None:
    """Activities waiting, started and backing off, a timer, a sticky queue, a waiting workflow task."""
    driver = begun(workflow_run_timeout=duration(600))
    driver.complete(
        *(schedule_activity(name, QUEUE, start_to_close_s=300) for name in "abc"),
        start_timer("t", 500),
        sticky_on=STICKY,
    )
    driver.start_activity(5)
    driver.start_activity(6)
    driver.fail_activity(6, application_failure())
    driver.signal()
    close, name, status = WAYS[way]
    close(driver)
    header_ = driver.header
    assert name_of(driver.history[-1]) == name
    assert (header_.status, header_.close_event_id, header_.close_ns) == (
        status,
        len(driver.history),
        driver.now_ns,
    )
    assert (driver.state.activities, driver.state.timers, driver.tasks) == ({}, {}, {})
    assert driver.items == {}
    assert driver.state.wakeup_ns == driver.now_ns + HOUR_NS


@pytest.mark.parametrize("way", ["terminate", "time out"])
@pytest.mark.parametrize("transient", [False, True])
def test_a_started_task_is_failed_and_what_waits_is_written(way: str, transient: bool) -> None:
    driver = begun(workflow_run_timeout=duration(600))
    if transient:
        driver.poll()
        driver.fail_task()
    driver.poll()
    driver.signal("one")
    driver.signal("two")
    close, name, _ = WAYS[way]
    written = len(driver.history)
    close(driver)
    failed = [] if transient else ["WORKFLOW_TASK_FAILED"]
    assert driver.types(written) == [
        *failed,
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_EXECUTION_SIGNALED",
        name,
    ]
    if not transient:
        attributes = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
        assert (
            attributes.cause == enums.WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND
        )
        assert attributes.identity == "history-service"
        assert not attributes.HasField("failure")


@pytest.mark.parametrize("way", ["terminate", "time out"])
def test_a_delayed_run_closes_without_a_task(way: str) -> None:
    driver = begun(workflow_start_delay=duration(5000), workflow_run_timeout=duration(10))
    driver.sleep(5000)
    WAYS[way][0](driver)
    assert driver.types() == ["WORKFLOW_EXECUTION_STARTED", WAYS[way][1]]


def test_what_each_closing_event_says() -> None:
    completed, failed, canceled, terminated = (begun() for _ in range(4))
    _complete(completed)
    _fail(failed)
    _cancel(canceled)
    terminated.terminate()
    event = completed.history[-1].workflow_execution_completed_event_attributes
    assert (event.result, event.workflow_task_completed_event_id) == (payloads("result"), 4)
    failure = failed.history[-1].workflow_execution_failed_event_attributes
    assert (failure.failure, failure.workflow_task_completed_event_id) == (application_failure(), 4)
    assert failure.retry_state == enums.RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET
    cancel = canceled.history[-1].workflow_execution_canceled_event_attributes
    assert (cancel.details, cancel.workflow_task_completed_event_id) == (payloads("details"), 4)
    end = terminated.history[-1].workflow_execution_terminated_event_attributes
    assert (end.reason, end.details, end.identity) == ("why", payloads("d"), "client")


def test_what_a_closing_command_leaves_out_stays_out() -> None:
    event = with_commands(complete_workflow()).history[-1]
    assert not event.workflow_execution_completed_event_attributes.HasField("result")
    event = with_commands(cancel_workflow()).history[-1]
    assert not event.workflow_execution_canceled_event_attributes.HasField("details")
    driver = begun()
    link = common.Link(workflow_event=common.Link.WorkflowEvent(workflow_id="caller"))
    driver.apply(lambda tx: lifecycle.terminate(tx, reason="", details=None, identity="", links=[link]))
    event = driver.history[-1]
    assert not event.workflow_execution_terminated_event_attributes.HasField("details")
    assert list(event.links) == [link]


@pytest.mark.parametrize(
    ("run_s", "execution_s", "delay_s", "state"),
    [
        (30, None, 0, "RETRY_POLICY_NOT_SET"),
        (30, 90, 0, "RETRY_POLICY_NOT_SET"),
        (90, 90, 0, "TIMEOUT"),
        (90, 90, 20, "TIMEOUT"),
    ],
)
def test_why_there_is_no_run_after_a_timed_out_one(
    run_s: float, execution_s: float | None, delay_s: float, state: str
) -> None:
    driver = begun(
        workflow_run_timeout=duration(run_s),
        workflow_execution_timeout=duration(execution_s),
        workflow_start_delay=duration(delay_s),
    )
    driver.sleep(run_s + delay_s)
    driver.fire()
    attributes = driver.history[-1].workflow_execution_timed_out_event_attributes
    assert attributes.retry_state == enums.RetryState.Value(f"RETRY_STATE_{state}")


def test_a_closed_run_has_nothing_due() -> None:
    driver = begun(workflow_run_timeout=duration(30))
    driver.terminate()
    driver.sleep(10_000)
    tx = driver.transition()
    deadlines.fire(tx, driver.limits)
    assert tx.is_untouched


# --- deadlines and lists ---


def _after(seconds: float) -> int:
    return START_NS + round(seconds * SECOND_NS)


@pytest.mark.parametrize(
    ("prepare", "wakeup_ns"),
    [
        (begun, None),
        (lambda: begun(workflow_run_timeout=duration(600)), _after(600)),
        (lambda: begun(workflow_run_timeout=duration(600), workflow_start_delay=duration(7)), _after(7)),
        (lambda: with_commands(start_timer("t", 9), start_timer("u", 5)), _after(5)),
        (lambda: with_commands(start_timer("t", 9), schedule_activity("a", QUEUE)), _after(9)),
        (
            lambda: with_commands(start_timer("t", 9), schedule_activity("a", QUEUE, schedule_to_close_s=8)),
            _after(8),
        ),
        (lambda: with_commands(complete_workflow()), START_NS + HOUR_NS),
    ],
)
def test_the_wake_up_is_the_earliest_deadline(prepare: Callable[[], Driver], wakeup_ns: int | None) -> None:
    assert prepare().state.wakeup_ns == wakeup_ns


def test_the_runs_own_timeout_goes_before_all_else_that_is_due() -> None:
    driver = begun(workflow_run_timeout=duration(60))
    driver.complete(start_timer("t", 5), schedule_activity("a", QUEUE, start_to_close_s=5))
    driver.sleep(60)
    driver.fire()
    assert driver.types(6) == ["WORKFLOW_EXECUTION_TIMED_OUT"]


def test_activities_and_timers_that_are_due_together_go_by_time() -> None:
    driver = with_commands(
        schedule_activity("a", QUEUE, schedule_to_start_s=3, schedule_to_close_s=100),
        start_timer("t", 2),
        start_timer("u", 4),
    )
    driver.signal()
    driver.poll()
    driver.wake(late_s=5)
    kinds = [name_of(driver.state.buffered[key]) for key in sorted(driver.state.buffered)]
    assert kinds == ["TIMER_FIRED", "ACTIVITY_TASK_TIMED_OUT", "TIMER_FIRED"]


def test_how_a_run_looks_in_lists() -> None:
    driver = begun(
        memo=memo({"k": "v"}),
        search_attributes=common.SearchAttributes(indexed_fields={"Kw": payload("w")}),
        workflow_start_delay=duration(5),
    )
    assert driver.write is not None
    record = driver.write.visibility
    assert record is not None
    assert (record.workflow_type, record.task_queue, record.status) == ("type", QUEUE, 1)
    assert (record.start_time_ns, record.execution_time_ns, record.close_time_ns) == (
        START_NS,
        START_NS + 5 * SECOND_NS,
        None,
    )
    assert (record.parent_workflow_id, record.parent_run_id) == (None, None)
    assert (record.root_workflow_id, record.root_run_id) == (RUN.workflow_id, RUN.run_id)
    assert record.memo == memo({"k": "v"}).SerializeToString()
    assert record.attributes == {"Kw": "w"}
    driver.terminate()
    closed = driver.write.visibility
    assert closed is not None
    assert closed.close_time_ns == driver.now_ns
    assert (closed.history_length, closed.state_transition_count) == (2, 2)
    sizes = sum(event.ByteSize() for event in driver.history)
    assert closed.history_size_bytes >= sizes, "the last events are counted too"
