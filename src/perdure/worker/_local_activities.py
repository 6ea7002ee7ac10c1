"""Local activities: run inside the worker, retried here, recorded by their workflow as markers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure.activity import ActivityCancellationDetails
from perdure.api.common.v1 import RetryPolicy
from perdure.api.enums.v1 import TimeoutType
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import PollActivityTaskQueueResponse
from perdure.core.replay.run import WorkflowRun
from perdure.core.replay.steps import LocalActivity, LocalActivityOutcome
from perdure.core.run import retry
from perdure.core.run.protos import duration_ns
from perdure.worker import _logs
from perdure.worker._activity_attempt import Attempt, Outcome, wait_until_ended
from perdure.worker._activity_runner import ActivityRunner
from perdure.worker._metrics import LocalEnding
from perdure.worker._slots import ActivitySlot, Slots

if TYPE_CHECKING:
    from perdure.api.protobuf import Duration

logger = logging.getLogger("perdure.worker")

_NS = 1_000_000_000


@dataclass(slots=True, eq=False)
class RunLocals:
    """The local activities of one run.

    Attributes:
        tasks: Those that run, by `seq`.
        attempts: What runs of them right now.
        cancelled: Those that were asked to cancel.
        finished: Ended and not yet reported to the run.
        changed: Set when something ended.
        is_abandoned: The worker shuts down: the run's task waits no longer, and what still ends is not reported.
    """

    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    finished: deque[tuple[LocalActivity, LocalActivityOutcome]] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_abandoned: bool = False


@dataclass(slots=True)
class _Execution:
    """One local activity over all its attempts in this worker."""

    work: LocalActivity
    run: WorkflowRun
    run_locals: RunLocals
    workflow_id: str
    run_id: str
    number: int
    started_s: float
    first_scheduled_ns: int
    last_failure: Failure | None = None

    def outcome(self) -> LocalActivityOutcome:
        return LocalActivityOutcome(
            attempt=self.number,
            original_schedule_time_ns=self.first_scheduled_ns,
            elapsed_ns=int((time.monotonic() - self.started_s) * _NS),
        )

    @property
    def left_s(self) -> float | None:
        """Seconds until its schedule-to-close time is over; None without one."""
        limit_s = _seconds(self.work.attributes.schedule_to_close_timeout)
        if not limit_s:
            return None
        return limit_s - (time.time_ns() - self.first_scheduled_ns) / _NS


class LocalActivities:
    """Runs the local activities of a worker's workflows.

    Args:
        runner: Runs one attempt.
        slots: Of local activities.
    """

    def __init__(self, runner: ActivityRunner, slots: Slots) -> None:
        self._runner = runner
        self._slots = slots
        self._all: set[RunLocals] = set()
        self._attempts: dict[asyncio.Task[Outcome], Attempt] = {}
        self._is_abandoning = False

    @property
    def slots(self) -> Slots:
        """The slots of local activities."""
        return self._slots

    def start(
        self, work: LocalActivity, run: WorkflowRun, run_locals: RunLocals, workflow_id: str, run_id: str
    ) -> None:
        """Start a local activity; its end appears in `run_locals.finished`."""
        execution = _Execution(
            work=work,
            run=run,
            run_locals=run_locals,
            workflow_id=workflow_id,
            run_id=run_id,
            number=work.attempt,
            started_s=time.monotonic(),
            first_scheduled_ns=work.original_schedule_time_ns or time.time_ns(),
        )
        if self._is_abandoning:
            run_locals.is_abandoned = True
            run_locals.changed.set()
            return
        self._all.add(run_locals)
        run_locals.tasks[work.seq] = asyncio.get_running_loop().create_task(self._run(execution))

    def cancel(self, seq: int, run_locals: RunLocals) -> None:
        """Ask a local activity to cancel."""
        if seq not in run_locals.tasks:
            return
        run_locals.cancelled.add(seq)
        attempt = run_locals.attempts.get(seq)
        if attempt is not None:
            attempt.cancel(ActivityCancellationDetails(cancel_requested=True))
        else:
            # It waits for a slot or for its next attempt.
            run_locals.tasks[seq].cancel()

    def drop(self, run_locals: RunLocals) -> None:
        """Cancel all local activities of a run that leaves the cache; nobody waits for them any more."""
        self._end(run_locals, ActivityCancellationDetails(cancel_requested=True))
        run_locals.finished.clear()

    def abandon(self) -> None:
        """Cancel everything, because the worker's time is over; the tasks of the runs wait for it no longer.

        The tasks are not answered: they time out, and another worker runs their local activities again.
        """
        self._is_abandoning = True
        for run_locals in list(self._all):
            run_locals.is_abandoned = True
            self._end(run_locals, ActivityCancellationDetails(worker_shutdown=True))
            run_locals.changed.set()

    async def drain(self) -> None:
        """Wait until no code of a local activity runs, after everything was cancelled."""
        await wait_until_ended(
            lambda: [attempt for task, attempt in self._attempts.items() if not task.done()]
        )

    def _end(self, run_locals: RunLocals, details: ActivityCancellationDetails) -> None:
        self._all.discard(run_locals)
        # However an attempt ends now, there is no next one.
        run_locals.cancelled.update(run_locals.tasks)
        for attempt in list(run_locals.attempts.values()):
            attempt.cancel(details)
        for seq, task in run_locals.tasks.items():
            if seq not in run_locals.attempts:
                task.cancel()

    async def _run(self, execution: _Execution) -> None:
        seq, run_locals = execution.work.seq, execution.run_locals
        try:
            outcome = await self._until_done(execution)
        except asyncio.CancelledError:
            outcome = execution.outcome()
            outcome.is_canceled = True
        except Exception as error:  # a bug of the worker's: the workflow must not wait for ever
            logger.exception("A local activity could not be run")
            outcome = execution.outcome()
            outcome.failure = Failure(message=f"The worker could not run the local activity: {error!r}")
            outcome.failure.application_failure_info.type = type(error).__name__
        run_locals.tasks.pop(seq, None)
        if not run_locals.tasks:
            self._all.discard(run_locals)
        run_locals.cancelled.discard(seq)
        if not run_locals.is_abandoned:
            run_locals.finished.append((execution.work, outcome))
        run_locals.changed.set()

    async def _until_done(self, execution: _Execution) -> LocalActivityOutcome:
        while True:
            outcome = await self._attempt(execution)
            failure = outcome.failure
            if failure is None or outcome.is_canceled or failure is not execution.last_failure:
                return outcome
            decision = _next_attempt(execution, failure)
            if decision.state == retry.TIMEOUT:
                return _timed_out(execution, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE)
            if decision.state != retry.IN_PROGRESS:
                return outcome
            delay_s = decision.delay_ns / _NS
            if delay_s > execution.work.local_retry_threshold_s:
                outcome.backoff_s = delay_s
                return outcome
            execution.run.local_activity_retried()
            await asyncio.sleep(delay_s)
            execution.number += 1

    async def _attempt(self, execution: _Execution) -> LocalActivityOutcome:
        """Run one attempt. What may be retried by its policy has the execution's last failure."""
        attributes = execution.work.attributes
        start_s, left_s = _seconds(attributes.schedule_to_start_timeout), execution.left_s
        try:
            permit = await asyncio.wait_for(self._slots.reserve(), _least(start_s, left_s))
        except TimeoutError:
            is_all = left_s is not None and (not start_s or left_s <= start_s)
            kind = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
            return _timed_out(execution, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE if is_all else kind)
        self._slots.mark_used(permit, ActivitySlot(attributes.activity_type.name))
        attempt = Attempt(self._start_message(execution), self._runner.environment, is_local=True)
        running = asyncio.get_running_loop().create_task(self._runner.run(attempt))
        attempt.task = running
        self._attempts[running] = attempt
        running.add_done_callback(self._attempts.pop)
        running.add_done_callback(lambda _: permit.release())
        seq = execution.work.seq
        execution.run_locals.attempts[seq] = attempt
        if seq in execution.run_locals.cancelled:
            attempt.cancel(ActivityCancellationDetails(cancel_requested=True))
        try:
            limit_s = _least(_seconds(attributes.start_to_close_timeout), execution.left_s)
            # Code that ignores its cancellation keeps its slot, but its workflow goes on.
            done, _ = await asyncio.wait([running], timeout=limit_s)
        finally:
            execution.run_locals.attempts.pop(seq, None)
        if done:
            ended = running.result()
            self._measure(execution, attempt, _ending(ended))
            return self._judge(execution, attempt, ended)
        self._measure(execution, attempt, "timed out")
        attempt.cancel(ActivityCancellationDetails(timed_out=True))
        left_s = execution.left_s
        if left_s is not None and left_s <= 0:
            return _timed_out(execution, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE)
        timed_out = _timed_out(execution, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE)
        execution.last_failure = timed_out.failure
        _logs.activity_failed(attempt, TimeoutError("start-to-close time-out"))
        return timed_out

    def _measure(self, execution: _Execution, attempt: Attempt, ending: LocalEnding) -> None:
        metrics = self._runner.environment.metrics
        if metrics is not None:
            metrics.local_activity_done(
                attempt.start.activity_type.name,
                attempt.start.workflow_type.name,
                time.monotonic() - attempt.received_s,
                execution.first_scheduled_ns,
                ending,
            )

    def _judge(self, execution: _Execution, attempt: Attempt, outcome: Outcome) -> LocalActivityOutcome:
        if outcome.result is not None:
            result = execution.outcome()
            result.result = outcome.result
            return result
        if outcome.is_canceled:
            result = execution.outcome()
            result.is_canceled, result.failure = True, outcome.failure
            return result
        failure = outcome.failure
        if failure is None:
            failure = Failure(message="A local activity cannot be completed asynchronously")
            failure.application_failure_info.non_retryable = True
        execution.last_failure = failure
        self._slots.tally.failed += 1
        if outcome.error is not None:
            _logs.activity_failed(attempt, outcome.error)
        result = execution.outcome()
        result.failure = failure
        return result

    def _start_message(self, execution: _Execution) -> PollActivityTaskQueueResponse:
        attributes = execution.work.attributes
        environment = self._runner.environment
        start = PollActivityTaskQueueResponse(
            task_token=f"local-{execution.run_id}-{execution.work.seq}-{execution.number}".encode(),
            workflow_namespace=environment.namespace,
            activity_type=attributes.activity_type,
            activity_id=attributes.activity_id,
            header=attributes.header,
            input=attributes.input,
            attempt=execution.number,
            schedule_to_close_timeout=attributes.schedule_to_close_timeout,
            start_to_close_timeout=attributes.start_to_close_timeout,
            retry_policy=attributes.retry_policy if attributes.HasField("retry_policy") else None,
        )
        start.workflow_execution.workflow_id = execution.workflow_id
        start.workflow_execution.run_id = execution.run_id
        start.workflow_type.name = execution.run.workflow_type
        now_ns = time.time_ns()
        start.scheduled_time.FromNanoseconds(execution.first_scheduled_ns)
        start.current_attempt_scheduled_time.FromNanoseconds(now_ns)
        start.started_time.FromNanoseconds(now_ns)
        return start


