"""Timers. The code resolves a cancelled timer by itself, so only firing is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import CancelTimerCommandAttributes, Command, StartTimerCommandAttributes
from perdure.api.enums.v1 import CommandType
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protobuf import Duration
from perdure.core.replay.activation import FireTimer
from perdure.core.replay.events import TIMER_CANCELED, TIMER_FIRED, TIMER_STARTED
from perdure.core.replay.flags import COMPARES_IDS
from perdure.core.replay.instructions import CancelTimer, StartTimer
from perdure.core.replay.machines.base import Machine

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

_CREATED: Final = 0
_STARTED: Final = 1
_CANCELLING: Final = 2
_SECOND_NS: Final = 1_000_000_000


class TimerMachine(Machine):
    """One timer; its id on the wire is its number."""

    __slots__ = ("instruction", "state")

    def __init__(self, instruction: StartTimer) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction
        self.state = _CREATED

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        if kind == TIMER_STARTED:
            timer_id = event.timer_started_event_attributes.timer_id
            if timer_id != str(self.instruction.seq) and ledger.flags.may_use(
                COMPARES_IDS, ledger.is_last_task
            ):
                raise ledger.differs(event, self, kind)
            self.state = _STARTED
            ledger.by_event_id[event.event_id] = self
        else:
            timer_id = event.timer_canceled_event_attributes.timer_id
            if timer_id != str(self.instruction.seq) and ledger.flags.may_use(
                COMPARES_IDS, ledger.is_last_task
            ):
                raise ledger.differs(event, self, kind)
            ledger.by_event_id.pop(event.timer_canceled_event_attributes.started_event_id, None)

    def on_event(self, ledger: Ledger, event: HistoryEvent, event_type: int) -> None:
        if event_type != TIMER_FIRED or self.state != _STARTED:
            raise ledger.unexpected(event, self, TIMER_STARTED)
        attributes = event.timer_fired_event_attributes
        if attributes.timer_id != str(self.instruction.seq):
            raise ledger.differs(event, self, TIMER_STARTED)
        del ledger.by_event_id[attributes.started_event_id]
        ledger.timers.pop(self.instruction.seq, None)
        ledger.jobs.append(FireTimer(self.instruction.seq))

    def cancel(self, ledger: Ledger) -> None:
        """The code needs the timer no more."""
        del ledger.timers[self.instruction.seq]
        if self.state == _CREATED:
            self.dropped = True
        elif self.state == _STARTED:
            self.state = _CANCELLING
            ledger.commands.append((self, TIMER_CANCELED))

    def command(self, ledger: Ledger, kind: int) -> Command:
        timer_id = str(self.instruction.seq)
        if kind == TIMER_CANCELED:
            return Command(
                command_type=CommandType.COMMAND_TYPE_CANCEL_TIMER,
                cancel_timer_command_attributes=CancelTimerCommandAttributes(timer_id=timer_id),
            )
        seconds, nanos = divmod(self.instruction.duration_ns, _SECOND_NS)
        return Command(
            command_type=CommandType.COMMAND_TYPE_START_TIMER,
            start_timer_command_attributes=StartTimerCommandAttributes(
                timer_id=timer_id, start_to_fire_timeout=Duration(seconds=seconds, nanos=nanos)
            ),
            user_metadata=self.instruction.metadata,
        )

    def asked(self, kind: int) -> str:
        if kind == TIMER_CANCELED:
            return f"CancelTimer(timer_id '{self.instruction.seq}')"
        duration_s = self.instruction.duration_ns / _SECOND_NS
        return f"StartTimer(timer_id '{self.instruction.seq}', {duration_s:g} s)"


def start_timer(ledger: Ledger, instruction: StartTimer) -> None:
    """The code starts a timer."""
    machine = ledger.timers[instruction.seq] = TimerMachine(instruction)
    ledger.commands.append((machine, TIMER_STARTED))


def cancel_timer(ledger: Ledger, instruction: CancelTimer) -> None:
    """The code cancels a timer; one that has fired is left alone."""
    machine = ledger.timers.get(instruction.seq)
    if machine is not None:
        machine.cancel(ledger)
