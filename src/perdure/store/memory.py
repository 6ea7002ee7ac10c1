"""The store in memory: the model the other stores are compared with, and a server's store when it has no
file.

Simple rather than fast, but no operation costs more than its answer or a shift of a sorted list. Nothing is
awaited, so every method is one atomic step of the event loop. No clock, no randomness, no order that depends on
hashes: the simulator gets the same answers from the same calls.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import msgspec

from perdure.core.errors import StoreUnavailableError
from perdure.core.invariant import invariant, present
from perdure.core.run.records import (
    EventBatch,
    QueueKey,
    RunKey,
    RunKind,
    RunWrite,
    Task,
    TaskKey,
    VisibilityRecord,
)
from perdure.core.visibility import Node, OrderBy, matches, value_of
from perdure.store.checks import (
    DEFAULT_PRIORITY,
    batch_conflict,
    check_append,
    check_unit,
    current_run_conflict,
    deployment_conflict,
    endpoint_conflict,
    namespace_conflict,
    queue_config_conflict,
    schedule_conflict,
    version_conflict,
)
from perdure.store.cursor import (
    ListPosition,
    OrderedPosition,
    close_key,
    decode_cursor,
    decode_ordered_cursor,
    encode_cursor,
    encode_ordered_cursor,
)
from perdure.store.listing import RunSize, copy_record, filter_record, group_of, sort_groups
from perdure.store.protocol import (
    BatchKey,
    BatchPosition,
    CurrentRun,
    ListedRun,
    ListPage,
    ScheduleKey,
    ScheduleWakeup,
    StoredBatch,
    StoredDeployment,
    StoredEndpoint,
    StoredNamespace,
    StoredQueueConfig,
    StoredRun,
    StoredSchedule,
    TaskCount,
    TaskCursor,
    TaskLevel,
    Wakeup,
)

DEFAULT_CLUSTER_ID = "00000000-0000-7000-8000-000000000000"

_T = TypeVar("_T", bound=Any)


class _SortedSet(Generic[_T]):
    """Unique comparable values in ascending order."""

    def __init__(self) -> None:
        self._values: list[_T] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: _T) -> None:
        insort(self._values, value)

    def remove(self, value: _T) -> None:
        index = bisect_left(self._values, value)
        invariant(
            index < len(self._values) and self._values[index] == value,
            "a value removed is there",
            value=value,
        )
        del self._values[index]

    def after(self, value: _T | None) -> Iterator[_T]:
        """The values strictly after `value`, or all."""
        start = 0 if value is None else bisect_right(self._values, value)
        for index in range(start, len(self._values)):
            yield self._values[index]


@dataclass(slots=True)
class _Run:
    """Everything of one run."""

    version: int = 0
    status: int = 0
    header: bytes = b""
    wakeup_ns: int | None = None
    start_request_id: str = ""
    first_run_id: str = ""
    history_size_bytes: int = 0
    transition_count: int = 0
    events: list[EventBatch] = field(default_factory=list)
    items: dict[tuple[str, str], bytes] = field(default_factory=dict)
    tasks: dict[TaskKey, tuple[TaskCursor, Task]] = field(default_factory=dict)
    visibility: VisibilityRecord | None = None

    @property
    def last_event_id(self) -> int:
        return self.events[-1].last_event_id if self.events else 0


def _list_key(run: RunKey, record: VisibilityRecord) -> tuple[int, int, str]:
    """Sorts a run as lists show it: ascending order of this key."""
    return (-close_key(record.close_time_ns), -record.start_time_ns, run.run_id)


def _is_behind(pair: tuple[Any, ListedRun], after: OrderedPosition, descending: bool) -> bool:
    value, row = pair
    if value == after.value:
        return row.run.run_id > after.run_id
    return bool(value < after.value if descending else value > after.value)


def _batch_order(position: BatchPosition) -> tuple[int, int, str]:
    return (-position.close_key, -position.start_time_ns, position.job_id)


class MemoryStore:
    """A `Store` that forgets everything when the process ends.

    Args:
        cluster_id: the identity to report; a UUID.
    """

    def __init__(self, cluster_id: str = DEFAULT_CLUSTER_ID) -> None:
        self._cluster_id = cluster_id
        self._closed = False
        self._runs: dict[RunKey, _Run] = {}
        self._run_ids: dict[str, RunKey] = {}
        self._current: dict[tuple[str, str, RunKind], RunKey] = {}
        self._wakeups: _SortedSet[Wakeup] = _SortedSet()
        self._queues: dict[QueueKey, dict[TaskCursor, Task]] = {}
        self._queue_order: dict[QueueKey, _SortedSet[TaskCursor]] = {}
        self._lists: dict[tuple[str, RunKind], _SortedSet[tuple[int, int, str]]] = {}
        self._namespaces: dict[str, StoredNamespace] = {}
        self._schedules: dict[ScheduleKey, StoredSchedule] = {}
        self._endpoints: dict[str, StoredEndpoint] = {}
        self._deployments: dict[tuple[str, str], StoredDeployment] = {}
        self._queue_configs: dict[QueueKey, StoredQueueConfig] = {}
        self._batches: dict[BatchKey, StoredBatch] = {}
        self._schedule_order: _SortedSet[ScheduleKey] = _SortedSet()
        self._schedule_wakeups: _SortedSet[ScheduleWakeup] = _SortedSet()
        self._task_sequence = 0

    async def open(self) -> None:
        """Makes the store usable (again): a simulated server that restarts finds what it left."""
        self._closed = False

    async def close(self) -> None:
        """Makes further calls fail."""
        self._closed = True

    async def cluster_id(self) -> str:
        """The identity given when the store was made."""
        self._check_open()
        return self._cluster_id

    async def is_durable(self) -> bool:
        """Never."""
        self._check_open()
        return False

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("The store is closed.")

    # --- writing runs

    async def commit(self, unit: Sequence[RunWrite], schedule: StoredSchedule | None = None) -> None:
        """See `Store.commit`."""
        self._check_open()
        check_unit(unit)
        if schedule is not None:
            self._check_schedule(schedule)
        self._check_expectations(unit)
        for write in unit:
            self._apply(write)
        if schedule is not None:
            self._set_schedule(schedule)

    def _check_expectations(self, unit: Sequence[RunWrite]) -> None:
        """Checks every version and current run as the writes would meet them one after the other."""
        current_now: dict[tuple[str, str, RunKind], str | None] = {}
        run_ids_now: set[str] = set()
        for write in unit:
            run = write.run
            stored = self._runs.get(run)
            stored_version = stored.version if stored else 0
            taken = stored is None and (run.run_id in self._run_ids or run.run_id in run_ids_now)
            if stored_version != write.expected_version or taken:
                raise version_conflict(write, stored_version)
            run_ids_now.add(run.run_id)
            check_append(write, stored.last_event_id if stored else 0)
            if write.becomes_current:
                workflow = (run.namespace_id, run.workflow_id, run.kind)
                current = self._current.get(workflow)
                current_run_id = current_now.get(workflow, current.run_id if current else None)
                if current_run_id != write.expected_current_run_id:
                    raise current_run_conflict(write, current_run_id)
                current_now[workflow] = run.run_id

    def _apply(self, write: RunWrite) -> None:
        run = write.run
        stored = self._runs.get(run)
        if stored is None:
            stored = self._runs[run] = _Run()
            self._run_ids[run.run_id] = run
        stored.version = write.expected_version + 1
        stored.status = write.status
        stored.header = write.header
        stored.history_size_bytes = write.history_size_bytes
        stored.transition_count = write.transition_count
        stored.events.extend(write.events)
        self._set_wakeup(run, stored, write.wakeup_ns)
        for item in write.items:
            if item.data is None:
                stored.items.pop((item.kind, item.key), None)
            else:
                stored.items[item.kind, item.key] = item.data
        for key in write.tasks_deleted:
            self._delete_task(stored, key)
        for task in write.tasks_put:
            self._put_task(stored, task)
        if write.visibility is not None:
            self._set_visibility(run, stored, copy_record(write.visibility))
        if write.becomes_current:
            stored.start_request_id = write.start_request_id
            stored.first_run_id = write.first_run_id
            self._current[run.namespace_id, run.workflow_id, run.kind] = run

    def _set_wakeup(self, run: RunKey, stored: _Run, wakeup_ns: int | None) -> None:
        if stored.wakeup_ns == wakeup_ns:
            return
        if stored.wakeup_ns is not None:
            self._wakeups.remove(Wakeup(stored.wakeup_ns, run))
        if wakeup_ns is not None:
            self._wakeups.add(Wakeup(wakeup_ns, run))
        stored.wakeup_ns = wakeup_ns

    def _put_task(self, stored: _Run, task: Task) -> None:
        self._delete_task(stored, task.key)
        self._task_sequence += 1
        cursor = TaskCursor(task.priority_key or DEFAULT_PRIORITY, task.place, self._task_sequence)
        stored.tasks[task.key] = (cursor, task)
        self._queues.setdefault(task.queue, {})[cursor] = task
        self._queue_order.setdefault(task.queue, _SortedSet()).add(cursor)

    def _delete_task(self, stored: _Run, key: TaskKey) -> None:
        if key not in stored.tasks:
            return
        cursor, task = stored.tasks.pop(key)
        del self._queues[task.queue][cursor]
        self._queue_order[task.queue].remove(cursor)
        if not self._queues[task.queue]:
            del self._queues[task.queue], self._queue_order[task.queue]

    def _set_visibility(self, run: RunKey, stored: _Run, record: VisibilityRecord | None) -> None:
        if stored.visibility is not None:
            self._lists[run.namespace_id, run.kind].remove(_list_key(run, stored.visibility))
        if record is not None:
            self._lists.setdefault((run.namespace_id, run.kind), _SortedSet()).add(_list_key(run, record))
        stored.visibility = record

    async def delete_run(self, run: RunKey) -> bool:
        """See `Store.delete_run`."""
        self._check_open()
        stored = self._runs.get(run)
        if stored is None:
            return False
        for key in list(stored.tasks):
            self._delete_task(stored, key)
        self._set_visibility(run, stored, None)
        self._set_wakeup(run, stored, None)
        workflow = (run.namespace_id, run.workflow_id, run.kind)
        if self._current.get(workflow) == run:
            del self._current[workflow]
        del self._runs[run], self._run_ids[run.run_id]
        return True

    # --- reading runs

    async def load_run(self, run: RunKey) -> StoredRun | None:
        """See `Store.load_run`."""
        self._check_open()
        stored = self._runs.get(run)
        if stored is None:
            return None
        items = sorted(stored.items.items(), key=lambda item: item[0][0])
        return StoredRun(
            run=run,
            version=stored.version,
            status=stored.status,
            header=stored.header,
            items=tuple((kind, key, data) for (kind, key), data in items),
            wakeup_ns=stored.wakeup_ns,
        )

    async def current_run(
        self, namespace_id: str, workflow_id: str, kind: RunKind = RunKind.WORKFLOW
    ) -> CurrentRun | None:
        """See `Store.current_run`."""
        self._check_open()
        run = self._current.get((namespace_id, workflow_id, kind))
        if run is None:
            return None
        stored = self._runs[run]
        return CurrentRun(run, stored.status, stored.start_request_id, stored.first_run_id)

    async def read_history(
        self, run: RunKey, first_event_id: int, end_event_id: int, max_bytes: int, *, reverse: bool = False
    ) -> Sequence[EventBatch]:
        """See `Store.read_history`."""
        self._check_open()
        stored = self._runs.get(run)
        batches = stored.events if stored else []
        page: list[EventBatch] = []
        size = 0
        for batch in reversed(batches) if reverse else batches:
            if batch.first_event_id >= end_event_id or batch.last_event_id < first_event_id:
                continue
            page.append(batch)
            size += len(batch.data)
            if size >= max_bytes:
                break
        return tuple(page)

    # --- what has to be done

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """See `Store.due_wakeups`."""
        self._check_open()
        due: list[Wakeup] = []
        for wakeup in self._wakeups.after(after):
            if wakeup.wakeup_ns > until_ns or len(due) >= limit:
                break
            due.append(wakeup)
        return tuple(due)

    async def read_tasks(
        self, queue: QueueKey, after: TaskCursor | None, limit: int
    ) -> Sequence[tuple[TaskCursor, Task]]:
        """See `Store.read_tasks`."""
        self._check_open()
        if queue not in self._queues:
            return ()
        tasks = self._queues[queue]
        page: list[tuple[TaskCursor, Task]] = []
        for cursor in self._queue_order[queue].after(after):
            if len(page) >= limit:
                break
            page.append((cursor, tasks[cursor]))
        return tuple(page)

    async def count_tasks(self, queue: QueueKey) -> Sequence[TaskCount]:
        """See `Store.count_tasks`."""
        self._check_open()
        levels: dict[int, list[int]] = {}
        for cursor, task in self._queues.get(queue, {}).items():
            levels.setdefault(cursor.priority, []).append(task.enqueued_ns)
        return tuple(TaskCount(level, len(times), min(times)) for level, times in sorted(levels.items()))

    async def task_levels(self, queue: QueueKey, last: int) -> Sequence[TaskLevel]:
        """See `Store.task_levels`."""
        self._check_open()
        levels: dict[int, list[tuple[int, str]]] = {}
        for cursor, task in sorted(self._queues.get(queue, {}).items()):
            levels.setdefault(cursor.priority, []).append((cursor.place, task.fairness_key))
        return tuple(
            TaskLevel(level, tasks[0][0], {key: place for place, key in tasks[-last:]})
            for level, tasks in sorted(levels.items())
        )

    # --- lists

    def _listed(
        self, namespace_id: str, where: Node | None, after: ListPosition | None, kind: RunKind
    ) -> Iterator[ListedRun]:
        """The matching runs in list order. Records are copies, so that nobody can change what is stored."""
        key = None if after is None else (-after.close_key, -after.start_time_ns, after.run_id)
        for _, _, run_id in self._lists.get((namespace_id, kind), _SortedSet()).after(key):
            run = self._run_ids[run_id]
            stored = self._runs[run]
            record = present(stored.visibility, "a listed run has no record", run=run)
            size = RunSize(stored.last_event_id, stored.history_size_bytes, stored.transition_count)
            if where is None or matches(where, filter_record(run, record, size)):
                yield ListedRun(run, record)

    async def list_runs(
        self,
        namespace_id: str,
        where: Node | None,
        page_size: int,
        cursor: bytes | None,
        kind: RunKind = RunKind.WORKFLOW,
    ) -> ListPage:
        """See `Store.list_runs`."""
        self._check_open()
        rows: list[ListedRun] = []
        for row in self._listed(namespace_id, where, decode_cursor(cursor) if cursor else None, kind):
            if len(rows) == page_size:
                last = rows[-1]
                position = ListPosition(
                    close_key(last.record.close_time_ns), last.record.start_time_ns, last.run.run_id
                )
                return ListPage(tuple(rows), encode_cursor(position))
            rows.append(replace(row, record=copy_record(row.record)))
        return ListPage(tuple(rows), None)

    async def list_runs_ordered(
        self, namespace_id: str, where: Node | None, order: OrderBy, page_size: int, cursor: bytes | None
    ) -> ListPage:
        """See `Store.list_runs_ordered`."""
        self._check_open()
        after = decode_ordered_cursor(cursor, order.attribute.type) if cursor else None
        found: list[tuple[Any, ListedRun]] = []
        others: list[ListedRun] = []
        for row in self._listed(namespace_id, where, None, RunKind.WORKFLOW):
            value = value_of(order.attribute, filter_record(row.run, row.record, RunSize(0, 0, 0)))
            if value is None:
                others.append(row)
            elif not isinstance(after, ListPosition):
                found.append((value, row))
        found.sort(key=lambda pair: pair[1].run.run_id)
        found.sort(key=lambda pair: pair[0], reverse=order.descending)
        if isinstance(after, OrderedPosition):
            found = [pair for pair in found if _is_behind(pair, after, order.descending)]
        elif after is not None:
            place = (-after.close_key, -after.start_time_ns, after.run_id)
            others = [row for row in others if _list_key(row.run, row.record) > place]
        rows = [*(row for _, row in found), *others]
        shown = tuple(replace(row, record=copy_record(row.record)) for row in rows[:page_size])
        if len(rows) <= page_size:
            return ListPage(shown, None)
        if page_size <= len(found):
            value, last = found[page_size - 1]
            return ListPage(shown, encode_ordered_cursor(OrderedPosition(value, last.run.run_id)))
        last = shown[-1]
        closed = close_key(last.record.close_time_ns)
        position = ListPosition(closed, last.record.start_time_ns, last.run.run_id)
        return ListPage(shown, encode_cursor(position))

    async def count_runs(
        self,
        namespace_id: str,
        where: Node | None,
        group_by: str | None,
        kind: RunKind = RunKind.WORKFLOW,
    ) -> Sequence[tuple[object, int]]:
        """See `Store.count_runs`."""
        self._check_open()
        groups: dict[object, int] = {} if group_by else {None: 0}
        for row in self._listed(namespace_id, where, None, kind):
            value = group_of(group_by, row.run, row.record) if group_by else None
            groups[value] = groups.get(value, 0) + 1
        return sort_groups(groups.items())

    async def purge_attribute(self, namespace_id: str, name: str, limit: int) -> int:
        """See `Store.purge_attribute`."""
        self._check_open()
        done = 0
        for run, stored in self._runs.items():
            record = stored.visibility
            if run.namespace_id != namespace_id or record is None or name not in record.attributes:
                continue
            if done == limit:
                break
            kept = {key: value for key, value in record.attributes.items() if key != name}
            stored.visibility = msgspec.structs.replace(record, attributes=kept)
            done += 1
        return done

    # --- namespaces

    async def list_namespaces(self) -> Sequence[StoredNamespace]:
        """See `Store.list_namespaces`."""
        self._check_open()
        return tuple(sorted(self._namespaces.values(), key=lambda namespace: namespace.name))

    async def put_namespace(self, namespace: StoredNamespace) -> None:
        """See `Store.put_namespace`."""
        self._check_open()
        stored = self._namespaces.get(namespace.namespace_id)
        stored_version = stored.version if stored else 0
        if stored_version != namespace.version - 1:
            raise namespace_conflict(namespace, stored_version)
        if any(
            other.name == namespace.name and other.namespace_id != namespace.namespace_id
            for other in self._namespaces.values()
        ):
            raise namespace_conflict(namespace, stored_version)
        self._namespaces[namespace.namespace_id] = namespace

    async def delete_namespace(self, namespace_id: str) -> bool:
        """See `Store.delete_namespace`."""
        self._check_open()
        return self._namespaces.pop(namespace_id, None) is not None

    # --- schedules

    async def put_schedule(self, schedule: StoredSchedule) -> None:
        """See `Store.put_schedule`."""
        self._check_open()
        self._check_schedule(schedule)
        self._set_schedule(schedule)

    def _check_schedule(self, schedule: StoredSchedule) -> None:
        stored = self._schedules.get(schedule.key)
        stored_version = stored.version if stored else 0
        if stored_version != schedule.version - 1:
            raise schedule_conflict(schedule, stored_version)

    def _set_schedule(self, schedule: StoredSchedule) -> None:
        stored = self._schedules.get(schedule.key)
        if stored is None:
            self._schedule_order.add(schedule.key)
        elif stored.wakeup_ns is not None:
            self._schedule_wakeups.remove(ScheduleWakeup(stored.wakeup_ns, schedule.key))
        if schedule.wakeup_ns is not None:
            self._schedule_wakeups.add(ScheduleWakeup(schedule.wakeup_ns, schedule.key))
        self._schedules[schedule.key] = schedule

    async def load_schedule(self, key: ScheduleKey) -> StoredSchedule | None:
        """See `Store.load_schedule`."""
        self._check_open()
        return self._schedules.get(key)

    async def delete_schedule(self, key: ScheduleKey) -> bool:
        """See `Store.delete_schedule`."""
        self._check_open()
        stored = self._schedules.pop(key, None)
        if stored is None:
            return False
        self._schedule_order.remove(key)
        if stored.wakeup_ns is not None:
            self._schedule_wakeups.remove(ScheduleWakeup(stored.wakeup_ns, key))
        return True

    async def put_batch(self, batch: StoredBatch) -> None:
        """See `Store.put_batch`."""
        self._check_open()
        stored = self._batches.get(batch.key)
        stored_version = stored.version if stored else 0
        if stored_version != batch.version - 1:
            raise batch_conflict(batch, stored_version)
        self._batches[batch.key] = batch

    async def load_batch(self, key: BatchKey) -> StoredBatch | None:
        """See `Store.load_batch`."""
        self._check_open()
        return self._batches.get(key)

    async def delete_batch(self, key: BatchKey) -> bool:
        """See `Store.delete_batch`."""
        self._check_open()
        return self._batches.pop(key, None) is not None

    async def list_batches(
        self, namespace_id: str, after: BatchPosition | None, limit: int
    ) -> Sequence[tuple[BatchPosition, bytes]]:
        """See `Store.list_batches`."""
        self._check_open()
        found = [
            (BatchPosition(close_key(batch.close_time_ns), batch.start_time_ns, key.job_id), batch.entry)
            for key, batch in self._batches.items()
            if key.namespace_id == namespace_id
        ]
        found.sort(key=lambda row: _batch_order(row[0]))
        rest = (
            found if after is None else [row for row in found if _batch_order(row[0]) > _batch_order(after)]
        )
        return tuple(rest[:limit])

    async def list_deployments(self) -> Sequence[StoredDeployment]:
        """See `Store.list_deployments`."""
        self._check_open()
        return tuple(self._deployments[key] for key in sorted(self._deployments))

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """See `Store.put_deployment`."""
        self._check_open()
        key = (deployment.namespace_id, deployment.name)
        stored = self._deployments.get(key)
        stored_version = stored.version if stored is not None else 0
        if stored_version != deployment.version - 1:
            raise deployment_conflict(deployment, stored_version)
        self._deployments[key] = deployment

    async def delete_deployment(self, namespace_id: str, name: str) -> bool:
        """See `Store.delete_deployment`."""
        self._check_open()
        return self._deployments.pop((namespace_id, name), None) is not None

    async def list_queue_configs(self) -> Sequence[StoredQueueConfig]:
        """See `Store.list_queue_configs`."""
        self._check_open()
        return tuple(self._queue_configs[key] for key in sorted(self._queue_configs))

    async def put_queue_config(self, config: StoredQueueConfig) -> None:
        """See `Store.put_queue_config`."""
        self._check_open()
        stored = self._queue_configs.get(config.queue)
        stored_version = stored.version if stored is not None else 0
        if stored_version != config.version - 1:
            raise queue_config_conflict(config, stored_version)
        self._queue_configs[config.queue] = config

    async def delete_queue_config(self, queue: QueueKey) -> bool:
        """See `Store.delete_queue_config`."""
        self._check_open()
        return self._queue_configs.pop(queue, None) is not None

    async def list_endpoints(self) -> Sequence[StoredEndpoint]:
        """See `Store.list_endpoints`."""
        self._check_open()
        return tuple(sorted(self._endpoints.values(), key=lambda endpoint: endpoint.endpoint_id))

    async def put_endpoint(self, endpoint: StoredEndpoint) -> None:
        """See `Store.put_endpoint`."""
        self._check_open()
        stored = self._endpoints.get(endpoint.endpoint_id)
        stored_version = stored.version if stored else 0
        is_taken = any(
            other.name == endpoint.name and other.endpoint_id != endpoint.endpoint_id
            for other in self._endpoints.values()
        )
        if stored_version != endpoint.version - 1 or is_taken:
            raise endpoint_conflict(endpoint, stored_version)
        self._endpoints[endpoint.endpoint_id] = endpoint

    async def delete_endpoint(self, endpoint_id: str) -> bool:
        """See `Store.delete_endpoint`."""
        self._check_open()
        return self._endpoints.pop(endpoint_id, None) is not None

    async def due_schedules(
        self, until_ns: int, after: ScheduleWakeup | None, limit: int
    ) -> Sequence[ScheduleWakeup]:
        """See `Store.due_schedules`."""
        self._check_open()
        due: list[ScheduleWakeup] = []
        for wakeup in self._schedule_wakeups.after(after):
            if wakeup.wakeup_ns > until_ns or len(due) >= limit:
                break
            due.append(wakeup)
        return tuple(due)

    async def list_schedules(
        self, namespace_id: str, after_id: str, limit: int
    ) -> Sequence[tuple[str, bytes]]:
        """See `Store.list_schedules`."""
        self._check_open()
        page: list[tuple[str, bytes]] = []
        for key in self._schedule_order.after(ScheduleKey(namespace_id, after_id)):
            if key.namespace_id != namespace_id or len(page) >= limit:
                break
            page.append((key.schedule_id, self._schedules[key].entry))
        return tuple(page)
