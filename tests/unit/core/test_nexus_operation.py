"""Nexus operations of a run: what is asked of handlers, when, and what each answer does."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.errors import NotFoundError
from perdure.core.nexus import outcomes
from perdure.core.nexus.outcomes import Ended, OutOfTime, Refused, Started, StartOutcome, Succeeded
from perdure.core.run import effects, nexus_attempts, nexus_operation
from perdure.core.run.effects import Effect, Kind
from perdure.core.run.limits import SECOND_NS, Limits
from perdure.core.run.state import NexusOperation
from tests.support.builders import (
    application_failure,
    cancel_operation,
    canceled_failure,
    complete_workflow,
    duration,
    payload,
    schedule_operation,
)
from tests.support.proto import enums
from tests.unit.core.driver import NOWHERE, Driver, begun, name_of, with_commands
from tests.unit.core.test_reset import reset_to

START, CANCEL = Effect(Kind.START_OPERATION, 5), Effect(Kind.CANCEL_OPERATION, 5)
TRANSIENT = outcomes.refused("UNAVAILABLE", "not now")
FINAL = outcomes.refused("BAD_REQUEST", "no")
State = enums.PendingNexusOperationState


def operation(driver: Driver) -> NexusOperation:
    """The one operation that is pending."""
    return driver.state.nexus_operations[5]


def answered(driver: Driver, outcome: StartOutcome, attempt: int | None = None) -> Driver:
    """The handler answers the request to start."""
    current = operation(driver).attempt if attempt is None else attempt
    driver.apply(lambda tx: nexus_operation.start_answered(tx, 5, current, outcome))
    return driver


def scheduled(**fields: Any) -> Driver:
    """A run that has scheduled an operation (event 5)."""
    return with_commands(schedule_operation(**fields))


def asked_to_cancel() -> Driver:
    """The operation has started, and is to be cancelled."""
    driver = answered(scheduled(), Started("token"))
    driver.complete(cancel_operation(5))
    return driver


def pending(driver: Driver) -> list[Effect]:
    """What the run has to do to others now."""
    return effects.pending(driver.transition())


def test_a_scheduled_operation_is_asked_for_at_once_until_it_is_answered() -> None:
    driver = scheduled(nexus_header={"Key": "v"})
    attributes = driver.history[4].nexus_operation_scheduled_event_attributes
    assert dict(attributes.nexus_header) == {"key": "v"}
    assert attributes.endpoint_id == "id of endpoint"
    assert pending(driver) == [START]
    assert driver.state.wakeup_ns == driver.now_ns
    assert effects.pending(driver.transition(), {START}) == []
    answered(driver, Started("token"))
    assert not pending(driver)
    assert not driver.transition().state.wakeup_ns
    assert driver.types(5) == ["NEXUS_OPERATION_STARTED", "WORKFLOW_TASK_SCHEDULED"]


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Succeeded(payload("r")), "COMPLETED"),
        (Ended(application_failure()), "FAILED"),
        (Ended(canceled_failure(), is_canceled=True), "CANCELED"),
        (FINAL, "FAILED"),
        (OutOfTime(nexus_attempts.SCHEDULE_TO_CLOSE), "TIMED_OUT"),
    ],
)
def test_a_final_answer_ends_the_operation(outcome: StartOutcome, event: str) -> None:
    driver = answered(scheduled(), outcome)
    assert driver.types(5) == [f"NEXUS_OPERATION_{event}", "WORKFLOW_TASK_SCHEDULED"]
    assert not driver.state.nexus_operations


def test_a_request_that_may_succeed_is_made_again_with_growing_pauses() -> None:
    driver = scheduled()
    for pause_s in (1, 2, 4):
        answered(driver, TRANSIENT)
        assert pending(driver) == []
        assert driver.state.wakeup_ns == driver.now_ns + pause_s * SECOND_NS
        shown = nexus_operation.described(operation(driver), driver.now_ns)
        assert shown.state == State.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF
        assert shown.last_attempt_failure.message == "not now"
        driver.sleep(pause_s)
        assert pending(driver) == [START]
        shown = nexus_operation.described(operation(driver), driver.now_ns)
        assert shown.state == State.PENDING_NEXUS_OPERATION_STATE_SCHEDULED
    assert operation(driver).attempt == 3
    assert nexus_attempts.backoff_ns(1000) == nexus_attempts.LONGEST_RETRY_NS


def test_the_answer_of_an_attempt_that_is_over_changes_nothing() -> None:
    driver = answered(scheduled(), TRANSIENT)
    before = driver.state.version
    tx = driver.transition()
    nexus_operation.start_answered(tx, 5, 0, Succeeded(None))
    assert tx.is_untouched
    answered(driver, Started("token"))
    tx = driver.transition()
    nexus_operation.start_answered(tx, 5, 1, Ended(application_failure()))
    assert tx.is_untouched
    assert driver.state.version == before + 1


@pytest.mark.parametrize(
    ("timeout", "is_started", "fires"),
    [
        ("schedule_to_close_timeout", False, True),
        ("schedule_to_close_timeout", True, True),
        ("schedule_to_start_timeout", False, True),
        ("schedule_to_start_timeout", True, False),
        ("start_to_close_timeout", False, False),
        ("start_to_close_timeout", True, True),
    ],
)
def test_each_timeout_is_about_its_part(timeout: str, is_started: bool, fires: bool) -> None:
    driver = scheduled(**{timeout: duration(20)})
    if is_started:
        answered(driver, Started("token"))
    driver.sleep(19)
    driver.fire()
    assert driver.state.nexus_operations
    driver.sleep(1)
    driver.fire()
    assert bool(driver.state.nexus_operations) != fires
    if fires:
        failure = driver.last("NEXUS_OPERATION_TIMED_OUT").nexus_operation_timed_out_event_attributes.failure
        name = enums.TimeoutType.Name(failure.cause.timeout_failure_info.timeout_type)
        assert name == f"TIMEOUT_TYPE_{timeout.removesuffix('_timeout').upper()}"


# --- cancel


def test_a_started_operation_is_asked_to_cancel_and_events_say_that_it_was() -> None:
    driver = asked_to_cancel()
    assert pending(driver) == [CANCEL]
    driver.apply(lambda tx: nexus_operation.cancel_answered(tx, 5, 0, TRANSIENT))
    assert pending(driver) == []
    driver.sleep(1)
    assert pending(driver) == [CANCEL]
    driver.apply(lambda tx: nexus_operation.cancel_answered(tx, 5, 1, None))
    assert pending(driver) == []
    assert driver.last("NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED").worker_may_ignore
    assert operation(driver).cancel_state == nexus_attempts.CANCEL_SUCCEEDED
    tx = driver.transition()
    nexus_operation.cancel_answered(tx, 5, 2, None)
    assert tx.is_untouched


def test_a_handler_that_refuses_to_cancel_is_not_asked_again() -> None:
    driver = asked_to_cancel()
    driver.apply(lambda tx: nexus_operation.cancel_answered(tx, 5, 0, FINAL))
    attributes = driver.last(
        "NEXUS_OPERATION_CANCEL_REQUEST_FAILED"
    ).nexus_operation_cancel_request_failed_event_attributes
    assert (attributes.requested_event_id, attributes.failure.message) == (10, "no")
    assert pending(driver) == []


def test_what_came_of_a_cancellation_needs_no_event() -> None:
    driver = asked_to_cancel()
    driver.apply(lambda tx: nexus_operation.cancel_answered(tx, 5, 0, None, records=False))
    assert name_of(driver.history[-1]) == "NEXUS_OPERATION_CANCEL_REQUESTED"


def test_a_request_to_cancel_waits_for_the_start() -> None:
    driver = scheduled()
    driver.signal()
    driver.complete(cancel_operation(5))
    assert pending(driver) == [START]
    answered(driver, Started("token"))
    assert pending(driver) == [CANCEL]


def test_an_operation_that_ended_unseen_can_still_be_cancelled_and_is_not_asked() -> None:
    driver = scheduled()
    driver.signal()
    driver.poll()
    answered(driver, Succeeded(None))
    driver.respond(cancel_operation(5))
    assert pending(driver) == []
    assert driver.types(9)[:2] == ["NEXUS_OPERATION_CANCEL_REQUESTED", "NEXUS_OPERATION_COMPLETED"]


# --- completions


def test_a_completion_ends_a_started_operation() -> None:
    driver = answered(scheduled(), Started("token"))
    request_id = operation(driver).request_id
    driver.apply(lambda tx: nexus_operation.complete(tx, 5, request_id, Succeeded(payload("r"))))
    completed = driver.last("NEXUS_OPERATION_COMPLETED").nexus_operation_completed_event_attributes
    assert completed.result == payload("r")


def test_a_completion_that_is_faster_than_the_start_says_both() -> None:
    driver = scheduled()
    request_id, started_ns = operation(driver).request_id, driver.now_ns - SECOND_NS
    driver.apply(
        lambda tx: nexus_operation.complete(
            tx, 5, request_id, Ended(application_failure()), token="token", started_ns=started_ns
        )
    )
    assert driver.types(5)[:2] == ["NEXUS_OPERATION_STARTED", "NEXUS_OPERATION_FAILED"]
    started = driver.last("NEXUS_OPERATION_STARTED")
    assert started.event_time.ToNanoseconds() == started_ns
    failed = driver.last("NEXUS_OPERATION_FAILED").nexus_operation_failed_event_attributes
    assert failed.failure.nexus_operation_execution_failure_info.operation_token == "token"


@pytest.mark.parametrize("what", ["another operation", "another request", "closed"])
def test_a_completion_of_what_is_not_pending_is_refused(what: str) -> None:
    driver = scheduled()
    request_id = operation(driver).request_id
    if what == "closed":
        driver.signal()
        driver.complete(complete_workflow())
        assert not driver.state.nexus_operations
    event_id = 9 if what == "another operation" else 5
    tx = driver.transition()
    with pytest.raises(NotFoundError, match="operation not found"):
        nexus_operation.complete(
            tx, event_id, "x" if what == "another request" else request_id, Succeeded(None)
        )


# --- commands


def refusal(driver: Driver, *commands: Any) -> str:
    """What a workflow task is told that is failed for its commands."""
    error = driver.complete(*commands).error
    assert error is not None
    return str(error)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"endpoint": NOWHERE}, 'endpoint "nowhere" not found'),
        ({"service": "x" * 1001}, "Service exceeds length limit of 1000"),
        ({"operation": "x" * 1001}, "Operation exceeds length limit of 1000"),
        ({"start_to_close_timeout": duration(-1)}, "StartToCloseTimeout is invalid: negative duration"),
        ({"nexus_header": {"Request-Timeout": "x"}}, "contains a disallowed header key"),
        ({"nexus_header": {"key": "x" * 8190}}, "NexusHeader exceeds size limit"),
    ],
)
def test_a_bad_command_fails_its_task(fields: dict[str, Any], message: str) -> None:
    assert message in refusal(begun(), schedule_operation(**fields))


def test_too_many_operations_fail_the_task() -> None:
    driver = begun(Limits(pending_nexus_operations=1))
    told = refusal(driver, schedule_operation(), schedule_operation())
    assert told.startswith("PendingNexusOperationsLimitExceeded: ")


def test_timeouts_are_cut_to_the_run_and_to_each_other() -> None:
    driver = begun(workflow_run_timeout=duration(100))
    driver.complete(schedule_operation(start_to_close_timeout=duration(500)))
    item = operation(driver)
    assert (item.schedule_to_close_ns, item.start_to_close_ns) == (100 * SECOND_NS, 100 * SECOND_NS)


# --- resets


@pytest.mark.parametrize("is_started", [False, True])
def test_a_reset_keeps_operations_and_their_request_ids(is_started: bool) -> None:
    driver = scheduled()
    if is_started:
        answered(driver, Started("token"))
    driver.signal()
    driver.poll()
    finish = driver.header.task_started_event_id + 1
    driver.respond()
    before = operation(driver)
    new = reset_to(driver, finish)
    kept = new.state.nexus_operations[5]
    assert (kept.request_id, kept.operation_token) == (before.request_id, before.operation_token)
    assert bool(kept.started_ns) == is_started
    assert (START in pending(new)) != is_started


@pytest.mark.parametrize(
    ("outcome", "told", "is_pending"),
    [
        (Started("token"), "NEXUS_OPERATION_STARTED", True),
        (Succeeded(payload("r")), "NEXUS_OPERATION_COMPLETED", False),
        (FINAL, "NEXUS_OPERATION_FAILED", False),
    ],
)
@pytest.mark.parametrize("is_excluded", [False, True])
def test_what_became_of_an_operation_later_is_told_after_a_reset(
    outcome: StartOutcome, told: str, is_pending: bool, is_excluded: bool
) -> None:
    driver = scheduled()
    driver.signal()
    driver.poll()
    finish = driver.header.task_started_event_id + 1
    driver.respond()
    answered(driver, outcome)
    nexus_events = enums.ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_NEXUS
    new = reset_to(driver, finish, excluded=[nexus_events] if is_excluded else [])
    assert (told in new.types()) != is_excluded
    assert (5 in new.state.nexus_operations) == (is_pending or is_excluded)
    assert (START in pending(new)) == is_excluded


def test_refusals_say_whether_trying_again_may_help() -> None:
    assert [TRANSIENT.may_retry, FINAL.may_retry] == [True, False]
    assert isinstance(FINAL, Refused)
