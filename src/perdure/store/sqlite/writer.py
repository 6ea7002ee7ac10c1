"""Group commit: everything that is ready goes into one transaction, and its callers are answered after it.

    submit() ──► queue ──► loop thread: BEGIN, every job's statements ──► commit thread: COMMIT (fsync) ──┐
                   ▲                               └─ if the disk is quick: COMMIT ─┐                    │
                   └── more jobs gather meanwhile; the next group starts here ◄─────┴─ one wake-up ◄─────┘

**Threads.** The statements run on the event loop's thread and only COMMIT, the part that waits for the disk,
runs in a thread of its own, unless it has lately been quicker than the hand-over (`commit_place`, decision
record 42). Statements in a thread were measured first and lose: `sqlite3` lets go of the interpreter lock at
each of them and, while the loop is busy, waits up to the switch interval (5 ms) to get it back. A group of 100
then takes 16 ms instead of 0.6.

**Isolation.** A job that raises a `StoreError` or an `InvariantViolation` has changed nothing and fails
alone. Any other error (one that SQLite or the driver raises) rolls the group back, and its jobs are done
again one transaction each, in the commit thread, so that only the job at fault fails.

**When COMMIT fails.** On whichever thread that was, the commit thread puts things right. All jobs of the group
fail with `StoreUnavailableError` and the transaction is rolled back. If the disk is full, nothing of it can
come back and the store goes on: reads work, writes work as soon as there is space. If the disk reported an I/O
error, nobody knows which pages it kept (after a failed fsync the kernel forgets what it could not write): the
log might still hold a whole transaction that a later recovery would bring back. So the writer reopens its
connection and makes a small commit of its own, the fence, which takes the place of the failed one in the log.
Until a fence has succeeded the store answers nothing, neither reads nor writes, but tries a fence at each
call. A power failure between a failed fsync and the fence can still leave that group done; its callers were
told "unknown".

**When the file is gone.** A file that was deleted, moved or replaced takes commits as before, and loses them all with
the last descriptor. So does its log (`-wal`): whoever deletes that takes away what is not in the database yet, unless
the process lives to close it. So each group is answered only if both still have their names; what is put back serves
again.

One connection writes and checkpoints, all others only read.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from perdure.core.errors import InvariantViolation, StoreError, StoreUnavailableError
from perdure.core.invariant import invariant
from perdure.store.sqlite import queries
from perdure.store.sqlite.apply import Applier
from perdure.store.sqlite.commit_place import CommitPlace

MAX_GROUP_JOBS: Final = 256
"""Bound of one transaction; beyond some dozens sharing an fsync gains little, and the loop does the
statements."""

GATHERING_PASSES: Final = 3
"""How many passes of the loop a group waits for company. A worker of this process that is handed a workflow task
while the write that makes it waits (decision 25) needs so many to submit the answer: a poll ends, work begins, then
both are one group."""

MAX_GROUP_BYTES: Final = 8 << 20

MAX_QUEUED_JOBS: Final = 20_000
"""Bound of the queue; beyond it the store answers that it is unavailable."""

BUSY_TIMEOUT_MS: Final = 5_000
"""How long the commit thread waits for a foreign program that holds the database, before it gives up."""

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Job:
    """One caller's work and its outcome."""

    work: Callable[[Applier], Any]
    size_bytes: int
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class _Group:
    """What goes into one transaction."""

    jobs: list[_Job]
    size_bytes: int
    is_applied: bool = False
    """Statements are done and COMMIT is due; otherwise each job is to be done by itself."""
    failure: sqlite3.Error | None = None
    """How COMMIT failed on the loop's thread."""


def unavailable(error: BaseException) -> StoreUnavailableError:
    """The error a caller gets for an error of the driver."""
    reason = f"{error} ({getattr(error, 'sqlite_errorname', None) or type(error).__name__})"
    return StoreUnavailableError(f"The database cannot do this now: {reason}.")


