"""Updates: what is let in, what a worker says of them, what a speculative workflow task writes and what it does not."""

from __future__ import annotations

import pytest

from perdure.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    WorkflowNotReadyError,
)
from perdure.core.run import update, workflow_task
from perdure.core.run.items import UPDATE
from perdure.core.run.limits import SECOND_NS, Limits
from perdure.core.run.state import Update
from tests.support.builders import cancel_timer, complete_workflow, start_timer
from tests.support.proto import protocol
from tests.support.updates import DISCARDS, acceptance, place, rejection, response
from tests.unit.core.driver import QUEUE, STICKY, Driver, begun, with_commands


def _brought(driver: Driver | None = None, update_id: str = "u") -> tuple[Driver, protocol.Message]:
    """A run whose worker has just been told of an update."""
    driver = driver or with_commands()
    driver.update(update_id)
    driver.poll()
    return driver, driver.messages[-1]


def _answer(driver: Driver, *messages: protocol.Message, **fields: object) -> None:
    placed = [place(message) for message in messages if not message.id.endswith("reject")]
    done = driver.respond(*placed, messages=messages, capabilities=DISCARDS, **fields)  # type: ignore[arg-type]
    assert done.error is None


def test_a_rejected_update_writes_nothing_at_all() -> None:
    driver = with_commands()
    version, events, header = driver.state.version, len(driver.history), driver.write
    waiting = driver.update()
    driver.poll()
    _answer(driver, rejection(driver.messages[0]))
    assert (driver.state.version, len(driver.history), driver.write) == (version, events, header)
    assert waiting is not None
    assert waiting.rejection is not None
    assert waiting.rejection.message == "no"
    assert not driver.header.has_pending_task


def test_an_accepted_update_writes_its_task_first() -> None:
    driver, message = _brought()
    assert message.event_id == 5
    _answer(driver, acceptance(message), response(message))
    assert driver.types(4) == [
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
        "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
    ]
    accepted = driver.history[7].workflow_execution_update_accepted_event_attributes
    assert (accepted.protocol_instance_id, accepted.accepted_request_message_id) == ("u", "u/request")
    assert accepted.accepted_request.input.name == "set"
    assert accepted.accepted_request_sequencing_event_id == 5
    completed = driver.history[8].workflow_execution_update_completed_event_attributes
    assert (completed.accepted_event_id, completed.meta.update_id) == (8, "u")
    assert driver.state.updates == {"u": Update(accepted_event_id=8, completed_event_id=9)}


def test_an_update_of_a_known_id_is_let_in_once() -> None:
    driver, message = _brought()
    first = driver.updates.waiting["u"]
    assert driver.update() is first
    _answer(driver, acceptance(message))
    assert driver.update() is None
    assert not driver.updates.waiting


def test_a_worker_that_says_nothing_rejects() -> None:
    driver, _ = _brought()
    waiting = driver.updates.waiting["u"]
    driver.respond(start_timer("t", 5))
    assert waiting.rejection == update.UNPROCESSED


def test_a_heartbeat_leaves_the_update_with_its_worker() -> None:
    driver, message = _brought()
    driver.respond(force_create_new_workflow_task=True, return_new_workflow_task=True)
    assert driver.updates.waiting["u"].sent
    assert driver.updates.send(9, again=False) == ()
    assert not driver.header.task_is_speculative
    _answer(driver, acceptance(message))
    assert "u" in driver.state.updates


def test_what_is_written_while_it_waits_makes_the_task_a_normal_one() -> None:
    driver = with_commands()
    driver.update()
    driver.signal()
    assert driver.types(4) == ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_EXECUTION_SIGNALED"]
    assert driver.tasks
    token = driver.poll()
    assert (token.scheduled_event_id, token.started_event_id) == (5, 7)
    assert driver.messages[0].event_id == 6


def test_what_happens_while_it_is_started_keeps_the_ids_its_worker_knows() -> None:
    driver, message = _brought()
    token = driver.token()
    driver.signal()
    assert driver.token() == token
    assert driver.types(4) == ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED"]
    _answer(driver, rejection(message))
    assert driver.types(6)[:2] == ["WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_SIGNALED"]


