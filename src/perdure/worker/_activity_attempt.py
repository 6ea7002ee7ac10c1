"""One attempt of an activity while it runs: its state, and the ways in which it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from perdure.activity import (
    ActivityCancellationDetails,
    Info,
    _ActivityCancellationDetailsHolder,
)
from perdure.api.common.v1 import Payloads
from perdure.api.failure.v1 import Failure
from perdure.api.workflowservice.v1 import PollActivityTaskQueueResponse
from perdure.common import Priority, RetryPolicy
from perdure.exceptions import CancelledError
from perdure.worker._thread_cancel import ThreadExceptionRaiser

if TYPE_CHECKING:
    from perdure.api.protobuf import Duration
    from perdure.common import _CompositeEvent
    from perdure.worker._environment import Environment
    from perdure.worker._heartbeats import Heartbeater
    from perdure.worker._slots import Permit


logger = logging.getLogger("perdure.worker")

_STILL_RUNNING_EVERY_S = 10.0
_NO_LIMIT_S = 600.0


@dataclass(slots=True)
class Outcome:
    """How an attempt ended; nothing is set when the activity will be completed from elsewhere.

    Attributes:
        result: It returned.
        failure: It raised.
        is_canceled: It ended because it was asked to (`failure` says how).
        error: What it raised.
    """

    result: Payloads | None = None
    failure: Failure | None = None
    is_canceled: bool = False
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt of an activity.

    Attributes:
        start: As polled (or made for a local activity).
        environment: Of the worker.
        is_local: Whether it is a local activity.
        permit: Its slot.
        task: That runs it.
        is_async: Whether it is an `async def`; known once its function is found.
        is_executing: The activity's own code runs, so that it may be cancelled.
        cancelled_event: Set when it is cancelled.
        raiser: Throws exceptions into its thread.
        heartbeater: Sends its heartbeats; None for local activities.
        heartbeat_error: Its heartbeat details did not encode, which cancelled it.
        cancellation: Why it was cancelled.
        heartbeat_details: Decoded details of the last attempt.
        received_s: When it came, on the monotonic clock.
        timeout_at_s: When it is cancelled here, because the server has given it up; None for never.
    """

    start: PollActivityTaskQueueResponse
    environment: Environment
    is_local: bool = False
    permit: Permit | None = None
    task: asyncio.Task[Any] | None = None
    is_async: bool = True
    is_executing: bool = False
    cancelled_event: _CompositeEvent | None = None
    raiser: ThreadExceptionRaiser | None = None
    heartbeater: Heartbeater | None = None
    heartbeat_error: Exception | None = None
    cancellation: _ActivityCancellationDetailsHolder = field(
        default_factory=_ActivityCancellationDetailsHolder
    )
    heartbeat_details: list[Any] = field(default_factory=list)
    received_s: float = field(default_factory=time.monotonic)
    timeout_at_s: float | None = None
    _info: Info | None = None

    def cancel(self, details: ActivityCancellationDetails) -> None:
        """Ask the attempt to end, once; later reasons do not count."""
        if self.cancellation.details is None:
            self.cancellation.details = details
            self._stop_code()

    def cancel_for_heartbeat_error(self, error: Exception) -> None:
        """End the attempt because its heartbeat details do not encode."""
        if self.heartbeat_error is None and self.is_executing:
            self.heartbeat_error = error
            self._stop_code()

    @property
    def cancelled_by_request(self) -> bool:
        """Whether ending now is what was asked for, rather than a failure."""
        details = self.cancellation.details
        return details is not None and (details.cancel_requested or details.worker_shutdown)

    def _stop_code(self) -> None:
        if self.cancelled_event is not None:
            self.cancelled_event.set()
        if not self.is_executing:
            return
        if self.raiser is not None:
            self.raiser.raise_in_thread(CancelledError)
        if self.is_async and self.task is not None:
            self.task.cancel("Activity cancelled")

    @property
    def report_until_s(self) -> float:
        """Until when, on the monotonic clock, its outcome still matters to the server."""
        start = self.start
        one_s, all_s = _seconds(start.start_to_close_timeout), _seconds(start.schedule_to_close_timeout)
        limit_s = min(one_s, all_s) if one_s and all_s else one_s or all_s
        return self.received_s + (limit_s or _NO_LIMIT_S)

    def info(self) -> Info:
        """Return what the activity's code sees, made when it is first looked at."""
        if self._info is None:
            self._info = self._make_info()
        return self._info

    def _make_info(self) -> Info:
        start = self.start
        by_workflow = bool(start.workflow_execution.workflow_id)
        return Info(
            activity_id=start.activity_id,
            activity_type=start.activity_type.name,
            attempt=start.attempt,
            current_attempt_scheduled_time=_datetime(start.current_attempt_scheduled_time),
            heartbeat_details=self.heartbeat_details,
            heartbeat_timeout=_timedelta(start.heartbeat_timeout),
            is_local=self.is_local,
            namespace=start.workflow_namespace or self.environment.namespace,
            schedule_to_close_timeout=_timedelta(start.schedule_to_close_timeout),
            scheduled_time=_datetime(start.scheduled_time),
            start_to_close_timeout=_timedelta(start.start_to_close_timeout),
            started_time=_datetime(start.started_time),
            task_queue=self.environment.task_queue,
            task_token=start.task_token,
            workflow_id=start.workflow_execution.workflow_id or None,
            workflow_namespace=start.workflow_namespace or None,
            workflow_run_id=start.workflow_execution.run_id or None,
            workflow_type=start.workflow_type.name or None,
            priority=Priority._from_proto(start.priority),
            retry_policy=RetryPolicy.from_proto(start.retry_policy)
            if start.HasField("retry_policy")
            else None,
            activity_run_id=None if by_workflow else start.activity_run_id or None,
        )


async def wait_until_ended(running: Callable[[], Sequence[Attempt]]) -> None:
    """Wait until attempts that were cancelled have ended, and say from time to time which ones still run.

    Args:
        running: Returns those that run.
    """
    began_s = time.monotonic()
    while attempts := running():
        await wait_for_attempts(running, _STILL_RUNNING_EVERY_S)
        # Of those whose code has ended, the server only has not been told yet.
        attempts = [attempt for attempt in running() if attempt.is_executing]
        if attempts:
            names = ", ".join(
                f"{attempt.start.activity_type.name} ({attempt.start.activity_id})"
                for attempt in attempts[:10]
            )
            logger.warning(
                "Shutdown waits for %d activities that were cancelled %.0f s ago and still run: %s. "
                "Make them end when they are cancelled: see activity.is_cancelled and heartbeat",
                *(len(attempts), time.monotonic() - began_s, names),
            )


async def wait_for_attempts(running: Callable[[], Sequence[Attempt]], timeout_s: float) -> None:
    """Wait until no attempt runs, but no longer than a time.

    Args:
        running: Returns those that run.
        timeout_s: Seconds.
    """
    until_s = time.monotonic() + timeout_s
    while attempts := running():
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return
        await asyncio.wait([attempt.task for attempt in attempts if attempt.task], timeout=left_s)


def _datetime(timestamp: Any) -> datetime:
    value: datetime = timestamp.ToDatetime(tzinfo=UTC)
    return value


def _timedelta(duration: Duration) -> timedelta | None:
    return duration.ToTimedelta() if duration.seconds or duration.nanos else None


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
