"""Children on their parent's side: initiated, started or not, ended; what a closing parent keeps."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.run import child, commands, effects, lifecycle
from perdure.core.run.effects import Effect, Kind
from perdure.core.run.limits import SECOND_NS, Limits
from perdure.core.run.records import RunKey
from perdure.core.run.state import Child
from tests.support.builders import (
    application_failure,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    header,
    keyword,
    memo,
    payloads,
    queue,
    retry_policy,
    start_child,
    user_metadata,
)
from tests.support.proto import common, enums
from tests.unit.core.driver import QUEUE, RUN, Driver, begun, name_of, with_commands

Policy = enums.ParentClosePolicy
ABANDON = Policy.PARENT_CLOSE_POLICY_ABANDON
CANCEL = Policy.PARENT_CLOSE_POLICY_REQUEST_CANCEL
CHILD_RUN = "00000000-0000-7000-8000-000000000001"
ALREADY_EXISTS = 1


def initiated(driver: Driver, event_id: int = 5) -> Any:
    """An initiated event of a run."""
    return driver.history[event_id - 1]


def run_child(driver: Driver, event_id: int = 5) -> Driver:
    """Starts a pending child as the engine does; returns the child."""
    tx = driver.transition()
    item = tx.children.get(event_id)
    assert item is not None
    key, parent = child.new_run(tx, item)
    request = child.start_request(tx, initiated(driver, event_id))
    started = Driver(driver.limits, key, driver.now_ns)
    context = lifecycle.StartContext("namespace", 3600 * SECOND_NS, parent=parent)
    started.apply(lambda child_tx: lifecycle.start(child_tx, request, context))
    child.started(tx, initiated(driver, event_id), key.run_id)
    driver.commit(tx)
    return started


def tell(driver: Driver, ended: Driver) -> None:
    """Tells a parent how a child of its ended, as the engine does."""
    closed = ended.state
    driver.apply(
        lambda tx: child.ended(tx, closed.header.parent_initiated_event_id, closed.run, ended.history[-1])
    )
    ended.apply(lambda tx: setattr(tx.header, "owes_parent", False))


def pending(driver: Driver) -> list[Effect]:
    """What a run has yet to do to others."""
    return effects.pending(driver.transition())


# --- initiate ---


def test_a_child_is_initiated_with_defaults_filled_in() -> None:
    driver = with_commands(start_child("c"), workflow_run_timeout=duration(50))
    attributes = initiated(driver).start_child_workflow_execution_initiated_event_attributes
    assert (attributes.namespace, attributes.namespace_id) == ("namespace", RUN.namespace_id)
    assert (attributes.workflow_id, attributes.workflow_type.name) == ("c", "child")
    assert (attributes.task_queue.name, attributes.workflow_task_timeout) == (QUEUE, duration(10))
    assert attributes.parent_close_policy == Policy.PARENT_CLOSE_POLICY_TERMINATE
    assert attributes.workflow_id_reuse_policy == 1
    assert not attributes.workflow_run_timeout.seconds  # the parent's does not bind it
    assert driver.state.children[5] == Child(5, driver.now_ns, "c", "child", 1)
    assert pending(driver) == [Effect(Kind.START_CHILD, 5)]
    assert driver.state.wakeup_ns == driver.now_ns


def test_everything_that_a_command_says_reaches_the_child() -> None:
    command = start_child(
        "c",
        task_queue=queue("other"),
        input=payloads("in"),
        workflow_execution_timeout=duration(100),
        workflow_run_timeout=duration(150),
        workflow_task_timeout=duration(5),
        retry_policy=retry_policy(attempts=3),
        cron_schedule="@every 30s",
        header=header({"h": "v"}),
        memo=memo({"m": "n"}),
        search_attributes=common.SearchAttributes(indexed_fields={"Kw": keyword("red")}),
        priority=common.Priority(priority_key=4),
    )
    command.user_metadata.CopyFrom(user_metadata("summary", "details"))
    driver = with_commands(command, priority=common.Priority(priority_key=2, fairness_key="parent"))
    started = run_child(driver)
    event = started.history[0]
    attributes = event.workflow_execution_started_event_attributes
    assert (attributes.task_queue.name, attributes.input) == ("other", payloads("in"))
    assert attributes.workflow_execution_timeout == attributes.workflow_run_timeout == duration(100)
    assert attributes.workflow_task_timeout == duration(5)
    assert attributes.retry_policy.initial_interval == duration(1)
    assert (attributes.cron_schedule, attributes.first_workflow_task_backoff) == ("@every 30s", duration(30))
    assert (attributes.header, attributes.memo) == (header({"h": "v"}), memo({"m": "n"}))
    assert attributes.search_attributes.indexed_fields["Kw"].metadata["type"] == b"Keyword"
    assert (attributes.priority.priority_key, attributes.priority.fairness_key) == (4, "parent")
    assert event.user_metadata == user_metadata("summary", "details")
    assert attributes.parent_workflow_execution == common.WorkflowExecution(
        workflow_id=RUN.workflow_id, run_id=RUN.run_id
    )
    assert (attributes.parent_workflow_namespace, attributes.parent_initiated_event_id) == ("namespace", 5)
    assert attributes.root_workflow_execution.run_id == RUN.run_id


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workflow_id": ""}, "Required field WorkflowId is not set"),
        ({"workflow_type": common.WorkflowType()}, "Required field WorkflowType is not set"),
        ({"workflow_id": "x" * 1001}, "WorkflowId on StartChild"),
        ({"workflow_type": common.WorkflowType(name="x" * 1001)}, "WorkflowType on StartChild"),
        ({"workflow_execution_timeout": duration(-1)}, "Invalid WorkflowExecutionTimeout"),
        ({"workflow_run_timeout": duration(-1)}, "Invalid WorkflowRunTimeout"),
        ({"workflow_task_timeout": duration(-1)}, "Invalid WorkflowTaskTimeout"),
        ({"retry_policy": retry_policy(initial_s=1, coefficient=0.5)}, "invalid WorkflowRetryPolicy"),
        ({"cron_schedule": "nonsense"}, "invalid CronSchedule on"),
        ({"task_queue": queue("/_sys/x")}, "reserved prefix"),
        ({"search_attributes": common.SearchAttributes(indexed_fields={"No": keyword("x")})}, "no mapping"),
        ({"priority": common.Priority(priority_key=-1)}, "priority key can't be negative"),
        ({"namespace": "elsewhere"}, "cross namespace commands are not allowed"),
    ],
)
def test_a_bad_command_fails_the_task(fields: dict[str, Any], message: str) -> None:
    values = {"workflow_id": "c"} | fields
    driver = with_commands(start_child(values.pop("workflow_id"), **values))
    assert (
        message in driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes.failure.message
    )
    assert not driver.state.children


@pytest.mark.parametrize("fields", [{"input": payloads("x" * 600)}, {"memo": memo({"k": "x" * 600})}])
def test_too_large_a_child_terminates_its_parent(fields: dict[str, Any]) -> None:
    driver = with_commands(start_child("c", **fields), limits=Limits(blob_bytes=500, memo_bytes=500))
    assert driver.types()[-1] == "WORKFLOW_EXECUTION_TERMINATED"


def test_pending_children_are_limited() -> None:
    driver = with_commands(start_child("a"), start_child("b"), limits=Limits(pending_children=1))
    failed = driver.last("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
    assert failed.cause == commands.cause_number("PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED")
    assert failed.failure.message.endswith(
        "the number of pending child workflow executions, 1, has reached the per-workflow limit of 1"
    )


# --- started and ended ---


def test_a_child_is_started_and_completes() -> None:
    driver = with_commands(start_child("c", header=header({"h": "v"})))
    started = run_child(driver)
    event = driver.last("CHILD_WORKFLOW_EXECUTION_STARTED")
    attributes = event.child_workflow_execution_started_event_attributes
    assert (attributes.initiated_event_id, attributes.header) == (5, header({"h": "v"}))
    assert attributes.workflow_execution.run_id == started.state.run.run_id
    assert driver.header.has_pending_task
    assert not pending(driver)
    started.complete(complete_workflow(payloads("result")))
    assert pending(started) == [Effect(Kind.TELL_PARENT)]
    assert started.state.wakeup_ns == started.header.close_ns
    tell(driver, started)
    ended = driver.last(
        "CHILD_WORKFLOW_EXECUTION_COMPLETED"
    ).child_workflow_execution_completed_event_attributes
    assert (ended.initiated_event_id, ended.started_event_id) == (5, event.event_id)
    assert (ended.result, ended.workflow_type.name) == (payloads("result"), "child")
    assert ended.workflow_execution.run_id == started.state.run.run_id
    assert not driver.state.children
    assert not pending(started)
    assert started.state.wakeup_ns == started.header.close_ns + started.header.retention_ns


def test_start_and_end_that_wait_in_the_buffer_are_wired_when_written() -> None:
    driver = with_commands(start_child("c"))
    driver.signal()
    driver.poll()
    started = run_child(driver)
    started.complete(fail_workflow(application_failure()))
    driver.signal("between")
    tell(driver, started)
    driver.respond()
    begin, between, end = driver.history[-4:-1]
    assert [name_of(event) for event in (begin, between, end)] == [
        "CHILD_WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "CHILD_WORKFLOW_EXECUTION_FAILED",
    ]
    attributes = end.child_workflow_execution_failed_event_attributes
    assert (attributes.started_event_id, attributes.failure) == (begin.event_id, application_failure())
    assert attributes.retry_state == enums.RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET


def test_a_child_that_cannot_be_started() -> None:
    driver = with_commands(start_child("c", control="control"))
    driver.apply(lambda tx: child.start_failed(tx, initiated(driver), ALREADY_EXISTS))
    attributes = driver.last(
        "START_CHILD_WORKFLOW_EXECUTION_FAILED"
    ).start_child_workflow_execution_failed_event_attributes
    assert (attributes.workflow_id, attributes.control) == ("c", "control")
    assert (attributes.cause, attributes.initiated_event_id) == (ALREADY_EXISTS, 5)
    assert not driver.state.children
    assert driver.header.has_pending_task


@pytest.mark.parametrize("end", ["terminate", "time_out", "cancel"])
def test_other_ends(end: str) -> None:
    driver = with_commands(start_child("c", workflow_run_timeout=duration(5)))
    started = run_child(driver)
    if end == "terminate":
        started.terminate()
    elif end == "time_out":
        started.wake()
    else:
        started.complete(cancel_workflow())
    tell(driver, started)
    names = {"terminate": "TERMINATED", "time_out": "TIMED_OUT", "cancel": "CANCELED"}
    assert f"CHILD_WORKFLOW_EXECUTION_{names[end]}" in driver.types()


def test_a_chain_of_runs_is_one_child() -> None:
    """Only the last run owes the parent the news; all of them know whose child they are."""
    driver = with_commands(start_child("c"))
    first = run_child(driver)
    first.complete(continue_as_new())
    assert not pending(first)
    last = first.following
    assert last is not None
    named = last.history[0].workflow_execution_started_event_attributes
    assert named.parent_workflow_execution.run_id == RUN.run_id
    assert named.root_workflow_execution.run_id == RUN.run_id
    last.wake()
    last.complete(complete_workflow())
    assert pending(last) == [Effect(Kind.TELL_PARENT)]
    tell(driver, last)
    ended = driver.last(
        "CHILD_WORKFLOW_EXECUTION_COMPLETED"
    ).child_workflow_execution_completed_event_attributes
    assert ended.workflow_execution.run_id == last.state.run.run_id


# --- a closing parent ---


def test_a_closing_parent_keeps_the_children_that_it_must_end() -> None:
    driver = with_commands(
        start_child("a"),
        start_child("b", parent_close_policy=CANCEL),
        start_child("c", parent_close_policy=ABANDON),
        start_child("unstarted"),
    )
    for event_id in (5, 6, 7):
        run_child(driver, event_id)
    driver.terminate()
    assert sorted(driver.state.children) == [5, 6]
    assert pending(driver) == [Effect(Kind.CLOSE_CHILD, 5), Effect(Kind.CLOSE_CHILD, 6)]
    assert driver.state.wakeup_ns == driver.header.close_ns
    driver.apply(lambda tx: child.forget(tx, 5))
    driver.apply(lambda tx: child.forget(tx, 6))
    assert driver.state.wakeup_ns == driver.header.close_ns + driver.header.retention_ns


def test_the_close_policy_on_the_child() -> None:
    driver = with_commands(start_child("a"), start_child("b", parent_close_policy=CANCEL))
    ended, asked = run_child(driver, 5), run_child(driver, 6)
    for target, event_id in ((ended, 5), (asked, 6)):
        item = driver.state.children[event_id]
        target.apply(lambda tx, item=item: child.close_with_parent(tx, item, RUN))  # type: ignore[misc]
    attributes = ended.history[-1].workflow_execution_terminated_event_attributes
    assert (attributes.reason, attributes.identity) == ("by parent close policy", "history-service")
    request = asked.last(
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED"
    ).workflow_execution_cancel_requested_event_attributes
    assert request.external_workflow_execution.run_id == RUN.run_id


def test_what_ended_already_is_not_told_twice() -> None:
    driver = with_commands(start_child("c"))
    started = run_child(driver)
    started.terminate()
    tell(driver, started)
    events = len(driver.history)
    tx = driver.transition()
    child.ended(tx, 5, RunKey("n", "c", CHILD_RUN), started.history[-1])
    assert tx.is_untouched
    assert len(driver.history) == events


def test_a_run_without_children_makes_no_overlay() -> None:
    """What a run does not use costs it nothing."""
    driver = begun()
    tx = driver.transition()
    assert not tx.may_reach_out
    driver.terminate()
    assert not driver.header.owes_parent
