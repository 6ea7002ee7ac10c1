"""Updates at a reset: brought again by events, waited for like others, ended by the workflow's word or its silence."""

from __future__ import annotations

from perdure.core.errors import UnavailableError
from perdure.core.run import update
from perdure.core.run.state import Update
from tests.support.proto import enums, protocol
from tests.support.updates import acceptance, place, rejection, response
from tests.unit.core.driver import Driver, with_commands
from tests.unit.core.test_reset import check_rebuilt, reset_to

UPDATE = enums.ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE
RESET_TO = 4
"""The end of the first workflow task."""


def _updated(*, completes: bool = True) -> Driver:
    """A run that has accepted the updates `a` and `b` after its first workflow task."""
    driver = with_commands()
    for update_id in ("a", "b"):
        driver.update(update_id)
        driver.poll()
        message = driver.messages[-1]
        words = [acceptance(message), *([response(message)] if completes else [])]
        assert driver.respond(*map(place, words), messages=words).error is None
    return driver


def _message(driver: Driver, update_id: str) -> protocol.Message:
    """The message that would have brought an update, made from the event that did."""
    for event in driver.history:
        admitted = event.workflow_execution_update_admitted_event_attributes
        if admitted.request.meta.update_id == update_id:
            message = protocol.Message(
                id=f"{update_id}/request", protocol_instance_id=update_id, event_id=event.event_id
            )
            message.body.Pack(admitted.request)
            return message
    raise AssertionError(f"{update_id} was not brought")


def _admitted(driver: Driver) -> list[str]:
    found = [event.workflow_execution_update_admitted_event_attributes.request for event in driver.history]
    return [request.meta.update_id for request in found if request.meta.update_id]


def test_accepted_updates_come_again_in_their_order() -> None:
    new = reset_to(_updated(), RESET_TO)
    assert new.types(RESET_TO)[:3] == [
        "WORKFLOW_EXECUTION_UPDATE_ADMITTED",
        "WORKFLOW_EXECUTION_UPDATE_ADMITTED",
        "WORKFLOW_TASK_SCHEDULED",
    ]
    attributes = new.history[RESET_TO].workflow_execution_update_admitted_event_attributes
    assert attributes.origin == enums.UpdateAdmittedEventOrigin.UPDATE_ADMITTED_EVENT_ORIGIN_REAPPLY
    assert attributes.request.input.name == "set"
    assert new.state.updates == {"a": Update(admitted_event_id=5), "b": Update(admitted_event_id=6)}


def test_updates_can_be_left_out() -> None:
    new = reset_to(_updated(), RESET_TO, excluded=[UPDATE])
    assert _admitted(new) == []
    assert new.state.updates == {}


def test_no_message_brings_what_an_event_has_brought() -> None:
    new = reset_to(_updated(), RESET_TO)
    new.update("a")
    new.poll()
    assert not new.messages


def test_the_workflow_accepts_and_completes_what_was_brought_again() -> None:
    """The accepted event leaves the request to the one that brought it."""
    new = reset_to(_updated(), RESET_TO)
    waiting = new.update("a")
    new.poll()
    words = [word for key in "ab" for word in (acceptance(_message(new, key)), response(_message(new, key)))]
    assert new.respond(*map(place, words), messages=words).error is None
    accepted = next(
        event.workflow_execution_update_accepted_event_attributes
        for event in new.history
        if event.HasField("workflow_execution_update_accepted_event_attributes")
    )
    assert not accepted.HasField("accepted_request")
    kept = new.state.updates["a"]
    assert 0 < kept.admitted_event_id < kept.accepted_event_id < kept.completed_event_id
    assert waiting is not None
    assert "a" not in new.updates.waiting
    check_rebuilt(new)


def test_the_workflow_may_reject_what_was_brought_again() -> None:
    new = reset_to(_updated(), RESET_TO)
    waiting = new.update("a")
    new.poll()
    words = [rejection(_message(new, "a")), acceptance(_message(new, "b"))]
    assert new.respond(place(words[1]), messages=words).error is None
    assert waiting is not None
    assert waiting.rejection is not None
    assert list(new.state.updates) == ["b"]


def test_silence_rejects_what_was_brought_again_also_if_nobody_waits() -> None:
    new = reset_to(_updated(), RESET_TO)
    waiting = new.update("a")
    new.poll()
    new.respond()
    assert waiting is not None
    assert waiting.rejection == update.UNPROCESSED
    assert new.state.updates == {}


def test_a_heartbeat_leaves_what_was_brought_again_with_its_worker() -> None:
    new = reset_to(_updated(), RESET_TO)
    new.poll()
    new.respond(force_create_new_workflow_task=True)
    assert list(new.state.updates) == ["a", "b"]


def test_an_update_cannot_complete_before_it_is_accepted() -> None:
    new = reset_to(_updated(), RESET_TO)
    new.poll()
    word = response(_message(new, "a"))
    done = new.respond(place(word), messages=[word])
    assert done.error is not None
    assert "received *update.Response message while in state Sent" in str(done.error)


def test_a_reset_of_a_reset_brings_each_update_once() -> None:
    """Whether the workflow has accepted it meanwhile or not."""
    first = reset_to(_updated(), RESET_TO)
    first.poll()
    word = acceptance(_message(first, "a"))
    first.respond(place(word), messages=[word])
    assert _admitted(reset_to(first, RESET_TO)) == ["a", "b"]


def test_an_answer_that_is_lost_is_asked_for_again() -> None:
    """A commit of unknown outcome turns out to have rejected the update: why is known to nobody."""
    new = reset_to(_updated(), RESET_TO)
    waiting = new.update("a")
    new.state.updates.clear()
    new.updates.forget_accepted(new.state)
    assert waiting is not None
    assert isinstance(waiting.error, UnavailableError)
    assert not new.updates.waiting
