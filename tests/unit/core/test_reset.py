"""Resets: the state that a copied history leads to, what is done once more, what becomes of the run that was reset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError
from perdure.core.run import properties, rebuild, reset
from perdure.core.run.activity_control import PAUSE_INFO
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.records import RunKey
from perdure.core.run.state import NexusOperation, RunHeader, RunState
from perdure.core.run.transition import Transition
from tests.support.builders import (
    application_failure,
    cancel_activity,
    cancel_timer,
    complete_workflow,
    duration,
    keyword,
    memo,
    modify_memo,
    payload,
    payloads,
    retry_policy,
    schedule_activity,
    signal_external,
    start_child,
    start_timer,
    upsert_search_attributes,
)
from tests.support.proto import common, enums, history
from tests.unit.core.driver import QUEUE, RUN, Driver, begun, with_commands
from tests.unit.core.test_child import run_child, tell

NEW = RunKey(RUN.namespace_id, RUN.workflow_id, "00000000-0000-7000-8000-00000000000a")
SIGNAL = enums.ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL
HOUR_NS = 3600 * SECOND_NS


def reset_to(
    driver: Driver,
    finish_event_id: int,
    *,
    excluded: Sequence[int] = (),
    later: Sequence[history.HistoryEvent] = (),
) -> Driver:
    """The run that a reset makes of another one, which is left."""
    new = Driver(driver.limits, NEW, driver.now_ns)
    plan = reset.Plan(
        RUN.run_id,
        finish_event_id,
        "why",
        "request",
        "start-request",
        "namespace",
        HOUR_NS,
        frozenset(excluded),
    )
    copied, rest = driver.history[: finish_event_id - 1], driver.history[finish_event_id - 1 :]
    again = [event for event in rest if reset.is_done_again(event, plan.excluded, of_base=True)]
    tx = new.transition()
    reset.begin(tx, plan, copied, [*again, *later], driver.limits)
    new.commit(tx)
    driver.apply(lambda left: reset.leave(left, new.transition(), "why", is_base=True))
    return new


def _told(key: str, blob: bytes) -> bytes:
    """A blob without what no event says: which parts of the run are paused."""
    if key != properties.SEARCH_ATTRIBUTES:
        return blob
    fields = common.SearchAttributes.FromString(blob)
    fields.indexed_fields.pop(PAUSE_INFO, None)
    return fields.SerializeToString(deterministic=True)


def _told_of(item: NexusOperation) -> tuple[object, ...]:
    """What events say of a Nexus operation."""
    started = bool(item.started_ns)
    return item.request_id, item.operation_token, started, item.cancel_requested_event_id, item.cancel_state


def check_rebuilt(driver: Driver) -> None:
    """A run's history alone leads to the state that the run is in, but for what events do not say."""
    tx = Transition(RunState(NEW, 0, RunHeader()), driver.now_ns)
    rebuild.rebuild(tx, driver.history, "namespace", HOUR_NS)
    state, header = driver.state, driver.header
    assert {a.scheduled_event_id: a.activity_id for a in tx.activities} == {
        key: activity.activity_id for key, activity in state.activities.items()
    }
    assert {t.timer_id: t for t in tx.timers} == state.timers
    assert {c.initiated_event_id: c.run_id for c in tx.children} == {
        key: child.run_id for key, child in state.children.items()
    }
    assert {e.initiated_event_id for e in tx.externals} == set(state.externals)
    assert {o.scheduled_event_id: _told_of(o) for o in tx.nexus_operations} == {
        key: _told_of(item) for key, item in state.nexus_operations.items()
    }
    assert {key: blob for key, blob in tx.blobs.changes.items() if blob} == {
        key: told for key, blob in state.blobs.items() if (told := _told(key, blob))
    }
    assert set(tx.signal_request_ids.changes) == set(state.signal_request_ids)
    assert tx.attached_requests.changes == state.attached_requests
    for name in (
        "workflow_type",
        "task_queue",
        "attempt",
        "signal_count",
        "cancel_requested",
        "next_event_id",
    ):
        assert getattr(tx.header, name) == getattr(header, name), name
    last = tx.header.last_completed_task_started_event_id
    assert last == header.last_completed_task_started_event_id


# --- the copied part ---


def test_a_history_leads_to_the_state_it_came_from() -> None:
    driver = begun(
        memo=memo({"a": "b"}),
        retry_policy=retry_policy(attempts=3),
        priority=common.Priority(priority_key=2),
        workflow_run_timeout=duration(100),
        workflow_execution_timeout=duration(200),
    )
    driver.complete(
        schedule_activity("a", QUEUE),
        schedule_activity("b", QUEUE),
        start_timer("t", 50),
        start_timer("u", 60),
        start_child("c"),
        start_child("d"),
        signal_external("w"),
        upsert_search_attributes({"Kw": keyword("red")}),
        modify_memo({"c": payload("d")}),
    )
    driver.signal(request_id="one")
    driver.start_activity(5)
    driver.complete_activity(5)
    run_child(driver, 9)
    driver.complete(cancel_timer("u"))
    driver.cancel()
    check_rebuilt(driver)


