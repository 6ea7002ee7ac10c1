"""The operations of batches: which RPC does each to one execution, with what request, and what a job must say.

One row of `OPERATIONS` per operation; nothing else knows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message

from perdure.api.common.v1 import Execution
from perdure.api.enums.v1 import BatchOperationType, ExecutionType, ResetType
from perdure.api.workflowservice.v1 import (
    DeleteActivityExecutionRequest,
    DeleteWorkflowExecutionRequest,
    RequestCancelActivityExecutionRequest,
    RequestCancelWorkflowExecutionRequest,
    ResetActivityRequest,
    ResetWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest,
    StartBatchOperationRequest,
    TerminateActivityExecutionRequest,
    TerminateWorkflowExecutionRequest,
    UnpauseActivityRequest,
    UpdateActivityOptionsRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from perdure.core.batch.state import Target
from perdure.core.errors import InvalidArgumentError
from perdure.core.run.ids import derived_id

WORKFLOW: Final = ExecutionType.Value("EXECUTION_TYPE_WORKFLOW")
ACTIVITY: Final = ExecutionType.Value("EXECUTION_TYPE_ACTIVITY")

_STILL_OPEN: Final = "ExecutionStatus IN ('Running', 'Paused')"
_NO_ACTIVITY: Final = "Either activity type must be set, or match all should be set to true"

Build: TypeAlias = Callable[[StartBatchOperationRequest, Any, Target, str], Message]
"""From the job's request, its operation, an execution and a request id to the request for that execution."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: the field of StartBatchOperationRequest.
        type: `temporal.api.enums.v1.BatchOperationType` name, without its prefix.
        rpc: what does it to one execution.
        build: makes that RPC's request.
        check: refuses what can never succeed.
        is_for_open: executions that have closed are left out of a query.
        target: `temporal.api.enums.v1.ExecutionType` number of what it is done to.
    """

    name: str
    type: str
    rpc: str
    build: Build
    check: Callable[[Any], None]
    is_for_open: bool = True
    target: int = WORKFLOW

    @property
    def type_number(self) -> int:
        """The number of `type`."""
        return BatchOperationType.Value(f"BATCH_OPERATION_TYPE_{self.type}")

    def query(self, text: str) -> str:
        """The query of the executions that it is done to."""
        return f"({text}) AND ({_STILL_OPEN})" if text and self.is_for_open else text


def operation_of(request: StartBatchOperationRequest) -> Operation:
    """The operation that a request asks for. It has been checked."""
    return OPERATIONS[str(request.WhichOneof("operation"))]


def identity_of(request: StartBatchOperationRequest) -> str:
    """Who asks for it."""
    return str(getattr(_part(request), "identity", ""))


def targets(request: StartBatchOperationRequest) -> Sequence[Target]:
    """The executions that a request lists; none if it has a query."""
    if request.target_executions:
        return [Target(execution.business_id, execution.run_id) for execution in request.target_executions]
    return [Target(execution.workflow_id, execution.run_id) for execution in request.executions]


def shown_executions(request: StartBatchOperationRequest) -> Sequence[Execution]:
    """The executions that a request lists, as descriptions show them."""
    if request.target_executions:
        return request.target_executions
    kind = operation_of(request).target
    return [
        Execution(type=kind, business_id=execution.workflow_id, run_id=execution.run_id)  # type: ignore[arg-type]  # an ExecutionType number
        for execution in request.executions
    ]


def check(request: StartBatchOperationRequest) -> None:
    """Refuses a request that can never be done.

    Raises:
        InvalidArgumentError: it misses something, or contradicts itself.
    """
    selectors = sum(map(bool, (request.visibility_query, request.executions, request.target_executions)))
    name = request.WhichOneof("operation")
    if name is None or not request.reason or not request.namespace or not selectors:
        raise InvalidArgumentError(
            "must provide required parameters: BatchType,Reason,Namespace, AND one of (Query OR Executions OR "
            "TargetExecutions)"
        )
    if not request.job_id:
        raise InvalidArgumentError("JobId is not set on request.")
    if selectors > 1:
        raise InvalidArgumentError(
            "visibility query, executions, and target executions are mutually exclusive"
        )
    operation = OPERATIONS.get(name)
    if operation is None:
        raise InvalidArgumentError(f"The operation type {name} is not supported")
    for place, execution in enumerate(request.target_executions):
        if execution.type != operation.target:
            raise InvalidArgumentError(
                f"target_executions[{place}] has type {_shown(execution.type)}, but operation {name} requires "
                f"{_shown(operation.target)}"
            )
    operation.check(_part(request))


def request_for(request: StartBatchOperationRequest, target: Target, incarnation: str) -> Message:
    """The request that does the operation to one execution; the same one whenever it is asked for."""
    operation = operation_of(request)
    request_id = derived_id(incarnation, operation.name, target.execution_id, target.run_id)
    return operation.build(request, _part(request), target, request_id)


def _part(request: StartBatchOperationRequest) -> Any:
    return getattr(request, str(request.WhichOneof("operation")))


def _shown(kind: int) -> str:
    names = {0: "Unspecified", WORKFLOW: "Workflow", ACTIVITY: "Activity"}
    return names.get(kind, str(kind))


# --- what is refused


def _nothing(part: Any) -> None:
    pass


def _check_signal(part: Any) -> None:
    if not part.signal:
        raise InvalidArgumentError("must provide signal name")


def _check_options(part: Any) -> None:
    if not part.HasField("workflow_execution_options"):
        raise InvalidArgumentError("must provide UpdateOptions")
    if not part.HasField("update_mask"):
        raise InvalidArgumentError("must provide UpdateMask")


def _check_reset(part: Any) -> None:
    if part.HasField("options"):
        if part.options.WhichOneof("target") is None:
            raise InvalidArgumentError("batch reset missing target")
    elif part.reset_type not in ResetType.values() or not part.reset_type:
        shown = "Unspecified" if not part.reset_type else part.reset_type
        raise InvalidArgumentError(f"unknown batch reset type {shown}")


def _check_activity(missing: str) -> Callable[[Any], None]:
    def check_activity(part: Any) -> None:
        which = part.WhichOneof("activity")
        if which is None:
            raise InvalidArgumentError(missing)
        if not getattr(part, which):
            raise InvalidArgumentError(_NO_ACTIVITY)

    return check_activity


def _check_activity_options(part: Any) -> None:
    if part.HasField("activity_options") and part.restore_original:
        raise InvalidArgumentError("cannot set both activity options and restore original")
    if not part.HasField("activity_options") and not part.restore_original:
        raise InvalidArgumentError(
            "Either activity type must be set, or restore original should be set to true"
        )
    _check_activity(_NO_ACTIVITY)(part)


# --- requests


def _named(message: Any, request: StartBatchOperationRequest, target: Target) -> Any:
    """A request about a workflow's run, with everything in it that all of them have."""
    message.namespace = request.namespace
    execution = message.execution if hasattr(message, "execution") else message.workflow_execution
    execution.workflow_id, execution.run_id = target
    return message


