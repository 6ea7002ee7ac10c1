"""The cache of runs in memory: who leaves it, and what that costs when it is full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perdure.core.run.records import RunKey
from perdure.core.run.state import RunHeader, RunState
from perdure.server.engine.runs import RunCache, RunSlot

CAPACITY = 100


def key(number: int) -> RunKey:
    """The key of a run."""
    return RunKey("n", f"w{number}", "r")


def pin(cache: RunCache, number: int) -> RunSlot:
    """Pins a run and loads it."""
    slot = cache.pin(key(number))
    slot.state = RunState(slot.key, 0, RunHeader())
    return slot


def use(cache: RunCache, number: int) -> None:
    """Pins a run, loads it and lets it go."""
    cache.unpin(pin(cache, number))


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
    pinned = [pin(cache, number) for number in range(CAPACITY // 2)]
    for number in range(CAPACITY, 10 * CAPACITY):
        use(cache, number)
    assert len(cache) == CAPACITY
    assert all(cache.peek(slot.key) is slot for slot in pinned)
    more = [pin(cache, number) for number in range(-CAPACITY, 0)]
    assert len(cache) >= len(more) + len(pinned)  # all in use: more than its capacity
    for slot in (*pinned, *more):
        cache.unpin(slot)
    use(cache, -1)
    assert len(cache) <= CAPACITY


class CountingSlots(dict[RunKey, Any]):
    """Counts the keys that somebody looks at."""

    looked_at = 0

    def __iter__(self) -> Iterator[RunKey]:
        """Counts as it goes."""
        for item in super().__iter__():
            self.looked_at += 1
            yield item

    def items(self) -> Any:
        """The same for pairs."""
        return ((item, self[item]) for item in self)

    def __delitem__(self, key: RunKey) -> None:
        """One that leaves was looked at."""
        self.looked_at += 1
        super().__delitem__(key)


def test_a_full_cache_does_not_go_through_all_its_runs_for_each_that_comes() -> None:
    """With 4,000 runs in memory that was two thirds of what starting another one cost."""
    cache = RunCache(CAPACITY)
    slots = cache._slots = CountingSlots()
    for number in range(3 * CAPACITY):
        use(cache, number)
    assert len(cache) == CAPACITY
    assert slots.looked_at == 2 * CAPACITY


def test_more_runs_in_use_than_there_is_room_for_cost_the_others_nothing() -> None:
    """Whoever waits for a run's end keeps it in memory for hours; no use of another looks at it."""
    cache = RunCache(CAPACITY)
    slots = cache._slots = CountingSlots()
    pinned = [pin(cache, number) for number in range(10 * CAPACITY)]
    for number in range(10 * CAPACITY, 20 * CAPACITY):
        use(cache, number)
    assert slots.looked_at == 10 * CAPACITY
    assert len(cache) == len(pinned)
    assert all(cache.peek(slot.key) is slot for slot in pinned)
    for slot in pinned:
        cache.unpin(slot)
    assert len(cache) == CAPACITY
    assert [slot.key for slot in cache.slots()] == [slot.key for slot in pinned[-CAPACITY:]]


def test_a_run_used_by_several_stays_until_the_last_of_them_ends() -> None:
    """And then it is the most recently used."""
    cache = RunCache(1)
    slot, again = pin(cache, 0), pin(cache, 0)
    assert slot is again
    cache.unpin(slot)
    use(cache, 1)
    assert cache.peek(key(0)) is slot
    assert cache.peek(key(1)) is None
    cache.unpin(again)
    assert cache.peek(key(0)) is slot


def test_what_holds_nothing_takes_nobodys_place() -> None:
    """Retention deletes runs by the thousand; those that go on stay in memory."""
    cache = RunCache(CAPACITY)
    use(cache, 0)
    for number in range(1, 3 * CAPACITY):
        slot = pin(cache, number)
        cache.drop(slot.key)
        cache.unpin(slot)
        cache.unpin(cache.pin(slot.key))
    assert [slot.key for slot in cache.slots()] == [key(0)]
