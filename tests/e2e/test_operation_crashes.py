"""Standalone Nexus operations on a server that is killed at random moments: nothing acknowledged is lost or mixed up.

The operations are workflows that echo their input, or are answered at once. Each that was acknowledged has one outcome.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.e2e import test_nexus_crashes as crashes
from tests.support.builders import payload, queue
from tests.support.proto import nexus, operatorservice, workflowservice
from tests.support.rpc import RawClient
from tests.support.servers import PerdureServer

KILLS = 8
SEED = 11
Poll = workflowservice.PollNexusOperationExecutionRequest
Outcome = workflowservice.PollNexusOperationExecutionResponse


class Load(crashes.Load):
    """Clients and handlers of operations that go on through crashes.

    Attributes:
        runs: run ids of acknowledged starts, by operation id.
    """

    def __init__(self, client: RawClient) -> None:
        super().__init__(client)
        self.runs: dict[str, str] = {}

    async def start_operations(self) -> None:
        """Starts one operation after the other, each with one request id however often it is asked for."""
        while self.starting:
            name = f"op-{len(self.runs)}"
            request = workflowservice.StartNexusOperationExecutionRequest(
                namespace="default",
                operation_id=name,
                request_id=name,
                endpoint="endpoint",
                service="service",
                operation="echo",
                input=payload(name),
            )
            answer = await self.insist(
                lambda request=request: self._client.call(  # type: ignore[misc]  # bound now
                    request, workflowservice.StartNexusOperationExecutionResponse
                )
            )
            self.runs[name] = answer.run_id

    async def answer_at_once(self) -> None:
        """Answers one request with its own input."""
        request = workflowservice.PollNexusTaskQueueRequest(
            namespace="default", task_queue=queue(crashes.HANDLERS)
        )
        task = await self._client.call(request, workflowservice.PollNexusTaskQueueResponse, timeout_s=4)
        if not task.task_token:
            return
        done = nexus.StartOperationResponse.Sync(payload=task.request.start_operation.payload)
        response = nexus.Response(start_operation=nexus.StartOperationResponse(sync_success=done))
        await self._client.invoke(
            workflowservice.RespondNexusTaskCompletedRequest(
                namespace="default", task_token=task.task_token, response=response
            )
        )

    async def check(self, name: str) -> None:
        """An acknowledged operation has the outcome of its own input."""
        request = Poll(namespace="default", operation_id=name, run_id=self.runs[name])
        told = Outcome()
        while not told.run_id:
            told = await self.insist(lambda: self._client.call(request, Outcome))
        assert told.result == payload(name), f"{name}: {told}"


async def _run(folder: Path) -> int:
    moments = random.Random(SEED)
    async with (
        PerdureServer(db_path=folder / "perdure.db", log_path=folder / "server.log") as server,
        RawClient(server.address) as client,
    ):
        worker = nexus.EndpointTarget.Worker(namespace="default", task_queue=crashes.HANDLERS)
        spec = nexus.EndpointSpec(name="endpoint", target=nexus.EndpointTarget(worker=worker))
        await client.invoke(operatorservice.CreateNexusEndpointRequest(spec=spec))
        load = Load(client)
        starting = asyncio.create_task(load.start_operations())
        works: list[Callable[[], Awaitable[None]]] = [
            load.handle,
            load.answer_at_once,
            lambda: load.decide(crashes.ECHOES, crashes.echo),
        ]
        workers = [asyncio.create_task(load.forever(work)) for work in works for _ in range(3)]
        for _ in range(KILLS):
            moment = asyncio.get_running_loop().create_future()
            delay_s = moments.uniform(0.05, crashes.LIVELY_S)
            asyncio.get_running_loop().call_later(delay_s, moment.set_result, None)
            await moment
            load.serving.clear()
            await server.restart_after_kill()
            load.serving.set()
        load.starting = False
        async with asyncio.timeout(crashes.FINISH_TIMEOUT_S):
            await starting
            for name in load.runs:
                await load.check(name)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for task in workers:
            assert task.cancelled() or task.exception() is None, task.exception()
        counting = workflowservice.CountNexusOperationExecutionsRequest(namespace="default")
        counted = await client.call(counting, workflowservice.CountNexusOperationExecutionsResponse)
        assert counted.count == len(load.runs), "each start that was acknowledged is one execution"
        return len(load.runs)


@pytest.mark.serial
@pytest.mark.timeout(300)
def test_no_operation_is_lost_or_doubled_when_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    """Starts, requests to handlers and completions of standalone operations survive every kill."""
    assert asyncio.run(_run(tmp_path)) >= KILLS, "the load was too light to mean anything"
