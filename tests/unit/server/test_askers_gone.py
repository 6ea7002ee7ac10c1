"""Questions to workers - queries, requests to Nexus handlers - whose askers are gone are not handed out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from perdure.core.run.records import QueueKey, RunKey, TaskKind
from perdure.core.run.state import RunHeader
from perdure.server.engine.deliveries import Delivery, NexusDelivery, QueryDelivery
from perdure.server.engine.matching import Matching
from tests.support.proto import nexus, query
from tests.unit.server.support import run
from tests.unit.server.test_early_release import holding

Answer = asyncio.Future[object]
Question = Callable[[Answer], QueryDelivery | NexusDelivery]


def _query(answer: Answer) -> QueryDelivery:
    key = QueueKey("n", "q", TaskKind.WORKFLOW)
    header = cast(RunHeader, None)
    return QueryDelivery(RunKey("n", "w", "r"), header, key, False, "id", query.WorkflowQuery(), 0, answer)


def _request(answer: Answer) -> NexusDelivery:
    return NexusDelivery(QueueKey("n", "q", TaskKind.NEXUS), "id", nexus.Request(), 0.0, answer=answer)


QUESTIONS = pytest.mark.parametrize("question", [_query, _request], ids=["query", "nexus"])


def _with_matching(scenario: Callable[[Matching], Awaitable[None]]) -> None:
    async def with_server() -> None:
        async with holding() as (client, _):
            await scenario(client.server.engine.matching)

    run(with_server())


async def _polling(matching: Matching, key: QueueKey) -> asyncio.Task[Delivery | None]:
    """A poll that waits in line."""
    task = asyncio.create_task(matching.poll(key, "worker", "poll", 10.0))
    while not (queue := matching._queues.get(key)) or not queue.pollers:
        await asyncio.sleep(0)
    return task


@QUESTIONS
def test_one_that_comes_back_from_a_poll_that_ended_is_not_kept(question: Question) -> None:
    """Asker and worker go in one turn: nobody withdraws what was handed out, and nobody may get it."""

    async def scenario(matching: Matching) -> None:
        answer: Answer = asyncio.get_running_loop().create_future()
        asked = question(answer)
        poll = await _polling(matching, asked.queue)
        matching.give_back(asked)
        answer.cancel()
        matching.withdraw(asked)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        assert not matching._queues[asked.queue].ready

    _with_matching(scenario)


@QUESTIONS
def test_a_poll_that_was_to_get_one_waits_on_and_gets_the_next(question: Question) -> None:
    async def scenario(matching: Matching) -> None:
        answer, later = (cast(Answer, asyncio.get_running_loop().create_future()) for _ in range(2))
        asked, wanted = question(answer), question(later)
        poll = await _polling(matching, asked.queue)
        matching.give_back(asked)
        answer.cancel()
        matching.withdraw(asked)
        while not matching._queues[asked.queue].pollers:
            assert not poll.done()
            await asyncio.sleep(0)
        matching.give_back(wanted)
        assert await poll is wanted

    _with_matching(scenario)


@QUESTIONS
def test_one_that_has_its_answer_is_not_handed_out_again(question: Question) -> None:
    """The worker answered although its poll looked lost: the question is over."""

    async def scenario(matching: Matching) -> None:
        answer, later = (cast(Answer, asyncio.get_running_loop().create_future()) for _ in range(2))
        asked, wanted = question(answer), question(later)
        matching.give_back(asked)
        answer.set_result("answered")
        matching.give_back(wanted)
        assert await matching.poll(asked.queue, "worker", "poll", 10.0) is wanted

    _with_matching(scenario)
