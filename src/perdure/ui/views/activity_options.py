"""Options of an activity as fields of a form: shown, and read back as what is to be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from perdure.api.activity.v1 import ActivityOptions
from perdure.api.common.v1 import RetryPolicy
from perdure.ui.forms import Field, FieldError, Values, duration_text

JITTER: Final = Field(
    "jitter", "Spread over", "duration", "The next attempt begins at random within this time, such as 30s."
)
TIMEOUTS: Final = (
    ("schedule_to_close_timeout", "Schedule to close"),
    ("schedule_to_start_timeout", "Schedule to start"),
    ("start_to_close_timeout", "Start to close"),
    ("heartbeat_timeout", "Heartbeat"),
)
"""Fields of the protocol, and words."""
_RETRY: Final = (("initial_interval", "First retry after"), ("maximum_interval", "Longest wait"))
FIELDS: Final = (
    *(Field(name, label, "duration") for name, label in (*TIMEOUTS, *_RETRY)),
    Field("maximum_attempts", "Most attempts", "number", "0 for no limit"),
    Field("task_queue", "Task queue"),
)


def shown(timeouts: Any, retry_policy: RetryPolicy, task_queue: str) -> Mapping[str, str]:
    """What the fields hold.

    Args:
        timeouts: a message with the fields of `TIMEOUTS`.
        retry_policy: the activity's.
        task_queue: the name of the one it waits in.
    """
    return {
        **{name: duration_text(getattr(timeouts, name)) for name, _ in TIMEOUTS},
        **{name: duration_text(getattr(retry_policy, name)) for name, _ in _RETRY},
        "task_queue": task_queue,
        "maximum_attempts": str(retry_policy.maximum_attempts),
    }


def read(values: Values) -> tuple[ActivityOptions, list[str]]:
    """The options that were entered, and the paths of the update mask that names them.

    Raises:
        FieldError: a field is wrong, or all are empty.
    """
    options = ActivityOptions()
    paths: list[str] = []
    for name, _ in TIMEOUTS:
        _set(values, name, getattr(options, name), name, paths)
    for name, _ in _RETRY:
        _set(values, name, getattr(options.retry_policy, name), f"retry_policy.{name}", paths)
    if values.text("maximum_attempts"):
        options.retry_policy.MergeFrom(RetryPolicy(maximum_attempts=values.whole("maximum_attempts")))
        paths.append("retry_policy.maximum_attempts")
    if values.text("task_queue"):
        options.task_queue.name = values.text("task_queue")
        paths.append("task_queue.name")
    if not paths:
        raise FieldError("", "Nothing was entered.")
    return options, paths


def _set(values: Values, name: str, field: Any, path: str, paths: list[str]) -> None:
    duration = values.duration(name)
    if duration is not None:
        field.CopyFrom(duration)
        paths.append(path)
