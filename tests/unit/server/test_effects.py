"""Effects between runs on a whole server: after a crash, before a deletion, many at once, and ids that are in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from perdure.core.errors import UnavailableError
from perdure.core.run.records import QueueKey, RunKey, Task, TaskKey, TaskKind
from perdure.server.config import ServerConfig
from perdure.server.engine import effects, timers
from perdure.server.engine.effects import Effects
from perdure.server.engine.matching import Poller
from perdure.server.runtime import SystemRuntime
from perdure.server.server import Server
from perdure.store.memory import MemoryStore
from tests.support.builders import (
    cancel_external,
    complete_workflow,
    payloads,
    queue,
    signal_external,
    start_child,
)
from tests.support.proto import command, common, enums, history, workflowservice
from tests.unit.server.local_client import LocalClient, serving
from tests.unit.server.support import run

EventType = enums.EventType
CHILD_QUEUE = "children"
_COMPLETED = "WORKFLOW_TASK_COMPLETED"


class _LastingStore(MemoryStore):
    """A store in memory that outlives its server."""

    async def close(self) -> None:
        """The next server goes on with it."""


@asynccontextmanager
async def served(store: MemoryStore, *, delivers: bool = True) -> AsyncIterator[LocalClient]:
    """A server over this store; one that does not deliver stands for one that crashes before it can."""
    server = Server(store, ServerConfig(port=0), SystemRuntime(), "memory")

    async def unable(run: RunKey) -> None:
        raise UnavailableError("this server delivers nothing")

    if not delivers:
        server.engine.deliver_effects = unable
    await server.start()
    try:
        yield LocalClient(server)
    finally:
        await server.stop(0)


async def step(client: LocalClient, queue_name: str, *commands: command.Command) -> None:
    """Completes the next workflow task of a queue."""
    task = await client.poll_workflow_task(queue(queue_name))
    assert task.task_token, f"no task on {queue_name}"
    await client.complete_workflow_task(task.task_token, commands)


async def types(client: LocalClient, workflow_id: str) -> list[str]:
    """The types of a workflow's events."""
    events: list[history.HistoryEvent] = await client.history(workflow_id)
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in events]


def test_what_a_crash_left_undone_is_done_by_the_next_server() -> None:
    """A child to be started, a signal to be sent, then the news of the child's end."""

    async def scenario() -> None:
        store = _LastingStore()
        async with served(store, delivers=False) as client:
            await client.start("other", "other")
            await client.start("parent", "parents")
            child = start_child("child", task_queue=queue(CHILD_QUEUE))
            await step(client, "parents", child, signal_external("other"))
            assert "CHILD_WORKFLOW_EXECUTION_STARTED" not in await types(client, "parent")
        async with served(store) as client:
            while "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED" not in await types(client, "parent"):
                await step(client, "parents")
            assert "WORKFLOW_EXECUTION_SIGNALED" in await types(client, "other")
        async with served(store, delivers=False) as client:
            await step(client, CHILD_QUEUE, complete_workflow(payloads("done")))
            assert "CHILD_WORKFLOW_EXECUTION_COMPLETED" not in await types(client, "parent")
        async with served(store) as client:
            while "CHILD_WORKFLOW_EXECUTION_COMPLETED" not in await types(client, "parent"):
                await step(client, "parents")
            found = await types(client, "parent")
            assert found.count("CHILD_WORKFLOW_EXECUTION_STARTED") == 1
            assert found.count("CHILD_WORKFLOW_EXECUTION_COMPLETED") == 1
            assert found.count("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED") == 1

    run(scenario())


def test_a_deleted_child_has_told_its_parent_before() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.start("parent", "parents")
            await step(client, "parents", start_child("child", task_queue=queue(CHILD_QUEUE)))
            await step(client, "parents")
            await client.invoke(
                workflowservice.DeleteWorkflowExecutionRequest(
                    namespace="default", workflow_execution=common.WorkflowExecution(workflow_id="child")
                )
            )
            assert "CHILD_WORKFLOW_EXECUTION_TERMINATED" in await types(client, "parent")

    run(scenario())


