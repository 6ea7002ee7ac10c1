"""Batch operations at work: a page of executions, their requests at a pace, a commit; then the next page.

What a request for one execution says is decided in `core/batch`, what it does by its handler. After a crash the page
that was under way is done again, with the same request ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from google.protobuf.message import Message

from perdure.api.batch.v1 import BatchOperationInfo
from perdure.api.workflowservice.v1 import (
    CountActivityExecutionsRequest,
    CountWorkflowExecutionsRequest,
    DescribeBatchOperationResponse,
    ListActivityExecutionsRequest,
    ListWorkflowExecutionsRequest,
    ResetWorkflowExecutionRequest,
    StartBatchOperationRequest,
)
from perdure.core.batch import operations
from perdure.core.batch.state import BatchState, Target, decode, page_done, stopped, with_page
from perdure.core.errors import (
    AbortedError,
    DeadlineExceededError,
    NotFoundError,
    PerdureError,
    ResourceExhaustedError,
    StoreError,
    UnavailableError,
    UnimplementedError,
    VersionConflictError,
    WorkflowAlreadyStartedError,
)
from perdure.core.run import lifecycle
from perdure.core.run.activity import RUN_CLOSED
from perdure.core.run.protos import set_timestamp
from perdure.server.engine.engine import Engine
from perdure.server.engine.reset_points import reset_point
from perdure.server.namespaces import Namespace
from perdure.store.protocol import BatchKey, BatchPosition, StoredBatch

MAX_OPEN: Final = 1
"""Open jobs of a namespace."""
PAGE: Final = 100
"""Executions between two commits."""
CONCURRENT: Final = 5
"""Executions of a job worked on at the same time."""
PER_SECOND: Final = 50.0
"""Operations a second of a job that does not say."""
MAX_PER_SECOND: Final = 1_000.0
ATTEMPTS: Final = 10
"""How often an operation is tried that is not possible at the moment."""
FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0
RETRY_S: Final = 1.0
"""How long a job waits when lists or its own row cannot be read or written."""
STOP_S: Final = 10.0
"""How long whoever stops a job waits for what is under way."""
PURGE_PAGES: Final = 10
_RESOURCE_CONCURRENT: Final = 2
_SCOPE_NAMESPACE: Final = 1
_NOT_NOW: Final = (UnavailableError, ResourceExhaustedError, DeadlineExceededError, AbortedError)

logger = logging.getLogger(__name__)

Serve = Callable[[str, Message], Awaitable[Any]]
"""Serves an RPC, named as in the contract, as if a client had called it."""


@dataclass(slots=True, eq=False)
class _Job:
    """An open job in this process."""

    key: BatchKey
    version: int
    state: BatchState
    request: StartBatchOperationRequest
    task: asyncio.Task[None] | None = None
    completed: int = 0
    failed: int = 0
    """With `completed`, of the page under way."""
    stop: tuple[str, str] | None = None
    """The reason and the identity of whoever stops it."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, reason: str, identity: str) -> None:
        """Has nothing more begun; the first who says so is remembered."""
        self.stop = self.stop or (reason, identity)
        self.stopping.set()

    async def rest(self, seconds: float) -> None:
        """Waits, but no longer than until the job is stopped."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), seconds)


class _Pace:
    """Lets so many pass each second, a second's worth at once after a rest."""

    def __init__(self, per_second: float) -> None:
        self._interval_s = 1 / per_second
        self._burst_s = 1 - self._interval_s if per_second > 1 else 0.0
        self._next_s = 0.0

    def delay_s(self) -> float:
        """How long the next one has to wait, seconds."""
        now_s = asyncio.get_running_loop().time()
        self._next_s = max(self._next_s, now_s - self._burst_s)
        delay_s = self._next_s - now_s
        self._next_s += self._interval_s
        return delay_s


