"""Child workflows: they start, then they end; a cancellation goes to them as to any other workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perdure.api.command.v1 import Command, RequestCancelExternalWorkflowExecutionCommandAttributes
from perdure.api.common.v1 import WorkflowExecution, WorkflowType
from perdure.api.enums.v1 import CommandType, RetryState, StartChildWorkflowExecutionFailedCause, TimeoutType
from perdure.api.failure.v1 import (
    ApplicationFailureInfo,
    CanceledFailureInfo,
    ChildWorkflowExecutionFailureInfo,
    Failure,
    TerminatedFailureInfo,
    TimeoutFailureInfo,
)
from perdure.api.history.v1 import HistoryEvent
from perdure.core.replay.activation import ResolveChildWorkflow, ResolveChildWorkflowStart
from perdure.core.replay.events import (
    CHILD_CANCELED,
    CHILD_COMPLETED,
    CHILD_FAILED,
    CHILD_STARTED,
    CHILD_TERMINATED,
    CHILD_TIMED_OUT,
    START_CHILD_FAILED,
    START_CHILD_INITIATED,
)
from perdure.core.replay.flags import COMPARES_IDS
from perdure.core.replay.instructions import CancelChildWorkflow, ChildCancellation, StartChildWorkflow
from perdure.core.replay.machines import cancel_external
from perdure.core.replay.machines.base import Machine

if TYPE_CHECKING:
    from perdure.core.replay.ledger import Ledger

_CREATED: Final = 0
_INITIATED: Final = 1
_STARTED: Final = 2
_RESOLVED: Final = 3

_ALREADY_EXISTS: Final = (
    StartChildWorkflowExecutionFailedCause.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS
)
_FINAL: Final = RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE


class ChildMachine(Machine):
    """One child. `_RESOLVED`: the code has its answer, whatever becomes of the child."""

    __slots__ = ("initiated_event_id", "instruction", "run_id", "started_event_id", "state")

    def __init__(self, instruction: StartChildWorkflow) -> None:
        super().__init__(instruction.source)
        self.instruction = instruction
        self.state = _CREATED
        self.initiated_event_id = 0
        self.started_event_id = 0
        self.run_id = ""

    def recorded(self, ledger: Ledger, event: HistoryEvent, kind: int) -> None:
        attributes, own = (
            event.start_child_workflow_execution_initiated_event_attributes,
            self.instruction.attributes,
        )
        if (
            attributes.workflow_id != own.workflow_id
            or attributes.workflow_type.name != own.workflow_type.name
        ) and ledger.flags.may_use(COMPARES_IDS, ledger.is_last_task):
            raise ledger.differs(event, self, kind)
        self.state = _INITIATED
        self.initiated_event_id = event.event_id
        ledger.by_event_id[event.event_id] = self

    def on_event(self, ledger: Ledger, event: HistoryEvent, event_type: int) -> None:
        if event_type == CHILD_STARTED:
            self._on_started(ledger, event)
            return
        del ledger.by_event_id[self.initiated_event_id]
        if self.state == _RESOLVED:
            return
        if event_type == START_CHILD_FAILED:
            self._on_start_failed(ledger, event)
            return
        seq = self.instruction.seq
        if event_type == CHILD_COMPLETED:
            completed = event.child_workflow_execution_completed_event_attributes
            job = ResolveChildWorkflow(seq, completed.result if completed.HasField("result") else None)
        elif event_type == CHILD_FAILED:
            failed = event.child_workflow_execution_failed_event_attributes
            failure = self._failure("Child Workflow execution failed", failed.failure, failed.retry_state)
            job = ResolveChildWorkflow(seq, failure=failure)
        elif event_type == CHILD_TIMED_OUT:
            timeout = TimeoutFailureInfo(timeout_type=TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE)
            cause = Failure(message="Timed out", timeout_failure_info=timeout)
            retry_state = event.child_workflow_execution_timed_out_event_attributes.retry_state
            failure = self._failure("Child Workflow execution timed out", cause, retry_state)
            job = ResolveChildWorkflow(seq, failure=failure)
        elif event_type == CHILD_TERMINATED:
            cause = Failure(message="Terminated", terminated_failure_info=TerminatedFailureInfo())
            failure = self._failure("Child Workflow execution terminated", cause, _FINAL)
            job = ResolveChildWorkflow(seq, failure=failure)
        elif event_type == CHILD_CANCELED:
            job = self._canceled()
        else:
            raise ledger.unexpected(event, self, START_CHILD_INITIATED)
        self._resolve(ledger)
        ledger.jobs.append(job)

    def _on_started(self, ledger: Ledger, event: HistoryEvent) -> None:
        attributes = event.child_workflow_execution_started_event_attributes
        self.started_event_id = event.event_id
        self.run_id = attributes.workflow_execution.run_id
        if self.state == _INITIATED:
            self.state = _STARTED
            ledger.jobs.append(ResolveChildWorkflowStart(self.instruction.seq, self.run_id))

    def _on_start_failed(self, ledger: Ledger, event: HistoryEvent) -> None:
        cause = event.start_child_workflow_execution_failed_event_attributes.cause
        own = self.instruction.attributes
        job = ResolveChildWorkflowStart(
            self.instruction.seq,
            already_exists=cause == _ALREADY_EXISTS,
            workflow_id=own.workflow_id,
            workflow_type=own.workflow_type.name,
        )
        if not job.already_exists:
            reason = StartChildWorkflowExecutionFailedCause.Name(cause)
            job.failure = Failure(
                message=f"The child workflow could not be started: {reason}",
                application_failure_info=ApplicationFailureInfo(type=reason, non_retryable=True),
            )
        self._resolve(ledger)
        ledger.jobs.append(job)

    def cancel(self, ledger: Ledger, reason: str) -> None:
        """The code asks for cancellation."""
        cancellation = self.instruction.cancellation
        if self.state == _CREATED:
            self.dropped = True
            cause = Failure(canceled_failure_info=CanceledFailureInfo())
            message = f"Child Workflow Execution cancelled before scheduled: {reason}"
            failure = self._failure(message, cause, _FINAL)
            self._resolve(ledger)
            ledger.jobs.append(ResolveChildWorkflowStart(self.instruction.seq, failure=failure))
            return
        own = self.instruction.attributes
        if cancellation != ChildCancellation.ABANDON:
            request = RequestCancelExternalWorkflowExecutionCommandAttributes(
                namespace=own.namespace,
                workflow_id=own.workflow_id,
                run_id=self.run_id,
                child_workflow_only=True,
                reason=reason,
            )
            cancel_external.add(ledger, None, request, self.source)
        if cancellation in (ChildCancellation.ABANDON, ChildCancellation.TRY_CANCEL):
            self._resolve(ledger)
            ledger.jobs.append(self._canceled())

    def _resolve(self, ledger: Ledger) -> None:
        self.state = _RESOLVED
        ledger.children.pop(self.instruction.seq, None)

    def _canceled(self) -> ResolveChildWorkflow:
        cause = Failure(canceled_failure_info=CanceledFailureInfo())
        failure = self._failure("Child Workflow execution cancelled", cause, _FINAL)
        return ResolveChildWorkflow(self.instruction.seq, failure=failure, is_canceled=True)

    def _failure(self, message: str, cause: Failure, retry_state: RetryState.ValueType) -> Failure:
        own = self.instruction.attributes
        return Failure(
            message=message,
            cause=cause,
            child_workflow_execution_failure_info=ChildWorkflowExecutionFailureInfo(
                namespace=own.namespace,
                workflow_execution=WorkflowExecution(workflow_id=own.workflow_id, run_id=self.run_id),
                workflow_type=WorkflowType(name=own.workflow_type.name),
                initiated_event_id=self.initiated_event_id,
                started_event_id=self.started_event_id,
                retry_state=retry_state,
            ),
        )

    def command(self, ledger: Ledger, kind: int) -> Command:
        return Command(
            command_type=CommandType.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION,
            start_child_workflow_execution_command_attributes=self.instruction.attributes,
            user_metadata=self.instruction.metadata,
        )

    def asked(self, kind: int) -> str:
        own = self.instruction.attributes
        return (
            f"StartChildWorkflow(workflow_type {own.workflow_type.name!r}, workflow_id {own.workflow_id!r})"
        )


def start_child_workflow(ledger: Ledger, instruction: StartChildWorkflow) -> None:
    """The code starts a child."""
    machine = ledger.children[instruction.seq] = ChildMachine(instruction)
    ledger.commands.append((machine, START_CHILD_INITIATED))


def cancel_child_workflow(ledger: Ledger, instruction: CancelChildWorkflow) -> None:
    """The code cancels a child; one that has ended is left alone."""
    machine = ledger.children.get(instruction.seq)
    if machine is not None:
        machine.cancel(ledger, instruction.reason)
