"""Workflows through the official Python SDK: timers, signals, queries, cancellation, with and without cache."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import QueryWorkflowRequest
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHistory,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.common import (
    QueryRejectCondition,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    TerminatedError,
    WorkflowAlreadyStartedError,
)
from temporalio.exceptions import TimeoutError as TimedOut
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from tests.e2e.python_sdk import (
    SharedServer,
    events_of,
    eventually,
    history_names,
    new_worker,
    on_server,
    unique,
)
from tests.e2e.sdk_activities import ALL_ACTIVITIES
from tests.e2e.sdk_workflows import (
    COLOUR,
    WEIGHT,
    Broken,
    CancelledTimer,
    CleansUp,
    Collector,
    Deterministic,
    Fails,
    Labels,
    ManySteps,
    Repaired,
    Timers,
)

CACHE_SIZES = [pytest.param(0, id="no-cache"), pytest.param(1000, id="sticky")]
PARALLEL_STEPS = 60


@pytest.mark.parametrize("cache_size", CACHE_SIZES)
def test_timers_fire_in_the_order_of_their_times(shared_server: SharedServer, cache_size: int) -> None:
    """Timers started together fire by time, not by the order of their start."""

    async def scenario(client: Client) -> None:
        async with new_worker(client, workflows=[Timers], max_cached_workflows=cache_size) as worker:
            fired = await client.execute_workflow(
                Timers.run, [0.9, 0.1, 0.5], id=unique("timers"), task_queue=worker.task_queue
            )
        assert fired == [1, 2, 0]

    shared_server.run(scenario)


@on_server
async def test_cancelled_timer_is_recorded(client: Client) -> None:
    """A timer that the workflow gives up is cancelled in the history."""
    async with new_worker(client, workflows=[CancelledTimer]) as worker:
        handle = await client.start_workflow(
            CancelledTimer.run, id=unique("timer"), task_queue=worker.task_queue
        )
        assert await handle.result() == "given up"
        names = await history_names(handle)
    assert (names.count("TimerStarted"), names.count("TimerFired"), names.count("TimerCanceled")) == (2, 1, 1)


@pytest.mark.parametrize("cache_size", CACHE_SIZES)
def test_signals_arrive_once_and_in_order(shared_server: SharedServer, cache_size: int) -> None:
    """A hundred signals sent one after the other are seen in that order, none lost or doubled."""

    async def scenario(client: Client) -> None:
        async with new_worker(client, workflows=[Collector], max_cached_workflows=cache_size) as worker:
            handle = await client.start_workflow(
                Collector.run, id=unique("signals"), task_queue=worker.task_queue
            )
            wanted = [str(number) for number in range(100)]
            for item in wanted:
                await handle.signal(Collector.add, item)
            await handle.signal(Collector.stop)
            assert await handle.result() == wanted

    shared_server.run(scenario)


@on_server
async def test_signal_with_start_starts_once(client: Client) -> None:
    """The first call starts the workflow, the second reaches the running one; both signals are there."""
    async with new_worker(client, workflows=[Collector]) as worker:
        workflow_id = unique("signal-with-start")
        runs = []
        for item in ("first", "second"):
            handle = await client.start_workflow(
                Collector.run,
                id=workflow_id,
                task_queue=worker.task_queue,
                start_signal="add",
                start_signal_args=[item],
            )
            runs.append((await handle.describe()).run_id)
        await handle.signal(Collector.stop)
        assert await handle.result() == ["first", "second"]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("cache_size", CACHE_SIZES)
def test_query_while_running_and_after_the_end(shared_server: SharedServer, cache_size: int) -> None:
    """A query sees every signal acknowledged before it, and still answers when the workflow ended."""

    async def scenario(client: Client) -> None:
        async with new_worker(client, workflows=[Collector], max_cached_workflows=cache_size) as worker:
            handle = await client.start_workflow(
                Collector.run, id=unique("query"), task_queue=worker.task_queue
            )
            for count in range(1, 6):
                await handle.signal(Collector.add, str(count))
                assert await handle.query(Collector.items) == [str(each) for each in range(1, count + 1)]
            await handle.signal(Collector.stop)
            await handle.result()
            assert len(await handle.query(Collector.items)) == 5

    shared_server.run(scenario)


@on_server
async def test_queries_leave_no_event(client: Client) -> None:
    """Queries of an idle workflow do not change its history."""
    async with new_worker(client, workflows=[Collector]) as worker:
        handle = await client.start_workflow(Collector.run, id=unique("query"), task_queue=worker.task_queue)
        await handle.query(Collector.items)
        before = await events_of(handle)
        for _ in range(5):
            await handle.query(Collector.items)
        assert await events_of(handle) == before
        await handle.signal(Collector.stop)
        await handle.result()


@on_server
async def test_failing_and_unknown_queries_are_errors_of_the_query(client: Client) -> None:
    """A handler's failure and an unknown query reach the caller and leave the workflow alone."""
    async with new_worker(client, workflows=[Collector]) as worker:
        handle = await client.start_workflow(Collector.run, id=unique("query"), task_queue=worker.task_queue)
        with pytest.raises(WorkflowQueryFailedError, match="this query never works"):
            await handle.query(Collector.broken)
        with pytest.raises(WorkflowQueryFailedError, match=r"(?i)not found|unknown|nowhere"):
            await handle.query("nowhere")
        await handle.signal(Collector.stop)
        await handle.result()
        with pytest.raises(WorkflowQueryFailedError, match="this query never works"):
            await handle.query(Collector.broken)