def _ending(outcome: Outcome) -> LocalEnding:
    if outcome.result is not None:
        return "succeeded"
    return "cancelled" if outcome.is_canceled else "failed"


def _next_attempt(execution: _Execution, failure: Failure) -> retry.Decision:
    policy = RetryPolicy.FromString(execution.work.attributes.retry_policy.SerializeToString())
    retry.fill_defaults(policy)
    if execution.work.seq in execution.run_locals.cancelled:
        return retry.Decision(retry.CANCEL_REQUESTED)
    if not retry.is_retryable(failure, policy.non_retryable_error_types):
        return retry.Decision(retry.NON_RETRYABLE)
    limit_ns = duration_ns(execution.work.attributes.schedule_to_close_timeout)
    return retry.next_attempt(
        now_ns=time.time_ns(),
        attempt=execution.number,
        maximum_attempts=policy.maximum_attempts,
        initial_interval_ns=duration_ns(policy.initial_interval),
        maximum_interval_ns=duration_ns(policy.maximum_interval),
        backoff_coefficient=policy.backoff_coefficient,
        expiration_ns=execution.first_scheduled_ns + limit_ns if limit_ns else 0,
        failure=failure,
    )


def _timed_out(execution: _Execution, kind: TimeoutType.ValueType) -> LocalActivityOutcome:
    outcome = execution.outcome()
    failure = Failure(message=f"activity {TimeoutType.Name(kind).removeprefix('TIMEOUT_TYPE_')} timeout")
    failure.timeout_failure_info.timeout_type = kind
    if execution.last_failure is not None:
        failure.cause.CopyFrom(execution.last_failure)
    outcome.failure = failure
    return outcome


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _least(limit_s: float, left_s: float | None) -> float | None:
    limits = [limit for limit in (limit_s or None, left_s) if limit is not None]
    return max(min(limits), 0.0) if limits else None
