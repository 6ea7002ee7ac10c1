"""Standalone activities on a server that is killed at random moments: nothing acknowledged is lost or doubled.

The number of kills is PERDURE_CRASHES (20 unless set), the seed of their moments PERDURE_CRASH_SEED.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from perdure.api.workflowservice import v1 as workflowservice
from tests.support import builders
from tests.support.rpc import RawClient, RpcError
from tests.support.servers import PerdureServer

CRASHES = int(os.environ.get("PERDURE_CRASHES", "20"))
SEED = int(os.environ.get("PERDURE_CRASH_SEED", "20"))
QUEUE = "orders"
CLIENTS = 4
WORKERS = 4
ATTEMPTS = 3
LIVELY_S = 0.6
"""A killed server has served for at most this long."""
FINISH_TIMEOUT_S = 60
POLL_TIMEOUT_S = 4
LOST = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
"""What a caller sees of a crash."""

Result = TypeVar("Result")


class Load:
    """Clients and workers that go on through crashes.

    Attributes:
        runs: run ids of acknowledged starts, by activity id.
        ended: how the attempts ended whose answers were acknowledged, by run id.
        begun: attempts that workers were given, by run id.
    """

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self.starting = True
        self.running = True
        self.serving = asyncio.Event()
        self.serving.set()
        self.runs: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.begun: dict[str, Counter[int]] = {}

    async def insist(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Repeats a call that a crash may have swallowed until it is answered."""
        while True:
            await self.serving.wait()
            try:
                return await call()
            except RpcError as error:
                if error.code not in LOST:
                    raise

    async def start(self, number: int) -> None:
        """Starts activities, each with one request id however often it is asked for."""
        count = 0
        while self.starting:
            count += 1
            name = f"order-{number}-{count}"
            request = workflowservice.StartActivityExecutionRequest(
                namespace=self._client.namespace,
                activity_id=name,
                request_id=name,
                task_queue=builders.queue(QUEUE),
                start_to_close_timeout=builders.duration(1),
                retry_policy=builders.retry_policy(initial_s=0.05, maximum_s=0.05, attempts=ATTEMPTS),
            )
            request.activity_type.name = "work"
            answer = await self.insist(
                lambda request=request: self._client.call(  # type: ignore[misc]  # bound now
                    request, workflowservice.StartActivityExecutionResponse
                )
            )
            self.runs[name] = answer.run_id

    async def work(self) -> None:
        """Fails the first attempts of some activities and completes the rest."""
        while self.running:
            await self.serving.wait()
            try:
                task = await self._client.poll_activity_task(QUEUE, timeout_s=POLL_TIMEOUT_S)
                if not task.task_token:
                    continue
                self.begun.setdefault(task.activity_run_id, Counter())[task.attempt] += 1
                if task.attempt == 1 and task.activity_id.endswith("3"):
                    await self._client.fail_activity(task.task_token, builders.application_failure())
                    continue
                await self._client.complete_activity(task.task_token, builders.payloads(task.activity_id))
                self.ended[task.activity_run_id] = task.activity_id
            except RpcError as error:
                # NOT_FOUND: the answer came too late.
                if error.code not in LOST | {"NOT_FOUND"}:
                    raise

    async def check(self, name: str) -> None:
        """An acknowledged activity has an outcome, which is the one that was acknowledged if one was."""
        run_id = self.runs[name]
        poll = workflowservice.PollActivityExecutionRequest(
            namespace=self._client.namespace, activity_id=name, run_id=run_id
        )
        answer = workflowservice.PollActivityExecutionResponse()
        while not answer.run_id:
            answer = await self._client.call(poll, workflowservice.PollActivityExecutionResponse)
        if run_id in self.ended:
            assert answer.outcome.result == builders.payloads(name), f"{name}: {answer.outcome}"
        begun = self.begun.get(run_id, Counter())
        assert max(begun, default=1) <= ATTEMPTS
        assert all(times == 1 for times in begun.values()), f"an attempt was given twice: {name} {begun}"


async def _crash(server: PerdureServer, load: Load) -> None:
    """Kills the server again and again, each time at a random moment of its work."""
    rng = random.Random(SEED)
    for _ in range(CRASHES):
        moment = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(rng.uniform(0.02, LIVELY_S), moment.set_result, None)
        await moment
        load.serving.clear()
        await server.restart_after_kill()
        load.serving.set()


async def _run(folder: Path) -> int:
    async with (
        PerdureServer(db_path=folder / "perdure.db", log_path=folder / "server.log") as server,
        RawClient(server.address) as client,
    ):
        load = Load(client)
        clients = [asyncio.create_task(load.start(number)) for number in range(CLIENTS)]
        workers = [asyncio.create_task(load.work()) for _ in range(WORKERS)]
        await _crash(server, load)
        load.starting = False
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            await asyncio.gather(*clients)
            for name in load.runs:
                await load.check(name)
        load.running = False
        for worker in workers:
            worker.cancel()
        for result in await asyncio.gather(*workers, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError | None), result
        counted = await client.call(
            workflowservice.CountActivityExecutionsRequest(namespace=client.namespace),
            workflowservice.CountActivityExecutionsResponse,
        )
        assert counted.count == len(load.runs), "each start that was acknowledged is one execution"
        return len(load.runs)


@pytest.mark.serial
@pytest.mark.timeout(300)
def test_no_activity_is_lost_or_doubled_when_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    """Starts, attempts and outcomes of standalone activities survive every kill."""
    assert asyncio.run(_run(tmp_path)) >= CRASHES, "the load was too light to mean anything"
