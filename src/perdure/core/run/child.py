"""Child workflows, on the parent's side: initiated, started or not, ended; and what a closing parent leaves to be done.

A child is a run of its own: how it is made and told is delivered by the engine, both runs in one commit (`effects`).
"""

from __future__ import annotations

from perdure.api.command.v1 import StartChildWorkflowExecutionCommandAttributes
from perdure.api.common.v1 import Priority, WorkflowExecution
from perdure.api.enums.v1 import EventType, ParentClosePolicy, WorkflowIdReusePolicy
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import attributes, cancellation, cron, lifecycle, retry
from perdure.core.run.ids import derived_run_id
from perdure.core.run.limits import Limits
from perdure.core.run.protos import checked_duration_ns, set_duration
from perdure.core.run.records import RunKey
from perdure.core.run.state import Child
from perdure.core.run.transition import Transition

_INITIATED = EventType.Value("EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED")
_START_FAILED = EventType.Value("EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED")
_STARTED = EventType.Value("EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED")
TERMINATE = ParentClosePolicy.Value("PARENT_CLOSE_POLICY_TERMINATE")
ABANDON = ParentClosePolicy.Value("PARENT_CLOSE_POLICY_ABANDON")
_ALLOW_DUPLICATE = WorkflowIdReusePolicy.Value("WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE")
_COMMAND = "StartChildWorkflowExecutionCommand"
CLOSED_BY_PARENT = "by parent close policy"
"""The reason in the WorkflowExecutionTerminated event of a child whose parent closed."""

_COPIED = (
    "workflow_type",
    "task_queue",
    "input",
    "workflow_execution_timeout",
    "workflow_run_timeout",
    "workflow_task_timeout",
    "header",
    "retry_policy",
    "priority",
    "versioning_override",
)
"""Fields that the command, the initiated event and the child's start have in common."""
_ENDS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "COMPLETED": ("completed", ("result",), ()),
    "FAILED": ("failed", ("failure",), ("retry_state",)),
    "CANCELED": ("canceled", ("details",), ()),
    "TIMED_OUT": ("timed_out", (), ("retry_state",)),
    "TERMINATED": ("terminated", (), ()),
}
"""By the end of a closing event's type: the word in field names, the messages and numbers that the parent is told."""


# --- initiate ---


def normalize(command: StartChildWorkflowExecutionCommandAttributes, tx: Transition, limits: Limits) -> None:
    """Checks a command and fills in what it leaves open.

    Raises:
        InvalidArgumentError: a field is bad; the message names it.
    """
    header = tx.header
    command.namespace = own_namespace(command.namespace, header.namespace)
    workflow_type, namespace = command.workflow_type.name, command.namespace
    if not command.workflow_id:
        raise InvalidArgumentError(
            f"Required field WorkflowId is not set on {_COMMAND}. WorkflowType={workflow_type} Namespace={namespace}"
        )
    if not workflow_type:
        raise InvalidArgumentError(
            f"Required field WorkflowType is not set on {_COMMAND}. WorkflowId={command.workflow_id} "
            f"Namespace={namespace}"
        )
    _check_lengths(command, limits)
    where = f". WorkflowId={command.workflow_id} WorkflowType={workflow_type} Namespace={namespace}"
    execution_ns, run_ns, task_ns = (
        _timeout(command, field, label, where)
        for field, label in (
            ("workflow_execution_timeout", "WorkflowExecutionTimeout"),
            ("workflow_run_timeout", "WorkflowRunTimeout"),
            ("workflow_task_timeout", "WorkflowTaskTimeout"),
        )
    )
    if command.HasField("retry_policy"):
        try:
            retry.fill_defaults(command.retry_policy)
            retry.validate(command.retry_policy)
        except InvalidArgumentError as error:
            message = f"invalid WorkflowRetryPolicy on {_COMMAND}: {error}{where}"
            raise InvalidArgumentError(message) from error
    try:
        cron.validate(command.cron_schedule, tx.now_ns)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"invalid CronSchedule on {_COMMAND}: {error}{where}") from error
    try:
        attributes.normalize_task_queue(command.task_queue, header.task_queue, limits)
    except InvalidArgumentError as error:
        queue = attributes.shown_task_queue(command.task_queue)
        message = f"invalid TaskQueue on {_COMMAND}: {error}{where} TaskQueue={queue}"
        raise InvalidArgumentError(message) from error
    run_ns, task_ns = lifecycle.effective_timeouts(execution_ns, run_ns, task_ns, limits)
    set_duration(command.workflow_run_timeout, run_ns)
    set_duration(command.workflow_task_timeout, task_ns)
    command.parent_close_policy = command.parent_close_policy or TERMINATE
    command.workflow_id_reuse_policy = command.workflow_id_reuse_policy or _ALLOW_DUPLICATE


