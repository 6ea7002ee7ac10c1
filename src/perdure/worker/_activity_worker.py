"""The activities of one worker: tasks in from polls or answers, attempts run, outcomes reported."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.activity import ActivityCancellationDetails
from perdure.api.common.v1 import Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import (
    PollActivityTaskQueueResponse,
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest,
)
from perdure.service import RPCError, RPCStatusCode
from perdure.service._errors import is_too_large
from perdure.worker import _logs
from perdure.worker._activity_attempt import Attempt, Outcome, wait_for_attempts, wait_until_ended
from perdure.worker._activity_runner import ActivityRunner
from perdure.worker._calls import ANSWER_GRACE_S, CALL_TIMEOUT, call_until
from perdure.worker._sizes import find_too_large, too_large_failure, unsendable_failure
from perdure.worker._slots import ActivitySlot, Permit, Slots

if TYPE_CHECKING:
    from perdure.worker._environment import Environment

logger = logging.getLogger("perdure.worker")

# The server times an attempt out first; its answer arrives with the next heartbeat or never.
_LOCAL_TIMEOUT_MARGIN_S = 4.0
_SWEEP_EVERY_S = 0.5


class ActivityWorker:
    """Runs the activity tasks that come to a worker.

    Args:
        runner: Runs one attempt.
        slots: Of activities.
    """

    def __init__(self, runner: ActivityRunner, slots: Slots) -> None:
        self._runner = runner
        self._environment: Environment = runner.environment
        self._slots = slots
        self._running_activities: dict[bytes, Attempt] = {}
        self._shutdown_reason: ActivityCancellationDetails | None = None
        self._report_until_s = math.inf
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def slots(self) -> Slots:
        """The slots of activities."""
        return self._slots

    def take(self, start: PollActivityTaskQueueResponse, permit: Permit, *, is_eager: bool = False) -> None:
        """Start an attempt in its slot, which is released when it is over."""
        self._slots.mark_used(permit, ActivitySlot(start.activity_type.name))
        metrics = self._environment.metrics
        if metrics is not None:
            metrics.activity_received(start.activity_type.name, start.workflow_type.name, is_eager=is_eager)
        attempt = Attempt(start, self._environment, permit=permit)
        limit = start.start_to_close_timeout
        if limit.seconds or limit.nanos:
            attempt.timeout_at_s = (
                attempt.received_s + limit.seconds + limit.nanos / 1e9 + _LOCAL_TIMEOUT_MARGIN_S
            )
        self._running_activities[start.task_token] = attempt
        attempt.task = asyncio.get_running_loop().create_task(self._run(attempt))
        if self._shutdown_reason is not None:
            attempt.cancel(self._shutdown_reason)
        # One timer for all of them: a timer of its own for each attempt is what busy workers spend their time on.
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_EVERY_S, self._sweep)

    async def _run(self, attempt: Attempt) -> None:
        try:
            outcome = await self._runner.run(attempt)
            self._measure(attempt, outcome)
            await self._report(attempt, outcome)
        finally:
            self._running_activities.pop(attempt.start.task_token, None)
            # They know the attempt: without them, it goes without the garbage collector.
            attempt.task = attempt.heartbeater = None
            if attempt.permit is not None:
                attempt.permit.release()

    def _measure(self, attempt: Attempt, outcome: Outcome) -> None:
        has_failed = outcome.failure is not None and not outcome.is_canceled
        self._slots.tally.failed += has_failed
        metrics = self._environment.metrics
        if metrics is not None:
            metrics.activity_done(
                attempt.start.activity_type.name,
                attempt.start.workflow_type.name,
                time.monotonic() - attempt.received_s,
                attempt.start.scheduled_time.ToNanoseconds(),
                failed=has_failed,
                succeeded=outcome.result is not None,
            )

    def _sweep(self) -> None:
        """Cancel code that goes on although the server gave its attempt up, even if it sends no heartbeats."""
        self._sweeping = None
        now_s = time.monotonic()
        for attempt in list(self._running_activities.values()):
            if attempt.timeout_at_s is not None and now_s >= attempt.timeout_at_s:
                attempt.cancel(ActivityCancellationDetails(timed_out=True))
        if self._running_activities:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_EVERY_S, self._sweep)

    async def _report(self, attempt: Attempt, outcome: Outcome) -> None:
        heartbeater = attempt.heartbeater
        if outcome.result is None and outcome.failure is None:
            if heartbeater is not None:
                # Whoever completes it from elsewhere has time from the last heartbeat on.
                await heartbeater.flush()
            return
        unsent = None
        if heartbeater is not None:
            unsent = await heartbeater.stop(keep_unsent=outcome.result is None)
        details = attempt.cancellation.details
        if details is not None and details.not_found:
            logger.debug("Activity %s ended after the server had given it up", attempt.start.activity_id)
            return
        if outcome.failure is not None and not outcome.is_canceled and outcome.error is not None:
            _logs.activity_failed(attempt, outcome.error)
        try:
            await self._repeat(attempt, self._call_for(attempt, outcome, unsent))
        except RPCError as error:
            await self._not_reported(attempt, error)

    async def _repeat(self, attempt: Attempt, make_call: Callable[[], Any]) -> None:
        def until_s() -> float:
            return min(attempt.report_until_s, self._report_until_s)

        await call_until(until_s, make_call, "Reporting an activity's outcome")

    def _call_for(self, attempt: Attempt, outcome: Outcome, unsent: Payloads | None) -> Callable[[], Any]:
        service, common = self._environment.service, self._common(attempt)
        if outcome.result is not None:
            completed = RespondActivityTaskCompletedRequest(result=outcome.result, **common)
            large = find_too_large(self._environment, completed)
            if large is not None:
                return self._call_to_fail(attempt, too_large_failure(large))
            return lambda: service.respond_activity_task_completed(completed, timeout=CALL_TIMEOUT)
        if outcome.is_canceled:
            canceled = RespondActivityTaskCanceledRequest(**common)
            if outcome.failure is not None and outcome.failure.canceled_failure_info.HasField("details"):
                canceled.details.CopyFrom(outcome.failure.canceled_failure_info.details)
            return lambda: service.respond_activity_task_canceled(canceled, timeout=CALL_TIMEOUT)
        return self._call_to_fail(attempt, outcome.failure, unsent)

    def _call_to_fail(
        self, attempt: Attempt, failure: Failure | None, unsent: Payloads | None = None
    ) -> Callable[[], Any]:
        service = self._environment.service
        failed = RespondActivityTaskFailedRequest(
            failure=failure, last_heartbeat_details=unsent, **self._common(attempt)
        )
        return lambda: service.respond_activity_task_failed(failed, timeout=CALL_TIMEOUT)

    def _common(self, attempt: Attempt) -> dict[str, Any]:
        """Return what every answer says."""
        environment = self._environment
        common: dict[str, Any] = {
            "task_token": attempt.start.task_token,
            "identity": environment.identity,
            "namespace": environment.namespace,
            "worker_version": environment.version_stamp,
        }
        if environment.deployment is not None:
            common["deployment_options"] = environment.deployment
        return common

    async def _not_reported(self, attempt: Attempt, error: RPCError) -> None:
        start = attempt.start
        if error.status is RPCStatusCode.NOT_FOUND:
            logger.debug("Activity %s ended after the server had given it up", start.activity_id)
            return
        logger.warning(
            "The outcome of activity %s (%s) was not accepted (%s: %s)",
            *(start.activity_id, start.activity_type.name, error.status.name, error.message),
        )
        if not is_too_large(error):
            return
        failure = unsendable_failure("The activity's outcome", error)
        failure.application_failure_info.non_retryable = True
        try:
            await self._repeat(attempt, self._call_to_fail(attempt, failure))
        except RPCError as second_error:
            logger.warning("Nor was its failure: %s", second_error.message)

    def notify_shutdown(self) -> None:
        """Tell the activities that run that the worker shuts down."""
        self._runner.shutdown_event.set()

    async def drain(self, grace_s: float) -> None:
        """Wait until no activity runs; after the time of grace, cancel those that do.

        Args:
            grace_s: Seconds for which they may go on undisturbed.
        """
        if grace_s > 0:
            await wait_for_attempts(self._running, grace_s)
        self.cancel()
        await wait_until_ended(self._running)

    def cancel(self) -> None:
        """Cancel all activities, and those that still come: the worker's time is over."""
        self._shutdown_reason = ActivityCancellationDetails(worker_shutdown=True)
        self._report_until_s = time.monotonic() + ANSWER_GRACE_S
        for attempt in self._running():
            attempt.cancel(self._shutdown_reason)

    def _running(self) -> list[Attempt]:
        return list(self._running_activities.values())
