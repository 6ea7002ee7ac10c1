"""What an activity knows about itself: data handed to its code, and nothing that acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.common import Priority, RetryPolicy


@dataclass(frozen=True)
class Info:
    """Information about the running activity, as `info` returns it.

    Do not make one yourself: later versions may add required fields. In tests, take
    `perdure.testing.ActivityEnvironment.default_info()` and change it with `dataclasses.replace`.

    Attributes:
        activity_id: Id of the activity, unique within its workflow run.
        activity_type: Name under which it was scheduled.
        attempt: 1 for the first attempt.
        current_attempt_scheduled_time: When this attempt was scheduled.
        heartbeat_details: What the last attempt reported with its last heartbeat.
        heartbeat_timeout: Longest time between heartbeats, if there is one.
        is_local: Whether it runs as a local activity, inside the worker of its workflow.
        namespace: Namespace that it runs in.
        schedule_to_close_timeout: Longest time for all attempts together, if there is one.
        scheduled_time: When the first attempt was scheduled.
        start_to_close_timeout: Longest time for one attempt, if there is one.
        started_time: When this attempt started.
        task_queue: Task queue that it was taken from.
        task_token: Token for finishing it from elsewhere.
        workflow_id: Id of its workflow; None if no workflow started it.
        workflow_namespace: Namespace of its workflow; use `namespace`.
        workflow_run_id: Run of its workflow; None if no workflow started it.
        workflow_type: Type of its workflow; None if no workflow started it.
        priority: Priority that it was scheduled with.
        retry_policy: As the server applies it; None if the server did not say.
        activity_run_id: Run of the activity itself; None if a workflow started it.
    """

    activity_id: str
    activity_type: str
    attempt: int
    current_attempt_scheduled_time: datetime
    heartbeat_details: Sequence[Any]
    heartbeat_timeout: timedelta | None
    is_local: bool
    namespace: str
    schedule_to_close_timeout: timedelta | None
    scheduled_time: datetime
    start_to_close_timeout: timedelta | None
    started_time: datetime
    task_queue: str
    task_token: bytes
    workflow_id: str | None
    workflow_namespace: str | None
    workflow_run_id: str | None
    workflow_type: str | None
    priority: Priority
    retry_policy: RetryPolicy | None
    activity_run_id: str | None = None

    @property
    def in_workflow(self) -> bool:
        """Whether a workflow started this activity."""
        return self.workflow_id is not None

    def _logger_details(self) -> Mapping[str, Any]:
        return {
            "activity_id": self.activity_id,
            "activity_type": self.activity_type,
            "attempt": self.attempt,
            "namespace": self.namespace,
            "task_queue": self.task_queue,
            "workflow_id": self.workflow_id,
            "workflow_run_id": self.workflow_run_id,
            "workflow_type": self.workflow_type,
        }


@dataclass(frozen=True)
class ActivityCancellationDetails:
    """Why an activity is being cancelled. Set once; does not change afterwards.

    Attributes:
        not_found: The server does not know the attempt any more.
        cancel_requested: Its workflow, or a client, asked for it.
        paused: The activity was paused.
        reset: The activity was reset.
        timed_out: The attempt ran out of time.
        worker_shutdown: The worker is shutting down.
    """

    not_found: bool = False
    cancel_requested: bool = False
    paused: bool = False
    reset: bool = False
    timed_out: bool = False
    worker_shutdown: bool = False


@dataclass
class CancellationDetailsHolder:
    """Where the details of a cancellation appear for the code that runs."""

    details: ActivityCancellationDetails | None = None
