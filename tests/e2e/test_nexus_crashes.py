"""The server killed with SIGKILL at random moments while operations run that are workflows: each is done once.

A caller schedules an operation, a handler starts a workflow with the operation's callback, that workflow echoes its
input. Whatever is killed between the commits, every caller must be told once, of its own result.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.builders import complete_workflow, payload, payloads, queue, schedule_operation
from tests.support.proto import common, enums, history, nexus, operatorservice, workflow, workflowservice
from tests.support.rpc import RawClient, RpcError
from tests.support.servers import PerdureServer

KILLS = 10
SEED = 7
LIVELY_S = 0.8
CALLERS, HANDLERS, ECHOES = "callers", "handlers", "echoes"
FINISH_TIMEOUT_S = 90
LOST = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
"""What a caller sees of a crash."""
STALE = frozenset({"NOT_FOUND", "INVALID_ARGUMENT"})
"""What a worker sees whose answer comes too late, or after news."""
EventType = enums.EventType
_USE_EXISTING = enums.WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
_REJECT = enums.WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
_COMPLETED = EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED
Result = TypeVar("Result")


class Load:
    """Clients, workers and handlers that go on through crashes."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self.starting = True
        self.callers: list[str] = []
        self.serving = asyncio.Event()
        self.serving.set()

    async def insist(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Repeats a call that a crash may have swallowed until it is answered."""
        while True:
            await self.serving.wait()
            try:
                return await call()
            except RpcError as error:
                if error.code not in LOST:
                    raise

    async def start_callers(self) -> None:
        """Starts one caller after the other."""
        while self.starting:
            name = f"caller-{len(self.callers)}"
            request = self._client.start_request(
                name, CALLERS, input=payloads(name), workflow_task_timeout={"seconds": 1}
            )
            await self.insist(lambda request=request: self._client.invoke(request))  # type: ignore[misc]
            self.callers.append(name)

    async def forever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Works on, whatever a crash does to one piece of it."""
        while True:
            await self.serving.wait()
            try:
                await work()
            except RpcError as error:
                if error.code not in LOST | STALE:
                    raise

    async def decide(self, queue_name: str, decide: Callable[[list[history.HistoryEvent]], Any]) -> None:
        """Completes one workflow task."""
        task = await self._client.poll_workflow_task(queue_name, timeout_s=4)
        if task.task_token:
            await self._client.complete_workflow_task(task.task_token, decide(list(task.history.events)))

    async def handle(self) -> None:
        """Starts the workflow that an operation is, and says that it runs."""
        task = await self._client.call(
            workflowservice.PollNexusTaskQueueRequest(namespace="default", task_queue=queue(HANDLERS)),
            workflowservice.PollNexusTaskQueueResponse,
            timeout_s=4,
        )
        if not task.task_token:
            return
        start = task.request.start_operation
        callback = common.Callback(
            nexus=common.Callback.Nexus(url=start.callback, header=dict(start.callback_header))
        )
        await self._client.start(
            f"echo-{start.request_id}",
            ECHOES,
            request_id=start.request_id,
            input=common.Payloads(payloads=[start.payload]),
            completion_callbacks=[callback],
            workflow_id_conflict_policy=_USE_EXISTING,
            workflow_id_reuse_policy=_REJECT,
            workflow_task_timeout={"seconds": 1},
            on_conflict_options=workflow.OnConflictOptions(
                attach_request_id=True, attach_completion_callbacks=True
            ),
        )
        response = nexus.StartOperationResponse(
            async_success=nexus.StartOperationResponse.Async(operation_token=f"echo-{start.request_id}")
        )
        await self._client.invoke(
            workflowservice.RespondNexusTaskCompletedRequest(
                namespace="default",
                task_token=task.task_token,
                response=nexus.Response(start_operation=response),
            )
        )


def _input(events: list[history.HistoryEvent]) -> common.Payloads:
    return events[0].workflow_execution_started_event_attributes.input


def call(events: list[history.HistoryEvent]) -> list[Any]:
    """A caller: schedules the operation, waits for it, returns."""
    types = {event.event_type for event in events}
    if _COMPLETED in types:
        return [complete_workflow()]
    if EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED in types:
        return []
    return [schedule_operation(input=_input(events).payloads[0])]


def echo(events: list[history.HistoryEvent]) -> list[Any]:
    """A workflow that returns its input."""
    return [complete_workflow(_input(events))]


async def run_load(db_path: Path, log_path: Path) -> int:
    """Runs the load through the crashes and checks every caller; returns how many there were."""
    moments = random.Random(SEED)
    async with (
        PerdureServer(db_path=db_path, log_path=log_path) as server,
        RawClient(server.address) as client,
    ):
        worker = nexus.EndpointTarget.Worker(namespace="default", task_queue=HANDLERS)
        spec = nexus.EndpointSpec(name="endpoint", target=nexus.EndpointTarget(worker=worker))
        await client.invoke(operatorservice.CreateNexusEndpointRequest(spec=spec))
        load = Load(client)
        starting = asyncio.create_task(load.start_callers())
        works: list[Callable[[], Awaitable[None]]] = [
            load.handle,
            lambda: load.decide(CALLERS, call),
            lambda: load.decide(ECHOES, echo),
        ]
        workers = [asyncio.create_task(load.forever(work)) for work in works for _ in range(3)]
        for _ in range(KILLS):
            moment = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(moments.uniform(0.05, LIVELY_S), moment.set_result, None)
            await moment
            load.serving.clear()
            await server.restart_after_kill()
            load.serving.set()
        load.starting = False
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            await starting
            for name in load.callers:
                await _ended(load, client, name)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for task in workers:
            assert task.cancelled() or task.exception() is None, task.exception()
        for name in load.callers:
            check(name, await client.history(name))
        return len(load.callers)


async def _ended(load: Load, client: RawClient, name: str) -> None:
    async def closing() -> workflowservice.GetWorkflowExecutionHistoryResponse:
        return await client.history_page(
            name,
            wait_new_event=True,
            history_event_filter_type=enums.HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
        )

    while not (await load.insist(closing)).history.events:
        pass


def check(name: str, events: list[history.HistoryEvent]) -> None:
    """A caller was told once, of its own result."""
    assert [event.event_id for event in events] == list(range(1, len(events) + 1)), name
    counted = Counter(event.event_type for event in events)
    for kind in ("SCHEDULED", "STARTED", "COMPLETED"):
        assert counted[EventType.Value(f"EVENT_TYPE_NEXUS_OPERATION_{kind}")] == 1, (name, kind)
    completed = next(event for event in events if event.event_type == _COMPLETED)
    assert completed.nexus_operation_completed_event_attributes.result == payload(name)


@pytest.mark.serial
@pytest.mark.timeout(300)
def test_operations_are_done_once_when_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    """Every caller that was acknowledged ends, told once of the result of its own operation."""
    assert asyncio.run(run_load(tmp_path / "perdure.db", tmp_path / "server.log")) >= KILLS