def own_namespace(named: str, own: str) -> str:
    """The namespace a command means; only the run's own is allowed.

    Raises:
        InvalidArgumentError: another one.
    """
    if named and named != own:
        raise InvalidArgumentError("cross namespace commands are not allowed")
    return own


def _check_lengths(command: StartChildWorkflowExecutionCommandAttributes, limits: Limits) -> None:
    values = {"WorkflowId": command.workflow_id, "WorkflowType": command.workflow_type.name}
    for label, value in values.items():
        length = len(value.encode())
        if length > limits.id_bytes:
            rest = " ".join(f"{name}={other}" for name, other in values.items() if name != label)
            raise InvalidArgumentError(
                f"{label} on {_COMMAND} exceeds length limit. WorkflowId={command.workflow_id} "
                + ("" if label == "WorkflowId" else f"{label}={value} ")
                + f"Length={length} Limit={limits.id_bytes} "
                + (f"{rest} " if label == "WorkflowId" else "")
                + f"Namespace={command.namespace}"
            )


def _timeout(
    command: StartChildWorkflowExecutionCommandAttributes, field: str, label: str, where: str
) -> int:
    try:
        return checked_duration_ns(getattr(command, field), "")
    except InvalidArgumentError as error:
        reason = str(error).removeprefix("invalid : ")
        raise InvalidArgumentError(f"Invalid {label} on {_COMMAND}: {reason}{where}") from error


def initiate(
    tx: Transition, command: StartChildWorkflowExecutionCommandAttributes, completed_event_id: int
) -> HistoryEvent:
    """Records that a child is to be started, from normalised attributes.

    Returns:
        the initiated event.
    """
    event = tx.new_event(_INITIATED)
    target = event.start_child_workflow_execution_initiated_event_attributes
    target.workflow_task_completed_event_id = completed_event_id
    target.namespace = command.namespace
    target.namespace_id = tx.state.run.namespace_id
    for name in ("workflow_id", "control", "cron_schedule", "inherit_build_id"):
        setattr(target, name, getattr(command, name))
    target.parent_close_policy = command.parent_close_policy
    target.workflow_id_reuse_policy = command.workflow_id_reuse_policy
    for name in _COPIED:
        if command.HasField(name):  # type: ignore[arg-type]  # a row of the table above
            getattr(target, name).CopyFrom(getattr(command, name))
    lifecycle.copy_properties(command, target)
    tx.append(event)
    tx.children.put(
        event.event_id,
        Child(
            initiated_event_id=event.event_id,
            initiated_ns=tx.now_ns,
            workflow_id=command.workflow_id,
            workflow_type=command.workflow_type.name,
            close_policy=command.parent_close_policy,
        ),
    )
    return event


# --- started, or not ---


def start_request(tx: Transition, initiated: HistoryEvent) -> StartWorkflowExecutionRequest:
    """What starts the child that an initiated event of this run asks for."""
    source = initiated.start_child_workflow_execution_initiated_event_attributes
    request = StartWorkflowExecutionRequest(
        namespace=source.namespace,
        workflow_id=source.workflow_id,
        cron_schedule=source.cron_schedule,
        workflow_id_reuse_policy=source.workflow_id_reuse_policy,
        request_id=f"{tx.state.run.run_id}:{initiated.event_id}:0",
    )
    for name in _COPIED:
        if source.HasField(name):  # type: ignore[arg-type]  # a row of the table above
            getattr(request, name).CopyFrom(getattr(source, name))
    lifecycle.copy_properties(source, request)
    if initiated.HasField("user_metadata"):
        request.user_metadata.CopyFrom(initiated.user_metadata)
    if tx.header.priority:
        merged = Priority.FromString(tx.header.priority)
        merged.MergeFrom(request.priority)
        request.priority.CopyFrom(merged)
    return request


