"""Signals and requests to cancel that a workflow sends to another one: initiated, and what came of it.

The other run is changed by the engine, in one commit with the outcome here (`effects`).
"""

from __future__ import annotations

import re
from typing import Any

from perdure.api.command.v1 import (
    RequestCancelExternalWorkflowExecutionCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes,
)
from perdure.api.common.v1 import WorkflowExecution
from perdure.api.enums.v1 import (
    CancelExternalWorkflowExecutionFailedCause,
    EventType,
    SignalExternalWorkflowExecutionFailedCause,
)
from perdure.api.history.v1 import HistoryEvent
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import cancellation, child, lifecycle, signal
from perdure.core.run.ids import derived_id
from perdure.core.run.limits import Limits
from perdure.core.run.records import RunKey
from perdure.core.run.state import External
from perdure.core.run.transition import Transition

_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
SIGNAL = "signal"
CANCEL = "cancel"
_INITIATED = {
    SIGNAL: EventType.Value("EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED"),
    CANCEL: EventType.Value("EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED"),
}
_DONE = {
    SIGNAL: EventType.Value("EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED"),
    CANCEL: EventType.Value("EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED"),
}
_FAILED = {
    SIGNAL: EventType.Value("EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED"),
    CANCEL: EventType.Value("EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED"),
}
NOT_FOUND = {
    SIGNAL: SignalExternalWorkflowExecutionFailedCause.Value(
        "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
    ),
    CANCEL: CancelExternalWorkflowExecutionFailedCause.Value(
        "CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
    ),
}
TOO_MANY_SIGNALS = SignalExternalWorkflowExecutionFailedCause.Value(
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_SIGNAL_COUNT_LIMIT_EXCEEDED"
)


# --- initiate ---


def check_signal(
    command: SignalExternalWorkflowExecutionCommandAttributes, own_namespace: str, limits: Limits
) -> None:
    """Checks a command.

    Raises:
        InvalidArgumentError: a field is bad; the message names it.
    """
    label = "SignalExternalWorkflowExecutionCommand"
    if not command.HasField("execution"):
        raise InvalidArgumentError(f"Execution is not set on {label}.")
    child.own_namespace(command.namespace, own_namespace)
    named = command.execution
    rest = f" RunId={named.run_id} SignalName={command.signal_name}"
    _check_target(label, command.namespace, named, rest, limits)
    if not command.signal_name:
        raise InvalidArgumentError(
            f"SignalName is not set on {label}. WorkflowId={named.workflow_id} Namespace={command.namespace} "
            f"RunId={named.run_id}"
        )


def check_cancel(
    command: RequestCancelExternalWorkflowExecutionCommandAttributes,
    own_namespace: str,
    children: set[str],
    limits: Limits,
) -> None:
    """Checks a command. `children` are the ids of children that the same workflow task starts.

    Raises:
        InvalidArgumentError: a field is bad; the message names it.
    """
    label = "RequestCancelExternalWorkflowExecutionCommand"
    child.own_namespace(command.namespace, own_namespace)
    named = WorkflowExecution(workflow_id=command.workflow_id, run_id=command.run_id)
    _check_target(label, command.namespace, named, f" RunId={named.run_id}", limits)
    if command.workflow_id in children:
        raise InvalidArgumentError(
            "Start and RequestCancel for child workflow is not allowed in same workflow task. "
            f"WorkflowId={command.workflow_id} RunId={command.run_id} Namespace={command.namespace}"
        )


def _check_target(label: str, namespace: str, named: WorkflowExecution, rest: str, limits: Limits) -> None:
    if not named.workflow_id:
        raise InvalidArgumentError(f"WorkflowId is not set on {label}. Namespace={namespace}{rest}")
    length = len(named.workflow_id.encode())
    if length > limits.id_bytes:
        is_signal = label.startswith("Signal")
        where = f" Namespace={namespace}{rest}" if is_signal else f"{rest} Namespace={namespace}"
        raise InvalidArgumentError(
            f"WorkflowId on {label} exceeds length limit. WorkflowId={named.workflow_id} Length={length} "
            f"Limit={limits.id_bytes}{where}"
        )
    if named.run_id and not _UUID.fullmatch(named.run_id):
        where = (
            f" Namespace={namespace}{rest}"
            if label.startswith("Signal")
            else f" RunId={named.run_id} Namespace={namespace}"
        )
        raise InvalidArgumentError(f"Invalid RunId set on {label}. WorkflowId={named.workflow_id}{where}")


