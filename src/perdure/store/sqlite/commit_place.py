"""Decides which thread runs the next COMMIT (decision record 42). Knows times and sizes, nothing of databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

QUICK_COMMIT_S: Final = 0.000_3
"""About what the hand-over to the commit thread and back costs; a COMMIT that takes longer is slow."""

PAUSE_PER_SLOW_SECOND: Final = 100.0
"""Seconds that the thread commits for each second of slow ones on the loop's: they take 1 % of its time."""

CREDIT_S: Final = 1.0
"""How much of the pause counts as over beforehand if nothing was slow lately."""

MAX_SLOW_S: Final = 1.0
"""What one commit counts for at most, so that a disk that once hung is tried again."""

MAX_BYTES: Final = 256 << 10
"""Groups of more take longer to write than to hand over."""

MAX_IN_A_ROW: Final = 31
"""Groups on the loop's thread between two on the commit thread, where SQLite may checkpoint."""


class CommitPlace:
    """Tells whether a COMMIT may run on the loop's thread.

    Args:
        clock: monotonic, seconds.
    """

    __slots__ = ("_clock", "_in_a_row", "_thread_until_s")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._thread_until_s = clock()
        self._in_a_row = 0

    def is_loop(self, size_bytes: int) -> bool:
        """Whether the next group may be committed on the loop's thread.

        Args:
            size_bytes: about how much it writes.
        """
        if self._in_a_row >= MAX_IN_A_ROW or size_bytes > MAX_BYTES or self._clock() < self._thread_until_s:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        return True

    def time(self, commit: Callable[[], object]) -> None:
        """Commits on the loop's thread, and learns from how long that took, whether or not it raises."""
        began_s = self._clock()
        try:
            commit()
        finally:
            now_s = self._clock()
            took_s = now_s - began_s
            if took_s > QUICK_COMMIT_S:
                paid_s = max(self._thread_until_s, now_s - CREDIT_S)
                self._thread_until_s = paid_s + PAUSE_PER_SLOW_SECOND * min(took_s, MAX_SLOW_S)