class GroupWriter:
    """Owns the writing connection. All methods are for the event loop's thread.

    Args:
        connect: opens a writing connection, in autocommit mode, usable from any thread.
        connection: the first one it opened.
        applier: on that connection.
        clock: times commits; monotonic, seconds.
        is_in_place: whether the file and its log are still where the next process will look for them.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        connection: sqlite3.Connection,
        applier: Applier,
        clock: Callable[[], float],
        is_in_place: Callable[[], bool],
    ) -> None:
        self._is_in_place = is_in_place
        self._connect = connect
        self._connection = connection
        self._applier = applier
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Job] = deque()
        self._is_busy = False
        self._passes_left = 0
        self._is_closed = False
        self._fence_is_due = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._groups: SimpleQueue[_Group | None] = SimpleQueue()
        self._place = CommitPlace(clock)
        self._checkpoint_pages = int(connection.execute("PRAGMA wal_autocheckpoint").fetchone()[0])
        self._may_checkpoint = True
        # What the loop's thread finds held by another program is left to the commit thread, which may wait.
        connection.execute("PRAGMA busy_timeout = 0")
        self._thread = threading.Thread(target=self._run_thread, name="perdure-sqlite-commit", daemon=True)
        self._thread.start()

    @property
    def fence_is_due(self) -> bool:
        """Whether an I/O error left the outcome of a commit unknown, so that nothing may be answered."""
        return self._fence_is_due

    def submit(self, work: Callable[[Applier], _T], size_bytes: int = 0) -> asyncio.Future[_T]:
        """Queues `work`; it will be done even if the caller stops waiting.

        Args:
            work: what to do inside the transaction; may raise `StoreError` or `InvariantViolation` before it
                changes anything. May be called twice.
            size_bytes: about how much it writes.

        Returns:
            resolves with what `work` returned, after that is durable.

        Raises:
            StoreUnavailableError: closed, or too much is queued.
        """
        if self._is_closed:
            raise StoreUnavailableError("The store is closed.")
        if len(self._queue) >= MAX_QUEUED_JOBS:
            raise StoreUnavailableError(f"The store has {MAX_QUEUED_JOBS} writes queued; try later.")
        job = _Job(work, size_bytes, self._loop.create_future())
        self._queue.append(job)
        if not self._is_busy and not self._passes_left:
            self._idle.clear()
            self._start_soon()
        return job.future

    async def drain(self) -> None:
        """Refuses new work and finishes what is queued."""
        self._is_closed = True
        await self._idle.wait()

    def close(self) -> None:
        """After `drain`, on any thread: ends the thread and closes the connection."""
        self._groups.put(None)
        self._thread.join()
        self._applier.disconnect()
        self._connection.close()

    # --- on the loop's thread

    def _start_soon(self) -> None:
        # Not now: what other tasks submit in these passes of the loop joins the group.
        self._passes_left = GATHERING_PASSES
        self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        """One pass of the loop is over while a group gathers."""
        self._passes_left -= 1
        if self._passes_left:
            self._loop.call_soon(self._pass)
        else:
            self._start_group()

    def _start_group(self) -> None:
        """Takes what is queued, applies it and commits it or hands it to the thread for COMMIT."""
        self._is_busy = True
        group = self._take_group()
        if not self._fence_is_due:
            self._apply(group)
        if group.is_applied and self._place.is_loop(group.size_bytes) and self._commit_here(group):
            self._answer(group)
            self._is_busy = False
            if self._queue:
                self._start_soon()
            else:
                self._idle.set()
            return
        self._let_checkpoint(True)
        self._groups.put(group)

    def _take_group(self) -> _Group:
        queue = self._queue
        jobs = [queue.popleft()]
        size = jobs[0].size_bytes
        while queue and len(jobs) < MAX_GROUP_JOBS and size + queue[0].size_bytes <= MAX_GROUP_BYTES:
            job = queue.popleft()
            size += job.size_bytes
            jobs.append(job)
        return _Group(jobs, size)

    def _apply(self, group: _Group) -> None:
        connection, applier = self._connection, self._applier
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in group.jobs:
                try:
                    job.result = job.work(applier)
                except (StoreError, InvariantViolation) as error:
                    job.error = error
        except Exception:
            # Whatever it was, it is found again and told to its caller when the jobs are done one by one.
            self._roll_back()
        else:
            group.is_applied = True

    def _commit_here(self, group: _Group) -> bool:
        """Commits on the loop's thread. Returns whether that was all; otherwise the commit thread goes on
        from there."""
        self._let_checkpoint(False)
        try:
            self._place.time(lambda: self._connection.execute("COMMIT"))
        except sqlite3.Error as error:
            group.failure = error
            if _outcome_is_unknown(error):
                self._fence_is_due = True  # before anybody reads
            return False
        return True

    def _let_checkpoint(self, is_wanted: bool) -> None:
        """Says whether the next COMMIT may also move the log into the database."""
        if is_wanted != self._may_checkpoint:
            pages = self._checkpoint_pages if is_wanted else 0
            with suppress(
                sqlite3.Error
            ):  # only matters for how long something takes; the next group tries again
                self._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
                self._may_checkpoint = is_wanted

    def _finish(self, group: _Group) -> None:
        """Answers the callers of a group that the commit thread settled, and starts the next one."""
        self._answer(group)
        if self._queue:
            self._start_group()
        else:
            self._is_busy = False
            self._idle.set()

    def _answer(self, group: _Group) -> None:
        # Asked after COMMIT: what a file that nobody finds again has taken is not kept.
        gone = None if self._is_in_place() else unavailable(_gone())
        for job in group.jobs:
            job.error = job.error or gone
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    # --- on the commit thread; the loop's thread does not touch the connection meanwhile

    def _run_thread(self) -> None:
        while (group := self._groups.get()) is not None:
            try:
                self._settle(group)
            except Exception as error:  # a defect here must not leave callers waiting for ever
                for job in group.jobs:
                    job.error = unavailable(error)
            try:
                self._loop.call_soon_threadsafe(self._finish, group)
            except RuntimeError:
                pass  # the loop was closed without `drain`: nobody waits for the answer any more

    def _settle(self, group: _Group) -> None:
        if group.is_applied:
            failure = self._commit(group.failure)
            if failure is not None:
                for job in group.jobs:
                    job.error = unavailable(failure)
            return
        for job in group.jobs:
            job.error = self._do_alone(job)

    def _do_alone(self, job: _Job) -> BaseException | None:
        """Does a job in a transaction of its own. Returns what went wrong, if something did."""
        if self._fence_is_due and (fence_error := self._fence()) is not None:
            return unavailable(fence_error)
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            self._connection.execute("BEGIN IMMEDIATE")
            job.result = job.work(self._applier)
        except (StoreError, InvariantViolation) as error:
            self._roll_back()
            return error
        except sqlite3.Error as error:
            self._roll_back()
            return unavailable(error)
        except Exception as error:  # a value that cannot be bound; it is the caller's own defect
            self._roll_back()
            return error
        finally:
            self._connection.execute("PRAGMA busy_timeout = 0")
        failure = self._commit()
        return None if failure is None else unavailable(failure)

    def _commit(self, failure: sqlite3.Error | None = None) -> sqlite3.Error | None:
        """Commits, and after a failure gets the connection back to a known state.

        Args:
            failure: how COMMIT failed on the loop's thread, if it did.
        """
        if failure is None:
            failure = self._try_commit()
        elif _code(failure) == sqlite3.SQLITE_BUSY and self._connection.in_transaction:
            # What the loop's thread must not wait for.
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            failure = self._try_commit()
            self._connection.execute("PRAGMA busy_timeout = 0")
        if failure is not None:
            self._roll_back()
            if _outcome_is_unknown(failure):
                self._fence_is_due = True
                self._fence()
        return failure

    def _try_commit(self) -> sqlite3.Error | None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            return error
        return None

    def _fence(self) -> sqlite3.Error | None:
        """Reopens the connection and commits a row of its own over whatever a failed commit left in the
        log."""
        if not self._is_in_place():
            return _gone()  # connecting would make an empty database
        try:
            connection = self._connect()
            self._applier.disconnect()
            self._connection.close()
            self._connection = connection
            self._may_checkpoint = True
            self._applier.reconnect(connection)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(queries.BUMP_META, ("fence",)).fetchone()
            connection.execute("COMMIT")
            connection.execute("PRAGMA busy_timeout = 0")
        except sqlite3.Error as error:
            self._roll_back()
            return error
        self._fence_is_due = False
        return None

    def _roll_back(self) -> None:
        """Ends a failed transaction, on whichever thread has the connection."""
        self._applier.forget()
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                # The connection cannot be trusted; the next job opens another.
                self._fence_is_due = True
        invariant(self._fence_is_due or not self._connection.in_transaction, "a failed transaction has ended")


def _gone() -> sqlite3.Error:
    return sqlite3.OperationalError(
        "the file, or its log (-wal), was deleted, moved or replaced while it is in use; put it back, or stop this "
        "process and start it anew"
    )


def _outcome_is_unknown(error: sqlite3.Error) -> bool:
    """Whether the log may hold what COMMIT reported as failed: any error but "full", "busy" and
    "constraint"."""
    return _code(error) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CONSTRAINT)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF
