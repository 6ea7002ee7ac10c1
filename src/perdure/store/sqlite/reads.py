"""What is read back from the tables. Each function is one consistent read on the connection it is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter

from perdure.core.run.records import EventBatch, QueueKey, RunKey, RunKind, Task, TaskKey, TaskKind
from perdure.store.checks import MAX_EVENT_ID, PRIORITIES
from perdure.store.cursor import OPEN_CLOSE_KEY
from perdure.store.protocol import (
    BatchKey,
    BatchPosition,
    CurrentRun,
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
from perdure.store.sqlite import queries
from perdure.store.sqlite.queries import EVENT_ID_BITS

_BEFORE_ALL = -(1 << 63)


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Makes the statements inside see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


class Namespaces:
    """The small numbers of namespaces, as one reading connection knows them. Numbers never change or go."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, RunKind], int] = {}

    def number(
        self, connection: sqlite3.Connection, namespace_id: str, kind: RunKind = RunKind.WORKFLOW
    ) -> int:
        """The namespace's number for runs of a kind, or 0 when no row can have it."""
        key = (namespace_id, kind)
        number = self._numbers.get(key, 0)
        if not number:
            found = connection.execute(queries.FIND_NAMESPACE_KEY, key).fetchone()
            if found is not None:
                number = self._numbers[key] = int(found[0])
        return number


def load_run(connection: sqlite3.Connection, namespace: int, run: RunKey) -> StoredRun | None:
    """See `Store.load_run`."""
    with snapshot(connection):
        found = connection.execute(queries.LOAD_RUN, (run.run_id, run.workflow_id, namespace)).fetchone()
        if found is None:
            return None
        row, version, status, header, wakeup_ns = found
        items = connection.execute(queries.LOAD_ITEMS, (row,)).fetchall()
    items.sort(key=itemgetter(0, 3))
    return StoredRun(
        run=run,
        version=version,
        status=status,
        header=header,
        items=tuple((kind, key, data) for kind, key, data, _ in items),
        wakeup_ns=wakeup_ns,
    )


def current_run(
    connection: sqlite3.Connection, namespace: int, namespace_id: str, workflow_id: str, kind: RunKind
) -> CurrentRun | None:
    """See `Store.current_run`."""
    found = connection.execute(queries.FIND_CURRENT, (namespace, workflow_id)).fetchone()
    if found is None:
        return None
    run_id, status, start_request_id, first_run_id = found
    return CurrentRun(RunKey(namespace_id, workflow_id, run_id, kind), status, start_request_id, first_run_id)


def read_history(
    connection: sqlite3.Connection,
    namespace: int,
    run: RunKey,
    first_event_id: int,
    end_event_id: int,
    max_bytes: int,
    reverse: bool,
) -> Sequence[EventBatch]:
    """See `Store.read_history`."""
    page: list[EventBatch] = []
    size = 0
    with snapshot(connection):
        found = connection.execute(queries.FIND_RUN_ROW, (run.run_id, run.workflow_id, namespace)).fetchone()
        if found is None:
            return ()
        base = int(found[0]) << EVENT_ID_BITS
        wanted = base | min(max(first_event_id, 0), MAX_EVENT_ID)
        first_key = connection.execute(queries.FIRST_BATCH_KEY, (base, wanted)).fetchone()[0]
        end_key = base + min(max(end_event_id, 0), MAX_EVENT_ID + 1)
        statement = queries.READ_EVENTS_REVERSE if reverse else queries.READ_EVENTS
        cursor = connection.execute(statement, (base if first_key is None else first_key, end_key))
        for event_key, last_event_id, data in cursor:
            if last_event_id < first_event_id:
                continue
            page.append(EventBatch(event_key - base, last_event_id, data))
            size += len(data)
            if size >= max_bytes:
                break
        cursor.close()
    return tuple(page)


def due_wakeups(
    connection: sqlite3.Connection, until_ns: int, after: Wakeup | None, limit: int
) -> Sequence[Wakeup]:
    """See `Store.due_wakeups`."""
    after_ns, run = after or (_BEFORE_ALL, RunKey("", "", ""))
    rows = connection.execute(queries.DUE_WAKEUPS, (after_ns, until_ns, after_ns, *run, limit))
    return tuple(Wakeup(wakeup_ns, _run_key(*key)) for wakeup_ns, *key in rows)


def read_tasks(
    connection: sqlite3.Connection, namespace: int, queue: QueueKey, after: TaskCursor | None, limit: int
) -> Sequence[tuple[TaskCursor, Task]]:
    """See `Store.read_tasks`."""
    rows = connection.execute(
        queries.READ_TASKS, (namespace, queue.name, queue.kind, *(after or (0, 0, 0)), limit)
    )
    return tuple(
        (
            TaskCursor(row[0], row[1], row[2]),
            Task(
                run=_run_key(queue.namespace_id, row[3], row[4], row[5]),
                key=TaskKey(queue.kind, row[6]),
                queue=queue,
                enqueued_ns=row[7],
                priority_key=row[8],
                sticky=bool(row[9]),
                delivery_id=row[10],
                fairness_key=row[11],
                fairness_weight=row[12],
                place=row[1],
            ),
        )
        for row in rows
    )


