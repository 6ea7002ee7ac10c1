"""A run's lock is released before the disk answers: what may go on meanwhile, what must wait, what a failure takes.

The store's commits are held until the test lets them go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.api.enums.v1 import EventType
from perdure.core.errors import NotFoundError, StoreUnavailableError, UnavailableError
from perdure.core.run.records import RunWrite
from perdure.server.config import ServerConfig
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from perdure.store.protocol import StoredSchedule
from tests.support.builders import continue_as_new
from tests.unit.server.local_client import LocalClient
from tests.unit.server.support import run

SIGNALED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")


class HeldStore(MemoryStore):
    """A store in memory whose commits wait for the test; they act, and are answered, in the order of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.is_holding = False
        self.held: deque[tuple[Sequence[RunWrite], asyncio.Future[None]]] = deque()

    def commit(  # type: ignore[override]  # also a Store's
        self, unit: Sequence[RunWrite], schedule: StoredSchedule | None = None
    ) -> Awaitable[None]:
        """Waits if commits are held."""
        if not self.is_holding:
            return super().commit(unit, schedule)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.held.append((unit, answer))
        return answer

    async def let_go(self, *, failing: int = 0) -> None:
        """Does what is held, but for the first `failing`, which the disk does not take; then holds nothing."""
        self.is_holding = False
        while self.held:
            unit, answer = self.held.popleft()
            if failing:
                failing -= 1
                answer.set_exception(StoreUnavailableError("no disk"))
                continue
            try:
                await super().commit(unit)
            except Exception as error:  # whatever it is belongs to the caller of the commit
                answer.set_exception(error)
            else:
                answer.set_result(None)


@asynccontextmanager
async def holding() -> AsyncIterator[tuple[LocalClient, HeldStore]]:
    """A server whose store holds its commits from now on, with one run `w` that waits for signals."""
    store = HeldStore()
    server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")
    await server.start()
    try:
        client = LocalClient(server)
        await client.start("w", "nobody")
        store.is_holding = True
        yield client, store
    finally:
        await store.let_go()
        await server.stop(1.0)


async def turns() -> None:
    """Lets everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


def started(*calls: Any) -> list[asyncio.Task[Any]]:
    """Calls under way."""
    return [asyncio.ensure_future(call) for call in calls]


async def signals(client: LocalClient) -> list[str]:
    """The names of the signals in the history of `w`."""
    return [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in await client.history("w")
        if event.event_type == SIGNALED
    ]


def test_transitions_of_one_run_wait_for_the_disk_together() -> None:
    """A hundred signals are all in the store's queue before the first is durable; none is answered before."""

    async def scenario() -> None:
        async with holding() as (client, store):
            calls = started(*(client.signal("w", f"s{n}") for n in range(100)))
            await turns()
            assert len(store.held) == 100
            assert not any(call.done() for call in calls)
            await store.let_go()
            await asyncio.gather(*calls)
            assert await signals(client) == [f"s{n}" for n in range(100)]

    run(scenario())


@pytest.mark.parametrize("read", ["describe", "history", "signal again", "terminated"])
def test_no_answer_before_what_it_tells_is_durable(read: str) -> None:
    """Reads, a request that was sent before, and a refusal wait for the commits that they rest on, or show none."""

    async def scenario() -> None:
        async with holding() as (client, store):
            before = len(await client.history("w"))
            first = (
                client.signal("w", "s", request_id="one") if read != "terminated" else client.terminate("w")
            )
            (change,) = started(first)
            await turns()
            ask: dict[str, Callable[[], Any]] = {
                "describe": lambda: client.describe("w"),
                "history": lambda: client.history("w"),
                "signal again": lambda: client.signal("w", "s", request_id="one"),
                "terminated": lambda: client.signal("w", "late"),
            }
            (asked,) = started(ask[read]())
            await turns()
            if asked.done():
                assert read == "history"
                assert len(asked.result()) == before
            await store.let_go()
            await change
            answer: Any = None
            if read == "describe":
                answer = await asked
                assert answer.workflow_execution_info.history_length > before
            elif read == "terminated":
                with pytest.raises(NotFoundError):
                    await asked
            else:
                await asked
            assert len(await signals(client)) == (0 if read == "terminated" else 1)

    run(scenario())


