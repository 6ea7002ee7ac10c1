"""Whether workflow code runs in this thread, and which run it is. Nothing else lives here: every guard reads it."""

from __future__ import annotations

import threading
from random import Random
from typing import Protocol


class GuardedRun(Protocol):
    """What guards ask of the running workflow."""

    @property
    def passed_through(self) -> tuple[str, ...]:
        """Modules that may do what they like, each with a dot at its end; those inside of them, too."""

    def time_ns(self) -> int:
        """Workflow time, nanoseconds since the epoch."""

    def random(self) -> Random:
        """The run's own randomness."""


class WatchedThread(Protocol):
    """What one thread is at, as the watch over workflow code sees it."""

    job: int
    """Number of the watched call under way; 0 while there is none."""


class Armed(threading.local):
    """Per thread: the workflow whose code runs now, None outside workflow code and where guards are lifted."""

    run: GuardedRun | None = None
    watched: WatchedThread | None = None
    """The record of this thread; None before it first ran workflow code."""


armed = Armed()
