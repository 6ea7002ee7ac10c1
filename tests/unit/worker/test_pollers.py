"""Polls: as many as wanted, through lost connections, until they are stopped; and calls that are repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from perdure.service import RPCError, RPCStatusCode
from perdure.worker import _calls, _pollers, _polls
from perdure.worker._calls import call_until
from perdure.worker._poller_behavior import DEFAULT_POLLER_BEHAVIOR
from perdure.worker._pollers import PollBalance, PollerGroup, PollerScaler
from perdure.worker._rate import RateLimit
from perdure.worker._slots import ActivitySlot, FixedSlots, Permit, Slots
from perdure.worker._tuning import DEFAULT_SLOTS, SlotInfo


@dataclass
class Answer:
    """A poll's answer."""

    task_token: bytes


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calls, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(_calls, "_LONGEST_WAIT_S", 0.002)


def _error(status: RPCStatusCode) -> RPCError:
    return RPCError("no", status, b"")


class _Server:
    """Answers polls with what it is given, then with nothing, for ever."""

    def __init__(self, *answers: Answer | RPCError) -> None:
        self._answers = list(answers)
        self.open = 0
        self.most_open = 0

    async def poll(self) -> Answer:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if not self._answers:
                await asyncio.Event().wait()
            answer = self._answers.pop(0)
            if isinstance(answer, RPCError):
                raise answer
            return answer
        finally:
            self.open -= 1


def _group(
    server: _Server, slots: FixedSlots, handle: Callable[[Answer, Permit], None], polls: int = 2
) -> PollerGroup[Answer]:
    return PollerGroup(
        "Activity",
        "test",
        poll=server.poll,
        handle=handle,
        slots=slots,
        scaler=PollerScaler(polls, polls, polls),
    )


def test_polls_go_on_after_errors_that_pass_and_empty_answers() -> None:
    """A task that follows them arrives; slots of polls without a task are free again."""

    async def scenario() -> None:
        server = _Server(_error(RPCStatusCode.UNAVAILABLE), Answer(b""), Answer(b"task"))
        slots = FixedSlots(3)
        arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def handle(answer: Answer, permit: Permit) -> None:
            slots.mark_used(permit, ActivitySlot("a"))
            arrived.set_result(answer.task_token)

        group = _group(server, slots, handle)
        running = asyncio.ensure_future(group.run())
        assert await arrived == b"task"
        await group.cancel()
        await running
        assert slots.free == 2

    asyncio.run(scenario())


def test_who_waits_for_a_rate_is_not_waited_for_at_the_end() -> None:
    """A worker that may start an activity in an hour can be stopped now, and its slots are free again."""

    async def scenario() -> None:
        server, slots = _Server(), FixedSlots(2)
        rate = RateLimit(per_second=1 / 3600)
        group = PollerGroup(
            "Activity",
            "test",
            poll=server.poll,
            handle=lambda answer, permit: None,
            slots=slots,
            scaler=PollerScaler(2, 2, 2),
            before_poll=rate.wait,
        )
        await rate.wait()
        running = asyncio.ensure_future(group.run())
        await asyncio.wait([running], timeout=0.01)
        assert slots.free == 0
        group.stop()
        await asyncio.wait_for(running, 10)
        assert (slots.free, server.most_open) == (2, 0)

    asyncio.run(scenario())


def test_no_more_polls_are_open_than_slots_are_free() -> None:
    async def scenario() -> None:
        server, slots = _Server(), FixedSlots(3)
        group = _group(server, slots, lambda answer, permit: None, polls=5)
        running = asyncio.ensure_future(group.run())
        await asyncio.wait([running], timeout=0.01)
        assert server.open == 3
        await group.cancel()
        await running
        assert slots.free == 3

    asyncio.run(scenario())


