"""What happens to workflow code: one activation is everything that one workflow task brings it, as ordered jobs.

Data only. Payloads and failures are wire messages, already decoded by the worker's payload codec.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from perdure.api.common.v1 import Header, Payload, Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import WorkflowExecutionStartedEventAttributes
from perdure.api.query.v1 import WorkflowQuery


@dataclass(slots=True)
class InitializeWorkflow:
    """The first job of a run.

    Attributes:
        attributes: of the WorkflowExecutionStarted event.
        workflow_id: of the run.
        start_time_ns: when the started event was written.
        random_seed: 64-bit seed derived from the original run id, as the official workers derive it.
    """

    attributes: WorkflowExecutionStartedEventAttributes
    workflow_id: str
    start_time_ns: int
    random_seed: int


@dataclass(slots=True)
class UpdateRandomSeed:
    """The run was reset: randomness goes on from a new seed."""

    random_seed: int


@dataclass(slots=True)
class NotifyHasPatch:
    """History holds a marker of this patch, so `patched` is True from here on."""

    patch_id: str


@dataclass(slots=True)
class SignalWorkflow:
    """A signal arrived; `event_id` is that of the event that records it, 0 if it is not known."""

    name: str
    input: Payloads
    header: Header
    identity: str
    event_id: int = 0


@dataclass(slots=True)
class DoUpdate:
    """An update is to be validated (unless `run_validator` is False: history says it was accepted) and run.

    Attributes:
        protocol_instance_id: names the update in `UpdateAccepted`, `UpdateRejected` and `UpdateCompleted`.
        update_id: chosen by the caller.
    """

    protocol_instance_id: str
    update_id: str
    name: str
    input: Payloads
    header: Header
    identity: str
    run_validator: bool


@dataclass(slots=True)
class CancelWorkflow:
    """The run was asked to cancel itself."""

    reason: str


@dataclass(slots=True)
class FireTimer:
    """A timer is due."""

    seq: int


@dataclass(slots=True)
class ResolveActivity:
    """An activity or local activity ended; exactly one of the outcomes is set, or neither when it returned nothing.

    Attributes:
        result: what it returned.
        failure: the ActivityFailure (its cause inside), also for a time-out or a cancellation.
        is_canceled: it ended by cancellation.
        backoff_s: local activities only: retry it after a timer of this many seconds (do_backoff); the code starts
            a timer, then schedules it again with `attempt` and `original_schedule_time_ns`.
    """

    seq: int
    result: Payloads | None = None
    failure: Failure | None = None
    is_canceled: bool = False
    backoff_s: float | None = None
    attempt: int = 0
    original_schedule_time_ns: int = 0


@dataclass(slots=True)
class ResolveChildWorkflowStart:
    """A child started (`run_id`), could not start because it already exists, or was cancelled before it started.

    Attributes:
        run_id: of the started child; empty otherwise.
        already_exists: another run has its workflow id.
        failure: set when it was cancelled before it started.
    """

    seq: int
    run_id: str = ""
    already_exists: bool = False
    workflow_id: str = ""
    workflow_type: str = ""
    failure: Failure | None = None


@dataclass(slots=True)
class ResolveChildWorkflow:
    """A child ended: a result, or a ChildWorkflowExecutionFailure."""

    seq: int
    result: Payloads | None = None
    failure: Failure | None = None
    is_canceled: bool = False


@dataclass(slots=True)
class ResolveSignalExternal:
    """A signal to another workflow was delivered (`failure` is None) or not."""

    seq: int
    failure: Failure | None = None


@dataclass(slots=True)
class ResolveCancelExternal:
    """A cancellation request to another workflow was delivered (`failure` is None) or not."""

    seq: int
    failure: Failure | None = None


@dataclass(slots=True)
class ResolveNexusOperationStart:
    """A Nexus operation started (asynchronous: with a token; synchronous: its result follows) or failed to start."""

    seq: int
    operation_token: str | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class ResolveNexusOperation:
    """A Nexus operation ended: a result, or a NexusOperationFailure."""

    seq: int
    result: Payload | None = None
    failure: Failure | None = None
    is_canceled: bool = False


@dataclass(slots=True)
class QueryWorkflow:
    """A question; the code answers with `AnswerQuery`. `query_id` is "legacy" for the only question of its task."""

    query_id: str
    query: WorkflowQuery


Job = (
    InitializeWorkflow
    | UpdateRandomSeed
    | NotifyHasPatch
    | SignalWorkflow
    | DoUpdate
    | CancelWorkflow
    | FireTimer
    | ResolveActivity
    | ResolveChildWorkflowStart
    | ResolveChildWorkflow
    | ResolveSignalExternal
    | ResolveCancelExternal
    | ResolveNexusOperationStart
    | ResolveNexusOperation
    | QueryWorkflow
)


@dataclass(slots=True)
class Activation:
    """Everything that one workflow task brings to the code.

    Attributes:
        now_ns: workflow time: when the workflow task started.
        is_replaying: history already says what the code will ask for.
        history_length, history_size_bytes, continue_as_new_suggested, suggest_continue_as_new_reasons: as the
            workflow task's started event says.
        build_id, deployment_name: of the worker that completed this task when replaying, of this worker otherwise.
        jobs: in the order in which they are applied: start, patches, seed, signals and updates, everything else.
            Outcomes of local activities come last; queries come in an activation of their own.
        available_flags: numbers of the behaviour flags that earlier completions recorded for the code
            (`lang_used_flags`); while replaying only these may be used.
        last_sdk_version: of the worker that completed earlier tasks, as history says; empty when unknown.
    """

    now_ns: int
    is_replaying: bool
    history_length: int
    jobs: Sequence[Job]
    history_size_bytes: int = 0
    continue_as_new_suggested: bool = False
    suggest_continue_as_new_reasons: Sequence[int] = ()
    target_worker_deployment_version_changed: bool = False
    build_id: str = ""
    deployment_name: str = ""
    available_flags: Collection[int] = ()
    last_sdk_version: str = ""
