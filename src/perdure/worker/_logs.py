"""What a worker says about failures: one line for each, and the traceback, the user's frames first, at debug level."""

from __future__ import annotations

import asyncio
import concurrent
import logging
import os
import sys
import traceback
from bdb import BdbQuit
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec

from perdure.api.common.v1 import RetryPolicy
from perdure.converter._failure_converter import message_of
from perdure.core.run import retry
from perdure.core.run.protos import duration_ns
from perdure.exceptions import ApplicationError, ApplicationErrorCategory
from perdure.worker._workflow_watch import DeadlockError
from perdure.worker.workflow_code.guards.errors import RestrictedWorkflowAccessError, is_library

if TYPE_CHECKING:
    from perdure.api.workflowservice.v1 import PollWorkflowTaskQueueResponse
    from perdure.worker._activity_attempt import Attempt
    from perdure.worker._payload_edge import WorkflowPayloads

Arguments = ParamSpec("Arguments")

activity_logger = logging.getLogger("perdure.activity")
workflow_logger = logging.getLogger("perdure.worker")

_MAX_TEXT = 500
_MAX_CAUSES = 4
_OWN_FOLDERS = tuple(
    str(path) + os.sep
    for path in (
        Path(__file__).resolve().parent.parent,
        Path(asyncio.__file__).resolve().parent,
        Path(next(iter(concurrent.__path__))).resolve(),
    )
)
_HOW_TO_FAIL = ". The workflow waits until its code works; to fail it instead, raise ApplicationError"
_AFTER_QUIT = (
    "The debugger was left, which raises BdbQuit: the task is tried again, and its breakpoint stops it again. Leave "
    "with c (continue), set PYTHONBREAKPOINT=0, or use breakpoint() with Worker(debug_mode=True), where q lets the "
    "code go on."
)


def one_line(error: BaseException) -> str:
    """Return an error and its causes as one line of bounded length."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < _MAX_CAUSES:
        text = " ".join(message_of(current).split())
        # An application error with a type begins with it by itself.
        says_type = isinstance(current, ApplicationError) and bool(current.type)
        name = type(current).__name__
        parts.append(text if says_type else f"{name}: {text}" if text else name)
        current = current.__cause__
    line = ", caused by ".join(parts)
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"


def user_traceback(error: BaseException) -> str:
    """Return a traceback in which the frames of the user's code come first, and those of the worker last."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_OWN_FOLDERS)]
    users = [frame for frame in frames if not frame.filename.startswith(_OWN_FOLDERS)]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(users)]
    lines += traceback.format_exception_only(error)
    if error.__cause__ is not None:
        lines += ["caused by: ", user_traceback(error.__cause__) + "\n"]
    if own:
        lines += ["called by the worker at:\n", *traceback.format_list(own)]
    return "".join(lines).rstrip("\n")


def next_attempt(attempt: Attempt, error: BaseException | None) -> str:
    """Return, in words, what the server does after this attempt failed."""
    start = attempt.start
    if isinstance(error, ApplicationError) and error.non_retryable:
        return "not retried: the error says so"
    if not start.HasField("retry_policy"):
        return "retried as the server decides"
    policy = start.retry_policy
    type_name = (isinstance(error, ApplicationError) and error.type) or type(error).__name__
    if type_name in policy.non_retryable_error_types:
        return f"not retried: {type_name} is not retryable"
    if policy.maximum_attempts and start.attempt >= policy.maximum_attempts:
        return f"not retried: the last of {policy.maximum_attempts} attempts"
    if isinstance(error, ApplicationError) and error.next_retry_delay is not None:
        return f"next attempt in {error.next_retry_delay.total_seconds():g} s"
    filled = RetryPolicy.FromString(policy.SerializeToString())
    retry.fill_defaults(filled)
    delay_ns = retry.interval_ns(
        duration_ns(filled.initial_interval),
        filled.backoff_coefficient,
        start.attempt,
        duration_ns(filled.maximum_interval),
    )
    return f"next attempt in {delay_ns / 1e9:g} s"