def test_refused_polls_end_the_group_but_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that restarts may answer anything for a while."""
    monkeypatch.setattr(_pollers, "_FATAL_AFTER_S", 0.02)

    async def scenario() -> None:
        server = _Server(*[_error(RPCStatusCode.PERMISSION_DENIED)] * 100)
        group = _group(server, FixedSlots(3), lambda answer, permit: None)
        started_s = time.monotonic()
        with pytest.raises(RPCError):
            await group.run()
        assert time.monotonic() - started_s > 0.02

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(3, True, 1.0)], 8),
        ([(None, False, 60.0)], 4),
        ([(None, True, 0.001)], 6),
        ([(None, True, 1.0)], 5),
        ([(100, True, 1.0)], 10),
        ([(-100, True, 1.0)], 2),
    ],
)
def test_the_number_of_polls_follows_what_answers_say(
    answers: list[tuple[int | None, bool, float]], expected: int
) -> None:
    scaler = PollerScaler(2, 10, 5, follows_load=True)
    for suggestion, has_task, waited_s in answers:
        scaler.answered(suggestion, has_task, waited_s)
    assert scaler.target == expected


def test_a_server_that_never_suggests_a_number_of_polls_loses_none() -> None:
    """Nothing would ever open them again."""
    scaler = PollerScaler(1, 10, 5)
    for _ in range(5):
        scaler.answered(None, has_task=False, waited_s=60.0)
        scaler.refused(is_overloaded=True)
    assert scaler.target == 5
    scaler.answered(1, has_task=True, waited_s=0.0)
    scaler.answered(None, has_task=False, waited_s=60.0)
    assert scaler.target == 5
    scaler.refused(is_overloaded=False)
    assert scaler.target == 4


def test_under_load_slots_are_left_for_first_tasks_that_come_with_starts() -> None:
    """Polls hold slots too: those of both queues, at their most, hold less than a worker has by default."""
    queues = [_polls._scaler(DEFAULT_POLLER_BEHAVIOR) for _ in range(2)]
    for scaler in queues:
        for _ in range(DEFAULT_SLOTS):
            scaler.answered(None, has_task=True, waited_s=0.0)
    assert 0.5 * DEFAULT_SLOTS < sum(scaler.target for scaler in queues) <= 0.8 * DEFAULT_SLOTS


def test_a_call_is_repeated_until_it_is_answered() -> None:
    async def scenario() -> None:
        server = _Server(
            _error(RPCStatusCode.UNAVAILABLE), _error(RPCStatusCode.DEADLINE_EXCEEDED), Answer(b"yes")
        )
        answer = await call_until(time.monotonic() + 10, server.poll, "A call")
        assert answer.task_token == b"yes"

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT])
def test_a_call_that_is_refused_is_not_repeated(status: RPCStatusCode) -> None:
    async def scenario() -> None:
        server = _Server(_error(status), Answer(b"yes"))
        with pytest.raises(RPCError) as caught:
            await call_until(time.monotonic() + 10, server.poll, "A call")
        assert caught.value.status is status

    asyncio.run(scenario())


def test_a_call_is_not_repeated_after_its_time() -> None:
    async def scenario() -> None:
        server = _Server(*[_error(RPCStatusCode.UNAVAILABLE)] * 3)
        with pytest.raises(RPCError):
            await call_until(time.monotonic(), server.poll, "A call")
        assert len(server._answers) == 2

    asyncio.run(scenario())


class _Hoarder:
    """Slots of a supplier that gives out two, and whose order of waiters nobody knows: the newest comes first."""

    def __init__(self, count: int = 2) -> None:
        self.free = count
        self._waiters: list[asyncio.Future[None]] = []

    async def reserve(self, *, is_sticky: bool = False) -> Permit:
        while self.free == 0:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        self.free -= 1
        return Permit(self._released)

    def try_reserve(self) -> Permit | None:
        return None

    def mark_used(self, permit: Permit, info: SlotInfo) -> None:
        permit.note(info)

    def _released(self, permit: Permit) -> None:
        self.free += 1
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.done():
                waiter.set_result(None)
                return


class _Queue:
    """Answers a poll with a task when it is given one."""

    def __init__(self) -> None:
        self.polls: list[asyncio.Future[Answer]] = []
        self.changed = asyncio.Event()

    async def poll(self) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.polls.append(answer)
        self.changed.set()
        try:
            return await answer
        finally:
            self.polls.remove(answer)
            self.changed.set()

    async def until_open(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.polls) < count:
                self.changed.clear()
                await self.changed.wait()


@pytest.mark.parametrize("slots", [FixedSlots(2), _Hoarder(2)])
def test_both_queues_are_polled_whoever_gives_out_the_slots(slots: Slots) -> None:
    """Each wants more polls than there are slots; a task of either queue changes nothing about it."""

    async def scenario() -> None:
        queues = {False: _Queue(), True: _Queue()}
        balance, used = PollBalance(), list[Permit]()

        def handle(answer: Answer, permit: Permit) -> None:
            slots.mark_used(permit, ActivitySlot("a"))
            used.append(permit)

        groups = [
            PollerGroup(
                "Workflow",
                "test",
                poll=queues[is_sticky].poll,
                handle=handle,
                slots=slots,
                scaler=PollerScaler(3, 3, 3),
                is_sticky=is_sticky,
                balance=balance,
            )
            for is_sticky in (True, False)
        ]
        running = [asyncio.ensure_future(group.run()) for group in groups]
        for is_sticky in (False, True, False, False, True, True):
            for queue in queues.values():
                await queue.until_open(1)
            queues[is_sticky].polls[0].set_result(Answer(b"task"))
            async with asyncio.timeout(10):
                while not used:
                    await asyncio.sleep(0)
            used.pop().release()
        for queue in queues.values():
            await queue.until_open(1)
        for group in groups:
            group.stop()
        for queue in queues.values():
            queue.polls[0].set_result(Answer(b""))
        # Polls that waited for a slot or for the other queue do not hold the end up.
        await asyncio.wait_for(asyncio.gather(*running), 10)

    asyncio.run(scenario())
