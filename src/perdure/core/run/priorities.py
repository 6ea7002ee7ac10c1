"""The priority of tasks: level, fairness key and weight, from what a task and its workflow were given."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from perdure.api.common.v1 import Priority
from perdure.core.errors import InvalidArgumentError

LAST_LEVEL: Final = 5
"""Keys above are of this level."""
FAIRNESS_KEY_BYTES: Final = 64


class TaskPriority(NamedTuple):
    """What decides when a waiting task's turn is."""

    level: int = 0
    """1 (most urgent) to 5; 0 means the default, 3."""
    fairness_key: str = ""
    fairness_weight: float = 0.0
    """0: not given."""


DEFAULT: Final = TaskPriority()


def check(priority: Priority, label: str = "") -> None:
    """Checks the priority that a request or a command gives; `label` begins the message.

    Raises:
        InvalidArgumentError: a field is out of range.
    """
    if priority.priority_key < 0:
        raise InvalidArgumentError(f"{label}priority key can't be negative")
    if len(priority.fairness_key.encode()) > FAIRNESS_KEY_BYTES:
        raise InvalidArgumentError(f"{label}fairness key length exceeds limit")
    if not priority.fairness_weight >= 0:  # nor what is no number
        raise InvalidArgumentError(f"{label}must be greater than zero")


def task_priority(own: bytes, inherited: bytes = b"") -> TaskPriority:
    """The priority of a task.

    Args:
        own: its serialised temporal.api.common.v1.Priority; empty if it has none.
        inherited: its workflow's, for each field that it does not give itself.
    """
    return _merged(own, inherited) if own or inherited else DEFAULT


@lru_cache(1024)
def _merged(own: bytes, inherited: bytes) -> TaskPriority:
    merged = merged_priority(own, inherited)
    return TaskPriority(
        min(max(merged.priority_key, 0), LAST_LEVEL), merged.fairness_key, merged.fairness_weight
    )


def merged_priority(own: bytes, inherited: bytes) -> Priority:
    """The same as a message, as workers are told it."""
    merged = Priority.FromString(inherited)
    merged.MergeFrom(Priority.FromString(own))
    return merged
