"""The state of a standalone activity: a header, the request that started it, and its outcome; and one transition of it.

The request never changes and is written once; the header is small and written with every transition. Times and
durations are integer nanoseconds; 0 means "none" where a field allows none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from perdure.api.activity.v1 import ActivityExecutionOutcome
from perdure.api.common.v1 import Link
from perdure.api.workflowservice.v1 import StartActivityExecutionRequest
from perdure.core.deployment.routes import Routes, queue_name
from perdure.core.invariant import invariant
from perdure.core.run.priorities import task_priority
from perdure.core.run.records import (
    ItemChange,
    QueueKey,
    RunKey,
    RunWrite,
    Task,
    TaskKey,
    TaskKind,
    VisibilityRecord,
)
from perdure.core.run.state import RUNNING, Activity, Record, clone, encode

TASK = TaskKey(TaskKind.ACTIVITY, 1)
"""The one task that an execution can have."""
_REQUEST = "request"
_OUTCOME = "outcome"
_LINKS = "links"
_ONLY = ""


class ActivityHeader(Record):
    """Everything of an execution that changes."""

    attempt: Activity = msgspec.field(default_factory=Activity)
    """The attempt that waits or is with a worker, or the last one. Its `first_scheduled_ns` is when the first attempt
    is due, from which schedule-to-close runs."""
    namespace: str = ""
    status: int = RUNNING
    """temporal.api.enums.v1.WorkflowExecutionStatus number, so that filters of lists read all runs alike."""
    start_request_id: str = ""
    schedule_ns: int = 0
    start_delay_ns: int = 0
    close_ns: int = 0
    retention_ns: int = 0
    """How long it is kept after it closed."""
    transition_count: int = 0

    first_started_ns: int = 0
    """When a worker took it for the first time; 0: none has."""
    last_started_ns: int = 0
    heartbeat_count: int = 0
    retry_interval_ns: int = 0
    """How long the wait between the last two attempts is; 0 when the attempt follows none that failed."""
    is_interval_given: bool = False
    """The worker chose it, so that a changed retry policy does not change it."""
    is_outcome_last_failure: bool = False
    """The outcome's failure is that of the last attempt too."""
    sdk_name: str = ""
    sdk_version: str = ""

    cancel_ns: int = 0
    """When its cancellation was requested; 0: it was not."""
    cancel_request_id: str = ""
    cancel_identity: str = ""
    cancel_reason: str = ""
    terminate_request_id: str = ""
    pause_request_id: str = ""
    """Of the last request that paused it, even if it goes on since."""
    unpause_request_id: str = ""
    reset_request_id: str = ""
    options_request_id: str = ""
    reset_restores_options: bool = False
    """When the attempt that is with a worker ends, the options are the original ones again."""
    reset_keeps_paused: bool = False
    """When the attempt that is with a worker ends, the activity is paused."""

    @property
    def is_open(self) -> bool:
        """Whether it has not closed."""
        return self.status == RUNNING

    @property
    def is_with_worker(self) -> bool:
        """Whether a worker has an attempt of it."""
        return self.is_open and self.attempt.started_ns != 0

    @property
    def is_waiting_paused(self) -> bool:
        """Whether it is paused and no worker has it."""
        return self.is_open and self.attempt.paused_ns != 0 and not self.attempt.started_ns

    @property
    def first_due_ns(self) -> int:
        """When the first attempt is due."""
        return self.schedule_ns + self.start_delay_ns

    def due_ns(self, wanted_ns: int) -> int:
        """When an attempt that is wanted at a time may begin: not before the first one is due, until one has begun."""
        return wanted_ns if self.first_started_ns else max(wanted_ns, self.first_due_ns)


@dataclass(frozen=True, slots=True)
class ActivityRun:
    """An execution as last committed; never changed.

    Attributes:
        run: which one; its `workflow_id` is the activity's id.
        version: 0 when it is not stored yet.
        header: what changes.
        request: what started it, normalised.
        outcome: how it ended; None while it is open.
        links: attached later, by the id of the request that did.
        wakeup_ns: when it must be looked at again at the latest.
    """

    run: RunKey
    version: int
    header: ActivityHeader
    request: StartActivityExecutionRequest
    outcome: ActivityExecutionOutcome | None = None
    links: Mapping[str, tuple[Link, ...]] = field(default_factory=dict)
    wakeup_ns: int | None = None

    @property
    def all_links(self) -> list[Link]:
        """Every link, those of the start first."""
        return [*self.request.links, *(link for links in self.links.values() for link in links)]

    def task(self) -> Task | None:
        """The task row that this state calls for: an attempt that is due and waits for a worker."""
        return task_of(self.run, self.header)


_decode_header = msgspec.json.Decoder(ActivityHeader).decode