@on_server
async def test_query_is_rejected_by_condition(client: Client) -> None:
    """A query that wants an open workflow is rejected with the status of the closed one."""
    async with new_worker(client, workflows=[Collector]) as worker:
        handle = await client.start_workflow(Collector.run, id=unique("query"), task_queue=worker.task_queue)
        await handle.signal(Collector.stop)
        await handle.result()
        with pytest.raises(WorkflowQueryRejectedError) as raised:
            await handle.query(Collector.items, reject_condition=QueryRejectCondition.NOT_OPEN)
    assert raised.value.status == WorkflowExecutionStatus.COMPLETED


@on_server
async def test_query_without_worker_ends_with_an_error(client: Client) -> None:
    """Nobody can answer: the caller gets a typed error by its deadline, not an answer."""
    handle = await client.start_workflow(Collector.run, id=unique("query"), task_queue=unique("nobody"))
    request = QueryWorkflowRequest(namespace=client.namespace)
    request.execution.workflow_id = handle.id
    request.query.query_type = "items"
    with pytest.raises(RPCError) as raised:
        await client.workflow_service.query_workflow(request, timeout=timedelta(seconds=2))
    assert raised.value.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
    await handle.terminate()


@pytest.mark.parametrize("swallow", [False, True], ids=["ends-cancelled", "ends-completed"])
@pytest.mark.parametrize("cache_size", CACHE_SIZES)
def test_cancellation_lets_the_workflow_clean_up(
    shared_server: SharedServer, cache_size: int, swallow: bool
) -> None:
    """A cancelled workflow runs its cleanup activity and ends as it chooses."""

    async def scenario(client: Client) -> None:
        async with new_worker(
            client, workflows=[CleansUp], activities=ALL_ACTIVITIES, max_cached_workflows=cache_size
        ) as worker:
            handle = await client.start_workflow(
                CleansUp.run, swallow, id=unique("cancel"), task_queue=worker.task_queue
            )
            await eventually("first task done", lambda: _has_event(handle, "WorkflowTaskCompleted"))
            await handle.cancel()
            await handle.cancel()
            if swallow:
                assert await handle.result() == "Hello, cleanup!"
            else:
                with pytest.raises(WorkflowFailureError) as raised:
                    await handle.result()
                assert isinstance(raised.value.cause, CancelledError)
            names = await history_names(handle)
            assert names.count("WorkflowExecutionCancelRequested") == 1
            assert names.count("ActivityTaskCompleted") == 1

    shared_server.run(scenario)


async def _has_event(handle: Any, name: str) -> bool:
    return name in await history_names(handle)


@on_server
async def test_termination_carries_reason_and_details(client: Client) -> None:
    """A terminated workflow ends at once, without a worker, with the reason that was given."""
    handle = await client.start_workflow(Collector.run, id=unique("terminate"), task_queue=unique("nobody"))
    await handle.terminate("a detail", reason="no longer wanted")
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    assert isinstance(raised.value.cause, TerminatedError)
    assert raised.value.cause.message == "no longer wanted"
    assert (await handle.describe()).status == WorkflowExecutionStatus.TERMINATED
    for late in (handle.signal(Collector.stop), handle.terminate()):
        with pytest.raises(RPCError) as refused:
            await late
        assert refused.value.status == RPCStatusCode.NOT_FOUND


