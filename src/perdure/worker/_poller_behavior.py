"""How many polls a worker keeps open at once: the public options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class PollerBehaviorSimpleMaximum:
    """Keep this many polls open while slots are free.

    Attributes:
        maximum: The number of polls; for workflow tasks at least 2 if the worker caches workflows.
    """

    maximum: int = 5


@dataclass(frozen=True)
class PollerBehaviorAutoscaling:
    """Open and close polls as the server suggests, while slots are free.

    Attributes:
        minimum: At least this many polls.
        maximum: At most this many polls.
        initial: This many at first.
    """

    minimum: int = 1
    maximum: int = 100
    initial: int = 5


PollerBehavior: TypeAlias = PollerBehaviorSimpleMaximum | PollerBehaviorAutoscaling
"""How many polls of a kind a worker has open: at most so many, or as many as the server advises."""

DEFAULT_POLLER_BEHAVIOR = PollerBehaviorSimpleMaximum(maximum=5)
"""What a worker has unless it is told something else. This very object leaves the number of polls to the worker, which
opens more while tasks come quickly; an equal one that a user makes means five."""
