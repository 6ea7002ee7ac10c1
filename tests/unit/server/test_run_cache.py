"""The cache of runs in memory: who leaves it, and what that costs when it is full."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from perdure.core.run.records import RunKey
from perdure.server.engine.runs import LOOKED_AT, RunCache

CAPACITY = 100


def key(number: int) -> RunKey:
    """The key of a run."""
    return RunKey("n", f"w{number}", "r")


def use(cache: RunCache, number: int) -> None:
    """Pins a run and lets it go."""
    cache.unpin(cache.pin(key(number)))


def test_the_least_recently_used_leave() -> None:
    cache = RunCache(CAPACITY)
    for number in range(CAPACITY):
        use(cache, number)
    use(cache, 0)
    use(cache, CAPACITY)
    assert len(cache) == CAPACITY
    assert cache.peek(key(0)) is not None
    assert cache.peek(key(1)) is None


def test_runs_in_use_stay_and_the_others_leave_for_them() -> None:
    """Also when everything that was used longest ago is in use."""
    cache = RunCache(CAPACITY)
    pinned = [cache.pin(key(number)) for number in range(CAPACITY // 2)]
    for number in range(CAPACITY, 10 * CAPACITY):
        use(cache, number)
    assert len(cache) == CAPACITY
    assert all(cache.peek(slot.key) is slot for slot in pinned)
    more = [cache.pin(key(number)) for number in range(-CAPACITY, 0)]
    assert len(cache) >= len(more) + len(pinned)  # all in use: more than its capacity
    for slot in (*pinned, *more):
        cache.unpin(slot)
    use(cache, -1)
    assert len(cache) <= CAPACITY


class CountingSlots(OrderedDict[RunKey, Any]):
    """Counts the keys that somebody looks at in turn."""

    looked_at = 0

    def __iter__(self) -> Iterator[RunKey]:
        """Counts as it goes."""
        for item in super().__iter__():
            self.looked_at += 1
            yield item

    def items(self) -> Any:
        """The same for pairs."""
        return ((item, self[item]) for item in self)


def test_a_full_cache_does_not_go_through_all_its_runs_for_each_that_comes() -> None:
    """With 4,000 runs in memory that was two thirds of what starting another one cost."""
    cache = RunCache(CAPACITY)
    slots = cache._slots = CountingSlots()
    for number in range(3 * CAPACITY):
        use(cache, number)
    assert len(cache) == CAPACITY
    assert slots.looked_at <= 3 * CAPACITY


def test_more_runs_in_use_than_there_is_room_for_cost_the_others_little() -> None:
    """Whoever waits for a run's end keeps it in memory for hours; each use of another must not go through them all."""
    cache = RunCache(CAPACITY)
    slots = cache._slots = CountingSlots()
    pinned = [cache.pin(key(number)) for number in range(10 * CAPACITY)]
    for number in range(10 * CAPACITY, 20 * CAPACITY):
        use(cache, number)
    assert slots.looked_at <= 10 * CAPACITY * LOOKED_AT
    assert len(cache) <= len(pinned) * LOOKED_AT / (LOOKED_AT - 1) + LOOKED_AT
    assert all(cache.peek(slot.key) is slot for slot in pinned)
