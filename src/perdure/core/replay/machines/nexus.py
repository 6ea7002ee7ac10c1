"""Nexus operations: they start (or answer at once), then they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import Command, RequestCancelNexusOperationCommandAttributes
from perdure.api.enums.v1 import CommandType
from perdure.api.failure.v1 import CanceledFailureInfo, Failure, NexusOperationFailureInfo
from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.activation import ResolveNexusOperation, ResolveNexusOperationStart
from perdure.core.replay.events import (
    NEXUS_CANCEL_COMPLETED,
    NEXUS_CANCEL_FAILED,
    NEXUS_CANCEL_REQUESTED,
    NEXUS_CANCELED,
    NEXUS_COMPLETED,
    NEXUS_SCHEDULED,
    NEXUS_STARTED,
    attributes_of,
)
from perdure.core.replay.flags import COMPARES_IDS
from perdure.core.replay.instructions import CancelNexusOperation, NexusCancellation, ScheduleNexusOperation
from perdure.core.replay.machines.base import Machine

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

_CREATED: Final = 0
_SCHEDULED: Final = 1
_STARTED: Final = 2
_RESOLVED: Final = 3


class NexusMachine(Machine):
    """One operation. `_RESOLVED`: the code has its answer, whatever becomes of the operation."""

    __slots__ = ("cancel_sent", "instruction", "scheduled_event_id", "state", "token")

    def __init__(self, instruction: ScheduleNexusOperation) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction
        self.state = _CREATED
        self.scheduled_event_id = 0
        self.cancel_sent = False
        self.token = ""

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        if kind == NEXUS_CANCEL_REQUESTED:
            requested = event.nexus_operation_cancel_requested_event_attributes
            if requested.scheduled_event_id != self.scheduled_event_id:
                raise ledger.differs(event, self, kind)
            return
        recorded, own = event.nexus_operation_scheduled_event_attributes, self.instruction.attributes
        if (recorded.endpoint, recorded.service, recorded.operation) != (
            own.endpoint,
            own.service,
            own.operation,
        ) and ledger.flags.may_use(COMPARES_IDS, ledger.is_last_task):
            raise ledger.differs(event, self, kind)
        if self.state == _CREATED:
            self.state = _SCHEDULED
        self.scheduled_event_id = event.event_id
        ledger.by_event_id[event.event_id] = self

    def on_event(self, ledger: Ledger, event: HistoryEvent, event_type: int) -> None:
        if event_type in (NEXUS_CANCEL_COMPLETED, NEXUS_CANCEL_FAILED):
            self._on_cancel_answer(ledger, event, event_type)
            return
        if event_type != NEXUS_STARTED:
            # Its last event; answers to a request to cancel that come later are for nobody.
            ledger.by_event_id.pop(self.scheduled_event_id, None)
        if self.state == _RESOLVED:
            return
        seq = self.instruction.seq
        if event_type == NEXUS_STARTED:
            self.state = _STARTED
            self.token = event.nexus_operation_started_event_attributes.operation_token
            ledger.jobs.append(ResolveNexusOperationStart(seq, self.token))
            return
        was_started = self.state == _STARTED
        if event_type == NEXUS_COMPLETED:
            completed = event.nexus_operation_completed_event_attributes
            if not was_started:
                ledger.jobs.append(ResolveNexusOperationStart(seq))
            result = completed.result if completed.HasField("result") else None
            self._resolve(ledger, ResolveNexusOperation(seq, result))
            return
        failure = attributes_of(event).failure
        if was_started:
            is_canceled = event_type == NEXUS_CANCELED
            self._resolve(ledger, ResolveNexusOperation(seq, failure=failure, is_canceled=is_canceled))
        else:
            self._resolve(ledger, ResolveNexusOperationStart(seq, failure=failure))

    def _on_cancel_answer(self, ledger: Ledger, event: HistoryEvent, event_type: int) -> None:
        if self.state != _STARTED or self.instruction.cancellation != NexusCancellation.WAIT_REQUESTED:
            return
        seq = self.instruction.seq
        if event_type == NEXUS_CANCEL_COMPLETED:
            failure = self._canceled("Nexus operation cancellation request completed")
            self._resolve(ledger, ResolveNexusOperation(seq, failure=failure, is_canceled=True))
        else:
            cause = event.nexus_operation_cancel_request_failed_event_attributes.failure
            failure = self._failure("Nexus operation cancellation request failed", cause)
            self._resolve(ledger, ResolveNexusOperation(seq, failure=failure))

    def cancel(self, ledger: Ledger) -> None:
        """The code asks for cancellation."""
        seq, cancellation = self.instruction.seq, self.instruction.cancellation
        if self.state == _CREATED:
            self.dropped = True
            failure = self._canceled("Nexus Operation cancelled before scheduled")
            self._resolve(ledger, ResolveNexusOperationStart(seq, failure=failure))
            return
        if self.cancel_sent:
            return
        self.cancel_sent = True
        if cancellation != NexusCancellation.ABANDON:
            ledger.commands.append((self, NEXUS_CANCEL_REQUESTED))
        if cancellation in (NexusCancellation.ABANDON, NexusCancellation.TRY_CANCEL):
            failure = self._canceled("Nexus operation cancelled after starting")
            self._resolve(ledger, ResolveNexusOperation(seq, failure=failure, is_canceled=True))

    def _resolve(self, ledger: Ledger, job: ResolveNexusOperation | ResolveNexusOperationStart) -> None:
        self.state = _RESOLVED
        ledger.nexus_operations.pop(self.instruction.seq, None)
        ledger.jobs.append(job)

    def _canceled(self, message: str) -> Failure:
        return self._failure(message, Failure(canceled_failure_info=CanceledFailureInfo()))

    def _failure(self, message: str, cause: Failure) -> Failure:
        own = self.instruction.attributes
        return Failure(
            message=message,
            cause=cause,
            nexus_operation_execution_failure_info=NexusOperationFailureInfo(
                scheduled_event_id=self.scheduled_event_id,
                endpoint=own.endpoint,
                service=own.service,
                operation=own.operation,
                operation_token=self.token,
            ),
        )

    def command(self, ledger: Ledger, kind: int) -> Command:
        if kind == NEXUS_CANCEL_REQUESTED:
            return Command(
                command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_NEXUS_OPERATION,
                request_cancel_nexus_operation_command_attributes=RequestCancelNexusOperationCommandAttributes(
                    scheduled_event_id=self.scheduled_event_id
                ),
            )
        return Command(
            command_type=CommandType.COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION,
            schedule_nexus_operation_command_attributes=self.instruction.attributes,
            user_metadata=self.instruction.metadata,
        )

    def asked(self, kind: int) -> str:
        own = self.instruction.attributes
        verb = "ScheduleNexusOperation" if kind == NEXUS_SCHEDULED else "RequestCancelNexusOperation"
        return f"{verb}(endpoint {own.endpoint!r}, service {own.service!r}, operation {own.operation!r})"


def schedule_nexus_operation(ledger: Ledger, instruction: ScheduleNexusOperation) -> None:
    """The code starts an operation."""
    machine = ledger.nexus_operations[instruction.seq] = NexusMachine(instruction)
    ledger.commands.append((machine, NEXUS_SCHEDULED))


def cancel_nexus_operation(ledger: Ledger, instruction: CancelNexusOperation) -> None:
    """The code cancels an operation; one that has ended is left alone."""
    machine = ledger.nexus_operations.get(instruction.seq)
    if machine is not None:
        machine.cancel(ledger)
