"""The history core: event ids, which events wait, the order of a flush, overlays, purity, task rows."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.api.history.v1 import HistoryEvent
from perdure.core.errors import InvariantViolation
from perdure.core.run import activity, completion, deadlines, lifecycle, signal, timer, workflow_task
from perdure.core.run.overlay import Overlay
from perdure.core.run.records import RunWrite, TaskKey, TaskKind
from perdure.core.run.state import RunState, encode
from perdure.core.run.transition import UNBUFFERED, Transition
from tests.support.builders import (
    application_failure,
    cancel_timer,
    complete_workflow,
    payload,
    payloads,
    schedule_activity,
    start_timer,
    upsert_search_attributes,
)
from tests.support.proto import common, enums, workflowservice
from tests.unit.core.driver import CUSTOM, QUEUE, RUN, STICKY, Driver, begun, name_of, with_commands

BUFFERED = [
    "ACTIVITY_TASK_STARTED",
    "ACTIVITY_TASK_COMPLETED",
    "ACTIVITY_TASK_FAILED",
    "ACTIVITY_TASK_TIMED_OUT",
    "ACTIVITY_TASK_CANCELED",
    "TIMER_FIRED",
    "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
    "WORKFLOW_EXECUTION_SIGNALED",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED",
    "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED",
    "START_CHILD_WORKFLOW_EXECUTION_FAILED",
    "CHILD_WORKFLOW_EXECUTION_STARTED",
    "CHILD_WORKFLOW_EXECUTION_COMPLETED",
    "CHILD_WORKFLOW_EXECUTION_FAILED",
    "CHILD_WORKFLOW_EXECUTION_CANCELED",
    "CHILD_WORKFLOW_EXECUTION_TIMED_OUT",
    "CHILD_WORKFLOW_EXECUTION_TERMINATED",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED",
    "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED",
    "WORKFLOW_EXECUTION_UPDATE_ADMITTED",
    "NEXUS_OPERATION_STARTED",
    "NEXUS_OPERATION_COMPLETED",
    "NEXUS_OPERATION_FAILED",
    "NEXUS_OPERATION_CANCELED",
    "NEXUS_OPERATION_TIMED_OUT",
    "NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED",
    "NEXUS_OPERATION_CANCEL_REQUEST_FAILED",
    "WORKFLOW_EXECUTION_OPTIONS_UPDATED",
    "WORKFLOW_EXECUTION_PAUSED",
    "WORKFLOW_EXECUTION_UNPAUSED",
    "WORKFLOW_EXECUTION_TIME_SKIPPING_TRANSITIONED",
]
NEVER_WRITTEN = {
    f"EVENT_TYPE_{name}"
    for name in (
        "UNSPECIFIED",
        "WORKFLOW_EXECUTION_UPDATE_REJECTED",
        "WORKFLOW_PROPERTIES_MODIFIED_EXTERNALLY",
        "ACTIVITY_PROPERTIES_MODIFIED_EXTERNALLY",
    )
}


# --- ids and the buffer ---


@pytest.mark.parametrize("name", sorted(set(enums.EventType.keys()) - NEVER_WRITTEN))
def test_which_events_wait_while_a_workflow_task_is_started(name: str) -> None:
    """By type: everything that comes from outside of the task waits, all else is written at once."""
    short = name.removeprefix("EVENT_TYPE_")
    driver = begun()
    driver.poll()
    tx = driver.transition()
    event = tx.append(tx.new_event(enums.EventType.Value(name)))
    if short in BUFFERED:
        assert (event.event_id, tx.events, tx.has_buffered()) == (0, [], True)
    else:
        assert (event.event_id, tx.events, tx.has_buffered()) == (4, [event], False)
        assert enums.EventType.Value(name) in UNBUFFERED


def test_events_of_one_transition_are_numbered_on_from_the_history() -> None:
    driver = begun()
    assert [event.event_id for event in driver.history] == [1, 2]
    driver.complete(start_timer("t", 5), start_timer("u", 5))
    assert [event.event_id for event in driver.history] == [1, 2, 3, 4, 5, 6]
    assert [event.task_id for event in driver.history] == [1, 2, 3, 4, 5, 6]


def test_an_event_has_the_time_of_its_transition_or_the_one_it_is_given() -> None:
    tx = Driver().transition()
    assert tx.new_event(1).event_time.ToNanoseconds() == tx.now_ns
    assert tx.new_event(1, 5).event_time.ToNanoseconds() == 5


def test_a_flush_writes_completions_last_and_wires_what_they_end() -> None:
    """Arrival order b started+completed, signal, a started+failed: the ends move behind everything else."""
    driver = with_commands(schedule_activity("a", QUEUE), schedule_activity("b", QUEUE), start_timer("t", 1))
    driver.start_activity(5)
    driver.start_activity(6)
    driver.signal("one")
    driver.poll()
    driver.complete_activity(6)
    driver.signal("two")
    driver.fail_activity(5, application_failure(non_retryable=True))
    driver.wake()
    driver.cancel()
    written = len(driver.history)
    driver.respond()
    assert driver.types(written) == [
        "WORKFLOW_TASK_COMPLETED",
        "ACTIVITY_TASK_STARTED",
        "WORKFLOW_EXECUTION_SIGNALED",
        "ACTIVITY_TASK_STARTED",
        "TIMER_FIRED",
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "ACTIVITY_TASK_COMPLETED",
        "ACTIVITY_TASK_FAILED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    started = {
        event.activity_task_started_event_attributes.scheduled_event_id: event.event_id
        for event in driver.history
        if name_of(event) == "ACTIVITY_TASK_STARTED"
    }
    completed = driver.last("ACTIVITY_TASK_COMPLETED").activity_task_completed_event_attributes
    failed = driver.last("ACTIVITY_TASK_FAILED").activity_task_failed_event_attributes
    assert completed.started_event_id == started[6]
    assert failed.started_event_id == started[5]


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELED", "TIMED_OUT", "TERMINATED"])
def test_a_flush_wires_the_ends_of_child_workflows(end: str) -> None:
    driver = begun()
    driver.poll()
    tx = driver.transition()
    closing = tx.new_event(enums.EventType.Value(f"EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_{end}"))
    attributes = getattr(closing, f"child_workflow_execution_{end.lower()}_event_attributes")
    attributes.initiated_event_id = 2
    tx.append(closing)
    started = tx.new_event(enums.EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    started.child_workflow_execution_started_event_attributes.initiated_event_id = 2
    tx.append(started)
    assert tx.flush()
    assert [event.event_id for event in (started, closing)] == [4, 5]
    assert attributes.started_event_id == 4


def test_an_end_whose_start_was_written_before_keeps_its_reference() -> None:
    tx = begun().transition()
    closing = tx.new_event(enums.EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
    closing.child_workflow_execution_completed_event_attributes.initiated_event_id = 2
    closing.child_workflow_execution_completed_event_attributes.started_event_id = 1
    tx.append(closing)
    tx.flush()
    assert closing.child_workflow_execution_completed_event_attributes.started_event_id == 1


def test_a_flush_without_waiting_events_does_nothing() -> None:
    tx = begun().transition()
    assert not tx.flush()
    assert tx.is_untouched


def test_events_may_not_be_left_waiting_without_a_started_task() -> None:
    """Nobody would ever write them."""
    tx = with_commands().transition()
    tx.append(tx.new_event(enums.EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED))
    with pytest.raises(InvariantViolation, match="events are buffered although no workflow task is started"):
        tx.finish(None, None)


def test_nothing_is_written_after_the_end_of_a_transition() -> None:
    tx = begun().transition()
    tx.settle()
    with pytest.raises(InvariantViolation, match="an event after the last one"):
        tx.append(tx.new_event(enums.EventType.EVENT_TYPE_MARKER_RECORDED))


# --- purity ---


def _snapshot(state: RunState) -> object:
    return (
        encode(state.header),
        {key: encode(value) for key, value in state.activities.items()},
        {key: encode(value) for key, value in state.timers.items()},
        {key: event.SerializeToString(deterministic=True) for key, event in state.buffered.items()},
        dict(state.signal_request_ids),
        dict(state.blobs),
        state.version,
        state.wakeup_ns,
    )


def _busy() -> Driver:
    """A run with everything pending, events waiting and a started workflow task."""
    driver = begun()
    driver.complete(
        schedule_activity("a", QUEUE),
        schedule_activity("b", QUEUE),
        start_timer("t", 60),
        start_timer("soon", 1),
        upsert_search_attributes({"Kw": payload("word")}),
        force_create_new_workflow_task=True,
    )
    driver.start_activity(5)
    driver.poll()
    driver.wake()
    driver.signal("waiting", request_id="once")
    return driver


def _complete_and_close(driver: Driver) -> None:
    request = workflowservice.RespondWorkflowTaskCompletedRequest(
        commands=[cancel_timer("soon"), cancel_timer("t"), start_timer("u", 1)]
    )
    completion.respond_completed(driver.state, driver.now_ns, driver.token(), request, driver.limits, CUSTOM)


def _end_activity(driver: Driver) -> None:
    tx = driver.transition()
    activity.complete(tx, tx.activities.edit(5), payloads("r"), "worker")
    lifecycle.terminate(tx, reason="", details=None, identity="")


def _fire_all(driver: Driver) -> None:
    driver.sleep(1000)
    deadlines.fire(driver.transition(), driver.limits)
    driver.sleep(-1000)


def _flush_and_finish(driver: Driver) -> None:
    tx = driver.transition()
    tx.header.task_started_event_id = 0
    tx.flush()
    tx.finish(None, None)


@pytest.mark.parametrize("change", [_complete_and_close, _end_activity, _fire_all, _flush_and_finish])
def test_a_dropped_transition_leaves_no_trace(change: object) -> None:
    """Whatever it did, and however far it got: the state stays as it was, to the byte."""
    driver = _busy()
    before = _snapshot(driver.state)
    change(driver)  # type: ignore[operator]  # one of the functions above
    assert _snapshot(driver.state) == before


def test_the_state_changes_only_when_a_transition_is_absorbed() -> None:
    driver = _busy()
    before = _snapshot(driver.state)
    tx = driver.transition()
    signal.receive(
        tx, name="s", input=None, identity="", header=None, request_id="r", links=(), limits=driver.limits
    )
    tx.finish(5, None)
    assert _snapshot(driver.state) == before
    tx.absorb()
    assert driver.state.version == before[-2] + 1  # type: ignore[index]  # a tuple
    assert driver.state.wakeup_ns == 5
    assert "r" in driver.state.signal_request_ids


# --- what changed ---


def test_nothing_happened_unless_something_did() -> None:
    driver = begun()
    assert driver.transition().is_untouched
    changes = (
        lambda tx: tx.touch(),
        lambda tx: tx.append(tx.new_event(enums.EventType.EVENT_TYPE_MARKER_RECORDED)),
        lambda tx: tx.blobs.put("memo", b"x"),
        lambda tx: setattr(tx.header, "task_stamp", 99),
    )
    for change in changes:
        tx = driver.transition()
        change(tx)
        assert not tx.is_untouched


def test_the_record_names_the_new_current_run() -> None:
    tx = begun().transition()
    write = tx.finish(7, None, becomes_current=True, expected_current_run_id="other")
    assert (write.becomes_current, write.expected_current_run_id) == (True, "other")
    assert (write.start_request_id, write.first_run_id) == ("start-request", RUN.run_id)
    assert (write.wakeup_ns, write.expected_version, write.status) == (7, 1, 1)
    assert write.events == ()


def test_sizes_and_transitions_are_counted_once() -> None:
    driver = begun()
    tx = driver.transition()
    tx.append(tx.new_event(enums.EventType.EVENT_TYPE_MARKER_RECORDED))
    tx.settle()
    tx.settle()
    write = tx.finish(None, None)
    size = len(write.events[0].data)
    assert tx.header.history_size_bytes == driver.header.history_size_bytes + size
    assert tx.header.transition_count == driver.header.transition_count + 1


@pytest.mark.parametrize("length", [0, 100, 130, 20_000, 3_000_000])
def test_the_size_of_new_events_is_known_before_they_are_written(length: int) -> None:
    tx = begun().transition()
    for _ in range(2):
        event = tx.new_event(enums.EventType.EVENT_TYPE_MARKER_RECORDED)
        event.marker_recorded_event_attributes.marker_name = "x" * length
        tx.append(event)
    expected = tx.new_bytes()
    assert len(tx.finish(None, None).events[0].data) == expected


# --- task rows ---


def _put(write: RunWrite | None) -> list[tuple[str, bool]]:
    assert write is not None
    return [(task.queue.name, task.sticky) for task in write.tasks_put]


def test_a_workflow_task_is_a_row_from_scheduling_to_start() -> None:
    driver = begun()
    assert _put(driver.write) == [(QUEUE, False)]
    driver.poll()
    assert driver.write is not None
    assert driver.write.tasks_deleted == (TaskKey(TaskKind.WORKFLOW, 2),)
    assert _put(driver.write) == []


def test_a_task_scheduled_and_started_at_once_is_never_a_row() -> None:
    driver = begun()
    driver.complete(force_create_new_workflow_task=True, return_new_workflow_task=True)
    assert driver.write is not None
    assert (driver.write.tasks_put, driver.write.tasks_deleted) == ((), ())


def test_a_rerouted_task_replaces_its_row() -> None:
    driver = begun()
    driver.complete(sticky_on=STICKY)
    driver.signal()
    assert _put(driver.write) == [(STICKY, True)]
    driver.apply(workflow_task.reroute_to_normal_queue)
    assert _put(driver.write) == [(QUEUE, False)]
    assert driver.write is not None
    assert driver.write.tasks_deleted == ()


def test_new_tasks_come_with_the_workflow_task_first() -> None:
    driver = begun()
    driver.poll()
    request = workflowservice.RespondWorkflowTaskCompletedRequest(
        commands=[schedule_activity("a", QUEUE)], force_create_new_workflow_task=True
    )
    done = completion.respond_completed(
        driver.state, driver.now_ns, driver.token(), request, driver.limits, CUSTOM
    )
    assert [task.key.kind for task in done.tx.new_tasks()] == [TaskKind.WORKFLOW, TaskKind.ACTIVITY]


def test_closing_takes_away_every_row() -> None:
    driver = with_commands(schedule_activity("a", QUEUE), schedule_activity("b", QUEUE))
    driver.start_activity(5)
    driver.signal()
    driver.terminate()
    assert driver.write is not None
    assert set(driver.write.tasks_deleted) == {
        TaskKey(TaskKind.WORKFLOW, 8),
        TaskKey(TaskKind.ACTIVITY, 6),
    }
    assert driver.tasks == {}


def test_a_run_that_closes_with_new_commands_leaves_no_rows() -> None:
    driver = begun()
    driver.complete(schedule_activity("a", QUEUE), start_timer("t", 1), complete_workflow())
    assert driver.tasks == {}
    assert set(driver.items) == set()


@pytest.mark.parametrize(
    ("of_activity", "of_run", "expected"),
    [(0, 0, 0), (1, 0, 1), (0, 4, 4), (2, 4, 2), (5, 0, 5), (6, 0, 5), (1000, 0, 5)],
)
def test_an_activity_has_its_own_priority_or_the_runs(of_activity: int, of_run: int, expected: int) -> None:
    """Field by field: an activity that sets only a fairness key keeps the run's priority key."""
    driver = begun(priority=common.Priority(priority_key=of_run))
    assert next(iter(driver.tasks.values())).priority_key == min(of_run, 5)
    priority = common.Priority(priority_key=of_activity, fairness_key="tenant")
    driver.complete(schedule_activity("a", QUEUE, priority=priority))
    assert next(iter(driver.tasks.values())).priority_key == expected


