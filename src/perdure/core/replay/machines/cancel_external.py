"""Cancellation requests to other workflows, and to children on behalf of their machines (which nothing answers)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import Command, RequestCancelExternalWorkflowExecutionCommandAttributes
from perdure.api.enums.v1 import CancelExternalWorkflowExecutionFailedCause, CommandType
from perdure.api.failure.v1 import ApplicationFailureInfo, Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.activation import ResolveCancelExternal
from perdure.core.replay.events import (
    CANCEL_EXTERNAL_FAILED,
    CANCEL_EXTERNAL_INITIATED,
    EXTERNAL_CANCEL_REQUESTED,
)
from perdure.core.replay.flags import COMPARES_IDS
from perdure.core.replay.instructions import CancelExternalWorkflow
from perdure.core.replay.machines.base import Machine

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

_PREFIX: Final = "CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_"
_NAMES: Final = {
    number: name.removeprefix(_PREFIX).title().replace("_", "")
    for name, number in CancelExternalWorkflowExecutionFailedCause.items()
}


class CancelExternalMachine(Machine):
    """One request. `seq` is None when no code waits for it."""

    __slots__ = ("attributes", "initiated_event_id", "seq")

    def __init__(
        self,
        seq: int | None,
        attributes: RequestCancelExternalWorkflowExecutionCommandAttributes,
        source: str | None,
    ) -> None:
        super().__init__(source)
        self.seq = seq
        self.attributes = attributes
        self.initiated_event_id = 0

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        recorded = event.request_cancel_external_workflow_execution_initiated_event_attributes
        if recorded.workflow_execution.workflow_id != self.attributes.workflow_id and ledger.flags.may_use(
            COMPARES_IDS, ledger.is_last_task
        ):
            raise ledger.differs(event, self, kind)
        self.initiated_event_id = event.event_id
        ledger.by_event_id[event.event_id] = self

    def on_event(self, ledger: Ledger, event: HistoryEvent, event_type: int) -> None:
        del ledger.by_event_id[self.initiated_event_id]
        if self.seq is None:
            return
        ledger.cancels.pop(self.seq, None)
        if event_type == EXTERNAL_CANCEL_REQUESTED:
            ledger.jobs.append(ResolveCancelExternal(self.seq))
            return
        if event_type != CANCEL_EXTERNAL_FAILED:
            raise ledger.unexpected(event, self, CANCEL_EXTERNAL_INITIATED)
        cause = event.request_cancel_external_workflow_execution_failed_event_attributes.cause
        name = _NAMES.get(cause, "Unspecified")
        reason = "not found" if name.endswith("NotFound") else "unknown"
        failure = Failure(
            message=f"Unable to cancel external workflow because {reason}",
            application_failure_info=ApplicationFailureInfo(type=name),
        )
        ledger.jobs.append(ResolveCancelExternal(self.seq, failure))

    def command(self, ledger: Ledger, kind: int) -> Command:
        return Command(
            command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION,
            request_cancel_external_workflow_execution_command_attributes=self.attributes,
        )

    def asked(self, kind: int) -> str:
        return f"RequestCancelExternalWorkflow(workflow_id {self.attributes.workflow_id!r})"


def add(
    ledger: Ledger,
    seq: int | None,
    attributes: RequestCancelExternalWorkflowExecutionCommandAttributes,
    source: str | None,
) -> None:
    """A request is to be sent."""
    machine = CancelExternalMachine(seq, attributes, source)
    if seq is not None:
        ledger.cancels[seq] = machine
    ledger.commands.append((machine, CANCEL_EXTERNAL_INITIATED))


def cancel_external_workflow(ledger: Ledger, instruction: CancelExternalWorkflow) -> None:
    """The code cancels another workflow."""
    attributes = RequestCancelExternalWorkflowExecutionCommandAttributes()
    attributes.CopyFrom(instruction.attributes)
    attributes.reason = (
        f"Cancel requested by workflow with run id {ledger.run_id} with reason: {attributes.reason}"
    )
    add(ledger, instruction.seq, attributes, instruction.source)