def new_run(tx: Transition, child: Child) -> tuple[RunKey, lifecycle.Parent]:
    """The key of a child's first run, and what it is told of its parent."""
    run, header = tx.state.run, tx.header
    run_id = derived_run_id(tx.now_ns, run.run_id, child.initiated_event_id, "child")
    parent = lifecycle.Parent(
        run.workflow_id, run.run_id, child.initiated_event_id, header.root_workflow_id, header.root_run_id
    )
    return RunKey(run.namespace_id, child.workflow_id, run_id), parent


def started(tx: Transition, initiated: HistoryEvent, run_id: str) -> None:
    """The child runs."""
    source = initiated.start_child_workflow_execution_initiated_event_attributes
    tx.children.edit(initiated.event_id).run_id = run_id
    event = tx.new_event(_STARTED)
    target = event.child_workflow_execution_started_event_attributes
    target.initiated_event_id = initiated.event_id
    target.namespace, target.namespace_id = source.namespace, source.namespace_id
    target.workflow_execution.workflow_id = source.workflow_id
    target.workflow_execution.run_id = run_id
    target.workflow_type.CopyFrom(source.workflow_type)
    if source.HasField("header"):
        target.header.CopyFrom(source.header)
    tx.append(event)
    tx.needs_task = True


def start_failed(tx: Transition, initiated: HistoryEvent, cause: int) -> None:
    """The child cannot be started. `cause` is a StartChildWorkflowExecutionFailedCause number."""
    source = initiated.start_child_workflow_execution_initiated_event_attributes
    tx.children.delete(initiated.event_id)
    event = tx.new_event(_START_FAILED)
    target = event.start_child_workflow_execution_failed_event_attributes
    target.initiated_event_id = initiated.event_id
    target.namespace, target.namespace_id = source.namespace, source.namespace_id
    target.workflow_id = source.workflow_id
    target.workflow_type.CopyFrom(source.workflow_type)
    target.control = source.control
    target.cause = cause  # type: ignore[assignment]  # an enum number
    tx.append(event)
    tx.needs_task = True


# --- ended ---


def ended(tx: Transition, initiated_event_id: int, closed: RunKey, closing: HistoryEvent) -> None:
    """The child's last run closed.

    Args:
        tx: the parent's transition; the child must be pending in it.
        initiated_event_id: which child.
        closed: the run that closed.
        closing: its last event.
    """
    child = tx.children.get(initiated_event_id)
    if child is None:
        return
    end = EventType.Name(closing.event_type).removeprefix("EVENT_TYPE_WORKFLOW_EXECUTION_")
    word, messages, numbers = _ENDS[end]
    source = getattr(closing, f"workflow_execution_{word}_event_attributes")
    event = tx.new_event(EventType.Value(f"EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_{end}"))
    target = getattr(event, f"child_workflow_execution_{word}_event_attributes")
    target.initiated_event_id = initiated_event_id
    target.started_event_id = child.started_event_id
    target.namespace, target.namespace_id = tx.header.namespace, tx.state.run.namespace_id
    target.workflow_execution.CopyFrom(
        WorkflowExecution(workflow_id=closed.workflow_id, run_id=closed.run_id)
    )
    target.workflow_type.name = child.workflow_type
    for name in messages:
        if source.HasField(name):
            getattr(target, name).CopyFrom(getattr(source, name))
    for name in numbers:
        setattr(target, name, getattr(source, name))
    tx.children.delete(initiated_event_id)
    tx.append(event)
    tx.needs_task = True


def close_with_parent(tx: Transition, child: Child, parent: RunKey) -> None:
    """Ends this open run, or asks it to end, because its parent `parent` has closed."""
    if child.close_policy == TERMINATE:
        lifecycle.terminate(tx, reason=CLOSED_BY_PARENT, details=None, identity=lifecycle.SERVER_IDENTITY)
        return
    cancellation.request(
        tx,
        reason="",
        identity=lifecycle.SERVER_IDENTITY,
        request_id="",
        links=(),
        sender=WorkflowExecution(workflow_id=parent.workflow_id, run_id=parent.run_id),
    )


def forget(tx: Transition, initiated_event_id: int) -> None:
    """This closed run has ended a child, or need not."""
    tx.children.delete(initiated_event_id)
