"""The timer service: what is noted while the store is being asked is newer than the store's answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from perdure.core.errors import UnavailableError
from perdure.core.run.records import RunKey
from perdure.server.engine import timers as timers_module
from perdure.server.engine.timers import Timers
from perdure.server.runtime import SystemRuntime
from perdure.store.protocol import Wakeup
from tests.unit.server.support import run

RUN = RunKey("n", "w", "r")
SECOND_NS = 1_000_000_000


class _SlowStore:
    """Answers with what it knew when it was asked, and says so before it answers."""

    def __init__(self) -> None:
        self.rows: list[Wakeup] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """The rows of a moment ago."""
        rows = list(self.rows)
        self.asked.set()
        await self.may_answer.wait()
        return rows


@pytest.mark.parametrize("was_known", [True, False])
def test_a_deadline_noted_while_the_store_is_asked_is_kept(was_known: bool) -> None:
    """Whether the store's answer holds an older deadline of the run or nothing of it at all."""

    async def scenario() -> None:
        store, runtime, fired = _SlowStore(), SystemRuntime(), asyncio.Event()

        async def fire(due: RunKey) -> None:
            fired.set()
            timers.note(due, None)

        timers = Timers(store, runtime, fire)
        now_ns = runtime.now_ns()
        store.rows = [Wakeup(now_ns + 60 * SECOND_NS, RUN)] if was_known else []
        starting = asyncio.create_task(timers.start())
        await store.asked.wait()
        timers.note(RUN, now_ns + SECOND_NS // 100)
        store.may_answer.set()
        await starting
        async with asyncio.timeout(5):
            await fired.wait()
        await timers.stop()

    run(scenario())


def test_a_run_deleted_while_the_store_is_asked_is_not_woken_any_more() -> None:
    async def scenario() -> None:
        store, runtime = _SlowStore(), SystemRuntime()

        async def fire(due: RunKey) -> None:
            raise AssertionError("there is no such run")

        timers = Timers(store, runtime, fire)
        store.rows = [Wakeup(runtime.now_ns() + 60 * SECOND_NS, RUN)]
        starting = asyncio.create_task(timers.start())
        await store.asked.wait()
        timers.note(RUN, None)
        store.may_answer.set()
        await starting
        assert not timers.holds(RUN)
        await timers.stop()

    run(scenario())


class _CountingStore:
    """Holds nothing, and says when it was asked twice."""

    def __init__(self) -> None:
        self.questions = 0
        self.asked_twice = asyncio.Event()

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """No rows, once."""
        self.questions += 1
        if self.questions == 2:
            self.asked_twice.set()
            await asyncio.Event().wait()
        return []


class _TickingRuntime(SystemRuntime):
    """Its clock moves by a nanosecond with every look at it, and by nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._now_ns = 1_800_000_000 * SECOND_NS

    def now_ns(self) -> int:
        """The next nanosecond."""
        self._now_ns += 1
        return self._now_ns


@pytest.mark.parametrize("horizon_ns", range(6))
def test_a_horizon_that_passes_between_two_looks_at_the_clock_is_noticed_at_once(
    monkeypatch: pytest.MonkeyPatch, horizon_ns: int
) -> None:
    """And not with the next sweep: whatever falls due until then would be late."""
    monkeypatch.setattr(timers_module, "HORIZON_NS", horizon_ns)

    async def scenario() -> None:
        store = _CountingStore()

        async def fire(due: RunKey) -> None:
            raise AssertionError("nothing is due")

        timers = Timers(store, _TickingRuntime(), fire)
        await timers.start()
        async with asyncio.timeout(5):
            await store.asked_twice.wait()
        await timers.stop()

    run(scenario())


class _Backlog:
    """Many runs that are due, each until it was woken."""

    def __init__(self, count: int) -> None:
        self.left = {Wakeup(number + 1, RunKey("n", f"w{number}", "r")): None for number in range(count)}
        self.rows_read = 0

    async def due_wakeups(self, until_ns: int, after: Wakeup | None, limit: int) -> Sequence[Wakeup]:
        """A page in the order of their deadlines."""
        await asyncio.sleep(0)
        first = after.wakeup_ns if after is not None else 0
        rows = [wakeup for wakeup in self.left if wakeup.wakeup_ns > first][:limit]
        self.rows_read += len(rows)
        return rows


def test_a_great_backlog_is_read_once_and_not_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long outage more may be due than fits into memory. What waits here is not read again with each page."""
    monkeypatch.setattr(timers_module, "PAGE", 50)
    most_held = 0

    async def scenario() -> None:
        nonlocal most_held
        store, done = _Backlog(1_500), asyncio.Event()

        async def fire(due: RunKey) -> None:
            nonlocal most_held
            most_held = max(
                most_held, sum(timers.holds(wakeup.run) for wakeup in store.left) + len(timers.working)
            )
            await asyncio.sleep(0)
            del store.left[next(wakeup for wakeup in store.left if wakeup.run == due)]
            timers.note(due, None)
            if not store.left:
                done.set()

        timers = Timers(store, SystemRuntime(), fire, concurrent=4)
        await timers.start()
        async with asyncio.timeout(30):
            await done.wait()
        await timers.stop()
        assert store.rows_read < 2 * 1_500

    run(scenario())
    assert most_held <= 60


@pytest.mark.parametrize("fails", [False, True])
def test_what_stays_due_is_neither_asked_for_without_end_nor_in_the_way_of_others(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """A page full of runs that wait for others, as for a handler that does not answer, or cannot be written now."""
    monkeypatch.setattr(timers_module, "PAGE", 3)
    monkeypatch.setattr(timers_module, "RETRY_S", 0.2)
    looks: Counter[RunKey] = Counter()
    looked_s: list[float] = []
    wanted = 2 if fails else 1

    async def scenario() -> None:
        store, done = _Backlog(5), asyncio.Event()
        *stuck, last = [wakeup.run for wakeup in store.left]

        async def fire(due: RunKey) -> None:
            looks[due] += 1
            if due == stuck[0]:
                looked_s.append(asyncio.get_running_loop().time())
            if due == last:
                store.left.popitem()
                timers.note(due, None)
            if looks[last] and all(looks[run] == wanted for run in stuck):
                done.set()
            if due != last and fails:
                raise UnavailableError("not now")

        timers = Timers(store, SystemRuntime(), fire)
        await timers.start()
        async with asyncio.timeout(5):
            await done.wait()
        await timers.stop()
        assert store.rows_read < 30

    run(scenario())
    assert looks.total() == 1 + 4 * wanted
    assert looked_s[-1] - looked_s[0] > (0.15 if fails else -1)
