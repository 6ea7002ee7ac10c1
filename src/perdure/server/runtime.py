"""The clock and the source of ids. Nothing else in the server asks for time or randomness: a simulator replaces both.

Waiting is done through the running event loop, which the simulator replaces too.
"""

from __future__ import annotations

import os
from time import time_ns  # bound here: the guards of workflow code put a slower one into the module
from typing import Final, Protocol

from perdure.core.run.ids import uuid4, uuid7

_PIECE_BYTES: Final = 16
_PIECES_AT_ONCE: Final = 64
_pieces: list[bytes] = []
"""Random bytes for the next ids. They are fetched for many at once: the system call lets another thread go first."""

# A forked process would make the same ids once more.
os.register_at_fork(after_in_child=_pieces.clear)


def _random() -> bytes:
    """Sixteen random bytes that nobody else gets; on any thread."""
    try:
        return _pieces.pop()
    except IndexError:
        fetched = os.urandom(_PIECE_BYTES * _PIECES_AT_ONCE)
        _pieces.extend(
            fetched[at : at + _PIECE_BYTES] for at in range(_PIECE_BYTES, len(fetched), _PIECE_BYTES)
        )
        return fetched[:_PIECE_BYTES]


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
        now = time_ns()
        if now > self._last_ns:
            self._last_ns = now
        return self._last_ns

    def new_run_id(self) -> str:
        """A UUID of version 7 (RFC 9562)."""
        return uuid7(self.now_ns() // 1_000_000, int.from_bytes(_random()[:10], "big"))

    def new_id(self) -> str:
        """A UUID of version 4."""
        return uuid4(_random())


__all__ = ["Runtime", "SystemRuntime", "uuid7"]
