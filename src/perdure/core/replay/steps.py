"""What a worker brings to a run, and what the run hands back: data only, no behaviour.

The worker polls, decodes payloads (codec), fetches all pages of a history and executes local activities; the run only
sees the outcome as the messages below. Nothing here knows about connections, threads or clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from perdure.api.command.v1 import Command, ScheduleActivityTaskCommandAttributes
from perdure.api.common.v1 import MeteringMetadata, Payloads
from perdure.api.enums.v1 import WorkflowTaskFailedCause
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protocol.v1 import Message
from perdure.api.query.v1 import WorkflowQuery, WorkflowQueryResult
from perdure.api.sdk.v1 import WorkflowTaskCompletedMetadata
from perdure.core.errors import PerdureError


class CacheMissError(PerdureError):
    """The task's events do not go on where this run stands: fetch the history from its first event and call again.

    The run is unusable afterwards; make a new run (and a new program) for the full history.
    """


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a run has to know about its worker.

    Attributes:
        namespace: of the workflow.
        task_queue: of the worker; activities without a queue of their own go there.
        build_id, deployment_name: of this worker (empty: none).
        sdk_name, sdk_version: written with completions when they differ from what history says.
        records_sdk_metadata: the server keeps sdk metadata (GetSystemInfo's capability of that name).
        nondeterminism_fails_workflow: a non-determinism error fails the workflow instead of the workflow task.
        activations_at_once: after so many in one call the run pauses (`Pause`); 0: never.
    """

    namespace: str = "default"
    task_queue: str = ""
    build_id: str = ""
    deployment_name: str = ""
    sdk_name: str = "perdure-python"
    sdk_version: str = ""
    records_sdk_metadata: bool = True
    nondeterminism_fails_workflow: bool = False
    activations_at_once: int = 0


@dataclass(slots=True)
class WorkflowTask:
    """One workflow task as polled; payloads are decoded, every page of the history is there.

    Attributes:
        events: either the whole history from event 1, or its end, going on after `previous_started_event_id` of a run
            that is in the worker's cache.
        previous_started_event_id, started_event_id, attempt: as in the poll response.
        query: the legacy question (the task was made only for it and writes no event).
        queries: questions attached to a task, by id.
        messages: the protocol messages (update requests).
    """

    events: Sequence[HistoryEvent]
    previous_started_event_id: int
    started_event_id: int
    attempt: int = 1
    query: WorkflowQuery | None = None
    queries: Mapping[str, WorkflowQuery] = field(default_factory=dict)
    messages: Sequence[Message] = ()


@dataclass(slots=True)
class TaskCompletion:
    """Answer with RespondWorkflowTaskCompleted; if `legacy_query_result` is set, with RespondQueryTaskCompleted.

    When the server refuses the completion (not found, unhandled command), drop run and program from the cache.

    Attributes:
        commands, messages: in the order to send; payloads not yet encoded by the codec (those of messages are inside
            `body`: update.v1.Acceptance, Rejection or Response).
        query_results: answers by id, not for the legacy question.
        legacy_query_result: the answer to the legacy question; everything else is then empty.
        sdk_metadata: None when there is nothing to record.
        metering_metadata: None when no local activity was retried.
        force_create_new_workflow_task: this is a heartbeat: local activities are still running, ask for a new task.
        versioning_behavior: VersioningBehavior's number.
        is_complete: a command closes the run.
        cancel_local_activities: seqs of local activities that run in vain: the run is over.
    """

    commands: list[Command]
    messages: list[Message] = field(default_factory=list)
    query_results: dict[str, WorkflowQueryResult] = field(default_factory=dict)
    legacy_query_result: WorkflowQueryResult | None = None
    sdk_metadata: WorkflowTaskCompletedMetadata | None = None
    metering_metadata: MeteringMetadata | None = None
    force_create_new_workflow_task: bool = False
    versioning_behavior: int = 0
    is_complete: bool = False
    cancel_local_activities: list[int] = field(default_factory=list)


@dataclass(slots=True)
class TaskFailure:
    """The task could not be done: drop run and program from the cache, then answer as the attributes say.

    Local activities of the run that still execute are to be cancelled.

    Attributes:
        cause: for RespondWorkflowTaskFailed (WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR, ...).
        failure: what to send (not yet encoded by the codec).
        legacy_query: answer the legacy question with RespondQueryTaskCompleted(failed) instead.
        should_report: False from the second attempt on: do not answer, the task times out, which keeps the server from
            retrying in a hot loop. Also False for a legacy question that came too late (the run may stay cached).
        message: one text for logs; `error` when a typed error caused it.
    """

    cause: WorkflowTaskFailedCause.ValueType
    failure: Failure
    message: str
    legacy_query: bool = False
    should_report: bool = True
    error: BaseException | None = None


@dataclass(slots=True)
class LocalActivity:
    """A local activity to execute now in this worker.

    Attributes:
        seq: names it in `local_activity_resolved` and in `LocalActivityWork.cancel`.
        attributes: type, input, header, timeouts, retry policy, activity id.
        attempt: number of the next attempt (more than 1 after a backoff timer).
        schedule_time_ns: workflow time at which it was scheduled.
        original_schedule_time_ns: of its first schedule, before backoff timers (schedule-to-close counts from there).
        local_retry_threshold_s: a retry that waits longer is handed back as `LocalActivityOutcome.backoff_s`.
    """

    seq: int
    attributes: ScheduleActivityTaskCommandAttributes
    attempt: int
    schedule_time_ns: int
    original_schedule_time_ns: int
    local_retry_threshold_s: float


@dataclass(slots=True)
class LocalActivityOutcome:
    """How a local activity ended; at most one of `result` and `failure` is set.

    Attributes:
        failure: what the attempt raised (application, timeout or cancelled failure info), not wrapped: the run wraps
            time-outs and cancellations into an ActivityFailure, as the official workers do.
        is_canceled: it ended by cancellation (`failure` then has canceled info, or is None).
        backoff_s: the next attempt waits for longer than the threshold: go on after a timer (`failure` is the last).
        attempt: number of the last attempt.
        original_schedule_time_ns: as given in `LocalActivity`, or the first schedule's wall time.
        elapsed_ns: from its first start to its end; workflow time goes on by it.
    """

    result: Payloads | None = None
    failure: Failure | None = None
    is_canceled: bool = False
    backoff_s: float | None = None
    attempt: int = 1
    original_schedule_time_ns: int = 0
    elapsed_ns: int = 0


@dataclass(slots=True)
class LocalActivityWork:
    """The task is still open: start and cancel these local activities and report each with `local_activity_resolved`.

    While any is running the worker calls `heartbeat()` after `heartbeat_after_s` from the moment the task was received.
    Both lists may be empty: then it only waits for those already running.
    """

    start: list[LocalActivity]
    cancel: list[int]
    heartbeat_after_s: float


@dataclass(slots=True)
class Pause:
    """The run is in the middle of a long replay: let others go on for a moment, then call `resume()`."""


PAUSE: Final = Pause()

Step = TaskCompletion | TaskFailure | LocalActivityWork | Pause