class Batches:
    """The batch operations of an engine's store.

    Args:
        engine: the store, the clock, the namespaces.

    Attributes:
        serve: serves RPCs; set by whoever builds the service.
        has: whether an RPC is served; likewise.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: dict[BatchKey, _Job] = {}
        self.serve: Serve = _not_served
        self.has: Callable[[str], bool] = _has_nothing

    # --- life

    async def start(self) -> None:
        """Goes on with the jobs that were open when the process ended."""
        for namespace in list(self._engine.namespaces.all()):
            for position, _ in await self._engine.store.list_batches(
                namespace.namespace_id, None, MAX_OPEN * 2
            ):
                key = BatchKey(namespace.namespace_id, position.job_id)
                stored = await self._engine.store.load_batch(key)
                if stored is not None and stored.close_time_ns is None:
                    self._begin(stored)

    async def stop(self) -> None:
        """Stops; open jobs go on after the next start."""
        await _cancel(job.task for job in self._jobs.values())

    async def delete_all(self, namespace_id: str) -> None:
        """Deletes every job of a namespace."""
        await _cancel(job.task for key, job in self._jobs.items() if key.namespace_id == namespace_id)
        while rows := await self._engine.store.list_batches(namespace_id, None, PAGE):
            for position, _ in rows:
                await self._engine.store.delete_batch(BatchKey(namespace_id, position.job_id))

    # --- what callers do

    async def create(self, namespace: Namespace, request: StartBatchOperationRequest) -> None:
        """Commits a new job and begins it, also if the caller stops waiting.

        Raises:
            WorkflowAlreadyStartedError: there is one of this id.
            ResourceExhaustedError: as many as may be are open.
            InvalidArgumentError: the query is none.
            UnimplementedError: the operation's RPC is not there.
            UnavailableError: it is not known whether the job was written; one that was goes on.
        """
        await self._engine.finish_anyway(self._create(namespace, request))

    async def _create(self, namespace: Namespace, request: StartBatchOperationRequest) -> None:
        key = BatchKey(namespace.namespace_id, request.job_id)
        operation = operations.operation_of(request)
        if not self.has(operation.rpc):
            raise UnimplementedError(f"{operation.rpc} is not implemented by this server")
        if await self._load(key) is not None:
            raise _exists(request.job_id)
        self._check_room(key)
        total = await self._count(request)
        await self._purge(namespace)
        self._check_room(key)
        state = BatchState(
            request=request.SerializeToString(),
            incarnation=self._engine.runtime.new_id(),
            type=operation.type_number,
            identity=operations.identity_of(request),
            start_ns=self._engine.runtime.now_ns(),
            total=total,
        )
        stored = _stored(key, 1, state)
        self._engine.namespaces.check_exists(namespace.namespace_id, namespace.name)
        self._jobs[key] = _Job(key, 1, state, request)
        try:
            await self._engine.store.put_batch(stored)
        except VersionConflictError as error:
            raise _exists(request.job_id) from error
        except StoreError as error:
            raise UnavailableError(f"the database cannot be written now: {error}") from error
        finally:
            del self._jobs[key]
        self._begin(stored)

    def _check_room(self, key: BatchKey) -> None:
        if sum(other.namespace_id == key.namespace_id for other in self._jobs) >= MAX_OPEN:
            message = "Max concurrent batch operations is reached"
            raise ResourceExhaustedError(message, cause=_RESOURCE_CONCURRENT, scope=_SCOPE_NAMESPACE)

    async def describe(self, key: BatchKey) -> DescribeBatchOperationResponse:
        """What a job is and how far it has come.

        Raises:
            NotFoundError: there is none of this id.
        """
        job = self._jobs.get(key)
        if job is not None and job.task is not None:
            progress = (job.completed, job.failed)
            return _description(key, job.state, *progress)
        stored = await self._load(key)
        if stored is None:
            raise _not_found(key)
        return _description(key, decode(stored.data), 0, 0)

    async def listed(
        self, namespace: Namespace, after: BatchPosition | None, size: int
    ) -> tuple[Sequence[BatchOperationInfo], BatchPosition | None]:
        """A page of the list of jobs, and where the next one begins."""
        rows = await self._engine.reading(
            self._engine.store.list_batches(namespace.namespace_id, after, size + 1)
        )
        shown = [BatchOperationInfo.FromString(entry) for _, entry in rows[:size]]
        return shown, rows[size - 1][0] if len(rows) > size else None

    async def stop_job(self, key: BatchKey, reason: str, identity: str) -> None:
        """Stops a job; what is under way is finished first.

        Raises:
            NotFoundError: there is none of this id, or it is closed.
            UnavailableError: it could not be written that it is stopped; it is tried on.
        """
        job = self._jobs.get(key)
        if job is None or job.task is None:
            stored = await self._load(key)
            job = self._jobs.get(key)
            if job is None or job.task is None:
                raise _not_found(key) if stored is None else NotFoundError(RUN_CLOSED)
        job.end(reason, identity)
        done, _ = await asyncio.wait({job.task}, timeout=STOP_S)
        if not done:
            raise UnavailableError("the batch operation is being stopped; try again")

    # --- work

    async def _load(self, key: BatchKey) -> StoredBatch | None:
        """A job's row. An open one that nobody works on was written without anybody hearing of it: it is begun."""
        stored = await self._engine.reading(self._engine.store.load_batch(key))
        if stored is not None and stored.close_time_ns is None and key not in self._jobs:
            self._begin(stored)
        return stored

    def _begin(self, stored: StoredBatch) -> None:
        state = decode(stored.data)
        request = StartBatchOperationRequest.FromString(state.request)
        job = self._jobs[stored.key] = _Job(stored.key, stored.version, state, request)
        job.task = asyncio.create_task(self._run(job), name=f"batch {stored.key.job_id}")

    async def _run(self, job: _Job) -> None:
        wanted = job.request.max_operations_per_second
        pace = _Pace(min(wanted, MAX_PER_SECOND) if wanted > 0 else PER_SECOND)
        try:
            while job.state.is_open:
                try:
                    await self._page(job, pace)
                except (*_NOT_NOW, StoreError) as error:
                    logger.warning("batch operation %s has to wait: %s", job.key.job_id, error)
                    await asyncio.sleep(RETRY_S)
                    if not await self._reload(job):
                        return
                except (
                    Exception
                ) as error:  # whatever it is, it must not keep the namespace's only job open for ever
                    logger.exception("batch operation %s cannot go on", job.key.job_id)
                    job.end(f"{type(error).__name__}: {error}", lifecycle.SERVER_IDENTITY)
                    await asyncio.sleep(RETRY_S)
        finally:
            self._jobs.pop(job.key, None)

    async def _page(self, job: _Job, pace: _Pace) -> None:
        """Does one page; commits what became of it together with the executions of the next one."""
        job.completed = job.failed = 0
        if job.state.page is None and not job.stopping.is_set():
            await self._commit(job, await self._with_page(job, job.state))
        waiting = list(reversed(job.state.page or ()))
        await asyncio.gather(*(self._work(job, waiting, pace) for _ in range(CONCURRENT)))
        now_ns = self._engine.runtime.now_ns()
        if job.stop is not None:
            state = stopped(job.state, job.completed, job.failed, *job.stop, now_ns)
        else:
            state = page_done(job.state, job.completed, job.failed, now_ns)
            if state.is_open:
                try:
                    state = await self._with_page(job, state)
                except Exception:  # whatever it was: what was done counts, and the list is asked for again
                    await self._commit(job, state)
                    raise
        await self._commit(job, state)

    async def _commit(self, job: _Job, state: BatchState) -> None:
        await self._engine.store.put_batch(_stored(job.key, job.version + 1, state))
        job.completed = job.failed = 0
        job.version, job.state = job.version + 1, state

    async def _reload(self, job: _Job) -> bool:
        """Takes the job's committed state again, for it may be unknown whether a commit came about."""
        try:
            stored = await self._engine.store.load_batch(job.key)
        except StoreError:
            return True
        if stored is None:
            return False
        job.version, job.state = stored.version, decode(stored.data)
        return True

    async def _with_page(self, job: _Job, state: BatchState) -> BatchState:
        """The job with the executions of its next page."""
        return with_page(state, *await self._targets(job, state.cursor))

    async def _targets(self, job: _Job, cursor: bytes) -> tuple[Sequence[Target], bytes | None]:
        """The executions of a page, and the cursor of the one after it."""
        listed = operations.targets(job.request)
        if listed:
            place = int(cursor or b"0")
            end = place + PAGE
            return listed[place:end], b"%d" % end if end < len(listed) else None
        operation = operations.operation_of(job.request)
        query = operation.query(job.request.visibility_query)
        if operation.target == operations.ACTIVITY:
            activities = await self.serve(
                "ListActivityExecutions",
                ListActivityExecutionsRequest(
                    namespace=self._name(job), query=query, page_size=PAGE, next_page_token=cursor
                ),
            )
            found = [Target(execution.activity_id, execution.run_id) for execution in activities.executions]
            return found, activities.next_page_token or None
        workflows = await self.serve(
            "ListWorkflowExecutions",
            ListWorkflowExecutionsRequest(
                namespace=self._name(job), query=query, page_size=PAGE, next_page_token=cursor
            ),
        )
        found = [Target(info.execution.workflow_id, info.execution.run_id) for info in workflows.executions]
        return found, workflows.next_page_token or None

    async def _count(self, request: StartBatchOperationRequest) -> int:
        operation = operations.operation_of(request)
        if not request.visibility_query:
            return len(operations.targets(request))
        query = operation.query(request.visibility_query)
        if operation.target == operations.ACTIVITY:
            count = CountActivityExecutionsRequest(namespace=request.namespace, query=query)
            return int((await self.serve("CountActivityExecutions", count)).count)
        workflows = CountWorkflowExecutionsRequest(namespace=request.namespace, query=query)
        return int((await self.serve("CountWorkflowExecutions", workflows)).count)

    async def _work(self, job: _Job, waiting: list[Target], pace: _Pace) -> None:
        while waiting:
            target = waiting.pop()
            await job.rest(pace.delay_s())
            if job.stopping.is_set():
                return
            try:
                await self._do(job, target)
            except NotFoundError:
                job.completed += 1  # it is closed or gone: there is nothing left to do
            except PerdureError as error:
                logger.info(
                    "batch operation %s failed for %s: %s", job.key.job_id, target.execution_id, error
                )
                job.failed += 1
            else:
                job.completed += 1

    async def _do(self, job: _Job, target: Target) -> None:
        """Does the operation to one execution."""
        operation = operations.operation_of(job.request)
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            request: Any = operations.request_for(job.request, target, job.state.incarnation)
            request.namespace = self._name(job)
            try:
                if isinstance(request, ResetWorkflowExecutionRequest):
                    await reset_point(self.serve, job.request.reset_operation, request)
                await self.serve(operation.rpc, request)
                return
            except _NOT_NOW:
                if attempt == ATTEMPTS or job.stopping.is_set():
                    raise
            await job.rest(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _name(self, job: _Job) -> str:
        """The name of the job's namespace; that can change."""
        namespace = self._engine.namespaces.by_id(job.key.namespace_id)
        return namespace.name if namespace is not None else job.request.namespace

    async def _purge(self, namespace: Namespace) -> None:
        """Deletes jobs that have been closed for as long as closed workflows are kept; some of them at a time."""
        oldest_ns = self._engine.runtime.now_ns() - namespace.retention_ns
        # Behind it in the list are only jobs that closed before that.
        after = BatchPosition(oldest_ns, 0, "")
        for _ in range(PURGE_PAGES):
            rows = await self._engine.reading(
                self._engine.store.list_batches(namespace.namespace_id, after, PAGE)
            )
            for position, _ in rows:
                key = BatchKey(namespace.namespace_id, position.job_id)
                await self._engine.reading(self._engine.store.delete_batch(key))
            if len(rows) < PAGE:
                return
            after = rows[-1][0]


async def _cancel(tasks: Iterable[asyncio.Task[None] | None]) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _stored(key: BatchKey, version: int, state: BatchState) -> StoredBatch:
    info = BatchOperationInfo(job_id=key.job_id, state=state.state, operation_type=state.type)  # type: ignore[arg-type]  # enum numbers
    set_timestamp(info.start_time, state.start_ns)
    if state.close_ns:
        set_timestamp(info.close_time, state.close_ns)
    entry = info.SerializeToString()
    return StoredBatch(key, version, state.start_ns, state.close_ns or None, entry, state.encode())


def _description(
    key: BatchKey, state: BatchState, completed: int, failed: int
) -> DescribeBatchOperationResponse:
    request = StartBatchOperationRequest.FromString(state.request)
    state = msgspec.structs.replace(
        state, completed=state.completed + completed, failed=state.failed + failed
    )
    response = DescribeBatchOperationResponse(
        operation_type=state.type,  # type: ignore[arg-type]  # a BatchOperationType number
        job_id=key.job_id,
        state=state.state,  # type: ignore[arg-type]  # a BatchOperationState number
        total_operation_count=max(state.total, state.completed + state.failed),
        complete_operation_count=state.completed,
        failure_operation_count=state.failed,
        identity=state.identity,
        reason=request.reason,
        query=request.visibility_query,
        executions=operations.shown_executions(request),
    )
    set_timestamp(response.start_time, state.start_ns)
    if state.close_ns:
        set_timestamp(response.close_time, state.close_ns)
    return response


def _exists(job_id: str) -> WorkflowAlreadyStartedError:
    message = f"Batch operation already exists. JobId: {job_id}."
    return WorkflowAlreadyStartedError(message, start_request_id="", run_id="", first_run_id="")


def _not_found(key: BatchKey) -> NotFoundError:
    return NotFoundError(f"workflow not found for ID: {key.job_id}")


async def _not_served(name: str, request: Message) -> Any:
    raise UnimplementedError(f"{name} is not implemented by this server")


def _has_nothing(name: str) -> bool:
    return False
