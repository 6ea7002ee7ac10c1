"""Polls: as many as wanted, through lost connections, until they are stopped; and calls that are repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from perdure.service import RPCError, RPCStatusCode
from perdure.worker import _calls, _pollers
from perdure.worker._calls import call_until
from perdure.worker._pollers import PollerGroup, PollerScaler
from perdure.worker._slots import ActivitySlot, FixedSlots, Permit


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
