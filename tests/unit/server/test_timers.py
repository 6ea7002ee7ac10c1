"""The timer service: what is noted while the store is being asked is newer than the store's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from perdure.core.run.records import RunKey
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
