"""The `Store` on one SQLite file. Thin: each method picks the connection and the thread for what another
module does."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from perdure.core.errors import InvariantViolation, StoreError, StoreOpenError, StoreUnavailableError
from perdure.core.run.records import EventBatch, QueueKey, RunKey, RunKind, RunWrite, Task
from perdure.core.visibility import Node, OrderBy
from perdure.store.checks import check_unit
from perdure.store.protocol import (
    BatchKey,
    BatchPosition,
    CurrentRun,
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
from perdure.store.sqlite import lists, ordered_lists, queries, reads
from perdure.store.sqlite.apply import Applier
from perdure.store.sqlite.lock import FileLock
from perdure.store.sqlite.opening import check_file, check_pragmas, connect_reader, connect_writer, prepare
from perdure.store.sqlite.writer import GroupWriter, unavailable

_P = ParamSpec("_P")
_T = TypeVar("_T")

_BYTES_PER_WRITE = 600
"""About what a write costs in the database beside its header, items and events."""


class _LongReads:
    """Reads that can take long, one after the other: a thread and a connection of their own.

    Args:
        reader: the connection.
        name: of the thread.
    """

    def __init__(self, reader: sqlite3.Connection, name: str) -> None:
        self._reader = reader
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._namespaces = reads.Namespaces()

    async def do(self, read: Callable[[sqlite3.Connection, reads.Namespaces], _T]) -> _T:
        """What `read` returns; it is given the connection and the numbers of namespaces."""
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, read, self._reader, self._namespaces
            )
        except sqlite3.Error as error:
            raise unavailable(error) from error

    def close(self) -> None:
        """Ends what is being read."""
        self._reader.interrupt()
        self._thread.shutdown()
        self._reader.close()


class SqliteStore:
    """A durable `Store` on one SQLite file, for one process.

    What `commit` has acknowledged is on disk (WAL, `synchronous=FULL`). What a failing disk does is told in
    `perdure.store.sqlite.writer`. Small reads run on the event loop's thread, which costs less than a
    thread of their own (about 15 µs instead of 60); lists and counts, which can take long, run in a thread, and
    those of task queues in another one: workers do not wait for somebody's list.

    Args:
        path: the database file; made when it does not exist.
        pragmas: SQLite pragmas to set, names to values, from an allow-list (see `opening`).
        new_id: makes the cluster id of a new database.
        clock: times commits; monotonic, seconds.
        user_pid: the program that this process keeps the data for, if it is another's.
    """

    def __init__(
        self,
        path: str | Path,
        pragmas: Mapping[str, str] | None = None,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        clock: Callable[[], float] = time.perf_counter,
        user_pid: int | None = None,
    ) -> None:
        self._path = Path(path)
        self._user_pid = user_pid
        self._pragmas = dict(pragmas or {})
        self._new_id = new_id
        self._clock = clock
        self._lock: FileLock | None = None
        self._writer: GroupWriter | None = None
        self._point_reader: sqlite3.Connection | None = None
        self._lists: _LongReads | None = None
        self._queues: _LongReads | None = None
        self._point_namespaces = reads.Namespaces()
        self._cluster_id = ""

    # --- life

    async def open(self) -> None:
        """See `Store.open`. The file stays locked to this store until `close` or the end of the process."""
        pragmas = check_pragmas(self._pragmas)
        check_file(self._path)
        lock = self._lock = FileLock(self._path, self._user_pid)
        try:
            self._open_connections(pragmas, lock)
        except sqlite3.Error as error:
            self._release()
            raise StoreOpenError(_why_not_opened(self._path, error)) from error
        except BaseException:  # whatever it was, the lock must go
            self._release()
            raise

    def _open_connections(self, pragmas: Mapping[str, str], lock: FileLock) -> None:
        connect = partial(connect_writer, self._path, pragmas)
        connection = connect()
        try:
            prepare(connection, self._path, pragmas)
            connection.execute("BEGIN IMMEDIATE")
            opened = connection.execute(queries.BUMP_META, ("opened",)).fetchone()[0]
            found = connection.execute(queries.READ_META, ("cluster_id",)).fetchone()
            self._cluster_id = found[0] if found else self._new_id()
            if found is None:
                connection.execute(queries.WRITE_META, ("cluster_id", self._cluster_id))
            connection.execute("COMMIT")
            lock.watch_log()
            self._point_reader = connect_reader(self._path, pragmas)
            self._lists = _LongReads(connect_reader(self._path, pragmas), "perdure-sqlite-lists")
            self._queues = _LongReads(connect_reader(self._path, pragmas), "perdure-sqlite-queues")
        except BaseException:  # whatever it was, nobody else closes it
            connection.close()
            raise
        self._point_namespaces = reads.Namespaces()
        self._writer = GroupWriter(
            connect, connection, Applier(connection, opened), self._clock, lock.is_in_place
        )

    async def close(self) -> None:
        """See `Store.close`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.drain()
        self._close_readers()
        if writer is not None:
            # After the readers, so that SQLite can move the log into the database and remove it.
            await asyncio.to_thread(writer.close)
        self._release()

    def abandon(self) -> None:
        """Closes a store whose event loop was closed without `close`, from any thread.

        What was acknowledged is kept; writes that had not reached the disk were not.
        """
        writer, self._writer = self._writer, None
        self._close_readers()
        if writer is not None:
            writer.close()
        self._release()

    def _release(self) -> None:
        self._close_readers()
        if self._lock is not None:
            self._lock.release()

    def _close_readers(self) -> None:
        for reader in (self._lists, self._queues, self._point_reader):
            if reader is not None:
                reader.close()
        self._lists = self._queues = self._point_reader = None

    def _open_writer(self) -> GroupWriter:
        if self._writer is None:
            raise StoreUnavailableError("The store is not open.")
        return self._writer

    async def cluster_id(self) -> str:
        """See `Store.cluster_id`."""
        self._open_writer()
        return self._cluster_id

    async def is_durable(self) -> bool:
        """Always."""
        self._open_writer()
        return True

    # --- writing

    def commit(
        self, unit: Sequence[RunWrite], schedule: StoredSchedule | None = None
    ) -> asyncio.Future[None]:
        """See `Store.commit`. The future is the writer's own: it is resolved even if nobody waits for it any more."""
        try:
            writer = self._open_writer()
            check_unit(unit)
            if schedule is None:
                return writer.submit(lambda applier: applier.commit(unit), _size_of(unit))
            size = _size_of(unit) + _size_of_schedule(schedule)
            return writer.submit(lambda applier: applier.commit_with(unit, schedule), size)
        except (StoreError, InvariantViolation) as error:
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused

    async def delete_run(self, run: RunKey) -> bool:
        """See `Store.delete_run`."""
        return await self._open_writer().submit(lambda applier: applier.delete_run(run))

    async def purge_attribute(self, namespace_id: str, name: str, limit: int) -> int:
        """See `Store.purge_attribute`."""
        return await self._open_writer().submit(
            lambda applier: applier.purge_attribute(namespace_id, name, limit)
        )

    async def put_namespace(self, namespace: StoredNamespace) -> None:
        """See `Store.put_namespace`."""
        await self._open_writer().submit(lambda applier: applier.put_namespace(namespace))

    async def delete_namespace(self, namespace_id: str) -> bool:
        """See `Store.delete_namespace`."""
        return await self._open_writer().submit(lambda applier: applier.delete_namespace(namespace_id))

    async def put_batch(self, batch: StoredBatch) -> None:
        """See `Store.put_batch`."""
        size = _BYTES_PER_WRITE + len(batch.entry) + len(batch.data)
        await self._open_writer().submit(lambda applier: applier.put_batch(batch), size)

    async def delete_batch(self, key: BatchKey) -> bool:
        """See `Store.delete_batch`."""
        return await self._open_writer().submit(lambda applier: applier.delete_batch(key))

    async def load_batch(self, key: BatchKey) -> StoredBatch | None:
        """See `Store.load_batch`."""
        return await self._read(lambda c: reads.load_batch(c, self._number(c, key.namespace_id), key))

    async def list_batches(
        self, namespace_id: str, after: BatchPosition | None, limit: int
    ) -> Sequence[tuple[BatchPosition, bytes]]:
        """See `Store.list_batches`."""
        return await self._read(lambda c: reads.list_batches(c, self._number(c, namespace_id), after, limit))

    async def put_schedule(self, schedule: StoredSchedule) -> None:
        """See `Store.put_schedule`."""
        size = _size_of_schedule(schedule)
        await self._open_writer().submit(lambda applier: applier.put_schedule(schedule), size)

    async def delete_schedule(self, key: ScheduleKey) -> bool:
        """See `Store.delete_schedule`."""
        return await self._open_writer().submit(lambda applier: applier.delete_schedule(key))

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """See `Store.put_deployment`."""
        await self._open_writer().submit(lambda applier: applier.put_deployment(deployment))

    async def delete_deployment(self, namespace_id: str, name: str) -> bool:
        """See `Store.delete_deployment`."""
        return await self._open_writer().submit(lambda applier: applier.delete_deployment(namespace_id, name))

    async def put_queue_config(self, config: StoredQueueConfig) -> None:
        """See `Store.put_queue_config`."""
        await self._open_writer().submit(lambda applier: applier.put_queue_config(config))

    async def delete_queue_config(self, queue: QueueKey) -> bool:
        """See `Store.delete_queue_config`."""
        return await self._open_writer().submit(lambda applier: applier.delete_queue_config(queue))

    async def put_endpoint(self, endpoint: StoredEndpoint) -> None:
        """See `Store.put_endpoint`."""
        await self._open_writer().submit(lambda applier: applier.put_endpoint(endpoint))

    async def delete_endpoint(self, endpoint_id: str) -> bool:
        """See `Store.delete_endpoint`."""
        return await self._open_writer().submit(lambda applier: applier.delete_endpoint(endpoint_id))

    # --- small reads, on the loop's thread

    async def _read(
        self,
        read: Callable[Concatenate[sqlite3.Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        await self._check_readable()
        if self._point_reader is None:
            raise StoreUnavailableError("The store is not open.")
        try:
            return read(self._point_reader, *args, **kwargs)
        except sqlite3.Error as error:
            raise unavailable(error) from error

    async def _check_readable(self) -> None:
        """Refuses to tell anything while it is unknown whether a failed commit will come back (see
        `writer`)."""
        writer = self._open_writer()
        if writer.fence_is_due:
            await writer.submit(lambda applier: None)

    def _number(
        self, connection: sqlite3.Connection, namespace_id: str, kind: RunKind = RunKind.WORKFLOW
    ) -> int:
        return self._point_namespaces.number(connection, namespace_id, kind)

    async def load_run(self, run: RunKey) -> StoredRun | None:
        """See `Store.load_run`."""
        return await self._read(lambda c: reads.load_run(c, self._number(c, run.namespace_id, run.kind), run))

    async def current_run(
        self, namespace_id: str, workflow_id: str, kind: RunKind = RunKind.WORKFLOW
    ) -> CurrentRun | None:
        """See `Store.current_run`."""
        return await self._read(
            lambda c: reads.current_run(
                c, self._number(c, namespace_id, kind), namespace_id, workflow_id, kind
            )
        )

    async def read_history(
        self, run: RunKey, first_event_id: int, end_event_id: int, max_bytes: int, *, reverse: bool = False
    ) -> Sequence[EventBatch]:
        """See `Store.read_history`."""
        return await self._read(
            lambda c: reads.read_history(
                c,
                self._number(c, run.namespace_id, run.kind),
                run,
                first_event_id,
                end_event_id,
                max_bytes,
                reverse,
            )
        )

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """See `Store.due_wakeups`."""
        return await self._read(lambda c: reads.due_wakeups(c, until_ns, after, limit))

    async def read_tasks(
        self, queue: QueueKey, after: TaskCursor | None, limit: int
    ) -> Sequence[tuple[TaskCursor, Task]]:
        """See `Store.read_tasks`."""
        return await self._read(
            lambda c: reads.read_tasks(c, self._number(c, queue.namespace_id), queue, after, limit)
        )

    async def list_namespaces(self) -> Sequence[StoredNamespace]:
        """See `Store.list_namespaces`."""
        return await self._read(reads.list_namespaces)

    async def list_deployments(self) -> Sequence[StoredDeployment]:
        """See `Store.list_deployments`."""
        return await self._read(reads.list_deployments)

    async def list_queue_configs(self) -> Sequence[StoredQueueConfig]:
        """See `Store.list_queue_configs`."""
        return await self._read(reads.list_queue_configs)

    async def list_endpoints(self) -> Sequence[StoredEndpoint]:
        """See `Store.list_endpoints`."""
        return await self._read(reads.list_endpoints)

    async def load_schedule(self, key: ScheduleKey) -> StoredSchedule | None:
        """See `Store.load_schedule`."""
        return await self._read(lambda c: reads.load_schedule(c, self._number(c, key.namespace_id), key))

    async def due_schedules(
        self, until_ns: int, after: ScheduleWakeup | None, limit: int
    ) -> Sequence[ScheduleWakeup]:
        """See `Store.due_schedules`."""
        return await self._read(lambda c: reads.due_schedules(c, until_ns, after, limit))

    async def list_schedules(
        self, namespace_id: str, after_id: str, limit: int
    ) -> Sequence[tuple[str, bytes]]:
        """See `Store.list_schedules`."""
        return await self._read(
            lambda c: reads.list_schedules(c, self._number(c, namespace_id), after_id, limit)
        )

    # --- reads that can take long, in a thread

    async def _read_list(self, read: Callable[[sqlite3.Connection, reads.Namespaces], _T]) -> _T:
        await self._check_readable()
        if self._lists is None:
            raise StoreUnavailableError("The store is not open.")
        return await self._lists.do(read)

    async def _read_queue(self, read: Callable[[sqlite3.Connection, reads.Namespaces], _T]) -> _T:
        await self._check_readable()
        if self._queues is None:
            raise StoreUnavailableError("The store is not open.")
        return await self._queues.do(read)

    async def count_tasks(self, queue: QueueKey) -> Sequence[TaskCount]:
        """See `Store.count_tasks`."""
        return await self._read_queue(
            lambda c, known: reads.count_tasks(c, known.number(c, queue.namespace_id), queue)
        )

    async def task_levels(self, queue: QueueKey, last: int) -> Sequence[TaskLevel]:
        """See `Store.task_levels`."""
        return await self._read_queue(
            lambda c, known: reads.task_levels(c, known.number(c, queue.namespace_id), queue, last)
        )

    async def list_runs(
        self,
        namespace_id: str,
        where: Node | None,
        page_size: int,
        cursor: bytes | None,
        kind: RunKind = RunKind.WORKFLOW,
    ) -> ListPage:
        """See `Store.list_runs`."""
        return await self._read_list(
            lambda c, known: lists.list_runs(
                c,
                known.number(c, namespace_id, kind),
                namespace_id,
                where,
                page_size,
                cursor,
                kind,
            )
        )

    async def list_runs_ordered(
        self, namespace_id: str, where: Node | None, order: OrderBy, page_size: int, cursor: bytes | None
    ) -> ListPage:
        """See `Store.list_runs_ordered`."""
        return await self._read_list(
            lambda c, known: ordered_lists.list_runs_ordered(
                c,
                known.number(c, namespace_id),
                namespace_id,
                where,
                order,
                page_size,
                cursor,
            )
        )

    async def count_runs(
        self,
        namespace_id: str,
        where: Node | None,
        group_by: str | None,
        kind: RunKind = RunKind.WORKFLOW,
    ) -> Sequence[tuple[object, int]]:
        """See `Store.count_runs`."""
        return await self._read_list(
            lambda c, known: lists.count_runs(c, known.number(c, namespace_id, kind), where, group_by)
        )


def _size_of_schedule(schedule: StoredSchedule) -> int:
    return _BYTES_PER_WRITE + len(schedule.entry) + len(schedule.data)


def _size_of(unit: Sequence[RunWrite]) -> int:
    """About how many bytes a unit writes."""
    size = 0
    for write in unit:
        size += _BYTES_PER_WRITE + len(write.header)
        for batch in write.events:
            size += len(batch.data)
        for item in write.items:
            size += len(item.data or b"")
    return size


def _why_not_opened(path: Path, error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_NOTADB"):
        return f"{path} is not a SQLite database. Give a new file, or one that Perdure made."
    if name.startswith("SQLITE_BUSY"):
        return f"The database {path} is held by another program. Close that program, or use another file."
    if name.startswith("SQLITE_READONLY"):
        return f"The database {path} is read-only. Make it writable, or use another file."
    if name.startswith("SQLITE_CORRUPT"):
        return f"The database {path} is damaged ({error}). Restore it from a backup, or use another file."
    return f"Cannot open the database {path}: {error} ({name or type(error).__name__})."
