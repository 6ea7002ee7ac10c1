"""Activities: outcomes, heartbeats, every way of being cancelled, async completion, other processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from perdure import activity, workflow
from perdure.client import Client, WorkflowFailureError
from perdure.common import RawValue
from perdure.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    TerminatedError,
    TimeoutError,
    TimeoutType,
)
from perdure.worker import SharedStateManager, Worker
from tests.e2e.python_sdk import eventually, unique
from tests.e2e.worker.targets import on_every_target
from tests.e2e.worker.workflows import Call, RunActivity, echo, in_another_process


async def _run(client: Client, activities: list[Any], call: Call, **options: Any) -> Any:
    queue = unique("activities")
    async with Worker(client, task_queue=queue, workflows=[RunActivity], activities=activities, **options):
        return await client.execute_workflow(RunActivity.run, call, id=queue, task_queue=queue)


@on_every_target
async def test_results_go_back(client: Client) -> None:
    assert await _run(client, [echo], Call("echo", ["hello"])) == "hello"


@on_every_target
async def test_threaded_activities_run_with_their_context(client: Client) -> None:
    """`info` works in a thread, and the thread is one of the executor's."""

    @activity.defn
    def where() -> list[str]:
        return [activity.info().activity_type, threading.current_thread().name]

    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        result = await _run(client, [where], Call("where"), activity_executor=executor)
    assert result[0] == "where"
    assert result[1].startswith("mine")


@on_every_target
async def test_activities_run_in_other_processes(client: Client) -> None:
    # Processes are made afresh: this one's threads and connections are not for forking.
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        result = await _run(
            client,
            [in_another_process],
            Call("in_another_process", [1], heartbeat_s=20),
            activity_executor=executor,
            shared_state_manager=SharedStateManager.create_from_multiprocessing(manager),
        )
    assert result == 2


@on_every_target
async def test_a_failed_attempt_is_repeated_with_its_heartbeat_details(client: Client) -> None:
    """The details of the last heartbeat arrive even if it was held back when the attempt failed."""

    @activity.defn
    async def fails_once() -> list[Any]:
        if activity.info().attempt == 1:
            activity.heartbeat("first")
            activity.heartbeat("second")
            raise RuntimeError("once")
        return list(activity.info().heartbeat_details)

    assert await _run(client, [fails_once], Call("fails_once", attempts=2)) == ["second"]


@on_every_target
async def test_an_error_says_what_it_was(client: Client) -> None:
    @activity.defn
    async def fails() -> None:
        raise ApplicationError("no", "detail", type="Mine", non_retryable=True)

    with pytest.raises(WorkflowFailureError) as caught:
        await _run(client, [fails], Call("fails", attempts=5))
    cause = caught.value.cause
    assert isinstance(cause, ActivityError)
    assert isinstance(cause.cause, ApplicationError)
    assert (cause.cause.message, cause.cause.type, list(cause.cause.details)) == ("no", "Mine", ["detail"])


@on_every_target
async def test_an_attempt_fails_whatever_ends_it(client: Client) -> None:
    """Such as a task inside that was cancelled, or what another workflow ended in: servers take neither as it is."""
    errors = [
        asyncio.CancelledError("inside"),
        CancelledError("inside"),
        TerminatedError("inside"),
        TimeoutError("inside", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[]),
    ]

    @activity.defn
    async def fails(number: int) -> None:
        raise errors[number]

    for number, error in enumerate(errors):
        with pytest.raises(WorkflowFailureError) as caught:
            await _run(client, [fails], Call("fails", [number]))
        assert isinstance(caught.value.cause, ActivityError)
        cause = caught.value.cause.cause
        assert isinstance(cause, ApplicationError)
        assert (cause.message, cause.type) == ("inside", type(error).__name__)


# Inside a process nothing limits the size of a message.
@pytest.mark.parametrize("target", ["perdure", "official"], indirect=True)
@on_every_target
async def test_an_error_that_is_too_large_to_send_says_so(client: Client) -> None:
    """And is not tried again: the next one would be as large."""

    @activity.defn
    async def fails() -> None:
        raise ApplicationError("no", "x" * 5_000_000)

    with pytest.raises(WorkflowFailureError) as caught:
        await _run(client, [fails], Call("fails", attempts=0))
    error = caught.value.cause
    assert isinstance(error, ActivityError)
    assert isinstance(error.cause, ApplicationError)
    assert error.cause.type == "GrpcMessageTooLarge"
    assert "outcome is too large to send" in error.cause.message


@on_every_target
async def test_an_unknown_activity_is_named_with_those_that_are_known(client: Client) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await _run(client, [echo], Call("ecko", ["x"]))
    assert isinstance(caught.value.cause, ActivityError)
    message = str(caught.value.cause.cause)
    assert "ecko" in message
    assert "available activities: echo" in message


