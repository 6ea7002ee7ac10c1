"""The store's protocol: each method is one whole transaction, or one consistent read.

A store keeps what transitions leave behind and decides races by version checks; it knows nothing of what the bytes
mean. No idea of one database may appear here. Implementations: `memory` (the model), `sqlite`; PostgreSQL can follow.

Every method raises `StoreUnavailableError` when the store cannot do it. For a write the outcome is then unknown: the
caller must re-read before it answers or decides anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from perdure.core.run.records import (
    EventBatch,
    QueueKey,
    RunKey,
    RunKind,
    RunWrite,
    Task,
    VisibilityRecord,
)
from perdure.core.visibility import Node, OrderBy


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it was last committed."""

    run: RunKey
    version: int
    status: int
    header: bytes
    items: tuple[tuple[str, str, bytes], ...]
    """(kind, key, data) of every item, ordered by kind then by order of first insertion."""
    wakeup_ns: int | None


@dataclass(frozen=True, slots=True)
class CurrentRun:
    """The newest run of a workflow id."""

    run: RunKey
    status: int
    start_request_id: str
    first_run_id: str


@dataclass(frozen=True, slots=True)
class StoredNamespace:
    """A namespace; `config` is the server's own encoding of everything but the two names."""

    namespace_id: str
    name: str
    version: int
    config: bytes


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One row of a list."""

    run: RunKey
    record: VisibilityRecord


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list and where the next one starts (None: no more)."""

    rows: tuple[ListedRun, ...]
    next_cursor: bytes | None


@dataclass(frozen=True, slots=True)
class StoredEndpoint:
    """An endpoint of the Nexus registry; `data` is the server's own encoding of everything but id and name."""

    endpoint_id: str
    name: str
    version: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredDeployment:
    """A worker deployment; `data` is its encoded state."""

    namespace_id: str
    name: str
    version: int
    data: bytes


class TaskCursor(NamedTuple):
    """Position in a task queue: tasks come by priority (1 first, 0 counts as 3), by place, then in order of arrival."""

    priority: int
    place: int
    sequence: int


class TaskCount(NamedTuple):
    """How many tasks of a priority wait in a queue, and `enqueued_ns` of the oldest."""

    priority: int
    waiting: int
    oldest_ns: int


class TaskLevel(NamedTuple):
    """Where the tasks of a priority lie in a queue: the first place, and the last of each of its fairness keys."""

    priority: int
    first_place: int
    last_places: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StoredQueueConfig:
    """What operators set of a task queue; `data` is its encoded state."""

    queue: QueueKey
    version: int
    data: bytes


class ScheduleKey(NamedTuple):
    """Names one schedule. The namespace is its id (a UUID), not its name."""

    namespace_id: str
    schedule_id: str


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule as it was last committed.

    Attributes:
        key: which one.
        version: 1 for a new one.
        wakeup_ns: when it must be looked at again at the latest, nanoseconds since the epoch; None: never.
        entry: what lists show of it.
        data: its encoded state.
    """

    key: ScheduleKey
    version: int
    wakeup_ns: int | None
    entry: bytes
    data: bytes


class BatchKey(NamedTuple):
    """Names one batch operation. The namespace is its id (a UUID), not its name."""

    namespace_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch operation as it was last committed.

    Attributes:
        key: which one.
        version: 1 for a new one.
        start_time_ns, close_time_ns: nanoseconds since the epoch; None while it is open.
        entry: what lists show of it.
        data: its encoded state.
    """

    key: BatchKey
    version: int
    start_time_ns: int
    close_time_ns: int | None
    entry: bytes
    data: bytes


class BatchPosition(NamedTuple):
    """A place in the list of batch operations: open ones first, then by close time, start time and id."""

    close_key: int
    start_time_ns: int
    job_id: str


class ScheduleWakeup(NamedTuple):
    """A schedule that must be looked at again at `wakeup_ns`."""

    wakeup_ns: int
    key: ScheduleKey


class Wakeup(NamedTuple):
    """A run that must be looked at again at `wakeup_ns`."""

    wakeup_ns: int
    run: RunKey