def test_children_that_end_together_are_told_of_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many ends at once are few transitions of the parent; a batch is bounded."""
    monkeypatch.setattr(effects, "TOLD_AT_ONCE", 8)
    count = 20

    async def scenario() -> None:
        async with serving() as client:
            await client.start("parent", "parents")
            children = [start_child(f"c{n}", task_queue=queue(CHILD_QUEUE)) for n in range(count)]
            await step(client, "parents", *children)
            task = await client.poll_workflow_task(queue("parents"))
            for number in range(count):
                await client.terminate(f"c{number}")
            while (await client.describe("parent")).pending_children:
                await asyncio.sleep(0)
            await client.complete_workflow_task(task.task_token, [])
            found = await types(client, "parent")
            assert found.count("CHILD_WORKFLOW_EXECUTION_TERMINATED") == count

    run(scenario())


async def _parent_of_two(client: LocalClient) -> workflowservice.ResetWorkflowExecutionRequest:
    """A parent whose children have started; returns how to reset it to a point after that."""
    started = await client.start("parent", "parents")
    children = [start_child(name, task_queue=queue(CHILD_QUEUE)) for name in ("c1", "c2")]
    await step(client, "parents", *children)
    await step(client, "parents")
    finished = [number for number, name in enumerate(await types(client, "parent"), 1) if name == _COMPLETED]
    return workflowservice.ResetWorkflowExecutionRequest(
        namespace="default",
        workflow_execution=common.WorkflowExecution(workflow_id="parent", run_id=started.run_id),
        workflow_task_finish_event_id=finished[-1],
        request_id="reset",
    )


def test_a_child_tells_what_its_parent_was_reset_into_when_the_parent_is_deleted() -> None:
    """A child may outlive the run that started it, of which nothing says any more what it was reset into."""

    async def scenario() -> None:
        async with serving() as client:
            reset = await _parent_of_two(client)
            await client.invoke(reset)
            await client.invoke(
                workflowservice.DeleteWorkflowExecutionRequest(
                    namespace="default", workflow_execution=reset.workflow_execution
                )
            )
            await client.terminate("c1")
            while len((await client.describe("parent")).pending_children) > 1:
                await asyncio.sleep(0)
            assert "CHILD_WORKFLOW_EXECUTION_TERMINATED" in await types(client, "parent")

    run(scenario())


def test_a_parent_that_is_reset_while_its_children_end_hears_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that waits has been found, and is reset before it is told: by the child that leads and one that joins."""
    find = Effects._parent
    resets: list[workflowservice.ResetWorkflowExecutionRequest] = []
    found_both = asyncio.Event()
    finders = 0

    async def scenario() -> None:
        async with serving() as client:
            resets.append(await _parent_of_two(client))

            async def reset_when_found(self: Effects, child: RunKey) -> RunKey:
                nonlocal finders
                found = await find(self, child)
                finders += 1
                if finders == 2:
                    await client.invoke(resets.pop())
                    found_both.set()
                await found_both.wait()
                return found

            monkeypatch.setattr(Effects, "_parent", reset_when_found)
            await asyncio.gather(client.terminate("c1"), client.terminate("c2"))
            while finders < 4 or (await client.describe("parent")).pending_children:
                await asyncio.sleep(0)
            assert (await types(client, "parent")).count("CHILD_WORKFLOW_EXECUTION_TERMINATED") == 2

    run(scenario())


def test_two_children_of_one_id_in_one_task() -> None:
    """The first is started; the second finds the id in use."""

    async def scenario() -> None:
        async with serving() as client:
            await client.start("parent", "parents")
            twice = start_child("same", task_queue=queue(CHILD_QUEUE))
            await step(client, "parents", twice, twice)
            while "START_CHILD_WORKFLOW_EXECUTION_FAILED" not in await types(client, "parent"):
                await step(client, "parents")
            assert (await types(client, "parent")).count("CHILD_WORKFLOW_EXECUTION_STARTED") == 1

    run(scenario())


def test_a_child_cannot_replace_its_own_parent() -> None:
    async def scenario() -> None:
        async with serving() as client:
            await client.start("parent", "parents")
            policy = enums.WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING
            await step(client, "parents", start_child("parent", workflow_id_reuse_policy=policy))
            await step(client, "parents", complete_workflow())
            assert "START_CHILD_WORKFLOW_EXECUTION_FAILED" in await types(client, "parent")

    run(scenario())


def test_workflows_that_signal_and_cancel_each_other_do_not_wait_for_each_other() -> None:
    """Both ways at the same time: locks are taken in one order."""

    async def scenario() -> None:
        async with serving() as client:
            for name in ("a", "b"):
                await client.start(name, name)
            tasks = {name: await client.poll_workflow_task(queue(name)) for name in ("a", "b")}
            for name, other in (("a", "b"), ("b", "a")):
                sent = [signal_external(other), cancel_external(other)] * 5
                await client.complete_workflow_task(tasks[name].task_token, sent)
            for name in ("a", "b"):
                while (await types(client, name)).count("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED") < 5:
                    await step(client, name)

    run(scenario())


def test_an_effect_that_cannot_be_delivered_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "RETRY_S", 0.01)

    async def scenario() -> None:
        async with serving() as client:
            engine = client.server.engine
            deliver = engine.deliver_effects
            assert deliver is not None
            tried = 0

            async def moody(run: RunKey) -> None:
                nonlocal tried
                tried += 1
                if tried < 3:
                    raise UnavailableError("not now")
                assert deliver is not None
                await deliver(run)

            engine.deliver_effects = moody
            await client.start("parent", "parents")
            await step(client, "parents", start_child("child", task_queue=queue(CHILD_QUEUE)))
            await step(client, CHILD_QUEUE)
            assert tried == 3

    run(scenario())


def test_a_poller_that_is_released_gets_what_came_while_it_was_reserved() -> None:
    async def scenario() -> None:
        async with serving() as client:
            matching = client.server.engine.matching
            namespace_id = client.server.namespaces.get("default").namespace_id
            key = QueueKey(namespace_id, "q", TaskKind.WORKFLOW)
            some = Task(RunKey(namespace_id, "w", "r"), TaskKey(TaskKind.WORKFLOW, 2), key, 1)
            polling = asyncio.ensure_future(client.poll_workflow_task(queue("q")))
            while (poller := matching.reserve(some)) is None:
                await asyncio.sleep(0)
            assert isinstance(poller, Poller)
            await client.start("w", "q")
            matching.release(some, poller)
            assert (await polling).workflow_execution.workflow_id == "w"

    run(scenario())
