"""Numbers of the behaviour flags that histories record for workflow code; the official Python workers know the same."""

from __future__ import annotations

from enum import IntEnum


class LogicFlag(IntEnum):
    """A change of the executor's behaviour that a replay must know of."""

    RAISE_ON_CANCELLING_COMPLETED_ACTIVITY = 1
    """A cancellation that arrives together with the activity's result is raised, not lost."""
    SINGLE_BATCH = 2
    """All jobs of an activation are applied before any code runs."""