# --- overlays ---


def _overlay() -> tuple[dict[str, list[int]], Overlay[str, list[int]]]:
    base = {"a": [1], "b": [2]}
    return base, Overlay(base, {})


def test_an_overlay_shows_its_changes_and_the_base_does_not() -> None:
    base, overlay = _overlay()
    overlay.put("c", [3])
    overlay.delete("a")
    overlay.put("b", [4])
    assert list(overlay) == [[4], [3]]
    assert ("a" in overlay, "b" in overlay, "c" in overlay, len(overlay)) == (False, True, True, 2)
    assert (overlay.get("a"), overlay.get("b"), overlay.get("none")) == (None, [4], None)
    assert overlay.committed("a") == [1]
    assert base == {"a": [1], "b": [2]}


def test_an_overlay_without_changes_is_its_base() -> None:
    _, overlay = _overlay()
    assert list(overlay) == [[1], [2]]
    assert len(overlay) == 2


def test_deleting_what_was_just_added_leaves_no_change() -> None:
    _, overlay = _overlay()
    overlay.put("c", [3])
    overlay.delete("c")
    overlay.delete("never there")
    assert overlay.changes == {}


def test_clearing_removes_additions_too() -> None:
    base, overlay = _overlay()
    overlay.put("c", [3])
    overlay.clear()
    assert list(overlay) == []
    overlay.absorb()
    assert base == {}


