"""Rows of schedules kept in memory: taken once, bounded, and never those of a commit whose outcome is unknown."""

from __future__ import annotations

import pytest

from perdure.server.engine import kept_schedules
from perdure.server.engine.kept_schedules import KeptSchedules
from perdure.store.protocol import ScheduleKey, StoredSchedule


def row(name: str, size: int = 10) -> StoredSchedule:
    """A schedule's row with this many bytes of state."""
    return StoredSchedule(ScheduleKey("n", name), 1, None, b"", bytes(size))


def test_a_row_is_taken_once() -> None:
    """So whoever fails to put it back leaves the store to be asked."""
    kept = KeptSchedules()
    kept.keep(row("a"))
    assert kept.take(row("a").key) == row("a")
    assert kept.take(row("a").key) is None


def test_many_rows_and_large_ones_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_schedules, "CAPACITY", 2)
    kept = KeptSchedules()
    for name in ("a", "b"):
        kept.keep(row(name))
    kept.keep(row("large", kept_schedules.MAX_BYTES + 1))
    assert kept.take(row("large").key) is None
    first = kept.take(row("a").key)
    assert first is not None
    kept.keep(first)  # now "b" is the one that was worked on least recently
    kept.keep(row("c"))
    assert kept.take(row("b").key) is None
    assert kept.take(row("a").key) is not None
    assert kept.take(row("c").key) is not None
