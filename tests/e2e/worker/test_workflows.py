"""Workflow tasks: cache, queries, updates, local activities, blocked code, unknown workflows, eager starts, replay."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.api.enums.v1 import EventType
from perdure.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowQueryFailedError,
)
from perdure.exceptions import TerminatedError
from perdure.worker import Replayer, Worker, WorkerValidationError
from perdure.workflow import NondeterminismError
from tests.e2e.python_sdk import eventually, unique
from tests.e2e.worker.targets import Target, on_every_target
from tests.e2e.worker.workflows import Call, Counter, RunActivity, echo


async def _names(handle: WorkflowHandle[Any, Any]) -> list[str]:
    history = await handle.fetch_history()
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events]


@contextmanager
def _warnings_of(name: str) -> Iterator[list[str]]:
    """The warnings that a logger says meanwhile."""
    records: list[logging.LogRecord] = []
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    logging.getLogger(name).addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger(name).removeHandler(handler)
        lines += [record.getMessage() for record in records]


@on_every_target
async def test_signals_queries_and_updates_arrive(client: Client) -> None:
    queue = unique("counter")
    async with Worker(client, task_queue=queue, workflows=[Counter]):
        handle = await client.start_workflow(Counter.run, id=queue, task_queue=queue)
        await handle.signal(Counter.add, 2)
        assert await handle.execute_update(Counter.add_and_get, 3) == 5
        assert await handle.query(Counter.count) == 5
        await handle.signal(Counter.finish)
        assert await handle.result() == 5
        assert await handle.query(Counter.count) == 5


@on_every_target
async def test_without_a_cache_every_task_replays(client: Client) -> None:
    queue = unique("uncached")
    async with Worker(client, task_queue=queue, workflows=[Counter], max_cached_workflows=0):
        handle = await client.start_workflow(Counter.run, id=queue, task_queue=queue)
        for number in range(3):
            await handle.signal(Counter.add, number)
            assert await handle.query(Counter.count) == sum(range(number + 1))
        await handle.signal(Counter.finish)
        assert await handle.result() == 3


@on_every_target
async def test_a_cache_that_is_too_small_changes_nothing(client: Client) -> None:
    """More workflows than places, in turns: each is replayed from its history when it is needed."""
    queue = unique("small")
    async with Worker(client, task_queue=queue, workflows=[Counter], max_cached_workflows=2):
        handles = [
            await client.start_workflow(Counter.run, id=f"{queue}-{i}", task_queue=queue) for i in range(6)
        ]
        for _ in range(3):
            for handle in handles:
                await handle.signal(Counter.add, 1)
        assert [await handle.query(Counter.count) for handle in handles] == [3] * 6
        for handle in handles:
            await handle.signal(Counter.finish)
        assert [await handle.result() for handle in handles] == [3] * 6


@on_every_target
async def test_a_local_activity_outlives_a_workflow_task(client: Client) -> None:
    await _outlive_a_workflow_task(client, max_cached_workflows=100)


@on_every_target
async def test_a_local_activity_outlives_a_workflow_task_without_a_cache(client: Client) -> None:
    await _outlive_a_workflow_task(client, max_cached_workflows=0)


async def _outlive_a_workflow_task(client: Client, max_cached_workflows: int) -> None:
    """Its workflow task is kept alive with heartbeats until it ends, questions are answered, and it runs once."""
    queue = unique("local")
    may_end, calls = asyncio.Event(), 0

    @activity.defn
    async def slow() -> str:
        nonlocal calls
        calls += 1
        await may_end.wait()
        return activity.info().activity_type if activity.info().is_local else "not local"

    async with Worker(
        client,
        task_queue=queue,
        workflows=[RunActivity],
        activities=[slow],
        max_cached_workflows=max_cached_workflows,
    ):
        handle = await client.start_workflow(
            RunActivity.run,
            Call("slow", is_local=True),
            id=queue,
            task_queue=queue,
            # The worker says that it is alive after four fifths of it: the rest is what a busy machine may take.
            task_timeout=timedelta(seconds=5),
        )

        async def was_kept_alive() -> bool:
            return (await _names(handle)).count("WORKFLOW_TASK_COMPLETED") >= 2

        await eventually("the workflow task was kept alive", was_kept_alive)
        assert await handle.query("__temporal_workflow_metadata")
        may_end.set()
        assert await handle.result() == "slow"
    assert calls == 1
    assert "WORKFLOW_TASK_TIMED_OUT" not in await _names(handle)


@on_every_target
async def test_a_local_activity_is_repeated(client: Client) -> None:
    queue = unique("localretry")

    @activity.defn
    async def third_time() -> int:
        if activity.info().attempt < 3:
            raise RuntimeError("not yet")
        return activity.info().attempt

    async with Worker(client, task_queue=queue, workflows=[RunActivity], activities=[third_time]):
        call = Call("third_time", attempts=5, is_local=True)
        assert await client.execute_workflow(RunActivity.run, call, id=queue, task_queue=queue) == 3


@workflow.defn
class Talkative:
    """Answers more than a message may hold."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def everything(self) -> str:
        return "x" * 5_000_000


