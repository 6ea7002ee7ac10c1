"""The outside world of the example: one file that records every attempt and every effect of an activity.

It stands in for a payment gateway and a mail service, which recognise a repeated idempotency key. Processes are
killed while they use it, so each record is one line, written under a lock and synced before anyone believes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ATTEMPT: Final = "attempt"
EFFECT: Final = "effect"


@dataclass(frozen=True)
class Record:
    """One line: an attempt that began, or an effect (a charge, a message) that happened."""

    kind: str
    key: str
    attempt: int
    worker_pid: int
    at_s: float


class Ledger:
    """Append-only records in one file, shared by all workers on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin_attempt(self, key: str, attempt: int) -> None:
        """Record that attempt number `attempt` at the step `key` began."""
        with self._locked() as descriptor:
            self._append(descriptor, ATTEMPT, key, attempt)

    def apply_once(self, key: str, attempt: int) -> bool:
        """Make the effect of `key` happen unless it already did; return whether it happened now."""
        with self._locked() as descriptor:
            if any(record.kind == EFFECT and record.key == key for record in self.records()):
                return False
            self._append(descriptor, EFFECT, key, attempt)
            return True

    def records(self) -> list[Record]:
        """All records so far, oldest first."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [Record(**json.loads(line)) for line in lines]

    def count(self, kind: str, key: str) -> int:
        """How many records of this kind the step `key` has."""
        return sum(1 for record in self.records() if record.kind == kind and record.key == key)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _append(self, descriptor: int, kind: str, key: str, attempt: int) -> None:
        record = Record(kind, key, attempt, os.getpid(), time.time())
        os.write(descriptor, (json.dumps(asdict(record)) + "\n").encode())
        os.fsync(descriptor)
