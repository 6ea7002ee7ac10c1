"""The server killed with SIGKILL at random moments under load: nothing that was acknowledged may be lost or doubled.

The number of kills is PERDURE_CRASHES (50 unless set), the seed of their moments PERDURE_CRASH_SEED.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from perdure.api.command.v1 import Command
from perdure.api.enums.v1 import EventType, HistoryEventFilterType
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflowservice import v1 as workflowservice
from tests.support import builders
from tests.support.rpc import RawClient, RpcError
from tests.support.servers import PerdureServer

CRASHES = int(os.environ.get("PERDURE_CRASHES", "50"))
SEED = int(os.environ.get("PERDURE_CRASH_SEED", "20"))
QUEUE = "orders"
CLIENTS = 6
WORKFLOW_WORKERS = 4
ACTIVITY_WORKERS = 4
SIGNALS = 2
ACTIVITIES = 2
LIVELY_S = 0.6
"""A killed server has served for at most this long."""
FINISH_TIMEOUT_S = 60
POLL_TIMEOUT_S = 4
LOST = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
"""What a caller sees of a crash."""

_SCHEDULED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED")
_ACTIVITY_COMPLETED = EventType.Value("EVENT_TYPE_ACTIVITY_TASK_COMPLETED")
_SIGNALED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")
_COMPLETED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED")
_CLOSE_EVENT = HistoryEventFilterType.Value("HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT")

Result = TypeVar("Result")


@dataclass
class Ledger:
    """What the server has acknowledged."""

    runs: dict[str, str] = field(default_factory=dict)
    signals: dict[str, list[str]] = field(default_factory=dict)
    activities: set[tuple[str, str]] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)


class Load:
    """Clients and workers that go on through crashes.

    Args:
        client: a channel that finds a restarted server again.
    """

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self.ledger = Ledger()
        self.starting = True
        self.running = True
        self.serving = asyncio.Event()
        self.serving.set()

    async def insist(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Repeats a call that a crash may have swallowed, with the same request id, until it is answered."""
        while True:
            await self.serving.wait()
            try:
                return await call()
            except RpcError as error:
                if error.code not in LOST:
                    raise

    async def client_loop(self, number: int) -> None:
        """Starts workflows and signals them."""
        count = 0
        while self.starting:
            count += 1
            await self._order(f"order-{number}-{count}")

    async def _order(self, workflow_id: str) -> None:
        request = self._client.start_request(workflow_id, QUEUE, workflow_task_timeout=builders.duration(1))
        started = await self.insist(
            lambda: self._client.call(request, workflowservice.StartWorkflowExecutionResponse)
        )
        self.ledger.runs[workflow_id] = started.run_id
        for number in range(SIGNALS):
            request_id = str(uuid.uuid4())
            await self.insist(partial(self._client.signal, workflow_id, f"s{number}", request_id=request_id))
            self.ledger.signals.setdefault(workflow_id, []).append(request_id)

    async def workflow_worker(self) -> None:
        """Decides by the history alone, as a worker without cache does."""
        while self.running:
            await self.serving.wait()
            try:
                task = await self._client.poll_workflow_task(QUEUE, timeout_s=POLL_TIMEOUT_S)
                if not task.task_token:
                    continue
                commands = decide(list(task.history.events))
                await self._client.complete_workflow_task(task.task_token, commands)
                if commands and commands[0].HasField("complete_workflow_execution_command_attributes"):
                    self.ledger.closed.add(task.workflow_execution.workflow_id)
            except RpcError as error:
                # NOT_FOUND: the answer came too late; INVALID_ARGUMENT: a signal came first (unhandled command).
                if error.code not in LOST | {"NOT_FOUND", "INVALID_ARGUMENT"}:
                    raise

    async def activity_worker(self) -> None:
        """Completes activities."""
        while self.running:
            await self.serving.wait()
            try:
                task = await self._client.poll_activity_task(QUEUE, timeout_s=POLL_TIMEOUT_S)
                if not task.task_token:
                    continue
                await self._client.complete_activity(task.task_token, builders.payloads(task.activity_id))
                self.ledger.activities.add((task.workflow_execution.workflow_id, task.activity_id))
            except RpcError as error:
                if error.code not in LOST | {"NOT_FOUND"}:
                    raise


