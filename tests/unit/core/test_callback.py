"""Completion callbacks of a run: who keeps them, when they are due, what they say."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.nexus.outcomes import Ended, Succeeded
from perdure.core.run import callback, effects, lifecycle, options
from perdure.core.run.effects import Effect, Kind
from perdure.core.run.limits import SECOND_NS
from perdure.core.run.state import Callback
from tests.support.builders import (
    application_failure,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    fail_workflow,
    payload,
    payloads,
    retry_policy,
)
from tests.support.proto import common, enums, history, update
from tests.unit.core.driver import Driver, begun
from tests.unit.core.test_reset import reset_to

FIRST, SECOND = (
    common.Callback(nexus=common.Callback.Nexus(url=f"http://{name}")) for name in ("first", "second")
)
State = enums.CallbackState


def called(**fields: Any) -> Driver:
    """A run that somebody waits for, at its first workflow task."""
    return begun(completion_callbacks=[FIRST], **fields)


def pending(driver: Driver) -> list[Effect]:
    """What the run has to do to others now."""
    return effects.pending(driver.transition())


def states(driver: Driver) -> list[int]:
    """The states of the run's callbacks, as a description shows them."""
    return [info.state for info in callback.described(driver.transition())]


def test_a_callback_waits_for_the_end_and_is_then_due_at_once() -> None:
    driver = called()
    assert (pending(driver), states(driver)) == ([], [State.CALLBACK_STATE_STANDBY])
    driver.complete(complete_workflow(payloads("r")))
    assert (pending(driver), states(driver)) == (
        [Effect(Kind.CALL_BACK, 1)],
        [State.CALLBACK_STATE_SCHEDULED],
    )
    assert driver.state.wakeup_ns == driver.now_ns
    driver.apply(lambda tx: callback.delivered(tx, 1))
    assert (pending(driver), states(driver)) == ([], [State.CALLBACK_STATE_SUCCEEDED])
    assert driver.state.wakeup_ns == driver.header.close_ns + driver.header.retention_ns


def test_a_callback_that_fails_is_tried_again_until_it_cannot_help() -> None:
    driver = called()
    driver.complete(complete_workflow())
    driver.apply(lambda tx: callback.not_delivered(tx, 1, "down", may_retry=True))
    assert (pending(driver), states(driver)) == ([], [State.CALLBACK_STATE_BACKING_OFF])
    assert driver.state.wakeup_ns == driver.now_ns + SECOND_NS
    driver.sleep(1)
    assert pending(driver) == [Effect(Kind.CALL_BACK, 1)]
    driver.apply(lambda tx: callback.not_delivered(tx, 1, "gone", may_retry=False))
    assert (pending(driver), states(driver)) == ([], [State.CALLBACK_STATE_FAILED])
    shown = callback.described(driver.transition())[0]
    assert (shown.attempt, shown.last_attempt_failure.message) == (2, "gone")


@pytest.mark.parametrize(
    "closing", [continue_as_new(), fail_workflow(application_failure())], ids=["continue", "retry"]
)
def test_the_next_run_of_a_chain_takes_callbacks_over(closing: Any) -> None:
    driver = called(retry_policy=retry_policy(attempts=2, initial_s=1))
    driver.complete(closing)
    assert (pending(driver), states(driver)) == ([], [State.CALLBACK_STATE_STANDBY])
    following = driver.following
    assert following is not None
    started = following.history[0].workflow_execution_started_event_attributes
    assert list(started.completion_callbacks) == [FIRST]
    assert states(following) == [State.CALLBACK_STATE_STANDBY]


def test_callbacks_are_attached_once_to_an_open_run() -> None:
    driver = called()
    for _ in range(2):
        driver.apply(lambda tx: options.attach(tx, request_id="q", links=(), callbacks=[SECOND]))
    assert [item.request_id for item in driver.state.callbacks.values()][1:] == ["q"]
    link = callback.start_link(driver.transition(), driver.state.callbacks[2])
    assert link.workflow_event.request_id_ref.request_id == "q"
    link = callback.start_link(driver.transition(), driver.state.callbacks[1])
    assert link.workflow_event.event_ref.event_id == 1


def test_the_run_that_a_reset_makes_calls_back_and_the_one_before_does_not() -> None:
    driver = called()
    driver.complete()
    driver.signal()
    driver.poll()
    finish = driver.header.task_started_event_id + 1
    driver.respond()
    new = reset_to(driver, finish)
    assert states(new) == [State.CALLBACK_STATE_STANDBY]
    assert not driver.header.is_open
    assert (pending(driver), states(driver)) == ([], [State.CALLBACK_STATE_STANDBY])


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("complete", Succeeded(payload("r"))),
        ("nothing", Succeeded(callback.no_payload())),
        ("fail", Ended(application_failure())),
        ("terminate", "operation terminated"),
        ("cancel", "operation canceled"),
        ("time out", "operation exceeded internal timeout"),
    ],
)
def test_what_is_told_of_each_end(end: str, outcome: Any) -> None:
    driver = begun(completion_callbacks=[FIRST])
    if end == "complete":
        driver.complete(complete_workflow(payloads("r", "more")))
    elif end == "nothing":
        driver.complete(complete_workflow())
    elif end == "fail":
        driver.complete(fail_workflow(application_failure()))
    elif end == "terminate":
        driver.terminate()
    else:
        _close_by(driver, end)
    told = callback.outcome(driver.history[-1])
    if isinstance(outcome, str):
        assert isinstance(told, Ended)
        assert told.cause.message == outcome
        assert told.is_canceled == (end == "cancel")
    else:
        assert told == outcome


def _close_by(driver: Driver, end: str) -> None:
    if end == "cancel":
        driver.complete(cancel_workflow())
    else:
        driver.apply(lifecycle.time_out)


@pytest.mark.parametrize(
    ("outcome", "rejection", "told"),
    [
        (update.Outcome(success=payloads("r", "more")), None, Succeeded(payload("r"))),
        (update.Outcome(success=payloads()), None, Succeeded(callback.no_payload())),
        (update.Outcome(failure=application_failure()), None, Ended(application_failure())),
        (None, application_failure(), Ended(application_failure())),
        (None, None, Ended(callback.OUTLIVED)),
    ],
    ids=["succeeded", "nothing", "failed", "refused", "outlived"],
)
def test_what_is_told_of_each_end_of_an_update(outcome: Any, rejection: Any, told: Any) -> None:
    event = history.HistoryEvent()
    if outcome is not None:
        event.workflow_execution_update_completed_event_attributes.outcome.CopyFrom(outcome)
    data = rejection.SerializeToString() if rejection is not None else b""
    assert callback.told(Callback(1, update_id="u", rejection=data), event) == told
