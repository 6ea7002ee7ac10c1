"""Heartbeats: at most one in an interval, always the newest, and what the server's answers do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.activity import ActivityCancellationDetails
from perdure.api.workflowservice.v1 import (
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
)
from perdure.converter import DataConverter
from perdure.service import RPCError, RPCStatusCode
from perdure.worker import _heartbeats
from perdure.worker._heartbeats import Heartbeater

CONVERTER = DataConverter.default.payload_converter


class _Service:
    def __init__(self, answer: RecordActivityTaskHeartbeatResponse | RPCError) -> None:
        self._answer = answer
        self.may_answer: asyncio.Event | None = None
        self.sent: list[Any] = []
        self.changed = asyncio.Event()

    async def record_activity_task_heartbeat(
        self, request: RecordActivityTaskHeartbeatRequest, timeout: timedelta
    ) -> RecordActivityTaskHeartbeatResponse:
        self.sent.append(CONVERTER.from_payloads(request.details.payloads))
        self.changed.set()
        if self.may_answer is not None:
            await self.may_answer.wait()
        if isinstance(self._answer, RPCError):
            raise self._answer
        return self._answer

    async def until(self, count: int) -> None:
        while len(self.sent) < count:
            self.changed.clear()
            await self.changed.wait()


def _run(
    scenario: Callable[[Heartbeater, _Service, asyncio.Future[Any]], Any],
    answer: RecordActivityTaskHeartbeatResponse | RPCError | None = None,
    interval_s: float = 0.05,
) -> None:
    async def run() -> None:
        service = _Service(answer or RecordActivityTaskHeartbeatResponse())
        environment: Any = SimpleNamespace(namespace="ns", identity="me", service=service)
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        heartbeater = Heartbeater(
            environment, b"token", interval_s, DataConverter.default, told.set_result, told.set_result
        )
        async with asyncio.timeout(10):
            await scenario(heartbeater, service, told)

    asyncio.run(run())


def test_the_first_goes_at_once_and_of_the_others_only_the_newest() -> None:
    async def scenario(heartbeater: Heartbeater, service: _Service, _: asyncio.Future[Any]) -> None:
        for number in range(10):
            heartbeater.beat([number])
        await service.until(2)
        assert service.sent == [[0], [9]]
        await heartbeater.stop(keep_unsent=False)

    _run(scenario)


def test_what_was_held_back_is_kept_for_the_next_attempt() -> None:
    async def scenario(heartbeater: Heartbeater, service: _Service, _: asyncio.Future[Any]) -> None:
        heartbeater.beat(["sent"])
        heartbeater.beat(["held back"])
        unsent = await heartbeater.stop(keep_unsent=True)
        assert unsent is not None
        assert CONVERTER.from_payloads(unsent.payloads) == ["held back"]
        assert service.sent == [["sent"]]
        heartbeater.beat(["too late"])

    _run(scenario, interval_s=30)


def test_other_threads_may_send_them() -> None:
    async def scenario(heartbeater: Heartbeater, service: _Service, _: asyncio.Future[Any]) -> None:
        await asyncio.to_thread(heartbeater.beat, ["thread"])
        await service.until(1)
        assert service.sent == [["thread"]]

    _run(scenario)


@pytest.mark.parametrize(
    ("answer", "details"),
    [
        (
            RecordActivityTaskHeartbeatResponse(cancel_requested=True),
            ActivityCancellationDetails(cancel_requested=True),
        ),
        (RecordActivityTaskHeartbeatResponse(activity_paused=True), ActivityCancellationDetails(paused=True)),
        (RecordActivityTaskHeartbeatResponse(activity_reset=True), ActivityCancellationDetails(reset=True)),
        (RPCError("gone", RPCStatusCode.NOT_FOUND, b""), ActivityCancellationDetails(not_found=True)),
    ],
)
def test_an_answer_that_ends_the_attempt_says_why(
    answer: RecordActivityTaskHeartbeatResponse | RPCError, details: ActivityCancellationDetails
) -> None:
    async def scenario(heartbeater: Heartbeater, service: _Service, told: asyncio.Future[Any]) -> None:
        heartbeater.beat([])
        assert await told == details

    _run(scenario, answer)


def test_details_that_cannot_be_encoded_end_the_attempt() -> None:
    async def scenario(heartbeater: Heartbeater, service: _Service, told: asyncio.Future[Any]) -> None:
        heartbeater.beat([object()])
        assert isinstance(await told, TypeError)
        assert service.sent == []

    _run(scenario)


def test_details_that_did_not_arrive_are_kept_for_the_next_attempt() -> None:
    """Unless newer ones came: then those."""

    async def scenario(heartbeater: Heartbeater, service: _Service, _: asyncio.Future[Any]) -> None:
        heartbeater.beat(["lost"])
        await service.until(1)
        unsent = await heartbeater.stop(keep_unsent=True)
        assert unsent is not None
        assert CONVERTER.from_payloads(unsent.payloads) == ["lost"]

    _run(scenario, RPCError("down", RPCStatusCode.PERMISSION_DENIED, b""))


def test_details_that_did_not_arrive_are_sent_again_but_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where every heartbeat may go at once."""
    monkeypatch.setattr(_heartbeats, "_AFTER_ERROR_S", 0.01)

    async def scenario(heartbeater: Heartbeater, service: _Service, _: asyncio.Future[Any]) -> None:
        began_s = time.monotonic()
        heartbeater.beat(["again"])
        await service.until(4)
        assert time.monotonic() - began_s >= 0.03
        assert service.sent == [["again"]] * 4
        await heartbeater.stop(keep_unsent=False)

    _run(scenario, RPCError("down", RPCStatusCode.PERMISSION_DENIED, b""), interval_s=0)


def test_one_that_is_under_way_ends_with_its_activity(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is told what the server says to it, and it is not repeated."""

    async def scenario(heartbeater: Heartbeater, service: _Service, told: asyncio.Future[Any]) -> None:
        service.may_answer = asyncio.Event()
        heartbeater.beat(["sent"])
        await service.until(1)
        others = asyncio.all_tasks()
        sending = next(task for task in others if "_record" in repr(task.get_coro()))
        assert await heartbeater.stop(keep_unsent=False) is None
        service.may_answer.set()
        await asyncio.wait([sending])
        assert sending.cancelled()
        assert not told.done()

    _run(scenario, RPCError("down", RPCStatusCode.PERMISSION_DENIED, b""), interval_s=30)
    assert not caplog.records


def test_what_was_held_back_goes_out_when_the_activity_is_completed_from_elsewhere() -> None:
    """From then on nobody here sends any, and there is no next attempt to tell."""

    async def scenario(heartbeater: Heartbeater, service: _Service, _: asyncio.Future[Any]) -> None:
        heartbeater.beat(["sent"])
        heartbeater.beat(["held back"])
        await heartbeater.flush()
        assert service.sent == [["sent"], ["held back"]]
        heartbeater.beat(["too late"])
        await heartbeater.flush()
        assert len(service.sent) == 2

    _run(scenario, interval_s=30)