def initiate_signal(
    tx: Transition, command: SignalExternalWorkflowExecutionCommandAttributes, completed_event_id: int
) -> HistoryEvent:
    """Records that another workflow is to be signalled; returns the initiated event."""
    event = tx.new_event(_INITIATED[SIGNAL])
    target = event.signal_external_workflow_execution_initiated_event_attributes
    target.workflow_execution.workflow_id = command.execution.workflow_id
    target.workflow_execution.run_id = command.execution.run_id
    target.signal_name = command.signal_name
    for name in ("input", "header"):
        if command.HasField(name):
            getattr(target, name).CopyFrom(getattr(command, name))
    return _initiate(tx, event, target, command, completed_event_id, SIGNAL)


def initiate_cancel(
    tx: Transition, command: RequestCancelExternalWorkflowExecutionCommandAttributes, completed_event_id: int
) -> HistoryEvent:
    """Records that another workflow is to be asked to cancel; returns the initiated event."""
    event = tx.new_event(_INITIATED[CANCEL])
    target = event.request_cancel_external_workflow_execution_initiated_event_attributes
    target.workflow_execution.workflow_id = command.workflow_id
    target.workflow_execution.run_id = command.run_id
    target.reason = command.reason
    return _initiate(tx, event, target, command, completed_event_id, CANCEL)


def _initiate(
    tx: Transition, event: HistoryEvent, target: Any, command: Any, completed_event_id: int, kind: str
) -> HistoryEvent:
    target.workflow_task_completed_event_id = completed_event_id
    target.namespace, target.namespace_id = command.namespace, tx.state.run.namespace_id
    target.control = command.control
    target.child_workflow_only = command.child_workflow_only
    tx.append(event)
    tx.externals.put(
        event.event_id,
        External(
            initiated_event_id=event.event_id,
            initiated_ns=tx.now_ns,
            kind=kind,
            workflow_id=target.workflow_execution.workflow_id,
            run_id=target.workflow_execution.run_id,
        ),
    )
    return event


# --- on the other run ---


def attributes_of(initiated: HistoryEvent) -> Any:
    """The attributes of an initiated event, whichever it is."""
    if initiated.event_type == _INITIATED[SIGNAL]:
        return initiated.signal_external_workflow_execution_initiated_event_attributes
    return initiated.request_cancel_external_workflow_execution_initiated_event_attributes


def receive(target: Transition, source: RunKey, initiated: HistoryEvent, limits: Limits) -> int:
    """Does to an open or closed run what another workflow asks for.

    Args:
        target: the other run's transition.
        source: the run that asks.
        initiated: its initiated event.
        limits: of the other run.

    Returns:
        0, or the cause why it cannot be done.

    Raises:
        ResourceExhaustedError: not now.
    """
    kind = SIGNAL if initiated.event_type == _INITIATED[SIGNAL] else CANCEL
    asked = attributes_of(initiated)
    header = target.header
    if not header.is_open:
        return NOT_FOUND[SIGNAL] if kind == SIGNAL else 0  # a run that has ended needs not be cancelled
    is_child = (header.parent_workflow_id, header.parent_run_id) == (source.workflow_id, source.run_id)
    if asked.child_workflow_only and not is_child:
        return NOT_FOUND[kind]
    sender = WorkflowExecution(workflow_id=source.workflow_id, run_id=source.run_id)
    if kind == CANCEL:
        cancellation.request(
            target,
            reason=asked.reason,
            identity=lifecycle.SERVER_IDENTITY,
            request_id="",
            links=(),
            sender=sender,
            initiated_event_id=initiated.event_id,
        )
        return 0
    try:
        signal.receive(
            target,
            name=asked.signal_name,
            input=asked.input if asked.HasField("input") else None,
            identity=lifecycle.SERVER_IDENTITY,
            header=asked.header if asked.HasField("header") else None,
            request_id=derived_id(source.run_id, initiated.event_id, SIGNAL),
            links=(),
            limits=limits,
            sender=sender,
        )
    except InvalidArgumentError:
        return TOO_MANY_SIGNALS
    return 0


# --- what came of it ---


def settled(tx: Transition, initiated: HistoryEvent, cause: int) -> None:
    """Records the outcome.

    Args:
        tx: the transition of the run that asked; the request must be pending in it.
        initiated: the initiated event.
        cause: 0 when it was done, else why not.
    """
    kind = SIGNAL if initiated.event_type == _INITIATED[SIGNAL] else CANCEL
    asked = attributes_of(initiated)
    event = tx.new_event(_FAILED[kind] if cause else _DONE[kind])
    name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower()
    target: Any = getattr(event, f"{name}_event_attributes")
    target.initiated_event_id = initiated.event_id
    target.namespace, target.namespace_id = tx.header.namespace, asked.namespace_id
    target.workflow_execution.CopyFrom(asked.workflow_execution)
    if kind == SIGNAL:
        target.control = asked.control
    if cause:
        target.cause = cause
    tx.externals.delete(initiated.event_id)
    tx.append(event)
    tx.needs_task = True