def test_absorbing_changes_the_base() -> None:
    base, overlay = _overlay()
    overlay.put("c", [3])
    overlay.delete("a")
    overlay.absorb()
    assert base == {"b": [2], "c": [3]}
    assert overlay.changes == {}


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 9), st.booleans()), max_size=30))
def test_what_was_measured_before_is_right_after_any_changes(
    steps: list[tuple[int, int | None, bool]],
) -> None:
    """Each step puts or deletes an item; some end the transition, and some of these keep its changes."""
    base: dict[int, int] = {}
    measured: dict[int, int] = {}
    overlay = Overlay(base, measured)
    for key, item, is_kept in steps:
        if item is None:
            overlay.delete(key)
        else:
            overlay.put(key, item)
        assert sorted(overlay.measure(lambda item: item * 10)) == sorted(item * 10 for item in overlay)
        if is_kept:
            overlay.absorb()
        if key % 2:
            overlay = Overlay(base, measured)


def test_a_committed_item_is_measured_once() -> None:
    asked: list[int] = []

    def number(item: int) -> int:
        asked.append(item)
        return item

    base, measured = {1: 10, 2: 20, 3: 30}, dict[int, int]()
    for _ in range(3):
        overlay = Overlay(base, measured)
        overlay.measure(number)
        overlay.put(1, base[1] + 1)
        assert sorted(overlay.measure(number)) == [base[1] + 1, 20, 30]
        overlay.absorb()
    assert (asked.count(20), asked.count(30)) == (1, 1)