def decode_activity(
    run: RunKey, version: int, header: bytes, items: Iterable[tuple[str, str, bytes]], wakeup_ns: int | None
) -> ActivityRun:
    """An execution's state from what the store keeps of it."""
    request = StartActivityExecutionRequest()
    outcome: ActivityExecutionOutcome | None = None
    links: dict[str, tuple[Link, ...]] = {}
    for kind, key, data in items:
        if kind == _REQUEST:
            request.ParseFromString(data)
        elif kind == _OUTCOME:
            outcome = ActivityExecutionOutcome.FromString(data)
        elif kind == _LINKS:
            links[key] = tuple(StartActivityExecutionRequest.FromString(data).links)
        else:
            invariant(False, "unknown kind of item", kind=kind, run=run)
    return ActivityRun(run, version, _decode_header(header), request, outcome, links, wakeup_ns)


def task_of(run: RunKey, header: ActivityHeader) -> Task | None:
    """The task row that a header calls for."""
    attempt = header.attempt
    if not header.is_open or attempt.started_ns or attempt.backing_off or attempt.paused_ns:
        return None
    level, fairness_key, weight = task_priority(attempt.priority)
    return Task(
        run,
        TASK,
        QueueKey(run.namespace_id, queue_name(attempt.task_queue, attempt.version), TaskKind.ACTIVITY),
        attempt.scheduled_ns,
        level,
        False,
        str(attempt.stamp),
        fairness_key,
        weight,
    )


class ActivityTransition:
    """One transition of one execution at one moment. Dropping it undoes everything.

    Args:
        state: the committed state.
        now_ns: the moment, nanoseconds since the epoch.

    Attributes:
        header, attempt: copies, free to modify.
        outcome: set by whatever closes the execution.
        new_links: links attached in this transition, by request id.
        visibility_changed: what lists show changed.
    """

    def __init__(self, state: ActivityRun, now_ns: int) -> None:
        self.state = state
        self.now_ns = now_ns
        self.header = clone(state.header)
        self.attempt = self.header.attempt = clone(state.header.attempt)
        self.outcome: ActivityExecutionOutcome | None = state.outcome
        self.new_links: dict[str, tuple[Link, ...]] = {}
        self.visibility_changed = not state.version
        self._wakeup_ns: int | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether there is nothing to commit."""
        return (
            self.state.version > 0
            and self.header == self.state.header
            and self.outcome is self.state.outcome
            and not self.new_links
        )

    def route(self, routes: Routes, *, again: bool = False) -> bool:
        """Says which version of workers the attempt that waits is for. Returns whether that is another one now.

        Args:
            routes: of the namespace.
            again: it waits already, and is dispatched once more if it goes elsewhere.
        """
        attempt = self.attempt
        if attempt.started_ns or not self.header.is_open:
            return False
        route = routes.route(attempt.task_queue, TaskKind.ACTIVITY)
        wanted = route.target(self.state.run.workflow_id)[0]
        if wanted == attempt.version:
            return False
        attempt.version = wanted
        if again:
            attempt.stamp += 1
        return True

    def new_task(self) -> Task | None:
        """The task that this transition makes available."""
        task = task_of(self.state.run, self.header)
        return task if task != self._old_task() else None

    def _old_task(self) -> Task | None:
        return self.state.task() if self.state.version else None

    def finish(
        self,
        wakeup_ns: int | None,
        visibility: VisibilityRecord | None,
        *,
        expected_current_run_id: str | None = None,
    ) -> RunWrite:
        """The record to commit.

        Args:
            wakeup_ns: the next deadline.
            visibility: how lists show it, if that changed.
            expected_current_run_id: for a new one, see `RunWrite`.
        """
        state, header = self.state, self.header
        header.transition_count += 1
        self._wakeup_ns = wakeup_ns
        task = self.new_task()
        is_gone = self._old_task() is not None and task_of(state.run, header) is None
        return RunWrite(
            run=state.run,
            expected_version=state.version,
            status=header.status,
            header=encode(header),
            wakeup_ns=wakeup_ns,
            items=tuple(self._item_changes()),
            tasks_put=() if task is None else (task,),
            tasks_deleted=(TASK,) if is_gone else (),
            visibility=visibility,
            becomes_current=not state.version,
            expected_current_run_id=expected_current_run_id,
            start_request_id="" if state.version else header.start_request_id,
            first_run_id="" if state.version else state.run.run_id,
        )

    def _item_changes(self) -> Iterable[ItemChange]:
        if not self.state.version:
            yield ItemChange(_REQUEST, _ONLY, self.state.request.SerializeToString())
        if self.outcome is not None and self.outcome is not self.state.outcome:
            yield ItemChange(_OUTCOME, _ONLY, self.outcome.SerializeToString())
        for request_id, links in self.new_links.items():
            data = StartActivityExecutionRequest(links=links).SerializeToString()
            yield ItemChange(_LINKS, request_id, data)

    def committed(self) -> ActivityRun:
        """The state that `finish`'s record leads to, once it is committed."""
        return replace(
            self.state,
            version=self.state.version + 1,
            header=self.header,
            outcome=self.outcome,
            links={**self.state.links, **self.new_links},
            wakeup_ns=self._wakeup_ns,
        )
