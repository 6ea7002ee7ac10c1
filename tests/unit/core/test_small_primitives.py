"""Timers, signals, the request to cancel, markers, memo and search attributes: one module each, all small."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.errors import InvalidArgumentError, ResourceExhaustedError
from perdure.core.run import cancellation, deadlines, properties, timer
from perdure.core.run.limits import SECOND_NS, Limits
from tests.support.builders import (
    application_failure,
    cancel_timer,
    complete_workflow,
    header,
    memo,
    modify_memo,
    payload,
    payloads,
    record_marker,
    start_timer,
    upsert_search_attributes,
    user_metadata,
)
from tests.support.proto import common
from tests.unit.core.driver import START_NS, Driver, begun, with_commands

NIL = common.Payload(metadata={"encoding": b"binary/null"})


# --- timers ---


@pytest.mark.parametrize(
    ("seconds", "is_set"), [(5, True), (0, True), (None, False)], ids=["5 s", "zero", "unset"]
)
def test_a_timer_fires_when_its_time_has_come(seconds: float | None, is_set: bool) -> None:
    driver = with_commands(start_timer("t", seconds, user_metadata=user_metadata("s", "d")))
    event = driver.last("TIMER_STARTED")
    attributes = event.timer_started_event_attributes
    assert (attributes.timer_id, attributes.workflow_task_completed_event_id) == ("t", 4)
    assert attributes.HasField("start_to_fire_timeout") is is_set
    assert event.user_metadata == user_metadata("s", "d")
    assert driver.state.wakeup_ns == START_NS + round((seconds or 0) * SECOND_NS)
    driver.wake()
    fired = driver.last("TIMER_FIRED").timer_fired_event_attributes
    assert (fired.timer_id, fired.started_event_id) == ("t", 5)
    assert driver.types(5) == ["TIMER_FIRED", "WORKFLOW_TASK_SCHEDULED"]
    assert driver.state.timers == {}


def test_a_timer_never_fires_early() -> None:
    driver = with_commands(start_timer("t", 5))
    driver.sleep(4.999999999)
    tx = driver.transition()
    deadlines.fire(tx, driver.limits)
    timer.fire(tx, "t")
    assert tx.is_untouched


def test_a_timer_that_is_gone_does_not_fire() -> None:
    tx = with_commands().transition()
    timer.fire(tx, "t")
    assert tx.is_untouched


def test_timers_fire_in_order_of_time_then_of_start() -> None:
    driver = with_commands(start_timer("c", 9), start_timer("b", 5), start_timer("a", 5))
    driver.wake(late_s=60)
    assert [
        event.timer_fired_event_attributes.timer_id
        for event in driver.history
        if event.HasField("timer_fired_event_attributes")
    ] == ["b", "a", "c"]


def test_a_running_timer_is_cancelled() -> None:
    driver = with_commands(start_timer("t", 5))
    driver.signal()
    driver.complete(cancel_timer("t"))
    attributes = driver.last("TIMER_CANCELED").timer_canceled_event_attributes
    assert (attributes.timer_id, attributes.started_event_id) == ("t", 5)
    assert (attributes.workflow_task_completed_event_id, attributes.identity) == (9, "worker")
    assert driver.state.wakeup_ns is None


def _fired_during_a_task() -> Driver:
    driver = with_commands(start_timer("t", 5), start_timer("u", 500))
    driver.signal()
    driver.poll()
    driver.wake()
    return driver


def test_a_fire_that_waits_in_the_buffer_is_taken_back() -> None:
    """The cancellation wins, nothing is left that would need a workflow task."""
    driver = _fired_during_a_task()
    driver.respond(cancel_timer("t"))
    assert driver.types(9) == ["WORKFLOW_TASK_COMPLETED", "TIMER_CANCELED"]
    assert driver.last("TIMER_CANCELED").timer_canceled_event_attributes.started_event_id == 5


def test_a_run_may_close_when_the_only_news_was_taken_back() -> None:
    driver = _fired_during_a_task()
    driver.respond(cancel_timer("t"), complete_workflow())
    assert driver.types(9) == ["WORKFLOW_TASK_COMPLETED", "TIMER_CANCELED", "WORKFLOW_EXECUTION_COMPLETED"]


def test_other_news_stay_when_a_fire_is_taken_back() -> None:
    driver = _fired_during_a_task()
    driver.signal()
    done = driver.respond(cancel_timer("t"), complete_workflow())
    assert str(done.error) == "UnhandledCommand"


def test_only_the_fire_of_the_named_timer_is_taken_back() -> None:
    driver = _fired_during_a_task()
    tx = driver.transition()
    with pytest.raises(InvalidArgumentError, match="TimerID: other"):
        timer.cancel(tx, "other", 1, "worker")
    assert tx.is_untouched


@pytest.mark.parametrize("prepare", [lambda driver: driver.wake(), lambda driver: None])
def test_a_timer_that_is_not_there_cannot_be_cancelled(prepare: Any) -> None:
    """Fired and written, or never started."""
    driver = with_commands(start_timer("t", 5))
    prepare(driver)
    if not driver.header.has_pending_task:
        driver.signal()
    done = driver.complete(cancel_timer("t" if driver.state.timers == {} else "other"))
    assert (
        "BadCancelTimerAttributes: invalid history builder state for action: add-timer-canceled-event"
        in str(done.error)
    )


# --- signals ---


def test_a_signal_records_what_was_sent() -> None:
    driver = with_commands()
    link = common.Link(workflow_event=common.Link.WorkflowEvent(workflow_id="caller"))
    driver.signal(
        "name", request_id="once", input=payloads("in"), header=header({"trace": "1"}), links=[link]
    )
    event = driver.last("WORKFLOW_EXECUTION_SIGNALED")
    attributes = event.workflow_execution_signaled_event_attributes
    assert (attributes.signal_name, attributes.identity, attributes.request_id) == ("name", "client", "once")
    assert (attributes.input, attributes.header) == (payloads("in"), header({"trace": "1"}))
    assert list(event.links) == [link]
    assert driver.header.has_pending_task


def test_what_a_signal_leaves_out_stays_out() -> None:
    driver = with_commands()
    driver.signal()
    attributes = driver.last("WORKFLOW_EXECUTION_SIGNALED").workflow_execution_signaled_event_attributes
    assert not attributes.HasField("input")
    assert not attributes.HasField("header")


def test_a_signal_with_a_known_request_id_is_a_repetition() -> None:
    driver = with_commands()
    for _ in range(2):
        driver.signal(request_id="once")
    for _ in range(2):
        driver.signal(request_id="")
    assert driver.types().count("WORKFLOW_EXECUTION_SIGNALED") == 3
    assert driver.header.signal_count == 3


def test_a_run_takes_so_many_signals_and_still_knows_repetitions() -> None:
    driver = with_commands(limits=Limits(signals=2))
    driver.signal(request_id="one")
    driver.signal(request_id="two")
    driver.signal(request_id="one")
    with pytest.raises(InvalidArgumentError, match="exceeded workflow execution limit for signal events"):
        driver.signal(request_id="three")
    assert driver.header.signal_count == 2


def test_a_run_that_was_kept_from_closing_refuses_signals_once_it_tries_again() -> None:
    """Else a steady stream of signals would keep it open for ever. Requests to cancel still come through."""
    driver = begun()
    driver.poll()
    driver.signal()
    assert str(driver.respond(complete_workflow()).error) == "UnhandledCommand"
    driver.signal("before the next task starts")
    driver.poll()
    with pytest.raises(ResourceExhaustedError, match="because workflow is closing") as caught:
        driver.signal()
    assert (caught.value.cause, caught.value.scope) == (5, 1)
    driver.cancel()
    driver.respond()
    driver.poll()
    driver.signal("the task before did not try to close")


def test_a_timed_out_closing_task_lets_signals_through_again() -> None:
    driver = begun()
    driver.poll()
    driver.signal()
    driver.respond(complete_workflow())
    driver.poll()
    driver.wake()
    driver.poll()
    driver.signal()


# --- the request to cancel ---


def test_a_request_to_cancel_is_recorded_once() -> None:
    driver = with_commands()
    driver.cancel()
    event = driver.last("WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    attributes = event.workflow_execution_cancel_requested_event_attributes
    assert (attributes.cause, attributes.identity) == ("why", "client")
    driver.cancel()
    assert driver.types().count("WORKFLOW_EXECUTION_CANCEL_REQUESTED") == 1
    assert driver.header.cancel_requested


def test_a_request_to_cancel_keeps_its_id_and_links() -> None:
    driver = with_commands()
    link = common.Link(workflow_event=common.Link.WorkflowEvent(workflow_id="caller"))
    driver.apply(lambda tx: cancellation.request(tx, reason="", identity="", request_id="once", links=[link]))
    assert driver.header.cancel_request_id == "once"
    assert list(driver.last("WORKFLOW_EXECUTION_CANCEL_REQUESTED").links) == [link]


# --- markers ---


def test_a_marker_is_kept_as_it_is() -> None:
    driver = with_commands(
        record_marker(
            "core_patch",
            {"a": payloads("1"), "b": payloads("2", "3")},
            header=header({"trace": "1"}),
            cause=application_failure(),
        )
    )
    attributes = driver.last("MARKER_RECORDED").marker_recorded_event_attributes
    assert attributes.marker_name == "core_patch"
    assert dict(attributes.details) == {"a": payloads("1"), "b": payloads("2", "3")}
    assert attributes.header == header({"trace": "1"})
    assert attributes.failure == application_failure()
    assert attributes.workflow_task_completed_event_id == 4


def test_a_bare_marker() -> None:
    attributes = with_commands(record_marker("m")).last("MARKER_RECORDED").marker_recorded_event_attributes
    assert not attributes.details
    assert not attributes.HasField("header")


# --- memo and search attributes ---


def test_an_upserted_memo_is_recorded_and_merged() -> None:
    driver = begun(memo=memo({"kept": "1", "changed": "1", "gone": "1"}))
    update = {"changed": payload("2"), "gone": NIL, "never": NIL, "new": payload("3")}
    driver.complete(modify_memo(update))
    attributes = driver.last("WORKFLOW_PROPERTIES_MODIFIED").workflow_properties_modified_event_attributes
    assert dict(attributes.upserted_memo.fields) == update
    assert attributes.workflow_task_completed_event_id == 4
    merged = properties.memo(driver.transition())
    assert merged == memo({"kept": "1", "changed": "2", "new": "3"})
    assert driver.write is not None
    assert driver.write.visibility is not None
    assert driver.write.visibility.memo == driver.state.blobs["memo"]


def test_upserted_search_attributes_are_recorded_and_merged() -> None:
    driver = begun(search_attributes=common.SearchAttributes(indexed_fields={"Kw": payload("one")}))
    driver.complete(upsert_search_attributes({"Kw": payload("two"), "Txt": payload("long text")}))
    attributes = driver.last("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES")
    event = attributes.upsert_workflow_search_attributes_event_attributes
    assert event.workflow_task_completed_event_id == 4
    assert set(event.search_attributes.indexed_fields) == {"Kw", "Txt"}
    assert event.search_attributes.indexed_fields["Kw"].data == b'"two"'
    assert driver.write is not None
    assert driver.write.visibility is not None
    assert driver.write.visibility.attributes == {"Kw": "two", "Txt": "long text"}
    driver.signal()
    driver.complete(upsert_search_attributes({"Kw": NIL}))
    assert driver.write.visibility.attributes == {"Txt": "long text"}
