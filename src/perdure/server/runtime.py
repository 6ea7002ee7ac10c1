"""The clock and the source of ids. Nothing else in the server asks for time or randomness: a simulator replaces both.

Waiting is done through the running event loop, which the simulator replaces too.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Protocol

from perdure.core.run.ids import uuid7


class Runtime(Protocol):
    """What the engine needs of the outside world besides its store."""

    def now_ns(self) -> int:
        """The time, nanoseconds since the epoch; never goes backwards within a process."""

    def new_run_id(self) -> str:
        """A new run id: a UUID of version 7, so that runs made together lie together in the store."""

    def new_id(self) -> str:
        """A new random UUID."""


class SystemRuntime:
    """The real clock and real randomness."""

    def __init__(self) -> None:
        self._last_ns = 0

    def now_ns(self) -> int:
        """The wall clock; when it is set back, time stands still until it has caught up."""
        now = time.time_ns()
        self._last_ns = max(self._last_ns, now)
        return self._last_ns

    def new_run_id(self) -> str:
        """A UUID of version 7 (RFC 9562)."""
        return uuid7(self.now_ns() // 1_000_000, int.from_bytes(os.urandom(10), "big"))

    def new_id(self) -> str:
        """A UUID of version 4."""
        return str(uuid.uuid4())


__all__ = ["Runtime", "SystemRuntime", "uuid7"]