def test_what_is_behind_a_failed_write_fails_too() -> None:
    """The store refuses the rest of the chain. Its outcome is certain, so it is computed again on what is durable."""

    async def scenario() -> None:
        async with holding() as (client, store):
            calls = started(*(client.signal("w", f"s{n}", request_id=f"id{n}") for n in range(3)))
            await turns()
            assert len(store.held) == 3
            await store.let_go(failing=1)
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(answers[0], UnavailableError)
            # The others met another version than they expected: nothing was written, and they were computed again.
            assert not any(isinstance(answer, Exception) for answer in answers[1:])
            assert sorted(await signals(client)) == ["s1", "s2"]
            await client.signal("w", "s0", request_id="id0")
            assert sorted(await signals(client)) == ["s0", "s1", "s2"]

    run(scenario())


def test_a_refusal_that_rests_on_a_failed_write_is_taken_back() -> None:
    """A run was about to be terminated; the disk did not take that, so a signal that came meanwhile is recorded."""

    async def scenario() -> None:
        async with holding() as (client, store):
            ending, late = started(client.terminate("w"), client.signal("w", "late"))
            await turns()
            assert not late.done()
            await store.let_go(failing=1)
            with pytest.raises(UnavailableError):
                await ending
            await late
            assert await signals(client) == ["late"]

    run(scenario())


def test_a_store_that_takes_nothing_leaves_the_run_as_it_was() -> None:
    """A commit that is refused when it is handed in changes nothing in memory, and what is under way goes on."""

    async def scenario() -> None:
        async with holding() as (client, store):
            (first,) = started(client.signal("w", "first"))
            await turns()
            held_commit = store.commit

            def full(unit: Sequence[RunWrite], schedule: StoredSchedule | None = None) -> Awaitable[None]:
                raise StoreUnavailableError("too much is queued")

            store.commit = full  # type: ignore[method-assign]
            with pytest.raises(UnavailableError):
                await client.signal("w", "second")
            store.commit = held_commit  # type: ignore[method-assign]
            (third,) = started(client.signal("w", "third"))
            await turns()
            await store.let_go()
            await asyncio.gather(first, third)
            assert await signals(client) == ["first", "third"]

    run(scenario())


def test_a_start_that_waits_for_another_one_rests_when_the_caller_of_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for the disk, not for somebody's patience: otherwise it would look again without pause."""
    looks = 0
    wait = asyncio.wait

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal looks
        looks += 1
        return await wait(*args, **kwargs)

    async def scenario() -> None:
        async with holding() as (client, store):
            store.is_holding = False
            task = await client.poll_workflow_task("nobody")
            store.is_holding = True
            [completion] = started(client.complete_workflow_task(task.task_token, [continue_as_new()]))
            await turns()
            assert store.held
            completion.cancel()
            monkeypatch.setattr(asyncio, "wait", counted)
            existing = "WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING"
            [start] = started(client.start("w", "nobody", workflow_id_conflict_policy=existing))
            await turns()
            assert looks == 1
            await store.let_go()
            assert not (await start).started

    run(scenario())


def test_a_start_is_finished_whose_caller_went_while_the_disk_wrote() -> None:
    """Who asks for the same workflow then waits for that commit and finds its run."""

    async def scenario() -> None:
        async with holding() as (client, store):
            [gone] = started(client.start("other", "nobody"))
            await turns()
            assert len(store.held) == 1
            gone.cancel()
            existing = "WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING"
            [start] = started(client.start("other", "nobody", workflow_id_conflict_policy=existing))
            await turns()
            assert gone.cancelled()
            assert len(store.held) == 1
            assert not start.done()
            await store.let_go()
            assert not (await start).started

    run(scenario())