def test_the_new_run_begins_anew() -> None:
    """Its times count from now; stickiness, attempts and progress are forgotten."""
    driver = with_commands(
        schedule_activity("a", QUEUE, heartbeat_s=5),
        workflow_run_timeout=duration(100),
        workflow_execution_timeout=duration(150),
    )
    driver.start_activity(5)
    driver.heartbeat(5, "progress")
    driver.fail_activity(5, application_failure())
    driver.sleep(30)
    driver.signal()
    driver.complete(sticky_on="sticky")
    new = reset_to(driver, 9)
    assert new.header.start_ns == driver.now_ns
    assert new.header.run_expiration_ns == driver.now_ns + 100 * SECOND_NS
    assert new.header.execution_expiration_ns == driver.now_ns + 150 * SECOND_NS
    assert not new.header.sticky_queue
    pending = new.state.activities[5]
    assert (pending.attempt, pending.scheduled_ns, pending.heartbeat_details) == (1, driver.now_ns, b"")
    assert new.waiting_activities() == [5]


def test_the_reset_is_told_in_the_history() -> None:
    driver = with_commands(start_timer("t", 5))
    new = reset_to(driver, 4)
    assert new.history[:3] == driver.history[:3]
    failed = new.history[3].workflow_task_failed_event_attributes
    assert (failed.base_run_id, failed.new_run_id) == (RUN.run_id, NEW.run_id)
    assert failed.failure.message == "why"
    assert new.types(3) == ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]
    assert new.header.task_attempt == 1
    assert new.header.first_run_id == new.header.original_run_id == RUN.run_id
    ended = driver.history[-1].workflow_execution_terminated_event_attributes
    assert (ended.reason, ended.identity) == ("why", reset.RESETTER)
    assert driver.header.reset_run_id == NEW.run_id


def test_a_task_that_no_worker_had_is_started_first() -> None:
    new = reset_to(with_commands(), 3)
    assert new.types(2) == ["WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]


@pytest.mark.parametrize("finish", [2, 6, 7])
def test_a_reset_must_end_within_a_workflow_task(finish: int) -> None:
    driver = with_commands(start_timer("t", 50), start_timer("u", 50), start_timer("v", 50))
    with pytest.raises(InvalidArgumentError, match="Can only reset workflow to event ID in range"):
        reset_to(driver, finish)


def test_an_activity_that_was_to_be_cancelled_is() -> None:
    """Some worker had it when that was asked for; nobody has it now."""
    driver = with_commands(schedule_activity("a", QUEUE))
    driver.start_activity(5)
    driver.signal()
    driver.complete(cancel_activity(5))
    driver.signal()
    driver.complete()
    new = reset_to(driver, len(driver.history))
    assert "ACTIVITY_TASK_CANCELED" in new.types()
    assert not new.state.activities


# --- what came after ---


def test_signals_come_again_and_requests_to_cancel_do_not() -> None:
    driver = with_commands()
    driver.signal("one", request_id="1", input=payloads("in"))
    driver.cancel()
    driver.complete()
    driver.signal("two")
    new = reset_to(driver, 4)
    signals: list[Any] = [
        event.workflow_execution_signaled_event_attributes
        for event in new.history
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]
    assert [(s.signal_name, s.input) for s in signals] == [
        ("one", payloads("in")),
        ("two", common.Payloads()),
    ]
    assert set(new.state.signal_request_ids) == {"1"}
    assert not new.header.cancel_requested
    assert not new.signal("one", request_id="1").events  # known: it is not received twice


def test_signals_can_be_left_out() -> None:
    driver = with_commands()
    driver.signal()
    assert "WORKFLOW_EXECUTION_SIGNALED" not in reset_to(driver, 4, excluded=[SIGNAL]).types()


@pytest.mark.parametrize(
    ("types", "reapply", "wanted"),
    [([], 0, set()), ([1], 0, {1}), ([], 1, {2}), ([], 2, {1, 2}), ([], 3, set())],
)
def test_two_ways_to_say_what_is_left_out(types: list[int], reapply: int, wanted: set[int]) -> None:
    assert reset.excluded(types, reapply) == wanted


def test_what_became_of_children_is_told_again() -> None:
    """Of children that the copied part started; others are started once more by the code."""
    driver = with_commands(start_child("c"), start_child("gone"))
    first = run_child(driver, 5)
    driver.complete(start_child("later"))
    later = driver.last("START_CHILD_WORKFLOW_EXECUTION_INITIATED").event_id
    run_child(driver, later)
    first.complete(complete_workflow(payloads("done")))
    tell(driver, first)
    new = reset_to(driver, 10)
    completed = new.last("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    attributes = completed.child_workflow_execution_completed_event_attributes
    assert (attributes.initiated_event_id, attributes.started_event_id) == (5, 7)
    assert attributes.result == payloads("done")
    assert set(new.state.children) == {6}
    assert new.types().count("CHILD_WORKFLOW_EXECUTION_STARTED") == 1


def test_the_children_of_a_run_that_is_reset_go_on() -> None:
    driver = with_commands(start_child("c"))
    run_child(driver, 5)
    driver.complete()
    new = reset_to(driver, 9)
    assert not driver.state.children
    assert new.state.children[5].run_id


def test_a_child_that_is_reset_owes_its_parent_nothing() -> None:
    parent = with_commands(start_child("c"))
    started = run_child(parent)
    started.complete()
    new = Driver(parent.limits, NEW, parent.now_ns)
    started.apply(lambda tx: reset.leave(tx, new.transition(), "why", is_base=False))
    assert not started.header.owes_parent
    assert not started.header.is_open
