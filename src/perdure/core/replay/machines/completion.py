"""The four ways in which code closes its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import (
    CancelWorkflowExecutionCommandAttributes,
    Command,
    CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
)
from perdure.api.common.v1 import SearchAttributes
from perdure.api.enums.v1 import CommandType
from perdure.core.replay.events import (
    WORKFLOW_EXECUTION_CANCELED,
    WORKFLOW_EXECUTION_COMPLETED,
    WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    WORKFLOW_EXECUTION_FAILED,
)
from perdure.core.replay.instructions import (
    CancelWorkflowExecution,
    CompleteWorkflow,
    ContinueAsNew,
    FailWorkflow,
)
from perdure.core.replay.machines.base import Machine

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

# Names of an enumeration are looked up by name each time.
_COMPLETE: Final = CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION

Closing = CompleteWorkflow | FailWorkflow | CancelWorkflowExecution | ContinueAsNew


class CompletionMachine(Machine):
    """The end of the run."""

    __slots__ = ("instruction",)

    def __init__(self, instruction: Closing) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction

    def command(self, ledger: Ledger, kind: int) -> Command:
        instruction = self.instruction
        if isinstance(instruction, CompleteWorkflow):
            return Command(
                command_type=_COMPLETE,
                complete_workflow_execution_command_attributes=CompleteWorkflowExecutionCommandAttributes(
                    result=instruction.result
                ),
            )
        if isinstance(instruction, FailWorkflow):
            return Command(
                command_type=CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
                fail_workflow_execution_command_attributes=FailWorkflowExecutionCommandAttributes(
                    failure=instruction.failure
                ),
            )
        if isinstance(instruction, CancelWorkflowExecution):
            return Command(
                command_type=CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION,
                cancel_workflow_execution_command_attributes=CancelWorkflowExecutionCommandAttributes(
                    details=instruction.details
                ),
            )
        return Command(
            command_type=CommandType.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION,
            continue_as_new_workflow_execution_command_attributes=_inherit(ledger, instruction.attributes),
        )

    def asked(self, kind: int) -> str:
        instruction = self.instruction
        if isinstance(instruction, FailWorkflow):
            return f"FailWorkflow(message {instruction.failure.message!r})"
        if isinstance(instruction, ContinueAsNew):
            return f"ContinueAsNew(workflow_type {instruction.attributes.workflow_type.name!r})"
        return "CompleteWorkflow" if isinstance(instruction, CompleteWorkflow) else "CancelWorkflow"


def _inherit(
    ledger: Ledger, attributes: ContinueAsNewWorkflowExecutionCommandAttributes
) -> ContinueAsNewWorkflowExecutionCommandAttributes:
    """The new run has the memo, retry policy and search attributes of this one where the code names none."""
    started, new = ledger.started, ContinueAsNewWorkflowExecutionCommandAttributes()
    new.CopyFrom(attributes)
    if started is not None:
        if not new.memo.fields and started.memo.fields:
            new.memo.CopyFrom(started.memo)
        if not new.HasField("retry_policy") and started.HasField("retry_policy"):
            new.retry_policy.CopyFrom(started.retry_policy)
    if not new.HasField("search_attributes"):
        current = SearchAttributes()
        if started is not None:
            current.CopyFrom(started.search_attributes)
        for name, payload in ledger.upserted.items():
            current.indexed_fields[name].CopyFrom(payload)
        if current.indexed_fields:
            new.search_attributes.CopyFrom(current)
    return new


_KINDS: dict[type, int] = {
    CompleteWorkflow: WORKFLOW_EXECUTION_COMPLETED,
    FailWorkflow: WORKFLOW_EXECUTION_FAILED,
    CancelWorkflowExecution: WORKFLOW_EXECUTION_CANCELED,
    ContinueAsNew: WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
}


def close(ledger: Ledger, instruction: Closing) -> None:
    """The code closes the run."""
    ledger.is_complete = True
    ledger.commands.append((CompletionMachine(instruction), _KINDS[type(instruction)]))