class Store(Protocol):
    """Where Perdure keeps everything. All methods may be called concurrently from one event loop."""

    async def open(self) -> None:
        """Opens the database, migrates it forward if it is older.

        Raises:
            StoreOpenError: not our database, written by a newer release, in use by another process, not writable.
        """

    async def close(self) -> None:
        """Finishes what is queued and closes. Further calls raise StoreUnavailableError. May be called twice."""

    async def cluster_id(self) -> str:
        """The database's own identity, made once when it is created (a UUID)."""

    def commit(self, unit: Sequence[RunWrite], schedule: StoredSchedule | None = None) -> Awaitable[None]:
        """Writes all of `unit`'s runs or none, durably, before it returns; with them, as `put_schedule`, a schedule.

        Units take effect, and are answered, in the order of the calls: a unit may be computed on others that are not
        answered yet. If one of those fails, the versions that it expects are never reached, and it fails too. (A store
        that other servers write as well must see to that itself: they could reach the same version differently.)
        Units that are ready together may share one physical transaction; one unit's conflict never fails another.
        A unit names each run once. Its writes take effect in their order: the second meets the current runs that the
        first left. A run id names one run in the whole store. Of a write, deletions of tasks come before puts; a put
        replaces a task of the same key and sends it to the end of its queue. Deleting what is not there is no error.

        Raises:
            InvariantViolation: the unit breaks a rule that no race explains (a gap in the history, a run twice).
            VersionConflictError: a run's stored version is not `expected_version` (of one write, checked first), or the
                schedule's not the one before it (checked before those).
            CurrentRunConflictError: a workflow id's current run is not `expected_current_run_id`.
        """

    async def load_run(self, run: RunKey) -> StoredRun | None:
        """The run's last committed state, or None."""

    async def current_run(
        self, namespace_id: str, workflow_id: str, kind: RunKind = RunKind.WORKFLOW
    ) -> CurrentRun | None:
        """The newest run of an id of this kind, open or closed, or None."""

    async def delete_run(self, run: RunKey) -> bool:
        """Deletes a run with its history, items, tasks and list row; also as the current run if it is that.

        Returns:
            whether it was there.
        """

    async def read_history(
        self, run: RunKey, first_event_id: int, end_event_id: int, max_bytes: int, *, reverse: bool = False
    ) -> Sequence[EventBatch]:
        """Whole batches that hold events of [first_event_id, end_event_id), ordered (reverse: newest batch first).

        Stops after the batch with which the sum of sizes reaches `max_bytes`; at least one batch if any matches.
        """

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """Runs to wake up to and including `until_ns`, ordered by (wakeup_ns, run), strictly after `after`."""

    async def read_tasks(
        self, queue: QueueKey, after: TaskCursor | None, limit: int
    ) -> Sequence[tuple[TaskCursor, Task]]:
        """Waiting tasks of a queue in order, strictly after `after`. Cost depends on `limit`, not on the backlog."""

    async def count_tasks(self, queue: QueueKey) -> Sequence[TaskCount]:
        """The waiting tasks of each priority that has any, most urgent first."""

    async def task_levels(self, queue: QueueKey, last: int) -> Sequence[TaskLevel]:
        """Each priority that has tasks, most urgent first, with the keys of its `last` tasks in order."""

    async def list_runs(
        self,
        namespace_id: str,
        where: Node | None,
        page_size: int,
        cursor: bytes | None,
        kind: RunKind = RunKind.WORKFLOW,
    ) -> ListPage:
        """Runs of a kind that match, open ones first, then by close time, start time (newest first) and run id.

        `page_size` is at least 1. Of a record, `close_time_ns` is None exactly while the run is open, and statuses 1
        (running) and 2 to 7 (closed) agree with it.

        Raises:
            InvalidArgumentError: `cursor` is not one of ours.
        """

    async def list_runs_ordered(
        self, namespace_id: str, where: Node | None, order: OrderBy, page_size: int, cursor: bytes | None
    ) -> ListPage:
        """Runs of workflows that match: by an attribute's value and run id, then those without it as in `list_runs`.

        The attribute is StartTime, CloseTime, or a search attribute of type Keyword, Int, Double or Datetime.

        Raises:
            InvalidArgumentError: `cursor` is not one of ours.
        """

    async def count_runs(
        self,
        namespace_id: str,
        where: Node | None,
        group_by: str | None,
        kind: RunKind = RunKind.WORKFLOW,
    ) -> Sequence[tuple[object, int]]:
        """Number of matching runs of a kind: one (None, n) without `group_by`, else one (value, n) per value, largest
        first."""

    async def purge_attribute(self, namespace_id: str, name: str, limit: int) -> int:
        """Takes a search attribute out of what lists and filters see of a namespace's runs, some of them at a time.

        Returns:
            how much was done: 0 when nothing is left, at most `limit`.
        """

    async def list_namespaces(self) -> Sequence[StoredNamespace]:
        """Every namespace, by name."""

    async def put_namespace(self, namespace: StoredNamespace) -> None:
        """Creates (version 1) or replaces (version + 1 of the stored one) a namespace.

        Raises:
            VersionConflictError: the stored version is not `namespace.version - 1`, or the name is taken.
        """

    async def delete_namespace(self, namespace_id: str) -> bool:
        """Deletes the namespace's row (its runs are deleted one by one before). Returns whether it was there."""

    async def put_schedule(self, schedule: StoredSchedule) -> None:
        """Creates (version 1) or replaces (version + 1 of the stored one) a schedule, durably, before it returns.

        Raises:
            VersionConflictError: the stored version is not `schedule.version - 1`.
        """

    async def load_schedule(self, key: ScheduleKey) -> StoredSchedule | None:
        """The schedule as it was last committed, or None."""

    async def delete_schedule(self, key: ScheduleKey) -> bool:
        """Deletes a schedule. Returns whether it was there."""

    async def due_schedules(
        self, until_ns: int, after: ScheduleWakeup | None, limit: int
    ) -> Sequence[ScheduleWakeup]:
        """Schedules to wake up to and including `until_ns`, ordered by (wakeup_ns, key), strictly after `after`."""

    async def list_schedules(
        self, namespace_id: str, after_id: str, limit: int
    ) -> Sequence[tuple[str, bytes]]:
        """(schedule id, entry) of a namespace's schedules in the order of their ids, strictly after `after_id`."""

    async def list_endpoints(self) -> Sequence[StoredEndpoint]:
        """Every Nexus endpoint, by id."""

    async def put_endpoint(self, endpoint: StoredEndpoint) -> None:
        """Creates (version 1) or replaces (version + 1 of the stored one) a Nexus endpoint, durably, before it returns.

        Raises:
            VersionConflictError: the stored version is not `endpoint.version - 1`, or the name is taken.
        """

    async def delete_endpoint(self, endpoint_id: str) -> bool:
        """Deletes a Nexus endpoint. Returns whether it was there."""

    async def put_batch(self, batch: StoredBatch) -> None:
        """Creates (version 1) or replaces (version + 1 of the stored one) a batch operation, durably.

        Raises:
            VersionConflictError: the stored version is not `batch.version - 1`.
        """

    async def load_batch(self, key: BatchKey) -> StoredBatch | None:
        """The batch operation as it was last committed, or None."""

    async def delete_batch(self, key: BatchKey) -> bool:
        """Deletes a batch operation. Returns whether it was there."""

    async def list_batches(
        self, namespace_id: str, after: BatchPosition | None, limit: int
    ) -> Sequence[tuple[BatchPosition, bytes]]:
        """(place, entry) of batch operations, open ones first, then the last closed, strictly after `after`."""

    async def list_deployments(self) -> Sequence[StoredDeployment]:
        """Every worker deployment, by namespace id and name."""

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """Creates (version 1) or replaces (version + 1 of the stored one) a worker deployment, durably, before it
        returns.

        Raises:
            VersionConflictError: the stored version is not `deployment.version - 1`.
        """

    async def delete_deployment(self, namespace_id: str, name: str) -> bool:
        """Deletes a worker deployment. Returns whether it was there."""

    async def list_queue_configs(self) -> Sequence[StoredQueueConfig]:
        """Every configured task queue, by key."""

    async def put_queue_config(self, config: StoredQueueConfig) -> None:
        """Creates (version 1) or replaces (version + 1 of the stored one) a queue's configuration, durably.

        Raises:
            VersionConflictError: the stored version is not `config.version - 1`.
        """

    async def delete_queue_config(self, queue: QueueKey) -> bool:
        """Deletes a queue's configuration. Returns whether it was there."""

    async def is_durable(self) -> bool:
        """Whether a committed write survives the end of the process."""
