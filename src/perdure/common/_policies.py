"""Options that a caller gives with a start: retries, what to do about ids in use, priority.

The numbers of the enums are the wire's. No conversion of user data lives here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import ClassVar

import perdure.api.common.v1


@dataclass
class RetryPolicy:
    """How failed workflows and activities are tried again."""

    initial_interval: timedelta = timedelta(seconds=1)
    """Wait before the first retry."""

    backoff_coefficient: float = 2.0
    """Each wait is the one before, times this."""

    maximum_interval: timedelta | None = None
    """Longest wait between tries; 100 times the initial interval when not given."""

    maximum_attempts: int = 0
    """How many tries at most, the first one included; 0 means no limit."""

    non_retryable_error_types: Sequence[str] | None = None
    """Names of error types after which nothing is tried again."""

    @staticmethod
    def from_proto(proto: perdure.api.common.v1.RetryPolicy) -> RetryPolicy:
        """Return the policy that a message of the wire describes."""
        return RetryPolicy(
            initial_interval=proto.initial_interval.ToTimedelta(),
            backoff_coefficient=proto.backoff_coefficient,
            maximum_interval=(
                proto.maximum_interval.ToTimedelta() if proto.HasField("maximum_interval") else None
            ),
            maximum_attempts=proto.maximum_attempts,
            # A list of our own: the message's container cannot be pickled.
            non_retryable_error_types=list(proto.non_retryable_error_types) or None,
        )

    def apply_to_proto(self, proto: perdure.api.common.v1.RetryPolicy) -> None:
        """Write this policy into a message of the wire.

        Raises:
            ValueError: The policy contradicts itself.
        """
        self._validate()
        proto.initial_interval.FromTimedelta(self.initial_interval)
        proto.backoff_coefficient = self.backoff_coefficient
        proto.maximum_interval.FromTimedelta(self.maximum_interval or self.initial_interval * 100)
        proto.maximum_attempts = self.maximum_attempts
        if self.non_retryable_error_types:
            proto.non_retryable_error_types.extend(self.non_retryable_error_types)

    def _validate(self) -> None:
        if self.maximum_attempts == 1:
            # Nothing will be retried, so the other values are never used.
            return
        if self.initial_interval < timedelta(0):
            raise ValueError("Initial interval cannot be negative")
        if self.backoff_coefficient < 1:
            raise ValueError("Backoff coefficient cannot be less than 1")
        if self.maximum_interval:
            if self.maximum_interval < timedelta(0):
                raise ValueError("Maximum interval cannot be negative")
            if self.maximum_interval < self.initial_interval:
                raise ValueError("Maximum interval cannot be less than initial interval")
        if self.maximum_attempts < 0:
            raise ValueError("Maximum attempts cannot be negative")


class WorkflowIDReusePolicy(IntEnum):
    """Whether a workflow id may be used again after its run has closed."""

    ALLOW_DUPLICATE = 1
    ALLOW_DUPLICATE_FAILED_ONLY = 2
    REJECT_DUPLICATE = 3
    TERMINATE_IF_RUNNING = 4


class WorkflowIDConflictPolicy(IntEnum):
    """What a start does when a workflow with the same id is running."""

    UNSPECIFIED = 0
    FAIL = 1
    USE_EXISTING = 2
    TERMINATE_EXISTING = 3


class ActivityIDReusePolicy(IntEnum):
    """Whether the id of a standalone activity may be used again after it has closed."""

    UNSPECIFIED = 0
    ALLOW_DUPLICATE = 1
    ALLOW_DUPLICATE_FAILED_ONLY = 2
    REJECT_DUPLICATE = 3


class ActivityIDConflictPolicy(IntEnum):
    """What a start does when a standalone activity with the same id is running."""

    UNSPECIFIED = 0
    FAIL = 1
    USE_EXISTING = 2


class QueryRejectCondition(IntEnum):
    """When a query is refused because of the state of its workflow."""

    NONE = 1
    NOT_OPEN = 2
    NOT_COMPLETED_CLEANLY = 3


class HeaderCodecBehavior(IntEnum):
    """Whether the payloads of headers pass through the payload codec."""

    NO_CODEC = 1
    """Headers are left as they are."""
    CODEC = 2
    """Headers are encoded and decoded everywhere."""
    WORKFLOW_ONLY_CODEC = 3
    """Headers are encoded and decoded only where a workflow receives or sends them."""


@dataclass(frozen=True)
class Priority:
    """Which of the tasks waiting in a queue goes first.

    Activities and child workflows take over, field by field, what the workflow that starts them has,
    unless given otherwise. First the priority key decides; among equal keys, fairness does.
    """

    priority_key: int | None = None
    """From 1 up; a smaller number goes earlier. The server's default is 3 of 5."""

    fairness_key: str | None = None
    """Tasks of different keys share the workers in proportion to their weights. At most 64 bytes."""

    fairness_weight: float | None = None
    """The share of this fairness key, between 0.001 and 1000; 1 when not given."""

    default: ClassVar[Priority]
    """The priority that says nothing."""

    @staticmethod
    def _from_proto(proto: perdure.api.common.v1.Priority) -> Priority:
        return Priority(
            priority_key=proto.priority_key or None,
            fairness_key=proto.fairness_key or None,
            fairness_weight=proto.fairness_weight or None,
        )

    def _to_proto(self) -> perdure.api.common.v1.Priority:
        return perdure.api.common.v1.Priority(
            priority_key=self.priority_key or 0,
            fairness_key=self.fairness_key or "",
            fairness_weight=self.fairness_weight or 0.0,
        )

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TypeError: The priority key is no integer.
            ValueError: The priority key is less than 1.
        """
        if self.priority_key is not None:
            if not isinstance(self.priority_key, int):
                raise TypeError(f"priority_key must be an integer, not {type(self.priority_key).__name__}")
            if self.priority_key < 1:
                raise ValueError(f"priority_key must be a positive integer, not {self.priority_key}")


Priority.default = Priority()
