"""What a run did, line by line: a hash that two runs of a seed must share, and the last lines for a person."""

from __future__ import annotations

import hashlib
from collections import Counter, deque

KEPT_LINES = 400


class Trace:
    """The trace of one run.

    Args:
        keep_all: keep every line, not only the last ones.
    """

    def __init__(self, *, keep_all: bool = False) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.lines: deque[str] = deque(maxlen=None if keep_all else KEPT_LINES)
        self.reached: Counter[str] = Counter()
        """How often each rare situation occurred, by name."""

    def add(self, now_ns: int, node: str, text: str) -> None:
        """Adds a line."""
        line = f"{now_ns / 1e9:.6f} {node}: {text}"
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        self.lines.append(line)

    def reach(self, name: str) -> None:
        """Counts a rare situation."""
        self.reached[name] += 1

    def digest(self) -> str:
        """The hash of everything so far."""
        return self._hash.hexdigest()
