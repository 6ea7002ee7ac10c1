"""What follows a run: the next one of its chain, by continue-as-new, workflow retry or cron.

The closing event and the next run's start belong together: both are committed, or neither (`Transition.successor`).
How a run closes is in `lifecycle`; here is only what comes after.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.api.command.v1 import (
    CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes,
)
from perdure.api.common.v1 import Payloads, RetryPolicy
from perdure.api.enums.v1 import ContinueAsNewInitiator, TimeoutType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from perdure.api.workflowservice.v1 import StartWorkflowExecutionRequest
from perdure.core.deployment.routes import NO_ROUTES, Routes
from perdure.core.errors import InvalidArgumentError
from perdure.core.invariant import present
from perdure.core.run import attributes, callback, cron, lifecycle, retry, versioning
from perdure.core.run.ids import derived_id, derived_run_id
from perdure.core.run.items import CALLBACK
from perdure.core.run.limits import Limits
from perdure.core.run.protos import checked_duration_ns, duration_ns, set_duration
from perdure.core.run.records import RunKey
from perdure.core.run.state import RunHeader, RunState
from perdure.core.run.transition import Transition

BY_WORKFLOW = ContinueAsNewInitiator.Value("CONTINUE_AS_NEW_INITIATOR_WORKFLOW")
BY_RETRY = ContinueAsNewInitiator.Value("CONTINUE_AS_NEW_INITIATOR_RETRY")
BY_CRON = ContinueAsNewInitiator.Value("CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE")
_START_TO_CLOSE = TimeoutType.Value("TIMEOUT_TYPE_START_TO_CLOSE")
_COMMAND = "ContinueAsNewWorkflowExecutionCommand"
_COPIED = (
    "workflow_type",
    "task_queue",
    "input",
    "header",
    "workflow_run_timeout",
    "workflow_task_timeout",
    "retry_policy",
    "last_completion_result",
)
"""Fields that a continue-as-new command and the start of the next run have in common."""
_KEPT = (
    "workflow_type",
    "task_queue",
    "input",
    "header",
    "workflow_run_timeout",
    "workflow_task_timeout",
    "retry_policy",
    "versioning_override",
    "priority",
)
"""Fields that a retry or the next run of a cron schedule starts with again."""


@dataclass(frozen=True, slots=True)
class Following:
    """Whether and why another run follows a closed one.

    Attributes:
        retry_state: a RetryState number, for the closing event.
        initiator: a ContinueAsNewInitiator number; 0 when nothing follows.
        delay_ns: until its first workflow task.
    """

    retry_state: int
    initiator: int = 0
    delay_ns: int = 0


# --- continue as new ---


def normalize(
    command: ContinueAsNewWorkflowExecutionCommandAttributes, header: RunHeader, limits: Limits
) -> None:
    """Checks a command and fills in what it takes over from the run.

    Raises:
        InvalidArgumentError: a field is bad; the message names it.
    """
    name = command.workflow_type.name = command.workflow_type.name or header.workflow_type
    if len(name.encode()) > limits.id_bytes:
        raise InvalidArgumentError(
            f"WorkflowType on {_COMMAND} exceeds length limit. WorkflowType={name} Length={len(name.encode())} "
            f"Limit={limits.id_bytes}"
        )
    try:
        attributes.normalize_task_queue(command.task_queue, header.task_queue, limits)
    except InvalidArgumentError as error:
        message = f"error validating {_COMMAND} TaskQueue: {error}{_where(command)}"
        raise InvalidArgumentError(message) from error
    execution_ns = header.execution_timeout_ns
    run_ns = _timeout(command, "workflow_run_timeout", "WorkflowRunTimeout") or header.run_timeout_ns
    task_ns = _timeout(command, "workflow_task_timeout", "WorkflowTaskTimeout")
    delay_ns = _timeout(command, "backoff_start_interval", "BackoffStartInterval")
    if delay_ns:
        set_duration(command.backoff_start_interval, delay_ns)
    run_ns, task_ns = lifecycle.effective_timeouts(
        execution_ns, run_ns, task_ns or header.default_task_timeout_ns, limits
    )
    set_duration(command.workflow_run_timeout, run_ns)
    set_duration(command.workflow_task_timeout, task_ns)
    if command.HasField("retry_policy"):
        try:
            retry.fill_defaults(command.retry_policy)
            retry.validate(command.retry_policy)
        except InvalidArgumentError as error:
            message = f"invalid WorkflowRetryPolicy on {_COMMAND}: {error}{_where(command)}"
            raise InvalidArgumentError(message) from error


def _where(command: ContinueAsNewWorkflowExecutionCommandAttributes) -> str:
    queue = attributes.shown_task_queue(command.task_queue)
    return f". WorkflowType={command.workflow_type.name} TaskQueue={queue}"


def _timeout(command: ContinueAsNewWorkflowExecutionCommandAttributes, field: str, label: str) -> int:
    try:
        return checked_duration_ns(getattr(command, field), "")
    except InvalidArgumentError as error:
        reason = str(error).removeprefix("invalid : ")
        raise InvalidArgumentError(f"Invalid {label} on {_COMMAND}: {reason}{_where(command)}") from error


def continue_as_new(
    tx: Transition,
    command: ContinueAsNewWorkflowExecutionCommandAttributes,
    completed_event_id: int,
    limits: Limits,
    routes: Routes,
) -> None:
    """Closes the run and starts the next one from a normalised command."""
    header = tx.header
    delay_ns = _at_least(tx, duration_ns(command.backoff_start_interval), limits)
    request = StartWorkflowExecutionRequest(cron_schedule=command.cron_schedule)
    for name in _COPIED:
        if command.HasField(name):  # type: ignore[arg-type]  # a row of the table above
            getattr(request, name).CopyFrom(getattr(command, name))
    if command.HasField("failure"):
        request.continued_failure.CopyFrom(command.failure)
    if header.priority:
        request.priority.ParseFromString(header.priority)
    links = tx.blobs.get(lifecycle.START_LINKS)
    if links:
        request.links.extend(HistoryEvent.FromString(links).links)
    lifecycle.copy_properties(command, request)
    next_run_id = _next_run_id(tx)
    attempt = header.attempt + 1 if command.initiator == BY_RETRY else 1
    following = Following(0, command.initiator or BY_WORKFLOW, delay_ns)
    begins = int(command.initial_versioning_behavior)
    _start_next(tx, request, next_run_id, following, attempt, begins, routes)
    lifecycle.continue_as_new(tx, command, completed_event_id, next_run_id)


# --- retry and cron ---


def complete(
    tx: Transition,
    command: CompleteWorkflowExecutionCommandAttributes,
    completed_event_id: int,
    limits: Limits,
) -> None:
    """The workflow returned; its cron schedule may start it again."""
    if not tx.header.cron_schedule:
        lifecycle.complete(tx, command, completed_event_id)
        return
    following = _by_cron(tx, retry.POLICY_NOT_SET)
    result = command.result if command.HasField("result") else None
    next_run_id = _repeat(tx, following, limits, result, None)
    lifecycle.complete(tx, command, completed_event_id, next_run_id)


def fail(
    tx: Transition, command: FailWorkflowExecutionCommandAttributes, completed_event_id: int, limits: Limits
) -> None:
    """The workflow raised; its retry policy, or else its cron schedule, may start it again."""
    following = _after_failure(tx, command.failure)
    # A retry starts without the last result: only a schedule's next run is told the last one that there was.
    result = _last_result(tx) if following.initiator == BY_CRON else None
    next_run_id = _repeat(tx, following, limits, result, command.failure)
    lifecycle.fail(tx, command, completed_event_id, following.retry_state, next_run_id)


def time_out(tx: Transition, limits: Limits) -> None:
    """The run's time is over. Unless the whole chain's is too, another run may follow."""
    header = tx.header
    if header.execution_expiration_ns and header.execution_expiration_ns <= tx.now_ns:
        lifecycle.time_out(tx, retry.TIMEOUT)
        return
    failure = Failure(message="workflow timeout", source="Server")
    failure.timeout_failure_info.timeout_type = _START_TO_CLOSE
    following = _after_failure(tx, failure)
    next_run_id = _repeat(tx, following, limits, _last_result(tx) if following.initiator else None, failure)
    lifecycle.time_out(tx, following.retry_state, next_run_id)


def _after_failure(tx: Transition, failure: Failure) -> Following:
    header = tx.header
    if not header.retry_policy:
        return _by_cron(tx, retry.POLICY_NOT_SET)
    policy = RetryPolicy.FromString(header.retry_policy)
    if not retry.is_retryable(failure, policy.non_retryable_error_types):
        return _by_cron(tx, retry.NON_RETRYABLE)
    decision = retry.next_attempt(
        now_ns=tx.now_ns,
        attempt=header.attempt,
        maximum_attempts=policy.maximum_attempts,
        initial_interval_ns=duration_ns(policy.initial_interval),
        maximum_interval_ns=duration_ns(policy.maximum_interval),
        backoff_coefficient=policy.backoff_coefficient,
        expiration_ns=header.execution_expiration_ns,
        failure=failure,
    )
    if decision.state != retry.IN_PROGRESS:
        return _by_cron(tx, decision.state)
    return Following(decision.state, BY_RETRY, decision.delay_ns)


def _by_cron(tx: Transition, retry_state: int) -> Following:
    header = tx.header
    if not header.cron_schedule:
        return Following(retry_state)
    delay_ns = cron.delay_ns(header.cron_schedule, header.execution_ns, tx.now_ns)
    return Following(retry_state) if delay_ns is None else Following(retry_state, BY_CRON, delay_ns)


def _started(tx: Transition) -> WorkflowExecutionStartedEventAttributes:
    event = present(tx.state.started, "a run that may be repeated has lost its first event", run=tx.state.run)
    return event.workflow_execution_started_event_attributes


def _last_result(tx: Transition) -> Payloads | None:
    started = _started(tx)
    return started.last_completion_result if started.HasField("last_completion_result") else None


def _repeat(
    tx: Transition, following: Following, limits: Limits, result: Payloads | None, failure: Failure | None
) -> str:
    """Starts the run again if it is to follow, as it was started. Returns the new run's id, or ""."""
    if not following.initiator:
        return ""
    header, started = tx.header, _started(tx)
    request = StartWorkflowExecutionRequest(cron_schedule=started.cron_schedule)
    for name in _KEPT:
        if started.HasField(name):  # type: ignore[arg-type]  # a row of the table above
            getattr(request, name).CopyFrom(getattr(started, name))
    lifecycle.copy_properties(started, request)
    if result is not None:
        request.last_completion_result.CopyFrom(result)
    if failure is not None:
        request.continued_failure.CopyFrom(failure)
    request.links.extend(tx.state.started.links if tx.state.started is not None else ())
    attempt = header.attempt + 1 if following.initiator == BY_RETRY else 1
    delayed = Following(following.retry_state, following.initiator, _at_least(tx, following.delay_ns, limits))
    next_run_id = _next_run_id(tx)
    _start_next(tx, request, next_run_id, delayed, attempt)
    return next_run_id


