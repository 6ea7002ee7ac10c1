"""What the worker says of failures: one line, what comes next, and tracebacks with the user's frames first."""

from __future__ import annotations

import json
import logging
import re
from bdb import BdbQuit
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.api.workflowservice.v1 import PollActivityTaskQueueResponse, PollWorkflowTaskQueueResponse
from perdure.converter._extstore import StorageOperationMetrics
from perdure.exceptions import ApplicationError
from perdure.worker import _logs
from perdure.worker._activity_registry import ActivityRegistry


def _attempt(number: int, **policy: Any) -> Any:
    start = PollActivityTaskQueueResponse(attempt=number)
    start.retry_policy.initial_interval.FromTimedelta(timedelta(seconds=2))
    start.retry_policy.backoff_coefficient = 3
    start.retry_policy.maximum_interval.FromTimedelta(timedelta(seconds=100))
    for name, value in policy.items():
        if isinstance(value, list):
            getattr(start.retry_policy, name).extend(value)
        else:
            setattr(start.retry_policy, name, value)
    return SimpleNamespace(start=start)


@pytest.mark.parametrize(
    ("attempt", "error", "expected"),
    [
        (_attempt(1), ValueError(), "next attempt in 2 s"),
        (_attempt(3), ValueError(), "next attempt in 18 s"),
        (_attempt(500), ValueError(), "next attempt in 100 s"),
        (_attempt(500, backoff_coefficient=1e300), ValueError(), "next attempt in 100 s"),
        (_attempt(1), ApplicationError("", next_retry_delay=timedelta(seconds=7)), "next attempt in 7 s"),
        (_attempt(4, maximum_attempts=4), ValueError(), "not retried: the last of 4 attempts"),
        (_attempt(1), ApplicationError("", non_retryable=True), "not retried: the error says so"),
        (
            _attempt(1, non_retryable_error_types=["ValueError"]),
            ValueError(),
            "not retried: ValueError is not retryable",
        ),
        (
            _attempt(1, non_retryable_error_types=["Mine"]),
            ApplicationError("", type="Mine"),
            "not retried: Mine is not retryable",
        ),
    ],
)
def test_the_line_says_what_comes_next(attempt: Any, error: Exception, expected: str) -> None:
    assert _logs.next_attempt(attempt, error) == expected


def test_an_error_is_one_bounded_line_with_its_causes() -> None:
    error = ApplicationError("first\nsecond", type="Mine")
    error.__cause__ = ValueError("why " * 500)
    line = _logs.one_line(error)
    assert "\n" not in line
    assert line.startswith("Mine: first second, caused by ValueError: why why")
    assert len(line) == 500


def _raises(number: int) -> None:
    raise ValueError(number)


def test_a_traceback_begins_with_the_users_frames_and_ends_with_the_workers() -> None:
    try:
        ActivityRegistry([len], None, None)
    except TypeError as error:
        text = _logs.user_traceback(error)
    own = text.index("called by the worker at:")
    assert text.index(__file__) < own
    assert text.index("_activity_registry.py") > own


@pytest.mark.parametrize(
    ("raises", "expected"),
    [
        (lambda: json.dumps(object()), rf"TypeError: .* \(at {re.escape(__file__)}:\d+ in <lambda>\)$"),
        (lambda: _raises(3), rf"ValueError: 3 \(at {re.escape(__file__)}:\d+ in _raises\)"),
        (
            lambda: ActivityRegistry([len], None, None),
            rf"TypeError: .* \(at {re.escape(__file__)}:\d+ in <lambda>\)$",
        ),
    ],
)
def test_a_failed_workflow_task_says_where_the_users_code_stood(
    raises: Callable[[], object], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without debug logs, too: what called the SDK, and not where in the SDK the error comes from."""
    with pytest.raises((ValueError, TypeError)) as caught:
        raises()
    _logs.workflow_task_failed("Order", "order-1", "run", 1, "", caught.value)
    assert re.search(expected, caplog.messages[0]), caplog.messages


def test_who_raises_an_ordinary_error_reads_once_how_to_fail_the_workflow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Newcomers raise one and wonder why the workflow goes on; what the SDK or a library raised was not meant so."""
    with pytest.raises(ValueError, match="3") as own:
        _raises(3)
    with pytest.raises(TypeError) as of_library:
        json.dumps(object())
    for error, attempt in ((own.value, 1), (own.value, 2), (of_library.value, 1)):
        _logs.workflow_task_failed("Order", "order-1", "run", attempt, "", error)
    assert ["raise ApplicationError" in line for line in caplog.messages] == [True, False, False]


def test_who_quits_a_debugger_reads_why_the_breakpoint_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    """pdb's `q` raises BdbQuit, of which newcomers know neither the name nor what follows."""
    _logs.workflow_task_failed("Order", "order-1", "run", 1, "", BdbQuit())
    assert "debug_mode=True" in caplog.messages[1]


def test_causes_follow() -> None:
    try:
        try:
            _raises(3)
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        text = _logs.user_traceback(error)
    assert "RuntimeError: outer" in text
    assert text.index("caused by: ") < text.index("in _raises")


@pytest.mark.parametrize(
    ("duration_s", "level", "text"),
    [
        (0.001, logging.DEBUG, "duration information"),
        (5.5, logging.INFO, "exceeded 5 seconds"),
        (11.0, logging.WARNING, "exceeded 10 seconds"),
    ],
)
def test_a_slow_workflow_task_is_seen_without_debug_logs(
    caplog: pytest.LogCaptureFixture, duration_s: float, level: int, text: str
) -> None:
    task = PollWorkflowTaskQueueResponse(started_event_id=3, attempt=2)
    task.workflow_execution.run_id = "run"
    with caplog.at_level(logging.DEBUG, "perdure.worker"):
        _logs.workflow_task_done(task, duration_s, None)
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage().startswith(f"[TMPRL1104] run:4:2 Workflow task {text} (")
    assert vars(record)["workflow_task_duration"] == timedelta(seconds=duration_s)
    assert "payload_download_count" not in vars(record)


def test_the_line_of_a_workflow_task_counts_what_external_storage_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    uploads = StorageOperationMetrics()
    uploads.record_batch(2, 300, 1.0, 1.5, {"files"})
    payloads: Any = SimpleNamespace(downloads=StorageOperationMetrics(), uploads=uploads)
    with caplog.at_level(logging.DEBUG, "perdure.worker"):
        _logs.workflow_task_done(PollWorkflowTaskQueueResponse(), 0.1, payloads)
    fields = vars(caplog.records[0])
    assert (fields["payload_upload_count"], fields["payload_upload_size"]) == (2, 300)
    assert fields["payload_upload_duration"] == timedelta(seconds=0.5)
    assert fields["payload_upload_drivers"] == ["files"]
    assert "payload_download_count" not in fields
