"""The state of a run: one header and items by kind, and their encoding as JSON.

Only plain data here; the primitives' modules decide what changes. Fields at their default are left out of the
encoding; a newer release's fields are refused by the store's schema version, so decoding is strict. Durations and
times are integer nanoseconds; 0 means "none" where a field allows none. Event ids start at 1; 0 means "none".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from perdure.api.history.v1 import HistoryEvent
from perdure.core.run.records import RunKey

RUNNING = 1
"""temporal.api.enums.v1.WORKFLOW_EXECUTION_STATUS_RUNNING."""


class Record(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Base of what is encoded: a header or an item."""


Stored = TypeVar("Stored", bound=Record)


class Versioning(Record):
    """What a run knows of worker versions, each written `deployment:build`. It is replaced, never changed."""

    behavior: int = 0
    """temporal.api.enums.v1.VersioningBehavior number, as its last completed workflow task said or as inherited."""
    version: str = ""
    """Of the worker that completed its last workflow task, or inherited."""
    override: bytes = b""
    """Serialised temporal.api.workflow.v1.VersioningOverride, empty when there is none."""
    override_version: str = ""
    """The version that the override names; empty for one to follow the routing."""
    override_once: bool = False
    """The override ends when its version has completed a workflow task."""
    is_moving: bool = False
    """A worker of another version took the workflow task, and none of that version has completed one yet."""
    moving_to: str = ""
    holds_activities: bool = False
    """While it moves: activities that wait do so until a worker of the new version has completed a workflow task."""
    revision: int = 0
    """Of the routing that sent the run where it is."""
    inherited_pin: bool = False
    """The run was begun with the pinned version of its parent, or of the run before: a retry of it keeps that."""
    initial_behavior: int = 0
    """temporal.api.enums.v1.ContinueAsNewVersioningBehavior number that the run was continued with."""
    notified_revision: int | None = None
    """Of the routing that the worker of the pinned run was told of; None: it was told nothing."""
    notified_version: str = ""
    declined_revision: int | None = None
    """Of the routing that the run before was told of, and did not follow; None: of nothing."""
    declined_version: str = ""
    deployment_name: str = ""
    """Of the worker that completed its last workflow task, whether that has a version or not."""


class RunHeader(Record):
    """Everything about a run that is not one of many: written with every transition, so kept small."""

    namespace: str = ""
    workflow_type: str = ""
    task_queue: str = ""
    status: int = RUNNING
    start_request_id: str = ""
    first_run_id: str = ""
    original_run_id: str = ""
    attempt: int = 1
    cron_schedule: str = ""
    priority: bytes = b""
    """Serialised temporal.api.common.v1.Priority, empty when none was given."""

    start_ns: int = 0
    execution_ns: int = 0
    """Start plus first-task backoff."""
    close_ns: int = 0
    close_event_id: int = 0
    retention_ns: int = 0
    """How long a closed run is kept; copied from the namespace at close."""
    execution_timeout_ns: int = 0
    run_timeout_ns: int = 0
    run_expiration_ns: int = 0
    """When the run times out; 0 never."""
    execution_expiration_ns: int = 0
    """When the whole chain of runs times out; 0 never."""
    default_task_timeout_ns: int = 0
    first_task_at_ns: int = 0
    """The first workflow task is held back until then; 0 when it is not."""

    next_event_id: int = 1
    history_size_bytes: int = 0
    transition_count: int = 0
    next_buffer_key: int = 0
    signal_count: int = 0
    cancel_requested: bool = False
    cancel_request_id: str = ""

    task_attempt: int = 1
    task_failures: int = 0
    """Failed and timed out workflow tasks since the last one that succeeded."""
    task_problem: str = ""
    """What the last one failed of; see `problems`."""
    """Attempt of the pending workflow task, or of the next one."""
    task_stamp: int = 0
    """Counts dispatches of workflow tasks; a dispatch with another stamp is stale."""
    task_scheduled_event_id: int = 0
    """0: no workflow task is pending."""
    task_scheduled_ns: int = 0
    task_first_scheduled_ns: int = 0
    """When the first of a row of heartbeating workflow tasks was scheduled."""
    task_started_event_id: int = 0
    """0: the pending workflow task waits for a worker."""
    task_started_ns: int = 0
    task_timeout_ns: int = 0
    task_request_id: str = ""
    task_worker_identity: str = ""
    task_on_sticky_queue: bool = False
    """The pending task was scheduled on the sticky queue (its schedule-to-start timeout runs)."""
    task_start_limit_ns: int = 0
    """How long the pending task may wait on the normal queue; 0 without limit. Speculative tasks have one, and keep it
    when they become normal."""
    task_is_speculative: bool = False
    """The pending task exists in memory only: its events have their ids and are not written. Never stored as true."""
    task_rerouted: bool = False
    """The pending sticky task waits on the normal queue, because nobody polls the sticky one."""
    task_history_size_bytes: int = 0
    task_suggest_reasons: list[int] = msgspec.field(default_factory=list)
    task_close_refused: bool = False
    """The last workflow task tried to close the run while events it had not seen were waiting (UNHANDLED_COMMAND)."""
    last_completed_task_started_event_id: int = 0
    sticky_queue: str = ""
    sticky_timeout_ns: int = 0

    parent_workflow_id: str = ""
    parent_run_id: str = ""
    parent_initiated_event_id: int = 0
    """The parent's event that started this child; 0 for a run without parent."""
    reset_run_id: str = ""
    """The run that this one was reset into, the last time."""
    reset_request_id: str = ""
    """The request to reset that made this run; empty when none did."""
    reset_ns: int = 0
    """When that was."""
    owes_parent: bool = False
    """The run is closed and its parent has not been told yet."""
    calls_back: bool = False
    """The run is closed, nothing follows it, and it has completion callbacks: they are to be delivered."""
    tells_of_updates: bool = False
    """Updates that somebody is to be told of have ended."""
    root_workflow_id: str = ""
    root_run_id: str = ""
    versioning: Versioning | None = None
    """None while the run has nothing to do with worker versions."""
    task_version: str = ""
    """The worker version whose queue the pending workflow task waits on; empty for workers without one."""
    paused_ns: int = 0
    """When the run was paused; 0: it is not. No workflow task or activity of a paused run is handed out."""
    pause_identity: str = ""
    pause_reason: str = ""
    pause_request_id: str = ""
    retry_policy: bytes = b""
    """Serialised temporal.api.common.v1.RetryPolicy of the workflow, empty when it has none."""
    user_metadata: bytes = b""

    @property
    def is_open(self) -> bool:
        """Whether the run has not closed."""
        return self.status == RUNNING

    @property
    def has_pending_task(self) -> bool:
        """Whether a workflow task is scheduled or started."""
        return self.task_scheduled_event_id != 0

    @property
    def has_started_task(self) -> bool:
        """Whether a worker holds a workflow task: external events are then buffered."""
        return self.task_started_event_id != 0

    @property
    def is_task_transient(self) -> bool:
        """Whether the pending (or next) workflow task has no events in the history until it completes."""
        return self.task_attempt > 1