# Inside a process nothing limits the size of a message.
@pytest.mark.parametrize("target", ["perdure", "official"], indirect=True)
@on_every_target
async def test_a_question_with_too_large_an_answer_fails_and_the_run_goes_on(client: Client) -> None:
    """Whether it comes with the first task or alone: the servers end runs whose own answer is too large."""
    queue = unique("talkative")
    handle = await client.start_workflow(Talkative.run, id=queue, task_queue=queue)
    async with Worker(client, task_queue=queue, workflows=[Talkative]):
        for _ in range(2):
            with pytest.raises(WorkflowQueryFailedError, match=r"(?i)too large|larger than|exceeds"):
                await handle.query(Talkative.everything, rpc_timeout=timedelta(seconds=20))
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await handle.terminate()


@workflow.defn
class AsksForTooMuch:
    """Starts an activity with more than a message may hold."""

    @workflow.run
    async def run(self) -> None:
        for part in range(4):
            workflow.start_activity(echo, "x" * 1_500_000, start_to_close_timeout=timedelta(seconds=part + 1))
        await workflow.wait_condition(lambda: False)


@pytest.mark.parametrize("target", ["perdure", "official"], indirect=True)
@on_every_target
async def test_a_task_too_large_to_send_is_logged_as_the_end_of_its_run(client: Client) -> None:
    """No attempt can succeed, so the servers terminate the run, and nothing is said of another one."""
    queue = unique("toomuch")
    with _warnings_of("perdure.worker") as lines:
        async with Worker(client, task_queue=queue, workflows=[AsksForTooMuch], activities=[echo]):
            with pytest.raises(WorkflowFailureError) as failure:
                await client.execute_workflow(AsksForTooMuch.run, id=queue, task_queue=queue)
    assert isinstance(failure.value.cause, TerminatedError)
    [line] = lines
    assert "(task attempt 1, the server ends the workflow): " in line


@workflow.defn
class Blocks:
    """Blocks its thread until it is let go."""

    gate = threading.Event()

    @workflow.run
    async def run(self) -> str:
        with workflow.unsafe.sandbox_unrestricted():
            Blocks.gate.wait(20)
        return "went on"


@on_every_target
async def test_code_that_blocks_fails_its_task_with_its_stack(client: Client) -> None:
    """Others go on afterwards; the failure in history shows where the code stands."""
    queue = unique("blocks")
    Blocks.gate.clear()
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Blocks, Counter],
        deadlock_timeout=timedelta(milliseconds=300),
    ):
        handle = await client.start_workflow(
            Blocks.run, id=queue, task_queue=queue, task_timeout=timedelta(seconds=2)
        )
        other = await client.start_workflow(Counter.run, id=f"{queue}-other", task_queue=queue)

        async def has_failed() -> bool:
            return "WORKFLOW_TASK_FAILED" in await _names(handle)

        await eventually("the workflow task failed", has_failed)
        assert await other.query(Counter.count) == 0
        history = await handle.fetch_history()
        [failed] = [
            event for event in history.events if event.HasField("workflow_task_failed_event_attributes")
        ]
        failure = failed.workflow_task_failed_event_attributes.failure
        assert "Potential deadlock detected" in failure.message
        assert "Blocks.gate.wait" in failure.stack_trace
        Blocks.gate.set()
        assert await handle.result() == "went on"


