"""Whether workflow code runs in this thread, and which run it is. Nothing else lives here: every guard reads it."""

from __future__ import annotations

import threading
from random import Random
from typing import NamedTuple, Protocol


class Permits(NamedTuple):
    """What a worker's restrictions let workflow code do. Every name ends with a dot and stands for all inside of it.

    Attributes:
        modules: may do what they like.
        calls: may be called by everybody, such as `datetime.date.today.`.
    """

    modules: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()


class GuardedRun(Protocol):
    """What guards ask of the running workflow."""

    @property
    def permits(self) -> Permits:
        """What the guards are not to refuse."""

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