class Activity(Record):
    """A pending activity; its input and header stay in its ActivityTaskScheduled event."""

    scheduled_event_id: int = 0
    activity_id: str = ""
    activity_type: str = ""
    task_queue: str = ""
    priority: bytes = b""
    first_scheduled_ns: int = 0
    scheduled_ns: int = 0
    """When the current attempt was, or will be, handed to the task queue."""
    schedule_to_close_ns: int = 0
    schedule_to_start_ns: int = 0
    start_to_close_ns: int = 0
    heartbeat_ns: int = 0
    initial_interval_ns: int = 0
    backoff_coefficient: float = 0.0
    maximum_interval_ns: int = 0
    maximum_attempts: int = 0
    non_retryable_types: list[str] = msgspec.field(default_factory=list)

    attempt: int = 1
    stamp: int = 0
    """Counts dispatches; a dispatch with another stamp is stale."""
    backing_off: bool = False
    """True between a failed attempt and the time of the next one (`scheduled_ns`)."""
    started_ns: int = 0
    """0: the attempt waits for a worker."""
    request_id: str = ""
    worker_identity: str = ""
    worker_version: str = ""
    """Of the worker that has, or had, the last attempt."""
    last_heartbeat_ns: int = 0
    heartbeat_details: bytes = b""
    last_failure: bytes = b""
    last_attempt_complete_ns: int = 0
    cancel_requested_event_id: int = 0
    """0: no cancellation was requested."""

    version: str = ""
    """The worker version that the attempt waits for; empty for workers without one."""
    paused_ns: int = 0
    """When it was paused; 0: it is not."""
    pause_identity: str = ""
    pause_reason: str = ""
    pause_request_id: str = ""
    is_reset: bool = False
    """It was reset while a worker has it: the worker is told."""
    resets_heartbeat: bool = False
    """The next attempt gets no heartbeat details."""
    is_adjusted: bool = False
    """An operator changed it: its attempts need not follow from its retry policy."""

    @property
    def expiration_ns(self) -> int:
        """When schedule-to-close runs out; 0 never."""
        return self.first_scheduled_ns + self.schedule_to_close_ns if self.schedule_to_close_ns else 0


class Timer(Record):
    """A pending user timer."""

    timer_id: str = ""
    started_event_id: int = 0
    fire_ns: int = 0


class Child(Record):
    """A child that was initiated and has not ended; what it was started with stays in its initiated event.

    A closed parent keeps those that its close policy has yet to end.
    """

    initiated_event_id: int = 0
    initiated_ns: int = 0
    workflow_id: str = ""
    workflow_type: str = ""
    close_policy: int = 0
    """temporal.api.enums.v1.ParentClosePolicy number."""
    run_id: str = ""
    """Its first run; empty until it is started."""
    started_event_id: int = 0
    """0 while the ChildWorkflowExecutionStarted event waits in the buffer."""


class External(Record):
    """A signal or request to cancel that has yet to reach another workflow; the rest is in its initiated event."""

    initiated_event_id: int = 0
    initiated_ns: int = 0
    kind: str = ""
    """"signal" or "cancel"."""
    workflow_id: str = ""
    run_id: str = ""