def test_editing_copies_once() -> None:
    driver = with_commands(start_timer("t", 5))
    tx = driver.transition()
    edited = tx.timers.edit("t")
    edited.fire_ns = 1
    assert tx.timers.edit("t") is edited
    assert driver.state.timers["t"].fire_ns != 1


@pytest.mark.parametrize("prepare", [lambda overlay: None, lambda overlay: overlay.delete("t")])
def test_editing_what_is_not_there_is_a_bug(prepare: object) -> None:
    tx = with_commands(start_timer("t", 5)).transition()
    prepare(tx.timers)  # type: ignore[operator]  # a lambda above
    tx.timers.delete("t")
    with pytest.raises(InvariantViolation, match="not there"):
        tx.timers.edit("t")


def test_taking_back_a_buffered_event_hides_its_key() -> None:
    """The timer module takes TimerFired out of the buffer; the flush must not see a hole."""
    driver = _busy()
    tx = driver.transition()
    assert len(tx.buffered_keys()) == 2
    timer.cancel(tx, "soon", 1, "worker")
    assert len(tx.buffered_keys()) == 1
    assert tx.has_buffered()


def test_a_buffered_event_that_is_gone_cannot_be_written() -> None:
    driver = _busy()
    tx: Transition = driver.transition()
    key = tx.buffered_keys()[0]
    tx.buffered.delete(key)
    with pytest.raises(InvariantViolation, match="this buffered event is gone"):
        tx._own(key)


def test_events_in_the_record_are_copies_of_nothing_shared() -> None:
    """The record carries bytes; later changes to event objects do not reach it."""
    driver = begun()
    tx = driver.transition()
    event: HistoryEvent = tx.append(tx.new_event(enums.EventType.EVENT_TYPE_MARKER_RECORDED))
    write = tx.finish(None, None)
    data = copy.copy(write.events[0].data)
    event.event_id = 99
    assert write.events[0].data == data