@pytest.mark.parametrize(("sticky_on", "limit_s"), [("", 5), (STICKY, 10)])
def test_a_speculative_task_that_nobody_takes_becomes_a_normal_first_attempt(
    sticky_on: str, limit_s: int
) -> None:
    driver = begun()
    driver.complete(sticky_on=sticky_on)
    driver.update()
    assert driver.state.wakeup_ns == driver.now_ns + limit_s * SECOND_NS
    driver.wake()
    assert driver.types(4) == [
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_TIMED_OUT",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    assert driver.header.task_attempt == 1
    driver.poll()
    assert [message.protocol_instance_id for message in driver.messages] == ["u"]


def test_a_failed_speculative_task_is_written_and_brings_the_update_again() -> None:
    driver, _ = _brought()
    driver.fail_task()
    assert driver.types(4) == ["WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED", "WORKFLOW_TASK_FAILED"]
    assert driver.history[5].workflow_task_started_event_attributes.identity == "worker"
    driver.poll()
    assert [message.protocol_instance_id for message in driver.messages] == ["u"]


def test_the_worker_that_cannot_take_events_twice_gets_them_written() -> None:
    driver = with_commands(start_timer("t", 5))
    _, message = _brought(driver)
    done = driver.respond(messages=[rejection(message)])
    assert done.reset_event_id is None
    assert driver.types(5) == [
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
    ]


def test_many_events_are_not_shown_again_and_again() -> None:
    limits = Limits(discarded_events=2)
    driver = with_commands(*(start_timer(name, 5) for name in "abc"), limits=limits)
    _, message = _brought(driver)
    done = driver.respond(messages=[rejection(message)], capabilities=DISCARDS)
    assert done.reset_event_id is None
    assert driver.types()[-1] == "WORKFLOW_TASK_COMPLETED"


def test_an_update_that_came_meanwhile_follows_in_the_answer() -> None:
    driver, message = _brought()
    driver.update("later")
    done = driver.respond(messages=[rejection(message)], capabilities=DISCARDS, return_new_workflow_task=True)
    assert done.brings_updates
    assert done.reset_event_id == 3


def test_an_update_that_came_meanwhile_gets_a_normal_task_if_it_cannot_follow() -> None:
    driver = begun()
    driver.poll()
    driver.update()
    driver.respond()
    assert driver.types(4) == ["WORKFLOW_TASK_SCHEDULED"]
    assert driver.tasks


def test_a_closed_run_writes_no_acceptance() -> None:
    driver, message = _brought()
    driver.respond(complete_workflow(), messages=[acceptance(message), response(message)])
    assert driver.types()[-1] == "WORKFLOW_EXECUTION_COMPLETED"
    assert not driver.state.updates


def test_a_terminated_run_forgets_a_task_that_nobody_took() -> None:
    driver = with_commands()
    driver.update()
    driver.terminate()
    assert driver.types(4) == ["WORKFLOW_EXECUTION_TERMINATED"]


def test_a_lost_update_is_known_again_from_its_acceptance() -> None:
    """After a restart the worker's answer to a task that was stored may bring an update nobody here remembers."""
    driver = begun()
    driver.update()
    driver.poll()
    (message,) = driver.messages
    driver.lose_memory()
    _answer(driver, acceptance(message), response(message))
    assert driver.state.updates["u"].completed_event_id == 6


def test_a_lost_update_may_still_be_rejected() -> None:
    driver = begun()
    driver.update()
    driver.poll()
    (message,) = driver.messages
    driver.lose_memory()
    _answer(driver, rejection(message))
    assert driver.types()[-1] == "WORKFLOW_TASK_COMPLETED"


def _bad(driver: Driver, message: protocol.Message, what: str) -> list[protocol.Message]:
    unknown = acceptance(message, with_request=False)
    unknown.protocol_instance_id = "x"
    other = response(message)
    other.protocol_instance_id = "v"
    return {
        "unknown": [unknown],
        "response first": [response(message)],
        "twice": [acceptance(message), acceptance(message)],
        "rejected and accepted": [rejection(message), acceptance(message)],
        "response of another": [acceptance(message), other],
    }[what]


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("unknown", "update x wasn't found on the server"),
        ("response first", r"received \*update.Response message while in state Sent"),
        ("twice", r"received \*update.Acceptance message while in state ProvisionallyAccepted"),
        ("rejected and accepted", r"while in state ProvisionallyCompleted"),
        ("response of another", "update v wasn't found"),
    ],
)
def test_messages_that_make_no_sense_fail_the_task(what: str, complaint: str) -> None:
    driver, message = _brought()
    waiting = driver.updates.waiting["u"]
    messages = _bad(driver, message, what)
    for number, bad in enumerate(messages):
        bad.id = f"m{number}"
    done = driver.respond(messages=messages)
    with pytest.raises(InvalidArgumentError, match=f"BadUpdateWorkflowExecutionMessage: .*{complaint}"):
        raise done.error or AssertionError
    assert driver.types()[-1] == "WORKFLOW_TASK_FAILED"
    assert not driver.state.updates
    with pytest.raises(WorkflowNotReadyError, match="unexpected workflow task failure"):
        raise waiting.error or AssertionError