def _never_raises(log: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Make a function that logs one that does not raise: filters, and the texts of errors, are the user's code."""

    @wraps(log)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            log(*args, **kwargs)
        except Exception:  # as the logging module does where a handler fails
            if logging.raiseExceptions and sys.stderr:
                traceback.print_exc()

    return guarded


@_never_raises
def activity_failed(attempt: Attempt, error: BaseException) -> None:
    """Log that an attempt of an activity failed."""
    is_benign = isinstance(error, ApplicationError) and error.category == ApplicationErrorCategory.BENIGN
    level = logging.DEBUG if is_benign else logging.WARNING
    if not activity_logger.isEnabledFor(level):
        return
    start = attempt.start
    extra: dict[str, Any] = {
        "__temporal_error_identifier": "ActivityFailure",
        "temporal_activity": attempt.info()._logger_details(),
    }
    activity_logger.log(
        level,
        "Completing activity as failed: %s (%s, attempt %d, %s; %s)",
        *(
            one_line(error),
            start.activity_type.name,
            start.attempt,
            next_attempt(attempt, error),
            _where(attempt),
        ),
        extra=extra,
    )
    if activity_logger.isEnabledFor(logging.DEBUG):
        # Without the identifier: one failure is one entry for those who count them.
        activity_logger.debug("Completing activity as failed:\n%s", user_traceback(error))


def _where(attempt: Attempt) -> str:
    start = attempt.start
    kind = "local activity" if attempt.is_local else "activity"
    execution = start.workflow_execution
    if not execution.workflow_id:
        return f"{kind} {start.activity_id}"
    return f"{kind} {start.activity_id} of workflow {execution.workflow_id}, run {execution.run_id}"


@_never_raises
def workflow_task_failed(
    workflow_type: str,
    workflow_id: str,
    run_id: str,
    attempt: int,
    message: str,
    error: BaseException | None,
    *,
    is_final: bool = False,
) -> None:
    """Log that a workflow task failed. The workflow goes on when its task succeeds, unless that cannot be."""
    extra: dict[str, Any] = {
        "__temporal_error_identifier": "WorkflowTaskFailure",
        "temporal_workflow": {
            "attempt": attempt,
            "workflow_type": workflow_type,
            "workflow_id": workflow_id,
            "run_id": run_id,
        },
    }
    what = one_line(error) + _place(error) if error is not None else " ".join(message.split())[:_MAX_TEXT]
    if attempt == 1 and error is not None and _is_raised_by_user(error):
        what += _HOW_TO_FAIL
    workflow_logger.warning(
        "Failed activation on workflow %s with ID %s and run ID %s (task attempt %d, %s): %s",
        *(workflow_type, workflow_id, run_id, attempt),
        *("the server ends the workflow" if is_final else "tried again", what),
        extra=extra,
    )
    if isinstance(error, DeadlockError):
        # The one failure of which the line says nothing without the stack.
        workflow_logger.warning("%s", error.advice)
    elif isinstance(error, BdbQuit):
        workflow_logger.warning("%s", _AFTER_QUIT)
    elif workflow_logger.isEnabledFor(logging.DEBUG):
        text = user_traceback(error) if error is not None else message
        workflow_logger.debug("Failed activation on workflow:\n%s", text)


def _place(error: BaseException) -> str:
    """Where the user's code stood last: ` (at FILE:LINE in FUNCTION)`, or nothing if the error says it or none did."""
    if isinstance(error, RestrictedWorkflowAccessError):
        return ""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if _is_users(frame):
            return f" (at {frame.f_code.co_filename}:{line} in {frame.f_code.co_name})"
    return ""


def _is_raised_by_user(error: BaseException) -> bool:
    """Whether the line that raised it is the user's, and none of the SDK's or of a library's."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and _is_users(frames[-1])


def _is_users(frame: FrameType) -> bool:
    return not frame.f_code.co_filename.startswith((*_OWN_FOLDERS, "<")) and not is_library(frame)


@_never_raises
def workflow_task_done(
    task: PollWorkflowTaskQueueResponse, duration_s: float, payloads: WorkflowPayloads | None
) -> None:
    """Log how long a workflow task took, at debug level unless it took long, and what external storage did for it."""
    if duration_s <= _DURATION_LEVELS[-2][0] and not workflow_logger.isEnabledFor(logging.DEBUG):
        return
    level, what = next(entry[1:] for entry in _DURATION_LEVELS if duration_s > entry[0])
    if not workflow_logger.isEnabledFor(level):
        return
    event_id = task.started_event_id + 1
    details: dict[str, Any] = {
        "event_id": event_id,
        "workflow_task_duration": timedelta(seconds=duration_s),
        "workflow_type": task.workflow_type.name,
        "workflow_id": task.workflow_execution.workflow_id,
    }
    storage = (("download", payloads.downloads), ("upload", payloads.uploads)) if payloads is not None else ()
    for name, metrics in storage:
        if metrics.payload_count:
            details |= {
                f"payload_{name}_count": metrics.payload_count,
                f"payload_{name}_size": metrics.total_size,
                f"payload_{name}_duration": metrics.total_duration,
                f"payload_{name}_drivers": sorted(metrics.driver_names),
            }
    shown = ", ".join(f"{name}: {value}" for name, value in details.items())
    # The number is by which Temporal's documentation and its users' alerts know the line.
    workflow_logger.log(
        level,
        "[TMPRL1104] %s:%d:%d %s (%s)",
        *(task.workflow_execution.run_id, event_id, task.attempt, what, shown),
        extra=details,
    )


_DURATION_LEVELS = (
    (10.0, logging.WARNING, "Workflow task exceeded 10 seconds"),
    (5.0, logging.INFO, "Workflow task exceeded 5 seconds"),
    (-1.0, logging.DEBUG, "Workflow task duration information"),
)
"""Seconds that a workflow task took longer than, and what is then logged."""
