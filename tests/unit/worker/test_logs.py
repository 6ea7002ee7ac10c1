"""What the worker says of failures: one line, what comes next, and tracebacks with the user's frames first."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.api.workflowservice.v1 import PollActivityTaskQueueResponse
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
    assert line.startswith("ApplicationError (Mine): Mine: first second, caused by ValueError: why why")
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