@on_server
async def test_failure_carries_type_message_and_details(client: Client) -> None:
    """A workflow's own failure reaches the caller with everything in it."""
    async with new_worker(client, workflows=[Fails]) as worker:
        with pytest.raises(WorkflowFailureError) as raised:
            await client.execute_workflow(
                Fails.run, "Purpose", id=unique("fails"), task_queue=worker.task_queue
            )
    cause = raised.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message, list(cause.details)) == (
        "Purpose",
        "failed on purpose",
        [{"code": 17}],
    )


@on_server
async def test_bug_in_the_workflow_code_is_repaired_by_a_new_worker(client: Client) -> None:
    """A failing workflow task is retried until a worker with repaired code takes it."""
    queue = unique("repair")
    async with new_worker(client, workflows=[Broken], task_queue=queue):
        handle = await client.start_workflow(
            "Repaired", id=unique("repair"), task_queue=queue, task_timeout=timedelta(seconds=2)
        )
        await eventually("a failed workflow task", lambda: _has_event(handle, "WorkflowTaskFailed"))
    async with new_worker(client, workflows=[Repaired], task_queue=queue):
        assert await handle.result() == "repaired"
    events = await events_of(handle)
    failed = [each for each in events if each.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
    assert len(failed) == 1
    assert "a bug" in failed[0].workflow_task_failed_event_attributes.failure.message


@on_server
async def test_workflow_timeouts_close_the_workflow(client: Client) -> None:
    """The run timeout ends a workflow that nobody works on."""
    handle = await client.start_workflow(
        Collector.run, id=unique("timeout"), task_queue=unique("nobody"), run_timeout=timedelta(seconds=1)
    )
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    assert isinstance(raised.value.cause, TimedOut)
    assert (await handle.describe()).status == WorkflowExecutionStatus.TIMED_OUT


@on_server
async def test_id_policies(client: Client) -> None:
    """A running id is refused, shared or replaced as the conflict policy says; a closed id as the reuse policy says."""
    workflow_id, queue = unique("policies"), unique("nobody")

    async def start(**options: Any) -> str:
        handle = await client.start_workflow(Collector.run, id=workflow_id, task_queue=queue, **options)
        return handle.first_execution_run_id or ""

    first = await start()
    with pytest.raises(WorkflowAlreadyStartedError) as running:
        await start()
    assert running.value.run_id == first
    assert await start(id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING) == first
    second = await start(id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING)
    assert second != first
    assert (await client.get_workflow_handle(workflow_id, run_id=first).describe()).status == (
        WorkflowExecutionStatus.TERMINATED
    )
    await client.get_workflow_handle(workflow_id).terminate()
    with pytest.raises(WorkflowAlreadyStartedError):
        await start(id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE)
    third = await start(id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)
    assert third not in (first, second)
    await client.get_workflow_handle(workflow_id).terminate()


@on_server
async def test_start_delay_holds_the_first_task_back(client: Client) -> None:
    """The first workflow task is scheduled only after the delay."""
    async with new_worker(client, workflows=[CancelledTimer]) as worker:
        handle = await client.start_workflow(
            CancelledTimer.run,
            id=unique("delay"),
            task_queue=worker.task_queue,
            start_delay=timedelta(seconds=1),
        )
        await handle.result()
        events = await events_of(handle)
    waited_s = (events[1].event_time.ToNanoseconds() - events[0].event_time.ToNanoseconds()) / 1e9
    assert waited_s >= 1.0


@on_server
async def test_eager_start_gives_the_first_task_with_the_answer(client: Client) -> None:
    """A start that asks for it brings the first workflow task to the worker in the same process."""
    async with new_worker(client, workflows=[CancelledTimer]) as worker:
        handle = await client.start_workflow(
            CancelledTimer.run,
            id=unique("eager"),
            task_queue=worker.task_queue,
            request_eager_start=True,
        )
        assert await handle.result() == "given up"
        assert handle.__temporal_eagerly_started
        started = (await events_of(handle))[0].workflow_execution_started_event_attributes
        assert started.eager_execution_accepted


@pytest.mark.parametrize("cache_size", CACHE_SIZES)
def test_long_history_is_paged_and_replayed(shared_server: SharedServer, cache_size: int) -> None:
    """More than 300 events: a worker that never saw the run continues it, and pages join to the whole."""

    async def scenario(client: Client) -> None:
        queue, half = unique("long"), sum(2 * number for number in range(PARALLEL_STEPS))
        options: dict[str, Any] = {
            "workflows": [ManySteps],
            "activities": ALL_ACTIVITIES,
            "task_queue": queue,
            "max_cached_workflows": cache_size,
        }
        async with new_worker(client, **options):
            handle = await client.start_workflow(
                ManySteps.run, PARALLEL_STEPS, id=unique("long"), task_queue=queue
            )
            await eventually("the first half", lambda: _answers(handle, half))
        async with new_worker(client, **options):
            await handle.signal(ManySteps.go_on)
            assert await handle.result() == 2 * half
            assert await handle.query(ManySteps.total) == 2 * half
        whole = await events_of(handle)
        paged = [event async for event in handle.fetch_history_events(page_size=37)]
        assert len(whole) > 300
        assert [event.event_id for event in whole] == list(range(1, len(whole) + 1))
        assert paged == whole

    shared_server.run(scenario)


async def _answers(handle: Any, total: int) -> bool:
    return bool(await handle.query(ManySteps.total) == total)


@pytest.mark.parametrize("cache_size", CACHE_SIZES)
def test_replay_sees_the_same_random_numbers_ids_and_times(
    shared_server: SharedServer, cache_size: int
) -> None:
    """What a workflow read before a wait is the same after it, replayed from the history or not."""

    async def scenario(client: Client) -> None:
        async with new_worker(
            client, workflows=[Deterministic], activities=ALL_ACTIVITIES, max_cached_workflows=cache_size
        ) as worker:
            handle = await client.start_workflow(
                Deterministic.run, id=unique("deterministic"), task_queue=worker.task_queue
            )
            assert await handle.result() == [True, True, True, True]
            history = await handle.fetch_history()
        copy = WorkflowHistory.from_json(history.workflow_id, history.to_json())
        await Replayer(workflows=[Deterministic]).replay_workflow(copy)

    shared_server.run(scenario)


@on_server
async def test_worker_that_left_hands_its_cached_workflow_over(client: Client) -> None:
    """A workflow cached by a worker that stopped is continued by another one, without waiting for a timeout."""
    queue = unique("handover")
    async with new_worker(client, workflows=[Collector], task_queue=queue):
        handle = await client.start_workflow(Collector.run, id=unique("handover"), task_queue=queue)
        await handle.signal(Collector.add, "one")
        assert await handle.query(Collector.items) == ["one"]
    async with new_worker(client, workflows=[Collector], task_queue=queue):
        await handle.signal(Collector.add, "two")
        await handle.signal(Collector.stop)
        assert await asyncio.wait_for(handle.result(), 5) == ["one", "two"]


@on_server
async def test_search_attributes_and_memo_follow_upserts(client: Client) -> None:
    """What a workflow upserts is described; a removed attribute and memo field are gone."""
    async with new_worker(client, workflows=[Labels]) as worker:
        handle = await client.start_workflow(
            Labels.run,
            id=unique("labels"),
            task_queue=worker.task_queue,
            memo={"kept": 1, "gone": 2},
            search_attributes=TypedSearchAttributes([SearchAttributePair(COLOUR, "blue")]),
        )
        await eventually("upserted", lambda: _has_event(handle, "UpsertWorkflowSearchAttributes"))
        await eventually("memo changed", lambda: _has_event(handle, "WorkflowPropertiesModified"))
        description = await handle.describe()
        assert description.typed_search_attributes.get(COLOUR) == "red"
        assert description.typed_search_attributes.get(WEIGHT) == 5
        assert await description.memo() == {"kept": 1, "note": "changed"}
        await handle.signal(Labels.done)
        await handle.result()
        assert (await handle.describe()).typed_search_attributes.get(COLOUR) is None