@on_every_target
async def test_an_unknown_workflow_is_named_with_those_that_are_known(client: Client) -> None:
    queue = unique("unknown")
    async with Worker(client, task_queue=queue, workflows=[Counter]):
        handle = await client.start_workflow("Cuonter", id=queue, task_queue=queue)

        async def has_failed() -> bool:
            return "WORKFLOW_TASK_FAILED" in await _names(handle)

        await eventually("the workflow task failed", has_failed)
        history = await handle.fetch_history()
        [failed] = [
            event for event in history.events if event.HasField("workflow_task_failed_event_attributes")
        ]
        message = failed.workflow_task_failed_event_attributes.failure.message
        assert message == (
            "Workflow class Cuonter is not registered on this worker, available workflows: Counter. "
            "Pass it to Worker(workflows=[...])"
        )
        await handle.terminate()


@on_every_target
async def test_a_failed_attempt_is_one_line(client: Client) -> None:
    """The line names the error, the activity, the attempt, what comes next and the workflow."""
    queue = unique("oneline")

    @activity.defn
    async def fails_once() -> str:
        if activity.info().attempt == 1:
            raise ValueError("no\nluck")
        return "luck"

    with _warnings_of("perdure.activity") as lines:
        async with Worker(client, task_queue=queue, workflows=[RunActivity], activities=[fails_once]):
            call = Call("fails_once", attempts=2)
            await client.execute_workflow(RunActivity.run, call, id=queue, task_queue=queue)
    [line] = lines
    assert "\n" not in line
    for part in ("ValueError: no luck", "fails_once", "attempt 1", "next attempt in 0.01 s", queue):
        assert part in line


@on_every_target
async def test_a_first_task_comes_with_the_answer_to_the_start(client: Client) -> None:
    queue = unique("eager")
    async with Worker(client, task_queue=queue, workflows=[RunActivity], activities=[echo]):
        handle = await client.start_workflow(
            RunActivity.run, Call("echo", ["now"]), id=queue, task_queue=queue, request_eager_start=True
        )
        assert getattr(handle, "__temporal_eagerly_started")
        assert await handle.result() == "now"
    assert (await _names(handle)).count("WORKFLOW_TASK_SCHEDULED") == 2


@on_every_target
async def test_code_runs_on_the_loops_own_thread_unless_a_pool_is_given(client: Client) -> None:
    """In debug mode always."""
    with ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
        for is_debugged, executor, place in (
            (False, None, "MainThread"),
            (True, pool, "MainThread"),
            (False, pool, "mine"),
        ):
            queue = unique("thread")
            async with Worker(
                client,
                task_queue=queue,
                workflows=[WhichThread],
                debug_mode=is_debugged,
                workflow_task_executor=executor,
            ):
                name = await client.execute_workflow(WhichThread.run, id=queue, task_queue=queue)
                assert name.startswith(place)


@workflow.defn
class WhichThread:
    """Says in which thread it runs."""

    @workflow.run
    async def run(self) -> str:
        return threading.current_thread().name


@workflow.defn(name="Counter")
class ChangedCounter:
    """The counter, changed so that it no longer fits its histories."""

    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_activity("echo", 1, start_to_close_timeout=timedelta(seconds=5))


@on_every_target
async def test_a_history_replays_with_its_code_and_not_with_other_code(client: Client) -> None:
    """From JSON too, as the command line and the web UI save it."""
    queue = unique("replay")
    async with Worker(client, task_queue=queue, workflows=[Counter]):
        handle = await client.start_workflow(Counter.run, id=queue, task_queue=queue)
        await handle.signal(Counter.add, 2)
        await handle.signal(Counter.finish)
        await handle.result()
    history = WorkflowHistory.from_json(queue, (await handle.fetch_history()).to_json())
    result = await Replayer(workflows=[Counter]).replay_workflow(history)
    assert result.replay_failure is None
    with pytest.raises(NondeterminismError, match="ScheduleActivity"):
        await Replayer(workflows=[ChangedCounter]).replay_workflow(history)


def test_a_missing_namespace_is_named_with_what_to_do(target: Target) -> None:
    async def scenario(_: Client) -> None:
        async with await Client.connect(target.address, namespace="nowhere") as client:
            worker = Worker(client, task_queue="q", workflows=[Counter])
            with pytest.raises(WorkerValidationError, match="no namespace 'nowhere'.*namespace create"):
                await worker.run()
            assert worker.is_shutdown

    target.run(scenario)
