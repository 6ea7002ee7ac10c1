"""Enums about standalone Nexus operations: ids in use, and the states a server reports."""

from __future__ import annotations

from enum import IntEnum


class NexusOperationIDReusePolicy(IntEnum):
    """Whether the id of a Nexus operation may be used again after it has closed."""

    UNSPECIFIED = 0
    ALLOW_DUPLICATE = 1
    ALLOW_DUPLICATE_FAILED_ONLY = 2
    REJECT_DUPLICATE = 3


class NexusOperationIDConflictPolicy(IntEnum):
    """What a start does when a Nexus operation with the same id is running."""

    UNSPECIFIED = 0
    FAIL = 1
    USE_EXISTING = 2


class NexusOperationExecutionStatus(IntEnum):
    """Status of a standalone Nexus operation."""

    UNSPECIFIED = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELED = 4
    TERMINATED = 5
    TIMED_OUT = 6


class PendingNexusOperationExecutionState(IntEnum):
    """What a running Nexus operation is doing."""

    UNSPECIFIED = 0
    SCHEDULED = 1
    BACKING_OFF = 2
    STARTED = 3
    BLOCKED = 4


class NexusOperationCancellationState(IntEnum):
    """How far the cancellation of a Nexus operation has come."""

    UNSPECIFIED = 0
    """Not known."""

    SCHEDULED = 1
    """Waiting to be sent, or being sent."""

    BACKING_OFF = 2
    """A try failed; the next one is waiting for its time."""

    SUCCEEDED = 3
    """Delivered."""

    FAILED = 4
    """Failed in a way that is not tried again."""

    TIMED_OUT = 5
    """The operation's schedule-to-close timeout passed first."""

    BLOCKED = 6
    """Held back, for example by a circuit breaker."""