def test_limits_are_named() -> None:
    driver = with_commands(limits=Limits(updates_in_flight=2, updates_total=3))
    for update_id in "ab":
        _, message = _brought(driver, update_id)
        _answer(driver, acceptance(message))
    with pytest.raises(ResourceExhaustedError, match=r"concurrent in-flight updates has been reached \(2\)"):
        driver.update("c")
    driver.signal()
    driver.complete(
        *(place(response(protocol.Message(protocol_instance_id=i))) for i in "ab"),
        messages=[response(protocol.Message(protocol_instance_id=i)) for i in "ab"],
    )
    _, message = _brought(driver, "c")
    _answer(driver, acceptance(message), response(message))
    with pytest.raises(FailedPreconditionError, match=r"has been reached \(3\)"):
        driver.update("d")


def test_requests_that_are_too_large_together_are_refused() -> None:
    driver = with_commands(limits=Limits(updates_in_flight_bytes=20))
    driver.update("a")
    with pytest.raises(ResourceExhaustedError, match=r"payload size of in-flight updates .*\(20 bytes\)"):
        driver.update("b")


def test_a_run_whose_tasks_keep_failing_takes_no_update() -> None:
    driver = begun()
    for _ in range(2):
        driver.poll()
        driver.fail_task()
    with pytest.raises(WorkflowNotReadyError, match="in failed state"):
        driver.update()


def test_a_run_that_was_kept_from_closing_takes_no_update() -> None:
    driver = begun()
    driver.poll()
    driver.signal()
    driver.respond(complete_workflow())
    driver.poll()
    driver.state.header.task_close_refused = True
    with pytest.raises(ResourceExhaustedError, match="workflow is closing"):
        driver.update()


def test_many_updates_suggest_to_continue_as_new() -> None:
    driver = with_commands(limits=Limits(updates_total=2, updates_suggest_continue_as_new=0.5))
    driver.update()
    driver.poll()
    assert driver.header.task_suggest_reasons == [3]


def test_a_run_without_updates_keeps_no_word_of_them() -> None:
    """Absent state costs nothing: neither in the header nor as items."""
    driver = with_commands(start_timer("t", 5))
    driver.signal()
    driver.complete(cancel_timer("t"))
    assert driver.write is not None
    assert b"update" not in driver.write.header
    assert b"speculative" not in driver.write.header
    assert not [kind for kind, _ in driver.items if kind == "update"]
    assert not driver.transition().may_have(UPDATE)


def test_a_task_that_others_wait_for_is_never_speculative() -> None:
    driver = begun()
    with pytest.raises(Exception, match="another workflow task comes first"):
        driver.apply(lambda tx: workflow_task.schedule_speculative(tx, driver.limits))
    assert driver.header.task_queue == QUEUE


def test_a_paused_run_takes_no_update_and_brings_none() -> None:
    driver, message = _brought()
    driver.update("later")
    driver.pause()
    with pytest.raises(FailedPreconditionError, match="Workflow is paused"):
        driver.update("refused")
    done = driver.respond(messages=[rejection(message)], capabilities=DISCARDS, return_new_workflow_task=True)
    assert not done.brings_updates
    assert not driver.header.has_pending_task
    driver.unpause()
    driver.poll()
    assert [brought.protocol_instance_id for brought in driver.messages] == ["later"]
