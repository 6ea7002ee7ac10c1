"""Activities through the official Python SDK: results, retries, heartbeats, timeouts, cancellation, completion."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    RetryState,
    TimeoutType,
)
from temporalio.exceptions import TimeoutError as TimedOut

from tests.e2e.python_sdk import (
    event_names,
    events_of,
    eventually,
    history_names,
    new_worker,
    on_server,
    unique,
)
from tests.e2e.sdk_activities import ALL_ACTIVITIES, Elsewhere, Gate
from tests.e2e.sdk_workflows import ActivityCall, CancelActivity, LocalActivity, RunActivity

ONE_ACTIVITY_EVENTS = [
    "WorkflowExecutionStarted",
    "WorkflowTaskScheduled",
    "WorkflowTaskStarted",
    "WorkflowTaskCompleted",
    "ActivityTaskScheduled",
    "ActivityTaskStarted",
    "ActivityTaskCompleted",
    "WorkflowTaskScheduled",
    "WorkflowTaskStarted",
    "WorkflowTaskCompleted",
    "WorkflowExecutionCompleted",
]


async def _run(client: Client, call: ActivityCall) -> tuple[Any, WorkflowHandle[RunActivity, Any]]:
    async with new_worker(client, workflows=[RunActivity], activities=ALL_ACTIVITIES) as worker:
        handle = await client.start_workflow(
            RunActivity.run, call, id=unique("activity"), task_queue=worker.task_queue
        )
        return await handle.result(), handle


async def _failure(client: Client, call: ActivityCall) -> ActivityError:
    with pytest.raises(WorkflowFailureError) as raised:
        await _run(client, call)
    assert isinstance(raised.value.cause, ActivityError)
    return raised.value.cause


@on_server
async def test_async_activity_answers(client: Client) -> None:
    """An async activity's result reaches the workflow and its history is the usual one."""
    result, handle = await _run(client, ActivityCall("greet", ["Ada"]))
    assert result == "Hello, Ada!"
    assert await history_names(handle) == ONE_ACTIVITY_EVENTS


@on_server
async def test_sync_activity_answers(client: Client) -> None:
    """An activity in a thread works the same."""
    result, _ = await _run(client, ActivityCall("double", [21]))
    assert result == 42


@on_server
async def test_retried_activity_has_one_started_event_with_the_last_attempt(client: Client) -> None:
    """Two failed attempts leave no event but the last attempt's number and failure."""
    result, handle = await _run(client, ActivityCall("succeed_at_attempt", [3]))
    assert result == 3
    events = await events_of(handle)
    assert event_names(events) == ONE_ACTIVITY_EVENTS
    started = events[5].activity_task_started_event_attributes
    assert started.attempt == 3
    assert started.last_failure.message == "not at attempt 2"
    assert started.last_failure.application_failure_info.type == "TooEarly"


@on_server
async def test_retries_end_at_the_maximum(client: Client) -> None:
    """The failure of the last attempt is the activity's failure, with its type and details."""
    error = await _failure(client, ActivityCall("always_fail", ["Odd"], maximum_attempts=2))
    assert error.retry_state == RetryState.MAXIMUM_ATTEMPTS_REACHED
    assert isinstance(error.cause, ApplicationError)
    assert (error.cause.type, list(error.cause.details)) == ("Odd", ["some", "details"])


@on_server
async def test_non_retryable_type_is_not_retried(client: Client) -> None:
    """A type listed in the policy fails the activity at its first attempt."""
    error = await _failure(client, ActivityCall("always_fail", ["Final"], non_retryable=["Final"]))
    assert error.retry_state == RetryState.NON_RETRYABLE_FAILURE


@on_server
async def test_failure_may_ask_for_its_own_retry_delay(client: Client) -> None:
    """The delay that the failure names is used instead of the policy's."""
    call = ActivityCall("succeed_after_delay", [1.0], initial_interval_s=0.01)
    _, handle = await _run(client, call)
    events = await events_of(handle)
    waited_s = events[5].event_time.ToNanoseconds() / 1e9 - events[4].event_time.ToNanoseconds() / 1e9
    assert waited_s >= 1.0


@on_server
async def test_start_to_close_timeout(client: Client) -> None:
    """An attempt that takes too long times out."""
    error = await _failure(client, ActivityCall("hang", start_to_close_s=0.5, maximum_attempts=1))
    assert isinstance(error.cause, TimedOut)
    assert error.cause.type == TimeoutType.START_TO_CLOSE


@on_server
async def test_schedule_to_start_timeout(client: Client) -> None:
    """An activity on a queue without a worker times out before it starts."""
    call = ActivityCall("greet", ["nobody"], schedule_to_start_s=0.5, task_queue=unique("nobody"))
    error = await _failure(client, call)
    assert isinstance(error.cause, TimedOut)
    assert error.cause.type == TimeoutType.SCHEDULE_TO_START


