"""What a unit of writes does to the tables, statement by statement, inside a transaction that others begin
and end.

A method that raises a `StoreError` or `InvariantViolation` has changed nothing. After any other error the
transaction must be rolled back and `forget` called. The number of statements per transition is the budget
here: a transition of one run is one UPDATE that is also the version check, and one statement for each thing
it adds or removes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NoReturn

from perdure.core.errors import CurrentRunConflictError, InvariantViolation, VersionConflictError
from perdure.core.run.records import (
    AttributeValue,
    QueueKey,
    RunKey,
    RunKind,
    RunWrite,
    Task,
    VisibilityRecord,
)
from perdure.store.checks import (
    DEFAULT_PRIORITY,
    MAX_EVENT_ID,
    batch_conflict,
    check_append,
    current_run_conflict,
    deployment_conflict,
    endpoint_conflict,
    namespace_conflict,
    queue_config_conflict,
    schedule_conflict,
    version_conflict,
)
from perdure.store.cursor import close_key
from perdure.store.protocol import (
    BatchKey,
    ScheduleKey,
    StoredBatch,
    StoredDeployment,
    StoredEndpoint,
    StoredNamespace,
    StoredQueueConfig,
    StoredSchedule,
)
from perdure.store.sqlite import queries
from perdure.store.sqlite.queries import EVENT_ID_BITS
from perdure.store.sqlite.search_index import DIVISION, Place, SearchIndex, encode_attributes

MAX_CACHED_ROWS = 20_000
"""Bound of the map from run to row; at the bound it starts again from empty."""

_SEQUENCE_BITS = 40


class Applier:
    """Applies units on the writer's connection.

    Args:
        connection: in autocommit mode; transactions are the caller's.
        opened: how often this database has been opened; makes task sequences grow over restarts without a
        scan.
    """

    def __init__(self, connection: sqlite3.Connection, opened: int) -> None:
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        self._task_sequence = opened << _SEQUENCE_BITS
        self._namespaces: dict[tuple[str, RunKind], int] = {}
        self._rows: dict[RunKey, int] = {}
        self._search_index = SearchIndex(self._execute)

    def disconnect(self) -> None:
        """Lets go of the connection: a statement that is still held would keep it open behind `close`."""
        self._cursor.close()

    def reconnect(self, connection: sqlite3.Connection) -> None:
        """Goes on with another connection to the same database."""
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute
        self.forget()

    def forget(self) -> None:
        """Drops what was learnt from rows that may not have been committed."""
        self._namespaces.clear()
        self._rows.clear()
        self._search_index.forget(self._execute)

    # --- units of runs

    def commit(self, unit: Sequence[RunWrite]) -> None:
        """Applies all of a unit or nothing. `check_unit` has passed.

        Raises:
            VersionConflictError, CurrentRunConflictError, InvariantViolation: as `Store.commit`; nothing was
            changed.
        """
        if len(unit) == 1:
            self._write(unit[0])
            return
        self._execute("SAVEPOINT unit")
        try:
            for write in unit:
                self._write(write)
        except (VersionConflictError, CurrentRunConflictError, InvariantViolation):
            self._execute("ROLLBACK TO unit")
            self._execute("RELEASE unit")
            self.forget()
            raise
        self._execute("RELEASE unit")

    def commit_with(self, unit: Sequence[RunWrite], schedule: StoredSchedule) -> None:
        """Applies a unit and a schedule, or nothing.

        Raises:
            VersionConflictError, CurrentRunConflictError, InvariantViolation: as `Store.commit`; nothing was
            changed.
        """
        namespace = self._check_schedule(schedule)
        self.commit(unit)
        self._set_schedule(namespace, schedule)

    def _write(self, write: RunWrite) -> None:
        """Applies one write; refuses before it changes anything."""
        run = write.run
        namespace = self._namespace(run.namespace_id, run.kind)
        current: str | None = None
        if write.becomes_current:
            found = self._execute(queries.FIND_CURRENT, (namespace, run.workflow_id)).fetchone()
            current = found[0] if found else None
            if current != write.expected_current_run_id:
                self._refuse(write, namespace, current)
        row = (
            self._insert(write, namespace) if write.expected_version == 0 else self._update(write, namespace)
        )
        if write.becomes_current:
            self._make_current(write, namespace, row, current)
        elif write.expected_version == 0:
            self._execute(queries.ADD_WORKFLOW_RUN, (namespace, run.workflow_id, 1, row))
        self._add_parts(write, namespace, row)

    def _insert(self, write: RunWrite, namespace: int) -> int:
        run = write.run
        if write.events and write.events[0].first_event_id != 1:
            self._refuse(write, namespace, write.expected_current_run_id)
        last_event_id = write.events[-1].last_event_id if write.events else 0
        cursor = self._execute(
            queries.INSERT_RUN,
            (
                run.run_id,
                namespace,
                run.workflow_id,
                write.status,
                last_event_id,
                write.wakeup_ns,
                write.start_request_id if write.becomes_current else "",
                write.first_run_id if write.becomes_current else "",
                write.header,
                write.history_size_bytes,
                write.transition_count,
            ),
        )
        if cursor.rowcount == 0:
            self._refuse(write, namespace, write.expected_current_run_id)
        row = cursor.lastrowid or 0
        self._remember(run, row)
        return row

    def _update(self, write: RunWrite, namespace: int) -> int:
        run = write.run
        row = self._rows.get(run)
        if row is None:
            found = self._execute(queries.FIND_RUN_ROW, (run.run_id, run.workflow_id, namespace)).fetchone()
            if found is None:
                raise version_conflict(write, 0)
            row = int(found[0])
            self._remember(run, row)
        if write.events:
            cursor = self._execute(
                queries.UPDATE_RUN_APPENDING,
                (
                    write.status,
                    write.wakeup_ns,
                    write.header,
                    write.history_size_bytes,
                    write.transition_count,
                    write.events[-1].last_event_id,
                    row,
                    write.expected_version,
                    write.events[0].first_event_id - 1,
                ),
            )
        else:
            cursor = self._execute(
                queries.UPDATE_RUN,
                (
                    write.status,
                    write.wakeup_ns,
                    write.header,
                    write.history_size_bytes,
                    write.transition_count,
                    row,
                    write.expected_version,
                ),
            )
        if cursor.rowcount == 0:
            self._refuse(write, namespace, write.expected_current_run_id)
        return row

    def _refuse(self, write: RunWrite, namespace: int, current: str | None) -> NoReturn:
        """Finds out why the write cannot be done and raises that, in the order in which all stores check."""
        run = write.run
        found = self._execute(queries.FIND_RUN_VERSION, (run.run_id, run.workflow_id, namespace)).fetchone()
        version, last_event_id = found or (0, 0)
        if version != write.expected_version:
            raise version_conflict(write, version)
        if version == 0 and self._execute("SELECT 1 FROM runs WHERE run_id = ?", (run.run_id,)).fetchone():
            raise version_conflict(write, 0)
        check_append(write, last_event_id)
        raise current_run_conflict(write, current)

    def _make_current(self, write: RunWrite, namespace: int, row: int, current: str | None) -> None:
        run = write.run
        if current is not None and current != run.run_id:
            self._execute(queries.SUPERSEDE_CURRENT, (namespace, run.workflow_id))
        if write.expected_version == 0:
            self._execute(queries.ADD_WORKFLOW_RUN, (namespace, run.workflow_id, 0, row))
            return
        self._execute(queries.MAKE_CURRENT, (namespace, run.workflow_id, row))
        self._execute(queries.SET_START, (write.start_request_id, write.first_run_id, row))

    def _add_parts(self, write: RunWrite, namespace: int, row: int) -> None:
        """Events, items, tasks and the list row."""
        events = write.events
        if len(events) == 1:
            batch = events[0]
            self._execute(
                queries.INSERT_EVENTS,
                (row << EVENT_ID_BITS | batch.first_event_id, batch.last_event_id, batch.data),
            )
        elif events:
            self._cursor.executemany(
                queries.INSERT_EVENTS,
                [
                    (row << EVENT_ID_BITS | batch.first_event_id, batch.last_event_id, batch.data)
                    for batch in events
                ],
            )
        if write.items:
            first_position = (write.expected_version + 1) << EVENT_ID_BITS
            for position, item in enumerate(write.items, first_position):
                if item.data is None:
                    self._execute(queries.DELETE_ITEM, (row, item.kind, item.key))
                else:
                    self._execute(queries.PUT_ITEM, (row, item.kind, item.key, position, item.data))
        for key in write.tasks_deleted:
            self._execute(queries.DELETE_TASK, (row, int(key.kind), key.scheduled_event_id))
        for task in write.tasks_put:
            self._put_task(task, row)
        if write.visibility is not None:
            self._put_visibility(write, namespace, row, write.visibility)

    def _put_visibility(self, write: RunWrite, namespace: int, row: int, record: VisibilityRecord) -> None:
        """The list row, and what leads to it from the values of its search attributes."""
        closed = close_key(record.close_time_ns)
        place = Place(closed, record.start_time_ns, record.status, _division(record.attributes))
        list_row = _visibility_row(row, namespace, write.run, record, place)
        if write.expected_version:
            self._search_index.changes(namespace, row, place, record.attributes)
        elif record.attributes:
            self._search_index.added(namespace, row, place, record.attributes)
        self._execute(queries.PUT_VISIBILITY, list_row)

    def _put_task(self, task: Task, row: int) -> None:
        self._task_sequence += 1
        self._execute(
            queries.PUT_TASK,
            (
                row,
                int(task.key.kind),
                task.key.scheduled_event_id,
                self._namespace(task.queue.namespace_id),
                task.queue.name,
                task.priority_key or DEFAULT_PRIORITY,
                self._task_sequence,
                task.enqueued_ns,
                task.priority_key,
                int(task.sticky),
                task.delivery_id,
                task.place,
                task.fairness_key,
                task.fairness_weight,
            ),
        )

    # --- the rest

    def delete_run(self, run: RunKey) -> bool:
        """See `Store.delete_run`."""
        namespace = self._namespace(run.namespace_id, run.kind)
        found = self._execute(queries.FIND_RUN_ROW, (run.run_id, run.workflow_id, namespace)).fetchone()
        if found is None:
            return False
        row = int(found[0])
        self._rows.pop(run, None)
        self._search_index.changes(namespace, row, None, {})
        first_key = row << EVENT_ID_BITS
        self._execute(queries.DELETE_EVENTS, (first_key, first_key | MAX_EVENT_ID))
        self._execute(queries.DELETE_WORKFLOW_RUN, (namespace, run.workflow_id, row))
        for statement in queries.DELETE_BY_ROW:
            self._execute(statement, (row,))
        return True

    def purge_attribute(self, namespace_id: str, name: str, limit: int) -> int:
        """See `Store.purge_attribute`."""
        for kind in RunKind:
            done = self._search_index.purge(self._namespace(namespace_id, kind), name, limit)
            if done:
                return done
        return 0

    def put_namespace(self, namespace: StoredNamespace) -> None:
        """See `Store.put_namespace`."""
        found = self._execute(queries.FIND_NAMESPACE_VERSION, (namespace.namespace_id,)).fetchone()
        version = found[0] if found else 0
        taken = self._execute(
            queries.FIND_NAMESPACE_NAMED, (namespace.name, namespace.namespace_id)
        ).fetchone()
        if version != namespace.version - 1 or taken:
            raise namespace_conflict(namespace, version)
        self._execute(
            queries.PUT_NAMESPACE,
            (namespace.namespace_id, namespace.name, namespace.version, namespace.config),
        )

    def delete_namespace(self, namespace_id: str) -> bool:
        """See `Store.delete_namespace`."""
        return self._execute(queries.DELETE_NAMESPACE, (namespace_id,)).rowcount > 0

    def put_endpoint(self, endpoint: StoredEndpoint) -> None:
        """See `Store.put_endpoint`."""
        found = self._execute(queries.FIND_ENDPOINT_VERSION, (endpoint.endpoint_id,)).fetchone()
        version = found[0] if found else 0
        row = (endpoint.endpoint_id, endpoint.name)
        is_taken = self._execute(queries.FIND_OTHER_ENDPOINT, row).fetchone() is not None
        if version != endpoint.version - 1 or is_taken:
            raise endpoint_conflict(endpoint, version)
        self._execute(queries.PUT_ENDPOINT, (*row, endpoint.version, endpoint.data))

    def delete_endpoint(self, endpoint_id: str) -> bool:
        """See `Store.delete_endpoint`."""
        return self._execute(queries.DELETE_ENDPOINT, (endpoint_id,)).rowcount > 0

    def put_batch(self, batch: StoredBatch) -> None:
        """See `Store.put_batch`."""
        row = (self._namespace(batch.key.namespace_id), batch.key.job_id)
        found = self._execute(queries.FIND_BATCH_VERSION, row).fetchone()
        version = found[0] if found else 0
        if version != batch.version - 1:
            raise batch_conflict(batch, version)
        closed = close_key(batch.close_time_ns)
        self._execute(
            queries.PUT_BATCH,
            (*row, batch.version, batch.start_time_ns, closed, batch.entry, batch.data),
        )

    def delete_batch(self, key: BatchKey) -> bool:
        """See `Store.delete_batch`."""
        row = (self._namespace(key.namespace_id), key.job_id)
        return self._execute(queries.DELETE_BATCH, row).rowcount > 0

    def put_deployment(self, deployment: StoredDeployment) -> None:
        """See `Store.put_deployment`."""
        key = (deployment.namespace_id, deployment.name)
        found = self._execute(queries.FIND_DEPLOYMENT_VERSION, key).fetchone()
        version = found[0] if found is not None else 0
        if version != deployment.version - 1:
            raise deployment_conflict(deployment, version)
        self._execute(queries.PUT_DEPLOYMENT, (*key, deployment.version, deployment.data))

    def delete_deployment(self, namespace_id: str, name: str) -> bool:
        """See `Store.delete_deployment`."""
        return self._execute(queries.DELETE_DEPLOYMENT, (namespace_id, name)).rowcount > 0

    def put_queue_config(self, config: StoredQueueConfig) -> None:
        """See `Store.put_queue_config`."""
        key = (config.queue.namespace_id, config.queue.name, int(config.queue.kind))
        found = self._execute(queries.FIND_QUEUE_CONFIG_VERSION, key).fetchone()
        version = found[0] if found is not None else 0
        if version != config.version - 1:
            raise queue_config_conflict(config, version)
        self._execute(queries.PUT_QUEUE_CONFIG, (*key, config.version, config.data))

    def delete_queue_config(self, queue: QueueKey) -> bool:
        """See `Store.delete_queue_config`."""
        key = (queue.namespace_id, queue.name, int(queue.kind))
        return self._execute(queries.DELETE_QUEUE_CONFIG, key).rowcount > 0

    def put_schedule(self, schedule: StoredSchedule) -> None:
        """See `Store.put_schedule`."""
        self._set_schedule(self._check_schedule(schedule), schedule)

    def _check_schedule(self, schedule: StoredSchedule) -> int:
        """Refuses a schedule of another version than the stored one's next; returns its namespace's number."""
        namespace = self._namespace(schedule.key.namespace_id)
        row = (namespace, schedule.key.schedule_id)
        found = self._execute(queries.FIND_SCHEDULE_VERSION, row).fetchone()
        version = found[0] if found else 0
        if version != schedule.version - 1:
            raise schedule_conflict(schedule, version)
        return namespace

    def _set_schedule(self, namespace: int, schedule: StoredSchedule) -> None:
        key, version = schedule.key.schedule_id, schedule.version
        row = (namespace, key, version, schedule.wakeup_ns, schedule.entry, schedule.data)
        self._execute(queries.PUT_SCHEDULE, row)

    def delete_schedule(self, key: ScheduleKey) -> bool:
        """See `Store.delete_schedule`."""
        row = (self._namespace(key.namespace_id), key.schedule_id)
        return self._execute(queries.DELETE_SCHEDULE, row).rowcount > 0

    def _namespace(self, namespace_id: str, kind: RunKind = RunKind.WORKFLOW) -> int:
        """The small number of a namespace for runs of a kind, given now if it is new."""
        key = (namespace_id, kind)
        number = self._namespaces.get(key)
        if number is None:
            found = self._execute(queries.FIND_NAMESPACE_KEY, key).fetchone()
            if found is None:
                number = self._execute(queries.ADD_NAMESPACE_KEY, key).lastrowid or 0
            else:
                number = int(found[0])
            self._namespaces[key] = number
        return number

    def _remember(self, run: RunKey, row: int) -> None:
        if len(self._rows) >= MAX_CACHED_ROWS:
            self._rows.clear()
        self._rows[run] = row


def _visibility_row(
    row: int, namespace: int, run: RunKey, record: VisibilityRecord, place: Place
) -> tuple[object, ...]:
    """The parameters of `PUT_VISIBILITY`."""
    return (
        row,
        namespace,
        run.workflow_id,
        run.run_id,
        record.workflow_type,
        record.task_queue,
        record.status,
        record.start_time_ns,
        record.execution_time_ns,
        place.close_key,
        record.history_length,
        record.history_size_bytes,
        record.state_transition_count,
        record.parent_workflow_id,
        record.parent_run_id,
        record.root_workflow_id,
        record.root_run_id,
        record.memo,
        record.search_attributes,
        encode_attributes(record.attributes) if record.attributes else "{}",
        place.division,
    )


def _division(attributes: Mapping[str, AttributeValue]) -> str | None:
    division = attributes.get(DIVISION)
    return division if isinstance(division, str) else None
