"""Numbers of the behaviour flags that histories record for workflow code; official Python workers know two."""

from __future__ import annotations

from enum import IntEnum


class LogicFlag(IntEnum):
    """A change of the executor's behaviour that a replay must know of."""

    RAISE_ON_CANCELLING_COMPLETED_ACTIVITY = 1
    """A cancellation that arrives together with the activity's result is raised, not lost."""
    SINGLE_BATCH = 2
    """All jobs of an activation are applied before any code runs."""
    ASYNCIO_OF_3_11 = 311
    ASYNCIO_OF_3_12 = 312
    """Whose `wait_for` and `gather` the run goes by (`generations.py`). The official workers number theirs from 1."""
