"""The clock and the source of ids. Nothing else in the server asks for time or randomness: a simulator replaces both.

Waiting is done through the running event loop, which the simulator replaces too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import (  # bound here: the guards of workflow code put slower ones into the module
    monotonic_ns,
    time_ns,
)
from typing import Final, Protocol

from perdure.core.run.ids import uuid4, uuid7

CATCHING_UP: Final = 10
"""A clock that is ahead of a wall clock that was set back goes slower by one part in so many."""
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
    """The real clock and real randomness.

    Args:
        wall_ns: the wall clock, which may be set.
        steady_ns: a clock that nobody sets.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = time_ns, steady_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._steady_ns = steady_ns
        self._last_ns = 0
        self._ahead_since = (0, steady_ns())
        """The time that was given out last when the wall clock was set back, and the steady clock's then."""

    def now_ns(self) -> int:
        """The wall clock; when it is set back, time goes on, a little slower, until it has caught up.

        It must not stand still: every timer and timeout that begins would wait for as long as the clock was set back.
        """
        now_ns = self._wall_ns()
        if now_ns < self._last_ns:
            now_ns = self._ahead_ns()
        self._last_ns = now_ns
        return now_ns

    def _ahead_ns(self) -> int:
        steady_ns = self._steady_ns()
        from_ns, began_ns = self._ahead_since
        passed_ns = steady_ns - began_ns
        now_ns = from_ns + passed_ns - passed_ns // CATCHING_UP
        if now_ns < self._last_ns:  # it was set back just now, or once more
            self._ahead_since = (self._last_ns, steady_ns)
            return self._last_ns
        return now_ns

    def new_run_id(self) -> str:
        """A UUID of version 7 (RFC 9562)."""
        return uuid7(self.now_ns() // 1_000_000, int.from_bytes(_random()[:10], "big"))

    def new_id(self) -> str:
        """A UUID of version 4."""
        return uuid4(_random())


__all__ = ["Runtime", "SystemRuntime", "uuid7"]