# --- the next run ---


def _next_run_id(tx: Transition) -> str:
    return derived_run_id(tx.now_ns, tx.state.run.run_id, "next")


def _at_least(tx: Transition, delay_ns: int, limits: Limits) -> int:
    """The delay of the next run, such that runs of a chain do not follow each other too closely."""
    lifetime_ns = tx.now_ns - tx.header.execution_ns
    if lifetime_ns + delay_ns < limits.chain_interval_ns:
        return limits.chain_interval_ns - lifetime_ns
    return delay_ns


def _start_next(
    tx: Transition,
    request: StartWorkflowExecutionRequest,
    run_id: str,
    following: Following,
    attempt: int,
    initial_behavior: int = 0,
    routes: Routes = NO_ROUTES,
) -> None:
    header, run = tx.header, tx.state.run
    request.request_id = derived_id(run.run_id, "next")
    if tx.may_have(CALLBACK):
        request.completion_callbacks.extend(callback.messages(tx))
    if header.execution_timeout_ns:
        set_duration(request.workflow_execution_timeout, header.execution_timeout_ns)
    set_duration(request.workflow_start_delay, following.delay_ns)
    predecessor = lifecycle.Predecessor(
        run.run_id, header.first_run_id, following.initiator, attempt, header.execution_expiration_ns
    )
    successor = Transition(
        RunState(RunKey(run.namespace_id, run.workflow_id, run_id), 0, RunHeader()), tx.now_ns
    )
    parent = None
    if header.parent_initiated_event_id:
        parent = lifecycle.Parent(
            header.parent_workflow_id,
            header.parent_run_id,
            header.parent_initiated_event_id,
            header.root_workflow_id,
            header.root_run_id,
        )
    inherited = versioning.inheritance(
        header,
        task_queue=request.task_queue.name,
        routes=routes,
        has_override=request.HasField("versioning_override"),
        initial_behavior=initial_behavior,
        initiator=following.initiator,
    )
    context = lifecycle.StartContext(
        header.namespace,
        header.retention_ns,
        predecessor=predecessor,
        parent=parent,
        inherited=inherited,
    )
    lifecycle.start(successor, request, context)
    tx.successor = successor