def _terminate(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> TerminateWorkflowExecutionRequest:
    made: TerminateWorkflowExecutionRequest = _named(TerminateWorkflowExecutionRequest(), request, target)
    made.reason, made.identity = request.reason, part.identity
    if part.HasField("details"):
        made.details.CopyFrom(part.details)
    return made


def _cancel(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> RequestCancelWorkflowExecutionRequest:
    made: RequestCancelWorkflowExecutionRequest = _named(
        RequestCancelWorkflowExecutionRequest(), request, target
    )
    made.identity, made.request_id = part.identity, request_id
    return made


def _signal(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> SignalWorkflowExecutionRequest:
    made: SignalWorkflowExecutionRequest = _named(SignalWorkflowExecutionRequest(), request, target)
    made.signal_name, made.identity, made.request_id = part.signal, part.identity, request_id
    if part.HasField("input"):
        made.input.CopyFrom(part.input)
    if part.HasField("header"):
        made.header.CopyFrom(part.header)
    return made


def _delete(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> DeleteWorkflowExecutionRequest:
    made: DeleteWorkflowExecutionRequest = _named(DeleteWorkflowExecutionRequest(), request, target)
    return made


def _reset(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> ResetWorkflowExecutionRequest:
    """Without the event to reset to: whoever does it must look that up."""
    made: ResetWorkflowExecutionRequest = _named(ResetWorkflowExecutionRequest(), request, target)
    made.reason, made.identity, made.request_id = request.reason, part.identity, request_id
    chosen = part.options if part.HasField("options") else part
    made.reset_reapply_type = chosen.reset_reapply_type
    if part.HasField("options"):
        made.reset_reapply_exclude_types.extend(part.options.reset_reapply_exclude_types)
    made.post_reset_operations.extend(part.post_reset_operations)
    return made


def _update_options(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> UpdateWorkflowExecutionOptionsRequest:
    made: UpdateWorkflowExecutionOptionsRequest = _named(
        UpdateWorkflowExecutionOptionsRequest(), request, target
    )
    made.workflow_execution_options.CopyFrom(part.workflow_execution_options)
    made.update_mask.CopyFrom(part.update_mask)
    made.identity = part.identity
    return made


def _unpause_activities(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> UnpauseActivityRequest:
    made: UnpauseActivityRequest = _named(UnpauseActivityRequest(), request, target)
    made.identity = part.identity
    made.reset_attempts, made.reset_heartbeat = part.reset_attempts, part.reset_heartbeat
    made.jitter.CopyFrom(part.jitter)
    if part.WhichOneof("activity") == "type":
        made.type = part.type
    else:
        made.unpause_all = True
    return made


def _reset_activities(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> ResetActivityRequest:
    made: ResetActivityRequest = _named(ResetActivityRequest(), request, target)
    made.identity, made.reset_heartbeat, made.keep_paused = (
        part.identity,
        part.reset_heartbeat,
        part.keep_paused,
    )
    made.restore_original_options = part.restore_original_options
    made.jitter.CopyFrom(part.jitter)
    _choose_activity(made, part)
    return made


def _update_activity_options(
    request: StartBatchOperationRequest, part: Any, target: Target, request_id: str
) -> UpdateActivityOptionsRequest:
    made: UpdateActivityOptionsRequest = _named(UpdateActivityOptionsRequest(), request, target)
    made.identity, made.restore_original = part.identity, part.restore_original
    if part.HasField("activity_options"):
        made.activity_options.CopyFrom(part.activity_options)
    made.update_mask.CopyFrom(part.update_mask)
    _choose_activity(made, part)
    return made


def _choose_activity(made: Any, part: Any) -> None:
    which = part.WhichOneof("activity")
    setattr(made, which, getattr(part, which))


def _activity(message: type[Message], *, says_why: bool) -> Build:
    """The builder of a request about a standalone activity."""

    def build(request: StartBatchOperationRequest, part: Any, target: Target, request_id: str) -> Message:
        made: Any = message()
        made.namespace = request.namespace
        made.activity_id, made.run_id = target
        if says_why:
            made.identity, made.reason, made.request_id = part.identity, part.reason, request_id
        return made  # type: ignore[no-any-return]  # the message given

    return build


OPERATIONS: Final = {
    operation.name: operation
    for operation in (
        Operation(
            "termination_operation", "TERMINATE_WORKFLOW", "TerminateWorkflowExecution", _terminate, _nothing
        ),
        Operation(
            "cancellation_operation", "CANCEL_WORKFLOW", "RequestCancelWorkflowExecution", _cancel, _nothing
        ),
        Operation("signal_operation", "SIGNAL_WORKFLOW", "SignalWorkflowExecution", _signal, _check_signal),
        Operation(
            "deletion_operation",
            "DELETE_WORKFLOW",
            "DeleteWorkflowExecution",
            _delete,
            _nothing,
            is_for_open=False,
        ),
        Operation(
            "reset_operation",
            "RESET_WORKFLOW",
            "ResetWorkflowExecution",
            _reset,
            _check_reset,
            is_for_open=False,
        ),
        Operation(
            "update_workflow_options_operation",
            "UPDATE_WORKFLOW_EXECUTION_OPTIONS",
            "UpdateWorkflowExecutionOptions",
            _update_options,
            _check_options,
        ),
        Operation(
            "unpause_activities_operation",
            "UNPAUSE_ACTIVITY",
            "UnpauseActivity",
            _unpause_activities,
            _check_activity("activity filter must be set"),
        ),
        Operation(
            "reset_activities_operation",
            "RESET_ACTIVITY",
            "ResetActivity",
            _reset_activities,
            _check_activity("must provide ActivityType or MatchAll"),
        ),
        Operation(
            "update_activity_options_operation",
            "UPDATE_ACTIVITY_OPTIONS",
            "UpdateActivityOptions",
            _update_activity_options,
            _check_activity_options,
        ),
        Operation(
            "terminate_activities_operation",
            "TERMINATE_ACTIVITY",
            "TerminateActivityExecution",
            _activity(TerminateActivityExecutionRequest, says_why=True),
            _nothing,
            target=ACTIVITY,
        ),
        Operation(
            "cancel_activities_operation",
            "CANCEL_ACTIVITY",
            "RequestCancelActivityExecution",
            _activity(RequestCancelActivityExecutionRequest, says_why=True),
            _nothing,
            target=ACTIVITY,
        ),
        Operation(
            "delete_activities_operation",
            "DELETE_ACTIVITY",
            "DeleteActivityExecution",
            _activity(DeleteActivityExecutionRequest, says_why=False),
            _nothing,
            is_for_open=False,
            target=ACTIVITY,
        ),
    )
}
"""Every operation, by the field of StartBatchOperationRequest that asks for it."""