@on_every_target
async def test_arguments_that_do_not_match_say_so(client: Client) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await _run(client, [echo], Call("echo", []))
    assert isinstance(caught.value.cause, ActivityError)
    message = str(caught.value.cause.cause)
    assert "scheduled with 0 arguments" in message
    assert message.endswith("missing 1 required positional argument: 'text'")


@on_every_target
async def test_dynamic_activities_get_raw_values(client: Client) -> None:
    @activity.defn(dynamic=True)
    async def any_activity(args: Sequence[RawValue]) -> list[Any]:
        converter = activity.payload_converter()
        return [activity.info().activity_type, *(converter.from_payload(arg.payload) for arg in args)]

    result = await _run(client, [any_activity], Call("whatever", ["x", 2]))
    assert result == ["whatever", "x", 2]


class _Cancelled:
    """What an activity saw when it was cancelled."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.details: activity.ActivityCancellationDetails | None = None


async def _cancel_by_workflow(client: Client, seen: _Cancelled, fn: Any, **options: Any) -> Any:
    queue = unique("cancel")
    call = Call(fn.__name__, heartbeat_s=0.5)
    async with Worker(client, task_queue=queue, workflows=[RunActivity], activities=[fn], **options):
        handle = await client.start_workflow(RunActivity.run, call, id=queue, task_queue=queue)
        await seen.started.wait()
        await handle.signal(RunActivity.cancel_activity)
        return await handle.result()


@on_every_target
async def test_a_cancellation_reaches_async_code(client: Client) -> None:
    """The heartbeat's answer cancels the task; the details say why; the workflow sees the cancellation."""
    seen = _Cancelled()

    @activity.defn
    async def waits() -> None:
        seen.started.set()
        ticks = asyncio.create_task(_heartbeat_for_ever())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.details = activity.cancellation_details()
            raise
        finally:
            ticks.cancel()

    assert await _cancel_by_workflow(client, seen, waits) == "cancelled"
    assert seen.details is not None
    assert seen.details.cancel_requested


async def _heartbeat_for_ever() -> None:
    while True:
        activity.heartbeat()
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.05)


@on_every_target
async def test_a_cancellation_is_thrown_into_a_thread(client: Client) -> None:
    """A `def` activity that only computes is stopped by an exception; within a shield it is not."""
    seen = _Cancelled()
    loop = asyncio.get_running_loop()
    shielded: list[bool] = []

    @activity.defn
    def computes() -> None:
        loop.call_soon_threadsafe(seen.started.set)
        pause = threading.Event()
        try:
            with activity.shield_thread_cancel_exception():
                while not activity.is_cancelled():
                    activity.heartbeat()
                    pause.wait(0.05)
                shielded.append(True)
            while True:
                pause.wait(0.05)
        except CancelledError:
            seen.details = activity.cancellation_details()
            raise

    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert await _cancel_by_workflow(client, seen, computes, activity_executor=executor) == "cancelled"
    assert shielded == [True]
    assert seen.details is not None
    assert seen.details.cancel_requested


@on_every_target
async def test_an_activity_whose_run_is_gone_is_cancelled(client: Client) -> None:
    """The heartbeat's answer is an error: nobody waits for the result any more."""
    seen = _Cancelled()
    ended = asyncio.Event()
    queue = unique("gone")

    @activity.defn
    async def waits() -> None:
        seen.started.set()
        try:
            await _heartbeat_for_ever()
        finally:
            seen.details = activity.cancellation_details()
            ended.set()

    call = Call("waits", heartbeat_s=0.5)
    async with Worker(client, task_queue=queue, workflows=[RunActivity], activities=[waits]):
        handle = await client.start_workflow(RunActivity.run, call, id=queue, task_queue=queue)
        await seen.started.wait()
        await handle.terminate()
        await ended.wait()
    assert seen.details is not None
    assert seen.details.not_found


@on_every_target
async def test_an_attempt_that_is_out_of_time_is_cancelled_here_too(client: Client) -> None:
    """Code that sends no heartbeats does not go on for ever after its start-to-close time."""
    seen = _Cancelled()

    @activity.defn
    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.details = activity.cancellation_details()
            seen.started.set()

    queue = unique("late")
    call = Call("hangs", start_to_close_s=0.2)
    async with Worker(client, task_queue=queue, workflows=[RunActivity], activities=[hangs]):
        with pytest.raises(WorkflowFailureError):
            await client.execute_workflow(RunActivity.run, call, id=queue, task_queue=queue)
        await seen.started.wait()
    assert seen.details is not None
    assert seen.details.timed_out


