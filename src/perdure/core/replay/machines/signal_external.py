"""Signals to other workflows and to children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import Command
from perdure.api.enums.v1 import CommandType, SignalExternalWorkflowExecutionFailedCause
from perdure.api.failure.v1 import ApplicationFailureInfo, CanceledFailureInfo, Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.activation import ResolveSignalExternal
from perdure.core.replay.events import EXTERNAL_SIGNALED, SIGNAL_EXTERNAL_FAILED, SIGNAL_EXTERNAL_INITIATED
from perdure.core.replay.flags import COMPARES_IDS
from perdure.core.replay.instructions import CancelSignalExternalWorkflow, SignalExternalWorkflow
from perdure.core.replay.machines.base import Machine

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

_PREFIX: Final = "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_"
_NAMES: Final = {
    number: name.removeprefix(_PREFIX).title().replace("_", "")
    for name, number in SignalExternalWorkflowExecutionFailedCause.items()
}
_REASONS: Final = {
    "ExternalWorkflowExecutionNotFound": "it was not found",
    "NamespaceNotFound": "it was not found",
    "SignalCountLimitExceeded": "The per-workflow signal limit was exceeded",
}


class SignalExternalMachine(Machine):
    """One signal; it can be taken back until it is sent."""

    __slots__ = ("initiated_event_id", "instruction")

    def __init__(self, instruction: SignalExternalWorkflow) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction
        self.initiated_event_id = 0

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        recorded = event.signal_external_workflow_execution_initiated_event_attributes
        own = self.instruction.attributes
        if (
            recorded.signal_name != own.signal_name
            or recorded.workflow_execution.workflow_id != own.execution.workflow_id
        ) and ledger.flags.may_use(COMPARES_IDS, ledger.is_last_task):
            raise ledger.differs(event, self, kind)
        self.initiated_event_id = event.event_id
        ledger.by_event_id[event.event_id] = self

    def on_event(self, ledger: Ledger, event: HistoryEvent, event_type: int) -> None:
        seq = self.instruction.seq
        del ledger.by_event_id[self.initiated_event_id]
        ledger.signals.pop(seq, None)
        if event_type == EXTERNAL_SIGNALED:
            ledger.jobs.append(ResolveSignalExternal(seq))
            return
        if event_type != SIGNAL_EXTERNAL_FAILED:
            raise ledger.unexpected(event, self, SIGNAL_EXTERNAL_INITIATED)
        cause = event.signal_external_workflow_execution_failed_event_attributes.cause
        name = _NAMES.get(cause, "Unspecified")
        failure = Failure(
            message=f"Unable to signal external workflow because {_REASONS.get(name, 'unknown')}",
            application_failure_info=ApplicationFailureInfo(type=name),
        )
        ledger.jobs.append(ResolveSignalExternal(seq, failure))

    def cancel(self, ledger: Ledger) -> None:
        """The code needs the signal no more."""
        if self.initiated_event_id:
            return
        self.dropped = True
        del ledger.signals[self.instruction.seq]
        failure = Failure(
            message="Signal was cancelled before being sent", canceled_failure_info=CanceledFailureInfo()
        )
        ledger.jobs.append(ResolveSignalExternal(self.instruction.seq, failure))

    def command(self, ledger: Ledger, kind: int) -> Command:
        command = Command(
            command_type=CommandType.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION,
            signal_external_workflow_execution_command_attributes=self.instruction.attributes,
        )
        attributes = command.signal_external_workflow_execution_command_attributes
        attributes.namespace = attributes.namespace or ledger.config.namespace
        return command

    def asked(self, kind: int) -> str:
        own = self.instruction.attributes
        return f"SignalExternalWorkflow(signal_name {own.signal_name!r}, workflow_id {own.execution.workflow_id!r})"


def signal_external_workflow(ledger: Ledger, instruction: SignalExternalWorkflow) -> None:
    """The code signals another workflow."""
    machine = ledger.signals[instruction.seq] = SignalExternalMachine(instruction)
    ledger.commands.append((machine, SIGNAL_EXTERNAL_INITIATED))


def cancel_signal_external_workflow(ledger: Ledger, instruction: CancelSignalExternalWorkflow) -> None:
    """The code takes a signal back; one that was sent is left alone."""
    machine = ledger.signals.get(instruction.seq)
    if machine is not None:
        machine.cancel(ledger)