@on_server
async def test_schedule_to_close_ends_retries(client: Client) -> None:
    """A retry that could not finish in time is not made: the activity fails with the last failure."""
    call = ActivityCall(
        "always_fail", ["Late"], schedule_to_close_s=1.0, initial_interval_s=5.0, start_to_close_s=None
    )
    error = await _failure(client, call)
    assert error.retry_state == RetryState.TIMEOUT
    assert isinstance(error.cause, ApplicationError)


@on_server
async def test_heartbeat_timeout_carries_the_last_details(client: Client) -> None:
    """A silent activity times out, and its last heartbeat's details come with the failure."""
    error = await _failure(client, ActivityCall("heartbeat_then_hang", heartbeat_s=0.5, maximum_attempts=1))
    assert isinstance(error.cause, TimedOut)
    assert error.cause.type == TimeoutType.HEARTBEAT
    assert list(error.cause.last_heartbeat_details) == ["last words", 7]


@on_server
async def test_heartbeat_details_reach_the_next_attempt(client: Client) -> None:
    """The next attempt finds what the last one recorded."""
    result, _ = await _run(client, ActivityCall("resume_from_heartbeat", heartbeat_s=10.0))
    assert result == ["progress", 42]


async def _cancelled(client: Client, name: str, *, wait: bool) -> Any:
    call = ActivityCall(name, heartbeat_s=2.0, maximum_attempts=1)
    async with new_worker(client, workflows=[CancelActivity], activities=ALL_ACTIVITIES) as worker:
        handle = await client.start_workflow(
            CancelActivity.run, args=[call, wait], id=unique("cancel"), task_queue=worker.task_queue
        )
        await eventually("the activity started", lambda: _pending_state(handle, "STARTED"))
        await handle.signal(CancelActivity.cancel_activity)
        return await handle.result()


async def _pending_state(handle: WorkflowHandle[Any, Any], state: str) -> bool:
    description = await handle.describe()
    wanted = PendingActivityState.Value(f"PENDING_ACTIVITY_STATE_{state}")
    return any(each.state == wanted for each in description.raw_description.pending_activities)


@on_server
async def test_cancelled_activity_may_finish_normally(client: Client) -> None:
    """A heartbeat brings the cancellation; what the activity then answers is its result."""
    assert await _cancelled(client, "heartbeat_until_cancelled", wait=True) == "cleaned up"


@on_server
async def test_cancelled_thread_activity_may_finish_normally(client: Client) -> None:
    """The same for an activity in a thread."""
    assert await _cancelled(client, "sync_until_cancelled", wait=True) == "thread cleaned up"


@on_server
async def test_accepted_cancellation_is_recorded_as_canceled(client: Client) -> None:
    """An activity that ends as cancelled makes the awaiting workflow fail with the cancellation."""
    with pytest.raises(WorkflowFailureError) as raised:
        await _cancelled(client, "accept_cancellation", wait=True)
    assert isinstance(raised.value.cause, ActivityError)
    assert isinstance(raised.value.cause.cause, CancelledError)


@on_server
async def test_try_cancel_does_not_wait_for_the_activity(client: Client) -> None:
    """With try-cancel the workflow goes on at once, whatever the activity answers."""
    with pytest.raises(WorkflowFailureError) as raised:
        await _cancelled(client, "heartbeat_until_cancelled", wait=False)
    assert isinstance(raised.value.cause, ActivityError)
    assert isinstance(raised.value.cause.cause, CancelledError)


@on_server
async def test_local_activity_leaves_only_a_marker(client: Client) -> None:
    """A local activity is retried in the worker and recorded as one marker."""
    async with new_worker(client, workflows=[LocalActivity], activities=ALL_ACTIVITIES) as worker:
        handle = await client.start_workflow(
            LocalActivity.run,
            args=["succeed_at_attempt", [3]],
            id=unique("local"),
            task_queue=worker.task_queue,
        )
        assert await handle.result() == 3
        names = await history_names(handle)
    assert names.count("MarkerRecorded") == 1
    assert not any(name.startswith("Activity") for name in names)


@on_server
async def test_long_local_activity_outlives_the_workflow_task_timeout(client: Client) -> None:
    """A local activity longer than the workflow task's timeout is kept alive by workflow task heartbeats."""
    gate = Gate()
    async with new_worker(client, workflows=[LocalActivity], activities=[gate.pass_gate]) as worker:
        handle = await client.start_workflow(
            LocalActivity.run,
            args=["pass_gate", []],
            id=unique("local"),
            task_queue=worker.task_queue,
            # The worker says that it is alive after four fifths of it: the rest is what a busy machine may take.
            task_timeout=timedelta(seconds=5),
        )

        async def several_tasks() -> bool:
            return (await history_names(handle)).count("WorkflowTaskCompleted") >= 2

        await eventually("the workflow task was kept alive twice", several_tasks)
        gate.open.set()
        assert await handle.result() == 1
        assert "WorkflowTaskTimedOut" not in await history_names(handle)
    assert gate.attempts == [1]


