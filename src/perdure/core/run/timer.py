"""User timers: start, fire, cancel."""

from __future__ import annotations

from perdure.api.command.v1 import StartTimerCommandAttributes
from perdure.api.enums.v1 import EventType
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.protos import duration_ns
from perdure.core.run.state import Timer
from perdure.core.run.transition import Transition

_STARTED = EventType.Value("EVENT_TYPE_TIMER_STARTED")
_FIRED = EventType.Value("EVENT_TYPE_TIMER_FIRED")
_CANCELED = EventType.Value("EVENT_TYPE_TIMER_CANCELED")


def start(tx: Transition, command: StartTimerCommandAttributes, completed_event_id: int) -> None:
    """Starts a timer.

    Raises:
        InvalidArgumentError: a pending timer has this id.
    """
    if command.timer_id in tx.timers:
        raise InvalidArgumentError(
            f"invalid history builder state for action: add-timer-started-event, TimerID: {command.timer_id}"
        )
    event = tx.new_event(_STARTED)
    attributes = event.timer_started_event_attributes
    attributes.timer_id = command.timer_id
    if command.HasField("start_to_fire_timeout"):
        attributes.start_to_fire_timeout.CopyFrom(command.start_to_fire_timeout)
    attributes.workflow_task_completed_event_id = completed_event_id
    tx.append(event)
    fire_ns = tx.now_ns + duration_ns(command.start_to_fire_timeout)
    tx.timers.put(command.timer_id, Timer(command.timer_id, event.event_id, fire_ns))


def cancel(tx: Transition, timer_id: str, completed_event_id: int, identity: str) -> None:
    """Cancels a timer; one that fired but whose event still waits in the buffer is cancelled too, its event removed.

    Raises:
        InvalidArgumentError: no such timer.
    """
    timer = tx.timers.get(timer_id)
    started_event_id = timer.started_event_id if timer is not None else _take_back_fired(tx, timer_id)
    if not started_event_id:
        raise InvalidArgumentError(
            f"invalid history builder state for action: add-timer-canceled-event, TimerID: {timer_id}"
        )
    tx.timers.delete(timer_id)
    event = tx.new_event(_CANCELED)
    attributes = event.timer_canceled_event_attributes
    attributes.timer_id = timer_id
    attributes.started_event_id = started_event_id
    attributes.workflow_task_completed_event_id = completed_event_id
    attributes.identity = identity
    tx.append(event)


def _take_back_fired(tx: Transition, timer_id: str) -> int:
    for key in tx.buffered_keys():
        event = tx.buffered.get(key)
        if (
            event is not None
            and event.event_type == _FIRED
            and event.timer_fired_event_attributes.timer_id == timer_id
        ):
            tx.buffered.delete(key)
            return event.timer_fired_event_attributes.started_event_id
    return 0


def fire(tx: Transition, timer_id: str) -> None:
    """The timer's time has come."""
    timer = tx.timers.get(timer_id)
    if timer is None or timer.fire_ns > tx.now_ns:
        return
    tx.timers.delete(timer_id)
    event = tx.new_event(_FIRED)
    attributes = event.timer_fired_event_attributes
    attributes.timer_id = timer_id
    attributes.started_event_id = timer.started_event_id
    tx.append(event)
    tx.needs_task = True
