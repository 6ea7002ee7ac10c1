"""The workflows of one worker: tasks in from polls or answers, code run, answers out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from perdure.api.command.v1 import Command
from perdure.api.enums.v1 import CommandType, WorkflowTaskFailedCause
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.protocol.v1 import Message
from perdure.api.query.v1 import WorkflowQuery
from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueResponse,
    PollWorkflowTaskQueueResponse,
    RespondQueryTaskCompletedRequest,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
)
from perdure.core.replay.instructions import Program
from perdure.core.replay.run import WorkflowRun
from perdure.core.replay.steps import (
    CacheMissError,
    LocalActivityWork,
    Pause,
    RunConfig,
    Step,
    TaskCompletion,
    TaskFailure,
    WorkflowTask,
)
from perdure.exceptions import ApplicationError
from perdure.service import RPCError, RPCStatusCode
from perdure.service._errors import is_too_large
from perdure.worker import _logs
from perdure.worker._calls import ANSWER_GRACE_S, CALL_TIMEOUT, call_until
from perdure.worker._histories import task_events, whole_history
from perdure.worker._local_activities import LocalActivities, RunLocals
from perdure.worker._payload_edge import WorkflowPayloads, has_effect
from perdure.worker._sizes import find_too_large, too_large_failure, unsendable_failure
from perdure.worker._slots import Permit, Slots, WorkflowSlot
from perdure.worker._workflow_answers import WorkflowAnswers
from perdure.worker._workflow_cache import CachedRun, RunCache
from perdure.worker._workflow_executors import WorkflowExecutor, make_executor
from perdure.worker._workflow_watch import DeadlockError

if TYPE_CHECKING:
    from perdure.worker._environment import Environment

T = TypeVar("T")

logger = logging.getLogger("perdure.worker")

_UNHANDLED = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
_PAYLOADS_TOO_LARGE = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE
_TOO_LARGE = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_GRPC_MESSAGE_TOO_LARGE
# How metrics call the reasons for failed tasks; every other one is the code's.
_REASONS = {
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR: "NonDeterminismError",
    _PAYLOADS_TOO_LARGE: "PayloadsTooLarge",
    _TOO_LARGE: "GrpcMessageTooLarge",
}
_SCHEDULE_ACTIVITY = CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK
_FAIL_WORKFLOW = CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION
_DEFAULT_TASK_TIMEOUT_S = 10.0


class _AbandonedError(Exception):
    """The worker shuts down while a task waits for local activities."""


class Programs(Protocol):
    """Makes and ends the code of workflow runs."""

    def create(self, workflow_type: str, workflow_id: str, run_id: str) -> Program:
        """Make fresh code for a run.

        Raises:
            ApplicationError: No such workflow is registered.
        """
        ...

    def config_for(self, workflow_type: str) -> RunConfig:
        """Return what a run of this type has to know about its worker."""
        ...

    def to_failure(self, error: BaseException) -> Failure:
        """Return an error as a failure, payloads not yet encoded."""
        ...

    def close(self, program: Program) -> None:
        """End code that is not run any more. Called where code runs."""
        ...


class EagerActivities(Protocol):
    """Takes activities that come with the answer to a workflow task."""

    def reserve(self, activity_type: str) -> Permit | None:
        """Reserve a slot if one is free and the activity can run here."""
        ...

    def take(self, task: PollActivityTaskQueueResponse, permit: Permit) -> None:
        """Run the activity."""
        ...


class WorkflowWorker:
    """Works on the workflow tasks that come to a worker.

    Args:
        environment: Of the worker.
        programs: Makes the code of runs.
        deadlock_timeout_s: Seconds for which code may run without waiting; None for ever.
        slots: Of workflow tasks.
        cache: Of runs.
        answers: Makes requests.
        local_activities: Runs them; None when no activity is registered.
        eager: Takes activities at once; None when that is switched off.
        max_eager: So many activities of one task at most.
        pool: Of threads that run code; None to run it on the event loop.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        programs: Programs,
        deadlock_timeout_s: float | None,
        slots: Slots,
        cache: RunCache,
        answers: WorkflowAnswers,
        local_activities: LocalActivities | None,
        eager: EagerActivities | None,
        max_eager: int,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self._environment = environment
        self._programs = programs
        self._pool = pool
        self._deadlock_timeout_s = deadlock_timeout_s
        self._running_executor: WorkflowExecutor | None = None
        self._slots = slots
        self._cache = cache
        self._answers = answers
        self._local_activities = local_activities
        self._eager = eager
        self._max_eager = max_eager
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_codec = has_effect(environment.data_converter)
        self._stopping = False

    @property
    def _executor(self) -> WorkflowExecutor:
        return _present(self._running_executor)

    @property
    def _deadlock_timeout_seconds(self) -> float | None:
        # The name is that of the official worker: its users' tests set it to see a deadlock sooner.
        return self._deadlock_timeout_s

    @_deadlock_timeout_seconds.setter
    def _deadlock_timeout_seconds(self, value: float | None) -> None:
        self._deadlock_timeout_s = value
        if self._running_executor is not None:
            self._running_executor.limit_s = value

    def start(self) -> None:
        """Get ready to run code."""
        self._running_executor = make_executor(self._pool, self._deadlock_timeout_s)

    def take(self, task: PollWorkflowTaskQueueResponse, permit: Permit) -> None:
        """Work on a task in its slot, which is released when it is done. Once stopped, leave it to other workers."""
        if self._stopping:
            logger.debug("A workflow task of %s came too late", task.workflow_execution.workflow_id)
            permit.release()
            return
        is_sticky = task.previous_started_event_id > 0 and bool(
            task.history.events and task.history.events[0].event_id > 1
        )
        self._slots.mark_used(permit, WorkflowSlot(task.workflow_type.name, is_sticky))
        working = asyncio.get_running_loop().create_task(self._work(task, permit))
        self._tasks.add(working)
        working.add_done_callback(self._tasks.discard)

    async def _work(self, task: PollWorkflowTaskQueueResponse, permit: Permit) -> None:
        try:
            following: PollWorkflowTaskQueueResponse | None = task
            while following is not None:
                following = await self._work_on_one(following)
        except Exception:  # a bug of the worker's: the task times out and is tried again
            logger.exception(
                "Failed handling a workflow task of %s, run %s",
                task.workflow_execution.workflow_id,
                task.workflow_execution.run_id,
            )
        finally:
            # Not before: what local activities have done since a heartbeat is told with the task that follows it.
            for surplus in self._cache.overdue():
                self._close(surplus)
                self._count_forced()
            permit.release()

    async def _work_on_one(self, task: PollWorkflowTaskQueueResponse) -> PollWorkflowTaskQueueResponse | None:
        received_s = time.monotonic()
        while True:
            cached = self._cached(task)
            cached.users += 1
            try:
                async with cached.lock:
                    if self._cache.get(cached.run_id) is cached:
                        return await self._work_on_cached(cached, task, received_s)
            finally:
                cached.users -= 1
            # Whoever held the lock before has evicted the run.

    async def _work_on_cached(
        self, cached: CachedRun, task: PollWorkflowTaskQueueResponse, received_s: float
    ) -> PollWorkflowTaskQueueResponse | None:
        try:
            step = await self._step(cached, task, received_s)
        except RPCError as error:
            self._not_loaded(task, error)
            self._evict(cached)
            return None
        except _AbandonedError:
            self._evict(cached)
            return None
        return await self._answer(cached, task, step, received_s)

    def _count_forced(self) -> None:
        if self._environment.metrics is not None:
            self._environment.metrics.forced_out()

    def _count_use(self, cached: CachedRun, *, is_hit: bool) -> None:
        """Note whether a run that should be in the cache was there."""
        if is_hit:
            self._cache.hits += 1
        else:
            self._cache.misses += 1
        if self._environment.metrics is not None:
            self._environment.metrics.cache_used(cached.workflow_type, is_hit=is_hit)

    @property
    def cache(self) -> RunCache:
        """The runs in memory."""
        return self._cache

    def _cached(self, task: PollWorkflowTaskQueueResponse) -> CachedRun:
        execution = task.workflow_execution
        cached = self._cache.get(execution.run_id)
        if cached is None:
            cached = CachedRun(execution.workflow_id, execution.run_id, task.workflow_type.name)
            self._cache.put(cached)
        return cached

    async def _step(self, cached: CachedRun, task: PollWorkflowTaskQueueResponse, received_s: float) -> Step:
        until_s = received_s + _DEFAULT_TASK_TIMEOUT_S
        if task.next_page_token:
            events = await task_events(self._environment, task, until_s)
        else:
            events = list(task.history.events)
        is_whole = bool(events) and events[0].event_id == 1
        is_missing = False
        try:
            if is_whole and _goes_on(cached, task):
                events = events[_present(cached.run).last_event_id :]
            elif is_whole or cached.run is None:
                if not is_whole:
                    self._count_use(cached, is_hit=False)
                    events = await whole_history(self._environment, task, events, until_s)
                self._renew(cached)
            else:
                self._count_use(cached, is_hit=True)
            try:
                step = await self._handle(cached, task, events)
            except CacheMissError:
                is_missing = True
            if is_missing:
                # Not above: code must not see an exception being handled that is none of its own.
                events = await whole_history(self._environment, task, events, until_s)
                self._renew(cached)
                step = await self._handle(cached, task, events)
            while isinstance(step, LocalActivityWork):
                step = await self._work_locally(cached, step, received_s)
        except (RPCError, _AbandonedError):
            raise
        except Exception as error:  # unknown workflow, blocked or broken code, payloads that do not decode
            if isinstance(error, ApplicationError) and error.non_retryable and not task.HasField("query"):
                # A codec or a storage driver says that trying again is no use.
                return self._failed_workflow(error)
            return self._failed_step(cached, task, error)
        except BaseException:
            # Ctrl-C goes on through code as through any other: what it left half-way is loaded anew.
            cached.run = None
            raise
        return step

    def _failed_workflow(self, error: ApplicationError) -> TaskCompletion:
        command = Command(command_type=_FAIL_WORKFLOW)
        command.fail_workflow_execution_command_attributes.failure.CopyFrom(self._programs.to_failure(error))
        return TaskCompletion(commands=[command], is_complete=True)

    async def _handle(
        self, cached: CachedRun, task: PollWorkflowTaskQueueResponse, events: list[HistoryEvent]
    ) -> Step:
        run = _present(cached.run)
        workflow_task = WorkflowTask(
            events=events,
            previous_started_event_id=task.previous_started_event_id,
            started_event_id=task.started_event_id,
            attempt=task.attempt,
            query=task.query if task.HasField("query") else None,
            queries=dict(task.queries) if task.queries else {},
            messages=task.messages,
        )
        if cached.payloads is not None:
            cached.payloads.reset_metrics()
            with cached.payloads.downloads.track():
                await self._decode(cached.payloads, workflow_task)
        metrics = self._environment.metrics
        if metrics is None or not events or events[0].event_id != 1:
            return await self._run_code(cached, run, partial(run.handle, workflow_task))
        cached.started_ns = events[0].event_time.ToNanoseconds()
        began_s = time.monotonic()
        step = await self._run_code(cached, run, partial(run.handle, workflow_task))
        if task.previous_started_event_id:
            metrics.replayed(cached.workflow_type, time.monotonic() - began_s)
        return step

    async def _run_code(self, cached: CachedRun, run: WorkflowRun, job: Callable[[], T]) -> T:
        close = partial(self._programs.close, cached.program) if cached.program is not None else None
        step: Any = await self._executor.run(job, run, close)
        while isinstance(step, Pause):
            await asyncio.sleep(0)
            step = await self._executor.run(run.resume, run, close)
        return cast(T, step)

    async def _decode(self, payloads: WorkflowPayloads, task: WorkflowTask) -> None:
        task.events = await payloads.decoded_events(task.events)
        if task.query is not None:
            task.query = WorkflowQuery.FromString(task.query.SerializeToString())
            await payloads.decode(task.query)
        task.queries = {
            key: WorkflowQuery.FromString(query.SerializeToString()) for key, query in task.queries.items()
        }
        for query in task.queries.values():
            await payloads.decode(query)
        task.messages = [Message.FromString(message.SerializeToString()) for message in task.messages]
        for message in task.messages:
            await payloads.decode_protocol_message(message)

    def _renew(self, cached: CachedRun) -> None:
        """Begin with fresh code."""
        self._close(cached)
        if self._has_codec:
            cached.payloads = WorkflowPayloads(
                self._environment, cached.workflow_id, cached.run_id, cached.workflow_type
            )
        program = self._programs.create(cached.workflow_type, cached.workflow_id, cached.run_id)
        cached.program = program
        cached.run = WorkflowRun(
            cached.workflow_id, cached.run_id, program, self._programs.config_for(cached.workflow_type)
        )

    async def _work_locally(self, cached: CachedRun, work: LocalActivityWork, received_s: float) -> Step:
        run, run_locals, local_activities = (
            _present(cached.run),
            cached.locals,
            _present(self._local_activities),
        )
        for item in work.start:
            if cached.payloads is not None:
                await cached.payloads.encode_local(item.attributes)
            local_activities.start(item, run, run_locals, cached.workflow_id, cached.run_id)
        for seq in work.cancel:
            local_activities.cancel(seq, run_locals)
        deadline_s = received_s + work.heartbeat_after_s
        loop = asyncio.get_running_loop()
        timer = loop.call_later(deadline_s - time.monotonic(), run_locals.changed.set)
        try:
            while True:
                while run_locals.finished:
                    ended, outcome = run_locals.finished.popleft()
                    if cached.payloads is not None:
                        await cached.payloads.decode_outcome(outcome, ended.attributes)
                    step = await self._run_code(
                        cached, run, partial(run.local_activity_resolved, ended.seq, outcome)
                    )
                    if step is not None:
                        return step
                if time.monotonic() >= deadline_s:
                    # It tells the code what local activities did so far, and asks the task's questions.
                    handed_in = await self._run_code(cached, run, run.heartbeat)
                    if handed_in is not None:
                        return handed_in
                if run_locals.is_abandoned:
                    raise _AbandonedError
                run_locals.changed.clear()
                await run_locals.changed.wait()
        finally:
            timer.cancel()

    def _failed_step(
        self, cached: CachedRun, task: PollWorkflowTaskQueueResponse, error: Exception
    ) -> TaskFailure:
        failure = self._programs.to_failure(error)
        if isinstance(error, DeadlockError):
            if error.is_running:
                # Its thread ends this code.
                cached.program = None
            failure.stack_trace = error.advice
        if cached.run is not None and not isinstance(error, CacheMissError):
            failed = cached.run.fail(_UNHANDLED, failure, str(error))
            failed.error = failed.error or error
            # The run may not have seen the task at all, and so not know how often it was tried.
            failed.should_report = failed.should_report and task.attempt <= 1
            return failed
        return TaskFailure(
            cause=_UNHANDLED,
            failure=failure,
            message=str(error),
            legacy_query=task.HasField("query"),
            should_report=task.attempt <= 1,
            error=error,
        )

    async def _answer(
        self, cached: CachedRun, task: PollWorkflowTaskQueueResponse, step: Step, received_s: float
    ) -> PollWorkflowTaskQueueResponse | None:
        run = cached.run
        timeout_s = run.workflow_task_timeout_s if run is not None else _DEFAULT_TASK_TIMEOUT_S
        until_s = received_s + timeout_s
        if isinstance(step, TaskCompletion):
            self._measure(cached, step, received_s)
            if cached.payloads is not None:
                try:
                    with cached.payloads.uploads.track():
                        await cached.payloads.encode_completion(step)
                except Exception as error:  # codecs and storage drivers are the user's code
                    await self._fail(cached, task, self._failed_step(cached, task, error), until_s)
                    return None
            _logs.workflow_task_done(task, time.monotonic() - received_s, cached.payloads)
            if step.legacy_query_result is not None:
                request = self._answers.query_answered(task.task_token, step.legacy_query_result)
                await self._respond_to_query(request, until_s)
                self._evict_if_done(cached, step)
                return None
            return await self._complete(cached, task, step, until_s)
        if isinstance(step, TaskFailure):
            await self._fail(cached, task, step, until_s)
            return None
        raise TypeError(f"not an answer: {type(step).__name__}")

    def _measure(self, cached: CachedRun, step: TaskCompletion, received_s: float) -> None:
        metrics = self._environment.metrics
        if metrics is not None and step.legacy_query_result is None:
            seconds = time.monotonic() - received_s
            metrics.workflow_task_done(cached.workflow_type, seconds, step.commands, cached.started_ns)
            metrics.cached(len(self._cache))

    async def _complete(
        self, cached: CachedRun, task: PollWorkflowTaskQueueResponse, step: TaskCompletion, until_s: float
    ) -> PollWorkflowTaskQueueResponse | None:
        request = self._answers.completed(task.task_token, step, return_new_task=not self._stopping)
        large = find_too_large(self._environment, request)
        if large is not None:
            failure = too_large_failure(large)
            failed = TaskFailure(_PAYLOADS_TOO_LARGE, failure, failure.message)
            failed.should_report = task.attempt <= 1
            await self._fail(cached, task, failed, until_s)
            return None
        permits = self._reserve_eagerly(request)
        try:
            response = await self._respond_to_task(request, until_s)
        except RPCError as error:
            self._evict(cached)
            await self._not_accepted(cached, task, error, until_s)
            return None
        else:
            for activity in response.activity_tasks:
                if permits and self._eager is not None:
                    self._eager.take(activity, permits.pop())
        finally:
            for permit in permits:
                permit.release()
        if response.reset_history_event_id and cached.run is not None:
            cached.run.reset_to(response.reset_history_event_id)
        self._evict_if_done(cached, step)
        following = response.workflow_task
        return following if following.task_token else None

    async def _respond_to_task(
        self, request: RespondWorkflowTaskCompletedRequest, until_s: float
    ) -> RespondWorkflowTaskCompletedResponse:
        service, what = self._environment.service, "Completing a workflow task"
        respond = partial(service.respond_workflow_task_completed, request, timeout=CALL_TIMEOUT)
        response: RespondWorkflowTaskCompletedResponse
        try:
            response = await call_until(until_s, respond, what)
        except RPCError as error:
            if not is_too_large(error) or not request.query_results:
                raise
            # Maybe because of them: a run must not end because somebody has looked at it.
            self._answers.fail_queries(request, unsendable_failure("The answer to the query", error))
            response = await call_until(until_s, respond, what)
        return response

    def _reserve_eagerly(self, request: RespondWorkflowTaskCompletedRequest) -> list[Permit]:
        permits: list[Permit] = []
        eager = None if self._stopping else self._eager
        for command in request.commands:
            if command.command_type != _SCHEDULE_ACTIVITY:
                continue
            attributes = command.schedule_activity_task_command_attributes
            if not attributes.request_eager_execution:
                continue
            permit = None
            if (
                eager is not None
                and len(permits) < self._max_eager
                and attributes.task_queue.name in ("", self._environment.task_queue)
            ):
                permit = eager.reserve(attributes.activity_type.name)
            if permit is None:
                attributes.request_eager_execution = False
            else:
                permits.append(permit)
        return permits

    async def _fail(
        self, cached: CachedRun, task: PollWorkflowTaskQueueResponse, step: TaskFailure, until_s: float
    ) -> None:
        self._evict(cached)
        self._slots.tally.failed += 1
        if self._environment.metrics is not None:
            reason = _REASONS.get(step.cause, "WorkflowError")
            self._environment.metrics.workflow_task_failed(cached.workflow_type, reason)
        _logs.workflow_task_failed(
            *(task.workflow_type.name, cached.workflow_id, cached.run_id, task.attempt),
            *(step.message, step.error),
            is_final=step.cause == _TOO_LARGE,
        )
        if not step.should_report:
            return
        if cached.payloads is not None:
            try:
                await cached.payloads.encode(step.failure)
            except Exception as error:  # the user's code; without an answer the task would only time out
                logger.exception("The failure of a workflow task could not be encoded")
                step.failure = Failure(message=f"Failed encoding the failure: {type(error).__name__}")
                step.failure.application_failure_info.SetInParent()
        if step.legacy_query:
            await self._respond_to_query(self._answers.query_failed(task.task_token, step.failure), until_s)
            return
        failed = self._answers.failed(task.task_token, step)
        service = self._environment.service
        try:
            await call_until(
                until_s,
                lambda: service.respond_workflow_task_failed(failed, timeout=CALL_TIMEOUT),
                "Failing a workflow task",
            )
        except RPCError as error:
            logger.debug("The failure of a workflow task was not accepted: %s", error.message)

    async def _respond_to_query(self, request: RespondQueryTaskCompletedRequest, until_s: float) -> None:
        service = self._environment.service
        try:
            await call_until(
                until_s,
                lambda: service.respond_query_task_completed(request, timeout=CALL_TIMEOUT),
                "Answering a query",
            )
        except RPCError as error:
            logger.debug("The answer to a query was not accepted: %s", error.message)
            if is_too_large(error):
                failure = unsendable_failure("The answer to the query", error)
                await self._respond_to_query(self._answers.query_failed(request.task_token, failure), until_s)

    async def _not_accepted(
        self, cached: CachedRun, task: PollWorkflowTaskQueueResponse, error: RPCError, until_s: float
    ) -> None:
        if is_too_large(error):
            failure = unsendable_failure("The workflow task's answer", error)
            step = TaskFailure(cause=_TOO_LARGE, failure=failure, message=failure.message)
            await self._fail(cached, task, step, until_s)
            return
        is_usual = error.status is RPCStatusCode.NOT_FOUND or "UnhandledCommand" in error.message
        logger.log(
            logging.DEBUG if is_usual else logging.WARNING,
            "The answer to a workflow task of %s (%s, run %s) was not accepted (%s: %s)",
            *(cached.workflow_type, cached.workflow_id, cached.run_id, error.status.name, error.message),
        )

    def _not_loaded(self, task: PollWorkflowTaskQueueResponse, error: RPCError) -> None:
        logger.log(
            logging.DEBUG if error.status is RPCStatusCode.NOT_FOUND else logging.WARNING,
            "The history of workflow %s, run %s could not be read (%s: %s); its task will be tried again",
            *(task.workflow_execution.workflow_id, task.workflow_execution.run_id),
            *(error.status.name, error.message),
        )

    def _evict_if_done(self, cached: CachedRun, step: TaskCompletion) -> None:
        run = cached.run
        is_kept = self._cache.maximum > 0 or cached.has_local_activities
        if step.is_complete or not is_kept or run is None or run.eviction is not None:
            self._evict(cached)
            if not step.is_complete and self._cache.maximum == 0:
                self._count_forced()

    def _evict(self, cached: CachedRun) -> None:
        self._cache.remove(cached)
        self._close(cached)
        if self._environment.metrics is not None:
            self._environment.metrics.cached(len(self._cache))

    def _close(self, cached: CachedRun) -> None:
        if self._local_activities is not None and (cached.locals.tasks or cached.locals.finished):
            self._local_activities.drop(cached.locals)
            # What still ends there is for nobody: other code may give the same number to another local activity.
            cached.locals = RunLocals()
        self._close_code(cached)
        cached.run = None

    def _close_code(self, cached: CachedRun) -> None:
        program, cached.program = cached.program, None
        if program is not None:
            self._executor.end(partial(self._programs.close, program))

    def stop(self) -> None:
        """Take no further tasks, and ask for none with answers."""
        self._stopping = True

    async def drain(self, grace_s: float) -> None:
        """Wait until no task is worked on, then end all code.

        Args:
            grace_s: Seconds for which tasks may wait for their local activities.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(grace_s, ANSWER_GRACE_S))
        if self._local_activities is not None:
            self._local_activities.abandon()
        while self._tasks:
            await asyncio.wait(self._tasks)
        for cached in self._cache:
            self._evict(cached)
        await self._executor.drain()


def _goes_on(cached: CachedRun, task: PollWorkflowTaskQueueResponse) -> bool:
    """Whether a task that brings the whole history finds local activities here that must not run again for it."""
    run = cached.run
    return (
        run is not None
        and cached.has_local_activities
        and run.eviction is None
        and task.previous_started_event_id == run.started_event_id
    )


def _present(value: T | None) -> T:
    if value is None:
        raise RuntimeError("The run is not loaded, or local activities cannot run: no activity is registered")
    return value
