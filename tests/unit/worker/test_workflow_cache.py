"""The sticky cache: which runs leave when there are too many."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from perdure.worker._workflow_cache import CachedRun, RunCache

_SOMETHING: Any = SimpleNamespace()


def _cache(maximum: int, *names: str) -> tuple[RunCache, list[CachedRun]]:
    cache, runs = RunCache(maximum), [CachedRun("w", name, "W") for name in names]
    for run in runs:
        cache.put(run)
    return cache, runs


def test_runs_leave_that_were_used_longest_ago() -> None:
    cache, (first, second, third) = _cache(1, "a", "b", "c")
    cache.get(first.run_id)
    assert cache.overdue() == [second, third]
    assert list(cache) == [first]
    assert cache.overdue() == []


def test_no_run_leaves_that_a_task_uses_or_waits_for() -> None:
    """A task that waits for the lock would find that it waited for nothing."""
    cache, (used, idle) = _cache(0, "a", "b")
    used.users = 1
    assert cache.overdue() == [idle]


def test_no_run_leaves_while_a_local_activity_of_it_runs() -> None:
    cache, (busy, idle) = _cache(0, "a", "b")
    busy.locals.tasks[1] = _SOMETHING
    assert cache.overdue() == [idle]


def test_runs_with_results_that_no_task_has_reported_leave_last() -> None:
    """Without them their local activities run again."""
    cache, (has_results, idle) = _cache(1, "a", "b")
    has_results.locals.finished.append(_SOMETHING)
    assert cache.overdue() == [idle]
    assert list(cache) == [has_results]