@on_every_target
async def test_an_activity_is_completed_from_elsewhere(client: Client) -> None:
    """The server has its last heartbeat by then, also one that came too soon after another."""
    token: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @activity.defn
    async def later() -> str:
        activity.heartbeat("first")
        activity.heartbeat("last")
        token.set_result(activity.info().task_token)
        activity.raise_complete_async()

    queue = unique("async")
    async with Worker(client, task_queue=queue, workflows=[RunActivity], activities=[later]):
        call = Call("later", heartbeat_s=60)
        handle = await client.start_workflow(RunActivity.run, call, id=queue, task_queue=queue)

        async def is_told() -> bool:
            pending = (await handle.describe()).raw_description.pending_activities
            told = [payload.data for each in pending for payload in each.heartbeat_details.payloads]
            return told == [b'"last"']

        await eventually("the last heartbeat has arrived", is_told)
        await client.get_async_activity_handle(task_token=await token).complete("done")
        assert await handle.result() == "done"


@on_every_target
async def test_graceful_shutdown_lets_activities_finish(client: Client) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    @activity.defn
    async def finishes() -> str:
        started.set()
        await activity.wait_for_worker_shutdown()
        await may_end.wait()
        return "finished"

    queue = unique("grace")
    worker = Worker(
        client,
        task_queue=queue,
        activities=[finishes],
        graceful_shutdown_timeout=timedelta(seconds=30),
    )
    async with Worker(client, task_queue=f"{queue}-w", workflows=[_OnOtherQueue]):
        async with worker:
            handle = await client.start_workflow(
                _OnOtherQueue.run, ["finishes", queue], id=queue, task_queue=f"{queue}-w"
            )
            await started.wait()
            may_end.set()
        assert await handle.result() == "finished"


@on_every_target
async def test_shutdown_without_grace_hands_the_activity_to_another_worker(client: Client) -> None:
    """It is cancelled, counts as failed, and the next worker runs the next attempt."""
    started = asyncio.Event()
    details: list[activity.ActivityCancellationDetails | None] = []

    @activity.defn(name="hangs_first")
    async def hangs() -> int:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            details.append(activity.cancellation_details())
        return 0

    @activity.defn(name="hangs_first")
    async def ends() -> int:
        return activity.info().attempt

    queue = unique("handed")
    async with Worker(client, task_queue=f"{queue}-w", workflows=[_OnOtherQueue]):
        async with Worker(client, task_queue=queue, activities=[hangs]):
            handle = await client.start_workflow(
                _OnOtherQueue.run, ["hangs_first", queue], id=queue, task_queue=f"{queue}-w"
            )
            await started.wait()
        async with Worker(client, task_queue=queue, activities=[ends]):
            assert await handle.result() == 2
    assert details[0] is not None
    assert details[0].worker_shutdown


@workflow.defn
class _OnOtherQueue:
    """Runs an activity of another task queue."""

    @workflow.run
    async def run(self, activity_and_queue: list[str]) -> Any:
        name, queue = activity_and_queue
        return await workflow.execute_activity(
            name, task_queue=queue, start_to_close_timeout=timedelta(seconds=30)
        )


class _GoneManager(SharedStateManager):
    """A manager whose process has ended, at once or after so many events."""

    def __init__(self, events: int = 0) -> None:
        self._events = events

    def new_event(self) -> threading.Event:
        if not self._events:
            raise ConnectionRefusedError(111, "Connection refused")
        self._events -= 1
        return _GoneEvent()

    async def register_heartbeater(self, *_: Any) -> Any:
        raise NotImplementedError

    async def unregister_heartbeater(self, *_: Any) -> None:
        raise NotImplementedError


class _GoneEvent(threading.Event):
    def set(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")


class _NoPool(concurrent.futures.Executor):
    """No pool of threads, so that a manager is needed."""


def _worker_with_manager(client: Client, queue: str, manager: SharedStateManager) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=[RunActivity],
        activities=[in_another_process],
        activity_executor=_NoPool(),
        shared_state_manager=manager,
    )


@on_every_target
async def test_a_worker_ends_that_cannot_run_activities_in_other_processes_any_more(client: Client) -> None:
    """Instead of failing every attempt that it takes from the workers that could."""
    queue = unique("activities")
    worker = _worker_with_manager(client, queue, _GoneManager())
    call = Call("in_another_process", [1])
    await client.start_workflow(RunActivity.run, call, id=queue, task_queue=queue)
    with pytest.raises(RuntimeError, match="Activity worker failed") as raised:
        await worker.run()
    assert "start the worker anew" in str(raised.value.__cause__)


@on_every_target
async def test_a_worker_shuts_down_in_order_although_its_manager_is_gone(client: Client) -> None:
    queue = unique("activities")
    worker = _worker_with_manager(client, queue, _GoneManager(events=2))
    running = asyncio.create_task(worker.run())
    with pytest.raises(WorkflowFailureError):
        await client.execute_workflow(
            RunActivity.run, Call("in_another_process", [1]), id=queue, task_queue=queue
        )
    await worker.shutdown()
    await running