class NexusOperation(Record):
    """A pending Nexus operation; its input and header stay in its scheduled event."""

    scheduled_event_id: int = 0
    scheduled_ns: int = 0
    endpoint: str = ""
    endpoint_id: str = ""
    service: str = ""
    operation: str = ""
    request_id: str = ""
    """The same for every attempt, so that its handler recognises them."""
    schedule_to_close_ns: int = 0
    schedule_to_start_ns: int = 0
    start_to_close_ns: int = 0
    attempt: int = 0
    """Attempts to start it that are over."""
    next_attempt_ns: int = 0
    """When the next attempt is due after one that failed; 0: at once."""
    last_attempt_ns: int = 0
    last_failure: bytes = b""
    started_ns: int = 0
    """0: it has not started."""
    operation_token: str = ""
    cancel_requested_event_id: int = 0
    """0: no cancellation was requested."""
    cancel_requested_ns: int = 0
    """When the handler was first to be asked to cancel; 0 while that waits for the start."""
    cancel_attempt: int = 0
    cancel_next_attempt_ns: int = 0
    cancel_last_attempt_ns: int = 0
    cancel_last_failure: bytes = b""
    cancel_state: int = 0
    """temporal.api.enums.v1.NexusOperationCancellationState number once the handler was asked for good; else 0."""


class Callback(Record):
    """Somebody who is to be told how the run ends, or one of its updates."""

    key: int = 0
    """Counts the run's callbacks from 1 on."""
    data: bytes = b""
    """Serialised temporal.api.common.v1.Callback."""
    request_id: str = ""
    """The request that it came with."""
    registered_ns: int = 0
    attempt: int = 0
    """Attempts to deliver it that are over."""
    next_attempt_ns: int = 0
    """When the next attempt is due after one that failed; 0: at once."""
    last_attempt_ns: int = 0
    last_failure: bytes = b""
    end_state: int = 0
    """temporal.api.enums.v1.CallbackState number once nothing is left to do; else 0."""
    update_id: str = ""
    """The update whose end it waits for; empty: the run's."""
    update_ended_ns: int = 0
    """When that update ended; 0 while it goes on."""
    rejection: bytes = b""
    """Why the workflow refused the update, which then is in no event: serialised temporal.api.failure.v1.Failure."""


class Update(Record):
    """An update that is in the history; its request and outcome stay in their events."""

    accepted_event_id: int = 0
    """0: it was brought by a reset, and the workflow has not looked at it yet."""
    completed_event_id: int = 0
    """0: its handler runs."""
    request_id: str = ""
    """Of the request that sent it, if it had one."""
    admitted_event_id: int = 0
    """Of the event with which a reset brought it; 0 for one that came as a message."""


@dataclass(slots=True)
class RunState:
    """A run's whole state as last committed. Only `transition.Transition.absorb` changes it."""

    run: RunKey
    version: int
    header: RunHeader
    wakeup_ns: int | None = None
    activities: dict[int, Activity] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)
    buffered: dict[int, HistoryEvent] = field(default_factory=dict)
    """Events that wait for the started workflow task to close, by order of arrival."""
    signal_request_ids: dict[str, int] = field(default_factory=dict)
    attached_requests: dict[str, int] = field(default_factory=dict)
    """By id of a request that was attached to the open run: the event that says so, 0 while it is buffered."""
    children: dict[int, Child] = field(default_factory=dict)
    """By initiated event id."""
    externals: dict[int, External] = field(default_factory=dict)
    """By initiated event id."""
    updates: dict[str, Update] = field(default_factory=dict)
    """By update id."""
    nexus_operations: dict[int, NexusOperation] = field(default_factory=dict)
    """By scheduled event id."""
    callbacks: dict[int, Callback] = field(default_factory=dict)
    """Completion callbacks by key; a closed run keeps them."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """"memo" and "search_attributes": serialised temporal.api.common.v1 Memo and SearchAttributes; "start_links":
    WorkflowExecutionStarted's links, if there are any."""
    started: HistoryEvent | None = field(default=None, compare=False)
    """The first event, held while a retry policy or cron schedule may need it; not part of what is stored."""
    measured: dict[str, dict[Any, int]] = field(default_factory=dict, compare=False)
    """By attribute: what `Overlay.measure` found of these items, so that a transition asks only for what changed."""


Copied = TypeVar("Copied")

encode: Callable[[Record], bytes] = msgspec.json.Encoder().encode
"""The JSON encoding of a header or item, without fields at their defaults; bytes as base64."""


def decoder(record: type[Stored]) -> Callable[[bytes], Stored]:
    """The inverse of `encode` for a header or one kind of items; it raises msgspec.DecodeError."""
    return msgspec.json.Decoder(record).decode


def clone(value: Copied) -> Copied:
    """A shallow copy of a header or item; one is made for every transition."""
    copied: Copied = value.__copy__()  # type: ignore[attr-defined]  # `copy.copy` takes five calls to get here
    return copied
