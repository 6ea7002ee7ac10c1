"""Whether workflow code runs in this thread, and which run it is. Nothing else lives here: every guard reads it."""

from __future__ import annotations

import threading
from random import Random
from typing import Protocol


class GuardedRun(Protocol):
    """What guards ask of the running workflow."""

    def time_ns(self) -> int:
        """Workflow time, nanoseconds since the epoch."""

    def random(self) -> Random:
        """The run's own randomness."""


class Armed(threading.local):
    """Per thread: the workflow whose code runs now, None outside workflow code and where guards are lifted."""

    run: GuardedRun | None = None


armed = Armed()