async def _elsewhere(client: Client, deliver: Any) -> Any:
    """Start an activity that completes elsewhere, let `deliver(info)` deliver it, answer the workflow's result."""
    elsewhere = Elsewhere()
    call = ActivityCall("complete_elsewhere", activity_id="the-one", maximum_attempts=1)
    async with new_worker(
        client, workflows=[RunActivity, CancelActivity], activities=[elsewhere.complete_elsewhere]
    ) as worker:
        handle = await client.start_workflow(
            RunActivity.run, call, id=unique("elsewhere"), task_queue=worker.task_queue
        )
        await asyncio.wait_for(elsewhere.began.wait(), 20)
        await deliver(handle, elsewhere.infos[0])
        return await handle.result()


@on_server
async def test_completion_by_id(client: Client) -> None:
    """An activity is heartbeaten and completed by workflow and activity id."""

    async def deliver(handle: WorkflowHandle[Any, Any], _info: Any) -> None:
        remote = client.get_async_activity_handle(
            workflow_id=handle.id, run_id=handle.result_run_id, activity_id="the-one"
        )
        await remote.heartbeat("half way")
        await remote.complete("by id")

    assert await _elsewhere(client, deliver) == "by id"


@on_server
async def test_completion_by_task_token(client: Client) -> None:
    """The task token alone is enough."""

    async def deliver(_handle: WorkflowHandle[Any, Any], info: Any) -> None:
        await client.get_async_activity_handle(task_token=info.task_token).complete("by token")

    assert await _elsewhere(client, deliver) == "by token"


@on_server
async def test_failure_by_id(client: Client) -> None:
    """An activity is failed by id."""

    async def deliver(handle: WorkflowHandle[Any, Any], _info: Any) -> None:
        remote = client.get_async_activity_handle(workflow_id=handle.id, run_id=None, activity_id="the-one")
        await remote.fail(ApplicationError("from outside", type="Outside", non_retryable=True))

    with pytest.raises(WorkflowFailureError) as raised:
        await _elsewhere(client, deliver)
    assert isinstance(raised.value.cause, ActivityError)
    assert isinstance(raised.value.cause.cause, ApplicationError)
    assert raised.value.cause.cause.type == "Outside"


@on_server
async def test_cancellation_by_id(client: Client) -> None:
    """A heartbeat by id reports the cancellation request, and the cancellation is confirmed by id."""
    elsewhere = Elsewhere()
    call = ActivityCall("complete_elsewhere", activity_id="the-one", maximum_attempts=1)
    async with new_worker(
        client, workflows=[CancelActivity], activities=[elsewhere.complete_elsewhere]
    ) as worker:
        handle = await client.start_workflow(
            CancelActivity.run, args=[call, True], id=unique("elsewhere"), task_queue=worker.task_queue
        )
        await asyncio.wait_for(elsewhere.began.wait(), 20)
        await handle.signal(CancelActivity.cancel_activity)
        await eventually("cancellation requested", lambda: _pending_state(handle, "CANCEL_REQUESTED"))
        remote = client.get_async_activity_handle(workflow_id=handle.id, run_id=None, activity_id="the-one")
        with pytest.raises(Exception, match=r"(?i)cancel"):
            await remote.heartbeat()
        await remote.report_cancellation("as you wish")
        with pytest.raises(WorkflowFailureError) as raised:
            await handle.result()
    assert isinstance(raised.value.cause, ActivityError)
    assert isinstance(raised.value.cause.cause, CancelledError)


@on_server
async def test_pending_activity_is_described(client: Client) -> None:
    """Describe shows a running activity's type, id, attempt and last failure."""
    gate = Gate()
    async with new_worker(client, workflows=[RunActivity], activities=[gate.pass_gate]) as worker:
        handle = await client.start_workflow(
            RunActivity.run,
            ActivityCall("pass_gate", activity_id="gate", start_to_close_s=20.0),
            id=unique("describe"),
            task_queue=worker.task_queue,
        )
        assert await asyncio.to_thread(gate.began.wait, 20)
        pending = (await handle.describe()).raw_description.pending_activities
        assert [(each.activity_id, each.activity_type.name, each.attempt) for each in pending] == [
            ("gate", "pass_gate", 1)
        ]
        gate.open.set()
        assert await handle.result() == 1
        assert not (await handle.describe()).raw_description.pending_activities