def _run_key(namespace_id: str, workflow_id: str, run_id: str, kind: int) -> RunKey:
    return RunKey(namespace_id, workflow_id, run_id, RunKind(kind))


def count_tasks(connection: sqlite3.Connection, namespace: int, queue: QueueKey) -> Sequence[TaskCount]:
    """See `Store.count_tasks`."""
    rows = connection.execute(queries.COUNT_TASKS, (namespace, queue.name, queue.kind))
    return tuple(TaskCount(*row) for row in rows)


def task_levels(
    connection: sqlite3.Connection, namespace: int, queue: QueueKey, last: int
) -> Sequence[TaskLevel]:
    """See `Store.task_levels`."""
    levels: list[TaskLevel] = []
    for priority in PRIORITIES:
        level = (namespace, queue.name, queue.kind, priority)
        first = connection.execute(queries.FIRST_PLACE, level).fetchone()
        if first is not None:
            ends = connection.execute(queries.LAST_PLACES, (*level, last))
            levels.append(TaskLevel(priority, first[0], dict(ends.fetchall())))
    return tuple(levels)


def list_queue_configs(connection: sqlite3.Connection) -> Sequence[StoredQueueConfig]:
    """See `Store.list_queue_configs`."""
    return tuple(
        StoredQueueConfig(QueueKey(namespace_id, name, TaskKind(kind)), version, data)
        for namespace_id, name, kind, version, data in connection.execute(queries.LIST_QUEUE_CONFIGS)
    )


def list_namespaces(connection: sqlite3.Connection) -> Sequence[StoredNamespace]:
    """See `Store.list_namespaces`."""
    return tuple(StoredNamespace(*row) for row in connection.execute(queries.LIST_NAMESPACES))


def list_endpoints(connection: sqlite3.Connection) -> Sequence[StoredEndpoint]:
    """See `Store.list_endpoints`."""
    return tuple(StoredEndpoint(*row) for row in connection.execute(queries.LIST_ENDPOINTS))


def list_deployments(connection: sqlite3.Connection) -> Sequence[StoredDeployment]:
    """See `Store.list_deployments`."""
    return tuple(StoredDeployment(*row) for row in connection.execute(queries.LIST_DEPLOYMENTS))


def load_schedule(connection: sqlite3.Connection, namespace: int, key: ScheduleKey) -> StoredSchedule | None:
    """See `Store.load_schedule`."""
    found = connection.execute(queries.LOAD_SCHEDULE, (namespace, key.schedule_id)).fetchone()
    return None if found is None else StoredSchedule(key, *found)


def due_schedules(
    connection: sqlite3.Connection, until_ns: int, after: ScheduleWakeup | None, limit: int
) -> Sequence[ScheduleWakeup]:
    """See `Store.due_schedules`."""
    after_ns, key = after or (_BEFORE_ALL, ScheduleKey("", ""))
    rows = connection.execute(queries.DUE_SCHEDULES, (after_ns, until_ns, after_ns, *key, limit))
    return tuple(ScheduleWakeup(wakeup_ns, ScheduleKey(*key)) for wakeup_ns, *key in rows)


def list_schedules(
    connection: sqlite3.Connection, namespace: int, after_id: str, limit: int
) -> Sequence[tuple[str, bytes]]:
    """See `Store.list_schedules`."""
    return tuple(connection.execute(queries.LIST_SCHEDULES, (namespace, after_id, limit)))


def load_batch(connection: sqlite3.Connection, namespace: int, key: BatchKey) -> StoredBatch | None:
    """See `Store.load_batch`."""
    found = connection.execute(queries.LOAD_BATCH, (namespace, key.job_id)).fetchone()
    if found is None:
        return None
    version, start_time_ns, closed, entry, data = found
    return StoredBatch(key, version, start_time_ns, None if closed == OPEN_CLOSE_KEY else closed, entry, data)


def list_batches(
    connection: sqlite3.Connection, namespace: int, after: BatchPosition | None, limit: int
) -> Sequence[tuple[BatchPosition, bytes]]:
    """See `Store.list_batches`."""
    place = (
        (-OPEN_CLOSE_KEY - 1, 0, "")
        if after is None
        else (-after.close_key, -after.start_time_ns, after.job_id)
    )
    upper = OPEN_CLOSE_KEY if after is None else after.close_key
    rows = connection.execute(queries.LIST_BATCHES, (namespace, upper, *place, limit))
    return tuple((BatchPosition(*row[:3]), row[3]) for row in rows)