def decide(history: list[HistoryEvent]) -> list[Command]:
    """The workflow: two activities, two signals, then the end."""
    seen = Counter(event.event_type for event in history)
    if not seen[_SCHEDULED]:
        return [
            builders.schedule_activity(
                f"a{number}",
                QUEUE,
                start_to_close_s=1,
                retry=builders.retry_policy(initial_s=0.05, maximum_s=0.05),
            )
            for number in range(ACTIVITIES)
        ]
    if seen[_ACTIVITY_COMPLETED] == ACTIVITIES and seen[_SIGNALED] == SIGNALS:
        return [builders.complete_workflow(builders.payloads("done"))]
    return []


async def await_close(client: RawClient, workflow_id: str) -> None:
    """Waits until a workflow has closed."""
    token = b""
    while True:
        page = await client.history_page(
            workflow_id, wait_new_event=True, history_event_filter_type=_CLOSE_EVENT, next_page_token=token
        )
        if page.history.events:
            return
        token = page.next_page_token


async def crash_loop(server: PerdureServer, load: Load, rng: random.Random) -> None:
    """Kills the server again and again, each time at a random moment of its work."""
    for _ in range(CRASHES):
        moment = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(rng.uniform(0.02, LIVELY_S), moment.set_result, None)
        await moment
        load.serving.clear()
        await server.restart_after_kill()
        load.serving.set()


def check(workflow_id: str, history: list[HistoryEvent], ledger: Ledger) -> None:
    """A history holds all that was acknowledged, each thing once, without gap."""
    assert [event.event_id for event in history] == list(range(1, len(history) + 1)), workflow_id
    first = history[0].workflow_execution_started_event_attributes
    assert first.original_execution_run_id == ledger.runs[workflow_id]
    signals = Counter(
        event.workflow_execution_signaled_event_attributes.request_id
        for event in history
        if event.event_type == _SIGNALED
    )
    assert signals == Counter(ledger.signals[workflow_id]), f"signals of {workflow_id}"
    scheduled = {
        event.event_id: event.activity_task_scheduled_event_attributes.activity_id
        for event in history
        if event.event_type == _SCHEDULED
    }
    completed = Counter(
        scheduled[event.activity_task_completed_event_attributes.scheduled_event_id]
        for event in history
        if event.event_type == _ACTIVITY_COMPLETED
    )
    assert completed == Counter(scheduled.values()), f"activities of {workflow_id}"
    assert {activity for workflow, activity in ledger.activities if workflow == workflow_id} <= set(completed)
    assert history[-1].event_type == _COMPLETED


async def run_load(db_path: Path, log_path: Path) -> int:
    """Runs the load through the crashes and checks every workflow; returns how many there were."""
    async with (
        PerdureServer(db_path=db_path, log_path=log_path) as server,
        RawClient(server.address) as client,
    ):
        load = Load(client)
        clients = [asyncio.create_task(load.client_loop(number)) for number in range(CLIENTS)]
        workers = [asyncio.create_task(load.workflow_worker()) for _ in range(WORKFLOW_WORKERS)]
        workers += [asyncio.create_task(load.activity_worker()) for _ in range(ACTIVITY_WORKERS)]
        await crash_loop(server, load, random.Random(SEED))
        load.starting = False
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            await asyncio.gather(*clients)
            for workflow_id in load.ledger.runs:
                await await_close(client, workflow_id)
        load.running = False
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for task in workers:
            assert task.cancelled() or task.exception() is None, task.exception()
        for workflow_id in load.ledger.runs:
            check(workflow_id, await client.history(workflow_id), load.ledger)
        assert load.ledger.closed <= set(load.ledger.runs)
        return len(load.ledger.runs)


@pytest.mark.serial
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    """Every acknowledged start, signal and completion is in the history once, after every crash."""
    workflows = asyncio.run(run_load(tmp_path / "perdure.db", tmp_path / "server.log"))
    assert workflows >= CRASHES, "the load was too light to mean anything"
