"""The simulated event loop: time jumps, order within a node, death of a node, and nothing real."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from random import Random

import pytest

from tests.simulation.loop import SimLoop, SimulationError, new_loop


@pytest.fixture
def loop() -> SimLoop:
    return new_loop(Random(0))


def test_waiting_takes_no_real_time(loop: SimLoop) -> None:
    began = time.perf_counter()

    async def main() -> float:
        await loop.sleep(30 * 86_400)
        return loop.time()

    assert loop.run_until_complete(main()) == 30 * 86_400
    assert time.perf_counter() - began < 5


def test_no_timer_runs_before_its_time(loop: SimLoop) -> None:
    """Also for times that floats do not hold exactly."""

    async def main() -> None:
        for step in range(2_000):
            when = loop.time() + 0.1 + step * 1e-9
            future = loop.create_future()
            loop.call_at(when, future.set_result, None)
            await future
            assert loop.time() >= when

    loop.run_until_complete(main())


def test_a_node_runs_its_callbacks_in_order(loop: SimLoop) -> None:
    seen: list[int] = []

    async def main() -> None:
        for number in range(100):
            loop.call_soon(seen.append, number)
        await loop.sleep(1)

    loop.run_until_complete(main())
    assert seen == list(range(100))


def test_the_seed_decides_which_node_goes_first() -> None:
    def order(seed: int) -> list[str]:
        loop = new_loop(Random(seed))
        seen: list[str] = []

        async def main() -> None:
            for name in "abcdef":
                loop.run_in(loop.new_node(name), 0, seen.append, name)
            await loop.sleep(1)

        loop.run_until_complete(main())
        return seen

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 5


def test_a_killed_node_does_nothing_any_more(loop: SimLoop) -> None:
    """Not even what stands in its `finally` blocks, and nothing of it is complained about."""
    seen: list[str] = []
    node = loop.new_node("victim")

    async def victim() -> None:
        loop.call_later(3, seen.append, "timer")
        try:
            await loop.sleep(2)
        finally:
            seen.append("finally")

    async def main() -> None:
        loop.spawn(node, victim())
        await loop.sleep(1)
        loop.kill(node)
        await loop.sleep(10)

    loop.run_until_complete(main())
    assert seen == []
    loop.close()
    assert loop.errors == []


def test_the_end_of_a_world_asks_asyncio_for_no_real_loop(loop: SimLoop) -> None:
    """Code that is closed may gather in its `finally` block: with no loop running, asyncio would make one or warn."""
    seen: list[object] = []

    async def main() -> None:
        async def victim() -> None:
            try:
                await loop.hang()
            finally:
                seen.append(asyncio.gather().get_loop())

        loop.spawn(loop.new_node("victim"), victim())
        await loop.sleep(1)

    loop.run_until_complete(main())
    loop.close()
    assert seen == [loop]


def test_what_begins_when_a_world_ends_is_never_complained_about() -> None:
    """Code that is closed may begin something in its `finally` block; none of it runs, and nothing warns of that."""

    async def begun() -> None:
        raise AssertionError("it runs")

    def live_and_end() -> None:
        loop = new_loop(Random(0))

        async def victim() -> None:
            try:
                await loop.hang()
            finally:
                await asyncio.gather(begun())

        async def main() -> None:
            loop.spawn(loop.new_node("victim"), victim())
            await loop.sleep(1)

        loop.run_until_complete(main())
        loop.close()

    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        live_and_end()
        gc.collect()
    assert not [complaint for complaint in complaints if "begun" in str(complaint.message)]


def test_a_paused_node_goes_on_where_it_was(loop: SimLoop) -> None:
    seen: list[float] = []
    node = loop.new_node("sleeper")

    async def sleeper() -> None:
        for _ in range(3):
            await loop.sleep(1)
            seen.append(loop.time())

    async def main() -> None:
        loop.spawn(node, sleeper())
        await loop.sleep(1.5)
        loop.pause(node)
        await loop.sleep(10)
        loop.resume(node)
        await loop.sleep(10)

    loop.run_until_complete(main())
    assert seen == [1.0, 11.5, 12.5]


def test_a_world_in_which_nothing_can_happen_is_an_error(loop: SimLoop) -> None:
    with pytest.raises(SimulationError, match="nothing is left to happen"):
        loop.run_until_complete(loop.hang())


def test_a_circle_is_an_error() -> None:
    loop = SimLoop(Random(0), max_steps=1_000)  # type: ignore[abstract]

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimulationError, match="in circles"):
        loop.run_until_complete(main())


def test_nothing_real_can_be_used(loop: SimLoop) -> None:
    async def main() -> None:
        for attempt in (
            lambda: asyncio.open_connection("127.0.0.1", 1),
            lambda: asyncio.to_thread(int),
            lambda: loop.getaddrinfo("localhost", 1),
            lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol),
        ):
            with pytest.raises(SimulationError, match="nothing real"):
                await attempt()
        with pytest.raises(SimulationError, match="nothing real"):
            loop.call_soon_threadsafe(print)

    loop.run_until_complete(main())


def test_asyncio_itself_works_on_it(loop: SimLoop) -> None:
    """Timeouts, locks, events, gathering and cancelling behave as they do on a real loop."""

    async def main() -> list[str]:
        lock, event = asyncio.Lock(), asyncio.Event()

        async def holder() -> str:
            async with lock:
                await event.wait()
            return "held"

        async def waiter() -> str:
            try:
                async with asyncio.timeout(5):
                    async with lock:
                        return "too early"
            except TimeoutError:
                return f"timed out at {loop.time()}"

        tasks = [asyncio.create_task(holder()), asyncio.create_task(waiter())]
        loop.call_later(7, event.set)
        return list(await asyncio.gather(*tasks))

    assert loop.run_until_complete(main()) == ["held", "timed out at 5.0"]
