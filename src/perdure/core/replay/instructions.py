"""What workflow code asks for: the answer to an activation, as ordered instructions.

Data only. Each instruction that starts something carries a `seq`, unique within its kind and counted from 1 in the
order in which the code asked; the job that resolves it carries the same number. Payloads are wire messages that the
worker's payload codec has not seen yet. Attribute messages are those of the wire command, complete except for what
only the run knows (ids of events, the id derived from `seq` where the user chose none).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from perdure.api.command.v1 import (
    ContinueAsNewWorkflowExecutionCommandAttributes,
    RequestCancelExternalWorkflowExecutionCommandAttributes,
    ScheduleActivityTaskCommandAttributes,
    ScheduleNexusOperationCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes,
)
from perdure.api.common.v1 import Memo, Payload, Payloads, SearchAttributes
from perdure.api.failure.v1 import Failure
from perdure.api.sdk.v1 import EventGroupMarker, UserMetadata
from perdure.core.replay.activation import Activation


class ActivityCancellation:
    """How the cancellation of an activity is awaited (numbers are the public ActivityCancellationType's)."""

    TRY_CANCEL = 0
    WAIT_CANCELLATION_COMPLETED = 1
    ABANDON = 2


class ChildCancellation:
    """How the cancellation of a child is awaited (numbers are the public ChildWorkflowCancellationType's)."""

    ABANDON = 0
    TRY_CANCEL = 1
    WAIT_CANCELLATION_COMPLETED = 2
    WAIT_CANCELLATION_REQUESTED = 3


class NexusCancellation:
    """How the cancellation of a Nexus operation is awaited (the public NexusOperationCancellationType's numbers)."""

    WAIT_COMPLETED = 0
    ABANDON = 1
    TRY_CANCEL = 2
    WAIT_REQUESTED = 3


@dataclass(slots=True)
class StartTimer:
    """Start a timer."""

    seq: int
    duration_ns: int
    metadata: UserMetadata | None = None
    source: str | None = None


@dataclass(slots=True)
class CancelTimer:
    """The timer is not needed any more; the code has already resolved it for itself."""

    seq: int


@dataclass(slots=True)
class ScheduleActivity:
    """Schedule an activity; `attributes.activity_id` is always set (the code derives it from `seq`)."""

    seq: int
    attributes: ScheduleActivityTaskCommandAttributes
    cancellation: int = ActivityCancellation.TRY_CANCEL
    metadata: UserMetadata | None = None
    source: str | None = None


@dataclass(slots=True)
class RequestCancelActivity:
    """Cancel the activity as its `cancellation` says; a ResolveActivity answers, at once unless it is awaited.

    Asking again, or for an activity that has ended, does nothing.
    """

    seq: int


@dataclass(slots=True)
class ScheduleLocalActivity:
    """Run an activity in this worker, recorded as a marker.

    Local activities and activities are counted together: `seq` is unique among both (the official workers' markers
    carry it, so histories would not replay otherwise).

    Attributes:
        attributes: as for an activity; queue and heartbeat are ignored.
        attempt: 1, or what a backoff job said.
        original_schedule_time_ns: 0, or what a backoff job said.
        local_retry_threshold_s: retries after longer waits are done with a timer in history.
    """

    seq: int
    attributes: ScheduleActivityTaskCommandAttributes
    attempt: int = 1
    original_schedule_time_ns: int = 0
    local_retry_threshold_s: float = 60.0
    cancellation: int = ActivityCancellation.TRY_CANCEL
    metadata: UserMetadata | None = None
    source: str | None = None


@dataclass(slots=True)
class RequestCancelLocalActivity:
    """Cancel the local activity."""

    seq: int


@dataclass(slots=True)
class StartChildWorkflow:
    """Start a child workflow; answered by ResolveChildWorkflowStart, then ResolveChildWorkflow."""

    seq: int
    attributes: StartChildWorkflowExecutionCommandAttributes
    cancellation: int = ChildCancellation.WAIT_CANCELLATION_COMPLETED
    metadata: UserMetadata | None = None
    source: str | None = None


@dataclass(slots=True)
class CancelChildWorkflow:
    """Cancel the child as its `cancellation` says."""

    seq: int
    reason: str = ""


@dataclass(slots=True)
class SignalExternalWorkflow:
    """Signal another workflow, or a child (`child_workflow_only`)."""

    seq: int
    attributes: SignalExternalWorkflowExecutionCommandAttributes
    source: str | None = None


@dataclass(slots=True)
class CancelSignalExternalWorkflow:
    """The signal is not needed any more (only if it has not been sent)."""

    seq: int


@dataclass(slots=True)
class CancelExternalWorkflow:
    """Ask another workflow to cancel; `attributes.reason` is the user's, the run says in front of it who asks."""

    seq: int
    attributes: RequestCancelExternalWorkflowExecutionCommandAttributes
    source: str | None = None


@dataclass(slots=True)
class ScheduleNexusOperation:
    """Start a Nexus operation; answered by ResolveNexusOperationStart, then ResolveNexusOperation."""

    seq: int
    attributes: ScheduleNexusOperationCommandAttributes
    cancellation: int = NexusCancellation.WAIT_COMPLETED
    metadata: UserMetadata | None = None
    source: str | None = None


@dataclass(slots=True)
class CancelNexusOperation:
    """Cancel the Nexus operation as its `cancellation` says."""

    seq: int


@dataclass(slots=True)
class SetPatch:
    """`patched` or `deprecate_patch` was called for the first time with this id in this run."""

    patch_id: str
    is_deprecated: bool
    source: str | None = None


@dataclass(slots=True)
class UpsertSearchAttributes:
    """Change search attributes."""

    search_attributes: SearchAttributes
    source: str | None = None


@dataclass(slots=True)
class ModifyMemo:
    """Change the memo."""

    upserted_memo: Memo
    source: str | None = None


@dataclass(slots=True)
class UpdateAccepted:
    """The update's validator let it pass."""

    protocol_instance_id: str


@dataclass(slots=True)
class UpdateRejected:
    """The update's validator raised."""

    protocol_instance_id: str
    failure: Failure


@dataclass(slots=True)
class UpdateCompleted:
    """The update's handler returned (`result`) or raised (`failure`)."""

    protocol_instance_id: str
    result: Payloads | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class AnswerQuery:
    """The answer to a question: a result or a failure."""

    query_id: str
    result: Payload | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class CompleteWorkflow:
    """The workflow returned."""

    result: Payloads | None
    source: str | None = None


@dataclass(slots=True)
class FailWorkflow:
    """The workflow raised."""

    failure: Failure
    source: str | None = None


@dataclass(slots=True)
class CancelWorkflowExecution:
    """The workflow ended by its cancellation."""

    details: Payloads | None = None
    source: str | None = None


@dataclass(slots=True)
class ContinueAsNew:
    """The workflow goes on in a new run."""

    attributes: ContinueAsNewWorkflowExecutionCommandAttributes
    source: str | None = None


Instruction = (
    StartTimer
    | CancelTimer
    | ScheduleActivity
    | RequestCancelActivity
    | ScheduleLocalActivity
    | RequestCancelLocalActivity
    | StartChildWorkflow
    | CancelChildWorkflow
    | SignalExternalWorkflow
    | CancelSignalExternalWorkflow
    | CancelExternalWorkflow
    | ScheduleNexusOperation
    | CancelNexusOperation
    | SetPatch
    | UpsertSearchAttributes
    | ModifyMemo
    | UpdateAccepted
    | UpdateRejected
    | UpdateCompleted
    | AnswerQuery
    | CompleteWorkflow
    | FailWorkflow
    | CancelWorkflowExecution
    | ContinueAsNew
)


CANCELLATIONS: Final = frozenset(
    {
        CancelTimer,
        RequestCancelActivity,
        RequestCancelLocalActivity,
        CancelChildWorkflow,
        CancelSignalExternalWorkflow,
        CancelNexusOperation,
    }
)
"""Instructions about what was asked for before: their commands belong to its event groups."""


@dataclass(slots=True)
class Answer:
    """The answer to an activation.

    Attributes:
        instructions: in the order in which the code asked.
        task_failure: the code could not be run to where it waits (a bug, a non-determinism the code noticed, an
            unfinished decode): the workflow task fails with it, the workflow does not.
        task_error: what `task_failure` was made of, for the worker's log.
        versioning_behavior: the public VersioningBehavior's number, for the completion.
        used_flags: numbers of behaviour flags the code used, to be recorded with the completion (`lang_used_flags`).
        markers: by `id` of an instruction, the event groups that its commands belong to.
    """

    instructions: Sequence[Instruction] = ()
    task_failure: Failure | None = None
    task_error: BaseException | None = None
    versioning_behavior: int = 0
    used_flags: Collection[int] = ()
    markers: Mapping[int, Sequence[EventGroupMarker]] | None = None


class Program(Protocol):
    """Workflow code under execution, as the run sees it."""

    def activate(self, activation: Activation) -> Answer:
        """Applies the jobs, runs the code until it waits for something, and says what it asked for."""
